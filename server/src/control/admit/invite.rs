//! Invite links, made from the state directory alone: the relay may run meanwhile or not.

use supernode_proto::{
    DEFAULT_PORT,
    identity::IdentityKey,
    invite::{HostPort, Invite, InviteError},
    troubles,
};

use crate::control::{
    admission::{IssueError, TokenIssuer},
    state_dir::{StateDir, StateError},
    tls::relay_pin,
};

troubles! {
    /// Why there is no invite link.
    pub InviteLinkError as WORDS, through State(StateError) Issue(IssueError):
    Address { address: String, source: InviteError }, "{address:?} is no address for an invite link",
        "clients could not use it", "write it as HOST or HOST:PORT (--host, relay.advertise), or up to eight of them divided by commas";
    NoAddress, "nobody has said where clients reach the relay",
        "an invite link names its address, and no relay has written one down here yet",
        "say it (--host HOST:PORT, or relay.advertise), or start the relay once";
}

/// What an invite link should say.
#[derive(Debug)]
pub struct InviteRequest<'a> {
    /// `HOST` or `HOST:PORT`, or several divided by commas; without it, where the relay said at its last start that it is.
    pub host: Option<&'a str>,
    /// The only identity that may use it; without it, whoever has the link.
    pub identity: Option<&'a IdentityKey>,
    /// How long it lets people in.
    pub days: u16,
    /// Whether it is good for the first device that uses it only.
    pub once: bool,
    /// The class of limits that it grants.
    pub class: Option<&'a str>,
}

/// A link with a new token, from the keys in `state`.
///
/// # Errors
/// See [`InviteLinkError`].
pub fn create_invite(
    state: &StateDir,
    request: &InviteRequest<'_>,
    now_unix_s: u64,
    token_id: [u8; 16],
) -> Result<Invite, InviteLinkError> {
    let keys = state.keys()?;
    let pin = relay_pin(&keys);
    let last = state.link()?;
    let link = match (request.host, last) {
        (Some(host), last) => {
            let (tcp, pages, pin) = last.map_or((None, None, Some(pin)), |last| (last.tcp, last.pages, last.pin));
            Invite { tcp, pages, pin, ..parse_host(host)? }
        }
        (None, last) => last.ok_or(InviteLinkError::NoAddress)?,
    };
    let lifetime_s = u64::from(request.days) * 24 * 3600;
    let issuer = TokenIssuer::new(&keys.admission_key, &pin).for_one_use(request.once);
    let issuer = issuer.with_class(request.class.map(str::to_owned));
    let token = issuer.issue(request.identity, now_unix_s, lifetime_s, token_id)?;
    Ok(Invite { token: Some(token), ..link })
}

/// A link to `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address, or to several divided by commas, without pin and token;
/// a port is [`DEFAULT_PORT`] unless given.
///
/// # Errors
/// [`InviteLinkError::Address`].
pub fn parse_host(addresses: &str) -> Result<Invite, InviteLinkError> {
    let parse = |address: &str| match address.parse::<std::net::Ipv6Addr>() {
        Ok(_) => Ok(HostPort { host: address.to_owned(), port: DEFAULT_PORT }),
        Err(_) => address.parse(),
    };
    let parsed: Result<Vec<HostPort>, InviteError> = addresses.split(',').map(str::trim).map(parse).collect();
    let link = parsed.and_then(|parsed| {
        let first = parsed.first().cloned().ok_or(InviteError::Address)?;
        Invite::to(first).at(parsed)
    });
    link.map_err(|source| InviteLinkError::Address { address: addresses.to_owned(), source })
}
