//! A room without a relay, to measure what media waits for beside the group: see `benches/media_beside_commits.rs`.

use std::sync::Arc;

use bytes::Bytes;
use supernode_e2ee::{Change, Group, TrackId, TrackInfo};
use supernode_proto::{
    control::{MlsDelivery, TrackKind},
    object::Visible,
};

use super::{Member, Opened, Room};
use crate::{
    Config, Error,
    tracks::{frame::FrameTimes, track::RemoteTrack},
};

/// A room as one of its members has it.
pub struct Measured {
    room: Arc<Room>,
    from: Arc<RemoteTrack>,
    plain: Vec<u8>,
}

impl Measured {
    /// The room of this group, in which `from` sends a track.
    ///
    /// # Errors
    /// [`Error::EndToEnd`].
    pub fn new(group: Group, from: Member, track: TrackInfo) -> Result<Self, Error> {
        let room = Room::new(group, None, Config::default().renew_keys_within)?;
        let from = Arc::new(RemoteTrack::new(Arc::downgrade(&room), TrackKind::Audio, track, from));
        Ok(Self { room, from, plain: Vec::new() })
    }

    /// What commits are made and followed by, on another thread.
    pub fn group(&self) -> MeasuredGroup {
        MeasuredGroup(self.room.clone())
    }

    /// Seals a frame as a publisher does.
    ///
    /// # Errors
    /// [`Error::EndToEnd`].
    pub fn seal(&mut self, track: &TrackId, visible: &Visible, codec: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let times = FrameTimes { captured_at_us: 0, presentation_us: 0 };
        self.room.seal(track, visible, times, codec, &mut self.plain, out).map(drop)
    }

    /// Opens a frame as whoever reads datagrams does; whether it opened.
    pub fn open(&self, visible: Visible, sealed: &Bytes) -> bool {
        matches!(self.room.open(&self.from, visible, sealed, sealed.len()), Opened::Payload(_))
    }
}

/// The room's group.
pub struct MeasuredGroup(Arc<Room>);

impl MeasuredGroup {
    /// Makes a commit, which the relay accepts.
    ///
    /// # Errors
    /// [`Error::EndToEnd`].
    pub fn commit(
        &self,
        make: impl FnOnce(&mut Group) -> Result<Change, supernode_e2ee::Error>,
    ) -> Result<Option<Change>, Error> {
        let change = self.0.make_commit(|group| make(group).map(Some))?;
        self.0.handle_own_commit(true);
        Ok(change)
    }

    /// Another member's commit comes.
    pub fn follow(&self, sequence: u64, change: &Change) {
        let room = Bytes::copy_from_slice(&self.0.id.0);
        let (epoch, payload) = (change.epoch, Bytes::copy_from_slice(&change.commit));
        self.0.follow(None, &MlsDelivery { room, sequence, epoch, commit: true, payload, ..MlsDelivery::default() });
    }

    /// The room's epoch.
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }
}
