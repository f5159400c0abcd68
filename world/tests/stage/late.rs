//! Who comes late, what publishers are told of demand, data that must arrive, and speakers.

use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    control::{Subscribe, TrackKind},
    object::{DatagramHeader, Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_server::core::{ledger::DropReason, limits::Limits};
use supernode_session::put_datagram;
use supernode_testkit::{datagram, stream, subscription};
use supernode_world::{client::News, stage::Stage};

use crate::{ALICE, BOB, CAROL, DAVE, ms, send_whole, stage_of, subscribe_all, to_all, two, whole};

/// Somebody else in the room, with a subscription.
fn comes_late(stage: &mut Stage, client: usize, wanted: Subscribe) {
    stage.come(client);
    stage.join(client);
    stage.subscribe(client, wanted);
}

//
#[rstest]
fn who_comes_late_is_sent_the_newest_group_and_what_follows_it(#[values(1, 2, 4)] shards: usize) {
    let (mut stage, track) = two(shards, Limits::default(), TrackKind::Video, to_all());
    let older = stream(track, 1, 0, &[(0, 900)]);
    send_whole(&mut stage, ALICE, &older);
    assert!(whole(&mut stage, BOB, 0) == older);
    // The newest group has begun: two layers of it, and the base goes on.
    let base = stream(track, 2, 0, &[(0, 40_000), (0, 500)]);
    let enhancement = stream(track, 2, 1, &[(0, 700)]);
    let going_on = stage.open(ALICE, &base[..base.len() - 300]);
    send_whole(&mut stage, ALICE, &enhancement);
    stage.wait("all of it is in", |stage| (stage.ledger().objects_in == 4).then_some(()));

    let late = [CAROL, DAVE, 4];
    late.iter().for_each(|client| comes_late(&mut stage, *client, subscription(track)));
    stage.wait("it is on its way to all of them", |stage| (stage.ledger().late_joiners == 3).then_some(()));
    stage.write(ALICE, going_on, &base[base.len() - 300..]);
    stage.finish(ALICE, going_on);
    for (client, first) in late.into_iter().map(|client| (client, 0)).chain([(BOB, 1)]) {
        let mut received = [whole(&mut stage, client, first), whole(&mut stage, client, first + 1)];
        received.sort();
        let mut expected = [base.clone(), enhancement.clone()];
        expected.sort();
        assert!(received == expected, "both layers, from the first byte to the last");
    }
    let is_asked = |(_, news): &(_, News)| matches!(news, News::KeyframeRequested(_));
    assert!(!stage.hand(ALICE).news.iter().any(is_asked), "nobody needed another one");
    stage.wait("nothing was lost", |stage| (stage.ledger().delivered == 1 + 4 * 3).then_some(()));
    stage.end();
}

//
#[rstest]
fn a_group_that_is_too_large_to_keep_is_asked_for_instead(#[values(1, 2, 4)] shards: usize) {
    let limits = Limits { group_cache_track_bytes_max: 10_000, ..Limits::default() };
    let (mut stage, track) = two(shards, limits, TrackKind::Screen, to_all());
    let large = stream(track, 1, 0, &[(0, 20_000)]);
    send_whole(&mut stage, ALICE, &large);
    assert!(whole(&mut stage, BOB, 0) == large);
    comes_late(&mut stage, CAROL, subscription(track));
    stage.news(ALICE, |news| matches!(news, News::KeyframeRequested(_)).then_some(()));
    let next = stream(track, 2, 0, &[(0, 5_000)]);
    send_whole(&mut stage, ALICE, &next);
    assert!(whole(&mut stage, CAROL, 0) == next);
    stage.end();
}

//
#[rstest]
fn publishers_are_told_which_layers_anybody_takes(#[values(1, 2, 4)] shards: usize) {
    let mut stage = stage_of(shards, Limits::default(), 1);
    let track = stage.publish(ALICE, TrackKind::Video, false);
    let wanted = |temporal_layer_max, spatial_layer_max| Subscribe {
        temporal_layer_max,
        spatial_layer_max,
        ..subscription(track)
    };
    // The estimate of the paths may be told in between.
    let is_told = |stage: &mut Stage, wanted: (u32, u8, u8)| {
        stage.news(ALICE, |news| match news {
            News::Demand(_, demand) => {
                let told = (demand.subscribers, demand.temporal_layer_max, demand.spatial_layer_max);
                (told == wanted).then_some(())
            }
            _ => None,
        });
    };
    comes_late(&mut stage, BOB, wanted(1, 0));
    is_told(&mut stage, (1, 1, 0));
    comes_late(&mut stage, CAROL, wanted(0, 2));
    is_told(&mut stage, (2, 1, 2));
    stage.subscribe(BOB, wanted(2, 1));
    is_told(&mut stage, (2, 2, 2));
    stage.leave(CAROL);
    is_told(&mut stage, (1, 2, 1));
    stage.leave(BOB);
    is_told(&mut stage, (0, 0, 0));
    stage.end();
}

//
#[rstest]
fn data_on_a_stream_arrives_however_long_it_takes(#[values(1, 2, 4)] shards: usize) {
    let (mut stage, track) = two(shards, Limits::default(), TrackKind::Data, to_all());
    // More than QUIC takes without being read, and less than may wait; the stream's time to live is 5 s, and half a
    // second is more than any other object may wait.
    let file = stream(track, 1, 0, &[(0, 200_000); 8]);
    stage.leave_streams_unread(BOB, true);
    send_whole(&mut stage, ALICE, &file);
    stage.pass(ms(500));
    stage.leave_streams_unread(BOB, false);
    assert!(whole(&mut stage, BOB, 0) == file);
    assert_eq!(stage.ledger().dropped.iter().sum::<u64>(), 0);
    stage.end();
}

//
#[rstest]
fn data_goes_at_the_pace_of_who_takes_it_and_media_does_not(#[values(1, 2, 4)] shards: usize) {
    let (mut stage, track) = two(shards, Limits::default(), TrackKind::Data, to_all());
    let audio = stage.publish(ALICE, TrackKind::Audio, false);
    stage.subscribe(BOB, subscription(audio));
    stage.demand(ALICE, audio, 1);
    // Far more than may wait anywhere.
    let file = stream(track, 1, 0, &[(0, 500_000); 16]);
    stage.leave_streams_unread(BOB, true);
    send_whole(&mut stage, ALICE, &file);
    stage.pass(ms(500));
    assert!(stage.unsent(ALICE) > 0, "it is held");
    stage.send(ALICE, datagram(audio, 1, b"still heard"));
    let heard = stage.wait("it is heard", |stage| stage.hand(BOB).datagrams.first().map(|(_, wire)| wire.clone()));
    assert!(heard.ends_with(b"still heard"));
    stage.leave_streams_unread(BOB, false);
    assert!(whole(&mut stage, BOB, 0) == file, "all of it, in order");
    assert_eq!(stage.ledger().dropped.iter().sum::<u64>(), 0);
    stage.end();
}

/// An audio object as lively as that.
fn lively(alias: TrackAlias, group: u64, activity: u8) -> Bytes {
    let flags = Flags::INDEPENDENT.with_activity(activity);
    let visible = Visible { group, object: 0, flags, layer: Layer::default() };
    let mut wire = Vec::new();
    put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: 1000 }, visible);
    wire.extend_from_slice(b"sealed");
    wire.into()
}

