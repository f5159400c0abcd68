//! Two kinds of link at one engine: clients whose streams and datagrams have something of the link's in front, and one as all
//! are today, in one room. QUIC and TLS are real, the packets go by hand.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
};

use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, Dir, EndpointConfig, Event, StreamEvent, StreamId, TransportConfig,
    VarInt, WriteError, crypto::rustls::QuicClientConfig,
};
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret};
use supernode_proto::{
    control::{
        ClientMessage, FrameReader, PublishTrack, RelayMessage, Subscribe, client_message::Body as Request,
        relay_message::Body,
    },
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
    object::{Flags, Layer, Visible},
};
use supernode_session::{Channel, Introduction, put_datagram, put_object, put_stream_head};
use supernode_tls::PinVerifier;

use super::*;
use crate::{
    core::Voucher,
    shard::quic::link_codec::{
        LinkCodec,
        prefixed::{CONTROL_HEADER, MEDIA_HEADER, RELAY_SETTINGS},
    },
};

pub(super) const ROOM: RoomId = RoomId([1; 16]);
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4433);
/// Turns that anything here may take.
const TURNS_MAX: usize = 200;

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

/// A client's end of a connection. Everything that it writes and reads is as it lies on the link.
pub(super) struct Client {
    endpoint: Endpoint,
    pub(super) quic: Connection,
    handle: ConnectionHandle,
    address: SocketAddr,
    is_prefixed: bool,
    is_connected: bool,
    closed: Option<u64>,
    device: DeviceSecret,
    control: Option<StreamId>,
    reader: FrameReader,
    messages: Vec<RelayMessage>,
    pub(super) datagrams: Vec<Bytes>,
    /// What the relay's streams have brought.
    streams: BTreeMap<StreamId, Vec<u8>>,
    /// What waits to be written.
    out: VecDeque<(StreamId, Bytes)>,
    request: u64,
}

/// The engine, and its clients at one place.
pub(super) struct Stage {
    pub(super) engine: Engine,
    inbox: Inbox,
    out: SendBatch,
    pin: RelayPin,
    now: Now,
    pub(super) clients: Vec<Client>,
}

impl Stage {
    /// An engine with a client for each of these, connected.
    pub(super) fn with_clients(prefixed: &[bool]) -> Self {
        let (own, inbox) = inbox().expect("a descriptor");
        let (engine, pin) = engine(Arc::new(Everybody), vec![own]);
        let unix = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        let now = Now { instant: Instant::now(), unix_ms: unix.as_millis() as u64 };
        let mut stage = Self { engine, inbox, out: SendBatch::default(), pin, now, clients: Vec::new() };
        for (number, is_prefixed) in (1..).zip(prefixed) {
            stage.clients.push(Client::dial(number, *is_prefixed, pin, now.instant));
        }
        stage.until("all are connected", |stage| stage.clients.iter().all(|client| client.is_connected));
        stage
    }

    /// Packets go one way and the other, and a millisecond passes.
    pub(super) fn turn(&mut self) {
        let Self { engine, inbox, out, now, clients, .. } = self;
        *now = now.plus(Duration::from_millis(1));
        for client in clients.iter_mut() {
            for data in client.packets(now.instant) {
                let packet = Received { remote: client.address, local_ip: None, ecn: None, arrived: now.instant, data };
                engine.handle_packet(packet, *now, out, || now.instant);
            }
        }
        // What ALPN will decide one day: before anything but the handshake has happened.
        for link in 0..engine.connections.links() {
            let Some(connection) = engine.connections.get_mut(link) else { continue };
            let address = connection.quic.remote_address();
            let is_prefixed = clients.iter().any(|client| client.is_prefixed && client.address == address);
            if connection.phase == Phase::Handshaking && is_prefixed {
                connection.codec = LinkCodec::prefixed();
            }
        }
        engine.handle_mail(inbox, *now, out, || now.instant);
        engine.handle_timeouts(*now);
        engine.serve(*now);
        engine.poll_transmits(*now, out, |_, _| ());
        out.take(|to, datagram| {
            let client = clients.iter_mut().find(|client| client.address == to).expect("somebody's address");
            client.receive(datagram, now.instant);
        });
        clients.iter_mut().for_each(Client::handle_events);
    }

