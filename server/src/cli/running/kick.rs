//! `supernode kick`

use clap::Args;
use supernode_server::control::operator::{self, Ended};

use crate::cli::{
    admit::revoke::heard,
    exit::Exit,
    output::{print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Kick {
    #[command(flatten)]
    state: State,
    /// A session as `supernode sessions` names it (0-12-3, or old-0-12-3 at a process that drains), or all of an identity (sn-id-...), of a device (sn-dev-...),
    /// or from an address or prefix (192.0.2.0/24).
    #[arg(value_name = "SESSION|IDENTITY|DEVICE|NETWORK")]
    whom: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Kick {
    /// Ends sessions. Their clients may come back: `revoke` is for those who may not.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let whom = match &*self.whom {
            whom if whom.starts_with("sn-id-") => operator::Kick::Identity(whom.to_owned()),
            whom if whom.starts_with("sn-dev-") => operator::Kick::Device(whom.to_owned()),
            whom if whom.contains(['.', ':']) => operator::Kick::Network(whom.to_owned()),
            whom => operator::Kick::Session(whom.to_owned()),
        };
        let ended: Ended = serde_json::from_slice(&Relay::of(&self.state)?.post("/kick", &whom)?)?;
        if self.json {
            print_json(&ended)?;
        }
        heard(&ended)?;
        if ended.sessions == 0 {
            return Err(Exit::no("nobody of that name is connected"));
        }
        say(&format!("{} sessions ended", ended.sessions));
        Ok(())
    }
}
