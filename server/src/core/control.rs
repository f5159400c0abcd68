//! Requests: from message to table, and what is refused why.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngExt};
use supernode_proto::{
    close::CloseCode,
    control::{
        ClientMessage, JoinRoom, RefusalReason, Refused, WatchEnded, client_message::Body as Request, decode_message,
        relay_message::Body,
    },
    identity::{Grants, IdentityKey, JoinKey, Presenter, RoomId, RoomKey, Ticket, verify_room},
    limits as wire,
};

use super::{
    Asked, ControlMail, MemberId, Now, Outbox, RingId, SessionId, ShardCore,
    abroad::{Knock, answer_elsewhere},
    grants::accounts::Allowance,
    registry::{
        presence, push, rings,
        rooms::{self, Leaving},
    },
    session::{Handed, Session, WATCH_BYTES, Watched},
    timers::{Due, Timers},
};

/// A request that is not carried out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    pub(crate) detail: &'static str,
    pub(crate) value: u64,
    pub(crate) bound: u64,
}

impl Refusal {
    pub(crate) fn of(reason: RefusalReason) -> Self {
        Self { reason, detail: "", value: 0, bound: 0 }
    }

    pub(crate) fn field(detail: &'static str, value: u64, bound: u64) -> Self {
        Self { reason: RefusalReason::Malformed, detail, value, bound }
    }

    pub(crate) fn limit(detail: &'static str, value: u64, bound: u64) -> Self {
        Self { reason: RefusalReason::Limit, detail, value, bound }
    }

    pub(crate) fn check_len(detail: &'static str, value: usize, bound: usize) -> Result<(), Self> {
        if value <= bound { Ok(()) } else { Err(Self::field(detail, value as u64, bound as u64)) }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, detail, value, bound } = refusal;
        Self { reason: reason.into(), detail: detail.to_owned(), value, bound }
    }
}

impl ShardCore {
    /// Carries a client's request out. The reply and everybody's events are in `outbox` afterwards.
    ///
    /// # Errors
    /// The code to close the session with, when the message has no place in the protocol, or was one too many.
    pub fn handle_message(
        &mut self,
        link: u32,
        message: ClientMessage,
        now: Now,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), CloseCode> {
        self.handle(link, || Ok(message), now, rng, outbox)
    }

    /// The same for the bytes of a message, which are read only if anything comes of them.
    ///
    /// # Errors
    /// As those of [`Self::handle_message`]; also when the bytes are no message.
    pub fn handle_frame(
        &mut self,
        link: u32,
        frame: &[u8],
        now: Now,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), CloseCode> {
        self.handle(link, || decode_message(frame).map_err(|_| CloseCode::MALFORMED_MESSAGE), now, rng, outbox)
    }

