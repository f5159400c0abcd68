//! What keeps a room in order while a client is in it.

use std::time::Duration;

use supernode_calls::rights::{Admission, Door};
use supernode_calls::room::{ComingBack, Duty, Hindrance, Keeping, NextWay, Way};
use supernode_e2ee::Group;
use supernode_proto::identity::RoomId;
use supernode_session::Moment;

use super::{Asked, Client, Context, ForGroup, GRACE, Place, WayIn, by, commits::Aim};
use crate::client::PATIENCE;

/// After a commit of ours did not come about.
const PAUSE: Duration = Duration::from_millis(500);

/// What whoever keeps a room is at.
#[derive(Default)]
pub(super) enum Keeper {
    /// It looks what is due.
    #[default]
    Free,
    /// A commit for a duty is under way, or so many requests.
    Busy(u32),
    /// A duty did not come about.
    Pausing(Moment),
    /// The group went on without us.
    ComingBack(Box<Coming>),
}

/// On the way back into the group.
pub(super) struct Coming {
    attempts: ComingBack,
    stage: Stage,
}

enum Stage {
    KnockAt(Moment),
    Knocking,
    /// With the place that we were given, until we take it.
    ComingIn(Option<Box<(Group, Admission)>>),
}

impl Keeper {
    pub(super) fn due(&self, look_at: Option<Moment>) -> Option<Moment> {
        match self {
            Self::Free => look_at,
            Self::Busy(_) => None,
            Self::Pausing(until) => Some(*until),
            Self::ComingBack(coming) => {
                if let Stage::KnockAt(at) = coming.stage {
                    Some(at)
                } else {
                    None
                }
            }
        }
    }

    /// We are in, whatever we were at.
    pub(super) fn is_back(&mut self) {
        if matches!(self, Self::ComingBack(_)) {
            *self = Self::Free;
        }
    }

    /// For people.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Busy(_) => "busy",
            Self::Pausing(_) => "pausing",
            Self::ComingBack(coming) => match coming.stage {
                Stage::KnockAt(_) => "about to knock",
                Stage::Knocking => "knocking",
                Stage::ComingIn(Some(_)) => "about to take its place",
                Stage::ComingIn(None) => "coming in anew",
            },
        }
    }

    fn handle_done(&mut self) {
        if let Self::Busy(left) = self {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *self = Self::Free;
            }
        }
    }
}

impl Client {
    pub(super) fn go_on_keeping(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        while let Some(circle) = self.groups.rooms.get_mut(id) {
            if circle.keeper.due(circle.look_at).is_none_or(|at| at > cx.now) {
                return;
            }
            match &mut circle.keeper {
                Keeper::ComingBack(coming) => {
                    let next = coming.attempts.begin(&circle.parts.state, circle.door.as_ref().and_then(Door::link));
                    return self.go_back(id, next, cx);
                }
                keeper => *keeper = Keeper::Free,
            }
            circle.look_at = None;
            if !self.do_duty(id, cx) {
                return;
            }
        }
    }

    /// Whether it is to be asked again at once.
    fn do_duty(&mut self, id: &RoomId, cx: &mut Context<'_>) -> bool {
        let Self { groups, rng, .. } = self;
        let delegation = groups.device.delegation();
        let by_what = Keeping { grace: GRACE, delegation: &delegation, device: groups.device.secret() };
        let Some(circle) = groups.rooms.get_mut(id) else { return false };
        let duty = circle.parts.state.duty(by_what, cx.now, &by(rng));
        match duty {
            Duty::Wait(wishes, next) => {
                let has_news = !wishes.is_empty();
                if has_news {
                    self.grant(id, wishes, cx);
                }
                if let Some(circle) = self.groups.rooms.get_mut(id) {
                    circle.look_at = if has_news { Some(cx.now) } else { next };
                }
                has_news
            }
            Duty::ComeBack => {
                let (attempts, stage) = (ComingBack::new(&PATIENCE, cx.now), Stage::KnockAt(cx.now));
                circle.keeper = Keeper::ComingBack(Box::new(Coming { attempts, stage }));
                true
            }
            Duty::FallBehind => {
                let wishes = circle.parts.state.fall_behind();
                self.grant(id, wishes, cx);
                true
            }
            Duty::Remove(removal) => {
                circle.keeper = Keeper::Busy(1);
                circle.aims.push_front(Aim::Remove(removal));
                self.go_on_committing(id, cx);
                false
            }
            Duty::PutOut(numbers) => {
                circle.keeper = Keeper::Busy(numbers.len() as u32);
                let kick = |number: &u32| circle.parts.state.kick_request(*number);
                let requests: Vec<_> = numbers.iter().map(kick).collect();
                for (number, request) in numbers.into_iter().zip(requests) {
                    self.ask(request, Asked::Group(*id, ForGroup::PutOut(number)));
                }
                false
            }
            Duty::Renew => {
                circle.keeper = Keeper::Busy(1);
                circle.aims.push_back(Aim::Renew);
                self.go_on_committing(id, cx);
                false
            }
            Duty::Forget => {
                circle.parts.forget_past_epochs(cx.now);
                circle.look_at = Some(cx.now);
                true
            }
        }
    }

