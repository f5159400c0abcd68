//! A client's session, over as many connections as it takes.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};
use supernode_keys::Pass;
use supernode_proto::{
    control::{
        self, BeaconPosted, CommitRejected, DeclineRing, DepositKeyPackages, FrameReader, GoAway, IncomingRing,
        LimitTickets, MemberJoined, MlsDelivery, RelayMessage, RingOutcome, RingResult, Rung, SessionLimits,
        SetPresence, SetPushEndpoint, TrackAnnounced, Unwatch, client_message, encode_frame, relay_message,
    },
    identity::{IdentityKey, Revocation, RoomId},
    object::TrackAlias,
};

use super::{presence::Watches, requests::Requests, rings::Rings};
use crate::{Channel, Demand, Fault, Presence, Refusal, Welcomed};

/// What nobody asked to be written is left out when so much waits already: a relay could bring any amount of it about.
const UNASKED_BYTES_MAX: usize = 64 * 1024;

/// What the relay said to a request.
pub type Reply = Result<relay_message::Body, Refusal>;

/// What a client has said to its relay and what that told it, without keys that open anything.
///
/// Whoever has the connections makes one after the other ([`Greeting`](crate::Greeting)) and hands each over
/// ([`Self::handle_connected`]); brings what comes on its control stream ([`Self::handle_bytes`]); and after any call takes
/// the events ([`Self::poll_event`]) and the bytes to be written ([`Self::poll_bytes`]), in their order, until there are
/// none. One at a time: the relay's messages have their effect in the order in which they came. How much may wait to be
/// written is for that shell to say, before it asks for more.
///
/// What stands for longer than a connection is said again on the next one: how we are seen, which tickets count, where
/// we can be woken, whom we watch. Rooms and tracks are not, for that takes their keys of then.
pub struct Session<T> {
    connection: Option<Connection<T>>,
    /// How many there were.
    connections: u64,
    key_packages: u32,
    presence: Option<SetPresence>,
    ticket_limits: LimitTickets,
    /// Where we can be woken, once that was said.
    push_endpoint: Option<SetPushEndpoint>,
    watches: Watches,
    rings: Rings,
    rung: Rung,
    events: VecDeque<Event<T>>,
}

/// The one that there is.
struct Connection<T> {
    channel: Channel,
    limits: SessionLimits,
    frames: FrameReader,
    requests: Requests<Waiting<T>>,
    to_write: BytesMut,
    /// What the last one knew was not said on it yet.
    is_to_say_again: bool,
}

/// Whose a reply is.
enum Waiting<T> {
    Asked(T),
    /// A watch that is asked for again.
    Watch(IdentityKey),
    Nobody,
}

/// What came of it all.
#[derive(Debug)]
pub enum Event<T> {
    /// The reply to a request, to whoever waits for it.
    Reply {
        /// What was handed over with the request.
        to: T,
        /// What the relay says.
        reply: Reply,
    },
    /// The connection is gone, and with it the reply.
    Unanswered(T),
    /// So many key packages are to be deposited ([`Session::deposit`]), and one for the last resort: on each connection, and
    /// whenever the relay has few left.
    KeyPackagesWanted(u32),
    /// News of somebody whom we watch.
    Presence(IdentityKey, Presence),
    /// The relay does not let us watch them any more.
    WatchEnded(IdentityKey, Refusal),
    /// Somebody rings, as the relay says.
    IncomingRing(IncomingRing),
    /// A ring of somebody's stopped without our doing.
    RingEnded(Bytes, RingResult),
    /// A ring of ours is settled.
    RingOutcome(RingOutcome),
    /// The connection is gone, and with it a ring of ours.
    RingLost(Bytes),
    /// Something in a room: also in one that we have just left.
    Room(RoomId, RoomEvent),
    /// A receiver of a track of ours asks for a key frame.
    KeyframeRequested(TrackAlias),
    /// Who takes a track of ours now.
    Demand(TrackAlias, Demand),
    /// The relay sends us less, or more again.
    RungChanged(Rung),
    /// A person's word on their devices, as another device of theirs is said to have brought it. Whether it is our own
    /// person's, genuine and new is for whoever keeps such words to find out.
    DevicesRevoked(Revocation),
    /// The relay is about to go (see [`Move`](crate::Move)).
    GoAway(GoAway),
}

