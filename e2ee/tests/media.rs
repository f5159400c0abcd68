//! Frames and labels: sealed by one member, opened by the others, and by nobody else in any other way.
#![allow(missing_docs, reason = "tests")]

mod people;

use std::collections::HashSet;

use people::{NOW, Person, call, nobody, two, update};
use proptest::prelude::*;
use sframe::header::SframeHeader;
use supernode_e2ee::{
    Device, Error, Group, KeyExchange, MediaOpener, MediaSealer, REPLAY_WINDOW_FRAMES, SEAL_OVERHEAD_BYTES_MAX,
    TrackId, TrackInfo,
};
use supernode_proto::limits;
use supernode_proto::object::{Flags, Layer, Visible};

const TRACK: TrackId = TrackId(*b"track-01");
const VISIBLE: Visible = Visible { group: 3, object: 4, flags: Flags::INDEPENDENT, layer: base_layer() };
const VIDEO: u8 = 2;

const fn base_layer() -> Layer {
    match Layer::new(0, 0) {
        Some(layer) => layer,
        None => panic!("the base layer exists"),
    }
}

fn sealer(group: &Group) -> MediaSealer {
    MediaSealer::new(&group.epoch_keys().expect("a member")).expect("a sealer")
}

fn opener(group: &Group) -> MediaOpener {
    MediaOpener::new(&group.epoch_keys().expect("a member")).expect("an opener")
}

fn seal(sealer: &MediaSealer, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    sealer.seal(&TRACK, &VISIBLE, payload, &mut sealed).expect("seals");
    sealed
}

fn open(opener: &MediaOpener, from: &Device, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut payload = Vec::new();
    opener.open(&from.key(), &TRACK, &VISIBLE, sealed, &mut payload).map(|()| payload)
}

fn info() -> TrackInfo {
    TrackInfo { id: TRACK, name: "camera".to_owned(), codec: "vp8".to_owned(), parameters: vec![1; 32] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_one_member_seals_the_other_opens(
        frames in prop::collection::vec((any::<[u8; 8]>(), 0..1u64 << 62, 0..1u64 << 62, prop::collection::vec(any::<u8>(), 0..2000)), 1..20)
    ) {
        let ([a, _], [group_a, group_b]) = two();
        let (sealer, opener) = (sealer(&group_a), opener(&group_b));
        let mut out = Vec::new();
        let mut everything = Vec::new();
        for (track, group, object, payload) in &frames {
            let visible = Visible { group: *group, object: *object, ..VISIBLE };
            let mut sealed = b"header".to_vec();
            sealer.seal(&TrackId(*track), &visible, payload, &mut sealed).expect("seals");
            let sealed = sealed.strip_prefix(b"header").expect("appended");
            prop_assert!(sealed.len() <= payload.len() + SEAL_OVERHEAD_BYTES_MAX);
            opener.open(&a.key(), &TrackId(*track), &visible, sealed, &mut out).expect("opens");
            everything.extend_from_slice(payload);
        }
        prop_assert_eq!(out, everything);
    }
}

#[test]
fn no_byte_of_a_frame_can_change_and_trying_does_no_harm() {
    let ([a, _], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let sealed = seal(&sealer, b"twenty milliseconds of sound");
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            open(&opener, &a, &changed).expect_err("it was changed");
        }
        open(&opener, &a, &sealed[..at]).expect_err("it was cut");
    }
    let longer = [&sealed[..], &[0]].concat();
    open(&opener, &a, &longer).expect_err("it was lengthened");
    assert_eq!(open(&opener, &a, &sealed).expect("unchanged, it opens"), b"twenty milliseconds of sound");
}

