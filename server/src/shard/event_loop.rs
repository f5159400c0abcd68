//! A shard's thread: wait, read everything, serve everything, send everything.

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{ClockId, clock_nanosleep_relative},
};
use supernode_proto::close::CloseCode;

use super::{
    counters::Counters,
    engine::Engine,
    inbox::Inbox,
    socket::{Received, SendBatch, ShardSocket},
    window::Window,
};
use crate::core::Now;

/// How often slow gauges are counted, and the loop looks whether it should stop, when nothing else happens.
const CENSUS_INTERVAL: Duration = Duration::from_secs(1);

/// What a shard's thread runs.
pub(super) struct EventLoop {
    pub(super) engine: Engine,
    pub(super) socket: ShardSocket,
    pub(super) inbox: Inbox,
    pub(super) window: Window,
    pub(super) counters: Arc<Counters>,
    /// Set when the drain is over, or a shard has failed.
    pub(super) stop: Arc<AtomicBool>,
}

impl EventLoop {
    /// Runs until it is told to stop; then closes what is left.
    pub(super) fn run(mut self) {
        let mut out = SendBatch::default();
        let mut received = Vec::new();
        let (receive, send) = self.socket.buffer_bytes();
        self.engine.tally.receive_buffer_bytes = receive;
        self.engine.tally.send_buffer_bytes = send;
        let mut census_at = Instant::now();
        let mut more = false;
        while !self.stop.load(Ordering::Relaxed) {
            self.wait(more, census_at);
            let now = clock();
            more = self.turn(now, &mut received, &mut out);
            if now.instant >= census_at {
                census_at = now.instant + CENSUS_INTERVAL;
                self.engine.take_census();
            }
            self.counters.publish(&self.engine.tally, &self.engine.core.ledger);
        }
        self.finish(&mut out);
    }

    /// One round: returns whether there is more to do at once.
    fn turn(&mut self, now: Now, received: &mut Vec<Received>, out: &mut SendBatch) -> bool {
        let Self { engine, socket, inbox, window, .. } = self;
        let mut tally = std::mem::take(&mut engine.tally);
        let before = tally.datagrams_in;
        let more_packets = socket.receive(&mut tally, |packet, _| received.push(packet));
        window.received((tally.datagrams_in - before) as usize, now.instant);
        engine.tally = tally;
        for packet in received.drain(..) {
            engine.handle_packet(packet, now, out);
            if out.is_full() {
                out.flush(socket, &mut engine.tally);
            }
        }
        let more_mail = engine.handle_mail(inbox, now, out);
        engine.handle_timeouts(now);
        engine.serve(now);
        engine.poll_transmits(now, out, |out, tally| out.flush(socket, tally));
        engine.ring();
        more_packets || more_mail || engine.is_busy()
    }

    /// Sleeps until there is something to do. When packets come thick, lets some gather.
    fn wait(&mut self, more: bool, census_at: Instant) {
        if more {
            return;
        }
        self.inbox.doze();
        if self.inbox.is_empty() {
            let until = self.engine.poll_timeout().map_or(census_at, |at| at.min(census_at));
            let timeout = timespec(until.saturating_duration_since(Instant::now()));
            let socket = self.socket.as_fd();
            let mut fds = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&self.inbox.bell.fd, PollFlags::IN)];
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, Some(&timeout));
        }
        self.inbox.wake();
        let gather = self.window.wait();
        if !gather.is_zero() {
            let _ = clock_nanosleep_relative(ClockId::Monotonic, &timespec(gather));
        }
    }

    /// Says goodbye to whoever is left.
    fn finish(&mut self, out: &mut SendBatch) {
        let Self { engine, socket, .. } = self;
        let now = clock();
        engine.close_all(CloseCode::GOING_AWAY, now);
        engine.poll_transmits(now, out, |out, tally| out.flush(socket, tally));
        engine.take_census();
        self.counters.publish(&self.engine.tally, &self.engine.core.ledger);
    }
}

/// The only place where the relay's data path reads the clocks.
fn clock() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: unix.as_millis() as u64 }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos() as _ }
}
