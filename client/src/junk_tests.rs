//! A member that breaks the rules, which takes more than what is public here.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "../tests/calls/people.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of calls")]
pub(crate) mod people;
#[path = "../tests/calls/relay.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of calls")]
pub(crate) mod relay;

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use supernode_proto::{
    control::{SendMls, client_message},
    identity::RoomId,
    mls::Envelope,
};

use crate::{Call, Client, Event, Events, RoomOptions};
use people::{Person, in_time};
use relay::Relay;

/// A room whose first member lets everybody in.
async fn room_of(relay: &Relay, host: &Person, count: usize) -> Vec<(Client, Call, Option<Events>)> {
    let (client, events) = host.online(&relay.invite()).await;
    let room = in_time(client.create_room(RoomOptions::default())).await.unwrap();
    tokio::spawn(admit_all(events));
    let mut members = vec![(client, room, None)];
    let id: RoomId = members[0].1.room_id();
    for _ in 1..count {
        let (client, events) = Person::new().online(&relay.invite()).await;
        let call = in_time(client.join_room(&host.ticket(), id, RoomOptions::default())).await.unwrap();
        members.push((client, call, Some(events)));
    }
    members
}

async fn admit_all(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::IncomingRing(ring) = event {
            tokio::spawn(async move { drop(ring.admit().await) });
        }
    }
}

async fn agree(members: &[(Client, Call, Option<Events>)], not: &str) -> String {
    in_time(async {
        loop {
            let numbers: HashSet<_> = members.iter().map(|(_, call, _)| call.safety_number().unwrap()).collect();
            if let (1, Some(number)) = (numbers.len(), numbers.into_iter().next())
                && number != not
            {
                return number;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

async fn send_junk(call: &Call, payload: Vec<u8>) {
    let link = call.client.inner.link_now().unwrap();
    let payload = Envelope { room: call.room.id, epoch: call.room.epoch(), commit: true }.around(&payload);
    let junk = SendMls {
        room: Bytes::copy_from_slice(&call.room.id.0),
        epoch: call.room.epoch(),
        commit: true,
        payload: payload.into(),
        join_key: Bytes::copy_from_slice(&[7; 32]),
    };
    in_time(call.client.inner.request(&link, client_message::Body::SendMls(junk))).await.unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_none_is_given_back_and_the_room_goes_on() {
    let relay = Relay::open(2);
    let host = Person::new();
    let members = room_of(&relay, &host, 4).await;
    let before = agree(&members, "").await;
    send_junk(&members[3].1, b"no commit at all".to_vec()).await;
    in_time(members[1].1.refresh_keys()).await.unwrap();
    let after = agree(&members, &before).await;

    // Twice is not too often.
    send_junk(&members[3].1, vec![7; 200]).await;
    in_time(members[0].1.refresh_keys()).await.unwrap();
    agree(&members, &after).await;

    // The junk's join key is void: the door opens as before.
    let (client, _events) = Person::new().online(&relay.invite()).await;
    let room = members[0].1.room_id();
    in_time(client.join_room(&host.ticket(), room, RoomOptions::default())).await.unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn in_a_room_of_two_junk_is_given_back_as_often_as_it_comes_and_both_stay() {
    let relay = Relay::open(2);
    let members = room_of(&relay, &Person::new(), 2).await;
    let mut number = agree(&members, "").await;
    for _ in 0..4 {
        send_junk(&members[1].1, b"no commit at all".to_vec()).await;
        in_time(members[0].1.refresh_keys()).await.unwrap();
        number = agree(&members, &number).await;
    }
}
