//! A room as its members have it, each driven by hand: what comes, and what is wished for.

mod coming_back;
mod entry;
mod tracks;

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use supernode_e2ee::{Change, Device, DeviceSecret, IdentitySecret, KeyExchange, MediaSealer, TrackId, TrackInfo};
use supernode_proto::{
    control::{BeaconPosted, CommitRejected, MemberJoined, RefusalReason, RoomJoined, TrackKind, relay_message},
    identity::{Delegation, RoomId},
    object::{TrackAlias, Visible},
};

use supernode_e2ee::Group;
use supernode_session::{Moment, Refusal};

use super::*;
use crate::{FrameTimes, rights::Door};

const WITHIN: Duration = Duration::from_secs(900);
const GRACE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);
const START: Moment = Moment::at(Duration::from_secs(1000));
const UNIX_S: u64 = 1_800_000_000;
/// The connection that everybody is in the relay's room on.
const CONNECTION: u64 = 1;

fn longest(range: RangeInclusive<Duration>) -> Duration {
    *range.end()
}

fn new_device() -> Device {
    let secret = DeviceSecret::generate();
    let delegation = IdentitySecret::generate().delegate(&secret.public(), UNIX_S + 3600);
    Device::new(secret, delegation).expect("its own delegation")
}

fn member(device: &Device) -> Member {
    Member { identity: device.identity(), device: device.key() }
}

/// One of those in the room. Its number there is one more than its leaf.
struct Person {
    device: Device,
    parts: Parts,
}

impl Person {
    fn new(device: Device, group: Group, door: Option<&Door>) -> Self {
        let parts = Parts::new(group, door, WITHIN, START, &longest).expect("a room");
        Self { device, parts }
    }

    fn member(&self) -> Member {
        member(&self.device)
    }

    fn commit(
        &mut self,
        make: impl FnOnce(&mut Group) -> Result<Change, supernode_e2ee::Error>,
    ) -> (Change, Vec<Wish>) {
        let change = self.propose(make);
        (change, self.settle(true, START))
    }

    fn propose(&mut self, make: impl FnOnce(&mut Group) -> Result<Change, supernode_e2ee::Error>) -> Change {
        self.parts.membership.make_commit(|group| make(group).map(Some)).expect("made").expect("a change")
    }

    fn settle(&mut self, is_accepted: bool, now: Moment) -> Vec<Wish> {
        self.parts.handle_own_commit(is_accepted, now, &longest)
    }

    fn read(&mut self, delivery: &MlsDelivery, now: Moment) -> Vec<Wish> {
        self.parts.handle_delivery(delivery, UNIX_S, now, &longest)
    }

    fn reject(&mut self, epoch: u64, now: Moment) -> Vec<Wish> {
        self.parts.handle_rejected(&CommitRejected { epoch, ..CommitRejected::default() }, now)
    }

    fn joined(&mut self, joined: RoomJoined) -> Vec<Wish> {
        let joined = relay_message::Body::RoomJoined(joined);
        self.parts.handle_entry_reply(Step::Join, Ok(&joined), CONNECTION, START)
    }

    fn duty(&mut self, now: Moment) -> Duty {
        let delegation = self.device.delegation();
        self.duty_by(&delegation, now)
    }

    fn duty_by(&mut self, delegation: &Delegation, now: Moment) -> Duty {
        let by = Keeping { grace: GRACE, delegation, device: self.device.secret() };
        self.parts.state.duty(by, now, &longest)
    }

    fn seals(&self) -> bool {
        let visible = Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() };
        let (times, mut sealed) = (FrameTimes { captured_at_us: 0, presentation_us: 0 }, Vec::new());
        let (track, mut scratch) = (TrackId([1; 8]), Vec::new());
        let may = self.parts.frame_keys.seal(&track, &visible, times, b"sound", &mut scratch, &mut sealed);
        assert_eq!(may.expect("no error"), !sealed.is_empty());
        !sealed.is_empty()
    }
}

