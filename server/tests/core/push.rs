//! Who is woken of whom nobody is online, and by whom.

use std::time::Duration;

use bytes::Bytes;
use supernode_proto::{
    control::{
        DepositKeyPackages, LimitTickets, PresenceState, RefusalReason, Ring, SetPresence, SetPushEndpoint,
        TakeKeyPackages, client_message::Body as Request, relay_message::Body,
    },
    limits::BLOCKED_IDENTITIES_MAX,
};
use supernode_server::core::{
    directory::Directory,
    limits::Limits,
    push::{PUSH_ENDPOINT_KEPT_BYTES, Push},
};

use crate::{
    allocations::live_bytes,
    world::{At, PUSH_KEY, Person, World},
};

const HERE: &str = "https://push.example/alice";
const INTERVAL: Duration = Duration::from_secs(30);

fn endpoint(url: &str) -> Request {
    Request::SetPushEndpoint(SetPushEndpoint { endpoint: url.to_owned() })
}

/// Somebody who can be woken, and whose page is closed.
fn away(world: &mut World, person: &Person) {
    let at = world.connect(person, 0);
    assert_eq!(world.answer(at, endpoint(HERE)), Body::Done(Default::default()));
    world.leave(at, true);
}

/// What the caller is told, and where others are woken by it.
fn ring(world: &mut World, caller: At, callee: &Person) -> (Body, Vec<String>) {
    let take = TakeKeyPackages { ticket: callee.ticket(world.now), ..TakeKeyPackages::default() };
    let told = world.answer(caller, Request::TakeKeyPackages(take));
    (told, std::mem::take(&mut world.pushed).into_iter().map(|push| push.endpoint.to_string()).collect())
}

fn reason(answer: &Body) -> RefusalReason {
    let Body::Refused(refused) = answer else { panic!("{answer:?}") };
    refused.reason()
}

//
#[test]
fn whoever_rings_somebody_who_is_away_wakes_them_once_and_is_told_no_more_than_ever() {
    let mut world = World::new(2, 1);
    let (alice, bob, nobody) = (Person::new(1), Person::new(2), Person::new(3));
    away(&mut world, &alice);
    let caller = world.connect(&bob, 1);
    let (offline, woken) = ring(&mut world, caller, &nobody);
    assert!(woken.is_empty());
    let (told, woken) = ring(&mut world, caller, &alice);
    assert_eq!((&told, woken), (&offline, vec![HERE.to_owned()]), "not a byte differs");
    assert_eq!(reason(&told), RefusalReason::Offline);
    // Whether by taking key packages or at the ring itself.
    for _ in 0..20 {
        let (told, woken) = ring(&mut world, caller, &alice);
        assert_eq!((told, woken.len()), (offline.clone(), 0), "not so soon");
    }
    world.now = world.now.plus(INTERVAL);
    let by_ring = Ring { ticket: alice.ticket(world.now), payload: Bytes::from_static(b"x"), ..Ring::default() };
    assert_eq!(reason(&world.answer(caller, Request::Ring(by_ring))), RefusalReason::Offline);
    assert_eq!(world.pushed.len(), 1);
    assert_eq!((world.pushed[0].identity, world.pushed[0].device), (alice.identity_key(), alice.device_key()));
    world.pushed.clear();

    // The woken page comes, and the ring that is made again reaches it.
    let at = world.connect(&alice, 0);
    let last_resort = Bytes::from_static(b"1");
    world.ask(at, Request::DepositKeyPackages(DepositKeyPackages { last_resort, ..DepositKeyPackages::default() }));
    let (told, woken) = ring(&mut world, caller, &alice);
    assert!(matches!(told, Body::KeyPackages(_)) && woken.is_empty(), "{told:?}");
    let ring = Ring { ticket: alice.ticket(world.now), payload: Bytes::from_static(b"x"), ..Ring::default() };
    assert!(matches!(world.answer(caller, Request::Ring(ring)), Body::RingStarted(_)));
    let rings = |(to, message): &(_, supernode_proto::control::RelayMessage)| {
        *to == at.id && matches!(message.body, Some(Body::IncomingRing(_)))
    };
    assert!(world.sent.iter().any(rings));
}

