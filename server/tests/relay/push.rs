//! Rings that wake somebody, against a push service that looks at every byte.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rcgen::KeyPair;
use rstest::rstest;
use supernode_proto::{
    close::CloseCode,
    control::{
        DepositKeyPackages, RefusalReason, Refused, Ring, SetPushEndpoint, TakeKeyPackages,
        client_message::Body as Request, relay_message::Body,
    },
};
use supernode_server::{
    control::push::{Figures, Outcome, Vapid, Waker},
    shard::Whom,
};
use supernode_testkit::{Client, Person, PushService, Relay, Says, eventually};

fn take(callee: &Person) -> Request {
    Request::TakeKeyPackages(TakeKeyPackages { ticket: callee.open_ticket(), ..TakeKeyPackages::default() })
}

async fn rings_in_vain(caller: &mut Client, callee: &Person) -> Refused {
    let Body::Refused(refused) = caller.ask(take(callee)).await else { panic!("nobody is there") };
    refused
}

/// Somebody who can be woken, and whose page is closed.
async fn away(relay: &Relay, person: &Person, endpoint: String) {
    let others = relay.population().sessions;
    let mut client = relay.connect(person).await;
    client.done(Request::SetPushEndpoint(SetPushEndpoint { endpoint })).await;
    client.close();
    eventually("the page is closed", || relay.population().sessions == others).await;
}

fn count(figures: &Figures, outcome: Outcome) -> u64 {
    figures.outcomes()[outcome as usize]
}

//
#[rstest]
#[tokio::test]
async fn a_ring_wakes_whoever_is_away_and_made_again_reaches_them(#[values(1, 2)] shards: usize) {
    let mut service = PushService::start().await;
    let figures = Arc::<Figures>::default();
    let waker = service.waker(&figures);
    let key = waker.waking().services.key;
    let relay = Relay::waking(shards, waker);
    let (alice, bob, nobody) = (Person::new(), Person::new(), Person::new());
    away(&relay, &alice, service.endpoint("alice")).await;
    let mut caller = relay.connect(&bob).await;
    let untold = rings_in_vain(&mut caller, &nobody).await;
    assert_eq!((untold.reason(), rings_in_vain(&mut caller, &alice).await), (RefusalReason::Offline, untold.clone()));
    let pushed = service.next().await;
    assert_eq!((&*pushed.whom, &*pushed.contact), ("alice", "mailto:operator@relay.example"));
    assert_eq!(pushed.key, key, "the one that pages subscribe with");

    // A flood of rings asks the push service for nothing more.
    for _ in 0..40 {
        assert_eq!(rings_in_vain(&mut caller, &alice).await, untold);
    }
    assert!(service.is_left_alone().await);
    eventually("it is counted", || count(&figures, Outcome::Sent) == 1).await;

    let mut woken = relay.connect(&alice).await;
    let last_resort = Bytes::from_static(b"last resort");
    woken.done(Request::DepositKeyPackages(DepositKeyPackages { last_resort, ..Default::default() })).await;
    assert!(matches!(caller.ask(take(&alice)).await, Body::KeyPackages(_)));
    let ring = Ring { ticket: alice.open_ticket(), payload: Bytes::from_static(b"welcome"), ..Ring::default() };
    assert!(matches!(caller.ask(Request::Ring(ring)).await, Body::RingStarted(_)));
    let incoming = |event: &Body| matches!(event, Body::IncomingRing(_)).then_some(());
    woken.event(incoming).await;
    woken.done(Request::SetPushEndpoint(SetPushEndpoint::default())).await;
    woken.close();
    caller.close();
    relay.assert_empty().await;
}

