//! `supernode serve`: puts the parts together, says when it is ready, and ends in order.

use std::{
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use supernode_proto::{DEFAULT_PORT, invite::Invite, troubles};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::MissedTickBehavior,
};

use super::{
    acme::Acme,
    admin::{self, Admin, AdminError},
    admission::{Doorkeeper, IssueError, TokenIssuer},
    certificate::{Certificate, CertificateError},
    cluster::{self, Agents, ClusterError, Ears, Membership, View},
    config::{AdmissionChoice, Config, Loaded, Sources, TlsChoice},
    dashboard::Dashboard,
    handover::{self, HandoverError, Peer, Settlement, Takeover},
    hook::{self, Hooks},
    invite::InviteLinkError,
    log::LeftOut,
    marks::{self, Marks},
    metrics::{Metrics, Read, Reading, ShardReading},
    operator::{self, Operator},
    page::{self, PageError, Served, Way},
    pages_port::{self, PagesPortError, Told},
    ports::{self, Ports},
    prepared::{DoorParts, PrepareError, Prepared},
    process::Usage,
    push::{self, PushError, Waker},
    reach::Reach,
    reload::{ChangeLog, Changeable, InEffect, Own, Reloader, Seen, Shown},
    revocations::{Exceptions, Revoked, RevokedError},
    spent::Spent,
    state_dir::{Door, KeyMaterial, StateDir, StateError},
    status::{self, PageTold, StatusSource},
    successor::Program,
    systemd,
    tls::{self, TlsError},
    words,
};
use crate::shard::{self, Onward};

/// How long the invite link of the ready line lets people in: 30 days, in seconds.
const READY_INVITE_LIFETIME_S: u64 = 30 * 24 * 3600;
/// Clients come back at a random time in this window, so that the next relay is not met by all at once.
const RECONNECT_WINDOW: Duration = Duration::from_secs(5);

/// How long commands are still answered once nobody is left.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// How often files are looked at for a change. Polled, not subscribed to: a look is one system call for each of a few
/// files, and it sees through every kind of mount and link.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often the ends of the certificate and of invites are looked at for a warning.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Connections that the kernel keeps until the thread takes them.
const TCP_BACKLOG: i32 = 1024;

/// How often it is looked whether the shards of a process that takes over turn already.
const TURN_POLL: Duration = Duration::from_millis(5);

/// What a relay starts with.
pub struct Start {
    /// Where its configuration comes from, to read it again.
    pub sources: Sources,
    /// What that is now.
    pub loaded: Loaded,
    /// Where the keys are.
    pub state_dir: PathBuf,
    /// Replace the relay that runs with this state directory, if one does.
    pub takeover: bool,
    /// Changes what is logged, and how.
    pub change_log: ChangeLog,
    /// What the log has left out.
    pub left_out: Arc<LeftOut>,
}

