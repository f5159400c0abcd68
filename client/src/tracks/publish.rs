//! Sending a track of one's own.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use quinn::{SendStream, VarInt};
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
    Call, Error,
    tracks::{
        frame::{FrameTimes, HEADER_BYTES, OutgoingFrame, unix_us},
        track::{Demand, LocalTrack, Route},
    },
    wire::session,
};

/// Largest codec payload of a frame, in bytes.
pub const FRAME_BYTES_MAX: usize = limits::OBJECT_BYTES_MAX as usize - SEAL_OVERHEAD_BYTES_MAX - HEADER_BYTES;
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
        let track = Arc::new(LocalTrack::new(kind, info, options.activity));
        self.room.add_local(track.clone());
        let publisher = Publisher {
            keyframes: track.keyframe_requests(),
            track,
            call: self.clone(),
            ttl_ms: options.ttl_ms.min(limits::OBJECT_TTL_MS_MAX),
            next: None,
            lanes: Default::default(),
            generation: 0,
            pause: Pause::default(),
            spatial_gap: Layer::MAX + 1,
            served: 0,
            finished: false,
            plain: Vec::new(),
            sealed: Vec::new(),
        };
        session::publish(&self.client.inner, &link, &self.room, &publisher.track).await?;
        Ok(publisher)
    }
}

