//! One node's part.

use std::{collections::BTreeMap, time::Duration};

use super::{
    bucket::{Act, Answer, Entry, Key, Life, Moment, NodeNumber, Request, RoomKey, Value, Whereabouts},
    epoch::EpochSeen,
    lives::Lives,
    own_life::{OwnLife, Place},
    rooms::{Fence, Home, Rooms},
};

/// How long what holds. All nodes of a cluster have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// From when a renewal that is taken was sent until its node no longer takes itself for alive. Default 4 s.
    pub hold: Duration,
    /// From when the last renewal was seen until others end a life. Default 5 s: what it is longer than `hold` is for clocks
    /// that run at different speeds, a fifth here, where a quartz is a ten-thousandth off.
    pub wait: Duration,
    /// Between two renewals. Default 1 s: three may be lost.
    pub renew_every: Duration,
    /// For an answer of the bucket. Default 1 s: it takes a millisecond where all is well.
    pub patience: Duration,
    /// Between two equal requests. Default 100 ms: as often as matters to people.
    pub pace: Duration,
    /// What is done wrong, to see that it is found.
    #[cfg(test)]
    pub(crate) fault: Option<crate::tests::Fault>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(4),
            wait: Duration::from_secs(5),
            renew_every: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            pace: Duration::from_millis(100),
            #[cfg(test)]
            fault: None,
        }
    }
}

/// Which node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Own {
    /// The number that its operator gave it, and no other node of the cluster.
    pub number: NodeNumber,
    /// What it says of itself.
    pub at: Whereabouts,
}

/// Whether a test has planted a fault here: never, outside of tests.
macro_rules! planted {
    ($terms:expr, $fault:ident) => {{
        #[cfg(test)]
        let planted = $terms.fault == Some(crate::tests::Fault::$fault);
        #[cfg(not(test))]
        let planted = {
            let _: &$crate::Terms = &$terms;
            false
        };
        planted
    }};
}
pub(crate) use planted;

/// A request that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    /// Later requests have higher ones.
    pub(crate) number: u64,
    /// What was asked.
    pub(crate) act: Act,
    /// When.
    pub(crate) since: Moment,
    answered: bool,
}

/// One node's part of the cluster.
///
/// Whoever drives it hands [`poll_request`](Self::poll_request)'s requests to the bucket and its answers to
/// [`handle_answer`](Self::handle_answer), watches the bucket's records of lives and of ripeness for
/// [`handle_entry`](Self::handle_entry), each key's in the order in which they were written (one may be left out where a newer
/// one follows), and calls `poll_request` again after each of these until it is empty, and once in each
/// [`Terms::pace`]. Times never go back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    terms: Terms,
    is: Own,
    /// The next life's number, or epoch's.
    next: Life,
    /// That of the process that this one follows, which is known to be over.
    follows: Option<Life>,
    epoch: EpochSeen,
    own: OwnLife,
    lives: Lives,
    rooms: Rooms,
    /// The last request about each key.
    asked: BTreeMap<Key, Asking>,
    next_number: u64,
    /// It is to have no life any more.
    leaving: bool,
    /// The life that was held when that was looked at last.
    held_last: Option<Life>,
}

impl Node {
    /// A node without a life: it begins one once nobody lives under its number. `first` is a random number: it and those after it are of its lives, and of epochs that it begins.
    /// `follows` is the last [`life`](Self::life) of a process that was here before and is known to have ended: nobody need
    /// wait for that.
    pub fn new(terms: Terms, is: Own, first: Life, follows: Option<Life>) -> Self {
        Self {
            terms,
            is,
            next: first,
            follows,
            epoch: EpochSeen::default(),
            own: OwnLife::None,
            lives: Lives::default(),
            rooms: Rooms::default(),
            asked: BTreeMap::new(),
            next_number: 0,
            leaving: false,
            held_last: None,
        }
    }

