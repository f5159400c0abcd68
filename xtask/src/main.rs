//! `cargo xtask demo | test`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{demo, gate};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Shows that Supernode works, and checks that it does")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs everything that a change must pass, up to the first failure
    Test {
        /// Runs only this step; may be given again
        #[arg(long = "step", value_name = "NAME")]
        steps: Vec<String>,
    },
    /// Runs a relay and a call through it on this machine, and checks what arrived
    Demo {
        /// How long the two talk
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Prints the result as one JSON object, last
        #[arg(long)]
        json: bool,
        /// Leaves the relay running and prints how to reach it
        #[arg(long)]
        keep: bool,
        /// Threads of the relay that forward; as many as cores if not given
        #[arg(long, value_name = "N")]
        shards: Option<u32>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test { steps } => gate::run(&steps),
        Task::Demo { seconds, json, keep, shards } => {
            demo::run(&demo::Options { seconds, json, keep, shards }).map(|()| true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
