//! The blind mailbox beyond its order: who was away, and commits that nobody can process.

use std::time::Instant;

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    control::{
        BeaconPosted, CatchUp, CommitRejected, KickMember, LeaveRoom, PostBeacon, RefusalReason, RejectCommit,
        RotateJoinKey, SendMls, client_message::Body as Request, relay_message::Body,
    },
    limits::MLS_PAYLOAD_BYTES_MAX,
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Client, Person, Relay, Room, eventually};

fn message(room: &Room, epoch: u64, commit: bool, payload: &'static [u8]) -> Request {
    let payload = room.message(epoch, commit, payload);
    Request::SendMls(SendMls { room: room.name(), epoch, commit, payload, join_key: Bytes::new() })
}

/// What a short message shows before what is sealed: version and format, group, epoch, kind, and three lengths.
const MLS_SHOWN_BYTES: usize = 4 + 17 + 8 + 1 + 3;

fn catch_up(room: &Room, after_sequence: u64) -> Request {
    Request::CatchUp(CatchUp { room: room.name(), after_sequence })
}

fn reject(room: &Room, epoch: u64, sequence: u64) -> Request {
    Request::RejectCommit(RejectCommit { room: room.name(), epoch, sequence })
}

async fn delivered(client: &mut Client) -> (u64, Bytes) {
    client
        .event(|event| match event {
            // What is sealed comes last.
            Body::MlsDelivery(delivery) => Some((delivery.sequence, delivery.payload.slice(MLS_SHOWN_BYTES..))),
            _ => None,
        })
        .await
}

fn rejected(event: &Body) -> Option<CommitRejected> {
    match event {
        Body::CommitRejected(rejected) => Some(rejected.clone()),
        _ => None,
    }
}

