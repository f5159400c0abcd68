//! Media between two nodes: somebody publishes at node 2, and a client at node 1 is sent it.

use std::net::IpAddr;

use supernode_keys::{DeviceSecret, IdentitySecret};
use supernode_proto::{
    control::{
        ClientMessage, RequestKeyframe, Subscribe, Unsubscribe, client_message::Body as Request, relay_message::Body,
    },
    identity::ChannelBinding,
    object::{DatagramHeader, Flags, Layer, Visible},
};
use supernode_session::{Channel, Introduction, put_datagram, put_object, put_stream_head};

use super::{
    super::links::{Client, Everybody, ROOM, hop},
    *,
};
use crate::{
    core::{
        Greeting, SessionId,
        directory::TrackEntry,
        forward::{Demand, Remote},
        ledger::{DropReason, NodeCounts},
        stream::StreamParser,
    },
    shard::{
        connections::{connection::Ingress, gaps::Gaps},
        streams,
    },
};

/// The publisher's connection, which is not there: what it is told nobody hears.
const PUBLISHER: u32 = 1_000;
/// Where it is.
const SOURCE: (usize, usize) = (1, 0);
const KINDS: [TrackKind; 4] = [TrackKind::Audio, TrackKind::Video, TrackKind::Screen, TrackKind::Data];

struct Call {
    cluster: Cluster,
    client: Client,
    request: u64,
}

impl Call {
    fn new() -> Self {
        let relay = |node| Relay::with_admission(node, true, Limits::default(), Arc::new(Everybody));
        let cluster = Cluster::of(vec![relay(1), relay(2)]);
        cluster.introduce();
        let client = Client::dial(1, false, cluster.relays[0].pin, cluster.now.instant);
        let mut call = Self { cluster, client, request: 0 };
        call.cluster.until_all_are_up();
        call.let_publisher_in(SOURCE);
        call.let_client_in();
        call
    }

    fn turn(&mut self) {
        let Self { cluster, client, .. } = self;
        for data in client.packets(cluster.now.instant) {
            cluster.relays[0].receive(client.address, data, cluster.now);
        }
        cluster.turn();
        for (to, data) in cluster.outside.drain(..) {
            assert_eq!(to, client.address);
            client.receive(&data, cluster.now.instant);
        }
        client.handle_events();
    }

    fn pass(&mut self, time: Duration) {
        (0..time.as_millis() / STEP.as_millis()).for_each(|_| self.turn());
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("not within 10 s: {what}; {:?} {:?}", self.counts(0), self.counts(1));
    }

    fn let_publisher_in(&mut self, at: (usize, usize)) {
        let now = self.cluster.now;
        let relay = &mut self.cluster.relays[at.0];
        let engine = &mut relay.engines[at.1];
        let (identity, device) = (IdentitySecret::from_bytes(&[8; 32]), DeviceSecret::from_bytes(&[9; 32]));
        let delegation = identity.delegate(&device.public(), now.unix_s() + 3600);
        let exporter = [5; 32];
        let channel = Channel::by_exporter(relay.pin, exporter, device.public());
        let hello = channel.hello(&device, &Introduction::new(&delegation, ""));
        let binding = ChannelBinding::TlsExporter { relay: relay.pin, exporter };
        let greeting = Greeting { hello: &hello, binding, from: IpAddr::from([192, 0, 2, 200]) };
        let opened = engine.core.open_session(PUBLISHER, &greeting, &Everybody, now, &mut engine.outbox);
        engine.carry_out(now);
        assert!(opened.is_ok(), "everybody is let in");
    }

    fn let_client_in(&mut self) {
        self.until("the client is connected", |call| call.client.is_connected);
        let Self { cluster, client, .. } = self;
        client.control = client.quic.streams().open(quinn_proto::Dir::Bi);
        let unix_s = cluster.now.unix_s();
        let identity = IdentitySecret::from_bytes(&client.device.to_bytes());
        let delegation = identity.delegate(&client.device.public(), unix_s + 3600);
        let hello = client.channel(cluster.relays[0].pin).hello(&client.device, &Introduction::new(&delegation, ""));
        client.send(ClientMessage { request: 0, body: Some(Request::Hello(hello)) });
        self.until("a Welcome", |call| !call.client.messages.is_empty());
        for engine in &mut self.cluster.relays[0].engines {
            for session in engine.core.sessions.iter_mut().flatten() {
                session.rooms.insert(ROOM, 2);
            }
        }
    }

