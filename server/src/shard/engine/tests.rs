//! An engine between two inboxes, without clients.

mod links;
mod nodes;
mod turns;

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use supernode_proto::{
    close::StreamCode,
    control::TrackKind,
    identity::RoomId,
    object::{Hop, StreamHeader, TrackAlias},
};

use super::*;
use crate::{
    control::{certificate::Certificate, state_dir::StateDir, tls},
    core::{
        Address, Applicant, Grant, ShardId, StreamKey,
        directory::Directory,
        forward::{Carries, Subscriber},
        limits::Limits,
    },
    shard::{
        post::inbox::{Inbox, inbox},
        quic::{cid, transport::Shared},
    },
};

struct Nobody;

impl Admit for Nobody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Err(CloseCode::NOT_ADMITTED)
    }
}

/// The first shard of a relay, and the relay's pin.
fn engine(admission: Arc<dyn Admit>, peers: Vec<Postbox>) -> (Engine, RelayPin) {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = StateDir::create(directory.path()).expect("made").keys_or_create().expect("made");
    let certificate = Certificate::self_signed(&keys).expect("a certificate");
    let tls = tls::quic_server_config(&certificate, Some(&certificate)).expect("a configuration");
    let shared = Shared::new(tls, Duration::ZERO, &keys.reset_key, cid::Incarnation(1));
    let pin = tls::relay_pin(&keys);
    let engine = Engine::new(Parts {
        core: ShardCore::new(Address::local(ShardId(0)), Arc::new(Directory::new(Limits::default()))),
        endpoint: shared.endpoint(ShardId(0), [1; 32], None),
        peers,
        pin,
        admission,
        prefixes: Arc::default(),
        rng: StdRng::seed_from_u64(1),
        segments_max: 1,
        sealing: Duration::ZERO,
        start: Instant::now(),
        send_push: None,
        nodes: None,
    });
    (engine, pin)
}

/// The first of two shards, its inbox, and the other's.
fn first_of_two() -> (Engine, Inbox, Inbox) {
    let (own, own_inbox) = inbox().expect("a descriptor");
    let (other, other_inbox) = inbox().expect("a descriptor");
    (engine(Arc::new(Nobody), vec![own, other]).0, own_inbox, other_inbox)
}

#[test]
fn a_packet_for_another_shard_is_handed_over_and_one_for_no_shard_is_not() {
    let (mut engine, _own_inbox, other_inbox) = first_of_two();
    let now = Now { instant: Instant::now(), unix_ms: 0 };
    let mut out = SendBatch::default();
    let remote = SocketAddr::from(([127, 0, 0, 1], 9));
    for shard in [1, 7] {
        let data = BytesMut::from(&[&[0x40, shard][..], &[0; 40]].concat()[..]);
        let arrived = now.instant;
        let packet = Received { remote, local_ip: None, ecn: None, arrived, data: data.clone() };
        engine.handle_packet(packet, now, &mut out, || now.instant);
        match other_inbox.media.try_recv() {
            Ok(MediaMail::Packet(handed)) => assert!(shard == 1 && handed.data == data),
            Ok(other) => panic!("not media: {other:?}"),
            Err(_) => assert_eq!(shard, 7),
        }
    }
    assert_eq!(engine.tally().handed_over, 1);
}

//
#[test]
fn clients_are_left_unread_while_another_shard_has_much_mail_to_take() {
    let (mut engine, _own_inbox, other_inbox) = first_of_two();
    let now = Now { instant: Instant::now(), unix_ms: 0 };
    let many = post::inbox::held_from(2);
    engine.serve(now);
    assert!(!engine.post.is_used_up());
    let key = StreamKey { at: Address::local(ShardId(0)), number: 1 };
    for _ in 0..many {
        engine.post.put_letter(Address::local(ShardId(1)), Letter::StreamAborted(key, StreamCode::CANCELLED));
    }
    assert!(engine.post.is_used_up(), "in the same turn already");
    engine.serve(now);
    assert!(engine.post.is_used_up());
    assert_eq!(other_inbox.letters().count(), many, "and nothing was lost");
    engine.serve(now);
    assert!(!engine.post.is_used_up());
}

#[test]
fn a_stream_that_is_aborted_before_its_beginning_comes_never_begins() {
    let (mut engine, own_inbox, _other_inbox) = first_of_two();
    let now = Now { instant: Instant::now(), unix_ms: 0 };
    let alias = TrackAlias::new(7).expect("small");
    let subscriber = Subscriber {
        link: 3,
        temporal_layer_max: 0,
        spatial_layer_max: 0,
        age_max: Duration::ZERO,
        focus: false,
        speakers_max: 0,
        member: 2,
    };
    let carries = Carries { kind: TrackKind::Video, room: RoomId([1; 16]), activity: false, member: 1 };
    engine.core.tracks.subscribe(alias, carries, subscriber);
    let key = |number| StreamKey { at: Address::local(ShardId(1)), number };
    let header = StreamHeader { hop: Hop { alias, priority: 0, ttl_ms: 0 }, group: 0, temporal_layer: 0 };
    for number in [1, 2] {
        let open = MediaMail::StreamOpen { key: key(number), header, wire: Bytes::new() };
        assert!(engine.post.put_media(Address::local(ShardId(0)), open));
    }
    engine.post.put_letter(Address::local(ShardId(0)), Letter::StreamAborted(key(1), StreamCode::CANCELLED));
    engine.handle_mail(&own_inbox, now, &mut SendBatch::default(), || now.instant);
    assert_eq!(engine.streams.keys(), [key(2)]);
    assert_eq!(engine.census().aborted_early, 0, "and is forgotten once all media has been seen");
}
