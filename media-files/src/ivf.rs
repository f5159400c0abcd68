//! IVF: a header of 32 bytes, then frames of VP8, VP9 or AV1 with 12 bytes before each. Numbers are little-endian.
//!
//! ```text
//! header = "DKIF", version 0 (2), length 32 (2), fourcc (4), width (2), height (2),
//!          rate (4), scale (4), frames (4), unused (4)           a timestamp counts scale / rate seconds
//! frame  = length (4), timestamp (8), data
//! ```

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

use supernode_proto::limits::OBJECT_BYTES_MAX;

use crate::MediaError;

/// Bytes of the file header.
pub const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 12;
const FRAME_COUNT_AT: u64 = 24;
const MICROSECONDS_PER_SECOND: u128 = 1_000_000;

/// How the frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// VP8 (RFC 6386).
    Vp8,
    /// VP9.
    Vp9,
    /// AV1, a temporal unit a frame.
    Av1,
}

impl Codec {
    const ALL: [Self; 3] = [Self::Vp8, Self::Vp9, Self::Av1];

    /// The name in the file header.
    pub const fn fourcc(self) -> &'static [u8; 4] {
        match self {
            Self::Vp8 => b"VP80",
            Self::Vp9 => b"VP90",
            Self::Av1 => b"AV01",
        }
    }

    /// Whether decoding can begin with this frame.
    pub fn is_key_frame(self, frame: &[u8]) -> bool {
        match self {
            Self::Vp8 => frame.first().is_some_and(|byte| byte & 1 == 0),
            Self::Vp9 => frame.first().is_some_and(|byte| vp9_is_key(*byte)),
            Self::Av1 => av1_has_sequence_header(frame),
        }
    }
}

/// What the file header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How the frames are encoded.
    pub codec: Codec,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// A timestamp counts `scale / rate` seconds. Neither is zero, and a step is at least a microsecond.
    pub rate: u32,
    /// See `rate`.
    pub scale: u32,
}

impl Header {
    /// The header's bytes, with a frame count of zero.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(b"DKIF");
        bytes[6..8].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[8..12].copy_from_slice(self.codec.fourcc());
        bytes[12..14].copy_from_slice(&self.width.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.height.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.rate.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.scale.to_le_bytes());
        bytes
    }

    /// Reads the header's bytes. The frame count is not looked at: a writer that was cut off left it zero.
    ///
    /// # Errors
    /// [`MediaError::Field`].
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MediaError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if !bytes.starts_with(b"DKIF") {
            return Err(MediaError::field("signature", bytes[0..4].escape_ascii(), "DKIF"));
        }
        if u16_at(4) != 0 {
            return Err(MediaError::field("version", u16_at(4), "0"));
        }
        if usize::from(u16_at(6)) != HEADER_BYTES {
            return Err(MediaError::field("header length", u16_at(6), "32"));
        }
        let fourcc = &bytes[8..12];
        let Some(codec) = Codec::ALL.into_iter().find(|codec| codec.fourcc() == fourcc) else {
            return Err(MediaError::field("fourcc", fourcc.escape_ascii(), "VP80, VP90 or AV01"));
        };
        let header = Self { codec, width: u16_at(12), height: u16_at(14), rate: u32_at(16), scale: u32_at(20) };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), MediaError> {
        if self.rate == 0 || self.scale == 0 {
            let value = format!("{}/{}", self.rate, self.scale);
            return Err(MediaError::field("rate/scale", value, "two numbers above zero"));
        }
        if u128::from(self.rate) > u128::from(self.scale) * MICROSECONDS_PER_SECOND {
            let value = format!("{}/{}", self.rate, self.scale);
            return Err(MediaError::field("rate/scale", value, "at most 1,000,000 steps a second"));
        }
        Ok(())
    }

    /// The nearest microsecond. A step is at least one, so nearest both ways always comes back to the same timestamp.
    fn time_us(&self, timestamp: u64) -> Option<u64> {
        let rate = u128::from(self.rate);
        let time_us = (u128::from(timestamp) * u128::from(self.scale) * MICROSECONDS_PER_SECOND + rate / 2) / rate;
        u64::try_from(time_us).ok()
    }

    /// The nearest timestamp.
    fn timestamp(&self, time_us: u64) -> Option<u64> {
        let step = u128::from(self.scale) * MICROSECONDS_PER_SECOND;
        u64::try_from((u128::from(time_us) * u128::from(self.rate) + step / 2) / step).ok()
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it is shown, in microseconds since the stream's beginning.
    pub time_us: u64,
    /// Whether decoding can begin here.
    pub is_key: bool,
    /// The frame.
    pub data: Vec<u8>,
}

