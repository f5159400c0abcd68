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
use crate::{CallEvent, Error, frame::FrameTimes, sync::lock, track::RemoteTrack};

/// Objects whose keys are not here yet: a few hundred milliseconds of a call.
const EARLY_MAX: usize = 512;
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
                if state.early.len() >= EARLY_MAX {
                    return Opened::Bad;
                }
                state.early.push_back(Early {
                    at: now,
                    track: track.clone(),
                    visible,
                    sealed: sealed.clone(),
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
