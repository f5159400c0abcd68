//! A client made of nothing but the wire crate and quinn.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use prost::Message;
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret, TicketSecret};
use supernode_proto::{
    control::{
        ClientMessage, FrameReader, PublishTrack, RelayMessage, RoomJoined, SendMls, Subscribe, TrackKind,
        client_message::Body as Request, frame, relay_message::Body,
    },
    identity::{EXPORTER_LABEL, Grants, Holder, IdentityKey, RelayPin, RoomId, SIGNATURE_BYTES, Ticket},
    invite::Invite,
    mls::Envelope,
    object::{DatagramHeader, Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_session::{Channel, Introduction, put_datagram};

use crate::tls;

/// How long what must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a client sends before it hears whether it arrived.
const INITIAL_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Where a relay is and what lets one in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) pin: RelayPin,
    pub(crate) token: String,
}

impl Door {
    /// From an invite link.
    pub(crate) fn from_link(link: &str) -> anyhow::Result<Self> {
        let invite: Invite = link.parse().context("the relay's invite link")?;
        let address = format!("{}:{}", invite.host, invite.port).parse().context("an address in the invite link")?;
        Ok(Self { address, pin: invite.pin.context("a pin")?, token: invite.token.unwrap_or_default() })
    }
}

/// Somebody with one device.
#[derive(Clone)]
pub(crate) struct Person {
    identity: Arc<IdentitySecret>,
    device: Arc<DeviceSecret>,
}

impl Person {
    pub(crate) fn new() -> Self {
        Self {
            identity: IdentitySecret::from_bytes(&rand::random()).into(),
            device: DeviceSecret::from_bytes(&rand::random()).into(),
        }
    }

    pub(crate) fn identity_key(&self) -> IdentityKey {
        self.identity.public()
    }

    /// A ticket that lets anybody watch and ring for an hour.
    pub(crate) fn open_ticket(&self) -> Bytes {
        let ticket = self.identity.sign_ticket(Ticket {
            issuer: self.identity_key(),
            holder: Holder::Key(open_key().public()),
            relay: None,
            generation: 0,
            grants: Grants::PRESENCE | Grants::RING,
            not_after_unix_s: unix_s() + 3600,
            id: rand::random(),
            signature: [0; SIGNATURE_BYTES],
        });
        Bytes::from(ticket.to_bytes())
    }
}

/// The key of all tickets: [`Client::ask`] shows them.
fn open_key() -> TicketSecret {
    TicketSecret::from_bytes(&[0x77; 32])
}

/// A room's name and what lets one in.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    secret: JoinSecret,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { id: RoomId::passing(rand::random()), secret: JoinSecret::from_bytes(&rand::random()) }
    }

    pub(crate) fn name(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.0)
    }

    /// What a member says to its group, around bytes that nobody can open.
    pub(crate) fn message(&self, sealed: &[u8]) -> SendMls {
        let payload = Envelope { room: self.id, epoch: 0, commit: false }.around(sealed).into();
        SendMls { room: self.name(), payload, ..SendMls::default() }
    }
}

/// A client's end of a session.
pub(crate) struct Client {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
    pub(crate) person: Person,
    pin: RelayPin,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    reader: FrameReader,
    events: VecDeque<Body>,
    request: u64,
}

impl Client {
    /// Gets in from this address of the loopback network, which the relay takes for a network of its own.
    pub(crate) async fn connect(door: &Door, from: Ipv4Addr, person: Person) -> anyhow::Result<Self> {
        let connection = dial(door, from, Arc::new(tls::client()?)).await?;
        Self::greet(door, connection, person).await
    }

    /// Says Hello on a connection.
    pub(crate) async fn greet(door: &Door, dialled: Dialled, person: Person) -> anyhow::Result<Self> {
        let Dialled { endpoint, connection } = dialled;
        let (send, receive) = connection.open_bi().await?;
        let reader = FrameReader::default();
        let (pin, events) = (door.pin, VecDeque::new());
        let mut client = Self { endpoint, connection, person, pin, send, receive, reader, events, request: 0 };
        let device = client.person.device.clone();
        let delegation = client.person.identity.delegate(&device.public(), unix_s() + 3600);
        let hello = client.channel()?.hello(&device, &Introduction::new(&delegation, &door.token));
        client.send(0, Request::Hello(hello)).await?;
        match client.next().await?.body {
            Some(Body::Welcome(_)) => Ok(client),
            other => bail!("a Welcome was due: {other:?}"),
        }
    }

