//! The SDK in browsers: the same client in a page's worker and in this process, in one room of the relay's program.
//!
//! `cargo xtask test --step pages` builds the example `page` for browsers, names its directory in `SUPERNODE_GUEST`, and runs this.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod browser;
mod relay;

use std::time::Duration;

use serde_json::{Value, json};
use supernode_client::{
    Call, OutgoingFrame, PublishOptions, RoomLink, RoomOptions, SubscribeOptions, TrackKind, e2ee::LinkSecret,
};
use supernode_client_testkit::{Person, in_time, quick, track};

use crate::{browser::Browser, relay::Relay};

/// As many as `worker.js` says.
const WORDS: u32 = 150;

/// Says something every 20 ms, once somebody listens.
async fn speak(call: Call) {
    let mut voice = call.publish(TrackKind::Audio, track("voice"), PublishOptions::default()).await.unwrap();
    in_time(voice.wanted()).await.unwrap();
    for word in 0..WORDS {
        let text = format!("native {word}");
        voice.send(&OutgoingFrame::independent(text.as_bytes(), u64::from(word) * 20_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    voice.finish_heard(Duration::from_secs(2)).await.unwrap();
}

/// What somebody else says, until they have said all.
async fn hear(call: &Call) -> Vec<String> {
    let voice = in_time(call.track(TrackKind::Audio)).await.unwrap();
    let mut frames = call.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio)).await.unwrap();
    let mut words = Vec::new();
    while let Some(frame) = in_time(frames.next()).await {
        words.push(String::from_utf8(frame.payload.to_vec()).unwrap());
    }
    words
}

/// What `who` has said.
fn said_by(who: &str) -> Vec<String> {
    (0..WORDS).map(|word| format!("{who} {word}")).collect()
}

/// A page opens the room of a link, somebody natively comes by the same link, and they talk.
async fn meets(browser: Browser) {
    let relay = Relay::start();
    let link = RoomLink { relay: relay.invite(), secret: LinkSecret::generate() };
    let mut page = browser.open(&link.to_string());
    let entered = page.next_told().await;
    assert!(entered["entered_ms"].is_number(), "{entered}");

    let (client, _events) = Person::new().online_with(&link.relay, quick()).await;
    let call = in_time(client.enter_by_link(&link.secret, RoomOptions::default())).await.unwrap();
    let speaking = tokio::spawn(speak(call.clone()));
    let heard = hear(&call).await;
    speaking.await.unwrap();
    let safety_number = call.safety_number().unwrap();
    let found = page.next_told().await;
    println!("entered after {} ms, round trip {} ms", entered["entered_ms"], found["rtt_ms"]);
    assert_eq!(heard, said_by("page"), "natively");
    assert_eq!(found["heard"], json!(said_by("native")), "in the page: {found}");
    assert_eq!((&found["by"], &found["safety_number"]), (&json!("WebTransport"), &Value::String(safety_number)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_chromium_and_a_native_client_meet_in_a_room_and_hear_each_other() {
    meets(Browser::chromium()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_firefox_and_a_native_client_meet_in_a_room_and_hear_each_other() {
    meets(Browser::firefox()).await;
}
