//! Layers of a picture, and pictures that nobody is sent.

use std::time::Duration;

use supernode_client::{Call, Error, OutgoingFrame, Publisher, SubscribeOptions, Subscription, TrackKind};
use supernode_client_testkit::{in_time, track};
use supernode_testkit::Relay;

use crate::{
    rooms::room_of,
    talks::{WHOLE, whole},
};

async fn picture(call: &Call) -> Publisher {
    in_time(call.publish(TrackKind::Video, track("picture"), WHOLE)).await.unwrap()
}

async fn look(call: &Call, options: SubscribeOptions) -> Subscription {
    let picture = in_time(call.track(TrackKind::Video)).await.unwrap();
    in_time(call.subscribe(&picture, options)).await.unwrap()
}

/// A frame of one byte, which says where it belongs.
async fn send(publisher: &mut Publisher, number: u8, spatial_layer: u8, keyframe: bool) {
    let payload = [(number << 4) | spatial_layer];
    let frame = OutgoingFrame::video(&payload, u64::from(number) * 50_000, keyframe);
    publisher.send(&OutgoingFrame { spatial_layer, ..frame }).await.unwrap();
}

async fn seen(subscription: &mut Subscription, frames: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < frames {
        seen.push(in_time(subscription.next()).await.unwrap().payload[0]);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_lower_picture_is_sent_no_other() {
    let relay = Relay::open(1);
    let (_guests, calls, _door) = room_of(&relay, 3).await;
    let mut publisher = picture(&calls[0]).await;
    let low = SubscribeOptions { spatial_layer_max: 0, ..whole(TrackKind::Video) };
    let mut small = look(&calls[1], low).await;
    let mut large = look(&calls[2], whole(TrackKind::Video)).await;
    in_time(publisher.wanted_by(2)).await.unwrap();
    for number in 0..3 {
        for spatial_layer in 0..2 {
            send(&mut publisher, number, spatial_layer, number == 0).await;
        }
    }
    assert_eq!(seen(&mut large, 6).await, [0x00, 0x01, 0x10, 0x11, 0x20, 0x21]);
    assert_eq!(seen(&mut small, 3).await, [0x00, 0x10, 0x20]);
    let above = OutgoingFrame { spatial_layer: 8, ..OutgoingFrame::video(&[], 0, false) };
    let refused = publisher.send(&above).await;
    assert!(matches!(refused, Err(Error::TooLarge { field: "spatial_layer", value: 8, bound: 7 })), "{refused:?}");
    drop(large);
    in_time(async {
        while publisher.demand().spatial_layer_max > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let sent = |call: &Call| call.stats().tracks.iter().map(|track| track.objects).sum::<u64>();
    assert_eq!(sent(&calls[0]), 6);
    for spatial_layer in 0..2 {
        send(&mut publisher, 3, spatial_layer, false).await;
    }
    assert_eq!(sent(&calls[0]), 7, "what nobody takes is not even sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_nobody_looks_at_rests_and_goes_on_with_a_key_frame() {
    let relay = Relay::open(1);
    let (_guests, calls, _door) = room_of(&relay, 2).await;
    let mut publisher = picture(&calls[0]).await;
    let mut looking = look(&calls[1], whole(TrackKind::Video)).await;
    in_time(publisher.wanted()).await.unwrap();
    send(&mut publisher, 0, 0, true).await;
    assert_eq!(seen(&mut looking, 1).await, [0x00]);
    drop(looking);
    in_time(async {
        while publisher.subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    publisher.take_keyframe_request();
    for number in 1..5 {
        send(&mut publisher, number, 0, number == 3).await;
    }
    let sent: u64 = calls[0].stats().tracks.iter().map(|track| track.objects).sum();
    assert_eq!(sent, 1, "nothing is sent meanwhile");
    let mut looking = look(&calls[1], whole(TrackKind::Video)).await;
    in_time(publisher.wanted()).await.unwrap();
    assert!(!publisher.take_keyframe_request());
    send(&mut publisher, 5, 0, false).await;
    assert!(publisher.take_keyframe_request(), "what would follow cannot be decoded");
    send(&mut publisher, 6, 0, false).await;
    send(&mut publisher, 7, 0, true).await;
    send(&mut publisher, 8, 0, false).await;
    assert_eq!(seen(&mut looking, 2).await, [0x70, 0x80]);
}
