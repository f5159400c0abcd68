//! The desk of a node for rooms whose home may be at another one (docs/ARCHITECTURE.md, "Rooms in a cluster").
//!
//! Of each room one shard of a node has the desk ([`Homes::of_room`](crate::core::Homes::of_room)). Whatever sessions of this
//! node want of a room goes there. It asks where the room's home is, carries out what comes if that is here, passes it on if it
//! is elsewhere, and lets it wait as long as that is not known.
//!
//! What decides is the fence: a home carries out only what was asked of it by the very decision that it knows of, and those who
//! hear it take only what it says by the one that they know of. So a node that was the home and does not know yet that it no
//! longer is can neither be asked nor be heard.

mod given_up;
mod home;
mod visit;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    time::{Duration, Instant},
};

use supernode_proto::{control::RefusalReason, identity::RoomId};

use self::given_up::GivenUp;
pub(crate) use self::visit::{Visit, Wait, Waits};
use crate::core::{
    Asked, ControlMail, Errand, Fence, HomeIs, HomeWish, NodeId, Now, Outbox, RoomAsk, SessionId, ShardCore,
    control::Refusal, timers::Due,
};

/// How long something waits for a home at most, before it is refused. Default 10 s: a home that has died is another node's after
/// some 6 s.
const PARKED_FOR: Duration = Duration::from_secs(10);
/// How often what waits is looked at. Default 250 ms: a small part of what it takes to decide.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// At every so many of these looks the home is asked for again.
const LOOKS_TO_WANT: u32 = 4;
/// What may wait at one desk, in all rooms. Default 16,384: a second of as many calls. Above, it is refused at once.
const ASKS_PARKED_MAX: usize = 16_384;
/// Bytes that may wait there beside. Default 16 MiB: a thousand of the largest commits.
const ASKS_PARKED_BYTES_MAX: usize = 16 << 20;

/// What a desk knows of rooms that somebody at its node is in, or wants something of.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    rooms: BTreeMap<RoomId, Deal>,
    parked: usize,
    parked_bytes: usize,
    given_up: GivenUp,
}

/// One room.
#[derive(Debug, Default)]
struct Deal {
    /// Where its home is, by the last decision that was heard of.
    home: Option<(NodeId, Fence)>,
    /// Whether that is so now, for all that is known.
    is_sure: bool,
    /// The home has been asked something.
    is_visited: bool,
    /// Since then it could not be reached: it knows nothing of this node's members any more.
    is_lost: bool,
    /// It has said that it is none. Until then it is not asked again, unless something else is decided.
    doubted_until: Option<Instant>,
    /// Sessions of this node that are in it or wait to be let in, or for what they missed.
    here: usize,
    parked: VecDeque<Parked>,
    /// As its home: members at other nodes that were put out, by whom and by which request, until their shard says so.
    kicks: Vec<(SessionId, SessionId, u64)>,
    is_looked_at: bool,
    looks: u32,
}

/// Something that waits.
#[derive(Debug)]
struct Parked {
    ask: Box<RoomAsk>,
    /// By which decision another node has asked it of this one.
    fence: Option<Fence>,
    until: Instant,
}

/// What is done with something that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    CarryOut(Fence),
    PassOn(NodeId, Fence),
    NotHome,
    Park,
}

impl Desk {
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    fn take_parked(&mut self, room: &RoomId) -> VecDeque<Parked> {
        let parked = self.rooms.get_mut(room).map(|deal| std::mem::take(&mut deal.parked)).unwrap_or_default();
        self.parked -= parked.len();
        self.parked_bytes -= parked.iter().map(|parked| parked.ask.payload_bytes()).sum::<usize>();
        parked
    }

    /// Whether there was room for it.
    fn park(&mut self, parked: Parked) -> Result<(), Parked> {
        let bytes = parked.ask.payload_bytes();
        let is_full = self.parked >= ASKS_PARKED_MAX || self.parked_bytes + bytes > ASKS_PARKED_BYTES_MAX;
        let Some(deal) = self.rooms.get_mut(&parked.ask.room).filter(|_| !is_full || parked.stays()) else {
            return Err(parked);
        };
        self.parked += 1;
        self.parked_bytes += bytes;
        deal.parked.push_back(parked);
        Ok(())
    }

