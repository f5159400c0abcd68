//! A month of waiting for calls, as a client that never gives up does it: through restarts and outages of the relay, changes
//! of network, losses and sleep. Time is virtual. A test of its own, so that the bytes that it counts are the session's.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_keys::{DeviceSecret, IdentitySecret, Pass, Terms};
use supernode_proto::{
    VERSION,
    control::{
        AnswerRing, ClientMessage, Done, FrameReader, GoAway, IncomingRing, KeyPackagesLow, Presence, PresenceState,
        RelayMessage, RingEnded, SessionLimits, SetPresence, Welcome, client_message::Body as Request, encode_frame,
        relay_message::Body,
    },
    identity::{Grants, RelayPin},
};
use supernode_session::{
    Channel, Clocks, Event, Greeting, Introduction, Moment, Move, Next, Obstacle, Patience, Reconnect, Seen, Session,
    Silence, Verdict, Whither,
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MONTH: u64 = 30 * DAY;

/// As the SDK has them.
const TICK: u64 = Silence::LOOK_EVERY.as_millis() as u64;
const SILENCE_MAX: u64 = 6 * SECOND;
const KEEP_ALIVE: u64 = 10 * SECOND;
const DIAL_MAX: u64 = 10 * SECOND;
const RTT: u64 = 80;
/// A relay forgets a client that is silent for longer.
const FORGOTTEN_AFTER: u64 = 30 * SECOND;
/// As `supernode-call listen --again` has them.
const BACKOFF_MAX: u64 = MINUTE;
const SESSION_MAX: u64 = 7 * DAY;
/// From when there is a way to a relay that runs until a client that is awake is in: it has to notice, its last wait may have
/// just begun, and of the attempts one in ten is lost.
const BACK_MAX: u64 = KEEP_ALIVE + SILENCE_MAX + 3 * (BACKOFF_MAX + DIAL_MAX);
/// What may be left behind beside what the first days did: nothing, but for a table that grew a step.
const BYTES_MORE_MAX: i64 = 512;
/// So many steps of the client pass between two looks at it.
const LOOKED_AT_EVERY: u64 = 20;
/// Far more than there are.
const LOGINS_MAX: usize = 4_096;

/// Counts the bytes that are allocated and not freed.
struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// From when to when something is so.
type Spans = Vec<(u64, u64)>;

fn is_in(spans: &Spans, at: u64) -> bool {
    let place = spans.partition_point(|(_, until)| *until <= at);
    spans.get(place).is_some_and(|(from, _)| *from <= at)
}

/// One span after the other, each about so long after the one before.
fn spans(rng: &mut StdRng, every: u64, shortest: u64, longest: u64) -> Spans {
    let mut spans = Spans::new();
    let mut at = rng.random_range(1..every);
    while at < MONTH {
        let until = at + rng.random_range(shortest..longest);
        spans.push((at, until));
        at = until + rng.random_range(every / 2..every + every / 2);
    }
    spans
}

/// What a month brings.
struct Month {
    /// The relay is off: restarts, and now and then hours.
    relay_off: Spans,
    /// There is no network: changes of it, mostly.
    no_network: Spans,
    asleep: Spans,
    /// The relay is about to be replaced by another one.
    drains: Spans,
}

impl Month {
    fn new(rng: &mut StdRng) -> Self {
        let mut relay_off = spans(rng, 12 * HOUR, SECOND, 40 * SECOND);
        relay_off.retain(|(from, until)| !(*from < 9 * DAY + 3 * HOUR && *until > 9 * DAY));
        relay_off.retain(|(from, until)| !(*from < 18 * DAY + 3 * HOUR && *until > 17 * DAY));
        relay_off.extend([(9 * DAY, 9 * DAY + 2 * HOUR), (17 * DAY, 18 * DAY + 2 * HOUR)]);
        relay_off.sort_unstable();
        Self {
            relay_off,
            no_network: spans(rng, 3 * HOUR, SECOND / 2, 15 * MINUTE),
            asleep: spans(rng, DAY, 10 * SECOND, 8 * HOUR),
            drains: spans(rng, 5 * DAY, SECOND, 2 * SECOND),
        }
    }
}

/// Whose a reply is.
type Asked = u64;

enum State {
    In { silence: Box<Silence>, since: u64, incarnation: usize },
    Dialling { until: u64, lets_in: bool },
    Waiting { until: u64 },
}

/// The client, the wire, and a relay in a few lines.
struct Life {
    rng: StdRng,
    month: Month,
    session: Session<Asked>,
    state: State,
    attempts: Option<Reconnect>,
    /// Where to go before the relay that we are at is off.
    moving: Option<(Move, u64)>,
    seen: Seen,
    keep_alive_at: u64,
    probe: Option<(u64, u64)>,
    answer_at: Option<u64>,
    relay_heard_at: u64,
    heard: FrameReader,
    asked: u64,
    logins: u64,
    failures: u64,
    rung: u64,
    answered: u64,
    longest_wait: u64,
    /// When we were in again, and so many bytes there were then.
    held: Vec<(u64, i64)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = Session::new(4, 0);
        for person in 10..13 {
            session.watch(&pass(person));
        }
        session.keep(&Request::SetPresence(SetPresence { state: PresenceState::Online.into(), ..Default::default() }));
        Self {
            month: Month::new(&mut rng),
            rng,
            session,
            state: State::Waiting { until: 0 },
            attempts: None,
            moving: None,
            seen: Seen::default(),
            keep_alive_at: 0,
            probe: None,
            answer_at: None,
            relay_heard_at: 0,
            heard: FrameReader::default(),
            asked: 0,
            logins: 0,
            failures: 0,
            rung: 0,
            answered: 0,
            longest_wait: 0,
            held: Vec::with_capacity(LOGINS_MAX),
        }
    }

    fn has_way(&self, at: u64) -> bool {
        !is_in(&self.month.no_network, at) && !is_in(&self.month.relay_off, at)
    }

    /// Which process of the relay there is.
    fn incarnation(&self, at: u64) -> usize {
        let before = |spans: &Spans| spans.partition_point(|(_, until)| *until <= at);
        before(&self.month.relay_off) + before(&self.month.drains)
    }

    fn step(&mut self, at: u64, unix: u64) {
        match &mut self.state {
            State::Waiting { until } if *until <= at => self.dial(at),
            State::Dialling { until, lets_in } if *until <= at => match *lets_in {
                true => self.come_in(at),
                false => self.fail(at),
            },
            State::In { .. } => self.be_in(at, unix),
            State::Waiting { .. } | State::Dialling { .. } => {}
        }
    }

    fn dial(&mut self, at: u64) {
        let is_refused = is_in(&self.month.relay_off, at) && !is_in(&self.month.no_network, at);
        let lets_in = self.has_way(at) && !self.rng.random_bool(0.1);
        let takes = if lets_in || is_refused { 3 * RTT } else { DIAL_MAX };
        self.state = State::Dialling { until: at + takes, lets_in };
    }

    fn fail(&mut self, at: u64) {
        self.failures += 1;
        let patience = Patience {
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_millis(BACKOFF_MAX),
            give_up_after: Duration::from_secs(10 * 365 * 24 * 3600),
        };
        let now = moment(at);
        let attempts = self.attempts.get_or_insert_with(|| Reconnect::new(&patience, now));
        let rng = &mut self.rng;
        let next = attempts.failed(Obstacle::Passing, now, |range| rng.random_range(range));
        let Next::Attempt { at: then, .. } = next else { panic!("it gave up after {at} ms") };
        let wait = then.since(now).as_millis() as u64;
        self.longest_wait = self.longest_wait.max(wait);
        self.state = State::Waiting { until: at + wait };
    }

    fn come_in(&mut self, at: u64) {
        self.logins += 1;
        let delegation = IdentitySecret::from_bytes(&[3; 32]).delegate(&device().public(), 1);
        let channel = Channel::by_exporter(RelayPin([1; 32]), [self.logins as u8; 32], device().public());
        let (mut greeting, _) = Greeting::new(channel, channel.hello(&device(), &Introduction::new(&delegation, "")));
        let limits = Some(SessionLimits { key_packages_max: 8, ..SessionLimits::default() });
        let welcome = Body::Welcome(Welcome { version: VERSION, unix_ms: at, limits, ..Welcome::default() });
        let welcomed = greeting.handle_bytes(&bytes([(0, welcome)])).expect("a Welcome").expect("all of it");
        self.session.handle_connected(welcomed).expect("nothing else came");
        self.heard = FrameReader::default();
        self.attempts = None;
        self.state = State::In {
            silence: Box::new(Silence::new(Duration::from_millis(SILENCE_MAX))),
            since: at,
            // Whoever comes while one drains is let in by the next.
            incarnation: self.incarnation(at) + usize::from(is_in(&self.month.drains, at)),
        };
        self.seen = Seen::default();
        (self.keep_alive_at, self.probe, self.answer_at) = (at + KEEP_ALIVE, None, None);
        self.relay_heard_at = at;
        self.exchange();
        self.held.push((at, BYTES.load(Relaxed)));
    }

    fn lose(&mut self, at: u64) {
        self.session.handle_disconnected();
        self.moving = None;
        self.take_events();
        self.fail(at);
    }

    /// A packet to the relay that it has to answer; whether that ends the connection, because the relay knows nothing of it.
    fn ask(&mut self, at: u64, since_incarnation: usize) -> bool {
        self.seen.asked += 1;
        self.probe.get_or_insert((at + 3 * RTT + 25, 3 * RTT + 25));
        if !self.has_way(at) || self.rng.random_bool(0.1) {
            return false;
        }
        let is_forgotten = at - self.relay_heard_at > FORGOTTEN_AFTER;
        self.relay_heard_at = at;
        self.answer_at.get_or_insert(at + RTT);
        is_forgotten || self.incarnation(at) != since_incarnation
    }

    fn be_in(&mut self, at: u64, unix: u64) {
        let State::In { silence, since, incarnation } = &mut self.state else { return };
        let (since, incarnation) = (*since, *incarnation);
        if self.answer_at.is_some_and(|answer_at| answer_at <= at) {
            self.answer_at = None;
            if !is_in(&self.month.no_network, at) {
                self.seen.heard += 1;
                self.probe = None;
                self.keep_alive_at = at + KEEP_ALIVE;
            }
        }
        let verdict = silence.look(Clocks { moment: moment(at), unix: Duration::from_millis(unix) }, self.seen);
        let mut asks = u32::from(verdict == Verdict::Ask);
        if verdict == Verdict::Gone {
            return self.lose(at);
        }
        if self.keep_alive_at <= at {
            self.keep_alive_at = at + KEEP_ALIVE;
            asks += 1;
        }
        if let Some((due, length)) = self.probe
            && due <= at
        {
            self.probe = Some((at + 2 * length, 2 * length));
            asks += 1;
        }
        for _ in 0..asks {
            if self.ask(at, incarnation) {
                return self.lose(at);
            }
        }
        if self.has_way(at) {
            self.talk(at, incarnation);
        }
        // A certificate and an invite of now, when the session is old.
        if at - since > SESSION_MAX {
            self.session.handle_disconnected();
            self.take_events();
            self.dial(at);
        }
    }

    /// What people do, and what the relay says of it and of itself.
    fn talk(&mut self, at: u64, incarnation: usize) {
        if self.rng.random_bool(TICK as f64 / HOUR as f64) {
            self.rung += 1;
            let ring = Bytes::copy_from_slice(&u128::from(self.rung).to_be_bytes());
            let payload = Bytes::from(vec![7; 2_000]);
            self.hear([(0, Body::IncomingRing(IncomingRing { ring: ring.clone(), payload, ..Default::default() }))]);
            match self.rung % 3 {
                0 => self.request(Request::AnswerRing(AnswerRing { ring, ..Default::default() })),
                1 => self.hear([(0, Body::RingEnded(RingEnded { ring, ..Default::default() }))]),
                // Until the connection is gone.
                _ => {}
            }
        }
        if self.rng.random_bool(TICK as f64 / (10 * MINUTE) as f64) {
            let person = self.rng.random_range(10..13);
            let identity = Bytes::copy_from_slice(pass(person).issuer().as_bytes());
            let state = [PresenceState::Online, PresenceState::Offline][self.rng.random_range(0..2)].into();
            self.hear([(0, Body::Presence(Presence { identity, epoch: at, state, ..Presence::default() }))]);
        }
        if self.rng.random_bool(TICK as f64 / (2 * HOUR) as f64) {
            self.hear([(0, Body::KeyPackagesLow(KeyPackagesLow { left: 1 }))]);
        }
        match self.moving.as_ref().map(|(_, due)| *due) {
            Some(due) if due <= at => {
                // It is let in by the next process while this one still serves.
                self.moving = None;
                self.come_in(at);
            }
            None if is_in(&self.month.drains, at) && incarnation == self.incarnation(at) => {
                let notice =
                    GoAway { reconnect_after_ms: 100, reconnect_before_ms: 900, successor: true, ..GoAway::default() };
                self.hear([(0, Body::GoAway(notice))]);
                assert!(self.moving.is_some(), "it was told");
                let Some((moving, due)) = &mut self.moving else { return };
                let rng = &mut self.rng;
                let step = moving.next_step(|range| rng.random_range(range));
                assert_eq!(step.whither, Whither::Same);
                *due = at + step.wait.as_millis() as u64;
            }
            _ => {}
        }
    }

    fn request(&mut self, request: Request) {
        self.asked += 1;
        self.session.ask(request, self.asked).expect("it is connected");
        self.exchange();
    }

    fn hear<const N: usize>(&mut self, messages: [(u64, Body); N]) {
        self.session.handle_bytes(&bytes(messages)).expect("messages");
        self.exchange();
    }

    /// Until nobody has anything to say any more.
    fn exchange(&mut self) {
        loop {
            self.take_events();
            let Some(written) = self.session.poll_bytes() else { return };
            self.heard.push(&written);
            while let Some(message) = self.heard.next_message::<ClientMessage>().expect("messages") {
                if message.request > 0 {
                    let done = bytes([(message.request, Body::Done(Done {}))]);
                    self.session.handle_bytes(&done).expect("a reply");
                }
            }
        }
    }

    /// Whether we are in at the process that there is.
    fn is_served(&self, at: u64) -> bool {
        matches!(&self.state, State::In { incarnation, .. } if *incarnation >= self.incarnation(at))
    }

    /// While our clock stood still, the others' went on: by ours, what comes later comes sooner.
    fn shift(&mut self, slept: u64) {
        let Month { relay_off, no_network, drains, .. } = &mut self.month;
        for (from, until) in [relay_off, no_network, drains].into_iter().flatten() {
            (*from, *until) = (from.saturating_sub(slept), until.saturating_sub(slept));
        }
        self.relay_heard_at = self.relay_heard_at.saturating_sub(slept);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::KeyPackagesWanted(wanted) => {
                    let package = || Bytes::from(vec![9; 3_300]);
                    self.session.deposit(Some(package()), (0..wanted).map(|_| package()));
                }
                Event::Reply { .. } => self.answered += 1,
                Event::GoAway(notice) => {
                    let patience = Patience {
                        backoff_base: Duration::from_millis(250),
                        backoff_max: Duration::from_millis(BACKOFF_MAX),
                        give_up_after: Duration::ZERO,
                    };
                    self.moving = Some((Move::new(&notice, &patience), u64::MAX));
                }
                Event::WatchEnded(..) => panic!("nobody has ended a watch"),
                _ => {}
            }
        }
    }
}

