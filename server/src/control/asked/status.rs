//! What the relay is doing, in numbers that name nobody: for `supernode status`, `supernode top` and the dashboard.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    control::{
        cluster::{ClusterStatus, View},
        page::Served,
        reload::Shown,
    },
    core::{
        directory::Directory,
        ledger::{DropReason, Ledger, RefuseReason},
    },
    shard::{self, Offload, counters::Counters},
};

/// How far the relay's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Takes everybody whom it admits.
    Ready,
    /// Takes nobody new; ends when its calls have, or its patience.
    Draining,
    /// Another process has the sockets and has not shown yet that it serves: nobody is served, for three seconds at most.
    HandingOver,
}

impl Phase {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::HandingOver => "handing-over",
        }
    }
}

/// A reading. A field that is added later needs a default: newer commands ask older relays, above all to upgrade them.
/// Counters count from the start of the process and never go back; everything else is as of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// UDP address in use.
    pub listen: SocketAddr,
    /// How far its life has come.
    pub phase: Phase,
    /// When this was read: milliseconds since 1970.
    pub unix_ms: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Threads with a socket each.
    pub shards: usize,
    /// Authenticated sessions.
    pub sessions: u64,
    /// Most that there may be.
    pub sessions_max: u64,
    /// QUIC connections, with and without a session.
    pub connections: u64,
    /// Handshakes in progress.
    pub handshaking: u64,
    /// Identities with a device online or a watcher.
    pub people: u64,
    /// Rings that are not settled.
    pub rings: u64,
    /// Rooms, each a call.
    pub rooms: u64,
    /// Published tracks.
    pub tracks: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// UDP datagrams from the kernel.
    pub datagrams_in: u64,
    /// UDP datagrams handed to the kernel.
    pub datagrams_out: u64,
    /// UDP payload bytes received.
    pub bytes_in: u64,
    /// UDP payload bytes sent.
    pub bytes_out: u64,
    /// The drop ledger.
    pub objects: Objects,
    /// Objects refused at the door, by reason; reasons that never came are left out.
    pub refused: BTreeMap<String, u64>,
    /// Seconds until the certificate runs out, below zero once it has.
    #[serde(default)]
    pub certificate_left_s: Option<i64>,
    /// The smallest socket buffers of any shard as the kernel granted them: receive, in bytes.
    pub receive_buffer_bytes: u64,
    /// Send, in bytes.
    pub send_buffer_bytes: u64,
    /// Most datagrams that a shard's socket takes in one send (GSO); 1 is none.
    #[serde(default)]
    pub segments_out_max: Option<u64>,
    /// Most that it gives in one receive (GRO).
    #[serde(default)]
    pub segments_in_max: Option<u64>,
    /// Whether the kernel brings packets of a client that has moved to its shard.
    #[serde(default)]
    pub steering: Option<bool>,
    /// TCP address in use for clients without UDP, if there is one.
    #[serde(default)]
    pub tcp: Option<SocketAddr>,
    /// Connections to it.
    #[serde(default)]
    pub over_tcp: u64,
    /// Sessions of pages in browsers.
    #[serde(default)]
    pub of_pages: u64,
    /// The page that the relay serves, if it does.
    #[serde(default)]
    pub page: Option<PageTold>,
    /// How long calls may go on once the relay is told to end, in seconds.
    #[serde(default)]
    pub drain_patience_s: Option<u64>,
    /// The cluster as this node sees it, if it is one of it.
    #[serde(default)]
    pub cluster: Option<ClusterStatus>,
}

/// The page that the relay serves, as people are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageTold {
    /// Where it was at the start.
    pub url: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl PageTold {
    /// Of what is served now.
    pub fn of((url, served): &(String, Served)) -> Self {
        Self { url: url.clone(), sha256: served.page().sha256_text() }
    }
}

/// What became of all objects: offered = delivered + dropped + queued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// Accepted from publishers.
    pub received: u64,
    /// Deliveries owed: one for each subscriber.
    pub offered: u64,
    /// Handed to QUIC.
    pub delivered: u64,
    /// Given up, by reason; reasons that never came are left out.
    pub dropped: BTreeMap<String, u64>,
    /// Still waiting.
    pub queued: u64,
}

