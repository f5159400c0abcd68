//! Rings from both ends, driven by hand: what is to be done next is all that either end knows of the other.

use bytes::Bytes;
use supernode_e2ee::{Device, DeviceSecret, Group, IdentitySecret, KeyExchange, LinkSecret, Pass, Processed, Terms};
use supernode_proto::{
    control::{
        self, AnswerRing, DeviceKeyPackage, KeyPackages, RefusalReason, RingOutcome, RingResult, RingStarted,
        client_message, relay_message,
    },
    identity::{DeviceKey, EXPORTER_BYTES, Grants, RelayPin, RoomId},
};
use supernode_session::{Channel, Refusal};

use super::*;
use crate::{
    Member,
    rights::{Admission, Door, Greeting, Purpose, Revoked, Rules, Said, Why, read},
    room::{Knocker, RosterEntry},
};

const NOW: u64 = 1_800_000_000;
const RELAY: RelayPin = RelayPin([1; 32]);
const RING: &[u8] = &[9; 16];
const ROOM: RoomId = RoomId([7; 16]);

/// A person with one device.
struct Person {
    identity: IdentitySecret,
    device: Device,
}

impl Person {
    fn new() -> Self {
        let (identity, secret) = (IdentitySecret::generate(), DeviceSecret::generate());
        let delegation = identity.delegate(&secret.public(), NOW + 3600);
        Self { device: Device::new(secret, delegation).expect("its own delegation"), identity }
    }

    fn member(&self) -> Member {
        Member { identity: self.device.identity(), device: self.device.key() }
    }

    fn channel(&self) -> Channel {
        Channel::by_exporter(RELAY, [2; EXPORTER_BYTES], self.device.key())
    }

    fn pass(&self, grants: Grants) -> Pass {
        self.identity.issue_pass(&Terms { grants, relay: None, generation: 0, not_after_unix_s: NOW + 3600 })
    }

    fn packages(&self) -> relay_message::Body {
        let device = Bytes::copy_from_slice(self.device.key().as_bytes());
        let package = self.device.key_package().expect("a package").into();
        relay_message::Body::KeyPackages(KeyPackages { packages: vec![DeviceKeyPackage { device, package }] })
    }

    fn handle_reply(&self, calling: &mut Calling, reply: relay_message::Body) -> Result<Next, RingError> {
        let by = Caller {
            device: &self.device,
            revocation: None,
            is_revoked: &|_, _| false,
            name: RoomId([3; 16]),
            unix_s: NOW,
        };
        calling.handle_reply(reply, by)
    }

    /// Rings until it rings there: what the ring brings, and the call.
    fn ring(&self, pass: &Pass, greeting: Greeting, callee: &Self) -> (Calling, control::IncomingRing, Group) {
        let (mut calling, next) = Calling::by_pass(&self.channel(), pass, pass, greeting);
        assert!(matches!(asked(next), client_message::Body::TakeKeyPackages(_)));
        let group = joined(self.handle_reply(&mut calling, callee.packages()));
        let ring = asked(calling.handle_done().expect("joined"));
        let incoming = self.started(&mut calling, ring, Bytes::new());
        (calling, incoming, group)
    }

    /// The ring begins: what the relay makes of it for those who are rung.
    fn started(&self, calling: &mut Calling, ring: client_message::Body, room: Bytes) -> control::IncomingRing {
        let client_message::Body::Ring(ring) = ring else { panic!("a ring") };
        assert!(!calling.is_ringing());
        let started = RingStarted { ring: RING.into(), devices: 1 };
        let next = self.handle_reply(calling, relay_message::Body::RingStarted(started));
        assert!(matches!(next, Ok(Next::AwaitOutcome)) && calling.is_ringing() && calling.devices() == 1);
        let Member { identity, device } = self.member();
        control::IncomingRing {
            ring: RING.into(),
            caller: Bytes::copy_from_slice(identity.as_bytes()),
            caller_device: Bytes::copy_from_slice(device.as_bytes()),
            payload: ring.payload,
            room,
        }
    }

    fn judge(&self, ring: control::IncomingRing, rules: &Rules, rooms: &OneRoom) -> Judged {
        let callee = self.device.identity();
        let judge = Judge { callee: &callee, relay: &RELAY, rules, rooms, unix_s: NOW };
        Came::open(ring, &self.device, NOW).judge(&judge, &mut Revoked::default())
    }

    fn is_shown(&self, ring: control::IncomingRing) -> Incoming {
        match self.judge(ring, &Rules::default(), &OneRoom::none()) {
            Judged::Shown(incoming) => incoming,
            other => panic!("shown: {other:?}"),
        }
    }
}

