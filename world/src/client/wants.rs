//! What a client can be told to do.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use supernode_proto::{
    close::CloseCode,
    control::{
        JoinRoom, KickMember, LeaveRoom, PresenceState, SendMls, SetPresence, TakeKeyPackages, TrackKind, Unsubscribe,
        client_message::Body as Request,
    },
    mls::Envelope,
    object::TrackAlias,
};
use supernode_session::{Channel, Moment, Presence};

use super::{Asked, Client, Context, PATIENCE, Stay, address, endpoint, link::Stage};
use crate::{
    cast::{Cast, OpensBy},
    judge::Rule,
};

/// What a client wants in a room.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The tracks that it publishes.
    pub kinds: Vec<TrackKind>,
}

impl Client {
    /// Comes online.
    pub fn come(&mut self, cx: &mut Context<'_>) {
        if !self.is_on {
            cx.trace.tell(cx.now, format_args!("client {} comes", self.number));
            (self.is_on, self.dial_at) = (true, Some(cx.now));
        }
    }

    /// Says goodbye.
    pub fn leave_relay(&mut self, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} goes", self.number));
        for link in &mut self.links {
            link.stage = Stage::Left;
            link.close(CloseCode::BYE, cx.now, cx.clock);
        }
        self.go_off(cx);
    }

    /// Is gone, without a word, and has forgotten everything.
    pub fn crash(&mut self, moves: u16, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} crashes", self.number));
        self.links.clear();
        self.endpoint = endpoint(&mut self.rng);
        self.address = address(self.number, moves);
        self.go_off(cx);
        self.backlog.clear();
        (self.sleeps_until, self.stalls_until) = Default::default();
    }

    fn go_off(&mut self, cx: &mut Context<'_>) {
        (self.is_on, self.current, self.dial_at) = (false, None, None);
        (self.reconnect, self.moving) = (None, None);
        self.session = supernode_session::Session::new(super::KEY_PACKAGES, 0);
        self.forget_rooms(cx);
        self.forget_groups(cx);
        self.wants = super::Wants::default();
    }

    /// Its machine sleeps until then: what comes meanwhile waits, as far as there is room.
    pub fn sleep(&mut self, until: Moment, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} sleeps", self.number));
        self.sleeps_until = until;
    }

    /// It reads nothing until then, while its QUIC goes on.
    pub fn stall(&mut self, until: Moment, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} stalls", self.number));
        self.stalls_until = until;
    }

    /// It runs again, whatever it did.
    pub fn awake(&mut self) {
        (self.sleeps_until, self.stalls_until) = Default::default();
    }

    /// Its packets come from elsewhere from now on.
    pub fn rebind(&mut self, moves: u16, cx: &mut Context<'_>) {
        self.address = address(self.number, moves);
        cx.trace.tell(cx.now, format_args!("client {} is at {}", self.number, self.address));
    }

    /// What it says first on a connection. What stood on the one before, the session says again.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        if self.wants.presence.is_none() {
            let state =
                [PresenceState::Online, PresenceState::Online, PresenceState::Busy][self.rng.random_range(0..3)];
            self.show_as(state, cx);
        } else {
            // As the session says it again. The reply is nobody's, so it counts from when it was asked.
            self.has.shown.clone_from(&self.wants.presence);
        }
        for (room, wish) in self.wants.rooms.clone() {
            self.join(room, wish, cx);
        }
    }

    /// Shows itself in this state.
    pub fn show_as(&mut self, state: PresenceState, cx: &mut Context<'_>) {
        let status = Bytes::from(format!("{}/{}", self.number, cx.now.since_beginning().as_micros()));
        cx.trace.tell(cx.now, format_args!("client {} is {state:?}", self.number));
        self.wants.presence = Some((state, status.clone()));
        let request = Request::SetPresence(SetPresence { state: state.into(), status: status.clone() });
        self.ask(request, Asked::Presence(state, status));
    }

    /// Watches somebody, or does not any more.
    pub fn toggle_watch(&mut self, person: usize, cx: &mut Context<'_>) {
        if self.wants.watches.remove(&person) {
            // Whatever still comes is for a later watch.
            self.has.watches.remove(&person);
            self.has.seen.remove(&person);
            if let Some(request) = self.session.unwatch(&cx.cast.identity(person)) {
                self.ask(request, Asked::Other);
            }
            return;
        }
        self.wants.watches.insert(person);
        let pass = self.pass_for(person, cx.cast);
        if let Some(request) = self.session.watch(&pass) {
            self.ask(request, Asked::Watch(person));
        }
    }

    /// Asks to be let into a room, unless it is there.
    pub fn join(&mut self, room: usize, wish: Wish, cx: &mut Context<'_>) {
        if self.has.rooms.contains_key(&room) {
            return;
        }
        let Some(request) = self.join_request(room, cx.cast) else { return };
        self.wants.rooms.insert(room, wish);
        self.has.rooms.insert(room, Stay::default());
        cx.judge.media.asks_in(self.number, room, self.current.unwrap_or_default(), cx.now);
        self.ask(request, Asked::Join(room));
    }

    pub(super) fn join_request(&self, room: usize, cast: &Cast) -> Option<Request> {
        let of = &cast.rooms[room];
        let OpensBy::Secret(secret) = &of.opens_by else { return None };
        let request: JoinRoom = self.channel(cast)?.join(&of.id, secret, 1);
        Some(Request::JoinRoom(request))
    }

    /// Leaves it.
    pub fn leave(&mut self, room: usize, cx: &mut Context<'_>) {
        let Some(stay) = self.has.rooms.get_mut(&room).filter(|stay| stay.is_in()) else { return };
        stay.is_leaving = true;
        self.ask(Request::LeaveRoom(LeaveRoom { room: cx.cast.rooms[room].name() }), Asked::Leave(room));
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> Vec<usize> {
        self.has.rooms.iter().filter(|(_, stay)| stay.is_in()).map(|(room, _)| *room).collect()
    }

    /// Puts some other member out of a room.
    pub fn kick(&mut self, room: usize, cx: &mut Context<'_>) {
        let Some(stay) = self.has.rooms.get(&room).filter(|stay| stay.is_in() && !stay.others.is_empty()) else {
            return;
        };
        let pick = self.rng.random_range(0..stay.others.len());
        let Some((member, device)) = stay.others.iter().nth(pick).map(|(member, device)| (*member, *device)) else {
            return;
        };
        cx.trace.tell(cx.now, format_args!("client {} puts {device} out of room {room}", self.number));
        let request = KickMember { room: cx.cast.rooms[room].name(), member };
        let life = cx.judge.mailboxes.life(self.number, room);
        self.ask(Request::KickMember(request), Asked::Kick { room, member, life, device });
    }

    /// Says something to a room's mailbox.
    pub fn say(&mut self, room: usize, commit: bool, cx: &mut Context<'_>) {
        let Some(stay) = self.has.rooms.get(&room).filter(|stay| stay.is_in()) else { return };
        let of = &cx.cast.rooms[room];
        let sealed: [u8; 16] = self.rng.random();
        // Somebody may not have heard of the last commit yet.
        let is_late = commit && self.rng.random_bool(0.2);
        let epoch = if is_late { stay.epoch.saturating_sub(1) } else { stay.epoch };
        let payload = Envelope { room: of.id, epoch, commit }.around(&sealed).into();
        let what = if commit { "commits to" } else { "says something in" };
        cx.trace.tell(cx.now, format_args!("client {} {what} epoch {epoch} of room {room}", self.number));
        cx.judge.mailboxes.sends(self.number, room);
        let request = SendMls { room: of.name(), epoch, commit, payload, join_key: Bytes::new() };
        self.ask(Request::SendMls(request), Asked::Say { room, epoch, commit });
    }

    /// Rings somebody, from a room of its own.
    pub fn ring(&mut self, person: usize, room: usize, cx: &mut Context<'_>) {
        if person == self.person || !self.is_in() {
            return;
        }
        cx.trace.tell(cx.now, format_args!("client {} rings {person} from room {room}", self.number));
        self.join(room, self.call_wish(), cx);
        let (ticket, proof) = self.show(person, cx.cast);
        self.ask(Request::TakeKeyPackages(TakeKeyPackages { ticket, proof }), Asked::Take(person));
    }

    /// Tries to get a track that is none of its business.
    pub fn intrude(&mut self, cx: &mut Context<'_>) {
        let pick = self.rng.random_range(0..1_000);
        let Some(alias) = cx.judge.media.foreign(self.number, pick) else { return };
        self.ask(Request::Subscribe(super::media::subscription(alias, (7, 7))), Asked::Intrude);
        self.send_foreign(alias);
    }

    /// Takes one track less, or one that it gave up again.
    pub fn toggle_subscription(&mut self, cx: &mut Context<'_>) {
        let taken: Vec<_> = self.has.remotes.iter().filter(|(_, remote)| !remote.is_leaving).collect();
        if taken.is_empty() {
            return;
        }
        let alias = *taken[self.rng.random_range(0..taken.len())].0;
        if self.unsubscribe_sealed(alias, cx) {
            return;
        }
        if let Some(remote) = self.has.remotes.get_mut(&alias) {
            remote.is_leaving = true;
        }
        self.ask(Request::Unsubscribe(Unsubscribe { alias: alias.value() }), Asked::Unsubscribe(alias));
    }

    /// In a call everybody talks.
    pub(super) fn call_wish(&self) -> Wish {
        Wish { kinds: vec![TrackKind::Audio] }
    }

    /// As whom it is seen by others, if it is.
    pub fn shown(&self) -> Option<&(PresenceState, Bytes)> {
        self.has.shown.as_ref().filter(|(state, _)| *state != PresenceState::Invisible)
    }

    /// Whom it watches, and how it sees them.
    pub fn watches(&self) -> impl Iterator<Item = (usize, Option<&Presence>)> {
        let wanted: &BTreeSet<usize> = &self.has.watches;
        wanted
            .iter()
            .filter(|person| self.wants.watches.contains(person))
            .map(|person| (*person, self.has.seen.get(person)))
    }

    /// Whether it is in a room with somebody.
    pub fn is_in_a_call(&self) -> bool {
        self.has.rooms.values().any(|stay| stay.is_in() && !stay.others.is_empty()) || self.is_in_company()
    }

    /// The others in a room, as it knows them.
    pub fn others(&self, room: usize) -> Vec<usize> {
        let stay = self.has.rooms.get(&room);
        let mut others: Vec<usize> = stay.into_iter().flat_map(|stay| stay.others.values().copied()).collect();
        others.sort_unstable();
        others
    }

    /// The tracks of others in a room that it was told of.
    pub fn known_tracks(&self, room: usize) -> BTreeSet<TrackAlias> {
        self.has.rooms.get(&room).map(|stay| stay.tracks.clone()).unwrap_or_default()
    }

    /// Whether the relay has replied to all that it asked.
    pub fn has_all_replies(&self) -> bool {
        !self.is_in() || self.has.waiting == 0
    }

    /// Nothing is under way any more.
    pub fn check_settled(&self, cx: &mut Context<'_>) {
        if !self.has_all_replies() {
            let what = format!("client {} waits for {} replies", self.number, self.has.waiting);
            cx.judge.fail(cx.now, Rule::Reply, what);
        }
    }

    pub(super) fn ask(&mut self, request: Request, asked: Asked) {
        if self.session.ask(request, asked).is_ok() {
            self.has.waiting += 1;
        }
    }

    /// A ticket of somebody, and what shows that it is ours.
    pub(super) fn show(&self, person: usize, cast: &Cast) -> (Bytes, Bytes) {
        match self.channel(cast) {
            Some(channel) => channel.show(&self.pass_for(person, cast)),
            None => Default::default(),
        }
    }

    pub(super) fn channel(&self, cast: &Cast) -> Option<Channel> {
        let link = self.links.iter().find(|link| Some(link.serial) == self.current)?;
        let device = cast.devices[self.number].secret.public();
        Some(Channel::by_exporter(cast.pin, link.exporter(), device))
    }

    /// How long it takes at most until it is in again, once nothing is wrong.
    pub const BACK_WITHIN: Duration = PATIENCE.backoff_max;
}
