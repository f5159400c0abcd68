//! A session against a relay that is a few lines of this file: what it is told, it takes apart; what it says is written out.

use bytes::{Bytes, BytesMut};
use supernode_keys::{DeviceSecret, IdentitySecret, Pass, Terms};
use supernode_proto::{
    VERSION,
    control::{
        self, Allocation, AnswerRing, CancelRing, ClientMessage, Done, FrameReader, IncomingRing, KeyPackagesLow,
        LimitTickets, MemberLeft, PresenceState, RefusalReason, Refused, RelayMessage, Ring, RingEnded, RingOutcome,
        RingResult, RingStarted, Rung, SessionLimits, SetPresence, SetPushEndpoint, TrackDemand, Unwatch, Welcome,
        client_message::Body as Request, encode_frame, relay_message::Body,
    },
    identity::{Grants, RelayPin},
};
use supernode_session::{Channel, Event, Fault, Greeting, Introduction, RoomEvent, Session, Welcomed};

type Name = &'static str;

/// A connection, numbered so that what is signed on it differs.
fn channel(number: u8) -> Channel {
    Channel::by_exporter(RelayPin([1; 32]), [number; 32], device().public())
}

fn device() -> DeviceSecret {
    DeviceSecret::from_bytes(&[4; 32])
}

fn limits() -> SessionLimits {
    SessionLimits { key_packages_max: 8, ..SessionLimits::default() }
}

fn told(reply_to: u64, body: Body) -> RelayMessage {
    RelayMessage { reply_to, body: Some(body) }
}

fn event(body: Body) -> RelayMessage {
    told(0, body)
}

fn welcome() -> RelayMessage {
    event(Body::Welcome(Welcome {
        version: VERSION,
        unix_ms: 9,
        limits: Some(limits()),
        push_key: Bytes::from_static(b"key"),
    }))
}

fn bytes(messages: &[RelayMessage]) -> Bytes {
    let mut bytes = BytesMut::new();
    messages.iter().for_each(|message| encode_frame(message, &mut bytes));
    bytes.freeze()
}

fn greeting(number: u8) -> Greeting {
    let delegation = IdentitySecret::from_bytes(&[3; 32]).delegate(&device().public(), 1);
    let channel = channel(number);
    Greeting::new(channel, channel.hello(&device(), &Introduction::new(&delegation, ""))).0
}

fn welcomed(number: u8) -> Welcomed {
    greeting(number).handle_bytes(&bytes(&[welcome()])).expect("a Welcome").expect("all of it")
}

/// A session on its first connection, with nothing to read or write.
fn session() -> Session<Name> {
    let mut session = Session::new(2, 5);
    session.handle_connected(welcomed(1)).expect("nothing came with the Welcome");
    session.deposit(None, []);
    events(&mut session);
    assert_eq!(session.poll_bytes(), None);
    session
}

fn events(session: &mut Session<Name>) -> Vec<String> {
    std::iter::from_fn(|| session.poll_event()).map(|event| short(&event)).collect()
}

fn short(event: &Event<Name>) -> String {
    match event {
        Event::Reply { to, reply: Ok(_) } => format!("{to}: yes"),
        Event::Reply { to, reply: Err(refusal) } => format!("{to}: {refusal}"),
        Event::Unanswered(to) => format!("{to}: no answer"),
        Event::KeyPackagesWanted(packages) => format!("{packages} key packages"),
        Event::Presence(_, presence) => format!("{:?}", presence.state),
        Event::WatchEnded(_, refusal) => format!("watch ended: {refusal}"),
        Event::IncomingRing(ring) => format!("rung by {:?}", ring.ring),
        Event::RingEnded(ring, result) => format!("{ring:?} ended: {result:?}"),
        Event::RingOutcome(outcome) => format!("{:?} settled: {:?}", outcome.ring, outcome.result()),
        Event::RingLost(ring) => format!("{ring:?} lost"),
        Event::Room(room, RoomEvent::MemberLeft { member, .. }) => format!("{member} left {}", room.0[0]),
        Event::Demand(alias, demand) => format!("{} to {}", alias.value(), demand.subscribers),
        Event::RungChanged(rung) => format!("{rung:?}"),
        other => format!("{other:?}"),
    }
}

