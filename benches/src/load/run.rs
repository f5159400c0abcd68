//! A run from beginning to end: everybody comes, warms up, is measured, is asked whether they are still there, leaves.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use supernode_measure::{
    histogram::Histogram,
    relay_probe::{self, MetricsUrl, RelayUse},
};
use supernode_proto::{identity::RelayPin, troubles};

use super::{
    client::Stage,
    outsiders::Outsiders,
    part::Part,
    persona::Cast,
    plan::Plan,
    report::{About, IntervalReport, Report},
    scenario::Scenario,
    scrape::{Scraper, Scrapes},
    tally::{Settled, Tally},
    watch::{Look, Watch},
    worker::Worker,
};

/// How long after the ramp everybody must be there.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a live session may take to answer after the measured part.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How often the observer is told.
const TELL_INTERVAL: Duration = Duration::from_millis(250);
/// Intervals of the charts, at most.
const INTERVALS_MAX: f64 = 240.0;
/// From the word that the run ends early to the moment from which nothing is measured any more: no worker is so late.
const ABORT_MARGIN: Duration = Duration::from_millis(50);
/// After its end nothing that was due in a piece comes any more: no relay that lets sessions live is so late. Unit: ns.
const SETTLE_NS: u64 = 10_000_000_000;
/// Random bytes that sealed parts are cut from.
const NOISE_BYTES: usize = 256 * 1024;

/// What a run needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The relay.
    pub relay: SocketAddr,
    /// Its public key.
    pub pin: RelayPin,
    /// Admission token; empty for an open relay.
    pub token: String,
    /// What should happen.
    pub scenario: Scenario,
    /// The relay's process, if it runs on this machine: its CPU time and memory are measured.
    pub relay_pid: Option<u32>,
    /// Where the relay serves its metrics: its drops by reason are reported.
    pub metrics: Option<MetricsUrl>,
    /// How often they are scraped during the measured part, to see what that costs.
    pub scrape_every: Option<Duration>,
    /// When the measured part is to begin, in seconds since 1970, so that several generators measure the same; otherwise as
    /// soon as everybody is there.
    pub begin_at_unix_s: Option<u64>,
    /// By what command this is done, for the report; no secret may be in it.
    pub command_line: Vec<String>,
}

troubles! {
    /// Why there is no result.
    pub RunError as WORDS:
    System(#[from] std::io::Error), "the system refuses a socket or a thread",
        "this user may have no more sockets or threads", "raise the limit (ulimit -n, ulimit -u), or use fewer sockets and workers";
    Nobody, "the scenario has no clients",
        "as is said: there is nobody to play", "give it some (pairs, rooms, presence or rings)";
    TooLate { late_s: f64 }, "everybody was there {late_s:.1} s too late for the measured part to begin when it was to",
        "the time that all generators were to begin at had passed by then, and nothing was measured",
        "choose a later --begin-at: ramp_s, warm_up_s and some seconds must fit in before it";
    NotReady { ready: u32, planned: u32, seconds: f64, lacking: BTreeMap<String, u64>, ended: BTreeMap<String, u64> },
        "{ready} of {planned} clients were ready after {seconds:.1} s; {reasons}" with (reasons = reasons(lacking, ended)),
        "nothing was measured, for the reasons that are said: no relay there, an invite that has ended, or a limit of the relay",
        "compare with the relay's log and its limits (docs/CONFIG.md), and try with fewer people";
}

/// Where a run is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Since it began, in s.
    pub at_s: f64,
    /// Clients that are ready, and all that should be.
    pub ready: (u32, u32),
    /// How much of the measured part is over, 0 to 1; `None` before it.
    pub measured: Option<f64>,
    /// Objects due and deliveries in the measured part so far.
    pub due: u64,
    /// Deliveries in the measured part so far.
    pub delivered: u64,
    /// What the due objects should have led to.
    pub expected: u64,
    /// Deliveries a second of late.
    pub delivered_per_s: f64,
    /// Delay of what was delivered since the last time, 50th and 99th percentile in ms.
    pub delay_ms: Option<(f64, f64)>,
    /// When the measured part began, in ms since 1970; `None` before it.
    pub measured_from_unix_ms: Option<u64>,
    /// Its pieces that have settled since the last time, in their order: they stand so in the report, but for what comes
    /// later than any relay should be.
    pub settled: Vec<IntervalReport>,
}

