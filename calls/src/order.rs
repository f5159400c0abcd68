//! Puts the objects of one track back in order, and counts what is missing.
//!
//! Datagrams and the streams of different layers overtake each other. An object is given out at once when it is the
//! next one; otherwise it waits, at most as long as the subscriber allows, for those before it.

use std::{collections::BTreeMap, time::Duration};

use supernode_proto::object::Flags;
use supernode_session::Moment;

use crate::Frame;

/// More than this waiting counts as overdue: ten seconds of 50 objects each.
const WAITING_MAX: usize = 512;

/// No gap counts for more: numbers are the publisher's word.
const GAP_MAX: u64 = 1 << 20;

/// Objects of one track, waiting for their turn. Calls must pass times that never go back.
#[derive(Debug)]
pub struct Order {
    hold: Duration,
    /// Nothing overtakes a stream that is open: what it carries is reliable.
    is_reliable: bool,
    waiting: BTreeMap<(u64, u64), (Moment, Frame)>,
    streams_by_group: BTreeMap<u64, Streams>,
    /// Group and object that come next.
    next: Option<(u64, u64)>,
    lost: u64,
    late: u64,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is this frame's turn.
    Frame(Frame),
    /// Something waits, at most until then.
    Wait(Moment),
    /// Nothing is here.
    Empty,
}

/// The media streams that carried a group.
#[derive(Debug, Default)]
struct Streams {
    open: u32,
    cut: bool,
}

impl Order {
    /// What is not next waits for at most `hold`.
    pub fn new(hold: Duration) -> Self {
        Self {
            hold,
            is_reliable: false,
            waiting: BTreeMap::new(),
            streams_by_group: BTreeMap::new(),
            next: None,
            lost: 0,
            late: 0,
        }
    }

    /// For streams that the relay gives whole: `hold` is for those whose beginning is still on its way.
    pub fn reliable(hold: Duration) -> Self {
        Self { is_reliable: true, ..Self::new(hold) }
    }

    /// An object arrived.
    pub fn push(&mut self, frame: Frame, now: Moment) {
        let place = (frame.group, frame.object);
        if self.next.is_some_and(|next| place < next) {
            self.late += 1;
        } else {
            self.waiting.entry(place).or_insert((now, frame));
        }
    }

    /// A stream with objects of `group` began.
    pub fn stream_began(&mut self, group: u64) {
        if self.next.is_none_or(|(next, _)| group >= next) {
            self.streams_by_group.entry(group).or_default().open += 1;
        }
    }

    /// A stream with objects of `group` ended; `whole` if with its last byte.
    pub fn stream_ended(&mut self, group: u64, whole: bool) {
        if let Some(streams) = self.streams_by_group.get_mut(&group) {
            streams.open = streams.open.saturating_sub(1);
            streams.cut |= !whole;
        }
    }

    /// What can be given out now.
    pub fn turn(&mut self, now: Moment) -> Turn {
        let Some((&place, &(arrived, _))) = self.waiting.first_key_value() else { return Turn::Empty };
        if self.is_reliable && self.streams_by_group.range(..place.0).any(|(_, streams)| streams.open > 0) {
            return Turn::Wait(now + self.hold);
        }
        let deadline = arrived + self.hold;
        if !self.is_next(place) && now < deadline && self.waiting.len() <= WAITING_MAX {
            return Turn::Wait(deadline);
        }
        let (_, (_, frame)) = self.waiting.pop_first().expect("it was just looked at");
        self.lost += self.missing_before(place).min(GAP_MAX);
        let (group, object) = place;
        if frame.flags.contains(Flags::END_OF_GROUP) {
            self.next = Some((group.saturating_add(1), 0));
            self.drop_passed();
        } else {
            self.next = Some((group, object.saturating_add(1)));
        }
        self.streams_by_group = self.streams_by_group.split_off(&group);
        Turn::Frame(frame)
    }