    pub(super) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("not within {TURNS_MAX} turns: {what}");
    }

    /// Opens a stream of a client's, as soon as it may.
    fn open(&mut self, client: usize, dir: Dir) -> StreamId {
        let mut id = None;
        self.until("one more stream is allowed", |stage| {
            id = stage.clients[client].quic.streams().open(dir);
            id.is_some()
        });
        id.expect("opened")
    }

    /// A client asks; the reply.
    pub(super) fn ask(&mut self, client: usize, body: Request) -> Body {
        let asking = &mut self.clients[client];
        asking.request += 1;
        let request = asking.request;
        asking.send(ClientMessage { request, body: Some(body) });
        let mut reply = None;
        self.until("a reply", |stage| {
            let replies = stage.clients[client].messages.iter();
            reply = replies.filter(|message| message.reply_to == request).find_map(|message| message.body.clone());
            reply.is_some()
        });
        reply.expect("it came")
    }

    /// Opens the control stream, says Hello and joins the room.
    pub(super) fn enter(&mut self, client: usize) {
        let id = self.open(client, Dir::Bi);
        self.clients[client].control = Some(id);
        if self.clients[client].is_prefixed {
            // Byte by byte, each in a packet of its own.
            for byte in CONTROL_HEADER {
                self.clients[client].out.push_back((id, Bytes::copy_from_slice(&[byte])));
                self.turn();
            }
        }
        let unix_s = self.now.unix_s();
        let greeting = &mut self.clients[client];
        let identity = IdentitySecret::from_bytes(&greeting.device.to_bytes());
        let delegation = identity.delegate(&greeting.device.public(), unix_s + 3600);
        let channel = greeting.channel(self.pin);
        let hello = channel.hello(&greeting.device, &Introduction::new(&delegation, ""));
        greeting.send(ClientMessage { request: 0, body: Some(Request::Hello(hello)) });
        let is_welcome = |message: &RelayMessage| matches!(message.body, Some(Body::Welcome(_)));
        self.until("a Welcome", |stage| stage.clients[client].messages.iter().any(is_welcome));
        let join = channel.join(&ROOM, &JoinSecret::from_bytes(&[5; 32]), 1);
        assert!(matches!(self.ask(client, Request::JoinRoom(join)), Body::RoomJoined(_)));
    }

    /// Publishes a track to which all others subscribe.
    fn publish(&mut self, client: usize, kind: TrackKind) -> TrackAlias {
        let room = Bytes::copy_from_slice(&ROOM.0);
        let wanted = PublishTrack { room, kind: kind.into(), ..PublishTrack::default() };
        let Body::TrackPublished(published) = self.ask(client, Request::PublishTrack(wanted)) else {
            panic!("refused")
        };
        for other in (0..self.clients.len()).filter(|other| *other != client) {
            let wanted = Subscribe { alias: published.alias, max_age_ms: 10_000, ..Subscribe::default() };
            assert!(matches!(self.ask(other, Request::Subscribe(wanted)), Body::Done(_)));
        }
        TrackAlias::new(published.alias).expect("a number of the wire's")
    }
}

