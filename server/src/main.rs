//! `supernode`: the relay and its operator's tools.
//!
//! Data goes to standard output, words to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use supernode_proto::identity::IdentityKey;
use supernode_server::control::{
    invite::{InviteRequest, create_invite},
    serve::{self, ServeOptions, unix_now_s},
    state_dir::StateDir,
    what_i_see,
};
use tracing_subscriber::EnvFilter;

/// A blind relay for calls: it knows who is online, lets people ring each other, and forwards what it cannot read.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage. RUST_LOG sets what is logged (default: info)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT; prints one line of JSON when it is ready.
    Serve(Serve),
    /// Print a link that lets somebody use this relay; the relay may be running.
    Invite(Invite),
    /// Print everything that the relay can see about its users, why, and for how long.
    WhatISee,
}

#[derive(Args)]
struct State {
    /// Directory with the relay's keys [default: $XDG_STATE_HOME/supernode or ~/.local/state/supernode].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    /// UDP address to listen on [default: port 4433 of every IPv6 and IPv4 address].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// TCP address for /metrics and /healthz; loopback only.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9464")]
    admin: SocketAddr,
    #[command(flatten)]
    state: State,
    /// Admit everybody, without a token.
    #[arg(long)]
    open: bool,
    /// Threads, each with its own UDP socket, 1 to 128 [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    shards: Option<u16>,
    /// Microseconds that objects may wait to share a packet, 0 to 10000: more saves CPU and adds delay; 0 is off.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    batch_window_us: u64,
}

#[derive(Args)]
struct Invite {
    #[command(flatten)]
    state: State,
    /// Where clients reach the relay [default: the address of its last start].
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// The only identity the link is good for (sn-id-...) [default: whoever has the link].
    #[arg(long = "for", value_name = "IDENTITY", value_parser = IdentityKey::from_text)]
    identity: Option<IdentityKey>,
    /// Days for which the link lets people in, 1 to 366.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match std::env::var("RUST_LOG").as_deref().unwrap_or("info").parse::<EnvFilter>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("supernode: RUST_LOG: {error}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supernode: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(serve) => serve::run(&ServeOptions {
            listen: serve.listen,
            admin: serve.admin,
            state_dir: serve.state.path()?,
            open: serve.open,
            shards: serve.shards.map(usize::from),
            batch_window: Duration::from_micros(serve.batch_window_us),
        })?,
        Command::Invite(invite) => {
            let state = StateDir::open(&invite.state.path()?)?;
            let request =
                InviteRequest { host: invite.host.as_deref(), identity: invite.identity.as_ref(), days: invite.days };
            let link = create_invite(&state, &request, unix_now_s(), rand::random())?;
            print(&format!("{link}\n"))?;
        }
        Command::WhatISee => print(&what_i_see::table(terminal_width()))?,
    }
    Ok(())
}

impl State {
    fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.state_dir {
            Some(path) => Ok(path.clone()),
            None => Ok(StateDir::default_path(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?),
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    // Whoever reads only the first lines, as `head` does, has what they wanted.
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Columns of the terminal as the shell exports them, else what fits most screens.
fn terminal_width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(120)
}
