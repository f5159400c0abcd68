//! Who is in a group, and how it changes, with honest members.
#![allow(missing_docs, reason = "tests")]

mod people;

use people::{LATER, NOW, Person, ROOM, anybody, call, nobody, two, update};
use supernode_e2ee::{Change, Device, Error, Group, KeyExchange, MediaOpener, MediaSealer, Processed};
use supernode_proto::identity::RoomId;

fn assert_agree(groups: &[&Group]) {
    let view = |group: &Group| {
        let join = group.join_secret().expect("a member").public();
        (group.room(), group.epoch(), group.members(), join, group.safety_number().expect("a member"))
    };
    for group in groups {
        assert!(view(group) == view(groups[0]), "two members see different groups");
    }
}

/// Compiles for what any thread can use.
const fn any_thread<T: Send + Sync>() {}

#[test]
fn any_thread_can_hold_a_call() {
    any_thread::<Device>();
    any_thread::<Group>();
    any_thread::<MediaSealer>();
    any_thread::<MediaOpener>();
    any_thread::<Error>();
}

#[test]
fn caller_and_callee_agree_on_everything_from_the_welcome_on() {
    let ([a, b], [group_a, group_b]) = two();
    assert_agree(&[&group_a, &group_b]);
    assert_eq!((group_b.room(), group_b.epoch()), (ROOM, 1));
    assert_eq!((group_a.own_leaf(), group_b.own_leaf()), (0, 1));
    let members: Vec<_> = group_b.members().iter().map(|member| (member.identity, member.device)).collect();
    assert!(members == [(a.identity(), a.key()), (b.identity(), b.key())]);
}

//
#[test]
fn a_join_secret_is_good_for_one_epoch_of_one_room() {
    let (_, [mut group, mut other]) = two();
    let before = group.join_secret().expect("a member").public();
    update(&mut group, &mut [&mut other]);
    assert!(group.join_secret().expect("a member").public() != before);
}

#[test]
fn everybody_follows_an_update_an_addition_and_a_removal() {
    let ([_, _], [mut group_a, mut group_b]) = two();
    update(&mut group_b, &mut [&mut group_a]);
    assert_agree(&[&group_a, &group_b]);

    let c = Person::new().device();
    let change = group_b.propose_add(&[(c.identity(), c.key_package().expect("a package"))], NOW).expect("adds");
    assert_eq!(change.epoch, 2);
    group_b.merge_own().expect("accepted");
    let processed = group_a.process(&change.commit, &|identity| *identity == c.identity(), NOW).expect("follows");
    let Processed::EpochChanged { added, removed, .. } = processed else { panic!("a commit changes the epoch") };
    assert!(added.len() == 1 && added[0].identity == c.identity() && added[0].device == c.key() && removed.is_empty());
    let expected = [group_a.members()[0].identity, group_a.members()[1].identity];
    let mut group_c = c.join(&change.welcome.expect("for c"), &expected[1], &expected, NOW).expect("joins");
    assert_agree(&[&group_a, &group_b, &group_c]);

    let leaf_of_b = group_b.own_leaf();
    let change = group_a.propose_remove(&[leaf_of_b]).expect("removes");
    assert!(change.welcome.is_none());
    group_a.merge_own().expect("accepted");
    let processed = group_c.process(&change.commit, &nobody, NOW).expect("follows");
    let Processed::EpochChanged { added, removed, .. } = processed else { panic!("a commit changes the epoch") };
    assert!(added.is_empty() && removed.len() == 1 && removed[0].leaf == leaf_of_b);
    assert_agree(&[&group_a, &group_c]);
    let processed = group_b.process(&change.commit, &nobody, NOW).expect("b learns of it");
    assert!(matches!(processed, Processed::RemovedOurselves { .. }));
}

#[test]
fn whoever_was_removed_has_nothing_left_to_use() {
    let (_, [mut group_a, mut group_b]) = two();
    let change = group_a.propose_remove(&[group_b.own_leaf()]).expect("removes");
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &nobody, NOW).expect("b learns of it");
    assert!(matches!(group_b.join_secret(), Err(Error::Removed)));
    assert!(matches!(group_b.epoch_keys(), Err(Error::Removed)));
    assert!(matches!(group_b.safety_number(), Err(Error::Removed)));
    assert!(matches!(group_b.propose_update(), Err(Error::Removed)));
    assert!(matches!(group_b.merge_own(), Err(Error::Removed)));
    assert!(matches!(group_b.process(&change.commit, &nobody, NOW), Err(Error::Removed)));
}

