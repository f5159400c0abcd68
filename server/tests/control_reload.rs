//! What a running relay takes over from its configuration and from the files that this names, and what it leaves.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use quinn::{ConnectionError, crypto::rustls::QuicClientConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use supernode_keys::{DeviceSecret, IdentitySecret};
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, FrameReader, RelayMessage, SessionLimits, client_message, frame, relay_message},
    identity::{EXPORTER_LABEL, IdentityKey, RelayPin},
};
use supernode_server::control::{admission::TokenIssuer, serve::unix_now_s, state_dir::StateDir, tls::relay_pin};
use supernode_session::{Channel, Introduction, pin::pin_of};
use supernode_tls::AnyCertificate;

/// Longest for a change to be taken over: files are looked at every two seconds, shards take note every second.
const SOON: Duration = Duration::from_secs(20);

/// A relay with a configuration file.
struct Relay {
    child: Child,
    ready: serde_json::Value,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    home: tempfile::TempDir,
}

impl Relay {
    /// Starts with this configuration, beside which `prepare` puts other files.
    fn start(configuration: &str, prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        prepare(home.path());
        let file = home.path().join("relay.toml");
        fs::write(&file, in_home(configuration, home.path())).expect("ours");
        let mut child = Command::new(env!("CARGO_BIN_EXE_supernode"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--config"])
            .arg(&file)
            .env("XDG_STATE_HOME", home.path())
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().expect("piped")), log.clone());
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                to.lock().expect("no panic").push_str(&(line + "\n"));
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log.lock().expect("no panic")));
        Self { child, ready, log, reader: Some(reader), home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, configuration: &str) {
        fs::write(self.path("relay.toml"), in_home(configuration, self.home.path())).expect("ours");
    }

    fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits until the log has `words`, `times` times.
    fn wait_for(&self, words: &str, times: usize) {
        let until = Instant::now() + SOON;
        while self.log().matches(words).count() < times {
            assert!(Instant::now() < until, "{words:?} is not in the log {times} times:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.ready["admin"].as_str().expect("ready")).expect("the admin port");
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name}: {text}")).parse().expect("a number")
    }

    fn pin(&self) -> RelayPin {
        let pem = fs::read(self.path("supernode/tls-certificate.pem")).expect("a certificate");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
        RelayPin::of_spki(pem.parse_x509().expect("a certificate").public_key().raw)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill(); // a test that failed may have ended it
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn in_home(configuration: &str, home: &Path) -> String {
    configuration.replace("~", &home.display().to_string())
}

/// A connection that has not said Hello.
struct Stranger {
    connection: quinn::Connection,
    pin: RelayPin,
    /// Its admission token.
    token: String,
    /// For how long its identity vouches for its device, from now on.
    delegated_s: u64,
    _endpoint: quinn::Endpoint,
}

impl Relay {
    async fn connect(&self) -> Stranger {
        self.try_connect().await.expect("TLS")
    }

    async fn try_connect(&self) -> Result<Stranger, ConnectionError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let tls = supernode_tls::client_config(provider, Arc::new(AnyCertificate::default()));
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("AES-128")));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let address: SocketAddr = self.ready["listen"].as_str().expect("ready").parse().expect("an address");
        let connection = endpoint.connect_with(config, address, "relay.test").expect("valid").await?;
        let shown = connection.peer_identity().expect("shown").downcast::<Vec<CertificateDer<'static>>>();
        let shown = shown.expect("rustls");
        let pin = pin_of(&shown[0]).expect("valid");
        Ok(Stranger { connection, pin, token: "a.b.c".to_owned(), delegated_s: 3600, _endpoint: endpoint })
    }

    /// Says Hello in the name of the identity with this secret key; what the relay grants, or why it does not let in.
    async fn enter(&self, secret: u8) -> Result<SessionLimits, CloseCode> {
        let stranger = self.connect().await;
        stranger.hello(secret, &stranger.pin).await
    }

    /// As [`Self::enter`], to stay.
    async fn come_in(&self, secret: u8) -> Guest {
        let stranger = self.connect().await;
        stranger.come_in(secret).await.expect("admitted")
    }
}

/// A session that stays.
struct Guest {
    stranger: Stranger,
    _streams: (quinn::SendStream, quinn::RecvStream),
}

