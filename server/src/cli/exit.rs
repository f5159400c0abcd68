//! How commands end, and what people are told then.

use std::{io, process::ExitCode};

use axum::http::StatusCode;
use supernode_proto::{
    troubles,
    words::{Told, Words, told as tell},
};
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

troubles! {
    /// An end that a command has by itself; the shell's errors are the others.
    pub(crate) Exit as ROWS:

    NotRunning { state: String }, "{state}: no relay runs with this state directory",
        "it was not started, has ended, or has another directory", "start one with `supernode serve`, or name another with --state-dir; for a relay that runs as a service, use sudo";
    No { answer: String }, "{answer}",
        "as is said: everything went well, and the answer is no, which exit code 4 tells to scripts", "nothing";
    LogFilter { filter: String, form: &'static str }, "no log filter: RUST_LOG = {filter:?}: must be {form}",
        "something else than a filter was put into the variable", "set RUST_LOG as said, or unset it";
    Unfit { problems: String }, "{problems}",
        "as is said: each line names what is wrong with which file, key or value", "put right what each line says, and check again";
    ForRoot { own: String, service: &'static str }, "{own}: is not there, and the service's {service} is for root only",
        "no relay was started as this user, and one runs as a service", "try it with sudo, or name another state directory: --state-dir";
    Output(#[source] io::Error), "cannot write to standard output",
        "it is closed, or its disk is full", "see what the system says, and make room";
    Write { path: String, source: io::Error }, "{path}: cannot be written",
        "it is there already, its directory is not, or this user may not write there", "see what the system says, and name another file";
    NoPage, "nobody has said where people find the page",
        "this relay serves none (web.page), and no other place was named", "say where it is (--page URL, or web.page_url), or have the relay serve it";
    Silent(#[source] anyhow::Error), "the relay does not answer",
        "its process is stopped or stuck, or has just ended", "look whether its process runs (systemctl status supernode) and what it logged; then ask again";
    Answer { code: StatusCode, words: String }, "the relay answers {code}: {words}",
        "as is said: the relay cannot do it, or not now", "do as it says; its log has more";
    OtherVersion { path: String, source: serde_json::Error }, "the relay's answer to {path} is of another version",
        "this program and the running relay are not of the same build", "have the relay run this version (supernode upgrade), or use the program that it was started with";
    Unheard { sessions: usize, why: String }, "{sessions} sessions ended here, but the process that still drains after an upgrade was not reached: {why}",
        "a process from before an upgrade still has some, and could not be told", "do the same again; those sessions end with that process, within relay.drain_patience_s";
    NoToken, "the link carries no token",
        "it lets in nobody by itself, so there is nothing to take back", "revoke the identity instead (sn-id-...); a label is only for invites with a token";
    NoClass { class: String, known: String }, "--class {class}: the running relay has no such class in admission.classes; it has: {known}",
        "an invite of a class that the relay does not know would let nobody in", "use one that it has, or add the class to admission.classes first";
    NoLabel { label: String, known: String }, "{label:?}: no invite has this label; there are: {known}",
        "it is misspelt, or that invite has ended", "see which there are (supernode invites list)";
    NotRevocable, "neither an identity (sn-id-...) nor a device (sn-dev-...), nor an invite link, nor a digest of 22 characters, nor an address or prefix with nothing behind it (192.0.2.0/24)",
        "it was cut off when it was copied, or is something else", "name it in one of these forms (supernode sessions --full has names)";
    NotFollowable { whom: String }, "{whom}: neither an identity (sn-id-...) nor a device (sn-dev-...), nor an address or prefix (192.0.2.0/24)",
        "it was cut off when it was copied, or is something else", "name them in one of these forms (supernode sessions --full has names)";
    NoTerminal, "top needs a terminal",
        "standard output leads to a file or to another program, and the picture changes while one looks", "use `supernode top --json` or `supernode status --json`";
    NotTakenOver { pid: u32, reason: String }, "process {pid} does not take over: {reason}; the relay goes on as before",
        "the new process ended or was refused", "look at the relay's log, mend what it says, and try again";
    TakeoverLate { pid: u32 }, "process {pid} did not take over in time; the relay goes on as before",
        "the machine had too much to do, or the new process hangs", "look at the relay's log, and try again when the machine has less to do";
    NoCommand { name: String }, "{name}: there is no such command",
        "it is misspelt, or of another version", "see which there are (supernode --help)";
}

impl Exit {
    /// Everything went well, and the answer is no.
    pub(crate) fn no(answer: impl Into<String>) -> anyhow::Error {
        Self::No { answer: answer.into() }.into()
    }
}

/// As [`words::TABLES`].
const COMMANDS: Table = Table {
    heading: "Commands",
    about: "By the commands of `supernode` themselves.",
    rows: ROWS,
    find: |error| error.downcast_ref::<Exit>().map(Told::words),
};

/// An error with its causes, and each on a line of its own, why and what to do.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    match of(error) {
        Some(words) => tell(&text, words),
        None => text,
    }
}

/// What to do about an error; empty if there is nothing to be done.
pub(crate) fn todo(error: &anyhow::Error) -> &'static str {
    of(error).and_then(Words::todo_to_tell).unwrap_or_default()
}

fn of(error: &anyhow::Error) -> Option<&'static Words> {
    error.chain().find_map(COMMANDS.find).or_else(|| words::of(error.as_ref()))
}

/// The code for an error.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(Exit::LogFilter { .. }) => 2,
        Some(Exit::NotRunning { .. }) => 3,
        Some(Exit::No { .. }) => 4,
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
        let not_running = anyhow::Error::from(Exit::NotRunning { state: "/state".into() });
        assert_eq!(
            told(&not_running),
            "/state: no relay runs with this state directory\n  it was not started, has ended, or has another directory\n  \
             -> start one with `supernode serve`, or name another with \
             --state-dir; for a relay that runs as a service, use sudo"
        );
        let missing = anyhow::Error::from(StateError::Missing { path: "/state".into() }).context("an invite");
        assert_eq!(
            told(&missing),
            "an invite: /state: is not there\n  no relay has been started with this state directory yet, or it is another one\n  \
             -> start the relay once (supernode serve), or name the right directory \
             (--state-dir)"
        );
        assert_eq!(told(&Exit::no("nobody")), "nobody");
        assert_eq!(told(&anyhow::anyhow!("a disk")), "a disk");
    }

    #[test]
    fn every_exit_code_of_the_table_is_one_that_a_command_ends_with_and_the_other_way_round() {
        let documented: Vec<&str> =
            TABLE.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next()).collect();
        assert_eq!(documented, ["0", "1", "2", "3", "4"]);
        let no_filter = Exit::LogFilter { filter: "a=b=c".into(), form: "a filter" };
        assert_eq!(code(&no_filter.into()), 2);
        assert_eq!(code(&Exit::NotRunning { state: String::new() }.into()), 3);
        assert_eq!(code(&Exit::no("")), 4);
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
                    false => {
                        let text = fs::read_to_string(&path).expect("a file");
                        text.matches("\n#[derive(Debug, thiserror::Error)]").count()
                            + text.matches("\ntroubles! {").count()
                    }
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
