//! A relay's shards without sockets and threads, for benches and simulations: packets, mail and time in, packets and mail out.
//!
//! Whoever drives them has the clock and the network, and says when each makes a turn. Mail between them goes through their
//! inboxes, as between threads.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::identity::RelayPin;

use super::{
    Census, Onward,
    counters::Tally,
    engine::{Engine, Parts, SEGMENTS_MAX},
    net::{
        demultiplexer,
        socket::{Received, SendBatch},
    },
    nodes::{NodeFigures, NodeParts, NodeSelf, Roster},
    post::inbox::{self, Inbox, Letter, Postbox},
    quic::{cid::Incarnation, crypto::TlsConfig, transport::Shared},
};
use crate::core::{
    Address, Admit, NodeId, Now, ShardCore, ShardId, directory::Directory, ledger::Ledger, limits::Limits,
};

/// What shards in memory are made of.
pub struct Setup {
    /// TLS.
    pub tls: Arc<TlsConfig>,
    /// The name that clients sign for.
    pub pin: RelayPin,
    /// Who gets in.
    pub admission: Arc<dyn Admit>,
    /// What is granted.
    pub limits: Limits,
    /// How many.
    pub shards: usize,
    /// As of [`super::Config`].
    pub reset_key: [u8; 32],
    /// The process that they pass for.
    pub incarnation: Incarnation,
    /// All randomness but that of TLS comes from it.
    pub seed: u64,
    /// The beginning of their time.
    pub start: Instant,
}

/// A shard that nobody can reach but through these methods.
pub struct OfflineShard {
    engine: Engine,
    directory: Arc<Directory>,
    postbox: Postbox,
    inbox: Inbox,
    out: SendBatch,
}

/// All shards of a relay, without clients.
///
/// # Errors
/// When the system has no descriptor left for their inboxes.
pub fn relay(setup: Setup) -> io::Result<Vec<OfflineShard>> {
    node(setup, None)
}

/// The same of a node of a cluster, whose TLS is [`TlsConfig::of_a_node`].
///
/// # Errors
/// As [`relay`].
pub fn node(setup: Setup, own: Option<NodeSelf>) -> io::Result<Vec<OfflineShard>> {
    let own_number = own.as_ref().map_or(NodeId::default(), |own| own.node);
    let nodes = own.map(|own| NodeParts::new(own, setup.incarnation));
    let inboxes = (0..setup.shards).map(|_| inbox::inbox()).collect::<io::Result<Vec<_>>>()?;
    let postboxes: Vec<Postbox> = inboxes.iter().map(|(postbox, _)| postbox.clone()).collect();
    let directory = Arc::new(Directory::new(setup.limits));
    let shared = Shared::new(setup.tls, Duration::ZERO, &setup.reset_key, setup.incarnation);
    let prefixes = Arc::default();
    let mut rng = StdRng::seed_from_u64(setup.seed);
    let shard = |(number, (postbox, inbox)): (usize, (Postbox, Inbox))| {
        let shard = ShardId(number as u16);
        let engine = Engine::new(Parts {
            core: ShardCore::new(Address { node: own_number, shard }, directory.clone()),
            endpoint: shared.endpoint(shard, rng.random(), Some(rng.random())),
            peers: postboxes.clone(),
            pin: setup.pin,
            admission: setup.admission.clone(),
            prefixes: Arc::clone(&prefixes),
            rng: StdRng::from_seed(rng.random()),
            segments_max: SEGMENTS_MAX,
            sealing: Duration::ZERO,
            start: setup.start,
            send_push: None,
            nodes: nodes.clone(),
        });
        OfflineShard { engine, directory: directory.clone(), postbox, inbox, out: SendBatch::default() }
    };
    Ok(inboxes.into_iter().enumerate().map(shard).collect())
}

/// The shard that a UDP datagram says it is for, if it does: the kernel's program would have steered it there.
pub fn shard_of(datagram: &[u8]) -> Option<usize> {
    demultiplexer::shard_of(datagram).map(ShardId::index)
}

