//! What holds for any input: everything written comes back, and no bytes make a decoder panic.

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the golden tests, which use other parts")]
mod vectors;

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use prost::Message;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    cluster::{LETTER_BYTES, LETTER_MAILS, Letter, Mail, NodeHello, decode_letter},
    control::{
        ClientMessage, FrameError, FrameReader, HelloBody, RelayMessage, Ring, client_message, encode_frame, frame,
    },
    identity::{
        ChannelBinding, Delegation, DeviceKey, Grants, Holder, IdentityError, IdentityKey, JoinKey, Presenter,
        RelayName, RelayPin, Revocation, RoomId, Ticket, TicketKey, beacon_signing_input, hello_signing_input,
        join_signing_input, present_signing_input, ring_signing_input, room_signing_input, verify_beacon, verify_hello,
        verify_join, verify_room,
    },
    invite::Invite,
    limits,
    mls::Envelope,
    object::{DatagramHeader, Flags, Hop, Layer, StreamHeader, StreamObjectHeader, TrackAlias, Visible},
};
use vectors::{cluster as nodes, control, identity, object};

/// Everything that takes bytes from outside, on these bytes.
fn decode_everything(bytes: &[u8]) {
    let _ = decode_letter(bytes);
    let _ = NodeHello::decode(bytes).map(|hello| hello.point_of(&RelayPin([0; 32])).map(<[u8]>::len));
    let _ = DatagramHeader::decode(bytes);
    let _ = StreamHeader::decode(bytes);
    let _ = StreamObjectHeader::decode(bytes);
    let _ = Delegation::from_bytes(bytes).map(|delegation| delegation.verify(identity::NOW_UNIX_S));
    let _ = Ticket::from_bytes(bytes).map(|ticket| ticket.verify(identity::NOW_UNIX_S));
    let _ = Revocation::from_bytes(bytes).map(|revocation| revocation.verify());
    let presenter = identity::presenter();
    let _ = identity::ticket_with_key().verify_ring(&presenter, &identity::room(), 0, bytes);
    let _ = (IdentityKey::from_slice(bytes), DeviceKey::from_slice(bytes), JoinKey::from_slice(bytes));
    let _ = RoomId::from_slice(bytes);
    let _ = Envelope::read(bytes);
    let _ = HelloBody::decode(bytes);
    let (binding, device) = (identity::binding(), identity::device());
    let _ = verify_hello(&device, &binding, bytes, bytes);
    let _ = verify_join(&identity::join_key(), &identity::room(), &binding, &device, bytes);
    let _ = verify_beacon(&device, &identity::room(), 5, &identity::BEACON.1, bytes);
    read_all::<ClientMessage>(bytes);
    read_all::<RelayMessage>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (IdentityKey::from_text(text), DeviceKey::from_text(text), JoinKey::from_text(text));
        let _ = Ticket::from_text(text);
        let _ = text.parse::<Invite>();
    }
}

/// Reads messages until the bytes run out or are none; each takes at least one byte, so this ends.
fn read_all<M: Message + Default>(bytes: &[u8]) {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    while let Ok(Some(_)) = reader.next_message::<M>() {}
}

/// The bytes of every line of the golden files; text forms as they are.
fn golden_vectors() -> Vec<Vec<u8>> {
    let files = [
        include_str!("../golden/control.txt"),
        include_str!("../golden/headers.txt"),
        include_str!("../golden/identity.txt"),
        include_str!("../golden/mls.txt"),
    ];
    let values = files.iter().flat_map(|file| file.lines()).filter_map(|line| line.split_once(" = "));
    values.map(|(_, value)| HEXLOWER.decode(value.as_bytes()).unwrap_or_else(|_| value.as_bytes().to_vec())).collect()
}

#[test]
fn no_truncation_of_a_golden_vector_makes_a_decoder_panic() {
    for vector in golden_vectors() {
        for length in 0..vector.len() {
            decode_everything(&vector[..length]);
        }
    }
}

