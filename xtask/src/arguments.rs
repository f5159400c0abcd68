//! The command line of `cargo xtask`.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use supernode_world_options::Options;

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
        /// Prints nothing but what the step prints: for the gate itself
        #[arg(long, hide = true, requires = "steps")]
        bare: bool,
    },
    /// Format, lints and the tests of what was changed: for the minutes between two thoughts
    ///
    /// Changed is what differs from the commit where this branch left main, committed or not; on main itself, what is not
    /// committed. Lints are of everything. Tests are all of the packages that were changed, and the unit tests of those that
    /// depend on them. It says which tests it left out: those that take long, and those that only reach what was changed
    /// through another package.
    Check {
        /// Counts from this commit instead
        #[arg(long, value_name = "COMMIT")]
        since: Option<String>,
    },
    /// What takes hours: random tests with many cases, all attacks, other relays where they are built
    ///
    /// Goes on after a failure. Each part ends at its bound of time, and has then failed. Nothing else should run meanwhile.
    Night {
        /// Cases of each random test; two hundred and fifty-six are run by day
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        cases: u32,
        /// Runs only this part; may be given again
        #[arg(long = "part", value_name = "NAME")]
        parts: Vec<String>,
    },
    /// Builds the relay for 64-bit Arm, and runs its short tests and some calls through it by qemu
    ///
    /// The unit tests of the wire, keys, session, end-to-end encryption, calls and the relay, golden bytes and vectors, the
    /// core under random people, and the relay's tests with real sockets; then the program, with clients that are not
    /// emulated. Needs qemu, a C compiler and Rust's standard library for it, and says how Debian installs them.
    Arm64,
    /// Lints and tests `supernode-call` as it is with microphone and loudspeaker, which the gate does not build
    ///
    /// Two people talk by devices of a sound server that nobody hears, and what arrives is judged by pitch, level and gaps.
    /// Needs ALSA's and libopus's headers and PulseAudio, and says how Debian installs them.
    Sound,
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
        /// Builds the programs as for release first, which takes longer: delay and cost are then the relay's
        #[arg(long)]
        release: bool,
        /// Leaves the relay running and prints how to reach it and how to stop it
        #[arg(long)]
        keep: bool,
        /// Threads of the relay that forward; as many as cores if not given
        #[arg(long, value_name = "N")]
        shards: Option<u32>,
        /// So many people meet in a room: all talk, the first three show a picture too
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=26))]
        room: Option<u8>,
        /// One of the two is in a headless browser, by the page that the relay serves, with a microphone and a camera that
        /// Chromium makes
        ///
        /// Judged by what it is: the hum of the microphone and the camera's pictures in what the program recorded, the
        /// program's words and pictures in the page. Mouth to ear is measured from the program to the page: from the moment at
        /// which the program plays a word of its file until that word is in the page's loudspeaker, by the clock of both. A
        /// microphone would add its packet of 20 ms. With --keep the relay stays up until Ctrl-C, somebody is in a room, and
        /// a link into it is printed that opens in any browser on this machine. Needs what `cargo xtask page` needs, and
        /// chromium (Debian: chromium).
        #[arg(long, conflicts_with = "room")]
        web: bool,
        /// Three relays are one cluster, and one of them is killed in the middle
        ///
        /// A call across two of them and a room across all three, with audio and video. Two seconds after media flows everywhere,
        /// the third is killed with -9: whoever was there comes back at another one, in the same room with the same safety
        /// number, and nobody else is to notice. NATS's memory and files are searched too, and for people's identities as
        /// well. Needs nats-server (Debian: nats-server).
        #[arg(long, conflicts_with_all = ["room", "web", "keep", "shards"])]
        cluster: bool,
    },
    /// Attacks relays on this machine, each with a call beside it that must go on, and judges both
    ///
    /// Each attack has a relay of its own on the first core; attacker and call are on the second. In a row: what the call
    /// lost, how late its objects were and how late they are without an attack, the relay's memory, how much the attacker
    /// achieved, how long somebody from another network took to get in, and lines in the relay's log. What is judged is in
    /// docs/SECURITY.md. Needs util-linux, and python3 with a way to PyPI the first time.
    Hostile {
        /// Fewer attacks, and shorter ones: what the gate runs
        #[arg(long)]
        quick: bool,
        /// Prints a row for each attack as one JSON array, last
        #[arg(long)]
        json: bool,
        /// Only these attacks
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Runs the whole relay and real clients in one thread, under a virtual clock and a seeded network, and judges
    ///
    /// Each seed is a world: people come, watch, ring, talk, kick, crash, sleep and move, and the network loses, delays and
    /// cuts; what must hold is looked at all the time, when nothing happens, and after the end (docs/CONTRIBUTING.md). A
    /// seed that fails is printed with the command that runs it again, and made smaller; it happens again exactly. Unless only
    /// one seed runs, known faults are planted in the relay as well, one after the other, and each must be found.
    World(Options),
    /// Makes the call page, web/dist/supernode.html: one file, the same bytes from the same source and tools
    ///
    /// Needs npm, and a compiler for wasm: rustup's target wasm32-unknown-unknown, or Debian's packages rustc-web, cargo-web
    /// and rust-web-src. Prints the page's SHA-256 and size.
    Page,
    /// Takes the pictures of the built-in page in docs/images anew
    ///
    /// Headless Chromium looks at a real relay: idle, under a load of twenty calls with video, in the dark, on a phone,
    /// draining, and after it has died. Takes some minutes, in which nothing else should run. Needs chromium and pngquant
    /// (Debian: apt-get install chromium pngquant). Look at the pictures before you commit them.
    Pictures {
        /// Writes them there instead
        #[arg(long, value_name = "DIRECTORY")]
        to: Option<PathBuf>,
    },
    /// Counts the instructions that the relay's core takes for each step, and fails above 3 % more than the baseline
    ///
    /// The baseline is benches/baseline/instructions.json. It depends on the compiler, which it names. Needs valgrind,
    /// and gungraun-runner of the version in Cargo.lock.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        /// Makes what is counted the new baseline
        #[arg(long)]
        bless: bool,
        /// Something else than instructions
        #[command(subcommand)]
        what: Option<Bench>,
    },
}

