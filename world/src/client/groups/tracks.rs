//! Tracks of a room with a group, as [`supernode_calls::room::Tracks`] knows them, and their objects, sealed and opened.

use bytes::{Bytes, BytesMut};
use supernode_calls::{
    FrameTimes, Member,
    room::{LocalId, Opened, RemoteId, Route, SealedObject},
};
use supernode_e2ee::{TrackId, TrackInfo};
use supernode_proto::{
    control::{Subscribe, TrackAnnounced, TrackKind, client_message::Body as Request},
    identity::RoomId,
    object::{TrackAlias, Visible},
};
use supernode_session::Moment;

use super::{Asked, Circle, Client, Context};
use crate::{cast::Cast, judge::Rule};

/// Ours by their numbers in the world, and those of others.
pub(super) type Tracks = supernode_calls::room::Tracks<u32, Theirs>;
type TrackWish = supernode_calls::room::TrackWish<u32, Theirs>;

/// A track of somebody else's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Theirs {
    /// Its number in the world, as its label says.
    pub(super) serial: u32,
    publisher: Member,
    kind: TrackKind,
}

/// What is kept of an object that came before the keys of its epoch.
pub(super) struct Early {
    alias: TrackAlias,
    visible: Visible,
}

/// What became of an object.
pub(in crate::client) enum Heard {
    /// It is of a room with a group: of this track, and this is what was sealed, if it opened.
    Sealed(u32, Option<Vec<u8>>),
    /// It is of none.
    Plain,
}

fn info(serial: u32) -> TrackInfo {
    let id = TrackId(u64::from(serial).to_be_bytes());
    TrackInfo { id, name: String::new(), codec: String::new(), parameters: Vec::new() }
}

impl Theirs {
    fn new(kind: TrackKind, info: TrackInfo, publisher: Member) -> Self {
        Self { serial: u64::from_be_bytes(info.id.0) as u32, publisher, kind }
    }

    fn id(&self) -> RemoteId {
        RemoteId { publisher: self.publisher, track: info(self.serial).id }
    }
}

/// Ours.
impl Client {
    /// Publishes what it wants to, as whoever comes into a room; or again, whoever comes back.
    pub(super) fn publish_wanted(&mut self, room: usize, cx: &mut Context<'_>) {
        let ours = self.has.published.iter().filter(|track| track.room == room);
        let ours: Vec<u32> = ours.map(|track| track.serial).collect();
        if !ours.is_empty() {
            return ours.into_iter().for_each(|serial| self.publish_sealed(serial, cx));
        }
        let kinds = self.groups.wants.get(&room).map(|want| want.kinds.clone()).unwrap_or_default();
        for kind in kinds {
            self.publish(room, kind, cx);
        }
    }

    /// The room's group knows of another track of ours.
    pub(in crate::client) fn add_sealed(
        &mut self,
        room: usize,
        kind: TrackKind,
        serial: u32,
        cast: &Cast,
    ) -> Option<LocalId> {
        let circle = self.groups.rooms.get_mut(&cast.rooms[room].id)?;
        Some(circle.tracks.add(kind, info(serial), kind == TrackKind::Audio, serial))
    }

    /// It has it no more.
    pub(in crate::client) fn remove_sealed(&mut self, room: usize, local: LocalId, cast: &Cast) {
        if let Some(circle) = self.groups.rooms.get_mut(&cast.rooms[room].id) {
            circle.tracks.remove(local);
        }
    }

    /// Asks to publish a track of ours, unless nothing may be sent now: then it is published when we are back.
    pub(in crate::client) fn publish_sealed(&mut self, serial: u32, cx: &mut Context<'_>) {
        let Some(track) = self.has.published.iter().find(|track| track.serial == serial) else { return };
        let Some(circle) = self.groups.rooms.get_mut(&cx.cast.rooms[track.room].id) else { return };
        let (Some(local), state) = (track.local, &circle.parts.state) else { return };
        if state.is_behind() {
            return;
        }
        if let Ok(Some(request)) = circle.tracks.publish_request(local, state, &circle.parts.frame_keys) {
            self.ask(request, Asked::Publish(serial));
        }
    }

    /// The relay has given one of ours an alias.
    pub(in crate::client) fn handle_sealed_published(
        &mut self,
        room: usize,
        local: LocalId,
        alias: TrackAlias,
        cx: &mut Context<'_>,
    ) {
        let id = cx.cast.rooms[room].id;
        let connection = self.session.connection().unwrap_or_default();
        let Some(circle) = self.groups.rooms.get_mut(&id) else { return };
        let (state, keys) = (&circle.parts.state, &circle.parts.frame_keys);
        let wishes = circle.tracks.handle_published(local, Some(Route { connection, alias }), state, keys);
        self.grant_of_tracks(&id, wishes, cx);
    }

