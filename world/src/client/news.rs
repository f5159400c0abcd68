//! What the session has to tell, and what a client makes of it.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use supernode_proto::{
    control::{
        AnswerRing, DeclineRing, LeaveRoom, MemberJoined, RefusalReason, Ring, RingResult, RoomJoined,
        client_message::Body as Request, relay_message::Body,
    },
    identity::RoomId,
    object::TrackAlias,
};
use supernode_session::{Event, Reply, RoomEvent};

use super::{Asked, Client, Context, Stay};
use crate::judge::Rule;

impl Client {
    pub(super) fn handle_news(&mut self, cx: &mut Context<'_>) {
        if self.by_hand.is_some() {
            return self.keep_news(cx.now);
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Reply { to, reply } => {
                    self.has.waiting = self.has.waiting.saturating_sub(1);
                    self.handle_reply(to, reply, cx);
                }
                Event::Unanswered(_) => {}
                Event::KeyPackagesWanted(count) => {
                    let packages: Vec<Bytes> = (0..count).map(|_| cx.judge.key_packages.fresh(false)).collect();
                    let last_resort = cx.judge.key_packages.fresh(true);
                    self.session.deposit(Some(last_resort), packages);
                }
                Event::Presence(identity, presence) => {
                    if let Some(person) = cx.cast.person(&identity) {
                        let Self { number, .. } = self;
                        let (state, devices) = (presence.state, presence.devices);
                        cx.trace.tell(cx.now, format_args!("client {number} sees {person} {state:?} on {devices}"));
                        self.has.watches.insert(person);
                        self.has.seen.insert(person, presence);
                    }
                }
                Event::WatchEnded(identity, _) => {
                    if let Some(person) = cx.cast.person(&identity) {
                        self.has.watches.remove(&person);
                    }
                }
                Event::IncomingRing(ring) if !ring.room.is_empty() => self.handle_ring_at_door(ring, cx),
                Event::IncomingRing(ring) => self.handle_incoming(ring.ring, &ring.payload, cx),
                Event::RingEnded(ring, _) => {
                    self.has.ringing.retain(|(_, ringing, _)| *ringing != ring);
                    self.handle_door_ring_ended(&ring);
                }
                Event::RingOutcome(outcome) => {
                    let (result, device) = (outcome.result(), cx.cast.device(&outcome.device));
                    cx.trace.tell(cx.now, format_args!("client {} hears {result:?} of its ring", self.number));
                    let verdict = cx.judge.rings.outcome(&outcome.ring, result, device);
                    cx.judge.check(cx.now, verdict);
                    self.has.own_rings.retain(|ring| *ring != outcome.ring);
                    if self.handle_knock_outcome(&outcome, cx) {
                        continue;
                    }
                    if result != RingResult::Answered {
                        self.leave_where_alone(cx);
                    }
                }
                Event::RingLost(ring) => self.handle_knock_lost(&ring, cx),
                Event::RungChanged(_) | Event::DevicesRevoked(_) => {}
                Event::Room(id, event) if self.has_group(&id) => self.handle_in_group(&id, event, cx),
                Event::Room(id, event) => {
                    if let Some(room) = cx.cast.room(&id) {
                        self.handle_room(room, event, cx);
                    }
                }
                Event::KeyframeRequested(alias) => self.handle_keyframe_wish(alias),
                Event::Demand(alias, demand) => self.handle_demand(alias, demand),
                Event::GoAway(notice) => self.handle_go_away(&notice, cx),
            }
        }
    }

    fn handle_reply(&mut self, to: Asked, reply: Reply, cx: &mut Context<'_>) {
        let number = self.number;
        let link = self.current.unwrap_or_default();
        // What the relay says, it said by then: the reply was in a packet that has come.
        let said_by = self.link_mut().map_or(cx.now, |link| link.left_latest);
        match (to, reply) {
            (Asked::Join(room), Ok(Body::RoomJoined(joined))) => self.handle_joined(room, &joined, cx),
            (Asked::Join(room), Err(_)) => {
                self.has.rooms.remove(&room);
            }
            (Asked::Leave(room), Ok(_)) => {
                cx.judge.media.has_left(number, room, link, said_by);
                self.handle_left(room);
                self.forget_room(room, cx);
            }
            (Asked::Leave(room), Err(_)) => {
                self.handle_left(room);
                self.forget_room(room, cx);
            }
            // Taken or not: without it, the others wait.
            (Asked::Goodbye(room), _) => {
                let leave = LeaveRoom { room: cx.cast.rooms[room].name() };
                self.ask(Request::LeaveRoom(leave), Asked::Leave(room));
            }
            (Asked::Group(id, what), reply) => self.handle_group_reply(&id, what, reply, cx),
            (Asked::Kick { room, member, life, device }, Ok(_)) => {
                cx.trace.tell(cx.now, format_args!("client {number} has put {device} out of room {room}"));
                if let Some(life) = life {
                    cx.judge.media.was_kicked(device, room, (member, life), said_by);
                }
            }
            (Asked::Say { room, epoch, commit }, Ok(_)) => {
                if let Some(stay) = self.has.rooms.get_mut(&room).filter(|_| commit) {
                    stay.epoch = stay.epoch.max(epoch + 1);
                    let verdict = cx.judge.mailboxes.commits(number, room, epoch, number);
                    cx.judge.check(cx.now, verdict);
                }
            }
            (Asked::Say { room, .. }, Err(refusal)) => {
                cx.trace.tell(cx.now, format_args!("client {number} may not say so in room {room}: {refusal}"));
                cx.judge.mailboxes.refused(number, room);
            }
            (Asked::Publish(serial), Ok(Body::TrackPublished(published))) => {
                if let Some(alias) = TrackAlias::new(published.alias) {
                    cx.judge.media.published(serial, alias);
                    self.handle_published(serial, alias, cx);
                }
            }
            (Asked::Publish(serial), _) => self.handle_not_published(serial, cx),
            (Asked::Subscribe(alias), Err(_)) => {
                self.has.remotes.remove(&alias);
                self.unsubscribe_sealed(alias, cx);
            }
            (Asked::Unsubscribe(alias), _) => {
                self.has.remotes.remove(&alias);
            }
            (Asked::Presence(state, status), Ok(_)) => self.has.shown = Some((state, status)),
            (Asked::Watch(person), Ok(_)) => {
                self.has.watches.insert(person);
            }
            (Asked::Take(callee), Ok(Body::KeyPackages(packages))) => {
                for package in &packages.packages {
                    let verdict = cx.judge.key_packages.handed_out(&package.package);
                    cx.judge.check(cx.now, verdict);
                }
                self.ring_now(callee, cx);
            }
            (Asked::Ring, Ok(Body::RingStarted(started))) => self.has.own_rings.push(started.ring),
            (Asked::Answer { ring, room }, Ok(_)) => {
                let verdict = cx.judge.rings.answered(&ring, number);
                cx.judge.check(cx.now, verdict);
                self.join(room, self.call_wish(), cx);
            }
            (Asked::Intrude, Ok(_)) => {
                cx.judge.fail(cx.now, Rule::Outsider, format!("client {number} was let at a track of another room"));
            }
            (Asked::Intrude, Err(refusal)) if refusal.reason == RefusalReason::UnknownTrack => {}
            (Asked::Intrude, Err(refusal)) if refusal.reason != RefusalReason::Limit => {
                cx.judge.fail(cx.now, Rule::Outsider, format!("client {number} learns of another room: {refusal}"));
            }
            _ => {}
        }
    }

    fn handle_joined(&mut self, room: usize, joined: &RoomJoined, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let who = |member: &MemberJoined| Some((member.member, cx.cast.device(&member.device)?));
        let others: Vec<(u32, usize)> =
            joined.members.iter().filter(|other| other.member != joined.member).filter_map(who).collect();
        cx.trace.tell(cx.now, format_args!("client {number} is in room {room} with {others:?}"));
        let process = self.link_mut().map_or(0, |link| link.process);
        let (place, at) = ((number, room), (link, process));
        let life = cx.judge.mailboxes.joined(place, at, joined.member, &others, joined.mls_sequence);
        cx.judge.media.is_in(number, room, link, joined.member, life);
        let stay = self.has.rooms.entry(room).or_default();
        (stay.member, stay.epoch) = (Some(joined.member), joined.mls_epoch);
        stay.others.extend(others);
        for kind in self.wants.rooms.get(&room).map(|wish| wish.kinds.clone()).unwrap_or_default() {
            self.publish(room, kind, cx);
        }
    }

    fn handle_room(&mut self, room: usize, event: RoomEvent, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let Some(stay) = self.has.rooms.get_mut(&room) else { return };
        match event {
            RoomEvent::MemberJoined(joined) => {
                if let Some(device) = cx.cast.device(&joined.device) {
                    stay.others.insert(joined.member, device);
                }
            }
            RoomEvent::MemberLeft { member, .. } if stay.member == Some(member) => {
                cx.trace.tell(cx.now, format_args!("client {number} is out of room {room}"));
                self.forget_room(room, cx);
            }
            RoomEvent::MemberLeft { member, .. } => {
                stay.others.remove(&member);
            }
            RoomEvent::Mls(delivery) => {
                let from = delivery.from_member;
                let what =
                    format_args!("client {number} gets message {} of room {room} from {from}", delivery.sequence);
                cx.trace.tell(cx.now, what);
                if delivery.commit {
                    stay.epoch = delivery.epoch + 1;
                }
                if stay.member.is_some() {
                    if let Some(sender) = stay.others.get(&delivery.from_member).filter(|_| delivery.commit) {
                        let verdict = cx.judge.mailboxes.commits(number, room, delivery.epoch, *sender);
                        cx.judge.check(cx.now, verdict);
                    }
                    let verdict =
                        cx.judge.mailboxes.delivered(number, room, link, delivery.sequence, &delivery.payload);
                    cx.judge.check(cx.now, verdict);
                }
            }
            RoomEvent::TrackAnnounced(announced) => {
                stay.tracks.extend(TrackAlias::new(announced.alias));
                self.handle_announced(&announced, cx);
            }
            RoomEvent::TrackEnded(alias) => {
                stay.tracks.remove(&alias);
                self.has.remotes.remove(&alias);
            }
            RoomEvent::CommitRejected(_) | RoomEvent::Beacon(_) => {}
        }
    }

    /// The room is not ours any more.
    pub(super) fn forget_room(&mut self, room: usize, cx: &mut Context<'_>) {
        self.has.rooms.remove(&room);
        self.wants.rooms.remove(&room);
        self.has.published.retain(|track| track.room != room);
        self.has.remotes.retain(|_, remote| remote.room != room);
        cx.judge.mailboxes.left(self.number, room);
    }

    /// Whoever is rung answers, declines or looks away. The payload names the room of the call.
    fn handle_incoming(&mut self, ring: Bytes, payload: &Bytes, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} is rung", self.number));
        let room = RoomId::from_slice(payload).ok().and_then(|id| cx.cast.room(&id));
        // Two devices of a person may be picked up at once.
        let is_quick = self.rng.random_bool(0.5);
        let after = Duration::from_millis(if is_quick { 200 } else { self.rng.random_range(50..4_000) });
        if let Some(room) = room.filter(|_| self.rng.random_bool(0.8)) {
            self.has.ringing.push((cx.now + after, ring, room));
        }
    }

    /// What it has put off.
    pub(super) fn act(&mut self, cx: &mut Context<'_>) {
        let (due, later) = std::mem::take(&mut self.has.ringing).into_iter().partition(|(at, ..)| *at <= cx.now);
        self.has.ringing = later;
        let due: Vec<_> = due;
        for (_, ring, room) in due {
            let request = match self.rng.random_range(0..10) {
                0 => Request::DeclineRing(DeclineRing { ring: ring.clone(), busy: true }),
                1 => Request::DeclineRing(DeclineRing { ring: ring.clone(), busy: false }),
                _ => Request::AnswerRing(AnswerRing { ring: ring.clone(), payload: Bytes::new() }),
            };
            let asked = match request {
                Request::AnswerRing(_) => Asked::Answer { ring, room },
                _ => Asked::Other,
            };
            self.ask(request, asked);
        }
    }

    fn ring_now(&mut self, callee: usize, cx: &mut Context<'_>) {
        let Some(room) = self.has.rooms.keys().next_back().copied() else { return };
        let (ticket, proof) = self.show(callee, cx.cast);
        let payload = cx.cast.rooms[room].name();
        self.ask(Request::Ring(Ring { ticket, payload, proof, ..Ring::default() }), Asked::Ring);
    }

    /// Nobody comes to the room of a ring that was not answered.
    fn leave_where_alone(&mut self, cx: &mut Context<'_>) {
        let alone = self.has.rooms.iter().find(|(_, stay)| stay.member.is_some() && stay.others.is_empty());
        if let Some(room) = alone.map(|(room, _)| *room) {
            self.leave(room, cx);
        }
    }
}

impl Stay {
    /// Whether it is in and is to stay.
    pub(super) fn is_in(&self) -> bool {
        self.member.is_some() && !self.is_leaving
    }
}
