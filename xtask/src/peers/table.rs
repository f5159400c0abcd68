//! The result as Markdown, which people can read as it is.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    load::Measured,
    results::{Results, Row, Spread},
    works::{Relay, Run, Traffic},
};

/// The comparison.
pub(super) fn rows(rows: &[Row]) -> String {
    let mut text =
        "\n| work | against | ours | theirs | ratio | target | |\n|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let target = row.target.map(|target| format!("{target}")).unwrap_or_default();
        let word = match row.target {
            _ if !row.valid => "INVALID",
            Some(target) if row.ratio_median > target => "missed",
            Some(_) => "met",
            None => "",
        };
        let Row { work, against, ratio_median, ratio_min, ratio_max, values: [ours, theirs], .. } = row;
        let _ = writeln!(
            text,
            "| {work} | {against} | {ours:.2} | {theirs:.2} | {ratio_median:.2} [{ratio_min:.2}-{ratio_max:.2}] | {target} | {word} |"
        );
    }
    text
}

/// Each run by itself.
pub(super) fn runs(runs: &[Run], results: &Results) -> String {
    let mut text = "\n| relay | work | CPU µs | delay p50 / p99 / p99.9 ms | relay busy | clients busy | KiB a session | valid |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for run in runs {
        let all = results.of(*run);
        let spread = |value: fn(&Measured) -> Option<f64>| Spread::of(all.iter().filter_map(value).collect());
        let cpu = spread(|measured| measured.relay.cpu_us_per_delivered);
        let busy = spread(|measured| measured.relay.busy).median;
        let clients = spread(|measured| measured.generator.busy.iter().copied().reduce(f64::max)).median;
        let rss = spread(|measured| measured.process.map(|process| process.rss_kib_per_session)).median;
        let [p50, p99, p999] = [
            spread(|measured| Some(measured.delay_ms.p50)).median,
            spread(|measured| Some(measured.delay_ms.p99)).median,
            spread(|measured| Some(measured.delay_ms.p999)).median,
        ];
        let valid = all.iter().filter(|measured| measured.valid).count();
        let (cpu, delay) = match run.traffic {
            Traffic::Idle { .. } => (String::new(), String::new()),
            _ => (
                format!("{:.2} [{:.2}-{:.2}]", cpu.median, cpu.min, cpu.max),
                format!("{p50:.2} / {p99:.2} / {p999:.2}"),
            ),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {cpu} | {delay} | {busy:.2} | {clients:.2} | {rss:.0} | {valid}/{} |",
            run.relay.name(),
            run.traffic.name(),
            all.len()
        );
    }
    text
}

/// Each relay by itself.
pub(super) fn relays(results: &Results) -> String {
    let mut start_up_ms: BTreeMap<Relay, Vec<f64>> = BTreeMap::new();
    for (run, all) in results.runs() {
        let times = all.iter().filter_map(|measured| measured.process).map(|process| process.start_up_ms);
        start_up_ms.entry(run.relay).or_default().extend(times);
    }
    results.ceilings.keys().for_each(|relay| {
        start_up_ms.entry(*relay).or_default();
    });
    let mut text = "\n| relay | start-up ms | highest rate without loss, 400 clients in pairs | what stopped it |\n\
                    |---|---|---|---|\n"
        .to_owned();
    for (relay, times) in start_up_ms.into_iter().filter(|(relay, _)| *relay != Relay::Blast) {
        let times = Spread::of(times);
        let ceiling = results.ceilings.get(&relay);
        let rate = ceiling.map(|climbed| format!("{:.0}/s", climbed.delivered_per_s)).unwrap_or_default();
        let stopped = ceiling.map(|climbed| climbed.stopped.as_str()).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {:.0} [{:.0}-{:.0}] | {rate} | {stopped} |",
            relay.name(),
            times.median,
            times.min,
            times.max
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_is_met() {
        let row = |ratio_median: f64, target: Option<f64>, valid: bool| Row {
            work: "pairs".into(),
            against: "another".into(),
            ratio_median,
            ratio_min: 0.1,
            ratio_max: 0.9,
            target,
            valid,
            values: [1.0, 2.0],
        };
        let text = rows(&[
            row(0.5, Some(0.5), true),
            row(0.51, Some(0.5), true),
            row(0.1, Some(0.5), false),
            row(0.5, None, true),
        ]);
        let words: Vec<&str> = text.lines().skip(3).filter_map(|line| line.split('|').nth(7)).map(str::trim).collect();
        assert_eq!(words, ["met", "missed", "INVALID", ""]);
        assert!(text.contains("| 1.00 | 2.00 | 0.51 [0.10-0.90] | 0.5 |"), "{text}");
    }
}
