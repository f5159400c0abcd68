//! Somebody who speaks and shows, and what came of it to those who listen.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use quinn_proto::StreamId;
use supernode_proto::{
    control::{Rung, TrackKind},
    object::{DatagramHeader, Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_session::{Moment, StreamReader, put_object, put_stream_head};
use supernode_testkit::datagram;
use supernode_world::{client::News, stage::Stage};

use crate::ALICE;

/// Frames of video a second, and in a group.
pub const FPS: u64 = 30;
/// Bytes of a frame by temporal layer: with 8, 7 and 15 of them a second, 1.5 Mbit/s.
const FRAME_BYTES: [usize; 3] = [11_700, 6_200, 3_300];
/// Groups of audio, one object each, are numbered from this many times the first group of the video on.
const AUDIO_GROUPS: u64 = 1000;
const SPEAKS_EVERY: Duration = Duration::from_millis(20);

/// Alice, who speaks 50 times a second and shows 30 frames.
pub struct Speaker {
    pub audio: TrackAlias,
    pub video: TrackAlias,
}

/// What was sent in one go.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Groups of audio, one object each.
    pub audio: Range<u64>,
    /// Groups of video, [`FPS`] objects each.
    pub video: Range<u64>,
}

impl Phase {
    pub fn audio_objects(&self) -> u64 {
        self.audio.end - self.audio.start
    }

    pub fn video_objects(&self) -> u64 {
        (self.video.end - self.video.start) * FPS
    }

    pub fn objects(&self) -> u64 {
        self.audio_objects() + self.video_objects()
    }
}

impl Speaker {
    pub fn new(stage: &mut Stage) -> Self {
        let audio = stage.publish(ALICE, TrackKind::Audio, false);
        Self { audio, video: stage.publish(ALICE, TrackKind::Video, false) }
    }

    /// Speaks and shows for so many seconds, in groups from this one on, and lets time pass. What it sends is stamped with it.
    /// Groups of one second are in three temporal layers, a stream for each.
    pub fn perform(&self, stage: &mut Stage, first_group: u64, seconds: u64) -> Phase {
        let (start, frame_every) = (stage.now(), Duration::from_micros(1_000_000 / FPS));
        let (mut spoken, mut shown) = (0, 0);
        let mut streams: [Option<StreamId>; 3] = [None; 3];
        while spoken < seconds * 50 || shown < seconds * FPS {
            let (speaks_at, shows_at) = (start + SPEAKS_EVERY * spoken as u32, start + frame_every * shown as u32);
            let next = speaks_at.min(shows_at);
            stage.pass(next.since(stage.now()));
            if speaks_at == next && spoken < seconds * 50 {
                let sealed = [&stamp(next)[..], &[0; 112]].concat();
                stage.send(ALICE, datagram(self.audio, first_group * AUDIO_GROUPS + spoken, &sealed));
                spoken += 1;
            } else if shows_at == next {
                let (group, frame) = (first_group + shown / FPS, shown % FPS);
                if frame == 0 {
                    streams.iter_mut().filter_map(Option::take).for_each(|id| stage.finish(ALICE, id));
                }
                self.show(stage, &mut streams, group, frame);
                shown += 1;
            } else {
                spoken += 1;
            }
        }
        streams.into_iter().flatten().for_each(|id| stage.finish(ALICE, id));
        let audio = first_group * AUDIO_GROUPS..first_group * AUDIO_GROUPS + seconds * 50;
        Phase { audio, video: first_group..first_group + seconds }
    }

    fn show(&self, stage: &mut Stage, streams: &mut [Option<StreamId>; 3], group: u64, frame: u64) {
        let layer = if frame.is_multiple_of(4) { 0 } else { 1 + (frame % 2) as usize };
        let mut wire = Vec::new();
        if streams[layer].is_none() {
            put_stream_head(&mut wire, Hop { alias: self.video, priority: 1, ttl_ms: 5_000 }, group, layer as u8);
        }
        let flags = if frame == 0 { Flags::INDEPENDENT } else { Flags::default() };
        let layer_of_frame = Layer::new(layer as u8, 0).expect("a layer");
        let visible = Visible { group, object: frame, flags, layer: layer_of_frame };
        put_object(&mut wire, visible, FRAME_BYTES[layer] as u32);
        wire.extend_from_slice(&stamp(stage.now()));
        wire.resize(wire.len() + FRAME_BYTES[layer] - 8, 7);
        match streams[layer] {
            Some(id) => stage.write(ALICE, id, &wire),
            None => streams[layer] = Some(stage.open(ALICE, &wire)),
        }
    }
}

fn stamp(now: Moment) -> [u8; 8] {
    (now.since_beginning().as_micros() as u64).to_be_bytes()
}

fn stamped(sealed: &[u8]) -> Moment {
    Moment::at(Duration::from_micros(u64::from_be_bytes(*sealed.first_chunk().expect("a stamp"))))
}

/// An object that came whole.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    pub group: u64,
    pub object: u64,
    /// How long it was on its way, if that is known: of a stream only its last object's time is.
    pub delay: Option<Duration>,
}