//
#[tokio::test]
async fn what_the_push_service_says_is_taken_as_it_is_meant() {
    let mut service = PushService::start().await;
    let figures = Arc::<Figures>::default();
    let relay = Relay::waking(1, service.waker(&figures));
    let mut caller = relay.connect(&Person::new()).await;
    let elsewhere = PushService::start().await;
    let redirect: &'static str = format!("location: {}\r\n", elsewhere.endpoint("alice")).leak();
    let kept = [
        ("redirected", Says::Status(307, redirect), Outcome::Refused),
        ("forbidden", Says::Status(403, ""), Outcome::Refused),
        ("broken", Says::Goodbye, Outcome::Broken),
    ];
    for (whom, says, outcome) in kept {
        let person = Person::new();
        service.says(whom, says);
        away(&relay, &person, service.endpoint(whom)).await;
        let before = (count(&figures, outcome), relay.population().push_endpoints);
        rings_in_vain(&mut caller, &person).await;
        assert_eq!(service.next().await.whom, whom);
        eventually(whom, || count(&figures, outcome) == before.0 + 1).await;
        assert_eq!(relay.population().push_endpoints, before.1, "{whom}: it is kept");
    }
    for (whom, status) in [("gone", 410), ("unknown", 404)] {
        let person = Person::new();
        service.says(whom, Says::Status(status, ""));
        away(&relay, &person, service.endpoint(whom)).await;
        let before = relay.population().push_endpoints;
        rings_in_vain(&mut caller, &person).await;
        assert_eq!(service.next().await.whom, whom);
        eventually(whom, || relay.population().push_endpoints == before - 1).await;
    }
    // Last, for it wants to be left alone.
    let (busy, other) = (Person::new(), Person::new());
    service.says("busy", Says::Status(429, "retry-after: 3600\r\n"));
    away(&relay, &busy, service.endpoint("busy")).await;
    away(&relay, &other, service.endpoint("other")).await;
    rings_in_vain(&mut caller, &busy).await;
    assert_eq!(service.next().await.whom, "busy");
    eventually("busy", || count(&figures, Outcome::Busy) == 1).await;
    rings_in_vain(&mut caller, &other).await;
    eventually("left alone", || count(&figures, Outcome::Busy) == 2).await;
    assert!(service.is_left_alone().await, "nothing is sent, nor was anything a second time");
}

//
#[tokio::test]
async fn a_push_service_that_hangs_keeps_nobody_waiting_and_holds_no_more_than_its_part() {
    let mut service = PushService::start().await;
    let figures = Arc::<Figures>::default();
    let relay = Relay::waking(1, service.waker(&figures));
    let mut caller = relay.connect(&Person::new()).await;
    let people: Vec<Person> = (0..10).map(|_| Person::new()).collect();
    service.says("hangs", Says::Nothing);
    for person in &people {
        away(&relay, person, service.endpoint("hangs")).await;
        let asked = tokio::time::Instant::now();
        rings_in_vain(&mut caller, person).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "whoever rings waits for no push service");
    }
    for _ in 0..8 {
        service.next().await;
    }
    assert!(service.is_left_alone().await, "eight at a time");
    // They are given up after 10 s, and the others have their turn.
    let late = || count(&figures, Outcome::Late) >= 8;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !late() {
        assert!(tokio::time::Instant::now() < until, "in vain: they are given up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.next().await;
    service.next().await;
}

//
#[tokio::test]
async fn a_push_service_whose_certificate_nobody_vouches_for_is_sent_nothing() {
    let mut service = PushService::start().await;
    let (figures, stranger) = (Arc::<Figures>::default(), PushService::start().await);
    let vapid = Vapid::new(&KeyPair::generate().unwrap(), "operator@relay.example").unwrap();
    let waker = Waker::new(vec![service.host()], vapid, stranger.dialler(), figures.clone());
    let relay = Relay::waking(1, waker);
    let mut caller = relay.connect(&Person::new()).await;
    let person = Person::new();
    away(&relay, &person, service.endpoint("alice")).await;
    rings_in_vain(&mut caller, &person).await;
    eventually("nobody is reached", || count(&figures, Outcome::Unreachable) == 1).await;
    assert!(service.is_left_alone().await);
}

//
#[tokio::test]
async fn whoever_is_not_let_in_any_more_is_not_woken_any_more() {
    let service = PushService::start().await;
    let relay = Relay::waking(2, service.waker(&Default::default()));
    let (offline, online) = (Person::new(), Person::new());
    away(&relay, &offline, service.endpoint("offline")).await;
    let mut client = relay.connect(&online).await;
    client.done(Request::SetPushEndpoint(SetPushEndpoint { endpoint: service.endpoint("online") })).await;
    let expel = |whom, code| {
        tokio::task::spawn_blocking({
            let handle = relay.handle();
            move || handle.expel(whom, code)
        })
    };
    assert_eq!(relay.population().push_endpoints, 2);
    assert_eq!(expel(Whom::Identity(offline.identity_key()), CloseCode::NOT_ADMITTED).await.unwrap(), 0);
    assert_eq!(relay.population().push_endpoints, 1);
    assert_eq!(expel(Whom::Device(online.device_key()), CloseCode::NOT_ADMITTED).await.unwrap(), 1);
    eventually("hers is forgotten as well", || relay.population().push_endpoints == 0).await;
    // Who was only put out may come back.
    away(&relay, &online, service.endpoint("online")).await;
    assert_eq!(expel(Whom::Identity(online.identity_key()), CloseCode::REMOVED).await.unwrap(), 0);
    assert_eq!(relay.population().push_endpoints, 1);
}