//
#[test]
fn a_frame_opens_only_under_its_own_visible_header_and_track() {
    let ([a, _], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let sealed = seal(&sealer, b"frame");
    let others = [
        (TrackId(*b"track-02"), VISIBLE),
        (TRACK, Visible { group: 4, ..VISIBLE }),
        (TRACK, Visible { object: 5, ..VISIBLE }),
        (TRACK, Visible { flags: Flags::INDEPENDENT | Flags::END_OF_TRACK, ..VISIBLE }),
        (TRACK, Visible { flags: Flags::default(), ..VISIBLE }),
        (TRACK, Visible { layer: Layer::new(1, 0).expect("a layer"), ..VISIBLE }),
        (TRACK, Visible { layer: Layer::new(0, 1).expect("a layer"), ..VISIBLE }),
    ];
    let mut out = b"before".to_vec();
    for (track, visible) in others {
        let opened = opener.open(&a.key(), &track, &visible, &sealed, &mut out);
        assert!(matches!(opened, Err(Error::NotAuthentic)));
    }
    assert_eq!(out, b"before");
    opener.open(&a.key(), &TRACK, &VISIBLE, &sealed, &mut out).expect("as it was sealed");
    assert_eq!(out, b"beforeframe");
}

//
#[test]
fn a_frame_opens_only_as_its_senders() {
    let devices = [(); 3].map(|()| Person::new().device());
    let [a, b, c] = &devices;
    let [group_a, _, group_c]: [Group; 3] = call(a, &[b, c]).try_into().expect("three");
    let (sealer, opener) = (sealer(&group_a), opener(&group_c));
    let sealed = seal(&sealer, b"frame");
    assert!(matches!(open(&opener, b, &sealed), Err(Error::WrongSender)));
    assert!(matches!(open(&opener, &Person::new().device(), &sealed), Err(Error::WrongSender)));
    open(&opener, a, &sealed).expect("it is theirs");
}

//
#[test]
fn our_own_frame_sent_back_to_us_is_refused() {
    let ([a, _], [group_a, _]) = two();
    let sealed = seal(&sealer(&group_a), b"frame");
    assert!(matches!(open(&opener(&group_a), &a, &sealed), Err(Error::UnknownKey)));
}

#[test]
fn a_frame_opens_in_its_own_group_only() {
    let ([a, _], [group_a, _]) = two();
    let sealed = seal(&sealer(&group_a), b"frame");
    let b = Person::new().device();
    let of_another_call = call(&a, &[&b]);
    assert!(matches!(open(&opener(&of_another_call[1]), &a, &sealed), Err(Error::NotAuthentic)));
}

//
#[test]
fn a_replayed_frame_is_refused_and_a_reordered_one_is_not() {
    let ([a, _], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let frames: Vec<_> = (0..=REPLAY_WINDOW_FRAMES).map(|_| seal(&sealer, b"frame")).collect();
    let (newest, late) = frames.split_last().expect("many");
    open(&opener, &a, newest).expect("the newest comes first");
    assert!(matches!(open(&opener, &a, newest), Err(Error::Replayed)));
    let (too_late, late) = late.split_first().expect("many");
    assert!(matches!(open(&opener, &a, too_late), Err(Error::Replayed)));
    for frame in late.iter().rev() {
        open(&opener, &a, frame).expect("late, but not too late");
        assert!(matches!(open(&opener, &a, frame), Err(Error::Replayed)));
    }
    opener.install(&group_b.epoch_keys().expect("a member")).expect("the same epoch again");
    assert!(matches!(open(&opener, &a, newest), Err(Error::Replayed)));
}

//
#[test]
fn no_counter_is_used_twice_under_a_key_whatever_is_installed_again() {
    let (_, [mut group_a, mut group_b]) = two();
    let mut seen = HashSet::new();
    let sealer_one = sealer(&group_a);
    for epoch in 1..4 {
        let sealer_two = sealer(&group_a);
        for _ in 0..20 {
            for sealer in [&sealer_one, &sealer_two] {
                sealer.install(&group_a.epoch_keys().expect("a member")).expect("this epoch");
                let frame = seal(sealer, b"frame");
                let label = sealer.seal_label(VIDEO, &info()).expect("seals").bytes;
                for sealed in [frame, label] {
                    let header = SframeHeader::deserialize(&sealed).expect("a header");
                    assert!(seen.insert((header.key_id(), header.counter())), "used twice in epoch {epoch}");
                }
            }
        }
        update(&mut group_b, &mut [&mut group_a]);
    }
    assert_eq!(seen.len(), 3 * 20 * 2 * 2);
}

//
#[test]
fn each_epoch_counts_from_zero_under_its_own_key() {
    let (_, [mut group_a, mut group_b]) = two();
    let sealer = sealer(&group_a);
    for epoch in 1..4 {
        for counter in 0..3 {
            let header = SframeHeader::deserialize(seal(&sealer, b"frame")).expect("a header");
            assert_eq!((header.key_id(), header.counter()), (epoch, counter), "leaf 0, and the epoch in the low bits");
        }
        update(&mut group_b, &mut [&mut group_a]);
        sealer.install(&group_a.epoch_keys().expect("a member")).expect("the next epoch");
    }
}

//
#[test]
fn threads_that_seal_while_epochs_change_use_no_counter_twice() {
    let (_, [mut group_a, mut group_b]) = two();
    let sealer = sealer(&group_a);
    let seen = std::thread::scope(|scope| {
        let talk = || (0..500).map(|_| seal(&sealer, b"frame")).collect::<Vec<_>>();
        let sealing = [(); 3].map(|()| scope.spawn(talk));
        for _ in 0..5 {
            update(&mut group_b, &mut [&mut group_a]);
            sealer.install(&group_a.epoch_keys().expect("a member")).expect("the next epoch");
        }
        sealing.into_iter().flat_map(|thread| thread.join().expect("seals")).collect::<Vec<_>>()
    });
    let header = |sealed: &Vec<u8>| SframeHeader::deserialize(sealed).expect("a header");
    let used: HashSet<_> = seen.iter().map(header).map(|header| (header.key_id(), header.counter())).collect();
    assert_eq!(used.len(), seen.len());
}

//
#[test]
fn of_threads_that_open_the_same_frame_one_does() {
    let ([a, _], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let frames: Vec<_> = (0..300).map(|_| seal(&sealer, b"frame")).collect();
    let opened: usize = std::thread::scope(|scope| {
        let open_all = || frames.iter().filter(|frame| open(&opener, &a, frame).is_ok()).count();
        let opening = [(); 3].map(|()| scope.spawn(open_all));
        opening.into_iter().map(|thread| thread.join().expect("opens")).sum()
    });
    assert_eq!(opened, frames.len());
}

//
#[test]
fn the_current_and_the_two_epochs_before_it_open_and_no_others() {
    let ([a, _], [mut group_a, mut group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let mut in_flight = vec![(seal(&sealer, b"one"), seal(&sealer, b"one again"))];
    for _ in 0..3 {
        update(&mut group_a, &mut [&mut group_b]);
        sealer.install(&group_a.epoch_keys().expect("a member")).expect("the next epoch");
        let early = seal(&sealer, b"next");
        assert!(matches!(open(&opener, &a, &early), Err(Error::UnknownKey)));
        opener.install(&group_b.epoch_keys().expect("a member")).expect("the next epoch");
        open(&opener, &a, &early).expect("a frame that was too early opens once its epoch is known");
        in_flight.push((seal(&sealer, b"next"), seal(&sealer, b"next again")));
    }
    let (oldest, kept) = in_flight.split_first().expect("four epochs");
    assert!(matches!(open(&opener, &a, &oldest.0), Err(Error::UnknownKey)));
    for (frame, other) in kept {
        open(&opener, &a, frame).expect("kept");
        assert!(matches!(open(&opener, &a, frame), Err(Error::Replayed)));
        open(&opener, &a, other).expect("kept");
    }
}

#[test]
fn nobody_goes_back_to_an_epoch() {
    let (_, [mut group_a, mut group_b]) = two();
    let first = group_a.epoch_keys().expect("a member");
    update(&mut group_a, &mut [&mut group_b]);
    let (sealer, opener) = (sealer(&group_a), opener(&group_a));
    assert!(matches!(sealer.install(&first), Err(Error::EpochOrder { given: 1, current: 2 })));
    assert!(matches!(opener.install(&first), Err(Error::EpochOrder { given: 1, current: 2 })));
    // Another view of the same epoch has a counter of its own, under a key of its own.
    let theirs = group_b.epoch_keys().expect("a member");
    assert!(matches!(sealer.install(&theirs), Err(Error::EpochOrder { given: 2, current: 2 })));
}

#[test]
fn keys_of_another_room_are_refused() {
    let ([a, _], [group, _]) = two();
    let other = a.create_group(supernode_proto::identity::RoomId([9; 16]), KeyExchange::X25519).expect("a group");
    let keys = other.epoch_keys().expect("a member");
    assert!(matches!(sealer(&group).install(&keys), Err(Error::WrongRoom)));
    assert!(matches!(opener(&group).install(&keys), Err(Error::WrongRoom)));
}

#[test]
fn whoever_was_removed_cannot_open_the_next_epoch() {
    let devices = [(); 3].map(|()| Person::new().device());
    let [a, b, c] = &devices;
    let [mut group_a, mut group_b, mut group_c]: [Group; 3] = call(a, &[b, c]).try_into().expect("three");
    let (sealer, of_b, of_c) = (sealer(&group_a), opener(&group_b), opener(&group_c));
    let change = group_a.propose_remove(&[group_c.own_leaf()]).expect("removes");
    group_a.merge_own().expect("accepted");
    for group in [&mut group_b, &mut group_c] {
        group.process(&change.commit, &nobody, NOW).expect("learns of it");
    }
    sealer.install(&group_a.epoch_keys().expect("a member")).expect("the next epoch");
    of_b.install(&group_b.epoch_keys().expect("a member")).expect("the next epoch");
    let sealed = seal(&sealer, b"without c");
    open(&of_b, a, &sealed).expect("b stays");
    assert!(group_c.epoch_keys().is_err());
    assert!(matches!(open(&of_c, a, &sealed), Err(Error::UnknownKey)));
}

//
#[test]
fn whoever_was_removed_is_not_heard_any_more() {
    let devices = [(); 3].map(|()| Person::new().device());
    let [a, b, c] = &devices;
    let [mut group_a, group_b, group_c]: [Group; 3] = call(a, &[b, c]).try_into().expect("three");
    let opener = opener(&group_a);
    let [of_b, of_c] = [&group_b, &group_c].map(|group| seal(&sealer(group), b"in flight"));
    group_a.propose_remove(&[group_c.own_leaf()]).expect("removes");
    group_a.merge_own().expect("accepted");
    opener.install(&group_a.epoch_keys().expect("a member")).expect("the next epoch");
    assert!(matches!(open(&opener, c, &of_c), Err(Error::UnknownKey)));
    open(&opener, b, &of_b).expect("a member's frame of the epoch before");
}

#[test]
fn a_label_opens_as_often_as_it_comes_and_tells_nothing_by_its_length() {
    let ([a, _], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let bare = TrackInfo { name: String::new(), parameters: vec![], ..info() };
    let [label, other] = [&info(), &bare].map(|info| sealer.seal_label(VIDEO, info).expect("seals").bytes);
    assert_eq!(label.len(), other.len());
    assert!(label.len() <= limits::TRACK_LABEL_BYTES_MAX);
    for _ in 0..3 {
        assert_eq!(opener.open_label(&a.key(), VIDEO, &label).expect("opens"), info());
        assert_eq!(opener.open_label(&a.key(), VIDEO, &other).expect("opens"), bare);
    }
    let huge = TrackInfo { parameters: vec![0; limits::TRACK_LABEL_BYTES_MAX], ..info() };
    assert!(matches!(sealer.seal_label(VIDEO, &huge), Err(Error::TooLarge { .. })));
}

//
#[test]
fn a_label_is_for_its_kind_and_publisher_and_is_no_frame() {
    let ([a, b], [group_a, group_b]) = two();
    let (sealer, opener) = (sealer(&group_a), opener(&group_b));
    let label = sealer.seal_label(VIDEO, &info()).expect("seals").bytes;
    assert!(matches!(opener.open_label(&a.key(), VIDEO + 1, &label), Err(Error::NotAuthentic)));
    assert!(matches!(opener.open_label(&b.key(), VIDEO, &label), Err(Error::WrongSender)));
    assert!(matches!(open(&opener, &a, &label), Err(Error::NotAuthentic)));
    let frame = seal(&sealer, b"frame");
    assert!(matches!(opener.open_label(&a.key(), VIDEO, &frame), Err(Error::NotAuthentic)));
    for at in 0..label.len() {
        let mut changed = label.clone();
        changed[at] ^= 1;
        opener.open_label(&a.key(), VIDEO, &changed).expect_err("it was changed");
    }
    opener.open_label(&a.key(), VIDEO, &label).expect("as it was sealed");
    let long = vec![0; limits::TRACK_LABEL_BYTES_MAX + 1];
    assert!(matches!(opener.open_label(&a.key(), VIDEO, &long), Err(Error::TooLarge { .. })));
}

//
#[test]
fn a_past_epoch_that_is_forgotten_opens_nothing_and_the_current_one_is_never_forgotten() {
    let ([a, _], [mut group_a, mut group_b]) = two();
    let (before, of_b) = (sealer(&group_a), opener(&group_b));
    let sealed = [seal(&before, b"in time"), seal(&before, b"too late")];
    update(&mut group_a, &mut [&mut group_b]);
    of_b.install(&group_b.epoch_keys().expect("a member")).expect("the next epoch");
    open(&of_b, &a, &sealed[0]).expect("still on its way");
    of_b.forget_before(group_b.epoch());
    assert!(matches!(open(&of_b, &a, &sealed[1]), Err(Error::UnknownKey)));
    of_b.forget_before(u64::MAX);
    let now = seal(&sealer(&group_a), b"now");
    open(&of_b, &a, &now).expect("the current epoch");
}