impl Guest {
    /// Why the relay ends its session, which it is to do within this time.
    async fn ended_within(&self, within: Duration) -> CloseCode {
        match tokio::time::timeout(within, self.stranger.connection.closed()).await {
            Ok(ConnectionError::ApplicationClosed(close)) => CloseCode(close.error_code.into_inner()),
            Ok(other) => panic!("not closed by the relay: {other}"),
            Err(_) => panic!("still there"),
        }
    }

    fn is_in(&self) -> bool {
        self.stranger.connection.close_reason().is_none()
    }
}

impl Stranger {
    /// Says Hello to the relay with this pin.
    async fn hello(&self, secret: u8, relay: &RelayPin) -> Result<SessionLimits, CloseCode> {
        self.greet(secret, relay).await.map(|(limits, _)| limits)
    }

    async fn come_in(self, secret: u8) -> Result<Guest, CloseCode> {
        let (_, streams) = self.greet(secret, &self.pin).await?;
        Ok(Guest { stranger: self, _streams: streams })
    }

    /// What is granted, and the control stream, with which the session ends.
    async fn greet(
        &self,
        secret: u8,
        relay: &RelayPin,
    ) -> Result<(SessionLimits, (quinn::SendStream, quinn::RecvStream)), CloseCode> {
        let (mut send, mut stream) = self.connection.open_bi().await.expect("a stream");
        let (identity, device) = (identity(secret), DeviceSecret::from_bytes(&[secret + 100; 32]));
        let delegation = identity.delegate(&device.public(), unix_now_s() + self.delegated_s);
        let mut exporter = [0; 32];
        self.connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").expect("an exporter");
        let channel = Channel::by_exporter(*relay, exporter, device.public());
        let hello = channel.hello(&device, &Introduction::new(&delegation, &self.token));
        let hello = client_message::Body::Hello(hello);
        send.write_all(&frame(&ClientMessage { request: 0, body: Some(hello) })).await.expect("sent");
        let mut reader = FrameReader::default();
        loop {
            if let Some(message) = reader.next_message::<RelayMessage>().expect("a well-formed message") {
                let Some(relay_message::Body::Welcome(welcome)) = message.body else { panic!("{message:?}") };
                return Ok((welcome.limits.expect("limits"), (send, stream)));
            }
            match stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => reader.push(&chunk.bytes),
                _ => match self.connection.closed().await {
                    ConnectionError::ApplicationClosed(close) => return Err(CloseCode(close.error_code.into_inner())),
                    other => panic!("not closed by the relay: {other}"),
                },
            }
        }
    }
}

fn identity(secret: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[secret; 32])
}

fn identity_of(secret: u8) -> IdentityKey {
    identity(secret).public()
}

