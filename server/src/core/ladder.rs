//! The ladder: what a subscriber whose path is too narrow goes without, in which order.
//!
//! Down one rung as soon as something has waited longer than [`DOWN_AFTER`], at most once in [`DOWN_INTERVAL`] so that
//! each rung gets time to show. Up one rung after a calm time that starts at [`UP_AFTER`] and doubles each time the rung
//! above did not hold for [`HOLD`], so that it does not swing.

use std::time::{Duration, Instant};

use supernode_proto::control::{Rung, TrackKind};

use super::ledger::DropReason;

/// Oldest queued object that makes it climb down.
pub const DOWN_AFTER: Duration = Duration::from_millis(80);
/// Between two steps down.
pub const DOWN_INTERVAL: Duration = Duration::from_millis(200);
/// Calm before the first step up.
pub const UP_AFTER: Duration = Duration::from_secs(2);
/// How long a rung must hold after a step up for the next trouble to start afresh.
pub const HOLD: Duration = Duration::from_secs(10);
/// Longest calm asked for.
pub const UP_AFTER_MAX: Duration = Duration::from_secs(16);

/// One subscriber's place on the ladder.
#[derive(Debug, Clone)]
pub struct Ladder {
    rung: Rung,
    moved: Option<Instant>,
    calm_since: Option<Instant>,
    up_after: Duration,
    climbed: Option<Instant>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { rung: Rung::Full, moved: None, calm_since: None, up_after: UP_AFTER, climbed: None }
    }
}

impl Ladder {
    /// Where it stands.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Whether it has somewhere to climb up to, and so wants [`Self::observe`] to be called from time to time.
    pub fn is_low(&self) -> bool {
        self.rung != Rung::Full
    }

    /// Why an object of this kind and temporal layer is not sent now, if so.
    pub fn refuses(&self, kind: TrackKind, temporal_layer: u8) -> Option<DropReason> {
        let visual = matches!(kind, TrackKind::Video | TrackKind::Screen);
        match self.rung {
            Rung::AudioOnly if visual => Some(DropReason::LadderAudioOnly),
            Rung::NoTemporal1 if visual && temporal_layer >= 1 => Some(DropReason::LadderTemporal1),
            Rung::NoTemporal2 if visual && temporal_layer >= 2 => Some(DropReason::LadderTemporal2),
            Rung::Full | Rung::NoTemporal2 | Rung::NoTemporal1 | Rung::AudioOnly => None,
        }
    }

    /// Takes note of how long the oldest queued object has waited (zero when nothing waits); returns the new rung if it
    /// changed.
    pub fn observe(&mut self, oldest: Duration, now: Instant) -> Option<Rung> {
        if oldest > DOWN_AFTER {
            self.calm_since = None;
            let rested = self.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= DOWN_INTERVAL);
            return if rested { self.step_down(now) } else { None };
        }
        if !self.is_low() || !oldest.is_zero() {
            return None;
        }
        let calm_since = *self.calm_since.get_or_insert(now);
        if now.saturating_duration_since(calm_since) < self.up_after { None } else { self.step_up(now) }
    }

    fn step_down(&mut self, now: Instant) -> Option<Rung> {
        let lower = match self.rung {
            Rung::Full => Rung::NoTemporal2,
            Rung::NoTemporal2 => Rung::NoTemporal1,
            Rung::NoTemporal1 => Rung::AudioOnly,
            Rung::AudioOnly => return None,
        };
        // Several steps down in one trouble count once.
        if let Some(climbed) = self.climbed.take() {
            let held = now.saturating_duration_since(climbed) >= HOLD;
            self.up_after = if held { UP_AFTER } else { (self.up_after * 2).min(UP_AFTER_MAX) };
        }
        self.rung = lower;
        self.moved = Some(now);
        Some(lower)
    }

    fn step_up(&mut self, now: Instant) -> Option<Rung> {
        let higher = match self.rung {
            Rung::AudioOnly => Rung::NoTemporal1,
            Rung::NoTemporal1 => Rung::NoTemporal2,
            Rung::NoTemporal2 | Rung::Full => Rung::Full,
        };
        self.climbed = Some(now);
        self.rung = higher;
        self.moved = Some(now);
        self.calm_since = Some(now);
        Some(higher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    //
    #[test]
    fn a_narrow_path_loses_layers_first_and_audio_never() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        assert_eq!(ladder.observe(81 * MS, start), Some(Rung::NoTemporal2));
        assert_eq!(ladder.refuses(TrackKind::Video, 2), Some(DropReason::LadderTemporal2));
        assert_eq!(ladder.refuses(TrackKind::Video, 1), None);
        assert_eq!(ladder.observe(81 * MS, start + 100 * MS), None, "each rung gets time to show");
        assert_eq!(ladder.observe(81 * MS, start + 200 * MS), Some(Rung::NoTemporal1));
        assert_eq!(ladder.observe(81 * MS, start + 400 * MS), Some(Rung::AudioOnly));
        assert_eq!(ladder.observe(81 * MS, start + 600 * MS), None);
        assert_eq!(ladder.refuses(TrackKind::Screen, 0), Some(DropReason::LadderAudioOnly));
        assert_eq!(ladder.refuses(TrackKind::Audio, 0), None);
        assert_eq!(ladder.refuses(TrackKind::Data, 0), None);
    }

    //
    #[test]
    fn a_calm_path_climbs_back_rung_by_rung() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        ladder.observe(81 * MS, start);
        ladder.observe(81 * MS, start + 200 * MS);
        let mut seen = Vec::new();
        for tick in 3..100u32 {
            seen.extend(ladder.observe(Duration::ZERO, start + tick * 100 * MS));
        }
        assert_eq!(seen, [Rung::NoTemporal2, Rung::Full]);
        assert!(!ladder.is_low());
    }

    //
    #[test]
    fn a_rung_that_did_not_hold_is_tried_again_later() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        ladder.observe(81 * MS, start);
        ladder.observe(81 * MS, start + 200 * MS);
        let mut at = start + 300 * MS;
        while ladder.observe(Duration::ZERO, at).is_none() {
            at += 100 * MS;
        }
        let first_calm = at - start;
        assert_eq!(ladder.observe(81 * MS, at + 300 * MS), Some(Rung::NoTemporal1));
        let again = at + 400 * MS;
        at = again;
        while ladder.observe(Duration::ZERO, at).is_none() {
            at += 100 * MS;
        }
        assert!(at - again >= 2 * UP_AFTER && first_calm < 2 * UP_AFTER);
    }

    #[test]
    fn a_path_that_is_just_too_narrow_for_everything_is_not_tried_every_two_seconds() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let mut climbs = Vec::new();
        // Full is too much: half a second after each climb something has waited too long.
        let mut trouble_at = start;
        for tick in 0..6000u32 {
            let now = start + tick * 20 * MS;
            let oldest = if now == trouble_at { 81 * MS } else { Duration::ZERO };
            if ladder.observe(oldest, now) == Some(Rung::Full) {
                climbs.push(now);
                trouble_at = now + 500 * MS;
            }
        }
        let waits: Vec<u64> = climbs.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(waits[..4], [4, 8, 16, 16]);
    }
}
