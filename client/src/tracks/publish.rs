//! Sending a track of one's own.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use supernode_calls::{Ends, FRAME_HEADER_BYTES, Fate, LANES, Plan, Sending, room::LocalId};
use supernode_e2ee::{SEAL_OVERHEAD_BYTES_MAX, TrackInfo};
use supernode_proto::{
    close::StreamCode,
    control::{TrackKind, UnpublishTrack, client_message},
    limits,
    object::{Flags, Hop, Layer, Visible},
};
use supernode_session::{put_datagram, put_object, put_stream_head};
use tokio::sync::watch;

use crate::{
    Call, Demand, Error, FrameTimes, OutgoingFrame,
    runtime::{self, sleep, spawn, timeout},
    tracks::{
        frame::unix_us,
        track::{LocalTrack, Route},
    },
    wire::{bearer::SendStream, session},
};

/// Largest codec payload of a frame, in bytes.
pub const FRAME_BYTES_MAX: usize = limits::OBJECT_BYTES_MAX as usize - SEAL_OVERHEAD_BYTES_MAX - FRAME_HEADER_BYTES;
const PRIORITY_AUDIO: u8 = 16;
const PRIORITY_DATA: u8 = 48;
const PRIORITY_VIDEO: u8 = 64;
/// Between temporal layers.
const PRIORITY_STEP: u8 = 8;

/// How a track is published.
#[derive(Debug, Clone, Copy)]
pub struct PublishOptions {
    /// How long after it reached the relay a frame may wait there, and how long sending it may take here; at most
    /// [`limits::OBJECT_TTL_MS_MAX`]. Default 2,000.
    pub ttl_ms: u32,
    /// Show the relay how lively each frame is, so that others can ask it for the most active speakers only. It learns
    /// who speaks when. Default no.
    pub activity: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { ttl_ms: 2_000, activity: false }
    }
}

impl Call {
    /// Announces a track to the others. [`Publisher::wanted`] waits for the first of them to subscribe: what is sent
    /// before that goes nowhere.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] if the info is too large to be sealed into a label; [`Error::Refused`] above the relay's
    /// limits; [`Error::CallEnded`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn publish(&self, kind: TrackKind, info: TrackInfo, options: PublishOptions) -> Result<Publisher, Error> {
        if let Some(end) = self.room.end() {
            return Err(Error::CallEnded(end));
        }
        let link = self.client.inner.link().await?;
        let (id, track) = self.room.add_local(kind, info, options.activity);
        let publisher = Publisher {
            id,
            keyframes: track.keyframe_requests(),
            track,
            call: self.clone(),
            ttl_ms: options.ttl_ms.min(limits::OBJECT_TTL_MS_MAX),
            sending: Sending::new(kind),
            streams: Default::default(),
            finished: false,
            plain: Vec::new(),
            sealed: Vec::new(),
        };
        session::publish(&self.client.inner, &link, &self.room, publisher.id).await?;
        Ok(publisher)
    }
}

