//! What frames are sealed and opened by, and objects that come before their keys.
//!
//! It has locks of its own, as what is in it has: frames wait for none of whoever works on the group, and for none of whoever
//! asks who is here, but only for keys that are handed over, and for the look whether anything may be sent.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use supernode_e2ee::{EpochKeys, Error, MediaOpener, MediaSealer, SealedLabel, TrackId, TrackInfo};
use supernode_proto::{control::TrackKind, identity::DeviceKey, object::Visible};
use supernode_session::Moment;

use super::{lock, state::Beacons};
use crate::FrameTimes;

/// Objects whose keys are not here yet: a few hundred milliseconds of a call.
const EARLY_MAX: usize = 512;
/// Of a picture as well, whose frames are larger: at most this much of them, in bytes.
const EARLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long they are kept: longer than the commit is under way that brings their keys.
const EARLY_AGE_MAX: Duration = Duration::from_secs(3);

/// What the frames of a room are sealed and opened by.
pub struct FrameKeys {
    sealer: MediaSealer,
    opener: MediaOpener,
    /// Devices that a commit had removed which was rejected then. Held while a frame is sealed; locked before the beacons.
    must_go: Mutex<HashSet<DeviceKey>>,
    beacons: Mutex<Beacons>,
}

impl FrameKeys {
    pub(super) fn new(keys: &EpochKeys) -> Result<Self, Error> {
        Ok(Self {
            sealer: MediaSealer::new(keys)?,
            opener: MediaOpener::new(keys)?,
            must_go: Mutex::default(),
            beacons: Mutex::default(),
        })
    }

    /// Goes on in the next epoch: first to open, since others may be there already.
    pub(super) fn install(&self, keys: &EpochKeys) -> Result<(), Error> {
        self.opener.install(keys)?;
        self.sealer.install(keys)
    }

    /// Goes on in an epoch that was gone back to, or of another group.
    pub(super) fn restart(&self, keys: &EpochKeys) -> Result<(), Error> {
        self.opener.restart(keys)?;
        self.sealer.restart(keys)
    }

    pub(super) fn forget_before(&self, epoch: u64) {
        self.opener.forget_before(epoch);
    }

    /// These are in the group again, and must go before anything is sent.
    pub(super) fn hold_back_from(&self, devices: impl Iterator<Item = DeviceKey>) {
        lock(&self.must_go).extend(devices);
    }

    pub(super) fn holds_back_from(&self, device: &DeviceKey) -> bool {
        lock(&self.must_go).contains(device)
    }

    pub(super) fn let_go_of_those_gone(&self, members: &[supernode_e2ee::Member]) {
        lock(&self.must_go).retain(|device| members.iter().any(|member| member.device == *device));
    }

    pub(super) fn let_go_of_all(&self) {
        lock(&self.must_go).clear();
    }

    pub(super) fn beacons(&self) -> MutexGuard<'_, Beacons> {
        lock(&self.beacons)
    }

    /// Whether nothing may be sent now: somebody is in the group again whose removal was taken back, or members
    /// are in different groups and no person said to go on.
    pub fn is_silent(&self) -> bool {
        !lock(&self.must_go).is_empty() || self.beacons().hold_back()
    }

    /// Seals the times and the codec's bytes and appends to `out`, unless nothing may be sent: whether it did. `scratch` is
    /// overwritten.
    ///
    /// # Errors
    /// As [`MediaSealer::seal`].
    pub fn seal(
        &self,
        track: &TrackId,
        visible: &Visible,
        times: FrameTimes,
        codec: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        scratch.clear();
        scratch.extend_from_slice(&times.to_bytes());
        scratch.extend_from_slice(codec);
        // Held, so that no commit is gone back from between the look and the seal.
        let must_go = lock(&self.must_go);
        if !must_go.is_empty() || self.beacons().hold_back() {
            return Ok(false);
        }
        self.sealer.seal(track, visible, scratch, out)?;
        Ok(true)
    }

    /// Seals what a track is.
    ///
    /// # Errors
    /// As [`MediaSealer::seal_label`].
    pub fn seal_label(&self, kind: TrackKind, info: &TrackInfo) -> Result<SealedLabel, Error> {
        self.sealer.seal_label(kind as u8, info)
    }

    /// Opens what a track is, only if this device sealed it.
    ///
    /// # Errors
    /// As [`MediaOpener::open_label`].
    pub fn open_label(&self, from: &DeviceKey, kind: TrackKind, label: &[u8]) -> Result<TrackInfo, Error> {
        self.opener.open_label(from, kind as u8, label)
    }
}

