//! A node: its shards' cores, and what they want done.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use rand::RngExt;
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, MlsDelivery, RelayMessage, client_message::Body as Request, relay_message::Body as Told},
};
use supernode_server::core::{
    Address, Admit, Applicant, ClientMail, ControlMail, Errand, Grant, Greeting, NodeId, NotOpened, Now, Outbox,
    SessionId, ShardCore, ShardId, Topic, Voucher, directory::Directory,
};
use supernode_session::Introduction;

use super::{Nodes, homes::HomeSide, people::BINDING, ways::Event};

/// A process.
pub(super) struct Node {
    /// Counts the lives of all nodes.
    pub(super) life: u64,
    pub(super) directory: Arc<Directory>,
    pub(super) cores: Vec<ShardCore>,
    pub(super) outboxes: Vec<Outbox>,
    /// What it listens to on the bus.
    pub(super) listens: BTreeSet<Topic>,
    /// Nodes that its shards were told of.
    pub(super) reaches: BTreeSet<usize>,
    /// How much its clock is ahead. Unit: milliseconds.
    clock_ms: u64,
    link_next: u32,
    /// Where rooms live, as it knows it.
    pub(super) homes: HomeSide,
    /// The process stands still until then.
    pub(super) still: Duration,
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) shard: usize,
    pub(super) id: SessionId,
}

/// A room's message, as a client gets it.
fn of_room(delivery: MlsDelivery) -> RelayMessage {
    RelayMessage { reply_to: 0, body: Some(Told::MlsDelivery(delivery)) }
}

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

/// The time of day at which every world begins.
const UNIX_MS: u64 = 1_790_000_000_000;
/// How far clocks of nodes are apart at most.
pub(super) const CLOCKS_APART_MS: u64 = 200;

/// The number of the node at this place. None is 0.
pub(super) fn number(place: usize) -> NodeId {
    NodeId(place as u16 + 1)
}

/// The other way round.
pub(super) fn place(number: NodeId) -> usize {
    usize::from(number.0) - 1
}

impl Nodes {
    /// A node begins, with nothing.
    pub(super) fn start(&mut self, place: usize) {
        self.lives += 1;
        let directory = Arc::new(Directory::new(self.limits.clone()));
        let first = self.rng.random();
        let at = |shard| Address { node: number(place), shard: ShardId(shard) };
        let node = Node {
            life: self.lives,
            cores: (0..self.shards).map(|shard| ShardCore::new(at(shard), directory.clone())).collect(),
            outboxes: (0..self.shards).map(|shard| Outbox::new(at(shard), self.shards)).collect(),
            homes: HomeSide::new(number(place), first, &self.secret, directory.clone()),
            still: Duration::ZERO,
            directory,
            listens: BTreeSet::new(),
            reaches: BTreeSet::new(),
            clock_ms: self.rng.random_range(0..CLOCKS_APART_MS),
            link_next: 0,
        };
        self.nodes[place] = Some(node);
        self.say(format_args!("node {} begins", place + 1));
        self.begin_to_look(place);
        for other in 0..self.nodes.len() {
            self.join(place, other);
        }
    }

    /// Until when a process stands still, if it does.
    pub(super) fn still_until(&self, place: usize) -> Option<Duration> {
        self.nodes[place].as_ref().map(|node| node.still).filter(|still| *still > self.now)
    }

