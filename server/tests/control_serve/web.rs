//! The ports for pages as their operator meets them.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConnection, StreamOwned, pki_types::CertificateDer};
use serde_json::json;
use sha2::{Digest, Sha256};
use supernode_proto::{invite::Invite, page_link};

use crate::{PATIENCE, Relay, invite, serve, serve_with, stderr, supernode};

const OPEN: &[&str] = &["--listen", "127.0.0.1:0", "--open"];

fn with_pages(home: &Path, told: &str) -> Command {
    let mut program = supernode(home);
    program.env("SUPERNODE__WEB__PAGES", "on").env("SUPERNODE__WEB__LISTEN", told);
    program
}

fn start(home: &Path, told: &str, arguments: &[&str]) -> Relay {
    serve_with(with_pages(home, told), &[OPEN, arguments].concat())
}

/// What is answered at this address.
fn asked(address: &str, path: &str) -> io::Result<String> {
    let answer = exchange(connected(address)?, path, "accept: */*")?;
    String::from_utf8(answer).map_err(io::Error::other)
}

/// The same, with one more header.
fn asked_with(address: &str, path: &str, header: &str) -> Vec<u8> {
    connected(address).and_then(|stream| exchange(stream, path, header)).expect("an answer")
}

fn connected(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(mut stream: impl Read + Write, path: &str, header: &str) -> io::Result<Vec<u8>> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Somebody whom browsers trust.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key_of_relay: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let key_of_relay = KeyPair::generate().expect("a key");
        Self { issuer: Issuer::new(params, key), certificate, key_of_relay }
    }

    /// Puts a new certificate for this name there, with its key.
    fn sign(&self, name: &str, home: &Path) {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let signed = params.signed_by(&self.key_of_relay, &self.issuer).expect("a certificate");
        std::fs::write(home.join("relay.key"), self.key_of_relay.serialize_pem()).expect("ours");
        std::fs::write(home.join("relay.pem"), signed.pem()).expect("ours");
    }

    /// What is answered by TLS under a name that this authority has signed for, and the certificate that was shown.
    fn asked(&self, address: &str) -> (String, CertificateDer<'static>) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let tls = ClientConnection::new(config.into(), name).expect("a client");
        let mut stream = StreamOwned::new(tls, connected(address).expect("taken"));
        let answer = exchange(&mut stream, "/", "accept: */*").expect("an answer");
        let shown = stream.conn.peer_certificates().expect("shown")[0].clone().into_owned();
        (String::from_utf8(answer).expect("text"), shown)
    }
}

