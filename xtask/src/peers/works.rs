//! Who does what against whom, and what is aimed at.

/// A relay, or what stands in for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Relay {
    /// Ours, with its batching window and threads.
    Ours { window_us: u32, shards: u32 },
    /// coturn; either one or both of a pair have an allocation.
    Coturn { both: bool },
    /// iroh-relay.
    Iroh,
    /// moq-relay; objects travel in groups, as its own audio publisher sends them, or in datagrams.
    Moq { datagrams: bool },
    /// One receive and one send for each datagram.
    Plain,
    /// No relay: the sender's own `sendmmsg`.
    Blast,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Traffic {
    /// Rooms in which everybody talks to everybody; a pair is a room of two.
    Rooms { rooms: u32, members: u32, per_s: f64, bytes: u32 },
    /// One talks to many.
    Webinar { listeners: u32, per_s: f64, bytes: u32 },
    /// Sessions in pairs whose memory is looked at: they talk this often, or do nothing at all.
    Memory { sessions: u32, per_s: f64 },
}

/// A relay and what it gets to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    pub(super) relay: Relay,
    pub(super) traffic: Traffic,
    /// How long our own clients gather between two turns, in µs. Those of others serve whatever has come when they get to
    /// it, which comes to the same when they are full; ours serve each packet as it comes, unless told so.
    pub(super) gather_us: u32,
}

/// What of two runs is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// CPU time of the relay for each delivery, as a ratio.
    Cpu,
    /// Resident memory for each session more, as a ratio.
    SessionRss,
    /// 99th percentile of the delay, as a difference in ms.
    DelayP99,
}

/// Two runs, and what the first should be of the second.
#[derive(Debug)]
pub(super) struct Contest {
    /// For `--only`.
    pub(super) name: &'static str,
    pub(super) work: &'static str,
    pub(super) against: &'static str,
    pub(super) ours: Run,
    pub(super) theirs: Run,
    pub(super) quantity: Quantity,
    /// At most this. A contest without a target is for the reader: it is in the table, not in the rows of `--json`.
    pub(super) target: Option<f64>,
}

/// Where a search for the highest rate begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    pub(super) run: Run,
    pub(super) from_per_s: f64,
}

/// Sessions that are there when memory is looked at first: what a relay has once and for all, and the first growth of
/// its tables, are charged to nobody.
const SESSIONS_FEW: u32 = 500;
/// How many more there are when it is looked at again; what the relay has grown by is theirs.
pub(super) const SESSIONS_MORE: u32 = 500;

const OURS: Relay = Relay::Ours { window_us: 500, shards: 1 };
const OURS_ROOMS: Relay = Relay::Ours { window_us: 3000, shards: 1 };
const MOQ: Relay = Relay::Moq { datagrams: false };
const MOQ_DATAGRAMS: Relay = Relay::Moq { datagrams: true };

/// What lets one core of our clients fill one core of our relay.
const CEILING_GATHER_US: u32 = 300;

/// What moq-relay carries of rooms, on this machine: at 8/s it is full and more than half is lost. What an object costs it
/// is the same at 5/s and at 7/s.
const MOQ_ROOMS_PER_S: f64 = 7.0;

/// What each of 400 clients in pairs sends in a second so that our relay's core is about half busy with the window off.
const HALF_LOAD_PER_S: f64 = 85.0;

/// 400 clients in pairs, so often a second.
const fn pairs(relay: Relay, per_s: f64) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Rooms { rooms: 200, members: 2, per_s, bytes: 160 } }
}

const fn bulk(relay: Relay) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Rooms { rooms: 4, members: 2, per_s: 5000.0, bytes: 1150 } }
}

const fn rooms(relay: Relay, per_s: f64) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Rooms { rooms: 5, members: 20, per_s, bytes: 160 } }
}

const fn webinar(relay: Relay) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Webinar { listeners: 500, per_s: 50.0, bytes: 160 } }
}

