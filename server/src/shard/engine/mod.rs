//! A shard without its socket: packets, mail and time in; packets and mail out.
//!
//! The loop calls, in this order and as often as it likes: [`Engine::handle_packet`] (or, where it asks [`Engine::intake`]
//! itself whose a packet is, [`Engine::handle_own_packet`]), [`Engine::handle_mail`], [`Engine::handle_timeouts`], then
//! [`Engine::serve`], which lets every connection that was touched act, and [`Engine::poll_transmits`], which builds packets
//! for all of them; then it wakes the shards that were given mail ([`Engine::wake_others`]). Serving everything that is
//! readable before building anything is what lets several objects share a packet.
//!
//! The engine has nothing of its own but QUIC's endpoint, the demultiplexer and the core. What there is to keep is its
//! parts', each of which knows only itself and is lent the others it needs for a step; what becomes of one because of
//! another is decided here.

mod build;
mod drain;
mod ends;
mod errands;
mod nodes;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{DatagramEvent, Endpoint, EndpointEvent, ServerConfig};
use rand::rngs::StdRng;
use supernode_proto::{
    close::CloseCode,
    control::{decode_message, frame},
    identity::RelayPin,
};

pub use self::drain::Onward;
use self::serve::{End, Turn};
use super::{
    SendPush,
    connections::{Connections, connection::Phase},
    door::{self, Door, prefixes::Prefixes},
    figures::{
        Figures,
        census::Census,
        counters::{Counters, Tally},
        distributions::TurnStart,
        inspect::{self, Whom},
    },
    net::{
        demultiplexer::{Demultiplexer, Destination},
        handover::{Relief, Successor},
        socket::{Received, SendBatch},
    },
    nodes::{NodeParts, Nodes},
    post::{
        self, Post,
        inbox::{Inbox, Letter, MediaMail, Postbox},
    },
    quic::transport,
    streams::{self, Streams},
};
use crate::core::{Admit, Now, Outbox, ShardCore, ledger::Ledger};

/// Most packets of one connection in one send.
pub(crate) const SEGMENTS_MAX: usize = 16;

/// One shard.
pub(crate) struct Engine {
    core: ShardCore,
    outbox: Outbox,
    rng: StdRng,
    endpoint: Endpoint,
    demultiplexer: Demultiplexer,
    connections: Connections,
    door: Door,
    streams: Streams,
    post: Post,
    figures: Figures,
    segments_max: usize,
    send_push: Option<SendPush>,
    /// Of a node of a cluster.
    nodes: Option<Box<Nodes>>,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) core: ShardCore,
    pub(crate) endpoint: Endpoint,
    pub(crate) peers: Vec<Postbox>,
    pub(crate) pin: RelayPin,
    pub(crate) admission: Arc<dyn Admit>,
    pub(crate) prefixes: Arc<Prefixes>,
    pub(crate) rng: StdRng,
    pub(crate) segments_max: usize,
    /// How long this machine takes to seal a packet, nothing else.
    pub(crate) sealing: Duration,
    pub(crate) start: Instant,
    pub(crate) send_push: Option<SendPush>,
    /// If the relay is a node of a cluster.
    pub(crate) nodes: Option<NodeParts>,
}

