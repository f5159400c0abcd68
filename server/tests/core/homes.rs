//! Rooms of a cluster: members at several nodes, one of which is the room's home, one thing at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::{
    close::CloseCode,
    control::{
        CatchUp, JoinRoom, KickMember, LeaveRoom, PublishTrack, RefusalReason, RoomJoined, SendMls, Subscribe,
        TrackKind, UnpublishTrack, client_message::Body as Request, relay_message::Body,
    },
    identity::RoomId,
    mls::Envelope,
    object::TrackAlias,
};
use supernode_server::core::{ControlMail, Fence, HomeIs, HomeWish, NodeId, directory::Population};

use crate::world::{At, Person, World};

const ROOM: RoomId = RoomId([7; 16]);

/// Three nodes, links between them, and whoever decides where rooms live.
pub struct Cluster {
    pub nodes: Vec<World>,
    pub homes: BTreeMap<RoomId, (usize, Fence)>,
    pub wanted: BTreeSet<(RoomId, usize)>,
    revision: u64,
    /// Nothing is decided, or told.
    pub is_silent: bool,
    /// Letters from the first of these to the second are kept.
    pub held: Option<(usize, usize)>,
    pub kept: Vec<(usize, usize, Vec<ControlMail>)>,
    /// Between these nothing comes through.
    pub parted: BTreeSet<(usize, usize)>,
    doubts: usize,
    /// When a home is given up the others who want the room have another one at once.
    pub goes_on: bool,
}

impl Cluster {
    pub fn new() -> Self {
        let nodes: Vec<World> = (1..=3).map(|number| World::of_node(number, 3)).collect();
        let (homes, wanted) = (BTreeMap::new(), BTreeSet::new());
        let (kept, parted) = (Vec::new(), BTreeSet::new());
        let mut cluster = Self {
            nodes,
            homes,
            wanted,
            revision: 10,
            is_silent: false,
            held: None,
            kept,
            parted,
            doubts: 0,
            goes_on: false,
        };
        for node in 0..3 {
            let until = cluster.nodes[node].now.instant + Duration::from_secs(3600);
            cluster.nodes[node].directory.hold_homes_until(until, Fence { epoch: 1, revision: 1 });
            (0..3)
                .filter(|other| *other != node)
                .for_each(|other| cluster.tell(node, &ControlMail::NodeCame(id(other))));
        }
        cluster.settle();
        cluster
    }

    /// Something that every shard of a node is told.
    pub fn tell(&mut self, node: usize, mail: &ControlMail) {
        (0..3).for_each(|shard| self.nodes[node].put(shard, mail.clone()));
    }

    /// Carries everything until there is nothing left.
    pub fn settle(&mut self) {
        loop {
            self.nodes.iter_mut().for_each(World::settle);
            if !self.carry() {
                return;
            }
        }
    }

    /// Carries what the nodes want carried now; whether there was anything.
    pub fn carry(&mut self) -> bool {
        let mut any = false;
        for node in 0..3 {
            self.nodes[node].bus.clear();
            for wish in std::mem::take(&mut self.nodes[node].wishes) {
                any = true;
                self.wish(node, wish);
            }
            for (to, letter) in std::mem::take(&mut self.nodes[node].posted) {
                any = true;
                let other = usize::from(to.node.0) - 1;
                if self.held == Some((node, other)) {
                    self.kept.push((other, to.shard.index(), letter));
                } else if !self.parted.contains(&(node.min(other), node.max(other))) {
                    self.put(other, to.shard.index(), letter);
                }
            }
        }
        any
    }

    pub fn put(&mut self, node: usize, shard: usize, letter: Vec<ControlMail>) {
        letter.into_iter().for_each(|mail| self.nodes[node].put(shard, mail));
    }

