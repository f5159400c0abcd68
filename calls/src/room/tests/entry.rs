//! How we come into the relay's room, and what it leads to that we do not.

use super::*;

const fn at_once(step: Step) -> NextStep {
    NextStep::Ask(step, Duration::ZERO)
}

/// A call of those who were rung: it has no door.
fn call() -> Person {
    let parts = Parts::new(group_of_two(), None, WITHIN, START, &longest).expect("a call");
    Person { device: new_device(), parts }
}

//
#[test]
fn whoever_comes_back_reads_what_was_fetched_before_what_came_meanwhile() {
    let [mut a, mut b] = two();
    let changes: Vec<Change> = (0..2).map(|_| a.commit(|group| group.propose_update()).0).collect();
    assert_eq!(b.parts.state.handle_lost(), [Wish::LoseRoutes, Event::Interrupted.into()]);
    let (mut entry, next) = Entry::again();
    assert_eq!(next, at_once(Step::CatchUpBefore));
    assert_eq!(entry.handle_answer(Answer::Granted, &b.parts.state), at_once(Step::Join));
    let joined = RoomJoined { member: 2, mls_epoch: changes[0].epoch + 1, mls_sequence: 1, ..RoomJoined::default() };
    assert_eq!(b.joined(joined), []);
    assert_eq!(entry.handle_answer(Answer::Granted, &b.parts.state), at_once(Step::CatchUpAfter));
    let meanwhile = delivery(2, &changes[1]);
    assert_eq!(b.read(&meanwhile, START), []);
    assert_eq!(b.read(&delivery(1, &changes[0]), START), keys_changed());
    assert_eq!(b.read(&meanwhile, START), [], "it is fetched as well");
    let done = relay_message::Body::Done(Default::default());
    let in_again = b.parts.handle_entry_reply(Step::CatchUpAfter, Ok(&done), CONNECTION, START);
    assert_eq!(entry.handle_answer(Answer::Granted, &b.parts.state), NextStep::Done);
    assert_eq!(in_again, [Wish::Read(Box::new(meanwhile.clone())), Event::Resumed.into()]);
    assert_eq!(b.read(&meanwhile, START), keys_changed());
    assert_eq!(b.parts.state.epoch(), a.parts.state.epoch());
    assert!(!b.parts.state.is_behind());
}

#[test]
fn a_call_that_was_left_by_accident_is_knocked_at_five_times_and_a_room_is_come_back_to_by_its_door() {
    let [room, _] = two();
    let (join_proof, unknown) = (refusal(RefusalReason::JoinProof), refusal(RefusalReason::UnknownRoom));
    let (mut entry, _) = Entry::again();
    assert_eq!(entry.handle_answer(Answer::Refused(&unknown), &room.parts.state), at_once(Step::Join));
    let to_room = entry.handle_answer(Answer::Refused(&join_proof), &room.parts.state);
    assert_eq!(to_room, NextStep::FallBehind, "somebody inside lets us in");

    let call = call();
    let (mut entry, _) = Entry::again();
    assert_eq!(entry.handle_answer(Answer::Granted, &call.parts.state), at_once(Step::Join));
    for _ in 0..4 {
        let again = entry.handle_answer(Answer::Refused(&join_proof), &call.parts.state);
        assert_eq!(again, NextStep::Ask(Step::Join, Duration::from_millis(300)), "they may be about to change the key");
    }
    let in_vain = entry.handle_answer(Answer::Refused(&join_proof), &call.parts.state);
    assert_eq!(in_vain, NextStep::End(CallEnd::NotLetIn));
}

#[test]
fn a_relay_that_says_nothing_or_refuses_for_something_else_is_knocked_at_once() {
    let full = refusal(RefusalReason::Limit);
    for answer in [Answer::Missing, Answer::Refused(&full)] {
        let knock = |person: &Person| {
            let (mut entry, _) = Entry::again();
            entry.handle_answer(Answer::Granted, &person.parts.state);
            entry.handle_answer(answer, &person.parts.state)
        };
        assert_eq!(knock(&two()[0]), NextStep::FallBehind);
        assert_eq!(knock(&call()), NextStep::End(CallEnd::NotLetIn));
    }
}

//
#[test]
fn whoever_comes_for_the_first_time_and_finds_another_key_asks_somebody_inside_if_there_is_a_door() {
    let join_proof = refusal(RefusalReason::JoinProof);
    let knock = |person: &Person, answer: Answer<'_>| {
        let (mut entry, next) = Entry::first();
        assert_eq!(next, at_once(Step::Join));
        entry.handle_answer(answer, &person.parts.state)
    };
    let [room, _] = two();
    assert_eq!(knock(&room, Answer::Refused(&join_proof)), NextStep::FallBehind, "somebody came or went meanwhile");
    assert_eq!(knock(&call(), Answer::Refused(&join_proof)), NextStep::Failed, "nothing to wait for");
    assert_eq!(knock(&room, Answer::Refused(&refusal(RefusalReason::Limit))), NextStep::Failed);
    assert_eq!(knock(&room, Answer::Missing), NextStep::Failed);
}

