//! People at different nodes: they see each other come and go, and ring each other.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use supernode_proto::{
    control::{
        AnswerRing, DepositKeyPackages, IncomingRing, Presence, PresenceState, Ring, RingOutcome, RingResult,
        SetPresence, TakeKeyPackages, Watch, client_message::Body as Request, relay_message::Body,
    },
    identity::RelayPin,
};
use supernode_testkit::{Client, Person};
use tempfile::TempDir;

use super::{LEASE, Nats, Node, all_see, secret};

impl Node {
    /// Where clients reach it, and its pin.
    fn reach(&self) -> (SocketAddr, RelayPin) {
        let (_, cluster) = self.cluster();
        let here = cluster["nodes"].as_array().and_then(|all| all.iter().find(|node| node["here"] == true));
        let text = |key: &str| here.and_then(|node| node[key].as_str()).expect("it lives").to_owned();
        let pin = HEXLOWER.decode(text("pin").as_bytes()).expect("hexadecimal");
        (text("address").parse().expect("an address"), RelayPin(pin.try_into().expect("32 bytes")))
    }

    pub(super) async fn client(&self, person: &Person) -> Client {
        let (address, pin) = self.reach();
        Client::connect(address, person, pin).await
    }

    /// Somebody who can be rung there.
    async fn online(&self, person: &Person) -> Client {
        let mut client = self.client(person).await;
        let last_resort = Bytes::from_static(b"last resort");
        client.done(Request::DepositKeyPackages(DepositKeyPackages { last_resort, ..Default::default() })).await;
        let state = PresenceState::Online.into();
        client.done(Request::SetPresence(SetPresence { state, ..SetPresence::default() })).await;
        client
    }
}

fn presence(event: &Body) -> Option<Presence> {
    match event {
        Body::Presence(presence) => Some(presence.clone()),
        _ => None,
    }
}

pub(super) fn incoming(event: &Body) -> Option<IncomingRing> {
    match event {
        Body::IncomingRing(ring) => Some(ring.clone()),
        _ => None,
    }
}

pub(super) fn outcome(event: &Body) -> Option<RingOutcome> {
    match event {
        Body::RingOutcome(outcome) => Some(outcome.clone()),
        _ => None,
    }
}

pub(super) fn ended(event: &Body) -> Option<RingResult> {
    match event {
        Body::RingEnded(ended) => Some(ended.result()),
        _ => None,
    }
}

/// Waits until somebody is seen with so many devices.
async fn seen_with(watcher: &mut Client, devices: u32) {
    while watcher.event(presence).await.devices != devices {}
}

/// Rings by what the ticket lets; with how many devices ringing.
async fn ring(caller: &mut Client, callee: &Person, devices: usize) {
    let ticket = callee.open_ticket();
    let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
    match caller.ask(Request::TakeKeyPackages(take)).await {
        Body::KeyPackages(taken) => assert_eq!(taken.packages.len(), devices),
        other => panic!("KeyPackages was due: {other:?}"),
    }
    let ring = Ring { ticket, payload: Bytes::from_static(b"welcome"), ..Ring::default() };
    match caller.ask(Request::Ring(ring)).await {
        Body::RingStarted(started) => assert_eq!(started.devices as usize, devices),
        other => panic!("RingStarted was due: {other:?}"),
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn people_at_different_nodes_see_and_ring_each_other() {
    let home = TempDir::new().expect("a directory");
    let nats = Nats::start();
    let key = secret(home.path(), "secret");
    let mut nodes = [1, 2, 3].map(|number| Node::new(home.path(), &format!("node{number}"), number, &nats, &key));
    nodes.iter_mut().for_each(Node::start);
    all_see(&nodes.each_ref(), &[1, 2, 3]);

    let (alice, bob) = (Person::new(), Person::new());
    let mut watcher = nodes[0].client(&alice).await;
    watcher.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
    let first = watcher.event(presence).await;
    assert_eq!((first.state(), first.devices), (PresenceState::Offline, 0));
    let begun = Instant::now();
    let mut phone = nodes[1].online(&bob).await;
    seen_with(&mut watcher, 1).await;
    println!("somebody who came to another node is seen after {:?}", begun.elapsed());
    let mut laptop = nodes[2].online(&bob.another_device()).await;
    seen_with(&mut watcher, 2).await;

    // Whoever begins to watch is told what is true, by the others.
    let mut late = nodes[1].client(&Person::new()).await;
    late.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
    seen_with(&mut late, 2).await;

    // Both devices ring; the first to answer has it.
    ring(&mut watcher, &bob, 2).await;
    let at_phone = phone.event(incoming).await;
    assert_eq!((&at_phone.caller[..], &at_phone.payload[..]), (&alice.identity_key().as_bytes()[..], &b"welcome"[..]));
    let at_laptop = laptop.event(incoming).await;
    assert_eq!(at_laptop.ring, at_phone.ring);
    let payload = Bytes::from_static(b"here");
    laptop.done(Request::AnswerRing(AnswerRing { ring: at_laptop.ring, payload: payload.clone() })).await;
    let settled = watcher.event(outcome).await;
    assert_eq!((settled.result(), settled.payload), (RingResult::Answered, payload.clone()));
    assert_eq!(phone.event(ended).await, RingResult::AnsweredElsewhere);
    phone.refused(Request::AnswerRing(AnswerRing { ring: at_phone.ring, payload })).await;

    // A node that is killed takes its people with it, and its part of a ring.
    ring(&mut watcher, &bob, 2).await;
    phone.event(incoming).await;
    let last = laptop.event(incoming).await;
    let begun = Instant::now();
    nodes[1].kill();
    seen_with(&mut watcher, 1).await;
    let took = begun.elapsed();
    println!("somebody whose node was killed is seen to be gone after {took:?}");
    assert!(took <= LEASE, "{took:?}");
    laptop.done(Request::AnswerRing(AnswerRing { ring: last.ring, payload: Bytes::new() })).await;
    assert_eq!(watcher.event(outcome).await.result(), RingResult::Answered);

    // Whoever left properly is gone at once, and a node that is back is seen through again.
    nodes[1].start();
    all_see(&nodes.each_ref(), &[1, 2, 3]);
    let back = nodes[1].online(&bob).await;
    seen_with(&mut watcher, 2).await;
    laptop.close();
    seen_with(&mut watcher, 1).await;
    back.close();
    seen_with(&mut watcher, 0).await;
    for node in &nodes {
        assert!(!node.log().contains("ERROR"), "{}", node.log());
    }
}
