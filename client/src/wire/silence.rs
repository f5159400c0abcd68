//! Tells a relay that is gone from one that has nothing to say: a relay acknowledges what we ask it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quinn::FrameStats;

use crate::{Error, wire::link::Link};

/// How often we look.
const TICK: Duration = Duration::from_millis(250);
/// The most that passes between two looks of a client that runs. Of a longer time we know nothing: this machine stood
/// still.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// The time of day runs ahead of our own clock by more than this when the machine has slept, or somebody set it.
const SLEPT_MIN: Duration = Duration::from_secs(2);
/// We ask for the first time after a quarter of the longest silence, and then again and again: one packet may be lost,
/// and QUIC's own probes become rare soon.
const ASK_AFTER: u32 = 4;
const ASK_EVERY: u32 = 8;

/// Waits until the relay has left our questions unanswered for `silence_max`. QUIC's own idle timeout is longer than
/// anybody in a call waits.
pub(crate) async fn watch(link: &Link, silence_max: Duration) -> Error {
    let mut silence = Silence::new(silence_max);
    let mut ticks = tokio::time::interval(TICK);
    // After a standstill of this machine, what came meanwhile is read before the next look.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = link.connection.stats();
        let seen = Seen { heard: stats.udp_rx.datagrams, asked: asked(&stats.frame_tx) };
        match silence.look(Moment::now(), seen) {
            Verdict::Sound => {}
            // An empty datagram says nothing and is acknowledged. quinn has no call for a PING.
            Verdict::Ask => drop(link.connection.send_datagram(Bytes::new())),
            Verdict::Gone => return Error::TimedOut("what we asked the relay"),
        }
    }
}

/// How many frames we have sent that must be acknowledged (RFC 9000 section 13.2.1). An acknowledgement of ours is no
/// question: nobody answers it.
fn asked(sent: &FrameStats) -> u64 {
    [
        sent.ack_frequency,
        sent.crypto,
        sent.data_blocked,
        sent.datagram,
        sent.immediate_ack,
        sent.max_data,
        sent.max_stream_data,
        sent.max_streams_bidi,
        sent.max_streams_uni,
        sent.new_connection_id,
        sent.path_challenge,
        sent.path_response,
        sent.ping,
        sent.reset_stream,
        sent.retire_connection_id,
        sent.stop_sending,
        sent.stream,
        sent.stream_data_blocked,
        sent.streams_blocked_bidi,
        sent.streams_blocked_uni,
    ]
    .iter()
    .sum()
}

/// One moment on both clocks: our own may stand still while the machine sleeps, the time of day goes on.
#[derive(Debug, Clone, Copy)]
struct Moment {
    instant: Instant,
    /// Since 1970.
    unix: Duration,
}