    fn wish(&mut self, node: usize, wish: HomeWish) {
        match wish {
            HomeWish::Want(room) => {
                self.wanted.insert((room, node));
                if self.is_silent {
                    return;
                }
                if !self.homes.contains_key(&room) {
                    self.decide(room, node);
                }
                self.tell_home(room, node);
            }
            HomeWish::Leave(room) => {
                self.wanted.remove(&(room, node));
                if self.homes.get(&room).is_some_and(|(home, _)| *home == node) {
                    self.homes.remove(&room);
                    self.decide_for_others(room);
                }
            }
            HomeWish::Doubt(_) => self.doubts += 1,
            HomeWish::Heard(..) => {}
        }
    }

    /// Writes a home down without telling anybody.
    pub fn decide(&mut self, room: RoomId, node: usize) {
        self.revision += 1;
        self.homes.insert(room, (node, Fence { epoch: 1, revision: self.revision }));
    }

    /// Whoever else wants a room that has no home has one, and they all hear of it.
    pub fn decide_for_others(&mut self, room: RoomId) {
        let others: Vec<usize> = (0..3).filter(|other| self.wanted.contains(&(room, *other))).collect();
        if let Some(next) =
            others.first().filter(|_| self.goes_on && !self.is_silent && !self.homes.contains_key(&room))
        {
            self.decide(room, *next);
            others.iter().for_each(|other| self.tell_home(room, *other));
        }
    }

    pub fn tell_home(&mut self, room: RoomId, node: usize) {
        let (home, fence) = self.homes[&room];
        let is = if home == node { HomeIs::Here(fence) } else { HomeIs::There(id(home), fence) };
        // The shard that deals with this room.
        let desk = usize::from(u16::from_be_bytes([room.0[0], room.0[1]]) % 3);
        self.nodes[node].put(desk, ControlMail::HomeIs { room, is });
    }

    pub fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.nodes.iter_mut().for_each(|node| node.advance(step));
            self.settle();
        }
    }

    pub fn ask(&mut self, node: usize, at: At, request: Request) {
        self.nodes[node].ask(at, request);
        self.settle();
    }

    /// Lets somebody into the room, and says as which member.
    fn enter(&mut self, node: usize, shard: usize, person: &Person) -> At {
        let at = self.nodes[node].connect(person, shard);
        self.nodes[node].join(at, person, ROOM);
        self.settle();
        at
    }

    pub fn events<T>(&self, node: usize, at: At, is_it: impl Fn(&Body) -> Option<T>) -> Vec<T> {
        let of_session = self.nodes[node].sent.iter().filter(|(to, _)| *to == at.id);
        of_session.filter_map(|(_, message)| is_it(message.body.as_ref()?)).collect()
    }

    fn joined(&self, node: usize, at: At) -> Option<RoomJoined> {
        self.events(node, at, |body| if let Body::RoomJoined(it) = body { Some(it.clone()) } else { None }).pop()
    }

    fn refused(&self, node: usize, at: At) -> Vec<RefusalReason> {
        self.events(node, at, |body| if let Body::Refused(it) = body { Some(it.reason()) } else { None })
    }

    fn dones(&self, node: usize, at: At) -> usize {
        self.events(node, at, |body| matches!(body, Body::Done(_)).then_some(())).len()
    }

    /// Numbers and payloads of the messages that a session got.
    fn messages(&self, node: usize, at: At) -> Vec<(u64, Bytes)> {
        self.events(node, at, |body| match body {
            Body::MlsDelivery(it) => Some((it.sequence, it.payload.clone())),
            _ => None,
        })
    }

    fn send(&mut self, node: usize, at: At, payload: &[u8]) {
        self.nodes[node].ask(at, Request::SendMls(message(payload)));
    }

    fn publish(&mut self, node: usize, at: At) -> TrackAlias {
        let (room, kind) = (Bytes::copy_from_slice(&ROOM.0), TrackKind::Audio.into());
        let wanted = PublishTrack { room, kind, mls_epoch: 3, ..PublishTrack::default() };
        self.ask(node, at, Request::PublishTrack(wanted));
        self.nodes[node].published()
    }

    fn announced(&self, node: usize, at: At) -> Vec<u64> {
        self.events(node, at, |body| if let Body::TrackAnnounced(it) = body { Some(it.alias) } else { None })
    }

    /// Links between two nodes break.
    pub fn part(&mut self, one: usize, other: usize) {
        self.parted.insert((one.min(other), one.max(other)));
        self.tell(one, &ControlMail::NodeGone(id(other)));
        self.tell(other, &ControlMail::NodeGone(id(one)));
        self.settle();
    }

    /// They stand again.
    pub fn join_again(&mut self, one: usize, other: usize) {
        self.settle();
        self.parted.remove(&(one.min(other), one.max(other)));
        self.tell(one, &ControlMail::NodeCame(id(other)));
        self.tell(other, &ControlMail::NodeCame(id(one)));
    }

    /// The relay's wish to end sessions has been carried out by now: which ones it was.
    fn closed(&mut self, node: usize) -> Vec<(At, CloseCode)> {
        let closed = std::mem::take(&mut self.nodes[node].closed);
        closed.into_iter().map(|(id, code)| (At { shard: id.at.shard.index(), link: id.link, id }, code)).collect()
    }

    /// Everybody leaves, and nothing is left of anything.
    pub fn end(mut self, everybody: &[(usize, At)]) {
        for (node, at) in everybody {
            self.nodes[*node].leave(*at, true);
            self.settle();
        }
        self.pass(Duration::from_secs(12));
        assert!(self.wanted.is_empty() && self.homes.is_empty(), "{:?} {:?}", self.wanted, self.homes);
        for node in &self.nodes {
            assert_eq!(node.directory.population(), Population::default());
            assert_eq!(node.directory.visits(), 0);
            let left: Vec<_> = node.cores.iter().map(|core| (core.census(), core.listens_for())).collect();
            assert_eq!(left, vec![([0; 9], 0); 3]);
        }
    }
}

