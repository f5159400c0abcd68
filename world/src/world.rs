//! A world: one relay, its clients and the network between them, from the beginning to the end.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_server::core::limits::Limits;
use supernode_session::Moment;
use supernode_world_options::Trouble;

use crate::{
    cast::Cast,
    client::{Client, Context},
    clock::Clock,
    judge::{Judge, Rule, Violation},
    network::{Conditions, Path},
    plan::Plan,
    relay::{self, Process, Site},
    trace::Trace,
};

/// What a world is like, drawn from its seed.
#[derive(Debug)]
pub struct Shape {
    /// Threads of the relay.
    pub shards: usize,
    /// How many there are.
    pub people: usize,
    /// Rooms that everybody knows.
    pub rooms: usize,
    /// Rooms that stand, whose members keep a group; behind the others.
    pub standing: usize,
    /// Nothing is lost on the way.
    pub is_calm: bool,
    /// Whether the kernel leads packets to the shard that they name.
    pub is_steered: bool,
    /// How often something happens, how long, and then nothing.
    pub rounds: u32,
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    /// Which it was.
    pub plan: Plan,
    /// What did not hold, first.
    pub violation: Option<Violation>,
    /// The same in every run of the seed.
    pub digest: u64,
    /// How long it was.
    pub lasted: Duration,
    /// How long clients were in rooms with others, all together.
    pub in_calls: Duration,
    /// Packets that were sent.
    pub packets: u64,
    /// Objects that arrived.
    pub objects: u64,
    /// What happened, if it was to be kept.
    pub lines: Vec<String>,
}

/// One relay, its clients and the network between them.
pub struct World {
    pub(crate) shape: Shape,
    pub(crate) plan: Plan,
    pub(crate) now: Moment,
    pub(crate) clock: Clock,
    pub(crate) rng: StdRng,
    /// Of what happens in rooms with groups: what happens elsewhere is the same with them and without.
    pub(crate) group_dice: StdRng,
    /// Who has sent something that is no commit as one.
    pub(crate) junk_senders: BTreeSet<usize>,
    pub(crate) cast: Cast,
    pub(crate) clients: Vec<Client>,
    pub(crate) paths: Vec<Path>,
    pub(crate) site: Site,
    /// The newest is last; those before it drain.
    pub(crate) processes: Vec<Process>,
    pub(crate) processes_started: u16,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) in_calls: Duration,
    /// How often a client has taken another port.
    pub(crate) moves: u16,
    /// What the network does to each packet.
    dice: StdRng,
    /// When each client wants to be driven.
    wakes: Vec<Option<Moment>>,
    /// Which client is where.
    addresses: BTreeMap<SocketAddr, usize>,
    under_way: BinaryHeap<Reverse<Packet>>,
    packets: u64,
    links: u64,
    turns: u64,
    /// That were made without any time passing.
    steps: u64,
}

/// A datagram under way. The earliest is first; of two that arrive at once, the one that was sent first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    arrives: Moment,
    number: u64,
    left_at: Moment,
    /// The process that sent it.
    process: u16,
    /// `None` on its way to the relay.
    to: Option<usize>,
    /// Where its client was.
    address: SocketAddr,
    datagram: Vec<u8>,
}

/// How long something happens at most, until nothing does.
pub(crate) const LIVELY_MAX: Duration = Duration::from_secs(20);
/// Turns between two looks at what the relay keeps.
const TURNS_PER_LOOK: u64 = 32;
/// What may be on its way to a client on stage that reads nothing.
const STAGED_WINDOW_BYTES: u32 = 512 * 1024;
/// Tells the dice of groups from the others of a seed.
const GROUPS: u64 = 0x6d6c_735f_6772_6f75;
/// Steps that can be due at one moment.
const STEPS_AT_ONCE_MAX: u64 = 100_000;

impl World {
    /// At its beginning: nobody is there yet.
    pub fn new(plan: &Plan, keeps_lines: bool) -> Self {
        let seed = plan.seed;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut group_dice = StdRng::seed_from_u64(seed ^ GROUPS);
        let mut shape = Shape {
            shards: rng.random_range(1..=4),
            people: rng.random_range(3..=7),
            rooms: rng.random_range(1..=3),
            standing: if group_dice.random_bool(0.5) { group_dice.random_range(1..=2) } else { 0 },
            is_calm: rng.random_bool(0.2),
            is_steered: rng.random_bool(0.7),
            rounds: rng.random_range(1..=3),
        };
        shape.people = shape.people.min(plan.less.people.unwrap_or(usize::MAX));
        shape.rounds = shape.rounds.min(plan.less.rounds.unwrap_or(u32::MAX));
        shape.is_calm |= plan.is_without(Trouble::Network);
        if plan.is_without(Trouble::Groups) {
            shape.standing = 0;
        }
        let limits = Limits {
            ring_timeout: Duration::from_secs(8),
            requests_per_second_max: 1_000,
            // Whoever rings much is in a room for each, and knocks at doors beside them.
            rooms_max: 64,
            queue_bytes_max: [3_000, 12_000, 48_000][rng.random_range(0..3)],
            relay_queue_bytes_max: rng.random_range(100_000..2_000_000),
            ..Limits::default()
        };
        let mut world = Self::build(plan, (shape, limits), 2, Conditions::draw, (rng, group_dice), keeps_lines);
        world.note_reordering();
        let renew_within = Duration::from_secs(world.group_dice.random_range(4..120));
        world.clients.iter_mut().for_each(|client| client.renew_within(renew_within));
        world
    }

