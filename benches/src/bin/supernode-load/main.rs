//! `supernode-load`: call-shaped load for any Supernode relay.
//!
//! The result goes to standard output, words to standard error.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use supernode_benches::load::{
    compare, csv, html, knee,
    machine::Machine,
    progress::Screen,
    report::Report,
    run::{Options, run},
    scenario::{SHIPPED, Scenario},
};
use supernode_measure::relay_probe::{MetricsUrl, RelayUse};
use supernode_proto::invite::Invite;

/// Call-shaped load for a Supernode relay: delays, losses and costs, and whether they may be believed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 the result is valid and every SLO holds, 1 failed, 2 wrong usage, 3 an SLO does not \
                  hold, 4 the result is invalid (the generator was the cap, or sessions were not alive)."
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

/// What the command line or the scenario says cannot be: known before anything is measured.
#[derive(Debug)]
struct Usage(anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::List => finish(list().map(|()| ExitCode::SUCCESS)),
        Command::Show { name } => finish(show(&name).map(|()| ExitCode::SUCCESS)),
        Command::Machine { json } => finish(machine(json).map(|()| ExitCode::SUCCESS)),
        Command::Knee(arguments) => finish(knee_of(&arguments)),
        Command::Run(arguments) => finish(measure(&arguments).map(|report| exit_code(&report))),
    }
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("supernode-load: {error:#}");
        if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

fn exit_code(report: &Report) -> ExitCode {
    match (report.valid, report.passes()) {
        (false, _) => ExitCode::from(4),
        (true, false) => ExitCode::from(3),
        (true, true) => ExitCode::SUCCESS,
    }
}

fn list() -> anyhow::Result<()> {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(name, text, &[])?;
        print(&format!("{name:<16} {}\n", scenario.about))?;
    }
    Ok(())
}

fn show(name: &str) -> anyhow::Result<()> {
    match SHIPPED.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => print(text),
        None => bail!("{name}: no such scenario; `supernode-load list` names them"),
    }
}

fn machine(json: bool) -> anyhow::Result<()> {
    let machine = Machine::measure();
    let text = if json { serde_json::to_string(&machine)? } else { machine.to_string() };
    print(&(text + "\n"))
}

fn measure(arguments: &Run) -> anyhow::Result<Report> {
    // Everything that can be wrong, before time is spent.
    let prepared = prepare(arguments, &arguments.set).map_err(|error| anyhow::Error::new(Usage(error)))?;
    let Prepared { scenario, invite, html: page_file, csv: csv_file, baseline } = prepared;
    let report = conduct(arguments, scenario, invite)?;
    // The result first: whatever becomes of a file, it is not lost.
    if arguments.json {
        print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        print(&report.to_string())?;
        if let Some(baseline) = &baseline {
            print(&compare::table(baseline, &report.figures))?;
        }
    }
    for (file, path, text) in [
        (page_file, &arguments.html, html::page as fn(&Report) -> String),
        (csv_file, &arguments.csv, csv::table as fn(&Report) -> String),
    ] {
        if let Some((mut file, path)) = file.zip(path.as_ref()) {
            file.set_len(0)
                .and_then(|()| file.write_all(text(&report).as_bytes()))
                .with_context(|| cannot_write(path))?;
        }
    }
    Ok(report)
}

/// Runs a scenario, with the screen that a person sees meanwhile.
fn conduct(arguments: &Run, scenario: Scenario, invite: Invite) -> anyhow::Result<Report> {
    let address = (invite.host.as_str(), invite.port).to_socket_addrs().context("cannot find the relay's address")?;
    let relay = address.into_iter().next().context("the relay has no address")?;
    let options = Options {
        relay,
        pin: invite.pin.context("the invite link has no pin: only relays with pinned keys can be measured")?,
        token: invite.token.unwrap_or_default(),
        scenario,
        relay_pid: arguments.relay_pid,
        metrics: arguments.metrics_url.clone(),
        scrape_every: arguments.scrape_every_s.map(|seconds| Duration::from_secs(seconds.into())),
        command_line: without_secrets(std::env::args()),
    };
    let mut screen = (!arguments.quiet && io::stderr().is_terminal()).then(Screen::new);
    let report = run(&options, &mut |progress| {
        if let Some(screen) = &mut screen {
            screen.show(progress, &mut io::stderr());
        }
    });
    if let Some(screen) = &mut screen {
        screen.clear(&mut io::stderr());
    }
    Ok(report?)
}

