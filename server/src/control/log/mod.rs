//! The log: lines to standard error for which nobody waits, and of which nobody can cause many.
//!
//! Whoever has something to say makes the line and goes on. A thread of its own writes it ([`lines`]): where standard
//! error takes nothing (a pipe that nobody reads, a full disk), lines are lost and counted, and no shard and no control
//! thread stands still. Before a line is made, [`pace`] looks how often its place has spoken of late.

mod lines;
mod pace;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::{lines::Lines, pace::Pace};

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
    left_out: Arc<LeftOut>,
}

impl Log {
    /// Starts the log of the process with a filter; to be called once.
    ///
    /// # Errors
    /// If the filter makes no sense.
    ///
    /// # Panics
    /// If the process has a log already, or cannot have one thread more.
    pub fn start(filter: &str, out: impl Write + Send + 'static, colours: bool) -> Result<Self, ParseError> {
        let (filter, handle) = reload::Layer::new(filter.parse::<EnvFilter>()?);
        let left_out = Arc::new(LeftOut::default());
        let pace = Arc::new(Pace::new(left_out.clone()));
        let lines = lines::start(out, pace.clone(), left_out.clone());
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(colours).log_internal_errors(false);
        tracing_subscriber::registry().with(filter).with(layer).with(pace::ByPlace(pace)).init();
        let log = Self { filter: handle, lines, left_out };
        log.say_panics();
        Ok(log)
    }

    /// Says something that no filter keeps back, of any length: what is wrong with a configuration may be many lines.
    pub fn say(&self, words: &str) {
        words.lines().for_each(|line| self.lines.put(format!("{line}\n").into_bytes()));
    }

    /// Changes what is logged: `false` if the filter makes no sense.
    pub fn set_filter(&self) -> impl Fn(&str) -> bool + Send + use<> {
        let filter = self.filter.clone();
        move |text| text.parse::<EnvFilter>().is_ok_and(|new| filter.reload(new).is_ok())
    }

    /// How much was left out, as it is now and will be.
    pub fn left_out(&self) -> Arc<LeftOut> {
        self.left_out.clone()
    }

    /// By default the thread that panics writes to standard error itself, and would wait there before it ends.
    fn say_panics(&self) {
        let lines = self.lines.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let current = thread::current();
            let mut words = format!("thread '{}' {panic}\n", current.name().unwrap_or("unnamed"));
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                words += &format!("{backtrace}\n");
            }
            lines.put(words.into_bytes());
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