/// A track of ours. While the session is down frames are dropped and counted; afterwards a video track goes on with the
/// next key frame. Dropped, the track is taken back; after [`Self::finish`] not before its time to live has passed.
pub struct Publisher {
    call: Call,
    id: LocalId,
    track: Arc<LocalTrack>,
    ttl_ms: u32,
    sending: Sending,
    /// Those that are open.
    streams: [Option<SendStream>; LANES],
    finished: bool,
    keyframes: watch::Receiver<u64>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Publisher {
    /// Waits until somebody subscribes.
    ///
    /// # Errors
    /// [`Error::CallEnded`].
    pub async fn wanted(&self) -> Result<(), Error> {
        self.wanted_by(1).await
    }

    /// Waits until so many subscribe.
    ///
    /// # Errors
    /// [`Error::CallEnded`].
    pub async fn wanted_by(&self, wanted: u32) -> Result<(), Error> {
        self.wait_for_demand(|demand| demand.subscribers >= wanted).await.map(|_| ())
    }

    async fn wait_for_demand(&self, is_it: impl Fn(&Demand) -> bool) -> Result<Demand, Error> {
        let mut demand = self.track.demand();
        let mut changed = self.call.room.changed.subscribe();
        loop {
            let now = *demand.borrow_and_update();
            if is_it(&now) {
                return Ok(now);
            }
            if let Some(end) = self.call.room.end() {
                return Err(Error::CallEnded(end));
            }
            tokio::select! {
                _ = demand.changed() => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// How many subscribe now. At zero there is no point in encoding.
    pub fn subscribers(&self) -> u32 {
        self.demand().subscribers
    }

    /// What subscribers can take now: for an encoder that need not make what nobody gets.
    pub fn demand(&self) -> Demand {
        *self.track.demand().borrow()
    }

    /// Waits until subscribers can take something else than `known`, and returns it.
    ///
    /// # Errors
    /// [`Error::CallEnded`].
    pub async fn demand_other_than(&self, known: Demand) -> Result<Demand, Error> {
        self.wait_for_demand(|demand| *demand != known).await
    }

    /// Whether a receiver has asked for a key frame since the last time this was asked.
    pub fn take_keyframe_request(&mut self) -> bool {
        let asked = self.keyframes.has_changed().unwrap_or(false);
        self.keyframes.mark_unchanged();
        asked
    }

    /// Seals and sends a frame. Audio goes as datagrams, or as a stream of its own if it is too large for one; video as a
    /// stream for each group and temporal layer, without the layers that nobody is sent now, and not at all while nobody is sent any. Waits while the connection
    /// takes no more, at most the track's time to live, and then gives the frame up: dropped frames are counted, they are
    /// no error.
    ///
    /// Data goes on one stream, reliable and in order, and waits as long as it takes; who subscribes gets what is sent
    /// from then on. What is under way when the connection breaks is lost and counted. Not cancel safe.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`FRAME_BYTES_MAX`]; [`Error::EndToEnd`] if the keys are used up; [`Error::CallEnded`].
    pub async fn send(&mut self, frame: &OutgoingFrame<'_>) -> Result<(), Error> {
        if let Some(end) = self.call.room.end() {
            return Err(Error::CallEnded(end));
        }
        if frame.payload.len() > FRAME_BYTES_MAX {
            let (value, bound) = (frame.payload.len() as u64, FRAME_BYTES_MAX as u64);
            return Err(Error::TooLarge { field: "payload", value, bound });
        }
        let layer = layer_of(frame)?;
        let mut flags = if frame.keyframe { Flags::INDEPENDENT } else { Flags::default() };
        if frame.discardable {
            flags = flags | Flags::DISCARDABLE;
        }
        if self.track.activity {
            flags = flags.with_activity(frame.activity);
        }
        if self.call.room.is_silent() {
            self.track.counters.count_dropped();
            return Ok(());
        }
        let (route, demand) = (self.track.route(), self.demand());
        let plan = self.sending.plan(frame, flags, layer, route.as_ref().map(|route| route.link.generation), &demand);
        self.prepare(&plan);
        if plan.fate == Fate::Withheld {
            return Ok(());
        }
        let sent = self.carry_out(plan.fate, route, frame, false).await?;
        match sent {
            Some(bytes) => self.track.counters.count_object(bytes),
            None => self.track.counters.count_dropped(),
        }
        Ok(())
    }

    /// Ends the track with a mark that reaches every subscriber after all frames, and waits until the relay has it all.
    ///
    /// # Errors
    /// [`Error::CallEnded`]; [`Error::Disconnected`] if the mark could not be sent.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.mark_end().await
    }

    /// As [`Self::finish`], and waits until nobody subscribes any more, because all have read the mark; at most so long.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub async fn finish_heard(mut self, at_most: Duration) -> Result<(), Error> {
        self.mark_end().await?;
        // Whoever does not read to the end is not waited for.
        let heard = self.wait_for_demand(|demand| demand.subscribers == 0);
        timeout(at_most, heard).await.unwrap_or_else(|_| Ok(self.demand())).map(|_| ())
    }

    async fn mark_end(&mut self) -> Result<(), Error> {
        if let Some(end) = self.call.room.end() {
            return Err(Error::CallEnded(end));
        }
        self.finished = true;
        let (route, joined) = (self.track.route(), self.demand().joined);
        let connection = route.as_ref().map(|route| route.link.generation);
        let (plan, mark) = (self.sending.plan_end(connection, joined), OutgoingFrame::independent(&[], 0));
        self.prepare(&plan);
        let mut sent = self.carry_out(plan.fate, route.clone(), &mark, true).await?;
        let ttl = Duration::from_millis(self.ttl_ms.into());
        for mut stream in self.streams.iter_mut().filter_map(Option::take) {
            delivered(&mut stream, ttl).await;
        }
        if let Some(again) = self.sending.plan_end_again(plan.fate, connection) {
            self.prepare(&again);
            sent = self.carry_out(again.fate, route, &mark, true).await?.or(sent);
        }
        // While nothing may be sent, the others learn from the relay that the track is over.
        if sent.is_none() && !self.call.room.is_silent() {
            return Err(Error::Disconnected);
        }
        Ok(())
    }

    /// What comes before a frame.
    fn prepare(&mut self, plan: &Plan) {
        if let Some(ends) = plan.ends {
            for mut stream in self.streams.iter_mut().filter_map(Option::take) {
                match ends {
                    Ends::Whole => stream.finish(),
                    Ends::Broken => stream.reset(StreamCode::CANCELLED),
                }
            }
        }
        if plan.wants_keyframe {
            self.track.request_keyframe();
        }
    }

    /// Returns the frame's bytes on the wire, or `None` if it was dropped.
    async fn carry_out(
        &mut self,
        fate: Fate,
        route: Option<Route>,
        frame: &OutgoingFrame<'_>,
        reliably: bool,
    ) -> Result<Option<usize>, Error> {
        match (fate, route) {
            (Fate::Alone(visible), Some(route)) => self.send_alone(route, visible, frame, reliably).await,
            (Fate::OnLane { lane, begins, visible }, Some(route)) => {
                self.send_on_lane(route, lane, begins, visible, frame).await
            }
            _ => Ok(None),
        }
    }

    /// A frame that is a group of its own.
    async fn send_alone(
        &mut self,
        route: Route,
        visible: Visible,
        frame: &OutgoingFrame<'_>,
        reliably: bool,
    ) -> Result<Option<usize>, Error> {
        let hop = self.hop(&route, PRIORITY_AUDIO);
        self.sealed.clear();
        let length = put_datagram(&mut self.sealed, hop, visible);
        if !self.seal(frame, &visible)? {
            return Ok(None);
        }

        let bound = route.link.connection.datagram_bytes_max().min(limits::DATAGRAM_BYTES_MAX);
        if !reliably && self.sealed.len() <= bound {
            let wait_max = Duration::from_millis(self.ttl_ms.into());
            return Ok(route.link.send_datagram(&self.sealed, wait_max, &self.track));
        }
        let sealed = self.sealed.split_off(length);
        let ttl = Duration::from_millis(self.ttl_ms.into());
        let sent = timeout(ttl, async {
            let mut stream = open_stream(&route, hop, visible.group, 0).await?;
            write_object(&mut stream, visible, &sealed).await?;
            Some(stream)
        });
        let Ok(Some(mut stream)) = sent.await else { return Ok(None) };
        if reliably {
            delivered(&mut stream, ttl).await;
        }
        Ok(Some(length + sealed.len()))
    }

    /// A frame on the stream of a lane. Data waits as long as it takes, a picture at most its time to live.
    async fn send_on_lane(
        &mut self,
        route: Route,
        lane: usize,
        begins: bool,
        visible: Visible,
        frame: &OutgoingFrame<'_>,
    ) -> Result<Option<usize>, Error> {
        self.sealed.clear();
        let (priority, at_most) = match self.track.kind {
            TrackKind::Data => (PRIORITY_DATA, None),
            _ => (PRIORITY_VIDEO + PRIORITY_STEP * lane as u8, Some(Duration::from_millis(self.ttl_ms.into()))),
        };
        if !self.seal(frame, &visible)? {
            // Nothing may be sent now. The rest of a picture's group needs this frame; a stream of data goes on, if it has begun.
            if at_most.is_some() || begins {
                self.give_lane_up(lane);
            }
            return Ok(None);
        }
        let hop = self.hop(&route, priority);
        let stream = match begins {
            true => within(at_most, open_stream(&route, hop, visible.group, lane as u8)).await,
            // There is none if a frame before this one was not waited for.
            false => self.streams[lane].take(),
        };
        if let Some(mut stream) = stream {
            if within(at_most, write_object(&mut stream, visible, &self.sealed)).await.is_some() {
                self.streams[lane] = Some(stream);
                return Ok(Some(self.sealed.len()));
            }
            if at_most.is_some() {
                stream.reset(StreamCode::EXPIRED);
            }
        }
        self.give_lane_up(lane);
        Ok(None)
    }

    /// A frame was not sent, and what comes after it on the lane is of no use.
    fn give_lane_up(&mut self, lane: usize) {
        let failed = self.sending.handle_failed(lane);
        self.prepare(&failed);
    }

    /// Appends the sealed frame to `self.sealed`, unless nothing may be sent: whether it did.
    fn seal(&mut self, frame: &OutgoingFrame<'_>, visible: &Visible) -> Result<bool, Error> {
        let times = FrameTimes { captured_at_us: unix_us(), presentation_us: frame.presentation_us };
        let Self { call, track, plain, sealed, .. } = self;
        call.room.seal(&track.info.id, visible, times, frame.payload, plain, sealed)
    }

    fn hop(&self, route: &Route, priority: u8) -> Hop {
        Hop { alias: route.alias, priority, ttl_ms: self.ttl_ms }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if !self.finished {
            let left = self.sending.give_up();
            self.prepare(&left);
        }
        self.call.room.remove_local(self.id, &self.track);
        let Some(Route { link, alias }) = self.track.route() else { return };
        let unpublish = client_message::Body::UnpublishTrack(UnpublishTrack { alias: alias.value() });
        // The relay forgets what waits for subscribers when the track goes, the end mark too: until it has expired, the
        // track stays.
        if self.finished && runtime::is_running() {
            let expired = Duration::from_millis(self.ttl_ms.into());
            spawn(async move {
                tokio::select! {
                    () = sleep(expired) => drop(link.send(unpublish, None)),
                    _ = link.connection.closed() => {}
                }
            });
        } else {
            link.send(unpublish, None);
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("kind", &self.track.kind).finish_non_exhaustive()
    }
}

/// # Errors
/// [`Error::TooLarge`] above [`Layer::MAX`].
fn layer_of(frame: &OutgoingFrame<'_>) -> Result<Layer, Error> {
    let too_high = |field, value: u8| Error::TooLarge { field, value: value.into(), bound: Layer::MAX.into() };
    let OutgoingFrame { temporal_layer, spatial_layer, .. } = *frame;
    let field = if temporal_layer > Layer::MAX { "temporal_layer" } else { "spatial_layer" };
    Layer::new(temporal_layer, spatial_layer).ok_or_else(|| too_high(field, temporal_layer.max(spatial_layer)))
}

/// As long as it takes, or at most so long.
async fn within<T>(at_most: Option<Duration>, doing: impl Future<Output = Option<T>>) -> Option<T> {
    match at_most {
        Some(at_most) => timeout(at_most, doing).await.ok().flatten(),
        None => doing.await,
    }
}

async fn open_stream(route: &Route, hop: Hop, group: u64, temporal_layer: u8) -> Option<SendStream> {
    let mut stream = route.link.connection.open_uni(-i32::from(hop.priority)).await.ok()?;
    let mut head = BytesMut::new();
    put_stream_head(&mut head, hop, group, temporal_layer);
    stream.write(head.freeze()).await.ok()?;
    Some(stream)
}

async fn write_object(stream: &mut SendStream, visible: Visible, sealed: &[u8]) -> Option<()> {
    let mut head = BytesMut::new();
    put_object(&mut head, visible, sealed.len() as u32);
    stream.write(head.freeze()).await.ok()?;
    stream.write_all(sealed).await.ok()
}

/// Ends a stream and waits until the relay has all of it.
async fn delivered(stream: &mut SendStream, at_most: Duration) {
    stream.finish();
    let _ = timeout(at_most, stream.delivered()).await;
}
