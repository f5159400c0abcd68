//! A node as the home of a room.

use supernode_proto::{control::RefusalReason, identity::RoomId};

use crate::core::{
    Asked, ControlMail, Fence, MemberId, NodeId, Now, Outbox, RoomAsk, SessionId, ShardCore, control::Refusal,
    registry::rooms::Leaving,
};

impl ShardCore {
    /// Carries out what somebody wants of a room that lives here. All that follows is said by this decision.
    pub(super) fn carry_out_as_home(&mut self, ask: RoomAsk, fence: Fence, now: Now, outbox: &mut Outbox) {
        let (room, from, request) = (ask.room, ask.from, ask.request);
        // A session that believes to be a member may have been put out meanwhile, or have been one of an earlier home's.
        let is_outsider = ask.member != 0 && !self.is_member(&room, ask.member, from);
        let is_inside = matches!(ask.what, Asked::Join(_)) && self.is_inside(&room, from);
        let kicked = self.kicked_elsewhere(&ask).filter(|_| !is_outsider);
        let is_out = if let Asked::IsOut { kicker, request } = ask.what { Some((from, kicker, request)) } else { None };
        if matches!(ask.what, Asked::Gone) {
            self.end_kicks_of(room, from.at.node, fence, outbox);
        }
        if let Some(deal) = self.abroad.desk.rooms.get_mut(&room) {
            // It may have been answered for it, as its node was gone.
            let before = deal.kicks.len();
            deal.kicks.retain(|kick| is_out != Some(*kick));
            if is_out.is_some_and(|_| from.at.node != self.at.node) && deal.kicks.len() == before {
                return;
            }
            deal.kicks.extend(kicked.map(|session| (session, from, request)));
        }
        outbox.as_home(room, fence, |outbox| match (is_outsider, is_inside) {
            (false, false) => self.carry_out_ask(ask, now, outbox),
            (true, _) if request == 0 => {}
            (true, _) => outbox.refuse(from, request, Refusal::of(RefusalReason::UnknownRoom).into()),
            (false, true) => outbox.refuse(from, request, Refusal::of(RefusalReason::Already).into()),
        });
    }

    /// Nothing comes any more to those who were put out at another node.
    fn end_kicks_of(&mut self, room: RoomId, node: NodeId, fence: Fence, outbox: &mut Outbox) {
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        for (_, kicker, request) in deal.kicks.extract_if(.., |(session, _, _)| session.at.node == node) {
            outbox.as_home(room, fence, |outbox| outbox.done(kicker, request));
        }
    }

    /// The session at another node that this puts out.
    fn kicked_elsewhere(&self, ask: &RoomAsk) -> Option<SessionId> {
        let Asked::Kick(member) = ask.what else { return None };
        let room = self.directory.rooms.get(&ask.room)?;
        let session = room.members.get(&member).map(|entry| entry.session)?;
        Some(session).filter(|session| session.at.node != self.at.node && *session != ask.from)
    }

    fn is_member(&self, room: &RoomId, member: MemberId, session: SessionId) -> bool {
        let room = self.directory.rooms.get(room);
        room.is_some_and(|room| room.members.get(&member).is_some_and(|entry| entry.session == session))
    }

    fn is_inside(&self, room: &RoomId, session: SessionId) -> bool {
        self.directory.rooms.get(room).is_some_and(|room| room.sessions().any(|other| other == session))
    }

    /// All members at another node are out: it says so, or cannot be reached.
    pub(crate) fn remove_node(&mut self, room: RoomId, node: NodeId, now: Now, outbox: &mut Outbox) {
        let members: Vec<(MemberId, SessionId)> = self.directory.rooms.get(&room).map_or_else(Vec::new, |room| {
            let theirs = room.members.iter().filter(|(_, member)| member.session.at.node == node);
            theirs.map(|(number, member)| (*number, member.session)).collect()
        });
        for member in members {
            self.remove_member(room, member, Leaving::Away(now.instant), outbox);
        }
    }

    /// Another node cannot be reached: in rooms that live here its members are away, and in those that live there nothing is known
    /// of ours.
    pub(in crate::core::abroad) fn rooms_without(&mut self, node: NodeId, now: Now, outbox: &mut Outbox) {
        for room in self.abroad.desk.of_home(self.at.node) {
            let Some((_, fence)) = self.abroad.desk.rooms.get(&room).and_then(|deal| deal.home) else { continue };
            self.end_kicks_of(room, node, fence, outbox);
            if !crate::planted::planted!(GoneMemberStays) {
                outbox.as_home(room, fence, |outbox| self.remove_node(room, node, now, outbox));
            }
        }
        for room in self.abroad.desk.of_home(node) {
            self.lose_home(room, outbox);
        }
        // What it has asked is over with it.
        for room in self.abroad.desk.rooms.keys().copied().collect::<Vec<_>>() {
            for parked in self.abroad.desk.take_parked(&room) {
                if parked.ask.from.at.node != node {
                    let _ = self.abroad.desk.park(parked);
                }
            }
            self.close_deal(room, now, outbox);
        }
    }

    /// This node is the home of the room no more: nothing of it is kept.
    pub(super) fn give_up_room(&mut self, room: &RoomId, outbox: &mut Outbox) {
        let Some(entry) = self.directory.rooms.remove(room) else { return };
        entry.members.values().for_each(|member| self.forget_tracks(&member.tracks, outbox));
    }

    /// Passes something on to the home of a room, which is at another node.
    pub(super) fn pass_on(&self, ask: Box<RoomAsk>, (node, fence): (NodeId, Fence), outbox: &mut Outbox) {
        outbox.mail(super::visit::door_of(node), ControlMail::AskHome(ask, fence));
    }
}
