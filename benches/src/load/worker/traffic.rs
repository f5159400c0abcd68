//! What a worker's clients send, and when.

use std::time::Instant;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_measure::{
    schedule::{Due, Schedule},
    stamp::Stamp,
};

use super::{
    super::{
        client::object_bytes,
        plan::{Kind, Role},
    },
    Worker,
};

/// What to do when a source is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Audio,
    Video,
    Flood,
    Presence,
    Ring,
    Churn,
}

impl Worker {
    /// Once the run has set the times of its measured part: who is due when.
    pub(super) fn enter_window(&mut self) {
        if self.window.is_some() {
            return;
        }
        let Some(window) = self.shared.window() else { return };
        self.window = Some(window);
        let scenario = self.shared.stage.scenario.clone();
        let mut sources: Vec<(Task, usize, usize)> = Vec::new();
        for (place, client) in self.clients.iter().enumerate() {
            for (index, track) in client.plan.tracks.iter().enumerate() {
                let task = match (client.plan.role, track.kind) {
                    (Role::Flooder, _) => Task::Flood,
                    (_, Kind::Audio) => Task::Audio,
                    (_, Kind::Video) => Task::Video,
                };
                sources.push((task, place, index));
            }
            if client.plan.watchers > 0 {
                sources.push((Task::Presence, place, 0));
            }
            if client.plan.callee.is_some() {
                sources.push((Task::Ring, place, 0));
            }
            if client.plan.role == Role::Churner {
                sources.push((Task::Churn, place, 0));
            }
        }
        let rates = [
            (Task::Audio, Some(scenario.objects_per_second)),
            (Task::Video, scenario.video.as_ref().map(|video| video.frames_per_second)),
            (Task::Flood, scenario.flood.as_ref().map(|flood| flood.objects_per_second)),
            (Task::Presence, scenario.presence.as_ref().map(|presence| presence.changes_per_second)),
            (Task::Ring, scenario.rings.as_ref().map(|rings| rings.per_minute / 60.0)),
            (Task::Churn, scenario.churn.as_ref().map(|churn| 1.0 / churn.stay_s)),
        ];
        for (task, rate) in rates {
            let Some(rate) = rate.filter(|rate| *rate > 0.0) else { continue };
            let mut entries = Vec::new();
            for (_, place, index) in sources.iter().filter(|(of, ..)| *of == task) {
                // All tracks of one kind that a client has go together.
                let number = u64::from(self.clients[*place].number);
                let mut phase =
                    StdRng::seed_from_u64(scenario.seed.wrapping_mul(1_000_003) ^ number << 8 ^ task as u64);
                entries.push((phase.random::<f64>(), self.sources.len() as u32));
                self.sources.push((*place, *index));
            }
            self.schedules.push((task, Schedule::new(rate, window.media_from_ns, entries)));
        }
    }

    pub(super) fn send_due(&mut self, now_ns: u64) {
        let mut schedules = std::mem::take(&mut self.schedules);
        for (task, schedule) in &mut schedules {
            while let Some(due) = schedule.pop(now_ns) {
                self.send(*task, due);
            }
        }
        self.schedules = schedules;
    }

    fn send(&mut self, task: Task, due: Due) {
        let (place, index) = self.sources[due.source as usize];
        if task == Task::Churn {
            return self.churn(place, due);
        }
        if task != Task::Flood && !self.takes_part(place, due.at_ns) {
            return;
        }
        let measured = self.window.is_some_and(|window| window.contains(due.at_ns)) && task != Task::Flood;
        let client = &mut self.clients[place];
        let expected = match task {
            Task::Presence => u64::from(client.plan.watchers),
            // The callee hears it, and the caller the answer.
            Task::Ring => 2,
            _ => u64::from(client.plan.tracks[index].expected),
        };
        if measured {
            self.tally.due += 1;
            self.tally.expected += expected;
            self.note(due.at_ns, |piece| {
                piece.due += 1;
                piece.expected += expected;
            });
        }
        let flood = task == Task::Flood && self.window.is_some_and(|window| window.contains(due.at_ns));
        self.tally.flood_due += u64::from(flood);
        let stage = &self.shared.stage;
        let client = &mut self.clients[place];
        let link = client.link.and_then(|handle| self.links.get_mut(handle)).and_then(Option::as_mut);
        let Some(link) = link else {
            self.tally.held_back += u64::from(measured);
            return;
        };
        let stamp = Stamp { due_ns: due.at_ns, sequence: due.sequence };
        let taken = match task {
            Task::Audio => {
                let bytes = object_bytes(stage, &mut self.rng);
                client.send_audio(link, index, stamp, bytes, stage)
            }
            Task::Flood => {
                let bytes = stage.scenario.flood.as_ref().map_or(0, |flood| flood.object_bytes as usize);
                client.send_audio(link, index, stamp, bytes, stage)
            }
            Task::Video => match (&stage.scenario.video, client.tracks.get_mut(index)) {
                (Some(video), Some(track)) => {
                    track.alias.is_some_and(|alias| track.video.send(link, alias, stamp, video, stage))
                }
                _ => false,
            },
            Task::Presence => {
                client.change_presence(link, stamp);
                true
            }
            Task::Ring => {
                let bytes = stage.scenario.rings.as_ref().map_or(Stamp::BYTES, |rings| rings.payload_bytes as usize);
                client.ring(link, stamp, bytes, stage);
                true
            }
            Task::Churn => true,
        };
        self.tally.held_back += u64::from(measured && !taken);
        self.tally.flood_taken += u64::from(flood && taken);
        if measured {
            let in_a_datagram = task == Task::Audio && taken;
            let list = if in_a_datagram { &mut link.waiting } else { &mut self.sent_due_ns };
            list.push(due.at_ns);
        }
        let handle = link.handle.0;
        self.touch(handle);
    }

    /// Whether a client is among those who do something at that time, as the stages say. Who shares a room talks and falls
    /// silent together; outside of the measured part everybody talks, so that all are seen to be heard.
    fn takes_part(&self, place: usize, due_ns: u64) -> bool {
        let Some(window) = self.window.filter(|window| window.contains(due_ns)) else { return true };
        let stage = self.shared.stage.scenario.stage_at(window.since_s(due_ns));
        let Some((_, share)) = stage else { return true };
        let client = &self.clients[place];
        let group = client.plan.rooms.first().copied().unwrap_or(client.number);
        rank(group) < share
    }

    /// One of those who come and go leaves, and somebody else comes in its place.
    fn churn(&mut self, place: usize, due: Due) {
        let now = Instant::now();
        let client = &mut self.clients[place];
        self.tally.churn_due += 1;
        self.tally.churn_missed += u64::from(!client.ready);
        if let Some(handle) = client.link.take()
            && let Some(link) = self.links.get_mut(handle).and_then(Option::as_mut)
        {
            link.close(now);
            self.touch(handle);
        }
        self.connect(place, due.at_ns, now);
    }
}

/// Spreads groups over 0 to 1 so that of any share of it so many groups are below, or one more or less.
fn rank(group: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    ((f64::from(group) + 0.5) * GOLDEN).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_number_of_groups_the_share_that_is_asked_for_takes_part() {
        for groups in [4, 10, 37, 1000] {
            for share in [0.1, 0.25, 0.5, 0.9] {
                let taking = (0..groups).filter(|group| rank(*group) < share).count() as f64;
                let wanted = f64::from(groups) * share;
                assert!((taking - wanted).abs() <= 2.0, "{taking} of {groups} for {share}");
            }
        }
        assert!((0..1000).all(|group| rank(group) < 1.0));
    }
}
