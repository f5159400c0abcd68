//! Which relay of this machine a command is about.

use std::path::{Path, PathBuf};

use clap::Args;
use supernode_server::control::{
    config::{Loaded, Sources},
    state_dir::{Door, StateDir},
};

use super::{exit::Exit, output::say};

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
    /// ~/.local/state/supernode, or the service's /var/lib/supernode if only there a relay runs].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl State {
    /// The directory that was named, or configured, or that a relay of this machine has.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.state_dir {
            Some(path) => Ok(path.clone()),
            None => of_machine(&self.configuration()?),
        }
    }

    /// As [`Self::path`]; if the configuration does not say because it is of no use, the usual one.
    pub(super) fn path_despite(&self, configuration: &anyhow::Result<Loaded>) -> anyhow::Result<PathBuf> {
        match (&self.state_dir, configuration) {
            (Some(path), _) => Ok(path.clone()),
            (None, Ok(loaded)) => of_machine(loaded),
            (None, Err(_)) => found(),
        }
    }

    /// The configuration that was named, or the usual one.
    pub(super) fn configuration(&self) -> anyhow::Result<Loaded> {
        Ok(Sources::of_process(self.config.path.clone(), Vec::new()).load()?)
    }
}

/// The directory of a relay that would start with a configuration.
pub(super) fn configured(loaded: &Loaded) -> anyhow::Result<PathBuf> {
    match &loaded.config.relay.state_dir {
        Some(path) => Ok(path.clone()),
        None => usual(),
    }
}

/// The directory of the relay that a command is about which names none.
pub(super) fn of_machine(loaded: &Loaded) -> anyhow::Result<PathBuf> {
    match &loaded.config.relay.state_dir {
        Some(path) => Ok(path.clone()),
        None => found(),
    }
}

fn usual() -> anyhow::Result<PathBuf> {
    Ok(StateDir::default_path(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?)
}

/// Where the shipped unit has the keys. Its user exists only while it runs, so nobody but root can open it.
const OF_SERVICE: &str = "/var/lib/supernode";

/// The usual directory, or that of the service: whose relay runs, else which is there.
pub(super) fn found() -> anyhow::Result<PathBuf> {
    let service = Path::new(OF_SERVICE);
    let usual = usual();
    let Ok(own) = &usual else { return if service.is_dir() { Ok(service.to_owned()) } else { usual } };
    let runs = |path: &Path| {
        let state = StateDir::open(path);
        state.is_ok_and(|state| state.knock(Door::Control).is_ok_and(|door| door.is_some()))
    };
    if own == service || runs(own) || service.symlink_metadata().is_err() {
        return usual;
    }
    match StateDir::open(service) {
        Ok(_) if !own.exists() || runs(service) => {
            say(&format!("this is about the service's relay, in {OF_SERVICE}"));
            Ok(service.to_owned())
        }
        Err(_) if !own.exists() => Err(Exit::ForRoot { own: own.display().to_string(), service: OF_SERVICE }.into()),
        _ => usual,
    }
}
