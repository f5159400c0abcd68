//! The QUIC endpoint and how it behaves.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use quinn::{AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, TokioRuntime, crypto::rustls::QuicClientConfig};
use rustls::{
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use supernode_proto::identity::RelayPin;
use supernode_tls::PinVerifier;

use super::socket::{Faults, Socket};
use crate::Error;

/// The system chooses. Where there is IPv6, such a socket reaches IPv4 as well.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
const ANY_PORT_IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// An endpoint at `bind`, or at any port of both families.
pub(crate) fn endpoint(bind: Option<SocketAddr>, faults: Arc<Faults>) -> Result<Endpoint, Error> {
    let socket = match bind {
        Some(address) => open(address),
        None => open(ANY_PORT).or_else(|_| open(ANY_PORT_IPV4)),
    };
    let socket = socket.and_then(|socket| Socket::new(socket, faults)).map_err(Error::Socket)?;
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), runtime).map_err(Error::Socket)
}

/// An endpoint for one connection over this socket.
pub(crate) fn endpoint_over(socket: Arc<dyn AsyncUdpSocket>) -> Result<Endpoint, Error> {
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    Endpoint::new_with_abstract_socket(config, None, socket, runtime).map_err(Error::Socket)
}

/// A socket of the family of this address, at any port.
pub(crate) fn socket_towards(address: SocketAddr, faults: Arc<Faults>) -> Result<Socket, Error> {
    let any = if address.is_ipv6() { ANY_PORT } else { ANY_PORT_IPV4 };
    open(any).and_then(|socket| Socket::new(socket, faults)).map_err(Error::Socket)
}

/// A socket as [`endpoint`] opens it, for an endpoint that exists.
pub(crate) fn socket() -> Result<UdpSocket, Error> {
    open(ANY_PORT).or_else(|_| open(ANY_PORT_IPV4)).map_err(Error::Socket)
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        // Where the system does not allow it, the socket reaches IPv6 only.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// How connections to the relay with this key are made; without one, to a relay that an authority vouches for. The file
/// names authorities beside those of this machine.
pub(crate) fn client_config(pin: Option<RelayPin>, authority_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let authorities = match authority_file {
        Some(path) => authorities(path)?,
        None => Vec::new(),
    };
    let provider = supernode_tls::provider();
    let verifier: Arc<dyn ServerCertVerifier> = match pin {
        Some(pin) => Arc::new(PinVerifier::new(pin, provider.clone())),
        None => {
            let verifier = Verifier::new_with_extra_roots(authorities, provider.clone());
            Arc::new(verifier.map_err(|_| Error::Authorities)?)
        }
    };
    let tls = supernode_tls::client_config(provider, verifier);
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(supernode_tls::transport()));
    Ok(config)
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or(Error::Authorities)
}