    /// What is signed on this connection.
    fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Channel::by_exporter(self.pin, self.exporter()?, self.person.device.public()))
    }

    fn exporter(&self) -> anyhow::Result<[u8; 32]> {
        let mut exporter = [0; 32];
        let exported = self.connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        if exported.is_err() {
            bail!("no exporter");
        }
        Ok(exporter)
    }

    pub(crate) async fn send(&mut self, request: u64, body: Request) -> anyhow::Result<()> {
        Ok(self.send.write_all(&frame(&ClientMessage { request, body: Some(body) })).await?)
    }

    /// Sends a request behind which stands a field that no version of the protocol knows, of so many bytes.
    pub(crate) async fn send_with_unknown_field(&mut self, body: Request, bytes: usize) -> anyhow::Result<()> {
        self.request += 1;
        let mut message = ClientMessage { request: self.request, body: Some(body) }.encode_to_vec();
        prost::encoding::bytes::encode(2000, &vec![0u8; bytes], &mut message);
        let mut frame = BytesMut::new();
        prost::encoding::encode_varint(message.len() as u64, &mut frame);
        frame.extend_from_slice(&message);
        Ok(self.send.write_all(&frame).await?)
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> anyhow::Result<RelayMessage> {
        tokio::time::timeout(PATIENCE, self.next_ever()).await.context("no message came")?
    }

    async fn next_ever(&mut self) -> anyhow::Result<RelayMessage> {
        loop {
            if let Some(message) = self.reader.next_message()? {
                return Ok(message);
            }
            let mut buffer = [0; 16 * 1024];
            match self.receive.read(&mut buffer).await? {
                Some(len) => self.reader.push(&buffer[..len]),
                None => bail!("the relay ended the control stream"),
            }
        }
    }

    /// Asks and waits for the reply; events meanwhile are kept.
    pub(crate) async fn ask(&mut self, mut body: Request) -> anyhow::Result<Body> {
        self.request += 1;
        match &mut body {
            Request::TakeKeyPackages(take) => take.proof = self.prove(&take.ticket)?,
            Request::Ring(ring) => ring.proof = self.prove(&ring.ticket)?,
            _ => {}
        }
        self.send(self.request, body).await?;
        loop {
            let message = self.next().await?;
            let Some(body) = message.body else { bail!("a message without a body") };
            match message.reply_to {
                reply_to if reply_to == self.request => return Ok(body),
                0 => self.events.push_back(body),
                _ => {}
            }
        }
    }

    /// What shows a ticket with [`open_key`] on this connection.
    fn prove(&self, ticket: &[u8]) -> anyhow::Result<Bytes> {
        let ticket = Ticket::from_bytes(ticket)?;
        Ok(self.channel()?.show_ticket(&ticket, &open_key()))
    }

    pub(crate) async fn join(&mut self, room: &Room) -> anyhow::Result<RoomJoined> {
        let wanted = self.channel()?.join(&room.id, &room.secret, 0);
        match self.ask(Request::JoinRoom(wanted)).await? {
            Body::RoomJoined(joined) => Ok(joined),
            other => bail!("RoomJoined was due: {other:?}"),
        }
    }

    pub(crate) async fn publish(&mut self, room: &Room, kind: TrackKind) -> anyhow::Result<TrackAlias> {
        let label = Bytes::from_static(b"label");
        let wanted = PublishTrack { room: room.name(), kind: kind.into(), label, activity: false, mls_epoch: 0 };
        match self.ask(Request::PublishTrack(wanted)).await? {
            Body::TrackPublished(published) => TrackAlias::new(published.alias).context("an alias"),
            other => bail!("TrackPublished was due: {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, alias: TrackAlias) -> anyhow::Result<()> {
        let all =
            Subscribe { alias: alias.value(), temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() };
        match self.ask(Request::Subscribe(all)).await? {
            Body::Done(_) => Ok(()),
            other => bail!("Done was due: {other:?}"),
        }
    }

    /// Reads whatever comes on the control stream from now on, and gives it away; its bytes are told to `count`.
    pub(crate) fn listen(self, count: impl Fn(usize) + Send + 'static) -> Online {
        let Self { connection, send, mut receive, request, .. } = self;
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(Some(len)) = receive.read(&mut buffer).await {
                count(len);
            }
        });
        Online { connection, send, request }
    }
}

