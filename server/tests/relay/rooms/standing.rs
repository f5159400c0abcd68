//! Rooms that stand: who may open one, and who rings when somebody is at its door.

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::control::{
    AnswerRing, JoinRoom, LeaveRoom, LimitTickets, RefusalReason, Ring, RingResult, client_message::Body as Request,
    relay_message::Body,
};
use supernode_testkit::{Client, Person, Relay, Room, Standing};

fn opening(client: &Client, room: &Room, by: &Standing) -> JoinRoom {
    let room_key = Bytes::copy_from_slice(by.key().as_bytes());
    JoinRoom { room_key, room_proof: by.proof(client), ..client.join_request(room) }
}

fn at_the_door(client: &Client, of: &Standing) -> Ring {
    let (room_key, proof) = (Bytes::copy_from_slice(of.key().as_bytes()), of.proof(client));
    Ring { room_key, proof, payload: Bytes::from_static(b"knock"), ..Ring::default() }
}

//
#[rstest]
#[tokio::test]
async fn only_who_has_the_key_of_a_room_that_stands_opens_it(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    let (standing, other) = (Standing::new(), Standing::new());
    let room = standing.room();
    let proof_of_alice = standing.proof(&alice);
    for wanted in [
        bob.join_request(&room),
        opening(&bob, &room, &other),
        JoinRoom { room_proof: proof_of_alice, ..opening(&bob, &room, &standing) },
        JoinRoom { room_key: Bytes::from_static(b"short"), ..opening(&bob, &room, &standing) },
    ] {
        let refused = bob.refused(Request::JoinRoom(wanted)).await;
        assert_eq!(refused.reason(), RefusalReason::JoinProof);
    }
    let opened = alice.ask(Request::JoinRoom(opening(&alice, &room, &standing))).await;
    assert!(matches!(opened, Body::RoomJoined(_)), "{opened:?}");
    // Into one that is open its group's key leads, as into any other; and the key that opens it leads nowhere else.
    assert_eq!(bob.join(&room).await.member, 2);
    let taken = Room { id: room.id, ..Room::new() };
    let mut eve = relay.connect(&Person::new()).await;
    let refused = eve.refused(Request::JoinRoom(opening(&eve, &taken, &standing))).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof);
    for client in [&mut alice, &mut bob] {
        client.done(Request::LeaveRoom(LeaveRoom { room: room.name() })).await;
    }
    let refused = bob.refused(Request::JoinRoom(bob.join_request(&room))).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof, "nobody is in, and he does not have the key");
    assert!(matches!(eve.ask(Request::JoinRoom(opening(&eve, &taken, &standing))).await, Body::RoomJoined(_)));
}

//
#[rstest]
#[tokio::test]
async fn who_has_the_key_of_a_room_rings_those_who_are_in_it(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let (first, second) = (Person::new(), Person::new());
    let mut alice = relay.connect(&first).await;
    let mut bob = relay.connect(&second).await;
    let guest = Person::new();
    let mut carol = relay.connect(&guest).await;
    let standing = Standing::new();
    let room = standing.room();
    let refused = carol.refused(Request::Ring(at_the_door(&carol, &standing))).await;
    assert_eq!(refused.reason(), RefusalReason::Offline, "nobody is there");
    assert!(matches!(alice.ask(Request::JoinRoom(opening(&alice, &room, &standing))).await, Body::RoomJoined(_)));
    bob.join(&room).await;

    let forged = Ring { proof: standing.proof(&alice), ..at_the_door(&carol, &standing) };
    assert_eq!(carol.refused(Request::Ring(forged)).await.reason(), RefusalReason::JoinProof);
    let both = Ring { ticket: first.open_ticket(), ..at_the_door(&carol, &standing) };
    let refused = carol.refused(Request::Ring(both)).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Malformed, "ticket"));

    let started = match carol.ask(Request::Ring(at_the_door(&carol, &standing))).await {
        Body::RingStarted(started) => started,
        other => panic!("RingStarted was due: {other:?}"),
    };
    assert_eq!(started.devices, 2);
    for member in [&mut alice, &mut bob] {
        let rung = member.event(|event| match event {
            Body::IncomingRing(ring) => Some(ring.clone()),
            _ => None,
        });
        let rung = rung.await;
        assert_eq!(
            (rung.room, rung.caller, rung.payload),
            (room.name(), Bytes::copy_from_slice(guest.identity_key().as_bytes()), Bytes::from_static(b"knock"),)
        );
    }
    let payload = Bytes::from_static(b"come in");
    bob.done(Request::AnswerRing(AnswerRing { ring: started.ring.clone(), payload: payload.clone() })).await;
    let outcome = carol.event(|event| match event {
        Body::RingOutcome(outcome) => Some(outcome.clone()),
        _ => None,
    });
    let outcome = outcome.await;
    assert_eq!((outcome.result(), outcome.payload), (RingResult::Answered, payload));
    assert_eq!(outcome.device, Bytes::copy_from_slice(second.device_key().as_bytes()));
    alice.event(|event| matches!(event, Body::RingEnded(ended) if ended.ring == started.ring).then_some(())).await;

    // Whoever shuts somebody out is left in peace.
    let blocked = vec![Bytes::copy_from_slice(guest.identity_key().as_bytes())];
    for member in [&mut alice, &mut bob] {
        member.done(Request::LimitTickets(LimitTickets { blocked: blocked.clone(), ..LimitTickets::default() })).await;
    }
    let refused = carol.refused(Request::Ring(at_the_door(&carol, &standing))).await;
    assert_eq!(refused.reason(), RefusalReason::Offline);
}
