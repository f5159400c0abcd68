//! Records the other side's tracks, packet for packet.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use supernode_client::{
    Call, SubscribeOptions, TrackInfo, TrackKind,
    media::{ivf, ogg_opus},
};

use crate::play::{PATIENCE_MS, opus_headers};

/// A recording that is out of order is worth less than one that comes late.
const HOLD: Duration = Duration::from_millis(1_000);

enum Sink {
    Audio(ogg_opus::Writer<BufWriter<File>>),
    Video(ivf::Writer<BufWriter<File>>),
}

/// Waits for the other side's track of this kind and writes it to a file in `directory` until it ends: how many packets.
pub(crate) async fn record(call: Call, kind: TrackKind, directory: PathBuf) -> anyhow::Result<u64> {
    let track = call.track(kind).await?;
    let all = SubscribeOptions { max_age_ms: PATIENCE_MS, hold: HOLD, ..SubscribeOptions::for_kind(kind) };
    let mut sink = Sink::new(track.info(), kind, &directory)?;
    let mut subscription = call.subscribe(&track, all).await?;
    let mut packets = 0;
    while let Some(frame) = subscription.next().await {
        sink.write(frame.times.presentation_us, frame.payload.to_vec())?;
        packets += 1;
    }
    sink.finish()?;
    Ok(packets)
}

impl Sink {
    fn new(info: &TrackInfo, kind: TrackKind, directory: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            TrackKind::Audio => {
                let headers = opus_headers(&info.parameters)?;
                Self::Audio(ogg_opus::Writer::new(create(&directory.join("audio.opus"))?, headers)?)
            }
            _ => {
                let header = info.parameters.as_slice().try_into();
                let header = header.map_err(|_| anyhow!("the video track's parameters are no IVF header"))?;
                let header = ivf::Header::from_bytes(header)?;
                Self::Video(ivf::Writer::new(create(&directory.join("video.ivf"))?, header)?)
            }
        })
    }

    fn write(&mut self, time_us: u64, packet: Vec<u8>) -> anyhow::Result<()> {
        match self {
            Self::Audio(writer) => Ok(writer.write_packet(time_us, packet)?),
            Self::Video(writer) => Ok(writer.write_frame(time_us, &packet)?),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Audio(writer) => writer.finish().map(drop)?,
            Self::Video(writer) => writer.finish().map(drop)?,
        }
        Ok(())
    }
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path).with_context(|| format!("cannot make {}", path.display()))?))
}
