//! `supernode serve`

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use supernode_server::control::{
    config::{Flag, Sources},
    log::Log,
    serve::{self, Start},
};

use super::state::{ConfigFile, configured};

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    flags: Flags,
    /// Replace the relay that runs with this state directory: calls go on, their clients move over within seconds.
    #[arg(long)]
    takeover: bool,
    /// Let debuggers of this user read the relay's memory, and let it leave a core: its keys are in both.
    #[arg(long)]
    pub(super) dumpable: bool,
}

/// What can be set here as well as in the file: an option wins.
#[derive(Args)]
pub(super) struct Flags {
    /// UDP address to listen on [default: port 4433 of every IPv6 and IPv4 address].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// TCP address for /metrics and /healthz; loopback only [default: 127.0.0.1:9464].
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Directory with the relay's keys [default: $XDG_STATE_HOME/supernode or ~/.local/state/supernode].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Admit everybody, without a token.
    #[arg(long)]
    open: bool,
    /// Threads, each with its own UDP socket, 1 to 256 [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// Microseconds that objects may wait to share a packet, 0 to 10000: more saves CPU and adds delay; 0 is off
    /// [default: 500].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    batch_window_us: Option<u64>,
    /// Seconds that calls may go on after the relay was told to end, 0 to 3600 [default: 60].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=3600))]
    drain_patience_s: Option<u64>,
}

impl Flags {
    /// The keys that were set.
    pub(super) fn to_keys(&self) -> anyhow::Result<Vec<Flag>> {
        let state_dir = self.state_dir.as_ref().map(std::path::absolute).transpose()?;
        let flag = |flag, path, value: Option<String>| value.map(|value| Flag { flag, path, value });
        let flags = [
            flag("--listen", "relay.listen", self.listen.map(|value| value.to_string())),
            flag("--admin", "admin.listen", self.admin.map(|value| value.to_string())),
            flag("--state-dir", "relay.state_dir", state_dir.map(|value| value.display().to_string())),
            flag("--open", "admission.mode", self.open.then(|| "open".to_owned())),
            flag("--shards", "relay.shards", self.shards.map(|value| value.to_string())),
            flag("--batch-window-us", "relay.batch_window_us", self.batch_window_us.map(|value| value.to_string())),
            flag("--drain-patience-s", "relay.drain_patience_s", self.drain_patience_s.map(|value| value.to_string())),
        ];
        Ok(flags.into_iter().flatten().collect())
    }
}

impl Serve {
    /// Runs the relay until it is told to end.
    pub(super) fn run(self, log: &Log) -> anyhow::Result<()> {
        let sources = Sources::of_process(self.config.path, self.flags.to_keys()?);
        let loaded = sources.load()?;
        let state_dir = configured(&loaded)?;
        let (change_log, left_out) = (Box::new(log.change()), log.left_out());
        serve::run(Start { sources, loaded, state_dir, takeover: self.takeover, change_log, left_out })?;
        Ok(())
    }
}
