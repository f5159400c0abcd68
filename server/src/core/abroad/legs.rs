//! Rings that reach devices at other nodes.
//!
//! The node of the caller is a ring's home: there it is settled, once. It has a *leg* to each node where devices ring; that node has
//! a *guest*, an entry of the same ring with its own devices, and asks the home whether an answer counts. A leg breaks with the
//! link to its node: to the home as if its devices went, to the devices as if the caller did.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use supernode_proto::{
    control::{RefusalReason, RingEnded, RingResult, RingStarted, relay_message::Body},
    identity::{DeviceKey, IdentityKey, Ticket},
};

use super::{
    takes::{ASKED, WAIT},
    words::{Answer, LegOut, Over, Place, RangThere, RingThere, Said, key_bytes},
};
use crate::core::{
    Address, ControlMail, NodeId, Now, Outbox, RingId, SessionId, ShardCore,
    control::Refusal,
    registry::{
        directory::{Directory, Ring},
        rings::{self, Caller, Winner},
    },
    session::Session,
    timers::Due,
};

/// How long a guest outlives what its home would let it ring. Default 5 s: longer than a link's break goes unnoticed.
const GUEST_GRACE: Duration = Duration::from_secs(5);

/// A node's part in a ring that reaches devices at others.
#[derive(Debug)]
pub(crate) enum Part {
    /// At its home.
    Home {
        legs: Vec<Leg>,
        /// Its caller was not told yet that it has begun.
        starting: Option<Starting>,
    },
    /// At another node: whose answer the home is asked about.
    Guest { answering: Option<(SessionId, u64)> },
}

/// Devices of the callee at another node.
#[derive(Debug)]
pub(crate) struct Leg {
    node: NodeId,
    /// How many ring, once that is known.
    devices: Option<u32>,
}

/// A request for a ring that waits for other nodes.
#[derive(Debug)]
pub(crate) struct Starting {
    request: u64,
    /// Whose pages are woken if nobody is there; nobody's if it rings a room.
    callee: Option<(IdentityKey, u32)>,
    caller: IdentityKey,
    /// Why none rings, if none does.
    refusal: Refusal,
}

impl Starting {
    /// Of a ring at the door of a room.
    pub(super) fn at_door(request: u64, caller: IdentityKey, refusal: Refusal) -> Self {
        Self { request, callee: None, caller, refusal }
    }
}

impl Ring {
    /// The legs of one that is at home here.
    fn legs_mut(&mut self) -> Option<(&mut Vec<Leg>, &mut Option<Starting>)> {
        match self.abroad.as_deref_mut()? {
            Part::Home { legs, starting } => Some((legs, starting)),
            Part::Guest { .. } => None,
        }
    }

    fn is_guest_of(&self, node: NodeId) -> bool {
        self.caller.at.node == node && matches!(self.abroad.as_deref(), Some(Part::Guest { .. }))
    }

    /// Whether nobody rings any more, at any node.
    pub(crate) fn is_over(&self) -> bool {
        let has_legs = matches!(self.abroad.as_deref(), Some(Part::Home { legs, .. }) if !legs.is_empty());
        self.devices.is_empty() && !has_legs
    }

    /// How many devices ring, as far as that is known.
    fn ringing(&self) -> u32 {
        let elsewhere = match self.abroad.as_deref() {
            Some(Part::Home { legs, .. }) => legs.iter().filter_map(|leg| leg.devices).sum(),
            _ => 0,
        };
        self.devices.len() as u32 + elsewhere
    }
}

