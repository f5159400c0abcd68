//! What happens in a world: people come and go, talk, ring and put each other out, and everything fails that can.

use std::time::Duration;

use rand::RngExt;
use supernode_proto::control::{PresenceState, TrackKind};
use supernode_session::Moment;
use supernode_world_options::Trouble;

use crate::{
    client::{Client, Wish},
    judge::Rule,
    network::Conditions,
    world::{LIVELY_MAX, World},
};

/// How long nothing happens before the judge looks. A client that has crashed is forgotten after 30 s, and its watchers are
/// told 3 s later; but where it has slept before, QUIC takes its round-trip time for as long as that, and waits for three
/// probes (RFC 9000 section 10.1).
const QUIET: Duration = Duration::from_secs(130);
/// From when on in that time sessions must stay.
const SETTLED: Duration = Duration::from_secs(25);
/// How long a process drains at most, once it was told to.
const DRAINS_FOR: Duration = Duration::from_secs(8);
/// Within which its clients are to go.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

impl World {
    /// From the first who comes to the last who goes.
    pub(crate) fn live(&mut self) {
        for _ in 0..self.shape.rounds {
            self.be_lively();
            self.be_quiet();
            if !self.is_sound() {
                return;
            }
        }
        self.end();
    }

    fn be_lively(&mut self) {
        let lively = Duration::from_millis(self.rng.random_range(4_000..LIVELY_MAX.as_millis() as u64));
        let until = self.now + lively.min(self.plan.lively_max());
        for client in 0..self.clients.len() {
            let conditions = Conditions::draw(&mut self.rng, self.shape.is_calm);
            self.paths[client].change(conditions);
            self.tell(client, |client, _| client.talk_until(until));
            if self.rng.random_bool(0.7) {
                self.tell(client, Client::come);
            }
        }
        self.note_reordering();
        if self.plan.is_lying {
            self.judge.begin_lies();
            for client in 0..self.clients.len() {
                let seed = self.rng.random();
                self.tell(client, |client, _| client.lie_to(seed));
            }
        }
        while self.now < until && self.is_sound() {
            let next = self.now + Duration::from_millis(self.rng.random_range(5..300));
            self.count_calls(next.since(self.now));
            self.pass_until(next);
            self.end_drained();
            self.happen(until);
            self.happen_in_groups();
        }
    }

