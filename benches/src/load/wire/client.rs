//! One client: from the first packet to a session with everything it was planned to have, and what it then sends.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use foldhash::fast::FixedState;
use quinn_proto::StreamId;
use rand::{RngExt, rngs::StdRng};
use supernode_measure::stamp::Stamp;
use supernode_proto::{
    control::{
        AnswerRing, DepositKeyPackages, PresenceState, PublishTrack, RefusalReason, Ring, SetPresence, TakeKeyPackages,
        TrackKind, Unwatch, client_message::Body as Request, relay_message::Body,
    },
    identity::{RelayName, RelayPin},
    object::{Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_session::{Channel, Event, Introduction, Refusal, RoomEvent, put_datagram};

use crate::load::{
    link::Link,
    outsiders::{self, Outsiders},
    page::{self, Page},
    persona::{Cast, Persona},
    plan::{ClientPlan, Kind, Plan, Role, TrackPlan},
    scenario::Scenario,
    streams::{StreamIn, VideoOut},
    tally::Tally,
};

/// What all clients of a run share.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) cast: Cast,
    pub(crate) pin: RelayPin,
    pub(crate) token: String,
    pub(crate) outsiders: Outsiders,
    /// Random bytes that sealed parts are cut from: the relay cannot tell.
    pub(crate) noise: Bytes,
}

/// A client.
pub(crate) struct Client {
    /// Its number in the plan.
    pub(crate) number: u32,
    pub(crate) plan: ClientPlan,
    /// How often it has come.
    pub(crate) generation: u32,
    /// The handle of its present connection.
    pub(crate) link: Option<usize>,
    /// When it was to connect.
    pub(crate) due_ns: u64,
    /// Whether it has everything that it needs nobody else for.
    pub(crate) settled: bool,
    /// Whether it has everything that it was planned to have.
    pub(crate) ready: bool,
    /// It answered after the measured part.
    pub(crate) alive: bool,
    pub(crate) tracks: Vec<Track>,
    pub(crate) flows: HashMap<u64, Flow, FixedState>,
    pub(crate) streams_in: HashMap<StreamId, StreamIn, FixedState>,
    /// Bytes read from streams since it was ready, of a client that reads slowly.
    pub(crate) read_bytes: u64,
    persona: Persona,
    channel: Option<Channel>,
    open: bool,
    joined: u32,
    /// Its number in its room, of one that will be put out.
    member: u32,
    subscribed: u32,
    watching: u32,
    shown: bool,
}

/// A track it publishes.
pub(crate) struct Track {
    pub(crate) plan: TrackPlan,
    pub(crate) alias: Option<TrackAlias>,
    pub(crate) video: VideoOut,
    demand: u32,
}

/// What comes from one source: a track, a person whose presence is watched, or a ring's other side.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The highest sequence seen, and the 128 up to it as bits.
    top: u64,
    seen: u128,
    /// When the last that came was due.
    pub(crate) last_due_ns: Option<u64>,
}

/// What an object is to its flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    Reordered,
    Duplicate,
}

/// What a request was for.
pub(crate) enum Pending {
    Join,
    Publish(usize),
    Subscribe(u64),
    Watch,
    Show,
    Probe,
    /// To put this client out.
    Kick(u32),
    /// What must be refused.
    Intrusion,
    Other,
}

impl Client {
    pub(crate) fn new(number: u32, stage: &Stage) -> Self {
        let plan = stage.plan.clients[number as usize].clone();
        Self {
            number,
            generation: 0,
            link: None,
            due_ns: 0,
            settled: false,
            ready: false,
            alive: false,
            tracks: Vec::new(),
            flows: HashMap::default(),
            streams_in: HashMap::default(),
            read_bytes: 0,
            persona: stage.cast.persona(number, 0),
            plan,
            channel: None,
            open: false,
            joined: 0,
            member: 0,
            subscribed: 0,
            watching: 0,
            shown: false,
        }
    }

    /// It connects, for the first time or anew as somebody else.
    pub(crate) fn begin(&mut self, link: usize, due_ns: u64, stage: &Stage) {
        let fresh = Self::new(self.number, stage);
        let generation = self.generation + 1;
        let persona = if generation > 1 { stage.cast.persona(self.number, generation) } else { fresh.persona };
        let tracks = fresh.plan.tracks.iter();
        let tracks = tracks.map(|plan| Track { plan: *plan, alias: None, demand: 0, video: VideoOut::default() });
        *self = Self { link: Some(link), due_ns, generation, tracks: tracks.collect(), persona, ..fresh };
    }