impl ShardCore {
    /// Rings somebody of whom devices at other nodes were handed out. The answer comes later.
    #[expect(clippy::too_many_arguments, reason = "what a ring is made of")]
    pub(in crate::core) fn ring_everywhere(
        &mut self,
        link: u32,
        request: u64,
        ticket: &Ticket,
        id: RingId,
        payload: &Bytes,
        now: Now,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let session = self.session_at(link)?;
        rings::may_start(&directory, session, payload, now)?;
        let (caller, called) = (Caller::of(session), (ticket.issuer, ticket.generation));
        let at = session.handed.iter().position(|handed| handed.callee == ticket.issuer);
        let Some(handed) = at.map(|at| session.handed.remove(at)) else {
            return Err(Refusal::of(RefusalReason::NoKeyPackage));
        };
        if rings::is_shut_out(&directory, &caller, called) {
            return Err(Refusal::of(RefusalReason::Offline));
        }
        let here = rings::mark_ringing(&directory, &caller, called, &handed.devices, id);
        let (devices, refusal) = match here {
            Ok(devices) => (devices, Refusal::of(RefusalReason::Offline)),
            Err(refusal) => (Vec::new(), refusal),
        };
        session.rings.push(id);
        let mut by_node: BTreeMap<NodeId, Vec<Bytes>> = BTreeMap::new();
        for (node, device) in handed.elsewhere.iter().filter(|(node, _)| self.abroad.nodes.contains_key(node)) {
            by_node.entry(*node).or_default().push(Bytes::copy_from_slice(device.as_bytes()));
        }
        rings::tell_devices(&devices, id, &caller, payload, &Bytes::new(), outbox);
        let starting = Starting { request, callee: Some(called), caller: caller.identity, refusal };
        let there = by_node.into_iter().map(|(node, devices)| {
            let there = RingThere {
                ring: Bytes::copy_from_slice(&id.0),
                place: Some(Place::of(caller.session)),
                callee: key_bytes(&called.0),
                generation: called.1,
                caller: key_bytes(&caller.identity),
                caller_device: Bytes::copy_from_slice(caller.device.as_bytes()),
                devices,
                payload: payload.clone(),
                ..RingThere::default()
            };
            (node, there)
        });
        self.begin_ring((id, caller.session), devices, starting, there.collect(), now, outbox);
        Ok(())
    }

    /// A ring is at home here, and these nodes are asked to ring, too.
    pub(super) fn begin_ring(
        &mut self,
        (id, caller): (RingId, SessionId),
        devices: Vec<(IdentityKey, SessionId)>,
        starting: Starting,
        there: Vec<(NodeId, RingThere)>,
        now: Now,
        outbox: &mut Outbox,
    ) {
        let legs = there.iter().map(|(node, _)| Leg { node: *node, devices: None }).collect();
        let abroad = Some(Box::new(Part::Home { legs, starting: Some(starting) }));
        self.directory.rings.insert(id, Ring { caller, devices, busy: false, abroad });
        self.timers.insert(now.instant + self.directory.limits().ring_timeout, Due::Ring(id));
        self.timers.insert(now.instant + WAIT, Due::RingStart(id));
        for (node, there) in there {
            self.say(node, ASKED.0.into(), &Said::RingThere(there), outbox);
        }
        self.check_start(id, false, now, outbox);
    }

    /// Tells the caller that its ring has begun, or that it has not, once all nodes have answered, or `anyway`.
    pub(in crate::core) fn check_start(&mut self, id: RingId, anyway: bool, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        let started = {
            let Some(mut ring) = directory.rings.get_mut(&id) else { return };
            let caller = ring.caller;
            let Some((legs, starting)) = ring.legs_mut() else { return };
            if starting.is_none() || (!anyway && legs.iter().any(|leg| leg.devices.is_none())) {
                return;
            }
            // Who has not answered by now does not ring.
            legs.extract_if(.., |leg| leg.devices.is_none())
                .for_each(|leg| say_over(leg.node, id, RingResult::Gone, None, outbox));
            let starting = starting.take();
            let ringing = ring.ringing();
            (starting, caller, ringing)
        };
        let (Some(starting), caller, ringing) = started else { return };
        if ringing > 0 {
            return tell_started(caller, &starting, id, ringing, outbox);
        }
        directory.rings.remove(&id);
        if let Some(callee) = starting.callee.filter(|_| starting.refusal.reason == RefusalReason::Offline) {
            self.wake_everywhere(&starting.caller, callee, now, outbox);
        }
        outbox.refuse(caller, starting.request, starting.refusal.into());
    }

