//! `supernode revoke`

use clap::Args;
use serde_json::json;
use supernode_proto::{
    identity::{DeviceKey, IdentityKey},
    invite::Invite,
    page_link,
};
use supernode_server::{
    control::{
        operator::Ended,
        revocations::{Revocation, Revoked},
    },
    core::TokenDigest,
};

use crate::cli::{
    exit::Exit,
    output::{print_json, say},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    state: State,
    /// An identity (sn-id-...), a device (sn-dev-...), an invite link, the digest of a token as `supernode sessions
    /// --full` shows it, or an address or prefix (192.0.2.0/24, 2001:db8::/56); `-` reads it from standard input, where
    /// other users of this machine cannot see it.
    #[arg(value_name = "IDENTITY|DEVICE|LINK|DIGEST|NETWORK")]
    what: String,
    /// Let it in again.
    #[arg(long)]
    undo: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    /// Refuses it from now on, also after a restart, and ends its sessions.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
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
        let ended = tell(&relay)?;
        if self.json {
            let Ended { sessions, unheard } = &ended;
            print_json(&json!({ "changed": changed, "running": running, "sessions": sessions, "unheard": unheard }))?;
        }
        heard(&ended)?;
        match (changed, self.undo) {
            (false, true) => return Err(Exit::no("it was not revoked")),
            (false, false) => return Err(Exit::no("it was revoked before")),
            (true, true) => say("let in again"),
            (true, false) => say(&format!("refused from now on; {} sessions ended", ended.sessions)),
        }
        Ok(())
    }
}

/// Has the relay, if it runs, read the list of those who are refused again.
pub(crate) fn tell(relay: &Relay) -> anyhow::Result<Ended> {
    match relay.is_running()? {
        true => Ok(serde_json::from_slice(&relay.post("/revoked", &json!({}))?)?),
        false => Ok(Ended::default()),
    }
}

/// Whether every process of the relay has done it.
pub(crate) fn heard(ended: &Ended) -> anyhow::Result<()> {
    match &ended.unheard {
        Some(why) => Err(Exit::Unheard { sessions: ended.sessions, why: why.clone() }.into()),
        None => Ok(()),
    }
}

fn parse(what: &str) -> anyhow::Result<Revocation> {
    if let Ok(device) = DeviceKey::from_text(what) {
        return Ok(Revocation::Device(device));
    }
    if let Ok(network) = what.parse() {
        return Ok(Revocation::Network(network));
    }
    if let Ok(identity) = IdentityKey::from_text(what) {
        return Ok(Revocation::Identity(identity));
    }
    if let Some(token) = TokenDigest::from_text(what) {
        return Ok(Revocation::Token(token));
    }
    let link = page_link::unpaged(what).unwrap_or_default();
    if let Ok(invite) = link.parse::<Invite>() {
        let Some(token) = invite.token.as_deref().and_then(TokenDigest::of) else {
            return Err(Exit::NoToken.into());
        };
        return Ok(Revocation::Token(token));
    }
    Err(Exit::NotRevocable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_a_device_a_link_a_digest_and_a_network_are_told_apart() {
        let device = DeviceKey::new([8; 32]);
        assert_eq!(parse(&device.to_text()).expect("a device"), Revocation::Device(device));
        let network = "192.0.2.0/24".parse().expect("a prefix");
        assert_eq!(parse("192.0.2.0/24").expect("a prefix"), Revocation::Network(network));
        assert!(parse("192.0.2.1/24").is_err(), "more than was meant would be refused");
        let identity = IdentityKey::new([7; 32]);
        assert_eq!(parse(&identity.to_text()).expect("an identity"), Revocation::Identity(identity));
        let digest = TokenDigest::of("a.b.c").expect("a token");
        assert_eq!(parse(&digest.to_text()).expect("a digest"), Revocation::Token(digest));
        assert_eq!(parse("supernode://192.0.2.1/?token=a.b.c").expect("a link"), Revocation::Token(digest));
        let paged = "https://page.example/#supernode://192.0.2.1/?token=a.b.c";
        assert_eq!(parse(paged).expect("a link to a page"), Revocation::Token(digest));
        assert!(parse("supernode://192.0.2.1/").is_err());
        assert!(parse("a.b.c").is_err());
    }
}
