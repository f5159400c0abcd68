//! The works of many at full size, one after the other, with the relay in this process: what must hold, whatever the machine
//! makes of them. How much comes and how late is measured elsewhere (docs/PERFORMANCE.md).

#![allow(clippy::print_stdout, reason = "a program for people to read")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use supernode_benches::load::{
    report::Report,
    run::{Options, RunError, run},
    scenario::{SHIPPED, Scenario},
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Door, Relay, Setup};

/// Shipped scenarios, and how many shards the relay has.
const WORKS: &[(&str, usize)] = &[("webinar", 1), ("rooms-20x20", 1), ("rooms-20x20", 2), ("stage", 1)];
/// Shorter than shipped. A busy machine makes the generator late; what is checked here is that nothing is lost or miscounted.
const OVERRIDES: &[&str] = &["ramp_s=2", "hold_s=4", "validity.lag_p99_ms_max=1000", "validity.busy_max=1.0"];
/// How much later than its bound an object may be found waiting: a shard looks every 20 ms, if it has a CPU.
const LOOK: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("An unoptimised relay is too slow for 380,000 deliveries a second: build with --profile gate");
        return ExitCode::FAILURE;
    }
    for (name, shards) in WORKS {
        println!("\n{name} on {shards} shards");
        works(name, *shards);
    }
    println!("\n{} works, all as they must be", WORKS.len());
    ExitCode::SUCCESS
}

/// Runs a shipped scenario for a shorter time, with somebody who looks at the relay all the while. Ends the program if
/// something does not hold.
fn works(name: &str, shards: usize) {
    let limits = Limits { presence_linger: Duration::from_millis(300), ..Limits::default() };
    let relay = Relay::of(Setup::new(shards, Door::Everybody, limits.clone()));
    let watch = Watch::start(&relay);
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("it is shipped");
    let report = run_scenario(&relay, text).expect("everybody gets in");
    println!("{report}");
    let most = watch.finish();
    relay.assert_empty_blocking();

    let (objects, sessions, ledger) = (&report.objects, &report.sessions, relay.ledger());
    assert!(objects.delivered > 0 && objects.delivered + objects.delivered_aside <= ledger.delivered, "{ledger:?}");
    assert_eq!((objects.duplicates, objects.reordered), (0, 0));
    assert_eq!(objects.trespasses, 0, "outsiders were sent or granted something");
    let outsiders = report.scenario.outsiders.as_ref().expect("somebody is there who must get nothing");
    assert!(outsiders.strangers > 0 && outsiders.kicked > 0);
    assert!(sessions.put_out > 0 && sessions.put_out_deaf == 0, "{sessions:?}");
    assert!(sessions.turned_away > sessions.put_out, "all of them asked: {sessions:?}");
    assert!(sessions.closed.is_empty() && sessions.refused.is_empty(), "{sessions:?}");

    assert!(most.looks > 100, "{most:?}");
    assert!(most.datagram_bytes <= limits.queue_bytes_max, "{most:?}");
    assert!(most.stream_bytes <= limits.queue_bytes_max, "{most:?}");
    assert!(most.queue_oldest <= limits.queue_age_max + LOOK, "{most:?}");
    let pictures = if report.scenario.video.is_some() { 1 } else { 0 };
    assert!(most.cached_bytes <= pictures * limits.group_cache_track_bytes_max, "{most:?}");
    assert_eq!(most.cached_bytes > 0, pictures > 0, "{most:?}");
}

/// Runs a scenario against a relay in this process.
fn run_scenario(relay: &Relay, text: &str) -> Result<Report, RunError> {
    let overrides: Vec<String> = OVERRIDES.iter().map(|given| (*given).to_owned()).collect();
    let options = Options {
        relay: relay.address,
        pin: relay.pin,
        token: String::new(),
        scenario: Scenario::parse("work", text, &overrides).expect("a shipped scenario"),
        relay_pid: Some(std::process::id()),
        metrics: None,
        scrape_every: None,
        begin_at_unix_s: None,
        command_line: Vec::new(),
    };
    run(&options, &mut |_| {})
}

/// Looks at a relay every few milliseconds.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Most>,
}

/// The most that it held.
#[derive(Debug, Default)]
struct Most {
    looks: usize,
    cached_bytes: usize,
    datagram_bytes: usize,
    stream_bytes: usize,
    queue_oldest: Duration,
}

impl Watch {
    fn start(relay: &Relay) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (handle, counters, end) = (relay.handle(), relay.counters(), ended.clone());
        let thread = thread::spawn(move || {
            let mut most = Most::default();
            while !end.load(Ordering::Relaxed) {
                for census in handle.census() {
                    most.looks += 1;
                    most.cached_bytes = most.cached_bytes.max(census.cached_bytes);
                    most.datagram_bytes = most.datagram_bytes.max(census.datagram_bytes_most);
                    most.stream_bytes = most.stream_bytes.max(census.stream_bytes_most);
                }
                for counters in &counters {
                    let oldest = Duration::from_micros(counters.snapshot().0.queue_oldest_us);
                    most.queue_oldest = most.queue_oldest.max(oldest);
                }
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        Self { ended, thread }
    }

    fn finish(self) -> Most {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looks")
    }
}