/// The room that somebody is in, if any.
#[derive(Default)]
struct OneRoom {
    link: Option<LinkSecret>,
    knocker: Option<Knocker>,
}

impl OneRoom {
    fn none() -> Self {
        Self::default()
    }
}

impl Rooms for OneRoom {
    fn link(&self, room: &RoomId) -> Option<LinkSecret> {
        self.link.clone().filter(|link| link.room() == *room)
    }

    fn knocker(&self, _: &RoomId, _: &Member) -> Option<Knocker> {
        self.knocker
    }
}

fn asked(next: Next) -> client_message::Body {
    match next {
        Next::Ask(request) => *request,
        other => panic!("a request: {other:?}"),
    }
}

fn joined(next: Result<Next, RingError>) -> Group {
    match next {
        Ok(Next::Join(group)) => *group,
        other => panic!("a call to join: {other:?}"),
    }
}

fn awaits(next: Result<Next, RingError>) -> DeviceKey {
    match next {
        Ok(Next::AwaitDevice(device)) => device,
        other => panic!("a device to wait for: {other:?}"),
    }
}

fn answered(next: Next) -> Bytes {
    match asked(next) {
        client_message::Body::AnswerRing(AnswerRing { ring, payload }) if ring == RING => payload,
        other => panic!("an answer: {other:?}"),
    }
}

/// Whether a ring is declined: for this device only, or for the person.
fn declined_as_busy(judged: Judged) -> (bool, NotShown) {
    match judged {
        Judged::Declined(request, why) => match *request {
            client_message::Body::DeclineRing(decline) if decline.ring == RING => (decline.busy, why),
            other => panic!("declined: {other:?}"),
        },
        other => panic!("declined: {other:?}"),
    }
}

fn outcome(result: RingResult, by: Option<&Person>, payload: Bytes) -> RingOutcome {
    let device = by.map(|by| Bytes::copy_from_slice(by.device.key().as_bytes())).unwrap_or_default();
    RingOutcome { ring: RING.into(), result: result.into(), device, payload }
}

fn open(group: &mut Group, sealed: &[u8]) -> Option<(Member, Vec<u8>)> {
    match group.process(sealed, &|_| false, NOW) {
        Ok(Processed::Message { from, bytes }) => Some((from.into(), bytes)),
        _ => None,
    }
}

#[test]
fn a_ring_leads_both_into_the_call_that_the_caller_has_opened_and_only_the_device_that_answers_stays() {
    let (alice, bob) = (Person::new(), Person::new());
    let greeting = Greeting::Invitation { name: "tea".into() };
    let (mut calling, ring, mut call) = alice.ring(&bob.pass(Grants::RING), greeting, &bob);
    let incoming = bob.is_shown(ring);
    assert_eq!(incoming.caller(), alice.member());
    assert_eq!(incoming.purpose(), Purpose::Invitation { name: "tea".into() });
    assert!(!incoming.has_link());

    let word = bob.identity.revoke(vec![DeviceKey::new([4; 32])], 1).expect("few enough");
    let (mut answering, next) = incoming.answer(Some(b"package".to_vec()), Some(word.clone())).expect("an answer");
    let payload = answered(next);
    let theirs = joined(answering.handle_done());
    assert_eq!(theirs.room(), call.room());
    assert_eq!(awaits(answering.handle_done()), alice.device.key(), "whoever is alone in it was left");
    assert!(matches!(answering.handle_done(), Ok(Next::Over)));
    assert!(matches!(answering.handle_done(), Err(RingError::Settled)));

    let settled = outcome(RingResult::Answered, Some(&bob), payload);
    let next = calling.handle_outcome(&settled, &alice.device, NOW, |sealed| open(&mut call, sealed));
    assert_eq!(awaits(next), bob.device.key());
    assert!(!calling.is_ringing() && calling.end().is_none());
    assert_eq!(calling.take_reply(), Some((bob.member(), b"package".to_vec())));
    assert_eq!(calling.take_word(), Some(word));
    assert!(matches!(calling.handle_done(), Ok(Next::KeepOnly(device)) if device == bob.device.key()));
    assert!(matches!(calling.handle_done(), Ok(Next::Over)));
    assert_eq!((calling.end(), calling.host()), (Some(End::Answered), Some(bob.device.identity())));
}

