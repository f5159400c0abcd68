//! The newest group of each track, so that who comes late sees a picture at once.
//!
//! Kept on the publisher's shard only, for video and screen tracks that somebody subscribes to: whatever comes in is
//! kept from the group's first object on, until a newer group begins. Bounded for each track and for the shard; a group
//! that outgrows its bound is forgotten, and a late joiner then has to ask for a key frame.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::FixedState;
use supernode_proto::object::{StreamHeader, TrackAlias};

use super::{limits::Limits, stream::StreamPart};

/// One shard's cache. `K` names a stream.
#[derive(Debug)]
pub struct GroupCache<K> {
    by_track: HashMap<TrackAlias, Group<K>, FixedState>,
    bytes: usize,
}

/// What is kept of one track.
#[derive(Debug)]
struct Group<K> {
    number: u64,
    streams: Vec<CachedStream<K>>,
    bytes: usize,
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
        Self { by_track: HashMap::default(), bytes: 0 }
    }
}

impl<K: Copy + PartialEq> GroupCache<K> {
    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A stream begins. The first one of a newer group takes the older one's place.
    pub fn open(&mut self, key: K, header: &StreamHeader, wire: &Bytes) {
        let alias = header.hop.alias;
        let newest = self.by_track.get(&alias).map(|group| group.number);
        if newest.is_some_and(|newest| newest > header.group) {
            return;
        }
        if newest != Some(header.group) {
            self.forget(alias);
            self.by_track.insert(alias, Group { number: header.group, streams: Vec::new(), bytes: 0 });
        }
        if let Some(group) = self.by_track.get_mut(&alias) {
            let wire = Bytes::copy_from_slice(wire);
            group.streams.push(CachedStream { key, header: *header, wire, parts: Vec::new(), ended: false });
        }
    }

    /// More of a stream came. Copies it: a slice of a received packet would keep the whole packet.
    pub fn push(&mut self, alias: TrackAlias, key: K, part: &StreamPart, limits: &Limits) {
        let Some(group) = self.by_track.get_mut(&alias) else { return };
        let Some(stream) = group.streams.iter_mut().find(|stream| stream.key == key) else { return };
        let bytes = part.wire.len();
        let fits = group.bytes + bytes <= limits.group_cache_track_bytes_max
            && self.bytes + bytes <= limits.group_cache_shard_bytes_max;
        if !fits {
            // Half a group is of no use, and the next one may be smaller.
            return self.spoil(alias);
        }
        stream.parts.push(StreamPart { wire: Bytes::copy_from_slice(&part.wire), ..*part });
        group.bytes += bytes;
        self.bytes += bytes;
    }

    /// A stream has come to its end.
    pub fn finish(&mut self, alias: TrackAlias, key: K) {
        let streams = self.by_track.get_mut(&alias).map(|group| &mut group.streams);
        if let Some(stream) = streams.into_iter().flatten().find(|stream| stream.key == key) {
            stream.ended = true;
        }
    }

    /// A stream was given up by its publisher: without its base layer a group is of no use.
    pub fn abort(&mut self, alias: TrackAlias, key: K) {
        let Some(group) = self.by_track.get_mut(&alias) else { return };
        let Some(at) = group.streams.iter().position(|stream| stream.key == key) else { return };
        if group.streams[at].header.temporal_layer == 0 {
            return self.spoil(alias);
        }
        let freed: usize = group.streams.swap_remove(at).parts.iter().map(|part| part.wire.len()).sum();
        group.bytes -= freed;
        self.bytes -= freed;
    }

    /// Forgets a track.
    pub fn forget(&mut self, alias: TrackAlias) {
        if let Some(group) = self.by_track.remove(&alias) {
            self.bytes -= group.bytes;
        }
    }

    /// The streams of a track's newest group, if its base layer is there from the first object on.
    pub fn newest(&self, alias: TrackAlias) -> Option<&[CachedStream<K>]> {
        let streams = &self.by_track.get(&alias)?.streams;
        let begins = |stream: &CachedStream<K>| {
            stream.header.temporal_layer == 0 && stream.parts.first().is_some_and(|part| part.begins.is_some())
        };
        streams.iter().any(begins).then_some(&streams[..])
    }

    /// Keeps nothing more of the group: its number stays, so that what still comes of it is not taken for a beginning.
    fn spoil(&mut self, alias: TrackAlias) {
        if let Some(group) = self.by_track.get_mut(&alias) {
            self.bytes -= group.bytes;
            group.bytes = 0;
            group.streams.clear();
        }
    }
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
        let layer = Layer::default();
        let begins = StreamObjectHeader { object: 0, flags: Flags::INDEPENDENT, layer, length: bytes as u32 };
        StreamPart { wire: vec![7; bytes].into(), begins: Some(begins), ends: true }
    }

    fn sizes(cache: &GroupCache<u32>, track: u64) -> Option<Vec<usize>> {
        let streams = cache.newest(alias(track))?;
        Some(streams.iter().map(|stream| stream.parts.iter().map(|part| part.wire.len()).sum()).collect())
    }

    //
    #[test]
    fn the_newest_group_is_kept_with_all_its_layers_and_the_older_one_is_not() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        cache.open(1, &header(1, 5, 0), &Bytes::from_static(b"head"));
        assert_eq!(sizes(&cache, 1), None, "nothing to see yet");
        cache.push(alias(1), 1, &object(100), &limits);
        cache.open(2, &header(1, 5, 1), &Bytes::new());
        cache.push(alias(1), 2, &object(30), &limits);
        assert_eq!(sizes(&cache, 1), Some(vec![100, 30]));
        cache.open(3, &header(1, 6, 0), &Bytes::new());
        cache.push(alias(1), 3, &object(50), &limits);
        cache.push(alias(1), 1, &object(100), &limits);
        cache.open(4, &header(1, 4, 0), &Bytes::new());
        assert_eq!((sizes(&cache, 1), cache.bytes()), (Some(vec![50]), 50));
        cache.finish(alias(1), 3);
        assert!(cache.newest(alias(1)).expect("one")[0].ended);
        cache.forget(alias(1));
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0));
    }

    //
    #[test]
    fn a_group_that_outgrows_its_bound_is_forgotten_until_the_next_one() {
        let mut cache = GroupCache::default();
        let limits = Limits { group_cache_track_bytes_max: 150, group_cache_shard_bytes_max: 200, ..Limits::default() };
        cache.open(1, &header(1, 1, 0), &Bytes::new());
        cache.push(alias(1), 1, &object(100), &limits);
        cache.push(alias(1), 1, &object(60), &limits);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0), "more than a track may have");
        cache.push(alias(1), 1, &object(10), &limits);
        assert_eq!(cache.bytes(), 0, "half a group is of no use");
        for track in 1..=3 {
            cache.open(2, &header(track, 2, 0), &Bytes::new());
            cache.push(alias(track), 2, &object(90), &limits);
        }
        assert_eq!(cache.bytes(), 180, "more than the shard may have");
        assert_eq!([1, 2, 3].map(|track| sizes(&cache, track).is_some()), [true, true, false]);
    }

    #[test]
    fn a_group_whose_base_layer_was_given_up_is_of_no_use() {
        let (mut cache, limits) = (GroupCache::default(), Limits::default());
        for (key, layer) in [(1, 0), (2, 1)] {
            cache.open(key, &header(1, 1, layer), &Bytes::new());
            cache.push(alias(1), key, &object(10), &limits);
        }
        cache.abort(alias(1), 2);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (Some(vec![10]), 10));
        cache.abort(alias(1), 1);
        assert_eq!((sizes(&cache, 1), cache.bytes()), (None, 0));
    }
}
