use rstest::rstest;
use std::time::Duration;

use bytes::Bytes;
use supernode_proto::control::{
    AnswerRing, CancelRing, DeclineRing, DepositKeyPackages, IncomingRing, RefusalReason, Ring, RingOutcome,
    RingResult, RingStarted, TakeKeyPackages, client_message::Body as Request, relay_message::Body,
};
use supernode_server::core::limits::Limits;

use crate::harness::{Client, Person, Relay};

async fn ring(caller: &mut Client, callee: &Person) -> RingStarted {
    match caller
        .ask(Request::Ring(Ring { ticket: callee.open_ticket(), payload: Bytes::from_static(b"welcome") }))
        .await
    {
        Body::RingStarted(started) => started,
        other => panic!("RingStarted was due: {other:?}"),
    }
}

fn incoming(event: &Body) -> Option<IncomingRing> {
    match event {
        Body::IncomingRing(ring) => Some(ring.clone()),
        _ => None,
    }
}

fn outcome(event: &Body) -> Option<RingOutcome> {
    match event {
        Body::RingOutcome(outcome) => Some(outcome.clone()),
        _ => None,
    }
}

fn ended(event: &Body) -> Option<RingResult> {
    match event {
        Body::RingEnded(ended) => Some(ended.result()),
        _ => None,
    }
}

//
#[rstest]
#[tokio::test]
async fn every_device_rings_and_the_first_to_answer_wins(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let (phone, laptop) = (bob.clone(), bob.another_device());
    let mut first = relay.connect(&phone).await;
    let mut second = relay.connect(&laptop).await;

    let started = ring(&mut caller, &bob).await;
    assert_eq!(started.devices, 2);
    for device in [&mut first, &mut second] {
        let ring = device.event(incoming).await;
        assert_eq!((&ring.ring, &ring.payload[..]), (&started.ring, &b"welcome"[..]));
        assert_eq!(&ring.caller[..], alice.identity_key().as_bytes());
        assert_eq!(&ring.caller_device[..], alice.device_key().as_bytes());
    }
    let answer = AnswerRing { ring: started.ring.clone(), payload: Bytes::from_static(b"yes") };
    second.done(Request::AnswerRing(answer.clone())).await;
    let settled = caller.event(outcome).await;
    assert_eq!((settled.result(), &settled.payload[..]), (RingResult::Answered, &b"yes"[..]));
    assert_eq!(&settled.device[..], laptop.device_key().as_bytes());
    assert_eq!(first.event(ended).await, RingResult::AnsweredElsewhere);
    let late = first.refused(Request::AnswerRing(answer)).await;
    assert_eq!(late.reason(), RefusalReason::UnknownRing);
    for client in [&caller, &first, &second] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn declining_settles_for_all_devices_and_busy_only_for_one(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut first = relay.connect(&bob).await;
    let mut second = relay.connect(&bob.another_device()).await;

    let started = ring(&mut caller, &bob).await;
    first.done(Request::DeclineRing(DeclineRing { ring: started.ring.clone(), busy: false })).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Declined);
    assert_eq!(second.event(ended).await, RingResult::Declined);

    let started = ring(&mut caller, &bob).await;
    first.done(Request::DeclineRing(DeclineRing { ring: started.ring.clone(), busy: true })).await;
    caller.no_event(outcome).await;
    second.done(Request::DeclineRing(DeclineRing { ring: started.ring, busy: true })).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Busy);
    for client in [&caller, &first, &second] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_caller_who_cancels_or_leaves_stops_the_ringing(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    let started = ring(&mut caller, &bob).await;
    caller.done(Request::CancelRing(CancelRing { ring: started.ring.clone() })).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Cancelled);
    assert_eq!(callee.event(ended).await, RingResult::Cancelled);

    ring(&mut caller, &bob).await;
    callee.event(incoming).await;
    caller.close();
    assert_eq!(callee.event(ended).await, RingResult::Cancelled);
    callee.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_ring_ends_when_nobody_answers_or_every_device_goes_away(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { ring_timeout: Duration::from_millis(200), ..Limits::default() });
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    ring(&mut caller, &bob).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Timeout);
    assert_eq!(callee.event(ended).await, RingResult::Timeout);

    ring(&mut caller, &bob).await;
    callee.close();
    assert_eq!(caller.event(outcome).await.result(), RingResult::Gone);
    let refused = caller.refused(Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new() })).await;
    assert_eq!(refused.reason(), RefusalReason::Offline);
    caller.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn rings_have_a_rate_and_a_size(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { rings_per_minute_max: 2, ..Limits::default() });
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let callee = relay.connect(&bob).await;
    let too_large = Ring { ticket: bob.open_ticket(), payload: vec![0; 16 * 1024 + 1].into() };
    let refused = caller.refused(Request::Ring(too_large)).await;
    assert_eq!((refused.detail.as_str(), refused.value, refused.bound), ("payload", 16_385, 16_384));
    for _ in 0..2 {
        let started = ring(&mut caller, &bob).await;
        caller.done(Request::CancelRing(CancelRing { ring: started.ring })).await;
    }
    let refused = caller.refused(Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new() })).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Limit, "rings_per_minute_max"));
    caller.close();
    callee.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn each_key_package_is_handed_out_once(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    let take = || Request::TakeKeyPackages(TakeKeyPackages { ticket: bob.open_ticket() });
    assert_eq!(caller.refused(take()).await.reason(), RefusalReason::NoKeyPackage);
    let packages = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    callee.done(Request::DepositKeyPackages(DepositKeyPackages { packages: packages.clone() })).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        match caller.ask(take()).await {
            Body::KeyPackages(reply) => taken.extend(reply.packages.into_iter().map(|package| package.package)),
            other => panic!("KeyPackages was due: {other:?}"),
        }
    }
    taken.sort();
    assert_eq!(taken, packages);
    callee.event(|event| matches!(event, Body::KeyPackagesLow(low) if low.left == 0).then_some(())).await;
    assert_eq!(caller.refused(take()).await.reason(), RefusalReason::NoKeyPackage);
    let too_many = DepositKeyPackages { packages: vec![Bytes::from_static(b"x"); 33] };
    let refused = callee.refused(Request::DepositKeyPackages(too_many)).await;
    assert_eq!((refused.reason(), refused.value, refused.bound), (RefusalReason::Limit, 33, 32));
    caller.close();
    callee.close();
    relay.assert_empty().await;
}

#[rstest]
#[tokio::test]
async fn a_device_that_connects_anew_does_not_leave_a_ring_hanging(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let callee = relay.connect(&bob).await;
    ring(&mut caller, &bob).await;
    let again = relay.connect(&bob).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Gone, "so that the caller can ring again");
    for client in [&caller, &callee, &again] {
        client.close();
    }
    relay.assert_empty().await;
}
