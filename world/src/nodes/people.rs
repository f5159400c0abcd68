//! People with devices: what they have said, and what they see of each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, rngs::StdRng};
use supernode_keys::{DeviceSecret, IdentitySecret, TicketSecret};
use supernode_proto::{
    close::CloseCode,
    control::{
        LimitTickets, Presence, PresenceState, RelayMessage, SetPresence, Unwatch, Watch,
        client_message::Body as Request, relay_message::Body,
    },
    identity::{ChannelBinding, Grants, Holder, IdentityKey, RelayPin, Revocation, SIGNATURE_BYTES, Ticket},
};
use supernode_server::core::SessionId;
use supernode_session::Channel;

use super::{Nodes, calls::Asked, node::Seat};

/// All connections are alike: what is between a client and its shard is left out.
pub(super) const BINDING: ChannelBinding = ChannelBinding::TlsExporter { relay: RelayPin([9; 32]), exporter: [5; 32] };
/// Until when tickets are good: longer than any world lasts. Unix time.
const TICKETS_UNTIL: u64 = 1_790_000_000 + 24 * 3600;

pub(super) struct Person {
    pub(super) identity: IdentitySecret,
    /// Of the tickets that they give from now on.
    pub(super) generation: u32,
    pub(super) revocation: Option<Revocation>,
}

pub(super) struct Device {
    pub(super) person: usize,
    pub(super) secret: DeviceSecret,
    pub(super) seat: Option<Seat>,
    /// When it last opened a session.
    pub(super) came: Duration,
    /// Counts the sessions of all devices.
    pub(super) session: u64,
    /// How it wants to be seen, since it has this session.
    pub(super) shown: Option<(PresenceState, Bytes)>,
    /// Whom it shuts out, as far as it has said so in this session.
    pub(super) blocked: BTreeSet<usize>,
    /// Whether it has said so: until then whom an earlier session of it shut out holds.
    pub(super) has_limited: bool,
    /// When it last let somebody in again, as a number of [`People::statuses`].
    pub(super) let_in: BTreeMap<usize, u64>,
    /// The generation that it has named in this session.
    pub(super) named: u32,
    pub(super) watches: BTreeMap<usize, Seen>,
    pub(super) is_revoked: bool,
}

/// What a watcher sees of somebody.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the ticket.
    pub(super) generation: u32,
    pub(super) last: Option<Presence>,
    /// Of each session the newest status that was seen.
    newest: BTreeMap<u64, u64>,
}

/// A status that somebody set: each is another.
pub(super) struct Status {
    device: usize,
    session: u64,
    blocked: BTreeSet<usize>,
}

pub(super) struct People {
    pub(super) people: Vec<Person>,
    pub(super) devices: Vec<Device>,
    pub(super) statuses: Vec<Status>,
    /// Whose each session is.
    by_session: BTreeMap<(u16, u16, u32, u32), usize>,
    sessions: u64,
}

/// The key of all tickets.
fn open_key() -> TicketSecret {
    TicketSecret::from_bytes(&[0x77; 32])
}

fn session_key(id: SessionId) -> (u16, u16, u32, u32) {
    (id.at.node.0, id.at.shard.0, id.link, id.generation)
}

impl Device {
    pub(super) fn channel(&self) -> Channel {
        Channel { binding: BINDING, device: self.secret.public() }
    }
}

impl People {
    pub(super) fn new(count: usize, rng: &mut StdRng) -> Self {
        let mut people = Vec::new();
        let mut devices = Vec::new();
        for person in 0..count {
            let identity = IdentitySecret::from_bytes(&rng.random());
            people.push(Person { identity, generation: 0, revocation: None });
            for _ in 0..rng.random_range(1..=2) {
                devices.push(Device {
                    person,
                    secret: DeviceSecret::from_bytes(&rng.random()),
                    seat: None,
                    came: Duration::ZERO,
                    session: 0,
                    shown: None,
                    blocked: BTreeSet::new(),
                    has_limited: false,
                    let_in: BTreeMap::new(),
                    named: 0,
                    watches: BTreeMap::new(),
                    is_revoked: false,
                });
            }
        }
        Self { people, devices, statuses: Vec::new(), by_session: BTreeMap::new(), sessions: 0 }
    }

    pub(super) fn key(&self, person: usize) -> IdentityKey {
        self.people[person].identity.public()
    }

    fn person_of(&self, key: &[u8]) -> Option<usize> {
        self.people.iter().position(|person| person.identity.public().as_bytes()[..] == *key)
    }

