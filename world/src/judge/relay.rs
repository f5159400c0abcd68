//! The relay's tables, ledger and memory, and what its clients make of it once nothing happens any more.

use std::collections::BTreeSet;

use supernode_proto::control::PresenceState;
use supernode_server::{core::directory::Population, shard::Census};

use super::Rule;
use crate::world::World;

impl World {
    /// The relay keeps no more than its limits say, once a shard has made its turn: within one it may read more.
    pub(crate) fn look_at_memory(&mut self, process: usize) {
        let limits = self.site.limits();
        let shards = self.shape.shards as u64;
        let [all_max, control_max] =
            [limits.relay_queue_bytes_max, limits.relay_control_bytes_max].map(|max| (max / shards) as usize);
        for (shard, of_shard) in self.processes[process].shards.iter().enumerate().filter(|(_, it)| !it.is_in_turn) {
            let census = of_shard.offline.census();
            let Census { held_bytes, control_bytes, datagram_bytes_most, stream_bytes_most, .. } = census;
            let kept = [
                ("relay_queue_bytes_max", held_bytes, all_max),
                ("relay_control_bytes_max", control_bytes, control_max),
                ("queue_bytes_max of datagrams", datagram_bytes_most, limits.queue_bytes_max),
                ("queue_bytes_max of streams", stream_bytes_most, limits.queue_bytes_max),
            ];
            for (limit, is, max) in kept {
                if is > max {
                    let what = format!("shard {shard} keeps {is} bytes, {limit}: {max}");
                    self.judge.fail(self.now, Rule::Memory, what);
                }
            }
        }
    }

    /// Every object is in one bin; where nothing waits any more, in one for good.
    pub(crate) fn look_at_ledger(&mut self, process: usize, is_settled: bool) {
        for (shard, ledger) in self.processes[process].ledgers().enumerate() {
            let (offered, settled) = (ledger.offered, ledger.settled());
            if settled > offered || (is_settled && settled != offered) {
                let what = format!("shard {shard}: {offered} objects were offered and {settled} delivered or dropped");
                self.judge.fail(self.now, Rule::Ledger, what);
            }
        }
    }

    /// All that must hold when nothing happens.
    pub(crate) fn look_at_everything(&mut self) {
        for process in 0..self.processes.len() {
            self.look_at_ledger(process, true);
            self.look_at_memory(process);
            let rings = self.processes[process].directory().population().rings;
            if rings > 0 {
                self.judge.fail(self.now, Rule::Ring, format!("{rings} rings are not settled"));
            }
        }
        let verdict = self.judge.mailboxes.settled();
        self.judge.check(self.now, verdict);
        for number in 0..self.clients.len() {
            self.with_client(number, |client, cx| client.check_settled(cx));
        }
        self.look_at_presence();
        self.look_at_rooms();
    }

    /// Everybody who watches sees what is true.
    fn look_at_presence(&mut self) {
        for watcher in self.clients.iter().filter(|client| client.is_in()) {
            for (person, seen) in watcher.watches() {
                let devices = self.clients.iter().filter(|client| client.person == person && client.is_in());
                let shown: Vec<_> = devices.filter_map(|client| client.shown()).collect();
                let is_true = match seen {
                    None => false,
                    Some(seen) if shown.is_empty() => seen.state == PresenceState::Offline && seen.devices == 0,
                    Some(seen) => {
                        let said = shown.iter().any(|(state, status)| (*state, status) == (seen.state, &seen.status));
                        said && seen.devices as usize == shown.len()
                    }
                };
                if !is_true {
                    let what = format!("client {} sees {person} as {seen:?}, and true is {shown:?}", watcher.number);
                    self.judge.fail(self.now, Rule::Presence, what);
                    return;
                }
            }
        }
    }

    /// Members of a room know of each other and of each other's tracks, and of nobody else.
    fn look_at_rooms(&mut self) {
        for room in 0..self.cast.rooms.len() {
            let members: Vec<usize> =
                self.clients.iter().filter(|it| it.rooms().contains(&room)).map(|it| it.number).collect();
            for member in &members {
                let others: Vec<usize> = members.iter().copied().filter(|other| other != member).collect();
                let known = self.clients[*member].others(room);
                if known != others {
                    let what = format!("client {member} in room {room} knows of {known:?}, and there are {others:?}");
                    self.judge.fail(self.now, Rule::Members, what);
                    return;
                }
                let tracks: BTreeSet<_> =
                    others.iter().flat_map(|other| self.clients[*other].aliases_in(room)).collect();
                let known = self.clients[*member].known_tracks(room);
                if known != tracks {
                    let (known, all) = (known.len(), tracks.len());
                    let what = format!("client {member} in room {room} knows {known} tracks of others, of {all}");
                    self.judge.fail(self.now, Rule::Label, what);
                    return;
                }
            }
        }
    }

    /// When all have left, every table is empty.
    pub(crate) fn look_at_what_is_left(&mut self) {
        if !self.is_sound() {
            return;
        }
        for process in 0..self.processes.len() {
            self.look_at_ledger(process, true);
            let population = self.processes[process].directory().population();
            let connections = self.processes[process].connections();
            let full = self.processes[process].census().into_iter().find(|census| *census != Census::default());
            if population != Population::default() || full.is_some() || connections > 0 {
                let what = format!("{population:?}, {connections} connections, {full:?}");
                self.judge.fail(self.now, Rule::Tables, what);
            }
        }
    }
}
