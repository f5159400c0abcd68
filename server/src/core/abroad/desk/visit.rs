//! Rooms whose home is at another node, as members here see them.

use supernode_proto::{
    close::CloseCode,
    control::{RefusalReason, RelayMessage, relay_message::Body},
    identity::RoomId,
    object::TrackAlias,
};

use super::PARKED_FOR;
use crate::core::{
    Address, Asked, ClientMail, ControlMail, Errand, Fence, HomeWish, MemberId, NodeId, Now, Outbox, RoomAsk,
    SessionId, ShardCore, ShardId, TrackShown, abroad::Knock, control::Refusal, registry::directory::TrackEntry,
};

/// A room with its home at another node, of which something was asked. All shards see it.
#[derive(Debug)]
pub(crate) struct Visit {
    home: NodeId,
    fence: Fence,
    /// Tracks of other nodes that the home has shown.
    tracks: Vec<TrackAlias>,
}

/// A request of a session that a desk is to have answered, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    room: RoomId,
    what: Waits,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// To be let in.
    Join,
    /// To be given what it missed, as it is no member.
    CatchUp,
    /// That others are told of its track.
    Publish(TrackAlias),
    /// To know whom it rings, as it is at the door: then it does.
    Ring,
    /// Anything else.
    Answer,
    /// That the home knows that it is out. The session has been told so, and is counted until all that it asked before is
    /// answered.
    Leave,
}

impl Wait {
    /// Whether the desk counts the session for it.
    fn counts(&self) -> bool {
        matches!(self.what, Waits::Join | Waits::CatchUp | Waits::Ring | Waits::Leave)
    }
}

/// Which shard of another node takes what is for its desks: how many it has is not known here. Always the same one, so that all
/// comes in order.
pub(super) const fn door_of(node: NodeId) -> Address {
    Address { node, shard: ShardId(0) }
}

impl ShardCore {
    /// A home was asked something: what it says by this decision counts from now on.
    pub(super) fn begin_visit(&self, room: RoomId, (home, fence): (NodeId, Fence)) {
        self.directory.visits.insert_new(room, Visit { home, fence, tracks: Vec::new() });
    }

    pub(super) fn end_visit(&self, room: &RoomId, outbox: &mut Outbox) {
        let Some(visit) = self.directory.visits.remove(room) else { return };
        self.forget_tracks(&visit.tracks, outbox);
    }

    /// Nothing is known of these tracks here any more.
    pub(super) fn forget_tracks(&self, tracks: &[TrackAlias], outbox: &mut Outbox) {
        for alias in tracks {
            self.directory.tracks.remove(alias);
            outbox.broadcast(&ControlMail::TrackEnded { alias: *alias });
        }
    }

    /// The home of a room that this node has members in cannot be reached.
    pub(super) fn lose_home(&mut self, room: RoomId, outbox: &mut Outbox) {
        let parked = self.abroad.desk.take_parked(&room);
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        outbox.errand(Errand::Home(HomeWish::Doubt(room)));
        if deal.is_visited {
            deal.is_lost = true;
            parked.iter().for_each(|parked| self.refuse_unknown(parked, outbox));
            return outbox.broadcast(&ControlMail::HomeLost(room));
        }
        for parked in parked {
            let _ = self.abroad.desk.park(parked);
        }
    }

    /// Another node can be reached again. Where it is a home it has forgotten who of this node was in the room.
    pub(in crate::core::abroad) fn rooms_with(&mut self, node: NodeId, now: Now, outbox: &mut Outbox) {
        for room in self.abroad.desk.of_home(node) {
            let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { continue };
            if let Some(home) = deal.home.filter(|_| deal.is_lost) {
                (deal.is_visited, deal.is_lost) = (false, false);
                self.re_enter(room, home, outbox);
            }
            self.try_parked(room, now, outbox);
            self.close_deal(room, now, outbox);
        }
    }

    /// A node that was taken for a home says that it is none, by that decision.
    pub(super) fn hear_not_home(&mut self, ask: Box<RoomAsk>, fence: Fence, now: Now, outbox: &mut Outbox) {
        let room = ask.room;
        let desk = outbox.homes().of_room(&room);
        if desk != self.at {
            return outbox.mail(desk, ControlMail::NotHome(ask, fence));
        }
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        if deal.home.is_some_and(|(_, known)| known == fence) && deal.doubted_until.is_none_or(|at| at <= now.instant) {
            deal.doubted_until = Some(now.instant + PARKED_FOR);
            outbox.errand(Errand::Home(HomeWish::Doubt(room)));
        }
        self.deal_with(super::Parked { ask, fence: None, until: now.instant + PARKED_FOR }, now, outbox);
    }

