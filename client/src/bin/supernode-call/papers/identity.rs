//! Identity files: a person's and a device's secret keys, readable by their owner only.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::SystemTime};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use supernode_client::{
    e2ee::{Device, DeviceSecret, IdentitySecret, Pass, Terms},
    proto::identity::{Delegation, DeviceKey, Grants, IdentityKey, RelayPin, Revocation},
};
use zeroize::{Zeroize, Zeroizing};

use crate::trouble::Trouble;

const DAY_S: u64 = 24 * 3600;
/// The device is certified anew at every start.
const DELEGATION_S: u64 = 30 * DAY_S;

/// The file: JSON, secrets in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    name: Option<String>,
    /// The public name, for whoever looks into the file; missing as long as a device is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// On the one device that can make tickets and certify others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_secret: Option<String>,
    device_secret: String,
    /// Of a device that does not have the identity's secret: what lets it act for the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delegation: Option<String>,
    /// Tickets of a lower one were taken back.
    #[serde(default)]
    ticket_generation: u32,
    /// Other devices that were certified here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    devices: Vec<OtherDevice>,
    /// The newest word on which devices count no more, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revocation: Option<String>,
}

/// A device that we have certified.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherDevice {
    device: String,
    name: Option<String>,
    not_after_unix_s: u64,
}

impl Drop for IdentityFile {
    fn drop(&mut self) {
        self.identity_secret.zeroize();
        self.device_secret.zeroize();
    }
}

/// Who we are.
pub(crate) struct Identity {
    /// Its file, for words.
    path: String,
    /// Missing on a device that another one has certified.
    identity: Option<IdentitySecret>,
    device: DeviceSecret,
    delegation: Option<Delegation>,
    ticket_generation: u32,
    revocation: Option<Revocation>,
}

/// Makes an identity file and returns the public name.
pub(crate) fn create(path: &Path, name: Option<String>) -> Result<String, Trouble> {
    let identity = IdentitySecret::generate();
    let mut file = new_file(name, &DeviceSecret::generate());
    let public = identity.public().to_text();
    file.identity = Some(public.clone());
    file.identity_secret = Some(HEXLOWER.encode(&*identity.to_bytes()));
    write_new(path, &file)?;
    Ok(public)
}

fn new_file(name: Option<String>, device: &DeviceSecret) -> IdentityFile {
    IdentityFile {
        name,
        identity: None,
        identity_secret: None,
        device_secret: HEXLOWER.encode(&*device.to_bytes()),
        delegation: None,
        ticket_generation: 0,
        devices: Vec::new(),
        revocation: None,
    }
}

/// Makes the file of a new device, which is nobody's yet, and returns its public name.
pub(crate) fn request_device(path: &Path, name: Option<String>) -> Result<String, Trouble> {
    let device = DeviceSecret::generate();
    write_new(path, &new_file(name, &device))?;
    Ok(device.public().to_text())
}

/// Certifies a device, notes that, and returns what it is to be given.
pub(crate) fn sign_device(path: &Path, device: DeviceKey, name: Option<String>, days: u16) -> Result<String, Trouble> {
    change(path, |file, who| {
        let not_after_unix_s = unix_s() + u64::from(days) * DAY_S;
        let delegation = who.secret()?.delegate(&device, not_after_unix_s);
        let device = device.to_text();
        file.devices.retain(|known| known.device != device);
        file.devices.push(OtherDevice { device, name, not_after_unix_s });
        Ok(delegation.to_text())
    })
}

/// Keeps what lets this device act for somebody, and returns their public name.
pub(crate) fn accept_delegation(path: &Path, delegation: &Delegation) -> Result<String, Trouble> {
    change(path, |file, who| {
        if who.identity.is_some() {
            return Err(Trouble::HasSecret { path: who.path.clone() });
        }
        if delegation.device != who.device.public() {
            return Err(Trouble::OtherDevice { path: who.path.clone() });
        }
        let held = delegation.verify(unix_s());
        held.map_err(|source| Trouble::Delegation { path: who.path.clone(), source })?;
        let identity = delegation.identity.to_text();
        (file.identity, file.delegation) = (Some(identity.clone()), Some(HEXLOWER.encode(&delegation.to_bytes())));
        Ok(identity)
    })
}

