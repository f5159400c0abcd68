//! A relay in this process, and a client made of nothing but the wire crate and quinn.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signer, SigningKey};
use prost::Message;
use rand::RngExt;
use supernode_proto::{
    ALPN, VERSION,
    close::{CloseCode, StreamCode},
    control::{
        ClientMessage, FrameReader, Hello, HelloBody, JoinRoom, PublishTrack, Refused, RelayMessage, RoomJoined,
        Subscribe, TrackKind, client_message::Body as Request, encode_frame, relay_message::Body,
    },
    identity::{
        self, Delegation, DeviceKey, EXPORTER_LABEL, Grants, Holder, IdentityKey, RelayPin, RoomId, RoomKey,
        SIGNATURE_BYTES, Ticket, TicketKey,
    },
    mls::Envelope,
    object::{DATAGRAM_HEADER_BYTES_MAX, DatagramHeader, Flags, Hop, Layer, TrackAlias, Visible},
};
use supernode_server::{
    control::{certificate::Certificate, state_dir::StateDir, tls},
    core::{Admit, Applicant, Grant, Voucher, directory::Population, ledger::Ledger, limits::Limits},
    shard,
};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Admits everybody.
struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

/// A running relay.
pub struct Relay {
    running: Option<shard::Running>,
    pub address: SocketAddr,
    pub pin: RelayPin,
    state: std::path::PathBuf,
    drains: AtomicBool,
}

impl Relay {
    pub fn start(shards: usize) -> Self {
        Self::with_limits(shards, Limits { presence_linger: Duration::from_millis(300), ..Limits::default() })
    }

