//! Frames and labels, sealed by their sender and opened by the other members (RFC 9605).
//!
//! Each device seals all its tracks under one key per epoch with one counter. What a frame is sealed for is in its
//! authenticated data: a domain, the room, the track's name inside the encryption and the visible header. Keys are
//! symmetric, so a member could pose as another member towards the rest (RFC 9605 section 7.2); nobody else can.
//!
//! Whoever changes the group gives a new epoch's keys out here while others seal and open frames. They wait for pointers
//! that change, and never for keys that are derived or wiped.

pub(crate) mod epoch_keys;
pub(crate) mod frame;
pub(crate) mod label;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sframe::frame::validation::{FrameValidation as _, ReplayAttackProtection, Tolerance, UnvalidatedFrame};
use sframe::header::{KeyId, SframeHeader};
use sframe::key::{DecryptionKey, EncryptionKey};
use supernode_proto::identity::{DeviceKey, RoomId};
use supernode_proto::limits;
use supernode_proto::object::{VISIBLE_BYTES_MAX, Visible};

use self::epoch_keys::EpochKeys;
use self::frame::SendCounter;
use self::label::{TrackId, TrackInfo};
use crate::error::{Error, check_length};

/// How many epochs a [`MediaOpener`] opens: the current one and the two before, for frames still on their way.
pub const EPOCHS_KEPT: u64 = 3;

/// How far behind the newest frame of a sender another may come and still be opened.
///
/// All tracks of a device share a counter, so a key frame of a thousand packets on one track must not outdate the sound
/// that travels beside it. It takes 256 bytes for each sender and epoch.
pub const REPLAY_WINDOW_FRAMES: usize = 2048;

const MEDIA_DOMAIN: &[u8] = b"supernode/1 media\0";
const LABEL_DOMAIN: &[u8] = b"supernode/1 label\0";

/// Seals what this device sends in one room, for several threads at once.
///
/// The counter belongs to the group's epoch and not to the sealer, so that no number is ever used twice under a key:
/// neither by installing an epoch again, nor by making another sealer after a reconnect.
pub struct MediaSealer {
    room: RoomId,
    current: Mutex<Arc<SealEpoch>>,
}

/// What frames are sealed by in one epoch.
/// What a track is, for those who have the keys of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedLabel {
    /// Whose keys open it.
    pub epoch: u64,
    /// What the relay announces.
    pub bytes: Vec<u8>,
}

struct SealEpoch {
    epoch: u64,
    key: EncryptionKey,
    counter: Arc<SendCounter>,
}

impl SealEpoch {
    fn new(keys: &EpochKeys) -> Result<Self, Error> {
        Ok(Self {
            epoch: keys.epoch,
            key: frame::encryption_key(frame::key_id(keys.epoch, keys.own_leaf)?, &keys.base_key)?,
            counter: Arc::clone(&keys.counter),
        })
    }
}

impl MediaSealer {
    /// A sealer that starts in this epoch.
    ///
    /// # Errors
    /// [`Error::Sframe`] if our leaf does not fit a key id.
    pub fn new(keys: &EpochKeys) -> Result<Self, Error> {
        Ok(Self { room: keys.room, current: Mutex::new(Arc::new(SealEpoch::new(keys)?)) })
    }

    /// Goes on in the next epoch. Installing the current one again changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongRoom`]; [`Error::EpochOrder`] for an epoch before the current one, or another group's.
    pub fn install(&self, keys: &EpochKeys) -> Result<(), Error> {
        if keys.room != self.room {
            return Err(Error::WrongRoom);
        }
        let next = SealEpoch::new(keys)?;
        let mut current = lock(&self.current);
        if keys.epoch == current.epoch && Arc::ptr_eq(&keys.counter, &current.counter) {
            return Ok(());
        }
        if keys.epoch <= current.epoch {
            return Err(Error::EpochOrder { given: keys.epoch, current: current.epoch });
        }
        *current = Arc::new(next);
        Ok(())
    }

    /// Goes on in any epoch that these keys are of: another group's, or one that was gone back to. Its counter goes on
    /// where it was.
    ///
    /// # Errors
    /// [`Error::WrongRoom`]; [`Error::Sframe`].
    pub fn restart(&self, keys: &EpochKeys) -> Result<(), Error> {
        if keys.room != self.room {
            return Err(Error::WrongRoom);
        }
        *lock(&self.current) = Arc::new(SealEpoch::new(keys)?);
        Ok(())
    }

    /// Seals one frame of a track and appends it to `out`: at most [`SEAL_OVERHEAD_BYTES_MAX`] bytes more than
    /// `payload`. On an error `out` stays as it was.
    ///
    /// [`SEAL_OVERHEAD_BYTES_MAX`]: crate::SEAL_OVERHEAD_BYTES_MAX
    ///
    /// # Errors
    /// [`Error::CounterExhausted`]; [`Error::Sframe`].
    pub fn seal(&self, track: &TrackId, visible: &Visible, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let SealEpoch { key, counter, .. } = &*self.current();
        frame::seal(key, counter.next()?, &media_metadata(&self.room, track, visible), payload, out)
    }

