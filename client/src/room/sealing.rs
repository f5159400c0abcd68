//! Sealing and opening with a room's keys, and objects that come before theirs.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_e2ee::{TrackId, TrackInfo};
use supernode_proto::{control::TrackKind, object::Visible};

use super::{Room, State};
use crate::{
    CallEvent, Error,
    sync::lock,
    tracks::{frame::FrameTimes, track::RemoteTrack},
};

/// Objects whose keys are not here yet: a few hundred milliseconds of a call.
const EARLY_MAX: usize = 512;
/// Of a picture as well, whose frames are larger: at most this much of them, in bytes.
const EARLY_BYTES_MAX: usize = 4 * 1024 * 1024;
const EARLY_AGE_MAX: Duration = Duration::from_secs(3);

/// An object that came before the keys of its epoch.
pub(super) struct Early {
    at: Instant,
    track: Arc<RemoteTrack>,
    visible: Visible,
    sealed: Bytes,
    wire_bytes: usize,
}

/// What became of a sealed object.
pub(crate) enum Opened {
    Payload(Vec<u8>),
    /// Its keys may still come: the room keeps it for a while.
    Later,
    Bad,
}

fn has_room(early: &VecDeque<Early>, bytes: usize) -> bool {
    let waiting: usize = early.iter().map(|early| early.sealed.len()).sum();
    early.len() < EARLY_MAX && waiting + bytes <= EARLY_BYTES_MAX
}

impl Room {
    /// Seals the times and the codec's bytes; appends to `out`.
    pub(crate) fn seal(
        &self,
        track: &TrackId,
        visible: &Visible,
        times: FrameTimes,
        codec: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        scratch.clear();
        scratch.extend_from_slice(&times.to_bytes());
        scratch.extend_from_slice(codec);
        lock(&self.state).sealer.seal(track, visible, scratch, out)?;
        Ok(())
    }

    /// Whether nothing may be sent now: somebody is in the group again whose removal was taken back, or members
    /// are in different groups and no person said to go on.
    pub(crate) fn is_silent(&self) -> bool {
        let state = lock(&self.state);
        !state.must_go.is_empty() || state.beacons.hold_back()
    }

    pub(crate) fn seal_label(&self, kind: TrackKind, info: &TrackInfo) -> Result<Vec<u8>, Error> {
        Ok(lock(&self.state).sealer.seal_label(kind as u8, info)?)
    }

    pub(crate) fn open(&self, track: &Arc<RemoteTrack>, visible: Visible, sealed: &Bytes, wire_bytes: usize) -> Opened {
        let mut payload = Vec::with_capacity(sealed.len());
        let mut state = lock(&self.state);
        match state.opener.open(&track.publisher.device, &track.info.id, &visible, sealed, &mut payload) {
            Ok(()) => {
                state.beacons.note_opened(&track.publisher.device);
                Opened::Payload(payload)
            }
            Err(supernode_e2ee::Error::UnknownKey) => {
                let now = Instant::now();
                if state.opener.is_ahead(sealed) && state.beacons.note_ahead(track.publisher.device, now) {
                    self.changed.send_replace(());
                }
                state.drop_stale(now);
                if !has_room(&state.early, sealed.len()) {
                    return Opened::Bad;
                }
                state.early.push_back(Early {
                    at: now,
                    track: track.clone(),
                    visible,
                    // A slice would keep the whole packet.
                    sealed: Bytes::copy_from_slice(sealed),
                    wire_bytes,
                });
                Opened::Later
            }
            Err(_) => Opened::Bad,
        }
    }

    /// There are new keys: what came before them opens, and newcomers are told again what our tracks are.
    pub(super) fn use_keys(self: &Arc<Self>, early: VecDeque<Early>) {
        for Early { track, visible, sealed, wire_bytes, .. } in early {
            track.handle_object(visible, sealed, wire_bytes);
        }
        let recognized = lock(&self.state).recognize();
        self.tell_all(recognized);
        self.announce_again();
        self.retire_departed();
        self.tell(CallEvent::KeysChanged);
    }
}

impl State {
    /// Takes the group's current keys into use, which are of an epoch that we began ourselves or another did; returns what
    /// may open now.
    pub(super) fn install_keys(&mut self, at_once: bool) -> VecDeque<Early> {
        let installed = self.group.epoch_keys().and_then(|keys| {
            self.opener.install(&keys)?;
            self.sealer.install(&keys)
        });
        if let Err(error) = installed {
            tracing::debug!(%error, "the keys of an epoch could not be taken into use");
        }
        self.keep_epoch_before();
        self.note_epoch(at_once);
        let members: HashSet<_> = self.group.members().iter().map(|member| member.device).collect();
        self.must_go.retain(|device| members.contains(device));
        self.drop_stale(Instant::now());
        std::mem::take(&mut self.early)
    }

    fn drop_stale(&mut self, now: Instant) {
        while self.early.front().is_some_and(|early| now.duration_since(early.at) > EARLY_AGE_MAX) {
            if let Some(early) = self.early.pop_front() {
                early.track.counters.count_undecryptable();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use supernode_proto::identity::{DeviceKey, IdentityKey};

    use super::*;
    use crate::Member;

    fn waiting(objects: usize, bytes: usize) -> VecDeque<Early> {
        let info = TrackInfo { id: TrackId([1; 8]), name: String::new(), codec: String::new(), parameters: vec![] };
        let publisher = Member { identity: IdentityKey::new([1; 32]), device: DeviceKey::new([2; 32]) };
        let track = Arc::new(RemoteTrack::new(Weak::new(), TrackKind::Video, info, publisher));
        let sealed = Bytes::from(vec![0; bytes]);
        let early = || Early {
            at: Instant::now(),
            track: track.clone(),
            visible: Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() },
            sealed: sealed.clone(),
            wire_bytes: bytes,
        };
        (0..objects).map(|_| early()).collect()
    }

    #[test]
    fn what_waits_for_keys_is_bounded_in_number_and_in_bytes() {
        assert!(has_room(&waiting(EARLY_MAX - 1, 200), 200));
        assert!(!has_room(&waiting(EARLY_MAX, 200), 200));
        assert!(has_room(&waiting(1, 2 << 20), 2 << 20));
        assert!(!has_room(&waiting(2, 2 << 20), 1), "a relay that names objects of other epochs fills no memory");
    }
}
