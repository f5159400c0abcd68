//! Who is out.

use supernode_client::{
    CallEnd, CallEvent, Error, Liar, PublishOptions, RoomOptions, TrackKind,
    e2ee::{self, LinkSecret},
    proto::control::{ClientMessage, CommitRejected, KickMember, MemberLeft, client_message, relay_message},
};
use supernode_client_testkit::{Person, in_time, quick, track};
use supernode_testkit::Relay;

use crate::{
    rejections::next_commit,
    scene::{Guest, agree, by_link, room_of},
};

//
#[tokio::test(flavor = "multi_thread")]
async fn a_member_s_kick_without_a_commit_is_a_connection_that_was_lost() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let before = guests[0].number();
    let room = guests[1].call.room_id().0.to_vec().into();
    guests[1].is_made_to_say(client_message::Body::KickMember(KickMember { room, member: 1 }));
    drop(in_time(guests[1].call.publish(TrackKind::Data, track("x"), PublishOptions::default())).await.unwrap());
    guests[0].hears(|event| matches!(event, CallEvent::Interrupted)).await;
    guests[0].hears(|event| matches!(event, CallEvent::Resumed)).await;
    agree(&guests.iter().collect::<Vec<_>>()).await;
    assert_eq!(guests[0].number(), before, "nobody had to let her in");
    guests[0].is_heard_by(&guests[2]).await;
    guests[2].is_heard_by(&guests[0]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_says_that_we_are_out_ends_nobody_s_stay() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 2).await;
    let room = guests[1].call.room_id().0.to_vec();
    let out = |member| relay_message::Body::MemberLeft(MemberLeft { room: room.clone().into(), member, kicked: true });
    guests[1].liar.invent(0, out(2));
    guests[1].hears(|event| matches!(event, CallEvent::Resumed)).await;
    // Of another: who is still in the group is let in again by anybody.
    guests[1].liar.invent(0, out(1));
    guests[1].hears(|event| matches!(event, CallEvent::MemberLeft(_))).await;
    assert_eq!(guests[1].call.roster().len(), 2);
    assert!(guests[1].call.members().is_empty());
}

//
#[tokio::test(flavor = "multi_thread")]
async fn only_hosts_put_others_out_and_everybody_is_told_who_did_it() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 4).await;
    let members: Vec<_> = guests.iter().map(Guest::member).collect();
    let refused = in_time(guests[1].call.remove_person(&members[3].identity)).await;
    assert!(matches!(refused, Err(Error::EndToEnd(e2ee::Error::NotAHost))), "{refused:?}");
    assert!(matches!(in_time(guests[1].call.name_hosts(&[members[1].identity])).await, Err(Error::EndToEnd(_))));
    in_time(guests[0].call.name_hosts(&[members[0].identity, members[1].identity])).await.unwrap();
    guests[1].sees(|call| call.hosts().len() == 2).await;
    in_time(guests[1].call.remove_person(&members[3].identity)).await.unwrap();
    for guest in &mut guests {
        let removed = guest.hears(|event| matches!(event, CallEvent::Removed { .. })).await;
        let CallEvent::Removed { who, by, put_out } = removed else { panic!("it was just looked at") };
        assert_eq!((who, by, put_out), (members[3], members[1], true));
    }
    assert_eq!(in_time(guests[3].call.ended()).await, CallEnd::Removed);
    guests.truncate(3);
    agree(&guests.iter().collect::<Vec<_>>()).await;
}

