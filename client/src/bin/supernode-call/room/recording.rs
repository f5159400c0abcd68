//! Takes every track of the others as it comes, keeps or plays it if that is wished, and reads what they say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use supernode_client::{Call, RemoteTrack, SubscribeOptions, TrackKind, media::opus_voice};
use tokio::{sync::watch, task::JoinSet};

use super::{figures::Watched, roster};
use crate::{
    failure::told,
    media::record::{Outputs, record_track},
    progress::note,
};

/// An Opus packet, as all our recorders make them.
const PACKET: Duration = Duration::from_millis(20);

/// The codec of a track of lines.
const TEXT: &str = "text";

/// What comes from the others.
pub(super) struct Recording {
    outputs: Outputs,
    speakers_max: u32,
    watched: Arc<Watched>,
    /// Audio and video tracks that have not ended.
    pub(super) running: watch::Sender<usize>,
    pub(super) lines: AtomicU64,
}

impl Recording {
    pub(super) fn new(outputs: Outputs, speakers_max: u32, watched: Arc<Watched>) -> Arc<Self> {
        Arc::new(Self { outputs, speakers_max, watched, running: watch::Sender::new(0), lines: AtomicU64::new(0) })
    }

    /// Runs until the room is over for us.
    pub(super) async fn run(self: Arc<Self>, call: Call) {
        let mut events = call.events();
        // Held, so that a track's place in memory is not another's while we know it by that.
        let mut taken: Vec<Arc<RemoteTrack>> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let tracks = call.tracks();
            taken.retain(|known| tracks.iter().any(|track| Arc::ptr_eq(track, known)));
            for track in tracks {
                if !taken.iter().any(|known| Arc::ptr_eq(known, &track)) {
                    taken.push(track.clone());
                    tasks.spawn(self.clone().take(call.clone(), track));
                }
            }
            // One that lagged behind looks at everything all the same.
            if let Err(tokio::sync::broadcast::error::RecvError::Closed) = events.recv().await {
                return;
            }
        }
    }

    /// Waits until every audio and video track has ended.
    pub(super) async fn ended(&self) {
        let mut running = self.running.subscribe();
        // Our own sender is there as long as we are.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    async fn take(self: Arc<Self>, call: Call, track: Arc<RemoteTrack>) {
        let is_media = matches!(track.kind(), TrackKind::Audio | TrackKind::Video | TrackKind::Screen);
        let taken = if is_media {
            self.running.send_modify(|running| *running += 1);
            let taken = self.record(&call, &track).await;
            self.running.send_modify(|running| *running -= 1);
            taken
        } else if track.info().codec == TEXT {
            self.read(&call, &track).await
        } else {
            // What pages tell each other beside that is for pages.
            Ok(())
        };
        if let Err(error) = taken {
            note(&format!(
                "a track of {} broke off: {}",
                roster::name(&track.publisher().identity.to_text()),
                told(&error)
            ));
        }
    }

    async fn record(&self, call: &Call, track: &Arc<RemoteTrack>) -> anyhow::Result<()> {
        let member = track.publisher();
        let outputs = self.outputs.of(track, &file_name(track))?;
        let watched = self.watched.clone();
        let is_audio = track.kind() == TrackKind::Audio;
        record_track(call, track, outputs, self.speakers_max, move |packet, progress| {
            if is_audio {
                let speaks = opus_voice::has_voice(packet) == Some(true);
                watched.voices.note(member, speaks, PACKET, Instant::now());
                watched.note_progress(member, progress);
            }
        })
        .await
    }

    /// Shows what somebody says, line by line.
    async fn read(&self, call: &Call, track: &Arc<RemoteTrack>) -> anyhow::Result<()> {
        let from = roster::name(&track.publisher().identity.to_text());
        let mut lines = call.subscribe(track, SubscribeOptions::for_kind(TrackKind::Data)).await?;
        while let Some(frame) = lines.next().await {
            self.lines.fetch_add(1, Relaxed);
            note(&format!("{from}: {}", printable(&frame.payload)));
        }
        Ok(())
    }
}

/// Whose it is and what: no two tracks of one device have the same, because a device sends one of each kind.
fn file_name(track: &RemoteTrack) -> String {
    let member = track.publisher();
    let device = member.device.to_text();
    let device: String = device.trim_start_matches("sn-dev-").chars().take(8).collect();
    let kind = if track.kind() == TrackKind::Audio { "audio.opus" } else { "video.ivf" };
    format!("{}-{device}-{kind}", member.identity.to_text())
}

/// Others choose what they say, but not what it does to a terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_steer_the_terminal() {
        assert_eq!(printable(b"hello\x1b[2J\r\nworld"), "hello[2Jworld");
        assert_eq!(printable("grüße".as_bytes()), "grüße");
    }
}
