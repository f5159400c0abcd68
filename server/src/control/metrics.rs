//! Every metric of the relay: one row each with its name, kind, help and where its value comes from.
//!
//! Shards count for themselves, without contention; a scrape reads each of them once and adds them up.
//! Labels come from tables in this program, never from what a client sends, and no label names a person, an address
//! or a room.

use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto,
};
use rustix::time::{ClockId, clock_gettime};
use supernode_proto::close::CloseCode;

use crate::{
    core::{
        directory::Population,
        ledger::{DropReason, Ledger, RefuseReason},
    },
    shard::counters::Tally,
};

/// What one scrape reads.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Counts of each shard.
    pub shards: Vec<(Tally, Ledger)>,
    /// What all shards share.
    pub population: Population,
}

/// Where a scrape gets its reading from.
pub type Read = Box<dyn Fn() -> Reading + Send + Sync>;

/// Which side of the relay.
const IN: &str = "in";
const OUT: &str = "out";

/// What is read for one row; the sample's label value is empty where the row has no label.
type Samples = Vec<(&'static str, f64)>;

/// One metric.
struct Row {
    name: &'static str,
    kind: proto::MetricType,
    label: &'static str,
    help: &'static str,
    read: fn(&Reading) -> Samples,
}

use proto::MetricType::{COUNTER, GAUGE};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // ---- the process
    Row { name: "supernode_build_info", kind: GAUGE, label: "version", read: |_| vec![(env!("CARGO_PKG_VERSION"), 1.0)],
        help: "Always 1; the label is the version of the relay." },
    Row { name: "supernode_shards", kind: GAUGE, label: "", read: |r| one(r.shards.len() as f64),
        help: "Shards that run: threads, each with its own UDP socket." },
    Row { name: "supernode_process_cpu_seconds_total", kind: COUNTER, label: "", read: |_| one(process_cpu_s()),
        help: "CPU time of the whole process, user and system, in seconds." },

    // ---- UDP
    Row { name: "supernode_udp_datagrams_total", kind: COUNTER, label: "direction",
        read: |r| vec![(IN, r.sum(|t| t.datagrams_in)), (OUT, r.sum(|t| t.datagrams_out))],
        help: "UDP datagrams received from and handed to the kernel." },
    Row { name: "supernode_udp_bytes_total", kind: COUNTER, label: "direction",
        read: |r| vec![(IN, r.sum(|t| t.bytes_in)), (OUT, r.sum(|t| t.bytes_out))],
        help: "UDP payload bytes received from and handed to the kernel." },
    Row { name: "supernode_udp_batches_total", kind: COUNTER, label: "direction",
        read: |r| vec![(IN, r.sum(|t| t.recv_batches)), (OUT, r.sum(|t| t.send_batches))],
        help: "System calls that received or sent datagrams; datagrams by batches is the batch size." },
    Row { name: "supernode_udp_send_errors_total", kind: COUNTER, label: "", read: |r| one(r.sum(|t| t.send_errors)),
        help: "Packets that the kernel did not take." },
    Row { name: "supernode_udp_handed_over_total", kind: COUNTER, label: "", read: |r| one(r.sum(|t| t.handed_over)),
        help: "Packets that reached a shard other than the one their connection ID names and were passed on." },
    Row { name: "supernode_udp_buffer_bytes", kind: GAUGE, label: "direction",
        read: |r| vec![(IN, r.least(|t| t.receive_buffer_bytes)), (OUT, r.least(|t| t.send_buffer_bytes))],
        help: "Smallest socket buffer of any shard in bytes, read back from the kernel, which may grant less than was asked." },

    // ---- connections and sessions
    Row { name: "supernode_connections", kind: GAUGE, label: "", read: |r| one(r.sum(|t| t.connections)),
        help: "QUIC connections now, with and without a session." },
    Row { name: "supernode_handshaking", kind: GAUGE, label: "", read: |r| one(r.sum(|t| t.handshaking)),
        help: "QUIC handshakes in progress now." },
    Row { name: "supernode_handshakes_total", kind: COUNTER, label: "outcome",
        read: |r| vec![("ok", r.sum(|t| t.handshakes_ok)), ("failed", r.sum(|t| t.handshakes_failed))],
        help: "QUIC handshakes that ended." },
    Row { name: "supernode_retries_total", kind: COUNTER, label: "", read: |r| one(r.sum(|t| t.retries)),
        help: "Addresses asked to prove themselves by a Retry packet." },
    Row { name: "supernode_sessions", kind: GAUGE, label: "", read: |r| one(r.sum(|t| t.sessions)),
        help: "Authenticated sessions now." },
    Row { name: "supernode_sessions_closed_total", kind: COUNTER, label: "code", read: closed,
        help: "Sessions that ended, by close code." },
    Row { name: "supernode_desynchronised_total", kind: COUNTER, label: "", read: |r| one(r.sum(|t| t.desynchronised)),
        help: "Times that control mail between shards was lost and the sessions had to be closed." },

    // ---- people, rings, rooms
    Row { name: "supernode_people", kind: GAUGE, label: "", read: |r| one(r.population.people as f64),
        help: "Identities that have a device online or a watcher now." },
    Row { name: "supernode_rings", kind: GAUGE, label: "", read: |r| one(r.population.rings as f64),
        help: "Rings that are not settled now." },
    Row { name: "supernode_rings_started_total", kind: COUNTER, label: "", read: |r| one(r.sum(|t| t.rings_started)),
        help: "Rings that reached at least one device." },
    Row { name: "supernode_rooms", kind: GAUGE, label: "", read: |r| one(r.population.rooms as f64),
        help: "Rooms with at least one member now." },
    Row { name: "supernode_tracks", kind: GAUGE, label: "", read: |r| one(r.population.tracks as f64),
        help: "Published tracks now." },
    Row { name: "supernode_subscriptions", kind: GAUGE, label: "", read: |r| one(r.sum(|t| t.subscriptions)),
        help: "Subscriptions to tracks now." },

    // ---- objects: the drop ledger
    Row { name: "supernode_objects_in_total", kind: COUNTER, label: "", read: |r| one(r.count(|l| l.objects_in)),
        help: "Objects that publishers sent and that were let in." },
    Row { name: "supernode_objects_refused_total", kind: COUNTER, label: "reason",
        read: |r| RefuseReason::ALL.iter().map(|reason| (reason.label(), r.count(|l| l.refused[*reason as usize]))).collect(),
        help: "Objects turned away before they had subscribers, by reason; not part of the drop ledger." },
    Row { name: "supernode_objects_offered_total", kind: COUNTER, label: "", read: |r| one(r.count(|l| l.offered)),
        help: "Object and subscriber pairs: always delivered + dropped + queued." },
    Row { name: "supernode_objects_delivered_total", kind: COUNTER, label: "", read: |r| one(r.count(|l| l.delivered)),
        help: "Offered objects handed to the subscriber's connection in full." },
    Row { name: "supernode_objects_dropped_total", kind: COUNTER, label: "reason",
        read: |r| DropReason::ALL.iter().map(|reason| (reason.label(), r.count(|l| l.dropped[*reason as usize]))).collect(),
        help: "Offered objects that did not reach the subscriber, by reason." },
    Row { name: "supernode_objects_queued", kind: GAUGE, label: "", read: |r| one(r.count(queued)),
        help: "Offered objects that wait for the subscriber's connection now." },
    Row { name: "supernode_datagrams_forwarded_total", kind: COUNTER, label: "", read: |r| one(r.count(|l| l.delivered_datagrams)),
        help: "Delivered objects that went in QUIC DATAGRAM frames." },
];

