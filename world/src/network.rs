//! The network between the clients and the relay: a path for each client, with all that paths do to packets.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use supernode_session::Moment;

/// How much longer a packet that is overtaken takes.
const OVERTAKEN_BY_MAX: Duration = Duration::from_millis(30);

/// What a path is like while nothing is wrong with it.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// One way.
    pub delay: Duration,
    /// At most so much more. Packets stay in order.
    pub jitter: Duration,
    /// Of a packet, from 0 to 1.
    pub loss: f64,
    /// Of a packet, from 0 to 1, to arrive twice.
    pub duplication: f64,
    /// Of a packet, from 0 to 1, to be overtaken.
    pub reordering: f64,
    /// Each way. Unit: bytes.
    pub bytes_per_second: u64,
    /// What may wait at the narrowest place. Unit: bytes.
    pub queue_bytes: u64,
    /// Larger datagrams are lost without a word. Unit: bytes.
    pub mtu: usize,
}

impl Conditions {
    /// Nothing is lost, late or narrow.
    pub fn perfect() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            bytes_per_second: 125_000_000,
            queue_bytes: 4 * 1024 * 1024,
            mtu: 1_500,
        }
    }

    /// Some path of this earth.
    pub fn draw(rng: &mut StdRng, is_calm: bool) -> Self {
        let ms = Duration::from_millis;
        let some = |rng: &mut StdRng, odds: f64, most: f64| {
            if !is_calm && rng.random_bool(odds) { rng.random_range(0.0..most) } else { 0.0 }
        };
        Self {
            delay: ms(rng.random_range(1..120)),
            jitter: if rng.random_bool(0.5) { ms(rng.random_range(0..30)) } else { Duration::ZERO },
            loss: some(rng, 0.5, 0.08),
            duplication: some(rng, 0.4, 0.05),
            reordering: some(rng, 0.4, 0.1),
            bytes_per_second: match rng.random_range(0..4) {
                0 if !is_calm => rng.random_range(8_000..60_000),
                1 => rng.random_range(60_000..400_000),
                _ => 2_000_000,
            },
            queue_bytes: rng.random_range(16_000..200_000),
            mtu: if rng.random_bool(0.3) { rng.random_range(1_200..1_500) } else { 1_500 },
        }
    }
}

/// The way between a client and the relay.
#[derive(Debug)]
pub struct Path {
    conditions: Conditions,
    up: Direction,
    down: Direction,
    /// Nothing arrives before then.
    cut_until: Moment,
    /// Until then, larger datagrams than this are lost.
    hole: (Moment, usize),
}

#[derive(Debug, Default)]
struct Direction {
    /// When the narrowest place has sent what waits there.
    free_at: Moment,
    /// When the last packet arrives that was not overtaken.
    last_at: Moment,
}

/// When a packet arrives: once, twice or never.
pub type Arrivals = [Option<Moment>; 2];

impl Path {
    /// A path like this.
    pub fn new(conditions: Conditions) -> Self {
        let (up, down) = (Direction::default(), Direction::default());
        Self { conditions, up, down, cut_until: Moment::default(), hole: (Moment::default(), usize::MAX) }
    }

    /// What it is like from now on.
    pub fn change(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Whether packets may overtake each other on it.
    pub fn reorders(&self) -> bool {
        self.conditions.reordering > 0.0 || self.conditions.duplication > 0.0
    }

    /// Nothing passes until then.
    pub fn cut(&mut self, until: Moment) {
        self.cut_until = self.cut_until.max(until);
    }

    /// What is larger than this does not pass until then.
    pub fn narrow_mtu(&mut self, mtu: usize, until: Moment) {
        self.hole = (until, mtu);
    }

    /// All is well again.
    pub fn heal(&mut self) {
        self.conditions = Conditions { delay: self.conditions.delay, ..Conditions::perfect() };
        (self.cut_until, self.hole) = (Moment::default(), (Moment::default(), usize::MAX));
    }

    /// A packet sets out.
    pub fn send(&mut self, is_up: bool, bytes: usize, now: Moment, rng: &mut StdRng) -> Arrivals {
        // Drawn whatever becomes of the packet, so that one fault more does not change the dice of all that follows.
        let [lost, twice, late, jitter] = std::array::from_fn(|_| rng.random_range(0.0..1.0));
        let Conditions { delay, loss, duplication, reordering, bytes_per_second, queue_bytes, mtu, .. } =
            self.conditions;
        let jitter = self.conditions.jitter.mul_f64(jitter);
        let mtu = if now < self.hole.0 { self.hole.1 } else { mtu };
        if now < self.cut_until || bytes > mtu || lost < loss {
            return [None, None];
        }
        let direction = if is_up { &mut self.up } else { &mut self.down };
        let begins = direction.free_at.max(now);
        let waits = begins.since(now).as_secs_f64() * bytes_per_second as f64;
        if waits as u64 + bytes as u64 > queue_bytes {
            return [None, None];
        }
        direction.free_at = begins + Duration::from_nanos(bytes as u64 * 1_000_000_000 / bytes_per_second);
        let mut arrives = direction.free_at + delay + jitter;
        if late < reordering {
            arrives = arrives + OVERTAKEN_BY_MAX.mul_f64(late / reordering);
        } else {
            arrives = arrives.max(direction.last_at);
            direction.last_at = arrives;
        }
        let again = (twice < duplication).then(|| arrives + OVERTAKEN_BY_MAX.mul_f64(twice / duplication));
        [Some(arrives), again]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_perfect_path_loses_nothing_and_keeps_order() {
        let (mut path, mut rng) = (Path::new(Conditions::perfect()), StdRng::seed_from_u64(1));
        let mut last = Moment::default();
        for packet in 0..1_000 {
            let [Some(arrives), None] = path.send(true, 1_200, at(packet / 100), &mut rng) else {
                panic!("it is lost")
            };
            assert!(arrives >= last);
            last = arrives;
        }
    }

    #[test]
    fn a_narrow_path_queues_and_then_drops() {
        let conditions = Conditions { bytes_per_second: 10_000, queue_bytes: 5_000, ..Conditions::perfect() };
        let (mut path, mut rng) = (Path::new(conditions), StdRng::seed_from_u64(1));
        let arrivals: Vec<_> = (0..8).map(|_| path.send(false, 1_000, at(0), &mut rng)[0]).collect();
        let late: Vec<_> = (1..=5).map(|packet| Some(at(5 + 100 * packet))).collect();
        assert_eq!(arrivals[..5], late);
        assert_eq!(arrivals[5..], [None; 3]);
    }

    #[test]
    fn what_is_cut_or_too_large_does_not_pass() {
        let (mut path, mut rng) = (Path::new(Conditions::perfect()), StdRng::seed_from_u64(1));
        path.cut(at(10));
        path.narrow_mtu(1_250, at(20));
        let mut passes = |ms, bytes| path.send(true, bytes, at(ms), &mut rng)[0].is_some();
        assert_eq!(
            [passes(9, 100), passes(10, 1_250), passes(10, 1_251), passes(20, 1_251)],
            [false, true, false, true]
        );
    }
}