//
#[test]
fn a_second_relay_at_the_port_for_pages_is_told_that_it_is_taken() {
    let (home, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let told = supernode_testkit::lasting_port().to_string();
    let relay = start(home.path(), &told, &[]);
    assert!(asked(&told, "/certificates").expect("an answer").contains("{\"certificates\":[[\""));
    let mut second = with_pages(other.path(), &told);
    second.args(["serve", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--open"]);
    let second = second.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn();
    let said = stderr(second.expect("the program starts"));
    assert!(said.contains(&format!("{told}: cannot open the port for pages")), "{said}");
    assert!(said.contains("web.listen"), "and what to do: {said}");
    for _ in 0..20 {
        assert!(asked(&told, "/certificates").expect("an answer").contains("certificates"), "it is the first one's");
    }
    assert_eq!(relay.terminate().0, Some(0));
}

//
#[test]
fn a_process_that_takes_over_gets_the_port_for_pages_and_nobody_is_refused_meanwhile() {
    let home = tempfile::tempdir().expect("a directory");
    let told = supernode_testkit::lasting_port().to_string();
    let old = start(home.path(), &told, &[]);
    let first = asked(&told, "/certificates").expect("an answer");
    let stop = Arc::new(AtomicBool::new(false));
    let knocking = std::thread::spawn({
        let (told, stop) = (told.clone(), stop.clone());
        move || {
            let mut connected = 0;
            while !stop.load(Ordering::Relaxed) {
                TcpStream::connect(&told)?;
                connected += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok::<_, io::Error>(connected)
        }
    });
    let new = start(home.path(), &told, &["--takeover"]);
    assert_eq!(old.wait().0, Some(0));
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let connected = knocking.join().expect("no panic").expect("nobody is refused");
    assert!(connected > 10, "{connected} connections tell nothing");
    let again = asked(&told, "/certificates").expect("an answer");
    let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body(&again), body(&first), "and is told the same");
    assert_eq!(new.terminate().0, Some(0));
    assert!(asked(&told, "/certificates").is_err(), "nobody keeps it");
}

/// The page that these tests have served.
const PAGE: &str = "<!doctype html><title>a page</title><p>Here people call.";

fn with_page(home: &Path, at: &str) -> Command {
    let file = home.join("page.html");
    std::fs::write(&file, PAGE).expect("ours");
    let mut program = supernode(home);
    program.env("SUPERNODE__WEB__PAGES", "on").env("SUPERNODE__WEB__PAGE", at).env("SUPERNODE__WEB__PAGE_FILE", file);
    program
}

#[test]
fn the_page_is_served_with_its_hash_and_nothing_else_is_there() {
    let home = tempfile::tempdir().expect("a directory");
    let at = supernode_testkit::lasting_port().to_string();
    let relay = serve_with(with_page(home.path(), &at), OPEN);
    let sha256 = HEXLOWER.encode(&Sha256::digest(PAGE));
    assert_eq!(relay.ready["page"], json!({ "url": format!("http://{at}/"), "sha256": sha256 }));
    let status = relay.json(home.path(), &["status"]);
    assert_eq!(status["page"], relay.ready["page"]);
    assert!(relay.get("/dashboard.json").contains(&sha256), "for the operator's page");

    let answer = asked(&at, "/").expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, PAGE);
    let head = head.to_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-opener-policy: same-origin",
        "cache-control: no-cache",
        "connection: close",
    ] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    assert!(!head.contains("unsafe-inline"), "what stands in the page is listed by its hash: {head}");
    assert!(head.contains("frame-ancestors 'none'") && head.contains("microphone=(self)"), "{head}");
    assert!(!head.contains("set-cookie") && !head.contains("server:"), "{head}");

    // Compressed for whoever takes that; and not sent to whoever has it.
    let with = |header: &str| asked_with(&at, "/", header);
    let compressed = with("accept-encoding: br, gzip;q=0.9");
    let text = String::from_utf8_lossy(&compressed).to_lowercase();
    assert!(text.contains("content-encoding: gzip"), "{text}");
    let begins = compressed.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut inflated = String::new();
    flate2::read::GzDecoder::new(&compressed[begins..]).read_to_string(&mut inflated).expect("gzip");
    assert_eq!(inflated, PAGE);
    let known = with(&format!("if-none-match: \"{sha256}-identity\""));
    assert!(known.starts_with(b"HTTP/1.1 304") && known.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&known));
    // What a browser runs that was woken, and what that opens.
    let script = asked(&at, "/push.js").expect("an answer");
    let (head, body) = script.split_once("\r\n\r\n").expect("a head");
    let head = head.to_lowercase();
    for line in ["http/1.1 200 ok", "content-type: text/javascript", "content-security-policy: default-src 'none'"] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    assert!(body.contains("showNotification") && !body.contains("fetch"), "it is in the way of no request: {body}");
    assert!(asked(&at, "/?rung").expect("an answer").ends_with(PAGE));
    for path in ["/certificates", "/metrics", "/index.html", "/../etc/passwd", "//"] {
        assert!(asked(&at, path).expect("an answer").starts_with("HTTP/1.1 404"), "{path}");
    }

    // Another page in the file's place is served at once, under its own hash.
    std::fs::write(home.path().join("page.html"), "another").expect("ours");
    let begin = Instant::now();
    while !asked(&at, "/").expect("an answer").ends_with("another") {
        assert!(begin.elapsed() < PATIENCE, "the page stays as it was");
        std::thread::sleep(Duration::from_millis(50));
    }
    let now = relay.json(home.path(), &["status"])["page"]["sha256"].clone();
    assert_eq!(now, HEXLOWER.encode(&Sha256::digest("another")));
    let (code, log) = relay.terminate();
    assert!(code == Some(0) && log.contains(&sha256) && !log.contains("ERROR"), "{log}");
}

