//! What becomes of the frames of a track of ours: which of them are sent, as which objects, and on which streams.

use supernode_proto::{
    control::TrackKind,
    object::{Flags, Layer, Visible},
};
use supernode_session::Demand;

use crate::OutgoingFrame;

/// Streams of a group, one for each temporal layer.
pub const LANES: usize = Layer::MAX as usize + 1;

/// What is to be done about a frame, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What becomes of all streams that there are.
    pub ends: Option<Ends>,
    /// Whether whoever makes frames is to make a key frame.
    pub wants_keyframe: bool,
    /// What becomes of the frame.
    pub fate: Fate,
}

/// How streams end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The group is whole.
    Whole,
    /// The group cannot be completed: nothing of it is sent any more.
    Broken,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody is sent it, and without a number of its own nobody waits for it.
    Withheld,
    /// It is given up.
    Dropped,
    /// It is a group of its own: in a datagram if it fits one, else on a stream of its own.
    Alone(Visible),
    /// It goes on the stream of this lane.
    OnLane {
        /// Which.
        lane: usize,
        /// It is the first there.
        begins: bool,
        /// What the relay sees of it.
        visible: Visible,
    },
}

/// The numbers and streams of a track of ours. One frame after the other: each has had its fate before the next one comes.
#[derive(Debug)]
pub struct Sending {
    kind: TrackKind,
    /// Group and object of the next frame; `None` while a key frame is needed to begin the first group.
    next: Option<(u64, u64)>,
    lanes: [Lane; LANES],
    /// The connection that the lanes are on.
    connection: u64,
    pause: Pause,
    /// Lowest spatial layer of which a frame was left out.
    spatial_gap: u8,
    /// How many had joined when the stream of a data track began.
    served: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Lane {
    #[default]
    Unused,
    Open,
    /// What follows in this group would be undecodable.
    Broken,
}

/// Whether a picture rests because nobody is sent it any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Nobody was sent it yet on this connection: what is sent now, the first subscriber gets.
    #[default]
    Early,
    Running,
    Resting,
    /// Somebody is to be sent it again, and a key frame has been asked for.
    Waking,
}

impl Sending {
    /// Before the first frame.
    pub fn new(kind: TrackKind) -> Self {
        Self {
            kind,
            next: None,
            lanes: [Lane::Unused; LANES],
            connection: 0,
            pause: Pause::default(),
            spatial_gap: Layer::MAX + 1,
            served: 0,
        }
    }

    /// A frame in this layer, with these flags. `connection` is the number of the one that the track is published on, if it
    /// is.
    pub fn plan(
        &mut self,
        frame: &OutgoingFrame<'_>,
        flags: Flags,
        layer: Layer,
        connection: Option<u64>,
        demand: &Demand,
    ) -> Plan {
        match self.kind {
            TrackKind::Video | TrackKind::Screen => {
                let rest = self.rest(begins_group(frame), connection, demand.subscribers > 0);
                if let Some(rest) = rest {
                    return rest;
                }
                if self.is_withheld(frame, demand) {
                    return Fate::Withheld.into();
                }
                self.plan_layered(begins_group(frame), flags, layer, connection)
            }
            TrackKind::Data => self.plan_ordered(flags | Flags::INDEPENDENT, connection, demand.joined),
            _ => self.plan_alone(flags | Flags::END_OF_GROUP, connection),
        }
    }

    /// The mark at the track's end: on the stream that there is, or by itself.
    pub fn plan_end(&mut self, connection: Option<u64>, joined: u64) -> Plan {
        let end = Flags::END_OF_GROUP | Flags::END_OF_TRACK;
        match (self.kind, self.lanes[0]) {
            (TrackKind::Data, _) => self.plan_ordered(Flags::INDEPENDENT | end, connection, joined),
            (TrackKind::Video | TrackKind::Screen, Lane::Open) => {
                self.plan_layered(false, end, Layer::default(), connection)
            }
            _ => {
                let ends = self.end_lanes(Lane::Unused, Ends::Whole);
                Plan { ends, ..self.plan_alone(Flags::INDEPENDENT | end, connection) }
            }
        }
    }

