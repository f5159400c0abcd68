//! Somebody at the door of a room of which the members are at several nodes.

use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_keys::{JoinSecret, RoomSecret};
use supernode_proto::{
    control::{
        AnswerRing, CancelRing, DeclineRing, IncomingRing, JoinRoom, LimitTickets, RefusalReason, Ring, RingOutcome,
        RingResult, client_message::Body as Request, relay_message::Body,
    },
    identity::RoomId,
};
use supernode_server::core::ControlMail;

use crate::{
    homes::{Cluster, id},
    world::{At, Person},
};

fn secret() -> RoomSecret {
    RoomSecret::from_bytes(&[9; 32])
}

fn room() -> RoomId {
    RoomId::standing(&secret().public())
}

fn at_the_door(person: &Person) -> Request {
    let (room_key, proof) = person.channel().show_room(&secret());
    Request::Ring(Ring { room_key, proof, payload: Bytes::from_static(b"knock"), ..Ring::default() })
}

fn entering(person: &Person) -> Request {
    let (room_key, room_proof) = person.channel().show_room(&secret());
    let request = person.channel().join(&room(), &JoinSecret::from_bytes(&[3; 32]), 3);
    Request::JoinRoom(JoinRoom { room_key, room_proof, ..request })
}

fn answer(ring: &Bytes) -> Request {
    Request::AnswerRing(AnswerRing { ring: ring.clone(), payload: Bytes::from_static(b"come in") })
}

/// Lets people into the room, each at a node; the first one's is its home.
fn inside(cluster: &mut Cluster, nodes: &[usize]) -> Vec<(usize, At, Person)> {
    let enter = |(number, node): (usize, &usize)| {
        let person = Person::new(number as u8 + 1);
        let at = cluster.nodes[*node].connect(&person, number % 3);
        cluster.ask(*node, at, entering(&person));
        (*node, at, person)
    };
    nodes.iter().enumerate().map(enter).collect()
}

fn outside(cluster: &mut Cluster, node: usize) -> (At, Person) {
    let person = Person::new(99);
    (cluster.nodes[node].connect(&person, 2), person)
}

fn rung(cluster: &Cluster, node: usize, at: At) -> Vec<IncomingRing> {
    cluster.events(node, at, |body| if let Body::IncomingRing(it) = body { Some(it.clone()) } else { None })
}

fn ended(cluster: &Cluster, node: usize, at: At) -> Vec<RingResult> {
    cluster.events(node, at, |body| if let Body::RingEnded(it) = body { Some(it.result()) } else { None })
}

fn outcomes(cluster: &Cluster, node: usize, at: At) -> Vec<RingOutcome> {
    cluster.events(node, at, |body| if let Body::RingOutcome(it) = body { Some(it.clone()) } else { None })
}

fn started(cluster: &Cluster, node: usize, at: At) -> Vec<u32> {
    cluster.events(node, at, |body| if let Body::RingStarted(it) = body { Some(it.devices) } else { None })
}

fn refused(cluster: &Cluster, node: usize, at: At) -> Vec<RefusalReason> {
    cluster.events(node, at, |body| if let Body::Refused(it) = body { Some(it.reason()) } else { None })
}

fn end(mut cluster: Cluster, members: &[(usize, At, Person)], guest: (usize, At)) {
    // The deadlines of what was rung pass.
    cluster.pass(Duration::from_secs(45));
    let mut everybody = vec![guest];
    everybody.extend(members.iter().map(|(node, at, _)| (*node, *at)));
    cluster.end(&everybody);
}

