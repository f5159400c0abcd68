//! Records the tracks of others, packet for packet, as they are played.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use supernode_client::{
    Call, DelayBounds, Played, RemoteTrack, SubscribeOptions, TrackInfo, TrackKind,
    media::{ivf, ogg_opus},
};

use crate::play::{PATIENCE_MS, opus_headers};

/// Of video: a recording that is out of order is worth less than one that comes late.
const HOLD: Duration = Duration::from_millis(1_000);
/// Of audio: as short as one packet, and as patient.
const DELAY: DelayBounds = DelayBounds { min: Duration::from_millis(20), max: HOLD };

/// Where packets go; nowhere if nothing is kept.
pub(crate) enum Sink {
    Audio(ogg_opus::Writer<BufWriter<File>>),
    Video(ivf::Writer<BufWriter<File>>),
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

/// Waits for the other side's track of this kind and writes it to a file in `directory` until it ends.
pub(crate) async fn record(call: Call, kind: TrackKind, directory: PathBuf) -> anyhow::Result<()> {
    let track = call.track(kind).await?;
    let name = if kind == TrackKind::Audio { "audio.opus" } else { "video.ivf" };
    let sink = Sink::new(track.info(), kind, &directory.join(name))?;
    record_track(&call, &track, sink, 0, |_, _| {}).await
}

/// Plays a track into a sink until it ends, or of tracks that show who speaks, while its publisher is among so many most
/// active ones. `played` sees each packet.
pub(crate) async fn record_track(
    call: &Call,
    track: &Arc<RemoteTrack>,
    mut sink: Sink,
    speakers_max: u32,
    mut played: impl FnMut(&[u8], Progress),
) -> anyhow::Result<()> {
    let options = SubscribeOptions {
        max_age_ms: PATIENCE_MS,
        hold: HOLD,
        speakers_max,
        ..SubscribeOptions::for_kind(track.kind())
    };
    if track.kind() == TrackKind::Audio {
        let mut playback = call.play(track, options, DELAY).await?;
        while let Some(next) = playback.next().await {
            let Played::Frame(frame) = next else { continue };
            played(&frame.payload, Progress { late: playback.late(), delay: playback.delay() });
            sink.write(frame.times.presentation_us, frame.payload.to_vec())?;
        }
    } else {
        let mut subscription = call.subscribe(track, options).await?;
        while let Some(frame) = subscription.next().await {
            played(&frame.payload, Progress::default());
            sink.write(frame.times.presentation_us, frame.payload.to_vec())?;
        }
    }
    sink.finish()
}

impl Sink {
    pub(crate) fn new(info: &TrackInfo, kind: TrackKind, path: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            TrackKind::Audio => {
                let headers = opus_headers(&info.parameters)?;
                Self::Audio(ogg_opus::Writer::new(create(path)?, headers)?)
            }
            _ => {
                let header = info.parameters.as_slice().try_into();
                let header = header.map_err(|_| anyhow!("the video track's parameters are no IVF header"))?;
                let header = ivf::Header::from_bytes(header)?;
                Self::Video(ivf::Writer::new(create(path)?, header)?)
            }
        })
    }

    fn write(&mut self, time_us: u64, packet: Vec<u8>) -> anyhow::Result<()> {
        match self {
            Self::Audio(writer) => Ok(writer.write_packet(time_us, packet)?),
            Self::Video(writer) => Ok(writer.write_frame(time_us, &packet)?),
            Self::Nowhere => Ok(()),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Audio(writer) => writer.finish().map(drop)?,
            Self::Video(writer) => writer.finish().map(drop)?,
            Self::Nowhere => {}
        }
        Ok(())
    }
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path).with_context(|| format!("cannot make {}", path.display()))?))
}
