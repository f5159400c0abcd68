//! Who is kept out of a group: strangers, impostors and the relay itself.
#![allow(missing_docs, reason = "tests")]

mod people;

use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::{
    signatures::{Signer, SignerError},
    types::SignatureScheme,
};
use people::{LATER, NOW, Person, ROOM, anybody, call, nobody, two, update};
use supernode_e2ee::{Device, DeviceSecret, Error, KeyExchange, Processed};
use supernode_proto::identity::{Delegation, IdentityError};
use supernode_proto::mls::{read_vector, write_vector};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// A key as openmls takes it.
struct Signs<'a>(&'a DeviceSecret);

impl Signer for Signs<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign_leaf(payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A client that does with MLS whatever it likes, where ours would not.
struct Rogue {
    secret: DeviceSecret,
    credential: CredentialWithKey,
    provider: OpenMlsRustCrypto,
}

impl Rogue {
    /// Signs with `secret` and shows `delegation`, whether or not they belong together.
    fn new(secret: DeviceSecret, delegation: &Delegation) -> Self {
        let credential = credential(&secret, delegation);
        Self { secret, credential, provider: OpenMlsRustCrypto::default() }
    }

    fn of(person: &Person) -> Self {
        let secret = DeviceSecret::generate();
        let delegation = person.0.delegate(&secret.public(), LATER);
        Self::new(secret, &delegation)
    }

    fn key_package(&self) -> Vec<u8> {
        let bundle = KeyPackage::builder().build(SUITE, &self.provider, &Signs(&self.secret), self.credential.clone());
        let mut offer = Vec::new();
        write_vector(&bytes(MlsMessageOut::from(bundle.expect("a package").into_key_package())), &mut offer);
        offer
    }

    fn group(&self, extensions: Extensions<GroupContext>) -> MlsGroup {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .with_group_context_extensions(extensions)
            .build();
        let id = GroupId::from_slice(&ROOM.0);
        MlsGroup::new_with_group_id(&self.provider, &Signs(&self.secret), &config, id, self.credential.clone())
            .expect("a group")
    }

    /// Adds a device and returns the welcome for it.
    fn add(&self, group: &mut MlsGroup, device: &Device) -> Vec<u8> {
        let offer = device.key_package().expect("packages");
        let (_x_wing, rest) = read_vector(&offer).expect("the one");
        let package = read(read_vector(rest).expect("the other").0);
        let MlsMessageBodyIn::KeyPackage(package) = package else { panic!("a key package") };
        let package = package.validate(self.provider.crypto(), ProtocolVersion::Mls10).expect("valid");
        let (_, welcome, _) = group.add_members(&self.provider, &Signs(&self.secret), &[package]).expect("adds");
        group.merge_pending_commit(&self.provider).expect("merges");
        bytes(welcome)
    }

    fn join(&self, welcome: &[u8]) -> MlsGroup {
        let MlsMessageBodyIn::Welcome(welcome) = read(welcome) else { panic!("a welcome") };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let staged = StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None).expect("for us");
        staged.into_group(&self.provider).expect("joins")
    }

    /// Commits a leaf that signs with `secret` and shows `delegation` instead of what it showed before.
    fn become_somebody_else(&self, group: &mut MlsGroup, secret: &DeviceSecret, delegation: &Delegation) -> Vec<u8> {
        let signer = NewSignerBundle { signer: &Signs(secret), credential_with_key: credential(secret, delegation) };
        let parameters = LeafNodeParameters::default();
        let bundle = group.self_update_with_new_signer(&self.provider, &Signs(&self.secret), signer, parameters);
        bytes(bundle.expect("a commit").into_commit())
    }
}

fn credential(secret: &DeviceSecret, delegation: &Delegation) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(delegation.to_bytes()).into(),
        signature_key: secret.public().as_bytes().to_vec().into(),
    }
}

fn bytes(message: MlsMessageOut) -> Vec<u8> {
    message.tls_serialize_detached().expect("bytes")
}

fn read(bytes: &[u8]) -> MlsMessageBodyIn {
    MlsMessageIn::tls_deserialize_exact_bytes(bytes).expect("an MLS message").extract()
}

//
#[test]
fn a_welcome_from_somebody_else_than_the_caller_is_refused() {
    let (caller, mallory) = (Person::new(), Person::new());
    let b = Person::new().device();
    let rogue = Rogue::of(&mallory);
    let mut group = rogue.group(Extensions::empty());

    let welcome = rogue.add(&mut group, &b);
    assert!(matches!(b.join(&welcome, &caller.key(), &[], NOW), Err(Error::UnexpectedIdentity)));

    // Even where Mallory is welcome, she is not the caller.
    let rogue = Rogue::of(&mallory);
    let mut group = rogue.group(Extensions::empty());
    let welcome = rogue.add(&mut group, &b);
    assert!(matches!(b.join(&welcome, &caller.key(), &[mallory.key()], NOW), Err(Error::NotFromCaller)));
}

