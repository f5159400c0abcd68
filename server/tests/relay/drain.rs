use rstest::rstest;
use std::time::Duration;

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{RefusalReason, Ring, client_message::Body as Request, relay_message::Body},
};

use crate::harness::{Person, Relay, Room, client_config};

//
#[rstest]
#[tokio::test]
async fn a_relay_that_drains_says_so_starts_nothing_new_and_closes_whoever_stays(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    let mut late = relay.dial().await;
    let room = Room::new();
    caller.join(&room).await;

    relay.drain(Duration::from_secs(2));
    for client in [&mut caller, &mut callee] {
        let away = client.event(|event| if let Body::GoAway(away) = event { Some(away.clone()) } else { None }).await;
        assert_eq!((away.reconnect_after_ms, away.reconnect_before_ms), (0, 2_000));
    }
    let ring = Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new() });
    assert_eq!(caller.refused(ring).await.reason(), RefusalReason::GoingAway);
    let new_room = Request::JoinRoom(callee.join_request(&Room::new()));
    assert_eq!(callee.refused(new_room).await.reason(), RefusalReason::GoingAway);
    assert_eq!(callee.join(&room).await.members.len(), 2, "a call that goes on can be joined");

    let hello = late.hello(&Person::new(), relay.pin);
    late.send(0, Request::Hello(hello)).await;
    assert_eq!(late.next().await.expect_err("no Welcome"), CloseCode::GOING_AWAY);
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = endpoint.connect_with(client_config(), relay.address, "relay").unwrap().await;
    assert!(matches!(refused, Err(quinn::ConnectionError::ConnectionClosed(_))), "refused by QUIC: {refused:?}");

    assert_eq!(caller.close_code().await, CloseCode::GOING_AWAY);
    assert_eq!(callee.close_code().await, CloseCode::GOING_AWAY);
    relay.assert_empty().await;
}
