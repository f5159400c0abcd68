//! A relay with times that suit people's tests, and what happens to it: it restarts, is replaced, changes its key.

use std::{
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use supernode_proto::{close::CloseCode, invite::Invite};
use supernode_server::{
    control::{
        admission::TokenIssuer,
        relay_key::{before, rotate_relay_key},
        state_dir::{KeyMaterial, StateDir},
    },
    core::{counts::LIMITS, ledger::Ledger, limits::Limits},
    shard::{self, Onward},
};
use tokio::task::JoinHandle;

use crate::{
    Door, PATIENCE, Relay, Setup, lasting_port,
    relay::{fresh_keys, sum},
    unix_s,
};

impl Relay {
    /// Lets everybody in.
    pub fn open(shards: usize) -> Self {
        Self::quick(fresh_keys(), Door::Everybody, shards)
    }

    /// Lets in who has a token.
    pub fn closed() -> Self {
        Self::quick(fresh_keys(), Door::Tokens, 1)
    }

    /// Lets everybody in, with keys that are in this directory.
    pub fn open_in(state: &Path) -> Self {
        Self::quick(StateDir::create(state).unwrap().keys_or_create().unwrap(), Door::Everybody, 1)
    }

    /// Lets everybody in, and shows a certificate for `name` that an authority has signed, whose own certificate is the
    /// text.
    pub fn vouched_for(name: &str) -> (Self, String) {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut keys = fresh_keys();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&keys.tls_key, &issuer).unwrap();
        keys.tls_certificate = certificate.der().clone();
        (Self::quick(keys, Door::Everybody, 1), pem)
    }

    fn quick(keys: KeyMaterial, door: Door, shards: usize) -> Self {
        let limits = Limits {
            ring_timeout: Duration::from_secs(1),
            presence_interval: Duration::from_millis(10),
            presence_linger: Duration::from_millis(100),
            ..Limits::default()
        };
        Self::of(Setup { listen: lasting_port(), keys, ..Setup::new(shards, door, limits) })
    }

    /// From now on, whoever comes may put so much into mailboxes.
    pub fn take_little(&mut self, mls_bytes_per_second_max: u64) {
        self.setup.limits.mls_bytes_per_second_max = mls_bytes_per_second_max;
        self.running().directory().set_limits(self.setup.limits.clone());
    }

    /// From now on, whoever comes is let in while there are fewer than so many.
    pub fn let_in_at_most(&mut self, sessions_max: u32) {
        self.setup.limits.sessions_max = sessions_max;
        self.running().directory().set_limits(self.setup.limits.clone());
    }

    /// How often a limit bit, as the relay publishes it once a second.
    pub fn limit_hits(&self, limit: &str) -> u64 {
        let place = LIMITS.iter().position(|name| *name == limit).unwrap();
        self.counters().iter().map(|counters| counters.detail().counts.limits[place]).sum()
    }

    /// Handshakes that completed since the start.
    pub fn handshakes(&self) -> u64 {
        self.tallies().iter().map(|tally| tally.handshakes_ok).sum()
    }

    /// Sessions that ended with this code since the start.
    pub fn closed_with(&self, name: &str) -> u64 {
        let code = CloseCode::ALL.iter().find(|row| row.name == name).unwrap().code as usize;
        self.tallies().iter().map(|tally| tally.closed[code]).sum()
    }

    /// Authenticated sessions.
    pub fn sessions(&self) -> u64 {
        self.population().sessions
    }

    /// Puts new shards in the place of these, as an upgrade does. The old ones drain; their counts at the end.
    pub fn upgrade(&mut self, window: Duration) -> JoinHandle<Ledger> {
        let old = self.running.take().unwrap();
        let (estate, retained) = old.handle().offer().unwrap();
        assert!(old.handle().relieve(retained), "the old shards stop reading");
        let mut config = self.setup.config();
        if let (Some(tcp), Some(port)) = (&mut config.tcp, old.tcp_port()) {
            tcp.listener = port.try_clone().unwrap();
        }
        let new = shard::take_over(config, estate).unwrap();
        new.handle().settle();
        self.running = Some(new);
        tokio::task::spawn_blocking(move || {
            old.handle().drain(&Onward::Successor, window, Duration::from_secs(60));
            let counters = old.counters();
            old.join();
            sum(&counters)
        })
    }

    /// Drains the relay and starts it again at the same address, with the same keys and nothing remembered.
    pub async fn restart(mut self) -> Self {
        tokio::task::spawn_blocking(move || {
            self.stop(Duration::from_millis(200));
            self.running = Some(self.spawn_again());
            self
        })
        .await
        .unwrap()
    }

    /// At its old address. A program that another test starts has all sockets of this process until it is itself: for that
    /// moment the address may still be taken.
    fn spawn_again(&self) -> shard::Running {
        let until = Instant::now() + PATIENCE;
        loop {
            match shard::spawn(self.setup.config()) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                spawned => return spawned.unwrap(),
            }
        }
    }

    /// Restarts with a new key, which the present one has certified.
    pub async fn restart_with_another_key(mut self, state: &Path) -> Self {
        let now = unix_s();
        let state = StateDir::create(state).unwrap();
        rotate_relay_key(&state, 3600, now).unwrap();
        (self.setup.before, _) = before(&state, now).unwrap();
        self.setup.keys = state.keys().unwrap();
        self.pin = supernode_server::control::tls::relay_pin(&self.setup.keys);
        self.restart().await
    }

    /// The invite without a token.
    pub fn invite(&self) -> Invite {
        let address = self.address.to_string().parse().unwrap();
        let tcp = self.running().tcp_addr().map(|address| address.port());
        Invite { tcp, pin: Some(self.pin), ..Invite::to(address) }
    }

    /// The invite with a token that holds for an hour.
    pub fn invite_with_token(&self) -> Invite {
        let issuer = TokenIssuer::new(&self.setup.keys.admission_key, &self.pin);
        Invite { token: Some(issuer.issue(None, unix_s(), 3600, rand::random()).unwrap()), ..self.invite() }
    }
}