    /// A track that both nodes know, whose alias ends in this bit: shard 0 of node 1 gathers the even ones.
    fn publish(&mut self, kind: TrackKind, number: u64) -> TrackAlias {
        self.publish_as(kind, number, 1)
    }

    /// The same as one of several members.
    fn publish_as(&mut self, kind: TrackKind, number: u64, member: u32) -> TrackAlias {
        let alias = TrackAlias::new(2 << 30 | number).expect("small");
        self.publish_at(alias, kind, member, SOURCE);
        alias
    }

    fn publish_at(&mut self, alias: TrackAlias, kind: TrackKind, member: u32, at: (usize, usize)) {
        let core = &self.cluster.relays[at.0].engines[at.1].core;
        let publisher = core.session(PUBLISHER).expect("let in").id;
        let activity = kind == TrackKind::Audio;
        let label = Bytes::new();
        let entry = TrackEntry { room: ROOM, member, publisher, kind, label, newcomers_from: 0, activity };
        for relay in &self.cluster.relays {
            assert!(relay.engines[0].core.directory.tracks.insert_new(alias, entry.clone()));
        }
        let core = &mut self.cluster.relays[at.0].engines[at.1].core;
        core.tracks.publish(alias, Carries { kind, room: ROOM, activity, member }, PUBLISHER);
        core.session_mut(PUBLISHER).expect("let in").published.push(alias);
    }

    fn ask(&mut self, body: Request) {
        self.request += 1;
        let request = self.request;
        self.client.send(ClientMessage { request, body: Some(body) });
        self.until("a reply", |call| call.client.messages.iter().any(|message| message.reply_to == request));
        let replies = &self.client.messages;
        let reply = replies.iter().find(|message| message.reply_to == request).and_then(|message| message.body.clone());
        assert!(matches!(reply, Some(Body::Done(_))), "{reply:?}");
    }

    /// The client subscribes, and the publisher's shard knows.
    fn subscribe(&mut self, alias: TrackAlias) {
        self.subscribe_to(Subscribe { alias: alias.value(), temporal_layer_max: 7, ..Subscribe::default() });
    }

    fn subscribe_to(&mut self, wanted: Subscribe) {
        let alias = TrackAlias::new(wanted.alias).expect("small");
        self.ask(Request::Subscribe(Subscribe { max_age_ms: 10_000, ..wanted }));
        self.until("the publisher is told", |call| call.taken(alias) == 1);
    }

    fn unsubscribe(&mut self, alias: TrackAlias) {
        self.ask(Request::Unsubscribe(Unsubscribe { alias: alias.value() }));
        self.until("the publisher is told", |call| call.taken(alias) == 0);
    }

    /// What other nodes take of a track, as its publisher's shard knows.
    fn taken(&self, alias: TrackAlias) -> u32 {
        let core = &self.cluster.relays[SOURCE.0].engines[SOURCE.1].core;
        core.tracks.track(alias).map_or(0, |track| track.remote_demand().subscribers)
    }

    fn source(&mut self) -> &mut Engine {
        &mut self.cluster.relays[SOURCE.0].engines[SOURCE.1]
    }

    /// The publisher sends an object in a datagram.
    fn send(&mut self, alias: TrackAlias, object: u64, ttl_ms: u32) {
        self.send_with(alias, (object, ttl_ms), Flags::INDEPENDENT, 0);
    }

    fn send_with(&mut self, alias: TrackAlias, (object, ttl_ms): (u64, u32), flags: Flags, temporal: u8) {
        let now = self.cluster.now;
        let mut wire = Vec::new();
        let layer = Layer::new(temporal, 0).expect("small");
        let visible = Visible { group: 1, object, flags, layer };
        put_datagram(&mut wire, Hop { ttl_ms, ..hop(alias) }, visible);
        wire.extend_from_slice(b"sound");
        let wire = Bytes::from(wire);
        let Engine { core, post, .. } = self.source();
        let sent = core.forward_datagram(
            PUBLISHER,
            &wire,
            now.instant,
            |_, _| panic!("nobody subscribes here"),
            |to| post.put_media(to, MediaMail::Datagram { wire: wire.clone(), arrived: now.instant }),
        );
        assert_eq!(sent, Ok(()));
    }