/// The process that a UDP datagram may be for, as one that took another's sockets decides it.
pub fn incarnation_of(datagram: &[u8]) -> Option<Incarnation> {
    demultiplexer::incarnation_of(datagram)
}

impl OfflineShard {
    /// The only shard of a relay.
    ///
    /// # Errors
    /// As [`relay`].
    pub fn new(
        tls: Arc<TlsConfig>,
        pin: RelayPin,
        admission: Arc<dyn Admit>,
        limits: Limits,
        seed: u64,
    ) -> io::Result<Self> {
        let (reset_key, incarnation, start) = ([seed as u8; 32], Incarnation(1), Instant::now());
        let shards = relay(Setup { tls, pin, admission, limits, shards: 1, reset_key, incarnation, seed, start })?;
        shards.into_iter().next().ok_or_else(|| io::Error::other("one shard was asked for"))
    }

    /// One turn of the shard's loop: takes UDP datagrams with the addresses they come from, lets every connection act,
    /// and builds packets. Returns how many sends it built, of one datagram or of several for one receiver.
    pub fn turn(&mut self, now: Now, packets: &mut Vec<(SocketAddr, BytesMut)>) -> usize {
        self.read(now, packets);
        self.build(now)
    }

    /// The first half of a turn: up to the objects that wait on their subscribers' connections.
    pub fn read(&mut self, now: Now, packets: &mut Vec<(SocketAddr, BytesMut)>) {
        let Self { engine, inbox, out, .. } = self;
        for (remote, data) in packets.drain(..) {
            let received = Received { remote, local_ip: None, ecn: None, arrived: now.instant, data };
            engine.handle_packet(received, now, out, || now.instant);
        }
        engine.handle_mail(inbox, now, out, || now.instant);
        engine.handle_timeouts(now);
        engine.serve(now);
    }

    /// The second half: builds the packets.
    pub fn build(&mut self, now: Now) -> usize {
        self.engine.poll_transmits(now, &mut self.out, |_, _| ());
        self.out.len()
    }

    /// What the loop does behind a turn. Returns whether there is more to do at once.
    pub fn end_turn(&mut self, now: Now) -> bool {
        let start = self.engine.begin_turn(now.instant);
        self.engine.end_turn(&start, now.instant);
        !self.inbox.is_empty() || self.engine.is_busy()
    }

    /// What the loop does once a second.
    pub fn handle_second(&mut self, now: Now) {
        self.engine.handle_second(now);
    }

    /// Whether other shards, or whoever asks something of it, have put mail into its inbox.
    pub fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Passes on every UDP datagram that was built since the last call, with where it goes.
    pub fn take_sent(&mut self, pass: impl FnMut(SocketAddr, &[u8])) {
        self.out.take(pass);
    }

    /// When it wants a turn although nothing came.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.engine.poll_timeout(now)
    }

    /// Which other nodes live, as it learns in its next turn.
    pub fn set_roster(&self, roster: Arc<Roster>) {
        self.postbox.put_control(Letter::Nodes(roster));
    }

    /// Begins to drain, in its next turn; the directory is to be told first
    /// ([`Directory::start_draining`](crate::core::directory::Directory::start_draining)).
    pub fn drain(&self, onward: &Onward, window: Duration) {
        self.postbox.put_control(Letter::Drain(onward.clone(), window));
    }

    /// Says goodbye to whoever is left: the shard's last act.
    pub fn finish(&mut self, now: Now) {
        self.engine.finish(now, &mut self.out, |_, _| ());
    }

    /// What became of every object.
    pub fn ledger(&self) -> &Ledger {
        self.engine.ledger()
    }

    /// How full its tables are.
    pub fn census(&self) -> Census {
        self.engine.census()
    }

    /// What it has counted.
    pub fn tally(&mut self) -> &Tally {
        self.engine.tally()
    }

    /// What it has counted of its links to other nodes, if it is one.
    pub fn node_figures(&self) -> Option<NodeFigures> {
        self.engine.node_figures()
    }

    /// What all shards share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }
}
