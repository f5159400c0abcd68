//! How a client comes into the relay's room: for the first time, again, or anew with another place in the group.

use std::time::Duration;

use supernode_calls::room::{Entry, Hindrance, NextStep, Step};
use supernode_proto::{
    control::{MemberJoined, RefusalReason, RoomJoined, relay_message::Body},
    identity::RoomId,
};
use supernode_session::{Moment, Reply};

use super::{Asked, Client, Context, ForGroup, Place, by};
use crate::judge::Rule;

/// A way into the relay's room, one step after the other.
#[derive(Debug)]
pub(super) struct WayIn {
    entry: Entry,
    reason: Reason,
    stage: Stage,
}

/// Why it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It has not been there.
    First,
    /// The connection was lost, or its place there.
    Again,
    /// It was let in again, and has another place in the group.
    PlacedAgain,
}

#[derive(Debug)]
enum Stage {
    /// The relay says that we have left. What it says may not be so, and whoever is in cannot come in: we leave first.
    LeaveAt(Moment),
    Leaving,
    AskAt(Moment),
    Asked,
}

impl WayIn {
    pub(super) fn first(now: Moment) -> Self {
        Self { entry: Entry::first(), reason: Reason::First, stage: Stage::AskAt(now) }
    }

    pub(super) fn again(now: Moment) -> Self {
        Self { entry: Entry::again(), reason: Reason::Again, stage: Stage::AskAt(now) }
    }

    pub(super) fn placed_again(now: Moment) -> Self {
        Self { entry: Entry::first(), reason: Reason::PlacedAgain, stage: Stage::AskAt(now) }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        match self.stage {
            Stage::LeaveAt(at) | Stage::AskAt(at) => Some(at),
            Stage::Leaving | Stage::Asked => None,
        }
    }
}

impl Client {
    /// The relay has put us out of its room, and no member's commit did: we come back in, each time a little later.
    pub(super) fn interrupt(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} is put out by the relay", self.number));
        self.lose_place(id, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let pause = circle.parts.state.pause_before_coming_in_again();
        circle.way_in = Some(WayIn { stage: Stage::LeaveAt(cx.now + pause), ..WayIn::again(cx.now) });
    }

    /// Asks for the next step, when it is time.
    pub(super) fn go_on_in(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(channel) = self.channel(cx.cast) else { return };
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(way_in) = circle.way_in.as_mut().filter(|way| way.due().is_some_and(|at| at <= cx.now)) else {
            return;
        };
        if matches!(way_in.stage, Stage::LeaveAt(_)) {
            way_in.stage = Stage::Leaving;
            let leave = circle.parts.state.leave_request();
            return self.ask(leave, Asked::Group(*id, ForGroup::Leave));
        }
        way_in.stage = Stage::Asked;
        let step = way_in.entry.step();
        let request = circle.parts.state.entry_request(step, &channel, circle.door.as_ref());
        let room = circle.room();
        match request {
            Ok(request) => {
                if let Some(room) = room.filter(|_| step == Step::Join) {
                    cx.judge.media.asks_in(self.number, room, self.current.unwrap_or_default(), cx.now);
                }
                self.ask(request, Asked::Group(*id, ForGroup::Entry(step)));
            }
            // We have no place in the group any more.
            Err(_) => self.end_circle(id, cx),
        }
    }

    pub(super) fn handle_left_for_a_moment(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let said_by = self.link_mut().map_or(cx.now, |link| link.left_latest);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        if let Some(room) = circle.room() {
            cx.judge.media.has_left(number, room, link, said_by);
        }
        match &mut circle.way_in {
            Some(_) if circle.parts.state.is_behind() => circle.way_in = None,
            Some(way_in) => way_in.stage = Stage::AskAt(cx.now),
            None => {}
        }
        circle.look_at = Some(cx.now);
    }

