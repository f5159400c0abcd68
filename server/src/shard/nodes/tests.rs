//! What nodes say to each other, without links.

use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use supernode_proto::{
    cluster::{self as wire, LETTER_BYTES, Letter as WireLetter},
    control::{Done, MlsDelivery, PostBeacon, RejectCommit, RelayMessage, SendMls, TrackKind, relay_message::Body},
    identity::{DeviceKey, IdentityKey, JoinKey, RelayPin, RoomId},
    object::TrackAlias,
};

use super::{words::Reader, *};
use crate::core::{Asked, ClientMail, Fence, Joining, Publishing, RoomAsk, SessionId, TrackShown, forward::Demand};

const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);
/// This shard is written to.
const TO: ShardId = ShardId(3);
const READER: Reader = Reader { from: THERE, here: HERE, shards: 4 };

fn session(node: NodeId, shard: ShardId) -> SessionId {
    SessionId { at: Address { node, shard }, link: 7, generation: 9 }
}

const ROOM: RoomId = RoomId([3; 16]);
const FENCE: Fence = Fence { epoch: 2, revision: 9 };

/// A track that a session there publishes.
fn their_alias() -> TrackAlias {
    TrackAlias::new(u64::from(THERE.0) << 30 | 77).expect("small")
}

fn delivery() -> MlsDelivery {
    MlsDelivery { room: vec![3; 16].into(), payload: Bytes::from_static(b"sealed"), ..MlsDelivery::default() }
}

/// Everything that a session there may want of a room.
fn every_ask() -> Vec<Asked> {
    let (alias, label) = (their_alias(), Bytes::from_static(b"label"));
    let room = || Bytes::from(vec![3; 16]);
    let (identity, device, join_key) = (IdentityKey::new([6; 32]), DeviceKey::new([8; 32]), JoinKey::new([7; 32]));
    vec![
        Asked::Join(Joining { identity, device, join_key, may_open: true, mls_epoch: 4 }),
        Asked::Leave { is_away: true },
        Asked::Gone,
        Asked::Kick(3),
        Asked::IsOut { kicker: session(NodeId(3), TO), request: 8 },
        Asked::Door,
        Asked::Rotate(join_key),
        Asked::Beacon(PostBeacon { room: room(), epoch: 1, ..PostBeacon::default() }),
        Asked::Mls(SendMls { room: room(), payload: Bytes::from_static(b"sealed"), ..SendMls::default() }),
        Asked::CatchUp { device, after: 1 },
        Asked::Reject(RejectCommit { room: room(), epoch: 1, sequence: 2 }),
        Asked::Withheld { after: 5 },
        Asked::Publish(Publishing {
            alias,
            kind: TrackKind::Audio,
            label: label.clone(),
            activity: true,
            mls_epoch: 1,
        }),
        Asked::Relabel { alias, label, mls_epoch: 2 },
        Asked::Unpublish(alias),
    ]
}

fn ask(from: SessionId, what: Asked) -> Box<RoomAsk> {
    Box::new(RoomAsk { room: ROOM, from, member: 2, request: 6, what })
}

fn from_home(mail: ControlMail) -> ControlMail {
    ControlMail::FromHome { from: THERE, room: ROOM, fence: FENCE, mail: Box::new(mail) }
}

/// What a home there says of a room.
fn every_word_of_a_home() -> Vec<ControlMail> {
    let (ours, room) = (session(HERE, TO), ROOM);
    let message = RelayMessage { reply_to: 4, body: Some(Body::Done(Done {})) };
    let of_third = SessionId { at: Address { node: NodeId(3), shard: TO }, ..ours };
    let (member, kind, activity) = (4, TrackKind::Video, true);
    let alias = TrackAlias::new(3 << 30 | 5).expect("small");
    let withheld = |missed| ControlMail::Client(ClientMail::DeliverWithheld { to: ours, room, missed });
    vec![
        ControlMail::Client(ClientMail::Send { to: ours, message: message.clone() }),
        ControlMail::Client(ClientMail::Tell { to: vec![ours; 3], message }),
        ControlMail::Client(ClientMail::Deliver { to: vec![ours], delivery: delivery() }),
        withheld(Some(vec![delivery(); 2])),
        withheld(Some(vec![])),
        withheld(None),
        ControlMail::Evict { session: ours, room, member: 2, kicker: Some((of_third, 8)) },
        ControlMail::Evict { session: ours, room, member: 2, kicker: None },
        ControlMail::TrackCame(alias, TrackShown { room, member, publisher: of_third, kind, activity }),
        ControlMail::TrackEnded { alias },
        ControlMail::Inside { to: ours, request: 4, members: vec![(IdentityKey::new([6; 32]), of_third)] },
    ]
}

