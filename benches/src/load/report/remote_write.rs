//! The measured part's pieces as time series for a Prometheus, or whatever else takes its remote write (version 1): a message of
//! protobuf, compressed by snappy, in a POST for every ten minutes as they pass, since a Prometheus takes nothing that is older
//! than an hour.

use std::{
    collections::VecDeque,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{self, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message;

use super::IntervalReport;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of the measured part is one request: a sixth of what a Prometheus looks back.
const REQUEST_S: f64 = 600.0;
/// While a run goes on a receiver that does not answer is tried again after so long. The requests behind wait: a Prometheus takes
/// a series in its order only.
const RETRY: Duration = Duration::from_secs(10);
/// What is read of an answer, which says what is wrong in a line.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where series go.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// As it was given.
    pub url: Uri,
    /// The value of the header, if the receiver wants one.
    pub authorization: Option<HeaderValue>,
}

/// Why they did not get there.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No sockets, or no authorities to check a certificate by.
    #[error("the system refuses what that needs")]
    System(#[source] std::io::Error),
    /// No connection, or it broke.
    #[error("no answer")]
    Connection(#[source] hyper_util::client::legacy::Error),
    /// It took too long.
    #[error("no answer in {} s", PATIENCE.as_secs())]
    Late,
    /// The receiver does not want them, or some.
    #[error("{refused} of {requests} requests, each of {} min at most, answered {code}: {words}", REQUEST_S / 60.0)]
    Refused {
        /// How many were.
        refused: usize,
        /// Of how many.
        requests: usize,
        /// The last one's status.
        code: StatusCode,
        /// What the receiver says.
        words: String,
    },
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// A name, the quantile of a distribution, and what a piece has of it. In base units, as Prometheus names them.
type Series = (&'static str, Option<&'static str>, fn(&IntervalReport) -> Option<f64>);

const SERIES: [Series; 8] = [
    ("supernode_load_due_per_second", None, |piece| Some(piece.due_per_s)),
    ("supernode_load_delivered_per_second", None, |piece| Some(piece.delivered_per_s)),
    ("supernode_load_loss_ratio", None, |piece| Some(piece.loss)),
    ("supernode_load_delay_seconds", Some("0.5"), |piece| Some(piece.p50_ms / 1e3)),
    ("supernode_load_delay_seconds", Some("0.99"), |piece| Some(piece.p99_ms / 1e3)),
    ("supernode_load_generator_lag_max_seconds", None, |piece| Some(piece.lag_max_ms / 1e3)),
    ("supernode_load_generator_cpu_cores", None, |piece| piece.generator_busy),
    ("supernode_load_relay_cpu_cores", None, |piece| piece.relay_busy),
];

/// Sends pieces of one run, the oldest first, on a thread of its own.
#[derive(Debug)]
pub struct Pusher {
    to_thread: Sender<Vec<u8>>,
    thread: JoinHandle<Result<(), PushError>>,
    host: String,
    from_unix_ms: u64,
    /// Those that are no whole request yet.
    waiting: Vec<IntervalReport>,
    /// How many are with the thread.
    handed: usize,
}

impl Pusher {
    /// For what the generator on this host measures.
    ///
    /// # Errors
    /// If the system refuses sockets or a thread, or has no authorities to check a certificate by.
    pub fn start(to: Receiver, host: String) -> Result<Self, PushError> {
        let connector = HttpsConnectorBuilder::new().try_with_platform_verifier();
        let connector = connector.map_err(|error| PushError::System(std::io::Error::other(error)))?;
        let client = Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PushError::System)?;
        let (to_thread, bodies) = mpsc::channel();
        let thread = std::thread::Builder::new().name("remote-write".to_owned());
        let thread = thread.spawn(move || deliver(&bodies, RETRY, |body| runtime.block_on(post(&client, body, &to))));
        let thread = thread.map_err(PushError::System)?;
        Ok(Self { to_thread, thread, host, from_unix_ms: 0, waiting: Vec::new(), handed: 0 })
    }

    /// Takes what has settled while the run goes on: each ten minutes of it are sent once they are whole.
    pub fn note(&mut self, from_unix_ms: u64, settled: &[IntervalReport]) {
        self.from_unix_ms = from_unix_ms;
        self.waiting.extend_from_slice(settled);
        loop {
            let first = requests(&self.waiting).next().map_or(0, <[_]>::len);
            if first == self.waiting.len() {
                return;
            }
            let pieces: Vec<_> = self.waiting.drain(..first).collect();
            self.hand_over(&pieces);
        }
    }

    /// Sends the rest of all pieces, and waits for the receiver's word on each request.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn finish(mut self, from_unix_ms: u64, all: &[IntervalReport]) -> Result<(), PushError> {
        self.from_unix_ms = from_unix_ms;
        for pieces in requests(all.get(self.handed..).unwrap_or_default()) {
            self.hand_over(pieces);
        }
        drop(self.to_thread);
        self.thread.join().expect("it ends without a panic")
    }

    fn hand_over(&mut self, pieces: &[IntervalReport]) {
        self.handed += pieces.len();
        // It is there until there is nobody to send it anything.
        let _ = self.to_thread.send(body(pieces, self.from_unix_ms as i64, &self.host));
    }
}

/// What a receiver says to a request that it has read and does not want.
type Refusal = (StatusCode, String);

/// Sends each, in this order; again, as long as there may be more, to whoever does not answer.
fn deliver(
    bodies: &mpsc::Receiver<Vec<u8>>,
    retry: Duration,
    post: impl Fn(Vec<u8>) -> Result<Result<(), Refusal>, PushError>,
) -> Result<(), PushError> {
    let (mut queue, mut open) = (VecDeque::new(), true);
    let (mut requests, mut refusals) = (0, Vec::new());
    loop {
        let Some(body) = queue.front() else {
            match bodies.recv() {
                Ok(body) => queue.push_back(body),
                Err(_) => break,
            }
            continue;
        };
        match post(Vec::clone(body)) {
            Ok(Err((code, _))) if open && is_to_come_again(code) => {}
            Ok(answer) => {
                queue.pop_front();
                requests += 1;
                refusals.extend(answer.err());
                continue;
            }
            // The run is over, and people wait.
            Err(error) if !open => return Err(error),
            Err(_) => {}
        }
        let again_at = Instant::now() + retry;
        open = loop {
            match bodies.recv_timeout(again_at.saturating_duration_since(Instant::now())) {
                Ok(body) => queue.push_back(body),
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
    }
    let refused = refusals.len();
    match refusals.pop() {
        None => Ok(()),
        Some((code, words)) => Err(PushError::Refused { refused, requests, code, words }),
    }
}

/// Whether it is the receiver's trouble, and may be over later.
fn is_to_come_again(code: StatusCode) -> bool {
    code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS
}

async fn post(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    body: Vec<u8>,
    to: &Receiver,
) -> Result<Result<(), Refusal>, PushError> {
    let exchange = tokio::time::timeout(PATIENCE, exchange(client, body, to)).await;
    exchange.unwrap_or(Err(PushError::Late))
}

/// One request, and why the receiver did not want what is in it.
async fn exchange(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    body: Vec<u8>,
    to: &Receiver,
) -> Result<Result<(), Refusal>, PushError> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = to.url.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static("0.1.0"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("supernode-load/", env!("CARGO_PKG_VERSION"))));
    if let Some(authorization) = &to.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    let answer = client.request(request).await.map_err(PushError::Connection)?;
    let code = answer.status();
    if code.is_success() {
        return Ok(Ok(()));
    }
    let words = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let words = words.map(|words| words.to_bytes()).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Err((code, words)))
}

