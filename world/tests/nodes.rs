//! Worlds of several nodes that always run.

use supernode_world::nodes::Nodes;

//
#[test]
fn what_must_hold_among_nodes_holds_in_many_worlds() {
    let failed: Vec<_> = (0..60)
        .filter_map(|seed| Nodes::run(seed, false).violation.map(|violation| format!("seed {seed}: {violation}")))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    for seed in [1, 2, 3] {
        let [one, other] = [(); 2].map(|()| Nodes::run(seed, false));
        assert_eq!((one.digest, one.told, one.letters), (other.digest, other.told, other.letters), "seed {seed}");
    }
}

#[test]
fn messages_are_lost_in_them_and_letters_pass() {
    let outcomes: Vec<_> = (0..8).map(|seed| Nodes::run(seed, false)).collect();
    let sum = |figure: fn(&supernode_world::nodes::Outcome) -> u64| outcomes.iter().map(figure).sum::<u64>();
    let (told, lost, letters) = (sum(|it| it.told), sum(|it| it.lost), sum(|it| it.letters));
    assert!(sum(|it| it.delivered) > 100, "nobody says anything in rooms");
    assert!(lost * 20 > told && letters > 100, "of {told} messages {lost} were lost, and {letters} letters passed");
}

#[cfg(feature = "planted")]
#[test]
fn every_fault_that_is_planted_in_nodes_is_found() {
    let found = supernode_world::nodes::find_all(0);
    let missed: Vec<_> = found.iter().filter(|(_, by)| by.is_none()).map(|(fault, _)| fault).collect();
    assert!(found.len() >= 5 && missed.is_empty(), "not found: {missed:?}");
}
