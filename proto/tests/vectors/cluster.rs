//! One example of every kind of mail between nodes.

use prost::bytes::Bytes;
use supernode_proto::{
    cluster::{
        Address, Ask, CatchUp, Close, Deliver, DeliverWithheld, Demand, Door, Evict, Fence, FromHome, FromNode, Gone,
        Inside, Insider, Interest, IsOut, Join, Keyframe, Leave, Mail, NodeHello, Publish, Send, Session, Tell,
        TrackCame, TrackEnded, ask::What, mail::Body,
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
        Body::Ask(ask(What::Leave(Leave { away: true }))),
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
        Body::NotHome(ask(What::Kick(2))),
        Body::FromHome(Box::new(FromHome {
            room: room(),
            fence: fence(),
            mail: Some(Box::new(Mail { body: Some(Body::TrackEnded(TrackEnded { alias: ALIAS })) })),
        })),
        Body::TrackCame(TrackCame {
            alias: ALIAS,
            room: room(),
            member: 6,
            publisher: session(1),
            kind: control::TrackKind::Video.into(),
            activity: true,
        }),
        Body::Evict(Evict { session: session(2), room: room(), member: 6, kicker: session(1), request: 7 }),
        Body::FromNode(FromNode { words: bytes(0x80, 4) }),
        Body::Inside(Inside {
            to: session(2),
            request: 7,
            members: vec![Insider { identity: bytes(0x50, 32), session: session(3) }],
        }),
    ];
    let named = |body| (name(&body).to_owned(), Mail { body: Some(body) });
    let asks = every_ask().into_iter().map(|what| {
        let name = name_of_ask(&what).to_owned();
        (name, Mail { body: Some(Body::Ask(ask(what))) })
    });
    bodies.into_iter().map(named).chain(asks).collect()
}

fn fence() -> Option<Fence> {
    Some(Fence { epoch: 2, revision: 300 })
}

fn ask(what: What) -> Ask {
    let from = Some(Session { node: 1, shard: 3, link: 4, generation: 5 });
    Ask { from, room: bytes(0x30, 16), member: 6, request: 7, fence: fence(), what: Some(what) }
}

/// Everything that can be asked of a room.
fn every_ask() -> Vec<What> {
    let room = || bytes(0x30, 16);
    vec![
        What::Join(Join {
            identity: bytes(0x50, 32),
            device: bytes(0x60, 32),
            join_key: bytes(0x70, 32),
            may_open: true,
            mls_epoch: 5,
        }),
        What::Leave(Leave { away: true }),
        What::Gone(Gone {}),
        What::Kick(2),
        What::Rotate(bytes(0x70, 32)),
        What::Beacon(control::PostBeacon {
            room: room(),
            epoch: 5,
            digest: bytes(0x20, 32),
            signature: bytes(0x90, 64),
        }),
        What::Mls(control::SendMls {
            room: room(),
            epoch: 5,
            commit: true,
            payload: bytes(0x40, 4),
            join_key: bytes(0x70, 32),
        }),
        What::CatchUp(CatchUp { device: bytes(0x60, 32), after: 8 }),
        What::Reject(control::RejectCommit { room: room(), epoch: 5, sequence: 9 }),
        What::Withheld(8),
        What::Publish(Publish {
            alias: ALIAS,
            kind: control::TrackKind::Video.into(),
            label: bytes(0x80, 4),
            activity: true,
            mls_epoch: 5,
        }),
        What::Relabel(control::RelabelTrack { alias: ALIAS, label: bytes(0x80, 4), mls_epoch: 6 }),
        What::Unpublish(ALIAS),
        What::IsOut(IsOut { kicker: Some(Session { node: 3, shard: 2, link: 1, generation: 6 }), request: 9 }),
        What::Door(Door {}),
    ]
}

fn name_of_ask(what: &What) -> &'static str {
    match what {
        What::Join(_) => "Ask.join",
        What::Leave(_) => "Ask.leave",
        What::Gone(_) => "Ask.gone",
        What::Kick(_) => "Ask.kick",
        What::Rotate(_) => "Ask.rotate",
        What::Beacon(_) => "Ask.beacon",
        What::Mls(_) => "Ask.mls",
        What::CatchUp(_) => "Ask.catch_up",
        What::Reject(_) => "Ask.reject",
        What::Withheld(_) => "Ask.withheld",
        What::Publish(_) => "Ask.publish",
        What::Relabel(_) => "Ask.relabel",
        What::Unpublish(_) => "Ask.unpublish",
        What::IsOut(_) => "Ask.is_out",
        What::Door(_) => "Ask.door",
    }
}

/// The name of the variant that it really is.
fn name(body: &Body) -> &'static str {
    match body {
        Body::Send(_) => "Mail.send",
        Body::Tell(_) => "Mail.tell",
        Body::Deliver(_) => "Mail.deliver",
        Body::DeliverWithheld(_) => "Mail.deliver_withheld",
        Body::Close(_) => "Mail.close",
        Body::Ask(_) => "Mail.ask",
        Body::Interest(_) => "Mail.interest",
        Body::Keyframe(_) => "Mail.keyframe",
        Body::TrackEnded(_) => "Mail.track_ended",
        Body::NotHome(_) => "Mail.not_home",
        Body::FromHome(_) => "Mail.from_home",
        Body::TrackCame(_) => "Mail.track_came",
        Body::Evict(_) => "Mail.evict",
        Body::FromNode(_) => "Mail.from_node",
        Body::Inside(_) => "Mail.inside",
    }
}

fn bytes(first: u8, length: u8) -> Bytes {
    count(first, length).into()
}
