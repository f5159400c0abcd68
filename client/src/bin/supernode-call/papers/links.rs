//! Invite links, room links and tickets as people bring them: from files, out of mails, one in the other's place.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::BASE64URL_NOPAD;
use supernode_client::{
    RoomLink, TicketLink,
    e2ee::Pass,
    proto::{invite::Invite, page_link},
};

use super::identity::unix_s;
use crate::{failure::Failure, progress::note, trouble::Trouble};

/// An invite that ends sooner is warned of.
const WARN_S: u64 = 7 * 24 * 3600;

/// What is meant for one place, and where it is looked for.
struct Place {
    what: &'static str,
    option: &'static str,
    variable: &'static str,
}

const INVITE: Place = Place { what: "invite link", option: "--invite-file", variable: "SUPERNODE_INVITE" };
const ROOM: Place = Place { what: "room link", option: "--link-file", variable: "SUPERNODE_ROOM" };
const TICKET: Place = Place { what: "ticket", option: "--ticket-file", variable: "SUPERNODE_TICKET" };

/// The invite link to the relay.
pub(crate) fn invite(file: Option<&PathBuf>) -> Result<Invite, Trouble> {
    let (text, from) = INVITE.read(file)?;
    let invite = parse_invite(&text, from)?;
    if let Some(warning) = invite.token.as_deref().and_then(|token| ending(token, unix_s())) {
        note(&warning);
    }
    Ok(invite)
}

/// The way to a relay, and the file that has it.
#[derive(Debug, Clone)]
pub(crate) struct OwnInvite {
    pub(crate) invite: Invite,
    pub(crate) file: Option<PathBuf>,
}

impl OwnInvite {
    pub(crate) fn read(file: Option<&PathBuf>) -> Result<Self, Failure> {
        Ok(Self { invite: invite(file)?, file: file.cloned() })
    }

    /// Puts the link that leads there from now on in the place of the one that was given, if it is another.
    pub(crate) fn keep(&self, now: &Invite) {
        if *now == self.invite {
            return;
        }
        let Some(file) = &self.file else {
            return note("the relay has a new key: ask for a new link, or give one in a file, which is kept current");
        };
        match write_secret(file, &now.to_string()) {
            Ok(()) => note(&format!("{}: the link has the relay's new key now", file.display())),
            Err(error) => {
                note(&format!("the relay has a new key, and the link is not kept: {}", Failure::here(error).told()))
            }
        }
    }
}

/// A line for nobody else's eyes, in one step in the place of what was there.
pub(crate) fn write_secret(path: &Path, line: &str) -> Result<(), Trouble> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = file.map_err(Trouble::write(&new))?;
    writeln!(file, "{line}").map_err(Trouble::write(&new))?;
    fs::rename(&new, path).map_err(Trouble::write(path))
}

/// The link of a room.
pub(crate) fn room(file: Option<&PathBuf>) -> Result<RoomLink, Trouble> {
    let (text, from) = ROOM.read(file)?;
    parse_room(&text, from)
}

/// Somebody's ticket, which holds still.
pub(crate) fn ticket(file: Option<&PathBuf>) -> Result<Pass, Trouble> {
    let (text, from) = TICKET.read(file)?;
    parse_ticket(&text, from, unix_s())
}

impl Place {
    /// What is in the file, or else in the environment, and where it is from.
    fn read(&self, file: Option<&PathBuf>) -> Result<(String, String), Trouble> {
        let Self { what, option, variable } = *self;
        let (text, from) = match file {
            Some(path) => (fs::read_to_string(path).map_err(Trouble::read(path))?, path.display().to_string()),
            None => {
                let set = std::env::var(variable);
                (set.map_err(|_| Trouble::Missing { what, option, variable })?, variable.to_owned())
            }
        };
        let text = unfolded(&text);
        // A link to a page has ours behind it.
        let text = page_link::unpaged(&text).map_err(|error| {
            let (from, form) = (from.clone(), "https://PAGE#supernode://...");
            Trouble::Unreadable { from, what: "link to a page", form, why: error.to_string() }
        })?;
        if text.is_empty() {
            return Err(Trouble::Empty { from, what });
        }
        Ok((text, from))
    }
}

