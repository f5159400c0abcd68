//! A relay on loopback, with times that suit tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use supernode_client::proto::{close::CloseCode, invite::Invite};
use supernode_server::{
    control::{
        admission::{AdmissionMode, TokenIssuer, TokenVerifier},
        certificate::Certificate,
        relay_key::{before, rotate_relay_key},
        state_dir::{KeyMaterial, StateDir},
        tls,
    },
    core::{counts::LIMITS, ledger::Ledger, limits::Limits},
    shard::{self, counters::Counters},
};
use tokio::{
    net::UdpSocket,
    task::{JoinHandle, JoinSet},
};

pub(crate) struct Relay {
    running: Option<shard::Running>,
    keys: KeyMaterial,
    /// Certificates by which its earlier keys lead to this one.
    before: Vec<CertificateDer<'static>>,
    open: bool,
    shards: usize,
    address: SocketAddr,
    limits: Limits,
}

impl Relay {
    /// Lets everybody in.
    pub(crate) fn open(shards: usize) -> Self {
        Self::start(true, shards)
    }

    /// Lets in who has a token.
    pub(crate) fn closed() -> Self {
        Self::start(false, 1)
    }

    /// Lets everybody in, and shows a certificate for `name` that an authority has signed, whose own certificate is the
    /// text.
    pub(crate) fn vouched_for(name: &str) -> (Self, String) {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut keys = Self::keys();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&keys.tls_key, &issuer).unwrap();
        keys.tls_certificate = certificate.der().clone();
        (Self::start_with(keys, true, 1), pem)
    }

    fn start(open: bool, shards: usize) -> Self {
        Self::start_with(Self::keys(), open, shards)
    }

    fn keys() -> KeyMaterial {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("supernode-calls-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let keys = StateDir::create(&path).unwrap().keys_or_create().unwrap();
        std::fs::remove_dir_all(path).unwrap();
        keys
    }

    fn start_with(keys: KeyMaterial, open: bool, shards: usize) -> Self {
        // A socket that shares its port may be given that of another relay: one that does not share is given its own.
        let address = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let limits = Limits {
            ring_timeout: Duration::from_secs(1),
            presence_interval: Duration::from_millis(10),
            presence_linger: Duration::from_millis(100),
            ..Limits::default()
        };
        let mut relay = Self { running: None, keys, before: Vec::new(), open, shards, address, limits };
        relay.run();
        relay
    }

    fn run(&mut self) {
        let running = shard::spawn(self.config()).unwrap();
        self.address = running.local_addr();
        self.running = Some(running);
    }

    fn config(&self) -> shard::Config {
        let pin = tls::relay_pin(&self.keys);
        let admission = match self.open {
            true => AdmissionMode::Open,
            false => AdmissionMode::Tokens(TokenVerifier::new(&self.keys.admission_key, &pin)),
        };
        shard::Config {
            listen: self.address,
            shards: self.shards,
            batch_window: Duration::ZERO,
            tls: tls::quic_server_config(
                &Certificate::self_signed(&self.keys).unwrap().followed_by(self.before.clone()),
            )
            .unwrap(),
            pin,
            reset_key: self.keys.reset_key,
            admission: Arc::new(admission),
            limits: self.limits.clone(),
        }
    }

    /// From now on, whoever comes may put so much into mailboxes.
    pub(crate) fn take_little(&mut self, mls_bytes_per_second_max: u64) {
        self.limits.mls_bytes_per_second_max = mls_bytes_per_second_max;
        self.running.as_ref().unwrap().directory().set_limits(self.limits.clone());
    }

    /// How often a limit bit, as the relay publishes it once a second.
    pub(crate) fn limit_hits(&self, limit: &str) -> u64 {
        let place = LIMITS.iter().position(|name| *name == limit).unwrap();
        let counters = self.running.as_ref().unwrap().counters();
        counters.iter().map(|counters| counters.detail().counts.limits[place]).sum()
    }

    /// Puts new shards in the place of these, as an upgrade does. The old ones drain; their counts at the end.
    pub(crate) fn upgrade(&mut self, window: Duration) -> JoinHandle<Ledger> {
        let old = self.running.take().unwrap();
        let (estate, retained) = old.handle().offer().unwrap();
        assert!(old.handle().relieve(retained), "the old shards stop reading");
        let new = shard::take_over(self.config(), estate).unwrap();
        new.handle().settle();
        self.running = Some(new);
        tokio::task::spawn_blocking(move || {
            old.handle().drain(window, Duration::from_secs(60));
            let counters = old.counters();
            old.join();
            sum(&counters)
        })
    }

    /// Tells the relay to end, without a successor.
    pub(crate) fn drain(&self, window: Duration, patience: Duration) {
        let handle = self.running.as_ref().unwrap().handle();
        std::thread::spawn(move || handle.drain(window, patience));
    }

    /// What became of all objects since the last start.
    pub(crate) fn ledger(&self) -> Ledger {
        sum(&self.running.as_ref().unwrap().counters())
    }

    /// Handshakes that completed since the start.
    pub(crate) fn handshakes(&self) -> u64 {
        self.running.as_ref().unwrap().counters().iter().map(|counters| counters.snapshot().0.handshakes_ok).sum()
    }

    /// Sessions that ended with this code since the start.
    pub(crate) fn closed_with(&self, name: &str) -> u64 {
        let code = CloseCode::ALL.iter().find(|row| row.name == name).unwrap().code as usize;
        self.running.as_ref().unwrap().counters().iter().map(|counters| counters.snapshot().0.closed[code]).sum()
    }

    /// Authenticated sessions.
    pub(crate) fn sessions(&self) -> u64 {
        self.running.as_ref().unwrap().directory().population().sessions
    }

    /// Lets everybody in, with keys that are in this directory.
    pub(crate) fn open_in(state: &Path) -> Self {
        Self::start_with(StateDir::create(state).unwrap().keys_or_create().unwrap(), true, 1)
    }

    /// Restarts with a new key, which the present one has certified.
    pub(crate) async fn restart_with_another_key(mut self, state: &Path) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let state = StateDir::create(state).unwrap();
        rotate_relay_key(&state, 3600, now).unwrap();
        (self.before, _) = before(&state, now).unwrap();
        self.keys = state.keys().unwrap();
        self.restart().await
    }

    /// Drains the relay and starts it again at the same address, with the same keys and nothing remembered.
    pub(crate) async fn restart(mut self) -> Self {
        tokio::task::spawn_blocking(move || {
            self.stop(Duration::from_millis(200));
            self.run();
            self
        })
        .await
        .unwrap()
    }

    fn stop(&mut self, window: Duration) {
        if let Some(running) = self.running.take() {
            running.handle().drain(window, window);
            running.join();
        }
    }

    /// The invite without a token.
    pub(crate) fn invite(&self) -> Invite {
        Invite {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            pin: Some(tls::relay_pin(&self.keys)),
            token: None,
        }
    }

    /// The invite with a token that holds for an hour.
    pub(crate) fn invite_with_token(&self) -> Invite {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let issuer = TokenIssuer::new(&self.keys.admission_key, &tls::relay_pin(&self.keys));
        Invite { token: Some(issuer.issue(None, now, 3600, rand::random()).unwrap()), ..self.invite() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn sum(counters: &[Arc<Counters>]) -> Ledger {
    let mut sum = Ledger::default();
    for (_, ledger) in counters.iter().map(|shard| shard.snapshot()) {
        sum.offered += ledger.offered;
        sum.delivered += ledger.delivered;
        sum.dropped.iter_mut().zip(ledger.dropped).for_each(|(sum, dropped)| *sum += dropped);
    }
    sum
}

/// A way to a relay that can be cut.
pub(crate) struct Way {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    carrier: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn to(relay: &Relay) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, open) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let carrier = tokio::spawn(carry(near, relay.address, open.clone()));
        Self { address, open, carrier }
    }

    /// The relay's invite by this way.
    pub(crate) fn invite(&self, relay: &Relay) -> Invite {
        Invite { port: self.address.port(), ..relay.invite() }
    }

    /// Lets packets through or loses them, both ways.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Carries the packets of each client from a port of its own.
async fn carry(near: Arc<UdpSocket>, relay: SocketAddr, open: Arc<AtomicBool>) {
    let mut far_by_client = HashMap::new();
    let mut back = JoinSet::new();
    let mut packet = vec![0; 65_536];
    loop {
        let (length, client) = near.recv_from(&mut packet).await.unwrap();
        let known: Option<&Arc<UdpSocket>> = far_by_client.get(&client);
        let far = match known {
            Some(far) => far.clone(),
            None => {
                let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                far.connect(relay).await.unwrap();
                far_by_client.insert(client, far.clone());
                back.spawn(carry_back(far.clone(), near.clone(), client, open.clone()));
                far
            }
        };
        if open.load(Ordering::Relaxed) {
            let _ = far.send(&packet[..length]).await;
        }
    }
}

async fn carry_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr, open: Arc<AtomicBool>) {
    let mut packet = vec![0; 65_536];
    loop {
        let Ok(length) = far.recv(&mut packet).await else { continue };
        if open.load(Ordering::Relaxed) {
            let _ = near.send_to(&packet[..length], client).await;
        }
    }
}
