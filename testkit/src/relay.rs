//! A relay in this process.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use supernode_proto::{close::CloseCode, control::TrackKind, identity::RelayPin, object::TrackAlias};
use supernode_server::{
    control::{
        admission::{AdmissionMode, TokenVerifier},
        certificate::Certificate,
        push::Waker,
        state_dir::{KeyMaterial, StateDir},
        tls,
    },
    core::{Admit, Applicant, Grant, directory::Population, ledger::Ledger, limits::Limits},
    shard::{
        self, Census, Onward,
        counters::{Counters, Tally},
    },
};

use supernode_tcp::Target;

use crate::{
    Client, PATIENCE, Person, Room,
    client::client_config_with,
    client_config, lasting_port,
    wait::{eventually, in_time},
};

/// Whom a relay lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Everybody,
    Nobody,
    /// Who has a token.
    Tokens,
}

struct Shut;

impl Admit for Shut {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Err(CloseCode::NOT_ADMITTED)
    }
}

/// How a relay is started.
pub struct Setup {
    pub listen: SocketAddr,
    pub shards: usize,
    pub batch_window: Duration,
    pub door: Door,
    pub limits: Limits,
    pub keys: KeyMaterial,
    /// Whether it has a TCP port, at any port of the same address.
    pub tcp: bool,
    /// Certificates by which its earlier keys lead to this one.
    pub before: Vec<CertificateDer<'static>>,
    /// Where people are woken, and who does it.
    pub waking: Option<shard::Waking>,
}

impl Setup {
    /// At any port of loopback, with keys of its own.
    pub fn new(shards: usize, door: Door, limits: Limits) -> Self {
        Self {
            listen: "127.0.0.1:0".parse().unwrap(),
            shards,
            batch_window: Duration::ZERO,
            door,
            limits,
            keys: fresh_keys(),
            tcp: false,
            before: Vec::new(),
            waking: None,
        }
    }

    pub(crate) fn config(&self) -> shard::Config {
        let pin = tls::relay_pin(&self.keys);
        let certificate = Certificate::self_signed(&self.keys).unwrap().followed_by(self.before.clone());
        let admission: Arc<dyn Admit> = match self.door {
            Door::Everybody => Arc::new(AdmissionMode::Open),
            Door::Nobody => Arc::new(Shut),
            Door::Tokens => Arc::new(AdmissionMode::Tokens(TokenVerifier::new(&self.keys.admission_key, &pin))),
        };
        shard::Config {
            listen: self.listen,
            shards: self.shards,
            batch_window: self.batch_window,
            tls: tls::quic_server_config(&certificate, Some(&certificate)).unwrap(),
            pin,
            reset_key: self.keys.reset_key,
            admission,
            limits: self.limits.clone(),
            tcp: self.tcp.then(|| shard::TcpConfig {
                listener: TcpListener::bind((self.listen.ip(), 0)).unwrap(),
                tls: tls::tcp_server_config(&certificate).unwrap(),
            }),
            waking: self.waking.clone(),
            node: None,
        }
    }
}

/// Keys that no other relay has.
pub(crate) fn fresh_keys() -> KeyMaterial {
    let state = tempfile::tempdir().unwrap();
    StateDir::create(&state.path().join("state")).unwrap().keys_or_create().unwrap()
}

/// A running relay.
pub struct Relay {
    pub(crate) running: Option<shard::Running>,
    pub(crate) setup: Setup,
    pub address: SocketAddr,
    pub pin: RelayPin,
    drains: AtomicBool,
}

impl Relay {
    /// Lets everybody in, and gathers packets for a moment as a relay does that people run.
    pub fn start(shards: usize) -> Self {
        Self::with_limits(shards, Limits { presence_linger: Duration::from_millis(300), ..Limits::default() })
    }

    pub fn with_limits(shards: usize, limits: Limits) -> Self {
        let batch_window = Duration::from_micros(500);
        Self::of(Setup { batch_window, ..Setup::new(shards, Door::Everybody, limits) })
    }

    pub fn of(setup: Setup) -> Self {
        let running = shard::spawn(setup.config()).unwrap();
        let (address, pin) = (running.local_addr(), tls::relay_pin(&setup.keys));
        Self { running: Some(running), setup, address, pin, drains: AtomicBool::new(false) }
    }

    /// Lets everybody in, and wakes people through these services.
    pub fn waking(shards: usize, waker: Waker) -> Self {
        let (listen, waking) = (lasting_port(), Some(waker.waking()));
        let relay = Self::of(Setup { listen, waking, ..Setup::new(shards, Door::Everybody, Limits::default()) });
        tokio::spawn(waker.run(relay.running().directory().clone()));
        relay
    }

    pub fn running(&self) -> &shard::Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn handle(&self) -> shard::Handle {
        self.running().handle()
    }

