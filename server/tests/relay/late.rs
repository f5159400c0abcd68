//! Who comes late, what publishers are told of demand, data that must arrive, and speakers.

use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    control::{Subscribe, TrackKind, client_message::Body as Request, relay_message::Body},
    object::TrackAlias,
};
use supernode_server::core::{ledger::DropReason, limits::Limits};
use supernode_testkit::{Client, Person, Relay, Room, datagram, eventually, stream, subscription};

use crate::{
    activity::{lively, publish_lively},
    media::{receive_stream, send_stream},
};

fn asked(event: &Body) -> Option<()> {
    matches!(event, Body::KeyframeRequested(_)).then_some(())
}

/// A publisher with a track, and somebody who has subscribed to it.
async fn two(relay: &Relay, room: &Room, kind: TrackKind) -> (Client, Client, TrackAlias) {
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(room).await;
    let track = alice.publish(room, kind).await;
    let bob = member(relay, room, subscription(track)).await;
    alice.demand(1).await;
    (alice, bob, track)
}

/// Somebody else in the room, with a subscription.
async fn member(relay: &Relay, room: &Room, wanted: Subscribe) -> Client {
    let mut member = relay.connect(&Person::new()).await;
    member.join(room).await;
    member.done(Request::Subscribe(wanted)).await;
    member
}