/// What the mailbox brings of a commit.
fn delivery(sequence: u64, change: &Change) -> MlsDelivery {
    MlsDelivery {
        sequence,
        epoch: change.epoch,
        commit: true,
        payload: change.commit.clone().into(),
        join_key: change.join_key.as_bytes().to_vec().into(),
        ..MlsDelivery::default()
    }
}

/// A room with a door, with so many in it and here, in the order of their leaves.
fn room_of(people: usize) -> Vec<Person> {
    let devices: Vec<Device> = (0..people).map(|_| new_device()).collect();
    let mut at_host = devices[0].create_room(RoomId([7; 16]), KeyExchange::default()).expect("a room");
    let packages: Vec<_> =
        devices[1..].iter().map(|device| (device.identity(), device.key_package().expect("a package"))).collect();
    let welcome = at_host.propose_add(&packages, UNIX_S).expect("adds").welcome.expect("for the others");
    at_host.merge_own().expect("accepted");
    let host = devices[0].identity();
    let join = |device: &Device| device.join_room(&welcome, &host, UNIX_S).expect("joins");
    let groups: Vec<Group> = devices[1..].iter().map(join).collect();
    let here = |(at, device): (usize, &Device)| MemberJoined {
        member: at as u32 + 1,
        device: device.key().as_bytes().to_vec().into(),
        ..MemberJoined::default()
    };
    let members: Vec<MemberJoined> = devices.iter().enumerate().map(here).collect();
    let door = Door::open("tea".into(), None, None).expect("a short name");
    let groups = std::iter::once(at_host).chain(groups);
    let mut room: Vec<Person> =
        devices.into_iter().zip(groups).map(|(device, group)| Person::new(device, group, Some(&door))).collect();
    for (at, person) in room.iter_mut().enumerate() {
        let joined = RoomJoined {
            member: at as u32 + 1,
            members: members.clone(),
            mls_epoch: person.parts.membership.epoch(),
            ..RoomJoined::default()
        };
        assert_eq!(person.joined(joined).len(), people - 1, "of everybody else");
    }
    room
}

fn removed(who: Member, by: Member, put_out: bool) -> Wish {
    Event::Removed { who, by, put_out }.into()
}

fn keys_changed() -> [Wish; 2] {
    [Wish::UseKeys, Event::KeysChanged.into()]
}

fn two() -> [Person; 2] {
    room_of(2).try_into().unwrap_or_else(|_| panic!("two people"))
}

fn three() -> [Person; 3] {
    room_of(3).try_into().unwrap_or_else(|_| panic!("three people"))
}

//
#[test]
fn a_commit_counts_once_it_is_accepted_and_the_others_follow_it() {
    let [mut a, mut b, mut c] = three();
    let gone = c.member();
    let change = a.propose(|group| group.propose_remove(&[2]));
    assert_eq!(a.parts.state.epoch(), change.epoch, "not before it is accepted");
    let ours = a.settle(true, START);
    let left = Wish::from(Event::MemberLeft(gone));
    let [use_keys, changed] = keys_changed();
    assert_eq!(ours, [removed(gone, a.member(), false), left, use_keys, changed]);
    let theirs = b.read(&delivery(1, &change), START);
    let left = Wish::from(Event::MemberLeft(gone));
    let [use_keys, changed] = keys_changed();
    assert_eq!(theirs, [removed(gone, a.member(), false), left, use_keys, changed]);
    assert_eq!(a.parts.state.group().safety_number().ok(), b.parts.state.group().safety_number().ok());
    assert_eq!(b.read(&delivery(1, &change), START), [], "once");
    // Whoever was removed hears so, and may knock: nobody put them out.
    assert_eq!(c.read(&delivery(1, &change), START), [removed(gone, a.member(), false)]);
    assert_eq!(c.duty(START), Duty::ComeBack);
    assert_eq!([&a, &b].map(|person| person.parts.state.knocker(&gone)), [Knocker::Known; 2], "and would be let in");
}

