//! Rounds: what makes up for all that the bus loses.
//!
//! Each shard visits what it listens for once in [`ROUND`], a part at a time. It forgets what is of nodes that are gone, and says
//! on the bus what it believes of the rest: who knows better answers, by a letter to the shard that asked, because nobody else
//! needs the answer. So whatever was lost, a node knows it within a round. After something has happened to the nodes or to the
//! bus a round begins at once, and takes [`HURRY`].
//!
//! What it costs: an entry is 13 bytes, and 15 more for each node that has devices. With 100,000 watched identities at each of
//! five nodes of which half are online, a node says 20,000 entries a second in 20 messages, 410 KB, and hears 1.6 MB a second and
//! 80,000 entries, each of which is one look into an ordered set and, where there is a device, one into a table.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use supernode_proto::identity::IdentityKey;

use super::{
    Topic,
    bus::BusErrand,
    elsewhere::told,
    words::{Ask, ENTRIES_MAX, Entry, Known, Nothing, Recheck, Report, Said, key_bytes, prefix},
};
use crate::core::{ControlMail, Errand, NodeId, Now, Outbox, ShardCore, ShardId, registry::presence, timers::Due};

/// How long a round takes. Default 5 s: a node's lease.
const ROUND: Duration = Duration::from_secs(5);
/// How long one takes after something has happened. Default 1 s, so that not all nodes say everything at one moment.
const HURRY: Duration = Duration::from_secs(1);
/// How often a part of it is done.
const STEP: Duration = Duration::from_millis(250);

/// Where a shard is in its round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// When the next part is due; `None` while there is nothing to do.
    at: Option<Instant>,
    /// What is left to visit, the next last.
    left: Vec<IdentityKey>,
    /// How much of it is visited at a time.
    part: usize,
    /// When the next round may begin.
    ends: Option<Instant>,
}

impl ShardCore {
    /// A round begins if none is under way.
    pub(super) fn begin_rounds(&mut self, now: Now) {
        if self.abroad.round.at.is_none() && !self.abroad.nodes.is_empty() {
            self.step_at(now.instant + STEP);
        }
    }

    /// Something has happened to the nodes or to the bus.
    pub(super) fn hurry(&mut self, now: Now) {
        self.fill_round(HURRY, now);
        self.step_at(now.instant);
    }

    fn step_at(&mut self, at: Instant) {
        self.abroad.round.at = Some(at);
        self.timers.insert(at, Due::Round);
    }

    fn fill_round(&mut self, takes: Duration, now: Now) {
        let left: Vec<IdentityKey> = self.abroad.watched.union(&self.abroad.held).copied().collect();
        let steps = takes.as_millis() / STEP.as_millis();
        self.abroad.round.part = left.len().div_ceil(steps as usize);
        self.abroad.round.left = left;
        self.abroad.round.ends = Some(now.instant + takes);
    }

    /// A part of the round is due.
    pub(in crate::core) fn round_due(&mut self, now: Now, outbox: &mut Outbox) {
        // Deadlines are not taken back when others take their place.
        if self.abroad.round.at.is_none_or(|at| now.instant < at) {
            return;
        }
        if self.abroad.round.left.is_empty() {
            let listens = !self.abroad.watched.is_empty() || !self.abroad.held.is_empty();
            if !listens || self.abroad.nodes.is_empty() {
                self.abroad.round.at = None;
                return;
            }
            // With few to visit all are visited early, and not more often.
            if let Some(ends) = self.abroad.round.ends.filter(|ends| now.instant < *ends) {
                return self.step_at(ends);
            }
            self.fill_round(ROUND, now);
        }
        let Round { left, part, .. } = &mut self.abroad.round;
        let visited = left.split_off(left.len().saturating_sub(*part));
        let entries: Vec<Entry> =
            visited.into_iter().filter_map(|identity| self.visit(identity, now, outbox)).collect();
        for entries in entries.chunks(ENTRIES_MAX) {
            let recheck = Recheck { shard: self.at.shard.0.into(), entries: entries.to_vec() };
            self.tell_nodes(&Said::Recheck(recheck), outbox);
        }
        self.step_at(now.instant + STEP);
    }

    fn tell_nodes(&self, said: &Said, outbox: &mut Outbox) {
        if !crate::planted::planted!(NoRounds) {
            outbox.errand(Errand::Bus(BusErrand::Tell(Topic::Nodes, said.to_bytes())));
        }
    }

