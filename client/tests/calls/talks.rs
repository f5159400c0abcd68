//! What happens in a call.

use std::time::Duration;

use supernode_client::{
    Call, CallEnd, CallEvent, Direction, Error, OutgoingFrame, PublishOptions, SubscribeOptions, TrackKind,
};
use supernode_client_testkit::{in_time, pair, track};
use supernode_testkit::Relay;
use tokio::task::JoinHandle;

/// Nothing is given up, however busy the machine is.
pub(crate) const WHOLE: PublishOptions = PublishOptions { ttl_ms: 20_000, activity: false };

pub(crate) fn whole(kind: TrackKind) -> SubscribeOptions {
    SubscribeOptions { max_age_ms: 20_000, hold: Duration::from_secs(3), ..SubscribeOptions::for_kind(kind) }
}

/// Packets of many sizes, one of which is too large for a datagram.
pub(crate) fn packets(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![index as u8; if index == 7 { 3_000 } else { 40 + index * 3 % 600 }]).collect()
}

/// Sends packets one after the other as soon as somebody listens.
pub(crate) fn speak(call: Call, packets: Vec<Vec<u8>>, pause: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut publisher = call.publish(TrackKind::Audio, track("voice"), WHOLE).await.unwrap();
        publisher.wanted().await.unwrap();
        for (index, packet) in packets.iter().enumerate() {
            publisher.send(&OutgoingFrame::independent(packet, index as u64 * 20_000)).await.unwrap();
            tokio::time::sleep(pause).await;
        }
        publisher.finish().await.unwrap();
    })
}

/// Everything that comes until the track ends.
pub(crate) async fn hear(call: &Call, kind: TrackKind) -> Vec<Vec<u8>> {
    let track = in_time(call.track(kind)).await.unwrap();
    let mut subscription = in_time(call.subscribe(&track, whole(kind))).await.unwrap();
    let mut heard = Vec::new();
    while let Some(frame) = in_time(subscription.next()).await {
        heard.push(frame.payload.to_vec());
    }
    heard
}

