//! The reference: what the control protocol means, without shards, sockets, time or order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use supernode_proto::control::RefusalReason;

/// Rooms that one person may be in, out of [`ROOMS`].
pub const ROOMS_MAX: usize = 2;
pub const ROOMS: usize = 3;
/// People in one room, out of [`PEOPLE`].
pub const MEMBERS_MAX: usize = 3;
pub const PEOPLE: usize = 4;
/// Tracks that one person publishes.
pub const TRACKS_MAX: usize = 3;
/// Rings at one person.
pub const INCOMING_MAX: usize = 2;
/// Of one person's rings at another.
pub const PER_PAIR_MAX: usize = 1;
/// Key packages of one person.
pub const PACKAGES_MAX: u64 = 32;

/// Somebody, by number.
pub type Person = usize;

/// A request whose names are real.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Join { room: usize, key: usize, epoch: u64, honest: bool },
    Leave { room: usize },
    Kick { room: usize, member: u32 },
    Rotate { room: usize, key: usize },
    Mls { room: usize, epoch: u64, commit: bool },
    CatchUp { room: usize, after: u64 },
    Publish { room: usize, kind: i32 },
    Unpublish { alias: u64 },
    Relabel { alias: u64 },
    Subscribe { alias: u64, layer: u32 },
    Unsubscribe { alias: u64 },
    Keyframe { alias: u64 },
    Deposit { packages: u64 },
    Take { from: Person },
    Ring { whom: Person },
    Answer { ring: Bytes },
    Decline { ring: Bytes, busy: bool },
    Cancel { ring: Bytes },
}

/// The reply to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Joined {
        member: u32,
        epoch: u64,
        sequence: u64,
        members: Vec<(u32, Person)>,
    },
    Published(u64),
    Rings {
        ring: Bytes,
        devices: u32,
    },
    Packages(usize),
    Refused(RefusalReason, String),
    /// Whatever no request may be answered with.
    Other(String),
}

/// What is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    rooms: BTreeMap<usize, Room>,
    tracks: BTreeMap<u64, Track>,
    /// Of tracks that there are.
    subscribed: BTreeSet<(Person, u64)>,
    /// Of tracks that have ended: each subscriber's shard hears of it a moment later.
    ending: BTreeSet<(Person, u64)>,
    packages: BTreeMap<Person, u64>,
    /// Who was handed whose, and may ring them once.
    handed: BTreeSet<(Person, Person)>,
    /// Who rings whom.
    rings: BTreeMap<Bytes, (Person, Person)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    key: usize,
    members: BTreeMap<u32, Person>,
    next: u32,
    epoch: u64,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Track {
    publisher: Person,
    room: usize,
}

impl Room {
    fn number_of(&self, person: Person) -> Option<u32> {
        self.members.iter().find(|(_, who)| **who == person).map(|(member, _)| *member)
    }
}

fn refused(reason: RefusalReason) -> Answer {
    Answer::Refused(reason, String::new())
}

fn limit(name: &str) -> Answer {
    Answer::Refused(RefusalReason::Limit, name.to_owned())
}

impl Reference {
    /// What is so after `person` asked for this and got that answer; nothing if it is a wrong one.
    pub fn after(&self, person: Person, request: &Request, answer: &Answer) -> Option<Self> {
        let mut next = self.clone();
        let right = next.carry_out(person, request, answer);
        // Of a track that has just ended, a subscriber may still be one.
        let late = matches!((request, answer), (Request::Unsubscribe { alias }, Answer::Done)
            if self.ending.contains(&(person, *alias)));
        (right == *answer || late).then_some(next)
    }

    /// A person's number in a room.
    pub fn member(&self, room: usize, person: Person) -> Option<u32> {
        self.rooms.get(&room)?.number_of(person)
    }

    /// Who is in a room, by number.
    pub fn members(&self, room: usize) -> BTreeMap<u32, Person> {
        self.rooms.get(&room).map(|room| room.members.clone()).unwrap_or_default()
    }

    /// The epoch that a room's next commit must carry, and its last message.
    pub fn mailbox(&self, room: usize) -> (u64, u64) {
        self.rooms.get(&room).map_or((0, 0), |room| (room.epoch, room.sequence))
    }