/// A track of ours. While the session is down frames are dropped and counted; afterwards a video track goes on with the
/// next key frame. Dropped, the track is taken back; after [`Self::finish`] not before its time to live has passed.
pub struct Publisher {
    call: Call,
    track: Arc<LocalTrack>,
    ttl_ms: u32,
    /// Group and object of the next frame; `None` while a key frame is needed to begin the first group.
    next: Option<(u64, u64)>,
    /// One stream per temporal layer of the current group.
    lanes: [Lane; Layer::MAX as usize + 1],
    /// Of the connection that the lanes are on.
    generation: u64,
    pause: Pause,
    /// Lowest spatial layer of which a frame was left out.
    spatial_gap: u8,
    /// How many subscribed when the stream of a data track began.
    served: u32,
    finished: bool,
    keyframes: watch::Receiver<u64>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

#[derive(Default)]
enum Lane {
    #[default]
    Unused,
    Open(SendStream),
    /// What follows in this group would be undecodable.
    Broken,
}

/// Whether a picture rests because nobody is sent it any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Nobody was sent it yet on this connection: what is sent now, the first subscriber gets.
    #[default]
    Early,
    Running,
    Resting,
    /// Somebody is to be sent it again, and a key frame has been asked for.
    Waking,
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
        let visual = matches!(self.track.kind, TrackKind::Video | TrackKind::Screen);
        if visual && (self.rests(begins_group(frame)) || self.is_withheld(frame)) {
            // Nobody is sent it, and without a number of its own nobody waits for it.
            return Ok(());
        }
        let sent = match self.track.kind {
            TrackKind::Video | TrackKind::Screen => self.send_layered(frame, flags, layer).await?,
            TrackKind::Data => self.send_ordered(frame, flags | Flags::INDEPENDENT).await?,
            _ => self.send_independent(frame, flags | Flags::END_OF_GROUP, false).await?,
        };
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
        tokio::time::timeout(at_most, heard).await.unwrap_or_else(|_| Ok(self.demand())).map(|_| ())
    }

    async fn mark_end(&mut self) -> Result<(), Error> {
        if let Some(end) = self.call.room.end() {
            return Err(Error::CallEnded(end));
        }
        self.finished = true;
        let mark = OutgoingFrame::independent(&[], 0);
        let flags = Flags::INDEPENDENT | Flags::END_OF_GROUP | Flags::END_OF_TRACK;
        let sent = match (self.track.kind, &self.lanes[0]) {
            (TrackKind::Data, _) => self.send_ordered(&mark, flags).await?,
            (TrackKind::Video | TrackKind::Screen, Lane::Open(_)) => {
                let end = OutgoingFrame { keyframe: false, ..mark };
                self.send_layered(&end, Flags::END_OF_GROUP | Flags::END_OF_TRACK, Layer::default()).await?
            }
            _ => {
                self.close_lanes();
                self.send_independent(&mark, flags, true).await?
            }
        };
        // While nothing may be sent, the others learn from the relay that the track is over.
        if sent.is_none() && !self.call.room.is_silent() {
            return Err(Error::Disconnected);
        }
        let ttl = Duration::from_millis(self.ttl_ms.into());
        for lane in &mut self.lanes {
            if let Lane::Open(mut stream) = std::mem::take(lane) {
                delivered(&mut stream, ttl).await;
            }
        }
        Ok(())
    }

    /// A frame that is a group of its own. Returns its bytes on the wire, or `None` if it was dropped.
    async fn send_independent(
        &mut self,
        frame: &OutgoingFrame<'_>,
        flags: Flags,
        reliably: bool,
    ) -> Result<Option<usize>, Error> {
        let group = self.next.map_or(0, |(group, object)| group + u64::from(object > 0));
        // Even a frame that is dropped here has its number, so that receivers see the gap.
        self.next = Some((group + 1, 0));
        let Some(route) = self.track.route() else { return Ok(None) };
        let visible = Visible { group, object: 0, flags, layer: Layer::default() };
        let hop = self.hop(&route, PRIORITY_AUDIO);
        self.sealed.clear();
        let length = put_datagram(&mut self.sealed, hop, visible);
        if !self.seal(frame, &visible)? {
            return Ok(None);
        }

        let bound = route.link.connection.max_datagram_size().unwrap_or(0).min(limits::DATAGRAM_BYTES_MAX);
        if !reliably && self.sealed.len() <= bound {
            return Ok(route.link.send_datagram(&self.sealed, Duration::from_millis(self.ttl_ms.into())));
        }
        let sealed = self.sealed.split_off(length);
        let ttl = Duration::from_millis(self.ttl_ms.into());
        let sent = tokio::time::timeout(ttl, async {
            let mut stream = open_stream(&route, hop, group, 0).await?;
            write_object(&mut stream, visible, &sealed).await?;
            Some(stream)
        });
        let Ok(Some(mut stream)) = sent.await else { return Ok(None) };
        if reliably {
            delivered(&mut stream, ttl).await;
        }
        Ok(Some(length + sealed.len()))
    }

    /// Whether nobody is sent the picture any more. It goes on with a key frame, which is asked for.
    fn rests(&mut self, keyframe: bool) -> bool {
        let Some(route) = self.track.route() else { return false };
        if route.link.generation != self.generation {
            self.pause = Pause::Early;
        }
        let wanted = self.subscribers() > 0;
        self.pause = match (self.pause, wanted) {
            (Pause::Early, false) => Pause::Early,
            (Pause::Running, false) => {
                self.close_lanes();
                Pause::Resting
            }
            (_, false) => Pause::Resting,
            (Pause::Resting, true) if !keyframe => {
                self.track.request_keyframe();
                Pause::Waking
            }
            (Pause::Waking, true) if !keyframe => Pause::Waking,
            (_, true) => Pause::Running,
        };
        matches!(self.pause, Pause::Resting | Pause::Waking)
    }

    /// Whether nobody is sent the frame's layer now. A spatial layer of which a frame was left out goes on with a frame
    /// that needs none before it, as it does behind the relay.
    fn is_withheld(&mut self, frame: &OutgoingFrame<'_>) -> bool {
        let demand = self.demand();
        if frame.keyframe && frame.spatial_layer <= self.spatial_gap {
            self.spatial_gap = Layer::MAX + 1;
        }
        if demand.subscribers == 0 {
            return false;
        }
        if frame.spatial_layer > demand.spatial_layer_max {
            self.spatial_gap = self.spatial_gap.min(frame.spatial_layer);
        }
        frame.temporal_layer > demand.temporal_layer_max || frame.spatial_layer >= self.spatial_gap
    }

    /// A frame on the stream of a data track. Whoever subscribes gets streams from their beginning only, so a new
    /// subscriber means a new stream.
    async fn send_ordered(&mut self, frame: &OutgoingFrame<'_>, flags: Flags) -> Result<Option<usize>, Error> {
        let Some(route) = self.track.route() else {
            self.close_lanes();
            return Ok(None);
        };
        let subscribers = self.subscribers();
        let goes_on = self.generation == route.link.generation && subscribers <= self.served;
        (self.generation, self.served) = (route.link.generation, subscribers);
        if !goes_on || !matches!(self.lanes[0], Lane::Open(_)) {
            self.close_lanes();
            let group = self.next.map_or(0, |(group, object)| group + u64::from(object > 0));
            self.next = Some((group, 0));
        }
        let (group, object) = self.next.unwrap_or_default();
        let visible = Visible { group, object, flags, layer: Layer::default() };
        self.sealed.clear();
        if !self.seal(frame, &visible)? {
            return Ok(None);
        }
        let mut stream = match std::mem::take(&mut self.lanes[0]) {
            Lane::Open(stream) => stream,
            _ => match open_stream(&route, self.hop(&route, PRIORITY_DATA), group, 0).await {
                Some(stream) => stream,
                None => return Ok(None),
            },
        };
        self.next = Some((group, object + 1));
        if write_object(&mut stream, visible, &self.sealed).await.is_none() {
            return Ok(None);
        }
        self.lanes[0] = Lane::Open(stream);
        Ok(Some(self.sealed.len()))
    }

    /// A frame of a group with layers.
    async fn send_layered(
        &mut self,
        frame: &OutgoingFrame<'_>,
        flags: Flags,
        layer: Layer,
    ) -> Result<Option<usize>, Error> {
        if begins_group(frame) {
            self.close_lanes();
            let group = self.next.map_or(0, |(group, object)| group + u64::from(object > 0));
            self.next = Some((group, 0));
        }
        let Some((group, object)) = self.next else { return Ok(None) };
        self.next = Some((group, object + 1));
        let Some(route) = self.track.route() else {
            self.break_lanes();
            return Ok(None);
        };
        if self.generation != route.link.generation {
            // What the new connection has not seen the beginning of is of no use on it.
            if object > 0 {
                self.break_lanes();
            }
            self.generation = route.link.generation;
        }
        let visible = Visible { group, object, flags, layer };
        self.sealed.clear();
        if !self.seal(frame, &visible)? {
            self.break_lanes();
            return Ok(None);
        }
        let index = usize::from(layer.temporal());
        let hop = self.hop(&route, PRIORITY_VIDEO + PRIORITY_STEP * layer.temporal());
        let ttl = Duration::from_millis(self.ttl_ms.into());
        let mut stream = match std::mem::replace(&mut self.lanes[index], Lane::Broken) {
            Lane::Broken => return Ok(None),
            Lane::Open(stream) => stream,
            Lane::Unused => match tokio::time::timeout(ttl, open_stream(&route, hop, group, layer.temporal())).await {
                Ok(Some(stream)) => stream,
                _ => {
                    self.break_lanes();
                    return Ok(None);
                }
            },
        };
        match tokio::time::timeout(ttl, write_object(&mut stream, visible, &self.sealed)).await {
            Ok(Some(())) => {
                self.lanes[index] = Lane::Open(stream);
                Ok(Some(self.sealed.len()))
            }
            _ => {
                reset(&mut stream, StreamCode::EXPIRED);
                self.break_lanes();
                Ok(None)
            }
        }
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

    /// The group is whole.
    fn close_lanes(&mut self) {
        for lane in &mut self.lanes {
            if let Lane::Open(mut stream) = std::mem::take(lane) {
                // A stream that the relay stopped needs no end.
                let _ = stream.finish();
            }
        }
    }

    /// The group cannot be completed: nothing of it is sent any more.
    fn break_lanes(&mut self) {
        for lane in &mut self.lanes {
            if let Lane::Open(mut stream) = std::mem::replace(lane, Lane::Broken) {
                reset(&mut stream, StreamCode::CANCELLED);
            }
        }
        self.track.request_keyframe();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if !self.finished {
            self.break_lanes();
        }
        self.call.room.remove_local(&self.track);
        let Some(Route { link, alias }) = self.track.route() else { return };
        let unpublish = client_message::Body::UnpublishTrack(UnpublishTrack { alias: alias.value() });
        match tokio::runtime::Handle::try_current() {
            // The relay forgets what waits for subscribers when the track goes, the end mark too: until it has expired,
            // the track stays.
            Ok(runtime) if self.finished => {
                let expired = Duration::from_millis(self.ttl_ms.into());
                runtime.spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(expired) => drop(link.send(unpublish, None)),
                        _ = link.connection.closed() => {}
                    }
                });
            }
            _ => drop(link.send(unpublish, None)),
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