/// Mail programs break long links, and put them in angle brackets.
fn unfolded(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(&text).to_owned()
}

const AN_INVITE: &str = "an invite link to the relay";
const A_ROOM: &str = "a room's link";
const A_TICKET: &str = "a person's ticket";

fn parse_invite(text: &str, from: String) -> Result<Invite, Trouble> {
    if text.parse::<RoomLink>().is_ok() {
        return Err(Trouble::Mistaken { from, is: A_ROOM, wanted: AN_INVITE });
    }
    if Pass::from_text(text).is_ok() || text.parse::<TicketLink>().is_ok() {
        return Err(Trouble::Mistaken { from, is: A_TICKET, wanted: AN_INVITE });
    }
    let form = "supernode://HOST:PORT/?pin=...";
    let parsed = text.parse::<Invite>();
    parsed.map_err(|error| Trouble::Unreadable { from, what: "invite link", form, why: error.to_string() })
}

fn parse_room(text: &str, from: String) -> Result<RoomLink, Trouble> {
    if text.parse::<Invite>().is_ok() {
        return Err(Trouble::Mistaken { from, is: AN_INVITE, wanted: A_ROOM });
    }
    let form = "supernode://HOST:PORT/?...room=...";
    let parsed = text.parse::<RoomLink>();
    parsed.map_err(|error| Trouble::Unreadable { from, what: "link of a room", form, why: error.to_string() })
}

fn parse_ticket(text: &str, from: String, now_unix_s: u64) -> Result<Pass, Trouble> {
    if let Ok(link) = text.parse::<TicketLink>() {
        return still_good(link.pass, from, now_unix_s);
    }
    if text.starts_with("supernode://") {
        return Err(Trouble::Mistaken { from, is: "a link", wanted: A_TICKET });
    }
    if text.starts_with("sn-id-") {
        return Err(Trouble::Mistaken { from, is: "a person's public name", wanted: A_TICKET });
    }
    let form = "sn-pass-... or sn-ticket-...";
    let pass = match Pass::from_text(text) {
        Ok(pass) => pass,
        Err(error) => return Err(Trouble::Unreadable { from, what: "ticket", form, why: error.to_string() }),
    };
    still_good(pass, from, now_unix_s)
}

fn still_good(pass: Pass, from: String, now_unix_s: u64) -> Result<Pass, Trouble> {
    let ticket = pass.ticket();
    if ticket.not_after_unix_s < now_unix_s {
        let days = (now_unix_s - ticket.not_after_unix_s) / (24 * 3600);
        return Err(Trouble::TicketEnded { from, issuer: ticket.issuer.to_text(), days });
    }
    Ok(pass)
}

/// Whether an invite's token is for the first device that uses it.
pub(crate) fn is_for_one_use(token: &str) -> bool {
    claim(token, "once").is_some_and(|once| once == true)
}

/// Whether an invite's token is for one identity.
pub(crate) fn is_for_one_person(token: &str) -> bool {
    claim(token, "sub").is_some_and(|of| of.as_str().is_some_and(|of| of.starts_with("sn-id-")))
}

/// What a token claims. Only the relay can tell whether it is so.
fn claim(token: &str, name: &str) -> Option<serde_json::Value> {
    let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    serde_json::from_slice::<serde_json::Value>(&payload).ok()?.get(name).cloned()
}

/// What to say of an invite that ends soon.
fn ending(token: &str, now_unix_s: u64) -> Option<String> {
    let ends = claim(token, "exp")?.as_u64()?;
    let left_s = ends.checked_sub(now_unix_s).filter(|left_s| *left_s < WARN_S)?;
    let (left, unit) = if left_s < 48 * 3600 { (left_s / 3600, "hours") } else { (left_s / (24 * 3600), "days") };
    Some(format!("your invite to the relay ends in {left} {unit}: ask whoever runs it for a new link"))
}