#[test]
fn what_somebody_says_of_the_devices_of_others_is_not_learned() {
    let (alice, bob, eve) = (Person::new(), Person::new(), Person::new());
    let (mut calling, ring, mut call) = alice.ring(&bob.pass(Grants::RING), Greeting::Call, &bob);
    let word = eve.identity.revoke(vec![DeviceKey::new([4; 32])], 1).expect("few enough");
    let (_, next) = bob.is_shown(ring).answer(None, Some(word)).expect("an answer");
    let settled = outcome(RingResult::Answered, Some(&bob), answered(next));
    awaits(calling.handle_outcome(&settled, &alice.device, NOW, |sealed| open(&mut call, sealed)));
    assert_eq!((calling.take_reply(), calling.take_word()), (None, None));
}

#[test]
fn a_ring_that_nobody_answers_ends_as_the_relay_says_and_is_cancelled_only_while_it_rings() {
    let (alice, bob) = (Person::new(), Person::new());
    let ends = [
        (RingResult::Declined, Ok(End::Declined)),
        (RingResult::Busy, Ok(End::Busy)),
        (RingResult::Cancelled, Ok(End::Cancelled)),
        (RingResult::Timeout, Ok(End::TimedOut)),
        (RingResult::Gone, Ok(End::Gone)),
        (RingResult::AnsweredElsewhere, Err(())),
        (RingResult::Unspecified, Err(())),
        // Without a device.
        (RingResult::Answered, Err(())),
    ];
    for (result, expected) in ends {
        let (mut calling, ..) = alice.ring(&bob.pass(Grants::RING), Greeting::Call, &bob);
        let settled = outcome(result, None, Bytes::new());
        let next = calling.handle_outcome(&settled, &alice.device, NOW, |_| None);
        assert_eq!(next.map(|_| calling.end()).map_err(drop), expected.map(Some), "{result:?}");
        assert!(!calling.is_ringing());
        let again = calling.handle_outcome(&settled, &alice.device, NOW, |_| None);
        assert!(matches!(again, Err(RingError::Settled)));
    }
    let (mut calling, ..) = alice.ring(&bob.pass(Grants::RING), Greeting::Call, &bob);
    let client_message::Body::CancelRing(cancel) = calling.cancel_request() else { panic!("a cancel") };
    assert_eq!(cancel.ring, RING);
    calling.handle_lost();
    assert!(!calling.is_ringing() && calling.end().is_none());
}

#[test]
fn a_reply_that_is_none_to_what_was_asked_ends_the_ring() {
    let (alice, bob) = (Person::new(), Person::new());
    let (mut calling, _) =
        Calling::by_pass(&alice.channel(), &bob.pass(Grants::RING), &bob.pass(Grants::RING), Greeting::Call);
    let done = || relay_message::Body::Done(control::Done::default());
    assert!(matches!(alice.handle_reply(&mut calling, done()), Err(RingError::Protocol(_))));
    joined(alice.handle_reply(&mut calling, bob.packages()));
    asked(calling.handle_done().expect("joined"));
    assert!(matches!(alice.handle_reply(&mut calling, done()), Err(RingError::Protocol(_))));
    assert!(matches!(calling.handle_done(), Err(RingError::Settled)), "the relay has not said yet that it rings");
}

//
#[test]
fn a_ring_is_shown_only_by_right_and_a_knock_only_where_somebody_has_to_look() {
    let (alice, bob) = (Person::new(), Person::new());
    let ring = |grants, greeting| alice.ring(&bob.pass(grants), greeting, &bob).1;
    let good = || ring(Grants::RING, Greeting::Call);
    let judge = |ring, rules: &Rules, rooms: &OneRoom| bob.judge(ring, rules, rooms);
    let none = OneRoom::none();
    assert!(matches!(judge(good(), &Rules::default(), &none), Judged::Shown(_)));
    let without_right = judge(ring(Grants::PRESENCE, Greeting::Call), &Rules::default(), &none);
    assert!(matches!(declined_as_busy(without_right), (true, NotShown::Right(_))));
    let rules = Rules { blocked: [alice.device.identity()].into(), ..Rules::default() };
    assert!(matches!(declined_as_busy(judge(good(), &rules, &none)), (true, NotShown::Right(_))));
    let junk = control::IncomingRing { payload: Bytes::from_static(b"junk"), ..good() };
    assert!(matches!(declined_as_busy(judge(junk, &Rules::default(), &none)), (true, _)));

    let knock = |knocker| {
        let greeting = Greeting::Knock { room: ROOM, package: b"package".to_vec() };
        judge(ring(Grants::RING, greeting), &Rules::default(), &OneRoom { link: None, knocker })
    };
    assert!(matches!(knock(Some(Knocker::Stranger)), Judged::Shown(_)));
    assert!(matches!(knock(Some(Knocker::Known)), Judged::ComesBack(_)), "and nobody is asked");
    assert!(matches!(declined_as_busy(knock(Some(Knocker::PutOut))), (false, NotShown::PutOut)));
    assert!(matches!(declined_as_busy(knock(None)), (true, NotShown::OtherRoom)), "another device may be in it");
}

