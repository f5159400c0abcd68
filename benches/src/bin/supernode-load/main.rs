//! `supernode-load`: call-shaped load for any Supernode relay.
//!
//! The result goes to standard output, words to standard error.

mod trouble;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use hyper::{Uri, header::HeaderValue};
use serde::Serialize;
use supernode_benches::load::{
    compare, csv, html, knee,
    machine::Machine,
    part::Part,
    progress::Screen,
    remote_write::{Pusher, Receiver},
    report::{About, Report},
    run::{self, Options},
    scenario::{SHIPPED, Scenario},
};
use supernode_measure::relay_probe::{MetricsUrl, RelayUse};
use supernode_proto::invite::Invite;

use trouble::Trouble;

/// What a receiver of time series knows us by, where no file has it.
const AUTHORIZATION: &str = "SUPERNODE_LOAD_AUTHORIZATION";

/// As docs/LOAD.md has them.
const EXIT_CODES: &str = "\
Exit codes:
  0  the result is valid and every SLO holds
  1  it failed: no relay, or not everybody got in
  2  wrong usage: an option, a file or a scenario that cannot be, a process or metrics that are not there
  3  an SLO does not hold
  4  the result is invalid";

/// Call-shaped load for a Supernode relay: delays, losses and costs, and whether they may be believed.
#[derive(Parser)]
#[command(
    version,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario against a relay.
    Run(Run),
    /// Run a scenario again and again with more and more of one value, until an SLO does not hold; look for the most that
    /// does.
    Knee(Knee),
    /// Make one result of what several generators have measured at the same time (`run --begin-at ... --part ...`).
    Merge(Merge),
    /// List the scenarios that come with the program.
    List,
    /// Print one of them, to begin one's own with.
    Show {
        /// Its name.
        name: String,
    },
    /// Say what figures from this machine depend on: processor, caches, how fast it counts and fetches.
    Machine {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Run {
    /// A TOML file, or the name of a scenario that comes with the program.
    scenario: String,
    /// File with the relay's invite link.
    #[arg(long, value_name = "FILE")]
    invite_file: Option<PathBuf>,
    /// The invite link itself [prefer --invite-file or this variable: arguments are seen by everybody].
    #[arg(long, env = "SUPERNODE_INVITE", hide = true, hide_env_values = true)]
    invite: Option<String>,
    /// Set a value of the scenario, such as pairs=100 or video.kbit_per_s=800.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    show: Show,
    /// Begin the measured part at that time, in seconds since 1970 (`date -d '+1 minute' +%s`): for several generators, which
    /// are all given the same.
    #[arg(long, value_name = "UNIX_S")]
    begin_at: Option<u64>,
    /// Write all that was measured for `supernode-load merge`.
    #[arg(long, value_name = "FILE")]
    part: Option<PathBuf>,
    /// No progress.
    #[arg(long)]
    quiet: bool,
    /// The relay's process on this machine: its CPU time and memory are part of the result.
    #[arg(long, value_name = "PID")]
    relay_pid: Option<u32>,
    /// The relay's metrics, http://127.0.0.1:9464/metrics: its drops by reason are part of the result.
    #[arg(long, value_name = "URL")]
    metrics_url: Option<MetricsUrl>,
    /// Scrape the metrics that often during the measured part: how long that takes is part of the result.
    #[arg(long, value_name = "N", requires = "metrics_url", value_parser = clap::value_parser!(u16).range(1..))]
    scrape_every_s: Option<u16>,
}

/// How a result is shown.
#[derive(Args)]
struct Show {
    /// Print the whole result as JSON.
    #[arg(long)]
    json: bool,
    /// Write the result as a page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the measured part's pieces as a table: a line for each second or so.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Compare with an earlier result (`--json`): what has changed by how much.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the measured part's pieces as time series to that URL, as Prometheus's remote write (version 1) has them:
    /// http://prometheus:9090/api/v1/write. Of a long run each ten minutes once they are over, the rest once the result is there.
    #[arg(long, value_name = "URL", value_parser = parse_receiver)]
    remote_write: Option<Uri>,
    /// File with the value of the header by which that receiver knows us, such as `Bearer ...` or `Basic ...`; without it,
    /// the environment (SUPERNODE_LOAD_AUTHORIZATION) has it, or nothing is shown.
    #[arg(long, value_name = "FILE", requires = "remote_write")]
    remote_write_authorization_file: Option<PathBuf>,
}

#[derive(Args)]
struct Merge {
    /// What each generator has written; the first one's scenario stands in the result.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    parts: Vec<PathBuf>,
    #[command(flatten)]
    show: Show,
}

#[derive(Args)]
struct Knee {
    #[command(flatten)]
    run: Run,
    /// The value that grows, such as pairs or listeners.
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Where it begins.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Where it ends at the latest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::List => finish(list().map(|()| ExitCode::SUCCESS)),
        Command::Show { name } => finish(show(&name).map(|()| ExitCode::SUCCESS)),
        Command::Machine { json } => finish(machine(json).map(|()| ExitCode::SUCCESS)),
        Command::Knee(arguments) => finish(knee_of(&arguments)),
        Command::Merge(arguments) => finish(merge(&arguments).map(|report| exit_code(&report))),
        Command::Run(arguments) => finish(measure(&arguments).map(|report| exit_code(&report))),
    }
}