//
#[test]
fn who_is_at_the_door_rings_everybody_inside_at_whichever_node_and_one_answer_counts() {
    // The home is the first one's node: another's than both, than the knocker's alone, and the knocker's.
    for (nodes, door) in [(&[0, 1, 1][..], 2), (&[0, 1, 2], 2), (&[0, 1, 2], 0), (&[1, 2], 0), (&[0, 0], 2), (&[1], 1)]
    {
        for winner in 0..nodes.len() {
            let mut cluster = Cluster::new();
            let members = inside(&mut cluster, nodes);
            let (guest, person) = outside(&mut cluster, door);
            cluster.ask(door, guest, at_the_door(&person));
            assert_eq!(started(&cluster, door, guest), [nodes.len() as u32], "{nodes:?} {door}");
            let rings: Vec<IncomingRing> = members
                .iter()
                .map(|(node, at, _)| {
                    let mut rings = rung(&cluster, *node, *at);
                    assert_eq!(rings.len(), 1);
                    rings.remove(0)
                })
                .collect();
            for ring in &rings {
                assert_eq!((&ring.room[..], &ring.payload[..]), (&room().0[..], &b"knock"[..]));
                assert_eq!(ring.caller_device, *person.device_key().as_bytes().as_slice());
                assert_eq!(ring.ring, rings[0].ring);
            }
            // Two at once, where there are so many: one of them has answered.
            for which in [winner, (winner + 1) % nodes.len()] {
                let (node, at, _) = &members[which];
                cluster.nodes[*node].ask(*at, answer(&rings[0].ring));
            }
            cluster.settle();
            let told = outcomes(&cluster, door, guest);
            assert_eq!(told.len(), 1, "{nodes:?} {door} {told:?}");
            assert_eq!((told[0].result(), &told[0].payload[..]), (RingResult::Answered, &b"come in"[..]));
            for (node, at, person) in &members {
                let has_won = told[0].device == *person.device_key().as_bytes().as_slice();
                let others = if has_won { vec![] } else { vec![RingResult::AnsweredElsewhere] };
                assert_eq!(ended(&cluster, *node, *at), others, "{nodes:?} {door}");
            }
            end(cluster, &members, (door, guest));
        }
    }
}

//
#[test]
fn with_nobody_in_whoever_is_at_the_door_is_told_so_and_nothing_stays() {
    let mut cluster = Cluster::new();
    let (guest, person) = outside(&mut cluster, 2);
    cluster.ask(2, guest, at_the_door(&person));
    assert_eq!(refused(&cluster, 2, guest), [RefusalReason::Offline]);
    assert!(cluster.homes.is_empty() && cluster.wanted.is_empty());
    // Somebody was in, at another node, and has left.
    let members = inside(&mut cluster, &[0]);
    cluster.nodes[0].leave(members[0].1, true);
    cluster.settle();
    cluster.ask(2, guest, at_the_door(&person));
    assert_eq!(refused(&cluster, 2, guest), [RefusalReason::Offline; 2]);
    // And they open it.
    cluster.ask(2, guest, entering(&person));
    assert!(cluster.homes.contains_key(&room()));
    end(cluster, &members, (2, guest));
}

//
#[test]
fn without_a_proof_nobody_is_asked_who_is_in() {
    let mut cluster = Cluster::new();
    let members = inside(&mut cluster, &[0, 1]);
    let (guest, person) = outside(&mut cluster, 2);
    let Request::Ring(ring) = at_the_door(&person) else { panic!() };
    cluster.ask(2, guest, Request::Ring(Ring { proof: Bytes::from_static(&[1; 64]), ..ring }));
    assert_eq!(refused(&cluster, 2, guest), [RefusalReason::JoinProof]);
    assert!(!cluster.wanted.contains(&(room(), 2)));
    end(cluster, &members, (2, guest));
}

//
#[test]
fn who_shuts_somebody_out_does_not_ring_at_another_node_and_nobody_is_rung_too_often() {
    let mut cluster = Cluster::new();
    let members = inside(&mut cluster, &[0, 1, 1]);
    let (guest, person) = outside(&mut cluster, 2);
    let blocked = vec![Bytes::copy_from_slice(person.identity_key().as_bytes())];
    for (node, at) in [(members[0].0, members[0].1), (members[1].0, members[1].1)] {
        cluster.ask(node, at, Request::LimitTickets(LimitTickets { generation: 0, blocked: blocked.clone() }));
    }
    let places = cluster.nodes[1].directory.limits().rings_per_pair_max;
    for _ in 0..places {
        cluster.ask(2, guest, at_the_door(&person));
    }
    let rings: Vec<usize> = members.iter().map(|(node, at, _)| rung(&cluster, *node, *at).len()).collect();
    assert_eq!(rings, [0, 0, places]);
    cluster.ask(2, guest, at_the_door(&person));
    assert_eq!(refused(&cluster, 2, guest), [RefusalReason::Limit]);
    end(cluster, &members, (2, guest));
}

