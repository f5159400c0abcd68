//! What the worlds can be told: the options of `supernode-world`, and of `cargo xtask world`, which passes them on.

use clap::{Args, ValueEnum};

/// Which worlds, and how they are told of.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub from: u64,
    /// The relay lies to its clients, but for when nothing happens: what it says is dropped, doubled, changed, said late or
    /// invented
    #[arg(long)]
    pub lying: bool,
    /// Only worlds of several nodes; without this they are run behind the others
    #[arg(long, conflicts_with = "lying")]
    pub nodes: bool,
    /// Prints what happens in the first of them, and runs no other
    #[arg(long)]
    pub told: bool,
    /// Prints the result as one JSON object, last
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "what is said here would be said of the program")]
    pub less: Less,
}

/// How much of a seed's world is left out: so that what led to a failure is short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Less {
    /// No more people than so many
    #[arg(long, value_name = "N")]
    pub people: Option<usize>,
    /// Something happens no more often than so many times
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// And each time no longer than so many milliseconds
    #[arg(long, value_name = "MS")]
    pub lively_ms: Option<u64>,
    /// Without these troubles
    #[arg(long, value_name = "TROUBLE", value_delimiter = ',')]
    pub without: Vec<Trouble>,
}

/// What can be left out of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trouble {
    /// Packets are lost, doubled, late, and cut off
    Network,
    /// Devices crash, sleep, stall and move
    Devices,
    /// The relay's processes are held, handed over and killed
    Relay,
    /// People put each other out
    Kicks,
    /// Rooms whose members keep a group
    Groups,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Network, Self::Devices, Self::Relay, Self::Kicks, Self::Groups];

    fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    /// So many worlds, from the first one on.
    pub fn of(seeds: u64) -> Self {
        Self { seeds, from: 0, lying: false, nodes: false, told: false, json: false, less: Less::default() }
    }

    /// The same on a command line.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["--seeds".to_owned(), self.seeds.to_string(), "--from".to_owned(), self.from.to_string()];
        let flags = [(self.lying, "--lying"), (self.nodes, "--nodes"), (self.told, "--told"), (self.json, "--json")];
        words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.to_owned()));
        let Less { people, rounds, lively_ms, without } = &self.less;
        let numbers =
            [("--people", people.map(|n| n as u64)), ("--rounds", rounds.map(u64::from)), ("--lively-ms", *lively_ms)];
        for (option, number) in numbers {
            words.extend(number.into_iter().flat_map(|number| [option.to_owned(), number.to_string()]));
        }
        if !without.is_empty() {
            let troubles: Vec<String> = without.iter().map(|trouble| trouble.word()).collect();
            words.extend(["--without".to_owned(), troubles.join(",")]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn what_is_passed_on_is_what_was_said() {
        let said = [
            "world",
            "--seeds",
            "7",
            "--from",
            "9",
            "--lying",
            "--told",
            "--json",
            "--people",
            "3",
            "--rounds",
            "1",
            "--lively-ms",
            "250",
            "--without",
            "network,groups",
        ];
        let Program { options } = Program::try_parse_from(said).expect("good words");
        assert_eq!(options.words(), said[1..]);
        let of_nodes = ["world", "--seeds", "1", "--from", "1071", "--nodes", "--told"];
        assert_eq!(Program::try_parse_from(of_nodes).expect("good words").options.words(), of_nodes[1..]);
        let defaults = Program::try_parse_from(["world"]).expect("none").options;
        assert_eq!(defaults.words(), ["--seeds", "200", "--from", "0"]);
        assert_eq!(defaults.words(), Options::of(200).words());
    }
}
