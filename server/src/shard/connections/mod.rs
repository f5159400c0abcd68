//! Clients' connections: what each keeps, when it wants to be looked at, and what becomes of those that keep too much.

pub(crate) mod connection;
pub(crate) mod gaps;
pub(crate) mod withheld;

mod costs;
mod crumbs;
mod deadlines;
mod gather;
mod shed;

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{ConnectionEvent, ConnectionHandle};

use self::{connection::Connection, costs::Stopwatch, deadlines::Deadlines};
use super::{figures::census::Census, quic::link_codec::DatagramOut};
use crate::{
    core::{
        fan_out::Offer,
        ledger::{DropReason, Ledger},
    },
    prefetch::prefetch,
};

/// Objects that a turn delivers of those whose objects reach many. Default 1,024: two to three milliseconds. Whoever has
/// more at once is taken up in the next turn; whose objects reach few is let through, so that a call does not wait for what
/// sixty people say at once to each other.
const DELIVERIES_PER_TURN: u32 = 1024;
/// What reaches few. Default 8: a call of friends.
const FEW: u32 = 8;

/// A shard's connections by their links, and which of them are to be looked at.
pub(crate) struct Connections {
    by_link: Vec<Option<Box<Connection>>>,
    /// The one that is out to be served.
    served: Option<u32>,
    /// Those of which something is to be sent, or that are to be served before that.
    marked: Vec<u32>,
    /// The list before this one, whose memory is used again.
    marked_before: Vec<u32>,
    deadlines: Deadlines,
    /// Bytes of control messages of all of them, as of when each was counted last.
    control_bytes: usize,
    /// Bytes that QUIC may keep beyond their windows, likewise.
    gaps_bytes: usize,
    /// Packets of crumbs that may still be served in this turn.
    crumbs_left: u8,
    /// Objects in datagrams that were delivered in this turn.
    deliveries: u32,
    /// Those whose objects have to wait for the next one.
    with_more: Vec<u32>,
    stopwatch: Stopwatch,
}

/// A connection that is being served. It is out of the table meanwhile, so that what it sends can reach all others; nobody
/// looks for it there, and it goes back with [`Connections::put_back`].
#[must_use]
pub(crate) struct Served {
    link: u32,
    connection: Box<Connection>,
}

impl Deref for Served {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Served {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Connections {
    /// None yet, on a machine that seals a packet in this time.
    pub(crate) fn new(sealing: Duration) -> Self {
        Self {
            by_link: Vec::new(),
            served: None,
            marked: Vec::new(),
            marked_before: Vec::new(),
            deadlines: Deadlines::default(),
            control_bytes: 0,
            gaps_bytes: 0,
            crumbs_left: crumbs::PER_TURN_MAX,
            deliveries: 0,
            with_more: Vec::new(),
            stopwatch: Stopwatch::new(sealing),
        }
    }

    /// Links that there are or have been: each is below this.
    pub(crate) fn links(&self) -> u32 {
        self.by_link.len() as u32
    }

    /// The connection with this link.
    pub(crate) fn get(&self, link: u32) -> Option<&Connection> {
        debug_assert_ne!(self.served, Some(link), "it is out to be served");
        self.by_link.get(link as usize)?.as_deref()
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, link: u32) -> Option<&mut Connection> {
        debug_assert_ne!(self.served, Some(link), "it is out to be served");
        self.by_link.get_mut(link as usize)?.as_deref_mut()
    }

    /// All of them, in the order of their links.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> {
        (0..).zip(&self.by_link).filter_map(|(link, connection)| Some((link, connection.as_deref()?)))
    }

    /// A new connection, which is to be served first of all.
    pub(crate) fn insert(&mut self, link: u32, connection: Connection) {
        if self.by_link.len() <= link as usize {
            self.by_link.resize_with(link as usize + 1, || None);
        }
        self.by_link[link as usize] = Some(Box::new(connection));
        self.touch(link);
    }

    /// A connection is no more.
    pub(crate) fn remove(&mut self, link: u32) -> Option<Box<Connection>> {
        let connection = self.by_link.get_mut(link as usize)?.take()?;
        self.control_bytes -= connection.control_counted;
        self.gaps_bytes -= connection.kept.counted;
        self.deadlines.arm(link, None);
        Some(connection)
    }

