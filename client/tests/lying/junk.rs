//! A member that breaks the rules of its group.

use supernode_client::{
    PublishOptions, RoomOptions, TrackKind,
    proto::{
        control::{SendMls, client_message},
        mls::Envelope,
    },
};
use supernode_client_testkit::{Person, in_time, quick, track};
use supernode_testkit::{Relay, eventually};

use crate::{
    rejections::next_commit,
    scene::{Guest, agree, room_of},
};

/// The first guest commits, and everybody follows; the epoch that they are in then.
async fn next_epoch(guests: &[Guest]) -> u64 {
    let commit = next_commit(&guests[1]);
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    let (epoch, _) = in_time(commit).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    epoch + 1
}

/// This guest sends a commit that is none, and the relay passes it on.
async fn send_junk(guest: &Guest, epoch: u64, junk: &[u8]) {
    let room = guest.call.room_id();
    guest.is_made_to_say(client_message::Body::SendMls(SendMls {
        room: room.0.to_vec().into(),
        epoch,
        commit: true,
        payload: Envelope { room, epoch, commit: true }.around(junk).into(),
        join_key: vec![7; 32].into(),
    }));
    // Anything that is said brings it along.
    let label = in_time(guest.call.publish(TrackKind::Data, track("x"), PublishOptions::default())).await;
    drop(label.unwrap());
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_none_is_given_back_and_the_room_goes_on() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 4).await;
    let mut epoch = next_epoch(&guests).await;
    // Twice is not too often.
    for (round, junk) in [&b"no commit at all"[..], &[7; 200]].into_iter().enumerate() {
        let before = guests[0].number();
        send_junk(&guests[3], epoch, junk).await;
        eventually("the members reject it", || relay.ledger().commits_rejected == round as u64 + 1).await;
        epoch = next_epoch(&guests).await;
        assert_ne!(guests[0].number(), before);
    }

    // The junk's join key is void: the door opens as before.
    let (client, _events) = Person::new().online_with(&relay.invite(), quick()).await;
    let room = guests[0].call.room_id();
    in_time(client.join_room(&guests[0].person.ticket(), room, RoomOptions::default())).await.unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn in_a_room_of_two_junk_is_given_back_as_often_as_it_comes_and_both_stay() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 2).await;
    let mut epoch = next_epoch(&guests).await;
    for round in 1..=4 {
        send_junk(&guests[1], epoch, b"no commit at all").await;
        eventually("the other rejects it", || relay.ledger().commits_rejected == round).await;
        epoch = next_epoch(&guests).await;
    }
}
