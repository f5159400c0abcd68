//! What goes wrong beside what is measured: what happened to which file, option or address, and what to do.

use std::{io, process::ExitCode};

use supernode_benches::load::{
    compare::NoResult, part::PartError, remote_write::PushError, run::RunError, scenario::ScenarioError,
};
use supernode_measure::relay_probe::ProbeError;
use supernode_proto::{
    invite::InviteError,
    troubles,
    words::{self, Told},
};

troubles! {
    /// Why there is no result, or not where it was to go.
    pub(crate) Trouble as ROWS, through Scenario(ScenarioError) Run(RunError):

    Read { path: String, source: io::Error }, "{path}: cannot be read",
        "it is not there, or this user may not read it", "compare the path with what was meant; shipped scenarios are named without a path (supernode-load list)";
    Unwritable { path: String, source: io::Error }, "{path}: cannot be written, and nothing was run",
        "its directory is not there, or this user may not write there", "name another path, or make the directory";
    NoScenario { name: String }, "{name}: no such scenario",
        "none of those that come with the program has this name", "see which there are: supernode-load list";
    Probe(#[from] ProbeError), "the relay cannot be looked at, and nothing was run",
        "it has ended, runs elsewhere, or is another user's", "compare with `supernode status`, which names both; leave the option out for a relay elsewhere";
    NoInvite, "which relay? There is no invite link",
        "neither --invite-file nor SUPERNODE_INVITE is given", "make a link (supernode invite > FILE) and say --invite-file FILE";
    Invite { from: String, source: InviteError }, "{from}: is no invite link",
        "it is something else, or was cut off when it was copied", "copy all of it, from supernode:// to the end, or make another (supernode invite)";
    NoPin, "the invite link has no pin: only relays with pinned keys can be measured",
        "the relay's certificate is an authority's, and the generator checks pins only", "measure it with tls.mode = \"self-signed\": the cost is the same";
    Baseline { path: String, source: NoResult }, "{path}: nothing to compare with",
        "the file is no earlier result, or one of another version", "give what `supernode-load run --json` of this version has printed";
    Part { path: String, source: PartError }, "{path}: cannot be added to the others",
        "it is not of the same run, or no part of any", "give all generators one version, one scenario and one --begin-at, and `merge` the files of --part";
    Authorization { from: String }, "{from}: is no value for a header",
        "it has more than one line, or characters that no header may have", "put `Bearer TOKEN` or `Basic ...` there, on one line";
    Knee { why: &'static str }, "no knee is looked for: {why}",
        "as is said", "change it; supernode-load knee --help has the options";

    Address { host: String, source: io::Error }, "{host}: the relay's name has no address",
        "no name server knows it, or none can be asked", "look for a mistake in the link, or make one with an address (supernode invite --host IP:PORT)";
    NotWritten { path: String, source: io::Error }, "{path}: cannot be written, though the result stands above",
        "the disk is full, or was taken away meanwhile", "make room, and take the result from standard output: --json prints all of it";
    NotPushed { url: String, source: PushError }, "{url}: the time series are not all there, though the result stands above",
        "nobody listens there, or the receiver does not want them, as it says",
        "see what it says: Prometheus takes them with --web.enable-remote-write-receiver, at /api/v1/write, and no request with one that is older than an hour";
    Output(#[source] io::Error), "cannot write to standard output",
        "it is closed, or its disk is full", "see what the system says, and make room";
}

impl Trouble {
    /// The exit code: 2 for what is known before anything is run.
    fn code(&self) -> u8 {
        match self {
            Self::Address { .. }
            | Self::Run(_)
            | Self::NotWritten { .. }
            | Self::NotPushed { .. }
            | Self::Output(_) => 1,
            _ => 2,
        }
    }

    /// Says it, and how the program ends.
    pub(crate) fn tell(&self) -> ExitCode {
        eprintln!("supernode-load: {}", self.told());
        ExitCode::from(self.code())
    }

    /// What happened with its causes, and each on a line of its own, why and what to do.
    pub(crate) fn told(&self) -> String {
        words::told(&words::chain(self), Told::words(self))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use supernode_benches::load::{run, scenario};
    use supernode_proto::words::{Words, lacking, write_section};

    use super::*;

    const TABLES: [(&str, &[Words]); 3] =
        [("Of the program", ROWS), ("Of scenarios", scenario::WORDS), ("Of runs", run::WORDS)];

    #[test]
    fn no_message_lacks_one_of_its_parts_and_the_document_has_them_all() {
        let mut section = String::new();
        for (heading, rows) in TABLES {
            assert!(lacking(rows).is_empty(), "{heading}: {:?}", lacking(rows));
            write_section(&mut section, heading, "", rows);
        }
        let section = section.replace("\n## ", "\n### ").replace("\n\n\n\n", "\n\n");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LOAD.md");
        let page = fs::read_to_string(&path).expect("there");
        let (above, _) = page.split_once("\n## Messages\n").expect("a place for them");
        let whole = format!(
            "{above}\n## Messages\n\nEach is followed by the usual why and, on a line that begins with `->`, by what to do. Written by\n\
             `SUPERNODE_BLESS=1 cargo test -p supernode-benches --bins`.\n{section}"
        );
        if std::env::var_os("SUPERNODE_BLESS").is_some() {
            return fs::write(&path, whole).expect("written");
        }
        assert_eq!(page, whole, "SUPERNODE_BLESS=1 cargo test -p supernode-benches --bins");
    }

    #[test]
    fn what_happened_comes_with_its_causes_and_what_to_do() {
        let missing = Trouble::Read { path: "mine.toml".into(), source: io::ErrorKind::NotFound.into() };
        assert!(missing.told().starts_with("mine.toml: cannot be read: entity not found\n  it is not there"));
        let scenario = scenario::Scenario::parse("mine.toml", "piars = 3", &[]).expect_err("a slip of the pen");
        let told = Trouble::from(scenario).told();
        assert!(told.starts_with("mine.toml: piars: unknown key (nearest: pairs)\n  it is misspelt"), "{told}");
        assert_eq!((missing.code(), Trouble::Run(RunError::Nobody).code()), (2, 1));
    }
}
