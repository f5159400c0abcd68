//! The result: what was measured, whether it may be believed, and whether it is good enough.

mod about;
mod chart;
pub mod compare;
pub mod csv;
pub mod html;
pub mod knee;
pub mod remote_write;
pub mod slo;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;
use supernode_measure::{histogram::Histogram, relay_probe::RelayUse};

pub use self::about::About;
use self::slo::Slo;
use super::{
    part::Part,
    plan::{Plan, Role},
    run::Window,
    scenario::Scenario,
    scrape::Scrapes,
    tally::{Interval, Tally},
};

/// Farther apart, several generators have not measured the same.
const APART_MAX_MS: u64 = 1_000;

/// The result of a run. Times are in the unit that the name ends with; shares are 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When, where and by what.
    pub about: About,
    /// What was run.
    pub scenario: Scenario,
    /// Whether the generator is sure of what it says: [`Self::doubts`] is empty.
    pub valid: bool,
    /// Why the result is not to be believed.
    pub doubts: Vec<String>,
    /// Every SLO and whether it holds; an invalid result judges none.
    pub slo: Vec<SloVerdict>,
    /// Sessions and subscriptions.
    pub sessions: Sessions,
    /// Objects of the measured part.
    pub objects: Objects,
    /// From when the schedule wanted an object sent to its delivery.
    pub delay_ms: Quantiles,
    /// From when a session was to be opened until it was in its rooms with its tracks.
    pub setup_ms: Quantiles,
    /// The generator itself.
    pub generator: Generator,
    /// The relay, as far as it could be seen.
    pub relay: Relay,
    /// Why the run ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
    /// The measured part by stages, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageReport>,
    /// When the measured part began, in ms since 1970.
    pub measured_from_unix_ms: u64,
    /// The measured part in pieces.
    pub intervals: Vec<IntervalReport>,
    /// What SLOs can name, as far as it was measured.
    pub figures: BTreeMap<&'static str, f64>,
    /// Points of the distribution of delays: share of deliveries, and the delay in ms that they did not exceed.
    pub delay_curve: Vec<(f64, f64)>,
}

/// An SLO expression and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct SloVerdict {
    /// As it was written.
    pub expression: String,
    /// Whether it holds; `None` when the result is invalid.
    pub holds: Option<bool>,
}

/// Sessions and subscriptions.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sessions {
    /// Sessions that were to stay; all of them were ready before the measured part, or there is no report.
    pub planned: u32,
    /// Of them those that answered after it.
    pub alive_after: u32,
    /// Subscriptions of those whose result counts.
    pub subscriptions_planned: u64,
    /// Those on which nothing had come when the measured part began.
    pub subscriptions_silent_before: u64,
    /// Those on which nothing came that was due at its end.
    pub subscriptions_silent_after: u64,
    /// Of the planned ones, those who flood.
    pub flooders_planned: u32,
    /// Those who are in no room and ask for what is others'.
    pub outsiders_planned: u64,
    /// Those who are put out of a room.
    pub put_out_planned: u64,
    /// Sessions that were to stay and did not.
    pub lost: u64,
    /// Why sessions ended unasked.
    pub closed: BTreeMap<String, u64>,
    /// Requests that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Watches on which nothing came at the end of the measured part.
    pub watches_silent_after: u64,
    /// Members that were put out.
    pub put_out: u64,
    /// Of them those that had heard nothing until then.
    pub put_out_deaf: u64,
    /// What outsiders asked for and were refused.
    pub turned_away: u64,
    /// Comings of those who come and go.
    pub churn_due: u64,
    /// Of them those that were due before the session before was ready.
    pub churn_missed: u64,
    /// Those who come and go and were sent away.
    pub churn_lost: u64,
    /// Sessions that were due in the measured part and are where they should be.
    pub opened: u64,
    /// The same in a second.
    pub opened_per_s: f64,
}