    /// Takes what a home says, if it is the room's by the decision that this node knows of.
    pub(super) fn hear_from_home(
        &mut self,
        from: NodeId,
        (room, fence): (RoomId, Fence),
        mail: ControlMail,
        now: Now,
        outbox: &mut Outbox,
    ) {
        if from != self.at.node {
            let known = self.directory.visits.get(&room).map(|visit| (visit.home, visit.fence));
            if known.is_some_and(|(_, known)| fence != known && !fence.is_before(known)) {
                outbox.errand(Errand::Home(HomeWish::Heard(room, fence)));
            }
            let is_home = known == Some((from, fence)) && self.abroad.life_of(from).is_some();
            if !is_home && !crate::planted::planted!(FenceIgnored) {
                return;
            }
        }
        match mail {
            ControlMail::Client(ClientMail::Send { to, message }) if message.reply_to != 0 => {
                self.hear_answer_of_home(room, to, message, outbox);
            }
            ControlMail::Inside { to, request, members } => {
                self.hear_inside(room, (to, request), &members, now, outbox);
            }
            ControlMail::TrackCame(alias, track) => self.track_came(alias, track),
            ControlMail::TrackEnded { alias } => {
                self.track_went(&room, alias);
                self.handle_mail(ControlMail::TrackEnded { alias }, now, outbox);
            }
            mail => self.handle_mail(mail, now, outbox),
        }
    }

    fn track_came(&self, alias: TrackAlias, track: TrackShown) {
        let TrackShown { room, member, publisher, kind, activity } = track;
        let label = bytes::Bytes::new();
        let Some(mut visit) = self.directory.visits.get_mut(&room) else { return };
        if publisher.at.node != self.at.node && !visit.tracks.contains(&alias) {
            visit.tracks.push(alias);
            let entry = TrackEntry { room, member, publisher, kind, label, newcomers_from: 0, activity };
            self.directory.tracks.insert(alias, entry);
        }
    }

    fn track_went(&self, room: &RoomId, alias: TrackAlias) {
        let Some(mut visit) = self.directory.visits.get_mut(room) else { return };
        visit.tracks.retain(|known| *known != alias);
        self.directory.tracks.remove_if(&alias, |track| track.room == *room);
    }

    /// An answer on its way to a session, which it may change.
    fn hear_answer_of_home(&mut self, room: RoomId, to: SessionId, message: RelayMessage, outbox: &mut Outbox) {
        let key = (to.link, to.generation, message.reply_to);
        let wait = self.abroad.waits.remove(&key);
        self.abroad.knocks.remove(&key);
        let joined = match &message.body {
            Some(Body::RoomJoined(joined)) => Some(joined.member),
            _ => None,
        };
        let is_live = self.is_live(to);
        match (wait.map(|wait| wait.what), joined) {
            (Some(Waits::Join), Some(member)) if is_live => {
                self.enter_room(room, member, to.link);
            }
            // It is in, and is not there, or has been told that it is not in.
            (wait, Some(member)) => {
                self.leave_unseen(room, (member, to), outbox);
                if wait.is_some() {
                    self.out(room, outbox);
                }
                return;
            }
            (Some(Waits::Publish(alias)), None) => {
                if matches!(message.body, Some(Body::Refused(_))) {
                    self.publish_refused(to, alias, outbox);
                }
            }
            (Some(Waits::Leave), None) => {
                // All before it is answered by now, but a kick that waits for a third node.
                self.refuse_waits_of(to, &room, outbox);
                return self.out(room, outbox);
            }
            (Some(Waits::Join | Waits::CatchUp | Waits::Ring), None) => self.out(room, outbox),
            (Some(Waits::Answer), None) => {}
            // It was told already that it will not be answered.
            (None, None) => return,
        }
        outbox.errand(Errand::Client(ClientMail::Send { to, message }));
    }

    /// Whoever is at the door of the room hears who is in it: what they want of those, if they wait for it.
    pub(in crate::core::abroad) fn take_knock(&mut self, room: RoomId, to: SessionId, request: u64) -> Option<Knock> {
        let key = (to.link, to.generation, request);
        let is_it = |wait: &Wait| wait.room == room && wait.what == Waits::Ring;
        self.abroad.waits.get(&key).filter(|wait| is_it(wait))?;
        self.abroad.waits.remove(&key);
        self.abroad.knocks.remove(&key)
    }

    fn enter_room(&mut self, room: RoomId, member: MemberId, link: u32) {
        let Some(session) = self.session_mut(link) else { return };
        session.rooms.insert(room, member);
        self.links_by_room.entry(room).or_default().push(link);
    }

    fn leave_unseen(&self, room: RoomId, (member, from): (MemberId, SessionId), outbox: &mut Outbox) {
        outbox.ask(RoomAsk { room, from, member, request: 0, what: Asked::Leave { is_away: false } });
    }

