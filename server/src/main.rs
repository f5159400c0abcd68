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
    log::{self, DEFAULT_FILTER, Log, Reader},
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
    let reader = match io::stderr().is_terminal() {
        true => Reader::Terminal,
        false if log::leads_to_journal() => Reader::Journal,
        false => Reader::Other,
    };
    // Set to nothing, it sets nothing.
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let Some(parsed) = log::filter::parse(filter) else {
        let error = cli::exit::Exit::LogFilter { filter: filter.to_owned(), form: log::filter::FORM }.into();
        eprintln!("supernode: {}", cli::exit::told(&error));
        return cli::exit::code_of(&error);
    };
    let log = Log::start(parsed, out, reader);
    if let Err(error) = sealed {
        log.say(&format!("supernode: others may read this process's memory: {error}"));
    }
    match cli.run(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // By the log: a relay that cannot go on must end, also if nobody reads why.
            log.say(&format!("supernode: {}", cli::exit::told(&error)));
            cli::exit::code_of(&error)
        }
    }
}
