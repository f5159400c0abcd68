//! At the doors of rooms that stand: a client rings those inside, meets one of them in a call of two, and is given what it
//! takes to come in. Where nobody is, it opens the room.

use bytes::Bytes;
use rand::RngExt;
use supernode_calls::{
    Member,
    rights::{Door, Said},
    rings::{ADMISSION_TIMEOUT, Caller, Calling, End, Guest, Next, RingError, opens_room},
    room::Hindrance,
};
use supernode_e2ee::{Group, KeyExchange};
use supernode_proto::{control::RingOutcome, identity::RoomId};
use supernode_session::{Moment, Reply};

use super::{Asked, Circle, Client, Context, ForGroup, Place, unix_s};

/// A client at a door.
pub(super) struct Knock {
    pub(super) room: usize,
    /// It was in the group before.
    is_back: bool,
    stage: Stage,
}

enum Stage {
    Rings(Box<Calling>),
    InLobby { lobby: RoomId, guest: Box<Guest>, until: Moment },
}

impl Knock {
    pub(super) fn gives_up_at(&self) -> Option<Moment> {
        if let Stage::InLobby { until, .. } = self.stage { Some(until) } else { None }
    }
}

impl Client {
    /// Goes to the door of whatever room it wants into.
    pub(super) fn go_to_doors(&mut self, cx: &mut Context<'_>) {
        let wants = self.groups.wants.iter().filter(|(_, want)| want.try_at <= cx.now).map(|(room, _)| *room);
        let due: Vec<usize> = wants.filter(|room| self.is_to_try(*room)).collect();
        for room in due {
            self.knock(&cx.cast.rooms[room].id, room, false, cx);
        }
    }

    pub(super) fn knock(&mut self, id: &RoomId, room: usize, is_back: bool, cx: &mut Context<'_>) {
        let (Some(link), Some(channel)) = (cx.cast.rooms[room].link(), self.channel(cx.cast)) else { return };
        let Ok((calling, next)) = Calling::at_door(&channel, link, &self.groups.device, None) else { return };
        cx.trace.tell(cx.now, format_args!("client {} knocks at room {room}", self.number));
        self.groups.knocks.insert(*id, Knock { room, is_back, stage: Stage::Rings(Box::new(calling)) });
        if let Next::Ask(ring) = next {
            self.ask(*ring, Asked::Group(*id, ForGroup::Knock));
        }
    }

    pub(super) fn handle_knock_reply(&mut self, id: &RoomId, reply: Reply, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(Knock { stage: Stage::Rings(calling), is_back, room }) = groups.knocks.get_mut(id) else { return };
        let (is_back, room) = (*is_back, *room);
        let body = match reply {
            Ok(body) => body,
            Err(refusal) if opens_room(&refusal) && !is_back => {
                self.groups.knocks.remove(id);
                return self.open_room(id, room, cx);
            }
            Err(refusal) => {
                cx.trace.tell(cx.now, format_args!("client {} cannot knock: {refusal}", self.number));
                return self.handle_knock_failed(id, Hindrance::of_refusal(&refusal), cx);
            }
        };
        let (device, name) = (&groups.device, RoomId::passing(rng.random()));
        let is_revoked = |_: &_, _: &_| false;
        let by = Caller { device, revocation: None, is_revoked: &is_revoked, name, unix_s: unix_s(cx.now) };
        if calling.handle_reply(body, by).is_err() {
            self.handle_knock_failed(id, Hindrance::Passing, cx);
        }
    }

    /// Whether a ring was a knock of ours.
    pub(in crate::client) fn handle_knock_outcome(&mut self, outcome: &RingOutcome, cx: &mut Context<'_>) -> bool {
        let Some(id) = self.knock_of(&outcome.ring) else { return false };
        let device = &self.groups.device;
        let Some(knock) = self.groups.knocks.get_mut(&id) else { return true };
        let Stage::Rings(calling) = &mut knock.stage else { return true };
        let next = calling.handle_outcome(outcome, device, unix_s(cx.now), |_| None);
        match (next, calling.host()) {
            (Ok(Next::Join(lobby)), Some(host)) => {
                let (group, until) = (*lobby, cx.now + ADMISSION_TIMEOUT);
                let (lobby, guest) = (group.room(), Box::new(Guest::at_door(host, id)));
                knock.stage = Stage::InLobby { lobby, guest, until };
                self.open_circle(lobby, group, None, Place::AtDoorOf(id), cx);
            }
            (Ok(_), _) => {
                let is_wanted = !matches!(calling.end().map(End::of_knock), Some(Err(RingError::NotAdmitted)));
                let why = if is_wanted { Hindrance::Passing } else { Hindrance::NotLetIn };
                self.handle_knock_failed(&id, why, cx);
            }
            (Err(_), _) => self.handle_knock_failed(&id, Hindrance::Passing, cx),
        }
        true
    }

