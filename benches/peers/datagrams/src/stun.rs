//! The few frames of STUN (RFC 8489) and TURN (RFC 8656) that a client without credentials needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const MAGIC: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const HEADER_BYTES: usize = 20;
const CHANNEL_HEADER_BYTES: usize = 4;

/// Channels that a client may bind, RFC 8656 section 12.
pub(crate) const CHANNEL_FIRST: u16 = 0x4000;

const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const CHANNEL_NUMBER: u16 = 0x000c;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const ERROR_CODE: u16 = 0x0009;

/// What identifies a request and its answer.
pub(crate) type Transaction = [u8; 12];

/// A request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// For an address at the relay, towards UDP peers.
    Allocate,
    /// For a channel to a peer, which installs the permission as well.
    ChannelBind { channel: u16, peer: SocketAddr },
}

/// An answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Success {
    /// The address at the relay, in the answer to an allocation.
    pub(crate) relayed: Option<SocketAddr>,
}

/// Why there is no answer to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StunError {
    #[error("not an answer to this request")]
    NotTheAnswer,
    #[error("refused with STUN error {0}")]
    Refused(u16),
    #[error("the answer ends within an attribute")]
    Truncated,
}

impl Request {
    fn method(self) -> u16 {
        match self {
            Self::Allocate => 0x0003,
            Self::ChannelBind { .. } => 0x0009,
        }
    }

    /// Its bytes.
    pub(crate) fn encode(self, transaction: &Transaction) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            // 17 is UDP's protocol number, RFC 8656 section 18.7.
            Self::Allocate => attribute(&mut body, REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
            Self::ChannelBind { channel, peer } => {
                let [high, low] = channel.to_be_bytes();
                attribute(&mut body, CHANNEL_NUMBER, &[high, low, 0, 0]);
                attribute(&mut body, XOR_PEER_ADDRESS, &xor_address(peer));
            }
        }
        let mut wire = self.method().to_be_bytes().to_vec();
        wire.extend((body.len() as u16).to_be_bytes());
        wire.extend(MAGIC);
        wire.extend(transaction);
        wire.extend(body);
        wire
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`StunError`].
    pub(crate) fn answer(self, transaction: &Transaction, wire: &[u8]) -> Result<Success, StunError> {
        let (header, mut rest) = wire.split_at_checked(HEADER_BYTES).ok_or(StunError::NotTheAnswer)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        if header[4..8] != MAGIC || header[8..] != transaction[..] {
            return Err(StunError::NotTheAnswer);
        }
        let mut relayed = None;
        let mut error = 0;
        while !rest.is_empty() {
            let (head, body) = rest.split_first_chunk::<4>().ok_or(StunError::Truncated)?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = body.get(..length).ok_or(StunError::Truncated)?;
            match u16::from_be_bytes([head[0], head[1]]) {
                XOR_RELAYED_ADDRESS => relayed = read_xor_address(value),
                // The class in hundreds and the rest, RFC 8489 section 14.8.
                ERROR_CODE if length >= 4 => error = u16::from(value[2] & 7) * 100 + u16::from(value[3]),
                _ => {}
            }
            rest = body.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        // The class is in bits 4 and 8 of the type, RFC 8489 section 5.
        match kind {
            success if success == self.method() | 0x0100 => Ok(Success { relayed }),
            refused if refused == self.method() | 0x0110 => Err(StunError::Refused(error)),
            _ => Err(StunError::NotTheAnswer),
        }
    }
}

/// Appends a ChannelData message; over UDP it needs no padding, RFC 8656 section 12.5.
pub(crate) fn channel_data(channel: u16, payload: &[u8], wire: &mut Vec<u8>) {
    wire.extend(channel.to_be_bytes());
    wire.extend((payload.len() as u16).to_be_bytes());
    wire.extend(payload);
}

