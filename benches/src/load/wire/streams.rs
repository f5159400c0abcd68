//! Video: one stream for each group of pictures and temporal layer, out and in.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, StreamId, WriteError};
use supernode_measure::stamp::Stamp;
use supernode_proto::object::{DecodeError, Flags, Hop, Layer, TrackAlias, Visible};
use supernode_session::{StreamReader, put_object, put_stream_head};

use crate::load::{
    client::{Stage, put_sealed},
    link::Link,
    page,
    scenario::Video,
};

/// Frames that may wait for one publisher's connection: about two seconds.
const WAITING_MAX: usize = 64;

/// The streams of one video track that its publisher still writes to.
#[derive(Default)]
pub(crate) struct VideoOut {
    streams: VecDeque<OutStream>,
    /// The group that could not be opened, if it is the present one.
    given_up: Option<u64>,
}

struct OutStream {
    id: StreamId,
    group: u64,
    layer: u8,
    waiting: VecDeque<Bytes>,
    complete: bool,
}

impl VideoOut {
    /// Sends the frame that is due; `false` if its group cannot be sent.
    pub(crate) fn send(
        &mut self,
        link: &mut Link,
        alias: TrackAlias,
        stamp: Stamp,
        video: &Video,
        stage: &Stage,
    ) -> bool {
        let (group, frame) =
            (stamp.sequence / u64::from(video.group_frames), stamp.sequence % u64::from(video.group_frames));
        let mut wire = BytesMut::new();
        if self.given_up == Some(group) {
            return false;
        }
        let layer = temporal_layer(video, frame);
        let is_its = |stream: &OutStream| stream.group == group && stream.layer == layer;
        if !self.streams.iter().any(is_its) {
            // A group whose beginning was missed is of no use.
            if frame > 0 && !self.streams.iter().any(|stream| stream.group == group) {
                return false;
            }
            let hop = Hop { alias, priority: 1, ttl_ms: stage.scenario.ttl_ms };
            let Some(id) = link.quic.streams().open(Dir::Uni) else {
                self.given_up = Some(group);
                return false;
            };
            if link.page.is_some() {
                wire.extend_from_slice(&page::MEDIA_HEADER);
            }
            put_stream_head(&mut wire, hop, group, layer);
            self.streams.push_back(OutStream { id, group, layer, waiting: VecDeque::new(), complete: false });
        }
        let last = frame + 1 == u64::from(video.group_frames);
        let of_group = |stream: &&mut OutStream| stream.group == group;
        let Some(stream) = self.streams.iter_mut().find(|stream| is_its(stream)) else { return false };
        if stream.waiting.len() >= WAITING_MAX {
            self.given_up = Some(group);
            self.streams.iter_mut().filter(of_group).for_each(|stream| stream.complete = true);
            return false;
        }
        let bytes = frame_bytes(video, frame == 0);
        let flags = if frame == 0 { Flags::INDEPENDENT } else { Flags::default() };
        let flags = if last { flags | Flags::END_OF_GROUP } else { flags };
        let layer = Layer::new(layer, 0).unwrap_or_default();
        put_object(&mut wire, Visible { group, object: frame, flags, layer }, bytes as u32);
        put_sealed(&mut wire, stamp, bytes, stage);
        stream.waiting.push_back(wire.freeze());
        if last {
            self.streams.iter_mut().filter(of_group).for_each(|stream| stream.complete = true);
        }
        true
    }

    /// Writes what the connection takes.
    pub(crate) fn flush(&mut self, link: &mut Link) {
        self.streams.retain_mut(|stream| {
            let mut quic = link.quic.send_stream(stream.id);
            while let Some(front) = stream.waiting.front_mut() {
                match quic.write_chunks(std::slice::from_mut(front)) {
                    Ok(_) if front.is_empty() => {
                        stream.waiting.pop_front();
                    }
                    Ok(_) => {}
                    Err(WriteError::Blocked) => return true,
                    // The relay does not want the rest of the group: its frames count as lost.
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return false,
                }
            }
            if stream.complete {
                // It was open a moment ago; a stop by the relay ends it as well.
                let _ = quic.finish();
            }
            !stream.complete
        });
    }
}

/// Each layer doubles the rate of those below it.
fn temporal_layer(video: &Video, frame: u64) -> u8 {
    match (video.temporal_layers, frame % 4) {
        (0 | 1, _) | (_, 0) => 0,
        (2, frame) => (frame % 2) as u8,
        (_, 2) => 1,
        _ => 2,
    }
}

