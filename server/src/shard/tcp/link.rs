//! One client's connection: TLS and WebSocket, packets in, packets out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use socket2::SockRef;
use supernode_proto::tcp::{NOT_SENT_BYTES_MAX, PACKET_BYTES_MAX, PATH, UNUSED_S_MAX};
use supernode_tcp::give;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::StatusCode,
        protocol::WebSocketConfig,
    },
};

use super::{
    Figures, LinkId, Links, address_of,
    port::Held,
    queue::{QUEUE_BYTES_MAX, Queue},
};
use crate::{
    core::ShardId,
    shard::{
        net::{demultiplexer::shard_of, socket::Received},
        post::inbox::{MediaMail, Postbox},
    },
};

/// What WebSockets and TLS each gather, each way. Unit: bytes. Half a dozen packets, which then share a record of TLS.
const BUFFER_BYTES: usize = 8 * 1024;
/// What one link may make the relay keep: what waits for it, the buffers of TLS and of WebSockets in both directions, and the
/// system's, of which little is unsent.
pub const LINK_BYTES_MAX: usize = QUEUE_BYTES_MAX + 6 * BUFFER_BYTES + 16 * 1024;
/// What is given to a connection that takes it at once, and to one that made us wait: a packet's worth. Unit: bytes.
const BATCH_BYTES_MAX: usize = BUFFER_BYTES;
const ONE_PACKET_BYTES: usize = 1200;
/// A connection that takes a batch in less did not make us wait.
const AT_ONCE: Duration = Duration::from_millis(1);
/// A connection that takes nothing for so long is closed. Default 10 s: QUIC's packets are of no use long before.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// A link for which the shards have nothing for so long has no QUIC connection.
const UNUSED_AFTER: Duration = Duration::from_secs(UNUSED_S_MAX);
/// How much longer than a QUIC connection may take to its Hello a link is a newcomer's: by then the shards have closed those
/// that nobody was let in on, and a connection that lives has been sent something.
const NEWCOMER_BEYOND_HELLO: Duration = Duration::from_secs(12);

type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// Makes a WebSocket of a connection. `None` if it becomes none.
pub(super) async fn open(stream: TcpStream, tls: Arc<rustls::ServerConfig>) -> Option<Stream> {
    stream.set_nodelay(true).ok()?;
    // Where the system has no such option, a little more ages unseen.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX);
    let accepting = TlsAcceptor::from(tls).accept_with(stream, |tls| tls.set_buffer_limit(Some(BUFFER_BYTES)));
    let stream = accepting.await.ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES / 2)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(2 * BUFFER_BYTES)
        .max_message_size(Some(PACKET_BYTES_MAX))
        .max_frame_size(Some(PACKET_BYTES_MAX));
    accept_hdr_async_with_config(stream, only_ours, Some(config)).await.ok()
}

/// There is one path.
#[expect(clippy::result_large_err, reason = "the form that the library asks for")]
fn only_ours(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == PATH {
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = StatusCode::NOT_FOUND;
    Err(refusal)
}

/// A link that stands.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) peer: SocketAddr,
    pub(super) queue: Arc<Queue>,
    pub(super) links: Links,
    pub(super) postboxes: Arc<[Postbox]>,
}

impl Link {
    /// Carries packets until the connection ends or is of no more use.
    pub(super) async fn carry(self, stream: Stream, hello_timeout: Duration, held: &Held) {
        let (sink, source) = stream.split();
        tokio::select! {
            () = self.read(source) => {}
            _ = self.write(sink) => {}
            () = self.unused(hello_timeout, held) => {}
        }
    }

    async fn read(&self, mut source: SplitStream<Stream>) {
        let from = address_of(self.peer, self.id);
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(packet) => self.post(&packet, from),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Text(_) | Message::Close(_) | Message::Frame(_) => return,
            }
        }
    }

    /// Puts a packet into the inbox of the shard that its connection ID names, or the link's own.
    fn post(&self, packet: &Bytes, remote: SocketAddr) {
        let figures = &self.links.figures;
        Figures::count(&figures.packets_in, 1);
        Figures::count(&figures.bytes_in, packet.len() as u64);
        let named = shard_of(packet).map(ShardId::index).and_then(|shard| self.postboxes.get(shard));
        let postbox = named.unwrap_or(&self.postboxes[self.id as usize % self.postboxes.len()]);
        // In memory of its own: QUIC keeps a packet for as long as one byte of it waits for those before it.
        let (data, arrived) = (BytesMut::from(&packet[..]), Instant::now().into_std());
        let received = Received { remote, local_ip: None, ecn: None, arrived, data };
        if postbox.has_room_for_tcp() && postbox.put_media(MediaMail::Packet(received)) {
            postbox.wake();
        } else {
            Figures::count(&figures.dropped_inbox, 1);
        }
    }

    async fn write(&self, mut sink: SplitSink<Stream, Message>) -> Result<(), Error> {
        let figures = &self.links.figures;
        let mut batch_bytes = BATCH_BYTES_MAX;
        loop {
            self.queue.filled().await;
            loop {
                let (batch, late) = self.queue.take(batch_bytes, std::time::Instant::now());
                Figures::count(&figures.dropped_late, late);
                if batch.is_empty() {
                    break;
                }
                Figures::count(&figures.packets_out, batch.len() as u64);
                Figures::count(&figures.bytes_out, batch.iter().map(|packet| packet.len() as u64).sum());
                let sending = async {
                    for packet in batch {
                        sink.feed(Message::Binary(packet)).await?;
                    }
                    sink.flush().await
                };
                let made_us_wait = self.in_time(sending).await?;
                batch_bytes = if made_us_wait { ONE_PACKET_BYTES } else { (2 * batch_bytes).min(BATCH_BYTES_MAX) };
            }
        }
    }

    /// Whether the connection made us wait; gives up one that takes nothing.
    async fn in_time(&self, sending: impl Future<Output = Result<(), Error>>) -> Result<bool, Error> {
        let began = Instant::now();
        let wait = || self.queue.wait_begins(std::time::Instant::now());
        let (sent, waited) = give(timeout(STUCK_AFTER, sending), wait).await;
        if waited {
            self.queue.wait_ends(std::time::Instant::now());
        }
        sent.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))??;
        Ok(waited && began.elapsed() >= AT_ONCE)
    }

    /// Until it is clear that the link is no client's, or no more.
    async fn unused(&self, hello_timeout: Duration, held: &Held) {
        let opened = Instant::now();
        sleep_until(opened + hello_timeout + NEWCOMER_BEYOND_HELLO).await;
        if Instant::from_std(self.queue.used_at()) <= opened + hello_timeout {
            return;
        }
        held.stands();
        loop {
            let over = Instant::from_std(self.queue.used_at() + UNUSED_AFTER);
            if over <= Instant::now() {
                return;
            }
            sleep_until(over).await;
        }
    }
}
