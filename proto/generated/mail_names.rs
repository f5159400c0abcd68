// @generated from the schema by tests/generated.rs
/// Every kind of mail between nodes, as `Mail.field`.
pub const MAIL_NAMES: &[&str] = &[
    "Mail.send",
    "Mail.tell",
    "Mail.deliver",
    "Mail.deliver_withheld",
    "Mail.close",
    "Mail.withheld",
    "Mail.interest",
    "Mail.keyframe",
    "Mail.track_ended",
    "Mail.mls",
    "Mail.catch_up",
    "Mail.reject_commit",
    "Mail.evict",
    "Mail.from_node",
];