/// One of each kind, from there to here.
fn every_mail() -> Vec<ControlMail> {
    let (ours, theirs) = (session(HERE, TO), session(THERE, ShardId(200)));
    let message = RelayMessage { reply_to: 4, body: Some(Body::Done(Done {})) };
    let alias = their_alias();
    let demand =
        Demand { subscribers: 3, sent: 2, temporal_layer_max: 1, spatial_layer_max: 2, bits_per_second: 900_000 };
    let mut mails = vec![
        ControlMail::Client(ClientMail::Send { to: ours, message: message.clone() }),
        ControlMail::Client(ClientMail::Tell { to: vec![ours; 3], message }),
        ControlMail::Client(ClientMail::Close { session: ours, code: CloseCode::REPLACED }),
        ControlMail::Interest { alias, from: theirs.at, demand, fresh: Some(theirs) },
        ControlMail::Interest { alias, from: theirs.at, demand: Demand::default(), fresh: None },
        ControlMail::Keyframe { alias },
        ControlMail::TrackEnded { alias },
        ControlMail::NotHome(ask(ours, Asked::Kick(1)), FENCE),
        ControlMail::FromNode { from: THERE, words: Bytes::from_static(b"words") },
    ];
    mails.extend(every_ask().into_iter().map(|what| ControlMail::AskHome(ask(theirs, what), FENCE)));
    mails.extend(every_word_of_a_home().into_iter().map(from_home));
    mails
}

/// What stands behind a frame's length.
fn body(frame: &[u8]) -> Bytes {
    let mut reader = FrameReader::default();
    reader.push(frame);
    reader.next_frame(LETTER_BYTES).expect("a length").expect("whole")
}

//
#[test]
fn every_mail_that_may_travel_comes_as_it_was_sent() {
    for mail in every_mail() {
        let frames = words::frames(TO, std::slice::from_ref(&mail)).expect("it fits");
        assert_eq!(frames.len(), 1, "{mail:?}");
        let (to, read) = READER.read(&body(&frames[0])).unwrap_or_else(|_| panic!("{mail:?}"));
        assert_eq!(to, TO);
        assert_eq!(format!("{read:?}"), format!("{:?}", [&mail]));
        assert_eq!(words::frames(TO, &read), Some(frames), "{mail:?}");
    }
    let all = words::frames(TO, &every_mail()).expect("they fit");
    assert_eq!(all.len(), 1, "a letter is one frame, if that is large enough");
    assert_eq!(READER.read(&body(&all[0])).expect("a letter").1.len(), every_mail().len());
}

//
#[test]
fn a_letter_that_is_too_large_is_cut_where_a_mail_ends() {
    let words = |bytes| ControlMail::FromNode { from: THERE, words: vec![5; bytes].into() };
    let mail: Vec<ControlMail> = (0..30).map(|_| words(100_000)).collect();
    let frames = words::frames(TO, &mail).expect("each fits");
    assert_eq!(frames.len(), 3);
    let read: usize = frames.iter().map(|frame| READER.read(&body(frame)).expect("a letter").1.len()).sum();
    assert_eq!(read, 30);
    let many: Vec<ControlMail> = (0..3_000).map(|_| words(1)).collect();
    let frames = words::frames(TO, &many).expect("each fits");
    assert!(frames.len() == 3 && frames.iter().all(|frame| READER.read(&body(frame)).is_ok()));
    assert_eq!(words::frames(TO, &[words(LETTER_BYTES)]), None, "one that is too large by itself");
    assert_eq!(words::frames(TO, &[ControlMail::NodeGone(HERE)]), Some(vec![]), "it is no node's to say");
}

#[test]
fn what_is_missed_and_fits_no_letter_is_as_if_it_were_gone() {
    let delivery = MlsDelivery { payload: vec![0; 60_000].into(), ..delivery() };
    let is_gone = |count| {
        let missed = Some(vec![delivery.clone(); count]);
        let mail = ClientMail::DeliverWithheld { to: session(HERE, TO), room: RoomId([3; 16]), missed };
        let frames = words::frames(TO, &[from_home(ControlMail::Client(mail))]).expect("it fits");
        let (_, mail) = READER.read(&body(&frames[0])).expect("a letter");
        let [ControlMail::FromHome { mail, .. }] = &mail[..] else { panic!("{mail:?}") };
        matches!(**mail, ControlMail::Client(ClientMail::DeliverWithheld { missed: None, .. }))
    };
    assert!(!is_gone(15) && is_gone(16));
}

