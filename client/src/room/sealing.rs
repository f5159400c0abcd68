//! Frames on their way out and in, and tracks when there are other keys.

use std::sync::Arc;

use bytes::Bytes;
use supernode_calls::room::{Opened, SealedObject};
use supernode_e2ee::TrackId;
use supernode_proto::object::Visible;

use super::Room;
use crate::{
    Error,
    tracks::{frame::FrameTimes, track::RemoteTrack},
    wire::clock,
};

/// What is kept of an object that came before the keys of its epoch.
pub(super) struct Early {
    track: Arc<RemoteTrack>,
    visible: Visible,
    wire_bytes: usize,
}

impl Early {
    pub(super) fn give_up(self) {
        self.track.counters.count_undecryptable();
    }
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
        Ok(self.frame_keys.seal(track, visible, times, codec, scratch, out)?)
    }

    /// Whether nothing may be sent now.
    pub(crate) fn is_silent(&self) -> bool {
        self.frame_keys.is_silent()
    }

    pub(crate) fn open(&self, track: &Arc<RemoteTrack>, visible: Visible, sealed: &Bytes, wire_bytes: usize) -> Opened {
        let (from, id) = (&track.publisher.device, &track.info.id);
        let object = SealedObject { from, track: id, visible: &visible, sealed };
        let early = || Early { track: track.clone(), visible, wire_bytes };
        let (opened, is_news) = self.early.open(&self.frame_keys, object, clock::moment(), early);
        if is_news {
            self.changed.send_replace(());
        }
        opened
    }

    /// There are new keys: what came before them opens, and newcomers are told again what our tracks are.
    pub(super) fn use_keys(self: &Arc<Self>) {
        for (sealed, Early { track, visible, wire_bytes }) in self.early.take(clock::moment()) {
            track.handle_object(visible, sealed, wire_bytes);
        }
        self.announce_again();
        self.retire_departed();
    }
}