    /// The same mark by itself, once it has gone on the stream that there is: whoever is sent no picture now is not sent that
    /// stream, and is to learn of the end. `None` where the first mark went by itself, or is of no picture.
    pub fn plan_end_again(&mut self, first: Fate, connection: Option<u64>) -> Option<Plan> {
        let is_picture = matches!(self.kind, TrackKind::Video | TrackKind::Screen);
        if !is_picture || !matches!(first, Fate::OnLane { .. }) {
            return None;
        }
        let ends = self.end_lanes(Lane::Unused, Ends::Whole);
        let end = Flags::INDEPENDENT | Flags::END_OF_GROUP | Flags::END_OF_TRACK;
        Some(Plan { ends, ..self.plan_alone(end, connection) })
    }

    /// The frame that was to go on a lane did not, and its stream is gone: what becomes of the others.
    pub fn handle_failed(&mut self, lane: usize) -> Plan {
        self.lanes[lane] = Lane::Unused;
        if self.kind == TrackKind::Data { Fate::Dropped.into() } else { self.break_lanes() }
    }

    /// The track is taken back: what becomes of its streams.
    pub fn give_up(&mut self) -> Plan {
        self.break_lanes()
    }

    /// What to do while nobody is sent the picture any more. It goes on with a key frame, which is asked for.
    fn rest(&mut self, keyframe: bool, connection: Option<u64>, wanted: bool) -> Option<Plan> {
        let connection = connection?;
        if connection != self.connection {
            self.pause = Pause::Early;
        }
        let mut rest = Plan::from(Fate::Withheld);
        self.pause = match (self.pause, wanted) {
            (Pause::Early, false) => Pause::Early,
            (Pause::Running, false) => {
                rest.ends = self.end_lanes(Lane::Unused, Ends::Whole);
                Pause::Resting
            }
            (_, false) => Pause::Resting,
            (Pause::Resting, true) if !keyframe => {
                rest.wants_keyframe = true;
                Pause::Waking
            }
            (Pause::Waking, true) if !keyframe => Pause::Waking,
            (_, true) => Pause::Running,
        };
        matches!(self.pause, Pause::Resting | Pause::Waking).then_some(rest)
    }

    /// Whether nobody is sent the frame's layer now. A spatial layer of which a frame was left out goes on with a frame
    /// that needs none before it, as it does behind the relay.
    fn is_withheld(&mut self, frame: &OutgoingFrame<'_>, demand: &Demand) -> bool {
        if frame.keyframe && frame.spatial_layer <= self.spatial_gap {
            self.spatial_gap = Layer::MAX + 1;
        }
        if demand.subscribers == 0 {
            return false;
        }
        if frame.spatial_layer > demand.spatial_layer_max {
            self.spatial_gap = self.spatial_gap.min(frame.spatial_layer);
        }
        frame.temporal_layer > demand.temporal_layer_max || frame.spatial_layer >= self.spatial_gap
    }

    /// Even a frame that is dropped here has its number, so that receivers see the gap.
    fn plan_alone(&mut self, flags: Flags, connection: Option<u64>) -> Plan {
        let group = self.next_group();
        self.next = Some((group + 1, 0));
        match connection {
            Some(_) => Fate::Alone(Visible { group, object: 0, flags, layer: Layer::default() }).into(),
            None => Fate::Dropped.into(),
        }
    }

    /// A frame on the stream of a data track. Whoever subscribes gets streams from their beginning only, so a new
    /// subscriber means a new stream.
    fn plan_ordered(&mut self, flags: Flags, connection: Option<u64>, joined: u64) -> Plan {
        let Some(connection) = connection else {
            return Plan { ends: self.end_lanes(Lane::Unused, Ends::Whole), ..Fate::Dropped.into() };
        };
        let goes_on = self.connection == connection && joined == self.served && self.lanes[0] == Lane::Open;
        (self.connection, self.served) = (connection, joined);
        let mut ends = None;
        if !goes_on {
            ends = self.end_lanes(Lane::Unused, Ends::Whole);
            self.next = Some((self.next_group(), 0));
        }
        Plan { ends, ..self.on_lane(0, flags, Layer::default()) }
    }

