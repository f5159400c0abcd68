//! How a client comes into the relay's room: for the first time, again, or anew with another place in the group.

use std::time::Duration;

use supernode_calls::room::{Answer, Entry, Hindrance, NextStep, Step};
use supernode_proto::{
    control::{MemberJoined, RoomJoined, relay_message::Body},
    identity::RoomId,
};
use supernode_session::{Moment, Reply};

use super::{Asked, Client, Context, ForGroup, Place};
use crate::judge::Rule;

/// A way into the relay's room, one step after the other.
#[derive(Debug)]
pub(super) struct WayIn {
    entry: Entry,
    /// It was left behind by the group, and is on its way back.
    is_back: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    AskAt(Step, Moment),
    Asked,
}

impl WayIn {
    pub(super) fn first(now: Moment) -> Self {
        Self::new(Entry::first(), now)
    }

    pub(super) fn again(now: Moment) -> Self {
        Self::new(Entry::again(), now)
    }

    fn new((entry, next): (Entry, NextStep), now: Moment) -> Self {
        let stage = if let NextStep::Ask(step, wait) = next { Stage::AskAt(step, now + wait) } else { Stage::Asked };
        Self { entry, is_back: false, stage }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        if let Stage::AskAt(_, at) = self.stage { Some(at) } else { None }
    }

    pub(super) fn handle_place_taken(&mut self) -> NextStep {
        self.entry.handle_place_taken()
    }
}

impl Client {
    /// The relay has put us out of its room, and no member's commit did: we come back in, each time a little later.
    pub(super) fn interrupt(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} is put out by the relay", self.number));
        self.lose_place(id, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        circle.way_in = Some(WayIn::new(Entry::put_out(&mut circle.parts.state), cx.now));
    }

    /// A member has given us a place in the group, which waits with the keeper to be taken.
    pub(super) fn come_in_with_place(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let on = self.session.connection().unwrap_or_default();
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let (entry, next) = Entry::let_in(&circle.parts.state, on);
        circle.way_in = Some(WayIn { entry, is_back: true, stage: Stage::Asked });
        self.go_further_in(id, next, cx);
    }

    /// Nobody may be inside any more: the place that we have is tried.
    pub(super) fn come_in_with_old_place(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let on = self.session.connection().unwrap_or_default();
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        cx.trace.tell(cx.now, format_args!("client {} tries the place that it has", self.number));
        let (entry, next) = Entry::with_old_place(&circle.parts.state, on);
        circle.way_in = Some(WayIn { entry, is_back: true, stage: Stage::Asked });
        self.go_further_in(id, next, cx);
    }

    /// Asks for the next step, when it is time.
    pub(super) fn go_on_in(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Some(channel) = self.channel(cx.cast) else { return };
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(way_in) = circle.way_in.as_mut().filter(|way| way.due().is_some_and(|at| at <= cx.now)) else {
            return;
        };
        let Stage::AskAt(step, _) = std::mem::replace(&mut way_in.stage, Stage::Asked) else { return };
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

    pub(super) fn handle_entry_reply(&mut self, id: &RoomId, step: Step, reply: &Reply, cx: &mut Context<'_>) {
        if let Ok(Body::RoomJoined(joined)) = reply {
            self.note_joined(id, joined, cx);
        }
        if step == Step::Leave {
            self.note_left(id, cx);
        }
        let (number, connection) = (self.number, self.session.connection().unwrap_or_default());
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        // Whoever is behind reads nothing.
        let is_given_all = step == Step::CatchUpAfter && reply.is_ok() && !circle.parts.state.is_behind();
        let was_missing = circle.parts.state.is_missing_messages();
        let wishes = circle.parts.handle_entry_reply(step, reply.as_ref(), connection, cx.now);
        let falls_behind = circle.parts.state.is_behind();
        if let Some(room) = circle.room()
            && is_given_all
            && (was_missing || falls_behind)
            && !cx.judge.groups.has_rejected(room)
        {
            let what = if was_missing { "was not given" } else { "is behind with" };
            let what = format!("client {number} {what} all that it asked for of room {room}");
            cx.judge.fail(cx.now, Rule::Mailbox, what);
        }
        self.grant(id, wishes, cx);
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(way_in) = &mut circle.way_in else { return };
        let answer = match reply {
            Ok(_) => Answer::Granted,
            Err(refusal) => {
                cx.trace.tell(cx.now, format_args!("client {number} does not come in, {step:?}: {refusal}"));
                Answer::Refused(refusal)
            }
        };
        let next = way_in.entry.handle_answer(answer, &circle.parts.state);
        self.go_further_in(id, next, cx);
    }

    pub(super) fn go_further_in(&mut self, id: &RoomId, next: NextStep, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(way_in) = &mut circle.way_in else { return };
        let is_back = way_in.is_back;
        match next {
            NextStep::Ask(step, wait) => return way_in.stage = Stage::AskAt(step, cx.now + wait),
            NextStep::TakePlace => return self.take_place(id, cx),
            _ => circle.way_in = None,
        }
        match next {
            NextStep::Done => self.handle_entered(id, is_back, cx),
            NextStep::FallBehind => {
                let wishes = circle.parts.state.fall_behind();
                self.grant(id, wishes, cx);
            }
            NextStep::Failed if is_back => self.handle_not_let_in(id, Hindrance::Passing, cx),
            _ => self.end_circle(id, cx),
        }
    }

    fn handle_entered(&mut self, id: &RoomId, is_back: bool, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        circle.look_at = Some(cx.now);
        let is_behind = circle.parts.state.is_behind();
        if let Some(room) = circle.room() {
            cx.trace.tell(cx.now, format_args!("client {} is in room {room}, behind: {is_behind}", self.number));
        }
        match &circle.place {
            Place::Room(_) if is_back && is_behind => {
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

    fn note_left(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let (number, link) = (self.number, self.current.unwrap_or_default());
        let said_by = self.link_mut().map_or(cx.now, |link| link.left_latest);
        if let Some(room) = self.groups.rooms.get(id).and_then(super::Circle::room) {
            cx.judge.media.has_left(number, room, link, said_by);
        }
    }
}

/// Longest to wait for whoever is to come.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
