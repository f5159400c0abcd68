//! Presence across the nodes of a cluster: who tells whom what (docs/ARCHITECTURE.md, "Presence and rings in a cluster").
//!
//! A node is the truth for the devices that it has. Of an identity that somebody watches it listens to what nodes with devices of
//! theirs tell; each report is whole, and the newest of a node counts. Nothing here relies on the bus: what was lost is found
//! by the next round ([`rounds`]). A single relay, node 0, does nothing of all this.
//!
//! What a node does about an identity with others, one of its shards does ([`Homes::of_dealings`](super::Homes::of_dealings)):
//! so listening and no longer listening come in order.

mod bus;
mod desk;
mod door;
mod elsewhere;
mod hearing;
pub(crate) mod legs;
mod rounds;
mod takes;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use supernode_proto::identity::IdentityKey;

pub use self::bus::{BusErrand, Topic};
use self::{
    desk::{Desk, Wait},
    rounds::Round,
    takes::Takes,
    words::{Ask, Said, key_bytes},
};
pub(crate) use self::{
    desk::{Visit, Waits},
    door::Knock,
    elsewhere::{Elsewhere, tell_others},
    hearing::tell_came,
    legs::{answer_elsewhere, settle_elsewhere},
};
use super::{Address, ControlMail, Errand, NodeId, Now, Outbox, RingId, ShardCore, ShardId};

/// What one shard has to do with other nodes.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    /// Nodes that can be reached, and which of their lives this is.
    nodes: BTreeMap<NodeId, u64>,
    /// Lives of nodes that were seen to begin.
    lives: u64,
    /// Identities of this shard's dealings that somebody at this node watches,
    watched: BTreeSet<IdentityKey>,
    /// and of which this node has devices.
    held: BTreeSet<IdentityKey>,
    round: Round,
    takes: Takes,
    /// Rings of other nodes that have rung devices here, and whose they are.
    guests: BTreeMap<RingId, NodeId>,
    /// Rooms that this shard has the desk of.
    desk: Desk,
    /// Requests of its sessions about rooms that are not answered: by link, generation and number.
    waits: BTreeMap<(u32, u32, u64), Wait>,
    /// Those of them that are rings at the door of a room.
    knocks: BTreeMap<(u32, u32, u64), Knock>,
}

impl Abroad {
    /// Which of its lives a node is in, if it can be reached.
    fn life_of(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).copied()
    }

    /// Whether there is any other node.
    pub(super) fn reaches_others(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// A ring of another node is over.
    pub(super) fn forget_guest(&mut self, id: &RingId) {
        if !self.guests.is_empty() {
            self.guests.remove(id);
        }
    }

    /// Identities that it listens for, rings of other nodes, rooms at its desk, and what it waits for: zero after everybody has left.
    pub(crate) fn len(&self) -> usize {
        self.watched.len()
            + self.held.len()
            + self.guests.len()
            + self.takes.len()
            + self.desk.len()
            + self.waits.len()
            + self.knocks.len()
    }
}

/// Somebody's first device or watcher here has come, or the last has gone: the shard of their dealings is to look.
pub(crate) fn tune(identity: IdentityKey, outbox: &mut Outbox) {
    let homes = outbox.homes();
    if homes.is_clustered() {
        outbox.mail(homes.of_dealings(&identity), ControlMail::Tune(identity));
    }
}

impl ShardCore {
    /// What comes from other nodes, or is about them.
    pub(super) fn handle_abroad(&mut self, mail: ControlMail, now: Now, outbox: &mut Outbox) {
        let Some(mail) = self.handle_rooms(mail, now, outbox) else { return };
        match mail {
            ControlMail::Tune(identity) => self.tune(identity, now, outbox),
            ControlMail::Heard { topic, from, bytes } => self.handle_heard(topic, from, bytes, now, outbox),
            ControlMail::FromNode { from, words } => {
                if self.abroad.life_of(from).is_some()
                    && let Some(said) = Said::from_bytes(words)
                {
                    self.handle_said(from, said, now, outbox);
                }
            }
            ControlMail::NodeCame(node) => {
                self.abroad.lives += 1;
                self.abroad.nodes.insert(node, self.abroad.lives);
                self.rooms_with(node, now, outbox);
                self.hurry(now);
                self.take_again(node, outbox);
            }
            ControlMail::NodeGone(node) => {
                if crate::planted::planted!(GoneNodeIgnored) {
                    return;
                }
                self.abroad.nodes.remove(&node);
                self.takes_without(node, now, outbox);
                self.rings_without(node, now, outbox);
                self.forget_taker(node, outbox);
                self.rooms_without(node, now, outbox);
                self.hurry(now);
            }
            ControlMail::BusBack => self.hurry(now),
            _ => {}
        }
    }

