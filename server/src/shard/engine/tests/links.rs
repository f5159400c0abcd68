//! Two kinds of link at one engine: pages, as browsers' WebTransport puts them, and a native client, in one room. QUIC, TLS and
//! HTTP are real, the packets go by hand.

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
    H3_ALPN,
    control::{
        ClientMessage, FrameReader, PublishTrack, RelayMessage, Subscribe, client_message::Body as Request,
        relay_message::Body,
    },
    identity::{EXPORTER_BYTES, EXPORTER_LABEL, RelayName},
    object::{Flags, Layer, Visible},
};
use supernode_session::{Channel, Introduction, put_datagram, put_object, put_stream_head};
use supernode_tls::PinVerifier;
use web_transport_proto::{Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Settings, http::StatusCode};

use super::*;
use crate::{core::Voucher, shard::quic::link_codec::webtransport::MEDIA_HEADER};

pub(super) const ROOM: RoomId = RoomId([1; 16]);
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4433);
/// What a page's control stream begins with.
const CONTROL_HEADER: [u8; 3] = [0x40, 0x41, 0];
/// The request of a page's browser.
const SESSION_URL: &str = "https://192.0.2.1:4433/supernode/1";
/// Turns that anything here may take.
const TURNS_MAX: usize = 200;

pub(super) struct Everybody;

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
    pub(super) address: SocketAddr,
    is_page: bool,
    /// What it knows the relay by.
    relay: RelayPin,
    pub(super) is_connected: bool,
    /// The code, and the session's end as it was said before.
    closed: Option<(u64, Option<Capsule>)>,
    pub(super) device: DeviceSecret,
    pub(super) control: Option<StreamId>,
    reader: FrameReader,
    pub(super) messages: Vec<RelayMessage>,
    pub(super) datagrams: Vec<Bytes>,
    /// What the relay's streams have brought, and the answer to a page's request.
    pub(super) streams: BTreeMap<StreamId, Vec<u8>>,
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
    pub(super) fn with_clients(pages: &[bool]) -> Self {
        let (own, inbox) = inbox().expect("a descriptor");
        let (engine, pin) = engine(Arc::new(Everybody), vec![own]);
        let unix = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        let now = Now { instant: Instant::now(), unix_ms: unix.as_millis() as u64 };
        let mut stage = Self { engine, inbox, out: SendBatch::default(), pin, now, clients: Vec::new() };
        for (number, is_page) in (1..).zip(pages) {
            stage.clients.push(Client::dial(number, *is_page, pin, now.instant));
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

    /// What a page's browser does before the page has its session: HTTP's own streams, and the request in two pieces.
    fn request(&mut self, client: usize, request: &[u8]) -> Result<ConnectResponse, ConnectError> {
        let id = self.open(client, Dir::Bi);
        let (one, other) = request.split_at(request.len() / 2);
        self.clients[client].out.push_back((id, Bytes::copy_from_slice(one)));
        let mut settings = Vec::new();
        let mut wanted = Settings::default();
        wanted.enable_webtransport(1);
        wanted.encode(&mut settings);
        // An encoder of QPACK's, a decoder, and something that the relay has never heard of.
        for said in [&settings[..], &[2], &[3, 8, 8]] {
            let id = self.open(client, Dir::Uni);
            self.clients[client].out.push_back((id, Bytes::copy_from_slice(said)));
            self.turn();
        }
        self.clients[client].out.push_back((id, Bytes::copy_from_slice(other)));
        let answer = |stage: &Self| stage.clients[client].streams.get(&id).cloned();
        self.until("an answer", |stage| answer(stage).is_some());
        ConnectResponse::decode(&mut &answer(self).expect("it came")[..])
    }

    /// Opens the control stream, says Hello and joins the room.
    pub(super) fn enter(&mut self, client: usize) {
        let is_page = self.clients[client].is_page;
        if is_page {
            let response = self.request(client, &connect(SESSION_URL));
            assert_eq!(response.expect("a session").status, StatusCode::OK);
            self.until("a challenge", |stage| stage.clients[client].challenge().is_some());
        }
        let id = self.open(client, Dir::Bi);
        self.clients[client].control = Some(id);
        if is_page {
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
        let channel = if is_page { greeting.page_channel() } else { greeting.channel(self.pin) };
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
    pub(super) fn dial(number: u8, is_page: bool, pin: RelayPin, now: Instant) -> Self {
        let provider = supernode_tls::provider();
        let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider)));
        if is_page {
            tls.alpn_protocols = vec![H3_ALPN.to_vec()];
        }
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
            is_page,
            relay: pin,
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

    pub(super) fn channel(&self, relay: RelayPin) -> Channel {
        let mut exporter = [0; EXPORTER_BYTES];
        let exported = self.quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        exported.expect("the handshake is done");
        Channel::by_exporter(relay, exporter, self.device.public())
    }

    /// What the relay wants to have signed by a page.
    fn challenge(&self) -> Option<supernode_proto::control::Challenge> {
        self.streams.values().find_map(|bytes| {
            let mut reader = FrameReader::default();
            reader.push(bytes.strip_prefix(&MEDIA_HEADER)?);
            match reader.next_message::<RelayMessage>().ok()??.body? {
                Body::Challenge(challenge) => Some(challenge),
                _ => None,
            }
        })
    }

    fn page_channel(&mut self) -> Channel {
        let challenge = self.challenge().expect("it came");
        Channel::by_challenge(&challenge, RelayName::Pin(&self.relay), self.device.public()).expect("its own")
    }

    pub(super) fn send(&mut self, message: ClientMessage) {
        self.out.push_back((self.control.expect("opened"), frame(&message)));
    }

    pub(super) fn packets(&mut self, now: Instant) -> Vec<BytesMut> {
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

    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) {
        let event = self.endpoint.handle(now, RELAY, None, None, BytesMut::from(datagram), &mut Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
        }
    }

    pub(super) fn handle_events(&mut self) {
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason: quinn_proto::ConnectionError::ApplicationClosed(close) } => {
                    self.closed = Some((close.error_code.into_inner(), self.end_said()));
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

    /// What streams of media have brought, without what the link has of its own and the challenge.
    pub(super) fn media(&self) -> Vec<&[u8]> {
        let is_media = |bytes: &&[u8]| !self.is_page || bytes.starts_with(&MEDIA_HEADER);
        let media = self.streams.iter().filter(|(id, _)| id.dir() == Dir::Uni).map(|(_, bytes)| bytes.as_slice());
        media.filter(is_media).skip(usize::from(self.is_page)).collect()
    }

    /// How the relay has ended a page's session, behind its answer.
    fn end_said(&self) -> Option<Capsule> {
        let mut said = &self.streams.iter().find(|(id, _)| id.dir() == Dir::Bi)?.1[..];
        ConnectResponse::decode(&mut said).ok()?;
        let (kind, mut data) = Frame::read(&mut said).ok()?;
        assert_eq!(kind, Frame::DATA);
        Capsule::decode(&mut data).ok()
    }
}

/// A browser's request for a session.
fn connect(url: &str) -> Vec<u8> {
    let mut request = Vec::new();
    let wanted = ConnectRequest::new(url.parse::<url::Url>().expect("an address"));
    wanted.encode(&mut request).expect("valid headers");
    request
}

pub(super) fn hop(alias: TrackAlias) -> Hop {
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
fn on_link(is_page: bool, head: &[u8], wire: &[u8]) -> Vec<u8> {
    if is_page { [head, wire].concat() } else { wire.to_vec() }
}

//
#[test]
fn a_page_s_link_carries_all_that_a_native_one_does() {
    let kinds = [false, true, true];
    let mut stage = Stage::with_clients(&kinds);
    for client in 0..kinds.len() {
        stage.enter(client);
    }
    for publisher in [0, 1] {
        let (audio, video) = (stage.publish(publisher, TrackKind::Audio), stage.publish(publisher, TrackKind::Video));
        let is_page = kinds[publisher];
        let sent = datagram(audio);
        let speaking = &mut stage.clients[publisher];
        let said = on_link(is_page, &[0], &sent);
        speaking.quic.datagrams().send(said.into(), false).expect("there is room");
        // A question whether the relay is there, and of a page something of another session: neither is an object.
        speaking.quic.datagrams().send(on_link(is_page, &[0], &[]).into(), false).expect("there is room");
        if is_page {
            speaking.quic.datagrams().send(Bytes::from_static(&[1, 7, 7]), false).expect("there is room");
        }
        let shown = stream(video);
        let id = stage.open(publisher, Dir::Uni);
        let showing = on_link(is_page, &MEDIA_HEADER, &shown);
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
            client.streams.retain(|_, bytes| !bytes.ends_with(b"picture"));
            assert_eq!(std::mem::take(&mut client.datagrams), [on_link(kinds[other], &[0], &sent)]);
        }
        let silent = &stage.clients[publisher];
        assert!(silent.datagrams.is_empty() && silent.media().is_empty(), "nothing of its own");
    }
    assert!(stage.clients.iter().all(|client| client.closed.is_none()));
    let ledger = stage.engine.ledger();
    assert_eq!((ledger.refused.iter().sum::<u64>(), ledger.offered, ledger.delivered), (0, 8, 8));
}

//
#[test]
fn a_page_is_told_in_its_session_why_it_ends_and_has_three_seconds_to_close_the_connection() {
    let mut stage = Stage::with_clients(&[true, true, true]);
    for client in 0..3 {
        stage.enter(client);
    }
    let code = CloseCode::MALFORMED_MESSAGE.0 as u32;
    let said = Capsule::CloseWebTransportSession { code, reason: String::new() };
    for reads_it in [true, false] {
        let client = usize::from(reads_it);
        let control = stage.clients[client].control.expect("opened");
        stage.clients[client].out.push_back((control, Bytes::from_static(&[3, 0xff, 0xff, 0xff])));
        stage.until("the end is said", |stage| stage.clients[client].end_said().is_some());
        assert_eq!((stage.clients[client].end_said().as_ref(), &stage.clients[client].closed), (Some(&said), &None));
        let since = stage.now.instant;
        if reads_it {
            let request = StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0);
            stage.clients[client].quic.send_stream(request).finish().expect("open");
        }
        while stage.clients[client].closed.is_none() {
            stage.turn();
        }
        assert_eq!(stage.clients[client].closed, Some((0x100, Some(said.clone()))));
        let took = stage.now.instant - since;
        // That it has read it is no reason to hurry: its page may not know yet.
        assert!((2900..3100).contains(&took.as_millis()), "{took:?}");
    }
    assert_eq!(stage.clients[2].closed, None);
}

//
#[test]
fn a_page_that_ends_its_session_has_left() {
    for code in [CloseCode::BYE.0 as u32, 7] {
        let mut stage = Stage::with_clients(&[true, true]);
        stage.enter(0);
        stage.enter(1);
        let mut capsule = Vec::new();
        Capsule::CloseWebTransportSession { code, reason: "bye".to_owned() }.encode(&mut capsule);
        let said = [&[0, capsule.len() as u8][..], &capsule].concat();
        stage.clients[0].out.push_back((StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0), said.into()));
        stage.until("it is closed", |stage| stage.clients[0].closed.is_some());
        assert_eq!(stage.clients[0].closed, Some((0x100, None)));
        let is_gone = |message: &RelayMessage| matches!(message.body, Some(Body::MemberLeft(_)));
        stage.until("the other is told", |stage| stage.clients[1].messages.iter().any(is_gone));
    }
}

