//! Links to the other nodes of a cluster: QUIC between shards of different relays, on the relay's own port.
//!
//! Each shard dials each other node that lives and writes its letters, and its publishers' media, on that one connection;
//! who accepts only reads, and passes each letter on to the shard that it is for, and each object to the one that gathers its track. So letters from one shard to another come in order, through two queues
//! that are in order themselves. Which nodes live, and where, the control plane says ([`Roster`]); what it means that a link
//! ends, [`table`] does.

mod dial;
mod hello;
mod incoming;
mod link;
mod media;
mod outgoing;
mod rooms;
mod table;
#[cfg(test)]
mod tests;
mod turn;
mod words;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{ClientConfig, Connection, ConnectionEvent, ConnectionHandle, StreamId};
use rustls::crypto::CryptoProvider;
use supernode_proto::{
    close::CloseCode,
    cluster::{NODE_HELLO_BYTES, NODE_VERSION, NodeHello, NodeWelcome},
    control::{FrameReader, decode_message, frame},
};

pub(crate) use self::table::{Table, Word};
pub use self::{dial::NodeBook, hello::NodeKey};
use self::{
    hello::Speaker,
    incoming::Incoming,
    link::{Link, Way},
    outgoing::{Hold, Outgoing},
    table::{Life, Round},
};
use super::{
    post::{Post, inbox::Letter},
    quic::cid::Incarnation,
};
use crate::core::{Address, BusErrand, ControlMail, HomeWish, NodeId, ShardId, ledger::Ledger};

/// Bytes of letters that may wait for a node. Default 4 MiB: as much as waits for a shard before its clients are left unread.
/// What is more breaks the link, so that both sides know that something was lost.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// What makes a relay a node of a cluster.
#[derive(Debug, Clone)]
pub struct NodeSelf {
    /// Its number, from 1.
    pub node: NodeId,
    /// The key of its certificate.
    pub key: NodeKey,
    /// Who carries what its shards say on the bus.
    pub bus: ToBus,
    /// Who decides with the others where rooms live.
    pub homes: ToHomes,
}

/// Takes what shards want of the bus, and does not wait.
#[derive(Clone)]
pub struct ToBus(pub Arc<dyn Fn(BusErrand) + Send + Sync>);

impl fmt::Debug for ToBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToBus(..)")
    }
}

/// Takes what shards want of the homes of rooms, and does not wait.
#[derive(Clone)]
pub struct ToHomes(pub Arc<dyn Fn(HomeWish) + Send + Sync>);

impl fmt::Debug for ToHomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToHomes(..)")
    }
}

/// Who lives, as the control plane knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// This node's own life.
    pub life: u64,
    /// The other nodes that live.
    pub others: Vec<NodeBook>,
}

/// What a shard's part of the links is made of.
#[derive(Clone)]
pub(crate) struct NodeParts {
    pub(crate) own: NodeSelf,
    /// What all shards of the relay share.
    pub(crate) table: Arc<Table>,
    /// This process, as its connection IDs name it: packets for a connection that a shard has dialled may come to any.
    pub(crate) incarnation: Incarnation,
}

impl NodeParts {
    pub(crate) fn new(own: NodeSelf, incarnation: Incarnation) -> Self {
        Self { own, table: Arc::default(), incarnation }
    }
}