/// Something in a room, as the relay says.
#[derive(Debug)]
#[allow(missing_docs, reason = "the schema says what each is")]
pub enum RoomEvent {
    MemberJoined(MemberJoined),
    MemberLeft { member: u32, kicked: bool },
    Mls(MlsDelivery),
    CommitRejected(CommitRejected),
    Beacon(BeaconPosted),
    TrackAnnounced(TrackAnnounced),
    TrackEnded(TrackAlias),
}

impl<T> Session<T> {
    /// Before its first connection. `key_packages` is how many to keep at the relay, `ticket_generation` what the Hello
    /// says.
    pub fn new(key_packages: u32, ticket_generation: u32) -> Self {
        Self {
            connection: None,
            connections: 0,
            key_packages,
            presence: None,
            ticket_limits: LimitTickets { generation: ticket_generation, blocked: Vec::new() },
            push_endpoint: None,
            watches: Watches::default(),
            rings: Rings::default(),
            rung: Rung::Full,
            events: VecDeque::new(),
        }
    }

    /// The relay has let us in, for the first time or again. If there still was another connection, it counts as gone.
    ///
    /// # Errors
    /// As [`Self::handle_bytes`].
    pub fn handle_connected(&mut self, welcomed: Welcomed) -> Result<(), Fault> {
        self.handle_disconnected();
        let Welcomed { channel, limits, frames, .. } = welcomed;
        self.events.push_back(Event::KeyPackagesWanted(self.key_packages.min(limits.key_packages_max)));
        self.connection = Some(Connection {
            channel,
            limits,
            frames,
            requests: Requests::default(),
            to_write: BytesMut::new(),
            is_to_say_again: self.connections > 0,
        });
        self.connections += 1;
        self.handle_bytes(&[])
    }

    /// The connection is gone; what waited to be written on it is not to be written any more.
    pub fn handle_disconnected(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        for waiting in connection.requests.drain() {
            if let Waiting::Asked(to) = waiting {
                self.events.push_back(Event::Unanswered(to));
            }
        }
        let (ours, others) = self.rings.lost();
        self.events.extend(ours.into_iter().map(Event::RingLost));
        self.events.extend(others.into_iter().map(|ring| Event::RingEnded(ring, RingResult::Gone)));
    }

