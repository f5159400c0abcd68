//! Who speaks: each room's members in the order of how lively they were lately, as far as their tracks tell.
//!
//! Each shard ranks by the objects that pass through it, which are all those that its subscribers could be sent. The order
//! is sticky: a member passes another only when it is clearly livelier, so that a cough changes nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use supernode_proto::{identity::RoomId, object::TrackAlias};

use crate::core::MemberId;

/// Time over which liveliness is averaged.
const SPAN: Duration = Duration::from_millis(400);
/// How long a member counts as lively as it was without being heard: senders leave silence out.
const SILENCE: Duration = Duration::from_millis(100);
/// By how much livelier, on the scale of 0 to 3, a member must be than the one before it to pass.
const MARGIN: f32 = 0.5;

/// The rankings of one shard, bounded by the members that are heard there.
#[derive(Debug, Default)]
pub struct Speakers {
    by_room: HashMap<RoomId, Ranking>,
}

#[derive(Debug, Default)]
struct Ranking {
    /// Liveliest first.
    ranked: Vec<Speaker>,
    /// Pictures that somebody is sent only while their members are among the liveliest.
    pictures: Vec<(MemberId, TrackAlias)>,
}

#[derive(Debug)]
struct Speaker {
    member: MemberId,
    level: f32,
    heard: Instant,
}

/// Somebody has passed others.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whether there is another first one.
    pub first: bool,
    /// Pictures that somebody may be sent from now on.
    pub pictures: Vec<TrackAlias>,
}

impl Speakers {
    /// A member's object says how lively it is, from 0 to 3. Returns whether the order changed.
    pub fn heard(&mut self, room: RoomId, member: MemberId, activity: u8, now: Instant) -> Option<Moved> {
        let Ranking { ranked, pictures } = self.by_room.entry(room).or_default();
        let found = ranked.iter().position(|speaker| speaker.member == member);
        let at = found.unwrap_or_else(|| {
            ranked.push(Speaker { member, level: 0.0, heard: now });
            ranked.len() - 1
        });
        let speaker = &mut ranked[at];
        let elapsed = now.saturating_duration_since(speaker.heard).max(Duration::from_millis(20));
        let weight = 1.0 - (-elapsed.as_secs_f32() / SPAN.as_secs_f32()).exp();
        speaker.level += weight * (f32::from(activity) - speaker.level);
        speaker.heard = now;
        let level = speaker.level;
        let mut place = at;
        while place > 0 && level > ranked[place - 1].level_at(now) + MARGIN {
            place -= 1;
        }
        if place == at {
            return None;
        }
        ranked[place..=at].rotate_right(1);
        let own = pictures.iter().filter(|(of, _)| *of == member).map(|(_, alias)| *alias);
        Some(Moved { first: place == 0, pictures: own.collect() })
    }

    /// Whether a member is among the `count` liveliest of a room, `listener` left aside.
    pub fn is_among(&self, room: &RoomId, member: MemberId, count: u32, listener: MemberId) -> bool {
        let ranked = self.by_room.get(room).map(|ranking| &ranking.ranked[..]).unwrap_or_default();
        let others = ranked.iter().filter(|speaker| speaker.member != listener);
        others.take(count as usize).any(|speaker| speaker.member == member)
    }

    /// The liveliest member of a room but `listener`.
    pub fn first(&self, room: &RoomId, listener: MemberId) -> Option<MemberId> {
        let ranked = &self.by_room.get(room)?.ranked;
        ranked.iter().find(|speaker| speaker.member != listener).map(|speaker| speaker.member)
    }

    /// A member's picture is sent to somebody only while the member is lively.
    pub fn watch(&mut self, room: RoomId, member: MemberId, alias: TrackAlias) {
        let pictures = &mut self.by_room.entry(room).or_default().pictures;
        if !pictures.contains(&(member, alias)) {
            pictures.push((member, alias));
        }
    }

    /// A track is no longer published or subscribed here: it, and its member, count no more until heard again.
    pub fn forget(&mut self, room: &RoomId, member: MemberId, alias: TrackAlias) {
        let Some(ranking) = self.by_room.get_mut(room) else { return };
        ranking.pictures.retain(|(_, other)| *other != alias);
        ranking.ranked.retain(|speaker| speaker.member != member);
        if ranking.ranked.is_empty() && ranking.pictures.is_empty() {
            self.by_room.remove(room);
        }
    }

