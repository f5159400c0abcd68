//! A real Prometheus scrapes a relay with a call on it, loads the rules, and answers every panel's query.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{
    Directory, Options, Person, START_TIMEOUT, a_call,
    metrics::body,
    process::{Interrupted, Process},
    start_relay,
};
use crate::workspace;

/// Longest wait for the last panel.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports that are tried for Prometheus.
const ATTEMPTS: u32 = 3;

/// A panel's query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The dashboard's file and the panel's title.
    pub name: String,
    /// The query, with rates over [`WINDOW`].
    pub promql: String,
}

/// Rates are over so many of this Prometheus's one-second scrapes.
pub const WINDOW: &str = "5s";

/// Starts a relay, a call and Prometheus, and asks until every query has returned a number.
///
/// # Errors
/// If one of them does not start, a rule fails, or a query has no data in time.
pub fn every_query_returns_data(programs: &Path, queries: &[Query]) -> anyhow::Result<()> {
    let interrupted = Interrupted::listen()?;
    let directory = Directory::new()?;
    let (relay, ready) = start_relay(programs, &directory, &Options::default(), &interrupted)?;
    let call = Call::prepare(programs, &directory, &ready.invite, &interrupted)?;
    let (prometheus, address) = start_prometheus(&directory, ready.admin, &interrupted)?;
    let mut servers = [(relay, "relay"), (prometheus, "Prometheus")];
    let mut people = call.start()?;

    let started = Instant::now();
    let mut missing: Vec<&Query> = queries.iter().collect();
    loop {
        interrupted.wait_until(Instant::now() + Duration::from_secs(1))?;
        for (process, name) in &mut servers {
            still_runs(process, &directory.path(&format!("{name}.log")))?;
        }
        // Their files are shorter than the patience: rates need a call that goes on.
        if call.is_over(&mut people)? {
            people.clear();
            people = call.start()?;
        }
        missing.retain(|query| !has_data(address, &query.promql));
        let rules = rules(address)?;
        if missing.is_empty() && rules.waiting.is_empty() {
            let seconds = started.elapsed().as_secs_f32();
            println!("   {} queries have data after {seconds:.0} s, {} rules are well", queries.len(), rules.well);
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            let without = missing.iter().map(|query| format!("{}: {} has no data", query.name, query.promql));
            let waiting = rules.waiting.iter().map(|name| format!("the rule {name} was never evaluated"));
            let findings: Vec<String> = without.chain(waiting).collect();
            bail!("{} findings:\n  {}", findings.len(), findings.join("\n  "));
        }
    }
}

/// Two people with fresh identities talk, with audio and video, until their files end.
struct Call<'a> {
    program: PathBuf,
    directory: &'a Directory,
    a: Person,
    b: Person,
}

impl<'a> Call<'a> {
    fn prepare(
        programs: &Path,
        directory: &'a Directory,
        invite: &str,
        interrupted: &Interrupted,
    ) -> anyhow::Result<Self> {
        let program = programs.join("supernode-call");
        let quick = |arguments: &[&str]| {
            let process = Process::start("supernode-call", "call  | ", Command::new(&program).args(arguments))?;
            process.finish(START_TIMEOUT, interrupted).with_context(|| format!("supernode-call {}", arguments[0]))
        };
        fs::write(directory.path("invite"), invite)?;
        let (a_file, b_file) = (directory.text("a.identity"), directory.text("b.identity"));
        let a_identity = quick(&["identity", "--out", &a_file, "--name", "A"])?;
        quick(&["identity", "--out", &b_file, "--name", "B"])?;
        fs::write(directory.path("ticket"), quick(&["ticket", "--identity", &b_file, "--for", a_identity.trim()])?)?;
        let (a, b) = (Person::new(directory, "a", a_file)?, Person::new(directory, "b", b_file)?);
        Ok(Self { program, directory, a, b })
    }

    /// They end when they are dropped.
    fn start(&self) -> anyhow::Result<Vec<Process>> {
        let Self { program, directory, a, b } = self;
        for person in [a, b] {
            fs::remove_dir_all(&person.recordings)?;
            fs::create_dir(&person.recordings)?;
        }
        let start = |name: &'static str, mut command: Command| {
            let (out, log) = (directory.path(&format!("{name}.json")), directory.path(&format!("{name}.log")));
            Process::start_with_files(name, &out, &log, &mut command)
        };
        let invite = directory.path("invite");
        let mut caller = a_call(program, "call", &invite, a);
        caller.args(["--ticket-file", &directory.text("ticket")]);
        Ok(vec![start("B", a_call(program, "listen", &invite, b))?, start("A", caller)?])
    }

    /// Whether one of them has hung up.
    fn is_over(&self, people: &mut [Process]) -> anyhow::Result<bool> {
        let mut over = false;
        for process in people {
            match process.ended()? {
                Some(status) if status.success() => over = true,
                _ => still_runs(process, &self.directory.path(&format!("{}.log", process.name())))?,
            }
        }
        Ok(over)
    }
}

