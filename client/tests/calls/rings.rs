//! How a call begins, or does not.

use supernode_client::{
    Error, RingOutcome, RingResult,
    e2ee::Pass,
    proto::{control::RefusalReason, identity::Grants},
};
use supernode_client_testkit::{Person, in_time, next_ring};
use supernode_testkit::Relay;

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_can_be_declined_called_busy_cancelled_or_left_alone() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _events) = alice.online(&relay.invite()).await;
    let (_callee, mut events) = bob.online(&relay.invite()).await;
    let ticket = bob.ticket();

    let mut ring = in_time(caller.ring(&ticket)).await.unwrap();
    assert_eq!(ring.devices(), 1);
    let incoming = next_ring(&mut events).await;
    assert_eq!(incoming.caller().identity, caller.identity());
    in_time(incoming.decline()).await.unwrap();
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Declined)));
    assert!(matches!(in_time(ring.outcome()).await, Err(Error::State(_))), "it is settled");

    let mut ring = in_time(caller.ring(&ticket)).await.unwrap();
    in_time(next_ring(&mut events).await.busy()).await.unwrap();
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Busy)));

    let mut ring = in_time(caller.ring(&ticket)).await.unwrap();
    drop(next_ring(&mut events).await);
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Busy)), "ignored is busy");

    let ring = in_time(caller.ring(&ticket)).await.unwrap();
    let mut incoming = next_ring(&mut events).await;
    in_time(ring.cancel()).await.unwrap();
    assert_eq!(in_time(incoming.ended()).await, RingResult::Cancelled);
    assert!(matches!(in_time(incoming.answer()).await, Err(Error::Refused(_))), "too late");

    let mut ring = in_time(caller.ring(&ticket)).await.unwrap();
    let mut incoming = next_ring(&mut events).await;
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::TimedOut)));
    assert_eq!(in_time(incoming.ended()).await, RingResult::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_devices_ring_and_only_the_one_that_answers_is_in_the_call() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _events) = alice.online(&relay.invite()).await;
    let (_phone, mut phone_events) = bob.online(&relay.invite()).await;
    let (_desk, mut desk_events) = bob.online(&relay.invite()).await;

    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    assert_eq!(ring.devices(), 2);
    let (phone, mut desk) = (next_ring(&mut phone_events).await, next_ring(&mut desk_events).await);
    let (outcome, answered) = in_time(async { tokio::join!(ring.outcome(), phone.answer()) }).await;
    let (Ok(RingOutcome::Answered(call)), Ok(answered)) = (outcome, answered) else { panic!("not answered") };
    assert_eq!(in_time(desk.ended()).await, RingResult::AnsweredElsewhere);
    assert!(matches!(in_time(desk.answer()).await, Err(Error::Refused(_))), "too late");

    assert_eq!(call.members().len(), 1);
    in_time(async {
        // The removal of the other device reaches the one that answered by the room's mailbox.
        while call.safety_number().unwrap() != answered.safety_number().unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_offline_or_gave_no_ticket_cannot_be_rung() {
    let relay = Relay::open(1);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _events) = alice.online(&relay.invite()).await;
    assert_eq!(refusal(in_time(caller.ring(&bob.ticket())).await), RefusalReason::Offline);
    let (_callee, _bob_events) = bob.online(&relay.invite()).await;
    let sight_only = bob.ticket_for(&alice, Grants::PRESENCE);
    assert_eq!(refusal(in_time(caller.ring(&sight_only)).await), RefusalReason::TicketInvalid);
    let mut forged = bob.ticket_for(&alice, Grants::RING).ticket().clone();
    forged.id = [0; 8];
    let forged = Pass::new(forged, None).unwrap();
    assert_eq!(refusal(in_time(caller.ring(&forged)).await), RefusalReason::TicketInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_ends_when_either_side_goes_away() {
    let relay = Relay::open(1);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, caller_events) = alice.online(&relay.invite()).await;
    let (callee, mut events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let incoming = next_ring(&mut events).await;
    in_time(callee.close()).await;
    assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Gone)));
    drop(incoming);

    let (_callee, mut events) = bob.online(&relay.invite()).await;
    let ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let mut incoming = next_ring(&mut events).await;
    drop((ring, caller_events));
    in_time(caller.close()).await;
    assert_eq!(in_time(incoming.ended()).await, RingResult::Cancelled);
}

fn refusal<T>(result: Result<T, Error>) -> RefusalReason {
    match result {
        Err(Error::Refused(refusal)) => refusal.reason,
        _ => panic!("not refused"),
    }
}
