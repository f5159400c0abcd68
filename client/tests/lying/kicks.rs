//! Who is out.

use supernode_client::{
    CallEnd, CallEvent, Error, PublishOptions, TrackKind, e2ee,
    proto::control::{KickMember, MemberLeft, client_message, relay_message},
};

use crate::{
    people::{in_time, track},
    relay::Relay,
    scene::{agree, room_of},
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
    let members: Vec<_> = guests.iter().map(super::scene::Guest::member).collect();
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