/// What each request has of the measured part, the oldest first.
fn requests(pieces: &[IntervalReport]) -> impl Iterator<Item = &[IntervalReport]> {
    let request_of = |piece: &IntervalReport| (piece.at_s / REQUEST_S) as u64;
    pieces.chunk_by(move |one, next| request_of(one) == request_of(next))
}

fn body(pieces: &[IntervalReport], from_unix_ms: i64, host: &str) -> Vec<u8> {
    let message = WriteRequest { timeseries: series(pieces, from_unix_ms, host) }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).expect("far below the 4 GiB that snappy can say")
}

fn series(pieces: &[IntervalReport], from_unix_ms: i64, host: &str) -> Vec<TimeSeries> {
    let series = SERIES.iter().map(|(name, quantile, read)| TimeSeries {
        labels: labels(name, host, *quantile),
        samples: pieces
            .iter()
            .filter_map(|piece| {
                Some(Sample { value: read(piece)?, timestamp: from_unix_ms + (piece.at_s * 1e3) as i64 })
            })
            .collect(),
    });
    series.filter(|series| !series.samples.is_empty()).collect()
}

/// In the order of their names, as receivers want them.
fn labels(name: &str, host: &str, quantile: Option<&str>) -> Vec<Label> {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let always = [label("__name__", name), label("instance", host), label("job", "supernode-load")];
    always.into_iter().chain(quantile.map(|quantile| label("quantile", quantile))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at_s: u32) -> IntervalReport {
        let rate = f64::from(at_s);
        IntervalReport { at_s: rate, due_per_s: rate, ..IntervalReport::default() }
    }

    /// When the samples of what is due are, and their values.
    fn samples(body: &[u8]) -> Vec<(i64, i64)> {
        let message = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
        let request = WriteRequest::decode(&message[..]).expect("protobuf");
        let due = &request.timeseries[0];
        assert_eq!(due.labels, labels("supernode_load_due_per_second", "here", None));
        assert_eq!(request.timeseries.len(), 6, "nobody looked at CPU time");
        due.samples.iter().map(|sample| (sample.timestamp, sample.value as i64)).collect()
    }

    #[test]
    fn a_run_of_hours_is_a_request_for_every_ten_minutes_and_no_piece_is_lost_or_sent_twice() {
        let pieces: Vec<_> = (0..1_500).map(piece).collect();
        let (to_thread, bodies) = mpsc::channel();
        let thread = std::thread::spawn(|| Ok(()));
        let (host, from_unix_ms, waiting) = ("here".to_owned(), 0, Vec::new());
        let mut pusher = Pusher { to_thread, thread, host, from_unix_ms, waiting, handed: 0 };
        pieces[..1_000].chunks(7).for_each(|settled| pusher.note(7_000, settled));
        let meanwhile: Vec<_> = bodies.try_iter().map(|body| samples(&body)).collect();
        assert_eq!(meanwhile.iter().map(Vec::len).collect::<Vec<_>>(), [600], "a whole request, and no part of one");
        pusher.finish(7_000, &pieces).expect("nobody refuses anything");
        let rest: Vec<_> = bodies.try_iter().map(|body| samples(&body)).collect();
        assert_eq!(rest.iter().map(Vec::len).collect::<Vec<_>>(), [600, 300]);
        let all: Vec<_> = meanwhile.into_iter().chain(rest).flatten().collect();
        assert_eq!(all, (0..1_500).map(|second| (7_000 + second * 1_000, second)).collect::<Vec<_>>());
    }

    /// What becomes of three requests when these are the answers, and which requests were answered so.
    fn delivered(answers: Vec<Result<Result<(), Refusal>, PushError>>) -> (Result<(), PushError>, Vec<u8>) {
        let (to_thread, bodies) = mpsc::channel();
        (0..3).for_each(|body| to_thread.send(vec![body]).expect("it is there"));
        let answers = std::cell::RefCell::new((answers.into_iter(), Vec::new(), Some(to_thread)));
        let end = deliver(&bodies, Duration::ZERO, |body| {
            let (answers, asked, to_thread) = &mut *answers.borrow_mut();
            asked.push(body[0]);
            let answer = answers.next().expect("asked no more often");
            // The run is over before the last one.
            drop(to_thread.take_if(|_| answers.len() <= 1));
            answer
        });
        (end, answers.into_inner().1)
    }

    #[test]
    fn who_does_not_answer_is_asked_again_in_the_same_order_and_who_refuses_is_not() {
        let refused = |code: u16| Ok(Err((StatusCode::from_u16(code).expect("a code"), "words".to_owned())));
        let taken = || Ok(Ok(()));
        let (end, asked) = delivered(vec![taken(), Err(PushError::Late), refused(503), refused(429), taken(), taken()]);
        assert_eq!(asked, [0, 1, 1, 1, 1, 2]);
        end.expect("all were taken");

        let (end, asked) = delivered(vec![refused(400), taken(), taken()]);
        assert_eq!(asked, [0, 1, 2]);
        let error = end.expect_err("one was refused").to_string();
        assert_eq!(error, "1 of 3 requests, each of 10 min at most, answered 400 Bad Request: words");

        let (end, asked) = delivered(vec![taken(), taken(), Err(PushError::Late), Err(PushError::Late)]);
        assert_eq!(asked, [0, 1, 2, 2]);
        assert!(matches!(end, Err(PushError::Late)), "{end:?}");
    }
}
