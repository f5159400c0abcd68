//! A link by which somebody can knock at a room: the relay, the room, and a ticket to ring one of its members.
//!
//! ```text
//! supernode://HOST:PORT/?pin=BASE64URL&room=BASE32&ticket=TICKET&secret=BASE32[&token=TOKEN]
//! ```
//!
//! It is an invite link with three more parts. The relay sees the room and the ticket when somebody knocks, and never the
//! secret: from it come the ticket's key, and the proof for whoever is at the door that the guest has the link.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use supernode_e2ee::{LinkSecret, Pass};
use supernode_proto::{
    identity::{IdentityError, RoomId, Ticket},
    invite::{Invite, InviteError},
};
use zeroize::Zeroizing;

/// A parsed link (R-126). `Display` gives the link back: keep it out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomLink {
    /// How to reach the relay, with an admission token or without.
    pub relay: Invite,
    /// Which room.
    pub room: RoomId,
    /// Whom to ring.
    pub ticket: Ticket,
    /// What the relay never sees.
    pub secret: LinkSecret,
}

impl RoomLink {
    /// What rings the member.
    ///
    /// # Errors
    /// [`RoomLinkError::Secret`] if the ticket's key does not come from the secret.
    pub fn pass(&self) -> Result<Pass, RoomLinkError> {
        Pass::new(self.ticket.clone(), Some(self.secret.ticket_secret())).map_err(|_| RoomLinkError::Secret)
    }
}

/// Why text is no room link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomLinkError {
    /// `room=` is missing, there twice, or not 16 bytes in base32.
    #[error("the room link's room is not given once as 16 bytes in base32 without padding")]
    Room,
    /// `ticket=` is missing or there twice.
    #[error("the room link's ticket is not given once")]
    Ticket,
    /// The ticket is none.
    #[error("the room link's ticket")]
    BadTicket(#[source] IdentityError),
    /// `secret=` is missing, there twice, not 32 bytes in base32, or not that of the ticket's key.
    #[error("the room link's secret is not given once as the 32 bytes in base32 from which the ticket's key comes")]
    Secret,
    /// The rest is no invite link.
    #[error("the room link's relay")]
    Relay(#[source] InviteError),
}

impl FromStr for RoomLink {
    type Err = RoomLinkError;

    fn from_str(text: &str) -> Result<Self, RoomLinkError> {
        let (address, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let (mut room, mut ticket, mut secret, mut rest) = (None, None, None, Vec::new());
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("room", value)) if room.is_none() => room = Some(parse_room(value)?),
                Some(("room", _)) => return Err(RoomLinkError::Room),
                Some(("ticket", value)) if ticket.is_none() => {
                    ticket = Some(Ticket::from_text(value).map_err(RoomLinkError::BadTicket)?);
                }
                Some(("ticket", _)) => return Err(RoomLinkError::Ticket),
                Some(("secret", value)) if secret.is_none() => secret = Some(parse_secret(value)?),
                Some(("secret", _)) => return Err(RoomLinkError::Secret),
                _ => rest.push(part),
            }
        }
        let relay = format!("{address}?{}", rest.join("&"));
        let link = Self {
            relay: relay.parse().map_err(RoomLinkError::Relay)?,
            room: room.ok_or(RoomLinkError::Room)?,
            ticket: ticket.ok_or(RoomLinkError::Ticket)?,
            secret: secret.ok_or(RoomLinkError::Secret)?,
        };
        link.pass().map(|_| link)
    }
}

impl fmt::Display for RoomLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relay = self.relay.to_string();
        let joint = if relay.contains('?') { '&' } else { '?' };
        let base32 = |bytes: &[u8]| BASE32_NOPAD.encode(bytes).to_ascii_lowercase();
        let (room, secret) = (base32(&self.room.0), base32(self.secret.as_bytes()));
        write!(f, "{relay}{joint}room={room}&ticket={}&secret={secret}", self.ticket.to_text())
    }
}

impl fmt::Debug for RoomLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomLink(..)")
    }
}

fn parse_room(value: &str) -> Result<RoomId, RoomLinkError> {
    let bytes = BASE32_NOPAD.decode(value.to_ascii_uppercase().as_bytes()).map_err(|_| RoomLinkError::Room)?;
    RoomId::from_slice(&bytes).map_err(|_| RoomLinkError::Room)
}

fn parse_secret(value: &str) -> Result<LinkSecret, RoomLinkError> {
    let bytes = BASE32_NOPAD.decode(value.to_ascii_uppercase().as_bytes()).map_err(|_| RoomLinkError::Secret)?;
    LinkSecret::from_slice(&Zeroizing::new(bytes)).map_err(|_| RoomLinkError::Secret)
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{IdentitySecret, Terms};
    use supernode_proto::identity::{Grants, RelayPin};

    use super::*;

    fn link() -> RoomLink {
        let secret = LinkSecret::from_slice(&[5; 32]).expect("32 bytes");
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: 1_900_000_000 };
        let pass = IdentitySecret::from_bytes(&[7; 32]).issue_pass_with(secret.ticket_secret(), &terms);
        let ticket = pass.ticket().clone();
        let relay = Invite { host: "relay.example".into(), port: 4433, pin: Some(RelayPin([9; 32])), token: None };
        RoomLink { relay, room: RoomId([3; 16]), ticket, secret }
    }

    // R-126
    #[test]
    fn a_room_link_comes_back_with_and_without_what_an_invite_may_have() {
        let plain = link();
        let with_token = RoomLink { relay: Invite { token: Some("a.b.c".into()), ..link().relay }, ..link() };
        let without_pin = RoomLink { relay: Invite { pin: None, ..link().relay }, ..link() };
        for link in [plain, with_token, without_pin] {
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        assert_eq!(format!("{:?}", link()), "RoomLink(..)");
    }

    // R-126
    #[test]
    fn what_is_wrong_with_a_room_link_is_named() {
        let parse = |text: String| text.parse::<RoomLink>().expect_err("wrong").to_string();
        let good = link().to_string();
        assert!(parse(link().relay.to_string()).contains("room is not given once"));
        assert!(parse(format!("{good}&room=aaaa")).contains("room is not given once"));
        assert!(parse(format!("{good}&ticket=x")).contains("ticket is not given once"));
        assert!(parse(good.replace("room=", "room=1")).contains("room is not given once"));
        assert!(parse(good.replace("sn-ticket-", "sn-id-")).contains("ticket"));
        assert!(parse(format!("{good}&secret=aaaa")).contains("secret is not given once"));
        assert!(parse(good.replace("&secret=a", "&secret=b")).contains("secret is not given once"), "not the ticket's");
        assert!(parse(good.split("&secret=").next().expect("what is before it").into()).contains("secret"));
        assert!(parse(good.replace("supernode:", "http:")).contains("relay"));
        assert!(good.parse::<Invite>().is_err(), "a client that knows no rooms refuses it");
    }
}