    /// How many objects never came, at least: of a group cut short, or of which nothing came, one is counted.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// How many came after their turn had passed.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Only a publisher that lies has objects after the end of a group.
    fn drop_passed(&mut self) {
        let Some(next) = self.next else { return };
        let before = self.waiting.len();
        self.waiting = self.waiting.split_off(&next);
        self.late += (before - self.waiting.len()) as u64;
    }

    fn is_next(&self, place: (u64, u64)) -> bool {
        let Some(next) = self.next else { return place == (0, 0) };
        place == next || place == (next.0.saturating_add(1), 0) && next.1 > 0 && self.came_whole(next.0)
    }

    fn missing_before(&self, (group, object): (u64, u64)) -> u64 {
        let Some((next_group, next_object)) = self.next else { return 0 };
        if group == next_group {
            return object - next_object;
        }
        let tail_missing = match next_object {
            0 => true,
            _ => self.streams_by_group.get(&next_group).is_some_and(|streams| streams.cut),
        };
        u64::from(tail_missing) + (group - next_group - 1) + object
    }

    /// Whether all streams of the group that began have ended with their last byte.
    fn came_whole(&self, group: u64) -> bool {
        self.streams_by_group.get(&group).is_some_and(|streams| streams.open == 0 && !streams.cut)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use supernode_proto::object::Layer;

    use super::*;
    use crate::FrameTimes;

    const HOLD: Duration = Duration::from_millis(100);

    fn frame(group: u64, object: u64, flags: Flags) -> Frame {
        let times = FrameTimes { captured_at_us: 0, presentation_us: 0 };
        Frame { group, object, flags, layer: Layer::default(), times, payload: Bytes::new() }
    }

    fn packet(group: u64) -> Frame {
        frame(group, 0, Flags::INDEPENDENT | Flags::END_OF_GROUP)
    }

    fn given_out(order: &mut Order, now: Moment) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| match order.turn(now) {
            Turn::Frame(frame) => Some((frame.group, frame.object)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn packets_that_overtook_each_other_come_out_in_order() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        for group in [0, 2, 1, 3] {
            order.push(packet(group), now);
        }
        assert_eq!(given_out(&mut order, now), [(0, 0), (1, 0), (2, 0), (3, 0)]);
        assert_eq!((order.take_lost(), order.take_late()), (0, 0));
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_counted() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        order.push(packet(0), now);
        order.push(packet(3), now);
        assert_eq!(given_out(&mut order, now), [(0, 0)]);
        assert_eq!(order.turn(now), Turn::Wait(now + HOLD));
        assert_eq!(given_out(&mut order, now + HOLD), [(3, 0)]);
        assert_eq!(order.take_lost(), 2);
        order.push(packet(1), now + HOLD);
        assert_eq!(order.turn(now + HOLD), Turn::Empty);
        assert_eq!((order.take_lost(), order.take_late()), (0, 1));
    }

    #[test]
    fn without_a_hold_packets_come_as_they_come() {
        let (mut order, now) = (Order::new(Duration::ZERO), Moment::at(Duration::from_secs(3600)));
        order.push(packet(7), now);
        order.push(packet(9), now);
        assert_eq!(given_out(&mut order, now), [(7, 0), (9, 0)]);
        assert_eq!(order.take_lost(), 1);
    }

    #[test]
    fn layers_on_two_streams_are_woven_together() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        order.stream_began(0);
        order.push(frame(0, 0, Flags::INDEPENDENT), now);
        order.push(frame(0, 2, Flags::default()), now);
        assert_eq!(given_out(&mut order, now), [(0, 0)]);
        order.stream_began(0);
        order.push(frame(0, 1, Flags::default()), now);
        assert_eq!(given_out(&mut order, now), [(0, 1), (0, 2)]);
    }

    #[test]
    fn the_next_group_comes_at_once_when_the_streams_before_ended_whole() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        order.stream_began(0);
        order.push(frame(0, 0, Flags::INDEPENDENT), now);
        order.stream_began(1);
        order.push(frame(1, 0, Flags::INDEPENDENT), now);
        assert_eq!(given_out(&mut order, now), [(0, 0)]);
        order.stream_ended(0, true);
        assert_eq!(given_out(&mut order, now), [(1, 0)]);
        assert_eq!(order.take_lost(), 0);
    }

