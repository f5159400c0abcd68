//! The smallest machine that OPERATING's Sizing names, filled from every side at once.

use std::time::{Duration, Instant};

use super::{Attack, Outcome, Report, Run, Target, admitted, unadmitted};
use crate::relay::Setting;

/// Memory of that machine which the relay may have.
pub(crate) const SMALLEST_MACHINE_BYTES: u64 = 512 * 1024 * 1024;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        name: "smallest-machine",
        what: "in a control group of the smallest machine's memory: every entry of the memory table is driven to its \
               bound, one after the other, and none is given back",
        quick: true,
        setting: Setting { memory_bytes: Some(SMALLEST_MACHINE_BYTES), ..Setting::PLAIN },
        run: Run::Rust(fill),
        seconds_min: 10.0,
        rate_min: 0.0,
        judge: |outcome: &Outcome| outcome.at_least("kinds", KINDS.len() as f64),
    }]
}

/// What fills a relay, each by an attack of its own that keeps what it took until the time is over: those who have to get
/// in first, and last what keeps others out.
const KINDS: &[fn(&Target) -> anyhow::Result<Report>] = &[
    admitted::key_packages,
    admitted::labels,
    admitted::status_and_mailbox,
    unadmitted::first_byte_left_out,
    unadmitted::half_open_64,
];

/// All kinds together: one more every moment, so that the call shows which was too much.
fn fill(target: &Target) -> anyhow::Result<Report> {
    let end = Instant::now() + target.duration();
    let threads: Vec<_> = KINDS
        .iter()
        .map(|kind| {
            let left = end.saturating_duration_since(Instant::now());
            let part = Target { seconds: left.as_secs_f64(), ..target.clone() };
            let thread = std::thread::spawn(move || kind(&part));
            std::thread::sleep(Duration::from_secs_f64(target.seconds / 2.0 / KINDS.len() as f64));
            thread
        })
        .collect();
    let mut report = Report::of("kinds");
    for thread in threads {
        match thread.join() {
            Ok(Ok(part)) => {
                report.count += 1;
                report.found(&format!("{}_{}", part.unit, report.count), part.count as f64);
            }
            // A relay that keeps people out for a while has not been filled by them.
            Ok(Err(error)) => eprintln!("one kind came to nothing: {error:#}"),
            Err(_) => anyhow::bail!("a kind panicked"),
        }
    }
    let kinds = report.count as f64;
    report.found("kinds", kinds);
    Ok(report)
}
