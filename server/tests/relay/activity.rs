//! How lively objects are: told only by tracks that say so.

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    close::StreamCode,
    control::{PublishTrack, TrackKind, client_message::Body as Request, relay_message::Body},
    object::{Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_server::core::ledger::RefuseReason;
use supernode_session::put_datagram;
use supernode_testkit::{Client, Person, Relay, Room, eventually, stop_code, stream};

/// An audio object as lively as that.
pub fn lively(alias: TrackAlias, group: u64, activity: u8) -> Bytes {
    let flags = Flags::INDEPENDENT.with_activity(activity);
    let visible = Visible { group, object: 0, flags, layer: Layer::default() };
    let mut wire = Vec::new();
    put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: 1000 }, visible);
    wire.extend_from_slice(b"sealed");
    wire.into()
}

pub async fn publish_lively(client: &mut Client, room: &Room, kind: TrackKind) -> TrackAlias {
    let label = Bytes::from_static(b"label");
    let wanted = PublishTrack { room: room.name(), kind: kind.into(), label, activity: true, mls_epoch: room.epoch };
    match client.ask(Request::PublishTrack(wanted)).await {
        Body::TrackPublished(published) => TrackAlias::new(published.alias).unwrap(),
        other => panic!("TrackPublished was due: {other:?}"),
    }
}

//
#[rstest]
#[tokio::test]
async fn only_a_track_that_says_so_shows_how_lively_it_is(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let silent = alice.publish(&room, TrackKind::Audio).await;
    let telling = publish_lively(&mut alice, &room, TrackKind::Audio).await;
    let announced = |event: &Body| match event {
        Body::TrackAnnounced(track) => Some(track.activity),
        _ => None,
    };
    assert!(!bob.event(announced).await, "the default is to tell nothing");
    assert!(bob.event(announced).await);
    for track in [silent, telling] {
        bob.subscribe(track).await;
        alice.demand(1).await;
    }
    let malformed = || relay.ledger().refused[RefuseReason::Malformed as usize];
    alice.connection.send_datagram(lively(silent, 1, 2)).unwrap();
    eventually("it is refused", || malformed() == 1).await;
    let mut wire = stream(silent, 1, 0, &[(0, 10)]);
    let flags = wire.len() - 10 - 3;
    wire[flags] = 0x10;
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&wire).await.unwrap();
    assert_eq!(stop_code(&mut sending).await, StreamCode::MALFORMED);
    alice.connection.send_datagram(lively(telling, 1, 2)).unwrap();
    assert_eq!(bob.object().await.0.visible.flags.activity(), 2);
    alice.close();
    bob.close();
    relay.assert_empty().await;
}