    /// Rooms with a home at this node.
    fn of_home(&self, node: NodeId) -> Vec<RoomId> {
        let is_there = |deal: &Deal| deal.home.is_some_and(|(home, _)| home == node);
        self.rooms.iter().filter(|(_, deal)| is_there(deal)).map(|(room, _)| *room).collect()
    }
}

impl Parked {
    /// Whether the desk counts the session from now on, until it says that it is out.
    fn comes(&self) -> bool {
        match self.ask.what {
            Asked::Join(_) | Asked::Door => true,
            Asked::CatchUp { .. } => self.ask.member == 0,
            _ => false,
        }
    }

    /// Whether it waits as long as it takes: nobody would say it again. There are no more of these than members.
    fn stays(&self) -> bool {
        matches!(
            self.ask.what,
            Asked::Leave { .. } | Asked::Gone | Asked::IsOut { .. } | Asked::Withheld { .. } | Asked::Unpublish(_)
        )
    }
}

impl Deal {
    /// What is done with something that a session of this node asks, or one of another by this decision. `acts` says whether this
    /// node may act as the home, and `is_here` whether the other node can be reached.
    fn way(&self, own: NodeId, fence: Option<Fence>, acts: bool, is_here: bool, now: Instant) -> Way {
        let Some((node, known)) = self.home else { return Way::Park };
        let is_asked = fence.is_some();
        let fence = fence.filter(|_| !crate::planted::planted!(FenceIgnored)).unwrap_or(known);
        if fence.is_before(known) || (is_asked && fence == known && node != own) {
            return Way::NotHome;
        }
        // Whoever asks by a decision that is not known here yet knows more.
        if fence != known || !self.is_sure {
            return Way::Park;
        }
        let is_doubted = self.doubted_until.is_some_and(|until| now < until);
        match node == own {
            true if acts => Way::CarryOut(known),
            false if is_here && !self.is_lost && !is_doubted => Way::PassOn(node, known),
            _ => Way::Park,
        }
    }
}

impl ShardCore {
    /// What comes to the desk, or to sessions from the homes of their rooms. Gives back what is none of it.
    pub(super) fn handle_rooms(&mut self, mail: ControlMail, now: Now, outbox: &mut Outbox) -> Option<ControlMail> {
        match mail {
            ControlMail::Ask(ask) => self.handle_ask(ask, None, now, outbox),
            ControlMail::AskHome(ask, fence) => {
                // Whoever asked is gone, and its members with it.
                if ask.from.at.node == self.at.node || self.abroad.life_of(ask.from.at.node).is_some() {
                    self.handle_ask(ask, Some(fence), now, outbox);
                }
            }
            ControlMail::NotHome(ask, fence) => self.hear_not_home(ask, fence, now, outbox),
            ControlMail::HomeIs { room, is } => self.hear_home(room, is, now, outbox),
            ControlMail::FromHome { from, room, fence, mail } => {
                self.hear_from_home(from, (room, fence), *mail, now, outbox);
            }
            ControlMail::Out(room) => {
                if let Some(deal) = self.abroad.desk.rooms.get_mut(&room) {
                    deal.here = deal.here.saturating_sub(1);
                }
                self.close_deal(room, now, outbox);
            }
            ControlMail::HomeLost(room) => self.refuse_waits(room, outbox),
            ControlMail::Reenter(room) => self.re_enter_here(room, outbox),
            other => return Some(other),
        }
        None
    }

