//! One example of every control message.

use prost::{Message, bytes::Bytes};
use supernode_proto::control::{
    Allocation, AnswerRing, BeaconPosted, CancelRing, CatchUp, Challenge, ClientMessage, CommitRejected, DeclineRing,
    DepositKeyPackages, DeviceKeyPackage, DevicesRevoked, Done, GoAway, Hello, HelloBody, IncomingRing, JoinRoom,
    KeyPackages, KeyPackagesLow, KeyframeRequested, KickMember, LeaveRoom, LimitTickets, MemberJoined, MemberLeft,
    MlsDelivery, PostBeacon, Presence, PresenceState, PublishTrack, RefusalReason, Refused, RejectCommit, RelabelTrack,
    RelayMessage, RequestKeyframe, Ring, RingEnded, RingOutcome, RingResult, RingStarted, RoomJoined, RotateJoinKey,
    Rung, SendMls, SessionLimits, SetPresence, SetPushEndpoint, Subscribe, TakeKeyPackages, TrackAnnounced,
    TrackDemand, TrackEnded, TrackKind, TrackPublished, UnpublishTrack, Unsubscribe, Unwatch, Watch, WatchEnded,
    Welcome, client_message::Body as Ask, relay_message::Body as Tell,
};

use super::{count, identity};

const ALIAS: u64 = 0x1234_5678;
const ROOM: u8 = 0x30;
const RING: u8 = 0x50;

/// Every request, named `ClientMessage.field` after the variant it really is.
pub fn requests() -> Vec<(String, ClientMessage)> {
    let ring = || bytes(RING, 16);
    let room = || bytes(ROOM, 16);
    let bodies = [
        Ask::Hello(hello()),
        Ask::SetPresence(SetPresence { state: PresenceState::Away.into(), status: bytes(0x01, 8) }),
        Ask::Watch(Watch { ticket: ticket(), proof: bytes(0x91, 64) }),
        Ask::Unwatch(Unwatch { identity: bytes(0x10, 32) }),
        Ask::DepositKeyPackages(DepositKeyPackages {
            packages: vec![bytes(0x01, 4), bytes(0x05, 4)],
            last_resort: bytes(0x09, 4),
        }),
        Ask::TakeKeyPackages(TakeKeyPackages { ticket: ticket(), proof: bytes(0x92, 64) }),
        Ask::Ring(Ring {
            ticket: ticket(),
            payload: bytes(0x60, 8),
            proof: bytes(0x93, 64),
            room_key: bytes(0x74, 32),
        }),
        Ask::AnswerRing(AnswerRing { ring: ring(), payload: bytes(0x61, 8) }),
        Ask::DeclineRing(DeclineRing { ring: ring(), busy: true }),
        Ask::CancelRing(CancelRing { ring: ring() }),
        Ask::JoinRoom(JoinRoom {
            room: room(),
            join_key: bytes(0x70, 32),
            proof: bytes(0x90, 64),
            mls_epoch: 5,
            room_key: bytes(0x74, 32),
            room_proof: bytes(0x94, 64),
        }),
        Ask::LeaveRoom(LeaveRoom { room: room() }),
        Ask::KickMember(KickMember { room: room(), member: 3 }),
        Ask::RotateJoinKey(RotateJoinKey { room: room(), join_key: bytes(0x71, 32) }),
        Ask::SendMls(SendMls {
            room: room(),
            epoch: 5,
            commit: true,
            payload: bytes(0x62, 8),
            join_key: bytes(0x72, 32),
        }),
        Ask::PostBeacon(PostBeacon { room: room(), epoch: 5, digest: bytes(0x73, 32), signature: bytes(0x91, 64) }),
        Ask::PublishTrack(PublishTrack {
            room: room(),
            kind: TrackKind::Video.into(),
            label: bytes(0x63, 8),
            activity: true,
            mls_epoch: 7,
        }),
        Ask::UnpublishTrack(UnpublishTrack { alias: ALIAS }),
        Ask::Subscribe(Subscribe {
            alias: ALIAS,
            temporal_layer_max: 2,
            spatial_layer_max: 1,
            max_age_ms: 250,
            focus: true,
            speakers_max: 3,
        }),
        Ask::Unsubscribe(Unsubscribe { alias: ALIAS }),
        Ask::RequestKeyframe(RequestKeyframe { alias: ALIAS }),
        Ask::CatchUp(CatchUp { room: room(), after_sequence: 11 }),
        Ask::RejectCommit(RejectCommit { room: room(), epoch: 5, sequence: 11 }),
        Ask::RelabelTrack(RelabelTrack { alias: ALIAS, label: bytes(0x64, 8), mls_epoch: 8 }),
        Ask::LimitTickets(LimitTickets { generation: 3, blocked: vec![bytes(0x11, 32)] }),
        Ask::SetPushEndpoint(SetPushEndpoint { endpoint: "https://push.example/1".into() }),
    ];
    bodies
        .into_iter()
        .map(|body| (name("ClientMessage", &body), ClientMessage { request: 300, body: Some(body) }))
        .collect()
}