//
#[test]
fn of_two_commits_in_an_epoch_one_wins_and_the_other_is_dropped() {
    let (_, [mut group_a, mut group_b]) = two();
    let winner = group_a.propose_update().expect("proposes");
    group_b.propose_update().expect("proposes in the same epoch");
    group_a.merge_own().expect("accepted");
    group_b.discard_own().expect("lost");
    group_b.process(&winner.commit, &nobody, NOW).expect("follows the winner");
    assert_agree(&[&group_a, &group_b]);
    update(&mut group_b, &mut [&mut group_a]);
    assert_agree(&[&group_a, &group_b]);
}

//
#[test]
fn following_the_winner_drops_our_own_commit_even_unasked() {
    let (_, [mut group_a, mut group_b]) = two();
    let winner = group_a.propose_update().expect("proposes");
    group_b.propose_update().expect("proposes in the same epoch");
    group_a.merge_own().expect("accepted");
    group_b.process(&winner.commit, &nobody, NOW).expect("follows the winner");
    assert!(matches!(group_b.merge_own(), Err(Error::NoCommitPending)));
    group_b.discard_own().expect("nothing to drop is no error");
    assert_agree(&[&group_a, &group_b]);
}

#[test]
fn one_commit_at_a_time() {
    let (_, [mut group, _]) = two();
    assert!(matches!(group.merge_own(), Err(Error::NoCommitPending)));
    group.propose_update().expect("the first");
    assert!(matches!(group.propose_update(), Err(Error::CommitPending)));
    assert!(matches!(group.propose_remove(&[1]), Err(Error::CommitPending)));
    assert!(matches!(group.propose_add(&[], NOW), Err(Error::CommitPending)));
    group.discard_own().expect("drops it");
    group.propose_update().expect("another");
}

#[test]
fn only_another_member_can_be_removed() {
    let (_, [mut group, _]) = two();
    for leaf in [0, 2, u32::MAX] {
        assert!(matches!(group.propose_remove(&[1, leaf]), Err(Error::NoSuchMember(refused)) if refused == leaf));
    }
    group.propose_remove(&[1]).expect("nothing is pending");
}

#[test]
fn asking_for_nothing_is_refused_and_changes_nothing() {
    let (_, [mut group_a, mut group_b]) = two();
    assert!(matches!(group_a.propose_add(&[], NOW), Err(Error::Mls { .. })));
    assert!(matches!(group_a.propose_remove(&[]), Err(Error::Mls { .. })));
    assert_eq!(group_a.epoch(), 1);
    update(&mut group_a, &mut [&mut group_b]);
    assert_agree(&[&group_a, &group_b]);
}

#[test]
fn asking_twice_counts_once() {
    let ([a, b], [mut group_a, mut group_b]) = two();
    let c = Person::new().device();
    let package = (c.identity(), c.key_package().expect("a package"));
    let change = group_a.propose_add(&[package.clone(), package], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &anybody, NOW).expect("follows");
    let mut group_c = c.join(&change.welcome.expect("for c"), &a.identity(), &[b.identity()], NOW).expect("joins");
    assert_agree(&[&group_a, &group_b, &group_c]);
    assert_eq!(group_a.members().len(), 3);

    let again = (c.identity(), c.key_package().expect("another package"));
    assert!(matches!(group_a.propose_add(&[again], NOW), Err(Error::Mls { .. })));
    let change = group_a.propose_remove(&[1, 1]).expect("removes");
    group_a.merge_own().expect("accepted");
    group_c.process(&change.commit, &nobody, NOW).expect("follows");
    assert_agree(&[&group_a, &group_c]);
}

#[test]
fn our_own_message_and_a_past_epochs_are_ignored_and_a_later_ones_is_too_early() {
    let (_, [mut group_a, mut group_b]) = two();
    let first = group_a.propose_update().expect("proposes");
    assert_eq!(group_a.process(&first.commit, &nobody, NOW).expect("our own"), Processed::Own);
    group_a.merge_own().expect("accepted");
    let second = group_a.propose_update().expect("proposes");
    group_a.merge_own().expect("accepted");
    let early = group_b.process(&second.commit, &nobody, NOW);
    assert!(matches!(early, Err(Error::FutureEpoch { message: 2, group: 1 })));
    group_b.process(&first.commit, &nobody, NOW).expect("in order");
    group_b.process(&second.commit, &nobody, NOW).expect("in order");
    assert_eq!(group_b.process(&first.commit, &nobody, NOW).expect("over"), Processed::Ignored);
    assert_agree(&[&group_a, &group_b]);
}

//
#[test]
fn a_message_of_another_room_is_refused() {
    let ([a, _], [_, mut group_b]) = two();
    let mut other = a.create_group(RoomId([8; 16]), KeyExchange::X25519).expect("a group");
    let change = other.propose_update().expect("proposes");
    assert!(matches!(group_b.process(&change.commit, &anybody, NOW), Err(Error::WrongRoom)));
}