    /// A frame of a group with layers.
    fn plan_layered(&mut self, begins: bool, flags: Flags, layer: Layer, connection: Option<u64>) -> Plan {
        let mut ends = None;
        if begins {
            ends = self.end_lanes(Lane::Unused, Ends::Whole);
            self.next = Some((self.next_group(), 0));
        }
        let Some((group, object)) = self.next else { return Fate::Dropped.into() };
        let Some(connection) = connection else {
            self.next = Some((group, object + 1));
            let broken = self.break_lanes();
            return Plan { ends: ends.or(broken.ends), ..broken };
        };
        let mut wants_keyframe = false;
        if std::mem::replace(&mut self.connection, connection) != connection && object > 0 {
            // What the new connection has not seen the beginning of is of no use on it.
            Plan { ends, wants_keyframe, .. } = self.break_lanes();
        }
        let lane = usize::from(layer.temporal());
        if self.lanes[lane] == Lane::Broken {
            self.next = Some((group, object + 1));
            return Plan { ends, wants_keyframe, fate: Fate::Dropped };
        }
        Plan { ends, wants_keyframe, ..self.on_lane(lane, flags, layer) }
    }

    fn on_lane(&mut self, lane: usize, flags: Flags, layer: Layer) -> Plan {
        let (group, object) = self.next.unwrap_or_default();
        self.next = Some((group, object + 1));
        let begins = std::mem::replace(&mut self.lanes[lane], Lane::Open) != Lane::Open;
        Fate::OnLane { lane, begins, visible: Visible { group, object, flags, layer } }.into()
    }

    fn next_group(&self) -> u64 {
        self.next.map_or(0, |(group, object)| group + u64::from(object > 0))
    }

    fn break_lanes(&mut self) -> Plan {
        let ends = self.end_lanes(Lane::Broken, Ends::Broken);
        Plan { ends, wants_keyframe: true, fate: Fate::Dropped }
    }

    fn end_lanes(&mut self, after: Lane, ends: Ends) -> Option<Ends> {
        let were_open = self.lanes.contains(&Lane::Open);
        self.lanes = [after; LANES];
        were_open.then_some(ends)
    }
}

impl From<Fate> for Plan {
    fn from(fate: Fate) -> Self {
        Self { ends: None, wants_keyframe: false, fate }
    }
}