    /// Carries it out; the right answer. Names that the relay draws are taken from the answer that it gave.
    fn carry_out(&mut self, person: Person, request: &Request, answer: &Answer) -> Answer {
        match *request {
            Request::Join { room, key, epoch, honest } => self.join(person, room, key, epoch, honest),
            Request::Leave { room } => match self.member(room, person) {
                Some(member) => {
                    self.take_out(room, member);
                    Answer::Done
                }
                None => refused(RefusalReason::UnknownRoom),
            },
            Request::Kick { room, member } => match (self.member(room, person), self.members(room).get(&member)) {
                (None, _) => refused(RefusalReason::UnknownRoom),
                (_, None) => refused(RefusalReason::UnknownMember),
                (Some(own), _) if own == member => Answer::Refused(RefusalReason::Malformed, "member".to_owned()),
                _ => {
                    self.take_out(room, member);
                    Answer::Done
                }
            },
            Request::Rotate { room, key } => self.in_room(person, room, |room| {
                room.key = key;
                Answer::Done
            }),
            Request::Mls { room, epoch, commit } => self.in_room(person, room, |room| {
                if commit && epoch != room.epoch {
                    return refused(RefusalReason::EpochConflict);
                }
                room.epoch += u64::from(commit);
                room.sequence += 1;
                Answer::Done
            }),
            Request::CatchUp { room, after } => self.in_room(person, room, |room| match after > room.sequence {
                true => refused(RefusalReason::HistoryGone),
                false => Answer::Done,
            }),
            Request::Publish { room, kind } => self.publish(person, room, kind, answer),
            Request::Unpublish { alias } => match self.is_own(person, alias) {
                true => {
                    self.end_track(alias);
                    Answer::Done
                }
                false => refused(RefusalReason::UnknownTrack),
            },
            Request::Relabel { alias } => match self.is_own(person, alias) {
                true => Answer::Done,
                false => refused(RefusalReason::UnknownTrack),
            },
            Request::Subscribe { alias, layer } => {
                let heard = self.tracks.get(&alias).filter(|track| track.publisher != person);
                match heard.filter(|track| self.member(track.room, person).is_some()) {
                    None => refused(RefusalReason::UnknownTrack),
                    Some(_) if layer > 7 => Answer::Refused(RefusalReason::Malformed, "layer_max".to_owned()),
                    Some(_) => {
                        self.subscribed.insert((person, alias));
                        Answer::Done
                    }
                }
            }
            Request::Unsubscribe { alias } => {
                self.ending.remove(&(person, alias));
                match self.subscribed.remove(&(person, alias)) {
                    true => Answer::Done,
                    false => refused(RefusalReason::UnknownTrack),
                }
            }
            Request::Keyframe { alias } => match self.subscribed.contains(&(person, alias)) {
                true => Answer::Done,
                false => refused(RefusalReason::UnknownTrack),
            },
            Request::Deposit { packages } => {
                let kept = self.packages.entry(person).or_default();
                if *kept + packages > PACKAGES_MAX {
                    return limit("key_packages_max");
                }
                *kept += packages;
                Answer::Done
            }
            Request::Take { from } if from == person => refused(RefusalReason::Offline),
            Request::Take { from } => match self.packages.get_mut(&from).filter(|kept| **kept > 0) {
                Some(kept) => {
                    *kept -= 1;
                    self.handed.insert((person, from));
                    Answer::Packages(1)
                }
                None => refused(RefusalReason::NoKeyPackage),
            },
            Request::Ring { whom } => self.ring(person, whom, answer),
            Request::Answer { ref ring } | Request::Decline { ref ring, .. } => {
                self.settle(ring, |(_, callee)| callee == person)
            }
            Request::Cancel { ref ring } => self.settle(ring, |(caller, _)| caller == person),
        }
    }

    fn join(&mut self, person: Person, name: usize, key: usize, epoch: u64, honest: bool) -> Answer {
        if self.member(name, person).is_some() {
            return refused(RefusalReason::Already);
        }
        if self.rooms.values().filter(|room| room.number_of(person).is_some()).count() >= ROOMS_MAX {
            return limit("rooms_max");
        }
        let known = self.rooms.get(&name).is_none_or(|room| room.key == key);
        if !honest || !known {
            return refused(RefusalReason::JoinProof);
        }
        let opened = Room { key, members: BTreeMap::new(), next: 1, epoch, sequence: 0 };
        let room = self.rooms.entry(name).or_insert(opened);
        if room.members.len() >= MEMBERS_MAX {
            return limit("room_members_max");
        }
        let member = room.next;
        room.next += 1;
        room.members.insert(member, person);
        let members = room.members.iter().map(|(member, person)| (*member, *person)).collect();
        Answer::Joined { member, epoch: room.epoch, sequence: room.sequence, members }
    }

    fn in_room(&mut self, person: Person, room: usize, act: impl FnOnce(&mut Room) -> Answer) -> Answer {
        match self.rooms.get_mut(&room).filter(|room| room.number_of(person).is_some()) {
            Some(room) => act(room),
            None => refused(RefusalReason::UnknownRoom),
        }
    }

