//! Frames in order and in time, for whoever plays them: the network brings them unevenly, the ear wants them evenly.
//!
//! Each frame is due at its place on the track's time line plus a delay. The delay is what the late ones of the last
//! seconds needed, within stated bounds: a quiet network costs little, an uneven one is waited for. Whatever is not here
//! when the next frame is due counts as missing, and the decoder conceals it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use supernode_proto::object::Flags;
use supernode_session::Moment;

use crate::Frame;

/// Frames whose lateness decides the delay: five seconds of audio.
const OBSERVED: usize = 250;
/// The first of them wait for whoever listens to have begun, and not for the network: they count until as many came after
/// them. One second of audio.
const BEGINNING: usize = 50;
/// So many in a hundred of them are to come in time.
const IN_TIME_PERCENT: usize = 98;
/// Beyond what they needed.
const MARGIN_US: u64 = 5_000;
/// More frames than this do not wait, whatever their time: ten seconds of audio.
const WAITING_MAX: usize = 512;
/// No gap counts for more: numbers are the publisher's word.
const GAP_MAX: u64 = 1 << 20;

/// Between which delays a [`JitterBuffer`] chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayBounds {
    /// Even on a network without jitter. Default 20 ms, one packet.
    pub min: Duration,
    /// However uneven the network: what is later is lost. Default 400 ms, the most that a talk bears.
    pub max: Duration,
}

impl Default for DelayBounds {
    fn default() -> Self {
        Self { min: Duration::from_millis(20), max: Duration::from_millis(400) }
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Playout {
    /// It is this frame's time.
    Frame(Frame),
    /// So many frames before the next one did not come in time: conceal them.
    Missing(u64),
    /// The next frame is due then.
    Wait(Moment),
    /// Nothing is here.
    Empty,
}

/// Frames of one track, waiting for their time. Calls must pass times that never go back.
#[derive(Debug)]
pub struct JitterBuffer {
    bounds: DelayBounds,
    waiting: BTreeMap<(u64, u64), Frame>,
    /// Group and object that come next; a frame that ends its group, as each of audio does, is followed by a group.
    next: Option<(u64, u64)>,
    /// When the time line's zero would have to be played so that the fastest frame of late was played as it came.
    fastest: Fastest,
    lateness_us: VecDeque<u64>,
    is_beginning: bool,
    target: Duration,
    late: u64,
    missing: u64,
}

impl JitterBuffer {
    /// An empty one.
    pub fn new(bounds: DelayBounds) -> Self {
        Self {
            bounds,
            waiting: BTreeMap::new(),
            next: None,
            fastest: Fastest::default(),
            lateness_us: VecDeque::with_capacity(OBSERVED),
            is_beginning: true,
            target: bounds.min,
            late: 0,
            missing: 0,
        }
    }

    /// A frame arrived.
    pub fn push(&mut self, frame: Frame, now: Moment) {
        let place = (frame.group, frame.object);
        let lateness_us = self.fastest.lateness_us(frame.times.presentation_us, now);
        if self.lateness_us.len() == OBSERVED {
            self.lateness_us.pop_front();
        }
        self.lateness_us.push_back(lateness_us);
        if self.is_beginning && self.lateness_us.len() == 2 * BEGINNING {
            self.is_beginning = false;
            self.lateness_us.drain(..BEGINNING);
        }
        self.target = self.wanted_delay();
        if self.next.is_some_and(|next| place < next) {
            self.late += 1;
        } else {
            self.waiting.insert(place, frame);
        }
    }

    /// What is to be played now.
    pub fn next(&mut self, now: Moment) -> Playout {
        let Some((&(group, object), frame)) = self.waiting.first_key_value() else { return Playout::Empty };
        let due = self.fastest.moment(frame.times.presentation_us, now) + self.target;
        if now < due && self.waiting.len() <= WAITING_MAX {
            return Playout::Wait(due);
        }
        let gap = match self.next {
            Some((next, 0)) if group > next => (group - next).min(GAP_MAX),
            _ => 0,
        };
        if gap > 0 {
            self.missing += gap;
            self.next = Some((group, 0));
            return Playout::Missing(gap);
        }
        let (_, frame) = self.waiting.pop_first().expect("it was just looked at");
        let ends_group = frame.flags.contains(Flags::END_OF_GROUP);
        self.next = Some(if ends_group { (group.saturating_add(1), 0) } else { (group, object.saturating_add(1)) });
        Playout::Frame(frame)
    }

    /// Whether everything before this group was played or given up.
    pub fn has_played_to(&self, group: u64) -> bool {
        self.waiting.is_empty() && self.next.is_some_and(|(next, _)| next >= group)
    }

    /// The next frame, whatever its time.
    pub fn pop_first(&mut self) -> Option<Frame> {
        self.waiting.pop_first().map(|(_, frame)| frame)
    }

    /// How long after the fastest way a frame is played, for now.
    pub fn target(&self) -> Duration {
        self.target
    }

    /// Frames that came after their time.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Frames that were not here in time.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    fn wanted_delay(&self) -> Duration {
        let mut sorted: Vec<u64> = self.lateness_us.iter().copied().collect();
        let rank = (sorted.len() * IN_TIME_PERCENT).div_ceil(100).saturating_sub(1);
        let (_, wanted, _) = sorted.select_nth_unstable(rank);
        Duration::from_micros(wanted.saturating_add(MARGIN_US)).clamp(self.bounds.min, self.bounds.max)
    }
}

/// The fastest way of late: by two half windows, so that a clock that drifts or a path that grew longer is forgotten.
#[derive(Debug, Default)]
struct Fastest {
    /// Of this half and the one before: when the time line's zero would have been.
    zeros: [Option<Zero>; 2],
    counted: usize,
}

/// A moment as an offset from another that came first: a time line may begin long before this machine did.
#[derive(Debug, Clone, Copy)]
struct Zero {
    arrival: Moment,
    presentation_us: u64,
}

impl Zero {
    /// How much later than this one says, in microseconds; negative if earlier.
    fn lateness_us(&self, presentation_us: u64, now: Moment) -> i128 {
        let passed = now.since(self.arrival).as_micros() as i128;
        passed - (i128::from(presentation_us) - i128::from(self.presentation_us))
    }
}

impl Fastest {
    /// By how much a frame is later than the fastest, which it may be itself.
    fn lateness_us(&mut self, presentation_us: u64, now: Moment) -> u64 {
        self.counted += 1;
        if self.counted > OBSERVED {
            self.counted = 1;
            self.zeros = [None, self.zeros[0]];
        }
        let zero = Zero { arrival: now, presentation_us };
        if self.zeros[0].is_none_or(|fastest| fastest.lateness_us(presentation_us, now) < 0) {
            self.zeros[0] = Some(zero);
        }
        let lateness = self.fastest().map_or(0, |fastest| fastest.lateness_us(presentation_us, now));
        u64::try_from(lateness.max(0)).unwrap_or(u64::MAX)
    }

