//! A worker's thread: all of its clients in one loop. Wait, read everything, act on it, send what is due, send it all.

mod inbound;
mod traffic;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{ClientConfig, DatagramEvent, Endpoint, EndpointConfig};
use rand::{SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use supernode_measure::{histogram::Histogram, relay_probe, schedule::Schedule};

use self::traffic::Task;
use super::{
    client::{Client, Stage},
    link::Link,
    plan::Role,
    run::{Phase, Shared, Window},
    scenario::LinkKind,
    sockets::{SEGMENTS_MAX, Sockets},
    tally::{Interval, Tally},
    transport,
};

/// Longest sleep, so that the run's phases are seen.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// How often a slow client reads.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(20);
/// How often the terminal is told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);
/// Periods of a source after which its silence says that it is not heard.
const PERIODS_TO_TELL: f64 = 2.0;
/// When a flooder that was sent away comes back.
const FLOODER_AWAY: Duration = Duration::from_millis(200);
/// How long goodbyes may take.
const CLOSE_TIME: Duration = Duration::from_millis(100);

/// One thread's clients and their connections.
pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    relay: SocketAddr,
    endpoint: Endpoint,
    config: ClientConfig,
    slow_config: ClientConfig,
    sockets: Sockets,
    clients: Vec<Client>,
    links: Vec<Option<Box<Link>>>,
    dirty: Vec<usize>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Clients that are still to come, by when.
    arrivals: VecDeque<(u64, usize)>,
    schedules: Vec<(Task, Schedule)>,
    /// What the numbers in the schedules mean: client and track.
    sources: Vec<(usize, usize)>,
    rng: StdRng,
    window: Option<Window>,
    tally: Tally,
    intervals: Vec<Interval>,
    /// How many of them have settled and were told.
    settled: usize,
    /// The same by stage.
    stages: Vec<Interval>,
    recent: Histogram,
    told_at: Instant,
    /// When what left QUIC in this turn was due.
    sent_due_ns: Vec<u64>,
    cpu_s: [Option<f64>; 2],
    silent_before: u64,
    /// Whether the middle of the measured part is over.
    acted: bool,
    probed: bool,
}

/// What a worker has to say in the end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) intervals: Vec<Interval>,
    /// The same by stage of the scenario.
    pub(super) stages: Vec<Interval>,
    /// Share of the measured part in which the thread had a CPU.
    pub(super) busy: f64,
    /// Sessions that answered after the measured part.
    pub(super) alive: u32,
    /// Subscriptions on which nothing came before the measured part, and at its end.
    pub(super) silent: [u64; 2],
    /// Watches on which nothing came at its end.
    pub(super) silent_watches: u64,
    /// What clients lacked in the end, one entry for each that lacked something.
    #[serde(skip)]
    pub(super) missing: Vec<&'static str>,
    pub(super) datagrams_in: u64,
    pub(super) datagrams_out: u64,
    pub(super) send_errors: u64,
    /// Datagrams that the kernel dropped because the worker did not read them in time.
    pub(super) socket_drops: u64,
}

impl Worker {
    /// The worker with this index of all.
    ///
    /// # Errors
    /// When the system refuses a socket.
    pub(super) fn new(shared: Arc<Shared>, index: u32, relay: SocketAddr) -> std::io::Result<Self> {
        let stage = &shared.stage;
        let scenario = &stage.scenario;
        let total = stage.plan.clients.len() as u32;
        let numbers: Vec<u32> = (0..total).filter(|number| number % scenario.workers == index).collect();
        let due_ns = |number: u32| (scenario.ramp_s * 1e9 * f64::from(number) / f64::from(total.max(1))) as u64;
        let count = (scenario.sockets as usize).min(numbers.len().max(1));
        Ok(Self {
            index: index as usize,
            relay,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            config: transport::client_config(stage.pin, scenario.link, scenario.ack_threshold, false),
            slow_config: transport::client_config(stage.pin, scenario.link, scenario.ack_threshold, true),
            sockets: Sockets::open(count, relay)?,
            arrivals: numbers.iter().enumerate().map(|(place, number)| (due_ns(*number), place)).collect(),
            clients: numbers.into_iter().map(|number| Client::new(number, stage)).collect(),
            links: Vec::new(),
            dirty: Vec::new(),
            deadlines: BinaryHeap::new(),
            schedules: Vec::new(),
            sources: Vec::new(),
            rng: StdRng::seed_from_u64(scenario.seed ^ u64::from(index) << 32),
            window: None,
            tally: Tally::default(),
            intervals: Vec::new(),
            settled: 0,
            stages: Vec::new(),
            recent: Histogram::default(),
            told_at: Instant::now(),
            sent_due_ns: Vec::new(),
            cpu_s: [None; 2],
            silent_before: 0,
            acted: false,
            probed: false,
            shared,
        })
    }

