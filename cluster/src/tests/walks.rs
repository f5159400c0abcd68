//! Long random lives of a cluster with the terms that people get: clocks that differ, a bucket that is slow, loses what it has
//! and answers in any order, nodes that are cut off, stand still or die. Afterwards all is well, and soon.

use std::{panic::catch_unwind, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Fault, bus::Bucket, own};
use crate::{Answer, Fence, Home, Life, Moment, Node, Request, RoomKey, Terms};

const NODES: usize = 3;
const ROOMS: u8 = 3;
/// How often a node is looked after.
const STEP: Duration = Duration::from_millis(100);
/// With faults, and then without.
const WILD: Duration = Duration::from_secs(60);
/// How late a message is at most that is late. What was sent before the last fault arrives until then: a renewal by a process
/// that is dead as well, and then its life is waited for once more.
const LATE_MS_MAX: u64 = 9_000;
/// After the last fault and the last late message: a life that ended unseen is waited for, then its rooms are taken; and a new
/// epoch ripens.
const CALM: Duration = Duration::from_millis(13_000 + LATE_MS_MAX);
/// How far a clock's speed may be off. Two that differ by more than 5/4 are not allowed.
const SPEED: std::ops::Range<f64> = 0.91..1.09;
/// A process that stands still does so for up to this.
const PAUSE: Duration = Duration::from_secs(12);
const SEEDS: u64 = 300;

enum Flight {
    Request(usize, u32, Request),
    Answer(usize, u32, u64, Answer),
    /// What a home says of a room, to a node.
    Word(usize, RoomKey, Fence, usize),
}

struct Place {
    node: Node,
    process: u32,
    speed: f64,
    /// What its clock shows, and until when it stands still or nothing reaches it, in real time.
    paused: Duration,
    cut: Duration,
    watched: (Option<u64>, u64),
    /// The tenure that it heard of last, of each room.
    heard: Vec<usize>,
    /// What whoever lives by it was told of each room.
    told: Vec<Home>,
    /// Homes that it left, and in which it is wanted again.
    left: Vec<(RoomKey, Fence)>,
    over: Vec<(RoomKey, Fence)>,
}

struct Walk {
    rng: StdRng,
    time: Duration,
    places: Vec<Place>,
    bucket: Bucket,
    flights: Vec<(Duration, Flight)>,
    /// Who was home of each room, one after the other.
    tenures: Vec<Vec<(usize, u32, Fence)>>,
}

fn room(number: u8) -> RoomKey {
    RoomKey([number; 16])
}

