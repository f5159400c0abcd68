//! One shard's part of the core.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use supernode_proto::{
    VERSION,
    close::CloseCode,
    control::{Hello, HelloBody, RefusalReason, Rung, Welcome, relay_message::Body},
    identity::{self, ChannelBinding, Delegation, IdentityKey, Revocation, RoomId},
    limits as wire,
    object::TrackAlias,
};

use super::{
    Address, Admit, Applicant, Asked, ControlMail, Errand, Grant, NodeId, Now, Outbox, RoomAsk, SessionId, StreamKey,
    TokenDigest,
    abroad::Abroad,
    control::Refusal,
    forwarding::{forward::TrackTable, group_cache::GroupCache, ledger::Ledger, speakers::Speakers},
    grants::{accounts::Allowance, limits::Limits},
    outbox::Here,
    receiver::{ladder::RUNGS, rate_estimate::Sample},
    registry::{
        crossings::Crossing,
        directory::Directory,
        presence::{self, Departure, Word},
        rings,
        rooms::{self, Leaving},
        tracks::KeyframeAsked,
    },
    session::{Session, Standing},
    timers::Timers,
};

/// Why there is no session.
#[derive(Debug)]
pub enum NotOpened {
    /// There will be none: the code to close the connection with.
    Close(CloseCode),
    /// It is not decided yet whether they are admitted ([`Admit::is_decided`]).
    Undecided(Applicant),
}

impl From<CloseCode> for NotOpened {
    fn from(code: CloseCode) -> Self {
        Self::Close(code)
    }
}

/// What a connection proves in its Hello.
#[derive(Debug)]
pub struct Greeting<'a> {
    /// The message.
    pub hello: &'a Hello,
    /// What its connection has for signatures to be bound to, and this relay.
    pub binding: ChannelBinding,
    /// Where its packets come from.
    pub from: IpAddr,
}

/// What the sessions of one shard hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions.
    pub sessions: u64,
    /// Tracks published or subscribed here.
    pub tracks: u64,
    /// Subscriptions to tracks.
    pub subscriptions: u64,
    /// Watches of somebody's presence.
    pub watches: u64,
    /// Memberships of rooms.
    pub members: u64,
    /// Sessions on each rung of the ladder, by its number on the wire.
    pub rungs: [u64; RUNGS],
}

/// Sessions of one shard, their subscriptions and their deadlines.
///
/// A core does nothing by itself: its *shell* has the connections, the clock and the way to other shards. What the shell owes
/// it:
///
/// - **Time** ([`Now`]) never goes back from one call to the next.
/// - **A link** is the shell's number for a connection: unique among those that are open. Of each it says in turn that a
///   Hello came ([`Self::open_session`]; again, if that was undecided), each message ([`Self::handle_frame`]), each object
///   and each stream ([`Self::forward_datagram`], [`Self::route_stream`], [`Self::charge_stream`]), how its path does
///   ([`Self::observe_path`] when [`Self::wants_sample`], [`Self::charge_egress`]), whether it may stay ([`Self::review`]),
///   and that it is over ([`Self::close_session`]), whoever ended it.
/// - **Errands**: after the calls that take an [`Outbox`], and before it waits for anything, it takes
///   [`Self::next_errand`] until there is none, and does each before it takes the next. One drain serves any number of
///   calls. There is one outbox for each core, and nothing else to take.
/// - **Letters** of other shards go to [`Self::handle_letter`], those of one shard in their order.
/// - **Deadlines**: [`Self::handle_timeout`] once [`Self::poll_timeout`] has come.
/// - **The end of a turn**: [`Self::end_turn`], and, about once a second, [`Self::refresh_limits`] and
///   [`Self::sweep_accounts`].
pub struct ShardCore {
    pub(crate) at: Address,
    pub(crate) directory: Arc<Directory>,
    pub(crate) sessions: Vec<Option<Box<Session>>>,
    /// Which of them are in a room.
    pub(crate) links_by_room: HashMap<RoomId, Vec<u32>>,
    pub(crate) timers: Timers,
    pub(crate) keyframes: HashMap<TrackAlias, KeyframeAsked, FixedState>,
    /// Pictures that somebody is sent again, and that need a key frame.
    pub(crate) wanted_pictures: Vec<TrackAlias>,
    /// Newest groups of the tracks that are published here.
    pub cache: GroupCache<StreamKey>,
    /// Who speaks, as far as this shard hears.
    pub speakers: Speakers,
    /// What is taken of tracks across nodes, each under the other node.
    pub(crate) crossings: BTreeMap<(NodeId, TrackAlias), Crossing>,
    generation: u32,
    /// What it has to do with other nodes.
    pub(crate) abroad: Abroad,
    pub(crate) limits: Arc<Limits>,
    /// The hot path's table.
    pub tracks: TrackTable,
    /// What became of every object.
    pub ledger: Ledger,
}