    pub fn with_limits(shards: usize, limits: Limits) -> Self {
        let name = format!("supernode-relay-test-{}-{}", std::process::id(), rand::rng().random::<u64>());
        let state = std::env::temp_dir().join(name);
        let keys = StateDir::create(&state).unwrap().keys_or_create().unwrap();
        let pin = tls::relay_pin(&keys);
        let running = shard::spawn(shard::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            shards,
            batch_window: Duration::from_micros(500),
            tls: tls::quic_server_config(&Certificate::self_signed(&keys).expect("a certificate")).unwrap(),
            pin,
            reset_key: keys.reset_key,
            admission: Arc::new(Everybody),
            limits,
        })
        .unwrap();
        Self { address: running.local_addr(), running: Some(running), pin, state, drains: AtomicBool::new(false) }
    }

    pub fn population(&self) -> Population {
        self.running.as_ref().unwrap().directory().population()
    }

    /// The ledgers of all shards, added up.
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        for counters in self.counters() {
            let (_, ledger) = counters.snapshot();
            sum.objects_in += ledger.objects_in;
            sum.offered += ledger.offered;
            sum.delivered += ledger.delivered;
            sum.delivered_datagrams += ledger.delivered_datagrams;
            sum.recalled += ledger.recalled;
            sum.commits_rejected += ledger.commits_rejected;
            sum.longest_wait_us = sum.longest_wait_us.max(ledger.longest_wait_us);
            sum.late_joiners += ledger.late_joiners;
            sum.ladder_down.iter_mut().zip(ledger.ladder_down).for_each(|(sum, steps)| *sum += steps);
            sum.ladder_up.iter_mut().zip(ledger.ladder_up).for_each(|(sum, steps)| *sum += steps);
            sum.dropped.iter_mut().zip(ledger.dropped).for_each(|(sum, dropped)| *sum += dropped);
            sum.refused.iter_mut().zip(ledger.refused).for_each(|(sum, refused)| *sum += refused);
        }
        sum
    }

    pub fn tallies(&self) -> Vec<shard::counters::Tally> {
        self.counters().iter().map(|counters| counters.snapshot().0).collect()
    }

    pub fn handle(&self) -> shard::Handle {
        self.running.as_ref().unwrap().handle()
    }

    pub fn counters(&self) -> Vec<Arc<shard::counters::Counters>> {
        self.running.as_ref().unwrap().counters()
    }

    /// Everybody has left: every table is empty, and every object is in exactly one bin of the ledger.
    pub async fn assert_empty(&self) {
        eventually("the relay is empty", || self.population() == Population::default()).await;
        let shards = self.counters().len();
        let nothing = vec![shard::Census::default(); shards];
        // The threads of a relay that has drained have ended.
        let answers = !self.drains.load(Ordering::Relaxed);
        eventually_or("the shards' tables are empty", || {
            if !answers {
                return Ok(());
            }
            let left = self.handle().census();
            if left == nothing { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        eventually_or("the ledger balances", || {
            let ledger = self.ledger();
            if ledger.offered == ledger.settled() { Ok(()) } else { Err(format!("{ledger:?}")) }
        })
        .await;
    }

    /// Begins to drain, and goes on meanwhile.
    pub fn drain(&self, window: Duration) {
        self.drain_patiently(window, window);
    }

    /// As [`Self::drain`], for as long as somebody is in a room.
    pub fn drain_patiently(&self, window: Duration, patience: Duration) {
        self.drains.store(true, Ordering::Relaxed);
        let handle = self.handle();
        std::thread::spawn(move || handle.drain(window, patience));
    }

    pub async fn connect(&self, person: &Person) -> Client {
        self.try_connect(person).await.expect("the relay lets the client in")
    }

    /// Two people in a room of their own: the first publishes a track, the second subscribes to it.
    pub async fn speaker_and_listener(&self, kind: TrackKind) -> (Client, Client, TrackAlias) {
        let room = Room::new();
        let mut speaker = self.connect(&Person::new()).await;
        let mut listener = self.connect(&Person::new()).await;
        speaker.join(&room).await;
        listener.join(&room).await;
        let track = speaker.publish(&room, kind).await;
        listener.subscribe(track).await;
        speaker.demand(1).await;
        (speaker, listener, track)
    }

    /// Connects and says Hello; the code the relay closed with if it did not say Welcome.
    pub async fn try_connect(&self, person: &Person) -> Result<Client, CloseCode> {
        let client = self.dial().await;
        self.greet(client, person).await
    }

    /// As [`Self::connect`], over a path to the relay that begins there.
    pub async fn connect_over(&self, path: SocketAddr, person: &Person) -> Client {
        let client = self.dial_at(path).await;
        self.greet(client, person).await.expect("the relay lets the client in")
    }

    async fn greet(&self, mut client: Client, person: &Person) -> Result<Client, CloseCode> {
        let hello = client.hello(person, self.pin);
        (client.person, client.pin) = (Some(person.clone()), Some(self.pin));
        client.send(0, Request::Hello(hello)).await;
        match client.next().await {
            Ok(RelayMessage { body: Some(Body::Welcome(welcome)), .. }) => {
                assert_eq!(welcome.version, VERSION);
                Ok(client)
            }
            Ok(other) => panic!("a Welcome was due: {other:?}"),
            Err(code) => Err(code),
        }
    }

    /// A QUIC connection with an open control stream, before Hello.
    pub async fn dial(&self) -> Client {
        self.dial_at(self.address).await
    }

    async fn dial_at(&self, address: SocketAddr) -> Client {
        Self::dial_with(address, client_config()).await
    }

    /// As [`Self::connect`], with TLS of one's own.
    pub async fn connect_with(&self, tls: Arc<dyn quinn::crypto::ClientConfig>, person: &Person) -> Client {
        let client = Self::dial_with(self.address, client_config_with(tls)).await;
        self.greet(client, person).await.expect("the relay lets the client in")
    }

    /// How a connection ends whose TLS is one's own, when the relay ends it: perhaps before it has quite begun.
    pub async fn end_with(&self, tls: Arc<dyn quinn::crypto::ClientConfig>) -> quinn::ConnectionError {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(client_config_with(tls), self.address, "relay").unwrap();
        match connecting.await {
            Ok(connection) => tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the relay ends it"),
            Err(end) => end,
        }
    }

    async fn dial_with(address: SocketAddr, config: quinn::ClientConfig) -> Client {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(address, "relay").unwrap().await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Client {
            endpoint,
            connection,
            send,
            receive,
            reader: FrameReader::default(),
            events: VecDeque::new(),
            request: 0,
            person: None,
            pin: None,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle().drain(Duration::ZERO, Duration::ZERO);
            running.join();
        }
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(in_time(is_so).await, "in vain: {what}");
}

/// As [`eventually`], where what is instead can be said.
async fn eventually_or(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let mut instead = String::new();
    let so = in_time(|| is_so().map_err(|what| instead = what).is_ok()).await;
    assert!(so, "in vain: {what} {instead}");
}

/// Waits until something is so; whether it was in time.
pub async fn in_time(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Somebody with one device.
#[derive(Clone)]
pub struct Person {
    pub identity: SigningKey,
    pub device: SigningKey,
}

impl Person {
    pub fn new() -> Self {
        Self { identity: key(), device: key() }
    }

    /// The same person with another device.
    pub fn another_device(&self) -> Self {
        Self { identity: self.identity.clone(), device: key() }
    }

    pub fn identity_key(&self) -> IdentityKey {
        IdentityKey::new(self.identity.verifying_key().to_bytes())
    }

    pub fn device_key(&self) -> DeviceKey {
        DeviceKey::new(self.device.verifying_key().to_bytes())
    }

    pub fn delegation(&self, not_after_unix_s: u64) -> Delegation {
        let (identity, device) = (self.identity_key(), self.device_key());
        let input = Delegation::signing_input(&identity, &device, not_after_unix_s);
        Delegation { identity, device, not_after_unix_s, signature: self.identity.sign(&input).to_bytes() }
    }

    /// For one person, or for whoever has [`open_key`]: clients show such a ticket by themselves.
    pub fn ticket(&self, holder: Option<&Self>, grants: Grants, not_after_unix_s: u64) -> Ticket {
        self.sign_ticket(Ticket {
            issuer: self.identity_key(),
            holder: match holder {
                Some(holder) => Holder::Identity(holder.identity_key()),
                None => Holder::Key(TicketKey::new(open_key().verifying_key().to_bytes())),
            },
            relay: None,
            grants,
            generation: 0,
            not_after_unix_s,
            id: rand::rng().random(),
            signature: [0; SIGNATURE_BYTES],
        })
    }

    /// The same ticket, signed by this person.
    pub fn sign_ticket(&self, mut ticket: Ticket) -> Ticket {
        ticket.signature = self.identity.sign(&ticket.signing_input()).to_bytes();
        ticket
    }

    /// A ticket that lets anybody watch and ring for an hour.
    pub fn open_ticket(&self) -> Bytes {
        Bytes::from(self.ticket(None, Grants::PRESENCE | Grants::RING, unix_s() + 3600).to_bytes())
    }
}

/// The key of all tickets that are made out to nobody.
pub fn open_key() -> SigningKey {
    SigningKey::from_bytes(&[0x77; 32])
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&rand::rng().random())
}

/// A client's end of a session.
pub struct Client {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
    reader: FrameReader,
    pub events: VecDeque<Body>,
    request: u64,
    person: Option<Person>,
    pin: Option<RelayPin>,
}

impl Client {
    pub fn exporter(&self) -> [u8; 32] {
        let mut exporter = [0; 32];
        self.connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).unwrap();
        exporter
    }

    pub fn hello(&self, person: &Person, relay: RelayPin) -> Hello {
        let body = HelloBody {
            version_min: VERSION,
            version_max: VERSION,
            delegation: person.delegation(unix_s() + 3600).to_bytes().into(),
            admission_token: String::new(),
            ..HelloBody::default()
        };
        self.sign_hello(person, relay, &body)
    }

    pub fn sign_hello(&self, person: &Person, relay: RelayPin, body: &HelloBody) -> Hello {
        let body = Bytes::from(body.encode_to_vec());
        let input = identity::hello_signing_input(&relay, &self.exporter(), &body);
        Hello { body, signature: Bytes::copy_from_slice(&person.device.sign(&input).to_bytes()) }
    }

    pub async fn send(&mut self, request: u64, body: Request) {
        let mut frame = BytesMut::new();
        encode_frame(&ClientMessage { request, body: Some(body) }, &mut frame);
        self.send_raw(&frame).await;
    }

    /// Writes bytes to the control stream; a relay that has closed the connection shows when it is read.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// The next message, however long it takes.
    pub async fn next_ever(&mut self) -> Result<RelayMessage, ()> {
        loop {
            if let Some(message) = self.reader.next_message().unwrap() {
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            match self.receive.read(&mut buffer).await {
                Ok(Some(len)) => self.reader.push(&buffer[..len]),
                _ => return Err(()),
            }
        }
    }

    /// The next message, or the code the relay closed with.
    pub async fn next(&mut self) -> Result<RelayMessage, CloseCode> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(message) = self.reader.next_message().unwrap() {
                    return Ok(message);
                }
                let mut buffer = [0; 4096];
                match self.receive.read(&mut buffer).await {
                    Ok(Some(len)) => self.reader.push(&buffer[..len]),
                    _ => return Err(self.close_code().await),
                }
            }
        })
        .await
        .expect("a message or the end of the session")
    }

    pub async fn close_code(&self) -> CloseCode {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("the connection ends") {
            quinn::ConnectionError::ApplicationClosed(close) => CloseCode(close.error_code.into_inner()),
            other => panic!("the relay closes with a code of its own, not: {other}"),
        }
    }

    /// Asks and waits for the reply; events meanwhile are kept.
    pub async fn ask(&mut self, mut body: Request) -> Body {
        self.request += 1;
        let shown = match &mut body {
            Request::Watch(watch) => Some((&watch.ticket, &mut watch.proof)),
            Request::TakeKeyPackages(take) => Some((&take.ticket, &mut take.proof)),
            Request::Ring(ring) => Some((&ring.ticket, &mut ring.proof)),
            _ => None,
        };
        if let Some((ticket, proof)) = shown.filter(|(_, proof)| proof.is_empty()) {
            *proof = self.prove(ticket);
        }
        self.send(self.request, body).await;
        loop {
            let message = self.next().await.expect("the session goes on");
            let body = message.body.unwrap();
            if message.reply_to == self.request {
                return body;
            }
            assert_eq!(message.reply_to, 0, "an event");
            self.events.push_back(body);
        }
    }

    /// What shows a ticket with [`open_key`] on this connection.
    pub fn prove(&self, ticket: &[u8]) -> Bytes {
        let (Ok(ticket), Some(person), Some(pin)) = (Ticket::from_bytes(ticket), &self.person, self.pin) else {
            return Bytes::new();
        };
        let input = identity::present_signing_input(&ticket, &pin, &self.exporter(), &person.device_key());
        Bytes::copy_from_slice(&open_key().sign(&input).to_bytes())
    }

    pub async fn done(&mut self, body: Request) {
        let reply = self.ask(body).await;
        assert!(matches!(reply, Body::Done(_)), "Done was due: {reply:?}");
    }

    pub async fn refused(&mut self, body: Request) -> Refused {
        match self.ask(body).await {
            Body::Refused(refused) => refused,
            other => panic!("a refusal was due: {other:?}"),
        }
    }

    /// The next event that `pick` takes; others are skipped.
    pub async fn event<T>(&mut self, pick: impl Fn(&Body) -> Option<T>) -> T {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.next().await.expect("the session goes on").body.unwrap(),
            };
            if let Some(picked) = pick(&event) {
                return picked;
            }
        }
    }

    /// Whether no event comes that `pick` takes, for as long as a request takes to be answered.
    pub async fn no_event<T: std::fmt::Debug>(&mut self, pick: impl Fn(&Body) -> Option<T>) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = self.ask(Request::Unwatch(supernode_proto::control::Unwatch { identity: vec![0; 32].into() })).await;
        let unwanted: Vec<T> = self.events.iter().filter_map(pick).collect();
        assert!(unwanted.is_empty(), "unwanted: {unwanted:?}");
    }

    pub async fn join(&mut self, room: &Room) -> RoomJoined {
        match self.ask(Request::JoinRoom(self.join_request(room))).await {
            Body::RoomJoined(joined) => joined,
            other => panic!("RoomJoined was due: {other:?}"),
        }
    }

    pub fn join_request(&self, room: &Room) -> JoinRoom {
        let device = self.person.as_ref().unwrap().device_key();
        let input = identity::join_signing_input(&room.id, &self.exporter(), &device);
        JoinRoom {
            room: room.name(),
            join_key: Bytes::copy_from_slice(room.secret.verifying_key().as_bytes()),
            proof: Bytes::copy_from_slice(&room.secret.sign(&input).to_bytes()),
            mls_epoch: room.epoch,
            ..JoinRoom::default()
        }
    }

    pub async fn publish(&mut self, room: &Room, kind: TrackKind) -> TrackAlias {
        let wanted =
            PublishTrack { room: room.name(), kind: kind.into(), label: Bytes::from_static(b"label"), activity: false };
        match self.ask(Request::PublishTrack(wanted)).await {
            Body::TrackPublished(published) => TrackAlias::new(published.alias).unwrap(),
            other => panic!("TrackPublished was due: {other:?}"),
        }
    }

    pub async fn subscribe(&mut self, alias: TrackAlias) {
        self.done(Request::Subscribe(subscription(alias))).await;
    }

    pub async fn demand(&mut self, subscribers: u32) {
        self.event(|event| match event {
            Body::TrackDemand(demand) if demand.subscribers == subscribers => Some(()),
            _ => None,
        })
        .await;
    }

    /// The next datagram's header and sealed bytes.
    pub async fn object(&mut self) -> (DatagramHeader, Bytes) {
        let wire = tokio::time::timeout(PATIENCE, self.connection.read_datagram()).await.expect("an object").unwrap();
        let (header, len) = DatagramHeader::decode(&wire).unwrap();
        (header, wire.slice(len..))
    }

    pub fn close(&self) {
        self.connection.close(quinn::VarInt::from_u32(CloseCode::BYE.0 as u32), b"");
    }
}

