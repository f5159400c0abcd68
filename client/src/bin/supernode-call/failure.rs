//! What goes wrong and which exit code says so.

use std::{io::Write, process::ExitCode};

use supernode_client::{
    Error,
    proto::close::{CloseCode, Retry},
    words::of_end,
};

/// The end of a run that did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// A file, an address or a key of ours.
    pub(crate) fn here(error: anyhow::Error) -> Self {
        Self { code: 1, error }
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
        Self { code: 3, error: anyhow::anyhow!("the relay cannot be reached from here") }
    }

    /// No call came about.
    pub(crate) fn no_call(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 4, error: error.into() }
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

/// What happened and why, and on a line of its own what to do.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let words =
        error.downcast_ref::<Error>().map(Error::words).or_else(|| error.downcast_ref().map(|end| of_end(*end)));
    match words {
        Some(words) if text.contains(words.why) => format!("{text}\n  -> {}", words.todo),
        Some(words) => format!("{text}\n  {}: {}\n  -> {}", words.what, words.why, words.todo),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use supernode_client::{CallEnd, Refusal, proto::control::RefusalReason};

    use super::*;

    #[test]
    fn what_the_relay_said_comes_with_why_and_what_to_do() {
        let refusal = Refusal { reason: RefusalReason::TicketExpired, detail: "ticket".into(), value: 0, bound: 0 };
        let text = told(&Error::Refused(refusal).into());
        assert_eq!(
            text,
            "the relay refused: TICKET_EXPIRED, ticket\n  the ticket has ended: a ticket holds for a time\n  \
             -> ask the person who made it for a new one (supernode-call ticket)"
        );
        assert!(told(&CallEnd::Removed.into()).contains("-> ask them by another way"));
        assert_eq!(told(&anyhow::anyhow!("a file")), "a file");
    }
}
