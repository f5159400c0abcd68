//! HTTP proxies: which one there is, and how a TCP connection is asked of it (RFC 9110 section 9.3.6).

use std::{fmt, io, net::IpAddr, str::FromStr};

use data_encoding::BASE64;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest answer of a proxy that is read. Default 8 KiB: a status line and some headers.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// Where a proxy listens whose address has no port.
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy that is spoken to without TLS. `Debug` and `Display` leave name and password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Basic` credentials, as they are sent.
    credentials: Option<String>,
}

/// Which proxy to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProxyChoice {
    /// What `HTTPS_PROXY` or `https_proxy` says, but for hosts of `NO_PROXY` or `no_proxy`.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one, for every host.
    Use(Proxy),
}

/// Text that names no proxy which can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProxy {
    /// Another scheme: of HTTP proxies only those are known that are spoken to without TLS.
    #[error("a proxy is given as http://HOST:PORT, with USER:PASSWORD@ before the host if it asks for them")]
    Form,
}

impl Proxy {
    /// Whether a name and a password for it are known.
    pub fn has_password(&self) -> bool {
        self.credentials.is_some()
    }

    /// Asks it for a connection.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let credentials = self.credentials.as_ref();
        let credentials = credentials.map(|text| format!("Proxy-Authorization: Basic {text}\r\n")).unwrap_or_default();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let status = read_status(&mut stream).await?;
        match status {
            200..=299 => Ok(stream),
            407 => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "the proxy asks for a name and a password (407)"))
            }
            other => Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("the proxy says {other}"))),
        }
    }
}

/// Reads up to the end of the headers and not a byte further: what follows is the relay's.
async fn read_status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer has no end"));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers is no HTTP proxy"))
}

impl ProxyChoice {
    /// The proxy for this host. What the environment says and is no proxy is told in the log and left (R-232).
    pub fn for_host(&self, host: &str) -> Option<Proxy> {
        match self {
            Self::Direct => None,
            Self::Use(proxy) => Some(proxy.clone()),
            Self::Environment => from_environment(host, |name| std::env::var(name).ok()),
        }
    }
}

fn from_environment(host: &str, variable: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    // Small letters go first, as with curl.
    let either = |small: &str, large: &str| variable(small).or_else(|| variable(large));
    let text = either("https_proxy", "HTTPS_PROXY").filter(|text| !text.is_empty())?;
    if either("no_proxy", "NO_PROXY").is_some_and(|list| is_excepted(host, &list)) {
        return None;
    }
    text.parse().inspect_err(|error| tracing::warn!(%error, "HTTPS_PROXY is not used")).ok()
}

/// Whether a list of names, domains and addresses, as `NO_PROXY` has it, holds this host.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || host == domain
            || (host.parse::<IpAddr>().is_err() && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    })
}

impl FromStr for Proxy {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let rest = match text.trim().split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(BadProxy::Form),
            None => text.trim(),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(BASE64.encode(&unescaped(credentials))), address),
            None => (None, rest),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(BadProxy::Form)?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or(BadProxy::Form)?)
            }
            None => address.split_once(':').unwrap_or((address, "")),
        };
        let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().map_err(|_| BadProxy::Form)? };
        let plausible = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || port == 0 || !host.bytes().all(plausible) {
            return Err(BadProxy::Form);
        }
        Ok(Self { host: host.to_owned(), port, credentials })
    }
}

/// `%40` is how an `@` stands in a name or a password.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    plain
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().expect(text)
    }

    #[test]
    fn a_proxy_is_a_host_with_a_port_and_perhaps_a_password() {
        assert_eq!(proxy("http://proxy.example:3128").to_string(), "proxy.example:3128");
        assert_eq!(proxy("proxy.example").to_string(), "proxy.example:80");
        assert_eq!(proxy("http://[2001:db8::1]:8080/").to_string(), "[2001:db8::1]:8080");
        let named = proxy("http://anna:p%40ss@proxy.example:3128");
        assert_eq!(named.credentials.as_deref(), Some("YW5uYTpwQHNz"), "anna:p@ss");
        assert_eq!(format!("{named:?} {named}"), "Proxy(..) proxy.example:3128", "the password is not shown");
        for bad in ["socks5://h:1", "https://h", "http://", "h:0", "h:x", "http://a b", "[::1", ""] {
            assert_eq!(bad.parse::<Proxy>(), Err(BadProxy::Form), "{bad:?}");
        }
    }

    // R-232
    #[test]
    fn the_environment_names_a_proxy_and_whom_it_is_not_for() {
        let variables = |list: &'static [(&str, &str)]| {
            move |name: &str| list.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let of = |host, list| from_environment(host, variables(list)).map(|proxy| proxy.to_string());
        assert_eq!(of("relay.example", &[]), None);
        assert_eq!(of("relay.example", &[("HTTPS_PROXY", "http://p:1")]), Some("p:1".into()));
        assert_eq!(of("r", &[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:2")]), Some("q:2".into()));
        assert_eq!(of("r", &[("https_proxy", "")]), None);
        assert_eq!(of("r", &[("https_proxy", "socks5://p:1")]), None);
        const EXCEPT: &[(&str, &str)] = &[("https_proxy", "p:1"), ("NO_PROXY", "127.0.0.1, .example,exact.test")];
        for excepted in ["127.0.0.1", "relay.example", "RELAY.EXAMPLE.", "a.b.example", "exact.test", "a.exact.test"] {
            assert_eq!(of(excepted, EXCEPT), None, "{excepted}");
        }
        for other in ["relay.example.org", "notexact.test", "127.0.0.11", "7.0.0.1"] {
            assert!(of(other, EXCEPT).is_some(), "{other}");
        }
        assert_eq!(of("anything", &[("https_proxy", "p:1"), ("no_proxy", "*")]), None);
    }

    /// A proxy that answers so; what it was asked.
    async fn asked(answer: &'static str, credentials: &str) -> (io::Result<Vec<u8>>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(answer.as_bytes()).await.expect("sent");
            String::from_utf8(request).expect("text")
        });
        let proxy = proxy(&format!("http://{credentials}127.0.0.1:{port}"));
        let connected = proxy.connect("2001:db8::7", 443).await;
        let request = serving.await.expect("served");
        let rest = match connected {
            Ok(mut stream) => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.expect("read");
                Ok(rest)
            }
            Err(error) => Err(error),
        };
        (rest, request)
    }

    // R-232
    #[tokio::test]
    async fn a_tunnel_begins_right_behind_the_proxy_s_answer() {
        let (rest, request) = asked("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nTLS", "anna:pass@").await;
        assert_eq!(rest.expect("connected"), b"TLS");
        assert_eq!(
            request,
            "CONNECT [2001:db8::7]:443 HTTP/1.1\r\nHost: [2001:db8::7]:443\r\nProxy-Authorization: Basic \
             YW5uYTpwYXNz\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn what_a_proxy_refuses_is_said() {
        let refused = |answer| async move { asked(answer, "").await.0.expect_err("refused").to_string() };
        let login = refused("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        assert_eq!(login, "the proxy asks for a name and a password (407)");
        assert_eq!(refused("HTTP/1.0 403 Forbidden\r\n\r\n").await, "the proxy says 403");
        assert_eq!(refused("SSH-2.0-x\r\n\r\n").await, "what answers is no HTTP proxy");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", host in ".{0,30}") {
            let _ = text.parse::<Proxy>();
            let _ = is_excepted(&host, &text);
        }
    }
}
