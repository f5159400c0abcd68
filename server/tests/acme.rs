//! A certificate from a real ACME server: Pebble, with its DNS server for tests, both on loopback.
//!
//! `apt-get install pebble`, then `cargo test -p supernode-server --test acme`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use supernode_proto::{ALPN, identity::RelayPin};

const NAME: &str = "relay.test";
/// Pebble waits a little before it checks, and for half a second before it signs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    let child = command.spawn();
    Running(child.unwrap_or_else(|error| panic!("{command:?}: {error}; is Pebble installed?")))
}

fn free_port() -> u16 {
    supernode_testkit::lasting_port().port()
}

/// Pebble, whose own server is for `localhost` by an authority in `directory.pem`.
struct Authority {
    directory: u16,
    management: u16,
    _processes: [Running; 2],
}

impl Authority {
    /// `question` is the port that stands for the Internet's port 80.
    fn start(home: &Path, question: u16) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(home.join("directory.pem"), params.self_signed(&key).expect("signed").pem()).expect("ours");
        let issuer = Issuer::new(params, key);
        let server = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name").signed_by(&server, &issuer);
        fs::write(home.join("server.pem"), certificate.expect("signed").pem()).expect("ours");
        fs::write(home.join("server-key.pem"), server.serialize_pem()).expect("ours");

        let (directory, management, dns, dns_management) = (free_port(), free_port(), free_port(), free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": home.join("server.pem"),
            "privateKey": home.join("server-key.pem"),
            "httpPort": question,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(home.join("pebble.json"), config.to_string()).expect("ours");
        let names = start(
            Command::new("pebble-challtestsrv")
                .args([
                    "-defaultIPv4",
                    "127.0.0.1",
                    "-defaultIPv6",
                    "",
                    "-http01",
                    "",
                    "-https01",
                    "",
                    "-tlsalpn01",
                    "",
                ])
                .args(["-management", &format!("127.0.0.1:{dns_management}")])
                .args(["-dns01", &format!("127.0.0.1:{dns}")])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let pebble = start(
            Command::new("pebble")
                .arg("-config")
                .arg(home.join("pebble.json"))
                .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
                .env("PEBBLE_VA_NOSLEEP", "1")
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let until = Instant::now() + PATIENCE;
        for port in [dns_management, directory] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < until, "Pebble or its DNS server does not listen");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Self { directory, management, _processes: [names, pebble] }
    }

    /// The root that clients have to trust, which Pebble makes anew at each start.
    fn root(&self, home: &Path) -> CertificateDer<'static> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(home.join("directory.pem")).expect("ours")).expect("valid");
        let config = tls(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("valid");
        let mut stream = StreamOwned::new(session, TcpStream::connect(("127.0.0.1", self.management)).expect("Pebble"));
        write!(stream, "GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut answer = String::new();
        // Pebble may close without saying that it is done.
        let _ = stream.read_to_string(&mut answer);
        CertificateDer::from_pem_slice(answer.as_bytes()).expect("a certificate")
    }
}

fn tls(roots: RootCertStore) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
}

/// A relay, what it said when it was ready, and the lines of its log.
struct Relay {
    ready: serde_json::Value,
    log: mpsc::Receiver<String>,
    _process: Running,
}

impl Relay {
    fn start(home: &Path) -> Self {
        let mut process = start(
            Command::new(env!("CARGO_BIN_EXE_supernode"))
                .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1", "--open"])
                .arg("--config")
                .arg(home.join("relay.toml"))
                .env("XDG_STATE_HOME", home)
                .env_remove("RUST_LOG")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let (tell, log) = mpsc::channel();
        let lines = BufReader::new(process.0.stderr.take().expect("piped"));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line);
        let ready = ready.unwrap_or_else(|_| panic!("not ready: {:?}", log.try_iter().collect::<Vec<_>>()));
        Self { ready, log, _process: process }
    }

    /// Waits for a line with these words; all lines until then.
    fn wait_for(&self, words: &str) -> String {
        let mut lines = String::new();
        while !lines.contains(words) {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not {words:?}: {lines}"));
            lines.push_str(&(line + "\n"));
        }
        lines
    }