    pub fn population(&self) -> Population {
        self.running().directory().population()
    }

    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.running().counters()
    }

    pub fn tallies(&self) -> Vec<Tally> {
        self.counters().iter().map(|counters| counters.snapshot().0).collect()
    }

    /// The ledgers of all shards, added up: what became of all objects since the last start.
    pub fn ledger(&self) -> Ledger {
        sum(&self.counters())
    }

    /// Everybody has left: every table is empty, and every object is in exactly one bin of the ledger.
    pub async fn assert_empty(&self) {
        let mut left = String::new();
        let empty = in_time(|| self.is_empty().map_err(|what| left = what).is_ok()).await;
        assert!(empty, "in vain: the relay is empty: {left}");
    }

    /// The same where nothing is asynchronous.
    pub fn assert_empty_blocking(&self) {
        let until = Instant::now() + PATIENCE;
        while let Err(left) = self.is_empty() {
            assert!(Instant::now() < until, "in vain: the relay is empty: {left}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_empty(&self) -> Result<(), String> {
        let people = self.population();
        // The threads of a relay that has drained have ended, and answer no more.
        let tables = if self.drains.load(Ordering::Relaxed) { Vec::new() } else { self.handle().census() };
        let ledger = self.ledger();
        let is_empty = people == Population::default() && tables.iter().all(|table| *table == Census::default());
        if is_empty && ledger.offered == ledger.settled() {
            return Ok(());
        }
        Err(format!("{people:?}, {tables:?}, {ledger:?}"))
    }

    /// Begins to drain, and goes on meanwhile.
    pub fn drain(&self, window: Duration) {
        self.drain_patiently(window, window);
    }

    /// As [`Self::drain`], for as long as somebody is in a room.
    pub fn drain_patiently(&self, window: Duration, patience: Duration) {
        self.drain_to(Onward::Elsewhere, window, patience);
    }

    /// The same, and says where to go.
    pub fn drain_to(&self, onward: Onward, window: Duration, patience: Duration) {
        self.drains.store(true, Ordering::Relaxed);
        let handle = self.handle();
        std::thread::spawn(move || handle.drain(&onward, window, patience));
    }

    pub async fn connect(&self, person: &Person) -> Client {
        self.try_connect(person).await.expect("the relay lets the client in")
    }

    /// Connects and says Hello; the code the relay closed with if it did not say Welcome.
    pub async fn try_connect(&self, person: &Person) -> Result<Client, CloseCode> {
        self.dial().await.greet(person, self.pin).await
    }

    /// As [`Self::connect`], over a path to the relay that begins there.
    pub async fn connect_over(&self, path: SocketAddr, person: &Person) -> Client {
        let client = Client::dial(path, client_config()).await;
        client.greet(person, self.pin).await.expect("the relay lets the client in")
    }

    /// As [`Self::connect`], with TLS of one's own.
    pub async fn connect_with(&self, tls: Arc<dyn quinn::crypto::ClientConfig>, person: &Person) -> Client {
        let client = Client::dial(self.address, client_config_with(tls)).await;
        client.greet(person, self.pin).await.expect("the relay lets the client in")
    }

    /// As [`Self::connect`], by the relay's TCP port.
    pub async fn connect_over_tcp(&self, person: &Person) -> Client {
        self.connect_over_tcp_at(self.running().tcp_addr().expect("it has a TCP port"), person).await
    }

    /// The same over a path to the port that begins there.
    pub async fn connect_over_tcp_at(&self, path: SocketAddr, person: &Person) -> Client {
        self.connect_by(Target { host: "127.0.0.1".to_owned(), address: path, proxy: None }, person).await
    }

    /// The same, reached so.
    pub async fn connect_by(&self, target: Target, person: &Person) -> Client {
        // Who has nothing to say keeps alive, as people's clients do: the relay closes links that nobody uses.
        let mut config = client_config();
        config.transport_config(Arc::new(supernode_tls::transport()));
        let client = Client::dial_over_tcp(self.address, target, config).await;
        client.greet(person, self.pin).await.expect("the relay lets the client in")
    }

    /// A QUIC connection with an open control stream, before Hello.
    pub async fn dial(&self) -> Client {
        Client::dial(self.address, client_config()).await
    }

    /// How a connection ends whose TLS is one's own, when the relay ends it: perhaps before it has quite begun.
    pub async fn end_with(&self, tls: Arc<dyn quinn::crypto::ClientConfig>) -> quinn::ConnectionError {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(client_config_with(tls), self.address, "relay").unwrap();
        match connecting.await {
            Ok(connection) => tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the relay ends it"),
            Err(end) => end,
        }
    }

    /// Two people in a room of their own: the first publishes a track, the second subscribes to it.
    pub async fn speaker_and_listener(&self, kind: TrackKind) -> (Client, Client, TrackAlias) {
        let room = Room::new();
        let mut speaker = self.connect(&Person::new()).await;
        let mut listener = self.connect(&Person::new()).await;
        speaker.join(&room).await;
        listener.join(&room).await;
        let track = speaker.publish(&room, kind).await;
        listener.subscribe(track).await;
        speaker.demand(1).await;
        (speaker, listener, track)
    }

    /// Waits until no connection is left.
    pub async fn assert_left(&self) {
        eventually("no connection is left", || self.tallies().iter().all(|tally| tally.connections == 0)).await;
    }

    pub(crate) fn stop(&mut self, window: Duration) {
        if let Some(running) = self.running.take() {
            running.handle().drain(&Onward::Elsewhere, window, window);
            running.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// What became of the objects of several shards.
pub(crate) fn sum(counters: &[Arc<Counters>]) -> Ledger {
    let mut sum = Ledger::default();
    for (_, ledger) in counters.iter().map(|counters| counters.snapshot()) {
        sum.objects_in += ledger.objects_in;
        sum.offered += ledger.offered;
        sum.delivered += ledger.delivered;
        sum.delivered_datagrams += ledger.delivered_datagrams;
        sum.recalled += ledger.recalled;
        sum.commits_rejected += ledger.commits_rejected;
        sum.longest_wait_us = sum.longest_wait_us.max(ledger.longest_wait_us);
        sum.nodes.add(&ledger.nodes);
        sum.late_joiners += ledger.late_joiners;
        sum.ladder_down.iter_mut().zip(ledger.ladder_down).for_each(|(sum, steps)| *sum += steps);
        sum.ladder_up.iter_mut().zip(ledger.ladder_up).for_each(|(sum, steps)| *sum += steps);
        sum.dropped.iter_mut().zip(ledger.dropped).for_each(|(sum, dropped)| *sum += dropped);
        sum.refused.iter_mut().zip(ledger.refused).for_each(|(sum, refused)| *sum += refused);
    }
    sum
}