    /// Another node's session rings devices here.
    pub(super) fn hear_ring(&mut self, from: NodeId, there: RingThere, now: Now, outbox: &mut Outbox) {
        let (Ok(id), Some(place), Ok(identity), Ok(device)) = (
            RingId::from_slice(&there.ring),
            there.place,
            IdentityKey::from_slice(&there.caller),
            DeviceKey::from_slice(&there.caller_device),
        ) else {
            return;
        };
        let directory = self.directory.clone();
        let caller = Caller { session: place.at(from), identity, device };
        let marked = match directory.is_draining() || directory.rings.contains_key(&id) {
            true => Err(Refusal::of(RefusalReason::Offline)),
            false => self.mark_there(&there, &caller, id),
        };
        let mut rang = RangThere { ring: there.ring, ..RangThere::default() };
        match marked {
            Ok(devices) => {
                rang.devices = devices.len() as u32;
                let abroad = Some(Box::new(Part::Guest { answering: None }));
                let ring = Ring { caller: caller.session, devices: devices.clone(), busy: false, abroad };
                directory.rings.insert(id, ring);
                self.abroad.guests.insert(id, from);
                self.timers.insert(now.instant + directory.limits().ring_timeout + GUEST_GRACE, Due::Ring(id));
                rings::tell_devices(&devices, id, &caller, &there.payload, &there.room, outbox);
            }
            Err(refusal) => {
                (rang.refused, rang.bound) = (refusal.reason.into(), refusal.bound);
                rang.detail = refusal.detail.to_owned();
            }
        }
        self.say(from, place.shard, &Said::RangThere(rang), outbox);
    }

    /// Takes places for a ring of another node on the callee's devices, or on those who are in a room.
    fn mark_there(
        &self,
        there: &RingThere,
        caller: &Caller,
        id: RingId,
    ) -> Result<Vec<(IdentityKey, SessionId)>, Refusal> {
        if !there.room.is_empty() {
            let members: Vec<_> = there.inside.iter().filter_map(|insider| insider.at(self.at.node)).collect();
            return rings::mark_door(&self.directory, caller, &members, id);
        }
        let callee = IdentityKey::from_slice(&there.callee).map_err(|_| Refusal::of(RefusalReason::Offline))?;
        let devices: Vec<DeviceKey> =
            there.devices.iter().filter_map(|device| DeviceKey::from_slice(device).ok()).collect();
        rings::mark_ringing(&self.directory, caller, (callee, there.generation), &devices, id)
    }

    /// How many devices ring at another node.
    pub(super) fn hear_rang(&mut self, from: NodeId, rang: &RangThere, now: Now, outbox: &mut Outbox) {
        let Ok(id) = RingId::from_slice(&rang.ring) else { return };
        let directory = self.directory.clone();
        {
            let Some(mut ring) = directory.rings.get_mut(&id) else { return };
            let Some((legs, starting)) = ring.legs_mut() else { return };
            if rang.devices > 0 {
                legs.iter_mut().filter(|leg| leg.node == from).for_each(|leg| leg.devices = Some(rang.devices));
            } else {
                legs.retain(|leg| leg.node != from);
                if let (Some(starting), Some(refusal)) = (starting, refusal_of(rang)) {
                    starting.refusal = refusal;
                }
            }
        }
        self.check_start(id, false, now, outbox);
        rings::end_if_over(&directory, id, outbox);
    }

    /// A device at another node answers, or declines for the person.
    pub(super) fn hear_answer(&mut self, from: NodeId, answer: Answer, outbox: &mut Outbox) {
        let (Ok(id), Some(place)) = (RingId::from_slice(&answer.ring), answer.place) else { return };
        let directory = self.directory.clone();
        let rings_there = |ring: &Ring| matches!(ring.abroad.as_deref(), Some(Part::Home { legs, .. }) if legs.iter().any(|leg| leg.node == from));
        let Some(ring) = take_if(&directory, id, rings_there) else { return };
        let winner = Winner { session: place.at(from), device: answer.device, payload: answer.payload };
        let result = if answer.is_declined { RingResult::Declined } else { RingResult::Answered };
        rings::settle(&directory, id, &ring, result, Some(winner), outbox);
    }

