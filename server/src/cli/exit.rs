//! How commands end, and what people are told then.

use std::{io, path::PathBuf, process::ExitCode};

use axum::http::StatusCode;
use supernode_proto::{words::Told, words_of};
use supernode_server::control::words::{self, Table};

/// For `--help` and the manual.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done
  1  failed; standard error says why
  2  wrong usage
  3  no relay runs with this state directory
  4  the answer is no: nobody to kick, nothing to revoke, not ready, or the doctor found a fault

RUST_LOG sets what is logged (default: error,supernode=info).";

/// An end that a command has by itself; the shell's errors are the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// Nobody answers at the state directory's socket.
    #[error("{0}: no relay runs with this state directory")]
    NotRunning(String),
    /// Everything went well, and the answer is no.
    #[error("{0}")]
    No(String),
    /// The variable has no filter in it.
    #[error("RUST_LOG = {filter:?}: must be {form}")]
    LogFilter {
        /// What it has.
        filter: String,
        /// What it may have.
        form: &'static str,
    },
    /// What `check-config` found, each on a line.
    #[error("{0}")]
    Unfit(String),
    /// No directory of this user's, and one that is not theirs.
    #[error("{own}: is not there, and the service's {service} is for root only", own = own.display())]
    ForRoot {
        /// The user's.
        own: PathBuf,
        /// The service's.
        service: &'static str,
    },
    /// Standard output takes nothing.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Nothing came through the relay's socket, or too late.
    #[error("the relay does not answer")]
    Silent(#[source] anyhow::Error),
    /// The relay said that it could not.
    #[error("the relay answers {code}: {words}")]
    Answer {
        /// As HTTP has it.
        code: StatusCode,
        /// As the relay has it.
        words: String,
    },
    /// The relay said what this program does not understand.
    #[error("the relay's answer to {path} is of another version")]
    OtherVersion {
        /// What was asked.
        path: String,
        /// What is odd about it.
        source: serde_json::Error,
    },
    /// One of two processes did what was asked.
    #[error(
        "{sessions} sessions ended here, but the process that still drains after an upgrade was not reached: {why}"
    )]
    Unheard {
        /// How many.
        sessions: usize,
        /// What is with the other one.
        why: String,
    },
    /// A link without a token.
    #[error("the link carries no token")]
    NoToken,
    /// A class that would let nobody in.
    #[error("--class {class}: the running relay has no such class in admission.classes; it has: {known}")]
    NoClass {
        /// What was asked for.
        class: String,
        /// What there is.
        known: String,
    },
    /// No such invite.
    #[error("{label:?}: no invite has this label; there are: {known}")]
    NoLabel {
        /// What was asked for.
        label: String,
        /// What there is.
        known: String,
    },
    /// Nothing that can be revoked.
    #[error(
        "neither an identity (sn-id-...) nor a device (sn-dev-...), nor an invite link, nor a digest of 22 characters, nor \
         an address or prefix with nothing behind it (192.0.2.0/24)"
    )]
    NotRevocable,
    /// Nobody who can be followed.
    #[error("{0}: neither an identity (sn-id-...) nor a device (sn-dev-...), nor an address or prefix (192.0.2.0/24)")]
    NotFollowable(String),
    /// Something that changes while one looks.
    #[error("top needs a terminal")]
    NoTerminal,
    /// The program that was to take over ended.
    #[error("process {pid} does not take over: {reason}; the relay goes on as before")]
    NotTakenOver {
        /// Which.
        pid: u32,
        /// What the relay says.
        reason: String,
    },
    /// The program that was to take over did not.
    #[error("process {pid} did not take over in time; the relay goes on as before")]
    TakeoverLate {
        /// Which.
        pid: u32,
    },
    /// No such page.
    #[error("{0}: there is no such command")]
    NoCommand(String),
}

words_of! {
    /// Of the commands.
    Exit as ROWS:
    NotRunning, "no relay runs with this state directory", "it was not started, has ended, or has another directory",
        "start one with `supernode serve`, or name another with --state-dir; for a relay that runs as a service, use sudo";
    No, "the answer is no", "what was asked for is not so, as is said; exit code 4 tells it to scripts", "nothing";
    LogFilter, "it is not known what is to be logged", "RUST_LOG has something else than a filter in it", "set RUST_LOG as said, or unset it";
    Unfit, "a relay would not work with this configuration", "each line says what is wrong with which file, key or value",
        "put right what each line says, and check again";
    ForRoot, "there is no state directory of yours", "the one of the service's relay is for root only",
        "try it with sudo, or name another state directory: --state-dir";
    Output, "the answer could not be written", "standard output is closed, or its disk is full", "see what the system says, and make room";
    Silent, "the relay does not answer", "its process is stopped or stuck, or has just ended",
        "look whether its process runs (systemctl status supernode) and what it logged; then ask again";
    Answer, "the relay does not do it", "it says why", "do as it says; its log has more";
    OtherVersion, "the relay's answer is not understood", "this program and the running relay are of different versions",
        "have the relay run this version (supernode upgrade), or use the program that it was started with";
    Unheard, "only a part of the sessions ended", "a process from before an upgrade still has some, and could not be told",
        "do the same again; those sessions end with that process, within relay.drain_patience_s";
    NoToken, "the link cannot be taken back", "it carries no token: it lets in nobody by itself",
        "revoke the identity instead (sn-id-...); a label is only for invites with a token";
    NoClass, "the invite was not made", "it would let nobody in: the relay knows no such class",
        "use one that it has, or add the class to admission.classes first";
    NoLabel, "no invite was taken back", "none has this label", "see which there are (supernode invites list)";
    NotRevocable, "nothing was revoked", "what was named is nothing that can be", "name it in one of the forms that are said (supernode sessions --full has names)";
    NotFollowable, "nobody is followed", "what was named is nobody who can be", "name it in one of the forms that are said (supernode sessions --full has names)";
    NoTerminal, "the rates cannot be shown live", "standard output is no terminal", "use `supernode top --json` or `supernode status --json`";
    NotTakenOver, "the upgrade failed, and the relay goes on as before", "the new process ended or was refused, as is said",
        "look at the relay's log, mend what it says, and try again";
    TakeoverLate, "the upgrade did not come about, and the relay goes on as before", "the new process did not serve in time",
        "look at the relay's log, and try again when the machine has less to do";
    NoCommand, "there is no such page", "no command has this name", "see which there are (supernode --help)";
}

