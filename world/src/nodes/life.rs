//! What happens in a world of nodes.

use std::time::Duration;

use rand::RngExt;
use supernode_proto::control::PresenceState;

use super::{Nodes, node::CLOCKS_APART_MS};

/// How long something happens, at most.
const LIVELY_MS: std::ops::Range<u64> = 4_000..25_000;
/// How long a node believes in a client that it does not hear.
const IDLE_MS: u64 = 2_500;
/// From when nothing is wrong any more, within so long everybody sees the truth: 4 s until all nodes have noticed that they reach
/// each other, 5 s for a round, and a little for what it leads to. Sessions that are over without a word count from the
/// beginning of it: their nodes notice, and wait for whether they come back, and say so.
const HEALED: Duration = Duration::from_millis(10_500);
/// Where there are rooms, what may have to be waited for is longer: a process that stands still for a lease's time, 5 s until
/// its life is over or a new epoch is ripe, 10 s until whoever asked is told to ask again, and presence after that.
const HEALED_ROOMS: Duration = Duration::from_secs(35);
/// A process stands still for so long: a lease is 4 s.
const STILL_MS: std::ops::Range<u64> = 100..9_000;
/// After which others have noticed.
const NOTICED: Duration = Duration::from_secs(3);
/// Longer than any deadline: rings, push endpoints, lingering.
const LEFT: Duration = Duration::from_secs(60);

impl Nodes {
    /// From the first who comes to the last who goes.
    pub(super) fn live(&mut self) {
        self.pass(Duration::from_secs(2));
        for _ in 0..self.rng.random_range(1..=2) {
            self.be_lively();
            self.be_quiet();
            if !self.is_sound() {
                return;
            }
        }
        self.end();
    }

    fn be_lively(&mut self) {
        let until = self.now + Duration::from_millis(self.rng.random_range(LIVELY_MS));
        self.ways.is_calm = self.rng.random_bool(0.1);
        let is_quiet_among_nodes = self.rng.random_bool(0.2);
        while self.now < until && self.is_sound() {
            let pause = self.rng.random_range(1..150);
            self.pass(Duration::from_millis(pause));
            match self.rng.random_range(0..100) {
                0..=3 if !is_quiet_among_nodes => self.happen_to_nodes(),
                _ => self.happen_to_people(),
            }
        }
    }

    fn happen_to_people(&mut self) {
        let device = self.rng.random_range(0..self.people.devices.len());
        if self.people.devices[device].seat.is_some() && self.rng.random_bool(0.4) {
            return self.happen_in_rooms(device);
        }
        let person = self.rng.random_range(0..self.people.people.len());
        if self.people.devices[device].seat.is_none() {
            return self.come_somewhere(device);
        }
        match self.rng.random_range(0..100) {
            0..=34 => {
                let states =
                    [PresenceState::Online, PresenceState::Away, PresenceState::Busy, PresenceState::Invisible];
                let state = states[self.rng.random_range(0..states.len())];
                self.show(device, state);
            }
            35..=51 => self.watch(device, person, true),
            52..=59 => self.call(device, person),
            60..=69 => self.watch(device, person, false),
            70..=77 => {
                let mut blocked = self.people.devices[device].blocked.clone();
                if !blocked.remove(&person) && person != self.people.devices[device].person {
                    blocked.insert(person);
                }
                self.limit(device, blocked);
            }
            78 => {
                let of = self.people.devices[device].person;
                self.people.people[of].generation += 1;
                let blocked = self.people.devices[device].blocked.clone();
                self.limit(device, blocked);
            }
            79..=85 => {
                // It moves, and its earlier session is left alone.
                if let Some(seat) = self.lose(device) {
                    let after = Duration::from_millis(self.rng.random_range(100..IDLE_MS));
                    self.idle_at(self.now + after, seat);
                }
                self.come_somewhere(device);
            }
            86..=92 => {
                if let Some(seat) = self.lose(device) {
                    self.say(format_args!("device {device} leaves"));
                    self.end_session(seat, true);
                }
            }
            _ => {
                if let Some(seat) = self.lose(device) {
                    self.say(format_args!("device {device} is gone"));
                    let after = Duration::from_millis(self.rng.random_range(1..IDLE_MS));
                    self.idle_at(self.now + after, seat);
                }
            }
        }
    }

