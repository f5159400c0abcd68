//! What a client's acknowledgements say: QUIC's congestion controller, with a count of what arrived.

use std::{any::Any, cell::Cell, sync::Arc, time::Instant};

use quinn_proto::{
    RttEstimator, Transmit,
    congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig},
};

/// A window that nothing fills, and for which quinn-proto does not pace.
const UNLIMITED: u64 = 1 << 40;

thread_local! {
    /// Whether this thread builds the last packet of a connection. QUIC lends its controllers to nobody, and whatever they
    /// share with us would be fetched from memory for each packet.
    static IS_GOODBYE: Cell<bool> = const { Cell::new(false) };
}

/// Makes a [`Meter`] around Cubic for each path.
#[derive(Debug, Default)]
pub(crate) struct Metered(Arc<CubicConfig>);

/// Cubic as it is, until the connection is closed; it only counts.
#[derive(Clone)]
struct Meter {
    inner: Cubic,
    acked_bytes: u64,
}

/// Bytes that a connection's peer has acknowledged on its current path.
pub(crate) fn acked_bytes(quic: &quinn_proto::Connection) -> u64 {
    // The trait can be looked into by value only; the copy is some two hundred bytes.
    let copy = quic.congestion_state().clone_box().into_any();
    copy.downcast::<Meter>().map_or(0, |meter| meter.acked_bytes)
}

/// What a connection that is closed sends: its last packet, which says so, does not wait. It needs no room (RFC 9002
/// section 2), but quinn-proto asks for it while data waits, which is never sent any more; then a client with a full path
/// would not learn why it was let go.
pub(crate) fn poll_goodbye(quic: &mut quinn_proto::Connection, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
    IS_GOODBYE.set(true);
    let transmit = quic.poll_transmit(now, 1, buffer);
    IS_GOODBYE.set(false);
    transmit
}

impl ControllerFactory for Metered {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Meter { inner: Cubic::new(self.0.clone(), now, current_mtu), acked_bytes: 0 })
    }
}

impl Controller for Meter {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.acked_bytes += bytes;
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if IS_GOODBYE.get() { UNLIMITED } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