/// A node whom this shard writes to.
struct Other {
    book: NodeBook,
    config: Option<ClientConfig>,
    link: Option<usize>,
    dial_at: Instant,
    wait: Duration,
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
    out: Outgoing,
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NodeFigures {
    /// Letters, in their frames, that were put in line for other nodes.
    pub letters_out: u64,
    /// Letters of other nodes.
    pub letters_in: u64,
    /// Letters to nodes that were lost, or that nobody knows.
    pub letters_lost: u64,
    /// Links that were dialled.
    pub dialled: u64,
    /// Greetings that were refused.
    pub refused: u64,
}

/// One shard's links.
pub(crate) struct Nodes {
    at: Address,
    shards: usize,
    own: NodeSelf,
    table: Arc<Table>,
    provider: Arc<CryptoProvider>,
    life: Option<Life>,
    others: BTreeMap<NodeId, Other>,
    /// By the numbers of their connections, which they share with clients' links.
    links: BTreeMap<usize, Link>,
    /// The round with each node that this shard's core knows of.
    seen: BTreeMap<NodeId, Round>,
    /// Links of which something is to be sent, or that have news.
    marked: Vec<usize>,
    due: Option<Instant>,
    figures: NodeFigures,
    /// What became of objects for other nodes: to it these are subscribers.
    ledger: Ledger,
    /// Objects that were lost on their way to lives that are over.
    lost_before: u64,
    /// Objects that came.
    received: u64,
    /// Data streams that are to be held or may go on.
    holds: Vec<Hold>,
    /// What came on links that are over and is to be ended.
    orphans: Vec<Incoming>,
    /// Every word that was heard.
    #[cfg(test)]
    pub(crate) heard: Vec<Word>,
}

impl Nodes {
    pub(crate) fn new(at: Address, shards: usize, parts: NodeParts) -> Self {
        let NodeParts { own, table, .. } = parts;
        Self {
            at,
            shards,
            own,
            table,
            provider: supernode_tls::provider(),
            life: None,
            others: BTreeMap::new(),
            links: BTreeMap::new(),
            seen: BTreeMap::new(),
            marked: Vec::new(),
            due: None,
            figures: NodeFigures::default(),
            ledger: Ledger::default(),
            lost_before: 0,
            received: 0,
            holds: Vec::new(),
            orphans: Vec::new(),
            #[cfg(test)]
            heard: Vec::new(),
        }
    }

    /// Passes on what the core wants of the bus.
    pub(crate) fn tell_bus(&self, errand: BusErrand) {
        self.own.bus.0(errand);
    }

    /// Passes on what the core wants of the homes of rooms.
    pub(crate) fn tell_homes(&self, wish: HomeWish) {
        self.own.homes.0(wish);
    }

    /// Takes note of who lives. A life that is not there any more is over at once, with all links to and from it.
    pub(crate) fn set_roster(&mut self, roster: &Roster, post: &mut Post, now: Instant) {
        let life = Life(roster.life);
        let is_new = self.life.replace(life).is_some_and(|before| before != life);
        let lives = |other: &NodeBook| {
            !is_new && roster.others.iter().any(|book| (book.node, book.life) == (other.node, other.life))
        };
        let dead: Vec<NodeBook> = self.others.values().map(|other| other.book).filter(|book| !lives(book)).collect();
        for NodeBook { node, life, .. } in dead {
            self.forget(node);
            self.table.ended(node, Life(life), tell(post, self.at, self.shards));
            self.close_all(|link| link.node == node, CloseCode::NODE_OVER, now);
        }
        let here = self.at.node;
        for book in roster.others.iter().filter(|book| book.node != here) {
            let Self { others, provider, .. } = &mut *self;
            let config = || dial::config(book.pin, &*provider);
            let other = others.entry(book.node).or_insert_with(|| Other {
                book: *book,
                config: config(),
                link: None,
                dial_at: now,
                wait: dial::WAIT_MIN,
                queue: VecDeque::new(),
                queue_bytes: 0,
                out: Outgoing::default(),
            });
            if other.book != *book {
                (other.book, other.config) = (*book, config());
            }
        }
        self.due = Some(now);
    }

    /// Takes note of what another shard, or this one, has told all.
    pub(crate) fn hear(&mut self, word: Word, now: Instant) {
        #[cfg(test)]
        self.heard.push(word);
        let Word::Over { node, round, .. } = word else { return };
        self.seen.insert(node, Round(round.0 + 1));
        if let Some(other) = self.others.get_mut(&node) {
            self.figures.letters_lost += other.queue.len() as u64;
            other.queue.clear();
            other.queue_bytes = 0;
        }
        let is_of_it = |link: &Link| link.node == node && link.round.is_some_and(|of| of <= round);
        self.close_all(is_of_it, CloseCode::NODE_OVER, now);
        self.mark_all(node);
    }

