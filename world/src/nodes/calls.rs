//! People ring each other, from node to node.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use supernode_proto::control::{
    AnswerRing, CancelRing, DeclineRing, DepositKeyPackages, KeyPackages as Packages, PresenceState, RefusalReason,
    Refused, Ring, RingOutcome, RingResult, TakeKeyPackages, client_message::Body as Request,
};

use super::{Nodes, ways::Event};
use crate::judge::{KeyPackages, Rings};

/// What a device waits to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Deposit,
    Take(usize),
    Ring(usize),
    Answer(Bytes),
    Decline(Bytes),
    Cancel,
    /// To come into a room.
    Enter(usize),
    Leave(usize),
    /// To put a member out, who was this session.
    PutOut(usize, u32, u64),
    /// In a room, as which member.
    Say(usize, u32),
    /// What was said in a room.
    Missed(usize),
}

/// A request of a session, and what it is about.
pub(super) struct Deed {
    device: usize,
    session: u64,
    asked: Asked,
    request: Request,
}

/// All rings and key packages.
#[derive(Default)]
pub(super) struct Calls {
    rings: Rings,
    packages: KeyPackages,
    /// What sessions wait for.
    asked: BTreeMap<(u64, u64), Asked>,
    requests: u64,
    /// Rings that have begun, whose callers wait for how they end.
    started: BTreeMap<Bytes, u64>,
    /// What rings at which session, and for a caller at which node.
    incoming: BTreeMap<(u64, Bytes), Option<usize>>,
    /// How often it has rung at a device.
    rang: u32,
    /// Rings that were answered.
    pub(super) answered: u64,
}

impl Nodes {
    pub(super) fn ask_for(&mut self, device: usize, asked: Asked, request: Request) {
        let it = &self.people.devices[device];
        let Some(seat) = it.seat else { return };
        // The first is of all that is not asked for here.
        self.calls.requests += 1;
        let number = self.calls.requests + 1;
        self.calls.asked.insert((it.session, number), asked);
        self.ask(seat, number, request);
    }

    /// Something that a session asks for soon.
    fn ask_soon(&mut self, device: usize, asked: Asked, request: Request) {
        let session = self.people.devices[device].session;
        let after = Duration::from_millis(self.rng.random_range(1..400));
        self.at(self.now + after, Event::Deed(Deed { device, session, asked, request }));
    }

    pub(super) fn do_deed(&mut self, deed: Deed) {
        let Deed { device, session, asked, request } = deed;
        if self.people.devices[device].session == session {
            self.ask_for(device, asked, request);
        }
    }

    pub(super) fn deposit(&mut self, device: usize) {
        let count = self.rng.random_range(0..6);
        let packages = (0..count).map(|_| self.calls.packages.fresh(false)).collect();
        let last_resort = self.calls.packages.fresh(true);
        self.ask_for(device, Asked::Deposit, Request::DepositKeyPackages(DepositKeyPackages { packages, last_resort }));
    }

    /// A device takes key packages of somebody, to ring them.
    pub(super) fn call(&mut self, device: usize, person: usize) {
        let (ticket, proof) = self.people.ticket(device, person);
        self.say(format_args!("device {device} calls {person}"));
        self.ask_for(device, Asked::Take(person), Request::TakeKeyPackages(TakeKeyPackages { ticket, proof }));
    }

    /// A reply to one of these.
    pub(super) fn replied(&mut self, device: usize, number: u64, refused: Option<&Refused>) -> Option<Asked> {
        if number < 2 {
            return None;
        }
        let session = self.people.devices[device].session;
        let Some(asked) = self.calls.asked.remove(&(session, number)) else {
            self.judge.fail(self.now, &format!("device {device} was told something twice"));
            return None;
        };
        if let Some(refused) = refused {
            let reason = refused.reason();
            let may_be = match asked {
                Asked::Deposit => false,
                Asked::Take(_) => matches!(reason, RefusalReason::Offline | RefusalReason::NoKeyPackage),
                Asked::Ring(_) => {
                    matches!(reason, RefusalReason::Offline | RefusalReason::NoKeyPackage | RefusalReason::Limit)
                }
                Asked::Answer(_) | Asked::Decline(_) | Asked::Cancel => reason == RefusalReason::UnknownRing,
                _ => self.refused_in_room(device, &asked, refused.reason),
            };
            self.say(format_args!("device {device} was refused {asked:?}: {reason:?}"));
            if !may_be {
                self.judge.fail(self.now, &format!("device {device} was refused {asked:?}: {refused:?}"));
            }
        }
        Some(asked)
    }

    /// Key packages, of somebody who is rung by them.
    pub(super) fn handed(&mut self, device: usize, person: usize, packages: &Packages) {
        for package in &packages.packages {
            if let Err((_, what)) = self.calls.packages.handed_out(&package.package) {
                self.judge.fail(self.now, &what);
            }
        }
        let (ticket, proof) = self.people.ticket(device, person);
        let ring = Ring { ticket, proof, ..Ring::default() };
        self.ask_soon(device, Asked::Ring(person), Request::Ring(ring));
    }

    pub(super) fn ring_started(&mut self, device: usize, ring: Bytes, devices: u32) {
        let session = self.people.devices[device].session;
        self.say(format_args!("device {device} rings {devices} devices"));
        if self.rng.random_ratio(1, 6) {
            let cancel = Request::CancelRing(CancelRing { ring: ring.clone() });
            self.ask_soon(device, Asked::Cancel, cancel);
        }
        self.calls.started.insert(ring, session);
    }

