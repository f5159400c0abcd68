//! The process's memory holds the relay's keys and what clients send: it stays in the process.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no other process of this user reads this one's memory (`ptrace`, `/proc/PID/mem`), and whatever ends it, a
/// signal of the watchdog above all, leaves no core, on the disk or with a program that collects them. Root can still look.
///
/// # Errors
/// What the system says.
pub fn keep_in_memory() -> io::Result<()> {
    // The first alone would do; the second is seen by whoever looks whether it is so (/proc/PID/limits).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}