/// The payload of a ChannelData message on this channel.
pub(crate) fn read_channel_data(channel: u16, wire: &[u8]) -> Option<&[u8]> {
    let (head, rest) = wire.split_first_chunk::<CHANNEL_HEADER_BYTES>()?;
    let on = u16::from_be_bytes([head[0], head[1]]);
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    rest.get(..length).filter(|_| on == channel)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(kind.to_be_bytes());
    body.extend((value.len() as u16).to_be_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// RFC 8489 section 14.2, IPv4 only: everything here is on loopback.
fn xor_address(address: SocketAddr) -> [u8; 8] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST.octets(),
    };
    let port = (address.port() ^ 0x2112).to_be_bytes();
    let mut value = [0, 1, port[0], port[1], 0, 0, 0, 0];
    value[4..].iter_mut().zip(ip).zip(MAGIC).for_each(|((out, byte), magic)| *out = byte ^ magic);
    value
}

fn read_xor_address(value: &[u8]) -> Option<SocketAddr> {
    let value: &[u8; 8] = value.try_into().ok()?;
    if value[1] != 1 {
        return None;
    }
    let port = u16::from_be_bytes([value[2], value[3]]) ^ 0x2112;
    let mut ip = [0; 4];
    ip.iter_mut().zip(&value[4..]).zip(MAGIC).for_each(|((out, byte), magic)| *out = byte ^ magic);
    Some(SocketAddr::from((ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: Transaction = *b"abcdefghijkl";

    #[test]
    fn requests_have_these_bytes() {
        let allocate = Request::Allocate.encode(&TRANSACTION);
        assert_eq!(allocate, b"\x00\x03\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x19\x00\x04\x11\x00\x00\x00");
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000));
        let bind = Request::ChannelBind { channel: 0x4001, peer }.encode(&TRANSACTION);
        let expected = b"\x00\x09\x00\x14\x21\x12\xa4\x42abcdefghijkl\x00\x0c\x00\x04\x40\x01\x00\x00\
                         \x00\x12\x00\x08\x00\x01\x32\x9a\x5e\x12\xa4\x43";
        assert_eq!(bind, expected);
    }

    #[test]
    fn the_relayed_address_comes_out_of_an_answer_and_nothing_else_does() {
        let mut answer = b"\x01\x03\x00\x18\x21\x12\xa4\x42abcdefghijkl".to_vec();
        attribute(&mut answer, 0x8022, b"names");
        let relayed = SocketAddr::from(([127, 0, 0, 1], 49_152));
        attribute(&mut answer, XOR_RELAYED_ADDRESS, &xor_address(relayed));
        assert_eq!(Request::Allocate.answer(&TRANSACTION, &answer), Ok(Success { relayed: Some(relayed) }));
        let other = Request::ChannelBind { channel: 0x4000, peer: relayed };
        assert_eq!(other.answer(&TRANSACTION, &answer), Err(StunError::NotTheAnswer));
        assert_eq!(Request::Allocate.answer(b"another one!", &answer), Err(StunError::NotTheAnswer));
        answer.pop();
        assert_eq!(Request::Allocate.answer(&TRANSACTION, &answer), Err(StunError::Truncated));
        assert_eq!(Request::Allocate.answer(&TRANSACTION, &answer[..19]), Err(StunError::NotTheAnswer));
    }

    #[test]
    fn a_refusal_has_its_number() {
        let mut answer = b"\x01\x13\x00\x08\x21\x12\xa4\x42abcdefghijkl".to_vec();
        attribute(&mut answer, ERROR_CODE, &[0, 0, 4, 86]);
        assert_eq!(Request::Allocate.answer(&TRANSACTION, &answer), Err(StunError::Refused(486)));
    }

    #[test]
    fn channel_data_comes_back_on_its_own_channel_only() {
        let mut wire = Vec::new();
        channel_data(0x4001, b"hello", &mut wire);
        assert_eq!(wire, b"\x40\x01\x00\x05hello");
        assert_eq!(read_channel_data(0x4001, &wire), Some(&b"hello"[..]));
        assert_eq!(read_channel_data(0x4002, &wire), None);
        assert_eq!(read_channel_data(0x4001, &wire[..8]), None);
        assert_eq!(read_channel_data(0x4001, b"\x40"), None);
    }
}