/// Objects of the measured part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Objects {
    /// Due by the schedule.
    pub due: u64,
    /// Of them those that QUIC did not take, because the path to the relay was full.
    pub held_back: u64,
    /// Deliveries that should follow.
    pub expected: u64,
    /// Deliveries that did, each once.
    pub delivered: u64,
    /// Taken by QUIC, which had not sent them when the run was over.
    pub unsent: u64,
    /// Objects of flooders that were due.
    pub flood_due: u64,
    /// Of them those that QUIC took.
    pub flood_taken: u64,
    /// Expected and not delivered.
    pub lost: u64,
    /// As a share of what was expected.
    pub loss: f64,
    /// Delivered after the scenario's bound.
    pub late: u64,
    /// Delivered more than once.
    pub duplicates: u64,
    /// Delivered after one that was sent later.
    pub reordered: u64,
    /// Deliveries to those whose result does not count: slow readers, passers-by, flooders.
    pub delivered_aside: u64,
    /// What outsiders were granted and sent: must be none, over the whole run.
    pub trespasses: u64,
    /// Deliveries a second.
    pub delivered_per_s: f64,
    /// Mbit/s of objects delivered.
    pub delivered_mbit_per_s: f64,
}

/// A distribution.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quantiles {
    /// Of so many; all others are 0 if there are none.
    pub count: u64,
    /// Half did not take longer.
    pub p50: f64,
    /// 90 % did not.
    pub p90: f64,
    /// 99 % did not.
    pub p99: f64,
    /// 99.9 % did not.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The generator itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Generator {
    /// Share of the measured part in which each worker had a CPU.
    pub busy: Vec<f64>,
    /// How late objects were handed to the kernel.
    pub lag_ms: Quantiles,
    /// UDP datagrams received in the whole run.
    pub datagrams_in: u64,
    /// UDP datagrams sent in the whole run.
    pub datagrams_out: u64,
    /// Those that the kernel did not take.
    pub send_errors: u64,
    /// Those that the kernel dropped because a worker did not read in time.
    pub socket_drops: u64,
}

/// The relay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Relay {
    /// CPU time of its process as a share of one core, over the measured part.
    pub busy: Option<f64>,
    /// The same for each delivery, all deliveries counted, in µs.
    pub cpu_us_per_delivered: Option<f64>,
    /// Resident memory at the end of the measured part.
    pub rss_mib: Option<f64>,
    /// CPU time for each session that was opened, in µs; if nothing else happened.
    pub cpu_us_per_session_opened: Option<f64>,
    /// UDP datagrams in and out in a second, by its own count.
    pub datagrams_per_s: Option<f64>,
    /// Objects delivered in a second, by its own count.
    pub delivered_per_s: Option<f64>,
    /// UDP datagrams for each delivery that it sent, by its own count.
    pub datagrams_out_per_delivered: Option<f64>,
    /// What it turned away or dropped, by reason and its own count.
    pub drops: BTreeMap<String, u64>,
    /// Scrapes of its metrics, if there were to be any.
    pub scrapes: Option<ScrapeReport>,
}

/// Scrapes of the relay's metrics in the measured part.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ScrapeReport {
    /// Those that were answered.
    pub count: u64,
    /// Those that were not.
    pub failed: u64,
    /// Bytes of the largest.
    pub bytes_max: usize,
    /// How long they took.
    pub time_ms: Quantiles,
}

/// A stage of the scenario, by when objects were due.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StageReport {
    /// How long it took, in s.
    pub for_s: f64,
    /// The share of all that took part in the end.
    pub to: f64,
    /// When it began, in s of the measured part.
    pub at_s: f64,
    /// Objects due in a second.
    pub due_per_s: f64,
    /// Deliveries in a second.
    pub delivered_per_s: f64,
    /// Delay.
    pub delay_ms: Quantiles,
    /// Expected deliveries that did not come, as a share.
    pub loss: f64,
    /// Whether every SLO that speaks of delays, loss and rate only held here; `None` if the result is invalid.
    pub holds: Option<bool>,
}

/// A piece of the measured part, by when objects were due.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IntervalReport {
    /// Its beginning, in s.
    pub at_s: f64,
    /// Objects due in a second.
    pub due_per_s: f64,
    /// Deliveries in a second.
    pub delivered_per_s: f64,
    /// Delay.
    pub p50_ms: f64,
    /// Delay.
    pub p99_ms: f64,
    /// The generator's longest lag.
    pub lag_max_ms: f64,
    /// Expected deliveries that did not come, as a share.
    pub loss: f64,
    /// CPU time of the relay's process as a share of one core, if it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_busy: Option<f64>,
    /// CPU time of the generator as a share of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_busy: Option<f64>,
}

