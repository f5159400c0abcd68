//! Control messages and how they are framed: a protobuf varint with the length, then the message.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::limits::CONTROL_MESSAGE_BYTES_MAX;

#[allow(missing_docs, clippy::use_self, reason = "generated; the schema carries the comments")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/supernode.v1.rs"));
}
pub use generated::*;

include!(concat!(env!("OUT_DIR"), "/message_names.rs"));

/// Why bytes on a control stream are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is above the bound.
    #[error("a control message of {length} bytes: at most {bytes_max}")]
    TooLarge {
        /// What the prefix says.
        length: u64,
        /// What is allowed there.
        bytes_max: usize,
    },
    /// The length prefix is no varint.
    #[error("the length of a control message is malformed")]
    Length,
    /// The message does not decode.
    #[error("a control message is malformed")]
    Malformed,
}

/// Appends a message with its length to `out`.
pub fn encode_frame(message: &impl Message, out: &mut BytesMut) {
    message.encode_length_delimited(out).expect("a BytesMut grows as needed");
}

/// A message with its length.
pub fn frame(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len() + 4);
    encode_frame(message, &mut out);
    out.freeze()
}

/// Cuts a byte stream into messages of one type. Holds at most one message and what came with its end.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes have come. After an error the stream is of no more use.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        self.next_frame(CONTROL_MESSAGE_BYTES_MAX)?.map(|frame| decode_message(&frame)).transpose()
    }

    /// The bytes of the next whole message, for [`decode_message`], of at most so many, or `None` until more have come.
    /// After an error the stream is of no more use.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
        let Some((length, prefix)) = length_prefix(&self.buffer)? else { return Ok(None) };
        if length > bytes_max as u64 {
            return Err(FrameError::TooLarge { length, bytes_max });
        }
        let length = length as usize;
        if self.buffer.len() < prefix + length {
            return Ok(None);
        }
        self.buffer.advance(prefix);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.len() < length {
            // Most sessions are silent most of the time: nothing is kept for them, and the beginning of a message does not
            // keep the one before it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(Some(message))
    }

    /// Bytes of a message that is not whole yet.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }
}

/// Reads a message. Each of its fields is a copy of its own size, whatever else the message carries: a slice would keep
/// all of what was received for as long as anything of it is kept.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode_message<M: Message + Default>(frame: &[u8]) -> Result<M, FrameError> {
    // From a slice, not from `Bytes`: of these, prost would take slices.
    M::decode(frame).map_err(|_| FrameError::Malformed)
}

/// A protobuf varint of at most four bytes, which reach far beyond the bound: the value and its length.
fn length_prefix(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(FrameError::Length) } else { Ok(None) }
}
