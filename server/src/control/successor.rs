//! `supernode upgrade`: the running relay starts its own successor, so that whoever looks after it, such as systemd,
//! sees one service all the time.

use std::{
    env, io,
    path::PathBuf,
    process::{Child, Command},
};

/// Says what is to run.
const TAKEOVER: &str = "--takeover";

/// Where this program was when it started. What is there later is what an upgrade starts.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// To be asked at the start: once the file has been replaced, the system calls it deleted.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { path: env::current_exe()? })
    }

    /// Starts it with this process's arguments and environment, to take this process's place. The child is reaped in
    /// the background; if it ends before its time, the log says so.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_successor(&self) -> io::Result<u32> {
        let arguments = env::args_os().skip(1).filter(|argument| argument != TAKEOVER);
        let child = Command::new(&self.path)
            .args(arguments)
            .arg(TAKEOVER)
            // systemd means this process by it, and the successor takes its watchdog over.
            .env_remove("WATCHDOG_PID")
            .spawn()?;
        let pid = child.id();
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || await_end(child))?;
        Ok(pid)
    }
}

fn await_end(mut child: Child) {
    match child.wait() {
        Ok(status) => tracing::warn!(%status, "the process that was to take over has ended"),
        Err(error) => tracing::warn!(%error, "the process that was to take over is out of sight"),
    }
}
