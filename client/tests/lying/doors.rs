//! The door's key.

use supernode_client::{
    CallEvent, RoomOptions, Warning,
    proto::control::{MemberLeft, client_message, relay_message},
};

use crate::{
    people::{Person, in_time, quick},
    relay::Relay,
    scene::room_of,
};

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
