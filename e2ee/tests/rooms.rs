//! Groups of many, and how they change.
#![allow(missing_docs, reason = "tests")]

mod people;

use people::{NOW, Person, ROOM, nobody, two, update};
use supernode_e2ee::{
    Device, Error, Group, KeyExchange, MESSAGE_BYTES_MAX, MediaOpener, MediaSealer, Processed, TrackId,
    WELCOME_BYTES_MAX,
};
use supernode_proto::{
    identity::IdentityKey,
    limits,
    mls::Envelope,
    object::{Flags, Layer, Visible},
};

/// The largest room that a relay allows; fewer where nothing is optimised.
const MEMBERS: usize = if cfg!(debug_assertions) { 60 } else { 250 };

fn package(device: &Device) -> (IdentityKey, Vec<u8>) {
    (device.identity(), device.key_package().expect("a package"))
}

/// Adds a device and has `others` follow; returns its group.
fn let_in(device: &Device, by: &mut Group, host: &IdentityKey, others: &mut [Group]) -> Group {
    let change = by.propose_add(&[package(device)], NOW).expect("they are who they are");
    assert!(change.commit.len() <= limits::MLS_PAYLOAD_BYTES_MAX);
    by.merge_own().expect("accepted");
    for other in others {
        other.process(&change.commit, &|_| true, NOW).expect("follows");
    }
    let welcome = change.welcome.expect("for the device");
    assert!(welcome.len() <= WELCOME_BYTES_MAX, "{} bytes", welcome.len());
    device.join_room(&welcome, host, NOW).expect("joins")
}

fn assert_agree(groups: &[Group]) {
    let view = |group: &Group| (group.epoch(), group.members(), group.safety_number().expect("a member"));
    for group in groups {
        assert!(view(group) == view(&groups[0]), "two members see different groups");
    }
}

#[test]
fn a_room_grows_to_its_largest_size_and_people_leave_it_and_everybody_follows() {
    let host = Person::new();
    let hosting = host.device();
    let mut at_host = hosting.create_group(ROOM, KeyExchange::X25519).expect("a group");
    // Everybody is in the group; a few of them are watched.
    let mut watched = Vec::new();
    for number in 1..MEMBERS {
        let device = Person::new().device();
        let group = let_in(&device, &mut at_host, &host.key(), &mut watched);
        if [1, 2, MEMBERS / 2, MEMBERS - 1].contains(&number) {
            watched.push(group);
        }
    }
    assert_eq!(at_host.members().len(), MEMBERS);
    // The longest commit there is: nobody has refreshed their keys yet, so the new ones go to each member alone.
    let refresh = watched[1].propose_update().expect("fresh keys");
    assert!(refresh.commit.len() <= limits::MLS_PAYLOAD_BYTES_MAX, "{} bytes", refresh.commit.len());
    watched[1].merge_own().expect("accepted");
    for group in watched.iter_mut().enumerate().filter(|(index, _)| *index != 1).map(|(_, group)| group) {
        group.process(&refresh.commit, &nobody, NOW).expect("follows");
    }
    at_host.process(&refresh.commit, &nobody, NOW).expect("follows");

    let gone = watched.remove(0).own_leaf();
    let removal = at_host.propose_remove(&[gone]).expect("removes");
    assert!(removal.commit.len() <= limits::MLS_PAYLOAD_BYTES_MAX, "{} bytes", removal.commit.len());
    at_host.merge_own().expect("accepted");
    for group in &mut watched {
        group.process(&removal.commit, &nobody, NOW).expect("follows");
    }
    watched.push(at_host);
    assert_agree(&watched);
    assert_eq!(watched[0].members().len(), MEMBERS - 1);
}

#[test]
fn a_welcome_to_a_room_comes_from_its_host_whoever_else_is_in_it() {
    let (host, stranger) = (Person::new(), Person::new());
    let mut at_host = host.device().create_group(ROOM, KeyExchange::X25519).expect("a group");
    let first = Person::new().device();
    let_in(&first, &mut at_host, &host.key(), &mut []);
    let second = Person::new().device();
    let change = at_host.propose_add(&[package(&second)], NOW).expect("adds");
    let welcome = change.welcome.expect("for the second");
    assert!(matches!(second.join_room(&welcome, &stranger.key(), NOW), Err(Error::NotFromCaller)));
}

