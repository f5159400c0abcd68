//! `supernode invites`

use clap::{Args, Subcommand};
use serde_json::json;
use supernode_server::control::{
    invites::{self, Labelled},
    revocations::{Revocation, Revoked},
    serve::unix_now_s,
    state_dir::StateDir,
};

use super::revoke::{heard, tell};
use crate::cli::{
    exit::Exit,
    output::{date, print, print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Invites {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the invites that have a label, with when they end.
    List(List),
    /// Take back the invite with a label: refuse its token from now on, and end the sessions that came by it.
    Revoke(Revoke),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    state: State,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Revoke {
    #[command(flatten)]
    state: State,
    /// Its label.
    label: String,
}

impl Invites {
    /// Lists invites, or takes one back.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match &self.what {
            What::List(wanted) => wanted.run(),
            What::Revoke(wanted) => wanted.run(),
        }
    }
}

/// What has become of an invite.
fn standing(invite: &Labelled, revoked: &Revoked, now_unix_s: u64) -> &'static str {
    match () {
        () if revoked.contains(Revocation::Token(invite.token)) => "taken back",
        () if invite.ends_unix_s <= now_unix_s => "ended",
        () if invite.ends_unix_s <= now_unix_s + invites::WARN_S => "ends soon",
        () => "good",
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        let (all, revoked, now) = (invites::read(&state)?, Revoked::read(&state)?, unix_now_s());
        if self.json {
            let row = |one: &Labelled| {
                json!({
                    "label": one.label, "for": one.of.word(), "standing": standing(one, &revoked, now),
                    "made_unix_s": one.made_unix_s, "ends_unix_s": one.ends_unix_s, "token": one.token.to_text(),
                })
            };
            return print_json(&all.iter().map(row).collect::<Vec<_>>());
        }
        if all.is_empty() {
            say("no invite has a label (supernode invite --label); of those without, nothing is kept");
            return Ok(());
        }
        let width = all.iter().map(|one| one.label.chars().count()).max().unwrap_or(0).max("label".len());
        let mut text = format!("{:width$}  {:10}  {:10}  {:10}  standing\n", "label", "made", "ends", "for");
        for one in &all {
            let (made, ends) = (date(one.made_unix_s), date(one.ends_unix_s));
            let (of, standing) = (one.of.word(), standing(one, &revoked, now));
            text += &format!("{:width$}  {made}  {ends}  {of:10}  {standing}\n", one.label);
        }
        print(&text)
    }
}

impl Revoke {
    fn run(&self) -> anyhow::Result<()> {
        let relay = Relay::of(&self.state)?;
        let all = invites::read(relay.state())?;
        let Some(invite) = all.iter().rfind(|one| one.label == self.label) else {
            let known: Vec<String> = all.iter().map(|one| format!("{:?}", one.label)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Exit::NoLabel { label: self.label.clone(), known }.into());
        };
        if !Revoked::add(relay.state(), Revocation::Token(invite.token))? {
            return Err(Exit::no("it was taken back before"));
        }
        let ended = tell(&relay)?;
        heard(&ended)?;
        say(&format!("refused from now on; {} sessions ended", ended.sessions));
        Ok(())
    }
}
