//! A room of the SDK: [`supernode_calls::room`] with its locks, and what the SDK has beside it: tracks, events for whoever
//! listens, and the tasks that keep it in order.
//!
//! Who waits for whom: work on the group takes up to tens of milliseconds in a large room, and is done on threads that
//! may wait for so long. What everybody asks is answered by the state, which is held for moments. Frames wait for neither,
//! but for what is inside the frame keys. Locked in this order: membership, state, tracks, and one of the others.

mod asked;
#[cfg(test)]
mod busy_tests;
pub(crate) mod commit;
pub(crate) mod entry;
pub(crate) mod keeper;
#[cfg(feature = "measured")]
pub(crate) mod measured;
mod sealing;
mod steps;
#[cfg(test)]
mod tests;
mod tracks;

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use supernode_calls::{
    rights::Said,
    room::{EarlyObjects, FrameKeys, Membership, Parts, RoomState, Wish},
};
use supernode_e2ee::Group;
use supernode_proto::identity::RoomId;
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    CallEvent, Error,
    error::CallEnd,
    rights::door::Hosting,
    sync::lock,
    wire::{backoff::random_wait, clock, link::Link},
};

use sealing::Early;
pub(crate) use supernode_calls::room::Opened;
pub use supernode_calls::{Member, room::RosterEntry};
use tracks::Tracks;

/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 256;
/// Messages of the group that wait for whoever is at a door: an admission comes in fewer parts.
const SAID_MAX: usize = 32;

/// A room.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) events: broadcast::Sender<CallEvent>,
    /// Told after every change of what the state says.
    pub(crate) changed: watch::Sender<()>,
    /// What makes it a room that people come to and go from; `None` for a call of those who were rung.
    pub(crate) hosting: Option<Hosting>,
    /// Held while a commit of ours is under way.
    pub(crate) committing: tokio::sync::Mutex<()>,
    /// Why it is over for us: publishers ask before each frame, without the state.
    end: OnceLock<CallEnd>,
    membership: Mutex<Membership>,
    state: Mutex<RoomState>,
    tracks: Mutex<Tracks>,
    frame_keys: Arc<FrameKeys>,
    early: EarlyObjects<Early>,
    said: mpsc::Sender<(Member, Said)>,
    said_to_us: Mutex<Option<mpsc::Receiver<(Member, Said)>>>,
}

impl Room {
    /// A call, whose group holds exactly those who may be in it, or a room that its members let others into.
    /// Fresh keys come at least once in `renew_within`.
    pub(crate) fn new(group: Group, hosting: Option<Hosting>, renew_within: Duration) -> Result<Arc<Self>, Error> {
        let door = hosting.as_ref().map(|hosting| &hosting.door);
        let parts = Parts::new(group, door, renew_within, clock::moment(), &random_wait)?;
        let Parts { membership, state, frame_keys } = parts;
        let (said, said_to_us) = mpsc::channel(SAID_MAX);
        Ok(Arc::new(Self {
            id: state.id(),
            events: broadcast::Sender::new(EVENTS_MAX),
            changed: watch::Sender::new(()),
            hosting,
            committing: tokio::sync::Mutex::default(),
            end: OnceLock::new(),
            membership: Mutex::new(membership),
            state: Mutex::new(state),
            tracks: Mutex::default(),
            frame_keys,
            early: EarlyObjects::new(Early::give_up),
            said,
            said_to_us: Mutex::new(Some(said_to_us)),
        }))
    }

    /// Does what the room wishes, and tells everybody who waits for a change. `link` is the connection, where there may be
    /// something to send.
    fn grant(self: &Arc<Self>, link: Option<&Link>, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                // Nobody listening is no fault: the state says the same.
                Wish::Tell(event) => drop(self.events.send(event.into())),
                // What does not fit was sent by somebody who does not wait for an answer.
                Wish::Said(from, said) => drop(self.said.try_send((from, said))),
                Wish::UseKeys => self.use_keys(),
                Wish::LoseRoutes => self.lose_routes(),
                Wish::Send(request) => {
                    if let Some(link) = link {
                        link.send(*request, None);
                    }
                }
                Wish::Read(delivery) => self.follow(link, &delivery),
                Wish::End(reason) => self.end_with(reason),
            }
        }
        self.changed.send_replace(());
    }

    /// Ends the call on this side, once; the first reason stays.
    pub(crate) fn end_with(&self, reason: CallEnd) {
        if self.end.set(reason).is_err() {
            return;
        }
        lock(&self.state).end();
        self.early.forget();
        self.end_tracks();
        self.tell(CallEvent::Ended(reason));
    }

    fn tell(&self, event: CallEvent) {
        // As above.
        let _ = self.events.send(event);
        self.changed.send_replace(());
    }
}
