//! What an operator is told when something did not work. Each error is declared by its rows, which say what happened and to
//! which file, key or address, why, as far as is known, and what to do; here is a list of all that are so declared.
//!
//! `docs/RELAY-MESSAGES.md` is written from them and from the table of the commands, `cli/exit.rs`.

use std::error::Error;

use supernode_proto::words::{Told, Words, chain, write_section};

use super::{
    acme, admin, admission, allow_list, certificate, cluster, config, handover, hook, invite, invites, page,
    pages_port, prepared, push, relay_key, revocations, rotation, serve, state_dir, tls,
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
    ($($module:ident::$error:ident, $heading:literal, $about:literal;)*) => {
        /// One for each kind of error that the shell has.
        pub const TABLES: &[Table] = &[$(Table {
            heading: $heading,
            about: $about,
            rows: $module::WORDS,
            find: |error| error.downcast_ref::<$module::$error>().map(Told::words),
        },)*];
    };
}

all! {
    config::ConfigError, "Configuration", "At every start, by `supernode check-config`, and in the log when the file changes.";
    prepared::PrepareError, "Files that the configuration names", "As above.";
    certificate::CertificateError, "Certificate and key for TLS", "With `tls.mode = \"files\"`, and of the relay's own.";
    tls::TlsError, "TLS", "At the start.";
    acme::AcmeError, "Certificates by ACME", "In the log, with `tls.mode = \"acme\"`.";
    allow_list::AllowListError, "Allow-list", "With `admission.mode = \"allow-list\"`.";
    hook::HookError, "Hook", "With `admission.mode = \"hook\"`.";
    push::PushError, "Waking people", "At the start, with `push.contact`.";
    cluster::ClusterError, "Cluster", "With `cluster.nats`: at every start, by `supernode check-config` and `supernode cluster secret`.";
    state_dir::StateError, "State directory and keys", "By every command that has to do with a relay.";
    serve::ServeError, "Running", "By `supernode serve`.";
    admin::AdminError, "Admin port", "At the start.";
    page::PageError, "The page", "With `web.page`: at every start, by `supernode check-config`, and by `supernode page`.";
    pages_port::PagesPortError, "Port for pages", "At the start, where `web.listen` is set.";
    handover::HandoverError, "Upgrade and hand-over", "By `supernode serve --takeover`, and in the log.";
    invite::InviteLinkError, "Invite links", "By `supernode invite`, and at the start.";
    admission::IssueError, "Tokens", "By `supernode invite`, and at the start.";
    invites::LabelError, "Labels of invites", "By `supernode invite --label` and `supernode invites`.";
    revocations::RevokedError, "List of who is refused", "By `supernode revoke`, and at the start.";
    rotation::RotateError, "New admission key", "By `supernode rotate admission-key`.";
    relay_key::RotateKeyError, "New relay key", "By `supernode rotate relay-key`.";
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
         said there. Written from\nthe rows by which the errors are declared (`troubles!`): one without a row does not compile, \
         and a test fails when a row lacks\none of its parts. Exit codes: [OPERATING](OPERATING.md#exit-codes). What people who call are told: [MESSAGES](MESSAGES.md).\n",
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

    use super::{
        super::{prepared::PrepareError, serve::ServeError, state_dir::StateError},
        *,
    };

    #[test]
    fn no_message_of_the_relay_lacks_one_of_its_parts() {
        for table in TABLES {
            assert!(lacking(table.rows).is_empty(), "{}: {:?}", table.heading, lacking(table.rows));
        }
    }

    #[test]
    fn an_error_says_what_to_do_wherever_in_the_chain_it_stands() {
        let missing = || StateError::Missing { path: PathBuf::from("/nowhere") };
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
