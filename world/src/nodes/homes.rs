//! What decides where rooms live: each node's real part of it, and a bucket that answers late, twice or never, and may lose all
//! it has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt;
use supernode_cluster::{Act, Answer, Entry, Key, Life, Node, NodeNumber, Own, Request, Terms, Value, Whereabouts};
use supernode_proto::identity::RoomId;
use supernode_server::{
    control::cluster::{ClusterSecret, HomeBook, HomeEars, Told},
    core::{ControlMail, Fence, HomeIs, HomeWish, Homes, NodeId, directory::Directory},
};

use super::{
    Nodes,
    ways::{Event, LETTER_HERE_US},
};

/// A request or an answer takes so long,
const BUCKET_US: std::ops::Range<u64> = 200..20_000;
/// and once in a while longer.
const BUCKET_LATE_US: std::ops::Range<u64> = 20_000..3_000_000;
/// How often a node looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What stands in the bucket.
#[derive(Default)]
pub(super) struct Bucket {
    entries: BTreeMap<Key, (u64, Value)>,
    writes: u64,
}

impl Bucket {
    fn serve(&mut self, act: Act) -> Answer {
        let last = self.entries.get(&act.key()).copied();
        match act {
            Act::Read(key) => Answer::Found(last.map(|(revision, value)| Entry { key, revision, value })),
            Act::Write { expected, .. } if expected != last.map_or(0, |(revision, _)| revision) => Answer::Conflict,
            Act::Write { key, value, .. } => {
                self.writes += 1;
                self.entries.insert(key, (self.writes, value));
                Answer::Written(self.writes)
            }
        }
    }

    /// What was written of an epoch's lives after a write.
    fn after(&self, epoch: u64, revision: u64) -> Vec<Entry> {
        let of_it = |key: &Key| matches!(key, Key::Ripe { epoch: e } | Key::Life { epoch: e, .. } if *e == epoch);
        let newer = self.entries.iter().filter(|(key, (at, _))| of_it(key) && *at > revision);
        let mut newer: Vec<_> =
            newer.map(|(key, (revision, value))| Entry { key: *key, revision: *revision, value: *value }).collect();
        newer.sort_by_key(|entry| entry.revision);
        newer
    }

    /// Rooms that have their home in this life. What is left of one that is over waits for whoever wants the room.
    fn homes_of(&self, life: Option<Life>) -> usize {
        let is_of_it = |value: &Value| matches!(value, Value::Home { life: of, .. } if Some(*of) == life);
        self.entries.values().filter(|(_, value)| is_of_it(value)).count()
    }

    pub(super) fn lose_everything(&mut self) {
        // A server that begins anew counts anew.
        *self = Self::default();
    }
}

/// A node's part.
pub(super) struct HomeSide {
    pub(super) book: HomeBook,
    told: Told,
    node: Mutex<Node>,
    /// How far it has seen the bucket, and of which epoch.
    watched: (Option<u64>, u64),
    ears: Heard,
    /// What its desks were told last of each room.
    pub(super) desks: BTreeMap<RoomId, HomeIs>,
}

struct Heard {
    said: Mutex<Vec<(RoomId, HomeIs)>>,
    directory: Arc<Directory>,
}

impl HomeEars for Heard {
    fn home_is(&self, room: RoomId, is: HomeIs) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push((room, is));
        true
    }

    fn hold_until(&self, until: Instant, since: Fence) {
        self.directory.hold_homes_until(until, since);
    }
}

