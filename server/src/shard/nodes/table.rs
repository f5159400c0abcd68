//! Which other nodes are here: one table for all shards of a relay.
//!
//! The links between two nodes stand or fall together. A *round* begins when the one before it is over, and is *up* from the
//! first Hello on. When any link of it ends, in whichever direction, or the node's life does, the round is over: each shard is told
//! so by a letter, takes what its core knew through that node as gone, and closes what links of that round it has. Who greets twice
//! has lost the first link, whether that is known here or not: the round is over as well. So between two
//! words that a node came there is one that it went, and no letter of a round comes to any shard after the word that it is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::outgoing::Sent;
use crate::core::{NodeId, ShardId};

/// One life of a node, by a number that no other life has: a process that starts again lives anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) u64);

/// Everything between two breaks with one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Round(pub(crate) u64);

/// What all shards are told, in the order in which it became so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// The first Hello of a round.
    Came(NodeId),
    /// A round is over.
    Over {
        /// With whom.
        node: NodeId,
        /// Which.
        round: Round,
        /// Whether it was up: nobody was told of one that was not.
        was_up: bool,
    },
}

/// How this relay stands with one node. There is one for each number that a node of the cluster ever had here.
#[derive(Debug)]
struct Standing {
    /// None between two lives.
    life: Option<Life>,
    round: Round,
    /// Its shards that have greeted in this round: it is up once there is one.
    shards: BTreeSet<ShardId>,
    /// Objects that came from each shard of this life, on all of its links.
    received: BTreeMap<ShardId, Sent>,
}

/// How it stands with all. Whoever changes it tells all shards before anybody else may: so they hear it in one order, and a
/// letter that is passed on under it as well has its place in that order.
#[derive(Debug, Default)]
pub(crate) struct Table {
    nodes: Mutex<BTreeMap<NodeId, Standing>>,
}

impl Table {
    /// A shard of a node has said a Hello that holds. Returns the round that its link is of.
    pub(crate) fn greeted(&self, node: NodeId, life: Life, shard: ShardId, mut tell: impl FnMut(Word)) -> Round {
        let mut nodes = self.lock();
        let standing = Self::of_life(&mut nodes, node, life, &mut tell);
        if standing.shards.contains(&shard) {
            Self::begin_anew(node, standing, &mut tell);
        }
        let is_first = standing.shards.is_empty();
        standing.shards.insert(shard);
        if is_first {
            tell(Word::Came(node));
        }
        standing.round
    }

    /// A node has welcomed this relay. Returns the round that the link to it is of.
    pub(crate) fn welcomed(&self, node: NodeId, life: Life, mut tell: impl FnMut(Word)) -> Round {
        Self::of_life(&mut self.lock(), node, life, &mut tell).round
    }

