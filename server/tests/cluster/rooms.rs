//! People at different nodes in one room, whatever becomes of the node that it lives at, and of NATS.

use std::time::{Duration, Instant};

use bytes::Bytes;
use supernode_proto::control::{
    KickMember, MemberJoined, MemberLeft, SendMls, client_message::Body as Request, relay_message::Body,
};
use supernode_testkit::{Client, Person, Room};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{LEASE, Nats, Node, PATIENCE, all_see, secret, trouble};

/// What a message shows before what is sealed.
const SHOWN_BYTES: usize = 4 + 17 + 8 + 1 + 3;
/// Somebody who was not let into a room asks again after this.
const PAUSE: Duration = Duration::from_millis(200);
/// After a home was killed, everybody is in another one within a lease and this: what it takes to ask and to come in.
const HOME_BACK: Duration = Duration::from_secs(5);

/// Somebody who wants to be in a room, at a node.
struct Guest {
    person: Person,
    client: Client,
    member: u32,
}

impl Guest {
    async fn come(node: &Node, person: Person, room: &Room) -> Self {
        let begun = Instant::now();
        loop {
            let client = node.client(&person).await;
            if let Some(guest) = Self::enter(client, person.clone(), room).await {
                return guest;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody is let in: {}", node.log());
            sleep(PAUSE).await;
        }
    }

    /// Asks until it is in, or the session is over.
    async fn enter(mut client: Client, person: Person, room: &Room) -> Option<Self> {
        loop {
            let join = Request::JoinRoom(client.join_request(room));
            client.send(7_000, join).await;
            let reply = loop {
                let message = timeout(PATIENCE, client.next_ever()).await.ok()??;
                match message.reply_to {
                    7_000 => break message.body?,
                    _ => client.events.extend(message.body),
                }
            };
            match reply {
                Body::RoomJoined(joined) => return Some(Self { person, client, member: joined.member }),
                // The relay does not know yet where the room lives.
                Body::Refused(_) => sleep(PAUSE).await,
                other => panic!("RoomJoined was due: {other:?}"),
            }
        }
    }

    async fn say(&mut self, room: &Room, said: &'static [u8]) {
        let payload = room.message(room.epoch, false, said);
        let epoch = room.epoch;
        self.client.done(Request::SendMls(SendMls { room: room.name(), epoch, payload, ..SendMls::default() })).await;
    }

    /// What is said next, and as which number.
    async fn hears(&mut self) -> (u64, Bytes) {
        self.client.event(delivery).await
    }

    /// Its session is over.
    async fn is_closed(&mut self) {
        let over = async { while self.client.next_ever().await.is_some() {} };
        timeout(PATIENCE, over).await.expect("the session ends");
    }
}

fn delivery(event: &Body) -> Option<(u64, Bytes)> {
    match event {
        Body::MlsDelivery(delivery) => Some((delivery.sequence, delivery.payload.slice(SHOWN_BYTES..))),
        _ => None,
    }
}

fn came(event: &Body) -> Option<MemberJoined> {
    match event {
        Body::MemberJoined(joined) => Some(joined.clone()),
        _ => None,
    }
}

fn left(event: &Body) -> Option<MemberLeft> {
    match event {
        Body::MemberLeft(left) => Some(left.clone()),
        _ => None,
    }
}

/// How many rooms have their home at each of these.
fn homes(nodes: &[&Node]) -> Vec<u64> {
    nodes.iter().map(|node| node.cluster().1["homes"].as_u64().unwrap_or_default()).collect()
}

//
#[tokio::test(flavor = "multi_thread")]
async fn people_at_different_nodes_are_in_one_room() {
    let home = TempDir::new().expect("a directory");
    let mut nats = Nats::start();
    let key = secret(home.path(), "secret");
    let mut nodes = [1, 2, 3].map(|number| Node::new(home.path(), &format!("node{number}"), number, &nats, &key));
    nodes.iter_mut().for_each(Node::start);
    all_see(&nodes.each_ref(), &[1, 2, 3]);

    let room = Room::new();
    let begun = Instant::now();
    let mut ann = Guest::come(&nodes[0], Person::new(), &room).await;
    println!("the first room of a new cluster is open after {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut bob = Guest::come(&nodes[1], Person::new(), &room).await;
    println!("somebody at another node is in after {:?}", begun.elapsed());
    let joined = ann.client.event(came).await;
    assert_eq!((joined.member, &joined.identity[..]), (bob.member, &bob.person.identity_key().as_bytes()[..]));
    assert_eq!(homes(&nodes.each_ref()), [1, 0, 0], "whoever opened it has it");

    // What either says, all others hear in one order.
    let mut eve = Guest::come(&nodes[2], Person::new(), &room).await;
    for said in [b"one", b"two"] {
        ann.say(&room, said).await;
        bob.say(&room, b"yes").await;
    }
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(eve.hears().await);
    }
    let all = [(1, "one"), (2, "yes"), (3, "two"), (4, "yes")].map(|(number, said)| (number, Bytes::from(said)));
    assert_eq!(heard, all);
    for pair in all.chunks(2) {
        assert_eq!([bob.hears().await, ann.hears().await], *pair);
    }

    // Whoever is put out hears nothing from when that is acknowledged.
    ann.client.done(Request::KickMember(KickMember { room: room.name(), member: bob.member })).await;
    ann.say(&room, b"without").await;
    let last = bob.client.event(left).await;
    assert!(last.kicked && last.member == bob.member, "{last:?}");
    bob.client.no_event(delivery).await;
    let Guest { person, client, .. } = bob;
    let mut bob = Guest::enter(client, person, &room).await.expect("the session goes on");
    assert_eq!(eve.hears().await.1, "without");
    eve.client.close();

    // The node where it lives is killed.
    let begun = Instant::now();
    nodes[0].kill();
    let Guest { person, .. } = ann;
    bob.is_closed().await;
    println!("whoever was at another node is sent back after {:?}", begun.elapsed());
    let mut ann = Guest::come(&nodes[2], person, &room).await;
    let mut bob = Guest::come(&nodes[1], bob.person, &room).await;
    let took = begun.elapsed();
    println!("after the home was killed, both are in again after {took:?}");
    assert!(took < LEASE + HOME_BACK, "{took:?}");
    bob.say(&room, b"again").await;
    assert_eq!(ann.hears().await.1, "again");

    // NATS is gone, and comes back with an empty disk.
    nats.process.kill();
    nodes[1..].iter().for_each(|node| drop(trouble(node)));
    nats.lose_everything();
    let begun = Instant::now();
    nats.start_again();
    ann.is_closed().await;
    bob.is_closed().await;
    let mut ann = Guest::come(&nodes[2], ann.person, &room).await;
    let mut bob = Guest::come(&nodes[1], bob.person, &room).await;
    println!("with an empty NATS, both are in again after {:?}", begun.elapsed());
    ann.say(&room, b"still").await;
    assert_eq!(bob.hears().await.1, "still");
    assert_eq!(homes(&[&nodes[1], &nodes[2]]).iter().sum::<u64>(), 1);

    // Everybody leaves, and nothing is left of it.
    ann.client.close();
    bob.client.close();
    let begun = Instant::now();
    while homes(&[&nodes[1], &nodes[2]]) != [0, 0] {
        assert!(begun.elapsed() < PATIENCE, "{:?}", nodes[1].cluster());
        sleep(PAUSE).await;
    }
    for node in &nodes {
        assert!(!node.log().contains("ERROR"), "{}", node.log());
    }
}
