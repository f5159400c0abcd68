//! What the control plane wants done, as data.

use std::collections::VecDeque;

use bytes::Bytes;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{Done, MlsDelivery, Refused, RelayMessage, TrackKind, relay_message::Body},
    identity::{IdentityKey, RoomId},
    object::TrackAlias,
};

use super::{
    Address, BusErrand, Fence, HomeIs, HomeWish, Homes, MemberId, NodeId, SessionId, ShardId, Topic,
    counts::Counts,
    forwarding::forward::Demand,
    registry::{asks::RoomAsk, directory::TrackEntry, push::Push},
};

/// What a client of a shard is told, or that it is closed.
#[derive(Debug, Clone)]
pub enum ClientMail {
    /// Pass this to a client.
    Send {
        /// The client.
        to: SessionId,
        /// The message.
        message: RelayMessage,
    },
    /// Pass this to several clients.
    Tell {
        /// The clients.
        to: Vec<SessionId>,
        /// The message.
        message: RelayMessage,
    },
    /// Pass a room's message to members, or withhold it from those that have too much to read.
    Deliver {
        /// The members.
        to: Vec<SessionId>,
        /// The message.
        delivery: MlsDelivery,
    },
    /// What was withheld from a member, as far as the room still has it.
    DeliverWithheld {
        /// The member.
        to: SessionId,
        /// The room.
        room: RoomId,
        /// The messages, in order; `None` if it has nothing of it any more.
        missed: Option<Vec<MlsDelivery>>,
    },
    /// End a session.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        code: CloseCode,
    },
}

/// A message between shards' control planes. It must not be lost: a shard whose inbox for these overflows closes its
/// sessions, and its clients come back to a consistent relay.
#[derive(Debug, Clone)]
pub enum ControlMail {
    /// Pass this on to clients.
    Client(ClientMail),
    /// To the shard that deals with the room, which alone passes the room's messages on, so that everybody gets them in one
    /// order: what a session of this node wants of it.
    Ask(Box<RoomAsk>),
    /// The same from another node, which takes this one for the room's home by this decision. To any shard.
    AskHome(Box<RoomAsk>, Fence),
    /// To the shard of whoever asked: this node is not the room's home by that decision.
    NotHome(Box<RoomAsk>, Fence),
    /// To a shard with members of the room: what its home says about it.
    FromHome {
        /// Which node says so: the receiving end of a node link sets it to the node that the link is from.
        from: NodeId,
        /// The room.
        room: RoomId,
        /// By which decision it is the home.
        fence: Fence,
        /// What.
        mail: Box<Self>,
    },
    /// A home shows a track that another node publishes: nobody here is told of it before.
    TrackCame(TrackAlias, TrackShown),
    /// To the shard of whoever is at the door of a room: its home says who is in it, the first of them who have been there for longest.
    Inside {
        /// Who is at the door.
        to: SessionId,
        /// By which request.
        request: u64,
        /// Who is in.
        members: Vec<(IdentityKey, SessionId)>,
    },
    /// To the shard that deals with the room: one of those who were in it, or wanted to be, no longer is.
    Out(RoomId),
    /// To every shard: what was asked of the room, and not answered, will not be answered.
    HomeLost(RoomId),
    /// To every shard: another home knows nothing of those who are in the room. They must come back.
    Reenter(RoomId),
    /// To the publisher's shard: what my sessions take of this track now.
    Interest {
        /// The track.
        alias: TrackAlias,
        /// Whose sessions.
        from: Address,
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
    /// The session is no longer a member of the room: stop everything it sends and gets there, then answer the kicker.
    Evict {
        /// The member's session.
        session: SessionId,
        /// The room.
        room: RoomId,
        /// As which member: it may have left and come in again since.
        member: MemberId,
        /// Who waits for it, if somebody does, and for which request.
        kicker: Option<(SessionId, u64)>,
    },
    /// To the shard that deals with other nodes about an identity: look whether it is still to be listened for.
    Tune(IdentityKey),
    /// Somebody told this on the bus. To any one shard of a node; it may come late, twice or never.
    Heard {
        /// Where.
        topic: Topic,
        /// Who.
        from: NodeId,
        /// What.
        bytes: Bytes,
    },
    /// What one node says to another of people, rings and key packages: the only mail of these that travels between nodes, beside
    /// that for clients.
    FromNode {
        /// Who says so: the receiving end of a node link sets it to the node that the link is from.
        from: NodeId,
        /// What.
        words: Bytes,
    },
    /// To every shard: this node can be reached from now on. In order with its letters.
    NodeCame(NodeId),
    /// To every shard: what was known through this node is over. In order with its letters.
    NodeGone(NodeId),
    /// To every shard: the bus may have lost messages.
    BusBack,
    /// To the shard that deals with a room at this node: where its home is now.
    HomeIs {
        /// Which room.
        room: RoomId,
        /// Where.
        is: HomeIs,
    },
}

/// What members of a room at other nodes than the publisher's have to know of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackShown {
    /// In which room it is.
    pub room: RoomId,
    /// Whose it is.
    pub member: MemberId,
    /// Where its objects come from.
    pub publisher: SessionId,
    /// What it carries.
    pub kind: TrackKind,
    /// Whether its objects say how lively they are.
    pub activity: bool,
}

