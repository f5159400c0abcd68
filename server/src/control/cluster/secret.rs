//! The secret that all nodes of a cluster have: what whoever runs NATS lacks.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::ClusterError;
use crate::control::files;

/// The file has 44.
const FILE_BYTES_MAX: u64 = 1024;

/// What a key is for: none is used for two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Marks the records in the bucket.
    Records,
    /// Makes subjects of what is said between nodes.
    Subjects,
    /// Seals what is said between nodes.
    Messages,
    /// Makes of a room what its record stands under.
    Rooms,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Records => b"supernode cluster 1 records",
            Self::Subjects => b"supernode cluster 1 subjects",
            Self::Messages => b"supernode cluster 1 messages",
            Self::Rooms => b"supernode cluster 1 rooms",
        }
    }
}

/// The secret of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; 32]);

impl ClusterSecret {
    /// A new one.
    pub fn new() -> Self {
        Self(rand::random())
    }

    /// The one of these bytes, which nobody else knows.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The one in a file.
    ///
    /// # Errors
    /// [`ClusterError::Secret`].
    pub fn read(path: &Path) -> Result<Self, ClusterError> {
        let failed = |reason: String| ClusterError::Secret { path: path.to_owned(), reason };
        let text = files::read_text(path, FILE_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
        let bytes = BASE64URL_NOPAD.decode(text.trim_end_matches(['\n', '\r']).as_bytes()).ok();
        let secret = bytes.and_then(|bytes| bytes.try_into().ok());
        secret.map(Self).ok_or_else(|| failed("is no secret of 32 bytes in base64url".to_owned()))
    }

    /// Writes it into a file that is not there yet, for its owner only.
    ///
    /// # Errors
    /// [`ClusterError::WriteSecret`].
    pub fn write_new(&self, path: &Path) -> Result<(), ClusterError> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(format!("{}\n", BASE64URL_NOPAD.encode(&self.0)).as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| ClusterError::WriteSecret { path: path.to_owned(), source })
    }

    /// The key for a purpose.
    pub fn key(&self, purpose: Purpose) -> [u8; 32] {
        let mut over = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        over.update(purpose.label());
        over.finalize().into_bytes().into()
    }
}

impl Default for ClusterSecret {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn a_secret_is_written_once_for_its_owner_and_read_again() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("secret");
        let secret = ClusterSecret::new();
        secret.write_new(&path).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(ClusterSecret::read(&path).expect("read") == secret);
        assert!(matches!(ClusterSecret::new().write_new(&path), Err(ClusterError::WriteSecret { .. })));
        assert!(ClusterSecret::read(&path).expect("read") == secret, "nothing is written over it");
        for text in ["", "short", &"A".repeat(44), &"!".repeat(43)] {
            fs::write(&path, text).expect("ours");
            let error = ClusterSecret::read(&path).expect_err("no secret");
            assert!(!format!("{error:?}").contains(text) || text.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn a_key_is_of_the_secret_and_of_its_purpose() {
        let key = ClusterSecret([7; 32]).key(Purpose::Records);
        assert_eq!(HEXLOWER.encode(&key), "1c175f2542d1b17a1db44d970ee5c9997c43649f40c16e9de2acccef29c1074c");
        assert_ne!(key, ClusterSecret([8; 32]).key(Purpose::Records));
        assert_ne!(key, ClusterSecret([7; 32]).key(Purpose::Messages));
    }
}