/// What the relay reads, in order.
fn written(session: &mut Session<Name>) -> Vec<ClientMessage> {
    let mut reader = FrameReader::default();
    while let Some(bytes) = session.poll_bytes() {
        reader.push(&bytes);
    }
    let messages = std::iter::from_fn(|| reader.next_message::<ClientMessage>().expect("messages")).collect();
    assert_eq!(reader.waiting(), 0, "whole messages");
    messages
}

fn names(messages: &[ClientMessage]) -> Vec<Name> {
    let name = |message: &ClientMessage| match message.body.as_ref().expect("a request") {
        Request::DepositKeyPackages(deposit) if deposit.packages.is_empty() => "last resort",
        Request::DepositKeyPackages(_) => "package",
        Request::LimitTickets(_) => "limits",
        Request::SetPushEndpoint(_) => "push endpoint",
        Request::SetPresence(_) => "presence",
        Request::Watch(_) => "watch",
        Request::DeclineRing(_) => "decline",
        _ => "another",
    };
    messages.iter().map(name).collect()
}

fn unwatch() -> Request {
    Request::Unwatch(Unwatch::default())
}

fn pass(person: u8) -> Pass {
    let terms = Terms { grants: Grants::PRESENCE, relay: None, generation: 0, not_after_unix_s: 1 };
    IdentitySecret::from_bytes(&[person; 32]).issue_pass(&terms)
}

fn presence_of(person: u8, epoch: u64, state: PresenceState) -> RelayMessage {
    let identity = Bytes::copy_from_slice(pass(person).issuer().as_bytes());
    event(Body::Presence(control::Presence { identity, epoch, state: state.into(), devices: 1, status: Bytes::new() }))
}

fn ring(name: Name) -> IncomingRing {
    IncomingRing { ring: Bytes::from_static(name.as_bytes()), ..IncomingRing::default() }
}

/// Everything that a relay says in a while, which is all understood.
fn a_while() -> (Vec<RelayMessage>, Vec<&'static str>) {
    let room = Bytes::from_static(&[7; 16]);
    let outcome = |name: Name| RingOutcome {
        ring: Bytes::from_static(name.as_bytes()),
        result: RingResult::Busy.into(),
        ..RingOutcome::default()
    };
    let messages = vec![
        told(2, Body::Done(Done {})),
        event(Body::RingOutcome(outcome("ours"))),
        told(3, Body::RingStarted(RingStarted { ring: Bytes::from_static(b"ours"), devices: 1 })),
        presence_of(1, 5, PresenceState::Online),
        presence_of(1, 4, PresenceState::Offline),
        presence_of(9, 1, PresenceState::Online),
        event(Body::IncomingRing(ring("theirs"))),
        event(Body::RingEnded(RingEnded { ring: Bytes::from_static(b"no"), result: 0 })),
        event(Body::RingOutcome(outcome("ours"))),
        event(Body::RingOutcome(outcome("ours"))),
        event(Body::MemberLeft(MemberLeft { room, member: 3, kicked: false })),
        event(Body::TrackDemand(TrackDemand { alias: 12, subscribers: 2, ..TrackDemand::default() })),
        event(Body::Allocation(Allocation { rung: Rung::AudioOnly.into(), ..Allocation::default() })),
        event(Body::Allocation(Allocation { rung: Rung::AudioOnly.into(), ..Allocation::default() })),
        event(Body::KeyPackagesLow(KeyPackagesLow { left: 1 })),
        told(1, Body::Refused(Refused { reason: RefusalReason::Already.into(), ..Refused::default() })),
        told(77, Body::Done(Done {})),
    ];
    let events = vec![
        "second: yes",
        "ring: yes",
        "Online",
        "rung by b\"theirs\"",
        "b\"ours\" settled: Busy",
        "3 left 7",
        "12 to 2",
        "AudioOnly",
        "1 key packages",
        "first: ALREADY",
    ];
    (messages, events)
}

fn asked_for_a_while() -> Session<Name> {
    let mut session = session();
    session.ask(unwatch(), "first").expect("connected");
    session.ask(unwatch(), "second").expect("connected");
    session.ask(Request::Ring(Ring::default()), "ring").expect("connected");
    assert!(session.watch(&pass(1)).is_some());
    session
}