//
#[test]
fn a_commit_that_came_second_is_dropped_and_made_again() {
    let [mut a, mut b] = two();
    let first = a.commit(|group| group.propose_update()).0;
    b.propose(|group| group.propose_update());
    assert_eq!(b.settle(false, START), []);
    assert_eq!(b.read(&delivery(1, &first), START), keys_changed());
    let second = b.commit(|group| group.propose_update()).0;
    assert_eq!(a.read(&delivery(2, &second), START), keys_changed());
    assert_eq!(a.parts.state.epoch(), b.parts.state.epoch());
}

//
#[test]
fn whoever_is_put_out_is_out_for_good() {
    let [mut a, mut b, mut c] = three();
    let out = c.member();
    let change = a.commit(|group| group.propose_put_out(&[2])).0;
    b.read(&delivery(1, &change), START);
    assert_eq!(b.parts.state.knocker(&out), Knocker::PutOut);
    let end = c.read(&delivery(1, &change), START);
    assert_eq!(end, [removed(out, a.member(), true), Wish::End(CallEnd::Removed)]);
    b.parts.state.forgive(&out.identity);
    assert_eq!(b.parts.state.knocker(&out), Knocker::Stranger, "to whoever invites them");
}

//
#[test]
fn a_message_that_is_not_what_the_relay_says_is_dropped_with_a_warning() {
    let [mut a, mut b] = two();
    let change = a.commit(|group| group.propose_update()).0;
    let lie = MlsDelivery { commit: false, ..delivery(1, &change) };
    assert_eq!(b.read(&lie, START), [Event::Warning(Warning::FalseEnvelope).into()]);
    assert_eq!(b.parts.state.epoch(), change.epoch);
}

//
#[test]
fn a_door_that_opens_by_another_key_is_given_the_right_one() {
    let [mut a, mut b] = two();
    let change = a.commit(|group| group.propose_update()).0;
    let lie = MlsDelivery { join_key: vec![9; 32].into(), ..delivery(1, &change) };
    let wishes = b.read(&lie, START);
    assert_eq!(wishes[0], Event::Warning(Warning::WrongDoorKey(a.member())).into());
    let Some(Wish::Send(request)) = wishes.last() else { panic!("a request") };
    let client_message::Body::RotateJoinKey(rotate) = &**request else { panic!("the right key") };
    assert_eq!(rotate.join_key[..], change.join_key.as_bytes()[..]);
}

//
#[test]
fn junk_is_given_back_and_whoever_is_alone_in_that_takes_it_for_their_own_fault() {
    let [mut a, mut b] = two();
    let mut change = a.propose(|group| group.propose_update());
    let last = change.commit.len() - 1;
    change.commit[last] ^= 1;
    let wishes = b.read(&delivery(1, &change), START);
    let [Wish::Send(request)] = &wishes[..] else { panic!("one request: {wishes:?}") };
    let client_message::Body::RejectCommit(reject) = &**request else { panic!("a rejection") };
    assert_eq!((reject.epoch, reject.sequence), (change.epoch, 1));
    assert!(matches!(b.duty(START), Duty::Wait(_, Some(at)) if at <= START + SECOND * 3));
    // The relay says that most agree.
    b.reject(change.epoch, START + SECOND);
    assert!(matches!(b.duty(START + SECOND * 3), Duty::Wait(..)));
    // Of another such commit nobody says so.
    b.read(&delivery(2, &change), START + SECOND * 3);
    assert!(matches!(b.duty(START + SECOND * 5), Duty::Wait(..)));
    assert_eq!(b.duty(START + SECOND * 6), Duty::FallBehind);
    assert_eq!(b.parts.state.fall_behind(), []);
    assert_eq!(b.duty(START + SECOND * 6), Duty::ComeBack);
}

//
#[test]
fn what_a_taken_back_removal_would_let_somebody_hear_is_not_even_sealed() {
    let [mut a, b] = two();
    let (change, _) = a.commit(|group| group.propose_remove(&[1]));
    assert!(a.seals());
    let wishes = a.reject(change.epoch, START);
    let [use_keys, changed] = keys_changed();
    assert_eq!(wishes, [Event::MemberJoined(b.member()).into(), use_keys, changed]);
    assert_eq!(a.parts.state.epoch(), change.epoch);
    assert!(!a.seals() && a.parts.frame_keys.is_silent());
    let Duty::Remove(removal) = a.duty(START) else { panic!("they must go") };
    let again = a.parts.membership.make_commit(|group| removal.propose(group)).expect("made");
    assert!(again.is_some());
    a.settle(true, START);
    assert!(a.seals());
}