    /// The time as a node has it.
    pub(super) fn time_of(&self, place: usize) -> Now {
        let ahead = self.nodes[place].as_ref().map_or(0, |node| node.clock_ms);
        let instant = self.beginning + self.now;
        Now { instant, unix_ms: UNIX_MS + ahead + self.now.as_millis() as u64 }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.is_sound() {
            let event = self.events.keys().next().copied();
            let timer = self.next_timer();
            let (event_at, timer_at) = (event.map(|(at, _)| at), timer.map(|(at, ..)| at));
            let Some(next) = event_at.into_iter().chain(timer_at).min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            if event_at == Some(next) {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happen(event);
                }
            } else if let Some((_, place, shard)) = timer {
                let now = self.time_of(place);
                self.with_core(place, shard, |core, outbox| core.handle_timeout(now, outbox));
            }
        }
        self.now = self.now.max(until);
    }

    fn next_timer(&self) -> Option<(Duration, usize, usize)> {
        let mut next: Option<(Duration, usize, usize)> = None;
        for (place, node) in self.nodes.iter().enumerate().filter(|(place, _)| self.still_until(*place).is_none()) {
            for (shard, core) in node.iter().flat_map(|node| &node.cores).enumerate() {
                if let Some(at) = core.poll_timeout() {
                    let at = at.saturating_duration_since(self.beginning);
                    next = Some(next.map_or((at, place, shard), |earlier| earlier.min((at, place, shard))));
                }
            }
        }
        next
    }

    /// Has a core do something, and does what it wants done.
    pub(super) fn with_core<R>(
        &mut self,
        place: usize,
        shard: usize,
        act: impl FnOnce(&mut ShardCore, &mut Outbox) -> R,
    ) -> Option<R> {
        let node = self.nodes[place].as_mut()?;
        let result = act(&mut node.cores[shard], &mut node.outboxes[shard]);
        self.carry_out(place, shard);
        Some(result)
    }

    /// Mail to one of a node's shards.
    pub(super) fn put(&mut self, place: usize, shard: usize, mail: Vec<ControlMail>) {
        self.with_core(place, shard, |core, outbox| core.handle_letter(mail, outbox));
    }

    fn carry_out(&mut self, place: usize, shard: usize) {
        let now = self.time_of(place);
        loop {
            let Some(node) = self.nodes[place].as_mut() else { return };
            let Some(errand) = node.cores[shard].next_errand(now, &mut node.outboxes[shard]) else { return };
            match errand {
                Errand::Post(to, letter) => self.post((place, shard), to, letter),
                Errand::Client(mail) => self.pass_on(place, shard, mail),
                Errand::Bus(errand) => self.do_bus(place, errand),
                Errand::Home(wish) => self.do_home(place, wish),
                Errand::Push(_)
                | Errand::EndSubscription { .. }
                | Errand::Recall(_)
                | Errand::SendNewestGroup { .. }
                | Errand::EndAbroad { .. } => {}
            }
        }
    }

    fn pass_on(&mut self, place: usize, shard: usize, mail: ClientMail) {
        let Some(node) = &self.nodes[place] else { return };
        let is_live = |id: &SessionId| node.cores[shard].is_live(*id);
        match mail {
            ClientMail::Send { to, message } if is_live(&to) => self.receive(to, message),
            ClientMail::Tell { to, message } => {
                let to: Vec<SessionId> = to.into_iter().filter(is_live).collect();
                to.into_iter().for_each(|to| self.receive(to, message.clone()));
            }
            ClientMail::Deliver { to, delivery } => {
                let to: Vec<SessionId> = to.into_iter().filter(is_live).collect();
                to.into_iter().for_each(|to| self.receive(to, of_room(delivery.clone())));
            }
            ClientMail::DeliverWithheld { to, missed, .. } if is_live(&to) => {
                missed.into_iter().flatten().for_each(|delivery| self.receive(to, of_room(delivery)));
            }
            ClientMail::Close { session, code } if is_live(&session) => self.close(place, session, code),
            _ => {}
        }
    }

    /// A session ends by the relay's will.
    fn close(&mut self, place: usize, session: SessionId, code: CloseCode) {
        let now = self.time_of(place);
        if let Some(node) = &mut self.nodes[place] {
            // What it wants done is done by whoever carries out already.
            let shard = session.at.shard.index();
            node.cores[shard].close_session(session.link, false, now, &mut node.outboxes[shard]);
        }
        self.was_closed(session, code);
    }

    /// A device says Hello at a shard of a node.
    pub(super) fn open(&mut self, device: usize, place: usize, shard: usize) -> Option<Seat> {
        let now = self.time_of(place);
        let it = &self.people.devices[device];
        let person = &self.people.people[it.person];
        let delegation = person.identity.delegate(&it.secret.public(), now.unix_s() + 3_600);
        let introduction = Introduction {
            ticket_generation: person.generation,
            revocation: person.revocation.as_ref(),
            ..Introduction::new(&delegation, "")
        };
        let hello = it.channel().hello(&it.secret, &introduction);
        let greeting = Greeting { hello: &hello, binding: BINDING, from: IpAddr::from([192, 0, 2, 1]) };
        let node = self.nodes[place].as_mut()?;
        let (life, link) = (node.life, node.link_next);
        node.link_next += 1;
        let opened = node.cores[shard].open_session(link, &greeting, &Everybody, now, &mut node.outboxes[shard]);
        // Its Welcome is nobody's yet, and nobody here looks at it.
        self.carry_out(place, shard);
        match opened {
            Ok(id) => Some(Seat { node: place, life, shard, id }),
            Err(NotOpened::Close(code)) => {
                self.refused(device, code);
                None
            }
            Err(NotOpened::Undecided(_)) => None,
        }
    }

    /// A device asks for something, where its session still is.
    pub(super) fn ask(&mut self, seat: Seat, request: u64, body: Request) {
        let now = self.time_of(seat.node);
        if !self.is_seated(seat) {
            return;
        }
        if let Some(until) = self.still_until(seat.node) {
            return self.at(until, Event::Says { seat, request, body });
        }
        let Self { nodes, rng, .. } = self;
        if let Some(node) = &mut nodes[seat.node] {
            let message = ClientMessage { request, body: Some(body) };
            let outbox = &mut node.outboxes[seat.shard];
            let done = node.cores[seat.shard].handle_message(seat.id.link, message, now, rng, outbox);
            if let Err(code) = done {
                self.judge.fail(self.now, &format!("a request was taken for an offence: {code:?}"));
            }
        }
        self.carry_out(seat.node, seat.shard);
    }

    /// A session ends because its client is gone.
    pub(super) fn end_session(&mut self, seat: Seat, is_clean: bool) {
        let now = self.time_of(seat.node);
        if let Some(until) = self.still_until(seat.node) {
            return self.at(until, Event::Idle(seat));
        }
        if self.is_seated(seat) {
            self.with_core(seat.node, seat.shard, |core, outbox| {
                core.close_session(seat.id.link, is_clean, now, outbox);
            });
        }
    }

    /// Whether there still is this session.
    pub(super) fn is_seated(&self, seat: Seat) -> bool {
        let node = self.nodes[seat.node].as_ref().filter(|node| node.life == seat.life);
        node.is_some_and(|node| node.cores[seat.shard].is_live(seat.id))
    }
}
