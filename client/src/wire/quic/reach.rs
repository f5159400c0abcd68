//! The ways to a relay: UDP, and TCP where that does not get through; and the way back to UDP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use supernode_proto::{close::CloseCode, invite::Invite};
use supernode_tcp::{Carrier, Proxy, Sending, Target, Way, open, udp_answers};

use super::{
    connection::{Connection, ended, varint},
    dial::{Candidate, Choice, Tried, race, steps},
    network::{Network, Ways},
    socket::{Faults, Socket},
    transport,
};
use crate::{Client, Error, Transport, client::Inner, sync::lock, wire::ended::ConnectionFailure};

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

/// A client's ways to relays, and what is known of them from one connection to the next.
pub(crate) struct Reach {
    network: Network,
    invite: Invite,
    endpoint: quinn::Endpoint,
    quic: quinn::ClientConfig,
    /// What answered last.
    good: Mutex<Option<Candidate>>,
    /// The endpoints of connections over TCP, each of one.
    over_tcp: Mutex<Vec<quinn::Endpoint>>,
    /// Why packets do not get out.
    pub(super) faults: Arc<Faults>,
}

/// What is below a connection that began over TCP.
pub(crate) struct OverTcp {
    endpoint: quinn::Endpoint,
    carrier: Arc<Carrier>,
}

impl OverTcp {
    pub(super) fn transport(&self) -> Transport {
        match self.carrier.way().sending() {
            Sending::Tcp => Transport::Tcp,
            Sending::Udp => Transport::Udp,
        }
    }

    /// Goes on from another socket, if it has moved to UDP: TCP finds its way by itself.
    fn rebind(&self, faults: Arc<Faults>) -> Result<(), Error> {
        let way = self.carrier.way();
        if way.sending() == Sending::Udp {
            way.send_by_udp(Arc::new(transport::socket_towards(way.remote(), faults)?));
        }
        Ok(())
    }

    /// The connection is over: TCP ends once the goodbye is out.
    pub(super) fn end(&self) {
        let carrier = self.carrier.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GOODBYE).await;
            carrier.stop();
        });
    }
}

impl Reach {
    /// To the relay of this invite.
    pub(crate) fn new(invite: &Invite, network: &Network) -> Result<Self, Error> {
        let faults = Arc::new(Faults::default());
        Ok(Self {
            endpoint: transport::endpoint(network.bind, faults.clone())?,
            quic: transport::client_config(invite.pin, network.authority_file.as_deref())?,
            faults,
            good: Mutex::default(),
            over_tcp: Mutex::default(),
            network: network.clone(),
            invite: invite.clone(),
        })
    }

    /// Connects to a host, by the first of its addresses that answers: only that one is told who we are, since a relay lets a
    /// device in once. `None` if none answers, and `tried` says why.
    pub(crate) async fn dial(&self, host: &str, port: u16, tried: &mut Tried) -> Result<Option<Connection>, Error> {
        self.faults.clear();
        let attempt = Attempt::at(self, host, port);
        let good = *lock(&self.good);
        let steps = attempt.steps(good).await?;
        let Some((candidate, connection)) = race(steps, tried, |candidate| attempt.dial(candidate)).await else {
            return Ok(None);
        };
        *lock(&self.good) = Some(candidate);
        if let Some(over) = &connection.over_tcp {
            // Its endpoint is to be closed with the client.
            let mut known = lock(&self.over_tcp);
            known.retain(|endpoint| endpoint.open_connections() > 0);
            known.push(over.endpoint.clone());
        }
        Ok(Some(connection))
    }

    /// Ends every connection: also one that was given up and that the relay may still keep.
    pub(crate) fn close(&self, code: CloseCode) {
        self.endpoint.close(varint(code.0), b"");
        lock(&self.over_tcp).iter().for_each(|endpoint| endpoint.close(varint(code.0), b""));
    }

    /// Waits until the relay knows that all connections are over.
    pub(crate) async fn wait_idle(&self) {
        let over_tcp = lock(&self.over_tcp).clone();
        self.endpoint.wait_idle().await;
        for endpoint in over_tcp {
            endpoint.wait_idle().await;
        }
    }
}

