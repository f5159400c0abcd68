//! Who is seen online.

use bytes::Bytes;
use supernode_client::{
    Error, PresenceState, Watch,
    proto::{control::RefusalReason, identity::Grants},
};
use supernode_client_testkit::{Person, in_time};
use supernode_testkit::Relay;

async fn sees(watch: &mut Watch, state: PresenceState) {
    in_time(async { while watch.next().await.unwrap().state != state {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_of_a_ticket_sees_somebody_come_change_and_go() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (watcher, _events) = alice.online(&relay.invite()).await;
    let mut watch = in_time(watcher.watch(&bob.ticket())).await.unwrap();
    sees(&mut watch, PresenceState::Offline).await;

    let (client, _bob_events) = bob.online(&relay.invite()).await;
    in_time(watch.online()).await.unwrap();
    in_time(client.set_presence(PresenceState::Away, Bytes::from_static(b"sealed"))).await.unwrap();
    sees(&mut watch, PresenceState::Away).await;
    assert_eq!(watch.current().unwrap().status, Bytes::from_static(b"sealed"));
    in_time(client.set_presence(PresenceState::Invisible, Bytes::new())).await.unwrap();
    sees(&mut watch, PresenceState::Offline).await;
    in_time(client.set_presence(PresenceState::Busy, Bytes::new())).await.unwrap();
    sees(&mut watch, PresenceState::Busy).await;
    in_time(client.close()).await;
    sees(&mut watch, PresenceState::Offline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_for_somebody_else_or_without_the_grant_shows_nothing() {
    let relay = Relay::open(1);
    let (alice, bob, eve) = (Person::new(), Person::new(), Person::new());
    let (client, _events) = eve.online(&relay.invite()).await;
    for ticket in [bob.ticket_for(&alice, Grants::PRESENCE), bob.ticket_for(&eve, Grants::RING)] {
        let refusal = match in_time(client.watch(&ticket)).await {
            Err(Error::Refused(refusal)) => refusal.reason,
            _ => panic!("not refused"),
        };
        assert_eq!(refusal, RefusalReason::TicketInvalid);
    }
}