    fn begin(&mut self) -> Box<Ingress> {
        let key = self.source().streams.begin();
        let (kind, parser, gaps) = (TrackKind::Unspecified, StreamParser::default(), Gaps::default());
        Box::new(Ingress { key, kind, parser, unseen_bytes: 0, gaps })
    }

    fn write(&mut self, ingress: &mut Ingress, bytes: &[u8]) {
        let now = self.cluster.now.instant;
        let (streams, mut cx) = self.source().streams();
        assert_eq!(streams.forward(PUBLISHER, ingress, Bytes::copy_from_slice(bytes), &mut cx, now), Ok(()));
    }

    fn with_streams(&mut self, act: impl FnOnce(&mut Streams, &mut streams::Context<'_>)) {
        let (streams, mut cx) = self.source().streams();
        act(streams, &mut cx);
    }

    fn counts(&self, relay: usize) -> NodeCounts {
        let mut sum = NodeCounts::default();
        for engine in &self.cluster.relays[relay].engines {
            sum.add(&engine.nodes.as_ref().expect("a node").counts());
        }
        sum
    }

    /// All that node 2 sent has come or is counted as lost.
    fn assert_balanced(&mut self) {
        self.pass(Duration::from_millis(3_500));
        let (source, sink) = (self.counts(1), self.counts(0));
        assert_eq!(source.queued(), 0, "{source:?}");
        assert_eq!(source.sent, sink.received + source.lost, "{source:?} {sink:?}");
    }
}

fn head(alias: TrackAlias, group: u64) -> Vec<u8> {
    head_of(alias, group, 0)
}

fn head_of(alias: TrackAlias, group: u64, temporal_layer: u8) -> Vec<u8> {
    let mut wire = Vec::new();
    put_stream_head(&mut wire, hop(alias), group, temporal_layer);
    wire
}

fn object(number: u64, bytes: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    let visible = Visible { group: 1, object: number, flags: Flags::INDEPENDENT, layer: Layer::default() };
    put_object(&mut wire, visible, bytes as u32);
    wire.resize(wire.len() + bytes, number as u8);
    wire
}

/// The object in a datagram, and what it may still take.
fn seen(datagram: &[u8]) -> (u64, u32) {
    let (header, len) = DatagramHeader::decode(datagram).expect("a header");
    assert_eq!(&datagram[len..], b"sound");
    (header.visible.object, header.hop.ttl_ms)
}

//
#[test]
fn an_object_comes_to_a_subscriber_at_another_node_whichever_shard_gathers_its_track() {
    let mut call = Call::new();
    for number in [10, 11] {
        let track = call.publish(TrackKind::Audio, number);
        call.subscribe(track);
        for object in 0..20 {
            call.send(track, object, 10_000);
            call.turn();
        }
        call.until("all have come", |call| call.client.datagrams.len() == 20);
        let objects: Vec<_> = call.client.datagrams.drain(..).map(|wire| seen(&wire)).collect();
        assert!(objects.iter().map(|(object, _)| *object).eq(0..20), "{objects:?}");
        assert!(objects.iter().all(|(_, ttl)| (9_900..10_000).contains(ttl)), "the way is taken off: {objects:?}");
        call.unsubscribe(track);
    }
    call.assert_balanced();
    assert_eq!((call.counts(1).sent, call.counts(1).lost, call.counts(0).received), (40, 0, 40));
    assert_eq!(call.counts(0).sent, 0, "nothing goes back");
}

//
#[test]
fn what_is_lost_on_the_way_is_counted_where_it_was_sent() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Audio, 10);
    call.subscribe(track);
    for object in 0..10 {
        call.send(track, object, 10_000);
        call.turn();
    }
    call.cluster.cut = vec![(2, 1)];
    for object in 10..20 {
        call.send(track, object, 10_000);
        call.turn();
    }
    call.cluster.cut.clear();
    call.assert_balanced();
    let (source, sink) = (call.counts(1), call.counts(0));
    assert!(source.sent == 20 && source.lost > 0, "{source:?} {sink:?}");
    assert_eq!(call.client.datagrams.len() as u64, sink.received);
}

