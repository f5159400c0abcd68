//! What each identity and the whole relay may do, and what becomes of whoever wants more.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use supernode_proto::{
    close::CloseCode,
    control::{
        CatchUp, ClientMessage, DepositKeyPackages, PostBeacon, RefusalReason, Ring, SetPresence, TakeKeyPackages,
        Unwatch, Watch, client_message::Body as Request, relay_message::Body,
    },
    identity::RoomId,
};
use supernode_server::core::limits::Limits;

use crate::{
    allocations::allocations,
    world::{At, Person, World},
};

fn refused(answer: &Body) -> Option<&str> {
    match answer {
        Body::Refused(refused) if refused.reason() == RefusalReason::Limit => Some(&refused.detail),
        _ => None,
    }
}

fn nothing() -> Request {
    Request::Unwatch(Unwatch { identity: vec![1; 32].into() })
}

//
#[test]
fn twenty_sessions_of_one_identity_ring_as_often_as_one() {
    let limits = Limits { rings_per_minute_max: 2, ..Limits::default() };
    let mut world = World::with_limits(2, 1, limits);
    let (alice, bob) = (Person::new(1), Person::new(2));
    let at = world.connect(&bob, 0);
    let last_resort = Bytes::from_static(b"1");
    world.ask(at, Request::DepositKeyPackages(DepositKeyPackages { last_resort, ..DepositKeyPackages::default() }));
    let mut rung = 0;
    for turn in 0..20 {
        let at = world.connect(&alice, turn % 2);
        let ticket = bob.ticket(world.now);
        let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
        assert!(matches!(world.answer(at, Request::TakeKeyPackages(take)), Body::KeyPackages(_)));
        let answer = world.answer(at, Request::Ring(Ring { ticket, payload: Bytes::new(), ..Ring::default() }));
        rung += usize::from(matches!(answer, Body::RingStarted(_)));
        world.leave(at, turn % 3 == 0);
        world.settle();
    }
    assert_eq!(rung, 2);
    assert_eq!(world.directory.accounts(), 2, "hers is remembered");
    world.now = world.now.plus(Duration::from_secs(60));
    world.cores[0].sweep_accounts(world.now.instant);
    assert_eq!(world.directory.accounts(), 1);
}

