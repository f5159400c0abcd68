//! The measured part's pieces as time series for a Prometheus, or whatever else takes its remote write (version 1): a message of
//! protobuf, compressed by snappy, in a POST for every ten minutes.

use std::time::Duration;

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

use super::{IntervalReport, Report};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of the measured part is one request. A Prometheus refuses a whole request for one sample that is too old: of a run of
/// hours it takes the last one so, instead of nothing.
const REQUEST_S: f64 = 600.0;
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

/// Sends them, and waits for the receiver's word.
///
/// # Errors
/// See [`PushError`].
pub fn push(report: &Report, to: &Receiver) -> Result<(), PushError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PushError::System)?;
    runtime.block_on(send(report, to))
}

async fn send(report: &Report, to: &Receiver) -> Result<(), PushError> {
    let connector = HttpsConnectorBuilder::new().try_with_platform_verifier();
    let connector = connector.map_err(|error| PushError::System(std::io::Error::other(error)))?;
    let client = Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build());
    let from_unix_ms = report.measured_from_unix_ms as i64;
    let bodies: Vec<_> =
        requests(&report.intervals).map(|pieces| body(pieces, from_unix_ms, &report.about.host)).collect();
    let (requests, mut refusals) = (bodies.len(), Vec::new());
    for body in bodies {
        let exchange = tokio::time::timeout(PATIENCE, exchange(&client, body, to)).await;
        match exchange.unwrap_or(Err(PushError::Late))? {
            Ok(()) => {}
            // What comes later may be to its liking.
            Err(refusal) => refusals.push(refusal),
        }
    }
    let refused = refusals.len();
    match refusals.pop() {
        None => Ok(()),
        Some((code, words)) => Err(PushError::Refused { refused, requests, code, words }),
    }
}

/// One request, and why the receiver did not want what is in it.
async fn exchange(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    body: Vec<u8>,
    to: &Receiver,
) -> Result<Result<(), (StatusCode, String)>, PushError> {
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

    #[test]
    fn a_run_of_hours_is_a_request_for_every_ten_minutes_and_no_piece_is_lost_or_sent_twice() {
        let piece = |at_s: u32| IntervalReport {
            at_s: f64::from(at_s),
            due_per_s: f64::from(at_s),
            delivered_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            lag_max_ms: 0.0,
            loss: 0.0,
            relay_busy: None,
            generator_busy: None,
        };
        let pieces: Vec<_> = (0..1_500).map(piece).collect();
        let bodies: Vec<_> = requests(&pieces).map(|pieces| body(pieces, 7_000, "here")).collect();
        let mut samples = Vec::new();
        for (body, expected) in bodies.iter().zip([600, 600, 300]) {
            let message = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
            let request = WriteRequest::decode(&message[..]).expect("protobuf");
            let due = &request.timeseries[0];
            assert_eq!(due.labels, labels("supernode_load_due_per_second", "here", None));
            assert_eq!((request.timeseries.len(), due.samples.len()), (6, expected), "nobody looked at CPU time");
            samples.extend(due.samples.iter().map(|sample| (sample.timestamp, sample.value as i64)));
        }
        assert_eq!((bodies.len(), samples), (3, (0..1_500).map(|second| (7_000 + second * 1_000, second)).collect()));
    }
}
