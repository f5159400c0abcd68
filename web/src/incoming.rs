//! A track of somebody else on its way in.

use std::{cell::Cell, rc::Rc};

use js_sys::{Array, Function, Uint8Array};
use supernode_client::{Frame, Playback, Played, Subscription, proto::object::Flags};
use tokio::sync::{mpsc, oneshot};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

/// A subscription. Its function is called with each frame: bytes, when it was captured (the sender's Unix time) and its
/// place on the track's time line, both in microseconds; whether decoding can begin with it; temporal and spatial layer; and the
/// number of its group. After the last one it is called without anything. Freed, it unsubscribes.
#[wasm_bindgen]
pub struct Incoming {
    wishes: mpsc::Sender<()>,
    stop: Cell<Option<oneshot::Sender<()>>>,
    /// Of sound: how long after the fastest way it is played, in milliseconds.
    delay_ms: Rc<Cell<f64>>,
    late: Rc<Cell<u64>>,
}

impl Incoming {
    pub(crate) fn start(mut subscription: Subscription, frames: Function) -> Self {
        let (this, mut wishes, mut stopped) = Self::new();
        spawn_local(async move {
            loop {
                tokio::select! {
                    frame = subscription.next() => match frame {
                        Some(frame) => give(&frames, &frame),
                        None => break end(&frames),
                    },
                    // One that cannot be told now is asked for again by whoever sees no picture.
                    Some(()) = wishes.recv() => drop(subscription.request_keyframe().await),
                    _ = &mut stopped => break,
                }
            }
        });
        this
    }

    pub(crate) fn start_playback(mut playback: Playback, frames: Function, missing: Function) -> Self {
        let (this, _, mut stopped) = Self::new();
        let (delay_ms, late) = (this.delay_ms.clone(), this.late.clone());
        spawn_local(async move {
            loop {
                let played = tokio::select! {
                    played = playback.next() => played,
                    _ = &mut stopped => break,
                };
                delay_ms.set(playback.delay().as_secs_f64() * 1e3);
                late.set(playback.late());
                match played {
                    Some(Played::Frame(frame)) => give(&frames, &frame),
                    Some(Played::Missing(count)) => {
                        let _ = missing.call1(&JsValue::NULL, &JsValue::from_f64(count as f64));
                    }
                    None => break end(&frames),
                }
            }
        });
        this
    }

    fn new() -> (Self, mpsc::Receiver<()>, oneshot::Receiver<()>) {
        let (wishes, wished) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        (Self { wishes, stop: Cell::new(Some(stop)), delay_ms: Rc::default(), late: Rc::default() }, wished, stopped)
    }
}

#[wasm_bindgen]
impl Incoming {
    /// Asks whoever sends it for a key frame.
    pub fn request_keyframe(&self) {
        // One wish that waits is as good as two.
        let _ = self.wishes.try_send(());
    }

    /// Of sound: how long after the fastest way it is played, in milliseconds.
    pub fn delay_ms(&self) -> f64 {
        self.delay_ms.get()
    }

    /// Of sound: frames that came after their time.
    pub fn late(&self) -> f64 {
        self.late.get() as f64
    }

    /// Unsubscribes.
    pub fn stop(&self) {
        self.stop.take();
    }
}

fn give(frames: &Function, frame: &Frame) {
    let parts: [JsValue; 7] = [
        Uint8Array::from(&frame.payload[..]).into(),
        (frame.times.captured_at_us as f64).into(),
        (frame.times.presentation_us as f64).into(),
        frame.flags.contains(Flags::INDEPENDENT).into(),
        frame.layer.temporal().into(),
        frame.layer.spatial().into(),
        (frame.group as f64).into(),
    ];
    // What the page's function throws is its own fault, and said by the worker.
    let _ = frames.apply(&JsValue::NULL, &parts.into_iter().collect::<Array>());
}

fn end(frames: &Function) {
    let _ = frames.call0(&JsValue::NULL);
}
