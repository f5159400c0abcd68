//! Commits that do not count after all.

use std::sync::atomic::Ordering;

use supernode_client::{
    CallEvent, OutgoingFrame, PublishOptions, TrackKind,
    proto::control::{CommitRejected, RefusalReason, Refused, RejectCommit, client_message, relay_message},
};
use supernode_client_testkit::{in_time, track};
use supernode_testkit::Relay;

use crate::scene::{Guest, agree, room_of};

/// Each of these says that it cannot process the last commit, although it did.
async fn reject(voters: &[Guest], epoch: u64, sequence: u64) {
    for voter in voters {
        let room = voter.call.room_id().0.to_vec().into();
        voter.is_made_to_say(client_message::Body::RejectCommit(RejectCommit { room, epoch, sequence }));
        // Anything that is said brings it along.
        let label = in_time(voter.call.publish(TrackKind::Data, track("x"), PublishOptions::default())).await;
        drop(label.unwrap());
    }
}

/// Epoch and number of the next commit that this guest hears of.
pub(crate) fn next_commit(guest: &Guest) -> tokio::sync::oneshot::Receiver<(u64, u64)> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    guest.is_told(move |body| {
        if let relay_message::Body::MlsDelivery(delivery) = body
            && delivery.commit
            && let Some(tell) = tell.lock().unwrap().take()
        {
            tell.send((delivery.epoch, delivery.sequence)).unwrap();
        }
    });
    told
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_followed_a_commit_that_is_rejected_goes_back_and_stays() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 3).await;
    guests[0].is_heard_by(&guests[1]).await;
    let (before, commit) = (guests[0].number(), next_commit(&guests[1]));
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    let (epoch, sequence) = in_time(commit).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    reject(&guests[1..], epoch, sequence).await;
    for guest in &guests {
        guest.sees(|call| call.safety_number().is_ok_and(|number| number == before)).await;
    }
    guests[0].is_heard_by(&guests[1]).await;
    guests[1].is_heard_by(&guests[0]).await;
    in_time(guests[2].call.refresh_keys()).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    guests[0].is_heard_by(&guests[2]).await;
    let heard = guests[0].heard_so_far();
    assert!(!heard.iter().any(|event| matches!(event, CallEvent::Interrupted)), "nobody fell out");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_taken_back_is_made_again_and_nothing_is_sent_until_then() {
    let relay = Relay::open(2);
    let mut guests = room_of(&relay, 4).await;
    let mallory = guests.remove(3);
    let commit = next_commit(&guests[1]);
    in_time(guests[0].call.remove_person(&mallory.member().identity)).await.unwrap();
    let (epoch, sequence) = in_time(commit).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    let mut voice =
        in_time(guests[0].call.publish(TrackKind::Audio, track("voice"), PublishOptions::default())).await.unwrap();
    // Nobody can remove her again for now.
    let mut held = Vec::new();
    for guest in &guests {
        let liar = std::sync::Arc::downgrade(&guest.liar);
        let holding = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        held.push(holding.clone());
        let room = guest.call.room_id().0.to_vec();
        let mut vote =
            (guest.member() != guests[0].member()).then_some(RejectCommit { room: room.into(), epoch, sequence });
        guest.liar.ask(move |message| {
            if holding.load(Ordering::Relaxed)
                && matches!(&message.body, Some(client_message::Body::SendMls(sent)) if sent.commit)
            {
                let refused = Refused { reason: RefusalReason::Limit.into(), ..Refused::default() };
                liar.upgrade().unwrap().invent(message.request, relay_message::Body::Refused(refused));
                return vec![];
            }
            let vote = vote.take().map(client_message::Body::RejectCommit);
            let vote = vote
                .map(|body| supernode_client::proto::control::ClientMessage { request: u64::MAX, body: Some(body) });
            std::iter::once(message).chain(vote).collect()
        });
    }
    for voter in &guests[1..] {
        drop(in_time(voter.call.publish(TrackKind::Data, track("x"), PublishOptions::default())).await.unwrap());
    }
    guests[0].sees(|call| call.roster().len() == 4).await;
    let dropped = |guest: &Guest| guest.call.stats().tracks.iter().map(|track| track.dropped).sum::<u64>();
    let before = dropped(&guests[0]);
    for _ in 0..5 {
        voice.send(&OutgoingFrame::independent(b"not for Mallory", 0)).await.unwrap();
    }
    assert_eq!(dropped(&guests[0]), before + 5, "nothing is sent while she is in the group again");
    held.iter().for_each(|holding| holding.store(false, Ordering::Relaxed));
    agree(&guests.iter().collect::<Vec<_>>()).await;
    drop(voice);
    guests[0].is_heard_by(&guests[1]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_alone_with_their_commits_comes_back_and_hears_and_is_heard() {
    let relay = Relay::open(2);
    let guests = room_of(&relay, 3).await;
    let label = in_time(guests[0].call.publish(TrackKind::Audio, track("before"), PublishOptions::default())).await;
    guests[2].sees(|call| call.tracks().len() == 1).await;
    let commit = next_commit(&guests[1]);
    in_time(guests[0].call.refresh_keys()).await.unwrap();
    let (epoch, sequence) = in_time(commit).await.unwrap();
    agree(&guests.iter().collect::<Vec<_>>()).await;
    // Mallory's relay tells Carol that three commits count which nobody hears of, and then that none does.
    let alone = guests[2].commits_alone();
    for _ in 0..3 {
        in_time(guests[2].call.refresh_keys()).await.unwrap();
    }
    alone.store(false, Ordering::Relaxed);
    let room = guests[2].call.room_id().0.to_vec().into();
    let rejected = CommitRejected { room, epoch: epoch + 1, sequence: sequence + 1, from_member: 3 };
    guests[2].liar.invent(0, relay_message::Body::CommitRejected(rejected));
    agree(&guests.iter().collect::<Vec<_>>()).await;
    for (from, to) in [(2, 0), (0, 2), (1, 2)] {
        guests[from].is_heard_by(&guests[to]).await;
    }
    drop(label);
}