fn finish(result: Result<ExitCode, Trouble>) -> ExitCode {
    result.unwrap_or_else(|trouble| trouble.tell())
}

fn exit_code(report: &Report) -> ExitCode {
    match (report.valid, report.passes()) {
        (false, _) => ExitCode::from(4),
        (true, false) => ExitCode::from(3),
        (true, true) => ExitCode::SUCCESS,
    }
}

fn list() -> Result<(), Trouble> {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(name, text, &[])?;
        print(&format!("{name:<16} {}\n", scenario.about))?;
    }
    Ok(())
}

fn show(name: &str) -> Result<(), Trouble> {
    match SHIPPED.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => print(text),
        None => Err(Trouble::NoScenario { name: name.to_owned() }),
    }
}

fn machine(json: bool) -> Result<(), Trouble> {
    let machine = Machine::measure();
    let text = if json { as_json(&machine) } else { machine.to_string() };
    print(&(text + "\n"))
}

fn measure(arguments: &Run) -> Result<Report, Trouble> {
    // Everything that can be wrong, before time is spent.
    let prepared = prepare(arguments, &arguments.set)?;
    let mut outputs = prepared.outputs;
    let mut push = outputs.push(About::now(&[]).host)?;
    let part = conduct(arguments, prepared.scenario, prepared.invite, &mut push)?;
    let report = Report::of(std::slice::from_ref(&part));
    outputs.show(&report, arguments.show.json, push)?;
    if let Some((file, path)) = prepared.part {
        write(file, &path, &as_json(&part))?;
    }
    Ok(report)
}

/// One result of several generators' parts.
fn merge(arguments: &Merge) -> Result<Report, Trouble> {
    let Merge { parts: paths, show } = arguments;
    let mut outputs = Outputs::open(show)?;
    let mut parts: Vec<Part> = Vec::new();
    for path in paths {
        let in_file = |source| Trouble::Part { path: path.display().to_string(), source };
        let part = Part::read(&read(path)?).map_err(in_file)?;
        if let Some(first) = parts.first() {
            part.fits(first).map_err(in_file)?;
        }
        parts.push(part);
    }
    let report = Report::of(&parts);
    let push = outputs.push(report.about.host.clone())?;
    outputs.show(&report, show.json, push)?;
    Ok(report)
}

/// Where a result goes beside standard output.
struct Outputs {
    html: Option<(File, PathBuf)>,
    csv: Option<(File, PathBuf)>,
    baseline: Option<compare::Figures>,
    remote_write: Option<Receiver>,
}

impl Outputs {
    /// Opens the files, and reads the earlier result and what a receiver knows us by.
    fn open(show @ Show { html, csv, baseline, .. }: &Show) -> Result<Self, Trouble> {
        let figures = |path: &PathBuf| {
            let figures = compare::figures(&read(path)?);
            figures.map_err(|source| Trouble::Baseline { path: path.display().to_string(), source })
        };
        Ok(Self {
            html: html.as_ref().map(open).transpose()?,
            csv: csv.as_ref().map(open).transpose()?,
            baseline: baseline.as_ref().map(figures).transpose()?,
            remote_write: receiver(show)?,
        })
    }

    /// What sends this generator's pieces to the receiver, if there is one.
    fn push(&mut self, host: String) -> Result<Option<Push>, Trouble> {
        let Some(receiver) = self.remote_write.take() else { return Ok(None) };
        let url = receiver.url.to_string();
        match Pusher::start(receiver, host) {
            Ok(pusher) => Ok(Some(Push { pusher, url })),
            Err(source) => Err(Trouble::NotPushed { url, source }),
        }
    }

