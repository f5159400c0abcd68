//! Rooms: who is in them, who is told, and who is put out.

mod mailbox;
mod standing;

use bytes::Bytes;
use rstest::rstest;
use supernode_proto::{
    control::{
        KickMember, LeaveRoom, MemberLeft, MlsDelivery, RefusalReason, RelabelTrack, RotateJoinKey, SendMls,
        TrackAnnounced, TrackKind, client_message::Body as Request, relay_message::Body,
    },
    identity::{self},
};
use supernode_testkit::{Person, Relay, Room, datagram, eventually};

fn left(event: &Body) -> Option<MemberLeft> {
    match event {
        Body::MemberLeft(left) => Some(left.clone()),
        _ => None,
    }
}

fn announced(event: &Body) -> Option<TrackAnnounced> {
    match event {
        Body::TrackAnnounced(announced) => Some(announced.clone()),
        _ => None,
    }
}

fn delivery(event: &Body) -> Option<MlsDelivery> {
    match event {
        Body::MlsDelivery(delivery) => Some(delivery.clone()),
        _ => None,
    }
}

//
#[rstest]
#[tokio::test]
async fn only_who_can_sign_with_the_join_key_gets_in(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    let room = Room::new();
    assert_eq!(alice.join(&room).await.member, 1);

    let impostor = Room { id: room.id, ..Room::new() };
    let refused = bob.refused(Request::JoinRoom(bob.join_request(&impostor))).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof);
    let stolen = alice.join_request(&room);
    let refused = bob.refused(Request::JoinRoom(stolen)).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof, "a proof is bound to its connection");

    let joined = bob.join(&room).await;
    assert_eq!((joined.member, joined.members.len()), (2, 2));
    alice.event(|event| matches!(event, Body::MemberJoined(joined) if joined.member == 2).then_some(())).await;

    let other_key = room.with_another_key();
    let join_key = other_key.join_key();
    alice.done(Request::RotateJoinKey(RotateJoinKey { room: room.name(), join_key })).await;
    let mut carol = relay.connect(&Person::new()).await;
    let refused = carol.refused(Request::JoinRoom(carol.join_request(&room))).await;
    assert_eq!(refused.reason(), RefusalReason::JoinProof);
    assert_eq!(carol.join(&other_key).await.members.len(), 3);

    bob.done(Request::LeaveRoom(LeaveRoom { room: room.name() })).await;
    let gone = alice.event(left).await;
    assert_eq!((gone.member, gone.kicked), (2, false));
    for client in [&alice, &bob, &carol] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn the_mailbox_is_ordered_and_the_first_commit_of_an_epoch_wins(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::at(7);
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut member = relay.connect(&Person::new()).await;
        member.join(&room).await;
        members.push(member);
    }
    let commit = |epoch: u64, payload: &'static [u8]| {
        Request::SendMls(SendMls {
            room: room.name(),
            epoch,
            commit: true,
            payload: room.message(epoch, true, payload),
            join_key: Bytes::new(),
        })
    };
    members[0].done(commit(7, b"first")).await;
    let loser = members[1].refused(commit(7, b"second")).await;
    assert_eq!((loser.reason(), loser.value, loser.bound), (RefusalReason::EpochConflict, 7, 8));
    members[1].done(commit(8, b"third")).await;
    for (member, expected) in [(0, vec![(2, 8)]), (1, vec![(1, 7)]), (2, vec![(1, 7), (2, 8)])] {
        for order in expected {
            let delivered = members[member].event(delivery).await;
            assert_eq!((delivered.sequence, delivered.epoch), order);
        }
    }
    for member in &members {
        member.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn an_accepted_commit_brings_its_join_key_along_and_a_refused_one_does_not(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    let mut carol = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let (won, lost) = (room.with_another_key(), room.with_another_key());
    let commit = |key: &[u8]| {
        let (payload, join_key) = (room.message(1, true, b"commit"), Bytes::copy_from_slice(key));
        Request::SendMls(SendMls { room: room.name(), epoch: 1, commit: true, payload, join_key })
    };
    let refused = alice.refused(commit(&[7; 31])).await;
    assert_eq!((refused.reason(), refused.value, refused.bound), (RefusalReason::Malformed, 31, 32));
    alice.done(commit(&won.join_key())).await;
    let refused = bob.refused(commit(&lost.join_key())).await;
    assert_eq!(refused.reason(), RefusalReason::EpochConflict);
    for key in [&room, &lost] {
        let refused = carol.refused(Request::JoinRoom(carol.join_request(key))).await;
        assert_eq!(refused.reason(), RefusalReason::JoinProof);
    }
    assert_eq!(carol.join(&won).await.members.len(), 3);
    for client in [&alice, &bob, &carol] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_label_sealed_anew_is_told_to_newcomers_only(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    let first = bob.event(announced).await;
    let relabel = |label: Vec<u8>| {
        Request::RelabelTrack(RelabelTrack { alias: track.value(), label: label.into(), mls_epoch: room.epoch })
    };

    let mut carol = relay.connect(&Person::new()).await;
    carol.join(&room).await;
    assert_eq!(carol.event(announced).await, first);
    alice.done(relabel(b"anew".to_vec())).await;
    assert_eq!(&carol.event(announced).await.label[..], b"anew");
    let mut dave = relay.connect(&Person::new()).await;
    dave.join(&room).await;
    assert_eq!(&dave.event(announced).await.label[..], b"anew");
    alice.done(relabel(b"again".to_vec())).await;
    assert_eq!(&dave.event(announced).await.label[..], b"again");
    for told in [&mut bob, &mut carol] {
        told.no_event(announced).await;
    }

    let refused = bob.refused(relabel(b"not mine".to_vec())).await;
    assert_eq!(refused.reason(), RefusalReason::UnknownTrack);
    let refused = alice.refused(relabel(vec![0; 513])).await;
    assert_eq!((refused.reason(), refused.value, refused.bound), (RefusalReason::Malformed, 513, 512));
    for client in [&alice, &bob, &carol, &dave] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_label_of_an_earlier_epoch_does_not_settle_what_newcomers_are_told(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::at(1);
    let mut alice = relay.connect(&Person::new()).await;
    let mut bob = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    bob.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    bob.event(announced).await;
    let mut newcomers = Vec::new();
    for epoch in 1..3 {
        let (payload, join_key) = (room.message(epoch, true, b"lets somebody in"), Bytes::new());
        bob.done(Request::SendMls(SendMls { room: room.name(), epoch, commit: true, payload, join_key })).await;
        let mut newcomer = relay.connect(&Person::new()).await;
        newcomer.join(&room).await;
        newcomer.event(announced).await;
        newcomers.push(newcomer);
    }

    // Alice follows late: carol came with epoch 2, and may have forgotten it when she is told; dave came with epoch 3.
    let [carol, dave] = &mut newcomers[..] else { panic!("two of them") };
    let mut relabel = async |mls_epoch| {
        let label = Bytes::from(format!("sealed in {mls_epoch}"));
        alice.done(Request::RelabelTrack(RelabelTrack { alias: track.value(), label: label.clone(), mls_epoch })).await;
        label
    };
    for mls_epoch in 1..=3 {
        let label = relabel(mls_epoch).await;
        assert_eq!(carol.event(announced).await.label, label);
        assert_eq!(dave.event(announced).await.label, label);
    }
    relabel(3).await;
    for told in [&mut bob, carol, dave] {
        told.no_event(announced).await;
    }
}

//
#[rstest]
#[tokio::test]
async fn after_a_kick_is_acknowledged_nothing_reaches_the_kicked(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    let mut mallory = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let member = mallory.join(&room).await.member;
    let track = alice.publish(&room, TrackKind::Audio).await;
    let own = mallory.publish(&room, TrackKind::Audio).await;
    mallory.subscribe(track).await;
    alice.subscribe(own).await;
    alice.demand(1).await;
    alice.connection.send_datagram(datagram(track, 1, b"before")).unwrap();
    assert_eq!(&mallory.object().await.1[..], b"before");

    alice.done(Request::KickMember(KickMember { room: room.name(), member })).await;
    eventually("the first is counted", || relay.ledger().offered == 1).await;
    alice.connection.send_datagram(datagram(track, 2, b"after")).unwrap();
    mallory.connection.send_datagram(datagram(own, 1, b"still here")).unwrap();
    assert!(mallory.event(left).await.kicked);
    let refused = mallory.refused(Request::Subscribe(supernode_testkit::subscription(track))).await;
    assert_eq!(refused.reason(), RefusalReason::UnknownTrack);
    eventually("both objects came in", || {
        let ledger = relay.ledger();
        ledger.objects_in == 2 && ledger.refused.iter().sum::<u64>() == 1
    })
    .await;
    assert_eq!(relay.ledger().offered, 1, "nobody is offered anything more");
    alice.close();
    mallory.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn strangers_and_members_are_told_the_same_about_other_peoples_rooms(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (room, nowhere) = (Room::new(), Room::new());
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Audio).await;
    let mut stranger = relay.connect(&Person::new()).await;
    for name in [room.name(), nowhere.name()] {
        let refused = stranger.refused(Request::LeaveRoom(LeaveRoom { room: name })).await;
        assert_eq!(refused.reason(), RefusalReason::UnknownRoom);
    }
    let refused = stranger.refused(Request::Subscribe(supernode_testkit::subscription(track))).await;
    assert_eq!(refused.reason(), RefusalReason::UnknownTrack);
    let bad_room = stranger.refused(Request::LeaveRoom(LeaveRoom { room: vec![0; 15].into() })).await;
    assert_eq!((bad_room.reason(), bad_room.value, bad_room.bound), (RefusalReason::Malformed, 15, 16));
    assert_eq!(identity::SIGNATURE_BYTES, 64);
    alice.close();
    stranger.close();
    relay.assert_empty().await;
}
