//! The door's key.

use supernode_client::{
    CallEvent, PublishOptions, RoomOptions, TrackKind, Warning,
    proto::control::{MemberLeft, RotateJoinKey, client_message, relay_message},
};
use supernode_client_testkit::{Person, in_time, quick, track};
use supernode_testkit::Relay;

use crate::scene::{agree, room_of};

//
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_for_the_door_is_replaced_at_once_and_whose_commit_it_came_with_is_shown() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let mallory = guests[1].member();
    guests[1].tells(|body| {
        if let client_message::Body::SendMls(sent) = body
            && sent.commit
        {
            sent.join_key = vec![7; 32].into();
        }
    });
    in_time(guests[1].call.refresh_keys()).await.unwrap();
    guests[0].is_warned(Warning::WrongDoorKey(mallory)).await;
    guests[2].is_warned(Warning::WrongDoorKey(mallory)).await;
    // Whoever has lost their place at the relay comes in by the key that their group makes.
    let before = guests[2].number();
    let room = guests[2].call.room_id().0.to_vec().into();
    let out = MemberLeft { room, member: 3, kicked: true };
    guests[2].liar.invent(0, relay_message::Body::MemberLeft(out));
    guests[2].hears(|event| matches!(event, CallEvent::Resumed)).await;
    assert_eq!(guests[2].number(), before, "nobody had to let them in");
    let (client, _events) = Person::new().online_with(&relay.invite(), quick()).await;
    let (door, room) = (guests[0].person.ticket(), guests[0].call.room_id());
    in_time(client.join_room(&door, room, RoomOptions::default())).await.unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_the_door_that_comes_without_a_commit_costs_whoever_comes_back_a_commit() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let room: bytes::Bytes = guests[1].call.room_id().0.to_vec().into();
    let rotate = RotateJoinKey { room: room.clone(), join_key: vec![7; 32].into() };
    guests[1].is_made_to_say(client_message::Body::RotateJoinKey(rotate));
    // Anything that is said brings it along, and the relay answers in order.
    for name in ["x", "y"] {
        let said = guests[1].call.publish(TrackKind::Data, track(name), PublishOptions::default());
        drop(in_time(said).await.unwrap());
    }
    // The key that the group makes opens no more: somebody has to let them in.
    let before = guests[2].number();
    guests[2].liar.invent(0, relay_message::Body::MemberLeft(MemberLeft { room, member: 3, kicked: true }));
    guests[2].hears(|event| matches!(event, CallEvent::Resumed)).await;
    agree(&guests.iter().collect::<Vec<_>>()).await;
    assert_ne!(guests[2].number(), before, "let in by a commit");
    guests[2].is_heard_by(&guests[0]).await;
    // A newcomer's own commit brings the right key with it.
    let rotate = RotateJoinKey { room: guests[1].call.room_id().0.to_vec().into(), join_key: vec![8; 32].into() };
    guests[1].is_made_to_say(client_message::Body::RotateJoinKey(rotate));
    for name in ["x", "y"] {
        let said = guests[1].call.publish(TrackKind::Data, track(name), PublishOptions::default());
        drop(in_time(said).await.unwrap());
    }
    let (client, _events) = Person::new().online_with(&relay.invite(), quick()).await;
    let (door, room) = (guests[0].person.ticket(), guests[0].call.room_id());
    in_time(client.join_room(&door, room, RoomOptions::default())).await.unwrap();
}
