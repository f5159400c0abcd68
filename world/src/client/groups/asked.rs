//! What a client can be told of rooms with groups, and is asked.

use std::{collections::BTreeSet, time::Duration};

use supernode_proto::{control::TrackKind, identity::DeviceKey};

use super::{Circle, Client, Context, Want};
use crate::cast::Cast;

/// How a member of a room stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that it is in.
    pub epoch: u64,
    /// What it would read out.
    pub safety_number: String,
    /// Everybody in the group, by client, itself included.
    pub members: Vec<usize>,
    /// Whom it sees connected.
    pub here: Vec<usize>,
    /// Nothing that it says is sent.
    pub is_silent: bool,
    /// The tracks of others whose labels it has opened.
    pub tracks: BTreeSet<u32>,
}

impl Client {
    /// Fresh keys are to come so often.
    pub fn renew_within(&mut self, within: Duration) {
        self.groups.renew_within = within;
    }

    /// Wants to be in a room that stands.
    pub fn want_in(&mut self, room: usize, kinds: Vec<TrackKind>, cx: &mut Context<'_>) {
        if self.is_on && !self.groups.wants.contains_key(&room) {
            cx.trace.tell(cx.now, format_args!("client {} wants into room {room}", self.number));
            self.groups.wants.insert(room, Want { kinds, try_at: cx.now });
        }
    }

    /// Does not want to be in it any more.
    pub fn want_out(&mut self, room: usize, cx: &mut Context<'_>) {
        self.groups.wants.remove(&room);
        let id = cx.cast.rooms[room].id;
        self.leave_door(&id, cx);
        let Some(circle) = self.groups.rooms.get_mut(&id) else { return };
        cx.trace.tell(cx.now, format_args!("client {} leaves room {room}", self.number));
        let goodbye = circle.parts.membership.message(&supernode_calls::rights::goodbye()).ok();
        self.end_circle_saying(&id, goodbye, cx);
    }

    /// The rooms that it is in with a group.
    pub fn standing_rooms(&self) -> Vec<usize> {
        let connection = self.session.connection();
        let is_in = |circle: &&Circle| connection.is_some_and(|on| circle.parts.state.is_entered_on(on));
        self.groups.rooms.values().filter(is_in).filter_map(Circle::room).collect()
    }

    /// The rooms that it wants to be in, and whether it is.
    pub fn wanted_rooms(&self) -> impl Iterator<Item = usize> {
        self.groups.wants.keys().copied()
    }

    /// Whether it is in a room with somebody, and they have a group.
    pub(in crate::client) fn is_in_company(&self) -> bool {
        let has_company = |circle: &Circle| circle.room().is_some() && !circle.parts.state.members().is_empty();
        self.groups.rooms.values().any(has_company)
    }

    /// How it stands in a room, if it is in and has not fallen behind.
    pub fn standing(&self, room: usize, cast: &Cast) -> Option<Standing> {
        let circle = self.groups.rooms.get(&cast.rooms[room].id)?;
        let (state, connection) = (&circle.parts.state, self.session.connection()?);
        if !state.is_entered_on(connection) || state.is_behind() {
            return None;
        }
        let client = |device: &DeviceKey| cast.device(device.as_bytes());
        let mut members: Vec<usize> = state.group().members.iter().filter_map(|it| client(&it.device)).collect();
        let mut here: Vec<usize> = state.members().iter().filter_map(|it| client(&it.device)).collect();
        members.sort_unstable();
        here.sort_unstable();
        Some(Standing {
            epoch: state.epoch(),
            safety_number: state.group().safety_number().ok()?.to_owned(),
            members,
            here,
            is_silent: circle.parts.frame_keys.is_silent(),
            tracks: circle.routes.values().map(|theirs| theirs.serial).collect(),
        })
    }

    /// How it is with a room that it wants to be in, in words.
    pub fn describe(&self, room: usize, cast: &Cast) -> String {
        let id = &cast.rooms[room].id;
        let knock = self.groups.knocks.contains_key(id);
        match self.groups.rooms.get(id) {
            None => format!("has no place; at the door: {knock}"),
            Some(Circle { parts, way_in, keeper, .. }) => format!(
                "epoch {}, behind {}, on its way in {way_in:?}, {}, at the door: {knock}",
                parts.state.epoch(),
                parts.state.is_behind(),
                keeper.what()
            ),
        }
    }
}
