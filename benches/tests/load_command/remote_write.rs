//! What `--remote-write` sends: to somebody who reads every byte, and to a real Prometheus.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use supernode_server::core::limits::Limits;
use supernode_testkit::{Door, Relay, Setup, lasting_port};

use crate::{invite_in, short, words};

/// One request as a receiver of remote write has it: its head, and its body as it came.
fn one_request(listener: &TcpListener, answer: &str) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().expect("somebody writes");
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let (head, length) = loop {
        let read = stream.read(&mut piece).expect("a request");
        request.extend_from_slice(&piece[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(request.drain(..end + 4).collect()).expect("text").to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length").to_owned();
        break (head, length.parse::<usize>().expect("a number"));
    };
    while request.len() < length {
        let read = stream.read(&mut piece).expect("the rest");
        request.extend_from_slice(&piece[..read]);
    }
    stream.write_all(answer.as_bytes()).expect("answered");
    (head, request)
}

#[test]
fn a_receiver_of_remote_write_is_sent_the_measured_part_and_the_credential_and_its_refusal_is_told() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = invite_in(home.path(), &relay);
    let credential = home.path().join("authorization");
    fs::write(&credential, "Bearer a-secret\n").expect("ours");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}/api/v1/write", listener.local_addr().expect("bound"));
    let credential = credential.display().to_string();
    let more =
        ["--set", "hold_s=2", "--json", "--remote-write", &url, "--remote-write-authorization-file", &credential];
    let (output, (head, body)) = thread::scope(|scope| {
        let run = scope.spawn(|| short(&invite, &more));
        let request = one_request(&listener, "HTTP/1.1 204 No Content\r\n\r\n");
        (run.join().expect("it ends"), request)
    });
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", words(&output));
    for line in [
        "post /api/v1/write http/1.1",
        "content-encoding: snappy",
        "content-type: application/x-protobuf",
        "x-prometheus-remote-write-version: 0.1.0",
        "authorization: bearer a-secret",
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(!result.to_string().contains("a-secret"), "the credential is in no result");
    let message = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
    // A label as protobuf has it: field 1, of so many bytes, then field 2.
    let label = |name: &str, value: &str| {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        [&[10, name.len() as u8], name, &[18, value.len() as u8], value].concat()
    };
    let has = |bytes: &[u8]| message.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&label("__name__", "supernode_load_delivered_per_second")) && has(&label("job", "supernode-load")));
    assert!(
        has(&label("quantile", "0.99")) && has(&label("instance", result["about"]["host"].as_str().expect("text")))
    );
    let first = result["intervals"][0]["delivered_per_s"].as_f64().expect("a rate");
    // A sample: field 1, a double.
    assert!(has(&[&[9][..], &first.to_le_bytes()].concat()), "the first piece's value");

    let more = ["--set", "hold_s=1", "--remote-write", &url];
    let (refused, _) = thread::scope(|scope| {
        let run = scope.spawn(|| short(&invite, &more));
        let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 14\r\n\r\ntoo old sample";
        let request = one_request(&listener, answer);
        (run.join().expect("it ends"), request)
    });
    let told = words(&refused);
    assert!(
        refused.status.code() == Some(1)
            && told.contains("1 of 1 requests, each of 10 min at most, answered 400 Bad Request: too old sample\n"),
        "{told}"
    );
    assert!(told.contains("\n  -> see what it says") && String::from_utf8_lossy(&refused.stdout).contains("delivered"));
}

