//! People with devices, for the tests of this crate.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part of it")]

use supernode_e2ee::{Device, DeviceSecret, Group, IdentitySecret, KeyExchange};
use supernode_proto::identity::{IdentityKey, RoomId};

/// The time in these tests. MLS leaf lifetimes go by the system's clock and do not care.
pub const NOW: u64 = 1_800_000_000;
pub const LATER: u64 = NOW + 3600;
pub const ROOM: RoomId = RoomId([7; 16]);

/// For `process`: any identity may be added.
pub fn anybody(_: &IdentityKey) -> bool {
    true
}

/// For `process`: nobody may be added.
pub fn nobody(_: &IdentityKey) -> bool {
    false
}

pub struct Person(pub IdentitySecret);

impl Person {
    pub fn new() -> Self {
        Self(IdentitySecret::generate())
    }

    pub fn key(&self) -> IdentityKey {
        self.0.public()
    }

    pub fn device(&self) -> Device {
        self.device_until(LATER)
    }

    pub fn device_until(&self, not_after_unix_s: u64) -> Device {
        let secret = DeviceSecret::generate();
        let delegation = self.0.delegate(&secret.public(), not_after_unix_s);
        Device::new(secret, delegation).expect("its own delegation")
    }
}

/// `caller`'s group with all `callees` in it, as the caller and as each of them sees it.
pub fn call(caller: &Device, callees: &[&Device]) -> Vec<Group> {
    let mut group = caller.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let packages: Vec<_> =
        callees.iter().map(|device| (device.identity(), device.key_package().expect("a package"))).collect();
    let change = group.propose_add(&packages, NOW).expect("they are who they are");
    group.merge_own().expect("nobody else can object");
    let welcome = change.welcome.expect("somebody was added");
    let expected: Vec<IdentityKey> = callees.iter().map(|device| device.identity()).collect();
    let joined = callees.iter().map(|device| device.join(&welcome, &caller.identity(), &expected, NOW).expect("joins"));
    let mut groups: Vec<Group> = joined.collect();
    groups.insert(0, group);
    groups
}

/// A call between two: the caller's and the callee's device, and their groups.
pub fn two() -> ([Device; 2], [Group; 2]) {
    let devices = [Person::new().device(), Person::new().device()];
    let groups = call(&devices[0], &[&devices[1]]);
    (devices, groups.try_into().expect("two groups"))
}

/// `of` commits fresh keys, and `to` follow.
pub fn update(of: &mut Group, to: &mut [&mut Group]) {
    let change = of.propose_update().expect("an update");
    of.merge_own().expect("accepted");
    for group in to {
        group.process(&change.commit, &nobody, NOW).expect("follows");
    }
}