    /// No device of another node rings any more.
    pub(super) fn hear_leg_out(&mut self, from: NodeId, out: &LegOut, now: Now, outbox: &mut Outbox) {
        if let Ok(id) = RingId::from_slice(&out.ring) {
            self.leg_out(from, id, out.is_busy, now, outbox);
        }
    }

    fn leg_out(&mut self, node: NodeId, id: RingId, is_busy: bool, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        {
            let Some(mut ring) = directory.rings.get_mut(&id) else { return };
            let Some((legs, _)) = ring.legs_mut() else { return };
            let before = legs.len();
            legs.retain(|leg| leg.node != node);
            if legs.len() == before {
                return;
            }
            ring.busy |= is_busy;
        }
        self.check_start(id, false, now, outbox);
        rings::end_if_over(&directory, id, outbox);
    }

    /// The home says that a ring is over.
    pub(super) fn hear_over(&mut self, from: NodeId, over: &Over, outbox: &mut Outbox) {
        let Ok(id) = RingId::from_slice(&over.ring) else { return };
        let winner = over.winner.as_ref().map(|place| place.at(self.at.node));
        self.end_guest(from, id, RingResult::try_from(over.result).unwrap_or(RingResult::Gone), winner, outbox);
    }

    fn end_guest(
        &mut self,
        home: NodeId,
        id: RingId,
        result: RingResult,
        winner: Option<SessionId>,
        outbox: &mut Outbox,
    ) {
        self.abroad.guests.remove(&id);
        let Some(ring) = self.directory.rings.remove_if(&id, |ring| ring.is_guest_of(home)) else { return };
        end_guest(&self.directory, id, &ring, result, winner, outbox);
    }

    /// A node is gone: its devices do not ring for anybody here any more, and its callers ring nobody here.
    pub(super) fn rings_without(&mut self, node: NodeId, now: Now, outbox: &mut Outbox) {
        if crate::planted::planted!(LegStays) {
            return;
        }
        let own: Vec<RingId> = self.sessions.iter().flatten().flat_map(|session| &session.rings).copied().collect();
        own.into_iter().for_each(|id| self.leg_out(node, id, false, now, outbox));
        let guests: Vec<RingId> =
            self.abroad.guests.iter().filter(|(_, home)| **home == node).map(|(id, _)| *id).collect();
        guests.into_iter().for_each(|id| self.end_guest(node, id, RingResult::Gone, None, outbox));
    }
}

/// Takes a ring, if it is one of these.
fn take_if(directory: &Directory, id: RingId, is_it: impl Fn(&Ring) -> bool) -> Option<Ring> {
    if crate::planted::planted!(RingSettledAgain)
        && let Some(ring) = directory.rings.get(&id).filter(|ring| is_it(ring))
    {
        return Some(Ring { caller: ring.caller, devices: ring.devices.clone(), busy: ring.busy, abroad: None });
    }
    directory.rings.remove_if(&id, is_it)
}

/// Asks a ring's home whether an answer counts, if that is another node; whether it is.
pub(crate) fn answer_elsewhere(
    directory: &Directory,
    session: &Session,
    request: u64,
    id: RingId,
    payload: Option<&Bytes>,
    outbox: &mut Outbox,
) -> Result<bool, Refusal> {
    let Some(mut ring) = directory.rings.get_mut(&id) else { return Ok(false) };
    let is_ringing = ring.devices.iter().any(|(_, ringing)| *ringing == session.id);
    let home = ring.caller.at;
    let Some(Part::Guest { answering }) = ring.abroad.as_deref_mut() else { return Ok(false) };
    if !is_ringing || answering.is_some() {
        return Err(Refusal::of(RefusalReason::UnknownRing));
    }
    *answering = Some((session.id, request));
    let answer = Said::Answer(Answer {
        ring: Bytes::copy_from_slice(&id.0),
        place: Some(Place::of(session.id)),
        device: Bytes::copy_from_slice(session.device.as_bytes()),
        payload: payload.cloned().unwrap_or_default(),
        is_declined: payload.is_none(),
    });
    let from = outbox.homes().node();
    outbox.mail(home, ControlMail::FromNode { from, words: answer.to_bytes() });
    Ok(true)
}

