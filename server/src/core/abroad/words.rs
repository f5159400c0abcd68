//! What nodes say to each other of people, rings and key packages: on the bus and in letters, in bytes.
//!
//! Nodes trust each other: they have one secret and one operator. What they say is bounded all the same, and what cannot be read
//! is dropped: a node of a later version may say more than this one knows.

use bytes::Bytes;
use prost::{Message, Oneof};
use supernode_proto::{
    control::{DeviceKeyPackage, PresenceState, RefusalReason, RingResult},
    identity::{DeviceKey, IdentityKey, Revocation, RoomId},
    limits as wire,
};

use crate::core::{Address, NodeId, SessionId, ShardId, registry::rings::DOOR_DEVICES_MAX};

/// Entries of one [`Recheck`] at most: 1,000, about 20 KB.
pub(crate) const ENTRIES_MAX: usize = 1_000;
/// Devices of one message at most. Default 64: four nodes with as many as an identity may have at each.
const DEVICES_MAX: usize = 64;

/// One message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Words {
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub(crate) said: Option<Said>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Said {
    /// What is true of a person at the node that says so.
    #[prost(message, tag = "1")]
    Report(Report),
    /// Somebody wants to know what is true of a person.
    #[prost(message, tag = "2")]
    Ask(Ask),
    /// A device has a session here now: others of it are over.
    #[prost(message, tag = "3")]
    Came(Came),
    /// What the earlier node of a device that came elsewhere knows of it.
    #[prost(message, tag = "4")]
    Moved(Moved),
    /// What the sender believes: whoever knows better says so.
    #[prost(message, tag = "5")]
    Recheck(Recheck),
    /// The sender has nobody of whom it was believed to have devices.
    #[prost(message, tag = "6")]
    Nothing(Nothing),
    /// Key packages of somebody are wanted,
    #[prost(message, tag = "7")]
    Take(Take),
    /// and here they are, or why they are not.
    #[prost(message, tag = "8")]
    Taken(Taken),
    /// Nobody is there whom somebody rings: wake them.
    #[prost(message, tag = "9")]
    Wake(Wake),
    /// To be rung at another node,
    #[prost(message, tag = "10")]
    RingThere(RingThere),
    /// and how many devices do.
    #[prost(message, tag = "11")]
    RangThere(RangThere),
    /// To a ring's home: a device answers, or declines for the person.
    #[prost(message, tag = "12")]
    Answer(Answer),
    /// To a ring's home: no device of the node rings any more.
    #[prost(message, tag = "13")]
    LegOut(LegOut),
    /// Of a ring's home: it is settled.
    #[prost(message, tag = "14")]
    Over(Over),
}

/// All that others may know of a person at one node. It is always whole: whoever has one needs none before it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Report {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) identity: Bytes,
    /// Later ones of a node are greater, whomever they are about.
    #[prost(fixed64, tag = "2")]
    pub(crate) epoch: u64,
    /// Whether the node has any device of theirs, seen or not.
    #[prost(bool, tag = "3")]
    pub(crate) is_held: bool,
    /// Those that are seen.
    #[prost(message, repeated, tag = "4")]
    pub(crate) devices: Vec<Shown>,
    /// Whom their devices there shut out: the first eight bytes of each identity, in order, one after the other.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) blocked: Bytes,
    /// Tickets of a lower one are void.
    #[prost(uint32, tag = "6")]
    pub(crate) generation: u32,
    /// Devices of theirs that count no more, by their signature; empty if there is nothing.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) revocation: Bytes,
    /// Its number.
    #[prost(uint64, tag = "8")]
    pub(crate) revocation_number: u64,
}

/// A device that is seen.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shown {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) device: Bytes,
    #[prost(enumeration = "PresenceState", tag = "2")]
    pub(crate) state: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) status: Bytes,
    /// When that was set: the newest speaks for the person.
    #[prost(uint64, tag = "4")]
    pub(crate) set_at: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ask {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) identity: Bytes,
    /// Which of the sender's shards wants the answer.
    #[prost(uint32, tag = "2")]
    pub(crate) shard: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Came {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) identity: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) device: Bytes,
    /// When its session began, by the sender's clock. Unit: milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(crate) since_ms: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) shard: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Moved {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) identity: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) was: Option<Shown>,
    /// Whom it shut out, in full and in order.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) blocked: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Recheck {
    /// Which of the sender's shards wants the answer.
    #[prost(uint32, tag = "1")]
    pub(crate) shard: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<Entry>,
}