//
#[rstest]
#[tokio::test]
async fn a_member_that_was_away_catches_up_before_it_joins_again(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, person) = (Room::new(), Person::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&person).await;
    alice.join(&room).await;
    assert_eq!(bob.join(&room).await.mls_sequence, 0);
    alice.done(message(&room, 1, true, b"first")).await;
    assert_eq!(delivered(&mut bob).await, (1, Bytes::from_static(b"first")));
    bob.connection.close(quinn::VarInt::from_u32(77), b"no goodbye");
    alice.event(|event| matches!(event, Body::MemberLeft(_)).then_some(())).await;
    alice.done(message(&room, 2, true, b"second")).await;
    alice.done(message(&room, 3, false, b"third")).await;
    // The join key is of the newest epoch, which Bob learns by catching up.
    let newest = room.with_another_key();
    let join_key = newest.join_key();
    alice.done(Request::RotateJoinKey(RotateJoinKey { room: room.name(), join_key })).await;

    let mut bob = relay.connect(&person).await;
    let refused = bob.refused(Request::JoinRoom(bob.join_request(&room))).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof);
    bob.done(catch_up(&room, 1)).await;
    assert_eq!(delivered(&mut bob).await, (2, Bytes::from_static(b"second")));
    assert_eq!(delivered(&mut bob).await, (3, Bytes::from_static(b"third")));
    assert_eq!(bob.join(&newest).await.mls_sequence, 3);
    bob.done(catch_up(&newest, 3)).await;
    let refused = bob.refused(catch_up(&newest, 4)).await;
    assert_eq!((refused.reason(), refused.value, refused.bound), (RefusalReason::HistoryGone, 4, 1));
    bob.no_event(|event| matches!(event, Body::MlsDelivery(_)).then_some(())).await;

    // Who was never there cannot tell the room from none.
    let mut eve = relay.connect(&Person::new()).await;
    assert_eq!(eve.refused(catch_up(&newest, 0)).await.reason(), RefusalReason::UnknownRoom);
    assert_eq!(eve.refused(catch_up(&Room::new(), 0)).await.reason(), RefusalReason::UnknownRoom);
    for client in [&alice, &bob, &eve] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_left_or_was_kicked_may_not_catch_up(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    alice.done(message(&room, 1, true, b"a commit")).await;
    let left = |event: &Body| matches!(event, Body::MemberLeft(_)).then_some(());

    let mut leaver = relay.connect(&Person::new()).await;
    leaver.join(&room).await;
    leaver.done(catch_up(&room, 0)).await;
    leaver.done(Request::LeaveRoom(LeaveRoom { room: room.name() })).await;
    assert_eq!(leaver.refused(catch_up(&room, 0)).await.reason(), RefusalReason::UnknownRoom);
    alice.event(left).await;

    // Lost first, kicked afterwards.
    let person = Person::new();
    let mut mallory = relay.connect(&person).await;
    let member = mallory.join(&room).await.member;
    mallory.connection.close(quinn::VarInt::from_u32(77), b"no goodbye");
    alice.event(left).await;
    let kick = || Request::KickMember(KickMember { room: room.name(), member });
    alice.done(kick()).await;
    let mut mallory = relay.connect(&person).await;
    assert_eq!(mallory.refused(catch_up(&room, 0)).await.reason(), RefusalReason::UnknownRoom);
    assert_eq!(alice.refused(kick()).await.reason(), RefusalReason::UnknownMember);
    for client in [&alice, &leaver, &mallory] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_commit_that_most_members_reject_does_not_count(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::at(5);
    let mut members = Vec::new();
    for _ in 0..4 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        members.push(member);
    }
    members[3].done(message(&room, 5, true, b"noise")).await;
    members[0].done(reject(&room, 5, 1)).await;
    assert_eq!(members[3].refused(reject(&room, 5, 1)).await.reason(), RefusalReason::Malformed);
    assert_eq!(members[1].refused(reject(&room, 5, 2)).await.reason(), RefusalReason::EpochConflict);
    let refused = members[1].refused(message(&room, 5, true, b"too early")).await;
    assert_eq!((refused.reason(), refused.bound), (RefusalReason::EpochConflict, 6));
    members[1].done(reject(&room, 5, 1)).await;
    let expected = CommitRejected { room: room.name(), epoch: 5, sequence: 1, from_member: 4 };
    for member in &mut members {
        assert_eq!(member.event(rejected).await, expected);
    }
    members[2].done(message(&room, 5, true, b"better")).await;
    let mut late = relay.connect(&Person::new()).await;
    assert_eq!(late.join(&room).await.mls_epoch, 6);
    late.done(catch_up(&room, 0)).await;
    assert_eq!(delivered(&mut late).await, (2, Bytes::from_static(b"better")));
    eventually("it is counted", || relay.ledger().commits_rejected == 1).await;
    members.push(late);
    members.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_message_that_is_not_what_is_said_of_it_is_refused(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, other_room) = (Room::new(), Room::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let send = |epoch, commit, payload: Bytes| {
        Request::SendMls(SendMls { room: room.name(), epoch, commit, payload, join_key: Bytes::new() })
    };
    for (field, lie) in [
        ("commit", send(1, false, room.message(1, true, b"a commit that should not count"))),
        ("commit", send(1, true, room.message(1, false, b"words that should count"))),
        ("epoch", send(2, false, room.message(1, false, b"from the future"))),
        ("room", send(1, true, other_room.message(1, true, b"of another group"))),
        ("payload", send(1, true, Bytes::from_static(b"no MLS at all"))),
    ] {
        let refused = alice.refused(lie).await;
        assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Malformed, field));
    }
    alice.done(send(1, true, room.message(1, true, b"a commit"))).await;
    assert_eq!(delivered(&mut bob).await, (1, Bytes::from_static(b"a commit")), "nothing else was passed on");
    for client in [&alice, &bob] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn the_first_commit_of_a_room_is_of_the_epoch_that_whoever_opened_it_said(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::at(6);
    let mut alice = relay.connect(&Person::new()).await;
    let mut mallory = relay.connect(&Person::new()).await;
    assert_eq!(alice.join(&room).await.mls_epoch, 6);
    let late = Room { epoch: 70, id: room.id, secret: room.secret.clone() };
    assert_eq!(mallory.join(&late).await.mls_epoch, 6, "only whoever opens it says so");
    for epoch in [70, 5, u64::MAX] {
        let refused = mallory.refused(message(&room, epoch, true, b"far away")).await;
        assert_eq!((refused.reason(), refused.value, refused.bound), (RefusalReason::EpochConflict, epoch, 6));
    }
    alice.done(message(&room, 6, true, b"the first")).await;
    for client in [&alice, &mallory] {
        client.close();
    }
    relay.assert_empty().await;
}

/// A commit that nobody can process, with another join key.
async fn send_junk(client: &mut Client, room: &Room) {
    let join_key = Room::new().join_key();
    let payload = room.message(9, true, b"junk");
    client.done(Request::SendMls(SendMls { room: room.name(), epoch: 9, commit: true, payload, join_key })).await;
}