    pub(super) fn it_rings(&mut self, device: usize, ring: Bytes, caller: &[u8]) {
        let session = self.people.devices[device].session;
        self.say(format_args!("it rings at device {device}"));
        self.calls.rang += 1;
        let caller = self.people.devices.iter().find(|it| it.secret.public().as_bytes()[..] == *caller);
        let home = caller.and_then(|caller| caller.seat).map(|seat| seat.node);
        self.calls.incoming.insert((session, ring.clone()), home);
        let (asked, request) = match self.rng.random_range(0..8) {
            0..=3 => {
                let answer = AnswerRing { ring: ring.clone(), payload: Bytes::from_static(b"answer") };
                (Asked::Answer(ring), Request::AnswerRing(answer))
            }
            4 => (Asked::Decline(ring.clone()), Request::DeclineRing(DeclineRing { ring, busy: false })),
            5 => (Asked::Decline(ring.clone()), Request::DeclineRing(DeclineRing { ring, busy: true })),
            _ => return,
        };
        self.ask_soon(device, asked, request);
    }

    /// A device's answer counts.
    pub(super) fn answer_counts(&mut self, device: usize, ring: &Bytes) {
        self.calls.answered += 1;
        self.stopped(device, ring);
        if let Err((_, what)) = self.calls.rings.answered(ring, device) {
            self.judge.fail(self.now, &what);
        }
    }

    /// It does not ring there any more.
    pub(super) fn stopped(&mut self, device: usize, ring: &Bytes) {
        let session = self.people.devices[device].session;
        self.calls.incoming.remove(&(session, ring.clone()));
    }

    pub(super) fn ring_over(&mut self, device: usize, outcome: &RingOutcome) {
        let by = self.people.devices.iter().position(|it| it.secret.public().as_bytes()[..] == outcome.device[..]);
        let result = outcome.result();
        self.say(format_args!("a ring of device {device} ends as {result:?} by {by:?}"));
        if self.calls.started.remove(&outcome.ring).is_none() {
            self.judge.fail(self.now, "a ring ended that had not begun");
        }
        if result == RingResult::Answered && outcome.payload != "answer" {
            self.judge.fail(self.now, "an answer came without what it says");
        }
        if let Err((_, what)) = self.calls.rings.outcome(&outcome.ring, result, by) {
            self.judge.fail(self.now, &what);
        }
    }

    /// A node has noticed that it does not reach another: what rings there for callers at that one.
    pub(super) fn rings_between(&self, place: usize, home: usize) -> Vec<(u64, Bytes)> {
        let is_at = |session: &u64| {
            let mut devices = self.people.devices.iter().filter(|device| device.session == *session);
            devices.any(|device| device.seat.is_some_and(|seat| seat.node == place))
        };
        let incoming = self.calls.incoming.iter();
        let between = incoming.filter(|((session, _), caller)| **caller == Some(home) && is_at(session));
        between.map(|(ring, _)| ring.clone()).collect()
    }

    /// They must have ended.
    pub(super) fn look_at_broken(&mut self, rings: &[(u64, Bytes)]) {
        let is_on =
            |session: u64| self.people.devices.iter().any(|device| device.seat.is_some() && device.session == session);
        let goes_on = |ring: &&(u64, Bytes)| self.calls.incoming.contains_key(*ring) && is_on(ring.0);
        if let Some((session, _)) = rings.iter().find(goes_on) {
            let what = format!("it rings on at session {session}, whose node does not reach the caller's");
            self.judge.fail(self.now, &what);
        }
    }

    /// Where nothing happens any more, no ring rings, and nobody waits for an answer.
    pub(super) fn look_at_rings(&mut self) {
        let is_on = |session: &u64| {
            self.people.devices.iter().any(|device| device.seat.is_some() && device.session == *session)
        };
        let started = self.calls.started.values().filter(|session| is_on(session)).count();
        let incoming = self.calls.incoming.keys().filter(|(session, _)| is_on(session)).count();
        let asked = self.calls.asked.keys().filter(|(session, _)| is_on(session)).count();
        let rings: u64 = self.nodes.iter().flatten().map(|node| node.directory.population().rings).sum();
        if started + incoming + asked > 0 || rings > 0 {
            let what = format!(
                "{started} rings have not ended, {incoming} ring, {asked} requests wait; {rings} rings in tables"
            );
            self.judge.fail(self.now, &what);
        }
        // Of sessions that are over, nothing comes any more.
        (self.calls.started, self.calls.incoming, self.calls.asked) = Default::default();
    }

    /// Where nothing is wrong, a ring reaches all devices that it should, at whichever nodes they are.
    pub(super) fn look_whether_all_ring(&mut self) {
        for device in 0..self.people.devices.len() {
            let person = self.rng.random_range(0..self.people.people.len());
            let caller = &self.people.devices[device];
            if caller.seat.is_none() || !self.is_sound() {
                continue;
            }
            let caller_person = caller.person;
            let callees = || {
                self.people
                    .devices
                    .iter()
                    .enumerate()
                    .filter(|(number, it)| it.person == person && it.seat.is_some() && *number != device)
            };
            let is_shut_out = callees().any(|(_, it)| it.blocked.contains(&caller_person))
                || (caller_person == person && caller.blocked.contains(&person));
            let rung = callees().filter(|(_, it)| {
                it.shown.as_ref().is_none_or(|(state, _)| *state != PresenceState::Invisible) && !is_shut_out
            });
            let rung = rung.count() as u32;
            self.calls.rang = 0;
            self.call(device, person);
            self.pass(Duration::from_secs(12));
            // A ring that is settled before all nodes have said how many ring is said to ring fewer.
            let rang = self.calls.rang;
            if rang != rung {
                let what = format!("device {device} rings {rang} devices of {person}, and there are {rung}");
                self.judge.fail(self.now, &what);
            }
        }
        if self.is_sound() {
            self.look_at_rings();
        }
    }
}