    /// The terms that it was made with.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The epoch whose records of lives and ripeness are to be watched. What is written before the watch begins counts as well.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch.last()
    }

    /// The life that it has or is about to begin, which whoever comes after this process will want to know.
    pub fn life(&self) -> Option<Life> {
        self.own.place().map(|place| place.life)
    }

    /// Under which number and in which life this node lives now; `None` while it may be over for others.
    pub fn held(&self, now: Moment) -> Option<(NodeNumber, Life)> {
        self.own_now(now).map(|place| (place.node, place.life))
    }

    /// Until when the life that is held now surely is, if nothing more is heard of the bucket, and the number of its first
    /// write: what this node is the home of in this life has a fence of this epoch and a later number.
    pub fn held_until(&self, now: Moment) -> Option<(Moment, Fence)> {
        let place = self.own_now(now)?;
        Some((place.held_until(&self.terms), Fence { epoch: self.epoch.last()?, revision: place.first() }))
    }

    /// The nodes that live, as far as this one has seen, itself among them.
    pub fn alive(&self) -> impl Iterator<Item = (NodeNumber, Life, Whereabouts)> {
        self.lives.all().filter_map(|(node, seen)| Some((node, seen.life, seen.at?)))
    }

    /// Who lives under this node's number, if it is somebody else: the process before this one, for [`Terms::wait`] at most, or
    /// another node that was given the same number.
    pub fn other_of_number(&self) -> Option<(Life, Whereabouts)> {
        let seen = self.lives.of(self.is.number).filter(|seen| Some(seen.life) != self.life())?;
        Some((seen.life, seen.at?))
    }

    /// The rooms whose home is here.
    pub fn homes_here(&self, now: Moment) -> usize {
        self.rooms.held(self.own_now(now), &self.terms)
    }

    /// How many rooms are wanted, and of how many of them the home is being asked for or taken.
    pub fn rooms(&self) -> (usize, usize) {
        self.rooms.counts()
    }

    /// The next wanted room whose [`home`](Self::home) may be another than when it was named here last. To be called after
    /// everything that happens to the node, until it is `None`, and once in each [`Terms::pace`].
    pub fn poll_moved(&mut self, now: Moment) -> Option<RoomKey> {
        self.notice_own(now);
        self.rooms.poll_moved()
    }

    /// Somebody here is in the room, or another node asks us as its home: where that is must be known, and if it is nowhere,
    /// it is to be here.
    pub fn want(&mut self, room: RoomKey) {
        self.rooms.want(room, &self.terms);
    }

    /// Nobody is in the room any more, as far as this node can know.
    pub fn leave(&mut self, room: RoomKey) {
        self.rooms.leave(room);
    }

    /// The node that the room's home should be at says that it is not.
    pub fn doubt(&mut self, room: RoomKey) {
        self.rooms.doubt(room);
    }

    /// Where a room that is wanted has its home. A node that answers as the home asks this first, each time.
    pub fn home(&self, room: RoomKey, now: Moment) -> Home {
        let Some(epoch) = self.epoch.last() else { return Home::Undecided };
        match self.rooms.home(room, epoch, self.own_now(now), &self.lives, &self.terms) {
            // At the process before this one, or at this one, which does not hold its life now.
            Home::There(node, _) if node == self.is.number => Home::Undecided,
            home => home,
        }
    }

    /// Whether what a home said of a wanted room is heard. Nothing is that was decided before what was heard already, and
    /// nothing of another epoch than the one that this node knows.
    pub fn hears(&mut self, room: RoomKey, fence: Fence) -> bool {
        self.epoch.last() == Some(fence.epoch) && self.rooms.hears(room, fence)
    }

    /// Ends this node's life: others may have its homes at once. It begins no other.
    pub fn end(&mut self) {
        self.leaving = true;
    }

    /// Takes what was written under a key of the epoch.
    pub fn handle_entry(&mut self, entry: Entry, now: Moment) {
        match entry.key {
            Key::Ripe { epoch } => self.epoch.handle_ripe(epoch),
            Key::Life { epoch, node } if self.epoch.last() == Some(epoch) => {
                let before = self.lives.of(node);
                if self.lives.handle(node, entry.revision, entry.value, now) {
                    match before.zip(self.lives.of(node)) {
                        Some((before, seen)) if seen.goes_on_from(&before) => self.rooms.handle_renewal(),
                        _ if planted!(self.terms, LivesUnheeded) => (),
                        _ => self.rooms.touch_all(),
                    }
                }
            }
            _ => (),
        }
    }

    /// Takes an answer. One that comes too late, or twice, is left aside.
    pub fn handle_answer(&mut self, number: u64, answer: Answer, now: Moment) {
        let Some(asking) = self.asked.values_mut().find(|asking| asking.number == number && !asking.answered) else {
            return;
        };
        asking.answered = true;
        let asking = asking.clone();
        self.take(&asking, answer, now);
    }

    /// The next request to the bucket, if there is one.
    pub fn poll_request(&mut self, now: Moment) -> Option<Request> {
        self.give_up(now);
        self.begin_life(now);
        self.notice_own(now);
        let Some(act) = self.wishes(now).find(|act| self.may_ask(act, now)) else {
            self.rooms.settle(self.life(), &self.lives);
            return None;
        };
        let number = self.next_number;
        self.next_number += 1;
        self.asked.insert(act.key(), Asking { number, act, since: now, answered: false });
        match act {
            Act::Write { value: Value::Epoch(_), .. } => self.use_number(),
            Act::Write { key: Key::Room { room, .. }, expected, value: Value::Empty } => {
                self.rooms.handle_given_up(room, expected);
            }
            _ => (),
        }
        if let Key::Room { room, .. } = act.key() {
            self.rooms.handle_asked(room);
        }
        Some(Request { number, act })
    }

    /// What is here and there also follows from whether this node lives, which ends without a word.
    fn notice_own(&mut self, now: Moment) {
        let held = self.own_now(now).map(|place| place.life);
        if std::mem::replace(&mut self.held_last, held) != held {
            self.rooms.touch_all();
        }
    }

    fn own_now(&self, now: Moment) -> Option<&Place> {
        // A life that others say is over is over, whatever our clock says.
        let place = self.own.held(now, &self.terms).filter(|_| !self.leaving)?;
        let over = self.lives.of(place.node).is_some_and(|seen| seen.life == place.life && seen.is_over());
        (!over).then_some(place)
    }

    /// What is wanted of the bucket now, the most urgent first.
    fn wishes(&self, now: Moment) -> impl Iterator<Item = Act> + '_ {
        let epoch = self.epoch.last();
        let own = self.own_now(now);
        let life = epoch.and_then(|epoch| self.life_wish(epoch, now));
        let ripe = epoch.filter(|_| own.is_some() && self.epoch.should_say_ripe(now, self.terms.wait));
        let ripe = ripe.map(|epoch| Act::Write { key: Key::Ripe { epoch }, expected: 0, value: Value::Ripe });
        let is_ripe = self.epoch.is_ripe(now, self.terms.wait) || planted!(self.terms, RipeAtOnce);
        let ends = epoch.into_iter().flat_map(move |epoch| self.ends(epoch, own, now));
        let homes = epoch.zip(own).into_iter();
        let homes =
            homes.flat_map(move |(epoch, own)| self.rooms.wishes(epoch, own, is_ripe, &self.lives, &self.terms));
        self.epoch.wish(self.next.0).into_iter().chain(life).chain(ripe).chain(ends).chain(homes)
    }

    /// What is wanted for our own life.
    fn life_wish(&self, epoch: u64, now: Moment) -> Option<Act> {
        match &self.own {
            OwnLife::Alive(place) if self.leaving => {
                let key = Key::Life { epoch, node: place.node };
                let seen = self.lives.of(place.node).filter(|seen| !seen.is_over() && seen.life == place.life)?;
                Some(Act::Write { key, expected: seen.revision, value: Value::Ended(place.life) })
            }
            _ if self.leaving => None,
            // The first write.
            OwnLife::Beginning(place) if !place.is_in_doubt() => {
                let key = Key::Life { epoch, node: place.node };
                let value = Value::Alive(place.life, self.is.at);
                Some(Act::Write { key, expected: place.revision(), value })
            }
            own => own.wish(epoch, self.is.at, &self.terms, now),
        }
    }

    /// Lives of others that are to be ended: those that were not renewed for too long, and that of the process before this one.
    /// A node that has no life ends only the one that is in its way: the process before it may have been the last node.
    fn ends<'a>(&'a self, epoch: u64, own: Option<&'a Place>, now: Moment) -> impl Iterator<Item = Act> + 'a {
        let may_end = move |node| match own {
            Some(own) => node != own.node,
            None => node == self.is.number && self.own == OwnLife::None && !self.leaving,
        };
        self.lives.all().filter_map(move |(node, seen)| {
            let followed = self.follows == Some(seen.life);
            let wait = if planted!(self.terms, EndedEarly) { self.terms.wait / 2 } else { self.terms.wait };
            let over = !seen.is_over() && may_end(node) && (followed || now >= seen.since + wait);
            let (key, value) = (Key::Life { epoch, node }, Value::Ended(seen.life));
            over.then_some(Act::Write { key, expected: seen.revision, value })
        })
    }

    /// Requests that were not answered for too long are given up.
    fn give_up(&mut self, now: Moment) {
        let late = |asking: &&mut Asking| !asking.answered && now >= asking.since + self.terms.patience;
        let late: Vec<Asking> = self
            .asked
            .values_mut()
            .filter(late)
            .map(|asking| {
                asking.answered = true;
                asking.clone()
            })
            .collect();
        for asking in late {
            self.take(&asking, Answer::Unknown, now);
        }
        self.asked.retain(|_, asking| !asking.answered || now < asking.since + self.terms.pace);
    }

    /// Begins a life under our number, if there is none and the epoch is known.
    fn begin_life(&mut self, now: Moment) {
        if self.own != OwnLife::None || self.leaving || self.epoch.current().is_none() {
            return;
        }
        let node = self.is.number;
        // The bucket takes the write only if the record is still the one that is looked at here.
        let seen = self.lives.of(node);
        if seen.is_none_or(|seen| seen.is_over()) || planted!(self.terms, NumberTakenOver) {
            let over = seen.map_or(0, |seen| seen.revision);
            self.own = OwnLife::Beginning(Place::new(node, self.next, over, now));
            self.use_number();
        }
    }

    const fn use_number(&mut self) {
        self.next = Life(self.next.0.wrapping_add(1));
    }

    fn may_ask(&self, act: &Act, now: Moment) -> bool {
        self.asked.get(&act.key()).is_none_or(|last| {
            // What follows from an answer is asked at once; the same again only after a while.
            last.answered && (last.act != *act || now >= last.since + self.terms.pace)
        })
    }

    fn take(&mut self, asking: &Asking, answer: Answer, now: Moment) {
        let key = asking.act.key();
        if key == Key::Epoch {
            let another = self.epoch.handle_answer(asking, answer, now);
            if another {
                self.lives.clear();
                self.own = OwnLife::None;
                self.rooms.forget_all();
            } else if self.epoch.current().is_some() {
                self.own.handle_same_epoch();
                self.rooms.handle_same_epoch();
            }
            return;
        }
        // It may have been asked in another epoch.
        let (Key::Ripe { epoch } | Key::Life { epoch, .. } | Key::Room { epoch, .. }) = key else { return };
        if self.epoch.last() != Some(epoch) {
            return;
        }
        match (asking.act, answer) {
            (_, Answer::Found(Some(entry))) => self.handle_entry(entry, now),
            (Act::Write { key, value, .. }, Answer::Written(revision)) => {
                self.handle_entry(Entry { key, revision, value }, now);
            }
            _ => (),
        }
        match key {
            Key::Room { room, .. } => {
                let own = self.life();
                if self.rooms.handle_answer(epoch, room, asking.act, answer, own) {
                    self.epoch.doubt(self.next_number);
                }
            }
            Key::Life { node, .. } if self.own.place().is_some_and(|place| place.node == node) => {
                self.own.handle_answer(asking, answer, &self.terms, now);
                if !matches!(self.own, OwnLife::Alive(_)) {
                    self.epoch.doubt(self.next_number);
                }
            }
            // Nobody renews the life that is in our way, and yet the bucket has another record: it may have lost everything.
            Key::Life { node, .. } if node == self.is.number && answer == Answer::Conflict => {
                self.epoch.doubt(self.next_number);
            }
            _ => (),
        }
    }

    /// Whether something is to be asked of a room that is not looked at any more: never.
    #[cfg(test)]
    pub(crate) fn neglects(&self, now: Moment) -> bool {
        let Some((epoch, own)) = self.epoch.last().zip(self.own_now(now)) else { return false };
        self.held_last == Some(own.life)
            && self.rooms.neglects(epoch, own, self.epoch.is_ripe(now, self.terms.wait), &self.lives, &self.terms)
    }
}