#[test]
fn a_device_that_lost_its_state_takes_its_own_place_in_one_commit() {
    let host = Person::new();
    let mut at_host = host.device().create_group(ROOM, KeyExchange::X25519).expect("a group");
    let (first, second) = (Person::new().device(), Person::new().device());
    let lost = let_in(&first, &mut at_host, &host.key(), &mut []);
    let at_second = let_in(&second, &mut at_host, &host.key(), &mut []);
    let change = at_host.propose_replace(&[lost.own_leaf()], &[package(&first)], NOW).expect("replaces");
    at_host.merge_own().expect("accepted");
    let mut groups = vec![at_host, at_second];
    let processed = groups[1].process(&change.commit, &|identity| *identity == first.identity(), NOW).expect("follows");
    assert!(matches!(processed, Processed::EpochChanged { .. }));
    groups.push(first.join_room(&change.welcome.expect("for it"), &host.key(), NOW).expect("joins"));
    assert_agree(&groups);
    assert_eq!(groups[0].members().iter().filter(|member| member.device == first.key()).count(), 1);
}

#[test]
fn several_devices_of_one_person_are_members_of_their_own() {
    let (host, guest) = (Person::new(), Person::new());
    let mut at_host = host.device().create_group(ROOM, KeyExchange::X25519).expect("a group");
    let (phone, laptop) = (guest.device(), guest.device());
    let on_phone = let_in(&phone, &mut at_host, &host.key(), &mut []);
    let mut groups = vec![on_phone];
    let on_laptop = let_in(&laptop, &mut at_host, &host.key(), &mut groups);
    let leaves: Vec<u32> = at_host.members().iter().filter(|m| m.identity == guest.key()).map(|m| m.leaf).collect();
    assert_eq!(leaves.len(), 2);
    groups.extend([on_laptop, at_host]);
    assert_agree(&groups);
    // Whoever is removed goes with all their devices, in one commit.
    let change = groups[2].propose_remove(&leaves).expect("removes both");
    for group in &mut groups[..2] {
        let processed = group.process(&change.commit, &nobody, NOW).expect("hears of it");
        assert!(matches!(processed, Processed::RemovedOurselves { .. }));
    }
}

#[test]
fn the_join_key_of_a_change_is_that_of_the_epoch_it_begins() {
    let (_, [mut group_a, mut group_b]) = two();
    let change = group_a.propose_update().expect("proposes");
    assert!(change.join_key != group_a.join_secret().expect("a member").public(), "not this epoch's");
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &nobody, NOW).expect("follows");
    for group in [&group_a, &group_b] {
        assert!(group.join_secret().expect("a member").public() == change.join_key);
    }
}

#[test]
fn a_message_opens_for_the_members_of_its_epoch_and_names_who_sealed_it() {
    let (_, [mut group_a, mut group_b]) = two();
    let message = group_b.seal_message(b"here I am").expect("sealed");
    let read = group_a.process(&message, &nobody, NOW).expect("reads");
    assert_eq!(read, Processed::Message { from: group_a.members()[1], bytes: b"here I am".to_vec() });
    group_a.process(&message, &nobody, NOW).expect_err("not a second time");

    let late = group_b.seal_message(b"too late").expect("sealed");
    update(&mut group_a, &mut [&mut group_b]);
    assert_eq!(group_a.process(&late, &nobody, NOW).expect("over"), Processed::Ignored);

    let largest = group_a.seal_message(&vec![1; MESSAGE_BYTES_MAX]).expect("sealed");
    assert!(largest.len() <= limits::MLS_PAYLOAD_BYTES_MAX);
    let refused = group_a.seal_message(&vec![1; MESSAGE_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(Error::TooLarge { bound: MESSAGE_BYTES_MAX, .. })));
}

#[test]
fn a_message_can_be_sealed_while_a_commit_of_our_own_waits() {
    let (_, [mut group_a, mut group_b]) = two();
    let change = group_a.propose_update().expect("proposes");
    let message = group_a.seal_message(b"meanwhile").expect("sealed");
    assert!(matches!(group_b.process(&message, &nobody, NOW), Ok(Processed::Message { .. })));
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &nobody, NOW).expect("follows");
}