impl HomeSide {
    pub(super) fn new(number: NodeId, first: u64, secret: &ClusterSecret, directory: Arc<Directory>) -> Self {
        let at = Whereabouts { address: ([192, 0, 2, 1], number.0).into(), pin: [0; 32] };
        let own = Own { number: NodeNumber(number.0), at };
        Self {
            book: HomeBook::new(secret),
            told: Told::default(),
            node: Mutex::new(Node::new(Terms::default(), own, Life(first), None)),
            watched: (None, 0),
            ears: Heard { said: Mutex::default(), directory },
            desks: BTreeMap::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    /// A node's core wants something of a home.
    pub(super) fn do_home(&mut self, place: usize, wish: HomeWish) {
        if let Some(node) = &mut self.nodes[place] {
            if let HomeWish::Leave(room) = wish {
                node.homes.desks.remove(&room);
            }
            if let HomeWish::Want(room) = wish {
                node.homes.desks.entry(room).or_insert(HomeIs::Unknown);
            }
            node.homes.book.handle(wish);
            self.look_at_homes(place);
        }
    }

    /// A node begins to look by itself.
    pub(super) fn begin_to_look(&mut self, place: usize) {
        if let Some(at) = self.life(place) {
            self.at(self.now, Event::Look(at));
        }
    }

    pub(super) fn look_again(&mut self, at: (usize, u64)) {
        for room in self.rooms.ids() {
            self.look_for_two_homes(room);
        }
        self.watch_bucket(at.0);
        self.look_at_homes(at.0);
        self.at(self.now + LOOK_EVERY, Event::Look(at));
    }

    /// What the control thread does after each thing that happens to it.
    fn look_at_homes(&mut self, place: usize) {
        let clock = (self.beginning, self.now);
        loop {
            let Some(node) = &mut self.nodes[place] else { return };
            let HomeSide { book, told, node, watched, ears, .. } = &mut node.homes;
            book.look(told, node, clock, &*ears);
            let node = node.get_mut().unwrap_or_else(PoisonError::into_inner);
            let request = node.poll_request(self.now);
            if watched.0 != node.epoch() {
                *watched = (node.epoch(), 0);
            }
            match request {
                Some(request) => self.ask_bucket(place, request),
                None => break,
            }
        }
        let said = self.nodes[place]
            .as_ref()
            .map(|node| std::mem::take(&mut *node.homes.ears.said.lock().unwrap_or_else(PoisonError::into_inner)));
        for (room, is) in said.unwrap_or_default() {
            self.tell_desk(place, room, is);
        }
    }

    /// By a queue of its own, as a control thread has it.
    fn tell_desk(&mut self, place: usize, room: RoomId, is: HomeIs) {
        let Some(to) = self.life(place) else { return };
        let shard = Homes::new(super::node::number(place), self.shards).of_room(&room).shard;
        let takes = Duration::from_micros(self.rng.random_range(LETTER_HERE_US));
        let at = self.ways.in_order((place, usize::MAX, place, shard.0), self.now + takes);
        self.at(
            at,
            Event::Letter { to, shard: shard.index(), way: None, mail: vec![ControlMail::HomeIs { room, is }] },
        );
    }

    fn ask_bucket(&mut self, place: usize, request: Request) {
        let Some(from) = self.life(place) else { return };
        for takes in self.bucket_takes(place) {
            self.at(self.now + takes, Event::Asked { from, request });
        }
    }

    pub(super) fn bucket_is_asked(&mut self, from: (usize, u64), request: Request) {
        if self.ways.is_without_bus(from.0) {
            return;
        }
        let answer = self.bucket.serve(request.act);
        for takes in self.bucket_takes(from.0) {
            self.at(self.now + takes, Event::Answered { to: from, number: request.number, answer });
        }
    }

    pub(super) fn bucket_answers(&mut self, place: usize, number: u64, answer: Answer) {
        if self.ways.is_without_bus(place) {
            return;
        }
        if let Some(node) = &self.nodes[place] {
            node.homes.lock().handle_answer(number, answer, self.now);
        }
        self.look_at_homes(place);
    }

    /// Of each copy of what a node says to the bucket, or hears of it, how long it takes.
    fn bucket_takes(&mut self, place: usize) -> Vec<Duration> {
        let [lost, twice, late] = std::array::from_fn(|_| self.rng.random_range(0.0..1.0));
        let is_calm = self.ways.is_calm;
        if (lost < 0.02 && !is_calm) || self.ways.is_without_bus(place) {
            return Vec::new();
        }
        let copies = if twice < 0.03 && !is_calm { 2 } else { 1 };
        let of_copy = |copy: usize| if copy > 0 || (late < 0.03 && !is_calm) { BUCKET_LATE_US } else { BUCKET_US };
        (0..copies).map(|copy| Duration::from_micros(self.rng.random_range(of_copy(copy)))).collect()
    }

    fn watch_bucket(&mut self, place: usize) {
        if self.ways.is_without_bus(place) {
            return;
        }
        let Some(node) = &mut self.nodes[place] else { return };
        let side = &mut node.homes;
        let (Some(epoch), seen) = side.watched else { return };
        for entry in self.bucket.after(epoch, seen) {
            side.watched.1 = entry.revision;
            side.lock().handle_entry(entry, self.now);
        }
    }

    /// A server comes back with an empty disk, and whoever watched it begins again.
    pub(super) fn forget_bucket(&mut self) {
        self.bucket.lose_everything();
        self.nodes.iter_mut().flatten().for_each(|node| node.homes.watched.1 = 0);
    }

    /// A desk of a node hears where a room lives.
    pub(super) fn desk_hears(&mut self, place: usize, mail: &[ControlMail]) {
        for mail in mail {
            if let (ControlMail::HomeIs { room, is }, Some(node)) = (mail, &mut self.nodes[place]) {
                let Some(known) = node.homes.desks.get_mut(room) else { continue };
                *known = *is;
                self.say(format_args!("node {} hears that {room:?} is {is:?}", place + 1));
                self.look_for_two_homes(*room);
            }
        }
    }

    /// No two nodes may act as the home of a room, nor may one take itself for it beside another.
    fn look_for_two_homes(&mut self, room: RoomId) {
        let now = self.beginning + self.now;
        let here = self.nodes.iter().enumerate().filter_map(|(place, node)| {
            let node = node.as_ref()?;
            match node.homes.desks.get(&room) {
                Some(HomeIs::Here(fence)) if node.directory.acts_as_home(*fence, now) => Some((place + 1, *fence)),
                _ => None,
            }
        });
        let here: Vec<_> = here.collect();
        if here.len() > 1 {
            self.judge.fail(self.now, &format!("{here:?} are all the home of {room:?}"));
        }
    }

    /// By which decision a room is entered and used at a node now.
    pub(super) fn fence_at(&self, place: usize, room: &RoomId) -> Option<Fence> {
        match self.nodes[place].as_ref()?.homes.desks.get(room)? {
            HomeIs::Here(fence) | HomeIs::There(_, fence) => Some(*fence),
            HomeIs::Unknown => None,
        }
    }

    /// Whether nothing is wanted of homes any more at a node, nor stands in the bucket.
    pub(super) fn is_without_homes(&self, place: usize) -> bool {
        let Some(node) = &self.nodes[place] else { return true };
        let here = node.homes.lock().homes_here(self.now);
        let written = self.bucket.homes_of(node.homes.lock().life());
        node.homes.book.reading().wanted == 0 && here == 0 && written == 0
    }

    /// Whether a node's own view of a room is one home, for what is said of a failure.
    pub(super) fn homes_told(&self, room: &RoomId) -> String {
        let all = self.nodes.iter().flatten().map(|node| node.homes.desks.get(room).copied());
        format!("{:?}", all.collect::<Vec<Option<HomeIs>>>())
    }
}