/// Somebody rings at the door of a room: with its link, if `shown` is it.
fn at_door(guest: &Person, room: &LinkSecret, shown: &LinkSecret) -> (Calling, control::IncomingRing) {
    let (mut calling, next) = Calling::at_door(&guest.channel(), shown, &guest.device, None).expect("a knock");
    let ring = asked(next);
    assert!(matches!(&ring, client_message::Body::Ring(ring) if ring.ticket.is_empty() && ring.room_key.len() == 32));
    let incoming = guest.started(&mut calling, ring, Bytes::copy_from_slice(&room.room().0));
    (calling, incoming)
}

//
#[test]
fn whoever_knocks_with_the_link_meets_the_first_member_whose_turn_it_is_in_a_call_that_the_member_opens() {
    let (host, guest, link) = (Person::new(), Person::new(), LinkSecret::generate());
    let room = OneRoom { link: Some(link.clone()), knocker: Some(Knocker::Stranger) };
    let (mut calling, ring) = at_door(&guest, &link, &link);
    let Judged::Shown(incoming) = host.judge(ring, &Rules::default(), &room) else { panic!("shown") };
    assert!(incoming.has_link());
    let pause = Duration::from_millis(300);
    let (mut admitting, mut answering, next) = incoming.admit(pause, None).expect("a knock");
    assert!(matches!(next, Next::Pause(for_others) if for_others == pause));
    assert!(matches!(answering.handle_done(), Err(RingError::Settled)), "nothing is answered before that");

    let (mut calling_of_another, ring) = at_door(&guest, &link, &link);
    let Judged::Shown(incoming) = host.judge(ring, &Rules::default(), &room) else { panic!("shown") };
    let (_, mut answering, _) = incoming.admit(pause, None).expect("a knock");
    let terms = LobbyTerms { device: &host.device, link: &link, name: RoomId([3; 16]), unix_s: NOW };
    let lobby = joined(answering.open_lobby(terms));
    assert_eq!(lobby.members().len(), 2);
    let payload = answered(answering.handle_done().expect("joined"));
    assert_eq!(awaits(answering.handle_done()), guest.device.key());
    assert!(matches!(answering.handle_done(), Ok(Next::Over)));
    assert!(matches!(admitting.handle_done(), Ok(AdmissionStep::Commit(_))));

    // An answer to another knock is none, for its proof is of that one.
    let settled = outcome(RingResult::Answered, Some(&host), payload);
    let other = calling.handle_outcome(&settled, &guest.device, NOW, |_| None);
    assert!(matches!(other, Err(RingError::Protocol(_))), "{other:?}");
    let theirs = joined(calling_of_another.handle_outcome(&settled, &guest.device, NOW, |_| None));
    assert_eq!(theirs.room(), lobby.room());
    assert!(matches!(calling_of_another.handle_done(), Ok(Next::Over)));
    assert_eq!(calling_of_another.host(), Some(host.device.identity()));
    assert!(calling_of_another.end().is_some_and(|end| end.of_knock().is_ok()));
}

//
#[test]
fn whoever_knocks_without_the_link_is_at_no_door_that_opens_by_it() {
    let (host, guest, link) = (Person::new(), Person::new(), LinkSecret::generate());
    let room = OneRoom { link: Some(link.clone()), knocker: Some(Knocker::Known) };
    let (_, ring) = at_door(&guest, &link, &LinkSecret::generate());
    let judged = host.judge(ring, &Rules::default(), &room);
    assert!(matches!(declined_as_busy(judged), (true, NotShown::Knock)));
    let (_, ring) = at_door(&guest, &link, &link);
    let judged = host.judge(ring, &Rules::default(), &OneRoom::none());
    assert!(matches!(declined_as_busy(judged), (true, NotShown::Knock)), "of a room that we are not in");
}

#[test]
fn a_knock_is_heard_as_what_it_came_to() {
    assert!(matches!(End::Declined.of_knock(), Err(RingError::NotAdmitted)));
    for end in [End::Busy, End::Cancelled, End::TimedOut, End::Gone] {
        assert!(matches!(end.of_knock(), Err(RingError::NobodyAtDoor)));
    }
    let refusal = |reason| Refusal { reason, detail: String::new(), value: 0, bound: 0 };
    assert!(opens_room(&refusal(RefusalReason::Offline)), "whoever comes first opens it");
    assert!(!opens_room(&refusal(RefusalReason::Limit)));
}

