//! Rooms that stand, whose members keep a group: what the SDK does around `supernode_calls::room`, with times where the SDK
//! has tasks. The real rooms, doors and keys are in them; what differs is said where it does.
//!
//! Keys of MLS come from the operating system and differ between two runs of a seed. They decide nothing: all that is sealed
//! or signed by them has the same length, and nothing is drawn or ordered by them.

mod asked;
mod commits;
mod door;
mod duties;
mod entry;
mod knocks;
mod tracks;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::StdRng;
use supernode_calls::{
    rights::{Door, Revoked, Rules},
    room::{EarlyObjects, Event, Parts, Wish},
};
use supernode_e2ee::{Device, DeviceSecret, Group};
use supernode_proto::{
    control::{TrackKind, client_message::Body as Request},
    identity::RoomId,
    object::TrackAlias,
};
use supernode_session::{Moment, Reply, RoomEvent};

pub use self::asked::Standing;
pub(super) use self::tracks::Heard;
use self::{
    commits::{Aim, Attempt},
    door::{AtOurDoor, Hosting},
    duties::Keeper,
    entry::WayIn,
    knocks::Knock,
    tracks::{Early, Theirs, Tracks},
};
use super::{Asked, Client, Context, wait_within};
use crate::{cast::Cast, clock::Clock, judge::Rule};

/// How long somebody may be gone before the others take their place: the SDK's default.
const GRACE: Duration = Duration::from_secs(15);
/// Before somebody tries again who could not come into a room, at least and at most.
const TRY_AGAIN: RangeInclusive<Duration> = Duration::from_millis(300)..=Duration::from_secs(3);

/// A device's rooms with groups, and at which doors it is.
pub(super) struct Groups {
    device: Device,
    rooms: BTreeMap<RoomId, Circle>,
    knocks: BTreeMap<RoomId, Knock>,
    at_our_door: Vec<AtOurDoor>,
    /// Rooms of which the relay is to hear that we have left them.
    leaving: BTreeSet<usize>,
    wants: BTreeMap<usize, Want>,
    rules: Rules,
    revoked: Revoked,
    /// Fresh keys come so often.
    renew_within: Duration,
}

/// A room that somebody wants to be in.
struct Want {
    /// What it publishes there.
    kinds: Vec<TrackKind>,
    /// When it goes to the door, if it is not in or at it.
    try_at: Moment,
}

/// A room with a group.
struct Circle {
    parts: Parts,
    /// What makes it a room that people come to and go from; `None` for a call of two at a door.
    door: Option<Door>,
    place: Place,
    way_in: Option<WayIn>,
    /// What is to be changed, one after the other.
    aims: VecDeque<Aim>,
    attempt: Option<Attempt>,
    keeper: Keeper,
    /// When it is to be asked again what is due.
    look_at: Option<Moment>,
    /// The guest's call at the door who is brought in now: one after the other, each finds the group as its Welcome says.
    admitting: Option<RoomId>,
    tracks: Tracks,
    /// Those of the others whose labels opened, on this connection.
    routes: BTreeMap<TrackAlias, Theirs>,
    early: EarlyObjects<Early>,
    /// The epoch that was noted last.
    noted: Option<[u8; 32]>,
}

/// What a circle is.
enum Place {
    /// A room of the cast.
    Room(usize),
    /// Where a guest of this room waits to be let in: ourselves.
    AtDoorOf(RoomId),
    /// Where we let somebody in.
    Hosting(Box<Hosting>),
}

/// What was asked for a group.
#[derive(Debug)]
pub(super) enum ForGroup {
    Entry(supernode_calls::room::Step),
    Commit,
    Said,
    PutOut(u32),
    Knock,
    Answer,
}

impl Groups {
    pub(super) fn new(number: usize, cast: &Cast) -> Self {
        Self {
            device: device(number, cast),
            rooms: BTreeMap::new(),
            knocks: BTreeMap::new(),
            at_our_door: Vec::new(),
            leaving: BTreeSet::new(),
            wants: BTreeMap::new(),
            rules: Rules::default(),
            revoked: Revoked::default(),
            renew_within: Duration::from_secs(900),
        }
    }
}

/// The device of a client as MLS has it, with nothing that it knew before.
fn device(number: usize, cast: &Cast) -> Device {
    let of = &cast.devices[number];
    let secret = DeviceSecret::from_bytes(&of.secret.to_bytes());
    Device::new(secret, of.delegation.clone()).expect("its own delegation")
}