//
#[test]
fn a_node_speaks_for_its_own_sessions_and_to_those_of_the_shard_that_it_writes_to() {
    let read = |reader: Reader, mail: ControlMail| {
        let frames = words::frames(TO, &[mail]).expect("it fits");
        reader.read(&body(&frames[0])).map(|_| ())
    };
    for mail in every_mail() {
        let of_there =
            matches!(mail, ControlMail::AskHome(..) | ControlMail::Interest { .. } | ControlMail::TrackEnded { .. });
        let from_another = read(Reader { from: NodeId(4), ..READER }, mail.clone());
        assert_eq!(from_another.is_err(), of_there, "{mail:?} by a node that is not theirs");
        let to_ours = match &mail {
            ControlMail::FromHome { mail, .. } => {
                matches!(**mail, ControlMail::Client(_) | ControlMail::Evict { .. } | ControlMail::Inside { .. })
            }
            mail => matches!(mail, ControlMail::Client(_) | ControlMail::NotHome(..)),
        };
        let to_another = read(Reader { here: NodeId(4), ..READER }, mail.clone());
        assert_eq!(to_another.is_err(), to_ours, "{mail:?} to a node that is not ours");
        assert_eq!(read(Reader { shards: 3, ..READER }, mail), Err(words::NoMail), "there is no such shard");
    }
}

//
#[test]
fn what_does_not_fit_its_field_is_refused() {
    use wire::{ask::What, mail::Body as Mail};
    let refused = |body: Option<Mail>| {
        let letter = WireLetter { shard: TO.0.into(), mail: vec![wire::Mail { body }] };
        assert_eq!(READER.read(&prost::Message::encode_to_vec(&letter)).map(|_| ()), Err(words::NoMail), "{letter:?}");
    };
    let ours = || Some(wire::Session { node: 1, shard: 3, link: 0, generation: 0 });
    let theirs = || Some(wire::Session { node: 2, shard: 3, link: 0, generation: 0 });
    let long = || Bytes::from(vec![0; 60 * 1024 + 1]);
    refused(None);
    refused(Some(Mail::Keyframe(wire::Keyframe { alias: u64::MAX })));
    refused(Some(Mail::Send(wire::Send { to: None, message: Some(RelayMessage::default()) })));
    refused(Some(Mail::Send(wire::Send { to: ours(), message: None })));
    let by_home = |body: Mail| {
        let fence = Some(wire::Fence::default());
        let mail = Some(Box::new(wire::Mail { body: Some(body) }));
        refused(Some(Mail::FromHome(Box::new(wire::FromHome { room: vec![3; 16].into(), fence, mail }))));
    };
    let delivery = MlsDelivery { payload: long(), ..delivery() };
    by_home(Mail::Deliver(wire::Deliver { to: vec![], delivery: Some(delivery.clone()) }));
    let nowhere = MlsDelivery { payload: Bytes::new(), room: Bytes::new(), ..delivery.clone() };
    by_home(Mail::Deliver(wire::Deliver { to: vec![], delivery: Some(nowhere) }));
    let too_long = RelayMessage {
        reply_to: 0,
        body: Some(Body::MlsDelivery(MlsDelivery { payload: vec![0; 65_536].into(), ..delivery })),
    };
    refused(Some(Mail::Tell(wire::Tell { to: vec![], message: Some(too_long) })));
    let asked = |from: Option<wire::Session>, room: Vec<u8>, what: Option<What>| {
        let fence = Some(wire::Fence::default());
        refused(Some(Mail::Ask(wire::Ask { from, room: room.into(), member: 1, request: 1, fence, what })));
    };
    let (room, withheld) = (|| vec![3; 16], || Some(What::Withheld(1)));
    asked(theirs(), vec![3; 15], withheld());
    asked(Some(wire::Session { node: 65_538, shard: 3, link: 0, generation: 0 }), room(), withheld());
    asked(Some(wire::Session { node: 2, shard: 256, link: 0, generation: 0 }), room(), withheld());
    asked(theirs(), room(), None);
    asked(theirs(), room(), Some(What::Join(wire::Join::default())));
    asked(theirs(), room(), Some(What::Rotate(Bytes::new())));
    let of_another_room = SendMls { room: vec![4; 16].into(), ..SendMls::default() };
    asked(theirs(), room(), Some(What::Mls(of_another_room)));
    let sent = SendMls { room: room().into(), payload: long(), ..SendMls::default() };
    asked(theirs(), room(), Some(What::Mls(sent)));
    // A track of another node.
    asked(theirs(), room(), Some(What::Unpublish(77)));
    let track = wire::Publish { alias: their_alias().value(), kind: 0, ..wire::Publish::default() };
    asked(theirs(), room(), Some(What::Publish(track)));
    let no_fence = wire::Ask { from: theirs(), room: room().into(), what: withheld(), ..wire::Ask::default() };
    refused(Some(Mail::Ask(no_fence)));
    // What a home alone says, said otherwise, and what is no home's to say.
    refused(Some(Mail::Evict(wire::Evict { session: ours(), room: room().into(), ..wire::Evict::default() })));
    refused(Some(Mail::TrackCame(wire::TrackCame { alias: 1, room: room().into(), kind: 1, ..Default::default() })));
    let insiders = |count, identity| wire::Inside {
        to: ours(),
        members: vec![wire::Insider { identity: vec![6; identity].into(), session: theirs() }; count],
        ..wire::Inside::default()
    };
    refused(Some(Mail::Inside(insiders(1, 32))));
    by_home(Mail::Inside(insiders(1, 31)));
    by_home(Mail::Inside(insiders(9, 32)));
    by_home(Mail::Keyframe(wire::Keyframe { alias: 1 }));
    by_home(Mail::FromHome(Box::default()));
    by_home(Mail::Evict(wire::Evict { session: ours(), room: vec![4; 16].into(), ..wire::Evict::default() }));
    let of_another =
        wire::TrackCame { alias: 1, room: room().into(), publisher: theirs(), kind: 1, ..Default::default() };
    by_home(Mail::TrackCame(of_another));
    let from = Some(wire::Address { node: 2, shard: 3 });
    for demand in [
        wire::Demand { subscribers: 1 << 21, ..Default::default() },
        wire::Demand { sent: 1, ..Default::default() },
        wire::Demand { spatial_layer_max: 256, ..Default::default() },
    ] {
        refused(Some(Mail::Interest(wire::Interest { alias: 1, from, demand: Some(demand), fresh: None })));
    }
}