/// Every reply and event, named `RelayMessage.field` after the variant it really is.
pub fn answers() -> Vec<(String, RelayMessage)> {
    let ring = || bytes(RING, 16);
    let room = || bytes(ROOM, 16);
    let bodies = [
        Tell::Welcome(Welcome {
            version: 1,
            unix_ms: 1_700_000_000_123,
            limits: Some(session_limits()),
            push_key: bytes(0x04, 65),
        }),
        Tell::Done(Done {}),
        Tell::Refused(Refused {
            reason: RefusalReason::Limit.into(),
            detail: "rooms_max".into(),
            value: 17,
            bound: 16,
        }),
        Tell::KeyPackages(KeyPackages {
            packages: vec![DeviceKeyPackage { device: bytes(0x20, 32), package: bytes(0x01, 4) }],
        }),
        Tell::RingStarted(RingStarted { ring: ring(), devices: 2 }),
        Tell::RoomJoined(RoomJoined { member: 1, mls_epoch: 4, members: vec![member_joined()], mls_sequence: 10 }),
        Tell::TrackPublished(TrackPublished { alias: ALIAS }),
        Tell::Presence(Presence {
            identity: bytes(0x10, 32),
            epoch: 9,
            state: PresenceState::Busy.into(),
            devices: 2,
            status: bytes(0x01, 8),
        }),
        Tell::WatchEnded(WatchEnded { identity: bytes(0x10, 32), reason: RefusalReason::TicketExpired.into() }),
        Tell::IncomingRing(IncomingRing {
            ring: ring(),
            caller: bytes(0x10, 32),
            caller_device: bytes(0x20, 32),
            payload: bytes(0x60, 8),
            room: room(),
        }),
        Tell::RingOutcome(RingOutcome {
            ring: ring(),
            result: RingResult::Answered.into(),
            device: bytes(0x21, 32),
            payload: bytes(0x61, 8),
        }),
        Tell::RingEnded(RingEnded { ring: ring(), result: RingResult::AnsweredElsewhere.into() }),
        Tell::MemberJoined(member_joined()),
        Tell::MemberLeft(MemberLeft { room: room(), member: 2, kicked: true }),
        Tell::MlsDelivery(MlsDelivery {
            room: room(),
            sequence: 11,
            epoch: 5,
            commit: true,
            from_member: 2,
            payload: bytes(0x62, 8),
            join_key: bytes(0x72, 32),
        }),
        Tell::BeaconPosted(BeaconPosted {
            room: room(),
            member: 2,
            epoch: 5,
            digest: bytes(0x73, 32),
            signature: bytes(0x91, 64),
        }),
        Tell::TrackAnnounced(track_announced()),
        Tell::TrackEnded(TrackEnded { room: room(), alias: ALIAS }),
        Tell::KeyframeRequested(KeyframeRequested { alias: ALIAS }),
        Tell::Allocation(Allocation {
            rung: Rung::AudioOnly.into(),
            path_bits_per_second: 300_000,
            sent_bits_per_second: 64_000,
        }),
        Tell::GoAway(GoAway {
            reconnect_after_ms: 500,
            reconnect_before_ms: 5000,
            alternative: "relay-2.example:4433".into(),
            successor: true,
        }),
        Tell::KeyPackagesLow(KeyPackagesLow { left: 7 }),
        Tell::TrackDemand(TrackDemand {
            alias: ALIAS,
            subscribers: 2,
            temporal_layer_max: 2,
            spatial_layer_max: 1,
            bits_per_second: 4_000_000,
        }),
        Tell::CommitRejected(CommitRejected { room: room(), epoch: 5, sequence: 11, from_member: 2 }),
        Tell::DevicesRevoked(DevicesRevoked { revocation: identity::revocation().to_bytes().into() }),
        Tell::Challenge(Challenge {
            nonce: Bytes::copy_from_slice(&identity::NONCE),
            relay: Bytes::copy_from_slice(&identity::relay_pin().0),
        }),
    ];
    bodies
        .into_iter()
        .map(|body| (name("RelayMessage", &body), RelayMessage { reply_to: 300, body: Some(body) }))
        .collect()
}

