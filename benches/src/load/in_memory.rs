//! The generator's clients against a shard in memory: no socket, no thread, and a clock that only this file moves.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{DatagramEvent, Dir, Endpoint, EndpointConfig, Event, StreamEvent};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_measure::stamp::Stamp;
use supernode_proto::close::CloseCode;
use supernode_server::{
    control::{certificate::Certificate, state_dir::StateDir, tls},
    core::{Admit, Applicant, Grant, Now, Voucher, limits::Limits},
    shard::offline::OfflineShard,
};

use super::{
    client::{Client, Stage},
    link::Link,
    outsiders::Outsiders,
    persona::Cast,
    plan::Plan,
    scenario::{LinkKind, Scenario},
    sockets::SEGMENTS_MAX,
    tally::Tally,
    transport,
};

const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4433);
/// Virtual time between two turns.
const TURN: Duration = Duration::from_millis(1);
/// Turns that a set-up may take: a handshake is three.
const SET_UP_TURNS_MAX: usize = 400;
/// Turns of talk before anything is measured, so that acknowledgements flow and paths have found their MTU.
const WARM_UP_TURNS: usize = 60;
/// Bytes of one object, header and seal included.
const OBJECT_BYTES: usize = 160;

/// A shard with talking clients, at the moment before a turn.
pub struct WholeShard {
    shard: OfflineShard,
    stage: Stage,
    endpoint: Endpoint,
    clients: Vec<Client>,
    links: Vec<Link>,
    now: Now,
    /// What the clients have sent and the shard has not taken.
    packets: Vec<(SocketAddr, BytesMut)>,
    tally: Tally,
    sequence: u64,
    delivered: u64,
}

impl WholeShard {
    /// Pairs of clients in calls.
    pub fn of_pairs(pairs: u32) -> Self {
        Self::of(
            "calls",
            &format!(
                "about = \"\"\nshape = \"calls\"\npairs = {pairs}\nobjects_per_second = 50\nobject_bytes = 160\nramp_s = 1\nhold_s = 1\n"
            ),
        )
    }

    /// A room in which everybody talks.
    pub fn of_room(members: u32) -> Self {
        Self::of(
            "room",
            &format!(
                "about = \"\"\nshape = \"rooms\"\nrooms = 1\nmembers = {members}\nobjects_per_second = 50\nobject_bytes = 160\nramp_s = 1\nhold_s = 1\n"
            ),
        )
    }

    /// The same room, and all come as pages in browsers do.
    pub fn of_pages(members: u32) -> Self {
        Self::of(
            "pages",
            &format!(
                "about = \"\"\nshape = \"rooms\"\nlink = \"webtransport\"\nrooms = 1\nmembers = {members}\nobjects_per_second = 50\nobject_bytes = 160\nramp_s = 1\nhold_s = 1\n"
            ),
        )
    }

    fn of(name: &str, scenario: &str) -> Self {
        let scenario = Scenario::parse(name, scenario, &[]).expect("the scenario is valid");
        let link = scenario.link;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keys = StateDir::create(directory.path()).and_then(|state| state.keys_or_create()).expect("keys are made");
        let pin = tls::relay_pin(&keys);
        let certificate = Certificate::self_signed(&keys).expect("the relay's own");
        let config = tls::quic_server_config(&certificate, Some(&certificate)).expect("the keys are good for TLS");
        // All come at once, in no time, from one address: what the door makes of that is not measured here.
        let limits = Limits { handshakes_max: 1_000_000, handshakes_per_second_max: 1_000_000, ..Limits::default() };
        let shard = OfflineShard::new(config, pin, Arc::new(Everybody), limits, 1).expect("a descriptor");
        let plan = Plan::new(&scenario);
        let mut noise = vec![0; 64 * 1024];
        StdRng::seed_from_u64(2).fill(&mut noise[..]);
        let (cast, token, noise) = (Cast::new(), String::new(), Bytes::from(noise));
        let outsiders = Outsiders::new(plan.clients.len());
        let stage = Stage { scenario, plan, cast, pin, token, outsiders, noise };
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Now { instant: Instant::now(), unix_ms: unix.as_millis() as u64 };
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let config = transport::client_config(pin, link, 0, false);
        let mut clients: Vec<_> =
            (0..stage.plan.clients.len() as u32).map(|number| Client::new(number, &stage)).collect();
        let connect = |(place, client): (usize, &mut Client)| {
            let (handle, quic) =
                endpoint.connect(now.instant, config.clone(), RELAY, "relay").expect("no connection is too many");
            client.begin(handle.0, 0, &stage);
            Link::new(quic, handle, place, 0, link == LinkKind::Webtransport, now.instant)
        };
        let links = clients.iter_mut().enumerate().map(connect).collect();
        let (packets, tally) = (Vec::new(), Tally::default());
        let mut whole = Self { shard, stage, endpoint, clients, links, now, packets, tally, sequence: 0, delivered: 0 };
        let settled = (0..SET_UP_TURNS_MAX).any(|_| {
            whole.exchange();
            whole.clients.iter().all(|client| client.missing().is_none())
        });
        assert!(settled, "every client has its session, room, track and subscriptions");
        for _ in 0..WARM_UP_TURNS {
            whole.turn();
            whole.talk();
        }
        whole
    }