//
#[rstest]
fn who_wants_the_most_active_speakers_is_sent_only_them(#[values(1, 2, 4)] shards: usize) {
    const SPEAKERS: usize = 4;
    let (listener, all) = (SPEAKERS, SPEAKERS + 1);
    let mut stage = stage_of(shards, Limits::default(), SPEAKERS + 2);
    let tracks: Vec<_> = (0..SPEAKERS).map(|speaker| stage.publish(speaker, TrackKind::Audio, true)).collect();
    for track in &tracks {
        stage.subscribe(listener, Subscribe { speakers_max: 2, ..subscription(*track) });
    }
    // Somebody hears all of them.
    subscribe_all(&mut stage, all, &tracks);
    (0..SPEAKERS).for_each(|speaker| stage.demand(speaker, tracks[speaker], 2));
    for group in 0..100 {
        for (speaker, track) in tracks.iter().enumerate() {
            let activity = if speaker < 2 { 3 } else { 0 };
            stage.send(speaker, lively(*track, group, activity));
        }
        stage.pass(ms(5));
    }
    stage.pass(Duration::from_secs(1));
    let ledger = stage.ledger();
    let dropped: u64 = ledger.dropped.iter().sum();
    assert_eq!((ledger.offered, ledger.delivered + dropped), (800, 800), "each object is delivered or dropped");
    assert!(ledger.dropped[DropReason::NotSpeaking as usize] >= 150, "{:?}", ledger.dropped);
    let mut heard = [0u32; SPEAKERS];
    for (_, wire) in &stage.hand(listener).datagrams {
        let (header, _) = DatagramHeader::decode(wire).expect("an object");
        heard[tracks.iter().position(|track| *track == header.hop.alias).expect("a track")] += 1;
    }
    assert!(heard[0] >= 80 && heard[1] >= 80 && heard[2] + heard[3] <= 50, "{heard:?}");
    stage.end();
}
