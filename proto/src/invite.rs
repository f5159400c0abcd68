//! The invite link: everything a client needs to reach a relay and be let in.
//!
//! `supernode://HOST:PORT/?also=HOST:PORT,...&tcp=PORT&pages=PORT&pin=BASE64URL&token=JWT` with `also` absent when there is no
//! other address, either TCP port when there is none, the pin when the certificate is to be checked against the public
//! certification authorities, and the token when the relay is open.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use crate::{DEFAULT_PORT, identity::RelayPin, limits};

const SCHEME: &str = "supernode://";

/// Where a relay is. `Display` gives `HOST:PORT`, an IPv6 address in brackets: keep it out of logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or IP address, an IPv6 address without its brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// A parsed invite link. `Display` gives the link back: it holds the token, so keep it out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// Host name or IP address, an IPv6 address without its brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Where else there are relays with the same key, after the first in the order in which they are to be tried. The
    /// TCP ports are theirs as well.
    pub also: Vec<HostPort>,
    /// TCP port for clients whose network lets no UDP through, if the relay has one.
    pub tcp: Option<u16>,
    /// TCP port where pages are told by plain HTTP which certificates they may be shown, if the relay has one.
    pub pages: Option<u16>,
    /// The relay's public key, or `None` to trust the public certification authorities.
    pub pin: Option<RelayPin>,
    /// Admission token.
    pub token: Option<String>,
}

/// Why text is no invite link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Not `supernode://`.
    #[error("an invite link begins with {SCHEME}")]
    Scheme,
    /// No host, or a port that is no number.
    #[error("the relay's address is not HOST or HOST:PORT, an IPv6 address in brackets")]
    Address,
    /// A part of the query that is not `also=`, `tcp=`, `pages=`, `pin=` or `token=`, or is there twice.
    #[error("the invite link has an unknown or repeated part {0:?}: only also, tcp, pages, pin and token")]
    Part(String),
    /// What `also=` lists is no address.
    #[error("the invite link's further addresses are not HOST or HOST:PORT, divided by commas")]
    Also,
    /// Two addresses are the same.
    #[error("the invite link names an address twice")]
    SameAddress,
    /// More addresses than the bound.
    #[error("the invite link names more than {} addresses", limits::INVITE_ADDRESSES_MAX)]
    TooManyAddresses,
    /// The TCP port is no number from 1 to 65535.
    #[error("the invite link's TCP port is not a number from 1 to 65535")]
    Tcp,
    /// The port for pages is none either.
    #[error("the invite link's port for pages is not a number from 1 to 65535")]
    Pages,
    /// The pin is no 32 bytes in base64url.
    #[error("the invite link's pin is not 32 bytes in base64url without padding")]
    Pin,
    /// The token is longer than the bound or has characters no token has.
    #[error(
        "the invite link's token is longer than {} bytes or not base64url and dots",
        limits::ADMISSION_TOKEN_BYTES_MAX
    )]
    Token,
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let rest = text.trim().strip_prefix(SCHEME).ok_or(InviteError::Scheme)?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut invite = Self::to(address.strip_suffix('/').unwrap_or(address).parse()?);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("also", value)) if invite.also.is_empty() => invite.also = invite.parse_also(value)?,
                Some(("tcp", value)) if invite.tcp.is_none() => {
                    invite.tcp = Some(parse_port(value).ok_or(InviteError::Tcp)?);
                }
                Some(("pages", value)) if invite.pages.is_none() => {
                    invite.pages = Some(parse_port(value).ok_or(InviteError::Pages)?);
                }
                Some(("pin", value)) if invite.pin.is_none() => invite.pin = Some(parse_pin(value)?),
                Some(("token", value)) if invite.token.is_none() => invite.token = Some(parse_token(value)?),
                other => return Err(InviteError::Part(other.map_or(part, |(name, _)| name).to_owned())),
            }
        }
        Ok(invite)
    }
}

