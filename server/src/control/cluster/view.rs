//! What is known of the cluster at this node, for whoever asks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use supernode_cluster::{Life, Node, NodeNumber, Terms, Whereabouts};
use supernode_cluster_nats::Link;
use supernode_proto::identity::RelayPin;

use super::{Agents, Bus, BusReading, HomeBook, HomesReading, Loss, Settings, Trouble};
use crate::{
    core::NodeId,
    shard::{NodeBook, Roster},
};

/// A reading, as commands get it. A field that is added later needs a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// This node's number.
    pub node: u16,
    /// Where others reach it.
    pub address: SocketAddr,
    /// Whether NATS is there.
    pub nats_connected: bool,
    /// How often a connection to it came about.
    pub nats_connects: u64,
    /// Whether this node lives, for the others too.
    pub life_held: bool,
    /// Rooms that have their home here.
    pub homes: u64,
    /// Rooms that somebody at this node is in, or wants to be in.
    #[serde(default)]
    pub rooms_wanted: u64,
    /// Those of them whose home is being asked for, or taken.
    #[serde(default)]
    pub rooms_waiting: u64,
    /// Times that a room with people of this node got another home.
    #[serde(default)]
    pub homes_moved: u64,
    /// Wishes for a home that were dropped, as there were too many rooms.
    #[serde(default)]
    pub wishes_dropped: u64,
    /// The nodes that live, as was last seen, this one among them.
    pub nodes: Vec<NodeStatus>,
    /// Messages that were said on the bus.
    #[serde(default)]
    pub bus_said: u64,
    /// Messages of other nodes that were heard there.
    #[serde(default)]
    pub bus_heard: u64,
    /// Messages that were lost at this node, by reason; reasons that never came are left out.
    #[serde(default)]
    pub bus_lost: BTreeMap<String, u64>,
    /// What keeps this node out of the cluster, if something does.
    #[serde(default)]
    pub trouble: Option<TroubleTold>,
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u16,
    /// Where others reach it.
    pub address: SocketAddr,
    /// SHA-256 of its public key, in hexadecimal.
    pub pin: String,
    /// For how many seconds this node has seen it live.
    pub seen_s: u64,
    /// Whether it is the one that was asked.
    pub here: bool,
}

/// What keeps a node out of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleTold {
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub todo: String,
}

/// What a scrape reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterReading {
    /// Nodes that live, as was last seen, this one among them.
    pub nodes: u64,
    /// Whether this node lives, for the others too.
    pub life_held: bool,
    /// Whether NATS is there.
    pub nats_connected: bool,
    /// How often a connection to it came about.
    pub nats_connects: u64,
    /// Rooms that have their home here.
    pub homes: u64,
    /// What is counted of what shards want of homes.
    pub wishes: HomesReading,
    /// What is counted of the bus.
    pub bus: BusReading,
}

/// The node, and what was noted of it.
#[derive(Debug)]
pub struct View {
    settings: Settings,
    node: Mutex<Node>,
    begun: Instant,
    agents: Agents,
    link: OnceLock<Link>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// Since when each life is seen.
    since: BTreeMap<(NodeNumber, Life), Instant>,
    trouble: Option<Trouble>,
    /// What the shards were told last.
    roster: Option<Roster>,
}

impl View {
    /// Of a node that does not live yet.
    pub(super) fn new(settings: Settings, agents: Agents) -> Self {
        // Whoever follows a process that is known to have ended may live at once. That is not remembered: 5 s are waited.
        let node = Node::new(Terms::default(), settings.own, Life(rand::random()), None);
        let (link, notes) = (OnceLock::new(), Mutex::default());
        Self { settings, node: Mutex::new(node), begun: Instant::now(), agents, link, notes }
    }

    /// What it lives by.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The node, for whoever drives it; its clock is the time since [`Self::begun`].
    pub(super) const fn node(&self) -> &Mutex<Node> {
        &self.node
    }

    /// The bus at this node.
    pub(super) const fn bus(&self) -> &Arc<Bus> {
        &self.agents.bus
    }

    /// What is wanted and known of the homes of rooms.
    pub(super) const fn homes(&self) -> &Arc<HomeBook> {
        &self.agents.homes
    }

    /// When its clock began.
    pub(super) const fn begun(&self) -> Instant {
        self.begun
    }

    /// From now on this is the way to NATS.
    pub(super) fn goes_by(&self, link: Link) {
        let _ = self.link.set(link); // it is set once
    }

