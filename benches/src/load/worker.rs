//! A worker's thread: all of its clients in one loop. Wait, read everything, act on it, send what is due, send it all.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    ClientConfig, ConnectionError, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, ReadError, StreamEvent,
    StreamId,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use supernode_proto::{close::CloseCode, object::DatagramHeader};

use super::{
    client::{Arrival, Client, object_bytes},
    histogram::Histogram,
    link::Link,
    plan::{Kind, Role},
    run::{Phase, Shared, Window},
    schedule::{Due, Schedule},
    sockets::{SEGMENTS_MAX, Sockets},
    stamp::Stamp,
    tally::{Interval, Tally},
    transport,
};

/// Longest sleep, so that the run's phases are seen.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// How often a slow client reads.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(20);
/// How often the terminal is told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);
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
    recent: Histogram,
    told_at: Instant,
    /// When what was sent this turn was due.
    sent_due_ns: Vec<u64>,
    cpu_s: [Option<f64>; 2],
    silent_before: u64,
    probed: bool,
}

/// What to do when a source is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Audio,
    Video,
    Flood,
    Presence,
    Ring,
    Churn,
}

/// What a worker has to say in the end.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) intervals: Vec<Interval>,
    /// Share of the measured part in which the thread had a CPU.
    pub(super) busy: f64,
    /// Sessions that answered after the measured part.
    pub(super) alive: u32,
    /// Subscriptions on which nothing came before the measured part, and at its end.
    pub(super) silent: [u64; 2],
    /// What clients lacked in the end, one entry for each that lacked something.
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
            config: transport::client_config(stage.pin, scenario.ack_threshold, false),
            slow_config: transport::client_config(stage.pin, scenario.ack_threshold, true),
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
            recent: Histogram::default(),
            told_at: Instant::now(),
            sent_due_ns: Vec::new(),
            cpu_s: [None; 2],
            silent_before: 0,
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
        self.links[handle.0] = Some(Box::new(Link::new(quic, handle, place, socket, now)));
        self.touch(handle.0);
    }

    /// Once the run has set the times of its measured part: who is due when.
    fn enter_window(&mut self) {
        if self.window.is_some() {
            return;
        }
        let Some(window) = self.shared.window() else { return };
        self.window = Some(window);
        let scenario = self.shared.stage.scenario.clone();
        let mut sources: Vec<(Task, usize, usize)> = Vec::new();
        for (place, client) in self.clients.iter().enumerate() {
            for (index, track) in client.plan.tracks.iter().enumerate() {
                let task = match (client.plan.role, track.kind) {
                    (Role::Flooder, _) => Task::Flood,
                    (_, Kind::Audio) => Task::Audio,
                    (_, Kind::Video) => Task::Video,
                };
                sources.push((task, place, index));
            }
            if client.plan.watchers > 0 {
                sources.push((Task::Presence, place, 0));
            }
            if client.plan.callee.is_some() {
                sources.push((Task::Ring, place, 0));
            }
            if client.plan.role == Role::Churner {
                sources.push((Task::Churn, place, 0));
            }
        }
        let rates = [
            (Task::Audio, Some(scenario.objects_per_second)),
            (Task::Video, scenario.video.as_ref().map(|video| video.frames_per_second)),
            (Task::Flood, scenario.flood.as_ref().map(|flood| flood.objects_per_second)),
            (Task::Presence, scenario.presence.as_ref().map(|presence| presence.changes_per_second)),
            (Task::Ring, scenario.rings.as_ref().map(|rings| rings.per_minute / 60.0)),
            (Task::Churn, scenario.churn.as_ref().map(|churn| 1.0 / churn.stay_s)),
        ];
        for (task, rate) in rates {
            let Some(rate) = rate.filter(|rate| *rate > 0.0) else { continue };
            let mut entries = Vec::new();
            for (_, place, index) in sources.iter().filter(|(of, ..)| *of == task) {
                // All tracks of one kind that a client has go together.
                let number = u64::from(self.clients[*place].number);
                let mut phase =
                    StdRng::seed_from_u64(scenario.seed.wrapping_mul(1_000_003) ^ number << 8 ^ task as u64);
                entries.push((phase.random::<f64>(), self.sources.len() as u32));
                self.sources.push((*place, *index));
            }
            self.schedules.push((task, Schedule::new(rate, window.media_from_ns, entries)));
        }
    }

    fn send_due(&mut self, now_ns: u64) {
        let mut schedules = std::mem::take(&mut self.schedules);
        for (task, schedule) in &mut schedules {
            while let Some(due) = schedule.pop(now_ns) {
                self.send(*task, due);
            }
        }
        self.schedules = schedules;
    }

    fn send(&mut self, task: Task, due: Due) {
        let (place, index) = self.sources[due.source as usize];
        if task == Task::Churn {
            return self.churn(place, due);
        }
        let measured = self.window.is_some_and(|window| window.contains(due.at_ns)) && task != Task::Flood;
        let client = &mut self.clients[place];
        let expected = match task {
            Task::Presence => u64::from(client.plan.watchers),
            // The callee hears it, and the caller the answer.
            Task::Ring => 2,
            _ => u64::from(client.plan.tracks[index].expected),
        };
        if measured {
            self.tally.due += 1;
            self.tally.expected += expected;
            self.interval(due.at_ns).due += 1;
            self.sent_due_ns.push(due.at_ns);
        }
        let stage = &self.shared.stage;
        let client = &mut self.clients[place];
        let link = client.link.and_then(|handle| self.links.get_mut(handle)).and_then(Option::as_mut);
        let Some(link) = link else {
            self.tally.held_back += u64::from(measured);
            return;
        };
        let stamp = Stamp { due_ns: due.at_ns, sequence: due.sequence };
        let taken = match task {
            Task::Audio => {
                let bytes = object_bytes(stage, &mut self.rng);
                client.send_audio(link, index, stamp, bytes, stage)
            }
            Task::Flood => {
                let bytes = stage.scenario.flood.as_ref().map_or(0, |flood| flood.object_bytes as usize);
                client.send_audio(link, index, stamp, bytes, stage)
            }
            Task::Video => match (&stage.scenario.video, client.tracks.get_mut(index)) {
                (Some(video), Some(track)) => {
                    track.alias.is_some_and(|alias| track.video.send(link, alias, stamp, video, stage))
                }
                _ => false,
            },
            Task::Presence => {
                client.change_presence(link, stamp);
                true
            }
            Task::Ring => {
                let bytes = stage.scenario.rings.as_ref().map_or(Stamp::BYTES, |rings| rings.payload_bytes as usize);
                client.ring(link, stamp, bytes, stage);
                true
            }
            Task::Churn => true,
        };
        self.tally.held_back += u64::from(measured && !taken);
        let handle = link.handle.0;
        self.touch(handle);
    }

    /// One of those who come and go leaves, and somebody else comes in its place.
    fn churn(&mut self, place: usize, due: Due) {
        let now = Instant::now();
        let client = &mut self.clients[place];
        self.tally.churn_missed += u64::from(!client.ready);
        if let Some(handle) = client.link.take()
            && let Some(link) = self.links.get_mut(handle).and_then(Option::as_mut)
        {
            link.close(now);
            self.touch(handle);
        }
        self.connect(place, due.at_ns, now);
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

    fn handle_events(&mut self, link: &mut Link, now: Instant) {
        let mut finished = Vec::new();
        while let Some(event) = link.quic.poll() {
            let current = self.clients[link.client].link == Some(link.handle.0);
            match event {
                _ if !current => {}
                Event::Connected => self.clients[link.client].greet(link, &self.shared.stage),
                Event::ConnectionLost { reason } => self.lost(link, &reason),
                Event::DatagramReceived => {
                    while let Some(wire) = link.quic.datagrams().recv() {
                        let Ok((header, len)) = DatagramHeader::decode(&wire) else { continue };
                        let Some(stamp) = Stamp::read(&wire[len..]) else { continue };
                        self.deliver(link.client, header.hop.alias.value(), stamp, wire.len(), link.read_at);
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = link.quic.streams().accept(Dir::Uni) {
                        self.clients[link.client].streams_in.entry(id).or_default();
                        finished.push(id);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) if link.is_control(id) => self.read_control(link),
                Event::Stream(StreamEvent::Readable { id }) => finished.push(id),
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
        if self.clients[link.client].plan.role == Role::Slow {
            finished = self.clients[link.client].streams_in.keys().copied().collect();
        }
        for id in finished {
            self.read_stream(link, id, now);
        }
    }

    fn read_control(&mut self, link: &mut Link) {
        let messages = link.read_control();
        let at = link.read_at;
        for message in messages {
            let client = &mut self.clients[link.client];
            let delivery = client.handle_message(link, message, &self.shared.stage, &mut self.tally);
            if let Some((flow, payload)) = delivery
                && let Some(stamp) = Stamp::read(&payload)
            {
                self.deliver(link.client, flow, stamp, payload.len(), at);
            }
        }
        let now_ns = self.ns(at);
        let client = &mut self.clients[link.client];
        if !client.settled && client.is_settled() {
            client.settled = true;
            self.tally.setup.record_us(now_ns.saturating_sub(client.due_ns) / 1000);
        }
        if !client.ready && client.missing().is_none() {
            client.ready = true;
            if client.plan.role != Role::Churner {
                self.shared.note_ready();
            }
        }
    }

    fn read_stream(&mut self, link: &mut Link, id: StreamId, now: Instant) {
        let (place, at) = (link.client, link.read_at);
        let client = &mut self.clients[place];
        let Some(mut reader) = client.streams_in.remove(&id) else { return };
        let mut allowed = match &self.shared.stage.scenario.slow {
            Some(slow) if client.plan.role == Role::Slow => {
                let since_due =
                    now.saturating_duration_since(self.shared.origin).as_secs_f64() - client.due_ns as f64 / 1e9;
                ((slow.read_kbit_per_s * 125.0 * since_due) as u64).saturating_sub(client.read_bytes) as usize
            }
            _ => usize::MAX,
        };
        let mut stream = link.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        let (mut objects, mut read) = (Vec::new(), 0);
        let over = loop {
            if allowed == 0 {
                break false;
            }
            match chunks.next(allowed) {
                Ok(Some(chunk)) => {
                    allowed = allowed.saturating_sub(chunk.bytes.len());
                    read += chunk.bytes.len() as u64;
                    let pass = |alias, stamp, bytes| objects.push((alias, stamp, bytes));
                    if reader.push(&chunk.bytes, pass).is_err() {
                        break true;
                    }
                }
                Err(ReadError::Blocked) => break false,
                Ok(None) | Err(ReadError::Reset(_)) => break true,
            }
        };
        // The link is being served: new credit goes out anyway.
        let _ = chunks.finalize();
        client.read_bytes += read;
        if !over {
            client.streams_in.insert(id, reader);
        }
        for (alias, stamp, bytes) in objects {
            self.deliver(place, alias.value(), stamp, bytes, at);
        }
    }

    /// Something stamped has reached a client.
    fn deliver(&mut self, place: usize, flow: u64, stamp: Stamp, bytes: usize, at: Instant) {
        let at_ns = self.ns(at);
        let client = &mut self.clients[place];
        // A ring's answer comes back under the ring's own number.
        let arrival = client.flows.entry(flow).or_default().take(stamp);
        if !self.window.is_some_and(|window| window.contains(stamp.due_ns)) {
            return;
        }
        match (client.plan.role, arrival) {
            (_, Arrival::Duplicate) => self.tally.duplicates += 1,
            (Role::Member, arrival) => {
                let us = at_ns.saturating_sub(stamp.due_ns) / 1000;
                self.tally.reordered += u64::from(arrival == Arrival::Reordered);
                self.tally.delivered += 1;
                self.tally.bytes += bytes as u64;
                self.tally.late += u64::from(us > u64::from(self.shared.stage.scenario.late_ms) * 1000);
                self.tally.delay.record_us(us);
                self.recent.record_us(us);
                let interval = self.interval(stamp.due_ns);
                interval.delivered += 1;
                interval.delay.record_us(us);
            }
            (Role::Slow | Role::Churner | Role::Flooder, _) => self.tally.delivered_aside += 1,
        }
    }

    fn lost(&mut self, link: &Link, reason: &ConnectionError) {
        let client = &mut self.clients[link.client];
        client.link = None;
        let why = match reason {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode(close.error_code.into_inner());
                code.row().map_or_else(|| code.to_string(), |row| row.name.to_owned())
            }
            other => other.to_string(),
        };
        *self.tally.closed.entry(why).or_default() += 1;
        if matches!(client.plan.role, Role::Member | Role::Slow) {
            self.tally.sessions_lost += 1;
            self.shared.note_lost();
        }
        client.ready = false;
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
        if link.quic.is_drained() {
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

    /// The interval that something due at this time belongs to.
    fn interval(&mut self, due_ns: u64) -> &mut Interval {
        let place = self.window.map_or(0, |window| window.interval(due_ns));
        if self.intervals.len() <= place {
            self.intervals.resize_with(place + 1, Interval::default);
        }
        &mut self.intervals[place]
    }

    /// Everything that was due has been handed to the kernel by now.
    fn note_lag(&mut self) {
        if self.sent_due_ns.is_empty() {
            return;
        }
        let now_ns = self.ns(Instant::now());
        for due_ns in std::mem::take(&mut self.sent_due_ns) {
            let us = now_ns.saturating_sub(due_ns) / 1000;
            self.tally.lag.record_us(us);
            let interval = self.interval(due_ns);
            interval.lag_max_us = interval.lag_max_us.max(us);
        }
    }

    fn cross_boundaries(&mut self) {
        let Some(window) = self.window else { return };
        let now_ns = self.ns(Instant::now());
        if self.cpu_s[0].is_none() && now_ns >= window.from_ns {
            self.cpu_s[0] = Some(thread_cpu_s());
            self.silent_before = self.silent_since(0);
        }
        if self.cpu_s[1].is_none() && now_ns >= window.until_ns {
            self.cpu_s[1] = Some(thread_cpu_s());
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

    fn tell(&mut self, now: Instant) {
        if now.saturating_duration_since(self.told_at) >= TELL_INTERVAL {
            self.told_at = now;
            self.shared.tell(self.index, &mut self.recent, &self.tally);
        }
    }

    fn probe(&mut self) {
        if std::mem::replace(&mut self.probed, true) {
            let alive = self.clients.iter().filter(|client| client.alive).count() as u32;
            return self.shared.note_alive(self.index, alive);
        }
        for place in 0..self.clients.len() {
            let client = &mut self.clients[place];
            if client.plan.role == Role::Churner {
                continue;
            }
            let Some(handle) = client.link else { continue };
            if let Some(link) = self.links.get_mut(handle).and_then(Option::as_mut) {
                client.probe(link);
                self.touch(handle);
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let window = self.window;
        let mut outcome = Outcome { tally: std::mem::take(&mut self.tally), ..Outcome::default() };
        if let Some(window) = window {
            outcome.silent = [self.silent_before, self.silent_since(window.tail_from_ns)];
        }
        let steady = || self.clients.iter().filter(|client| client.plan.role != Role::Churner);
        outcome.alive = steady().filter(|client| client.alive).count() as u32;
        outcome.missing =
            steady().filter(|client| client.plan.role != Role::Flooder).filter_map(Client::missing).collect();
        if let (Some(window), [Some(before), Some(after)]) = (window, self.cpu_s) {
            outcome.busy = (after - before) / window.hold_s();
        }
        outcome.intervals = std::mem::take(&mut self.intervals);
        let drops = super::relay_probe::socket_drops(&self.sockets.ports());
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
