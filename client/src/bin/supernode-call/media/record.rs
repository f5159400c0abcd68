//! Records the tracks of others, packet for packet, as they are played, and plays them on a loudspeaker.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use supernode_client::{
    Call, DelayBounds, Played, RemoteTrack, SubscribeOptions, TrackInfo, TrackKind,
    media::{ivf, ogg_opus},
};
use tokio::sync::watch;

use super::play::{PATIENCE_MS, opus_headers};
use crate::{
    sound::{Ear, Loudspeaker},
    trouble::Trouble,
};

/// Of video: a recording that is out of order is worth less than one that comes late.
const HOLD: Duration = Duration::from_millis(1_000);
/// Of audio: as short as one packet, and as patient.
const DELAY: DelayBounds = DelayBounds { min: Duration::from_millis(20), max: HOLD };

/// Where packets go; nowhere if nothing is kept.
pub(crate) enum Sink {
    Audio { path: String, writer: ogg_opus::Writer<BufWriter<File>> },
    Video { path: String, writer: ivf::Writer<BufWriter<File>> },
    Nowhere,
}

/// What happened to a track while it was recorded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Packets that came after their time and are not in the recording.
    pub(crate) late: u64,
    /// How long after the fastest way packets are played.
    pub(crate) delay: Duration,
}

const AUDIO: &str = "audio.opus";
const VIDEO: &str = "video.ivf";

/// Makes the directory for recordings.
pub(crate) fn make_directory(directory: &Path) -> Result<(), Trouble> {
    let path = directory.display().to_string();
    std::fs::create_dir_all(directory).map_err(|source| Trouble::Write { path, source })
}

/// Makes the directory for the recordings of a call; those of an earlier one are not written over.
pub(crate) fn make_fresh(directory: &Path) -> Result<(), Trouble> {
    make_directory(directory)?;
    match [AUDIO, VIDEO].map(|name| directory.join(name)).iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(Trouble::Exists { path: path.display().to_string() }),
        None => Ok(()),
    }
}

/// What becomes of what the others send.
pub(crate) struct Outputs {
    /// A file for each track is made there.
    pub(crate) directory: Option<PathBuf>,
    /// What they say is heard there.
    pub(crate) loudspeaker: Option<Arc<Loudspeaker>>,
}

impl Outputs {
    /// Where a track goes: to the file of that name, or nowhere; and by what it is heard, if it is.
    pub(crate) fn of(&self, track: &RemoteTrack, name: &str) -> Result<(Sink, Option<Ear>), Trouble> {
        let sink = match &self.directory {
            Some(directory) => Sink::new(track.info(), track.kind(), &directory.join(name))?,
            None => Sink::Nowhere,
        };
        let loudspeaker = self.loudspeaker.as_ref().filter(|_| track.kind() == TrackKind::Audio);
        Ok((sink, loudspeaker.and_then(|loudspeaker| loudspeaker.ear(track))))
    }
}

/// Takes the other side's tracks until they end. Whoever shows no picture is only heard: once their audio has ended, none is
/// waited for.
pub(crate) async fn take_both(call: Call, outputs: Outputs) -> anyhow::Result<()> {
    let (heard, mut heard_out) = watch::channel(false);
    let audio = async {
        let track = call.track(TrackKind::Audio).await?;
        let recorded = record(&call, &track, &outputs).await;
        heard.send_replace(true);
        recorded
    };
    let video = async {
        let track = tokio::select! {
            biased;
            track = call.track(TrackKind::Video) => track?,
            _ = heard_out.wait_for(|heard| *heard) => return Ok(()),
        };
        record(&call, &track, &outputs).await
    };
    let (audio, video) = tokio::join!(audio, video);
    audio.and(video)
}

async fn record(call: &Call, track: &Arc<RemoteTrack>, outputs: &Outputs) -> anyhow::Result<()> {
    let name = if track.kind() == TrackKind::Audio { AUDIO } else { VIDEO };
    record_track(call, track, outputs.of(track, name)?, 0, |_, _| {}).await
}

