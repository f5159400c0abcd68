//! What a path that takes nothing does to what waits for it: a member who is put out of a room meanwhile, what is late, what
//! streams are reset with, and what publishers are told.

use std::time::Duration;

use rstest::rstest;
use supernode_proto::{
    close::StreamCode,
    control::{Subscribe, TrackKind},
};
use supernode_server::core::{ledger::DropReason, limits::Limits};
use supernode_testkit::{datagram, end_of_pictures, stream, subscription};
use supernode_world::{client::News, network::Conditions};

use crate::{
    ALICE, BOB, CAROL, begin, cut, end_of, group_of, ms, narrow, send_whole, stage_of, subscribe_all, to_all, two,
    whole, wide,
};

const TALKS_EVERY: Duration = Duration::from_millis(5);

//
#[rstest]
fn a_kicked_member_gets_nothing_that_its_path_had_not_taken_by_then(#[values(1, 2, 4)] shards: usize) {
    const MALLORY: usize = 1;
    let mut stage = stage_of(shards, Limits::default(), 1);
    let audio = stage.publish(ALICE, TrackKind::Audio, false);
    let video = stage.publish(ALICE, TrackKind::Video, false);
    stage.path(MALLORY, wide());
    stage.come(MALLORY);
    let member = stage.join(MALLORY).member;
    stage.subscribe(MALLORY, subscription(audio));
    stage.subscribe(MALLORY, Subscribe { max_age_ms: 5_000, ..subscription(video) });
    stage.demand(ALICE, video, 1);
    let picture = stream(video, 1, 0, &[(0, 5_000), (0, 400_000)]);
    let showing = stage.open(ALICE, &picture[..5_000]);
    stage.wait("the beginning", |stage| {
        stage.hand(MALLORY).streams.first().filter(|it| it.bytes.len() > 1_000).map(drop)
    });

    stage.path(MALLORY, cut());
    stage.write(ALICE, showing, &picture[5_000..200_000]);
    let mut group = 0;
    stage.wait("what QUIC cannot send waits", |stage| {
        group += 1;
        stage.send(ALICE, datagram(audio, group, &[7; 900]));
        stage.pass(TALKS_EVERY);
        let ledger = stage.ledger();
        (ledger.offered - ledger.delivered - ledger.dropped.iter().sum::<u64>() > 3).then_some(())
    });
    let before = (stage.hand(MALLORY).datagrams.len(), stage.hand(MALLORY).streams[0].bytes.len());
    stage.kick(ALICE, member);
    stage.path(MALLORY, wide());
    stage.news(MALLORY, |news| (*news == News::Kicked).then_some(()));
    stage.pass(Duration::from_secs(3));
    assert_eq!(end_of(&mut stage, MALLORY, 0), Err(StreamCode::UNSUBSCRIBED));
    let after = (stage.hand(MALLORY).datagrams.len(), stage.hand(MALLORY).streams[0].bytes.len());
    assert_eq!(after, before, "no object of the room, and nothing more of a stream");
    assert!(stage.ledger().recalled > 0, "and what was taken back is counted");
    stage.end();
}

//
#[test]
fn after_an_outage_what_is_said_now_comes_first() {
    let (mut stage, audio) = two(1, Limits::default(), TrackKind::Audio, to_all());
    stage.path(BOB, wide());
    let mut group = 0;
    let mut talk = |stage: &mut supernode_world::stage::Stage, until_heard: bool, time: Duration| {
        let (until, heard) = (stage.now() + time, stage.hand(BOB).datagrams.len());
        while stage.now() < until && !(until_heard && stage.hand(BOB).datagrams.len() > heard) {
            group += 1;
            stage.send(ALICE, datagram(audio, group, &[7; 900]));
            stage.pass(TALKS_EVERY);
        }
        group
    };
    talk(&mut stage, true, Duration::from_secs(1));
    stage.path(BOB, cut());
    let now = talk(&mut stage, false, Duration::from_secs(5));
    let before = stage.hand(BOB).datagrams.len();
    stage.path(BOB, wide());
    talk(&mut stage, true, Duration::from_secs(10));
    let heard = group_of(&stage.hand(BOB).datagrams[before].1);
    let age = TALKS_EVERY * now.saturating_sub(heard) as u32;
    assert!(age < ms(600), "what QUIC was handed {age:?} before the path came back");
    stage.end();
}

