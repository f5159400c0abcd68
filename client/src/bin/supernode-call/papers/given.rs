//! Links that we give to others: of a room, and with a ticket in it; as text, for a page, and for a camera.

use std::{io::IsTerminal, path::PathBuf};

use clap::Args;
use supernode_client::{
    RoomLink, TicketLink,
    e2ee::{LinkSecret, Pass},
    proto::{invite::Invite, page_link::PageUrl},
};

use super::links::{self, write_secret};
use crate::{failure::Failure, progress::note, say};

/// How a link is given.
#[derive(Args)]
pub(crate) struct Giving {
    /// Print a link that opens the page in a browser, and draw it for a telephone's camera where a terminal reads it; --page
    /// says where the page is.
    #[arg(long, requires = "page")]
    web: bool,
    /// Where the page is: an https:, http: or file: URL. Whoever runs the relay knows one, if it serves the page.
    #[arg(long, value_name = "URL", requires = "web")]
    page: Option<PageUrl>,
}

/// What a room's link is made of.
#[derive(Args)]
pub(crate) struct RoomLinkArgs {
    /// File with the invite link; without it, the environment has the link.
    #[arg(long)]
    invite_file: Option<PathBuf>,
    /// Leave the invite's token out: whoever gets the link needs an invite of their own.
    #[arg(long)]
    without_token: bool,
    /// File for the link, readable by its owner only; without it, standard output has it.
    #[arg(long)]
    link_file: Option<PathBuf>,
    #[command(flatten)]
    giving: Giving,
}

/// Makes a link to a room that nobody has been in yet: whoever comes first opens it.
pub(crate) fn room_link(args: &RoomLinkArgs) -> Result<(), Failure> {
    let invite = links::invite(args.invite_file.as_ref())?;
    let relay = if args.without_token { Invite { token: None, ..invite } } else { for_many(invite) };
    let link = RoomLink { relay, secret: LinkSecret::generate() }.to_string();
    let link = args.giving.in_page(link);
    match &args.link_file {
        Some(path) => Ok(write_secret(path, &link)?),
        None => args.giving.show(&link),
    }
}

/// A ticket as text, or a link by which a page rings.
pub(crate) fn ticket(pass: Pass, relay: Option<Invite>, giving: &Giving) -> Result<(), Failure> {
    match relay.filter(|_| giving.web) {
        Some(relay) => giving.show(&giving.in_page(TicketLink { relay: for_many(relay), pass }.to_string())),
        None => say(&pass.to_text()),
    }
}

impl Giving {
    fn in_page(&self, link: String) -> String {
        self.page.as_ref().map_or(link.clone(), |page| page.with(&link))
    }

    fn show(&self, link: &str) -> Result<(), Failure> {
        say(link)?;
        if self.web
            && std::io::stdout().is_terminal()
            && let Some(picture) = supernode_qr::picture(link)
        {
            say(picture.trim_end())?;
        }
        Ok(())
    }
}

/// The invite as others can use it, too: a token that is ours alone is of no use to them.
fn for_many(invite: Invite) -> Invite {
    let is_ours = |token: &str| links::is_for_one_use(token) || links::is_for_one_person(token);
    if !invite.token.as_deref().is_some_and(is_ours) {
        return invite;
    }
    note(
        "the invite is for you alone, so it is not in the link: whoever gets that needs an own one, or asks for one for many",
    );
    Invite { token: None, ..invite }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    #[test]
    fn a_token_for_one_does_not_go_into_a_link_for_many() {
        let token = |claims: &str| format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.as_bytes()));
        let kept = |claims: &str| {
            let invite: Invite = format!("supernode://h/?token={}", token(claims)).parse().expect("a link");
            for_many(invite).token.is_some()
        };
        assert!(kept(r#"{"sub":"*"}"#));
        assert!(!kept(r#"{"sub":"*","once":true}"#));
        assert!(!kept(r#"{"sub":"sn-id-abc"}"#));
    }
}
