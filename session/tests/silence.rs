//! A relay that is gone, and one that has nothing to say, through days of losses and sleep.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use supernode_session::{Clocks, Moment, Seen, Silence, Verdict};

const TICK: Duration = Silence::LOOK_EVERY;
const MAX: Duration = Duration::from_secs(4);
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
        let now = Clocks { moment: Moment::at(TICK * tick), unix: TICK * tick };
        // The relay's last packet has come, our acknowledgement of it may be on its way: no frame asks anything.
        assert_eq!(silence.look(now, Seen { heard: 7, asked: 3 }), Verdict::Sound);
    }
}

#[test]
fn through_a_day_of_losses_and_sleep_none_of_forty_clients_leaves_a_relay_that_is_there() {
    let paths = [(0.0, 1), (0.1, 20), (0.1, 300), (0.05, 1_500)].into_iter().cycle();
    for (seed, (loss, rtt_ms)) in (1..=40).zip(paths) {
        let mut world = World::new(seed, loss, rtt_ms);
        let mut silence = Silence::new(MAX);
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
            let now = Clocks { moment: Moment::at(ms(at)), unix: ms(at + asleep_ms) };
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
fn a_relay_that_is_gone_is_found_out_four_seconds_after_the_first_question() {
    for rtt_ms in [1, 100, 1_500] {
        let mut world = World::new(9, 0.0, rtt_ms);
        world.relay_lives = false;
        let mut silence = Silence::new(MAX);
        let mut asked = 0;
        let gone_at = (0..).map(|tick| tick * TICK.as_millis() as u64).find(|&at| {
            world.step(at);
            let verdict = silence.look(Clocks { moment: Moment::at(ms(at)), unix: ms(at) }, world.seen);
            asked += u32::from(verdict == Verdict::Ask);
            verdict == Verdict::Gone
        });
        let gone_at = gone_at.expect("it ends");
        let bounds = KEEP_ALIVE_MS + 3_750..=KEEP_ALIVE_MS + 4_500;
        assert!(bounds.contains(&gone_at), "after {gone_at} ms at {rtt_ms} ms");
        assert!(asked >= 5, "it was asked {asked} times before");
    }
}

#[test]
fn who_wakes_asks_at_once() {
    let mut silence = Silence::new(MAX);
    let mut look = |ran_ms, unix_ms| {
        silence.look(Clocks { moment: Moment::at(ms(ran_ms)), unix: ms(unix_ms) }, Seen { heard: 1, asked: 1 })
    };
    assert_eq!([look(0, 0), look(250, 250)], [Verdict::Sound; 2]);
    assert_eq!(look(500, 45_500), Verdict::Ask, "the machine's own clock stood still");
    assert_eq!(look(45_750, 90_750), Verdict::Ask, "or went on");
    assert_eq!(look(46_000, 91_000), Verdict::Sound);
}
