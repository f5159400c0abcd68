//! `supernode drain`

use std::time::Duration;

use clap::Args;
use supernode_proto::invite::HostPort;
use supernode_server::control::operator;

use crate::cli::{
    output::{print_json, say},
    relay::Relay,
    state::State,
};

/// How often the end is looked for.
const POLL: Duration = Duration::from_millis(200);

/// For a relay that does not say what it is configured to have.
const PATIENCE_S: u64 = 60;

#[derive(Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    state: State,
    /// Seconds that calls may go on, 0 to 3600; without calls the relay ends sooner [default: the running relay's
    /// relay.drain_patience_s].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=3600))]
    patience_s: Option<u64>,
    /// Where the clients are to go: another relay with the same key [default: wherever else their invites lead].
    #[arg(long, value_name = "HOST[:PORT]")]
    to: Option<HostPort>,
    /// Return only when the relay has ended.
    #[arg(long)]
    wait: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Drain {
    /// Tells the running relay to end in order.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let relay = Relay::of(&self.state)?;
        let before = relay.status()?;
        let patience_s = self.patience_s.or(before.drain_patience_s).unwrap_or(PATIENCE_S);
        relay.post("/drain", &operator::Drain { patience_s, to: self.to.as_ref().map(ToString::to_string) })?;
        say(&format!(
            "the relay drains: {} sessions in {} rooms have at most {patience_s} s",
            before.sessions, before.rooms
        ));
        while self.wait && relay.is_running()? {
            std::thread::sleep(POLL);
        }
        if self.json {
            print_json(&serde_json::json!({
                "sessions": before.sessions,
                "rooms": before.rooms,
                "patience_s": patience_s,
                "to": self.to.as_ref().map(ToString::to_string),
                "ended": self.wait,
            }))?;
        }
        Ok(())
    }
}