impl Client {
    fn dial(number: u8, is_prefixed: bool, pin: RelayPin, now: Instant) -> Self {
        let provider = supernode_tls::provider();
        let tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider)));
        let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
        let mut transport = TransportConfig::default();
        transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).datagram_receive_buffer_size(Some(1 << 20));
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (handle, quic) = endpoint.connect(now, config, RELAY, "relay").expect("it is allowed to dial");
        Self {
            endpoint,
            quic,
            handle,
            address: SocketAddr::from(([198, 51, 100, number], 1024)),
            is_prefixed,
            is_connected: false,
            closed: None,
            device: DeviceSecret::from_bytes(&[number; 32]),
            control: None,
            reader: FrameReader::default(),
            messages: Vec::new(),
            datagrams: Vec::new(),
            streams: BTreeMap::new(),
            out: VecDeque::new(),
            request: 0,
        }
    }

    fn channel(&self, relay: RelayPin) -> Channel {
        let mut exporter = [0; EXPORTER_BYTES];
        let exported = self.quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        exported.expect("the handshake is done");
        Channel::by_exporter(relay, exporter, self.device.public())
    }

    fn send(&mut self, message: ClientMessage) {
        self.out.push_back((self.control.expect("opened"), frame(&message)));
    }

    fn packets(&mut self, now: Instant) -> Vec<BytesMut> {
        while let Some((id, bytes)) = self.out.front_mut() {
            match self.quic.send_stream(*id).write(bytes) {
                Ok(written) if written == bytes.len() => _ = self.out.pop_front(),
                Ok(written) => _ = bytes.split_to(written),
                Err(WriteError::Blocked) => break,
                Err(error) => panic!("{error}"),
            }
        }
        if self.quic.poll_timeout().is_some_and(|at| at <= now) {
            self.quic.handle_timeout(now);
        }
        let (mut packets, mut buffer) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.quic.poll_transmit(now, 1, &mut buffer) {
            packets.push(BytesMut::from(&buffer[..transmit.size]));
            buffer.clear();
        }
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        packets
    }

    fn receive(&mut self, datagram: &[u8], now: Instant) {
        let event = self.endpoint.handle(now, RELAY, None, None, BytesMut::from(datagram), &mut Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason: quinn_proto::ConnectionError::ApplicationClosed(close) } => {
                    self.closed = Some(close.error_code.into_inner());
                }
                Event::ConnectionLost { reason } => panic!("a client was lost: {reason}"),
                Event::DatagramReceived => self.datagrams.extend(std::iter::from_fn(|| self.quic.datagrams().recv())),
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = self.quic.streams().accept(Dir::Uni) {
                        self.read(id);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        let mut stream = self.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            match Some(id) == self.control {
                true => self.reader.push(&chunk.bytes),
                false => self.streams.entry(id).or_default().extend_from_slice(&chunk.bytes),
            }
        }
        let _ = chunks.finalize();
        while let Some(message) = self.reader.next_message().expect("a message") {
            self.messages.push(message);
        }
    }

    /// What a stream of media has brought, without the relay's own.
    fn media(&self) -> Vec<&[u8]> {
        self.streams.values().map(Vec::as_slice).filter(|bytes| *bytes != RELAY_SETTINGS).collect()
    }
}

fn hop(alias: TrackAlias) -> Hop {
    Hop { alias, priority: 1, ttl_ms: 10_000 }
}

