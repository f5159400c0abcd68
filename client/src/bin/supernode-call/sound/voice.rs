//! One voice on its way to the loudspeaker: packets come in bursts, and samples leave evenly, by another clock than that of
//! whoever sent them. A little is kept in stock; by how much there is, it is played a little faster or slower, which nobody
//! hears. It waits for nothing and, once made, takes no memory.

/// Samples a second, everywhere here.
pub(super) const RATE: usize = 48_000;
const MS: usize = RATE / 1000;
/// Samples of a packet of ours: 20 ms.
pub(super) const PACKET: usize = 20 * MS;
/// The least stock: one packet that is lost is known to be lost when the next one is due, and is made up then.
const STOCK_MIN: f64 = (40 * MS) as f64;
const STOCK_MAX: f64 = (160 * MS) as f64;
/// More stock after each time that there was none when there should have been.
const STOCK_STEP: f64 = (10 * MS) as f64;
/// Silence that is longer was meant, or is a break that no stock bridges: no reason to keep more.
const MEANT: usize = 300 * MS;
/// After so long without running dry, a step's half goes, if that and so much more was never needed.
const CALM: usize = 10 * RATE;
const RESERVE: f64 = (10 * MS) as f64;
/// Above the wanted stock by so much, a packet's length is left out.
const MUCH: f64 = (60 * MS) as f64;
/// Above it by so much, all of it at once: something stood still.
const TOO_MUCH: f64 = (200 * MS) as f64;
/// The most by which it is played faster or slower: a twelfth of a semitone.
const BEND_MAX: f64 = 0.005;
/// How fast the stock's size is followed, with each period: it jumps by a packet fifty times a second, and that is to be seen
/// past.
const SMOOTHING: f64 = 0.02;
/// Where one thing goes over into another.
const BLEND: usize = 5 * MS;
const CAPACITY: usize = RATE;
/// What is read between samples looks at one before and two behind.
const AROUND: f64 = 4.0;

/// What happened to a voice since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VoiceFigures {
    /// How often there was nothing in stock in the middle of a talk.
    pub(super) dry: u64,
    /// Samples that were left out because too many were in stock.
    pub(super) skipped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Voice {
    ring: Box<[f32]>,
    /// Samples written and read since the beginning; what is read is between two of them.
    written: u64,
    read: f64,
    is_playing: bool,
    wanted: f64,
    smooth: f64,
    /// Samples since it ran dry, while it is, and while it is not.
    silent: usize,
    calm: usize,
    /// The least stock of the calm.
    lowest: f64,
    /// Samples of a blend that are still to come, and where it comes from: another place in the ring, or the last sample heard.
    blend: usize,
    from: Option<f64>,
    last: f32,
    figures: VoiceFigures,
}

impl Voice {
    pub(super) fn new() -> Self {
        Self {
            ring: vec![0.0; CAPACITY].into_boxed_slice(),
            written: 0,
            read: 0.0,
            is_playing: false,
            wanted: STOCK_MIN,
            smooth: STOCK_MIN,
            silent: MEANT,
            calm: 0,
            lowest: f64::INFINITY,
            blend: 0,
            from: None,
            last: 0.0,
            figures: VoiceFigures::default(),
        }
    }

    /// Sound came, of any length.
    pub(super) fn push(&mut self, samples: &[f32]) {
        for sample in samples {
            self.ring[(self.written % CAPACITY as u64) as usize] = *sample;
            self.written += 1;
        }
        let beyond = self.stock() - (CAPACITY as f64 - AROUND);
        if beyond > 0.0 {
            self.leave_out(beyond.ceil());
        }
    }

    /// Adds what is to be heard now.
    pub(super) fn add_to(&mut self, out: &mut [f32]) {
        if !self.is_playing && self.stock() >= self.wanted {
            self.begin();
        }
        self.smooth += (self.stock() - self.smooth) * SMOOTHING;
        if self.is_playing && self.blend == 0 {
            let beyond = self.stock() - self.wanted;
            if beyond > TOO_MUCH {
                self.leave_out(beyond);
                self.smooth = self.wanted;
            } else if self.smooth > self.wanted + MUCH {
                let much = beyond.clamp(0.0, PACKET as f64);
                self.leave_out(much);
                self.smooth -= much;
            }
        }
        let bend = (self.smooth - self.wanted) / (RATE / 2) as f64;
        let step = 1.0 + bend.clamp(-BEND_MAX, BEND_MAX);
        for sample in out.iter_mut() {
            *sample += self.next(step);
        }
        self.grow_calm(out.len());
    }