//
#[test]
fn wherever_the_relay_s_bytes_are_cut_the_same_comes_of_them() {
    let (messages, expected) = a_while();
    let bytes = bytes(&messages);
    for cut in 0..=bytes.len() {
        let mut session = asked_for_a_while();
        session.handle_bytes(&bytes[..cut]).expect("messages");
        let mut heard = events(&mut session);
        session.handle_bytes(&bytes[cut..]).expect("messages");
        heard.extend(events(&mut session));
        assert_eq!(heard, expected, "cut at {cut}");
    }
    let mut session = asked_for_a_while();
    bytes.chunks(1).for_each(|byte| session.handle_bytes(byte).expect("messages"));
    assert_eq!(events(&mut session), expected, "byte by byte");
}

#[test]
fn a_greeting_ends_with_the_welcome_wherever_it_is_cut_and_what_follows_is_the_session_s() {
    let after = event(Body::KeyPackagesLow(KeyPackagesLow { left: 0 }));
    let bytes = bytes(&[welcome(), after]);
    for cut in 0..=bytes.len() {
        let mut greeting = greeting(1);
        let mut session = Session::<Name>::new(2, 0);
        let first = greeting.handle_bytes(&bytes[..cut]).expect("a Welcome");
        let rest = match first {
            Some(welcomed) => {
                assert_eq!(welcomed.unix_ms, 9);
                session.handle_connected(welcomed).expect("messages");
                session.handle_bytes(&bytes[cut..])
            }
            None => {
                let welcomed = greeting.handle_bytes(&bytes[cut..]).expect("a Welcome").expect("all of it");
                session.handle_connected(welcomed)
            }
        };
        rest.expect("messages");
        assert_eq!(events(&mut session), ["2 key packages", "2 key packages"], "cut at {cut}");
    }
}

#[test]
fn whoever_says_no_welcome_first_or_one_of_another_version_is_no_relay() {
    let fault = |messages: &[RelayMessage]| greeting(1).handle_bytes(&bytes(messages)).expect_err("no relay");
    assert_eq!(fault(&[event(Body::Done(Done {}))]), Fault::NoWelcome);
    let newer = Welcome { version: VERSION + 1, ..Welcome::default() };
    assert_eq!(fault(&[event(Body::Welcome(newer))]), Fault::Version);
    assert_eq!(greeting(1).handle_bytes(&[0xff; 5]).expect_err("no message"), Fault::Malformed);
    let mut session = session();
    session.ask(unwatch(), "first").expect("connected");
    let mut junk = bytes(&[told(1, Body::Done(Done {}))]).to_vec();
    junk.extend([0xff; 5]);
    assert_eq!(session.handle_bytes(&junk), Err(Fault::Malformed));
    assert_eq!(events(&mut session), ["first: yes"], "what came before it counts");
}

#[test]
fn a_connection_that_is_gone_leaves_no_question_and_no_ring_open() {
    let mut session = asked_for_a_while();
    let started = Body::RingStarted(RingStarted { ring: Bytes::from_static(b"ours"), devices: 1 });
    let said = [told(3, started), event(Body::IncomingRing(ring("theirs"))), event(Body::IncomingRing(ring("taken")))];
    session.handle_bytes(&bytes(&said)).expect("messages");
    let taken = AnswerRing { ring: Bytes::from_static(b"taken"), payload: Bytes::new() };
    session.ask(Request::AnswerRing(taken), "answer").expect("connected");
    events(&mut session);
    session.handle_disconnected();
    let expected =
        ["first: no answer", "second: no answer", "answer: no answer", "b\"ours\" lost", "b\"theirs\" ended: Gone"];
    assert_eq!(events(&mut session), expected);
    assert_eq!((session.poll_bytes(), session.connection()), (None, None), "nothing goes to the next one");
    assert_eq!(session.ask(unwatch(), "later"), Err("later"));
    session.handle_disconnected();
    assert!(events(&mut session).is_empty());
    // The numbers of the last connection are nobody's on this one.
    session.handle_connected(welcomed(2)).expect("nothing came");
    session.handle_bytes(&bytes(&[told(1, Body::Done(Done {}))])).expect("messages");
    assert_eq!(events(&mut session), ["2 key packages"]);
}