    /// A world in which a test says what happens. All paths are perfect; a client that stops reading its streams shows after a
    /// few seconds of video.
    pub(crate) fn staged(seed: u64, shards: usize, limits: Limits, people: usize) -> Self {
        let (rng, group_dice) = (StdRng::seed_from_u64(seed), StdRng::seed_from_u64(seed ^ GROUPS));
        let shape = Shape { shards, people, rooms: 1, standing: 0, is_calm: true, is_steered: true, rounds: 0 };
        let perfect = |_: &mut StdRng, _| Conditions::perfect();
        let mut world = Self::build(&Plan::of(seed), (shape, limits), 1, perfect, (rng, group_dice), false);
        let mut transport = supernode_tls::transport();
        transport.receive_window(STAGED_WINDOW_BYTES.into());
        world.cast.quic.transport_config(Arc::new(transport));
        world
    }

    fn build(
        plan: &Plan,
        (shape, limits): (Shape, Limits),
        devices_max: usize,
        path: fn(&mut StdRng, bool) -> Conditions,
        (mut rng, mut group_dice): (StdRng, StdRng),
        keeps_lines: bool,
    ) -> Self {
        let (clock, now) = (Clock::new(), Moment::default());
        let site = Site::new(shape.shards, limits);
        let mut cast = Cast::new(shape.people, devices_max, shape.rooms, site.pin, relay::ADDRESS, rng.random());
        (0..shape.standing).for_each(|_| cast.build_room(&group_dice.random()));
        let clients: Vec<Client> =
            (0..cast.devices.len()).map(|number| Client::new(number, &cast, rng.random())).collect();
        let paths = clients.iter().map(|_| Path::new(path(&mut rng, shape.is_calm))).collect();
        let addresses = clients.iter().map(|client| (client.address, client.number)).collect();
        let mut trace = Trace::new(keeps_lines);
        trace.tell(now, format_args!("seed {}: {shape:?}, {} clients", plan.seed, clients.len()));
        Self {
            shape,
            plan: plan.clone(),
            now,
            clock,
            wakes: vec![None; clients.len()],
            dice: StdRng::seed_from_u64(rng.random()),
            cast,
            clients,
            paths,
            processes: vec![site.start(1, rng.random(), now, &clock)],
            processes_started: 1,
            site,
            judge: Judge::default(),
            trace,
            in_calls: Duration::ZERO,
            moves: 0,
            addresses,
            under_way: BinaryHeap::new(),
            packets: 0,
            links: 0,
            turns: 0,
            steps: 0,
            rng,
            group_dice,
            junk_senders: BTreeSet::new(),
        }
    }

