//! `supernode`: the relay and its operator's tools.
//!
//! Data goes to standard output, words to standard error; how it ends is in `cli/exit.rs`.

mod cli;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use mimalloc::MiMalloc;
use supernode_server::control::{
    log::{self, DEFAULT_FILTER, Log},
    secrets,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, with which memory grows in steps of 2 MiB: sessions took up to twice as much, for
    // nothing that could be measured (docs/PERFORMANCE.md). A kernel that does not know this has none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = cli::Cli::parse();
    let sealed = if cli.is_dumpable() { Ok(()) } else { secrets::keep_in_memory() };
    let out: Box<dyn Write + Send> = match log::standard_error() {
        Ok(file) => Box::new(file),
        // Started without one: there is nobody to hear it.
        Err(_) => Box::new(io::sink()),
    };
    let filter = std::env::var("RUST_LOG");
    let log = match Log::start(filter.as_deref().unwrap_or(DEFAULT_FILTER), out, io::stderr().is_terminal()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("supernode: RUST_LOG: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = sealed {
        log.say(&format!("supernode: others may read this process's memory: {error}"));
    }
    match cli.run(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // By the log: a relay that cannot go on must end, also if nobody reads why.
            log.say(&format!("supernode: {error:#}"));
            cli::exit::code_of(&error)
        }
    }
}
