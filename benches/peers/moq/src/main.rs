//! Clients of moq-relay. Each talker publishes a track, and everybody else in the room subscribes to it.
//!
//! Results go to standard output as one line of JSON.

mod clients;

use std::process::ExitCode;

use call_shape::work::Work;
use clap::Parser;

/// Call-shaped load for moq-relay.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    work: Work,
    /// How an object travels.
    #[arg(long, value_enum, default_value_t = clients::Carrier::Groups)]
    carrier: clients::Carrier,
    /// UDP sockets; the clients share them evenly.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    sockets: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-moq: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, clients::run(&cli.work, cli.carrier, cli.sockets))?.print()
}