impl IntervalReport {
    /// With shares of one core: the relay's, and the generators'.
    pub(super) fn of(place: usize, part: &Interval, window: Window, busy: (Option<f64>, Option<f64>)) -> Self {
        let at_s = place as f64 * window.interval_s();
        // The last piece may be shorter than the others.
        let length_s = window.interval_s().min((window.hold_s() - at_s).max(0.001));
        let (relay_busy, generator_busy) = busy;
        Self {
            at_s,
            relay_busy,
            generator_busy,
            loss: loss(part),
            due_per_s: part.due as f64 / length_s,
            delivered_per_s: part.delivered as f64 / length_s,
            p50_ms: part.delay.quantile_ms(0.5),
            p99_ms: part.delay.quantile_ms(0.99),
            lag_max_ms: part.lag_max_us as f64 / 1e3,
        }
    }
}

impl Report {
    /// What one generator measured, or several at once.
    ///
    /// # Panics
    /// Without any part.
    pub fn of(parts: &[Part]) -> Self {
        let Part { about, scenario, window, .. } = &parts[0];
        let window = *window;
        let seen = parts.iter().find(|part| part.relay.was_seen()).unwrap_or(&parts[0]);
        let relay = seen.relay.as_use();
        let plans: Vec<Plan> = parts.iter().map(|part| Plan::new(&part.scenario)).collect();
        let (mut tally, mut intervals, mut stages) = (Tally::default(), Vec::new(), Vec::new());
        let mut sessions = Sessions {
            planned: plans.iter().map(Plan::steady).sum(),
            subscriptions_planned: plans.iter().map(Plan::subscriptions).sum(),
            flooders_planned: plans.iter().map(|plan| plan.count(Role::Flooder) as u32).sum(),
            outsiders_planned: plans.iter().map(|plan| plan.count(Role::Stranger)).sum(),
            put_out_planned: plans.iter().map(|plan| plan.count(Role::Kicked)).sum(),
            ..Sessions::default()
        };
        let mut generator = Generator::default();
        for outcome in parts.iter().flat_map(|part| &part.outcomes) {
            tally.add(&outcome.tally);
            add_pieces(&mut intervals, &outcome.intervals);
            add_pieces(&mut stages, &outcome.stages);
            sessions.alive_after += outcome.alive;
            sessions.subscriptions_silent_before += outcome.silent[0];
            sessions.subscriptions_silent_after += outcome.silent[1];
            sessions.watches_silent_after += outcome.silent_watches;
            generator.busy.push(outcome.busy);
            generator.datagrams_in += outcome.datagrams_in;
            generator.datagrams_out += outcome.datagrams_out;
            generator.send_errors += outcome.send_errors;
            generator.socket_drops += outcome.socket_drops;
        }
        generator.lag_ms = Quantiles::of(&tally.lag);
        sessions.lost = tally.sessions_lost;
        sessions.closed = tally.closed.clone();
        sessions.refused = tally.refused.clone();
        sessions.put_out = tally.put_out;
        sessions.put_out_deaf = tally.put_out_deaf;
        sessions.turned_away = tally.turned_away;
        sessions.churn_due = tally.churn_due;
        sessions.churn_missed = tally.churn_missed;
        sessions.churn_lost = tally.churn_lost;
        sessions.opened = tally.opened;
        sessions.opened_per_s = tally.opened as f64 / window.hold_s();
        let other_hosts = parts[1..].iter().map(|part| part.about.host.clone()).collect();
        let scrapes = parts.iter().find_map(|part| part.scrapes.as_ref()).map(ScrapeReport::of);
        let mut report = Self {
            about: About { relay_version: seen.about.relay_version.clone(), other_hosts, ..about.clone() },
            scenario: scenario.clone(),
            valid: true,
            doubts: Vec::new(),
            slo: Vec::new(),
            sessions,
            objects: objects(&tally, window),
            delay_ms: Quantiles::of(&tally.delay),
            setup_ms: Quantiles::of(&tally.setup),
            generator,
            relay: Relay { scrapes, ..relay_report(&relay, &tally, window) },
            aborted: parts.iter().find_map(|part| part.aborted.clone()),
            stages: stage_reports(scenario, &stages, window),
            measured_from_unix_ms: parts[0].measured_from_unix_ms,
            intervals: pieces(&intervals, window, parts),
            figures: BTreeMap::new(),
            delay_curve: tally.delay.curve(),
        };
        report.figures = slo::NAMES.iter().filter_map(|name| Some((*name, report.value(name)?))).collect();
        report.doubts = report.find_doubts();
        let from = |part: &Part| part.measured_from_unix_ms;
        let apart_ms =
            parts.iter().map(from).max().zip(parts.iter().map(from).min()).map_or(0, |(last, first)| last - first);
        if apart_ms > APART_MAX_MS {
            let apart_s = apart_ms as f64 / 1e3;
            report
                .doubts
                .push(format!("the generators measured {apart_s:.1} s apart: give all of them one --begin-at"));
        }
        report.valid = report.doubts.is_empty();
        report.slo = scenario.slo.iter().map(|expression| report.judge(expression)).collect();
        let valid = report.valid;
        report.stages.iter_mut().for_each(|stage| stage.holds = valid.then(|| stage.satisfies(&scenario.slo)));
        report
    }