/// The times of the measured part, in ns since the run's origin.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Window {
    /// When sending begins.
    pub(super) media_from_ns: u64,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    /// Every subscription must hear something that was due after this.
    pub(super) tail_from_ns: u64,
    interval_ns: u64,
}

impl Window {
    pub(super) fn contains(self, due_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&due_ns)
    }

    /// Seconds from its beginning.
    pub(super) fn since_s(self, due_ns: u64) -> f64 {
        due_ns.saturating_sub(self.from_ns) as f64 / 1e9
    }

    pub(super) fn interval(self, due_ns: u64) -> usize {
        (due_ns.saturating_sub(self.from_ns) / self.interval_ns) as usize
    }

    pub(super) fn middle_ns(self) -> u64 {
        self.from_ns.midpoint(self.until_ns)
    }

    pub(super) fn hold_s(self) -> f64 {
        (self.until_ns - self.from_ns) as f64 / 1e9
    }

    /// From when on nothing is added to a piece; `None` if there is no such piece.
    pub(super) fn settled_ns(self, place: usize) -> Option<u64> {
        let from_ns = self.from_ns + place as u64 * self.interval_ns;
        (from_ns < self.until_ns).then(|| (from_ns + self.interval_ns).min(self.until_ns) + SETTLE_NS)
    }

    pub(super) fn interval_s(self) -> f64 {
        self.interval_ns as f64 / 1e9
    }
}

/// What the workers are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Going = 0,
    /// Ask every session whether it is there.
    Probing = 1,
    Over = 2,
}

/// What the workers and the run share.
pub(super) struct Shared {
    pub(super) origin: Instant,
    pub(super) stage: Stage,
    phase: AtomicU8,
    window: OnceLock<Window>,
    /// From when nothing is measured any more, if that is before the window's end.
    ended_ns: AtomicU64,
    ready: AtomicU32,
    lost: AtomicU32,
    workers: Vec<Told>,
    rates: Mutex<Rates>,
    recent: Mutex<Histogram>,
    measured_from_unix_ms: OnceLock<u64>,
    pub(super) settled: Settled,
    /// What the observer is to be told of them.
    settled_reports: Mutex<Vec<IntervalReport>>,
}

#[derive(Default)]
struct Told {
    alive: AtomicU32,
    due: AtomicU64,
    expected: AtomicU64,
    /// When it was told, in ns since the origin, and so many by then.
    delivered: Mutex<Reading>,
}

/// A count, and when it was so, in ns since the origin.
type Reading = (u64, u64);

/// How fast the workers' counts grow. Each is read when it likes: what counts is the time between its own readings, not
/// between two looks at them.
#[derive(Debug, Default)]
struct Rates {
    last: Vec<Reading>,
    per_s: Vec<f64>,
}

impl Rates {
    /// The sum of all, from these readings on.
    fn update(&mut self, readings: &[Reading]) -> f64 {
        self.last.resize(readings.len(), (0, 0));
        self.per_s.resize(readings.len(), 0.0);
        for ((last, per_s), now) in self.last.iter_mut().zip(&mut self.per_s).zip(readings) {
            if now.0 > last.0 {
                // Before the first reading nothing is known.
                *per_s = if last.0 > 0 { (now.1 - last.1) as f64 / ((now.0 - last.0) as f64 / 1e9) } else { 0.0 };
                *last = *now;
            }
        }
        self.per_s.iter().sum()
    }
}

