//! Media streams on their way in.

use bytes::{Buf, Bytes, BytesMut};
use supernode_proto::object::{DecodeError, StreamHeader, StreamObjectHeader};

/// Cuts a media stream into its objects, however it comes. It holds what has come and was not taken; how large an object
/// may be, the wire bounds, and how many are held at once is for the caller to say before it pushes more.
///
/// An object is taken whole ([`Self::take_sealed`]), or passed over as it comes ([`Self::skip_sealed`]), for those to whom
/// its beginning is enough.
#[derive(Debug, Default)]
pub struct StreamReader {
    buffer: BytesMut,
    header: Option<StreamHeader>,
    /// The object that comes, and how many of its sealed bytes were passed over.
    object: Option<(StreamObjectHeader, usize)>,
}

impl StreamReader {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The stream's header, once it is there.
    ///
    /// # Errors
    /// See [`DecodeError`]; after one the stream is of no more use.
    pub fn header(&mut self) -> Result<Option<StreamHeader>, DecodeError> {
        if self.header.is_none() {
            self.header = self.take(StreamHeader::decode)?;
        }
        Ok(self.header)
    }

    /// The header of the next object, once it is there: the same one until its sealed bytes are taken or passed over.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn object(&mut self) -> Result<Option<StreamObjectHeader>, DecodeError> {
        if self.header()?.is_none() {
            return Ok(None);
        }
        if self.object.is_none() {
            self.object = self.take(StreamObjectHeader::decode)?.map(|header| (header, 0));
        }
        Ok(self.object.map(|(header, _)| header))
    }

    /// The object's sealed bytes, once all are there.
    pub fn take_sealed(&mut self) -> Option<Bytes> {
        let (header, passed) = self.object?;
        let left = header.length as usize - passed;
        if self.buffer.len() < left {
            return None;
        }
        self.object = None;
        Some(self.buffer.split_to(left).freeze())
    }

    /// The object's first sealed bytes, so many or all if it has fewer, once they are there and before any is passed over.
    pub fn beginning(&self, bytes: usize) -> Option<&[u8]> {
        let (header, passed) = self.object?;
        if passed > 0 {
            return None;
        }
        self.buffer.get(..bytes.min(header.length as usize))
    }

    /// Passes over what is there of the object's sealed bytes; whether that was the last of them.
    pub fn skip_sealed(&mut self) -> bool {
        let Some((header, passed)) = &mut self.object else { return false };
        let step = (header.length as usize - *passed).min(self.buffer.len());
        self.buffer.advance(step);
        *passed += step;
        let is_over = *passed == header.length as usize;
        if is_over {
            self.object = None;
        }
        is_over
    }

    /// Whether the stream may end here: between two objects.
    pub fn is_between(&self) -> bool {
        self.buffer.is_empty() && self.object.is_none()
    }

    fn take<T>(&mut self, decode: impl Fn(&[u8]) -> Result<(T, usize), DecodeError>) -> Result<Option<T>, DecodeError> {
        match decode(&self.buffer) {
            Ok((value, length)) => {
                self.buffer.advance(length);
                Ok(Some(value))
            }
            Err(DecodeError::Short) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::object::{Flags, Hop, Layer, TrackAlias, Visible};

    use super::*;
    use crate::{put_object, put_stream_head};

    const HOP: Hop = Hop { alias: TrackAlias::new(77).expect("small"), priority: 1, ttl_ms: 1000 };

    fn wire(objects: &[&[u8]]) -> BytesMut {
        let mut wire = BytesMut::new();
        put_stream_head(&mut wire, HOP, 3, 2);
        for (object, sealed) in (0..).zip(objects) {
            let visible = Visible { group: 3, object, flags: Flags::INDEPENDENT, layer: Layer::default() };
            put_object(&mut wire, visible, sealed.len() as u32);
            wire.extend_from_slice(sealed);
        }
        wire
    }

    #[test]
    fn objects_come_whole_however_the_stream_is_cut() {
        let sent: [&[u8]; 4] = [b"first", b"", &[7; 400], b"last"];
        let wire = wire(&sent);
        for piece in [1, 7, 50, wire.len()] {
            let (mut reader, mut read) = (StreamReader::default(), Vec::new());
            for chunk in wire.chunks(piece) {
                reader.push(chunk);
                while reader.object().expect("a media stream").is_some() {
                    let Some(sealed) = reader.take_sealed() else { break };
                    read.push(sealed);
                }
            }
            assert_eq!(read, sent, "in pieces of {piece}");
            let header = reader.header().expect("a media stream").expect("it has come");
            assert_eq!((header.hop, header.group, header.temporal_layer), (HOP, 3, 2));
            assert!(reader.is_between());
        }
    }

    #[test]
    fn an_object_is_passed_over_as_it_comes_and_its_beginning_seen() {
        let wire = wire(&[b"ab", &[9; 300], b"cdef"]);
        for piece in [1, 5, 100, wire.len()] {
            let (mut reader, mut seen, mut begun) = (StreamReader::default(), Vec::new(), false);
            for chunk in wire.chunks(piece) {
                reader.push(chunk);
                while reader.object().expect("a media stream").is_some() {
                    if !begun {
                        let Some(beginning) = reader.beginning(3) else { break };
                        seen.push(beginning.to_vec());
                        begun = true;
                    }
                    if !reader.skip_sealed() {
                        break;
                    }
                    begun = false;
                }
            }
            assert_eq!(seen, [&b"ab"[..], &[9; 3], b"cde"], "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_media_stream_is_an_error_and_a_stream_that_is_cut_is_not_at_an_end() {
        let mut reader = StreamReader::default();
        reader.push(&[0x7f, 1, 2, 3]);
        assert_eq!(reader.header(), Err(DecodeError::StreamType(0x7f)));
        let wire = wire(&[b"sealed"]);
        for cut in 1..wire.len() {
            let mut reader = StreamReader::default();
            reader.push(&wire[..cut]);
            let whole = reader.object().expect("a media stream").and_then(|_| reader.take_sealed());
            let is_header = cut == wire.len() - b"sealed".len() - 4;
            assert_eq!((whole, reader.is_between()), (None, is_header), "cut at {cut}");
        }
    }
}
