//! At our own door: whoever has the room's link is let in, by a call of two that we open for them.

use std::time::Duration;

use bytes::Bytes;
use supernode_calls::{
    Member,
    rights::Purpose,
    rings::{
        self, AdmissionStep, Admitting, Answering, Came, ENTRY_TIMEOUT, Judge, Judged, LobbyTerms, Next, RingError,
        Rooms,
    },
    room::{AfterRefusal, Attempts, Knocker},
};
use supernode_e2ee::{Change, LinkSecret};
use supernode_proto::{
    control::{IncomingRing, client_message::Body as Request},
    identity::{DeviceKey, RoomId},
};
use supernode_session::{Moment, Refusal};

use super::{
    Asked, Circle, Client, Context, ForGroup, Groups, Place, by, commits::Aim, entry::REQUEST_TIMEOUT, unix_s,
};

/// How often it is looked whose turn it is.
const WAITS_ON: Duration = Duration::from_millis(100);

/// Somebody at the door, to whom we open when it is our turn.
pub(super) struct AtOurDoor {
    pub(super) at: Moment,
    room: RoomId,
    ring: Bytes,
    answering: Answering,
    admitting: Admitting,
}

/// The call in which we let somebody in.
pub(super) struct Hosting {
    pub(super) room: RoomId,
    answering: Answering,
    admitting: Admitting,
    stage: Stage,
}

enum Stage {
    /// The call is entered, and the ring answered.
    Answering,
    /// Until this device is in the call.
    AwaitsCaller(DeviceKey, Moment),
    /// Until nobody else is in it, and the guest before them is in the room.
    AwaitsTurn(Moment),
    Commits,
    /// This is said; again, if it was not passed on.
    Says {
        message: Request,
        attempts: Attempts,
        say_at: Option<Moment>,
    },
    /// Until they are in the room.
    AwaitsGuest(Member, Moment),
}

impl Rooms for Groups {
    fn link(&self, room: &RoomId) -> Option<LinkSecret> {
        self.rooms.get(room)?.door.as_ref()?.link().cloned()
    }

    fn knocker(&self, room: &RoomId, who: &Member) -> Option<Knocker> {
        Some(self.rooms.get(room)?.parts.state.knocker(who))
    }
}

impl Client {
    /// Somebody rings at the door of a room that we are in.
    pub(in crate::client) fn handle_ring_at_door(&mut self, ring: IncomingRing, cx: &mut Context<'_>) {
        let (groups, unix_s) = (&mut self.groups, unix_s(cx.now));
        let mut revoked = std::mem::take(&mut groups.revoked);
        let (callee, relay) = (groups.device.identity(), cx.cast.pin);
        let judge = Judge { callee: &callee, relay: &relay, rules: &groups.rules, rooms: groups, unix_s };
        let judged = Came::open(ring, &groups.device, unix_s).judge(&judge, &mut revoked);
        groups.revoked = revoked;
        // Whoever has the link is let in.
        let incoming = match judged {
            Judged::Shown(incoming) | Judged::ComesBack(incoming) => incoming,
            Judged::Declined(request, why) => {
                cx.trace.tell(cx.now, format_args!("client {} opens to nobody: {why}", self.number));
                return self.ask(*request, Asked::Other);
            }
            Judged::Missed(_) => return,
        };
        let (ring, guest, Purpose::Knock { room }) = (incoming.ring().clone(), incoming.caller(), incoming.purpose())
        else {
            return;
        };
        let who = cx.cast.device(guest.device.as_bytes());
        cx.trace.tell(cx.now, format_args!("client {} has {who:?} at the door", self.number));
        let Some(circle) = groups.rooms.get(&room) else { return };
        match incoming.admit(circle.parts.state.pause_at_door(), None) {
            Ok((admitting, answering, Next::Pause(pause))) => {
                let at = cx.now + pause;
                groups.at_our_door.push(AtOurDoor { at, room, ring, answering, admitting });
            }
            _ => self.ask(rings::decline(ring, true), Asked::Other),
        }
    }

    /// Another member is at the door, or nobody any more.
    pub(in crate::client) fn handle_door_ring_ended(&mut self, ring: &Bytes) {
        self.groups.at_our_door.retain(|guest| guest.ring != *ring);
    }

