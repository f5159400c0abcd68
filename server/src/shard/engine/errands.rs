//! What the core wants done, carried out.

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{MlsDelivery, RelayMessage, frame, relay_message::Body},
    identity::RoomId,
};

use super::Engine;
use crate::{
    core::{ClientMail, Errand, Now, SessionId},
    shard::{connections::connection::Connection, post::inbox::Letter},
};

impl Engine {
    /// Does what the core wants done, until it wants nothing more. To be called after each step: within one, what is done may
    /// make the core want more, which then comes in its turn.
    #[inline]
    pub(super) fn carry_out(&mut self, now: Now) {
        // After most packets there is nothing.
        if !self.outbox.is_empty() {
            self.carry_out_all(now);
        }
    }

    fn carry_out_all(&mut self, now: Now) {
        while let Some(errand) = self.core.next_errand(now, &mut self.outbox) {
            match errand {
                Errand::Post(to, letter) if to.node == self.post.address().node => {
                    self.post.put_letter(to, Letter::Core(letter));
                }
                Errand::Post(to, letter) => self.send_to_node(to, &letter, now),
                Errand::Client(mail) => self.pass(mail, now),
                Errand::EndSubscription { link, alias, code } => {
                    if let Some(connection) = self.connections.get_mut(link) {
                        connection.purge(alias, code, &mut self.core.ledger);
                        self.connections.touch(link);
                    }
                }
                Errand::Recall(link) => {
                    if let Some(connection) = self.connections.get_mut(link) {
                        connection.recall(&mut self.core.ledger);
                        self.connections.touch(link);
                    }
                }
                Errand::Push(push) => {
                    if let Some(send) = &self.send_push {
                        send(push);
                    }
                }
                Errand::Bus(errand) => {
                    if let Some(nodes) = &self.nodes {
                        nodes.tell_bus(errand);
                    }
                }
                Errand::Home(wish) => {
                    if let Some(nodes) = &self.nodes {
                        nodes.tell_homes(wish);
                    }
                }
                Errand::SendNewestGroup { session, via, alias } => {
                    let (streams, mut cx) = self.streams();
                    streams.send_newest_group((session, via), alias, &mut cx, now.instant);
                }
                Errand::EndAbroad { at, alias } => {
                    self.streams.forget_remote(alias, at);
                    if let Some(nodes) = &mut self.nodes {
                        nodes.end_track(at.node, alias);
                    }
                }
            }
        }
    }

    fn pass(&mut self, mail: ClientMail, now: Now) {
        match mail {
            ClientMail::Send { to, message } => {
                if self.core.is_live(to) {
                    self.send(to.link, frame(&message), now);
                }
            }
            ClientMail::Tell { to, message } => {
                let frame = frame(&message);
                for to in to {
                    if self.core.is_live(to) {
                        self.send(to.link, frame.clone(), now);
                    }
                }
            }
            ClientMail::Deliver { to, delivery } => self.deliver(&to, delivery, now),
            ClientMail::DeliverWithheld { to, room, missed } => self.deliver_withheld(to, room, missed, now),
            ClientMail::Close { session, code } => {
                if self.core.is_live(session) {
                    self.close(session.link, code, now);
                }
            }
        }
    }

    /// Queues a message for a client, or closes the session of one that does not read.
    fn send(&mut self, link: u32, frame: Bytes, now: Now) {
        let backlog_max = self.core.limits().control_backlog_bytes_max;
        self.post.headroom().queue(frame.len());
        if !self.connections.send(link, frame, backlog_max) {
            self.close(link, CloseCode::CONTROL_BACKLOG, now);
        }
    }

    /// Passes a room's message to members on this shard.
    fn deliver(&mut self, to: &[SessionId], delivery: MlsDelivery, now: Now) {
        let Ok(room) = RoomId::from_slice(&delivery.room) else { return };
        let sequence = delivery.sequence;
        let frame = framed(delivery);
        for to in to {
            self.deliver_to(*to, room, sequence, &frame, now);
        }
    }

    /// Passes on what was withheld from a member. Nothing left of it: as if it had not read at all.
    fn deliver_withheld(&mut self, to: SessionId, room: RoomId, missed: Option<Vec<MlsDelivery>>, now: Now) {
        let Some(connection) = self.open_connection(to) else { return };
        connection.withheld.forget(&room);
        let Some(missed) = missed else { return self.close(to.link, CloseCode::CONTROL_BACKLOG, now) };
        for delivery in missed {
            let sequence = delivery.sequence;
            self.deliver_to(to, room, sequence, &framed(delivery), now);
        }
    }

    fn deliver_to(&mut self, to: SessionId, room: RoomId, sequence: u64, frame: &Bytes, now: Now) {
        let half = self.core.limits().control_backlog_bytes_max / 2;
        let Some(connection) = self.open_connection(to) else { return };
        if connection.withheld.misses(&room) || !connection.has_room_for(frame.len(), half) {
            connection.withheld.withhold(room, sequence);
            self.figures.tally().mls_withheld += 1;
            // It may have nothing else to do, and be asked when it has written what waits.
            return self.connections.touch(to.link);
        }
        self.send(to.link, frame.clone(), now);
    }

    fn open_connection(&mut self, session: SessionId) -> Option<&mut Connection> {
        if self.core.is_live(session) { self.connections.get_mut(session.link) } else { None }
    }
}

fn framed(delivery: MlsDelivery) -> Bytes {
    frame(&RelayMessage { reply_to: 0, body: Some(Body::MlsDelivery(delivery)) })
}
