//! The handle that everything begins with.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use supernode_calls::rights::{Revoked, Rules};
use supernode_e2ee::Device;
use supernode_proto::{
    close::CloseCode,
    control::{
        LimitTickets, PresenceState, Rung, SessionLimits, SetPresence, SetPushEndpoint, client_message, relay_message,
    },
    identity::{Delegation, IdentityKey, RelayPin, Revocation, RoomId},
    invite::Invite,
    limits,
};
use supernode_session::Session;
use tokio::sync::{mpsc, watch};

use crate::{
    Config, Error, Event, Events, Transport,
    presence::Watches,
    ring::Rings,
    room::Room,
    runtime::{sleep, spawn, timeout},
    sync::lock,
    wire::{
        bearer::{Reach, USUAL},
        coming_in,
        link::{Connected, Link, Pending},
        session,
    },
};

/// A session with a relay: cheap to clone; when the last clone, call and watch are gone, the session is closed.
///
/// The session comes back by itself when the connection breaks: presence, watches, key packages, calls and their tracks
/// are restored. What is asked of it meanwhile waits, at most [`Config::request_timeout`]. Where the invite names several
/// addresses it goes on at another one when a relay ends, is full or falls silent.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    _guard: Arc<CloseOnDrop>,
}

impl Client {
    /// Connects and waits to be let in, at whichever of the invite's addresses answers first: each is tried 250 ms after the one
    /// before it. Where the relay says that a later attempt may succeed, it is made, within
    /// [`Config::connect_timeout`]; once connected, the session comes back as [`Config`] says.
    ///
    /// # Errors
    /// [`Error::WrongPin`] if the relay's key is not the one that the invite names; where it names none,
    /// [`Error::Untrusted`] if no authority vouches for it, or [`Error::Authorities`] if there is none to do so;
    /// [`Error::Closed`] with the relay's reason if it does not let us in, [`Error::ClockDiffers`] if that is for the
    /// clocks' sake; [`Error::Resolve`], [`Error::Socket`], [`Error::Connection`] or [`Error::Unreachable`] if it cannot
    /// be reached.
    pub async fn connect(invite: &Invite, device: Arc<Device>, config: Config) -> Result<(Self, Events), Error> {
        let (events, receiver) = mpsc::channel(config.events_max.max(1));
        let inner = Arc::new(Inner::new(invite.clone(), device, config, events)?);
        let Connected { link, reader, welcomed } = coming_in::connect_first(&inner).await?;
        let guard = Arc::new(CloseOnDrop(inner.clone()));
        inner.guard.get_or_init(|| Arc::downgrade(&guard));
        // Key packages are on their way before anything that the caller asks for: whoever sees us online may ring at once.
        let mut heard = link.begin(welcomed);
        session::deposit_first(&inner, &link, &mut heard);
        let client = Self { _guard: guard, inner: inner.clone() };
        inner.link.send_replace(Some(link.clone()));
        inner.tell_of_relay(&link);
        spawn(session::drive(inner, link, reader, heard));
        Ok((client, Events { receiver }))
    }

    /// A handle for what the session task makes; `None` when all handles are gone.
    pub(crate) fn of(inner: &Arc<Inner>) -> Option<Self> {
        let guard = inner.guard.get()?.upgrade()?;
        Some(Self { inner: inner.clone(), _guard: guard })
    }

    /// The link that leads to the relay from now on: the one that the client was given, with the pin of the relay's present
    /// key where it had a pin. To be kept in its place: a link to an earlier key holds for a while only.
    pub fn invite(&self) -> Invite {
        let pin = self.inner.invite.pin.and(*lock(&self.inner.relay_pin));
        Invite { pin, ..self.inner.invite.clone() }
    }

    /// Who we are.
    pub fn identity(&self) -> IdentityKey {
        self.inner.device.identity()
    }

    /// What the relay grants this session; `None` while it is down.
    pub fn limits(&self) -> Option<SessionLimits> {
        self.inner.link_now().map(|link| link.limits)
    }

    /// Round trip to the relay; `None` while the session is down.
    pub fn rtt(&self) -> Option<Duration> {
        self.inner.link_now().map(|link| link.connection.rtt())
    }

    /// By what our packets travel; `None` while the session is down.
    pub fn transport(&self) -> Option<Transport> {
        self.inner.link_now().map(|link| link.transport())
    }

    /// How many events were dropped because nobody read them.
    pub fn events_dropped(&self) -> u64 {
        self.inner.events_dropped.load(Relaxed)
    }