    /// Opens calls for those whose turn it is.
    pub(super) fn answer_the_door(&mut self, cx: &mut Context<'_>) {
        let is_due = |guest: &mut AtOurDoor| guest.at <= cx.now;
        let due: Vec<AtOurDoor> = self.groups.at_our_door.extract_if(.., is_due).collect();
        for AtOurDoor { room, ring, mut answering, admitting, .. } in due {
            let name = RoomId::passing(rand::RngExt::random(&mut self.rng));
            let lobby = self.groups.link(&room).ok_or(RingError::Settled).and_then(|link| {
                let (device, unix_s) = (&self.groups.device, unix_s(cx.now));
                answering.open_lobby(LobbyTerms { device, link: &link, name, unix_s })
            });
            let Ok(Next::Join(group)) = lobby else {
                self.ask(rings::decline(ring, true), Asked::Other);
                continue;
            };
            let hosting = Hosting { room, answering, admitting, stage: Stage::Answering };
            self.open_circle(name, *group, None, Place::Hosting(Box::new(hosting)), cx);
        }
    }

    fn hosting(&mut self, lobby: &RoomId) -> Option<&mut Hosting> {
        match &mut self.groups.rooms.get_mut(lobby)?.place {
            Place::Hosting(hosting) => Some(hosting),
            _ => None,
        }
    }

    /// We are in the call that we have opened, or the relay has taken our answer, or the caller is in it.
    pub(super) fn go_on_answering(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let until = cx.now + REQUEST_TIMEOUT;
        let Some(hosting) = self.hosting(lobby) else { return };
        match hosting.answering.handle_done() {
            Ok(Next::Ask(answer)) => {
                cx.trace.tell(cx.now, format_args!("client {} answers the door", self.number));
                self.ask(*answer, Asked::Group(*lobby, ForGroup::Answer));
            }
            Ok(Next::AwaitDevice(device)) => hosting.stage = Stage::AwaitsCaller(device, until),
            Ok(Next::Over) => hosting.stage = Stage::AwaitsTurn(until),
            _ => self.end_circle(lobby, cx),
        }
    }

    pub(super) fn handle_answered(&mut self, lobby: &RoomId, is_ours: bool, cx: &mut Context<'_>) {
        if is_ours { self.go_on_answering(lobby, cx) } else { self.end_circle(lobby, cx) }
    }

    pub(super) fn hosting_due(&self, circle: &Circle) -> Option<Moment> {
        let Place::Hosting(hosting) = &circle.place else { return None };
        match &hosting.stage {
            Stage::AwaitsCaller(_, until) | Stage::AwaitsTurn(until) | Stage::AwaitsGuest(_, until) => Some(*until),
            Stage::Says { say_at, .. } => *say_at,
            Stage::Answering | Stage::Commits => None,
        }
    }

    pub(super) fn go_on_hosting(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get(lobby) else { return };
        let Place::Hosting(hosting) = &circle.place else { return };
        let (state, id) = (&circle.parts.state, hosting.room);
        let room = self.groups.rooms.get(&id);
        match hosting.stage {
            Stage::AwaitsCaller(device, until) => {
                if state.members().iter().any(|member| member.device == device) {
                    self.go_on_answering(lobby, cx);
                    self.go_on_hosting(lobby, cx);
                } else if cx.now >= until {
                    self.end_circle(lobby, cx);
                }
            }
            Stage::AwaitsTurn(until) => {
                let is_quiet = Admitting::is_quiet(&state.roster());
                let is_our_turn = room.is_some_and(|room| room.admitting.is_none());
                if room.is_none() || (cx.now >= until && !is_quiet) {
                    self.end_circle(lobby, cx);
                } else if is_quiet && is_our_turn {
                    self.go_on_admitting(lobby, Admitting::handle_done, cx);
                } else if cx.now >= until
                    && let Some(hosting) = self.hosting(lobby)
                {
                    // They wait for the guest before them.
                    hosting.stage = Stage::AwaitsTurn(cx.now + WAITS_ON);
                }
            }
            // The room was lost meanwhile.
            Stage::Commits if room.is_none_or(|room| room.admitting != Some(*lobby)) => {
                self.go_on_admitting(lobby, |admitting| Ok(admitting.handle_failed(None)), cx);
            }
            Stage::Says { say_at: Some(at), .. } if at <= cx.now => self.say_at_door(lobby, cx),
            Stage::AwaitsGuest(guest, until) => {
                let is_in = room.is_none_or(|room| room.parts.state.member_number(&guest).is_some());
                if is_in || cx.now >= until {
                    self.go_on_admitting(lobby, Admitting::handle_done, cx);
                }
            }
            _ => {}
        }
    }

