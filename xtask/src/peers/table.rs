//! The result as Markdown, to be read or put into docs/PERFORMANCE.md as it is; and all of it as JSON.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::{Value, json};

use super::{
    conditions::Conditions,
    load::Measured,
    results::{Results, Row, Spread},
    works::{Relay, Run, Traffic},
};

/// Everything.
pub(super) fn whole(conditions: &Conditions, rows: &[Row], results: &Results, left_out: &[String]) -> String {
    let mut text = conditions.paragraph() + &compared(rows) + &runs(results) + &relays(results);
    if !left_out.is_empty() {
        text += &format!("\nLeft out, because the time was over:\n\n- {}\n", left_out.join("\n- "));
    }
    text
}

/// The same for programs, with the result of every round.
pub(super) fn details(conditions: &Conditions, rows: &[Row], results: &Results, left_out: &[String]) -> Value {
    let run = |run: Run| {
        let rounds = results.outcomes(run).map(|(round, outcome)| match outcome {
            Ok(measured) => json!({ "round": round + 1, "result": measured }),
            Err(error) => json!({ "round": round + 1, "failed": error }),
        });
        json!({ "relay": run.relay.name(), "work": run.traffic.name(), "rounds": rounds.collect::<Vec<_>>() })
    };
    let ceiling = |(relay, climbs): (&Relay, &Vec<_>)| json!({ "relay": relay.name(), "climbs": climbs });
    json!({
        "conditions": conditions,
        "rows": rows,
        "runs": results.runs().map(run).collect::<Vec<_>>(),
        "ceilings": results.ceilings.iter().map(ceiling).collect::<Vec<_>>(),
        "left_out": left_out,
    })
}

fn compared(rows: &[Row]) -> String {
    let mut text =
        "\n| work | against | ours | theirs | ratio | rounds | target | |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let target = row.target.map(|target| format!("{target}")).unwrap_or_default();
        let word = match (&row.flaw, row.target) {
            (Some(flaw), _) => format!("INVALID: {flaw}"),
            (None, Some(target)) if row.ratio.median > target => "missed".to_owned(),
            (None, Some(_)) => "met".to_owned(),
            (None, None) => String::new(),
        };
        let Row { work, against, ratio, rounds, values: [ours, theirs], .. } = row;
        let ratio = ratio.shown(2);
        let _ =
            writeln!(text, "| {work} | {against} | {ours:.2} | {theirs:.2} | {ratio} | {rounds} | {target} | {word} |");
    }
    text
}

/// Each run by itself.
fn runs(results: &Results) -> String {
    let mut text = "\n| relay | work | CPU µs | delay p50 / p99 / p99.9 ms | relay busy | clients busy | valid |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for run in results.runs().filter(|run| !matches!(run.traffic, Traffic::Memory { .. })) {
        let spread = |value: fn(&Measured) -> Option<f64>| Spread::of(results.of(run).filter_map(value).collect());
        let cpu = spread(|measured| measured.relay.cpu_us_per_delivered).shown(2);
        let busy = spread(|measured| measured.relay.busy).median;
        let clients = spread(|measured| measured.generator.busy.iter().copied().reduce(f64::max)).median;
        let [p50, p99, p999] = [
            spread(|measured| Some(measured.delay_ms.p50)).shown(2),
            spread(|measured| Some(measured.delay_ms.p99)).shown(2),
            spread(|measured| Some(measured.delay_ms.p999)).shown(2),
        ];
        // The bare sender stamps nothing.
        let delay = if run.relay == Relay::Blast { String::new() } else { format!("{p50} / {p99} / {p999}") };
        let valid = results.of(run).filter(|measured| measured.flaw().is_none()).count();
        let all = results.outcomes(run).count();
        let (relay, work) = (run.relay.name(), run.traffic.name());
        let _ = writeln!(text, "| {relay} | {work} | {cpu} | {delay} | {busy:.2} | {clients:.2} | {valid}/{all} |");
    }
    text
}

/// Each relay by itself.
fn relays(results: &Results) -> String {
    let mut text =
        "\n| relay | start-up ms | idle session KiB | session in a call KiB | highest rate without loss, 400 \
                    clients in pairs | whose cap it was |\n|---|---|---|---|---|---|\n"
            .to_owned();
    let relays: BTreeSet<Relay> = results.runs().map(|run| run.relay).chain(results.ceilings.keys().copied()).collect();
    for relay in relays.into_iter().filter(|relay| *relay != Relay::Blast) {
        let of = |wanted: fn(&Traffic) -> bool, value: fn(&Measured) -> Option<f64>, digits| {
            let runs = results.runs().filter(|run| run.relay == relay && wanted(&run.traffic));
            let values: Vec<f64> = runs.flat_map(|run| results.of(run)).filter_map(value).collect();
            if values.is_empty() { String::new() } else { Spread::of(values).shown(digits) }
        };
        let start_up = of(|_| true, |measured| measured.process.start_up_ms, 0);
        let memory: fn(&Measured) -> Option<f64> = |measured| measured.process.rss_kib_per_session;
        let idle = of(|traffic| matches!(traffic, Traffic::Memory { per_s: 0.0, .. }), memory, 1);
        let active = of(|traffic| matches!(traffic, Traffic::Memory { per_s, .. } if *per_s > 0.0), memory, 1);
        let climbs = results.ceilings.get(&relay).map_or(&[][..], Vec::as_slice);
        let rate = Spread::of(climbs.iter().map(|climbed| climbed.delivered_per_s).collect());
        let rate = if climbs.is_empty() { String::new() } else { format!("{}/s", rate.shown(0)) };
        let stopped: BTreeSet<&str> = climbs.iter().map(|climbed| climbed.stopped.as_str()).collect();
        let stopped = stopped.into_iter().collect::<Vec<_>>().join("; ");
        let name = relay.name();
        let _ = writeln!(text, "| {name} | {start_up} | {idle} | {active} | {rate} | {stopped} |");
    }
    text
}

impl Spread {
    fn shown(self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} [{min:.digits$}-{max:.digits$}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_is_met_or_why_it_is_invalid() {
        let row = |median: f64, target: Option<f64>, flaw: Option<&str>| Row {
            work: "pairs",
            against: "another".into(),
            ratio: Spread { median, min: 0.1, max: 0.9 },
            rounds: 3,
            target,
            values: [1.0, 2.0],
            flaw: flaw.map(str::to_owned),
        };
        let text = compared(&[
            row(0.5, Some(0.5), None),
            row(0.51, Some(0.5), None),
            row(0.1, Some(0.5), Some("round 2: lost")),
            row(0.5, None, None),
        ]);
        let words: Vec<&str> = text.lines().skip(3).filter_map(|line| line.split('|').nth(8)).map(str::trim).collect();
        assert_eq!(words, ["met", "missed", "INVALID: round 2: lost", ""]);
        assert!(text.contains("| 1.00 | 2.00 | 0.51 [0.10-0.90] | 3 | 0.5 |"), "{text}");
    }
}
