//! What the shards want of the homes of rooms, and what they are told of them: between them and the node, which decides with the
//! others through NATS.
//!
//! A shard never waits here. What it wants is the last word on each room, so what waits is bounded by how many rooms there are,
//! and those by [`ROOMS_MAX`]. What a shard is told is what is true when it has room for it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt, mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use supernode_cluster::{Home, Moment, Node, RoomKey};
use supernode_proto::identity::RoomId;
use tokio::sync::Notify;

use super::secret::{ClusterSecret, Purpose};
use crate::{
    core::{Fence, HomeIs, HomeWish, NodeId},
    planted::planted,
};

/// Rooms that somebody here is in, or wants to be in, at most. Default 131,072: four times what a relay has of its own by
/// default, and 60 MB. Wishes for more are dropped and counted; whoever wants to come in is told to ask again.
const ROOMS_MAX: usize = 131_072;
/// So much earlier than the node a shard no longer acts as a home: its time is that of the beginning of its turn.
const MARGIN: Duration = Duration::from_millis(500);

/// Whom it is told.
pub trait HomeEars: Send + Sync {
    /// Where a room's home is now; whether there was room for the word.
    fn home_is(&self, room: RoomId, is: HomeIs) -> bool;
    /// Until when this node surely may act as a home, by decisions after this one.
    fn hold_until(&self, until: Instant, since: Fence);
}

/// What is counted of homes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HomesReading {
    /// Rooms that somebody here is in, or wants to be in.
    pub wanted: u64,
    /// Those of them whose home is being asked for, or taken.
    pub waiting: u64,
    /// Times that a room with people of this node got another home.
    pub moved: u64,
    /// Wishes that were dropped.
    pub dropped: u64,
}

/// The wishes, the words, and what is known in between.
pub struct HomeBook {
    rooms: Hmac<Sha256>,
    wishes: Mutex<Wishes>,
    /// Rung when somebody wants something.
    bell: Notify,
    waiting: AtomicU64,
    moved: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Rooms that are wanted, whether the node knows it yet or not.
    wanted: BTreeSet<RoomId>,
    /// What the node does not know yet.
    turned: BTreeMap<RoomId, Turned>,
}

/// What is new of a room: first it was left, then it is wanted, then in doubt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Turned {
    left: bool,
    wanted: bool,
    doubted: bool,
    heard: Option<Fence>,
}

/// What whoever lives by the node knows of the rooms, and by that the shards. It is the control thread's.
#[derive(Debug, Default)]
pub struct Told {
    by_key: BTreeMap<RoomKey, RoomId>,
    rooms: BTreeMap<RoomId, ToldRoom>,
    /// Of which it may be that the shards know something old.
    stale: BTreeSet<RoomId>,
    held: Option<(Moment, supernode_cluster::Fence)>,
}

#[derive(Debug)]
struct ToldRoom {
    key: RoomKey,
    is: HomeIs,
    /// The last decision that was told.
    last: Option<Fence>,
}