    /// This shard has lost mail, maybe a word of these too: it begins anew with all nodes.
    pub(crate) fn begin_anew(&mut self, post: &mut Post, now: Instant) {
        for node in self.others.keys().copied().collect::<Vec<_>>() {
            self.close_all(|link| link.node == node, CloseCode::NODE_OVER, now);
            self.table.reset(node, tell(post, self.at, self.shards));
        }
    }

    /// Puts a letter in line for a shard of another node.
    pub(crate) fn send(&mut self, to: Address, mail: &[ControlMail], post: &mut Post, now: Instant) {
        let Some(other) = self.others.get_mut(&to.node) else {
            self.figures.letters_lost += 1;
            return;
        };
        let frames = words::frames(to.shard, mail);
        let bytes = frames.iter().flatten().map(Bytes::len).sum::<usize>();
        let Some(frames) = frames.filter(|_| other.queue_bytes + bytes <= QUEUE_BYTES) else {
            return self.fall_behind(to.node, post, now);
        };
        self.figures.letters_out += frames.len() as u64;
        other.queue_bytes += bytes;
        other.queue.extend(frames);
        if let Some(link) = other.link {
            self.marked.push(link);
        }
    }

    /// More waits for a node than may. What waits is lost, and so the link and all that was known through it.
    fn fall_behind(&mut self, node: NodeId, post: &mut Post, now: Instant) {
        let Some(other) = self.others.get_mut(&node) else { return };
        self.figures.letters_lost += 1 + other.queue.len() as u64;
        other.queue.clear();
        other.queue_bytes = 0;
        let round = self.seen.get(&node).copied().unwrap_or_default();
        if let Some(link) = other.link {
            self.end(link, Some(CloseCode::NODE_OVER), post, now);
        }
        self.table.broke(node, round, tell(post, self.at, self.shards));
    }

    /// Whether this is a node that lives, and speaks to this life of ours; the code to close with if not.
    ///
    /// # Errors
    /// The code.
    pub(crate) fn check(&mut self, hello: &[u8], quic: &Connection) -> Result<Speaker, CloseCode> {
        let checked = self.checked(hello, quic);
        self.figures.refused += u64::from(checked.is_err());
        checked
    }

    fn checked(&self, hello: &[u8], quic: &Connection) -> Result<Speaker, CloseCode> {
        if hello.len() > NODE_HELLO_BYTES {
            return Err(CloseCode::MESSAGE_TOO_LARGE);
        }
        let hello: NodeHello = decode_message(hello).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
        let exporter = hello::exporter(quic).ok_or(CloseCode::INTERNAL)?;
        let number = u16::try_from(hello.node).map_err(|_| CloseCode::NODE_REFUSED)?;
        let other = self.others.get(&NodeId(number)).ok_or(CloseCode::NODE_REFUSED)?;
        let here = (self.at.node, self.life.ok_or(CloseCode::NODE_REFUSED)?);
        let pin = self.own.key.pin();
        hello::check(&hello, &other.book, here, &pin, &exporter, &self.provider).ok_or(CloseCode::NODE_REFUSED)
    }

    /// Takes over the connection of a node that [`Self::check`] knows, with its one stream.
    pub(crate) fn take_in(
        &mut self,
        Speaker { node, life, shard }: Speaker,
        (handle, mut quic): (ConnectionHandle, Connection),
        (stream, reader): (StreamId, FrameReader),
        post: &mut Post,
        now: Instant,
    ) {
        media::allow(&mut quic);
        let mut link = Link::new(node, life, Way::In, handle, quic).with_stream(stream, reader);
        (link.from, link.report_at) = (shard, Some(now));
        link.round = Some(self.table.greeted(node, life, shard, tell(post, self.at, self.shards)));
        // The stream is new: there is room for a word.
        link.say(&frame(&NodeWelcome { version: NODE_VERSION }));
        self.links.insert(handle.0, link);
        self.marked.push(handle.0);
    }

