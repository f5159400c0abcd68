//! What is said of a message beside it.

use std::sync::atomic::Ordering;

use supernode_client::{
    Error, Warning,
    proto::control::{RefusalReason, client_message, relay_message},
};
use supernode_client_testkit::in_time;
use supernode_testkit::Relay;

use crate::scene::{agree, room_of};

//
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_relay_passes_on_as_none_is_dropped_and_whoever_missed_it_comes_back_by_the_door() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let before = guests[2].number();
    let lies = guests[2].is_told(|body| {
        if let relay_message::Body::MlsDelivery(delivery) = body {
            delivery.commit = false;
        }
    });
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    guests[2].is_warned(Warning::FalseEnvelope).await;
    assert_eq!(guests[2].number(), before, "it was not followed");
    assert_ne!(guests[0].number(), before);
    lies.store(false, Ordering::Relaxed);
    in_time(guests[1].call.refresh_keys()).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_member_cannot_have_a_commit_passed_on_that_does_not_count() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 3).await;
    let before = guests[0].number();
    let lies = guests[1].tells(|body| {
        if let client_message::Body::SendMls(sent) = body {
            sent.commit = false;
        }
    });
    let refused = in_time(guests[1].call.refresh_keys()).await;
    let Err(Error::Refused(refusal)) = refused else { panic!("a refusal was due: {refused:?}") };
    assert_eq!((refusal.reason, refusal.detail.as_str()), (RefusalReason::Malformed, "commit"));
    assert!(guests.iter().all(|guest| guest.number() == before), "nobody followed it");
    // Keys can be changed as ever.
    lies.store(false, Ordering::Relaxed);
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    in_time(guests[1].call.refresh_keys()).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_a_false_epoch_is_dropped() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 2).await;
    let lies = guests[1].is_told(|body| {
        if let relay_message::Body::MlsDelivery(delivery) = body {
            delivery.epoch += 7;
        }
    });
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    guests[1].is_warned(Warning::FalseEnvelope).await;
    lies.store(false, Ordering::Relaxed);
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
}
