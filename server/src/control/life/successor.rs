//! `supernode upgrade`: the running relay starts its own successor, so that whoever looks after it, such as systemd,
//! sees one service all the time.

use std::{
    env, io,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Says what is to run.
const TAKEOVER: &str = "--takeover";
/// How long the new process may take from its start until it serves. One that has not by then is ended: it would wake up one
/// day, to a relay that knows nothing of it.
pub const START_PATIENCE: Duration = Duration::from_secs(35);
/// How often it is looked whether the new process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where this program was when it started. What is there later is what an upgrade starts.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    attempt: Arc<Mutex<Option<Attempt>>>,
}

/// A successor that was started, and what has become of it as long as it has not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its process.
    pub pid: u32,
    /// Why it will not take over.
    pub failed: Option<String>,
}

impl Program {
    /// To be asked at the start: once the file has been replaced, the system calls it deleted.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { path: env::current_exe()?, attempt: Arc::default() })
    }

    /// Starts it with this process's arguments and environment, to take this process's place. What becomes of it is in
    /// [`Self::attempt`], and in the log. `None` if one that was started before is still at it.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_successor(&self) -> io::Result<Option<u32>> {
        let mut attempt = self.lock();
        if attempt.as_ref().is_some_and(|attempt| attempt.failed.is_none()) {
            return Ok(None);
        }
        let arguments = env::args_os().skip(1).filter(|argument| argument != TAKEOVER);
        let child = Command::new(&self.path)
            .args(arguments)
            .arg(TAKEOVER)
            // systemd means this process by it, and the successor takes its watchdog over.
            .env_remove("WATCHDOG_PID")
            .spawn()?;
        let pid = child.id();
        *attempt = Some(Attempt { pid, failed: None });
        let program = self.clone();
        thread::Builder::new().name("successor".to_owned()).spawn(move || program.look_after(child, START_PATIENCE))?;
        Ok(Some(pid))
    }

    /// The last successor that was started, unless it has taken over.
    pub fn attempt(&self) -> Option<Attempt> {
        self.lock().clone()
    }

    /// The process of this number does not take over: if it is the one that was started, this is why. What is known first
    /// counts.
    pub fn fail(&self, pid: u32, reason: impl FnOnce() -> String) {
        if let Some(attempt) = self.lock().as_mut().filter(|attempt| attempt.pid == pid) {
            attempt.failed.get_or_insert_with(reason);
        }
    }

    /// Some process has taken over.
    pub fn settle(&self) {
        *self.lock() = None;
    }

    /// Reaps the child. Until it has taken over it is looked at often: whoever asked for the upgrade waits.
    fn look_after(&self, mut child: Child, patience: Duration) {
        let (pid, begin) = (child.id(), Instant::now());
        while self.lock().as_ref().is_some_and(|attempt| attempt.pid == pid) {
            match child.try_wait() {
                Ok(None) if begin.elapsed() < patience => thread::sleep(LOOK_INTERVAL),
                Ok(None) => {
                    let patience_s = patience.as_secs();
                    self.fail(pid, || format!("it did not take over within {patience_s} s, and was ended"));
                    tracing::warn!(pid, patience_s, "the process that was to take over does not: it is ended");
                    let _ = child.kill(); // nothing to end if it went by itself
                    break;
                }
                Ok(Some(status)) => {
                    self.fail(pid, || format!("it ended with {status}"));
                    return ended(pid, status);
                }
                Err(error) => return tracing::warn!(pid, %error, "the process that was to take over is out of sight"),
            }
        }
        match child.wait() {
            Ok(status) => ended(pid, status),
            Err(error) => tracing::warn!(pid, %error, "the process that was to take over is out of sight"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(pid: u32, status: ExitStatus) {
    tracing::warn!(pid, %status, "the process that was to take over has ended");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program_that_started(child: &Child) -> Program {
        let attempt = Attempt { pid: child.id(), failed: None };
        Program { path: PathBuf::new(), attempt: Arc::new(Mutex::new(Some(attempt))) }
    }

    #[test]
    fn a_successor_that_does_nothing_is_ended_and_what_was_known_first_is_the_reason() {
        let child = Command::new("sleep").arg("600").spawn().expect("sleep(1)");
        let (program, pid, begin) = (program_that_started(&child), child.id(), Instant::now());
        program.look_after(child, Duration::from_millis(100));
        assert!(begin.elapsed() < Duration::from_secs(60), "it was waited for");
        program.fail(pid, || "something else".to_owned());
        let failed = program.attempt().and_then(|attempt| attempt.failed).expect("a reason");
        assert!(failed.contains("was ended"), "{failed}");
    }

    #[test]
    fn a_successor_that_has_taken_over_may_take_as_long_as_it_likes() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep(1)");
        let program = program_that_started(&child);
        program.settle();
        assert_eq!(program.attempt(), None);
        let waiting = {
            let (program, pid) = (program.clone(), child.id());
            // The test keeps a handle by the number: the child is not reaped before it is waited for.
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process");
            assert!(matches!(child.try_wait(), Ok(None)));
            let waiting = thread::spawn(move || program.look_after(child, Duration::ZERO));
            thread::sleep(10 * LOOK_INTERVAL);
            assert!(!waiting.is_finished(), "it was not ended");
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
            waiting
        };
        waiting.join().expect("no panic");
    }
}