/// An object as it came.
#[derive(Debug, Clone, Copy)]
pub struct SealedObject<'a> {
    /// Who sealed it.
    pub from: &'a DeviceKey,
    /// Of which track.
    pub track: &'a TrackId,
    /// What the relay sees of it.
    pub visible: &'a Visible,
    /// Its bytes.
    pub sealed: &'a Bytes,
}

/// What became of a sealed object.
pub enum Opened {
    /// It opened.
    Payload(Vec<u8>),
    /// Its keys may still come: it is kept for a while.
    Later,
    /// It does not open, and never will; or there is no room to keep it.
    Bad,
}

/// Objects that came before the keys of their epoch, of which `T` is kept beside the sealed bytes.
pub struct EarlyObjects<T> {
    objects: Mutex<VecDeque<Early<T>>>,
    give_up: fn(T),
}

struct Early<T> {
    at: Moment,
    sealed: Bytes,
    what: T,
}

impl<T> EarlyObjects<T> {
    /// None yet. `give_up` is told of each that is kept in vain.
    pub fn new(give_up: fn(T)) -> Self {
        Self { objects: Mutex::default(), give_up }
    }

    /// Opens an object, or keeps it with what `keep` says until its keys come. The second says whether it is the first sign
    /// that its sender is in an epoch that we are not in: then what is due ([`RoomState::duty`](super::RoomState::duty)) is
    /// to be looked at again.
    pub fn open(
        &self,
        keys: &FrameKeys,
        object: SealedObject<'_>,
        now: Moment,
        keep: impl FnOnce() -> T,
    ) -> (Opened, bool) {
        let SealedObject { from, track, visible, sealed } = object;
        let mut payload = Vec::with_capacity(sealed.len());
        let mut opened = keys.opener.open(from, track, visible, sealed, &mut payload);
        let mut is_news = false;
        if matches!(opened, Err(Error::UnknownKey)) {
            is_news = keys.opener.is_ahead(sealed) && keys.beacons().note_ahead(*from, now);
            let mut early = lock(&self.objects);
            // Its keys may have come meanwhile, and what waited for them may have been taken out.
            opened = keys.opener.open(from, track, visible, sealed, &mut payload);
            if matches!(opened, Err(Error::UnknownKey)) {
                self.drop_stale(&mut early, now);
                if !has_room(early.iter().map(|early| early.sealed.len()), sealed.len()) {
                    return (Opened::Bad, is_news);
                }
                // A slice would keep the whole packet.
                let sealed = Bytes::copy_from_slice(sealed);
                early.push_back(Early { at: now, sealed, what: keep() });
                return (Opened::Later, is_news);
            }
        }
        if opened.is_err() {
            return (Opened::Bad, is_news);
        }
        keys.beacons().note_opened(from);
        (Opened::Payload(payload), is_news)
    }

    /// What may open now.
    pub fn take(&self, now: Moment) -> impl Iterator<Item = (Bytes, T)> + use<T> {
        let mut early = lock(&self.objects);
        self.drop_stale(&mut early, now);
        std::mem::take(&mut *early).into_iter().map(|Early { sealed, what, .. }| (sealed, what))
    }

    /// Nobody waits for them any more.
    pub fn forget(&self) {
        lock(&self.objects).clear();
    }

    fn drop_stale(&self, early: &mut VecDeque<Early<T>>, now: Moment) {
        while early.front().is_some_and(|early| now.since(early.at) > EARLY_AGE_MAX) {
            if let Some(stale) = early.pop_front() {
                (self.give_up)(stale.what);
            }
        }
    }
}

fn has_room(waiting: impl ExactSizeIterator<Item = usize>, bytes: usize) -> bool {
    waiting.len() < EARLY_MAX && waiting.sum::<usize>() + bytes <= EARLY_BYTES_MAX
}

impl std::fmt::Debug for FrameKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_keys_is_bounded_in_number_and_in_bytes() {
        let waiting = |objects: usize, bytes: usize| std::iter::repeat_n(bytes, objects);
        assert!(has_room(waiting(EARLY_MAX - 1, 200), 200));
        assert!(!has_room(waiting(EARLY_MAX, 200), 200));
        assert!(has_room(waiting(1, 2 << 20), 2 << 20));
        assert!(!has_room(waiting(2, 2 << 20), 1), "a relay that names objects of other epochs fills no memory");
    }
}