    /// Shows us to those who hold our tickets. `status` is passed on as it is, at most 1 KiB: seal it for whom it is
    /// meant.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::State`] for offline, which nobody can set: close the client instead;
    /// [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn set_presence(&self, state: PresenceState, status: Bytes) -> Result<(), Error> {
        if state == PresenceState::Offline {
            return Err(Error::State("a client that is connected cannot be offline: it can be invisible"));
        }
        if status.len() > limits::PRESENCE_STATUS_BYTES_MAX {
            let (value, bound) = (status.len() as u64, limits::PRESENCE_STATUS_BYTES_MAX as u64);
            return Err(Error::TooLarge { field: "status", value, bound });
        }
        let wanted = client_message::Body::SetPresence(SetPresence { state: state.into(), status });
        lock(&self.inner.session).keep(&wanted);
        let link = self.inner.link().await?;
        self.inner.request(&link, wanted).await.map(drop)
    }

    /// Takes tickets of ours back, those of a lower generation than this, and shuts people out, whatever tickets they
    /// have: to them we are offline, and a ring of theirs that the relay lets through all the same is never shown. Others
    /// of our devices are told in [`Config::ticket_generation`]. A generation only rises; `blocked` replaces what was
    /// said before, and is for this client only.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Disconnected`], [`Error::TimedOut`]: it counts here all the same, and the relay is
    /// told with the next connection.
    pub async fn limit_tickets(&self, generation: u32, blocked: &[IdentityKey]) -> Result<(), Error> {
        if blocked.len() > limits::BLOCKED_IDENTITIES_MAX {
            let (value, bound) = (blocked.len() as u64, limits::BLOCKED_IDENTITIES_MAX as u64);
            return Err(Error::TooLarge { field: "blocked", value, bound });
        }
        let wanted = {
            let mut rules = lock(&self.inner.rules);
            rules.generation = rules.generation.max(generation);
            rules.blocked = blocked.iter().copied().collect();
            let blocked = blocked.iter().map(|identity| Bytes::copy_from_slice(identity.as_bytes())).collect();
            let wanted = client_message::Body::LimitTickets(LimitTickets { generation: rules.generation, blocked });
            lock(&self.inner.session).keep(&wanted);
            wanted
        };
        let link = self.inner.link().await?;
        self.inner.request(&link, wanted).await.map(drop)
    }

    /// The key with which a page subscribes to its browser's push service (RFC 8292) so that this relay can wake it: an
    /// uncompressed point of P-256. `None` from a relay that wakes nobody, and while the session is down.
    pub fn push_key(&self) -> Option<Bytes> {
        self.inner.link_now().map(|link| link.push_key.clone()).filter(|key| !key.is_empty())
    }

    /// Lets the relay wake this device when somebody with a ticket of ours rings and none of our devices is online: by a message
    /// without content to this endpoint, which a push service has given for [`Self::push_key`]. The relay keeps it for 30 days
    /// and is told again with each connection; `None` ends that. The relay then knows which browser's service that is, and the
    /// service when somebody rings (docs/THREAT-MODEL.md).
    ///
    /// # Errors
    /// [`Error::Refused`] if the relay's operator does not know that push service, or wakes nobody; [`Error::TooLarge`];
    /// [`Error::Disconnected`], [`Error::TimedOut`]: the relay is told with the next connection.
    pub async fn set_push_endpoint(&self, endpoint: Option<&str>) -> Result<(), Error> {
        let endpoint = endpoint.unwrap_or_default().to_owned();
        if endpoint.len() > limits::PUSH_ENDPOINT_BYTES_MAX {
            let (value, bound) = (endpoint.len() as u64, limits::PUSH_ENDPOINT_BYTES_MAX as u64);
            return Err(Error::TooLarge { field: "endpoint", value, bound });
        }
        let wanted = client_message::Body::SetPushEndpoint(SetPushEndpoint { endpoint });
        lock(&self.inner.session).keep(&wanted);
        let link = self.inner.link().await?;
        self.inner.request(&link, wanted).await.map(drop)
    }

    /// Takes in a person's word on which of their devices count no more, such as one that was kept from an earlier run:
    /// whether it was genuine and news. Words that come with rings and answers are taken in by themselves.
    pub fn learn_revocation(&self, word: Revocation) -> bool {
        lock(&self.inner.revoked).learn(word)
    }

    /// What a person has said about devices of theirs that count no more, as far as we have heard.
    pub fn revocation_of(&self, identity: &IdentityKey) -> Option<Revocation> {
        lock(&self.inner.revoked).of(identity)
    }

    /// Shows another delegation from now on, which the identity has signed before the one that there is runs out: to the
    /// groups of all calls at once, to the relay and those who ring us from the next connection on.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] if it is for another device, or of another identity.
    pub fn renew_delegation(&self, delegation: Delegation) -> Result<(), Error> {
        self.inner.device.renew_delegation(delegation)?;
        for room in lock(&self.inner.rooms).values() {
            room.changed.send_replace(());
        }
        Ok(())
    }

    /// Ends the session and all its calls, and waits until the relay has been told.
    pub async fn close(self) {
        self.inner.close(CloseCode::BYE);
        // Bounded: a relay that is gone does not acknowledge.
        let _ = timeout(Duration::from_secs(1), self.inner.reach.wait_idle()).await;
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(..)")
    }
}

