//! The measured part's pieces as time series for a Prometheus, or whatever else takes its remote write (version 1): a message of
//! protobuf, compressed by snappy, in one POST.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{self, HeaderValue},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;

use super::{IntervalReport, Report};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);
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
    /// The receiver does not want them.
    #[error("answered {code}: {words}")]
    Refused {
        /// The status.
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
    let exchange = async { tokio::time::timeout(PATIENCE, exchange(report, to)).await };
    runtime.block_on(exchange).unwrap_or(Err(PushError::Late))
}

async fn exchange(report: &Report, to: &Receiver) -> Result<(), PushError> {
    let connector = HttpsConnectorBuilder::new().try_with_platform_verifier();
    let connector = connector.map_err(|error| PushError::System(std::io::Error::other(error)))?;
    let client = Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build());
    let mut request = Request::new(Full::new(Bytes::from(body(report))));
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
        return Ok(());
    }
    let words = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let words = words.map(|words| words.to_bytes()).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(PushError::Refused { code, words })
}

/// What the request carries.
fn body(report: &Report) -> Vec<u8> {
    let message = WriteRequest { timeseries: series(report) }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).expect("far below the 4 GiB that snappy can say")
}

fn series(report: &Report) -> Vec<TimeSeries> {
    let series = SERIES.iter().map(|(name, quantile, read)| TimeSeries {
        labels: labels(name, &report.about.host, *quantile),
        samples: report
            .intervals
            .iter()
            .filter_map(|piece| {
                let timestamp = report.measured_from_unix_ms as i64 + (piece.at_s * 1e3) as i64;
                Some(Sample { value: read(piece)?, timestamp })
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