fn begins_group(frame: &OutgoingFrame<'_>) -> bool {
    frame.keyframe && frame.spatial_layer == 0
}

async fn open_stream(route: &Route, hop: Hop, group: u64, temporal_layer: u8) -> Option<SendStream> {
    let mut stream = route.link.connection.open_uni().await.ok()?;
    stream.set_priority(-i32::from(hop.priority)).ok()?;
    let mut head = BytesMut::new();
    put_stream_head(&mut head, hop, group, temporal_layer);
    stream.write_chunk(head.freeze()).await.ok()?;
    Some(stream)
}

async fn write_object(stream: &mut SendStream, visible: Visible, sealed: &[u8]) -> Option<()> {
    let mut head = BytesMut::new();
    put_object(&mut head, visible, sealed.len() as u32);
    stream.write_chunk(head.freeze()).await.ok()?;
    stream.write_all(sealed).await.ok()
}

/// Ends a stream and waits until the relay has all of it.
async fn delivered(stream: &mut SendStream, at_most: Duration) {
    // A stream that the relay stopped needs no end.
    let _ = stream.finish();
    let _ = tokio::time::timeout(at_most, stream.stopped()).await;
}

fn reset(stream: &mut SendStream, code: StreamCode) {
    // A stream that is gone already needs no reset.
    let _ = stream.reset(VarInt::from_u64(code.0).unwrap_or(VarInt::MAX));
}