    /// How many rooms are ranked.
    pub fn len(&self) -> usize {
        self.by_room.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_room.is_empty()
    }
}

impl Speaker {
    fn level_at(&self, now: Instant) -> f32 {
        let silent = now.saturating_duration_since(self.heard).saturating_sub(SILENCE);
        self.level * (-silent.as_secs_f32() / SPAN.as_secs_f32()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([7; 16]);
    const NOBODY: MemberId = 0;

    /// Everybody sends an object every 20 ms for so long; returns who passed others.
    fn talk(speakers: &mut Speakers, now: &mut Instant, levels: &[(MemberId, u8)], ms: u32) -> Vec<MemberId> {
        let mut passed = Vec::new();
        for _ in 0..ms / 20 {
            *now += Duration::from_millis(20);
            for (member, level) in levels {
                if speakers.heard(ROOM, *member, *level, *now).is_some() {
                    passed.push(*member);
                }
            }
        }
        passed
    }

    //
    #[test]
    fn who_speaks_is_among_the_few_and_who_coughs_is_not() {
        let (mut speakers, mut now) = (Speakers::default(), Instant::now());
        talk(&mut speakers, &mut now, &[(1, 0), (2, 3), (3, 2), (4, 0)], 2000);
        let among = |speakers: &Speakers, count| {
            (1..=4).filter(|member| speakers.is_among(&ROOM, *member, count, NOBODY)).collect::<Vec<_>>()
        };
        assert_eq!(among(&speakers, 2), [2, 3]);
        assert_eq!(among(&speakers, 1), [2]);
        assert!(!speakers.is_among(&ROOM, 9, 4, NOBODY), "who tells nothing is never among them");
        let passed = talk(&mut speakers, &mut now, &[(2, 3), (3, 2), (4, 3)], 60);
        assert!(!passed.contains(&2) && among(&speakers, 2) == [2, 3], "a cough changes nothing: {passed:?}");
        talk(&mut speakers, &mut now, &[(2, 0), (3, 2), (4, 3)], 2000);
        assert_eq!(among(&speakers, 2), [3, 4]);
    }

    //
    #[test]
    fn a_listener_does_not_count_among_those_it_hears() {
        let (mut speakers, mut now) = (Speakers::default(), Instant::now());
        talk(&mut speakers, &mut now, &[(1, 3), (2, 1)], 2000);
        assert!(speakers.is_among(&ROOM, 2, 1, 1));
        assert!(!speakers.is_among(&ROOM, 2, 1, 3));
        assert_eq!((speakers.first(&ROOM, 1), speakers.first(&ROOM, 3)), (Some(2), Some(1)));
    }

    #[test]
    fn two_that_are_equally_lively_do_not_take_turns() {
        let (mut speakers, mut now) = (Speakers::default(), Instant::now());
        talk(&mut speakers, &mut now, &[(1, 3), (2, 3)], 1000);
        let mut passed = Vec::new();
        for round in 0..50u8 {
            passed.extend(talk(&mut speakers, &mut now, &[(1, 2 + round % 2), (2, 3 - round % 2)], 100));
        }
        assert_eq!(passed, [0u32; 0]);
    }

    #[test]
    fn who_sends_nothing_in_silence_gives_way() {
        let (mut speakers, mut now) = (Speakers::default(), Instant::now());
        talk(&mut speakers, &mut now, &[(1, 3)], 1000);
        speakers.watch(ROOM, 2, TrackAlias::new(5).expect("small"));
        now += Duration::from_secs(2);
        let picture = TrackAlias::new(5).expect("small");
        let moved = (0..100).find_map(|_| {
            now += Duration::from_millis(20);
            speakers.heard(ROOM, 2, 2, now)
        });
        assert_eq!(moved, Some(Moved { first: true, pictures: vec![picture] }));
        speakers.forget(&ROOM, 1, TrackAlias::new(4).expect("small"));
        speakers.forget(&ROOM, 2, picture);
        assert!(speakers.is_empty());
    }
}
