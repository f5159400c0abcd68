//! How often each place of the program may speak.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

use super::LeftOut;

/// In this time a place says at most [`LINES_MAX`] lines.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// One a second. All places of other crates together are one place: what they tell of is what strangers send.
const LINES_MAX: u32 = 10;
/// Whoever tells of lines that were left out is bounded already.
pub(super) const OWN: &str = "supernode::log";
/// How the places of this program are called.
const OURS: &str = "supernode";

/// What each place has said of late.
pub(super) struct Pace {
    /// By name and line; `None` is everywhere else.
    places: Mutex<HashMap<Option<(&'static str, u32)>, Place>>,
    left_out: Arc<LeftOut>,
}

struct Place {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Pace {
    pub(super) fn new(left_out: Arc<LeftOut>) -> Self {
        Self { places: Mutex::default(), left_out }
    }

    /// Whether a line from this place is to be written; if not, it is counted. DEBUG and TRACE are for whoever asks for
    /// everything.
    fn admits(&self, from: &'static Metadata<'static>, now: Instant) -> bool {
        if *from.level() > Level::INFO || from.target() == OWN {
            return true;
        }
        let ours = from.target().starts_with(OURS);
        let name = ours.then(|| (from.module_path().unwrap_or_default(), from.line().unwrap_or_default()));
        let mut places = self.places.lock().expect("nobody panics with it");
        let place = places.entry(name).or_insert(Place { since: now, lines: 0, left_out: 0 });
        // What was left out is told of first, by `report`: then the count begins anew.
        if place.left_out == 0 && now.duration_since(place.since) >= WINDOW {
            (place.since, place.lines) = (now, 0);
        }
        if place.lines < LINES_MAX {
            place.lines += 1;
            return true;
        }
        place.left_out += 1;
        self.left_out.rate.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Tells of what was left out.
    pub(super) fn report(&self, now: Instant) {
        for (place, lines, seconds) in self.due(now) {
            let lines = grouped(lines);
            tracing::warn!(target: OWN, "{place}: left out {lines} such lines in the last {seconds} s");
        }
    }

    /// Places whose time is over and that were not let say everything: name, lines left out, seconds.
    fn due(&self, now: Instant) -> Vec<(String, u64, u64)> {
        let mut places = self.places.lock().expect("nobody panics with it");
        let over =
            places.iter_mut().filter(|(_, place)| place.left_out > 0 && now.duration_since(place.since) >= WINDOW);
        over.map(|(name, place)| {
            let name = name.map_or_else(|| "libraries".to_owned(), |(module, line)| format!("{module}:{line}"));
            let told = (name, place.left_out, now.duration_since(place.since).as_secs());
            *place = Place { since: now, lines: 0, left_out: 0 };
            told
        })
        .collect()
    }
}

/// Asks the pace before a line is made.
pub(super) struct ByPlace(pub(super) Arc<Pace>);

impl<S: Subscriber> Layer<S> for ByPlace {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event.metadata(), Instant::now())
    }
}

/// A number as people read it: 1,234.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt};

    use super::{super::DEFAULT_FILTER, *};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("ours").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What comes of it when this is said with this filter.
    fn logged(filter: &str, pace: &Arc<Pace>, say: impl FnOnce()) -> String {
        let written = Written::default();
        let out = written.clone();
        let layer = fmt::layer().with_writer(move || out.clone()).with_ansi(false);
        let filter: EnvFilter = filter.parse().expect("valid");
        let subscriber = tracing_subscriber::registry().with(filter).with(layer).with(ByPlace(pace.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.0.lock().expect("ours").clone();
        String::from_utf8(bytes).expect("text")
    }

    fn pace() -> (Arc<Pace>, Arc<LeftOut>) {
        let left_out = Arc::new(LeftOut::default());
        (Arc::new(Pace::new(left_out.clone())), left_out)
    }

    #[test]
    fn a_place_that_speaks_without_end_says_ten_lines_and_then_how_many_were_left_out() {
        let (pace, left_out) = pace();
        let begin = Instant::now();
        let log = logged(DEFAULT_FILTER, &pace, || {
            for _ in 0..1244 {
                tracing::warn!("one place");
            }
            tracing::warn!("another place");
            pace.report(begin + WINDOW / 2);
            pace.report(Instant::now() + WINDOW);
            pace.report(Instant::now() + 2 * WINDOW);
        });
        assert_eq!(log.matches("one place").count(), LINES_MAX as usize);
        assert_eq!(log.matches("another place").count(), 1);
        assert_eq!(log.matches("left out 1,234 such lines in the last 10 s").count(), 1, "{log}");
        assert_eq!(left_out.by_rate(), 1234);
    }

    #[test]
    fn a_place_may_speak_again_when_its_time_is_over() {
        let (pace, _) = pace();
        logged(DEFAULT_FILTER, &pace, || {
            for _ in 0..100 {
                tracing::warn!(target: "supernode::test", "a line");
            }
        });
        let told = pace.due(Instant::now() + WINDOW);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1, 90);
        assert!(pace.places.lock().expect("ours").values().all(|place| place.lines == 0 && place.left_out == 0));
    }

    #[test]
    fn what_strangers_make_libraries_say_is_no_line_by_default_and_one_a_second_in_all_if_wanted() {
        let flood = || {
            for _ in 0..1000 {
                tracing::warn!(target: "quinn_proto::connection", "discarding Initial with invalid retry token");
                tracing::warn!(target: "rustls::conn", "Sending fatal alert");
            }
        };
        let (quiet, left_out) = pace();
        assert_eq!(logged(DEFAULT_FILTER, &quiet, flood), "");
        assert_eq!(left_out.by_rate(), 0, "nothing was to be said");
        let (wanted, _) = pace();
        assert_eq!(logged("info", &wanted, flood).lines().count(), LINES_MAX as usize);
    }

    #[test]
    fn whoever_asks_for_everything_gets_it() {
        let (pace, left_out) = pace();
        let log = logged("debug", &pace, || (0..100).for_each(|_| tracing::debug!("a detail")));
        assert_eq!((log.lines().count(), left_out.by_rate()), (100, 0));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
