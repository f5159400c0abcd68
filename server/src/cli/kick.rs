//! `supernode kick`

use clap::Args;
use supernode_server::control::operator::{self, Ended};

use super::{
    exit::Exit,
    output::{print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(super) struct Kick {
    #[command(flatten)]
    state: State,
    /// A session as `supernode sessions` names it (0-12-3), or a whole identity (sn-id-...) with all its sessions.
    #[arg(value_name = "SESSION|IDENTITY")]
    whom: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Kick {
    /// Ends sessions. Their clients may come back: `revoke` is for those who may not.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let whom = match self.whom.starts_with("sn-id-") {
            true => operator::Kick::Identity(self.whom.clone()),
            false => operator::Kick::Session(self.whom.clone()),
        };
        let ended: Ended = serde_json::from_slice(&Relay::of(&self.state)?.post("/kick", &whom)?)?;
        if self.json {
            print_json(&ended)?;
        }
        if ended.sessions == 0 {
            return Err(Exit::No("nobody of that name is connected".to_owned()).into());
        }
        say(&format!("{} sessions ended", ended.sessions));
        Ok(())
    }
}
