//! What browsers need: the page, and to be told which certificates a relay without an authority's may show.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use data_encoding::{BASE64, HEXLOWER};
use rustls::{ClientConnection, StreamOwned};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use supernode_proto::invite::Invite;
use supernode_server::control::{page::PAGE_BYTES_MAX, status::PageTold, tls};
use supernode_tls::AnyCertificate;

use super::{Finding, bad, good};

/// How long a connection and each read may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read: a page as long as one that a relay serves, and what stands above it.
const PAGE_ANSWER_BYTES_MAX: u64 = PAGE_BYTES_MAX + 16 * 1024;
/// A few certificates in base64.
const TOLD_BYTES_MAX: u64 = 256 * 1024;

/// What stands at `GET /certificates`.
#[derive(Deserialize)]
struct Told {
    certificates: Vec<Vec<String>>,
}

/// Whether pages are told of certificates there that are of the link's key.
pub(super) fn certificates(link: &Invite) -> Option<Finding> {
    const CHECK: &str = "certificates for pages";
    let (port, pin) = (link.pages?, link.pin?);
    let asked = || -> anyhow::Result<usize> {
        let bytes = get(connect(&link.host, port)?, &link.host, "/certificates", TOLD_BYTES_MAX)?;
        let told: Told = serde_json::from_slice(&bytes).context("what is told there is no list of certificates")?;
        for chain in &told.certificates {
            let own = BASE64.decode(chain.first().context("an empty chain")?.as_bytes())?;
            if tls::pin_of(&own.into()) != Some(pin) {
                bail!("a certificate of another key is told there");
            }
        }
        Ok(told.certificates.len())
    };
    Some(match asked() {
        Ok(0) => {
            bad(CHECK, format!("TCP port {port}: none is told"), "does the relay take pages in (web.pages = \"on\")?")
        }
        Ok(count) => good(CHECK, format!("TCP port {port}: {count} are told, of the link's key")),
        Err(error) => bad(
            CHECK,
            format!("TCP port {port}: {error:#}"),
            "let TCP to web.listen through the firewall; pages from disk cannot come in without it",
        ),
    })
}

/// Whether the page is where people find it, as the relay serves it.
pub(super) fn page(told: &PageTold) -> Finding {
    const CHECK: &str = "page";
    let PageTold { url, sha256 } = told;
    match fetched(url).map(|page| HEXLOWER.encode(&Sha256::digest(page))) {
        Ok(there) if there == *sha256 => good(CHECK, format!("{url}: there, with the SHA-256 that the relay says")),
        Ok(there) => bad(
            CHECK,
            format!("{url}: another page is there, with SHA-256 {there}"),
            "browsers run what comes: does a proxy in front change it, or is it another one's port?",
        ),
        Err(error) => bad(
            CHECK,
            format!("{url}: {error:#}"),
            "let TCP to web.page through the firewall; is relay.advertise its name, or web.page_url its place?",
        ),
    }
}

fn fetched(url: &str) -> anyhow::Result<Vec<u8>> {
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (authority, path) = rest.split_once('/').context("no path")?;
    let is_secure = scheme == "https";
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((host, port)) => (host, port.parse()?),
        None => (authority, if is_secure { 443 } else { 80 }),
    };
    let (host, path) = (host.trim_start_matches('[').trim_end_matches(']'), format!("/{path}"));
    let stream = connect(host, port)?;
    if !is_secure {
        return get(stream, authority, &path, PAGE_ANSWER_BYTES_MAX);
    }
    // Whether clients would take the certificate is another check's.
    let mut config = supernode_tls::client_config(supernode_tls::provider(), Arc::new(AnyCertificate::default()));
    config.alpn_protocols = vec![supernode_proto::tcp::ALPN.to_vec()];
    let tls = ClientConnection::new(Arc::new(config), host.to_owned().try_into()?)?;
    get(StreamOwned::new(tls, stream), authority, &path, PAGE_ANSWER_BYTES_MAX)
}

fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no address"), Into::into))
}

/// The body of what is answered, if that is 200.
fn get(mut stream: impl Read + Write, host: &str, path: &str, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(bytes_max).read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").context("what answers speaks no HTTP")?;
    let status = String::from_utf8_lossy(&answer[..head]).split(' ').nth(1).map(str::to_owned);
    match status.as_deref() {
        Some("200") => Ok(answer.split_off(head + 4)),
        other => bail!("answered with status {}", other.unwrap_or("none")),
    }
}
