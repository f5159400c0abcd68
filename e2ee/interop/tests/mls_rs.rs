//! A second implementation of MLS agrees with ours on who is in a group and on every secret that we take from it.
#![allow(missing_docs, reason = "tests")]

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ReceivedMessage;
use mls_rs::group::proposal::Proposal;
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{CipherSuite, CipherSuiteProvider, Client, CryptoProvider, MlsMessage};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use sframe::frame::{MediaFrameView, SingleUseCounter};
use sframe::key::EncryptionKey;
use supernode_e2ee::{
    Device, DeviceSecret, Error, Group, IdentitySecret, JoinSecret, KeyExchange, MediaOpener, Processed, TrackId,
    safety_number,
};
use supernode_proto::identity::{Delegation, DeviceKey, IdentityKey, RoomId};
use supernode_proto::mls::{read_vector, write_vector};
use supernode_proto::object::{Flags, Layer, VISIBLE_BYTES_MAX, Visible};

const NOW: u64 = 1_800_000_000;
const LATER: u64 = NOW + 3600;
const ROOM: RoomId = RoomId([7; 16]);
const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

fn ours(identity: &IdentitySecret) -> Device {
    let secret = DeviceSecret::generate();
    let delegation = identity.delegate(&secret.public(), LATER);
    Device::new(secret, delegation).expect("its own delegation").without_x_wing()
}

/// An mls-rs client that shows a delegation by `identity` and speaks PrivateMessage only, as ours do.
fn theirs(identity: &IdentitySecret) -> (Client<impl MlsConfig + use<>>, DeviceKey) {
    let crypto = RustCryptoProvider::default();
    let suite = crypto.cipher_suite_provider(SUITE).expect("supported");
    let (secret, public) = suite.signature_key_generate().expect("a key");
    let device = DeviceKey::from_slice(&public).expect("an Ed25519 key");
    let credential = BasicCredential::new(identity.delegate(&device, LATER).to_bytes());
    let rules = DefaultMlsRules::new()
        .with_encryption_options(EncryptionOptions::new(true, Default::default()))
        .with_commit_options(CommitOptions::new().with_ratchet_tree_extension(true));
    let client = Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .mls_rules(rules)
        .signing_identity(SigningIdentity::new(credential.into_credential(), public), secret, SUITE)
        .build();
    (client, device)
}

fn key_package<C: MlsConfig>(client: &Client<C>) -> Vec<u8> {
    let package = client.generate_key_package_message(Default::default(), Default::default(), None);
    let mut offer = Vec::new();
    write_vector(&package.expect("a package").to_bytes().expect("bytes"), &mut offer);
    offer
}

/// The one key package that a device of ours offers here.
fn only_package(device: &Device) -> Vec<u8> {
    let offer = device.key_package().expect("an offer");
    let (package, []) = read_vector(&offer).expect("a package") else { panic!("one") };
    package.to_vec()
}

fn read(bytes: &[u8]) -> MlsMessage {
    MlsMessage::from_bytes(bytes).expect("an MLS message")
}

/// Both see the same epoch, members, exporter secret (by the join key) and epoch authenticator (by the safety number).
fn assert_agree<C: MlsConfig>(ours: &Group, theirs: &mls_rs::Group<C>) {
    assert_eq!(ours.epoch(), theirs.current_epoch());
    let their_members: Vec<(u32, Delegation)> = theirs
        .roster()
        .members_iter()
        .map(|member| {
            let credential = member.signing_identity.credential.as_basic().expect("a basic credential");
            (member.index, Delegation::from_bytes(credential.identifier()).expect("a delegation"))
        })
        .collect();
    let our_members = ours.members();
    assert_eq!(our_members.len(), their_members.len());
    for (our, (leaf, delegation)) in our_members.iter().zip(&their_members) {
        assert!(our.leaf == *leaf && our.identity == delegation.identity && our.device == delegation.device);
    }

    let exported = theirs.export_secret(b"supernode room join", &ROOM.0, 32).expect("a member");
    let join = JoinSecret::from_bytes(exported.as_bytes().first_chunk().expect("32 bytes"));
    assert!(ours.join_secret().expect("a member").public() == join.public());

    let identities: Vec<IdentityKey> = their_members.iter().map(|(_, delegation)| delegation.identity).collect();
    let authenticator = theirs.epoch_authenticator().expect("a member");
    assert_eq!(ours.safety_number().expect("a member"), safety_number(&identities, authenticator.as_bytes()));
}

