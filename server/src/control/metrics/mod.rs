//! The relay's metrics: what a scrape reads, and the text format of Prometheus made of it.
//!
//! Shards count for themselves, without contention; a scrape reads each of them once and adds them up. Every metric is a
//! row of `rows`. Labels come from tables in this program, never from what a client sends, and no label names a person,
//! an address or a room.

mod rows;

use std::{borrow::Cow, sync::Arc};

use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto,
};

use self::rows::{ROWS, Row, Values};
pub(super) use self::rows::{limit_hits, rung_name};
use super::{cluster::ClusterReading, hook::Outcomes, process::Usage, push};
use crate::{
    core::{directory::Population, histogram::Histogram, ledger::Ledger},
    shard::{
        Offload, TcpSnapshot,
        counters::{Counters, Detail, Tally},
    },
};

/// What one scrape reads.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Counts of each shard.
    pub shards: Vec<ShardReading>,
    /// What all shards share.
    pub population: Population,
    /// Whether the relay starts nothing new any more.
    pub draining: bool,
    /// Seconds until it ends at the latest, if it drains because somebody told it to.
    pub drain_left_s: Option<u64>,
    /// Seconds until the certificate runs out; negative once it has.
    pub certificate_left_s: i64,
    /// What the kernel does for the sockets.
    pub offload: Option<Offload>,
    /// What is counted of the way over TCP; nothing where there is none.
    pub tcp: TcpSnapshot,
    /// Lines of the log that were left out: as there were too many, and as standard error did not take them.
    pub log_lines_left_out: [u64; 2],
    /// What came of the questions to the admission hook.
    pub hook_outcomes: Outcomes,
    /// How many of them wait.
    pub hook_waiting: u64,
    /// What came of the messages to push services.
    pub push_outcomes: push::Outcomes,
    /// The cluster as this node sees it, if it is one of it.
    pub cluster: Option<ClusterReading>,
    /// What the process takes of the machine.
    pub process: Usage,
}

/// What is read of one shard.
#[derive(Debug, Clone, Default)]
pub struct ShardReading {
    /// Packets and sessions, as of its last turn.
    pub tally: Tally,
    /// Objects, as of its last turn.
    pub ledger: Ledger,
    /// What it tells once a second.
    pub detail: Detail,
}

impl ShardReading {
    /// Reads a shard's counters.
    pub fn of(counters: &Counters) -> Self {
        let (tally, ledger) = counters.snapshot();
        Self { tally, ledger, detail: counters.detail().clone() }
    }
}

impl Reading {
    /// A count of all shards.
    pub fn total(&self, read: impl Fn(&ShardReading) -> u64) -> u64 {
        self.shards.iter().map(read).sum()
    }

    /// Datagrams in one send at most, as the shards do it now; 1 is none.
    pub fn segments_out_max(&self) -> u64 {
        self.offload.map_or(1, |offload| offload.segments_out_now(self.shards.iter().map(|shard| &shard.tally)))
    }

    /// A distribution of all shards.
    pub fn merged(&self, read: impl Fn(&ShardReading) -> &Histogram) -> Histogram {
        let mut merged = Histogram::default();
        self.shards.iter().for_each(|shard| merged.merge(read(shard)));
        merged
    }
}

/// Where a scrape gets its reading from.
pub type Read = Arc<dyn Fn() -> Reading + Send + Sync>;

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

    /// Every metric, in the order of the documentation.
    pub fn table() -> impl Iterator<Item = Description> {
        ROWS.iter().map(|row| Description {
            name: row.name,
            kind: match row.values {
                Values::Counter(_) => "counter",
                Values::Gauge(_) => "gauge",
                Values::Histogram { .. } => "histogram",
            },
            label: row.label,
            help: row.help,
        })
    }
}

/// What there is to say about a metric.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: &'static str,
    /// Its label; empty if it has none.
    pub label: &'static str,
    /// What it counts, in which unit.
    pub help: &'static str,
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
        let (kind, metrics): (_, Vec<proto::Metric>) = match &self.values {
            Values::Counter(read) => {
                let counter = |value| {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    move |metric: &mut proto::Metric| metric.set_counter(counter)
                };
                let samples = read(reading).into_iter();
                (proto::MetricType::COUNTER, samples.map(|(label, value)| self.metric(label, counter(value))).collect())
            }
            Values::Gauge(read) => {
                let gauge = |value| {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    move |metric: &mut proto::Metric| metric.set_gauge(gauge)
                };
                let samples = read(reading).into_iter();
                (proto::MetricType::GAUGE, samples.map(|(label, value)| self.metric(label, gauge(value))).collect())
            }
            Values::Histogram { scale, largest, read } => {
                let exposed = |histogram: &Histogram| {
                    let exposed = expose(histogram, *scale, *largest);
                    move |metric: &mut proto::Metric| metric.set_histogram(exposed)
                };
                let samples = read(reading).into_iter();
                let metrics = samples.map(|(label, histogram)| self.metric(label, exposed(&histogram))).collect();
                (proto::MetricType::HISTOGRAM, metrics)
            }
        };
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    }

    fn metric(&self, label_value: Cow<'static, str>, set: impl FnOnce(&mut proto::Metric)) -> proto::Metric {
        let mut metric = proto::Metric::default();
        if !self.label.is_empty() {
            let mut label = proto::LabelPair::default();
            label.set_name(self.label.to_owned());
            label.set_value(label_value.into_owned());
            metric.set_label(vec![label]);
        }
        set(&mut metric);
        metric
    }
}

/// A histogram with its bounds in the metric's unit. Of the small values, every second bound is enough.
fn expose(histogram: &Histogram, scale: f64, largest: u64) -> proto::Histogram {
    let bounds = histogram.cumulative().enumerate().filter(|(place, (bound, _))| place % 2 == 1 && *bound <= largest);
    let buckets = bounds.map(|(_, (bound, count))| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound as f64 / scale);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut exposed = proto::Histogram::default();
    exposed.set_bucket(buckets.collect());
    exposed.set_sample_count(histogram.count());
    exposed.set_sample_sum(histogram.sum() as f64 / scale);
    exposed
}
