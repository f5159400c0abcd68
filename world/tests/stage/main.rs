//! What paths do to what is sent over them, and what becomes of who comes late: scenes with a relay, clients by hand, and time
//! that passes as it is told to. The same in every run.
#![allow(unreachable_pub, reason = "a test binary: nothing is reachable from outside")]

mod late;
mod paths;
mod performance;
mod squeezed;

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::StreamId;
use supernode_proto::{
    close::StreamCode,
    control::{Subscribe, TrackKind},
    object::{DatagramHeader, TrackAlias},
};
use supernode_server::core::limits::Limits;
use supernode_testkit::subscription;
use supernode_world::{network::Conditions, stage::Stage};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const DAVE: usize = 3;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A path that is not in the way.
fn wide() -> Conditions {
    Conditions { delay: ms(10), ..Conditions::perfect() }
}

/// With the buffer of a router at home.
fn narrow(bits_per_second: u64) -> Conditions {
    Conditions { bytes_per_second: bits_per_second / 8, queue_bytes: 64 * 1024, ..wide() }
}

/// Nothing comes through.
fn cut() -> Conditions {
    Conditions { loss: 1.0, ..wide() }
}

/// So many people in the room.
fn stage_of(shards: usize, limits: Limits, people: usize) -> Stage {
    let mut stage = Stage::new(7, shards, limits);
    for client in 0..people {
        stage.come(client);
        stage.join(client);
    }
    stage
}

/// Alice publishes, and Bob has subscribed.
fn two(shards: usize, limits: Limits, kind: TrackKind, wanted: Subscribe) -> (Stage, TrackAlias) {
    let mut stage = stage_of(shards, limits, 2);
    let track = stage.publish(ALICE, kind, false);
    stage.subscribe(BOB, Subscribe { alias: track.value(), ..wanted });
    stage.demand(ALICE, track, 1);
    (stage, track)
}

fn to_all() -> Subscribe {
    Subscribe { temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() }
}

/// A stream of which the subscriber has the beginning.
fn begin(stage: &mut Stage, wire: &[u8]) -> StreamId {
    let (streams, id) = (stage.hand(BOB).streams.len(), stage.open(ALICE, &wire[..500]));
    stage.wait("the beginning", |stage| {
        stage.hand(BOB).streams.get(streams).filter(|it| it.bytes.len() >= 500).map(drop)
    });
    id
}

/// How a stream ended.
fn end_of(stage: &mut Stage, client: usize, stream: usize) -> Result<(), StreamCode> {
    stage.wait("its end", |stage| stage.hand(client).streams.get(stream).and_then(|stream| stream.end))
}

/// A stream from its beginning to its end.
fn whole(stage: &mut Stage, client: usize, stream: usize) -> Vec<u8> {
    assert_eq!(end_of(stage, client, stream), Ok(()));
    stage.hand(client).streams[stream].bytes.clone()
}

/// Sends a stream whole.
fn send_whole(stage: &mut Stage, client: usize, wire: &[u8]) {
    let id = stage.open(client, wire);
    stage.finish(client, id);
}

/// The group of an object in a datagram.
fn group_of(wire: &Bytes) -> u64 {
    DatagramHeader::decode(wire).expect("an object").0.visible.group
}

fn subscribe_all(stage: &mut Stage, client: usize, tracks: &[TrackAlias]) {
    for track in tracks {
        stage.subscribe(client, subscription(*track));
    }
}
