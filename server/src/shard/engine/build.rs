//! The end of a turn: packets are built for every connection that was served, and what is too full is cut.

use std::time::{Duration, Instant};

use quinn_proto::Endpoint;
use supernode_proto::close::CloseCode;

use super::Engine;
use crate::{
    core::{Asked, Now, Outbox, RoomAsk, ShardCore},
    shard::{
        connections::connection::{Connection, Phase},
        figures::{Figures, counters::Tally},
        net::socket::SendBatch,
    },
};

/// How often a connection with something waiting, or low on the ladder, is looked at.
const WAIT_TICK: Duration = Duration::from_millis(20);
/// How often clients whose streams are left unread for other shards' sake are looked at.
const MAIL_TICK: Duration = Duration::from_millis(1);

/// Bytes to a client for which its identity is charged at once, or at the session's end. Default 16 KiB: what somebody in a
/// call is sent in a second, who else would cost a look at the account every 50 ms.
const CHARGED_AT_ONCE_BYTES: u64 = 16 * 1024;

impl Engine {
    /// Builds packets for every connection that was served. Calls `flush` whenever the batch is full.
    pub(crate) fn poll_transmits(
        &mut self,
        now: Now,
        out: &mut SendBatch,
        mut flush: impl FnMut(&mut SendBatch, &mut Tally),
    ) {
        let marked = self.connections.take_marked();
        for link in &marked {
            if self.build(*link, now, out, &mut flush) {
                self.settle(*link, now);
            }
        }
        self.connections.forget_marked(marked);
        self.connections.take_up_what_was_left();
        flush(out, self.figures.tally());
        self.build_for_nodes(now, out, &mut flush);
        for (link, alias) in self.streams.take_lost_pictures() {
            self.core.wish_keyframe(link, alias, &mut self.outbox);
        }
        let shards = self.post.shards() as u64;
        let held_max = self.core.limits().relay_queue_bytes_max / shards;
        self.connections.shed_above(held_max, &mut self.core.ledger);
        self.close_fullest(now);
        self.release_holds(now);
        self.core.end_turn(&mut self.outbox);
        self.carry_out(now);
    }

    /// Builds one connection's packets, unless there is none or they may still wait.
    fn build(
        &mut self,
        link: u32,
        now: Now,
        out: &mut SendBatch,
        flush: &mut impl FnMut(&mut SendBatch, &mut Tally),
    ) -> bool {
        let Self { core, outbox, connections, streams, figures, endpoint, .. } = self;
        let Some(connection) = connections.get_mut(link) else { return false };
        if let Some(until) = connection.may_gather(core.limits().audio_budget, now.instant) {
            connections.hasten(link, until);
            return false;
        }
        look_at_path(link, connection, core, outbox, figures, now);
        exchange_endpoint_events(endpoint, connection);
        loop {
            if connection.is_behind() {
                connection.widen(core.directory().windows(), core.limits().relay_windows_bytes_max);
            }
            connection.flush_control();
            if !connection.is_throttled(now.instant) {
                streams.flush(link, connection, core, now.instant);
                connection.refill(now.instant, &mut core.ledger);
            }
            let mut built = false;
            // One by one as long as each is weighed against what came from an address that has proven nothing.
            let segments_max = if connection.newcomer.is_some() { 1 } else { self.segments_max };
            while let Some(transmit) = connection.poll_transmit(now.instant, segments_max, out.buffer()) {
                built = true;
                if connection.newcomer.as_mut().is_some_and(|newcomer| !newcomer.may_send(transmit.size)) {
                    figures.tally().unproven_withheld += 1;
                    continue;
                }
                if out.commit(transmit) {
                    flush(out, figures.tally());
                }
            }
            connection.note_held_back();
            // What went out made room for what waits.
            if !built || connection.datagrams.is_empty() {
                return true;
            }
        }
    }

