//! What two clients say to each other while one rings and the other answers, sealed by the group that the ring's Welcome
//! made. The relay cannot tell a call from an invitation or a knock: all are equally long.

use prost::Message as _;
use supernode_proto::{
    identity::{RoomId, Ticket},
    limits,
};

/// Every greeting and reply is filled up to this before it is sealed.
const PLAIN_BYTES: usize = 4096;
/// Longest name of a room, in bytes.
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 128;

/// Why somebody rings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// To talk.
    Call,
    /// To bring us into a room that they are in.
    Invitation {
        /// What they call the room; they chose it, so show it as theirs.
        name: String,
    },
    /// To be let into a room that we are in.
    Knock {
        /// Which room.
        room: RoomId,
    },
}

/// What whoever rings says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Greeting {
    Call,
    Invitation { name: String },
    Knock { room: RoomId, package: Vec<u8> },
}

/// The payload of a ring: the Welcome to the group of caller and callee, and the greeting, sealed in that group.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RingPayload {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) welcome: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) greeting: Vec<u8>,
}

/// Of the greeting, and of the reply in an answer, whose only field is the package.
#[derive(Clone, PartialEq, prost::Message)]
struct Body {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", tag = "3")]
    room: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    package: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
enum Kind {
    Call = 0,
    Invitation = 1,
    Knock = 2,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = match self {
            Self::Call => Body::default(),
            Self::Invitation { name } => Body { kind: Kind::Invitation.into(), name: name.clone(), ..Body::default() },
            Self::Knock { room, package } => {
                Body { kind: Kind::Knock.into(), room: room.0.to_vec(), package: package.clone(), ..Body::default() }
            }
        };
        filled(&body)
    }

    /// `None` for anything that no honest client says.
    pub(crate) fn decode(plain: &[u8]) -> Option<Self> {
        let body = Body::decode_length_delimited(plain).ok()?;
        Some(match Kind::try_from(body.kind).ok()? {
            Kind::Call => Self::Call,
            Kind::Invitation if body.name.len() <= ROOM_NAME_BYTES_MAX => Self::Invitation { name: body.name },
            Kind::Invitation => return None,
            Kind::Knock => Self::Knock { room: RoomId::from_slice(&body.room).ok()?, package: body.package },
        })
    }

    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Call => Purpose::Call,
            Self::Invitation { name } => Purpose::Invitation { name: name.clone() },
            Self::Knock { room, .. } => Purpose::Knock { room: *room },
        }
    }
}

/// What whoever answers says: the key package to bring them into the room with, if that is what was asked.
pub(crate) fn encode_reply(package: Option<Vec<u8>>) -> Vec<u8> {
    filled(&Body { package: package.unwrap_or_default(), ..Body::default() })
}

pub(crate) fn decode_reply(plain: &[u8]) -> Option<Vec<u8>> {
    let body = Body::decode_length_delimited(plain).ok()?;
    (!body.package.is_empty()).then_some(body.package)
}

fn filled(body: &Body) -> Vec<u8> {
    let mut plain = body.encode_length_delimited_to_vec();
    debug_assert!(plain.len() <= PLAIN_BYTES, "a name is at most 128 bytes and what we offer takes 3,300");
    plain.resize(plain.len().max(PLAIN_BYTES), 0);
    plain
}

/// What members of a group say to each other through its mailbox.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupMessage {
    #[prost(oneof = "Said", tags = "1, 2, 3")]
    pub(crate) said: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Said {
    /// I leave, and do not come back by myself.
    #[prost(message, tag = "1")]
    Goodbye(Goodbye),
    /// A part of what the guest at the door needs to come in.
    #[prost(message, tag = "2")]
    Admission(AdmissionPart),
    /// The guest is not let in.
    #[prost(message, tag = "3")]
    Denied(Denied),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Goodbye {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Denied {
    #[prost(enumeration = "Why", tag = "1")]
    pub(crate) why: i32,
}

/// Why a guest is not let in, as far as it is anything of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(crate) enum Why {
    Unsaid = 0,
    /// They offer no key package for the room's key exchange.
    OtherKeys = 1,
    /// The room's key exchange bears no more devices.
    Full = 2,
}

/// A Welcome to a large group is longer than a message: it comes in parts, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AdmissionPart {
    #[prost(uint32, tag = "1")]
    pub(crate) parts: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) bytes: Vec<u8>,
}

/// What a guest needs to come in, and to come back.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Admission {
    /// The MLS Welcome.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) welcome: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Tickets to ring members by, who can let the guest in again.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) doors: Vec<Vec<u8>>,
}

/// Bytes of an admission in one part: with what surrounds it, it fits a message of the mailbox.
const PART_BYTES: usize = 48 * 1024;
const PARTS_MAX: u32 = 16;