impl Guest {
    /// Has the relay put this member out right before it hears our next commit.
    fn kicks_with_the_next_commit(&self, member: u32) {
        let room: bytes::Bytes = self.call.room_id().0.to_vec().into();
        let mut kick = Some(client_message::Body::KickMember(KickMember { room, member }));
        self.liar.ask(move |message: ClientMessage| {
            let is_commit = matches!(&message.body, Some(client_message::Body::SendMls(sent)) if sent.commit);
            let kick = if is_commit { kick.take() } else { None };
            // No request of ours has such a number.
            let kick = kick.map(|body| ClientMessage { request: u64::MAX, body: Some(body) });
            kick.into_iter().chain(std::iter::once(message)).collect()
        });
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_kicked_in_the_moment_of_a_commit_comes_back_by_a_door_if_they_have_one() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    guests[1].kicks_with_the_next_commit(3);
    in_time(guests[1].call.refresh_keys()).await.unwrap();
    let missed = guests[1].number();
    guests[2].hears(|event| matches!(event, CallEvent::Resumed)).await;
    agree(&guests.iter().collect::<Vec<_>>()).await;
    assert_ne!(guests[2].number(), missed, "somebody had to let them in");
    guests[2].is_heard_by(&guests[0]).await;
    // Whoever opened the room was given no ticket by anybody.
    guests[1].kicks_with_the_next_commit(1);
    in_time(guests[1].call.refresh_keys()).await.unwrap();
    assert_eq!(in_time(guests[0].call.ended()).await, CallEnd::MissedKeys);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_opened_a_room_that_stands_and_is_kicked_in_the_moment_of_a_commit_comes_back_by_its_link() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let mut host = by_link(&relay, &link, Liar::honest()).await;
    let mallory = by_link(&relay, &link, Liar::honest()).await;
    agree(&[&host, &mallory]).await;
    mallory.kicks_with_the_next_commit(1);
    in_time(mallory.call.refresh_keys()).await.unwrap();
    let missed = mallory.number();
    host.hears(|event| matches!(event, CallEvent::Resumed)).await;
    agree(&[&host, &mallory]).await;
    assert_ne!(host.number(), missed, "somebody had to let them in");
    host.is_heard_by(&mallory).await;
}

/// A host believes that somebody is out, since the relay lied to it about its commit, and says so to whom it lets in.
//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_that_somebody_was_put_out_declines_them_and_nobody_else_does() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 4).await;
    let [first, mallory, _, victim] = &guests[..] else { panic!("four") };
    let hosts = [first.member().identity, mallory.member().identity];
    in_time(first.call.name_hosts(&hosts)).await.unwrap();
    mallory.sees(|call| call.hosts().len() == 2).await;
    let commit = next_commit(mallory);
    in_time(first.call.refresh_keys()).await.unwrap();
    let (epoch, sequence) = in_time(commit).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    let alone = mallory.commits_alone();
    in_time(mallory.call.remove_person(&victim.person.public())).await.unwrap();
    for _ in 0..2 {
        in_time(mallory.call.refresh_keys()).await.unwrap();
    }
    alone.store(false, std::sync::atomic::Ordering::Relaxed);
    let room = mallory.call.room_id().0.to_vec().into();
    let rejected = CommitRejected { room, epoch: epoch + 1, sequence: sequence + 1, from_member: 2 };
    mallory.liar.invent(0, relay_message::Body::CommitRejected(rejected));
    agree(&guests.iter().collect::<Vec<_>>()).await;

    let (room, newcomer) = (first.call.room_id(), Person::new());
    let (client, mut events) = newcomer.online_with(&relay.invite(), quick()).await;
    let options = RoomOptions { door: Some(newcomer.ticket()), ..RoomOptions::default() };
    let _told = in_time(client.join_room(&mallory.person.ticket(), room, options)).await.unwrap();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let supernode_client::Event::IncomingRing(ring) = event {
                tokio::spawn(async move { drop(ring.admit().await) });
            }
        }
    });
    let (other, _other_events) = victim.person.online_with(&relay.invite(), quick()).await;
    let at_newcomer = in_time(other.join_room(&newcomer.ticket(), room, RoomOptions::default())).await;
    assert!(matches!(at_newcomer, Err(Error::NotAdmitted)), "{at_newcomer:?}");
    in_time(other.join_room(&first.person.ticket(), room, RoomOptions::default())).await.unwrap();
    // Another person's knock is answered there.
    let (another, _another_events) = Person::new().online_with(&relay.invite(), quick()).await;
    in_time(another.join_room(&newcomer.ticket(), room, RoomOptions::default())).await.unwrap();
}
