//! A client made of nothing but the wire and quinn.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustls::crypto::aws_lc_rs;
use supernode_proto::{
    VERSION,
    close::{CloseCode, StreamCode},
    control::{
        ClientMessage, FrameReader, Hello, HelloBody, JoinRoom, PublishTrack, Refused, RelayMessage, RoomJoined,
        Subscribe, TrackKind, Unwatch, client_message::Body as Request, frame, relay_message::Body,
    },
    identity::{EXPORTER_LABEL, RelayPin, Ticket},
    object::{DatagramHeader, TrackAlias},
};
use supernode_session::{Channel, Introduction};
use supernode_tcp::{Carrier, Target, Way};
use supernode_tls::AnyCertificate;

use crate::{PATIENCE, Person, Room, open_key, page::Page, unix_s};

/// A client's end of a session.
pub struct Client {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
    reader: FrameReader,
    pub events: VecDeque<Body>,
    /// What its packets go by, if that is TCP.
    pub tcp: Option<Carrier>,
    /// What it has besides if it came as a page.
    pub(crate) page: Option<Page>,
    request: u64,
    known: Option<(Person, RelayPin)>,
}

impl Client {
    /// A session with a relay that runs elsewhere.
    pub async fn connect(address: SocketAddr, person: &Person, pin: RelayPin) -> Self {
        Self::dial(address, client_config()).await.greet(person, pin).await.expect("the relay lets the client in")
    }

    /// A QUIC connection with an open control stream, before Hello.
    pub(crate) async fn dial(address: SocketAddr, config: quinn::ClientConfig) -> Self {
        let mut endpoint = quinn::Endpoint::client(own_address(address)).unwrap();
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(address, "relay").unwrap().await.unwrap();
        Self::on(endpoint, connection, None).await
    }

    /// The same by the relay's TCP port.
    pub(crate) async fn dial_over_tcp(relay: SocketAddr, target: Target, config: quinn::ClientConfig) -> Self {
        let stream = supernode_tcp::open(&target).await.unwrap();
        let way = Way::new(relay);
        let carrier = Carrier::start(way.clone(), target, stream);
        let (endpoint_config, runtime) = (quinn::EndpointConfig::default(), Arc::new(quinn::TokioRuntime));
        let endpoint = quinn::Endpoint::new_with_abstract_socket(endpoint_config, None, way, runtime);
        let mut endpoint = endpoint.unwrap();
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(relay, "relay").unwrap().await.unwrap();
        Self::on(endpoint, connection, Some(carrier)).await
    }

    pub(crate) async fn on(endpoint: quinn::Endpoint, connection: quinn::Connection, tcp: Option<Carrier>) -> Self {
        let (send, receive) = connection.open_bi().await.unwrap();
        let (reader, events) = (FrameReader::default(), VecDeque::new());
        Self { endpoint, connection, send, receive, reader, events, tcp, page: None, request: 0, known: None }
    }

    /// Says Hello; the code the relay closed with if it did not say Welcome.
    pub(crate) async fn greet(mut self, person: &Person, pin: RelayPin) -> Result<Self, CloseCode> {
        self.known = Some((person.clone(), pin));
        self.send(0, Request::Hello(self.hello(person, pin))).await;
        match self.next().await?.body {
            Some(Body::Welcome(welcome)) => assert_eq!(welcome.version, VERSION),
            other => panic!("a Welcome was due: {other:?}"),
        }
        Ok(self)
    }

    /// What is signed here.
    pub fn channel(&self) -> Channel {
        let (person, pin) = self.known.as_ref().expect("it has said Hello");
        self.channel_of(person, *pin)
    }

    fn channel_of(&self, person: &Person, relay: RelayPin) -> Channel {
        match &self.page {
            Some(page) => page.channel,
            None => Channel::by_exporter(relay, self.exporter(), person.device_key()),
        }
    }