//
#[test]
fn a_home_that_cannot_be_reached_any_more_or_is_another_one_answers_by_one_refusal() {
    for moves in [false, true] {
        let mut cluster = Cluster::new();
        let members = inside(&mut cluster, &[0, 1]);
        let (guest, person) = outside(&mut cluster, 2);
        cluster.held = Some((0, 2));
        cluster.ask(2, guest, at_the_door(&person));
        assert_eq!((refused(&cluster, 2, guest).len(), started(&cluster, 2, guest).len()), (0, 0));
        let late = std::mem::take(&mut cluster.kept);
        assert!(!late.is_empty());
        cluster.held = None;
        if moves {
            cluster.decide(room(), 1);
            (0..3).for_each(|node| cluster.tell_home(room(), node));
            cluster.settle();
        } else {
            cluster.part(0, 2);
        }
        assert_eq!(refused(&cluster, 2, guest), [RefusalReason::HomeUnknown]);
        // What the home has said still comes, and nobody hears it.
        late.into_iter().for_each(|(node, shard, letter)| cluster.put(node, shard, letter));
        cluster.settle();
        assert_eq!((refused(&cluster, 2, guest).len(), started(&cluster, 2, guest).len()), (1, 0));
        assert!(members.iter().all(|(node, at, _)| rung(&cluster, *node, *at).is_empty()));
        if !moves {
            cluster.join_again(0, 2);
        }
        end(cluster, &members, (2, guest));
    }
}

//
#[test]
fn a_link_that_breaks_while_it_rings_ends_it_for_both_ends() {
    let mut cluster = Cluster::new();
    let members = inside(&mut cluster, &[0, 1]);
    let (guest, person) = outside(&mut cluster, 2);
    cluster.ask(2, guest, at_the_door(&person));
    let ring = rung(&cluster, 1, members[1].1).remove(0).ring;
    cluster.part(0, 2);
    // The home is gone for the one at the door; the other member rings on.
    assert_eq!(ended(&cluster, 0, members[0].1), [RingResult::Gone]);
    assert!(outcomes(&cluster, 2, guest).is_empty() && ended(&cluster, 1, members[1].1).is_empty());
    // An answer is on its way, and the link is lost.
    cluster.held = Some((1, 2));
    cluster.ask(1, members[1].1, answer(&ring));
    cluster.held = None;
    cluster.kept.clear();
    cluster.part(1, 2);
    assert_eq!(ended(&cluster, 1, members[1].1), [RingResult::Gone]);
    assert_eq!(refused(&cluster, 1, members[1].1), [RefusalReason::UnknownRing]);
    let told = outcomes(&cluster, 2, guest);
    assert_eq!(told.iter().map(RingOutcome::result).collect::<Vec<_>>(), [RingResult::Gone]);
    cluster.join_again(0, 2);
    cluster.join_again(1, 2);
    end(cluster, &members, (2, guest));
}

//
#[test]
fn who_goes_before_the_home_answers_rings_nobody() {
    let mut cluster = Cluster::new();
    let members = inside(&mut cluster, &[0, 1]);
    let (guest, person) = outside(&mut cluster, 2);
    cluster.held = Some((0, 2));
    cluster.ask(2, guest, at_the_door(&person));
    cluster.nodes[2].leave(guest, false);
    cluster.settle();
    cluster.held = None;
    std::mem::take(&mut cluster.kept).into_iter().for_each(|(node, shard, letter)| cluster.put(node, shard, letter));
    cluster.settle();
    assert!(members.iter().all(|(node, at, _)| rung(&cluster, *node, *at).is_empty()));
    end(cluster, &members, (2, guest));
}

/// Somebody who is in the room or at its door, at some node.
struct Somebody {
    person: Person,
    node: usize,
    at: At,
    asked: u64,
}

impl Somebody {
    fn ask(&mut self, cluster: &mut Cluster, request: Request) {
        self.asked += 1;
        cluster.nodes[self.node].ask_numbered(self.at, self.asked, request);
    }