    /// What shows that this device may ring and watch somebody.
    pub(super) fn ticket(&self, device: usize, issuer: usize) -> (Bytes, Bytes) {
        let person = &self.people[issuer];
        let ticket = person.identity.sign_ticket(Ticket {
            issuer: person.identity.public(),
            holder: Holder::Key(open_key().public()),
            relay: None,
            generation: person.generation,
            grants: Grants::PRESENCE | Grants::RING,
            not_after_unix_s: TICKETS_UNTIL,
            id: [0; 8],
            signature: [0; SIGNATURE_BYTES],
        });
        let proof = self.devices[device].channel().show_ticket(&ticket, &open_key());
        (ticket.to_bytes().into(), proof)
    }
}

impl Nodes {
    /// A device opens a session; what was of an earlier one is over for it, and its node hears of that when it does.
    pub(super) fn come(&mut self, device: usize, place: usize, shard: usize) {
        let Some(seat) = self.open(device, place, shard) else { return };
        let named = self.people.people[self.people.devices[device].person].generation;
        self.people.sessions += 1;
        let session = self.people.sessions;
        let it = &mut self.people.devices[device];
        (it.seat, it.session, it.named, it.came) = (Some(seat), session, named, self.now);
        (it.shown, it.blocked, it.watches) = (None, BTreeSet::new(), BTreeMap::new());
        it.has_limited = false;
        self.people.by_session.insert(session_key(seat.id), device);
        self.out_of_rooms(device);
        self.say(format_args!("device {device} is at node {} as session {session}", place + 1));
    }

    /// A device has no session any more, as far as it knows.
    pub(super) fn lose(&mut self, device: usize) -> Option<Seat> {
        let it = &mut self.people.devices[device];
        (it.shown, it.blocked, it.watches) = (None, BTreeSet::new(), BTreeMap::new());
        let seat = it.seat.take();
        self.out_of_rooms(device);
        seat
    }

    /// The relay has closed a session.
    pub(super) fn was_closed(&mut self, session: SessionId, code: CloseCode) {
        if let Some(device) = self.people.by_session.remove(&session_key(session))
            && self.people.devices[device].seat.is_some_and(|seat| seat.id == session)
        {
            self.say(format_args!("device {device} was closed: {code:?}"));
            let it = &self.people.devices[device];
            if code == CloseCode::REPLACED && !it.is_revoked {
                self.judge.fail(self.now, &format!("the newest session of device {device} was replaced"));
            }
            self.lose(device);
        }
    }

    /// There is no session.
    pub(super) fn refused(&mut self, device: usize, code: CloseCode) {
        if !(code == CloseCode::DEVICE_REVOKED && self.people.devices[device].is_revoked) {
            self.judge.fail(self.now, &format!("device {device} was not let in: {code:?}"));
        }
    }

    /// Says how a device wants to be seen, with a status that nobody has had.
    pub(super) fn show(&mut self, device: usize, state: PresenceState) {
        let number = self.people.statuses.len() as u64;
        let it = &mut self.people.devices[device];
        let Some(seat) = it.seat else { return };
        let status = Bytes::copy_from_slice(&number.to_be_bytes());
        it.shown = Some((state, status.clone()));
        let status_of = Status { device, session: it.session, blocked: it.blocked.clone() };
        self.people.statuses.push(status_of);
        self.say(format_args!("device {device} shows {state:?} as {number}"));
        self.ask(seat, 1, Request::SetPresence(SetPresence { state: state.into(), status }));
    }

    /// Says whom a device shuts out, and which tickets count.
    pub(super) fn limit(&mut self, device: usize, blocked: BTreeSet<usize>) {
        let number = self.people.statuses.len() as u64;
        let generation = self.people.people[self.people.devices[device].person].generation;
        let names = blocked.iter().map(|person| Bytes::copy_from_slice(self.people.key(*person).as_bytes()));
        let wanted = LimitTickets { generation, blocked: names.collect() };
        let it = &mut self.people.devices[device];
        let Some(seat) = it.seat else { return };
        let let_in: Vec<usize> = it.blocked.difference(&blocked).copied().collect();
        it.let_in.extend(let_in.into_iter().map(|person| (person, number)));
        (it.named, it.blocked, it.has_limited) = (generation, blocked.clone(), true);
        self.say(format_args!("device {device} names generation {generation} and shuts out {blocked:?}"));
        self.ask(seat, 1, Request::LimitTickets(wanted));
    }

