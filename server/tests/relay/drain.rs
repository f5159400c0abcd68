use rstest::rstest;
use std::time::Duration;

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{GoAway, RefusalReason, Ring, client_message::Body as Request, relay_message::Body},
};
use supernode_testkit::{Client, Person, Relay, Room, client_config};

async fn go_away(client: &mut Client) -> GoAway {
    client.event(|event| if let Body::GoAway(away) = event { Some(away.clone()) } else { None }).await
}

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
    let away = go_away(&mut callee).await;
    assert_eq!((away.reconnect_after_ms, away.reconnect_before_ms), (0, 2_000));
    let away = go_away(&mut caller).await;
    assert_eq!(away.reconnect_before_ms - away.reconnect_after_ms, 100, "with the others of its room");
    assert!(away.reconnect_before_ms <= 2_000);
    let ring = Request::Ring(Ring { ticket: bob.open_ticket(), payload: Bytes::new(), ..Ring::default() });
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

//
#[tokio::test]
async fn a_drain_ends_with_its_calls_and_not_before() {
    let relay = Relay::start(2);
    let (mut idle, mut caller) = (relay.connect(&Person::new()).await, relay.connect(&Person::new()).await);
    caller.join(&Room::new()).await;
    relay.drain_patiently(Duration::from_millis(200), Duration::from_secs(60));
    go_away(&mut caller).await;
    go_away(&mut idle).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(relay.population().sessions, 2, "the window has passed, and somebody is in a call");
    caller.close();
    assert_eq!(idle.close_code().await, CloseCode::GOING_AWAY, "nobody is in a call any more");
}

//
#[rstest]
#[tokio::test]
async fn members_of_a_room_are_told_to_move_at_the_same_time(#[values(1, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut members = Vec::new();
    for _ in 0..6 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        members.push(member);
    }
    relay.drain(Duration::from_secs(3));
    let first = go_away(&mut members[0]).await;
    for member in &mut members[1..] {
        assert_eq!(go_away(member).await, first);
    }
    assert_eq!(first.reconnect_before_ms - first.reconnect_after_ms, 100);
}
