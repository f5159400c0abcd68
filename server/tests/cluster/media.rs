//! People at three nodes in one room hear and see each other.

use std::time::{Duration, Instant};

use supernode_proto::{
    control::{TrackKind, client_message::Body as Request, relay_message::Body},
    object::TrackAlias,
};
use supernode_testkit::{Client, Person, Room, datagram, stream};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{LEASE, Nats, Node, PATIENCE, all_see, secret};

/// Comes into the room, once it is known where that lives.
async fn enter(node: &Node, room: &Room) -> Client {
    let mut client = node.client(&Person::new()).await;
    let begun = Instant::now();
    loop {
        match client.ask(Request::JoinRoom(client.join_request(room))).await {
            Body::RoomJoined(_) => return client,
            other => assert!(begun.elapsed() < PATIENCE, "nobody is let in: {other:?}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn publish(client: &mut Client, room: &Room, kind: TrackKind, others: &mut [Client]) -> TrackAlias {
    let track = client.publish(room, kind).await;
    let announced = |event: &Body| match event {
        Body::TrackAnnounced(announced) if announced.alias == track.value() => Some(()),
        _ => None,
    };
    for other in others.iter_mut() {
        other.event(announced).await;
        other.subscribe(track).await;
    }
    client.demand(others.len() as u32).await;
    track
}

async fn picture(client: &Client) -> Vec<u8> {
    let mut stream = timeout(PATIENCE, client.connection.accept_uni()).await.expect("a stream").expect("open");
    timeout(PATIENCE, stream.read_to_end(1 << 24)).await.expect("its end").expect("whole")
}

//
#[tokio::test(flavor = "multi_thread")]
async fn people_at_different_nodes_hear_and_see_each_other() {
    let home = TempDir::new().expect("a directory");
    let nats = Nats::start();
    let key = secret(home.path(), "secret");
    let mut nodes = [1, 2, 3].map(|number| Node::new(home.path(), &format!("node{number}"), number, &nats, &key));
    nodes.iter_mut().for_each(Node::start);
    all_see(&nodes.each_ref(), &[1, 2, 3]);

    let room = Room::new();
    // Two of them at one node.
    let mut people = Vec::new();
    for node in [0, 1, 1, 2] {
        people.push(enter(&nodes[node], &room).await);
    }
    for speaker in 0..people.len() {
        let mut speaking = people.remove(speaker);
        let sound = publish(&mut speaking, &room, TrackKind::Audio, &mut people).await;
        let begun = Instant::now();
        for group in 0..100u8 {
            let wire = datagram(sound, group.into(), &[group; 120]);
            speaking.connection.send_datagram(wire).expect("there is room");
            sleep(Duration::from_millis(2)).await;
        }
        for (place, listener) in people.iter_mut().enumerate() {
            for group in 0..100u8 {
                let (header, sealed) = listener.object().await;
                assert_eq!((header.hop.alias, header.visible.group), (sound, group.into()), "{speaker} to {place}");
                assert_eq!(&sealed[..], [group; 120]);
                assert!(header.hop.ttl_ms <= 1_000);
            }
        }
        println!("{speaker} is heard by all, {:?} after the first word", begun.elapsed());

        let sight = publish(&mut speaking, &room, TrackKind::Video, &mut people).await;
        let shown = stream(sight, 1, 0, &[(0, 200_000), (0, 3_000)]);
        let mut out = speaking.connection.open_uni().await.expect("allowed");
        out.write_all(&shown).await.expect("taken");
        out.finish().expect("open");
        for viewer in &people {
            let seen = picture(viewer).await;
            // The hop may have taken a millisecond of its time to live.
            assert!(seen.len().abs_diff(shown.len()) <= 1 && seen.ends_with(&shown[20..]), "{} bytes", seen.len());
        }
        people.insert(speaker, speaking);
    }

    // A node that is killed takes nothing any more, and the others go on.
    let mut last = people.pop().expect("four");
    let sound = publish(&mut people[0], &room, TrackKind::Audio, std::slice::from_mut(&mut last)).await;
    nodes[2].kill();
    let begun = Instant::now();
    people[0].demand(0).await;
    assert!(begun.elapsed() <= LEASE, "{:?}", begun.elapsed());
    let alias = sound.value();
    let wanted = supernode_testkit::subscription(sound);
    people[1].done(Request::Subscribe(wanted)).await;
    people[0].demand(1).await;
    people[0].connection.send_datagram(datagram(sound, 7, &[7; 120])).expect("there is room");
    let (header, _) = people[1].object().await;
    assert_eq!((header.hop.alias.value(), header.visible.group), (alias, 7));
    for node in &nodes {
        assert!(!node.log().contains("ERROR"), "{}", node.log());
    }
}
