//! The ways to a relay: UDP, and TCP where that does not get through; and the way back to UDP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use supernode_tcp::{Carrier, Proxy, Sending, Target, Way, open, udp_answers};

use crate::{
    Error, Transport,
    client::Inner,
    config::Ways,
    sync::lock,
    wire::{
        dial::{Candidate, Choice, steps},
        socket::Faults,
        transport,
    },
};

/// When it is looked for the first time after a connection over TCP whether UDP gets through after all: a packet may have
/// been lost. Each further look comes after twice the time.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// The longest time between two looks. Default 2 min: a packet or three, and who has changed networks is back soon.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(120);
/// How long TCP goes on after its connection has ended: so long has the goodbye to get out.
const GOODBYE: Duration = Duration::from_secs(1);

/// For QUIC, where a name cannot be resolved and a proxy is told it instead: an address of nobody (RFC 5737), to which
/// nothing is ever sent.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A QUIC connection that stands, on which nobody knows yet who we are.
pub(crate) struct Dialled {
    pub(crate) connection: quinn::Connection,
    pub(crate) over_tcp: Option<Arc<OverTcp>>,
}

/// What is below a connection that began over TCP.
pub(crate) struct OverTcp {
    endpoint: quinn::Endpoint,
    carrier: Arc<Carrier>,
}

impl OverTcp {
    pub(crate) fn transport(&self) -> Transport {
        match self.carrier.way().sending() {
            Sending::Tcp => Transport::Tcp,
            Sending::Udp => Transport::Udp,
        }
    }

    /// Goes on from another socket, if it has moved to UDP: TCP finds its way by itself.
    pub(crate) fn rebind(&self, faults: Arc<Faults>) -> Result<(), Error> {
        let way = self.carrier.way();
        if way.sending() == Sending::Udp {
            way.send_by_udp(Arc::new(transport::socket_towards(way.remote(), faults)?));
        }
        Ok(())
    }

    /// The connection is over: TCP ends once the goodbye is out.
    pub(crate) fn end(&self) {
        let carrier = self.carrier.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GOODBYE).await;
            carrier.stop();
        });
    }
}

/// How to get to one relay.
pub(crate) struct Reach<'a> {
    inner: &'a Inner,
    host: &'a str,
    port: u16,
    tcp: Option<u16>,
    proxy: Option<Proxy>,
}

impl<'a> Reach<'a> {
    /// To this host. The TCP port of our invite is that of the host that stands there, and of no other.
    pub(crate) fn of(inner: &'a Inner, host: &'a str, port: u16) -> Self {
        let tcp = inner.invite.tcp.filter(|_| inner.config.ways != Ways::Udp && host == inner.invite.host);
        let proxy = tcp.and_then(|_| inner.config.proxy.for_host(host));
        Self { inner, host, port, tcp, proxy }
    }

    /// What to try one after the other.
    pub(crate) async fn steps(&self, good: Option<Candidate>) -> Result<Vec<Vec<Candidate>>, Error> {
        let Self { inner, host, port, tcp, proxy } = self;
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((*host, *port)).await {
            Ok(addresses) => addresses.collect(),
            // Where everything goes through a proxy, that one knows the names.
            Err(_) if proxy.is_some() => Vec::new(),
            Err(error) => return Err(Error::Resolve(error)),
        };
        let choice = Choice { ways: inner.config.ways, tcp: *tcp, by_proxy: proxy.is_some() };
        match addresses.is_empty() {
            false => Ok(steps(addresses.into_iter(), good, choice)),
            true if proxy.is_some() => {
                let unknown = SocketAddr::new(UNKNOWN, *port);
                Ok(steps([unknown].into_iter(), None, Choice { ways: Ways::Tcp, ..choice }))
            }
            true => Err(Error::Resolve(std::io::ErrorKind::AddrNotAvailable.into())),
        }
    }

    /// The QUIC handshake.
    pub(crate) fn dial(
        &self,
        candidate: Candidate,
    ) -> impl Future<Output = Result<Dialled, Error>> + Send + 'static + use<> {
        let (endpoint, config, faults) =
            (self.inner.endpoint.clone(), self.inner.quic.clone(), self.inner.faults.clone());
        let (host, port, proxy) = (self.host.to_owned(), self.port, self.proxy.clone());
        async move {
            match candidate.transport {
                Transport::Udp => {
                    let connection = tokio::select! {
                        connection = handshake(&endpoint, config, candidate.address, &host) => connection?,
                        error = faults.no_way(candidate.address) => return Err(error),
                    };
                    Ok(Dialled { connection, over_tcp: None })
                }
                Transport::Tcp => {
                    let target = Target { host: host.clone(), address: candidate.address, proxy };
                    let stream = open(&target).await.map_err(Error::Tcp)?;
                    let way = Way::new(SocketAddr::new(candidate.address.ip(), port));
                    let carrier = Arc::new(Carrier::start(way.clone(), target, stream));
                    let endpoint = transport::endpoint_over(way.clone())?;
                    let connection = handshake(&endpoint, config, way.remote(), &host).await?;
                    Ok(Dialled { connection, over_tcp: Some(Arc::new(OverTcp { endpoint, carrier })) })
                }
            }
        }
    }

    /// Keeps the endpoint of a connection over TCP, which is to be closed with the client.
    pub(crate) fn remember(&self, dialled: &Dialled) {
        if let Some(over) = &dialled.over_tcp {
            let mut known = lock(&self.inner.over_tcp);
            known.retain(|endpoint| endpoint.open_connections() > 0);
            known.push(over.endpoint.clone());
        }
    }
}

async fn handshake(
    endpoint: &quinn::Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    host: &str,
) -> Result<quinn::Connection, Error> {
    let connecting = endpoint.connect_with(config, address, host);
    let connecting = connecting.map_err(|_| Error::State("the relay's address cannot be connected to"))?;
    connecting.await.map_err(Error::from_connection)
}

/// Looks again and again whether UDP gets through, and moves to it.
pub(crate) async fn back_to_udp(inner: Arc<Inner>, over: Arc<OverTcp>, connection: quinn::Connection) {
    let remote = over.carrier.way().remote();
    if inner.config.ways != Ways::Both || remote.ip() == UNKNOWN {
        return;
    }
    let mut wait = LOOK_AFTER;
    loop {
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(LOOK_AFTER_MAX);
        if !matches!(udp_answers(remote).await, Ok(true)) {
            continue;
        }
        let Ok(socket) = transport::socket_towards(remote, inner.faults.clone()) else { continue };
        // An empty datagram says nothing and is acknowledged.
        let ask = || drop(connection.send_datagram(Bytes::new()));
        if over.carrier.move_to_udp(Arc::new(socket), ask).await {
            *lock(&inner.good) = Some(Candidate { transport: Transport::Udp, address: remote });
            inner.tell_of_transport(Transport::Udp);
            return;
        }
    }
}
