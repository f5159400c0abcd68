//! Tracks of a room with a group: their labels and objects, sealed and opened.

use bytes::{Bytes, BytesMut};
use supernode_calls::{
    FrameTimes, Member,
    room::{Opened, SealedObject},
};
use supernode_e2ee::{SealedLabel, TrackId, TrackInfo};
use supernode_proto::{
    control::{RelabelTrack, TrackAnnounced, TrackKind, Unsubscribe, client_message::Body as Request},
    identity::RoomId,
    object::{TrackAlias, Visible},
};
use supernode_session::Moment;

use super::{Asked, Circle, Client, Context};
use crate::{cast::Cast, judge::Rule};

/// What is known of a track of somebody else's.
pub(super) struct Label {
    pub(super) serial: u32,
    pub(super) publisher: Member,
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

impl Client {
    /// Publishes what it wants to, as whoever comes into a room.
    pub(super) fn publish_wanted(&mut self, room: usize, cx: &mut Context<'_>) {
        let kinds = self.groups.wants.get(&room).map(|want| want.kinds.clone()).unwrap_or_default();
        for kind in kinds {
            self.publish(room, kind, cx);
        }
    }

    /// The label of a track, sealed; `None` without a place in the group, or while nothing may be sent.
    pub(in crate::client) fn seal_label(
        &self,
        room: usize,
        serial: u32,
        kind: TrackKind,
        cast: &Cast,
    ) -> Option<SealedLabel> {
        let circle = self.groups.rooms.get(&cast.rooms[room].id)?;
        if circle.parts.state.is_behind() {
            return None;
        }
        circle.parts.frame_keys.seal_label(kind, &info(serial)).ok()
    }

    /// The epoch that a room's group is in.
    pub(in crate::client) fn epoch_in(&self, room: usize, cast: &Cast) -> Option<u64> {
        Some(self.groups.rooms.get(&cast.rooms[room].id)?.parts.state.epoch())
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
            cx.judge.groups.sealed(serial, (visible.group, visible.object), epoch);
        }
        is_sealed.then(|| BytesMut::from(&sealed[..]))
    }

    /// Whether nothing that is said in a room is sent.
    pub(in crate::client) fn is_silent(&self, room: usize, cast: &Cast) -> bool {
        let circle = self.groups.rooms.get(&cast.rooms[room].id);
        circle.is_none_or(|circle| circle.parts.frame_keys.is_silent())
    }

    /// An object of whatever track.
    pub(in crate::client) fn open(
        &mut self,
        alias: TrackAlias,
        visible: Visible,
        sealed: &Bytes,
        cx: &mut Context<'_>,
    ) -> Heard {
        let rooms = &mut self.groups.rooms;
        let Some(circle) = rooms.values_mut().find(|circle| circle.labels.contains_key(&alias)) else {
            // Its label has not opened, or is forgotten already.
            let serial = cx.judge.media.serial(alias);
            let is_grouped =
                |serial: &u32| cx.judge.media.track(*serial).is_some_and(|it| cx.cast.rooms[it.room].link().is_some());
            return serial.filter(is_grouped).map_or(Heard::Plain, |serial| Heard::Sealed(serial, None));
        };
        let opened = circle.open(alias, visible, sealed, cx.now);
        let serial = circle.labels[&alias].serial;
        let payload = opened.inspect(|_| {
            let verdict = cx.judge.groups.opened(self.number, serial, (visible.group, visible.object));
            cx.judge.check(cx.now, verdict);
        });
        Heard::Sealed(serial, payload)
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
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        for announced in std::mem::take(&mut circle.unopened) {
            self.handle_label(id, &announced, cx);
        }
        self.announce_again(id, cx);
        self.forget_tracks_of_those_gone(id);
    }

    /// Labels of ours are sealed again for whoever has only the newest keys.
    pub(in crate::client) fn announce_again(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(room) = self.groups.rooms.get(id).and_then(Circle::room) else { return };
        let ours = self.has.published.iter().filter(|track| track.room == room);
        let ours: Vec<_> = ours.filter_map(|track| Some((track.alias?, track.serial, track.kind))).collect();
        for (alias, serial, kind) in ours {
            if let Some(SealedLabel { bytes, epoch }) = self.seal_label(room, serial, kind, cx.cast) {
                let relabel = RelabelTrack { alias: alias.value(), label: bytes.into(), mls_epoch: epoch };
                self.ask(Request::RelabelTrack(relabel), Asked::Other);
            }
        }
    }

