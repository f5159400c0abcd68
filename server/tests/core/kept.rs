//! Whatever outlives its message is as large as itself, and not as large as what it came in.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, decode_key, encode_key, encode_varint},
};
use supernode_keys::JoinSecret;
use supernode_proto::{
    control::{
        AnswerRing, CancelRing, CatchUp, ClientMessage, DeclineRing, DepositKeyPackages, KickMember, LeaveRoom,
        LimitTickets, MESSAGE_NAMES, PostBeacon, PresenceState, PublishTrack, RejectCommit, RelabelTrack,
        RequestKeyframe, Ring, RotateJoinKey, SendMls, SetPresence, SetPushEndpoint, Subscribe, TakeKeyPackages,
        TrackKind, UnpublishTrack, Unsubscribe, Unwatch, Watch, client_message::Body as Request, relay_message::Body,
    },
    identity::{EPOCH_DIGEST_BYTES, RoomId, SIGNATURE_BYTES},
    mls::Envelope,
    object::TrackAlias,
};

use supernode_server::{
    control::config::memory,
    core::{SUBSCRIPTION_BYTES, TRACK_BYTES, WATCH_BYTES, limits::Limits},
};

use crate::{
    allocations::live_bytes,
    world::{At, Person, World},
};

/// What a newer client may add, or somebody who wants the relay to keep it.
const PADDING_BYTES: usize = 60_000;
/// What a request of this test may leave behind: its fields take less than 200 bytes, tables grow in steps.
const KEPT_BYTES_MAX: i64 = 6_000;
/// Which epoch the group of a room in this world is in when it is opened.
const EPOCH: u64 = 3;
/// A field that no message has.
const UNKNOWN: u32 = 1_000;

/// Two in a room on two shards, each with a track that the other takes, and with a ring to the other.
struct Stage {
    world: World,
    alice: (At, Person),
    bob: (At, Person),
    own: TrackAlias,
    other: TrackAlias,
    room: Bytes,
    to_alice: Bytes,
    from_alice: Bytes,
}

impl Stage {
    fn new() -> Self {
        let mut world = World::new(2, 1);
        let room = RoomId([1; 16]);
        let people = [Person::new(1), Person::new(2)];
        let at = [0, 1].map(|place| world.connect(&people[place], place));
        let mut tracks = Vec::new();
        for (at, person) in at.iter().zip(&people) {
            world.join(*at, person, room);
            world.settle();
            let label = Bytes::from_static(b"first");
            let room = Bytes::copy_from_slice(&room.0);
            world.ask(
                *at,
                Request::PublishTrack(PublishTrack {
                    room,
                    kind: TrackKind::Video.into(),
                    label,
                    activity: false,
                    mls_epoch: 0,
                }),
            );
            world.settle();
            tracks.push(world.published());
        }
        for (at, alias) in [(at[0], tracks[1]), (at[1], tracks[0])] {
            world.ask(at, Request::Subscribe(Subscribe { alias: alias.value(), ..Subscribe::default() }));
            let last_resort = Bytes::from_static(b"package");
            let deposit = DepositKeyPackages { last_resort, ..DepositKeyPackages::default() };
            world.ask(at, Request::DepositKeyPackages(deposit));
            world.settle();
        }
        let [alice, bob] = people;
        let payload = Envelope { room, epoch: EPOCH, commit: true }.around(b"c").into();
        let commit = SendMls { room: vec![1; 16].into(), epoch: EPOCH, commit: true, payload, ..SendMls::default() };
        world.ask(at[1], Request::SendMls(commit));
        let mut rings = [(at[0], &bob), (at[1], &alice)].map(|(at, callee)| {
            let payload = Bytes::from_static(b"ring");
            let ticket = callee.ticket(world.now);
            let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
            world.ask(at, Request::TakeKeyPackages(take.clone()));
            world.ask(at, Request::Ring(Ring { ticket, payload, ..Ring::default() }));
            // To ring once more.
            world.ask(at, Request::TakeKeyPackages(take));
            world.settle();
            let started = world.sent.iter().rev().find_map(|(_, message)| match &message.body {
                Some(Body::RingStarted(started)) => Some(started.ring.clone()),
                _ => None,
            });
            started.unwrap()
        });
        Self {
            own: tracks[0],
            other: tracks[1],
            room: Bytes::copy_from_slice(&room.0),
            from_alice: std::mem::take(&mut rings[0]),
            to_alice: std::mem::take(&mut rings[1]),
            alice: (at[0], alice),
            bob: (at[1], bob),
            world,
        }
    }