/// Sockets are natively only.
impl Client {
    /// Goes on from another local socket, as after a change of network. The connection migrates (RFC 9000 section 9):
    /// calls go on.
    ///
    /// # Errors
    /// [`Error::Socket`] if the socket cannot be used.
    pub fn rebind(&self, socket: UdpSocket) -> Result<(), Error> {
        let reach = &self.inner.reach;
        if let Some(over) = self.inner.link_now().and_then(|link| link.connection.over_tcp.clone()) {
            over.rebind(reach.faults.clone())?;
        }
        let socket = Socket::new(socket, reach.faults.clone()).map_err(Error::Socket)?;
        reach.endpoint.rebind_abstract(Arc::new(socket)).map_err(Error::Socket)
    }

    /// As [`Self::rebind`], to any port that the system chooses.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn rebind_any(&self) -> Result<(), Error> {
        self.rebind(transport::socket()?)
    }
}

/// How to get to one host.
struct Attempt<'a> {
    reach: &'a Reach,
    host: &'a str,
    port: u16,
    tcp: Option<u16>,
    proxy: Option<Proxy>,
}

impl<'a> Attempt<'a> {
    /// The TCP port of our invite is that of the host that stands there, and of no other.
    fn at(reach: &'a Reach, host: &'a str, port: u16) -> Self {
        let tcp = reach.invite.tcp.filter(|_| reach.network.ways != Ways::Udp && host == reach.invite.host);
        let proxy = tcp.and_then(|_| reach.network.proxy.for_host(host));
        Self { reach, host, port, tcp, proxy }
    }

    /// What to try one after the other.
    async fn steps(&self, good: Option<Candidate>) -> Result<Vec<Vec<Candidate>>, Error> {
        let Self { reach, host, port, tcp, proxy } = self;
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((*host, *port)).await {
            Ok(addresses) => addresses.collect(),
            // Where everything goes through a proxy, that one knows the names.
            Err(_) if proxy.is_some() => Vec::new(),
            Err(error) => return Err(Error::Resolve(error)),
        };
        let choice = Choice { ways: reach.network.ways, tcp: *tcp, by_proxy: proxy.is_some() };
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
    fn dial(&self, candidate: Candidate) -> impl Future<Output = Result<Connection, Error>> + Send + 'static + use<> {
        let Self { reach, host, port, proxy, .. } = self;
        let (endpoint, config, faults) = (reach.endpoint.clone(), reach.quic.clone(), reach.faults.clone());
        let (host, port, proxy) = ((*host).to_owned(), *port, proxy.clone());
        async move {
            match candidate.transport {
                Transport::Tcp => {
                    let target = Target { host: host.clone(), address: candidate.address, proxy };
                    let stream = open(&target).await.map_err(|error| Error::Tcp(ConnectionFailure::passing(error)))?;
                    let way = Way::new(SocketAddr::new(candidate.address.ip(), port));
                    let carrier = Arc::new(Carrier::start(way.clone(), target, stream));
                    let endpoint = transport::endpoint_over(way.clone())?;
                    let connection = handshake(&endpoint, config, way.remote(), &host).await?;
                    Ok(Connection::new(connection, Some(Arc::new(OverTcp { endpoint, carrier }))))
                }
                _ => {
                    let connection = tokio::select! {
                        connection = handshake(&endpoint, config, candidate.address, &host) => connection?,
                        error = faults.no_way(candidate.address) => return Err(error),
                    };
                    Ok(Connection::new(connection, None))
                }
            }
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
    connecting.await.map_err(|error| ended(error).into())
}

/// What a connection wants done while it stands. Of one over TCP: looks again and again whether UDP gets through, and moves to
/// it.
pub(crate) async fn keep(inner: Arc<Inner>, connection: Connection) {
    let Some(over) = connection.over_tcp.clone() else { return };
    let (reach, remote) = (&inner.reach, over.carrier.way().remote());
    if reach.network.ways != Ways::Both || remote.ip() == UNKNOWN {
        return;
    }
    let mut wait = LOOK_AFTER;
    loop {
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(LOOK_AFTER_MAX);
        if !matches!(udp_answers(remote).await, Ok(true)) {
            continue;
        }
        let Ok(socket) = transport::socket_towards(remote, reach.faults.clone()) else { continue };
        if over.carrier.move_to_udp(Arc::new(socket), || connection.ping()).await {
            *lock(&reach.good) = Some(Candidate { transport: Transport::Udp, address: remote });
            inner.tell_of_transport(Transport::Udp);
            return;
        }
    }
}
