//! What a path that takes nothing does to what waits for it: a member who is put out of a room meanwhile, what is late,
//! what streams are reset with, and what publishers are told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rstest::rstest;
use supernode_proto::{
    close::StreamCode,
    control::{KickMember, Subscribe, TrackKind, client_message::Body as Request, relay_message::Body},
    object::{DatagramHeader, TrackAlias},
};
use supernode_server::core::{ledger::DropReason, limits::Limits};
use supernode_testkit::{
    Client, PATIENCE, Person, Relay, Room, datagram, end_of_pictures, eventually, stream, subscription,
};

use crate::{
    media::send_stream,
    path::{Path, Shape},
};

pub fn cut() -> Shape {
    Shape { cut: true, ..Shape::wide() }
}

/// What was under way has arrived, and the client's own buffers have been read.
async fn settle(client: &Client) -> u64 {
    let mut objects = 0;
    while let Ok(wire) = tokio::time::timeout(Duration::from_millis(400), client.connection.read_datagram()).await {
        objects += u64::from(!wire.unwrap().is_empty());
    }
    objects
}

/// Objects in datagrams, one every few milliseconds, until it is told to stop; the last one's group is noted.
struct Talker {
    group: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Talker {
    const INTERVAL: Duration = Duration::from_millis(5);

    fn start(connection: quinn::Connection, track: TrackAlias, bytes: usize) -> Self {
        let talker = Self { group: Arc::default(), ended: Arc::default() };
        let (group, ended) = (talker.group.clone(), talker.ended.clone());
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Self::INTERVAL);
            while !ended.load(Ordering::Relaxed) {
                tick.tick().await;
                let next = group.fetch_add(1, Ordering::Relaxed) + 1;
                if connection.send_datagram(datagram(track, next, &vec![7; bytes])).is_err() {
                    break;
                }
            }
        });
        talker
    }

    fn group(&self) -> u64 {
        self.group.load(Ordering::Relaxed)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kicked_member_gets_nothing_that_its_path_had_not_taken_by_then(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let audio = alice.publish(&room, TrackKind::Audio).await;
    let video = alice.publish(&room, TrackKind::Video).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let mut mallory = relay.connect_over(path.address, &Person::new()).await;
    let member = mallory.join(&room).await.member;
    mallory.subscribe(audio).await;
    mallory.done(Request::Subscribe(Subscribe { max_age_ms: 5_000, ..subscription(video) })).await;
    for _ in 0..2 {
        alice.demand(1).await;
    }
    let picture = stream(video, 1, 0, &[(0, 5_000), (0, 400_000)]);
    let mut showing = alice.connection.open_uni().await.unwrap();
    showing.write_all(&picture[..5_000]).await.unwrap();
    let mut shown = tokio::time::timeout(PATIENCE, mallory.connection.accept_uni()).await.unwrap().unwrap();
    shown.read_exact(&mut [0; 1_000]).await.unwrap();

    path.set(cut());
    let talker = Talker::start(alice.connection.clone(), audio, 900);
    showing.write_all(&picture[5_000..200_000]).await.unwrap();
    eventually("what QUIC cannot send waits", || relay.ledger().queued() > 3).await;
    settle(&mallory).await;
    let mut before = vec![0; 5_000];
    while let Ok(Ok(Some(_))) = tokio::time::timeout(Duration::from_millis(100), shown.read(&mut before)).await {}

    alice.done(Request::KickMember(KickMember { room: room.name(), member })).await;
    path.set(Shape::wide());
    let told = |event: &Body| if let Body::MemberLeft(left) = event { left.kicked.then_some(()) } else { None };
    mallory.event(told).await;
    assert_eq!(settle(&mallory).await, 0, "no object of the room");
    let rest = tokio::time::timeout(PATIENCE, shown.read_to_end(1 << 20)).await.expect("its end");
    assert_eq!(rest, Err(reset(StreamCode::UNSUBSCRIBED)), "and nothing more of a stream");
    assert!(relay.ledger().recalled > 0, "and what was taken back is counted");
    drop(talker);
    alice.close();
    mallory.close();
    relay.assert_empty().await;
}

//
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_what_is_said_now_comes_first() {
    let relay = Relay::start(1);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let audio = alice.publish(&room, TrackKind::Audio).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let mut bob = relay.connect_over(path.address, &Person::new()).await;
    bob.join(&room).await;
    bob.subscribe(audio).await;
    alice.demand(1).await;
    let talker = Talker::start(alice.connection.clone(), audio, 900);
    bob.object().await;
    path.set(cut());
    tokio::time::sleep(Duration::from_secs(5)).await;
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(1), bob.connection.read_datagram()).await {}
    let now = talker.group();
    path.set(Shape::wide());
    let wire = loop {
        let wire = tokio::time::timeout(PATIENCE, bob.connection.read_datagram()).await.expect("it is heard").unwrap();
        if !wire.is_empty() {
            break wire;
        }
    };
    let heard = DatagramHeader::decode(&wire).unwrap().0.visible.group;
    let age = Talker::INTERVAL * now.saturating_sub(heard) as u32;
    assert!(age < Duration::from_millis(600), "what QUIC was handed {age:?} before the path came back");
    drop(talker);
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

pub fn reset(code: StreamCode) -> quinn::ReadToEndError {
    quinn::ReadToEndError::Read(quinn::ReadError::Reset(quinn::VarInt::from_u32(code.0 as u32)))
}

/// A publisher with a video track, and a subscriber over a path.
pub async fn over_a_path(relay: &Relay, wanted: Subscribe) -> (Client, Client, TrackAlias, Path) {
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let mut bob = relay.connect_over(path.address, &Person::new()).await;
    bob.join(&room).await;
    bob.done(Request::Subscribe(Subscribe { alias: track.value(), ..wanted })).await;
    alice.demand(1).await;
    (alice, bob, track, path)
}

/// A stream of which the subscriber has the beginning, and what is still to be sent of it.
pub async fn begin(alice: &Client, bob: &Client, wire: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&wire[..500]).await.unwrap();
    let mut receiving = tokio::time::timeout(PATIENCE, bob.connection.accept_uni()).await.unwrap().unwrap();
    receiving.read_exact(&mut [0; 500]).await.unwrap();
    (sending, receiving)
}