/// Takes a device back. Those whose delegations have run out are no longer named.
pub(crate) fn revoke_device(path: &Path, device: DeviceKey) -> Result<(), Trouble> {
    change(path, |file, who| {
        let still_holds = |named: &DeviceKey| {
            let known = file.devices.iter().find(|known| known.device == named.to_text());
            known.is_none_or(|known| known.not_after_unix_s >= unix_s())
        };
        let before = who.revocation.as_ref();
        let mut devices: Vec<DeviceKey> = before.map(|word| word.devices.clone()).unwrap_or_default();
        devices.retain(|named| *named != device && still_holds(named));
        devices.push(device);
        let number = unix_s().max(before.map_or(0, |word| word.number + 1));
        let word = who.secret()?.revoke(devices, number);
        let word = word.map_err(|source| Trouble::TooManyDevices { path: who.path.clone(), source })?;
        file.revocation = Some(HEXLOWER.encode(&word.to_bytes()));
        Ok(())
    })
}

/// Keeps a newer word on which devices count no more.
pub(crate) fn keep_revocation(path: &Path, word: &Revocation) -> Result<(), Trouble> {
    change(path, |file, _| {
        file.revocation = Some(HEXLOWER.encode(&word.to_bytes()));
        Ok(())
    })
}

/// A line for each of our devices.
pub(crate) fn devices(path: &Path) -> Result<Vec<String>, Trouble> {
    let (file, who) = (read_file(path)?, load(path)?);
    let revoked =
        |device: &str| who.revocation.iter().flat_map(|word| &word.devices).any(|named| named.to_text() == device);
    let line = |device: &str, until: &str, name: Option<&str>| {
        let state = if revoked(device) { "taken back" } else { until };
        format!("{device} {state:<11} {}", name.unwrap_or("-"))
    };
    let own = line(&who.device.public().to_text(), "this one", file.name.as_deref());
    let others = file.devices.iter().map(|known| {
        let days = known.not_after_unix_s.saturating_sub(unix_s()) / DAY_S;
        line(&known.device, &format!("{days} days"), known.name.as_deref())
    });
    Ok(std::iter::once(own).chain(others).collect())
}

fn write_new(path: &Path, file: &IdentityFile) -> Result<(), Trouble> {
    let text = Zeroizing::new(serde_json::to_string_pretty(file).expect("texts and numbers are JSON"));
    let mut options = fs::OpenOptions::new();
    let out = options.write(true).create_new(true).mode(0o600).open(path);
    out.and_then(|mut out| out.write_all(text.as_bytes())).map_err(Trouble::write(path))
}

/// Takes all tickets back that there are: those made from now on are of the next generation.
pub(crate) fn void_tickets(path: &Path) -> Result<(), Trouble> {
    change(path, |file, who| {
        let none = || who.broken("ticket_generation", "has no next one");
        file.ticket_generation = file.ticket_generation.checked_add(1).ok_or_else(none)?;
        Ok(())
    })
}

/// Changes what is in a file.
fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut IdentityFile, &Identity) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let (mut file, who) = (read_file(path)?, load(path)?);
    let result = change(&mut file, &who)?;
    // Whole or not at all: the secrets in it are all that there is of this person.
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = std::path::PathBuf::from(name);
    write_new(&new, &file)?;
    fs::rename(&new, path).map_err(Trouble::write(path))?;
    Ok(result)
}

fn read_file(path: &Path) -> Result<IdentityFile, Trouble> {
    let text = Zeroizing::new(fs::read_to_string(path).map_err(Trouble::read(path))?);
    // The words say where in the file, and never what is there.
    serde_json::from_str(&text).map_err(|source| Trouble::NoIdentity { path: path.display().to_string(), source })
}

