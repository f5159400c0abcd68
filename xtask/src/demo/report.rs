//! What a call came to, and whether all that was promised held.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    shown::{Figures, Shown},
};
use supernode_media_files::compare::{self, Comparison};

/// Opus packets a second in the samples.
pub(super) const AUDIO_PACKETS_PER_SECOND: u64 = 50;

/// The last line of `supernode-call --json`. What else it says is not needed here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Side {
    /// Audio packets sealed and sent.
    pub(super) audio_sent: u64,
    /// Audio packets received and opened.
    pub(super) audio_received: u64,
    /// Video frames sealed and sent.
    pub(super) video_sent: u64,
    /// Video frames received and opened.
    pub(super) video_received: u64,
    /// The number both people can compare.
    pub(super) safety_number: String,
    /// Half of what came was faster than this.
    pub delay_us_p50: u64,
    /// All but one in a hundred was faster than this.
    pub delay_us_p99: u64,
    /// Longest time in which no packet of somebody's sound came.
    pub(super) silence_ms_max: u64,
}

impl Side {
    /// Finds it in what the program printed.
    ///
    /// # Errors
    /// If the last line is something else.
    pub(super) fn parse(name: &str, stdout: &str) -> anyhow::Result<Self> {
        let last = stdout.lines().rfind(|line| !line.trim().is_empty());
        let last = last.with_context(|| format!("{name} printed no result"))?;
        serde_json::from_str(last).with_context(|| format!("{name}'s last line is no result"))
    }
}

/// One direction of one medium: what one side says it sent, the other says it received, and the files show.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    name: String,
    sent: u64,
    received: u64,
    files: Comparison,
}

impl Flow {
    /// Compares the source file with the recording.
    ///
    /// # Errors
    /// If either file is malformed.
    pub(super) fn new(
        name: impl Into<String>,
        sent: u64,
        received: u64,
        source: &Path,
        recording: &Path,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let files = compare::files(source, recording)
            .with_context(|| format!("{name}: {} and {}", source.display(), recording.display()))?;
        Ok(Self { name, sent, received, files })
    }

    /// Whether everything sent arrived and is in the recording, byte for byte and in order.
    pub(super) fn is_identical(&self) -> bool {
        let Comparison { received, identical, headers_identical, .. } = self.files;
        self.sent > 0
            && self.sent == self.received
            && self.sent == received as u64
            && identical == received
            && headers_identical
    }

    pub(super) fn line(&self) -> String {
        let Comparison { received, identical, headers_identical, .. } = self.files;
        let Self { name, sent, received: counted, .. } = self;
        let headers = if headers_identical { "same headers" } else { "OTHER HEADERS" };
        format!(
            "  {name:<14} {sent:>5} sent, {counted:>5} received, {received:>5} recorded, {identical:>5} identical, {headers}"
        )
    }
}

/// Everything the demo found out.
#[derive(Debug, Clone)]
pub(super) struct Report {
    /// How long the call was to last.
    pub(super) seconds: u64,
    /// The caller's and the callee's own figures.
    pub(super) sides: [Side; 2],
    /// Audio and video, both ways.
    pub(super) flows: Vec<Flow>,
    /// The relay's part.
    pub(super) shown: Shown,
}

/// The line for programs; its keys are a promise.
#[derive(Debug, Serialize)]
struct Json {
    audio_sent: u64,
    audio_received: u64,
    video_sent: u64,
    video_received: u64,
    media_identical: bool,
    safety_numbers_equal: bool,
    delay_us_p50: u64,
    delay_us_p99: u64,
    #[serde(flatten)]
    relay: Figures,
}