/// What a listener got.
#[derive(Debug, Default)]
pub struct Heard {
    /// In the order in which they came.
    pub audio: Vec<Came>,
    pub video: Vec<Came>,
    /// Rungs, and when they were told.
    pub rungs: Vec<(Moment, Rung)>,
}

impl Heard {
    /// All that has come to a client so far.
    pub fn of(stage: &Stage, client: usize) -> Self {
        let hand = stage.hand(client);
        let audio = hand.datagrams.iter().map(|(at, wire)| {
            let (header, length) = DatagramHeader::decode(wire).expect("an object");
            let Visible { group, object, .. } = header.visible;
            Came { group, object, delay: Some(at.since(stamped(&wire[length..]))) }
        });
        let mut video = Vec::new();
        for stream in &hand.streams {
            let mut reader = StreamReader::default();
            reader.push(&stream.bytes);
            while let (Ok(Some(header)), Ok(Some(object))) = (reader.header(), reader.object()) {
                if reader.take_sealed().is_none() {
                    break;
                }
                video.push(Came { group: header.group, object: object.object, delay: None });
            }
        }
        let rungs = hand.news.iter().filter_map(|(at, news)| match news {
            News::Rung(rung) => Some((*at, *rung)),
            _ => None,
        });
        Self { audio: audio.collect(), video, rungs: rungs.collect() }
    }

    pub fn audio_of(&self, phase: &Phase) -> Vec<Came> {
        self.audio.iter().filter(|came| phase.audio.contains(&came.group)).copied().collect()
    }

    pub fn video_of(&self, phase: &Phase) -> Vec<Came> {
        self.video.iter().filter(|came| phase.video.contains(&came.group)).copied().collect()
    }

    pub fn has_all_of(&self, phase: &Phase) -> bool {
        let came = [self.audio_of(phase).len() as u64, self.video_of(phase).len() as u64];
        came == [phase.audio_objects(), phase.video_objects()]
    }

    /// Each object once, and audio in the sender's order.
    pub fn assert_in_order_and_once(&self) {
        assert!(self.audio.is_sorted_by(|before, after| before.group < after.group), "audio out of order or twice");
        let mut times: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        self.video.iter().for_each(|came| *times.entry((came.group, came.object)).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "a frame came twice");
    }
}

/// The middle, the 99th per cent and the longest.
pub fn delays(came: &[Came]) -> [Duration; 3] {
    let mut delays: Vec<Duration> = came.iter().filter_map(|came| came.delay).collect();
    delays.sort();
    let at = |per_cent: usize| {
        delays.get((delays.len() * per_cent / 100).min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    [at(50), at(99), at(100)]
}
