//! `supernode upgrade`

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use supernode_server::control::{operator::Started, successor::Attempt};

use crate::cli::{
    exit::Exit,
    output::{print_json, say},
    relay::Relay,
    state::State,
};

/// How long the new process may take to load its configuration and to be given the port.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    state: State,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Upgrade {
    /// Has the running relay start the program that is installed now, with its own arguments, in its place.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let relay = Relay::of(&self.state)?;
        let before = relay.status()?;
        let started: Started = serde_json::from_slice(&relay.post("/upgrade", &json!({}))?)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            std::thread::sleep(POLL);
            // The socket changes hands: for a moment nobody may answer.
            if let Ok(now) = relay.status()
                && now.pid == started.pid
            {
                say(&format!(
                    "process {} (supernode {}) has taken over from {} (supernode {}), which drains",
                    now.pid, now.version, before.pid, before.version
                ));
                return if self.json { print_json(&json!({ "pid": now.pid, "version": now.version })) } else { Ok(()) };
            }
            // What is not answered is nothing new: an older relay does not know, and one that has been replaced is gone.
            if let Ok(Some(Attempt { pid, failed: Some(reason) })) = relay.get("/upgrade")
                && pid == started.pid
            {
                return Err(Exit::NotTakenOver { pid, reason }.into());
            }
            if Instant::now() > deadline {
                return Err(Exit::TakeoverLate { pid: started.pid }.into());
            }
        }
    }
}
