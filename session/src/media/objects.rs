//! Objects on their way out: headers in front of what is sealed.

use bytes::BufMut;
use supernode_proto::object::{
    DATAGRAM_HEADER_BYTES_MAX, DatagramHeader, Hop, STREAM_HEADER_BYTES_MAX, STREAM_OBJECT_HEADER_BYTES_MAX,
    StreamHeader, StreamObjectHeader, Visible,
};

/// Appends the header of an object in a datagram; its sealed bytes follow. Returns the header's length.
pub fn put_datagram(out: &mut impl BufMut, hop: Hop, visible: Visible) -> usize {
    let mut head = [0; DATAGRAM_HEADER_BYTES_MAX];
    let length = DatagramHeader { hop, visible }.encode(&mut head);
    out.put_slice(&head[..length]);
    length
}

/// Appends what a media stream begins with; objects follow.
pub fn put_stream_head(out: &mut impl BufMut, hop: Hop, group: u64, temporal_layer: u8) {
    let mut head = [0; STREAM_HEADER_BYTES_MAX];
    let length = StreamHeader { hop, group, temporal_layer }.encode(&mut head);
    out.put_slice(&head[..length]);
}

/// Appends the header of an object on a stream; so many sealed bytes follow. The stream's header says the group.
pub fn put_object(out: &mut impl BufMut, visible: Visible, sealed_bytes: u32) {
    let Visible { object, flags, layer, .. } = visible;
    let mut head = [0; STREAM_OBJECT_HEADER_BYTES_MAX];
    let length = StreamObjectHeader { object, flags, layer, length: sealed_bytes }.encode(&mut head);
    out.put_slice(&head[..length]);
}
