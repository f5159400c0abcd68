//! Identity files: a person's and a device's secret keys, readable by their owner only.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context, anyhow};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use supernode_client::{
    e2ee::{Device, DeviceSecret, IdentitySecret},
    proto::identity::{Grants, IdentityKey},
};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;

const DAY_S: u64 = 24 * 3600;
/// The device is certified anew at every start.
const DELEGATION_S: u64 = 30 * DAY_S;

/// The file: JSON, secrets in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    name: Option<String>,
    /// The public name, for whoever looks into the file.
    identity: String,
    identity_secret: String,
    device_secret: String,
}

impl Drop for IdentityFile {
    fn drop(&mut self) {
        self.identity_secret.zeroize();
        self.device_secret.zeroize();
    }
}

/// Who we are.
pub(crate) struct Identity {
    identity: IdentitySecret,
    device: DeviceSecret,
}

/// Makes an identity file and returns the public name.
pub(crate) fn create(path: &Path, name: Option<String>) -> Result<String, Failure> {
    let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
    let file = IdentityFile {
        name,
        identity: identity.public().to_text(),
        identity_secret: HEXLOWER.encode(&*identity.to_bytes()),
        device_secret: HEXLOWER.encode(&*device.to_bytes()),
    };
    write_new(path, &file).map_err(Failure::here)?;
    Ok(file.identity.clone())
}

fn write_new(path: &Path, file: &IdentityFile) -> anyhow::Result<()> {
    let text = Zeroizing::new(serde_json::to_string_pretty(file)?);
    let mut options = fs::OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    out.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads an identity file.
pub(crate) fn load(path: &Path) -> Result<Identity, Failure> {
    read(path).with_context(|| path.display().to_string()).map_err(Failure::here)
}

fn read(path: &Path) -> anyhow::Result<Identity> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    // The words say where in the file, and never what is there.
    let file: IdentityFile = serde_json::from_str(&text).map_err(|error| {
        anyhow!("is no identity file, as `supernode-call identity --out FILE` makes them ({error})")
    })?;
    let identity = IdentitySecret::from_bytes(&*secret("identity_secret", &file.identity_secret)?);
    if identity.public().to_text() != file.identity {
        return Err(anyhow!("identity is not the public name of identity_secret"));
    }
    let device = DeviceSecret::from_bytes(&*secret("device_secret", &file.device_secret)?);
    Ok(Identity { identity, device })
}

/// The message names the field and never what is in it.
fn secret(field: &'static str, text: &str) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).map_err(|_| anyhow!("{field} is not hexadecimal"))?);
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| anyhow!("{field} is not 32 bytes"))?;
    Ok(Zeroizing::new(bytes))
}

impl Identity {
    /// The text of a ticket to see our presence and to ring us.
    pub(crate) fn ticket(&self, holder: Option<IdentityKey>, days: u16) -> String {
        let not_after = unix_s() + u64::from(days) * DAY_S;
        self.identity.issue_ticket(holder, Grants::PRESENCE | Grants::RING, not_after).to_text()
    }

    /// The device that takes part in calls.
    pub(crate) fn into_device(self) -> Result<Arc<Device>, Failure> {
        let delegation = self.identity.delegate(&self.device.public(), unix_s() + DELEGATION_S);
        Device::new(self.device, delegation).map(Arc::new).map_err(|error| Failure::here(error.into()))
    }
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_file_is_private_and_comes_back_and_is_never_overwritten() {
        let directory = std::env::temp_dir().join(format!("supernode-identity-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("alice.json");
        let name = create(&path, Some("Alice".into())).expect("created");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&path).expect("read").identity.public().to_text(), name);
        create(&path, None).expect_err("it exists");
        assert_eq!(load(&path).expect("untouched").identity.public().to_text(), name);
        fs::remove_dir_all(&directory).expect("cleaned up");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        let told = secret("device_secret", "00ff").expect_err("too short").to_string();
        assert_eq!(told, "device_secret is not 32 bytes");
        assert_eq!(secret("device_secret", "xy").expect_err("no hex").to_string(), "device_secret is not hexadecimal");
    }
}