//
#[test]
fn a_node_that_is_lost_takes_nothing_until_it_is_back_and_says_so() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Audio, 10);
    call.subscribe(track);
    call.cluster.cut = vec![(1, 2), (2, 1)];
    let mut object = 0;
    while call.taken(track) > 0 {
        call.send(track, object, 10_000);
        object += 1;
        call.turn();
        assert!(object < 2_000, "it is not noticed");
    }
    call.send(track, object, 10_000);
    call.cluster.cut.clear();
    call.until("it has said so", |call| call.taken(track) == 1);
    call.cluster.until_all_are_up();
    call.client.datagrams.clear();
    call.send(track, object + 1, 10_000);
    call.until("it comes", |call| call.client.datagrams.iter().any(|wire| seen(wire).0 == object + 1));
    call.assert_balanced();
    assert!(call.counts(1).lost > 0);
}

//
#[test]
fn streams_come_cut_through_whichever_shard_gathers_them_and_end_as_they_were_ended() {
    let mut call = Call::new();
    for (number, kind) in (20..).zip([KINDS[1], KINDS[1], KINDS[3], KINDS[3]]) {
        let track = call.publish(kind, number);
        call.subscribe(track);
        let mut whole = call.begin();
        let (begin, rest) = (head(track, 1), object(0, 3_000));
        call.write(&mut whole, &begin);
        call.write(&mut whole, &rest[..2_000]);
        let before = call.client.media().len();
        call.until("its beginning has come", |call| {
            call.client.media().get(before).is_some_and(|bytes| bytes.len() > 1_000)
        });
        call.write(&mut whole, &rest[2_000..]);
        call.with_streams(|streams, cx| streams.finish(whole.key, cx));
        let wanted = rest.len() + begin.len();
        call.until("all has come", |call| call.client.media().get(before).is_some_and(|bytes| bytes.len() >= wanted));
        assert!(call.client.media()[before].ends_with(&rest) && call.client.media()[before].len() == wanted);
        call.unsubscribe(track);
    }
    call.assert_balanced();
    let census =
        |relay: usize| call.cluster.relays[relay].engines.iter().map(|engine| engine.census().streams).sum::<usize>();
    assert_eq!((census(0), census(1)), (0, 0));
    assert_eq!((call.counts(0).received, call.counts(1).lost), (4, 0));
}

//
#[test]
fn whoever_comes_late_at_another_node_sees_the_newest_group_and_what_follows_once() {
    let mut call = Call::new();
    for number in [30, 31] {
        let track = call.publish(TrackKind::Video, number);
        let mut ingress = call.begin();
        call.write(&mut ingress, &head(track, 7));
        call.write(&mut ingress, &object(0, 2_000));
        call.turn();
        let before = call.client.media().len();
        call.subscribe(track);
        call.pass(Duration::from_millis(50));
        call.write(&mut ingress, &object(1, 500));
        call.with_streams(|streams, cx| streams.finish(ingress.key, cx));
        let wanted = [object(0, 2_000), object(1, 500)].concat();
        call.until("all has come", |call| {
            call.client.media().get(before).is_some_and(|bytes| bytes.ends_with(&wanted))
        });
        assert_eq!(call.client.media().len(), before + 1);
        assert_eq!(call.client.media()[before].len(), head(track, 7).len() + wanted.len());
        call.unsubscribe(track);
    }
    call.assert_balanced();
}

//
#[test]
fn whoever_comes_later_still_is_sent_the_group_by_their_own_node() {
    let mut call = Call::new();
    for (times, number) in (1..).zip([30, 31]) {
        let track = call.publish(TrackKind::Video, number);
        let mut ingress = call.begin();
        call.write(&mut ingress, &head(track, 7));
        call.write(&mut ingress, &object(0, 2_000));
        call.turn();
        call.subscribe(track);
        call.pass(Duration::from_millis(50));
        let sent = call.counts(1).offered;
        let gathers = number as usize % 2;
        let from = Address { node: NodeId(1), shard: ShardId(1 - gathers as u16) };
        let fresh = Some(SessionId { at: from, link: 77, generation: 1 });
        let demand = Demand { subscribers: 1, sent: 1, temporal_layer_max: 7, ..Demand::default() };
        let now = call.cluster.now;
        let engine = &mut call.cluster.relays[0].engines[gathers];
        engine
            .core
            .handle_letter(vec![ControlMail::Interest { alias: track, from, demand, fresh }], &mut engine.outbox);
        engine.carry_out(now);
        assert_eq!(engine.core.ledger.late_joiners, 1);
        call.pass(Duration::from_millis(50));
        assert_eq!(call.counts(1).offered, sent, "nothing of it comes again");
        assert_eq!(call.cluster.relays[1].engines[0].core.ledger.late_joiners, times, "the first one of each track");
        call.with_streams(|streams, cx| streams.finish(ingress.key, cx));
    }
}