/// Serves the text format of Prometheus.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics over what `read` gives; every scrape calls it once.
    ///
    /// # Errors
    /// If two rows of the table contradict each other.
    pub fn new(read: Read) -> Result<Self, prometheus::Error> {
        let descs = ROWS.iter().map(Row::desc).collect::<Result<_, _>>()?;
        let registry = Registry::new();
        registry.register(Box::new(Relay { descs, read }))?;
        Ok(Self { registry })
    }

    /// All metrics now.
    ///
    /// # Errors
    /// If the encoder refuses a metric.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Name and help of every metric, in the order of the documentation.
    pub fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
        ROWS.iter().map(|row| (row.name, row.help))
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

struct Relay {
    descs: Vec<Desc>,
    read: Read,
}

impl Collector for Relay {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let reading = (self.read)();
        ROWS.iter().map(|row| row.family(&reading)).collect()
    }
}

impl Row {
    fn desc(&self) -> Result<Desc, prometheus::Error> {
        let labels = if self.label.is_empty() { vec![] } else { vec![self.label.to_owned()] };
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, Default::default())
    }

    fn family(&self, reading: &Reading) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric((self.read)(reading).into_iter().map(|(label, value)| self.metric(label, value)).collect());
        family
    }

    fn metric(&self, label_value: &str, value: f64) -> proto::Metric {
        let mut metric = proto::Metric::default();
        if !self.label.is_empty() {
            let mut label = proto::LabelPair::default();
            label.set_name(self.label.to_owned());
            label.set_value(label_value.to_owned());
            metric.set_label(vec![label]);
        }
        if self.kind == COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

impl Reading {
    fn sum(&self, read: impl Fn(&Tally) -> u64) -> f64 {
        self.shards.iter().map(|(tally, _)| read(tally)).sum::<u64>() as f64
    }

    fn count(&self, read: impl Fn(&Ledger) -> u64) -> f64 {
        self.shards.iter().map(|(_, ledger)| read(ledger)).sum::<u64>() as f64
    }

    fn least(&self, read: impl Fn(&Tally) -> u64) -> f64 {
        self.shards.iter().map(|(tally, _)| read(tally)).min().unwrap_or(0) as f64
    }
}

fn one(value: f64) -> Samples {
    vec![("", value)]
}

/// The tally has a place for each code of the table and a last one for all others.
fn closed(reading: &Reading) -> Samples {
    let names = CloseCode::ALL.iter().map(|row| row.name).chain(["OTHER"]);
    names.enumerate().map(|(place, name)| (name, reading.sum(|tally| tally.closed[place]))).collect()
}

/// While traffic flows, the parts of a reading may be one turn of the shard apart: never below zero.
fn queued(ledger: &Ledger) -> u64 {
    ledger.offered.saturating_sub(ledger.delivered + ledger.dropped.iter().sum::<u64>())
}

fn process_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