    fn handle_ask(&mut self, ask: Box<RoomAsk>, fence: Option<Fence>, now: Now, outbox: &mut Outbox) {
        let room = ask.room;
        let desk = outbox.homes().of_room(&room);
        if desk != self.at {
            let mail = match fence {
                Some(fence) => ControlMail::AskHome(ask, fence),
                None => ControlMail::Ask(ask),
            };
            return outbox.mail(desk, mail);
        }
        let asked = Parked { ask, fence, until: now.instant + PARKED_FOR };
        let deal = match self.abroad.desk.rooms.entry(room) {
            Entry::Occupied(known) => known.into_mut(),
            // Whoever only wants to be out is out.
            Entry::Vacant(_) if asked.stays() => return,
            Entry::Vacant(new) => {
                outbox.errand(Errand::Home(HomeWish::Want(room)));
                new.insert(Deal::default())
            }
        };
        deal.here += usize::from(fence.is_none() && asked.comes());
        if let (Some(fence), Some((_, known))) = (fence, deal.home)
            && fence != known
            && !fence.is_before(known)
        {
            outbox.errand(Errand::Home(HomeWish::Heard(room, fence)));
        }
        // What came before goes before.
        if deal.parked.is_empty() {
            self.deal_with(asked, now, outbox);
        } else {
            self.park(asked, now, outbox);
        }
        self.close_deal(room, now, outbox);
    }

    /// Carries something out, passes it on, or lets it wait.
    fn deal_with(&mut self, asked: Parked, now: Now, outbox: &mut Outbox) {
        let room = asked.ask.room;
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        let is_held = deal.home.is_some_and(|(_, fence)| self.directory.acts_as_home(fence, now.instant));
        let acts = is_held || crate::planted::planted!(TwoHomesAnswer);
        let is_here = deal.home.is_some_and(|(node, _)| self.abroad.nodes.contains_key(&node));
        match deal.way(self.at.node, asked.fence, acts, is_here, now.instant) {
            Way::CarryOut(fence) => self.carry_out_as_home(*asked.ask, fence, now, outbox),
            Way::PassOn(node, fence) => {
                deal.is_visited = true;
                self.begin_visit(room, (node, fence));
                self.pass_on(asked.ask, (node, fence), outbox);
            }
            Way::NotHome => {
                let fence = asked.fence.unwrap_or_default();
                outbox.mail(asked.ask.from.at, ControlMail::NotHome(asked.ask, fence));
            }
            Way::Park => self.park(asked, now, outbox),
        }
    }

    /// Lets something wait, or refuses it if too much does.
    fn park(&mut self, asked: Parked, now: Now, outbox: &mut Outbox) {
        let room = asked.ask.room;
        match self.abroad.desk.park(asked) {
            Ok(()) => self.look_later(room, now),
            Err(asked) => self.refuse_unknown(&asked, outbox),
        }
    }

    fn look_later(&mut self, room: RoomId, now: Now) {
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        if !deal.parked.is_empty() && !std::mem::replace(&mut deal.is_looked_at, true) {
            self.timers.insert(now.instant + LOOK_AGAIN, Due::Desk(room));
        }
    }

    /// Looks again at what waits.
    pub(in crate::core) fn desk_due(&mut self, room: RoomId, now: Now, outbox: &mut Outbox) {
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        deal.is_looked_at = false;
        deal.looks = deal.looks.wrapping_add(1);
        // Whoever is wanted to decide may have heard of it while they could not: it is said again each second.
        if deal.looks.is_multiple_of(LOOKS_TO_WANT) {
            outbox.errand(Errand::Home(HomeWish::Want(room)));
        }
        self.try_parked(room, now, outbox);
        let known = self.abroad.desk.rooms.get(&room).and_then(|deal| deal.home).map(|(_, fence)| fence);
        // By a decision that is not heard of here in that time nothing is done at all.
        let is_of_no_home = |parked: &Parked| parked.fence.is_some() && parked.fence != known;
        let is_over = |parked: &Parked| parked.until <= now.instant && (!parked.stays() || is_of_no_home(parked));
        if self.abroad.desk.rooms.get(&room).is_some_and(|deal| deal.parked.iter().any(is_over)) {
            for parked in self.abroad.desk.take_parked(&room) {
                if is_over(&parked) {
                    self.refuse_unknown(&parked, outbox);
                } else if let Err(parked) = self.abroad.desk.park(parked) {
                    self.refuse_unknown(&parked, outbox);
                }
            }
        }
        self.look_later(room, now);
        self.close_deal(room, now, outbox);
    }