impl Moment {
    fn now() -> Self {
        Self { instant: Instant::now(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

/// What a connection has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Packets from the relay.
    heard: u64,
    /// Frames to it that it must acknowledge.
    asked: u64,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The relay answers, or was not asked.
    Sound,
    /// It is time to ask.
    Ask,
    /// It did not answer for too long.
    Gone,
}

/// What was counted when something last arrived, and how long questions have been open since.
#[derive(Debug)]
struct Silence {
    max: Duration,
    looked: Option<Moment>,
    last: Seen,
    open_for: Duration,
    ask_at: Duration,
}

impl Silence {
    fn new(max: Duration) -> Self {
        Self { max, looked: None, last: Seen::default(), open_for: Duration::ZERO, ask_at: max / ASK_AFTER }
    }

    fn look(&mut self, now: Moment, seen: Seen) -> Verdict {
        let before = self.looked.replace(now).unwrap_or(now);
        let passed = now.instant.saturating_duration_since(before.instant);
        let slept = now.unix.saturating_sub(before.unix).saturating_sub(passed) > SLEPT_MIN;
        if seen.heard != self.last.heard {
            (self.last, self.open_for, self.ask_at) = (seen, Duration::ZERO, self.max / ASK_AFTER);
        } else if seen.asked > self.last.asked {
            self.open_for += passed.min(LOOK_MAX);
        }
        if self.open_for >= self.max {
            return Verdict::Gone;
        }
        // Whoever slept for longer than the relay keeps a silent client wants to know at once.
        if slept || passed > LOOK_MAX {
            return Verdict::Ask;
        }
        if self.open_for >= self.ask_at {
            self.ask_at += self.max / ASK_EVERY;
            return Verdict::Ask;
        }
        Verdict::Sound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const MAX: Duration = Duration::from_secs(6);
    const KEEP_ALIVE_MS: u64 = 10_000;
    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A client whose packets a relay acknowledges after a round trip, if neither is lost, and which sends a question
    /// again and again as QUIC does: after one probe timeout, two, four.
    struct World {
        rng: StdRng,
        loss: f64,
        rtt_ms: u64,
        relay_lives: bool,
        seen: Seen,
        coming: VecDeque<u64>,
        keep_alive_at: u64,
        probe_at: Option<u64>,
        probe_ms: u64,
    }

    impl World {
        fn new(seed: u64, loss: f64, rtt_ms: u64) -> Self {
            Self {
                rng: StdRng::seed_from_u64(seed),
                loss,
                rtt_ms,
                relay_lives: true,
                seen: Seen::default(),
                coming: VecDeque::new(),
                keep_alive_at: KEEP_ALIVE_MS,
                probe_at: None,
                probe_ms: 3 * rtt_ms + 25,
            }
        }

        fn ask(&mut self, at: u64) {
            self.seen.asked += 1;
            let through = self.relay_lives && !self.rng.random_bool(self.loss) && !self.rng.random_bool(self.loss);
            if through {
                self.coming.push_back(at + self.rtt_ms);
            }
            self.probe_at.get_or_insert(at + self.probe_ms);
        }

        fn step(&mut self, at: u64) {
            while self.coming.front().is_some_and(|arrives| *arrives <= at) {
                self.coming.pop_front();
                self.seen.heard += 1;
                (self.probe_at, self.probe_ms) = (None, 3 * self.rtt_ms + 25);
                self.keep_alive_at = at + KEEP_ALIVE_MS;
            }
            // Now and then the relay has something to tell, of which we only acknowledge the receipt.
            if self.relay_lives && self.rng.random_bool(0.001) {
                self.coming.push_back(at + self.rtt_ms / 2);
            }
            if self.probe_at.is_some_and(|due| due <= at) {
                self.probe_at = None;
                self.probe_ms *= 2;
                self.ask(at);
            }
            if self.keep_alive_at <= at {
                self.keep_alive_at = at + KEEP_ALIVE_MS;
                self.ask(at);
            }
        }
    }

    #[test]
    fn acknowledgements_of_ours_are_no_questions_whenever_we_look() {
        let mut silence = Silence::new(MAX);
        for tick in 0..4 * 3600 {
            let now = Moment { instant: Instant::now() + TICK * tick, unix: TICK * tick };
            // The relay's last packet has come, our acknowledgement of it may be on its way: no frame asks anything.
            assert_eq!(silence.look(now, Seen { heard: 7, asked: 3 }), Verdict::Sound);
        }
    }

    #[test]
    fn through_a_day_of_losses_and_sleep_nobody_leaves_a_relay_that_is_there() {
        for (seed, loss, rtt_ms) in [(1, 0.0, 1), (2, 0.1, 20), (3, 0.1, 300), (4, 0.05, 1_500)] {
            let mut world = World::new(seed, loss, rtt_ms);
            let mut silence = Silence::new(MAX);
            let start = Instant::now();
            // While the machine sleeps, its own clock stands still or not.
            let (mut at, mut asleep_ms, mut questions) = (0, 0, 0);
            while at < DAY_MS {
                at += TICK.as_millis() as u64;
                if world.rng.random_bool(0.0003) {
                    let sleep_ms = world.rng.random_range(1_000..8 * 3600 * 1000);
                    asleep_ms += sleep_ms;
                    at += if world.rng.random_bool(0.5) { 0 } else { sleep_ms };
                    // What was under way is lost, and the relay has forgotten nobody in this world.
                    world.coming.clear();
                }
                world.step(at);
                let now = Moment { instant: start + ms(at), unix: ms(at + asleep_ms) };
                match silence.look(now, world.seen) {
                    Verdict::Sound => {}
                    Verdict::Ask => {
                        questions += 1;
                        world.ask(at);
                    }
                    Verdict::Gone => panic!("seed {seed} left a relay that is there after {at} ms"),
                }
            }
            assert!(questions < 5_000, "{questions} questions in a day");
        }
    }

    #[test]
    fn a_relay_that_is_gone_is_found_out_six_seconds_after_the_first_question() {
        for rtt_ms in [1, 100, 1_500] {
            let mut world = World::new(9, 0.0, rtt_ms);
            world.relay_lives = false;
            let mut silence = Silence::new(MAX);
            let start = Instant::now();
            let mut asked = 0;
            let gone_at = (0..).map(|tick| tick * TICK.as_millis() as u64).find(|&at| {
                world.step(at);
                let verdict = silence.look(Moment { instant: start + ms(at), unix: ms(at) }, world.seen);
                asked += u32::from(verdict == Verdict::Ask);
                verdict == Verdict::Gone
            });
            let gone_at = gone_at.expect("it ends");
            let bounds = KEEP_ALIVE_MS + 5_750..=KEEP_ALIVE_MS + 6_500;
            assert!(bounds.contains(&gone_at), "after {gone_at} ms at {rtt_ms} ms");
            assert!(asked >= 5, "it was asked {asked} times before");
        }
    }

    #[test]
    fn who_wakes_asks_at_once() {
        let mut silence = Silence::new(MAX);
        let start = Instant::now();
        let mut look = |ran_ms, unix_ms| {
            silence.look(Moment { instant: start + ms(ran_ms), unix: ms(unix_ms) }, Seen { heard: 1, asked: 1 })
        };
        assert_eq!([look(0, 0), look(250, 250)], [Verdict::Sound; 2]);
        assert_eq!(look(500, 45_500), Verdict::Ask, "the machine's own clock stood still");
        assert_eq!(look(45_750, 90_750), Verdict::Ask, "or went on");
        assert_eq!(look(46_000, 91_000), Verdict::Sound);
    }
}
