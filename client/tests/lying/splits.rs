//! Members that the relay keeps apart.

use std::sync::atomic::Ordering;

use supernode_client::{
    CallEvent, OutgoingFrame, PublishOptions, TrackKind, Warning,
    proto::control::{CommitRejected, relay_message},
};
use supernode_client_testkit::{in_time, track};
use supernode_testkit::Relay;

use crate::scene::{agree, room_of};

//
#[tokio::test(flavor = "multi_thread")]
async fn members_who_are_told_of_different_commits_see_it_in_seconds_and_send_nothing_until_a_person_says_so() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let (alice, carol) = (guests[0].member(), guests[2].member());
    // Carol is told that her commit counts, and the others that Alice's does.
    let deaf = guests[2].never_hears(|body| matches!(body, relay_message::Body::MlsDelivery(_)));
    let alone = guests[2].commits_alone();
    in_time(guests[2].call.refresh_keys()).await.unwrap();
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    guests[0].is_warned(Warning::Split(carol)).await;
    guests[2].is_warned(Warning::Split(alice)).await;
    assert_eq!(guests[0].call.split_from(), [carol]);

    let mut voice =
        in_time(guests[0].call.publish(TrackKind::Audio, track("voice"), PublishOptions::default())).await.unwrap();
    let dropped = |call: &supernode_client::Call| call.stats().tracks.iter().map(|track| track.dropped).sum::<u64>();
    voice.send(&OutgoingFrame::independent(b"to whom?", 0)).await.unwrap();
    assert_eq!(dropped(&guests[0].call), 1, "nothing is sent");
    guests[0].call.go_on();
    voice.send(&OutgoingFrame::independent(b"to Bob", 0)).await.unwrap();
    assert_eq!(dropped(&guests[0].call), 1, "a person said so");
    drop(voice);

    // The relay tells Carol the truth again: she goes back, cannot follow, and is let in by the door.
    deaf.store(false, Ordering::Relaxed);
    alone.store(false, Ordering::Relaxed);
    let room = guests[2].call.room_id().0.to_vec().into();
    let rejected = CommitRejected { room, epoch: 0, sequence: 1, from_member: 3 };
    guests[2].liar.invent(0, relay_message::Body::CommitRejected(rejected));
    agree(&guests.iter().collect::<Vec<_>>()).await;
    guests[0].hears(|event| matches!(event, CallEvent::Healed)).await;
    assert!(guests[0].call.split_from().is_empty());
    guests[2].is_heard_by(&guests[0]).await;
    guests[0].is_heard_by(&guests[2]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_an_epoch_that_is_kept_from_us_are_a_split_although_no_beacon_comes() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 2).await;
    let alice = guests[0].member();
    let voice = in_time(guests[0].call.publish(TrackKind::Audio, track("voice"), PublishOptions::default())).await;
    let mut voice = voice.unwrap();
    let heard = in_time(guests[1].call.track(TrackKind::Audio)).await.unwrap();
    let options = supernode_client::SubscribeOptions::for_kind(TrackKind::Audio);
    let _subscription = in_time(guests[1].call.subscribe(&heard, options)).await.unwrap();
    guests[1]
        .never_hears(|body| matches!(body, relay_message::Body::MlsDelivery(_) | relay_message::Body::BeaconPosted(_)));
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    let speaking = tokio::spawn(async move {
        loop {
            voice.send(&OutgoingFrame::independent(b"can you hear me?", 0)).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    guests[1].is_warned(Warning::Split(alice)).await;
    speaking.abort();
    assert_eq!(guests[1].call.split_from(), [alice]);
}
