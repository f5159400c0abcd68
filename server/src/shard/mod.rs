//! The shards: each is one thread with its own UDP socket, QUIC endpoint and connections, and its part of the core.
//!
//! `engine` drives quinn-proto and the core over `connections`, `door`, `streams`, `post` and `figures`; `quic` is what
//! quinn-proto is given, `net` the packets on their way in and out (all system calls are in its `sys`), `event_loop` the
//! thread.

pub mod offline;

mod connections;
mod door;
mod engine;
mod event_loop;
mod figures;
mod live;
mod net;
mod nodes;
mod post;
mod quic;
mod streams;
mod tcp;

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::{
    close::CloseCode,
    identity::{RelayPin, RoomId},
};

use self::{
    counters::{Counters, Tally},
    door::prefixes::Prefixes,
    engine::{Engine, Parts},
    event_loop::EventLoop,
    live::Live,
    net::{
        handover::{self, Predecessor, Upgrade},
        socket::{self, ShardSocket},
        sys,
        window::Window,
    },
    nodes::NodeParts,
    post::inbox::{self, Inbox, Letter, Postbox},
    quic::transport::Shared,
};
pub use self::{
    door::{
        knocks::KNOCKS_BYTES,
        newcomer::NEWCOMER_BYTES_MAX,
        prefixes::{PREFIX_BYTES, PREFIXES_MAX},
    },
    engine::Onward,
    figures::{
        census::Census,
        counters, distributions,
        inspect::{SessionView, Whom},
    },
    live::LiveHandle,
    net::{probe, socket::BUFFER_BYTES as BUFFER_BYTES_WANTED},
    nodes::{NodeBook, NodeFigures, NodeKey, NodeSelf, Roster, ToBus, ToHomes},
    quic::{
        cid::{Incarnation, SHARDS_MAX},
        crypto::TlsConfig,
    },
    tcp::{Config as TcpConfig, Figures as TcpFigures, LINK_BYTES_MAX, Snapshot as TcpSnapshot},
};
use crate::core::{
    Address, Admit, ControlMail, Fence, HomeIs, Homes, NodeId, ShardCore, ShardId, Topic, directory::Directory,
    limits::Limits, push::Push, push_services::PushServices,
};

/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long the shards may take to answer: they are woken, and turn once a second even when nothing happens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What the shards are made of.
pub struct Config {
    /// UDP address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Threads, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Longest batching window, zero to keep it shut.
    pub batch_window: Duration,
    /// TLS.
    pub tls: Arc<TlsConfig>,
    /// The name that clients sign for.
    pub pin: RelayPin,
    /// Who gets in.
    pub admission: Arc<dyn Admit>,
    /// What is granted.
    pub limits: Limits,
    /// Tells clients of an earlier process that it is gone; to stay the same for the relay's life.
    pub reset_key: [u8; 32],
    /// The way over TCP, if there is to be one.
    pub tcp: Option<TcpConfig>,
    /// How people are woken, if they are to be.
    pub waking: Option<Waking>,
    /// What makes it a node of a cluster, if it is one: then `tls` is [`TlsConfig::of_a_node`].
    pub node: Option<NodeSelf>,
}

/// How people are woken of whom nobody is online.
#[derive(Clone)]
pub struct Waking {
    /// Where.
    pub services: PushServices,
    /// Takes what is to be sent, and does not wait.
    pub send: SendPush,
}

/// Whoever sends messages to push services.
pub type SendPush = Arc<dyn Fn(Push) + Send + Sync>;

/// What a running relay gives to the process that replaces it: see [`Handle::offer`].
#[derive(Debug)]
pub struct Estate {
    /// The shards' sockets, in the order by which the kernel numbers them.
    pub sockets: Vec<UdpSocket>,
    /// For each shard, where packets of the old process's connections go.
    pub passages: Vec<OwnedFd>,
    /// The old process, as its connection IDs name it.
    pub incarnation: Incarnation,
    /// Its number.
    pub pid: u32,
}

