//! Sealing and opening with a room's keys, and objects that come before theirs.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_e2ee::{EpochKeys, Group, MediaOpener, MediaSealer, Snapshot, TrackId, TrackInfo};
use supernode_proto::{control::TrackKind, identity::DeviceKey, object::Visible};

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

/// What frames are sealed and opened by, whatever the group is busy with.
pub(super) struct FrameKeys {
    sealer: MediaSealer,
    opener: MediaOpener,
    early: Mutex<VecDeque<Early>>,
}

impl FrameKeys {
    pub(super) fn new(keys: &EpochKeys) -> Result<Self, supernode_e2ee::Error> {
        Ok(Self { sealer: MediaSealer::new(keys)?, opener: MediaOpener::new(keys)?, early: Mutex::default() })
    }

    /// Goes on in the next epoch: first to open, since others may be there already.
    fn install(&self, keys: &EpochKeys) -> Result<(), supernode_e2ee::Error> {
        self.opener.install(keys)?;
        self.sealer.install(keys)
    }

    /// Goes on in an epoch that was gone back to, or of another group.
    pub(super) fn restart(&self, keys: &EpochKeys) -> Result<(), supernode_e2ee::Error> {
        self.opener.restart(keys)?;
        self.sealer.restart(keys)
    }

    pub(super) fn forget_before(&self, epoch: u64) {
        self.opener.forget_before(epoch);
    }

    pub(super) fn open_label(
        &self,
        from: &DeviceKey,
        kind: TrackKind,
        label: &[u8],
    ) -> Result<TrackInfo, supernode_e2ee::Error> {
        self.opener.open_label(from, kind as u8, label)
    }

    /// What may open now.
    pub(super) fn take_early(&self) -> VecDeque<Early> {
        let mut early = lock(&self.early);
        drop_stale(&mut early, Instant::now());
        std::mem::take(&mut *early)
    }

    pub(super) fn forget_early(&self) {
        lock(&self.early).clear();
    }
}

fn drop_stale(early: &mut VecDeque<Early>, now: Instant) {
    while early.front().is_some_and(|early| now.duration_since(early.at) > EARLY_AGE_MAX) {
        if let Some(early) = early.pop_front() {
            early.track.counters.count_undecryptable();
        }
    }
}

fn has_room(early: &VecDeque<Early>, bytes: usize) -> bool {
    let waiting: usize = early.iter().map(|early| early.sealed.len()).sum();
    early.len() < EARLY_MAX && waiting + bytes <= EARLY_BYTES_MAX
}

impl Room {
    /// Seals the times and the codec's bytes and appends to `out`, unless nothing may be sent: whether it did.
    pub(crate) fn seal(
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
        if !must_go.is_empty() || lock(&self.beacons).hold_back() {
            return Ok(false);
        }
        self.frame_keys.sealer.seal(track, visible, scratch, out)?;
        Ok(true)
    }

    /// Whether nothing may be sent now: somebody is in the group again whose removal was taken back, or members
    /// are in different groups and no person said to go on.
    pub(crate) fn is_silent(&self) -> bool {
        !lock(&self.must_go).is_empty() || lock(&self.beacons).hold_back()
    }

    pub(crate) fn seal_label(&self, kind: TrackKind, info: &TrackInfo) -> Result<Vec<u8>, Error> {
        Ok(self.frame_keys.sealer.seal_label(kind as u8, info)?)
    }

    pub(crate) fn open(&self, track: &Arc<RemoteTrack>, visible: Visible, sealed: &Bytes, wire_bytes: usize) -> Opened {
        let mut payload = Vec::with_capacity(sealed.len());
        let device = &track.publisher.device;
        let open =
            |payload: &mut Vec<u8>| self.frame_keys.opener.open(device, &track.info.id, &visible, sealed, payload);
        let mut opened = open(&mut payload);
        if matches!(opened, Err(supernode_e2ee::Error::UnknownKey)) {
            let now = Instant::now();
            if self.frame_keys.opener.is_ahead(sealed) && lock(&self.beacons).note_ahead(*device, now) {
                self.changed.send_replace(());
            }
            let mut early = lock(&self.frame_keys.early);
            // Its keys may have come meanwhile, and what waited for them may have been taken out.
            opened = open(&mut payload);
            if matches!(opened, Err(supernode_e2ee::Error::UnknownKey)) {
                drop_stale(&mut early, now);
                if !has_room(&early, sealed.len()) {
                    return Opened::Bad;
                }
                // A slice would keep the whole packet.
                let sealed = Bytes::copy_from_slice(sealed);
                early.push_back(Early { at: now, track: track.clone(), visible, sealed, wire_bytes });
                return Opened::Later;
            }
        }
        match opened {
            Ok(()) => {
                lock(&self.beacons).note_opened(device);
                Opened::Payload(payload)
            }
            Err(_) => Opened::Bad,
        }
    }