//
#[rstest]
#[tokio::test]
async fn who_sends_junk_again_and_again_is_taken_out_of_that_room(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { rejected_commits_max: 2, ..Limits::default() });
    let (room, other_room, person) = (Room::at(9), Room::new(), Person::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    let mut mallory = relay.connect(&person).await;
    for client in [&mut alice, &mut bob, &mut mallory] {
        client.join(&room).await;
    }
    mallory.join(&other_room).await;
    for sequence in 1..=2 {
        send_junk(&mut mallory, &room).await;
        alice.done(reject(&room, 9, sequence)).await;
        bob.done(reject(&room, 9, sequence)).await;
    }
    for client in [&mut alice, &mut mallory] {
        let left = |event: &Body| match event {
            Body::MemberLeft(left) => Some((left.member, left.kicked)),
            _ => None,
        };
        assert_eq!(client.event(left).await, (3, true));
    }
    mallory.done(message(&other_room, 1, false, b"elsewhere nothing has changed")).await;
    for device in [&person, &person.another_device()] {
        let mut again = relay.connect(device).await;
        let refused = again.refused(Request::JoinRoom(again.join_request(&room))).await;
        assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Limit, "rejected_commits_max"));
        assert_eq!((refused.value, refused.bound), (2, 2));
        again.close();
    }
    alice.done(message(&room, 9, true, b"a commit")).await;
    let mut carol = relay.connect(&Person::new()).await;
    carol.join(&room).await;
    for client in [&alice, &bob, &carol] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn one_member_alone_ends_nobodys_stay(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { rejected_commits_max: 1, ..Limits::default() });
    let (room, mallory) = (Room::at(9), Person::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut other = relay.connect(&mallory).await;
    let mut tablet = relay.connect(&mallory.another_device()).await;
    for client in [&mut alice, &mut other, &mut tablet] {
        client.join(&room).await;
    }
    for sequence in 1..=3 {
        send_junk(&mut alice, &room).await;
        other.done(reject(&room, 9, sequence)).await;
        let late = tablet.refused(reject(&room, 9, sequence)).await;
        assert_eq!(late.reason(), RefusalReason::EpochConflict, "one of them was enough");
        assert_eq!(alice.event(rejected).await.sequence, sequence, "its epoch is open again");
    }
    alice.done(message(&room, 9, true, b"a commit")).await;
    alice.no_event(|event| matches!(event, Body::MemberLeft(_)).then_some(())).await;
    for client in [&alice, &other, &tablet] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_person_with_more_devices_than_all_others_voids_nobody_s_commit(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, mallory) = (Room::at(9), Person::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let mut devices = vec![relay.connect(&mallory).await];
    for _ in 0..4 {
        devices.push(relay.connect(&mallory.another_device()).await);
    }
    for device in &mut devices {
        device.join(&room).await;
    }
    alice.done(message(&room, 9, true, b"an honest commit")).await;
    // Whoever comes in afterwards has no voice about it either.
    let mut late = relay.connect(&Person::new()).await;
    late.join(&room).await;
    devices.push(late);
    for device in &mut devices {
        device.done(reject(&room, 9, 1)).await;
    }
    alice.no_event(rejected).await;
    alice.done(message(&room, 10, true, b"the next one")).await;
    bob.done(reject(&room, 10, 2)).await;
    for device in &mut devices[..1] {
        device.done(reject(&room, 10, 2)).await;
    }
    assert_eq!(alice.event(rejected).await.epoch, 10, "two of three others");
    devices.extend([alice, bob]);
    devices.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_person_s_devices_in_one_room_are_bounded(#[values(1, 2)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { room_devices_per_identity_max: 2, ..Limits::default() });
    let (room, person) = (Room::new(), Person::new());
    let mut devices = Vec::new();
    for device in [person.another_device(), person.another_device(), person.another_device()] {
        devices.push(relay.connect(&device).await);
    }
    devices[0].join(&room).await;
    devices[1].join(&room).await;
    let third = devices[2].join_request(&room);
    let refused = devices[2].refused(Request::JoinRoom(third)).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Limit, "room_devices_per_identity_max"));
    assert_eq!((refused.value, refused.bound), (3, 2));
    devices[1].done(Request::LeaveRoom(LeaveRoom { room: room.name() })).await;
    devices[2].join(&room).await;
    devices.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_beacon_reaches_everybody_else_in_the_room_as_it_was_posted(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        members.push(member);
    }
    let (digest, signature) = (Bytes::from_static(&[5; 32]), Bytes::from_static(&[6; 64]));
    let posted = PostBeacon { room: room.name(), epoch: 7, digest, signature };
    for (field, bad) in [
        ("digest", PostBeacon { digest: Bytes::from_static(&[5; 31]), ..posted.clone() }),
        ("signature", PostBeacon { signature: Bytes::new(), ..posted.clone() }),
    ] {
        let refused = members[1].refused(Request::PostBeacon(bad)).await;
        assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Malformed, field));
    }
    let mut stranger = relay.connect(&Person::new()).await;
    let refused = stranger.refused(Request::PostBeacon(posted.clone())).await;
    assert_eq!(refused.reason(), RefusalReason::UnknownRoom);
    members[1].done(Request::PostBeacon(posted.clone())).await;
    let beacon = |event: &Body| match event {
        Body::BeaconPosted(beacon) => Some(beacon.clone()),
        _ => None,
    };
    let PostBeacon { room: name, epoch, digest, signature } = posted;
    let expected = BeaconPosted { room: name, member: 2, epoch, digest, signature };
    assert_eq!(members[0].event(beacon).await, expected);
    assert_eq!(members[2].event(beacon).await, expected);
    members[1].no_event(beacon).await;
    members.push(stranger);
    members.iter().for_each(Client::close);
    relay.assert_empty().await;
}