fn commit<C: MlsConfig>(group: &mut mls_rs::Group<C>) -> Vec<u8> {
    let output = group.commit(Vec::new()).expect("a commit");
    assert!(output.contains_update_path);
    group.apply_pending_commit().expect("accepted");
    output.commit_message.to_bytes().expect("bytes")
}

//
#[test]
fn our_group_takes_an_mls_rs_member_through_its_whole_life() {
    let [alice, bob, carol] = [(); 3].map(|()| IdentitySecret::generate());
    let (a, (b, b_key), c) = (ours(&alice), theirs(&bob), ours(&carol));

    let mut group_a = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let change = group_a.propose_add(&[(bob.public(), key_package(&b))], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    let welcome = read(&change.welcome.expect("for bob"));
    let (mut group_b, _) = b.join_group(None, &welcome, None).expect("joins");
    assert!(group_a.members()[1].device == b_key);
    assert_agree(&group_a, &group_b);

    let processed = group_a.process(&commit(&mut group_b), &|_| false, NOW).expect("follows");
    let Processed::EpochChanged { added, removed, .. } = processed else { panic!("a commit changes the epoch") };
    assert_eq!((added, removed), (vec![], vec![]));
    assert_agree(&group_a, &group_b);

    let change = group_a.propose_update().expect("an update");
    group_a.merge_own().expect("accepted");
    group_b.process_incoming_message(read(&change.commit)).expect("follows");
    assert_agree(&group_a, &group_b);

    let package = read(&only_package(&c));
    let output = group_b.commit_builder().add_member(package).expect("adds").build().expect("a commit");
    group_b.apply_pending_commit().expect("accepted");
    let added = output.commit_message.to_bytes().expect("bytes");
    assert!(matches!(group_a.process(&added, &|_| false, NOW), Err(Error::UnexpectedIdentity)));
    assert_eq!(group_a.epoch(), 3);
    let welcome = output.welcome_messages[0].to_bytes().expect("bytes");
    let group_c = c.join(&welcome, &bob.public(), &[alice.public()], NOW).expect("joins");
    assert_agree(&group_c, &group_b);
}

#[test]
fn our_group_removes_an_mls_rs_member() {
    let [alice, bob] = [(); 2].map(|()| IdentitySecret::generate());
    let (a, (b, _)) = (ours(&alice), theirs(&bob));
    let mut group_a = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let change = group_a.propose_add(&[(bob.public(), key_package(&b))], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    let (mut group_b, _) = b.join_group(None, &read(&change.welcome.expect("for bob")), None).expect("joins");
    let change = group_a.propose_remove(&[group_b.current_member_index()]).expect("removes");
    group_a.merge_own().expect("accepted");
    let received = group_b.process_incoming_message(read(&change.commit)).expect("learns of it");
    let ReceivedMessage::Commit(description) = received else { panic!("a commit") };
    assert!(matches!(description.effect, mls_rs::group::CommitEffect::Removed { .. }));
}

#[test]
fn we_live_in_an_mls_rs_group() {
    let [alice, bob, carol] = [(); 3].map(|()| IdentitySecret::generate());
    let ((a, _), b, c) = (theirs(&alice), ours(&bob), ours(&carol));
    let mut group_a = a.group_builder().expect("a group").with_group_id(ROOM.0.to_vec()).build().expect("a group");
    let package = read(&only_package(&b));
    let output = group_a.commit_builder().add_member(package).expect("adds").build().expect("a commit");
    group_a.apply_pending_commit().expect("accepted");
    let welcome = output.welcome_messages[0].to_bytes().expect("bytes");
    let mut group_b = b.join(&welcome, &alice.public(), &[], NOW).expect("joins");
    assert_agree(&group_b, &group_a);

    let change = group_b.propose_update().expect("an update");
    group_b.merge_own().expect("accepted");
    group_a.process_incoming_message(read(&change.commit)).expect("follows");
    assert_agree(&group_b, &group_a);

    let change = group_b.propose_add(&[(carol.public(), c.key_package().expect("a package"))], NOW).expect("adds");
    group_b.merge_own().expect("accepted");
    let received = group_a.process_incoming_message(read(&change.commit)).expect("follows");
    assert!(matches!(received, ReceivedMessage::Commit(_)));
    assert_agree(&group_b, &group_a);

    let leaf_of_c = group_b.members()[2].leaf;
    let output = group_a.commit_builder().remove_member(leaf_of_c).expect("removes").build().expect("a commit");
    group_a.apply_pending_commit().expect("accepted");
    let removed = output.commit_message.to_bytes().expect("bytes");
    let processed = group_b.process(&removed, &|_| false, NOW).expect("follows");
    let Processed::EpochChanged { added, removed, .. } = processed else { panic!("a commit changes the epoch") };
    assert!(added.is_empty() && removed.len() == 1 && removed[0].identity == carol.public());
    assert_agree(&group_b, &group_a);
}

#[test]
fn a_proposal_of_an_mls_rs_member_counts_only_inside_a_commit() {
    let [alice, bob] = [(); 2].map(|()| IdentitySecret::generate());
    let (a, (b, _)) = (ours(&alice), theirs(&bob));
    let mut group_a = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let change = group_a.propose_add(&[(bob.public(), key_package(&b))], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    let (mut group_b, _) = b.join_group(None, &read(&change.welcome.expect("for bob")), None).expect("joins");
    let proposal = group_b.propose_update(Vec::new()).expect("a proposal").to_bytes().expect("bytes");
    assert!(matches!(group_a.process(&proposal, &|_| true, NOW), Err(Error::Refused { .. })));
}

#[test]
fn a_commit_of_an_mls_rs_member_that_changes_extensions_is_refused() {
    let [alice, bob] = [(); 2].map(|()| IdentitySecret::generate());
    let (a, (b, _)) = (ours(&alice), theirs(&bob));
    let mut group_a = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let change = group_a.propose_add(&[(bob.public(), key_package(&b))], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    let (mut group_b, _) = b.join_group(None, &read(&change.welcome.expect("for bob")), None).expect("joins");
    let proposal = Proposal::GroupContextExtensions(Default::default());
    let output = group_b.commit_builder().raw_proposal(proposal).build().expect("a commit");
    let bytes = output.commit_message.to_bytes().expect("bytes");
    assert!(matches!(group_a.process(&bytes, &|_| true, NOW), Err(Error::Refused { .. })));
    assert_eq!(group_a.epoch(), 1);
}

//
/// Builds a frame by hand, from nothing but mls-rs's exporter, the RFC and our documentation.
#[test]
fn a_frame_sealed_by_the_book_from_mls_rs_secrets_opens() {
    let [alice, bob] = [(); 2].map(|()| IdentitySecret::generate());
    let (a, (b, b_key)) = (ours(&alice), theirs(&bob));
    let mut group_a = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let change = group_a.propose_add(&[(bob.public(), key_package(&b))], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    let (group_b, _) = b.join_group(None, &read(&change.welcome.expect("for bob")), None).expect("joins");

    let base_key = group_b.export_secret(b"SFrame 1.0 Base Key", b"", 16).expect("a member");
    let key_id = u64::from(group_b.current_member_index()) << 4 | group_b.current_epoch() & 15;
    let suite = sframe::CipherSuite::AesGcm128Sha256;
    let key = EncryptionKey::derive_from(suite, key_id, base_key.as_bytes()).expect("a key");
    let track = TrackId(*b"track-01");
    let visible = Visible { group: 1, object: 2, flags: Flags::DISCARDABLE, layer: Layer::default() };
    let mut bytes = [0; VISIBLE_BYTES_MAX];
    let length = visible.encode(&mut bytes);
    let metadata = [b"supernode/1 media\0", &ROOM.0[..], &track.0, &bytes[..length]].concat();
    let mut counter = SingleUseCounter::new(9);
    let mut frame = Vec::new();
    MediaFrameView::try_with_meta_data(&mut counter, b"by the book", &metadata)
        .and_then(|view| view.encrypt_into(&key, &mut frame).map(|_| ()))
        .expect("seals");
    let sealed = &frame[metadata.len()..];

    let opener = MediaOpener::new(&group_a.epoch_keys().expect("a member")).expect("an opener");
    let mut payload = Vec::new();
    opener.open(&b_key, &track, &visible, sealed, &mut payload).expect("opens");
    assert_eq!(payload, b"by the book");
}
