//! The object header: what of a media object the relay can see (`docs/PROTOCOL.md`, section "Objects").
//!
//! An object is one sealed frame. It travels in one of two forms:
//!
//! ```text
//! datagram  = Hop, Visible, sealed to the end                              one object per QUIC DATAGRAM (RFC 9221)
//! stream    = 0x01, Hop, group, temporal layer, then objects to the end    one stream per group and temporal layer
//!   object  = object, flags, layer, length, sealed
//! Hop       = track alias, priority (1 byte), time to live in ms           the relay may rewrite these
//! Visible   = group, object, flags (1 byte), layer (1 byte)                authenticated from end to end
//! ```
//!
//! Numbers are RFC 9000 varints unless a size is given. Encoding and decoding never allocate. The key id of the
//! sealed part is not repeated here: an SFrame ciphertext begins with it (RFC 9605 section 4.3).

use crate::{limits, varint};

/// Most bytes a datagram's header takes.
pub const DATAGRAM_HEADER_BYTES_MAX: usize = HOP_BYTES_MAX + VISIBLE_BYTES_MAX;
/// Most bytes a stream's header takes.
pub const STREAM_HEADER_BYTES_MAX: usize = 1 + HOP_BYTES_MAX + 8 + 1;
/// Most bytes the header of an object on a stream takes.
pub const STREAM_OBJECT_HEADER_BYTES_MAX: usize = 8 + 2 + 8;
/// Most bytes [`Visible`] takes.
pub const VISIBLE_BYTES_MAX: usize = 8 + 8 + 2;
const HOP_BYTES_MAX: usize = 8 + 1 + 4;
/// First byte of a media stream.
const STREAM_TYPE: u8 = 0x01;

/// Why bytes are no object header (R-53).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field: on a stream, more may come.
    #[error("cut short")]
    Short,
    /// The first byte of a stream names no known type.
    #[error("stream type {0:#04x} is unknown")]
    StreamType(u8),
    /// Bits that must be zero are not.
    #[error("reserved bits are set in {field}: {value:#04x}")]
    Reserved {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// A number is above its bound.
    #[error("{field} = {value}: at most {bound}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The most it may be.
        bound: u64,
    },
}

/// A track's number on the wire, made by the relay and the same for its publisher and all its subscribers, so that
/// forwarding an object rewrites nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TrackAlias(u64);

impl TrackAlias {
    /// An alias of at most 2^62 - 1, the largest varint.
    pub const fn new(value: u64) -> Option<Self> {
        if value <= varint::MAX { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// What the relay may rewrite on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The track.
    pub alias: TrackAlias,
    /// Lower is sent first.
    pub priority: u8,
    /// How long after it reached the relay the object is still worth sending, in ms;
    /// at most [`limits::OBJECT_TTL_MS_MAX`].
    pub ttl_ms: u32,
}

/// Facts about an object that help to drop it well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// Decodable without any earlier object.
    pub const INDEPENDENT: Self = Self(1);
    /// No other object needs it.
    pub const DISCARDABLE: Self = Self(2);
    /// The last of its group.
    pub const END_OF_GROUP: Self = Self(4);
    /// The last of its track.
    pub const END_OF_TRACK: Self = Self(8);
    const ALL: u8 = 0x3f;
    const ACTIVITY_SHIFT: u32 = 4;

    /// Highest [`Self::activity`].
    pub const ACTIVITY_MAX: u8 = 3;

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// How lively the object is, from 0 (silent, or not told) to [`Self::ACTIVITY_MAX`]: two bits that a publisher shows
    /// the relay only on a track that says so (R-80).
    pub const fn activity(self) -> u8 {
        self.0 >> Self::ACTIVITY_SHIFT
    }

    /// The same flags with another activity, cut to [`Self::ACTIVITY_MAX`].
    pub const fn with_activity(self, activity: u8) -> Self {
        let level = if activity > Self::ACTIVITY_MAX { Self::ACTIVITY_MAX } else { activity };
        Self(self.0 & !(Self::ACTIVITY_MAX << Self::ACTIVITY_SHIFT) | level << Self::ACTIVITY_SHIFT)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which layer of a layered encoding an object belongs to; 0 is the base. Three bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layer {
    temporal: u8,
    spatial: u8,
}

impl Layer {
    /// Highest layer of each kind.
    pub const MAX: u8 = 7;

    /// A layer, if both numbers are at most [`Self::MAX`].
    pub const fn new(temporal: u8, spatial: u8) -> Option<Self> {
        if temporal <= Self::MAX && spatial <= Self::MAX { Some(Self { temporal, spatial }) } else { None }
    }

    /// Layer in time: without the higher ones the frame rate halves.
    pub const fn temporal(self) -> u8 {
        self.temporal
    }

    /// Layer in space: without the higher ones the picture is smaller.
    pub const fn spatial(self) -> u8 {
        self.spatial
    }

    const fn to_byte(self) -> u8 {
        self.temporal << 3 | self.spatial
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        if byte & 0xc0 != 0 {
            return Err(DecodeError::Reserved { field: "layer", value: byte });
        }
        Ok(Self { temporal: byte >> 3, spatial: byte & 7 })
    }
}

/// What everybody on the way can see and nobody can change unnoticed: the sealed part authenticates these bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visible {
    /// Counts independently decodable groups of a track; at most 2^62 - 1.
    pub group: u64,
    /// Counts objects in a group; at most 2^62 - 1.
    pub object: u64,
    /// Facts for dropping.
    pub flags: Flags,
    /// Layer for thinning.
    pub layer: Layer,
}

impl Visible {
    /// Writes the canonical form, which is also what the seal authenticates, and returns its length.
    pub fn encode(&self, out: &mut [u8; VISIBLE_BYTES_MAX]) -> usize {
        self.write(&mut Writer { out, at: 0 })
    }

    fn write(&self, writer: &mut Writer<'_>) -> usize {
        writer.varint(self.group);
        writer.varint(self.object);
        writer.byte(self.flags.0);
        writer.byte(self.layer.to_byte());
        writer.at
    }
}

/// Header of an object in a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatagramHeader {
    /// Rewritable part.
    pub hop: Hop,
    /// Authenticated part.
    pub visible: Visible,
}

impl DatagramHeader {
    /// Writes the header and returns its length; the sealed bytes follow.
    pub fn encode(&self, out: &mut [u8; DATAGRAM_HEADER_BYTES_MAX]) -> usize {
        let mut writer = Writer { out, at: 0 };
        self.hop.write(&mut writer);
        self.visible.write(&mut writer)
    }