/// Every value of every enum of the schema, as `ENUM_VALUE` and its number.
pub fn enum_values() -> Vec<(&'static str, i32)> {
    macro_rules! values {
        ($($type:ident)*) => {
            [$((0..=255).filter_map(|n| $type::try_from(n).ok().map(|value| (value.as_str_name(), n))).collect()),*]
        };
    }
    let lists: [Vec<_>; 5] = values!(RefusalReason PresenceState RingResult TrackKind Rung);
    lists.concat()
}

/// What the example Hello carries and its signature covers.
pub fn hello_body() -> HelloBody {
    HelloBody {
        version_min: 1,
        version_max: 2,
        delegation: identity::delegation().to_bytes().into(),
        admission_token: "header.claims.signature".into(),
        ticket_generation: 2,
        revocation: identity::revocation().to_bytes().into(),
    }
}

fn hello() -> Hello {
    let body = hello_body().encode_to_vec();
    Hello { signature: identity::sign_hello(&body).to_vec().into(), body: body.into() }
}

fn session_limits() -> SessionLimits {
    SessionLimits {
        control_message_bytes_max: 65_536,
        ring_payload_bytes_max: 16_384,
        rings_per_minute_max: 30,
        watches_max: 500,
        rooms_max: 16,
        room_members_max: 250,
        tracks_max: 8,
        subscriptions_max: 1000,
        key_packages_max: 32,
        object_bytes_max: 2_097_152,
        ingest_bytes_per_second_max: 5_000_000,
        ingest_objects_per_second_max: 2000,
        mls_bytes_per_second_max: 100_000,
    }
}

fn member_joined() -> MemberJoined {
    MemberJoined { room: bytes(ROOM, 16), member: 2, identity: bytes(0x10, 32), device: bytes(0x20, 32) }
}

fn track_announced() -> TrackAnnounced {
    TrackAnnounced {
        room: bytes(ROOM, 16),
        member: 2,
        alias: ALIAS,
        kind: TrackKind::Audio.into(),
        label: bytes(0x63, 8),
        activity: true,
    }
}

fn ticket() -> Bytes {
    identity::ticket_with_key().to_bytes().into()
}

fn bytes(first: u8, length: u8) -> Bytes {
    count(first, length).into()
}

/// The variant's name is what `Debug` begins with; the schema writes it in snake case.
fn name(union: &str, body: &impl std::fmt::Debug) -> String {
    let debug = format!("{body:?}");
    let variant = debug.split('(').next().expect("split yields at least one part");
    let mut snake = String::new();
    for character in variant.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    format!("{union}.{snake}")
}