/// A stream that is too much for a path which takes nothing any more: for what the relay drops it, and what it is reset with.
fn given_up(shards: usize, limits: Limits, wanted: Subscribe, reason: DropReason, code: StreamCode) {
    let (mut stage, track) = two(shards, limits, TrackKind::Video, wanted);
    let wire = stream(track, 1, 0, &[(0, 300_000)]);
    let sending = begin(&mut stage, &wire);
    stage.path(BOB, cut());
    stage.write(ALICE, sending, &wire[500..]);
    stage.wait("it is given up", |stage| (stage.ledger().dropped[reason as usize] == 1).then_some(()));
    stage.path(BOB, wide());
    assert_eq!(end_of(&mut stage, BOB, 0), Err(code));
    stage.end();
}

/// Who waits longer than any queue here lasts.
fn patient() -> Subscribe {
    Subscribe { max_age_ms: 5_000, ..to_all() }
}

//
#[rstest]
fn a_stream_that_is_too_late_is_reset_with_expired(#[values(1, 2, 4)] shards: usize) {
    given_up(shards, Limits::default(), to_all(), DropReason::Expired, StreamCode::EXPIRED);
}

//
#[rstest]
fn a_stream_that_does_not_fit_the_queue_is_reset_with_lagged(#[values(1, 2, 4)] shards: usize) {
    let limits = Limits { queue_bytes_max: 20_000, ..Limits::default() };
    given_up(shards, limits, patient(), DropReason::QueueFull, StreamCode::LAGGED);
}

//
#[rstest]
fn when_too_much_waits_for_all_together_the_fullest_queue_is_shortened(#[values(1, 2)] shards: usize) {
    let limits = Limits { relay_queue_bytes_max: 100_000 * shards as u64, ..Limits::default() };
    given_up(shards, limits, patient(), DropReason::RelayQueueFull, StreamCode::LAGGED);
}

//
#[rstest]
fn whoever_acknowledges_nothing_has_the_relay_keep_few_streams(#[values(1, 2)] shards: usize) {
    let limits = Limits { relay_windows_bytes_max: 128 * 1024, ..Limits::default() };
    let (mut stage, track) = two(shards, limits, TrackKind::Video, to_all());
    send_whole(&mut stage, ALICE, &stream(track, 1, 0, &[(0, 10)]));
    whole(&mut stage, BOB, 0);
    stage.path(BOB, cut());
    for group in 2..=300 {
        send_whole(&mut stage, ALICE, &stream(track, group, 0, &[(0, 10)]));
        stage.pass(ms(5));
    }
    stage.wait("all of them are in", |stage| (stage.ledger().objects_in == 300).then_some(()));
    let kept: usize = stage.census().iter().map(|census| census.unacknowledged).sum();
    // Those that anybody may have, and a 16th of what there is for all: 8 KiB.
    assert!((10..=24 + 16).contains(&kept), "{kept} of 300 streams");
    stage.path(BOB, wide());
    stage.end();
}

//
#[rstest]
fn a_stream_of_a_layer_that_the_path_does_not_take_is_reset_with_layer_dropped(#[values(1, 2, 4)] shards: usize) {
    let patient = Subscribe { max_age_ms: 5_000, ..to_all() };
    let (mut stage, track) = two(shards, Limits::default(), TrackKind::Video, patient);
    let base = stream(track, 1, 0, &[(0, 300_000)]);
    let sending_base = begin(&mut stage, &base);
    let enhancement = stream(track, 1, 2, &[(0, 600), (0, 600)]);
    let sending = begin(&mut stage, &enhancement);
    stage.path(BOB, cut());
    stage.write(ALICE, sending_base, &base[500..]);
    stage.wait("it climbs down", |stage| (stage.ledger().ladder_down.iter().sum::<u64>() > 0).then_some(()));
    stage.write(ALICE, sending, &enhancement[500..]);
    stage.wait("and leaves the layer out", |stage| {
        (stage.ledger().dropped[DropReason::LadderTemporal2 as usize] > 0).then_some(())
    });
    stage.path(BOB, wide());
    assert_eq!(end_of(&mut stage, BOB, 1), Err(StreamCode::LAYER_DROPPED));
    stage.end();
}