    /// A connection that was looked at gets a new deadline, or is forgotten.
    fn settle(&mut self, link: u32, now: Now) {
        let Self { core, outbox, connections, post, endpoint, .. } = self;
        connections.recount(link);
        let Some(connection) = connections.get_mut(link) else { return };
        if let Some(from) = connection.session().filter(|_| !connection.control_waits()) {
            for (room, after) in connection.withheld.take_unasked() {
                outbox.ask(RoomAsk { room, from, member: 0, request: 0, what: Asked::Withheld { after } });
            }
        }
        let answered = exchange_endpoint_events(endpoint, connection);
        if connection.quic.is_drained() {
            return self.forget(link, now.instant);
        }
        let mut deadline = connection.quic.poll_timeout();
        let mut at_latest = |at: Instant| deadline = Some(deadline.map_or(at, |earlier| earlier.min(at)));
        if connection.phase == Phase::Closed {
            if let Some(until) = connection.lingers_until() {
                at_latest(until);
            }
        } else if let Some(newcomer) = &connection.newcomer {
            at_latest(newcomer.hello_by);
        }
        if connection.waits() || core.is_low(link) {
            at_latest(now.instant + WAIT_TICK);
        }
        // It goes on where it left off, after everybody else had a turn; soon, if another shard has to take its mail first.
        let more = !connection.unread.is_empty();
        if more && post.is_used_up() {
            at_latest(now.instant + MAIL_TICK);
        }
        connections.arm(link, deadline);
        if answered || (more && !post.is_used_up()) {
            connections.touch(link);
        }
    }

    /// Closes the sessions with most control messages, and those with most behind gaps in their streams, if together this
    /// shard's are more than its part of what the relay may keep.
    fn close_fullest(&mut self, now: Now) {
        let bytes_max = (self.core.limits().relay_control_bytes_max / self.post.shards() as u64) as usize;
        for link in self.connections.fullest_above(bytes_max) {
            self.outbox.counts.limit("relay_control_bytes_max");
            self.close(link, CloseCode::CONTROL_BACKLOG, now);
            self.carry_out(now);
        }
        self.post.headroom().leave_for_clients(self.connections.control_room(bytes_max));
        let bytes_max = (self.core.limits().relay_gaps_bytes_max / self.post.shards() as u64) as usize;
        for link in self.connections.most_gaps_above(bytes_max) {
            self.outbox.counts.limit("relay_gaps_bytes_max");
            self.close(link, CloseCode::TRANSPORT_ERROR, now);
        }
    }

    /// Goes on with streams whose data has been taken.
    fn release_holds(&mut self, now: Now) {
        let (streams, mut cx) = self.streams();
        streams.release(&mut cx, now.instant);
        while let Some((link, id)) = self.streams.resumable() {
            let Some(mut connection) = self.connections.take_out(link) else {
                if let Some(nodes) = &mut self.nodes {
                    nodes.go_on(link, id);
                }
                continue;
            };
            self.turn(link, now).go_on(&mut connection, id);
            self.connections.put_back(connection);
            self.connections.touch(link);
        }
    }
}

/// Drops what waits for a subscriber and is too late, and takes note of how its path does.
fn look_at_path(
    link: u32,
    connection: &mut Connection,
    core: &mut ShardCore,
    outbox: &mut Outbox,
    figures: &mut Figures,
    now: Now,
) {
    if connection.session().is_none() {
        return;
    }
    let oldest = connection.oldest(now.instant);
    let due = core.wants_sample(link, now.instant);
    // Whoever waits for nothing shows nothing new between two samples.
    if oldest.is_zero() && !due {
        return;
    }
    figures.waited(oldest);
    connection.datagrams.expire(now.instant, &mut core.ledger);
    if due && let Some(bytes) = connection.take_uncharged(CHARGED_AT_ONCE_BYTES) {
        let wait = core.charge_egress(link, bytes, now.instant, outbox);
        connection.throttle(wait, now.instant);
    }
    let sample = due.then(|| connection.sample(now.instant));
    core.observe_path(link, oldest, sample, now.instant, outbox);
}

/// Passes events between a connection and the endpoint; returns whether the connection got any back.
fn exchange_endpoint_events(endpoint: &mut Endpoint, connection: &mut Connection) -> bool {
    let mut answered = false;
    while let Some(event) = connection.quic.poll_endpoint_events() {
        if let Some(event) = endpoint.handle_event(connection.handle, event) {
            connection.quic.handle_event(event);
            answered = true;
        }
    }
    answered
}