/// What other nodes are told of a ring that is settled. Whether this is its home, so that its caller is told here.
pub(crate) fn settle_elsewhere(
    directory: &Directory,
    id: RingId,
    ring: &Ring,
    result: RingResult,
    winner: Option<SessionId>,
    outbox: &mut Outbox,
) -> bool {
    let ended = if result == RingResult::Answered { RingResult::AnsweredElsewhere } else { result };
    match ring.abroad.as_deref() {
        None => true,
        Some(Part::Home { legs, starting }) => {
            if let Some(starting) = starting {
                tell_started(ring.caller, starting, id, ring.ringing().max(1), outbox);
            }
            for leg in legs {
                say_over(leg.node, id, ended, winner.filter(|winner| winner.at.node == leg.node), outbox);
            }
            true
        }
        Some(Part::Guest { .. }) => {
            end_guest(directory, id, ring, ended, None, outbox);
            let out = Said::LegOut(LegOut { ring: Bytes::copy_from_slice(&id.0), is_busy: ring.busy });
            let from = outbox.homes().node();
            outbox.mail(ring.caller.at, ControlMail::FromNode { from, words: out.to_bytes() });
            false
        }
    }
}

/// A guest that is no more: its devices stop ringing, and whoever waits to hear whether its answer counts does.
fn end_guest(
    directory: &Directory,
    id: RingId,
    ring: &Ring,
    result: RingResult,
    winner: Option<SessionId>,
    outbox: &mut Outbox,
) {
    for (identity, session) in &ring.devices {
        rings::unmark(directory, identity, id);
        if winner != Some(*session) {
            let ring = Bytes::copy_from_slice(&id.0);
            outbox.event(*session, Body::RingEnded(RingEnded { ring, result: result.into() }));
        }
    }
    if let Some(Part::Guest { answering: Some((session, request)) }) = ring.abroad.as_deref() {
        match winner == Some(*session) {
            true => outbox.done(*session, *request),
            false => outbox.refuse(*session, *request, Refusal::of(RefusalReason::UnknownRing).into()),
        }
    }
}

fn tell_started(caller: SessionId, starting: &Starting, id: RingId, devices: u32, outbox: &mut Outbox) {
    outbox.counts.rings_started += 1;
    let started = RingStarted { ring: Bytes::copy_from_slice(&id.0), devices };
    outbox.reply(caller, starting.request, Body::RingStarted(started));
}

fn say_over(node: NodeId, id: RingId, result: RingResult, winner: Option<SessionId>, outbox: &mut Outbox) {
    let ring = Bytes::copy_from_slice(&id.0);
    let over = Said::Over(Over { ring, result: result.into(), winner: winner.map(Place::of) });
    let from = outbox.homes().node();
    outbox.mail(Address { node, shard: ASKED }, ControlMail::FromNode { from, words: over.to_bytes() });
}

fn refusal_of(rang: &RangThere) -> Option<Refusal> {
    match (RefusalReason::try_from(rang.refused), rang.detail.as_str()) {
        (Ok(RefusalReason::Limit), "rings_per_pair_max") => {
            Some(Refusal::limit("rings_per_pair_max", rang.bound, rang.bound))
        }
        (Ok(RefusalReason::Limit), _) => Some(Refusal::limit("incoming_rings_max", rang.bound, rang.bound)),
        _ => None,
    }
}