/// What is believed of one person.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    /// The first eight bytes of the identity.
    #[prost(fixed64, tag = "1")]
    pub(crate) prefix: u64,
    /// Whether somebody there watches them: then who has devices is to be known.
    #[prost(bool, tag = "2")]
    pub(crate) is_watched: bool,
    /// Which nodes have, or had, devices of theirs, and of which epoch their last reports are.
    #[prost(message, repeated, tag = "3")]
    pub(crate) known: Vec<Known>,
    #[prost(uint32, tag = "4")]
    pub(crate) generation: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) revocation_number: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Known {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) epoch: u64,
    /// Whether it has devices; else it is known to have had some.
    #[prost(bool, tag = "3")]
    pub(crate) is_held: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {
    #[prost(fixed64, tag = "1")]
    pub(crate) prefix: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Take {
    /// Counts the asking shard's.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) shard: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) callee: Bytes,
    /// Of the ticket.
    #[prost(uint32, tag = "4")]
    pub(crate) generation: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) caller: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) caller_device: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Taken {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) packages: Vec<DeviceKeyPackage>,
    /// Why there are none.
    #[prost(enumeration = "RefusalReason", tag = "3")]
    pub(crate) refused: i32,
    /// The ticket does not help: at no node.
    #[prost(bool, tag = "4")]
    pub(crate) is_shut_out: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Wake {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) callee: Bytes,
    #[prost(uint32, tag = "2")]
    pub(crate) generation: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) caller: Bytes,
}

/// Where a session is, at a node that goes without saying.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Place {
    #[prost(uint32, tag = "1")]
    pub(crate) shard: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) link: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) generation: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RingThere {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ring: Bytes,
    /// The caller's session, at the sender.
    #[prost(message, optional, tag = "2")]
    pub(crate) place: Option<Place>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) callee: Bytes,
    #[prost(uint32, tag = "4")]
    pub(crate) generation: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) caller: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) caller_device: Bytes,
    /// Whose packages the caller was handed.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) devices: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) payload: Bytes,
    /// At the door of which room the caller is: then there is no callee and there are no devices,
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) room: Bytes,
    /// but sessions of the receiver that are in it.
    #[prost(message, repeated, tag = "10")]
    pub(crate) inside: Vec<Insider>,
}

/// Somebody who is in a room.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Insider {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) identity: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) place: Option<Place>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangThere {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ring: Bytes,
    /// How many ring.
    #[prost(uint32, tag = "2")]
    pub(crate) devices: u32,
    /// Why none does: a limit by its name and value.
    #[prost(enumeration = "RefusalReason", tag = "3")]
    pub(crate) refused: i32,
    #[prost(string, tag = "4")]
    pub(crate) detail: String,
    #[prost(uint64, tag = "5")]
    pub(crate) bound: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ring: Bytes,
    /// The session that answers, at the sender.
    #[prost(message, optional, tag = "2")]
    pub(crate) place: Option<Place>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) device: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) payload: Bytes,
    #[prost(bool, tag = "5")]
    pub(crate) is_declined: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LegOut {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ring: Bytes,
    #[prost(bool, tag = "2")]
    pub(crate) is_busy: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Over {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ring: Bytes,
    /// What its devices are told.
    #[prost(enumeration = "RingResult", tag = "2")]
    pub(crate) result: i32,
    /// The session of the receiver whose answer counts.
    #[prost(message, optional, tag = "3")]
    pub(crate) winner: Option<Place>,
}

impl Place {
    pub(crate) fn of(session: SessionId) -> Self {
        let SessionId { at, link, generation } = session;
        Self { shard: at.shard.0.into(), link, generation }
    }

    pub(crate) fn at(&self, node: NodeId) -> SessionId {
        let at = Address { node, shard: ShardId(self.shard as u16) };
        SessionId { at, link: self.link, generation: self.generation }
    }
}

impl Insider {
    pub(crate) fn of(identity: &IdentityKey, session: SessionId) -> Self {
        Self { identity: key_bytes(identity), place: Some(Place::of(session)) }
    }

    /// Their session, at this node.
    pub(crate) fn at(&self, node: NodeId) -> Option<(IdentityKey, SessionId)> {
        Some((IdentityKey::from_slice(&self.identity).ok()?, self.place?.at(node)))
    }
}

impl Said {
    pub(crate) fn to_bytes(&self) -> Bytes {
        Words { said: Some(self.clone()) }.encode_to_vec().into()
    }

    /// `None` for what this node cannot read.
    pub(crate) fn from_bytes(bytes: Bytes) -> Option<Self> {
        Words::decode(bytes).ok()?.said.filter(Self::is_bounded)
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Report(report) => {
                report.devices.len() <= DEVICES_MAX
                    && report.devices.iter().all(|shown| shown.status.len() <= wire::PRESENCE_STATUS_BYTES_MAX)
                    && report.blocked.len() <= DEVICES_MAX * wire::BLOCKED_IDENTITIES_MAX * size_of::<u64>()
            }
            Self::Moved(moved) => {
                moved.blocked.len() <= wire::BLOCKED_IDENTITIES_MAX
                    && moved.was.as_ref().is_none_or(|was| was.status.len() <= wire::PRESENCE_STATUS_BYTES_MAX)
            }
            Self::Recheck(recheck) => recheck.entries.len() <= ENTRIES_MAX,
            Self::Taken(taken) => {
                taken.packages.len() <= DEVICES_MAX
                    && taken.packages.iter().all(|it| it.package.len() <= wire::KEY_PACKAGE_BYTES_MAX)
            }
            Self::RingThere(there) => {
                there.devices.len() <= DEVICES_MAX
                    && there.inside.len() <= DOOR_DEVICES_MAX
                    && (there.room.is_empty() || RoomId::from_slice(&there.room).is_ok())
                    && there.payload.len() <= wire::RING_PAYLOAD_BYTES_MAX
            }
            Self::Answer(answer) => answer.payload.len() <= wire::RING_PAYLOAD_BYTES_MAX,
            Self::Ask(_) | Self::Came(_) | Self::Nothing(_) | Self::Take(_) | Self::Wake(_) => true,
            Self::RangThere(_) | Self::LegOut(_) | Self::Over(_) => true,
        }
    }
}