    /// Tracks of those who have no place in the group any more are dropped.
    fn forget_tracks_of_those_gone(&mut self, id: &RoomId) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let members: Vec<_> = circle.parts.state.group().members.iter().map(|member| member.device).collect();
        let is_gone = |label: &Label| !members.contains(&label.publisher.device);
        let gone: Vec<TrackAlias> =
            circle.labels.iter().filter(|(_, label)| is_gone(label)).map(|(alias, _)| *alias).collect();
        let mut unsubscribed = Vec::new();
        for alias in gone {
            circle.labels.remove(&alias);
            if self.has.remotes.remove(&alias).is_some() {
                unsubscribed.push(alias);
            }
        }
        for alias in unsubscribed {
            self.ask(Request::Unsubscribe(Unsubscribe { alias: alias.value() }), Asked::Other);
        }
    }

    /// Somebody publishes, or says anew what they publish.
    pub(super) fn handle_label(&mut self, id: &RoomId, announced: &TrackAnnounced, cx: &mut Context<'_>) {
        let number = self.number;
        let Some(alias) = TrackAlias::new(announced.alias) else { return };
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let (Some(room), kind) = (circle.room(), announced.kind()) else { return };
        let state = &circle.parts.state;
        if state.own_number() == Some(announced.member) {
            return;
        }
        circle.unopened.retain(|known| known.alias != announced.alias);
        // Whose leaf stands behind the number, and only if that leaf sealed the label.
        let publisher = state.member_at(announced.member);
        let opened = publisher.and_then(|publisher| {
            let info = circle.parts.frame_keys.open_label(&publisher.device, kind, &announced.label).ok()?;
            Some((publisher, info))
        });
        let Some((publisher, info)) = opened else {
            return circle.unopened.push(announced.clone());
        };
        let serial = u64::from_be_bytes(info.id.0) as u32;
        let fact = cx.judge.media.track(serial).copied();
        let who = cx.cast.device(publisher.device.as_bytes());
        if fact.is_none_or(|fact| Some(fact.client) != who || fact.room != room || fact.kind != kind) {
            let what = format!("client {number} believes {who:?} to publish track {serial} in room {room}: {fact:?}");
            return cx.judge.fail(cx.now, Rule::Forged, what);
        }
        if circle.labels.contains_key(&alias) {
            return;
        }
        circle.labels.insert(alias, Label { serial, publisher });
        self.take_track(alias, room, kind, cx);
    }

    pub(super) fn handle_label_ended(&mut self, id: &RoomId, alias: TrackAlias) {
        if let Some(circle) = self.groups.rooms.get_mut(id) {
            circle.unopened.retain(|known| known.alias != alias.value());
            circle.labels.remove(&alias);
        }
        self.has.remotes.remove(&alias);
    }

    /// Takes every track that there is.
    pub fn take_all(&mut self, cx: &mut Context<'_>) {
        let all = self.groups.rooms.values().filter_map(|circle| Some((circle.room()?, &circle.labels)));
        let aliases =
            all.flat_map(|(room, labels)| labels.iter().map(move |(alias, label)| (*alias, room, label.serial)));
        let missing: Vec<_> = aliases.filter(|(alias, ..)| !self.has.remotes.contains_key(alias)).collect();
        for (alias, room, serial) in missing {
            if let Some(fact) = cx.judge.media.track(serial).copied() {
                self.subscribe(alias, room, fact.kind, cx);
            }
        }
    }
}

impl Circle {
    fn open(&mut self, alias: TrackAlias, visible: Visible, sealed: &Bytes, now: Moment) -> Option<Vec<u8>> {
        let Label { serial, publisher } = self.labels.get(&alias)?;
        let track = info(*serial).id;
        let object = SealedObject { from: &publisher.device, track: &track, visible: &visible, sealed };
        let (opened, is_news) = self.early.open(&self.parts.frame_keys, object, now, || Early { alias, visible });
        if is_news {
            self.look_at = Some(now);
        }
        if let Opened::Payload(payload) = opened { Some(payload) } else { None }
    }
}
