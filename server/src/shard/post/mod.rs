//! Mail between shards, and how much of it may wait.

pub(crate) mod headroom;
pub(crate) mod inbox;

use supernode_proto::close::StreamCode;

use self::{
    headroom::Headroom,
    inbox::{Letter, MediaMail, Postbox},
};
use crate::{
    core::{Address, Homes, ShardId, StreamKey, group_cache::CachedStream},
    shard::{figures::counters::Tally, net::socket::Received},
};

/// Letters, and media, that are taken in one turn, so that they cannot keep packets waiting.
pub(crate) const PER_TURN_MAX: usize = 4096;

/// Where one shard puts mail for all of them, itself included.
pub(crate) struct Post {
    at: Address,
    /// The shards of its node, by number.
    peers: Vec<Postbox>,
    /// Peers that were given mail since they were last woken.
    unwoken: Vec<bool>,
    headroom: Headroom,
    /// Media for other nodes, each with the shard there, in order: until its link takes it at the end of the turn. As much as a
    /// turn makes.
    for_nodes: Vec<(Address, ForNode)>,
}

/// What a publisher's shard has for another node.
#[derive(Debug)]
pub(crate) enum ForNode {
    /// The same as another shard of its own would get.
    Media(MediaMail),
    /// A stream as far as it has come, for those who come late there.
    Join(Box<CachedStream<StreamKey>>),
    /// A stream ends before its last byte.
    Aborted(StreamKey, StreamCode),
}

impl Post {
    /// That of this shard, for these.
    pub(crate) fn new(at: Address, peers: Vec<Postbox>) -> Self {
        Self {
            at,
            unwoken: vec![false; peers.len()],
            headroom: Headroom::of(peers.len()),
            for_nodes: Vec::new(),
            peers,
        }
    }

    /// Whose it is.
    pub(crate) fn address(&self) -> Address {
        self.at
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.peers.len()
    }

    /// Where this node's homes are.
    pub(crate) fn homes(&self) -> Homes {
        Homes::new(self.at.node, self.peers.len() as u16)
    }

    /// Hands another shard a packet of one of its connections. A full inbox loses it, as a full path would.
    pub(crate) fn hand_over(&mut self, owner: ShardId, packet: Received, tally: &mut Tally) {
        tally.handed_over += 1;
        self.put_media(self.at.beside(owner), MediaMail::Packet(packet));
    }

    /// Gives a shard media, unless its inbox is full; whether it took it. What is for a shard of another node always finds room,
    /// and is dropped, and counted, by the link to that node.
    pub(crate) fn put_media(&mut self, to: Address, mail: MediaMail) -> bool {
        if matches!(mail, MediaMail::StreamPart { .. }) && crate::planted::planted!(PartLost, once in 20) {
            return true;
        }
        if to.node != self.at.node {
            self.put_for_node(to, ForNode::Media(mail));
            return true;
        }
        self.peer(to).put_media(mail)
    }

    /// Keeps media for a shard of another node until the turn's end.
    #[cold]
    pub(crate) fn put_for_node(&mut self, to: Address, what: ForNode) {
        self.for_nodes.push((to, what));
    }

    /// Media for other nodes that no link has taken yet. To be given back empty, so that its memory is used again.
    pub(crate) fn for_nodes(&mut self) -> &mut Vec<(Address, ForNode)> {
        &mut self.for_nodes
    }

    /// Whether there is any.
    pub(crate) fn has_for_nodes(&self) -> bool {
        !self.for_nodes.is_empty()
    }

    /// Gives a shard of this node a letter. Of what streams' shards tell each other those of other nodes are told only that a
    /// stream has ended early.
    pub(crate) fn put_letter(&mut self, to: Address, letter: Letter) {
        if crate::planted::planted!(LetterLost, once in 100) {
            return;
        }
        if to.node != self.at.node {
            if let Letter::StreamAborted(key, code) = letter {
                self.put_for_node(to, ForNode::Aborted(key, code));
            }
            return;
        }
        let bytes = self.peer(to).put_control(letter);
        self.headroom.put(bytes);
    }

    /// Where mail for a shard is put; it is woken at the end of the turn.
    fn peer(&mut self, to: Address) -> &Postbox {
        debug_assert_eq!(to.node, self.at.node, "its shards have other inboxes");
        let index = to.shard.index();
        self.unwoken[index] = true;
        &self.peers[index]
    }

    /// Wakes the shards that were given mail. To be called at the end of each turn.
    pub(crate) fn wake(&mut self) {
        for (peer, unwoken) in self.peers.iter().zip(&mut self.unwoken) {
            if std::mem::take(unwoken) {
                peer.wake();
            }
        }
    }

    /// Takes note of what waits in the others' inboxes.
    pub(crate) fn look(&mut self) {
        self.headroom.look(&self.peers);
    }

    /// What this turn may still make the relay keep.
    pub(crate) fn headroom(&mut self) -> &mut Headroom {
        &mut self.headroom
    }

    /// Whether nothing more may be asked for in this turn.
    pub(crate) fn is_used_up(&self) -> bool {
        self.headroom.is_used_up()
    }
}
