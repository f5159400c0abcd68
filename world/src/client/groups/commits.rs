//! Commits of a client: one at a time, made again behind those that came first.

use std::time::Duration;

use bytes::Bytes;
use supernode_calls::{
    rings::GuestPlace,
    room::{AfterRefusal, Attempts, Removal, WINNER_TIMEOUT, commit_message},
};
use supernode_e2ee::Change;
use supernode_proto::{
    control::{KickMember, SendMls, client_message::Body as Request},
    identity::{DeviceKey, RoomId},
    mls::Envelope,
};
use supernode_session::{Moment, Refusal};

use super::{Asked, Circle, Client, Context, ForGroup, by, entry::REQUEST_TIMEOUT, name, unix_s};

/// What a commit is to bring about.
#[derive(Debug)]
pub(super) enum Aim {
    /// Those who are gone lose their places.
    Remove(Removal),
    /// Fresh keys, if they are still due.
    Renew,
    /// Fresh keys, because somebody wants them.
    Refresh,
    /// This device is put out, which has this number in the relay's room.
    PutOut { device: DeviceKey, number: u32 },
    /// A guest comes in, who waits in this call.
    Guest { place: GuestPlace, lobby: RoomId },
}

/// A commit that is being made.
pub(super) struct Attempt {
    aim: Aim,
    attempts: Attempts,
    stage: Stage,
}

enum Stage {
    /// It is made then; and given up later, if we are not in the relay's room until then.
    MakeAt(Moment),
    /// Behind a commit that comes first: in that epoch or at that time, and after this wait.
    Behind {
        epoch: u64,
        until: Moment,
        wait: Duration,
    },
    UnderWay(Box<Change>),
}

