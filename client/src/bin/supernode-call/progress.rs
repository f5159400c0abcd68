//! What the user sees while a call runs, and the figures at its end.

use std::{io::Write, time::Duration};

use serde::Serialize;
use supernode_client::{Call, CallStats, Direction, Rung, TrackKind, TrackStats, Transport};

/// The figures of a call, as `--json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Packets.
    pub(crate) audio_sent: u64,
    pub(crate) audio_received: u64,
    pub(crate) video_sent: u64,
    pub(crate) video_received: u64,
    /// Sealed media with its headers.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) lost: u64,
    pub(crate) undecryptable: u64,
    /// Capture to opening; null if nothing came.
    pub(crate) delay_us_p50: Option<u64>,
    pub(crate) delay_us_p99: Option<u64>,
    /// Longest time in which no packet of somebody's sound came.
    pub(crate) silence_ms_max: u64,
    pub(crate) rtt_us: u64,
    /// "udp" or "tcp", at the end; null if there was no session.
    pub(crate) transport: Option<&'static str>,
    pub(crate) rung: String,
    pub(crate) safety_number: String,
    /// Whether we saw the other side come online before we rang.
    pub(crate) peer_online_seen: bool,
}

impl Summary {
    pub(crate) fn new(stats: &CallStats, safety_number: String, peer_online_seen: bool) -> Self {
        let packets =
            |direction, kind| stats.sum(direction, |track| if track.kind == kind { track.objects } else { 0 });
        let delay = stats.delay();
        Self {
            audio_sent: packets(Direction::Sent, TrackKind::Audio),
            audio_received: packets(Direction::Received, TrackKind::Audio),
            video_sent: packets(Direction::Sent, TrackKind::Video),
            video_received: packets(Direction::Received, TrackKind::Video),
            bytes_sent: stats.sum(Direction::Sent, |track| track.bytes),
            bytes_received: stats.sum(Direction::Received, |track| track.bytes),
            lost: stats.sum(Direction::Received, |track| track.lost),
            undecryptable: stats.sum(Direction::Received, |track| track.undecryptable),
            delay_us_p50: delay.quantile_us(0.5),
            delay_us_p99: delay.quantile_us(0.99),
            silence_ms_max: silence_ms_max(&stats.tracks),
            rtt_us: stats.rtt.as_micros() as u64,
            transport: stats.transport.map(|transport| match transport {
                Transport::Udp => "udp",
                Transport::Tcp => "tcp",
                Transport::WebTransport => "webtransport",
            }),
            rung: rung_name(stats.rung),
            safety_number,
            peer_online_seen,
        }
    }
}

/// The longest time between two packets of one track of sound, of all that are received.
pub(crate) fn silence_ms_max<'a>(tracks: impl IntoIterator<Item = &'a TrackStats>) -> u64 {
    let heard = |track: &&TrackStats| track.direction == Direction::Received && track.kind == TrackKind::Audio;
    let gaps = tracks.into_iter().filter(heard).map(|track| track.longest_gap);
    gaps.max().unwrap_or_default().as_millis() as u64
}

/// Prints a line a second until dropped.
pub(crate) async fn show(call: Call) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let (mut sent, mut received, mut silent_s) = (0, 0, 0);
    for second in 1u64.. {
        ticks.tick().await;
        let stats = call.stats();
        let (out, into) =
            (stats.sum(Direction::Sent, |track| track.bytes), stats.sum(Direction::Received, |track| track.bytes));
        silent_s = if into == received { silent_s + 1 } else { 0 };
        // Figures would say that all is well: nothing is lost of what never came.
        if received > 0 && silent_s >= SILENT_S_MIN {
            note(&format!("{second:>4} s  nothing has come for {silent_s} s: is the other side, or the relay, gone?"));
        } else {
            note(&line(second, out - sent, into - received, &stats, &call.safety_number().unwrap_or_default()));
        }
        (sent, received) = (out, into);
    }
}

/// So many seconds without anything are told of.
const SILENT_S_MIN: u64 = 2;

fn line(second: u64, sent_bytes: u64, received_bytes: u64, stats: &CallStats, safety_number: &str) -> String {
    let kilobits = |bytes: u64| bytes * 8 / 1000;
    let delay =
        stats.delay().quantile_us(0.5).map_or_else(|| "-".into(), |us| format!("{}.{} ms", us / 1000, us / 100 % 10));
    // On the top rung the relay takes everything: the bound is for encoders, and a file is none.
    let bound = stats.tracks.iter().filter_map(|track| track.demand?.bits_per_second).min();
    let bound = bound.filter(|_| stats.rung != Rung::Full);
    let bound = bound.map_or_else(String::new, |bits| format!(" of at most {}", bits / 1000));
    // UDP is what a call is meant to go by: only the other is told.
    let by = if stats.transport == Some(Transport::Tcp) { "  over TCP" } else { "" };
    format!(
        "{second:>4} s  out {:>5}{bound} kbit/s  in {:>5} kbit/s  lost {}  delay {delay}  rung {}{by}  safety {safety_number}",
        kilobits(sent_bytes),
        kilobits(received_bytes),
        stats.sum(Direction::Received, |track| track.lost),
        rung_name(stats.rung),
    )
}

fn rung_name(rung: Rung) -> String {
    let name = rung.as_str_name();
    name.strip_prefix("RUNG_").unwrap_or(name).to_owned()
}

/// A line for people.
pub(crate) fn note(line: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use supernode_client::{Demand, Histogram};

    use super::*;

    #[test]
    fn a_line_of_progress_says_rate_loss_delay_rung_and_safety_number() {
        let stats =
            CallStats { rtt: Duration::ZERO, transport: Some(Transport::Udp), rung: Rung::AudioOnly, tracks: vec![] };
        assert_eq!(
            line(3, 12_500, 125, &stats, "12345 67890"),
            "   3 s  out   100 kbit/s  in     1 kbit/s  lost 0  delay -  rung AUDIO_ONLY  safety 12345 67890"
        );
        let demand = Demand { bits_per_second: Some(300_000), ..Demand::default() };
        let picture = TrackStats {
            direction: Direction::Sent,
            publisher: None,
            kind: TrackKind::Video,
            name: "picture".into(),
            objects: 0,
            bytes: 0,
            dropped: 0,
            lost: 0,
            undecryptable: 0,
            longest_gap: Duration::ZERO,
            delay: Histogram::default(),
            demand: Some(demand),
        };
        let squeezed =
            line(4, 25_000, 125, &CallStats { tracks: vec![picture.clone()], ..stats.clone() }, "12345 67890");
        assert!(squeezed.starts_with("   4 s  out   200 of at most 300 kbit/s"), "{squeezed}");
        let full = line(5, 40_750, 125, &CallStats { tracks: vec![picture], rung: Rung::Full, ..stats }, "12345 67890");
        assert!(full.starts_with("   5 s  out   326 kbit/s"), "{full}");
    }
}
