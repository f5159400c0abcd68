//! Where whoever fell out of a room knocks, and for how long.

use supernode_e2ee::{LinkSecret, Pass, Terms};
use supernode_proto::identity::Grants;
use supernode_session::Patience;

use super::*;
use crate::rights::Admission;

fn patience() -> Patience {
    Patience { backoff_base: SECOND, backoff_max: SECOND * 8, give_up_after: SECOND * 60 }
}

fn link() -> LinkSecret {
    LinkSecret::from_slice(&[5; 32]).expect("32 bytes")
}

/// A way back, of whoever has only the room's link.
fn by_link(state: &RoomState) -> ComingBack {
    let mut coming = ComingBack::new(&patience(), START);
    assert!(matches!(coming.begin(state, Some(&link())), NextWay::Try(Way::Link(_))));
    coming
}

/// Somebody who has a place that they were never in with, and has been given these passes.
fn new_to_us(doors: &[&Pass]) -> Person {
    let device = new_device();
    let group = device.create_room(RoomId([7; 16]), KeyExchange::default()).expect("a room");
    let doors = doors.iter().map(|pass| pass.to_bytes().to_vec()).collect();
    let admission = Admission { doors, ..Admission::default() };
    let door = Door::of_admission(&admission, group.room(), None, None).expect("a short name");
    Person::new(device, group, Some(&door))
}

#[test]
fn the_link_is_tried_and_then_each_pass_and_all_of_them_again_after_a_wait() {
    let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: UNIX_S + 3600 };
    let [first, second] = [(), ()].map(|()| IdentitySecret::generate().issue_pass(&terms));
    let newcomer = new_to_us(&[&first, &second]);
    let mut coming = ComingBack::new(&patience(), START);
    for wait in [SECOND, SECOND * 2] {
        let mut next = coming.begin(&newcomer.parts.state, Some(&link()));
        let mut tried = Vec::new();
        while let NextWay::Try(way) = next {
            tried.push(match way {
                Way::Link(_) => None,
                Way::Door(pass) => Some(pass.issuer()),
                Way::OldPlace => panic!("it was never inside"),
            });
            // What only some of them say ends nothing.
            let why = if tried.len() < 3 { Hindrance::NotLetIn } else { Hindrance::Passing };
            next = coming.handle_failed(why, &newcomer.parts.state, START, &longest);
        }
        assert_eq!(tried, [None, Some(first.issuer()), Some(second.issuer())]);
        assert!(matches!(next, NextWay::Wait(it) if it == wait), "{next:?}");
    }
}

//
#[test]
fn whoever_was_inside_tries_its_old_place_before_it_tries_all_ways_again() {
    let [mut a, mut inside] = two();
    let mut coming = by_link(&inside.parts.state);
    let mut next = |state: &RoomState| match coming.handle_failed(Hindrance::Passing, state, START, &longest) {
        NextWay::Wait(_) => coming.begin(state, Some(&link())),
        next => next,
    };
    for _ in 0..2 {
        assert!(matches!(next(&inside.parts.state), NextWay::Try(Way::OldPlace)));
        assert!(matches!(next(&inside.parts.state), NextWay::Try(Way::Link(_))));
    }
    let (removal, _) = a.commit(|group| group.propose_remove(&[1]));
    inside.read(&delivery(1, &removal), START);
    assert!(matches!(next(&inside.parts.state), NextWay::Try(Way::Link(_))), "whoever was removed has none");
}

//
#[test]
fn whoever_was_never_inside_and_is_rung_for_by_nobody_four_times_in_a_row_is_shut_out() {
    let newcomer = new_to_us(&[]);
    let [inside, _] = two();
    let mut coming = by_link(&newcomer.parts.state);
    let mut failed = |why, person: &Person| coming.handle_failed(why, &person.parts.state, START, &longest);
    for _ in 0..3 {
        assert!(matches!(failed(Hindrance::NobodyRung, &newcomer), NextWay::Wait(_)));
    }
    let was_inside = failed(Hindrance::NobodyRung, &inside);
    assert!(matches!(was_inside, NextWay::Wait(_)), "who was inside may come back");
    let shut_out = failed(Hindrance::NobodyRung, &newcomer);
    assert!(matches!(shut_out, NextWay::Over(CallEnd::NotLetIn)), "{shut_out:?}");
    assert!(matches!(failed(Hindrance::Passing, &newcomer), NextWay::Wait(_)));
    assert!(matches!(failed(Hindrance::NobodyRung, &newcomer), NextWay::Wait(_)), "not in a row");
}

#[test]
fn it_ends_with_patience_or_at_once_where_nothing_will_change() {
    let [a, _] = two();
    let state = &a.parts.state;
    let failed = |why, now| by_link(state).handle_failed(why, state, now, &longest);
    assert!(matches!(failed(Hindrance::Passing, START), NextWay::Wait(wait) if wait == SECOND));
    let late = START + SECOND * 60;
    for why in [Hindrance::Passing, Hindrance::NobodyRung] {
        assert!(matches!(failed(why, late), NextWay::Over(CallEnd::MissedKeys)), "{why:?}");
    }
    assert!(matches!(failed(Hindrance::Lasting, START), NextWay::Over(CallEnd::MissedKeys)));
    assert!(matches!(failed(Hindrance::NotLetIn, START), NextWay::Over(CallEnd::NotLetIn)), "a member says so");
    let nobody = ComingBack::new(&patience(), START).begin(state, None);
    assert!(matches!(nobody, NextWay::Over(CallEnd::MissedKeys)), "nobody can be asked");
}