fn moment(at: u64) -> Moment {
    Moment::at(Duration::from_millis(at))
}

fn device() -> DeviceSecret {
    DeviceSecret::from_bytes(&[4; 32])
}

fn pass(person: u8) -> Pass {
    let terms = Terms { grants: Grants::PRESENCE, relay: None, generation: 0, not_after_unix_s: 1 };
    IdentitySecret::from_bytes(&[person; 32]).issue_pass(&terms)
}

fn bytes<const N: usize>(messages: [(u64, Body); N]) -> Bytes {
    let mut bytes = BytesMut::new();
    for (reply_to, body) in messages {
        encode_frame(&RelayMessage { reply_to, body: Some(body) }, &mut bytes);
    }
    bytes.freeze()
}

#[test]
fn a_client_that_waits_for_a_month_comes_back_each_time_and_holds_no_more_than_after_its_first_days() {
    let mut life = Life::new(20);
    let (mut at, mut asleep, mut good_since) = (0, 0, 0);
    let (mut sleeps, mut looks) = (0, 0);
    while at < MONTH {
        // Asleep, nothing of ours runs, and our own clock goes on in one sleep and stands still in the next.
        let sleep = life.month.asleep.iter().find(|(from, until)| (*from..*until).contains(&(at + asleep))).copied();
        if let Some((_, until)) = sleep {
            sleeps += 1;
            let slept = until - (at + asleep);
            if sleeps % 2 == 0 {
                at += slept
            } else {
                asleep += slept
            }
            good_since = at;
            // What the relay and the network do meanwhile, they do at their own time.
            life.shift(if sleeps % 2 == 0 { 0 } else { slept });
        }
        at += TICK;
        life.step(at, at + asleep);
        looks += 1;
        if looks % LOOKED_AT_EVERY != 0 {
            continue;
        }
        if !life.has_way(at) || life.is_served(at) {
            good_since = at;
        }
        assert!(at - good_since <= BACK_MAX, "not in after {at} ms, though there is a way since {good_since}");
    }
    let most = |days: std::ops::Range<u64>| {
        let held = life.held.iter().filter(|(at, _)| days.contains(&(at / DAY)));
        held.map(|(_, bytes)| *bytes).max().expect("log-ins on those days")
    };
    let (first, last) = (most(0..3), most(20..31));
    assert!(last - first <= BYTES_MORE_MAX, "{first} bytes in the first days, and {last} in the last");
    assert!(life.longest_wait <= BACKOFF_MAX, "{} ms between two attempts", life.longest_wait);
    let month = &life.month;
    let why = month.relay_off.len() + month.no_network.len() + month.drains.len() + sleeps + 5;
    assert!(life.logins <= why as u64, "{} log-ins for {why} reasons", life.logins);
    assert!(
        life.logins > 100 && life.rung > 300 && life.answered > 100,
        "little happened: {} {}",
        life.logins,
        life.rung
    );
}