    fn handle(
        &mut self,
        link: u32,
        read: impl FnOnce() -> Result<ClientMessage, CloseCode>,
        now: Now,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), CloseCode> {
        let Some(session) = self.session(link) else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        let (id, account, limits) = (session.id, &session.account, session.limits(&self.limits));
        let take = |what| account.take(what, 1, limits, now.instant);
        let granted = take(Allowance::Requests);
        // Above the rate a few are told so, many cost nothing more, and then the session ends.
        if !granted && !take(Allowance::RequestsExcess) {
            outbox.counts.limit("requests_excess_max");
            return Err(CloseCode::RATE_EXCEEDED);
        }
        if !granted && !take(Allowance::Answers) {
            outbox.counts.limit("requests_per_second_max");
            return Ok(());
        }
        let bound = u64::from(limits.requests_per_second_max);
        let message = read()?;
        let request = message.request;
        let body = message.body.ok_or(CloseCode::MALFORMED_MESSAGE)?;
        // Only the Hello goes without a number, and it came before the session.
        if request == 0 || matches!(body, Request::Hello(_)) {
            return Err(CloseCode::UNEXPECTED_MESSAGE);
        }
        let outcome = match granted {
            true => self.carry_out(link, request, body, now, rng, outbox),
            false => Err(Refusal::limit("requests_per_second_max", bound, bound)),
        };
        if let Err(refusal) = outcome {
            outbox.refuse(id, request, refusal.into());
        }
        if let Some(session) = self.session_mut(link) {
            session.recount();
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        link: u32,
        request: u64,
        body: Request,
        now: Now,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let reaches_others = self.abroad.reaches_others();
        let session = self.session_at(link)?;
        let id = session.id;
        match body {
            Request::Hello(_) => return Err(Refusal::of(RefusalReason::Malformed)),
            Request::PublishTrack(wanted) => return self.publish(link, request, wanted, rng, outbox),
            Request::Subscribe(wanted) => return self.subscribe(link, request, &wanted, outbox),
            Request::JoinRoom(wanted) => {
                return self.join(link, request, &wanted, now, outbox);
            }
            Request::PostBeacon(posted) => {
                let room = rooms::check_beacon(&directory, session, &posted, now)?;
                let own = (session.rooms.get(&room).copied().unwrap_or_default(), id);
                if outbox.homes().is_clustered() {
                    return self.ask(link, (room, request), Asked::Beacon(posted), outbox);
                }
                rooms::tell_beacon(&directory, room, own, posted, outbox)?;
            }
            Request::SendMls(sent) => {
                let room = rooms::check_mls(&directory, session, &sent, now)?;
                return self.ask(link, (room, request), Asked::Mls(sent), outbox);
            }
            Request::CatchUp(wanted) => {
                let room = rooms::check_catch_up(&directory, session, &wanted, now)?;
                let what = Asked::CatchUp { device: session.device, after: wanted.after_sequence };
                return self.ask(link, (room, request), what, outbox);
            }
            Request::RejectCommit(rejected) => {
                let room = rooms::member_of(session, &rejected.room)?;
                return self.ask(link, (room, request), Asked::Reject(rejected), outbox);
            }
            Request::KickMember(kick) => {
                let room = rooms::member_of(session, &kick.room)?;
                if outbox.homes().is_clustered() {
                    return self.ask(link, (room, request), Asked::Kick(kick.member), outbox);
                }
                return self.kick(room, kick.member, (id, request), outbox);
            }
            Request::TakeKeyPackages(take) => {
                let ticket = check_ticket(session, &take.ticket, &take.proof, Grants::RING, now)?;
                if reaches_others {
                    return self.take_everywhere(link, request, &ticket, now, outbox);
                }
                let packages = rings::take(&directory, session, &ticket, now, outbox)?;
                outbox.reply(id, request, Body::KeyPackages(packages));
                return Ok(());
            }
            Request::Ring(ring) => {
                let whom = if ring.room_key.is_empty() {
                    let ticket = check_ticket(session, &ring.ticket, &ring.proof, Grants::RING, now)?;
                    let is_handed = |it: &Handed| it.callee == ticket.issuer && !it.elsewhere.is_empty();
                    if reaches_others && session.handed.iter().any(is_handed) {
                        let id = RingId(rng.random());
                        return self.ring_everywhere(link, request, &ticket, id, &ring.payload, now, outbox);
                    }
                    rings::Whom::Issuer(Box::new(ticket))
                } else {
                    Refusal::check_len("ticket", ring.ticket.len(), 0)?;
                    let room = check_room_key(session, &ring.room_key, &ring.proof)?;
                    if outbox.homes().is_clustered() {
                        let knock = Knock::new(RingId(rng.random()), ring.payload);
                        return self.ring_at_door(link, request, room, knock, now, outbox);
                    }
                    rings::Whom::Room(room)
                };
                let wanted = rings::NewRing { id: RingId(rng.random()), whom, payload: ring.payload };
                let (session, timers) = self.session_and_timers(link)?;
                let started = rings::start(&directory, session, wanted, now, timers, outbox)?;
                outbox.reply(id, request, Body::RingStarted(started));
                return Ok(());
            }
            Request::SetPresence(wanted) => {
                let (session, timers) = self.session_and_timers(link)?;
                presence::set(&directory, session, wanted, now, timers, outbox)?;
            }
            Request::Watch(watch) => {
                let ticket = check_ticket(session, &watch.ticket, &watch.proof, Grants::PRESENCE, now)?;
                self.watch(link, &ticket, now, outbox)?;
            }
            Request::LimitTickets(wanted) => presence::limit_tickets(&directory, session, &wanted, now, outbox)?,
            Request::SetPushEndpoint(wanted) => {
                let (session, timers) = self.session_and_timers(link)?;
                push::set(&directory, session, &wanted, now, timers)?;
            }
            Request::Unwatch(unwatch) => {
                let identity = IdentityKey::from_slice(&unwatch.identity)?;
                session.watches.retain(|watched| watched.identity != identity);
                presence::unwatch(&directory, id, &identity, outbox);
            }
            Request::DepositKeyPackages(deposit) => rings::deposit(&directory, session, deposit)?,
            Request::AnswerRing(answer) => {
                let ring = RingId::from_slice(&answer.ring)?;
                Refusal::check_len("payload", answer.payload.len(), wire::RING_PAYLOAD_BYTES_MAX)?;
                if reaches_others
                    && answer_elsewhere(&directory, session, request, ring, Some(&answer.payload), outbox)?
                {
                    return Ok(());
                }
                rings::answer(&directory, session, ring, answer.payload, outbox)?;
            }
            Request::DeclineRing(decline) => {
                let ring = RingId::from_slice(&decline.ring)?;
                if reaches_others
                    && !decline.busy
                    && answer_elsewhere(&directory, session, request, ring, None, outbox)?
                {
                    return Ok(());
                }
                rings::decline(&directory, session, ring, decline.busy, outbox)?;
            }
            Request::CancelRing(cancel) => {
                rings::cancel(&directory, session, RingId::from_slice(&cancel.ring)?, outbox)?;
            }
            Request::LeaveRoom(leave) => {
                let room = rooms::member_of(session, &leave.room)?;
                self.leave(link, &room, request, Leaving::Left, outbox);
            }
            Request::RotateJoinKey(rotate) => {
                let room = rooms::member_of(session, &rotate.room)?;
                let key = JoinKey::from_slice(&rotate.join_key)?;
                let own = (session.rooms.get(&room).copied().unwrap_or_default(), id);
                if outbox.homes().is_clustered() {
                    return self.ask(link, (room, request), Asked::Rotate(key), outbox);
                }
                rooms::rotate(&directory, room, own, key)?;
            }
            Request::RelabelTrack(track) => return self.relabel(link, request, track, outbox),
            Request::UnpublishTrack(track) => self.unpublish(link, track.alias, outbox)?,
            Request::Unsubscribe(track) => self.unsubscribe(link, track.alias, outbox)?,
            Request::RequestKeyframe(track) => self.request_keyframe(link, track.alias, outbox)?,
        }
        outbox.done(id, request);
        Ok(())
    }

    fn watch(&mut self, link: u32, ticket: &Ticket, now: Now, outbox: &mut Outbox) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let (session, timers) = self.session_and_timers(link)?;
        let bound = session.limits(&directory.limits()).watches_max;
        if session.watches.len() >= bound {
            return Err(Refusal::limit("watches_max", session.watches.len() as u64, bound as u64));
        }
        session.check_room(WATCH_BYTES, &directory.limits())?;
        presence::watch(&directory, session, ticket, outbox)?;
        session.watches.push(Watched { identity: ticket.issuer, not_after_unix_s: ticket.not_after_unix_s });
        schedule_watches(session, timers, now);
        Ok(())
    }

