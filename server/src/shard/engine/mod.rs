//! A shard without its socket: packets, mail and time in; packets and mail out.
//!
//! The loop calls, in this order and as often as it likes: [`Engine::handle_packet`], [`Engine::handle_mail`],
//! [`Engine::handle_timeouts`], then [`Engine::serve`], which lets every connection that was touched act, and
//! [`Engine::poll_transmits`], which builds packets for all of them. Serving everything that is readable before
//! building anything is what lets several objects share a packet.

mod drain;
mod reviews;
pub(crate) mod serve;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use quinn_proto::{ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, Endpoint, ServerConfig, VarInt};
use rand::rngs::StdRng;
use supernode_proto::{
    close::CloseCode,
    control::{RelayMessage, frame},
    identity::RelayPin,
    object::TrackAlias,
};

use self::{
    reviews::Reviews,
    serve::{Undecided, Work},
};
use crate::{
    core::{Admit, ControlMail, Now, Outbox, ShardCore, ShardId, StreamKey, fan_out::StreamRoute},
    shard::{
        connections::{
            connection::{Connection, Phase},
            crumbs,
            deadlines::Deadlines,
        },
        door::{Door, answers, prefixes::Prefixes},
        figures::{counters::Tally, distributions::Distributions},
        net::{
            handover::{Relief, Successor},
            socket::{Received, SendBatch},
        },
        post::{
            inbox::{self, Letter, Mailbox, MediaMail},
            room::Room,
        },
        quic::{cid, key_phases, meter, transport},
        streams::hold::Holds,
    },
};

/// How often a connection with something waiting, or low on the ladder, is looked at.
const WAIT_TICK: Duration = Duration::from_millis(20);
/// Most packets of one connection in one send.
pub(crate) const SEGMENTS_MAX: usize = 16;
/// How often clients whose streams are left unread for other shards' sake are looked at.
const MAIL_TICK: Duration = Duration::from_millis(1);
/// Mail that is taken in one turn, so that it cannot keep packets waiting.
pub(crate) const MAIL_PER_TURN: usize = 4096;
/// Connections whose paths are sampled in one census: a tenth of a millisecond, however many there are.
const SAMPLES_AT_ONCE: usize = 1024;

