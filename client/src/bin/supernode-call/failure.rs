//! What goes wrong and which exit code says so.

use std::{io::Write, process::ExitCode};

use supernode_client::{
    CallEnd, Error,
    proto::{
        close::{CloseCode, Retry},
        words,
    },
    words::of_end,
};

use crate::trouble::Trouble;

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something here failed: a file, an address, a key
  2  the command line is wrong
  3  the relay cannot be reached or did not let us in
  4  no call came about: declined, busy, nobody there
  5  the call broke off";

/// The end of a run that did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// A file, an address or a key of ours.
    pub(crate) fn here(trouble: Trouble) -> Self {
        Self { code: 1, error: trouble.into() }
    }

    /// The relay cannot be reached or did not let us in.
    pub(crate) fn relay(error: Error) -> Self {
        let code = match error {
            Error::Authorities | Error::State(_) | Error::TooLarge { .. } | Error::EndToEnd(_) => 1,
            _ => 3,
        };
        Self { code, error: error.into() }
    }

    /// Which relay it was about.
    pub(crate) fn about(self, host: &str, port: u16) -> Self {
        Self { error: self.error.context(format!("{host}, UDP port {port}")), ..self }
    }

    /// No packet gets to the relay.
    pub(crate) fn no_way() -> Self {
        Self { code: 3, error: Trouble::NoWay.into() }
    }

    /// No call came about.
    pub(crate) fn no_call(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 4, error: error.into() }
    }

    /// The process in the room did not do it, and has told why and what to do in these words.
    pub(crate) fn of_order(told: String) -> Self {
        Self::no_call(Told(told))
    }

    /// The call broke off.
    pub(crate) fn broken(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 5, error: error.into() }
    }

    /// Whether the same may succeed later by itself.
    pub(crate) fn may_pass(&self) -> bool {
        self.error.downcast_ref::<Error>().is_some_and(|error| error.retry() != Retry::Never)
    }

    /// What the relay closed the session with, if it did.
    pub(crate) fn close_code(&self) -> Option<CloseCode> {
        match self.error.downcast_ref() {
            Some(Error::Closed(code)) => Some(*code),
            _ => None,
        }
    }

    /// As [`Self::print`] says it.
    pub(crate) fn told(&self) -> String {
        told(&self.error)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The chain of reasons, once, and what to do.
    pub(crate) fn print(&self) {
        // Without standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "supernode-call: {}", self.told());
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::here(trouble)
    }
}

/// What another process of ours has told, whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

/// What happened, and each on a line of its own, why and what to do.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    // Whatever it was said to be about.
    match (error.downcast_ref::<Error>(), error.downcast_ref::<CallEnd>(), error.downcast_ref::<Trouble>()) {
        // The relay gives names: people are told what those mean.
        (Some(error @ (Error::Closed(_) | Error::Refused(_))), ..) => {
            let of_name = error.words();
            words::told(&format!("{text}: {}", of_name.what), of_name)
        }
        (Some(error), ..) => words::told(&text, error.words()),
        (_, Some(end), _) => words::told(&text, of_end(*end)),
        (.., Some(trouble)) => words::told(&text, trouble.words()),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use supernode_client::{
        Refusal,
        proto::{control::RefusalReason, words::lacking},
        words,
    };

    use super::*;
    use crate::trouble::ROWS;

    #[test]
    fn what_the_relay_said_comes_with_why_and_what_to_do() {
        let refusal = Refusal { reason: RefusalReason::TicketExpired, detail: "ticket".into(), value: 0, bound: 0 };
        let text = told(&Error::Refused(refusal).into());
        assert_eq!(
            text,
            "the relay refused: TICKET_EXPIRED, ticket: the ticket has ended\n  a ticket holds for a time\n  \
             -> ask the person who made it for a new one (supernode-call ticket)"
        );
        assert!(told(&CallEnd::Removed.into()).contains("-> ask them by another way"));
        let of_a_host = Failure::relay(Error::WrongPin).about("relay.example", 4433);
        assert!(of_a_host.told().contains("-> do not go on"), "{}", of_a_host.told());
    }

    #[test]
    fn what_goes_wrong_here_comes_with_why_and_what_to_do() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = Failure::here(Trouble::read(Path::new("eve.json"))(missing)).told();
        assert_eq!(
            text,
            "eve.json: cannot be read: entity not found\n  it is not there, or this user may not read it\n  -> compare the path with what was meant, or let this user read the file"
        );
        assert_eq!(Failure::no_call(Trouble::Interrupted).told(), "interrupted", "there is nothing to be done");
        let told = "they cannot be reached\n  no device of theirs is online\n  -> wait until they are";
        assert_eq!(Failure::of_order(told.into()).told(), told, "another process has said it all");
    }

    #[test]
    fn no_message_of_this_program_lacks_one_of_its_parts() {
        assert!(lacking(ROWS).is_empty(), "{:?}", lacking(ROWS));
    }

    /// `anyhow` carries errors here and makes none: one that it makes has no row.
    #[test]
    fn every_error_of_this_program_has_a_row() {
        fn sources(folder: &Path) -> Vec<(String, String)> {
            let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            let of = |path: std::path::PathBuf| match path.is_dir() {
                true => sources(&path),
                false => vec![(path.display().to_string(), fs::read_to_string(&path).expect("a file"))],
            };
            entries.flat_map(of).collect()
        }
        let made = ["anyhow!", "bail!", "ensure!"].map(|word| format!("{word}("));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/supernode-call");
        for (path, text) in sources(&folder) {
            assert!(!made.iter().any(|made| text.contains(made)), "{path} makes an error without words");
            assert!(
                !text.contains(".context(") || path.ends_with("failure.rs"),
                "{path}: who says what to do about it?"
            );
        }
    }

    #[test]
    fn the_page_of_messages_is_what_the_tables_of_words_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/MESSAGES.md");
        let page = words::markdown(EXIT_CODES, ROWS);
        if std::env::var_os("SUPERNODE_BLESS").is_some() {
            return fs::write(&path, page).expect("written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(written, page, "SUPERNODE_BLESS=1 cargo test -p supernode-client --bins words");
    }

    #[test]
    fn every_kind_of_failure_ends_with_the_code_that_help_and_documents_name() {
        let documented: Vec<&str> =
            EXIT_CODES.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next()).collect();
        assert_eq!(documented, ["0", "1", "2", "3", "4", "5"]);
        let code = |failure: Failure| failure.code;
        assert_eq!(code(Trouble::Declined.into()), 1);
        assert_eq!(code(Failure::relay(Error::Authorities)), 1);
        assert_eq!(code(Failure::relay(Error::Disconnected).about("relay.example", 1)), 3);
        assert_eq!(code(Failure::no_way()), 3);
        assert_eq!(code(Failure::no_call(Trouble::Declined)), 4);
        assert_eq!(code(Failure::broken(CallEnd::SessionGone)), 5);
    }
}