/// What came of taking mail.
#[derive(Debug, Default)]
pub(crate) struct MailTaken {
    /// More may wait.
    pub(crate) more: bool,
    /// Where packets come from from now on, and who is to be told: for the loop, which has the socket.
    pub(crate) relief: Option<Relief>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let (at, shards) = (parts.core.address(), parts.peers.len());
        Self {
            core: parts.core,
            outbox: Outbox::new(at, shards as u16),
            rng: parts.rng,
            endpoint: parts.endpoint,
            demultiplexer: Demultiplexer::new(at.shard, shards)
                .with_dialling(parts.nodes.as_ref().map(|nodes| nodes.incarnation)),
            connections: Connections::new(parts.sealing),
            door: Door::new(shards, parts.pin, parts.admission, parts.prefixes, parts.start),
            streams: Streams::new(at),
            post: Post::new(at, parts.peers),
            figures: Figures::default(),
            segments_max: parts.segments_max.clamp(1, SEGMENTS_MAX),
            send_push: parts.send_push,
            nodes: parts.nodes.map(|nodes| Box::new(Nodes::new(at, shards, nodes))),
        }
    }

    /// Meets new connections with this configuration, whose certificate's key has this pin. A connection that is there
    /// keeps the pin of the certificate that it was shown.
    pub(crate) fn meet_with(&mut self, server: Arc<ServerConfig>, pin: RelayPin) {
        self.endpoint.set_server_config(Some(server));
        self.door.set_pin(pin);
    }

    /// The kernel takes so many packets of one connection in one send.
    pub(crate) fn set_segments_max(&mut self, segments_max: usize) {
        self.segments_max = segments_max.clamp(1, SEGMENTS_MAX);
        self.figures.tally().segments_out_max = segments_max as u64;
    }

    /// A UDP datagram, of whichever shard of this process. Answers that belong to no connection go to `out` at once. The
    /// clock is for what packets cost.
    pub(crate) fn handle_packet(
        &mut self,
        received: Received,
        now: Now,
        out: &mut SendBatch,
        clock: impl Fn() -> Instant,
    ) {
        match self.demultiplexer.destination(&received.datagram()) {
            Destination::Shard(owner) => self.post.hand_over(owner, received, self.figures.tally()),
            Destination::Here | Destination::Predecessor => self.handle_own_packet(received, now, out, clock),
        }
    }

    /// What says whose a UDP datagram is, and what takes those of other shards: for a loop that asks before it copies.
    pub(crate) fn intake(&mut self) -> (Demultiplexer, &mut Post, &mut Tally) {
        (self.demultiplexer, &mut self.post, self.figures.tally())
    }

    /// A UDP datagram of one of this shard's connections, or of none.
    pub(crate) fn handle_own_packet(
        &mut self,
        received: Received,
        now: Now,
        out: &mut SendBatch,
        clock: impl Fn() -> Instant,
    ) {
        let Self { endpoint, connections, door, core, figures, nodes, .. } = self;
        let Received { remote, local_ip, ecn, arrived, data } = received;
        let (limits, tally) = (core.limits(), figures.tally());
        if door.is_too_much(&data, remote, limits, tally, now.instant) {
            return;
        }
        let (buffer, bytes) = (out.buffer(), data.len());
        match endpoint.handle(now.instant, remote, local_ip, ecn, data, buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let of_a_node = |event| {
                    if let Some(nodes) = nodes {
                        nodes.receive(handle, event);
                    }
                };
                let is_served = connections.receive(handle, event, bytes, arrived, clock, of_a_node);
                tally.crumbs_dropped += u64::from(!is_served);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let mut outside = door::Outside { endpoint, out, tally, limits };
                let Some(begun) = door.meet(incoming, bytes, &mut outside, now) else { return };
                connections.insert(begun.link, begun.connection);
                while let Some(other) = self.door.next_to_go(begun.place, self.core.limits()) {
                    self.put_out(other, now, out);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                door.answer(transmit, &mut door::Outside { endpoint, out, tally, limits }, now.instant);
            }
            None => {}
        }
    }

    /// Takes the place of one who is not let in yet, and tells it once. What QUIC would keep for three time-outs, to
    /// tell it again, is what there is no room for.
    fn put_out(&mut self, link: u32, now: Now, out: &mut SendBatch) {
        self.figures.tally().over_handshakes += 1;
        self.close(link, CloseCode::OVERLOADED, now);
        let Some(connection) = self.connections.get_mut(link) else { return };
        if let Some(transmit) = connection.poll_transmit(now.instant, 1, out.buffer())
            && connection.newcomer.as_mut().is_some_and(|newcomer| newcomer.may_send(transmit.size))
        {
            out.commit(transmit);
        }
        self.endpoint.handle_event(connection.handle, EndpointEvent::drained());
        self.forget(link, now.instant);
        self.carry_out(now);
    }

    /// Takes mail from other shards.
    pub(crate) fn handle_mail(
        &mut self,
        inbox: &Inbox,
        now: Now,
        out: &mut SendBatch,
        clock: impl Fn() -> Instant,
    ) -> MailTaken {
        let mut relief = None;
        if inbox.take_desynchronised() {
            self.figures.tally().desynchronised += 1;
            tracing::error!(
                shard = self.post.address().shard.0,
                "control mail was lost: closing this shard's sessions"
            );
            self.close_all(CloseCode::OVERLOADED, now);
            self.carry_out(now);
            self.begin_anew_with_nodes(now);
        }
        let mut taken = 0;
        while taken < post::PER_TURN_MAX && self.post.headroom().allows_another_letter(taken) {
            let Some(letter) = inbox.next_letter() else { break };
            taken += 1;
            match letter {
                Letter::Core(letter) => {
                    self.core.handle_letter(letter, &mut self.outbox);
                    self.carry_out(now);
                }
                Letter::StreamAborted(key, code) => {
                    let (streams, mut cx) = self.streams();
                    streams.handle_aborted(key, code, &mut cx);
                }
                Letter::StreamHold { key, by, on } => self.streams.set_hold(key, by, on),
                Letter::Drain(onward, window) => self.start_drain(&onward, window),
                Letter::Inspect(limit, answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(inspect::sessions(&self.connections, &self.core, limit, now));
                }
                Letter::Census(answer) => {
                    let _ = answer.try_send(self.census());
                }
                Letter::Expel(whom, code, answer) => {
                    let _ = answer.try_send(self.expel(whom, code, now));
                }
                Letter::Relieve(socket, done) => relief = Some(Relief::Begin(Successor::new(socket), done)),
                Letter::Reclaim(done) => relief = Some(Relief::End(done)),
                Letter::Nodes(roster) => self.set_roster(&roster, now),
                Letter::Node(word) => self.hear_of_node(word, now),
            }
        }
        for mail in inbox.media.try_iter().take(post::PER_TURN_MAX) {
            match mail {
                MediaMail::Packet(received) => self.handle_own_packet(received, now, out, &clock),
                MediaMail::Datagram { wire, arrived } => {
                    streams::deliver_datagram(&wire, arrived, &mut self.streams().1);
                }
                mail => {
                    let (streams, mut cx) = self.streams();
                    streams.handle_mail(mail, &mut cx, now.instant);
                }
            }
        }
        if inbox.media.is_empty() {
            self.streams.handle_all_seen();
        }
        MailTaken { more: !inbox.is_empty(), relief }
    }

    /// Looks at every connection and deadline whose time has come.
    pub(crate) fn handle_timeouts(&mut self, now: Now) {
        if self.core.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.core.handle_timeout(now, &mut self.outbox);
            self.carry_out(now);
        }
        for (link, hello) in self.door.take_decided(now) {
            let Self { door, connections, core, outbox, figures, .. } = self;
            let Some(connection) = connections.get_mut(link) else { continue };
            let mut inside = door::Inside { core, outbox, tally: figures.tally() };
            if let Err(code) = door.admit(link, connection, hello, &mut inside, now) {
                self.close(link, code, now);
            }
            self.carry_out(now);
        }
        let over = self.door.review_turn(&self.connections, &mut self.core, now);
        self.close_each(over, now);
        self.connections.handle_timeouts(now.instant);
        if let Some(nodes) = &mut self.nodes {
            nodes.handle_timeouts(&mut self.endpoint, now.instant);
        }
    }

    /// When [`Self::handle_timeouts`] has something to do next.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let connections = self.connections.poll_timeout(now);
        let nodes = self.nodes.as_ref().and_then(|nodes| nodes.poll_timeout());
        [connections, self.core.poll_timeout(), self.door.poll_timeout(), nodes].into_iter().flatten().min()
    }

    /// Lets every connection act on what came in for it. Those that are only to be sent something are left for
    /// [`Self::poll_transmits`].
    pub(crate) fn serve(&mut self, now: Now) {
        self.connections.begin_turn(now.instant);
        self.post.look();
        let mut place = 0;
        while let Some(link) = self.connections.next_with_news(&mut place) {
            self.serve_one(link, now);
        }
        let Self { core, connections, post, nodes, .. } = self;
        if let Some(nodes) = nodes {
            let mut cx = streams::Context { core, connections, post };
            nodes.serve(&mut self.streams, &mut cx, now.instant);
        }
    }

    fn serve_one(&mut self, link: u32, now: Now) {
        let Some(mut connection) = self.connections.take_out(link) else { return };
        connection.begin_turn();
        let mut turn = self.turn(link, now);
        let mut verdict = turn.act(&mut connection);
        let requests = turn.into_requests();
        self.connections.put_back(connection);
        self.carry_out(now);
        for request in requests {
            if let Err(code) = self.handle_request(link, &request, now) {
                verdict = verdict.and(Err(End::Close(code)));
                break;
            }
        }
        match verdict {
            Ok(()) => {}
            Err(End::Close(code)) => self.close(link, code, now),
            Err(End::Lost(code, clean)) => self.end(link, code, clean, now),
            Err(End::Left(clean)) => self.leave(link, clean, now),
        }
        self.carry_out(now);
    }

    fn handle_request(&mut self, link: u32, request: &[u8], now: Now) -> Result<(), CloseCode> {
        let Self { core, outbox, rng, connections, door, figures, .. } = self;
        let Some(connection) = connections.get_mut(link) else {
            self.refuse_haste(link, now);
            return Ok(());
        };
        match connection.phase {
            Phase::Closed => return Ok(()),
            Phase::Handshaking | Phase::Greeting if connection.newcomer.as_ref().is_some_and(|one| one.is_node) => {
                self.greet_node(link, request, now)?;
            }
            Phase::Handshaking | Phase::Greeting => {
                let message = decode_message(request).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
                let mut inside = door::Inside { core, outbox, tally: figures.tally() };
                door.greet(link, connection, message, &mut inside, now)?;
            }
            Phase::Open(_) => {
                core.handle_frame(link, request, now, rng, outbox)?;
                if connection.receive_window.is_none() && core.publishes(link) {
                    let mut window = core.directory().windows().share();
                    let pool_max = core.limits().relay_windows_bytes_max;
                    let own = connection.codec.own_streams();
                    transport::allow_media_streams(
                        &mut connection.quic,
                        &mut connection.kept,
                        own,
                        &mut window,
                        pool_max,
                    );
                    connection.receive_window = Some(window);
                    connection.count_anew();
                }
            }
        }
        self.carry_out(now);
        Ok(())
    }

    /// Whether a connection is still to be served or asked about.
    pub(crate) fn is_busy(&self) -> bool {
        let has_links_to_serve = self.nodes.as_ref().is_some_and(|nodes| nodes.is_busy());
        self.connections.any_marked() || self.door.is_reviewing() || has_links_to_serve || self.post.has_for_nodes()
    }

    /// A connection's turn.
    fn turn(&mut self, link: u32, now: Now) -> Turn<'_> {
        let Self { core, outbox, connections, streams, post, figures, .. } = self;
        Turn::new(link, now, streams, streams::Context { core, connections, post }, figures.tally(), outbox)
    }

    /// The streams and what they go through.
    fn streams(&mut self) -> (&mut Streams, streams::Context<'_>) {
        let Self { core, connections, streams, post, .. } = self;
        (streams, streams::Context { core, connections, post })
    }

    /// Tells every client when to come back elsewhere; nobody new is let in.
    fn start_drain(&mut self, onward: &Onward, window: Duration) {
        self.door.shut();
        for link in 0..self.connections.links() {
            if self.connections.get(link).is_some_and(|connection| connection.session().is_some()) {
                let away = drain::away(self.core.room_of(link), onward, window);
                // Those that do not read are closed with the others when the drain ends.
                let _ = self.connections.send(link, frame(&away), usize::MAX);
            }
        }
    }

    /// Ends sessions; how many.
    fn expel(&mut self, whom: Whom, code: CloseCode, now: Now) -> usize {
        let links = inspect::meant(whom, &self.connections, &self.core);
        for link in &links {
            self.close(*link, code, now);
        }
        self.carry_out(now);
        links.len()
    }

    /// Counts everything. Costs a look at every connection, so it is for those who ask.
    pub(crate) fn census(&self) -> Census {
        // Deadlines stay in their heap until they are due: they are no leak.
        let [sessions, tracks, subscriptions, _deadlines, keyframes, ranked_rooms, cached_groups, cached_bytes, rooms] =
            self.core.census();
        let mut census = Census {
            sessions,
            tracks,
            subscriptions,
            keyframes,
            ranked_rooms,
            cached_groups,
            cached_bytes,
            rooms,
            undecided: self.door.undecided(),
            held_bytes: self.core.ledger.queued_bytes as usize,
            ..Census::default()
        };
        self.streams.count(&mut census);
        self.connections.count(&mut census);
        census
    }

    /// To be called once a second: takes note of what has changed and of what is counted only now and then.
    pub(crate) fn handle_second(&mut self, now: Now) {
        self.sample(now);
        self.core.refresh_limits();
        self.core.sweep_accounts(now.instant);
        let over = self.door.review_second(&self.connections, &mut self.core, now);
        self.close_each(over, now);
    }

    /// Counts what is counted only now and then.
    fn sample(&mut self, now: Now) {
        let nodes = self.node_figures();
        for link in self.figures.sample(&self.connections, &mut self.core, nodes) {
            self.close(link, CloseCode::STALE_KEYS, now);
            self.carry_out(now);
        }
    }

    /// Says goodbye to whoever is left.
    pub(crate) fn finish(&mut self, now: Now, out: &mut SendBatch, flush: impl FnMut(&mut SendBatch, &mut Tally)) {
        self.close_all(CloseCode::GOING_AWAY, now);
        if let Some(nodes) = &mut self.nodes {
            nodes.finish(now.instant);
        }
        self.poll_transmits(now, out, flush);
        self.core.ledger.turn_ended(now.instant);
        self.sample(now);
    }

    /// Wakes the shards that were given mail in this turn.
    pub(crate) fn wake_others(&mut self) {
        self.post.wake();
    }

    /// What is counted one by one.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        self.figures.tally()
    }

    /// What became of every object.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.core.ledger
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self, now: Instant) -> TurnStart {
        let deadline = self.poll_timeout(now);
        self.figures.begin_turn(now, deadline)
    }

    /// It has ended.
    pub(crate) fn end_turn(&mut self, start: &TurnStart, ended: Instant) {
        self.core.ledger.turn_ended(ended);
        if let Some(nodes) = &mut self.nodes {
            nodes.turn_ended(ended);
            self.core.ledger.nodes = nodes.counts();
        }
        self.figures.end_turn(start, ended);
    }

    /// Publishes what is watched closely.
    pub(crate) fn publish(&self, counters: &Counters) {
        self.figures.publish(counters, &self.core.ledger);
    }

    /// Publishes everything.
    pub(crate) fn publish_all(&self, counters: &Counters) {
        self.publish(counters);
        self.figures.publish_detail(counters, &self.core.ledger, &self.outbox.counts);
    }
}
