//! The links that lead to a page: into a room, to a person, or to a relay only.

use std::{error::Error, str::FromStr};

use serde::Serialize;
use supernode_client::{RoomLink, TicketLink, proto::invite::Invite};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::trouble::Trouble;

/// Longest text that is looked at: four times the longest that a link can be.
const LINK_BYTES_MAX: usize = 16 * 1024;

/// Where a link leads.
pub(crate) enum Link {
    Room(RoomLink),
    Person(Box<TicketLink>),
    Relay(Invite),
}

/// What of it may be shown.
#[derive(Serialize)]
struct Shown {
    relay: String,
    leads_to: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    /// Whether the relay is checked by its key; else by its name.
    has_pin: bool,
}

/// What a link says that may be shown, as JSON.
///
/// # Errors
/// What is wrong with it.
#[wasm_bindgen]
pub fn look_at_link(text: &str) -> Result<String, JsValue> {
    let link: Link = text.parse().map_err(|trouble: Trouble| trouble.thrown())?;
    let relay = link.relay();
    let host = if relay.host.contains(':') { format!("[{}]", relay.host) } else { relay.host.clone() };
    let (leads_to, person) = match &link {
        Link::Room(_) => ("room", None),
        Link::Person(link) => ("person", Some(link.pass.issuer().to_text())),
        Link::Relay(_) => ("relay", None),
    };
    let shown = Shown { relay: format!("{host}:{}", relay.port), leads_to, person, has_pin: relay.pin.is_some() };
    Ok(serde_json::to_string(&shown).unwrap_or_default())
}

impl Link {
    pub(crate) fn relay(&self) -> &Invite {
        match self {
            Self::Room(RoomLink { relay, .. }) | Self::Relay(relay) => relay,
            Self::Person(link) => &link.relay,
        }
    }
}

impl FromStr for Link {
    type Err = Trouble;

    fn from_str(text: &str) -> Result<Self, Trouble> {
        // Mail programs break long links.
        let text: String = text.chars().filter(|character| !character.is_whitespace()).take(LINK_BYTES_MAX).collect();
        let parts = text.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| parts.split('&').any(|part| part.starts_with(name));
        if has("room=") {
            text.parse::<RoomLink>().map(Self::Room).map_err(|error| unreadable(&error))
        } else if has("ticket=") {
            text.parse::<TicketLink>().map(|link| Self::Person(Box::new(link))).map_err(|error| unreadable(&error))
        } else {
            text.parse::<Invite>().map(Self::Relay).map_err(|error| unreadable(&error))
        }
    }
}

/// With what is behind the error.
fn unreadable(error: &dyn Error) -> Trouble {
    let mut why = error.to_string();
    if let Some(source) = error.source() {
        why += &format!(": {source}");
    }
    Trouble::new(
        "Link",
        "this link cannot be read",
        &why,
        "copy all of it again, or ask whoever gave it to you for a new one",
    )
}

#[cfg(test)]
mod tests {
    use supernode_client::{
        e2ee::{IdentitySecret, LinkSecret, Terms},
        proto::identity::Grants,
    };

    use super::*;

    fn relay() -> Invite {
        format!("supernode://relay.example:4433/?pin={}&token=a.b", "A".repeat(43)).parse().expect("a link")
    }

    #[test]
    fn each_kind_of_link_is_known_and_comes_back() {
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: 1 };
        let who = IdentitySecret::generate();
        let to_person = TicketLink { relay: relay(), pass: who.issue_pass(&terms) }.to_string();
        let shown = look_at_link(&to_person).expect("readable");
        assert!(shown.contains(&who.public().to_text()) && shown.contains(r#""leads_to":"person""#), "{shown}");
        assert!(shown.contains(r#""relay":"relay.example:4433""#), "{shown}");
        assert!(!shown.contains("a.b"), "no secret is shown");
        let room = RoomLink { relay: relay(), secret: LinkSecret::generate() }.to_string();
        let broken_by_mail = room.replace('&', "&\r\n ");
        assert!(matches!(broken_by_mail.parse(), Ok(Link::Room(link)) if link.to_string() == room));
        assert!(matches!(relay().to_string().parse(), Ok(Link::Relay(found)) if found == relay()));
    }

    #[test]
    fn what_is_no_link_is_refused_with_words() {
        for text in [
            "",
            "https://example.org",
            "supernode://",
            "supernode://h/?ticket=sn-pass-x",
            "supernode://h/?room=",
            "supernode://h/?what=1",
        ] {
            let trouble = text.parse::<Link>().err().expect("no link");
            assert!(format!("{trouble:?}").contains("cannot be read"), "{text}");
        }
    }
}
