//! What the session tells without being asked.

use std::sync::Arc;

use supernode_calls::room;
use supernode_proto::{
    control::Rung,
    identity::{RelayPin, Revocation},
};
use tokio::sync::mpsc;

use crate::{ClockSkew, Error, IncomingRing, Member, RemoteTrack, Transport, error::CallEnd};

pub use room::Warning;

/// The events of a client, in order. Read them: those that do not fit the queue are dropped and counted, and a ring that
/// does not fit is answered as busy.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// Waits for somebody to ring and drops all other events; `None` when the client is gone. Cancel safe.
    pub async fn next_ring(&mut self) -> Option<IncomingRing> {
        loop {
            match self.next().await? {
                Event::IncomingRing(ring) => return Some(ring),
                Event::Closed(_) => return None,
                _ => {}
            }
        }
    }
}

/// Something happened to the session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Somebody rings; that it is them has been verified.
    IncomingRing(IncomingRing),
    /// Another device of ours has brought our identity's newer word on which of our devices count no more: keep it for
    /// [`Config::revocation`](crate::Config::revocation).
    DevicesRevoked(Revocation),
    /// The relay sends us less, or more again, because of what our path takes.
    RungChanged(Rung),
    /// This device's clock and the relay's are a minute or more apart, as each new connection tells.
    ClockDiffers(ClockSkew),
    /// The relay has another key than we knew it by, which the old one has certified. Links to the old one hold for a while
    /// only: keep [`Client::invite`](crate::Client::invite) instead.
    RelayKeyChanged(RelayPin),
    /// Somebody rang whose invitation does not hold by our clock, so that nobody was shown it: see
    /// [`Event::ClockDiffers`]. They hear that nobody answered.
    MissedRing(supernode_e2ee::Error),
    /// The session goes by this from now on: from the start if it is TCP, later when it moves to UDP or comes back by another
    /// way than before.
    TransportChanged(Transport),
    /// The relay is about to go; the client moves by itself.
    GoingAway,
    /// The connection broke; the client is trying to come back.
    Disconnected(Error),
    /// The client is back, and everything is restored or on its way.
    Reconnected,
    /// The session is over for good: the client gave up, was turned away or was closed. The last event.
    Closed(Error),
}

/// Something happened in a call. All of it can be asked for as well: see [`Call`](crate::Call).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEvent {
    /// Somebody came.
    MemberJoined(Member),
    /// Somebody left, or their connection broke.
    MemberLeft(Member),
    /// Somebody has no place in the group any more, ourselves perhaps: whose commit it was is signed.
    Removed {
        /// Who.
        who: Member,
        /// By whom.
        by: Member,
        /// Put out by a host, or else only taken for gone: then they come back by any door.
        put_out: bool,
    },
    /// Somebody publishes, or publishes again after a reconnect.
    TrackAnnounced(Arc<RemoteTrack>),
    /// A track is not there any more.
    TrackEnded(Arc<RemoteTrack>),
    /// The group is in a new epoch: the safety number is another.
    KeysChanged,
    /// Everybody is in the same group again, or those who were not are gone.
    Healed,
    /// Something is not as it should be: show it.
    /// [`Call::go_on`](crate::Call::go_on) goes on in spite of a split.
    Warning(Warning),
    /// The connection broke; nothing arrives until it is back.
    Interrupted,
    /// We are back in the room.
    Resumed,
    /// The call is over for us. The last event.
    Ended(CallEnd),
}

impl From<room::Event> for CallEvent {
    fn from(event: room::Event) -> Self {
        match event {
            room::Event::MemberJoined(member) => Self::MemberJoined(member),
            room::Event::MemberLeft(member) => Self::MemberLeft(member),
            room::Event::Removed { who, by, put_out } => Self::Removed { who, by, put_out },
            room::Event::KeysChanged => Self::KeysChanged,
            room::Event::Healed => Self::Healed,
            room::Event::Warning(warning) => Self::Warning(warning),
            room::Event::Interrupted => Self::Interrupted,
            room::Event::Resumed => Self::Resumed,
        }
    }
}