    pub(super) fn come_somewhere(&mut self, device: usize) {
        let place = self.rng.random_range(0..self.nodes.len());
        let shard = self.rng.random_range(0..usize::from(self.shards));
        // Which of two sessions is newer shows only where they are further apart than clocks are.
        let is_soon = self.now < self.people.devices[device].came + Duration::from_millis(CLOCKS_APART_MS);
        if self.nodes[place].is_none()
            || self.still_until(place).is_some()
            || self.people.devices[device].is_revoked
            || is_soon
        {
            return;
        }
        self.come(device, place, shard);
        self.deposit(device);
        if self.rng.random_bool(0.8) {
            self.show(device, PresenceState::Online);
        }
    }

    fn happen_to_nodes(&mut self) {
        let nodes = self.nodes.len();
        let (one, other) = (self.rng.random_range(0..nodes), self.rng.random_range(0..nodes));
        match self.rng.random_range(0..12) {
            10 => self.stand_still(one),
            11 if self.rng.random_bool(0.3) => self.lose_bucket(),
            0..=2 => {
                self.say(format_args!("nodes {} and {} do not reach each other", one + 1, other + 1));
                self.part(one, other);
            }
            3..=4 => self.join(one, other),
            5 => {
                self.say(format_args!("node {} is cut off", one + 1));
                (0..nodes).for_each(|other| self.part(one, other));
                self.set_bus(one, false);
            }
            6 => self.set_bus(one, false),
            7 => self.set_bus(one, true),
            _ if self.nodes[one].is_some() => self.kill(one),
            _ => self.start(one),
        }
    }

    /// A process stands still: a lease's time, or for less. The others find out.
    fn stand_still(&mut self, place: usize) {
        let still = Duration::from_millis(self.rng.random_range(STILL_MS));
        if let Some(node) = &mut self.nodes[place] {
            node.still = self.now + still;
            self.say(format_args!("node {} stands still for {still:?}", place + 1));
            if still > NOTICED {
                (0..self.nodes.len()).for_each(|other| self.part(place, other));
            }
        }
    }

    fn lose_bucket(&mut self) {
        self.say(format_args!("the bucket loses everything"));
        self.forget_bucket();
    }

    fn kill(&mut self, place: usize) {
        self.say(format_args!("node {} dies", place + 1));
        (0..self.nodes.len()).for_each(|other| self.part(place, other));
        self.nodes[place] = None;
        for device in 0..self.people.devices.len() {
            if self.people.devices[device].seat.is_some_and(|seat| seat.node == place) {
                self.lose(device);
            }
        }
    }

    /// Nothing is wrong any more, and nobody does anything: then the judge looks.
    fn be_quiet(&mut self) {
        let still = self.nodes.iter().flatten().map(|node| node.still).max().unwrap_or_default();
        self.pass(still.saturating_sub(self.now));
        for device in 0..self.people.devices.len() {
            let it = &self.people.devices[device];
            let (blocked, person) = (it.blocked.clone(), &self.people.people[it.person]);
            if it.seat.is_some() && (it.named < person.generation || !it.has_limited) {
                self.limit(device, blocked);
            }
            if self.people.devices[device].seat.is_some() && self.people.devices[device].shown.is_none() {
                self.show(device, PresenceState::Online);
            }
        }
        self.say(format_args!("nothing happens"));
        self.ways.is_calm = true;
        for one in 0..self.nodes.len() {
            if self.nodes[one].is_none() && self.rng.random_bool(0.5) {
                self.start(one);
            }
            self.set_bus(one, true);
            (0..one).for_each(|other| self.join(one, other));
        }
        self.pass(if self.rooms.places.is_empty() { HEALED } else { HEALED_ROOMS });
        if self.is_sound() {
            self.look_at_rooms();
        }
        if self.is_sound() {
            self.look_at_presence();
            self.look_at_rings();
            self.look_whether_all_ring();
        }
    }

    /// Everybody goes, one way or the other.
    fn end(&mut self) {
        self.say(format_args!("everybody goes"));
        self.want_no_rooms();
        for device in 0..self.people.devices.len() {
            let is_clean = self.rng.random_bool(0.5);
            if let Some(seat) = self.lose(device) {
                self.end_session(seat, is_clean);
            }
        }
        self.pass(LEFT);
        if self.is_sound() {
            self.look_at_what_is_left();
        }
    }
}