//
#[test]
fn whoever_is_let_in_again_leaves_first_where_it_has_been_all_the_time() {
    let [mut a, b] = two();
    let (mut entry, next) = Entry::let_in(&a.parts.state, CONNECTION);
    assert_eq!(next, at_once(Step::Leave));
    let done = relay_message::Body::Done(Default::default());
    let left = a.parts.handle_entry_reply(Step::Leave, Ok(&done), CONNECTION, START);
    assert_eq!(left, [Wish::LoseRoutes, Event::Interrupted.into()]);
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), NextStep::TakePlace);
    assert_eq!(entry.handle_place_taken(), at_once(Step::Join));
    let join_proof = refusal(RefusalReason::JoinProof);
    let refused = entry.handle_answer(Answer::Refused(&join_proof), &a.parts.state);
    assert_eq!(refused, NextStep::Failed, "whoever comes back asks for another place");

    let (_, elsewhere) = Entry::let_in(&b.parts.state, CONNECTION + 1);
    assert_eq!(elsewhere, NextStep::TakePlace);
    let (mut entry, _) = Entry::let_in(&b.parts.state, CONNECTION);
    assert_eq!(entry.handle_answer(Answer::Missing, &b.parts.state), NextStep::Failed, "it may be in still");
}

//
#[test]
fn whoever_finds_the_room_empty_opens_it_again_with_the_place_that_it_has() {
    let [mut a, _] = two();
    let epoch = a.parts.state.epoch();
    a.parts.state.fall_behind();
    let (mut entry, next) = Entry::with_old_place(&a.parts.state, CONNECTION);
    assert_eq!(next, at_once(Step::Leave), "the others are to find it empty, too");
    let done = relay_message::Body::Done(Default::default());
    a.parts.handle_entry_reply(Step::Leave, Ok(&done), CONNECTION, START);
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), at_once(Step::Join));
    a.joined(RoomJoined { member: 1, mls_epoch: epoch, ..RoomJoined::default() });
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), NextStep::Done);
    assert!(!a.parts.state.is_behind() && a.parts.state.is_entered_on(CONNECTION));
}

//
#[test]
fn whoever_finds_the_room_in_another_epoch_leaves_it_again() {
    let [mut a, mut b] = two();
    let epoch = a.parts.state.epoch();
    let full = refusal(RefusalReason::Limit);
    for person in [&mut a, &mut b] {
        person.parts.state.handle_lost();
        person.parts.state.fall_behind();
        let (mut entry, next) = Entry::with_old_place(&person.parts.state, CONNECTION);
        assert_eq!(next, at_once(Step::Join));
        assert_eq!(entry.handle_answer(Answer::Refused(&full), &person.parts.state), NextStep::Failed);
    }
    let (mut entry, _) = Entry::with_old_place(&a.parts.state, CONNECTION);
    a.joined(RoomJoined { member: 1, mls_epoch: epoch + 1, ..RoomJoined::default() });
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), at_once(Step::Leave));
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), NextStep::Failed);
    let (mut entry, _) = Entry::with_old_place(&b.parts.state, CONNECTION);
    b.joined(RoomJoined { member: 2, mls_epoch: epoch + 1, mls_sequence: 1, ..RoomJoined::default() });
    assert_eq!(entry.handle_answer(Answer::Granted, &b.parts.state), at_once(Step::CatchUpAfter));
    let gone = refusal(RefusalReason::HistoryGone);
    b.parts.handle_entry_reply(Step::CatchUpAfter, Err(&gone), CONNECTION, START);
    assert_eq!(entry.handle_answer(Answer::Refused(&gone), &b.parts.state), at_once(Step::Leave));
}

//
#[test]
fn a_relay_that_says_that_we_have_left_has_interrupted_us_and_each_time_we_wait_longer() {
    let [mut a, _b] = two();
    assert_eq!(a.parts.state.handle_member_left(1, START), None);
    assert_eq!(a.parts.state.handle_lost(), [Wish::LoseRoutes, Event::Interrupted.into()]);
    assert_eq!(a.parts.state.handle_member_left(1, START), Some(vec![]), "we know");
    for pause in [200, 400, 800, 1600, 3200, 6400, 6400] {
        let (mut entry, next) = Entry::put_out(&mut a.parts.state);
        assert_eq!(next, NextStep::Ask(Step::Leave, Duration::from_millis(pause)));
        // It may have been true.
        let unknown = refusal(RefusalReason::UnknownRoom);
        assert_eq!(a.parts.handle_entry_reply(Step::Leave, Err(&unknown), CONNECTION, START), []);
        let next = entry.handle_answer(Answer::Refused(&unknown), &a.parts.state);
        assert_eq!(next, at_once(Step::CatchUpBefore));
    }
    let (mut entry, _) = Entry::put_out(&mut a.parts.state);
    a.parts.state.fall_behind();
    assert_eq!(entry.handle_answer(Answer::Granted, &a.parts.state), NextStep::Done, "somebody is to let us in");
}