impl From<&TrackEntry> for TrackShown {
    fn from(entry: &TrackEntry) -> Self {
        let TrackEntry { room, member, publisher, kind, activity, .. } = *entry;
        Self { room, member, publisher, kind, activity }
    }
}

/// What a core wants its shell to do: see [`ShardCore::next_errand`](super::ShardCore::next_errand).
#[derive(Debug, Clone)]
pub enum Errand {
    /// Pass this letter to another shard, whose shell gives it to
    /// [`ShardCore::handle_letter`](super::ShardCore::handle_letter) there. Letters from one shard to another come in order,
    /// and none is lost.
    Post(Address, Vec<ControlMail>),
    /// Tell clients of this shard something, or close one. Whoever's session is over by then is told nothing:
    /// [`ShardCore::is_live`](super::ShardCore::is_live).
    Client(ClientMail),
    /// A subscription has ended: nothing of this track may reach this link any more.
    EndSubscription {
        /// Whose.
        link: u32,
        /// The track.
        alias: TrackAlias,
        /// Why.
        code: StreamCode,
    },
    /// This link was put out of a room: what its connection holds of it, unsent, must not go out any more.
    Recall(u32),
    /// A subscriber that came late is to be sent the newest group of a track ([`ShardCore::cache`](super::ShardCore::cache)).
    SendNewestGroup {
        /// Who.
        session: SessionId,
        /// Its shard, or the one that gathers what its node takes of the track, if that is another node.
        via: Address,
        /// The track.
        alias: TrackAlias,
    },
    /// Another node takes no more of a track: nothing of it that still waits for that node is to go there.
    EndAbroad {
        /// The shard there that gathered it.
        at: Address,
        /// The track.
        alias: TrackAlias,
    },
    /// Somebody is to be woken, if it can be done: whoever rings them is not told whether it was.
    Push(Push),
    /// Listen to a topic on the bus between nodes, or tell something there. A single relay has none of these.
    Bus(BusErrand),
    /// Tell whoever decides where rooms live. A single relay has none of these.
    Home(HomeWish),
}

/// Collects what a step of a core wants done, in order.
#[derive(Debug)]
pub struct Outbox {
    at: Address,
    shards: u16,
    /// What was done, counted.
    pub counts: Counts,
    here: VecDeque<Here>,
    /// How many of these are done before letters to other shards leave again: so what one step leads to on another shard is
    /// one letter.
    before_letters: usize,
    letters: VecDeque<(Address, Vec<ControlMail>)>,
    /// Of which room everything is said now, and by which decision this node is its home.
    voice: Option<(RoomId, Fence)>,
}