pub fn id(node: usize) -> NodeId {
    NodeId(node as u16 + 1)
}

fn message(payload: &[u8]) -> SendMls {
    let payload = Envelope { room: ROOM, epoch: 3, commit: false }.around(payload).into();
    SendMls { room: Bytes::copy_from_slice(&ROOM.0), epoch: 3, payload, ..SendMls::default() }
}

//
#[test]
fn members_at_three_nodes_are_in_one_room() {
    let (mut cluster, people) = (Cluster::new(), [1, 2, 3].map(Person::new));
    let at = [0, 1, 2].map(|node| cluster.enter(node, node, &people[node]));
    let members = [0, 1, 2].map(|node| cluster.joined(node, at[node]).unwrap());
    assert_eq!(members.clone().map(|joined| joined.member), [1, 2, 3]);
    assert_eq!(members[2].members.len(), 3);
    let seen = cluster.events(0, at[0], |body| if let Body::MemberJoined(it) = body { Some(it.member) } else { None });
    assert_eq!(seen, [2, 3]);
    let rooms: Vec<u64> = cluster.nodes.iter().map(|node| node.directory.population().rooms).collect();
    assert_eq!(rooms, [1, 0, 0], "it is at one node");
    cluster.ask(1, at[1], Request::LeaveRoom(LeaveRoom { room: Bytes::copy_from_slice(&ROOM.0) }));
    let left = cluster.events(2, at[2], |body| if let Body::MemberLeft(it) = body { Some(it.member) } else { None });
    assert_eq!(left, [2]);
    cluster.end(&[(0, at[0]), (1, at[1]), (2, at[2])]);
}

