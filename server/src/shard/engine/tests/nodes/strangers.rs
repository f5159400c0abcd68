//! Who is no node, and a node that sends what is no letter.

use quinn_proto::{ClientConfig, ConnectionError, Dir, EndpointConfig, Event, crypto::rustls::QuicClientConfig};
use supernode_proto::{ALPN, cluster::NODE_ALPN};
use supernode_tls::PinVerifier;

use super::*;

/// A client that agrees on a protocol, says something, and waits.
struct Stranger {
    endpoint: Endpoint,
    quic: quinn_proto::Connection,
    handle: quinn_proto::ConnectionHandle,
    address: SocketAddr,
    says: Vec<u8>,
    /// The code with which it was turned away.
    code: Option<u64>,
}

impl Stranger {
    fn dial(relay: &Relay, alpn: &[u8], port: u16, says: &[u8], now: Now) -> Self {
        let provider = supernode_tls::provider();
        let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(relay.pin, provider)));
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("QUIC's first suite")));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (handle, quic) = endpoint.connect(now.instant, config, relay.address, "relay").expect("allowed");
        let address = SocketAddr::from(([198, 51, 100, 7], port));
        Self { endpoint, quic, handle, address, says: says.to_vec(), code: None }
    }

    fn turn(&mut self, relay: &mut Relay, now: Now) {
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected if !self.says.is_empty() => {
                    let id = self.quic.streams().open(Dir::Bi).expect("one is allowed");
                    assert_eq!(self.quic.send_stream(id).write(&self.says), Ok(self.says.len()));
                }
                Event::ConnectionLost { reason: ConnectionError::ApplicationClosed(close) } => {
                    self.code = Some(close.error_code.into_inner());
                }
                _ => {}
            }
        }
        if self.quic.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.quic.handle_timeout(now.instant);
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = self.quic.poll_transmit(now.instant, 1, &mut buffer) {
            relay.receive(self.address, BytesMut::from(&buffer[..transmit.size]), now);
            buffer.clear();
        }
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
    }

    fn hear(&mut self, relay: SocketAddr, data: BytesMut, now: Now) {
        let event = self.endpoint.handle(now.instant, relay, None, None, data, &mut Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
        }
    }
}

/// Strangers at one address come to a relay that has these bounds, and time passes. Returns the codes with which they were turned away,
/// and what the relay counts: connections, handshakes that are not done, those it has refused because of their address.
fn strangers(alpn: &[u8], says: &[&[u8]], limits: Limits, time: Duration) -> (Vec<Option<u64>>, [u64; 3]) {
    let mut cluster = Cluster::of(vec![Relay::with_limits(1, true, limits), Relay::new(2, true)]);
    let book = cluster.relays[1].book();
    cluster.relays[0].know(vec![book]);
    let relay = cluster.relays[0].address;
    let dial = |(port, says): (u16, &&[u8])| Stranger::dial(&cluster.relays[0], alpn, port, says, cluster.now);
    let mut strangers: Vec<Stranger> = (1024..).zip(says).map(dial).collect();
    let end = cluster.now.instant + time;
    while cluster.now.instant < end {
        let now = cluster.now;
        strangers.iter_mut().for_each(|stranger| stranger.turn(&mut cluster.relays[0], now));
        cluster.turn();
        for (to, data) in std::mem::take(&mut cluster.outside) {
            if let Some(stranger) = strangers.iter_mut().find(|stranger| stranger.address == to) {
                stranger.hear(relay, data, cluster.now);
            }
        }
    }
    let mut counted = [0; 3];
    for engine in &mut cluster.relays[0].engines {
        let tally = engine.tally();
        counted[0] += tally.connections;
        counted[1] += tally.handshaking;
        counted[2] += tally.refused_by_prefix;
    }
    assert!(cluster.relays[0].told.iter().all(Vec::is_empty));
    (strangers.iter().map(|stranger| stranger.code).collect(), counted)
}

//
#[test]
fn whoever_says_that_it_is_a_node_is_turned_away_and_leaves_nothing() {
    let hello = frame(&supernode_proto::cluster::NodeHello {
        version: 1,
        node: 2,
        life: 200,
        to_node: 1,
        to_life: 100,
        ..Default::default()
    });
    let twice = [&hello[..], &hello[..]].concat();
    let too_long = [&[0xff, 0x7f][..], &[0; 600]].concat();
    let long = [&[0x80, 0x08][..], &[0; 1024]].concat();
    let says = [&hello[..], &twice, &[3, 1, 2, 3], &long, &too_long];
    let (codes, counted) = strangers(NODE_ALPN, &says, Limits::default(), Duration::from_secs(2));
    let refused = Some(CloseCode::NODE_REFUSED.0);
    let too_large = Some(CloseCode::MESSAGE_TOO_LARGE.0);
    let malformed = Some(CloseCode::MALFORMED_MESSAGE.0);
    assert_eq!(codes, [refused, refused, malformed, too_large, too_large]);
    assert_eq!(counted, [0, 0, 0]);
}

