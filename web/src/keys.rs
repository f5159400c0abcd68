//! Who we are, and on which device: drawn here, and kept by the page, which seals what it is given.

use std::sync::Arc;

use js_sys::Date;
use supernode_client::{
    e2ee::{Device, DeviceSecret, IdentitySecret, Pass, Terms},
    proto::identity::{Grants, RelayPin},
};
use wasm_bindgen::prelude::wasm_bindgen;
use zeroize::Zeroizing;

use crate::trouble::Trouble;

const SECRET_BYTES: usize = 32;
const DAY_S: u64 = 24 * 3600;
/// The device is certified anew at every start.
const DELEGATION_S: u64 = 30 * DAY_S;

/// A person's secret and a device's.
#[wasm_bindgen]
pub struct Keys {
    identity: IdentitySecret,
    device: DeviceSecret,
}

#[wasm_bindgen]
impl Keys {
    /// A new person on a new device.
    pub fn generate() -> Self {
        Self { identity: IdentitySecret::generate(), device: DeviceSecret::generate() }
    }

    /// As they were kept: 64 bytes, the person's first.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let bytes = Zeroizing::new(bytes);
        let (identity, device) = bytes.split_at_checked(SECRET_BYTES)?;
        Some(Self {
            identity: IdentitySecret::from_bytes(identity.try_into().ok()?),
            device: DeviceSecret::from_bytes(device.try_into().ok()?),
        })
    }

    /// To be sealed and kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.identity.to_bytes()[..], &self.device.to_bytes()[..]].concat()
    }

    /// The same person on a new device: where another page of theirs is this one already.
    pub fn on_another_device(&self) -> Self {
        Self { identity: IdentitySecret::from_bytes(&self.identity.to_bytes()), device: DeviceSecret::generate() }
    }

    /// The person's public name.
    pub fn identity(&self) -> String {
        self.identity.public().to_text()
    }

    /// The device's key, in hexadecimal.
    pub fn device(&self) -> String {
        hex(self.device.public().as_bytes())
    }
}

impl Keys {
    /// What takes part in calls.
    pub(crate) fn to_device(&self) -> Result<Arc<Device>, Trouble> {
        let secret = DeviceSecret::from_bytes(&self.device.to_bytes());
        let delegation = self.identity.delegate(&secret.public(), unix_s() + DELEGATION_S);
        Device::new(secret, delegation).map(Arc::new).map_err(|error| Trouble::of(&error.into()))
    }

    /// What lets whoever has it see our presence and ring us, at this relay.
    pub(crate) fn pass(&self, relay: Option<RelayPin>, days: u16) -> Pass {
        self.identity.issue_pass(&Terms {
            grants: Grants::PRESENCE | Grants::RING,
            relay,
            generation: 0,
            not_after_unix_s: unix_s() + u64::from(days) * DAY_S,
        })
    }
}

pub(crate) fn unix_s() -> u64 {
    (Date::now() / 1000.0) as u64
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