/// CPU time that the relay's process and this one had used, in s, at the bounds of the measured part's pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Used {
    pub(super) relay_s: Vec<Option<f64>>,
    pub(super) own_s: Vec<f64>,
    at: Vec<Instant>,
}

impl Used {
    fn note(&mut self, relay_pid: Option<u32>) {
        self.at.push(Instant::now());
        self.relay_s.push(relay_pid.and_then(relay_probe::cpu_s));
        self.own_s.push(relay_probe::own_cpu_s());
    }

    /// Shares of one core in a piece: the relay's and our own.
    pub(super) fn busy(&self, place: usize) -> (Option<f64>, Option<f64>) {
        let Some((from, until)) = self.at.get(place).zip(self.at.get(place + 1)) else { return (None, None) };
        let length_s = until.duration_since(*from).as_secs_f64().max(1e-3);
        let relay = self.relay_s[place].zip(self.relay_s[place + 1]).map(|(from, until)| (until - from) / length_s);
        (relay, Some((self.own_s[place + 1] - self.own_s[place]) / length_s))
    }
}

/// Runs a scenario. Blocks; calls `observe` a few times a second.
///
/// # Errors
/// See [`RunError`]. A relay that loses or delays objects is no error: it is the report's business.
pub fn run(options: &Options, observe: &mut dyn FnMut(&Progress)) -> Result<Report, RunError> {
    Ok(Report::of(&[measure(options, observe)?]))
}

/// As [`run`], for a report that is made of several parts.
///
/// # Errors
/// See [`RunError`].
pub fn measure(options: &Options, observe: &mut dyn FnMut(&Progress)) -> Result<Part, RunError> {
    let scenario = options.scenario.clone();
    let plan = Plan::new(&scenario);
    if plan.clients.is_empty() {
        return Err(RunError::Nobody);
    }
    let about = About::now(&options.command_line);
    let mut noise = vec![0; NOISE_BYTES];
    rand::rng().fill(&mut noise[..]);
    let count = scenario.workers.min(plan.clients.len() as u32);
    let shared = Arc::new(Shared {
        origin: Instant::now(),
        stage: Stage {
            outsiders: Outsiders::new(plan.clients.len()),
            plan,
            cast: Cast::new(),
            pin: options.pin,
            token: options.token.clone(),
            noise: Bytes::from(noise),
            scenario: Scenario { workers: count, ..scenario },
        },
        phase: AtomicU8::new(Phase::Going as u8),
        window: OnceLock::new(),
        ended_ns: AtomicU64::new(u64::MAX),
        ready: AtomicU32::new(0),
        lost: AtomicU32::new(0),
        workers: (0..count).map(|_| Told::default()).collect(),
        rates: Mutex::default(),
        recent: Mutex::default(),
        measured_from_unix_ms: OnceLock::new(),
        settled: Settled::new(count),
        settled_reports: Mutex::default(),
    });
    let mut threads = Vec::new();
    for index in 0..count {
        let worker = Worker::new(shared.clone(), index, options.relay)?;
        threads.push(thread::Builder::new().name(format!("load-{index}")).spawn(move || worker.run())?);
    }
    let conducted = conduct(&shared, options, observe);
    shared.phase.store(Phase::Over as u8, Ordering::SeqCst);
    let outcomes = threads.into_iter().map(|thread| thread.join().expect("a worker ends without a panic")).collect();
    match conducted {
        Ok(Conducted { relay, scrapes, used, measured_from_unix_ms, aborted }) => {
            let mut window = shared.window().expect("a conducted run has been measured");
            shared.shorten(&mut window);
            let busy = (0..used.at.len().saturating_sub(1)).map(|place| used.busy(place)).collect();
            let scenario = shared.stage.scenario.clone();
            let when = (window, measured_from_unix_ms);
            Ok(Part::new(about, scenario, when, (relay, scrapes), busy, aborted, outcomes))
        }
        Err(GivenUp::TooLate(late_s)) => Err(RunError::TooLate { late_s }),
        Err(GivenUp::After(seconds)) => {
            let mut tally = Tally::default();
            outcomes.iter().for_each(|outcome| tally.add(&outcome.tally));
            let mut lacking = BTreeMap::new();
            for what in outcomes.iter().flat_map(|outcome| &outcome.missing) {
                *lacking.entry((*what).to_owned()).or_default() += 1;
            }
            let planned = shared.stage.plan.steady();
            let ready = shared.ready.load(Ordering::SeqCst);
            let ended = tally.closed.into_iter().chain(tally.refused).collect();
            Err(RunError::NotReady { ready, planned, seconds, lacking, ended })
        }
    }
}

