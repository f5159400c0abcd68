//! Mail between shards, and how much of it may wait.

pub(crate) mod headroom;
pub(crate) mod inbox;

use self::{
    headroom::Headroom,
    inbox::{Letter, MediaMail, Postbox},
};
use crate::{
    core::ShardId,
    shard::{net::socket::Received, quic::cid},
};

/// Letters, and media, that are taken in one turn, so that they cannot keep packets waiting.
pub(crate) const PER_TURN_MAX: usize = 4096;

/// Where one shard puts mail for all of them, itself included.
pub(crate) struct Post {
    shard: ShardId,
    peers: Vec<Postbox>,
    /// Peers that were given mail since they were last woken.
    unwoken: Vec<bool>,
    headroom: Headroom,
}

impl Post {
    /// That of this shard, for these.
    pub(crate) fn new(shard: ShardId, peers: Vec<Postbox>) -> Self {
        Self { shard, unwoken: vec![false; peers.len()], headroom: Headroom::of(peers.len()), peers }
    }

    /// Whose it is.
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.peers.len()
    }

    /// The other shard to which a UDP datagram belongs, if it does.
    pub(crate) fn other_owner(&self, received: &Received) -> Option<ShardId> {
        cid::shard_of(&received.data).filter(|owner| *owner != self.shard && owner.index() < self.peers.len())
    }

    /// Gives a shard media, unless its inbox is full; whether it took it.
    pub(crate) fn put_media(&mut self, to: ShardId, mail: MediaMail) -> bool {
        if matches!(mail, MediaMail::StreamPart { .. }) && crate::planted::planted!(PartLost, once in 20) {
            return true;
        }
        self.unwoken[to.index()] = true;
        self.peers[to.index()].put_media(mail)
    }

    /// Gives a shard a letter.
    pub(crate) fn put_letter(&mut self, to: ShardId, letter: Letter) {
        if crate::planted::planted!(LetterLost, once in 100) {
            return;
        }
        self.unwoken[to.index()] = true;
        let bytes = self.peers[to.index()].put_control(letter);
        self.headroom.put(bytes);
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