/// What all handles share and the session task drives.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) invite: Invite,
    pub(crate) device: Arc<Device>,
    pub(crate) reach: Reach,
    /// Of the relay's key, as it was seen last, or as the invite says.
    relay_pin: Mutex<Option<RelayPin>>,
    /// The current connection, if there is one.
    pub(crate) link: watch::Sender<Option<Arc<Link>>>,
    /// With which code the relay ended the last session, while there is no other.
    pub(crate) ended_by: Mutex<Option<CloseCode>>,
    /// Set once: the client is closed and stays so.
    pub(crate) closed: watch::Sender<bool>,
    /// Locked last, where others are.
    pub(crate) session: Arc<Mutex<Session<Pending>>>,
    pub(crate) rules: Mutex<Rules>,
    pub(crate) revoked: Mutex<Revoked>,
    pub(crate) watches: Watches,
    pub(crate) rings: Rings,
    pub(crate) rooms: Mutex<HashMap<RoomId, Arc<Room>>>,
    pub(crate) rung: watch::Sender<Rung>,
    transport_told: Mutex<Transport>,
    guard: OnceLock<Weak<CloseOnDrop>>,
    events: mpsc::Sender<Event>,
    events_dropped: AtomicU64,
}

impl Inner {
    fn new(invite: Invite, device: Arc<Device>, config: Config, events: mpsc::Sender<Event>) -> Result<Self, Error> {
        let mut revoked = Revoked::default();
        if let Some(word) = config.revocation.clone() {
            revoked.learn(word);
        }
        let key_packages = u32::try_from(config.key_packages).unwrap_or(u32::MAX);
        Ok(Self {
            revoked: Mutex::new(revoked),
            rules: Mutex::new(Rules { generation: config.ticket_generation, ..Rules::default() }),
            session: Arc::new(Mutex::new(Session::new(key_packages, config.ticket_generation))),
            reach: Reach::new(&invite, &config.network)?,
            config,
            relay_pin: Mutex::new(invite.pin),
            invite,
            device,
            link: watch::Sender::new(None),
            ended_by: Mutex::default(),
            closed: watch::Sender::new(false),
            watches: Watches::default(),
            rings: Rings::default(),
            rooms: Mutex::default(),
            rung: watch::Sender::new(Rung::Full),
            transport_told: Mutex::new(USUAL),
            guard: OnceLock::new(),
            events,
            events_dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn link_now(&self) -> Option<Arc<Link>> {
        self.link.borrow().clone()
    }

    /// The current connection, or the next one if it comes in time.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Error> {
        let (mut links, mut closed) = (self.link.subscribe(), self.closed.subscribe());
        let connected = async {
            let link = links.wait_for(Option::is_some).await.map_err(|_| Error::ClientClosed)?;
            link.clone().ok_or(Error::Disconnected)
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(self.over()),
            link = connected => link,
            () = sleep(self.config.request_timeout) => Err(self.down()),
        }
    }

    pub(crate) async fn request(&self, link: &Link, body: client_message::Body) -> Result<relay_message::Body, Error> {
        link.request(body, self.config.request_timeout).await
    }

    /// Passes an event on; one that does not fit is given back and counted.
    pub(crate) fn tell(&self, event: Event) -> Option<Event> {
        match self.events.try_send(event) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) => {
                self.events_dropped.fetch_add(1, Relaxed);
                Some(event)
            }
        }
    }

    /// Says what a new connection shows of the relay, if it matters: by what it goes, how far the clocks are apart, and another
    /// key.
    pub(crate) fn tell_of_relay(&self, link: &Link) {
        self.tell_of_transport(link.transport());
        if link.skew.matters() {
            self.tell(Event::ClockDiffers(link.skew));
        }
        if let Some(known) = lock(&self.relay_pin).replace(*link.channel.relay())
            && known != *link.channel.relay()
            && self.invite.pin.is_some()
        {
            self.tell(Event::RelayKeyChanged(*link.channel.relay()));
        }
    }

    /// Says by what the session goes, if it is not what was said last; before it is said, that is the usual.
    pub(crate) fn tell_of_transport(&self, transport: Transport) {
        let before = std::mem::replace(&mut *lock(&self.transport_told), transport);
        if before != transport {
            self.tell(Event::TransportChanged(transport));
        }
    }

    /// Why nothing can be asked of the relay now: for what the relay said when it ended the session, if it did.
    pub(crate) fn down(&self) -> Error {
        lock(&self.ended_by).map_or(Error::Disconnected, Error::Closed)
    }

    /// Why nothing can be asked of the relay any more.
    pub(crate) fn over(&self) -> Error {
        lock(&self.ended_by).map_or(Error::ClientClosed, Error::Closed)
    }

    pub(crate) fn room(&self, room: &[u8]) -> Option<Arc<Room>> {
        lock(&self.rooms).get(&RoomId::from_slice(room).ok()?).cloned()
    }

    pub(crate) fn close(&self, reason: CloseCode) {
        // What is asked from now on fails for us, not for the relay.
        *lock(&self.ended_by) = None;
        self.closed.send_replace(true);
        self.reach.close(reason);
    }
}

struct CloseOnDrop(Arc<Inner>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(CloseCode::BYE);
    }
}