/// Reads an identity file.
pub(crate) fn load(path: &Path) -> Result<Identity, Trouble> {
    let file = read_file(path)?;
    let broken = |field, problem| Trouble::Broken { path: path.display().to_string(), field, problem };
    let secret = |field, text: &str| secret(text).map_err(|problem| broken(field, problem));
    let identity = file.identity_secret.as_deref().map(|text| secret("identity_secret", text)).transpose()?;
    let identity = identity.map(|bytes| IdentitySecret::from_bytes(&bytes));
    if identity.as_ref().is_some_and(|identity| Some(identity.public().to_text()) != file.identity) {
        return Err(broken("identity", "is not the public name of identity_secret"));
    }
    let public = |field, text: &Option<String>| {
        let bytes = text.as_ref().map(|text| HEXLOWER.decode(text.as_bytes()));
        bytes.transpose().map_err(|_| broken(field, NO_HEX))
    };
    let delegation = public("delegation", &file.delegation)?;
    let delegation = delegation.map(|bytes| Delegation::from_bytes(&bytes)).transpose();
    let revocation = public("revocation", &file.revocation)?;
    let revocation = revocation.map(|bytes| Revocation::from_bytes(&bytes)).transpose();
    Ok(Identity {
        path: path.display().to_string(),
        identity,
        device: DeviceSecret::from_bytes(&*secret("device_secret", &file.device_secret)?),
        delegation: delegation.map_err(|_| broken("delegation", "is none that can be read"))?,
        ticket_generation: file.ticket_generation,
        revocation: revocation.map_err(|_| broken("revocation", "is none that can be read"))?,
    })
}

const NO_HEX: &str = "is not hexadecimal";

/// What is wrong with it does not say what is in it.
fn secret(text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).map_err(|_| NO_HEX)?);
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| "is not 32 bytes")?;
    Ok(Zeroizing::new(bytes))
}

impl Identity {
    /// A pass to see our presence and to ring us, for one person or for whoever has it, at one relay or at any.
    pub(crate) fn pass(
        &self,
        holder: Option<IdentityKey>,
        relay: Option<RelayPin>,
        days: u16,
    ) -> Result<Pass, Trouble> {
        let (identity, terms) = (self.secret()?, self.terms(relay, days));
        Ok(match holder {
            Some(holder) => identity.issue_pass_for(holder, &terms),
            None => identity.issue_pass(&terms),
        })
    }

    /// Whether tickets can be made here.
    pub(crate) fn can_issue(&self) -> bool {
        self.identity.is_some()
    }

    fn secret(&self) -> Result<&IdentitySecret, Trouble> {
        self.identity.as_ref().ok_or_else(|| Trouble::NoSecret { path: self.path.clone() })
    }

    fn broken(&self, field: &'static str, problem: &'static str) -> Trouble {
        Trouble::Broken { path: self.path.clone(), field, problem }
    }

    fn terms(&self, relay: Option<RelayPin>, days: u16) -> Terms {
        Terms {
            grants: Grants::PRESENCE | Grants::RING,
            relay,
            generation: self.ticket_generation,
            not_after_unix_s: unix_s() + u64::from(days) * DAY_S,
        }
    }

    /// Tickets of a lower one were taken back.
    pub(crate) fn ticket_generation(&self) -> u32 {
        self.ticket_generation
    }

    /// Our word on which of our devices count no more.
    pub(crate) fn revocation(&self) -> Option<Revocation> {
        self.revocation.clone()
    }

