//! A client: what the SDK does around `session` and `calls`, with quinn-proto where the SDK has sockets.

mod by_hand;
mod groups;
mod liar;
mod link;
mod media;
mod news;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{ConnectionError, DatagramEvent, Endpoint, EndpointConfig, Event};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_keys::Pass;
use supernode_proto::{
    close::{CloseCode, Retry},
    control::{GoAway, PresenceState},
    identity::RoomId,
    object::TrackAlias,
};
use supernode_session::{
    Channel, Greeting, Introduction, Moment, Move, Next, Obstacle, Patience, Presence, Reconnect, Session, Welcomed,
};

use self::{
    groups::{ForGroup, Groups},
    liar::Liar,
    link::{Link, Look, Stage},
    media::{Published, Remote},
};
use crate::{
    cast::Cast,
    clock::Clock,
    judge::{Judge, Rule},
    trace::Trace,
};

pub use self::{
    by_hand::{ByHand, Incoming, News},
    groups::Standing,
    wants::Wish,
};

/// How patiently a client comes back: the SDK's defaults.
const PATIENCE: Patience = Patience {
    backoff_base: Duration::from_millis(250),
    backoff_max: Duration::from_secs(15),
    give_up_after: Duration::from_secs(300),
};
/// Key packages at the relay.
const KEY_PACKAGES: u32 = 4;
/// Packets that wait for a device that sleeps.
const BACKLOG_MAX: usize = 256;
/// Datagrams in one send.
const SEGMENTS_MAX: usize = 10;

/// What a client is lent while it acts.
pub struct Context<'a> {
    /// Now.
    pub now: Moment,
    /// What QUIC is told instead.
    pub clock: &'a Clock,
    /// Everybody.
    pub cast: &'a Cast,
    /// Is told what is asked for and what comes.
    pub judge: &'a mut Judge,
    /// Is told what happens.
    pub trace: &'a mut Trace,
    /// Connections of the world.
    pub links: &'a mut u64,
    /// Datagrams on their way to the relay.
    pub out: &'a mut Vec<(SocketAddr, BytesMut)>,
}

/// What a request was for.
#[derive(Debug)]
enum Asked {
    Presence(PresenceState, Bytes),
    Watch(usize),
    Join(usize),
    Leave(usize),
    Goodbye(usize),
    Kick { room: usize, member: u32, life: Option<u32>, device: usize },
    Say { room: usize, epoch: u64, commit: bool },
    Publish(u32),
    Subscribe(TrackAlias),
    Unsubscribe(TrackAlias),
    Take(usize),
    Ring,
    Answer { ring: Bytes, room: usize },
    Intrude,
    Group(RoomId, ForGroup),
    ByHand(u64),
    Other,
}

/// A client.
pub struct Client {
    /// Its number, and its device's.
    pub number: usize,
    /// Its owner's.
    pub person: usize,
    /// Where its packets come from, as the relay sees it.
    pub address: SocketAddr,
    rng: StdRng,
    endpoint: Endpoint,
    session: Session<Asked>,
    links: Vec<Link>,
    /// The connection that the session is on.
    current: Option<u64>,
    /// Whether it is to be online.
    is_on: bool,
    dial_at: Option<Moment>,
    reconnect: Option<Reconnect>,
    moving: Option<Move>,
    sleeps_until: Moment,
    stalls_until: Moment,
    talks_until: Moment,
    /// What came while it slept.
    backlog: VecDeque<((Moment, u16), BytesMut)>,
    /// When its present session began.
    since: Moment,
    /// What it wants, over all its connections.
    wants: Wants,
    /// What it has on this one.
    has: Has,
    /// Rooms whose members keep a group.
    groups: Groups,
    /// What lies to it, as long as something does.
    liar: Option<Liar>,
    /// A test says what it does.
    by_hand: Option<Box<ByHand>>,
}

/// What stands for longer than a connection.
#[derive(Default)]
struct Wants {
    presence: Option<(PresenceState, Bytes)>,
    watches: BTreeSet<usize>,
    rooms: BTreeMap<usize, Wish>,
}

/// What goes with the connection.
#[derive(Default)]
struct Has {
    /// How it is seen, once the relay has said so.
    shown: Option<(PresenceState, Bytes)>,
    /// Whom it watches, once the relay has said so, and what it sees.
    watches: BTreeSet<usize>,
    seen: BTreeMap<usize, Presence>,
    rooms: BTreeMap<usize, Stay>,
    published: Vec<Published>,
    remotes: BTreeMap<TrackAlias, Remote>,
    /// Requests that wait for their reply.
    waiting: u32,
    /// Rings that it is to answer, and when.
    ringing: Vec<(Moment, Bytes, usize)>,
    own_rings: Vec<Bytes>,
}

