//! The newest group of each track, so that who comes late sees a picture at once.
//!
//! Kept on the publisher's shard only, for video and screen tracks: whatever comes in is kept from the group's first
//! object on, until a newer group begins. Also while nobody subscribes, for the first subscriber comes late too; the last
//! one to leave takes what is kept along. Bounded for each track, in bytes and in streams, and for the shard; a group
//! that outgrows a bound is counted and forgotten, and a late joiner then has to ask for a key frame.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::FixedState;
use supernode_proto::object::{StreamHeader, TrackAlias};

use super::stream::StreamPart;
use crate::core::grants::limits::Limits;

/// Streams of one group that are kept. A publisher has one for each temporal layer; this is one for each frame of four
/// seconds at 60 a second.
pub const GROUP_STREAMS_MAX: usize = 256;

/// One shard's cache. `K` names a stream.
#[derive(Debug)]
pub struct GroupCache<K> {
    by_track: HashMap<TrackAlias, Group<K>, FixedState>,
    bytes: usize,
    outgrown: u64,
}

/// What is kept of one track.
#[derive(Debug)]
struct Group<K> {
    number: u64,
    streams: Vec<CachedStream<K>>,
    bytes: usize,
    /// Nothing more of it is kept: a part is missing, and half a group is of no use.
    spoiled: bool,
}

/// A stream of the newest group, as far as it has come.
#[derive(Debug, Clone)]
pub struct CachedStream<K> {
    /// Which.
    pub key: K,
    /// Its header,
    pub header: StreamHeader,
    /// as it came.
    pub wire: Bytes,
    /// What followed.
    pub parts: Vec<StreamPart>,
    /// Whether nothing more will come.
    pub ended: bool,
}

impl<K> Default for GroupCache<K> {
    fn default() -> Self {
        Self { by_track: HashMap::default(), bytes: 0, outgrown: 0 }
    }
}

impl<K: Copy + PartialEq> GroupCache<K> {
    /// Tracks of which a group is known, kept or not.
    pub fn len(&self) -> usize {
        self.by_track.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_track.is_empty()
    }

    /// Bytes that are kept, with headers and what it takes to keep them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Groups that were not kept because they outgrew a bound.
    pub fn outgrown(&self) -> u64 {
        self.outgrown
    }

    /// A stream begins. The first one of a newer group takes the older one's place; returns whether it is one.
    pub fn open(&mut self, key: K, header: &StreamHeader, wire: &Bytes, limits: &Limits) -> bool {
        let alias = header.hop.alias;
        let newest = self.by_track.get(&alias).map(|group| group.number);
        if newest.is_some_and(|newest| newest > header.group) {
            return false;
        }
        let is_newer = newest != Some(header.group);
        if is_newer {
            self.forget(alias);
            let group = Group { number: header.group, streams: Vec::new(), bytes: 0, spoiled: false };
            self.by_track.insert(alias, group);
        }
        let Some(group) = self.by_track.get_mut(&alias).filter(|group| !group.spoiled) else { return false };
        if group.streams.len() >= GROUP_STREAMS_MAX {
            self.outgrow(alias);
            return false;
        }
        let stream =
            CachedStream { key, header: *header, wire: Bytes::copy_from_slice(wire), parts: Vec::new(), ended: false };
        let bytes = stream.bytes();
        group.streams.push(stream);
        self.grow(alias, bytes, limits);
        is_newer
    }

    /// More of a stream came. Copies it: a slice of a received packet would keep the whole packet.
    pub fn push(&mut self, alias: TrackAlias, key: K, part: &StreamPart, limits: &Limits) {
        let Some(stream) = self.stream(alias, key) else { return };
        stream.parts.push(StreamPart { wire: Bytes::copy_from_slice(&part.wire), ..*part });
        self.grow(alias, part_bytes(part), limits);
    }

    /// A stream has come to its end.
    pub fn finish(&mut self, alias: TrackAlias, key: K) {
        if let Some(stream) = self.stream(alias, key) {
            stream.ended = true;
        }
    }

    /// A stream was given up by its publisher: without its base layer a group is of no use.
    pub fn abort(&mut self, alias: TrackAlias, key: K) {
        let Some(group) = self.by_track.get_mut(&alias) else { return };
        let Some(at) = group.streams.iter().rposition(|stream| stream.key == key) else { return };
        if group.streams[at].header.temporal_layer == 0 {
            return self.spoil(alias);
        }
        let freed = group.streams.remove(at).bytes();
        group.bytes -= freed;
        self.bytes -= freed;
    }

