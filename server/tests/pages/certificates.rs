//! Certificates as browsers take them: the one that is shown changes under a page, and an authority has signed it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use supernode_proto::close::CloseCode;
use supernode_server::control::{serve::unix_now_s, state_dir::StateDir};
use x509_parser::time::ASN1Time;

use crate::{Browser, Relay, STATE};

const DAY_S: u64 = 24 * 3600;
/// As `control/certificates/pages.rs` has it: how long one is shown, how long before that it begins, and how long it is good.
const PERIOD_S: u64 = 6 * DAY_S;
const EARLY_S: u64 = DAY_S / 2;
const LIFE_S: u64 = 13 * DAY_S;
/// From a relay's start until it shows the next one: a browser that has never been started takes its time.
const UNTIL_NEXT_S: u64 = 25;

/// Puts two certificates of the relay's key there, the first of which has been shown for almost as long as it is.
fn soon_to_change(home: &Path) {
    let state = StateDir::create(&home.join(STATE)).expect("a directory");
    let keys = state.keys_or_create().expect("keys");
    let first_from = unix_now_s() + UNTIL_NEXT_S - PERIOD_S;
    let pems = [first_from, first_from + PERIOD_S].map(|from| {
        let mut params = CertificateParams::new(["supernode.invalid".to_owned()]).expect("a name");
        let at = |unix_s: u64| ASN1Time::from_timestamp(unix_s as i64).expect("a time").to_datetime();
        (params.not_before, params.not_after) = (at(from - EARLY_S), at(from - EARLY_S + LIFE_S));
        params.serial_number = Some(from.into());
        params.self_signed(&keys.tls_key).expect("a certificate").pem()
    });
    let file = home.join(STATE).join("page-certificates.pem");
    fs::write(&file, pems.concat()).expect("ours");
    // What others may read is no relay's state.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
}

fn a_page_is_there_while_the_certificate_changes(browser: Browser) {
    let relay = Relay::start_with("0.0.0.0:0", "", soon_to_change);
    let at = relay.listen.replace("0.0.0.0", "127.0.0.1");
    let found = relay.tried_by(browser, &at, "rotation");
    let expected = json!({
        "oldBefore": "in",
        "nextBefore": "refused",
        "shown": true,
        "sessionStays": "in",
        "oldAfter": "refused",
        "nextAfter": "in",
        "toldBefore": 1,
    });
    assert_eq!(found, expected);
}

//
#[test]
fn in_chromium_a_page_stays_while_the_certificate_changes_and_comes_back_by_what_it_was_told_before() {
    a_page_is_there_while_the_certificate_changes(Browser::Chromium);
}

//
#[test]
fn in_firefox_a_page_stays_while_the_certificate_changes_and_comes_back_by_what_it_was_told_before() {
    a_page_is_there_while_the_certificate_changes(Browser::Firefox);
}

/// Somebody who signs certificates, and one for `localhost`.
fn signed_for_localhost(home: &Path) {
    let (key, own) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(home.join("authority.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("ours");
    let mut relay = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    // Browsers refuse what is good for years.
    let at = |unix_s: u64| ASN1Time::from_timestamp(unix_s as i64).expect("a time").to_datetime();
    (relay.not_before, relay.not_after) = (at(unix_now_s() - DAY_S), at(unix_now_s() + 60 * DAY_S));
    let signed = relay.signed_by(&own, &Issuer::new(params, key)).expect("a certificate");
    fs::write(home.join("relay.pem"), signed.pem()).expect("ours");
    fs::write(home.join("relay.key"), own.serialize_pem()).expect("ours");
}

/// `certutil`, on the database of whom a browser trusts.
fn certutil(database: &Path, arguments: &[&str]) {
    let mut command = Command::new("certutil");
    command.arg("-d").arg(format!("sql:{}", database.display())).args(arguments);
    let output = command.output().expect("certutil, of libnss3-tools");
    assert!(output.status.success(), "certutil {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn an_authority_s_certificate_is_taken(browser: Browser) {
    let more = "[tls]\nmode = \"files\"\ncertificate = \"HOME/relay.pem\"\nkey = \"HOME/relay.key\"\n";
    let relay = Relay::start_with("[::]:0", more, signed_for_localhost);
    let port = relay.listen.rsplit_once(':').expect("a port").1;
    let (home, at) = (relay.home.path(), format!("localhost:{port}"));
    assert_eq!(relay.pin, "", "the link has none");
    // By a browser that does not trust it first: else nothing would be shown by that another one takes it.
    let database = browser.trust(home);
    certutil(&database, &["-N", "--empty-password"]);
    let found = relay.tried_by(browser, &at, "authority");
    assert!(found["error"].as_str().is_some(), "nobody has said that this authority is to be trusted: {found}");
    let file = home.join("authority.pem");
    certutil(&database, &["-A", "-n", "tests", "-t", "C,,", "-i", &file.to_string_lossy()]);
    let found = relay.tried_by(browser, &at, "authority");
    assert_eq!(found["version"], json!(1), "{found}");
    assert_eq!(found["closed"], json!(CloseCode::MALFORMED_MESSAGE.0), "{found}");
    assert_eq!(found["otherName"], json!("refused"), "{found}");
}

//
#[test]
fn in_chromium_a_page_takes_the_certificate_of_an_authority_that_it_trusts() {
    an_authority_s_certificate_is_taken(Browser::Chromium);
}

//
#[test]
fn in_firefox_a_page_takes_the_certificate_of_an_authority_that_it_trusts() {
    an_authority_s_certificate_is_taken(Browser::Firefox);
}
