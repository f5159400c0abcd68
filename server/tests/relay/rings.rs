use rstest::rstest;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use supernode_proto::{
    control::{
        AnswerRing, CancelRing, DeclineRing, DepositKeyPackages, HelloBody, IncomingRing, LimitTickets, PresenceState,
        RefusalReason, Ring, RingOutcome, RingResult, RingStarted, SetPresence, TakeKeyPackages, Watch,
        client_message::Body as Request, relay_message::Body,
    },
    identity::{Grants, RelayPin, Ticket},
    limits::RING_PAYLOAD_BYTES_MAX,
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Client, Person, Relay, unix_s};

/// Somebody who can be rung, also again and again.
async fn online(relay: &Relay, person: &Person) -> Client {
    let mut client = relay.connect(person).await;
    let last_resort = Bytes::from_static(b"last resort");
    client.done(Request::DepositKeyPackages(DepositKeyPackages { last_resort, ..Default::default() })).await;
    client
}

fn take_by(ticket: Bytes) -> Request {
    Request::TakeKeyPackages(TakeKeyPackages { ticket, ..TakeKeyPackages::default() })
}

fn ring_by(ticket: Bytes) -> Request {
    Request::Ring(Ring { ticket, payload: Bytes::from_static(b"welcome"), ..Ring::default() })
}

async fn take(caller: &mut Client, callee: &Person) -> Vec<Bytes> {
    match caller.ask(take_by(callee.open_ticket())).await {
        Body::KeyPackages(reply) => reply.packages.into_iter().map(|package| package.package).collect(),
        other => panic!("KeyPackages was due: {other:?}"),
    }
}