    /// Something happens.
    fn happen(&mut self, until: Moment) {
        let client = self.rng.random_range(0..self.clients.len());
        let person = self.rng.random_range(0..self.shape.people);
        let room = self.rng.random_range(0..self.shape.rooms);
        let roll = self.rng.random_range(0..100);
        let after = self.rng.random_range(100..8_000);
        let later = self.now + Duration::from_millis(after);
        let own_room = {
            let rooms = self.clients[client].rooms();
            let pick = self.rng.random_range(0..8);
            rooms.get(pick % rooms.len().max(1)).copied()
        };
        let is_calm = self.shape.is_calm;
        let trouble = match roll {
            73..=80 => Some(Trouble::Kicks),
            85..=91 => Some(Trouble::Devices),
            92..=96 => Some(Trouble::Network),
            97..=99 => Some(Trouble::Relay),
            _ => None,
        };
        if trouble.is_some_and(|trouble| self.plan.is_without(trouble)) {
            return;
        }
        match roll {
            0..=9 => self.tell(client, Client::come),
            10..=25 => {
                let kinds = self.kinds();
                self.tell(client, |client, cx| client.join(room, Wish { kinds }, cx));
            }
            26..=37 => self.tell(client, |client, cx| client.toggle_watch(person, cx)),
            38..=43 => {
                let states =
                    [PresenceState::Online, PresenceState::Away, PresenceState::Busy, PresenceState::Invisible];
                let state = states[self.rng.random_range(0..states.len())];
                self.tell(client, |client, cx| {
                    if client.is_in() {
                        client.show_as(state, cx)
                    }
                });
            }
            44..=51 => {
                let room = self.cast.open_room();
                self.tell(client, |client, cx| client.ring(person, room, cx));
            }
            52..=60 => {
                let commit = self.rng.random_bool(0.3);
                if let Some(room) = own_room {
                    self.tell(client, |client, cx| client.say(room, commit, cx));
                }
            }
            61..=64 => {
                let kind = self.kinds()[0];
                if let Some(room) = own_room {
                    self.tell(client, |client, cx| client.publish(room, kind, cx));
                }
            }
            65..=66 => self.tell(client, |client, cx| client.unpublish(cx)),
            67..=70 => self.tell(client, |client, cx| client.toggle_subscription(cx)),
            71..=72 => {
                if let Some(room) = own_room {
                    self.tell(client, |client, cx| client.leave(room, cx));
                }
            }
            73..=80 => {
                if let Some(room) = own_room {
                    self.tell(client, |client, cx| client.kick(room, cx));
                }
            }
            81..=83 => self.tell(client, Client::intrude),
            84 => self.tell(client, Client::leave_relay),
            85..=86 => {
                let moves = self.next_move();
                self.tell(client, |client, cx| client.crash(moves, cx));
            }
            87..=88 => {
                let moves = self.next_move();
                self.tell(client, |client, cx| client.rebind(moves, cx));
            }
            89 => self.tell(client, |client, cx| client.sleep(later, cx)),
            90..=91 => self.tell(client, |client, cx| client.stall(later, cx)),
            92..=93 if !is_calm => {
                self.trace.tell(self.now, format_args!("client {client} is cut off"));
                self.paths[client].cut(later);
            }
            94 if !is_calm => {
                let mtu = self.rng.random_range(1_200..1_400);
                self.trace.tell(self.now, format_args!("no more than {mtu} bytes pass to client {client}"));
                self.paths[client].narrow_mtu(mtu, later);
            }
            95..=96 => {
                let conditions = Conditions::draw(&mut self.rng, is_calm);
                self.paths[client].change(conditions);
                self.note_reordering();
            }
            97 => {
                let (shard, held) = (self.rng.random_range(0..8), Duration::from_millis(after / 100));
                if let Some(process) = self.processes.last_mut() {
                    process.hold(shard, self.now + held);
                }
            }
            98 => self.hand_over(),
            99 if self.rng.random_bool(0.3) => self.restart(),
            _ => {}
        }
        self.tell(client, |client, _| client.talk_until(until));
    }

    /// Something happens in a room whose members keep a group.
    fn happen_in_groups(&mut self) {
        let Self { shape, group_dice: dice, .. } = self;
        if shape.standing == 0 || !dice.random_bool(0.5) {
            return;
        }
        let client = dice.random_range(0..self.clients.len());
        let room = shape.rooms + dice.random_range(0..shape.standing);
        let (roll, pick) = (dice.random_range(0..20), dice.random_range(0..4));
        let is_inside = self.clients[client].standing_rooms().contains(&room);
        match roll {
            0..=9 => {
                let kind = [TrackKind::Audio, TrackKind::Audio, TrackKind::Video, TrackKind::Data][pick];
                self.tell(client, |client, cx| client.want_in(room, vec![TrackKind::Audio, kind], cx));
            }
            10 => self.tell(client, |client, cx| client.want_out(room, cx)),
            11..=13 if self.plan.is_without(Trouble::Kicks) => {}
            11..=12 if is_inside => self.tell(client, |client, cx| client.put_out(room, pick, cx)),
            13 if is_inside => self.tell(client, |client, cx| client.kick_only(room, pick, cx)),
            14..=15 if is_inside => self.tell(client, |client, cx| client.refresh_keys(room, cx)),
            16 => {
                // All at once: of their commits one comes first.
                for client in 0..self.clients.len() {
                    if self.clients[client].standing_rooms().contains(&room) {
                        self.tell(client, |client, cx| client.refresh_keys(room, cx));
                    }
                }
            }
            17 if is_inside => self.tell(client, |client, cx| client.publish(room, TrackKind::Audio, cx)),
            18 if is_inside => {
                // Once for each person: whose commits are rejected again and again is shut out for a while.
                let person = self.clients[client].person;
                if self.junk_senders.insert(person) {
                    self.tell(client, |client, cx| client.send_junk(room, cx));
                }
            }
            _ => {}
        }
    }

