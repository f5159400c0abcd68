//! Faults that are planted in the relay are found.
#![cfg(feature = "planted")]

use supernode_world::planted::{SEEDS_MAX, find_all};

#[test]
fn every_planted_fault_is_found_within_the_stated_number_of_seeds() {
    let found = find_all(0, |_| ());
    assert!(found.len() >= 12);
    let missed: Vec<_> = found.iter().filter(|found| found.by.is_none()).map(|found| found.fault).collect();
    assert!(missed.is_empty(), "not found within {SEEDS_MAX} seeds: {missed:?}");
}
