//! Where the links to other nodes meet the rest of a shard.

use quinn_proto::ConnectionHandle;
use supernode_proto::close::CloseCode;

use super::Engine;
use crate::{
    core::{Address, ControlMail, Now},
    shard::{
        connections::connection::Connection,
        figures::counters::Tally,
        net::socket::SendBatch,
        nodes::{NodeFigures, Roster, Word},
    },
};

impl Engine {
    /// A letter for another node. Where nobody is one, nobody is known to whom it could go.
    #[cold]
    pub(super) fn send_to_node(&mut self, to: Address, letter: &[ControlMail], now: Now) {
        if let Some(nodes) = &mut self.nodes {
            nodes.send(to, letter, &mut self.post, now.instant);
        }
    }

    pub(super) fn set_roster(&mut self, roster: &Roster, now: Now) {
        if let Some(nodes) = &mut self.nodes {
            nodes.set_roster(roster, &mut self.post, now.instant);
        }
    }

    pub(super) fn begin_anew_with_nodes(&mut self, now: Now) {
        if let Some(nodes) = &mut self.nodes {
            nodes.begin_anew(&mut self.post, now.instant);
        }
    }

    /// Another node has come, or gone: its links first, then the core, which may write to it at once.
    pub(super) fn hear_of_node(&mut self, word: Word, now: Now) {
        let Some(nodes) = &mut self.nodes else { return };
        nodes.hear(word, now.instant);
        let mail = match word {
            Word::Came(node) => ControlMail::NodeCame(node),
            Word::Over { node, was_up: true, .. } => ControlMail::NodeGone(node),
            Word::Over { .. } => return,
        };
        self.core.handle_letter(vec![mail], &mut self.outbox);
        self.carry_out(now);
    }

    /// The first message on a connection whose client says that it is a node. Until it is known to be one, it is a newcomer
    /// as all others, with their bounds; from then on it is no client, and has a place of its own.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub(super) fn greet_node(&mut self, link: u32, hello: &[u8], now: Now) -> Result<(), CloseCode> {
        let Self { nodes, connections, door, figures, post, .. } = self;
        let nodes = nodes.as_mut().ok_or(CloseCode::NODE_REFUSED)?;
        let connection = connections.get_mut(link).ok_or(CloseCode::INTERNAL)?;
        let stream = connection.control.ok_or(CloseCode::INTERNAL)?;
        let known = nodes.check(hello, &connection.quic)?;
        let Some(connection) = connections.remove(link) else { return Err(CloseCode::INTERNAL) };
        door.leave(&connection, now.instant);
        let tally = figures.tally();
        tally.handshaking -= 1;
        tally.connections -= 1;
        let Connection { quic, handle, reader, .. } = *connection;
        nodes.take_in(known, (handle, quic), (stream, reader), post, now.instant);
        Ok(())
    }

    /// More came behind a node's Hello than it may say before it is welcomed.
    #[cold]
    pub(super) fn refuse_haste(&mut self, link: u32, now: Now) {
        if let Some(nodes) = &mut self.nodes {
            nodes.refuse(ConnectionHandle(link as usize).0, &mut self.post, now.instant);
        }
    }

    /// What was counted of them, if it is a node.
    pub(crate) fn node_figures(&self) -> Option<NodeFigures> {
        self.nodes.as_ref().map(|nodes| nodes.figures())
    }

    pub(super) fn build_for_nodes(
        &mut self,
        now: Now,
        out: &mut SendBatch,
        flush: &mut impl FnMut(&mut SendBatch, &mut Tally),
    ) {
        let Self { nodes, endpoint, segments_max, figures, post, core, streams, .. } = self;
        if let Some(nodes) = nodes {
            nodes.take_media(core, post, now.instant);
            let bounds = (*segments_max, core.limits().data_queue_bytes_max, now.instant);
            nodes.build(endpoint, bounds, out, figures.tally(), flush, post);
            for hold in nodes.take_holds() {
                streams.set_hold(hold.key, hold.by, hold.on);
            }
        }
    }
}