#[test]
fn a_commit_that_comes_with_an_answer_and_not_by_the_mailbox_is_not_followed() {
    let [mut a, mut b] = two();
    let client_message::Body::SendMls(said) = b.parts.membership.message(b"hello").expect("sealed") else {
        panic!("a message")
    };
    let opened = a.parts.membership.open_aside(&said.payload, UNIX_S);
    assert_eq!(opened, Some((b.member(), b"hello".to_vec())));
    let epoch = a.parts.membership.epoch();
    let commit = b.propose(|group| group.propose_update()).commit;
    assert_eq!(a.parts.membership.open_aside(&commit, UNIX_S), None);
    assert_eq!(a.parts.membership.epoch(), epoch);
}

fn refusal(reason: RefusalReason) -> Refusal {
    Refusal { reason, detail: String::new(), value: 0, bound: 0 }
}

//
#[test]
fn whoever_cannot_have_what_came_before_is_behind() {
    let [_, mut b] = two();
    b.parts.state.handle_lost();
    b.joined(RoomJoined { member: 2, mls_epoch: 1, mls_sequence: 9, ..RoomJoined::default() });
    let gone = refusal(RefusalReason::HistoryGone);
    assert_eq!(b.parts.handle_entry_reply(Step::CatchUpAfter, Err(&gone), CONNECTION, START), []);
    assert!(b.parts.state.is_behind());
}

//
#[test]
fn whoever_could_not_follow_is_let_in_again_and_goes_on_from_there() {
    let [mut a, mut b] = two();
    a.commit(|group| group.propose_update());
    b.parts.state.handle_lost();
    let members =
        vec![MemberJoined { member: 1, device: a.device.key().as_bytes().to_vec().into(), ..MemberJoined::default() }];
    let joined = |mls_epoch| RoomJoined { member: 2, mls_epoch, members: members.clone(), ..RoomJoined::default() };
    let here = b.joined(joined(a.parts.state.epoch()));
    assert_eq!(here, [Event::MemberJoined(a.member()).into()]);
    assert_eq!(b.duty(START), Duty::ComeBack, "in another epoch than the room");
    // A member gives its device its own place again, and changes the group before it is in.
    let package = b.device.key_package().expect("a package");
    let guest = b.member();
    let change = a.propose(|group| {
        crate::rights::propose_guest(group, &guest, &package, UNIX_S).map(|change| change.expect("a place"))
    });
    a.settle(true, START);
    let later = a.commit(|group| group.propose_update()).0;
    assert_eq!(b.read(&delivery(4, &later), START), [], "kept for the next place");
    let welcome = change.welcome.expect("for the guest");
    let group = b.device.join_room(&welcome, &a.device.identity(), UNIX_S).expect("joins");
    let wishes = b.parts.handle_let_in(group, START, &longest).expect("of this room");
    let [use_keys, changed] = keys_changed();
    assert_eq!(wishes, [use_keys, changed, Wish::Read(Box::new(delivery(4, &later)))]);
    assert!(matches!(b.duty(START), Duty::Wait(..)), "in again");
    b.read(&delivery(4, &later), START);
    assert_eq!(b.parts.state.epoch(), a.parts.state.epoch());
}

