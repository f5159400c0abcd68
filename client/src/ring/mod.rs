//! How a call begins: ringing a person on all their devices, and being rung. What is asked, said and waited for is
//! [`supernode_calls::rings`]'.

mod incoming;
mod outgoing;

use std::{collections::HashMap, sync::Mutex};

use bytes::Bytes;
use supernode_calls::rings::Next;
use supernode_proto::control::{self, RingResult, relay_message};
use tokio::sync::{oneshot, watch};

use crate::{
    Call, Client, Error,
    sync::lock,
    wire::link::{Link, OnReply},
};

pub use incoming::IncomingRing;
pub use outgoing::{OutgoingRing, RingOutcome};

const SETTLED: Error = Error::State("the ring is settled");

/// The rings under way, by their 16 bytes.
#[derive(Default)]
pub(crate) struct Rings {
    outgoing: Mutex<HashMap<Bytes, oneshot::Sender<control::RingOutcome>>>,
    incoming: Mutex<HashMap<Bytes, watch::Sender<Option<RingResult>>>>,
}

impl Rings {
    pub(crate) fn handle_outcome(&self, outcome: control::RingOutcome) {
        if let Some(waiting) = lock(&self.outgoing).remove(&outcome.ring) {
            // Whoever rang may have gone.
            let _ = waiting.send(outcome);
        }
    }

    /// The connection is gone, and with it a ring of ours.
    pub(crate) fn handle_lost(&self, ring: &Bytes) {
        lock(&self.outgoing).remove(ring);
    }

    pub(crate) fn handle_ended(&self, ring: &Bytes, result: RingResult) {
        if let Some(ringing) = lock(&self.incoming).get(ring) {
            ringing.send_replace(Some(result));
        }
    }
}

/// Does what a ring wants done next, and returns the relay's reply if it was asked for something. `call` is the call that the
/// ring leads into, once it is joined.
async fn perform(
    client: &Client,
    link: &Link,
    next: Next,
    call: &mut Option<Call>,
    in_order: Option<OnReply>,
) -> Result<Option<relay_message::Body>, Error> {
    match next {
        Next::Ask(request) => {
            let timeout = client.inner.config.request_timeout;
            return link.request_in_order(*request, timeout, in_order).await.map(Some);
        }
        Next::Join(group) => *call = Some(Call::join(client.clone(), *group, None).await?),
        Next::AwaitDevice(device) => call.as_ref().ok_or(SETTLED)?.wait_for_device(&device).await?,
        Next::KeepOnly(device) => call.as_ref().ok_or(SETTLED)?.keep_only(&device).await?,
        // Whoever drives the ring waits for these.
        Next::Pause(_) | Next::AwaitOutcome | Next::Over => {}
    }
    Ok(None)
}
