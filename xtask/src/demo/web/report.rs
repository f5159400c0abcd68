//! What a call between a page and a program came to.

use serde::Serialize;

use super::{
    super::{
        Outcome,
        report::Side,
        shown::{Figures, Shown, tenths},
    },
    pictures::Seen,
    sound::Speech,
};

/// Everything the demo found out.
pub(super) struct WebReport {
    /// The program's own figures.
    pub(super) native: Side,
    /// What people compare, as the page shows it.
    pub(super) page_number: String,
    /// The program's speech in the page.
    pub(super) speech: Speech,
    /// Whether the page's microphone is in the program's recording.
    pub(super) is_hum_recorded: bool,
    /// The program's picture in the page.
    pub(super) in_page: Seen,
    /// The page's camera in the program's recording.
    pub(super) natively: Seen,
    /// What the browser, the page's policy or its script complained of.
    pub(super) complaints: Vec<String>,
    pub(super) shown: Shown,
}

/// The line for programs: the keys of a call of two programs, but for whether media is identical, since what a page sends is
/// in no file; and what was heard and seen.
#[derive(Serialize)]
struct Json {
    audio_sent: u64,
    audio_received: u64,
    video_sent: u64,
    video_received: u64,
    safety_numbers_equal: bool,
    heard_in_page: bool,
    heard_natively: bool,
    seen_in_page: bool,
    seen_natively: bool,
    mouth_to_ear_ms_p50: Option<f64>,
    delay_us_p50: u64,
    delay_us_p99: u64,
    #[serde(flatten)]
    relay: Figures,
}

impl WebReport {
    fn safety_numbers_equal(&self) -> bool {
        let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
        let native = digits(&self.native.safety_number);
        !native.is_empty() && native == digits(&self.page_number)
    }
}

impl Outcome for WebReport {
    fn shown(&mut self) -> &mut Shown {
        &mut self.shown
    }

    fn text(&self) -> String {
        let Side { audio_sent, audio_received, video_sent, video_received, safety_number, .. } = &self.native;
        let Speech { said, delays_ms } = &self.speech;
        let mut lines = vec![
            format!(
                "  the program    sent {audio_sent} audio {video_sent} video, received {audio_received} and {video_received}"
            ),
            format!("  heard in page  {} of {said} passages of the program's speech", delays_ms.len()),
            match self.speech.delay_ms_p50() {
                Some(delay) => format!(
                    "  mouth to ear   p50 {delay:.0} ms, from when the program plays a word until the page's loudspeaker has it"
                ),
                None => "  mouth to ear   not known: nothing was heard".into(),
            },
            format!(
                "  heard natively {}",
                if self.is_hum_recorded { "the microphone's hum" } else { "NOT THE MICROPHONE" }
            ),
            format!("  seen in page   {}", self.in_page.line()),
            format!("  seen natively  {}", self.natively.line()),
            format!(
                "  safety number  {safety_number} ({})",
                if self.safety_numbers_equal() { "the same at both ends" } else { "NOT THE SAME" }
            ),
        ];
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
        let Speech { said, delays_ms } = &self.speech;
        must(
            self.speech.is_heard(),
            format!("the page heard {} of {said} passages of the program's speech", delays_ms.len()),
        );
        must(
            self.is_hum_recorded,
            "the program recorded something else than the page's microphone, or hardly anything".into(),
        );
        must(self.in_page.is_seen(), format!("the page did not see the program's picture: {}", self.in_page.line()));
        must(self.natively.is_seen(), format!("the program did not see the page's camera: {}", self.natively.line()));
        must(self.complaints.is_empty(), format!("the page complained: {}", self.complaints.join("; ")));
        must(self.safety_numbers_equal(), "the safety numbers differ or are empty".into());
        failures.extend(self.shown.failures());
        failures
    }

    fn json(&self) -> anyhow::Result<String> {
        let native = &self.native;
        Ok(serde_json::to_string(&Json {
            audio_sent: native.audio_sent,
            audio_received: native.audio_received,
            video_sent: native.video_sent,
            video_received: native.video_received,
            safety_numbers_equal: self.safety_numbers_equal(),
            heard_in_page: self.speech.is_heard(),
            heard_natively: self.is_hum_recorded,
            seen_in_page: self.in_page.is_seen(),
            seen_natively: self.natively.is_seen(),
            mouth_to_ear_ms_p50: self.speech.delay_ms_p50().map(tenths),
            delay_us_p50: native.delay_us_p50,
            delay_us_p99: native.delay_us_p99,
            relay: self.shown.figures(),
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::shown::tests::good, *};

    fn report() -> WebReport {
        let json = r#"{"audio_sent":500,"audio_received":490,"video_sent":200,"video_received":280,"safety_number":"12345 67890","delay_us_p50":9000,"delay_us_p99":20000,"silence_ms_max":90}"#;
        let seen = Seen { looks: 80, alike: 79, different: 40 };
        WebReport {
            native: Side::parse("A", json).expect("a result"),
            page_number: "12345 67890".into(),
            speech: Speech { said: 3, delays_ms: vec![91.04, 80.0, 95.0] },
            is_hum_recorded: true,
            in_page: seen,
            natively: seen,
            complaints: Vec::new(),
            shown: good(),
        }
    }

    #[test]
    fn a_good_call_has_no_failures_and_prints_the_promised_keys() {
        assert_eq!(report().failures(), Vec::<String>::new());
        let expected = r#"{"audio_sent":500,"audio_received":490,"video_sent":200,"video_received":280,"safety_numbers_equal":true,"heard_in_page":true,"heard_natively":true,"seen_in_page":true,"seen_natively":true,"mouth_to_ear_ms_p50":91.0,"delay_us_p50":9000,"delay_us_p99":20000,"ledger_balanced":true,"relay_datagrams_forwarded":400,"relay_cpu_us_per_datagram":50.0,"canaries":7,"canaries_found":0,"memory_searched_mib":2.0}"#;
        assert_eq!(report().json().expect("numbers"), expected);
        assert!(report().text().contains("p50 91 ms"), "{}", report().text());
    }

    #[test]
    fn each_broken_promise_is_one_failure() {
        type Break = fn(&mut WebReport);
        let breaks: [(&str, Break); 8] = [
            ("not heard in the page", |report| report.speech.delays_ms.clear()),
            ("not heard natively", |report| report.is_hum_recorded = false),
            ("not seen in the page", |report| report.in_page.alike = 10),
            ("not seen natively", |report| report.natively.different = 1),
            ("a complaint", |report| report.complaints.push("connect-src".into())),
            ("safety", |report| report.page_number = "12345 67891".into()),
            ("no number", |report| report.page_number.clear()),
            ("the relay's part", |report| report.shown.datagrams_forwarded = 0.0),
        ];
        for (name, break_it) in breaks {
            let mut report = report();
            break_it(&mut report);
            assert_eq!(report.failures().len(), 1, "{name}");
        }
        let mut unheard = report();
        unheard.speech.delays_ms.clear();
        assert!(unheard.json().expect("numbers").contains(r#""mouth_to_ear_ms_p50":null"#));
    }
}