pub fn subscription(alias: TrackAlias) -> Subscribe {
    Subscribe { alias: alias.value(), temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() }
}

/// An object in a datagram.
pub fn datagram(alias: TrackAlias, group: u64, sealed: &[u8]) -> Bytes {
    let visible = Visible { group, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
    let header = DatagramHeader { hop: Hop { alias, priority: 0, ttl_ms: 1000 }, visible };
    let mut head = [0; DATAGRAM_HEADER_BYTES_MAX];
    let len = header.encode(&mut head);
    Bytes::from([&head[..len], sealed].concat())
}

/// The code that the relay stops a stream with.
pub async fn stop_code(stream: &mut quinn::SendStream) -> StreamCode {
    let stopped = tokio::time::timeout(PATIENCE, stream.stopped()).await.expect("the relay stops it").unwrap();
    StreamCode(stopped.expect("with a code").into_inner())
}

/// The room that stands for a key, and who shows it.
pub struct Standing(pub SigningKey);

impl Standing {
    pub fn new() -> Self {
        Self(key())
    }

    pub fn key(&self) -> RoomKey {
        RoomKey::new(self.0.verifying_key().to_bytes())
    }

    /// Its room, whose group is whoever opens it.
    pub fn room(&self) -> Room {
        Room { id: RoomId::standing(&self.key()), ..Room::new() }
    }

    /// What shows the relay that a client has the key.
    pub fn proof(&self, client: &Client) -> Bytes {
        let (pin, device) = (client.pin.unwrap(), client.person.as_ref().unwrap().device_key());
        let input = identity::room_signing_input(&pin, &client.exporter(), &device);
        Bytes::copy_from_slice(&self.0.sign(&input).to_bytes())
    }
}

/// A room's name and what lets one in.
pub struct Room {
    pub id: RoomId,
    pub secret: SigningKey,
    /// Of its group, when somebody opens it.
    pub epoch: u64,
}

impl Room {
    pub fn new() -> Self {
        Self::at(1)
    }

    pub fn at(epoch: u64) -> Self {
        Self { id: RoomId::passing(rand::rng().random()), secret: key(), epoch }
    }

    /// A message of its group, around bytes that stand for what is sealed.
    pub fn message(&self, epoch: u64, commit: bool, sealed: &[u8]) -> Bytes {
        Envelope { room: self.id, epoch, commit }.around(sealed).into()
    }

    pub fn name(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.0)
    }
}

/// Trusts any certificate: what the pin is worth is the client's tests' business.
#[derive(Debug)]
struct AnyCertificate;

pub fn client_config() -> quinn::ClientConfig {
    client_config_with(Arc::new(client_tls()))
}

/// TLS of a client that trusts any certificate.
pub fn client_tls() -> quinn::crypto::rustls::QuicClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.try_into().unwrap()
}

fn client_config_with(tls: Arc<dyn quinn::crypto::ClientConfig>) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(tls);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().unwrap()));
    // A client that stops reading its streams shows after a few seconds of video.
    transport.receive_window(quinn::VarInt::from_u32(512 * 1024));
    config.transport_config(Arc::new(transport));
    config
}

mod any_certificate {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    use super::AnyCertificate;

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
        }
    }
}
