//! Reaches the relay over TCP: straight or through a proxy, TLS, WebSocket.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::pki_types::ServerName;
use socket2::SockRef;
use supernode_proto::tcp::{ALPN, NOT_SENT_BYTES_MAX, PACKET_BYTES_MAX, PATH};
use supernode_tls::AnyCertificate;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async_with_config, tungstenite};
use tungstenite::protocol::WebSocketConfig;

use crate::Proxy;

/// What is read from TLS at once, and what of a batch may be gathered before TLS gets it. Unit: bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// A WebSocket to the relay.
pub type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// Where the relay is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name, or its address if it has none: for TLS, for the request, and for a proxy.
    pub host: String,
    /// Its address, with the TCP port.
    pub address: SocketAddr,
    /// What to go through.
    pub proxy: Option<Proxy>,
}

/// Why there is no way over TCP.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No TCP connection.
    #[error("{0}")]
    Tcp(io::Error),
    /// The proxy gave none.
    #[error("through the proxy: {0}")]
    Proxy(io::Error),
    /// What answers there speaks no TLS 1.3 that we know.
    #[error("no TLS there: {0}")]
    Tls(io::Error),
    /// What answers there takes no WebSockets for a relay.
    #[error("no relay answers there: {0}")]
    WebSocket(String),
}

/// Opens a WebSocket to the relay.
///
/// TLS is only there so that proxies and firewalls let it pass: it is taken from whoever shows any certificate. Who
/// the relay is QUIC finds out, whose handshake travels inside and whose packets nobody between can read or make.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(target: &Target) -> Result<Stream, OpenError> {
    let Target { host, address, proxy } = target;
    let stream = match proxy {
        Some(proxy) => proxy.connect(host, address.port()).await.map_err(OpenError::Proxy)?,
        None => TcpStream::connect(address).await.map_err(OpenError::Tcp)?,
    };
    stream.set_nodelay(true).map_err(OpenError::Tcp)?;
    // Where the system has no such option, a little more ages unseen.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX);
    let name = ServerName::try_from(host.clone()).unwrap_or_else(|_| address.ip().into());
    let connector = TlsConnector::from(Arc::new(tls()));
    let stream = connector.connect_with(name, stream, |tls| tls.set_buffer_limit(Some(BUFFER_BYTES)));
    let stream = stream.await.map_err(OpenError::Tls)?;
    let authority = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = format!("wss://{authority}:{}{PATH}", address.port());
    let opened = client_async_with_config(request, stream, Some(web_socket()));
    // In words: what carries it may be another library one day.
    let (stream, _) = opened.await.map_err(|error| OpenError::WebSocket(error.to_string()))?;
    Ok(stream)
}

fn tls() -> rustls::ClientConfig {
    let mut config = supernode_tls::client_config(supernode_tls::provider(), Arc::new(AnyCertificate::default()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

fn web_socket() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(4 * BUFFER_BYTES)
        .max_message_size(Some(PACKET_BYTES_MAX))
        .max_frame_size(Some(PACKET_BYTES_MAX))
}
