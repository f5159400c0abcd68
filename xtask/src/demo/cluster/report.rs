//! What the demonstration of a cluster came to, and whether all that was promised held.

use serde::Serialize;

use super::super::{
    Outcome, Person,
    during::Load,
    metrics::Metrics,
    report::{Flow, Side},
    room::{self, RoomSide},
    shown::{Figures, Ledger, Shown},
};

/// Whoever was on the dead node is heard, and hears, within this.
const BACK_WITHIN_MS: u64 = 6_000;
/// Nobody else loses more than this.
const OTHERS_WITHIN_MS: u64 = 2_000;
/// Opus packets a second in the samples.
const AUDIO_PACKETS_PER_SECOND: u64 = 50;

/// Everything that was found out.
pub(super) struct ClusterReport {
    seconds: u64,
    nodes: usize,
    call: [Side; 2],
    room: Vec<RoomSide>,
    /// Of those whose nodes live.
    flows: Vec<Flow>,
    /// Of each node that lives, and of all together.
    ledgers: Vec<Ledger>,
    shown: Shown,
    silence_after_kill_ms: u64,
    silence_of_others_ms: u64,
}

/// The line for programs: the keys of a call, and three more.
#[derive(Serialize)]
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
    nodes: usize,
    silence_after_kill_ms: u64,
    silence_of_others_ms: u64,
}

impl ClusterReport {
    /// Of a call between two and a room, of which the last member's node was killed; `after` are the metrics of the nodes that live.
    ///
    /// # Errors
    /// If a recording is missing or malformed, or a metric.
    pub(super) fn new(
        seconds: u64,
        nodes: usize,
        (call, a, b): ([Side; 2], &Person, &Person),
        (members, room): (&[room::Person], Vec<RoomSide>),
        after: &[Metrics],
        load: Load,
    ) -> anyhow::Result<Self> {
        let [side_a, side_b] = &call;
        let (audio, video) = ("audio.opus", "video.ivf");
        let mut flows = vec![
            Flow::new("audio A to B", side_a.audio_sent, side_b.audio_received, &a.audio, &b.recorded(audio))?,
            Flow::new("audio B to A", side_b.audio_sent, side_a.audio_received, &b.audio, &a.recorded(audio))?,
            Flow::new("video A to B", side_a.video_sent, side_b.video_received, &a.video, &b.recorded(video))?,
            Flow::new("video B to A", side_b.video_sent, side_a.video_received, &b.video, &a.recorded(video))?,
        ];
        let living = members.len() - 1;
        flows.extend(room::flows(&members[..living], &room[..living])?);
        let silence = |at: usize, of: usize| room[at].silence_ms_of(&members[of]);
        let all =
            || (0..members.len()).flat_map(|at| (0..members.len()).map(move |of| (at, of))).filter(|(at, of)| at != of);
        let is_of_dead = |(at, of): &(usize, usize)| *at == living || *of == living;
        let of_dead = all().filter(is_of_dead).map(|(at, of)| silence(at, of));
        let of_others = all().filter(|pair| !is_of_dead(pair)).map(|(at, of)| silence(at, of));
        let of_call = call.iter().map(|side| side.silence_ms_max);
        Ok(Self {
            seconds,
            nodes,
            silence_after_kill_ms: of_dead.max().unwrap_or_default(),
            silence_of_others_ms: of_others.chain(of_call).max().unwrap_or_default(),
            call,
            room,
            flows,
            ledgers: after.iter().map(Ledger::new).collect::<Result<_, _>>()?,
            shown: Shown::of_all(after, load)?,
        })
    }

    fn safety_numbers_equal(&self) -> bool {
        let of_call = self.call.iter().map(|side| side.safety_number.as_str());
        let of_room = self.room.iter().map(|side| side.side.safety_number.as_str());
        are_one(of_call) && are_one(of_room)
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.call.iter().chain(self.room.iter().map(|side| &side.side))
    }
}

/// Whether all say the same, and something.
fn are_one<'a>(numbers: impl Iterator<Item = &'a str>) -> bool {
    let mut different: Vec<&str> = numbers.collect();
    different.dedup();
    matches!(different[..], [one] if !one.is_empty())
}