pub(super) fn datagram(alias: TrackAlias) -> Vec<u8> {
    let mut wire = Vec::new();
    let visible = Visible { group: 1, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    put_datagram(&mut wire, hop(alias), visible);
    wire.extend_from_slice(b"sound");
    wire
}

fn stream(alias: TrackAlias) -> Vec<u8> {
    let mut wire = Vec::new();
    let visible = Visible { group: 1, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    put_stream_head(&mut wire, hop(alias), 1, 0);
    put_object(&mut wire, visible, 7);
    wire.extend_from_slice(b"picture");
    wire
}

/// What a kind of link makes of it.
fn on_link(is_prefixed: bool, head: &[u8], wire: &[u8]) -> Vec<u8> {
    if is_prefixed { [head, wire].concat() } else { wire.to_vec() }
}

#[test]
fn a_link_with_prefixes_and_streams_of_its_own_carries_all_that_a_native_one_does() {
    let kinds = [false, true, true];
    let mut stage = Stage::with_clients(&kinds);
    // What such a link needs for itself comes before the session does: more streams than a native one may have.
    let mut own_bytes = 0;
    for (client, _) in kinds.iter().enumerate().filter(|(_, is_prefixed)| **is_prefixed) {
        let own: [(Dir, &[u8]); 4] =
            [(Dir::Bi, &[1, 2, 9, 9]), (Dir::Uni, &[0, 4, 0]), (Dir::Uni, &[2]), (Dir::Uni, &[3, 8, 8])];
        for (dir, said) in own {
            let id = stage.open(client, dir);
            stage.clients[client].out.push_back((id, Bytes::from(said)));
            own_bytes += said.len();
        }
    }
    for client in 0..kinds.len() {
        stage.enter(client);
    }
    for publisher in [0, 1] {
        let (audio, video) = (stage.publish(publisher, TrackKind::Audio), stage.publish(publisher, TrackKind::Video));
        let is_prefixed = kinds[publisher];
        let sent = datagram(audio);
        let speaking = &mut stage.clients[publisher];
        let said = on_link(is_prefixed, &[0], &sent);
        speaking.quic.datagrams().send(said.into(), false).expect("there is room");
        // A question whether the relay is there, and of such a link something of another session: neither is an object.
        speaking.quic.datagrams().send(on_link(is_prefixed, &[0], &[]).into(), false).expect("there is room");
        if is_prefixed {
            speaking.quic.datagrams().send(Bytes::from_static(&[1, 7, 7]), false).expect("there is room");
        }
        let shown = stream(video);
        let id = stage.open(publisher, Dir::Uni);
        let showing = on_link(is_prefixed, &MEDIA_HEADER, &shown);
        // In two pieces, the first of which ends within what stands in front.
        for piece in [&showing[..2], &showing[2..]] {
            stage.clients[publisher].out.push_back((id, Bytes::copy_from_slice(piece)));
            stage.turn();
        }
        let others: Vec<usize> = (0..kinds.len()).filter(|other| *other != publisher).collect();
        stage.until("everybody has got it", |stage| {
            let has_got = |other: &usize| {
                let client = &stage.clients[*other];
                !client.datagrams.is_empty() && client.media().iter().any(|bytes| bytes.ends_with(b"picture"))
            };
            others.iter().all(has_got)
        });
        for other in others {
            let client = &mut stage.clients[other];
            assert_eq!(client.media(), [on_link(kinds[other], &MEDIA_HEADER, &shown)]);
            client.streams.retain(|_, bytes| *bytes == RELAY_SETTINGS);
            assert_eq!(std::mem::take(&mut client.datagrams), [on_link(kinds[other], &[0], &sent)]);
        }
        let silent = &stage.clients[publisher];
        assert!(silent.datagrams.is_empty() && silent.media().is_empty(), "nothing of its own");
    }
    for (client, is_prefixed) in stage.clients.iter().zip(kinds) {
        assert_eq!(client.closed, None);
        assert_eq!(client.streams.len(), usize::from(is_prefixed), "the link's own stream of the relay's");
    }
    let codecs = (0..kinds.len() as u32).filter_map(|link| stage.engine.connections.get(link));
    let read: usize = codecs
        .map(|connection| if let LinkCodec::Prefixed(codec) = &connection.codec { codec.own_bytes } else { 0 })
        .sum();
    assert_eq!(read, own_bytes, "and of the clients'");
    let ledger = stage.engine.ledger();
    assert_eq!((ledger.refused.iter().sum::<u64>(), ledger.offered, ledger.delivered), (0, 8, 8));
}

#[test]
fn a_stream_that_begins_with_nothing_the_link_knows_ends_the_connection() {
    let mut stage = Stage::with_clients(&[true]);
    let id = stage.open(0, Dir::Bi);
    stage.clients[0].out.push_back((id, Bytes::from_static(&[0x40, 0x42, 0])));
    stage.until("it is closed", |stage| stage.clients[0].closed.is_some());
    assert_eq!(stage.clients[0].closed, Some(CloseCode::BAD_STREAM.0));
}
