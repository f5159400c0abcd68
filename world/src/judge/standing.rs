//! What members of rooms that stand make of their groups once nothing happens any more.

use std::{collections::BTreeSet, time::Duration};

use supernode_proto::control::TrackKind;

use super::Rule;
use crate::{
    client::{Client, Standing},
    world::World,
};

/// How long members say something, so that it shows who hears whom.
const SAYS_FOR: Duration = Duration::from_millis(400);
/// How long that, or a subscription, may take to arrive: paths are wide, and at most 120 ms long.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);

/// How long a commit may take to arrive, with those that are made again behind it and what follows from it: keys are renewed
/// all the time.
const COMMITS_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether it has.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

impl World {
    /// Lets time pass until nothing is under way, but no longer than a commit takes.
    pub(crate) fn await_rest(&mut self) {
        let until = self.now + COMMITS_WITHIN;
        while self.now < until && self.is_sound() && !self.is_at_rest() {
            self.pass_until(self.now + LOOKS_EVERY);
        }
    }

    fn is_at_rest(&self) -> bool {
        let standing_rooms = self.shape.rooms..self.shape.rooms + self.shape.standing;
        let is_one = |room| {
            let mut epochs = self.clients.iter().filter_map(|client| Some(client.standing(room, &self.cast)?.epoch));
            let first = epochs.next();
            epochs.all(|epoch| Some(epoch) == first)
        };
        self.clients.iter().all(Client::has_all_replies) && standing_rooms.into_iter().all(is_one)
    }

    /// Whoever wants in is in; all of a room agree; every label and everybody's frames open.
    pub(crate) fn look_at_groups(&mut self) {
        let rooms = self.shape.rooms..self.shape.rooms + self.shape.standing;
        let members: Vec<(usize, Vec<(usize, Standing)>)> = rooms.map(|room| (room, self.members_of(room))).collect();
        for (room, members) in &members {
            self.look_at_group(*room, members);
        }
        if self.is_sound() {
            self.look_who_is_heard(&members);
        }
    }

    fn members_of(&mut self, room: usize) -> Vec<(usize, Standing)> {
        let mut members = Vec::new();
        for client in self.clients.iter().filter(|client| client.is_in()) {
            if let Some(standing) = client.standing(room, &self.cast) {
                members.push((client.number, standing));
            } else if client.wanted_rooms().any(|wanted| wanted == room) {
                let what = client.describe(room, &self.cast);
                let what = format!("client {} wants into room {room}, and is not in: {what}", client.number);
                self.judge.fail(self.now, Rule::Admission, what);
            }
        }
        members
    }

    fn look_at_group(&mut self, room: usize, members: &[(usize, Standing)]) {
        let numbers: Vec<usize> = members.iter().map(|(number, _)| *number).collect();
        let Some((_, first)) = members.first() else { return };
        for (number, standing) in members {
            let others: Vec<usize> = numbers.iter().copied().filter(|other| other != number).collect();
            let is_one_group = (standing.epoch, &standing.safety_number) == (first.epoch, &first.safety_number);
            if !is_one_group || standing.members != numbers || standing.here != others {
                let is_same = standing.safety_number == first.safety_number;
                let what = format!(
                    "client {number} in room {room} is in epoch {} with {:?}, of whom {:?} are here; {numbers:?} are, and \
                     the first of them is in epoch {}, same number: {is_same}",
                    standing.epoch, standing.members, standing.here, first.epoch
                );
                self.judge.fail(self.now, Rule::Group, what);
            }
            if standing.is_silent {
                self.judge.fail(self.now, Rule::Heard, format!("client {number} is silent in room {room}"));
            }
            let all = others.iter().flat_map(|other| self.clients[*other].published_in(room));
            let all: BTreeSet<u32> = all.map(|(serial, _)| serial).collect();
            if all != standing.tracks {
                let what = format!("client {number} in room {room} knows tracks {:?} of {all:?}", standing.tracks);
                self.judge.fail(self.now, Rule::Label, what);
            }
        }
    }

    /// Everybody takes all tracks and says something, and hears all others.
    fn look_who_is_heard(&mut self, rooms: &[(usize, Vec<(usize, Standing)>)]) {
        for client in 0..self.clients.len() {
            self.tell(client, Client::take_all);
        }
        self.pass_until(self.now + ARRIVES_WITHIN);
        self.judge.groups.count_anew();
        let until = self.now + SAYS_FOR;
        for client in 0..self.clients.len() {
            self.tell(client, |client, _| client.talk_until(until));
        }
        self.pass_until(until + ARRIVES_WITHIN);
        for (room, members) in rooms {
            for (speaker, _) in members {
                let tracks: Vec<(u32, TrackKind)> = self.clients[*speaker].published_in(*room).collect();
                for (serial, _) in tracks.into_iter().filter(|(_, kind)| *kind == TrackKind::Audio) {
                    let is_deaf = |(number, _): &&(usize, Standing)| {
                        number != speaker && !self.judge.groups.has_heard(*number, serial)
                    };
                    if let Some((deaf, _)) = members.iter().find(is_deaf) {
                        let what = format!("client {deaf} hears nothing of track {serial} of {speaker} in room {room}");
                        self.judge.fail(self.now, Rule::Heard, what);
                    }
                }
            }
        }
    }
}