/// The old process's side of an [`Estate`].
#[derive(Debug)]
pub struct Retained {
    passages: Vec<OwnedFd>,
}

/// Running shards.
pub struct Running {
    local_addr: SocketAddr,
    counters: Vec<Arc<Counters>>,
    threads: Vec<JoinHandle<()>>,
    handle: Handle,
    live: LiveHandle,
    offload: Offload,
    tcp: Option<Tcp>,
}

/// The way over TCP of running shards.
#[derive(Clone)]
struct Tcp {
    local_addr: SocketAddr,
    figures: Arc<TcpFigures>,
    listener: Arc<TcpListener>,
}

/// Ends the shards in order, or hands their port to another process, from any thread.
#[derive(Clone)]
pub struct Handle {
    postboxes: Vec<Postbox>,
    directory: Arc<Directory>,
    stop: Arc<AtomicBool>,
    sockets: Arc<[UdpSocket]>,
    incarnation: Incarnation,
    /// The process whose place this one took, and one of the passages to it, which shows whether it still lives.
    predecessor: Option<(u32, Arc<OwnedFd>)>,
    upgrade: Arc<Upgrade>,
}

/// What the kernel does for the shards' sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// Datagrams in one send at most (GSO); 1 is none.
    pub segments_out_max: usize,
    /// Datagrams in one receive at most (GRO); 1 is none.
    pub segments_in_max: usize,
    /// Whether packets of a client that moved are steered to its shard. A single shard needs no steering.
    pub steering: bool,
}

impl Offload {
    /// Datagrams in one send at most, as the shards do it now: 1 while the kernel refuses more.
    pub fn segments_out_now<'a>(&self, shards: impl IntoIterator<Item = &'a Tally>) -> u64 {
        // A shard that has made no turn yet does not say.
        let now = shards.into_iter().map(|tally| tally.segments_out_max).filter(|most| *most > 0);
        now.fold(self.segments_out_max as u64, u64::min)
    }
}

