//! What the control plane wants done, as data.

use supernode_proto::{
    close::CloseCode,
    control::{CatchUp, Done, Refused, RejectCommit, RelayMessage, SendMls, relay_message::Body},
    identity::{DeviceKey, RoomId},
    object::TrackAlias,
};

use super::{MemberId, SessionId, ShardId, counts::Counts, forward::Demand};

/// A message between shards' control planes. It must not be lost: a shard whose inbox for these overflows closes its
/// sessions, and its clients come back to a consistent relay.
#[derive(Debug, Clone)]
pub enum ControlMail {
    /// Pass this to a client.
    Send {
        /// The client.
        to: SessionId,
        /// The message.
        message: RelayMessage,
    },
    /// End a session.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        code: CloseCode,
    },
    /// To the publisher's shard: what my sessions take of this track now.
    Interest {
        /// The track.
        alias: TrackAlias,
        /// Whose sessions.
        shard: ShardId,
        /// How many they are and what they take.
        demand: Demand,
        /// The one among them that is new and has seen nothing yet.
        fresh: Option<SessionId>,
    },
    /// Pass a subscriber's wish for a key frame to the publisher.
    Keyframe {
        /// The track.
        alias: TrackAlias,
    },
    /// The track is no more: forget its subscribers.
    TrackEnded {
        /// The track.
        alias: TrackAlias,
    },
    /// To the room's home shard, which alone passes the room's messages on, so that everybody gets them in one order.
    Mls {
        /// Who sent it.
        from: SessionId,
        /// As which member.
        member: MemberId,
        /// To be answered by Done or a refusal.
        request: u64,
        /// The message.
        sent: SendMls,
    },
    /// To the room's home shard: what a member missed.
    CatchUp {
        /// Who asks, maybe not a member at the moment.
        from: SessionId,
        /// From which device.
        device: DeviceKey,
        /// To be answered by the messages and Done, or a refusal.
        request: u64,
        /// Since when.
        wanted: CatchUp,
    },
    /// To the room's home shard: a member cannot process the last commit.
    RejectCommit {
        /// Who says so.
        from: SessionId,
        /// As which member.
        member: MemberId,
        /// To be answered by Done or a refusal.
        request: u64,
        /// Which commit.
        rejected: RejectCommit,
    },
    /// To the shard of a session whose commit was rejected.
    CommitRejected {
        /// The session.
        session: SessionId,
    },
    /// The session is no longer a member of the room: stop everything it sends and gets there, then answer the kicker.
    Evict {
        /// The member's session.
        session: SessionId,
        /// The room.
        room: RoomId,
        /// Who waits for it, and for which request.
        kicker: (SessionId, u64),
    },
}

/// Collects what a step of the control plane wants done, in order.
#[derive(Debug)]
pub struct Outbox {
    shard: ShardId,
    shards: u16,
    /// What was done, counted.
    pub counts: Counts,
    local: Vec<ControlMail>,
    remote: Vec<(ShardId, ControlMail)>,
}

impl Outbox {
    /// An empty outbox of one of `shards` shards.
    pub fn new(shard: ShardId, shards: u16) -> Self {
        Self { shard, shards, counts: Counts::default(), local: Vec::new(), remote: Vec::new() }
    }

    /// Takes what is to be done on this shard: [`ControlMail::Send`] and [`ControlMail::Close`] for the shell, the
    /// rest for [`super::ShardCore::handle_mail`].
    pub fn take_local(&mut self) -> Vec<ControlMail> {
        std::mem::take(&mut self.local)
    }

    /// Takes what is to be passed to other shards.
    pub fn take_remote(&mut self) -> Vec<(ShardId, ControlMail)> {
        std::mem::take(&mut self.remote)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }

    pub(crate) fn mail(&mut self, to: ShardId, mail: ControlMail) {
        if to == self.shard { self.local.push(mail) } else { self.remote.push((to, mail)) }
    }

    /// The one shard that orders a room's mailbox.
    pub(crate) fn home_of(&self, room: &RoomId) -> ShardId {
        let [first, second, ..] = room.0;
        ShardId(u16::from_be_bytes([first, second]) % self.shards)
    }

    pub(crate) fn broadcast(&mut self, mail: &ControlMail) {
        for shard in 0..self.shards {
            self.mail(ShardId(shard), mail.clone());
        }
    }

    pub(crate) fn event(&mut self, to: SessionId, body: Body) {
        self.mail(to.shard, ControlMail::Send { to, message: RelayMessage { reply_to: 0, body: Some(body) } });
    }

    pub(crate) fn reply(&mut self, to: SessionId, request: u64, body: Body) {
        self.mail(to.shard, ControlMail::Send { to, message: RelayMessage { reply_to: request, body: Some(body) } });
    }

    pub(crate) fn done(&mut self, to: SessionId, request: u64) {
        self.reply(to, request, Body::Done(Done {}));
    }

    pub(crate) fn refuse(&mut self, to: SessionId, request: u64, refused: Refused) {
        self.counts.refusal(refused.reason(), &refused.detail);
        self.reply(to, request, Body::Refused(refused));
    }

    pub(crate) fn close(&mut self, session: SessionId, code: CloseCode) {
        self.mail(session.shard, ControlMail::Close { session, code });
    }
}
