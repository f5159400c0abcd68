//! Certificates by ACME (RFC 8555): orders one for the relay's own key, and another in time.
//!
//! Account, orders and their signatures are the library's; here is what it is asked for, the answer to the authority's
//! question (HTTP-01, RFC 8555 section 8.3), and what is kept: the account in `acme-account.json` and the chain in
//! `acme-certificate.pem`, both in the state directory. The key is the relay's own, so that its pin stays the same
//! whether a certificate is its own or an authority's, and links that carry the pin stay good.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{Request, StatusCode},
    routing::get,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::CertificateParams;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use supernode_proto::troubles;
use tokio::{net::TcpListener, sync::mpsc};

use crate::control::{
    certificate::Certificate,
    config::values::Acme as Settings,
    serve::unix_now_s,
    state_dir::{KeyMaterial, StateDir, StateError},
    words,
};

const ACCOUNT: &str = "acme-account.json";
const CERTIFICATE: &str = "acme-certificate.pem";

/// A certificate is ordered anew when it has less than this left: 30 days, of the usual 90, in seconds.
const RENEW_S: i64 = 30 * 24 * 3600;
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(6 * 3600);
/// The first wait after an order that failed; it doubles up to [`LOOK`]. Authorities count failures by the hour.
const RETRY: Duration = Duration::from_secs(15 * 60);
/// The longest that one step of an order may take: checking our answer, or signing.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that a whole order may take: a connection that hangs must not end ordering for good.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

