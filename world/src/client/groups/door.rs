//! At our own door: whoever has the room's link is let in, by a call of two that we open for them.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use supernode_calls::{
    Member,
    rights::{self, ForLobby, Lobby, Why},
    room::{AfterRefusal, Attempts, Knocker},
};
use supernode_e2ee::Change;
use supernode_proto::{
    control::{AnswerRing, DeclineRing, IncomingRing, client_message::Body as Request},
    identity::RoomId,
};
use supernode_session::{Moment, Refusal};

use super::{Asked, Circle, Client, Context, ForGroup, Place, by, commits::Aim, entry::REQUEST_TIMEOUT, unix_s};

/// Longest that the next guest waits for the one before to come in.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody at the door, to whom we open when it is our turn.
pub(super) struct AtOurDoor {
    pub(super) at: Moment,
    room: RoomId,
    ring: Bytes,
    guest: Member,
    package: Vec<u8>,
    for_lobby: ForLobby,
}

/// The call in which we let somebody in.
pub(super) struct Hosting {
    pub(super) room: RoomId,
    ring: Bytes,
    guest: Member,
    package: Vec<u8>,
    answer: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Entering,
    Answering,
    /// Until they are in the call, and the guest before them is in the room.
    Meeting(Moment),
    Committing,
    /// The rest of what they are told, and when the first of it is said again.
    Saying {
        messages: VecDeque<Request>,
        attempts: Attempts,
        say_at: Option<Moment>,
        is_let_in: bool,
    },
    /// Until they are in the room.
    Watching(Moment),
}

impl Client {
    /// Somebody rings at the door of a room that we are in.
    pub(in crate::client) fn handle_ring_at_door(&mut self, ring: &IncomingRing, cx: &mut Context<'_>) {
        let groups = &mut self.groups;
        let id = RoomId::from_slice(&ring.room).ok();
        let circle = id.and_then(|id| groups.rooms.get(&id));
        let link = circle.and_then(|circle| circle.door.as_ref()?.link());
        let opened = link.and_then(|link| rights::open_knock(link, ring, &groups.rules, &mut groups.revoked));
        let (Some(circle), Some((guest, at_door))) = (circle, opened) else {
            return self.decline(&ring.ring, true);
        };
        let who = cx.cast.device(guest.device.as_bytes());
        let knocker = circle.parts.state.knocker(&guest);
        cx.trace.tell(cx.now, format_args!("client {} has {who:?} at the door: {knocker:?}", self.number));
        if knocker == Knocker::PutOut {
            return self.decline(&ring.ring, false);
        }
        let at = cx.now + circle.parts.state.pause_at_door();
        let (room, package, for_lobby) = (at_door.room, at_door.package, at_door.for_lobby);
        let ring = ring.ring.clone();
        groups.at_our_door.push(AtOurDoor { at, room, ring, guest, package, for_lobby });
    }

    /// Another member is at the door, or nobody any more.
    pub(in crate::client) fn handle_door_ring_ended(&mut self, ring: &Bytes) {
        self.groups.at_our_door.retain(|guest| guest.ring != *ring);
    }

    fn decline(&mut self, ring: &Bytes, busy: bool) {
        self.ask(Request::DeclineRing(DeclineRing { ring: ring.clone(), busy }), Asked::Other);
    }

    /// Opens calls for those whose turn it is.
    pub(super) fn answer_the_door(&mut self, cx: &mut Context<'_>) {
        let is_due = |guest: &mut AtOurDoor| guest.at <= cx.now;
        let due: Vec<AtOurDoor> = self.groups.at_our_door.extract_if(.., is_due).collect();
        for AtOurDoor { room, ring, guest, package, for_lobby, .. } in due {
            let name = RoomId::passing(rand::RngExt::random(&mut self.rng));
            let circle = self.groups.rooms.get(&room);
            let link = circle.and_then(|circle| circle.door.as_ref()?.link());
            let device = &self.groups.device;
            let lobby = link.and_then(|link| Lobby::open(device, link, &guest, for_lobby, name, unix_s(cx.now)).ok());
            let Some(Lobby { group, answer }) = lobby else {
                self.decline(&ring, true);
                continue;
            };
            let hosting = Hosting { room, ring, guest, package, answer, stage: Stage::Entering };
            self.open_circle(name, group, None, Place::Hosting(Box::new(hosting)), cx);
        }
    }

    fn hosting(&mut self, lobby: &RoomId) -> Option<&mut Hosting> {
        match &mut self.groups.rooms.get_mut(lobby)?.place {
            Place::Hosting(hosting) => Some(hosting),
            _ => None,
        }
    }

    /// We are in the call that we have opened.
    pub(super) fn answer_ring(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let Some(hosting) = self.hosting(lobby) else { return };
        if !matches!(hosting.stage, Stage::Entering) {
            return;
        }
        hosting.stage = Stage::Answering;
        let answer = AnswerRing { ring: hosting.ring.clone(), payload: hosting.answer.clone().into() };
        cx.trace.tell(cx.now, format_args!("client {} answers the door", self.number));
        self.ask(Request::AnswerRing(answer), Asked::Group(*lobby, ForGroup::Answer));
    }

