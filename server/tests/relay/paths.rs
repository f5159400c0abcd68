//! What narrow, lossy and dead paths do to those behind them, and to nobody else.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rstest::rstest;
use supernode_proto::{
    close::CloseCode,
    control::{Rung, Subscribe, TrackKind, client_message::Body as Request, relay_message::Body},
    object::{
        DatagramHeader, Flags, Hop, Layer, STREAM_HEADER_BYTES_MAX, STREAM_OBJECT_HEADER_BYTES_MAX, StreamHeader,
        StreamObjectHeader, TrackAlias,
    },
};

use supernode_server::core::limits::Limits;

use crate::{
    harness::{Client, Person, Relay, Room, datagram, subscription},
    path::{Path, Shape},
};

/// Frames a second of the test's video, and in a group.
const FPS: u64 = 30;
/// Bytes of a frame by temporal layer: with 8, 7 and 15 of them a second, 1.5 Mbit/s.
const FRAME_BYTES: [usize; 3] = [11_700, 6_200, 3_300];

/// A member that speaks and shows, 50 and 30 times a second, until it is told to stop.
struct Speaker {
    client: Client,
    audio: TrackAlias,
    video: TrackAlias,
}

impl Speaker {
    async fn new(relay: &Relay, room: &Room) -> Self {
        let mut client = relay.connect(&Person::new()).await;
        client.join(room).await;
        let audio = client.publish(room, TrackKind::Audio).await;
        let video = client.publish(room, TrackKind::Video).await;
        Self { client, audio, video }
    }

    /// Speaks and shows for so long; returns how many audio objects that were.
    async fn perform(&self, start: Instant, first_group: u64, duration: Duration) -> u64 {
        let showing = tokio::spawn(show(self.client.connection.clone(), self.video, first_group, duration));
        let mut spoken = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let until = Instant::now() + duration;
        while Instant::now() < until {
            tick.tick().await;
            let stamp = start.elapsed().as_micros() as u64;
            let sealed = [&stamp.to_be_bytes()[..], &[0; 112]].concat();
            self.client.connection.send_datagram(datagram(self.audio, first_group * 1000 + spoken, &sealed)).unwrap();
            spoken += 1;
        }
        showing.await.unwrap();
        spoken
    }
}

/// Groups of one second in three temporal layers, a stream for each.
async fn show(connection: quinn::Connection, track: TrackAlias, first_group: u64, duration: Duration) {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / FPS));
    for second in 0..duration.as_secs() {
        let mut streams: [Option<quinn::SendStream>; 3] = [None, None, None];
        for frame in 0..FPS {
            tick.tick().await;
            let layer = if frame % 4 == 0 { 0 } else { 1 + (frame % 2) as usize };
            let mut wire = Vec::new();
            if streams[layer].is_none() {
                streams[layer] = Some(connection.open_uni().await.unwrap());
                let hop = Hop { alias: track, priority: 1, ttl_ms: 5_000 };
                let header = StreamHeader { hop, group: first_group + second, temporal_layer: layer as u8 };
                let mut head = [0; STREAM_HEADER_BYTES_MAX];
                let len = header.encode(&mut head);
                wire.extend_from_slice(&head[..len]);
            }
            let object = StreamObjectHeader {
                object: frame,
                flags: if frame == 0 { Flags::INDEPENDENT } else { Flags::default() },
                layer: Layer::new(layer as u8, 0).unwrap(),
                length: FRAME_BYTES[layer] as u32,
            };
            let mut head = [0; STREAM_OBJECT_HEADER_BYTES_MAX];
            let len = object.encode(&mut head);
            wire.extend_from_slice(&head[..len]);
            wire.resize(wire.len() + FRAME_BYTES[layer], 7);
            // Nobody may want this layer now: the relay says so by stopping nothing, so this goes on.
            let _ = streams[layer].as_mut().unwrap().write_all(&wire).await;
        }
        for mut stream in streams.into_iter().flatten() {
            let _ = stream.finish();
        }
    }
}

/// What a listener gets, noted in the background.
#[derive(Debug, Default)]
struct Heard {
    /// Groups of audio, in the order in which they came, and how long each was on its way.
    audio: Vec<(u64, Duration)>,
    video_bytes: u64,
    /// Rungs, and when they were told since the start.
    rungs: Vec<(Duration, Rung)>,
}

struct Listener {
    heard: Arc<Mutex<Heard>>,
    connection: quinn::Connection,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _endpoint: quinn::Endpoint,
}