pub async fn end_of(mut receiving: quinn::RecvStream) -> quinn::ReadToEndError {
    let end = tokio::time::timeout(PATIENCE, receiving.read_to_end(1 << 24)).await.expect("an end");
    end.expect_err("it is reset")
}

//
#[rstest]
#[tokio::test]
async fn a_stream_that_is_too_late_is_reset_with_expired(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob, track, path) = over_a_path(&relay, subscription_to_all()).await;
    let wire = stream(track, 1, 0, &[(0, 300_000)]);
    let (mut sending, receiving) = begin(&alice, &bob, &wire).await;
    path.set(cut());
    sending.write_all(&wire[500..]).await.unwrap();
    eventually("it has waited too long", || relay.ledger().dropped[DropReason::Expired as usize] == 1).await;
    path.set(Shape::wide());
    assert_eq!(end_of(receiving).await, reset(StreamCode::EXPIRED));
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_stream_that_does_not_fit_the_queue_is_reset_with_lagged(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { queue_bytes_max: 20_000, ..Limits::default() });
    let patient = Subscribe { max_age_ms: 5_000, ..subscription_to_all() };
    let (alice, bob, track, path) = over_a_path(&relay, patient).await;
    let wire = stream(track, 1, 0, &[(0, 300_000)]);
    let (mut sending, receiving) = begin(&alice, &bob, &wire).await;
    path.set(cut());
    sending.write_all(&wire[500..]).await.unwrap();
    eventually("it does not fit", || relay.ledger().dropped[DropReason::QueueFull as usize] == 1).await;
    path.set(Shape::wide());
    assert_eq!(end_of(receiving).await, reset(StreamCode::LAGGED));
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_stream_of_a_layer_that_the_path_does_not_take_is_reset_with_layer_dropped(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let patient = Subscribe { max_age_ms: 5_000, ..subscription_to_all() };
    let (alice, bob, track, path) = over_a_path(&relay, patient).await;
    let base = stream(track, 1, 0, &[(0, 300_000)]);
    let (mut sending_base, _base) = begin(&alice, &bob, &base).await;
    let enhancement = stream(track, 1, 2, &[(0, 600), (0, 600)]);
    let (mut sending, receiving) = begin(&alice, &bob, &enhancement).await;
    path.set(cut());
    sending_base.write_all(&base[500..]).await.unwrap();
    eventually("it climbs down", || relay.ledger().ladder_down.iter().sum::<u64>() > 0).await;
    sending.write_all(&enhancement[500..]).await.unwrap();
    eventually("and leaves the layer out", || relay.ledger().dropped[DropReason::LadderTemporal2 as usize] > 0).await;
    path.set(Shape::wide());
    assert_eq!(end_of(receiving).await, reset(StreamCode::LAYER_DROPPED));
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

pub fn subscription_to_all() -> Subscribe {
    Subscribe { temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() }
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_nobody_is_sent_is_not_wanted_until_somebody_is(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let audio = alice.publish(&room, TrackKind::Audio).await;
    let video = alice.publish(&room, TrackKind::Video).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let mut bob = relay.connect_over(path.address, &Person::new()).await;
    bob.join(&room).await;
    for track in [audio, video] {
        bob.done(Request::Subscribe(subscription(track))).await;
    }
    let told = |subscribers: u32| {
        move |event: &Body| match event {
            Body::TrackDemand(demand) if demand.alias == video.value() => {
                (demand.subscribers == subscribers).then_some(demand.bits_per_second)
            }
            _ => None,
        }
    };
    assert_eq!(alice.event(told(1)).await, 0, "nothing is known of the path");
    let talker = Talker::start(alice.connection.clone(), audio, 100);
    let pictures = tokio::spawn(show(alice.connection.clone(), video));
    path.set(Shape { buffer_bytes: 20_000, ..Shape::narrow(300_000) });
    let patiently = Duration::from_secs(40);
    tokio::time::timeout(patiently, alice.event(told(0))).await.expect("no picture fits");
    pictures.abort();
    let end = end_of_pictures(video, 1_000_000);
    send_stream(&alice, &end).await;
    let told_the_end = async {
        loop {
            let mut receiving = bob.connection.accept_uni().await.unwrap();
            if receiving.read_to_end(1 << 20).await.is_ok_and(|wire| wire == end) {
                return;
            }
        }
    };
    tokio::time::timeout(patiently, told_the_end).await.expect("that there will be no picture is told all the same");
    path.set(Shape::wide());
    tokio::time::timeout(patiently, alice.event(told(1))).await.expect("they fit again");
    let asked =
        |event: &Body| matches!(event, Body::KeyframeRequested(asked) if asked.alias == video.value()).then_some(());
    alice.event(asked).await;
    drop(talker);
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

/// A group of 40 kB ten times a second: 3.2 Mbit/s.
async fn show(connection: quinn::Connection, track: TrackAlias) {
    for group in 0.. {
        if let Ok(mut sending) = connection.open_uni().await {
            let _ = sending.write_all(&stream(track, group, 0, &[(0, 40_000)])).await;
            let _ = sending.finish();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_has_a_picture_one_round_trip_later() {
    let relay = Relay::start(2);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    // Nobody answers a wish for a key frame: it is this group or none. It fits QUIC's first flight.
    let group = stream(track, 1, 0, &[(0, 6_000)]);
    let mut bob = relay.connect(&Person::new()).await;
    bob.join(&room).await;
    bob.subscribe(track).await;
    alice.demand(1).await;
    send_stream(&alice, &group).await;
    eventually("it is in", || relay.ledger().objects_in == 1).await;
    let path = Path::new(relay.address, Shape { delay: Duration::from_millis(50), ..Shape::wide() }).await;
    let mut round_trips = Vec::new();
    let mut first_pictures = Vec::new();
    for _ in 0..3 {
        let mut late = relay.connect_over(path.address, &Person::new()).await;
        let asked = std::time::Instant::now();
        late.join(&room).await;
        round_trips.push(asked.elapsed());
        let asked = std::time::Instant::now();
        late.send(99, Request::Subscribe(subscription(track))).await;
        let mut receiving = tokio::time::timeout(PATIENCE, late.connection.accept_uni()).await.unwrap().unwrap();
        receiving.read_exact(&mut vec![0; group.len()]).await.unwrap();
        first_pictures.push(asked.elapsed());
        late.close();
    }
    eprintln!("a late joiner's first picture after {first_pictures:?}, with round trips of {round_trips:?}");
    let (picture, round_trip) = (first_pictures.iter().min().unwrap(), round_trips.iter().min().unwrap());
    assert!(*picture < *round_trip * 9 / 5, "{picture:?} with a round trip of {round_trip:?}");
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

/// How many UDP datagrams an object takes that twelve people say to one listener.
async fn datagrams_per_object(audio_budget: Duration) -> f64 {
    const SPEAKERS: usize = 12;
    const OBJECTS: usize = 1_200;
    let relay = Relay::with_limits(1, Limits { audio_budget, ..Limits::default() });
    let room = Room::new();
    let mut listener = relay.connect(&Person::new()).await;
    listener.join(&room).await;
    let mut speakers = Vec::new();
    for _ in 0..SPEAKERS {
        let mut speaker = relay.connect(&Person::new()).await;
        speaker.join(&room).await;
        let track = speaker.publish(&room, TrackKind::Audio).await;
        listener.subscribe(track).await;
        speaker.demand(1).await;
        speakers.push((speaker, track));
    }
    let before = listener.connection.stats().udp_rx.datagrams;
    let heard = listener.connection.clone();
    let listening = tokio::spawn(async move {
        for _ in 0..OBJECTS {
            heard.read_datagram().await.unwrap();
        }
    });
    // 600 a second, evenly spread.
    let mut tick = tokio::time::interval(Duration::from_micros(1_667));
    for object in 0..OBJECTS {
        tick.tick().await;
        let (speaker, track) = &speakers[object % SPEAKERS];
        speaker.connection.send_datagram(datagram(*track, (object / SPEAKERS) as u64, &[7; 80])).unwrap();
    }
    tokio::time::timeout(PATIENCE, listening).await.expect("all are heard").unwrap();
    let datagrams = listener.connection.stats().udp_rx.datagrams - before;
    for (speaker, _) in &speakers {
        speaker.close();
    }
    listener.close();
    relay.assert_empty().await;
    datagrams as f64 / OBJECTS as f64
}

//
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_who_speak_at_once_share_packets() {
    let mut figures = Vec::new();
    // On a busy machine packets are shared without a budget too.
    for _ in 0..3 {
        let at_once = datagrams_per_object(Duration::ZERO).await;
        let within_the_default = datagrams_per_object(Limits::default().audio_budget).await;
        let within_ten = datagrams_per_object(Duration::from_millis(10)).await;
        figures.push((at_once, within_the_default, within_ten));
        if within_ten < at_once * 0.6 && within_the_default < at_once * 0.9 {
            eprintln!("datagrams for an object at once, in the default budget, in 10 ms: {figures:.2?}");
            return;
        }
    }
    panic!("no fewer datagrams for an object: {figures:.2?}");
}
