//! What must hold among nodes, and whether it does.

use std::{fmt::Arguments, time::Duration};

use supernode_proto::control::PresenceState;
use supernode_server::core::directory::Population;
use supernode_session::Moment;

use super::Nodes;
use crate::trace::Trace;

pub(super) struct Judge {
    violation: Option<String>,
    trace: Trace,
}

impl Judge {
    pub(super) fn new(keeps_lines: bool) -> Self {
        Self { violation: None, trace: Trace::new(keeps_lines) }
    }

    /// Something does not hold: the first thing counts.
    pub(super) fn fail(&mut self, at: Duration, what: &str) {
        self.violation.get_or_insert_with(|| format!("at {:.6} s: {what}", at.as_secs_f64()));
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(super) fn tell(&mut self, at: Duration, what: Arguments<'_>) {
        self.trace.tell(Moment::at(at), what);
    }

    pub(super) fn digest(&self) -> u64 {
        self.trace.digest()
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.trace.lines().map(str::to_owned).collect()
    }
}

impl Nodes {
    /// Everybody who watches sees what is true, at whichever nodes they are.
    pub(super) fn look_at_presence(&mut self) {
        let people = &self.people;
        let mut wrong = None;
        for (number, watcher) in people.devices.iter().enumerate().filter(|(_, device)| device.seat.is_some()) {
            for (person, seen) in &watcher.watches {
                let devices =
                    || people.devices.iter().filter(|device| device.person == *person && device.seat.is_some());
                let is_void = devices().any(|device| device.named > seen.generation);
                let is_shut_out = devices().any(|device| device.blocked.contains(&watcher.person));
                let shown: Vec<_> = devices()
                    .filter_map(|device| device.shown.as_ref())
                    .filter(|(state, _)| *state != PresenceState::Invisible && !is_void && !is_shut_out)
                    .collect();
                let is_true = match &seen.last {
                    None => false,
                    Some(last) if shown.is_empty() => last.state() == PresenceState::Offline && last.devices == 0,
                    Some(last) => {
                        let said = shown.iter().any(|(state, status)| (*state, status) == (last.state(), &last.status));
                        said && last.devices as usize == shown.len()
                    }
                };
                if !is_true && wrong.is_none() {
                    let seen = &seen.last;
                    wrong = Some(format!(
                        "device {number} sees {person} as {seen:?}, and true is {shown:?}; void: {is_void}, shut out: {is_shut_out}"
                    ));
                }
            }
        }
        if let Some(what) = wrong {
            self.judge.fail(self.now, &what);
        }
    }

    /// When all have left, every table is empty, and nobody listens for anybody.
    pub(super) fn look_at_what_is_left(&mut self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let population = node.directory.population();
            let census: Vec<_> = node.cores.iter().map(|core| (core.census(), core.listens_for())).collect();
            let is_without_homes = self.is_without_homes(place);
            let is_empty = is_without_homes
                && population == Population::default()
                && node.listens.is_empty()
                && census.iter().all(|of_core| *of_core == ([0; 9], 0));
            if !is_empty {
                let listens = node.listens.len();
                let what = format!(
                    "node {}: {population:?}, {census:?}, {listens} topics, no homes: {is_without_homes}",
                    place + 1
                );
                self.judge.fail(self.now, &what);
            }
        }
    }
}
