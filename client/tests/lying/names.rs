//! Who somebody is.

use std::time::Duration;

use supernode_client::{
    PublishOptions, TrackKind,
    proto::{
        control::{MemberJoined, MemberLeft, client_message, relay_message},
        identity::{DeviceKey, IdentityKey},
    },
};
use supernode_client_testkit::{in_time, track};
use supernode_testkit::Relay;

use crate::scene::{Guest, agree, room_of};

/// Tells `to` that the member with this number is somebody else from now on.
fn rename(to: &Guest, number: u32, identity: &IdentityKey, device: &DeviceKey) {
    let room = to.call.room_id().0.to_vec();
    let (identity, device) = (identity.as_bytes().to_vec().into(), device.as_bytes().to_vec().into());
    let left = MemberLeft { room: room.clone().into(), member: number, kicked: false };
    let joined = MemberJoined { room: room.into(), member: number, identity, device };
    to.liar.invent(0, relay_message::Body::MemberLeft(left));
    to.liar.invent(0, relay_message::Body::MemberJoined(joined));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_relay_says_a_device_is_of_its_words_stay_its_own() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 3).await;
    let (alice, bob) = (guests[0].member(), guests[1].member());
    rename(&guests[2], 2, &alice.identity, &bob.device);
    guests[1].is_heard_by(&guests[2]).await;
    let mut here = guests[2].call.members();
    here.sort_by_key(|member| member.device != alice.device);
    assert_eq!(here, [alice, bob]);
    assert!(guests[2].call.tracks().iter().all(|track| track.publisher() == bob));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whose_device_the_relay_gives_out_for_another_s_is_not_heard_as_the_other() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 3).await;
    let alice = guests[0].member();
    rename(&guests[2], 2, &alice.identity, &alice.device);
    let _voice =
        in_time(guests[1].call.publish(TrackKind::Audio, track("voice"), PublishOptions::default())).await.unwrap();
    guests[0].sees(|call| !call.tracks().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(guests[2].call.tracks().is_empty(), "no track of Alice's is there, and none that is taken for hers");
    guests[0].is_heard_by(&guests[2]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_group_does_not_know_has_no_name_and_is_given_up_after_the_grace() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 2).await;
    let before = guests[1].call.members();
    rename(&guests[1], 77, &guests[0].member().identity, &DeviceKey::new([9; 32]));
    guests[1].sees(|call| call.outsiders() == 1).await;
    assert_eq!(guests[1].call.members(), before);
    guests[1].sees(|call| call.outsiders() == 0).await;
    agree(&guests.iter().collect::<Vec<_>>()).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_and_stays_in_the_relay_s_room_is_not_heard_and_is_put_out_of_it() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    let mut mallory = guests.remove(2);
    // She never hears that she was removed, and the relay never hears the kick.
    let deaf = mallory.never_hears(|body| matches!(body, relay_message::Body::MlsDelivery(_)));
    let no_kick = guests[0].tells(|body| {
        if let client_message::Body::KickMember(kick) = body {
            kick.member = 99;
        }
    });
    let removed = in_time(guests[0].call.remove_person(&mallory.member().identity)).await;
    assert!(removed.is_ok(), "the relay knows no such member any more: {removed:?}");
    guests[1].sees(|call| call.outsiders() == 1 && call.roster().len() == 2).await;
    let _voice =
        in_time(mallory.call.publish(TrackKind::Audio, track("voice"), PublishOptions::default())).await.unwrap();
    no_kick.store(false, std::sync::atomic::Ordering::Relaxed);
    mallory.hears(|event| matches!(event, supernode_client::CallEvent::Interrupted)).await;
    guests[1].sees(|call| call.outsiders() == 0).await;
    assert!(guests.iter().all(|guest| guest.call.tracks().is_empty()));
    drop(deaf);
}