    /// The round with this life of a node; that of another life is over.
    fn of_life<'a>(
        nodes: &'a mut BTreeMap<NodeId, Standing>,
        node: NodeId,
        life: Life,
        tell: &mut impl FnMut(Word),
    ) -> &'a mut Standing {
        let life = Some(life);
        let new = || Standing { life, round: Round::default(), shards: BTreeSet::new(), received: BTreeMap::new() };
        let standing = nodes.entry(node).or_insert_with(new);
        if standing.life.is_some() && standing.life != life {
            Self::begin_anew(node, standing, tell);
        }
        if standing.life != life {
            standing.received.clear();
        }
        standing.life = life;
        standing
    }

    fn begin_anew(node: NodeId, standing: &mut Standing, tell: &mut impl FnMut(Word)) {
        let was_up = !std::mem::take(&mut standing.shards).is_empty();
        let round = standing.round;
        standing.round = Round(round.0 + 1);
        tell(Word::Over { node, round, was_up });
    }

    /// A link of this round has ended.
    pub(crate) fn broke(&self, node: NodeId, round: Round, mut tell: impl FnMut(Word)) {
        if let Some(standing) = self.lock().get_mut(&node).filter(|standing| standing.round == round) {
            Self::begin_anew(node, standing, &mut tell);
        }
    }

    /// This life of a node is over, as each shard says once.
    pub(crate) fn ended(&self, node: NodeId, life: Life, mut tell: impl FnMut(Word)) {
        if let Some(standing) = self.lock().get_mut(&node).filter(|standing| standing.life == Some(life)) {
            standing.life = None;
            Self::begin_anew(node, standing, &mut tell);
        }
    }

    /// Whatever the round with a node is, it is over.
    pub(crate) fn reset(&self, node: NodeId, mut tell: impl FnMut(Word)) {
        if let Some(standing) = self.lock().get_mut(&node) {
            Self::begin_anew(node, standing, &mut tell);
        }
    }

    /// Counts objects that came from a shard of this life of a node; how many that are now, if the life is not over.
    pub(super) fn count(&self, node: NodeId, life: Life, shard: ShardId, more: Sent) -> Option<Sent> {
        let mut nodes = self.lock();
        let standing = nodes.get_mut(&node).filter(|standing| standing.life == Some(life))?;
        let received = standing.received.entry(shard).or_default();
        received.add(more);
        Some(*received)
    }

    /// Passes a letter on, unless its round is over; whether it is not.
    pub(crate) fn pass_on(&self, node: NodeId, round: Round, pass: impl FnOnce()) -> bool {
        let nodes = self.lock();
        let is_its_round = nodes.get(&node).is_some_and(|standing| standing.round == round);
        if is_its_round {
            pass();
        }
        is_its_round
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Standing>> {
        // Whoever holds it only changes numbers and fills inboxes: a panic there leaves nothing half done.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);
    const LIFE: Life = Life(7);

    /// What is told by a step.
    fn told(step: impl FnOnce(&mut Vec<Word>)) -> Vec<Word> {
        let mut words = Vec::new();
        step(&mut words);
        words
    }

    fn over(round: u64, was_up: bool) -> Word {
        Word::Over { node: NODE, round: Round(round), was_up }
    }

    //
    #[test]
    fn a_node_comes_with_its_first_hello_and_goes_with_the_first_of_its_links_that_ends() {
        let table = Table::default();
        let greet = |shard, round| {
            told(|words| {
                assert_eq!(table.greeted(NODE, LIFE, ShardId(shard), |word| words.push(word)), Round(round));
            })
        };
        assert_eq!(table.welcomed(NODE, LIFE, |_| panic!("it has not come")), Round(0));
        assert_eq!(greet(0, 0), [Word::Came(NODE)]);
        assert_eq!(greet(1, 0), [], "its next shard");
        assert!(table.pass_on(NODE, Round(0), || ()));
        let end = |round| told(|words| table.broke(NODE, Round(round), |word| words.push(word)));
        assert_eq!(end(0), [over(0, true)]);
        assert_eq!(end(0), [], "what is left of that round");
        assert!(!table.pass_on(NODE, Round(0), || panic!("it is over")));
        assert_eq!(end(1), [over(1, false)], "a link of ours, before it has come again");
        assert_eq!(greet(0, 2), [Word::Came(NODE)]);
        assert_eq!(greet(0, 3), [over(2, true), Word::Came(NODE)], "the same shard again: its first link is lost");
        assert_eq!(greet(1, 3), []);
    }

    //
    #[test]
    fn another_life_is_another_node() {
        let table = Table::default();
        let greet = |life| {
            told(|words| {
                table.greeted(NODE, life, ShardId(0), |word| words.push(word));
            })
        };
        assert_eq!(greet(LIFE), [Word::Came(NODE)]);
        assert_eq!(greet(Life(8)), [over(0, true), Word::Came(NODE)]);
        let end = |life| told(|words| table.ended(NODE, life, |word| words.push(word)));
        assert_eq!(end(LIFE), [], "that one has been over for long");
        assert_eq!(end(Life(8)), [over(1, true)]);
    }
}