impl Client {
    /// Gives itself fresh keys.
    pub fn refresh_keys(&mut self, room: usize, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} refreshes its keys in room {room}", self.number));
        self.aim(&cx.cast.rooms[room].id, Aim::Refresh, cx);
    }

    /// Puts some other member out, if it may.
    pub fn put_out(&mut self, room: usize, pick: usize, cx: &mut Context<'_>) {
        let id = cx.cast.rooms[room].id;
        let Some(circle) = self.groups.rooms.get(&id) else { return };
        if let Some((device, key, number)) = others_in(circle, cx).get(pick).copied() {
            cx.trace.tell(cx.now, format_args!("client {} puts {device} out of room {room}", self.number));
            self.aim(&id, Aim::PutOut { device: key, number }, cx);
        }
    }

    /// Has the relay put some other member out without a commit.
    pub fn kick_only(&mut self, room: usize, pick: usize, cx: &mut Context<'_>) {
        let id = cx.cast.rooms[room].id;
        let Some(circle) = self.groups.rooms.get(&id) else { return };
        if let Some((device, _, number)) = others_in(circle, cx).get(pick).copied() {
            cx.trace.tell(cx.now, format_args!("client {} has {device} kicked out of room {room}", self.number));
            self.kick_device(&id, room, device, number, cx);
        }
    }

    /// Sends something as a commit that is none, and leaves.
    pub fn send_junk(&mut self, room: usize, cx: &mut Context<'_>) {
        let id = cx.cast.rooms[room].id;
        let Some(circle) = self.groups.rooms.get(&id) else { return };
        if circle.parts.state.members().is_empty() {
            return;
        }
        cx.trace.tell(cx.now, format_args!("client {} sends junk to room {room}", self.number));
        let epoch = circle.parts.state.epoch();
        let sealed: [u8; 64] = rand::RngExt::random(&mut self.rng);
        let payload = Envelope { room: id, epoch, commit: true }.around(&sealed).into();
        let junk = SendMls { room: name(&id), epoch, commit: true, payload, join_key: Bytes::new() };
        self.ask_mls(&id, Request::SendMls(junk), Asked::Other, cx);
        self.want_out(room, cx);
    }

    fn kick_device(&mut self, id: &RoomId, room: usize, device: usize, member: u32, cx: &mut Context<'_>) {
        let life = cx.judge.mailboxes.life(self.number, room);
        let request = Request::KickMember(KickMember { room: name(id), member });
        self.ask(request, Asked::Kick { room, member, life, device });
    }

    pub(super) fn aim(&mut self, id: &RoomId, aim: Aim, cx: &mut Context<'_>) {
        if let Some(circle) = self.groups.rooms.get_mut(id) {
            circle.aims.push_back(aim);
            self.go_on_committing(id, cx);
        }
    }

    pub(super) fn attempt_due(&self, circle: &Circle) -> Option<Moment> {
        match circle.attempt.as_ref()?.stage {
            Stage::MakeAt(at) if self.is_entered(circle) => Some(at),
            Stage::MakeAt(at) => Some(at + REQUEST_TIMEOUT),
            Stage::Behind { until, .. } => Some(until),
            Stage::UnderWay(_) => None,
        }
    }

    fn is_entered(&self, circle: &Circle) -> bool {
        self.session.connection().is_some_and(|on| circle.parts.state.is_entered_on(on))
    }

    pub(super) fn go_on_committing(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        while let Some(circle) = self.groups.rooms.get_mut(id) {
            let Some(attempt) = &mut circle.attempt else {
                let Some(aim) = circle.aims.pop_front() else { return };
                circle.attempt = Some(Attempt { aim, attempts: Attempts::at_commit(), stage: Stage::MakeAt(cx.now) });
                continue;
            };
            match attempt.stage {
                Stage::Behind { epoch, until, wait } => {
                    if circle.parts.state.epoch() < epoch && cx.now < until {
                        return;
                    }
                    attempt.stage = Stage::MakeAt(cx.now + wait);
                }
                Stage::MakeAt(at) if at > cx.now => return,
                Stage::MakeAt(at) => {
                    let connection = self.session.connection();
                    if connection.is_some_and(|on| circle.parts.state.is_entered_on(on)) {
                        self.make_commit(id, cx);
                    } else if cx.now >= at + REQUEST_TIMEOUT {
                        self.handle_aim_done(id, None, false, cx);
                    } else {
                        return;
                    }
                }
                Stage::UnderWay(_) => return,
            }
        }
    }

    fn make_commit(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let delegation = self.groups.device.delegation();
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(attempt) = &mut circle.attempt else { return };
        let (aim, state, now) = (&attempt.aim, &circle.parts.state, cx.now);
        let made = circle.parts.membership.make_commit(|group| match aim {
            Aim::Remove(removal) => removal.propose(group),
            Aim::Renew if group.shows(&delegation) && !state.is_renewal_due(now) => Ok(None),
            Aim::Renew => group.propose_renewal(&delegation).map(Some),
            Aim::Refresh => group.propose_update().map(Some),
            Aim::PutOut { device, .. } => {
                let leaf = group.members().into_iter().find(|member| member.device == *device);
                leaf.map(|member| group.propose_put_out(&[member.leaf])).transpose()
            }
            Aim::Guest { place, .. } => place.propose(group, unix_s(now)),
        });
        match made {
            Ok(Some(change)) => {
                let message = commit_message(id, &change);
                attempt.stage = Stage::UnderWay(Box::new(change));
                self.ask_mls(id, message, Asked::Group(*id, ForGroup::Commit), cx);
            }
            Ok(None) => self.handle_aim_done(id, None, true, cx),
            Err(error) => {
                cx.trace.tell(cx.now, format_args!("client {} can make no commit: {error}", self.number));
                self.handle_aim_done(id, None, false, cx);
            }
        }
    }

    pub(super) fn handle_commit_reply(&mut self, id: &RoomId, reply: Result<(), Refusal>, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        let wishes = circle.parts.handle_own_commit(reply.is_ok(), cx.now, &by(rng));
        let room = circle.room();
        self.grant(id, wishes, cx);
        if let (Err(refusal), Some(room)) = (&reply, room) {
            cx.trace.tell(cx.now, format_args!("client {}: the commit to room {room}: {refusal}", self.number));
            cx.judge.mailboxes.refused(self.number, room);
        }
        let Self { groups, rng, .. } = self;
        let Some(attempt) = groups.rooms.get_mut(id).and_then(|circle| circle.attempt.as_mut()) else { return };
        let Stage::UnderWay(change) = std::mem::replace(&mut attempt.stage, Stage::MakeAt(cx.now)) else { return };
        let Err(refusal) = reply else { return self.handle_aim_done(id, Some(*change), true, cx) };
        let after = attempt.attempts.handle_refused(&refusal, &by(rng));
        match after {
            AfterRefusal::Again { winner: Some(epoch), wait } => {
                attempt.stage = Stage::Behind { epoch, until: cx.now + WINNER_TIMEOUT, wait };
            }
            AfterRefusal::Again { winner: None, wait } => attempt.stage = Stage::MakeAt(cx.now + wait),
            AfterRefusal::GiveUp | AfterRefusal::Final => self.handle_aim_done(id, None, false, cx),
        }
    }

    /// A change came about, was needed no more, or did not come about.
    fn handle_aim_done(&mut self, id: &RoomId, change: Option<Change>, is_done: bool, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Some(Attempt { aim, .. }) = circle.attempt.take() else { return };
        match aim {
            Aim::PutOut { device, number } => {
                let who = cx.cast.device(device.as_bytes());
                if let (Some(_), Some(room), Some(who)) = (change, circle.room(), who) {
                    self.kick_device(id, room, who, number, cx);
                }
            }
            Aim::Guest { lobby, .. } => self.handle_guest_added(id, &lobby, change, cx),
            Aim::Refresh => {}
            aim @ (Aim::Remove(_) | Aim::Renew) => self.handle_duty_done(id, &aim, is_done, cx),
        }
        self.go_on_committing(id, cx);
    }
}

/// The other members that are here, by client, with their keys and their numbers in the relay's room.
fn others_in(circle: &Circle, cx: &Context<'_>) -> Vec<(usize, DeviceKey, u32)> {
    let state = &circle.parts.state;
    let known = state.members().into_iter().filter_map(|member| {
        let number = state.member_number(&member)?;
        Some((cx.cast.device(member.device.as_bytes())?, member.device, number))
    });
    let mut others: Vec<_> = known.collect();
    others.sort_unstable();
    others
}