    pub(super) fn handle_entry_reply(&mut self, id: &RoomId, step: Step, reply: &Reply, cx: &mut Context<'_>) {
        if let Ok(Body::RoomJoined(joined)) = reply {
            self.note_joined(id, joined, cx);
        }
        let (number, connection) = (self.number, self.session.connection().unwrap_or_default());
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        if let Some(room) = circle.room()
            && step == Step::CatchUpAfter
            && reply.is_ok()
            && circle.parts.state.is_missing_messages()
            && !cx.judge.groups.has_rejected(room)
        {
            let what = format!("client {number} was not given all that it asked for of room {room}");
            cx.judge.fail(cx.now, Rule::Mailbox, what);
        }
        let wishes = circle.parts.handle_entry_reply(step, reply.as_ref(), connection, cx.now);
        self.grant(id, wishes, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(way_in) = &mut circle.way_in else { return };
        let reason = way_in.reason;
        let refusal = reply.as_ref().err();
        match way_in.entry.next(refusal, &circle.parts.state) {
            NextStep::Ask(_, wait) => way_in.stage = Stage::AskAt(cx.now + wait),
            NextStep::Done => {
                circle.way_in = None;
                self.handle_entered(id, reason, cx);
            }
            NextStep::Refused => {
                circle.way_in = None;
                let is_key = refusal.is_some_and(|refusal| refusal.reason == RefusalReason::JoinProof);
                if let Some(refusal) = refusal {
                    cx.trace.tell(cx.now, format_args!("client {number} does not come in, {reason:?}: {refusal}"));
                }
                self.handle_not_entered(id, reason, is_key, cx);
            }
        }
    }

    fn handle_entered(&mut self, id: &RoomId, reason: Reason, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        circle.look_at = Some(cx.now);
        let is_behind = circle.parts.state.is_behind();
        if let Some(room) = circle.room() {
            cx.trace.tell(cx.now, format_args!("client {} is in room {room}, behind: {is_behind}", self.number));
        }
        match &circle.place {
            Place::Room(_) if reason == Reason::PlacedAgain && is_behind => {
                self.handle_not_let_in(id, Hindrance::Passing, cx);
            }
            Place::Room(room) => {
                let room = *room;
                circle.keeper.is_back();
                if !is_behind {
                    self.publish_wanted(room, cx);
                }
            }
            Place::Hosting(_) => self.go_on_answering(id, cx),
            Place::AtDoorOf(_) => {}
        }
    }

    fn handle_not_entered(&mut self, id: &RoomId, reason: Reason, is_key: bool, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        match reason {
            // Somebody inside can let us in again; whoever opens a room may find that somebody else was faster.
            Reason::Again | Reason::First if circle.door.is_some() && (is_key || reason == Reason::Again) => {
                let wishes = circle.parts.state.fall_behind();
                self.grant(id, wishes, cx);
            }
            Reason::Again | Reason::First => self.end_circle(id, cx),
            Reason::PlacedAgain => self.handle_not_let_in(id, Hindrance::Passing, cx),
        }
    }

    /// What the judges are told.
    fn note_joined(&mut self, id: &RoomId, joined: &RoomJoined, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let process = self.link_mut().map_or(0, |link| link.process);
        let Some(room) = self.groups.rooms.get(id).and_then(super::Circle::room) else { return };
        let who = |member: &MemberJoined| Some((member.member, cx.cast.device(&member.device)?));
        let others = joined.members.iter().filter(|other| other.member != joined.member);
        let others: Vec<(u32, usize)> = others.filter_map(who).collect();
        let (place, at) = ((number, room), (link, process));
        let life = cx.judge.mailboxes.joined(place, at, joined.member, &others, joined.mls_sequence);
        cx.judge.media.is_in(number, room, link, joined.member, life);
    }

    /// Tries all doors again after a while, or gives up.
    pub(super) fn handle_not_let_in(&mut self, id: &RoomId, why: Hindrance, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        let is_new = circle.parts.state.is_new_to_us();
        if !circle.keeper.handle_not_let_in(why, is_new, cx.now, &by(rng)) {
            cx.trace.tell(cx.now, format_args!("client {} is not let in again: {why:?}", self.number));
            self.end_circle(id, cx);
        }
    }
}

/// Longest to wait for whoever is to come.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