//
#[test]
fn members_at_several_nodes_get_all_messages_in_one_order() {
    let (mut cluster, people) = (Cluster::new(), [1, 2, 3].map(Person::new));
    let at = [0, 1, 2].map(|node| cluster.enter(node, node, &people[node]));
    let listener = cluster.enter(1, 1, &Person::new(4));
    for round in 0..10_u8 {
        (0..3).for_each(|node| cluster.send(node, at[node], &[round, node as u8]));
        cluster.settle();
    }
    let all = cluster.messages(1, listener);
    assert_eq!(all.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    for (node, session) in at.into_iter().enumerate() {
        let got = cluster.messages(node, session);
        let others: Vec<_> = all.iter().filter(|(_, payload)| payload.last() != Some(&(node as u8))).cloned().collect();
        assert_eq!(got, others, "node {node}");
        assert_eq!(cluster.dones(node, session), 10);
    }
    // Who was away catches up at another node than the one it was at.
    cluster.nodes[2].leave(at[2], false);
    cluster.settle();
    let back = cluster.nodes[1].connect(&people[2], 2);
    let wanted = CatchUp { room: Bytes::copy_from_slice(&ROOM.0), after_sequence: 28 };
    cluster.ask(1, back, Request::CatchUp(wanted));
    assert_eq!((cluster.messages(1, back).len(), cluster.dones(1, back)), (2, 1));
    cluster.end(&[(0, at[0]), (1, at[1]), (1, listener), (1, back)]);
}

//
#[test]
fn a_kick_is_answered_after_the_member_s_own_shard_has_put_it_out() {
    let (mut cluster, people) = (Cluster::new(), [1, 2, 3].map(Person::new));
    let at = [0, 1, 2].map(|node| cluster.enter(node, node, &people[node]));
    // Whatever the home tells the node of the one who is put out is held up.
    cluster.held = Some((0, 1));
    let kick = KickMember { room: Bytes::copy_from_slice(&ROOM.0), member: 2 };
    cluster.ask(2, at[2], Request::KickMember(kick.clone()));
    assert_eq!(cluster.dones(2, at[2]), 0);
    cluster.held = None;
    for (node, shard, letter) in std::mem::take(&mut cluster.kept) {
        cluster.put(node, shard, letter);
    }
    cluster.settle();
    assert_eq!(cluster.dones(2, at[2]), 1);
    let kicked = |body: &Body| if let Body::MemberLeft(it) = body { Some((it.member, it.kicked)) } else { None };
    assert_eq!(cluster.events(1, at[1], kicked), [(2, true)]);
    cluster.send(1, at[1], b"from outside");
    cluster.ask(1, at[1], Request::KickMember(KickMember { member: 1, ..kick }));
    assert_eq!(cluster.refused(1, at[1]), [RefusalReason::UnknownRoom; 2]);
    cluster.end(&[(0, at[0]), (1, at[1]), (2, at[2])]);
}

//
#[test]
fn tracks_are_shown_at_every_node_and_what_is_taken_of_them_comes_to_their_publisher() {
    let (mut cluster, people) = (Cluster::new(), [1, 2, 3].map(Person::new));
    let at = [0, 1, 2].map(|node| cluster.enter(node, node, &people[node]));
    // Neither the publisher nor the subscriber is at the room's home.
    let alias = cluster.publish(1, at[1]);
    assert_eq!(alias.value() >> 30, 2, "it names the publisher's node");
    assert_eq!([0, 2].map(|node| cluster.announced(node, at[node])), [vec![alias.value()], vec![alias.value()]]);
    cluster.ask(2, at[2], Request::Subscribe(Subscribe { alias: alias.value(), ..Subscribe::default() }));
    let demand = |body: &Body| if let Body::TrackDemand(it) = body { Some(it.subscribers) } else { None };
    assert_eq!(cluster.events(1, at[1], demand), [1]);
    // Who comes later is told, too.
    let late = cluster.enter(2, 1, &Person::new(4));
    assert_eq!(cluster.announced(2, late), [alias.value()]);
    cluster.ask(1, at[1], Request::UnpublishTrack(UnpublishTrack { alias: alias.value() }));
    let ended = |body: &Body| if let Body::TrackEnded(it) = body { Some(it.alias) } else { None };
    assert_eq!(
        [(0, at[0]), (2, at[2]), (2, late)].map(|(node, at)| cluster.events(node, at, ended)),
        [[alias.value()]; 3]
    );
    assert_eq!(cluster.nodes.iter().map(|node| node.directory.population().tracks).sum::<u64>(), 0);
    // The publisher goes while somebody subscribes.
    let again = cluster.publish(1, at[1]);
    cluster.ask(2, at[2], Request::Subscribe(Subscribe { alias: again.value(), ..Subscribe::default() }));
    cluster.nodes[1].leave(at[1], false);
    cluster.settle();
    assert_eq!(cluster.events(2, at[2], ended), [alias.value(), again.value()]);
    assert_eq!(cluster.nodes.iter().map(|node| node.directory.population().tracks).sum::<u64>(), 0);
    cluster.end(&[(0, at[0]), (2, late), (2, at[2])]);
}

//
#[test]
fn what_is_asked_before_the_home_is_known_waits_and_is_refused_in_the_end() {
    let mut cluster = Cluster::new();
    cluster.is_silent = true;
    let (alice, bob) = (Person::new(1), Person::new(2));
    let early = cluster.enter(1, 0, &alice);
    assert!(cluster.joined(1, early).is_none() && cluster.refused(1, early).is_empty());
    cluster.ask(1, early, Request::JoinRoom(JoinRoom { room: Bytes::new(), ..JoinRoom::default() }));
    cluster.pass(Duration::from_secs(5));
    cluster.is_silent = false;
    // It is said again that a home is wanted.
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.joined(1, early).unwrap().member, 1);
    cluster.end(&[(1, early)]);

    let mut cluster = Cluster::new();
    cluster.is_silent = true;
    let early = cluster.enter(1, 0, &alice);
    let gone = cluster.enter(1, 1, &bob);
    cluster.nodes[1].leave(gone, false);
    cluster.pass(Duration::from_secs(9));
    assert!(cluster.refused(1, early).is_empty());
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.refused(1, early), [RefusalReason::HomeUnknown]);
    cluster.end(&[(1, early)]);
}