/// What is to be done on this shard.
#[derive(Debug)]
pub(crate) enum Here {
    /// For the core itself.
    ByCore(ControlMail),
    /// For its shell.
    ByShell(Errand),
}

impl Outbox {
    /// An empty outbox of one of its node's `shards` shards.
    pub fn new(at: Address, shards: u16) -> Self {
        let counts = Counts::default();
        Self { at, shards, counts, here: VecDeque::new(), before_letters: 0, letters: VecDeque::new(), voice: None }
    }

    /// Takes the next thing to do.
    pub(crate) fn next(&mut self) -> Option<Here> {
        if self.before_letters == 0 {
            if let Some((to, letter)) = self.letters.pop_front() {
                return Some(Here::ByShell(Errand::Post(to, letter)));
            }
            self.before_letters = self.here.len();
        }
        let next = self.here.pop_front()?;
        self.before_letters -= 1;
        Some(next)
    }

    /// Whether nothing is to be done.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.letters.is_empty()
    }

    /// Puts something for the shell to do.
    pub(crate) fn errand(&mut self, errand: Errand) {
        self.here.push_back(Here::ByShell(errand));
    }

    /// All that is said while `speak` runs, the home of a room says: whoever gets it sees by which decision.
    pub(crate) fn as_home(&mut self, room: RoomId, fence: Fence, speak: impl FnOnce(&mut Self)) {
        self.voice = Some((room, fence));
        speak(self);
        self.voice = None;
    }

    pub(crate) fn mail(&mut self, to: Address, mail: ControlMail) {
        let mail = match self.voice {
            Some((room, fence)) => ControlMail::FromHome { from: self.at.node, room, fence, mail: Box::new(mail) },
            None => mail,
        };
        if to == self.at {
            return self.mail_here(mail);
        }
        match self.letters.iter_mut().find(|(other, _)| *other == to) {
            Some((_, letter)) => letter.push(mail),
            None => self.letters.push_back((to, vec![mail])),
        }
    }

    /// Mail to this shard, its own or from another.
    pub(crate) fn mail_here(&mut self, mail: ControlMail) {
        self.here.push_back(match mail {
            ControlMail::Client(mail) => Here::ByShell(Errand::Client(mail)),
            mail => Here::ByCore(mail),
        });
    }

    /// What clients of a shard are told.
    pub(crate) fn tell(&mut self, to: Address, mail: ClientMail) {
        self.mail(to, ControlMail::Client(mail));
    }

    /// Mail to the shards of several clients, one piece for each shard.
    fn mail_by_shard(&mut self, to: impl Iterator<Item = SessionId>, mail: impl Fn(Vec<SessionId>) -> ClientMail) {
        let mut by_shard: Vec<(Address, Vec<SessionId>)> = Vec::new();
        let each = to.size_hint().0.div_ceil(usize::from(self.shards)).max(1);
        for client in to {
            if let Some((_, clients)) = by_shard.iter_mut().find(|(shard, _)| *shard == client.at) {
                clients.push(client);
            } else {
                let mut clients = Vec::with_capacity(each);
                clients.push(client);
                by_shard.push((client.at, clients));
            }
        }
        for (shard, clients) in by_shard {
            self.tell(shard, mail(clients));
        }
    }

    /// Where the homes are that mail goes to.
    pub(crate) fn homes(&self) -> Homes {
        Homes::new(self.at.node, self.shards)
    }

    /// What a session wants of a room.
    pub(crate) fn ask(&mut self, ask: RoomAsk) {
        self.mail(self.homes().of_room(&ask.room), ControlMail::Ask(Box::new(ask)));
    }

    /// Mail to the shards of other nodes that have some of these members, once to each.
    pub(crate) fn mail_elsewhere(&mut self, members: impl Iterator<Item = SessionId>, mail: &ControlMail) {
        // A single relay need not look.
        if self.voice.is_none() {
            return;
        }
        let own = self.at.node;
        let mut told: Vec<Address> = Vec::new();
        for at in members.map(|member| member.at).filter(|at| at.node != own) {
            if !told.contains(&at) {
                told.push(at);
                self.mail(at, mail.clone());
            }
        }
    }

    /// Shows a track to whoever is to be told of it, where it is not known.
    pub(crate) fn show_track(
        &mut self,
        members: impl Iterator<Item = SessionId>,
        alias: TrackAlias,
        entry: &TrackEntry,
    ) {
        let elsewhere = members.filter(|member| member.at.node != entry.publisher.at.node);
        self.mail_elsewhere(elsewhere, &ControlMail::TrackCame(alias, entry.into()));
    }

    pub(crate) fn broadcast(&mut self, mail: &ControlMail) {
        for shard in 0..self.shards {
            self.mail(self.at.beside(ShardId(shard)), mail.clone());
        }
    }

    pub(crate) fn event(&mut self, to: SessionId, body: Body) {
        self.tell(to.at, ClientMail::Send { to, message: RelayMessage { reply_to: 0, body: Some(body) } });
    }

    /// The same event for several clients.
    pub(crate) fn events(&mut self, to: impl Iterator<Item = SessionId>, body: Body) {
        let message = RelayMessage { reply_to: 0, body: Some(body) };
        self.mail_by_shard(to, |to| ClientMail::Tell { to, message: message.clone() });
    }

    /// A room's message for its members.
    pub(crate) fn deliver(&mut self, to: impl Iterator<Item = SessionId>, delivery: &MlsDelivery) {
        self.mail_by_shard(to, |to| ClientMail::Deliver { to, delivery: delivery.clone() });
    }

    pub(crate) fn reply(&mut self, to: SessionId, request: u64, body: Body) {
        self.tell(to.at, ClientMail::Send { to, message: RelayMessage { reply_to: request, body: Some(body) } });
    }

    pub(crate) fn done(&mut self, to: SessionId, request: u64) {
        self.reply(to, request, Body::Done(Done {}));
    }

    pub(crate) fn refuse(&mut self, to: SessionId, request: u64, refused: Refused) {
        self.counts.refusal(refused.reason(), &refused.detail);
        self.reply(to, request, Body::Refused(refused));
    }

    pub(crate) fn close(&mut self, session: SessionId, code: CloseCode) {
        self.tell(session.at, ClientMail::Close { session, code });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_room_is_told_is_one_letter_for_each_shard() {
        let mut outbox = Outbox::new(Address::local(ShardId(0)), 4);
        let session = |link: u32| {
            let at = Address::local(ShardId((link % 4) as u16));
            SessionId { at, link, generation: 0 }
        };
        let delivery = MlsDelivery { sequence: 1, ..MlsDelivery::default() };
        outbox.events((0..250).map(session), Body::Done(Done {}));
        outbox.deliver((0..250).map(session), &delivery);
        (0..256).for_each(|_| outbox.event(session(1), Body::MlsDelivery(delivery.clone())));
        let (mut letters, mut here) = (Vec::new(), 0);
        while let Some(next) = outbox.next() {
            match next {
                Here::ByShell(Errand::Post(shard, letter)) => letters.push((shard, letter)),
                Here::ByShell(Errand::Client(_)) => here += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(letters.iter().map(|(_, letter)| letter.len()).collect::<Vec<_>>(), [2 + 256, 2, 2]);
        for (shard, letter) in letters {
            let told = letter.iter().map(|mail| match mail {
                ControlMail::Client(ClientMail::Tell { to, .. } | ClientMail::Deliver { to, .. }) => to.len(),
                _ => 0,
            });
            let everybody_there = (0..250).filter(|link| session(*link).at == shard).count();
            assert_eq!(told.sum::<usize>(), 2 * everybody_there);
        }
        assert_eq!(here, 2);
    }
}
