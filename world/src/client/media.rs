//! Objects on their way out and in. In each is a stamp, so that who hears what can be checked. In rooms with a group it is
//! sealed; in the others it stands where something sealed would.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn_proto::{Dir, ReadError, StreamId, VarInt};
use rand::RngExt;
use supernode_calls::{Ends, Fate, Frame, FrameTimes, LANES, Order, OutgoingFrame, Plan, Sending, Turn, room::LocalId};
use supernode_proto::{
    close::StreamCode,
    control::{PublishTrack, Subscribe, TrackAnnounced, TrackKind, UnpublishTrack, client_message::Body as Request},
    object::{DatagramHeader, Flags, Hop, Layer, StreamObjectHeader, TrackAlias, Visible},
};
use supernode_session::{Demand, Moment, StreamReader, put_datagram, put_object, put_stream_head};

use super::{
    Asked, Client, Context,
    groups::Heard as Opened,
    link::{Link, Stage, StreamIn},
};
use crate::judge::{Heard, Rule, TrackFact};

/// Time to live of everything.
const TTL_MS: u32 = 1_000;
/// How long an object waits for those before it.
const HOLD: Duration = Duration::from_millis(300);
/// Pictures in a group.
const GROUP: u64 = 10;
/// Serial, group and object.
const STAMP_BYTES: usize = 4 + 8 + 8;
/// The serial of an object that whoever sends it has no right to.
const FOREIGN: u32 = u32::MAX;

/// A track that it publishes, or is about to.
pub(super) struct Published {
    /// In this room.
    pub(super) room: usize,
    /// Its number in the world.
    pub(super) serial: u32,
    pub(super) kind: TrackKind,
    pub(super) alias: Option<TrackAlias>,
    /// In a room with a group: as which of ours.
    pub(super) local: Option<LocalId>,
    sending: Sending,
    demand: Demand,
    lanes: [Option<Lane>; LANES],
    due: Moment,
    frames: u64,
    wants_keyframe: bool,
}

/// A stream of a group, and what QUIC has not taken of it.
struct Lane {
    id: StreamId,
    rest: Bytes,
}

/// A track of somebody else's.
pub(super) struct Remote {
    /// In this room.
    pub(super) room: usize,
    /// It is given up.
    pub(super) is_leaving: bool,
    kind: TrackKind,
    order: Order,
    played: Option<(u64, u64)>,
}

/// How to ask for a track.
pub(super) fn subscription(alias: TrackAlias, (temporal, spatial): (u8, u8)) -> Subscribe {
    Subscribe {
        alias: alias.value(),
        temporal_layer_max: temporal.into(),
        spatial_layer_max: spatial.into(),
        ..Subscribe::default()
    }
}

impl Client {
    /// Asks to publish a track.
    pub fn publish(&mut self, room: usize, kind: TrackKind, cx: &mut Context<'_>) {
        let is_standing = cx.cast.rooms[room].link().is_some();
        let is_in = self.has.rooms.get(&room).is_some_and(|stay| stay.is_in());
        if !(is_in || is_standing && self.standing_rooms().contains(&room)) {
            return;
        }
        let serial = cx.judge.media.new_track(TrackFact { room, client: self.number, kind });
        let local = if is_standing { self.add_sealed(room, kind, serial, cx.cast) } else { None };
        self.has.published.push(Published {
            room,
            serial,
            kind,
            alias: None,
            local,
            sending: Sending::new(kind),
            demand: Demand::default(),
            lanes: Default::default(),
            due: cx.now,
            frames: 0,
            wants_keyframe: true,
        });
        if is_standing {
            return self.publish_sealed(serial, cx);
        }
        let request = PublishTrack {
            room: cx.cast.rooms[room].name(),
            kind: kind.into(),
            label: Bytes::copy_from_slice(&serial.to_be_bytes()),
            activity: kind == TrackKind::Audio,
            mls_epoch: 0,
        };
        self.ask(Request::PublishTrack(request), Asked::Publish(serial));
    }

    /// The relay does not take a track.
    pub(super) fn handle_not_published(&mut self, serial: u32, cx: &mut Context<'_>) {
        if let Some(place) = self.has.published.iter().position(|track| track.serial == serial) {
            self.take_back(place, cx);
        }
    }

    fn take_back(&mut self, place: usize, cx: &mut Context<'_>) {
        let track = self.has.published.remove(place);
        if let Some(local) = track.local {
            self.remove_sealed(track.room, local, cx.cast);
        }
    }

