//! What is between nodes: links that keep the order and break, and a bus that loses, delays and doubles.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use supernode_cluster::{Answer, Request};
use supernode_proto::control::client_message::Body;
use supernode_server::core::{Address, BusErrand, ControlMail, NodeId, Topic};

use super::{
    Nodes,
    calls::Deed,
    node::{Seat, number, place},
};

/// Something that happens at its time.
pub(super) enum Event {
    /// A letter arrives at a shard.
    Letter { to: (usize, u64), shard: usize, way: Option<(usize, u64)>, mail: Vec<ControlMail> },
    /// Something that was told on the bus arrives.
    Heard { to: (usize, u64), topic: Topic, from: NodeId, bytes: Bytes },
    /// A node notices that another can be reached, or cannot any more.
    Link { at: (usize, u64), other: usize, is_up: bool },
    /// A node's connection to the bus is there again.
    BusBack { at: (usize, u64) },
    /// These rings must have ended.
    Broken(Vec<(u64, Bytes)>),
    /// A client asks for something.
    Deed(Deed),
    /// A client has not been heard of for long enough.
    Idle(Seat),
    /// A client says something to a process that stood still.
    Says { seat: Seat, request: u64, body: Body },
    /// A node looks at what decides where rooms live.
    Look((usize, u64)),
    /// The bucket is asked something.
    Asked { from: (usize, u64), request: Request },
    /// It has answered.
    Answered { to: (usize, u64), number: u64, answer: Answer },
    /// A device tries again to be where it wants to be.
    Again(usize),
}

impl Event {
    /// The node that it happens at, where it has to wait while that stands still.
    fn at_node(&self) -> Option<usize> {
        match self {
            Self::Letter { to, .. } | Self::Heard { to, .. } | Self::Answered { to, .. } => Some(to.0),
            Self::Link { at, .. } | Self::BusBack { at } | Self::Look(at) => Some(at.0),
            _ => None,
        }
    }
}

/// All links, and the bus.
pub(super) struct Ways {
    /// By the places of their ends, the lower first.
    links: BTreeMap<(usize, usize), Link>,
    /// When the last letter from a shard to a shard arrives.
    last: BTreeMap<(usize, usize, usize, u16), Duration>,
    /// Nodes that are cut off from the bus.
    without_bus: Vec<bool>,
    /// Nothing is lost on the bus.
    pub(super) is_calm: bool,
    told: u64,
    lost: u64,
    letters: u64,
}

#[derive(Default)]
struct Link {
    is_up: bool,
    /// Counts the times that it broke.
    breaks: u64,
    /// When both ends have noticed what happened to it last.
    noticed: Duration,
}

/// Within so long a node notices that a link has broken: the link's idle timeout.
const NOTICED_MAX_MS: u64 = 3_000;
/// And that it is there again.
const JOINED_MAX_MS: u64 = 1_000;
/// Within so long a node has told its devices what ends with a link.
const ENDED: Duration = Duration::from_millis(20);
/// Letters within a node take so long,
pub(super) const LETTER_HERE_US: std::ops::Range<u64> = 1..2_000;
/// and those between nodes.
const LETTER_US: std::ops::Range<u64> = 200..40_000;
/// What is told on the bus takes so long,
const HEARD_US: std::ops::Range<u64> = 200..60_000;
/// and once in a while longer.
const LATE_US: std::ops::Range<u64> = 60_000..2_000_000;

impl Ways {
    pub(super) fn new(nodes: usize) -> Self {
        let pairs = (0..nodes).flat_map(|one| (one + 1..nodes).map(move |other| ((one, other), Link::default())));
        let (links, without_bus) = (pairs.collect(), vec![false; nodes]);
        Self { links, last: BTreeMap::new(), without_bus, is_calm: false, told: 0, lost: 0, letters: 0 }
    }

    pub(super) fn figures(&self) -> (u64, u64, u64) {
        (self.told, self.lost, self.letters)
    }

    /// When something arrives that sets out after all that went before it on the same way.
    pub(super) fn in_order(&mut self, way: (usize, usize, usize, u16), at: Duration) -> Duration {
        let last = self.last.entry(way).or_default();
        *last = at.max(*last);
        *last
    }