    /// A packet came for a connection that is no client's.
    pub(crate) fn receive(&mut self, handle: ConnectionHandle, event: ConnectionEvent) {
        if let Some(link) = self.links.get_mut(&handle.0) {
            link.quic().handle_event(event);
            link.news = true;
            self.marked.push(handle.0);
        }
    }

    /// A node says something on a connection that was not handed over to be read as a client's: it did not wait.
    pub(crate) fn refuse(&mut self, handle: usize, post: &mut Post, now: Instant) {
        self.end(handle, Some(CloseCode::UNEXPECTED_MESSAGE), post, now);
    }

    /// When [`Self::handle_timeouts`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a link is still to be served in a next turn.
    pub(crate) fn is_busy(&self) -> bool {
        !self.marked.is_empty()
    }

    /// A link is over, by us if there is a code.
    fn end(&mut self, handle: usize, code: Option<CloseCode>, post: &mut Post, now: Instant) {
        let Some(link) = self.links.get_mut(&handle) else { return };
        if std::mem::replace(&mut link.is_over, true) {
            return;
        }
        if let Some(code) = code {
            link.close(code, now);
        }
        tracing::debug!(node = link.node.0, way = ?link.way, ?code, "a link between nodes has ended");
        let (node, round) = (link.node, link.round);
        self.let_go(handle, now);
        if let Some(round) = round {
            self.table.broke(node, round, tell(post, self.at, self.shards));
        }
    }

    /// Closes links whose end is known to all.
    fn close_all(&mut self, which: impl Fn(&Link) -> bool, code: CloseCode, now: Instant) {
        let chosen = self.links.iter().filter(|(_, link)| !link.is_over && which(link));
        for handle in chosen.map(|(handle, _)| *handle).collect::<Vec<_>>() {
            if let Some(link) = self.links.get_mut(&handle) {
                link.is_over = true;
                link.close(code, now);
            }
            self.let_go(handle, now);
        }
    }

    /// A link carries nothing any more: who dialled it dials again.
    fn let_go(&mut self, handle: usize, now: Instant) {
        self.marked.push(handle);
        self.end_media(handle);
        let Self { others, ledger, holds, .. } = self;
        if let Some(other) = others.values_mut().find(|other| other.link == Some(handle)) {
            other.link = None;
            other.out.clear(ledger, holds);
            other.dial_at = now + other.wait;
            self.due = Some(self.due.map_or(other.dial_at, |due| due.min(other.dial_at)));
        }
    }

    /// The links with a node may go on with what they waited for.
    fn mark_all(&mut self, node: NodeId) {
        let Self { links, marked, .. } = self;
        marked.extend(links.iter().filter(|(_, link)| link.node == node).map(|(handle, _)| *handle));
    }

    /// What was counted.
    pub(crate) fn figures(&self) -> NodeFigures {
        self.figures
    }

    /// Says goodbye to all.
    pub(crate) fn finish(&mut self, now: Instant) {
        for node in self.others.keys().copied().collect::<Vec<_>>() {
            self.forget(node);
        }
        self.close_all(|_| true, CloseCode::GOING_AWAY, now);
    }

    /// Puts bytes in line for a node that are no letter.
    #[cfg(test)]
    pub(crate) fn send_raw(&mut self, to: NodeId, bytes: &[u8]) {
        let other = self.others.get_mut(&to).expect("it lives");
        other.queue.push_back(Bytes::copy_from_slice(bytes));
        other.queue_bytes += bytes.len();
        self.marked.extend(other.link);
    }

    /// Links that carry letters: out and in.
    #[cfg(test)]
    pub(crate) fn up(&self) -> (usize, usize) {
        let up =
            |way| self.links.values().filter(|link| link.way == way && !link.is_over && link.round.is_some()).count();
        (up(Way::Out), up(Way::In))
    }
}

/// Tells all shards of this relay, in order.
fn tell(post: &mut Post, at: Address, shards: usize) -> impl FnMut(Word) {
    move |word| {
        for shard in 0..shards {
            post.put_letter(at.beside(ShardId(shard as u16)), Letter::Node(word));
        }
    }
}