    /// The relay has put somebody out whom the group does not know.
    pub(super) fn handle_put_out(&mut self, id: &RoomId, number: u32, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        circle.keeper.handle_done();
        let wishes = circle.parts.state.forget_outsider(number);
        self.grant(id, wishes, cx);
    }

    /// A commit for a duty came about, or did not.
    pub(super) fn handle_duty_done(&mut self, id: &RoomId, aim: &Aim, is_done: bool, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        if !matches!(circle.keeper, Keeper::Busy(_)) {
            return;
        }
        circle.look_at = Some(cx.now);
        circle.keeper = match aim {
            Aim::Remove(_) if !is_done => Keeper::Pausing(cx.now + PAUSE),
            _ => Keeper::Free,
        };
        if matches!(aim, Aim::Renew) && !is_done {
            circle.parts.state.put_renewal_off(cx.now, &by(rng));
        }
    }

    /// Goes the next way back into the group.
    fn go_back(&mut self, id: &RoomId, next: NextWay, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Keeper::ComingBack(coming) = &mut circle.keeper else { return };
        match (next, &circle.place) {
            (NextWay::Wait(wait), _) => coming.stage = Stage::KnockAt(cx.now + wait),
            (NextWay::Try(Way::Link(_)), Place::Room(room)) => {
                coming.stage = Stage::Knocking;
                let room = *room;
                self.knock(id, room, true, cx);
            }
            (NextWay::Try(Way::OldPlace), _) => {
                coming.stage = Stage::ComingIn(None);
                self.come_in_with_old_place(id, cx);
            }
            // Nobody here gives a pass: there is no other way than the link.
            _ => {
                cx.trace.tell(cx.now, format_args!("client {} is not let in again", self.number));
                self.end_circle(id, cx);
            }
        }
    }

    /// A way did not lead inside: another is tried, or all again after a while, or none.
    pub(super) fn handle_not_let_in(&mut self, id: &RoomId, why: Hindrance, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        let Keeper::ComingBack(coming) = &mut circle.keeper else { return };
        let next = coming.attempts.handle_failed(why, &circle.parts.state, cx.now, &by(rng));
        self.go_back(id, next, cx);
    }

    /// We were let in again.
    pub(super) fn handle_place(&mut self, id: &RoomId, group: Group, admission: Admission, cx: &mut Context<'_>) {
        let Some(circle) = self.groups.rooms.get_mut(id) else { return };
        let Keeper::ComingBack(coming) = &mut circle.keeper else { return };
        coming.stage = Stage::ComingIn(Some(Box::new((group, admission))));
        self.come_in_with_place(id, cx);
    }

    pub(super) fn take_place(&mut self, id: &RoomId, cx: &mut Context<'_>) {
        let Self { groups, rng, .. } = self;
        let Some(circle) = groups.rooms.get_mut(id) else { return };
        let Keeper::ComingBack(coming) = &mut circle.keeper else { return };
        let Stage::ComingIn(Some(place)) = std::mem::replace(&mut coming.stage, Stage::ComingIn(None)) else { return };
        let (group, admission) = *place;
        let Ok(wishes) = circle.parts.handle_let_in(group, cx.now, &by(rng)) else {
            circle.way_in = None;
            return self.handle_not_let_in(id, Hindrance::Lasting, cx);
        };
        circle.parts.state.learn_doors(&admission);
        self.grant(id, wishes, cx);
        let way_in = self.groups.rooms.get_mut(id).and_then(|circle| circle.way_in.as_mut());
        let Some(next) = way_in.map(WayIn::handle_place_taken) else { return };
        self.go_further_in(id, next, cx);
    }
}
