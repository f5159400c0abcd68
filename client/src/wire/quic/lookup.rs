//! The addresses of a relay's hosts.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use supernode_proto::invite::HostPort;
use supernode_session::places::NEXT_AFTER;
use supernode_tcp::Proxy;
use tokio::{task::JoinSet, time::sleep};

use super::{network::Ways, reach::Reach};
use crate::Error;

/// How long names have to be resolved once one host has an address: whoever comes later is tried when the others have not
/// answered (RFC 8305 section 3).
const LATER_MAX: Duration = NEXT_AFTER;

/// One of a relay's hosts, and how it is reached.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// By UDP.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its TCP port, if it has one.
    pub(crate) tcp: Option<u16>,
    /// Through what that is reached.
    pub(crate) proxy: Option<Proxy>,
}

/// Looks names up, all at once.
pub(crate) struct Lookup {
    hosts: Vec<Host>,
    under_way: JoinSet<(usize, io::Result<Vec<SocketAddr>>)>,
    failure: Option<io::Error>,
}

impl Lookup {
    /// Begins.
    pub(crate) fn of(hosts: &[HostPort], reach: &Reach) -> Self {
        let mut under_way = JoinSet::new();
        let begin = |(number, at): (usize, &HostPort)| {
            let name_and_port = (at.host.clone(), at.port);
            under_way
                .spawn(async move { (number, tokio::net::lookup_host(name_and_port).await.map(Iterator::collect)) });
            // The TCP port of our invite is that of the hosts that stand there, and of no other.
            let tcp = reach.tcp.filter(|_| reach.network.ways != Ways::Udp && reach.places.names(at));
            let proxy = tcp.and_then(|_| reach.network.proxy.for_host(&at.host));
            Host { name: at.host.clone(), port: at.port, addresses: Vec::new(), tcp, proxy }
        };
        let hosts = hosts.iter().enumerate().map(begin).collect();
        Self { hosts, under_way, failure: None }
    }

    /// The hosts, with the addresses that are known by now: of one at least, if any has some.
    ///
    /// # Errors
    /// [`Error::Resolve`] if none has.
    pub(crate) async fn hosts(&mut self) -> Result<&[Host], Error> {
        while let Some(found) = self.under_way.join_next().await {
            if self.take(found) {
                break;
            }
        }
        let others = async {
            while let Some(found) = self.under_way.join_next().await {
                self.take(found);
            }
        };
        tokio::select! {
            () = others => {}
            () = sleep(LATER_MAX) => {}
        }
        if self.hosts.iter().all(|host| host.addresses.is_empty()) {
            let failure = self.failure.take().unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
            return Err(Error::Resolve(failure));
        }
        Ok(&self.hosts)
    }

    /// Whether no more addresses come.
    pub(crate) fn is_over(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether that host has addresses.
    fn take(&mut self, found: Result<(usize, io::Result<Vec<SocketAddr>>), tokio::task::JoinError>) -> bool {
        let (number, outcome) = match found {
            Ok(found) => found,
            Err(error) => {
                // Only a panic ends it so.
                tracing::error!(%error, "looking a name up failed");
                return false;
            }
        };
        let host = &mut self.hosts[number];
        match outcome {
            Ok(addresses) => host.addresses = addresses,
            // Where everything goes through a proxy, that one knows the names.
            Err(_) if host.proxy.is_some() => host.addresses = vec![SocketAddr::new(unknown(number), host.port)],
            Err(error) => self.failure = Some(error),
        }
        !host.addresses.is_empty()
    }
}

/// For QUIC, where a name cannot be resolved and a proxy is told it instead: an address of nobody (TEST-NET-2, RFC 5737), to
/// which nothing is ever sent. Each host has its own.
fn unknown(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, u8::try_from(number).unwrap_or(u8::MAX)))
}

/// Whether it is one of those.
pub(crate) fn is_unknown(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..3] == [198, 51, 100])
}