    /// Seals an object, unless nothing may be sent: then nobody is sent it.
    pub(in crate::client) fn seal(
        &self,
        room: usize,
        serial: u32,
        visible: &Visible,
        times: FrameTimes,
        codec: &[u8],
        cx: &mut Context<'_>,
    ) -> Option<BytesMut> {
        let circle = self.groups.rooms.get(&cx.cast.rooms[room].id)?;
        let (mut scratch, mut sealed) = (Vec::new(), Vec::new());
        let keys = &circle.parts.frame_keys;
        let is_sealed = keys.seal(&info(serial).id, visible, times, codec, &mut scratch, &mut sealed).ok()?;
        if let Some(epoch) = circle.noted.filter(|_| is_sealed) {
            let verdict = cx.judge.groups.sealed(serial, (visible.group, visible.object), epoch);
            cx.judge.check(cx.now, verdict);
        }
        is_sealed.then(|| BytesMut::from(&sealed[..]))
    }

    /// Whether nothing that is said in a room is sent.
    pub(in crate::client) fn is_silent(&self, room: usize, cast: &Cast) -> bool {
        let circle = self.groups.rooms.get(&cast.rooms[room].id);
        circle.is_none_or(|circle| circle.parts.frame_keys.is_silent())
    }
}

/// Those of others.
impl Client {
    /// An object of whatever track.
    pub(in crate::client) fn open(
        &mut self,
        alias: TrackAlias,
        visible: Visible,
        sealed: &Bytes,
        cx: &mut Context<'_>,
    ) -> Heard {
        let rooms = &mut self.groups.rooms;
        let Some((circle, theirs)) =
            rooms.values_mut().find_map(|circle| circle.routes.get(&alias).copied().map(|theirs| (circle, theirs)))
        else {
            // Its label has not opened, or is forgotten already.
            let serial = cx.judge.media.serial(alias);
            let is_grouped =
                |serial: &u32| cx.judge.media.track(*serial).is_some_and(|it| cx.cast.rooms[it.room].link().is_some());
            return serial.filter(is_grouped).map_or(Heard::Plain, |serial| Heard::Sealed(serial, None));
        };
        let opened = circle.open(&theirs, alias, visible, sealed, cx.now);
        let payload = opened.inspect(|_| {
            let verdict = cx.judge.groups.opened(self.number, theirs.serial, (visible.group, visible.object));
            cx.judge.check(cx.now, verdict);
        });
        Heard::Sealed(theirs.serial, payload)
    }