/// Plays a track into a sink, and to whoever listens, until it ends, or of tracks that show who speaks, while its publisher is
/// among so many most active ones. `played` sees each packet.
pub(crate) async fn record_track(
    call: &Call,
    track: &Arc<RemoteTrack>,
    (mut sink, mut ear): (Sink, Option<Ear>),
    speakers_max: u32,
    mut played: impl FnMut(&[u8], Progress),
) -> anyhow::Result<()> {
    let options = SubscribeOptions {
        // A recording is to be whole. Who listens is to hear what is said now: the relay's own bound.
        max_age_ms: if ear.is_some() { 0 } else { PATIENCE_MS },
        hold: HOLD,
        speakers_max,
        ..SubscribeOptions::for_kind(track.kind())
    };
    if track.kind() == TrackKind::Audio {
        let bounds = if ear.is_some() { DelayBounds::default() } else { DELAY };
        let mut playback = call.play(track, options, bounds).await?;
        loop {
            let next = match &mut ear {
                Some(ear) => match tokio::time::timeout(ear.patience(), playback.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        ear.nothing();
                        continue;
                    }
                },
                None => playback.next().await,
            };
            match next {
                Some(Played::Frame(frame)) => {
                    if let Some(ear) = &mut ear {
                        ear.frame(&frame.payload);
                    }
                    played(&frame.payload, Progress { late: playback.late(), delay: playback.delay() });
                    sink.write(frame.times.presentation_us, frame.payload.to_vec())?;
                }
                Some(Played::Missing(packets)) => {
                    if let Some(ear) = &mut ear {
                        ear.missing(packets);
                    }
                }
                None => break,
            }
        }
    } else {
        let mut subscription = call.subscribe(track, options).await?;
        while let Some(frame) = subscription.next().await {
            played(&frame.payload, Progress::default());
            sink.write(frame.times.presentation_us, frame.payload.to_vec())?;
        }
    }
    Ok(sink.finish()?)
}

impl Sink {
    pub(crate) fn new(info: &TrackInfo, kind: TrackKind, path: &Path) -> Result<Self, Trouble> {
        let shown = path.display().to_string();
        Ok(match kind {
            TrackKind::Audio => {
                let headers = opus_headers(&info.parameters)?;
                let writer = ogg_opus::Writer::new(create(path)?, headers).map_err(Trouble::media(&shown))?;
                Self::Audio { path: shown, writer }
            }
            _ => {
                let odd = "video track has parameters that are no IVF header";
                let header = info.parameters.as_slice().try_into();
                let header = header.map_err(|_| Trouble::OddTrack { odd })?;
                let header = ivf::Header::from_bytes(header).map_err(|_| Trouble::OddTrack { odd })?;
                let writer = ivf::Writer::new(create(path)?, header).map_err(Trouble::media(&shown))?;
                Self::Video { path: shown, writer }
            }
        })
    }

    fn write(&mut self, time_us: u64, packet: Vec<u8>) -> Result<(), Trouble> {
        match self {
            Self::Audio { path, writer } => writer.write_packet(time_us, packet).map_err(Trouble::media(path)),
            Self::Video { path, writer } => writer.write_frame(time_us, &packet).map_err(Trouble::media(path)),
            Self::Nowhere => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Trouble> {
        match self {
            Self::Audio { path, writer } => writer.finish().map(drop).map_err(Trouble::media(&path)),
            Self::Video { path, writer } => writer.finish().map(drop).map_err(Trouble::media(&path)),
            Self::Nowhere => Ok(()),
        }
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, Trouble> {
    File::create(path).map(BufWriter::new).map_err(Trouble::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_recording_is_not_written_over() {
        let directory = std::env::temp_dir().join(format!("supernode-record-{}", std::process::id()));
        make_fresh(&directory).expect("made");
        make_fresh(&directory).expect("it is empty");
        std::fs::write(directory.join(VIDEO), "a recording").expect("ours");
        let said = make_fresh(&directory).expect_err("there").to_string();
        assert!(said.ends_with("video.ivf: is there already"), "{said}");
        std::fs::remove_dir_all(&directory).expect("ours");
    }
}
