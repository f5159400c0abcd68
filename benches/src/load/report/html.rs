//! The report as one page: charts as inline SVG, no script, nothing to fetch.

use std::fmt::Write;

use super::{
    IntervalReport, Report,
    chart::{Chart, Line},
};

const STYLE: &str = "
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--faint:#67707b;--grid:#e2e6ea;--a:#0b66c3;--b:#c2410c;--good:#15803d;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--text:#e6e9ec;--faint:#97a1ab;--grid:#2c3238;--a:#6cb2ff;--b:#ff9b66;--good:#4ade80;--bad:#f87171}}
body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}p.about{color:var(--faint);margin-top:.2rem}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--grid);text-align:right}td:first-child,th:first-child{text-align:left}
.good{color:var(--good)}.bad{color:var(--bad)}small,figcaption{color:var(--faint)}figcaption b{color:var(--text)}
figure{margin:1.5rem 0}svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--faint)}.grid{stroke:var(--grid)}.border{stroke:var(--faint);stroke-dasharray:3 3}
polyline{fill:none;stroke-width:1.6}.line0{stroke:var(--a)}.line1{stroke:var(--b)}.key0{color:var(--a)}.key1{color:var(--b)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px}";

/// A page that needs nothing else.
pub fn page(report: &Report) -> String {
    let about = escape(&report.scenario.about);
    let verdict = match (report.valid, report.passes()) {
        (false, _) => "<span class=bad>invalid: the numbers below are not the relay's</span>",
        (true, false) => "<span class=bad>valid, and an SLO does not hold</span>",
        (true, true) => "<span class=good>valid, and every SLO holds</span>",
    };
    let mut body = format!("<h1>supernode-load: {verdict}</h1><p class=about>{about}</p>\n");
    if !report.doubts.is_empty() || !report.slo.is_empty() {
        body += "<ul>";
        for doubt in &report.doubts {
            let _ = write!(body, "<li class=bad>{}</li>", escape(doubt));
        }
        for slo in &report.slo {
            let class = if slo.holds == Some(true) { "good" } else { "bad" };
            let _ =
                write!(body, "<li><code>{}</code> <b class={class}>{}</b></li>", escape(&slo.expression), slo.word());
        }
        body += "</ul>\n";
    }
    body += &distributions(report);
    body += &stages(report);
    body += &charts(report);
    body += "<h2>All figures</h2>";
    let _ = write!(body, "<pre>{}</pre>", escape(&report.to_string()));
    let scenario = serde_json::to_value(&report.scenario).map(without_nulls).unwrap_or_default();
    let scenario = serde_json::to_string_pretty(&scenario).unwrap_or_default();
    let _ = write!(body, "<h2>Scenario</h2><pre>{}</pre>", escape(&scenario));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>supernode-load</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )
}

/// What a scenario does not have is no part of it.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

fn distributions(report: &Report) -> String {
    let rows = [
        ("delay, due to delivered", report.delay_ms),
        ("setup, due to in its rooms", report.setup_ms),
        ("the generator's own lag", report.generator.lag_ms),
    ];
    let mut table = "<table><tr><th>ms<th>p50<th>p90<th>p99<th>p99.9<th>max</tr>".to_owned();
    for (name, row) in rows {
        let _ = write!(table, "<tr><td>{name}");
        for value in [row.p50, row.p90, row.p99, row.p999, row.max] {
            let _ = write!(table, "<td>{value:.2}");
        }
        table += "</tr>";
    }
    table + "</table>\n"
}

/// What the measured part was made of, and what held in which of it; the charts have a line where each begins.
fn stages(report: &Report) -> String {
    if report.stages.is_empty() {
        return String::new();
    }
    let mut table = "<h2>Stages</h2><table><tr><th>from, s<th>to, s<th>share at its end<th>due/s<th>delivered/s<th>p50, ms<th>p99, \
                     ms<th>lost<th>SLOs of delay, loss and rate</tr>"
        .to_owned();
    for stage in &report.stages {
        let class = if stage.holds == Some(true) { "good" } else { "bad" };
        let _ = write!(
            table,
            "<tr><td>{:.1}<td>{:.1}<td>{:.0} %<td>{:.0}<td>{:.0}<td>{:.2}<td>{:.2}<td>{:.3} %<td class={class}>{}</tr>",
            stage.at_s,
            stage.at_s + stage.for_s,
            stage.to * 100.0,
            stage.due_per_s,
            stage.delivered_per_s,
            stage.delay_ms.p50,
            stage.delay_ms.p99,
            stage.loss * 100.0,
            stage.word()
        );
    }
    table + "</table>\n"
}

fn charts(report: &Report) -> String {
    let over_time = |name, read: fn(&IntervalReport) -> f64| Line {
        name,
        points: report.intervals.iter().map(|interval| (interval.at_s, read(interval))).collect(),
    };
    // The first one begins where the chart does.
    let borders: Vec<f64> = report.stages.iter().skip(1).map(|stage| stage.at_s).collect();
    let chart = |title, up, lines| {
        Chart { title, across: "s", up, lines, marks: Vec::new(), borders: borders.clone() }.figure()
    };
    let mut figures = chart(
        "Delay",
        "ms",
        vec![over_time("p50", |interval| interval.p50_ms), over_time("p99", |interval| interval.p99_ms)],
    );
    figures += &chart(
        "Deliveries",
        "a second",
        vec![
            over_time("delivered", |interval| interval.delivered_per_s),
            over_time("objects due", |interval| interval.due_per_s),
        ],
    );
    figures += &chart("Lost", "%", vec![over_time("lost", |interval| interval.loss * 100.0)]);
    let measured = |name, read: fn(&IntervalReport) -> Option<f64>| Line {
        name,
        points: report.intervals.iter().filter_map(|interval| Some((interval.at_s, read(interval)? * 100.0))).collect(),
    };
    let busy =
        [measured("relay", |interval| interval.relay_busy), measured("generator", |interval| interval.generator_busy)];
    figures += &chart("CPU", "% of one core", busy.into_iter().filter(|line| !line.points.is_empty()).collect());
    figures += &chart("The generator's longest lag", "ms", vec![over_time("lag", |interval| interval.lag_max_ms)]);
    figures += &distribution(report);
    figures
}

/// The delay that a share of deliveries did not exceed, with the slow end drawn out: each nine is as wide as the last.
fn distribution(report: &Report) -> String {
    let nines = |share: f64| -(1.0 - share).max(1e-5).log10();
    let points = report.delay_curve.iter().map(|(share, ms)| (nines(*share), *ms)).collect();
    let marks = [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
    Chart {
        title: "Distribution of delays",
        across: "share of deliveries",
        up: "ms",
        lines: vec![Line { name: "delay", points }],
        marks: marks.map(|(share, text)| (nines(share), text)).into(),
        borders: Vec::new(),
    }
    .figure()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