    /// Takes a track back.
    pub fn unpublish(&mut self, cx: &mut Context<'_>) {
        let known = self.has.published.iter().enumerate().filter_map(|(place, track)| Some((place, track.alias?)));
        let known: Vec<(usize, TrackAlias)> = known.collect();
        if known.is_empty() {
            return;
        }
        let (place, alias) = known[self.rng.random_range(0..known.len())];
        self.take_back(place, cx);
        self.ask(Request::UnpublishTrack(UnpublishTrack { alias: alias.value() }), Asked::Other);
    }

    /// It talks until then.
    pub fn talk_until(&mut self, until: Moment) {
        self.talks_until = until;
    }

    /// What it publishes in a room, once the relay has said so.
    pub fn published_in(&self, room: usize) -> impl Iterator<Item = (u32, TrackKind)> {
        let published = self.has.published.iter().filter(move |track| track.room == room && track.alias.is_some());
        published.map(|track| (track.serial, track.kind))
    }

    /// Where that is.
    pub fn aliases_in(&self, room: usize) -> impl Iterator<Item = TrackAlias> {
        self.has.published.iter().filter(move |track| track.room == room).filter_map(|track| track.alias)
    }

    /// When the next frame is due.
    pub(super) fn media_due(&self) -> Option<Moment> {
        let due = self.has.published.iter().filter(|track| track.alias.is_some()).map(|track| track.due).min();
        due.filter(|due| *due < self.talks_until)
    }

    pub(super) fn handle_published(&mut self, serial: u32, alias: TrackAlias, cx: &mut Context<'_>) {
        // There is none if the room was left meanwhile.
        let Some(track) = self.has.published.iter_mut().find(|track| track.serial == serial) else { return };
        (track.alias, track.due) = (Some(alias), cx.now);
        if let Some(local) = track.local {
            let room = track.room;
            self.handle_sealed_published(room, local, alias, cx);
        }
    }

    pub(super) fn handle_demand(&mut self, alias: TrackAlias, demand: Demand) {
        if let Some(track) = self.has.published.iter_mut().find(|track| track.alias == Some(alias)) {
            track.demand = demand;
        }
    }

    pub(super) fn handle_keyframe_wish(&mut self, alias: TrackAlias) {
        if let Some(track) = self.has.published.iter_mut().find(|track| track.alias == Some(alias)) {
            track.wants_keyframe = true;
        }
    }

    /// Somebody publishes: most listen.
    pub(super) fn handle_announced(&mut self, track: &TrackAnnounced, cx: &mut Context<'_>) {
        let Some(alias) = TrackAlias::new(track.alias) else { return };
        let serial = track.label.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let fact = serial.and_then(|serial| cx.judge.media.track(serial)).copied();
        let Some(TrackFact { room, client, kind }) = fact else {
            let what = format!("client {} is told of a track that nobody publishes", self.number);
            return cx.judge.fail(cx.now, Rule::Altered, what);
        };
        if client != self.number && !self.has.remotes.contains_key(&alias) {
            self.take_track(alias, room, kind, cx);
        }
    }

    /// Most listen to whoever publishes.
    pub(super) fn take_track(&mut self, alias: TrackAlias, room: usize, kind: TrackKind, cx: &mut Context<'_>) {
        if self.rng.random_bool(0.9) {
            self.subscribe(alias, room, kind, cx);
        }
    }

    /// Asks for a track, unless it takes it already.
    pub(super) fn subscribe(&mut self, alias: TrackAlias, room: usize, kind: TrackKind, cx: &mut Context<'_>) {
        let layers = if self.rng.random_bool(0.3) { (0, 0) } else { (7, 7) };
        let terms = subscription(alias, layers);
        if cx.cast.rooms[room].link().is_none() || self.want_sealed(alias, terms) {
            self.listen(alias, terms, room, kind, cx);
        }
    }

    /// Asks for it, and is ready to play it.
    pub(super) fn listen(
        &mut self,
        alias: TrackAlias,
        terms: Subscribe,
        room: usize,
        kind: TrackKind,
        cx: &mut Context<'_>,
    ) {
        let order = if kind == TrackKind::Data { Order::reliable(HOLD) } else { Order::new(HOLD) };
        self.has.remotes.insert(alias, Remote { room, is_leaving: false, kind, order, played: None });
        let layers = (terms.temporal_layer_max as u8, terms.spatial_layer_max as u8);
        cx.judge.media.subscribes(self.current.unwrap_or_default(), alias, layers);
        self.ask(Request::Subscribe(terms), Asked::Subscribe(alias));
    }