//
#[test]
fn on_each_connection_everything_that_stands_is_said_again_once_and_key_packages_first() {
    let mut session = session();
    let presence = SetPresence { state: PresenceState::Away.into(), status: Bytes::from_static(b"lunch") };
    session.ask(Request::SetPresence(SetPresence::default()), "presence").expect("connected");
    let shut_out = LimitTickets { generation: 6, blocked: vec![Bytes::from_static(&[8; 32])] };
    session.ask(Request::LimitTickets(shut_out.clone()), "limits").expect("connected");
    let endpoint = SetPushEndpoint { endpoint: "https://push.example/1".to_owned() };
    session.ask(Request::SetPushEndpoint(endpoint.clone()), "endpoint").expect("connected");
    let first = session.watch(&pass(1)).expect("the first watch on somebody");
    assert!(session.watch(&pass(2)).is_some());
    assert_eq!(session.watch(&pass(1)), None, "it shares the first one's");
    assert!(session.unwatch(&pass(2).issuer()).is_some());
    session.handle_bytes(&bytes(&[presence_of(1, 9, PresenceState::Online)])).expect("messages");
    for number in 2..4 {
        session.handle_disconnected();
        // What is wished in between stands as well.
        assert_eq!(session.ask(Request::SetPresence(presence.clone()), "presence"), Err("presence"));
        session.handle_connected(welcomed(number)).expect("nothing came");
        events(&mut session);
        assert!(written(&mut session).is_empty(), "nobody can ring us yet");
        session.deposit(Some(Bytes::from_static(b"last")), [b"one", b"two"].map(|it| Bytes::from_static(it)));
        let said = written(&mut session);
        assert_eq!(names(&said), ["last resort", "package", "package", "limits", "push endpoint", "presence", "watch"]);
        assert_eq!(said[3].body, Some(Request::LimitTickets(shut_out.clone())));
        assert_eq!(said[4].body, Some(Request::SetPushEndpoint(endpoint.clone())));
        assert_eq!(said[5].body, Some(Request::SetPresence(presence.clone())));
        let (Some(Request::Watch(again)), Request::Watch(first)) = (&said[6].body, &first) else { panic!("a watch") };
        assert_eq!(again.ticket, first.ticket);
        assert_ne!(again.proof, first.proof, "it is signed for this connection");
        session.deposit(None, [Bytes::from_static(b"three")]);
        assert_eq!(names(&written(&mut session)), ["package"], "once");
        // A relay that restarted counts anew; what was known is no news.
        let news = [presence_of(1, 1, PresenceState::Online), presence_of(1, 2, PresenceState::Busy)];
        session.handle_bytes(&bytes(&news)).expect("messages");
        assert_eq!(events(&mut session), ["Busy"]);
        session.handle_bytes(&bytes(&[presence_of(1, 3, PresenceState::Online)])).expect("messages");
        events(&mut session);
    }
}

#[test]
fn a_watch_that_the_relay_does_not_take_again_ends_and_others_go_on() {
    let mut session = session();
    assert!(session.watch(&pass(1)).is_some());
    session.handle_connected(welcomed(2)).expect("the last one was still there");
    session.deposit(None, []);
    let said = written(&mut session);
    assert_eq!(names(&said), ["limits", "watch"]);
    let expired = Refused { reason: RefusalReason::TicketExpired.into(), ..Refused::default() };
    session.handle_bytes(&bytes(&[told(said[1].request, Body::Refused(expired))])).expect("messages");
    assert_eq!(events(&mut session), ["2 key packages", "watch ended: TICKET_EXPIRED"]);
}

#[test]
fn a_ring_that_is_given_up_is_still_settled_and_one_that_nobody_could_look_at_is_busy() {
    let mut session = session();
    session.ask(Request::Ring(Ring::default()), "ring").expect("connected");
    let mine = Bytes::from_static(b"ours");
    let started = told(1, Body::RingStarted(RingStarted { ring: mine.clone(), devices: 1 }));
    session.handle_bytes(&bytes(&[started])).expect("messages");
    session.ask(Request::CancelRing(CancelRing { ring: mine.clone() }), "cancel").expect("connected");
    let outcome = RingOutcome { ring: mine, result: RingResult::Cancelled.into(), ..RingOutcome::default() };
    session.handle_bytes(&bytes(&[event(Body::RingOutcome(outcome))])).expect("messages");
    assert_eq!(events(&mut session), ["ring: yes", "b\"ours\" settled: Cancelled"]);
    written(&mut session);

    let flood: Vec<RelayMessage> = (0..300u32)
        .map(|number| IncomingRing { ring: Bytes::copy_from_slice(&number.to_be_bytes()), ..IncomingRing::default() })
        .map(|ring| event(Body::IncomingRing(ring)))
        .collect();
    session.handle_bytes(&bytes(&flood)).expect("messages");
    assert_eq!(events(&mut session).len(), 256);
    assert_eq!(names(&written(&mut session)), ["decline"; 44]);
}
