//! What a line looks like: for people, for programs, and for systemd's journal, which has a time of its own and takes the
//! priority from the line's beginning (sd-daemon(3)).

use std::{
    fmt::{self, Write},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The shape of all lines, which may change while the process runs.
#[derive(Clone)]
pub(super) struct Shape {
    is_json: Arc<AtomicBool>,
    to_journal: bool,
}

impl Shape {
    pub(super) fn new(to_journal: bool) -> Self {
        Self { is_json: Arc::default(), to_journal }
    }

    pub(super) fn set(&self, format: Format) {
        self.is_json.store(format == Format::Json, Ordering::Relaxed);
    }

    /// Words that are no event, as one line.
    pub(super) fn words(&self, words: &str) -> String {
        let mut line = self.priority(&Level::ERROR).to_owned();
        if self.is_json.load(Ordering::Relaxed) {
            let mut object = Object::begin(&mut line, !self.to_journal, &Level::ERROR);
            object.text("message", words);
            object.end();
        } else {
            line.push_str(words);
        }
        line.push('\n');
        line
    }

    fn priority(&self, level: &Level) -> &'static str {
        match *level {
            _ if !self.to_journal => "",
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        }
    }
}

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str(self.priority(metadata.level()))?;
        if self.is_json.load(Ordering::Relaxed) {
            let mut line = String::new();
            let mut object = Object::begin(&mut line, !self.to_journal, metadata.level());
            object.text("target", metadata.target());
            event.record(&mut object);
            object.end();
            return writeln!(writer, "{line}");
        }
        match self.to_journal {
            true => format::Format::default().without_time().format_event(context, writer, event),
            false => format::Format::default().format_event(context, writer, event),
        }
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    line: &'a mut String,
}

impl<'a> Object<'a> {
    fn begin(line: &'a mut String, with_time: bool, level: &Level) -> Self {
        line.push('{');
        let mut object = Self { line };
        if with_time {
            let mut time = String::new();
            let _ = SystemTime.format_time(&mut Writer::new(&mut time)); // a string takes everything
            object.text("time", &time);
        }
        object.text("level", level.as_str());
        object
    }

    fn end(self) {
        self.line.push('}');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.value(name, &value.into());
    }

    fn value(&mut self, name: &str, value: &serde_json::Value) {
        let comma = if self.line.ends_with('{') { "" } else { "," };
        let _ = write!(self.line, "{comma}{}:{value}", serde_json::Value::from(name));
    }
}

impl tracing::field::Visit for Object<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field.name(), &value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field.name(), &value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field.name(), &value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field.name(), &value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
}

/// Whether standard error is a stream of systemd's journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)).
/// A child whose output leads elsewhere has the variable still.
pub fn leads_to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let own = || std::fs::File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok();
    own().is_some_and(|own| named == format!("{}:{}", own.dev(), own.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("ours").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(shape: &Shape, say: impl FnOnce()) -> String {
        let written = Written::default();
        let out = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || out.clone());
        let layer = layer.event_format(shape.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = written.0.lock().expect("ours").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_journal_is_given_priorities_and_no_second_time() {
        let shape = Shape::new(true);
        let lines = logged(&shape, || {
            tracing::error!("broken");
            tracing::warn!(days = 3, "soon");
            tracing::info!("ready");
            tracing::debug!("a detail");
        });
        let starts = lines.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!(starts[0], "<3>ERROR");
        assert!(lines.lines().nth(1).is_some_and(|line| line.starts_with("<4> WARN ")), "{lines}");
        assert!(lines.contains("<6> INFO ") && lines.contains("<7>DEBUG "), "{lines}");
        assert!(!lines.contains("202"), "a time: {lines}");
        assert_eq!(shape.words("cannot"), "<3>cannot\n");
    }

    #[test]
    fn a_line_of_json_has_time_level_place_words_and_fields() {
        let shape = Shape::new(false);
        shape.set(Format::Json);
        let line = logged(&shape, || tracing::warn!(days = 3, file = "a\"b", ok = true, "soon\nover"));
        let object: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!(object["message"], "soon\nover");
        assert_eq!((&object["level"], &object["days"], &object["ok"]), (&"WARN".into(), &3.into(), &true.into()));
        assert_eq!(object["file"], "a\"b");
        assert!(object["target"].as_str().is_some_and(|target| target.starts_with("supernode_server::control::log")));
        assert!(object["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert_eq!(line.lines().count(), 1);
        let words: serde_json::Value = serde_json::from_str(&shape.words("cannot")).expect("one object");
        assert_eq!((&words["level"], &words["message"]), (&"ERROR".into(), &"cannot".into()));
    }
}