/// Key frames are bigger by the scenario's factor, and the average is its rate.
fn frame_bytes(video: &Video, key_frame: bool) -> usize {
    let group = f64::from(video.group_frames);
    let average = video.kbit_per_s * 1000.0 / 8.0 / video.frames_per_second;
    let small = average * group / (group - 1.0 + video.key_frame_factor);
    let bytes = if key_frame { small * video.key_frame_factor } else { small };
    (bytes as usize).max(Stamp::BYTES)
}

/// A media stream, of which the stamps are read and the rest is passed over.
#[derive(Default)]
pub(crate) struct StreamIn {
    reader: StreamReader,
    /// Of the object that comes, once it is there: nothing in one that is too short.
    stamp: Option<Option<Stamp>>,
    /// The sequence of the last object.
    last: Option<u64>,
    /// Bytes of the link's own that are still to come in front.
    front: usize,
}

impl StreamIn {
    /// One that comes on a page's link.
    pub(crate) fn of_page() -> Self {
        Self { front: page::MEDIA_HEADER.len(), ..Self::default() }
    }

    /// Takes the next bytes; passes on each object that they complete: its track, its stamp, its size, and whether it comes
    /// after those that were sent before it.
    ///
    /// # Errors
    /// When the relay sends what is no media stream.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut pass: impl FnMut(TrackAlias, Stamp, usize, bool),
    ) -> Result<(), DecodeError> {
        let full = bytes.len();
        let (_, bytes) = bytes.split_at(self.front.min(bytes.len()));
        self.front -= full - bytes.len();
        self.reader.push(bytes);
        while let (Some(header), Some(object)) = (self.reader.header()?, self.reader.object()?) {
            if self.stamp.is_none() {
                self.stamp = self.reader.beginning(Stamp::BYTES).map(Stamp::read);
            }
            let Some(stamp) = self.stamp else { return Ok(()) };
            if !self.reader.skip_sealed() {
                return Ok(());
            }
            self.stamp = None;
            if let Some(stamp) = stamp {
                let in_order = self.last.replace(stamp.sequence).is_none_or(|last| last < stamp.sequence);
                pass(header.hop.alias, stamp, object.length as usize, in_order);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_temporal_layer_doubles_the_rate() {
        let layers = |temporal_layers| {
            let video = Video { temporal_layers, ..Video::default() };
            (0..8).map(|frame| temporal_layer(&video, frame)).collect::<Vec<_>>()
        };
        assert_eq!(layers(1), [0; 8]);
        assert_eq!(layers(2), [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(layers(3), [0, 2, 1, 2, 0, 2, 1, 2]);
    }

    #[test]
    fn frames_add_up_to_the_rate() {
        let video = Video::default();
        let group: usize = (0..video.group_frames).map(|frame| frame_bytes(&video, frame == 0)).sum();
        let seconds = f64::from(video.group_frames) / video.frames_per_second;
        let kbit_per_s = group as f64 * 8.0 / 1000.0 / seconds;
        assert!((kbit_per_s / video.kbit_per_s - 1.0).abs() < 0.001, "{kbit_per_s}");
    }

    #[test]
    fn objects_are_read_however_the_stream_is_cut() {
        let alias = TrackAlias::new(77).expect("small");
        let hop = Hop { alias, priority: 1, ttl_ms: 1000 };
        let mut wire = BytesMut::new();
        put_stream_head(&mut wire, hop, 3, 0);
        let sizes = [(16usize, 7), (17, 9), (400, 8)];
        let stamps = sizes.map(|(bytes, sequence)| (Stamp { due_ns: bytes as u64, sequence }, bytes));
        for (stamp, bytes) in stamps {
            let visible = Visible { group: 3, object: 0, flags: Flags::default(), layer: Layer::default() };
            put_object(&mut wire, visible, bytes as u32);
            wire.extend_from_slice(&stamp.to_bytes());
            wire.resize(wire.len() + bytes - Stamp::BYTES, 0);
        }
        for piece in [1, 7, 50, 10_000] {
            let (mut reader, mut read) = (StreamIn::default(), Vec::new());
            for chunk in wire.chunks(piece) {
                let pass = |of, stamp, _, in_order| read.push((of, stamp, in_order));
                reader.push(chunk, pass).expect("a media stream");
            }
            let expected = stamps.map(|(stamp, _)| (alias, stamp, stamp.sequence != 8));
            assert_eq!(read, expected, "in pieces of {piece}");
        }
    }
}
