//! Where a NATS server is.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::Uri;

/// The port of NATS servers that have not been given another.
const PORT: u16 = 4222;

/// A server of NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsAddress {
    /// Whether it is spoken to in TLS and in nothing else.
    pub tls: bool,
    /// Its name or address; one of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl NatsAddress {
    /// What is said to be one, for a sentence that begins with "must be".
    pub const FORM: &'static str = "tls://HOST or nats://HOST, with :PORT or 4222, and without user or password";

    /// Whether nobody can listen in on the way there.
    pub fn is_private(&self) -> bool {
        self.tls || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// It is not one: [`NatsAddress::FORM`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoNatsAddress;

impl FromStr for NatsAddress {
    type Err = NoNatsAddress;

    fn from_str(text: &str) -> Result<Self, NoNatsAddress> {
        let uri: Uri = text.parse().map_err(|_| NoNatsAddress)?;
        let tls = match uri.scheme_str() {
            Some("tls") => true,
            Some("nats") => false,
            _ => return Err(NoNatsAddress),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(NoNatsAddress)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => digits.parse().map_err(|_| NoNatsAddress)?,
            _ => PORT,
        };
        if host.is_empty() || port == 0 || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(NoNatsAddress);
        }
        Ok(Self { tls, host, port })
    }
}

impl fmt::Display for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port_and_nothing_else() {
        for (text, whole, private) in [
            ("tls://nats.example", "tls://nats.example:4222", true),
            ("nats://127.0.0.1:5000", "nats://127.0.0.1:5000", true),
            ("nats://[::1]", "nats://[::1]:4222", true),
            ("nats://localhost:1", "nats://localhost:1", true),
            ("nats://10.0.0.1", "nats://10.0.0.1:4222", false),
            ("tls://[2001:db8::1]:65535", "tls://[2001:db8::1]:65535", true),
        ] {
            let address: NatsAddress = text.parse().expect(text);
            assert_eq!((address.to_string().as_str(), address.is_private()), (whole, private));
            assert_eq!(whole.parse(), Ok(address));
        }
        for text in [
            "",
            "nats.example:4222",
            "127.0.0.1:4222",
            "http://nats.example",
            "tls://",
            "tls://me:hunter2@nats.example",
            "tls://nats.example/x",
            "tls://nats.example?x",
            "tls://nats.example:0",
            "tls://nats.example:70000",
            "tls://nats.example:",
        ] {
            assert_eq!(text.parse::<NatsAddress>(), Err(NoNatsAddress), "{text}");
        }
    }
}