//
#[test]
fn a_member_cannot_ring_in_the_name_of_another_member() {
    let (caller, mallory) = (Person::new(), Person::new());
    let (a, m, b) = (caller.device(), mallory.device(), Person::new().device());
    let mut groups = call(&a, &[&m]);
    let change = groups[1].propose_add(&[(b.identity(), b.key_package().expect("a package"))], NOW).expect("adds");
    let welcome = change.welcome.expect("for b");
    assert!(matches!(b.join(&welcome, &caller.key(), &[mallory.key()], NOW), Err(Error::NotFromCaller)));
}

//
#[test]
fn a_stranger_in_the_welcomes_tree_is_refused() {
    let (a, b, stranger) = (Person::new().device(), Person::new().device(), Person::new().device());
    let mut group = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let packages = [&b, &stranger].map(|device| (device.identity(), device.key_package().expect("a package")));
    let welcome = group.propose_add(&packages, NOW).expect("adds").welcome.expect("for both");
    assert!(matches!(b.join(&welcome, &a.identity(), &[], NOW), Err(Error::UnexpectedIdentity)));
}

//
#[test]
fn an_expired_delegation_in_the_welcomes_tree_is_refused() {
    let (a, b) = (Person::new().device_until(NOW + 10), Person::new().device());
    let mut group = a.create_group(ROOM, KeyExchange::X25519).expect("a group");
    let packages = [(b.identity(), b.key_package().expect("a package"))];
    let welcome = group.propose_add(&packages, NOW).expect("adds").welcome.expect("for b");
    let joined = b.join(&welcome, &a.identity(), &[], NOW + 11);
    assert!(matches!(joined, Err(Error::Delegation(IdentityError::Expired { .. }))));
}

//
#[test]
fn a_caller_who_shows_somebody_elses_delegation_is_refused() {
    let (caller, b) = (Person::new(), Person::new().device());
    // A delegation is public: everybody who was in a call with this device has it.
    let stolen = caller.0.delegate(&DeviceSecret::generate().public(), LATER);
    let rogue = Rogue::new(DeviceSecret::generate(), &stolen);
    let welcome = rogue.add(&mut rogue.group(Extensions::empty()), &b);
    assert!(matches!(b.join(&welcome, &caller.key(), &[], NOW), Err(Error::DelegationDevice)));
}

#[test]
fn a_caller_who_forged_a_delegation_is_refused() {
    let (caller, b) = (Person::new(), Person::new().device());
    let secret = DeviceSecret::generate();
    let forged = Delegation { identity: caller.key(), ..Person::new().0.delegate(&secret.public(), LATER) };
    let rogue = Rogue::new(secret, &forged);
    let welcome = rogue.add(&mut rogue.group(Extensions::empty()), &b);
    let joined = b.join(&welcome, &caller.key(), &[], NOW);
    assert!(matches!(joined, Err(Error::Delegation(IdentityError::Signature { .. }))));
}