//
#[rstest]
#[tokio::test]
async fn who_comes_late_is_sent_the_newest_group_and_what_follows_it(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let (mut alice, bob, track) = two(&relay, &room, TrackKind::Video).await;
    let older = stream(track, 1, 0, &[(0, 900)]);
    send_stream(&alice, &older).await;
    assert!(receive_stream(&bob).await == older);
    // The newest group has begun: two layers of it, and the base goes on.
    let base = stream(track, 2, 0, &[(0, 40_000), (0, 500)]);
    let enhancement = stream(track, 2, 1, &[(0, 700)]);
    let mut going_on = alice.connection.open_uni().await.unwrap();
    going_on.write_all(&base[..base.len() - 300]).await.unwrap();
    send_stream(&alice, &enhancement).await;
    eventually("all of it is in", || relay.ledger().objects_in == 4).await;

    let mut late = Vec::new();
    for _ in 0..3 {
        late.push(member(&relay, &room, subscription(track)).await);
    }
    eventually("it is on its way to all of them", || relay.ledger().late_joiners == 3).await;
    going_on.write_all(&base[base.len() - 300..]).await.unwrap();
    going_on.finish().unwrap();
    for client in late.iter().chain([&bob]) {
        let mut received = [receive_stream(client).await, receive_stream(client).await];
        received.sort();
        let mut expected = [base.clone(), enhancement.clone()];
        expected.sort();
        assert!(received == expected, "both layers, from the first byte to the last");
    }
    alice.no_event(asked).await;
    eventually("nothing was lost", || relay.ledger().delivered == 1 + 4 * 3).await;
    for client in late.iter().chain([&alice, &bob]) {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_group_that_is_too_large_to_keep_is_asked_for_instead(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { group_cache_track_bytes_max: 10_000, ..Limits::default() });
    let room = Room::new();
    let (mut alice, bob, track) = two(&relay, &room, TrackKind::Screen).await;
    let large = stream(track, 1, 0, &[(0, 20_000)]);
    send_stream(&alice, &large).await;
    assert!(receive_stream(&bob).await == large);
    let carol = member(&relay, &room, subscription(track)).await;
    alice.event(asked).await;
    let next = stream(track, 2, 0, &[(0, 5_000)]);
    send_stream(&alice, &next).await;
    assert!(receive_stream(&carol).await == next);
    for client in [&alice, &bob, &carol] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn publishers_are_told_which_layers_anybody_takes(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let wanted = |temporal_layer_max, spatial_layer_max| Subscribe {
        temporal_layer_max,
        spatial_layer_max,
        ..subscription(track)
    };
    // The estimate of the paths may be told in between.
    let told = |subscribers: u32, temporal: u32, spatial: u32| {
        move |event: &Body| match event {
            Body::TrackDemand(demand) => {
                let told = (demand.subscribers, demand.temporal_layer_max, demand.spatial_layer_max);
                (told == (subscribers, temporal, spatial)).then_some(())
            }
            _ => None,
        }
    };
    let mut bob = member(&relay, &room, wanted(1, 0)).await;
    alice.event(told(1, 1, 0)).await;
    let carol = member(&relay, &room, wanted(0, 2)).await;
    alice.event(told(2, 1, 2)).await;
    bob.done(Request::Subscribe(wanted(2, 1))).await;
    alice.event(told(2, 2, 2)).await;
    carol.close();
    alice.event(told(1, 2, 1)).await;
    bob.close();
    alice.event(told(0, 0, 0)).await;
    alice.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn data_on_a_stream_arrives_however_long_it_takes(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let (alice, bob, track) = two(&relay, &room, TrackKind::Data).await;
    // More than QUIC takes without being read, and less than may wait; the stream's time to live is 5 s, and half a
    // second is more than any other object may wait.
    let file = stream(track, 1, 0, &[(0, 200_000); 8]);
    let sender = alice.connection.clone();
    let sent = file.clone();
    let sending = tokio::spawn(async move {
        let mut sending = sender.open_uni().await.unwrap();
        sending.write_all(&sent).await.unwrap();
        sending.finish().unwrap();
        let _ = sending.stopped().await;
    });
    let mut receiving = bob.connection.accept_uni().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let received = receiving.read_to_end(1 << 24).await.unwrap();
    assert!(received == file);
    sending.await.unwrap();
    assert_eq!(relay.ledger().dropped.iter().sum::<u64>(), 0);
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn data_goes_at_the_pace_of_who_takes_it_and_media_does_not(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let (mut alice, mut bob, track) = two(&relay, &room, TrackKind::Data).await;
    let audio = alice.publish(&room, TrackKind::Audio).await;
    bob.subscribe(audio).await;
    alice
        .event(|event| matches!(event, Body::TrackDemand(demand) if demand.alias == audio.value()).then_some(()))
        .await;
    // Far more than may wait anywhere.
    let file = stream(track, 1, 0, &[(0, 500_000); 16]);
    let (sender, sent) = (alice.connection.clone(), file.clone());
    let sending = tokio::spawn(async move {
        let mut sending = sender.open_uni().await.unwrap();
        sending.write_all(&sent).await.unwrap();
        sending.finish().unwrap();
        let _ = sending.stopped().await;
    });
    let mut receiving = bob.connection.accept_uni().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sending.is_finished(), "it is held");
    alice.connection.send_datagram(datagram(audio, 1, b"still heard")).unwrap();
    assert_eq!(&bob.object().await.1[..], b"still heard");
    let received = receiving.read_to_end(1 << 24).await.unwrap();
    assert!(received == file, "all of it, in order");
    sending.await.unwrap();
    assert_eq!(relay.ledger().dropped.iter().sum::<u64>(), 0);
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_wants_the_most_active_speakers_is_sent_only_them(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut members = Vec::new();
    let mut tracks = Vec::new();
    for _ in 0..4 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        tracks.push(publish_lively(&mut member, &room, TrackKind::Audio).await);
        members.push(member);
    }
    let mut listener = relay.connect(&Person::new()).await;
    listener.join(&room).await;
    for track in &tracks {
        listener.done(Request::Subscribe(Subscribe { speakers_max: 2, ..subscription(*track) })).await;
    }
    // Somebody hears all of them.
    let all = relay.connect(&Person::new()).await;
    let mut all = all;
    all.join(&room).await;
    for (member, track) in members.iter_mut().zip(&tracks) {
        all.subscribe(*track).await;
        member.demand(2).await;
    }
    for group in 0..100 {
        for (index, (member, track)) in members.iter().zip(&tracks).enumerate() {
            let activity = if index < 2 { 3 } else { 0 };
            member.connection.send_datagram(lively(*track, group, activity)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("each object is delivered or dropped", || {
        let ledger = relay.ledger();
        ledger.offered == 800 && ledger.settled() == 800
    })
    .await;
    assert!(relay.ledger().dropped[DropReason::NotSpeaking as usize] >= 150, "{:?}", relay.ledger().dropped);
    let mut heard = [0u32; 4];
    while let Ok(wire) = tokio::time::timeout(Duration::from_millis(100), listener.connection.read_datagram()).await {
        let wire: Bytes = wire.unwrap();
        let (header, _) = supernode_proto::object::DatagramHeader::decode(&wire).unwrap();
        heard[tracks.iter().position(|track| *track == header.hop.alias).unwrap()] += 1;
    }
    assert!(heard[0] >= 80 && heard[1] >= 80 && heard[2] + heard[3] <= 50, "{heard:?}");
    for client in members.iter().chain([&listener, &all]) {
        client.close();
    }
    relay.assert_empty().await;
}
