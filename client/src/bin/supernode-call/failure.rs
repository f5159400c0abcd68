//! What goes wrong and which exit code says so.

use std::{io::Write, process::ExitCode};

use supernode_client::Error;

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

    /// No call came about.
    pub(crate) fn no_call(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 4, error: error.into() }
    }

    /// The call broke off.
    pub(crate) fn broken(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 5, error: error.into() }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The chain of reasons, once.
    pub(crate) fn print(&self) {
        // Without standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "supernode-call: {:#}", self.error);
    }
}
