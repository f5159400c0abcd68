//! `cargo xtask demo | test | bench`.

use std::process::ExitCode;

use clap::Parser;
use xtask::{
    arguments::{Arguments, Task},
    bench, demo, gate,
};

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test { steps } => gate::run(&steps),
        Task::Bench { bless } => bench::run(bless),
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
