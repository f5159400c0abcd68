//! What an operator is told when something did not work: the errors say what happened and to which file, key or address,
//! and the tables here why, as far as is known, and what to do.
//!
//! `docs/RELAY-MESSAGES.md` is written from them and from the table of the commands, `cli/exit.rs`.

mod tables;

use std::error::Error;

use supernode_proto::words::{Told, Words, chain, write_section};

use super::{
    acme::AcmeError, admin::AdminError, admission::IssueError, allow_list::AllowListError,
    certificate::CertificateError, config::ConfigError, handover::HandoverError, hook::HookError,
    invite::InviteLinkError, invites::LabelError, pages_port::PagesPortError, prepared::PrepareError,
    relay_key::RotateKeyError, revocations::RevokedError, rotation::RotateError, serve::ServeError,
    state_dir::StateError, tls::TlsError,
};

/// The words for the errors of one kind.
pub struct Table {
    /// Of what they are.
    pub heading: &'static str,
    /// Where they are met.
    pub about: &'static str,
    /// A row for each of them.
    pub rows: &'static [Words],
    /// The row for an error, if it is one of them.
    pub find: fn(&(dyn Error + 'static)) -> Option<&'static Words>,
}

macro_rules! all {
    ($($error:ident, $rows:ident, $heading:literal, $about:literal;)*) => {
        /// One for each kind of error that the shell has.
        pub const TABLES: &[Table] = &[$(Table {
            heading: $heading,
            about: $about,
            rows: tables::$rows,
            find: |error| error.downcast_ref::<$error>().map(Told::words),
        },)*];
    };
}

all! {
    ConfigError, CONFIG, "Configuration", "At every start, by `supernode check-config`, and in the log when the file changes.";
    PrepareError, PREPARE, "Files that the configuration names", "As above.";
    CertificateError, CERTIFICATE, "Certificate and key for TLS", "With `tls.mode = \"files\"`, and of the relay's own.";
    TlsError, TLS, "TLS", "At the start.";
    AcmeError, ACME, "Certificates by ACME", "In the log, with `tls.mode = \"acme\"`.";
    AllowListError, ALLOW_LIST, "Allow-list", "With `admission.mode = \"allow-list\"`.";
    HookError, HOOK, "Hook", "With `admission.mode = \"hook\"`.";
    StateError, STATE, "State directory and keys", "By every command that has to do with a relay.";
    ServeError, SERVE, "Running", "By `supernode serve`.";
    AdminError, ADMIN, "Admin port", "At the start.";
    PagesPortError, PAGES_PORT, "Port for pages", "At the start, where `web.listen` is set.";
    HandoverError, HANDOVER, "Upgrade and hand-over", "By `supernode serve --takeover`, and in the log.";
    InviteLinkError, INVITE_LINK, "Invite links", "By `supernode invite`, and at the start.";
    IssueError, ISSUE, "Tokens", "By `supernode invite`, and at the start.";
    LabelError, LABEL, "Labels of invites", "By `supernode invite --label` and `supernode invites`.";
    RevokedError, REVOKED, "List of who is refused", "By `supernode revoke`, and at the start.";
    RotateError, ROTATE, "New admission key", "By `supernode rotate admission-key`.";
    RotateKeyError, ROTATE_KEY, "New relay key", "By `supernode rotate relay-key`.";
}

/// What to tell people of an error, or of the first of its causes that has words.
pub fn of(error: &(dyn Error + 'static)) -> Option<&'static Words> {
    causes(error).find_map(|cause| TABLES.iter().find_map(|table| (table.find)(cause)))
}

/// What to do about an error, if there is anything to be done.
pub fn todo(error: &(dyn Error + 'static)) -> Option<&'static str> {
    of(error).and_then(Words::todo_to_tell)
}

/// An error with its causes and what to do, on one line, for the log.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    match todo(error) {
        Some(todo) => format!("{text} ({todo})"),
        None => text,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// `docs/RELAY-MESSAGES.md`, with the table of the commands' own errors.
pub fn markdown(of_commands: &Table) -> String {
    let mut text = String::from(
        "# The relay's messages\n\nWhat `supernode` tells its operator when something did not work. The first line says what \
         happened, to which file, key or\naddress, and the cause as the system names it; the second the usual why; the third, \
         after `->`, what to do. In the log, all is\non one line, without the usual why. Words in capitals stand for what is \
         said there. Written from\n`server/src/control/words/tables.rs` and `server/src/cli/exit.rs`: an error without a row \
         does not compile, and a test fails\nwhen a row lacks one of its parts. Exit codes: \
         [OPERATING](OPERATING.md#exit-codes). What people who call are told: [MESSAGES](MESSAGES.md).\n",
    );
    for table in std::iter::once(of_commands).chain(TABLES) {
        write_section(&mut text, table.heading, table.about, table.rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use supernode_proto::words::lacking;

    use super::*;

    #[test]
    fn no_message_of_the_relay_lacks_one_of_its_parts() {
        for table in TABLES {
            assert!(lacking(table.rows).is_empty(), "{}: {:?}", table.heading, lacking(table.rows));
        }
    }

    #[test]
    fn an_error_says_what_to_do_wherever_in_the_chain_it_stands() {
        let missing = || StateError::Missing(PathBuf::from("/nowhere"));
        let deep = ServeError::Prepare(PrepareError::State(missing()));
        assert_eq!(of(&deep).expect("it has words").name, "Missing");
        assert_eq!(of(&missing()), of(&deep));
        let said = line(&deep);
        assert!(said.starts_with("/nowhere: is not there (") && said.contains("supernode serve"), "{said}");
        assert_eq!(of(&io::Error::other("a disk")), None);
        assert_eq!(line(&io::Error::other("a disk")), "a disk");
        assert_eq!(todo(&ServeError::Interrupted), None, "there is nothing to be done");
    }
}