    /// There are new keys: what came before them opens, and newcomers are told again what our tracks are.
    pub(super) fn use_keys(self: &Arc<Self>, early: VecDeque<Early>) {
        for Early { track, visible, sealed, wire_bytes, .. } in early {
            track.handle_object(visible, sealed, wire_bytes);
        }
        let recognized = self.recognize(&mut lock(&self.state));
        self.tell_all(recognized);
        self.announce_again();
        self.retire_departed();
        self.tell(CallEvent::KeysChanged);
    }

    /// Takes the keys into use of the epoch that the group has entered; returns what to answer by from then on. Whoever
    /// learns of the epoch can rely on its keys.
    pub(super) fn install(&self, group: &Group) -> Result<Snapshot, Error> {
        let snapshot = group.snapshot()?;
        self.frame_keys.install(&group.epoch_keys()?)?;
        Ok(snapshot)
    }

    /// The state is of that epoch, begun by us (`at_once`) or by another; returns what may open now.
    pub(super) fn note_installed(&self, state: &mut State, at_once: bool) -> VecDeque<Early> {
        state.keep_epoch_before();
        self.note_epoch(state, at_once);
        let members: HashSet<_> = state.group.members.iter().map(|member| member.device).collect();
        lock(&self.must_go).retain(|device| members.contains(device));
        self.frame_keys.take_early()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use supernode_proto::{
        control::CommitRejected,
        identity::{DeviceKey, IdentityKey},
    };

    use super::*;
    use crate::{Member, room::renewal::tests::room_of_two};

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

    /// Both locks are held: by whoever merges a commit, and by whoever asks who is here.
    #[test]
    fn a_frame_is_sealed_and_opened_while_the_group_and_the_state_are_busy() {
        let (_us, other, room, at_other) = room_of_two();
        let at_them = Room::new(at_other, None, Duration::from_secs(900)).expect("a room");
        let info = TrackInfo { id: TrackId([1; 8]), name: String::new(), codec: String::new(), parameters: vec![] };
        let from = Member { identity: other.identity(), device: other.key() };
        let track = Arc::new(RemoteTrack::new(Arc::downgrade(&room), TrackKind::Audio, info, from));
        let visible = Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() };
        let busy = [&room, &at_them].map(|room| (lock(&room.group), lock(&room.state)));
        let (done, is_done) = std::sync::mpsc::channel();
        let (here, there) = (room.clone(), at_them.clone());
        std::thread::spawn(move || {
            let times = FrameTimes { captured_at_us: 0, presentation_us: 0 };
            let mut sealed = Vec::new();
            assert!(there.end().is_none() && !there.is_silent(), "a publisher asks before each frame");
            there.seal(&track.info.id, &visible, times, b"sound", &mut Vec::new(), &mut sealed).expect("sealed");
            let opened = here.open(&track, visible, &sealed.into(), 0);
            done.send(matches!(opened, Opened::Payload(payload) if payload.ends_with(b"sound")))
        });
        assert!(is_done.recv_timeout(Duration::from_secs(20)).expect("nothing of it waits"), "it opens");
        drop(busy);
    }

    //
    #[test]
    fn what_a_taken_back_removal_would_let_somebody_hear_is_not_even_sealed() {
        let (_us, other, room, _) = room_of_two();
        let there = TrackId([1; 8]);
        let visible = Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() };
        let seals = || {
            let (times, mut sealed) = (FrameTimes { captured_at_us: 0, presentation_us: 0 }, Vec::new());
            let may = room.seal(&there, &visible, times, b"sound", &mut Vec::new(), &mut sealed).expect("no error");
            assert_eq!(may, !sealed.is_empty());
            may
        };
        let leaf = 1;
        room.make_commit(|group| group.propose_remove(&[leaf]).map(Some)).expect("made");
        let epoch = room.epoch();
        room.handle_own_commit(true);
        assert!(seals());
        let rejected = CommitRejected { epoch, ..CommitRejected::default() };
        room.handle_commit_rejected(&rejected);
        assert!(room.roster().iter().any(|entry| entry.member.device == other.key()), "they are back");
        assert!(!seals());
        room.make_commit(|group| group.propose_remove(&[leaf]).map(Some)).expect("made again");
        room.handle_own_commit(true);
        assert!(seals());
    }

    #[test]
    fn what_waits_for_keys_is_bounded_in_number_and_in_bytes() {
        assert!(has_room(&waiting(EARLY_MAX - 1, 200), 200));
        assert!(!has_room(&waiting(EARLY_MAX, 200), 200));
        assert!(has_room(&waiting(1, 2 << 20), 2 << 20));
        assert!(!has_room(&waiting(2, 2 << 20), 1), "a relay that names objects of other epochs fills no memory");
    }
}