const fn idle(relay: Relay) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Memory { sessions: SESSIONS_FEW, per_s: 0.0 } }
}

/// In calls, but so quiet that the clients of every relay keep up.
const fn active(relay: Relay) -> Run {
    Run { relay, gather_us: 0, traffic: Traffic::Memory { sessions: SESSIONS_FEW, per_s: 2.0 } }
}

/// Everything that is compared. Where a peer's own clients cannot keep up on one core, both do less.
pub(super) const CONTESTS: &[Contest] = &[
    Contest {
        name: "pairs-iroh",
        work: "400 clients in pairs, 100/s x 160 B",
        against: "iroh-relay",
        ours: pairs(OURS, 100.0),
        theirs: pairs(Relay::Iroh, 100.0),
        quantity: Quantity::Cpu,
        target: Some(0.5),
    },
    Contest {
        name: "pairs-moq",
        work: "400 clients in pairs, 10/s x 160 B (its clients are the cap at 20/s)",
        against: "moq-relay",
        ours: pairs(OURS, 10.0),
        theirs: pairs(MOQ, 10.0),
        quantity: Quantity::Cpu,
        target: Some(0.5),
    },
    Contest {
        name: "pairs-moq",
        work: "400 clients in pairs, 10/s x 160 B (its clients are the cap at 20/s)",
        against: "moq-relay, in its datagrams",
        ours: pairs(OURS, 10.0),
        theirs: pairs(MOQ_DATAGRAMS, 10.0),
        quantity: Quantity::Cpu,
        target: None,
    },
    Contest {
        name: "pairs-coturn",
        work: "400 clients in pairs, 100/s x 160 B",
        against: "coturn, one allocation a pair",
        ours: pairs(OURS, 100.0),
        theirs: pairs(Relay::Coturn { both: false }, 100.0),
        quantity: Quantity::Cpu,
        target: Some(1.0),
    },
    Contest {
        name: "pairs-coturn",
        work: "400 clients in pairs, 100/s x 160 B",
        against: "coturn, both relayed",
        ours: pairs(OURS, 100.0),
        theirs: pairs(Relay::Coturn { both: true }, 100.0),
        quantity: Quantity::Cpu,
        target: Some(1.0),
    },
    Contest {
        name: "bulk-coturn",
        work: "8 clients in pairs, 5,000/s x 1,150 B",
        against: "coturn, one allocation a pair",
        ours: bulk(OURS),
        theirs: bulk(Relay::Coturn { both: false }),
        quantity: Quantity::Cpu,
        target: Some(0.4),
    },
    Contest {
        name: "bulk-coturn",
        work: "8 clients in pairs, 5,000/s x 1,150 B",
        against: "coturn, both relayed",
        ours: bulk(OURS),
        theirs: bulk(Relay::Coturn { both: true }),
        quantity: Quantity::Cpu,
        target: Some(0.4),
    },
    Contest {
        name: "rooms",
        work: "5 rooms of 20 all talking, 50/s x 160 B, 3 ms budget",
        against: "our own 1:1 pairs (400 clients, 100/s)",
        ours: rooms(OURS_ROOMS, 50.0),
        theirs: pairs(OURS, 100.0),
        quantity: Quantity::Cpu,
        target: Some(0.2),
    },
    Contest {
        name: "rooms-moq",
        work: "5 rooms of 20 all talking, 50/s x 160 B, 3 ms budget",
        against: "moq-relay at 7/s, the most that it carries: everybody subscribes to all others",
        ours: rooms(OURS_ROOMS, 50.0),
        theirs: rooms(MOQ, MOQ_ROOMS_PER_S),
        quantity: Quantity::Cpu,
        target: Some(0.1),
    },
    Contest {
        name: "rooms-moq",
        work: "5 rooms of 20 all talking, 7/s x 160 B, 3 ms budget",
        against: "moq-relay, everybody subscribes to all others",
        ours: rooms(OURS_ROOMS, MOQ_ROOMS_PER_S),
        theirs: rooms(MOQ, MOQ_ROOMS_PER_S),
        quantity: Quantity::Cpu,
        target: None,
    },
    Contest {
        name: "webinar",
        work: "one sender to 500 listeners, 50/s x 160 B",
        against: "bare sendmmsg to 500 sockets",
        ours: webinar(OURS),
        theirs: webinar(Relay::Blast),
        quantity: Quantity::Cpu,
        target: Some(2.0),
    },
    Contest {
        name: "idle",
        work: "idle authenticated session, RSS",
        against: "iroh-relay",
        ours: idle(OURS),
        theirs: idle(Relay::Iroh),
        quantity: Quantity::SessionRss,
        target: Some(0.5),
    },
    Contest {
        name: "idle",
        work: "idle authenticated session, RSS",
        against: "coturn, an allocation",
        ours: idle(OURS),
        theirs: idle(Relay::Coturn { both: true }),
        quantity: Quantity::SessionRss,
        target: None,
    },
    Contest {
        name: "idle",
        work: "idle authenticated session, RSS",
        against: "moq-relay",
        ours: idle(OURS),
        theirs: idle(MOQ),
        quantity: Quantity::SessionRss,
        target: None,
    },
    Contest {
        name: "active",
        work: "session in a call, 2/s x 160 B, RSS",
        against: "iroh-relay",
        ours: active(OURS),
        theirs: active(Relay::Iroh),
        quantity: Quantity::SessionRss,
        target: None,
    },
    Contest {
        name: "active",
        work: "session in a call, 2/s x 160 B, RSS",
        against: "coturn, an allocation",
        ours: active(OURS),
        theirs: active(Relay::Coturn { both: true }),
        quantity: Quantity::SessionRss,
        target: None,
    },
    Contest {
        name: "active",
        work: "session in a call, 2/s x 160 B, RSS",
        against: "moq-relay",
        ours: active(OURS),
        theirs: active(MOQ),
        quantity: Quantity::SessionRss,
        target: None,
    },
    Contest {
        name: "delay",
        work: "added one-way delay at half load (400 clients in pairs, 85/s x 160 B), p99, window off: difference in ms",
        against: "plain UDP forward",
        ours: pairs(Relay::Ours { window_us: 0, shards: 1 }, HALF_LOAD_PER_S),
        theirs: pairs(Relay::Plain, HALF_LOAD_PER_S),
        quantity: Quantity::DelayP99,
        target: Some(1.0),
    },
    Contest {
        name: "shards",
        work: "2 shards, both on one core, 400 clients in pairs, 100/s x 160 B",
        against: "1 shard",
        ours: pairs(Relay::Ours { window_us: 500, shards: 2 }, 100.0),
        theirs: pairs(OURS, 100.0),
        quantity: Quantity::Cpu,
        target: Some(1.15),
    },
];

