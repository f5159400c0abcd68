//! What is heard, by what it is: a hum by its pitch, speech by its likeness to what was said, and when it comes.

/// Samples a second of all that is judged here.
pub(super) const RATE: usize = 48_000;

/// Samples of a window in which a hum is looked for: 100 ms.
const HUM_WINDOW: usize = RATE / 10;
/// Quieter than this is silence, of 32,767.
const SILENCE_RMS: f64 = 250.0;
/// Of the power in a window, so much must be the hum's.
const HUM_SHARE_MIN: f64 = 0.5;
/// Windows that must have it.
const HUMMING_MIN: f64 = 0.8;

/// Speech is compared by how loud it is, in steps of 5 ms: on its way to a loudspeaker it is played a little faster and slower,
/// so its waves are not those that were said.
const STEP: usize = RATE / 200;
const STEP_MS: f64 = 5.0;
const STEPS_PER_S: usize = 200;
/// Steps of a passage: 1 s, of which one begins each half second. In a longer one the delay changes too much, while a stock of sound
/// is worn down.
const PASSAGE: usize = STEPS_PER_S;
const PASSAGES_EVERY: usize = STEPS_PER_S / 2;
/// The delays that are tried, in steps: a tenth of a second too early, to see what is wrong, up to two and a half too late.
const DELAYS: std::ops::Range<i64> = -20..500;
/// From here on, two passages are the same words. Other words of the same voice seldom come so far.
const LIKENESS_MIN: f64 = 0.6;
/// Passages that must be heard: on a busy machine the sound has gaps.
const HEARD_MIN: f64 = 0.5;

/// Whether a hum of this pitch is what is heard for most of the time.
pub(super) fn is_hum(samples: &[i16], hz: f64, seconds_min: f64) -> bool {
    let windows = samples.chunks_exact(HUM_WINDOW);
    let (all, humming) = (windows.len(), windows.filter(|window| hums(window, hz)).count());
    samples.len() as f64 >= seconds_min * RATE as f64 && all > 0 && humming as f64 >= HUMMING_MIN * all as f64
}

/// By Goertzel.
fn hums(window: &[i16], hz: f64) -> bool {
    let step = 2.0 * std::f64::consts::PI * hz / RATE as f64;
    let (mut cosine, mut sine, mut power) = (0.0, 0.0, 0.0);
    for (at, sample) in window.iter().enumerate() {
        let sample = f64::from(*sample);
        cosine += sample * (step * at as f64).cos();
        sine += sample * (step * at as f64).sin();
        power += sample * sample;
    }
    let of_hum = 2.0 * (cosine * cosine + sine * sine) / window.len() as f64;
    (power / window.len() as f64).sqrt() > SILENCE_RMS && of_hum > HUM_SHARE_MIN * power
}

/// Sound, and when its first sample was said or heard, in milliseconds of one clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed<'a> {
    pub(super) samples: &'a [i16],
    pub(super) from_ms: f64,
}

/// What became of speech.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Speech {
    /// Passages in which something was said.
    pub(super) said: usize,
    /// How much later each of those was heard that were heard.
    pub(super) delays_ms: Vec<f64>,
}

impl Speech {
    /// Looks for each passage of the first `seconds` of what was said in what was heard.
    pub(super) fn follow(said: Timed<'_>, heard: Timed<'_>, seconds: u64) -> Self {
        let (loud_said, loud_heard) = (loudness(said.samples), loudness(heard.samples));
        let mut speech = Self::default();
        let played = loud_said.len().min(usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(STEPS_PER_S));
        for begin in (0..played).step_by(PASSAGES_EVERY) {
            let Some(passage) = loud_said[..played].get(begin..begin + PASSAGE) else { break };
            if passage.iter().sum::<f64>() / (PASSAGE as f64) < SILENCE_RMS {
                continue;
            }
            speech.said += 1;
            let at_ms = said.from_ms + begin as f64 * STEP_MS - heard.from_ms;
            let at = (at_ms / STEP_MS).round() as i64;
            let best = DELAYS
                .filter_map(|delay| {
                    let place = usize::try_from(at + delay).ok()?;
                    Some((place, likeness(passage, loud_heard.get(place..place + PASSAGE)?)))
                })
                .max_by(|(_, a), (_, b)| a.total_cmp(b));
            if let Some((place, likeness)) = best
                && likeness >= LIKENESS_MIN
            {
                speech.delays_ms.push(place as f64 * STEP_MS - at_ms);
            }
        }
        speech
    }

