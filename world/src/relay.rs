//! The relay of a world: the shards as they are, in one process after the other.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rand::{RngExt, rngs::StdRng};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use supernode_proto::{close::CloseCode, identity::RelayPin};
use supernode_server::{
    control::{certificate::Certificate, state_dir::KeyMaterial, tls},
    core::{Admit, Applicant, Grant, Voucher, directory::Directory, ledger::Ledger, limits::Limits},
    shard::{
        Census, Incarnation, Onward, TlsConfig,
        offline::{self, OfflineShard, Setup},
    },
};
use supernode_session::Moment;

use crate::clock::Clock;

/// Where it listens.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4433);
/// How long packets may wait before a shard's thread is awake, and mail likewise.
const AWAKE_US_MAX: u64 = 300;
/// How long a shard's thread takes for the first half of a turn, at most,
const HALF_US_MAX: u64 = 200;
/// and when it has much to do, or the machine has: once in so many turns.
const LONG_HALF_US_MAX: u64 = 6_000;
const LONG_HALF_ONCE_IN: u32 = 8;
/// What a busy shard waits before its next turn.
const BUSY: Duration = Duration::from_micros(20);
const SECOND: Duration = Duration::from_secs(1);

/// What stays the same from one process to the next.
pub struct Site {
    tls: Arc<TlsConfig>,
    /// What clients know it by.
    pub pin: RelayPin,
    limits: Limits,
    shards: usize,
    reset_key: [u8; 32],
}

/// A process of the relay.
pub struct Process {
    incarnation: Incarnation,
    /// Its threads.
    pub shards: Vec<Shard>,
    /// When its successor took its port, if one has: it drains since.
    pub drains_since: Option<Moment>,
}

/// A shard and what waits for its next turn.
pub struct Shard {
    /// As it is.
    pub offline: OfflineShard,
    packets: Vec<(SocketAddr, BytesMut)>,
    /// When it makes its next turn, or goes on with the one that it is in the middle of.
    turn_at: Option<Moment>,
    /// It has read, and has built nothing yet: what other shards do meanwhile, they do beside it.
    pub is_in_turn: bool,
    second_at: Moment,
    /// Its thread does not run before then.
    stands_until: Moment,
}

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

impl Site {
    /// A relay of so many shards. Its key and certificate are the same in every run: of a signature by another algorithm the
    /// length would be chance, and with it the times of all that follows.
    ///
    /// # Panics
    /// If the TLS provider does not take an Ed25519 key.
    pub fn new(shards: usize, limits: Limits) -> Self {
        let key = || KeyPair::from_pkcs8_der_and_sign_algo(&ed25519_pkcs8(&[0x51; 32]).into(), &PKCS_ED25519);
        let [tls_key, admission_key] = [key(), key()].map(|key| key.expect("a key of 32 bytes"));
        let parameters = CertificateParams::new(vec!["supernode.invalid".to_owned()]).expect("a name");
        let tls_certificate = parameters.self_signed(&tls_key).expect("it signs for itself").into();
        let reset_key = [0x52; 32];
        let keys = KeyMaterial { tls_key, tls_certificate, admission_key, reset_key };
        let certificate = Certificate::self_signed(&keys).expect("the relay's own");
        let tls = tls::quic_server_config(&certificate, None).expect("the keys are good for TLS");
        Self { tls, pin: tls::relay_pin(&keys), limits, shards, reset_key }
    }

    /// Starts a process.
    ///
    /// # Panics
    /// If the system has no descriptor left.
    pub fn start(&self, number: u16, seed: u64, at: Moment, clock: &Clock) -> Process {
        let incarnation = Incarnation(number);
        let shards = offline::relay(Setup {
            tls: self.tls.clone(),
            pin: self.pin,
            admission: Arc::new(Everybody),
            limits: self.limits.clone(),
            shards: self.shards,
            reset_key: self.reset_key,
            incarnation,
            seed,
            start: clock.instant(at),
        });
        let shard = |offline| Shard {
            offline,
            packets: Vec::new(),
            turn_at: Some(at),
            is_in_turn: false,
            second_at: at + SECOND,
            stands_until: Moment::default(),
        };
        let shards = shards.expect("a descriptor").into_iter().map(shard).collect();
        Process { incarnation, shards, drains_since: None }
    }

    /// What it grants.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Process {
    /// How many there were before it.
    pub fn number(&self) -> u16 {
        self.incarnation.0
    }

    /// Whether a datagram may be for one of its connections.
    pub fn owns(&self, datagram: &[u8]) -> bool {
        offline::incarnation_of(datagram) == Some(self.incarnation)
    }

    /// The tables that its shards share.
    pub fn directory(&self) -> &Directory {
        self.shards[0].offline.directory()
    }