/// Who is driven up to the highest rate, all with 400 clients in pairs.
pub(super) const CEILINGS: &[Ceiling] = &[
    Ceiling { run: Run { gather_us: CEILING_GATHER_US, ..pairs(OURS, 0.0) }, from_per_s: 100.0 },
    Ceiling { run: pairs(Relay::Coturn { both: false }, 0.0), from_per_s: 100.0 },
    Ceiling { run: pairs(Relay::Iroh, 0.0), from_per_s: 50.0 },
    Ceiling { run: pairs(MOQ, 0.0), from_per_s: 5.0 },
    Ceiling { run: pairs(Relay::Plain, 0.0), from_per_s: 100.0 },
];

/// What `--only` takes.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = CONTESTS.iter().map(|contest| contest.name).collect();
    names.dedup();
    names.push("ceiling");
    names
}

impl Relay {
    /// The program that plays its clients, in `benches/peers`; none for ours, whose clients are `supernode-load`.
    pub(super) fn client(self) -> Option<&'static str> {
        match self {
            Self::Ours { .. } => None,
            Self::Iroh => Some("peer-iroh"),
            Self::Moq { .. } => Some("peer-moq"),
            Self::Coturn { .. } | Self::Plain | Self::Blast => Some("peer-datagrams"),
        }
    }

    /// Its name and how it runs, for tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Ours { window_us, shards: 1 } => format!("supernode, window {window_us} µs"),
            Self::Ours { window_us, shards } => format!("supernode, window {window_us} µs, {shards} shards"),
            Self::Coturn { both: false } => "coturn, one allocation a pair".to_owned(),
            Self::Coturn { both: true } => "coturn, both relayed".to_owned(),
            Self::Iroh => "iroh-relay".to_owned(),
            Self::Moq { datagrams: false } => "moq-relay".to_owned(),
            Self::Moq { datagrams: true } => "moq-relay, datagrams".to_owned(),
            Self::Plain => "plain UDP forward".to_owned(),
            Self::Blast => "bare sendmmsg".to_owned(),
        }
    }
}

