//! What went out and came in, per track and per call.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use supernode_proto::control::{Rung, TrackKind};

use crate::{Demand, Histogram, room::Member, sync::lock};

/// By what a session's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP: QUIC as it is meant to be.
    Udp,
    /// TCP: where UDP does not get through. One lost packet holds up all that are behind it, so sound may stutter.
    Tcp,
    /// A browser's WebTransport, which goes by UDP: of a page.
    WebTransport,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::WebTransport => "WebTransport",
        })
    }
}

/// Which way a track goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Published by us.
    Sent,
    /// Subscribed to by us.
    Received,
}

/// Figures of one track.
#[derive(Debug, Clone)]
pub struct TrackStats {
    /// Which way it goes.
    pub direction: Direction,
    /// Whose it is; `None` for ours.
    pub publisher: Option<Member>,
    /// What it carries.
    pub kind: TrackKind,
    /// Its name, from inside the sealed label.
    pub name: String,
    /// Frames handed to the network, or received and opened; an end-of-track mark is none.
    pub objects: u64,
    /// Their sealed bytes with headers.
    pub bytes: u64,
    /// Frames given up here: no session, no room to send, or a reader too slow.
    pub dropped: u64,
    /// Frames that never came in time, from the gaps in object numbers.
    pub lost: u64,
    /// Objects that did not open.
    pub undecryptable: u64,
    /// Capture to opening, by both clocks.
    pub delay: Histogram,
    /// Longest time between two frames that came, of a track that is received.
    pub longest_gap: Duration,
    /// Who takes it now; `None` for a track of another member's, and for one that is gone.
    pub demand: Option<Demand>,
}

impl TrackStats {
    /// Adds the figures of another track.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.undecryptable += other.undecryptable;
        self.delay.merge(&other.delay);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }
}

/// Figures of a call.
#[derive(Debug, Clone)]
pub struct CallStats {
    /// Round trip to the relay.
    pub rtt: Duration,
    /// By what our packets travel; `None` while the session is down.
    pub transport: Option<Transport>,
    /// What the relay sends us at most.
    pub rung: Rung,
    /// Those that are gone first, then ours, then those of others.
    pub tracks: Vec<TrackStats>,
}

impl CallStats {
    /// The sum of one figure over the tracks of one direction.
    pub fn sum(&self, direction: Direction, figure: impl Fn(&TrackStats) -> u64) -> u64 {
        self.tracks.iter().filter(|track| track.direction == direction).map(figure).sum()
    }

    /// The delays of all received tracks together.
    pub fn delay(&self) -> Histogram {
        let mut all = Histogram::default();
        self.tracks.iter().for_each(|track| all.merge(&track.delay));
        all
    }
}

/// The counters behind [`TrackStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    objects: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    undecryptable: AtomicU64,
    delay: Mutex<Histogram>,
    /// When the last frame came, since 1970; zero before the first.
    came_us: AtomicU64,
    gap_us: AtomicU64,
}

impl Counters {
    pub(crate) fn count_object(&self, bytes: usize) {
        self.objects.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A frame came now that was captured then, both since 1970.
    pub(crate) fn count_arrival(&self, now_us: u64, captured_at_us: u64) {
        lock(&self.delay).record(now_us.saturating_sub(captured_at_us));
        let before = self.came_us.swap(now_us, Relaxed);
        if before > 0 {
            self.gap_us.fetch_max(now_us.saturating_sub(before), Relaxed);
        }
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_lost(&self, objects: u64) {
        self.lost.fetch_add(objects, Relaxed);
    }

    pub(crate) fn count_undecryptable(&self) {
        self.undecryptable.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(
        &self,
        direction: Direction,
        publisher: Option<Member>,
        kind: TrackKind,
        name: &str,
    ) -> TrackStats {
        TrackStats {
            direction,
            publisher,
            kind,
            name: name.to_owned(),
            objects: self.objects.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            lost: self.lost.load(Relaxed),
            undecryptable: self.undecryptable.load(Relaxed),
            delay: lock(&self.delay).clone(),
            longest_gap: Duration::from_micros(self.gap_us.load(Relaxed)),
            demand: None,
        }
    }
}
