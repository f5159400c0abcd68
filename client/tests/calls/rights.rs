//! Who may ring whom and come in where, through a real relay.

use supernode_client::{
    Client, Config, Error, Event, PresenceState, RingOutcome,
    proto::{close::CloseCode, control::RefusalReason},
};
use supernode_client_testkit::{Person, in_time, next_ring, online, quick};
use supernode_testkit::Relay;

//
#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_were_taken_back_ring_nobody_and_those_of_the_new_generation_do() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let config = Config { ticket_generation: 3, ..quick() };
    let (callee, mut events) = bob.online_with(&relay.invite(), config).await;
    let mut watch = in_time(caller.watch(&bob.ticket_of(4))).await.unwrap();
    assert_eq!(in_time(watch.next()).await.unwrap().state, PresenceState::Online);
    let is_offline = |rung: Result<_, Error>| match rung {
        Err(Error::Refused(refusal)) => refusal.reason == RefusalReason::Offline,
        _ => false,
    };
    assert!(is_offline(in_time(caller.ring(&bob.ticket_of(2))).await), "as the Hello says");
    let ring = in_time(caller.ring(&bob.ticket_of(3))).await.unwrap();
    drop((next_ring(&mut events).await, ring));

    in_time(callee.limit_tickets(4, &[])).await.unwrap();
    assert!(is_offline(in_time(caller.ring(&bob.ticket_of(3))).await));
    in_time(callee.limit_tickets(0, &[alice.public()])).await.unwrap();
    assert_eq!(in_time(watch.next()).await.unwrap().state, PresenceState::Offline, "shut out");
    assert!(is_offline(in_time(caller.ring(&bob.ticket_of(4))).await));
    in_time(callee.limit_tickets(0, &[])).await.unwrap();
    assert_eq!(in_time(watch.next()).await.unwrap().state, PresenceState::Online);
    assert!(is_offline(in_time(caller.ring(&bob.ticket_of(3))).await), "a generation only rises");
    let mut ring = in_time(caller.ring(&bob.ticket_of(4))).await.unwrap();
    in_time(next_ring(&mut events).await.decline()).await.unwrap();
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Declined)));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_packages_left_can_still_be_rung_again_and_again() {
    let relay = Relay::open(1);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let config = Config { key_packages: 0, ..quick() };
    let (_callee, mut events) = bob.online_with(&relay.invite(), config).await;
    for _ in 0..4 {
        let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
        in_time(next_ring(&mut events).await.decline()).await.unwrap();
        assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Declined)));
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_taken_back_is_put_out_and_whoever_has_heard_of_it_neither_rings_it_nor_lets_it_ring() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, mut caller_events) = alice.online(&relay.invite()).await;
    let lost = bob.device();
    let (_phone, mut phone_events) = online(&relay.invite(), lost.clone(), quick()).await;
    let (tablet, mut tablet_events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    assert_eq!(ring.devices(), 2);
    drop((next_ring(&mut phone_events).await, next_ring(&mut tablet_events).await));
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Busy)));

    // A third device brings the word: the relay and the second one know at once.
    let word = bob.revoke(&[lost.key()], 7);
    let config = Config { revocation: Some(word.clone()), ..quick() };
    let (desk, mut desk_events) = bob.online_with(&relay.invite(), config).await;
    let end = in_time(async {
        loop {
            if let Some(Event::Closed(error)) = phone_events.next().await {
                return error;
            }
        }
    });
    assert!(matches!(end.await, Error::Closed(CloseCode::DEVICE_REVOKED)));
    let told = in_time(async {
        loop {
            if let Some(Event::DevicesRevoked(word)) = tablet_events.next().await {
                return word;
            }
        }
    });
    assert!(told.await == word && tablet.revocation_of(&bob.public()) == Some(word.clone()));
    let again = in_time(Client::connect(&relay.invite(), lost.clone(), quick())).await;
    assert!(matches!(again, Err(Error::Closed(CloseCode::DEVICE_REVOKED))));

    // Others hear of it by a ring either way.
    assert_eq!(caller.revocation_of(&bob.public()), None);
    let ring = in_time(desk.ring(&alice.ticket())).await.unwrap();
    in_time(next_ring(&mut caller_events).await.decline()).await.unwrap();
    drop(ring);
    assert_eq!(caller.revocation_of(&bob.public()), Some(word.clone()));
    let (friend, _friend_events) = Person::new().online(&relay.invite()).await;
    let mut ring = in_time(friend.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut desk_events).await.answer().await };
    let (outcome, answered) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    assert!(matches!(outcome, Ok(RingOutcome::Answered(_))) && answered.is_ok());
    assert_eq!(friend.revocation_of(&bob.public()), Some(word.clone()));

    // At a relay that has not heard, those who have are not fooled.
    let elsewhere = Relay::open(1);
    let (phone, _phone_events) = in_time(Client::connect(&elsewhere.invite(), lost, quick())).await.unwrap();
    let (caller, mut caller_events) = alice.online(&elsewhere.invite()).await;
    assert!(caller.learn_revocation(word.clone()) && !caller.learn_revocation(word));
    let mut ring = in_time(phone.ring(&alice.ticket())).await.unwrap();
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Busy)));
    assert!(in_time(caller.ring(&bob.ticket())).await.is_err(), "only the lost one is there");
    let (stranger, _stranger_events) = Person::new().online(&elsewhere.invite()).await;
    drop(in_time(stranger.ring(&alice.ticket())).await.unwrap());
    assert_eq!(
        next_ring(&mut caller_events).await.caller().identity,
        stranger.identity(),
        "the first one that is shown"
    );
}