/// A room that somebody is alone in.
fn room_of(host: &Person) -> (Group, Door) {
    let group = host.device.create_room(ROOM, KeyExchange::default()).expect("a room");
    (group, Door::open("tea".into(), None, None).expect("a short name"))
}

fn say(step: Result<AdmissionStep, RingError>) -> Said {
    match step {
        Ok(AdmissionStep::Say(message)) => read(&message).expect("a message"),
        other => panic!("something to say: {other:?}"),
    }
}

//
#[test]
fn a_guest_is_given_a_place_in_the_room_once_the_lobby_holds_the_two_and_takes_that_of_no_other_room() {
    let group = guest_who_asks_for(ROOM).expect("a place");
    assert_eq!((group.room(), group.members().len()), (ROOM, 2));
    let elsewhere = guest_who_asks_for(RoomId([8; 16]));
    assert!(matches!(elsewhere, Err(RingError::Protocol(_))), "{elsewhere:?}");
}

/// Somebody is let into a room from both sides, and takes the place if it is in the room that they asked for.
fn guest_who_asks_for(asked_for: RoomId) -> Result<Group, RingError> {
    let (host, person) = (Person::new(), Person::new());
    let (mut group, door) = room_of(&host);
    let package = person.device.key_package().expect("a package");
    let mut admitting = Admitting::new(person.member(), package);
    let entry = |member| RosterEntry { member, is_here: true, is_us: false };
    let lobby = [entry(host.member()), entry(person.member()), entry(person.member())];
    assert!(!Admitting::is_quiet(&lobby) && Admitting::is_quiet(&lobby[..2]));

    let Ok(AdmissionStep::Commit(place)) = admitting.handle_done() else { panic!("a place to make") };
    assert!(matches!(admitting.handle_done(), Err(RingError::Settled)), "the place is not made yet");
    let change = place.propose(&mut group, NOW).expect("it does");
    group.merge_own().expect("accepted");
    let admit = |welcome| Some(door.admission(welcome, &[], &Default::default(), NOW));
    let said = say(admitting.handle_place(change, admit));
    let step = admitting.handle_done().expect("said");
    assert_eq!(step, AdmissionStep::AwaitGuest(person.member()));

    let mut guest = Guest::at_door(host.device.identity(), asked_for);
    let admission = guest.hear(&host.member(), &said).expect("all of it").expect("an admission");
    let place = guest.take_place(&person.device, &admission, NOW);
    assert_eq!(admitting.handle_done().expect("they are in, or not"), AdmissionStep::Leave);
    assert!(matches!(admitting.handle_done(), Err(RingError::Settled)));
    place
}

//
#[test]
fn a_guest_who_cannot_be_let_in_is_told_why_as_far_as_it_is_anything_of_theirs_and_the_lobby_ends() {
    let denied = |why: Option<&supernode_e2ee::Error>| {
        let mut admitting = Admitting::new(Person::new().member(), b"junk".to_vec());
        let Ok(AdmissionStep::Commit(_)) = admitting.handle_done() else { panic!("a place to make") };
        let Said::Denied(denied) = say(Ok(admitting.handle_failed(why))) else { panic!("a denial") };
        // Whether it is heard or not.
        assert_eq!(admitting.handle_failed(None), AdmissionStep::Leave);
        denied.why()
    };
    assert_eq!(denied(None), Why::Unsaid);
    let (host, other) = (Person::new(), Person::new());
    let (mut group, _) = room_of(&host);
    let junk = GuestPlace::propose(&place_of(&other), &mut group, NOW).expect_err("no package");
    assert_eq!(denied(Some(&junk)), Why::Unsaid);
    assert_eq!(denied(Some(&supernode_e2ee::Error::Full { exchange: KeyExchange::default(), bound: 40 })), Why::Full);

    let mut admitting = Admitting::new(other.member(), Vec::new());
    admitting.handle_done().expect("the lobby is quiet");
    let nobody = admitting.handle_place(None, |_: Vec<u8>| -> Option<Admission> { panic!("nobody was added") });
    assert!(matches!(nobody, Err(RingError::Protocol(_))));
    say(Ok(admitting.handle_failed(None)));
    assert_eq!(admitting.handle_done().expect("said"), AdmissionStep::Leave);
}

fn place_of(person: &Person) -> GuestPlace {
    let mut admitting = Admitting::new(person.member(), b"junk".to_vec());
    match admitting.handle_done() {
        Ok(AdmissionStep::Commit(place)) => place,
        other => panic!("a place to make: {other:?}"),
    }
}
