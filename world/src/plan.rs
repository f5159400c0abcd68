//! Which world is to be, and the smallest one that still fails in the same way.

use std::time::Duration;

use supernode_world_options::{Less, Options, Trouble};

use crate::{World, judge::Rule};

/// Worlds that are tried at most for a smaller one that fails as well.
const TRIES_MAX: u32 = 80;
/// Fewer people have nothing to say to each other.
const PEOPLE_MIN: usize = 2;
/// Shorter, nothing happens.
const LIVELY_MIN: Duration = Duration::from_millis(100);

/// A seed, and what of it is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// All that happens follows from it.
    pub seed: u64,
    /// The relay lies to its clients.
    pub is_lying: bool,
    /// What is left out.
    pub less: Less,
}

impl Plan {
    /// All of a seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether it is without this.
    pub fn is_without(&self, trouble: Trouble) -> bool {
        self.less.without.contains(&trouble)
    }

    /// How long something may happen at a time.
    pub fn lively_max(&self) -> Duration {
        self.less.lively_ms.map_or(Duration::MAX, Duration::from_millis)
    }

    /// What runs it again and tells of it.
    pub fn command(&self) -> String {
        let Self { seed, is_lying, less } = self;
        let options = Options { from: *seed, lying: *is_lying, told: true, less: less.clone(), ..Options::of(1) };
        format!("cargo xtask world {}", options.words().join(" "))
    }

    /// The smallest that is found in which this does not hold either: with fewer people, shorter, and with less trouble. What
    /// is left out changes what is drawn after it, so that each is a world of its own, and one that fails is as good.
    #[must_use]
    pub fn shrunk(self, rule: Rule) -> Self {
        let mut tries = 0;
        let mut fails = |plan: &Self| {
            tries += 1;
            tries <= TRIES_MAX && World::run(plan, false).violation.is_some_and(|found| found.rule == rule)
        };
        let mut smallest = self;
        while let Some(smaller) = smallest.smaller().into_iter().find(&mut fails) {
            smallest = smaller;
        }
        smallest
    }

    /// Those that are smaller by one thing.
    fn smaller(&self) -> Vec<Self> {
        let shape = World::new(self, false).shape;
        let with = |less: Less| Self { less, ..self.clone() };
        let mut plans = Vec::new();
        for trouble in Trouble::ALL.into_iter().filter(|trouble| !self.is_without(*trouble)) {
            let without = self.less.without.iter().copied().chain([trouble]).collect();
            plans.push(with(Less { without, ..self.less.clone() }));
        }
        if shape.rounds > 1 {
            plans.push(with(Less { rounds: Some(shape.rounds - 1), ..self.less.clone() }));
        }
        if shape.people > PEOPLE_MIN {
            plans.push(with(Less { people: Some(shape.people - 1), ..self.less.clone() }));
        }
        let lively = self.lively_max().min(crate::world::LIVELY_MAX);
        for shorter in [lively / 2, lively * 3 / 4].into_iter().filter(|shorter| *shorter >= LIVELY_MIN) {
            plans.push(with(Less { lively_ms: Some(shorter.as_millis() as u64), ..self.less.clone() }));
        }
        plans
    }
}
