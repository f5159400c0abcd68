//! What an operator grants. The wire's own bounds are in [`supernode_proto::limits`].

use std::time::Duration;

use supernode_proto::{control::SessionLimits, limits as wire};

/// Limits of one relay. Every field: what it bounds, unit, default, why.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions of the whole relay. Default 100,000: about 3 GiB at 30 KB each.
    pub sessions_max: u32,
    /// Connections of one network: an IPv4 address, or the first 56 bits of an IPv6 address. Default 20,000: a mobile
    /// carrier's customers behind one address.
    pub connections_per_prefix_max: u32,
    /// Handshakes a second that one network may begin; from the first one above it on it must prove its addresses by
    /// Retry, and gets as many again. Default 2,000: the same customers after an outage.
    pub handshakes_per_prefix_per_second_max: u32,
    /// Devices of one identity that are online at once. Default 16: what a person owns.
    pub devices_per_identity_max: usize,
    /// Watches of one session. Default 512: a long contact list.
    pub watches_max: usize,
    /// Watchers of one identity. Default 4,096: bounds what one change of state costs.
    pub watchers_per_identity_max: usize,
    /// Rings one identity may start in a minute. Default 30: a person redialling, not a machine.
    pub rings_per_minute_max: u32,
    /// Rings that one device can have at once. Default 8.
    pub incoming_rings_max: usize,
    /// Rings of one person that a device can have at once. Default 4: a caller alone does not fill a device's places.
    pub rings_per_pair_max: usize,
    /// How long a ring waits for an answer. Default 45 s: what phones do.
    pub ring_timeout: Duration,
    /// Rooms one session is in. Default 8.
    pub rooms_max: usize,
    /// Members of one room. Default 250: what the mailbox's payload bound carries.
    pub room_members_max: usize,
    /// Devices of one identity in one room. Default 8: what a person owns, some of them twice while they come back; each
    /// has a place in the group, and is sent all that the others send.
    pub room_devices_per_identity_max: usize,
    /// Tracks one session publishes. Default 16: audio, video, screen and data in a few rooms.
    pub tracks_max: usize,
    /// Tracks one session subscribes to. Default 1,024: audio and video of two full rooms.
    pub subscriptions_max: usize,
    /// Control requests a second of one identity, with four times that as a burst. Default 100.
    pub requests_per_second_max: u32,
    /// Requests above that rate that an identity may send before its session is closed; a hundredth is forgiven every
    /// second. Default 2,000: a program that errs is told sixteen times, a flood ends within a second or two.
    pub requests_excess_max: u32,
    /// Times in a minute that one identity may ask for what a room's mailbox has kept. Default 60: eight rooms after
    /// each of seven changes of network, and 0.5 MB a second of full histories.
    pub catch_ups_per_minute_max: u32,
    /// Beacons in a minute that one identity may post, on all its devices and in all its rooms. Default 300: one a minute in
    /// each room and one for each commit, and what 250 members who come and go in a minute make of it; each is passed on
    /// to everybody in the room.
    pub beacons_per_minute_max: u32,
    /// Times in a minute that one identity may take key packages of others. Default 60: each ring takes one, with as many
    /// again for rooms.
    pub key_packages_taken_per_minute_max: u32,
    /// Times in a minute that key packages of one identity are given out. Default 120: so a device's 32 last for 16 s at
    /// least, in which it deposits more.
    pub key_packages_given_per_minute_max: u32,
    /// Objects a second that one identity may send. Default 10,000: 8 bulk senders of the benchmark's kind fit well.
    pub ingest_objects_per_second_max: u64,
    /// Bytes a second that one identity may send. Default 12,500,000 (100 Mbit/s): two 4K screens.
    pub ingest_bytes_per_second_max: u64,
    /// Objects above these rates that an identity may send before its session is closed; a hundredth is forgiven every second.
    /// Default 20,000: two seconds of twice the rate, which no congestion control brings about.
    pub ingest_excess_objects_max: u64,
    /// Bytes a second that all devices of one identity are sent, packets and all. Default 50,000,000 (400 Mbit/s): a room
    /// of 200 pictures. Above it objects wait as if the path took no more.
    pub egress_bytes_per_second_max: u64,
    /// Bytes that all devices of one identity are sent in a day; what is used comes back evenly. Default 0: off.
    pub egress_bytes_per_day_max: u64,
    /// Bytes that the relay sends in a day; what is used comes back evenly. Default 0: off.
    pub relay_egress_bytes_per_day_max: u64,
    /// Rooms of the whole relay.
    pub relay_rooms_max: u32,
    /// Bytes of objects that may wait for all subscribers together, each counted with the packet that it keeps; each
    /// shard has an equal part. Above it the fullest queues are shortened.
    pub relay_queue_bytes_max: u64,
    /// Bytes that sessions keep in the relay's tables: watches, subscriptions, tracks, status and key packages. One keeps a
    /// 16th of what is free at most, and 8 KiB always.
    pub relay_tables_bytes_max: u64,
    /// Bytes that streams may have in flight between the relay and its clients, both ways. One connection has a 16th of
    /// what is free at most each way; 16 KiB from and 8 KiB to it are not of these, and always there.
    pub relay_windows_bytes_max: u64,
    /// Bytes of control messages that wait for clients to read, or have not come whole; each shard has an equal part. Above
    /// it the sessions with most of them end.
    pub relay_control_bytes_max: u64,
    /// Bytes that QUIC may keep of clients' streams with gaps beyond what they may have in flight; each shard has an equal
    /// part. Above it those with most of them end.
    pub relay_gaps_bytes_max: u64,
    /// Identities without a session of which the relay remembers what they have used up.
    pub accounts_idle_max: u32,
    /// Places where devices can be woken, of all people together, where the operator wants that at all. Default 65,536, 4 KiB
    /// each at most.
    pub push_endpoints_max: u32,
    /// Between two times that one person is woken. Default 30 s: within a ring's time once more, for a push service may lose
    /// one.
    pub push_interval: Duration,
    /// How long an object may wait for a subscriber whose subscription says nothing. Default 250 ms: later is noise.
    pub queue_age_max: Duration,
    /// Bytes of objects that may wait for one subscriber. Default 512 KiB: 250 ms at 16 Mbit/s.
    pub queue_bytes_max: usize,
    /// Between two announcements of one identity's state. Default 250 ms: a flapping state costs its watchers little.
    pub presence_interval: Duration,
    /// How long an identity stays online for its watchers after its last connection broke. Default 3 s: a change of
    /// network is not a departure.
    pub presence_linger: Duration,
    /// Bytes a second that the devices of one identity may put into the mailboxes of their rooms, with four times that
    /// as a burst. Default 131,072: the burst lets five guests into a room of 250, each with a commit of 21 KB and a
    /// Welcome of 77 KB, and is half of what may wait for one client to read; the rate is a tenth of a narrow path of
    /// everybody else, for the mailbox goes before their media.
    pub mls_bytes_per_second_max: u64,
    /// Between two key frame requests of one track that are passed on. Default 500 ms.
    pub keyframe_interval: Duration,
    /// Messages that one room's mailbox keeps for members that were away. Default 256: an evening of people coming and
    /// going.
    pub mailbox_messages_max: usize,
    /// Bytes that one room's mailbox keeps. Default 512 KiB: half of what may wait for one client to read.
    pub mailbox_bytes_max: usize,
    /// Bytes that the mailboxes of all rooms keep; of what is free of it, one room keeps a 128th at most. Default 64 MiB:
    /// a room alone keeps all it may, and thousands fit that keep a few KiB, as most do.
    pub mailboxes_bytes_max: usize,
    /// How long a device whose session ended in a room may catch up without being a member. Default 10 min: longer than
    /// a tunnel.
    pub away_max: Duration,
    /// Commits of one identity that a room may reject, by two others at least, before the room is closed to it. Default
    /// 3: a slip, not a habit.
    pub rejected_commits_max: u32,
    /// How long a rejected commit counts. Default 10 min: what went wrong in one call is over in the next.
    pub rejected_commits_span: Duration,
    /// Bytes of a track's newest group that are kept for those who come late. Default 512 KiB: two seconds at 2 Mbit/s,
    /// and what may wait for one subscriber.
    pub group_cache_track_bytes_max: usize,
    /// Bytes that one shard keeps of all tracks' newest groups. Default 64 MiB.
    pub group_cache_shard_bytes_max: usize,
    /// How long audio may gather for one receiver when several people speak, so that their objects share packets; zero
    /// sends each at once. Default 2 ms.
    pub audio_budget: Duration,
    /// Bytes of a data track's streams that may wait for one subscriber: they are neither expired nor thinned. Default
    /// 2 MiB; from a quarter of it on, the publisher is held.
    pub data_queue_bytes_max: usize,
    /// How long objects may wait too long for a subscriber that is sent audio and data only, before it is closed.
    /// Default 15 s: a lift, not a holiday.
    pub too_slow_after: Duration,
    /// How long a client may take from its first packet to its Hello. Default 10 s.
    pub hello_timeout: Duration,
    /// Bytes of control messages that may wait for one client to read. Default 1 MiB: more means it does not read. Once
    /// half of it waits, messages of mailboxes are withheld until it has read them: others may send much at once.
    pub control_backlog_bytes_max: usize,
    /// Clients of the whole relay that are not let in yet before it asks new addresses to prove themselves by Retry
    /// (RFC 9000 section 8.1.2). Default 64.
    pub handshakes_before_retry: usize,
    /// Clients of the whole relay that are not let in yet: handshakes, those that have not said Hello, and those that
    /// were turned away and are not gone. Default 512: at most 48 MiB, 96 KiB
    /// each, and 12 MiB unless each does its worst. Beyond it the oldest of the network that has most makes room.
    pub handshakes_max: usize,
    /// Handshakes a second that each shard begins. Default 1,000: a third of a core, which it shares with everybody's
    /// media.
    pub handshakes_per_second_max: u64,
    /// Connections to the TCP port at once. Default 1,024, 128 KiB each at most: one client in ten or a hundred needs it.
    pub tcp_links_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 100_000,
            tcp_links_max: 1024,
            connections_per_prefix_max: 20_000,
            handshakes_per_prefix_per_second_max: 2000,
            devices_per_identity_max: 16,
            watches_max: 512,
            watchers_per_identity_max: 4096,
            rings_per_minute_max: 30,
            incoming_rings_max: 8,
            rings_per_pair_max: 4,
            ring_timeout: Duration::from_secs(45),
            rooms_max: 8,
            room_members_max: 250,
            room_devices_per_identity_max: 8,
            tracks_max: 16,
            subscriptions_max: 1024,
            requests_per_second_max: 100,
            requests_excess_max: 2000,
            catch_ups_per_minute_max: 60,
            beacons_per_minute_max: 300,
            key_packages_taken_per_minute_max: 60,
            key_packages_given_per_minute_max: 120,
            ingest_objects_per_second_max: 10_000,
            ingest_bytes_per_second_max: 12_500_000,
            ingest_excess_objects_max: 20_000,
            egress_bytes_per_second_max: 50_000_000,
            egress_bytes_per_day_max: 0,
            relay_egress_bytes_per_day_max: 0,
            relay_rooms_max: 32_768,
            relay_queue_bytes_max: 512 * 1024 * 1024,
            relay_tables_bytes_max: 1024 * 1024 * 1024,
            relay_windows_bytes_max: 1024 * 1024 * 1024,
            relay_control_bytes_max: 1024 * 1024 * 1024,
            relay_gaps_bytes_max: 512 * 1024 * 1024,
            accounts_idle_max: 100_000,
            push_endpoints_max: 65_536,
            push_interval: Duration::from_secs(30),
            queue_age_max: Duration::from_millis(250),
            queue_bytes_max: 512 * 1024,
            presence_interval: Duration::from_millis(250),
            presence_linger: Duration::from_secs(3),
            mls_bytes_per_second_max: 128 * 1024,
            keyframe_interval: Duration::from_millis(500),
            mailbox_messages_max: 256,
            mailbox_bytes_max: 512 * 1024,
            mailboxes_bytes_max: 64 * 1024 * 1024,
            away_max: Duration::from_secs(600),
            rejected_commits_max: 3,
            rejected_commits_span: Duration::from_secs(600),
            group_cache_track_bytes_max: 512 * 1024,
            group_cache_shard_bytes_max: 64 * 1024 * 1024,
            audio_budget: Duration::from_millis(2),
            data_queue_bytes_max: 2 * 1024 * 1024,
            too_slow_after: Duration::from_secs(15),
            hello_timeout: Duration::from_secs(10),
            control_backlog_bytes_max: 1024 * 1024,
            handshakes_before_retry: 64,
            handshakes_max: 512,
            handshakes_per_second_max: 1000,
        }
    }
}

impl Limits {
    /// What a client is told in its Welcome.
    pub(crate) fn granted(&self) -> SessionLimits {
        SessionLimits {
            control_message_bytes_max: wire::CONTROL_MESSAGE_BYTES_MAX as u32,
            ring_payload_bytes_max: wire::RING_PAYLOAD_BYTES_MAX as u32,
            rings_per_minute_max: self.rings_per_minute_max,
            watches_max: self.watches_max as u32,
            rooms_max: self.rooms_max as u32,
            room_members_max: self.room_members_max as u32,
            tracks_max: self.tracks_max as u32,
            subscriptions_max: self.subscriptions_max as u32,
            key_packages_max: wire::KEY_PACKAGES_PER_DEVICE_MAX as u32,
            object_bytes_max: wire::OBJECT_BYTES_MAX,
            ingest_bytes_per_second_max: self.ingest_bytes_per_second_max,
            ingest_objects_per_second_max: self.ingest_objects_per_second_max,
            mls_bytes_per_second_max: self.mls_bytes_per_second_max,
        }
    }
}
