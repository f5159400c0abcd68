//! Clients of iroh-relay: a WebSocket over TLS for each, as iroh's own endpoints have.
//!
//! Results go to standard output as one line of JSON.

mod clients;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use call_shape::work::Work;
use clap::{Parser, Subcommand};

/// Call-shaped load for iroh-relay.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Do the work.
    Run {
        #[command(flatten)]
        work: Work,
        /// The relay's certificate, which is trusted.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Write a certificate for 127.0.0.1 and its key: default.crt and default.key.
    Certificate {
        /// Where to.
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-iroh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { work, certificate } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, clients::run(&work, &certificate))?.print()
        }
        Command::Certificate { directory } => {
            let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
            let write = |name: &str, text: String| {
                let path = directory.join(name);
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
            };
            write("default.crt", made.cert.pem())?;
            write("default.key", made.signing_key.serialize_pem())
        }
    }
}
