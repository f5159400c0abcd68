//! The same in a page's worker: whoever has a room's link comes into the room, and people hear each other.
//!
//! `tests/pages` has it beside a native client; `cargo xtask test --step pages` builds and runs both.
#![cfg(target_family = "wasm")]

use std::{cell::RefCell, sync::Arc};

use supernode_client::{
    Call, Client, Config, Event, Events, OutgoingFrame, PublishOptions, RoomLink, RoomOptions, SubscribeOptions,
    TrackId, TrackInfo, TrackKind,
    e2ee::{Device, DeviceSecret, IdentitySecret},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

const HOUR_S: u64 = 3600;

thread_local! {
    static CLIENT: RefCell<Option<Client>> = RefCell::default();
}

/// What somebody in a browser says, does and hears; what does not work is thrown as its words.
#[wasm_bindgen]
pub struct Guest {
    call: Call,
}

#[wasm_bindgen]
impl Guest {
    /// Comes into the room of a link.
    pub async fn enter(link: &str) -> Result<Self, JsValue> {
        let RoomLink { relay, secret } = link.parse().map_err(said)?;
        let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
        let delegation = identity.delegate(&device.public(), (js_sys::Date::now() / 1e3) as u64 + HOUR_S);
        let device = Arc::new(Device::new(device, delegation).map_err(said)?);
        let (client, events) = Client::connect(&relay, device, Config::default()).await.map_err(said)?;
        spawn_local(mind(events));
        let call = client.enter_by_link(&secret, RoomOptions::default()).await.map_err(said)?;
        CLIENT.set(Some(client));
        Ok(Self { call })
    }

    /// Says so many words, one each 20 ms, once somebody listens: `page 0` and so on.
    pub async fn speak(&self, words: u32) -> Result<(), JsValue> {
        let info =
            TrackInfo { id: TrackId(rand::random()), name: "voice".into(), codec: "text".into(), parameters: vec![] };
        let mut voice = self.call.publish(TrackKind::Audio, info, PublishOptions::default()).await.map_err(said)?;
        voice.wanted().await.map_err(said)?;
        for word in 0..words {
            let said_now = format!("page {word}");
            let frame = OutgoingFrame::independent(said_now.as_bytes(), u64::from(word) * 20_000);
            voice.send(&frame).await.map_err(said)?;
            pause(20).await?;
        }
        voice.finish().await.map_err(said)
    }

    /// What somebody else says, word for word, until they have said all.
    pub async fn hear(&self) -> Result<Vec<String>, JsValue> {
        let voice = self.call.track(TrackKind::Audio).await.map_err(said)?;
        let options = SubscribeOptions::for_kind(TrackKind::Audio);
        let mut frames = self.call.subscribe(&voice, options).await.map_err(said)?;
        let mut words = Vec::new();
        while let Some(frame) = frames.next().await {
            words.push(String::from_utf8_lossy(&frame.payload).into_owned());
        }
        Ok(words)
    }

    /// What people compare, as long as nobody comes or goes.
    pub fn safety_number(&self) -> Result<String, JsValue> {
        self.call.safety_number().map_err(said)
    }

    /// By what the session goes, and how far the relay is, in milliseconds.
    pub fn path(&self) -> Vec<JsValue> {
        let stats = self.call.stats();
        let by = stats.transport.map(|transport| transport.to_string()).unwrap_or_default();
        vec![by.into(), (stats.rtt.as_secs_f64() * 1e3).into()]
    }

    /// Leaves the room, and ends the session.
    pub async fn leave(self) -> Result<(), JsValue> {
        self.call.leave().await.map_err(said)?;
        if let Some(client) = CLIENT.take() {
            client.close().await;
        }
        Ok(())
    }
}

/// Lets in whoever comes by the link.
async fn mind(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::IncomingRing(ring) = event
            && ring.has_link()
        {
            // Whoever gave up meanwhile is not let in.
            spawn_local(async move { drop(ring.admit().await) });
        }
    }
}

fn said(error: impl std::error::Error) -> JsValue {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    js_sys::Error::new(&text).into()
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(call: &js_sys::Function, ms: u32);
}

async fn pause(ms: u32) -> Result<(), JsValue> {
    let waited = js_sys::Promise::new(&mut |done, _| set_timeout(&done, ms));
    wasm_bindgen_futures::JsFuture::from(waited).await.map(drop)
}
