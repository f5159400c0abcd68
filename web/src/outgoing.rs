//! A track of ours on its way out.

use std::{cell::Cell, rc::Rc, time::Duration};

use js_sys::Function;
use serde::Serialize;
use supernode_client::{Demand, FRAME_BYTES_MAX, OutgoingFrame, Publisher, TrackKind};
use tokio::sync::{mpsc, oneshot};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

/// Frames that may wait for the connection: what is older is worth nothing in a talk.
const WAITING_MAX: usize = 32;
/// Longest to wait for those who read a track of data to its end.
const HEARD_OUT: Duration = Duration::from_secs(60);

struct Waiting {
    payload: Vec<u8>,
    presentation_us: u64,
    keyframe: bool,
    temporal_layer: u8,
    spatial_layer: u8,
    discardable: bool,
}

#[derive(Serialize)]
struct Wanted {
    subscribers: u32,
    joined: u64,
    temporal_layer_max: u8,
    spatial_layer_max: u8,
    bits_per_second: Option<u64>,
}

/// A track of ours. Freed, it is taken back.
#[wasm_bindgen]
pub struct Outgoing {
    frames: mpsc::Sender<Waiting>,
    end: Cell<Option<oneshot::Sender<oneshot::Sender<()>>>>,
    is_dead: Rc<Cell<bool>>,
}

impl Outgoing {
    pub(crate) fn start(publisher: Publisher, kind: TrackKind, told: Function) -> Self {
        let (frames, waiting) = mpsc::channel(WAITING_MAX);
        let (end, ended) = oneshot::channel();
        let is_dead = Rc::<Cell<bool>>::default();
        spawn_local(send_all(publisher, kind, waiting, ended, told, is_dead.clone()));
        Self { frames, end: Cell::new(Some(end)), is_dead }
    }
}

#[wasm_bindgen]
impl Outgoing {
    /// Sends a frame when those before it have gone; says whether it was taken, which it is not when too many wait.
    pub fn send(
        &self,
        payload: Vec<u8>,
        presentation_us: f64,
        keyframe: bool,
        temporal_layer: u8,
        spatial_layer: u8,
        discardable: bool,
    ) -> bool {
        let presentation_us = presentation_us as u64;
        let frame = Waiting { payload, presentation_us, keyframe, temporal_layer, spatial_layer, discardable };
        frame.payload.len() <= FRAME_BYTES_MAX && self.frames.try_send(frame).is_ok()
    }

    /// Frames that wait for the connection.
    pub fn waiting(&self) -> usize {
        WAITING_MAX - self.frames.capacity()
    }

    /// Whether nothing can be sent any more: the call is over, or its keys are used up.
    pub fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// Marks its end, after all that was sent, and waits until the relay has it all; of data, until all have read it.
    pub async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if let Some(end) = self.end.take()
            && end.send(done).is_ok()
        {
            // Gone, it has finished as well as it could.
            let _ = finished.await;
        }
    }
}

async fn send_all(
    mut publisher: Publisher,
    kind: TrackKind,
    mut waiting: mpsc::Receiver<Waiting>,
    mut ended: oneshot::Receiver<oneshot::Sender<()>>,
    told: Function,
    is_dead: Rc<Cell<bool>>,
) {
    let mut known = Demand::default();
    let done = loop {
        tokio::select! {
            biased;
            demand = publisher.demand_other_than(known) => match demand {
                Ok(demand) => {
                    known = demand;
                    tell_demand(&told, &demand);
                }
                Err(_) => break None,
            },
            frame = waiting.recv() => match frame {
                Some(frame) => {
                    if publisher.send(&frame.outgoing()).await.is_err() {
                        break None;
                    }
                }
                // Freed without a farewell: dropped, the publisher takes the track back.
                None => return,
            },
            done = &mut ended => match done {
                Ok(done) => break Some(done),
                Err(_) => return,
            },
        }
        if publisher.take_keyframe_request() {
            // What the page's function throws is its own fault.
            let _ = told.call1(&JsValue::NULL, &JsValue::from_str("keyframe"));
        }
    };
    is_dead.set(true);
    let Some(done) = done else { return };
    while let Ok(frame) = waiting.try_recv() {
        if publisher.send(&frame.outgoing()).await.is_err() {
            return;
        }
    }
    // The others learn from the relay that it is over, if not from us.
    let _ = match kind {
        TrackKind::Data => publisher.finish_heard(HEARD_OUT).await,
        _ => publisher.finish().await,
    };
    let _ = done.send(());
}

fn tell_demand(told: &Function, demand: &Demand) {
    let wanted = Wanted {
        subscribers: demand.subscribers,
        joined: demand.joined,
        temporal_layer_max: demand.temporal_layer_max,
        spatial_layer_max: demand.spatial_layer_max,
        bits_per_second: demand.bits_per_second,
    };
    let wanted = serde_json::to_string(&wanted).unwrap_or_default();
    let _ = told.call2(&JsValue::NULL, &JsValue::from_str("demand"), &JsValue::from_str(&wanted));
}

impl Waiting {
    fn outgoing(&self) -> OutgoingFrame<'_> {
        OutgoingFrame {
            temporal_layer: self.temporal_layer,
            spatial_layer: self.spatial_layer,
            discardable: self.discardable,
            ..OutgoingFrame::video(&self.payload, self.presentation_us, self.keyframe)
        }
    }
}