impl Circle {
    fn new(
        group: Group,
        door: Option<Door>,
        place: Place,
        renew_within: Duration,
        now: Moment,
        rng: &mut StdRng,
    ) -> Option<Self> {
        let parts = Parts::new(group, door.as_ref(), renew_within, now, &by(rng)).ok()?;
        Some(Self {
            parts,
            door,
            place,
            way_in: Some(WayIn::first(now)),
            aims: VecDeque::new(),
            attempt: None,
            keeper: Keeper::default(),
            look_at: Some(now),
            admitting: None,
            tracks: Tracks::default(),
            routes: BTreeMap::new(),
            early: EarlyObjects::new(drop),
            noted: None,
        })
    }

    fn room(&self) -> Option<usize> {
        if let Place::Room(room) = self.place { Some(room) } else { None }
    }
}

/// Picks from ranges by these dice.
fn by(rng: &mut StdRng) -> impl Fn(RangeInclusive<Duration>) -> Duration + '_ {
    let dice = RefCell::new(rng);
    move |range| wait_within(range, &mut dice.borrow_mut())
}

fn unix_s(now: Moment) -> u64 {
    Clock::unix(now).as_secs()
}

/// What comes.
impl Client {
    /// Whether something of a room is for a group.
    pub(super) fn has_group(&self, id: &RoomId) -> bool {
        self.groups.rooms.contains_key(id)
    }

    /// What a room with a group is told.
    pub(super) fn handle_in_group(&mut self, id: &RoomId, event: RoomEvent, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let wishes = match event {
            RoomEvent::MemberJoined(joined) => circle.parts.state.handle_member_joined(&joined, cx.now),
            RoomEvent::MemberLeft { member, .. } => match circle.parts.state.handle_member_left(member, cx.now) {
                Some(wishes) => wishes,
                None => return self.interrupt(id, cx),
            },
            RoomEvent::Mls(delivery) => {
                self.note_delivery(id, &delivery, cx);
                return self.follow(id, &delivery, cx);
            }
            RoomEvent::CommitRejected(rejected) => {
                if let Some(room) = circle.room() {
                    cx.judge.groups.rejected(room);
                    cx.judge.mailboxes.taken_back(self.number, room, rejected.epoch, rejected.sequence);
                }
                circle.parts.handle_rejected(&rejected, cx.now)
            }
            RoomEvent::Beacon(beacon) => {
                circle.parts.state.handle_beacon(&beacon, cx.now);
                circle.look_at = Some(cx.now);
                return;
            }
            RoomEvent::TrackAnnounced(announced) => return self.handle_label(id, &announced, cx),
            RoomEvent::TrackEnded(alias) => return self.handle_label_ended(id, alias, cx),
        };
        self.grant(id, wishes, cx);
    }

    /// The reply to what was asked for a group.
    pub(super) fn handle_group_reply(&mut self, id: &RoomId, what: ForGroup, reply: Reply, cx: &mut Context<'_>) {
        match what {
            ForGroup::Entry(step) => self.handle_entry_reply(id, step, &reply, cx),
            ForGroup::Commit => self.handle_commit_reply(id, reply.map(drop), cx),
            ForGroup::Said => self.handle_said(id, reply.map(drop), cx),
            ForGroup::PutOut(number) => self.handle_put_out(id, number, cx),
            ForGroup::Knock => self.handle_knock_reply(id, reply, cx),
            ForGroup::Answer => self.handle_answered(id, reply.is_ok(), cx),
        }
    }

    /// A message of the group, or one whose turn it is now.
    fn follow(&mut self, id: &RoomId, delivery: &supernode_proto::control::MlsDelivery, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        let wishes = circle.parts.handle_delivery(delivery, unix_s(cx.now), cx.now, &by(rng));
        self.grant(id, wishes, cx);
    }

    /// What the judge of a room's messages is told.
    fn note_delivery(&mut self, id: &RoomId, delivery: &supernode_proto::control::MlsDelivery, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let Some(circle) = self.groups.rooms.get(id) else { return };
        let Some(room) = circle.room() else { return };
        let what = format_args!("client {number} gets message {} of room {room}", delivery.sequence);
        cx.trace.tell(cx.now, what);
        // What is fetched was said before we came in, or has come already.
        if circle.way_in.is_none() || cx.judge.mailboxes.is_news(number, room, delivery.sequence) {
            let verdict = cx.judge.mailboxes.delivered(number, room, link, delivery.sequence, &delivery.payload);
            cx.judge.check(cx.now, verdict);
            if delivery.commit {
                let (epoch, sequence) = (delivery.epoch, delivery.sequence);
                let verdict = cx.judge.mailboxes.followed(number, room, link, epoch, sequence);
                cx.judge.check(cx.now, verdict);
            }
        }
    }