//
#[test]
fn a_request_that_is_none_for_a_session_is_answered_with_what_is_wrong() {
    let changed = |from: &[u8], to: &[u8]| {
        let request = connect(SESSION_URL);
        let at = request.windows(from.len()).position(|window| window == from).expect("it is in there");
        [&request[..at], to, &request[at + from.len()..]].concat()
    };
    let cases = [
        (connect("https://192.0.2.1/supernode/2"), StatusCode::NOT_FOUND),
        (changed(b"webtransport", b"websocket123"), StatusCode::NOT_IMPLEMENTED),
        // DATA before any HEADERS, and a field that refers to a table that the relay does not have.
        (vec![0, 2, 9, 9], StatusCode::BAD_REQUEST),
        (vec![1, 3, 0, 0, 0x80], StatusCode::BAD_REQUEST),
    ];
    for (request, status) in cases {
        let mut stage = Stage::with_clients(&[true]);
        let refused = stage.request(0, &request).expect_err("no session");
        assert!(matches!(refused, ConnectError::WrongStatus(Some(other)) if other == status), "{refused:?}");
        // Nor is there one afterwards.
        let id = stage.open(0, Dir::Bi);
        stage.clients[0].out.push_back((id, Bytes::from_static(&CONTROL_HEADER)));
        stage.until("it is closed", |stage| stage.clients[0].closed.is_some());
    }
}

