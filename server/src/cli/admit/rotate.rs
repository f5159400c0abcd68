//! `supernode rotate`

use clap::{Args, Subcommand};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use supernode_server::control::{
    relay_key::rotate_relay_key, rotation::rotate_admission_key, serve::unix_now_s, state_dir::StateDir,
};

use crate::cli::{
    output::{print_json, say},
    state::State,
};

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Sign invites with a new key; those that the old one signed let people in for a while longer.
    AdmissionKey(AdmissionKey),
    /// Be known by a new key and pin; clients with a link to the old pin follow for a while longer.
    RelayKey(RelayKey),
}

#[derive(Args)]
struct RelayKey {
    #[command(flatten)]
    state: State,
    /// Days for which clients with a link to the old pin get in, 1 to 366.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=366))]
    keep_days: u16,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct AdmissionKey {
    #[command(flatten)]
    state: State,
    /// Days for which what the old key signed is still good, 0 to 366; 0 ends it, and everybody's session by it, at once.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=366))]
    keep_days: u16,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Rotate {
    /// Makes the new key. A running relay sees it by itself.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match &self.what {
            What::AdmissionKey(wanted) => wanted.run(),
            What::RelayKey(wanted) => wanted.run(),
        }
    }
}

impl AdmissionKey {
    fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        let kept = rotate_admission_key(&state, seconds(self.keep_days), unix_now_s())?;
        if self.json {
            let ends: Vec<u64> = kept.iter().map(|key| key.ends_unix_s).collect();
            print_json(&json!({ "keys_before_end_unix_s": ends }))?;
        }
        let rest = match self.keep_days {
            0 => "every earlier one is of no use any more".to_owned(),
            days => format!("those of the old key let people in for {days} days more"),
        };
        say(&format!("invites are signed with a new key from now on; {rest}; a running relay follows within 3 s"));
        Ok(())
    }
}

impl RelayKey {
    fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        let now = unix_now_s();
        let pin = rotate_relay_key(&state, seconds(self.keep_days), now)?;
        if self.json {
            let (pin, ends) = (BASE64URL_NOPAD.encode(&pin.0), now + seconds(self.keep_days));
            print_json(&json!({ "pin": pin, "pin_before_ends_unix_s": ends }))?;
        }
        say(&format!(
            "new invites carry a new pin; links to the old one lead here for {} days more: give people new ones before; a \
             running relay follows within 3 s",
            self.keep_days
        ));
        Ok(())
    }
}

fn seconds(days: u16) -> u64 {
    u64::from(days) * 24 * 3600
}