    fn publish_refused(&mut self, to: SessionId, alias: TrackAlias, outbox: &mut Outbox) {
        self.directory.tracks.remove(&alias);
        if self.is_live(to) {
            if let Some(session) = self.session_mut(to.link) {
                session.published.retain(|own| *own != alias);
            }
            self.track_ended(alias, outbox);
        }
    }

    /// A session has ended: of what it waits for only that counts for which its desk counts it.
    pub(crate) fn forget_waits(&mut self, link: u32) {
        let Some(id) = self.id_of(link).filter(|_| self.is_clustered()) else { return };
        for request in
            self.waits_of(id).filter(|(_, wait)| !wait.counts()).map(|(request, _)| request).collect::<Vec<_>>()
        {
            self.abroad.waits.remove(&(id.link, id.generation, request));
        }
    }

    /// A session was put out of a room: what it has asked of it since is answered at once.
    pub(crate) fn refuse_waits_of(&mut self, id: SessionId, room: &RoomId, outbox: &mut Outbox) {
        let is_it = |wait: &Wait| wait.room == *room && !wait.counts();
        for request in self.waits_of(id).filter(|(_, wait)| is_it(wait)).map(|(request, _)| request).collect::<Vec<_>>()
        {
            self.abroad.waits.remove(&(id.link, id.generation, request));
            outbox.refuse(id, request, Refusal::of(RefusalReason::UnknownRoom).into());
        }
    }

    /// A member has left by its own wish, for which there is a request if its session goes on.
    pub(crate) fn tell_left(
        &mut self,
        link: u32,
        (room, member): (RoomId, MemberId),
        (request, is_away): (u64, bool),
        outbox: &mut Outbox,
    ) {
        let Some(from) = self.id_of(link) else { return };
        let waits = request != 0 && self.wait(link, room, request, Waits::Leave).is_ok();
        let request = if waits { request } else { 0 };
        outbox.ask(RoomAsk { room, from, member, request, what: Asked::Leave { is_away } });
        if !waits {
            self.out(room, outbox);
        }
    }

    /// One fewer of those whom the desk counts.
    pub(crate) fn out(&self, room: RoomId, outbox: &mut Outbox) {
        outbox.mail(outbox.homes().of_room(&room), ControlMail::Out(room));
    }

    /// Notes that this request is to be answered.
    pub(crate) fn wait(&mut self, link: u32, room: RoomId, request: u64, what: Waits) -> Result<(), Refusal> {
        let id = self.id_of(link).ok_or(Refusal::of(RefusalReason::Malformed))?;
        let key = (id.link, id.generation, request);
        let joins = |wait: &Wait| wait.what == Waits::Join && wait.room == room;
        let is_twice = what == Waits::Join && self.waits_of(id).any(|(_, wait)| joins(wait));
        if is_twice || self.abroad.waits.contains_key(&key) {
            return Err(Refusal::of(RefusalReason::Already));
        }
        self.abroad.waits.insert(key, Wait { room, what });
        Ok(())
    }

    /// Rooms that a session waits to be let into.
    pub(crate) fn waits_to_join(&self, link: u32) -> usize {
        let joins = |(_, wait): &(u64, &Wait)| wait.what == Waits::Join;
        self.id_of(link).map_or(0, |id| self.waits_of(id).filter(joins).count())
    }

    fn waits_of(&self, id: SessionId) -> impl Iterator<Item = (u64, &Wait)> {
        let SessionId { link, generation, .. } = id;
        let waits = self.abroad.waits.range((link, generation, 0)..=(link, generation, u64::MAX));
        waits.map(|((_, _, request), wait)| (*request, wait))
    }

    /// Nobody will answer what waits for this room: it can be asked again.
    pub(super) fn refuse_waits(&mut self, room: RoomId, outbox: &mut Outbox) {
        let waits = self.abroad.waits.iter().filter(|(_, wait)| wait.room == room);
        for (link, generation, request) in waits.map(|(key, _)| *key).collect::<Vec<_>>() {
            let to = SessionId { at: self.at, link, generation };
            let body = Body::Refused(Refusal::of(RefusalReason::HomeUnknown).into());
            let message = RelayMessage { reply_to: request, body: Some(body) };
            self.hear_answer_of_home(room, to, message, outbox);
        }
    }

    /// Those who are in the room here must come back.
    pub(super) fn re_enter_here(&mut self, room: RoomId, outbox: &mut Outbox) {
        self.refuse_waits(room, outbox);
        for link in self.links_by_room.get(&room).cloned().unwrap_or_default() {
            if let Some(session) = self.id_of(link) {
                outbox.close(session, CloseCode::HOME_MOVED);
            }
        }
    }
}
