//! Bytes from anywhere: every door answers with an error and never panics, and the group behind it stays as it was.
#![allow(missing_docs, reason = "tests")]

mod people;

use std::cell::RefCell;

use people::{NOW, Person, ROOM, anybody, two};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use supernode_e2ee::{Error, KeyExchange, MediaOpener, MediaSealer, Processed, TrackId, TrackInfo, WELCOME_BYTES_MAX};
use supernode_proto::limits;
use supernode_proto::object::{Flags, Layer, Visible};

/// Flips a bit, cuts, lengthens, or overwrites a run.
#[derive(Debug, Clone)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Lengthen(Vec<u8>),
    Overwrite(prop::sample::Index, Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let run = || prop::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        (any::<prop::sample::Index>(), 0..8u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        any::<prop::sample::Index>().prop_map(Harm::Cut),
        run().prop_map(Harm::Lengthen),
        (any::<prop::sample::Index>(), run()).prop_map(|(at, run)| Harm::Overwrite(at, run)),
    ]
}

fn harmed(bytes: &[u8], harm: &Harm) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match harm {
        Harm::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Harm::Lengthen(run) => bytes.extend_from_slice(run),
        Harm::Overwrite(at, run) => {
            let at = at.index(bytes.len());
            bytes.iter_mut().skip(at).zip(run).for_each(|(byte, new)| *byte = *new);
        }
    }
    bytes
}

/// Junk, some of it with the first bytes of a real MLS message (version 1, a wire format), so that it gets further.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![Just(vec![]), (0..7u8).prop_map(|format| vec![0, 1, 0, format])];
    (prefix, prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(prefix, rest)| [prefix, rest].concat())
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

#[test]
fn junk_from_the_mailbox_changes_nothing() {
    let ([_, _], [_, group]) = two();
    let group = RefCell::new(group);
    let before = group.borrow().safety_number().expect("a member");
    let tried = runner(2000).run(&junk(), |bytes| {
        group.borrow_mut().process(&bytes, &anybody, NOW).expect_err("junk");
        Ok(())
    });
    tried.expect("no junk passes");
    assert_eq!(group.borrow().safety_number().expect("a member"), before);
}

#[test]
fn a_harmed_commit_changes_nothing_and_the_true_one_still_counts() {
    let ([_, _], [mut group_a, group_b]) = two();
    let group_b = RefCell::new(group_b);
    let change = group_a.propose_update().expect("proposes");
    let before = group_b.borrow().safety_number().expect("a member");
    let tried = runner(1000).run(&harm(), |harm| {
        let bytes = harmed(&change.commit, &harm);
        prop_assume!(bytes != change.commit);
        // A lower epoch makes it a message of the past, which is ignored.
        prop_assert!(matches!(group_b.borrow_mut().process(&bytes, &anybody, NOW), Err(_) | Ok(Processed::Ignored)));
        Ok(())
    });
    tried.expect("no harmed commit passes");
    let mut group_b = group_b.into_inner();
    assert_eq!(group_b.safety_number().expect("a member"), before);
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &anybody, NOW).expect("the true one");
    assert_eq!(group_a.safety_number().expect("a member"), group_b.safety_number().expect("a member"));
}

#[test]
fn junk_and_harmed_welcomes_let_nobody_in() {
    let (a, b) = (Person::new().device(), Person::new().device());
    let tried = runner(1000).run(&junk(), |bytes| {
        b.join(&bytes, &a.identity(), &[], NOW).expect_err("junk");
        Ok(())
    });
    tried.expect("no junk passes");
    let tried = runner(150).run(&harm(), |harm| {
        // A welcome uses its key package up, so each try needs a fresh one.
        let mut group = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
        let package = (b.identity(), b.key_package().expect("a package"));
        let welcome = group.propose_add(&[package], NOW).expect("adds").welcome.expect("for b");
        let bytes = harmed(&welcome, &harm);
        prop_assume!(bytes != welcome);
        b.join(&bytes, &a.identity(), &[], NOW).expect_err("harmed");
        Ok(())
    });
    tried.expect("no harmed welcome passes");
}

#[test]
fn junk_and_harmed_key_packages_are_not_added() {
    let ([_, b], [group, _]) = two();
    let group = RefCell::new(group);
    // Of two packages that are offered, a harm to the other would not matter.
    let c = Person::new().device().without_x_wing();
    let package = c.key_package().expect("a package");
    let tried = runner(500).run(&(junk(), harm()), |(junk, harm)| {
        group.borrow_mut().propose_add(&[(b.identity(), junk)], NOW).expect_err("junk");
        let bytes = harmed(&package, &harm);
        // What stands behind it may be a package for something newer, and is skipped.
        prop_assume!(!bytes.starts_with(&package));
        group.borrow_mut().propose_add(&[(c.identity(), bytes)], NOW).expect_err("harmed");
        Ok(())
    });
    tried.expect("no harmed package passes");
    group.borrow_mut().propose_add(&[(c.identity(), package)], NOW).expect("the true one");
}

#[test]
fn junk_and_harmed_frames_do_not_open() {
    let ([a, _], [group_a, group_b]) = two();
    let sealer = MediaSealer::new(&group_a.epoch_keys().expect("a member")).expect("a sealer");
    let opener = MediaOpener::new(&group_b.epoch_keys().expect("a member")).expect("an opener");
    let opener = RefCell::new(opener);
    let (track, flags) = (TrackId([1; 8]), Flags::default());
    let visible = Visible { group: 1, object: 2, flags, layer: Layer::default() };
    let info = TrackInfo { id: track, name: "mic".to_owned(), codec: "opus".to_owned(), parameters: vec![] };
    let mut frame = Vec::new();
    sealer.seal(&track, &visible, b"frame", &mut frame).expect("seals");
    let label = sealer.seal_label(1, &info).expect("seals").bytes;
    let tried = runner(3000).run(&(junk(), harm()), |(junk, harm)| {
        let mut out = Vec::new();
        for bytes in [&junk, &harmed(&frame, &harm)] {
            prop_assume!(*bytes != frame);
            opener.borrow_mut().open(&a.key(), &track, &visible, bytes, &mut out).expect_err("harmed");
        }
        for bytes in [&junk, &harmed(&label, &harm)] {
            prop_assume!(*bytes != label);
            opener.borrow_mut().open_label(&a.key(), 1, bytes).expect_err("harmed");
        }
        prop_assert!(out.is_empty());
        Ok(())
    });
    tried.expect("no harmed frame passes");
    opener.borrow_mut().open(&a.key(), &track, &visible, &frame, &mut Vec::new()).expect("the true one");
    assert_eq!(opener.borrow_mut().open_label(&a.key(), 1, &label).expect("the true one"), info);
}

#[test]
fn what_is_too_large_is_not_even_read() {
    let ([a, b], [mut group, _]) = two();
    let huge = vec![0; limits::MLS_PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(group.process(&huge, &anybody, NOW), Err(Error::TooLarge { .. })));
    let huge = vec![0; WELCOME_BYTES_MAX + 1];
    assert!(matches!(b.join(&huge, &a.identity(), &[], NOW), Err(Error::TooLarge { .. })));
    let huge = vec![0; limits::KEY_PACKAGE_BYTES_MAX + 1];
    assert!(matches!(group.propose_add(&[(b.identity(), huge)], NOW), Err(Error::TooLarge { .. })));
}
