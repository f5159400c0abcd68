//! A shard's thread: wait, read everything, serve everything, send everything.

use std::{
    num::NonZeroU64,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{ClockId, clock_nanosleep_relative, set_current_timer_slack},
};

use super::{
    engine::Engine,
    figures::counters::{Counters, Tally},
    live::{Live, LiveHandle},
    net::{
        demultiplexer::{Datagram, Destination},
        handover::{Passed, Predecessor, Relief, Successor, Upgrade},
        socket::{Clocks, Received, SendBatch, ShardSocket},
        window::Window,
    },
    post::inbox::Inbox,
    tcp::Links,
};
use crate::core::Now;

/// How often slow gauges are counted, changes from outside are taken note of, and the loop looks whether it should stop, when
/// nothing else happens.
const SECOND: Duration = Duration::from_secs(1);

/// How much later than asked the kernel may wake a shard.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// What a shard's thread runs.
pub(super) struct EventLoop {
    pub(super) engine: Engine,
    pub(super) socket: ShardSocket,
    pub(super) inbox: Inbox,
    pub(super) window: Window,
    pub(super) counters: Arc<Counters>,
    /// The process whose sockets these were, as long as it lives.
    pub(super) predecessor: Option<Predecessor>,
    /// The process that reads our socket now: it passes on what is ours.
    pub(super) successor: Option<Successor>,
    /// What both processes of an upgrade know of it.
    pub(super) upgrade: Arc<Upgrade>,
    /// What may change, and what of it this shard has taken note of.
    pub(super) live: (LiveHandle, Arc<Live>),
    /// Where packets for clients on TCP go, if the relay has such a port.
    pub(super) links: Option<Links>,
    /// Set when the drain is over, or a shard has failed.
    pub(super) stop: Arc<AtomicBool>,
}

impl EventLoop {
    /// Runs until it is told to stop; then closes what is left.
    pub(super) fn run(mut self) {
        // A window of half a millisecond should not be a tenth longer: by default the kernel may add 50 us to a sleep.
        if let Err(error) = set_current_timer_slack(Some(TIMER_SLACK_NS)) {
            tracing::debug!(%error, "timer slack stays as it is");
        }
        let mut out = SendBatch::with_links(self.links.take());
        let mut received = Vec::new();
        let (receive, send) = self.socket.buffer_bytes();
        self.engine.tally().receive_buffer_bytes = receive;
        self.engine.tally().send_buffer_bytes = send;
        let mut second_at = Instant::now();
        let mut more = false;
        while !self.stop.load(Ordering::Relaxed) {
            self.wait(more, second_at);
            let clocks = Clocks::read();
            let now = clocks.now();
            let start = self.engine.begin_turn(now.instant);
            more = self.turn(clocks, &mut received, &mut out);
            self.engine.tally().turns += 1;
            // At once: whoever was answered in this turn may ask the metrics next.
            self.engine.publish(&self.counters);
            self.engine.end_turn(&start, Instant::now());
            if now.instant >= second_at {
                second_at = now.instant + SECOND;
                self.handle_second(now);
                more |= self.engine.is_busy();
            }
        }
        self.finish(&mut out);
    }

    /// Once a second: takes note of what has been changed from outside, and publishes what may lag.
    fn handle_second(&mut self, now: Now) {
        self.engine.tally().kernel_drops = self.socket.kernel_drops();
        self.engine.handle_second(now);
        self.engine.publish_all(&self.counters);
        let live = self.live.0.load();
        if !Arc::ptr_eq(&live, &self.live.1) {
            self.engine.meet_with(live.shared.server(), live.pin);
            self.window.set_max(live.batch_window);
            self.live.1 = live;
        }
        if self.upgrade.is_settled() {
            self.predecessor = self.predecessor.take().filter(|other| !other.is_gone());
        }
    }