//
#[rstest]
fn a_picture_that_nobody_is_sent_is_not_wanted_until_somebody_is(#[values(1, 2)] shards: usize) {
    let mut stage = stage_of(shards, Limits::default(), 2);
    stage.path(BOB, wide());
    let audio = stage.publish(ALICE, TrackKind::Audio, false);
    let video = stage.publish(ALICE, TrackKind::Video, false);
    subscribe_all(&mut stage, BOB, &[audio, video]);
    let bits = stage.news(ALICE, |news| match news {
        News::Demand(of, demand) if *of == video && demand.subscribers == 1 => Some(demand.bits_per_second),
        _ => None,
    });
    assert_eq!(bits, None, "nothing is known of the path");
    // A group of 40 kB ten times a second: 3.2 Mbit/s.
    let show = |stage: &mut supernode_world::stage::Stage, shows: bool, subscribers: u32| {
        for tick in 0..8_000u64 {
            if shows && tick % 20 == 0 {
                send_whole(stage, ALICE, &stream(video, tick / 20, 0, &[(0, 40_000)]));
            }
            stage.send(ALICE, datagram(audio, stage.now().since_beginning().as_millis() as u64, &[7; 100]));
            stage.pass(TALKS_EVERY);
            let told = |(_, news): &(_, News)| matches!(news, News::Demand(of, demand) if *of == video && demand.subscribers == subscribers);
            let news = &mut stage.hand_mut(ALICE).news;
            if let Some(place) = news.iter().position(told) {
                news.drain(..=place);
                return;
            }
        }
        panic!("within 40 s it is not wanted by {subscribers}");
    };
    stage.path(BOB, Conditions { queue_bytes: 20_000, ..narrow(300_000) });
    show(&mut stage, true, 0);
    // What was under way of pictures is through, so that the end is not too late behind it.
    stage.pass(ms(2_000));
    let end = end_of_pictures(video, 1_000_000);
    send_whole(&mut stage, ALICE, &end);
    stage.wait("that there will be no picture", |stage| {
        stage.hand(BOB).streams.iter().any(|stream| stream.bytes == end).then_some(())
    });
    stage.path(BOB, wide());
    show(&mut stage, false, 1);
    stage.news(ALICE, |news| (*news == News::KeyframeRequested(video)).then_some(()));
    stage.end();
}

//
#[test]
fn who_comes_late_has_a_picture_one_round_trip_later() {
    const DELAY: Duration = Duration::from_millis(50);
    let (mut stage, track) = two(2, Limits::default(), TrackKind::Video, to_all());
    // Nobody answers a wish for a key frame: it is this group or none. It fits QUIC's first flight.
    let group = stream(track, 1, 0, &[(0, 6_000)]);
    send_whole(&mut stage, ALICE, &group);
    stage.wait("it is in", |stage| (stage.ledger().objects_in == 1).then_some(()));
    let late = CAROL;
    stage.path(late, Conditions { delay: DELAY, ..wide() });
    stage.come(late);
    stage.join(late);
    let asked_at = stage.now();
    stage.subscribe_soon(late, subscription(track));
    let came_at = stage.wait("a picture", |stage| {
        stage.hand(late).streams.first().filter(|it| it.bytes.len() == group.len()).map(|it| it.at)
    });
    let picture = came_at.since(asked_at);
    assert!(picture < DELAY * 2 + ms(15), "{picture:?} with a round trip of {:?}", DELAY * 2);
    stage.end();
}

/// How many UDP datagrams an object takes that twelve people say to one listener.
fn datagrams_per_object(audio_budget: Duration) -> f64 {
    const SPEAKERS: usize = 12;
    const OBJECTS: usize = 1_200;
    let mut stage = stage_of(1, Limits { audio_budget, ..Limits::default() }, SPEAKERS + 1);
    let listener = SPEAKERS;
    let tracks: Vec<_> = (0..SPEAKERS).map(|speaker| stage.publish(speaker, TrackKind::Audio, false)).collect();
    subscribe_all(&mut stage, listener, &tracks);
    (0..SPEAKERS).for_each(|speaker| stage.demand(speaker, tracks[speaker], 1));
    let before = stage.datagrams_in(listener);
    // 600 a second, evenly spread.
    for object in 0..OBJECTS {
        let speaker = object % SPEAKERS;
        stage.send(speaker, datagram(tracks[speaker], (object / SPEAKERS) as u64, &[7; 80]));
        stage.pass(Duration::from_micros(1_667));
    }
    stage.wait("all are heard", |stage| (stage.hand(listener).datagrams.len() == OBJECTS).then_some(()));
    let datagrams = stage.datagrams_in(listener) - before;
    stage.end();
    datagrams as f64 / OBJECTS as f64
}

//
#[test]
fn twelve_who_speak_at_once_share_packets() {
    let budgets = [Duration::ZERO, Limits::default().audio_budget, Duration::from_millis(10)];
    let [at_once, within_the_default, within_ten] = budgets.map(datagrams_per_object);
    eprintln!(
        "datagrams for an object at once, in the default budget, in 10 ms: \
         {at_once:.2}, {within_the_default:.2}, {within_ten:.2}"
    );
    assert!(within_ten < at_once * 0.6 && within_the_default < at_once * 0.9);
}