    /// Forgets what is over of a person, and says what is believed of the rest.
    fn visit(&mut self, identity: IdentityKey, now: Now, outbox: &mut Outbox) -> Option<Entry> {
        let directory = self.directory.clone();
        let mut person = directory.people.get_mut(&identity)?;
        let nodes = &self.abroad.nodes;
        let is_over = |node: NodeId, life: u64| nodes.get(&node) != Some(&life);
        if person.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.has_any(is_over)) {
            presence::change_sight(identity, &mut person, now, outbox, |person| {
                person.elsewhere.iter_mut().for_each(|elsewhere| elsewhere.take_back(is_over));
            });
            presence::touch(&directory, identity, &mut person, now, &mut self.timers, outbox);
        }
        let (generation, is_watched) = (person.generation, !person.watchers.is_empty());
        let revocation_number = person.revocation.as_ref().map_or(0, |word| word.number);
        if nodes.is_empty() || (!is_watched && generation == 0 && revocation_number == 0) {
            return None;
        }
        let known = person.elsewhere.iter().flat_map(|elsewhere| elsewhere.known());
        let known = known.collect();
        Some(Entry { prefix: prefix(&identity), is_watched, known, generation, revocation_number })
    }

    /// Another node says what it believes.
    pub(super) fn hear_recheck(&mut self, from: NodeId, recheck: Recheck, now: Now, outbox: &mut Outbox) {
        let homes = outbox.homes();
        let mut elsewhere: BTreeMap<ShardId, Vec<Entry>> = BTreeMap::new();
        for entry in recheck.entries {
            let home = homes.of_prefix(entry.prefix);
            match home == self.at {
                true => self.check(from, recheck.shard, &entry, now, outbox),
                false => elsewhere.entry(home.shard).or_default().push(entry),
            }
        }
        for (shard, entries) in elsewhere {
            let bytes = Said::Recheck(Recheck { shard: recheck.shard, entries }).to_bytes();
            outbox.mail(self.at.beside(shard), ControlMail::Heard { topic: Topic::Nodes, from, bytes });
        }
    }

    fn check(&mut self, from: NodeId, shard: u32, entry: &Entry, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        let of_me = entry.known.iter().find(|known| known.node == u32::from(self.at.node.0));
        let of_prefix = with_prefix(entry.prefix);
        let mut has_any = false;
        let held: Vec<IdentityKey> = self.abroad.held.range(of_prefix.clone()).copied().collect();
        for identity in held {
            let Some(mut told) = told(&directory, &identity) else { continue };
            has_any = true;
            // An earlier process of this node, whose clock was ahead, may have said something with a higher number.
            if let Some(newer) = of_me.filter(|known| known.epoch > told.epoch) {
                told.epoch = directory.next_report(now, newer.epoch);
                if let Some(mut person) = directory.people.get_mut(&identity) {
                    person.elsewhere.iter_mut().for_each(|elsewhere| elsewhere.tell_above(told.epoch));
                }
            }
            let is_known = |known: &Known| known.epoch == told.epoch && known.is_held;
            let is_missed = entry.is_watched && !of_me.is_some_and(is_known);
            let knows_less = entry.generation < told.generation || entry.revocation_number < told.revocation_number;
            if is_missed || knows_less {
                self.say(from, shard, &Said::Report(told.clone()), outbox);
            }
            if entry.generation > told.generation {
                self.raise_generation(identity, entry.generation, now, outbox);
            }
            if entry.revocation_number > told.revocation_number {
                let ask = Ask { identity: key_bytes(&identity), shard: self.at.shard.0.into() };
                self.say(from, shard, &Said::Ask(ask), outbox);
            }
        }
        if let Some(known) = of_me.filter(|known| known.is_held && !has_any) {
            let epoch = directory.next_report(now, known.epoch);
            self.say(from, shard, &Said::Nothing(Nothing { prefix: entry.prefix, epoch }), outbox);
        }
    }

    fn raise_generation(&mut self, identity: IdentityKey, generation: u32, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        if let Some(mut person) = directory.people.get_mut(&identity) {
            presence::raise_generation(identity, &mut person, generation, now, outbox);
            presence::touch(&directory, identity, &mut person, now, &mut self.timers, outbox);
        }
    }

    /// Another node has nobody of whom this one believes that it has.
    pub(super) fn hear_nothing(&mut self, from: NodeId, nothing: &Nothing, now: Now, outbox: &mut Outbox) {
        let watched: Vec<IdentityKey> = self.abroad.watched.range(with_prefix(nothing.prefix)).copied().collect();
        for identity in watched {
            let report = Report { identity: key_bytes(&identity), epoch: nothing.epoch, ..Report::default() };
            self.hear_report(from, &report, now, outbox);
        }
    }
}

/// All identities that begin with these eight bytes.
fn with_prefix(prefix: u64) -> RangeInclusive<IdentityKey> {
    let with_rest = |rest: u8| {
        let mut bytes = [rest; 32];
        bytes[..8].copy_from_slice(&prefix.to_be_bytes());
        IdentityKey::new(bytes)
    };
    with_rest(0)..=with_rest(u8::MAX)
}
