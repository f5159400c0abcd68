//! The invite link: everything a client needs to reach a relay and be let in.
//!
//! `supernode://HOST:PORT/?tcp=PORT&pages=PORT&pin=BASE64URL&token=JWT` with either TCP port absent when the relay has none, the
//! pin when the certificate is to be checked against the public certification authorities, and the token when the relay is open.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use crate::{DEFAULT_PORT, identity::RelayPin, limits};

const SCHEME: &str = "supernode://";

/// A parsed invite link. `Display` gives the link back: it holds the token, so keep it out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// Host name or IP address, an IPv6 address without its brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
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
    #[error("the invite link's address is not HOST or HOST:PORT")]
    Address,
    /// A part of the query that is not `tcp=`, `pages=`, `pin=` or `token=`, or is there twice.
    #[error("the invite link has an unknown or repeated part {0:?}: only tcp, pages, pin and token")]
    Part(String),
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
        let (host, port) = parse_address(address.strip_suffix('/').unwrap_or(address))?;
        let mut invite = Self { host, port, tcp: None, pages: None, pin: None, token: None };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
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

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{SCHEME}[{}]:{}/", self.host, self.port)?,
            false => write!(f, "{SCHEME}{}:{}/", self.host, self.port)?,
        }
        let tcp = self.tcp.map(|port| format!("tcp={port}"));
        let pages = self.pages.map(|port| format!("pages={port}"));
        let pin = self.pin.map(|pin| format!("pin={}", BASE64URL_NOPAD.encode(&pin.0)));
        let token = self.token.as_ref().map(|token| format!("token={token}"));
        let parts: Vec<String> = tcp.into_iter().chain(pages).chain(pin).chain(token).collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "?{}", parts.join("&")) }
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invite(..)")
    }
}

fn parse_address(address: &str) -> Result<(String, u16), InviteError> {
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
        digits => digits.parse().map_err(|_| InviteError::Address)?,
    };
    let plausible = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
    if host.is_empty() || port == 0 || !host.chars().all(plausible) {
        return Err(InviteError::Address);
    }
    Ok((host.to_owned(), port))
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
        ] {
            assert_eq!(link.parse::<Invite>().expect("valid").to_string(), link);
        }
        assert_eq!("supernode://host".parse::<Invite>().expect("valid").port, DEFAULT_PORT);
    }

    //
    #[test]
    fn what_is_wrong_with_a_link_is_named() {
        let error = |link: &str| link.parse::<Invite>().expect_err(link);
        assert_eq!(error("https://x"), InviteError::Scheme);
        assert_eq!(error("supernode://"), InviteError::Address);
        assert_eq!(error("supernode://h:99999"), InviteError::Address);
        assert_eq!(error("supernode://h:0"), InviteError::Address);
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
