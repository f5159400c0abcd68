//! Who gets in: tokens of this relay, in time, for the one who shows them; and the invite links that carry them.

use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_ED25519};
use supernode_proto::{
    DEFAULT_PORT,
    close::CloseCode,
    identity::{DeviceKey, IdentityKey, RelayPin},
    invite::Invite,
    limits::ADMISSION_TOKEN_BYTES_MAX,
};
use supernode_server::{
    control::{
        admission::{AdmissionMode, IssueError, TOKEN_LIFETIME_S_MAX, TokenIssuer, TokenVerifier},
        allow_list::AllowList,
        invite::{InviteLinkError, InviteRequest, create_invite, parse_host},
        state_dir::StateDir,
        tls::relay_pin,
    },
    core::{Admit, Applicant, Grant, Resident, TokenDigest, Voucher},
};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const ALICE: IdentityKey = IdentityKey::new([1; 32]);
const BOB: IdentityKey = IdentityKey::new([2; 32]);
const PIN: RelayPin = RelayPin([7; 32]);

struct Relay {
    key: KeyPair,
    mode: AdmissionMode,
}

fn relay() -> Relay {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let mode = AdmissionMode::Tokens(TokenVerifier::new(&key, &PIN));
    Relay { key, mode }
}

impl Relay {
    fn token(&self, identity: Option<&IdentityKey>) -> String {
        TokenIssuer::new(&self.key, &PIN).issue(identity, NOW, HOUR, [3; 16]).expect("a token")
    }

