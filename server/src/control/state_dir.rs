//! The state directory: what a relay has to remember between two starts, which is its keys and nothing about people.
//!
//! | file | what |
//! |---|---|
//! | `tls-key.pem` | the relay's private key, ECDSA P-256: what QUIC stacks and browsers take |
//! | `tls-certificate.pem` | the self-signed certificate of that key; made again when it is gone, with the same pin |
//! | `admission-key.pem` | Ed25519 key that signs admission tokens; without it, every token ends |
//! | `admission-keys-before` | public halves of keys that signed tokens before, and when what they signed ends |
//! | `relay-keys-before.pem` | by what clients that know an earlier pin know the present key |
//! | `page-certificates.pem` | two weeks' certificates of the relay's key for pages in browsers |
//! | `push-key.pem` | ECDSA P-256 key by which push services know the relay, with `push.contact`; without it, pages subscribe anew |
//! | `reset-key` | 32 bytes in base64url: tells clients of an earlier process that it is gone (RFC 9000 section 10.3) |
//! | `revoked` | identities, devices, digests of tokens and networks that the operator refuses, one a line |
//! | `invites` | labels and dates of those invites that the operator gave a label, with the digest of each token |
//! | `spent` | which tokens for one use were used, without whose they were |
//! | `control.sock` | where the commands of this user reach the running relay |
//! | `handover.sock` | where a new process asks the running relay for its port |
//! | `predecessor.sock` | where the process that drains after an upgrade hears whose sessions to end |
//! | `link` | where the relay was reached last and by what clients knew it: an invite link without a token |
//! | `page` | where people found the page at the last start, if they did: a URL |
//!
//! Keys are made once: of two processes that start at the same time, one makes them and the other reads them.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
    process::geteuid,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use supernode_proto::{invite::Invite, page_link::PageUrl, troubles};

pub(super) const TLS_KEY: &str = "tls-key.pem";
pub(super) const TLS_CERTIFICATE: &str = "tls-certificate.pem";
pub(super) const ADMISSION_KEY: &str = "admission-key.pem";
const PUSH_KEY: &str = "push-key.pem";
const RESET_KEY: &str = "reset-key";
const LINK: &str = "link";
const PAGE: &str = "page";
const REVOKED: &str = "revoked";

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// A key file is under 1 KiB; more than this is some other file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Commands that may wait to be heard.
const BACKLOG: i32 = 128;
/// What was left so long ago is nobody's any more: a write takes milliseconds.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);

troubles! {
    /// Why the state directory is of no use. Every message names the file.
    pub StateError as WORDS:
    NoDefault, "no state directory is named",
        "neither XDG_STATE_HOME nor HOME is set, where it would be",
        "name it: --state-dir, or relay.state_dir in the configuration";
    Io { path: PathBuf, action: &'static str, source: io::Error }, "{path}: cannot {action}",
        "the system refused, as it says: no right, no room, or a file that is not there",
        "see what the system says; the relay's commands need the user that the relay runs as (or root)";
    NotADirectory { path: PathBuf }, "{path}: is not a directory",
        "something else has the state directory's path", "name a directory: --state-dir, or relay.state_dir";
    Permissions { path: PathBuf, mode: u32, wanted: u32 },
        "{path}: mode {mode:04o} lets other users in; put it right with: chmod {wanted:o} {path}",
        "a copy, an archive or a umask left it too open: others could read or replace a key",
        "set the mode as said; if a stranger may have read a key, put a new one in its place (supernode rotate)";
    Owner { path: PathBuf, owner: u32, wanted: u32 },
        "{path}: belongs to user {owner}, and this process is user {wanted}; run it as that user, or give it away with: chown -R {wanted} {path}",
        "the relay ran as another user before, or the files were copied",
        "do one of the two that are said; never let two users run one relay";
    Broken { path: PathBuf, reason: String }, "{path}: {reason}",
        "this file of the state directory was damaged, or put there by hand",
        "restore the file from a backup; or remove it and the next start makes a new one (links with the old key's pin end)";
    Missing { path: PathBuf }, "{path}: is not there",
        "no relay has been started with this state directory yet, or it is another one",
        "start the relay once (supernode serve), or name the right directory (--state-dir)";
    Generate(#[from] rcgen::Error), "cannot make a new key",
        "the system gave no random numbers, or none that are of use",
        "see what the system says; a sandbox without getrandom is likely";
}

/// A Unix socket at which the running relay can be reached by its own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// For commands.
    Control,
    /// For the process that is to replace it.
    Handover,
    /// For the process that has replaced it, while it drains.
    Predecessor,
}

impl Door {
    const fn name(self) -> &'static str {
        match self {
            Self::Control => "control.sock",
            Self::Handover => "handover.sock",
            Self::Predecessor => "predecessor.sock",
        }
    }
}