/// What else there is to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Runs our relay and others, one after the other, on the same core and with the same work
    ///
    /// Others are coturn (Debian), iroh-relay and moq-relay (crates.io); they are installed into target/peers if they
    /// are not there. Needs two cores: the relay has the first, its clients have the second. Nothing else should run
    /// meanwhile. What it prints is Markdown. Fails if a row is invalid: its clients were the cap, something was lost,
    /// or a run failed. A missed target is a result, and no failure.
    Peers {
        /// How often everything is run; 5 if not given, 3 with --quick
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: Option<u32>,
        /// Only these: pairs-iroh, pairs-moq, pairs-coturn, bulk-coturn, rooms, rooms-moq, webinar, idle, active, delay,
        /// shards, ceiling
        #[arg(long, value_name = "WORK", value_delimiter = ',')]
        only: Vec<String>,
        /// Shorter and fewer rounds: within ten minutes once everything is built. What there is no time for is named
        #[arg(long)]
        quick: bool,
        /// Prints the valid rows that have a target as one JSON object, last
        #[arg(long)]
        json: bool,
        /// Writes everything that was measured, round by round, as JSON
        #[arg(long, value_name = "FILE")]
        details: Option<PathBuf>,
    },
    /// Fits the cost of a packet and of an object to results of `supernode-load run --json --relay-pid --metrics-url`
    ///
    /// Least squares without a constant over the runs' CPU time, and what it leaves unexplained of each.
    Fit {
        /// Files with one result a line
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
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

    #[test]
    fn a_demo_is_of_programs_unless_a_page_is_asked_for_and_no_room_is_of_pages() {
        let demo = |words: &[&str]| {
            let parsed = Arguments::try_parse_from([&["cargo xtask", "demo"], words].concat()).map(|found| found.task);
            match parsed {
                Ok(Task::Demo { seconds, json, keep, web, room, .. }) => Ok((seconds, json, keep, web, room)),
                Ok(_) => unreachable!("another task"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(demo(&[]), Ok((10, false, false, false, None)));
        assert_eq!(demo(&["--web", "--json"]), Ok((10, true, false, true, None)));
        assert_eq!(demo(&["--keep", "--web", "--seconds", "3"]), Ok((3, false, true, true, None)));
        let refused = demo(&["--web", "--room", "3"]).expect_err("refused");
        assert!(refused.contains("'--web' cannot be used with '--room <N>'"), "{refused}");
    }
}
