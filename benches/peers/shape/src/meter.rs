//! What a run does and counts, whoever carries the objects.
//!
//! Call [`Meter::begin`] once every client is there; then, in a loop, [`Meter::pop`] until it gives nothing, send what
//! it gave and say so with [`Meter::sent`], pass what arrives to [`Meter::received`], and wait until
//! [`Meter::next_at`] at most. [`Meter::is_over`] says when to stop. Clients that had nothing to say are then asked
//! whether they are still there: [`Meter::call_roll`], and the same loop again.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use supernode_measure::{
    histogram::Histogram,
    relay_probe::RelayUse,
    schedule::{Due, Schedule},
    stamp::Stamp,
};

use crate::{
    drops::own_socket_drops,
    report::{Generator, Objects, Quantiles, Relay, Report, Sessions},
    seen::Seen,
    work::Work,
};

/// In front of the stamp: the number of the client that sent it.
pub(crate) const HEAD_BYTES: usize = 4;
/// Clients that hand objects over later than this at the 99th percentile were the cap, in ms. As in supernode-load.
const LAG_P99_MS_MAX: f64 = 5.0;
/// Clients that had a CPU for more than this share of the time were the cap. As in supernode-load.
const BUSY_MAX: f64 = 0.9;
/// Everybody says one thing within this time when the roll is called, in s.
const ROLL_S: f64 = 1.0;
/// Longest wait, so that the run's boundaries are seen.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Counts one run.
pub struct Meter {
    work: Work,
    origin: Instant,
    schedule: Schedule,
    from_ns: u64,
    until_ns: u64,
    /// What objects are filled with; the stamp goes in front.
    noise: Vec<u8>,
    due: u64,
    delivered: u64,
    duplicates: u64,
    delay: Histogram,
    lag: Histogram,
    /// By receiver and then by the sender's place in the room.
    seen: Vec<Seen>,
    cpu_s: [Option<f64>; 2],
    /// Datagrams that our own sockets had dropped when it began.
    drops_before: u64,
    /// When the roll call ends, if there is one, and what has arrived of it.
    roll: Option<Roll>,
    relay_before: Option<RelayUse>,
    relay: RelayUse,
}

struct Roll {
    from_ns: u64,
    until_ns: u64,
    heard: u64,
}

impl Meter {
    /// Everybody is there: the schedule begins now, the measured part after the warm-up.
    pub fn begin(work: &Work) -> Self {
        let mut rng = StdRng::seed_from_u64(work.seed);
        let mut noise = vec![0; work.object_bytes];
        rng.fill_bytes(&mut noise);
        let talkers = if work.objects_per_second > 0.0 { work.clients() } else { 0 };
        let phases: Vec<(f64, u32)> = (0..talkers).map(|client| (rng.random(), client)).collect();
        let ns = |s: f64| (s * 1e9) as u64;
        let from_ns = ns(work.warm_up_s);
        Self {
            origin: Instant::now(),
            schedule: Schedule::new(work.objects_per_second, 0, phases),
            from_ns,
            until_ns: from_ns + ns(work.hold_s),
            noise,
            due: 0,
            delivered: 0,
            duplicates: 0,
            delay: Histogram::default(),
            lag: Histogram::default(),
            seen: vec![Seen::default(); (work.clients() * work.members) as usize],
            cpu_s: [None; 2],
            drops_before: own_socket_drops(),
            roll: None,
            relay_before: None,
            relay: RelayUse::default(),
            work: work.clone(),
        }
    }

    /// The next object that is due: its source is the client that sends it.
    pub fn pop(&mut self, now: Instant) -> Option<Due> {
        let now_ns = self.ns(now);
        self.cross_boundaries(now_ns);
        let until_ns = self.roll.as_ref().map_or(self.until_ns, |roll| roll.from_ns + (ROLL_S * 1e9) as u64);
        if now_ns >= until_ns && self.schedule.peek_ns().is_none_or(|next_ns| next_ns >= until_ns) {
            return None;
        }
        let due = self.schedule.pop(now_ns)?;
        self.due += u64::from(self.is_measured(due.at_ns));
        Some(due)
    }

