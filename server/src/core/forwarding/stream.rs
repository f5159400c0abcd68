//! Media streams, cut through: bytes are passed on as they come, cut where objects begin and end, so that the ledger
//! and the layers see objects while nothing waits for a whole one.

use bytes::Bytes;
use supernode_proto::object::{
    DecodeError, STREAM_HEADER_BYTES_MAX, STREAM_OBJECT_HEADER_BYTES_MAX, StreamHeader, StreamObjectHeader,
};

/// Bytes of one stream that belong to one object, or to the stream's header.
#[derive(Debug, Clone)]
pub struct StreamPart {
    /// The bytes, headers included, as they came.
    pub wire: Bytes,
    /// The object that begins with them.
    pub begins: Option<StreamObjectHeader>,
    /// Whether an object ends with them.
    pub ends: bool,
}

/// Why a stream's bytes are no media stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A header does not decode.
    #[error(transparent)]
    Header(#[from] DecodeError),
    /// An object is of another temporal layer than its stream.
    #[error("an object of temporal layer {object} on a stream of layer {stream}")]
    Layer {
        /// The object's.
        object: u8,
        /// The stream's.
        stream: u8,
    },
}

/// Cuts one incoming stream into parts. Holds at most one header's bytes.
#[derive(Debug, Default)]
pub struct StreamParser {
    state: State,
    carry: Carry,
    temporal_layer: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    StreamHeader,
    ObjectHeader,
    /// So many sealed bytes of the object are still to come.
    Sealed(u32),
}

/// The beginning of a header that a chunk's end cut off.
#[derive(Debug, Default)]
struct Carry {
    bytes: [u8; CARRY_BYTES],
    len: usize,
}

const CARRY_BYTES: usize = if STREAM_HEADER_BYTES_MAX > STREAM_OBJECT_HEADER_BYTES_MAX {
    STREAM_HEADER_BYTES_MAX
} else {
    STREAM_OBJECT_HEADER_BYTES_MAX
};

impl StreamParser {
    /// Cuts the next bytes of the stream; returns the stream's header when they complete it. The header's bytes are
    /// the first part.
    ///
    /// # Errors
    /// A [`StreamError`]: the stream is of no more use.
    pub fn parse(
        &mut self,
        mut chunk: Bytes,
        parts: &mut Vec<StreamPart>,
    ) -> Result<Option<StreamHeader>, StreamError> {
        let mut stream_header = None;
        while !chunk.is_empty() {
            match self.state {
                State::StreamHeader => {
                    let Some((header, wire)) = self.carry.header(&mut chunk, StreamHeader::decode)? else { break };
                    parts.push(StreamPart { wire, begins: None, ends: false });
                    self.temporal_layer = header.temporal_layer;
                    stream_header = Some(header);
                    self.state = State::ObjectHeader;
                }
                State::ObjectHeader => {
                    let Some((header, wire)) = self.carry.header(&mut chunk, StreamObjectHeader::decode)? else {
                        break;
                    };
                    let (object, stream) = (header.layer.temporal(), self.temporal_layer);
                    if object != stream {
                        return Err(StreamError::Layer { object, stream });
                    }
                    parts.push(StreamPart { wire, begins: Some(header), ends: header.length == 0 });
                    self.state = if header.length == 0 { State::ObjectHeader } else { State::Sealed(header.length) };
                }
                State::Sealed(left) => {
                    let wire = chunk.split_to(chunk.len().min(left as usize));
                    let left = left - wire.len() as u32;
                    parts.push(StreamPart { wire, begins: None, ends: left == 0 });
                    self.state = if left == 0 { State::ObjectHeader } else { State::Sealed(left) };
                }
            }
        }
        // Subscribers' streams keep a header until an object follows; as a slice it would keep its whole packet as long.
        if self.state == State::ObjectHeader
            && stream_header.is_some()
            && let Some(header) = parts.last_mut().filter(|part| part.begins.is_none() && !part.ends)
        {
            header.wire = Bytes::copy_from_slice(&header.wire);
        }
        Ok(stream_header)
    }

    /// Whether the stream may end here: after its header and between objects.
    pub fn is_at_boundary(&self) -> bool {
        self.state == State::ObjectHeader && self.carry.len == 0
    }
}

impl Carry {
    /// Takes a header from what was carried and the front of `chunk`; carries the front on when it is cut short.
    fn header<H>(
        &mut self,
        chunk: &mut Bytes,
        decode: impl Fn(&[u8]) -> Result<(H, usize), DecodeError>,
    ) -> Result<Option<(H, Bytes)>, DecodeError> {
        if self.len == 0 {
            match decode(chunk) {
                Ok((header, len)) => return Ok(Some((header, chunk.split_to(len)))),
                Err(DecodeError::Short) => {}
                Err(error) => return Err(error),
            }
        }
        let carried = self.len;
        let taken = chunk.len().min(CARRY_BYTES - carried);
        self.bytes[carried..carried + taken].copy_from_slice(&chunk[..taken]);
        self.len = carried + taken;
        match decode(&self.bytes[..self.len]) {
            Ok((header, len)) => {
                let _ = chunk.split_to(len - carried);
                self.len = 0;
                Ok(Some((header, Bytes::copy_from_slice(&self.bytes[..len]))))
            }
            Err(DecodeError::Short) => {
                chunk.clear();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use supernode_proto::object::{Flags, Hop, Layer, TrackAlias};

    use super::*;

    fn stream(objects: &[usize]) -> (StreamHeader, Vec<u8>) {
        let hop = Hop { alias: TrackAlias::new(1 << 20).expect("small"), priority: 3, ttl_ms: 500 };
        let header = StreamHeader { hop, group: 70_000, temporal_layer: 1 };
        let mut wire = vec![0; STREAM_HEADER_BYTES_MAX];
        let len = header.encode((&mut wire[..]).try_into().expect("sized"));
        wire.truncate(len);
        for (index, size) in objects.iter().enumerate() {
            let object = StreamObjectHeader {
                object: index as u64 * 100,
                flags: Flags::INDEPENDENT,
                layer: Layer::new(1, 0).expect("small"),
                length: *size as u32,
            };
            let mut head = [0; STREAM_OBJECT_HEADER_BYTES_MAX];
            let len = object.encode(&mut head);
            wire.extend_from_slice(&head[..len]);
            wire.resize(wire.len() + size, index as u8);
        }
        (header, wire)
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_bytes_and_objects_come_through(
            objects in prop::collection::vec(0usize..3000, 0..6),
            cuts in prop::collection::vec(1usize..1500, 1..40),
        ) {
            let (header, wire) = stream(&objects);
            let mut parser = StreamParser::default();
            let mut parts = Vec::new();
            let mut seen = None;
            let mut rest = Bytes::from(wire.clone());
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let chunk = rest.split_to(cuts.next().unwrap_or(1).min(rest.len()));
                seen = seen.or(parser.parse(chunk, &mut parts).expect("well formed"));
            }
            prop_assert_eq!(seen, Some(header));
            prop_assert!(parser.is_at_boundary());
            prop_assert_eq!(parts.iter().flat_map(|part| part.wire.to_vec()).collect::<Vec<_>>(), wire);
            prop_assert_eq!(parts.iter().filter(|part| part.begins.is_some()).count(), objects.len());
            prop_assert_eq!(parts.iter().filter(|part| part.ends).count(), objects.len());
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut parser = StreamParser::default();
            let mut parts = Vec::new();
            for chunk in chunks {
                if parser.parse(Bytes::from(chunk), &mut parts).is_err() {
                    break;
                }
            }
        }
    }
}