//
#[test]
fn whoever_is_gone_is_removed_by_the_lowest_leaf_first_and_after_a_goodbye_at_once() {
    let [mut a, mut b, c] = three();
    for person in [&mut a, &mut b] {
        let left = person.parts.state.handle_member_left(3, START).expect("somebody else");
        assert_eq!(left, [Event::MemberLeft(c.member()).into()]);
        assert!(matches!(person.duty(START), Duty::Wait(_, Some(_))));
    }
    assert!(matches!(a.duty(START + GRACE), Duty::Remove(_)));
    assert!(matches!(b.duty(START + GRACE), Duty::Wait(..)), "the first does it");
    assert!(matches!(b.duty(START + GRACE + SECOND * 2), Duty::Remove(_)), "unless it does not");
    let [mut a, mut b, mut c] = three();
    let goodbye = c.parts.membership.message(&crate::rights::goodbye()).expect("sealed");
    let client_message::Body::SendMls(said) = goodbye else { panic!("a message") };
    let goodbye = MlsDelivery { sequence: 1, epoch: said.epoch, payload: said.payload, ..MlsDelivery::default() };
    for person in [&mut a, &mut b] {
        assert_eq!(person.read(&goodbye, START), []);
        person.parts.state.handle_member_left(3, START);
    }
    assert!(matches!(a.duty(START), Duty::Remove(_)));
    assert!(matches!(b.duty(START), Duty::Wait(..)));
}

//
#[test]
fn whoever_is_at_the_door_is_answered_by_one_after_the_other_of_those_who_are_here() {
    let mut people = room_of(4);
    let pauses = |people: &[Person]| people.iter().map(|it| it.parts.state.pause_at_door()).collect::<Vec<_>>();
    let turn = Duration::from_millis(500);
    assert_eq!(pauses(&people), [Duration::ZERO, turn, turn * 2, turn * 3]);
    for person in &mut people {
        person.parts.state.handle_member_left(2, START);
    }
    assert_eq!(pauses(&people)[2..], [turn, turn * 2], "the second is not here any more");
}

//
#[test]
fn whoever_the_group_does_not_know_is_put_out_after_the_grace() {
    let [mut a, _b] = two();
    let stranger = new_device();
    let joined =
        MemberJoined { member: 9, device: stranger.key().as_bytes().to_vec().into(), ..MemberJoined::default() };
    assert_eq!(a.parts.state.handle_member_joined(&joined, START), [], "nobody can say who it is");
    assert_eq!((a.parts.state.outsiders(), a.parts.state.members().len()), (1, 1));
    assert!(matches!(a.duty(START), Duty::Wait(..)));
    assert_eq!(a.duty(START + GRACE), Duty::PutOut(vec![9]));
    assert_eq!(a.parts.state.forget_outsider(9), []);
    assert!(matches!(a.duty(START + GRACE), Duty::Wait(..)));
}

/// The beacon of `from`, signed by `signer`, as the relay says that it is of `number`.
fn beacon(from: &Person, signer: &Device, number: u32, digest: [u8; 32]) -> BeaconPosted {
    let (room, epoch) = (from.parts.membership.room(), from.parts.membership.epoch());
    let signature = signer.secret().sign_beacon(&room, epoch, &digest).to_vec().into();
    BeaconPosted { room: room.0.to_vec().into(), member: number, epoch, digest: digest.to_vec().into(), signature }
}

fn split(duty: Duty) -> Vec<Wish> {
    let Duty::Wait(wishes, _) = duty else { panic!("{duty:?}") };
    wishes.into_iter().filter(|wish| matches!(wish, Wish::Tell(_))).collect()
}

//
#[test]
fn a_beacon_in_another_s_name_splits_nobody_and_is_no_sign_of_life() {
    let [mut a, b] = two();
    let forged = beacon(&b, &a.device, 2, [7; 32]);
    assert!(!a.parts.state.handle_beacon(&forged, START));
    assert_eq!(split(a.duty(START + SECOND * 10)), [], "nobody said so");
    assert!(!a.parts.state.handle_beacon(&forged, START + SECOND * 140));
    let warned = Wish::from(Event::Warning(Warning::Split(b.member())));
    assert_eq!(split(a.duty(START + SECOND * 160)), [warned], "the other one has been silent");
    // The same, by the other one.
    let [mut a, b] = two();
    assert!(a.parts.state.handle_beacon(&beacon(&b, &b.device, 2, [7; 32]), START));
    a.duty(START + SECOND * 10);
    assert_eq!(a.parts.state.split_from(), [b.member()]);
}