    pub(super) fn handle_answered(&mut self, lobby: &RoomId, is_ours: bool, cx: &mut Context<'_>) {
        let until = cx.now + REQUEST_TIMEOUT;
        match self.hosting(lobby) {
            Some(hosting) if is_ours => hosting.stage = Stage::Meeting(until),
            Some(_) => self.end_circle(lobby, cx),
            None => {}
        }
    }

    pub(super) fn hosting_due(&self, circle: &Circle) -> Option<Moment> {
        let Place::Hosting(hosting) = &circle.place else { return None };
        match &hosting.stage {
            Stage::Meeting(until) | Stage::Watching(until) => Some(*until),
            Stage::Saying { say_at, .. } => *say_at,
            Stage::Entering | Stage::Answering | Stage::Committing => None,
        }
    }

    pub(super) fn go_on_hosting(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get(lobby) else { return };
        let Place::Hosting(hosting) = &circle.place else { return };
        let (id, guest) = (hosting.room, hosting.guest);
        match &hosting.stage {
            Stage::Meeting(until) => {
                let (until, is_here) = (*until, circle.parts.state.members().contains(&guest));
                let Some(room) = self.groups.rooms.get_mut(&id) else { return self.end_circle(lobby, cx) };
                if is_here && room.admitting.is_none() {
                    room.admitting = Some(*lobby);
                    let Some(hosting) = self.hosting(lobby) else { return };
                    hosting.stage = Stage::Committing;
                    let aim = Aim::Guest { guest, package: std::mem::take(&mut hosting.package), lobby: *lobby };
                    self.aim(&id, aim, cx);
                } else if !is_here && cx.now >= until {
                    self.end_circle(lobby, cx);
                } else if is_here && cx.now >= until {
                    // They are here, and wait for the guest before them.
                    let again = cx.now + Duration::from_millis(100);
                    if let Some(hosting) = self.hosting(lobby) {
                        hosting.stage = Stage::Meeting(again);
                    }
                }
            }
            Stage::Saying { say_at: Some(at), .. } if *at <= cx.now => self.say_next(lobby, cx),
            Stage::Watching(until) => {
                let until = *until;
                let room = self.groups.rooms.get(&id);
                let is_in = room.is_none_or(|room| room.parts.state.member_number(&guest).is_some());
                if is_in || cx.now >= until {
                    self.end_circle(lobby, cx);
                }
            }
            _ => {}
        }
    }

    /// The guest has a place in the room's group, or has not.
    pub(super) fn handle_guest_added(
        &mut self,
        id: &RoomId,
        lobby: &RoomId,
        change: Option<Change>,
        cx: &mut Context<'_>,
    ) {
        let Some(room) = self.groups.rooms.get(id) else { return };
        let welcome = change.and_then(|change| change.welcome);
        let is_let_in = welcome.is_some();
        let said: Vec<Vec<u8>> = match (welcome, &room.door) {
            (Some(welcome), Some(door)) => room.parts.state.admission(door, welcome, unix_s(cx.now)).messages(),
            _ => vec![rights::denied(Why::Unsaid)],
        };
        let Some(circle) = self.groups.rooms.get_mut(lobby) else {
            // They have gone meanwhile.
            if let Some(room) = self.groups.rooms.get_mut(id) {
                room.admitting = None;
            }
            return;
        };
        let messages: Result<VecDeque<Request>, _> =
            said.iter().map(|message| circle.parts.membership.message(message)).collect();
        let (Ok(messages), Place::Hosting(hosting)) = (messages, &mut circle.place) else {
            return self.end_circle(lobby, cx);
        };
        hosting.stage = Stage::Saying { messages, attempts: Attempts::at_message(), say_at: None, is_let_in };
        self.say_next(lobby, cx);
    }

    fn say_next(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let Some(hosting) = self.hosting(lobby) else { return };
        let Stage::Saying { messages, say_at, is_let_in, .. } = &mut hosting.stage else { return };
        *say_at = None;
        match messages.front().cloned() {
            Some(message) => self.ask(message, Asked::Group(*lobby, ForGroup::Said)),
            None if *is_let_in => hosting.stage = Stage::Watching(cx.now + ENTRY_TIMEOUT),
            None => self.end_circle(lobby, cx),
        }
    }

    /// The relay has passed something on that we said at the door, or not.
    pub(super) fn handle_said(&mut self, lobby: &RoomId, reply: Result<(), Refusal>, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(Place::Hosting(hosting)) = groups.rooms.get_mut(lobby).map(|circle| &mut circle.place) else { return };
        let Stage::Saying { messages, attempts, say_at, .. } = &mut hosting.stage else { return };
        match reply {
            Ok(()) => {
                messages.pop_front();
                *attempts = Attempts::at_message();
                self.say_next(lobby, cx);
            }
            Err(refusal) => {
                let after = attempts.handle_refused(&refusal, &by(rng));
                match after {
                    AfterRefusal::Again { wait, .. } => *say_at = Some(cx.now + wait),
                    AfterRefusal::GiveUp | AfterRefusal::Final => self.end_circle(lobby, cx),
                }
            }
        }
    }
}