    /// A token with this header and these claims, signed with the relay's own key.
    fn signed(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = rcgen::SigningKey::sign(&self.key, message.as_bytes()).expect("Ed25519 signs");
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn answer(&self, token: &str) -> Result<(), CloseCode> {
        admitted(&self.mode, &ALICE, token, NOW)
    }
}

fn applicant(identity: &IdentityKey, token: &str) -> Applicant {
    let from = std::net::IpAddr::from([192, 0, 2, 1]);
    Applicant { identity: *identity, device: DeviceKey::new([9; 32]), from, token: token.to_owned() }
}

fn admitted(mode: &AdmissionMode, identity: &IdentityKey, token: &str, now: u64) -> Result<(), CloseCode> {
    mode.admit(&applicant(identity, token), now).map(drop)
}

fn encode(part: &str) -> String {
    BASE64URL_NOPAD.encode(part.as_bytes())
}

const HEADER: &str = r#"{"typ":"JWT","alg":"EdDSA"}"#;

fn claims(iss: &str, aud: &str, sub: &str, exp: &str) -> String {
    format!(r#"{{"iss":"{iss}","aud":"{aud}","sub":"{sub}","iat":{NOW},"exp":{exp},"jti":"x"}}"#)
}

fn good_claims() -> String {
    claims("supernode", &BASE64URL_NOPAD.encode(&PIN.0), "*", &(NOW + HOUR).to_string())
}

// R-13
#[test]
fn a_bearer_token_admits_whoever_carries_it() {
    let relay = relay();
    let token = relay.token(None);
    assert!(token.len() < 400, "{} bytes", token.len());
    assert_eq!(admitted(&relay.mode, &ALICE, &token, NOW), Ok(()));
    assert_eq!(admitted(&relay.mode, &BOB, &token, NOW), Ok(()));
}

// R-13
#[test]
fn a_token_for_one_identity_admits_nobody_else() {
    let relay = relay();
    let token = relay.token(Some(&ALICE));
    assert_eq!(admitted(&relay.mode, &ALICE, &token, NOW), Ok(()));
    assert_eq!(admitted(&relay.mode, &BOB, &token, NOW), Err(CloseCode::NOT_ADMITTED));
}

// R-13
#[test]
fn a_token_ends_at_its_last_second_by_the_time_that_is_passed_in() {
    let relay = relay();
    let token = relay.token(None);
    assert_eq!(admitted(&relay.mode, &ALICE, &token, NOW + HOUR - 1), Ok(()));
    assert_eq!(admitted(&relay.mode, &ALICE, &token, NOW + HOUR), Err(CloseCode::TOKEN_EXPIRED));
    assert_eq!(admitted(&relay.mode, &ALICE, &token, u64::MAX), Err(CloseCode::TOKEN_EXPIRED));
}

// R-155
#[test]
fn whoever_a_token_let_in_may_stay_up_to_its_last_second() {
    let relay = relay();
    let who = applicant(&ALICE, &relay.token(None));
    let mut grant = relay.mode.admit(&who, NOW).expect("in time");
    assert_eq!(grant.until_unix_s, NOW + HOUR);
    let who = Resident::from(&who);
    assert_eq!(relay.mode.stays(&who, &mut grant, NOW + HOUR - 1), Ok(()));
    assert_eq!(relay.mode.stays(&who, &mut grant, NOW + HOUR), Err(CloseCode::TOKEN_EXPIRED));
}

// R-156
#[test]
fn when_the_door_changes_each_way_in_is_judged_by_what_counts_now() {
    let (tokens, other) = (relay(), relay());
    let who = applicant(&ALICE, &tokens.token(None));
    let by_token = tokens.mode.admit(&who, NOW).expect("its token");
    let who = Resident::from(&who);
    let judged = |mode: &AdmissionMode, grant: &Grant| {
        let mut grant = grant.clone();
        mode.stays(&who, &mut grant, NOW).map(|()| (grant.by, grant.until_unix_s))
    };
    let by_nobody = Grant::without_end(Voucher::Nobody);
    assert_eq!(judged(&AdmissionMode::Open, &by_token), Ok((Voucher::Nobody, u64::MAX)), "no end of its own any more");
    assert_eq!(judged(&other.mode, &by_token), Err(CloseCode::NOT_ADMITTED), "its key is gone");
    assert_eq!(judged(&tokens.mode, &by_nobody), Err(CloseCode::REMOVED), "it is to show its token at the door");

    let home = tempfile::tempdir().expect("a temporary directory");
    let list = |text: String| {
        std::fs::write(home.path().join("list"), text).expect("ours");
        AdmissionMode::AllowList(AllowList::read(&home.path().join("list")).expect("a list"))
    };
    assert_eq!(judged(&list(ALICE.to_text()), &by_token), Ok((Voucher::List, u64::MAX)));
    assert_eq!(judged(&list(BOB.to_text()), &by_token), Err(CloseCode::NOT_ADMITTED));
    assert_eq!(who.token, TokenDigest::of(&tokens.token(None)));
}

#[test]
fn that_a_token_has_expired_is_told_only_to_the_one_it_was_for() {
    let relay = relay();
    let token = relay.token(Some(&ALICE));
    assert_eq!(admitted(&relay.mode, &BOB, &token, NOW + HOUR), Err(CloseCode::NOT_ADMITTED));
}

// R-13
#[test]
fn a_token_of_another_relay_is_refused() {
    let ours = relay();
    assert_eq!(ours.answer(&relay().token(None)), Err(CloseCode::NOT_ADMITTED), "another key");
    let other_pin = TokenIssuer::new(&ours.key, &RelayPin([8; 32])).issue(None, NOW, HOUR, [3; 16]).expect("a token");
    assert_eq!(ours.answer(&other_pin), Err(CloseCode::NOT_ADMITTED), "the same key, another pin");
}

#[test]
fn the_helper_that_forges_tokens_makes_good_ones_too() {
    let relay = relay();
    assert_eq!(relay.answer(&relay.signed(HEADER, &good_claims())), Ok(()));
}

#[test]
fn no_algorithm_but_eddsa_is_taken() {
    let relay = relay();
    let message = |header: &str| format!("{}.{}", encode(header), encode(&good_claims()));
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"ES256"}"#, r#"{}"#] {
        assert_eq!(relay.answer(&format!("{}.", message(header))), Err(CloseCode::NOT_ADMITTED), "{header}, unsigned");
        let signed = relay.signed(header, &good_claims());
        assert_eq!(relay.answer(&signed), Err(CloseCode::NOT_ADMITTED), "{header}, signed with our key");
    }
    // The known confusion of keys: an HMAC under the public key, which everybody knows.
    let hmac = jsonwebtoken::encode(
        &jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256),
        &serde_json::from_str::<serde_json::Value>(&good_claims()).expect("JSON"),
        &jsonwebtoken::EncodingKey::from_secret(relay.key.public_key_raw()),
    );
    assert_eq!(relay.answer(&hmac.expect("a token")), Err(CloseCode::NOT_ADMITTED));
}