    /// The handshake is done.
    pub(crate) fn handle_connected(&mut self, link: &mut Link, stage: &Stage) {
        if link.page.is_some() {
            return Page::open(&mut link.quic);
        }
        if let Some(exporter) = link.exporter() {
            self.greet(link, Channel::by_exporter(stage.pin, exporter, self.persona.device.public()), stage);
        }
    }

    /// Something has come on a page's link beside the session's streams.
    pub(crate) fn handle_own(&mut self, link: &mut Link, id: StreamId, stage: &Stage) {
        let Link { quic, page: Some(page), .. } = link else { return };
        if Page::is_answer(id) {
            page.read_answer(quic, id);
        } else if Page::is_challenge(id)
            && let Some(challenge) = page.read_challenge(quic, id)
        {
            let relay = RelayName::Pin(&stage.pin);
            // A relay that is another one's gets no Hello.
            if let Ok(channel) = Channel::by_challenge(&challenge, relay, self.persona.device.public()) {
                self.greet(link, channel, stage);
            }
        }
    }

    fn greet(&mut self, link: &mut Link, channel: Channel, stage: &Stage) {
        let delegation = self.persona.delegation();
        let hello = channel.hello(&self.persona.device, &Introduction::new(&delegation, &stage.token));
        self.channel = Some(channel);
        link.greet(channel, hello);
    }

    /// The relay says something. Deliveries that it carries come back as the number of their flow and its bytes.
    pub(crate) fn handle_event(
        &mut self,
        link: &mut Link,
        event: Event<Pending>,
        stage: &Stage,
        tally: &mut Tally,
    ) -> Option<(u64, Bytes)> {
        match event {
            // The first thing that a relay wants of whom it has let in.
            Event::KeyPackagesWanted(_) if !self.open => self.set_up(link, stage),
            Event::Reply { to, reply: Ok(reply) } => self.handle_reply(link, to, reply, stage, tally),
            Event::Reply { to, reply: Err(refusal) } => self.handle_refused(&to, &refusal, tally),
            Event::Room(_, RoomEvent::TrackAnnounced(announced)) => {
                let alias = announced.alias;
                link.ask(outsiders::subscription(alias), Pending::Subscribe(alias));
            }
            Event::Room(_, RoomEvent::MemberLeft { member, kicked: true })
                if self.plan.role == Role::Kicked && member == self.member =>
            {
                for request in outsiders::again(self.flows.keys().copied()) {
                    link.ask(request, Pending::Intrusion);
                }
            }
            Event::Demand(alias, demand) => {
                if let Some(track) = self.tracks.iter_mut().find(|track| track.alias == Some(alias)) {
                    track.demand = demand.subscribers;
                }
            }
            Event::Presence(identity, presence) => return Some((flow_of(identity.as_bytes()), presence.status)),
            Event::IncomingRing(ring) => {
                let stamp = ring.payload.slice(..ring.payload.len().min(Stamp::BYTES));
                link.ask(Request::AnswerRing(AnswerRing { ring: ring.ring, payload: stamp }), Pending::Other);
                return Some((0, ring.payload));
            }
            Event::RingOutcome(outcome) => return Some((0, outcome.payload)),
            _ => {}
        }
        None
    }

    fn handle_reply(&mut self, link: &mut Link, to: Pending, reply: Body, stage: &Stage, tally: &mut Tally) {
        match (to, reply) {
            (Pending::Join, Body::RoomJoined(joined)) => {
                self.joined += 1;
                if self.plan.role == Role::Kicked {
                    stage.outsiders.note_member(self.number, joined.member);
                    self.member = joined.member;
                }
                if self.joined as usize == self.plan.rooms.len() {
                    self.publish(link, stage);
                }
            }
            (Pending::Publish(index), Body::TrackPublished(published)) => {
                self.tracks[index].alias = TrackAlias::new(published.alias);
                self.tracks[index].alias.into_iter().for_each(|alias| stage.outsiders.note_track(alias));
            }
            (Pending::Subscribe(alias), Body::Done(_)) => {
                self.subscribed += 1;
                self.flows.entry(alias).or_default();
            }
            (Pending::Watch, Body::Done(_)) => self.watching += 1,
            (Pending::Show, Body::Done(_)) => self.shown = true,
            (Pending::Probe, Body::Done(_)) => self.alive = true,
            (Pending::Kick(client), Body::Done(_)) => {
                stage.outsiders.note_out(client, link.read_at);
                tally.put_out += 1;
            }
            (Pending::Intrusion, Body::Done(_)) => tally.trespasses += 1,
            _ => {}
        }
    }