impl HomeBook {
    /// Of a node of the cluster with this secret.
    pub fn new(secret: &ClusterSecret) -> Self {
        let rooms = Hmac::new_from_slice(&secret.key(Purpose::Rooms)).expect("HMAC takes keys of any length");
        Self {
            rooms,
            wishes: Mutex::default(),
            bell: Notify::new(),
            waiting: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes what a shard wants. Does not wait.
    pub fn handle(&self, wish: HomeWish) {
        let mut wishes = self.wishes();
        let Wishes { wanted, turned } = &mut *wishes;
        match wish {
            HomeWish::Want(room) => {
                if wanted.len() >= ROOMS_MAX && !wanted.contains(&room) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                wanted.insert(room);
                turned.entry(room).or_default().wanted = true;
            }
            HomeWish::Leave(room) => {
                if wanted.remove(&room) {
                    turned.insert(room, Turned { left: true, ..Turned::default() });
                }
            }
            HomeWish::Doubt(room) if wanted.contains(&room) => turned.entry(room).or_default().doubted = true,
            HomeWish::Heard(room, fence) if wanted.contains(&room) => {
                turned.entry(room).or_default().heard = Some(fence);
            }
            HomeWish::Doubt(_) | HomeWish::Heard(..) => {}
        }
        drop(wishes);
        self.bell.notify_one();
    }

    /// Rings when something is wanted.
    pub(super) const fn bell(&self) -> &Notify {
        &self.bell
    }

    /// What is counted.
    pub fn reading(&self) -> HomesReading {
        HomesReading {
            wanted: self.wishes().wanted.len() as u64,
            waiting: self.waiting.load(Ordering::Relaxed),
            moved: self.moved.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Lets the node know what is wanted, and the shards what has changed. It is `now` since `begun` by the node's clock.
    pub fn look(&self, told: &mut Told, node: &Mutex<Node>, (begun, now): (Instant, Moment), ears: &dyn HomeEars) {
        let turned = mem::take(&mut self.wishes().turned);
        let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
        for (room, turned) in turned {
            self.turn(told, &mut node, room, turned);
        }
        while let Some(key) = node.poll_moved(now) {
            told.stale.extend(told.by_key.get(&key));
        }
        let held = node.held_until(now);
        if held != told.held {
            let (until, since) = held.map_or_else(Default::default, |(until, since)| (until, fence(since)));
            // Of a life that is over, nothing is held any more.
            let until = begun + until.saturating_sub(MARGIN);
            if !planted!(HomesHeldForEver) {
                ears.hold_until(until, since);
            } else if held.is_some() {
                ears.hold_until(until + Duration::from_secs(3_600), since);
            }
        }
        told.held = held;
        self.waiting.store(node.rooms().1 as u64, Ordering::Relaxed);
        let homes: Vec<_> =
            told.stale.iter().map(|room| (*room, told.rooms.get(room).map(|at| node.home(at.key, now)))).collect();
        drop(node);
        for (room, home) in homes {
            if home.is_none_or(|home| self.tell(told, room, home, ears)) {
                told.stale.remove(&room);
            }
        }
    }

    fn turn(&self, told: &mut Told, node: &mut Node, room: RoomId, turned: Turned) {
        let Turned { left, wanted, doubted, heard } = turned;
        let key = match told.rooms.entry(room) {
            Entry::Occupied(known) => known.get().key,
            Entry::Vacant(_) if !wanted => return,
            Entry::Vacant(place) => {
                let key = self.key(&room);
                told.by_key.insert(key, room);
                place.insert(ToldRoom { key, is: HomeIs::Unknown, last: None }).key
            }
        };
        if left {
            node.leave(key);
            if !wanted {
                told.rooms.remove(&room);
                told.by_key.remove(&key);
                told.stale.remove(&room);
                return;
            }
        }
        if wanted {
            node.want(key);
            // Whoever asks again is told again.
            if let Some(at) = told.rooms.get_mut(&room) {
                at.is = HomeIs::Unknown;
                at.last = at.last.filter(|_| !left);
            }
        }
        // What is heard of a later home than the one that is known.
        let is_later = heard.is_some_and(|heard| {
            let known = told.rooms.get(&room).and_then(|at| at.last);
            node.hears(key, supernode_cluster::Fence { epoch: heard.epoch, revision: heard.revision })
                && known.is_none_or(|known| known != heard)
        });
        if doubted || is_later {
            node.doubt(key);
        }
    }

    fn tell(&self, told: &mut Told, room: RoomId, home: Home, ears: &dyn HomeEars) -> bool {
        let Some(at) = told.rooms.get_mut(&room) else { return true };
        let (is, decided) = match home {
            Home::Here(by) => (HomeIs::Here(fence(by)), Some(fence(by))),
            Home::There(node, by) => (HomeIs::There(NodeId(node.0), fence(by)), Some(fence(by))),
            Home::Undecided => (HomeIs::Unknown, None),
        };
        let is_unheard = matches!(at.is, HomeIs::Here(_)) && planted!(LostHomeNotTold);
        if is == at.is || is_unheard {
            return true;
        }
        if !ears.home_is(room, is) {
            return false;
        }
        at.is = is;
        if decided.is_some() && decided != at.last {
            self.moved.fetch_add(u64::from(at.last.is_some()), Ordering::Relaxed);
            at.last = decided;
        }
        true
    }

    /// What a room's record stands under.
    fn key(&self, room: &RoomId) -> RoomKey {
        let mut over = self.rooms.clone();
        over.update(&room.0);
        RoomKey(over.finalize().into_bytes().first_chunk().copied().expect("it has 32 bytes"))
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fence(by: supernode_cluster::Fence) -> Fence {
    Fence { epoch: by.epoch, revision: by.revision }
}

impl fmt::Debug for HomeBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HomeBook(..)")
    }
}

#[cfg(test)]
mod tests {
    use supernode_cluster::{Act, Answer, Key, Life, NodeNumber, Own, Terms, Value, Whereabouts};

    use super::*;

    const ROOM: RoomId = RoomId([7; 16]);

    /// A bucket that does at once what it is asked.
    #[derive(Default)]
    struct Bucket {
        entries: BTreeMap<Key, supernode_cluster::Entry>,
        writes: u64,
    }

    impl Bucket {
        fn serve(&mut self, act: Act) -> Answer {
            let last = self.entries.get(&act.key()).copied();
            match act {
                Act::Read(_) => Answer::Found(last),
                Act::Write { expected, .. } if expected != last.map_or(0, |entry| entry.revision) => Answer::Conflict,
                Act::Write { key, value, .. } => {
                    self.writes += 1;
                    self.entries.insert(key, supernode_cluster::Entry { key, revision: self.writes, value });
                    Answer::Written(self.writes)
                }
            }
        }
    }

    #[derive(Default)]
    struct Heard {
        said: Mutex<Vec<(RoomId, HomeIs)>>,
        held: Mutex<Option<(Instant, Fence)>>,
        is_full: std::sync::atomic::AtomicBool,
    }

    impl HomeEars for Heard {
        fn home_is(&self, room: RoomId, is: HomeIs) -> bool {
            let takes = !self.is_full.load(Ordering::Relaxed);
            if takes {
                self.said.lock().expect("ours").push((room, is));
            }
            takes
        }

        fn hold_until(&self, until: Instant, since: Fence) {
            *self.held.lock().expect("ours") = Some((until, since));
        }
    }

    /// A node that is alone, and whoever lives by it.
    struct World {
        book: HomeBook,
        told: Told,
        node: Mutex<Node>,
        bucket: Bucket,
        begun: Instant,
        now: Moment,
        heard: Heard,
        is_cut: bool,
    }

    impl World {
        /// As old as it takes for homes.
        fn new() -> Self {
            let at = Whereabouts { address: ([192, 0, 2, 1], 1).into(), pin: [0; 32] };
            let own = Own { number: NodeNumber(3), at };
            let node = Mutex::new(Node::new(Terms::default(), own, Life(100), None));
            let (book, told) = (HomeBook::new(&ClusterSecret::new()), Told::default());
            let (bucket, heard) = (Bucket::default(), Heard::default());
            let begun = Instant::now();
            let mut world = Self { book, told, node, bucket, begun, now: Duration::ZERO, heard, is_cut: false };
            world.pass(Duration::from_secs(7));
            world
        }

        fn pass(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.now += Duration::from_millis(100);
                self.look();
            }
        }

        fn look(&mut self) {
            loop {
                self.book.look(&mut self.told, &self.node, (self.begun, self.now), &self.heard);
                let request = self.node.lock().expect("ours").poll_request(self.now);
                let Some(request) = request else { return };
                if !self.is_cut {
                    let answer = self.bucket.serve(request.act);
                    self.node.lock().expect("ours").handle_answer(request.number, answer, self.now);
                }
            }
        }

        fn want(&mut self, wishes: impl IntoIterator<Item = HomeWish>) {
            wishes.into_iter().for_each(|wish| self.book.handle(wish));
            self.pass(Duration::from_millis(300));
        }

        fn said(&self) -> Vec<HomeIs> {
            self.heard.said.lock().expect("ours").drain(..).map(|(_, is)| is).collect()
        }

        fn here(&self) -> Fence {
            match self.said()[..] {
                [HomeIs::Here(fence)] | [HomeIs::Unknown, HomeIs::Here(fence)] => fence,
                ref other => panic!("one home was due: {other:?}"),
            }
        }
    }

    //
    #[test]
    fn a_room_that_is_wanted_gets_a_home_and_another_one_after_it_was_left() {
        let mut world = World::new();
        world.want([HomeWish::Want(ROOM)]);
        let first = world.here();
        let (until, since) = world.heard.held.lock().expect("ours").expect("it lives");
        let left = until.saturating_duration_since(world.begun + world.now);
        assert!(left <= Duration::from_millis(3_500) && left > Duration::from_secs(2), "{left:?}");
        assert!(since.epoch == first.epoch && since.revision < first.revision, "{since:?}, {first:?}");
        world.pass(Duration::from_secs(5));
        assert_eq!(world.said(), [], "only what changes is said");
        world.want([HomeWish::Want(ROOM)]);
        assert_eq!(world.said(), [HomeIs::Here(first)], "whoever asks again is told again");

        // All in one breath, and one after the other.
        world.want([HomeWish::Leave(ROOM), HomeWish::Want(ROOM)]);
        let second = world.here();
        assert!(second.revision > first.revision);
        world.want([HomeWish::Leave(ROOM)]);
        assert_eq!((world.said(), world.book.reading().wanted), (vec![], 0));
        assert!(!world.bucket.entries.values().any(|entry| matches!(entry.value, Value::Home { .. })));
        world.want([HomeWish::Want(ROOM)]);
        assert!(world.here().revision > second.revision);
        let reading = world.book.reading();
        assert_eq!((reading.wanted, reading.waiting, reading.moved), (1, 0, 0), "it was left each time");
    }

    #[test]
    fn what_a_shard_has_no_room_for_is_said_when_it_has() {
        let mut world = World::new();
        world.heard.is_full.store(true, Ordering::Relaxed);
        world.want([HomeWish::Want(ROOM)]);
        assert_eq!(world.said(), []);
        world.heard.is_full.store(false, Ordering::Relaxed);
        world.pass(Duration::from_millis(100));
        world.here();
    }

    #[test]
    fn a_node_that_is_cut_off_holds_no_homes_and_says_so() {
        let mut world = World::new();
        world.want([HomeWish::Want(ROOM)]);
        let first = world.here();
        world.is_cut = true;
        world.pass(Duration::from_secs(6));
        assert_eq!(world.said(), [HomeIs::Unknown]);
        let (until, _) = world.heard.held.lock().expect("ours").expect("it lived");
        assert!(until <= world.begun);
        // Nobody has ended its life: it is the home as before.
        world.is_cut = false;
        world.pass(Duration::from_secs(2));
        assert_eq!(world.here(), first);
        // The bucket has lost everything: it is the home by another decision.
        world.bucket = Bucket::default();
        world.pass(Duration::from_secs(12));
        let second = world.here();
        assert_ne!(second.epoch, first.epoch);
        assert_eq!(world.book.reading().moved, 1);
    }

    #[test]
    fn of_too_many_rooms_those_that_come_last_are_left_out() {
        let book = HomeBook::new(&ClusterSecret::new());
        let room = |number: usize| RoomId((number as u128).to_be_bytes());
        (0..=ROOMS_MAX).for_each(|number| book.handle(HomeWish::Want(room(number))));
        assert_eq!((book.reading().wanted, book.reading().dropped), (ROOMS_MAX as u64, 1));
        book.handle(HomeWish::Want(room(0)));
        assert_eq!(book.reading().dropped, 1, "it is known already");
        book.handle(HomeWish::Leave(room(0)));
        book.handle(HomeWish::Want(room(ROOMS_MAX)));
        assert_eq!((book.reading().wanted, book.reading().dropped), (ROOMS_MAX as u64, 1));
        // What nobody wants is not kept.
        book.handle(HomeWish::Doubt(room(ROOMS_MAX + 1)));
        book.handle(HomeWish::Leave(room(ROOMS_MAX + 1)));
        assert!(!book.wishes().turned.contains_key(&room(ROOMS_MAX + 1)));
    }

    //
    #[test]
    fn a_room_s_record_stands_under_what_only_the_secret_makes_of_it() {
        let (one, other) = (ClusterSecret::new(), ClusterSecret::new());
        let key = |secret: &ClusterSecret, room| HomeBook::new(secret).key(&room);
        assert_eq!(key(&one, ROOM), key(&one, ROOM));
        assert_ne!(key(&one, ROOM), key(&other, ROOM));
        assert_ne!(key(&one, ROOM), key(&one, RoomId([8; 16])));
        assert_ne!(key(&one, ROOM).0, ROOM.0);
    }
}