#[test]
fn claims_that_are_missing_wrong_or_of_another_type_are_refused() {
    let relay = relay();
    let aud = BASE64URL_NOPAD.encode(&PIN.0);
    let exp = (NOW + HOUR).to_string();
    let good = good_claims();
    let text = ALICE.to_text();
    for (what, claims) in [
        ("issuer", claims("somebody", &aud, "*", &exp)),
        ("audience", claims("supernode", "somewhere", "*", &exp)),
        ("empty subject", claims("supernode", &aud, "", &exp)),
        ("two subjects", claims("supernode", &aud, &format!("{text},*"), &exp)),
        ("negative end", claims("supernode", &aud, "*", "-1")),
        ("end as text", claims("supernode", &aud, "*", r#""9999999999""#)),
        ("no end", good.replace(r#""exp""#, r#""xxp""#)),
        ("no issuer", good.replace(r#""iss""#, r#""xss""#)),
        ("no audience", good.replace(r#""aud""#, r#""xud""#)),
        ("no subject", good.replace(r#""sub""#, r#""xub""#)),
        ("audience twice", good.replacen('{', r#"{"aud":"elsewhere","#, 1)),
        ("no object", "[]".to_owned()),
    ] {
        assert_eq!(relay.answer(&relay.signed(HEADER, &claims)), Err(CloseCode::NOT_ADMITTED), "{what}: {claims}");
    }
}

#[test]
fn a_token_changed_anywhere_is_refused() {
    let relay = relay();
    let token = relay.token(Some(&ALICE));
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        let old = alphabet.iter().position(|symbol| *symbol == bytes[at]);
        bytes[at] = old.map_or(b'A', |old| alphabet[(old + 32) % 64]);
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(relay.answer(&changed), Err(CloseCode::NOT_ADMITTED), "changed at {at}");
        assert_eq!(relay.answer(&token[..at]), Err(CloseCode::NOT_ADMITTED), "cut at {at}");
    }
    assert_eq!(relay.answer(&token), Ok(()));
}

#[test]
fn a_token_above_the_bound_is_not_even_read() {
    let relay = relay();
    let padded = |length: usize| {
        let empty = relay.signed(HEADER, &good_claims().replace(r#""x""#, r#""""#)).len();
        let filler = "x".repeat((length - empty) * 3 / 4);
        relay.signed(HEADER, &good_claims().replace(r#""x""#, &format!(r#""{filler}""#)))
    };
    let (short, long) = (padded(ADMISSION_TOKEN_BYTES_MAX - 4), padded(ADMISSION_TOKEN_BYTES_MAX + 8));
    assert!(short.len() <= ADMISSION_TOKEN_BYTES_MAX && long.len() > ADMISSION_TOKEN_BYTES_MAX);
    assert_eq!(relay.answer(&short), Ok(()));
    assert_eq!(relay.answer(&long), Err(CloseCode::NOT_ADMITTED));
}

#[test]
fn an_open_relay_admits_everybody_and_no_other_does() {
    assert_eq!(admitted(&AdmissionMode::Open, &ALICE, "", NOW), Ok(()));
    assert_eq!(admitted(&AdmissionMode::Open, &ALICE, "nonsense", NOW), Ok(()));
    assert_eq!(relay().answer(""), Err(CloseCode::NOT_ADMITTED));
}

#[test]
fn no_token_runs_longer_than_a_year_and_a_day() {
    let relay = relay();
    let issuer = TokenIssuer::new(&relay.key, &PIN);
    let issue = |lifetime_s| issuer.issue(None, NOW, lifetime_s, [3; 16]);
    assert!(issue(TOKEN_LIFETIME_S_MAX).is_ok());
    assert!(matches!(issue(TOKEN_LIFETIME_S_MAX + 1), Err(IssueError::Lifetime { .. })));
    assert!(matches!(issue(0), Err(IssueError::Lifetime { lifetime_s: 0 })));
}

#[test]
fn nothing_of_a_key_or_token_shows_in_debug_output() {
    assert_eq!(format!("{:?} {:?}", relay().mode, AdmissionMode::Open), "Tokens(..) Open");
}

#[test]
fn an_invite_leads_to_the_relay_and_lets_its_holder_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = StateDir::create(directory.path()).expect("a directory");
    let keys = state.keys_or_create().expect("keys");
    let pin = relay_pin(&keys);
    let mode = AdmissionMode::Tokens(TokenVerifier::new(&keys.admission_key, &pin));
    let invite = |host, identity| {
        let link =
            create_invite(&state, &InviteRequest { host, identity, days: 30, once: false, class: None }, NOW, [4; 16])?;
        Ok::<Invite, InviteLinkError>(link.to_string().parse().expect("what is printed can be read"))
    };

    let link = invite(Some("relay.example"), Some(&ALICE)).expect("a link");
    assert_eq!((link.host.as_str(), link.port, link.pin), ("relay.example", DEFAULT_PORT, Some(pin)));
    let token = link.token.expect("a token");
    assert_eq!(admitted(&mode, &ALICE, &token, NOW + 30 * 24 * HOUR - 1), Ok(()));
    assert_eq!(admitted(&mode, &ALICE, &token, NOW + 30 * 24 * HOUR), Err(CloseCode::TOKEN_EXPIRED));
    assert_eq!(admitted(&mode, &BOB, &token, NOW), Err(CloseCode::NOT_ADMITTED));

    assert!(matches!(invite(None, None), Err(InviteLinkError::NoAddress)), "not started yet");
    state.remember_link(&"supernode://[2001:db8::1]:9/".parse().expect("a link")).expect("written");
    let link = invite(None, None).expect("a link");
    assert_eq!((link.host.as_str(), link.port), ("2001:db8::1", 9), "the address of the last start");
    assert_eq!(link.pin, None, "clients check the certificate that this relay shows by its name");
    assert_eq!(admitted(&mode, &BOB, &link.token.expect("a token"), NOW), Ok(()));
}

#[test]
fn an_invite_takes_every_form_of_address_and_nothing_else() {
    let address = |text| parse_host(text).map(|invite| (invite.host, invite.port));
    for (text, host, port) in [
        ("relay.example:9", "relay.example", 9),
        ("192.0.2.1", "192.0.2.1", DEFAULT_PORT),
        ("2001:db8::1", "2001:db8::1", DEFAULT_PORT),
        ("[2001:db8::1]", "2001:db8::1", DEFAULT_PORT),
        ("[2001:db8::1]:9", "2001:db8::1", 9),
    ] {
        assert_eq!(address(text).expect(text), (host.to_owned(), port));
    }
    let several = parse_host("relay.example, 2001:db8::1,192.0.2.1:9").expect("three of them");
    assert_eq!(several.to_string(), "supernode://relay.example:4433/?also=[2001:db8::1]:4433,192.0.2.1:9");
    for text in ["a,", "a,a", "1,2,3,4,5,6,7,8,9"] {
        assert!(matches!(address(text), Err(InviteLinkError::Address { .. })), "{text:?}");
    }
    for text in ["", ":9", "h:0", "h:x", "a b", "h/?token=x", "h?pin=x", "supernode://h"] {
        assert!(matches!(address(text), Err(InviteLinkError::Address { .. })), "{text:?}");
    }
}