    /// What Alice asks, by its name in the schema, so that the relay agrees to it.
    fn request(&self, name: &str) -> Option<Request> {
        let small = || Bytes::from_static(b"small");
        let (room, ticket) = (self.room.clone(), self.bob.1.ticket(self.world.now));
        let (own, other) = (self.own.value(), self.other.value());
        Some(match name {
            "hello" => return None, // a session says none
            "set_presence" => {
                Request::SetPresence(SetPresence { state: PresenceState::Online.into(), status: small() })
            }
            "limit_tickets" => Request::LimitTickets(LimitTickets { generation: 1, blocked: vec![vec![3; 32].into()] }),
            "set_push_endpoint" => {
                Request::SetPushEndpoint(SetPushEndpoint { endpoint: "https://push.example/small".into() })
            }
            "watch" => Request::Watch(Watch { ticket, ..Watch::default() }),
            "unwatch" => Request::Unwatch(Unwatch { identity: vec![2; 32].into() }),
            "deposit_key_packages" => {
                let packages = vec![Bytes::from_static(b"1"); 31];
                Request::DepositKeyPackages(DepositKeyPackages { packages, last_resort: small() })
            }
            "take_key_packages" => Request::TakeKeyPackages(TakeKeyPackages { ticket, ..TakeKeyPackages::default() }),
            "ring" => Request::Ring(Ring { ticket, payload: small(), ..Ring::default() }),
            "answer_ring" => Request::AnswerRing(AnswerRing { ring: self.to_alice.clone(), payload: small() }),
            "decline_ring" => Request::DeclineRing(DeclineRing { ring: self.to_alice.clone(), busy: false }),
            "cancel_ring" => Request::CancelRing(CancelRing { ring: self.from_alice.clone() }),
            "join_room" => {
                let channel = self.alice.1.channel();
                Request::JoinRoom(channel.join(&RoomId([2; 16]), &JoinSecret::from_bytes(&[7; 32]), 0))
            }
            "leave_room" => Request::LeaveRoom(LeaveRoom { room }),
            "kick_member" => Request::KickMember(KickMember { room, member: 2 }),
            "rotate_join_key" => Request::RotateJoinKey(RotateJoinKey { room, join_key: vec![4; 32].into() }),
            "send_mls" => {
                let payload = Envelope { room: RoomId([1; 16]), epoch: 0, commit: false }.around(b"small").into();
                Request::SendMls(SendMls { room, payload, ..SendMls::default() })
            }
            "post_beacon" => {
                let (digest, signature) = (vec![5; EPOCH_DIGEST_BYTES].into(), vec![6; SIGNATURE_BYTES].into());
                Request::PostBeacon(PostBeacon { room, epoch: 0, digest, signature })
            }
            "publish_track" => {
                let kind = TrackKind::Audio.into();
                Request::PublishTrack(PublishTrack { room, kind, label: small(), activity: false, mls_epoch: 0 })
            }
            "unpublish_track" => Request::UnpublishTrack(UnpublishTrack { alias: own }),
            "subscribe" => Request::Subscribe(Subscribe { alias: other, ..Subscribe::default() }),
            "unsubscribe" => Request::Unsubscribe(Unsubscribe { alias: other }),
            "request_keyframe" => Request::RequestKeyframe(RequestKeyframe { alias: other }),
            "catch_up" => Request::CatchUp(CatchUp { room, after_sequence: 0 }),
            "reject_commit" => Request::RejectCommit(RejectCommit { room, epoch: EPOCH, sequence: 1 }),
            "relabel_track" => Request::RelabelTrack(RelabelTrack { alias: own, label: small(), mls_epoch: 0 }),
            new => panic!("{new}: say how it is asked, so that what it leaves behind is looked at"),
        })
    }
}