impl ShardCore {
    /// An empty shard.
    pub fn new(at: Address, directory: Arc<Directory>) -> Self {
        Self {
            at,
            limits: directory.limits_now(),
            directory,
            sessions: Vec::new(),
            links_by_room: HashMap::new(),
            timers: Timers::default(),
            keyframes: HashMap::default(),
            wanted_pictures: Vec::new(),
            cache: GroupCache::default(),
            speakers: Speakers::default(),
            crossings: BTreeMap::new(),
            generation: 0,
            abroad: Abroad::default(),
            tracks: TrackTable::default(),
            ledger: Ledger::default(),
        }
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.at
    }

    /// What all shards share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The limits as this shard last took note of them: reading them costs nothing.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes note of limits that have changed.
    pub fn refresh_limits(&mut self) {
        self.limits = self.directory.limits_now();
    }

    /// Forgets who owes nothing any more. Once a second is often enough.
    pub fn sweep_accounts(&self, now: Instant) {
        self.directory.accounts.sweep(now);
    }

    /// Opens a session for a connection that said Hello; the Welcome is in `outbox`.
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub fn open_session(
        &mut self,
        link: u32,
        greeting: &Greeting<'_>,
        admission: &dyn Admit,
        now: Now,
        outbox: &mut Outbox,
    ) -> Result<SessionId, NotOpened> {
        let (version, delegation, token, word) = check_hello(greeting, now)?;
        if self.directory.is_draining() {
            return Err(CloseCode::GOING_AWAY.into());
        }
        let who = Applicant { identity: delegation.identity, device: delegation.device, from: greeting.from, token };
        if !admission.is_decided(&who, now.unix_s()) {
            return Err(NotOpened::Undecided(who));
        }
        let grant = admission.admit(&who, now.unix_s())?;
        self.check_day(&who.identity, &grant, now.instant, outbox)?;
        if !self.directory.enter() {
            outbox.counts.limit("sessions_max");
            return Err(CloseCode::TOO_MANY_SESSIONS.into());
        }
        self.generation = self.generation.wrapping_add(1);
        let id = SessionId { at: self.at, link, generation: self.generation };
        let (identity, device) = (who.identity, who.device);
        let known = word.revocation.as_ref().map_or(0, |word| word.number);
        let account = self.directory.accounts.open(identity, now.instant);
        match presence::connect(&self.directory, identity, device, (id, word), now, outbox) {
            Ok(Some((earlier, rings))) => rings::device_gone(&self.directory, earlier, &identity, rings, outbox),
            Ok(None) => {}
            Err(code) => {
                self.directory.accounts.close(identity, &self.limits, now.instant);
                self.directory.leave();
                return Err(code.into());
            }
        }
        let limits = self.directory.limits();
        let standing = Standing { delegated_until_unix_s: delegation.not_after_unix_s, grant };
        let (token, kept) = (TokenDigest::of(&who.token), self.directory.tables.share());
        let session = Session::new(id, (identity, device), token, standing, greeting, account, kept, now.instant);
        let welcome = Welcome {
            version,
            unix_ms: now.unix_ms,
            limits: Some(session.limits(&limits).granted()),
            push_key: self.directory.push_services().map(|services| services.key.clone()).unwrap_or_default(),
        };
        outbox.event(id, Body::Welcome(welcome));
        presence::tell_revocation(&self.directory, &identity, (id, known), outbox);
        let slot = link as usize;
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(Box::new(session));
        Ok(id)
    }

    /// Whoever has been sent a day's bytes, or comes to a relay that has sent them, is not let in.
    fn check_day(
        &self,
        identity: &IdentityKey,
        grant: &Grant,
        now: Instant,
        outbox: &mut Outbox,
    ) -> Result<(), CloseCode> {
        let (accounts, limits) = (&self.directory.accounts, &self.limits);
        if accounts.is_relay_used_up(limits, now) {
            outbox.counts.limit("relay_egress_bytes_per_day_max");
            return Err(CloseCode::RELAY_DAY_USED_UP);
        }
        let limits = grant.limits.as_deref().unwrap_or(limits);
        let is_used_up = limits.egress_bytes_per_day_max > 0
            && accounts.of(identity).is_some_and(|account| account.is_used_up(Allowance::EgressDay, limits, now));
        if is_used_up {
            outbox.counts.limit("egress_bytes_per_day_max");
            return Err(CloseCode::DAY_USED_UP);
        }
        Ok(())
    }