fn begins_group(frame: &OutgoingFrame<'_>) -> bool {
    frame.keyframe && frame.spatial_layer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wanted by one, in all layers.
    const WANTED: Demand =
        Demand { subscribers: 1, temporal_layer_max: 7, spatial_layer_max: 7, bits_per_second: None, joined: 1 };
    const NOBODY: Demand = Demand { subscribers: 0, ..WANTED };

    /// A frame of a picture in these layers.
    fn frame(keyframe: bool, temporal_layer: u8, spatial_layer: u8) -> OutgoingFrame<'static> {
        OutgoingFrame { temporal_layer, spatial_layer, ..OutgoingFrame::video(b"", 0, keyframe) }
    }

    fn plan(sending: &mut Sending, frame: &OutgoingFrame<'_>, connection: Option<u64>, demand: &Demand) -> Plan {
        let layer = Layer::new(frame.temporal_layer, frame.spatial_layer).expect("a layer");
        sending.plan(frame, Flags::default(), layer, connection, demand)
    }

    /// The lane, whether it begins there, group and object.
    fn on_lane(plan: Plan) -> (usize, bool, u64, u64) {
        match plan.fate {
            Fate::OnLane { lane, begins, visible } => (lane, begins, visible.group, visible.object),
            other => panic!("on a lane: {other:?}"),
        }
    }

    const KEY: (bool, u8, u8) = (true, 0, 0);
    const DELTA: (bool, u8, u8) = (false, 0, 0);

    fn send(sending: &mut Sending, (keyframe, temporal, spatial): (bool, u8, u8), demand: &Demand) -> Plan {
        plan(sending, &frame(keyframe, temporal, spatial), Some(1), demand)
    }

    #[test]
    fn a_group_has_a_stream_for_each_temporal_layer_and_ends_whole_with_the_next_key_frame() {
        let mut sending = Sending::new(TrackKind::Video);
        assert_eq!(send(&mut sending, DELTA, &WANTED).fate, Fate::Dropped, "nothing to begin with");
        assert_eq!(on_lane(send(&mut sending, KEY, &WANTED)), (0, true, 0, 0));
        assert_eq!(on_lane(send(&mut sending, (false, 1, 0), &WANTED)), (1, true, 0, 1));
        assert_eq!(on_lane(send(&mut sending, DELTA, &WANTED)), (0, false, 0, 2));
        let next = send(&mut sending, KEY, &WANTED);
        assert_eq!((next.ends, on_lane(next)), (Some(Ends::Whole), (0, true, 1, 0)));
        let end = sending.plan_end(Some(1), 1);
        assert_eq!(on_lane(end), (0, false, 1, 1), "behind the last frame");
    }

    #[test]
    fn a_picture_rests_while_nobody_is_sent_it_and_goes_on_with_a_key_frame_asked_for_once() {
        let mut sending = Sending::new(TrackKind::Video);
        assert_eq!(on_lane(send(&mut sending, KEY, &NOBODY)), (0, true, 0, 0), "the first subscriber gets it");
        assert_eq!(on_lane(send(&mut sending, DELTA, &WANTED)), (0, false, 0, 1));
        let rests = send(&mut sending, DELTA, &NOBODY);
        assert_eq!(rests, Plan { ends: Some(Ends::Whole), ..Fate::Withheld.into() });
        assert_eq!(send(&mut sending, KEY, &NOBODY), Fate::Withheld.into());
        assert_eq!(send(&mut sending, DELTA, &WANTED), Plan { wants_keyframe: true, ..Fate::Withheld.into() });
        assert_eq!(send(&mut sending, DELTA, &WANTED), Fate::Withheld.into());
        assert_eq!(on_lane(send(&mut sending, KEY, &WANTED)), (0, true, 1, 0), "no number was left out");
    }

    //
    #[test]
    fn a_spatial_layer_that_was_left_out_goes_on_with_a_key_frame_of_it() {
        let mut sending = Sending::new(TrackKind::Video);
        let narrow = Demand { spatial_layer_max: 0, ..WANTED };
        on_lane(send(&mut sending, KEY, &WANTED));
        assert_eq!(send(&mut sending, (false, 0, 1), &narrow).fate, Fate::Withheld);
        assert_eq!(send(&mut sending, (false, 0, 1), &WANTED).fate, Fate::Withheld, "what it needs is not there");
        assert_eq!(on_lane(send(&mut sending, (true, 0, 1), &WANTED)), (0, false, 0, 1));
        let slow = Demand { temporal_layer_max: 0, ..WANTED };
        assert_eq!(send(&mut sending, (false, 1, 0), &slow).fate, Fate::Withheld);
    }

    #[test]
    fn a_group_is_of_no_use_on_a_connection_that_has_not_seen_its_beginning_or_once_a_stream_failed() {
        let mut sending = Sending::new(TrackKind::Screen);
        on_lane(send(&mut sending, KEY, &WANTED));
        let broken = plan(&mut sending, &frame(false, 0, 0), None, &WANTED);
        assert_eq!(broken, Plan { ends: Some(Ends::Broken), wants_keyframe: true, fate: Fate::Dropped });
        let again = plan(&mut sending, &frame(false, 0, 0), Some(2), &WANTED);
        assert_eq!((again.wants_keyframe, again.fate), (true, Fate::Dropped));
        assert_eq!(on_lane(plan(&mut sending, &frame(true, 0, 0), Some(2), &WANTED)), (0, true, 1, 0));
        on_lane(plan(&mut sending, &frame(false, 1, 0), Some(2), &WANTED));
        let failed = sending.handle_failed(0);
        assert_eq!((failed.ends, failed.wants_keyframe), (Some(Ends::Broken), true), "the other lane goes as well");
        assert_eq!(plan(&mut sending, &frame(false, 1, 0), Some(2), &WANTED).fate, Fate::Dropped);
        assert_eq!(on_lane(plan(&mut sending, &frame(true, 0, 0), Some(2), &WANTED)), (0, true, 2, 0));
    }

    #[test]
    fn data_begins_a_stream_for_each_new_subscriber_and_connection() {
        let mut sending = Sending::new(TrackKind::Data);
        let mut say = |connection, joined| {
            let demand = Demand { joined, ..WANTED };
            plan(&mut sending, &OutgoingFrame::independent(b"", 0), connection, &demand)
        };
        assert_eq!(on_lane(say(Some(1), 1)), (0, true, 0, 0));
        assert_eq!(on_lane(say(Some(1), 1)), (0, false, 0, 1));
        let second = say(Some(1), 2);
        assert_eq!((second.ends, on_lane(second)), (Some(Ends::Whole), (0, true, 1, 0)));
        assert_eq!(on_lane(say(Some(1), 2)), (0, false, 1, 1));
        assert_eq!(say(None, 2), Plan { ends: Some(Ends::Whole), ..Fate::Dropped.into() });
        assert_eq!(on_lane(say(Some(2), 2)), (0, true, 2, 0));
        assert_eq!(sending.handle_failed(0), Fate::Dropped.into());
        let demand = Demand { joined: 2, ..WANTED };
        let after = plan(&mut sending, &OutgoingFrame::independent(b"", 0), Some(2), &demand);
        assert_eq!(on_lane(after), (0, true, 3, 0), "the frame that was lost has its number");
    }

    #[test]
    fn what_is_dropped_here_has_a_number_so_that_receivers_see_the_gap() {
        let mut sending = Sending::new(TrackKind::Audio);
        let mut say = |connection| plan(&mut sending, &OutgoingFrame::independent(b"", 0), connection, &NOBODY).fate;
        assert_eq!(say(None), Fate::Dropped);
        let Fate::Alone(visible) = say(Some(1)) else { panic!("by itself") };
        assert_eq!((visible.group, visible.object), (1, 0));
        assert!(visible.flags.contains(Flags::END_OF_GROUP));
        let Fate::Alone(end) = sending.plan_end(Some(1), 0).fate else { panic!("by itself") };
        assert_eq!(end.group, 2);
        assert!(end.flags.contains(Flags::END_OF_TRACK));
    }

    //
    #[test]
    fn the_end_of_a_picture_is_marked_on_its_stream_and_by_itself_and_that_of_sound_once() {
        let mut sending = Sending::new(TrackKind::Video);
        for frame in [frame(true, 0, 0), frame(false, 0, 0)] {
            plan(&mut sending, &frame, Some(1), &WANTED);
        }
        let first = sending.plan_end(Some(1), 1).fate;
        let Fate::OnLane { lane: 0, begins: false, visible } = first else { panic!("{first:?}") };
        assert_eq!((visible.group, visible.object), (0, 2));
        let again = sending.plan_end_again(first, Some(1)).expect("a second mark");
        let Fate::Alone(visible) = again.fate else { panic!("{again:?}") };
        assert_eq!((visible.group, visible.object, again.ends), (1, 0, Some(Ends::Whole)));
        assert!(visible.flags.contains(Flags::END_OF_TRACK | Flags::INDEPENDENT));
        assert_eq!(sending.plan_end_again(again.fate, Some(1)), None);

        let mut sound = Sending::new(TrackKind::Audio);
        let first = sound.plan_end(Some(1), 1).fate;
        assert_eq!(sound.plan_end_again(first, Some(1)), None);
    }
}