/// A room that it is in, or is about to be.
#[derive(Default)]
struct Stay {
    member: Option<u32>,
    epoch: u64,
    /// The others: member and device.
    others: BTreeMap<u32, usize>,
    /// The tracks of others that it was told of.
    tracks: BTreeSet<TrackAlias>,
    is_leaving: bool,
}

impl Client {
    /// Somebody who has not come yet.
    pub fn new(number: usize, cast: &Cast, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            number,
            person: cast.devices[number].person,
            address: address(number, 0),
            endpoint: endpoint(&mut rng),
            rng,
            session: Session::new(KEY_PACKAGES, 0),
            links: Vec::new(),
            current: None,
            is_on: false,
            dial_at: None,
            reconnect: None,
            moving: None,
            sleeps_until: Moment::default(),
            stalls_until: Moment::default(),
            talks_until: Moment::default(),
            backlog: VecDeque::new(),
            since: Moment::default(),
            wants: Wants::default(),
            has: Has::default(),
            groups: Groups::new(number, cast),
            liar: None,
            by_hand: None,
        }
    }

    /// From now on it is lied to.
    pub fn lie_to(&mut self, seed: u64) {
        self.liar = Some(Liar::new(seed));
    }

    /// It is told the truth again, and begins anew: what it was made to believe goes with the connection.
    pub fn end_lies(&mut self, cx: &mut Context<'_>) {
        self.liar = None;
        if let Some(link) = self.link_mut() {
            link.stage = Stage::Left;
            link.close(CloseCode::INTERNAL, cx.now, cx.clock);
            self.moving = None;
            self.lose(cx);
        }
    }

    /// A datagram arrives that left the relay then, and that this process of it sent.
    pub fn receive(&mut self, from: (Moment, u16), datagram: BytesMut, cx: &mut Context<'_>) {
        if cx.now < self.sleeps_until {
            if self.backlog.len() < BACKLOG_MAX {
                self.backlog.push_back((from, datagram));
            }
            return;
        }
        self.handle_datagram(from, datagram, cx);
        self.drive(cx);
    }

    /// Lets it act. To be called when its time has come ([`Self::poll_timeout`]), and after it was told to do something.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if cx.now < self.sleeps_until {
            return;
        }
        while let Some((from, datagram)) = self.backlog.pop_front() {
            self.handle_datagram(from, datagram, cx);
        }
        let now = cx.clock.instant(cx.now);
        for link in &mut self.links {
            if link.quic.poll_timeout().is_some_and(|at| at <= now) {
                link.quic.handle_timeout(now);
            }
        }
        if self.dial_at.is_some_and(|at| at <= cx.now) {
            self.dial_at = None;
            self.dial(cx);
        }
        self.handle_links(cx);
        if let Some(link) = self.link_mut()
            && link.look(cx.now) == Look::Gone
        {
            // What is given up is not closed.
            link.stage = Stage::Left;
            cx.trace.tell(cx.now, format_args!("client {}: the relay is silent", self.number));
            self.lose(cx);
        }
        self.handle_news(cx);
        self.send_by_hand();
        self.act(cx);
        self.keep_groups(cx);
        self.send(cx);
        self.flush(cx);
    }

    /// When it wants to be driven although nothing comes.
    pub fn poll_timeout(&mut self, clock: &Clock) -> Option<Moment> {
        let links = self.links.iter_mut().filter_map(|link| link.poll_timeout(clock)).min();
        let ringing = self.has.ringing.iter().map(|(at, ..)| *at).min();
        let stalls = (self.stalls_until > Moment::default()).then_some(self.stalls_until);
        let times = [links, self.dial_at, ringing, self.media_due(), stalls, self.groups_due()];
        Some(times.into_iter().flatten().min()?.max(self.sleeps_until))
    }

    /// Whether the relay has let it in.
    pub fn is_in(&self) -> bool {
        self.session.connection().is_some()
    }

    /// Whether it is to be online.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether it has a session, runs, and has run for a while.
    pub fn is_healthy(&self, now: Moment) -> bool {
        self.is_in() && now >= self.sleeps_until && now >= self.stalls_until
    }

    /// When its present session began.
    pub fn since(&self) -> Moment {
        self.since
    }

    fn handle_datagram(&mut self, (left_at, process): (Moment, u16), datagram: BytesMut, cx: &mut Context<'_>) {
        let mut answer = Vec::new();
        let now = cx.clock.instant(cx.now);
        match self.endpoint.handle(now, cx.cast.relay, None, None, datagram, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(link) = self.links.iter_mut().find(|link| link.handle == handle) {
                    link.unread_since.get_or_insert(left_at);
                    link.left_latest = link.left_latest.max(left_at);
                    link.process = process;
                    link.quic.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                cx.out.push((self.address, BytesMut::from(&answer[..transmit.size])));
            }
            Some(DatagramEvent::NewConnection(_)) | None => {}
        }
    }

    fn dial(&mut self, cx: &mut Context<'_>) {
        let now = cx.clock.instant(cx.now);
        let Ok((handle, quic)) = self.endpoint.connect(now, cx.cast.quic.clone(), cx.cast.relay, "relay") else {
            return;
        };
        *cx.links += 1;
        cx.trace.tell(cx.now, format_args!("client {} dials, link {}", self.number, cx.links));
        self.links.push(Link::new(quic, handle, *cx.links, cx.now));
    }

    /// What QUIC has to say of each connection.
    fn handle_links(&mut self, cx: &mut Context<'_>) {
        let reads = cx.now >= self.stalls_until;
        if reads {
            self.stalls_until = Moment::default();
        }
        let mut place = 0;
        while place < self.links.len() {
            while let Some(event) = self.links[place].quic.poll() {
                match event {
                    Event::Connected => self.greet(place, cx),
                    Event::ConnectionLost { reason } => self.handle_lost(place, &reason, cx),
                    Event::Stream(_)
                    | Event::DatagramReceived
                    | Event::HandshakeDataReady
                    | Event::DatagramsUnblocked => {}
                }
            }
            if reads {
                self.read(place, cx);
            }
            place += 1;
        }
        let Self { links, endpoint, .. } = self;
        links.retain_mut(|link| {
            while let Some(event) = link.quic.poll_endpoint_events() {
                if let Some(event) = endpoint.handle_event(link.handle, event) {
                    link.quic.handle_event(event);
                }
            }
            !link.quic.is_drained()
        });
    }

    /// Everything that a connection has for us.
    fn read(&mut self, place: usize, cx: &mut Context<'_>) {
        for bytes in self.links[place].read_control() {
            let Self { links, liar, .. } = self;
            let link = &mut links[place];
            match &mut link.stage {
                Stage::Greeting(greeting) => match greeting.handle_bytes(&bytes) {
                    Ok(Some(welcomed)) => self.welcome(place, welcomed, cx),
                    Ok(None) => {}
                    Err(fault) => return self.blame(place, fault, cx),
                },
                Stage::Open => {
                    let bytes = liar.as_mut().map_or(bytes.clone(), |liar| liar.control(&bytes));
                    if let Err(fault) = self.session.handle_bytes(&bytes) {
                        return self.blame(place, fault, cx);
                    }
                    self.handle_news(cx);
                }
                Stage::Dialing | Stage::Left => {}
            }
        }
        self.hear(place, cx);
    }

    fn greet(&mut self, place: usize, cx: &mut Context<'_>) {
        let device = &cx.cast.devices[self.number];
        let link = &mut self.links[place];
        link.open_control();
        let channel = Channel::by_exporter(cx.cast.pin, link.exporter(), device.secret.public());
        let hello = channel.hello(&device.secret, &Introduction::new(&device.delegation, ""));
        let (greeting, hello) = Greeting::new(channel, hello);
        link.write(hello);
        link.stage = Stage::Greeting(Box::new(greeting));
    }

    /// The relay has let us in: the session goes on on this connection.
    fn welcome(&mut self, place: usize, welcomed: Welcomed, cx: &mut Context<'_>) {
        if let Some(before) = self.link_mut() {
            before.stage = Stage::Left;
            before.close(CloseCode::BYE, cx.now, cx.clock);
        }
        self.forget_rooms(cx);
        if let Some(liar) = &mut self.liar {
            liar.begin();
        }
        let link = &mut self.links[place];
        link.stage = Stage::Open;
        (self.current, self.since) = (Some(link.serial), cx.now);
        (self.reconnect, self.moving) = (None, None);
        cx.trace.tell(cx.now, format_args!("client {} is in, link {}", self.number, link.serial));
        if let Err(fault) = self.session.handle_connected(welcomed) {
            return self.blame(place, fault, cx);
        }
        self.handle_news(cx);
        if self.by_hand.is_none() {
            self.begin(cx);
            self.begin_groups(cx);
        }
    }

    /// The relay says what no relay says. An honest one never does.
    fn blame(&mut self, place: usize, fault: supernode_session::Fault, cx: &mut Context<'_>) {
        let link = &mut self.links[place];
        link.close(fault.close_code(), cx.now, cx.clock);
        link.stage = Stage::Left;
        let is_current = self.current == Some(link.serial);
        cx.judge.fail(cx.now, Rule::Reply, format!("client {}: {fault}", self.number));
        if is_current {
            self.lose(cx);
        } else {
            self.come_back(Obstacle::Passing, cx);
        }
    }

    fn handle_lost(&mut self, place: usize, reason: &ConnectionError, cx: &mut Context<'_>) {
        let link = &mut self.links[place];
        let code = match reason {
            ConnectionError::ApplicationClosed(close) => Some(CloseCode(close.error_code.into_inner())),
            _ => None,
        };
        let is_left = matches!(std::mem::replace(&mut link.stage, Stage::Left), Stage::Left);
        let is_current = self.current == Some(link.serial);
        let serial = link.serial;
        // Texts of QUIC may have numbers in them that are chance.
        match code {
            Some(code) => cx.trace.tell(cx.now, format_args!("client {} lost link {serial}: {code}", self.number)),
            None => cx.trace.tell(cx.now, format_args!("client {} lost link {serial}", self.number)),
        }
        if let Some(hand) = &mut self.by_hand {
            // It does not come back by itself.
            (hand.closed, self.is_on) = (code, false);
        }
        if is_left || !self.is_on {
            return;
        }
        if is_current {
            return self.lose(cx);
        }
        if self.moving.is_some() {
            return self.move_on(cx);
        }
        // An attempt that is needed no more.
        if self.current.is_some() {
            return;
        }
        let obstacle = match code.map(CloseCode::retry) {
            Some(Retry::Never) => Obstacle::Lasting,
            _ => Obstacle::Passing,
        };
        self.come_back(obstacle, cx);
    }

    /// The session is without a connection.
    fn lose(&mut self, cx: &mut Context<'_>) {
        self.current = None;
        self.session.handle_disconnected();
        self.handle_news(cx);
        self.forget_rooms(cx);
        // Somebody may take us already.
        if self.is_on && self.moving.is_none() {
            self.come_back(Obstacle::Passing, cx);
        }
    }

    fn come_back(&mut self, obstacle: Obstacle, cx: &mut Context<'_>) {
        let Self { reconnect, rng, .. } = self;
        let attempts = reconnect.get_or_insert_with(|| Reconnect::new(&PATIENCE, cx.now));
        match attempts.failed(obstacle, cx.now, |range| wait_within(range, rng)) {
            Next::Attempt { at, .. } => self.dial_at = Some(at),
            Next::GiveUp => {
                cx.trace.tell(cx.now, format_args!("client {} gives up", self.number));
                (self.is_on, self.reconnect) = (false, None);
            }
        }
    }

    fn handle_go_away(&mut self, notice: &GoAway, cx: &mut Context<'_>) {
        cx.trace.tell(cx.now, format_args!("client {} is told to go", self.number));
        self.moving = Some(Move::new(notice, &PATIENCE));
        self.move_on(cx);
    }

    fn move_on(&mut self, cx: &mut Context<'_>) {
        let Self { moving: Some(moving), rng, .. } = self else { return };
        let wait = moving.next_step(|range| wait_within(range, rng)).wait;
        self.dial_at = Some(cx.now + wait);
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        let current = self.current?;
        self.links.iter_mut().find(|link| link.serial == current)
    }

    /// What goes with a connection is over.
    fn forget_rooms(&mut self, cx: &mut Context<'_>) {
        for room in self.has.rooms.keys() {
            cx.judge.mailboxes.left(self.number, *room);
        }
        // Tracks in rooms that are kept over connections go on there.
        let mut published = std::mem::take(&mut self.has.published);
        published.retain(|track| track.local.is_some());
        self.has = Has { published, ..Has::default() };
        self.lose_groups(cx);
    }

    /// Builds packets.
    fn flush(&mut self, cx: &mut Context<'_>) {
        if let Some(bytes) = self.session.poll_bytes()
            && let Some(link) = self.link_mut()
        {
            link.write(bytes);
        }
        let now = cx.clock.instant(cx.now);
        let mut buffer = Vec::new();
        for link in &mut self.links {
            link.flush_control();
            while let Some(transmit) = link.quic.poll_transmit(now, SEGMENTS_MAX, &mut buffer) {
                let bytes = &buffer[..transmit.size];
                let datagrams = bytes.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1));
                cx.out.extend(datagrams.map(|datagram| (self.address, BytesMut::from(datagram))));
                buffer.clear();
            }
        }
    }

    fn pass_for(&self, person: usize, cast: &Cast) -> Pass {
        cast.pass(person, self.person).clone()
    }
}

/// A wait from a range, which a relay may have named backwards.
fn wait_within(range: RangeInclusive<Duration>, rng: &mut StdRng) -> Duration {
    if range.is_empty() { *range.start() } else { rng.random_range(range) }
}

/// Where a client is, after so many moves.
pub fn address(client: usize, moves: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(198, 51, 100, client as u8 + 1).into(), 20_000 + moves)
}

fn endpoint(rng: &mut StdRng) -> Endpoint {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(rng.random()));
    Endpoint::new(Arc::new(config), None, true, None)
}