    fn handle_refused(&self, to: &Pending, refusal: &Refusal, tally: &mut Tally) {
        let is_unknown_track = refusal.reason == RefusalReason::UnknownTrack;
        if matches!(to, Pending::Intrusion) && is_unknown_track {
            tally.turned_away += 1;
        } else if self.plan.role != Role::Churner || !is_unknown_track {
            // Those who come and go subscribe to tracks that may just have ended.
            let reason = refusal.reason.as_str_name().trim_start_matches("REFUSAL_REASON_").to_lowercase();
            let detail = if refusal.detail.is_empty() { String::new() } else { format!(" {}", refusal.detail) };
            *tally.refused.entry(reason + &detail).or_default() += 1;
        }
    }

    /// What it is still missing, for people: empty when it is ready.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        if !self.open {
            return Some("a session");
        }
        if (self.joined as usize) < self.plan.rooms.len() {
            return Some("a room");
        }
        if self.tracks.iter().any(|track| track.alias.is_none()) {
            return Some("a track");
        }
        if self.subscribed < self.plan.subscriptions {
            return Some("a subscription");
        }
        if self.tracks.iter().any(|track| track.demand < track.plan.subscribers) {
            return Some("a subscriber");
        }
        if (self.watching as usize) < self.plan.watches.len() || (self.plan.watchers > 0 && !self.shown) {
            return Some("a watch");
        }
        None
    }

    /// It is in its rooms with its tracks, and whoever comes to a room that is full of talkers has subscribed to them.
    pub(crate) fn is_settled(&self) -> bool {
        let heard = self.subscribed >= self.plan.subscriptions && self.watching as usize >= self.plan.watches.len();
        let subscribed = self.plan.role != Role::Churner || heard;
        let published = self.tracks.iter().all(|track| track.alias.is_some());
        self.open && self.joined as usize == self.plan.rooms.len() && published && subscribed
    }

    /// In the middle of the measured part: puts out whom it was planned to, or tries to get what it has no right to.
    pub(crate) fn take_action(&mut self, link: &mut Link, stage: &Stage) {
        for client in self.plan.kicks.clone() {
            let room = stage.plan.clients[client as usize].rooms.first().map(|room| stage.cast.room(*room).0);
            if let Some(kick) = room.and_then(|room| stage.outsiders.kick(client, room)) {
                link.ask(kick, Pending::Kick(client));
            }
        }
        if self.plan.role == Role::Stranger {
            for request in stage.outsiders.tries() {
                link.ask(request, Pending::Intrusion);
            }
        }
    }

    /// Sends something that only a live session answers.
    pub(crate) fn probe(&mut self, link: &mut Link) {
        link.ask(Request::Unwatch(Unwatch { identity: vec![0; 32].into() }), Pending::Probe);
    }

    /// Sends the object of an audio track that is due; `false` if QUIC does not take it.
    pub(crate) fn send_audio(
        &mut self,
        link: &mut Link,
        track: usize,
        stamp: Stamp,
        bytes: usize,
        stage: &Stage,
    ) -> bool {
        let Some(alias) = self.tracks.get(track).and_then(|track| track.alias) else { return false };
        let visible = Visible { group: stamp.sequence, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
        let mut wire = BytesMut::with_capacity(1 + bytes);
        if link.page.is_some() {
            wire.put_u8(page::SESSION);
        }
        let len = put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: stage.scenario.ttl_ms }, visible);
        put_sealed(&mut wire, stamp, bytes.saturating_sub(len), stage);
        link.send_datagram(wire.freeze())
    }

    /// Changes its state so that its watchers see it.
    pub(crate) fn change_presence(&mut self, link: &mut Link, stamp: Stamp) {
        let status = Bytes::copy_from_slice(&stamp.to_bytes());
        let set = SetPresence { state: PresenceState::Online.into(), status };
        link.ask(Request::SetPresence(set), Pending::Show);
    }

    /// Rings its callee.
    pub(crate) fn ring(&mut self, link: &mut Link, stamp: Stamp, bytes: usize, stage: &Stage) {
        let Some(callee) = self.plan.callee else { return };
        let mut payload = BytesMut::with_capacity(bytes);
        put_sealed(&mut payload, stamp, bytes, stage);
        // Only devices whose package was taken ring.
        let ticket: Bytes = stage.cast.pass(callee, &self.persona).ticket().to_bytes().into();
        let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
        link.ask(Request::TakeKeyPackages(take), Pending::Other);
        let ring = Ring { ticket, payload: payload.freeze(), ..Ring::default() };
        link.ask(Request::Ring(ring), Pending::Other);
    }

    fn set_up(&mut self, link: &mut Link, stage: &Stage) {
        self.open = true;
        let Some(channel) = self.channel else { return };
        for room in self.plan.rooms.clone() {
            let join = channel.join(&stage.cast.room(room), &stage.cast.join_secret(room), 0);
            link.ask(Request::JoinRoom(join), Pending::Join);
        }
        if self.plan.is_rung {
            let last_resort = Bytes::from_static(b"a package");
            let deposit = DepositKeyPackages { last_resort, ..DepositKeyPackages::default() };
            link.ask(Request::DepositKeyPackages(deposit), Pending::Other);
        }
        if self.plan.watchers > 0 {
            let set = SetPresence { state: PresenceState::Online.into(), status: Bytes::new() };
            link.ask(Request::SetPresence(set), Pending::Show);
        }
        for watched in self.plan.watches.clone() {
            let pass = stage.cast.pass(watched, &self.persona);
            match link.session().and_then(|session| session.watch(&pass)) {
                Some(watch) => link.ask(watch, Pending::Watch),
                // It shares the watch that there is.
                None => self.watching += 1,
            }
        }
    }

    fn publish(&mut self, link: &mut Link, stage: &Stage) {
        for index in 0..self.tracks.len() {
            let TrackPlan { room, kind, .. } = self.tracks[index].plan;
            let kind = match kind {
                Kind::Audio => TrackKind::Audio,
                Kind::Video => TrackKind::Video,
            };
            let room = Bytes::copy_from_slice(&stage.cast.room(room).0);
            let publish = PublishTrack { room, kind: kind.into(), label: Bytes::new(), activity: false, mls_epoch: 0 };
            link.ask(Request::PublishTrack(publish), Pending::Publish(index));
        }
    }
}