    /// Takes what was told on the bus. Any shard may be given it, and it may come twice, late or never.
    pub fn handle_heard(&mut self, topic: Topic, from: NodeId, bytes: Bytes, now: Now, outbox: &mut Outbox) {
        if let Topic::Watchers(identity) | Topic::Holders(identity) = topic {
            let home = outbox.homes().of_dealings(&identity);
            if home != self.at {
                return outbox.mail(home, ControlMail::Heard { topic, from, bytes });
            }
        }
        if self.abroad.life_of(from).is_some()
            && let Some(said) = Said::from_bytes(bytes)
        {
            self.handle_said(from, said, now, outbox);
        }
    }

    fn handle_said(&mut self, from: NodeId, said: Said, now: Now, outbox: &mut Outbox) {
        match said {
            Said::Report(report) => self.hear_report(from, &report, now, outbox),
            Said::Ask(ask) => self.hear_ask(from, &ask, outbox),
            Said::Came(came) => self.hear_came(from, &came, outbox),
            Said::Moved(moved) => self.hear_moved(&moved, now, outbox),
            Said::Recheck(recheck) => self.hear_recheck(from, recheck, now, outbox),
            Said::Nothing(nothing) => self.hear_nothing(from, &nothing, now, outbox),
            Said::Take(take) => self.hear_take(from, &take, now, outbox),
            Said::Taken(taken) => self.hear_taken(from, taken, now, outbox),
            Said::Wake(wake) => self.hear_wake(&wake, now, outbox),
            Said::RingThere(there) => self.hear_ring(from, there, now, outbox),
            Said::RangThere(rang) => self.hear_rang(from, &rang, now, outbox),
            Said::Answer(answer) => self.hear_answer(from, answer, outbox),
            Said::LegOut(out) => self.hear_leg_out(from, &out, now, outbox),
            Said::Over(over) => self.hear_over(from, &over, outbox),
        }
    }

    /// Begins or ends to listen, as is needed now.
    fn tune(&mut self, identity: IdentityKey, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        let (is_watched, is_held) = directory.people.get(&identity).map_or((false, false), |person| {
            // A device whose session has broken counts as there until others are told.
            let is_believed_in = person.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.is_believed_in());
            (!person.watchers.is_empty(), !person.devices.is_empty() || is_believed_in)
        });
        let (watchers, holders) = (Topic::Watchers(identity), Topic::Holders(identity));
        let was_watched = listen(&mut self.abroad.watched, (identity, is_watched), watchers, outbox);
        let was_held = listen(&mut self.abroad.held, (identity, is_held), holders, outbox);
        if was_watched && !is_watched {
            self.forget_reports(identity, now, outbox);
        }
        if (is_watched && !was_watched) || (is_held && !was_held) {
            let ask = Said::Ask(Ask { identity: key_bytes(&identity), shard: self.at.shard.0.into() });
            outbox.errand(Errand::Bus(BusErrand::Tell(holders, ask.to_bytes())));
            self.begin_rounds(now);
        }
    }

    /// A letter to a shard of another node.
    fn say(&self, node: NodeId, shard: u32, said: &Said, outbox: &mut Outbox) {
        let to = Address { node, shard: ShardId(shard as u16) };
        outbox.mail(to, ControlMail::FromNode { from: self.at.node, words: said.to_bytes() });
    }
}

/// Begins or ends to listen to a topic; whether it was listened to before.
fn listen(
    known: &mut BTreeSet<IdentityKey>,
    (identity, is_wanted): (IdentityKey, bool),
    topic: Topic,
    outbox: &mut Outbox,
) -> bool {
    let was = known.contains(&identity);
    if is_wanted && !was {
        known.insert(identity);
        outbox.errand(Errand::Bus(BusErrand::Listen(topic)));
    }
    if was && !is_wanted && !crate::planted::planted!(InterestKept) {
        known.remove(&identity);
        outbox.errand(Errand::Bus(BusErrand::Forget(topic)));
    }
    was
}
