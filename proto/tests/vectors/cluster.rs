//! One example of every kind of mail between nodes.

use prost::bytes::Bytes;
use supernode_proto::{
    cluster::{
        Address, CatchUp, Close, Deliver, DeliverWithheld, Demand, Evict, FromNode, Interest, Keyframe, Mail,
        NodeHello, RejectCommit, Send, SendMls, Session, Tell, TrackEnded, Withheld, mail::Body,
    },
    control::{self, Done, MlsDelivery, RelayMessage, relay_message},
};

use super::count;

const ALIAS: u64 = 0x1234_5678;

/// What shard 3 of node 1 says to node 2; its key is no point on the curve, but has the size of one.
pub fn hello() -> NodeHello {
    NodeHello {
        version: 1,
        node: 1,
        life: 0x0102_0304_0506_0708,
        shard: 3,
        to_node: 2,
        to_life: 9,
        key: bytes(0x10, 91),
        signature: bytes(0x20, 70),
    }
}

/// Every mail, named `Mail.field`.
pub fn mails() -> Vec<(String, Mail)> {
    let session = |node| Some(Session { node, shard: 3, link: 4, generation: 5 });
    let room = || bytes(0x30, 16);
    let message = || Some(RelayMessage { reply_to: 7, body: Some(relay_message::Body::Done(Done {})) });
    let delivery = || MlsDelivery {
        room: room(),
        sequence: 9,
        epoch: 5,
        commit: true,
        from_member: 6,
        payload: bytes(0x40, 4),
        join_key: bytes(0x70, 32),
    };
    let bodies = [
        Body::Send(Send { to: session(2), message: message() }),
        Body::Tell(Tell { to: vec![session(2).expect("one"); 2], message: message() }),
        Body::Deliver(Deliver { to: vec![session(2).expect("one")], delivery: Some(delivery()) }),
        Body::DeliverWithheld(DeliverWithheld { to: session(2), room: room(), gone: false, missed: vec![delivery()] }),
        Body::Close(Close { session: session(2), code: 0x0c }),
        Body::Withheld(Withheld { from: session(1), room: room(), after: 8 }),
        Body::Interest(Interest {
            alias: ALIAS,
            from: Some(Address { node: 1, shard: 3 }),
            demand: Some(Demand {
                subscribers: 4,
                sent: 3,
                temporal_layer_max: 2,
                spatial_layer_max: 1,
                bits_per_second: 900_000,
            }),
            fresh: session(1),
        }),
        Body::Keyframe(Keyframe { alias: ALIAS }),
        Body::TrackEnded(TrackEnded { alias: ALIAS }),
        Body::Mls(SendMls {
            from: session(1),
            member: 6,
            request: 7,
            sent: Some(control::SendMls {
                room: room(),
                epoch: 5,
                commit: true,
                payload: bytes(0x40, 4),
                join_key: bytes(0x70, 32),
            }),
        }),
        Body::CatchUp(CatchUp {
            from: session(1),
            device: bytes(0x50, 32),
            request: 7,
            wanted: Some(control::CatchUp { room: room(), after_sequence: 8 }),
        }),
        Body::RejectCommit(RejectCommit {
            from: session(1),
            member: 6,
            request: 7,
            rejected: Some(control::RejectCommit { room: room(), epoch: 5, sequence: 9 }),
        }),
        Body::Evict(Evict { session: session(2), room: room(), member: 6, kicker: session(1), request: 7 }),
        Body::FromNode(FromNode { words: bytes(0x80, 4) }),
    ];
    bodies.into_iter().map(|body| (name(&body).to_owned(), Mail { body: Some(body) })).collect()
}

/// The name of the variant that it really is.
fn name(body: &Body) -> &'static str {
    match body {
        Body::Send(_) => "Mail.send",
        Body::Tell(_) => "Mail.tell",
        Body::Deliver(_) => "Mail.deliver",
        Body::DeliverWithheld(_) => "Mail.deliver_withheld",
        Body::Close(_) => "Mail.close",
        Body::Withheld(_) => "Mail.withheld",
        Body::Interest(_) => "Mail.interest",
        Body::Keyframe(_) => "Mail.keyframe",
        Body::TrackEnded(_) => "Mail.track_ended",
        Body::Mls(_) => "Mail.mls",
        Body::CatchUp(_) => "Mail.catch_up",
        Body::RejectCommit(_) => "Mail.reject_commit",
        Body::Evict(_) => "Mail.evict",
        Body::FromNode(_) => "Mail.from_node",
    }
}

fn bytes(first: u8, length: u8) -> Bytes {
    count(first, length).into()
}
