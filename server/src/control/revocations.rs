//! Who is refused although admission would let them in: identities and tokens that the operator took back.
//!
//! The list is the file `revoked` in the state directory, one a line: an identity in its text form, or `token` and the
//! token's digest. `supernode revoke` writes it and tells the running relay to read it again.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use supernode_proto::{close::CloseCode, identity::IdentityKey};

use super::state_dir::{StateDir, StateError};
use crate::{
    core::{Admit, TokenDigest},
    shard::Whom,
};

/// What is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    identities: HashSet<IdentityKey>,
    tokens: HashSet<TokenDigest>,
}

/// One thing to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// A person, on whatever device and with whatever token.
    Identity(IdentityKey),
    /// A token, whoever shows it.
    Token(TokenDigest),
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file.
    #[error(transparent)]
    State(#[from] StateError),
    /// A line that is neither.
    #[error("revoked, line {line}: neither an identity (sn-id-...) nor `token` and a digest of 22 characters")]
    Line {
        /// Which, from 1.
        line: usize,
    },
}

impl Revocation {
    /// Whose sessions end.
    pub fn whom(self) -> Whom {
        match self {
            Self::Identity(identity) => Whom::Identity(identity),
            Self::Token(token) => Whom::Token(token),
        }
    }

    fn to_line(self) -> String {
        match self {
            Self::Identity(identity) => identity.to_text(),
            Self::Token(token) => format!("token {}", token.to_text()),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        match line.strip_prefix("token ") {
            Some(digest) => TokenDigest::from_text(digest.trim()).map(Self::Token),
            None => IdentityKey::from_text(line).ok().map(Self::Identity),
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
                Some(Revocation::Token(token)) => drop(revoked.tokens.insert(token)),
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
        if Self::read(state)?.contains(revocation) {
            return Ok(false);
        }
        let before = state.revoked()?;
        let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        state.remember_revoked(&format!("{before}{separator}{}\n", revocation.to_line()))?;
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
            Revocation::Token(token) => self.tokens.contains(&token),
        }
    }

    /// Everything that is refused here and was not there.
    pub fn beyond<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = Revocation> + 'a {
        let identities = self.identities.iter().copied().map(Revocation::Identity);
        let tokens = self.tokens.iter().copied().map(Revocation::Token);
        identities.chain(tokens).filter(|revocation| !earlier.contains(*revocation))
    }
}

/// Admission with a list of exceptions, which may change while the relay runs.
pub struct Exceptions {
    admission: Arc<dyn Admit>,
    revoked: RwLock<Arc<Revoked>>,
}

impl Exceptions {
    /// Asks the list first, then `admission`.
    pub fn new(admission: Arc<dyn Admit>, revoked: Revoked) -> Self {
        Self { admission, revoked: RwLock::new(Arc::new(revoked)) }
    }

    /// Takes another list into use; what it refuses beyond the last.
    pub fn replace(&self, revoked: Revoked) -> Vec<Revocation> {
        let mut current = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        let new = revoked.beyond(&current).collect();
        *current = Arc::new(revoked);
        new
    }
}

impl Admit for Exceptions {
    fn is_decided(&self, identity: &IdentityKey, token: &str) -> bool {
        self.admission.is_decided(identity, token)
    }

    /// Who is refused is told no more than anybody else who is not let in.
    fn admit(&self, identity: &IdentityKey, token: &str, now_unix_s: u64) -> Result<(), CloseCode> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let token_is_refused = || TokenDigest::of(token).is_some_and(|token| revoked.tokens.contains(&token));
        if revoked.identities.contains(identity) || (!revoked.tokens.is_empty() && token_is_refused()) {
            return Err(CloseCode::NOT_ADMITTED);
        }
        self.admission.admit(identity, token, now_unix_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admission::AdmissionMode;

    //
    #[test]
    fn who_is_taken_back_is_refused_until_taken_off_the_list_again() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        let (somebody, other) = (IdentityKey::new([1; 32]), IdentityKey::new([2; 32]));
        let token = TokenDigest::of("a.b.c").expect("a token");
        let door = Exceptions::new(Arc::new(AdmissionMode::Open), Revoked::read(&state).expect("none"));
        assert_eq!(door.admit(&somebody, "", 0), Ok(()));

        assert!(Revoked::add(&state, Revocation::Identity(somebody)).expect("written"));
        assert!(!Revoked::add(&state, Revocation::Identity(somebody)).expect("written"), "it was there");
        assert!(Revoked::add(&state, Revocation::Token(token)).expect("written"));
        let new = door.replace(Revoked::read(&state).expect("two"));
        assert_eq!(new.len(), 2);
        assert_eq!(door.admit(&somebody, "", 0), Err(CloseCode::NOT_ADMITTED));
        assert_eq!(door.admit(&other, "a.b.c", 0), Err(CloseCode::NOT_ADMITTED));
        assert_eq!(door.admit(&other, "a.b.d", 0), Ok(()));

        assert!(Revoked::remove(&state, Revocation::Identity(somebody)).expect("written"));
        assert!(door.replace(Revoked::read(&state).expect("one")).is_empty());
        assert_eq!(door.admit(&somebody, "", 0), Ok(()));
        assert_eq!(door.admit(&other, "a.b.c", 0), Err(CloseCode::NOT_ADMITTED), "it stays");
    }

    #[test]
    fn a_line_that_means_nothing_is_named() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        state.remember_revoked("# spam\n\nsn-id-nonsense\n").expect("written");
        assert_eq!(
            Revoked::read(&state).expect_err("a broken line").to_string().split(':').next(),
            Some("revoked, line 3")
        );
    }
}
