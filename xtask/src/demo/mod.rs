//! `cargo xtask demo`: a relay, two people and a call between them, all real, on this machine.

mod blindness;
mod canaries;
mod cluster;
mod during;
mod memory;
mod metrics;
mod process;
pub mod prometheus;
mod report;
mod room;
mod shown;
mod sockets;
pub(crate) mod talk;
mod web;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{self as system, Command},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use supernode_proto::identity::IdentityKey;

use crate::{
    page,
    workspace::{self, Profile},
};
use blindness::{Blindness, Place, Text};
use canaries::Word;
use during::During;
use memory::Memory;
use metrics::Metrics;
pub(crate) use process::{Interrupted, Process};
use report::{Flow, Report, Side};
use shown::Shown;

/// Of a call: audio and video, both ways.
const SUBSCRIPTIONS: usize = 4;
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// What a call may take beyond its seconds: connecting, presence, ringing, hanging up.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
/// What the callee may take to notice that the caller hung up.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(15);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What the demo is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How its programs are built.
    pub programs: Profile,
    /// How long the two talk.
    pub seconds: u64,
    /// Whether to print the result for programs as the last line.
    pub json: bool,
    /// Whether to leave the relay running.
    pub keep: bool,
    /// How many shards the relay has; as many as cores if nothing is said.
    pub shards: Option<u32>,
    /// How many meet in a room; a call of two if nothing is said.
    pub room: Option<usize>,
    /// Whether one of the two is in a browser, by the page.
    pub web: bool,
    /// Whether they are at three relays that are one cluster.
    pub cluster: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            programs: Profile::Debug,
            seconds: 10,
            json: false,
            keep: false,
            shards: None,
            room: None,
            web: false,
            cluster: false,
        }
    }
}

/// Builds, runs the call, prints what happened.
///
/// # Errors
/// If anything failed or did not hold. Nothing is left running then, and no file is left.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.cluster {
        if options.seconds < cluster::SECONDS_MIN {
            let least = cluster::SECONDS_MIN;
            bail!(
                "--seconds {}: with --cluster at least {least}, for somebody has to come back in it",
                options.seconds
            );
        }
        return cluster::run(options);
    }
    if options.web {
        if options.seconds < web::SECONDS_MIN {
            bail!("--seconds {}: with --web at least {}, to find words in it", options.seconds, web::SECONDS_MIN);
        }
        page::ready_for_a_call()?;
        println!("Making the page");
        page::run()?;
    }
    println!("Building the relay and the client ({})", options.programs.build().shown());
    let programs = &options.programs.built()?;
    let interrupted = Interrupted::listen()?;
    let directory = Directory::new()?;
    let (relay, ready) = start_relay(programs, &directory, options, &interrupted)?;
    println!("relay | listens at {}, metrics at http://{}/metrics", ready.listen, ready.admin);

    let stage =
        Stage { programs, directory: &directory, options, relay: &relay, ready: &ready, interrupted: &interrupted };
    let result: anyhow::Result<(Box<dyn Outcome>, Evidence)> = match options.room {
        None if options.web => web::hold(&stage),
        None => call(&stage).map(|(report, evidence)| (Box::new(report) as Box<dyn Outcome>, evidence)),
        Some(size) => {
            room::hold(&stage, size).map(|(report, evidence)| (Box::new(report) as Box<dyn Outcome>, evidence))
        }
    };
    let log = || fs::read_to_string(directory.path("relay.log")).unwrap_or_default();
    let (mut report, evidence) = result.inspect_err(|_| println!("The relay's log:\n{}", log()))?;
    let running = match options.keep {
        true => Some(relay),
        false => {
            relay.terminate(STOP_TIMEOUT, &interrupted).context("the relay did not drain and stop")?;
            None
        }
    };
    // After the end, so that nothing that the relay writes while it stops goes unread.
    report.shown().blindness = evidence.judge(&directory, &ready)?;
    println!(
        "\nThe {} of {} s\n{}",
        if options.room.is_some() { "room" } else { "call" },
        options.seconds,
        report.text()
    );
    if options.programs == Profile::Debug {
        println!("  not optimised, to be built sooner: delay and cost are not the relay's; with --release they are");
    }
    if options.web
        && let Some(relay) = &running
    {
        tell(&*report, options.json)?;
        let stage = Stage { programs, directory: &directory, options, relay, ready: &ready, interrupted: &interrupted };
        return web::keep(&stage);
    }
    match running {
        Some(relay) => keep(relay, &ready, directory),
        None => println!("\nNothing is left running."),
    }
    tell(&*report, options.json)
}