//
#[test]
fn a_node_that_may_be_taken_for_dead_answers_nothing_as_a_home() {
    let (mut cluster, people) = (Cluster::new(), [1, 2].map(Person::new));
    let at = [0, 1].map(|node| cluster.enter(node, node, &people[node]));
    let held = |cluster: &Cluster, seconds| {
        let until = cluster.nodes[0].now.instant + Duration::from_secs(seconds);
        cluster.nodes[0].directory.hold_homes_until(until, Fence { epoch: 1, revision: 1 });
    };
    held(&cluster, 0);
    cluster.send(1, at[1], b"waits");
    cluster.send(0, at[0], b"waits as well");
    cluster.pass(Duration::from_secs(1));
    assert_eq!((cluster.messages(0, at[0]).len(), cluster.messages(1, at[1]).len()), (0, 0));
    held(&cluster, 100);
    cluster.pass(Duration::from_secs(1));
    assert_eq!((cluster.messages(0, at[0]).len(), cluster.messages(1, at[1]).len()), (1, 1));
    cluster.end(&[(0, at[0]), (1, at[1])]);
}

//
#[test]
fn members_of_a_home_that_has_died_come_back_to_another_one() {
    let (mut cluster, people) = (Cluster::new(), [1, 2, 3].map(Person::new));
    let at = [0, 1, 2].map(|node| cluster.enter(node, node, &people[node]));
    let alias = cluster.publish(1, at[1]);
    cluster.ask(2, at[2], Request::Subscribe(Subscribe { alias: alias.value(), ..Subscribe::default() }));
    (1..3).for_each(|node| cluster.tell(node, &ControlMail::NodeGone(id(0))));
    cluster.settle();
    let ended = |body: &Body| if let Body::TrackEnded(it) = body { Some(it.alias) } else { None };
    assert!(cluster.events(2, at[2], ended).is_empty(), "who can be reached is heard");
    assert!(cluster.closed(1).is_empty() && cluster.closed(2).is_empty(), "they stay as long as nothing is decided");
    assert_eq!(cluster.doubts, 2);
    cluster.send(1, at[1], b"is not answered");
    cluster.pass(Duration::from_secs(1));
    cluster.decide(ROOM, 2);
    cluster.tell_home(ROOM, 2);
    cluster.tell_home(ROOM, 1);
    cluster.settle();
    for node in [1, 2] {
        assert_eq!(cluster.closed(node), [(at[node], CloseCode::HOME_MOVED)]);
    }
    let again = [1, 2].map(|node| cluster.enter(node, 0, &people[node]));
    assert_eq!(cluster.joined(2, again[1]).unwrap().members.len(), 2);
    // What the first home still says, or answers, is nobody's business any more.
    let before = cluster.nodes[1].sent.len();
    cluster.tell(1, &ControlMail::NodeCame(id(0)));
    cluster.send(0, at[0], b"to those who have gone");
    cluster.settle();
    assert_eq!(cluster.nodes[1].sent.len(), before);
    // It hears that it is no home any more.
    (1..3).for_each(|node| cluster.tell(0, &ControlMail::NodeGone(id(node))));
    (1..3).for_each(|node| cluster.tell(0, &ControlMail::NodeCame(id(node))));
    cluster.tell(2, &ControlMail::NodeCame(id(0)));
    cluster.tell_home(ROOM, 0);
    cluster.settle();
    assert_eq!(cluster.closed(0), [(at[0], CloseCode::HOME_MOVED)]);
    assert_eq!(cluster.nodes[0].directory.population().rooms, 0);
    cluster.end(&[(1, again[0]), (2, again[1])]);
}