//
#[test]
fn data_that_a_client_at_another_node_does_not_take_holds_its_publisher() {
    let mut call = Call::new();
    for number in [40, 41] {
        let track = call.publish(TrackKind::Data, number);
        call.subscribe(track);
        let mut ingress = call.begin();
        call.write(&mut ingress, &head(track, 1));
        let bytes = 100 * 1024;
        let id = quinn_proto::StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Uni, 0);
        // No packet comes from the client.
        let mut sent = 0;
        let is_held = |call: &mut Call, key| call.source().streams.postpones(key, PUBLISHER, id);
        while !is_held(&mut call, ingress.key) {
            assert!(sent < 20 * 1024 * 1024, "nobody holds it");
            call.write(&mut ingress, &object(sent as u64, bytes));
            sent += bytes;
            call.cluster.turn();
            call.cluster.outside.clear();
        }
        assert!(sent > 512 * 1024, "{sent}");
        let key = ingress.key;
        call.until("it goes on", |call| call.client.media().last().is_some_and(|got| got.len() + bytes > sent));
        assert!(!is_held(&mut call, key));
        call.with_streams(|streams, cx| streams.finish(key, cx));
        call.unsubscribe(track);
    }
    call.assert_balanced();
    assert_eq!(call.counts(1).lost, 0);
}

//
#[test]
fn what_has_waited_longer_than_its_time_to_live_is_not_sent_to_another_node() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Audio, 10);
    call.subscribe(track);
    call.send(track, 0, 1);
    call.send(track, 1, 10_000);
    call.until("the later one comes", |call| !call.client.datagrams.is_empty());
    assert_eq!(seen(&call.client.datagrams[0]).0, 1);
    call.assert_balanced();
    let source = call.counts(1);
    assert_eq!((source.offered, source.sent, source.dropped[DropReason::Expired as usize]), (2, 1, 1));
}

//
#[test]
fn a_stream_of_a_lost_link_ends_and_what_follows_is_counted() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Video, 20);
    call.subscribe(track);
    let mut ingress = call.begin();
    call.write(&mut ingress, &head(track, 1));
    call.write(&mut ingress, &object(0, 3_000)[..2_000]);
    call.until("its beginning has come", |call| call.client.media().first().is_some_and(|bytes| bytes.len() > 1_000));
    call.cluster.cut = vec![(1, 2), (2, 1)];
    call.until("both know", |call| call.taken(track) == 0 && call.cluster.relays[0].told[0].contains(&Told::Gone(2)));
    call.pass(Duration::from_millis(50));
    let streams = |call: &Call| call.cluster.relays[0].engines.iter().map(|one| one.census().streams).sum::<usize>();
    assert_eq!(streams(&call), 0, "it goes on nowhere");
    call.write(&mut ingress, &object(0, 3_000)[2_000..]);
    call.with_streams(|streams, cx| streams.finish(ingress.key, cx));
    call.cluster.cut.clear();
    call.until("it is taken again", |call| call.taken(track) == 1);
    let keyframes = |call: &Call| call.cluster.relays[1].engines[0].core.keyframes.contains_key(&track);
    call.until("a picture is asked for", keyframes);
    call.assert_balanced();
}

//
#[test]
fn layers_that_nobody_at_a_node_takes_are_not_sent_there() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Video, 50);
    call.subscribe_to(Subscribe { alias: track.value(), temporal_layer_max: 1, ..Subscribe::default() });
    for layer in 0..3 {
        let mut ingress = call.begin();
        call.write(&mut ingress, &head_of(track, 1, layer));
        let mut wire = Vec::new();
        let layer = Layer::new(layer, 0).expect("small");
        put_object(&mut wire, Visible { group: 1, object: 0, flags: Flags::INDEPENDENT, layer }, 9);
        wire.extend_from_slice(b"a picture");
        call.write(&mut ingress, &wire);
        call.with_streams(|streams, cx| streams.finish(ingress.key, cx));
        call.send_with(track, (u64::from(layer.temporal()), 10_000), Flags::INDEPENDENT, layer.temporal());
    }
    call.until("both layers have come", |call| call.client.media().len() == 2 && call.client.datagrams.len() == 2);
    call.assert_balanced();
    let source = call.counts(1);
    assert_eq!((source.sent, source.dropped[DropReason::LayerNotWanted as usize]), (4, 2));
    call.ask(Request::RequestKeyframe(RequestKeyframe { alias: track.value() }));
    let keyframes = |call: &Call| call.cluster.relays[1].engines[0].core.keyframes.contains_key(&track);
    call.until("its publisher is asked", keyframes);
}