impl Invite {
    /// To whoever is there, without a pin and without a token.
    pub fn to(HostPort { host, port }: HostPort) -> Self {
        Self { host, port, also: Vec::new(), tcp: None, pages: None, pin: None, token: None }
    }

    /// All places where there is a relay of this key, in the order in which they are to be tried.
    pub fn addresses(&self) -> impl Iterator<Item = HostPort> + '_ {
        let first = HostPort { host: self.host.clone(), port: self.port };
        [first].into_iter().chain(self.also.iter().cloned())
    }

    /// The same with these addresses in place of its own.
    ///
    /// # Errors
    /// [`InviteError::Address`] without any, [`InviteError::SameAddress`], [`InviteError::TooManyAddresses`].
    pub fn at(self, addresses: impl IntoIterator<Item = HostPort>) -> Result<Self, InviteError> {
        let mut known: Vec<HostPort> = Vec::new();
        for address in addresses {
            if known.iter().any(|other| other.is(&address)) {
                return Err(InviteError::SameAddress);
            }
            if known.len() == limits::INVITE_ADDRESSES_MAX {
                return Err(InviteError::TooManyAddresses);
            }
            known.push(address);
        }
        let mut known = known.into_iter();
        let HostPort { host, port } = known.next().ok_or(InviteError::Address)?;
        Ok(Self { host, port, also: known.collect(), ..self })
    }

    fn parse_also(&self, value: &str) -> Result<Vec<HostPort>, InviteError> {
        let also = value.split(',').map(|address| address.parse().map_err(|_| InviteError::Also));
        let also: Vec<HostPort> = also.collect::<Result<_, _>>()?;
        Ok(self.clone().at(self.addresses().chain(also))?.also)
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses = self.addresses().map(|address| address.to_string());
        write!(f, "{SCHEME}{}/", addresses.next().unwrap_or_default())?;
        let also = addresses.collect::<Vec<_>>().join(",");
        let also = (!also.is_empty()).then(|| format!("also={also}"));
        let tcp = self.tcp.map(|port| format!("tcp={port}"));
        let pages = self.pages.map(|port| format!("pages={port}"));
        let pin = self.pin.map(|pin| format!("pin={}", BASE64URL_NOPAD.encode(&pin.0)));
        let token = self.token.as_ref().map(|token| format!("token={token}"));
        let parts: Vec<String> = also.into_iter().chain(tcp).chain(pages).chain(pin).chain(token).collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "?{}", parts.join("&")) }
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invite(..)")
    }
}

impl FromStr for HostPort {
    type Err = InviteError;

    fn from_str(address: &str) -> Result<Self, InviteError> {
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']').ok_or(InviteError::Address)?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, Some("")),
            },
        };
        let port = match port.ok_or(InviteError::Address)? {
            "" => DEFAULT_PORT,
            digits => parse_port(digits).ok_or(InviteError::Address)?,
        };
        let plausible = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
        if host.is_empty() || !host.chars().all(plausible) {
            return Err(InviteError::Address);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl HostPort {
    /// Whether another one is the same: names know no capitals (RFC 4343).
    pub fn is(&self, other: &Self) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostPort(..)")
    }
}

fn parse_port(value: &str) -> Option<u16> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|port| digits && *port != 0)
}

fn parse_pin(value: &str) -> Result<RelayPin, InviteError> {
    let bytes = BASE64URL_NOPAD.decode(value.as_bytes()).map_err(|_| InviteError::Pin)?;
    bytes.try_into().map(RelayPin).map_err(|_| InviteError::Pin)
}