troubles! {
    /// Why no certificate came.
    pub AcmeError as WORDS, through State(StateError):
    Authority(#[from] instant_acme::Error), "the authority for certificates cannot be used",
        "it does not answer, or refuses, as it says",
        "see what it says; look at tls.acme.directory and at this machine's way to it; the relay tries again by itself";
    NoChallenge { name: String }, "the authority does not offer to check {name} over HTTP",
        "it wants another proof for this name, as for names with a star",
        "name the hosts in tls.acme.domains one by one, or use another authority (tls.acme.directory)";
    Refused { status: OrderStatus }, "the authority did not issue the certificate: it calls the order {status:?}",
        "it could not reach this machine under every name, most likely",
        "let every name of tls.acme.domains lead here, with TCP port 80 open; the relay tries again by itself";
    Late, "the certificate did not come within {minutes} min" with (minutes = ORDER_TIMEOUT.as_secs() / 60),
        "the authority is busy, or its question does not get through to here",
        "look whether TCP port 80 is open from outside; the relay tries again by itself";
    Useless, "the authority's certificate is of no use",
        "it is for another key, or cannot be read",
        "look at tls.acme.directory: is it an ACME authority? The relay tries again by itself";
    Listen { address: SocketAddr, source: io::Error }, "tls.acme.listen = {address}: cannot open it for the authority's question",
        "another program has it, or this user may not open a port below 1024",
        "end the other program, or give the relay CAP_NET_BIND_SERVICE, or name another port that 80 leads to (tls.acme.listen)";
    Request(#[from] rcgen::Error), "the certificate cannot be asked for",
        "a name in tls.acme.domains is no host's", "write plain host names into tls.acme.domains";
    Account(#[from] serde_json::Error), "{file}: is no account at the authority" with (file = ACCOUNT),
        "the file is damaged", "restore the file from a backup, or remove it: a new account is made";
}

/// Orders certificates for one relay.
pub struct Acme {
    settings: Settings,
    state: StateDir,
    keys: Arc<KeyMaterial>,
}

/// The account, and at which authority it is one.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    directory: String,
    credentials: AccountCredentials,
}

/// What is to be answered to which question.
type Answers = Arc<Mutex<HashMap<String, String>>>;

impl Acme {
    /// For the relay with these keys.
    pub fn new(settings: Settings, state: StateDir, keys: Arc<KeyMaterial>) -> Self {
        Self { settings, state, keys }
    }

    /// The certificate that was ordered last, if it is for the names of now and from the authority of now: who has tried
    /// a test authority wants another one from the real one.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read.
    pub fn stored(&self) -> Result<Option<Certificate>, StateError> {
        let account = self.state.read(ACCOUNT)?.and_then(|text| serde_json::from_str::<StoredAccount>(&text).ok());
        if account.is_none_or(|account| account.directory != self.settings.directory) {
            return Ok(None);
        }
        let stored = self.state.read(CERTIFICATE)?;
        let stored = stored.and_then(|pem| Certificate::signed_by_authority(pem.as_bytes(), &self.keys));
        Ok(stored.filter(|stored| self.settings.domains.iter().all(|domain| stored.names.contains(domain))))
    }

    /// Orders a certificate whenever `shown`, the one that there is, runs out or there is none, and hands it on; until
    /// nobody takes them any more.
    pub async fn keep(self, mut shown: Option<Certificate>, ordered: mpsc::Sender<Certificate>) {
        let mut retry = RETRY;
        loop {
            let left_s = shown.as_ref().map_or(0, |shown| shown.left_s(unix_now_s()));
            let wait = if left_s > RENEW_S {
                LOOK
            } else {
                match self.order().await {
                    Ok(certificate) => {
                        retry = RETRY;
                        shown = Some(certificate.clone());
                        if ordered.send(certificate).await.is_err() {
                            return;
                        }
                        LOOK
                    }
                    Err(error) => {
                        let reason = words::line(&error);
                        tracing::warn!(
                            reason,
                            "no certificate came; trying again in {} min. Does every name of tls.acme.domains lead to this \
                             machine's port 80?",
                            retry.as_secs() / 60
                        );
                        let wait = retry;
                        retry = (retry * 2).min(LOOK);
                        wait
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Orders one certificate and keeps it.
    ///
    /// # Errors
    /// See [`AcmeError`].
    pub async fn order(&self) -> Result<Certificate, AcmeError> {
        tracing::info!(names = self.settings.domains.join(", "), "ordering a certificate");
        let address = self.settings.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| AcmeError::Listen { address, source })?;
        let answers = Answers::default();
        let answering = tokio::spawn(axum::serve(listener, router(answers.clone())).into_future());
        let result = tokio::time::timeout(ORDER_TIMEOUT, self.order_while_answering(&answers)).await;
        answering.abort();
        result.unwrap_or(Err(AcmeError::Late))
    }

    async fn order_while_answering(&self, answers: &Answers) -> Result<Certificate, AcmeError> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue; // from an earlier order
            }
            let name = authorization.identifier().to_string();
            let challenge = authorization.challenge(ChallengeType::Http01);
            let mut challenge = challenge.ok_or(AcmeError::NoChallenge { name })?;
            let answer = challenge.key_authorization().as_str().to_owned();
            answers.lock().unwrap_or_else(PoisonError::into_inner).insert(challenge.token.clone(), answer);
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::default().timeout(STEP_TIMEOUT);
        match order.poll_ready(&patience).await? {
            OrderStatus::Ready => {}
            status => return Err(AcmeError::Refused { status }),
        }
        let request = CertificateParams::new(self.settings.domains.clone())?.serialize_request(&self.keys.tls_key)?;
        order.finalize_csr(request.der()).await?;
        let pem = order.poll_certificate(&patience).await?;
        let certificate = Certificate::signed_by_authority(pem.as_bytes(), &self.keys).ok_or(AcmeError::Useless)?;
        self.state.replace(CERTIFICATE, &pem)?;
        Ok(certificate)
    }

    /// The account at this authority, made at the first order.
    async fn account(&self) -> Result<Account, AcmeError> {
        let Settings { directory, directory_ca, contact, .. } = &self.settings;
        let builder = Account::builder_with_http(Box::new(Web::new(directory_ca.as_deref())?));
        if let Some(stored) = self.state.read(ACCOUNT)? {
            let stored: StoredAccount = serde_json::from_str(&stored)?;
            if stored.directory == *directory {
                return Ok(builder.from_credentials(stored.credentials).await?);
            }
        }
        let contact = contact.iter().map(|contact| format!("mailto:{contact}")).collect::<Vec<_>>();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&wanted, directory.clone(), None).await?;
        let stored = StoredAccount { directory: directory.clone(), credentials };
        self.state.replace(ACCOUNT, &serde_json::to_string(&stored)?)?;
        Ok(account)
    }
}

/// The way to the authority. The library's own would bring HTTP/2 along, of which nothing here is in need.
struct Web(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Web {
    /// Whom it trusts: this machine's authorities, or the one in this file.
    fn new(root: Option<&std::path::Path>) -> Result<Self, instant_acme::Error> {
        let connector = HttpsConnectorBuilder::new();
        let connector = match root {
            None => connector.try_with_platform_verifier().map_err(other)?,
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(root).map_err(other)?).map_err(other)?;
                connector.with_tls_config(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
            }
        };
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector.https_only().enable_http1().build())))
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let response = self.0.request(request);
        Box::pin(async move { response.await.map(BytesResponse::from).map_err(other) })
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> instant_acme::Error {
    instant_acme::Error::Other(Box::new(error))
}

fn router(answers: Answers) -> Router {
    Router::new().route("/.well-known/acme-challenge/{token}", get(answer)).with_state(answers)
}

async fn answer(State(answers): State<Answers>, Path(token): Path<String>) -> Result<String, StatusCode> {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.get(&token).cloned().ok_or(StatusCode::NOT_FOUND)
}
