//! The program itself: starts, says where it is, answers, and ends in order.

mod breakdown;
mod commands;
mod files;
mod logs;
mod mishaps;
mod networks;
mod operator_port;
mod push;
mod secrets;
mod service;
mod systemd;
mod tcp;
mod upgrade;
mod upgrade_fails;
mod web;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use quinn::{ConnectionError, crypto::rustls::QuicClientConfig};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use supernode_keys::{DeviceSecret, IdentitySecret};
use supernode_proto::{
    ALPN,
    close::CloseCode,
    control::{ClientMessage, FrameReader, RelayMessage, client_message, frame, relay_message},
    identity::{EXPORTER_LABEL, IdentityKey},
    invite::Invite,
};
use supernode_session::{Channel, Introduction};

/// How long what must come may take: far less than the 60 s that a drain waits for calls.
const PATIENCE: Duration = Duration::from_secs(20);

struct Relay {
    child: Child,
    home: PathBuf,
    ready: serde_json::Value,
    _leash: Leash,
}

/// Ends a process that a test which fails would leave behind.
struct Leash(OwnedFd);

impl Leash {
    fn on(pid: u32) -> Self {
        let pid = Pid::from_raw(pid as i32).expect("a process");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("it runs, or has not been waited for"))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // One that has ended by itself is no fault.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

fn supernode(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supernode"));
    command.env("XDG_STATE_HOME", state).env_remove("RUST_LOG");
    command
}

fn serve(state: &Path, arguments: &[&str]) -> Relay {
    serve_at(state, "127.0.0.1:0", arguments)
}

fn serve_at(state: &Path, listen: &str, arguments: &[&str]) -> Relay {
    serve_with(supernode(state), &[&["--listen", listen], arguments].concat())
}

fn serve_with(program: Command, arguments: &[&str]) -> Relay {
    serve_to(program, arguments, Stdio::piped())
}

fn serve_to(mut program: Command, arguments: &[&str], stderr_to: Stdio) -> Relay {
    let home = program.get_envs().find(|(name, _)| *name == "XDG_STATE_HOME").and_then(|(_, home)| home);
    let home = PathBuf::from(home.expect("given by `supernode`"));
    let mut child = program
        .args(["serve", "--admin", "127.0.0.1:0", "--shards", "2"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr_to)
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    match serde_json::from_str(&line) {
        Ok(ready) => Relay { _leash: Leash::on(child.id()), child, home, ready },
        Err(_) => panic!("no ready line: {line:?}, {}", stderr(child)),
    }
}

fn stderr(child: Child) -> String {
    String::from_utf8_lossy(&child.wait_with_output().expect("it ends").stderr).into_owned()
}

impl Relay {
    fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().expect(field)
    }

    fn invite(&self) -> Invite {
        match self.ready["invite"].as_str() {
            Some(link) => link.parse().expect("a valid link"),
            // No token stands where no terminal reads it.
            None => printed(&invite(&self.home, &[])),
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.text("admin")).expect("the admin port");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn signal(&self) {
        self.send(Signal::TERM);
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Sends SIGTERM; the exit status and what was said on standard error.
    fn terminate(self) -> (Option<i32>, String) {
        self.signal();
        self.wait()
    }

    fn wait(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.child.try_wait().expect("our child").is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill(); // nothing to end if it went by itself
        let output = self.child.wait_with_output().expect("our child");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn printed(output: &Output) -> Invite {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).parse().expect("a valid link")
}

fn invite(state: &Path, arguments: &[&str]) -> Output {
    supernode(state).arg("invite").args(arguments).output().expect("the program starts")
}

#[test]
fn a_relay_says_where_it_is_and_ends_in_order() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    assert_eq!(relay.ready["pid"], relay.child.id());
    let link = relay.invite();
    assert_eq!(format!("{}:{}", link.host, link.port), relay.text("listen"));
    assert!(link.token.is_some(), "a relay that is not open needs a token");
    assert_eq!(relay.ready.get("invite"), None, "a token where no terminal reads it");
    assert!(relay.get("/healthz").ends_with("ok\n"));
    assert!(relay.get("/metrics").contains("\nsupernode_shards 2\n"));

    // An invite while it runs: the same relay, another token.
    let printed = printed(&invite(home.path(), &[]));
    assert_eq!((&printed.host, printed.port, printed.pin), (&link.host, link.port, link.pin));
    assert_ne!(printed.token, link.token);

    let token = link.token.expect("a token");
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ready") && log.contains("draining") && log.contains("drained"), "{log}");
    assert!(!log.contains(&token), "a token is in the log");
    assert!(log.contains("make one with `supernode invite`"), "{log}");

    let again = serve(home.path(), &[]);
    assert_eq!(again.invite().pin, link.pin, "clients know it again");
    assert_eq!(again.terminate().0, Some(0));
}

#[test]
fn an_open_relay_gives_a_link_without_a_token_and_warns_only_where_others_can_reach_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    assert_eq!(relay.invite().token, None);
    let (_, log) = relay.terminate();
    assert!(!log.contains("WARN"), "{log}");

    let mut child = supernode(home.path())
        .args(["serve", "--open", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0", "--shards", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ready = serde_json::from_str(&line).expect("a ready line");
    let relay = Relay { _leash: Leash::on(child.id()), child, home: home.path().to_owned(), ready };
    assert_ne!(relay.invite().host, "0.0.0.0", "an address that a client can use");
    let (_, log) = relay.terminate();
    assert!(log.contains("WARN") && log.contains("open to everybody"), "{log}");
}

#[test]
fn what_cannot_be_done_is_said_once_with_the_documented_exit_code() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let fails = |arguments: &[&str], code, reason: &str| {
        let output = supernode(home.path()).args(arguments).output().expect("the program starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
        assert_eq!(words.matches(reason).count(), 1, "{arguments:?}: {words}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed data");
    };
    fails(&["invite", "--host", "h"], 1, "supernode serve");
    fails(&["serve", "--admin", "0.0.0.0:0"], 1, "must be IP:PORT on a loopback address");
    fails(&["serve", "--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"], 1, "cannot open the relay's UDP port");
    fails(&["serve", "--batch-window-us", "10001"], 2, "is not in 0..=10000");
    fails(&["serve", "--shards", "0"], 2, "0 is not in");
    fails(&["invite", "--days", "367"], 2, "is not in 1..=366");
    fails(&["invite", "--for", "somebody"], 2, "not in its text form");
    for nonsense in ["a=b=c", "verbose"] {
        let output = supernode(home.path()).env("RUST_LOG", nonsense).arg("what-i-see").output().expect("it starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && words.contains("off, error, warn, info or debug"), "{words}");
    }
    fails(&["brew"], 2, "unrecognized subcommand");
}

#[test]
fn the_ledger_can_be_read_without_a_relay() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = supernode(home.path()).arg("what-i-see").output().expect("the program starts");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).expect("text").contains("network address"));
}

/// A device's connection, and what the relay says on its control stream.
struct Client {
    connection: quinn::Connection,
    stream: quinn::RecvStream,
    reader: FrameReader,
    _send: quinn::SendStream,
    endpoint: quinn::Endpoint,
}

/// Connects and says Hello with this token, in the name of the identity with this secret key.
async fn connect(home: &Path, invite: &Invite, secret: u8, token: Option<&str>) -> Client {
    let certificate = CertificateDer::from_pem_file(home.join("supernode/tls-certificate.pem")).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a valid certificate");
    let mut tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ClientConfig::new(std::sync::Arc::new(QuicClientConfig::try_from(tls).expect("AES-128")));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let address = format!("{}:{}", invite.host, invite.port).parse().expect("an address");
    let connection = endpoint.connect_with(config, address, "supernode.invalid").expect("valid").await.expect("TLS");
    let (mut send, stream) = connection.open_bi().await.expect("a stream");

    let (identity, device) = (identity(secret), device(secret));
    let not_after_unix_s = supernode_server::control::serve::unix_now_s() + 3600;
    let delegation = identity.delegate(&device.public(), not_after_unix_s);
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").expect("an exporter");
    let channel = Channel::by_exporter(invite.pin.expect("a pin"), exporter, device.public());
    let hello = channel.hello(&device, &Introduction::new(&delegation, token.unwrap_or("")));
    let hello = client_message::Body::Hello(hello);
    send.write_all(&frame(&ClientMessage { request: 0, body: Some(hello) })).await.expect("sent");
    Client { connection, stream, reader: FrameReader::default(), _send: send, endpoint }
}

fn identity(secret: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[secret; 32])
}

fn device(secret: u8) -> DeviceSecret {
    DeviceSecret::from_bytes(&[secret + 100; 32])
}

fn identity_of(secret: u8) -> IdentityKey {
    identity(secret).public()
}

impl Client {
    /// The next message, or the code with which the relay closed. What the relay thinks of the path comes at any time.
    async fn next(&mut self) -> Result<relay_message::Body, CloseCode> {
        loop {
            if let Some(message) = self.reader.next_message::<RelayMessage>().expect("a well-formed message") {
                match message.body.expect("a known message") {
                    relay_message::Body::Allocation(_) => continue,
                    body => return Ok(body),
                }
            }
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.reader.push(&chunk.bytes),
                _ => match self.connection.closed().await {
                    ConnectionError::ApplicationClosed(close) => return Err(CloseCode(close.error_code.into_inner())),
                    other => panic!("not closed by the relay: {other}"),
                },
            }
        }
    }
}