    /// What to send: [`Work::object_bytes`] with the stamp in front.
    pub fn payload(&mut self, due: Due) -> &[u8] {
        let (head, rest) = self.noise.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&due.source.to_be_bytes());
        rest[..Stamp::BYTES].copy_from_slice(&Stamp { due_ns: due.at_ns, sequence: due.sequence }.to_bytes());
        &self.noise
    }

    /// An object has been handed over, as far as its client can know.
    pub fn sent(&mut self, due_ns: u64, now: Instant) {
        if self.is_measured(due_ns) {
            self.lag.record_us(self.ns(now).saturating_sub(due_ns) / 1000);
        }
    }

    /// A client has received something. What is no object of this run does not count.
    pub fn received(&mut self, receiver: u32, payload: &[u8], at: Instant) {
        let Some((source, rest)) = payload.split_first_chunk::<HEAD_BYTES>() else { return };
        let Some(stamp) = Stamp::read(rest) else { return };
        let source = u32::from_be_bytes(*source);
        if self.work.room(source) != self.work.room(receiver) || payload.len() != self.work.object_bytes {
            return;
        }
        let flow = &mut self.seen[(receiver * self.work.members + source % self.work.members) as usize];
        let new = flow.is_new(stamp.sequence);
        if let Some(roll) = self.roll.as_mut().filter(|roll| stamp.due_ns >= roll.from_ns) {
            roll.heard += u64::from(new);
        }
        if !self.is_measured(stamp.due_ns) {
            return;
        }
        if new {
            self.delivered += 1;
            self.delay.record_us(self.ns(at).saturating_sub(stamp.due_ns) / 1000);
        } else {
            self.duplicates += 1;
        }
    }

    /// When to look again at the latest.
    pub fn next_at(&self, now: Instant) -> Instant {
        let next = self.schedule.peek_ns().map(|next_ns| self.origin + Duration::from_nanos(next_ns));
        next.unwrap_or(now + WAIT_MAX).min(now + WAIT_MAX)
    }

    /// Whether everything that was under way has had its time.
    pub fn is_over(&self, now: Instant) -> bool {
        let until_ns = self.roll.as_ref().map_or(self.until_ns, |roll| roll.until_ns);
        self.cpu_s[1].is_some() && self.ns(now) >= until_ns + (self.work.linger_s * 1e9) as u64
    }

    /// Clients that had nothing to say have been measured: now each says one thing to all others in its room. What does
    /// not arrive is a session that had died unnoticed.
    pub fn call_roll(&mut self, now: Instant) {
        let from_ns = self.ns(now);
        let clients = self.work.clients();
        let phases = (0..clients).map(|client| (f64::from(client) / f64::from(clients), client));
        self.schedule = Schedule::new(1.0 / ROLL_S, from_ns, phases);
        self.roll = Some(Roll { from_ns, until_ns: from_ns + (ROLL_S * 1e9) as u64, heard: 0 });
    }

    /// What came of it.
    pub fn report(&self) -> Report {
        let expected = self.due * u64::from(self.work.members - 1);
        let lost = expected.saturating_sub(self.delivered);
        let busy = match self.cpu_s {
            [Some(before), Some(after)] => (after - before) / self.work.hold_s,
            _ => 0.0,
        };
        let relay_busy =
            self.relay.cpu_s.filter(|_| self.relay.elapsed_s > 0.0).map(|cpu_s| cpu_s / self.relay.elapsed_s);
        let delivered = self.delivered.max(1) as f64;
        let mut report = Report {
            valid: true,
            doubts: Vec::new(),
            sessions: Sessions { planned: self.work.clients() },
            objects: Objects {
                expected,
                delivered: self.delivered,
                loss: lost as f64 / expected.max(1) as f64,
                duplicates: self.duplicates,
                delivered_per_s: self.delivered as f64 / self.work.hold_s,
            },
            delay_ms: Quantiles::of(&self.delay),
            generator: Generator { busy: vec![busy], lag_ms: Quantiles::of(&self.lag) },
            relay: Relay {
                busy: relay_busy,
                cpu_us_per_delivered: relay_busy.map(|busy| busy * self.work.hold_s * 1e6 / delivered),
                rss_mib: self.relay.rss_bytes.map(|bytes| bytes as f64 / 1024.0 / 1024.0),
            },
        };
        report.doubts = doubts(&report);
        report.doubts.extend(self.doubts());
        report.valid = report.doubts.is_empty();
        report
    }

    /// What the report itself does not show.
    fn doubts(&self) -> Option<String> {
        let dropped = own_socket_drops().saturating_sub(self.drops_before);
        if dropped > 0 {
            return Some(format!(
                "the clients were the cap: their kernel dropped {dropped} datagrams that they did not read in time"
            ));
        }
        if !self.work.is_idle() {
            return None;
        }
        let wanted = u64::from(self.work.clients()) * u64::from(self.work.members - 1);
        let heard = self.roll.as_ref().map_or(0, |roll| roll.heard);
        (heard < wanted)
            .then(|| format!("only {heard} of {wanted} were heard when the roll was called: sessions had died"))
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }

    fn is_measured(&self, due_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&due_ns)
    }

    fn cross_boundaries(&mut self, now_ns: u64) {
        let pid = self.work.relay_pid;
        if self.cpu_s[0].is_none() && now_ns >= self.from_ns {
            self.relay_before = Some(RelayUse::read(pid, None));
            self.cpu_s[0] = Some(process_cpu_s());
        }
        if self.cpu_s[1].is_none() && now_ns >= self.until_ns {
            self.cpu_s[1] = Some(process_cpu_s());
            self.relay = RelayUse::since(self.relay_before.take().unwrap_or_default(), pid, None);
        }
    }
}

