//! A push service on loopback, as strict as those of browsers: what it is sent is HTTP in TLS, read byte for byte, and a token
//! is verified by another implementation than the one that signed it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, pki_types::CertificateDer};
use serde_json::Value;
use supernode_server::{
    control::push::{Dialler, Figures, Vapid, Waker},
    core::push_services::PushHost,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use crate::{PATIENCE, unix_s};

/// How long it waits for what should not come behind a request.
const NOTHING_MORE: Duration = Duration::from_millis(50);
/// RFC 8292 section 2: no token is good for longer.
const TOKEN_LIFETIME_S_MAX: u64 = 24 * 3600;

/// What it answers.
#[derive(Debug, Clone)]
pub enum Says {
    /// This status, with these lines behind it.
    Status(u16, &'static str),
    /// Nothing, and it keeps the connection.
    Nothing,
    /// Nothing, and it ends the connection.
    Goodbye,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// For whom: the last part of the endpoint.
    pub whom: String,
    /// By which key it was sent.
    pub key: Vec<u8>,
    /// Whom the service may write to.
    pub contact: String,
}

pub struct PushService {
    pub address: SocketAddr,
    /// The certificate of whoever signed its own, in PEM.
    pub authority_pem: String,
    authority: CertificateDer<'static>,
    says: Arc<Mutex<HashMap<String, Says>>>,
    came: mpsc::UnboundedReceiver<Result<Pushed, String>>,
}

impl PushService {
    /// Takes whatever is sent as it should be, until told otherwise.
    pub async fn start() -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost.push.example".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        let tls = ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(chain, key.serialize_der().try_into().unwrap()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, (coming, came)) = (Arc::<Mutex<HashMap<String, Says>>>::default(), mpsc::unbounded_channel());
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let answers = says.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), address, answers.clone(), coming.clone()));
            }
        });
        Self { address, authority_pem: root.pem(), authority: root.der().clone(), says, came }
    }

    /// Where somebody is woken.
    pub fn endpoint(&self, whom: &str) -> String {
        format!("https://{}/push/{whom}", self.address)
    }

    /// As an operator lists it.
    pub fn host(&self) -> PushHost {
        PushHost::parse(&self.address.to_string()).unwrap()
    }

    /// Whoever wakes people through it, with a key of their own.
    pub fn waker(&self, figures: &Arc<Figures>) -> Waker {
        let vapid = Vapid::new(&KeyPair::generate().unwrap(), "operator@relay.example").unwrap();
        Waker::new(vec![self.host()], vapid, self.dialler(), figures.clone())
    }

    /// A way to it.
    pub fn dialler(&self) -> Dialler {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        Dialler::new(roots)
    }

    /// From now on it answers so for this one.
    pub fn says(&self, whom: &str, says: Says) {
        self.says.lock().unwrap().insert(whom.to_owned(), says);
    }

    /// The next message; what was wrong with it fails the test.
    pub async fn next(&mut self) -> Pushed {
        let came = tokio::time::timeout(PATIENCE, self.came.recv()).await.expect("a message comes");
        came.unwrap().unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Whether no message comes for a moment.
    pub async fn is_left_alone(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.came.recv()).await.is_err()
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Says>>>,
    came: mpsc::UnboundedSender<Result<Pushed, String>>,
) {
    // Whoever comes without TLS is not a relay.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            // Somebody who only looks whether it is there.
            _ if request.is_empty() => return,
            _ => return drop(came.send(Err("a request that is not whole".to_owned()))),
        }
    }
    // A body would come behind it.
    let _ = tokio::time::timeout(NOTHING_MORE, stream.read_buf(&mut request)).await;
    let pushed = read(&request, address);
    let whom = pushed.as_ref().map(|pushed| pushed.whom.clone()).unwrap_or_default();
    let says = answers.lock().unwrap().get(&whom).cloned().unwrap_or(Says::Status(201, ""));
    let _ = came.send(pushed);
    match says {
        Says::Status(status, lines) => {
            let answer = format!("HTTP/1.1 {status} x\r\n{lines}content-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Says::Nothing => std::future::pending().await,
        Says::Goodbye => {}
    }
}

/// What a request says, if it is one that push services take (RFC 8030 section 5, RFC 8292 section 3).
fn read(request: &[u8], address: SocketAddr) -> Result<Pushed, String> {
    let text = std::str::from_utf8(request).map_err(|_| "not text".to_owned())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let whom = first.strip_prefix("POST /push/").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let whom = whom.ok_or(format!("{first}: no message"))?.to_owned();
    let fields: HashMap<String, &str> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value)).collect();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    // Nothing else: what is not said tells nobody anything.
    if names != ["authorization", "content-length", "host", "ttl", "urgency"] || !body.is_empty() {
        return Err(format!("says {names:?}, and {} bytes behind it", body.len()));
    }
    let expected = [("content-length", "0".to_owned()), ("host", address.to_string()), ("ttl", "60".to_owned())];
    for (name, value) in expected.into_iter().chain([("urgency", "high".to_owned())]) {
        if fields[name] != value {
            return Err(format!("{name}: {}", fields[name]));
        }
    }
    let (token, key) = fields["authorization"]
        .strip_prefix("vapid t=")
        .and_then(|rest| rest.split_once(", k="))
        .ok_or(format!("{}: nobody says who sends", fields["authorization"]))?;
    let key = BASE64URL_NOPAD.decode(key.as_bytes()).map_err(|error| error.to_string())?;
    let claims = verify(token, &key).ok_or("the token is not signed by this key")?;
    let now = unix_s();
    let ends = claims["exp"].as_u64().ok_or("a token without end")?;
    if claims["aud"] != format!("https://{address}") || !(now..=now + TOKEN_LIFETIME_S_MAX).contains(&ends) {
        return Err(format!("a token for something else: {claims}"));
    }
    Ok(Pushed { whom, key, contact: claims["sub"].as_str().unwrap_or_default().to_owned() })
}

/// What a token says that this key has signed (RFC 7515, ES256).
fn verify(token: &str, key: &[u8]) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?).ok()?;
    VerifyingKey::from_sec1_bytes(key).ok()?.verify(signed.as_bytes(), &signature).ok()?;
    (json(header)?["alg"] == "ES256").then(|| json(claims))?
}
