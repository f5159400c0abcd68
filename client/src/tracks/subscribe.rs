//! Receiving a track of somebody else.

use std::{sync::Arc, time::Duration};

use supernode_calls::{Order, Turn};
use supernode_proto::{
    control::{RequestKeyframe, Subscribe, TrackKind, client_message},
    object::{Flags, Layer},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    Call, Error, Frame, RemoteTrack,
    runtime::sleep_until,
    tracks::track::{Arrival, Sink},
    wire::clock,
};

/// Frames that may wait to be read, and what is said of their streams: twenty seconds of audio.
const ARRIVALS_MAX: usize = 1024;
/// Bytes of frames that may wait to be read: ten seconds of a picture at 12 Mbit/s, and several frames of any size.
const ARRIVALS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longer than any hold.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// What of a track to receive, and how patiently.
#[derive(Debug, Clone, Copy)]
pub struct SubscribeOptions {
    /// Highest temporal layer, 0 to 7. Default 7, all.
    pub temporal_layer_max: u8,
    /// Highest spatial layer, 0 to 7. Default 7, all.
    pub spatial_layer_max: u8,
    /// Queued longer than this at the relay, an object is dropped; 0, the default, takes the relay's own bound.
    pub max_age_ms: u32,
    /// Whether it is what the user looks at: sent before other tracks of its kind, and given up last. Default no.
    pub focus: bool,
    /// Of tracks that show their activity: sent only while its publisher is among so many most active ones. Default 0,
    /// always.
    pub speakers_max: u32,
    /// How long a frame waits for those before it. Zero gives frames out as they come.
    pub hold: Duration,
}

impl SubscribeOptions {
    /// Everything, in an order that suits the kind: audio as it comes, since a jitter buffer follows that sorts it;
    /// video in order, since decoders need it so, waiting at most 250 ms; data in order, whatever it takes.
    pub fn for_kind(kind: TrackKind) -> Self {
        let hold = match kind {
            TrackKind::Video | TrackKind::Screen | TrackKind::Data => Duration::from_millis(250),
            _ => Duration::ZERO,
        };
        Self {
            temporal_layer_max: Layer::MAX,
            spatial_layer_max: Layer::MAX,
            max_age_ms: 0,
            focus: false,
            speakers_max: 0,
            hold,
        }
    }

    /// As they are asked of the relay.
    fn terms(&self) -> Subscribe {
        Subscribe {
            alias: 0,
            temporal_layer_max: self.temporal_layer_max.into(),
            spatial_layer_max: self.spatial_layer_max.into(),
            max_age_ms: self.max_age_ms,
            focus: self.focus,
            speakers_max: self.speakers_max,
        }
    }
}

impl Call {
    /// Subscribes to a track. One subscription per track.
    ///
    /// # Errors
    /// [`Error::State`] if there is a subscription already, or the track is of another call; [`Error::Refused`] if the
    /// track is gone; [`Error::CallEnded`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn subscribe(&self, track: &Arc<RemoteTrack>, options: SubscribeOptions) -> Result<Subscription, Error> {
        if !track.room.upgrade().is_some_and(|room| Arc::ptr_eq(&room, &self.room)) {
            return Err(Error::State("the track is of another call"));
        }
        if let Some(end) = self.room.end() {
            return Err(Error::CallEnded(end));
        }
        let (arrivals, receiver) = mpsc::channel(ARRIVALS_MAX);
        let room_bytes = Arc::new(Semaphore::new(ARRIVALS_BYTES_MAX));
        let sink = Sink { arrivals, room_bytes: room_bytes.clone() };
        let asked = self.room.subscribe(track, options.terms(), sink)?;
        // From here on the drop of the subscription cleans up.
        let subscription = Subscription {
            call: self.clone(),
            track: track.clone(),
            arrivals: receiver,
            room_bytes,
            order: match track.kind() {
                TrackKind::Data => Order::reliable(options.hold),
                _ => Order::new(options.hold),
            },
            ended: false,
        };
        // Without a route the track's publisher is away: it is subscribed to when it is announced again.
        if let Some((link, request)) = asked {
            self.client.inner.request(&link, request).await?;
        }
        Ok(subscription)
    }
}

/// The frames of a track. Survives reconnects of both sides. Dropped, it unsubscribes.
pub struct Subscription {
    call: Call,
    track: Arc<RemoteTrack>,
    arrivals: mpsc::Receiver<Arrival>,
    room_bytes: Arc<Semaphore>,
    order: Order,
    ended: bool,
}

impl Subscription {
    /// The track.
    pub fn track(&self) -> &Arc<RemoteTrack> {
        &self.track
    }

    /// The next frame in the order of (group, object), as far as the hold allows; `None` after the last: when the
    /// publisher has finished the track, or the call is over. A track that only vanished may come back. Cancel safe.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            while let Ok(arrival) = self.arrivals.try_recv() {
                self.take(arrival);
            }
            // After the end nothing more comes: what waits need not wait any longer.
            let now = if self.ended { clock::moment() + FAR } else { clock::moment() };
            let turn = self.order.turn(now);
            self.track.counters.count_lost(self.order.take_lost());
            // One that came too late was counted as lost when it was given up.
            let _ = self.order.take_late();
            match turn {
                Turn::Frame(frame) if frame.flags.contains(Flags::END_OF_TRACK) => {
                    self.ended = true;
                    return None;
                }
                Turn::Frame(frame) => return Some(frame),
                Turn::Wait(until) => {
                    tokio::select! {
                        arrival = self.arrivals.recv() => self.take_or_end(arrival),
                        () = sleep_until(until) => {}
                    }
                }
                Turn::Empty if self.ended => return None,
                Turn::Empty => {
                    let arrival = self.arrivals.recv().await;
                    self.take_or_end(arrival);
                }
            }
        }
    }

    /// The next frame as it came, the end mark too; `None` when there will be none. Cancel safe.
    pub(crate) async fn next_arrived(&mut self) -> Option<Frame> {
        while !self.ended {
            match self.arrivals.recv().await {
                Some(Arrival::Frame(frame)) => {
                    self.room_bytes.add_permits(frame.payload.len());
                    return Some(frame);
                }
                Some(Arrival::StreamBegan { .. } | Arrival::StreamEnded { .. }) => {}
                Some(Arrival::TrackEnded) | None => self.ended = true,
            }
        }
        None
    }

    /// Asks the publisher for a key frame.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Disconnected`] while the track's publisher or we are away; [`Error::TimedOut`].
    pub async fn request_keyframe(&self) -> Result<(), Error> {
        let route = self.track.route().ok_or(Error::Disconnected)?;
        let request = client_message::Body::RequestKeyframe(RequestKeyframe { alias: route.alias.value() });
        self.call.client.inner.request(&route.link, request).await.map(drop)
    }

    fn take_or_end(&mut self, arrival: Option<Arrival>) {
        match arrival {
            Some(arrival) => self.take(arrival),
            None => self.ended = true,
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Frame(frame) => {
                self.room_bytes.add_permits(frame.payload.len());
                self.order.push(frame, clock::moment());
            }
            Arrival::StreamBegan { group } => self.order.stream_began(group),
            Arrival::StreamEnded { group, whole } => self.order.stream_ended(group, whole),
            Arrival::TrackEnded => self.ended = true,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.call.room.unsubscribe(&self.track);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("track", &self.track).finish_non_exhaustive()
    }
}
