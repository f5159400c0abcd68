//! How full one shard's tables are: what leaks, and what outgrows its bound, shows here.

use crate::shard::engine::Engine;

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

impl Engine {
    /// Counts everything. Costs a look at every connection, so it is for those who ask.
    pub(crate) fn census(&self) -> Census {
        // Deadlines stay in their heap until they are due: they are no leak.
        let [sessions, tracks, subscriptions, _deadlines, keyframes, ranked_rooms, cached_groups, cached_bytes, rooms] =
            self.core.census();
        let (holding, held) = self.holds.len();
        let mut census = Census {
            sessions,
            tracks,
            subscriptions,
            keyframes,
            ranked_rooms,
            cached_groups,
            cached_bytes,
            rooms,
            streams: self.streams.len(),
            aborted_early: self.aborted_early.len(),
            holding,
            held,
            undecided: self.undecided.len(),
            held_bytes: self.core.ledger.queued_bytes as usize,
            control_bytes: self.control_bytes,
            ..Census::default()
        };
        for connection in self.connections.iter().flatten() {
            let datagrams = connection.datagrams.bytes();
            let bytes = |reliable| {
                let chosen = connection.egress.iter().filter(move |(_, egress)| egress.is_reliable() == reliable);
                chosen.map(|(_, egress)| egress.queue.bytes()).sum::<usize>()
            };
            let media = bytes(false);
            census.ingress += connection.ingress.len();
            census.egress += connection.egress.len();
            census.datagrams += connection.datagrams.len();
            census.queued_bytes += datagrams + media + bytes(true);
            census.datagram_bytes_most = census.datagram_bytes_most.max(datagrams);
            census.stream_bytes_most = census.stream_bytes_most.max(media);
        }
        census
    }
}
