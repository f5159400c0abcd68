//! `supernode`: the relay and its operator's tools.
//!
//! Data goes to standard output, words to standard error; how it ends is in `cli/exit.rs`.

mod cli;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Parser;
use mimalloc::MiMalloc;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, with which memory grows in steps of 2 MiB: sessions took up to twice as much, for
    // nothing that could be measured (docs/PERFORMANCE.md). A kernel that does not know this has none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = cli::Cli::parse();
    let filter = match std::env::var("RUST_LOG").as_deref().unwrap_or("info").parse::<EnvFilter>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("supernode: RUST_LOG: {error}");
            return ExitCode::from(2);
        }
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).init();
    let set_filter = move |text: &str| text.parse::<EnvFilter>().is_ok_and(|filter| handle.reload(filter).is_ok());
    match cli.run(Box::new(set_filter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supernode: {error:#}");
            cli::exit::code_of(&error)
        }
    }
}
