//! Which tokens for one use were used, and by whom: without their names.
//!
//! The file `spent` in the state directory has a line for each: what follows from the token's number, what follows from that
//! and the device, and the token's last second. A token's number is 16 random bytes that stand in the token only, so
//! nobody learns from the file who used which one. Whoever has used a token may come back with it up to its end.
//!
//! A token counts as used once that is on the disk, and a shard does not wait for a disk: it asks again, as for a hook.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use supernode_proto::{close::CloseCode, identity::DeviceKey};

use crate::control::{
    serve::unix_now_s,
    state_dir::{StateDir, StateError},
};

/// Tokens that are remembered until they end: 7 MB of memory and 4 MB of disk.
pub const SPENT_MAX: usize = 65_536;
/// The longest file: as many lines, and as many that have ended since it was written anew.
const FILE_BYTES_MAX: u64 = 2 * SPENT_MAX as u64 * LINE_BYTES_MAX;
const LINE_BYTES_MAX: u64 = 22 + 1 + 22 + 1 + 20 + 1;
/// Tokens that wait to be written down.
const WAITING_MAX: usize = 256;
/// How long it stands that one could not be written down: longer than whoever waits for it looks away.
const FAILURE: Duration = Duration::from_secs(1);
/// The file is written anew once it has as many lines more than are good for anything.
const STALE_LINES_MAX: usize = 1024;

const NUMBER: &[u8] = b"supernode spent token\0";
const DEVICE: &[u8] = b"supernode spent device\0";

/// Tokens for one use.
pub struct Spent {
    uses: Uses,
    claims: SyncSender<Claim>,
}

type Uses = Arc<Mutex<HashMap<Mark, Use>>>;

/// What a token, or a token and a device, leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mark([u8; 16]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Being written down.
    Pending,
    /// By this device.
    By { device: Mark, expires_unix_s: u64 },
    /// It could not be written down.
    Failed { at: Instant, code: CloseCode },
}

struct Claim {
    token: Mark,
    device: Mark,
    expires_unix_s: u64,
}

impl Spent {
    /// Reads what the state directory says, and begins to write there.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(state: StateDir) -> Result<Self, StateError> {
        let mut ledger = Ledger { state, bytes: 0, lines: 0 };
        let uses = Uses::default();
        ledger.read(&uses, unix_now_s())?;
        let (claims, claimed) = sync_channel(WAITING_MAX);
        let theirs = uses.clone();
        let thread = std::thread::Builder::new().name("spent".to_owned());
        thread.spawn(move || ledger.keep(&theirs, &claimed)).map_err(|source| StateError::Io {
            path: "spent".into(),
            action: "start the thread that writes it",
            source,
        })?;
        Ok(Self { uses, claims })
    }

    /// Whether [`Self::admit`] knows. If not, this device's claim is being written down.
    pub(crate) fn is_decided(&self, number: &str, device: &DeviceKey, expires_unix_s: u64) -> bool {
        let token = Mark::of(NUMBER, number, &[]);
        let mut uses = lock(&self.uses);
        match uses.get(&token) {
            Some(Use::Pending) => return false,
            Some(Use::By { .. }) => return true,
            Some(Use::Failed { at, .. }) if at.elapsed() < FAILURE => return true,
            Some(Use::Failed { .. }) | None => {}
        }
        let claim = Claim { token, device: Mark::of(DEVICE, number, device.as_bytes()), expires_unix_s };
        let state = match self.claims.try_send(claim) {
            Ok(()) => Use::Pending,
            Err(TrySendError::Full(_)) => Use::Failed { at: Instant::now(), code: CloseCode::OVERLOADED },
            Err(TrySendError::Disconnected(_)) => Use::Failed { at: Instant::now(), code: CloseCode::INTERNAL },
        };
        uses.insert(token, state);
        state != Use::Pending
    }

    /// Whether this device may come in by this token.
    pub(crate) fn admit(&self, number: &str, device: &DeviceKey) -> Result<(), CloseCode> {
        match lock(&self.uses).get(&Mark::of(NUMBER, number, &[])) {
            Some(Use::By { device: by, .. }) if *by == Mark::of(DEVICE, number, device.as_bytes()) => Ok(()),
            Some(Use::By { .. }) => Err(CloseCode::TOKEN_SPENT),
            Some(Use::Failed { code, .. }) => Err(*code),
            Some(Use::Pending) | None => Err(CloseCode::OVERLOADED),
        }
    }
}