impl Outcome for ClusterReport {
    fn shown(&mut self) -> &mut Shown {
        &mut self.shown
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.flows.iter().map(Flow::line).collect();
        let verdict = if self.safety_numbers_equal() { "the same for all of each" } else { "NOT THE SAME" };
        lines.push(format!("  safety numbers {verdict}"));
        lines.push(format!(
            "  silence        {} ms for whoever was at the node that was killed, {} ms for all others",
            self.silence_after_kill_ms, self.silence_of_others_ms
        ));
        lines.extend(self.shown.lines());
        lines.join("\n")
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
            must(flow.is_identical(), format!("what was sent is not what was recorded:{}", flow.line()));
        }
        must(self.safety_numbers_equal(), "safety numbers differ or are empty".into());
        for (silence_ms, bound, whose) in [
            (self.silence_after_kill_ms, BACK_WITHIN_MS, "whoever was at the node that was killed"),
            (self.silence_of_others_ms, OTHERS_WITHIN_MS, "others"),
        ] {
            must(silence_ms <= bound, format!("{whose}: {silence_ms} ms of silence, at most {bound}"));
        }
        for side in self.sides() {
            let least = self.seconds.min(12) * AUDIO_PACKETS_PER_SECOND / 4;
            let heard = side.audio_received;
            must(heard >= least, format!("somebody heard {heard} packets in {} s: at least {least}", self.seconds));
        }
        for (at, ledger) in self.ledgers.iter().enumerate() {
            must(ledger.balances(), format!("node {}: {}", at + 1, ledger.line().trim_start()));
        }
        failures.extend(self.shown.failures());
        failures
    }

    fn json(&self) -> anyhow::Result<String> {
        let sum = |figure: fn(&Side) -> u64| self.sides().map(figure).sum();
        let most = |figure: fn(&Side) -> u64| self.sides().map(figure).max().unwrap_or_default();
        Ok(serde_json::to_string(&Json {
            audio_sent: sum(|side| side.audio_sent),
            audio_received: sum(|side| side.audio_received),
            video_sent: sum(|side| side.video_sent),
            video_received: sum(|side| side.video_received),
            media_identical: !self.flows.is_empty() && self.flows.iter().all(Flow::is_identical),
            safety_numbers_equal: self.safety_numbers_equal(),
            delay_us_p50: most(|side| side.delay_us_p50),
            delay_us_p99: most(|side| side.delay_us_p99),
            relay: self.shown.figures(),
            nodes: self.nodes,
            silence_after_kill_ms: self.silence_after_kill_ms,
            silence_of_others_ms: self.silence_of_others_ms,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::shown::tests::good, *};
    use crate::workspace;

    fn side(number: &str) -> Side {
        let json = format!(
            r#"{{"audio_sent":601,"audio_received":601,"video_sent":240,"video_received":240,"safety_number":"{number}",
            "delay_us_p50":900,"delay_us_p99":2000,"silence_ms_max":40,"members":[]}}"#
        );
        Side::parse("A", &json.replace('\n', "")).expect("a result")
    }

    fn member(number: &str) -> RoomSide {
        let side = r#"{"audio_sent":601,"audio_received":800,"video_sent":240,"video_received":400,"#.to_owned();
        let rest = r#""delay_us_p50":950,"delay_us_p99":2100,"silence_ms_max":40,"members":[]}"#;
        RoomSide::parse("C", &format!("{side}\"safety_number\":\"{number}\",{rest}")).expect("a result")
    }

    /// A flow whose recording is what was sent, of which the receiver says that it got so many packets.
    fn flow(received: u64) -> Flow {
        let sample = workspace::root().join("client/samples/speech-a.opus");
        Flow::new("audio C to D", 601, received, &sample, &sample).expect("samples")
    }

    fn report() -> ClusterReport {
        ClusterReport {
            seconds: 12,
            nodes: 3,
            call: [side("12345"), side("12345")],
            room: vec![member("67890"), member("67890"), member("67890")],
            flows: vec![flow(601)],
            ledgers: vec![good().ledger; 2],
            shown: good(),
            silence_after_kill_ms: 4_700,
            silence_of_others_ms: 40,
        }
    }

    #[test]
    fn a_good_talk_has_no_failures_and_prints_the_promised_keys() {
        assert_eq!(report().failures(), Vec::<String>::new());
        let expected = r#"{"audio_sent":3005,"audio_received":3602,"video_sent":1200,"video_received":1680,"media_identical":true,"safety_numbers_equal":true,"delay_us_p50":950,"delay_us_p99":2100,"ledger_balanced":true,"relay_datagrams_forwarded":400,"relay_cpu_us_per_datagram":50.0,"canaries":7,"canaries_found":0,"memory_searched_mib":2.0,"nodes":3,"silence_after_kill_ms":4700,"silence_of_others_ms":40}"#;
        assert_eq!(report().json().expect("numbers"), expected);
        let text = report().text();
        assert!(text.contains("4700 ms for whoever was at the node that was killed, 40 ms for all others"), "{text}");
    }

    #[test]
    fn each_broken_promise_is_one_failure() {
        type Break = fn(&mut ClusterReport);
        let breaks: [(&str, Break); 9] = [
            ("lost", |report| report.flows.push(flow(600))),
            ("no talk", |report| report.flows.clear()),
            ("another number in the call", |report| report.call[1] = side("54321")),
            ("another number in the room", |report| report.room[2] = member("54321")),
            ("not back in time", |report| report.silence_after_kill_ms = 6_001),
            ("others noticed", |report| report.silence_of_others_ms = 2_001),
            ("hardly heard", |report| report.call[0].audio_received = 149),
            ("a node's ledger", |report| report.ledgers[1].queued = 1.0),
            ("the relays' part", |report| report.shown.datagrams_forwarded = 0.0),
        ];
        for (name, break_it) in breaks {
            let mut report = report();
            break_it(&mut report);
            assert_eq!(report.failures().len(), 1, "{name}: {:?}", report.failures());
        }
    }
}