/// What was seen from outside while the measured part went on.
struct Conducted {
    relay: RelayUse,
    scrapes: Option<Scrapes>,
    used: Used,
    measured_from_unix_ms: u64,
    aborted: Option<String>,
}

/// Why nothing was measured.
enum GivenUp {
    /// Not everybody was there after so many seconds.
    After(f64),
    /// They were there so many seconds too late.
    TooLate(f64),
}

/// Leads the workers through the run; what was seen meanwhile.
fn conduct(shared: &Shared, options: &Options, observe: &mut dyn FnMut(&Progress)) -> Result<Conducted, GivenUp> {
    let Stage { scenario, plan, .. } = &shared.stage;
    let planned = plan.steady();
    let patience = Duration::from_secs_f64(scenario.ramp_s) + READY_PATIENCE;
    // Those who come and go are not waited for, but nobody of them is still to come for the first time either.
    let ramp = Duration::from_secs_f64(scenario.ramp_s);
    while shared.ready.load(Ordering::SeqCst) < planned || shared.origin.elapsed() < ramp {
        thread::sleep(Duration::from_millis(5));
        shared.observe_now(observe, false);
        if shared.origin.elapsed() > patience || shared.lost.load(Ordering::SeqCst) > 0 {
            return Err(GivenUp::After(shared.origin.elapsed().as_secs_f64()));
        }
    }
    let seconds = |s: f64| (s * 1e9) as u64;
    let mut media_from_ns = shared.origin.elapsed().as_nanos() as u64 + 50_000_000;
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(begin_at_unix_s) = options.begin_at_unix_s {
        let left_s = begin_at_unix_s as f64 - unix().as_secs_f64() - scenario.warm_up_s;
        if left_s < 0.0 {
            return Err(GivenUp::TooLate(-left_s));
        }
        media_from_ns = shared.origin.elapsed().as_nanos() as u64 + seconds(left_s);
    }
    let from_ns = media_from_ns + seconds(scenario.warm_up_s);
    let until_ns = from_ns + seconds(scenario.hold_s);
    // Long enough for a few objects of the slowest source.
    let changes = scenario.presence.as_ref().map_or(0.0, |presence| presence.changes_per_second);
    let slowest = [scenario.objects_per_second, changes].into_iter().filter(|rate| *rate > 0.0).fold(3.0, f64::min);
    let tail_ns = seconds(3.0 / slowest);
    // Where not all take part in the end, all are heard after it.
    let (tail_ns, linger_ns) = match scenario.stages.is_empty() {
        true => (tail_ns.min((until_ns - from_ns) / 2), seconds(scenario.linger_s)),
        false => (0, seconds(scenario.linger_s).max(tail_ns)),
    };
    let interval_ns = seconds((scenario.hold_s / INTERVALS_MAX).max(1.0).min(scenario.hold_s / 2.0));
    let window = Window { media_from_ns, from_ns, until_ns, tail_from_ns: until_ns - tail_ns, interval_ns };
    let _ = shared.window.set(window);
    let now_ns = shared.origin.elapsed().as_nanos() as u64;
    let measured_from_unix_ms = (unix() + Duration::from_nanos(from_ns.saturating_sub(now_ns))).as_millis() as u64;
    let _ = shared.measured_from_unix_ms.set(measured_from_unix_ms);
    let mut watch = Watch::new(scenario);
    shared.wait_until(from_ns, observe);
    let before = RelayUse::read(options.relay_pid, options.metrics.as_ref());
    let scraper = options.metrics.clone().zip(options.scrape_every).map(|(url, every)| Scraper::start(url, every));
    let mut used = Used::default();
    used.note(options.relay_pid);
    let bounds = (1..).map(|piece| from_ns + piece * interval_ns).take_while(|bound_ns| *bound_ns < until_ns);
    let mut aborted = None;
    for bound_ns in bounds.chain([until_ns]) {
        aborted = shared.watch_until(bound_ns, &mut watch, observe);
        used.note(options.relay_pid);
        if aborted.is_some() {
            break;
        }
        shared.report_settled(window, &used);
    }
    let until_ns = until_ns.min(shared.ended_ns.load(Ordering::SeqCst));
    shared.wait_until(until_ns, observe);
    // A thread that the system refuses shows as a report without scrapes.
    let scrapes = scraper.and_then(Result::ok).map(Scraper::finish);
    let relay = RelayUse::since(before, options.relay_pid, options.metrics.as_ref());
    shared.wait_until(until_ns + linger_ns, observe);
    shared.phase.store(Phase::Probing as u8, Ordering::SeqCst);
    let deadline = Instant::now() + ANSWER_PATIENCE;
    let alive = || shared.workers.iter().map(|worker| worker.alive.load(Ordering::SeqCst)).sum::<u32>();
    while alive() < planned && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    shared.observe_now(observe, true);
    Ok(Conducted { relay, scrapes, used, measured_from_unix_ms, aborted })
}

