//! How full one shard's tables are: what leaks, and what outgrows its bound, shows here.

/// What the tables of a shard hold now. Once everybody has left it equals its default: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions.
    pub sessions: usize,
    /// Tracks published or subscribed here.
    pub tracks: usize,
    /// Subscriptions to tracks.
    pub subscriptions: usize,
    /// Tracks for which a key frame was asked.
    pub keyframes: usize,
    /// Rooms whose speakers are ranked.
    pub ranked_rooms: usize,
    /// Tracks of which a group is cached.
    pub cached_groups: usize,
    /// Bytes of them.
    pub cached_bytes: usize,
    /// Rooms with members here.
    pub rooms: usize,
    /// Publishers' streams that are being forwarded, of this shard and of others.
    pub streams: usize,
    /// Streams that were aborted before their beginning came.
    pub aborted_early: usize,
    /// Data streams that this shard's subscribers hold.
    pub holding: usize,
    /// Data streams of this shard's publishers that are held.
    pub held: usize,
    /// Streams from clients.
    pub ingress: usize,
    /// Streams to clients.
    pub egress: usize,
    /// Of those that QUIC was handed to their ends, what clients have not acknowledged.
    pub unacknowledged: usize,
    /// Datagrams that wait.
    pub datagrams: usize,
    /// Bytes that wait for all subscribers: of datagrams and of streams.
    pub queued_bytes: usize,
    /// Of datagrams, for the subscriber for whom most do.
    pub datagram_bytes_most: usize,
    /// Of media streams, likewise.
    pub stream_bytes_most: usize,
    /// Hellos whose admission is not decided.
    pub undecided: usize,
    /// Bytes of memory that what waits for subscribers keeps.
    pub held_bytes: usize,
    /// Bytes of control messages that wait, or have not come whole.
    pub control_bytes: usize,
}