proptest! {
    //
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let _ = READER.read(&bytes);
        let frames = words::frames(TO, &every_mail()).expect("they fit");
        let mut letter = body(&frames[0]).to_vec();
        let at = at.index(letter.len());
        letter[at] = to;
        let _ = READER.read(&letter);
        let _ = READER.read(&letter[..at]);
    }
}

fn key() -> NodeKey {
    let key = KeyPair::generate().expect("a key");
    NodeKey::new(key.subject_public_key_info(), move |message| key.sign(message).ok())
}

//
#[test]
fn a_hello_holds_on_its_own_connection_between_these_two_lives_and_nowhere_else() {
    let (ours, theirs, stranger) = (key(), key(), key());
    let provider = supernode_tls::provider();
    let address = "192.0.2.1:4433".parse().expect("an address");
    let book = NodeBook { node: THERE, life: 5, address, pin: theirs.pin() };
    let here = (HERE, Life(6));
    let exporter = [1; 32];
    let said = |key: &NodeKey| {
        let us = NodeBook { node: HERE, life: 6, address, pin: ours.pin() };
        hello::say(Speaker { node: THERE, life: Life(5), shard: TO }, key, &us, &exporter).expect("signed")
    };
    let check = |hello: &NodeHello, book: &NodeBook, here, exporter: &[u8; 32]| {
        hello::check(hello, book, here, &ours.pin(), exporter, &provider)
    };
    let good = said(&theirs);
    assert_eq!(check(&good, &book, here, &exporter), Some(Speaker { node: THERE, life: Life(5), shard: TO }));
    assert_eq!(check(&good, &book, here, &[2; 32]), None, "replayed on another connection");
    assert_eq!(check(&good, &book, (HERE, Life(7)), &exporter), None, "to an earlier life of ours");
    assert_eq!(check(&good, &book, (NodeId(3), Life(6)), &exporter), None, "to another node");
    assert_eq!(check(&good, &NodeBook { life: 4, ..book }, here, &exporter), None, "of another life of theirs");
    assert_eq!(check(&good, &NodeBook { pin: stranger.pin(), ..book }, here, &exporter), None, "of another pin");
    let other_pin = hello::check(&good, &book, here, &stranger.pin(), &exporter, &provider);
    assert_eq!(other_pin, None, "signed for another relay's pin");
    assert_eq!(check(&said(&stranger), &book, here, &exporter), None, "by a stranger's key");
    let forged = NodeHello { key: good.key.clone(), ..said(&stranger) };
    assert_eq!(check(&forged, &book, here, &exporter), None, "by a stranger, under the node's key");
    let changes: [fn(&mut NodeHello); 9] = [
        |hello| hello.version = 2,
        |hello| hello.node = 3,
        |hello| hello.life = 6,
        |hello| hello.shard = 4,
        |hello| hello.shard = 65_536 + 3,
        |hello| hello.to_node = 2,
        |hello| hello.to_life = 5,
        |hello| hello.key = Bytes::new(),
        |hello| hello.signature = Bytes::new(),
    ];
    for (place, change) in changes.iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(check(&changed, &book, here, &exporter), None, "change {place}");
    }
    assert_eq!(RelayPin::of_spki(&good.key), theirs.pin());
}