impl std::fmt::Debug for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spent(..)")
    }
}

/// The file, and what this process knows of it. It may change under us: while one process takes another's place, both have
/// it, one after the other.
struct Ledger {
    state: StateDir,
    bytes: u64,
    lines: usize,
}

impl Ledger {
    /// Writes down one claim after the other, until nobody makes any.
    fn keep(mut self, uses: &Uses, claims: &Receiver<Claim>) {
        let mut said = false;
        while let Ok(claim) = claims.recv() {
            let state = match self.write(uses, &claim, unix_now_s()) {
                Ok(state) => {
                    said = false;
                    state
                }
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(%error, "tokens for one use let nobody in: they cannot be written down");
                    }
                    Use::Failed { at: Instant::now(), code: CloseCode::INTERNAL }
                }
            };
            lock(uses).insert(claim.token, state);
        }
    }

    fn write(&mut self, uses: &Uses, claim: &Claim, now_unix_s: u64) -> Result<Use, StateError> {
        if self.state.length_of(SPENT)? != self.bytes {
            self.read(uses, now_unix_s)?;
        }
        let live = {
            let mut uses = lock(uses);
            if let Some(known @ Use::By { .. }) = uses.get(&claim.token) {
                return Ok(*known);
            }
            if uses.len() > SPENT_MAX {
                forget(&mut uses, now_unix_s);
            }
            uses.len()
        };
        if live > SPENT_MAX {
            tracing::warn!(SPENT_MAX, "no more tokens for one use can be remembered: this one lets nobody in");
            return Ok(Use::Failed { at: Instant::now(), code: CloseCode::OVERLOADED });
        }
        let used = Use::By { device: claim.device, expires_unix_s: claim.expires_unix_s };
        if self.lines > live + STALE_LINES_MAX {
            let mut uses = lock(uses);
            forget(&mut uses, now_unix_s);
            let kept = uses.iter().filter_map(|(token, used)| line(*token, *used));
            let text: String = kept.chain(line(claim.token, used)).collect();
            drop(uses);
            self.state.replace(SPENT, &text)?;
            (self.bytes, self.lines) = (text.len() as u64, text.lines().count());
        } else {
            let text = line(claim.token, used).unwrap_or_default();
            self.state.append(SPENT, &text)?;
            self.bytes += text.len() as u64;
            self.lines += 1;
        }
        Ok(used)
    }

    fn read(&mut self, uses: &Uses, now_unix_s: u64) -> Result<(), StateError> {
        let text = self.state.read_up_to(SPENT, FILE_BYTES_MAX)?.unwrap_or_default();
        // A line that a power failure cut off let nobody in. Nothing is added to it: the file is written anew.
        let whole = text.is_empty() || text.ends_with('\n');
        (self.bytes, self.lines) = (text.len() as u64, if whole { text.lines().count() } else { usize::MAX });
        let mut uses = lock(uses);
        for (token, used) in text.lines().filter_map(parse) {
            if matches!(used, Use::By { expires_unix_s, .. } if now_unix_s < expires_unix_s) {
                uses.insert(token, used);
            }
        }
        Ok(())
    }
}

const SPENT: &str = "spent";

impl Mark {
    fn of(domain: &[u8], number: &str, more: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(domain).chain_update(number).chain_update([0]).chain_update(more);
        let mut mark = [0; 16];
        mark.copy_from_slice(&hash.finalize()[..16]);
        Self(mark)
    }
}

fn line(token: Mark, used: Use) -> Option<String> {
    let Use::By { device, expires_unix_s } = used else { return None };
    let text = |mark: Mark| BASE64URL_NOPAD.encode(&mark.0);
    Some(format!("{} {} {expires_unix_s}\n", text(token), text(device)))
}