    /// There are new keys: what came before them opens, and newcomers are told again what our tracks are.
    pub(super) fn use_keys(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        self.note_epoch(id, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let early: Vec<(Bytes, Early)> = circle.early.take(cx.now).collect();
        for (sealed, Early { alias, visible }) in early {
            if let Heard::Sealed(serial, Some(payload)) = self.open(alias, visible, &sealed, cx) {
                self.play(alias, Some(serial), visible, &payload, cx);
            }
        }
        self.announce_again(id, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let gone = circle.tracks.retire_departed(&circle.parts.state);
        self.grant_of_tracks(id, gone, cx);
    }

    /// With new keys: labels that did not open are tried again, and ours are sealed again for whoever has only these.
    fn announce_again(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let opened = circle.tracks.open_again(&circle.parts.state, &circle.parts.frame_keys, Theirs::new);
        let sealed = circle.tracks.relabel(&circle.parts.frame_keys).unwrap_or_default();
        self.grant_of_tracks(id, opened, cx);
        self.grant_of_tracks(id, sealed, cx);
    }

    /// Somebody publishes, or says anew what they publish.
    pub(super) fn handle_label(&mut self, id: &RoomId, announced: &TrackAnnounced, cx: &mut Context<'_>) {
        let connection = self.session.connection().unwrap_or_default();
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let (state, keys) = (&circle.parts.state, &circle.parts.frame_keys);
        // One that does not open is kept, and tried again with the next keys.
        let wishes = circle.tracks.handle_announced(connection, announced, state, keys, Theirs::new);
        self.grant_of_tracks(id, wishes.unwrap_or_default(), cx);
    }

    pub(super) fn handle_label_ended(&mut self, id: &RoomId, alias: TrackAlias, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let wishes = circle.tracks.handle_ended(alias);
        self.grant_of_tracks(id, wishes, cx);
    }

    /// What hung on the connection, or on our place on it, is gone. Ours are published again when we are back.
    pub(super) fn lose_tracks(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let (wishes, room) = (circle.tracks.handle_lost(), circle.room());
        self.grant_of_tracks(id, wishes, cx);
        self.has.published.iter_mut().filter(|track| Some(track.room) == room).for_each(|track| track.lose());
    }

    fn grant_of_tracks(&mut self, id: &RoomId, wishes: Vec<TrackWish>, cx: &mut Context<'_>) {
        for wish in wishes {
            let Some(circle) = self.groups.rooms.get_mut(id) else { return };
            match wish {
                TrackWish::Received(theirs, route) => {
                    let is_it = |_: &TrackAlias, known: &mut Theirs| known.id() == theirs.id();
                    let before: Vec<TrackAlias> = circle.routes.extract_if(.., is_it).map(|(alias, _)| alias).collect();
                    circle.routes.extend(route.map(|route| (route.alias, theirs)));
                    before.iter().for_each(|alias| drop(self.has.remotes.remove(alias)));
                }
                TrackWish::Announced(theirs) => self.handle_theirs(id, &theirs, cx),
                TrackWish::Send(request) => match *request {
                    Request::Subscribe(terms) => self.subscribe_again(id, terms, cx),
                    Request::Unsubscribe(from) => {
                        TrackAlias::new(from.alias).map(|alias| self.has.remotes.remove(&alias));
                        self.ask(Request::Unsubscribe(from), Asked::Other);
                    }
                    request => self.ask(request, Asked::Other),
                },
                // Whoever subscribes has what it takes to play beside the subscription.
                TrackWish::Sent(..) | TrackWish::Hook(_) | TrackWish::Unhook(_) => {}
                TrackWish::Forget(_) | TrackWish::Close(_) | TrackWish::Ended(_) => {}
            }
        }
    }

    /// A label has opened.
    fn handle_theirs(&mut self, id: &RoomId, theirs: &Theirs, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get(id) else { return };
        let alias = circle.routes.iter().find(|(_, known)| *known == theirs).map(|(alias, _)| *alias);
        let (Some(room), Some(alias)) = (circle.room(), alias) else { return };
        let Theirs { serial, publisher, kind } = *theirs;
        let fact = cx.judge.media.track(serial).copied();
        let who = cx.cast.device(publisher.device.as_bytes());
        if fact.is_none_or(|fact| Some(fact.client) != who || fact.room != room || fact.kind != kind) {
            let number = self.number;
            let what = format!("client {number} believes {who:?} to publish track {serial} in room {room}: {fact:?}");
            cx.judge.fail(cx.now, Rule::Forged, what);
        }
        if !self.has.remotes.contains_key(&alias) {
            self.take_track(alias, room, kind, cx);
        }
    }

    /// Notes that it wants a track's objects; whether it did not before.
    pub(in crate::client) fn want_sealed(&mut self, alias: TrackAlias, terms: Subscribe) -> bool {
        let circle = self.groups.rooms.values_mut().find(|circle| circle.routes.contains_key(&alias));
        circle.is_some_and(|circle| {
            let id = circle.routes[&alias].id();
            matches!(circle.tracks.subscribe(&id, terms), Ok(Some(_)))
        })
    }

    /// Its publisher is back with it.
    fn subscribe_again(&mut self, id: &RoomId, terms: Subscribe, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get(id) else { return };
        let theirs = TrackAlias::new(terms.alias).and_then(|alias| Some((alias, circle.routes.get(&alias)?)));
        if let (Some((alias, theirs)), Some(room)) = (theirs, circle.room()) {
            let kind = theirs.kind;
            self.listen(alias, terms, room, kind, cx);
        }
    }

    /// Does not want a track's objects any more, if it is of a room with a group.
    pub(in crate::client) fn unsubscribe_sealed(&mut self, alias: TrackAlias, cx: &mut Context<'_>) -> bool {
        let mut rooms = self.groups.rooms.iter_mut();
        let Some((id, circle)) = rooms.find(|(_, circle)| circle.routes.contains_key(&alias)) else { return false };
        let (id, wishes) = (*id, circle.tracks.unsubscribe(&circle.routes[&alias].id()));
        self.grant_of_tracks(&id, wishes, cx);
        true
    }

    /// Takes every track that there is.
    pub fn take_all(&mut self, cx: &mut Context<'_>) {
        let all = self.groups.rooms.values().filter_map(|circle| Some((circle.room()?, &circle.routes)));
        let all = all.flat_map(|(room, routes)| routes.iter().map(move |(alias, it)| (*alias, room, it.kind)));
        let missing: Vec<_> = all.filter(|(alias, ..)| !self.has.remotes.contains_key(alias)).collect();
        for (alias, room, kind) in missing {
            self.subscribe(alias, room, kind, cx);
        }
    }
}

impl Circle {
    fn open(
        &mut self,
        theirs: &Theirs,
        alias: TrackAlias,
        visible: Visible,
        sealed: &Bytes,
        now: Moment,
    ) -> Option<Vec<u8>> {
        let track = info(theirs.serial).id;
        let object = SealedObject { from: &theirs.publisher.device, track: &track, visible: &visible, sealed };
        let (opened, is_news) = self.early.open(&self.parts.frame_keys, object, now, || Early { alias, visible });
        if is_news {
            self.look_at = Some(now);
        }
        if let Opened::Payload(payload) = opened { Some(payload) } else { None }
    }
}