/// Groups of a key frame and others in two temporal layers.
fn show(call: Call, groups: usize) -> JoinHandle<Vec<Vec<u8>>> {
    tokio::spawn(async move {
        let mut publisher = call.publish(TrackKind::Video, track("picture"), WHOLE).await.unwrap();
        publisher.wanted().await.unwrap();
        let mut sent = Vec::new();
        for index in 0..groups * 8 {
            let keyframe = index % 8 == 0;
            let picture = vec![index as u8; if keyframe { 30_000 } else { 900 + index }];
            let frame = OutgoingFrame {
                temporal_layer: (index % 2) as u8,
                ..OutgoingFrame::video(&picture, index as u64 * 50_000, keyframe)
            };
            publisher.send(&frame).await.unwrap();
            sent.push(picture);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        publisher.finish().await.unwrap();
        sent
    })
}

async fn talk_through(shards: usize) {
    let relay = Relay::open(shards);
    let pair = pair(&relay.invite()).await;
    let (said, pause) = (packets(60), Duration::from_millis(5));
    let speaking = [speak(pair.caller.clone(), said.clone(), pause), speak(pair.callee.clone(), said.clone(), pause)];
    let showing = show(pair.caller.clone(), 4);
    let (to_callee, to_caller, seen) = tokio::join!(
        hear(&pair.callee, TrackKind::Audio),
        hear(&pair.caller, TrackKind::Audio),
        hear(&pair.callee, TrackKind::Video),
    );
    for spoken in speaking {
        in_time(spoken).await.unwrap();
    }
    assert!(to_callee == said && to_caller == said, "every packet, in order, unchanged");
    assert!(seen == in_time(showing).await.unwrap(), "every frame, in order, unchanged");

    let (caller, callee) = (pair.caller.stats(), pair.callee.stats());
    for stats in [&caller, &callee] {
        assert_eq!(stats.sum(Direction::Received, |track| track.lost + track.undecryptable + track.dropped), 0);
    }
    assert_eq!(callee.sum(Direction::Received, |track| track.objects), 60 + 32);
    assert_eq!(caller.sum(Direction::Received, |track| track.objects), 60);
    assert_eq!(callee.delay().count(), 60 + 32);
    assert_eq!(pair.caller.safety_number().unwrap(), pair.callee.safety_number().unwrap());

    in_time(pair.caller.leave()).await.unwrap();
    assert_eq!(in_time(pair.callee.ended()).await, CallEnd::OthersLeft);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_through_one_shard_and_every_packet_arrives_as_it_was() {
    talk_through(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_through_two_shards_and_every_packet_arrives_as_it_was() {
    talk_through(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_through_four_shards_and_every_packet_arrives_as_it_was() {
    talk_through(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_keys_in_the_middle_of_a_call_lose_nothing_and_change_the_safety_number() {
    let relay = Relay::open(2);
    let pair = pair(&relay.invite()).await;
    let before = pair.caller.safety_number().unwrap();
    let said = packets(80);
    let speaking = speak(pair.caller.clone(), said.clone(), Duration::from_millis(5));
    let refreshing = async {
        for call in [&pair.callee, &pair.caller, &pair.callee] {
            tokio::time::sleep(Duration::from_millis(80)).await;
            in_time(call.refresh_keys()).await.unwrap();
        }
    };
    let (heard, ()) = tokio::join!(hear(&pair.callee, TrackKind::Audio), refreshing);
    in_time(speaking).await.unwrap();
    assert!(heard == said);
    assert_ne!(pair.callee.safety_number().unwrap(), before);
    in_time(async {
        while pair.caller.safety_number().unwrap() != pair.callee.safety_number().unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_a_key_frame_reaches_whoever_sends_the_picture() {
    let relay = Relay::open(2);
    let pair = pair(&relay.invite()).await;
    let mut publisher = in_time(pair.caller.publish(TrackKind::Video, track("picture"), WHOLE)).await.unwrap();
    let picture = in_time(pair.callee.track(TrackKind::Video)).await.unwrap();
    assert_eq!(picture.info().name, "picture");
    let subscription = in_time(pair.callee.subscribe(&picture, whole(TrackKind::Video))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    publisher.take_keyframe_request();
    // Wishes that follow each other closely are passed on as one.
    in_time(async {
        while !publisher.take_keyframe_request() {
            subscription.request_keyframe().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    drop(subscription);
    in_time(async {
        while publisher.subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_is_out_at_once() {
    let relay = Relay::open(2);
    let pair = pair(&relay.invite()).await;
    let [other] = pair.caller.members()[..] else { panic!("two people") };
    let before = pair.caller.safety_number().unwrap();
    in_time(pair.caller.remove(&other)).await.unwrap();
    assert_eq!(in_time(pair.callee.ended()).await, CallEnd::Removed);
    assert_ne!(pair.caller.safety_number().unwrap(), before, "the keys are others");
    let published = in_time(pair.callee.publish(TrackKind::Audio, track("voice"), WHOLE)).await;
    assert!(matches!(published, Err(Error::CallEnded(CallEnd::Removed))));
    in_time(async {
        while !pair.caller.members().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_their_tracks_along() {
    let relay = Relay::open(1);
    let pair = pair(&relay.invite()).await;
    let mut events = pair.callee.events();
    let publisher = in_time(pair.caller.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    drop(publisher);
    in_time(pair.caller.leave()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"left") {
        seen.push(match in_time(events.recv()).await.unwrap() {
            CallEvent::TrackAnnounced(_) => "announced",
            CallEvent::TrackEnded(_) => "ended",
            CallEvent::MemberLeft(_) => "left",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["announced", "ended", "left"]);
    assert!(pair.callee.tracks().is_empty() && pair.callee.members().is_empty());
}