troubles! {
    /// Why the relay did not start or did not end well.
    pub ServeError as WORDS, through State(StateError) Tls(TlsError) Certificate(CertificateError) Prepare(PrepareError) Invite(InviteLinkError)
        Issue(IssueError) Admin(AdminError) Pages(PagesPortError) Page(PageError) Revoked(RevokedError) Push(PushError) Handover(HandoverError) Cluster(ClusterError):
    Metrics(#[from] prometheus::Error), "the table of metrics does not fit together",
        "the program is at fault", "tell the authors, with what is said";
    StateInUse { state: String }, "{state}: a relay runs with this state directory",
        "two relays cannot share one",
        "end it (supernode drain), or replace it while its calls go on (--takeover), or name another directory (--state-dir)";
    Listen { listen: SocketAddr, source: io::Error }, "{listen}: cannot open the relay's UDP port",
        "another program has it, the address is not this machine's, or the port is below 1024",
        "see who has it (ss -ulpn), and compare relay.listen with this machine's addresses (ip address)";
    ListenTcp { listen: SocketAddr, source: io::Error }, "{listen}: cannot open the TCP port for clients",
        "another program has it (a web server, most likely), or it is below 1024",
        "see who has it (ss -tlpn); take another port for tcp.listen, or let the relay open low ports (AmbientCapabilities=CAP_NET_BIND_SERVICE)";
    System { action: &'static str, source: io::Error }, "cannot {action}",
        "the system refused it: too few descriptors or threads, or standard output is gone",
        "see what the system says, and raise the limit that it names (ulimit -a, or LimitNOFILE= and TasksMax= of the unit)";
    ShardsEnded, "the relay ended though nobody asked it to",
        "its shards ended by themselves: the program is at fault", "start it again, and tell the authors, with the log";
    ShardFailed(#[from] JoinError), "a shard broke down, and the relay with it",
        "the program is at fault", "start it again, and tell the authors, with the log";
    Interrupted, "the relay ended by a second signal before its calls were over",
        "as is said: whoever sent it did not want to wait", "nothing";
}

/// The line on standard output that says that the relay is ready.
#[derive(Serialize)]
struct Ready {
    listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<SocketAddr>,
    admin: SocketAddr,
    /// The page, if it is served here.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<PageTold>,
    /// A link that lets people in. One with a token is for a person's eyes, not for a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
    pid: u32,
}

/// Runs the relay until SIGTERM or SIGINT has drained it.
///
/// # Errors
/// See [`ServeError`].
pub fn run(start: Start) -> Result<(), ServeError> {
    let system = |action| move |source| ServeError::System { action, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the control thread"))?;
    let result = runtime.block_on(serve(start));
    // Whoever sends a second signal does not want to wait for the drain's thread either.
    runtime.shutdown_background();
    result
}

async fn serve(start: Start) -> Result<(), ServeError> {
    let system = |action| move |source| ServeError::System { action, source };
    // Before anything else: a signal during the start must not be lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?;
    let hangup = signal(SignalKind::hangup()).map_err(system("listen for SIGHUP"))?;

    let program = Program::of_this_process().map_err(system("find this program's file"))?;
    let Start { sources, loaded, state_dir, takeover, change_log, left_out } = start;
    let config = loaded.config.clone();
    change_log(&config.log.filter, config.log.format);
    let seen = Seen::now(&sources, &config);
    let prepared = Prepared::read(&config)?;
    prepared.warn_of_objections(&config);
    let state = StateDir::create(&state_dir)?;
    let keys = Arc::new(state.keys_or_create()?);
    let acme = match config.tls.mode {
        TlsChoice::Acme => Some(Acme::new(config.tls.acme.clone(), StateDir::open(&state_dir)?, keys.clone())),
        TlsChoice::SelfSigned | TlsChoice::Files => None,
    };
    let ordered = acme.as_ref().map(Acme::stored).transpose()?.flatten();
    let hooks = Arc::new(Hooks::default());
    let spent = Arc::new(Spent::open(StateDir::open(&state_dir)?)?);
    let door_parts = DoorParts { state: StateDir::open(&state_dir)?, hooks: hooks.clone(), spent };
    let own = Own { self_signed: door_parts.own_certificate()?, ordered: ordered.clone() };
    let certificate = own.choose(&config, prepared.certificate.as_ref());
    let pages = door_parts.for_pages(&config, &certificate)?;
    let takeover = predecessor(takeover, &config, &state, &state_dir)?;
    // The admin port first: it fails without having let anybody in.
    let admin_listener = match &takeover {
        Some(takeover) if takeover.ports.admin.local_addr().is_ok_and(|address| address == config.admin.listen) => {
            let theirs = takeover.ports.admin.try_clone();
            theirs.and_then(TcpListener::from_std).map_err(system("take the admin port over"))?
        }
        _ => admin::bind(config.admin.listen).await?,
    };
    let theirs = takeover.as_ref().and_then(|takeover| takeover.ports.certificates.as_ref());
    let pages_listener = config.web.listen.map(|listen| pages_port::bind(listen, theirs)).transpose()?;
    let theirs = takeover.as_ref().and_then(|takeover| takeover.ports.page.as_ref());
    let page_listener = config.web.page.map(|listen| page::bind(listen, theirs)).transpose()?;
    let served = match (config.web.page, &prepared.page) {
        (Some(at), Some(page)) => Some(Served::new(page.clone(), Way::at(at, &certificate)?)),
        _ => None,
    };
    let node = cluster::Settings::of(&config, prepared.cluster.clone(), certificate.pin);
    let told = Told::default();
    let pages_until_unix_s = pages.as_ref().and_then(|pages| pages.until_unix_s);
    let listen = config.relay.listen.unwrap_or_else(default_listen);
    if config.admission.mode == AdmissionChoice::Open && !listen.ip().is_loopback() {
        tracing::warn!(%listen, "open to everybody who can reach this address: anyone may use this relay for calls");
    }
    let tcp = tcp_port_of(&config, takeover.as_ref(), &certificate)?;
    let tcp_address =
        tcp.as_ref().map(|tcp| tcp.listener.local_addr()).transpose().map_err(system("read the TCP port"))?;
    let port_of = |address: io::Result<SocketAddr>| address.map(|address| address.port());
    let reached_at = |listen| -> io::Result<Reach> {
        Ok(Reach {
            listen,
            tcp: tcp_address.map(|address| address.port()),
            certificates: pages_listener.as_ref().map(|port| port_of(port.local_addr())).transpose()?,
            page: page_listener.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    };
    let door = Arc::new(Doorkeeper::new(prepared.admission(&config, &door_parts)?));
    let admission = Arc::new(Exceptions::new(door.clone(), Revoked::read(&state)?));
    let push_figures = Arc::new(push::Figures::default());
    let waker = Waker::of(&config, &state, push_figures.clone())?;
    let agents = node.as_ref().map(cluster::Settings::agents);
    let own_node =
        node.as_ref().zip(agents.clone()).map(|(node, agents)| cluster::own_node(node, agents, &certificate));
    let shards_config = shard::Config {
        listen,
        shards: if config.relay.shards == 0 { cores() } else { config.relay.shards },
        batch_window: config.relay.batch_window,
        tls: tls::for_nodes_too(
            tls::quic_server_config(&certificate, pages.as_ref().map(|pages| &pages.certificate))?,
            &config,
        )?,
        pin: certificate.pin,
        admission: admission.clone(),
        limits: config.limits.clone(),
        reset_key: keys.reset_key,
        tcp,
        waking: waker.as_ref().map(Waker::waking),
        node: own_node.transpose()?,
    };
    let (control, control_door) = state.make(Door::Control)?;
    let (handover, handover_door) = state.make(Door::Handover)?;
    let remember = |listen| -> Result<Invite, ServeError> {
        let reach = reached_at(listen).map_err(system("read the relay's ports"))?;
        Ok(reach.remember(&state, &config, &certificate)?)
    };
    let failed = |source| ServeError::Listen { listen, source };
    let (shards, link, settlement) = match takeover {
        None => {
            let shards = shard::spawn(shards_config).map_err(failed)?;
            let link = remember(shards.local_addr())?;
            (shards, link, None)
        }
        Some(takeover) => {
            // Whatever may take its time comes before: from `relieve` on nobody is served until the threads run.
            let link = remember(takeover.local_addr()?)?;
            let (estate, settlement) = takeover.relieve()?;
            (shard::take_over(shards_config, estate).map_err(failed)?, link, Some(settlement))
        }
    };
    let took_over = settlement.is_some();
    if let Some(settlement) = settlement {
        settle(settlement, &shards).await?;
    }

    // A predecessor ends its life in the cluster as soon as it has seen that this process serves.
    let begin = |(node, agents): (cluster::Settings, Agents)| Membership::begin(node, agents, Ears::of(&shards));
    let mut membership = node.zip(agents).map(begin).transpose()?;
    let cluster = membership.as_ref().map(|membership| membership.view().clone());
    let listen = shards.local_addr();
    let shown = Shown::default();
    shown.set(&certificate);
    let marks = Marks::default();
    marks.note(if took_over { marks::Event::TookOver } else { marks::Event::Started });
    let reach = reached_at(listen).map_err(system("read the relay's ports"))?;
    let at = reach.page_url(&config, &certificate, &link);
    let page_told = at.zip(served.clone());
    let asked = Asked { hook: hooks.figures.clone(), push: push_figures, cluster: cluster.clone() };
    let read = read_of(&shards, shown.clone(), asked, left_out, marks.clone());
    let admin = Arc::new(Admin {
        metrics: Metrics::new(read.clone())?,
        dashboard: Dashboard::new(read, marks.clone(), page_told.clone()),
        status: StatusSource::of(&shards, shown.clone(), page_told.clone(), config.relay.drain_patience, cluster),
    });
    let control = UnixListener::from_std(control).map_err(system("serve the control socket"))?;
    let handover = UnixListener::from_std(handover).map_err(system("serve the hand-over socket"))?;
    let copy = |port: BorrowedFd<'_>| port.try_clone_to_owned();
    let keep = || -> io::Result<Ports<OwnedFd>> {
        Ok(Ports {
            admin: copy(admin_listener.as_fd())?,
            tcp: shards.tcp_port().map(|port| copy(port.as_fd())).transpose()?,
            certificates: pages_listener.as_ref().map(|port| copy(port.as_fd())).transpose()?,
            page: page_listener.as_ref().map(|port| copy(port.as_fd())).transpose()?,
        })
    };
    let ports = keep().map_err(system("keep the ports for whoever takes over"))?;
    let ready = Ready {
        listen,
        tcp: shards.tcp_addr(),
        admin: admin_listener.local_addr().map_err(system("read the admin port's address"))?,
        page: page_told.as_ref().map(PageTold::of),
        invite: ready_invite(&keys, link.clone(), config.admission.mode)?,
        pid: std::process::id(),
    };
    let to = Changeable {
        live: shards.live_handle(),
        directory: shards.directory().clone(),
        door: door.clone(),
        door_parts,
        change_log,
        certificate: shown,
        marks: marks.clone(),
        pages: told.clone(),
        page: config.web.page.zip(served.clone()),
        remember_link: {
            let state = StateDir::open(&state_dir)?;
            Box::new(move |config, certificate| Ok(reach.remember(&state, config, certificate).map(drop)?))
        },
    };
    let in_effect = InEffect::new(loaded);
    let reloader = Reloader::new(sources, in_effect.clone(), seen, own, to, pages_until_unix_s);
    told.set(pages.map(|pages| pages.told).unwrap_or_default());
    control_door.open()?;
    handover_door.open()?;
    let offload = shards.offload();
    tracing::info!(
        listen = %ready.listen,
        admin = %ready.admin,
        shards = shards.counters().len(),
        gso = offload.segments_out_max,
        gro = offload.segments_in_max,
        steering = offload.steering,
        "ready"
    );
    if let Some(page) = &ready.page {
        tracing::info!(url = page.url, sha256 = page.sha256, "the page is served");
    }
    // By a thread of its own: whoever does not read the line must not keep the relay from serving.
    let has_no_invite = ready.invite.is_none();
    let announcer = std::thread::Builder::new().name("ready".to_owned()).spawn(move || {
        if let Err(error) = announce(&ready) {
            tracing::warn!(%error, "the ready line cannot be written to standard output");
        }
    });
    if has_no_invite {
        tracing::info!("no terminal reads the ready line, so it has no invite: make one with `supernode invite`");
    }
    if let Err(error) = announcer {
        tracing::warn!(%error, "there is no thread to write the ready line");
    }

    let (drain, mut drain_asked) = mpsc::channel(1);
    let operator = Arc::new(Operator {
        admin: admin.clone(),
        shards: shards.handle(),
        state,
        admission,
        door,
        in_effect,
        drain,
        program: program.clone(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { admin::serve(admin_listener, admin).await });
    if let Some(listener) = pages_listener {
        tasks.spawn(async move { pages_port::serve(listener, told).await });
    }
    if let Some((listener, served)) = page_listener.zip(served) {
        tasks.spawn(async move { page::serve(listener, served).await });
    }
    if let Some(waker) = waker {
        let directory = shards.directory().clone();
        tasks.spawn(async move {
            waker.run(directory).await;
            Ok(())
        });
    }
    let commands = operator.clone();
    tasks.spawn(async move { operator::serve(control, commands).await });
    let (certificates, new_certificates) = mpsc::channel(1);
    let has_successor = Arc::new(AtomicBool::new(false));
    let current = tokio::spawn(keep_current(reloader, hangup, new_certificates, has_successor.clone()));
    if let Some(acme) = acme {
        tasks.spawn(async move {
            acme.keep(ordered, certificates).await;
            Ok(())
        });
    }
    let watchdog = tokio::spawn(systemd::keep_telling(shards.counters()));
    systemd::ready();

    let (handle, counters) = (shards.handle(), shards.counters());
    let mut ended = tokio::task::spawn_blocking(move || shards.join());
    let (onward, patience, mut signalled) = tokio::select! {
        _ = terminate.recv() => (Onward::Elsewhere, farewell("SIGTERM", config.relay.drain_patience), true),
        _ = interrupt.recv() => (Onward::Elsewhere, farewell("SIGINT", config.relay.drain_patience), true),
        Some((onward, patience)) = drain_asked.recv() => (onward, farewell("supernode drain", patience), false),
        () = successor(handover, handle.clone(), ports, program) => {
            tracing::info!("another process serves now: draining");
            // It has the admin port; whoever asks there is to be answered by it alone. And it is the service now: if it
            // hangs, nobody else may tell systemd that all is well.
            tasks.shutdown().await;
            watchdog.abort();
            has_successor.store(true, Ordering::Relaxed);
            // It is this node from now on.
            if let Some(membership) = membership.take() {
                membership.leave().await;
            }
            hear_successor(operator, &mut tasks);
            (Onward::Successor, config.relay.drain_patience, false)
        }
        joined = &mut ended => return Err(joined.map_or_else(ServeError::ShardFailed, |()| ServeError::ShardsEnded)),
    };
    // It waits for clients to leave; meanwhile this thread must hear signals. The first one changes nothing: a service
    // is often told to drain and then to end.
    marks.drains(patience);
    let drained = tokio::task::spawn_blocking(move || handle.drain(&onward, RECONNECT_WINDOW, patience));
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            joined = &mut ended => break joined?,
        }
        if std::mem::replace(&mut signalled, true) {
            return Err(ServeError::Interrupted);
        }
        tracing::info!("a signal: draining already");
        systemd::stopping(patience);
    }
    let sessions_left = drained.await?;
    // Whoever had the last session ended is to hear of it.
    tokio::time::sleep(LAST_ANSWERS).await;
    tasks.shutdown().await;
    if let Some(membership) = membership {
        membership.leave().await;
    }
    watchdog.abort();
    current.abort();
    let ledgers: Vec<_> = counters.iter().map(|shard| shard.snapshot().1).collect();
    let objects = status::objects(&ledgers);
    let dropped: u64 = objects.dropped.values().sum();
    tracing::info!(objects.offered, objects.delivered, dropped, objects.queued, sessions_left, "drained");
    Ok(())
}

/// The way over TCP, if there is to be one.
fn tcp_port_of(
    config: &Config,
    takeover: Option<&Takeover>,
    certificate: &Certificate,
) -> Result<Option<shard::TcpConfig>, ServeError> {
    let Some(listen) = config.tcp.listen else { return Ok(None) };
    let theirs = takeover.and_then(|takeover| takeover.ports.tcp.as_ref());
    let opened = ports::open(listen, theirs, TCP_BACKLOG);
    let listener = opened.map_err(|source| ServeError::ListenTcp { listen, source })?;
    Ok(Some(shard::TcpConfig { listener, tls: tls::tcp_server_config(certificate)? }))
}

/// The relay that is to be replaced, if that was asked for and one runs. Without being asked, one that runs is in the
/// way.
fn predecessor(
    asked: bool,
    config: &Config,
    state: &StateDir,
    state_dir: &Path,
) -> Result<Option<Takeover>, ServeError> {
    if !asked {
        return match state.knock(Door::Handover)? {
            Some(_) => Err(ServeError::StateInUse { state: state_dir.display().to_string() }),
            None => Ok(None),
        };
    }
    let takeover = Takeover::ask(state)?;
    match &takeover {
        Some(takeover) => {
            let shards = Some(config.relay.shards).filter(|shards| *shards != 0);
            takeover.check(config.relay.listen, shards)?;
            tracing::info!(pid = takeover.pid(), "taking over");
        }
        None => tracing::info!("no relay runs with this state directory: nothing to take over"),
    }
    Ok(takeover)
}

/// Shows the process that is replaced that every shard of this one turns; from then on the sockets are ours.
///
/// # Errors
/// [`HandoverError::TooLate`].
async fn settle(settlement: Settlement, shards: &shard::Running) -> Result<(), HandoverError> {
    let counters = shards.counters();
    while counters.iter().any(|shard| shard.snapshot().0.turns == 0) {
        tokio::time::sleep(TURN_POLL).await;
    }
    match settlement.settle() {
        Err(HandoverError::TooLate) => return Err(HandoverError::TooLate),
        Err(error) => tracing::warn!(%error, "the relay that was replaced is gone already"),
        Ok(()) => {}
    }
    shards.handle().settle();
    Ok(())
}

/// The relay is told to end, and nobody takes its place.
fn farewell(by: &str, patience: Duration) -> Duration {
    tracing::info!(by, patience_s = patience.as_secs(), "draining");
    systemd::stopping(patience);
    patience
}

/// Returns when another process has taken this one's place.
async fn successor(handover: UnixListener, shards: shard::Handle, ports: Ports<OwnedFd>, program: Program) {
    let ports = Arc::new(ports);
    loop {
        let stream = handover.accept().await.and_then(|(stream, _)| {
            let pid = stream.peer_cred()?.pid();
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            Ok((stream, pid))
        });
        let (settled, pid) = match stream {
            Ok((stream, pid)) => {
                let (shards, ports) = (shards.clone(), ports.clone());
                let hand_over = move || handover::hand_over(stream, &Peer::of(pid), &shards, &ports);
                (tokio::task::spawn_blocking(hand_over).await, pid)
            }
            Err(error) => {
                tracing::warn!(%error, "a process that wants to take over cannot be heard");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        match settled {
            Ok(Ok(())) => return program.settle(),
            Ok(Err(error)) => {
                let reason = words::line(&error);
                tracing::warn!(reason, "no hand-over: this process goes on");
                program.fail(pid.unwrap_or_default().cast_unsigned(), || reason);
            }
            Err(error) => tracing::error!(%error, "the hand-over broke down: this process goes on"),
        }
    }
}

/// Whom the operator takes back is to go here, too, while this process drains: its successor passes that on.
fn hear_successor(operator: Arc<Operator>, tasks: &mut JoinSet<io::Result<()>>) {
    let heard = operator.state.make(Door::Predecessor).and_then(|(listener, door)| {
        door.open()?;
        Ok(listener)
    });
    match heard.map(UnixListener::from_std) {
        Ok(Ok(listener)) => drop(tasks.spawn(operator::serve_as_predecessor(listener, operator))),
        Ok(Err(error)) => tracing::warn!(%error, "revoke and kick do not reach this process while it drains"),
        Err(error) => tracing::warn!(%error, "revoke and kick do not reach this process while it drains"),
    }
}

/// What is counted of those whom the relay asks.
struct Asked {
    hook: Arc<hook::Figures>,
    push: Arc<push::Figures>,
    cluster: Option<Arc<View>>,
}

fn read_of(shards: &shard::Running, certificate: Shown, asked: Asked, left_out: Arc<LeftOut>, marks: Marks) -> Read {
    let (counters, directory, offload) = (shards.counters(), shards.directory().clone(), shards.offload());
    let tcp = shards.tcp_figures();
    Arc::new(move || Reading {
        shards: counters.iter().map(|shard| ShardReading::of(shard)).collect(),
        population: directory.population(),
        draining: directory.is_draining(),
        drain_left_s: marks.drain_left_s(),
        certificate_left_s: certificate.left_s(),
        offload: Some(offload),
        tcp: tcp.as_ref().map(|tcp| tcp.snapshot()).unwrap_or_default(),
        log_lines_left_out: [left_out.by_rate(), left_out.by_sink()],
        hook_outcomes: asked.hook.outcomes(),
        hook_waiting: asked.hook.waiting(),
        push_outcomes: asked.push.outcomes(),
        cluster: asked.cluster.as_ref().map(|cluster| cluster.reading()),
        process: Usage::now(),
    })
}

/// Writes the ready line. That nobody listens any more is no fault: the pipe may have been the predecessor's.
fn announce(ready: &Ready) -> io::Result<()> {
    let mut line = serde_json::to_vec(ready)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    match out.write_all(&line).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Takes over what is changed: on SIGHUP, whenever a file has changed, and when a certificate was ordered. A process that has
/// a successor follows only in who may stay.
async fn keep_current(
    mut reloader: Reloader,
    mut hangup: Signal,
    mut ordered: mpsc::Receiver<Certificate>,
    has_successor: Arc<AtomicBool>,
) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut certificate = tokio::time::interval(CERTIFICATE_INTERVAL);
    certificate.tick().await; // the first comes at once, and the start has looked
    loop {
        tokio::select! {
            _ = look.tick() => {
                let drains = has_successor.load(Ordering::Relaxed);
                let look: fn(&mut Reloader) = if drains { Reloader::look_at_the_door } else { Reloader::look };
                reloader = apart(reloader, look).await;
            }
            _ = hangup.recv(), if !has_successor.load(Ordering::Relaxed) => {
                tracing::info!("SIGHUP: reading the configuration again");
                reloader = apart(reloader, Reloader::reload).await;
            }
            Some(certificate) = ordered.recv() => {
                reloader = apart(reloader, |reloader| reloader.show_ordered(certificate)).await;
            }
            _ = certificate.tick() => reloader.warn(),
        }
    }
}

/// Reads and writes files by a thread that may wait for them: this one answers the operator meanwhile.
async fn apart(mut reloader: Reloader, work: impl FnOnce(&mut Reloader) + Send + 'static) -> Reloader {
    let worked = tokio::task::spawn_blocking(move || {
        work(&mut reloader);
        reloader
    });
    worked.await.expect("a reload ends without a panic")
}

fn ready_invite(keys: &KeyMaterial, link: Invite, admission: AdmissionChoice) -> Result<Option<String>, IssueError> {
    let token = match admission {
        AdmissionChoice::Tokens => {
            if !io::stdout().is_terminal() {
                return Ok(None);
            }
            let issuer = TokenIssuer::new(&keys.admission_key, &tls::relay_pin(keys));
            Some(issuer.issue(None, unix_now_s(), READY_INVITE_LIFETIME_S, rand::random())?)
        }
        AdmissionChoice::AllowList | AdmissionChoice::Hook | AdmissionChoice::Open => None,
    };
    Ok(Some(Invite { token, ..link }.to_string()))
}

/// Milliseconds since 1970; zero if the clock stands before that.
pub fn unix_now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
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
