//! Plain UDP in three forms: clients of a TURN server, a plain forwarder with its clients, and a bare `sendmmsg`.
//!
//! Results go to standard output as one line of JSON.

mod blast;
mod clients;
mod forward;
mod stun;
mod turn;

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use call_shape::work::Work;
use clap::{Parser, Subcommand};

/// Call-shaped load over plain UDP.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Clients of a TURN server.
    Turn {
        #[command(flatten)]
        work: Work,
        /// Which of the two in a call have an allocation.
        #[arg(long, value_enum, default_value_t = turn::Allocations::One)]
        allocations: turn::Allocations,
    },
    /// Clients of the plain forwarder.
    Plain {
        #[command(flatten)]
        work: Work,
    },
    /// The plain forwarder: for each datagram one receive and one send, no crypto, no state but two addresses.
    Forward {
        /// Where to listen.
        #[arg(long, value_name = "IP:PORT")]
        listen: SocketAddr,
    },
    /// One sender and its listeners, with nothing between them but `sendmmsg`.
    Blast(blast::Blast),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-datagrams: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Turn { work, allocations } => {
            let clients = turn::connect(&work, allocations).context("TURN")?;
            clients::run(&work, clients)?.print()
        }
        Command::Plain { work } => {
            let clients = forward::connect(&work).context("the plain forwarder")?;
            clients::run(&work, clients)?.print()
        }
        Command::Forward { listen } => forward::serve(listen),
        Command::Blast(blast) => blast.run(),
    }
}