/// Where a status is read from.
pub struct StatusSource {
    listen: SocketAddr,
    counters: Vec<Arc<Counters>>,
    directory: Arc<Directory>,
    shards: shard::Handle,
    certificate: Shown,
    offload: Offload,
    tcp: Option<(SocketAddr, Arc<shard::TcpFigures>)>,
    page: Option<(String, Served)>,
    drain_patience: Duration,
    cluster: Option<Arc<View>>,
    started: Instant,
}

impl StatusSource {
    /// Reads from these shards, which have just been started.
    pub fn of(
        shards: &shard::Running,
        certificate: Shown,
        page: Option<(String, Served)>,
        drain_patience: Duration,
        cluster: Option<Arc<View>>,
    ) -> Self {
        Self {
            certificate,
            page,
            offload: shards.offload(),
            tcp: shards.tcp_addr().zip(shards.tcp_figures()),
            drain_patience,
            cluster,
            listen: shards.local_addr(),
            counters: shards.counters(),
            directory: shards.directory().clone(),
            shards: shards.handle(),
            started: Instant::now(),
        }
    }

    /// How far the relay's life has come.
    pub fn phase(&self) -> Phase {
        match (self.directory.is_draining(), self.shards.reads_all()) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) => Phase::HandingOver,
        }
    }

    /// Reads.
    pub fn read(&self) -> Status {
        let (tallies, ledgers): (Vec<_>, Vec<_>) = self.counters.iter().map(|shard| shard.snapshot()).unzip();
        let population = self.directory.population();
        macro_rules! sum {
            ($field:ident) => {
                tallies.iter().map(|tally| tally.$field).sum()
            };
        }
        macro_rules! least {
            ($field:ident) => {
                tallies.iter().map(|tally| tally.$field).min().unwrap_or(0)
            };
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listen: self.listen,
            phase: self.phase(),
            unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            uptime_s: self.started.elapsed().as_secs(),
            shards: self.counters.len(),
            sessions: population.sessions,
            sessions_max: u64::from(self.directory.limits().sessions_max),
            connections: sum!(connections),
            handshaking: sum!(handshaking),
            people: population.people,
            rings: population.rings,
            rooms: population.rooms,
            tracks: population.tracks,
            subscriptions: sum!(subscriptions),
            datagrams_in: sum!(datagrams_in),
            datagrams_out: sum!(datagrams_out),
            bytes_in: sum!(bytes_in),
            bytes_out: sum!(bytes_out),
            objects: objects(&ledgers),
            refused: by_reason(RefuseReason::ALL.iter().map(|reason| {
                let count = ledgers.iter().map(|ledger| ledger.refused[*reason as usize]).sum();
                (reason.label(), count)
            })),
            certificate_left_s: Some(self.certificate.left_s()),
            receive_buffer_bytes: least!(receive_buffer_bytes),
            send_buffer_bytes: least!(send_buffer_bytes),
            segments_out_max: Some(self.offload.segments_out_now(&tallies)),
            segments_in_max: Some(self.offload.segments_in_max as u64),
            steering: Some(self.offload.steering),
            tcp: self.tcp.as_ref().map(|(address, _)| *address),
            over_tcp: self.tcp.as_ref().map_or(0, |(_, figures)| figures.snapshot().links),
            of_pages: sum!(sessions_of_pages),
            page: self.page.as_ref().map(PageTold::of),
            drain_patience_s: Some(self.drain_patience.as_secs()),
            cluster: self.cluster.as_ref().map(|cluster| cluster.status()),
        }
    }
}

/// The drop ledgers of all shards, added up.
pub fn objects(ledgers: &[Ledger]) -> Objects {
    Objects {
        received: ledgers.iter().map(|ledger| ledger.objects_in).sum(),
        offered: ledgers.iter().map(|ledger| ledger.offered).sum(),
        delivered: ledgers.iter().map(|ledger| ledger.delivered).sum(),
        dropped: by_reason(DropReason::ALL.iter().map(|reason| {
            let count = ledgers.iter().map(|ledger| ledger.dropped[*reason as usize]).sum();
            (reason.label(), count)
        })),
        queued: ledgers.iter().map(Ledger::queued).sum(),
    }
}

fn by_reason(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.to_owned(), count)).collect()
}