impl Shared {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Going,
            1 => Phase::Probing,
            _ => Phase::Over,
        }
    }

    /// The times of the measured part, once everybody is there.
    pub(super) fn window(&self) -> Option<Window> {
        self.window.get().copied()
    }

    /// Takes from a window what is not measured any more.
    pub(super) fn shorten(&self, window: &mut Window) {
        let ended_ns = self.ended_ns.load(Ordering::Relaxed);
        if ended_ns < window.until_ns {
            let tail_ns = window.until_ns - window.tail_from_ns;
            window.until_ns = ended_ns;
            window.tail_from_ns = ended_ns.saturating_sub(tail_ns).max(window.from_ns);
        }
    }

    /// One more client has everything.
    pub(super) fn note_ready(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
    }

    /// A session that should have stayed has ended.
    pub(super) fn note_lost(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// So many of a worker's sessions have answered.
    pub(super) fn note_alive(&self, worker: usize, alive: u32) {
        self.workers[worker].alive.store(alive, Ordering::SeqCst);
    }

    /// What a worker has counted so far, and the delays since the last time.
    pub(super) fn tell(&self, worker: usize, recent: &mut Histogram, tally: &Tally) {
        let told = &self.workers[worker];
        told.due.store(tally.due, Ordering::Relaxed);
        told.expected.store(tally.expected, Ordering::Relaxed);
        let at_ns = self.origin.elapsed().as_nanos() as u64;
        *told.delivered.lock().expect("nobody panics with it") = (at_ns, tally.delivered);
        if recent.count() > 0 {
            self.recent.lock().expect("nobody panics with it").add(recent);
            *recent = Histogram::default();
        }
    }

    /// The observer is told with the next look.
    fn report_settled(&self, window: Window, used: &Used) {
        let settled = self.settled.take();
        let reports = settled.iter().map(|(place, piece)| IntervalReport::of(*place, piece, window, used.busy(*place)));
        self.settled_reports.lock().expect("nobody panics with it").extend(reports);
    }

    fn wait_until(&self, ns: u64, observe: &mut dyn FnMut(&Progress)) {
        let until = self.origin + Duration::from_nanos(ns);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(TELL_INTERVAL));
            self.observe_now(observe, false);
        }
    }

    /// As [`Self::wait_until`], unless an SLO that does not hold ends the run: why, then.
    fn watch_until(&self, ns: u64, watch: &mut Watch, observe: &mut dyn FnMut(&Progress)) -> Option<String> {
        let until = self.origin + Duration::from_nanos(ns);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            thread::sleep(left.min(TELL_INTERVAL));
            let (progress, delay) = self.observe_now(observe, false);
            let from_ns = self.window().map_or(0, |window| window.from_ns);
            let (expected, delivered) = (progress.expected, progress.delivered);
            let at_s = progress.at_s - from_ns as f64 / 1e9;
            let lost_sessions = self.lost.load(Ordering::Relaxed);
            if let Some(why) = watch.look(Look { at_s, expected, delivered, lost_sessions, delay }) {
                let ended = self.origin.elapsed() + ABORT_MARGIN;
                self.ended_ns.store(ended.as_nanos() as u64, Ordering::SeqCst);
                return Some(why);
            }
        }
    }

    fn observe_now(&self, observe: &mut dyn FnMut(&Progress), all: bool) -> (Progress, Histogram) {
        let sum =
            |read: fn(&Told) -> &AtomicU64| self.workers.iter().map(|told| read(told).load(Ordering::Relaxed)).sum();
        let at_ns = self.origin.elapsed().as_nanos() as u64;
        let reading = |told: &Told| *told.delivered.lock().expect("nobody panics with it");
        let delivered: Vec<Reading> = self.workers.iter().map(reading).collect();
        let delivered_per_s = self.rates.lock().expect("nobody panics with it").update(&delivered);
        let recent = std::mem::take(&mut *self.recent.lock().expect("nobody panics with it"));
        let measured = self.window().filter(|window| at_ns >= window.from_ns).map(|window| {
            let share = (at_ns - window.from_ns) as f64 / (window.until_ns - window.from_ns) as f64;
            if all { 1.0 } else { share.min(1.0) }
        });
        let progress = Progress {
            at_s: at_ns as f64 / 1e9,
            ready: (self.ready.load(Ordering::Relaxed), self.stage.plan.steady()),
            measured,
            due: sum(|told| &told.due),
            delivered: delivered.iter().map(|(_, count)| count).sum(),
            delivered_per_s,
            expected: sum(|told| &told.expected),
            delay_ms: (recent.count() > 0).then(|| (recent.quantile_ms(0.5), recent.quantile_ms(0.99))),
            measured_from_unix_ms: self.measured_from_unix_ms.get().copied(),
            settled: std::mem::take(&mut *self.settled_reports.lock().expect("nobody panics with it")),
        };
        observe(&progress);
        (progress, recent)
    }
}

fn reasons(lacking: &BTreeMap<String, u64>, ended: &BTreeMap<String, u64>) -> String {
    let list = |reasons: &BTreeMap<String, u64>| {
        reasons.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>().join(", ")
    };
    let said =
        [("lacking", lacking), ("ended or refused", ended)].into_iter().filter(|(_, reasons)| !reasons.is_empty());
    let said: Vec<String> = said.map(|(what, reasons)| format!("{what}: {}", list(reasons))).collect();
    if said.is_empty() { "for no reason that is known".to_owned() } else { said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_right_though_workers_tell_at_other_times_than_they_are_looked_at() {
        const MS: u64 = 1_000_000;
        let mut rates = Rates::default();
        // Two workers, 1,000 a second each, tell each 200 ms; they are looked at each 250 ms.
        let told = |at_ms: u64, offset_ms: u64| {
            let told_ms = (at_ms + offset_ms) / 200 * 200 - offset_ms;
            (told_ms * MS, told_ms)
        };
        let seen: Vec<f64> =
            (3..40).map(|look| rates.update(&[told(look * 250, 0), told(look * 250, 70)]).round()).collect();
        assert!(seen[2..].iter().all(|rate| *rate == 2000.0), "{seen:?}");
    }
}