#[cfg(test)]
mod tests {
    use supernode_client::{
        e2ee::{IdentitySecret, LinkSecret, Terms},
        proto::identity::{Grants, RelayPin},
    };

    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn file() -> String {
        "a file".into()
    }

    fn links() -> (String, String, String) {
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: NOW };
        let pass = IdentitySecret::from_bytes(&[7; 32]).issue_pass(&terms);
        let pin = Some(RelayPin([9; 32]));
        let relay = Invite { pin, ..Invite::to("relay.example".parse().expect("an address")) };
        let room = RoomLink { relay: relay.clone(), secret: LinkSecret::generate() };
        (relay.to_string(), room.to_string(), pass.to_text().to_string())
    }

    #[test]
    fn a_link_that_a_mail_program_has_folded_is_whole_again() {
        let (invite, room, _) = links();
        let (head, tail) = invite.split_at(40);
        let folded = unfolded(&format!("  <{head}\r\n   {tail}>\n"));
        assert_eq!(parse_invite(&folded, file()).expect("a link").to_string(), invite);
        let (head, tail) = room.split_at(60);
        assert_eq!(parse_room(&unfolded(&format!("{head}\n{tail}")), file()).expect("a link").to_string(), room);
    }

    #[test]
    fn one_in_the_other_s_place_is_told_from_a_broken_one() {
        let (invite, room, ticket) = links();
        let said = |result: Result<(), Trouble>| result.expect_err("wrong").to_string();
        let of_invite = |text: &str| said(parse_invite(text, file()).map(drop));
        let of_room = |text: &str| said(parse_room(text, file()).map(drop));
        let of_ticket = |text: &str, now| said(parse_ticket(text, file(), now).map(drop));
        assert_eq!(of_invite(&room), "a file: is a room's link, and an invite link to the relay is wanted");
        assert_eq!(of_invite(&ticket), "a file: is a person's ticket, and an invite link to the relay is wanted");
        assert!(of_invite("https://x").starts_with("a file: is no invite link (supernode://HOST:PORT/?pin=...): "));
        assert_eq!(of_room(&invite), "a file: is an invite link to the relay, and a room's link is wanted");
        assert!(of_room("supernode://h/?room=x").starts_with("a file: is no link of a room"));
        assert_eq!(of_ticket(&invite, NOW), "a file: is a link, and a person's ticket is wanted");
        assert!(of_ticket("sn-id-abc", NOW).contains("is a person's public name"));
        assert!(of_ticket("sn-ticket-abc", NOW).contains("is no ticket"));
        let late = of_ticket(&ticket, NOW + 3 * 24 * 3600);
        assert!(late.contains("ended 3 days ago") && late.contains("sn-id-"), "{late}");
        assert!(parse_ticket(&ticket, file(), NOW).is_ok());
        let link = format!("{invite}&ticket={ticket}");
        assert!(parse_ticket(&link, file(), NOW).is_ok(), "a ticket's link has a ticket");
        assert_eq!(of_invite(&link), "a file: is a person's ticket, and an invite link to the relay is wanted");
    }

    #[test]
    fn an_invite_that_ends_soon_is_warned_of() {
        let token = |exp: u64| format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(format!("{{\"exp\":{exp}}}").as_bytes()));
        let told = ending(&token(NOW + 3 * 24 * 3600 + 5), NOW).expect("soon");
        assert!(told.starts_with("your invite to the relay ends in 3 days"), "{told}");
        assert!(ending(&token(NOW + 5 * 3600), NOW).expect("soon").contains("in 5 hours"));
        assert_eq!(ending(&token(NOW + 30 * 24 * 3600), NOW), None);
        assert_eq!(ending(&token(NOW - 1), NOW), None, "the relay says that");
        assert_eq!(ending("nonsense", NOW), None);
    }

    #[test]
    fn what_is_missing_is_named_with_its_option_and_its_variable() {
        let missing = Place { variable: "SUPERNODE_NOT_SET_ANYWHERE", ..INVITE };
        let said = missing.read(None).expect_err("nothing").to_string();
        assert_eq!(said, "no invite link: give --invite-file FILE, or set SUPERNODE_NOT_SET_ANYWHERE");
    }
}
