//! What the whole relay may hold, and what one identity may make it send.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rstest::rstest;
use supernode_proto::{
    close::CloseCode,
    control::{TrackKind, Unwatch, client_message::Body as Request},
};
use supernode_server::core::{ledger::DropReason, limits::Limits};
use supernode_testkit::{Person, Relay, datagram, eventually, stream};

use crate::media::{receive_stream, send_stream};

//
#[rstest]
#[tokio::test]
async fn what_an_identity_is_sent_is_held_to_its_rate_as_if_the_path_took_no_more(#[values(1, 2)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { egress_bytes_per_second_max: 200_000, ..Limits::default() });
    let (alice, bob, track) = relay.speaker_and_listener(TrackKind::Audio).await;
    let (talker, listener) = (alice.connection.clone(), bob.connection.clone());
    let heard = tokio::spawn(async move {
        let mut bytes = 0;
        while let Ok(Ok(wire)) = tokio::time::timeout(Duration::from_millis(1_500), listener.read_datagram()).await {
            bytes += wire.len();
        }
        bytes
    });
    let (start, mut tick, mut sent) = (Instant::now(), tokio::time::interval(Duration::from_millis(5)), 0);
    let mut group = 0;
    while start.elapsed() < Duration::from_secs(3) {
        tick.tick().await;
        for _ in 0..5 {
            group += 1;
            let wire = datagram(track, group, &[7; 1_000]);
            sent += wire.len();
            talker.send_datagram(wire).unwrap();
        }
    }
    let heard = heard.await.unwrap();
    assert!(sent > 2_000_000, "{sent} bytes are far more than it may be sent");
    assert!((300_000..1_500_000).contains(&heard), "{heard} bytes in three seconds at 200,000 a second");
    assert!(relay.ledger().dropped[DropReason::Expired as usize] > 0, "the others were too late");
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn large_objects_come_through_however_little_may_be_in_flight(#[values(1, 2)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { relay_windows_bytes_max: 1, ..Limits::default() });
    let (alice, bob, track) = relay.speaker_and_listener(TrackKind::Data).await;
    let wire = stream(track, 1, 0, &[(0, 500_000), (0, 100)]);
    let (received, ()) = tokio::join!(receive_stream(&bob), send_stream(&alice, &wire));
    assert!(received == wire, "{} of {} bytes", received.len(), wire.len());
    alice.close();
    bob.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn when_messages_that_are_not_whole_come_to_too_much_those_who_began_most_of_them_go(
    #[values(1, 2)] shards: usize,
) {
    let bound = 100_000 * shards as u64;
    let relay = Relay::with_limits(shards, Limits { relay_control_bytes_max: bound, ..Limits::default() });
    let mut honest = relay.connect(&Person::new()).await;
    let mut begun = BytesMut::new();
    prost::encoding::encode_varint(60_000, &mut begun);
    begun.put_bytes(7, 50_000);
    let mut hoarders = Vec::new();
    for _ in 0..4 * shards {
        let mut hoarder = relay.connect(&Person::new()).await;
        hoarder.send_raw(&begun).await;
        hoarders.push(hoarder);
    }
    for _ in 0..20 {
        honest.done(Request::Unwatch(Unwatch { identity: vec![1; 32].into() })).await;
    }
    let closed =
        || relay.tallies().iter().map(|tally| tally.closed[CloseCode::CONTROL_BACKLOG.0 as usize]).sum::<u64>();
    eventually("some have gone", || closed() >= 1).await;
    honest.done(Request::Unwatch(Unwatch { identity: vec![1; 32].into() })).await;
    honest.close();
    hoarders.iter().for_each(|hoarder| hoarder.close());
    relay.assert_empty().await;
}