    /// Does what can be done now of what waits, in its order.
    fn try_parked(&mut self, room: RoomId, now: Now, outbox: &mut Outbox) {
        for parked in self.abroad.desk.take_parked(&room) {
            self.deal_with(parked, now, outbox);
        }
    }

    /// The relay does not know yet where the room lives: whoever asks again is answered later.
    fn refuse_unknown(&self, parked: &Parked, outbox: &mut Outbox) {
        let (room, ask) = (parked.ask.room, &parked.ask);
        if ask.request == 0 {
            return;
        }
        outbox.as_home(room, parked.fence.unwrap_or_default(), |outbox| {
            outbox.refuse(ask.from, ask.request, Refusal::of(RefusalReason::HomeUnknown).into());
        });
    }

    /// Something was decided about a room, or is no longer known.
    fn hear_home(&mut self, room: RoomId, is: HomeIs, now: Now, outbox: &mut Outbox) {
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room) else { return };
        let home = match is {
            HomeIs::Here(fence) => (self.at.node, fence),
            HomeIs::There(node, fence) => (node, fence),
            HomeIs::Unknown => {
                deal.is_sure = false;
                return;
            }
        };
        let is_given_up = home.0 == self.at.node && self.abroad.desk.given_up.has(&room, home.1, now.instant);
        let Some(deal) = self.abroad.desk.rooms.get_mut(&room).filter(|_| !is_given_up) else { return };
        if deal.home.is_some_and(|(_, known)| home.1.is_before(known)) {
            return;
        }
        deal.is_sure = true;
        deal.doubted_until = None;
        let before = deal.home.replace(home).filter(|before| *before != home);
        if let Some(before) = before {
            (deal.is_visited, deal.is_lost) = (false, false);
            self.re_enter(room, before, outbox);
        }
        self.try_parked(room, now, outbox);
        self.close_deal(room, now, outbox);
    }

    /// Another home knows nothing of those who are in the room: they come again.
    fn re_enter(&mut self, room: RoomId, (node, _): (NodeId, Fence), outbox: &mut Outbox) {
        if node == self.at.node {
            self.give_up_room(&room, outbox);
        } else {
            self.end_visit(&room, outbox);
        }
        // What its members have asked is answered by the end of their sessions, and what others have by `Reenter`.
        for parked in self.abroad.desk.take_parked(&room) {
            if parked.fence.is_some() {
                // Goes back to where it came from, as this node is no home by the decision by which it was asked.
                let _ = self.abroad.desk.park(parked);
            }
        }
        if !crate::planted::planted!(MovedNotTold) {
            outbox.broadcast(&ControlMail::Reenter(room));
        }
    }

    /// Nobody here has to do with a room any more, if that is so.
    fn close_deal(&mut self, room: RoomId, now: Now, outbox: &mut Outbox) {
        let Some(deal) = self.abroad.desk.rooms.get(&room) else { return };
        if deal.here > 0 || !deal.parked.is_empty() || self.directory.rooms.contains_key(&room) {
            return;
        }
        if let Some(home) = deal.home.filter(|(node, _)| deal.is_visited && !deal.is_lost && *node != self.at.node) {
            // Whatever the home believes of this node: nobody of it is in the room.
            let from = SessionId { at: self.at, link: 0, generation: 0 };
            let gone = RoomAsk { room, from, member: 0, request: 0, what: Asked::Gone };
            self.pass_on(Box::new(gone), home, outbox);
        }
        self.end_visit(&room, outbox);
        let home = self.abroad.desk.rooms.remove(&room).and_then(|deal| deal.home);
        if let Some((_, fence)) = home.filter(|(node, _)| *node == self.at.node) {
            self.abroad.desk.given_up.add(room, fence, now.instant);
        }
        outbox.errand(Errand::Home(HomeWish::Leave(room)));
    }
}