impl Report {
    /// Whether both say the same, whenever they do.
    pub(crate) fn says_what(&self, other: &Self) -> bool {
        Self { epoch: 0, ..self.clone() } == Self { epoch: 0, ..other.clone() }
    }

    /// What it takes back, if that is its identity's word.
    pub(crate) fn word(&self, identity: &IdentityKey) -> Option<Revocation> {
        let word = Revocation::from_bytes(&self.revocation).ok()?;
        (word.identity == *identity && word.verify().is_ok()).then_some(word)
    }
}

impl Shown {
    /// As large as itself, and not as the message that it came in.
    pub(crate) fn to_kept(&self) -> Self {
        let (device, status) = (Bytes::copy_from_slice(&self.device), Bytes::copy_from_slice(&self.status));
        Self { device, status, ..*self }
    }

    pub(crate) fn is_device(&self, device: &DeviceKey) -> bool {
        self.device[..] == device.as_bytes()[..]
    }
}

/// The first eight bytes of an identity: enough to tell those apart that nobody has made alike.
pub(crate) fn prefix(identity: &IdentityKey) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *identity.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

pub(crate) fn key_bytes(identity: &IdentityKey) -> Bytes {
    Bytes::copy_from_slice(identity.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_round_is_as_long_as_is_said_of_it() {
        let known = |node| Known { node, epoch: u64::MAX, is_held: true };
        let bytes = |entries: Vec<Entry>| Said::Recheck(Recheck { shard: 0, entries }).to_bytes().len();
        let entry = |nodes: u32| Entry {
            prefix: u64::MAX,
            is_watched: true,
            known: (1..=nodes).map(known).collect(),
            ..Entry::default()
        };
        let length = |nodes| bytes(vec![entry(nodes); 2]) - bytes(vec![entry(nodes)]);
        assert_eq!([length(0), length(1), length(2)], [13, 28, 43]);
        assert!(bytes(vec![entry(1); ENTRIES_MAX]) < 45_000);
    }

    #[test]
    fn what_is_too_much_or_unknown_is_not_read() {
        let report = |devices| Said::Report(Report { devices: vec![Shown::default(); devices], ..Report::default() });
        for (devices, is_read) in [(DEVICES_MAX, true), (DEVICES_MAX + 1, false)] {
            assert_eq!(Said::from_bytes(report(devices).to_bytes()).is_some(), is_read);
        }
        let recheck = |entries| Said::Recheck(Recheck { shard: 0, entries: vec![Entry::default(); entries] });
        assert!(Said::from_bytes(recheck(ENTRIES_MAX + 1).to_bytes()).is_none());
        // A message that only a later version knows, and no message.
        assert!(Said::from_bytes(Bytes::from_static(&[0xfa, 0x01, 0x00])).is_none());
        assert!(Said::from_bytes(Bytes::from_static(b"no message")).is_none());
    }

    #[test]
    fn every_beginning_of_a_message_and_every_changed_byte_is_read_or_refused() {
        let shown =
            Shown { device: Bytes::from_static(&[7; 32]), state: 1, status: Bytes::from_static(b"s"), set_at: 9 };
        let report = Report { identity: Bytes::from_static(&[1; 32]), devices: vec![shown], ..Report::default() };
        let bytes = Said::Report(report.clone()).to_bytes();
        assert_eq!(Said::from_bytes(bytes.clone()), Some(Said::Report(report)));
        for end in 0..bytes.len() {
            let _ = Said::from_bytes(bytes.slice(..end));
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                let _ = Said::from_bytes(changed.into());
            }
        }
    }
}
