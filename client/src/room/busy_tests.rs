//! Media goes on while the group is worked on: it takes more than what is public here.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{sync::mpsc, time::Duration};

use supernode_client_testkit::{Person, in_time};
use supernode_proto::control::TrackKind;
use supernode_testkit::Relay;

use crate::{
    Client, Config, OutgoingFrame, PresenceState, PublishOptions, RingOutcome, SubscribeOptions, TrackId, TrackInfo,
    sync::lock,
};

const FRAMES: u32 = 50;

/// The runtime has one thread, as that of a program in which this client is one thing of many.
#[tokio::test]
async fn a_commit_that_takes_long_to_follow_holds_no_frame_up() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let config = || Config { connect_timeout: Duration::from_secs(5), ..Config::default() };
    let (caller, _events) = in_time(Client::connect(&relay.invite(), alice.device(), config())).await.unwrap();
    let (callee, mut events) = in_time(Client::connect(&relay.invite(), bob.device(), config())).await.unwrap();
    in_time(callee.set_presence(PresenceState::Online, Default::default())).await.unwrap();
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let shown = in_time(events.next_ring()).await.unwrap();
    let (outcome, at_bob) = in_time(async { tokio::join!(ring.outcome(), shown.answer()) }).await;
    let (Ok(RingOutcome::Answered(at_alice)), Ok(at_bob)) = (outcome, at_bob) else { panic!("a call") };

    let info = TrackInfo { id: TrackId([1; 8]), name: String::new(), codec: "opus".into(), parameters: vec![] };
    let mut voice = in_time(at_bob.publish(TrackKind::Audio, info, PublishOptions::default())).await.unwrap();
    let track = in_time(at_alice.track(TrackKind::Audio)).await.unwrap();
    let options = SubscribeOptions::for_kind(TrackKind::Audio);
    let mut heard = in_time(at_alice.subscribe(&track, options)).await.unwrap();
    in_time(voice.wanted()).await.unwrap();

    // Somebody works on Bob's group, and then there is a commit to follow.
    let (room, epoch) = (at_bob.room.clone(), at_bob.room.epoch());
    let ((holds, is_held), (release, released)) = (mpsc::channel(), mpsc::channel());
    let working = std::thread::spawn(move || {
        let _group = lock(&room.membership);
        holds.send(()).unwrap();
        released.recv_timeout(Duration::from_secs(20)).is_ok()
    });
    is_held.recv().unwrap();
    in_time(at_alice.refresh_keys()).await.unwrap();
    for frame in 0..FRAMES {
        in_time(voice.send(&OutgoingFrame::independent(b"sound", frame.into()))).await.unwrap();
        in_time(heard.next()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(at_bob.room.epoch(), epoch, "he has not followed yet");
    release.send(()).unwrap();
    assert!(working.join().unwrap(), "nothing waited for the group");
    in_time(at_bob.room.wait_for_epoch(epoch + 1)).await;
}
