//! A shard without its socket: packets, mail and time in; packets and mail out.
//!
//! The loop calls, in this order and as often as it likes: [`Engine::handle_packet`], [`Engine::handle_mail`],
//! [`Engine::handle_timeouts`], then [`Engine::serve`], which lets every connection that was touched act, and
//! [`Engine::poll_transmits`], which builds packets for all of them. Serving everything that is readable before
//! building anything is what lets several objects share a packet.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, Incoming, VarInt,
};
use rand::rngs::StdRng;
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, GoAway, RelayMessage, relay_message::Body},
    identity::RelayPin,
};

use super::{
    cid,
    connection::{Connection, Phase},
    counters::Tally,
    deadlines::Deadlines,
    inbox::{Letter, Mailbox, MediaMail, StreamKey},
    socket::{Received, SendBatch},
};
use crate::core::{Admit, ControlMail, Now, Outbox, ShardCore, ShardId, fan_out::StreamRoute};

/// How often a connection with something waiting, or low on the ladder, is looked at.
const WAIT_TICK: Duration = Duration::from_millis(20);
/// Mail that is taken in one turn, so that it cannot keep packets waiting.
const MAIL_PER_TURN: usize = 4096;

/// One shard's state.
pub(super) struct Engine {
    pub(super) shard: ShardId,
    pub(super) core: ShardCore,
    pub(super) tally: Tally,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    pub(super) streams: HashMap<StreamKey, StreamRoute, FixedState>,
    pub(super) stream_next: u64,
    /// Streams that were aborted before their beginning came: control mail overtakes media.
    pub(super) aborted_early: Vec<StreamKey>,
    pub(super) outbox: Outbox,
    pub(super) peers: Vec<Mailbox>,
    /// Peers that were given mail since they were last rung.
    pub(super) unrung: Vec<bool>,
    pub(super) pin: RelayPin,
    pub(super) admission: Arc<dyn Admit>,
    pub(super) rng: StdRng,
    endpoint: Endpoint,
    pub(super) dirty: Vec<u32>,
    /// Connections served this turn, whose packets are to be built.
    served: Vec<u32>,
    deadlines: Deadlines,
    /// Messages of the connection that is being served.
    pub(super) requests: Vec<ClientMessage>,
    segments_max: usize,
    draining: bool,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) shard: ShardId,
    pub(super) core: ShardCore,
    pub(super) endpoint: Endpoint,
    pub(super) peers: Vec<Mailbox>,
    pub(super) pin: RelayPin,
    pub(super) admission: Arc<dyn Admit>,
    pub(super) rng: StdRng,
    pub(super) segments_max: usize,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        let shards = parts.peers.len();
        Self {
            shard: parts.shard,
            core: parts.core,
            tally: Tally::default(),
            connections: Vec::new(),
            streams: HashMap::default(),
            stream_next: 0,
            aborted_early: Vec::new(),
            outbox: Outbox::new(parts.shard, shards as u16),
            unrung: vec![false; shards],
            peers: parts.peers,
            pin: parts.pin,
            admission: parts.admission,
            rng: parts.rng,
            endpoint: parts.endpoint,
            dirty: Vec::new(),
            served: Vec::new(),
            deadlines: Deadlines::default(),
            requests: Vec::new(),
            segments_max: parts.segments_max.clamp(1, 16),
            draining: false,
        }
    }

    /// A UDP datagram. Answers that belong to no connection go to `out` at once.
    pub(super) fn handle_packet(&mut self, received: Received, now: Now, out: &mut SendBatch) {
        let Received { remote, local_ip, ecn, data } = received;
        if let Some(owner) = cid::shard_of(&data)
            && owner != self.shard
            && owner.index() < self.peers.len()
        {
            self.tally.handed_over += 1;
            // A full inbox loses it, as a full path would.
            self.put_media(owner, MediaMail::Packet { remote, local_ip, ecn, data });
            return;
        }
        self.handle_own_packet(remote, local_ip, ecn, data, now, out);
    }

    fn handle_own_packet(
        &mut self,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
        now: Now,
        out: &mut SendBatch,
    ) {
        let buffer = out.buffer();
        match self.endpoint.handle(now.instant, remote, local_ip, ecn, data, buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.pass(handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => self.welcome(incoming, now, out),
            Some(DatagramEvent::Response(transmit)) => {
                out.commit(transmit);
            }
            None => {}
        }
    }

    fn pass(&mut self, handle: ConnectionHandle, event: ConnectionEvent) {
        let link = handle.0 as u32;
        if let Some(connection) = self.connections.get_mut(handle.0).and_then(Option::as_mut) {
            connection.quic.handle_event(event);
            self.touch(link);
        }
    }

    /// A client's first packet.
    fn welcome(&mut self, incoming: Incoming, now: Now, out: &mut SendBatch) {
        let limits = self.core.directory().limits();
        let handshaking = self.tally.handshaking as usize;
        let buffer = out.buffer();
        if handshaking >= limits.handshakes_max || self.draining {
            let transmit = self.endpoint.refuse(incoming, buffer);
            out.commit(transmit);
            return;
        }
        if handshaking >= limits.handshakes_before_retry && !incoming.remote_address_validated() {
            self.tally.retries += 1;
            // An address that is not validated may always be asked to.
            if let Ok(transmit) = self.endpoint.retry(incoming, buffer) {
                out.commit(transmit);
            }
            return;
        }
        match self.endpoint.accept(incoming, now.instant, buffer, None) {
            Ok((handle, quic)) => {
                let hello_by = now.instant + limits.hello_timeout;
                if self.connections.len() <= handle.0 {
                    self.connections.resize_with(handle.0 + 1, || None);
                }
                self.connections[handle.0] = Some(Box::new(Connection::new(quic, handle, hello_by)));
                self.tally.handshaking += 1;
                self.tally.connections += 1;
                self.touch(handle.0 as u32);
            }
            Err(error) => {
                self.tally.handshakes_failed += 1;
                if let Some(transmit) = error.response {
                    out.commit(transmit);
                }
            }
        }
    }

    /// Takes mail from other shards. Returns whether more may wait.
    pub(super) fn handle_mail(&mut self, inbox: &super::inbox::Inbox, now: Now, out: &mut SendBatch) -> bool {
        if inbox.take_desynchronised() {
            self.tally.desynchronised += 1;
            tracing::error!(shard = self.shard.0, "control mail was lost: closing this shard's sessions");
            self.close_all(CloseCode::OVERLOADED, now);
        }
        for letter in inbox.control.try_iter().take(MAIL_PER_TURN) {
            match letter {
                Letter::Core(mail) => {
                    self.handle_core_mail(*mail, now);
                    self.dispatch(now);
                }
                Letter::StreamAborted(key, code) => {
                    if !self.streams.contains_key(&key) {
                        self.aborted_early.push(key);
                    }
                    self.abort_stream_here(key, code);
                }
                Letter::Drain(window) => self.start_drain(window),
            }
        }
        for mail in inbox.media.try_iter().take(MAIL_PER_TURN) {
            match mail {
                MediaMail::Packet { remote, local_ip, ecn, data } => {
                    self.handle_own_packet(remote, local_ip, ecn, data, now, out);
                }
                mail => self.handle_media(mail),
            }
        }
        // The beginning of a stream was put before its abortion: if no media waits, none is still to come.
        if inbox.media.is_empty() {
            self.aborted_early.clear();
        }
        !inbox.is_empty()
    }

    /// Looks at every connection and deadline whose time has come.
    pub(super) fn handle_timeouts(&mut self, now: Now) {
        if self.core.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.core.handle_timeout(now, &mut self.outbox);
            self.dispatch(now);
        }
        while let Some((link, at)) = self.deadlines.pop(now.instant) {
            let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { continue };
            if connection.armed.disarm(at) {
                connection.quic.handle_timeout(now.instant);
                self.touch(link);
            }
        }
    }

    /// When [`Self::handle_timeouts`] has something to do next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next().into_iter().chain(self.core.poll_timeout()).min()
    }

    /// Lets every connection that was touched act on what came in; others are touched by what they are to be sent.
    pub(super) fn serve(&mut self, now: Now) {
        let mut next = 0;
        while let Some(link) = self.dirty.get(next).copied() {
            next += 1;
            self.serve_one(link, now);
        }
    }

    /// Whether a connection is still to be served.
    pub(super) fn is_busy(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Counts what is counted only now and then.
    pub(super) fn take_census(&mut self) {
        let [sessions, tracks, subscriptions, ..] = self.core.census();
        self.tally.sessions = sessions as u64;
        self.tally.tracks = tracks as u64;
        self.tally.subscriptions = subscriptions as u64;
    }

    /// Builds packets for every connection that was served. Calls `flush` whenever the batch is full.
    pub(super) fn poll_transmits(
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
            self.exchange_endpoint_events(&mut connection);
            loop {
                connection.flush_control();
                self.flush_streams(&mut connection, now.instant);
                connection.refill(now.instant, &mut self.core.ledger);
                let mut built = false;
                while let Some(transmit) = connection.quic.poll_transmit(now.instant, self.segments_max, out.buffer()) {
                    built = true;
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
    }

    /// A served connection goes back to its place, with a new deadline, or is forgotten.
    fn settle(&mut self, link: u32, mut connection: Box<Connection>, now: Now) {
        let answered = self.exchange_endpoint_events(&mut connection);
        if connection.quic.is_drained() {
            self.tally.connections -= 1;
            return;
        }
        let mut deadline = connection.quic.poll_timeout();
        let mut at_latest = |at: Instant| deadline = Some(deadline.map_or(at, |earlier| earlier.min(at)));
        if matches!(connection.phase, Phase::Handshaking | Phase::Greeting) {
            at_latest(connection.hello_by);
        }
        if connection.waits() || self.core.is_low(link) {
            at_latest(now.instant + WAIT_TICK);
        }
        if let Some(at) = deadline {
            self.deadlines.arm(link, &mut connection.armed, at);
        }
        self.connections[link as usize] = Some(connection);
        if answered {
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
    pub(super) fn touch(&mut self, link: u32) {
        if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(link);
        }
    }

    /// Carries out what the core wants done, until it wants nothing more.
    pub(super) fn dispatch(&mut self, now: Now) {
        loop {
            for (link, alias, code) in self.core.take_ended_subscriptions() {
                if let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) {
                    connection.purge(alias, code, &mut self.core.ledger);
                    self.touch(link);
                }
            }
            if self.outbox.is_empty() {
                return;
            }
            for (shard, mail) in self.outbox.take_remote() {
                self.put_control(shard, Letter::Core(Box::new(mail)));
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
            ControlMail::Close { session, code } => {
                if self.core.is_live(session) {
                    self.close(session.link, code, now);
                }
            }
            mail => self.core.handle_mail(mail, now, &mut self.outbox),
        }
    }

    /// Queues a message for a client, or closes the session of one that does not read.
    pub(super) fn send(&mut self, link: u32, message: &RelayMessage, now: Now) {
        let backlog_max = self.core.directory().limits().control_backlog_bytes_max;
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        let keeps_up = connection.send_control(message, backlog_max);
        self.touch(link);
        if !keeps_up {
            self.close(link, CloseCode::CONTROL_BACKLOG, now);
        }
    }

    /// Closes a connection with a code.
    pub(super) fn close(&mut self, link: u32, code: CloseCode, now: Now) {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        if connection.phase != Phase::Closed {
            connection.quic.close(now.instant, VarInt::from_u32(code.0 as u32), Bytes::new());
            self.end(link, code, false, now);
        }
        self.touch(link);
    }

    /// A connection is over, whoever ended it: takes back everything it had.
    pub(super) fn end(&mut self, link: u32, code: CloseCode, clean: bool, now: Now) {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Handshaking => {
                self.tally.handshaking -= 1;
                self.tally.handshakes_failed += 1;
            }
            Phase::Greeting => {
                self.tally.handshaking -= 1;
                self.tally.close(code);
            }
            Phase::Open(_) => self.tally.close(code),
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
    pub(super) fn code_of(error: &ConnectionError) -> (CloseCode, bool) {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode(close.error_code.into_inner());
                (code, code == CloseCode::BYE)
            }
            ConnectionError::TimedOut | ConnectionError::Reset => (CloseCode::BYE, false),
            _ => (CloseCode::INTERNAL, false),
        }
    }

    fn start_drain(&mut self, window: Duration) {
        self.draining = true;
        let window_ms = window.as_millis() as u32;
        let away = GoAway { reconnect_after_ms: 0, reconnect_before_ms: window_ms, alternative: String::new() };
        let message = RelayMessage { reply_to: 0, body: Some(Body::GoAway(away)) };
        for link in 0..self.connections.len() as u32 {
            let connection = self.connections[link as usize].as_mut();
            if let Some(connection) = connection.filter(|connection| connection.session().is_some()) {
                // Those that do not read are closed with the others when the drain ends.
                let _ = connection.send_control(&message, usize::MAX);
                self.touch(link);
            }
        }
    }

    /// Closes every connection.
    pub(super) fn close_all(&mut self, code: CloseCode, now: Now) {
        for link in 0..self.connections.len() as u32 {
            self.close(link, code, now);
        }
    }

    /// A number for a new stream of this shard's publishers.
    pub(super) fn stream_key(&mut self) -> StreamKey {
        self.stream_next += 1;
        StreamKey { shard: self.shard, number: self.stream_next }
    }

    /// Gives a shard media; it is rung at the end of the turn.
    pub(super) fn put_media(&mut self, shard: ShardId, mail: MediaMail) -> bool {
        self.unrung[shard.index()] = true;
        self.peers[shard.index()].put_media(mail)
    }

    /// Gives a shard control mail; it is rung at the end of the turn.
    pub(super) fn put_control(&mut self, shard: ShardId, letter: Letter) {
        self.unrung[shard.index()] = true;
        self.peers[shard.index()].put_control(letter);
    }

    /// Wakes the shards that were given mail.
    pub(super) fn ring(&mut self) {
        for (peer, unrung) in self.peers.iter().zip(&mut self.unrung) {
            if std::mem::take(unrung) {
                peer.ring();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use supernode_proto::{
        close::StreamCode,
        control::TrackKind,
        identity::RoomId,
        object::{Hop, StreamHeader, TrackAlias},
    };

    use super::*;
    use crate::{
        control::{state_dir::StateDir, tls},
        core::{directory::Directory, forward::Subscriber, limits::Limits},
        shard::{
            inbox::{Inbox, inbox},
            transport::Shared,
        },
    };

    struct Nobody;

    impl Admit for Nobody {
        fn admit(&self, _: &supernode_proto::identity::IdentityKey, _: &str, _: u64) -> Result<(), CloseCode> {
            Err(CloseCode::NOT_ADMITTED)
        }
    }

    /// The first of two shards, its inbox, and the other's.
    fn first_of_two() -> (Engine, Inbox, Inbox) {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = StateDir::create(directory.path()).expect("made").keys_or_create().expect("made");
        let shared = Shared::new(tls::quic_server_config(&keys).expect("a configuration"), Duration::ZERO);
        let (own, own_inbox) = inbox().expect("a descriptor");
        let (other, other_inbox) = inbox().expect("a descriptor");
        let engine = Engine::new(Parts {
            shard: ShardId(0),
            core: ShardCore::new(ShardId(0), Arc::new(Directory::new(Limits::default()))),
            endpoint: shared.endpoint(ShardId(0), [1; 32]),
            peers: vec![own, other],
            pin: tls::relay_pin(&keys),
            admission: Arc::new(Nobody),
            rng: StdRng::seed_from_u64(1),
            segments_max: 1,
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
            engine.handle_packet(Received { remote, local_ip: None, ecn: None, data: data.clone() }, now, &mut out);
            match other_inbox.media.try_recv() {
                Ok(MediaMail::Packet { data: handed, .. }) => assert!(shard == 1 && handed == data),
                Ok(other) => panic!("not media: {other:?}"),
                Err(_) => assert_eq!(shard, 7),
            }
        }
        assert_eq!(engine.tally.handed_over, 1);
    }

    #[test]
    fn a_stream_that_is_aborted_before_its_beginning_comes_never_begins() {
        let (mut engine, own_inbox, _other_inbox) = first_of_two();
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let alias = TrackAlias::new(7).expect("small");
        let subscriber = Subscriber { link: 3, temporal_layer_max: 0, spatial_layer_max: 0, age_max: Duration::ZERO };
        engine.core.tracks.subscribe(alias, TrackKind::Video, RoomId([1; 16]), subscriber);
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