    /// What is measured: the shard takes what the clients have sent, one object each, and builds every packet. Returns
    /// how many sends those are.
    pub fn turn(&mut self) -> usize {
        self.shard.turn(self.now, &mut self.packets)
    }

    /// The first half of a turn: packets opened, objects queued.
    pub fn read(&mut self) {
        self.shard.read(self.now, &mut self.packets);
    }

    /// The second half: packets built and sealed.
    pub fn build(&mut self) -> usize {
        self.shard.build(self.now)
    }

    /// Prepares the next turn: the clients take what was sent to them, and each says something.
    pub fn talk(&mut self) {
        self.hear();
        self.sequence += 1;
        for link in &mut self.links {
            let client = &mut self.clients[link.client];
            let stamp = Stamp { due_ns: self.sequence, sequence: self.sequence };
            for track in 0..client.tracks.len() {
                assert!(
                    client.send_audio(link, track, stamp, OBJECT_BYTES, &self.stage),
                    "QUIC has room for an object"
                );
            }
        }
        self.speak();
    }

    /// Objects that clients have got.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn exchange(&mut self) {
        self.hear();
        self.speak();
        self.turn();
    }

    fn hear(&mut self) {
        self.now = Now { instant: self.now.instant + TURN, unix_ms: self.now.unix_ms + TURN.as_millis() as u64 };
        let now = self.now.instant;
        let Self { shard, endpoint, links, .. } = self;
        let mut answer = Vec::new();
        shard.take_sent(|_, bytes| {
            answer.clear();
            let event = endpoint.handle(now, RELAY, None, None, BytesMut::from(bytes), &mut answer);
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event {
                links[handle.0].quic.handle_event(event);
            }
        });
        for place in 0..self.links.len() {
            self.handle_events(place);
        }
    }

    fn handle_events(&mut self, place: usize) {
        let link = &mut self.links[place];
        let client = &mut self.clients[link.client];
        if link.quic.poll_timeout().is_some_and(|at| at <= self.now.instant) {
            link.quic.handle_timeout(self.now.instant);
        }
        while let Some(event) = link.quic.poll() {
            match event {
                Event::Connected => client.handle_connected(link, &self.stage),
                Event::ConnectionLost { reason } => panic!("a client was lost: {reason}"),
                Event::DatagramReceived => {
                    while link.quic.datagrams().recv().is_some() {
                        self.delivered += 1;
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) if link.is_control(id) => {
                    link.read_control();
                    while let Some(event) = link.poll_event() {
                        client.handle_event(link, event, &self.stage, &mut self.tally);
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) if link.page.is_some() => {
                    while let Some(id) = link.quic.streams().accept(Dir::Uni) {
                        client.handle_own(link, id, &self.stage);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) if link.page.is_some() => {
                    client.handle_own(link, id, &self.stage);
                }
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn speak(&mut self) {
        let Self { endpoint, links, packets, now, .. } = self;
        let mut buffer = Vec::new();
        for link in links {
            link.flush_control();
            let from = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 1024 + link.client as u16);
            while let Some(transmit) = link.quic.poll_transmit(now.instant, SEGMENTS_MAX, &mut buffer) {
                let bytes = &buffer[..transmit.size];
                let datagrams = bytes.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1));
                packets.extend(datagrams.map(|datagram| (from, BytesMut::from(datagram))));
                buffer.clear();
            }
            while let Some(event) = link.quic.poll_endpoint_events() {
                if let Some(event) = endpoint.handle_event(link.handle, event) {
                    link.quic.handle_event(event);
                }
            }
        }
    }
}

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_congestion_window_holds_back_counts_as_sent_only_when_it_has_left() {
        let mut whole = WholeShard::of_pairs(1);
        assert!(whole.links[0].has_sent_all());
        let WholeShard { clients, links, stage, .. } = &mut whole;
        let (client, link) = (&mut clients[links[0].client], &mut links[0]);
        for sequence in 1_000..1_100 {
            let stamp = Stamp { due_ns: sequence, sequence };
            assert!(client.send_audio(link, 0, stamp, 1_000, stage), "QUIC has room for 100 kB");
        }
        whole.speak();
        assert!(!whole.links[0].has_sent_all(), "the window of a client that says little is smaller");
        let turns = (0..1_000).take_while(|_| {
            whole.exchange();
            !whole.links[0].has_sent_all()
        });
        assert!(turns.count() < 999, "it leaves as acknowledgements come");
    }

    #[test]
    fn every_object_of_a_turn_reaches_everybody_it_is_for() {
        let pages = (WholeShard::of_pages(5), 5, 4);
        for (mut whole, talkers, listeners) in [(WholeShard::of_pairs(3), 6, 1), (WholeShard::of_room(5), 5, 4), pages]
        {
            let before = whole.delivered();
            for _ in 0..10 {
                whole.turn();
                whole.talk();
            }
            assert_eq!(whole.delivered() - before, 10 * talkers * listeners);
        }
    }
}
