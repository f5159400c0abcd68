//! Somebody who speaks and shows, and those who listen and note what came.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use supernode_proto::{
    control::{Rung, Subscribe, TrackKind, client_message::Body as Request, relay_message::Body},
    object::{DatagramHeader, Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_session::{StreamReader, put_object, put_stream_head};
use supernode_testkit::{Client, Person, Relay, Room, datagram, subscription};
use tokio::task::JoinSet;

/// Frames of video a second, and in a group.
pub const FPS: u64 = 30;
/// Bytes of a frame by temporal layer: with 8, 7 and 15 of them a second, 1.5 Mbit/s.
const FRAME_BYTES: [usize; 3] = [11_700, 6_200, 3_300];
/// Groups of audio, one object each, are numbered from this many times the first group of the video on.
const AUDIO_GROUPS: u64 = 1000;

/// A member that speaks 50 times a second and, if it has a camera, shows 30 frames.
pub struct Speaker {
    pub client: Client,
    pub audio: TrackAlias,
    pub video: Option<TrackAlias>,
    start: Instant,
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
    /// Joins and publishes. What it sends is stamped with the time since `start`.
    pub async fn new(relay: &Relay, room: &Room, camera: bool, start: Instant) -> Self {
        let mut client = relay.connect(&Person::new()).await;
        client.join(room).await;
        let audio = client.publish(room, TrackKind::Audio).await;
        let video = if camera { Some(client.publish(room, TrackKind::Video).await) } else { None };
        Self { client, audio, video, start }
    }

    pub fn tracks(&self) -> Vec<TrackAlias> {
        [Some(self.audio), self.video].into_iter().flatten().collect()
    }

    /// Speaks and shows for so long, in groups from this one on.
    pub fn perform(&self, first_group: u64, duration: Duration) -> impl Future<Output = Phase> + Send + use<> {
        let (connection, audio, video, start) = (self.client.connection.clone(), self.audio, self.video, self.start);
        async move {
            let seconds = video.map_or(0, |_| duration.as_secs());
            let showing = video.map(|video| tokio::spawn(show(connection.clone(), video, first_group, seconds, start)));
            let mut spoken = 0;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            let until = Instant::now() + duration;
            while Instant::now() < until {
                tick.tick().await;
                let sealed = [&stamp(start)[..], &[0; 112]].concat();
                connection.send_datagram(datagram(audio, first_group * AUDIO_GROUPS + spoken, &sealed)).unwrap();
                spoken += 1;
            }
            if let Some(showing) = showing {
                showing.await.unwrap();
            }
            let audio = first_group * AUDIO_GROUPS..first_group * AUDIO_GROUPS + spoken;
            Phase { audio, video: first_group..first_group + seconds }
        }
    }
}

fn stamp(start: Instant) -> [u8; 8] {
    (start.elapsed().as_micros() as u64).to_be_bytes()
}

fn stamped(sealed: &[u8]) -> Duration {
    Duration::from_micros(u64::from_be_bytes(sealed[..8].try_into().unwrap()))
}

/// Groups of one second in three temporal layers, a stream for each.
async fn show(connection: quinn::Connection, track: TrackAlias, first_group: u64, seconds: u64, start: Instant) {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / FPS));
    for second in 0..seconds {
        let mut streams: [Option<quinn::SendStream>; 3] = [None, None, None];
        for frame in 0..FPS {
            tick.tick().await;
            let layer = if frame % 4 == 0 { 0 } else { 1 + (frame % 2) as usize };
            let (mut wire, group) = (Vec::new(), first_group + second);
            if streams[layer].is_none() {
                streams[layer] = Some(connection.open_uni().await.unwrap());
                let hop = Hop { alias: track, priority: 1, ttl_ms: 5_000 };
                put_stream_head(&mut wire, hop, group, layer as u8);
            }
            let flags = if frame == 0 { Flags::INDEPENDENT } else { Flags::default() };
            let visible = Visible { group, object: frame, flags, layer: Layer::new(layer as u8, 0).unwrap() };
            put_object(&mut wire, visible, FRAME_BYTES[layer] as u32);
            wire.extend_from_slice(&stamp(start));
            wire.resize(wire.len() + FRAME_BYTES[layer] - 8, 7);
            streams[layer].as_mut().unwrap().write_all(&wire).await.expect("the relay takes what nobody may want");
        }
        for mut stream in streams.into_iter().flatten() {
            stream.finish().unwrap();
        }
    }
}

/// An object that came whole.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    pub track: TrackAlias,
    pub group: u64,
    pub object: u64,
    /// Its stream; datagrams have none.
    stream: Option<quinn::StreamId>,
    /// Since the start.
    pub sent: Duration,
    /// How long it was on its way.
    pub delay: Duration,
}

/// What a listener got.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// In the order in which they came whole.
    pub audio: Vec<Came>,
    pub video: Vec<Came>,
    /// Rungs, and when they were told since the start.
    pub rungs: Vec<(Duration, Rung)>,
}