/// As [`words::TABLES`].
const COMMANDS: Table = Table {
    heading: "Commands",
    about: "By the commands of `supernode` themselves.",
    rows: ROWS,
    find: |error| error.downcast_ref::<Exit>().map(Told::words),
};

/// An error with its causes, and on a line of its own what to do.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let own = error.chain().find_map(COMMANDS.find);
    match own.map_or_else(|| words::todo(error.as_ref()), words::for_reader) {
        Some(todo) => format!("{error:#}\n  -> {todo}"),
        None => format!("{error:#}"),
    }
}

/// The code for an error.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(Exit::LogFilter { .. }) => 2,
        Some(Exit::NotRunning(_)) => 3,
        Some(Exit::No(_)) => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use supernode_proto::words::lacking;
    use supernode_server::control::state_dir::StateError;

    use super::*;

    #[test]
    fn no_message_of_a_command_lacks_one_of_its_parts() {
        assert!(lacking(ROWS).is_empty(), "{:?}", lacking(ROWS));
    }

    #[test]
    fn an_error_is_told_once_with_what_to_do_on_its_own_line() {
        let not_running = anyhow::Error::from(Exit::NotRunning("/state".into()));
        assert_eq!(
            told(&not_running),
            "/state: no relay runs with this state directory\n  -> start one with `supernode serve`, or name another with \
             --state-dir; for a relay that runs as a service, use sudo"
        );
        let missing = anyhow::Error::from(StateError::Missing("/state".into())).context("an invite");
        assert_eq!(
            told(&missing),
            "an invite: /state: is not there\n  -> start the relay once (supernode serve), or name the right directory \
             (--state-dir)"
        );
        assert_eq!(told(&Exit::No("nobody".into()).into()), "nobody");
        assert_eq!(told(&anyhow::anyhow!("a disk")), "a disk");
    }

    #[test]
    fn every_exit_code_of_the_table_is_one_that_a_command_ends_with_and_the_other_way_round() {
        let documented: Vec<&str> =
            TABLE.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next()).collect();
        assert_eq!(documented, ["0", "1", "2", "3", "4"]);
        let no_filter = Exit::LogFilter { filter: "a=b=c".into(), form: "a filter" };
        assert_eq!(code(&no_filter.into()), 2);
        assert_eq!(code(&Exit::NotRunning(String::new()).into()), 3);
        assert_eq!(code(&Exit::No(String::new()).into()), 4);
        assert_eq!(code(&Exit::NoToken.into()), 1);
        assert_eq!(code(&anyhow::anyhow!("a disk")), 1);
        let page = fs::read_to_string(root().join("docs/OPERATING.md")).expect("there");
        let listed = page.split("### Exit codes\n").nth(1).and_then(|rest| rest.split("\n#").next()).expect("there");
        for line in TABLE.lines().filter_map(|line| line.strip_prefix("  ")) {
            let (code, meaning) = line.split_once("  ").expect("code and meaning");
            assert!(listed.contains(&format!("| {code} | {meaning} |")), "{line}");
        }
    }

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn every_kind_of_error_of_the_relay_that_an_operator_meets_has_a_table() {
        fn count(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            entries
                .map(|path| match path.is_dir() {
                    true => count(&path),
                    false => fs::read_to_string(&path)
                        .expect("a file")
                        .matches("\n#[derive(Debug, thiserror::Error)]")
                        .count(),
                })
                .sum()
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        assert_eq!(count(&source.join("control")) + count(&source.join("cli")), words::TABLES.len() + 1);
    }

    #[test]
    fn the_page_of_messages_is_what_the_tables_say() {
        let (path, page) = (root().join("docs/RELAY-MESSAGES.md"), words::markdown(&COMMANDS));
        if std::env::var_os("SUPERNODE_BLESS").is_some() {
            return fs::write(&path, page).expect("written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(written, page, "SUPERNODE_BLESS=1 cargo test -p supernode-server --bin supernode exit");
    }
}
