//! Worlds of several nodes: the cores of all their shards as they are, links and a bus between them, and people with devices who
//! watch and ring each other, are in rooms with each other, and move from node to node.
//!
//! What is between a client and its shard is left out: there is a world for that ([`crate::World`]). What is between nodes is
//! not: letters come in order until a link breaks, what is under way then is lost, and each end hears of it when it does; the bus
//! loses, delays and doubles; nodes are cut off, stand still, die, and come back with nothing. Where rooms live is decided as it is
//! among relays, with a bucket that is no better than the bus.

mod calls;
mod homes;
mod judge;
mod life;
mod node;
mod people;
mod rooms;
mod ways;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_server::{control::cluster::ClusterSecret, core::limits::Limits};

use self::{
    calls::Calls,
    homes::Bucket,
    judge::Judge,
    node::Node,
    people::People,
    rooms::Rooms,
    ways::{Event, Ways},
};

/// What came of a world of nodes.
#[derive(Debug)]
pub struct Outcome {
    /// All that happens follows from it.
    pub seed: u64,
    /// What did not hold, first.
    pub violation: Option<String>,
    /// The same in every run of the seed.
    pub digest: u64,
    /// What was told on the bus and how much of it was lost.
    pub told: u64,
    /// See above.
    pub lost: u64,
    /// Letters between nodes.
    pub letters: u64,
    /// Rings that were answered.
    pub answered: u64,
    /// Messages that somebody got in a room.
    pub delivered: u64,
    /// What happened, if it was to be kept.
    pub lines: Vec<String>,
}

/// Some nodes, all that is between them, and people.
pub struct Nodes {
    nodes: Vec<Option<Node>>,
    shards: u16,
    limits: Limits,
    beginning: Instant,
    now: Duration,
    rng: StdRng,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    lives: u64,
    ways: Ways,
    people: People,
    calls: Calls,
    bucket: Bucket,
    secret: ClusterSecret,
    rooms: Rooms,
    judge: Judge,
}

impl Nodes {
    /// At its beginning: all nodes live, and nobody is there yet.
    pub fn new(seed: u64, keeps_lines: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (nodes, shards) = (rng.random_range(2..=4), rng.random_range(1..=3));
        let limits = Limits {
            requests_per_second_max: 1_000,
            key_packages_taken_per_minute_max: 10_000,
            key_packages_given_per_minute_max: 10_000,
            rings_per_minute_max: 10_000,
            ring_timeout: Duration::from_secs(8),
            ..Limits::default()
        };
        let people = People::new(rng.random_range(3..=5), &mut rng);
        // Half of the worlds have none: what is judged there is judged sooner.
        let rooms = Rooms::new(if rng.random_bool(0.5) { rng.random_range(1..=3) } else { 0 }, &mut rng);
        let mut world = Self {
            nodes: (0..nodes).map(|_| None).collect(),
            shards,
            limits,
            beginning: Instant::now(),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            events_made: 0,
            lives: 0,
            ways: Ways::new(nodes),
            people,
            calls: Calls::default(),
            bucket: Bucket::default(),
            secret: ClusterSecret::from_bytes(rng.random()),
            rooms,
            judge: Judge::new(keeps_lines),
            rng,
        };
        world.say(format_args!("{nodes} nodes with {shards} shards"));
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    /// Runs the world of this seed to its end, or to the first thing that does not hold.
    pub fn run(seed: u64, keeps_lines: bool) -> Outcome {
        let mut world = Self::new(seed, keeps_lines);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.live())) {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let said = said.unwrap_or("without a word").to_owned();
            world.judge.fail(world.now, &format!("panic: {said}"));
        }
        let Self { judge, ways, calls, rooms, .. } = world;
        let (told, lost, letters) = ways.figures();
        Outcome {
            seed,
            violation: judge.violation().map(str::to_owned),
            digest: judge.digest(),
            told,
            lost,
            letters,
            answered: calls.answered,
            delivered: rooms.delivered,
            lines: judge.into_lines(),
        }
    }

    fn is_sound(&self) -> bool {
        self.judge.violation().is_none()
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.judge.tell(self.now, what);
    }
}

/// Within so many seeds every fault of nodes is found, from whichever seed on.
pub const SEEDS_MAX: u64 = 200;

/// Plants each fault of nodes in worlds of one seed after the other, from this one on, until it is found: in how many, or not at
/// all.
#[cfg(feature = "planted")]
pub fn find_all(from: u64) -> Vec<(supernode_server::planted::Fault, Option<(u64, String)>)> {
    use supernode_server::planted::{Fault, plant};

    let find = |fault: Fault| {
        (0..SEEDS_MAX).find_map(|tried| {
            plant(Some(fault));
            let outcome = Nodes::run(from.wrapping_add(tried), false);
            plant(None);
            outcome.violation.map(|violation| (tried + 1, violation))
        })
    };
    let faults = Fault::OF_NODES.iter().chain(&[Fault::KeyPackageAgain, Fault::RingWithoutEnd]);
    faults.map(|fault| (*fault, find(*fault))).collect()
}