/// How long a Prometheus may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Prometheus of this machine that scrapes nobody and takes what is written to it.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// `None`, and words, where there is none.
    fn start(home: &Path) -> Option<Self> {
        let (file, log) = (home.join("prometheus.yaml"), home.join("prometheus.log"));
        fs::write(&file, "global: {}\n").expect("ours");
        let address = lasting_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", home.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--web.enable-remote-write-receiver");
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).expect("ours"));
        let child = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("skipped: no prometheus here (Debian: apt-get install prometheus)");
                return None;
            }
            child => child.expect("it starts"),
        };
        let mut prometheus = Self { child, address };
        let begun = Instant::now();
        while !prometheus.answer("/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
            let ended = prometheus.child.try_wait().expect("ours");
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "Prometheus is not ready: {ended:?}: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        Some(prometheus)
    }

    /// HTTP/1.0, so that the answer is not in pieces and ends with the connection.
    fn answer(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Every sample of a series of the last five minutes: when in ms, and its value.
    fn samples(&self, series: &str) -> Vec<(i64, f64)> {
        let encoded: String = format!("{series}[5m]").bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.answer(&format!("/api/v1/query?query={encoded}")).expect("it runs");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let [found] = &body["data"]["result"].as_array().expect("a list")[..] else { panic!("{series}: {body}") };
        let values = found["values"].as_array().expect("a list").iter();
        let sample = |pair: &serde_json::Value| {
            let value = pair[1].as_str().expect("Prometheus writes numbers as text").parse().expect("a number");
            ((pair[0].as_f64().expect("a time") * 1e3).round() as i64, value)
        };
        values.map(sample).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_takes_the_measured_part_and_gives_every_sample_back() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let Some(prometheus) = Prometheus::start(home.path()) else { return };
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let invite = invite_in(home.path(), &relay);
    let url = format!("http://{}/api/v1/write", prometheus.address);
    let own = std::process::id().to_string();
    let more = ["--set", "hold_s=3", "--relay-pid", &own, "--json", "--remote-write", &url];
    let output = short(&invite, &more);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", words(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let pieces = result["intervals"].as_array().expect("a list");
    assert!(pieces.len() >= 3, "{result}");
    let host = result["about"]["host"].as_str().expect("text");
    let labels = format!("job=\"supernode-load\",instance=\"{host}\"");
    for (series, figure, unit) in [
        (format!("supernode_load_due_per_second{{{labels}}}"), "due_per_s", 1.0),
        (format!("supernode_load_delivered_per_second{{{labels}}}"), "delivered_per_s", 1.0),
        (format!("supernode_load_loss_ratio{{{labels}}}"), "loss", 1.0),
        (format!("supernode_load_delay_seconds{{{labels},quantile=\"0.5\"}}"), "p50_ms", 1e3),
        (format!("supernode_load_delay_seconds{{{labels},quantile=\"0.99\"}}"), "p99_ms", 1e3),
        (format!("supernode_load_generator_lag_max_seconds{{{labels}}}"), "lag_max_ms", 1e3),
        (format!("supernode_load_generator_cpu_cores{{{labels}}}"), "generator_busy", 1.0),
        (format!("supernode_load_relay_cpu_cores{{{labels}}}"), "relay_busy", 1.0),
    ] {
        let known = pieces.iter().filter(|piece| !piece[figure].is_null());
        let sent: Vec<f64> = known.map(|piece| piece[figure].as_f64().expect("a number") / unit).collect();
        let kept = prometheus.samples(&series);
        // A result's numbers are read to within the last bit.
        let is_same = |(_, kept): &(i64, f64), sent: &f64| (kept - sent).abs() <= sent.abs() * 1e-12;
        let are_same = kept.len() == sent.len() && kept.iter().zip(&sent).all(|(kept, sent)| is_same(kept, sent));
        assert!(are_same, "{series}: {kept:?} of {sent:?}");
        assert!(kept.windows(2).all(|two| (two[1].0 - two[0].0 - 1000).abs() < 500), "{series}: {kept:?}");
    }

    let elsewhere = url.replace("/api/v1/write", "/no/such/path");
    let astray = short(&invite, &["--set", "hold_s=1", "--remote-write", &elsewhere]);
    let told = words(&astray);
    assert!(astray.status.code() == Some(1) && told.contains("answered 404 Not Found"), "{told}");
}