//
#[tokio::test]
async fn a_token_opens_the_door_and_nothing_else_does() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let link = relay.invite();
    let for_one = invite(home.path(), &["--for", &identity_of(1).to_text()]);
    let for_one: Invite = String::from_utf8(for_one.stdout).expect("text").parse().expect("a valid link");

    let mut addresses = Vec::new();
    for (secret, token, admitted) in [
        (1, link.token.as_deref(), true),
        (2, None, false),
        (3, Some("nonsense"), false),
        (1, for_one.token.as_deref(), true),
        (4, for_one.token.as_deref(), false),
    ] {
        let mut client = connect(home.path(), &link, secret, token).await;
        addresses.push(client.endpoint.local_addr().expect("bound").to_string());
        match client.next().await {
            Ok(relay_message::Body::Welcome(_)) => assert!(admitted, "{secret} got in"),
            Ok(other) => panic!("no answer to a Hello: {other:?}"),
            Err(code) => assert_eq!((code, admitted), (CloseCode::NOT_ADMITTED, false), "{secret}"),
        }
    }
    // The last answer may come a moment before the turn's counts.
    let counted = "\nsupernode_sessions_closed_total{code=\"NOT_ADMITTED\"} 3\n";
    let deadline = Instant::now() + PATIENCE;
    while !relay.get("/metrics").contains(counted) {
        assert!(Instant::now() < deadline, "{}", relay.get("/metrics"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, log) = relay.terminate();
    assert!(addresses.iter().all(|address| !log.contains(address)), "a client's address is in the log: {log}");
}

//
#[tokio::test]
async fn an_open_relay_takes_anybody_and_a_drain_tells_them_to_go() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &relay.invite(), 1, None).await;
    assert!(matches!(client.next().await, Ok(relay_message::Body::Welcome(_))));
    relay.signal();
    assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    client.connection.close(0u8.into(), b"");
    client.endpoint.wait_idle().await;
    let begin = Instant::now();
    let (code, log) = relay.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(begin.elapsed() < PATIENCE, "it waited");
    assert!(log.contains("sessions_left=0"), "it did not wait for the goodbye: {log}");
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_those_who_stay() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &relay.invite(), 1, None).await;
    assert!(matches!(client.next().await, Ok(relay_message::Body::Welcome(_))));
    relay.signal();
    assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    let begin = Instant::now();
    relay.signal();
    let (code, log) = relay.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert!(begin.elapsed() < PATIENCE, "it waited");
}
