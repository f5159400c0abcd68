//! Objects on their way, as datagrams and on streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{TrackKind, UnpublishTrack, client_message::Body as Request, relay_message::Body},
    object::TrackAlias,
};
use supernode_server::core::{
    ledger::{DropReason, RefuseReason},
    limits::Limits,
};
use supernode_testkit::{Client, PATIENCE, Person, Relay, Room, datagram, eventually, stop_code, stream, subscription};

pub async fn send_stream(client: &Client, wire: &[u8]) {
    let mut stream = client.connection.open_uni().await.unwrap();
    stream.write_all(wire).await.unwrap();
    stream.finish().unwrap();
}

pub async fn receive_stream(client: &Client) -> Vec<u8> {
    let mut stream = tokio::time::timeout(PATIENCE, client.connection.accept_uni()).await.expect("a stream").unwrap();
    tokio::time::timeout(PATIENCE, stream.read_to_end(1 << 24)).await.expect("its end").unwrap()
}

//
#[rstest]
#[tokio::test]
async fn everybody_else_in_a_room_gets_every_object_once_and_as_it_was(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        members.push(member);
    }
    let mut tracks = Vec::new();
    for member in &mut members {
        tracks.push(member.publish(&room, TrackKind::Audio).await);
    }
    for (index, member) in members.iter_mut().enumerate() {
        for (other, track) in tracks.iter().enumerate().filter(|(other, _)| *other != index) {
            let _ = other;
            member.subscribe(*track).await;
        }
    }
    for member in &mut members {
        member.demand(4).await;
    }
    for group in 0..50u64 {
        for (member, track) in members.iter().zip(&tracks) {
            let wire = datagram(*track, group, &[group as u8; 120]);
            member.connection.send_datagram(wire).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (index, member) in members.iter_mut().enumerate() {
        let mut next = [0u64; 5];
        for _ in 0..200 {
            let (header, sealed) = member.object().await;
            let from = tracks.iter().position(|track| *track == header.hop.alias).unwrap();
            assert_ne!(from, index, "nobody hears themselves");
            assert_eq!(header.visible.group, next[from], "in the sender's order, once");
            assert_eq!(&sealed[..], &[next[from] as u8; 120]);
            next[from] += 1;
        }
    }
    eventually("all are delivered", || {
        let ledger = relay.ledger();
        (ledger.objects_in, ledger.offered, ledger.delivered) == (250, 1000, 1000)
    })
    .await;
    for member in &members {
        member.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn streams_come_through_byte_for_byte_whatever_their_size(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut listeners = vec![relay.connect(&Person::new()).await, relay.connect(&Person::new()).await];
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    for listener in &mut listeners {
        listener.join(&room).await;
        listener.subscribe(track).await;
    }
    alice.demand(2).await;
    for (group, objects) in [vec![(0, 0)], vec![(0, 10), (0, 400_000), (0, 1)]].iter().enumerate() {
        let wire = stream(track, group as u64, 0, objects);
        send_stream(&alice, &wire).await;
        for listener in &listeners {
            assert!(receive_stream(listener).await == wire);
        }
    }
    eventually("all are delivered", || relay.ledger().delivered == 8).await;
    for client in listeners.iter().chain([&alice]) {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn layers_above_what_is_wanted_are_left_out(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let mut wanted = subscription(track);
    wanted.spatial_layer_max = 0;
    wanted.temporal_layer_max = 1;
    bob.done(Request::Subscribe(wanted)).await;
    alice.demand(1).await;
    send_stream(&alice, &stream(track, 1, 1, &[(0, 100), (1, 5_000), (0, 200)])).await;
    let received = receive_stream(&bob).await;
    assert_eq!(received.len(), stream(track, 1, 1, &[(0, 100), (0, 200)]).len());
    send_stream(&alice, &stream(track, 2, 2, &[(0, 100)])).await;
    eventually("both are dropped", || relay.ledger().dropped[DropReason::LayerNotWanted as usize] == 2).await;
    let unwanted = tokio::time::timeout(Duration::from_millis(100), bob.connection.accept_uni()).await;
    assert!(unwanted.is_err(), "a stream of which nothing is wanted is not opened");
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_stream_whose_publisher_breaks_off_is_reset_and_accounted_for(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, mut bob, track) = relay.speaker_and_listener(TrackKind::Video).await;
    let wire = stream(track, 1, 0, &[(0, 100), (0, 50_000)]);
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&wire[..wire.len() - 1]).await.unwrap();
    let mut receiving = bob.connection.accept_uni().await.unwrap();
    // All of it, so that nothing of Alice's is held back by congestion control: quinn would hold her goodbye back too.
    receiving.read_exact(&mut vec![0; wire.len() - 1]).await.unwrap();
    alice.close();
    let rest = tokio::time::timeout(PATIENCE, receiving.read_to_end(1 << 20)).await.expect("an end");
    assert!(rest.is_err(), "reset, not finished");
    bob.event(|event| matches!(event, Body::TrackEnded(_)).then_some(())).await;
    eventually("the half object is dropped", || {
        let ledger = relay.ledger();
        ledger.settled() == 2 && ledger.offered == 2
    })
    .await;
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_client_that_moves_to_another_address_goes_on(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (mut alice, mut bob, track) = relay.speaker_and_listener(TrackKind::Audio).await;
    // Often enough that with several shards some moves land on another shard's socket by hash.
    for group in 0..8 {
        for client in [&alice, &bob] {
            client.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        }
        bob.done(Request::Unsubscribe(supernode_proto::control::Unsubscribe { alias: track.value() })).await;
        bob.subscribe(track).await;
        alice.demand(1).await;
        alice.connection.send_datagram(datagram(track, group, b"moved")).unwrap();
        assert_eq!(bob.object().await.0.visible.group, group);
    }
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn key_frame_requests_are_coalesced_and_none_is_forgotten(#[values(1, 2, 4)] shards: usize) {
    let interval = Duration::from_millis(1_500);
    let relay = Relay::with_limits(shards, Limits { keyframe_interval: interval, ..Limits::default() });
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let mut watchers = Vec::new();
    for _ in 0..2 {
        let mut watcher = relay.connect(&Person::new()).await;
        watcher.join(&room).await;
        watcher.subscribe(track).await;
        watchers.push(watcher);
    }
    alice.demand(2).await;
    let asked = |event: &Body| matches!(event, Body::KeyframeRequested(_)).then_some(());
    // At once, when the second one came.
    alice.event(asked).await;
    let mut since = Instant::now();
    for _ in 0..3 {
        for watcher in &mut watchers {
            for _ in 0..3 {
                let request = supernode_proto::control::RequestKeyframe { alias: track.value() };
                watcher.done(Request::RequestKeyframe(request)).await;
            }
        }
        // Once for all of them, when the interval is over.
        alice.event(asked).await;
        assert!(since.elapsed() > interval / 2, "{:?} after the last one", since.elapsed());
        since = Instant::now();
        alice.no_event(asked).await;
    }
    // Whoever wished for one has it when a group begins.
    let request = supernode_proto::control::RequestKeyframe { alias: track.value() };
    watchers[0].done(Request::RequestKeyframe(request)).await;
    send_stream(&alice, &stream(track, 1, 0, &[(0, 100)])).await;
    receive_stream(&watchers[0]).await;
    tokio::time::sleep(interval.saturating_sub(since.elapsed()) + Duration::from_millis(200)).await;
    alice.no_event(asked).await;
    alice.close();
    watchers.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn objects_that_are_not_the_senders_own_are_refused_and_counted(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut eve = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    let before = relay.ledger();
    eve.connection.send_datagram(datagram(track, 1, b"forged")).unwrap();
    eve.connection.send_datagram(Bytes::from_static(&[0xff; 3])).unwrap();
    // No object, but a question.
    eve.connection.send_datagram(Bytes::new()).unwrap();
    let mut stream_of_others = eve.connection.open_uni().await.unwrap();
    stream_of_others.write_all(&stream(track, 1, 0, &[(0, 10)])).await.unwrap();
    assert!(stream_of_others.stopped().await.unwrap().is_some(), "the relay stops the stream with a code");
    eventually("all are refused", || relay.ledger().refused.iter().sum::<u64>() == 3).await;
    assert_eq!(relay.ledger().offered, before.offered);
    // Neither of them is disturbed.
    let mut bob = relay.connect(&Person::new()).await;
    bob.join(&room).await;
    bob.subscribe(track).await;
    alice.demand(1).await;
    alice.connection.send_datagram(datagram(track, 1, b"real")).unwrap();
    assert_eq!(&bob.object().await.1[..], b"real");
    eve.join(&Room::new()).await;
    for client in [&alice, &bob, &eve] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn aliases_tell_nothing_and_publishers_know_how_many_listen(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut listeners = [relay.connect(&Person::new()).await, relay.connect(&Person::new()).await];
    alice.join(&room).await;
    for listener in &mut listeners {
        listener.join(&room).await;
    }
    let mut aliases = Vec::new();
    for _ in 0..16 {
        let alias = alice.publish(&room, TrackKind::Audio).await;
        let announced = |event: &Body| if let Body::TrackAnnounced(track) = event { Some(track.alias) } else { None };
        for listener in &mut listeners {
            assert_eq!(listener.event(announced).await, alias.value(), "the same for everybody");
        }
        aliases.push(alias);
    }
    assert!(aliases.iter().all(|alias| alias.value() < 1 << 30));
    assert!(aliases.iter().any(|alias| alias.value() >= 1 << 20), "drawn from the whole range");
    assert!(!aliases.is_sorted(), "and in no order");
    aliases.sort();
    aliases.dedup();
    assert_eq!(aliases.len(), 16);

    let track = aliases[0];
    for (listener, subscribers) in listeners.iter_mut().zip(1..) {
        listener.subscribe(track).await;
        alice.demand(subscribers).await;
    }
    let unsubscribe = supernode_proto::control::Unsubscribe { alias: track.value() };
    listeners[0].done(Request::Unsubscribe(unsubscribe)).await;
    alice.demand(1).await;
    listeners[1].close();
    alice.demand(0).await;
    alice.close();
    listeners[0].close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_stream_that_cannot_be_forwarded_is_stopped_with_its_reason(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let other = TrackAlias::new(track.value() ^ 1).unwrap();
    let reserved_flag = [&stream(track, 1, 0, &[])[..], &[0, 0x80, 0, 0]].concat();
    let too_large = [&stream(track, 1, 0, &[])[..], &[0, 0, 0, 0x80, 0x20, 0, 1]].concat();
    for (wire, code) in [
        (vec![0x02], StreamCode::MALFORMED),
        (reserved_flag, StreamCode::MALFORMED),
        (too_large, StreamCode::MALFORMED),
        (stream(other, 1, 0, &[(0, 10)]), StreamCode::UNKNOWN_TRACK),
    ] {
        let mut sending = alice.connection.open_uni().await.unwrap();
        sending.write_all(&wire).await.unwrap();
        assert_eq!(stop_code(&mut sending).await, code, "{wire:?}");
    }
    alice.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_sends_more_than_was_granted_is_not_forwarded(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { ingest_objects_per_second_max: 5, ..Limits::default() });
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    for group in 0..50 {
        alice.connection.send_datagram(datagram(track, group, b"many")).unwrap();
    }
    let refused = || relay.ledger().refused[RefuseReason::RateExceeded as usize];
    eventually("each is let in or refused", || relay.ledger().objects_in + refused() == 50).await;
    assert!((5..50).contains(&relay.ledger().objects_in));
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&stream(track, 1, 0, &[(0, 0); 20])).await.unwrap();
    assert_eq!(stop_code(&mut sending).await, StreamCode::RATE_EXCEEDED);
    alice.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_stream_of_a_track_that_ends_is_reset_with_that_reason(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (mut alice, bob, track) = relay.speaker_and_listener(TrackKind::Video).await;
    let mut sending = alice.connection.open_uni().await.unwrap();
    let wire = stream(track, 1, 0, &[(0, 100), (0, 5_000)]);
    sending.write_all(&wire[..wire.len() - 1]).await.unwrap();
    let mut receiving = bob.connection.accept_uni().await.unwrap();
    receiving.read_exact(&mut [0; 100]).await.unwrap();
    alice.done(Request::UnpublishTrack(UnpublishTrack { alias: track.value() })).await;
    let error = tokio::time::timeout(PATIENCE, receiving.read_to_end(1 << 20)).await.expect("an end");
    let ended =
        quinn::ReadToEndError::Read(quinn::ReadError::Reset(quinn::VarInt::from_u32(StreamCode::TRACK_ENDED.0 as u32)));
    assert_eq!(error, Err(ended));
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_goes_on_sending_far_too_much_is_let_go(#[values(1, 2, 4)] shards: usize) {
    let limits = Limits { ingest_objects_per_second_max: 10, ingest_excess_objects_max: 100, ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    for group in 0.. {
        if alice.connection.send_datagram(datagram(track, group, b"too much")).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    assert_eq!(alice.close_code().await, CloseCode::RATE_EXCEEDED);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn objects_above_their_bounds_are_refused(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let head = datagram(track, 1, b"").len();
    for (size, refused) in [(1150 - head, 0), (1151 - head, 1)] {
        alice.connection.send_datagram(datagram(track, 1, &vec![0; size])).unwrap();
        eventually("it was judged", || {
            let ledger = relay.ledger();
            ledger.refused[RefuseReason::Malformed as usize] == refused && ledger.objects_in == 1
        })
        .await;
    }
    // An object of another temporal layer than its stream's.
    let mut wire = stream(track, 1, 2, &[(0, 10)]);
    let temporal_layer = stream(track, 1, 2, &[]).len() - 1;
    wire[temporal_layer] = 1;
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&wire).await.unwrap();
    let stopped = sending.stopped().await.unwrap().map(quinn::VarInt::into_inner);
    assert_eq!(stopped, Some(StreamCode::MALFORMED.0));
    alice.close();
    relay.assert_empty().await;
}