    /// Whether the result is valid, the run went to its end, and every SLO holds.
    pub fn passes(&self) -> bool {
        self.valid && self.aborted.is_none() && self.slo.iter().all(|verdict| verdict.holds == Some(true))
    }

    /// What an SLO expression calls by this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        // Where nothing came, nothing was fast.
        let of = |quantiles: &Quantiles, value: f64| (quantiles.count > 0).then_some(value);
        let Self { delay_ms, setup_ms, .. } = self;
        Some(match name {
            "p50_delay_ms" => return of(delay_ms, delay_ms.p50),
            "p90_delay_ms" => return of(delay_ms, delay_ms.p90),
            "p99_delay_ms" => return of(delay_ms, delay_ms.p99),
            "p999_delay_ms" => return of(delay_ms, delay_ms.p999),
            "max_delay_ms" => return of(delay_ms, delay_ms.max),
            "p50_setup_ms" => return of(setup_ms, setup_ms.p50),
            "p99_setup_ms" => return of(setup_ms, setup_ms.p99),
            "max_setup_ms" => return of(setup_ms, setup_ms.max),
            "loss" => self.objects.loss,
            "late" => share(self.objects.late, self.objects.delivered),
            "duplicates" => self.objects.duplicates as f64,
            "reordered" => self.objects.reordered as f64,
            "trespasses" => self.objects.trespasses as f64,
            "delivered" => self.objects.delivered as f64,
            "delivered_per_s" => self.objects.delivered_per_s,
            "sessions_lost" => self.sessions.lost as f64,
            "refused" => self.sessions.refused.values().sum::<u64>() as f64,
            "opened_per_s" => self.sessions.opened_per_s,
            "relay_cpu_us_per_session_opened" => return self.relay.cpu_us_per_session_opened,
            "relay_cpu_us_per_delivered" => return self.relay.cpu_us_per_delivered,
            "relay_rss_mib" => return self.relay.rss_mib,
            _ => return None,
        })
    }

    fn judge(&self, expression: &str) -> SloVerdict {
        let holds = Slo::parse(expression).is_ok_and(|slo| slo.holds(&|name| self.value(name)));
        SloVerdict { expression: expression.to_owned(), holds: self.valid.then_some(holds) }
    }

    /// Everything that makes the result one of the generator rather than of the relay.
    fn find_doubts(&self) -> Vec<String> {
        let validity = &self.scenario.validity;
        let mut doubts = Vec::new();
        for (worker, busy) in self.generator.busy.iter().enumerate().filter(|(_, busy)| **busy > validity.busy_max) {
            doubts.push(format!(
                "the generator was the cap: worker {worker} was busy for {:.0} % of the time (bound {:.0} %)",
                busy * 100.0,
                validity.busy_max * 100.0
            ));
        }
        let lag = self.generator.lag_ms.p99;
        if lag > validity.lag_p99_ms_max {
            doubts.push(format!(
                "the generator was the cap: it sent {lag:.1} ms late at the 99th percentile (bound {} ms)",
                validity.lag_p99_ms_max
            ));
        }
        let Generator { socket_drops, send_errors, .. } = self.generator;
        if socket_drops > 0 {
            doubts.push(format!(
                "the generator was the cap: its kernel dropped {socket_drops} datagrams that it did not read in time"
            ));
        }
        if send_errors > 0 {
            doubts.push(format!("the generator's kernel did not take {send_errors} packets"));
        }
        let Sessions { planned, alive_after, subscriptions_silent_before, subscriptions_silent_after, .. } =
            self.sessions;
        if alive_after + self.sessions.flooders_planned < planned {
            doubts.push(format!("only {alive_after} of {planned} sessions were alive after the measured part"));
        }
        if subscriptions_silent_before > 0 {
            doubts
                .push(format!("{subscriptions_silent_before} subscriptions were silent when the measured part began"));
        }
        if subscriptions_silent_after > 0 {
            doubts.push(format!("{subscriptions_silent_after} subscriptions were silent when the measured part ended"));
        }
        if self.sessions.watches_silent_after > 0 {
            let silent = self.sessions.watches_silent_after;
            doubts.push(format!("{silent} watches were silent when the measured part ended"));
        }
        if self.objects.unsent > 0 {
            doubts.push(format!(
                "the generator's QUIC still held {} objects back when the run was over",
                self.objects.unsent
            ));
        }
        doubts.extend(self.find_doubts_aside());
        if self.objects.due == 0 && self.scenario.sends() {
            doubts.push("nothing was due in the measured part".to_owned());
        }
        doubts
    }

    /// Whether those were really there whose own delays and losses are not measured.
    fn find_doubts_aside(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let Objects { flood_due, flood_taken, .. } = self.objects;
        if self.scenario.flood.is_some() && flood_taken * 2 <= flood_due {
            doubts.push(format!("there was no lasting flood: {flood_taken} of its {flood_due} objects could be sent"));
        }
        doubts.extend(self.find_doubts_outside());
        if self.scenario.churn.is_none() {
            return doubts;
        }
        let Sessions { churn_due, churn_missed, churn_lost, opened, .. } = self.sessions;
        if churn_missed * 10 > churn_due {
            doubts.push(format!(
                "{churn_missed} of {churn_due} comings found the session before them not ready: stays are too short"
            ));
        }
        if churn_lost > 0 {
            doubts.push(format!("{churn_lost} of those who come and go were sent away"));
        }
        if opened == 0 {
            doubts.push("no session was opened in the measured part".to_owned());
        }
        doubts
    }

    /// Whether outsiders really tried.
    fn find_doubts_outside(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.scenario.outsiders.is_none() {
            return doubts;
        }
        let Sessions { put_out, put_out_deaf, turned_away, put_out_planned: planned, outsiders_planned, .. } =
            self.sessions;
        if put_out < planned {
            doubts.push(format!("only {put_out} of {planned} members were put out"));
        }
        if put_out_deaf > 0 {
            doubts.push(format!("{put_out_deaf} members had heard nothing when they were put out"));
        }
        // What was granted was asked for, too, and is for the SLOs to judge.
        let asked = turned_away + self.objects.trespasses;
        if asked < planned + outsiders_planned {
            doubts.push(format!("outsiders asked {asked} times only: not all of them did"));
        }
        doubts
    }
}