impl Outcome for Report {
    fn shown(&mut self) -> &mut Shown {
        &mut self.shown
    }

    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut must = |held: bool, sentence: String| {
            if !held {
                failures.push(sentence);
            }
        };
        must(!self.flows.is_empty(), "nothing was to be sent".into());
        for flow in &self.flows {
            must(flow.is_identical(), format!("{}: what was sent is not what was recorded", flow.name));
        }
        must(self.safety_numbers_equal(), "the safety numbers differ or are empty".into());
        // A call that hardly took place would pass everything else. A source that is shorter than the call ends.
        for flow in self.flows.iter().filter(|flow| flow.name.starts_with("audio")) {
            let least = (self.seconds * AUDIO_PACKETS_PER_SECOND).min(flow.files.source as u64) / 2;
            must(
                flow.sent >= least,
                format!("{}: {} packets in {} s: at least {least}", flow.name, flow.sent, self.seconds),
            );
        }
        failures.extend(self.shown.failures());
        failures
    }

    fn text(&self) -> String {
        let [a, b] = &self.sides;
        let mut lines: Vec<String> = self.flows.iter().map(Flow::line).collect();
        lines.push(format!(
            "  safety number  {} ({})",
            a.safety_number,
            if self.safety_numbers_equal() { "the same at both ends" } else { "NOT THE SAME" }
        ));
        for (name, side) in [("A", a), ("B", b)] {
            lines.push(format!("  delay at {name}     p50 {} µs, p99 {} µs", side.delay_us_p50, side.delay_us_p99));
        }
        lines.extend(self.shown.lines());
        lines.join("\n")
    }

    fn json(&self) -> anyhow::Result<String> {
        let [a, b] = &self.sides;
        Ok(serde_json::to_string(&Json {
            audio_sent: a.audio_sent + b.audio_sent,
            audio_received: a.audio_received + b.audio_received,
            video_sent: a.video_sent + b.video_sent,
            video_received: a.video_received + b.video_received,
            media_identical: !self.flows.is_empty() && self.flows.iter().all(Flow::is_identical),
            safety_numbers_equal: self.safety_numbers_equal(),
            delay_us_p50: a.delay_us_p50.max(b.delay_us_p50),
            delay_us_p99: a.delay_us_p99.max(b.delay_us_p99),
            relay: self.shown.figures(),
        })?)
    }
}

impl Report {
    fn safety_numbers_equal(&self) -> bool {
        let [a, b] = &self.sides;
        !a.safety_number.is_empty() && a.safety_number == b.safety_number
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shown::tests::good, *};

    fn side() -> Side {
        let json = r#"{"audio_sent":200,"audio_received":200,"video_sent":80,"video_received":80,
            "safety_number":"12345","delay_us_p50":900,"delay_us_p99":2000,"silence_ms_max":60,"rung":"full"}"#;
        Side::parse("A", &format!("hello\n{}\n\n", json.replace('\n', ""))).expect("a result")
    }

    fn report() -> Report {
        let files = Comparison { source: 601, received: 200, identical: 200, headers_identical: true };
        Report {
            seconds: 4,
            sides: [side(), side()],
            flows: vec![Flow { name: "audio A to B".into(), sent: 200, received: 200, files }],
            shown: good(),
        }
    }

    #[test]
    fn a_good_call_has_no_failures_and_prints_the_promised_keys() {
        assert_eq!(report().failures(), Vec::<String>::new());
        let expected = r#"{"audio_sent":400,"audio_received":400,"video_sent":160,"video_received":160,"media_identical":true,"safety_numbers_equal":true,"delay_us_p50":900,"delay_us_p99":2000,"ledger_balanced":true,"relay_datagrams_forwarded":400,"relay_cpu_us_per_datagram":50.0,"canaries":7,"canaries_found":0,"memory_searched_mib":2.0}"#;
        assert_eq!(report().json().expect("numbers"), expected);
        let text = report().text();
        assert!(text.contains("the same at both ends"));
        assert!(text.contains("50.0 µs of processor time for each of the 200 UDP datagrams"));
        assert!(text.contains("1.0 MiB searched 2 times for 7 canaries: none found; 3 controls found"));
    }

    #[test]
    fn each_broken_promise_is_one_failure() {
        type Break = fn(&mut Report);
        let breaks: [(&str, Break); 8] = [
            ("lost", |report| report.flows[0].received = 199),
            ("not recorded", |report| report.flows[0].files.received = 199),
            ("changed", |report| report.flows[0].files.identical = 199),
            ("headers", |report| report.flows[0].files.headers_identical = false),
            ("safety", |report| report.sides[1].safety_number = "54321".into()),
            ("the relay's part", |report| report.shown.datagrams_forwarded = 0.0),
            ("hardly a call", |report| report.seconds = 9),
            ("no call", |report| report.flows.clear()),
        ];
        for (name, break_it) in breaks {
            let mut report = report();
            break_it(&mut report);
            assert_eq!(report.failures().len(), 1, "{name}");
        }
        let mut empty = report();
        empty.sides.iter_mut().for_each(|side| side.safety_number.clear());
        assert_eq!(empty.failures().len(), 1, "two empty safety numbers are equal and worth nothing");
    }

    #[test]
    fn a_side_without_a_result_is_an_error() {
        Side::parse("A", "").expect_err("nothing");
        Side::parse("A", "done\n").expect_err("no JSON");
    }
}
