//! Who is refused although admission would let them in: identities, devices, tokens and networks that the operator took
//! back.
//!
//! The list is the file `revoked` in the state directory, one a line: an identity or a device in its text form, `token`
//! and the token's digest, or `network` and an address or prefix. `supernode revoke` writes it and tells the running relay
//! to read it again. A network is there only because an operator wrote it: the relay itself writes no address down.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use supernode_proto::{
    close::CloseCode,
    identity::{DeviceKey, IdentityKey},
    troubles,
};

use crate::control::{
    follow::Follow,
    state_dir::{StateDir, StateError},
};
use crate::{
    core::{Admit, Applicant, Grant, Network, Resident, TokenDigest},
    shard::Whom,
};

/// The longest list that a relay reads.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// Networks that can be refused: each is compared with everybody who comes.
pub const NETWORKS_MAX: usize = 1024;

/// What is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    identities: HashSet<IdentityKey>,
    devices: HashSet<DeviceKey>,
    tokens: HashSet<TokenDigest>,
    networks: Vec<Network>,
}

/// One thing to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// A person, on whatever device and with whatever token.
    Identity(IdentityKey),
    /// One of their devices.
    Device(DeviceKey),
    /// A token, whoever shows it.
    Token(TokenDigest),
    /// Whoever comes from there.
    Network(Network),
}

troubles! {
    /// Why the list cannot be used.
    pub RevokedError as WORDS, through State(StateError):
    Line { line: usize },
        "revoked, line {line}: neither an identity (sn-id-...) nor a device (sn-dev-...), nor `token` and a digest of 22 characters, nor `network` and an address or prefix (192.0.2.0/24)",
        "the list of who is refused was written by hand, or is damaged",
        "mend or remove that line of the file `revoked` in the state directory; then run supernode revoke again";
    Full, "revoked: it would be longer than {bound} bytes, about 1,000 entries" with (bound = FILE_BYTES_MAX),
        "as is said: the list of who is refused is as long as it may be", "take old entries back (supernode revoke --undo)";
    Networks, "revoked: {bound} networks are refused, and no more can be" with (bound = NETWORKS_MAX),
        "each first packet is compared with all of them",
        "take some back (supernode revoke --undo), or use the firewall";
}

impl Revocation {
    /// Whose sessions end.
    pub fn whom(self) -> Whom {
        match self {
            Self::Identity(identity) => Whom::Identity(identity),
            Self::Device(device) => Whom::Device(device),
            Self::Token(token) => Whom::Token(token),
            Self::Network(network) => Whom::Network(network),
        }
    }

    fn to_line(self) -> String {
        match self {
            Self::Identity(identity) => identity.to_text(),
            Self::Device(device) => device.to_text(),
            Self::Token(token) => format!("token {}", token.to_text()),
            Self::Network(network) => format!("network {network}"),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("token", digest)) => TokenDigest::from_text(digest.trim()).map(Self::Token),
            Some(("network", network)) => network.trim().parse().ok().map(Self::Network),
            Some(_) => None,
            None => (IdentityKey::from_text(line).ok().map(Self::Identity))
                .or_else(|| DeviceKey::from_text(line).ok().map(Self::Device)),
        }
    }
}

impl Revoked {
    /// What the state directory says.
    ///
    /// # Errors
    /// See [`RevokedError`].
    pub fn read(state: &StateDir) -> Result<Self, RevokedError> {
        let mut revoked = Self::default();
        for (index, line) in state.revoked()?.lines().enumerate() {
            match Revocation::from_line(line.trim()) {
                Some(Revocation::Identity(identity)) => drop(revoked.identities.insert(identity)),
                Some(Revocation::Device(device)) => drop(revoked.devices.insert(device)),
                Some(Revocation::Token(token)) => drop(revoked.tokens.insert(token)),
                Some(Revocation::Network(_)) if revoked.networks.len() >= NETWORKS_MAX => {
                    return Err(RevokedError::Networks);
                }
                Some(Revocation::Network(network)) => revoked.networks.push(network),
                None if line.trim().is_empty() || line.starts_with('#') => {}
                None => return Err(RevokedError::Line { line: index + 1 }),
            }
        }
        Ok(revoked)
    }

