//! What the control plane of one shard did: rings by outcome, refusals by reason, limits that bit.

use supernode_proto::control::{RefusalReason, RingResult};

/// Names of the limits that can turn a request or a session away, or make the relay forget something, as they stand in [`super::limits::Limits`] and in the
/// wire's own table: values of the metric's `limit` label. Whatever is not in it counts under the last.
pub const LIMITS: &[&str] = &[
    "sessions_max",
    "devices_per_identity_max",
    "watches_max",
    "watchers_per_identity_max",
    "rings_per_minute_max",
    "incoming_rings_max",
    "rings_per_pair_max",
    "rooms_max",
    "room_members_max",
    "room_devices_per_identity_max",
    "tracks_max",
    "subscriptions_max",
    "requests_per_second_max",
    "requests_excess_max",
    "catch_ups_per_minute_max",
    "beacons_per_minute_max",
    "key_packages_taken_per_minute_max",
    "key_packages_given_per_minute_max",
    "ingest_excess_objects_max",
    "mls_bytes_per_second_max",
    "egress_bytes_per_second_max",
    "egress_bytes_per_day_max",
    "relay_egress_bytes_per_day_max",
    "relay_rooms_max",
    "relay_tables_bytes_max",
    "relay_control_bytes_max",
    "relay_gaps_bytes_max",
    "key_packages_max",
    "mailboxes_bytes_max",
    "rejected_commits_max",
    "push_endpoints_max",
    "other",
];

/// Outcomes of a ring by number on the wire: values of the metric's `outcome` label.
pub const RING_OUTCOMES: &[&str] =
    &["unspecified", "answered", "declined", "busy", "cancelled", "timeout", "answered_elsewhere", "gone"];

/// Reasons of a refusal by number on the wire: values of the metric's `reason` label. Newer ones count under the first.
pub const REFUSAL_REASONS: &[&str] = &[
    "other",
    "malformed",
    "ticket_invalid",
    "ticket_expired",
    "offline",
    "no_key_package",
    "limit",
    "unknown_ring",
    "unknown_room",
    "join_proof",
    "unknown_member",
    "unknown_track",
    "epoch_conflict",
    "already",
    "going_away",
    "history_gone",
    "home_unknown",
];

/// One shard's counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rings that reached at least one device.
    pub rings_started: u64,
    /// Rings that are settled, by position in [`RING_OUTCOMES`].
    pub rings: [u64; RING_OUTCOMES.len()],
    /// Requests that were refused, by position in [`REFUSAL_REASONS`].
    pub refusals: [u64; REFUSAL_REASONS.len()],
    /// Times that somebody was not woken for a ring because they just had been.
    pub pushes_too_soon: u64,
    /// What a limit turned away, or took, by position in [`LIMITS`].
    pub limits: [u64; LIMITS.len()],
}

impl Counts {
    /// A ring is settled.
    pub(crate) fn ring(&mut self, result: RingResult) {
        self.rings[place(RING_OUTCOMES, result as usize)] += 1;
    }

    /// A request was refused; `detail` names the limit if it was one.
    pub(crate) fn refusal(&mut self, reason: RefusalReason, detail: &str) {
        self.refusals[place(REFUSAL_REASONS, reason as usize)] += 1;
        if reason == RefusalReason::Limit {
            self.limit(detail);
        }
    }

    /// A limit turned something away.
    pub(crate) fn limit(&mut self, name: &str) {
        let place = LIMITS.iter().position(|limit| *limit == name).unwrap_or(LIMITS.len() - 1);
        self.limits[place] += 1;
    }
}

fn place(table: &[&str], number: usize) -> usize {
    if number < table.len() { number } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_and_reason_of_the_wire_has_its_own_name() {
        let name = |text: &str, prefix: &str| text.strip_prefix(prefix).expect("prefixed").to_lowercase();
        let mut number = 0;
        while let Ok(result) = RingResult::try_from(number) {
            assert_eq!(RING_OUTCOMES.get(number as usize), Some(&&*name(result.as_str_name(), "RING_RESULT_")));
            number += 1;
        }
        assert_eq!(RING_OUTCOMES.len(), number as usize);
        number = 1;
        while let Ok(reason) = RefusalReason::try_from(number) {
            let expected = name(reason.as_str_name(), "REFUSAL_REASON_");
            assert_eq!(REFUSAL_REASONS.get(number as usize), Some(&&*expected));
            number += 1;
        }
        assert_eq!(REFUSAL_REASONS.len(), number as usize);
    }

    #[test]
    fn every_limit_that_refuses_has_a_name_in_the_table() {
        let sources =
            [include_str!("control.rs"), include_str!("registry/presence.rs"), include_str!("registry/rings.rs")];
        let more = [
            include_str!("registry/rooms.rs"),
            include_str!("registry/mailbox.rs"),
            include_str!("registry/tracks.rs"),
            include_str!("registry/push.rs"),
            include_str!("shard_core.rs"),
            include_str!("registry/directory.rs"),
            include_str!("session.rs"),
        ];
        let mut named = 0;
        for call in sources.iter().chain(&more).flat_map(|source| {
            ["Refusal::limit(\"", "counts.limit(\""].into_iter().flat_map(|call| source.split(call).skip(1))
        }) {
            let name = call.split('"').next().expect("a name");
            assert!(LIMITS.contains(&name), "{name} turns requests away and is not in LIMITS");
            named += 1;
        }
        assert!(named >= 10, "{named} calls found");
    }

    #[test]
    fn an_unknown_limit_is_counted_apart() {
        let mut counts = Counts::default();
        counts.refusal(RefusalReason::Limit, "rooms_max");
        counts.refusal(RefusalReason::Limit, "moons_max");
        counts.refusal(RefusalReason::Offline, "");
        let rooms = LIMITS.iter().position(|limit| *limit == "rooms_max").expect("in the table");
        assert_eq!((counts.limits[rooms], counts.limits[LIMITS.len() - 1]), (1, 1));
        assert_eq!((counts.refusals[6], counts.refusals[4]), (2, 1));
    }
}
