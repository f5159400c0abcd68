//! Faults that are planted in the relay, and within how many seeds each must be found.

use supernode_server::planted::{Fault, plant};

use crate::{Outcome, Plan, World};

/// Within so many seeds every fault is found, from whichever seed on.
pub const SEEDS_MAX: u64 = 200;

/// What came of one fault.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub fault: Fault,
    /// The world that found it, and how many it took; `None` if none did.
    pub by: Option<(Outcome, u64)>,
}

/// Plants each fault in worlds of one seed after the other, from this one on, until it is found.
pub fn find_all(from: u64, mut told: impl FnMut(&Found)) -> Vec<Found> {
    let find = |fault: &Fault| {
        let found = Found { fault: *fault, by: find(*fault, from) };
        told(&found);
        found
    };
    Fault::ALL.iter().map(find).collect()
}

fn find(fault: Fault, from: u64) -> Option<(Outcome, u64)> {
    (0..SEEDS_MAX).find_map(|tried| {
        plant(Some(fault));
        let outcome = World::run(&Plan::of(from.wrapping_add(tried)), false);
        plant(None);
        outcome.violation.is_some().then_some((outcome, tried + 1))
    })
}
