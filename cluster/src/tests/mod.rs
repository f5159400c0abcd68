//! The protocol, tried in all ways (`model.rs`) and in many long ones (`walks.rs`).

mod bus;
mod model;
mod walks;

use crate::{NodeNumber, Own, Whereabouts};

/// The node with this number.
fn own(number: u16) -> Own {
    let address = core::net::SocketAddr::from(([192, 0, 2, 1], number));
    Own { number: NodeNumber(number), at: Whereabouts { address, pin: [0; 32] } }
}

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
    /// A node lives under its number though another lives there.
    NumberTakenOver,
    /// What becomes of a life is not heeded where homes are known.
    LivesUnheeded,
    /// Whoever comes back into a room that was empty finds its old home again.
    SameFenceAgain,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::NoSecondLook,
        Self::HeldFromAnswer,
        Self::HeldForEver,
        Self::EndedEarly,
        Self::RipeAtOnce,
        Self::TakenFromUnseen,
        Self::BackAfterGivingUp,
        Self::NumberTakenOver,
        Self::LivesUnheeded,
        Self::SameFenceAgain,
    ];
}

#[test]
fn each_planted_fault_is_found() {
    for fault in Fault::ALL {
        assert!(model::finds(fault) || walks::finds(fault), "{fault:?} is not found");
    }
}