    /// Reads the header from the front of a datagram: the header and its length.
    ///
    /// # Errors
    /// See [`DecodeError`]; a datagram that is [`DecodeError::Short`] stays so.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let hop = Hop::read(&mut reader)?;
        let visible = Visible {
            group: reader.varint()?,
            object: reader.varint()?,
            flags: reader.flags()?,
            layer: Layer::from_byte(reader.byte()?)?,
        };
        Ok((Self { hop, visible }, reader.at))
    }
}

impl Hop {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.varint(self.alias.0);
        writer.byte(self.priority);
        writer.varint(u64::from(self.ttl_ms));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            alias: TrackAlias(reader.varint()?),
            priority: reader.byte()?,
            ttl_ms: reader.bounded("ttl_ms", u64::from(limits::OBJECT_TTL_MS_MAX))? as u32,
        })
    }
}

/// Header of a media stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamHeader {
    /// Rewritable part.
    pub hop: Hop,
    /// The one group on this stream.
    pub group: u64,
    /// The one temporal layer on this stream, at most [`Layer::MAX`].
    pub temporal_layer: u8,
}

impl StreamHeader {
    /// Writes the header and returns its length; objects follow.
    pub fn encode(&self, out: &mut [u8; STREAM_HEADER_BYTES_MAX]) -> usize {
        let mut writer = Writer { out, at: 0 };
        writer.byte(STREAM_TYPE);
        self.hop.write(&mut writer);
        writer.varint(self.group);
        writer.byte(self.temporal_layer);
        writer.at
    }

    /// Reads the header from the front of a stream: the header and its length.
    ///
    /// # Errors
    /// [`DecodeError::Short`] asks for more bytes, of which [`STREAM_HEADER_BYTES_MAX`] always suffice.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        match reader.byte()? {
            STREAM_TYPE => {}
            other => return Err(DecodeError::StreamType(other)),
        }
        let hop = Hop::read(&mut reader)?;
        let group = reader.varint()?;
        let temporal_layer = reader.byte()?;
        if temporal_layer > Layer::MAX {
            return Err(DecodeError::Reserved { field: "temporal_layer", value: temporal_layer });
        }
        Ok((Self { hop, group, temporal_layer }, reader.at))
    }
}

/// Header of one object on a media stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamObjectHeader {
    /// Number in the group.
    pub object: u64,
    /// Facts for dropping.
    pub flags: Flags,
    /// Layer for thinning.
    pub layer: Layer,
    /// Sealed bytes that follow; at most [`limits::OBJECT_BYTES_MAX`].
    pub length: u32,
}

impl StreamObjectHeader {
    /// Writes the header and returns its length; `self.length` sealed bytes follow.
    pub fn encode(&self, out: &mut [u8; STREAM_OBJECT_HEADER_BYTES_MAX]) -> usize {
        let mut writer = Writer { out, at: 0 };
        writer.varint(self.object);
        writer.byte(self.flags.0);
        writer.byte(self.layer.to_byte());
        writer.varint(u64::from(self.length));
        writer.at
    }

    /// Reads the header from the front of `bytes`: the header and its length.
    ///
    /// # Errors
    /// [`DecodeError::Short`] asks for more bytes, of which [`STREAM_OBJECT_HEADER_BYTES_MAX`] always suffice.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let header = Self {
            object: reader.varint()?,
            flags: reader.flags()?,
            layer: Layer::from_byte(reader.byte()?)?,
            length: reader.bounded("length", u64::from(limits::OBJECT_BYTES_MAX))? as u32,
        };
        Ok((header, reader.at))
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn varint(&mut self, value: u64) {
        self.at += varint::encode(value, &mut self.out[self.at..]);
    }

    fn byte(&mut self, value: u8) {
        self.out[self.at] = value;
        self.at += 1;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, len) = varint::decode(&self.bytes[self.at..]).ok_or(DecodeError::Short)?;
        self.at += len;
        Ok(value)
    }

    fn bounded(&mut self, field: &'static str, bound: u64) -> Result<u64, DecodeError> {
        match self.varint()? {
            value if value > bound => Err(DecodeError::OutOfBounds { field, value, bound }),
            value => Ok(value),
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(DecodeError::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn flags(&mut self) -> Result<Flags, DecodeError> {
        match self.byte()? {
            value if value & !Flags::ALL != 0 => Err(DecodeError::Reserved { field: "flags", value }),
            value => Ok(Flags(value)),
        }
    }
}
