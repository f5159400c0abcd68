//! Examples of every header of an object: the smallest, a usual and the largest of each kind.

use supernode_proto::{
    limits::{OBJECT_BYTES_MAX, OBJECT_TTL_MS_MAX},
    object::{
        DATAGRAM_HEADER_BYTES_MAX, DatagramHeader, Flags, Hop, Layer, STREAM_HEADER_BYTES_MAX,
        STREAM_OBJECT_HEADER_BYTES_MAX, StreamHeader, StreamObjectHeader, TrackAlias, VISIBLE_BYTES_MAX, Visible,
    },
};

/// The largest number a varint holds (RFC 9000 section 16).
pub const VARINT_MAX: u64 = (1 << 62) - 1;

const SIZES: [&str; 3] = ["smallest", "usual", "largest"];

pub fn datagrams() -> Vec<(String, DatagramHeader)> {
    let all = hops().into_iter().zip(visibles()).map(|(hop, visible)| DatagramHeader { hop, visible });
    named("datagram", all)
}

pub fn streams() -> Vec<(String, StreamHeader)> {
    let rest = [(0, 0), (17, 1), (VARINT_MAX, Layer::MAX)];
    let all = hops().into_iter().zip(rest);
    named("stream", all.map(|(hop, (group, temporal_layer))| StreamHeader { hop, group, temporal_layer }))
}

pub fn stream_objects() -> Vec<(String, StreamObjectHeader)> {
    let all = visibles().into_iter().zip([0, 1200, OBJECT_BYTES_MAX]).map(|(visible, length)| {
        let Visible { group: _, object, flags, layer } = visible;
        StreamObjectHeader { object, flags, layer, length }
    });
    named("stream object", all)
}

/// What the seal authenticates.
pub fn visible_parts() -> Vec<(String, Visible)> {
    named("visible part", visibles().into_iter())
}

pub fn datagram_bytes(header: &DatagramHeader) -> Vec<u8> {
    let mut out = [0; DATAGRAM_HEADER_BYTES_MAX];
    let length = header.encode(&mut out);
    out[..length].to_vec()
}

pub fn stream_bytes(header: &StreamHeader) -> Vec<u8> {
    let mut out = [0; STREAM_HEADER_BYTES_MAX];
    let length = header.encode(&mut out);
    out[..length].to_vec()
}

pub fn stream_object_bytes(header: &StreamObjectHeader) -> Vec<u8> {
    let mut out = [0; STREAM_OBJECT_HEADER_BYTES_MAX];
    let length = header.encode(&mut out);
    out[..length].to_vec()
}

pub fn visible_bytes(visible: &Visible) -> Vec<u8> {
    let mut out = [0; VISIBLE_BYTES_MAX];
    let length = visible.encode(&mut out);
    out[..length].to_vec()
}

fn hops() -> [Hop; 3] {
    let alias = |value| TrackAlias::new(value).expect("at most 2^62 - 1");
    [
        Hop { alias: alias(0), priority: 0, ttl_ms: 0 },
        Hop { alias: alias(0x1234), priority: 10, ttl_ms: 250 },
        Hop { alias: alias(VARINT_MAX), priority: 255, ttl_ms: OBJECT_TTL_MS_MAX },
    ]
}

fn visibles() -> [Visible; 3] {
    let layer = |temporal, spatial| Layer::new(temporal, spatial).expect("at most 7");
    [
        Visible { group: 0, object: 0, flags: Flags::default(), layer: Layer::default() },
        Visible { group: 17, object: 300, flags: Flags::INDEPENDENT | Flags::DISCARDABLE, layer: layer(2, 1) },
        Visible {
            group: VARINT_MAX,
            object: VARINT_MAX,
            flags: (Flags::INDEPENDENT | Flags::DISCARDABLE | Flags::END_OF_GROUP | Flags::END_OF_TRACK)
                .with_activity(Flags::ACTIVITY_MAX),
            layer: layer(Layer::MAX, Layer::MAX),
        },
    ]
}

fn named<T>(kind: &str, all: impl Iterator<Item = T>) -> Vec<(String, T)> {
    SIZES.iter().map(|size| format!("{kind}, {size}")).zip(all).collect()
}