    /// When the fastest way would have brought a frame.
    fn moment(&self, presentation_us: u64, now: Moment) -> Moment {
        let Some(Zero { arrival, presentation_us: reference }) = self.fastest() else { return now };
        match presentation_us.checked_sub(reference) {
            Some(after) => arrival + Duration::from_micros(after.min(MOMENT_US_MAX)),
            None => arrival.before(Duration::from_micros(reference - presentation_us)),
        }
    }

    fn fastest(&self) -> Option<Zero> {
        let [this, before] = self.zeros;
        match (this, before) {
            (Some(this), Some(before)) => {
                Some(if before.lateness_us(this.presentation_us, this.arrival) < 0 { this } else { before })
            }
            (this, before) => this.or(before),
        }
    }
}

/// Times are the publisher's word: a frame for the far future does not overflow.
const MOMENT_US_MAX: u64 = 24 * 3_600_000_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use supernode_proto::object::Layer;

    use super::*;
    use crate::FrameTimes;

    const PACKET: Duration = Duration::from_millis(20);

    fn frame(number: u64) -> Frame {
        let times = FrameTimes { captured_at_us: 0, presentation_us: number * 20_000 };
        let flags = Flags::INDEPENDENT | Flags::END_OF_GROUP;
        Frame { group: number, object: 0, flags, layer: Layer::default(), times, payload: Bytes::new() }
    }

    /// Plays what arrives at these milliseconds: (frame, played at) and how often something was missing.
    fn play(arrivals: &[(u64, u64)], bounds: DelayBounds) -> (Vec<(u64, u64)>, u64, JitterBuffer) {
        let start = Moment::at(Duration::from_secs(3600));
        let mut buffer = JitterBuffer::new(bounds);
        let (mut played, mut missing) = (Vec::new(), 0);
        let end = arrivals.iter().map(|(_, at)| at).max().copied().unwrap_or(0) + 2_000;
        for ms in 0..=end {
            let now = start + Duration::from_millis(ms);
            for (number, _) in arrivals.iter().filter(|(_, at)| *at == ms) {
                buffer.push(frame(*number), now);
            }
            loop {
                match buffer.next(now) {
                    Playout::Frame(frame) => played.push((frame.group, ms)),
                    Playout::Missing(frames) => missing += frames,
                    Playout::Wait(_) | Playout::Empty => break,
                }
            }
        }
        (played, missing, buffer)
    }

