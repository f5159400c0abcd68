//! Shards, people and a clock, all in one thread.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret, TicketSecret};
use supernode_proto::{
    close::CloseCode,
    control::{
        ClientMessage, FrameReader, RelayMessage, client_message::Body as Request, decode_message, relay_message::Body,
    },
    identity::{ChannelBinding, DeviceKey, Grants, Holder, IdentityKey, RelayPin, Revocation, RoomId, Ticket},
    object::{Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_server::core::{
    Address, Admit, Applicant, BusErrand, ClientMail, ControlMail, Errand, Grant, Greeting, HomeWish, NodeId,
    NotOpened, Now, Outbox, SessionId, ShardCore, ShardId, Voucher,
    directory::Directory,
    limits::Limits,
    push::Push,
    push_services::{PushHost, PushServices},
};
use supernode_session::{Channel, Introduction, put_datagram};

const PIN: RelayPin = RelayPin([9; 32]);
const BINDING: ChannelBinding = ChannelBinding::TlsExporter { relay: PIN, exporter: [5; 32] };

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

/// Somebody with one device.
#[derive(Clone)]
pub struct Person {
    identity: Arc<IdentitySecret>,
    device: Arc<DeviceSecret>,
    /// What its devices say that it has taken back.
    revokes: Option<Arc<Revocation>>,
}

impl Person {
    pub fn new(seed: u8) -> Self {
        Self::of([seed; 32])
    }

    /// One of very many.
    pub fn numbered(number: u64) -> Self {
        let mut seed = [0xee; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        Self::of(seed)
    }

    /// One of several devices of somebody.
    pub fn with_device(seed: u8, device: u8) -> Self {
        Self { device: DeviceSecret::from_bytes(&[device; 32]).into(), ..Self::new(seed) }
    }

    fn of(seed: [u8; 32]) -> Self {
        let device = DeviceSecret::from_bytes(&seed.map(|byte| byte ^ 0x80));
        Self { identity: IdentitySecret::from_bytes(&seed).into(), device: device.into(), revokes: None }
    }

    /// The same device once it knows that another counts no more.
    pub fn revoking(&self, other: &Self, number: u64) -> Self {
        let word = self.identity.revoke(vec![other.device_key()], number).unwrap();
        Self { revokes: Some(word.into()), ..self.clone() }
    }

    pub fn identity_key(&self) -> IdentityKey {
        self.identity.public()
    }

    pub fn device_key(&self) -> DeviceKey {
        self.device.public()
    }

    pub fn ticket(&self, now: Now) -> Bytes {
        let ticket = self.identity.sign_ticket(Ticket {
            issuer: self.identity_key(),
            holder: Holder::Key(open_key().public()),
            relay: None,
            generation: 0,
            grants: Grants::PRESENCE | Grants::RING,
            not_after_unix_s: now.unix_s() + 3600,
            id: [0; 8],
            signature: [0; 64],
        });
        ticket.to_bytes().into()
    }

    /// This person's connection: all are alike.
    pub fn channel(&self) -> Channel {
        channel_of(self.device_key())
    }
}

fn channel_of(device: DeviceKey) -> Channel {
    Channel { binding: BINDING, device }
}

/// The key of all tickets: [`World::ask`] shows them.
fn open_key() -> TicketSecret {
    TicketSecret::from_bytes(&[0x77; 32])
}

/// The shards and what is on its way between them.
pub struct World {
    pub cores: Vec<ShardCore>,
    pub directory: Arc<Directory>,
    pub now: Now,
    pub rng: StdRng,
    /// What clients were sent: kept for those who look.
    pub sent: Vec<(SessionId, RelayMessage)>,
    /// Whose sessions the relay ended.
    pub closed: Vec<(SessionId, CloseCode)>,
    /// Who was to be woken.
    pub pushed: Vec<Push>,
    /// Letters to each shard. Those of one shard stay in order; which shard is next is random.
    letters: Vec<VecDeque<Vec<ControlMail>>>,
    outboxes: Vec<Outbox>,
    link_next: u32,
    /// What was wanted of the bus, and letters to other nodes: kept for those who carry them.
    pub bus: Vec<BusErrand>,
    /// What was wanted of whoever decides where rooms live.
    pub wishes: Vec<HomeWish>,
    pub posted: Vec<(Address, Vec<ControlMail>)>,
    at: Address,
}

/// A session and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub shard: usize,
    pub link: u32,
    pub id: SessionId,
}

/// Of the relay, for push services.
pub const PUSH_KEY: Bytes = Bytes::from_static(&[4; 65]);

impl World {
    pub fn new(shards: u16, seed: u64) -> Self {
        Self::with_limits(shards, seed, Limits { requests_per_second_max: 1 << 20, ..Limits::default() })
    }

    pub fn with_limits(shards: u16, seed: u64, limits: Limits) -> Self {
        let directory = Directory::new(limits);
        let hosts = ["push.example", "*.push.example"].map(|host| PushHost::parse(host).unwrap()).into();
        directory.wake_by(PushServices { key: PUSH_KEY, hosts });
        Self::of(shards, seed, directory)
    }

    /// Whose operator may have said nothing of push services.
    pub fn of(shards: u16, seed: u64, directory: Directory) -> Self {
        Self::at(Address::local(ShardId(0)), shards, seed, directory)
    }

    /// A node of a cluster.
    pub fn of_node(node: u16, shards: u16) -> Self {
        let limits = Limits { requests_per_second_max: 1 << 20, ..Limits::default() };
        let at = Address { node: NodeId(node), shard: ShardId(0) };
        Self::at(at, shards, node.into(), Directory::new(limits))
    }

    fn at(at: Address, shards: u16, seed: u64, directory: Directory) -> Self {
        let directory = Arc::new(directory);
        Self {
            cores: (0..shards).map(|shard| ShardCore::new(at.beside(ShardId(shard)), directory.clone())).collect(),
            directory,
            now: Now { instant: Instant::now(), unix_ms: 1_790_000_000_000 },
            rng: StdRng::seed_from_u64(seed),
            sent: Vec::new(),
            closed: Vec::new(),
            pushed: Vec::new(),
            letters: (0..shards).map(|_| VecDeque::new()).collect(),
            outboxes: (0..shards).map(|shard| Outbox::new(at.beside(ShardId(shard)), shards)).collect(),
            link_next: 0,
            bus: Vec::new(),
            wishes: Vec::new(),
            posted: Vec::new(),
            at,
        }
    }

    /// Lets somebody in, on a shard.
    pub fn connect(&mut self, person: &Person, shard: usize) -> At {
        self.try_connect(person, shard).unwrap()
    }

    /// The same where that may be refused.
    pub fn try_connect(&mut self, person: &Person, shard: usize) -> Result<At, CloseCode> {
        self.connect_bound(person, shard, &person.channel(), BINDING)
    }

    /// The same with a Hello that is signed on one channel, where the relay's end of the connection has this binding.
    pub fn connect_bound(
        &mut self,
        person: &Person,
        shard: usize,
        channel: &Channel,
        binding: ChannelBinding,
    ) -> Result<At, CloseCode> {
        let delegation = person.identity.delegate(&person.device_key(), self.now.unix_s() + 60);
        let introduction = Introduction { revocation: person.revokes.as_deref(), ..Introduction::new(&delegation, "") };
        let hello = channel.hello(&person.device, &introduction);
        let greeting = Greeting { hello: &hello, binding, from: IpAddr::from([192, 0, 2, 1]) };
        let link = self.link_next;
        self.link_next += 1;
        let outbox = &mut self.outboxes[shard];
        let id = match self.cores[shard].open_session(link, &greeting, &Everybody, self.now, outbox) {
            Ok(id) => id,
            Err(NotOpened::Close(code)) => return Err(code),
            Err(NotOpened::Undecided(..)) => panic!("everybody is decided"),
        };
        self.collect(shard);
        Ok(At { shard, link, id })
    }

    /// A client asks; its reply, the last of `sent`, once the mail has gone round.
    pub fn answer(&mut self, at: At, body: Request) -> Body {
        self.ask(at, body);
        self.settle();
        let reply = self.sent.iter().rev().find(|(to, message)| *to == at.id && message.reply_to == 1);
        reply.unwrap().1.body.clone().unwrap()
    }

    /// A client asks in bytes; what that does to its session.
    pub fn try_ask(&mut self, at: At, frame: &[u8]) -> Result<(), CloseCode> {
        let Self { cores, outboxes, rng, now, .. } = self;
        let outcome = cores[at.shard].handle_frame(at.link, frame, *now, rng, &mut outboxes[at.shard]);
        self.collect(at.shard);
        outcome
    }

    /// What a client was sent is charged to its identity; how long objects wait for it.
    pub fn charge(&mut self, at: At, bytes: u64) -> Duration {
        let wait = self.cores[at.shard].charge_egress(at.link, bytes, self.now.instant, &mut self.outboxes[at.shard]);
        self.collect(at.shard);
        wait
    }

    /// A client asks; its reply and everybody's events are in `sent` once the mail has gone round.
    pub fn ask(&mut self, at: At, body: Request) {
        self.ask_numbered(at, 1, body);
    }

    /// The same for one of several requests that are not answered yet.
    pub fn ask_numbered(&mut self, at: At, request: u64, mut body: Request) {
        self.show(at, &mut body);
        let message = ClientMessage { request, body: Some(body) };
        let Self { cores, outboxes, rng, now, .. } = self;
        cores[at.shard].handle_message(at.link, message, *now, rng, &mut outboxes[at.shard]).unwrap();
        self.collect(at.shard);
    }

    /// Shows the ticket of a request.
    pub fn show(&self, at: At, body: &mut Request) {
        let shown = match body {
            Request::Watch(watch) => Some((&watch.ticket, &mut watch.proof)),
            Request::TakeKeyPackages(take) => Some((&take.ticket, &mut take.proof)),
            Request::Ring(ring) => Some((&ring.ticket, &mut ring.proof)),
            _ => None,
        };
        // Whoever rings at a door shows its room's key.
        let shown = shown.filter(|(ticket, _)| !ticket.is_empty());
        if let (Some((ticket, proof)), Some(session)) = (shown, self.cores[at.shard].session(at.link)) {
            let ticket = Ticket::from_bytes(ticket).unwrap();
            *proof = channel_of(session.device()).show_ticket(&ticket, &open_key());
        }
    }

    /// The same for the bytes of the client's control stream.
    pub fn ask_bytes(&mut self, at: At, stream: &[u8]) {
        let mut reader = FrameReader::default();
        reader.push(stream);
        let Self { cores, outboxes, rng, now, .. } = self;
        while let Some(frame) = reader.next_frame(usize::MAX).unwrap() {
            let message: ClientMessage = decode_message(&frame).unwrap();
            cores[at.shard].handle_message(at.link, message, *now, rng, &mut outboxes[at.shard]).unwrap();
        }
        self.collect(at.shard);
    }

    pub fn join(&mut self, at: At, person: &Person, room: RoomId) {
        let request = person.channel().join(&room, &JoinSecret::from_bytes(&[room.0[0]; 32]), 3);
        self.ask(at, Request::JoinRoom(request));
    }

    pub fn leave(&mut self, at: At, clean: bool) {
        if self.cores[at.shard].is_live(at.id) {
            self.cores[at.shard].close_session(at.link, clean, self.now, &mut self.outboxes[at.shard]);
            self.collect(at.shard);
        }
    }

    /// Puts mail into a shard's inbox.
    pub fn put(&mut self, shard: usize, mail: ControlMail) {
        self.letters[shard].push_back(vec![mail]);
    }

    /// Delivers one letter to a random shard, if there is any.
    pub fn deliver_one(&mut self) -> bool {
        let waiting: Vec<usize> = (0..self.letters.len()).filter(|shard| !self.letters[*shard].is_empty()).collect();
        if waiting.is_empty() {
            return false;
        }
        let shard = waiting[self.rng.random_range(0..waiting.len())];
        let letter = self.letters[shard].pop_front().unwrap();
        self.cores[shard].handle_letter(letter, &mut self.outboxes[shard]);
        self.collect(shard);
        true
    }

    /// Delivers all mail.
    pub fn settle(&mut self) {
        while self.deliver_one() {}
    }

    /// Lets time pass on every shard.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        for shard in 0..self.cores.len() {
            self.cores[shard].handle_timeout(self.now, &mut self.outboxes[shard]);
            self.collect(shard);
        }
    }

    /// The alias of the last track that was published.
    pub fn published(&self) -> TrackAlias {
        let alias = self.sent.iter().rev().find_map(|(_, message)| match &message.body {
            Some(Body::TrackPublished(published)) => TrackAlias::new(published.alias),
            _ => None,
        });
        alias.unwrap()
    }

    /// Does what a core wants done, as every shell does; letters to others wait.
    fn collect(&mut self, shard: usize) {
        while let Some(errand) = self.cores[shard].next_errand(self.now, &mut self.outboxes[shard]) {
            match errand {
                Errand::Post(to, letter) if to.node == self.at.node => self.letters[to.shard.index()].push_back(letter),
                Errand::Post(to, letter) => self.posted.push((to, letter)),
                Errand::Client(mail) => self.pass(shard, mail),
                // Nothing waits on the way to a client here, and there are no streams.
                Errand::Push(push) => self.pushed.push(push),
                Errand::EndSubscription { .. }
                | Errand::Recall(_)
                | Errand::SendNewestGroup { .. }
                | Errand::EndAbroad { .. } => {}
                Errand::Bus(errand) if self.at.node == NodeId(0) => panic!("a relay alone has no bus: {errand:?}"),
                Errand::Bus(errand) => self.bus.push(errand),
                Errand::Home(wish) if self.at.node == NodeId(0) => {
                    panic!("a relay alone has no homes elsewhere: {wish:?}")
                }
                Errand::Home(wish) => self.wishes.push(wish),
            }
        }
    }

    fn pass(&mut self, shard: usize, mail: ClientMail) {
        let core = &mut self.cores[shard];
        match mail {
            ClientMail::Send { to, message } => {
                if core.is_live(to) {
                    self.sent.push((to, message));
                }
            }
            ClientMail::Tell { to, message } => {
                let live = to.into_iter().filter(|to| core.is_live(*to));
                self.sent.extend(live.map(|to| (to, message.clone())));
            }
            ClientMail::Deliver { to, delivery } => {
                let message = RelayMessage { reply_to: 0, body: Some(Body::MlsDelivery(delivery)) };
                self.pass(shard, ClientMail::Tell { to, message });
            }
            ClientMail::DeliverWithheld { .. } => panic!("every client here reads at once"),
            ClientMail::Close { session, code } => {
                if core.is_live(session) {
                    self.closed.push((session, code));
                    core.close_session(session.link, false, self.now, &mut self.outboxes[shard]);
                }
            }
        }
    }
}

/// An object in a datagram.
pub fn datagram(alias: TrackAlias) -> Bytes {
    let visible = Visible { group: 1, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    let mut wire = Vec::new();
    put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: 1000 }, visible);
    wire.resize(wire.len() + 120, 0);
    wire.into()
}