/// A message of the largest size.
fn large(room: &Room) -> Request {
    let payload = room.message(1, false, &vec![7; MLS_PAYLOAD_BYTES_MAX - MLS_SHOWN_BYTES - 3]);
    assert_eq!(payload.len(), MLS_PAYLOAD_BYTES_MAX);
    Request::SendMls(SendMls { room: room.name(), epoch: 1, commit: false, payload, join_key: Bytes::new() })
}

/// Sends that many of them at once, and returns how many were taken.
async fn flood(client: &mut Client, room: &Room, count: usize) -> usize {
    let mut taken = 0;
    for _ in 0..count {
        match client.ask(large(room)).await {
            Body::Done(_) => taken += 1,
            Body::Refused(refused) => {
                let (detail, value, bound) = (refused.detail.as_str(), refused.value, refused.bound);
                assert_eq!(refused.reason(), RefusalReason::Limit);
                assert_eq!(
                    (detail, value, bound),
                    ("mls_bytes_per_second_max", MLS_PAYLOAD_BYTES_MAX as u64, 128 * 1024)
                );
            }
            other => panic!("Done or a refusal was due: {other:?}"),
        }
    }
    taken
}

//
#[rstest]
#[tokio::test]
async fn what_a_person_puts_into_mailboxes_is_limited_whatever_the_number_of_devices(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, person) = (Room::new(), Person::new());
    let mut alice = relay.connect(&Person::new()).await;
    let mut mallory = relay.connect(&person).await;
    let mut tablet = relay.connect(&person.another_device()).await;
    for client in [&mut alice, &mut mallory, &mut tablet] {
        client.join(&room).await;
    }
    let started = Instant::now();
    // Alice reads nothing meanwhile.
    let taken = flood(&mut mallory, &room, 20).await + flood(&mut tablet, &room, 20).await;
    let earned = 128 * 1024 * (started.elapsed().as_secs() as usize + 1);
    assert!((8..=(512 * 1024 + earned) / MLS_PAYLOAD_BYTES_MAX).contains(&taken), "{taken} were taken");
    for sequence in 1..=taken as u64 {
        assert_eq!(delivered(&mut alice).await.0, sequence);
    }
    alice.done(message(&room, 1, false, b"still here")).await;
    for client in [&alice, &mallory, &tablet] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_has_too_much_to_read_is_sent_the_rest_of_the_mailbox_later(#[values(1, 2, 4)] shards: usize) {
    let limits = Limits { mailbox_bytes_max: 8 << 20, mailboxes_bytes_max: 2 << 30, ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let mut senders = Vec::new();
    for _ in 0..6 {
        let mut sender = relay.connect(&Person::new()).await;
        sender.join(&room).await;
        senders.push(sender);
    }
    let mut taken = 0;
    for sender in &mut senders {
        taken += flood(sender, &room, 8).await as u64;
    }
    assert_eq!(taken, 48, "2.8 MiB, of which a quarter may wait for Alice in the relay");
    let withheld = || relay.tallies().iter().map(|tally| tally.mls_withheld).sum::<u64>();
    eventually("some is withheld from her", || withheld() > 0).await;
    for sequence in 1..=taken {
        assert_eq!(delivered(&mut alice).await.0, sequence);
    }
    senders[0].done(message(&room, 1, false, b"the next")).await;
    assert_eq!(delivered(&mut alice).await, (taken + 1, Bytes::from_static(b"the next")));
    senders.push(alice);
    senders.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_reads_too_late_sees_a_gap_in_the_numbers_and_stays(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { mailbox_messages_max: 2, ..Limits::default() });
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let mut senders = Vec::new();
    for _ in 0..6 {
        let mut sender = relay.connect(&Person::new()).await;
        sender.join(&room).await;
        assert_eq!(flood(&mut sender, &room, 8).await, 8);
        senders.push(sender);
    }
    let mut sequences = Vec::new();
    while sequences.last() != Some(&48) {
        sequences.push(delivered(&mut alice).await.0);
    }
    assert!(sequences.is_sorted() && sequences.len() < 48, "{sequences:?}");
    assert!(sequences.contains(&47), "what is kept is sent: {sequences:?}");
    alice.done(message(&room, 1, false, b"still here")).await;
    senders.push(alice);
    senders.iter().for_each(Client::close);
    relay.assert_empty().await;
}
