//! What a page is told of without asking.

use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::trouble::Trouble;

/// One thing that happened; `is` says what.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Told {
    /// The connection to the relay broke, and is being made anew.
    Disconnected { trouble: Trouble },
    /// It is back.
    Reconnected,
    /// The session is over for good.
    Closed { trouble: Trouble },
    /// The relay sends us less, or more again; `FULL` is all.
    Rung { rung: &'static str },
    /// This device's clock and the relay's differ.
    ClockDiffers { skew: String },
    /// Somebody rings, or knocks at the door of our room and is to be looked at.
    Ring { id: u32, identity: String, kind: RingKind, room: String, has_link: bool },
    /// That one needs no answer any more.
    RingOver { id: u32 },
    /// Somebody knocked and is being let in without being asked about.
    Admitted { identity: String },
    /// Who is in has changed.
    Roster,
    /// Somebody has no place any more.
    Removed { identity: String, by: String, put_out: bool, is_us: bool },
    /// A track is there, or there again.
    Track { track: TrackShown },
    /// It is not any more.
    TrackEnded { id: String },
    /// The safety number is another.
    KeysChanged,
    /// Everybody is in the same group again.
    Healed,
    /// Something is not as it should be.
    Warning { kind: &'static str, identity: Option<String> },
    /// The connection to the room broke.
    Interrupted,
    /// We are back in the room.
    Resumed,
    /// The call is over for us.
    Ended { end: &'static str, trouble: Trouble },
}

/// What somebody rings for.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RingKind {
    Call,
    Invitation,
    Knock,
}

/// A track of somebody else.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TrackShown {
    /// Of this call's tracks.
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) identity: String,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) codec: String,
    /// In hexadecimal.
    pub(crate) parameters: String,
}

/// Where it is told.
#[derive(Clone)]
pub(crate) struct Teller(Function);

impl Teller {
    pub(crate) fn new(function: Function) -> Self {
        Self(function)
    }

    pub(crate) fn tell(&self, told: &Told) {
        let text = serde_json::to_string(told).unwrap_or_default();
        // What the page's function throws is its own fault, and said by the worker.
        let _ = self.0.call1(&JsValue::NULL, &JsValue::from_str(&text));
    }
}
