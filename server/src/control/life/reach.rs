//! Where people reach the relay and its page: what links say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use supernode_proto::{DEFAULT_PORT, invite::Invite};

use crate::control::{
    certificate::Certificate,
    config::{Config, TlsChoice},
    invite::{InviteLinkError, parse_host},
    state_dir::StateDir,
};

/// The port that nobody has to say.
const HTTPS_PORT: u16 = 443;

/// The addresses that a running relay has.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// UDP.
    pub listen: SocketAddr,
    /// TCP, for clients without UDP.
    pub tcp: Option<u16>,
    /// Where pages are told of certificates.
    pub certificates: Option<u16>,
    /// Where the page is.
    pub page: Option<SocketAddr>,
}

impl Reach {
    /// Writes down, for `supernode invite`, what links say while this certificate is shown.
    ///
    /// # Errors
    /// See [`InviteLinkError`].
    pub fn remember(
        &self,
        state: &StateDir,
        config: &Config,
        certificate: &Certificate,
    ) -> Result<Invite, InviteLinkError> {
        let link = self.link(config, certificate)?;
        state.remember_link(&link)?;
        state.remember_page(self.page_url(config, certificate, &link).as_deref())?;
        Ok(link)
    }

    /// Where clients reach the relay and by what they know it. A certificate of an authority is checked by its name, so
    /// that is what the link says then.
    ///
    /// # Errors
    /// [`InviteLinkError::Address`].
    pub fn link(&self, config: &Config, certificate: &Certificate) -> Result<Invite, InviteLinkError> {
        // One that is still to be ordered has no names yet.
        let name = config.tls.acme.domains.iter().chain(&certificate.names).find(|name| !name.starts_with('*'));
        let by_authority = certificate.by_authority || config.tls.mode == TlsChoice::Acme;
        let link = match (&config.relay.advertise, name) {
            (Some(advertised), _) => parse_host(advertised)?,
            (None, Some(name)) if by_authority => parse_host(&format!("{name}:{}", self.listen.port()))?,
            (None, _) => parse_host(&reachable_address(self.listen))?,
        };
        let advertised = Some(config.tcp.advertise_port).filter(|port| *port != 0);
        let tcp = self.tcp.map(|port| advertised.unwrap_or(port));
        // Of a certificate that an authority has signed there is nothing to be told.
        let pages = self.certificates.filter(|_| !by_authority);
        Ok(Invite { tcp, pages, pin: (!by_authority).then_some(certificate.pin), ..link })
    }

    /// Where people find the page, if the operator has said so or this relay serves it.
    pub fn page_url(&self, config: &Config, certificate: &Certificate, link: &Invite) -> Option<String> {
        if let Some(url) = &config.web.page_url {
            return Some(url.clone());
        }
        let page = self.page?;
        let is_plain = config.tls.mode == TlsChoice::SelfSigned && !certificate.by_authority;
        Some(match (is_plain, page.port()) {
            (true, _) => format!("http://{page}/"),
            (false, HTTPS_PORT) => format!("https://{}/", bracketed(&link.host)),
            (false, port) => format!("https://{}:{port}/", bracketed(&link.host)),
        })
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// An address for the invite link: the one listened on, or for "every address" the one that packets to the Internet
/// would leave from. Behind a NAT or a name, the operator says `supernode invite --host` instead.
fn reachable_address(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => outbound_ip(NOBODY_V4).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        // Clients of either family can use an IPv4 address more often than the other way round.
        IpAddr::V6(_) => {
            outbound_ip(NOBODY_V4).or_else(|| outbound_ip(NOBODY_V6)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

/// Addresses for documentation (RFC 5737, RFC 3849): the way to them is the way to everybody.
const NOBODY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The address that packets to there would leave from. Asks the routing table: connecting a UDP socket sends nothing.
fn outbound_ip(there: IpAddr) -> Option<IpAddr> {
    let any = if there.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((there, DEFAULT_PORT)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
