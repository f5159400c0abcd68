//! Invite links, room links and tickets as people bring them: from files, out of mails, one in the other's place.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use data_encoding::BASE64URL_NOPAD;
use supernode_client::{RoomLink, e2ee::Pass, proto::invite::Invite};

use crate::{failure::Failure, identity::unix_s, progress::note};

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
pub(crate) fn invite(file: Option<&PathBuf>) -> anyhow::Result<Invite> {
    let (text, from) = INVITE.read(file)?;
    let invite = parse_invite(&text).context(from)?;
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
        Ok(Self { invite: invite(file).map_err(Failure::here)?, file: file.cloned() })
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
            Err(error) => note(&format!("the relay has a new key, and the link cannot be kept: {error:#}")),
        }
    }
}

/// A line for nobody else's eyes, in one step in the place of what was there.
pub(crate) fn write_secret(path: &Path, line: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = file.with_context(|| format!("cannot make {}", new.display()))?;
    writeln!(file, "{line}").with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The link of a room.
pub(crate) fn room(file: Option<&PathBuf>) -> anyhow::Result<RoomLink> {
    let (text, from) = ROOM.read(file)?;
    parse_room(&text).context(from)
}

/// Somebody's ticket, which holds still.
pub(crate) fn ticket(file: Option<&PathBuf>) -> anyhow::Result<Pass> {
    let (text, from) = TICKET.read(file)?;
    parse_ticket(&text, unix_s()).context(from)
}

impl Place {
    /// What is in the file, or else in the environment, and where it is from.
    fn read(&self, file: Option<&PathBuf>) -> anyhow::Result<(String, String)> {
        let Self { what, option, variable } = self;
        let (text, from) = match file {
            Some(path) => (
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
                path.display().to_string(),
            ),
            None => {
                let set = std::env::var(variable);
                (set.map_err(|_| anyhow!("no {what}: give {option} FILE, or set {variable}"))?, (*variable).to_owned())
            }
        };
        let text = unfolded(&text);
        if text.is_empty() {
            bail!("{from}: is empty: no {what} is there");
        }
        Ok((text, from))
    }
}

/// Mail programs break long links, and put them in angle brackets.
fn unfolded(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(&text).to_owned()
}

fn parse_invite(text: &str) -> anyhow::Result<Invite> {
    if text.parse::<RoomLink>().is_ok() {
        bail!("is a room's link, and an invite link to the relay is wanted: come in with `room join --link-file`");
    }
    if Pass::from_text(text).is_ok() {
        bail!("is a ticket, and an invite link to the relay is wanted: a ticket belongs to --ticket-file");
    }
    text.parse().context("is no invite link (supernode://HOST:PORT/?pin=...): copy all of it")
}

fn parse_room(text: &str) -> anyhow::Result<RoomLink> {
    if text.parse::<Invite>().is_ok() {
        bail!(
            "is an invite link to the relay, and the link of a room is wanted: whoever opened the room has it \
             (`room create` prints it)"
        );
    }
    text.parse().context("is no link of a room (supernode://HOST:PORT/?...room=...): copy all of it")
}

fn parse_ticket(text: &str, now_unix_s: u64) -> anyhow::Result<Pass> {
    if text.starts_with("supernode://") {
        bail!(
            "is a link, and the ticket of the person to call is wanted (sn-pass-... or sn-ticket-...): they make it with `supernode-call ticket`"
        );
    }
    if text.starts_with("sn-id-") {
        bail!(
            "is a person's public name, and a ticket of theirs is wanted (sn-pass-... or sn-ticket-...): they make it with `supernode-call ticket`"
        );
    }
    let pass = Pass::from_text(text).context("is no ticket (sn-pass-... or sn-ticket-...): copy all of it")?;
    let ticket = pass.ticket();
    if ticket.not_after_unix_s < now_unix_s {
        let days = (now_unix_s - ticket.not_after_unix_s) / (24 * 3600);
        let issuer = ticket.issuer.to_text();
        bail!("this ticket of {issuer} ended {days} days ago: ask them for a new one (supernode-call ticket)");
    }
    Ok(pass)
}

/// Whether an invite's token is for the first device that uses it.
pub(crate) fn is_for_one_use(token: &str) -> bool {
    claim(token, "once").is_some_and(|once| once == true)
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

    fn links() -> (String, String, String) {
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: NOW };
        let pass = IdentitySecret::from_bytes(&[7; 32]).issue_pass(&terms);
        let relay =
            Invite { host: "relay.example".into(), port: 4433, tcp: None, pin: Some(RelayPin([9; 32])), token: None };
        let room = RoomLink { relay: relay.clone(), secret: LinkSecret::generate() };
        (relay.to_string(), room.to_string(), pass.to_text().to_string())
    }

    #[test]
    fn a_link_that_a_mail_program_has_folded_is_whole_again() {
        let (invite, room, _) = links();
        let (head, tail) = invite.split_at(40);
        let folded = unfolded(&format!("  <{head}\r\n   {tail}>\n"));
        assert_eq!(parse_invite(&folded).expect("a link").to_string(), invite);
        let (head, tail) = room.split_at(60);
        assert_eq!(parse_room(&unfolded(&format!("{head}\n{tail}"))).expect("a link").to_string(), room);
    }

    #[test]
    fn one_in_the_other_s_place_is_told_from_a_broken_one() {
        let (invite, room, ticket) = links();
        let said = |result: anyhow::Result<()>| format!("{:#}", result.expect_err("wrong"));
        assert!(said(parse_invite(&room).map(drop)).starts_with("is a room's link"));
        assert!(said(parse_invite(&ticket).map(drop)).starts_with("is a ticket"));
        assert!(said(parse_invite("https://x").map(drop)).contains("copy all of it: an invite link begins with"));
        assert!(said(parse_room(&invite).map(drop)).starts_with("is an invite link"));
        assert!(said(parse_room("supernode://h/?room=x").map(drop)).contains("copy all of it"));
        assert!(said(parse_ticket(&invite, NOW).map(drop)).starts_with("is a link"));
        assert!(said(parse_ticket("sn-id-abc", NOW).map(drop)).starts_with("is a person's public name"));
        assert!(said(parse_ticket("sn-ticket-abc", NOW).map(drop)).contains("copy all of it"));
        let late = said(parse_ticket(&ticket, NOW + 3 * 24 * 3600).map(drop));
        assert!(late.contains("ended 3 days ago") && late.contains("sn-id-"), "{late}");
        assert!(parse_ticket(&ticket, NOW).is_ok());
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
