//! `supernode-load`: call-shaped load for any Supernode relay.
//!
//! The result goes to standard output, words to standard error.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::ToSocketAddrs,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use supernode_benches::load::{
    html,
    progress::Screen,
    relay_probe::MetricsUrl,
    report::Report,
    run::{Options, run},
    scenario::{SHIPPED, Scenario},
};
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
    /// List the scenarios that come with the program.
    List,
    /// Print one of them, to begin one's own with.
    Show {
        /// Its name.
        name: String,
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

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::List => finish(list().map(|()| ExitCode::SUCCESS)),
        Command::Show { name } => finish(show(&name).map(|()| ExitCode::SUCCESS)),
        Command::Run(arguments) => finish(measure(&arguments).map(|report| exit_code(&report))),
    }
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("supernode-load: {error:#}");
        ExitCode::FAILURE
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

fn measure(arguments: &Run) -> anyhow::Result<Report> {
    let scenario = scenario(arguments)?;
    let invite = invite(arguments)?;
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
    };
    let mut screen = (!arguments.quiet && io::stderr().is_terminal()).then(Screen::new);
    let report = run(&options, &mut |progress| {
        if let Some(screen) = &mut screen {
            screen.show(progress, &mut io::stderr());
        }
    })?;
    if let Some(screen) = &mut screen {
        screen.clear(&mut io::stderr());
    }
    if let Some(path) = &arguments.html {
        fs::write(path, html::page(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.json {
        print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(report)
}

fn scenario(arguments: &Run) -> anyhow::Result<Scenario> {
    let name = &arguments.scenario;
    let shipped = SHIPPED.iter().find(|(known, _)| known == name);
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => fs::read_to_string(name).with_context(|| format!("cannot read the scenario {name}"))?,
    };
    Ok(Scenario::parse(name, &text, &arguments.set)?)
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
