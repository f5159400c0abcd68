//! A link to a room that stands: the relay, and the room's secret.
//!
//! ```text
//! supernode://HOST:PORT/?pin=BASE64URL&room=BASE32[&token=TOKEN]
//! ```
//!
//! It is an invite link with one more part. The relay never sees the secret: from it come the room's name, the key that
//! opens it, and what guest and member show each other at the door.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use supernode_e2ee::LinkSecret;
use supernode_proto::invite::{Invite, InviteError};
use zeroize::Zeroizing;

/// A parsed link (R-126). `Display` gives the link back: keep it out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomLink {
    /// How to reach the relay, with an admission token or without.
    pub relay: Invite,
    /// What the relay never sees.
    pub secret: LinkSecret,
}

/// Why text is no room link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomLinkError {
    /// `room=` is missing, there twice, or not 32 bytes in base32.
    #[error("the room link's room is not given once as 32 bytes in base32 without padding")]
    Room,
    /// The rest is no invite link.
    #[error("the room link's relay")]
    Relay(#[source] InviteError),
}

impl FromStr for RoomLink {
    type Err = RoomLinkError;

    fn from_str(text: &str) -> Result<Self, RoomLinkError> {
        let (address, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let (mut secret, mut rest) = (None, Vec::new());
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("room", value)) if secret.is_none() => secret = Some(parse_secret(value)?),
                Some(("room", _)) => return Err(RoomLinkError::Room),
                _ => rest.push(part),
            }
        }
        let relay = format!("{address}?{}", rest.join("&"));
        let relay = relay.parse().map_err(RoomLinkError::Relay)?;
        Ok(Self { relay, secret: secret.ok_or(RoomLinkError::Room)? })
    }
}

impl fmt::Display for RoomLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relay = self.relay.to_string();
        let joint = if relay.contains('?') { '&' } else { '?' };
        let room = Zeroizing::new(BASE32_NOPAD.encode(self.secret.as_bytes()).to_ascii_lowercase());
        write!(f, "{relay}{joint}room={}", *room)
    }
}

impl fmt::Debug for RoomLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomLink(..)")
    }
}

fn parse_secret(value: &str) -> Result<LinkSecret, RoomLinkError> {
    let bytes = BASE32_NOPAD.decode(value.to_ascii_uppercase().as_bytes()).map_err(|_| RoomLinkError::Room)?;
    LinkSecret::from_slice(&Zeroizing::new(bytes)).map_err(|_| RoomLinkError::Room)
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::RelayPin;

    use super::*;

    fn link() -> RoomLink {
        let relay = Invite {
            host: "relay.example".into(),
            port: 4433,
            also: vec!["relay-2.example".parse().expect("an address")],
            tcp: Some(443),
            pages: None,
            pin: Some(RelayPin([9; 32])),
            token: None,
        };
        RoomLink { relay, secret: LinkSecret::from_slice(&[5; 32]).expect("32 bytes") }
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
        assert!(parse(good.replace("room=", "room=1")).contains("room is not given once"));
        assert!(parse(good.split("&room=").next().expect("what is before it").into()).contains("room"));
        assert!(parse(good.replace("supernode:", "http:")).contains("relay"));
        assert!(parse(format!("{good}&ticket=x")).contains("relay"), "a part that nobody knows");
        assert!(good.parse::<Invite>().is_err(), "a client that knows no rooms refuses it");
    }
}