    /// Forgets a track.
    pub fn forget(&mut self, alias: TrackAlias) {
        if let Some(group) = self.by_track.remove(&alias) {
            self.bytes -= group.bytes;
        }
    }

    /// The streams of a track's newest group, if it is there from its first object on.
    pub fn newest(&self, alias: TrackAlias) -> Option<&[CachedStream<K>]> {
        let streams = &self.by_track.get(&alias)?.streams;
        streams.iter().any(CachedStream::begins_group).then_some(&streams[..])
    }

    /// A stream that is kept. What still comes is of one of the last, so it is looked for from the end.
    fn stream(&mut self, alias: TrackAlias, key: K) -> Option<&mut CachedStream<K>> {
        self.by_track.get_mut(&alias)?.streams.iter_mut().rfind(|stream| stream.key == key)
    }

    /// Counts what was added to a group, and forgets it if that was too much.
    fn grow(&mut self, alias: TrackAlias, bytes: usize, limits: &Limits) {
        let Some(group) = self.by_track.get_mut(&alias) else { return };
        group.bytes += bytes;
        self.bytes += bytes;
        if group.bytes > limits.group_cache_track_bytes_max || self.bytes > limits.group_cache_shard_bytes_max {
            self.outgrow(alias);
        }
    }

    /// Half a group is of no use, and the next one may be smaller.
    fn outgrow(&mut self, alias: TrackAlias) {
        self.outgrown += 1;
        self.spoil(alias);
    }

    /// Keeps nothing more of the group: its number stays, so that what still comes of it is not taken for a beginning.
    fn spoil(&mut self, alias: TrackAlias) {
        if let Some(group) = self.by_track.get_mut(&alias) {
            self.bytes -= group.bytes;
            group.bytes = 0;
            group.streams = Vec::new();
            group.spoiled = true;
        }
    }
}

impl<K> CachedStream<K> {
    /// A group's objects are numbered from 0, whatever streams they are on.
    fn begins_group(&self) -> bool {
        let first = self.parts.first().and_then(|part| part.begins);
        self.header.temporal_layer == 0 && first.is_some_and(|object| object.object == 0)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.wire.len() + self.parts.iter().map(part_bytes).sum::<usize>()
    }
}

/// What it takes to keep a part: many small ones take more than their bytes.
fn part_bytes(part: &StreamPart) -> usize {
    size_of::<StreamPart>() + part.wire.len()
}

#[cfg(test)]
mod tests {
    use supernode_proto::object::{Flags, Hop, Layer, StreamObjectHeader};

    use super::*;

    fn alias(number: u64) -> TrackAlias {
        TrackAlias::new(number).expect("small")
    }

    fn header(track: u64, group: u64, temporal_layer: u8) -> StreamHeader {
        StreamHeader { hop: Hop { alias: alias(track), priority: 0, ttl_ms: 0 }, group, temporal_layer }
    }

    fn object(bytes: usize) -> StreamPart {
        numbered(0, bytes)
    }

    fn numbered(object: u64, bytes: usize) -> StreamPart {
        let layer = Layer::default();
        let begins = StreamObjectHeader { object, flags: Flags::INDEPENDENT, layer, length: bytes as u32 };
        StreamPart { wire: vec![7; bytes].into(), begins: Some(begins), ends: true }
    }

    fn sizes(cache: &GroupCache<u32>, track: u64) -> Option<Vec<usize>> {
        let streams = cache.newest(alias(track))?;
        Some(streams.iter().map(|stream| stream.parts.iter().map(|part| part.wire.len()).sum()).collect())
    }

    /// What streams with these objects count for.
    fn kept(streams: usize, objects: &[usize]) -> usize {
        let parts: usize = objects.iter().map(|bytes| size_of::<StreamPart>() + bytes).sum();
        streams * (size_of::<CachedStream<u32>>() + parts)
    }

