//! Objects as a publisher sends them.

use bytes::{BufMut as _, Bytes, BytesMut};
use supernode_proto::object::{Flags, Hop, Layer, TrackAlias, Visible};
use supernode_session::{put_datagram, put_object, put_stream_head};

/// An object in a datagram.
pub fn datagram(alias: TrackAlias, group: u64, sealed: &[u8]) -> Bytes {
    let mut wire = BytesMut::new();
    let visible = Visible { group, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: 1000 }, visible);
    wire.put_slice(sealed);
    wire.freeze()
}

/// A stream of its own that ends a track of pictures.
pub fn end_of_pictures(alias: TrackAlias, group: u64) -> Vec<u8> {
    let flags = Flags::INDEPENDENT | Flags::END_OF_GROUP | Flags::END_OF_TRACK;
    let mut wire = Vec::new();
    put_stream_head(&mut wire, Hop { alias, priority: 1, ttl_ms: 5_000 }, group, 0);
    put_object(&mut wire, Visible { group, object: 0, flags, layer: Layer::default() }, 20);
    wire.extend([7; 20]);
    wire
}

/// A media stream with objects of these layers and sizes.
pub fn stream(alias: TrackAlias, group: u64, temporal_layer: u8, objects: &[(u8, usize)]) -> Vec<u8> {
    let mut wire = Vec::new();
    put_stream_head(&mut wire, Hop { alias, priority: 1, ttl_ms: 5_000 }, group, temporal_layer);
    for (object, (spatial, size)) in (0..).zip(objects) {
        let layer = Layer::new(temporal_layer, *spatial).unwrap();
        put_object(&mut wire, Visible { group, object, flags: Flags::INDEPENDENT, layer }, *size as u32);
        wire.extend((0..*size).map(|byte| byte as u8));
    }
    wire
}
