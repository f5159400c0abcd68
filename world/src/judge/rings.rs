//! One settlement for a ring, one holder for a key package.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use supernode_proto::control::RingResult;

use super::Rule;

type Verdict = Result<(), (Rule, String)>;

/// A ring, as far as anybody knows.
#[derive(Debug, Default)]
struct Ring {
    outcomes: Vec<RingResult>,
    answered_by: Vec<usize>,
}

/// All rings.
#[derive(Debug, Default)]
pub struct Rings {
    by_name: BTreeMap<Bytes, Ring>,
}

impl Rings {
    /// The caller is told how it ended.
    ///
    /// # Errors
    /// What does not hold.
    pub fn outcome(&mut self, name: &Bytes, result: RingResult, device: Option<usize>) -> Verdict {
        let ring = self.by_name.entry(name.clone()).or_default();
        ring.outcomes.push(result);
        if ring.outcomes.len() > 1 {
            return Err((Rule::Ring, format!("a ring was settled more than once: {:?}", ring.outcomes)));
        }
        let answered = result == RingResult::Answered;
        if answered && ring.answered_by.iter().any(|other| Some(*other) != device) {
            return Err((Rule::Ring, format!("{device:?} answered, and so did {:?}", ring.answered_by)));
        }
        Ok(())
    }

    /// A device is told that its answer counts.
    ///
    /// # Errors
    /// What does not hold.
    pub fn answered(&mut self, name: &Bytes, client: usize) -> Verdict {
        let ring = self.by_name.entry(name.clone()).or_default();
        ring.answered_by.push(client);
        let settled_otherwise = ring.outcomes.iter().any(|result| *result != RingResult::Answered);
        if ring.answered_by.len() > 1 || settled_otherwise {
            let Ring { answered_by, outcomes } = ring;
            return Err((Rule::Ring, format!("the answers of {answered_by:?} counted; its caller heard {outcomes:?}")));
        }
        Ok(())
    }
}

/// All key packages.
#[derive(Debug, Default)]
pub struct KeyPackages {
    handed_out: BTreeSet<Bytes>,
    made: u64,
}

/// The first byte of one for the last resort, which is handed out again and again.
const LAST_RESORT: u8 = 1;

impl KeyPackages {
    /// One that differs from all others.
    pub fn fresh(&mut self, is_last_resort: bool) -> Bytes {
        self.made += 1;
        let mut package = vec![if is_last_resort { LAST_RESORT } else { 0 }; 300];
        package[1..9].copy_from_slice(&self.made.to_be_bytes());
        package.into()
    }

    /// Somebody was handed one.
    ///
    /// # Errors
    /// What does not hold.
    pub fn handed_out(&mut self, package: &Bytes) -> Verdict {
        if package.first() != Some(&LAST_RESORT) && !self.handed_out.insert(package.clone()) {
            return Err((Rule::KeyPackage, "a key package was handed out twice".to_owned()));
        }
        Ok(())
    }
}