#[test]
fn all_devices_of_a_callee_are_rung_and_the_one_that_answers_stays() {
    let (caller, callee) = (Person::new(), Person::new());
    let (a, phone, laptop) = (caller.device(), callee.device(), callee.device());
    let [mut group_a, mut on_phone, mut on_laptop]: [Group; 3] =
        call(&a, &[&phone, &laptop]).try_into().expect("three");
    assert_agree(&[&group_a, &on_phone, &on_laptop]);
    let change = group_a.propose_remove(&[on_laptop.own_leaf()]).expect("the phone answered");
    group_a.merge_own().expect("accepted");
    on_phone.process(&change.commit, &nobody, NOW).expect("follows");
    let processed = on_laptop.process(&change.commit, &nobody, NOW).expect("stops");
    assert!(matches!(processed, Processed::RemovedOurselves { .. }));
    assert_agree(&[&group_a, &on_phone]);
}

#[test]
fn a_callers_other_devices_are_expected_too() {
    let (caller, callee) = (Person::new(), Person::new());
    let (a, tablet, b) = (caller.device(), caller.device(), callee.device());
    let mut group = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let packages = [&tablet, &b].map(|device| (device.identity(), device.key_package().expect("a package")));
    let welcome = group.propose_add(&packages, NOW).expect("adds").welcome.expect("for both");
    group.merge_own().expect("accepted");
    let on_tablet = tablet.join(&welcome, &caller.key(), &[callee.key()], NOW).expect("joins");
    let with_b = b.join(&welcome, &caller.key(), &[], NOW).expect("joins");
    assert_agree(&[&group, &on_tablet, &with_b]);
}

#[test]
fn a_delegation_is_judged_when_its_device_comes_in_and_not_again_while_the_call_lasts() {
    let ([a, _], [mut group_a, mut group_b]) = two();
    assert!(a.delegation().verify(LATER + 1).is_err());
    let change = group_a.propose_update().expect("proposes");
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &nobody, LATER + 1).expect("follows");
    assert_agree(&[&group_a, &group_b]);
}

//
#[test]
fn all_commits_but_those_that_only_add_bring_fresh_keys() {
    let (_, [mut group_a, mut group_b]) = two();
    let c = Person::new().device();
    let package = (c.identity(), c.key_package().expect("a package"));
    let mut renews = |make: &dyn Fn(&mut Group) -> Change| {
        let change = make(&mut group_a);
        group_a.merge_own().expect("accepted");
        let processed = group_b.process(&change.commit, &anybody, NOW).expect("follows");
        let Processed::EpochChanged { renewed, .. } = processed else { panic!("a commit changes the epoch") };
        assert_eq!(renewed, change.renews, "both say the same");
        renewed
    };
    assert!(!renews(&|group| group.propose_add(std::slice::from_ref(&package), NOW).expect("adds")));
    assert!(renews(&|group| group.propose_remove(&[2]).expect("removes")));
    assert!(renews(&|group| group.propose_update().expect("updates")));
}

//
#[test]
fn a_delegation_that_is_renewed_before_it_runs_out_lets_others_in_after() {
    let (alice, b, c) = (Person::new(), Person::new().device(), Person::new().device());
    let a = alice.device_until(NOW + 10);
    let mut room = a.create_room(ROOM, KeyExchange::X25519).expect("a room");
    let packages = [(b.identity(), b.key_package().expect("a package"))];
    let welcome = room.propose_add(&packages, NOW).expect("adds").welcome.expect("for b");
    room.merge_own().expect("accepted");
    let mut at_b = b.join_room(&welcome, &a.identity(), NOW).expect("joins");
    a.renew_delegation(alice.0.delegate(&a.key(), LATER)).expect("of the same");
    assert!(!room.shows(&a.delegation()));
    let change = room.propose_renewal(&a.delegation()).expect("renews");
    room.merge_own().expect("accepted");
    assert!(room.shows(&a.delegation()));
    at_b.process(&change.commit, &nobody, NOW).expect("follows");
    let packages = [(c.identity(), c.key_package().expect("a package"))];
    let welcome = at_b.propose_add(&packages, NOW + 11).expect("adds").welcome.expect("for c");
    c.join_room(&welcome, &b.identity(), NOW + 11).expect("the old one would have run out");

    let mallory = Person::new();
    assert!(matches!(a.renew_delegation(mallory.0.delegate(&a.key(), LATER)), Err(Error::IdentityChanged)));
    assert!(matches!(a.renew_delegation(alice.0.delegate(&b.key(), LATER)), Err(Error::DelegationDevice)));
}