//
#[test]
fn what_our_messages_show_is_what_they_are() {
    let (_, [mut a, mut b]) = two();
    let change = a.propose_update().expect("fresh keys");
    let shown = Envelope { room: ROOM, epoch: a.epoch(), commit: true };
    assert_eq!(Envelope::read(&change.commit), Ok(shown));
    let message = b.seal_message(&[7; 20_000]).expect("seals");
    assert_eq!(Envelope::read(&message), Ok(Envelope { commit: false, ..shown }));
}

//
#[test]
fn a_commit_that_does_not_count_is_gone_back_from_and_the_next_one_is_followed() {
    let (_, [mut a, mut b]) = two();
    let before = a.safety_number().expect("a member");
    let change = a.propose_update().expect("fresh keys");
    a.merge_own().expect("accepted");
    b.process(&change.commit, &nobody, NOW).expect("follows");
    for group in [&mut a, &mut b] {
        assert!(group.can_go_back());
        assert_eq!(group.go_back().expect("one epoch back"), []);
        assert_eq!(group.safety_number().expect("a member"), before);
        assert!(matches!(group.go_back(), Err(Error::NoEpochBefore)), "no further");
    }
    let message = b.seal_message(b"still here").expect("seals");
    let Processed::Message { bytes, .. } = a.process(&message, &nobody, NOW).expect("opens") else {
        panic!("a message")
    };
    assert_eq!(bytes, b"still here");
    update(&mut a, &mut [&mut b]);
    update(&mut b, &mut [&mut a]);
    assert_eq!(a.safety_number().expect("a member"), b.safety_number().expect("a member"));
    a.forget_previous();
    assert!(matches!(a.go_back(), Err(Error::NoEpochBefore)));
}

//
#[test]
fn keys_that_are_gone_back_to_are_used_on_from_where_they_were() {
    let (devices, [mut a, mut b]) = two();
    let mut sealer = MediaSealer::new(&a.epoch_keys().expect("keys")).expect("a sealer");
    let mut opener = MediaOpener::new(&b.epoch_keys().expect("keys")).expect("an opener");
    let track = TrackId([2; 8]);
    let visible = |group| Visible { group, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    let seal = |sealer: &mut MediaSealer, group| {
        let mut sealed = Vec::new();
        sealer.seal(&track, &visible(group), b"hello", &mut sealed).expect("seals");
        sealed
    };
    let open = |opener: &mut MediaOpener, group, sealed: &[u8]| {
        opener.open(&devices[0].key(), &track, &visible(group), sealed, &mut Vec::new())
    };
    let first = seal(&mut sealer, 0);
    open(&mut opener, 0, &first).expect("opens");
    let change = b.propose_update().expect("fresh keys");
    b.merge_own().expect("accepted");
    a.process(&change.commit, &nobody, NOW).expect("follows");
    sealer.install(&a.epoch_keys().expect("keys")).expect("the next epoch");
    opener.install(&b.epoch_keys().expect("keys")).expect("the next epoch");
    let void = seal(&mut sealer, 1);
    a.go_back().expect("one epoch back");
    b.go_back().expect("one epoch back");
    sealer.restart(&a.epoch_keys().expect("keys")).expect("the epoch before");
    opener.restart(&b.epoch_keys().expect("keys")).expect("the epoch before");
    assert!(matches!(open(&mut opener, 0, &first), Err(Error::Replayed)), "it was opened before");
    assert!(matches!(open(&mut opener, 1, &void), Err(Error::UnknownKey)), "that epoch does not count");
    let next = seal(&mut sealer, 1);
    assert_ne!(next[..3], first[..3], "no counter comes twice");
    open(&mut opener, 1, &next).expect("opens");
}

//
#[test]
fn another_group_s_keys_are_taken_into_use_whatever_the_numbers_of_their_epochs() {
    let (_, [mut old, _]) = two();
    for _ in 0..3 {
        update(&mut old, &mut []);
    }
    let (_, [new, _]) = two();
    let keys = new.epoch_keys().expect("keys");
    let sealer = MediaSealer::new(&old.epoch_keys().expect("keys")).expect("a sealer");
    let opener = MediaOpener::new(&old.epoch_keys().expect("keys")).expect("an opener");
    assert!(matches!(sealer.install(&keys), Err(Error::EpochOrder { .. })));
    assert!(matches!(opener.install(&keys), Err(Error::EpochOrder { .. })));
    sealer.restart(&keys).expect("a new beginning");
    opener.restart(&keys).expect("a new beginning");
}