//
#[test]
fn nobody_is_woken_by_whom_they_shut_out_nor_by_a_ticket_that_they_took_back_nor_while_they_are_there() {
    let mut world = World::new(1, 1);
    let (alice, bob, carol) = (Person::new(1), Person::new(2), Person::new(3));
    let at = world.connect(&alice, 0);
    let by_bob = world.connect(&bob, 0);
    let by_carol = world.connect(&carol, 0);
    let blocked = vec![Bytes::copy_from_slice(bob.identity_key().as_bytes())];
    world.ask(at, endpoint(HERE));
    world.ask(at, Request::LimitTickets(LimitTickets { generation: 0, blocked: blocked.clone() }));
    let invisible = SetPresence { state: PresenceState::Invisible.into(), status: Bytes::new() };
    world.ask(at, Request::SetPresence(invisible));
    let (told, woken) = ring(&mut world, by_carol, &alice);
    assert_eq!((reason(&told), woken.len()), (RefusalReason::Offline, 0), "who is invisible wants no ring");
    world.leave(at, true);
    let (told, woken) = ring(&mut world, by_bob, &alice);
    assert_eq!((reason(&told), woken.len()), (RefusalReason::Offline, 0), "he is shut out");
    assert_eq!(ring(&mut world, by_carol, &alice).1.len(), 1, "and she is not kept waiting by him");

    // Said before the endpoint, it counts as well; and it is taken back with it.
    let at = world.connect(&alice, 0);
    world.ask(at, Request::LimitTickets(LimitTickets::default()));
    world.ask(at, endpoint(HERE));
    world.leave(at, false);
    world.now = world.now.plus(INTERVAL);
    assert_eq!(ring(&mut world, by_bob, &alice).1.len(), 1);
    let at = world.connect(&alice, 0);
    world.ask(at, Request::LimitTickets(LimitTickets { generation: 1, blocked: vec![] }));
    world.leave(at, true);
    world.now = world.now.plus(INTERVAL);
    assert_eq!(ring(&mut world, by_carol, &alice).1.len(), 0, "her ticket is void, also while nobody is there");
}

//
#[test]
fn an_endpoint_goes_with_its_owners_word_the_push_services_word_and_its_time() {
    let mut world = World::new(1, 1);
    let (alice, bob) = (Person::new(1), Person::new(2));
    let caller = world.connect(&bob, 0);
    let there = |world: &World| world.directory.population().push_endpoints;

    away(&mut world, &alice);
    let at = world.connect(&alice, 0);
    world.ask(at, endpoint("https://other.push.example/alice"));
    assert_eq!(there(&world), 1, "a device has one");
    world.ask(at, endpoint(""));
    world.leave(at, true);
    assert_eq!((there(&world), world.directory.population().people), (0, 1), "nothing is left of her");
    assert!(ring(&mut world, caller, &alice).1.is_empty());

    away(&mut world, &alice);
    let (identity, device) = (alice.identity_key(), alice.device_key());
    let gone = |endpoint: &str| Push { endpoint: endpoint.into(), identity, device };
    world.directory.forget_push_endpoint(&gone("https://push.example/before"));
    assert_eq!(there(&world), 1, "it has another one by now");
    world.directory.forget_push_endpoint(&gone(HERE));
    assert_eq!((there(&world), world.directory.population().people), (0, 1));

    // Delegations of this world are good for a minute.
    away(&mut world, &alice);
    world.now = world.now.plus(Duration::from_secs(61));
    assert!(ring(&mut world, caller, &alice).1.is_empty());
    world.advance(Duration::from_secs(600));
    assert_eq!((there(&world), world.directory.population().people), (0, 1));
    assert_eq!(world.cores[0].poll_timeout(), None, "nobody looks any more");
}