fn parse(line: &str) -> Option<(Mark, Use)> {
    let mut words = line.split(' ');
    let mut mark = || BASE64URL_NOPAD.decode(words.next()?.as_bytes()).ok()?.try_into().ok().map(Mark);
    let (token, device) = (mark()?, mark()?);
    let expires_unix_s = words.next()?.parse().ok()?;
    Some((token, Use::By { device, expires_unix_s }))
}

fn forget(uses: &mut HashMap<Mark, Use>, now_unix_s: u64) {
    uses.retain(|_, used| match used {
        Use::By { expires_unix_s, .. } => now_unix_s < *expires_unix_s,
        Use::Failed { at, .. } => at.elapsed() < FAILURE,
        Use::Pending => true,
    });
}

fn lock(uses: &Uses) -> MutexGuard<'_, HashMap<Mark, Use>> {
    uses.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: DeviceKey = DeviceKey::new([1; 32]);
    const OTHER: DeviceKey = DeviceKey::new([2; 32]);

    fn ends() -> u64 {
        unix_now_s() + 3600
    }

    fn answer(spent: &Spent, number: &str, device: &DeviceKey) -> Result<(), CloseCode> {
        while !spent.is_decided(number, device, ends()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        spent.admit(number, device)
    }

    //
    #[test]
    fn a_token_lets_one_device_in_again_and_again_and_no_other_also_after_a_restart() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let open = || Spent::open(StateDir::create(home.path()).expect("a directory")).expect("opened");
        let spent = open();
        assert_eq!(answer(&spent, "a", &MINE), Ok(()));
        assert_eq!(answer(&spent, "a", &MINE), Ok(()));
        assert_eq!(answer(&spent, "a", &OTHER), Err(CloseCode::TOKEN_SPENT));
        assert_eq!(answer(&spent, "b", &OTHER), Ok(()), "another token");
        // The process that takes this one's place has read the file, and this one goes on for a moment.
        let next = open();
        assert_eq!(answer(&spent, "c", &MINE), Ok(()));
        assert_eq!(answer(&next, "c", &OTHER), Err(CloseCode::TOKEN_SPENT));
        assert_eq!(answer(&next, "a", &OTHER), Err(CloseCode::TOKEN_SPENT));
        assert_eq!(answer(&next, "a", &MINE), Ok(()));
        let text = std::fs::read_to_string(home.path().join(SPENT)).expect("written");
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains(&BASE64URL_NOPAD.encode(MINE.as_bytes())), "{text}");
    }

    #[test]
    fn what_has_ended_is_forgotten_and_a_line_that_was_cut_off_counts_for_nothing() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = || StateDir::create(home.path()).expect("a directory");
        let used = |number: &str, expires_unix_s| {
            let device = Mark::of(DEVICE, number, MINE.as_bytes());
            line(Mark::of(NUMBER, number, &[]), Use::By { device, expires_unix_s }).expect("a line")
        };
        let mut text: String = (0..8).map(|number| used(&number.to_string(), 7)).collect();
        text += &used("a", ends());
        text += &used("b", ends())[..20];
        state().replace(SPENT, &text).expect("written");
        let spent = Spent::open(state()).expect("opened");
        assert_eq!(answer(&spent, "a", &OTHER), Err(CloseCode::TOKEN_SPENT));
        assert_eq!(answer(&spent, "b", &OTHER), Ok(()));
        let text = std::fs::read_to_string(home.path().join(SPENT)).expect("written");
        assert_eq!(text.lines().count(), 2, "written anew, without what has ended");
    }

    #[test]
    fn a_token_that_cannot_be_written_down_lets_nobody_in() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("state");
        let spent = Spent::open(StateDir::create(&path).expect("a directory")).expect("opened");
        std::fs::remove_dir(&path).expect("it is empty");
        assert_eq!(answer(&spent, "a", &MINE), Err(CloseCode::INTERNAL));
    }
}
