//! What happened, in one number: two runs of one seed must have the same.

use std::{collections::VecDeque, fmt};

use supernode_session::Moment;

/// Lines that are kept for whoever asks what led to a failure.
const LINES_MAX: usize = 20_000;

/// Everything that happened in a world, digested; and the last of it in words.
#[derive(Debug)]
pub struct Trace {
    digest: u64,
    packets: u64,
    lines: VecDeque<String>,
    keeps_lines: bool,
}

impl Trace {
    /// Keeps words for people only if it is to.
    pub fn new(keeps_lines: bool) -> Self {
        // FNV-1a's offset basis.
        Self { digest: 0xcbf2_9ce4_8422_2325, packets: 0, lines: VecDeque::new(), keeps_lines }
    }

    /// A packet: which way, whose, how long, and when it arrives, if it does.
    pub fn packet(&mut self, now: Moment, is_up: bool, client: usize, bytes: usize, arrives: Option<Moment>) {
        self.packets += 1;
        let when = |at: Moment| at.since_beginning().as_nanos() as u64;
        for number in [when(now), u64::from(is_up), client as u64, bytes as u64, arrives.map_or(u64::MAX, when)] {
            self.digest_bytes(&number.to_be_bytes());
        }
        if self.keeps_lines {
            let way = if is_up { "->" } else { "<-" };
            let fate = if arrives.is_some() { "" } else { " lost" };
            self.keep(now, format!("client {client} {way} {bytes}{fate}"));
        }
    }

    /// Something that people would want to know.
    pub fn tell(&mut self, now: Moment, what: fmt::Arguments<'_>) {
        let line = what.to_string();
        self.digest_bytes(&(now.since_beginning().as_nanos() as u64).to_be_bytes());
        self.digest_bytes(line.as_bytes());
        if self.keeps_lines {
            self.keep(now, line);
        }
    }

    /// The number.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many packets there were.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The last that happened, if it was to be kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn keep(&mut self, now: Moment, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>12.6} {line}", now.since_beginning().as_secs_f64()));
    }

    fn digest_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