    //
    #[test]
    fn the_newest_group_is_kept_with_all_its_layers_and_the_older_one_is_not() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        cache.open(1, &header(1, 5, 0), &Bytes::from_static(b"head"), &limits);
        assert_eq!(sizes(&cache, 1), None, "nothing to see yet");
        cache.push(alias(1), 1, &object(100), &limits);
        cache.open(2, &header(1, 5, 1), &Bytes::new(), &limits);
        cache.push(alias(1), 2, &object(30), &limits);
        assert_eq!(sizes(&cache, 1), Some(vec![100, 30]));
        cache.open(3, &header(1, 6, 0), &Bytes::new(), &limits);
        cache.push(alias(1), 3, &object(50), &limits);
        cache.push(alias(1), 1, &object(100), &limits);
        cache.open(4, &header(1, 4, 0), &Bytes::new(), &limits);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (Some(vec![50]), kept(1, &[50])));
        cache.finish(alias(1), 3);
        assert!(cache.newest(alias(1)).expect("one")[0].ended);
        cache.forget(alias(1));
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0));
    }

    //
    #[test]
    fn a_group_that_outgrows_its_bound_is_forgotten_until_the_next_one() {
        let mut cache = GroupCache::default();
        let (track, shard) = (kept(1, &[150]), kept(1, &[90]) * 2 + 20);
        let limits =
            Limits { group_cache_track_bytes_max: track, group_cache_shard_bytes_max: shard, ..Limits::default() };
        cache.open(1, &header(1, 1, 0), &Bytes::new(), &limits);
        cache.push(alias(1), 1, &object(100), &limits);
        cache.push(alias(1), 1, &object(60), &limits);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0), "more than a track may have");
        cache.push(alias(1), 1, &object(10), &limits);
        assert_eq!(cache.bytes(), 0, "half a group is of no use");
        cache.open(4, &header(1, 1, 0), &Bytes::new(), &limits);
        cache.push(alias(1), 4, &object(10), &limits);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0), "nor is another stream of it");
        assert_eq!(cache.outgrown(), 1);
        for track in 1..=3 {
            cache.open(2, &header(track, 2, 0), &Bytes::new(), &limits);
            cache.push(alias(track), 2, &object(90), &limits);
        }
        assert_eq!((cache.bytes(), cache.outgrown()), (kept(1, &[90]) * 2, 2), "more than the shard may have");
        assert_eq!([1, 2, 3].map(|track| sizes(&cache, track).is_some()), [true, true, false]);
    }

    #[test]
    fn a_group_whose_base_layer_was_given_up_is_of_no_use() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        for (key, layer) in [(1, 0), (2, 1)] {
            cache.open(key, &header(1, 1, layer), &Bytes::new(), &limits);
            cache.push(alias(1), key, &object(10), &limits);
        }
        cache.abort(alias(1), 2);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (Some(vec![10]), kept(1, &[10])));
        cache.abort(alias(1), 1);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0));
    }

    //
    #[test]
    fn streams_without_objects_are_bounded_in_number_and_their_headers_in_bytes() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        for key in 0..10_000 {
            cache.open(key, &header(1, 1, 0), &Bytes::from_static(b"head"), &limits);
            cache.finish(alias(1), key);
            assert!(cache.bytes() <= GROUP_STREAMS_MAX * (kept(1, &[]) + 4));
        }
        assert_eq!((cache.bytes(), cache.outgrown()), (0, 1));
        let limits = Limits { group_cache_track_bytes_max: 10 * (kept(1, &[]) + 4), ..limits };
        for key in 0..11 {
            assert_eq!(cache.bytes(), key as usize * (kept(1, &[]) + 4));
            cache.open(key, &header(1, 2, 0), &Bytes::from_static(b"head"), &limits);
        }
        assert_eq!((cache.bytes(), cache.outgrown()), (0, 2));
    }

    //
    #[test]
    fn with_a_stream_for_each_frame_a_group_is_kept_from_its_first_one_on_or_not_at_all() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        for frame in 7..10u32 {
            cache.open(frame, &header(1, 1, 0), &Bytes::new(), &limits);
            cache.push(alias(1), frame, &numbered(frame.into(), 10), &limits);
        }
        assert_eq!(sizes(&cache, 1), None, "its beginning came before it was kept");
        for frame in 0..3u32 {
            cache.open(10 + frame, &header(1, 2, 0), &Bytes::new(), &limits);
            cache.push(alias(1), 10 + frame, &numbered(frame.into(), 10), &limits);
        }
        assert_eq!(sizes(&cache, 1), Some(vec![10; 3]));
    }
}