//
#[test]
fn a_group_with_external_senders_is_refused() {
    let (caller, b) = (Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let sender = ExternalSender::new(rogue.credential.signature_key.clone(), rogue.credential.credential.clone());
    let senders = Extensions::single(Extension::ExternalSenders(vec![sender])).expect("allowed in a group");
    let welcome = rogue.add(&mut rogue.group(senders), &b);
    let joined = b.join(&welcome, &caller.key(), &[], NOW);
    // Our packages do not even claim to support the extension; either of the two refusals will do.
    assert!(matches!(joined, Err(Error::Refused { .. } | Error::Mls { .. })));
}

//
#[test]
fn a_key_package_must_be_its_identitys() {
    let ([_, _], [mut group, _]) = two();
    let (callee, mallory) = (Person::new(), Person::new());
    let add = |group: &mut supernode_e2ee::Group, package| group.propose_add(&[(callee.key(), package)], NOW);

    let swapped = mallory.device().key_package().expect("a package");
    assert!(matches!(add(&mut group, swapped), Err(Error::UnexpectedIdentity)));
    let expired = callee.device_until(NOW - 1).key_package().expect("a package");
    assert!(matches!(add(&mut group, expired), Err(Error::Delegation(IdentityError::Expired { .. }))));
    let stolen = callee.0.delegate(&DeviceSecret::generate().public(), LATER);
    let stolen = Rogue::new(DeviceSecret::generate(), &stolen).key_package();
    assert!(matches!(add(&mut group, stolen), Err(Error::DelegationDevice)));
    let mut broken = callee.device().key_package().expect("a package");
    *broken.last_mut().expect("not empty") ^= 1;
    assert!(matches!(add(&mut group, broken), Err(Error::Mls { .. })));

    assert_eq!((group.epoch(), group.members().len()), (1, 2));
    group.propose_update().expect("nothing is pending");
}

//
#[test]
fn a_commit_that_adds_a_stranger_is_refused_and_the_group_goes_on_without_it() {
    let ([_, _], [mut group_a, mut group_b]) = two();
    let stranger = Person::new().device();
    let package = (stranger.identity(), stranger.key_package().expect("a package"));
    let intruding = group_a.propose_add(&[package], NOW).expect("a thinks it fine");
    let before = (group_b.epoch(), group_b.members().len(), group_b.safety_number().expect("a member"));

    assert!(matches!(group_b.process(&intruding.commit, &nobody, NOW), Err(Error::UnexpectedIdentity)));
    assert!((group_b.epoch(), group_b.members().len(), group_b.safety_number().expect("a member")) == before);

    group_a.discard_own().expect("the others did not follow");
    update(&mut group_a, &mut [&mut group_b]);
    assert_eq!(group_a.safety_number().expect("a member"), group_b.safety_number().expect("a member"));
}

#[test]
fn a_commit_that_adds_an_expired_delegation_is_refused() {
    let ([_, _], [mut group_a, mut group_b]) = two();
    let c = Person::new().device_until(NOW + 10);
    let package = (c.identity(), c.key_package().expect("a package"));
    let change = group_a.propose_add(&[package], NOW).expect("it holds");
    let late = group_b.process(&change.commit, &anybody, NOW + 11);
    assert!(matches!(late, Err(Error::Delegation(IdentityError::Expired { .. }))));
    assert_eq!(group_b.epoch(), 1);
}

//
#[test]
fn an_update_cannot_make_a_member_somebody_else() {
    let (caller, mallory, b) = (Person::new(), Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let mut theirs = rogue.group(Extensions::empty());
    let mut group = b.join(&rogue.add(&mut theirs, &b), &caller.key(), &[], NOW).expect("joins");

    let secret = DeviceSecret::generate();
    let delegation = mallory.0.delegate(&secret.public(), LATER);
    let commit = rogue.become_somebody_else(&mut theirs, &secret, &delegation);
    assert!(matches!(group.process(&commit, &anybody, NOW), Err(Error::IdentityChanged)));
    theirs.clear_pending_commit(rogue.provider.storage()).expect("dropped");

    // Another device of the same identity is another member, too.
    let delegation = caller.0.delegate(&secret.public(), LATER);
    let commit = rogue.become_somebody_else(&mut theirs, &secret, &delegation);
    assert!(matches!(group.process(&commit, &anybody, NOW), Err(Error::IdentityChanged)));
    assert_eq!(group.epoch(), 1);
}

#[test]
fn an_update_can_renew_a_delegation_that_holds() {
    let (caller, b) = (Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let mut theirs = rogue.group(Extensions::empty());
    let mut group = b.join(&rogue.add(&mut theirs, &b), &caller.key(), &[], NOW).expect("joins");
    let renew = |theirs: &mut MlsGroup, not_after| {
        let delegation = caller.0.delegate(&rogue.secret.public(), not_after);
        let parameters = LeafNodeParameters::builder().with_credential_with_key(credential(&rogue.secret, &delegation));
        let bundle = theirs.self_update(&rogue.provider, &Signs(&rogue.secret), parameters.build());
        bytes(bundle.expect("a commit").into_commit())
    };

    let already_over = renew(&mut theirs, NOW - 1);
    assert!(matches!(group.process(&already_over, &nobody, NOW), Err(Error::Delegation(_))));
    theirs.clear_pending_commit(rogue.provider.storage()).expect("dropped");

    let renewed = renew(&mut theirs, LATER + 3600);
    let processed = group.process(&renewed, &nobody, NOW).expect("it holds");
    let Processed::EpochChanged { added, removed, .. } = processed else { panic!("a commit changes the epoch") };
    assert_eq!((added, removed), (vec![], vec![]));
    assert_eq!(group.epoch(), 2);
}

//
#[test]
fn nobody_enters_by_themselves() {
    let (caller, b) = (Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let mut theirs = rogue.group(Extensions::empty());
    let mut group = b.join(&rogue.add(&mut theirs, &b), &caller.key(), &[], NOW).expect("joins");

    // With a GroupInfo anybody could commit themselves in; even the caller's own second device may not.
    let info = theirs.export_group_info(rogue.provider.crypto(), &Signs(&rogue.secret), true).expect("a group info");
    let MlsMessageBodyIn::GroupInfo(info) = read(&bytes(info)) else { panic!("a group info") };
    let intruder = Rogue::of(&caller);
    let (_, commit) = MlsGroup::external_commit_builder()
        .build_group(&intruder.provider, info, intruder.credential.clone())
        .expect("reads the group info")
        .load_psks(intruder.provider.storage())
        .expect("no secrets")
        .build(intruder.provider.rand(), intruder.provider.crypto(), &Signs(&intruder.secret), |_| true)
        .expect("an external commit")
        .finalize(&intruder.provider)
        .expect("an external commit");
    let commit = bytes(commit.into_commit());
    assert!(matches!(group.process(&commit, &anybody, NOW), Err(Error::Refused { .. })));
    assert_eq!(group.epoch(), 1);
}

//
#[test]
fn proposals_count_only_inside_a_commit() {
    let (caller, b) = (Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let mut theirs = rogue.group(Extensions::empty());
    let mut group = b.join(&rogue.add(&mut theirs, &b), &caller.key(), &[], NOW).expect("joins");
    let (proposal, _) = theirs
        .propose_self_update(&rogue.provider, &Signs(&rogue.secret), LeafNodeParameters::default())
        .expect("a proposal");
    assert!(matches!(group.process(&bytes(proposal), &anybody, NOW), Err(Error::Refused { .. })));
}

//
#[test]
fn a_commit_that_changes_the_groups_extensions_is_refused() {
    let (caller, b) = (Person::new(), Person::new().device());
    let rogue = Rogue::of(&caller);
    let mut theirs = rogue.group(Extensions::empty());
    let mut group = b.join(&rogue.add(&mut theirs, &b), &caller.key(), &[], NOW).expect("joins");
    let required = RequiredCapabilitiesExtension::new(&[], &[], &[CredentialType::Basic]);
    let extensions = Extensions::single(Extension::RequiredCapabilities(required)).expect("allowed in a group");
    let (commit, _, _) =
        theirs.update_group_context_extensions(&rogue.provider, extensions, &Signs(&rogue.secret)).expect("a commit");
    assert!(matches!(group.process(&bytes(commit), &anybody, NOW), Err(Error::Refused { .. })));
    assert_eq!(group.epoch(), 1);
}

#[test]
fn a_member_in_the_middle_shows_in_the_safety_numbers() {
    // Mallory swapped both invitations, so that each side holds her for the other and she passes everything on.
    let (alice, bob, mallory) = (Person::new(), Person::new(), Person::new());
    let honest = call(&alice.device(), &[&bob.device()]);
    let with_alice = call(&alice.device(), &[&mallory.device()]);
    let with_bob = call(&mallory.device(), &[&bob.device()]);
    let number = |groups: &[supernode_e2ee::Group], at: usize| groups[at].safety_number().expect("a member");
    assert_eq!(number(&honest, 0), number(&honest, 1));
    assert_ne!(number(&with_alice, 0), number(&with_bob, 1));
}

#[test]
fn a_rogue_client_that_plays_by_the_rules_is_a_member_like_any_other() {
    // So that the refusals above are for what they say and not because such a client never works.
    let ([_, _], [mut group_a, mut group_b]) = two();
    let person = Person::new();
    let rogue = Rogue::of(&person);
    let change = group_a.propose_add(&[(person.key(), rogue.key_package())], NOW).expect("adds");
    group_a.merge_own().expect("accepted");
    group_b.process(&change.commit, &anybody, NOW).expect("follows");
    let mut theirs = rogue.join(&change.welcome.expect("for them"));
    let bundle = theirs.self_update(&rogue.provider, &Signs(&rogue.secret), LeafNodeParameters::default());
    let commit = bytes(bundle.expect("a commit").into_commit());
    for group in [&mut group_a, &mut group_b] {
        group.process(&commit, &nobody, NOW).expect("follows");
    }
    assert_eq!(group_a.safety_number().expect("a member"), group_b.safety_number().expect("a member"));
    theirs.merge_pending_commit(&rogue.provider).expect("accepted");
    let message = bytes(theirs.create_message(&rogue.provider, &Signs(&rogue.secret), b"hello").expect("a message"));
    let from = group_a.members().into_iter().find(|member| member.identity == person.key()).expect("they are in it");
    let read = group_a.process(&message, &nobody, NOW).expect("reads");
    assert_eq!(read, Processed::Message { from, bytes: b"hello".to_vec() });
}
