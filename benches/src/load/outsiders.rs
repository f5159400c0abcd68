//! Those who must get nothing: strangers in no room, and members from the moment on at which it was acknowledged that they
//! are put out.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use supernode_proto::{
    control::{KickMember, Subscribe, client_message::Body as Request},
    object::TrackAlias,
};

/// Tracks that each of them asks for, at most: enough to tell, and far below what a session may ask in one go.
const TRIES_MAX: usize = 16;

/// What clients on all workers must know of them.
pub(super) struct Outsiders {
    /// Tracks that somebody publishes; as many as anybody tries.
    tracks: Mutex<Vec<u64>>,
    /// By their number in the plan.
    places: Vec<Place>,
}

#[derive(Default)]
struct Place {
    /// Its number in its room.
    member: OnceLock<u32>,
    /// When it was acknowledged that it is out.
    out: OnceLock<Instant>,
}

impl Outsiders {
    pub(super) fn new(clients: usize) -> Self {
        Self { tracks: Mutex::default(), places: (0..clients).map(|_| Place::default()).collect() }
    }

    /// A track is there that only members may have.
    pub(super) fn note_track(&self, alias: TrackAlias) {
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        if tracks.len() < TRIES_MAX {
            tracks.push(alias.value());
        }
    }

    /// A client has this number in its room.
    pub(super) fn note_member(&self, client: u32, member: u32) {
        let _ = self.places[client as usize].member.set(member);
    }

    /// The relay says that a client is out.
    pub(super) fn note_out(&self, client: u32, at: Instant) {
        let _ = self.places[client as usize].out.set(at);
    }

    /// Since when a client is out.
    pub(super) fn out_since(&self, client: u32) -> Option<Instant> {
        self.places[client as usize].out.get().copied()
    }

    /// What puts a client out of its room.
    pub(super) fn kick(&self, client: u32, room: [u8; 16]) -> Option<Request> {
        let member = *self.places[client as usize].member.get()?;
        Some(Request::KickMember(KickMember { room: room.to_vec().into(), member }))
    }

    /// Subscriptions to which a stranger has no right.
    pub(super) fn tries(&self) -> Vec<Request> {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        tracks.iter().copied().map(subscription).collect()
    }
}

/// Subscriptions that somebody had until it was put out.
pub(super) fn again(tracks: impl IntoIterator<Item = u64>) -> Vec<Request> {
    tracks.into_iter().take(TRIES_MAX).map(subscription).collect()
}

/// All layers of a track.
pub(super) fn subscription(alias: u64) -> Request {
    Request::Subscribe(Subscribe { alias, temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() })
}