    /// Connects as a client that trusts this root, and asks for the relay by its name.
    async fn connect(&self, root: CertificateDer<'static>) -> Result<RelayPin, quinn::ConnectionError> {
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("valid");
        let mut tls = tls(roots).with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("AES-128")));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let address: SocketAddr = self.ready["listen"].as_str().expect("ready").parse().expect("an address");
        let connection = endpoint.connect_with(config, address, NAME).expect("valid").await?;
        let shown = connection.peer_identity().expect("shown").downcast::<Vec<CertificateDer<'static>>>();
        let shown = shown.expect("rustls");
        let (_, certificate) = x509_parser::parse_x509_certificate(&shown[0]).expect("valid");
        Ok(RelayPin::of_spki(certificate.public_key().raw))
    }
}

fn own_pin(home: &Path) -> RelayPin {
    let own = CertificateDer::from_pem_file(home.join("supernode/tls-certificate.pem")).expect("a certificate");
    let (_, own) = x509_parser::parse_x509_certificate(&own).expect("valid");
    RelayPin::of_spki(own.public_key().raw)
}

#[tokio::test]
async fn a_relay_orders_a_certificate_for_its_own_key_shows_it_and_keeps_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let home = home.path();
    let question = free_port();
    let authority = Authority::start(home, question);
    let configuration = format!(
        "[tls]\nmode = \"acme\"\n[tls.acme]\ndomains = [\"{NAME}\"]\ncontact = \"operator@example.com\"\n\
         directory = \"https://localhost:{}/dir\"\ndirectory_ca = {:?}\nlisten = \"127.0.0.1:{question}\"\n",
        authority.directory,
        home.join("directory.pem"),
    );
    fs::write(home.join("relay.toml"), &configuration).expect("ours");
    let relay = Relay::start(home);
    let invite = relay.ready["invite"].as_str().expect("ready");
    assert!(invite.starts_with(&format!("supernode://{NAME}:")) && !invite.contains("pin="), "{invite}");
    let log = relay.wait_for("a new certificate is shown");
    assert!(log.contains("ordering a certificate"), "{log}");
    let root = authority.root(home);
    let until = Instant::now() + PATIENCE;
    let pin = loop {
        match relay.connect(root.clone()).await {
            Ok(pin) => break pin,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // shards take note every second
    };
    assert_eq!(pin, own_pin(home), "links with the pin stay good");
    assert!(TcpStream::connect(("127.0.0.1", question)).is_err(), "the port is open only for the question");
    drop(relay);

    // The next start has the certificate already; it need not ask.
    let kept = fs::read(home.join("supernode/acme-certificate.pem")).expect("kept");
    let relay = Relay::start(home);
    assert_eq!(relay.connect(root.clone()).await.expect("at once"), pin);
    assert!(!relay.log.try_iter().any(|line| line.contains("ordering")));
    drop(relay);

    // For another name it is of no use; the account is the one that there is.
    let account = fs::read(home.join("supernode/acme-account.json")).expect("kept");
    let two = configuration.replace(&format!("[\"{NAME}\"]"), &format!("[\"{NAME}\", \"two.{NAME}\"]"));
    fs::write(home.join("relay.toml"), two).expect("ours");
    Relay::start(home).wait_for("a new certificate is shown");
    assert_ne!(fs::read(home.join("supernode/acme-certificate.pem")).expect("kept"), kept);
    assert_eq!(fs::read(home.join("supernode/acme-account.json")).expect("kept"), account);
}

#[tokio::test]
async fn a_name_that_does_not_lead_here_is_said_and_the_relay_goes_on() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let home = home.path();
    let authority = Authority::start(home, free_port());
    let configuration = format!(
        "[tls]\nmode = \"acme\"\n[tls.acme]\ndomains = [\"{NAME}\"]\ndirectory = \"https://localhost:{}/dir\"\n\
         directory_ca = {:?}\nlisten = \"127.0.0.1:{}\"\n",
        authority.directory,
        home.join("directory.pem"),
        free_port(),
    );
    fs::write(home.join("relay.toml"), configuration).expect("ours");
    let relay = Relay::start(home);
    let log = relay.wait_for("no certificate came; trying again in 15 min. Does every name");
    assert!(log.contains("urn:ietf:params:acme:error:connection"), "what the authority said: {log}");
    assert!(relay.connect(authority.root(home)).await.is_err(), "its own certificate is nobody's word");
}
