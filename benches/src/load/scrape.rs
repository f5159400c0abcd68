//! Scrapes the relay's metrics during the measured part, as a Prometheus would, and takes the time.

use std::{
    io,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use supernode_measure::{histogram::Histogram, relay_probe::MetricsUrl};

/// What the scrapes came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Scrapes {
    /// How long each took, from the beginning of its connection to the last byte.
    #[serde(with = "super::part::histogram")]
    pub(super) time: Histogram,
    /// Bytes of the largest.
    pub(super) bytes_max: usize,
    /// Those that were not answered.
    pub(super) failed: u64,
}

/// Scrapes in a thread of its own until it is told to end.
pub(super) struct Scraper {
    end: Sender<()>,
    thread: JoinHandle<Scrapes>,
}

impl Scraper {
    /// Begins, with a first scrape at once.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(url: MetricsUrl, every: Duration) -> io::Result<Self> {
        let (end, ended) = channel::<()>();
        let thread = thread::Builder::new().name("scraper".to_owned()).spawn(move || {
            let mut scrapes = Scrapes::default();
            let mut due = Instant::now();
            loop {
                let begin = Instant::now();
                match url.fetch() {
                    Some(text) => {
                        scrapes.time.record_us(begin.elapsed().as_micros() as u64);
                        scrapes.bytes_max = scrapes.bytes_max.max(text.len());
                    }
                    None => scrapes.failed += 1,
                }
                due += every;
                if ended.recv_timeout(due.saturating_duration_since(Instant::now())) != Err(RecvTimeoutError::Timeout) {
                    return scrapes;
                }
            }
        })?;
        Ok(Self { end, thread })
    }

    /// Ends after the scrape that is under way.
    pub(super) fn finish(self) -> Scrapes {
        drop(self.end);
        self.thread.join().expect("the scraper does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn scrapes_are_timed_and_those_that_fail_are_counted_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let url: MetricsUrl =
            format!("http://{}/metrics", listener.local_addr().expect("bound")).parse().expect("an address");
        let scraper = Scraper::start(url, Duration::from_millis(10)).expect("a thread");
        for answer in ["HTTP/1.1 200 OK\r\n\r\nsupernode_a 1\n", "HTTP/1.1 503 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            let (mut stream, _) = listener.accept().expect("a scrape");
            let mut request = Vec::new();
            // To its end: whoever closes with something unread resets the connection.
            while !request.ends_with(b"\r\n\r\n") {
                let mut part = [0; 1024];
                let length = stream.read(&mut part).expect("a request");
                request.extend_from_slice(&part[..length]);
            }
            thread::sleep(Duration::from_millis(20));
            stream.write_all(answer.as_bytes()).expect("sent");
        }
        drop(listener);
        let scrapes = scraper.finish();
        assert_eq!((scrapes.time.count(), scrapes.bytes_max), (2, 33));
        assert!(scrapes.failed >= 1 && scrapes.time.max_ms() >= 20.0);
    }
}
