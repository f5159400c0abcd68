//! A track to its end, in order and in time.

use std::time::Duration;

use supernode_proto::object::Flags;
use supernode_session::Moment;

use crate::{DelayBounds, Frame, JitterBuffer, Playout};

/// What is to be played.
#[derive(Debug, PartialEq, Eq)]
pub enum Played {
    /// A frame whose time has come.
    Frame(Frame),
    /// So many frames did not come in time.
    Missing(u64),
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Cue {
    /// Play this.
    Play(Played),
    /// Nothing before then, or before a frame comes.
    Wait(Option<Moment>),
    /// There is no more.
    Over,
}

/// Plays a track whose objects are groups of their own, as those of audio are. Calls must pass times that never go back.
#[derive(Debug)]
pub struct Player {
    buffer: JitterBuffer,
    bounds: DelayBounds,
    end: Option<End>,
}

/// The publisher's mark may overtake frames.
#[derive(Debug, Clone, Copy)]
struct End {
    /// No frame has this group or a later one; `None` if nothing comes any more.
    group: Option<u64>,
    heard_at: Moment,
}

impl Player {
    /// Before the first frame.
    pub fn new(bounds: DelayBounds) -> Self {
        Self { buffer: JitterBuffer::new(bounds), bounds, end: None }
    }

    /// A frame came, or the mark at the track's end.
    pub fn push(&mut self, frame: Frame, now: Moment) {
        if frame.flags.contains(Flags::END_OF_TRACK) {
            self.end = Some(End { group: Some(frame.group), heard_at: now });
        } else {
            self.buffer.push(frame, now);
        }
    }

    /// Nothing comes any more.
    pub fn finish(&mut self, now: Moment) {
        let heard_at = self.end.map_or(now, |end| end.heard_at);
        self.end = Some(End { group: None, heard_at });
    }

    /// Whether [`Self::finish`] was called.
    pub fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| end.group.is_none())
    }

    /// What is to be done now.
    pub fn next(&mut self, now: Moment) -> Cue {
        let wake_at = match self.buffer.next(now) {
            Playout::Frame(frame) => return Cue::Play(Played::Frame(frame)),
            Playout::Missing(frames) => return Cue::Play(Played::Missing(frames)),
            Playout::Wait(until) => Some(until),
            Playout::Empty => None,
        };
        let Some(End { group, heard_at }) = self.end else { return Cue::Wait(wake_at) };
        // What is still on its way has as long as a frame may be late.
        let over_at = heard_at + self.bounds.max;
        if group.is_none_or(|group| self.buffer.has_played_to(group)) && wake_at.is_none() || now >= over_at {
            // What waits although the track is over is not kept back any more.
            return self.buffer.pop_first().map_or(Cue::Over, |frame| Cue::Play(Played::Frame(frame)));
        }
        Cue::Wait(Some(wake_at.map_or(over_at, |at| at.min(over_at))))
    }

    /// How long after the fastest way a frame is played, for now.
    pub fn delay(&self) -> Duration {
        self.buffer.target()
    }

    /// Frames that came after their time.
    pub fn late(&self) -> u64 {
        self.buffer.late()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use supernode_proto::object::Layer;

    use super::*;
    use crate::FrameTimes;

    const START: Moment = Moment::at(Duration::from_secs(3600));
    const BOUNDS: DelayBounds = DelayBounds { min: Duration::from_millis(20), max: Duration::from_millis(400) };

    fn at(ms: u64) -> Moment {
        START + Duration::from_millis(ms)
    }

    fn packet(number: u64) -> Frame {
        let times = FrameTimes { captured_at_us: 0, presentation_us: number * 20_000 };
        let flags = Flags::INDEPENDENT | Flags::END_OF_GROUP;
        Frame { group: number, object: 0, flags, layer: Layer::default(), times, payload: Bytes::new() }
    }

    fn mark(number: u64) -> Frame {
        Frame { flags: Flags::END_OF_GROUP | Flags::END_OF_TRACK, ..packet(number) }
    }

    /// What is played and when, until it waits for more than `until_ms` or is over: then when.
    fn play(player: &mut Player, from_ms: u64, until_ms: u64) -> (Vec<(u64, u64)>, Option<u64>) {
        let mut played = Vec::new();
        for ms in from_ms..=until_ms {
            loop {
                match player.next(at(ms)) {
                    Cue::Play(Played::Frame(frame)) => played.push((frame.group, ms)),
                    Cue::Play(Played::Missing(_)) => {}
                    Cue::Wait(_) => break,
                    Cue::Over => return (played, Some(ms)),
                }
            }
        }
        (played, None)
    }

    #[test]
    fn a_mark_that_overtakes_frames_ends_nothing_before_they_are_played() {
        let mut player = Player::new(BOUNDS);
        player.push(packet(0), at(0));
        player.push(mark(3), at(1));
        player.push(packet(2), at(40));
        player.push(packet(1), at(40));
        let (played, over) = play(&mut player, 40, 1_000);
        assert_eq!(played.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(over, played.last().map(|(_, ms)| *ms), "at once behind the last one");
    }

    #[test]
    fn what_never_comes_before_a_mark_is_waited_for_as_long_as_a_frame_may_be_late() {
        let mut player = Player::new(BOUNDS);
        player.push(packet(0), at(0));
        player.push(mark(9), at(5));
        assert_eq!(play(&mut player, 5, 1_000), (vec![(0, 20)], Some(405)));
    }

    #[test]
    fn a_track_that_vanishes_is_played_to_what_came_in_its_time() {
        let mut player = Player::new(BOUNDS);
        (0..3).for_each(|number| player.push(packet(number), at(0)));
        player.finish(at(1));
        assert!(player.is_finished());
        let (played, over) = play(&mut player, 1, 1_000);
        assert_eq!(played.len(), 3);
        assert_eq!(over, played.last().map(|(_, ms)| *ms));
        assert_eq!(player.next(at(1_000)), Cue::Over);
    }
}
