//! Hellos that wait for somebody else's word: at most one for each handshake in progress.

use std::time::{Duration, Instant};

use supernode_proto::control::Hello;

use crate::core::{Admit, Applicant, Now};

/// How often those are looked at whose admission is not decided.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Those that one shard has put aside.
#[derive(Default)]
pub(super) struct Undecided {
    waiting: Vec<Waiting>,
    /// When to look at them.
    ask_at: Option<Instant>,
}

struct Waiting {
    link: u32,
    who: Applicant,
    hello: Hello,
}

impl Undecided {
    /// Puts a client's Hello aside.
    pub(super) fn put(&mut self, link: u32, who: Applicant, hello: Hello, now: Instant) {
        self.waiting.push(Waiting { link, who, hello });
        self.ask_at = Some(now + ASK_AGAIN);
    }

    /// Whether one of this client is here.
    pub(super) fn has(&self, link: u32) -> bool {
        self.waiting.iter().any(|waiting| waiting.link == link)
    }

    /// A client is gone.
    pub(super) fn forget(&mut self, link: u32) {
        self.waiting.retain(|waiting| waiting.link != link);
    }

    /// Looks, if it is time to; those that are decided are here no more.
    pub(super) fn take_decided(&mut self, admission: &dyn Admit, now: Now) -> Vec<(u32, Hello)> {
        if self.ask_at.is_none_or(|at| at > now.instant) {
            return Vec::new();
        }
        let is_decided = |waiting: &mut Waiting| admission.is_decided(&waiting.who, now.unix_s());
        let decided = self.waiting.extract_if(.., is_decided).map(|waiting| (waiting.link, waiting.hello)).collect();
        self.ask_at = (!self.waiting.is_empty()).then(|| now.instant + ASK_AGAIN);
        decided
    }

    /// When to look next.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