#[test]
fn no_flipped_bit_of_a_golden_vector_makes_a_decoder_panic() {
    for mut vector in golden_vectors() {
        for bit in 0..vector.len() * 8 {
            vector[bit / 8] ^= 1 << (bit % 8);
            decode_everything(&vector);
            vector[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

//
#[test]
fn no_truncated_header_decodes() {
    for (name, header) in object::datagrams() {
        let bytes = object::datagram_bytes(&header);
        assert!((0..bytes.len()).all(|length| DatagramHeader::decode(&bytes[..length]).is_err()), "{name}");
    }
    for (name, header) in object::streams() {
        let bytes = object::stream_bytes(&header);
        assert!((0..bytes.len()).all(|length| StreamHeader::decode(&bytes[..length]).is_err()), "{name}");
    }
    for (name, header) in object::stream_objects() {
        let bytes = object::stream_object_bytes(&header);
        assert!((0..bytes.len()).all(|length| StreamObjectHeader::decode(&bytes[..length]).is_err()), "{name}");
    }
}

fn on_another_connection() -> ChannelBinding {
    ChannelBinding::TlsExporter { relay: identity::relay_pin(), exporter: [1; 32] }
}

fn at_another_relay() -> ChannelBinding {
    ChannelBinding::TlsExporter { relay: RelayPin([1; 32]), exporter: identity::EXPORTER }
}

//
#[test]
fn a_ticket_is_of_use_to_its_holder_only_and_a_key_s_proof_on_one_connection_and_in_one_ring_only() {
    let (ticket, presenter) = (identity::ticket_with_key(), identity::presenter());
    let (binding, room, now) = (identity::binding(), identity::room(), identity::NOW_UNIX_S);
    let pin = *binding.relay();
    let sign = |input: Vec<u8>| identity::ticket_secret().sign(&input).to_bytes();
    let other_device = Presenter { device: DeviceKey::new([7; 32]), ..presenter };
    let refused = Err(IdentityError::Signature { field: "ticket proof" });

    let proof = sign(present_signing_input(&ticket, &binding, &presenter.device));
    assert_eq!(ticket.verify_presented(&presenter, &binding, &proof), Ok(()));
    assert_eq!(ticket.verify_presented(&other_device, &binding, &proof), refused);
    assert_eq!(ticket.verify_presented(&presenter, &at_another_relay(), &proof), refused);
    assert_eq!(ticket.verify_presented(&presenter, &on_another_connection(), &proof), refused);
    assert_eq!(
        ticket.verify_ring(&presenter, &room, now, &proof),
        refused,
        "a relay cannot ring with what it is shown"
    );
    assert!(ticket.verify_presented(&presenter, &binding, &[]).is_err());

    let proof = sign(ring_signing_input(&ticket, &room, now, &presenter.device));
    assert_eq!(ticket.verify_ring(&presenter, &room, now, &proof), Ok(()));
    assert_eq!(ticket.verify_ring(&other_device, &room, now, &proof), refused);
    assert_eq!(ticket.verify_ring(&presenter, &RoomId([1; 16]), now, &proof), refused);
    assert_eq!(ticket.verify_ring(&presenter, &room, now + 1, &proof), refused);

    let made_out = identity::ticket_for_holder();
    assert_eq!(made_out.verify_ring(&presenter, &room, now, &[]), Err(IdentityError::Holder));
    let Holder::Identity(holder) = made_out.holder else { panic!("made out to somebody") };
    let holder = Presenter { identity: holder, ..presenter };
    assert_eq!(made_out.verify_ring(&holder, &room, now, &[]), Ok(()));
    assert!(ticket.allows(Grants::RING, &pin) && !ticket.allows(Grants::PRESENCE, &pin));
    assert!(!ticket.allows(Grants::RING, &RelayPin([1; 32])) && made_out.allows(Grants::RING, &RelayPin([1; 32])));
}

#[test]
fn no_flipped_bit_of_a_signed_grant_still_verifies() {
    let ticket = identity::ticket_for_holder().to_bytes();
    each_flipped_bit(&ticket, |bytes| Ticket::from_bytes(bytes)?.verify(identity::NOW_UNIX_S));
    let delegation = identity::delegation().to_bytes();
    let revocation = identity::revocation().to_bytes();
    each_flipped_bit(&revocation, |bytes| Revocation::from_bytes(bytes)?.verify());
    each_flipped_bit(&delegation, |bytes| Delegation::from_bytes(bytes)?.verify(identity::NOW_UNIX_S));
}

fn each_flipped_bit(bytes: &[u8], verify: impl Fn(&[u8]) -> Result<(), IdentityError>) {
    let mut changed = bytes.to_vec();
    assert_eq!(verify(&changed), Ok(()), "before any change");
    for bit in 0..changed.len() * 8 {
        changed[bit / 8] ^= 1 << (bit % 8);
        verify(&changed).expect_err(&format!("bit {bit} is flipped"));
        changed[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_grant_holds_to_its_last_second_and_no_longer_than_anybody_may_sign_for() {
    let (ticket, end) = (identity::ticket_for_holder(), identity::NOT_AFTER_UNIX_S);
    assert_eq!(ticket.verify(end), Ok(()));
    assert_eq!(ticket.verify(end + 1), Err(IdentityError::Expired { field: "ticket" }));
    let bound = limits::TICKET_LIFETIME_S_MAX;
    assert_eq!(ticket.verify(end - bound), Ok(()));
    assert_eq!(
        ticket.verify(end - bound - 1),
        Err(IdentityError::TooLong { field: "ticket", seconds: bound + 1, bound })
    );
    let delegation = identity::delegation();
    assert_eq!(delegation.verify(end), Ok(()));
    assert_eq!(delegation.verify(end + 1), Err(IdentityError::Expired { field: "delegation" }));
}

//
#[test]
fn a_hello_holds_for_its_relay_its_connection_and_its_body_only() {
    let body = control::hello_body().encode_to_vec();
    let signature = identity::sign_hello(&body);
    let (device, binding) = (identity::device(), identity::binding());
    let refused = Err(IdentityError::Signature { field: "hello" });
    let mut other_body = body.clone();
    other_body.push(0);
    assert_eq!(verify_hello(&device, &binding, &body, &signature), Ok(()));
    assert_eq!(verify_hello(&device, &binding, &other_body, &signature), refused);
    assert_eq!(verify_hello(&device, &at_another_relay(), &body, &signature), refused);
    assert_eq!(verify_hello(&device, &on_another_connection(), &body, &signature), refused, "a replay");
    let other_device = DeviceKey::new(*identity::identity().as_bytes());
    assert_eq!(verify_hello(&other_device, &binding, &body, &signature), refused);
}

/// The same 32 bytes as exporter and as nonce binding: nothing but its kind tells one from the other.
fn alike() -> [ChannelBinding; 2] {
    let by_nonce = identity::binding_by_pin();
    let ChannelBinding::RelayNonce { relay, nonce } = by_nonce else { panic!("by nonce") };
    [ChannelBinding::TlsExporter { relay, exporter: *nonce.as_bytes() }, by_nonce]
}

//
#[test]
fn a_signature_for_one_kind_of_binding_is_refused_as_another() {
    let [by_exporter, by_nonce] = alike();
    let body = control::hello_body().encode_to_vec();
    let (device, room, presenter) = (identity::device(), identity::room(), identity::presenter());
    let (ticket, join_key, room_key) = (identity::ticket_with_key(), identity::join_key(), identity::room_key());
    for (signed, other) in [(by_exporter, by_nonce), (by_nonce, by_exporter)] {
        let sign = |secret: SigningKey, input: Vec<u8>| secret.sign(&input).to_bytes();
        let hello = sign(identity::device_secret(), hello_signing_input(&signed, &body));
        let join = sign(identity::join_secret(), join_signing_input(&room, &signed, &device));
        let show = sign(identity::ticket_secret(), present_signing_input(&ticket, &signed, &device));
        let open = sign(identity::room_secret(), room_signing_input(&signed, &device));
        let verify = |binding: &ChannelBinding| {
            [
                verify_hello(&device, binding, &body, &hello),
                verify_join(&join_key, &room, binding, &device, &join),
                ticket.verify_presented(&presenter, binding, &show),
                verify_room(&room_key, binding, &device, &open),
            ]
        };
        assert_eq!(verify(&signed), [Ok(()); 4]);
        assert!(verify(&other).iter().all(|verified| matches!(verified, Err(IdentityError::Signature { .. }))));
    }
}

//
#[test]
fn no_two_things_that_are_signed_on_connections_are_the_same_bytes() {
    let names = [
        RelayName::Host("relay.example"),
        RelayName::Host("relay.example."),
        RelayName::Host(""),
        RelayName::Pin(&RelayPin([1; 32])),
        // A host that looks like a pin.
        RelayName::Host(std::str::from_utf8(&[1; 32]).expect("ASCII")),
    ];
    let bindings = names.into_iter().map(identity::by_nonce).chain(alike()).chain([identity::binding()]);
    let signed: Vec<Vec<u8>> = bindings.flat_map(|binding| identity::bound(&binding)).map(|(_, input)| input).collect();
    let different: HashSet<&Vec<u8>> = signed.iter().collect();
    assert_eq!(different.len(), signed.len());
    // And none begins as another does: each domain ends in the only zero byte that it has.
    let domain = |input: &Vec<u8>| input.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
    assert_eq!(signed.iter().map(domain).collect::<HashSet<_>>().len(), 8);
}

//
#[test]
fn a_join_proof_holds_for_its_room_its_connection_and_its_device_only() {
    let (key, room, binding, device) =
        (identity::join_key(), identity::room(), identity::binding(), identity::device());
    let proof = identity::join_proof();
    let refused = Err(IdentityError::Signature { field: "join proof" });
    assert_eq!(verify_join(&key, &room, &binding, &device, &proof), Ok(()));
    assert_eq!(verify_join(&key, &RoomId([0; 16]), &binding, &device, &proof), refused);
    assert_eq!(verify_join(&key, &room, &on_another_connection(), &device, &proof), refused, "a replay");
    let other_device = DeviceKey::new(*identity::identity().as_bytes());
    assert_eq!(verify_join(&key, &room, &binding, &other_device, &proof), refused);
}

//
#[test]
fn an_oversized_or_absurd_length_is_refused_before_its_message_arrives() {
    let bytes_max = limits::CONTROL_MESSAGE_BYTES_MAX;
    let largest = bytes_max as u64;
    for (prefix, expected) in [
        (&[0x81, 0x80, 0x04][..], FrameError::TooLarge { length: largest + 1, bytes_max }),
        (&[0xff, 0xff, 0xff, 0x7f], FrameError::TooLarge { length: (1 << 28) - 1, bytes_max }),
        (&[0x80, 0x80, 0x80, 0x80], FrameError::Length),
    ] {
        let mut reader = FrameReader::default();
        reader.push(prefix);
        assert_eq!(reader.next_message::<ClientMessage>(), Err(expected));
    }
    let mut reader = FrameReader::default();
    reader.push(&[0x80, 0x80, 0x04]);
    assert_eq!(reader.next_message::<ClientMessage>(), Ok(None), "exactly the bound waits for its bytes");
}

fn hop() -> impl Strategy<Value = Hop> {
    (0..=object::VARINT_MAX, any::<u8>(), 0..=limits::OBJECT_TTL_MS_MAX).prop_map(|(alias, priority, ttl_ms)| Hop {
        alias: TrackAlias::new(alias).expect("in range"),
        priority,
        ttl_ms,
    })
}

fn flags() -> impl Strategy<Value = Flags> {
    let all = [Flags::INDEPENDENT, Flags::DISCARDABLE, Flags::END_OF_GROUP, Flags::END_OF_TRACK];
    proptest::sample::subsequence(all.to_vec(), 0..=all.len())
        .prop_map(|some| some.into_iter().fold(Flags::default(), |flags, flag| flags | flag))
        .prop_flat_map(|flags| (0..=Flags::ACTIVITY_MAX).prop_map(move |activity| flags.with_activity(activity)))
}

fn layer() -> impl Strategy<Value = Layer> {
    (0..=Layer::MAX, 0..=Layer::MAX).prop_map(|(temporal, spatial)| Layer::new(temporal, spatial).expect("in range"))
}

//
#[test]
fn a_letter_of_too_many_mails_or_bytes_is_refused_before_it_is_read() {
    let of = |mails: usize| Letter { shard: 1, mail: vec![Mail { body: None }; mails] }.encode_to_vec();
    assert_eq!(decode_letter(&of(LETTER_MAILS)).map(|letter| letter.mail.len()), Ok(LETTER_MAILS));
    assert!(matches!(decode_letter(&of(LETTER_MAILS + 1)), Err(FrameError::TooLarge { .. })));
    assert!(matches!(decode_letter(&vec![0; LETTER_BYTES + 1]), Err(FrameError::TooLarge { .. })));
    assert_eq!(decode_letter(&[0x12, 0x7f, 1]), Err(FrameError::Malformed));
}

#[test]
fn the_key_of_a_node_is_the_one_of_its_pin_and_of_p_256() {
    let head = [
        &[0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8][..],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0],
    ]
    .concat();
    let with = |key: Vec<u8>| NodeHello { key: key.into(), ..nodes::hello() };
    let key = [&head[..], &[4; 65]].concat();
    assert_eq!(with(key.clone()).point_of(&RelayPin::of_spki(&key)), Some(&[4; 65][..]));
    assert_eq!(with(key).point_of(&RelayPin([1; 32])), None, "another pin");
    for key in [[&head[..], &[4; 64]].concat(), [&[0; 26][..], &[4; 65]].concat(), vec![]] {
        assert_eq!(with(key.clone()).point_of(&RelayPin::of_spki(&key)), None, "not of P-256");
    }
}

proptest! {
    #[test]
    fn no_mutilated_letter_makes_the_decoder_panic(at in any::<proptest::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        for (_, mail) in nodes::mails() {
            let mut bytes = Letter { shard: 2, mail: vec![mail] }.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(if cut { at } else { bytes.len() });
            let _ = decode_letter(&bytes);
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_everything(&bytes);
    }

    #[test]
    fn no_text_makes_a_decoder_panic(prefix in "(sn-id-|sn-dev-|sn-join-|sn-ticket-|sn-ticket-key-)", text in ".{0,300}") {
        decode_everything(format!("{prefix}{text}").as_bytes());
    }

    #[test]
    fn every_datagram_header_comes_back(
        hop in hop(),
        group in 0..=object::VARINT_MAX,
        number in 0..=object::VARINT_MAX,
        flags in flags(),
        layer in layer(),
        sealed in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let header = DatagramHeader { hop, visible: Visible { group, object: number, flags, layer } };
        let mut bytes = object::datagram_bytes(&header);
        let length = bytes.len();
        prop_assert!(bytes.ends_with(&object::visible_bytes(&header.visible)), "the sealed part authenticates these bytes");
        bytes.extend(sealed);
        prop_assert_eq!(DatagramHeader::decode(&bytes), Ok((header, length)));
    }

    #[test]
    fn every_stream_header_comes_back(hop in hop(), group in 0..=object::VARINT_MAX, temporal_layer in 0..=Layer::MAX) {
        let header = StreamHeader { hop, group, temporal_layer };
        let bytes = object::stream_bytes(&header);
        prop_assert_eq!(StreamHeader::decode(&bytes), Ok((header, bytes.len())));
    }

    #[test]
    fn every_stream_object_header_comes_back(
        number in 0..=object::VARINT_MAX,
        flags in flags(),
        layer in layer(),
        length in 0..=limits::OBJECT_BYTES_MAX,
    ) {
        let header = StreamObjectHeader { object: number, flags, layer, length };
        let bytes = object::stream_object_bytes(&header);
        prop_assert_eq!(StreamObjectHeader::decode(&bytes), Ok((header, bytes.len())));
    }

    #[test]
    fn every_ticket_comes_back_and_verifies(
        secret: [u8; 32],
        holder: [u8; 32],
        is_key: bool,
        relay in proptest::option::of(any::<[u8; 32]>().prop_filter("zeros stand for any relay", |pin| pin != &[0; 32])),
        generation: u32,
        grants in proptest::sample::select(vec![Grants::PRESENCE, Grants::RING, Grants::PRESENCE | Grants::RING]),
        id: [u8; 8],
        lifetime_s in 0..=limits::TICKET_LIFETIME_S_MAX,
        now in 0..u64::MAX / 2,
    ) {
        let secret = SigningKey::from_bytes(&secret);
        let issuer = IdentityKey::new(secret.verifying_key().to_bytes());
        let not_after_unix_s = now + lifetime_s;
        let holder = match is_key {
            true => Holder::Key(TicketKey::new(holder)),
            false => Holder::Identity(IdentityKey::new(holder)),
        };
        let (relay, signature) = (relay.map(RelayPin), [0; 64]);
        let mut ticket = Ticket { issuer, holder, relay, grants, generation, not_after_unix_s, id, signature };
        ticket.signature = secret.sign(&ticket.signing_input()).to_bytes();
        prop_assert_eq!(Ticket::from_bytes(&ticket.to_bytes()), Ok(ticket.clone()));
        prop_assert_eq!(Ticket::from_text(&ticket.to_text()), Ok(ticket.clone()));
        prop_assert_eq!(ticket.verify(now), Ok(()));
    }

    #[test]
    fn every_delegation_comes_back_and_verifies(
        secret: [u8; 32],
        device: [u8; 32],
        lifetime_s in 0..=limits::DELEGATION_LIFETIME_S_MAX,
        now in 0..u64::MAX / 2,
    ) {
        let secret = SigningKey::from_bytes(&secret);
        let identity = IdentityKey::new(secret.verifying_key().to_bytes());
        let (device, not_after_unix_s) = (DeviceKey::new(device), now + lifetime_s);
        let input = Delegation::signing_input(&identity, &device, not_after_unix_s);
        let signature = secret.sign(&input).to_bytes();
        let delegation = Delegation { identity, device, not_after_unix_s, signature };
        prop_assert_eq!(Delegation::from_bytes(&delegation.to_bytes()), Ok(delegation.clone()));
        prop_assert_eq!(delegation.verify(now), Ok(()));
    }

    #[test]
    fn every_key_comes_back_from_its_text(key: [u8; 32]) {
        let (identity, device, join) = (IdentityKey::new(key), DeviceKey::new(key), JoinKey::new(key));
        prop_assert_eq!(IdentityKey::from_text(&identity.to_text()), Ok(identity));
        prop_assert_eq!(DeviceKey::from_text(&device.to_text()), Ok(device));
        prop_assert_eq!(JoinKey::from_text(&join.to_text()), Ok(join));
        prop_assert!(IdentityKey::from_text(&device.to_text()).is_err(), "the prefix tells them apart");
    }

    #[test]
    fn a_message_of_any_size_up_to_the_bound_comes_back(request: u64, payload in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let ring = Ring { ticket: Bytes::from_static(b"ticket"), payload: payload.into(), ..Ring::default() };
        let message = ClientMessage { request, body: Some(client_message::Body::Ring(ring)) };
        let mut reader = FrameReader::default();
        reader.push(&frame(&message));
        prop_assert_eq!(reader.next_message(), Ok(Some(message)));
    }

    #[test]
    fn messages_come_back_in_order_however_the_stream_is_cut(
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        cuts in proptest::collection::vec(1usize..200, 1..50),
    ) {
        let examples = control::requests();
        let sent: Vec<&ClientMessage> = order.iter().map(|index| &index.get(&examples).1).collect();
        let mut stream = BytesMut::new();
        sent.iter().for_each(|message| encode_frame(*message, &mut stream));
        let (mut reader, mut rest, mut received) = (FrameReader::default(), &stream[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            reader.push(head);
            while let Some(message) = reader.next_message::<ClientMessage>().expect("our own bytes") {
                received.push(message);
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received.iter().collect::<Vec<_>>(), sent);
    }

    #[test]
    fn what_decodes_means_the_same_when_encoded_again(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = ClientMessage::decode(&bytes[..]) {
            prop_assert_eq!(ClientMessage::decode(&message.encode_to_vec()[..]), Ok(message));
        }
    }

    //
    #[test]
    fn what_an_mls_message_shows_comes_back(room: [u8; 16], epoch: u64, commit: bool, sealed in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let shown = Envelope { room: RoomId(room), epoch, commit };
        prop_assert_eq!(Envelope::read(&shown.around(&sealed)), Ok(shown));
    }

    //
    #[test]
    fn a_beacon_holds_for_its_room_its_epoch_and_its_device_only(epoch in 0..u64::MAX, other: [u8; 16]) {
        let (device, digest, room) = (identity::device(), identity::BEACON.1, identity::room());
        let signature = SigningKey::from_bytes(&[0x02; 32]).sign(&beacon_signing_input(&room, epoch, &digest)).to_bytes();
        prop_assert_eq!(verify_beacon(&device, &room, epoch, &digest, &signature), Ok(()));
        prop_assert!(verify_beacon(&device, &room, epoch + 1, &digest, &signature).is_err());
        prop_assert!(verify_beacon(&device, &RoomId(other), epoch, &digest, &signature).is_err());
        prop_assert!(verify_beacon(&device, &room, epoch, &[0; 32], &signature).is_err());
    }

    #[test]
    fn every_close_code_prints(code: u64) {
        prop_assert!(!CloseCode(code).to_string().is_empty());
        prop_assert!(!StreamCode(code).to_string().is_empty());
    }
}
