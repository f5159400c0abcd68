//! Nodes of a cluster, each with two shards: QUIC and TLS are real, the packets and the time go by hand.

mod breaks;
mod media;
mod strangers;

use rcgen::{PublicKeyData, SigningKey};

use super::*;
use crate::{
    core::{ControlMail, NodeId},
    shard::{
        net::demultiplexer::shard_of,
        nodes::{NodeBook, NodeFigures, NodeKey, NodeParts, NodeSelf, Roster, ToBus, ToHomes, Word},
        quic::cid::Incarnation,
    },
};

const SHARDS: usize = 2;
const STEP: Duration = Duration::from_millis(5);
/// No packet comes from this node to that one.
type Cut = (u16, u16);

/// What a shard was told of others, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Came(u16),
    Gone(u16),
    /// The numbers in a letter.
    Letter(Vec<u64>),
}

impl Told {
    fn of(word: Word) -> Option<Self> {
        match word {
            Word::Came(node) => Some(Self::Came(node.0)),
            Word::Over { node, was_up, .. } => was_up.then_some(Self::Gone(node.0)),
        }
    }
}

struct Relay {
    node: u16,
    life: u64,
    address: SocketAddr,
    pin: RelayPin,
    engines: Vec<Engine>,
    inboxes: Vec<Inbox>,
    postboxes: Vec<Postbox>,
    told: [Vec<Told>; SHARDS],
    /// How many words there are among that.
    words: [usize; SHARDS],
    /// What was answered at once.
    answers: Vec<(SocketAddr, BytesMut)>,
}

impl Relay {
    fn new(node: u16, speaks: bool) -> Self {
        Self::with_limits(node, speaks, Limits::default())
    }

    fn with_limits(node: u16, speaks: bool, limits: Limits) -> Self {
        Self::with_admission(node, speaks, limits, Arc::new(Nobody))
    }

    fn with_admission(node: u16, speaks: bool, limits: Limits, admission: Arc<dyn Admit>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = StateDir::create(directory.path()).expect("made").keys_or_create().expect("made");
        let certificate = Certificate::self_signed(&keys).expect("a certificate");
        let tls = tls::quic_server_config(&certificate, Some(&certificate)).expect("a configuration");
        let tls = if speaks { Arc::new(tls.of_a_node().expect("the same provider")) } else { tls };
        let incarnation = Incarnation(node);
        let shared = Shared::new(tls, Duration::ZERO, &keys.reset_key, incarnation);
        let pin = tls::relay_pin(&keys);
        let spki = keys.tls_key.subject_public_key_info();
        let key = NodeKey::new(spki, move |message| keys.tls_key.sign(message).ok());
        let parts = NodeParts::new(
            NodeSelf { node: NodeId(node), key, bus: ToBus(Arc::new(|_| ())), homes: ToHomes(Arc::new(|_| ())) },
            incarnation,
        );
        let (postboxes, inboxes): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| inbox().expect("a descriptor")).unzip();
        let directory = Arc::new(Directory::new(limits));
        let prefixes: Arc<Prefixes> = Arc::default();
        let engine = |shard: usize| {
            let shard = ShardId(shard as u16);
            Engine::new(Parts {
                core: ShardCore::new(Address { node: NodeId(node), shard }, directory.clone()),
                endpoint: shared.endpoint(shard, [node as u8 + 10 * shard.0 as u8; 32], None),
                peers: postboxes.clone(),
                pin,
                admission: admission.clone(),
                prefixes: prefixes.clone(),
                rng: StdRng::seed_from_u64(1),
                segments_max: 1,
                sealing: Duration::ZERO,
                start: Instant::now(),
                send_push: None,
                nodes: speaks.then(|| parts.clone()),
            })
        };
        let address = SocketAddr::from(([192, 0, 2, node as u8], 4433));
        let engines = (0..SHARDS).map(engine).collect();
        Self {
            node,
            life: u64::from(node) * 100,
            address,
            pin,
            engines,
            inboxes,
            postboxes,
            told: Default::default(),
            words: [0; SHARDS],
            answers: Vec::new(),
        }
    }

    fn book(&self) -> NodeBook {
        NodeBook { node: NodeId(self.node), life: self.life, address: self.address, pin: self.pin }
    }

    fn know(&self, others: Vec<NodeBook>) {
        let roster = Arc::new(Roster { life: self.life, others });
        for postbox in &self.postboxes {
            postbox.put_control(Letter::Nodes(roster.clone()));
        }
    }

    /// Links that carry letters, out and in, of all shards.
    fn up(&self) -> (usize, usize) {
        let each = self.engines.iter().filter_map(|engine| engine.nodes.as_ref().map(|nodes| nodes.up()));
        each.fold((0, 0), |(out, ins), (more_out, more_in)| (out + more_out, ins + more_in))
    }

    fn figures(&self, figure: impl Fn(&NodeFigures) -> u64) -> u64 {
        self.engines.iter().filter_map(Engine::node_figures).map(|figures| figure(&figures)).sum()
    }

    /// A short header names its shard; for all others the kernel has chosen the last.
    fn receive(&mut self, remote: SocketAddr, data: BytesMut, now: Now) {
        let shard = shard_of(&data).map(ShardId::index).filter(|shard| *shard < SHARDS).unwrap_or(SHARDS - 1);
        let packet = Received { remote, local_ip: None, ecn: None, arrived: now.instant, data };
        let mut out = SendBatch::default();
        self.engines[shard].handle_packet(packet, now, &mut out, || now.instant);
        out.take(|to, datagram| self.answers.push((to, BytesMut::from(datagram))));
    }

    /// What has come in for each shard is written down, and stays.
    fn listen(&mut self, shard: usize) {
        for letter in self.inboxes[shard].letters().collect::<Vec<_>>() {
            match &letter {
                Letter::Node(word) => {
                    self.words[shard] += 1;
                    self.told[shard].extend(Told::of(*word));
                }
                Letter::Core(mail) => {
                    let number = |mail: &ControlMail| match mail {
                        ControlMail::Keyframe { alias } => alias.value(),
                        _ => 0,
                    };
                    self.told[shard].push(Told::Letter(mail.iter().map(number).collect()));
                }
                _ => {}
            }
            self.postboxes[shard].put_control(letter);
        }
    }
}

