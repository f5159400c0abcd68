//! Worlds that always run.

use supernode_world::{Plan, World, runs::Runs};

#[test]
fn two_runs_of_one_seed_are_the_same() {
    for seed in [1, 2] {
        let [one, other] = [(); 2].map(|()| World::run(&Plan::of(seed), false));
        assert_eq!((one.digest, one.packets, one.objects), (other.digest, other.packets, other.objects), "seed {seed}");
    }
}

#[test]
fn what_must_hold_holds_in_a_few_worlds_and_in_those_that_have_found_something() {
    let runs = Runs::of(&Plan::of(0), 6, |_| ());
    let failed: Vec<String> =
        runs.failures.iter().map(|outcome| format!("{}: {:?}", outcome.plan.command(), outcome.violation)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn whoever_was_lied_to_sees_what_is_true_once_the_relay_lies_no_more() {
    let runs = Runs::of(&Plan { is_lying: true, ..Plan::of(0) }, 4, |_| ());
    let failed: Vec<String> =
        runs.failures.iter().map(|outcome| format!("{}: {:?}", outcome.plan.command(), outcome.violation)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
