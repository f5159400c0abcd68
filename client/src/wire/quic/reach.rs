//! The ways to a relay: UDP, and TCP where that does not get through; and the way back to UDP.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use supernode_proto::{
    close::CloseCode,
    invite::{HostPort, Invite},
};
use supernode_tcp::{Carrier, Sending, Target, Way, open, udp_answers};

use super::{
    Place, USUAL,
    connection::{Connection, ended, varint},
    dial::{Candidate, Tried, steps},
    lookup::{Host, Lookup, is_unknown},
    network::{Network, Ways},
    socket::{Faults, Socket},
    transport,
};
use crate::{
    Client, Error, Transport,
    client::Inner,
    sync::lock,
    wire::{ended::ConnectionFailure, places::Places, race::race},
};

/// When it is looked for the first time after a connection over TCP whether UDP gets through after all: a packet may have
/// been lost. Each further look comes after twice the time.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// The longest time between two looks. Default 2 min: a packet or three, and who has changed networks is back soon.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(120);
/// How long TCP goes on after its connection has ended: so long has the goodbye to get out.
const GOODBYE: Duration = Duration::from_secs(1);

/// A client's ways to relays, and what is known of them from one connection to the next.
pub(crate) struct Reach {
    pub(super) network: Network,
    /// Where it may be.
    pub(crate) places: Places,
    /// The TCP port of whoever the invite names, if they have one.
    pub(super) tcp: Option<u16>,
    endpoint: quinn::Endpoint,
    quic: quinn::ClientConfig,
    /// By which way somebody answered last.
    usual: Mutex<Transport>,
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
            usual: Mutex::new(USUAL),
            over_tcp: Mutex::default(),
            network: network.clone(),
            places: Places::new(invite),
            tcp: invite.tcp,
        })
    }

    /// Connects to the first address of these hosts that answers: only that one is told who we are, since a relay lets a
    /// device in once. `None` if none answers, and `tried` says why.
    pub(crate) async fn dial(
        &self,
        hosts: &[HostPort],
        except: &[Place],
        tried: &mut Tried,
    ) -> Result<Option<(Place, Connection)>, Error> {
        self.faults.clear();
        let mut lookup = Lookup::of(hosts, self);
        let mut except = except.to_vec();
        loop {
            let hosts = lookup.hosts().await?;
            let addresses: Vec<Vec<Place>> = hosts.iter().map(|host| host.addresses.clone()).collect();
            let order = self.places.order(&addresses, Place::is_ipv6, &except);
            let steps = steps(&order, hosts, self.network.ways, *lock(&self.usual) == Transport::Tcp);
            let before = tried.count();
            let won = race(steps, tried, |candidate| dial(self, &hosts[candidate.host], candidate)).await;
            if let Some((candidate, connection)) = won {
                tried.slower_than(&candidate, before).iter().for_each(|slower| self.places.avoid(slower));
                self.keep(candidate, &connection);
                return Ok(Some((candidate.relay, connection)));
            }
            if lookup.is_over() {
                return Ok(None);
            }
            except.extend(order);
        }
    }

    fn keep(&self, candidate: Candidate, connection: &Connection) {
        *lock(&self.usual) = candidate.transport;
        if let Some(over) = &connection.over_tcp {
            // Its endpoint is to be closed with the client.
            let mut known = lock(&self.over_tcp);
            known.retain(|endpoint| endpoint.open_connections() > 0);
            known.push(over.endpoint.clone());
        }
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

/// The QUIC handshake with one of a relay's addresses.
fn dial(
    reach: &Reach,
    host: &Host,
    candidate: Candidate,
) -> impl Future<Output = Result<Connection, Error>> + Send + 'static + use<> {
    let (endpoint, config, faults) = (reach.endpoint.clone(), reach.quic.clone(), reach.faults.clone());
    let (name, proxy) = (host.name.clone(), host.proxy.clone());
    async move {
        match candidate.transport {
            Transport::Tcp => {
                let target = Target { host: name.clone(), address: candidate.address, proxy };
                let stream = open(&target).await.map_err(|error| Error::Tcp(ConnectionFailure::passing(error)))?;
                let way = Way::new(candidate.relay);
                let carrier = Arc::new(Carrier::start(way.clone(), target, stream));
                let endpoint = transport::endpoint_over(way.clone())?;
                let connection = handshake(&endpoint, config, way.remote(), &name).await?;
                Ok(Connection::new(connection, Some(Arc::new(OverTcp { endpoint, carrier }))))
            }
            _ => {
                let connection = tokio::select! {
                    connection = handshake(&endpoint, config, candidate.address, &name) => connection?,
                    error = faults.no_way(candidate.address) => return Err(error),
                };
                Ok(Connection::new(connection, None))
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
    if reach.network.ways != Ways::Both || is_unknown(remote.ip()) {
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
            *lock(&reach.usual) = Transport::Udp;
            inner.tell_of_transport(Transport::Udp);
            return;
        }
    }
}