/// A request with a field in it that nobody knows, as a message with its length.
fn padded(body: Request) -> BytesMut {
    let plain = ClientMessage { request: 1, body: Some(body) }.encode_to_vec();
    let mut rest = &plain[..];
    let (mut tag, mut wire_type) = decode_key(&mut rest).unwrap();
    if tag == 1 {
        prost::encoding::decode_varint(&mut rest).unwrap();
        (tag, wire_type) = decode_key(&mut rest).unwrap();
    }
    assert_eq!(wire_type, WireType::LengthDelimited, "a body is a message");
    let mut unknown = BytesMut::new();
    encode_key(UNKNOWN, WireType::LengthDelimited, &mut unknown);
    encode_varint(PADDING_BYTES as u64, &mut unknown);
    unknown.put_bytes(7, PADDING_BYTES);
    // What comes a second time is merged with what came first.
    let mut message = BytesMut::from(&plain[..]);
    encode_key(tag, WireType::LengthDelimited, &mut message);
    encode_varint(unknown.len() as u64, &mut message);
    message.extend_from_slice(&unknown);
    let mut framed = BytesMut::new();
    encode_varint(message.len() as u64, &mut framed);
    framed.extend_from_slice(&message);
    framed
}

#[test]
fn whatever_a_request_leaves_behind_is_no_larger_than_its_fields() {
    let names = MESSAGE_NAMES.iter().filter_map(|name| name.strip_prefix("ClientMessage."));
    let mut asked = 0;
    for name in names {
        let mut stage = Stage::new();
        let Some(mut request) = stage.request(name) else { continue };
        stage.world.show(stage.alice.0, &mut request);
        let bytes = padded(request);
        let world = &mut stage.world;
        world.sent = Vec::new();
        let before = live_bytes();
        world.ask_bytes(stage.alice.0, &bytes);
        world.settle();
        let refused = world.sent.iter().any(|(_, message)| matches!(message.body, Some(Body::Refused(_))));
        assert!(!refused && !world.sent.is_empty(), "{name} was not carried out: {:?}", world.sent);
        world.sent = Vec::new();
        let kept = live_bytes() - before;
        assert!(kept < KEPT_BYTES_MAX, "{name} of {} bytes leaves {kept} behind", bytes.len());
        asked += 1;
    }
    assert!(asked > 20, "{asked} requests");
}

/// What one of something takes at most, on average over so many that tables have grown several times.
fn each(what: &str, bound: usize, world: &mut World, mut add: impl FnMut(&mut World, usize)) {
    const MANY: usize = 600;
    world.sent = Vec::new();
    let before = live_bytes();
    let mut most = 0;
    for number in 0..MANY {
        add(world, number);
        world.settle();
        world.sent = Vec::new();
        // A table that has just doubled is half empty; a few entries share what it takes to begin one.
        if number >= 100 {
            most = most.max((live_bytes() - before) / (number as i64 + 1));
        }
    }
    assert!(most <= bound as i64, "{what} takes {most} bytes, and counts {bound}");
    assert!(most * 4 >= bound as i64, "{what} takes {most} bytes, far less than the {bound} that it counts");
}

//
#[test]
fn watches_subscriptions_and_tracks_take_what_they_count_for() {
    let many = 10_000;
    let limits = Limits {
        requests_per_second_max: 1 << 20,
        watches_max: many,
        tracks_max: many,
        subscriptions_max: many,
        ..Limits::default()
    };
    let mut world = World::with_limits(1, 1, limits);
    let (alice, bob) = (Person::new(1), Person::new(2));
    let (publisher, subscriber) = (world.connect(&alice, 0), world.connect(&bob, 0));
    for (at, person) in [(publisher, &alice), (subscriber, &bob)] {
        world.join(at, person, RoomId([1; 16]));
    }
    each("a watch", WATCH_BYTES, &mut world, |world, number| {
        let ticket = Person::numbered(number as u64).ticket(world.now);
        world.ask(subscriber, Request::Watch(Watch { ticket, ..Watch::default() }));
    });
    let mut tracks = Vec::new();
    each("a track", TRACK_BYTES, &mut world, |world, _| {
        let (room, label) = (vec![1; 16].into(), vec![7; 512].into());
        let wanted = PublishTrack { room, kind: TrackKind::Video.into(), label, activity: false, mls_epoch: 0 };
        world.ask(publisher, Request::PublishTrack(wanted));
        let alias = world.published();
        tracks.push(alias);
    });
    each("a subscription", SUBSCRIPTION_BYTES, &mut world, |world, number| {
        world.ask(subscriber, Request::Subscribe(Subscribe { alias: tracks[number].value(), ..Subscribe::default() }));
    });
}