    /// Seals what a track is, for the label that the relay announces. `kind` is the track's kind, which the relay sees.
    /// All labels are about [`limits::TRACK_LABEL_BYTES_MAX`] long and never longer.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the description does not fit; [`Error::CounterExhausted`]; [`Error::Sframe`].
    pub fn seal_label(&self, kind: u8, info: &TrackInfo) -> Result<SealedLabel, Error> {
        let plain = label::encode(info)?;
        let mut bytes = Vec::with_capacity(limits::TRACK_LABEL_BYTES_MAX);
        let SealEpoch { epoch, key, counter } = &*self.current();
        frame::seal(key, counter.next()?, &label_metadata(&self.room, kind), &plain, &mut bytes)?;
        Ok(SealedLabel { epoch: *epoch, bytes })
    }

    fn current(&self) -> Arc<SealEpoch> {
        Arc::clone(&lock(&self.current))
    }
}

/// Opens what the other members of one room send, in the current epoch and the two before it, for several threads at once.
///
/// Our own frames are not opened: if they come back, somebody reflected them.
pub struct MediaOpener {
    room: RoomId,
    epochs: Mutex<Epochs>,
}

/// Newest first, never empty. Replaced as a whole.
type Epochs = Arc<[Arc<OpenEpoch>]>;

impl MediaOpener {
    /// An opener that starts in this epoch.
    ///
    /// # Errors
    /// [`Error::Sframe`] if a leaf does not fit a key id.
    pub fn new(keys: &EpochKeys) -> Result<Self, Error> {
        Ok(Self { room: keys.room, epochs: Mutex::new([Arc::new(OpenEpoch::new(keys)?)].into()) })
    }

    /// Goes on in the next epoch and forgets those that are [`EPOCHS_KEPT`] or more behind, and whoever is no longer a
    /// member. Installing the current one again changes nothing: what was opened stays refused.
    ///
    /// # Errors
    /// [`Error::WrongRoom`]; [`Error::EpochOrder`] for an epoch before the current one, or another group's.
    pub fn install(&self, keys: &EpochKeys) -> Result<(), Error> {
        if keys.room != self.room {
            return Err(Error::WrongRoom);
        }
        let next = Arc::new(OpenEpoch::new(keys)?);
        self.replace(|epochs| {
            if let Some(current) = epochs.first() {
                if keys.epoch == current.epoch && Arc::ptr_eq(&keys.counter, &current.counter) {
                    return Ok(epochs.clone());
                }
                if keys.epoch <= current.epoch {
                    return Err(Error::EpochOrder { given: keys.epoch, current: current.epoch });
                }
            }
            let kept = epochs.iter().filter(|epoch| keys.epoch - epoch.epoch < EPOCHS_KEPT).cloned();
            Ok(std::iter::once(next).chain(kept).collect())
        })
    }

    /// Forgets the keys of all epochs before this one, but never those of the current epoch.
    pub fn forget_before(&self, epoch: u64) {
        let kept = |kept: &&Arc<OpenEpoch>, current: u64| kept.epoch >= epoch.min(current);
        let forgotten = self.replace(|epochs| {
            let current = epochs.first().map_or(0, |current| current.epoch);
            Ok(epochs.iter().filter(|epoch| kept(epoch, current)).cloned().collect())
        });
        debug_assert!(forgotten.is_ok(), "nothing of it can fail");
    }

    /// Goes on in any epoch that these keys are of: another group's, or one that was gone back to. What was opened in the
    /// latter before stays refused; later epochs of the one, and all of another, are forgotten.
    ///
    /// # Errors
    /// [`Error::WrongRoom`]; [`Error::Sframe`].
    pub fn restart(&self, keys: &EpochKeys) -> Result<(), Error> {
        if keys.room != self.room {
            return Err(Error::WrongRoom);
        }
        let anew = Arc::new(OpenEpoch::new(keys)?);
        self.replace(|epochs| {
            let known = epochs.iter().position(|epoch| Arc::ptr_eq(&epoch.counter, &keys.counter));
            Ok(known.map_or_else(|| [anew].into(), |place| epochs[place..].into()))
        })
    }

    /// What goes is wiped as soon as no frame is being opened by it, while nobody waits.
    fn replace(&self, next: impl FnOnce(&Epochs) -> Result<Epochs, Error>) -> Result<(), Error> {
        let mut epochs = lock(&self.epochs);
        let next = next(&epochs)?;
        let before = std::mem::replace(&mut *epochs, next);
        drop(epochs);
        drop(before);
        Ok(())
    }

    fn epochs(&self) -> Epochs {
        Arc::clone(&lock(&self.epochs))
    }