//
#[test]
fn the_liveliest_are_chosen_among_those_of_another_node_as_well() {
    let mut call = Call::new();
    // One of them is gathered by the subscriber's shard, the other is not.
    let tracks = [(60, 1), (61, 3)].map(|(number, member)| call.publish_as(TrackKind::Audio, number, member));
    for track in tracks {
        call.subscribe_to(Subscribe { alias: track.value(), speakers_max: 1, ..Subscribe::default() });
    }
    for lively in [0, 1] {
        for object in 0..150 {
            for (place, track) in tracks.into_iter().enumerate() {
                let activity = if place == lively { 3 } else { 0 };
                call.send_with(track, (object, 10_000), Flags::INDEPENDENT.with_activity(activity), 0);
            }
            call.pass(4 * STEP);
            if object == 100 {
                call.client.datagrams.clear();
            }
        }
        call.pass(Duration::from_millis(50));
        let heard: Vec<_> = call.client.datagrams.drain(..).collect();
        let alias = |wire: &Bytes| DatagramHeader::decode(wire).expect("a header").0.hop.alias;
        assert!(heard.len() > 40 && heard.iter().all(|wire| alias(wire) == tracks[lively]), "{lively}");
    }
}

//
#[test]
fn a_node_may_send_only_what_is_published_there() {
    for stranger in [TrackAlias::new(1 << 30 | 7), TrackAlias::new(3 << 30 | 7), TrackAlias::new(7)] {
        let mut call = Call::new();
        let track = call.publish(TrackKind::Audio, 10);
        call.subscribe(track);
        let alias = stranger.expect("small");
        // As if it were published here and taken there.
        let carries = Carries { kind: TrackKind::Audio, room: ROOM, activity: false, member: 1 };
        let at = Address { node: NodeId(1), shard: ShardId(0) };
        let demand = Demand { subscribers: 1, sent: 1, ..Demand::default() };
        let core = &mut call.source().core;
        core.tracks.publish(alias, carries, PUBLISHER);
        core.tracks.set_remote(alias, Remote { at, demand });
        call.send(alias, 0, 10_000);
        call.until("the link is closed", |call| call.cluster.relays[0].told[0].contains(&Told::Gone(2)));
        assert!(call.client.datagrams.is_empty());
    }
}

//
#[test]
fn two_shards_of_a_node_are_sent_one_copy_together() {
    let mut call = Call::new();
    let track = call.publish(TrackKind::Audio, 10);
    call.subscribe(track);
    // A subscriber on the other shard, whose connection is not there.
    let from = Address { node: NodeId(1), shard: ShardId(0) };
    let subscriber = Subscriber {
        link: 77,
        temporal_layer_max: 7,
        spatial_layer_max: 7,
        age_max: Duration::from_secs(1),
        focus: false,
        speakers_max: 0,
        member: 9,
    };
    let carries = Carries { kind: TrackKind::Audio, room: ROOM, activity: false, member: 1 };
    let now = call.cluster.now;
    let engine = &mut call.cluster.relays[0].engines[0];
    engine.core.tracks.subscribe(track, carries, subscriber);
    engine.outbox.mail(from, ControlMail::Interest { alias: track, from, demand: Demand::default(), fresh: None });
    engine.carry_out(now);
    for object in 0..10 {
        call.send(track, object, 10_000);
        call.turn();
    }
    call.until("all have come", |call| call.client.datagrams.len() == 10);
    call.assert_balanced();
    assert_eq!((call.counts(1).offered, call.counts(0).received), (10, 10), "one copy each");
    let [zero, one] = &call.cluster.relays[0].engines[..] else { panic!("two shards") };
    assert_eq!((zero.core.ledger.offered, one.core.ledger.offered), (10, 10), "and each fans out");
}
