//! The last quarter of an hour: what changed between one look at the shards and the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    control::metrics::Reading,
    core::{
        histogram::Histogram,
        ladder::RUNGS,
        ledger::{CLASSES, DropReason},
    },
    shard::distributions::Distributions,
};

/// Between two samples.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Samples that are kept: a quarter of an hour.
pub const SAMPLES_MAX: usize = 450;
/// Samples that make the last minute.
const MINUTE: usize = 30;

/// What happened in one interval. Rates are for each second.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Counts up from the relay's start.
    pub number: u64,
    /// When the interval ended, in milliseconds since 1970.
    pub unix_ms: u64,
    /// UDP payload received, in bits.
    pub in_bits: f64,
    /// UDP payload sent, in bits.
    pub out_bits: f64,
    /// Datagrams received.
    pub in_datagrams: f64,
    /// Datagrams sent.
    pub out_datagrams: f64,
    /// Objects delivered.
    pub delivered: f64,
    /// Packets that the kernel threw away because a receive buffer was full: no object of theirs is in any book.
    pub kernel_drops: f64,
    /// Objects dropped, by place in [`DropReason::ALL`].
    pub dropped: [f64; DropReason::COUNT],
    /// Sessions at its end.
    pub sessions: u64,
    /// Sessions at its end by rung of the ladder.
    pub rungs: [u64; RUNGS],
    /// Rooms at its end.
    pub rooms: u64,
    /// Handshakes that ended well, and those that failed or were refused.
    pub handshakes: [f64; 2],
    /// Half of the delivered objects stayed no longer in the relay, in microseconds, by place in [`CLASSES`].
    pub delay_p50_us: [u64; CLASSES.len()],
    /// 99 of 100 delivered objects stayed no longer.
    pub delay_p99_us: [u64; CLASSES.len()],
    /// The longest that an object was seen waiting, in microseconds.
    pub queue_oldest_us: u64,
    /// Share of the time that each shard was busy, 0 to 1.
    pub busy: Vec<f64>,
    /// How late shards were for their earliest deadlines, in microseconds: the median, and the 99th percentile. High
    /// while they are not busy means that the machine does not give them the CPU.
    pub lag_us: [u64; 2],
    /// CPU time that the process took, in cores.
    pub cores: f64,
    /// Memory of the process that was in RAM at its end, in bytes.
    pub resident_bytes: u64,
    /// Round-trip times to clients in microseconds: half of those measured, and 99 of 100, were no longer.
    pub rtt_us: [u64; 2],
    /// What clients' paths take, in bits: a tenth of the estimates, and half, were no higher.
    pub path_bits: [u64; 2],
    /// Subscribers that were sent the newest group of a track at once.
    pub late_joiners: f64,
    /// Bytes of newest groups that were kept at its end.
    pub cached_bytes: u64,
}

/// Samples, oldest first, and the readings between which the last minute lies.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    /// Readings of the last minute, oldest first.
    readings: VecDeque<(Instant, Reading)>,
    next: u64,
}

impl History {
    /// Takes note of a reading. One that comes at once after another, as when the machine had no time for this for a while, is
    /// left out: over next to no time, everything is a rate.
    pub fn take(&mut self, reading: Reading, now: Instant, unix_ms: u64) {
        if self.readings.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < INTERVAL / 2) {
            return;
        }
        if let Some((at, before)) = self.readings.back() {
            let elapsed_s = now.saturating_duration_since(*at).as_secs_f64().max(1e-3);
            self.samples.push_back(sample(self.next, unix_ms, before, &reading, elapsed_s));
            self.next += 1;
        }
        self.readings.push_back((now, reading));
        while self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
        while self.readings.len() > MINUTE + 1 {
            self.readings.pop_front();
        }
    }

    /// Samples with a larger number than `after`, oldest first.
    pub fn since(&self, after: Option<u64>) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| after.is_none_or(|after| sample.number > after))
    }

    /// The last sample.
    pub fn last(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// What the relay had counted a minute ago, or when the history began, and now.
    pub fn minute(&self) -> Option<(&Reading, &Reading)> {
        Some((&self.readings.front()?.1, &self.readings.back()?.1))
    }
}

