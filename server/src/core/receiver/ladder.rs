//! The ladder: what a subscriber whose path is too narrow goes without, in which order.
//!
//! Down as soon as something has waited longer than [`DOWN_AFTER`], or the round-trip time has grown by more than
//! [`GROWTH_MAX`]: one rung, or two when the path's estimate says that one will not do, at most once in
//! [`DOWN_INTERVAL`] so that each rung gets time to show; twice as often while the estimate says that it cannot do.
//!
//! Up one rung after a calm time that starts at [`UP_AFTER`] and doubles, up to [`UP_AFTER_MAX`], each time the rung above
//! did not hold for [`HOLD`], so that it does not swing; the longest is asked for at once when the rung above needs far more
//! than the path is known to take. Once a rung up proved calm, the next follows after
//! [`NEXT_UP_AFTER`]. A step up is the probe: nothing else tells whether a path that is not used to the full takes more.

use std::time::{Duration, Instant};

use supernode_proto::{
    control::{Rung, TrackKind},
    object::Layer,
};

use crate::core::forwarding::ledger::DropReason;

/// Oldest queued object that makes it climb down.
pub const DOWN_AFTER: Duration = Duration::from_millis(80);
/// Growth of the round-trip time that makes it climb down.
pub const GROWTH_MAX: Duration = Duration::from_millis(100);
/// Growth of the round-trip time that still counts as calm.
pub const GROWTH_CALM: Duration = Duration::from_millis(40);
/// What an object may have waited for a path to count as calm: it may have come from another shard.
pub const WAIT_CALM: Duration = Duration::from_millis(10);
/// Between two steps down.
pub const DOWN_INTERVAL: Duration = Duration::from_millis(200);
/// Calm before the first step up.
pub const UP_AFTER: Duration = Duration::from_secs(2);
/// Calm before the next step up, when the last one held so far.
pub const NEXT_UP_AFTER: Duration = Duration::from_millis(700);
/// How long a rung must hold after a step up for the next trouble to start afresh.
pub const HOLD: Duration = Duration::from_secs(10);
/// Longest calm asked for.
pub const UP_AFTER_MAX: Duration = Duration::from_secs(5);
/// Rungs.
pub const RUNGS: usize = Rung::AudioOnly as usize + 1;

/// Per cent of the path's estimate that a rung may take for a step down to stop there: the rest drains the queues.
const FIT_PERCENT: u64 = 85;
/// Per cent of the estimate above which a step up is not expected to hold.
const FAR_PERCENT: u64 = 150;

/// What presses on one subscriber's path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pressure {
    /// How long the oldest object has waited; zero when nothing waits.
    pub oldest: Duration,
    /// By how much the round-trip time has grown.
    pub growth: Duration,
    /// What the path takes, in bits a second; zero if not known.
    pub bits_per_second: u64,
    /// What is to be sent at each rung, in bits a second.
    pub wanted: [u64; RUNGS],
}

/// One subscriber's place on the ladder. Where it stands comes first, as only that is needed for an object.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Ladder {
    rung: Rung,
    moved: Option<Instant>,
    calm_since: Option<Instant>,
    up_after: Duration,
    climbed: Option<Instant>,
    /// Growth at the last step down, or less: while it shrinks, what was sent before only drains.
    draining: Duration,
    stuck_since: Option<Instant>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            rung: Rung::Full,
            moved: None,
            calm_since: None,
            up_after: UP_AFTER,
            climbed: None,
            draining: Duration::ZERO,
            stuck_since: None,
        }
    }
}

impl Ladder {
    /// Where it stands.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Why an object is not sent now, if so, that is sent down to this rung ([`last_rung`]).
    pub fn refuses(&self, last: Rung) -> Option<DropReason> {
        if self.rung <= last {
            return None;
        }
        Some(match last {
            Rung::Full => DropReason::LadderTemporal2,
            Rung::NoTemporal2 => DropReason::LadderTemporal1,
            Rung::NoTemporal1 => DropReason::LadderSpatial,
            Rung::NoSpatial => DropReason::LadderSpeakerOnly,
            Rung::SpeakerOnly | Rung::AudioOnly => DropReason::LadderAudioOnly,
        })
    }

    /// Highest temporal and spatial layer of a picture that is sent now.
    pub fn layers_max(&self) -> (u8, u8) {
        match self.rung {
            Rung::Full => (Layer::MAX, Layer::MAX),
            Rung::NoTemporal2 => (1, Layer::MAX),
            Rung::NoTemporal1 => (0, Layer::MAX),
            Rung::NoSpatial | Rung::SpeakerOnly | Rung::AudioOnly => (0, 0),
        }
    }

