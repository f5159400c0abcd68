//! The thread that writes: lines wait for it in a bounded queue, and what does not fit is lost and counted.

use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{
    LeftOut,
    pace::{self, Pace, WINDOW},
};

/// Lines that may wait: what a start, a reload and an end have to say is a few dozen. With [`LINE_BYTES_MAX`] they take
/// 8 MiB at most.
const LINES_MAX: usize = 1024;
/// What is longer is cut. The longest that the relay says is an error with the text of a line of configuration in it.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// How often it is looked whether there is something to say about lines that were left out.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what was said last.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

enum Item {
    Line(Vec<u8>),
    /// Everything before it has been written.
    Flush(Sender<()>),
}

/// Where lines are put. To put one never waits.
#[derive(Clone)]
pub(super) struct Lines {
    queue: Sender<Item>,
    left_out: Arc<LeftOut>,
}

/// Starts the thread.
pub(super) fn start(out: impl Write + Send + 'static, pace: Arc<Pace>, left_out: Arc<LeftOut>) -> Lines {
    let (queue, items) = bounded(LINES_MAX);
    let lines = Lines { queue, left_out: left_out.clone() };
    let writer = Writer { out, pace, left_out, said: 0, said_at: None };
    let thread = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&items));
    thread.expect("a process that starts may have a thread");
    lines
}

impl Lines {
    /// Puts a line, or counts it as lost.
    pub(super) fn put(&self, mut line: Vec<u8>) {
        if line.len() > LINE_BYTES_MAX {
            line.truncate(LINE_BYTES_MAX - 1);
            line.push(b'\n');
        }
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.left_out.sink.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything has been written, but not for long.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let (done, written) = bounded(1);
        if self.queue.send_deadline(Item::Flush(done), deadline).is_ok() {
            // Whoever does not read by then does not want to.
            let _ = written.recv_deadline(deadline);
        }
    }
}

/// One whole line at a time: that is how the layer above writes.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    out: W,
    pace: Arc<Pace>,
    left_out: Arc<LeftOut>,
    /// How many lost lines have been told of, and when.
    said: u64,
    said_at: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, items: &Receiver<Item>) {
        let mut look_at = Instant::now() + LOOK_INTERVAL;
        loop {
            match items.recv_deadline(look_at) {
                Ok(item) => self.take(item),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= look_at {
                look_at = now + LOOK_INTERVAL;
                self.pace.report(now);
                self.report_lost(now);
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            // Neither a full disk nor a reader that is gone can be told of here: it is counted.
            Item::Line(line) => {
                if self.out.write_all(&line).is_err() {
                    self.left_out.sink.fetch_add(1, Ordering::Relaxed);
                }
            }
            Item::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }

    /// Called when the last line has gone out: so this one may, too.
    fn report_lost(&mut self, now: Instant) {
        let lost = self.left_out.by_sink();
        let of_late = self.said_at.is_some_and(|said_at| now.duration_since(said_at) < WINDOW);
        if lost == self.said || of_late {
            return;
        }
        let lines = pace::grouped(lost - self.said);
        (self.said, self.said_at) = (lost, Some(now));
        tracing::warn!(target: pace::OWN, "left out {lines} lines that standard error did not take in time");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line only when it is told to.
    struct Slow {
        go: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.written.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_has_something_to_say_waits_for_no_reader_and_what_is_lost_is_counted() {
        let (let_go, go) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let left_out = Arc::new(LeftOut::default());
        let lines = start(Slow { go, written }, Arc::new(Pace::new(left_out.clone())), left_out.clone());
        let begin = Instant::now();
        for number in 0..LINES_MAX + 100 {
            lines.put(format!("{number}\n").into_bytes());
        }
        lines.flush();
        assert!(begin.elapsed() < 10 * FLUSH_PATIENCE, "it waited");
        // One may be in the writer's hands.
        assert!((99..=100).contains(&left_out.by_sink()), "{}", left_out.by_sink());
        for number in 0..LINES_MAX {
            let_go.send(()).expect("it listens");
            assert_eq!(read.recv().expect("written"), format!("{number}\n"));
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_one_that_is_too_long_is_cut() {
        let left_out = Arc::new(LeftOut::default());
        let (let_go, go) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let lines = start(Slow { go, written }, Arc::new(Pace::new(left_out.clone())), left_out.clone());
        let_go.send(()).expect("it listens");
        lines.put(vec![b'x'; 2 * LINE_BYTES_MAX]);
        let line = read.recv().expect("written");
        assert!(line.len() == LINE_BYTES_MAX && line.ends_with("x\n"), "{}", line.len());
        drop(let_go);
        lines.put(b"the disk is full\n".to_vec());
        lines.flush();
        assert_eq!(left_out.by_sink(), 1);
    }
}