//
#[test]
fn a_stranger_costs_no_more_than_a_client_that_says_nothing() {
    let limits = Limits { connections_per_prefix_max: 3, hello_timeout: Duration::from_secs(2), ..Limits::default() };
    let outcome = |alpn, time| strangers(alpn, &[&[][..]; 5], limits.clone(), time);
    let soon = Duration::from_secs(1);
    assert_eq!(outcome(NODE_ALPN, soon), outcome(ALPN, soon));
    let (_, counted) = outcome(NODE_ALPN, soon);
    assert_eq!(counted[..2], [3, 3], "as many as its address may have");
    assert!(counted[2] >= 2, "and no more");
    let later = Duration::from_secs(4);
    let (codes, counted) = outcome(NODE_ALPN, later);
    assert_eq!((codes.clone(), counted), outcome(ALPN, later));
    let silent = codes.iter().filter(|code| **code == Some(CloseCode::HELLO_TIMEOUT.0)).count();
    assert_eq!((silent, &counted[..2]), (3, &[0, 0][..]));
}

//
#[test]
fn a_stranger_and_one_with_another_pin_are_refused_and_leave_nothing() {
    let mut cluster = Cluster::of(vec![Relay::new(1, true), Relay::new(2, true)]);
    let [first, second] = [cluster.relays[0].book(), cluster.relays[1].book()];
    // The first knows nobody.
    cluster.relays[0].know(vec![]);
    cluster.relays[1].know(vec![first]);
    cluster.pass(Duration::from_secs(3));
    assert!(cluster.relays[0].figures(|figures| figures.refused) >= 2, "it asks again");
    // It knows the second by another pin: neither lets the other in.
    cluster.relays[0].know(vec![NodeBook { pin: RelayPin([7; 32]), ..second }]);
    let refused = cluster.relays[0].figures(|figures| figures.refused);
    cluster.pass(Duration::from_secs(5));
    assert!(cluster.relays[0].figures(|figures| figures.refused) > refused);
    for relay in &mut cluster.relays {
        assert_eq!(relay.up(), (0, 0));
        assert!(relay.told.iter().all(Vec::is_empty), "nobody was told of anybody: {:?}", relay.told);
    }
    // Each asks once in two seconds: what a stranger costs is a handshake, and that is all that is left of it.
    assert!(cluster.relays[0].figures(|figures| figures.refused) < 40);
    cluster.relays[1].know(vec![]);
    cluster.pass(Duration::from_secs(3));
    for engine in &mut cluster.relays[0].engines {
        assert_eq!((engine.tally().connections, engine.tally().handshaking), (0, 0));
    }
    // Once it is known by its own pin, it is let in.
    cluster.introduce();
    cluster.until_all_are_up();
}

//
#[test]
fn a_relay_that_is_no_node_does_not_speak_with_nodes() {
    let mut cluster = Cluster::of(vec![Relay::new(1, false), Relay::new(2, true)]);
    let book = cluster.relays[0].book();
    cluster.relays[1].know(vec![book]);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.relays[1].up(), (0, 0));
    let Relay { engines, .. } = &mut cluster.relays[0];
    let failed: u64 = engines.iter_mut().map(|engine| engine.tally().handshakes_failed).sum();
    assert!(failed >= 2, "TLS has no protocol for them: {failed}");
    assert!(engines.iter_mut().all(|engine| engine.tally().handshakes_ok == 0));
}

//
#[test]
fn who_sends_what_is_no_letter_is_cut_off_and_may_begin_anew() {
    let mut cluster = Cluster::of_two();
    let no_such_shard = [2, 8, 77];
    let not_theirs = [7, 0x12, 5, 0x22, 3, 8, 1, 0x10];
    for garbage in [&[0xff; 40][..], &[0x80, 0x80, 0x80, 1], &[3, 1, 2, 3], &no_such_shard, &not_theirs] {
        cluster.until_all_are_up();
        cluster.relays.iter_mut().for_each(|relay| relay.told.iter_mut().for_each(Vec::clear));
        let nodes = cluster.relays[1].engines[0].nodes.as_mut().expect("a node");
        nodes.send_raw(NodeId(1), garbage);
        cluster.until("it is cut off", |cluster| {
            cluster.relays[0].told.iter().all(|told| told.first() == Some(&Told::Gone(2)))
        });
        cluster
            .until("and knows it", |cluster| cluster.relays[1].told.iter().all(|told| told.contains(&Told::Gone(1))));
    }
    cluster.until_all_are_up();
}
