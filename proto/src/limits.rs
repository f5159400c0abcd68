//! Every bound of the wire, in one table: name, value, unit, reason.
//!
//! These are what both ends may rely on. An operator can grant less (`Welcome.limits`), never more.

/// One row of [`ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Name of the constant.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it counts.
    pub unit: &'static str,
    /// Why it is what it is.
    pub reason: &'static str,
}

macro_rules! limits {
    ($($name:ident: $type:ty = $value:expr, $unit:literal, $reason:literal;)*) => {
        $(
            #[doc = concat!($reason, " Unit: ", $unit, ".")]
            pub const $name: $type = $value;
        )*
        /// The table, in the order of the documentation.
        pub const ALL: &[Limit] = &[
            $(Limit { name: stringify!($name), value: $value as u64, unit: $unit, reason: $reason },)*
        ];
    };
}

limits! {
    CONTROL_MESSAGE_BYTES_MAX: usize = 64 * 1024, "bytes",
        "The largest control message: the largest sealed payload and its envelope, and little enough to buffer for every session.";
    MLS_PAYLOAD_BYTES_MAX: usize = 60 * 1024, "bytes",
        "The largest message in a room's mailbox: a Welcome with the tree of a group of 250 fits.";
    RING_PAYLOAD_BYTES_MAX: usize = 56 * 1024, "bytes",
        "The largest ring or answer: a Welcome with X-Wing takes 3 KiB for each device that rings, and a person has 16 at most.";
    KEY_PACKAGE_BYTES_MAX: usize = 4 * 1024, "bytes",
        "The largest offer of key packages: one for X-Wing takes 2.8 KiB, one for X25519 half a KiB.";
    KEY_PACKAGES_PER_DEVICE_MAX: usize = 32, "packages",
        "How many calls can reach a device before it must deposit again.";
    REVOKED_DEVICES_MAX: usize = 8, "devices",
        "How many devices of a person are named as taken back: they travel in every ring, and an expired one needs no naming.";
    BLOCKED_IDENTITIES_MAX: usize = 512, "identities",
        "How many people a session may shut out: kept for each session, and looked through at every ring and change of state.";
    PRESENCE_STATUS_BYTES_MAX: usize = 1024, "bytes",
        "A sealed line of text and a mood, not a picture.";
    PUSH_ENDPOINT_BYTES_MAX: usize = 1024, "bytes",
        "Where a closed page is woken: the longest that a push service is known to give.";
    TRACK_LABEL_BYTES_MAX: usize = 512, "bytes",
        "A sealed codec description and name.";
    ADMISSION_TOKEN_BYTES_MAX: usize = 2048, "bytes",
        "A signed token with a handful of claims takes 300 bytes.";
    INVITE_ADDRESSES_MAX: usize = 8, "addresses",
        "How many addresses an invite names: each takes up to forty characters of a link that people carry, and a client tries all.";
    HELLO_BYTES_MAX: usize = 4096, "bytes",
        "The largest first message: a delegation, a signature, the longest token, and room for what a newer client may add.";
    DATAGRAM_BYTES_MAX: usize = 1150, "bytes",
        "A QUIC DATAGRAM payload that fits the first packet size of a new path (1,200) and what a browser can send (1,211).";
    OBJECT_BYTES_MAX: u32 = 2 * 1024 * 1024, "bytes",
        "The largest sealed frame: a 4K key frame takes about 1 MiB.";
    OBJECT_TTL_MS_MAX: u32 = 60_000, "ms",
        "The longest that an object may claim to be worth sending: a minute is no longer a call.";
    MEMBER_STREAMS_MAX: u32 = 64, "streams",
        "Media streams one session may have open towards the relay: a few groups of each layer; each costs a table entry.";
    REJECTION_WINDOW_S: u64 = 10, "s",
        "How long after it was accepted a commit can be rejected: whoever followed it keeps the epoch before for so long.";
    TICKET_LIFETIME_S_MAX: u64 = 366 * 24 * 3600, "s",
        "The longest a ticket can run: what cannot be taken back must end by itself.";
    DELEGATION_LIFETIME_S_MAX: u64 = 366 * 24 * 3600, "s",
        "The longest a device can act for its identity without being certified anew.";
}

// Relations that code on both sides relies on.
const ENVELOPE_BYTES_MAX: usize = 256;
const _: () = {
    assert!(MLS_PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX <= CONTROL_MESSAGE_BYTES_MAX);
    assert!(RING_PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX <= CONTROL_MESSAGE_BYTES_MAX);
    assert!(
        ADMISSION_TOKEN_BYTES_MAX + crate::identity::Delegation::BYTES + ENVELOPE_BYTES_MAX
            <= CONTROL_MESSAGE_BYTES_MAX
    );
    assert!(BLOCKED_IDENTITIES_MAX * 34 + ENVELOPE_BYTES_MAX <= CONTROL_MESSAGE_BYTES_MAX);
    assert!(KEY_PACKAGE_BYTES_MAX + ENVELOPE_BYTES_MAX <= CONTROL_MESSAGE_BYTES_MAX);
    assert!(crate::object::DATAGRAM_HEADER_BYTES_MAX < DATAGRAM_BYTES_MAX);
    assert!(DATAGRAM_BYTES_MAX <= 1162, "quinn's DATAGRAM payload at the first packet size of 1,200 bytes");
    assert!(OBJECT_BYTES_MAX < 1 << 30, "a stream object's length fits a four-byte varint");
};