/// The most that holds: 0 if it was found, 3 if not even the least does.
fn knee_of(arguments: &Knee) -> anyhow::Result<ExitCode> {
    let Knee { run: each, key, from, to } = arguments;
    let usage = |words: &str| anyhow::Error::new(Usage(anyhow::anyhow!("{words}")));
    if from > to {
        return Err(usage("--from must not be above --to"));
    }
    if each.json || each.html.is_some() || each.csv.is_some() || each.baseline.is_some() {
        return Err(usage(
            "--json, --html, --csv and --baseline are for one run: `supernode-load run` with the value found",
        ));
    }
    print(&format!("{key:>12} {:>12} {:>10} {:>10} {:>9}  verdict\n", "delivered/s", "p50 ms", "p99 ms", "lost %"))?;
    let knee = knee::search(*from, *to, |value| {
        let mut set = each.set.clone();
        set.push(format!("{key}={value}"));
        let prepared = prepare(each, &set).map_err(|error| anyhow::Error::new(Usage(error)))?;
        if prepared.scenario.slo.is_empty() {
            return Err(usage(
                "the scenario has no slo: nothing says what holds (--set 'slo=[\"p99_delay_ms < 20\"]')",
            ));
        }
        match conduct(each, prepared.scenario, prepared.invite) {
            Ok(report) => {
                let verdict = match (report.valid, report.passes()) {
                    (false, _) => "invalid: the generator was the cap",
                    (true, true) => "holds",
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
                print(&format!("{value:>12} {:>12} {:>10} {:>10} {:>9}  {error:#}\n", "-", "-", "-", "-"))?;
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
    html: Option<File>,
    csv: Option<File>,
    baseline: Option<compare::Figures>,
}

fn prepare(arguments: &Run, set: &[String]) -> anyhow::Result<Prepared> {
    let open = |path: &PathBuf| {
        // What is there stays until there is something new.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        opened.with_context(|| cannot_write(path))
    };
    let baseline = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("--baseline: cannot read {}", path.display()))?;
        compare::figures(&text).with_context(|| format!("--baseline {}", path.display()))
    };
    let prepared = Prepared {
        scenario: scenario(arguments, set)?,
        invite: invite(arguments)?,
        html: arguments.html.as_ref().map(open).transpose()?,
        csv: arguments.csv.as_ref().map(open).transpose()?,
        baseline: arguments.baseline.as_ref().map(baseline).transpose()?,
    };
    RelayUse::check(arguments.relay_pid, arguments.metrics_url.as_ref())?;
    Ok(prepared)
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// The command as it was given, but for an invite link in it.
fn without_secrets(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mask = |argument: String| match argument.find("supernode://") {
        Some(at) => format!("{}supernode://...", &argument[..at]),
        None => argument,
    };
    arguments.map(mask).collect()
}

fn scenario(arguments: &Run, set: &[String]) -> anyhow::Result<Scenario> {
    let name = &arguments.scenario;
    let shipped = SHIPPED.iter().find(|(known, _)| known == name);
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => fs::read_to_string(name).with_context(|| format!("cannot read the scenario {name}"))?,
    };
    Ok(Scenario::parse(name, &text, set)?)
}

fn invite(arguments: &Run) -> anyhow::Result<Invite> {
    let link = match (&arguments.invite_file, &arguments.invite) {
        (Some(path), _) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        (None, Some(link)) => link.clone(),
        (None, None) => bail!("which relay? Say --invite-file FILE, or set SUPERNODE_INVITE"),
    };
    link.trim().parse().context("not an invite link")
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
