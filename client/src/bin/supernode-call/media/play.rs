//! Plays media files, or what a microphone hears, into a call in real time.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use supernode_client::{
    Call, OutgoingFrame, PublishOptions, Publisher, TrackId, TrackInfo, TrackKind,
    media::{MediaError, ivf, ogg_opus, opus_voice},
};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use crate::{
    sound::{Microphone, SoundArgs},
    trouble::Trouble,
};

/// Recordings are to be whole, so nothing is given up before this.
pub(crate) const PATIENCE_MS: u32 = 10_000;
/// What somebody says now is worth nothing after this.
const LIVE_MS: u32 = 1_000;

/// Where our sound or our picture comes from.
pub(crate) enum Source {
    File(Box<Recorded>),
    Microphone(Microphone),
}

/// An open file, whichever kind.
pub(crate) enum Recorded {
    Audio { path: String, reader: ogg_opus::Reader<BufReader<File>> },
    Video { path: String, reader: ivf::Reader<BufReader<File>> },
}

impl Source {
    /// The microphone if one is wanted, or else the file, if there is one.
    pub(crate) fn sound(sound: &SoundArgs, path: Option<&Path>) -> Result<Option<Self>, Trouble> {
        match sound.microphone()? {
            Some(microphone) => Ok(Some(Self::Microphone(microphone))),
            None => path.map(Self::audio).transpose(),
        }
    }

    pub(crate) fn audio(path: &Path) -> Result<Self, Trouble> {
        let reader = ogg_opus::Reader::new(open(path)?).map_err(is_no("Ogg Opus", path))?;
        Ok(Self::File(Box::new(Recorded::Audio { path: path.display().to_string(), reader })))
    }

    pub(crate) fn video(path: &Path) -> Result<Self, Trouble> {
        let reader = ivf::Reader::new(open(path)?).map_err(is_no("IVF", path))?;
        Ok(Self::File(Box::new(Recorded::Video { path: path.display().to_string(), reader })))
    }

    /// Announces it as a track.
    pub(crate) async fn publish(&self, call: &Call, activity: bool) -> Result<Publisher, supernode_client::Error> {
        let ttl_ms = if matches!(self, Self::Microphone(_)) { LIVE_MS } else { PATIENCE_MS };
        let (kind, name, codec, parameters) = match self {
            Self::Microphone(microphone) => (TrackKind::Audio, "audio", "opus", opus_parameters(&microphone.headers())),
            Self::File(recorded) => recorded.track(),
        };
        let info = TrackInfo { id: TrackId(rand::random()), name: name.into(), codec: codec.into(), parameters };
        call.publish(kind, info, PublishOptions { ttl_ms, activity }).await
    }

    /// Sends what there is from `start` on, until a file ends, `until` is past, or it is told to stop.
    pub(crate) async fn play(
        self,
        publisher: &mut Publisher,
        start: Instant,
        until: Option<Instant>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        match self {
            Self::File(recorded) => recorded.play(publisher, start, until, stopped).await,
            Self::Microphone(microphone) => microphone.play(publisher, until, stopped).await,
        }
    }
}

impl Recorded {
    /// Kind, name, codec and codec parameters of its track.
    fn track(&self) -> (TrackKind, &'static str, &'static str, Vec<u8>) {
        match self {
            Self::Audio { reader, .. } => (TrackKind::Audio, "audio", "opus", opus_parameters(reader.headers())),
            Self::Video { reader, .. } => {
                let header = reader.header();
                (TrackKind::Video, "video", video_codec(header.codec), header.to_bytes().to_vec())
            }
        }
    }

    /// The next packet: its time, whether decoding can begin with it, and its bytes.
    fn next(&mut self) -> Result<Option<(u64, bool, Vec<u8>)>, Trouble> {
        Ok(match self {
            Self::Audio { path, reader } => {
                let packet = reader.next_packet().map_err(Trouble::media(path))?;
                packet.map(|packet| (packet.time_us, true, packet.data))
            }
            Self::Video { path, reader } => {
                let frame = reader.next_frame().map_err(Trouble::media(path))?;
                frame.map(|frame| (frame.time_us, frame.is_key, frame.data))
            }
        })
    }

