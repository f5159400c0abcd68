//! `supernode serve`: puts the parts together, says when it is ready, and ends in order.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use supernode_proto::DEFAULT_PORT;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinError,
};

use super::{
    admin::{self, AdminError},
    admission::{AdmissionMode, IssueError, TokenIssuer, TokenVerifier},
    invite::{InviteLinkError, invite_to},
    metrics::{Metrics, Reading},
    state_dir::{KeyMaterial, StateDir, StateError},
    tls::{self, TlsError},
};
use crate::{core::limits::Limits, shard};

/// How long the invite link of the ready line lets people in: 30 days, in seconds.
const READY_INVITE_LIFETIME_S: u64 = 30 * 24 * 3600;
/// Clients come back at a random time in this window, so that the next relay is not met by all at once.
const RECONNECT_WINDOW: Duration = Duration::from_secs(5);

/// What `serve` was asked to do.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// UDP address; without it, port 4433 of every address of both families, or of IPv4 where there is no IPv6.
    pub listen: Option<SocketAddr>,
    /// TCP address of the admin port, loopback only.
    pub admin: SocketAddr,
    /// Where the keys are.
    pub state_dir: PathBuf,
    /// Admit everybody.
    pub open: bool,
    /// Threads with a socket each; without it, one for each core.
    pub shards: Option<usize>,
    /// How long objects may wait to share a packet; zero for not at all.
    pub batch_window: Duration,
}

/// Why the relay did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The invite link.
    #[error(transparent)]
    Invite(#[from] InviteLinkError),
    /// Its token.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The table of metrics.
    #[error("the metrics do not fit together")]
    Metrics(#[from] prometheus::Error),
    /// The UDP port.
    #[error("{listen}: cannot open the relay's UDP port")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Threads, signals or standard output.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The shards ended though nobody asked them to.
    #[error("the shards ended by themselves")]
    ShardsEnded,
    /// A shard broke down.
    #[error("a shard broke down")]
    ShardFailed(#[from] JoinError),
    /// A second signal came while the relay was draining.
    #[error("ended by a second signal before the drain was over")]
    Interrupted,
}

/// The line on standard output that says that the relay is ready.
#[derive(Serialize)]
struct Ready {
    listen: SocketAddr,
    admin: SocketAddr,
    invite: String,
    pid: u32,
}

/// Runs the relay until SIGTERM or SIGINT has drained it.
///
/// # Errors
/// See [`ServeError`].
pub fn run(options: &ServeOptions) -> Result<(), ServeError> {
    let system = |action| move |source| ServeError::System { action, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the control thread"))?;
    let result = runtime.block_on(serve(options));
    // Whoever sends a second signal does not want to wait for the drain's thread either.
    runtime.shutdown_background();
    result
}

async fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    let system = |action| move |source| ServeError::System { action, source };
    // Before anything else: a signal during the start must not be lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?;

    let state = StateDir::create(&options.state_dir)?;
    let keys = state.keys_or_create()?;
    let pin = tls::relay_pin(&keys);
    // The admin port first: it fails without having let anybody in.
    let admin = admin::bind(options.admin).await?;
    let listen = options.listen.unwrap_or_else(default_listen);
    if options.open && !listen.ip().is_loopback() {
        tracing::warn!(%listen, "open to everybody who can reach this address: anyone may use this relay for calls");
    }
    let shards = shard::spawn(shard::Config {
        listen,
        shards: options.shards.unwrap_or_else(cores),
        batch_window: options.batch_window,
        tls: tls::quic_server_config(&keys)?,
        pin,
        admission: Arc::new(match options.open {
            true => AdmissionMode::Open,
            false => AdmissionMode::Tokens(TokenVerifier::new(&keys.admission_key, &pin)),
        }),
        limits: Limits::default(),
    })
    .map_err(|source| ServeError::Listen { listen, source })?;

    let listen = shards.local_addr();
    let metrics = metrics_of(&shards)?;
    let address = reachable_address(listen);
    state.remember_address(&address)?;
    let ready = Ready {
        listen,
        admin: admin.local_addr().map_err(system("read the admin port's address"))?,
        invite: ready_invite(&keys, &address, options.open)?,
        pid: std::process::id(),
    };
    tracing::info!(listen = %ready.listen, admin = %ready.admin, shards = shards.counters().len(), "ready");
    announce(&ready).map_err(system("write the ready line to standard output"))?;
    let admin = tokio::spawn(admin::serve(admin, Arc::new(metrics)));

    let drain = shards.drain_handle();
    let mut ended = tokio::task::spawn_blocking(move || shards.join());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        joined = &mut ended => return Err(joined.map_or_else(ServeError::ShardFailed, |()| ServeError::ShardsEnded)),
    }
    // It waits for clients to leave; meanwhile this thread must hear a second signal.
    let drained = tokio::task::spawn_blocking(move || drain.drain(RECONNECT_WINDOW));
    tokio::select! {
        _ = terminate.recv() => return Err(ServeError::Interrupted),
        _ = interrupt.recv() => return Err(ServeError::Interrupted),
        joined = &mut ended => joined?,
    }
    drained.await?;
    admin.abort();
    tracing::info!("drained");
    Ok(())
}

fn metrics_of(shards: &shard::Running) -> Result<Metrics, prometheus::Error> {
    let (counters, directory) = (shards.counters(), shards.directory().clone());
    Metrics::new(Box::new(move || Reading {
        shards: counters.iter().map(|shard| shard.snapshot()).collect(),
        population: directory.population(),
    }))
}

fn announce(ready: &Ready) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, ready)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn ready_invite(keys: &KeyMaterial, address: &str, open: bool) -> Result<String, ServeError> {
    let pin = tls::relay_pin(keys);
    let token = match open {
        true => None,
        false => {
            let issuer = TokenIssuer::new(&keys.admission_key, &pin);
            Some(issuer.issue(None, unix_now_s(), READY_INVITE_LIFETIME_S, rand::random())?)
        }
    };
    Ok(invite_to(address, pin, token)?.to_string())
}

/// Seconds since 1970; zero if the clock stands before that, where no token is good.
pub fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `[::]` takes IPv4 too, but not where IPv6 is switched off.
fn default_listen() -> SocketAddr {
    let ipv6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => ipv6,
        Err(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// An address for the invite link: the one listened on, or for "every address" the one that packets to the Internet
/// would leave from. Behind a NAT or a name, the operator says `supernode invite --host` instead.
fn reachable_address(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => outbound_ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

/// Asks the routing table: connecting a UDP socket sends nothing. The address is one for documentation (RFC 5737).
fn outbound_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), DEFAULT_PORT)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
