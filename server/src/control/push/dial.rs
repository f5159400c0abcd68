//! One message to one push service: an address that may be dialled, TLS, a request without a body, a status.
//!
//! A connection of its own for each, as they are few; so nothing is left open to whoever is named by an endpoint, no redirect
//! is followed, and what is answered beyond the head is not read.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderName},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{IpAddr as ServerAddress, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::is_public;
use crate::core::push_services::Endpoint;

/// How long a push service may keep a message for a device that it does not reach, in seconds: as long as somebody rings. Later
/// it would tell of a ring that is over.
const TTL_S: u16 = 60;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Reaches push services.
pub struct Dialler {
    tls: TlsConnector,
}

/// What a service said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// Why it said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not in time.
    Late,
    /// Its name leads to no address but those of private networks.
    Private,
    /// There is no connection to it.
    Unreachable,
    /// The connection ended before the answer.
    Broken,
}

impl Dialler {
    /// One that takes the certificates of these authorities.
    pub fn new(authorities: RootCertStore) -> Self {
        let mut tls = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsConnector::from(Arc::new(tls)) }
    }

    /// Sends the message. `named` is the address that the operator's list has in place of a name, if it has.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint<'_>,
        named: Option<IpAddr>,
        authorization: &str,
    ) -> Result<Answer, Failure> {
        let stream = self.connect(endpoint, named).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await.map_err(|_| Failure::Broken)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint.path)
            .header(header::HOST, endpoint.origin.trim_start_matches("https://"))
            .header(header::AUTHORIZATION, authorization)
            .header(HeaderName::from_static("ttl"), TTL_S)
            .header(HeaderName::from_static("urgency"), "high")
            .header(header::CONTENT_LENGTH, 0)
            .body(Empty::<Bytes>::new())
            .map_err(|_| Failure::Broken)?;
        let mut answered = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut answered => response,
            // It brings nothing more: the answer is there, or there is none.
            _ = connection => answered.await,
        };
        let response = response.map_err(|_| Failure::Broken)?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        Ok(Answer { status: response.status().as_u16(), retry_after })
    }

    /// A connection to the first of its addresses that takes one.
    async fn connect(
        &self,
        endpoint: &Endpoint<'_>,
        named: Option<IpAddr>,
    ) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, Failure> {
        let addresses = match named {
            Some(address) => vec![address],
            None => public_addresses(endpoint.host, endpoint.port).await?,
        };
        let name = match named {
            Some(address) => ServerName::IpAddress(ServerAddress::from(address)),
            None => ServerName::try_from(endpoint.host.to_owned()).map_err(|_| Failure::Unreachable)?,
        };
        for address in addresses {
            let Ok(stream) = TcpStream::connect((address, endpoint.port)).await else { continue };
            if let Ok(stream) = self.tls.connect(name.clone(), stream).await {
                return Ok(TokioIo::new(stream));
            }
        }
        Err(Failure::Unreachable)
    }

    /// Whether a service can be reached: for the operator's doctor.
    ///
    /// # Errors
    /// Why not.
    pub async fn knock(&self, host: &str, port: u16) -> Result<(), Failure> {
        let named = host.parse().ok();
        self.connect(&Endpoint { host, port, path: "/", origin: "" }, named).await.map(drop)
    }
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialler(..)")
    }
}

/// Where a name leads, without what lies in a private network.
async fn public_addresses(host: &str, port: u16) -> Result<Vec<IpAddr>, Failure> {
    let found: io::Result<Vec<IpAddr>> =
        tokio::net::lookup_host((host, port)).await.map(|all| all.map(|address| address.ip()).collect());
    let all = found.map_err(|_| Failure::Unreachable)?;
    let is_there = !all.is_empty();
    let public: Vec<IpAddr> = all.into_iter().filter(|address| is_public(*address)).collect();
    match public.is_empty() {
        true if is_there => Err(Failure::Private),
        true => Err(Failure::Unreachable),
        false => Ok(public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[tokio::test]
    async fn a_name_that_leads_into_a_private_network_is_not_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let dialler = Dialler::new(RootCertStore::empty());
        assert_eq!(dialler.knock("localhost", port).await, Err(Failure::Private));
        let came = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(came.is_err(), "nobody came");
        // An address that is named as such is dialled.
        let (knocked, came) =
            tokio::join!(dialler.knock("127.0.0.1", port), async { listener.accept().await.map(drop) });
        assert_eq!((knocked, came.is_ok()), (Err(Failure::Unreachable), true));
    }
}