    /// The device that takes part in calls.
    pub(crate) fn into_device(self) -> Result<Arc<Device>, Trouble> {
        let fresh = |identity: &IdentitySecret| identity.delegate(&self.device.public(), unix_s() + DELEGATION_S);
        let delegation = self.identity.as_ref().map(fresh).or(self.delegation);
        let path = self.path;
        let Some(delegation) = delegation else { return Err(Trouble::Nobodys { path }) };
        Device::new(self.device, delegation).map(Arc::new).map_err(|source| Trouble::Device { path, source })
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

    fn public(path: &Path) -> String {
        load(path).expect("read").identity.expect("it has one").public().to_text()
    }

    #[test]
    fn a_new_device_acts_for_us_without_our_secret_until_it_is_taken_back() {
        let directory = std::env::temp_dir().join(format!("supernode-devices-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let (old, new) = (directory.join("desk.json"), directory.join("phone.json"));
        let name = create(&old, Some("desk".into())).expect("created");
        let request = request_device(&new, None).expect("made");
        let phone = DeviceKey::from_text(&request).expect("its public name");
        load(&new).expect("read").into_device().expect_err("it is nobody's yet");

        let signed = sign_device(&old, phone, Some("phone".into()), 9).expect("signed");
        let delegation = Delegation::from_text(&signed).expect("what was printed");
        accept_delegation(&old, &delegation).expect_err("for another device");
        assert_eq!(accept_delegation(&new, &delegation).expect("for this one"), name);
        assert!(!fs::read_to_string(&new).expect("it is there").contains("identity_secret"));
        assert!(load(&new).expect("read").pass(None, None, 1).is_err(), "it makes no tickets");
        let device = load(&new).expect("read").into_device().expect("it acts for us");
        assert_eq!((device.identity().to_text(), device.key()), (name, phone));
        let lines = devices(&old).expect("listed");
        assert!(lines[0].contains("this one") && lines[1].contains(&request) && lines[1].contains("days"), "{lines:?}");

        revoke_device(&old, phone).expect("taken back");
        let first = load(&old).expect("read").revocation().expect("a word");
        assert!(first.verify().is_ok() && first.names(&phone));
        assert!(devices(&old).expect("listed")[1].contains("taken back"));
        let another = DeviceKey::new([9; 32]);
        revoke_device(&old, another).expect("taken back");
        let second = load(&old).expect("read").revocation().expect("a word");
        assert!(second.number > first.number && second.names(&phone) && second.names(&another));
        revoke_device(&new, another).expect_err("not here");
        keep_revocation(&new, &second).expect("kept");
        assert_eq!(load(&new).expect("read").revocation(), Some(second));
        fs::remove_dir_all(&directory).expect("cleaned up");
    }

    #[test]
    fn an_identity_file_is_private_and_comes_back_and_is_never_overwritten() {
        let directory = std::env::temp_dir().join(format!("supernode-identity-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("alice.json");
        let name = create(&path, Some("Alice".into())).expect("created");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(public(&path), name);
        create(&path, None).expect_err("it exists");
        assert_eq!(public(&path), name);
        fs::remove_dir_all(&directory).expect("cleaned up");
    }

    #[test]
    fn tickets_that_are_taken_back_are_of_an_earlier_generation() {
        let directory = std::env::temp_dir().join(format!("supernode-tickets-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("alice.json");
        let name = create(&path, None).expect("created");
        let generation = || load(&path).expect("read").pass(None, None, 1).expect("its own").ticket().generation;
        assert_eq!(generation(), 0);
        void_tickets(&path).expect("written");
        assert_eq!((generation(), load(&path).expect("read").ticket_generation()), (1, 1));
        assert_eq!(public(&path), name);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&directory).expect("cleaned up");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        let path = std::env::temp_dir().join(format!("supernode-broken-{}", std::process::id()));
        create(&path, None).expect("created");
        let whole = fs::read_to_string(&path).expect("ours");
        let at = whole.find("\"device_secret\": \"").expect("it has one") + 18;
        for (in_its_place, problem) in [("00ff", "is not 32 bytes"), ("xy", "is not hexadecimal")] {
            fs::write(&path, format!("{}{in_its_place}{}", &whole[..at], &whole[at + 64..])).expect("ours");
            let told = load(&path).err().expect("broken").to_string();
            assert_eq!(told, format!("{}: is damaged: device_secret {problem}", path.display()));
        }
        fs::remove_file(&path).expect("ours");
    }
}
