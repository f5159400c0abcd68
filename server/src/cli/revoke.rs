//! `supernode revoke`

use anyhow::bail;
use clap::Args;
use serde_json::json;
use supernode_proto::{identity::IdentityKey, invite::Invite};
use supernode_server::{
    control::{
        operator::Ended,
        revocations::{Revocation, Revoked},
    },
    core::TokenDigest,
};

use super::{
    exit::Exit,
    output::{print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    state: State,
    /// An identity (sn-id-...), an invite link, or the digest of a token as `supernode sessions --full` shows it; `-`
    /// reads it from standard input, where other users of this machine cannot see it.
    #[arg(value_name = "IDENTITY|LINK|DIGEST")]
    what: String,
    /// Let it in again.
    #[arg(long)]
    undo: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    /// Refuses an identity or a token from now on, also after a restart, and ends its sessions.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let what = match self.what.as_str() {
            "-" => std::io::read_to_string(std::io::stdin())?,
            what => what.to_owned(),
        };
        let revocation = parse(what.trim())?;
        let relay = Relay::of(&self.state)?;
        let changed = match self.undo {
            true => Revoked::remove(relay.state(), revocation)?,
            false => Revoked::add(relay.state(), revocation)?,
        };
        let running = relay.is_running()?;
        let ended: Ended = match running {
            true => serde_json::from_slice(&relay.post("/revoked", &json!({}))?)?,
            false => Ended { sessions: 0 },
        };
        if self.json {
            print_json(&json!({ "changed": changed, "running": running, "sessions": ended.sessions }))?;
        }
        match (changed, self.undo) {
            (false, true) => return Err(Exit::No("it was not revoked".to_owned()).into()),
            (false, false) => return Err(Exit::No("it was revoked before".to_owned()).into()),
            (true, true) => say("let in again"),
            (true, false) => say(&format!("refused from now on; {} sessions ended", ended.sessions)),
        }
        Ok(())
    }
}

fn parse(what: &str) -> anyhow::Result<Revocation> {
    if let Ok(identity) = IdentityKey::from_text(what) {
        return Ok(Revocation::Identity(identity));
    }
    if let Some(token) = TokenDigest::from_text(what) {
        return Ok(Revocation::Token(token));
    }
    if let Ok(invite) = what.parse::<Invite>() {
        let Some(token) = invite.token.as_deref().and_then(TokenDigest::of) else {
            bail!("the link carries no token: revoke the identity instead");
        };
        return Ok(Revocation::Token(token));
    }
    bail!("neither an identity (sn-id-...), nor an invite link, nor a digest of 22 characters");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_a_link_and_a_digest_are_told_apart() {
        let identity = IdentityKey::new([7; 32]);
        assert_eq!(parse(&identity.to_text()).expect("an identity"), Revocation::Identity(identity));
        let digest = TokenDigest::of("a.b.c").expect("a token");
        assert_eq!(parse(&digest.to_text()).expect("a digest"), Revocation::Token(digest));
        assert_eq!(parse("supernode://192.0.2.1/?token=a.b.c").expect("a link"), Revocation::Token(digest));
        assert!(parse("supernode://192.0.2.1/").is_err());
        assert!(parse("a.b.c").is_err());
    }
}