    fn act(&mut self, cluster: &mut Cluster, rng: &mut StdRng) {
        let rings = rung(cluster, self.node, self.at);
        let own = cluster.events(self.node, self.at, |body| match body {
            Body::RingStarted(it) => Some(it.ring.clone()),
            _ => None,
        });
        match rng.random_range(0..8) {
            0 | 1 => self.ask(cluster, entering(&self.person)),
            2 | 3 => self.ask(cluster, at_the_door(&self.person)),
            4 | 5 => {
                if let Some(ring) = rings.last() {
                    self.ask(cluster, answer(&ring.ring));
                }
            }
            6 => {
                if let Some(ring) = rings.last() {
                    let busy = rng.random();
                    self.ask(cluster, Request::DeclineRing(DeclineRing { ring: ring.ring.clone(), busy }));
                }
            }
            _ => {
                if let Some(ring) = own.last() {
                    self.ask(cluster, Request::CancelRing(CancelRing { ring: ring.clone() }));
                }
            }
        }
    }
}

fn something_happens(cluster: &mut Cluster, rng: &mut StdRng) {
    let (one, other) = (rng.random_range(0..3), rng.random_range(0..3));
    match rng.random_range(0..30) {
        0 if one != other && cluster.parted.insert((one.min(other), one.max(other))) => {
            cluster.tell(one, &ControlMail::NodeGone(id(other)));
            cluster.tell(other, &ControlMail::NodeGone(id(one)));
        }
        1 | 2 => {
            if let Some((one, other)) = cluster.parted.first().copied() {
                cluster.join_again(one, other);
            }
        }
        3 if cluster.homes.contains_key(&room()) && cluster.wanted.contains(&(room(), one)) => {
            if rng.random_bool(0.3) {
                cluster.decide(room(), one);
            }
            cluster.tell_home(room(), other);
        }
        4 | 5 => {
            let step = Duration::from_millis(rng.random_range(0..2_000));
            cluster.nodes.iter_mut().for_each(|node| node.advance(step));
        }
        _ => {}
    }
}

//
#[test]
fn whatever_happens_every_ring_at_a_door_begins_once_and_ends_once() {
    for seed in 0..100 {
        println!("seed {seed}");
        let (mut cluster, mut rng) = (Cluster::new(), StdRng::seed_from_u64(seed));
        cluster.goes_on = true;
        let mut everybody: Vec<Somebody> = (0..6)
            .map(|number| {
                let (person, node) = (Person::new(number as u8 + 1), number % 3);
                let at = cluster.nodes[node].connect(&person, number % 2);
                Somebody { person, node, at, asked: 0 }
            })
            .collect();
        for _ in 0..120 {
            let who = rng.random_range(0..everybody.len());
            if cluster.nodes[everybody[who].node].cores[everybody[who].at.shard].is_live(everybody[who].at.id) {
                everybody[who].act(&mut cluster, &mut rng);
            }
            something_happens(&mut cluster, &mut rng);
            cluster.some_come(&mut rng);
        }
        while let Some((one, other)) = cluster.parted.first().copied() {
            cluster.join_again(one, other);
        }
        cluster.decide_for_others(room());
        // What is decided is told to all in the end.
        for node in 0..3 {
            if cluster.homes.contains_key(&room()) && cluster.wanted.contains(&(room(), node)) {
                cluster.tell_home(room(), node);
            }
        }
        cluster.pass(Duration::from_secs(60));
        for Somebody { node, at, asked, .. } in &everybody {
            let replies = cluster.nodes[*node].sent.iter().filter(|(to, _)| *to == at.id);
            let mut replies: Vec<u64> = replies.map(|(_, message)| message.reply_to).filter(|it| *it != 0).collect();
            replies.sort_unstable();
            if cluster.nodes[*node].cores[at.shard].is_live(at.id) {
                assert_eq!(replies, (1..=*asked).collect::<Vec<_>>(), "at node {node}");
                assert_eq!(outcomes(&cluster, *node, *at).len(), started(&cluster, *node, *at).len());
            }
        }
        let left: Vec<(usize, At)> = everybody.iter().map(|somebody| (somebody.node, somebody.at)).collect();
        cluster.end(&left);
    }
}
