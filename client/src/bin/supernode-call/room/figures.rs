//! What is known of each member, for the roster and for the summary at the end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use supernode_client::{Call, Direction, Histogram, Member, TrackKind};

use super::voices::Voices;
use crate::{media::record::Progress, progress};

/// One device in the room, or one that was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MemberFigures {
    /// Public names.
    pub(super) identity: String,
    pub(super) device: String,
    pub(super) is_us: bool,
    /// Connected now.
    pub(super) is_here: bool,
    /// Now, and how long in all; of Opus in its speech modes, which say so.
    pub(super) speaks: bool,
    pub(super) spoke_ms: u64,
    /// Packets and frames that we received from it.
    pub(super) audio_received: u64,
    pub(super) video_received: u64,
    pub(super) bytes_received: u64,
    /// In the last second.
    pub(super) kbit_per_s: u64,
    pub(super) lost: u64,
    /// Came, but after their time.
    pub(super) late: u64,
    pub(super) undecryptable: u64,
    /// Capture to opening; null if nothing came.
    pub(super) delay_us_p50: Option<u64>,
    pub(super) delay_us_p99: Option<u64>,
    /// How long after the fastest way its audio is played.
    pub(super) playout_delay_ms: u64,
    /// Longest time in which no packet of its sound came.
    #[serde(default)]
    pub(super) silence_ms_max: u64,
}

/// The summary that `--json` prints last.
#[derive(Debug, Serialize)]
pub(super) struct RoomSummary {
    #[serde(flatten)]
    pub(super) call: progress::Summary,
    /// Ourselves first, then everybody who is or was in the room.
    pub(super) members: Vec<MemberFigures>,
    /// Lines that were said.
    pub(super) lines_sent: u64,
    pub(super) lines_received: u64,
}

/// What recorders and the display share.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) voices: Voices,
    progress: Mutex<HashMap<Member, Progress>>,
    rates: Mutex<HashMap<Member, Rate>>,
}

#[derive(Clone, Copy)]
struct Rate {
    bytes: u64,
    at: Instant,
    kbit_per_s: u64,
}

impl Watched {
    pub(super) fn note_progress(&self, member: Member, progress: Progress) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(member, progress);
    }

    /// Everybody who is or was in the room.
    pub(super) fn members(&self, call: &Call, now: Instant) -> Vec<MemberFigures> {
        let (roster, stats) = (call.roster(), call.stats());
        let mut members: Vec<Member> = Vec::new();
        let ourselves = roster.iter().filter(|entry| entry.is_us).map(|entry| entry.member);
        let publishers = stats.tracks.iter().filter_map(|track| track.publisher);
        for member in ourselves.chain(roster.iter().map(|entry| entry.member)).chain(publishers) {
            if !members.contains(&member) {
                members.push(member);
            }
        }
        let figures = |member: Member| {
            let entry = roster.iter().find(|entry| entry.member == member);
            let tracks: Vec<_> = stats
                .tracks
                .iter()
                .filter(|track| track.direction == Direction::Received && track.publisher == Some(member))
                .collect();
            let sum = |figure: fn(&supernode_client::TrackStats) -> u64| tracks.iter().map(|track| figure(track)).sum();
            let of_kind = |kind| tracks.iter().filter(|track| track.kind == kind).map(|track| track.objects).sum();
            let mut delay = Histogram::default();
            tracks.iter().for_each(|track| delay.merge(&track.delay));
            let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).get(&member).copied();
            let progress = progress.unwrap_or_default();
            let bytes_received = sum(|track| track.bytes);
            MemberFigures {
                identity: member.identity.to_text(),
                device: member.device.to_text(),
                is_us: entry.is_some_and(|entry| entry.is_us),
                is_here: entry.is_some_and(|entry| entry.is_here),
                speaks: self.voices.speaks(&member, now),
                spoke_ms: self.voices.spoken(&member).as_millis() as u64,
                audio_received: of_kind(TrackKind::Audio),
                video_received: of_kind(TrackKind::Video),
                bytes_received,
                kbit_per_s: self.rate(member, bytes_received, now),
                lost: sum(|track| track.lost),
                late: progress.late,
                undecryptable: sum(|track| track.undecryptable),
                delay_us_p50: delay.quantile_us(0.5),
                delay_us_p99: delay.quantile_us(0.99),
                playout_delay_ms: progress.delay.as_millis() as u64,
                silence_ms_max: progress::silence_ms_max(tracks.iter().copied()),
            }
        };
        members.into_iter().map(figures).collect()
    }

    /// Of the last whole second or more.
    fn rate(&self, member: Member, bytes: u64, now: Instant) -> u64 {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = rates.entry(member).or_insert(Rate { bytes, at: now, kbit_per_s: 0 });
        let ms = now.saturating_duration_since(rate.at).as_millis() as u64;
        if ms >= 900 {
            *rate = Rate { bytes, at: now, kbit_per_s: (bytes - rate.bytes.min(bytes)) * 8 / ms };
        }
        rate.kbit_per_s
    }
}
