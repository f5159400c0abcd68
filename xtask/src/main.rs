//! `cargo xtask demo | test | check | night | arm64 | sound | bench | hostile | world | page | pictures`.

use std::process::ExitCode;

use clap::Parser;
use tasks::{
    arguments::{Arguments, Bench, Task},
    arm64, bench, check, demo, fit, gate, hostile, night, page, peers, pictures, sound,
    workspace::Profile,
    world,
};

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test { steps, bare } => gate::run(&steps, bare),
        Task::Bench { bless, what: None } => bench::run(bless),
        Task::Bench { what: Some(Bench::Peers { rounds, only, quick, json, details }), .. } => {
            peers::run(&peers::Options { rounds, only, quick, json, details })
        }
        Task::Bench { what: Some(Bench::Fit { files }), .. } => fit::run(&files).map(|()| true),
        Task::Page => page::run().map(|()| true),
        Task::Pictures { to } => pictures::run(to.as_deref()).map(|()| true),
        Task::Check { since } => check::run(since.as_deref()),
        Task::Night { cases, parts } => night::run(cases, &parts),
        Task::Arm64 => arm64::run().map(|()| true),
        Task::Sound => sound::run().map(|()| true),
        Task::Hostile { quick, json, only } => {
            hostile::run(&hostile::Options { relay: Profile::Release, quick, json, only })
        }
        Task::World(options) => world::run(&options),
        Task::Demo { seconds, json, release, keep, shards, room, web, cluster } => {
            let programs = if release { Profile::Release } else { Profile::Debug };
            let room = room.map(usize::from);
            demo::run(&demo::Options { programs, seconds, json, keep, shards, room, web, cluster }).map(|()| true)
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
