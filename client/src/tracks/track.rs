//! Tracks of a room: ours and those of others.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use supernode_calls::room::RemoteId;
use supernode_e2ee::TrackInfo;
use supernode_proto::{
    control::TrackKind,
    limits,
    object::{Flags, TrackAlias, Visible},
};
use supernode_session::Demand;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    Frame, FrameTimes,
    room::{Member, Opened, Room},
    stats::{Counters, Direction, TrackStats},
    sync::lock,
    tracks::frame::unix_us,
    wire::link::Link,
};

/// Where a track is on the current connection.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) link: Arc<Link>,
    pub(crate) alias: TrackAlias,
}

/// A track of ours; lives through reconnects, each of which gives it a new alias.
pub(crate) struct LocalTrack {
    pub(crate) kind: TrackKind,
    pub(crate) info: TrackInfo,
    /// Whether frames show their activity.
    pub(crate) activity: bool,
    pub(crate) counters: Counters,
    route: Mutex<Option<Route>>,
    keyframe_requests: watch::Sender<u64>,
    demand: watch::Sender<Demand>,
}

impl LocalTrack {
    pub(crate) fn new(kind: TrackKind, info: TrackInfo, activity: bool) -> Self {
        Self {
            kind,
            info,
            activity,
            counters: Counters::default(),
            route: Mutex::default(),
            keyframe_requests: watch::Sender::new(0),
            demand: watch::Sender::new(Demand::default()),
        }
    }

    pub(crate) fn route(&self) -> Option<Route> {
        lock(&self.route).clone()
    }

    pub(crate) fn set_route(&self, route: Option<Route>) {
        *lock(&self.route) = route;
        self.set_demand(Demand::default());
    }

    pub(crate) fn set_demand(&self, demand: Demand) {
        self.demand.send_modify(|known| *known = known.followed_by(demand));
    }

    pub(crate) fn demand(&self) -> watch::Receiver<Demand> {
        self.demand.subscribe()
    }

    pub(crate) fn request_keyframe(&self) {
        self.keyframe_requests.send_modify(|requests| *requests += 1);
    }

    pub(crate) fn keyframe_requests(&self) -> watch::Receiver<u64> {
        self.keyframe_requests.subscribe()
    }

    pub(crate) fn stats(&self) -> TrackStats {
        let stats = self.counters.snapshot(Direction::Sent, None, self.kind, &self.info.name);
        TrackStats { demand: Some(*self.demand.borrow()), ..stats }
    }
}

/// A track of another member, whose label opened under the room's keys.
pub struct RemoteTrack {
    pub(crate) room: Weak<Room>,
    pub(crate) kind: TrackKind,
    pub(crate) info: TrackInfo,
    pub(crate) publisher: Member,
    pub(crate) counters: Counters,
    route: Mutex<Option<Route>>,
    sink: Mutex<Option<Sink>>,
    finished: AtomicBool,
}

/// Where the frames of a subscribed track go.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    /// Bytes of frames that may still wait to be read.
    pub(crate) room_bytes: Arc<Semaphore>,
}

/// What a subscription hears, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Arrival {
    Frame(Frame),
    StreamBegan {
        group: u64,
    },
    StreamEnded {
        group: u64,
        whole: bool,
    },
    /// The relay says that the track is no more.
    TrackEnded,
}

impl RemoteTrack {
    pub(crate) fn new(room: Weak<Room>, kind: TrackKind, info: TrackInfo, publisher: Member) -> Self {
        Self {
            room,
            kind,
            info,
            publisher,
            counters: Counters::default(),
            route: Mutex::default(),
            sink: Mutex::default(),
            finished: AtomicBool::new(false),
        }
    }

    /// What it carries.
    pub fn kind(&self) -> TrackKind {
        self.kind
    }

    /// Its name, codec and codec parameters, as its publisher sealed them.
    pub fn info(&self) -> &TrackInfo {
        &self.info
    }