    /// One round: returns whether there is more to do at once.
    fn turn(&mut self, clocks: Clocks, received: &mut Vec<Received>, out: &mut SendBatch) -> bool {
        let is_held_back = self.is_held_back();
        let Self { engine, socket, inbox, window, predecessor, successor, upgrade, .. } = self;
        let now = clocks.now();
        let (demultiplexer, post, tally) = engine.intake();
        let demultiplexer = demultiplexer.with_predecessor(predecessor.as_ref().map(Predecessor::incarnation));
        let before = tally.datagrams_in;
        let route =
            |packet: Datagram<'_>, tally: &mut Tally| match (demultiplexer.destination(&packet), &mut *predecessor) {
                (Destination::Shard(owner), _) => post.hand_over(owner, packet.to_received(), tally),
                (Destination::Predecessor, Some(other)) => other.take(&packet, tally),
                (Destination::Here | Destination::Predecessor, _) => received.push(packet.to_received()),
            };
        let more_packets = match successor {
            None if is_held_back => false,
            None => socket.receive(clocks, tally, route),
            Some(other) => {
                let passed = other.receive(now.instant, tally, route);
                if passed == Passed::Gone {
                    *successor = None;
                    upgrade.reads_again();
                }
                passed != Passed::All
            }
        };
        window.received((engine.tally().datagrams_in - before) as usize, now.instant);
        if let Some(other) = predecessor
            && !other.flush(engine.tally())
        {
            *predecessor = None;
        }
        for packet in received.drain(..) {
            engine.handle_own_packet(packet, now, out, Instant::now);
            if out.is_full() {
                out.flush(socket, now.instant, engine.tally());
            }
        }
        let mail = engine.handle_mail(inbox, now, out, Instant::now);
        match mail.relief {
            Some(Relief::Begin(other, done)) => {
                if successor.replace(other).is_none() {
                    upgrade.reads_no_more();
                }
                // Nobody waits any more if the hand-over was given up meanwhile.
                let _ = done.try_send(());
            }
            Some(Relief::End(done)) => {
                if successor.take().is_some() {
                    upgrade.reads_again();
                }
                let _ = done.try_send(());
            }
            None => {}
        }
        engine.handle_timeouts(now);
        engine.serve(now);
        engine.set_segments_max(socket.segments_max(now.instant));
        engine.poll_transmits(now, out, |out, tally| out.flush(socket, now.instant, tally));
        engine.wake_others();
        more_packets || mail.more || engine.is_busy()
    }

    /// Whether the old process may have taken the sockets back, as this one was too slow to serve: then what this one reads
    /// would be lost to the other.
    fn is_held_back(&self) -> bool {
        !self.upgrade.is_settled() && self.predecessor.as_ref().is_none_or(Predecessor::is_gone)
    }

    /// Sleeps until there is something to do. When packets come thick, lets some gather.
    fn wait(&mut self, more: bool, second_at: Instant) {
        if more {
            return;
        }
        self.inbox.doze();
        if self.inbox.is_empty() {
            let now = Instant::now();
            let until = self.engine.poll_timeout(now).map_or(second_at, |at| at.min(second_at));
            let timeout = timespec(until.saturating_duration_since(now));
            let socket = self.successor.as_ref().map_or(self.socket.as_fd(), Successor::as_fd);
            let waker = self.inbox.waker();
            let packets = if self.is_held_back() { PollFlags::empty() } else { PollFlags::IN };
            let mut fds = [PollFd::new(&socket, packets), PollFd::new(&waker, PollFlags::IN)];
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, Some(&timeout));
            if !fds[1].revents().is_empty() {
                self.inbox.hear();
            }
        }
        self.inbox.rise();
        let gather = self.window.wait();
        if !gather.is_zero() {
            let _ = clock_nanosleep_relative(ClockId::Monotonic, &timespec(gather));
        }
    }

    /// Says goodbye to whoever is left.
    fn finish(&mut self, out: &mut SendBatch) {
        let Self { engine, socket, counters, .. } = self;
        let now = Clocks::read().now();
        engine.tally().kernel_drops = socket.kernel_drops();
        engine.finish(now, out, |out, tally| out.flush(socket, now.instant, tally));
        engine.publish_all(counters);
    }
}

impl Clocks {
    /// The only place where the relay's data path reads the clocks.
    fn read() -> Self {
        Self { instant: Instant::now(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    fn now(self) -> Now {
        Now { instant: self.instant, unix_ms: self.unix.as_millis() as u64 }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos() as _ }
}