/// A session whose replies nobody looks at.
pub(crate) struct Online {
    pub(crate) connection: quinn::Connection,
    /// A control stream that ends would end the session.
    send: quinn::SendStream,
    request: u64,
}

impl Online {
    /// Asks for something.
    pub(crate) async fn say(&mut self, body: Request) -> anyhow::Result<()> {
        self.say_all(std::iter::once(body)).await
    }

    /// Asks for several things at once.
    pub(crate) async fn say_all(&mut self, bodies: impl Iterator<Item = Request>) -> anyhow::Result<()> {
        let mut frames = BytesMut::new();
        for body in bodies {
            self.request += 1;
            frames.extend_from_slice(&frame(&ClientMessage { request: self.request, body: Some(body) }));
        }
        Ok(self.send.write_all(&frames).await?)
    }
}

/// Ends connections and lets the relay know, so that it need not wait for what will not come.
pub(crate) async fn goodbye(connections: impl Iterator<Item = &quinn::Connection>) {
    connections.for_each(|connection| connection.close(0u8.into(), b""));
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// A QUIC connection and its socket.
pub(crate) struct Dialled {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
}

/// A connection before Hello, by this TLS.
pub(crate) async fn dial(
    door: &Door,
    from: Ipv4Addr,
    tls: Arc<dyn quinn::crypto::ClientConfig>,
) -> anyhow::Result<Dialled> {
    let endpoint = endpoint(from)?;
    let connection = dial_from(&endpoint, door, tls, None).await?;
    Ok(Dialled { endpoint, connection })
}

/// A socket from which connections begin.
pub(crate) fn endpoint(from: Ipv4Addr) -> anyhow::Result<quinn::Endpoint> {
    quinn::Endpoint::client((from, 0).into()).with_context(|| format!("a socket at {from}"))
}

/// A connection from a socket that may have others; of what the relay has for it, it takes no more at once than this.
pub(crate) async fn dial_from(
    endpoint: &quinn::Endpoint,
    door: &Door,
    tls: Arc<dyn quinn::crypto::ClientConfig>,
    window: Option<u32>,
) -> anyhow::Result<quinn::Connection> {
    let mut config = quinn::ClientConfig::new(tls);
    let mut transport = quinn::TransportConfig::default();
    if let Some(window) = window {
        transport.stream_receive_window(window.into());
    }
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into()?));
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    // Attackers do not hold back, and a call is too little to be held.
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    transport.congestion_controller_factory(Arc::new(congestion));
    config.transport_config(Arc::new(transport));
    Ok(endpoint.connect_with(config, door.address, "relay")?.await?)
}

/// An object in a datagram.
pub(crate) fn datagram(alias: TrackAlias, group: u64, sealed: &[u8]) -> Bytes {
    let visible = Visible { group, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    let mut wire = BytesMut::new();
    put_datagram(&mut wire, Hop { alias, priority: 0, ttl_ms: 1000 }, visible);
    wire.extend_from_slice(sealed);
    wire.freeze()
}

/// The sealed bytes of an object in a datagram.
pub(crate) fn sealed(wire: &Bytes) -> Option<Bytes> {
    let (_, len) = DatagramHeader::decode(wire).ok()?;
    Some(wire.slice(len..))
}

/// The group of the object in a datagram.
pub(crate) fn group_of(wire: &Bytes) -> Option<u64> {
    DatagramHeader::decode(wire).ok().map(|(header, _)| header.visible.group)
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