/// Says what did not hold, and what programs want to know.
fn tell(report: &dyn Outcome, json: bool) -> anyhow::Result<()> {
    let failures = report.failures();
    failures.iter().for_each(|failure| println!("FAILED: {failure}"));
    if json {
        println!("{}", report.json()?);
    }
    if failures.is_empty() { Ok(()) } else { bail!("the call did not hold what was promised") }
}

/// Where a call takes place.
struct Stage<'a> {
    programs: &'a Path,
    directory: &'a Directory,
    options: &'a Options,
    relay: &'a Process,
    ready: &'a Ready,
    interrupted: &'a Interrupted,
}

impl Stage<'_> {
    fn program(&self) -> PathBuf {
        self.programs.join("supernode-call")
    }

    /// Runs a command of the client to its end.
    fn quick(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.program());
        let process = Process::start("supernode-call", "call  | ", command.args(arguments))?;
        process.finish(START_TIMEOUT, self.interrupted).with_context(|| format!("supernode-call {}", arguments[0]))
    }
}

/// What a demonstration came to.
trait Outcome {
    /// The relay's part.
    fn shown(&mut self) -> &mut Shown;
    /// For people.
    fn text(&self) -> String;
    /// What did not hold.
    fn failures(&self) -> Vec<String>;
    /// For programs, on one line.
    fn json(&self) -> anyhow::Result<String>;
}

/// The line that a relay prints when it is ready.
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) invite: String,
    /// The call page, if it serves one.
    page: Option<Page>,
}

/// Where the call page is, and what it is known by.
#[derive(Debug, Deserialize)]
struct Page {
    url: String,
    sha256: String,
}