impl Admission {
    /// The messages that bring it.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let bytes = self.encode_to_vec();
        let parts = bytes.len().div_ceil(PART_BYTES) as u32;
        let said = |part: &[u8]| Said::Admission(AdmissionPart { parts, bytes: part.to_vec() });
        bytes.chunks(PART_BYTES).map(|part| GroupMessage { said: Some(said(part)) }.encode_to_vec()).collect()
    }

    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        self.doors.iter().filter_map(|door| Ticket::from_bytes(door).ok()).collect()
    }
}

/// Puts the parts of an admission together.
#[derive(Default)]
pub(crate) struct Gathered {
    parts: u32,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Takes the next part: `Some` when it was the last, and then `None` inside if it makes no sense.
    pub(crate) fn take(&mut self, part: &AdmissionPart) -> Option<Option<Admission>> {
        self.parts += 1;
        self.bytes.extend_from_slice(&part.bytes);
        if part.parts == 0 || part.parts > PARTS_MAX || self.parts > part.parts || part.bytes.len() > PART_BYTES {
            return Some(None);
        }
        (self.parts == part.parts).then(|| Admission::decode(self.bytes.as_slice()).ok())
    }
}

/// The bytes of a message without content.
pub(crate) fn goodbye() -> Vec<u8> {
    GroupMessage { said: Some(Said::Goodbye(Goodbye {})) }.encode_to_vec()
}

pub(crate) fn denied(why: Why) -> Vec<u8> {
    GroupMessage { said: Some(Said::Denied(Denied { why: why.into() })) }.encode_to_vec()
}

pub(crate) fn read(message: &[u8]) -> Option<Said> {
    GroupMessage::decode(message).ok()?.said
}

const _: () = assert!(PART_BYTES + 1024 <= supernode_e2ee::MESSAGE_BYTES_MAX);
const _: () = assert!(supernode_e2ee::MESSAGE_BYTES_MAX <= limits::MLS_PAYLOAD_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([3; 16]);

    //
    #[test]
    fn greetings_and_replies_are_equally_long_and_come_back() {
        let greetings = [
            Greeting::Call,
            Greeting::Invitation { name: "x".repeat(ROOM_NAME_BYTES_MAX) },
            Greeting::Knock { room: ROOM, package: vec![7; 3600] },
        ];
        for greeting in greetings {
            let plain = greeting.encode();
            assert_eq!(plain.len(), PLAIN_BYTES);
            assert_eq!(Greeting::decode(&plain), Some(greeting));
        }
        for package in [None, Some(vec![7; 3600])] {
            let plain = encode_reply(package.clone());
            assert_eq!((plain.len(), decode_reply(&plain)), (PLAIN_BYTES, package));
        }
    }

    #[test]
    fn what_no_honest_client_says_is_no_greeting() {
        let body = |body: Body| Greeting::decode(&filled(&body));
        assert_eq!(body(Body { kind: 9, ..Body::default() }), None);
        assert_eq!(body(Body { kind: Kind::Knock.into(), room: vec![1; 15], ..Body::default() }), None);
        let name = "x".repeat(ROOM_NAME_BYTES_MAX + 1);
        assert_eq!(body(Body { kind: Kind::Invitation.into(), name, ..Body::default() }), None);
        assert_eq!(Greeting::decode(b"\xff\xff\xff"), None);
    }

    //
    #[test]
    fn an_admission_of_any_size_comes_in_parts_that_fit_a_message() {
        for size in [10, PART_BYTES, 5 * PART_BYTES + 1] {
            let admission = Admission { welcome: vec![5; size], name: "tea".into(), doors: vec![vec![1; 146]] };
            let mut gathered = Gathered::default();
            let mut whole = None;
            for message in admission.messages() {
                assert!(message.len() <= supernode_e2ee::MESSAGE_BYTES_MAX && whole.is_none());
                let Some(Said::Admission(part)) = read(&message) else { panic!("a part") };
                whole = gathered.take(&part);
            }
            assert_eq!(whole, Some(Some(admission)));
        }
    }

    #[test]
    fn parts_that_never_end_or_make_no_sense_are_given_up() {
        let part = |parts| AdmissionPart { parts, bytes: vec![0xff; 9] };
        assert_eq!(Gathered::default().take(&part(1)), Some(None));
        assert_eq!(Gathered::default().take(&part(0)), Some(None));
        assert_eq!(Gathered::default().take(&part(PARTS_MAX + 1)), Some(None));
        let mut gathered = Gathered::default();
        assert_eq!(gathered.take(&part(2)), None);
        assert_eq!(gathered.take(&part(1)), Some(None), "more than there should be");
    }
}
