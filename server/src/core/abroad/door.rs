//! Rings at the door of a room of which the members are at several nodes.
//!
//! The home of the room says who is in it, and at which nodes. From then on it is a ring as others: at home at the node of whoever
//! rings, with a leg to each node where somebody is in.

use std::collections::BTreeMap;

use bytes::Bytes;
use supernode_proto::{
    control::RefusalReason,
    identity::{IdentityKey, RoomId},
};

use super::{
    desk::Waits,
    legs::Starting,
    words::{Insider, Place, RingThere, key_bytes},
};
use crate::core::{
    Asked, NodeId, Now, Outbox, RingId, RoomAsk, SessionId, ShardCore,
    control::Refusal,
    registry::rings::{self, Caller},
};

/// Rings of one shard that wait for a home at most. Default 256: with the largest payloads 14 MiB. Above, they are refused at once.
const KNOCKS_MAX: usize = 256;

/// A ring that waits to hear who is in the room.
#[derive(Debug)]
pub(crate) struct Knock {
    id: RingId,
    payload: Bytes,
}

impl Knock {
    /// With a fresh and random name.
    pub(crate) fn new(id: RingId, payload: Bytes) -> Self {
        Self { id, payload }
    }
}

impl ShardCore {
    /// Somebody is at the door of a room: asks its home who is in it. The answer comes later.
    pub(in crate::core) fn ring_at_door(
        &mut self,
        link: u32,
        request: u64,
        room: RoomId,
        knock: Knock,
        now: Now,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let session = self.session_at(link)?;
        rings::may_start(&directory, session, &knock.payload, now)?;
        let from = session.id;
        if self.abroad.knocks.len() >= KNOCKS_MAX {
            return Err(Refusal::of(RefusalReason::HomeUnknown));
        }
        self.wait(link, room, request, Waits::Ring)?;
        self.abroad.knocks.insert((from.link, from.generation, request), knock);
        outbox.ask(RoomAsk { room, from, member: 0, request, what: Asked::Door });
        Ok(())
    }

    /// The home has said who is in: they ring, each at its node.
    pub(super) fn hear_inside(
        &mut self,
        room: RoomId,
        (to, request): (SessionId, u64),
        members: &[(IdentityKey, SessionId)],
        now: Now,
        outbox: &mut Outbox,
    ) {
        let Some(Knock { id, payload }) = self.take_knock(room, to, request) else { return };
        self.out(room, outbox);
        let (directory, own) = (self.directory.clone(), self.at.node);
        let Some(session) = self.session_mut(to.link).filter(|session| session.id == to) else { return };
        session.rings.push(id);
        let caller = Caller::of(session);
        let mut by_node: BTreeMap<NodeId, Vec<(IdentityKey, SessionId)>> = BTreeMap::new();
        for member in members {
            by_node.entry(member.1.at.node).or_default().push(*member);
        }
        let here = by_node.remove(&own).unwrap_or_default();
        let (devices, refusal) = match rings::mark_door(&directory, &caller, &here, id) {
            Ok(devices) => (devices, Refusal::of(RefusalReason::Offline)),
            Err(refusal) => (Vec::new(), refusal),
        };
        let room = Bytes::copy_from_slice(&room.0);
        rings::tell_devices(&devices, id, &caller, &payload, &room, outbox);
        let there =
            by_node.into_iter().filter(|(node, _)| self.abroad.nodes.contains_key(node)).map(|(node, members)| {
                let there = RingThere {
                    ring: Bytes::copy_from_slice(&id.0),
                    place: Some(Place::of(caller.session)),
                    caller: key_bytes(&caller.identity),
                    caller_device: Bytes::copy_from_slice(caller.device.as_bytes()),
                    payload: payload.clone(),
                    room: room.clone(),
                    inside: members.iter().map(|(identity, session)| Insider::of(identity, *session)).collect(),
                    ..RingThere::default()
                };
                (node, there)
            });
        let there = there.collect();
        let starting = Starting::at_door(request, caller.identity, refusal);
        self.begin_ring((id, caller.session), devices, starting, there, now, outbox);
    }
}
