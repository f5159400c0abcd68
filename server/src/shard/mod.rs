//! The shards: each is one thread with its own UDP socket, QUIC endpoint and connections, and its part of the core.
//!
//! `sys` holds the system calls, `socket` the batches, `engine` drives quinn-proto, `event_loop` is the thread.

pub mod counters;

mod cid;
mod connection;
mod deadlines;
mod egress;
mod engine;
mod event_loop;
mod inbox;
mod media;
mod serve;
mod socket;
mod sys;
mod transport;
mod window;

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use quinn_proto::crypto::rustls::QuicServerConfig;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::identity::RelayPin;

pub use self::cid::SHARDS_MAX;
use self::{
    counters::Counters,
    engine::{Engine, Parts},
    event_loop::EventLoop,
    inbox::{Inbox, Letter, Mailbox},
    socket::ShardSocket,
    transport::Shared,
    window::Window,
};
use crate::core::{Admit, ShardCore, ShardId, directory::Directory, limits::Limits};

/// How often the end of a drain is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// What the shards are made of.
pub struct Config {
    /// UDP address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Threads, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Longest batching window, zero to keep it shut.
    pub batch_window: Duration,
    /// TLS.
    pub tls: Arc<QuicServerConfig>,
    /// The name that clients sign for.
    pub pin: RelayPin,
    /// Who gets in.
    pub admission: Arc<dyn Admit>,
    /// What is granted.
    pub limits: Limits,
}

/// Running shards.
pub struct Running {
    local_addr: SocketAddr,
    counters: Vec<Arc<Counters>>,
    threads: Vec<JoinHandle<()>>,
    drain: DrainHandle,
}

/// Ends the shards in order, from any thread.
#[derive(Clone)]
pub struct DrainHandle {
    mailboxes: Vec<Mailbox>,
    directory: Arc<Directory>,
    stop: Arc<AtomicBool>,
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
    let local_addr = sockets[0].local_addr()?;
    if config.shards > 1
        && let Err(error) = sys::steer_by_connection_id(sockets[0].as_fd())
    {
        tracing::warn!(%error, "the kernel does not steer by connection ID: clients that move cost a hand-over");
    }
    let directory = Arc::new(Directory::new(config.limits.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let (mailboxes, inboxes): (Vec<Mailbox>, Vec<Inbox>) =
        (0..config.shards).map(|_| inbox::inbox()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    let shared = Shared::new(config.tls, config.batch_window);
    let drain = DrainHandle { mailboxes: mailboxes.clone(), directory: directory.clone(), stop: stop.clone() };
    let mut running = Running { local_addr, counters: Vec::new(), threads: Vec::new(), drain };
    for (index, (socket, inbox)) in sockets.into_iter().zip(inboxes).enumerate() {
        let shard = ShardId(index as u16);
        let socket = ShardSocket::new(socket)?;
        let mut rng: StdRng = rand::make_rng();
        let engine = Engine::new(Parts {
            shard,
            core: ShardCore::new(shard, directory.clone()),
            endpoint: shared.endpoint(shard, rng.random()),
            peers: mailboxes.clone(),
            pin: config.pin,
            admission: config.admission.clone(),
            rng: StdRng::from_seed(rng.random()),
            segments_max: socket.segments_max(),
        });
        let counters = Arc::new(Counters::default());
        running.counters.push(counters.clone());
        let window = Window::new(config.batch_window);
        let event_loop = EventLoop { engine, socket, inbox, window, counters, stop: stop.clone() };
        running.threads.push(thread::Builder::new().name(format!("shard-{index}")).spawn(move || event_loop.run())?);
    }
    Ok(running)
}

impl Running {
    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What each shard has counted.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    /// What all shards share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.drain.directory
    }

    /// A handle that ends the shards.
    pub fn drain_handle(&self) -> DrainHandle {
        self.drain.clone()
    }

    /// Waits for the threads to end.
    ///
    /// # Panics
    /// When one of them has.
    pub fn join(self) {
        for thread in self.threads {
            thread.join().expect("a shard ends without a panic");
        }
    }
}

impl DrainHandle {
    /// Tells clients to reconnect elsewhere within `window`, refuses new ones, waits until everybody has left or the
    /// window has passed, then ends the threads. Blocks meanwhile.
    pub fn drain(&self, window: Duration) {
        self.directory.start_draining();
        for mailbox in &self.mailboxes {
            mailbox.put_control(Letter::Drain(window));
            mailbox.ring();
        }
        let deadline = Instant::now() + window;
        while self.directory.population().sessions > 0 && Instant::now() < deadline {
            thread::sleep(DRAIN_POLL);
        }
        self.stop.store(true, Ordering::Relaxed);
        for mailbox in &self.mailboxes {
            mailbox.ring();
        }
    }
}