/// One shard's state.
pub(crate) struct Engine {
    pub(crate) shard: ShardId,
    pub(crate) core: ShardCore,
    pub(crate) tally: Tally,
    pub(crate) distributions: Distributions,
    pub(crate) connections: Vec<Option<Box<Connection>>>,
    pub(crate) streams: HashMap<StreamKey, StreamRoute, FixedState>,
    pub(crate) stream_next: u64,
    /// Streams that were aborted before their beginning came: control mail overtakes media.
    pub(crate) aborted_early: Vec<StreamKey>,
    pub(crate) holds: Holds,
    /// Subscribers that lost the newest base layer of a picture since packets were last built.
    pub(crate) lost_pictures: Vec<(u32, TrackAlias)>,
    pub(crate) outbox: Outbox,
    pub(crate) peers: Vec<Mailbox>,
    /// Peers that were given mail since they were last rung.
    pub(crate) unrung: Vec<bool>,
    pub(crate) pin: RelayPin,
    pub(crate) admission: Arc<dyn Admit>,
    pub(crate) prefixes: Arc<Prefixes>,
    pub(crate) door: Door,
    pub(crate) rng: StdRng,
    pub(crate) endpoint: Endpoint,
    pub(crate) dirty: Vec<u32>,
    /// Connections served this turn, whose packets are to be built.
    served: Vec<u32>,
    pub(crate) deadlines: Deadlines,
    /// Messages of the connection that is being served.
    pub(crate) requests: Vec<Bytes>,
    pub(crate) segments_max: usize,
    pub(crate) draining: bool,
    /// Where packets come from from now on, and who is to be told: for the loop, which has the socket.
    pub(crate) relief: Option<Relief>,
    /// The first connection whose path is sampled next.
    sample_next: usize,
    /// Hellos whose admission is not decided yet: at most one for each handshake in progress.
    pub(crate) undecided: Vec<Undecided>,
    /// Bytes of control messages of all connections, as of when each was served last.
    pub(crate) control_bytes: usize,
    /// When to look at them.
    pub(crate) ask_again_at: Option<Instant>,
    pub(crate) reviews: Reviews,
    /// Packets of crumbs that may still be served in this turn.
    crumbs_left: u8,
    /// What this turn may still make the relay keep before clients' streams are left unread.
    pub(crate) room: Room,
    /// What the connection that is being served may still have done in this turn.
    pub(crate) work: Work,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) shard: ShardId,
    pub(crate) core: ShardCore,
    pub(crate) endpoint: Endpoint,
    pub(crate) peers: Vec<Mailbox>,
    pub(crate) pin: RelayPin,
    pub(crate) admission: Arc<dyn Admit>,
    pub(crate) prefixes: Arc<Prefixes>,
    pub(crate) rng: StdRng,
    pub(crate) segments_max: usize,
    pub(crate) start: Instant,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let shards = parts.peers.len();
        Self {
            shard: parts.shard,
            core: parts.core,
            tally: Tally::default(),
            distributions: Distributions::default(),
            connections: Vec::new(),
            streams: HashMap::default(),
            stream_next: 0,
            aborted_early: Vec::new(),
            holds: Holds::default(),
            lost_pictures: Vec::new(),
            outbox: Outbox::new(parts.shard, shards as u16),
            unrung: vec![false; shards],
            peers: parts.peers,
            pin: parts.pin,
            reviews: Reviews::new(parts.admission.generation()),
            admission: parts.admission,
            prefixes: parts.prefixes,
            door: Door::new(shards, parts.start),
            rng: parts.rng,
            endpoint: parts.endpoint,
            dirty: Vec::new(),
            served: Vec::new(),
            deadlines: Deadlines::default(),
            requests: Vec::new(),
            segments_max: parts.segments_max.clamp(1, SEGMENTS_MAX),
            draining: false,
            relief: None,
            sample_next: 0,
            undecided: Vec::new(),
            control_bytes: 0,
            ask_again_at: None,
            crumbs_left: crumbs::PER_TURN_MAX,
            room: Room::of(shards),
            work: Work::default(),
        }
    }

    /// Meets new connections with this configuration, whose certificate's key has this pin. A connection that is there
    /// keeps the pin of the certificate that it was shown.
    pub(crate) fn meet_with(&mut self, server: Arc<ServerConfig>, pin: RelayPin) {
        self.endpoint.set_server_config(Some(server));
        self.pin = pin;
    }

    /// A UDP datagram. Answers that belong to no connection go to `out` at once.
    pub(crate) fn handle_packet(&mut self, received: Received, now: Now, out: &mut SendBatch) {
        if let Some(owner) = cid::shard_of(&received.data)
            && owner != self.shard
            && owner.index() < self.peers.len()
        {
            self.tally.handed_over += 1;
            // A full inbox loses it, as a full path would.
            self.put_media(owner, MediaMail::Packet(received));
            return;
        }
        self.handle_own_packet(received, now, out);
    }

    fn handle_own_packet(&mut self, received: Received, now: Now, out: &mut SendBatch) {
        let Received { remote, local_ip, ecn, arrived, data } = received;
        if answers::is_of_another_version(&data) && !self.door.answers.tell_version(&data, now.instant) {
            self.tally.strangers_dropped += 1;
            return;
        }
        if self.is_too_much(&data, remote, now.instant) {
            self.tally.first_packets_unread += 1;
            return;
        }
        let (buffer, bytes) = (out.buffer(), data.len());
        match self.endpoint.handle(now.instant, remote, local_ip, ecn, data, buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.pass(handle, event, bytes, arrived),
            Some(DatagramEvent::NewConnection(incoming)) => self.welcome(incoming, bytes, now, out),
            Some(DatagramEvent::Response(transmit)) => self.answer_stranger(transmit, now, out),
            None => {}
        }
    }

    fn pass(&mut self, handle: ConnectionHandle, event: ConnectionEvent, bytes: usize, arrived: Instant) {
        let Some(connection) = self.connections.get_mut(handle.0).and_then(Option::as_mut) else { return };
        if !connection.crumbs.take(&mut self.crumbs_left) {
            self.tally.crumbs_dropped += 1;
            return;
        }
        connection.unserved_since.get_or_insert(arrived);
        if let Some(newcomer) = &mut connection.newcomer {
            newcomer.receive(bytes);
        }
        connection.quic.handle_event(event);
        connection.crumbs.look(&connection.quic);
        // What came decides how urgent it is.
        connection.news = true;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(handle.0 as u32);
        }
    }

    /// Takes mail from other shards. Returns whether more may wait.
    pub(crate) fn handle_mail(&mut self, inbox: &inbox::Inbox, now: Now, out: &mut SendBatch) -> bool {
        if inbox.take_desynchronised() {
            self.tally.desynchronised += 1;
            tracing::error!(shard = self.shard.0, "control mail was lost: closing this shard's sessions");
            self.close_all(CloseCode::OVERLOADED, now);
        }
        let mut taken = 0;
        while taken < MAIL_PER_TURN && self.room.allows_another_letter(taken) {
            let Some(letter) = inbox.next_letter() else { break };
            taken += 1;
            match letter {
                Letter::Core(mail) => {
                    for mail in mail {
                        self.handle_core_mail(mail, now);
                    }
                    self.dispatch(now);
                }
                Letter::StreamAborted(key, code) => {
                    if !self.streams.contains_key(&key) {
                        self.aborted_early.push(key);
                    }
                    self.abort_stream_here(key, code);
                }
                Letter::StreamHold { key, by, on } => self.set_hold(key, by, on),
                Letter::Drain(window) => self.start_drain(window),
                Letter::Inspect(limit, answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(self.inspect(limit, now));
                }
                Letter::Census(answer) => {
                    let _ = answer.try_send(self.census());
                }
                Letter::Expel(whom, code, answer) => {
                    let _ = answer.try_send(self.expel(whom, code, now));
                }
                Letter::Relieve(socket, done) => self.relief = Some(Relief::Begin(Successor::new(socket), done)),
                Letter::Reclaim(done) => self.relief = Some(Relief::End(done)),
            }
        }
        for mail in inbox.media.try_iter().take(MAIL_PER_TURN) {
            match mail {
                MediaMail::Packet(received) => self.handle_own_packet(received, now, out),
                mail => self.handle_media(mail, now.instant),
            }
        }
        // The beginning of a stream was put before its abortion: if no media waits, none is still to come.
        if inbox.media.is_empty() {
            self.aborted_early.clear();
        }
        !inbox.is_empty()
    }

    /// Looks at every connection and deadline whose time has come.
    pub(crate) fn handle_timeouts(&mut self, now: Now) {
        if self.core.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.core.handle_timeout(now, &mut self.outbox);
            self.dispatch(now);
        }
        self.ask_again(now);
        self.review_turn(now);
        while let Some(link) = self.deadlines.pop(now.instant) {
            if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) {
                connection.quic.handle_timeout(now.instant);
                self.touch(link);
            }
        }
    }

    /// When [`Self::handle_timeouts`] has something to do next.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        [self.deadlines.next(now), self.core.poll_timeout(), self.ask_again_at].into_iter().flatten().min()
    }

    /// Lets every connection act on what came in for it. Those that are only to be sent something are left for
    /// [`Self::poll_transmits`].
    pub(crate) fn serve(&mut self, now: Now) {
        self.crumbs_left = crumbs::PER_TURN_MAX;
        self.room.look(&self.peers);
        let mut next = 0;
        while let Some(link) = self.dirty.get(next).copied() {
            next += 1;
            let connection = self.connections.get_mut(link as usize).and_then(Option::as_mut);
            if connection.is_some_and(|connection| std::mem::take(&mut connection.news)) {
                self.serve_one(link, now);
            }
        }
    }

    /// Whether a connection is still to be served or asked about.
    pub(crate) fn is_busy(&self) -> bool {
        !self.dirty.is_empty() || self.reviews.is_under_way()
    }

    /// Counts what is counted only now and then.
    pub(crate) fn take_census(&mut self, now: Now) {
        let holdings = self.core.holdings();
        self.tally.sessions = holdings.sessions;
        self.tally.tracks = holdings.tracks;
        self.tally.subscriptions = holdings.subscriptions;
        self.tally.watches = holdings.watches;
        self.tally.members = holdings.members;
        self.tally.queue_oldest_us = self.distributions.take_longest_wait().as_micros() as u64;
        self.core.ledger.cached_bytes = self.core.cache.bytes() as u64;
        self.core.ledger.groups_outgrown = self.core.cache.outgrown();
        self.sample_paths(now);
        self.distributions.holdings = holdings;
    }

    /// Takes note of the round-trip times and rates of some connections, after each other all of them.
    fn sample_paths(&mut self, now: Now) {
        let first = if self.sample_next < self.connections.len() { self.sample_next } else { 0 };
        let last = (first + SAMPLES_AT_ONCE).min(self.connections.len());
        let mut stale = Vec::new();
        for connection in self.connections[first..last].iter().flatten() {
            let Some(session) = connection.session() else { continue };
            if key_phases::unanswered(&connection.quic) > key_phases::UNANSWERED_PACKETS_MAX {
                stale.push(session.link);
            }
            self.distributions.rtt_us.observe(connection.quic.rtt().as_micros() as u64, 1);
            if let Some(bits @ 1..) = self.core.path_bits_per_second(session.link) {
                self.distributions.path_kbits.observe(bits / 1000, 1);
            }
        }
        self.sample_next = last;
        for link in stale {
            self.close(link, CloseCode::STALE_KEYS, now);
        }
    }

    /// Builds packets for every connection that was served. Calls `flush` whenever the batch is full.
    pub(crate) fn poll_transmits(
        &mut self,
        now: Now,
        out: &mut SendBatch,
        mut flush: impl FnMut(&mut SendBatch, &mut Tally),
    ) {
        let mut served = std::mem::take(&mut self.served);
        std::mem::swap(&mut served, &mut self.dirty);
        for link in served.drain(..) {
            let Some(mut connection) = self.connections.get_mut(link as usize).and_then(Option::take) else { continue };
            connection.dirty = false;
            // Audio may gather for a moment, so that several people's objects share a packet.
            if !std::mem::take(&mut connection.urgent)
                && let Some(until) = connection.gather.wait(self.core.limits().audio_budget, now.instant)
            {
                self.deadlines.hasten(link, until);
                self.connections[link as usize] = Some(connection);
                continue;
            }
            connection.gather.sent(now.instant);
            self.look_at_path(link, &mut connection, now);
            self.exchange_endpoint_events(&mut connection);
            loop {
                self.widen_if_behind(&mut connection);
                connection.flush_control();
                if !connection.is_throttled(now.instant) {
                    self.flush_streams(link, &mut connection, now.instant);
                    connection.refill(now.instant, &mut self.core.ledger);
                }
                let mut built = false;
                // One by one as long as each is weighed against what came from an address that has proven nothing.
                let segments_max = if connection.newcomer.is_some() { 1 } else { self.segments_max };
                while let Some(transmit) = connection.quic.poll_transmit(now.instant, segments_max, out.buffer()) {
                    built = true;
                    if connection.newcomer.as_mut().is_some_and(|newcomer| !newcomer.may_send(transmit.size)) {
                        self.tally.unproven_withheld += 1;
                        continue;
                    }
                    if out.commit(transmit) {
                        flush(out, &mut self.tally);
                    }
                }
                connection.note_held_back();
                // What went out made room for what waits.
                if !built || connection.datagrams.is_empty() {
                    break;
                }
            }
            self.settle(link, connection, now);
        }
        self.served = served;
        flush(out, &mut self.tally);
        for (link, alias) in std::mem::take(&mut self.lost_pictures) {
            self.core.wish_keyframe(link, alias, &mut self.outbox);
        }
        self.shed_if_full();
        self.close_fullest(now);
        self.release_holds(now);
        self.core.ask_for_wanted_pictures(&mut self.outbox);
        self.dispatch(now);
    }

    /// Drops what waits for a subscriber and is too late, and takes note of how its path does.
    fn look_at_path(&mut self, link: u32, connection: &mut Connection, now: Now) {
        if connection.session().is_none() {
            return;
        }
        let oldest = connection.oldest(now.instant);
        let due = self.core.wants_sample(link, now.instant);
        // Whoever waits for nothing shows nothing new between two samples.
        if oldest.is_zero() && !due {
            return;
        }
        self.distributions.waited(oldest);
        connection.datagrams.expire(now.instant, &mut self.core.ledger);
        if due {
            self.charge_egress(link, connection, now.instant);
        }
        let sample = due.then(|| connection.sample(now.instant));
        self.core.observe_path(link, oldest, sample, now.instant, &mut self.outbox);
    }

    /// A served connection goes back to its place, with a new deadline, or is forgotten.
    fn settle(&mut self, link: u32, mut connection: Box<Connection>, now: Now) {
        self.count_control(&mut connection);
        self.ask_for_withheld(&mut connection);
        let answered = self.exchange_endpoint_events(&mut connection);
        if connection.quic.is_drained() {
            return self.forget(link, &mut connection, now.instant);
        }
        let mut deadline = connection.quic.poll_timeout();
        let mut at_latest = |at: Instant| deadline = Some(deadline.map_or(at, |earlier| earlier.min(at)));
        if let Some(newcomer) = &connection.newcomer
            && connection.phase != Phase::Closed
        {
            at_latest(newcomer.hello_by);
        }
        if connection.waits() || self.core.is_low(link) {
            at_latest(now.instant + WAIT_TICK);
        }
        // It goes on where it left off, after everybody else had a turn; soon, if another shard has to take its mail first.
        let more = !connection.unread.is_empty();
        if more && self.room.is_used_up() {
            at_latest(now.instant + MAIL_TICK);
        }
        self.deadlines.arm(link, deadline);
        self.connections[link as usize] = Some(connection);
        if answered || (more && !self.room.is_used_up()) {
            self.touch(link);
        }
    }

    /// Passes events between a connection and the endpoint; returns whether the connection got any back.
    fn exchange_endpoint_events(&mut self, connection: &mut Connection) -> bool {
        let mut answered = false;
        while let Some(event) = connection.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(connection.handle, event) {
                connection.quic.handle_event(event);
                answered = true;
            }
        }
        answered
    }

    /// Puts a connection on the list of those to serve.
    pub(crate) fn touch(&mut self, link: u32) {
        if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) {
            (connection.news, connection.urgent) = (true, true);
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push(link);
            }
        }
    }

    /// Carries out what the core wants done, until it wants nothing more.
    pub(crate) fn dispatch(&mut self, now: Now) {
        loop {
            for (link, alias, code) in self.core.take_ended_subscriptions() {
                if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) {
                    connection.purge(alias, code, &mut self.core.ledger);
                    self.touch(link);
                }
            }
            for link in self.core.take_evicted() {
                if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) {
                    connection.recall(&mut self.core.ledger);
                    self.touch(link);
                }
            }
            for (session, alias) in self.core.take_late_joiners() {
                self.send_newest_group(session, alias, now.instant);
            }
            if self.outbox.is_empty() {
                return;
            }
            for (shard, mail) in self.outbox.take_remote() {
                self.put_control(shard, Letter::Core(mail));
            }
            for mail in self.outbox.take_local() {
                self.handle_core_mail(mail, now);
            }
        }
    }

    fn handle_core_mail(&mut self, mail: ControlMail, now: Now) {
        match mail {
            ControlMail::Send { to, message } => {
                if self.core.is_live(to) {
                    self.send(to.link, &message, now);
                }
            }
            ControlMail::Tell { to, message } => {
                let frame = frame(&message);
                for to in to {
                    if self.core.is_live(to) {
                        self.send_frame(to.link, frame.clone(), now);
                    }
                }
            }
            ControlMail::Deliver { to, delivery } => self.deliver(&to, delivery, now),
            ControlMail::DeliverWithheld { to, room, missed } => self.deliver_withheld(to, room, missed, now),
            ControlMail::Close { session, code } => {
                if self.core.is_live(session) {
                    self.close(session.link, code, now);
                }
            }
            mail => self.core.handle_mail(mail, now, &mut self.outbox),
        }
    }

    /// Queues a message for a client, or closes the session of one that does not read.
    pub(crate) fn send(&mut self, link: u32, message: &RelayMessage, now: Now) {
        self.send_frame(link, frame(message), now);
    }

    /// As [`Self::send`], for a message in its frame, which several clients may share.
    pub(crate) fn send_frame(&mut self, link: u32, frame: Bytes, now: Now) {
        let backlog_max = self.core.limits().control_backlog_bytes_max;
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        self.room.queue(frame.len());
        let keeps_up = connection.send_frame(frame, backlog_max);
        self.touch(link);
        if !keeps_up {
            self.close(link, CloseCode::CONTROL_BACKLOG, now);
        }
    }

    /// Closes a connection with a code.
    pub(crate) fn close(&mut self, link: u32, code: CloseCode, now: Now) {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        if connection.phase != Phase::Closed {
            connection.quic.close(now.instant, VarInt::from_u32(code.0 as u32), transport::reason(code, now));
            meter::say_goodbye(&connection.quic);
            self.end(link, code, false, now);
        }
        self.touch(link);
    }

    /// A connection is over, whoever ended it: takes back everything it had.
    pub(crate) fn end(&mut self, link: u32, code: CloseCode, clean: bool, now: Now) {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        if let Some(newcomer) = &connection.newcomer {
            self.door.places.end(newcomer.place);
        }
        match std::mem::replace(&mut connection.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Handshaking => {
                self.tally.handshaking -= 1;
                self.tally.handshakes_failed += 1;
            }
            Phase::Greeting => {
                // The next connection may get the same link.
                self.undecided.retain(|waiting| waiting.link != link);
                self.tally.handshaking -= 1;
                self.tally.close(code);
            }
            Phase::Open(_) => {
                self.tally.close(code);
                let bytes = connection.take_sent_bytes();
                self.core.charge_egress(link, bytes, now.instant, &mut self.outbox);
            }
        }
        connection.clear(&mut self.core.ledger);
        let published: Vec<StreamKey> = connection.ingress.drain().map(|(_, ingress)| ingress.key).collect();
        for key in published {
            self.abort_stream(key);
        }
        self.core.close_session(link, clean, now, &mut self.outbox);
        self.dispatch(now);
    }

    /// Why the QUIC connection ended, in our terms.
    pub(crate) fn code_of(error: &ConnectionError) -> (CloseCode, bool) {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode(close.error_code.into_inner());
                (code, code == CloseCode::BYE)
            }
            ConnectionError::TimedOut | ConnectionError::Reset => (CloseCode::BYE, false),
            // What came broke QUIC or TLS, or its defences ended it; or the client says that of what it was sent.
            ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::VersionMismatch => (CloseCode::TRANSPORT_ERROR, false),
            ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => (CloseCode::INTERNAL, false),
        }
    }

    /// Closes every connection.
    pub(crate) fn close_all(&mut self, code: CloseCode, now: Now) {
        for link in 0..self.connections.len() as u32 {
            self.close(link, code, now);
        }
    }

    /// A number for a new stream of this shard's publishers.
    pub(crate) fn stream_key(&mut self) -> StreamKey {
        self.stream_next += 1;
        StreamKey { shard: self.shard, number: self.stream_next }
    }

    /// Gives a shard media; it is rung at the end of the turn.
    pub(crate) fn put_media(&mut self, shard: ShardId, mail: MediaMail) -> bool {
        self.unrung[shard.index()] = true;
        self.peers[shard.index()].put_media(mail)
    }

    /// Gives a shard control mail; it is rung at the end of the turn.
    pub(crate) fn put_control(&mut self, shard: ShardId, letter: Letter) {
        self.unrung[shard.index()] = true;
        let bytes = self.peers[shard.index()].put_control(letter);
        self.room.put(bytes);
    }

    /// Wakes the shards that were given mail.
    pub(crate) fn ring(&mut self) {
        for (peer, unrung) in self.peers.iter().zip(&mut self.unrung) {
            if std::mem::take(unrung) {
                peer.ring();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use bytes::BytesMut;
    use rand::SeedableRng;
    use supernode_proto::{
        close::StreamCode,
        control::TrackKind,
        identity::RoomId,
        object::{Hop, StreamHeader},
    };

    use super::*;
    use crate::{
        control::{certificate::Certificate, state_dir::StateDir, tls},
        core::{
            Applicant, Grant,
            directory::Directory,
            forward::{Carries, Subscriber},
            limits::Limits,
        },
        shard::{
            post::inbox::{Inbox, inbox},
            quic::transport::Shared,
        },
    };

    struct Nobody;

    impl Admit for Nobody {
        fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
            Err(CloseCode::NOT_ADMITTED)
        }
    }

    /// The first of two shards, its inbox, and the other's.
    pub(crate) fn first_of_two() -> (Engine, Inbox, Inbox) {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = StateDir::create(directory.path()).expect("made").keys_or_create().expect("made");
        let certificate = Certificate::self_signed(&keys).expect("a certificate");
        let tls = tls::quic_server_config(&certificate).expect("a configuration");
        let shared = Shared::new(tls, Duration::ZERO, &keys.reset_key, cid::Incarnation(1));
        let (own, own_inbox) = inbox().expect("a descriptor");
        let (other, other_inbox) = inbox().expect("a descriptor");
        let engine = Engine::new(Parts {
            shard: ShardId(0),
            core: ShardCore::new(ShardId(0), Arc::new(Directory::new(Limits::default()))),
            endpoint: shared.endpoint(ShardId(0), [1; 32]),
            peers: vec![own, other],
            pin: tls::relay_pin(&keys),
            admission: Arc::new(Nobody),
            prefixes: Arc::default(),
            rng: StdRng::seed_from_u64(1),
            segments_max: 1,
            start: Instant::now(),
        });
        (engine, own_inbox, other_inbox)
    }

    #[test]
    fn a_packet_for_another_shard_is_handed_over_and_one_for_no_shard_is_not() {
        let (mut engine, _own_inbox, other_inbox) = first_of_two();
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let mut out = SendBatch::default();
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        for shard in [1, 7] {
            let data = BytesMut::from(&[&[0x40, shard][..], &[0; 40]].concat()[..]);
            let arrived = now.instant;
            let packet = Received { remote, local_ip: None, ecn: None, arrived, data: data.clone() };
            engine.handle_packet(packet, now, &mut out);
            match other_inbox.media.try_recv() {
                Ok(MediaMail::Packet(handed)) => assert!(shard == 1 && handed.data == data),
                Ok(other) => panic!("not media: {other:?}"),
                Err(_) => assert_eq!(shard, 7),
            }
        }
        assert_eq!(engine.tally.handed_over, 1);
    }

    //
    #[test]
    fn clients_are_left_unread_while_another_shard_has_much_mail_to_take() {
        let (mut engine, _own_inbox, other_inbox) = first_of_two();
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let many = inbox::held_from(2);
        engine.serve(now);
        assert!(!engine.room.is_used_up());
        let key = StreamKey { shard: ShardId(0), number: 1 };
        for _ in 0..many {
            engine.put_control(ShardId(1), Letter::StreamAborted(key, StreamCode::CANCELLED));
        }
        assert!(engine.room.is_used_up(), "in the same turn already");
        engine.serve(now);
        assert!(engine.room.is_used_up());
        assert_eq!(other_inbox.letters().count(), many, "and nothing was lost");
        engine.serve(now);
        assert!(!engine.room.is_used_up());
    }

    #[test]
    fn a_stream_that_is_aborted_before_its_beginning_comes_never_begins() {
        let (mut engine, own_inbox, _other_inbox) = first_of_two();
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let alias = TrackAlias::new(7).expect("small");
        let subscriber = Subscriber {
            link: 3,
            temporal_layer_max: 0,
            spatial_layer_max: 0,
            age_max: Duration::ZERO,
            focus: false,
            speakers_max: 0,
            member: 2,
        };
        let carries = Carries { kind: TrackKind::Video, room: RoomId([1; 16]), activity: false, member: 1 };
        engine.core.tracks.subscribe(alias, carries, subscriber);
        let key = |number| StreamKey { shard: ShardId(1), number };
        let header = StreamHeader { hop: Hop { alias, priority: 0, ttl_ms: 0 }, group: 0, temporal_layer: 0 };
        for number in [1, 2] {
            let open = MediaMail::StreamOpen { key: key(number), header, wire: Bytes::new() };
            assert!(engine.peers[0].put_media(open));
        }
        engine.peers[0].put_control(Letter::StreamAborted(key(1), StreamCode::CANCELLED));
        engine.handle_mail(&own_inbox, now, &mut SendBatch::default());
        assert_eq!(engine.streams.keys().copied().collect::<Vec<_>>(), [key(2)]);
        assert!(engine.aborted_early.is_empty(), "and is forgotten once all media has been seen");
    }
}
