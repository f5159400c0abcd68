//! `supernode sessions`

use clap::Args;
use serde_json::json;
use supernode_server::control::operator::{SESSIONS_MAX, Session};

use crate::cli::{
    output::{duration, print, print_json},
    relay::Relay,
    state::State,
};

/// Characters of an identity that are shown: enough to tell people apart, too few to be of use elsewhere.
const SHORT: usize = 14;

#[derive(Args)]
pub(crate) struct Sessions {
    #[command(flatten)]
    state: State,
    /// Show network addresses too.
    #[arg(long)]
    addresses: bool,
    /// Show whole identities, devices and digests of tokens, as `revoke` wants them.
    #[arg(long)]
    full: bool,
    /// List at most so many, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=SESSIONS_MAX as i64))]
    limit: u16,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Sessions {
    /// Lists who is connected.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let sessions: Vec<Session> = Relay::of(&self.state)?.get(&format!("/sessions?limit={}", self.limit))?;
        match self.json {
            true => print_json(&sessions.iter().map(|session| self.object(session)).collect::<Vec<_>>()),
            false => print(&self.table(&sessions)),
        }
    }

    fn short<'a>(&self, text: &'a str) -> &'a str {
        if self.full { text } else { text.get(..SHORT).unwrap_or(text) }
    }

    fn object(&self, session: &Session) -> serde_json::Value {
        let mut object = json!({
            "session": session.session,
            "identity": self.short(&session.identity),
            "device": self.short(&session.device),
            "age_s": session.age_s,
            "rtt_us": session.rtt_us,
            "over_tcp": session.over_tcp,
            "page": session.page,
            "rooms": session.rooms,
            "tracks": session.tracks,
            "subscriptions": session.subscriptions,
            "token": session.token.as_deref().map(|token| self.short(token)),
        });
        if self.addresses {
            object["address"] = json!(session.address);
        }
        object
    }

    fn table(&self, sessions: &[Session]) -> String {
        let mut rows = vec![
            ["SESSION", "IDENTITY", "DEVICE", "FOR", "RTT", "ROOMS", "TRACKS", "SUBSCRIBED", "TOKEN", "ADDRESS"]
                .map(str::to_owned),
        ];
        rows.extend(sessions.iter().map(|session| {
            [
                session.session.clone(),
                self.short(&session.identity).to_owned(),
                self.short(&session.device).to_owned(),
                duration(session.age_s),
                format!("{:.1} ms{}", session.rtt_us as f64 / 1e3, way(session)),
                session.rooms.to_string(),
                session.tracks.to_string(),
                session.subscriptions.to_string(),
                session.token.as_deref().map_or("-", |token| self.short(token)).to_owned(),
                session.address.to_string(),
            ]
        }));
        let columns = if self.addresses { 10 } else { 9 };
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &[String; 10]| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        rows.iter().map(line).collect()
    }
}

/// How a session travels, where that is not the usual way.
fn way(session: &Session) -> &'static str {
    match (session.over_tcp, session.page) {
        (true, _) => " (TCP)",
        (false, true) => " (page)",
        (false, false) => "",
    }
}
