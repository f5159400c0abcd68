//! The right to ring, as it travels inside the ring: whatever the relay let through, whoever is rung checks it.

use std::collections::HashSet;

use supernode_e2ee::Pass;
use supernode_proto::identity::{Grants, IdentityError, IdentityKey, Presenter, RelayPin, Revocation, RoomId, Ticket};

use crate::Member;

/// How far the clocks of two people may be apart, the time that a ring takes included. Unit: seconds. A day: clocks
/// are hours off, and nobody's word on the time is to be believed. This only bounds how late a relay can bring a
/// ring; that it brings none twice is the key packages' doing.
const RING_AGE_S_MAX: u64 = 86_400;

/// What a greeting shows of the right to ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The ticket.
    pub ticket: Ticket,
    /// By the ticket's key, if it has one.
    pub proof: Vec<u8>,
    /// When the ring began, by the caller's clock.
    pub unix_s: u64,
    /// The caller's word on which of their devices count no more.
    pub revocation: Option<Revocation>,
}

/// Which of our own tickets count, and whom none helps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Tickets of a lower one were taken back.
    pub generation: u32,
    /// Whom no ticket helps.
    pub blocked: HashSet<IdentityKey>,
}

/// Why a ring is not shown to anybody. The caller is told that this device is busy, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not hold, or is shown by somebody else.
    #[error("the ticket does not hold or is not the caller's")]
    Ticket(#[from] IdentityError),
    /// It is for something else.
    #[error("the ticket is somebody else's, or does not let its holder ring at this relay")]
    Scope,
    /// Its generation is too low.
    #[error("the ticket was taken back")]
    TakenBack,
    /// We want to hear nothing of them.
    #[error("the caller is shut out")]
    ShutOut,
    /// By a word of theirs.
    #[error("the caller has taken the device back that rings")]
    Revoked,
    /// It was held back, or a clock is wrong.
    #[error("the ring is more than {RING_AGE_S_MAX} s from now")]
    Time,
}

/// What is known of a ring once its Welcome is open.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// Who rings: they sealed the greeting.
    pub caller: &'a Member,
    /// The group of caller and callee.
    pub group: &'a RoomId,
    /// Who is rung.
    pub callee: &'a IdentityKey,
    /// By which relay.
    pub relay: &'a RelayPin,
}

impl Right {
    /// Of a ring that begins now.
    pub fn of(pass: &Pass, caller: &Member, group: &RoomId, unix_s: u64) -> Self {
        let proof = pass.show_in_ring(group, unix_s, &caller.device);
        Self { ticket: pass.ticket().clone(), proof, unix_s, revocation: None }
    }

    /// Whether this ring may be shown.
    pub fn check(&self, ring: &Opened<'_>, rules: &Rules, now_unix_s: u64) -> Result<(), Fault> {
        let Self { ticket, proof, unix_s, .. } = self;
        let presenter = Presenter { identity: ring.caller.identity, device: ring.caller.device };
        if ticket.issuer != *ring.callee || !ticket.allows(Grants::RING, ring.relay) {
            return Err(Fault::Scope);
        }
        ticket.verify(now_unix_s)?;
        ticket.verify_ring(&presenter, ring.group, *unix_s, proof)?;
        if ticket.generation < rules.generation {
            return Err(Fault::TakenBack);
        }
        if rules.blocked.contains(&presenter.identity) {
            return Err(Fault::ShutOut);
        }
        if unix_s.abs_diff(now_unix_s) > RING_AGE_S_MAX {
            return Err(Fault::Time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{DeviceSecret, IdentitySecret, Terms};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const RELAY: RelayPin = RelayPin([1; 32]);
    const GROUP: RoomId = RoomId([2; 16]);

    //
    #[test]
    fn a_ring_shows_only_if_its_own_ticket_holds_for_this_caller_callee_relay_generation_group_and_time() {
        let [alice, bob] = [(), ()].map(|()| IdentitySecret::generate());
        let caller = Member { identity: alice.public(), device: DeviceSecret::generate().public() };
        let terms = Terms { grants: Grants::RING, relay: Some(RELAY), generation: 3, not_after_unix_s: NOW + 60 };
        let right = |terms: &Terms| Right::of(&bob.issue_pass(terms), &caller, &GROUP, NOW);
        let good = right(&terms);
        let ring = Opened { caller: &caller, group: &GROUP, callee: &bob.public(), relay: &RELAY };
        let rules = Rules { generation: 3, ..Rules::default() };
        assert_eq!(good.check(&ring, &rules, NOW), Ok(()));
        let made_out = Right::of(&bob.issue_pass_for(alice.public(), &terms), &caller, &GROUP, NOW);
        assert_eq!(made_out.check(&ring, &rules, NOW), Ok(()));

        let stranger = Member { identity: bob.public(), ..caller };
        let by_stranger = Opened { caller: &stranger, ..ring };
        assert_eq!(made_out.check(&by_stranger, &rules, NOW), Err(Fault::Ticket(IdentityError::Holder)));
        let other_device = Member { device: DeviceSecret::generate().public(), ..caller };
        let unproven = Err(Fault::Ticket(IdentityError::Signature { field: "ticket proof" }));
        assert_eq!(good.check(&Opened { caller: &other_device, ..ring }, &rules, NOW), unproven);
        assert_eq!(good.check(&Opened { group: &RoomId([9; 16]), ..ring }, &rules, NOW), unproven, "another ring's");
        assert_eq!(Right { unix_s: NOW + 1, ..good.clone() }.check(&ring, &rules, NOW), unproven);
        let forged = Right { ticket: Ticket { generation: 4, ..good.ticket.clone() }, ..good.clone() };
        assert!(matches!(forged.check(&ring, &rules, NOW), Err(Fault::Ticket(_))));

        assert_eq!(good.check(&Opened { callee: &alice.public(), ..ring }, &rules, NOW), Err(Fault::Scope));
        assert_eq!(good.check(&Opened { relay: &RelayPin([8; 32]), ..ring }, &rules, NOW), Err(Fault::Scope));
        let sight = right(&Terms { grants: Grants::PRESENCE, ..terms });
        assert_eq!(sight.check(&ring, &rules, NOW), Err(Fault::Scope));
        let old = right(&Terms { generation: 2, ..terms });
        assert_eq!(old.check(&ring, &rules, NOW), Err(Fault::TakenBack));
        let shut_out = Rules { blocked: HashSet::from([alice.public()]), ..rules.clone() };
        assert_eq!(good.check(&ring, &shut_out, NOW), Err(Fault::ShutOut));
        let expired = Err(Fault::Ticket(IdentityError::Expired { field: "ticket" }));
        assert_eq!(good.check(&ring, &rules, NOW + 61), expired);
        let lasting = Right::of(
            &bob.issue_pass(&Terms { not_after_unix_s: NOW + 2 * RING_AGE_S_MAX, ..terms }),
            &caller,
            &GROUP,
            NOW,
        );
        assert_eq!(lasting.check(&ring, &rules, NOW + RING_AGE_S_MAX), Ok(()));
        assert_eq!(lasting.check(&ring, &rules, NOW + RING_AGE_S_MAX + 1), Err(Fault::Time), "held back");
        assert_eq!(lasting.check(&ring, &rules, NOW - RING_AGE_S_MAX - 1), Err(Fault::Time));
    }
}