/// A distribution of delays.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Delays {
    pub fn of<'a>(came: impl IntoIterator<Item = &'a Came>) -> Self {
        let mut delays: Vec<Duration> = came.into_iter().map(|came| came.delay).collect();
        delays.sort();
        let at = |per_cent: usize| {
            delays.get((delays.len() * per_cent / 100).min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl Heard {
    pub fn audio_of(&self, phase: &Phase) -> Vec<Came> {
        self.audio.iter().filter(|came| phase.audio.contains(&came.group)).copied().collect()
    }

    pub fn video_of(&self, phase: &Phase) -> Vec<Came> {
        self.video.iter().filter(|came| phase.video.contains(&came.group)).copied().collect()
    }

    /// Each object once, audio in the sender's order, and video in the order of its stream.
    pub fn assert_in_order_and_once(&self) {
        assert!(self.audio.is_sorted_by(|before, after| before.group < after.group), "audio out of order or twice");
        let mut streams = std::collections::HashMap::<_, u64>::new();
        let mut seen = HashSet::new();
        for came in &self.video {
            assert!(seen.insert((came.track, came.group, came.object)), "twice: {came:?}");
            let before = streams.insert(came.stream, came.object);
            assert!(before.is_none_or(|before| before < came.object), "after {before:?} came {came:?}");
        }
    }
}

/// Reads everything that reaches a client, in the background.
pub struct Listener {
    heard: Arc<Mutex<Heard>>,
    connection: quinn::Connection,
    stopped: Arc<AtomicBool>,
    _reading: JoinSet<()>,
    _endpoint: quinn::Endpoint,
}

impl Listener {
    /// A member that subscribes to all layers of all tracks of a speaker, and its number.
    pub async fn join(mut client: Client, room: &Room, speaker: &Speaker) -> (Self, u32) {
        let member = client.join(room).await.member;
        for track in speaker.tracks() {
            client.done(Request::Subscribe(Subscribe { temporal_layer_max: 7, ..subscription(track) })).await;
        }
        (Self::new(client, speaker.start), member)
    }

    /// Whoever it is.
    pub fn new(mut client: Client, start: Instant) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (connection, endpoint) = (client.connection.clone(), client.endpoint.clone());
        let stopped = Arc::new(AtomicBool::new(false));
        let mut reading = JoinSet::new();
        let (datagrams, notes, stop) = (connection.clone(), heard.clone(), stopped.clone());
        reading.spawn(async move {
            while let Ok(wire) = datagrams.read_datagram().await {
                stay_if(&stop).await;
                let (header, len) = DatagramHeader::decode(&wire).unwrap();
                let sent = stamped(&wire[len..]);
                let (track, visible) = (header.hop.alias, header.visible);
                let delay = start.elapsed().saturating_sub(sent);
                let (group, object) = (visible.group, visible.object);
                notes.lock().unwrap().audio.push(Came { track, group, object, stream: None, sent, delay });
            }
        });
        let (streams, notes, stop) = (connection.clone(), heard.clone(), stopped.clone());
        reading.spawn(async move {
            let mut watching = JoinSet::new();
            while let Ok(stream) = streams.accept_uni().await {
                watching.spawn(watch(stream, notes.clone(), start, stop.clone()));
                stay_if(&stop).await;
            }
        });
        let (notes, stop) = (heard.clone(), stopped.clone());
        reading.spawn(async move {
            while let Some(message) = client.next_ever().await {
                stay_if(&stop).await;
                if let Some(Body::Allocation(allocation)) = message.body {
                    notes.lock().unwrap().rungs.push((start.elapsed(), allocation.rung()));
                }
            }
        });
        Self { heard, connection, stopped, _reading: reading, _endpoint: endpoint }
    }

    /// Everything so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// Whether all of a phase has come.
    pub fn has_all_of(&self, phase: &Phase) -> bool {
        let heard = self.heard();
        let came = [heard.audio_of(phase).len() as u64, heard.video_of(phase).len() as u64];
        came == [phase.audio_objects(), phase.video_objects()]
    }

    /// Reads nothing any more, but stays.
    pub fn stop_reading(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.connection.close(quinn::VarInt::from_u32(0), b"");
    }
}

/// Goes no further once told to stop. Nothing is dropped: QUIC would tell the relay.
async fn stay_if(stopped: &AtomicBool) {
    if stopped.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Notes a stream's objects as they become whole.
async fn watch(mut stream: quinn::RecvStream, notes: Arc<Mutex<Heard>>, start: Instant, stop: Arc<AtomicBool>) {
    let mut reader = StreamReader::default();
    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
        stay_if(&stop).await;
        reader.push(&chunk.bytes);
        while let (Ok(Some(header)), Ok(Some(object))) = (reader.header(), reader.object()) {
            let Some(sealed) = reader.take_sealed() else { break };
            let sent = stamped(&sealed);
            let (track, group, object, stream) = (header.hop.alias, header.group, object.object, Some(stream.id()));
            let delay = start.elapsed().saturating_sub(sent);
            notes.lock().unwrap().video.push(Came { track, group, object, stream, sent, delay });
        }
    }
}
