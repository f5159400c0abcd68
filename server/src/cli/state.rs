//! Which relay of this machine a command is about.

use std::path::PathBuf;

use clap::Args;
use supernode_server::control::{
    config::{Loaded, Sources},
    state_dir::StateDir,
};

/// Names the configuration's file.
#[derive(Args)]
pub(super) struct ConfigFile {
    /// Configuration [default: /etc/supernode/supernode.toml if it is there].
    #[arg(long = "config", value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
}

/// Names the state directory.
#[derive(Args)]
pub(super) struct State {
    #[command(flatten)]
    config: ConfigFile,
    /// Directory with the relay's keys [default: as configured, else $XDG_STATE_HOME/supernode or
    /// ~/.local/state/supernode].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl State {
    /// The directory that was named, or configured, or the usual one.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.state_dir {
            Some(path) => Ok(path.clone()),
            None => configured(&self.configuration()?),
        }
    }

    /// As [`Self::path`]; if the configuration does not say because it is of no use, the usual one.
    pub(super) fn path_despite(&self, configuration: &anyhow::Result<Loaded>) -> anyhow::Result<PathBuf> {
        match (&self.state_dir, configuration) {
            (Some(path), _) => Ok(path.clone()),
            (None, Ok(loaded)) => configured(loaded),
            (None, Err(_)) => usual(),
        }
    }

    /// The configuration that was named, or the usual one.
    pub(super) fn configuration(&self) -> anyhow::Result<Loaded> {
        Ok(Sources::of_process(self.config.path.clone(), Vec::new()).load()?)
    }
}

/// The directory of a configuration.
pub(super) fn configured(loaded: &Loaded) -> anyhow::Result<PathBuf> {
    match &loaded.config.relay.state_dir {
        Some(path) => Ok(path.clone()),
        None => usual(),
    }
}

fn usual() -> anyhow::Result<PathBuf> {
    Ok(StateDir::default_path(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?)
}