struct Cluster {
    relays: Vec<Relay>,
    now: Now,
    cut: Vec<Cut>,
    /// Packets, each with whom it comes from and where it goes.
    packets: Vec<(usize, SocketAddr, BytesMut)>,
    /// Those for addresses that are no relay's.
    outside: Vec<(SocketAddr, BytesMut)>,
    number: u64,
}

impl Cluster {
    /// Relays that do not know each other yet.
    fn of(relays: Vec<Relay>) -> Self {
        let now = Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
        Self { relays, now, cut: Vec::new(), packets: Vec::new(), outside: Vec::new(), number: 0 }
    }

    /// Two nodes that know each other.
    fn of_two() -> Self {
        let cluster = Self::of(vec![Relay::new(1, true), Relay::new(2, true)]);
        cluster.introduce();
        cluster
    }

    /// All know all others.
    fn introduce(&self) {
        for relay in &self.relays {
            let others = self.relays.iter().filter(|other| other.node != relay.node).map(Relay::book);
            relay.know(others.collect());
        }
    }

    fn turn(&mut self) {
        self.turn_but(None);
    }

    /// A turn of all shards but one of a relay.
    fn turn_but(&mut self, left_out: Option<(usize, usize)>) {
        self.now = self.now.plus(STEP);
        self.carry();
        (0..self.relays.len()).for_each(|place| self.turn_of(place, left_out));
    }

    /// Packets come where they are to go.
    fn carry(&mut self) {
        let Self { relays, now, cut, packets, outside, .. } = self;
        for (from, to, data) in std::mem::take(packets) {
            let (remote, from) = (relays[from].address, relays[from].node);
            match relays.iter_mut().find(|relay| relay.address == to) {
                Some(relay) if cut.contains(&(from, relay.node)) => {}
                Some(relay) => relay.receive(remote, data, *now),
                None => outside.push((to, data)),
            }
        }
    }

