//! A relay that lies to one client: what it says is dropped, doubled, kept back, changed, said again at the wrong time or
//! invented; and objects likewise.
//!
//! It stands between the relay, which is the real one, and the client's session, as the SDK's tests have it. It can seal
//! nothing and sign nothing, as no relay can.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::{
    control::{CommitRejected, FrameReader, MemberLeft, MlsDelivery, RelayMessage, encode_frame, relay_message::Body},
    object::{DatagramHeader, Hop},
};
use supernode_session::put_datagram;

/// Messages that it may say again.
const KEPT_MAX: usize = 64;
/// Objects likewise.
const OBJECTS_MAX: usize = 32;

/// What lies to a client.
pub(super) struct Liar {
    rng: StdRng,
    frames: FrameReader,
    said: Vec<RelayMessage>,
    objects: Vec<Bytes>,
}

impl Liar {
    pub(super) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, frames: FrameReader::default(), said: Vec::new(), objects: Vec::new() }
    }

    /// Another connection begins.
    pub(super) fn begin(&mut self) {
        self.frames = FrameReader::default();
    }

    /// What the client hears in place of these bytes of its control stream.
    pub(super) fn control(&mut self, bytes: &[u8]) -> Bytes {
        self.frames.push(bytes);
        let mut heard = BytesMut::new();
        while let Ok(Some(message)) = self.frames.next_message::<RelayMessage>() {
            for told in self.tell(message) {
                encode_frame(&told, &mut heard);
            }
        }
        heard.freeze()
    }

    /// What it gets in place of a datagram.
    pub(super) fn datagrams(&mut self, datagram: Bytes) -> Vec<Bytes> {
        if datagram.is_empty() {
            return vec![datagram];
        }
        keep(&mut self.objects, OBJECTS_MAX, datagram.clone(), &mut self.rng);
        let earlier = self.objects[self.rng.random_range(0..self.objects.len())].clone();
        match self.rng.random_range(0..20) {
            0 => Vec::new(),
            1 => vec![datagram.clone(), datagram],
            2 => vec![earlier, datagram],
            3 => vec![datagram, earlier],
            4 => vec![passed_off(&datagram, &earlier).unwrap_or(datagram)],
            5..=6 => vec![self.change(&datagram)],
            _ => vec![datagram],
        }
    }

    fn tell(&mut self, message: RelayMessage) -> Vec<RelayMessage> {
        keep(&mut self.said, KEPT_MAX, message.clone(), &mut self.rng);
        let earlier = self.said[self.rng.random_range(0..self.said.len())].clone();
        match self.rng.random_range(0..24) {
            0 => Vec::new(),
            1 => vec![message.clone(), message],
            2 => vec![earlier, message],
            3 => vec![RelayMessage { reply_to: 0, ..earlier }, message],
            4 => vec![RelayMessage { reply_to: message.reply_to, ..earlier }],
            5 => vec![RelayMessage { reply_to: message.reply_to + 1, ..message }],
            6..=8 => {
                let changed = self.change(&message.encode_to_vec());
                RelayMessage::decode(changed).into_iter().collect()
            }
            9..=11 => vec![self.twist(message)],
            12 => self.invent().into_iter().chain([message]).collect(),
            _ => vec![message],
        }
    }

    /// The same with a lie in it that a client can only see through by what members of a group say.
    fn twist(&mut self, message: RelayMessage) -> RelayMessage {
        let RelayMessage { reply_to, body } = message;
        let roll = self.rng.random_range(0..6);
        let body = body.map(|body| match body {
            Body::MlsDelivery(said) => Body::MlsDelivery(match roll {
                0 => MlsDelivery { commit: !said.commit, ..said },
                1 => MlsDelivery { epoch: said.epoch.wrapping_add(1), ..said },
                2 => MlsDelivery { epoch: said.epoch.saturating_sub(1), ..said },
                3 => MlsDelivery { from_member: said.from_member + 1, ..said },
                4 => MlsDelivery { join_key: vec![self.rng.random(); 32].into(), ..said },
                _ => MlsDelivery { payload: self.earlier_payload().unwrap_or(said.payload), ..said },
            }),
            Body::MemberJoined(mut said) => {
                said.device = self.earlier_device().unwrap_or(said.device);
                Body::MemberJoined(said)
            }
            Body::RoomJoined(mut said) => {
                match roll {
                    0 => said.mls_epoch = said.mls_epoch.wrapping_add(1),
                    1 => said.mls_epoch = said.mls_epoch.saturating_sub(1),
                    2 => said.mls_sequence += 1,
                    3 => said.mls_sequence = said.mls_sequence.saturating_sub(1),
                    // Everybody is somebody else.
                    _ if said.members.len() > 1 => {
                        let last = said.members.len() - 1;
                        let device = said.members[last].device.clone();
                        let other = std::mem::replace(&mut said.members[0].device, device);
                        said.members[last].device = other;
                    }
                    _ => said.members.clear(),
                }
                Body::RoomJoined(said)
            }
            Body::TrackAnnounced(mut said) => {
                match (roll, self.earlier_track()) {
                    (0..=1, Some((alias, _))) => said.alias = alias,
                    (2..=3, Some((_, label))) => said.label = label,
                    _ => said.member += 1,
                }
                Body::TrackAnnounced(said)
            }
            Body::BeaconPosted(mut said) => {
                match roll {
                    0..=2 => said.member += 1,
                    _ => said.epoch = said.epoch.wrapping_add(1),
                }
                Body::BeaconPosted(said)
            }
            Body::IncomingRing(mut said) => {
                said.caller_device = self.earlier_device().unwrap_or(said.caller_device);
                Body::IncomingRing(said)
            }
            body => body,
        });
        RelayMessage { reply_to, body }
    }

    /// Something of a room that the relay never said.
    fn invent(&mut self) -> Option<RelayMessage> {
        let pick = self.rng.random_range(0..2);
        let said = |body| Some(RelayMessage { reply_to: 0, body: Some(body) });
        self.said.iter().rev().find_map(|message| match message.body.as_ref()? {
            Body::MlsDelivery(MlsDelivery { room, epoch, sequence, from_member, .. }) if pick == 0 => {
                let (room, epoch, sequence, from_member) = (room.clone(), *epoch, *sequence, *from_member);
                said(Body::CommitRejected(CommitRejected { room, epoch, sequence, from_member }))
            }
            Body::MemberJoined(joined) if pick == 1 => {
                let (room, member) = (joined.room.clone(), joined.member);
                said(Body::MemberLeft(MemberLeft { room, member, kicked: true }))
            }
            _ => None,
        })
    }

    fn earlier_payload(&mut self) -> Option<Bytes> {
        self.earlier(|body| if let Body::MlsDelivery(said) = body { Some(said.payload.clone()) } else { None })
    }

    fn earlier_device(&mut self) -> Option<Bytes> {
        self.earlier(|body| if let Body::MemberJoined(said) = body { Some(said.device.clone()) } else { None })
    }

    fn earlier_track(&mut self) -> Option<(u64, Bytes)> {
        let track = |body: &Body| match body {
            Body::TrackAnnounced(said) => Some((said.alias, said.label.clone())),
            _ => None,
        };
        self.earlier(track)
    }

    fn earlier<T>(&mut self, what: impl Fn(&Body) -> Option<T>) -> Option<T> {
        let mut all: Vec<T> = self.said.iter().filter_map(|message| what(message.body.as_ref()?)).collect();
        if all.is_empty() { None } else { Some(all.swap_remove(self.rng.random_range(0..all.len()))) }
    }

    /// The same with one byte changed.
    fn change(&mut self, bytes: &[u8]) -> Bytes {
        let mut changed = bytes.to_vec();
        if !changed.is_empty() {
            let place = self.rng.random_range(0..changed.len());
            changed[place] = self.rng.random();
        }
        changed.into()
    }
}

fn keep<T>(kept: &mut Vec<T>, most: usize, one: T, rng: &mut StdRng) {
    if kept.len() < most {
        return kept.push(one);
    }
    let place = rng.random_range(0..most);
    kept[place] = one;
}

/// An object as if it were of the track that another one is of.
fn passed_off(datagram: &Bytes, other: &Bytes) -> Option<Bytes> {
    let (header, length) = DatagramHeader::decode(datagram).ok()?;
    let (other, _) = DatagramHeader::decode(other).ok()?;
    let mut wire = BytesMut::new();
    put_datagram(&mut wire, Hop { alias: other.hop.alias, ..header.hop }, header.visible);
    wire.extend_from_slice(&datagram[length..]);
    Some(wire.freeze())
}
