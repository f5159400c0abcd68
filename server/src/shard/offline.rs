//! A shard without socket and thread, for benches and simulations: packets and time in, packets out.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand::{SeedableRng, rngs::StdRng};
use supernode_proto::identity::RelayPin;

use super::{
    engine::{Engine, Parts, SEGMENTS_MAX},
    net::socket::{Received, SendBatch},
    post::inbox::{self, Inbox},
    quic::{cid::Incarnation, crypto::TlsConfig, transport::Shared},
};
use crate::core::{Address, Admit, Now, ShardCore, ShardId, directory::Directory, ledger::Ledger, limits::Limits};

/// The only shard of a relay that nobody can reach but through these methods.
pub struct OfflineShard {
    engine: Engine,
    inbox: Inbox,
    out: SendBatch,
}

impl OfflineShard {
    /// A shard without clients. All randomness but that of TLS comes from `seed`.
    ///
    /// # Errors
    /// When the system has no descriptor left for its inbox.
    pub fn new(
        tls: Arc<TlsConfig>,
        pin: RelayPin,
        admission: Arc<dyn Admit>,
        limits: Limits,
        seed: u64,
    ) -> io::Result<Self> {
        let shard = ShardId(0);
        let (postbox, inbox) = inbox::inbox()?;
        let shared = Shared::new(tls, Duration::ZERO, &[seed as u8; 32], Incarnation(1));
        let engine = Engine::new(Parts {
            core: ShardCore::new(Address::local(shard), Arc::new(Directory::new(limits))),
            endpoint: shared.endpoint(shard, [seed as u8; 32]),
            peers: vec![postbox],
            pin,
            admission,
            prefixes: Arc::default(),
            rng: StdRng::seed_from_u64(seed),
            segments_max: SEGMENTS_MAX,
            sealing: Duration::ZERO,
            start: Instant::now(),
        });
        Ok(Self { engine, inbox, out: SendBatch::default() })
    }

    /// One turn of the shard's loop: takes UDP datagrams with the addresses they come from, lets every connection act,
    /// and builds packets. Returns how many sends it built, of one datagram or of several for one receiver.
    pub fn turn(&mut self, now: Now, packets: &mut Vec<(SocketAddr, BytesMut)>) -> usize {
        self.read(now, packets);
        self.build(now)
    }

    /// The first half of a turn: up to the objects that wait on their subscribers' connections.
    pub fn read(&mut self, now: Now, packets: &mut Vec<(SocketAddr, BytesMut)>) {
        let Self { engine, inbox, out } = self;
        for (remote, data) in packets.drain(..) {
            let received = Received { remote, local_ip: None, ecn: None, arrived: now.instant, data };
            engine.handle_packet(received, now, out, || now.instant);
        }
        engine.handle_mail(inbox, now, out, || now.instant);
        engine.handle_timeouts(now);
        engine.serve(now);
    }

    /// The second half: builds the packets.
    pub fn build(&mut self, now: Now) -> usize {
        self.engine.poll_transmits(now, &mut self.out, |_, _| ());
        self.out.len()
    }

    /// Passes on every UDP datagram that was built since the last call, with where it goes.
    pub fn take_sent(&mut self, pass: impl FnMut(SocketAddr, &[u8])) {
        self.out.take(pass);
    }

    /// When it wants a turn although nothing came.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.engine.poll_timeout(now)
    }

    /// What became of every object.
    pub fn ledger(&self) -> &Ledger {
        self.engine.ledger()
    }
}