//
#[test]
fn only_addresses_of_the_push_services_that_the_operator_lists_are_kept_and_only_so_many() {
    let limits = Limits { push_endpoints_max: 2, devices_per_identity_max: 2, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let alice = Person::new(1);
    let at = world.connect(&alice, 0);
    let welcome = world.sent.iter().find_map(|(_, message)| match &message.body {
        Some(Body::Welcome(welcome)) => Some(welcome.push_key.clone()),
        _ => None,
    });
    assert_eq!(welcome, Some(PUSH_KEY));
    let long = format!("https://push.example/{}", "x".repeat(1024));
    for url in ["http://push.example/x", "https://evil.example/x", "https://10.0.0.1/x", "no", &long] {
        let Body::Refused(refused) = world.answer(at, endpoint(url)) else { panic!("{url}") };
        assert_eq!((refused.reason(), &*refused.detail), (RefusalReason::Malformed, "endpoint"), "{url}");
    }
    world.leave(at, true);
    (1..3).for_each(|number| away(&mut world, &Person::new(number)));
    away(&mut world, &Person::new(1));
    let at = world.connect(&Person::new(3), 0);
    let Body::Refused(refused) = world.answer(at, endpoint(HERE)) else { panic!("one too many") };
    assert_eq!((refused.reason(), &*refused.detail, refused.bound), (RefusalReason::Limit, "push_endpoints_max", 2));

    // Where the operator wants none, there is no key to subscribe with.
    let mut world = World::of(1, 1, Directory::new(Limits::default()));
    let at = world.connect(&alice, 0);
    let is_without = |(_, message): &(_, supernode_proto::control::RelayMessage)| matches!(&message.body, Some(Body::Welcome(welcome)) if welcome.push_key.is_empty());
    assert!(world.sent.iter().any(is_without));
    let Body::Refused(refused) = world.answer(at, endpoint(HERE)) else { panic!("nobody is woken here") };
    assert_eq!((&*refused.detail, refused.bound), ("push_endpoints_max", 0));
    assert_eq!(world.answer(at, endpoint("")), Body::Done(Default::default()), "there is none");
}

//
#[test]
fn of_more_devices_than_a_person_may_have_the_one_that_was_said_first_is_not_woken() {
    let limits = Limits { devices_per_identity_max: 2, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let caller = world.connect(&Person::new(9), 0);
    let devices: Vec<Person> = (1..4).map(|device| Person::with_device(1, device)).collect();
    for (number, device) in devices.iter().enumerate() {
        let at = world.connect(device, 0);
        world.ask(at, endpoint(&format!("https://push.example/{number}")));
        world.leave(at, true);
    }
    assert_eq!(ring(&mut world, caller, &devices[0]).1, ["https://push.example/1", "https://push.example/2"]);
}

//
#[test]
fn an_endpoint_takes_no_more_than_the_memory_table_says() {
    const MANY: i64 = 600;
    let limits = Limits { requests_per_second_max: 1 << 20, accounts_idle_max: 1, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits);
    let blocked: Vec<Bytes> = (0..BLOCKED_IDENTITIES_MAX as u64)
        .map(|number| Bytes::copy_from_slice(Person::numbered(10_000 + number).identity_key().as_bytes()))
        .collect();
    let mut come_and_go = |first: i64, stays: bool| {
        world.sent = Vec::new();
        let before = live_bytes();
        for number in first..first + MANY {
            let at = world.connect(&Person::numbered(number as u64), 0);
            if stays {
                world.ask(at, Request::LimitTickets(LimitTickets { generation: 0, blocked: blocked.clone() }));
                world.ask(at, endpoint(&format!("https://push.example/{}", "x".repeat(1003))));
            }
            world.leave(at, true);
            world.sent = Vec::new();
        }
        live_bytes() - before
    };
    come_and_go(0, false);
    let idle = come_and_go(MANY, false);
    let each = (come_and_go(2 * MANY, true) - idle) / MANY;
    eprintln!("{each} bytes an endpoint");
    let counted = PUSH_ENDPOINT_KEPT_BYTES as i64;
    assert!(each <= counted && each * 2 >= counted, "an endpoint takes {each} bytes, and counts {counted}");
}