    /// Charges an identity for what one of its devices was sent; returns how long objects have to wait for it. Who
    /// has used a day up is closed by what is in `outbox`.
    pub fn charge_egress(&self, link: u32, bytes: u64, now: Instant, outbox: &mut Outbox) -> Duration {
        let Some(session) = self.session(link) else { return Duration::ZERO };
        let limits = session.limits(&self.limits);
        if !self.directory.accounts.charge_relay(bytes, &self.limits, now) {
            outbox.counts.limit("relay_egress_bytes_per_day_max");
            outbox.close(session.id, CloseCode::RELAY_DAY_USED_UP);
        }
        let day_max = limits.egress_bytes_per_day_max;
        if day_max > 0 && !session.account.charge(Allowance::EgressDay, bytes, limits, now).is_zero() {
            outbox.counts.limit("egress_bytes_per_day_max");
            outbox.close(session.id, CloseCode::DAY_USED_UP);
        }
        let wait = session.account.charge(Allowance::Egress, bytes, limits, now);
        if !wait.is_zero() {
            outbox.counts.limit("egress_bytes_per_second_max");
        }
        wait
    }

    /// Ends a session: it leaves its rooms, its rings end, its watchers hear of it. Harmless if there is none.
    /// `clean` says that it said goodbye.
    pub fn close_session(&mut self, link: u32, clean: bool, now: Now, outbox: &mut Outbox) {
        let Some(session) = self.session_mut(link) else { return };
        let rooms: Vec<RoomId> = session.rooms.keys().copied().collect();
        let leaving = if clean { Leaving::Left } else { Leaving::Away(now.instant) };
        for room in &rooms {
            self.leave(link, room, 0, leaving, outbox);
        }
        self.forget_waits(link);
        let Some(mut session) = self.sessions.get_mut(link as usize).and_then(Option::take) else { return };
        session.settle(&self.limits);
        self.directory.accounts.close(session.identity, &self.limits, now.instant);
        rings::session_ended(&self.directory, &session, outbox);
        for watched in &session.watches {
            presence::unwatch(&self.directory, session.id, &watched.identity, outbox);
        }
        let departure = if clean { Departure::Clean } else { Departure::Broken };
        presence::disconnect(&self.directory, &session, departure, now, &mut self.timers, outbox);
        self.directory.leave();
    }

    /// Takes a letter from another shard: what it asks for is among the next errands.
    pub fn handle_letter(&mut self, letter: Vec<ControlMail>, outbox: &mut Outbox) {
        letter.into_iter().for_each(|mail| outbox.mail_here(mail));
    }

    /// The next thing that the shell is to do. What is for this core itself is done on the way.
    pub fn next_errand(&mut self, now: Now, outbox: &mut Outbox) -> Option<Errand> {
        loop {
            match outbox.next()? {
                Here::ByShell(errand) => return Some(errand),
                Here::ByCore(mail) => self.handle_mail(mail, now, outbox),
            }
        }
    }

    pub(crate) fn handle_mail(&mut self, mail: ControlMail, now: Now, outbox: &mut Outbox) {
        match mail {
            // The outbox keeps these for the shell.
            ControlMail::Client(mail) => outbox.errand(Errand::Client(mail)),
            ControlMail::Ask(ask) if !self.is_clustered() => self.carry_out_ask(*ask, now, outbox),
            ControlMail::Interest { alias, from, demand, fresh } => {
                self.interest(alias, from, demand, fresh, now.instant, outbox);
            }
            ControlMail::Keyframe { alias } => self.keyframe(alias, now.instant, outbox),
            ControlMail::TrackEnded { alias } => {
                // The publisher's own list: it may not be the one who ended it.
                if let Some(link) = self.tracks.track(alias).and_then(|track| track.publisher)
                    && let Some(session) = self.session_mut(link)
                {
                    session.published.retain(|own| *own != alias);
                }
                self.track_ended(alias, outbox);
            }
            ControlMail::Evict { session, room, member, kicker } => {
                let is_that_member = |live: &Session| live.id == session && live.rooms.get(&room) == Some(&member);
                let is_there = self.session(session.link).is_some_and(is_that_member);
                if is_there {
                    self.evict(session.link, &room, outbox);
                }
                match kicker {
                    // By way of the home, which answers in any case, and of which alone the kicker's shard hears.
                    Some((kicker, request)) if self.is_clustered() => {
                        let what = Asked::IsOut { kicker, request };
                        outbox.ask(RoomAsk { room, from: session, member: 0, request: 0, what });
                    }
                    Some((kicker, request)) => outbox.done(kicker, request),
                    None => {}
                }
                if is_there && self.is_clustered() {
                    self.refuse_waits_of(session, &room, outbox);
                    self.out(room, outbox);
                }
            }
            abroad => self.handle_abroad(abroad, now, outbox),
        }
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Acts on every deadline that has come.
    pub fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox) {
        while let Some(due) = self.timers.pop(now.instant) {
            self.handle_due(due, now, outbox);
        }
    }

