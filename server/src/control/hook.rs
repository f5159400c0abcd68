//! Admission by the word of an HTTP service.
//!
//! A shard never waits: whoever comes is put aside until the answer is there, and everybody else is served meanwhile.
//! Only a clear yes lets in. Whatever is no clear answer, or comes too late, is a refusal that is not remembered for
//! longer than it takes to give it, so that a service that comes back is asked again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{Method, Request, StatusCode, Uri, header},
};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use supernode_proto::{close::CloseCode, identity::IdentityKey};
use tokio::sync::{Semaphore, mpsc};

use super::config::values::Hook as Settings;

/// Questions that wait for the service; beyond it those who come are told to try later.
const QUESTIONS_MAX: usize = 1024;
/// Questions that the service is asked at the same time.
const CONCURRENT_MAX: usize = 64;
/// Answers that are remembered: about 100 bytes each.
const ANSWERS_MAX: usize = 65_536;
/// How often answers that have expired are forgotten: nobody's coming is remembered for longer than need be.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a refusal for want of an answer stands: longer than whoever waits for it looks away.
const FAILURE: Duration = Duration::from_secs(1);

/// Why there is no hook.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The system's list of authorities.
    #[error("admission.hook.url: the authorities that this machine trusts cannot be read")]
    Authorities(#[from] std::io::Error),
}

/// An address that may be asked: `https://`, or `http://` on a loopback address, where nobody listens in.
pub fn hook_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str()? {
        "https" => Some(uri),
        "http" if loopback => Some(uri),
        _ => None,
    }
}

/// Asks the service and remembers what it said.
pub struct Hook {
    questions: mpsc::Sender<Question>,
    answers: Arc<Mutex<Answers>>,
}

impl Hook {
    /// Starts asking, on the runtime that this is called in, until it is dropped.
    ///
    /// # Errors
    /// See [`HookError`].
    pub fn start(url: Uri, settings: &Settings) -> Result<Self, HookError> {
        let connector = HttpsConnectorBuilder::new().try_with_platform_verifier().map_err(std::io::Error::other)?;
        let connector = connector.https_or_http().enable_http1().build();
        let service = Arc::new(Service {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url,
            authorization: settings.secret.as_ref().map(|secret| format!("Bearer {secret}")),
            timeout: settings.timeout,
        });
        let answers = Arc::new(Mutex::new(Answers::default()));
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(answer(asked, service, answers.clone(), settings.cache));
        Ok(Self { questions, answers })
    }

    /// Whether [`Self::admit`] has an answer. If not, the service is being asked.
    pub(super) fn is_decided(&self, identity: &IdentityKey, token: &str) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = answers.key(identity, token);
        match answers.known.get(&key) {
            Some(Answer::Pending) => false,
            Some(Answer::Given { until, .. }) if *until > Instant::now() => true,
            Some(Answer::Given { .. }) | None => {
                let question = Question { key, identity: *identity, token: token.to_owned() };
                match self.questions.try_send(question) {
                    Ok(()) => answers.put(key, Answer::Pending),
                    Err(_) => answers.put(key, Answer::failed()),
                }
                matches!(answers.known.get(&key), Some(Answer::Given { .. }))
            }
        }
    }

    pub(super) fn admit(&self, identity: &IdentityKey, token: &str) -> Result<(), CloseCode> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.known.get(&answers.key(identity, token)) {
            Some(Answer::Given { verdict, .. }) => *verdict,
            _ => Err(CloseCode::OVERLOADED),
        }
    }
}

/// Who asks, without the token itself: its hash is keyed, so nobody can make a token that looks like another's.
type Asker = (IdentityKey, u64);

struct Question {
    key: Asker,
    identity: IdentityKey,
    token: String,
}

#[derive(Default)]
struct Answers {
    hasher: RandomState,
    known: HashMap<Asker, Answer>,
}

enum Answer {
    Pending,
    Given { verdict: Result<(), CloseCode>, until: Instant },
}

impl Answer {
    fn failed() -> Self {
        Self::Given { verdict: Err(CloseCode::OVERLOADED), until: Instant::now() + FAILURE }
    }
}

impl Answers {
    fn key(&self, identity: &IdentityKey, token: &str) -> Asker {
        (*identity, self.hasher.hash_one(token))
    }

    fn forget_expired(&mut self) {
        let now = Instant::now();
        self.known.retain(|_, answer| !matches!(answer, Answer::Given { until, .. } if *until <= now));
    }

    fn put(&mut self, key: Asker, answer: Answer) {
        if self.known.len() >= ANSWERS_MAX {
            self.forget_expired();
            // All are fresh: half of them will be asked for again, which costs less than a look at all of them each time.
            let mut keep = false;
            if self.known.len() >= ANSWERS_MAX {
                self.known.retain(|_, answer| {
                    keep = !keep;
                    keep || matches!(answer, Answer::Pending)
                });
            }
        }
        self.known.insert(key, answer);
    }
}

struct Service {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    authorization: Option<String>,
    timeout: Duration,
}

async fn answer(
    mut asked: mpsc::Receiver<Question>,
    service: Arc<Service>,
    answers: Arc<Mutex<Answers>>,
    cache: Duration,
) {
    let slots = Arc::new(Semaphore::new(CONCURRENT_MAX));
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let question = tokio::select! {
            question = asked.recv() => question,
            _ = sweep.tick() => {
                answers.lock().unwrap_or_else(PoisonError::into_inner).forget_expired();
                continue;
            }
        };
        let Some(question) = question else { return };
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (service, answers) = (service.clone(), answers.clone());
        tokio::spawn(async move {
            let said = tokio::time::timeout(service.timeout, service.ask(&question)).await;
            let answer = match said {
                Ok(Ok(verdict)) => Answer::Given { verdict, until: Instant::now() + cache },
                Ok(Err(reason)) => {
                    tracing::warn!(reason, "the admission hook gives no answer: nobody new is let in");
                    Answer::failed()
                }
                Err(_) => {
                    tracing::warn!("the admission hook does not answer in time: nobody new is let in");
                    Answer::failed()
                }
            };
            answers.lock().unwrap_or_else(PoisonError::into_inner).put(question.key, answer);
            drop(slot);
        });
    }
}

impl Service {
    /// What the service says, or in general words why that is no answer.
    async fn ask(&self, question: &Question) -> Result<Result<(), CloseCode>, String> {
        let body = serde_json::json!({ "identity": question.identity.to_text(), "token": question.token });
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request =
            request.body(Full::from(body.to_string())).map_err(|_| "the request cannot be made".to_owned())?;
        let response = self.client.request(request).await.map_err(|error| match error.is_connect() {
            true => "it cannot be connected to".to_owned(),
            false => "the connection broke".to_owned(),
        })?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(Ok(())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Err(CloseCode::NOT_ADMITTED)),
            other => Err(format!("status {}", other.as_u16())),
        }
    }
}