    /// Notes who lives, and tells whoever speaks to them, if that is another than before.
    pub(super) fn look(&self, tell: &dyn Fn(Roster)) {
        let (own, all) = {
            let node = self.lock();
            (node.life(), node.alive().collect::<Vec<_>>())
        };
        // One that has no life yet speaks to nobody.
        if let Some(Life(life)) = own {
            let others = all.iter().filter(|(node, ..)| *node != self.settings.own.number);
            let book = |(node, life, at): &(NodeNumber, Life, Whereabouts)| NodeBook {
                node: NodeId(node.0),
                life: life.0,
                address: at.address,
                pin: RelayPin(at.pin),
            };
            let roster = Roster { life, others: others.map(book).collect() };
            let mut notes = self.notes();
            if notes.roster.as_ref() != Some(&roster) {
                notes.roster = Some(roster.clone());
                tell(roster);
            }
        }
        let alive: Vec<(NodeNumber, Life)> = all.into_iter().map(|(node, life, _)| (node, life)).collect();
        let since = &mut self.notes().since;
        since.retain(|life, _| alive.contains(life));
        let now = Instant::now();
        alive.into_iter().for_each(|life| {
            since.entry(life).or_insert(now);
        });
    }

    /// Notes what keeps the node out, and says it once in the log; and once that it is over.
    pub(super) fn note(&self, trouble: Option<Trouble>) {
        let before = std::mem::replace(&mut self.notes().trouble, trouble.clone());
        let node = self.settings.own.number.0;
        match (before, trouble) {
            (Some(before), Some(now)) if before.is_like(&now) => {}
            (_, Some(now)) => tracing::warn!(node, "{} ({})", now.what(), now.todo()),
            (Some(_), None) => tracing::info!(node, "this relay lives in its cluster"),
            (None, None) => {}
        }
    }

    /// The life of somebody else under this node's number, for how long it is seen, and where it is.
    pub(super) fn other_of_number(&self) -> Option<(Duration, SocketAddr)> {
        let (life, at) = self.lock().other_of_number()?;
        let since = self.notes().since.get(&(self.settings.own.number, life)).copied()?;
        Some((since.elapsed(), at.address))
    }

    /// Whether this node lives, for the others too.
    pub fn holds_life(&self) -> bool {
        self.lock().held(self.begun.elapsed()).is_some()
    }

    /// For metrics.
    pub fn reading(&self) -> ClusterReading {
        let node = self.lock();
        let now = self.begun.elapsed();
        ClusterReading {
            nodes: node.alive().count() as u64,
            life_held: node.held(now).is_some(),
            nats_connected: self.is_connected(),
            nats_connects: self.link.get().map_or(0, |link| link.figures().made()),
            homes: node.homes_here(now) as u64,
            wishes: self.homes().reading(),
            bus: self.bus().reading(),
        }
    }

    /// For commands.
    pub fn status(&self) -> ClusterStatus {
        let ClusterReading { life_held, nats_connected, nats_connects, homes, wishes, bus, .. } = self.reading();
        let lost = Loss::ALL.iter().zip(bus.lost).filter(|(_, count)| *count > 0);
        let own = self.settings.own;
        let alive: Vec<_> = self.lock().alive().collect();
        let own_life = self.lock().life();
        let notes = self.notes();
        let node = |(number, life, at): (NodeNumber, Life, Whereabouts)| NodeStatus {
            node: number.0,
            address: at.address,
            pin: HEXLOWER.encode(&at.pin),
            seen_s: notes.since.get(&(number, life)).map_or(0, |since| since.elapsed().as_secs()),
            here: Some(life) == own_life,
        };
        let told = |trouble: &Trouble| TroubleTold { what: trouble.what(), todo: trouble.todo().to_owned() };
        ClusterStatus {
            name: self.settings.place.cluster.clone(),
            node: own.number.0,
            address: own.at.address,
            nats_connected,
            nats_connects,
            life_held,
            homes,
            rooms_wanted: wishes.wanted,
            rooms_waiting: wishes.waiting,
            homes_moved: wishes.moved,
            wishes_dropped: wishes.dropped,
            nodes: alive.into_iter().map(node).collect(),
            bus_said: bus.said,
            bus_heard: bus.heard,
            bus_lost: lost.map(|(loss, count)| (loss.label().to_owned(), count)).collect(),
            trouble: notes.trouble.as_ref().map(told),
        }
    }

    fn is_connected(&self) -> bool {
        self.link.get().is_some_and(Link::is_up)
    }

    fn lock(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
