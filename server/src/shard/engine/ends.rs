//! How connections end, and what that takes back.

use std::time::Instant;

use quinn_proto::{ConnectionError, StreamId};
use supernode_proto::close::{CloseCode, StreamCode};

use super::Engine;
use crate::{
    core::{Now, StreamKey},
    shard::{connections::connection::Phase, quic::transport},
};

impl Engine {
    /// Closes a connection with a code. What follows from it is carried out after the step.
    pub(super) fn close(&mut self, link: u32, code: CloseCode, now: Now) {
        let Some(connection) = self.connections.get_mut(link) else { return };
        if connection.phase != Phase::Closed {
            connection.codec.close(&mut connection.quic, code, transport::reason(code, now), now.instant);
            if code == CloseCode::NOT_ADMITTED {
                self.core.forget_push_endpoint(link);
            }
            self.end(link, code, false, now);
        }
        self.connections.touch(link);
    }

    /// A client has ended its session: its connection ends with it. One whose session the relay has ended only says that it
    /// has heard that, and closes the connection itself.
    pub(super) fn leave(&mut self, link: u32, clean: bool, now: Now) {
        self.end(link, CloseCode::BYE, clean, now);
        let Some(connection) = self.connections.get_mut(link) else { return };
        if connection.lingers_until().is_some() {
            return;
        }
        connection.codec.hang_up(&mut connection.quic, now.instant);
        self.connections.touch(link);
    }

    pub(super) fn close_each(&mut self, whom: Vec<(u32, CloseCode)>, now: Now) {
        for (link, code) in whom {
            self.close(link, code, now);
            self.carry_out(now);
        }
    }

    /// Closes every connection.
    pub(super) fn close_all(&mut self, code: CloseCode, now: Now) {
        for link in 0..self.connections.links() {
            self.close(link, code, now);
        }
    }

    /// A connection is over, whoever ended it: takes back everything it had.
    pub(super) fn end(&mut self, link: u32, code: CloseCode, clean: bool, now: Now) {
        let Self { core, outbox, connections, door, figures, .. } = self;
        let Some(connection) = connections.get_mut(link) else { return };
        door.end(link, connection);
        let tally = figures.tally();
        match std::mem::replace(&mut connection.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Handshaking => {
                tally.handshaking -= 1;
                tally.handshakes_failed += 1;
            }
            Phase::Greeting => {
                tally.handshaking -= 1;
                tally.close(code);
            }
            Phase::Open(_) => {
                tally.close(code);
                if let Some(bytes) = connection.take_uncharged(1) {
                    core.charge_egress(link, bytes, now.instant, outbox);
                }
            }
        }
        connection.clear(&mut core.ledger);
        let published: Vec<(StreamId, StreamKey)> =
            connection.ingress.drain().map(|(id, ingress)| (id, ingress.key)).collect();
        if connection.kept.beyond_window() > 0 {
            // QUIC keeps a connection that is closed for a while, but not what it has of streams that were stopped.
            for id in published.iter().map(|(id, _)| *id).chain(connection.control) {
                connection.stop(id, StreamCode::CANCELLED);
            }
        }
        connection.kept.clear();
        connection.count_anew();
        let (streams, mut cx) = self.streams();
        for (_, key) in published {
            streams.abort(key, StreamCode::CANCELLED, &mut cx);
        }
        self.core.close_session(link, clean, now, &mut self.outbox);
    }

    /// A connection is no more.
    pub(super) fn forget(&mut self, link: u32, now: Instant) {
        if let Some(connection) = self.connections.remove(link) {
            self.figures.tally().connections -= 1;
            self.door.leave(&connection, now);
        }
    }
}

/// Why QUIC ended a connection, in our terms, and whether its client said goodbye.
pub(super) fn code_of(error: &ConnectionError) -> (CloseCode, bool) {
    match error {
        ConnectionError::TimedOut | ConnectionError::Reset => (CloseCode::BYE, false),
        // What came broke QUIC or TLS, or its defences ended it; or the client says that of what it was sent.
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::VersionMismatch => (CloseCode::TRANSPORT_ERROR, false),
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => (CloseCode::INTERNAL, false),
    }
}
