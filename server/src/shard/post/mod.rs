//! Mail between shards, and how much of it may wait.

pub(crate) mod headroom;
pub(crate) mod inbox;

use self::{
    headroom::Headroom,
    inbox::{Letter, MediaMail, Postbox},
};
use crate::{
    core::{Address, ShardId},
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
}

impl Post {
    /// That of this shard, for these.
    pub(crate) fn new(at: Address, peers: Vec<Postbox>) -> Self {
        Self { at, unwoken: vec![false; peers.len()], headroom: Headroom::of(peers.len()), peers }
    }

    /// Whose it is.
    pub(crate) fn address(&self) -> Address {
        self.at
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.peers.len()
    }

    /// Hands another shard a packet of one of its connections. A full inbox loses it, as a full path would.
    pub(crate) fn hand_over(&mut self, owner: ShardId, packet: Received, tally: &mut Tally) {
        tally.handed_over += 1;
        self.put_media(self.at.beside(owner), MediaMail::Packet(packet));
    }

    /// Gives a shard media, unless its inbox is full; whether it took it.
    pub(crate) fn put_media(&mut self, to: Address, mail: MediaMail) -> bool {
        if matches!(mail, MediaMail::StreamPart { .. }) && crate::planted::planted!(PartLost, once in 20) {
            return true;
        }
        // No object goes to another node yet: whoever asked there for some gets none.
        to.node == self.at.node && self.peer(to).put_media(mail)
    }

    /// Gives a shard of this node a letter. What streams' shards tell each other is for none of another.
    pub(crate) fn put_letter(&mut self, to: Address, letter: Letter) {
        if crate::planted::planted!(LetterLost, once in 100) {
            return;
        }
        if to.node != self.at.node {
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
