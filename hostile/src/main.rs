//! Attacks on a running relay, each with a call beside it.
//!
//! `supernode-hostile run` starts a relay for each attack on a core of its own, lets two people talk and others come,
//! and attacks from the other core. What it judges is the call, those who come, and the relay's memory and log.

mod attacks;
mod call;
mod cgroup;
mod client;
mod flood;
mod forge;
mod handshakes;
mod odd_tls;
mod page;
mod relay;
mod run;
mod runtime;
mod tls;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Attacks a relay and looks whether a call beside it goes on.
#[derive(Debug, Parser)]
#[command(name = "supernode-hostile")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs attacks one after the other, and judges them
    Run(run::Options),
    /// Names the attacks and what they do
    List,
    /// Runs one attack against the relay that a variable describes: `run` does that
    #[command(hide = true)]
    Attack {
        /// Which
        name: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the results are the program's data")]
fn run(task: Task) -> anyhow::Result<bool> {
    match task {
        Task::Run(options) => runtime::block_on(run::run(&options)),
        Task::List => {
            attacks::all().iter().for_each(|attack| println!("{:<32} {}", attack.name, attack.what));
            Ok(true)
        }
        Task::Attack { name } => {
            let attack = attacks::all().into_iter().find(|attack| attack.name == name).context("no such attack")?;
            let target = std::env::var(run::TARGET).with_context(|| format!("{}: not set", run::TARGET))?;
            let attacks::Run::Rust(attack) = attack.run else { anyhow::bail!("{name} is one in Python") };
            println!("{}", serde_json::to_string(&attack(&serde_json::from_str(&target)?)?)?);
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