//
#[test]
fn a_member_whose_beacon_is_silent_for_150_s_is_shown_as_split_from_us_and_no_sooner() {
    const SILENCE: Duration = Duration::from_secs(150);
    let [mut a, b] = two();
    let digest = b.parts.state.group().epoch_digest().expect("in it");
    let genuine = beacon(&b, &b.device, 2, digest);
    // One beacon a minute, one of which is lost: nothing to show.
    for minute in [1, 3, 4] {
        let at = START + Duration::from_secs(60) * minute;
        assert_eq!(split(a.duty(at)), []);
        assert!(a.parts.state.handle_beacon(&genuine, at));
    }
    let heard = START + Duration::from_secs(240);
    let Duty::Wait(_, Some(next)) = a.duty(heard + (SILENCE - SECOND)) else { panic!("a time") };
    assert!(next <= heard + SILENCE);
    assert!(a.parts.state.split_from().is_empty() && a.seals());
    assert_eq!(split(a.duty(heard + SILENCE)), [Event::Warning(Warning::Split(b.member())).into()]);
    assert!(!a.seals(), "nothing is sent any more");
    a.parts.state.accept_split();
    assert!(a.seals(), "but if a person says so");
    // They are heard again.
    a.parts.state.handle_beacon(&genuine, heard + SILENCE + SECOND);
    assert_eq!(split(a.duty(heard + SILENCE + SECOND)), [Event::Healed.into()]);
    assert!(a.parts.state.split_from().is_empty() && a.seals());
}

//
#[test]
fn what_was_sealed_in_a_past_epoch_opens_for_fifteen_seconds_and_the_group_goes_back_for_as_long() {
    let [mut a, b] = two();
    let info = TrackInfo { id: TrackId([1; 8]), name: "voice".into(), codec: "opus".into(), parameters: Vec::new() };
    let label = b.parts.frame_keys.seal_label(TrackKind::Audio, &info).expect("sealed").bytes;
    a.commit(|group| group.propose_update());
    let opens = |a: &Person| a.parts.frame_keys.open_label(&b.device.key(), TrackKind::Audio, &label).is_ok();
    let over = START + state::GOES_BACK_FOR;
    assert!(matches!(a.duty(START + (state::GOES_BACK_FOR - SECOND)), Duty::Wait(_, Some(_))));
    assert!(opens(&a) && a.parts.membership.can_go_back(), "objects on their way, and a commit that is rejected");
    assert_eq!(a.duty(over), Duty::Forget);
    a.parts.forget_past_epochs(over);
    assert!(!opens(&a), "its keys are gone");
    assert!(!a.parts.membership.can_go_back());
    assert!(matches!(a.duty(over), Duty::Wait(..)));
}

//
#[test]
fn a_removal_and_another_s_renewal_are_fresh_keys_and_somebody_who_comes_is_not() {
    let [mut a, mut b] = two();
    // Time passes before whoever comes does: a wait that begins anew then ends later.
    let (third, came) = (new_device(), START + WITHIN / 4);
    let package = third.key_package().expect("a package");
    let added = a.propose(|group| group.propose_add(&[(third.identity(), package)], UNIX_S));
    a.settle(true, came);
    b.read(&delivery(1, &added), came);
    let is_due = |person: &Person, at| person.parts.state.is_renewal_due(at);
    assert!(is_due(&a, START + WITHIN) && is_due(&b, START + WITHIN));
    // They go again, by our commit.
    let went = START + WITHIN / 2;
    let removed = a.propose(|group| group.propose_remove(&[2]));
    a.settle(true, went);
    b.read(&delivery(2, &removed), went);
    assert!(!is_due(&a, START + WITHIN) && !is_due(&b, START + WITHIN), "the wait began anew");
    assert!(is_due(&a, went + WITHIN) && is_due(&b, went + WITHIN));
    // The other one is faster than we are.
    let renewed = b.propose(|group| group.propose_update());
    b.settle(true, went + WITHIN / 2);
    a.read(&delivery(3, &renewed), went + WITHIN / 2);
    assert!(!is_due(&a, went + WITHIN));
    // A renewal that did not come about is put off.
    a.parts.state.put_renewal_off(went + WITHIN * 2, &longest);
    assert!(!is_due(&a, went + WITHIN * 2) && is_due(&a, went + WITHIN * 2 + SECOND * 30));
    // A delegation that is renewed is shown at once.
    let now = went + WITHIN * 2 + SECOND * 30;
    a.parts.forget_past_epochs(now);
    let other = new_device().delegation();
    assert_eq!(a.duty_by(&other, now), Duty::Renew);
}