    /// How long there has been trouble on the last rung, where nothing is left to go without.
    pub fn stuck(&self, now: Instant) -> Duration {
        self.stuck_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Takes note of what presses; returns the new rung if it changed.
    pub fn observe(&mut self, pressure: &Pressure, now: Instant) -> Option<Rung> {
        let waits = pressure.oldest > DOWN_AFTER;
        let grows = pressure.growth > GROWTH_MAX && pressure.growth >= self.draining;
        self.draining = self.draining.min(pressure.growth);
        if !waits || self.rung != Rung::AudioOnly {
            self.stuck_since = None;
        } else if self.stuck_since.is_none() {
            self.stuck_since = Some(now);
        }
        if waits || grows {
            self.calm_since = None;
            let interval = if Self::fits(self.rung, pressure, 100) { DOWN_INTERVAL } else { DOWN_INTERVAL / 2 };
            let rested = self.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= interval);
            return if rested { self.step_down(pressure, now) } else { None };
        }
        if self.rung == Rung::Full {
            return None;
        }
        if pressure.oldest > WAIT_CALM || pressure.growth > GROWTH_CALM {
            self.calm_since = None;
            return None;
        }
        let calm_since = *self.calm_since.get_or_insert(now);
        let far = above(self.rung).is_some_and(|next| !Self::fits(next, pressure, FAR_PERCENT));
        let wanted = match (self.climbed == self.moved, far) {
            (true, _) => NEXT_UP_AFTER,
            (false, true) => UP_AFTER_MAX,
            (false, false) => self.up_after,
        };
        if now.saturating_duration_since(calm_since) < wanted { None } else { self.step_up(now) }
    }

    /// Whether what is to be sent on a rung is at most so much of the estimate, or nothing is known.
    fn fits(rung: Rung, pressure: &Pressure, per_cent: u64) -> bool {
        let bits_per_second = pressure.bits_per_second;
        bits_per_second == 0 || pressure.wanted[rung as usize] * 100 <= bits_per_second * per_cent
    }

    fn step_down(&mut self, pressure: &Pressure, now: Instant) -> Option<Rung> {
        let next = below(self.rung)?;
        let fits = Self::fits(next, pressure, FIT_PERCENT);
        let lower = if fits { next } else { below(next).unwrap_or(next) };
        // Several steps down in one trouble count once.
        if let Some(climbed) = self.climbed.take() {
            let held = now.saturating_duration_since(climbed) >= HOLD;
            self.up_after = if held { UP_AFTER } else { (self.up_after * 2).min(UP_AFTER_MAX) };
        }
        self.rung = lower;
        self.moved = Some(now);
        self.draining = pressure.growth;
        Some(lower)
    }

    fn step_up(&mut self, now: Instant) -> Option<Rung> {
        let higher = above(self.rung)?;
        self.climbed = Some(now);
        self.rung = higher;
        self.moved = Some(now);
        self.calm_since = Some(now);
        Some(higher)
    }
}

/// The lowest rung on which an object is still sent.
pub fn last_rung(kind: TrackKind, layer: Layer, speaker: bool) -> Rung {
    if !matches!(kind, TrackKind::Video | TrackKind::Screen) {
        Rung::AudioOnly
    } else if layer.temporal() >= 2 {
        Rung::Full
    } else if layer.temporal() == 1 {
        Rung::NoTemporal2
    } else if layer.spatial() >= 1 {
        Rung::NoTemporal1
    } else if speaker {
        Rung::SpeakerOnly
    } else {
        Rung::NoSpatial
    }
}

fn below(rung: Rung) -> Option<Rung> {
    Rung::try_from(rung as i32 + 1).ok()
}