    pub(super) fn is_without_bus(&self, place: usize) -> bool {
        self.without_bus[place]
    }

    fn link(&mut self, one: usize, other: usize) -> &mut Link {
        self.links.entry((one.min(other), one.max(other))).or_default()
    }
}

impl Nodes {
    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((at, self.events_made), event);
    }

    pub(super) fn idle_at(&mut self, at: Duration, seat: Seat) {
        self.at(at, Event::Idle(seat));
    }

    pub(super) fn life(&self, place: usize) -> Option<(usize, u64)> {
        self.nodes[place].as_ref().map(|node| (place, node.life))
    }

    fn is_life(&self, (place, life): (usize, u64)) -> bool {
        self.nodes[place].as_ref().is_some_and(|node| node.life == life)
    }

    /// The link between two nodes comes up, if both are there and it is not up.
    pub(super) fn join(&mut self, one: usize, other: usize) {
        let (Some(one_life), Some(other_life)) = (self.life(one), self.life(other)) else { return };
        if one == other || self.ways.link(one, other).is_up {
            return;
        }
        let from = self.now.max(self.ways.link(one, other).noticed);
        let times = [(); 2].map(|()| from + Duration::from_millis(self.rng.random_range(1..JOINED_MAX_MS)));
        let noticed = times[0].max(times[1]);
        let link = self.ways.link(one, other);
        (link.is_up, link.noticed) = (true, noticed);
        self.at(times[0], Event::Link { at: one_life, other, is_up: true });
        self.at(times[1], Event::Link { at: other_life, other: one, is_up: true });
    }

    /// It breaks: what is on its way is lost, and each end notices in its own time.
    pub(super) fn part(&mut self, one: usize, other: usize) {
        if one == other || !self.ways.link(one, other).is_up {
            return;
        }
        let from = self.now.max(self.ways.link(one, other).noticed);
        let times = [(); 2].map(|()| from + Duration::from_millis(self.rng.random_range(1..NOTICED_MAX_MS)));
        let link = self.ways.link(one, other);
        (link.is_up, link.breaks, link.noticed) = (false, link.breaks + 1, times[0].max(times[1]));
        for ((end, far), at) in [(one, other), (other, one)].into_iter().zip(times) {
            if let Some(end) = self.life(end) {
                self.at(at, Event::Link { at: end, other: far, is_up: false });
            }
        }
    }

    /// A node is cut off from the bus, or back.
    pub(super) fn set_bus(&mut self, place: usize, is_there: bool) {
        if std::mem::replace(&mut self.ways.without_bus[place], !is_there) && is_there {
            let at = self.now + Duration::from_millis(self.rng.random_range(1..JOINED_MAX_MS));
            if let Some(life) = self.life(place) {
                self.at(at, Event::BusBack { at: life });
            }
        }
    }

    /// A letter sets out.
    pub(super) fn post(&mut self, (from, shard): (usize, usize), to: Address, mail: Vec<ControlMail>) {
        let far = place(to.node);
        let is_here = far == from;
        let reaches = self.nodes[from].as_ref().is_some_and(|node| node.reaches.contains(&far));
        let way = self.ways.links.get(&(from.min(far), from.max(far))).filter(|link| link.is_up);
        let way = way.map(|link| (link.breaks, link.noticed));
        if !is_here && (!reaches || way.is_none()) {
            return;
        }
        let Some(life) = self.life(far) else { return };
        let takes = match is_here {
            true => self.rng.random_range(LETTER_HERE_US),
            false => self.rng.random_range(LETTER_US),
        };
        let mut at = self.now + Duration::from_micros(takes);
        if let Some((_, noticed)) = way.filter(|_| !is_here) {
            // The other end hears of the link before it gets letters over it.
            at = at.max(noticed);
            self.ways.letters += 1;
        }
        at = self.ways.in_order((from, shard, far, to.shard.0), at);
        let way = way.filter(|_| !is_here).map(|(breaks, _)| (from, breaks));
        self.at(at, Event::Letter { to: life, shard: to.shard.index(), way, mail });
    }

    pub(super) fn do_bus(&mut self, from: usize, errand: BusErrand) {
        let Some(node) = &mut self.nodes[from] else { return };
        match errand {
            BusErrand::Listen(topic) => {
                if !node.listens.insert(topic) {
                    self.judge.fail(self.now, "a node listens to a topic twice");
                }
            }
            BusErrand::Forget(topic) => {
                if !node.listens.remove(&topic) {
                    self.judge.fail(self.now, "a node forgets what it does not listen to");
                }
            }
            BusErrand::Tell(topic, bytes) => {
                for far in (0..self.nodes.len()).filter(|far| *far != from) {
                    self.tell_one(from, far, topic, &bytes);
                }
            }
        }
    }

    fn tell_one(&mut self, from: usize, far: usize, topic: Topic, bytes: &Bytes) {
        let Some(to) = self.life(far) else { return };
        let [lost, twice, late] = std::array::from_fn(|_| self.rng.random_range(0.0..1.0));
        self.ways.told += 1;
        let is_lost = lost < 0.15 && !self.ways.is_calm;
        if is_lost || self.ways.without_bus[from] || self.ways.without_bus[far] {
            self.ways.lost += 1;
            return;
        }
        for copy in 0..if twice < 0.1 { 2 } else { 1 } {
            let is_late = copy > 0 || late < 0.05;
            let takes = if is_late { LATE_US } else { HEARD_US };
            let at = self.now + Duration::from_micros(self.rng.random_range(takes));
            let (from, bytes) = (number(from), bytes.clone());
            self.at(at, Event::Heard { to, topic, from, bytes });
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        if let Some(until) = event.at_node().and_then(|place| self.still_until(place)) {
            return self.at(until, event);
        }
        match event {
            Event::Letter { to, shard, way, mail } => {
                let is_lost = way.is_some_and(|(from, breaks)| {
                    let reaches = self.nodes[to.0].as_ref().is_some_and(|node| node.reaches.contains(&from));
                    self.ways.link(from, to.0).breaks != breaks || !reaches
                });
                if !is_lost && self.is_life(to) {
                    self.desk_hears(to.0, &mail);
                    self.put(to.0, shard, mail);
                }
            }
            Event::Heard { to, topic, from, bytes } => {
                let listens = |topic: &Topic| {
                    *topic == Topic::Nodes || self.nodes[to.0].as_ref().is_some_and(|node| node.listens.contains(topic))
                };
                if self.is_life(to) && listens(&topic) {
                    let shard = self.rng.random_range(0..usize::from(self.shards));
                    self.put(to.0, shard, vec![ControlMail::Heard { topic, from, bytes }]);
                }
            }
            Event::Link { at, other, is_up } => {
                if let Some(node) = self.nodes[at.0].as_mut().filter(|node| node.life == at.1) {
                    let is_news = if is_up { node.reaches.insert(other) } else { node.reaches.remove(&other) };
                    if is_news {
                        let far = number(other);
                        let mail = if is_up { ControlMail::NodeCame(far) } else { ControlMail::NodeGone(far) };
                        self.say(format_args!("node {} notices of {}: {is_up}", at.0 + 1, other + 1));
                        let rings = if is_up { Vec::new() } else { self.rings_between(at.0, other) };
                        self.put_all(at.0, &mail);
                        self.at(self.now + ENDED, Event::Broken(rings));
                    }
                }
            }
            Event::BusBack { at } => {
                if self.is_life(at) {
                    self.put_all(at.0, &ControlMail::BusBack);
                }
            }
            Event::Broken(rings) => self.look_at_broken(&rings),
            Event::Deed(deed) => self.do_deed(deed),
            Event::Idle(seat) => self.end_session(seat, false),
            Event::Says { seat, request, body } => self.ask(seat, request, body),
            Event::Look(at) => {
                if self.is_life(at) {
                    self.look_again(at);
                }
            }
            Event::Asked { from, request } => self.bucket_is_asked(from, request),
            Event::Answered { to, number, answer } => {
                if self.is_life(to) {
                    self.bucket_answers(to.0, number, answer);
                }
            }
            Event::Again(device) => self.come_again(device),
        }
    }

    fn put_all(&mut self, place: usize, mail: &ControlMail) {
        for shard in 0..usize::from(self.shards) {
            self.put(place, shard, vec![mail.clone()]);
        }
    }
}