    #[test]
    fn a_group_cut_short_counts_as_a_loss() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        order.stream_began(0);
        order.push(frame(0, 0, Flags::INDEPENDENT), now);
        order.stream_ended(0, false);
        order.stream_began(2);
        order.push(frame(2, 0, Flags::INDEPENDENT), now);
        assert_eq!(given_out(&mut order, now), [(0, 0)]);
        assert_eq!(given_out(&mut order, now + HOLD), [(2, 0)]);
        assert_eq!(order.take_lost(), 2, "the rest of group 0, and group 1");
    }

    #[test]
    fn nothing_overtakes_a_reliable_stream_however_long_it_takes() {
        let (mut order, start) = (Order::reliable(HOLD), Moment::at(Duration::from_secs(3600)));
        order.stream_began(5);
        order.push(frame(5, 0, Flags::INDEPENDENT), start);
        assert_eq!(order.turn(start), Turn::Wait(start + HOLD), "an earlier stream may be on its way");
        assert_eq!(given_out(&mut order, start + HOLD), [(5, 0)]);
        order.stream_began(6);
        order.push(frame(6, 0, Flags::INDEPENDENT), start + HOLD);
        let much_later = start + 100 * HOLD;
        assert_eq!(order.turn(much_later), Turn::Wait(much_later + HOLD));
        order.push(frame(5, 1, Flags::INDEPENDENT), much_later);
        order.stream_ended(5, true);
        assert_eq!(given_out(&mut order, much_later), [(5, 1), (6, 0)]);
        assert_eq!((order.take_lost(), order.take_late()), (0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
        (1..=WAITING_MAX as u64 + 1).for_each(|group| order.push(packet(group), now));
        assert_eq!(given_out(&mut order, now).len(), WAITING_MAX + 1, "one too many sets them all free");
    }

    proptest::proptest! {
        #[test]
        fn no_numbers_and_flags_make_it_panic_and_what_comes_out_is_sorted(
            objects in proptest::collection::vec((0u64..4, 0u64..4, proptest::bool::ANY, proptest::bool::ANY), 1..60),
        ) {
            let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
            let mut out = Vec::new();
            for (group, object, last, far) in objects {
                let group = if far { (1 << 62) - 4 + group } else { group };
                let flags = if last { Flags::END_OF_GROUP } else { Flags::default() };
                order.stream_began(group);
                order.push(frame(group, object, flags), now);
                order.stream_ended(group, last);
                out.extend(given_out(&mut order, now));
            }
            out.extend(given_out(&mut order, now + HOLD));
            assert!(out.is_sorted());
            assert!(order.take_lost() <= 60 * GAP_MAX);
        }

        #[test]
        fn any_arrival_order_comes_out_sorted_and_losses_add_up(groups in proptest::collection::vec(0u64..60, 1..60)) {
            let (mut order, now) = (Order::new(HOLD), Moment::at(Duration::from_secs(3600)));
            groups.iter().for_each(|&group| order.push(packet(group), now));
            let out: Vec<u64> = given_out(&mut order, now + HOLD).into_iter().map(|(group, _)| group).collect();
            let distinct: std::collections::BTreeSet<u64> = groups.iter().copied().collect();
            assert_eq!(out, distinct.iter().copied().collect::<Vec<_>>());
            let span = distinct.last().expect("one at least") - distinct.first().expect("one at least") + 1;
            assert_eq!(order.take_lost(), span - distinct.len() as u64);
        }
    }
}