fn above(rung: Rung) -> Option<Rung> {
    Rung::try_from(rung as i32 - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CALM: Pressure =
        Pressure { oldest: Duration::ZERO, growth: Duration::ZERO, bits_per_second: 0, wanted: [0; RUNGS] };
    const WAITS: Pressure = Pressure { oldest: Duration::from_millis(81), ..CALM };

    //
    #[test]
    fn a_narrow_path_loses_layers_first_then_pictures_and_audio_never() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let layer = |temporal, spatial| Layer::new(temporal, spatial).expect("small");
        let video = |ladder: &Ladder, temporal, spatial| {
            [true, false].map(|speaker| ladder.refuses(last_rung(TrackKind::Video, layer(temporal, spatial), speaker)))
        };
        assert_eq!(ladder.observe(&WAITS, start), Some(Rung::NoTemporal2));
        assert_eq!(video(&ladder, 2, 0), [Some(DropReason::LadderTemporal2); 2]);
        assert_eq!((video(&ladder, 1, 1), ladder.layers_max()), ([None; 2], (1, 7)));
        assert_eq!(ladder.observe(&WAITS, start + 100 * MS), None, "each rung gets time to show");
        assert_eq!(ladder.observe(&WAITS, start + 200 * MS), Some(Rung::NoTemporal1));
        assert_eq!(video(&ladder, 1, 0), [Some(DropReason::LadderTemporal1); 2]);
        assert_eq!((video(&ladder, 0, 1), ladder.layers_max()), ([None; 2], (0, 7)));
        assert_eq!(ladder.observe(&WAITS, start + 400 * MS), Some(Rung::NoSpatial));
        assert_eq!(video(&ladder, 0, 1), [Some(DropReason::LadderSpatial); 2]);
        assert_eq!((video(&ladder, 0, 0), ladder.layers_max()), ([None; 2], (0, 0)));
        assert_eq!(ladder.observe(&WAITS, start + 600 * MS), Some(Rung::SpeakerOnly));
        assert_eq!(video(&ladder, 0, 0), [None, Some(DropReason::LadderSpeakerOnly)]);
        assert_eq!(ladder.observe(&WAITS, start + 800 * MS), Some(Rung::AudioOnly));
        assert_eq!(ladder.observe(&WAITS, start + 1000 * MS), None);
        assert_eq!(ladder.refuses(last_rung(TrackKind::Screen, layer(0, 0), true)), Some(DropReason::LadderAudioOnly));
        assert_eq!(ladder.refuses(last_rung(TrackKind::Audio, layer(0, 0), false)), None);
        assert_eq!(ladder.refuses(last_rung(TrackKind::Data, layer(0, 0), false)), None);
    }

    //
    #[test]
    fn a_path_that_is_far_too_narrow_loses_two_rungs_at_once() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let wanted = [1500, 1100, 800, 800, 800, 64].map(|kbps| kbps * 1000);
        let squeezed = Pressure { growth: 150 * MS, bits_per_second: 300_000, wanted, ..CALM };
        assert_eq!(ladder.observe(&squeezed, start), Some(Rung::NoTemporal1));
        assert_eq!(ladder.observe(&squeezed, start + 100 * MS), Some(Rung::SpeakerOnly));
        assert_eq!(ladder.observe(&squeezed, start + 200 * MS), Some(Rung::AudioOnly));
        let mut ladder = Ladder::default();
        let tight = Pressure { bits_per_second: 1_300_000, ..squeezed };
        assert_eq!(ladder.observe(&tight, start), Some(Rung::NoTemporal2), "one is enough");
    }

    //
    #[test]
    fn buffers_that_drain_cost_no_further_rung() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let grown = |ms: u32| Pressure { growth: ms * MS, ..CALM };
        assert_eq!(ladder.observe(&grown(400), start), Some(Rung::NoTemporal2));
        for (tick, growth) in [(300, 350), (600, 250), (900, 150)] {
            assert_eq!(ladder.observe(&grown(growth), start + tick * MS), None);
        }
        assert_eq!(ladder.observe(&grown(200), start + 1200 * MS), Some(Rung::NoTemporal1), "they fill again");
    }

    //
    #[test]
    fn a_calm_path_climbs_back_within_ten_seconds_from_the_last_rung() {
        let start = Instant::now();
        let mut ladder = Ladder { up_after: UP_AFTER_MAX, ..Ladder::default() };
        for tick in 0..5u32 {
            ladder.observe(&WAITS, start + tick * 200 * MS);
        }
        assert_eq!(ladder.rung(), Rung::AudioOnly);
        let widened = start + 1000 * MS;
        let full = (0..200u32).find(|tick| ladder.observe(&CALM, widened + *tick * 50 * MS) == Some(Rung::Full));
        assert!(full.is_some(), "{:?} after 10 s", ladder.rung());
    }

    //
    #[test]
    fn a_path_that_is_just_too_narrow_for_everything_is_not_tried_every_two_seconds() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let mut climbs = Vec::new();
        // Full is too much: half a second after each climb something has waited too long.
        let mut trouble_at = start;
        for tick in 0..3000u32 {
            let now = start + tick * 20 * MS;
            let pressure = if now == trouble_at { WAITS } else { CALM };
            if ladder.observe(&pressure, now) == Some(Rung::Full) {
                climbs.push(now);
                trouble_at = now + 500 * MS;
            }
        }
        let waits: Vec<u64> = climbs.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(waits[..4], [4, 5, 5, 5]);
    }

    //
    #[test]
    fn a_step_up_that_needs_far_more_than_the_path_is_known_to_take_is_not_tried_early() {
        let start = Instant::now();
        let wanted = [1500, 1100, 800, 800, 800, 64].map(|kbps| kbps * 1000);
        let first_step = |bits_per_second| {
            let mut ladder = Ladder { rung: Rung::AudioOnly, moved: Some(start), ..Ladder::default() };
            let calm = Pressure { oldest: 5 * MS, bits_per_second, wanted, ..CALM };
            (0..1000u32).find(|tick| ladder.observe(&calm, start + *tick * 10 * MS).is_some())
        };
        assert_eq!(first_step(300_000), Some(500));
        assert_eq!(first_step(700_000), Some(200));
    }

    //
    #[test]
    fn trouble_on_the_last_rung_is_timed() {
        let start = Instant::now();
        let mut ladder = Ladder { rung: Rung::AudioOnly, ..Ladder::default() };
        ladder.observe(&WAITS, start);
        ladder.observe(&WAITS, start + 3000 * MS);
        assert_eq!(ladder.stuck(start + 3000 * MS), 3000 * MS);
        ladder.observe(&CALM, start + 4000 * MS);
        assert_eq!(ladder.stuck(start + 5000 * MS), Duration::ZERO);
    }
}
