//! What the relay knows about one subscriber's path, and what it therefore sends there.

pub mod ladder;
pub mod rate_estimate;

use std::time::{Duration, Instant};

use supernode_proto::{
    control::{Allocation, Rung, TrackKind},
    object::Layer,
};

use self::{
    ladder::{Ladder, Pressure, RUNGS, last_rung},
    rate_estimate::{RateEstimate, SAMPLE_INTERVAL, Sample},
};
use crate::core::forwarding::ledger::DropReason;

/// Between two allocations that are told because the estimate changed, not the rung.
const TOLD_INTERVAL: Duration = Duration::from_secs(1);
/// Time over which what is to be sent is averaged.
const WANTED_SPAN_S: f64 = 0.5;

/// One subscriber's path.
///
/// The order of its fields is kept: what every object needs comes first and together.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Receiver {
    /// Bytes offered since the last sample, by the lowest rung on which they are sent.
    offered: [u32; RUNGS],
    sampled: Option<Instant>,
    ladder: Ladder,
    estimate: RateEstimate,
    /// Of what is offered, bits a second.
    rates: [f64; RUNGS],
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    bits_per_second: u64,
    bound: u64,
}

/// What follows from a look at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Rung before.
    pub(crate) from: Rung,
    /// To be told.
    pub(crate) allocation: Allocation,
}

impl Receiver {
    /// Counts an object that is owed, whether or not it is sent; returns why it is not, if so.
    pub(crate) fn offer(&mut self, kind: TrackKind, layer: Layer, speaker: bool, bytes: usize) -> Option<DropReason> {
        let last = last_rung(kind, layer, speaker);
        let offered = &mut self.offered[last as usize];
        // Nobody is owed four gigabytes between two samples.
        *offered = offered.wrapping_add(bytes as u32);
        self.ladder.refuses(last)
    }

    pub(crate) fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// What the path takes in bits a second, zero if not known.
    pub(crate) fn bits_per_second(&self) -> u64 {
        self.estimate.bits_per_second()
    }

    /// What there is no point in exceeding, zero if nothing is known against more.
    pub(crate) fn bound_bits_per_second(&self) -> u64 {
        self.estimate.bound_bits_per_second()
    }

    /// Whether [`Self::observe`] wants a sample.
    pub(crate) fn wants_sample(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|at| now.saturating_duration_since(at) >= SAMPLE_INTERVAL)
    }

    /// Takes note of how long the oldest object has waited, and of a sample if there is one.
    pub(crate) fn observe(&mut self, oldest: Duration, sample: Option<Sample>, now: Instant) -> Option<Change> {
        if let Some(sample) = sample {
            self.estimate.observe(sample);
            self.average(now);
        }
        let from = self.ladder.rung();
        let pressure = Pressure {
            oldest,
            growth: self.estimate.growth(),
            bits_per_second: self.estimate.bits_per_second(),
            wanted: std::array::from_fn(|rung| self.rates[rung..].iter().sum::<f64>() as u64),
        };
        let moved = self.ladder.observe(&pressure, now).is_some();
        let is_news = sample.is_some() && self.is_news(now);
        if !moved && !is_news {
            return None;
        }
        let bound = self.estimate.bound_bits_per_second();
        self.told = Told { at: Some(now), bits_per_second: pressure.bits_per_second, bound };
        let allocation = Allocation {
            rung: self.ladder.rung().into(),
            path_bits_per_second: pressure.bits_per_second,
            sent_bits_per_second: self.estimate.arrived_bits_per_second(),
        };
        Some(Change { from, allocation })
    }

    fn average(&mut self, now: Instant) {
        let since =
            self.sampled.replace(now).map_or(WANTED_SPAN_S, |at| now.saturating_duration_since(at).as_secs_f64());
        let weight = 1.0 - (-since / WANTED_SPAN_S).exp();
        for (rate, offered) in self.rates.iter_mut().zip(&mut self.offered) {
            let bits = f64::from(std::mem::take(offered)) * 8.0;
            *rate += weight * (bits / since.max(1e-3) - *rate);
        }
    }

    /// Whether the estimate, or the bound, is a quarter off what was told.
    fn is_news(&self, now: Instant) -> bool {
        let rested = self.told.at.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_INTERVAL);
        let off = |now: u64, told: u64| now.abs_diff(told).saturating_mul(4) > told.max(1);
        let Self { estimate, told, .. } = self;
        rested
            && (off(estimate.bits_per_second(), told.bits_per_second)
                || off(estimate.bound_bits_per_second(), told.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn layer(temporal: u8) -> Layer {
        Layer::new(temporal, 0).expect("small")
    }

    //
    #[test]
    fn a_squeezed_receiver_is_told_and_goes_without_what_does_not_fit() {
        let start = Instant::now();
        let mut receiver = Receiver::default();
        let mut told: Vec<(u32, Rung, u64)> = Vec::new();
        // 64 kbit/s of audio and 1.5 Mbit/s of video in three layers, over a path that shrinks to 300 kbit/s after 2 s.
        let (mut acked_bytes, mut queue_bits) = (0, 0.0);
        for tick in 0..40u32 {
            let now = start + tick * 100 * MS;
            let capacity = if tick < 20 { 4_000_000.0 } else { 300_000.0 };
            let mut sent_bytes = 0;
            let mut offer = |kind, temporal, bytes: usize| {
                if receiver.offer(kind, layer(temporal), true, bytes).is_none() {
                    sent_bytes += bytes;
                }
            };
            offer(TrackKind::Audio, 0, 800);
            offer(TrackKind::Video, 0, 9_375);
            offer(TrackKind::Video, 1, 4_687);
            offer(TrackKind::Video, 2, 4_687);
            queue_bits += sent_bytes as f64 * 8.0;
            let through = f64::min(queue_bits, capacity * 0.1);
            queue_bits -= through;
            acked_bytes += (through / 8.0) as u64;
            let rtt = 40 * MS + Duration::from_secs_f64(queue_bits / capacity);
            let sample = Sample { at: now, acked_bytes, rtt, held_back: false };
            if let Some(change) = receiver.observe(Duration::ZERO, Some(sample), now) {
                told.push((tick, change.allocation.rung(), change.allocation.path_bits_per_second));
            }
        }
        let before = told.iter().rfind(|(tick, ..)| *tick < 20).expect("what the path took is told");
        assert!(before.1 == Rung::Full && before.2 > 1_200_000, "{told:?}");
        let down = told.iter().find(|(_, rung, _)| *rung == Rung::AudioOnly).expect("no picture fits");
        assert!(down.0 <= 30, "within a second of the squeeze: {told:?}");
        assert!(told.len() < 15, "it is not told all the time: {told:?}");
    }
}