    /// Ends the watches of a session whose tickets ran out.
    fn end_expired_watches(&mut self, id: SessionId, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        let Ok((session, timers)) = self.session_and_timers(id.link) else { return };
        if session.id != id {
            return;
        }
        session.watches_scheduled = false;
        let expired = |watched: &Watched| watched.not_after_unix_s < now.unix_s();
        for Watched { identity, .. } in session.watches.iter().copied().filter(expired) {
            presence::unwatch(&directory, id, &identity, outbox);
            let identity = Bytes::copy_from_slice(identity.as_bytes());
            outbox.event(id, Body::WatchEnded(WatchEnded { identity, reason: RefusalReason::TicketExpired.into() }));
        }
        session.watches.retain(|watched| !expired(watched));
        schedule_watches(session, timers, now);
    }

    fn join(
        &mut self,
        link: u32,
        request: u64,
        wanted: &JoinRoom,
        now: Now,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let waits = if self.is_clustered() { self.waits_to_join(link) } else { 0 };
        let session = self.session_at(link)?;
        let (room, joining) = rooms::check_join(&directory, session, wanted, waits)?;
        if outbox.homes().is_clustered() {
            return self.ask(link, (room, request), Asked::Join(joining), outbox);
        }
        let member = rooms::join(&directory, room, &joining, (session.id, request), now, outbox)?;
        session.rooms.insert(room, member);
        self.links_by_room.entry(room).or_default().push(link);
        Ok(())
    }