#[test]
fn whoever_fills_the_page_s_port_keeps_nobody_from_it() {
    let home = tempfile::tempdir().expect("a directory");
    let at = supernode_testkit::lasting_port().to_string();
    let relay = serve_with(with_page(home.path(), &at), OPEN);
    let kept: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&at).expect("taken")).collect();
    assert!(asked(&at, "/").expect("an answer").ends_with(PAGE));
    drop(kept);
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_page_of_which_browsers_would_warn_is_refused_with_what_to_do_about_it() {
    let home = tempfile::tempdir().expect("a directory");
    let said = |program: &mut Command| {
        program.args(["check-config"]).env("SUPERNODE__RELAY__STATE_DIR", home.path());
        let output = program.output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let words = said(&mut with_page(home.path(), "0.0.0.0:8443"));
    assert!(
        words.contains("web.page") && words.contains("loopback") && words.contains("tls.mode = \"acme\""),
        "{words}"
    );
    let nowhere = said(with_page(home.path(), "127.0.0.1:0").env_remove("SUPERNODE__WEB__PAGE_FILE"));
    if supernode_server::control::page::Page::embedded().is_none() {
        assert!(nowhere.contains("web.page_file"), "{nowhere}");
    }
    let gone = said(with_page(home.path(), "127.0.0.1:0").env("SUPERNODE__WEB__PAGE_FILE", "/no/such/page"));
    assert!(gone.contains("/no/such/page"), "{gone}");
    let idle = said(with_page(home.path(), "127.0.0.1:0").env_remove("SUPERNODE__WEB__PAGE"));
    assert!(idle.contains("web.page_file") && idle.contains("does nothing"), "{idle}");
}

#[test]
fn with_an_authority_s_certificate_the_page_is_served_by_tls_also_after_it_is_renewed() {
    let home = tempfile::tempdir().expect("a directory");
    let at = supernode_testkit::lasting_port().to_string();
    let authority = Authority::new();
    authority.sign("localhost", home.path());
    let mut program = with_page(home.path(), &at);
    let file = |name: &str| home.path().join(name);
    program.env("SUPERNODE__TLS__MODE", "files").env("SUPERNODE__TLS__CERTIFICATE", file("relay.pem"));
    program.env("SUPERNODE__TLS__KEY", file("relay.key"));
    let relay = serve_with(program, OPEN);
    let port = at.rsplit_once(':').expect("a port").1;
    assert_eq!(relay.ready["page"]["url"], format!("https://localhost:{port}/"));
    let first = authority.asked(&at);
    assert!(first.0.ends_with(PAGE), "{}", first.0);
    authority.sign("localhost", home.path());
    let begin = Instant::now();
    while authority.asked(&at).1 == first.1 {
        assert!(begin.elapsed() < PATIENCE, "the old certificate is shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn an_invite_for_a_page_has_what_lets_in_behind_its_hash_mark() {
    let home = tempfile::tempdir().expect("a directory");
    let (at, told) = (supernode_testkit::lasting_port().to_string(), supernode_testkit::lasting_port());
    let mut program = with_page(home.path(), &at);
    program.env("SUPERNODE__WEB__LISTEN", told.to_string());
    let relay = serve_with(program, OPEN);
    let printed = |arguments: &[&str]| {
        let output = invite(home.path(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let link = printed(&["--web"]);
    let (page, behind) = link.trim().split_once('#').expect("a fragment");
    assert_eq!(page, format!("http://{at}/"));
    let invite: Invite = page_link::behind_page(&format!("#{behind}")).expect("a link").parse().expect("an invite");
    assert!(invite.token.is_some() && invite.pin.is_some());
    assert_eq!(invite.pages, Some(told.port()), "and where certificates are told");
    assert_eq!(link.lines().count(), 1, "a code is drawn for a terminal only");
    // The doctor reads it, too, and looks at both ports.
    let file = home.path().join("invite");
    std::fs::write(&file, &link).expect("ours");
    let doctor = || {
        let output = supernode(home.path()).args(["doctor", "--invite-file"]).arg(&file).output().expect("it starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let found = doctor();
    assert!(found.contains("2 are told, of the link's key"), "{found}");
    assert!(found.contains(&format!("http://{at}/: there, with the SHA-256 that the relay says")), "{found}");
    std::fs::write(&file, link.replace(&format!("pages={}", told.port()), "pages=9")).expect("ours");
    let found = doctor();
    assert!(found.contains("BAD   certificates for pages") && found.contains("web.listen"), "{found}");
    let elsewhere = printed(&["--web", "--page", "https://call.example.org"]);
    assert!(elsewhere.starts_with("https://call.example.org/#supernode://"), "{elsewhere}");
    assert_eq!(relay.terminate().0, Some(0));

    // One that serves none does not know where a page is.
    let other = tempfile::tempdir().expect("a directory");
    assert_eq!(serve(other.path(), &["--open"]).terminate().0, Some(0));
    let output = crate::invite(other.path(), &["--web"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && words.contains("--page URL"), "{words}");
}
