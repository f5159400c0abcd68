//! A relay on loopback, with times that suit tests.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
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
        let mut relay = Self { running: None, keys, open, shards, address: ([127, 0, 0, 1], 0).into() };
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