impl SloVerdict {
    /// What became of it, for people.
    pub fn word(&self) -> &'static str {
        match self.holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "not judged",
        }
    }
}

impl ScrapeReport {
    fn of(scrapes: &Scrapes) -> Self {
        let Scrapes { time, bytes_max, failed } = scrapes;
        Self { count: time.count(), failed: *failed, bytes_max: *bytes_max, time_ms: Quantiles::of(time) }
    }
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            p50: histogram.quantile_ms(0.5),
            p90: histogram.quantile_ms(0.9),
            p99: histogram.quantile_ms(0.99),
            p999: histogram.quantile_ms(0.999),
            max: histogram.max_ms(),
        }
    }
}

fn objects(tally: &Tally, window: Window) -> Objects {
    let lost = tally.expected.saturating_sub(tally.delivered);
    Objects {
        due: tally.due,
        held_back: tally.held_back,
        expected: tally.expected,
        delivered: tally.delivered,
        unsent: tally.unsent,
        flood_due: tally.flood_due,
        flood_taken: tally.flood_taken,
        lost,
        loss: lost as f64 / tally.expected.max(1) as f64,
        late: tally.late,
        duplicates: tally.duplicates,
        reordered: tally.reordered,
        trespasses: tally.trespasses,
        delivered_aside: tally.delivered_aside,
        delivered_per_s: tally.delivered as f64 / window.hold_s(),
        delivered_mbit_per_s: tally.bytes as f64 * 8.0 / 1e6 / window.hold_s(),
    }
}