/// A room, and so many people who have a session.
fn people(world: &mut World, first: usize, count: usize) -> Vec<(At, Person)> {
    (first..first + count)
        .map(|number| {
            let person = Person::numbered(number as u64);
            (world.connect(&person, 0), person)
        })
        .collect()
}

fn assert_estimate(what: &str, bytes: i64, counted: u64) {
    eprintln!("{what}: {bytes} bytes, counted as {counted}");
    assert!(bytes <= counted as i64, "{what} takes {bytes} bytes, and counts {counted}");
    assert!(bytes * 3 >= counted as i64, "{what} takes {bytes} bytes, far less than the {counted} that it counts");
}

//
#[test]
fn a_room_a_membership_and_an_account_take_what_the_memory_table_says() {
    let (room, rooms) = (RoomId([1; 16]), 8);
    let limits = Limits { requests_per_second_max: 1 << 20, accounts_idle_max: 1, ..Limits::default() };
    let mut world = World::with_limits(1, 1, limits.clone());
    let there = people(&mut world, 0, 100);
    let quiet = |world: &mut World| {
        world.settle();
        world.sent = Vec::new();
        live_bytes()
    };
    // Everybody is in as many rooms as one may be, all of which are there already.
    for place in 0..rooms {
        world.join(there[0].0, &there[0].1, RoomId([1 + place; 16]));
    }
    let before = quiet(&mut world);
    for (at, person) in &there[1..] {
        (0..rooms).for_each(|place| world.join(*at, person, RoomId([1 + place; 16])));
    }
    let memberships = (quiet(&mut world) - before) / (there.len() - 1) as i64;

    // A room whose mailbox is full of empty messages, whose payloads are counted elsewhere, and from which as many are away
    // as can be.
    let before = quiet(&mut world);
    let payload: Vec<u8> = Envelope { room, epoch: 0, commit: false }.around(b"");
    for _ in 0..limits.mailbox_messages_max {
        let payload = payload.clone().into();
        world.ask(there[0].0, Request::SendMls(SendMls { room: vec![1; 16].into(), payload, ..SendMls::default() }));
        world.settle();
    }
    let payloads = (limits.mailbox_messages_max * payload.len()) as i64;
    let messages = quiet(&mut world) - before - payloads;
    // What any session leaves in this world, which uses no place twice, is not the room's.
    let mut come_and_go = |first: usize, joins: bool| {
        let before = quiet(&mut world);
        for number in first..first + limits.room_members_max {
            let [(at, person)] = &people(&mut world, number, 1)[..] else { unreachable!() };
            if joins {
                world.join(*at, person, room);
                world.settle();
            }
            world.leave(*at, false);
        }
        world.advance(Duration::from_secs(30));
        quiet(&mut world) - before
    };
    // Tables have room for all of them before it counts.
    for round in 1..5 {
        come_and_go(1_000 * round, false);
    }
    let away = -come_and_go(6_000, false) + come_and_go(7_000, true);
    eprintln!("of a room: {messages} bytes for messages, {away} for those who are away");

    let many = 3_000;
    let left_by = |accounts_idle_max| {
        let mut world = World::with_limits(1, 1, Limits { accounts_idle_max, ..Limits::default() });
        let before = quiet(&mut world);
        for number in 0..many {
            let [(at, _)] = &people(&mut world, number, 1)[..] else { unreachable!() };
            let online = SetPresence { state: PresenceState::Online.into(), status: Bytes::new() };
            world.ask(*at, Request::SetPresence(online));
            world.leave(*at, true);
        }
        let left = quiet(&mut world) - before;
        assert_eq!(world.directory.accounts(), many.min(accounts_idle_max as usize));
        left
    };
    let account = (left_by(many as u32) - left_by(1)) / many as i64;
    eprintln!("{account} bytes an account");
    assert_estimate("eight memberships", memberships, memory::MEMBERSHIPS_BYTES);
    assert_estimate("a room", messages + away, memory::ROOM_BYTES);
    assert_estimate("an account", account, memory::ACCOUNT_BYTES);
}