    /// Does what a room wishes.
    fn grant(&mut self, id: &RoomId, wishes: Vec<Wish>, cx: &mut Context<'_>) {
        for wish in wishes {
            match wish {
                Wish::Tell(event) => self.note_event(id, event, cx),
                Wish::Said(from, said) => self.hear_at_door(id, &from, &said, cx),
                Wish::UseKeys => self.use_keys(id, cx),
                Wish::LoseRoutes => self.lose_routes(id, cx),
                Wish::Send(request) => self.ask(*request, Asked::Other),
                Wish::Read(delivery) => self.follow(id, &delivery, cx),
                Wish::End(reason) => {
                    let room = self.groups.rooms.get(id).and_then(Circle::room);
                    cx.trace.tell(cx.now, format_args!("client {}: room {room:?} is over: {reason:?}", self.number));
                    self.end_circle(id, cx);
                }
            }
        }
        self.note_epoch(id, cx);
        if let Some(circle) = self.groups.rooms.get_mut(id) {
            circle.look_at = Some(cx.now);
        }
    }

    fn note_event(&mut self, id: &RoomId, event: Event, cx: &mut Context<'_>) {
        let (number, room) = (self.number, self.groups.rooms.get(id).and_then(Circle::room));
        cx.trace.tell(cx.now, format_args!("client {number} in room {room:?}: {event:?}"));
        match event {
            Event::Removed { who, by, put_out } => {
                let (who, by) = (cx.cast.device(who.device.as_bytes()), cx.cast.device(by.device.as_bytes()));
                cx.trace.tell(cx.now, format_args!("it was {who:?}, by {by:?}, put out: {put_out}"));
                if put_out
                    && who == Some(number)
                    && let Some(room) = room
                {
                    // Whoever is put out does not come back by themselves.
                    self.groups.wants.remove(&room);
                }
            }
            // A split may be nothing but a path that is cut; these are a lie.
            Event::Warning(warning) if !matches!(warning, supernode_calls::room::Warning::Split(_)) => {
                cx.judge.fail(cx.now, Rule::Warning, format!("client {number} is warned: {warning:?}"));
            }
            _ => {}
        }
    }

    /// Tells the judge which epoch we are in.
    fn note_epoch(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let (Some(room), Ok(digest)) = (circle.room(), circle.parts.state.group().epoch_digest()) else { return };
        if circle.noted.replace(digest) == Some(digest) {
            return;
        }
        let group = circle.parts.state.group();
        let device = |member: &supernode_e2ee::Member| cx.cast.device(member.device.as_bytes());
        let members: BTreeSet<usize> = group.members.iter().filter_map(device).collect();
        let (number, epoch) = (self.number, group.epoch);
        cx.trace.tell(cx.now, format_args!("client {number} is in epoch {epoch} of room {room} with {members:?}"));
        let verdict = cx.judge.groups.enters(number, room, epoch, digest, members);
        cx.judge.check(cx.now, verdict);
    }

    /// A request to a room's mailbox.
    fn ask_mls(&mut self, id: &RoomId, request: Request, asked: Asked, cx: &mut Context<'_>) {
        if let Some(room) = self.groups.rooms.get(id).and_then(Circle::room) {
            cx.judge.mailboxes.sends(self.number, room);
        }
        self.ask(request, asked);
    }

    /// It is over for us: the relay is told, and what hung on it goes.
    fn end_circle(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        self.end_circle_saying(id, None, cx);
    }

    /// The same, and the others hear a goodbye. Of whoever has left already the relay takes nothing more: it is to be there
    /// first.
    fn end_circle_saying(&mut self, id: &RoomId, goodbye: Option<Request>, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.remove(id) else { return };
        let leave = circle.parts.state.leave_request();
        match circle.place {
            Place::Room(room) => {
                self.leave_door(id, cx);
                self.has.published.retain(|track| track.room != room);
                self.has.remotes.retain(|_, remote| remote.room != room);
                cx.judge.mailboxes.left(self.number, room);
                if self.is_in() {
                    self.groups.leaving.insert(room);
                    match goodbye {
                        Some(goodbye) => self.ask(goodbye, Asked::Goodbye(room)),
                        None => self.ask(leave, Asked::Leave(room)),
                    }
                }
                self.try_again(room, cx);
            }
            Place::AtDoorOf(room) => {
                self.ask(leave, Asked::Other);
                self.handle_lobby_over(&room, cx);
            }
            Place::Hosting(hosting) => {
                self.ask(leave, Asked::Other);
                self.end_turn(&hosting.room, id);
            }
        }
    }