/// Opens the sockets and starts the threads.
///
/// # Errors
/// When the number of shards is out of bounds, or the system refuses a socket or a thread.
pub fn spawn(config: Config) -> io::Result<Running> {
    if !(1..=SHARDS_MAX).contains(&config.shards) {
        let message = format!("shards = {}: 1 to {SHARDS_MAX}", config.shards);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let sockets = socket::bind(config.listen, config.shards)?;
    start(config, sockets, None, Incarnation(rand::random()))
}

/// Starts the threads on the sockets of a running relay, whose address and number of shards stay as they are. From here
/// on it must not read them any more: call [`Handle::relieve`] there first. As long as [`Handle::settle`] has not been
/// called here, it may take them back.
///
/// # Errors
/// When the system refuses a thread.
pub fn take_over(config: Config, estate: Estate) -> io::Result<Running> {
    let Estate { sockets, passages, incarnation, pid } = estate;
    if sockets.is_empty() || sockets.len() > SHARDS_MAX || sockets.len() != passages.len() {
        let message = format!("{} sockets and {} passages to take over", sockets.len(), passages.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut own = Incarnation(rand::random());
    if own == incarnation {
        own.0 = own.0.wrapping_add(1);
    }
    start(config, sockets, Some((pid, incarnation, passages)), own)
}

fn start(
    config: Config,
    sockets: Vec<UdpSocket>,
    predecessor: Option<(u32, Incarnation, Vec<OwnedFd>)>,
    incarnation: Incarnation,
) -> io::Result<Running> {
    let local_addr = sockets[0].local_addr()?;
    // Sockets that were taken over have the program already. To attach it again changes nothing, and tells whether they do.
    let steered = if sockets.len() > 1 { sys::steer_by_connection_id(sockets[0].as_fd()) } else { Ok(()) };
    if let Err(error) = &steered {
        tracing::warn!(%error, "the kernel does not steer by connection ID: clients that move cost a hand-over");
    }
    let mut offload = Offload { segments_out_max: usize::MAX, segments_in_max: usize::MAX, steering: steered.is_ok() };
    let upgrade = Arc::new(Upgrade::new(predecessor.is_none()));
    let (alive, predecessors) = match predecessor {
        None => (None, sockets.iter().map(|_| None).collect::<Vec<_>>()),
        Some((pid, incarnation, passages)) => {
            let alive = Some((pid, Arc::new(passages[0].try_clone()?)));
            (alive, passages.into_iter().map(|passage| Some(Predecessor::new(incarnation, passage))).collect())
        }
    };
    let directory = Arc::new(Directory::new(config.limits.clone()));
    let send_push = config.waking.map(|Waking { services, send }| {
        directory.wake_by(services);
        send
    });
    let stop = Arc::new(AtomicBool::new(false));
    let (postboxes, inboxes): (Vec<Postbox>, Vec<Inbox>) =
        sockets.iter().map(|_| inbox::inbox()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    let sealing = quic::crypto::sealing_time(&config.tls, Instant::now);
    let shared = Shared::new(config.tls, config.batch_window, &config.reset_key, incarnation);
    let prefixes = Arc::new(Prefixes::default());
    let live = Live { shared: shared.clone(), pin: config.pin, batch_window: config.batch_window };
    let tcp_tls = config.tcp.as_ref().map(|tcp| tcp::Tls::new(tcp.tls.clone().into()));
    let live = LiveHandle::new(live, tcp_tls.clone());
    let handle = Handle {
        postboxes: postboxes.clone(),
        directory: directory.clone(),
        stop: stop.clone(),
        sockets: sockets.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?,
        incarnation,
        predecessor: alive,
        upgrade: upgrade.clone(),
    };
    let links = config.tcp.as_ref().map(|_| tcp::Links::default());
    let number = config.node.as_ref().map_or(NodeId::default(), |own| own.node);
    let nodes = config.node.map(|own| NodeParts::new(own, incarnation));
    let mut running = Running {
        local_addr,
        counters: Vec::new(),
        threads: Vec::new(),
        handle,
        live: live.clone(),
        offload,
        tcp: None,
    };
    for (index, ((socket, inbox), predecessor)) in sockets.into_iter().zip(inboxes).zip(predecessors).enumerate() {
        let shard = ShardId(index as u16);
        let socket = ShardSocket::new(socket)?;
        let segments_max = socket.segments_max(Instant::now());
        offload.segments_out_max = offload.segments_out_max.min(segments_max);
        offload.segments_in_max = offload.segments_in_max.min(socket.segments_in_max());
        let mut rng: StdRng = rand::make_rng();
        let engine = Engine::new(Parts {
            core: ShardCore::new(Address { node: number, shard }, directory.clone()),
            endpoint: shared.endpoint(shard, rng.random(), None),
            peers: postboxes.clone(),
            pin: config.pin,
            admission: config.admission.clone(),
            prefixes: prefixes.clone(),
            rng: StdRng::from_seed(rng.random()),
            segments_max,
            sealing,
            start: Instant::now(),
            send_push: send_push.clone(),
            nodes: nodes.clone(),
        });
        let counters = Arc::new(Counters::default());
        running.counters.push(counters.clone());
        let window = Window::new(config.batch_window);
        let (stop, live, upgrade) = (stop.clone(), (live.clone(), live.load()), upgrade.clone());
        let together = EndTogether(running.handle.clone());
        let links = links.clone();
        let event_loop = EventLoop {
            engine,
            socket,
            inbox,
            window,
            counters,
            predecessor,
            successor: None,
            upgrade,
            live,
            links,
            stop,
        };
        let run = move || {
            let _together = together;
            event_loop.run();
        };
        running.threads.push(thread::Builder::new().name(format!("shard-{index}")).spawn(run)?);
    }
    running.offload = offload;
    if let (Some(TcpConfig { listener, .. }), Some(links), Some(tls)) = (config.tcp, links, tcp_tls) {
        running.tcp = Some(Tcp {
            local_addr: listener.local_addr()?,
            figures: links.figures(),
            listener: Arc::new(listener.try_clone()?),
        });
        let port = tcp::Port { listener, tls, links, postboxes: postboxes.into(), directory, stop };
        let together = EndTogether(running.handle.clone());
        let run = move || {
            let _together = together;
            if let Err(error) = port.run() {
                tracing::error!(%error, "the TCP port cannot be served");
            }
        };
        running.threads.push(thread::Builder::new().name("tcp".to_owned()).spawn(run)?);
    }
    Ok(running)
}

/// Held by each shard's thread: when one ends, by a panic above all, the others do as well. A relay that has lost a
/// shard would go on looking alive, while packets pile up at a socket that nobody reads.
struct EndTogether(Handle);

impl Drop for EndTogether {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Running {
    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The TCP port's address, if there is one.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.local_addr)
    }

    /// What is counted of the way over TCP, if there is one.
    pub fn tcp_figures(&self) -> Option<Arc<TcpFigures>> {
        self.tcp.as_ref().map(|tcp| tcp.figures.clone())
    }

    /// The TCP port, for a process that takes this one's place.
    pub fn tcp_port(&self) -> Option<Arc<TcpListener>> {
        self.tcp.as_ref().map(|tcp| tcp.listener.clone())
    }

    /// What each shard has counted.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    /// What the kernel does for their sockets.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// What all shards share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.handle.directory
    }

    /// A handle that ends the shards or hands their port over.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// A handle that changes what can be changed.
    pub fn live_handle(&self) -> LiveHandle {
        self.live.clone()
    }

    /// Waits for the threads to end; all do when one does.
    ///
    /// # Panics
    /// When one of them has.
    pub fn join(self) {
        for thread in self.threads {
            thread.join().expect("a shard ends without a panic");
        }
    }
}

impl Handle {
    /// Tells clients to reconnect within `window`, and where; refuses new ones, and goes on until everybody has left, or until the
    /// window has passed and nobody is in a room any more; at the latest until `patience` has passed. Then ends the
    /// threads. Blocks meanwhile. Returns how many sessions were still there.
    pub fn drain(&self, onward: &Onward, window: Duration, patience: Duration) -> u64 {
        self.directory.start_draining();
        for postbox in &self.postboxes {
            postbox.put_control(Letter::Drain(onward.clone(), window));
            postbox.wake();
        }
        let begin = Instant::now();
        let left = loop {
            let population = self.directory.population();
            let idle = population.rooms == 0 && begin.elapsed() >= window;
            if population.sessions == 0 || idle || begin.elapsed() >= patience {
                break population.sessions;
            }
            thread::sleep(DRAIN_POLL);
        };
        self.stop();
        left
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for postbox in &self.postboxes {
            postbox.wake();
        }
    }

    /// The process whose place this one took, as long as it drains. A third one would know nothing of its connections and
    /// answer their packets with resets: nothing is to be handed over before it has ended.
    pub fn predecessor(&self) -> Option<u32> {
        self.predecessor.as_ref().filter(|(_, passage)| !handover::is_gone(passage.as_fd())).map(|(pid, _)| *pid)
    }

    /// What the process that is to replace this one needs, and what is kept for [`Self::relieve`]. Nothing changes yet.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn offer(&self) -> io::Result<(Estate, Retained)> {
        let sockets = self.sockets.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?;
        let (write, read) =
            self.sockets.iter().map(|_| handover::pair()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let estate = Estate { sockets, passages: write, incarnation: self.incarnation, pid: std::process::id() };
        Ok((estate, Retained { passages: read }))
    }

    /// The shards stop reading their sockets: from now on packets come from the process that has the other half of the
    /// offer. If it ends, they read by themselves again. Returns whether all of them have stopped in time.
    pub fn relieve(&self, retained: Retained) -> bool {
        let (done, relieved) = crossbeam_channel::bounded(self.postboxes.len());
        for (postbox, passage) in self.postboxes.iter().zip(retained.passages) {
            postbox.put_control(Letter::Relieve(passage, done.clone()));
            postbox.wake();
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.postboxes.iter().all(|_| relieved.recv_deadline(deadline).is_ok())
    }

    /// The sockets are this process's again, whatever has become of the one that was to read them. That one must have been
    /// stopped, or it must find out before it reads: its passages are closed. Returns whether all shards read in time.
    pub fn reclaim(&self) -> bool {
        self.ask(Letter::Reclaim).len() == self.postboxes.len()
    }

    /// Whether every shard reads its own socket: not so while another process does.
    pub fn reads_all(&self) -> bool {
        self.upgrade.reads_all()
    }

    /// The sockets that were taken over are this process's for good: the old one drains, or is gone.
    pub fn settle(&self) {
        self.upgrade.settle();
        self.postboxes.iter().for_each(Postbox::wake);
    }

    /// At most `limit` sessions of each shard. Shards that are too busy to answer in time are left out.
    pub fn sessions(&self, limit: usize) -> Vec<SessionView> {
        self.ask(|answer| Letter::Inspect(limit, answer)).into_iter().flatten().collect()
    }

    /// How full each shard's tables are, but for shards that are too busy to answer in time.
    pub fn census(&self) -> Vec<Census> {
        self.ask(Letter::Census)
    }

    /// Tells the shards of a node which others live; again whenever that changes.
    pub fn set_roster(&self, roster: Roster) {
        let roster = Arc::new(roster);
        for postbox in &self.postboxes {
            postbox.put_control(Letter::Nodes(roster.clone()));
            postbox.wake();
        }
    }

    /// Passes on what another node said on the bus; whether there was room for it.
    pub fn hear(&self, topic: Topic, from: NodeId, bytes: Bytes) -> bool {
        // Spread over the shards: each passes on what another one deals with.
        let at = match topic {
            Topic::Watchers(identity) | Topic::Holders(identity) => usize::from(identity.as_bytes()[0]),
            Topic::Nodes => usize::from(from.0),
        };
        let postbox = &self.postboxes[at % self.postboxes.len()];
        if !postbox.has_room_for_bus() {
            return false;
        }
        postbox.put_control(Letter::Core(vec![ControlMail::Heard { topic, from, bytes }]));
        postbox.wake();
        true
    }

    /// Tells the shards that the bus may have lost messages.
    pub fn bus_is_back(&self) {
        for postbox in &self.postboxes {
            postbox.put_control(Letter::Core(vec![ControlMail::BusBack]));
            postbox.wake();
        }
    }

    /// Tells the shard that deals with a room where its home is now; whether there was room for it.
    pub fn home_is(&self, room: RoomId, is: HomeIs) -> bool {
        // Which one it is follows from the room and from how many they are: at all nodes alike.
        let at = Homes::new(NodeId(0), self.postboxes.len() as u16).of_room(&room);
        let postbox = &self.postboxes[at.shard.index()];
        if !postbox.has_room_for_bus() {
            return false;
        }
        postbox.put_control(Letter::Core(vec![ControlMail::HomeIs { room, is }]));
        postbox.wake();
        true
    }

    /// Until when this node surely may act as the home of rooms, by decisions that came after this one.
    pub fn hold_homes_until(&self, until: Instant, since: Fence) {
        self.directory.hold_homes_until(until, since);
    }

    /// Ends sessions with a code; how many there were. Whoever is not admitted any more is not woken either.
    pub fn expel(&self, whom: Whom, code: CloseCode) -> usize {
        if let (Whom::Identity(identity), CloseCode::NOT_ADMITTED) = (whom, code) {
            self.directory.forget_push_endpoints_of(&identity);
        }
        self.ask(|answer| Letter::Expel(whom, code, answer)).into_iter().sum()
    }

    /// Asks every shard and waits for the answers.
    fn ask<T>(&self, question: impl Fn(crossbeam_channel::Sender<T>) -> Letter) -> Vec<T> {
        let (answer, answers) = crossbeam_channel::bounded(self.postboxes.len());
        for postbox in &self.postboxes {
            postbox.put_control(question(answer.clone()));
            postbox.wake();
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.postboxes.iter().map_while(|_| answers.recv_deadline(deadline).ok()).collect()
    }
}