//
#[test]
fn a_page_may_not_make_the_relay_keep_or_read_what_is_no_use_to_it() {
    let endless: [(Dir, &[u8], CloseCode); 3] = [
        (Dir::Bi, &[1, 0x7f, 0xff], CloseCode::MESSAGE_TOO_LARGE),
        (Dir::Uni, &[0], CloseCode::RATE_EXCEEDED),
        (Dir::Uni, &[0x40, 0x55], CloseCode::RATE_EXCEEDED),
    ];
    for (dir, head, _code) in endless {
        let mut stage = Stage::with_clients(&[true]);
        let id = stage.open(0, dir);
        stage.clients[0].out.push_back((id, Bytes::copy_from_slice(head)));
        stage.clients[0].out.push_back((id, vec![0x21; 1 << 17].into()));
        stage.until("it is closed", |stage| stage.clients[0].closed.is_some());
    }
}

//
#[test]
fn a_page_may_not_open_streams_without_end_that_are_no_use_to_the_relay() {
    let mut stage = Stage::with_clients(&[true]);
    let mut opened = 0;
    while stage.clients[0].closed.is_none() {
        if let Some(id) = stage.clients[0].quic.streams().open(Dir::Uni) {
            let mut stream = stage.clients[0].quic.send_stream(id);
            stream.write(&[0x21]).expect("a byte fits");
            stream.finish().expect("open");
            opened += 1;
        }
        stage.turn();
    }
    assert!((200..300).contains(&opened), "{opened}");
}

//
#[test]
fn a_stream_that_begins_with_nothing_the_link_knows_ends_the_connection() {
    for head in [&[0x40, 0x42, 0][..], &[0x40, 0x41, 4], &[0x40, 0x54, 4]] {
        let mut stage = Stage::with_clients(&[true]);
        stage.request(0, &connect(SESSION_URL)).expect("a session");
        let dir = if head[1] == 0x54 { Dir::Uni } else { Dir::Bi };
        let id = stage.open(0, dir);
        stage.clients[0].out.push_back((id, Bytes::copy_from_slice(head)));
        stage.until("it is told", |stage| stage.clients[0].end_said().is_some());
        let said = Capsule::CloseWebTransportSession { code: CloseCode::BAD_STREAM.0 as u32, reason: String::new() };
        assert_eq!(stage.clients[0].end_said(), Some(said), "{head:?}");
    }
}