    /// A datagram arrives at the shard to which the kernel leads it, by its connection ID or else by where it comes from.
    pub fn receive(&mut self, from: SocketAddr, datagram: BytesMut, is_steered: bool, now: Moment, rng: &mut StdRng) {
        let named = offline::shard_of(&datagram).filter(|shard| is_steered && *shard < self.shards.len());
        let by_address = (ip_number(from.ip()) * 31 + usize::from(from.port())) % self.shards.len();
        let shard = &mut self.shards[named.unwrap_or(by_address)];
        shard.packets.push((from, datagram));
        shard.wake(now, rng);
    }

    /// Tells its clients to go within `window`. Where to is no question here: there is one address.
    pub fn drain(&mut self, window: Duration, now: Moment, rng: &mut StdRng) {
        self.drains_since = Some(now);
        self.directory().start_draining();
        for shard in &mut self.shards {
            shard.offline.drain(&Onward::Elsewhere, window);
            shard.wake(now, rng);
        }
    }

    /// When the next of its shards wants a turn, and which.
    pub fn next_turn(&self) -> Option<(Moment, usize)> {
        let wanted = |(number, shard): (usize, &Shard)| Some((shard.turn_at?.max(shard.stands_until), number));
        self.shards.iter().enumerate().filter_map(wanted).min()
    }

    /// A shard makes half of a turn. Every datagram that it sends goes to `send`.
    pub fn turn(
        &mut self,
        number: usize,
        now: Moment,
        clock: &Clock,
        rng: &mut StdRng,
        send: impl FnMut(SocketAddr, &[u8]),
    ) {
        let shard = &mut self.shards[number];
        let time = clock.now(now);
        if !std::mem::replace(&mut shard.is_in_turn, true) {
            shard.offline.read(time, &mut shard.packets);
            let most = if rng.random_ratio(1, LONG_HALF_ONCE_IN) { LONG_HALF_US_MAX } else { HALF_US_MAX };
            shard.turn_at = Some(now + Duration::from_micros(rng.random_range(0..most)));
            return self.wake_for_mail(now, rng);
        }
        shard.is_in_turn = false;
        shard.offline.build(time);
        if now >= shard.second_at {
            shard.second_at = now + SECOND;
            shard.offline.handle_second(time);
        }
        let is_busy = shard.offline.end_turn(time);
        shard.offline.take_sent(send);
        let wanted = shard.offline.poll_timeout(time.instant).map(|at| clock.moment(at).max(now + BUSY));
        let next = if is_busy { now + BUSY } else { shard.second_at };
        shard.turn_at = Some(wanted.map_or(next, |at| at.min(next)));
        if !shard.packets.is_empty() {
            shard.wake(now, rng);
        }
        self.wake_for_mail(now, rng);
    }

    fn wake_for_mail(&mut self, now: Moment, rng: &mut StdRng) {
        for other in self.shards.iter_mut().filter(|other| other.offline.has_mail()) {
            other.wake(now, rng);
        }
    }

    /// A shard's thread is not run for a while, as on a machine that is busy with something else.
    pub fn hold(&mut self, number: usize, until: Moment) {
        let shards = self.shards.len();
        self.shards[number % shards].stands_until = until;
    }

    /// The last act of a process that ends in order.
    pub fn finish(&mut self, now: Moment, clock: &Clock, mut send: impl FnMut(SocketAddr, &[u8])) {
        for shard in &mut self.shards {
            shard.offline.finish(clock.now(now));
            shard.offline.take_sent(&mut send);
        }
    }

    /// What each shard's tables hold.
    pub fn census(&self) -> Vec<Census> {
        self.shards.iter().map(|shard| shard.offline.census()).collect()
    }

    /// What became of the objects of each shard.
    pub fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        self.shards.iter().map(|shard| shard.offline.ledger())
    }

    /// Connections that there are, those that have ended and are not forgotten included.
    pub fn connections(&mut self) -> u64 {
        self.shards.iter_mut().map(|shard| shard.offline.tally().connections).sum()
    }
}

impl Shard {
    fn wake(&mut self, now: Moment, rng: &mut StdRng) {
        // Whoever is in the middle of a turn looks at its end.
        if self.is_in_turn {
            return;
        }
        let at = now + Duration::from_micros(rng.random_range(0..AWAKE_US_MAX));
        self.turn_at = Some(self.turn_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn ip_number(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(ip) => u32::from(ip) as usize,
        IpAddr::V6(ip) => u128::from(ip) as usize,
    }
}

/// An Ed25519 key in PKCS #8 (RFC 8410 section 7).
fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    [&head[..], seed].concat()
}