    pub(super) fn is_heard(&self) -> bool {
        self.said > 0 && self.delays_ms.len() as f64 >= HEARD_MIN * self.said as f64
    }

    /// Half of the passages were heard sooner.
    pub(super) fn delay_ms_p50(&self) -> Option<f64> {
        let mut sorted = self.delays_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Of each step.
fn loudness(samples: &[i16]) -> Vec<f64> {
    let power = |step: &[i16]| step.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / STEP as f64;
    samples.chunks_exact(STEP).map(|step| power(step).sqrt()).collect()
}

/// Pearson's correlation: 1 if they rise and fall together, however loud each is, 0 if they have nothing to do with each other.
fn likeness(one: &[f64], other: &[f64]) -> f64 {
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut of_one, mut of_other) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        both += a * b;
        of_one += a * a;
        of_other += b * b;
    }
    if of_one > 0.0 && of_other > 0.0 { both / (of_one * of_other).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hum(hz: f64, seconds: f64) -> Vec<i16> {
        let samples = (seconds * RATE as f64) as usize;
        (0..samples)
            .map(|at| (8000.0 * (2.0 * std::f64::consts::PI * hz * at as f64 / RATE as f64).sin()) as i16)
            .collect()
    }

    /// Something that is loud and quiet and never repeats.
    fn babble(seed: u64, seconds: usize) -> Vec<i16> {
        let mut state = seed;
        let mut level = 0.0;
        (0..seconds * RATE)
            .map(|at| {
                if at % 60 == 0 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    level = (state >> 40) as f64 / 2f64.powi(24) * 16_000.0 - 8_000.0;
                }
                level as i16
            })
            .collect()
    }

    #[test]
    fn a_hum_is_known_by_its_pitch_and_for_how_long_it_lasts() {
        assert!(is_hum(&hum(440.0, 3.0), 440.0, 2.0));
        assert!(!is_hum(&hum(620.0, 3.0), 440.0, 2.0), "another pitch");
        assert!(!is_hum(&hum(440.0, 1.0), 440.0, 2.0), "too short");
        assert!(!is_hum(&vec![0; 3 * RATE], 440.0, 2.0), "silence");
        assert!(!is_hum(&babble(1, 3), 440.0, 2.0), "speech");
        let mut broken = hum(440.0, 3.0);
        broken[RATE..2 * RATE].fill(0);
        assert!(!is_hum(&broken, 440.0, 2.0), "a third is missing");
        assert!(!is_hum(&[], 440.0, 0.0), "nothing");
    }

    #[test]
    fn speech_is_found_however_late_and_loud_it_is() {
        let said = babble(7, 5);
        let mut heard = vec![3; RATE * 180 / 1000];
        heard.extend(said.iter().map(|sample| sample / 3));
        let follow = |heard: &[i16], seconds| {
            // 180 ms of silence were heard first, and that from 20 ms after the first word was said.
            let said = Timed { samples: &said, from_ms: 1_000.0 };
            Speech::follow(said, Timed { samples: heard, from_ms: 1_020.0 }, seconds)
        };
        let found = follow(&heard, 5);
        assert_eq!((found.said, found.delays_ms.len()), (9, 9));
        assert!(found.delays_ms.iter().all(|delay| (delay - 200.0).abs() <= STEP_MS), "{:?}", found.delays_ms);
        assert!(found.is_heard() && found.delay_ms_p50().is_some_and(|delay| (delay - 200.0).abs() <= STEP_MS));
        assert_eq!(follow(&heard, 3).said, 5, "of what was to be played");

        assert!(!follow(&babble(8, 6), 5).is_heard(), "other words");
        assert!(!follow(&vec![0; 6 * RATE], 5).is_heard(), "silence");
        assert!(!follow(&[], 5).is_heard(), "nothing");
        heard[RATE / 2..5 * RATE].fill(0);
        assert!(!follow(&heard, 5).is_heard(), "most of it is missing");
        let silent = Timed { samples: &[0; 3 * RATE], from_ms: 0.0 };
        assert!(!Speech::follow(silent, silent, 3).is_heard(), "nothing was said");
    }
}
