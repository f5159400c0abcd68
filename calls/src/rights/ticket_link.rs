//! A link by which a person is rung: the relay, and that person's ticket.
//!
//! ```text
//! supernode://HOST:PORT/?pin=BASE64URL&ticket=sn-pass-BASE32[&token=TOKEN]
//! ```
//!
//! It is an invite link with one more part, for pages, which have one link and nothing else; programs take both apart.

use std::{fmt, str::FromStr};

use supernode_e2ee::Pass;
use supernode_proto::{
    identity::IdentityError,
    invite::{Invite, InviteError},
};

/// A parsed link (R-241). `Display` gives the link back: keep it out of logs.
#[derive(Clone)]
pub struct TicketLink {
    /// How to reach the relay, with an admission token or without.
    pub relay: Invite,
    /// What lets its holder ring.
    pub pass: Pass,
}

/// Why text is no such link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketLinkError {
    /// `ticket=` is missing or there twice.
    #[error("the link has no ticket, or two")]
    Missing,
    /// It is no ticket.
    #[error("the link's ticket")]
    Ticket(#[source] IdentityError),
    /// The rest is no invite link.
    #[error("the link's relay")]
    Relay(#[source] InviteError),
}

impl FromStr for TicketLink {
    type Err = TicketLinkError;

    fn from_str(text: &str) -> Result<Self, TicketLinkError> {
        let (address, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let (mut ticket, mut rest) = (None, Vec::new());
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("ticket", value)) if ticket.is_none() => ticket = Some(value),
                Some(("ticket", _)) => return Err(TicketLinkError::Missing),
                _ => rest.push(part),
            }
        }
        let relay = format!("{address}?{}", rest.join("&")).parse().map_err(TicketLinkError::Relay)?;
        let pass = Pass::from_text(ticket.ok_or(TicketLinkError::Missing)?).map_err(TicketLinkError::Ticket)?;
        Ok(Self { relay, pass })
    }
}

impl fmt::Display for TicketLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relay = self.relay.to_string();
        let joint = if relay.contains('?') { '&' } else { '?' };
        write!(f, "{relay}{joint}ticket={}", *self.pass.to_text())
    }
}

impl fmt::Debug for TicketLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketLink(..)")
    }
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{IdentitySecret, Terms};
    use supernode_proto::identity::{Grants, RelayPin};

    use super::*;

    fn link() -> TicketLink {
        let relay = Invite {
            host: "relay.example".into(),
            port: 4433,
            also: vec!["[2001:db8::1]:9".parse().expect("an address")],
            tcp: Some(443),
            pages: Some(4480),
            pin: Some(RelayPin([9; 32])),
            token: Some("a.b.c".into()),
        };
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: 1_900_000_000 };
        TicketLink { relay, pass: IdentitySecret::from_bytes(&[7; 32]).issue_pass(&terms) }
    }

    // R-241
    #[test]
    fn a_ticket_s_link_comes_back_and_what_is_wrong_with_one_is_named() {
        let good = link().to_string();
        assert_eq!(good.parse::<TicketLink>().expect("valid").to_string(), good);
        assert_eq!(format!("{:?}", link()), "TicketLink(..)");
        let error = |text: String| text.parse::<TicketLink>().expect_err("wrong");
        assert_eq!(error(link().relay.to_string()), TicketLinkError::Missing);
        assert_eq!(error(format!("{good}&ticket=x")), TicketLinkError::Missing);
        assert!(matches!(error(good.replace("sn-pass-", "sn-pass-1")), TicketLinkError::Ticket(_)));
        assert!(matches!(error(format!("{good}&room=x")), TicketLinkError::Relay(_)), "a part that nobody knows");
        assert!(good.parse::<Invite>().is_err(), "a client that knows no such link refuses it");
    }
}