fn relay_report(used: &RelayUse, tally: &Tally, window: Window) -> Relay {
    let deliveries = (tally.delivered + tally.delivered_aside).max(1) as f64;
    let sent = used.counters.get("supernode_udp_datagrams_total{direction=\"out\"}");
    let received = used.counters.get("supernode_udp_datagrams_total{direction=\"in\"}");
    let a_second = |count: f64| count / used.elapsed_s.max(1e-3);
    let only_openings = tally.opened > 0 && tally.due == 0;
    let delivered = used.counters.get("supernode_objects_delivered_total").filter(|count| **count > 0.0);
    // The relay may have been looked at a little late: what counts is the share of the time between.
    let busy = used.cpu_s.filter(|_| used.elapsed_s > 0.0).map(|cpu_s| cpu_s / used.elapsed_s);
    Relay {
        busy,
        cpu_us_per_session_opened: busy
            .filter(|_| only_openings)
            .map(|busy| busy * window.hold_s() * 1e6 / tally.opened as f64),
        datagrams_per_s: sent.zip(received).map(|(sent, received)| a_second(sent + received)),
        delivered_per_s: delivered.map(|count| a_second(*count)),
        cpu_us_per_delivered: busy
            .filter(|_| tally.delivered + tally.delivered_aside > 0)
            .map(|busy| busy * window.hold_s() * 1e6 / deliveries),
        rss_mib: used.rss_bytes.map(|bytes| bytes as f64 / 1024.0 / 1024.0),
        datagrams_out_per_delivered: sent.zip(delivered).map(|(sent, delivered)| sent / delivered),
        drops: used.drops(),
        scrapes: None,
    }
}

impl StageReport {
    /// What became of it.
    fn word(&self) -> &'static str {
        match self.holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "not judged",
        }
    }

    /// Whether those of these expressions hold that it can judge.
    fn satisfies(&self, expressions: &[String]) -> bool {
        let value = |name: &str| {
            let of = |value: f64| (self.delay_ms.count > 0).then_some(value);
            match name {
                "p50_delay_ms" => of(self.delay_ms.p50),
                "p90_delay_ms" => of(self.delay_ms.p90),
                "p99_delay_ms" => of(self.delay_ms.p99),
                "p999_delay_ms" => of(self.delay_ms.p999),
                "max_delay_ms" => of(self.delay_ms.max),
                "loss" => Some(self.loss),
                "delivered_per_s" => Some(self.delivered_per_s),
                _ => None,
            }
        };
        let knows = |name: &&str| name.ends_with("_delay_ms") || ["loss", "delivered_per_s"].contains(name);
        let parsed = expressions.iter().filter_map(|expression| Slo::parse(expression).ok());
        parsed.filter(|slo| slo.names().iter().all(&knows)).all(|slo| slo.holds(&value))
    }
}

fn add_pieces(sums: &mut Vec<Interval>, pieces: &[Interval]) {
    if sums.len() < pieces.len() {
        sums.resize_with(pieces.len(), Interval::default);
    }
    sums.iter_mut().zip(pieces).for_each(|(sum, part)| sum.add(part));
}

/// Those that were come to; one that takes no time is none.
fn stage_reports(scenario: &Scenario, stages: &[Interval], window: Window) -> Vec<StageReport> {
    let mut begin_s = 0.0;
    let mut reports = Vec::new();
    for (place, stage) in scenario.stages.iter().enumerate() {
        let (at_s, for_s) = (begin_s, stage.for_s.min(window.hold_s() - begin_s));
        begin_s += stage.for_s;
        if for_s <= 0.0 {
            continue;
        }
        let nothing = Interval::default();
        let part = stages.get(place).unwrap_or(&nothing);
        reports.push(StageReport {
            for_s,
            to: stage.to,
            at_s,
            due_per_s: part.due as f64 / for_s,
            delivered_per_s: part.delivered as f64 / for_s,
            delay_ms: Quantiles::of(&part.delay),
            loss: loss(part),
            holds: None,
        });
    }
    reports
}

fn loss(part: &Interval) -> f64 {
    part.expected.saturating_sub(part.delivered) as f64 / part.expected.max(1) as f64
}

fn pieces(intervals: &[Interval], window: Window, parts: &[Part]) -> Vec<IntervalReport> {
    let piece = |(place, part): (usize, &Interval)| {
        let busy = || parts.iter().filter_map(|generator| generator.busy.get(place));
        let relay_busy = busy().find_map(|(relay, _)| *relay);
        let generators_busy = busy().filter_map(|(_, own)| *own).reduce(|one, other| one + other);
        IntervalReport::of(place, part, window, (relay_busy, generators_busy))
    };
    intervals.iter().enumerate().map(piece).collect()
}