    /// To be called at the end of each turn of the shell: asks for key frames of the pictures that somebody is sent again
    /// because their members speak.
    pub fn end_turn(&mut self, outbox: &mut Outbox) {
        for alias in std::mem::take(&mut self.wanted_pictures) {
            if let Some(publisher) = self.directory.tracks.get(&alias).map(|entry| entry.publisher) {
                outbox.mail(publisher.at, ControlMail::Keyframe { alias });
            }
        }
    }

    /// Looks at a subscriber's path: how long the oldest object has waited, and a sample of what its connection has
    /// measured, if [`Self::wants_sample`]. What follows is in `outbox`.
    pub fn observe_path(
        &mut self,
        link: u32,
        oldest: Duration,
        sample: Option<Sample>,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let too_slow_after = self.limits.too_slow_after;
        let Some(session) = self.session_mut(link) else { return };
        let Some(receiver) = &mut session.receiver else { return };
        let change = receiver.observe(oldest, sample, now);
        let (rung, is_stuck) = (receiver.ladder().rung(), receiver.ladder().stuck(now) >= too_slow_after);
        let id = session.id;
        if is_stuck {
            return outbox.close(id, CloseCode::TOO_SLOW);
        }
        if let Some(change) = change {
            if change.from < rung {
                self.ledger.ladder_down[rung as usize] += 1;
            } else if change.from > rung {
                self.ledger.ladder_up[rung as usize] += 1;
            }
            outbox.event(id, Body::Allocation(change.allocation));
            self.path_changed(link, &change, outbox);
        }
    }

    /// Whether a sample of a session's path is due: always of one that subscribes to nothing, which seldom has its turn.
    pub fn wants_sample(&self, link: u32, now: Instant) -> bool {
        let is_due = |session: &Session| session.receiver.as_ref().is_none_or(|receiver| receiver.wants_sample(now));
        self.session(link).is_some_and(is_due)
    }

    /// Whether a subscriber is below the top of the ladder: it may climb with time alone.
    pub fn is_low(&self, link: u32) -> bool {
        self.session(link).is_some_and(|session| session.rung() != Rung::Full)
    }

    /// Whether this session is still the one in its slot.
    pub fn is_live(&self, id: SessionId) -> bool {
        self.id_of(id.link) == Some(id)
    }

    /// The session behind a link.
    pub fn session(&self, link: u32) -> Option<&Session> {
        self.sessions.get(link as usize)?.as_deref()
    }

    /// Whether the session behind a link may stay: a session that is to be asked about `anyway`, or whose grant is
    /// over, is. `from` is where its packets come from.
    ///
    /// # Errors
    /// Why it may not: the code to close it with.
    pub fn review(
        &mut self,
        link: u32,
        from: IpAddr,
        anyway: bool,
        admission: &dyn Admit,
        now: Now,
    ) -> Result<(), CloseCode> {
        match self.session_mut(link) {
            Some(session) => session.review(from, anyway, admission, now.unix_s()),
            None => Ok(()),
        }
    }

    /// Whether a session publishes a track.
    pub fn publishes(&self, link: u32) -> bool {
        self.session(link).is_some_and(|session| !session.published.is_empty())
    }

    /// The room that a session is in; of several, always the same one.
    pub fn room_of(&self, link: u32) -> Option<RoomId> {
        self.session(link)?.rooms.keys().next().copied()
    }

    /// What a session's path is taken to carry in bits a second, zero if not known.
    pub fn path_bits_per_second(&self, link: u32) -> Option<u64> {
        Some(self.session(link)?.receiver.as_ref().map_or(0, |receiver| receiver.bits_per_second()))
    }