impl Flow {
    /// Takes note of an object.
    pub(crate) fn take(&mut self, stamp: Stamp) -> Arrival {
        let Stamp { due_ns, sequence } = stamp;
        if self.last_due_ns.is_none() {
            (self.top, self.seen) = (sequence, 0);
        }
        self.last_due_ns = self.last_due_ns.max(Some(due_ns));
        if sequence > self.top {
            let step = sequence - self.top;
            self.seen = if step < 128 { self.seen << step } else { 0 };
            self.top = sequence;
            self.seen |= 1;
            return Arrival::New;
        }
        let back = self.top - sequence;
        // What is too old to tell counts as seen: better a loss too many than a delivery.
        let bit = if back < 128 { 1 << back } else { 0 };
        if bit == 0 || self.seen & bit != 0 {
            return Arrival::Duplicate;
        }
        self.seen |= bit;
        if back == 0 { Arrival::New } else { Arrival::Reordered }
    }
}

/// A stamp and random bytes, `bytes` in all.
pub(crate) fn put_sealed(wire: &mut BytesMut, stamp: Stamp, bytes: usize, stage: &Stage) {
    wire.put_slice(&stamp.to_bytes());
    let rest = bytes.saturating_sub(Stamp::BYTES);
    let from = (stamp.due_ns / 1000) as usize % 1024;
    let mut left = rest;
    while left > 0 {
        let piece = left.min(stage.noise.len() - from);
        wire.put_slice(&stage.noise[from..from + piece]);
        left -= piece;
    }
}

/// A size from the scenario's range.
pub(crate) fn object_bytes(stage: &Stage, rng: &mut StdRng) -> usize {
    let [smallest, largest] = stage.scenario.object_bytes.range();
    if smallest == largest { smallest as usize } else { rng.random_range(smallest..=largest) as usize }
}

/// The flow of a watched person: any number that tells them apart.
fn flow_of(identity: &[u8]) -> u64 {
    identity.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_tells_new_from_reordered_from_duplicate() {
        let mut flow = Flow::default();
        let mut take = |sequence| flow.take(Stamp { due_ns: 0, sequence });
        assert_eq!(take(5), Arrival::New);
        assert_eq!(take(5), Arrival::Duplicate);
        assert_eq!(take(8), Arrival::New);
        assert_eq!(take(6), Arrival::Reordered);
        assert_eq!(take(6), Arrival::Duplicate);
        assert_eq!(take(7), Arrival::Reordered);
        assert_eq!(take(8), Arrival::Duplicate);
        assert_eq!(take(1000), Arrival::New);
        assert_eq!(take(9), Arrival::Duplicate, "too old to tell");
        assert_eq!(take(873), Arrival::Reordered);
    }
}
