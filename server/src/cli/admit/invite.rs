//! `supernode invite`

use std::io::IsTerminal;

use clap::Args;
use serde_json::json;
use supernode_proto::{identity::IdentityKey, invite::Invite as Link, page_link::PageUrl};
use supernode_server::{
    control::{
        invite::{InviteRequest, create_invite},
        invites::{self, For, Labelled},
        serve::unix_now_s,
        state_dir::StateDir,
    },
    core::TokenDigest,
};

use crate::cli::{
    exit::Exit,
    output::{date, print, print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Invite {
    #[command(flatten)]
    state: State,
    /// Where clients reach the relay; given again, where else there is one with the same key and TCP ports, to be tried after
    /// it, eight in all [default: the addresses of its last start].
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Vec<String>,
    /// The only identity the link is good for (sn-id-...) [default: whoever has the link].
    #[arg(long = "for", value_name = "IDENTITY", value_parser = IdentityKey::from_text)]
    identity: Option<IdentityKey>,
    /// Days for which the link lets people in, 1 to 366.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// Good for the first device that uses the link only; that one may come back with it.
    #[arg(long)]
    once: bool,
    /// The class of limits (`admission.classes`) that the link grants; the relay must be running.
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// A name for `supernode invites`, which lists this link then and can take it back; it is written to the state
    /// directory, with the dates. Without a label nothing of the link is kept.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Print a link that opens the page in a browser, and draw it for a telephone's camera where a terminal reads it. What lets
    /// people in is behind its `#`, where browsers keep it from whoever serves the page.
    #[arg(long)]
    web: bool,
    /// Where the page is, with --web [default: web.page_url, or where this relay serves it].
    #[arg(long, value_name = "URL", requires = "web")]
    page: Option<PageUrl>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Invite {
    /// Prints a new link.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        if let Some(class) = &self.class {
            self.check_class(class)?;
        }
        let host = (!self.host.is_empty()).then(|| self.host.join(","));
        let request = InviteRequest {
            host: host.as_deref(),
            identity: self.identity.as_ref(),
            days: self.days,
            once: self.once,
            class: self.class.as_deref(),
        };
        let page = if self.web { Some(self.page_in(&state)?) } else { None };
        let now = unix_now_s();
        if let Some(label) = &self.label {
            invites::check_label(label)?;
        }
        let link = create_invite(&state, &request, now, rand::random())?;
        let ends = now + u64::from(self.days) * 24 * 3600;
        if let Some(label) = &self.label {
            self.write_down(&state, label, &link, now, ends)?;
        }
        if self.json {
            let token = link.token.as_deref().and_then(TokenDigest::of).map(TokenDigest::to_text);
            let page = page.map(|page| page.with(&link.to_string()));
            let text = link.to_string();
            return print_json(&json!({ "invite": text, "page": page, "ends_unix_s": ends, "token": token }));
        }
        match page {
            Some(page) => print_for_people(&page.with(&link.to_string()))?,
            None => print(&format!("{link}\n"))?,
        }
        let whom = match self.of() {
            For::Anybody => "whoever has it",
            For::OneUse => "the first device that uses it",
            For::OnePerson => "that identity only",
        };
        say(&format!("good for {whom} until {} ({} days)", date(ends), self.days));
        Ok(())
    }

    fn page_in(&self, state: &StateDir) -> anyhow::Result<PageUrl> {
        match &self.page {
            Some(page) => Ok(page.clone()),
            None => Ok(state.page()?.ok_or(Exit::NoPage)?),
        }
    }

    fn of(&self) -> For {
        match () {
            () if self.identity.is_some() => For::OnePerson,
            () if self.once => For::OneUse,
            () => For::Anybody,
        }
    }

    fn write_down(&self, state: &StateDir, label: &str, link: &Link, now: u64, ends: u64) -> anyhow::Result<()> {
        let token = link.token.as_deref().and_then(TokenDigest::of).ok_or(Exit::NoToken)?;
        let labelled = Labelled { label: label.to_owned(), token, made_unix_s: now, ends_unix_s: ends, of: self.of() };
        Ok(invites::add(state, labelled, now)?)
    }

    /// A link that names a class which the relay does not have would let nobody in.
    fn check_class(&self, class: &str) -> anyhow::Result<()> {
        let known: Vec<String> = Relay::of(&self.state)?.get("/classes")?;
        if known.iter().any(|name| name == class) {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Exit::NoClass { class: class.to_owned(), known }.into())
    }
}

/// A link, and where a terminal reads it, the same for a camera.
fn print_for_people(link: &str) -> anyhow::Result<()> {
    print(&format!("{link}\n"))?;
    if !std::io::stdout().is_terminal() {
        return Ok(());
    }
    let Some(picture) = supernode_qr::picture(link) else { return Ok(()) };
    let (needed, there) = (supernode_qr::columns(&picture), crossterm::terminal::size());
    if there.is_ok_and(|(columns, _)| usize::from(columns) < needed) {
        say(&format!("its QR code takes {needed} columns, and this terminal has less: widen it to see the code"));
        return Ok(());
    }
    print(&picture)
}