    /// What the sessions of this shard hold.
    pub fn holdings(&self) -> Holdings {
        let mut holdings = Holdings { tracks: self.tracks.len() as u64, ..Holdings::default() };
        for session in self.sessions.iter().flatten() {
            holdings.sessions += 1;
            holdings.subscriptions += session.subscribed.len() as u64;
            holdings.watches += session.watches.len() as u64;
            holdings.members += session.rooms.len() as u64;
            holdings.rungs[session.rung() as usize] += 1;
        }
        holdings
    }

    /// How many identities it listens for in a cluster, to hear what other nodes have of them: zero after everybody has left.
    pub fn listens_for(&self) -> usize {
        self.abroad.len()
    }

    /// How many sessions, tracks, subscriptions, deadlines, key frame requests, ranked rooms, cached groups, cached bytes
    /// and rooms with members there are: all zero after everybody has left and the last deadline has passed.
    pub fn census(&self) -> [usize; 9] {
        let sessions = self.sessions.iter().flatten();
        [
            sessions.clone().count(),
            self.tracks.len(),
            sessions.map(|session| session.subscribed.len()).sum(),
            self.timers.len(),
            self.keyframes.len(),
            self.speakers.len(),
            self.cache.len(),
            self.cache.bytes(),
            self.links_by_room.len(),
        ]
    }

    /// Takes a session out of a room, as it wishes by a request, or because it ends.
    pub(crate) fn leave(&mut self, link: u32, room: &RoomId, request: u64, leaving: Leaving, outbox: &mut Outbox) {
        let Some(id) = self.id_of(link) else { return };
        let Some(member) = self.evict(link, room, outbox) else { return };
        if self.is_clustered() {
            let is_away = matches!(leaving, Leaving::Away(_));
            return self.tell_left(link, (*room, member), (request, is_away), outbox);
        }
        self.remove_member(*room, (member, id), leaving, outbox);
    }

    /// Whether there may be other nodes.
    pub(crate) fn is_clustered(&self) -> bool {
        self.at.node.0 != 0
    }

    pub(crate) fn session_mut(&mut self, link: u32) -> Option<&mut Session> {
        self.sessions.get_mut(link as usize)?.as_deref_mut()
    }

    /// As [`Self::session_mut`], where the caller has checked that there is one.
    pub(crate) fn session_at(&mut self, link: u32) -> Result<&mut Session, Refusal> {
        self.session_mut(link).ok_or(Refusal::of(RefusalReason::Malformed))
    }

    pub(crate) fn session_and_timers(&mut self, link: u32) -> Result<(&mut Session, &mut Timers), Refusal> {
        let session = self.sessions.get_mut(link as usize).and_then(Option::as_deref_mut);
        session.map(|session| (session, &mut self.timers)).ok_or(Refusal::of(RefusalReason::Malformed))
    }
}

impl std::fmt::Debug for ShardCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardCore").field("at", &self.at).field("census", &self.census()).finish_non_exhaustive()
    }
}

/// The version to speak, who speaks, the admission token, and what they have taken back.
fn check_hello(greeting: &Greeting<'_>, now: Now) -> Result<(u32, Delegation, String, Word), CloseCode> {
    let body_bytes: &Bytes = &greeting.hello.body;
    let body = <HelloBody as prost::Message>::decode(body_bytes.clone()).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
    if body.version_min > VERSION || body.version_max < VERSION {
        return Err(CloseCode::VERSION);
    }
    if body.admission_token.len() > wire::ADMISSION_TOKEN_BYTES_MAX {
        return Err(CloseCode::NOT_ADMITTED);
    }
    let delegation = Delegation::from_bytes(&body.delegation).map_err(rooms::hello_close_code)?;
    delegation.verify(now.unix_s()).map_err(rooms::hello_close_code)?;
    identity::verify_hello(&delegation.device, &greeting.binding, body_bytes, &greeting.hello.signature)
        .map_err(rooms::hello_close_code)?;
    let revocation = match &body.revocation[..] {
        [] => None,
        bytes => {
            let revocation = Revocation::from_bytes(bytes).map_err(rooms::hello_close_code)?;
            revocation.verify().map_err(rooms::hello_close_code)?;
            Some(revocation)
        }
    };
    if revocation.as_ref().is_some_and(|word| word.identity != delegation.identity) {
        return Err(CloseCode::BAD_SIGNATURE);
    }
    let word = Word { ticket_generation: body.ticket_generation, revocation };
    Ok((VERSION, delegation, body.admission_token, word))
}