    /// Runs a world of this seed to its end, or to the first thing that does not hold.
    pub fn run(plan: &Plan, keeps_lines: bool) -> Outcome {
        let mut world = Self::new(plan, keeps_lines);
        // What is left behind is looked at only for what had been seen before.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.live())) {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            world.judge.fail(world.now, Rule::Panic, said.unwrap_or("without a word"));
        }
        Outcome {
            plan: plan.clone(),
            violation: world.judge.violation().cloned(),
            digest: world.trace.digest(),
            lasted: world.now.since_beginning(),
            in_calls: world.in_calls,
            packets: world.trace.packets(),
            objects: world.judge.media.heard(),
            lines: world.trace.lines().map(str::to_owned).collect(),
        }
    }

    /// Whether nothing has failed yet.
    pub(crate) fn is_sound(&self) -> bool {
        self.judge.violation().is_none()
    }

    /// Lets time pass, up to this moment.
    pub(crate) fn pass_until(&mut self, until: Moment) {
        while self.is_sound() {
            let packet = self.under_way.peek().map(|Reverse(packet)| packet.arrives);
            let turn = self.processes.iter().enumerate().filter_map(|(process, it)| {
                let (at, shard) = it.next_turn()?;
                Some((at, process, shard))
            });
            let turn = turn.min();
            let wake = self.wakes.iter().enumerate().filter_map(|(client, at)| Some(((*at)?, client))).min();
            let times = [packet, turn.map(|(at, ..)| at), wake.map(|(at, _)| at)];
            let Some(next) = times.into_iter().flatten().min().filter(|at| *at <= until) else { break };
            self.steps = if next > self.now { 0 } else { self.steps + 1 };
            if self.steps > STEPS_AT_ONCE_MAX {
                let what =
                    format!("no time passes: {times:?} are wanted by a packet, turn {turn:?} and client {wake:?}");
                self.judge.fail(self.now, Rule::Progress, what);
                return;
            }
            self.now = self.now.max(next);
            if packet == Some(next) {
                self.arrive();
            } else if let Some((_, process, shard)) = turn.filter(|(at, ..)| *at == next) {
                self.turn(process, shard);
            } else if let Some((_, client)) = wake {
                self.with_client(client, Client::drive);
            }
        }
        self.now = self.now.max(until);
    }

    /// Has a client do something, and takes what it sends.
    pub(crate) fn with_client(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
        let mut out = Vec::new();
        let mut cx = Context {
            now: self.now,
            clock: &self.clock,
            cast: &self.cast,
            judge: &mut self.judge,
            trace: &mut self.trace,
            links: &mut self.links,
            out: &mut out,
        };
        let client = &mut self.clients[number];
        let before = client.address;
        act(client, &mut cx);
        if client.address != before {
            // Whatever is still sent there is for nobody.
            self.addresses.remove(&before);
            self.addresses.insert(client.address, number);
        }
        self.wakes[number] = client.poll_timeout(&self.clock);
        for (address, datagram) in out {
            self.send(number, None, address, datagram.into());
        }
    }

    /// Tells a client to do something, and lets it.
    pub(crate) fn tell(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
        self.with_client(number, |client, cx| {
            act(client, cx);
            client.drive(cx);
        });
    }

    /// Takes note of whose packets may overtake each other.
    pub(crate) fn note_reordering(&mut self) {
        for (client, path) in self.paths.iter().enumerate() {
            self.judge.media.set_reorders(client, path.reorders());
        }
    }

    /// A process ends at once.
    pub(crate) fn kill(&mut self, process: usize) {
        self.processes.remove(process);
    }

    /// Another one begins.
    pub(crate) fn start_process(&mut self) {
        self.processes_started += 1;
        let process = self.site.start(self.processes_started, self.rng.random(), self.now, &self.clock);
        self.processes.push(process);
    }

    /// A process that has drained ends.
    pub(crate) fn finish(&mut self, process: usize) {
        let mut process = self.processes.remove(process);
        let mut sent = Vec::new();
        process.finish(self.now, &self.clock, |to, datagram| sent.push((to, datagram.to_vec())));
        self.send_down(process.number(), sent);
    }

    /// A datagram of a client, or of a process of the relay.
    fn send(&mut self, client: usize, from: Option<u16>, address: SocketAddr, datagram: Vec<u8>) {
        let (is_up, process) = (from.is_none(), from.unwrap_or_default());
        let arrivals = self.paths[client].send(is_up, datagram.len(), self.now, &mut self.dice);
        self.trace.packet(self.now, is_up, client, datagram.len(), arrivals[0]);
        let to = (!is_up).then_some(client);
        for arrives in arrivals.into_iter().flatten() {
            self.packets += 1;
            let (number, left_at) = (self.packets, self.now);
            let packet = Packet { arrives, number, left_at, process, to, address, datagram: datagram.clone() };
            self.under_way.push(Reverse(packet));
        }
    }

    fn arrive(&mut self) {
        let Some(Reverse(packet)) = self.under_way.pop() else { return };
        let datagram = BytesMut::from(&packet.datagram[..]);
        match packet.to {
            Some(client) if self.clients[client].address == packet.address => {
                let from = (packet.left_at, packet.process);
                self.with_client(client, |client, cx| client.receive(from, datagram, cx));
            }
            Some(_) => {}
            None => {
                let newest = self.processes.len().saturating_sub(1);
                let owner = self.processes.iter().position(|process| process.owns(&datagram)).unwrap_or(newest);
                if let Some(process) = self.processes.get_mut(owner) {
                    process.receive(packet.address, datagram, self.shape.is_steered, self.now, &mut self.dice);
                }
            }
        }
    }

    fn turn(&mut self, process: usize, shard: usize) {
        let mut sent = Vec::new();
        let Self { processes, clock, dice, now, .. } = self;
        processes[process].turn(shard, *now, clock, dice, |to, datagram| sent.push((to, datagram.to_vec())));
        self.send_down(self.processes[process].number(), sent);
        self.turns += 1;
        if self.turns.is_multiple_of(TURNS_PER_LOOK) {
            self.look_at_memory(process);
        }
    }

    fn send_down(&mut self, process: u16, sent: Vec<(SocketAddr, Vec<u8>)>) {
        for (to, datagram) in sent {
            if let Some(client) = self.addresses.get(&to).copied() {
                self.send(client, Some(process), to, datagram);
            }
        }
    }
}