    #[test]
    fn an_even_stream_is_played_evenly_at_the_least_delay() {
        let arrivals: Vec<_> = (0..100).map(|number| (number, number * 20)).collect();
        let (played, missing, buffer) = play(&arrivals, DelayBounds::default());
        let expected: Vec<_> = (0..100).map(|number| (number, number * 20 + 20)).collect();
        assert_eq!((played, missing, buffer.late()), (expected, 0, 0));
        assert_eq!(buffer.target(), Duration::from_millis(20));
    }

    #[test]
    fn an_uneven_stream_is_played_in_order_and_evenly_once_its_lateness_is_known() {
        // Every fifth packet is 60 ms late and overtaken by two others.
        let late = |number: u64| if number % 5 == 4 { 60 } else { 0 };
        let arrivals: Vec<_> = (0..200).map(|number| (number, number * 20 + late(number))).collect();
        let (played, _, buffer) = play(&arrivals, DelayBounds::default());
        assert!(played.is_sorted());
        assert_eq!(buffer.target(), Duration::from_millis(65));
        let settled: Vec<u64> = played.windows(2).skip(20).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(settled.iter().all(|gap| *gap == PACKET.as_millis() as u64), "{settled:?}");
        assert!(buffer.late() <= 1, "the first that was late showed how late they come");
    }

    #[test]
    fn a_rough_start_is_forgotten_within_two_seconds() {
        // Whoever listens takes the first at once, and needs 600 ms before the second is taken.
        let taken = |number: u64| if number == 0 { 0 } else { (number * 20).max(600) };
        let arrivals: Vec<_> = (0..200).map(|number| (number, taken(number))).collect();
        let delay_ms = |count: usize| play(&arrivals[..count], DelayBounds::default()).2.target().as_millis();
        assert_eq!((delay_ms(60), delay_ms(100)), (400, 20));
        let (played, missing, _) = play(&arrivals, DelayBounds::default());
        assert!(played.is_sorted() && played.len() as u64 + missing == 200);
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up_when_the_next_is_due() {
        let arrivals: Vec<_> = (0..50).filter(|number| ![10, 11, 30].contains(number)).map(|n| (n, n * 20)).collect();
        let (played, missing, buffer) = play(&arrivals, DelayBounds::default());
        assert_eq!((played.len(), missing, buffer.missing()), (47, 3, 3));
        assert_eq!(played[10], (12, 12 * 20 + 20), "the gap costs no delay");
    }

    #[test]
    fn what_is_later_than_the_bound_is_late_and_not_played() {
        let bounds = DelayBounds { min: PACKET, max: Duration::from_millis(100) };
        let mut arrivals: Vec<_> = (0..50).map(|number| (number, number * 20)).collect();
        arrivals[20].1 += 500;
        let (played, missing, buffer) = play(&arrivals, bounds);
        assert_eq!((played.len(), missing, buffer.late()), (49, 1, 1));
        assert!(buffer.target() <= bounds.max);
    }

    #[test]
    fn a_path_that_grew_longer_is_the_new_measure_after_a_while() {
        let shift = |number: u64| if number < 300 { 0 } else { 80 };
        let arrivals: Vec<_> = (0..1_200).map(|number| (number, number * 20 + shift(number))).collect();
        let (_, _, buffer) = play(&arrivals, DelayBounds::default());
        assert_eq!(buffer.target(), Duration::from_millis(20), "all are equally late: nobody is");
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Moment::at(Duration::from_secs(3600));
        let mut buffer = JitterBuffer::new(DelayBounds::default());
        (0..2_000).for_each(|number| buffer.push(frame(number), now));
        let mut played = 0;
        while let Playout::Frame(_) | Playout::Missing(_) = buffer.next(now) {
            played += 1;
        }
        assert!(2_000 - played <= WAITING_MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_numbers_and_times_make_it_panic_and_what_is_played_is_sorted(
            frames in proptest::collection::vec((0u64..40, 0u64..u64::MAX, 0u64..300), 1..80),
        ) {
            let start = Moment::at(Duration::from_secs(3600));
            let mut buffer = JitterBuffer::new(DelayBounds::default());
            let (mut played, mut ms) = (Vec::new(), 0);
            for (number, presentation_us, pause) in frames {
                ms += pause;
                let now = start + Duration::from_millis(ms);
                let mut odd = frame(number);
                odd.times.presentation_us = presentation_us;
                buffer.push(odd, now);
                loop {
                    match buffer.next(now) {
                        Playout::Frame(frame) => played.push(frame.group),
                        Playout::Missing(_) => {}
                        Playout::Wait(_) | Playout::Empty => break,
                    }
                }
            }
            assert!(played.is_sorted());
        }
    }
}