//
#[test]
fn who_was_cut_off_from_the_home_comes_back_once_it_can_be_reached() {
    let (mut cluster, people) = (Cluster::new(), [1, 2].map(Person::new));
    let at = [0, 1].map(|node| cluster.enter(node, node, &people[node]));
    let alias = cluster.publish(1, at[1]);
    cluster.part(0, 1);
    let left = cluster.events(0, at[0], |body| if let Body::MemberLeft(it) = body { Some(it.member) } else { None });
    let ended = cluster.events(0, at[0], |body| if let Body::TrackEnded(it) = body { Some(it.alias) } else { None });
    assert_eq!((left, ended), (vec![2], vec![alias.value()]));
    // Somebody who wants to come in meanwhile is asked to try again.
    let new = cluster.enter(1, 2, &Person::new(3));
    cluster.pass(Duration::from_secs(11));
    assert_eq!(cluster.refused(1, new), [RefusalReason::HomeUnknown]);
    cluster.join_again(0, 1);
    cluster.settle();
    assert_eq!(cluster.closed(1), [(at[1], CloseCode::HOME_MOVED)]);
    let again = cluster.enter(1, 0, &people[1]);
    assert_eq!(cluster.joined(1, again).unwrap().members.len(), 2);
    cluster.end(&[(0, at[0]), (1, again), (1, new)]);
}

//
#[test]
fn what_is_asked_by_an_earlier_decision_is_not_carried_out() {
    let (mut cluster, people) = (Cluster::new(), [1, 2].map(Person::new));
    let at = [0, 1].map(|node| cluster.enter(node, node, &people[node]));
    // The home hears of another decision that makes it the home anew; the other node does not yet.
    cluster.decide(ROOM, 0);
    cluster.tell_home(ROOM, 0);
    cluster.settle();
    assert_eq!(cluster.closed(0), [(at[0], CloseCode::HOME_MOVED)]);
    let again = cluster.enter(0, 1, &people[0]);
    cluster.send(1, at[1], b"to the room of before");
    cluster.settle();
    assert!(cluster.messages(0, again).is_empty());
    assert_eq!(cluster.doubts, 1, "it is told that this is no home by that decision, and looks again");
    cluster.tell_home(ROOM, 1);
    cluster.settle();
    assert_eq!(cluster.closed(1), [(at[1], CloseCode::HOME_MOVED)]);
    cluster.end(&[(0, again)]);
}