    /// Where the room is: puts a member out.
    pub(crate) fn kick(
        &mut self,
        room: RoomId,
        member: MemberId,
        kicker: (SessionId, u64),
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let request = kicker.1;
        if rooms::forget_away(&self.directory, &room, member) {
            outbox.done(kicker.0, request);
            return Ok(());
        }
        let victim = rooms::session_of(&self.directory, &room, member)?;
        if victim == kicker.0 {
            return Err(Refusal::field("member", member.into(), 0));
        }
        // The kicker gets its answer from the victim's shard, after nothing reaches the victim any more.
        let is_out = self.take_out(room, (member, victim), Some(kicker), outbox);
        if is_out { Ok(()) } else { Err(Refusal::of(RefusalReason::UnknownMember)) }
    }

    /// Takes a member out of its room, wherever it is; whether it was there.
    pub(crate) fn take_out(
        &mut self,
        room: RoomId,
        (member, session): (MemberId, SessionId),
        kicker: Option<(SessionId, u64)>,
        outbox: &mut Outbox,
    ) -> bool {
        let removed = rooms::remove(&self.directory, room, member, session, Leaving::Kicked, outbox);
        let Some(removed) = removed else { return false };
        self.end_tracks_of(&room, &removed.tracks, outbox);
        let mut kicker = kicker;
        if crate::planted::planted!(KickAnsweredEarly)
            && let Some((kicker, request)) = kicker.take()
        {
            outbox.done(kicker, request);
        }
        outbox.mail(session.at, ControlMail::Evict { session, room, member, kicker });
        true
    }

    /// A deadline of the control plane that has come.
    pub(crate) fn handle_due(&mut self, due: Due, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        match due {
            Due::Presence(identity) => presence::announce_due(&directory, identity, now, &mut self.timers, outbox),
            Due::Ring(ring) => {
                self.abroad.forget_guest(&ring);
                rings::timeout(&directory, ring, outbox);
            }
            Due::RingStart(ring) => self.check_start(ring, true, now, outbox),
            Due::Take(number) => self.finish_take(number, true, now, outbox),
            Due::Watches(id) => self.end_expired_watches(id, now, outbox),
            Due::PushEndpoints(identity) => push::look(&directory, identity, now, &mut self.timers),
            Due::Report(identity) => presence::report_due(&directory, identity, now, &mut self.timers, outbox),
            Due::Round => self.round_due(now, outbox),
            Due::Desk(room) => self.desk_due(room, now, outbox),
            Due::Keyframe(alias) => self.keyframe_due(alias, now.instant, outbox),
        }
    }
}

/// How often a session's tickets are looked at: a watch ends at most this late. One deadline a session, however many
/// watches it starts and stops.
const WATCHES_INTERVAL: Duration = Duration::from_secs(15);

fn schedule_watches(session: &mut Session, timers: &mut Timers, now: Now) {
    let Some(first) = session.watches.iter().map(|watched| watched.not_after_unix_s).min() else { return };
    if !session.watches_scheduled {
        session.watches_scheduled = true;
        let left = Duration::from_secs(first.saturating_sub(now.unix_s()) + 1);
        timers.insert(now.instant + left.min(WATCHES_INTERVAL), Due::Watches(session.id));
    }
}

/// The ticket, if this session may use it for this, here.
fn check_ticket(session: &Session, bytes: &[u8], proof: &[u8], grant: Grants, now: Now) -> Result<Ticket, Refusal> {
    let ticket = Ticket::from_bytes(bytes)?;
    if !ticket.allows(grant, session.binding.relay()) {
        return Err(Refusal::of(RefusalReason::TicketInvalid));
    }
    ticket.verify(now.unix_s())?;
    let presenter = Presenter { identity: session.identity, device: session.device };
    ticket.verify_presented(&presenter, &session.binding, proof)?;
    Ok(ticket)
}

/// The room that stands for whoever has this key, if this session shows that it has it.
pub(crate) fn check_room_key(session: &Session, key: &[u8], proof: &[u8]) -> Result<RoomId, Refusal> {
    let key = RoomKey::from_slice(key)?;
    verify_room(&key, &session.binding, &session.device, proof).map_err(|_| Refusal::of(RefusalReason::JoinProof))?;
    Ok(RoomId::standing(&key))
}
