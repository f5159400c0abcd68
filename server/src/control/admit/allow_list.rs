//! Admission by a list of identities in a file.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use supernode_proto::{close::CloseCode, identity::IdentityKey, troubles};

use crate::control::files;

/// About a million identities.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

troubles! {
    /// Why there is no list.
    pub AllowListError as WORDS:
    Read { path: PathBuf, source: io::Error }, "{path}: cannot read it",
        "the list of who is let in is not there, or this user may not read it",
        "compare the path in admission.allow_list, and let the relay's user read the file";
    // An admission that only seems to be granted is worse than an error.
    Line { path: PathBuf, line: usize }, "{path}:{line}: is no identity (sn-id-...)",
        "a name was cut off or mistyped", "write one identity (sn-id-...) a line, or put # before what is a remark";
}

/// Who gets in.
pub struct AllowList(HashSet<IdentityKey>);

impl AllowList {
    /// Reads one identity a line; what follows a `#` is a remark.
    ///
    /// # Errors
    /// See [`AllowListError`].
    pub fn read(path: &Path) -> Result<Self, AllowListError> {
        let failed = |source| AllowListError::Read { path: path.to_owned(), source };
        let text = files::read_text(path, FILE_BYTES_MAX).map_err(failed)?;
        let mut identities = HashSet::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let wrong = |_| AllowListError::Line { path: path.to_owned(), line: index + 1 };
                identities.insert(IdentityKey::from_text(line).map_err(wrong)?);
            }
        }
        Ok(Self(identities))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody gets in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list lets it in.
    pub(crate) fn admit(&self, identity: &IdentityKey) -> Result<(), CloseCode> {
        if self.0.contains(identity) { Ok(()) } else { Err(CloseCode::NOT_ADMITTED) }
    }
}

impl std::fmt::Debug for AllowList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AllowList({})", self.0.len())
    }
}
