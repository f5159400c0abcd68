//! The result, in the words of `supernode-load --json`, so that one reader understands both.

use serde::Serialize;
use supernode_measure::histogram::Histogram;

/// The result of a run. Shares are 0 to 1.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the relay was the cap, and not its clients.
    pub valid: bool,
    /// Why the result is not to be believed.
    pub doubts: Vec<String>,
    /// Clients.
    pub sessions: Sessions,
    /// Objects of the measured part.
    pub objects: Objects,
    /// From when the schedule wanted an object sent to its delivery.
    pub delay_ms: Quantiles,
    /// The clients themselves.
    pub generator: Generator,
    /// The relay, as far as it could be seen.
    pub relay: Relay,
}

/// Clients.
#[derive(Debug, Serialize)]
pub struct Sessions {
    /// All of them were there, or there is no report.
    pub planned: u32,
}

/// Objects of the measured part.
#[derive(Debug, Serialize)]
pub struct Objects {
    /// Deliveries that should follow from what was due.
    pub expected: u64,
    /// Deliveries that did, each once.
    pub delivered: u64,
    /// Expected and not delivered, as a share.
    pub loss: f64,
    /// Delivered more than once.
    pub duplicates: u64,
    /// Deliveries a second.
    pub delivered_per_s: f64,
}

/// A distribution, in ms.
#[derive(Debug, Default, Serialize)]
pub struct Quantiles {
    /// Half did not take longer.
    pub p50: f64,
    /// 99 % did not.
    pub p99: f64,
    /// 99.9 % did not.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The clients themselves.
#[derive(Debug, Serialize)]
pub struct Generator {
    /// Share of the measured part in which their process had a CPU.
    pub busy: Vec<f64>,
    /// How late objects were handed over.
    pub lag_ms: Quantiles,
}

/// The relay.
#[derive(Debug, Serialize)]
pub struct Relay {
    /// CPU time of its process as a share of one core, over the measured part.
    pub busy: Option<f64>,
    /// The same for each delivery, in µs.
    pub cpu_us_per_delivered: Option<f64>,
    /// Resident memory at the end of the measured part.
    pub rss_mib: Option<f64>,
}

impl Report {
    /// Prints it as one line of JSON.
    ///
    /// # Errors
    /// If standard output is gone.
    pub fn print(&self) -> anyhow::Result<()> {
        use std::io::Write;
        let line = serde_json::to_string(self)?;
        Ok(writeln!(std::io::stdout(), "{line}")?)
    }
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        Self {
            p50: histogram.quantile_ms(0.5),
            p99: histogram.quantile_ms(0.99),
            p999: histogram.quantile_ms(0.999),
            max: histogram.max_ms(),
        }
    }
}