    /// Whether anything is heard.
    pub(super) fn is_playing(&self) -> bool {
        self.is_playing
    }

    pub(super) fn figures(&self) -> VoiceFigures {
        self.figures
    }

    fn stock(&self) -> f64 {
        self.written as f64 - self.read
    }

    fn begin(&mut self) {
        self.is_playing = true;
        self.smooth = self.stock();
        self.blend = BLEND;
        self.from = None;
        if self.silent < MEANT {
            self.figures.dry += 1;
            self.wanted = (self.wanted + STOCK_STEP).min(STOCK_MAX);
            self.look_anew();
        }
    }

    fn next(&mut self, step: f64) -> f32 {
        if self.is_playing && self.stock() < AROUND {
            self.is_playing = false;
            self.silent = 0;
            self.blend = BLEND;
        }
        if !self.is_playing {
            self.silent = self.silent.saturating_add(1);
            return self.fade();
        }
        let mut sample = self.between(self.read);
        self.read += step;
        if self.blend > 0 {
            let share = self.blend as f32 / BLEND as f32;
            let before = match &mut self.from {
                Some(from) => {
                    let at = *from;
                    *from += step;
                    self.between(at)
                }
                None => self.last,
            };
            sample += (before - sample) * share;
            self.blend -= 1;
        }
        if self.blend == 0 || self.from.is_some() {
            self.last = sample;
        }
        sample
    }

    /// What is heard last goes to nothing, without a click.
    fn fade(&mut self) -> f32 {
        if self.blend == 0 {
            self.last = 0.0;
            return 0.0;
        }
        self.blend -= 1;
        self.last * (self.blend as f32 / BLEND as f32)
    }

    /// Goes on so many samples later.
    fn leave_out(&mut self, samples: f64) {
        self.from = Some(self.read);
        self.blend = BLEND;
        self.read += samples;
        self.figures.skipped += samples as u64;
    }

    fn grow_calm(&mut self, samples: usize) {
        self.calm += samples;
        self.lowest = self.lowest.min(self.stock());
        if self.calm >= CALM {
            if self.lowest > STOCK_STEP / 2.0 + RESERVE {
                self.wanted = (self.wanted - STOCK_STEP / 2.0).max(STOCK_MIN);
            }
            self.look_anew();
        }
    }

    fn look_anew(&mut self) {
        self.calm = 0;
        self.lowest = f64::INFINITY;
    }