    fn publish(&mut self, person: Person, room: usize, kind: i32, answer: &Answer) -> Answer {
        if self.member(room, person).is_none() {
            return refused(RefusalReason::UnknownRoom);
        }
        if !(1..=4).contains(&kind) {
            return Answer::Refused(RefusalReason::Malformed, "kind".to_owned());
        }
        if self.tracks.values().filter(|track| track.publisher == person).count() >= TRACKS_MAX {
            return limit("tracks_max");
        }
        match *answer {
            Answer::Published(alias) if !self.tracks.contains_key(&alias) => {
                self.tracks.insert(alias, Track { publisher: person, room });
                Answer::Published(alias)
            }
            _ => Answer::Other("a fresh alias".to_owned()),
        }
    }

    fn ring(&mut self, person: Person, whom: Person, answer: &Answer) -> Answer {
        if person == whom {
            return refused(RefusalReason::Offline);
        }
        if !self.handed.contains(&(person, whom)) {
            return refused(RefusalReason::NoKeyPackage);
        }
        if self.rings.values().filter(|ring| **ring == (person, whom)).count() >= PER_PAIR_MAX {
            return limit("rings_per_pair_max");
        }
        if self.rings.values().filter(|(_, callee)| *callee == whom).count() >= INCOMING_MAX {
            return limit("incoming_rings_max");
        }
        match answer {
            Answer::Rings { ring, .. } if !self.rings.contains_key(ring) => {
                self.handed.remove(&(person, whom));
                self.rings.insert(ring.clone(), (person, whom));
                Answer::Rings { ring: ring.clone(), devices: 1 }
            }
            _ => Answer::Other("a fresh ring at one device".to_owned()),
        }
    }

    fn settle(&mut self, ring: &Bytes, may: impl FnOnce((Person, Person)) -> bool) -> Answer {
        match self.rings.get(ring).copied().filter(|ring| may(*ring)) {
            Some(_) => {
                self.rings.remove(ring);
                Answer::Done
            }
            None => refused(RefusalReason::UnknownRing),
        }
    }

    fn is_own(&self, person: Person, alias: u64) -> bool {
        self.tracks.get(&alias).is_some_and(|track| track.publisher == person)
    }

    fn take_out(&mut self, name: usize, member: u32) {
        let Some(room) = self.rooms.get_mut(&name) else { return };
        let Some(person) = room.members.remove(&member) else { return };
        if room.members.is_empty() {
            self.rooms.remove(&name);
        }
        let of_room: Vec<u64> =
            self.tracks.iter().filter(|(_, track)| track.room == name).map(|(alias, _)| *alias).collect();
        for alias in of_room {
            self.subscribed.remove(&(person, alias));
            if self.is_own(person, alias) {
                self.end_track(alias);
            }
        }
    }

    fn end_track(&mut self, alias: u64) {
        self.tracks.remove(&alias);
        let (ending, left) = self.subscribed.iter().partition(|(_, subscribed)| *subscribed == alias);
        self.subscribed = left;
        self.ending.extend::<BTreeSet<_>>(ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(member: u32, members: &[(u32, Person)]) -> Answer {
        Answer::Joined { member, epoch: 5, sequence: 0, members: members.to_vec() }
    }

    #[test]
    fn the_reference_takes_the_right_answer_and_no_other() {
        let join = Request::Join { room: 0, key: 0, epoch: 5, honest: true };
        let one = Reference::default().after(0, &join, &joined(1, &[(1, 0)])).expect("right");
        assert_eq!(one.after(0, &join, &joined(2, &[(1, 0), (2, 0)])), None, "nobody is in twice");
        assert!(one.after(0, &join, &refused(RefusalReason::Already)).is_some());
        assert_eq!(one.after(1, &join, &joined(2, &[(2, 1)])), None, "somebody is missing");
        let kick = Request::Kick { room: 0, member: 1 };
        assert_eq!(one.after(1, &kick, &Answer::Done), None, "who is not in may not kick");
        assert!(one.after(1, &kick, &refused(RefusalReason::UnknownRoom)).is_some());
    }

    #[test]
    fn of_two_commits_for_one_epoch_one_wins() {
        let join = Request::Join { room: 0, key: 0, epoch: 5, honest: true };
        let start = Reference::default().after(0, &join, &joined(1, &[(1, 0)])).expect("right");
        let commit = Request::Mls { room: 0, epoch: 5, commit: true };
        let won = start.after(0, &commit, &Answer::Done).expect("whoever opened it told the epoch");
        assert_eq!(won.after(0, &commit, &Answer::Done), None);
        assert!(won.after(0, &commit, &refused(RefusalReason::EpochConflict)).is_some());
    }
}