    fn show(self, report: &Report, json: bool, push: Option<Push>) -> Result<(), Trouble> {
        // The result first: whatever becomes of a file, it is not lost.
        if json {
            print(&(as_json(report) + "\n"))?;
        } else {
            print(&report.to_string())?;
            if let Some(baseline) = &self.baseline {
                print(&compare::table(baseline, &report.figures))?;
            }
        }
        if let Some((file, path)) = self.html {
            write(file, &path, &html::page(report))?;
        }
        if let Some((file, path)) = self.csv {
            write(file, &path, &csv::table(report))?;
        }
        if let Some(Push { pusher, url }) = push {
            let pushed = pusher.finish(report.measured_from_unix_ms, &report.intervals);
            pushed.map_err(|source| Trouble::NotPushed { url, source })?;
        }
        Ok(())
    }
}

/// Pieces on their way to a receiver, and where that is.
struct Push {
    pusher: Pusher,
    url: String,
}

fn receiver(show: &Show) -> Result<Option<Receiver>, Trouble> {
    let Some(url) = &show.remote_write else { return Ok(None) };
    let (text, from) = match &show.remote_write_authorization_file {
        Some(path) => (Some(read(path)?), path.display().to_string()),
        None => (std::env::var(AUTHORIZATION).ok(), AUTHORIZATION.to_owned()),
    };
    let value = text.map(|text| text.trim().parse::<HeaderValue>()).transpose();
    let mut authorization = value.map_err(|_| Trouble::Authorization { from })?;
    if let Some(authorization) = &mut authorization {
        authorization.set_sensitive(true);
    }
    Ok(Some(Receiver { url: url.clone(), authorization }))
}

/// Arguments are seen by everybody, and stand in the result: no secret may be in one.
fn parse_receiver(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|_| "is no URL")?;
    match (url.scheme_str(), url.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err(format!("must have no name and password in it: they belong into a file or {AUTHORIZATION}"))
        }
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err("must begin with http:// or https://".to_owned()),
    }
}

/// What is there stays until there is something new.
fn open(path: &PathBuf) -> Result<(File, PathBuf), Trouble> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|source| Trouble::Unwritable { path: path.display().to_string(), source })?;
    Ok((file, path.clone()))
}

fn write(mut file: File, path: &Path, text: &str) -> Result<(), Trouble> {
    let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    written.map_err(|source| Trouble::NotWritten { path: path.display().to_string(), source })
}

fn read(path: &Path) -> Result<String, Trouble> {
    fs::read_to_string(path).map_err(|source| Trouble::Read { path: path.display().to_string(), source })
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and figures are JSON")
}

/// Runs a scenario, with the screen that a person sees meanwhile.
fn conduct(arguments: &Run, scenario: Scenario, invite: Invite, push: &mut Option<Push>) -> Result<Part, Trouble> {
    let none = |source| Trouble::Address { host: invite.host.clone(), source };
    let mut addresses = (invite.host.as_str(), invite.port).to_socket_addrs().map_err(none)?;
    let relay = addresses.next().ok_or_else(|| none(io::ErrorKind::AddrNotAvailable.into()))?;
    let options = Options {
        relay,
        pin: invite.pin.ok_or(Trouble::NoPin)?,
        token: invite.token.unwrap_or_default(),
        scenario,
        relay_pid: arguments.relay_pid,
        metrics: arguments.metrics_url.clone(),
        scrape_every: arguments.scrape_every_s.map(|seconds| Duration::from_secs(seconds.into())),
        begin_at_unix_s: arguments.begin_at,
        command_line: without_secrets(std::env::args()),
    };
    let mut screen = (!arguments.quiet && io::stderr().is_terminal()).then(Screen::new);
    let part = run::measure(&options, &mut |progress| {
        if let Some(screen) = &mut screen {
            screen.show(progress, &mut io::stderr());
        }
        if let (Some(push), Some(from_unix_ms)) = (push.as_mut(), progress.measured_from_unix_ms) {
            push.pusher.note(from_unix_ms, &progress.settled);
        }
    });
    if let Some(screen) = &mut screen {
        screen.clear(&mut io::stderr());
    }
    Ok(part?)
}