async fn ring(caller: &mut Client, callee: &Person) -> RingStarted {
    take(caller, callee).await;
    match caller.ask(ring_by(callee.open_ticket())).await {
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
    let mut caller = online(&relay, &alice).await;
    let (phone, laptop) = (bob.clone(), bob.another_device());
    let mut first = online(&relay, &phone).await;
    let mut second = online(&relay, &laptop).await;

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
    let mut caller = online(&relay, &alice).await;
    let mut first = online(&relay, &bob).await;
    let mut second = online(&relay, &bob.another_device()).await;

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
    let mut caller = online(&relay, &alice).await;
    let mut callee = online(&relay, &bob).await;
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
    let mut caller = online(&relay, &alice).await;
    let mut callee = online(&relay, &bob).await;
    ring(&mut caller, &bob).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Timeout);
    assert_eq!(callee.event(ended).await, RingResult::Timeout);

    ring(&mut caller, &bob).await;
    callee.close();
    assert_eq!(caller.event(outcome).await.result(), RingResult::Gone);
    let refused = caller
        .refused(Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new(), ..Ring::default() }))
        .await;
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
    let mut caller = online(&relay, &alice).await;
    let callee = online(&relay, &bob).await;
    let too_large =
        Ring { ticket: bob.open_ticket(), payload: vec![0; RING_PAYLOAD_BYTES_MAX + 1].into(), ..Ring::default() };
    let refused = caller.refused(Request::Ring(too_large)).await;
    assert_eq!((refused.detail.as_str(), refused.value, refused.bound), ("payload", 57_345, 57_344));
    for _ in 0..2 {
        let started = ring(&mut caller, &bob).await;
        caller.done(Request::CancelRing(CancelRing { ring: started.ring })).await;
    }
    let refused = caller
        .refused(Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new(), ..Ring::default() }))
        .await;
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
    let take = || Request::TakeKeyPackages(TakeKeyPackages { ticket: bob.open_ticket(), ..TakeKeyPackages::default() });
    assert_eq!(caller.refused(take()).await.reason(), RefusalReason::NoKeyPackage);
    let packages = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    callee
        .done(Request::DepositKeyPackages(DepositKeyPackages {
            packages: packages.clone(),
            ..DepositKeyPackages::default()
        }))
        .await;
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
    let too_many = DepositKeyPackages { packages: vec![Bytes::from_static(b"x"); 33], ..DepositKeyPackages::default() };
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
    let mut caller = online(&relay, &alice).await;
    let callee = online(&relay, &bob).await;
    ring(&mut caller, &bob).await;
    let again = online(&relay, &bob).await;
    assert_eq!(caller.event(outcome).await.result(), RingResult::Gone, "so that the caller can ring again");
    for client in [&caller, &callee, &again] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn one_caller_does_not_fill_a_device_s_places(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { rings_per_pair_max: 2, ..Limits::default() });
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    // Whatever device it rings from.
    let mut tablet = relay.connect(&alice.another_device()).await;
    let mut other = relay.connect(&Person::new()).await;
    let callee = online(&relay, &bob).await;
    let first = ring(&mut caller, &bob).await;
    ring(&mut tablet, &bob).await;
    for client in [&mut caller, &mut tablet] {
        take(client, &bob).await;
        let refused = client.refused(ring_by(bob.open_ticket())).await;
        assert_eq!((refused.detail.as_str(), refused.value, refused.bound), ("rings_per_pair_max", 2, 2));
    }
    ring(&mut other, &bob).await;
    caller.done(Request::CancelRing(CancelRing { ring: first.ring })).await;
    ring(&mut tablet, &bob).await;
    for client in [&caller, &tablet, &other, &callee] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn only_devices_whose_package_the_caller_was_handed_ring(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = online(&relay, &alice).await;
    let mut phone = online(&relay, &bob).await;
    let refused = caller.refused(ring_by(bob.open_ticket())).await;
    assert_eq!(refused.reason(), RefusalReason::NoKeyPackage, "nothing was taken");

    take(&mut caller, &bob).await;
    // It came between the taking and the ring: the Welcome has nothing for it.
    let mut laptop = online(&relay, &bob.another_device()).await;
    let Body::RingStarted(started) = caller.ask(ring_by(bob.open_ticket())).await else { panic!("it rings") };
    assert_eq!(started.devices, 1);
    phone.event(incoming).await;
    laptop.no_event(incoming).await;
    let refused = caller.refused(ring_by(bob.open_ticket())).await;
    assert_eq!(refused.reason(), RefusalReason::NoKeyPackage, "a package is good for one ring");
    for client in [&caller, &phone, &laptop] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_last_resort_keeps_a_device_from_being_drained(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = online(&relay, &bob).await;
    let packages = vec![Bytes::from_static(b"one")];
    callee.done(Request::DepositKeyPackages(DepositKeyPackages { packages, ..Default::default() })).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.extend(take(&mut caller, &bob).await);
    }
    assert_eq!(taken, [&b"one"[..], b"last resort", b"last resort"]);
    callee.event(|event| matches!(event, Body::KeyPackagesLow(low) if low.left == 0).then_some(())).await;
    callee.no_event(|event| if let Body::KeyPackagesLow(low) = event { Some(low.left) } else { None }).await;
    let too_long = DepositKeyPackages { last_resort: vec![0; 4097].into(), ..Default::default() };
    let refused = callee.refused(Request::DepositKeyPackages(too_long)).await;
    assert_eq!((refused.detail.as_str(), refused.value, refused.bound), ("last_resort", 4097, 4096));
    caller.close();
    callee.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_wants_to_be_invisible_cannot_be_told_from_who_is_offline(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob, nobody) = (Person::new(), Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut hidden = online(&relay, &bob).await;
    take(&mut caller, &bob).await;
    let set = |state: PresenceState| SetPresence { state: state.into(), status: Bytes::new() };
    hidden.done(Request::SetPresence(set(PresenceState::Invisible))).await;
    for request in [take_by, ring_by] {
        let of_the_hidden = caller.refused(request(bob.open_ticket())).await;
        assert_eq!(of_the_hidden, caller.refused(request(nobody.open_ticket())).await);
        assert_eq!(of_the_hidden.reason(), RefusalReason::Offline);
    }
    let mut seen = online(&relay, &bob.another_device()).await;
    seen.done(Request::SetPresence(set(PresenceState::Online))).await;
    assert_eq!(take(&mut caller, &bob).await.len(), 1, "one device is invisible");
    for client in [&caller, &hidden, &seen] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_ticket_is_of_use_to_its_holder_at_its_relay_and_by_its_key_on_one_connection(
    #[values(1, 2, 4)] shards: usize,
) {
    let relay = Relay::start(shards);
    let (alice, eve, bob) = (Person::new(), Person::new(), Person::new());
    let (mut caller, mut thief) = (relay.connect(&alice).await, relay.connect(&eve).await);
    let callee = online(&relay, &bob).await;
    let ticket = bob.open_ticket();
    // What one client shows is seen by the relay, and by nobody else; here it is used again all the same.
    let shown = TakeKeyPackages { proof: caller.prove(&ticket), ticket: ticket.clone() };
    assert!(matches!(caller.ask(Request::TakeKeyPackages(shown.clone())).await, Body::KeyPackages(_)));
    let refused = thief.refused(Request::TakeKeyPackages(shown.clone())).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::TicketInvalid, "ticket proof"));
    let mut again = relay.connect(&alice).await;
    let refused = again.refused(Request::TakeKeyPackages(shown)).await;
    assert_eq!(refused.reason(), RefusalReason::TicketInvalid, "the same device, on another connection");
    let short = TakeKeyPackages { proof: Bytes::from_static(b"short"), ticket };
    assert_eq!(again.refused(Request::TakeKeyPackages(short)).await.reason(), RefusalReason::Malformed);

    let made_out = Bytes::from(bob.ticket(Some(&alice), Grants::RING, unix_s() + 60).to_bytes());
    assert!(matches!(again.ask(take_by(made_out.clone())).await, Body::KeyPackages(_)));
    let refused = thief.refused(take_by(made_out)).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::TicketInvalid, "holder"));

    let for_relay = |pin| {
        let ticket = Ticket { relay: Some(pin), ..bob.ticket(None, Grants::RING, unix_s() + 60) };
        Bytes::from(bob.sign_ticket(ticket).to_bytes())
    };
    assert!(matches!(again.ask(take_by(for_relay(relay.pin))).await, Body::KeyPackages(_)));
    let refused = again.refused(take_by(for_relay(RelayPin([1; 32])))).await;
    assert_eq!(refused.reason(), RefusalReason::TicketInvalid, "a ticket for another relay");
    for client in [&thief, &again, &callee] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn tickets_that_were_taken_back_and_people_who_are_shut_out_find_nobody(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let of_generation = |generation| {
        let ticket = bob.ticket(None, Grants::PRESENCE | Grants::RING, unix_s() + 60);
        Bytes::from(bob.sign_ticket(Ticket { generation, ..ticket }).to_bytes())
    };
    let watch = |ticket| Request::Watch(Watch { ticket, ..Watch::default() });
    let presence = |event: &Body| if let Body::Presence(news) = event { Some(news.clone()) } else { None };
    let limit = |generation, shut_out: Option<&Person>| {
        let blocked = shut_out.map(|person| Bytes::copy_from_slice(person.identity_key().as_bytes()));
        Request::LimitTickets(LimitTickets { generation, blocked: blocked.into_iter().collect() })
    };
    let mut callee = online(&relay, &bob).await;
    callee.done(Request::SetPresence(SetPresence { state: 1, status: Bytes::new() })).await;
    caller.done(watch(of_generation(1))).await;
    let seen = caller.event(presence).await;
    assert_eq!(seen.state(), PresenceState::Online);

    // Shut out, and let in again.
    callee.done(limit(0, Some(&alice))).await;
    let gone = caller.event(presence).await;
    assert!(gone.state() == PresenceState::Offline && gone.devices == 0 && gone.epoch > seen.epoch);
    callee.done(Request::SetPresence(SetPresence { state: 3, status: Bytes::from_static(b"news") })).await;
    caller.no_event(presence).await;
    for request in [take_by, ring_by] {
        assert_eq!(caller.refused(request(of_generation(1))).await.reason(), RefusalReason::Offline);
    }
    callee.done(limit(0, None)).await;
    let busy = |event: &Body| presence(event).filter(|news| news.state() == PresenceState::Busy);
    let back = caller.event(busy).await;
    assert!(back.epoch >= gone.epoch);

    // The next session of another device says that a new generation has begun.
    let mut other = relay.dial().await;
    let another = bob.another_device();
    let mut body = HelloBody::decode(other.hello(&another, relay.pin).body).unwrap();
    body.ticket_generation = 2;
    let hello = other.sign_hello(&another, relay.pin, &body);
    other.send(0, Request::Hello(hello)).await;
    assert!(matches!(other.next().await.unwrap().body, Some(Body::Welcome(_))));
    let gone = caller.event(presence).await;
    assert!(gone.state() == PresenceState::Offline && gone.epoch > back.epoch);
    assert_eq!(caller.refused(take_by(of_generation(1))).await.reason(), RefusalReason::Offline);
    assert!(matches!(caller.ask(take_by(of_generation(2))).await, Body::KeyPackages(_)));
    callee.done(limit(1, None)).await;
    assert_eq!(caller.refused(take_by(of_generation(1))).await.reason(), RefusalReason::Offline, "it only rises");

    let mut late = relay.connect(&Person::new()).await;
    late.done(watch(of_generation(1))).await;
    assert_eq!(late.event(presence).await.state(), PresenceState::Offline);
    let too_many = LimitTickets { generation: 0, blocked: vec![Bytes::copy_from_slice(&[1; 32]); 513] };
    let refused = callee.refused(Request::LimitTickets(too_many)).await;
    assert_eq!((refused.detail.as_str(), refused.value, refused.bound), ("blocked", 513, 512));
    for client in [&caller, &callee, &other, &late] {
        client.close();
    }
    relay.assert_empty().await;
}
