//! `supernode follow`

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use supernode_server::control::follow::{Event, Target};

use crate::cli::{
    exit::Exit,
    output::{clock, print, say},
    relay::Relay,
    state::State,
};

const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    state: State,
    /// An identity (sn-id-...), a device (sn-dev-...), or an address or prefix (192.0.2.0/24).
    #[arg(value_name = "IDENTITY|DEVICE|NETWORK")]
    whom: String,
    /// End after so many seconds [default: by Ctrl-C].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Follow {
    /// Prints what one client does and is told, as it happens.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if Target::from_text(&self.whom).is_none() {
            return Err(Exit::NotFollowable { whom: self.whom.clone() }.into());
        }
        let relay = Relay::of(&self.state)?;
        let begin = Instant::now();
        let mut told = false;
        loop {
            let answer = relay.post("/follow", &json!({ "whom": self.whom }))?;
            if !std::mem::replace(&mut told, true) {
                say("following; nothing of it is kept, and it ends with this command");
            }
            for event in serde_json::from_slice::<Vec<Event>>(&answer)? {
                match self.json {
                    true => print(&format!("{}\n", serde_json::to_string(&event)?))?,
                    false => print(&format!("{} {}\n", clock(event.unix_ms), event.words))?,
                }
            }
            if self.seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds)) {
                return Ok(());
            }
            sleep(INTERVAL);
        }
    }
}