#[test]
fn frames_that_come_before_their_keys_open_when_those_are_here_and_are_given_up_after_three_seconds() {
    let given_up = Arc::new(AtomicUsize::new(0));
    let [mut a, mut b] = two();
    let change = b.commit(|group| group.propose_update()).0;
    let sealer = MediaSealer::new(&epoch_keys(&mut b)).expect("a sealer");
    let (track, from) = (TrackId([1; 8]), b.device.key());
    let visible = Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() };
    let mut sealed = Vec::new();
    sealer.seal(&track, &visible, b"sound", &mut sealed).expect("sealed");
    let sealed = sealed.into();
    let object = SealedObject { from: &from, track: &track, visible: &visible, sealed: &sealed };
    let early = EarlyObjects::new(|given_up: Arc<AtomicUsize>| {
        given_up.fetch_add(1, Relaxed);
    });
    let keep = || given_up.clone();
    let keys = a.parts.frame_keys.clone();
    assert!(matches!(early.open(&keys, object, START, keep), (Opened::Later, true)));
    assert!(matches!(early.open(&keys, object, START + SECOND, keep), (Opened::Later, false)), "known already");
    let kept: Vec<_> = early.take(START + SECOND * 4).collect();
    assert_eq!((kept.len(), given_up.load(Relaxed)), (1, 1));
    a.read(&delivery(1, &change), START + SECOND * 4);
    let (Opened::Payload(payload), false) = early.open(&keys, object, START + SECOND * 4, keep) else {
        panic!("its keys are here")
    };
    assert_eq!(payload, b"sound");
}

fn epoch_keys(person: &mut Person) -> supernode_e2ee::EpochKeys {
    let mut keys = None;
    let made = person.parts.membership.make_commit(|group| {
        keys = group.epoch_keys().ok();
        Ok(None)
    });
    assert!(made.is_ok());
    keys.expect("in the group")
}

#[test]
fn a_call_is_over_when_all_others_are_gone_at_once_after_a_goodbye_and_a_room_waits() {
    let [a, mut b] = two();
    let parts = Parts::new(group_of_two(), None, WITHIN, START, &longest).expect("a call");
    let mut call = Person { device: new_device(), parts };
    let over_at = |call: &Person, said_goodbye| call.parts.state.over_at(said_goodbye, GRACE, START + SECOND);
    assert_eq!(over_at(&call, true), None, "nobody has come yet");
    let other = call.parts.state.group().members.iter().map(|member| member.device).nth(1).expect("two of them");
    let joined = MemberJoined { member: 2, device: other.as_bytes().to_vec().into(), ..MemberJoined::default() };
    call.joined(RoomJoined { member: 1, members: vec![joined], ..RoomJoined::default() });
    assert_eq!(over_at(&call, true), None, "they are here");
    call.parts.state.handle_member_left(2, START);
    assert_eq!(over_at(&call, false), Some(START + GRACE));
    assert_eq!(over_at(&call, true), Some(START));
    b.parts.state.handle_member_left(1, START);
    assert_eq!((over_at(&a, true), over_at(&b, true)), (None, None), "a room has a door");
}

/// Of a call of two who were rung.
fn group_of_two() -> Group {
    let (caller, callee) = (new_device(), new_device());
    let offers = [(callee.identity(), callee.key_package().expect("a package"))];
    let exchange = caller.agree(&offers).expect("one that both have");
    let mut group = caller.create_group(RoomId([8; 16]), exchange).expect("a group");
    group.propose_add(&offers, UNIX_S).expect("added");
    group.merge_own().expect("accepted");
    group
}