fn parse_token(value: &str) -> Result<String, InviteError> {
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if value.is_empty() || value.len() > limits::ADMISSION_TOKEN_BYTES_MAX || !value.bytes().all(plausible) {
        return Err(InviteError::Token);
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_back_as_they_were_written() {
        let pin = BASE64URL_NOPAD.encode(&[7; 32]);
        for link in [
            format!("supernode://relay.example:4433/?pin={pin}&token=a.b-c_d"),
            "supernode://192.0.2.1:9/".to_owned(),
            format!("supernode://192.0.2.1:9/?tcp=443&pin={pin}"),
            format!("supernode://192.0.2.1:9/?pages=4480&pin={pin}"),
            format!("supernode://192.0.2.1:9/?tcp=443&pages=4480&pin={pin}"),
            format!("supernode://[2001:db8::1]:4433/?pin={pin}"),
            format!("supernode://a.example:4433/?also=b.example:9,[2001:db8::1]:4433&tcp=443&pin={pin}&token=x"),
        ] {
            assert_eq!(link.parse::<Invite>().expect("valid").to_string(), link);
        }
        assert_eq!("supernode://host".parse::<Invite>().expect("valid").port, DEFAULT_PORT);
    }

    //
    #[test]
    fn a_link_to_several_addresses_names_them_in_order() {
        let link: Invite = "supernode://a/?also=b:9,[::1],c".parse().expect("valid");
        let addresses: Vec<String> = link.addresses().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["a:4433", "b:9", "[::1]:4433", "c:4433"]);
        let eight = (0..8).map(|last| format!("h{last}").parse().expect("an address"));
        let link = link.at(eight).expect("as many as there may be");
        assert_eq!(link.to_string().parse(), Ok(link));
    }

    //
    #[test]
    fn what_is_wrong_with_further_addresses_is_named() {
        let error = |also: &str| format!("supernode://h/?also={also}").parse::<Invite>().expect_err(also);
        for also in ["", ",", "a,", "a,,b", "a b", "a:0", "a:+9", "a:99999", "::1", "[::1", "a/", "a@b", "a%2Cb", "ä"]
        {
            assert_eq!(error(also), InviteError::Also, "{also}");
        }
        for also in ["h", "H:4433", "a,b,A:4433"] {
            assert_eq!(error(also), InviteError::SameAddress, "{also}");
        }
        assert_eq!(error("1,2,3,4,5,6,7,8"), InviteError::TooManyAddresses);
        assert_eq!(error("a&also=b"), InviteError::Part("also".into()));
        let none = Invite::to("h".parse().expect("an address")).at([]);
        assert_eq!(none, Err(InviteError::Address));
        assert_eq!(format!("{:?}", HostPort { host: "secret".into(), port: 1 }), "HostPort(..)");
    }

    //
    #[test]
    fn what_is_wrong_with_a_link_is_named() {
        let error = |link: &str| link.parse::<Invite>().expect_err(link);
        assert_eq!(error("https://x"), InviteError::Scheme);
        assert_eq!(error("supernode://"), InviteError::Address);
        assert_eq!(error("supernode://h:99999"), InviteError::Address);
        assert_eq!(error("supernode://h:0"), InviteError::Address);
        assert_eq!(error("supernode://h:4433,b:4433"), InviteError::Address);
        assert_eq!(error("supernode://[::1"), InviteError::Address);
        assert_eq!(error("supernode://h?pni=x"), InviteError::Part("pni".into()));
        assert_eq!(error("supernode://h?token=a&token=b"), InviteError::Part("token".into()));
        assert_eq!(error("supernode://h?pin=AAAA"), InviteError::Pin);
        for port in ["", "0", "65536", "+443", "x"] {
            assert_eq!(error(&format!("supernode://h?tcp={port}")), InviteError::Tcp);
            assert_eq!(error(&format!("supernode://h?pages={port}")), InviteError::Pages);
        }
        assert_eq!(error("supernode://h?tcp=1&tcp=1"), InviteError::Part("tcp".into()));
        assert_eq!(error("supernode://h?token=a b"), InviteError::Token);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = text.parse::<Invite>();
            let _ = format!("supernode://{text}").parse::<Invite>();
        }
    }
}
