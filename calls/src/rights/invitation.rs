//! A ring into a call of two that whoever rings has opened, as whoever rings makes it, and as whoever is rung sees it.

use prost::Message as _;
use supernode_e2ee::{Device, Group, Pass, Processed};
use supernode_proto::{
    control::{self, DeviceKeyPackage, KeyPackages},
    identity::{DeviceKey, IdentityKey, RelayPin, Revocation, RoomId},
    limits,
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

/// What somebody is rung with.
#[derive(Debug)]
pub struct Outgoing {
    /// Of ourselves and all devices that ring; the relay's room of that name is to be open before they do.
    pub group: Group,
    /// What the ring brings.
    pub payload: Vec<u8>,
}

/// Why nobody can be rung so.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// A key package does not do.
    #[error(transparent)]
    EndToEnd(#[from] supernode_e2ee::Error),
    /// A key package is of a device that counts no more, whatever the relay called it.
    #[error("a key package of a device that its owner has taken back")]
    Revoked,
    /// No device is left to ring.
    #[error("there is no key package to ring with")]
    NobodyToRing,
    /// The Welcome for all devices is too long: so long, in bytes.
    #[error("the Welcome for all devices has {0} bytes: at most {max}", max = limits::RING_PAYLOAD_BYTES_MAX)]
    TooLarge(usize),
}

/// What whoever is rung is told.
#[derive(Debug)]
pub struct Ringing<'a> {
    /// By what right.
    pub pass: &'a Pass,
    /// What for.
    pub greeting: &'a Greeting,
    /// Our person's newest word on our devices.
    pub revocation: Option<Revocation>,
}

impl Outgoing {
    /// To all devices of `callee` that the relay has key packages of and that count ([`Revoked::names`] says which do not).
    /// `room` is a name that nobody else has.
    ///
    /// # Errors
    /// [`OutgoingError`].
    pub fn new(
        own: &Device,
        callee: &IdentityKey,
        packages: KeyPackages,
        ringing: Ringing<'_>,
        is_revoked: impl Fn(&IdentityKey, &DeviceKey) -> bool,
        room: RoomId,
        now_unix_s: u64,
    ) -> Result<Self, OutgoingError> {
        // The relay says whose package it is; what counts is who is in the group afterwards.
        let counts = |device: &DeviceKeyPackage| {
            DeviceKey::from_slice(&device.device).is_ok_and(|named| !is_revoked(callee, &named))
        };
        let packages = packages.packages.into_iter().filter(counts);
        let packages: Vec<_> = packages.map(|device| (*callee, device.package.to_vec())).collect();
        let mut group = own.create_group(room, own.agree(&packages)?)?;
        let change = group.propose_add(&packages, now_unix_s)?;
        // Nobody else is in the group yet who could have made another commit.
        group.merge_own()?;
        if group.members().iter().any(|member| is_revoked(&member.identity, &member.device)) {
            return Err(OutgoingError::Revoked);
        }
        let welcome = change.welcome.ok_or(OutgoingError::NobodyToRing)?;
        let ourselves = Member { identity: own.identity(), device: own.key() };
        let Ringing { pass, greeting, revocation } = ringing;
        let right = Right { revocation, ..Right::of(pass, &ourselves, &room, now_unix_s) };
        let greeting = group.seal_message(&greeting.encode(&right))?;
        let payload = RingPayload { welcome, greeting }.encode_to_vec();
        if payload.len() > limits::RING_PAYLOAD_BYTES_MAX {
            return Err(OutgoingError::TooLarge(payload.len()));
        }
        Ok(Self { group, payload })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use supernode_e2ee::{DeviceSecret, IdentitySecret, Terms};
    use supernode_proto::identity::Grants;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn device() -> Device {
        let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
        let delegation = identity.delegate(&device.public(), NOW + 3600);
        Device::new(device, delegation).expect("a device")
    }

    fn pass() -> Pass {
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: NOW + 60 };
        IdentitySecret::generate().issue_pass(&terms)
    }

    /// What the relay has of these devices, each under the name that stands beside it.
    fn packages(devices: &[(&Device, DeviceKey)]) -> KeyPackages {
        let package = |(device, named): &(&Device, DeviceKey)| DeviceKeyPackage {
            device: Bytes::copy_from_slice(named.as_bytes()),
            package: device.key_package().expect("a key package").into(),
        };
        KeyPackages { packages: devices.iter().map(package).collect() }
    }

    fn ring(
        from: &Device,
        to: &IdentityKey,
        packages: KeyPackages,
        revoked: &Revoked,
    ) -> Result<Outgoing, OutgoingError> {
        let ringing = Ringing { pass: &pass(), greeting: &Greeting::Call, revocation: None };
        Outgoing::new(from, to, packages, ringing, |who, device| revoked.names(who, device), RoomId([1; 16]), NOW)
    }

    fn invitation(from: &Device, to: &Device) -> control::IncomingRing {
        let packages = packages(&[(to, to.key())]);
        let outgoing = ring(from, &to.identity(), packages, &Revoked::default()).expect("a ring");
        control::IncomingRing {
            ring: Bytes::new(),
            caller: Bytes::copy_from_slice(from.identity().as_bytes()),
            caller_device: Bytes::copy_from_slice(from.key().as_bytes()),
            payload: outgoing.payload.into(),
            room: Bytes::new(),
        }
    }

    //
    #[test]
    fn a_device_that_was_taken_back_is_not_rung_whatever_the_relay_calls_it() {
        let alice = device();
        let (bob, phone) = (IdentitySecret::generate(), DeviceSecret::generate());
        let delegation = bob.delegate(&phone.public(), NOW + 3600);
        let phone = Device::new(phone, delegation).expect("a device");
        let mut revoked = Revoked::default();
        assert!(revoked.learn(bob.revoke(vec![phone.key()], 1).expect("few enough")));
        let callee = bob.public();
        let named = ring(&alice, &callee, packages(&[(&phone, phone.key())]), &revoked);
        assert!(named.is_err(), "nobody is left to ring");
        let lied = ring(&alice, &callee, packages(&[(&phone, DeviceKey::new([9; 32]))]), &revoked);
        assert!(matches!(lied, Err(OutgoingError::Revoked)));
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
