//! Where the relay may be told to wake somebody: addresses that clients name, at hosts that the operator named.

use std::net::IpAddr;

use bytes::Bytes;
use supernode_proto::limits::PUSH_ENDPOINT_BYTES_MAX;

/// The port of an address that names none.
const HTTPS_PORT: u16 = 443;

/// Push services as their operator lists them, and by which key they know the relay (RFC 8292).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushServices {
    /// Public half of the key, an uncompressed point of P-256: pages subscribe with it.
    pub key: Bytes,
    /// None of them is asked anything that does not come from a client, and no other host is.
    pub hosts: Vec<PushHost>,
}

/// `HOST`, `HOST:PORT` or `*.HOST`, which is any name below it. No client makes the relay dial anything else, and an address of
/// a private network is dialled only where it stands here as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushHost {
    name: String,
    port: u16,
    /// Any name that ends so.
    below: bool,
}

/// An endpoint, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Lower case; an IPv6 address without its brackets.
    pub host: &'a str,
    /// 443 unless it says otherwise.
    pub port: u16,
    /// What is asked for there, from the first slash on.
    pub path: &'a str,
    /// `https://HOST`, and `:PORT` if it names one: what a token is for (RFC 8292 section 2).
    pub origin: &'a str,
}

impl PushServices {
    /// The endpoint that this text is, and the place in the list of the host that it is at; `None` if it is none, or at another.
    pub fn find<'a>(&self, text: &'a str) -> Option<(Endpoint<'a>, usize)> {
        let endpoint = Endpoint::parse(text)?;
        let place = self.hosts.iter().position(|host| host.has(&endpoint))?;
        Some((endpoint, place))
    }
}

impl PushHost {
    /// From a line of the operator's; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let (name, port) = split_port(rest)?;
        let is_good = match name.parse::<IpAddr>() {
            Ok(_) => !below,
            Err(_) => is_host(name) && name.contains('.'),
        };
        is_good.then(|| Self { name: name.to_owned(), port, below })
    }

    /// The address that the operator named, which may be one of a private network.
    pub fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }

    /// Its name, if it is the name of one host.
    pub fn one(&self) -> Option<(&str, u16)> {
        (!self.below).then_some((self.name.as_str(), self.port))
    }

    fn has(&self, endpoint: &Endpoint<'_>) -> bool {
        let is_it = match self.below {
            false => endpoint.host == self.name,
            true => endpoint.host.strip_suffix(&self.name).is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        };
        is_it && endpoint.port == self.port
    }
}

impl std::fmt::Display for PushHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port, below } = self;
        f.write_str(if *below { "*." } else { "" })?;
        if name.contains(':') { write!(f, "[{name}]") } else { f.write_str(name) }?;
        if *port == HTTPS_PORT { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl<'a> Endpoint<'a> {
    /// Reads an absolute URL as strictly as may be: what browsers are given is plain.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > PUSH_ENDPOINT_BYTES_MAX || !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return None;
        }
        let rest = text.strip_prefix("https://")?;
        let slash = rest.find('/')?;
        let (authority, path) = rest.split_at(slash);
        let (host, port) = split_port(authority)?;
        let good = (is_host(host) || host.parse::<IpAddr>().is_ok()) && !path.contains(['#', '\\', '"', '<', '>']);
        good.then(|| Self { host, port, path, origin: &text[..text.len() - path.len()] })
    }
}

/// A host and its port; of an IPv6 address without the brackets.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.contains(':').then_some((host, port.strip_prefix(':').or(port.is_empty().then_some(""))?))?
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_number = !port.starts_with(['0', '+']);
    let number = if port.is_empty() { HTTPS_PORT } else { port.parse().ok().filter(|_| is_number)? };
    // What ends with a colon names nothing.
    (!text.ends_with(':')).then_some((host, number))
}

/// A name of DNS, in the one way of writing that it has here.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(plain)
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(hosts: &[&str]) -> PushServices {
        let hosts = hosts.iter().map(|host| PushHost::parse(host).expect("a host")).collect();
        PushServices { key: Bytes::new(), hosts }
    }

    //
    #[test]
    fn an_endpoint_is_a_plain_url_at_a_host_that_is_listed() {
        let services = services(&["fcm.googleapis.com", "*.notify.windows.com", "127.0.0.1:8443", "[::1]:8443"]);
        let found = |text| services.find(text).map(|(endpoint, place)| (endpoint.origin, endpoint.path, place));
        let good = "https://fcm.googleapis.com/fcm/send/abc:def-_?x=1";
        assert_eq!(found(good), Some(("https://fcm.googleapis.com", "/fcm/send/abc:def-_?x=1", 0)));
        let below = "https://wns2-par02p.notify.windows.com/w/?token=BQ%3d";
        assert_eq!(found(below), Some(("https://wns2-par02p.notify.windows.com", "/w/?token=BQ%3d", 1)));
        assert_eq!(found("https://fcm.googleapis.com:443/x"), Some(("https://fcm.googleapis.com:443", "/x", 0)));
        assert_eq!(found("https://127.0.0.1:8443/x"), Some(("https://127.0.0.1:8443", "/x", 2)));
        assert_eq!(found("https://[::1]:8443/x"), Some(("https://[::1]:8443", "/x", 3)));
        for unknown in [
            "https://fcm.googleapis.com:8443/x",
            "https://evil.example/fcm.googleapis.com",
            "https://fcm.googleapis.com.evil.example/x",
            "https://evilnotify.windows.com/x",
            "https://notify.windows.com/x",
            "https://.notify.windows.com/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest/meta-data/",
            "https://localhost/x",
            "https://2130706433/x",
        ] {
            assert_eq!(found(unknown), None, "{unknown}");
            assert!(Endpoint::parse(unknown).is_some() || unknown.contains("//."), "{unknown}");
        }
        for malformed in [
            "",
            "http://fcm.googleapis.com/x",
            "https://fcm.googleapis.com",
            "https://user@fcm.googleapis.com/x",
            "https://fcm.googleapis.com@evil.example/x",
            "https://evil.example\\@fcm.googleapis.com/x",
            "https://FCM.googleapis.com/x",
            "https://fcm.googleapis.com:/x",
            "https://fcm.googleapis.com:0443/x",
            "https://fcm.googleapis.com:99999/x",
            "https://fcm.googleapis.com/x y",
            "https://fcm.googleapis.com/x\r\nHost: evil",
            "https://fcm.googleapis.com/x#y",
            "https://f\u{e7}m.googleapis.com/x",
        ] {
            assert_eq!(Endpoint::parse(malformed), None, "{malformed}");
        }
        let long = format!("https://fcm.googleapis.com/{}", "x".repeat(PUSH_ENDPOINT_BYTES_MAX));
        assert_eq!(found(&long), None);
        assert!(found(&long[..PUSH_ENDPOINT_BYTES_MAX]).is_some());
    }

    #[test]
    fn a_host_of_the_list_is_read_as_it_is_written() {
        for text in ["web.push.apple.com", "*.notify.windows.com", "push.example:8443", "[::1]:8443", "127.0.0.1:8443"]
        {
            assert_eq!(PushHost::parse(text).expect("a host").to_string(), text);
        }
        for text in
            ["", "*", "*.", "com", "*.com", "https://push.example", "push.example/x", "*.127.0.0.1", "Push.example"]
        {
            assert_eq!(PushHost::parse(text), None, "{text}");
        }
    }
}
