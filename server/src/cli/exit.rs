//! How commands end.

use std::process::ExitCode;

/// For `--help` and the manual.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done
  1  failed; standard error says why
  2  wrong usage
  3  no relay runs with this state directory
  4  the answer is no: nobody to kick, nothing to revoke, not ready, or the doctor found a fault

RUST_LOG sets what is logged (default: error,supernode=info).";

/// An end with a code of its own; every other error is 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// Nobody answers at the state directory's socket.
    #[error(
        "{0}: no relay runs with this state directory; start one with `supernode serve`, or name another with --state-dir; \
         commands for a relay that runs as a service need root"
    )]
    NotRunning(String),
    /// Everything went well, and the answer is no.
    #[error("{0}")]
    No(String),
}

/// The code for an error.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(match error.downcast_ref() {
        None => 1,
        Some(Exit::NotRunning(_)) => 3,
        Some(Exit::No(_)) => 4,
    })
}
