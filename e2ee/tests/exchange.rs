//! By what a group agrees on its keys: X-Wing where all can, and never less by somebody else's doing.
#![allow(missing_docs, reason = "tests")]

mod people;

use people::{NOW, Person, ROOM, anybody, nobody};
use proptest::test_runner::{Config, TestRunner};
use supernode_e2ee::{Device, Error, Group, KeyExchange, MediaOpener, MediaSealer, TrackId, X_WING_MEMBERS_MAX};
use supernode_proto::{
    identity::IdentityKey,
    limits,
    mls::{read_vector, write_vector},
    object::{Flags, Layer, Visible},
};

fn offers(devices: &[&Device]) -> Vec<(IdentityKey, Vec<u8>)> {
    devices.iter().map(|device| (device.identity(), device.key_package().expect("an offer"))).collect()
}

/// A call as `agree` would have it, as the caller and one of the others sees it.
fn call(caller: &Device, others: &[&Device]) -> (Group, Group) {
    let offers = offers(others);
    let exchange = caller.agree(&offers).expect("something");
    let mut group = caller.create_group(ROOM, exchange).expect("a group");
    let welcome = group.propose_add(&offers, NOW).expect("adds").welcome.expect("for them");
    group.merge_own().expect("accepted");
    let expected: Vec<IdentityKey> = others.iter().map(|device| device.identity()).collect();
    let joined = others[0].join(&welcome, &caller.identity(), &expected, NOW).expect("joins");
    (group, joined)
}

//
#[test]
fn a_call_of_devices_that_can_all_use_x_wing_does_and_its_media_opens() {
    let (a, b) = (Person::new().device(), Person::new().device());
    let (mut at_a, mut at_b) = call(&a, &[&b]);
    assert_eq!((at_a.keys().to_string(), at_b.keys()), ("X-Wing".to_owned(), at_a.keys()));
    for _ in 0..3 {
        let change = at_b.propose_update().expect("fresh keys");
        at_b.merge_own().expect("accepted");
        at_a.process(&change.commit, &nobody, NOW).expect("follows");
        std::mem::swap(&mut at_a, &mut at_b);
    }
    assert_eq!(at_a.safety_number().expect("in"), at_b.safety_number().expect("in"));
    let sealer = MediaSealer::new(&at_a.epoch_keys().expect("in")).expect("a sealer");
    let opener = MediaOpener::new(&at_b.epoch_keys().expect("in")).expect("an opener");
    let visible = Visible { group: 1, object: 2, flags: Flags::default(), layer: Layer::default() };
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    sealer.seal(&TrackId([1; 8]), &visible, b"hello", &mut sealed).expect("seals");
    let sender = at_a.members().into_iter().find(|member| member.leaf == at_a.own_leaf()).expect("us").device;
    opener.open(&sender, &TrackId([1; 8]), &visible, &sealed, &mut opened).expect("opens");
    assert_eq!(opened, b"hello");
}

//
#[test]
fn one_device_that_cannot_makes_it_x25519_for_all_and_that_is_said() {
    let (a, b, old) = (Person::new().device(), Person::new().device(), Person::new().device().without_x_wing());
    let (at_a, at_b) = call(&a, &[&b, &old]);
    assert_eq!(at_a.keys().to_string(), "X25519 only, because 1 of 3 devices can no X-Wing");
    assert_eq!(at_b.keys(), at_a.keys());
    let (at_old, _) = call(&old, &[&a]);
    assert_eq!(at_old.keys().exchange, KeyExchange::X25519, "whoever cannot does not ask for it");
}

//
#[test]
fn a_package_that_somebody_keeps_back_is_seen() {
    let (a, b) = (Person::new().device(), Person::new().device());
    let offer = b.key_package().expect("an offer");
    let (x_wing, rest) = read_vector(&offer).expect("the better one");
    let without = [(b.identity(), rest.to_vec())];
    assert!(matches!(a.agree(&without), Err(Error::Withheld(KeyExchange::XWing))));
    // One that cannot be read, in its place, is none.
    let mut harmed = Vec::new();
    write_vector(&x_wing[..x_wing.len() - 1], &mut harmed);
    let harmed = [(b.identity(), [&harmed[..], rest].concat())];
    assert!(matches!(a.agree(&harmed), Err(Error::Withheld(KeyExchange::XWing))));
    // Whoever cannot has said so, signed.
    let old = Person::new().device().without_x_wing();
    assert_eq!(a.agree(&offers(&[&old])).expect("agrees"), KeyExchange::X25519);
}

//
#[test]
fn whoever_offers_nothing_for_a_room_s_key_exchange_is_refused_with_words() {
    let (a, old) = (Person::new().device(), Person::new().device().without_x_wing());
    let mut room = a.create_room(ROOM, KeyExchange::XWing).expect("a room");
    let refused = room.propose_add(&offers(&[&old]), NOW).expect_err("they cannot");
    assert!(matches!(refused, Error::NotOffered(KeyExchange::XWing)));
    assert!(refused.to_string().contains("X-Wing"), "{refused}");
    assert_eq!(room.members().len(), 1);
    let mut room = old.create_room(ROOM, KeyExchange::XWing).expect("a room");
    assert_eq!(room.keys().to_string(), "X25519 only, because 1 of 1 devices can no X-Wing");
    room.propose_add(&offers(&[&a]), NOW).expect("whoever can do more can do this");
}