//
#[test]
fn above_the_rate_a_few_are_told_then_nothing_is_read_and_then_the_session_ends() {
    let limits = Limits { requests_per_second_max: 10, requests_excess_max: 100, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let alice = Person::new(1);
    let at = world.connect(&alice, 0);
    let frame = ClientMessage { request: 1, body: Some(nothing()) }.encode_to_vec();
    let told = |world: &World| {
        let refusals =
            world.sent.iter().filter(|(_, message)| message.body.as_ref().is_some_and(|body| refused(body).is_some()));
        refusals.count()
    };
    for _ in 0..40 + 16 {
        world.try_ask(at, &frame).unwrap();
    }
    assert_eq!(told(&world), 16);
    let junk = [0xff; 40];
    let counted = allocations(|| (0..100 - 16).for_each(|_| world.try_ask(at, &junk).unwrap()));
    assert_eq!((told(&world), counted), (16, 0), "what is not read costs nothing");
    assert_eq!(world.try_ask(at, &frame), Err(CloseCode::RATE_EXCEEDED));
    world.leave(at, false);
    let again = world.connect(&alice, 0);
    assert_eq!(world.try_ask(again, &frame), Err(CloseCode::RATE_EXCEEDED), "coming back forgives nothing");
    world.now = world.now.plus(Duration::from_secs(4));
    world.try_ask(again, &frame).unwrap();
    assert!(matches!(world.sent.last().unwrap().1.body, Some(Body::Done(_))), "time does");
}

//
#[test]
fn what_a_room_has_kept_is_sent_so_often_and_no_more() {
    let mut world = World::with_limits(2, 1, Limits { catch_ups_per_minute_max: 3, ..Limits::default() });
    let alice = Person::new(1);
    let at = world.connect(&alice, 1);
    world.join(at, &alice, RoomId([1; 16]));
    let catch_up = || Request::CatchUp(CatchUp { room: vec![1; 16].into(), after_sequence: 0 });
    assert!((0..3).all(|_| matches!(world.answer(at, catch_up()), Body::Done(_))));
    assert_eq!(refused(&world.answer(at, catch_up())), Some("catch_ups_per_minute_max"));
}

//
#[test]
fn beacons_are_passed_on_so_often_and_no_more_whatever_the_room() {
    let mut world = World::with_limits(2, 1, Limits { beacons_per_minute_max: 4, ..Limits::default() });
    let alice = Person::new(1);
    let at = world.connect(&alice, 0);
    let rooms = [RoomId([1; 16]), RoomId([2; 16])];
    for room in rooms {
        world.join(at, &alice, room);
    }
    let beacon = |turn: usize| {
        let (digest, signature) = (vec![3; 32].into(), vec![4; 64].into());
        let room = rooms[turn % 2].0.to_vec().into();
        Request::PostBeacon(PostBeacon { room, epoch: 1, digest, signature })
    };
    for turn in 0..4 {
        assert!(matches!(world.answer(at, beacon(turn)), Body::Done(_)));
    }
    for turn in 0..2 {
        assert_eq!(refused(&world.answer(at, beacon(turn))), Some("beacons_per_minute_max"));
    }
    world.now = world.now.plus(Duration::from_secs(15));
    assert!(matches!(world.answer(at, beacon(0)), Body::Done(_)), "one in a quarter of a minute");
    assert_eq!(refused(&world.answer(at, beacon(0))), Some("beacons_per_minute_max"));
}

//
#[test]
fn key_packages_are_taken_and_given_at_a_rate() {
    let limits =
        Limits { key_packages_taken_per_minute_max: 2, key_packages_given_per_minute_max: 3, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let people: Vec<Person> = (1..=3).map(Person::new).collect();
    let at: Vec<At> = people.iter().map(|person| world.connect(person, 0)).collect();
    world.ask(
        at[0],
        Request::DepositKeyPackages(DepositKeyPackages {
            packages: vec![Bytes::from_static(b"1"); 32],
            ..DepositKeyPackages::default()
        }),
    );
    let ticket = people[0].ticket(world.now);
    let mut take = |who: usize| {
        world.answer(
            at[who],
            Request::TakeKeyPackages(TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() }),
        )
    };
    assert!((0..2).all(|_| matches!(take(1), Body::KeyPackages(_))));
    assert_eq!(refused(&take(1)), Some("key_packages_taken_per_minute_max"));
    assert!(matches!(take(2), Body::KeyPackages(_)));
    assert_eq!(refused(&take(2)), Some("key_packages_given_per_minute_max"));
}

//
#[test]
fn what_all_devices_of_an_identity_are_sent_is_owed_by_all() {
    let mut world = World::with_limits(2, 1, Limits { egress_bytes_per_second_max: 100_000, ..Limits::default() });
    let (alice, bob) = (Person::new(1), Person::new(2));
    let (phone, bob) = (world.connect(&alice, 0), world.connect(&bob, 1));
    assert_eq!(world.charge(phone, 100_000), Duration::ZERO);
    assert_eq!(world.charge(bob, 100_000), Duration::ZERO);
    assert_eq!(world.charge(phone, 50_000), Duration::from_millis(500));
    world.leave(phone, true);
    let again = world.connect(&alice, 1);
    assert_eq!(world.charge(again, 10_000), Duration::from_millis(600));
}

//
#[test]
fn whoever_has_been_sent_a_days_bytes_goes_and_comes_back_when_some_are_there_again() {
    let mut world = World::with_limits(1, 1, Limits { egress_bytes_per_day_max: 24_000, ..Limits::default() });
    let (alice, bob) = (Person::new(1), Person::new(2));
    let (first, other) = (world.connect(&alice, 0), world.connect(&bob, 0));
    world.charge(first, 24_000);
    assert!(world.cores[0].is_live(first.id));
    world.charge(first, 1);
    assert!(!world.cores[0].is_live(first.id) && world.cores[0].is_live(other.id));
    assert_eq!(world.try_connect(&alice, 0), Err(CloseCode::DAY_USED_UP));
    world.now = world.now.plus(Duration::from_secs(3_500));
    world.cores[0].sweep_accounts(world.now.instant);
    assert_eq!(world.try_connect(&alice, 0), Err(CloseCode::DAY_USED_UP));
    world.now = world.now.plus(Duration::from_secs(200));
    assert!(world.try_connect(&alice, 0).is_ok());
}

//
#[test]
fn a_relay_that_has_sent_a_days_bytes_lets_nobody_in() {
    let mut world = World::with_limits(1, 1, Limits { relay_egress_bytes_per_day_max: 24_000, ..Limits::default() });
    let (alice, bob) = (Person::new(1), Person::new(2));
    let (first, other) = (world.connect(&alice, 0), world.connect(&bob, 0));
    world.charge(first, 24_001);
    assert!(!world.cores[0].is_live(first.id));
    assert!(world.cores[0].is_live(other.id), "who is sent nothing costs nothing");
    assert_eq!(world.try_connect(&alice, 0), Err(CloseCode::RELAY_DAY_USED_UP));
    world.now = world.now.plus(Duration::from_secs(3_700));
    assert!(world.try_connect(&alice, 0).is_ok());
}

//
#[test]
fn the_relay_has_so_many_rooms_and_one_that_empties_makes_place() {
    let mut world = World::with_limits(2, 1, Limits { relay_rooms_max: 2, ..Limits::default() });
    let alice = Person::new(1);
    let at = world.connect(&alice, 0);
    let mut join = |number: u8| {
        world.join(at, &alice, RoomId([number; 16]));
        world.settle();
        world.sent.last().map(|(_, message)| message.body.clone().unwrap()).unwrap()
    };
    assert!([1, 2].iter().all(|number| matches!(join(*number), Body::RoomJoined(_))));
    assert_eq!(refused(&join(3)), Some("relay_rooms_max"));
    world.ask(at, Request::LeaveRoom(supernode_proto::control::LeaveRoom { room: vec![1; 16].into() }));
    world.join(at, &alice, RoomId([3; 16]));
    assert!(matches!(world.sent.last().unwrap().1.body, Some(Body::RoomJoined(_))));
    assert_eq!(world.directory.population().rooms, 2);
}

//
#[test]
fn one_who_fills_the_tables_leaves_others_their_part() {
    let limits = Limits { relay_tables_bytes_max: 1 << 20, requests_per_second_max: 1 << 20, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let hoarder = Person::new(1);
    let at = world.connect(&hoarder, 0);
    let deposit = |bytes: usize| {
        Request::DepositKeyPackages(DepositKeyPackages {
            packages: vec![vec![1; bytes].into(); 16],
            ..DepositKeyPackages::default()
        })
    };
    assert_eq!(refused(&world.answer(at, deposit(4096))), Some("relay_tables_bytes_max"), "more than a 16th of 1 MiB");
    assert!(matches!(world.answer(at, deposit(3_900)), Body::Done(_)));
    let other = Person::new(2);
    let other = world.connect(&other, 0);
    assert!(matches!(world.answer(other, deposit(400)), Body::Done(_)), "8 KiB are always there");
    let watched: Vec<Person> = (10..250).map(Person::new).collect();
    let watched = watched.iter().filter(|person| {
        let ticket = person.ticket(world.now);
        matches!(world.answer(other, Request::Watch(Watch { ticket, ..Watch::default() })), Body::Done(_))
    });
    assert!((10..240).contains(&watched.count()), "and watches are counted too");
    let status = SetPresence { state: 1, status: vec![0; 1024].into() };
    assert!(matches!(world.answer(at, Request::SetPresence(status)), Body::Done(_)));
}