pub(crate) fn start_relay(
    programs: &Path,
    directory: &Directory,
    options: &Options,
    interrupted: &Interrupted,
) -> anyhow::Result<(Process, Ready)> {
    let (stdout, stderr) = (directory.path("relay.json"), directory.path("relay.log"));
    let mut command = Command::new(programs.join("supernode"));
    // What is promised of the log is promised of the default level.
    command.env_remove("RUST_LOG");
    // Its memory is to be searched.
    command.args(["serve", "--dumpable", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--open", "--state-dir"]);
    command.arg(directory.path("relay"));
    if options.web {
        let config = directory.path("relay.toml");
        fs::write(&config, web::settings()?)?;
        command.arg("--config").arg(config);
    }
    if let Some(shards) = options.shards {
        command.args(["--shards", &shards.to_string()]);
    }
    let mut relay = Process::start_with_files("the relay", &stdout, &stderr, &mut command)?;
    let ready = wait_until_ready(&mut relay, &stdout, &stderr, interrupted)?;
    Ok((relay, ready))
}

/// Until a relay has printed that it is, to this file; its log is in the other.
fn wait_until_ready(
    relay: &mut Process,
    stdout: &Path,
    stderr: &Path,
    interrupted: &Interrupted,
) -> anyhow::Result<Ready> {
    let started = Instant::now();
    loop {
        let printed = fs::read_to_string(stdout)?;
        if let Some((line, _)) = printed.split_once('\n') {
            return serde_json::from_str(line).context("the relay's first line is not what a ready relay prints");
        }
        let log = || fs::read_to_string(stderr).unwrap_or_default();
        if let Some(status) = relay.ended()? {
            bail!("{} ended with {status} before it was ready\n{}", relay.name(), log());
        }
        if started.elapsed() > START_TIMEOUT {
            bail!("{} was not ready after {} s\n{}", relay.name(), START_TIMEOUT.as_secs(), log());
        }
        interrupted.pause()?;
    }
}

/// Two people with fresh identities: B listens, A calls. The report lacks its blindness until the evidence is judged.
fn call(stage: &Stage<'_>) -> anyhow::Result<(Report, Evidence)> {
    let Stage { directory, options, relay, ready, interrupted, .. } = *stage;
    let supernode_call = stage.program();
    let quick = |arguments: &[&str]| stage.quick(arguments);
    let invite = directory.path("invite");
    fs::write(&invite, &ready.invite)?;
    let (a_file, b_file) = (directory.text("a.identity"), directory.text("b.identity"));
    let a_identity = quick(&["identity", "--out", &a_file, "--name", "A"])?;
    let b_identity = quick(&["identity", "--out", &b_file, "--name", "B"])?;
    let ticket = quick(&["ticket", "--identity", &b_file, "--for", a_identity.trim()])?;
    fs::write(directory.path("ticket"), ticket)?;

    let (a, b) = (Person::new(directory, "a", a_file)?, Person::new(directory, "b", b_file)?);
    let listener = Process::start("B", "B     | ", &mut a_call(&supernode_call, "listen", &invite, &b))?;
    let seconds = options.seconds.to_string();
    let ticket_file = directory.text("ticket");
    let mut command = a_call(&supernode_call, "call", &invite, &a);
    command.args(["--ticket-file", &ticket_file, "--seconds", &seconds]);
    let caller = Process::start("A", "A     | ", &mut command)?;
    let mut people = [caller, listener];
    let during = during::watch(relay, ready.admin, options.seconds, &mut people, SUBSCRIPTIONS, interrupted)?;
    let [caller, listener] = people;
    let a_said = caller.finish(CALL_TIMEOUT + Duration::from_secs(options.seconds), interrupted)?;
    let b_said = listener.finish(HANG_UP_TIMEOUT, interrupted)?;
    let sides = [Side::parse("A", &a_said)?, Side::parse("B", &b_said)?];

    let after = settled(ready.admin, interrupted)?;
    println!("\nWhat the relay saw");
    after.seen().iter().for_each(|(name, value)| println!("  {name} {value}"));
    let [side_a, side_b] = &sides;
    let flows = vec![
        Flow::new("audio A to B", side_a.audio_sent, side_b.audio_received, &a.audio, &b.recorded("audio.opus"))?,
        Flow::new("audio B to A", side_b.audio_sent, side_a.audio_received, &b.audio, &a.recorded("audio.opus"))?,
        Flow::new("video A to B", side_a.video_sent, side_b.video_received, &a.video, &b.recorded("video.ivf"))?,
        Flow::new("video B to A", side_b.video_sent, side_a.video_received, &b.video, &a.recorded("video.ivf"))?,
    ];
    let load = during.load;
    let mut canaries = canaries::of_safety_number(&side_a.safety_number);
    for (name, person) in [("A", &a), ("B", &b)] {
        canaries.extend(canaries::of_identity(name, &person.identity)?);
        canaries.extend(canaries::of_audio(&person.audio, options.seconds)?);
        canaries.extend(canaries::of_video(&person.video, options.seconds)?);
    }
    let evidence = Evidence {
        canaries: canaries::without_repeats(canaries),
        people: vec![
            ("A".to_owned(), IdentityKey::from_text(a_identity.trim())?),
            ("B".to_owned(), IdentityKey::from_text(b_identity.trim())?),
        ],
        during,
        memory_after: Memory::of_process(relay.id())?,
        metrics_after: after.text().to_owned(),
    };
    let report = Report { seconds: options.seconds, flows, shown: Shown::new(&after, load)?, sides };
    Ok((report, evidence))
}

/// What the relay was seen to hold, and what it must not have held.
struct Evidence {
    canaries: Vec<Word>,
    people: Vec<(String, IdentityKey)>,
    during: During,
    memory_after: Memory,
    metrics_after: String,
}

impl Evidence {
    /// Searches all of it, and what the relay wrote.
    fn judge(self, directory: &Directory, ready: &Ready) -> anyhow::Result<Blindness> {
        let of_each = self.people.iter().zip(&self.during.ports);
        let names: Vec<Word> = of_each.flat_map(|((name, key), ports)| canaries::names(name, key, ports)).collect();
        let people: Vec<(&str, IdentityKey)> = self.people.iter().map(|(name, key)| (name.as_str(), *key)).collect();
        let controls = canaries::controls(&ready.invite, &people)?;
        let sessions = format!("supernode_sessions {}", people.len());
        let (pin, keys) = controls.split_at(1);
        let places = [
            Place { name: "the memory during the call", memory: self.during.memory, controls: controls.clone() },
            Place { name: "the memory after the call", memory: self.memory_after, controls: pin.to_vec() },
        ];
        let text = |name, text: String, control: &str| Text { name, text, control: control.into() };
        // The invite and the page's hash are meant to be there, and random enough to look like anything.
        let without_page = |text: String| match &ready.page {
            Some(page) => text.replace(&page.sha256, ""),
            None => text,
        };
        let stdout = without_page(fs::read_to_string(directory.path("relay.json"))?).replace(&ready.invite, "");
        let log = without_page(fs::read_to_string(directory.path("relay.log"))?);
        let texts = [
            text("the standard output", stdout, &ready.listen.to_string()),
            text("the log", log, &ready.listen.to_string()),
            text("the metrics during the call", self.during.metrics.text().to_owned(), &sessions),
            text("the metrics after the call", self.metrics_after, "supernode_sessions 0"),
        ];
        Blindness::new(&self.canaries, &places, &texts, &names, keys)
    }
}

/// One end of the call.
struct Person {
    identity: String,
    audio: PathBuf,
    video: PathBuf,
    recordings: PathBuf,
}

impl Person {
    fn new(directory: &Directory, letter: &str, identity: String) -> anyhow::Result<Self> {
        let samples = workspace::root().join("client/samples");
        let recordings = directory.path(&format!("recorded-by-{letter}"));
        fs::create_dir(&recordings)?;
        let (audio, video) =
            (samples.join(format!("speech-{letter}.opus")), samples.join(format!("picture-{letter}.ivf")));
        Ok(Self { identity, audio, video, recordings })
    }

    fn recorded(&self, name: &str) -> PathBuf {
        self.recordings.join(name)
    }
}

fn a_call(program: &Path, verb: &str, invite: &Path, person: &Person) -> Command {
    let mut command = Command::new(program);
    command.args([verb, "--json", "--identity", &person.identity]).arg("--invite-file").arg(invite);
    command.arg("--audio").arg(&person.audio).arg("--video").arg(&person.video);
    command.arg("--record-dir").arg(&person.recordings);
    command
}

/// The relay's metrics once both sessions are gone and nothing is queued, or as they are when that takes too long.
fn settled(admin: SocketAddr, interrupted: &Interrupted) -> anyhow::Result<Metrics> {
    let started = Instant::now();
    loop {
        let metrics = Metrics::fetch(admin)?;
        let left = metrics.sum("supernode_sessions")? + metrics.sum("supernode_objects_queued")?;
        if left == 0.0 || started.elapsed() > SETTLE_TIMEOUT {
            return Ok(metrics);
        }
        interrupted.pause()?;
    }
}

fn keep(relay: Process, ready: &Ready, directory: Directory) {
    println!("\nThe relay stays up:");
    println!("  address  {}\n  invite   {}\n  metrics  http://{}/metrics", ready.listen, ready.invite, ready.admin);
    let files = directory.0.display();
    println!("  files    {files} (its keys and log, both identities, the recordings)");
    println!("  stop it  kill {}; then remove the files: rm -r {files}", relay.id());
    relay.release();
    directory.release();
}

/// A directory of our own that goes when this is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = std::env::temp_dir().join(format!("supernode-demo-{}-{unique}", system::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn release(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Left behind, it does no harm: it is in the system's directory for temporary files.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