    pub fn exporter(&self) -> [u8; 32] {
        let mut exporter = [0; 32];
        self.connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).unwrap();
        exporter
    }

    pub fn hello(&self, person: &Person, relay: RelayPin) -> Hello {
        let delegation = person.delegation(unix_s() + 3600);
        self.sign_hello(person, relay, &Introduction::new(&delegation, "").to_body())
    }

    pub fn sign_hello(&self, person: &Person, relay: RelayPin, body: &HelloBody) -> Hello {
        self.channel_of(person, relay).sign_hello(&person.device, body)
    }

    pub async fn send(&mut self, request: u64, body: Request) {
        self.send_raw(&frame(&ClientMessage { request, body: Some(body) })).await;
    }

    /// Writes bytes to the control stream; a relay that has closed the connection shows when it is read.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// The next message, however long it takes; nothing when the session is over.
    pub async fn next_ever(&mut self) -> Option<RelayMessage> {
        loop {
            if let Some(message) = self.reader.next_message().unwrap() {
                return Some(message);
            }
            match self.receive.read_chunk(4096, true).await {
                Ok(Some(chunk)) => self.reader.push(&chunk.bytes),
                _ => return None,
            }
        }
    }

    /// The next message, or the code the relay closed with.
    pub async fn next(&mut self) -> Result<RelayMessage, CloseCode> {
        match tokio::time::timeout(PATIENCE, self.next_ever()).await.expect("a message or the end of the session") {
            Some(message) => Ok(message),
            None => Err(self.close_code().await),
        }
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
        match (Ticket::from_bytes(ticket), &self.known) {
            (Ok(ticket), Some(_)) => self.channel().show_ticket(&ticket, &open_key()),
            _ => Bytes::new(),
        }
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
        let _ = self.ask(Request::Unwatch(Unwatch { identity: vec![0; 32].into() })).await;
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
        self.channel().join(&room.id, &room.secret, room.epoch)
    }

    pub async fn publish(&mut self, room: &Room, kind: TrackKind) -> TrackAlias {
        let wanted = PublishTrack {
            room: room.name(),
            kind: kind.into(),
            label: Bytes::from_static(b"label"),
            activity: false,
            mls_epoch: room.epoch,
        };
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

    /// The next datagram's header and sealed bytes. Empty ones are no objects: they push out what is taken back.
    pub async fn object(&mut self) -> (DatagramHeader, Bytes) {
        let object = async {
            loop {
                let wire = self.connection.read_datagram().await.unwrap();
                if !wire.is_empty() {
                    return wire;
                }
            }
        };
        let wire = tokio::time::timeout(PATIENCE, object).await.expect("an object");
        let (header, len) = DatagramHeader::decode(&wire).unwrap();
        (header, wire.slice(len..))
    }

    pub fn close(&self) {
        self.connection.close(quinn::VarInt::from_u32(CloseCode::BYE.0 as u32), b"");
    }
}

/// What a client binds to that dials there, at any port: from loopback nothing leaves for elsewhere.
fn own_address(relay: SocketAddr) -> SocketAddr {
    let here = match relay.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(here, 0)
}

pub fn subscription(alias: TrackAlias) -> Subscribe {
    Subscribe { alias: alias.value(), temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() }
}

/// The code that the relay stops a stream with.
pub async fn stop_code(stream: &mut quinn::SendStream) -> StreamCode {
    let stopped = tokio::time::timeout(PATIENCE, stream.stopped()).await.expect("the relay stops it").unwrap();
    StreamCode(stopped.expect("with a code").into_inner())
}

pub fn client_config() -> quinn::ClientConfig {
    client_config_with(Arc::new(client_tls()))
}

/// TLS of a client that trusts any certificate: what the pin is worth is the client's tests' business.
pub fn client_tls() -> quinn::crypto::rustls::QuicClientConfig {
    let verifier = Arc::new(AnyCertificate::default());
    supernode_tls::client_config(aws_lc_rs::default_provider().into(), verifier).try_into().unwrap()
}

pub(crate) fn client_config_with(tls: Arc<dyn quinn::crypto::ClientConfig>) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(tls);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().unwrap()));
    // A client that stops reading its streams shows after a few seconds of video.
    transport.receive_window(quinn::VarInt::from_u32(512 * 1024));
    config.transport_config(Arc::new(transport));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_leaves_from_loopback_for_loopback_only() {
        for (relay, own) in [
            ("127.0.0.1:7", "127.0.0.1:0"),
            ("[::1]:7", "[::1]:0"),
            ("10.9.0.2:7", "0.0.0.0:0"),
            ("[fd00::2]:7", "[::]:0"),
        ] {
            assert_eq!(own_address(relay.parse().unwrap()), own.parse().unwrap(), "{relay}");
        }
    }
}