//
#[test]
fn the_largest_x_wing_group_has_commits_that_fit_a_message() {
    let devices: Vec<Device> = (0..X_WING_MEMBERS_MAX).map(|_| Person::new().device()).collect();
    let mut room = devices[0].create_room(ROOM, KeyExchange::XWing).expect("a room");
    // The worst tree: nobody but the host has ever made a commit.
    let others: Vec<&Device> = devices[1..].iter().collect();
    let welcome = room.propose_add(&offers(&others), NOW).expect("adds").welcome.expect("for them");
    room.merge_own().expect("accepted");
    let more = Person::new().device();
    assert!(matches!(room.propose_add(&offers(&[&more]), NOW), Err(Error::Full { bound: X_WING_MEMBERS_MAX, .. })));
    let mut last = devices[X_WING_MEMBERS_MAX - 1].join_room(&welcome, &devices[0].identity(), NOW).expect("joins");
    let update = last.propose_update().expect("fresh keys");
    last.discard_own().expect("given up");
    // A device comes back in its own place while it takes a path.
    let replaced = room.propose_replace(&[1], &offers(&[&devices[1]]), NOW).expect("replaces");
    for commit in [&update.commit, &replaced.commit] {
        assert!(commit.len() <= limits::MLS_PAYLOAD_BYTES_MAX, "{} bytes", commit.len());
    }
    assert!(update.commit.len() > limits::MLS_PAYLOAD_BYTES_MAX * 3 / 4, "the bound is not far too low");
    last.process(&replaced.commit, &anybody, NOW).expect("follows");
    for offer in offers(&[&more]) {
        assert!(offer.1.len() <= limits::KEY_PACKAGE_BYTES_MAX, "{} bytes", offer.1.len());
    }
}

//
#[test]
fn a_ring_for_all_devices_that_a_person_may_have_fits() {
    const DEVICES_MAX: usize = 16;
    let caller = Person::new().device();
    let callee = Person::new();
    let devices: Vec<Device> = (0..DEVICES_MAX).map(|_| callee.device()).collect();
    let mut group = caller.create_group(ROOM, KeyExchange::XWing).expect("a group");
    let welcome = group.propose_add(&offers(&devices.iter().collect::<Vec<_>>()), NOW).expect("adds").welcome;
    group.merge_own().expect("accepted");
    let greeting = group.seal_message(&[0; 4096]).expect("sealed");
    let (bytes, bound) = (welcome.expect("for them").len() + greeting.len() + 16, limits::RING_PAYLOAD_BYTES_MAX);
    assert!(bytes <= bound, "{bytes} bytes of {bound}");
}

#[test]
fn harmed_commits_and_welcomes_of_x_wing_are_refused() {
    let (a, b, c) = (Person::new().device(), Person::new().device(), Person::new().device());
    let (mut at_a, mut at_b) = call(&a, &[&b]);
    let change = at_a.propose_update().expect("fresh keys");
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let at_b = std::cell::RefCell::new(&mut at_b);
    let harm = (proptest::prelude::any::<proptest::sample::Index>(), 1..=255u8);
    runner
        .run(&harm, |(at, by)| {
            let mut commit = change.commit.clone();
            let at = at.index(commit.len());
            commit[at] ^= by;
            let before = at_b.borrow().epoch();
            let _ = at_b.borrow_mut().process(&commit, &nobody, NOW);
            proptest::prop_assert_eq!(at_b.borrow().epoch(), before);
            let mut room = a.create_room(ROOM, KeyExchange::XWing).expect("a room");
            let added = room.propose_add(&offers(&[&c]), NOW).expect("adds");
            let mut welcome = added.welcome.expect("for c");
            let at = at % welcome.len();
            welcome[at] ^= by;
            c.join_room(&welcome, &a.identity(), NOW).expect_err("harmed");
            Ok(())
        })
        .expect("none passes");
    at_b.borrow_mut().process(&change.commit, &nobody, NOW).expect("the true one");
}

/// The first test vector of draft-connolly-cfrg-xwing-kem-06, appendix C: that what we build on is X-Wing. The bytes of its
/// keys and ciphertext are in the vector's file.
#[test]
fn the_library_s_x_wing_is_that_of_the_draft() {
    use x_wing::{Decapsulate as _, Decapsulator as _, KeyExport as _};
    const VECTOR: &str = include_str!("vectors/x_wing_draft_06.txt");
    let field = |name: &str| {
        let line = VECTOR.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).expect("there");
        let pairs = (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("hex"));
        pairs.collect::<Vec<u8>>()
    };
    let seed: [u8; 32] = field("seed").try_into().expect("32 bytes");
    let key = x_wing::DecapsulationKey::from(seed);
    let public = key.encapsulation_key().to_bytes();
    assert_eq!(public.as_slice(), field("pk"));
    let ciphertext = x_wing::Ciphertext::try_from(field("ct").as_slice()).expect("a ciphertext");
    assert_eq!(key.decapsulate(&ciphertext).as_slice(), field("ss"));
}