    /// Runs until the run is over.
    pub(super) fn run(mut self) -> Outcome {
        // The default would let the kernel be 50 µs late.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let gather = Duration::from_micros(self.shared.stage.scenario.gather_us.into());
        loop {
            let woke_at = Instant::now();
            self.turn();
            let rest = gather.saturating_sub(woke_at.elapsed());
            if !rest.is_zero() {
                std::thread::sleep(rest);
            }
            self.sockets.wait(self.timeout());
            match self.shared.phase() {
                Phase::Going => {}
                Phase::Probing => self.probe(),
                Phase::Over => break,
            }
        }
        self.finish()
    }

    fn turn(&mut self) {
        self.receive();
        let now = Instant::now();
        let now_ns = self.ns(now);
        while let Some(Reverse((at, handle))) = self.deadlines.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.deadlines.pop();
            let Some(link) = self.links[handle].as_mut().filter(|link| link.armed == Some(at)) else { continue };
            link.armed = None;
            link.quic.handle_timeout(now);
            self.touch(handle);
        }
        while let Some((due_ns, place)) = self.arrivals.front().copied().filter(|(due_ns, _)| *due_ns <= now_ns) {
            self.arrivals.pop_front();
            self.connect(place, due_ns, now);
        }
        self.enter_window();
        self.send_due(now_ns);
        self.serve_all(now);
        self.sockets.flush();
        self.note_lag();
        self.cross_boundaries();
        self.tell(now);
    }

    fn timeout(&self) -> Duration {
        let now = Instant::now();
        let until = |ns: u64| (self.shared.origin + Duration::from_nanos(ns)).saturating_duration_since(now);
        let deadline = self.deadlines.peek().map(|Reverse((at, _))| at.saturating_duration_since(now));
        let arrival = self.arrivals.front().map(|(due_ns, _)| until(*due_ns));
        let schedules = self.schedules.iter().filter_map(|(_, schedule)| schedule.peek_ns()).map(until);
        schedules.chain(deadline).chain(arrival).min().unwrap_or(WAIT_MAX).min(WAIT_MAX)
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.shared.origin).as_nanos() as u64
    }

    fn receive(&mut self) {
        let Self { sockets, endpoint, links, dirty, .. } = self;
        let mut answer = Vec::new();
        sockets.receive(|received, now| {
            answer.clear();
            let event = endpoint.handle(now, received.remote, None, received.ecn, received.data, &mut answer);
            // Answers to packets of connections that are gone can be left to the relay's timers.
            let Some(DatagramEvent::ConnectionEvent(handle, event)) = event else { return };
            let Some(link) = links.get_mut(handle.0).and_then(Option::as_mut) else { return };
            link.quic.handle_event(event);
            link.read_at = now;
            if !link.dirty {
                link.dirty = true;
                dirty.push(handle.0);
            }
        });
    }

    fn touch(&mut self, handle: usize) {
        if let Some(link) = self.links.get_mut(handle).and_then(Option::as_mut)
            && !link.dirty
        {
            link.dirty = true;
            self.dirty.push(handle);
        }
    }

    fn connect(&mut self, place: usize, due_ns: u64, now: Instant) {
        let client = &mut self.clients[place];
        let slow = client.plan.role == Role::Slow;
        let config = if slow { self.slow_config.clone() } else { self.config.clone() };
        let Ok((handle, quic)) = self.endpoint.connect(now, config, self.relay, "relay") else {
            *self.tally.closed.entry("cannot connect".to_owned()).or_default() += 1;
            return;
        };
        client.begin(handle.0, due_ns, &self.shared.stage);
        if self.links.len() <= handle.0 {
            self.links.resize_with(handle.0 + 1, || None);
        }
        let socket = place % self.sockets.count();
        let is_page = self.shared.stage.scenario.link == LinkKind::Webtransport;
        self.links[handle.0] = Some(Box::new(Link::new(quic, handle, place, socket, is_page, now)));
        self.touch(handle.0);
    }

    fn serve_all(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for handle in dirty.drain(..) {
            let Some(mut link) = self.links.get_mut(handle).and_then(Option::take) else { continue };
            link.dirty = false;
            self.handle_events(&mut link, now);
            if self.transmit(&mut link, now) {
                self.links[handle] = Some(link);
            }
        }
        // Nothing was touched meanwhile: clients reach each other through the relay only.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Builds packets; `false` when the connection is over and forgotten.
    fn transmit(&mut self, link: &mut Link, now: Instant) -> bool {
        loop {
            link.flush_control();
            if self.clients[link.client].link == Some(link.handle.0) {
                self.clients[link.client].tracks.iter_mut().for_each(|track| track.video.flush(link));
            }
            let mut built = false;
            while let Some(transmit) = link.quic.poll_transmit(now, SEGMENTS_MAX, self.sockets.buffer(link.socket)) {
                self.sockets.commit(link.socket, transmit);
                built = true;
            }
            let mut answered = false;
            while let Some(event) = link.quic.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(link.handle, event) {
                    link.quic.handle_event(event);
                    answered = true;
                }
            }
            if !built && !answered {
                break;
            }
        }
        if !link.waiting.is_empty() && link.has_sent_all() {
            self.sent_due_ns.append(&mut link.waiting);
        }
        if link.quic.is_drained() {
            self.tally.unsent += link.waiting.len() as u64;
            return false;
        }
        let slow = self.clients[link.client].plan.role == Role::Slow;
        let tick = slow.then(|| now + SLOW_READ_INTERVAL);
        let deadline = link.quic.poll_timeout().into_iter().chain(tick).min();
        if let Some(at) = deadline.filter(|at| link.armed.is_none_or(|armed| *at < armed)) {
            link.armed = Some(at);
            self.deadlines.push(Reverse((at, link.handle.0)));
        }
        true
    }

    /// Takes note of something due at this time where it belongs: in its piece of the measured part, and in its stage.
    fn note(&mut self, due_ns: u64, change: impl Fn(&mut Interval)) {
        let Some(window) = self.window else { return };
        let stage = self.shared.stage.scenario.stage_at(window.since_s(due_ns)).map(|(stage, _)| stage);
        for (pieces, place) in [(&mut self.intervals, Some(window.interval(due_ns))), (&mut self.stages, stage)] {
            let Some(place) = place else { continue };
            if pieces.len() <= place {
                pieces.resize_with(place + 1, Interval::default);
            }
            change(&mut pieces[place]);
        }
    }

    /// Everything on the list has been handed to the kernel by now.
    fn note_lag(&mut self) {
        if self.sent_due_ns.is_empty() {
            return;
        }
        let now_ns = self.ns(Instant::now());
        for due_ns in std::mem::take(&mut self.sent_due_ns) {
            let us = now_ns.saturating_sub(due_ns) / 1000;
            self.tally.lag.record_us(us);
            self.note(due_ns, |piece| piece.lag_max_us = piece.lag_max_us.max(us));
        }
    }

    fn cross_boundaries(&mut self) {
        let Some(window) = &mut self.window else { return };
        self.shared.shorten(window);
        let window = *window;
        let now_ns = self.ns(Instant::now());
        if self.cpu_s[0].is_none() && now_ns >= window.from_ns {
            self.cpu_s[0] = Some(thread_cpu_s());
            self.silent_before = self.silent_since(0);
        }
        if self.cpu_s[1].is_none() && now_ns >= window.until_ns {
            self.cpu_s[1] = Some(thread_cpu_s());
        }
        if !self.acted && now_ns >= window.middle_ns() {
            self.acted = true;
            self.for_each_steady(Client::take_action);
        }
    }

    /// Subscriptions of members on which nothing came that was due at that time or after.
    fn silent_since(&self, due_ns: u64) -> u64 {
        let members = self.clients.iter().filter(|client| client.plan.role == Role::Member);
        let heard = |client: &Client| {
            let flows = client.flows.values().filter(|flow| flow.last_due_ns.is_some_and(|last| last >= due_ns));
            u64::from(client.plan.subscriptions).saturating_sub(flows.count() as u64)
        };
        members.map(heard).sum()
    }

    /// Watches of members on which nothing came that was due at that time or after, if that is long enough to tell.
    fn silent_watches_since(&self, due_ns: u64, until_ns: u64) -> u64 {
        let changes_per_second =
            self.shared.stage.scenario.presence.as_ref().map_or(0.0, |presence| presence.changes_per_second);
        if until_ns.saturating_sub(due_ns) as f64 / 1e9 * changes_per_second < PERIODS_TO_TELL {
            return 0;
        }
        let members = self.clients.iter().filter(|client| client.plan.role == Role::Member);
        let silent = |client: &Client| {
            let heard = client.flows.values().filter(|flow| flow.last_due_ns.is_some_and(|last| last >= due_ns));
            client.plan.watches.len().saturating_sub(heard.count()) as u64
        };
        members.filter(|client| !client.plan.watches.is_empty()).map(silent).sum()
    }

    fn tell(&mut self, now: Instant) {
        if now.saturating_duration_since(self.told_at) >= TELL_INTERVAL {
            self.told_at = now;
            self.shared.tell(self.index, &mut self.recent, &self.tally);
            self.tell_settled(self.ns(now));
        }
    }

    fn tell_settled(&mut self, now_ns: u64) {
        let Some(window) = self.window else { return };
        while window.settled_ns(self.settled).is_some_and(|settled_ns| settled_ns <= now_ns) {
            let piece = self.intervals.get(self.settled).cloned().unwrap_or_default();
            self.shared.settled.tell(self.settled, &piece);
            self.settled += 1;
        }
    }

    fn probe(&mut self) {
        if std::mem::replace(&mut self.probed, true) {
            let alive = self.clients.iter().filter(|client| client.alive).count() as u32;
            return self.shared.note_alive(self.index, alive);
        }
        self.for_each_steady(|client, link, _| client.probe(link));
    }

    /// Has all clients that stay and are connected do something.
    fn for_each_steady(&mut self, act: impl Fn(&mut Client, &mut Link, &Stage)) {
        for place in 0..self.clients.len() {
            let client = &mut self.clients[place];
            if client.plan.role == Role::Churner {
                continue;
            }
            let Some(handle) = client.link else { continue };
            if let Some(link) = self.links.get_mut(handle).and_then(Option::as_mut) {
                act(client, link, &self.shared.stage);
                self.touch(handle);
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let window = self.window;
        self.tally.unsent += self.links.iter().flatten().map(|link| link.waiting.len() as u64).sum::<u64>();
        let is_deaf = |client: &&Client| {
            client.plan.role == Role::Kicked && client.flows.values().all(|flow| flow.last_due_ns.is_none())
        };
        self.tally.put_out_deaf = self.clients.iter().filter(is_deaf).count() as u64;
        let mut outcome = Outcome { tally: std::mem::take(&mut self.tally), ..Outcome::default() };
        if let Some(window) = window {
            outcome.silent = [self.silent_before, self.silent_since(window.tail_from_ns)];
            outcome.silent_watches = self.silent_watches_since(window.tail_from_ns, window.until_ns);
        }
        let steady = || self.clients.iter().filter(|client| client.plan.role != Role::Churner);
        outcome.alive = steady().filter(|client| client.alive).count() as u32;
        outcome.missing =
            steady().filter(|client| client.plan.role != Role::Flooder).filter_map(Client::missing).collect();
        if let (Some(window), [Some(before), Some(after)]) = (window, self.cpu_s) {
            outcome.busy = (after - before) / window.hold_s();
        }
        outcome.intervals = std::mem::take(&mut self.intervals);
        outcome.stages = std::mem::take(&mut self.stages);
        let drops = relay_probe::socket_drops(&self.sockets.ports());
        self.schedules.clear();
        self.arrivals.clear();
        let now = Instant::now();
        for handle in 0..self.links.len() {
            if let Some(link) = self.links[handle].as_mut() {
                link.close(now);
                self.touch(handle);
            }
        }
        while now.elapsed() < CLOSE_TIME {
            self.turn();
            self.sockets.wait(Duration::from_millis(10));
        }
        outcome.datagrams_in = self.sockets.datagrams_in;
        outcome.datagrams_out = self.sockets.datagrams_out;
        outcome.send_errors = self.sockets.send_errors;
        outcome.socket_drops = drops;
        outcome
    }
}

fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
