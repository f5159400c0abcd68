//! Somebody at the door of a room with people at other nodes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use supernode_proto::control::{
    AnswerRing, JoinRoom, LeaveRoom, RefusalReason, Ring, RingResult, client_message::Body as Request,
    relay_message::Body,
};
use supernode_testkit::{Client, Person, Standing};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{
    Nats, Node, PATIENCE, all_see,
    people::{ended, incoming, outcome},
    secret,
};

fn at_the_door(client: &Client, of: &Standing) -> Request {
    let (room_key, proof) = (Bytes::copy_from_slice(of.key().as_bytes()), of.proof(client));
    Request::Ring(Ring { room_key, proof, payload: Bytes::from_static(b"knock"), ..Ring::default() })
}

/// That is said once it is known where the room lives: nodes do not hear at the same time that a home was given up.
async fn nobody_is_in(guest: &mut Client, of: &Standing) {
    let begun = Instant::now();
    loop {
        match guest.refused(at_the_door(guest, of)).await.reason() {
            RefusalReason::Offline => return,
            RefusalReason::HomeUnknown => assert!(begun.elapsed() < PATIENCE, "it is not decided where it lives"),
            other => panic!("OFFLINE was due: {other:?}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_knocks_at_any_node_is_heard_by_those_inside_at_all() {
    let home = TempDir::new().expect("a directory");
    let nats = Nats::start();
    let key = secret(home.path(), "secret");
    let mut nodes = [1, 2, 3].map(|number| Node::new(home.path(), &format!("node{number}"), number, &nats, &key));
    nodes.iter_mut().for_each(Node::start);
    all_see(&nodes.each_ref(), &[1, 2, 3]);

    let standing = Standing::new();
    let room = standing.room();
    let mut guest = nodes[2].client(&Person::new()).await;
    nobody_is_in(&mut guest, &standing).await;
    let mut members = Vec::new();
    for node in [0, 1, 2, 0] {
        let mut member = nodes[node].client(&Person::new()).await;
        let room_key = Bytes::copy_from_slice(standing.key().as_bytes());
        let wanted = JoinRoom { room_key, room_proof: standing.proof(&member), ..member.join_request(&room) };
        let joined = member.ask(Request::JoinRoom(wanted)).await;
        assert!(matches!(joined, Body::RoomJoined(_)), "{joined:?}");
        members.push(member);
    }
    for winner in 0..members.len() {
        let begun = Instant::now();
        let started = match guest.ask(at_the_door(&guest, &standing)).await {
            Body::RingStarted(started) => started,
            other => panic!("RingStarted was due: {other:?}"),
        };
        println!("{} ring after {:?}", started.devices, begun.elapsed());
        assert_eq!(started.devices, 4);
        for member in &mut members {
            let rung = member.event(incoming).await;
            assert_eq!((rung.ring, rung.room, &rung.payload[..]), (started.ring.clone(), room.name(), &b"knock"[..]));
        }
        let payload = Bytes::from_static(b"come in");
        members[winner].done(Request::AnswerRing(AnswerRing { ring: started.ring, payload: payload.clone() })).await;
        let told = guest.event(outcome).await;
        assert_eq!((told.result(), told.payload), (RingResult::Answered, payload));
        for (place, member) in members.iter_mut().enumerate() {
            if place != winner {
                assert_eq!(member.event(ended).await, RingResult::AnsweredElsewhere);
            }
        }
    }
    for member in &mut members {
        member.done(Request::LeaveRoom(LeaveRoom { room: room.name() })).await;
    }
    nobody_is_in(&mut guest, &standing).await;
}