    /// Takes a connection out to be served.
    pub(crate) fn take_out(&mut self, link: u32) -> Option<Served> {
        let connection = self.by_link.get_mut(link as usize)?.take()?;
        self.served = Some(link);
        Some(Served { link, connection })
    }

    /// It has been served.
    pub(crate) fn put_back(&mut self, served: Served) {
        let Served { link, connection } = served;
        self.by_link[link as usize] = Some(connection);
        self.served = None;
    }

    /// A packet came for a connection. Returns whether it is served in this turn: crumbs and what is costly are only up to
    /// a bound. One that is no client's is somebody else's to serve.
    pub(crate) fn receive(
        &mut self,
        handle: ConnectionHandle,
        event: ConnectionEvent,
        bytes: usize,
        arrived: Instant,
        clock: impl Fn() -> Instant,
        elsewhere: impl FnOnce(ConnectionEvent),
    ) -> bool {
        let Self { by_link, marked, crumbs_left, stopwatch, .. } = self;
        let Some(connection) = by_link.get_mut(handle.0).and_then(Option::as_mut) else {
            elsewhere(event);
            return true;
        };
        if stopwatch.holds_back(&connection.cost) || !connection.crumbs.take(crumbs_left) {
            return false;
        }
        connection.unserved_since.get_or_insert(arrived);
        if let Some(newcomer) = &mut connection.newcomer {
            newcomer.receive(bytes);
        }
        let started = stopwatch.start(&clock);
        connection.quic.handle_event(event);
        stopwatch.stop(started, &mut connection.cost, &clock);
        connection.crumbs.look(&connection.quic, connection.newcomer.is_some());
        // What came decides how urgent it is.
        connection.news = true;
        connection.mark(handle.0 as u32, marked);
        true
    }

    /// Offers an object in a datagram to a subscriber's connection.
    pub(crate) fn deliver(
        &mut self,
        offer: &Offer,
        out: &DatagramOut<'_>,
        queue_bytes_max: usize,
        ledger: &mut Ledger,
    ) {
        if let Some(next) = offer.next.and_then(|next| self.by_link.get(next as usize)?.as_deref()) {
            prefetch(next, Connection::HOT_BYTES);
        }
        let Self { by_link, marked, .. } = self;
        let Some(connection) = by_link.get_mut(offer.link as usize).and_then(Option::as_mut) else {
            return ledger.drop(DropReason::Gone, 1);
        };
        self.deliveries += 1;
        connection.offer_datagram(offer, out, queue_bytes_max, ledger);
        connection.urgent |= !offer.is_audio();
        connection.mark(offer.link, marked);
    }

    /// Puts a connection on the list of those to serve.
    pub(crate) fn touch(&mut self, link: u32) {
        let Self { by_link, marked, .. } = self;
        if let Some(connection) = by_link.get_mut(link as usize).and_then(Option::as_mut) {
            (connection.news, connection.urgent) = (true, true);
            connection.mark(link, marked);
        }
    }

    /// The connection with this link, to which something of a stream goes: its packets are built at the end of the turn.
    pub(crate) fn get_to_send(&mut self, link: u32) -> Option<&mut Connection> {
        debug_assert_ne!(self.served, Some(link), "it is out to be served");
        let connection = self.by_link.get_mut(link as usize)?.as_deref_mut()?;
        connection.urgent = true;
        connection.mark(link, &mut self.marked);
        Some(connection)
    }

    /// Whether any is on the list.
    pub(crate) fn any_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// What came in has been read: a turn's bounds begin anew.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.crumbs_left = crumbs::PER_TURN_MAX;
        self.deliveries = 0;
        self.stopwatch.begin_turn(now);
    }

    /// Deliveries of objects in datagrams in this turn.
    pub(crate) fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Whether objects of somebody whose last one reached so many have to wait for the next turn.
    pub(crate) fn has_no_time_for(&self, reach: u32) -> bool {
        self.deliveries >= DELIVERIES_PER_TURN && reach > FEW
    }