/// Asks until the answer is as expected.
async fn soon<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
    let until = Instant::now() + SOON;
    loop {
        let answer = ask().await;
        if answer == expected {
            return;
        }
        assert!(Instant::now() < until, "still {answer:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn limits_change_under_a_running_relay_and_a_bad_file_changes_nothing() {
    let relay = Relay::start("[admission]\nmode = \"open\"\n[limits]\nrooms_max = 3\n", |_| {});
    assert_eq!(relay.enter(1).await.expect("open").rooms_max, 3);

    relay.configure("[admission]\nmode = \"open\"\n[limits]\nrooms_max = 0\n");
    relay.hang_up();
    relay.wait_for("limits.rooms_max = 0: must be a whole number from 1 to 1000 (rooms)", 1);
    assert_eq!(relay.enter(2).await.expect("open").rooms_max, 3);

    // By the file alone, without a signal; and what only a start can change is named.
    relay.configure(
        "[admission]\nmode = \"open\"\n[limits]\nrooms_max = 5\n[tls.acme]\n[admin]\nlisten = \"127.0.0.1:1\"\n",
    );
    soon(5, async || relay.enter(3).await.expect("open").rooms_max).await;
    relay.configure("[relay]\nadvertise = \"relay.example\"\n[admission]\nmode = \"open\"\n[limits]\nrooms_max = 6\n");
    relay.wait_for("these keys change at the next start only keys=\"relay.advertise\"", 1);
    soon(6, async || relay.enter(3).await.expect("open").rooms_max).await;
    let warnings = relay.log().matches("at the next start only").count();
    assert_eq!(warnings, 1, "--admin stands above the file: {}", relay.log());
}

//
#[tokio::test]
async fn a_network_that_has_its_share_is_refused_and_counted_until_it_is_granted_more() {
    let configuration = |connections: u32| {
        format!("[admission]\nmode = \"open\"\n[limits]\nconnections_per_prefix_max = {connections}\n")
    };
    let relay = Relay::start(&configuration(2), |_| {});
    let there = (relay.connect().await, relay.connect().await);
    let refused = relay.try_connect().await.err().expect("two are its share");
    let ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
    soon(1.0, async || relay.metric("supernode_refused_by_prefix_total")).await;
    let bit = "supernode_limit_hits_total{limit=\"connections_per_prefix_max\"}";
    soon(1.0, async || relay.metric(bit)).await;
    relay.configure(&configuration(3));
    relay.hang_up();
    soon(true, async || relay.try_connect().await.is_ok()).await;
    drop(there);
}

#[tokio::test]
async fn the_log_is_as_loud_as_the_configuration_says_now() {
    let relay = Relay::start("[log]\nfilter = \"warn\"\n", |_| {});
    relay.configure("[log]\nfilter = \"info\"\n");
    relay.wait_for("the configuration was read again", 1);
    assert!(!relay.log().contains("has changed"), "that was said before: {}", relay.log());
}

//
#[tokio::test]
async fn an_allow_list_admits_those_on_it_and_follows_its_file_through_a_turned_link() {
    // As Kubernetes mounts a volume: the name leads over a link that is turned to another directory.
    let list = |home: &Path, version: &str, text: &str| {
        let directory = home.join(version);
        fs::create_dir(&directory).expect("new");
        fs::write(directory.join("allowed"), text).expect("ours");
        symlink(&directory, home.join("data.new")).expect("new");
        fs::rename(home.join("data.new"), home.join("data")).expect("ours");
    };
    let configuration = "[admission]\nmode = \"allow-list\"\nallow_list = \"~/data/allowed\"\n";
    let alice = format!("{} # Alice\n", identity_of(1).to_text());
    let relay = Relay::start(configuration, |home| list(home, "one", &alice));
    assert!(relay.enter(1).await.is_ok());
    assert_eq!(relay.enter(2).await, Err(CloseCode::NOT_ADMITTED));

    list(relay.home.path(), "two", &format!("# nobody but\n{}\n", identity_of(2).to_text()));
    soon(Ok(()), async || relay.enter(2).await.map(|_| ())).await;
    assert_eq!(relay.enter(1).await, Err(CloseCode::NOT_ADMITTED));

    // who is struck off goes, and who is still on the list stays.
    let (stays, both) = (relay.come_in(2).await, [2, 3].map(|secret| identity_of(secret).to_text() + "\n").concat());
    list(relay.home.path(), "both", &both);
    soon(Ok(()), async || relay.enter(3).await.map(|_| ())).await;
    let struck = relay.come_in(3).await;
    list(relay.home.path(), "without", &(identity_of(2).to_text() + "\n"));
    relay.hang_up();
    assert_eq!(struck.ended_within(SOON).await, CloseCode::NOT_ADMITTED);
    assert!(stays.is_in());

    list(relay.home.path(), "three", "everybody\n");
    relay.wait_for("allowed:1: is no identity (sn-id-...)", 1);
    assert!(relay.enter(2).await.is_ok(), "a broken list changes nothing");
}

/// A service that is asked who may come in.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<&'static str>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("204 No Content")));
        let service = Self { address, asked: asked.clone(), answer: answer.clone() };
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = vec![0; 4096];
                let mut length = 0;
                // Head and body may come apart.
                while !String::from_utf8_lossy(&request[..length]).contains('}') {
                    match stream.read(&mut request[length..]) {
                        Ok(read) if read > 0 => length += read,
                        _ => break,
                    }
                }
                asked.lock().expect("no panic").push(String::from_utf8_lossy(&request[..length]).into_owned());
                let answer = *answer.lock().expect("no panic");
                if answer.is_empty() {
                    unanswered.push(stream);
                    continue;
                }
                // Who asked may have given up.
                let _ = write!(stream, "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        service
    }

    fn says(&self, answer: &'static str) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }
}

//
#[tokio::test]
async fn a_hook_is_asked_once_and_only_a_clear_yes_lets_in() {
    let service = Service::start();
    let configuration = format!(
        "[admission]\nmode = \"hook\"\n[admission.hook]\nurl = \"http://{}/admit\"\nsecret = \"hunter2\"\ntimeout_ms = 300\n",
        service.address
    );
    let relay = Relay::start(&configuration, |_| {});
    assert!(relay.enter(1).await.is_ok());
    assert!(relay.enter(1).await.is_ok(), "the answer is remembered");
    let asked = service.asked.lock().expect("no panic").clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("POST /admit HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].to_ascii_lowercase().contains("authorization: bearer hunter2"), "{asked:?}");
    let body = asked[0].split_once("\r\n\r\n").expect("a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body, serde_json::json!({ "identity": identity_of(1).to_text(), "token": "a.b.c" }));

    service.says("403 Forbidden");
    assert_eq!(relay.enter(2).await, Err(CloseCode::NOT_ADMITTED));
    service.says("204 No Content");
    assert_eq!(relay.enter(2).await, Err(CloseCode::NOT_ADMITTED), "a no is remembered as well");
    assert_eq!(service.asked(), 2);

    for unclear in ["500 Oh", "302 Found", "201 Created", "nonsense"] {
        service.says(unclear);
        assert_eq!(relay.enter(3).await, Err(CloseCode::ADMISSION_DOWN), "{unclear}");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    service.says("");
    let begin = Instant::now();
    assert_eq!(relay.enter(4).await, Err(CloseCode::ADMISSION_DOWN), "no answer in time");
    assert!(begin.elapsed() < Duration::from_secs(5));
    service.says("204 No Content");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(relay.enter(4).await.is_ok(), "what was no answer is not remembered");
    assert!(relay.enter(1).await.is_ok());
    assert!(!relay.log().contains("hunter2") && !relay.log().contains(&identity_of(1).to_text()), "{}", relay.log());
}

//
#[tokio::test]
async fn a_hook_s_silence_ends_nobody_s_session_and_its_no_does_within_a_minute() {
    let service = Service::start();
    let configuration = format!(
        "[admission]\nmode = \"hook\"\n[admission.hook]\nurl = \"http://{}/admit\"\ntimeout_ms = 300\ncache_s = 1\n",
        service.address
    );
    let relay = Relay::start(&configuration, |_| {});
    let guest = relay.come_in(1).await;
    service.says("500 Oh");
    let questions = service.asked();
    let until = Instant::now() + Duration::from_secs(60);
    while service.asked() < questions + 2 {
        assert!(guest.is_in(), "it was asked in vain");
        assert!(Instant::now() < until, "it is not asked about who is in");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(guest.is_in());
    let silent = "the admission hook gives no answer";
    assert_eq!(relay.log().matches(silent).count(), 1, "said once: {}", relay.log());
    assert!(relay.metric("supernode_hook_questions_total{outcome=\"unclear\"}") >= 2.0);
    service.says("403 Forbidden");
    assert_eq!(guest.ended_within(Duration::from_secs(60)).await, CloseCode::NOT_ADMITTED);
    assert_eq!(relay.metric("supernode_hook_questions_total{outcome=\"no\"}"), 1.0);
}

//
#[tokio::test]
async fn being_let_in_ends_with_the_token_and_with_the_delegation() {
    let relay = Relay::start("", |_| {});
    let keys = StateDir::open(&relay.path("supernode")).expect("made").keys().expect("made");
    let issuer = TokenIssuer::new(&keys.admission_key, &relay_pin(&keys));
    let token = |lifetime_s| issuer.issue(None, unix_now_s(), lifetime_s, rand::random()).expect("a token");
    let come = async |secret, lifetime_s, delegated_s| {
        let stranger = Stranger { token: token(lifetime_s), delegated_s, ..relay.connect().await };
        stranger.come_in(secret).await.expect("in time")
    };
    let (by_token, by_delegation, stays) = (come(1, 3, 3600).await, come(2, 3600, 3).await, come(3, 3600, 3600).await);
    assert_eq!(by_token.ended_within(Duration::from_secs(60)).await, CloseCode::TOKEN_EXPIRED);
    assert_eq!(by_delegation.ended_within(Duration::from_secs(60)).await, CloseCode::DELEGATION_EXPIRED);
    assert!(stays.is_in());
}

//
#[tokio::test]
async fn whoever_came_by_an_open_door_is_to_show_a_token_once_it_asks_for_one() {
    let relay = Relay::start("[admission]\nmode = \"open\"\n", |_| {});
    let guest = relay.come_in(1).await;
    relay.configure("[log]\nfilter = \"info\"\n");
    relay.hang_up();
    assert_eq!(guest.ended_within(SOON).await, CloseCode::REMOVED);
    assert_eq!(relay.enter(1).await, Err(CloseCode::NOT_ADMITTED), "its token is none");
}

/// A certificate for `relay.test` that an authority signed, good for so many days.
fn signed_certificate(days: i64) -> (String, String, RelayPin) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["relay.test".to_owned()]).expect("a name");
    let now = unix_now_s() as i64;
    let at = |unix_s: i64| x509_parser::time::ASN1Time::from_timestamp(unix_s).expect("a time").to_datetime();
    (params.not_before, params.not_after) = (at(now - 3600), at(now + days * 86_400));
    let certificate = params.signed_by(&key, &issuer).expect("signed");
    (certificate.pem(), key.serialize_pem(), RelayPin::of_spki(&key.subject_public_key_info()))
}

//
#[tokio::test]
async fn a_certificate_is_taken_from_its_files_and_whoever_was_shown_the_old_one_still_gets_in() {
    let configuration =
        "[admission]\nmode = \"open\"\n[tls]\nmode = \"files\"\ncertificate = \"~/chain.pem\"\nkey = \"~/key.pem\"\n";
    let write = |home: &Path, (chain, key, _): &(String, String, RelayPin)| {
        fs::write(home.join("key.pem"), key).expect("ours");
        fs::write(home.join("chain.pem"), chain).expect("ours");
    };
    let (first, second, third) = (signed_certificate(60), signed_certificate(60), signed_certificate(3));
    let relay = Relay::start(configuration, |home| write(home, &first));
    let invite = relay.ready["invite"].as_str().expect("ready");
    assert!(invite.starts_with("supernode://relay.test:") && invite.ends_with('/'), "its name, and no pin: {invite}");
    let left = relay.metric("supernode_tls_certificate_expiry_seconds");
    assert!((59.9 * 86_400.0..=60.0 * 86_400.0).contains(&left), "{left}");
    assert!(!relay.log().contains("runs out"), "{}", relay.log());
    let before = relay.connect().await;
    assert_eq!(before.pin, first.2);

    // The two files change one after the other, and are looked at in between: a key without its certificate.
    fs::write(relay.path("key.pem"), &second.1).expect("ours");
    relay.wait_for("is not the private key of the certificate in", 1);
    assert_eq!(relay.connect().await.pin, first.2);
    fs::write(relay.path("chain.pem"), &second.0).expect("ours");
    soon(second.2, async || relay.connect().await.pin).await;
    assert!(relay.enter(1).await.is_ok());
    assert!(before.hello(2, &first.2).await.is_ok(), "it signs for the certificate that it was shown");
    // The shards take note one after the other.
    let other = loop {
        let stranger = relay.connect().await;
        if stranger.pin == second.2 {
            break stranger;
        }
    };
    assert_eq!(other.hello(3, &first.2).await, Err(CloseCode::BAD_SIGNATURE), "and for no other");

    write(relay.home.path(), &third);
    relay.hang_up();
    relay.wait_for("the certificate runs out soon days=2", 1);
    soon(third.2, async || relay.connect().await.pin).await;
    assert!(relay.metric("supernode_tls_certificate_expiry_seconds") < 3.0 * 86_400.0);

    // Back to the relay's own.
    relay.configure("[admission]\nmode = \"open\"\n");
    soon(relay.pin(), async || relay.connect().await.pin).await;
    relay.configure("[admission]\nmode = \"open\"\n[tls]\nmode = \"acme\"\nacme.domains = [\"relay.test\"]\n");
    relay.wait_for("only a start can begin to order certificates", 1);
}

#[tokio::test]
async fn files_that_a_refused_configuration_names_are_taken_once_they_are_there_and_invites_follow() {
    let open = "[admission]\nmode = \"open\"\n";
    let relay = Relay::start(open, |_| {});
    let invite = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_supernode"));
        let output = program.arg("invite").env("XDG_STATE_HOME", relay.home.path()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(invite().contains("pin="), "{}", invite());
    let files = "[tls]\nmode = \"files\"\ncertificate = \"~/chain.pem\"\nkey = \"~/key.pem\"\n";
    relay.configure(&format!("{open}{files}"));
    relay.wait_for("chain.pem: cannot read it", 1);

    // Nobody says a word to the relay about these.
    let (chain, key, pin) = signed_certificate(60);
    fs::write(relay.path("key.pem"), key).expect("ours");
    fs::write(relay.path("chain.pem"), chain).expect("ours");
    soon(pin, async || relay.connect().await.pin).await;
    soon(true, async || invite().starts_with("supernode://relay.test:") && !invite().contains("pin=")).await;
}