/// Reads a file frame by frame. Give it a buffered file: it reads in small pieces.
pub struct Reader<R: Read> {
    file: R,
    header: Header,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`MediaError`] if this is no IVF file.
    pub fn new(mut file: R) -> Result<Self, MediaError> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|error| cut_short(error, "the file header"))?;
        Ok(Self { file, header: Header::from_bytes(&header)? })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame, or `None` after the last.
    ///
    /// # Errors
    /// [`MediaError`] where the file is malformed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, MediaError> {
        let mut header = Vec::with_capacity(FRAME_HEADER_BYTES);
        self.file.by_ref().take(FRAME_HEADER_BYTES as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(None);
        }
        let Some((length, timestamp)) = header.split_first_chunk().and_then(|(length, timestamp)| {
            Some((u32::from_le_bytes(*length), u64::from_le_bytes(timestamp.try_into().ok()?)))
        }) else {
            return Err(MediaError::CutShort { field: "a frame header" });
        };
        check_length(length as usize)?;
        let Some(time_us) = self.header.time_us(timestamp) else {
            return Err(MediaError::field("frame timestamp", timestamp, "less than 2^64 µs"));
        };
        let mut data = vec![0; length as usize];
        self.file.read_exact(&mut data).map_err(|error| cut_short(error, "a frame"))?;
        Ok(Some(Frame { time_us, is_key: self.header.codec.is_key_frame(&data), data }))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Frame, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_frame().transpose()
    }
}

/// Writes a file frame by frame. Without [`Self::finish`] its header says that it has no frames.
pub struct Writer<W: Write + Seek> {
    file: W,
    header: Header,
    frames: u32,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file with this header.
    ///
    /// # Errors
    /// [`MediaError`] if the header is impossible or the file cannot be written.
    pub fn new(mut file: W, header: Header) -> Result<Self, MediaError> {
        header.check()?;
        file.write_all(&header.to_bytes())?;
        Ok(Self { file, header, frames: 0 })
    }

    /// Writes the next frame, shown at `time_us` since the stream's beginning.
    ///
    /// # Errors
    /// [`MediaError::Field`] if it is larger than an object may be.
    pub fn write_frame(&mut self, time_us: u64, data: &[u8]) -> Result<(), MediaError> {
        check_length(data.len())?;
        let Some(timestamp) = self.header.timestamp(time_us) else {
            return Err(MediaError::field("time of a frame in µs", time_us, "less than 2^64 steps"));
        };
        self.file.write_all(&(data.len() as u32).to_le_bytes())?;
        self.file.write_all(&timestamp.to_le_bytes())?;
        self.file.write_all(data)?;
        self.frames = self.frames.saturating_add(1);
        Ok(())
    }

    /// Writes the frame count into the header and gives the file back.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn finish(mut self) -> Result<W, MediaError> {
        self.file.seek(SeekFrom::Start(FRAME_COUNT_AT))?;
        self.file.write_all(&self.frames.to_le_bytes())?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.flush()?;
        Ok(self.file)
    }
}

fn check_length(length: usize) -> Result<(), MediaError> {
    if length <= OBJECT_BYTES_MAX as usize {
        return Ok(());
    }
    Err(MediaError::field("frame length", length, "at most OBJECT_BYTES_MAX, 2,097,152 bytes"))
}

fn cut_short(error: std::io::Error, field: &'static str) -> MediaError {
    match error.kind() {
        ErrorKind::UnexpectedEof => MediaError::CutShort { field },
        _ => MediaError::Io(error),
    }
}

/// The uncompressed header begins with frame marker 0b10, two bits of the profile (and a reserved one in profile 3),
/// show_existing_frame, and the frame type, zero for a key frame (VP9 bitstream specification, section 6.2).
fn vp9_is_key(first: u8) -> bool {
    let flags_at = if first >> 4 & 3 == 3 { 1 } else { 2 };
    first >> 6 == 2 && first >> flags_at & 3 == 0
}

/// Walks the open bitstream units of a temporal unit (AV1 specification, section 5.3) as far as their sizes are given.
fn av1_has_sequence_header(mut units: &[u8]) -> bool {
    const SEQUENCE_HEADER: u8 = 1;
    while let [header, rest @ ..] = units {
        if header >> 3 & 15 == SEQUENCE_HEADER {
            return true;
        }
        let (has_extension, has_size) = (header & 4 != 0, header & 2 != 0);
        let Some((size, rest)) = rest.get(usize::from(has_extension)..).and_then(leb128).filter(|_| has_size) else {
            return false;
        };
        let Some(next) = usize::try_from(size).ok().and_then(|size| rest.get(size..)) else { return false };
        units = next;
    }
    false
}

/// A number in little-endian groups of seven bits, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
#[path = "ivf_tests.rs"]
mod tests;