    /// What somebody publishes who comes into a room.
    fn kinds(&mut self) -> Vec<TrackKind> {
        let mut kinds = vec![TrackKind::Audio];
        if self.rng.random_bool(0.4) {
            kinds.push(TrackKind::Video);
        }
        if self.rng.random_bool(0.15) {
            kinds.push(TrackKind::Data);
        }
        let first = self.rng.random_range(0..kinds.len());
        kinds.swap(0, first);
        kinds
    }

    /// A port that no client has had.
    fn next_move(&mut self) -> u16 {
        self.moves += 1;
        self.moves
    }

    /// Another process takes the relay's place, unless one drains already.
    fn hand_over(&mut self) {
        if self.processes.len() > 1 {
            return;
        }
        self.trace.tell(self.now, format_args!("another process takes the relay's port"));
        self.start_process();
        self.processes[0].drain(DRAIN_WINDOW, self.now, &mut self.rng);
    }

    /// The relay is killed, and starts again.
    fn restart(&mut self) {
        self.trace.tell(self.now, format_args!("the relay is killed and starts again"));
        for process in (0..self.processes.len()).rev() {
            self.look_at_ledger(process, false);
            self.kill(process);
        }
        self.start_process();
    }

    /// Ends what has drained for long enough.
    fn end_drained(&mut self) {
        let (now, process) = (self.now, &self.processes[0]);
        let Some(since) = process.drains_since else { return };
        if now.since(since) >= DRAINS_FOR || process.directory().population().sessions == 0 {
            self.trace.tell(now, format_args!("a process has drained"));
            self.look_at_ledger(0, false);
            self.finish(0);
        }
    }

    /// Nothing is wrong any more, and nobody does anything: then the judge looks.
    fn be_quiet(&mut self) {
        self.trace.tell(self.now, format_args!("nothing happens"));
        for client in 0..self.clients.len() {
            self.paths[client].heal();
            self.tell(client, |client, _| client.awake());
        }
        if self.plan.is_lying {
            self.trace.tell(self.now, format_args!("the relay lies no more"));
            for client in 0..self.clients.len() {
                self.tell(client, Client::end_lies);
            }
            self.judge.end_lies();
        }
        let begins = self.now;
        self.pass_until(begins + DRAINS_FOR);
        self.end_drained();
        self.pass_until(begins + SETTLED);
        let settled: Vec<_> = self.clients.iter().map(|client| (client.is_in(), client.since())).collect();
        self.pass_until(begins + QUIET);
        self.await_rest();
        if !self.is_sound() {
            return;
        }
        for (number, (client, before)) in self.clients.iter().zip(settled).enumerate() {
            if client.is_on() && !client.is_in() {
                let what = format!("client {number} is not in, and nothing is in its way");
                self.judge.fail(self.now, Rule::Admission, what);
            }
            if before.0 && before != (client.is_in(), client.since()) {
                self.judge.fail(self.now, Rule::Idle, format!("client {number} lost a session that was idle"));
            }
        }
        self.look_at_everything();
        if self.shape.standing > 0 && !self.plan.is_lying && self.is_sound() {
            self.look_at_groups();
        }
    }

    /// Everybody goes, one way or the other.
    fn end(&mut self) {
        self.trace.tell(self.now, format_args!("everybody goes"));
        for client in 0..self.clients.len() {
            let moves = self.next_move();
            match self.rng.random_bool(0.5) {
                true => self.tell(client, Client::leave_relay),
                false => self.tell(client, |client, cx| client.crash(moves, cx)),
            }
        }
        self.pass_until(self.now + QUIET);
        self.look_at_what_is_left();
    }

    fn count_calls(&mut self, time: Duration) {
        let in_calls = self.clients.iter().filter(|client| client.is_in_a_call()).count();
        self.in_calls += time * in_calls as u32;
    }
}