    /// Adds to what the state directory says; `false` if it was there.
    ///
    /// # Errors
    /// See [`RevokedError`].
    pub fn add(state: &StateDir, revocation: Revocation) -> Result<bool, RevokedError> {
        let revoked = Self::read(state)?;
        if revoked.contains(revocation) {
            return Ok(false);
        }
        if matches!(revocation, Revocation::Network(_)) && revoked.networks.len() >= NETWORKS_MAX {
            return Err(RevokedError::Networks);
        }
        let before = state.revoked()?;
        let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        let after = format!("{before}{separator}{}\n", revocation.to_line());
        if after.len() > FILE_BYTES_MAX {
            return Err(RevokedError::Full);
        }
        state.remember_revoked(&after)?;
        Ok(true)
    }

    /// Takes it off again; `false` if it was not there.
    ///
    /// # Errors
    /// See [`RevokedError`].
    pub fn remove(state: &StateDir, revocation: Revocation) -> Result<bool, RevokedError> {
        let before = state.revoked()?;
        let stays = |line: &&str| Revocation::from_line(line.trim()) != Some(revocation);
        let after: String = before.lines().filter(stays).map(|line| format!("{line}\n")).collect();
        let removed = Self::read(state)?.contains(revocation);
        state.remember_revoked(&after)?;
        Ok(removed)
    }

    /// Whether this is refused.
    pub fn contains(&self, revocation: Revocation) -> bool {
        match revocation {
            Revocation::Identity(identity) => self.identities.contains(&identity),
            Revocation::Device(device) => self.devices.contains(&device),
            Revocation::Token(token) => self.tokens.contains(&token),
            Revocation::Network(network) => self.networks.contains(&network),
        }
    }

    /// Whether they are refused for anything.
    fn refuses(&self, who: &Resident) -> bool {
        self.identities.contains(&who.identity)
            || self.devices.contains(&who.device)
            || who.token.is_some_and(|token| self.tokens.contains(&token))
            || self.networks.iter().any(|network| network.contains(who.from))
    }

    /// Everything that is refused here and was not there.
    pub fn beyond<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = Revocation> + 'a {
        let identities = self.identities.iter().copied().map(Revocation::Identity);
        let devices = self.devices.iter().copied().map(Revocation::Device);
        let tokens = self.tokens.iter().copied().map(Revocation::Token);
        let networks = self.networks.iter().copied().map(Revocation::Network);
        identities.chain(devices).chain(tokens).chain(networks).filter(|revocation| !earlier.contains(*revocation))
    }
}

/// Admission with a list of exceptions, which may change while the relay runs.
pub struct Exceptions {
    admission: Arc<dyn Admit>,
    revoked: ArcSwap<Revoked>,
    generation: AtomicU64,
    /// Whom the operator looks at just now.
    pub follow: Follow,
}

impl Exceptions {
    /// Asks the list first, then `admission`.
    pub fn new(admission: Arc<dyn Admit>, revoked: Revoked) -> Self {
        let revoked = ArcSwap::from_pointee(revoked);
        Self { admission, revoked, generation: AtomicU64::new(0), follow: Follow::default() }
    }

    /// Takes another list into use; what it refuses beyond the last. Whoever is in and is refused is to be ended, and
    /// then [`Self::review`] called: before, shards would end them uncounted.
    pub fn replace(&self, revoked: Revoked) -> Vec<Revocation> {
        let revoked = Arc::new(revoked);
        let before = self.revoked.swap(revoked.clone());
        revoked.beyond(&before).collect()
    }