    /// Opens one frame and appends its payload to `out`. `from` is the device that the relay says published the track.
    /// On an error `out` stays as it was, and what was opened before makes no difference to what can be opened after.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnknownKey`] if the epoch or the sender is not known (a frame of an epoch that
    /// is yet to be installed may be tried again then); [`Error::WrongSender`] if it is another member's than `from`;
    /// [`Error::Replayed`] if it was opened before or is more than [`REPLAY_WINDOW_FRAMES`] behind;
    /// [`Error::NotAuthentic`] if any byte of it, its visible header or its track is not what was sealed.
    pub fn open(
        &self,
        from: &DeviceKey,
        track: &TrackId,
        visible: &Visible,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let header = frame::read_header(sealed)?;
        let metadata = media_metadata(&self.room, track, visible);
        let epochs = self.epochs();
        let sender = sender(&epochs, from, &header)?;
        // Held until it is open: of two that are the same, one is refused.
        let mut replay = lock(&sender.replay);
        let token = replay.screen(UnvalidatedFrame::new(&header, &metadata)).map_err(|_| Error::Replayed)?;
        frame::open(&sender.key, &header, &metadata, sealed, out)?;
        replay.record(token);
        Ok(())
    }

    /// Whether a frame that does not open is of an epoch after the current one, as far as the low bits in its key id tell.
    pub fn is_ahead(&self, sealed: &[u8]) -> bool {
        let epochs = self.epochs();
        let (Ok(header), Some(current)) = (frame::read_header(sealed), epochs.first()) else { return false };
        frame::epochs_ahead(header.key_id(), current.epoch) > 0
    }

    /// Opens a track's label, as often as the relay announces it.
    ///
    /// # Errors
    /// As [`Self::open`] but for [`Error::Replayed`], and [`Error::TooLarge`] above [`limits::TRACK_LABEL_BYTES_MAX`].
    pub fn open_label(&self, from: &DeviceKey, kind: u8, label: &[u8]) -> Result<TrackInfo, Error> {
        check_length("a track label", label, limits::TRACK_LABEL_BYTES_MAX)?;
        let header = frame::read_header(label)?;
        let metadata = label_metadata(&self.room, kind);
        let mut plain = Vec::with_capacity(label.len());
        frame::open(&sender(&self.epochs(), from, &header)?.key, &header, &metadata, label, &mut plain)?;
        label::decode(&plain)
    }
}

/// Whose key a header names. The kept epochs are fewer than the key id tells apart, so at most one fits. Whoever is
/// no member any more in the newest has no key in any, unless that one is gone back from.
fn sender<'a>(epochs: &'a [Arc<OpenEpoch>], from: &DeviceKey, header: &SframeHeader) -> Result<&'a Sender, Error> {
    let key_id = header.key_id();
    let sender = epochs.iter().find_map(|epoch| epoch.senders.get(&key_id)).ok_or(Error::UnknownKey)?;
    if epochs.first().is_none_or(|newest| !newest.members.contains(&sender.device)) {
        return Err(Error::UnknownKey);
    }
    if sender.device == *from { Ok(sender) } else { Err(Error::WrongSender) }
}

struct OpenEpoch {
    epoch: u64,
    /// Tells this epoch from another group's of the same number.
    counter: Arc<SendCounter>,
    members: HashSet<DeviceKey>,
    senders: HashMap<KeyId, Sender>,
}

struct Sender {
    device: DeviceKey,
    key: DecryptionKey,
    replay: Mutex<ReplayAttackProtection>,
}

impl OpenEpoch {
    fn new(keys: &EpochKeys) -> Result<Self, Error> {
        let mut senders = HashMap::with_capacity(keys.devices.len());
        for (leaf, device) in keys.devices.iter().filter(|(leaf, _)| *leaf != keys.own_leaf) {
            let key_id = frame::key_id(keys.epoch, *leaf)?;
            let key = frame::decryption_key(key_id, &keys.base_key)?;
            let window = Tolerance::try_new(REPLAY_WINDOW_FRAMES).map_err(Error::sframe("sizing the replay window"))?;
            let replay = Mutex::new(ReplayAttackProtection::new(key_id, window));
            senders.insert(key_id, Sender { device: *device, key, replay });
        }
        let members = keys.devices.iter().map(|(_, device)| *device).collect();
        Ok(Self { epoch: keys.epoch, counter: Arc::clone(&keys.counter), members, senders })
    }
}

/// Nothing here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MediaSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaSealer").field("epoch", &self.current().epoch).finish_non_exhaustive()
    }
}

impl fmt::Debug for MediaOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs: Vec<u64> = self.epochs().iter().map(|epoch| epoch.epoch).collect();
        f.debug_struct("MediaOpener").field("epochs", &epochs).finish_non_exhaustive()
    }
}

/// What a frame is sealed for, behind the SFrame header.
fn media_metadata(room: &RoomId, track: &TrackId, visible: &Visible) -> Vec<u8> {
    let mut bytes = [0; VISIBLE_BYTES_MAX];
    let length = visible.encode(&mut bytes);
    [MEDIA_DOMAIN, &room.0, &track.0, &bytes[..length]].concat()
}

fn label_metadata(room: &RoomId, kind: u8) -> Vec<u8> {
    [LABEL_DOMAIN, &room.0, &[kind]].concat()
}
