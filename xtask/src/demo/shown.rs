//! What the relay showed of itself, whoever talked through it: its account, what forwarding cost, and whether it was blind.

use serde::Serialize;

use super::{blindness::Blindness, during::Load, metrics::Metrics};

/// What the relay counted for the call.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Ledger {
    pub(super) offered: f64,
    pub(super) delivered: f64,
    pub(super) dropped: f64,
    pub(super) queued: f64,
}

impl Ledger {
    /// Reads it from the relay's metrics.
    ///
    /// # Errors
    /// If one of them is missing.
    pub(super) fn new(metrics: &Metrics) -> anyhow::Result<Self> {
        Ok(Self {
            offered: metrics.sum("supernode_objects_offered_total")?,
            delivered: metrics.sum("supernode_objects_delivered_total")?,
            dropped: metrics.sum("supernode_objects_dropped_total")?,
            queued: metrics.sum("supernode_objects_queued")?,
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            offered: self.offered + other.offered,
            delivered: self.delivered + other.delivered,
            dropped: self.dropped + other.dropped,
            queued: self.queued + other.queued,
        }
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { offered, delivered, dropped, queued } = self;
        let verdict = if self.balances() { "balances" } else { "DOES NOT BALANCE" };
        format!(
            "  drop ledger    {offered} offered = {delivered} delivered + {dropped} dropped, {queued} queued: {verdict}"
        )
    }

    /// Whether every object offered to a subscriber was delivered or dropped for a reason, and none is left.
    pub(super) fn balances(&self) -> bool {
        self.offered > 0.0 && self.offered == self.delivered + self.dropped && self.queued == 0.0
    }
}

/// The relay's part of what a demonstration came to.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) ledger: Ledger,
    /// Objects that it forwarded as datagrams, in the whole call.
    pub(super) datagrams_forwarded: f64,
    /// What forwarding cost while media flowed.
    pub(super) load: Load,
    /// What was found in its memory, logs and metrics; nothing is known until those are searched.
    pub(super) blindness: Blindness,
}

/// The same for programs; the keys are a promise.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    ledger_balanced: bool,
    relay_datagrams_forwarded: u64,
    relay_cpu_us_per_datagram: f64,
    canaries: usize,
    canaries_found: usize,
    memory_searched_mib: f64,
}

impl Shown {
    /// From its metrics once all have left, and what forwarding cost before. It is not searched yet.
    ///
    /// # Errors
    /// If a metric is missing.
    pub(super) fn new(after: &Metrics, load: Load) -> anyhow::Result<Self> {
        Ok(Self {
            ledger: Ledger::new(after)?,
            datagrams_forwarded: after.sum("supernode_datagrams_forwarded_total")?,
            load,
            blindness: Blindness::default(),
        })
    }

    /// As [`Self::new`], of several relays together.
    ///
    /// # Errors
    /// If a metric is missing.
    pub(super) fn of_all(after: &[Metrics], load: Load) -> anyhow::Result<Self> {
        let mut all =
            Self { ledger: Ledger::default(), datagrams_forwarded: 0.0, load, blindness: Blindness::default() };
        for metrics in after {
            let Self { ledger, datagrams_forwarded, .. } = Self::new(metrics, load)?;
            all.ledger = all.ledger.and(ledger);
            all.datagrams_forwarded += datagrams_forwarded;
        }
        Ok(all)
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let forwarded = format!("  relay          {} objects forwarded as datagrams", self.datagrams_forwarded);
        let mut lines = vec![self.ledger.line(), forwarded, self.load.line()];
        lines.extend(self.blindness.lines());
        lines
    }

    /// What did not hold; nothing if all did.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if !self.ledger.balances() {
            failures.push(format!("the drop ledger does not balance: {:?}", self.ledger));
        }
        if self.datagrams_forwarded <= 0.0 {
            failures.push("the relay forwarded no datagram".into());
        }
        if self.load.datagrams_out <= 0.0 {
            failures.push("the relay sent nothing while it was measured".into());
        }
        failures.extend(self.blindness.failures());
        failures
    }

    /// For programs.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            ledger_balanced: self.ledger.balances(),
            relay_datagrams_forwarded: self.datagrams_forwarded as u64,
            relay_cpu_us_per_datagram: tenths(self.load.cpu_us_per_datagram()),
            canaries: self.blindness.canaries,
            canaries_found: self.blindness.found.len(),
            memory_searched_mib: tenths(self.blindness.searched_mib()),
        }
    }
}

impl Blindness {
    /// For people.
    pub(super) fn lines(&self) -> [String; 2] {
        let Self { canaries, found, controls_found, controls_missing, named, left, .. } = self;
        let verdict = if found.is_empty() { "none found".to_owned() } else { format!("{} FOUND", found.len()) };
        let controls = match controls_missing.len() {
            0 => format!("{controls_found} controls found"),
            missing => format!("{missing} CONTROLS NOT FOUND"),
        };
        let times = self.searched_bytes.len();
        let mebibytes = self.searched_mib() / times.max(1) as f64;
        let texts = if named.is_empty() { "name nobody" } else { "NAME SOMEBODY" };
        [
            format!(
                "  relay's memory {mebibytes:.1} MiB searched {times} times for {canaries} canaries: {verdict}; {controls}"
            ),
            format!(
                "  relay's words  logs and metrics {texts}; identity keys still in freed memory after the call: {left}"
            ),
        ]
    }
}

pub(super) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of a relay that did all as it should.
    pub(in crate::demo) fn good() -> Shown {
        Shown {
            ledger: Ledger { offered: 560.0, delivered: 559.0, dropped: 1.0, queued: 0.0 },
            datagrams_forwarded: 400.0,
            load: Load { seconds: 1.5, cpu_s: 0.01, datagrams_out: 200.0 },
            blindness: Blindness {
                canaries: 7,
                searched_bytes: vec![1 << 20, 1 << 20],
                controls_found: 3,
                ..Blindness::default()
            },
        }
    }

    #[test]
    fn each_broken_promise_of_the_relay_is_one_failure() {
        assert_eq!(good().failures(), Vec::<String>::new());
        type Break = fn(&mut Shown);
        let breaks: [(&str, Break); 9] = [
            ("ledger", |shown| shown.ledger.delivered = 558.0),
            ("queued", |shown| shown.ledger.queued = 1.0),
            ("nothing offered", |shown| {
                shown.ledger = Ledger { offered: 0.0, delivered: 0.0, dropped: 0.0, queued: 0.0 };
            }),
            ("nothing forwarded", |shown| shown.datagrams_forwarded = 0.0),
            ("nothing measured", |shown| shown.load.datagrams_out = 0.0),
            ("canary found", |shown| shown.blindness.found.push("a frame".into())),
            ("control missing", |shown| shown.blindness.controls_missing.push("the pin".into())),
            ("named", |shown| shown.blindness.named.push("A".into())),
            ("not searched", |shown| shown.blindness.searched_bytes.clear()),
        ];
        for (name, break_it) in breaks {
            let mut shown = good();
            break_it(&mut shown);
            assert_eq!(shown.failures().len(), 1, "{name}: {:?}", shown.failures());
        }
    }
}