/// That a process goes on. If it has ended, there is nothing to wait for: its log says why.
fn still_runs(process: &mut Process, log: &Path) -> anyhow::Result<()> {
    let Some(status) = process.ended()? else { return Ok(()) };
    let log = fs::read_to_string(log).unwrap_or_else(|error| format!("no log: {error}"));
    bail!("{} ended with {status} while it was watched:\n{log}", process.name())
}

/// It takes no port of its own choice, and whoever takes the one that was free in between wins: then another is tried.
fn start_prometheus(
    directory: &Directory,
    target: SocketAddr,
    interrupted: &Interrupted,
) -> anyhow::Result<(Process, SocketAddr)> {
    let rules = workspace::root().join("deploy/prometheus/supernode.rules.yaml");
    let configuration = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: \
         supernode\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
        rules.display()
    );
    let file = directory.path("prometheus.yaml");
    fs::write(&file, configuration)?;
    let log = directory.path("Prometheus.log");
    let mut attempts = 0;
    loop {
        attempts += 1;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process =
            Process::start_with_files("Prometheus", &directory.path("Prometheus.out"), &log, &mut command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        let ended = loop {
            if let Err(error) = still_runs(&mut process, &log) {
                break error;
            }
            if body(address, "/-/ready").is_ok() {
                return Ok((process, address));
            }
            if Instant::now() > deadline {
                bail!("Prometheus was not ready after {} s:\n{}", START_TIMEOUT.as_secs(), fs::read_to_string(&log)?);
            }
            interrupted.pause()?;
        };
        if attempts == ATTEMPTS || !ended.to_string().contains("address already in use") {
            return Err(ended);
        }
    }
}

/// Whether the query has a number. A share of nothing is none.
fn has_data(address: SocketAddr, query: &str) -> bool {
    let Ok(answer) = ask(address, &format!("/api/v1/query?query={}", percent_encoded(query))) else { return false };
    let samples = answer["data"]["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |sample: &Value| sample["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    samples.iter().filter_map(number).any(|value| !value.is_nan())
}

/// The rules that Prometheus has loaded.
#[derive(Debug, Default)]
struct Rules {
    /// How many were evaluated without an error.
    well: usize,
    /// Those that were not evaluated yet: each group has its own place within the interval.
    waiting: Vec<String>,
}

fn rules(address: SocketAddr) -> anyhow::Result<Rules> {
    // It does not answer before it has started: no rule is well then, and none is sick.
    let Ok(answer) = ask(address, "/api/v1/rules") else { return Ok(Rules::not_told()) };
    let Some(groups) = answer["data"]["groups"].as_array() else { return Ok(Rules::not_told()) };
    let mut rules = Rules::default();
    for rule in groups.iter().filter_map(|group| group["rules"].as_array()).flatten() {
        match rule["health"].as_str() {
            Some("ok") => rules.well += 1,
            Some("unknown") => rules.waiting.push(rule["name"].to_string()),
            _ => bail!("the rule {} is {}: {}", rule["name"], rule["health"], rule["lastError"]),
        }
    }
    if rules.well + rules.waiting.len() == 0 {
        return Ok(Rules::not_told());
    }
    Ok(rules)
}

impl Rules {
    fn not_told() -> Self {
        Self { well: 0, waiting: vec!["of any name".to_owned()] }
    }
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&body(address, path)?)?)
}

/// RFC 3986 section 2.1: everything but what is unreserved.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_early_is_noticed_and_its_log_is_shown() {
        let directory = Directory::new().expect("a directory");
        let (out, log) = (directory.path("out"), directory.path("log"));
        let start = |script: &str| {
            Process::start_with_files("B", &out, &log, Command::new("sh").args(["-c", script]))
                .expect("there is a shell")
        };
        still_runs(&mut start("exec sleep 60"), &log).expect("it goes on");
        let mut process = start("echo no sound >&2; exit 7");
        let deadline = Instant::now() + START_TIMEOUT;
        let error = loop {
            match still_runs(&mut process, &log) {
                Err(error) => break error.to_string(),
                Ok(()) => assert!(Instant::now() < deadline, "it has ended"),
            }
        };
        assert!(error.contains("B ended with exit status: 7") && error.contains("no sound"), "{error}");
    }

    #[test]
    fn a_query_survives_its_way_into_an_address() {
        assert_eq!(
            percent_encoded("rate(a_b{c=~\"d.*\"}[5s]) > 0"),
            "rate%28a_b%7Bc%3D~%22d.%2A%22%7D%5B5s%5D%29%20%3E%200"
        );
    }
}
