//! What the relay counted: Prometheus text over HTTP, read by hand.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Far more than a relay with two sessions has to say.
const RESPONSE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One page of metrics.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    text: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    /// Asks the relay's admin address.
    ///
    /// # Errors
    /// If it does not answer with metrics.
    pub(super) fn fetch(admin: SocketAddr) -> anyhow::Result<Self> {
        Self::parse(&body(admin, "/metrics").with_context(|| format!("http://{admin}/metrics"))?)
    }

    /// Reads the text format of Prometheus.
    ///
    /// # Errors
    /// If a line is no metric.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| parse_sample(line).with_context(|| format!("no metric: {line}")));
        Ok(Self { text: text.to_owned(), samples: samples.collect::<anyhow::Result<_>>()? })
    }

    /// The page as it came.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The one sample of this name with these labels, such as `{direction="out"}`.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn labelled(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let sample = self.samples.iter().find(|sample| sample.name == name && sample.labels == labels);
        Ok(sample.with_context(|| format!("the relay has no metric {name}{labels}"))?.value)
    }

    /// The sum of all samples of this name.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn sum(&self, name: &str) -> anyhow::Result<f64> {
        let mut values = self.samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).peekable();
        if values.peek().is_none() {
            bail!("the relay has no metric {name}");
        }
        Ok(values.sum())
    }

    /// Every counter and gauge of the relay's own that is not zero, as `name{labels}` and its value; no histogram parts.
    pub(super) fn seen(&self) -> Vec<(String, f64)> {
        let parts = ["_bucket", "_sum"];
        let ours = self.samples.iter().filter(|sample| {
            sample.name.starts_with("supernode_")
                && sample.value != 0.0
                && !parts.iter().any(|part| sample.name.ends_with(part))
        });
        ours.map(|sample| (format!("{}{}", sample.name, sample.labels), sample.value)).collect()
    }
}

/// `name value`, `name{labels} value`, either with a timestamp behind.
fn parse_sample(line: &str) -> Option<Sample> {
    let name_ends = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_ends);
    // The last brace, as a label's value may hold one.
    let (labels, rest) = if rest.starts_with('{') { rest.split_at(rest.rfind('}')? + 1) } else { ("", rest) };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value })
}

/// The body of what is answered to an HTTP/1.0 GET, so that it comes whole and ends with the connection.
pub(super) fn body(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => bail!("answered {}", head.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PAGE: &str = "# HELP a A.\n# TYPE a counter\nsupernode_a_total 3\nsupernode_b_total{reason=\"too } old\"} 1\n\
        supernode_b_total{reason=\"full\"} 2.5\nsupernode_c 0\nsupernode_d_bucket{le=\"1\"} 7\nprocess_x 1 1700000000\n";

    #[test]
    fn samples_of_a_name_are_added_and_a_missing_name_is_an_error() {
        let metrics = Metrics::parse(PAGE).expect("a page");
        assert_eq!(metrics.sum("supernode_b_total").expect("two"), 3.5);
        assert_eq!(metrics.sum("supernode_c").expect("one"), 0.0);
        let error = metrics.sum("supernode_e").expect_err("none");
        assert_eq!(error.to_string(), "the relay has no metric supernode_e");
        assert_eq!(metrics.labelled("supernode_b_total", "{reason=\"full\"}").expect("one"), 2.5);
        let error = metrics.labelled("supernode_b_total", "").expect_err("none without a label");
        assert_eq!(error.to_string(), "the relay has no metric supernode_b_total");
        Metrics::parse("supernode_a_total three").expect_err("no number");
    }

    #[test]
    fn what_was_seen_leaves_out_zeros_and_the_metrics_of_others() {
        let seen: Vec<String> =
            Metrics::parse(PAGE).expect("a page").seen().into_iter().map(|(name, _)| name).collect();
        let expected =
            ["supernode_a_total", "supernode_b_total{reason=\"too } old\"}", "supernode_b_total{reason=\"full\"}"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_page_is_fetched_over_http() {
        let answer = |response: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("one request");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a whole request");
                    request.extend(byte);
                }
                assert!(request.starts_with(b"GET /metrics HTTP/1.0\r\n"));
                stream.write_all(response.as_bytes()).expect("it listens");
            });
            let fetched = Metrics::fetch(address);
            server.join().expect("no assertion failed");
            fetched
        };
        let metrics =
            answer("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nsupernode_a_total 3\n").expect("a page");
        assert_eq!(metrics.sum("supernode_a_total").expect("one"), 3.0);
        answer("HTTP/1.0 404 Not Found\r\n\r\n").expect_err("no such page");
    }
}