impl Traffic {
    /// For tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Rooms { rooms, members: 2, per_s, bytes } => format!("{rooms} pairs, {per_s:.0}/s x {bytes} B"),
            Self::Rooms { rooms, members, per_s, bytes } => {
                format!("{rooms} rooms of {members}, {per_s:.0}/s x {bytes} B")
            }
            Self::Webinar { listeners, per_s, bytes } => format!("1 to {listeners}, {per_s:.0}/s x {bytes} B"),
            Self::Memory { sessions, per_s: 0.0 } => format!("memory of {sessions} idle sessions"),
            Self::Memory { sessions, per_s } => format!("memory of {sessions} sessions in pairs, {per_s:.0}/s x 160 B"),
        }
    }
}

impl Run {
    /// For progress.
    pub(super) fn name(&self) -> String {
        let gather =
            if self.gather_us > 0 { format!(", clients gather {} µs", self.gather_us) } else { String::new() };
        format!("{}: {}{gather}", self.relay.name(), self.traffic.name())
    }

    /// The same at another rate.
    pub(super) fn at(self, rate: f64) -> Self {
        let traffic = match self.traffic {
            Traffic::Rooms { rooms, members, bytes, .. } => Traffic::Rooms { rooms, members, per_s: rate, bytes },
            Traffic::Webinar { listeners, bytes, .. } => Traffic::Webinar { listeners, per_s: rate, bytes },
            Traffic::Memory { sessions, .. } => Traffic::Memory { sessions, per_s: rate },
        };
        Self { traffic, ..self }
    }

    /// How many of the clients talk.
    pub(super) fn talkers(self) -> u32 {
        match self.traffic {
            Traffic::Rooms { rooms, members, .. } => rooms * members,
            Traffic::Webinar { .. } => 1,
            Traffic::Memory { sessions, per_s } => {
                if per_s > 0.0 {
                    sessions
                } else {
                    0
                }
            }
        }
    }

    /// The same with so many sessions more, if it is about their memory.
    pub(super) fn with_more_sessions(self) -> Option<Self> {
        match self.traffic {
            Traffic::Memory { sessions, per_s } => {
                Some(Self { traffic: Traffic::Memory { sessions: sessions + SESSIONS_MORE, per_s }, ..self })
            }
            Traffic::Rooms { .. } | Traffic::Webinar { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_of_a_contest_do_the_same_work_unless_it_says_otherwise() {
        for contest in CONTESTS {
            let same = contest.ours.traffic == contest.theirs.traffic;
            assert!(same || ["rooms", "rooms-moq"].contains(&contest.name), "{}", contest.work);
            assert_ne!(contest.ours, contest.theirs, "{}", contest.work);
        }
    }

    #[test]
    fn every_name_is_listed_once() {
        let names = names();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
    }
}
