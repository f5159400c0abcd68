//! A ring into a call of two that whoever rings has opened, as whoever is rung sees it.

use prost::Message as _;
use supernode_e2ee::{Device, Group, Processed};
use supernode_proto::{
    control,
    identity::{DeviceKey, IdentityKey, RelayPin},
};

use super::{Fault, Greeting, Opened, Revoked, Right, RingPayload, Rules};
use crate::Member;

/// What a ring brings.
#[derive(Debug)]
pub struct Invitation {
    /// Who rings, and from which device: the invitation was sealed with their keys.
    pub caller: Member,
    /// Of the two.
    pub group: Group,
    /// What for.
    pub greeting: Greeting,
    /// By what right: to be checked ([`Self::check`]) before anybody is shown it.
    pub right: Right,
}

impl Invitation {
    /// Opens what came with a ring.
    ///
    /// # Errors
    /// Why it does not open, where the keys say so.
    pub fn open(
        own: &Device,
        ring: &control::IncomingRing,
        now_unix_s: u64,
    ) -> Result<Self, Option<supernode_e2ee::Error>> {
        let identity = IdentityKey::from_slice(&ring.caller).map_err(|_| None)?;
        let device = DeviceKey::from_slice(&ring.caller_device).map_err(|_| None)?;
        let payload = RingPayload::decode(ring.payload.clone()).map_err(|_| None)?;
        let mut group = own.join(&payload.welcome, &identity, &[], now_unix_s).map_err(Some)?;
        let Ok(Processed::Message { from, bytes }) = group.process(&payload.greeting, &|_| false, now_unix_s) else {
            return Err(None);
        };
        let is_caller = from.identity == identity && from.device == device;
        let (greeting, right) = Greeting::decode(&bytes).filter(|_| is_caller).ok_or(None)?;
        Ok(Self { caller: Member { identity, device }, group, greeting, right })
    }

    /// Whether the person who is rung, at this relay, may be shown it. What the caller says of their devices is learned.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        callee: &IdentityKey,
        relay: &RelayPin,
        rules: &Rules,
        revoked: &mut Revoked,
        now_unix_s: u64,
    ) -> Result<(), Fault> {
        let ring = Opened { caller: &self.caller, group: &self.group.room(), callee, relay };
        let checked = self.right.check(&ring, rules, now_unix_s);
        if let Some(word) = self.right.revocation.clone().filter(|word| word.identity == self.caller.identity) {
            revoked.learn(word);
        }
        let is_revoked = revoked.names(&self.caller.identity, &self.caller.device);
        checked.and(if is_revoked { Err(Fault::Revoked) } else { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use supernode_e2ee::{DeviceSecret, IdentitySecret, KeyExchange, Terms};
    use supernode_proto::identity::{Grants, RoomId};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn device() -> Device {
        let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
        let delegation = identity.delegate(&device.public(), NOW + 3600);
        Device::new(device, delegation).expect("a device")
    }

    fn invitation(from: &Device, to: &Device) -> control::IncomingRing {
        let mut group = from.create_group(RoomId([1; 16]), KeyExchange::default()).expect("a group");
        let package = to.key_package().expect("a key package");
        let change = group.propose_add(&[(to.identity(), package)], NOW).expect("a change");
        group.merge_own().expect("nobody objects");
        let caller = Member { identity: from.identity(), device: from.key() };
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: NOW + 60 };
        let right = Right::of(&IdentitySecret::generate().issue_pass(&terms), &caller, &group.room(), NOW);
        let greeting = group.seal_message(&Greeting::Call.encode(&right)).expect("sealed");
        let welcome = change.welcome.expect("somebody is added");
        control::IncomingRing {
            ring: Bytes::new(),
            caller: Bytes::copy_from_slice(from.identity().as_bytes()),
            caller_device: Bytes::copy_from_slice(from.key().as_bytes()),
            payload: RingPayload { welcome, greeting }.encode_to_vec().into(),
            room: Bytes::new(),
        }
    }

    #[test]
    fn an_invitation_opens_only_as_that_of_whoever_rings() {
        let (alice, bob, mallory) = (device(), device(), device());
        let Invitation { caller, group, greeting, .. } =
            Invitation::open(&bob, &invitation(&alice, &bob), NOW).expect("genuine");
        assert_eq!(greeting, Greeting::Call);
        assert_eq!((caller.identity, caller.device), (alice.identity(), alice.key()));
        assert_eq!(group.room(), RoomId([1; 16]));

        let forged = |change: &dyn Fn(&mut control::IncomingRing)| {
            let mut ring = invitation(&alice, &bob);
            change(&mut ring);
            Invitation::open(&bob, &ring, NOW).is_err()
        };
        assert!(forged(&|ring| ring.caller = Bytes::copy_from_slice(mallory.identity().as_bytes())));
        assert!(forged(&|ring| ring.caller_device = Bytes::copy_from_slice(mallory.key().as_bytes())));
        assert!(forged(&|ring| ring.payload = invitation(&alice, &mallory).payload));
        assert!(forged(&|ring| ring.payload = Bytes::from_static(b"junk")));
        assert!(forged(&|ring| ring.caller = Bytes::from_static(b"short")));
    }
}