    /// Lets the guest further in, or says that it does not work, as `by` says.
    fn go_on_admitting(
        &mut self,
        lobby: &RoomId,
        by: impl FnOnce(&mut Admitting) -> Result<AdmissionStep, RingError>,
        cx: &mut Context<'_>,
    ) {
        let Some(circle) = self.groups.rooms.get_mut(lobby) else { return };
        let Place::Hosting(hosting) = &mut circle.place else { return };
        let step = by(&mut hosting.admitting).unwrap_or_else(|_| hosting.admitting.handle_failed(None));
        match step {
            AdmissionStep::AwaitLobby => hosting.stage = Stage::AwaitsTurn(cx.now + REQUEST_TIMEOUT),
            AdmissionStep::Commit(place) => {
                hosting.stage = Stage::Commits;
                let id = hosting.room;
                if let Some(room) = self.groups.rooms.get_mut(&id) {
                    room.admitting = Some(*lobby);
                }
                self.aim(&id, Aim::Guest { place, lobby: *lobby }, cx);
            }
            AdmissionStep::Say(said) => match circle.parts.membership.message(&said) {
                Ok(message) => {
                    hosting.stage = Stage::Says { message, attempts: Attempts::at_message(), say_at: None };
                    self.say_at_door(lobby, cx);
                }
                Err(_) => self.end_circle(lobby, cx),
            },
            AdmissionStep::AwaitGuest(guest) => hosting.stage = Stage::AwaitsGuest(guest, cx.now + ENTRY_TIMEOUT),
            AdmissionStep::Leave => self.end_circle(lobby, cx),
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
        let welcome = change.as_ref().and_then(|change| change.welcome.clone());
        let door = room.door.as_ref();
        let admission =
            door.zip(welcome).map(|(door, welcome)| room.parts.state.admission(door, welcome, unix_s(cx.now)));
        if !self.groups.rooms.contains_key(lobby) {
            // They have gone meanwhile.
            return self.end_turn(id, lobby);
        }
        self.go_on_admitting(lobby, |admitting| admitting.handle_place(change, |_| admission), cx);
    }

    /// The next guest's turn has come.
    pub(super) fn end_turn(&mut self, id: &RoomId, lobby: &RoomId) {
        if let Some(room) = self.groups.rooms.get_mut(id).filter(|room| room.admitting == Some(*lobby)) {
            room.admitting = None;
        }
    }

    fn say_at_door(&mut self, lobby: &RoomId, cx: &mut Context<'_>) {
        let Some(Hosting { stage: Stage::Says { message, say_at, .. }, .. }) = self.hosting(lobby) else { return };
        *say_at = None;
        let message = message.clone();
        self.ask_mls(lobby, message, Asked::Group(*lobby, ForGroup::Said), cx);
    }

    /// The relay has passed something on that we said at the door, or not.
    pub(super) fn handle_said(&mut self, lobby: &RoomId, reply: Result<(), Refusal>, cx: &mut Context<'_>) {
        let Err(refusal) = reply else { return self.go_on_admitting(lobby, Admitting::handle_done, cx) };
        let Self { groups, rng, .. } = self;
        let Some(Place::Hosting(hosting)) = groups.rooms.get_mut(lobby).map(|circle| &mut circle.place) else { return };
        let Stage::Says { attempts, say_at, .. } = &mut hosting.stage else { return };
        let after = attempts.handle_refused(&refusal, &by(rng));
        match after {
            AfterRefusal::Again { wait, .. } => *say_at = Some(cx.now + wait),
            AfterRefusal::GiveUp | AfterRefusal::Final => self.end_circle(lobby, cx),
        }
    }
}