    /// Whoever wants in goes to the door again.
    fn try_again(&mut self, room: usize, cx: &mut Context<'_>) {
        let wait = wait_within(TRY_AGAIN, &mut self.rng);
        if let Some(want) = self.groups.wants.get_mut(&room) {
            want.try_at = cx.now + wait;
        }
    }

    /// The relay knows that we have left.
    pub(super) fn handle_left(&mut self, room: usize) {
        self.groups.leaving.remove(&room);
    }

    /// The connection is gone. A call at a door ends with it, which the SDK would come back to: whoever was to be let in by
    /// it knocks again.
    pub(super) fn lose_groups(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<RoomId> = self.groups.rooms.keys().copied().collect();
        let knocks = std::mem::take(&mut self.groups.knocks);
        self.groups.at_our_door.clear();
        self.groups.leaving.clear();
        for knock in knocks.into_values() {
            self.try_again(knock.room, cx);
        }
        for id in ids {
            let Some(circle) = self.groups.rooms.get_mut(&id) else { continue };
            let is_new = circle.parts.state.is_new_to_us();
            match circle.room() {
                Some(room) if is_new => {
                    self.groups.rooms.remove(&id);
                    self.has.published.retain(|track| track.room != room);
                    self.try_again(room, cx);
                }
                None => drop(self.groups.rooms.remove(&id)),
                Some(_) => self.lose_place(&id, cx),
            }
        }
    }

    /// The connection is gone, or our place in the relay's room.
    fn lose_place(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let wishes = circle.parts.state.handle_lost();
        (circle.way_in, circle.keeper) = (None, Keeper::default());
        self.grant(id, wishes, cx);
    }

    /// What hung on our place in the relay's room is gone.
    fn lose_routes(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        (circle.aims, circle.attempt, circle.admitting) = (VecDeque::new(), None, None);
        if let Some(room) = circle.room() {
            cx.judge.mailboxes.left(self.number, room);
        }
        self.lose_tracks(id, cx);
    }

    /// There is a connection: it comes into its rooms again.
    pub(super) fn begin_groups(&mut self, cx: &mut Context<'_>) {
        for circle in self.groups.rooms.values_mut() {
            circle.way_in = Some(WayIn::again(cx.now));
        }
        for want in self.groups.wants.values_mut() {
            want.try_at = want.try_at.max(cx.now);
        }
    }

    /// The device has forgotten everything.
    pub(super) fn forget_groups(&mut self, cx: &mut Context<'_>) {
        for room in self.groups.rooms.values().filter_map(Circle::room) {
            cx.judge.mailboxes.left(self.number, room);
        }
        self.has.published.clear();
        let renew_within = self.groups.renew_within;
        self.groups = Groups { renew_within, ..Groups::new(self.number, cx.cast) };
    }

    /// Does what is due.
    pub(super) fn keep_groups(&mut self, cx: &mut Context<'_>) {
        if !self.is_in() {
            return;
        }
        self.go_to_doors(cx);
        self.answer_the_door(cx);
        let ids: Vec<RoomId> = self.groups.rooms.keys().copied().collect();
        for id in ids {
            self.go_on_in(&id, cx);
            self.go_on_hosting(&id, cx);
            self.go_on_committing(&id, cx);
            self.go_on_keeping(&id, cx);
        }
        self.give_up_knocks(cx);
    }

    /// When something is due for a group.
    pub(super) fn groups_due(&self) -> Option<Moment> {
        if !self.is_in() {
            return None;
        }
        let rooms = self.groups.rooms.iter().flat_map(|(id, circle)| {
            let way_in = circle.way_in.as_ref().and_then(WayIn::due);
            let attempt = self.attempt_due(circle);
            let hosting = self.hosting_due(circle);
            let is_back_at_door = self.groups.knocks.contains_key(id);
            let keeper = circle.keeper.due(circle.look_at).filter(|_| !is_back_at_door);
            [way_in, attempt, hosting, keeper].into_iter().flatten()
        });
        let knocks = self.groups.knocks.values().filter_map(Knock::gives_up_at);
        let at_our_door = self.groups.at_our_door.iter().map(|guest| guest.at);
        let wants = self.groups.wants.iter().filter(|(room, _)| self.is_to_try(**room)).map(|(_, want)| want.try_at);
        rooms.chain(knocks).chain(at_our_door).chain(wants).min()
    }

    /// Whether it is neither in this room nor at its door.
    fn is_to_try(&self, room: usize) -> bool {
        let has_place = self.groups.rooms.values().any(|circle| circle.room() == Some(room));
        let is_at_door = self.groups.knocks.values().any(|knock| knock.room == room);
        !has_place && !is_at_door && !self.groups.leaving.contains(&room)
    }
}

/// A room's name as a message has it.
fn name(id: &RoomId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}
