//! The command line of `cargo xtask`.

use clap::{CommandFactory, Parser, Subcommand};

/// What was typed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Shows that Supernode works, and checks that it does")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Runs everything that a change must pass, up to the first failure
    Test {
        /// Runs only this step; may be given again
        #[arg(long = "step", value_name = "NAME")]
        steps: Vec<String>,
    },
    /// Runs a relay and a call through it on this machine, and checks what arrived and what the relay could know
    ///
    /// Two people with fresh identities talk with real audio and video, both ways. What each of them recorded is
    /// compared with what the other sent. While they talk and again afterwards, all of the relay's memory is read and
    /// searched, with its logs and metrics, for pieces of what they sent and for their secret keys.
    ///
    /// The relay's cost is the processor time of the whole process for each UDP datagram that it sends, measured from
    /// when its memory has been read to half a second before the hang-up, so without handshakes: one call keeps a relay
    /// from sending much at once, so it costs more for each datagram than under load.
    Demo {
        /// How long the two talk
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Prints the result as one JSON object, last
        #[arg(long)]
        json: bool,
        /// Leaves the relay running and prints how to reach it and how to stop it
        #[arg(long)]
        keep: bool,
        /// Threads of the relay that forward; as many as cores if not given
        #[arg(long, value_name = "N")]
        shards: Option<u32>,
    },
    /// Counts the instructions that the relay's core takes for each step, and fails above 3 % more than the baseline
    ///
    /// The baseline is benches/baseline/instructions.json. It depends on the compiler, which it names. Needs valgrind,
    /// and gungraun-runner of the version in Cargo.lock.
    Bench {
        /// Makes what is counted the new baseline
        #[arg(long)]
        bless: bool,
    },
}

/// What `cargo xtask <words> --help` prints, if there is such a command.
pub fn help(words: &[&str]) -> Option<String> {
    let mut command = Arguments::command();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word)?;
    }
    Some(found.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_knows_its_own_help() {
        Arguments::command().debug_assert();
        assert!(help(&["demo"]).is_some_and(|text| text.contains("--seconds <N>")));
        assert!(help(&[]).is_some());
        assert!(help(&["dmeo"]).is_none());
    }
}