fn sample(number: u64, unix_ms: u64, before: &Reading, after: &Reading, elapsed_s: f64) -> Sample {
    let rate = |read: &dyn Fn(&Reading) -> u64| read(after).saturating_sub(read(before)) as f64 / elapsed_s;
    let residence = |class: usize| {
        let counted = |reading: &Reading| reading.merged(|shard| &shard.detail.ledger.residence_us[class]);
        counted(after).since(&counted(before))
    };
    let spread: [Histogram; CLASSES.len()] = std::array::from_fn(residence);
    let grown = |read: fn(&Distributions) -> &Histogram| {
        let counted = |reading: &Reading| reading.merged(|shard| read(&shard.detail.distributions));
        counted(after).since(&counted(before))
    };
    let (rtt_us, path_kbits) = (grown(|spread| &spread.rtt_us), grown(|spread| &spread.path_kbits));
    let lag_us = grown(|spread| &spread.late_us);
    let rungs = |rung| after.total(|shard| shard.detail.distributions.holdings.rungs[rung]);
    let busy = |index: usize| {
        let busy = |reading: &Reading| {
            reading.shards.get(index).map_or(Duration::ZERO, |shard| shard.detail.distributions.busy)
        };
        (busy(after).saturating_sub(busy(before)).as_secs_f64() / elapsed_s).min(1.0)
    };
    Sample {
        number,
        unix_ms,
        in_bits: 8.0 * rate(&|reading| reading.total(|shard| shard.tally.bytes_in)),
        out_bits: 8.0 * rate(&|reading| reading.total(|shard| shard.tally.bytes_out)),
        in_datagrams: rate(&|reading| reading.total(|shard| shard.tally.datagrams_in)),
        out_datagrams: rate(&|reading| reading.total(|shard| shard.tally.datagrams_out)),
        delivered: rate(&|reading| reading.total(|shard| shard.ledger.delivered)),
        kernel_drops: rate(&|reading| reading.total(|shard| shard.tally.kernel_drops)),
        dropped: std::array::from_fn(|reason| rate(&|reading| reading.total(|shard| shard.ledger.dropped[reason]))),
        sessions: after.total(|shard| shard.tally.sessions),
        rungs: std::array::from_fn(rungs),
        rooms: after.population.rooms,
        handshakes: [
            rate(&|reading| reading.total(|shard| shard.tally.handshakes_ok)),
            rate(&|reading| reading.total(|shard| shard.tally.handshakes_failed + shard.tally.handshakes_refused)),
        ],
        delay_p50_us: spread.each_ref().map(|class| class.quantile(0.5)),
        delay_p99_us: spread.each_ref().map(|class| class.quantile(0.99)),
        queue_oldest_us: after.shards.iter().map(|shard| shard.tally.queue_oldest_us).max().unwrap_or(0),
        busy: (0..after.shards.len()).map(busy).collect(),
        lag_us: [0.5, 0.99].map(|share| lag_us.quantile(share)),
        cores: (after.process.cpu_s - before.process.cpu_s).max(0.0) / elapsed_s,
        resident_bytes: after.process.resident_bytes,
        rtt_us: [0.5, 0.99].map(|share| rtt_us.quantile(share)),
        path_bits: [0.1, 0.5].map(|share| path_kbits.quantile(share) * 1000),
        late_joiners: rate(&|reading| reading.total(|shard| shard.ledger.late_joiners)),
        cached_bytes: after.total(|shard| shard.ledger.cached_bytes),
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::control::TrackKind;

    use super::*;
    use crate::control::{metrics::ShardReading, process::Usage};

    /// A relay that does the same every second.
    fn reading(second: u64, start: Instant) -> Reading {
        let mut shard = ShardReading::default();
        shard.tally.bytes_in = 1000 * second;
        shard.tally.datagrams_out = 10 * second;
        shard.tally.kernel_drops = 4 * second;
        (shard.tally.handshakes_ok, shard.tally.handshakes_failed, shard.tally.handshakes_refused) =
            (2 * second, second, 5 * second);
        shard.ledger.delivered = 20 * second;
        shard.ledger.drop(DropReason::Expired, second);
        shard.ledger.late_joiners = 3 * second;
        shard.ledger.cached_bytes = 1000;
        let distributions = &mut shard.detail.distributions;
        distributions.busy = Duration::from_millis(250 * second);
        for _ in 0..second {
            distributions.rtt_us.observe(10_000, 1);
            distributions.rtt_us.observe(80_000, 1);
            distributions.path_kbits.observe(2_000, 1);
            distributions.late_us.observe(10_000, 1);
        }
        for object in 0..20 * second {
            let stayed = Duration::from_micros(if object < 40 { 100 } else { 300 });
            shard.detail.ledger.deliver(TrackKind::Audio, start);
            shard.detail.ledger.turn_ended(start + stayed);
        }
        let process = Usage { cpu_s: 0.5 * second as f64, resident_bytes: 1 << 20 };
        Reading { shards: vec![shard], process, ..Reading::default() }
    }

    #[test]
    fn an_interval_is_what_changed_in_it() {
        let start = Instant::now();
        let mut history = History::default();
        for second in [0, 2, 4] {
            history.take(reading(second, start), start + Duration::from_secs(second), 1000 * second);
        }
        let samples: Vec<&Sample> = history.since(None).collect();
        assert_eq!(
            samples.iter().map(|sample| (sample.number, sample.unix_ms)).collect::<Vec<_>>(),
            [(0, 2000), (1, 4000)]
        );
        for sample in &samples {
            assert_eq!((sample.in_bits, sample.out_datagrams, sample.delivered), (8000.0, 10.0, 20.0));
            assert_eq!((sample.dropped[DropReason::Expired as usize], sample.busy[0]), (1.0, 0.25));
            assert_eq!((sample.rtt_us, sample.path_bits), ([10_240, 81_920], [2_048_000; 2]), "as histograms tell it");
            assert_eq!((sample.late_joiners, sample.cached_bytes), (3.0, 1000));
            assert_eq!((sample.kernel_drops, sample.handshakes, sample.lag_us), (4.0, [2.0, 6.0], [10_240; 2]));
            assert_eq!((sample.cores, sample.resident_bytes), (0.5, 1 << 20));
        }
        assert_eq!(
            samples.iter().map(|sample| sample.delay_p99_us[0]).collect::<Vec<_>>(),
            [112, 320],
            "each by itself"
        );
        assert_eq!(history.since(Some(0)).map(|sample| sample.number).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn readings_that_come_late_and_then_all_at_once_are_one() {
        let start = Instant::now();
        let mut history = History::default();
        for after_ms in [0, 2_000, 12_000, 12_001, 12_002, 14_000] {
            history.take(reading(after_ms / 1000, start), start + Duration::from_millis(after_ms), after_ms);
        }
        let rates: Vec<(u64, f64)> = history.since(None).map(|sample| (sample.unix_ms, sample.in_bits)).collect();
        assert_eq!(rates, [(2_000, 8000.0), (12_000, 8000.0), (14_000, 8000.0)]);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let start = Instant::now();
        let mut history = History::default();
        for second in 0..SAMPLES_MAX as u64 + 10 {
            let mut reading = Reading::default();
            reading.population.rooms = second;
            history.take(reading, start + Duration::from_secs(second), second);
        }
        assert_eq!(history.since(None).count(), SAMPLES_MAX);
        let (before, now) = history.minute().expect("readings");
        assert_eq!(now.population.rooms - before.population.rooms, MINUTE as u64);
    }
}