//
#[test]
fn a_home_that_was_given_up_is_none_even_if_it_is_told_of_once_more() {
    let (mut cluster, alice) = (Cluster::new(), Person::new(1));
    let at = cluster.enter(0, 0, &alice);
    let before = cluster.homes[&ROOM];
    cluster.nodes[0].leave(at, true);
    cluster.settle();
    assert!(cluster.homes.is_empty());
    cluster.is_silent = true;
    let again = cluster.enter(0, 0, &alice);
    // It was on its way as the room was given up.
    cluster.homes.insert(ROOM, before);
    cluster.tell_home(ROOM, 0);
    cluster.settle();
    assert!(cluster.joined(0, again).is_none());
    cluster.decide(ROOM, 0);
    cluster.tell_home(ROOM, 0);
    cluster.settle();
    assert!(cluster.joined(0, again).is_some());
    cluster.end(&[(0, again)]);
}

//
#[test]
fn whoever_asks_by_a_decision_that_the_home_hears_of_later_is_answered_then() {
    let (mut cluster, people) = (Cluster::new(), [1, 2].map(Person::new));
    cluster.decide(ROOM, 0);
    let at = cluster.nodes[1].connect(&people[1], 1);
    cluster.is_silent = true;
    cluster.nodes[1].join(at, &people[1], ROOM);
    cluster.settle();
    cluster.tell_home(ROOM, 1);
    cluster.settle();
    assert!(cluster.joined(1, at).is_none());
    assert!(cluster.wanted.contains(&(ROOM, 0)), "the home learns that it is one");
    cluster.is_silent = false;
    cluster.tell_home(ROOM, 0);
    cluster.pass(Duration::from_millis(300));
    assert_eq!(cluster.joined(1, at).unwrap().member, 1);
    // The only member is at another node than the home, which keeps the room as long as it is there.
    assert_eq!(cluster.nodes[0].directory.population().rooms, 1);
    cluster.end(&[(1, at)]);
}

/// Somebody who is at some node, and wants to be in the room.
struct Somebody {
    person: Person,
    node: usize,
    at: At,
}

impl Cluster {
    /// A few of the letters that are on their way come.
    pub fn some_come(&mut self, rng: &mut StdRng) {
        for _ in 0..rng.random_range(0..12) {
            let node = rng.random_range(0..3);
            self.nodes[node].deliver_one();
            self.carry();
        }
    }