    /// Begins to watch somebody, unless the device does, or ends it.
    pub(super) fn watch(&mut self, device: usize, person: usize, is_watched: bool) {
        let Some(seat) = self.people.devices[device].seat else { return };
        let (generation, key) = (self.people.people[person].generation, self.people.key(person));
        let (ticket, proof) = self.people.ticket(device, person);
        let watches = &mut self.people.devices[device].watches;
        if is_watched == watches.contains_key(&person) {
            return;
        }
        self.say(format_args!("device {device} watches {person}: {is_watched}"));
        let watches = &mut self.people.devices[device].watches;
        if is_watched {
            watches.insert(person, Seen { generation, ..Seen::default() });
            return self.ask(seat, 1, Request::Watch(Watch { ticket, proof }));
        }
        self.ask(seat, 1, Request::Unwatch(Unwatch { identity: Bytes::copy_from_slice(key.as_bytes()) }));
        self.people.devices[device].watches.remove(&person);
    }

    /// A client is told something.
    pub(super) fn receive(&mut self, to: SessionId, message: RelayMessage) {
        let Some(device) = self.people.by_session.get(&session_key(to)).copied() else { return };
        if self.people.devices[device].seat.is_none_or(|seat| seat.id != to) {
            return;
        }
        match message.body {
            Some(Body::Presence(presence)) => self.see(device, presence),
            Some(Body::Refused(refused)) => {
                let asked = self.replied(device, message.reply_to, Some(&refused));
                if asked.is_none() {
                    self.judge.fail(self.now, &format!("device {device} was refused something: {refused:?}"));
                }
            }
            Some(Body::KeyPackages(packages)) => {
                if let Some(Asked::Take(person)) = self.replied(device, message.reply_to, None) {
                    self.handed(device, person, &packages);
                }
            }
            Some(Body::RingStarted(started)) => {
                self.replied(device, message.reply_to, None);
                self.ring_started(device, started.ring, started.devices);
            }
            Some(Body::RoomJoined(joined)) => {
                if let Some(Asked::Enter(room)) = self.replied(device, message.reply_to, None) {
                    self.entered(device, room, &joined);
                }
            }
            Some(Body::MemberJoined(joined)) => self.came_in(device, &joined),
            Some(Body::MemberLeft(left)) => self.went_out(device, &left.room, left.member),
            Some(Body::MlsDelivery(delivery)) => self.hear_in_room(device, &delivery),
            Some(Body::Done(_)) => match self.replied(device, message.reply_to, None) {
                Some(Asked::Answer(ring)) => self.answer_counts(device, &ring),
                Some(Asked::Decline(ring)) => self.stopped(device, &ring),
                Some(asked) => self.done_in_room(device, &asked),
                None => {}
            },
            Some(Body::IncomingRing(incoming)) => self.it_rings(device, incoming.ring, &incoming.caller_device),
            Some(Body::RingEnded(ended)) => self.stopped(device, &ended.ring),
            Some(Body::RingOutcome(outcome)) => self.ring_over(device, &outcome),
            _ => {}
        }
    }

    fn see(&mut self, device: usize, presence: Presence) {
        let Some(person) = self.people.person_of(&presence.identity) else { return };
        let watcher = self.people.devices[device].person;
        let status = presence.status[..].try_into().map(u64::from_be_bytes).ok();
        self.judge.tell(
            self.now,
            format_args!(
                "device {device} sees {person} as {:?} on {} devices, {status:?}",
                presence.state(),
                presence.devices
            ),
        );
        if let Some(number) = status
            && let Some(set) = self.people.statuses.get(number as usize)
        {
            let setter = &self.people.devices[set.device];
            let was_let_in = setter.let_in.get(&watcher).is_some_and(|at| *at > number);
            if set.blocked.contains(&watcher) && setter.session == set.session && setter.seat.is_some() && !was_let_in {
                let what = format!("device {device} sees status {number} of device {}, which shuts it out", set.device);
                self.judge.fail(self.now, &what);
            }
        }
        let session = status.and_then(|number| self.people.statuses.get(number as usize)).map(|set| set.session);
        let Some(seen) = self.people.devices[device].watches.get_mut(&person) else { return };
        if seen.last.as_ref().is_some_and(|last| last.epoch > presence.epoch) {
            return;
        }
        seen.last = Some(presence);
        if let (Some(session), Some(number)) = (session, status) {
            let newest = seen.newest.entry(session).or_default();
            if *newest > number {
                let what = format!("device {device} sees status {number} after {newest}, which is newer");
                self.judge.fail(self.now, &what);
            }
            *newest = number.max(*newest);
        }
    }
}