    /// Whether a ring that is lost was a knock of ours.
    pub(in crate::client) fn handle_knock_lost(&mut self, ring: &Bytes, cx: &mut Context<'_>) {
        if let Some(id) = self.knock_of(ring) {
            self.handle_knock_failed(&id, Hindrance::Passing, cx);
        }
    }

    fn knock_of(&self, ring: &Bytes) -> Option<RoomId> {
        let is_it = |knock: &Knock| matches!(&knock.stage, Stage::Rings(it) if it.is_ringing() && it.ring() == ring);
        self.groups.knocks.iter().find(|(_, knock)| is_it(knock)).map(|(id, _)| *id)
    }

    /// Nobody is there: it opens the room.
    fn open_room(&mut self, id: &RoomId, room: usize, cx: &mut Context<'_>) {
        let exchange = if self.rng.random_bool(0.5) { KeyExchange::XWing } else { KeyExchange::X25519 };
        let group = self.groups.device.create_room(*id, exchange);
        let door = Door::open(String::new(), None, cx.cast.rooms[room].link().cloned());
        let (Ok(group), Ok(door)) = (group, door) else { return };
        cx.trace.tell(cx.now, format_args!("client {} opens room {room} by {exchange}", self.number));
        self.open_circle(*id, group, Some(door), Place::Room(room), cx);
    }

    pub(super) fn open_circle(
        &mut self,
        id: RoomId,
        group: Group,
        door: Option<Door>,
        place: Place,
        cx: &mut Context<'_>,
    ) {
        let renew_within = self.groups.renew_within;
        if let Some(circle) = Circle::new(group, door, place, renew_within, cx.now, &mut self.rng) {
            self.groups.rooms.insert(id, circle);
            self.note_epoch(&id, cx);
        }
    }

    /// Somebody says something in a call at a door.
    pub(super) fn hear_at_door(&mut self, lobby: &RoomId, from: &Member, said: &Said, cx: &mut Context<'_>) {
        let Some(Place::AtDoorOf(id)) = self.groups.rooms.get(lobby).map(|circle| &circle.place) else { return };
        let id = *id;
        let Some(Knock { stage: Stage::InLobby { guest, .. }, room, is_back }) = self.groups.knocks.get_mut(&id) else {
            return;
        };
        let (room, is_back) = (*room, *is_back);
        let admission = match guest.hear(from, said) {
            None => return,
            Some(Ok(admission)) => admission,
            Some(Err(why)) => {
                cx.trace.tell(cx.now, format_args!("client {} is not let into room {room}: {why:?}", self.number));
                // Whoever was inside gives up then; whoever was not asks again.
                let why = if is_back { Hindrance::NotLetIn } else { Hindrance::Passing };
                return self.handle_knock_failed(&id, why, cx);
            }
        };
        let Ok(group) = guest.take_place(&self.groups.device, &admission, unix_s(cx.now)) else {
            return self.handle_knock_failed(&id, Hindrance::Passing, cx);
        };
        cx.trace.tell(cx.now, format_args!("client {} is let into room {room}", self.number));
        self.leave_door(&id, cx);
        if is_back {
            return self.handle_place(&id, group, admission, cx);
        }
        match Door::of_admission(&admission, id, None, None) {
            Ok(door) => self.open_circle(id, group, Some(door), Place::Room(room), cx),
            Err(_) => self.try_again(room, cx),
        }
    }

    /// The call at the door is over.
    pub(super) fn handle_lobby_over(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        if self.groups.knocks.contains_key(id) {
            self.handle_knock_failed(id, Hindrance::Passing, cx);
        }
    }

    pub(super) fn give_up_knocks(&mut self, cx: &mut Context<'_>) {
        let is_over = |knock: &Knock| knock.gives_up_at().is_some_and(|at| at <= cx.now);
        let over: Vec<RoomId> =
            self.groups.knocks.iter().filter(|(_, knock)| is_over(knock)).map(|(id, _)| *id).collect();
        for id in over {
            cx.trace.tell(cx.now, format_args!("client {} waits no longer at a door", self.number));
            self.handle_knock_failed(&id, Hindrance::Passing, cx);
        }
    }

    /// It is at this door no more.
    pub(super) fn leave_door(&mut self, id: &RoomId, cx: &mut Context<'_>) -> Option<Knock> {
        let knock = self.groups.knocks.remove(id)?;
        if let Stage::InLobby { lobby, .. } = &knock.stage {
            self.end_circle(lobby, cx);
        }
        Some(knock)
    }

    fn handle_knock_failed(&mut self, id: &RoomId, why: Hindrance, cx: &mut Context<'_>) {
        let Some(knock) = self.leave_door(id, cx) else { return };
        if knock.is_back {
            return self.handle_not_let_in(id, why, cx);
        }
        let room = knock.room;
        match why {
            Hindrance::NobodyRung | Hindrance::Passing => self.try_again(room, cx),
            Hindrance::NotLetIn | Hindrance::Lasting => {
                cx.trace.tell(cx.now, format_args!("client {} is not wanted in room {room}", self.number));
                self.groups.wants.remove(&room);
            }
        }
    }
}
