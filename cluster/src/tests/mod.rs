//! The protocol, tried in all ways (`model.rs`) and in many long ones (`walks.rs`).

mod bus;
mod model;
mod walks;

/// What can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A node does not ask for the epoch again after its first write.
    NoSecondLook,
    /// A life is held from when the bucket's answer came.
    HeldFromAnswer,
    /// A life that was once written is held for ever.
    HeldForEver,
    /// A life is ended after half of the time.
    EndedEarly,
    /// Homes are taken as soon as an epoch is seen.
    RipeAtOnce,
    /// A life of which nothing was seen counts as over.
    TakenFromUnseen,
    /// Whoever gave a home up and wants it again trusts the old record.
    BackAfterGivingUp,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] = [
        Self::NoSecondLook,
        Self::HeldFromAnswer,
        Self::HeldForEver,
        Self::EndedEarly,
        Self::RipeAtOnce,
        Self::TakenFromUnseen,
        Self::BackAfterGivingUp,
    ];
}

#[test]
fn each_planted_fault_is_found() {
    for fault in Fault::ALL {
        assert!(model::finds(fault) || walks::finds(fault), "{fault:?} is not found");
    }
}