    /// Sends what is due.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) {
        if cx.now >= self.talks_until {
            // What was still due is not said any more.
            self.has.published.iter_mut().for_each(|track| track.due = track.due.max(cx.now));
            return;
        }
        let mut published = std::mem::take(&mut self.has.published);
        for track in &mut published {
            while track.alias.is_some() && track.due <= cx.now && self.is_in() {
                // Whoever has slept does not make up for it.
                track.due = track.due.max(cx.now.before(track.period())) + track.period();
                self.send_frame(track, cx);
            }
        }
        self.has.published = published;
    }

    fn send_frame(&mut self, track: &mut Published, cx: &mut Context<'_>) {
        let is_standing = cx.cast.rooms[track.room].link().is_some();
        if is_standing && self.is_silent(track.room, cx.cast) {
            return;
        }
        let Self { links, rng, session, current, .. } = self;
        let Some(link) = links.iter_mut().find(|link| Some(link.serial) == *current) else { return };
        track.flush(link);
        if track.kind == TrackKind::Data && track.lanes[0].as_ref().is_some_and(|lane| !lane.rest.is_empty()) {
            return;
        }
        let number = track.frames;
        track.frames += 1;
        let is_picture = track.kind == TrackKind::Video;
        let keyframe = !is_picture || track.wants_keyframe || number.is_multiple_of(GROUP);
        track.wants_keyframe &= !keyframe;
        let temporal_layer = if is_picture && !keyframe { (number % 2) as u8 } else { 0 };
        let bytes = match track.kind {
            TrackKind::Video if keyframe => rng.random_range(2_000..9_000),
            TrackKind::Video => rng.random_range(200..1_500),
            TrackKind::Data => rng.random_range(100..4_000),
            _ => rng.random_range(60..160),
        };
        let presentation_us = track.period().as_micros() as u64 * number;
        let frame = OutgoingFrame { temporal_layer, ..OutgoingFrame::video(&[], presentation_us, keyframe) };
        let layer = Layer::new(temporal_layer, 0).unwrap_or_default();
        let flags = if keyframe { Flags::INDEPENDENT } else { Flags::default() };
        let flags = if track.kind == TrackKind::Audio { flags.with_activity((number / 50 % 4) as u8) } else { flags };
        let plan = track.sending.plan(&frame, flags, layer, session.connection(), &track.demand);
        track.prepare(&plan, link);
        let times = FrameTimes { captured_at_us: cx.now.since_beginning().as_micros() as u64, presentation_us };
        let Some(alias) = track.alias else { return };
        let (Fate::Alone(visible) | Fate::OnLane { visible, .. }) = plan.fate else { return };
        let codec = stamp(track.serial, &visible, bytes);
        let sealed = match is_standing {
            true => self.seal(track.room, track.serial, &visible, times, &codec, cx),
            false => Some(plain(times, &codec)),
        };
        let Some(link) = self.link_mut() else { return };
        match (plan.fate, sealed) {
            (Fate::Alone(visible), Some(sealed)) => {
                let mut wire = BytesMut::new();
                put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: TTL_MS }, visible);
                wire.put(sealed);
                let _ = link.quic.datagrams().send(wire.freeze(), true);
            }
            (Fate::OnLane { lane, begins, visible }, Some(sealed)) => {
                let mut wire = BytesMut::new();
                if begins {
                    let hop = Hop { alias, priority: 1 + lane as u8, ttl_ms: TTL_MS };
                    put_stream_head(&mut wire, hop, visible.group, lane as u8);
                    let id = link.quic.streams().open(Dir::Uni);
                    track.lanes[lane] = id.map(|id| Lane { id, rest: Bytes::new() });
                }
                put_object(&mut wire, visible, sealed.len() as u32);
                wire.put(sealed);
                match &mut track.lanes[lane] {
                    Some(open) if open.rest.is_empty() => open.rest = wire.freeze(),
                    // There is no stream, or QUIC takes no more of it.
                    _ => track.give_lane_up(lane, link),
                }
                track.flush(link);
            }
            (Fate::OnLane { lane, .. }, None) => track.give_lane_up(lane, link),
            _ => {}
        }
    }

    /// Sends an object under an alias that is not ours.
    pub(super) fn send_foreign(&mut self, alias: TrackAlias) {
        let visible = Visible { group: 1, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
        let mut wire = BytesMut::new();
        put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: TTL_MS }, visible);
        wire.put(plain(FrameTimes { captured_at_us: 0, presentation_us: 0 }, &stamp(FOREIGN, &visible, 60)));
        if let Some(link) = self.link_mut() {
            let _ = link.quic.datagrams().send(wire.freeze(), true);
        }
    }

    /// Takes what a connection has of objects.
    pub(super) fn hear(&mut self, place: usize, cx: &mut Context<'_>) {
        if self.by_hand.is_some() {
            return self.keep_objects(place, cx);
        }
        let link = &mut self.links[place];
        if !matches!(link.stage, Stage::Open) {
            return;
        }
        let left_at = link.unread_since.take().unwrap_or(cx.now);
        while let Some(datagram) = self.links[place].quic.datagrams().recv() {
            let datagrams = match &mut self.liar {
                Some(liar) => liar.datagrams(datagram),
                None => vec![datagram],
            };
            for datagram in datagrams {
                // The relay sends empty ones, to push others out of QUIC's buffer.
                let Ok((header, length)) = DatagramHeader::decode(&datagram) else { continue };
                let sealed = datagram.slice(length..);
                self.handle_object(place, header.hop.alias, header.visible, &sealed, true, left_at, cx);
            }
        }
        while let Some(id) = self.links[place].quic.streams().accept(Dir::Uni) {
            let stream = StreamIn { reader: StreamReader::default(), object_next: 0 };
            self.links[place].streams.insert(id, stream);
        }
        let ids: Vec<StreamId> = self.links[place].streams.keys().copied().collect();
        for id in ids {
            self.read_stream(place, id, left_at, cx);
        }
    }

    fn read_stream(&mut self, place: usize, id: StreamId, left_at: Moment, cx: &mut Context<'_>) {
        let link = &mut self.links[place];
        let Some(mut stream) = link.streams.remove(&id) else { return };
        let end = read_all(link, id, &mut stream.reader);
        let number = self.number;
        let mut objects = 0;
        let outcome = loop {
            match stream.reader.object() {
                Ok(Some(StreamObjectHeader { object, flags, layer, .. })) => {
                    let Some(sealed) = stream.reader.take_sealed() else { break Ok(()) };
                    let Ok(Some(header)) = stream.reader.header() else { break Ok(()) };
                    let visible = Visible { group: header.group, object, flags, layer };
                    let is_data = self.has.remotes.get(&header.hop.alias).is_some_and(|it| it.kind == TrackKind::Data);
                    if object < stream.object_next || (is_data && object != stream.object_next) {
                        let what = format!(
                            "client {number} got object {object} of a stream on which {} was next",
                            stream.object_next
                        );
                        break Err((Rule::Order, what));
                    }
                    stream.object_next = object + 1;
                    objects += 1;
                    self.handle_object(place, header.hop.alias, visible, &sealed, false, left_at, cx);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err((Rule::Altered, format!("client {number} got no media stream: {error}"))),
            }
        };
        cx.judge.check(cx.now, outcome);
        if objects > 0 {
            cx.trace.tell(cx.now, format_args!("client {number} hears {objects} on {id}"));
        }
        match end {
            End::NotYet => drop(self.links[place].streams.insert(id, stream)),
            End::Whole if !stream.reader.is_between() => {
                cx.judge.fail(cx.now, Rule::Altered, format!("client {number}: a stream ends inside an object"));
            }
            End::Whole | End::Cut => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of an object, from two kinds of channels")]
    fn handle_object(
        &mut self,
        place: usize,
        alias: TrackAlias,
        visible: Visible,
        sealed: &Bytes,
        is_datagram: bool,
        left_at: Moment,
        cx: &mut Context<'_>,
    ) {
        let Visible { group, object, layer, .. } = visible;
        let heard = self.open(alias, visible, sealed, cx);
        let serial = match &heard {
            Opened::Sealed(serial, _) => Some(*serial),
            Opened::Plain => read_plain(sealed, &visible).map(|(serial, _)| serial),
        };
        let link = self.links[place].serial;
        let told =
            Heard { client: self.number, link, alias, serial, place: (group, object), layer, is_datagram, left_at };
        let verdict = cx.judge.media.hear(&told);
        cx.judge.check(cx.now, verdict);
        match heard {
            Opened::Sealed(serial, Some(payload)) => self.play(alias, Some(serial), visible, &payload, cx),
            Opened::Sealed(_, None) => {}
            Opened::Plain => self.play(alias, None, visible, sealed, cx),
        }
    }

    /// Puts an object in order that has opened, of this track if that is sealed.
    pub(super) fn play(
        &mut self,
        alias: TrackAlias,
        sealed_as: Option<u32>,
        visible: Visible,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) {
        let Visible { group, object, flags, layer } = visible;
        let read = read_plain(payload, &visible);
        if sealed_as.is_some() && read.map(|(serial, _)| serial) != sealed_as {
            let what = format!("client {} opened something else than was sealed as {sealed_as:?}", self.number);
            cx.judge.fail(cx.now, Rule::Forged, what);
        }
        let Some(remote) = self.has.remotes.get_mut(&alias) else { return };
        // Whoever is lied to cannot tell by a stamp that is not sealed.
        let unknown = FrameTimes { captured_at_us: 0, presentation_us: 0 };
        let times = match read {
            Some((_, times)) => times,
            None if self.liar.is_some() => unknown,
            None => return,
        };
        remote.order.push(Frame { group, object, flags, layer, times, payload: Bytes::new() }, cx.now);
        while let Turn::Frame(frame) = remote.order.turn(cx.now) {
            let next = (frame.group, frame.object);
            if remote.played.is_some_and(|last| last >= next) {
                let what = format!("client {} would play {next:?} after {:?}", self.number, remote.played);
                cx.judge.fail(cx.now, Rule::Play, what);
            }
            remote.played = Some(next);
        }
    }
}

impl Published {
    /// Its connection is gone, and what hung on it: it goes on where it is published again.
    pub(super) fn lose(&mut self) {
        (self.alias, self.lanes, self.demand) = (None, Default::default(), Demand::default());
    }

    /// Between two frames.
    fn period(&self) -> Duration {
        Duration::from_millis(match self.kind {
            TrackKind::Audio => 40,
            TrackKind::Video => 100,
            _ => 200,
        })
    }

    /// What comes before a frame.
    fn prepare(&mut self, plan: &Plan, link: &mut Link) {
        let Some(ends) = plan.ends else { return };
        for Lane { id, rest } in self.lanes.iter_mut().filter_map(Option::take) {
            let mut stream = link.quic.send_stream(id);
            let _ = match ends {
                Ends::Whole if rest.is_empty() => stream.finish().map_err(drop),
                _ => stream.reset(code(StreamCode::CANCELLED)).map_err(drop),
            };
        }
    }

    /// A frame was not sent, and what comes after it on the lane is of no use.
    fn give_lane_up(&mut self, lane: usize, link: &mut Link) {
        if let Some(Lane { id, .. }) = self.lanes[lane].take() {
            let _ = link.quic.send_stream(id).reset(code(StreamCode::EXPIRED));
        }
        let failed = self.sending.handle_failed(lane);
        self.prepare(&failed, link);
    }

    /// Gives QUIC as much as it takes.
    fn flush(&mut self, link: &mut Link) {
        for Lane { id, rest } in self.lanes.iter_mut().flatten() {
            while !rest.is_empty() {
                match link.quic.send_stream(*id).write(rest) {
                    Ok(taken) => rest.advance(taken),
                    Err(_) => break,
                }
            }
        }
    }
}

/// How a stream stands.
enum End {
    NotYet,
    Whole,
    Cut,
}

fn read_all(link: &mut Link, id: StreamId, reader: &mut StreamReader) -> End {
    let mut stream = link.quic.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return End::Cut };
    let end = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            Ok(None) => break End::Whole,
            Err(ReadError::Blocked) => break End::NotYet,
            Err(ReadError::Reset(_)) => break End::Cut,
        }
    };
    let _ = chunks.finalize();
    end
}

/// What a codec would make: whose it is, its place, and bytes that follow from that.
fn stamp(serial: u32, visible: &Visible, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(STAMP_BYTES + bytes);
    out.put_u32(serial);
    out.put_u64(visible.group);
    out.put_u64(visible.object);
    out.extend((0..bytes).map(|place| filler(serial, place)));
    out
}

/// What stands where an object is sealed elsewhere.
fn plain(times: FrameTimes, codec: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&times.to_bytes()[..]);
    out.put_slice(codec);
    out
}

/// Whose an object is and when it was made; `None` if it is not as it was made, or at another place.
fn read_plain(payload: &[u8], visible: &Visible) -> Option<(u32, FrameTimes)> {
    let (times, stamp) = FrameTimes::split(payload)?;
    let (mut head, rest) = stamp.split_at_checked(STAMP_BYTES)?;
    let (serial, place) = (head.get_u32(), (head.get_u64(), head.get_u64()));
    let is_whole = rest.iter().enumerate().all(|(place, byte)| *byte == filler(serial, place));
    (is_whole && place == (visible.group, visible.object)).then_some((serial, times))
}

fn filler(serial: u32, place: usize) -> u8 {
    (serial as usize * 7 + place) as u8
}

fn code(code: StreamCode) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