    /// Has everybody who is in asked about again.
    pub fn review(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Admit for Exceptions {
    fn is_decided(&self, who: &Applicant, now_unix_s: u64) -> bool {
        // Nobody who is refused anyway is asked about elsewhere.
        let revoked = self.revoked.load();
        revoked.refuses(&who.into()) || self.admission.is_decided(who, now_unix_s)
    }

    /// Who is refused is told no more than anybody else who is not let in.
    fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode> {
        let verdict = match self.revoked.load().refuses(&who.into()) {
            true => Err(CloseCode::NOT_ADMITTED),
            false => self.admission.admit(who, now_unix_s),
        };
        let said = verdict.as_ref().map(|_| ()).map_err(|code| *code);
        self.follow.note_verdict(&who.identity, &who.device, who.from, said);
        verdict
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire).wrapping_add(self.admission.generation())
    }

    fn stays(&self, who: &Resident, grant: &mut Grant, now_unix_s: u64) -> Result<(), CloseCode> {
        let verdict = match self.revoked.load().refuses(who) {
            true => Err(CloseCode::NOT_ADMITTED),
            false => self.admission.stays(who, grant, now_unix_s),
        };
        if let Err(code) = verdict {
            self.follow.note_verdict(&who.identity, &who.device, who.from, Err(code));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admission::AdmissionMode;

    fn somebody(identity: u8, device: u8, from: &str, token: &str) -> Applicant {
        Applicant {
            identity: IdentityKey::new([identity; 32]),
            device: DeviceKey::new([device; 32]),
            from: from.parse().expect("an address"),
            token: token.to_owned(),
        }
    }

    //
    #[test]
    fn who_is_taken_back_is_refused_until_taken_off_the_list_again() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        let door = Exceptions::new(Arc::new(AdmissionMode::Open), Revoked::read(&state).expect("none"));
        let comes = |who: &Applicant| door.admit(who, 0).map(drop);
        let stays = |who: &Applicant| {
            let mut grant = Grant::without_end(crate::core::Voucher::Nobody);
            door.stays(&who.into(), &mut grant, 0)
        };
        let ways = [
            (Revocation::Identity(IdentityKey::new([1; 32])), somebody(1, 12, "192.0.2.1", "")),
            (Revocation::Device(DeviceKey::new([2; 32])), somebody(11, 2, "192.0.2.1", "")),
            (Revocation::Token(TokenDigest::of("a.b.c").expect("a token")), somebody(11, 12, "192.0.2.1", "a.b.c")),
            (Revocation::Network("198.51.100.0/24".parse().expect("a prefix")), somebody(11, 12, "198.51.100.9", "")),
        ];
        for (revocation, who) in &ways {
            assert_eq!((comes(who), stays(who)), (Ok(()), Ok(())));
            let generation = door.generation();
            assert!(Revoked::add(&state, *revocation).expect("written"));
            assert!(!Revoked::add(&state, *revocation).expect("written"), "it was there");
            assert_eq!(door.replace(Revoked::read(&state).expect("it")), [*revocation]);
            door.review();
            assert_ne!(door.generation(), generation);
            assert_eq!(comes(who), Err(CloseCode::NOT_ADMITTED));
            assert_eq!(stays(who), Err(CloseCode::NOT_ADMITTED));
            assert_eq!(comes(&somebody(3, 4, "203.0.113.1", "a.b.d")), Ok(()), "nobody else");
        }
        assert!(Revoked::remove(&state, ways[0].0).expect("written"));
        assert!(door.replace(Revoked::read(&state).expect("three")).is_empty());
        assert_eq!(comes(&ways[0].1), Ok(()));
        assert_eq!(comes(&ways[3].1), Err(CloseCode::NOT_ADMITTED), "it stays");
    }

    #[test]
    fn a_line_that_means_nothing_is_named_and_a_list_that_no_start_could_read_is_not_written() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        state.remember_revoked("# spam\n\nsn-id-nonsense\n").expect("written");
        assert_eq!(
            Revoked::read(&state).expect_err("a broken line").to_string().split(':').next(),
            Some("revoked, line 3")
        );
        state.remember_revoked(&"#\n".repeat(FILE_BYTES_MAX / 2)).expect("written");
        let full = Revoked::add(&state, Revocation::Identity(IdentityKey::new([1; 32])));
        assert!(matches!(full, Err(RevokedError::Full)));
    }
}