    /// Packet after packet, each at its time.
    async fn play(
        mut self,
        publisher: &mut Publisher,
        start: Instant,
        until: Option<Instant>,
        mut stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let independent = matches!(self, Self::Audio { .. });
        while let Some((time_us, keyframe, data)) = self.next()? {
            let at = start + Duration::from_micros(time_us);
            if until.is_some_and(|until| at > until) {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                () = sleep_until(at) => {}
            }
            let frame = match independent {
                true => OutgoingFrame { activity: activity(&data), ..OutgoingFrame::independent(&data, time_us) },
                false => OutgoingFrame::video(&data, time_us, keyframe),
            };
            publisher.send(&frame).await?;
        }
        Ok(())
    }
}

/// What an Opus packet says of itself; sent on tracks that show it only.
pub(crate) fn activity(packet: &[u8]) -> u8 {
    const SPEAKING: u8 = 2;
    if opus_voice::has_voice(packet) == Some(true) { SPEAKING } else { 0 }
}

fn is_no(format: &'static str, path: &Path) -> impl FnOnce(MediaError) -> Trouble {
    let (path, seen) = (path.display().to_string(), begins_like(path));
    move |source| Trouble::NoMedia { path, format, seen, source }
}

/// What a file that is not what it should be begins like.
fn begins_like(path: &Path) -> &'static str {
    let mut start = [0; 12];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match &start {
        _ if read.is_err() => "it is too short for one",
        [b'O', b'g', b'g', b'S', ..] => "it begins like an Ogg file: --audio is for those of Opus",
        [b'D', b'K', b'I', b'F', ..] => "it begins like an IVF file: --video is for those",
        [b'R', b'I', b'F', b'F', ..] => {
            "it begins like WAV or AVI: ffmpeg -i OLD -c:a libopus NEW.opus makes Ogg Opus of it"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
            "it begins like MP4: ffmpeg -i OLD -an -c:v vp8 NEW.ivf, or -vn -c:a libopus NEW.opus"
        }
        [0x1a, 0x45, 0xdf, 0xa3, ..] => {
            "it begins like WebM or Matroska: ffmpeg -i OLD -an -c:v copy NEW.ivf, or -vn -c:a copy NEW.opus"
        }
        _ => "it begins like nothing that is known here",
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Trouble> {
    File::open(path).map(BufReader::new).map_err(Trouble::read(path))
}

fn video_codec(codec: ivf::Codec) -> &'static str {
    match codec {
        ivf::Codec::Vp8 => "vp8",
        ivf::Codec::Vp9 => "vp9",
        ivf::Codec::Av1 => "av1",
    }
}

/// The two Ogg header packets in a track's parameters: the length of the first in two bytes, big-endian, then both.
pub(crate) fn opus_parameters(headers: &ogg_opus::Headers) -> Vec<u8> {
    let length = u16::try_from(headers.head.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length[..], &headers.head, &headers.tags].concat()
}

pub(crate) fn opus_headers(parameters: &[u8]) -> Result<ogg_opus::Headers, Trouble> {
    let split = parameters
        .split_first_chunk()
        .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
    let (head, tags) = split.ok_or(Trouble::OddTrack { odd: "audio track has parameters that are cut short" })?;
    Ok(ogg_opus::Headers { head: head.to_vec(), tags: tags.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_kind_is_told_what_it_is_and_where_it_belongs() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
        let said = |result: Result<Source, Trouble>| result.err().expect("another kind").to_string();
        let sound = said(Source::video(&samples.join("speech-a.opus")));
        assert!(sound.contains("speech-a.opus: is no IVF file; it begins like an Ogg file: --audio"), "{sound}");
        let picture = said(Source::audio(&samples.join("picture-a.ivf")));
        assert!(
            picture.contains("picture-a.ivf: is no Ogg Opus file; it begins like an IVF file: --video"),
            "{picture}"
        );
    }

    #[test]
    fn opus_headers_come_back_from_a_tracks_parameters() {
        let headers = ogg_opus::Headers { head: b"OpusHead...".to_vec(), tags: b"OpusTags....".to_vec() };
        assert_eq!(opus_headers(&opus_parameters(&headers)).expect("whole"), headers);
        opus_headers(&[0]).expect_err("no length");
        opus_headers(&[0, 9, 1]).expect_err("cut short");
    }
}