impl Walk {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut place = |index| Place {
            node: Node::new(
                Terms { fault, ..Terms::default() },
                own(1 + index as u16),
                Life(1_000_000 * (1 + index as u64)),
                None,
            ),
            process: 0,
            speed: rng.random_range(SPEED),
            paused: Duration::ZERO,
            cut: Duration::ZERO,
            watched: (None, 0),
            heard: vec![0; ROOMS.into()],
            told: vec![Home::Undecided; ROOMS.into()],
            left: Vec::new(),
            over: Vec::new(),
        };
        let places = (0..NODES).map(&mut place).collect();
        let (time, tenures) = (Duration::ZERO, vec![Vec::new(); ROOMS.into()]);
        Self { rng, time, places, bucket: Bucket::default(), flights: Vec::new(), tenures }
    }

    fn now(&self, index: usize) -> Moment {
        self.time.mul_f64(self.places[index].speed)
    }

    fn latency(&mut self, wild: bool) -> Duration {
        let bound = if wild && self.rng.random_bool(0.02) { LATE_MS_MAX } else { 60 };
        Duration::from_millis(self.rng.random_range(1..bound))
    }

    fn is_still(&self, index: usize) -> bool {
        self.time < self.places[index].paused
    }

    fn is_cut(&self, index: usize) -> bool {
        self.time < self.places[index].cut
    }

    /// What a node asks now.
    fn ask(&mut self, index: usize, wild: bool) {
        let now = self.now(index);
        while let Some(request) = self.places[index].node.poll_request(now) {
            let due = self.time + self.latency(wild);
            let flight = || Flight::Request(index, self.places[index].process, request);
            if !self.is_cut(index) {
                self.flights.push((due, flight()));
            }
            if wild && self.rng.random_bool(0.02) {
                let again = due + self.latency(wild);
                self.flights.push((again, Flight::Request(index, self.places[index].process, request)));
            }
        }
        if self.places[index].watched.0 != self.places[index].node.epoch() {
            self.places[index].watched = (self.places[index].node.epoch(), 0);
        }
    }

    /// What a node sees of what was written.
    fn watch(&mut self, index: usize) {
        let now = self.now(index);
        let Place { node, watched: (Some(epoch), revision), .. } = &mut self.places[index] else { return };
        while let Some(entry) = self.bucket.after(*epoch, *revision) {
            *revision = entry.revision;
            node.handle_entry(entry, now);
        }
    }

    /// Everything that is due at a moment, in the order of when it is.
    fn deliver(&mut self, wild: bool) {
        while let Some(at) =
            (0..self.flights.len()).filter(|at| self.flights[*at].0 <= self.time).min_by_key(|at| self.flights[*at].0)
        {
            match self.flights.swap_remove(at).1 {
                Flight::Request(index, process, request) => {
                    let answer = self.bucket.serve(request.act);
                    let due = self.time + self.latency(wild);
                    if !self.is_cut(index) {
                        self.flights.push((due, Flight::Answer(index, process, request.number, answer)));
                    }
                }
                // A process that stands still hears of it afterwards.
                Flight::Answer(index, process, number, answer) if self.is_still(index) => {
                    let due = self.places[index].paused;
                    self.flights.push((due, Flight::Answer(index, process, number, answer)));
                }
                Flight::Answer(index, process, number, answer) => {
                    let now = self.now(index);
                    if self.places[index].process == process && !self.is_cut(index) {
                        self.places[index].node.handle_answer(number, answer, now);
                        self.look();
                        self.ask(index, wild);
                    }
                }
                Flight::Word(index, room, fence, tenure) => {
                    let place = &mut self.places[index];
                    if place.node.hears(room, fence) {
                        let heard = &mut place.heard[usize::from(room.0[0])];
                        assert!(*heard <= tenure, "a node hears an old home of {room:?} after a new one");
                        *heard = tenure;
                    }
                }
            }
        }
    }

    /// Who is home now: nobody may be beside another, or after one that came later.
    fn look(&mut self) {
        for index in 0..NODES {
            let now = self.now(index);
            let Place { node, told, over, .. } = &mut self.places[index];
            while let Some(room) = node.poll_moved(now) {
                told[usize::from(room.0[0])] = node.home(room, now);
            }
            for (number, told) in (0..).zip(told) {
                assert_eq!(*told, node.home(room(number), now), "node {index} was not told of room {number}");
                if let Home::Here(fence) = *told {
                    assert!(!over.contains(&(room(number), fence)), "room {number} has a home again that was left");
                    let (until, since) = node.held_until(now).expect("it lives");
                    assert!(now < until && since.epoch == fence.epoch && since.revision < fence.revision);
                }
            }
            assert!(!node.neglects(now), "node {index} neglects a room");
        }
        for number in 0..ROOMS {
            let homes: Vec<_> = (0..NODES)
                .filter_map(|index| match self.places[index].node.home(room(number), self.now(index)) {
                    Home::Here(fence) => Some((index, self.places[index].process, fence)),
                    _ => None,
                })
                .collect();
            assert!(homes.len() <= 1, "{homes:?} are the home of room {number}");
            let tenures = &mut self.tenures[usize::from(number)];
            for home in homes {
                if tenures.last() != Some(&home) {
                    assert!(!tenures.contains(&home), "{home:?} is the home of room {number} again, after another");
                    tenures.push(home);
                }
            }
        }
    }

    /// Homes say something, which may be late.
    fn speak(&mut self) {
        for number in 0..ROOMS {
            let tenure = self.tenures[usize::from(number)].len();
            let Some((index, process, fence)) = self.tenures[usize::from(number)].last().copied() else { continue };
            let here = self.places[index].process == process
                && self.places[index].node.home(room(number), self.now(index)) == Home::Here(fence);
            for to in 0..NODES {
                if here && self.rng.random_bool(0.3) {
                    let due = self.time + self.latency(true);
                    self.flights.push((due, Flight::Word(to, room(number), fence, tenure)));
                }
            }
        }
    }

    /// Something goes wrong, or somebody comes or goes.
    fn disturb(&mut self) {
        let index = self.rng.random_range(0..NODES);
        match self.rng.random_range(0..100) {
            0..6 => self.places[index].cut = self.time + PAUSE.mul_f64(self.rng.random()),
            6..12 => self.places[index].paused = self.time + PAUSE.mul_f64(self.rng.random()),
            12..16 => {
                let place = &mut self.places[index];
                place.process += 1;
                let (first, follows) = (place.process, place.node.life().filter(|_| self.rng.random_bool(0.5)));
                let first = Life(1_000_000 * (1 + index as u64) + 1_000 * u64::from(first));
                place.node = Node::new(place.node.terms().clone(), own(1 + index as u16), first, follows);
                (place.watched, place.paused) = ((None, 0), Duration::ZERO);
                place.heard.fill(0);
                place.told.fill(Home::Undecided);
                (place.left, place.over) = (Vec::new(), Vec::new());
            }
            16..17 => {
                self.bucket = Bucket::default();
                self.places.iter_mut().for_each(|place| place.watched.1 = 0);
            }
            17..60 => {
                let number = self.rng.random_range(0..ROOMS);
                match self.rng.random_range(0..5) {
                    0 => {
                        let now = self.now(index);
                        let Place { node, left, .. } = &mut self.places[index];
                        if let Home::Here(fence) = node.home(room(number), now) {
                            left.push((room(number), fence));
                        }
                        node.leave(room(number));
                    }
                    1 => self.places[index].node.doubt(room(number)),
                    _ => self.want(index, room(number)),
                }
            }
            _ => (),
        }
    }

    fn want(&mut self, index: usize, room: RoomKey) {
        let Place { node, left, over, .. } = &mut self.places[index];
        node.want(room);
        over.extend(left.extract_if(.., |(of, _)| *of == room));
    }

    fn step(&mut self, wild: bool) {
        self.time += STEP;
        self.deliver(wild);
        for index in 0..NODES {
            if self.is_still(index) {
                continue;
            }
            let late = wild && self.rng.random_bool(0.3);
            if !self.is_cut(index) && !late {
                self.watch(index);
            }
            self.ask(index, wild);
            self.look();
        }
    }

    fn run(mut self) {
        while self.time < WILD {
            self.step(true);
            if self.rng.random_bool(0.1) {
                self.disturb();
                self.look();
            }
            self.speak();
        }
        for place in &mut self.places {
            (place.cut, place.paused) = (Duration::ZERO, Duration::ZERO);
        }
        for index in 0..NODES {
            (0..ROOMS).for_each(|number| self.want(index, room(number)));
        }
        while self.time < WILD + CALM {
            self.step(false);
            // Whoever is asked as the home and is not says so.
            for number in 0..ROOMS {
                let at = |index: usize| self.places[index].node.home(room(number), self.now(index));
                let wrong: Vec<usize> = (0..NODES).filter(|index| matches!(at(*index), Home::There(node, _) if !(0..NODES).any(|other| {
                    self.places[other].node.held(self.now(other)).is_some_and(|held| held.0 == node) && matches!(at(other), Home::Here(_))
                }))).collect();
                wrong.into_iter().for_each(|index| self.places[index].node.doubt(room(number)));
            }
        }
        for number in 0..ROOMS {
            let homes: Vec<Home> =
                (0..NODES).map(|index| self.places[index].node.home(room(number), self.now(index))).collect();
            let here = homes.iter().position(|home| matches!(home, Home::Here(_)));
            let here = here.unwrap_or_else(|| panic!("room {number} has no home: {homes:?}"));
            let (node, _) = self.places[here].node.held(self.now(here)).expect("it lives");
            let agree = homes
                .iter()
                .enumerate()
                .all(|(index, home)| index == here || matches!(home, Home::There(at, _) if *at == node));
            assert!(agree, "not all agree on room {number}: {homes:?}");
        }
        for place in &self.places {
            assert_eq!(place.node.alive().count(), NODES, "{:?}", place.node.alive().collect::<Vec<_>>());
        }
    }
}

#[test]
fn whatever_happens_a_room_has_one_home_at_a_time_and_soon_one_again() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        Walk::new(seed, None).run();
    }
}

/// Whether a planted fault breaks something.
pub(crate) fn finds(fault: Fault) -> bool {
    (0..SEEDS).any(|seed| catch_unwind(|| Walk::new(seed, Some(fault)).run()).is_err())
}