impl Listener {
    async fn new(mut client: Client, room: &Room, speaker: &Speaker, start: Instant) -> Self {
        client.join(room).await;
        for track in [speaker.audio, speaker.video] {
            client.done(Request::Subscribe(Subscribe { temporal_layer_max: 7, ..subscription(track) })).await;
        }
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (connection, endpoint) = (client.connection.clone(), client.endpoint.clone());
        let (datagrams, notes) = (connection.clone(), heard.clone());
        let audio = tokio::spawn(async move {
            while let Ok(wire) = datagrams.read_datagram().await {
                let (header, len) = DatagramHeader::decode(&wire).unwrap();
                let sent = u64::from_be_bytes(wire[len..len + 8].try_into().unwrap());
                let delay = start.elapsed().saturating_sub(Duration::from_micros(sent));
                notes.lock().unwrap().audio.push((header.visible.group, delay));
            }
        });
        let (streams, notes) = (connection.clone(), heard.clone());
        let video = tokio::spawn(async move {
            while let Ok(mut stream) = streams.accept_uni().await {
                let notes = notes.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16_384];
                    while let Ok(Some(len)) = stream.read(&mut buffer).await {
                        notes.lock().unwrap().video_bytes += len as u64;
                    }
                });
            }
        });
        let notes = heard.clone();
        let events = tokio::spawn(async move {
            while let Ok(message) = client.next_ever().await {
                if let Some(Body::Allocation(allocation)) = message.body {
                    notes.lock().unwrap().rungs.push((start.elapsed(), allocation.rung()));
                }
            }
        });
        Self { heard, connection, tasks: vec![audio, video, events], _endpoint: endpoint }
    }

    fn heard(&self) -> Heard {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    fn close(self) {
        self.connection.close(quinn::VarInt::from_u32(0), b"");
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Heard {
    /// In the sender's order, once.
    fn assert_in_order(&self) {
        assert!(self.audio.is_sorted_by(|before, after| before.0 < after.0), "out of order or twice");
    }

    fn delay(&self, per_cent: usize) -> Duration {
        let mut delays: Vec<Duration> = self.audio.iter().map(|(_, delay)| *delay).collect();
        delays.sort();
        delays.get((delays.len() * per_cent / 100).min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_squeezed_keeps_its_audio_and_gets_its_picture_back(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, start) = (Room::new(), Instant::now());
    let speaker = Speaker::new(&relay, &room).await;
    let path = Path::new(relay.address, Shape::narrow(4_000_000)).await;
    let client = relay.connect_over(path.address, &Person::new()).await;
    let bob = Listener::new(client, &room, &speaker, start).await;

    let before = speaker.perform(start, 0, Duration::from_secs(4)).await;
    let wide = bob.heard();
    assert!(wide.rungs.iter().all(|(_, rung)| *rung == Rung::Full), "{:?}", wide.rungs);
    assert!(wide.video_bytes > 600_000, "all layers come: {} bytes", wide.video_bytes);

    path.set(Shape::narrow(300_000));
    let squeezed_at = start.elapsed();
    let low = async {
        loop {
            let steps = relay.ledger().ladder_down;
            if steps[Rung::SpeakerOnly as usize] + steps[Rung::AudioOnly as usize] > 0 {
                return start.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let performing = speaker.perform(start, 10, Duration::from_secs(10));
    let (during, low) = tokio::join!(performing, tokio::time::timeout(Duration::from_secs(5), low));
    let narrow = bob.heard();

    path.set(Shape::narrow(4_000_000));
    let widened_at = start.elapsed();
    let after = speaker.perform(start, 30, Duration::from_secs(12)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let wide_again = bob.heard();

    let (spoken, heard) =
        (before + during + after, [&wide, &narrow, &wide_again].map(|heard| heard.audio.len() as u64));
    let lost = spoken - heard.iter().sum::<u64>();
    eprintln!(
        "lost {lost} of {spoken}; audio p50/p99 {:?}/{:?} wide, {:?}/{:?} narrow, {:?}/{:?} again; {:?} {:?} after {:?}, {:?}",
        wide.delay(50),
        wide.delay(99),
        narrow.delay(50),
        narrow.delay(99),
        wide_again.delay(50),
        wide_again.delay(99),
        narrow.rungs,
        wide_again.rungs,
        squeezed_at,
        widened_at,
    );
    let low = low.unwrap_or_else(|_| panic!("it does not climb down: {:?}", narrow.rungs)) - squeezed_at;
    assert!(low <= Duration::from_secs(1), "down within a second: {low:?}");
    assert!(narrow.rungs.iter().any(|(_, rung)| *rung >= Rung::SpeakerOnly), "and it is told: {:?}", narrow.rungs);
    let full = wide_again.rungs.iter().find(|(_, rung)| *rung == Rung::Full);
    let full = full.unwrap_or_else(|| panic!("it does not climb up: {:?}", wide_again.rungs));
    assert!(full.0 - widened_at <= Duration::from_secs(10), "up within ten seconds: {:?}", full.0 - widened_at);
    let up = wide_again.rungs.iter().map(|(_, rung)| *rung);
    assert!(up.is_sorted_by(|earlier, later| earlier >= later), "and never down again: {:?}", wide_again.rungs);
    assert!(wide_again.video_bytes > 300_000, "the picture is back: {} bytes", wide_again.video_bytes);
    assert!(lost * 100 < spoken, "{lost} of {spoken} audio objects are lost");
    assert!(relay.ledger().longest_wait_us <= 250_000, "{} us in a queue", relay.ledger().longest_wait_us);
    for heard in [&wide, &narrow, &wide_again] {
        heard.assert_in_order();
    }
    bob.close();
    speaker.client.close();
    relay.assert_empty().await;
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    StopsReading,
    Narrow,
    Lossy,
    Vanishes,
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_trouble_hurts_nobody_else(
    #[values(Trouble::StopsReading, Trouble::Narrow, Trouble::Lossy, Trouble::Vanishes)] trouble: Trouble,
) {
    let relay = Relay::start(2);
    let (room, start) = (Room::new(), Instant::now());
    let speaker = Speaker::new(&relay, &room).await;
    let mut fine = Vec::new();
    for _ in 0..3 {
        let client = relay.connect(&Person::new()).await;
        fine.push(Listener::new(client, &room, &speaker, start).await);
    }
    let path = Path::new(relay.address, Shape::wide()).await;
    let client = relay.connect_over(path.address, &Person::new()).await;
    let troubled = Listener::new(client, &room, &speaker, start).await;

    let before = speaker.perform(start, 0, Duration::from_secs(3)).await;
    let calm: Vec<Heard> = fine.iter().map(Listener::heard).collect();
    match trouble {
        Trouble::StopsReading => troubled.tasks.iter().for_each(tokio::task::JoinHandle::abort),
        Trouble::Narrow => path.set(Shape { buffer_bytes: 16 * 1024, ..Shape::narrow(64_000) }),
        Trouble::Lossy => path.set(Shape { loss: 0.2, ..Shape::wide() }),
        Trouble::Vanishes => path.set(Shape { cut: true, ..Shape::wide() }),
    }
    let during = speaker.perform(start, 10, Duration::from_secs(5)).await;
    let ledger = relay.ledger();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let meanwhile: Vec<Heard> = fine.iter().map(Listener::heard).collect();

    for (calm, meanwhile) in calm.iter().zip(&meanwhile) {
        let delays = [calm.delay(50), meanwhile.delay(50), calm.delay(99), meanwhile.delay(99)];
        eprintln!("{trouble:?}: p50 {:?} -> {:?}, p99 {:?} -> {:?}", delays[0], delays[1], delays[2], delays[3]);
        let heard = (calm.audio.len() + meanwhile.audio.len()) as u64;
        assert_eq!(heard, before + during, "nobody else loses anything");
        assert!(delays[1] <= delays[0] + Duration::from_millis(5), "{trouble:?}: {delays:?}");
        assert!(meanwhile.rungs.iter().all(|(_, rung)| *rung == Rung::Full), "{:?}", meanwhile.rungs);
        calm.assert_in_order();
        meanwhile.assert_in_order();
    }
    assert!(ledger.longest_wait_us <= 250_000, "{} us in a queue", ledger.longest_wait_us);
    let dropped: u64 = ledger.dropped.iter().sum();
    if !matches!(trouble, Trouble::Lossy | Trouble::StopsReading) {
        assert!(dropped > 0, "what the troubled one did not get has a name");
    }
    let settled = relay.ledger();
    assert_eq!(settled.offered, settled.delivered + settled.dropped.iter().sum::<u64>() + settled.queued());
    path.set(Shape::wide());
    troubled.close();
    fine.into_iter().for_each(Listener::close);
    speaker.client.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_even_be_sent_audio_is_let_go(#[values(1, 2)] shards: usize) {
    let limits = Limits { too_slow_after: Duration::from_secs(1), ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let (room, start) = (Room::new(), Instant::now());
    let speaker = Speaker::new(&relay, &room).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let client = relay.connect_over(path.address, &Person::new()).await;
    let bob = Listener::new(client, &room, &speaker, start).await;
    speaker.perform(start, 0, Duration::from_secs(1)).await;
    path.set(Shape { cut: true, ..Shape::wide() });
    speaker.perform(start, 10, Duration::from_secs(5)).await;
    assert_eq!(relay.population().sessions, 1, "it is gone long before QUIC gives up");
    let too_slow = CloseCode::TOO_SLOW.0 as usize;
    assert_eq!(relay.tallies().iter().map(|tally| tally.closed[too_slow]).sum::<u64>(), 1);
    bob.close();
    speaker.client.close();
    relay.assert_empty().await;
}