    /// Takes the next bytes of the relay's control stream, however it is cut.
    ///
    /// # Errors
    /// See [`Fault`]: what came before it has had its effect, and nothing more will on this connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(connection) = &mut self.connection {
            connection.frames.push(bytes);
        }
        while let Some(connection) = &mut self.connection {
            match connection.frames.next_message() {
                Ok(Some(message)) => self.handle_message(message),
                Ok(None) => break,
                Err(_) => return Err(Fault::Malformed),
            }
        }
        Ok(())
    }

    /// What came of it, in order.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// What is to be written on the control stream of the present connection, behind what was taken before.
    pub fn poll_bytes(&mut self) -> Option<Bytes> {
        let to_write = &mut self.connection.as_mut()?.to_write;
        (!to_write.is_empty()).then(|| to_write.split().freeze())
    }

    /// Asks for something; the reply, or that there is none, comes as an event with `to`. What stands for longer than a
    /// connection stands from now on, and is said on the next one if there is none.
    ///
    /// # Errors
    /// Gives `to` back while there is no connection.
    pub fn ask(&mut self, request: client_message::Body, to: T) -> Result<(), T> {
        self.keep(&request);
        match &mut self.connection {
            Some(connection) => {
                connection.ask(request, Waiting::Asked(to));
                Ok(())
            }
            None => Err(to),
        }
    }

    /// Takes note of a request that stands for longer than a connection, or that settles a ring; [`Self::ask`] does so by
    /// itself. For what is to stand also if it cannot be asked now.
    pub fn keep(&mut self, request: &client_message::Body) {
        use client_message::Body;
        match request {
            Body::SetPresence(presence) => self.presence = Some(presence.clone()),
            Body::LimitTickets(limits) => self.ticket_limits = limits.clone(),
            Body::SetPushEndpoint(endpoint) => self.push_endpoint = Some(endpoint.clone()),
            Body::AnswerRing(answer) => drop(self.rings.ended(&answer.ring)),
            Body::DeclineRing(decline) => drop(self.rings.ended(&decline.ring)),
            _ => {}
        }
    }

    /// Watches the person who issued `pass`, for one user more. The request to ask with, where it takes one: a second watch
    /// on a person shares the first one's, and while there is no connection, it is asked for on the next one.
    pub fn watch(&mut self, pass: &Pass) -> Option<client_message::Body> {
        let is_first = self.watches.add(pass);
        let connection = self.connection.as_ref().filter(|_| is_first)?;
        Some(watch_request(&connection.channel, pass))
    }

    /// One user of a watch less; the request to ask with, where that was the last.
    pub fn unwatch(&mut self, identity: &IdentityKey) -> Option<client_message::Body> {
        let identity_bytes = Bytes::copy_from_slice(identity.as_bytes());
        self.watches.release(identity).then(|| client_message::Body::Unwatch(Unwatch { identity: identity_bytes }))
    }

    /// Deposits key packages, as many as could be made. First the one for the last resort, which keeps us reachable: a relay
    /// whose memory is used up takes no more, and of several in one message it would take none. Refused means that
    /// it has enough.
    ///
    /// What stood on the last connection is said again behind the first deposit: whoever sees us online may ring at once.
    pub fn deposit(&mut self, last_resort: Option<Bytes>, packages: impl IntoIterator<Item = Bytes>) {
        let Some(connection) = &mut self.connection else { return };
        let last_resort = last_resort.map(|last_resort| DepositKeyPackages { packages: Vec::new(), last_resort });
        let each =
            packages.into_iter().map(|package| DepositKeyPackages { packages: vec![package], ..Default::default() });
        for deposit in last_resort.into_iter().chain(each) {
            connection.ask(client_message::Body::DepositKeyPackages(deposit), Waiting::Nobody);
        }
        if std::mem::take(&mut connection.is_to_say_again) {
            // Also when nobody is shut out any more: the relay goes on with what the session before this one said.
            connection.ask(client_message::Body::LimitTickets(self.ticket_limits.clone()), Waiting::Nobody);
            if let Some(endpoint) = self.push_endpoint.clone() {
                connection.ask(client_message::Body::SetPushEndpoint(endpoint), Waiting::Nobody);
            }
            if let Some(presence) = self.presence.clone() {
                connection.ask(client_message::Body::SetPresence(presence), Waiting::Nobody);
            }
            for pass in self.watches.begin_again() {
                connection.ask(watch_request(&connection.channel, &pass), Waiting::Watch(pass.issuer()));
            }
        }
    }

    /// Which of the session's connections there is, counted from one; `None` while there is none.
    pub fn connection(&self) -> Option<u64> {
        self.connection.as_ref().map(|_| self.connections)
    }

    /// What the relay grants; `None` while there is no connection.
    pub fn limits(&self) -> Option<&SessionLimits> {
        self.connection.as_ref().map(|connection| &connection.limits)
    }

    /// What the relay sends us at most, as it said last.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    fn handle_message(&mut self, message: RelayMessage) {
        use relay_message::Body;
        let Some(body) = message.body else { return };
        if message.reply_to != 0 {
            return self.handle_reply(message.reply_to, body);
        }
        let event = match body {
            Body::Presence(news) => {
                self.watches.hear(news).map(|(identity, presence)| Event::Presence(identity, presence))
            }
            Body::WatchEnded(ended) => {
                let refusal = Refusal { reason: ended.reason(), detail: "watch".into(), value: 0, bound: 0 };
                let identity = IdentityKey::from_slice(&ended.identity).ok();
                identity.filter(|identity| self.watches.holds(identity)).map(|it| Event::WatchEnded(it, refusal))
            }
            Body::IncomingRing(ring) if self.rings.came(&ring.ring) => Some(Event::IncomingRing(ring)),
            Body::IncomingRing(ring) => {
                if let Some(connection) = &mut self.connection
                    && connection.to_write.len() < UNASKED_BYTES_MAX
                {
                    let busy = DeclineRing { ring: ring.ring, busy: true };
                    connection.ask(client_message::Body::DeclineRing(busy), Waiting::Nobody);
                }
                None
            }
            Body::RingOutcome(outcome) => self.rings.settled(&outcome.ring).then(|| Event::RingOutcome(outcome)),
            Body::RingEnded(ended) => {
                let result = ended.result();
                self.rings.ended(&ended.ring).then(|| Event::RingEnded(ended.ring, result))
            }
            Body::MemberJoined(joined) => in_room(&joined.room.clone(), RoomEvent::MemberJoined(joined)),
            Body::MemberLeft(left) => {
                in_room(&left.room, RoomEvent::MemberLeft { member: left.member, kicked: left.kicked })
            }
            Body::MlsDelivery(delivery) => in_room(&delivery.room.clone(), RoomEvent::Mls(delivery)),
            Body::CommitRejected(rejected) => in_room(&rejected.room.clone(), RoomEvent::CommitRejected(rejected)),
            Body::BeaconPosted(beacon) => in_room(&beacon.room.clone(), RoomEvent::Beacon(beacon)),
            Body::TrackAnnounced(track) => in_room(&track.room.clone(), RoomEvent::TrackAnnounced(track)),
            Body::TrackEnded(ended) => {
                TrackAlias::new(ended.alias).and_then(|alias| in_room(&ended.room, RoomEvent::TrackEnded(alias)))
            }
            Body::KeyframeRequested(asked) => TrackAlias::new(asked.alias).map(Event::KeyframeRequested),
            Body::TrackDemand(demand) => {
                TrackAlias::new(demand.alias).map(|alias| Event::Demand(alias, Demand::from(demand)))
            }
            Body::Allocation(allocation) => {
                let before = std::mem::replace(&mut self.rung, allocation.rung());
                (before != self.rung).then_some(Event::RungChanged(self.rung))
            }
            Body::DevicesRevoked(revoked) => {
                Revocation::from_bytes(&revoked.revocation).ok().map(Event::DevicesRevoked)
            }
            Body::KeyPackagesLow(low) => self.connection.as_ref().map(|connection| {
                let wanted = self.key_packages.min(connection.limits.key_packages_max);
                Event::KeyPackagesWanted(wanted.saturating_sub(low.left))
            }),
            Body::GoAway(notice) => Some(Event::GoAway(notice)),
            // Replies to no request, and what stands before a Hello only.
            Body::Challenge(_)
            | Body::Welcome(_)
            | Body::Done(_)
            | Body::Refused(_)
            | Body::KeyPackages(_)
            | Body::RingStarted(_)
            | Body::RoomJoined(_)
            | Body::TrackPublished(_) => None,
        };
        self.events.extend(event);
    }

    fn handle_reply(&mut self, request: u64, body: relay_message::Body) {
        let waiting = self.connection.as_mut().and_then(|connection| connection.requests.settle(request));
        if let relay_message::Body::RingStarted(started) = &body
            && waiting.is_some()
        {
            self.rings.started(started.ring.clone());
        }
        let reply = match body {
            relay_message::Body::Refused(refused) => Err(Refusal::from(refused)),
            other => Ok(other),
        };
        match (waiting, reply) {
            (Some(Waiting::Asked(to)), reply) => self.events.push_back(Event::Reply { to, reply }),
            (Some(Waiting::Watch(identity)), Err(refusal)) if self.watches.holds(&identity) => {
                self.events.push_back(Event::WatchEnded(identity, refusal));
            }
            // Nobody waits for it, any more or at all.
            _ => {}
        }
    }
}

impl<T> Connection<T> {
    fn ask(&mut self, request: client_message::Body, waiting: Waiting<T>) {
        let message = self.requests.ask(request, waiting);
        encode_frame(&message, &mut self.to_write);
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("connection", &self.connection()).finish_non_exhaustive()
    }
}

fn watch_request(channel: &Channel, pass: &Pass) -> client_message::Body {
    let (ticket, proof) = channel.show(pass);
    client_message::Body::Watch(control::Watch { ticket, proof })
}

fn in_room<T>(room: &[u8], event: RoomEvent) -> Option<Event<T>> {
    RoomId::from_slice(room).ok().map(|room| Event::Room(room, event))
}