    /// There was no time for all that somebody sent.
    pub(crate) fn leave_for_next_turn(&mut self, link: u32) {
        self.with_more.push(link);
    }

    /// Those for whom there was no time are the first to be served in the next turn.
    pub(crate) fn take_up_what_was_left(&mut self) {
        let Self { by_link, marked, with_more, .. } = self;
        for link in with_more.drain(..) {
            if let Some(connection) = by_link.get_mut(link as usize).and_then(Option::as_mut) {
                connection.news = true;
                connection.mark(link, marked);
            }
        }
    }

    /// The next one on the list that has news, from this place on; it has been told of afterwards.
    pub(crate) fn next_with_news(&mut self, place: &mut usize) -> Option<u32> {
        while let Some(link) = self.marked.get(*place).copied() {
            *place += 1;
            if self.get_mut(link).is_some_and(|connection| std::mem::take(&mut connection.news)) {
                return Some(link);
            }
        }
        None
    }

    /// Everybody on the list, which begins anew; to be given back with [`Self::forget_marked`].
    pub(crate) fn take_marked(&mut self) -> Vec<u32> {
        let next = std::mem::take(&mut self.marked_before);
        std::mem::replace(&mut self.marked, next)
    }

    /// Their packets have been built.
    pub(crate) fn forget_marked(&mut self, mut marked: Vec<u32>) {
        marked.clear();
        self.marked_before = marked;
    }

    /// A connection wants to be looked at then, if at all, and at no time that it wanted before.
    pub(crate) fn arm(&mut self, link: u32, at: Option<Instant>) {
        self.deadlines.arm(link, at);
    }

    /// Then, or earlier if it wanted that.
    pub(crate) fn hasten(&mut self, link: u32, at: Instant) {
        self.deadlines.hasten(link, at);
    }

    /// When some connection wants to be looked at.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.deadlines.next(now)
    }

    /// Tells QUIC of every deadline that has come.
    pub(crate) fn handle_timeouts(&mut self, now: Instant) {
        while let Some(link) = self.deadlines.pop(now) {
            if let Some(connection) = self.get_mut(link) {
                connection.quic.handle_timeout(now);
                self.touch(link);
            }
        }
    }

    /// Queues a control message for a client, in its frame, which several may share; whether it keeps up with them.
    pub(crate) fn send(&mut self, link: u32, frame: Bytes, backlog_max: usize) -> bool {
        let Some(connection) = self.get_mut(link) else { return true };
        let keeps_up = connection.send_frame(frame, backlog_max);
        self.touch(link);
        keeps_up
    }

    /// Takes note of the control messages that a connection keeps now, and of what QUIC may keep of its streams.
    pub(crate) fn recount(&mut self, link: u32) {
        let Some(connection) = self.by_link.get_mut(link as usize).and_then(Option::as_mut) else { return };
        if !connection.take_uncounted() {
            return;
        }
        let control = connection.control_bytes();
        self.control_bytes += control;
        self.control_bytes -= std::mem::replace(&mut connection.control_counted, control);
        let gaps = connection.kept.beyond_window();
        self.gaps_bytes += gaps;
        self.gaps_bytes -= std::mem::replace(&mut connection.kept.counted, gaps);
    }

    /// Adds what they hold. Costs a look at each.
    pub(crate) fn count(&self, census: &mut Census) {
        census.control_bytes = self.control_bytes;
        for (_, connection) in self.iter() {
            let datagrams = connection.datagrams.bytes();
            let bytes = |reliable| {
                let chosen = connection.egress.iter().filter(move |(_, egress)| egress.is_reliable() == reliable);
                chosen.map(|(_, egress)| egress.queue.bytes()).sum::<usize>()
            };
            let media = bytes(false);
            census.ingress += connection.ingress.len();
            census.egress += connection.egress.len();
            census.unacknowledged += connection.finished.len();
            census.datagrams += connection.datagrams.len();
            census.queued_bytes += datagrams + media + bytes(true);
            census.datagram_bytes_most = census.datagram_bytes_most.max(datagrams);
            census.stream_bytes_most = census.stream_bytes_most.max(media);
        }
    }
}
