//! A relay on loopback, with times that suit tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use supernode_client::proto::invite::Invite;
use supernode_server::{
    control::{
        admission::{AdmissionMode, TokenIssuer, TokenVerifier},
        state_dir::{KeyMaterial, StateDir},
        tls,
    },
    core::limits::Limits,
    shard,
};
use tokio::{
    net::UdpSocket,
    task::{JoinHandle, JoinSet},
};

pub(crate) struct Relay {
    running: Option<shard::Running>,
    keys: KeyMaterial,
    open: bool,
    shards: usize,
    address: SocketAddr,
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

    fn start(open: bool, shards: usize) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("supernode-calls-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let keys = StateDir::create(&path).unwrap().keys_or_create().unwrap();
        std::fs::remove_dir_all(path).unwrap();
        // A socket that shares its port may be given that of another relay: one that does not share is given its own.
        let address = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut relay = Self { running: None, keys, open, shards, address };
        relay.run();
        relay
    }

    fn run(&mut self) {
        let pin = tls::relay_pin(&self.keys);
        let admission = match self.open {
            true => AdmissionMode::Open,
            false => AdmissionMode::Tokens(TokenVerifier::new(&self.keys.admission_key, &pin)),
        };
        let running = shard::spawn(shard::Config {
            listen: self.address,
            shards: self.shards,
            batch_window: Duration::ZERO,
            tls: tls::quic_server_config(&self.keys).unwrap(),
            pin,
            admission: Arc::new(admission),
            limits: Limits {
                ring_timeout: Duration::from_secs(1),
                presence_interval: Duration::from_millis(10),
                presence_linger: Duration::from_millis(100),
                ..Limits::default()
            },
        })
        .unwrap();
        self.address = running.local_addr();
        self.running = Some(running);
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
            running.drain_handle().drain(window);
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
