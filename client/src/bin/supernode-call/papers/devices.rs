//! Our devices: how a new one comes to act for us without having our identity's key, and how one is taken back.

use std::path::PathBuf;

use clap::Subcommand;
use supernode_client::proto::identity::{Delegation, DeviceKey};

use super::identity;
use crate::{failure::Failure, say};

/// What can be done with devices.
#[derive(Subcommand)]
pub(crate) enum DevicesCommand {
    /// Prints our devices as this identity file knows them: public name, until when, and what we call it.
    List {
        /// Our identity file.
        #[arg(long)]
        identity: PathBuf,
    },
    /// On a new device: makes its key and prints its public name, which the device with our identity's key signs.
    Request {
        /// File for the new device's key, which must not exist yet; readable by its owner only.
        #[arg(long)]
        out: PathBuf,
        /// A name to remember the file by; never sent anywhere.
        #[arg(long)]
        name: Option<String>,
    },
    /// On the device with our identity's key: certifies the device of that public name, and prints what it is to be given.
    /// Compare the name with what the new device shows: whoever has that device acts for us from then on.
    Sign {
        /// Our identity file.
        #[arg(long)]
        identity: PathBuf,
        /// What the new device has printed.
        #[arg(value_name = "DEVICE", value_parser = parse_device)]
        device: DeviceKey,
        /// What we call it.
        #[arg(long)]
        name: Option<String>,
        /// How long it may act for us.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
    },
    /// On the new device: keeps what the other one has printed.
    Accept {
        /// The file that `devices request` has made.
        #[arg(long)]
        identity: PathBuf,
        /// What the other device has printed.
        #[arg(value_name = "DELEGATION", value_parser = parse_delegation)]
        delegation: Box<Delegation>,
    },
    /// On the device with our identity's key: takes a device back. The relay and our other devices know once this one is
    /// online; others when they ring us or we ring them.
    Revoke {
        /// Our identity file.
        #[arg(long)]
        identity: PathBuf,
        /// Its public name.
        #[arg(value_name = "DEVICE", value_parser = parse_device)]
        device: DeviceKey,
    },
}

/// Carries a command out.
pub(crate) fn run(command: DevicesCommand) -> Result<(), Failure> {
    match command {
        DevicesCommand::List { identity } => identity::devices(&identity)?.iter().try_for_each(|line| say(line)),
        DevicesCommand::Request { out, name } => say(&identity::request_device(&out, name)?),
        DevicesCommand::Sign { identity, device, name, days } => {
            say(&identity::sign_device(&identity, device, name, days)?)
        }
        DevicesCommand::Accept { identity, delegation } => say(&identity::accept_delegation(&identity, &delegation)?),
        DevicesCommand::Revoke { identity, device } => Ok(identity::revoke_device(&identity, device)?),
    }
}

fn parse_device(text: &str) -> Result<DeviceKey, String> {
    DeviceKey::from_text(text).map_err(|error| error.to_string())
}

fn parse_delegation(text: &str) -> Result<Box<Delegation>, String> {
    Delegation::from_text(text).map(Box::new).map_err(|error| error.to_string())
}
