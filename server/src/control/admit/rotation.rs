//! Rotation of the key that signs admission tokens: the new one signs at once, and what the old one signed is good for a
//! while longer.
//!
//! The file `admission-keys-before` in the state directory has a line for each key that was: its public half in base64url,
//! and the second of Unix time from which on nothing is good by it. The secret half is gone with the rotation.

use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_ED25519};
use supernode_proto::troubles;

use crate::control::state_dir::{ADMISSION_KEY, StateDir, StateError};

const BEFORE: &str = "admission-keys-before";
/// Each is tried with every token that the present one did not sign: a signature to verify, 50 us.
const BEFORE_MAX: usize = 4;

troubles! {
    /// Why no key was rotated.
    pub RotateError as WORDS, through State(StateError):
    TooMany { left_s: u64 }, "{bound} admission keys from before are still good, the first of them for {left_s} s"
            with (bound = BEFORE_MAX),
        "each is one more signature to verify for every token",
        "wait until the first of them ends, or give the old ones no more time (--keep-days 0), which ends everybody's session by them";
}

/// A key that signed tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyBefore {
    /// Its public half.
    pub public: [u8; 32],
    /// From this second of Unix time on, nothing is good by it.
    pub ends_unix_s: u64,
}

/// The files that a rotation changes.
pub(crate) fn files(state: &StateDir) -> Vec<PathBuf> {
    vec![state.path_of(ADMISSION_KEY), state.path_of(BEFORE)]
}

/// The keys that were, also those that have ended.
///
/// # Errors
/// See [`StateError`].
pub fn keys_before(state: &StateDir) -> Result<Vec<KeyBefore>, StateError> {
    let text = state.read(BEFORE)?.unwrap_or_default();
    let keys = text.lines().filter(|line| !line.trim().is_empty()).map(KeyBefore::from_line);
    keys.collect::<Option<Vec<_>>>().ok_or_else(|| {
        state.broken(BEFORE, "has a line that is no public key of 32 bytes in base64url with the second of its end")
    })
}

/// Makes a new key; what the present one has signed is good for `keep_s` seconds more, and what those before it have signed
/// up to their own end. With no time to keep, nothing that was signed before is good any more. The keys that are still good.
///
/// # Errors
/// See [`RotateError`]. Nothing has changed then.
pub fn rotate_admission_key(state: &StateDir, keep_s: u64, now_unix_s: u64) -> Result<Vec<KeyBefore>, RotateError> {
    let present = state.keys()?.admission_key;
    let public =
        <[u8; 32]>::try_from(present.public_key_raw()).map_err(|_| state.broken(ADMISSION_KEY, "is no Ed25519 key"))?;
    let mut before = Vec::new();
    if keep_s > 0 {
        before = keys_before(state)?;
        before.retain(|key| now_unix_s < key.ends_unix_s && key.public != public);
        if before.len() >= BEFORE_MAX {
            let first = before.iter().map(|key| key.ends_unix_s).min().unwrap_or(now_unix_s);
            return Err(RotateError::TooMany { left_s: first - now_unix_s });
        }
        before.push(KeyBefore { public, ends_unix_s: now_unix_s.saturating_add(keep_s) });
    }
    let new = KeyPair::generate_for(&PKCS_ED25519).map_err(StateError::from)?.serialize_pem();
    // In this order: a relay that looks in between knows the present key twice, and not the new one yet.
    let lines: String = before.iter().map(|key| key.to_line()).collect();
    state.replace(BEFORE, &lines)?;
    state.replace(ADMISSION_KEY, &new)?;
    Ok(before)
}

impl KeyBefore {
    fn to_line(self) -> String {
        format!("{} {}\n", BASE64URL_NOPAD.encode(&self.public), self.ends_unix_s)
    }

    fn from_line(line: &str) -> Option<Self> {
        let (public, ends) = line.trim().split_once(' ')?;
        let public = BASE64URL_NOPAD.decode(public.as_bytes()).ok()?.try_into().ok()?;
        Some(Self { public, ends_unix_s: ends.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::{
        close::CloseCode,
        identity::{DeviceKey, IdentityKey},
    };

    use super::*;
    use crate::{
        control::{
            admission::{AdmissionMode, TokenIssuer, TokenVerifier},
            tls::relay_pin,
        },
        core::{Admit, Applicant, Resident},
    };

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn token(state: &StateDir) -> String {
        let keys = state.keys().expect("made");
        TokenIssuer::new(&keys.admission_key, &relay_pin(&keys)).issue(None, NOW, 90 * DAY, [1; 16]).expect("a token")
    }

    fn door(state: &StateDir) -> AdmissionMode {
        let keys = state.keys().expect("made");
        let verifier = TokenVerifier::new(&keys.admission_key, &relay_pin(&keys));
        AdmissionMode::Tokens(verifier.with_keys_before(&keys_before(state).expect("readable")))
    }

    fn bearer(token: &str) -> Applicant {
        let (identity, device) = (IdentityKey::new([1; 32]), DeviceKey::new([2; 32]));
        Applicant { identity, device, from: [192, 0, 2, 1].into(), token: token.to_owned() }
    }

    //
    #[test]
    fn what_the_key_before_signed_is_good_up_to_its_end_and_so_is_a_session_by_it() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        state.keys_or_create().expect("keys");
        let old = bearer(&token(&state));
        let mut grant = door(&state).admit(&old, NOW).expect("its key");
        assert_eq!(rotate_admission_key(&state, 7 * DAY, NOW).expect("rotated").len(), 1);
        let new = bearer(&token(&state));
        assert_ne!(old.token, new.token);
        let door_now = door(&state);
        let comes = |who: &Applicant, now| door_now.admit(who, now).map(drop);
        assert_eq!((comes(&old, NOW), comes(&new, NOW)), (Ok(()), Ok(())));
        assert_eq!((comes(&old, NOW + 7 * DAY), comes(&new, NOW + 7 * DAY)), (Err(CloseCode::NOT_ADMITTED), Ok(())));
        let who = Resident::from(&old);
        assert_eq!(door_now.stays(&who, &mut grant, NOW), Ok(()));
        assert_eq!(grant.until_unix_s, NOW + 7 * DAY);
        assert_eq!(door_now.stays(&who, &mut grant, NOW + 7 * DAY), Err(CloseCode::NOT_ADMITTED));

        assert!(rotate_admission_key(&state, 0, NOW).expect("rotated").is_empty());
        assert_eq!(door(&state).admit(&old, NOW).err(), Some(CloseCode::NOT_ADMITTED), "no more time");
        assert_eq!(door(&state).admit(&new, NOW).err(), Some(CloseCode::NOT_ADMITTED));
    }

    #[test]
    fn so_many_keys_are_good_at_once_and_those_that_have_ended_make_room() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        state.keys_or_create().expect("keys");
        for kept in 1..=BEFORE_MAX {
            assert_eq!(rotate_admission_key(&state, DAY, NOW).expect("room").len(), kept);
        }
        let refused = rotate_admission_key(&state, DAY, NOW + 1);
        assert!(matches!(refused, Err(RotateError::TooMany { left_s }) if left_s == DAY - 1));
        assert_eq!(rotate_admission_key(&state, DAY, NOW + DAY).expect("room").len(), 1);
        state.replace(BEFORE, "nonsense\n").expect("written");
        assert!(keys_before(&state).is_err());
    }
}
