//! The log: lines to standard error for which nobody waits, and of which nobody can cause many.
//!
//! Whoever has something to say makes the line and goes on. A thread of its own writes it (`lines.rs`): where standard
//! error takes nothing (a pipe that nobody reads, a full disk), lines are lost and counted, and no shard and no control
//! thread stands still. Before a line is made, `pace.rs` looks how often its place has spoken of late.

pub mod filter;
mod lines;
mod pace;
mod shape;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

pub use self::shape::{Format, leads_to_journal};
use self::{lines::Lines, pace::Pace, shape::Shape};

/// What is logged unless somebody says otherwise: all that the relay itself has to say to its operator, and what its
/// libraries call an error. What they warn of is what strangers send: not an operator's business.
pub const DEFAULT_FILTER: &str = "error,supernode=info";

/// How many lines were left out, and why.
#[derive(Debug, Default)]
pub struct LeftOut {
    rate: AtomicU64,
    sink: AtomicU64,
}

impl LeftOut {
    /// Because their place had spoken too often.
    pub fn by_rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Because standard error did not take them.
    pub fn by_sink(&self) -> u64 {
        self.sink.load(Ordering::Relaxed)
    }
}

/// The log of this process. When it is dropped, what waits is given a moment to be written.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: Lines,
    shape: Shape,
    left_out: Arc<LeftOut>,
}

/// What reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A terminal, which shows colours.
    Terminal,
    /// systemd's journal, which has times and priorities of its own.
    Journal,
    /// A file, a pipe, or nobody.
    Other,
}

impl Log {
    /// Starts the log of the process with a filter ([`filter::parse`]); to be called once.
    ///
    /// # Panics
    /// If the process has a log already, or cannot have one thread more.
    pub fn start(filter: EnvFilter, out: impl Write + Send + 'static, reader: Reader) -> Self {
        let (filter, handle) = reload::Layer::new(filter);
        let left_out = Arc::new(LeftOut::default());
        let pace = Arc::new(Pace::new(left_out.clone()));
        let lines = lines::start(out, pace.clone(), left_out.clone());
        let (writer, shape) = (lines.clone(), Shape::new(reader == Reader::Journal));
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(reader == Reader::Terminal);
        let layer = layer.log_internal_errors(false).event_format(shape.clone());
        tracing_subscriber::registry().with(filter).with(layer).with(pace::ByPlace(pace)).init();
        let log = Self { filter: handle, lines, shape, left_out };
        log.say_panics();
        log
    }

    /// Says something that no filter keeps back, of any length: what is wrong with a configuration may be many lines.
    pub fn say(&self, words: &str) {
        words.lines().for_each(|line| self.lines.put(self.shape.words(line).into_bytes()));
    }

    /// Changes what is logged, and how.
    pub fn change(&self) -> impl Fn(&str, Format) + Send + use<> {
        let (filter, shape) = (self.filter.clone(), self.shape.clone());
        move |text, format| {
            // The configuration was checked, and the log lives as long as the process.
            if let Some(new) = filter::parse(text) {
                let _ = filter.reload(new);
            }
            shape.set(format);
        }
    }

    /// How much was left out, as it is now and will be.
    pub fn left_out(&self) -> Arc<LeftOut> {
        self.left_out.clone()
    }

    /// By default the thread that panics writes to standard error itself, and would wait there before it ends.
    fn say_panics(&self) {
        let (lines, shape) = (self.lines.clone(), self.shape.clone());
        std::panic::set_hook(Box::new(move |panic| {
            let current = thread::current();
            let mut words = format!("thread '{}' {panic}\n", current.name().unwrap_or("unnamed"));
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                words += &backtrace.to_string();
            }
            words.lines().for_each(|line| lines.put(shape.words(line).into_bytes()));
        }));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.flush();
    }
}

/// Standard error, apart from the lock of [`io::stderr`]: nobody else is to wait for the thread that writes.
///
/// # Errors
/// If it is closed, or there is no descriptor left.
pub fn standard_error() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    Ok(std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?))
}