fn doubts(report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    let (busy, lag) = (report.generator.busy[0], report.generator.lag_ms.p99);
    if busy > BUSY_MAX {
        doubts.push(format!(
            "the clients were the cap: they were busy for {:.0} % of the time (bound {:.0} %)",
            busy * 100.0,
            BUSY_MAX * 100.0
        ));
    }
    if lag > LAG_P99_MS_MAX {
        doubts.push(format!(
            "the clients were the cap: they sent {lag:.1} ms late at the 99th percentile (bound {LAG_P99_MS_MAX} ms)"
        ));
    }
    doubts
}

fn process_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work {
            relay: ([127, 0, 0, 1], 1).into(),
            relay_pid: None,
            rooms: 2,
            members: 3,
            objects_per_second: 10.0,
            object_bytes: 100,
            warm_up_s: 1.0,
            hold_s: 2.0,
            linger_s: 0.5,
            seed: 1,
        }
    }

    #[test]
    fn only_what_was_due_in_the_measured_part_counts_and_each_delivery_once() {
        let work = work();
        let mut meter = Meter::begin(&work);
        let at = |meter: &Meter, ms: u64| meter.origin + Duration::from_millis(ms);
        let mut deliver_all = |until_ms: u64| {
            let mut count = 0;
            while let Some(due) = meter.pop(at(&meter, until_ms)) {
                let payload = meter.payload(due).to_vec();
                assert_eq!(payload.len(), 100);
                let now = at(&meter, due.at_ns / 1_000_000 + 3);
                meter.sent(due.at_ns, now);
                for other in work.others(due.source) {
                    meter.received(other, &payload, now);
                    meter.received(other, &payload, now);
                }
                // Somebody in the other room has no part in it.
                meter.received((due.source + 3) % 6, &payload, now);
                count += 1;
            }
            count
        };
        let sent = deliver_all(999) + deliver_all(2_999) + deliver_all(10_000);
        assert_eq!(sent, 6 * 30, "six clients, ten times a second, three seconds, none left out");
        assert!(!meter.is_over(at(&meter, 3_400)) && meter.is_over(at(&meter, 3_500)));
        let report = meter.report();
        assert_eq!((report.objects.expected, report.objects.delivered), (6 * 20 * 2, 6 * 20 * 2));
        assert_eq!((report.objects.duplicates, report.objects.loss), (6 * 20 * 2, 0.0));
        assert!((2.0..=4.0).contains(&report.delay_ms.p50), "{:?}", report.delay_ms);
    }

    #[test]
    fn idle_clients_are_believed_only_if_each_is_heard_when_the_roll_is_called() {
        for dead in [None, Some(4)] {
            let work = Work { objects_per_second: 0.0, ..work() };
            let mut meter = Meter::begin(&work);
            let at = |meter: &Meter, ms: u64| meter.origin + Duration::from_millis(ms);
            // The measured part, looked at where it begins and ends.
            assert_eq!((meter.pop(at(&meter, 1_000)), meter.pop(at(&meter, 3_000))), (None, None));
            assert!(meter.is_over(at(&meter, 3_500)) && !meter.report().valid, "nobody has been asked yet");
            let roll_at = at(&meter, 4_000);
            meter.call_roll(roll_at);
            let mut said = 0;
            while let Some(due) = meter.pop(at(&meter, 7_000)) {
                let payload = meter.payload(due).to_vec();
                let arrives = dead != Some(due.source);
                let others = work.others(due.source).filter(|_| arrives);
                others.for_each(|other| meter.received(other, &payload, roll_at));
                said += 1;
            }
            assert_eq!(said, 6, "each once");
            assert!(!meter.is_over(at(&meter, 5_400)) && meter.is_over(at(&meter, 5_500)));
            let doubts = meter.report().doubts;
            match dead {
                None => assert_eq!(doubts, Vec::<String>::new()),
                Some(_) => assert!(doubts[0].starts_with("only 10 of 12 were heard"), "{doubts:?}"),
            }
        }
    }

    #[test]
    fn what_does_not_come_is_lost_and_late_clients_are_doubted() {
        let work = work();
        let mut meter = Meter::begin(&work);
        let late = meter.origin + Duration::from_secs(10);
        while let Some(due) = meter.pop(late) {
            meter.sent(due.at_ns, late);
        }
        let report = meter.report();
        assert_eq!((report.objects.delivered, report.objects.loss), (0, 1.0));
        assert!(!report.valid && report.doubts[0].contains("late"), "{:?}", report.doubts);
    }
}