/// A door of a process that does not serve yet. If it never does, the door of the one that runs is what it was.
#[derive(Debug)]
pub struct NewDoor {
    new: PathBuf,
    path: PathBuf,
}

impl NewDoor {
    /// Whoever knocks from now on is heard here, not by the process that has ended or is being replaced.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn open(self) -> Result<(), StateError> {
        fs::rename(&self.new, &self.path).map_err(|source| StateError::Io {
            path: self.path.clone(),
            action: "listen at it",
            source,
        })
    }
}

impl Drop for NewDoor {
    fn drop(&mut self) {
        // It is not there any more if it was opened.
        let _ = fs::remove_file(&self.new);
    }
}

/// A relay's keys.
pub struct KeyMaterial {
    /// Private key of the certificate.
    pub tls_key: KeyPair,
    /// Self-signed certificate.
    pub tls_certificate: CertificateDer<'static>,
    /// Signs admission tokens.
    pub admission_key: KeyPair,
    /// Makes the tokens of stateless resets.
    pub reset_key: [u8; 32],
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

/// An existing directory that only its owner can write to.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    owner: u32,
}

impl StateDir {
    /// Where state belongs by the XDG base directory specification: `$XDG_STATE_HOME/supernode` if that is absolute,
    /// else `$HOME/.local/state/supernode`. The caller reads the two variables.
    ///
    /// # Errors
    /// [`StateError::NoDefault`].
    pub fn default_path(xdg_state_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, StateError> {
        let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
        absolute(xdg_state_home)
            .or_else(|| absolute(home).map(|home| home.join(".local/state")))
            .map(|state| state.join("supernode"))
            .ok_or(StateError::NoDefault)
    }

    /// Opens the directory of a relay that is to run, and makes it with mode 0700 if it is not there. What failed writes
    /// have left there is removed.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn create(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StateError::NotADirectory { path: path.to_owned() },
            _ => StateError::Io { path: path.to_owned(), action: "make the state directory", source },
        })?;
        let state = Self::open(path)?;
        // Root's commands may be about another user's relay. A relay of root's with another user's keys is none of root's.
        let wanted = geteuid().as_raw();
        if state.owner != wanted {
            return Err(StateError::Owner { path: path.to_owned(), owner: state.owner, wanted });
        }
        state.sweep();
        Ok(state)
    }

    /// Opens the directory of a relay that has been started before.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StateError::Missing { path: path.to_owned() },
            _ => StateError::Io { path: path.to_owned(), action: "open the state directory", source },
        })?;
        if !metadata.is_dir() {
            return Err(StateError::NotADirectory { path: path.to_owned() });
        }
        // Whoever may write here may replace a key. Reading the names does no harm: the files protect themselves.
        check_mode(path, metadata.permissions().mode(), 0o022, DIRECTORY_MODE)?;
        let wanted = geteuid();
        if metadata.uid() != wanted.as_raw() && !wanted.is_root() {
            return Err(StateError::Owner { path: path.to_owned(), owner: metadata.uid(), wanted: wanted.as_raw() });
        }
        Ok(Self { path: path.to_owned(), owner: metadata.uid() })
    }

    /// The relay's keys, made at the first start.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn keys_or_create(&self) -> Result<KeyMaterial, StateError> {
        self.create_once(TLS_KEY, || Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem()))?;
        let tls_key = self.key(TLS_KEY, &PKCS_ECDSA_P256_SHA256)?;
        self.create_once(TLS_CERTIFICATE, || self_signed(&tls_key))?;
        self.create_once(ADMISSION_KEY, || Ok(KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem()))?;
        self.create_once(RESET_KEY, || Ok(BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>())))?;
        self.keys()
    }

    /// The keys of a relay that has been started before.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn keys(&self) -> Result<KeyMaterial, StateError> {
        let tls_key = self.key(TLS_KEY, &PKCS_ECDSA_P256_SHA256)?;
        let tls_certificate = CertificateDer::from_pem_slice(self.existing(TLS_CERTIFICATE)?.as_bytes())
            .map_err(|_| self.broken(TLS_CERTIFICATE, "is no certificate in PEM form"))?;
        let reset_key = BASE64URL_NOPAD.decode(self.existing(RESET_KEY)?.trim().as_bytes()).ok();
        Ok(KeyMaterial {
            tls_key,
            tls_certificate,
            admission_key: self.key(ADMISSION_KEY, &PKCS_ED25519)?,
            reset_key: reset_key
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| self.broken(RESET_KEY, "is no key of 32 bytes in base64url"))?,
        })
    }

    /// The key by which push services know the relay, made when it is asked for the first time.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn push_key_or_create(&self) -> Result<KeyPair, StateError> {
        self.create_once(PUSH_KEY, || Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem()))?;
        self.key(PUSH_KEY, &PKCS_ECDSA_P256_SHA256)
    }

    /// Remembers the link under which clients reach the relay; its token is not written down.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn remember_link(&self, link: &Invite) -> Result<(), StateError> {
        self.replace(LINK, &Invite { token: None, ..link.clone() }.to_string())
    }

    /// The link of the last start, if there was one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn link(&self) -> Result<Option<Invite>, StateError> {
        let parse = |text: String| text.parse().map_err(|_| self.broken(LINK, "is no link"));
        self.read(LINK)?.map(parse).transpose()
    }

    /// Remembers where people find the page, if they do.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn remember_page(&self, url: Option<&str>) -> Result<(), StateError> {
        self.replace(PAGE, url.unwrap_or_default())
    }

    /// Where people found the page at the last start.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn page(&self) -> Result<Option<PageUrl>, StateError> {
        let text = self.read(PAGE)?.filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|_| self.broken(PAGE, "is no URL of a page"))).transpose()
    }

    /// Where a file of this name is.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole, over the one that may be there.
    pub(super) fn replace(&self, name: &str, text: &str) -> Result<(), StateError> {
        let new = self.write_new(name, text)?;
        let path = self.path.join(name);
        let renamed = fs::rename(&new, &path);
        renamed.map_err(|source| {
            let _ = fs::remove_file(&new); // else the next start does
            StateError::Io { path, action: "write it", source }
        })
    }

    /// Removes what was written beside a file and never put in its place: by a process that was killed, or on a disk that
    /// was full. What is young may be somebody's who writes just now.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let is_left = entry.file_name().to_str().is_some_and(is_temporary);
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= TEMPORARY_AGE));
            if is_left && is_old && fs::remove_file(entry.path()).is_ok() {
                tracing::info!(file = %entry.path().display(), "removed: a write that failed had left it");
            }
        }
    }

    /// What is refused: the text of the file, empty if nothing is.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn revoked(&self) -> Result<String, StateError> {
        Ok(self.read(REVOKED)?.unwrap_or_default())
    }

    /// Replaces what is refused.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn remember_revoked(&self, text: &str) -> Result<(), StateError> {
        self.replace(REVOKED, text)?;
        self.sync()
    }

    /// Makes a door that nobody finds before it is opened. The listener does not block.
    ///
    /// # Errors
    /// [`StateError::Io`]: above all, paths of sockets have at most 107 bytes.
    pub fn make(&self, door: Door) -> Result<(UnixListener, NewDoor), StateError> {
        let path = self.path.join(door.name());
        let failed = |source| StateError::Io { path: path.clone(), action: "listen at it", source };
        let new = self.path.join(format!(".{:08x}", rand::random::<u32>()));
        let listener = listen_privately(&new).map_err(failed)?;
        Ok((listener, NewDoor { new, path: path.clone() }))
    }

    /// Goes to a door; `None` if no relay runs with this directory.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn knock(&self, door: Door) -> Result<Option<UnixStream>, StateError> {
        let path = self.path.join(door.name());
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(source) => Err(StateError::Io { path, action: "connect to it", source }),
        }
    }

    fn key(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Result<KeyPair, StateError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(&self.existing(name)?, algorithm)
            .map_err(|_| self.broken(name, "is no private key of the right kind in PKCS#8 PEM form"))
    }

    fn existing(&self, name: &str) -> Result<String, StateError> {
        self.read(name)?.ok_or_else(|| StateError::Missing { path: self.path.join(name) })
    }

    pub(super) fn broken(&self, name: &str, reason: &str) -> StateError {
        StateError::Broken { path: self.path.join(name), reason: reason.to_owned() }
    }

    /// A file's text, if it is there.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        self.read_up_to(name, FILE_BYTES_MAX)
    }

    /// Adds to a file's end, and makes it if it is not there. The text is on the disk afterwards.
    pub(super) fn append(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        let new = path.symlink_metadata().is_err();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_data()
            })
            .map_err(|source| StateError::Io { path, action: "write it", source })?;
        if new { self.sync() } else { Ok(()) }
    }

    /// How long a file is; zero if it is not there.
    pub(super) fn length_of(&self, name: &str) -> Result<u64, StateError> {
        let path = self.path.join(name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(StateError::Io { path, action: "read its length", source }),
        }
    }

    /// As [`Self::read`], of a file that may be as long as this.
    pub(super) fn read_up_to(&self, name: &str, bytes_max: u64) -> Result<Option<String>, StateError> {
        let path = self.path.join(name);
        let failed = |action| {
            let path = path.clone();
            move |source| StateError::Io { path, action, source }
        };
        // A FIFO in its place would be waited at for ever.
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open it"))?,
        };
        // Of the open file, not of the path: nobody can swap it in between.
        let metadata = file.metadata().map_err(failed("read its mode"))?;
        if !metadata.is_file() {
            return Err(self.broken(name, "is no regular file"));
        }
        check_mode(&path, metadata.permissions().mode(), 0o077, FILE_MODE)?;
        if ![self.owner, 0].contains(&metadata.uid()) {
            return Err(StateError::Owner { path, owner: metadata.uid(), wanted: self.owner });
        }
        if metadata.len() > bytes_max {
            return Err(self.broken(name, "is too large to be a file of a relay"));
        }
        let mut text = String::new();
        match file.take(bytes_max).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.broken(name, "is not text")),
            read => read.map(|_| Some(text)).map_err(failed("read it")),
        }
    }

    /// Makes a file unless it is there: whole or not at all, and never over another one.
    fn create_once(&self, name: &str, make: impl FnOnce() -> Result<String, StateError>) -> Result<(), StateError> {
        let path = self.path.join(name);
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let new = self.write_new(name, &make()?)?;
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new).map_err(|source| StateError::Io { path: new, action: "remove it", source })?;
        match linked {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(StateError::Io { path, action: "write it", source })
            }
            _ => self.sync(),
        }
    }

    /// Writes a file beside `name` and returns its path. It belongs to whom the directory belongs to: root may write it
    /// for a relay that runs as another user.
    fn write_new(&self, name: &str, text: &str) -> Result<PathBuf, StateError> {
        let path = self.path.join(format!(".{name}.{:016x}", rand::random::<u64>()));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .and_then(|mut file| {
                let owner = fs::metadata(&self.path)?;
                if owner.uid() != file.metadata()?.uid() {
                    fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
                }
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(|source| {
                let _ = fs::remove_file(&path); // else the next start does
                StateError::Io { path: path.clone(), action: "write it", source }
            })?;
        Ok(path)
    }

    /// A name survives a power cut only once its directory is on the disk.
    fn sync(&self) -> Result<(), StateError> {
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(|source| StateError::Io {
            path: self.path.clone(),
            action: "write it to the disk",
            source,
        })
    }
}

/// Clients check the pin and no name or date, so the certificate says as little as it can and never runs out.
pub(super) fn self_signed(key: &KeyPair) -> Result<String, StateError> {
    let mut params = CertificateParams::new(vec!["supernode.invalid".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "supernode relay");
    Ok(params.self_signed(key)?.pem())
}

/// A socket that nobody else can connect to, not even in the moment in which it is made: Linux gives the name the mode that
/// the socket has before.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = File::from(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?);
    socket.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Whether a file has the name of one that is to be put in another's place: `.NAME.` and 16 hexadecimal digits, or a door's,
/// of 8.
fn is_temporary(name: &str) -> bool {
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(rest) = name.strip_prefix('.') else { return false };
    is_hex(rest, 8) || rest.rsplit_once('.').is_some_and(|(name, digits)| !name.is_empty() && is_hex(digits, 16))
}

fn check_mode(path: &Path, mode: u32, forbidden: u32, wanted: u32) -> Result<(), StateError> {
    if mode & forbidden != 0 {
        return Err(StateError::Permissions { path: path.to_owned(), mode: mode & 0o7777, wanted });
    }
    Ok(())
}