    fn act(&mut self, everybody: &mut [Somebody], rng: &mut StdRng) {
        let (who, other) = (rng.random_range(0..everybody.len()), rng.random_range(0..3));
        let Somebody { person, node, at } = &mut everybody[who];
        let (room, is_there) = (Bytes::copy_from_slice(&ROOM.0), self.nodes[*node].cores[at.shard].is_live(at.id));
        match rng.random_range(0..20) {
            // Back, maybe elsewhere.
            0..5 if !is_there => {
                *node = other;
                *at = self.nodes[other].connect(person, who % 3);
                self.nodes[other].join(*at, person, ROOM);
            }
            0 if is_there => self.nodes[*node].leave(*at, rng.random_bool(0.5)),
            1 if is_there => self.nodes[*node].ask(*at, Request::LeaveRoom(LeaveRoom { room })),
            2..6 if is_there => self.nodes[*node].join(*at, person, ROOM),
            6 if is_there => {
                let kind = TrackKind::Audio.into();
                let wanted = PublishTrack { room, kind, mls_epoch: 3, ..PublishTrack::default() };
                self.nodes[*node].ask(*at, Request::PublishTrack(wanted));
            }
            7..10 if is_there => {
                let (node, at) = (*node, *at);
                if let Some(alias) = self.announced(node, at).last().copied() {
                    self.nodes[node].ask(at, Request::Subscribe(Subscribe { alias, ..Subscribe::default() }));
                }
            }
            10 | 11 if is_there => self.nodes[*node].ask(*at, Request::SendMls(message(&[who as u8]))),
            12 if is_there => {
                self.nodes[*node].ask(*at, Request::CatchUp(CatchUp { room, after_sequence: 0 }));
            }
            13 if is_there => {
                let member = rng.random_range(1..9);
                self.nodes[*node].ask(*at, Request::KickMember(KickMember { room, member }));
            }
            14 => {
                let one = rng.random_range(0..3);
                if one != other && self.parted.insert((one.min(other), one.max(other))) {
                    self.tell(one, &ControlMail::NodeGone(id(other)));
                    self.tell(other, &ControlMail::NodeGone(id(one)));
                }
            }
            15 => {
                if let Some((one, other)) = self.parted.first().copied() {
                    self.join_again(one, other);
                }
            }
            16 => self.is_silent = rng.random_bool(0.3),
            17 if self.homes.contains_key(&ROOM) && self.wanted.contains(&(ROOM, other)) => {
                if rng.random_bool(0.3) {
                    self.decide(ROOM, other);
                }
                self.tell_home(ROOM, rng.random_range(0..3));
            }
            18 => {
                let step = Duration::from_millis(rng.random_range(0..3_000));
                self.nodes.iter_mut().for_each(|node| node.advance(step));
            }
            _ => {}
        }
        self.some_come(rng);
    }
}

//
#[test]
fn whatever_happens_in_whatever_order_nothing_is_left_and_everybody_is_answered() {
    for seed in 0..150 {
        println!("seed {seed}");
        let (mut cluster, mut rng) = (Cluster::new(), StdRng::seed_from_u64(seed));
        cluster.goes_on = true;
        let mut everybody: Vec<Somebody> = (0..6)
            .map(|number| {
                let (person, node) = (Person::new(number as u8 + 1), number % 3);
                let at = cluster.nodes[node].connect(&person, number % 2);
                Somebody { person, node, at }
            })
            .collect();
        for _ in 0..150 {
            cluster.act(&mut everybody, &mut rng);
        }
        while let Some((one, other)) = cluster.parted.first().copied() {
            cluster.join_again(one, other);
        }
        cluster.is_silent = false;
        cluster.decide_for_others(ROOM);
        for node in 0..3 {
            if cluster.homes.contains_key(&ROOM) && cluster.wanted.contains(&(ROOM, node)) {
                cluster.tell_home(ROOM, node);
            }
        }
        cluster.pass(Duration::from_secs(12));
        // Whoever is there is in, or can come in.
        for Somebody { person, node, at } in &everybody {
            if cluster.nodes[*node].cores[at.shard].is_live(at.id) {
                let before = cluster.nodes[*node].sent.len();
                cluster.nodes[*node].join(*at, person, ROOM);
                cluster.settle();
                let answers = cluster.nodes[*node].sent[before..].iter();
                let answers = answers.filter(|(to, message)| *to == at.id && message.reply_to == 1);
                let answered: Vec<bool> = answers
                    .map(|(_, message)| match &message.body {
                        Some(Body::RoomJoined(_)) => true,
                        Some(Body::Refused(refused)) => refused.reason() == RefusalReason::Already,
                        _ => false,
                    })
                    .collect();
                assert_eq!(answered, [true], "at node {node}");
            }
        }
        let left: Vec<(usize, At)> = everybody.iter().map(|somebody| (somebody.node, somebody.at)).collect();
        cluster.end(&left);
    }
}