/// The most that holds: 0 if it was found, 3 if not even the least does.
fn knee_of(arguments: &Knee) -> Result<ExitCode, Trouble> {
    let Knee { run: each, key, from, to } = arguments;
    let usage = |why| Trouble::Knee { why };
    if from > to {
        return Err(usage("--from must not be above --to"));
    }
    let Show { json, html, csv, baseline, remote_write, .. } = &each.show;
    let files = [html, csv, baseline, &each.part];
    if *json || files.into_iter().any(Option::is_some) || remote_write.is_some() {
        return Err(usage(
            "--json, --html, --csv, --baseline, --remote-write and --part are for one run: `supernode-load run` with the value found",
        ));
    }
    if each.begin_at.is_some() {
        return Err(usage("--begin-at is for one run, and this makes many"));
    }
    print(&format!("{key:>12} {:>12} {:>10} {:>10} {:>9}  verdict\n", "delivered/s", "p50 ms", "p99 ms", "lost %"))?;
    let knee = knee::search(*from, *to, |value| {
        let mut set = each.set.clone();
        set.push(format!("{key}={value}"));
        let prepared = prepare(each, &set)?;
        if prepared.scenario.slo.is_empty() {
            return Err(usage(
                "the scenario has no slo: nothing says what holds (--set 'slo=[\"p99_delay_ms < 20\"]')",
            ));
        }
        match conduct(each, prepared.scenario, prepared.invite, &mut None) {
            Ok(part) => {
                let report = Report::of(&[part]);
                let verdict = match (report.valid, report.passes()) {
                    (false, _) => "invalid: the generator was the cap",
                    (true, true) => "holds",
                    (true, false) if report.aborted.is_some() => "does not hold, ended early",
                    (true, false) => "does not hold",
                };
                let (objects, delay) = (&report.objects, &report.delay_ms);
                print(&format!(
                    "{value:>12} {:>12.0} {:>10.2} {:>10.2} {:>9.3}  {verdict}\n",
                    objects.delivered_per_s,
                    delay.p50,
                    delay.p99,
                    objects.loss * 100.0
                ))?;
                Ok(report.passes())
            }
            // Those who do not get in are a relay that is full.
            Err(error) => {
                print(&format!("{value:>12} {:>12} {:>10} {:>10} {:>9}  {error}\n", "-", "-", "-", "-"))?;
                Ok(false)
            }
        }
    })?;
    let words = match (knee.holds, knee.fails) {
        (Some(holds), Some(fails)) => format!("{key} = {holds} holds, {fails} does not"),
        (Some(holds), None) => format!("{key} = {holds} holds, and no more was asked for"),
        (None, _) => format!("not even {key} = {from} holds"),
    };
    print(&format!("{words}\n"))?;
    Ok(if knee.holds.is_some() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// What a run needs from here.
struct Prepared {
    scenario: Scenario,
    invite: Invite,
    outputs: Outputs,
    part: Option<(File, PathBuf)>,
}

fn prepare(arguments: &Run, set: &[String]) -> Result<Prepared, Trouble> {
    let prepared = Prepared {
        scenario: scenario(arguments, set)?,
        invite: invite(arguments)?,
        outputs: Outputs::open(&arguments.show)?,
        part: arguments.part.as_ref().map(open).transpose()?,
    };
    RelayUse::check(arguments.relay_pid, arguments.metrics_url.as_ref())?;
    Ok(prepared)
}

/// The command as it was given, but for an invite link in it.
fn without_secrets(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mask = |argument: String| match argument.find("supernode://") {
        Some(at) => format!("{}supernode://...", &argument[..at]),
        None => argument,
    };
    arguments.map(mask).collect()
}

fn scenario(arguments: &Run, set: &[String]) -> Result<Scenario, Trouble> {
    let name = &arguments.scenario;
    let shipped = SHIPPED.iter().find(|(known, _)| known == name);
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => read(Path::new(name))?,
    };
    Ok(Scenario::parse(name, &text, set)?)
}

fn invite(arguments: &Run) -> Result<Invite, Trouble> {
    let (link, from) = match (&arguments.invite_file, &arguments.invite) {
        (Some(path), _) => (read(path)?, path.display().to_string()),
        (None, Some(link)) => (link.clone(), "SUPERNODE_INVITE".to_owned()),
        (None, None) => return Err(Trouble::NoInvite),
    };
    link.trim().parse().map_err(|source| Trouble::Invite { from, source })
}

fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Trouble::Output),
    }
}