    /// Between samples, by the cubic through the four around (Catmull-Rom).
    fn between(&self, at: f64) -> f32 {
        let (whole, part) = (at.floor() as u64, at.fract() as f32);
        let sample = |place: u64| self.ring[(place % CAPACITY as u64) as usize];
        let (a, b) = (sample(whole.saturating_sub(1)), sample(whole));
        let (c, d) = (sample(whole + 1), sample(whole + 2));
        b + 0.5 * part * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: usize = 10 * MS;

    fn tone(from: usize, samples: usize) -> Vec<f32> {
        let sample = |at: usize| (at as f64 * 440.0 * std::f64::consts::TAU / RATE as f64).sin() * 0.5;
        (from..from + samples).map(|at| sample(at) as f32).collect()
    }

    /// Pushes a tone as it comes, a packet each 20 ms that `comes` says yes to, and plays it by a clock that is faster than
    /// the sender's by `faster`.
    fn play(seconds: usize, faster: f64, comes: impl Fn(usize) -> usize) -> (Vec<f32>, Voice) {
        let (mut voice, mut heard) = (Voice::new(), Vec::new());
        let mut pushed = 0;
        for period in 0..(seconds * 100) {
            let now = (period as f64 / (1.0 + faster) / 2.0) as usize;
            for _ in 0..comes(now).saturating_sub(pushed) {
                voice.push(&tone(pushed * PACKET, PACKET));
                pushed += 1;
            }
            let mut out = vec![0.0; PERIOD];
            voice.add_to(&mut out);
            heard.extend(out);
        }
        (heard, voice)
    }

    /// Windows of 10 ms that are not as loud as the tone.
    fn gaps(heard: &[f32]) -> usize {
        let quiet = |window: &&[f32]| {
            let power: f32 = window.iter().map(|sample| sample * sample).sum::<f32>() / window.len() as f32;
            !(0.25..0.45).contains(&power.sqrt())
        };
        heard.chunks_exact(PERIOD).filter(quiet).count()
    }

    fn crossings(heard: &[f32]) -> usize {
        heard.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count()
    }

    /// Steeper than the tone is anywhere is a click.
    fn steepest(heard: &[f32]) -> f32 {
        heard.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn an_even_voice_is_heard_whole_after_the_stock_is_there() {
        let (heard, voice) = play(10, 0.0, |now| now + 1);
        let after = &heard[RATE / 10..];
        assert_eq!(gaps(after), 0);
        assert!(heard.iter().position(|sample| *sample != 0.0).is_some_and(|at| at <= 60 * MS));
        assert!(crossings(after).abs_diff(4356) <= 5, "440 Hz for 9.9 s: {}", crossings(after));
        assert!(steepest(&heard) < 0.04, "{}", steepest(&heard));
        assert_eq!(voice.figures(), VoiceFigures::default());
    }

    #[test]
    fn another_clock_is_followed_for_minutes_without_a_gap() {
        for faster in [0.001, -0.001] {
            let (heard, voice) = play(300, faster, |now| now + 1);
            assert_eq!(gaps(&heard[RATE / 10..]), 0, "{faster}");
            assert_eq!(voice.figures(), VoiceFigures::default(), "{faster}");
            assert!(voice.stock() < STOCK_MIN + MUCH, "{faster}: {}", voice.stock());
            assert!(steepest(&heard) < 0.04, "{faster}: {}", steepest(&heard));
        }
    }

    #[test]
    fn whoever_comes_unevenly_is_kept_in_larger_stock_and_no_longer_runs_dry() {
        // All that is of 120 ms comes at once.
        let (heard, voice) = play(120, 0.0, |now| now / 6 * 6 + 1);
        assert_eq!(gaps(&heard[60 * RATE..]), 0, "{:?}", voice.figures());
        assert!((1..20).contains(&voice.figures().dry), "{:?}", voice.figures());
        assert!(voice.wanted > STOCK_MIN && voice.wanted <= STOCK_MAX);
    }

    #[test]
    fn silence_that_is_meant_costs_no_delay_and_makes_no_click() {
        // Half a second in each two is not sent.
        let sent = |now: usize| now / 100 * 75 + (now % 100).min(75);
        let (heard, voice) = play(20, 0.0, sent);
        assert_eq!((voice.wanted, voice.figures().dry), (STOCK_MIN, 0));
        assert!(steepest(&heard) < 0.04, "{}", steepest(&heard));
        let silent = heard.iter().filter(|sample| **sample == 0.0).count();
        assert!(silent > 4 * RATE, "{silent}");
    }

    #[test]
    fn what_came_in_a_heap_is_made_up_for_within_a_second() {
        let (heard, voice) = play(10, 0.0, |now| now + 1 + if now > 100 { 20 } else { 0 });
        assert!(voice.stock() < STOCK_MIN + MUCH + PACKET as f64, "{}", voice.stock());
        assert!(voice.figures().skipped >= 300 * MS as u64, "{:?}", voice.figures());
        assert_eq!(gaps(&heard[5 * RATE..]), 0);
    }

    #[test]
    fn more_than_there_is_place_for_is_left_out_and_the_newest_is_kept() {
        let mut voice = Voice::new();
        voice.push(&tone(0, 3 * RATE));
        assert!(voice.stock() <= CAPACITY as f64);
        let mut out = vec![0.0; PERIOD];
        voice.add_to(&mut out);
        assert!(out.iter().all(|sample| sample.abs() <= 0.51));
        assert!(voice.is_playing() && voice.figures().skipped >= 2 * RATE as u64);
    }
}
