//! What one generator has measured, in a form that can be put beside that of others: a report is made of one part or of
//! several.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use supernode_measure::relay_probe::RelayUse;

use super::{report::About, run::Window, scenario::Scenario, scrape::Scrapes, worker::Outcome};

/// Parts of another form are not understood.
const FORM: u32 = 1;

/// All that a generator has to say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    form: u32,
    pub(super) about: About,
    pub(super) scenario: Scenario,
    pub(super) window: Window,
    /// When its measured part began, in ms since 1970.
    pub(super) measured_from_unix_ms: u64,
    pub(super) relay: RelaySeen,
    pub(super) scrapes: Option<Scrapes>,
    /// Shares of one core in each piece of the measured part: the relay's, and the generator's own.
    pub(super) busy: Vec<(Option<f64>, Option<f64>)>,
    /// Why it ended early.
    pub(super) aborted: Option<String>,
    pub(super) outcomes: Vec<Outcome>,
}

/// The relay, as far as this generator could see it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RelaySeen {
    elapsed_s: f64,
    cpu_s: Option<f64>,
    rss_bytes: Option<u64>,
    counters: BTreeMap<String, f64>,
}

/// Why files are no parts of one run.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Something else.
    #[error("is no part of a run, as `supernode-load run --part FILE` of this version writes it")]
    None(#[from] serde_json::Error),
    /// Of another version.
    #[error("is a part of form {0}: this version writes and reads form {FORM}")]
    Form(u32),
    /// They were told to do different things.
    #[error(
        "its {key} is not that of the first part: give all generators the same scenario, but for how many it plays"
    )]
    Differs {
        /// What.
        key: &'static str,
    },
}

impl Part {
    pub(super) fn new(
        about: About,
        scenario: Scenario,
        (window, measured_from_unix_ms): (Window, u64),
        (relay, scrapes): (RelayUse, Option<Scrapes>),
        busy: Vec<(Option<f64>, Option<f64>)>,
        aborted: Option<String>,
        outcomes: Vec<Outcome>,
    ) -> Self {
        let about = About { relay_version: relay.version(), ..about };
        let RelayUse { elapsed_s, cpu_s, rss_bytes, counters, .. } = relay;
        let relay = RelaySeen { elapsed_s, cpu_s, rss_bytes, counters };
        Self { form: FORM, about, scenario, window, measured_from_unix_ms, relay, scrapes, busy, aborted, outcomes }
    }

    /// Reads what a generator has written.
    ///
    /// # Errors
    /// See [`PartError`].
    pub fn read(json: &str) -> Result<Self, PartError> {
        #[derive(Deserialize)]
        struct Form {
            form: u32,
        }
        match serde_json::from_str::<Form>(json)?.form {
            FORM => Ok(serde_json::from_str(json)?),
            other => Err(PartError::Form(other)),
        }
    }

    /// Whether both measured the same, in the same way.
    ///
    /// # Errors
    /// [`PartError::Differs`].
    pub fn fits(&self, first: &Self) -> Result<(), PartError> {
        let (own, other) = (&self.scenario, &first.scenario);
        let same = [
            ("hold_s", own.hold_s == other.hold_s),
            ("stages", own.stages == other.stages),
            ("late_ms", own.late_ms == other.late_ms),
            ("slo", own.slo == other.slo),
            ("shape", own.shape == other.shape),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((key, _)) => Err(PartError::Differs { key }),
            None => Ok(()),
        }
    }
}

impl RelaySeen {
    pub(super) fn was_seen(&self) -> bool {
        self.cpu_s.is_some() || !self.counters.is_empty()
    }

    pub(super) fn as_use(&self) -> RelayUse {
        let Self { elapsed_s, cpu_s, rss_bytes, counters } = self;
        let (elapsed_s, cpu_s, rss_bytes) = (*elapsed_s, *cpu_s, *rss_bytes);
        RelayUse { at: None, elapsed_s, cpu_s, rss_bytes, counters: counters.clone() }
    }
}

/// A histogram as the buckets in use and the longest.
pub(super) mod histogram {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use supernode_measure::histogram::Histogram;

    pub(in crate::load) fn serialize<S: Serializer>(histogram: &Histogram, to: S) -> Result<S::Ok, S::Error> {
        histogram.parts().serialize(to)
    }

    pub(in crate::load) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram, D::Error> {
        let (buckets, max_us) = <(Vec<(usize, u64)>, u64)>::deserialize(from)?;
        Histogram::from_parts(&buckets, max_us)
            .ok_or_else(|| D::Error::custom("a histogram with a bucket that is none"))
    }
}