    fn turn_of(&mut self, place: usize, left_out: Option<(usize, usize)>) {
        let Self { relays, now, packets, .. } = self;
        if let Some(relay) = relays.get_mut(place) {
            packets.extend(relay.answers.drain(..).map(|(to, data)| (place, to, data)));
            for shard in (0..SHARDS).filter(|shard| left_out != Some((place, *shard))) {
                relay.listen(shard);
                let (engine, inbox) = (&mut relay.engines[shard], &relay.inboxes[shard]);
                let mut out = SendBatch::default();
                engine.handle_mail(inbox, *now, &mut out, || now.instant);
                // What it has told itself meanwhile came behind all that it found.
                let heard = engine.nodes.as_ref().map(|nodes| nodes.heard.as_slice()).unwrap_or_default();
                let more = heard.get(relay.words[shard]..).unwrap_or_default();
                relay.told[shard].extend(more.iter().filter_map(|word| Told::of(*word)));
                relay.words[shard] = relay.words[shard].max(heard.len());
                engine.handle_timeouts(*now);
                engine.serve(*now);
                let mut take = |out: &mut SendBatch| {
                    out.take(|to, datagram| packets.push((place, to, BytesMut::from(datagram))));
                };
                engine.poll_transmits(*now, &mut out, |out, _| take(out));
                take(&mut out);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        (0..time.as_millis() / STEP.as_millis()).for_each(|_| self.turn());
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..4_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        let told: Vec<_> = self.relays.iter().map(|relay| &relay.told).collect();
        panic!("not within 20 s: {what}: {told:?}");
    }

    /// Each shard of each node reaches each other node.
    fn until_all_are_up(&mut self) {
        let all = SHARDS * (self.relays.len() - 1);
        self.until("all links are up", |cluster| cluster.relays.iter().all(|relay| relay.up() == (all, all)));
    }

    /// A shard writes to one of another node; the number of the letter.
    fn write(&mut self, from: (usize, usize), to: (usize, usize)) -> u64 {
        self.number += 1;
        let node = NodeId(self.relays[to.0].node);
        let engine = &mut self.relays[from.0].engines[from.1];
        let mail = ControlMail::Keyframe { alias: TrackAlias::new(self.number).expect("small") };
        engine.outbox.mail(Address { node, shard: ShardId(to.1 as u16) }, mail);
        engine.carry_out(self.now);
        self.number
    }

    /// A letter from each shard to each of every other node.
    fn write_all(&mut self) {
        let ends = (0..self.relays.len()).flat_map(|relay| (0..SHARDS).map(move |shard| (relay, shard)));
        for from in ends.clone().collect::<Vec<_>>() {
            for to in ends.clone().filter(|to| to.0 != from.0).collect::<Vec<_>>() {
                self.write(from, to);
            }
        }
    }
}

fn numbers(told: &[Told]) -> Vec<u64> {
    let letters = told.iter().filter_map(|told| match told {
        Told::Letter(numbers) => Some(numbers.clone()),
        _ => None,
    });
    letters.flatten().collect()
}

/// A node comes and goes in turn, and no letter comes while it is not here.
fn assert_in_order(told: &[Told], node: u16) {
    let mut is_here = false;
    for word in told {
        match word {
            Told::Came(who) if *who == node => assert!(!std::mem::replace(&mut is_here, true), "twice: {told:?}"),
            Told::Gone(who) if *who == node => assert!(std::mem::replace(&mut is_here, false), "twice: {told:?}"),
            Told::Letter(_) => assert!(is_here, "a letter of nobody: {told:?}"),
            _ => {}
        }
    }
}

//
#[test]
fn letters_come_in_order_from_each_shard_to_each() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    for _ in 0..50 {
        cluster.write_all();
        cluster.turn();
    }
    cluster.until("all letters have come", |cluster| {
        cluster.relays.iter().all(|relay| relay.told.iter().all(|told| numbers(told).len() == 100))
    });
    for relay in &cluster.relays {
        for (shard, told) in relay.told.iter().enumerate() {
            let (came, letters) = told.split_first().expect("something");
            assert_eq!(*came, Told::Came(3 - relay.node), "before its letters");
            for writer in 0..SHARDS as u64 {
                // Of the eight letters of a round the writer is the second digit, if one counts from the back.
                let numbers = numbers(letters);
                let of_writer: Vec<u64> = numbers.into_iter().filter(|number| (number - 1) / 2 % 2 == writer).collect();
                assert!(of_writer.len() == 50 && of_writer.is_sorted(), "{writer} to {shard}: {of_writer:?}");
            }
        }
        assert_eq!(relay.figures(|figures| figures.letters_lost), 0);
    }
}

//
#[test]
fn a_node_is_no_client_of_another() {
    let mut cluster = Cluster::of_two();
    cluster.until_all_are_up();
    for relay in &mut cluster.relays {
        for engine in &mut relay.engines {
            let tally = engine.tally();
            assert_eq!((tally.connections, tally.handshaking), (0, 0));
            assert_eq!(engine.census().sessions, 0);
        }
    }
}

#[test]
fn no_mail_for_a_shard_of_another_node_goes_into_an_inbox_here() {
    let mut relay = Relay::new(1, true);
    for shard in [0, 1, 200] {
        let there = Address { node: NodeId(2), shard: ShardId(shard) };
        let key = StreamKey { at: there, number: 1 };
        let post = &mut relay.engines[0].post;
        assert!(post.put_media(there, MediaMail::StreamEnd { key }), "its link drops it");
        post.put_letter(there, Letter::StreamAborted(key, StreamCode::CANCELLED));
    }
    assert!(relay.inboxes.iter().all(Inbox::is_empty));
}
