//! Calls that go on when the network or the relay does not.

mod elsewhere;
mod upgrade;
mod waiting;

use std::time::Duration;

use supernode_client::{CallEvent, Config, OutgoingFrame, PresenceState, PublishOptions, RingOutcome, TrackKind};
use supernode_client_testkit::{Person, in_time, next_ring, pair, pair_with, quick, track};
use supernode_testkit::{Relay, Way};

use crate::talks::{WHOLE, hear, packets, speak, whole};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_when_an_address_changes() {
    let relay = Relay::open(4);
    let pair = pair(&relay.invite()).await;
    let mut events = [pair.caller.events(), pair.callee.events()];
    let said = packets(100);
    let speaking = speak(pair.caller.clone(), said.clone(), Duration::from_millis(5));
    let moving = async {
        for client in [&pair.caller_client, &pair.callee_client, &pair.caller_client] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.rebind_any().unwrap();
        }
    };
    let (heard, ()) = tokio::join!(hear(&pair.callee, TrackKind::Audio), moving);
    in_time(speaking).await.unwrap();
    // Datagrams on their way to the old address are gone, as on any change of network.
    assert!(heard.len() >= 90, "{} of 100", heard.len());
    assert_eq!(heard.last(), said.last());
    assert!(heard.iter().all(|packet| said.contains(packet)));
    for events in &mut events {
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, CallEvent::Interrupted), "the connection moved along");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_goes_on_with_a_key_frame_after_the_relay_was_restarted() {
    let relay = Relay::open(1);
    let pair = pair(&relay.invite()).await;
    let mut publisher = in_time(pair.caller.publish(TrackKind::Video, track("picture"), WHOLE)).await.unwrap();
    let picture = in_time(pair.callee.track(TrackKind::Video)).await.unwrap();
    let mut subscription = in_time(pair.callee.subscribe(&picture, whole(TrackKind::Video))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::video(b"key", 0, true)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "key");

    let mut events = pair.caller.events();
    let _relay = in_time(relay.restart()).await;
    in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    in_time(publisher.wanted()).await.unwrap();
    publisher.take_keyframe_request();
    publisher.send(&OutgoingFrame::video(b"useless without its key frame", 1, false)).await.unwrap();
    assert!(publisher.take_keyframe_request(), "the encoder is told");
    publisher.send(&OutgoingFrame::video(b"next key", 2, true)).await.unwrap();
    publisher.send(&OutgoingFrame::video(b"and on", 3, false)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "next key");
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "and on");
    assert_eq!(pair.caller.stats().tracks[0].dropped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_after_the_relay_was_restarted() {
    let relay = Relay::open(2);
    let pair = pair(&relay.invite()).await;
    let mut publisher = in_time(pair.caller.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut subscription = in_time(pair.callee.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::independent(b"before", 0)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "before");
    let safety_number = pair.caller.safety_number().unwrap();

    let mut events = [pair.caller.events(), pair.callee.events()];
    let _relay = in_time(relay.restart()).await;
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::independent(b"after", 1)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "after");
    assert_eq!(pair.callee.safety_number().unwrap(), safety_number, "the keys are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_after_the_network_was_gone() {
    let relay = Relay::open(2);
    let way = Way::to(&relay).await;
    let impatient = Config { silence_max: Duration::from_secs(1), ..quick() };
    let pair = pair_with(&way.invite(&relay), impatient).await;
    let mut publisher = in_time(pair.caller.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut subscription = in_time(pair.callee.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();

    let mut events = [pair.caller.events(), pair.callee.events()];
    way.set_open(false);
    publisher.send(&OutgoingFrame::independent(b"nobody hears this", 0)).await.unwrap();
    // Who has nothing to say notices by the keep-alive, or as here, by asking something.
    assert!(in_time(pair.callee_client.set_presence(PresenceState::Busy, Default::default())).await.is_err());
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Interrupted) {} }).await;
    }
    way.set_open(true);
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::independent(b"but this", 1)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "but this");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_into_a_dead_path_is_not_sent_when_it_comes_back() {
    let relay = Relay::open(1);
    let way = Way::to(&relay).await;
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&way.invite(&relay)).await;
    let (_callee, mut callee_events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut callee_events).await.answer().await.unwrap() };
    let (outcome, heard_by) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    let RingOutcome::Answered(call) = outcome.unwrap() else { panic!("not answered") };
    let options = PublishOptions { ttl_ms: 200, activity: false };
    let mut publisher = in_time(call.publish(TrackKind::Audio, track("voice"), options)).await.unwrap();
    let voice = in_time(heard_by.track(TrackKind::Audio)).await.unwrap();
    let mut subscription = in_time(heard_by.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    way.set_open(false);
    let speaking = tokio::spawn(async move {
        for packet in 0..150u64 {
            if packet == 100 {
                way.set_open(true);
            }
            publisher.send(&OutgoingFrame::independent(&packet.to_be_bytes(), packet)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        publisher.finish().await.unwrap();
        way
    });
    let (mut old, mut fresh) = (0, 0);
    while let Some(frame) = in_time(subscription.next()).await {
        let packet = u64::from_be_bytes(frame.payload[..].try_into().unwrap());
        *(if packet < 95 { &mut old } else { &mut fresh }) += 1;
    }
    // What QUIC had sent into the dead path is lost; what it kept was said within 200 ms.
    assert!(old <= 30, "{old} packets of two seconds in which nothing got out");
    assert!(fresh >= 25, "{fresh} of the 50 after them");
    speaking.await.unwrap();
}