    /// Who publishes it.
    pub fn publisher(&self) -> Member {
        self.publisher
    }

    /// Whether its publisher sent the end-of-track mark.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Relaxed)
    }

    pub(crate) fn route(&self) -> Option<Route> {
        lock(&self.route).clone()
    }

    pub(crate) fn set_route(&self, route: Option<Route>) {
        *lock(&self.route) = route;
    }

    /// Its objects come from where it is.
    pub(crate) fn hook(self: &Arc<Self>) {
        if let Some(Route { link, alias }) = self.route() {
            lock(&link.tracks).insert(alias, self.clone());
        }
    }

    /// They do not come any more.
    pub(crate) fn unhook(&self) {
        if let Some(Route { link, alias }) = self.route() {
            lock(&link.tracks).remove(&alias);
        }
    }

    /// Which it is of its publisher's.
    pub(crate) fn id(&self) -> RemoteId {
        RemoteId { publisher: self.publisher, track: self.info.id }
    }

    pub(crate) fn sink(&self) -> Option<Sink> {
        lock(&self.sink).clone()
    }

    pub(crate) fn set_sink(&self, sink: Option<Sink>) {
        *lock(&self.sink) = sink;
    }

    pub(crate) fn stats(&self) -> TrackStats {
        self.counters.snapshot(Direction::Received, Some(self.publisher), self.kind, &self.info.name)
    }

    /// Opens an object and passes it to the subscription. An object whose keys are still on their way waits in the
    /// room.
    pub(crate) fn handle_object(self: &Arc<Self>, visible: Visible, sealed: Bytes, wire_bytes: usize) {
        let Some(room) = self.room.upgrade() else { return };
        match room.open(self, visible, &sealed, wire_bytes) {
            Opened::Payload(payload) => self.deliver(visible, &payload, wire_bytes),
            Opened::Later => {}
            Opened::Bad => self.counters.count_undecryptable(),
        }
    }

    pub(crate) fn deliver(&self, visible: Visible, payload: &[u8], wire_bytes: usize) {
        let Some((times, codec)) = FrameTimes::split(payload) else {
            self.counters.count_undecryptable();
            return;
        };
        if visible.flags.contains(Flags::END_OF_TRACK) {
            self.finished.store(true, Relaxed);
            if let Some(room) = self.room.upgrade() {
                room.handle_track_finished(self);
            }
        } else {
            self.counters.count_object(wire_bytes);
            self.counters.count_arrival(unix_us(), times.captured_at_us);
        }
        let Visible { group, object, flags, layer } = visible;
        let payload = Bytes::copy_from_slice(codec);
        self.notify(Arrival::Frame(Frame { group, object, flags, layer, times, payload }));
    }

    /// Waits until a reader of data has room for one more frame; other kinds do not wait.
    pub(crate) async fn wait_for_reader(&self) {
        if self.kind == TrackKind::Data
            && let Some(sink) = self.sink()
        {
            // Gone, it reads nothing any more.
            drop(sink.room_bytes.acquire_many(limits::OBJECT_BYTES_MAX).await);
            drop(sink.arrivals.reserve().await);
        }
    }

    /// Tells the subscription; what does not fit its queue is dropped and counted.
    pub(crate) fn notify(&self, arrival: Arrival) {
        let Some(sink) = self.sink() else { return };
        if let Arrival::Frame(frame) = &arrival {
            match sink.room_bytes.try_acquire_many(frame.payload.len() as u32) {
                Ok(room) => room.forget(),
                Err(_) => return self.counters.count_dropped(),
            }
        }
        if let Err(mpsc::error::TrySendError::Full(Arrival::Frame(frame))) = sink.arrivals.try_send(arrival) {
            sink.room_bytes.add_permits(frame.payload.len());
            self.counters.count_dropped();
        }
    }
}

impl std::fmt::Debug for RemoteTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteTrack").field("kind", &self.kind).finish_non_exhaustive()
    }
}
