//! Messages of mailboxes that a client has no room for: they stay in their rooms' histories until it has read what waits.
//!
//! Everybody in a room may send at once, each as much as they are granted. Whoever reads slower than that misses messages
//! for a while, and is not closed for what others did.

use std::collections::BTreeMap;

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{MlsDelivery, RelayMessage, frame, relay_message::Body},
    identity::RoomId,
};

use super::connection::Connection;
use crate::{
    core::{ControlMail, Now, SessionId},
    shard::engine::Engine,
};

/// The rooms of which a client misses messages: at most those that it is in.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    by_room: BTreeMap<RoomId, Missing>,
}

#[derive(Debug)]
struct Missing {
    /// The last message that it was sent.
    after: u64,
    /// Whether the room's home has been asked for the rest.
    asked: bool,
}

impl Engine {
    /// Passes a room's message to members on this shard.
    pub(crate) fn deliver(&mut self, to: &[SessionId], delivery: MlsDelivery, now: Now) {
        let Ok(room) = RoomId::from_slice(&delivery.room) else { return };
        let sequence = delivery.sequence;
        let frame = framed(delivery);
        for to in to {
            self.deliver_to(*to, room, sequence, &frame, now);
        }
    }

    /// Passes on what was withheld from a member. Nothing left of it: as if it had not read at all.
    pub(crate) fn deliver_withheld(&mut self, to: SessionId, room: RoomId, missed: Option<Vec<MlsDelivery>>, now: Now) {
        if let Some(connection) = self.open_connection(to) {
            connection.withheld.by_room.remove(&room);
        }
        let Some(missed) = missed else {
            if self.core.is_live(to) {
                self.close(to.link, CloseCode::CONTROL_BACKLOG, now);
            }
            return;
        };
        for delivery in missed {
            let sequence = delivery.sequence;
            self.deliver_to(to, room, sequence, &framed(delivery), now);
        }
    }

    /// A client has read everything: asks for what was withheld from it.
    pub(crate) fn ask_for_withheld(&mut self, connection: &mut Connection) {
        let Some(from) = connection.session().filter(|_| !connection.control_waits()) else { return };
        for (room, missing) in connection.withheld.by_room.iter_mut().filter(|(_, missing)| !missing.asked) {
            missing.asked = true;
            let (home, after) = (self.outbox.home_of(room), missing.after);
            self.outbox.mail(home, ControlMail::Withheld { from, room: *room, after });
        }
    }

    fn deliver_to(&mut self, to: SessionId, room: RoomId, sequence: u64, frame: &Bytes, now: Now) {
        let half = self.core.limits().control_backlog_bytes_max / 2;
        let Some(connection) = self.open_connection(to) else { return };
        let is_missing = connection.withheld.by_room.contains_key(&room);
        if is_missing || !connection.has_room_for(frame.len(), half) {
            let missing = Missing { after: sequence.saturating_sub(1), asked: false };
            connection.withheld.by_room.entry(room).or_insert(missing);
            self.tally.mls_withheld += 1;
            // It may have nothing else to do, and be asked when it has written what waits.
            return self.touch(to.link);
        }
        self.send_frame(to.link, frame.clone(), now);
    }

    fn open_connection(&mut self, session: SessionId) -> Option<&mut Connection> {
        let is_live = self.core.is_live(session);
        self.connections.get_mut(session.link as usize)?.as_deref_mut().filter(|_| is_live)
    }
}

fn framed(delivery: MlsDelivery) -> Bytes {
    frame(&RelayMessage { reply_to: 0, body: Some(Body::MlsDelivery(delivery)) })
}
