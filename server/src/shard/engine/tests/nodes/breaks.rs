//! Links that end, and what everybody is told.

use super::*;

//
#[test]
fn nodes_that_are_cut_off_are_gone_for_each_other_and_come_again() {
    let mut cluster = Cluster::of(vec![Relay::new(1, true), Relay::new(2, true), Relay::new(3, true)]);
    cluster.introduce();
    cluster.until_all_are_up();
    cluster.write_all();
    cluster.pass(Duration::from_millis(100));
    cluster.cut = vec![(1, 2), (2, 1)];
    let at = cluster.now.instant;
    cluster.write((0, 0), (1, 1));
    cluster.until("each is told that the other is gone", |cluster| {
        let gone = |relay: usize, node| cluster.relays[relay].told.iter().all(|told| told.contains(&Told::Gone(node)));
        gone(0, 2) && gone(1, 1)
    });
    assert!(cluster.now.instant - at < Duration::from_millis(4_500), "within a lease");
    let lost = cluster.number;
    cluster.cut.clear();
    cluster.until_all_are_up();
    cluster.write_all();
    cluster.pass(Duration::from_millis(200));
    for relay in &cluster.relays {
        for told in &relay.told {
            (1..=3).for_each(|node| assert_in_order_of(told, node));
            assert!(!numbers(told).contains(&lost), "what was written to one who was cut off does not come late");
        }
    }
    let third = &cluster.relays[2].told;
    assert!(third.iter().all(|told| !told.iter().any(|told| matches!(told, Told::Gone(_)))), "nobody left it");
    assert!(third.iter().all(|told| numbers(told).len() == 8), "{third:?}");
}

/// As [`assert_in_order`], where letters of others may come meanwhile.
fn assert_in_order_of(told: &[Told], node: u16) {
    let words: Vec<Told> = told.iter().filter(|told| !matches!(told, Told::Letter(_))).cloned().collect();
    assert_in_order(&words, node);
}

//
#[test]
fn a_way_that_is_cut_in_one_direction_ends_both() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    cluster.cut = vec![(1, 2)];
    cluster.until("both know", |cluster| {
        cluster.relays.iter().all(|relay| relay.told.iter().all(|told| told.contains(&Told::Gone(3 - relay.node))))
    });
    cluster.cut.clear();
    cluster.until_all_are_up();
    cluster.pass(Duration::from_secs(5));
    for relay in &cluster.relays {
        relay.told.iter().for_each(|told| assert_in_order(told, 3 - relay.node));
        let came = relay.told[0].iter().filter(|told| **told == Told::Came(3 - relay.node)).count();
        assert!(came <= 3, "it comes to rest: {:?}", relay.told[0]);
        assert_eq!(relay.up(), (SHARDS, SHARDS));
    }
}

//
#[test]
fn another_life_of_a_node_is_met_anew_and_the_old_one_is_gone_at_once() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    let at = cluster.now.instant;
    cluster.relays[1].life += 1;
    cluster.introduce();
    cluster.until("the old one is gone", |cluster| {
        cluster.relays[0].told.iter().all(|told| told.contains(&Told::Gone(2)))
    });
    assert!(cluster.now.instant - at < Duration::from_millis(50));
    cluster.until_all_are_up();
    cluster.write_all();
    cluster.pass(Duration::from_millis(100));
    for relay in &cluster.relays {
        relay.told.iter().for_each(|told| assert_in_order(told, 3 - relay.node));
        assert!(relay.told.iter().all(|told| numbers(told).len() == 2));
    }
    cluster.relays[0].know(vec![]);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.relays[0].up(), (0, 0), "who is not in the book any more has no link");
    assert!(cluster.relays[0].told.iter().all(|told| told.last() == Some(&Told::Gone(2))));
}

//
#[test]
fn a_queue_that_overflows_breaks_the_link_at_once_and_nothing_of_it_comes_late() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    cluster.cut = vec![(1, 2), (2, 1)];
    let at = cluster.now.instant;
    let words = ControlMail::FromNode { from: NodeId(1), words: vec![0; 500_000].into() };
    for _ in 0..10 {
        let engine = &mut cluster.relays[0].engines[0];
        engine.outbox.mail(Address { node: NodeId(2), shard: ShardId(0) }, words.clone());
        engine.carry_out(cluster.now);
    }
    cluster.until("its own shards are told", |cluster| {
        cluster.relays[0].told.iter().all(|told| told.contains(&Told::Gone(2)))
    });
    assert!(cluster.now.instant - at < Duration::from_millis(50), "not only when the silence is noticed");
    assert!(cluster.relays[0].figures(|figures| figures.letters_lost) >= 8);
    cluster.cut.clear();
    cluster.until("the other knows as well", |cluster| {
        cluster.relays[1].told.iter().all(|told| told.contains(&Told::Gone(1)))
    });
    cluster.until_all_are_up();
    let number = cluster.write((0, 0), (1, 0));
    cluster.pass(Duration::from_millis(100));
    assert_eq!(numbers(&cluster.relays[1].told[0]), [number], "and no letter of before");
}

//
#[test]
fn a_node_is_left_unread_while_a_shard_here_has_much_mail_to_take() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    // Letters of 800 KB for a shard that takes none.
    let words = ControlMail::FromNode { from: NodeId(1), words: vec![0; 800_000].into() };
    for _ in 0..4 {
        let engine = &mut cluster.relays[0].engines[0];
        engine.outbox.mail(Address { node: NodeId(2), shard: ShardId(0) }, words.clone());
        engine.carry_out(cluster.now);
    }
    let most = |cluster: &Cluster| cluster.relays[1].postboxes[0].control_bytes();
    let mut seen = 0;
    for _ in 0..200 {
        // The shard that reads the link turns, the one that is written to does not.
        cluster.turn_but(Some((1, 0)));
        seen = seen.max(most(&cluster));
    }
    assert!((2_000_000..3_000_000).contains(&seen), "{seen}: a shard's part, and what the last letter is more");
    cluster.until("the rest has come", |cluster| numbers(&cluster.relays[1].told[0]).len() >= 4);
}
