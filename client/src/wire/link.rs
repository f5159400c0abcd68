//! One connection to the relay: from the handshake to its end. A session that reconnects goes through several.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use supernode_e2ee::Device;
use supernode_proto::{
    VERSION,
    close::CloseCode,
    control::{self, ClientMessage, FrameReader, RelayMessage, SessionLimits, client_message, relay_message},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL, RelayPin, Revocation},
    object::TrackAlias,
};
use supernode_session::{Channel, Introduction, Requests, pin::pin_of, transport::DATAGRAM_BUFFER_BYTES};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ClockSkew, Error,
    error::Refusal,
    sync::{lock, long},
    tracks::track::RemoteTrack,
    wire::{clock, handed::Handed, inbound::Unfinished},
};

/// Control messages that may wait to be written: a client that has more under way than this waits itself.
const OUTGOING_MAX: usize = 256;
/// Streams of equal priority share; control goes before media.
const CONTROL_PRIORITY: i32 = 100;

/// What the relay said to a request.
pub(crate) type Reply = Result<relay_message::Body, Error>;
/// Runs on the reply before any later message is looked at, so that state and events stay in the relay's order.
pub(crate) type OnReply = Box<dyn FnOnce(Result<&relay_message::Body, &Refusal>) + Send>;

/// The one side that everybody may use.
pub(crate) struct Link {
    pub(crate) connection: quinn::Connection,
    /// What we sign on it is signed for this.
    pub(crate) channel: Channel,
    pub(crate) limits: SessionLimits,
    /// Of this device's clock, as the Welcome told.
    pub(crate) skew: ClockSkew,
    /// Counts the links of a client.
    pub(crate) generation: u64,
    #[cfg(feature = "lying")]
    pub(crate) liar: Option<Arc<crate::Liar>>,
    /// Where media of a track goes.
    pub(crate) tracks: Mutex<HashMap<TrackAlias, Arc<RemoteTrack>>>,
    /// For objects of streams that are not whole yet.
    pub(crate) unfinished: Unfinished,
    handed: Mutex<Handed>,
    outgoing: mpsc::Sender<Bytes>,
    requests: Mutex<Requests<Pending>>,
}

struct Pending {
    reply: Option<oneshot::Sender<Reply>>,
    in_order: Option<OnReply>,
}

/// The side that only the session has: the messages of the relay.
pub(crate) struct ControlReader {
    stream: quinn::RecvStream,
    frames: FrameReader,
    buffer: Box<[u8]>,
}

/// As whom to come in, on a connection that stands.
pub(crate) struct Greeting<'a> {
    pub(crate) device: &'a Device,
    pub(crate) token: &'a str,
    /// Tickets of ours of a lower one are void.
    pub(crate) ticket_generation: u32,
    /// Devices of ours that count no more.
    pub(crate) revocation: Option<Revocation>,
    /// The number of the connection.
    pub(crate) generation: u64,
    #[cfg(feature = "lying")]
    pub(crate) liar: Option<Arc<crate::Liar>>,
}

impl Link {
    /// The QUIC handshake, after which nobody knows yet who we are.
    pub(crate) async fn dial(
        endpoint: quinn::Endpoint,
        config: quinn::ClientConfig,
        address: SocketAddr,
        host: String,
    ) -> Result<quinn::Connection, Error> {
        let connecting = endpoint
            .connect_with(config, address, &host)
            .map_err(|_| Error::State("the relay's address cannot be connected to"))?;
        connecting.await.map_err(Error::from_connection)
    }

    /// Says Hello, and returns once the relay has said Welcome: with TLS 1.3 a client that the relay turns away sees its
    /// own handshake succeed first.
    pub(crate) async fn greet(
        connection: quinn::Connection,
        greeting: Greeting<'_>,
    ) -> Result<(Arc<Self>, ControlReader), Error> {
        let mut exporter = [0; EXPORTER_BYTES];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
            .map_err(|_| Error::Protocol("the TLS exporter gave nothing"))?;

        let relay = pin_shown(&connection).ok_or(Error::Protocol("the relay showed no certificate"))?;
        let channel = Channel { relay, exporter, device: greeting.device.key() };

        let (mut send, stream) = connection.open_bi().await.map_err(Error::from_connection)?;
        send.set_priority(CONTROL_PRIORITY).map_err(|_| Error::Disconnected)?;
        let introduction = Introduction {
            delegation: &greeting.device.delegation(),
            token: greeting.token,
            ticket_generation: greeting.ticket_generation,
            revocation: greeting.revocation.as_ref(),
        };
        let hello = client_message::Body::Hello(channel.hello(greeting.device.secret(), &introduction));
        let hello = control::frame(&ClientMessage { request: 0, body: Some(hello) });
        send.write_all(&hello).await.map_err(|error| write_error(error, &connection))?;

        let mut reader = ControlReader { stream, frames: FrameReader::default(), buffer: vec![0; 8192].into() };
        let refused = |error| clock::explain(error, connection.close_reason().as_ref(), &greeting.device.delegation());
        let first = reader.next(&connection).await.map_err(refused)?;
        let Some(relay_message::Body::Welcome(welcome)) = first.body else {
            connection.close(code(CloseCode::UNEXPECTED_MESSAGE), b"");
            return Err(Error::Protocol("the first message is no Welcome"));
        };
        if welcome.version != VERSION {
            connection.close(code(CloseCode::VERSION), b"");
            return Err(Error::Protocol("the Welcome is for a version that was not offered"));
        }
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        tokio::spawn(write_control(send, queue));
        let link = Self {
            connection,
            channel,
            limits: welcome.limits.unwrap_or_default(),
            skew: clock::compare(welcome.unix_ms),
            generation: greeting.generation,
            #[cfg(feature = "lying")]
            liar: greeting.liar,
            tracks: Mutex::default(),
            unfinished: Unfinished::default(),
            handed: Mutex::default(),
            outgoing,
            requests: Mutex::default(),
        };
        Ok((Arc::new(link), reader))
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn request(&self, body: client_message::Body, timeout: Duration) -> Reply {
        self.request_in_order(body, timeout, None).await
    }

    /// Sends a request; `in_order` sees the reply before any later message of the relay is handled.
    pub(crate) async fn request_in_order(
        &self,
        body: client_message::Body,
        timeout: Duration,
        in_order: Option<OnReply>,
    ) -> Reply {
        let (reply, answered) = oneshot::channel();
        let (_, message) = self.register(body, Pending { reply: Some(reply), in_order });
        let answer = async {
            self.outgoing.send(message).await.map_err(|_| self.end())?;
            answered.await.unwrap_or_else(|_| Err(self.end()))
        };
        // Whoever waits may give up: a reply that comes later still has its effect.
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Error::TimedOut("a request")))
    }

    /// Sends a request whose reply nobody waits for, unless too much is under way already: whether it was sent.
    pub(crate) fn send(&self, body: client_message::Body, in_order: Option<OnReply>) -> bool {
        let (request, message) = self.register(body, Pending { reply: None, in_order });
        let sent = self.outgoing.try_send(message).is_ok();
        if !sent {
            lock(&self.requests).settle(request);
        }
        sent
    }

    fn register(&self, body: client_message::Body, pending: Pending) -> (u64, Bytes) {
        let message = lock(&self.requests).ask(body, pending);
        let request = message.request;
        #[cfg(feature = "lying")]
        if let Some(liar) = &self.liar {
            return (request, liar.frame(message));
        }
        (request, control::frame(&message))
    }

    /// Sends an object, unless others have waited for longer than `wait_max` before it; its length if it was sent. quinn
    /// drops the oldest datagrams when its buffer is full, and tells nobody: so look first.
    pub(crate) fn send_datagram(&self, datagram: &[u8], wait_max: Duration) -> Option<usize> {
        let (mut handed, now) = (lock(&self.handed), Instant::now());
        let space = self.connection.datagram_send_buffer_space();
        if space < datagram.len() || !handed.takes_more(DATAGRAM_BUFFER_BYTES - space, wait_max, now) {
            return None;
        }
        self.connection.send_datagram(Bytes::copy_from_slice(datagram)).ok()?;
        handed.push(datagram.len(), now);
        Some(datagram.len())
    }

    /// Hands a reply to whoever waits for it.
    pub(crate) async fn handle_reply(&self, request: u64, body: relay_message::Body) {
        let Some(Pending { reply, in_order }) = lock(&self.requests).settle(request) else {
            tracing::debug!(request, "a reply nobody waits for");
            return;
        };
        let mut answer = match body {
            relay_message::Body::Refused(refused) => Err(Refusal::from(refused)),
            other => Ok(other),
        };
        if let Some(in_order) = in_order {
            // It may be that a commit of ours counts now.
            answer = long(move || {
                in_order(answer.as_ref());
                answer
            })
            .await;
        }
        if let Some(reply) = reply {
            // Whoever waited may have given up.
            let _ = reply.send(answer.map_err(Error::Refused));
        }
    }

    /// Forgets everything that hangs on this connection: whoever waits for a reply is told that none comes.
    pub(crate) fn clear(&self) {
        lock(&self.requests).clear();
        lock(&self.tracks).clear();
    }

    /// Ends the connection with a reason.
    pub(crate) fn close(&self, reason: CloseCode) {
        self.connection.close(code(reason), b"");
    }

    /// Why the connection ended.
    pub(crate) fn end(&self) -> Error {
        self.connection.close_reason().map_or(Error::Disconnected, Error::from_connection)
    }
}

impl ControlReader {
    /// The next message of the relay.
    pub(crate) async fn next(&mut self, connection: &quinn::Connection) -> Result<RelayMessage, Error> {
        loop {
            match self.frames.next_message() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(_) => {
                    connection.close(code(CloseCode::MALFORMED_MESSAGE), b"");
                    return Err(Error::Protocol("the control stream carries bytes that are no message"));
                }
            }
            match self.stream.read(&mut self.buffer).await {
                Ok(Some(length)) => self.frames.push(&self.buffer[..length]),
                Ok(None) => {
                    // The relay may close the stream just before the connection, whose code says more.
                    let end = tokio::time::timeout(Duration::from_secs(1), connection.closed()).await;
                    connection.close(code(CloseCode::BAD_STREAM), b"");
                    return Err(end.map_or(Error::Protocol("the control stream ended"), Error::from_connection));
                }
                Err(quinn::ReadError::ConnectionLost(error)) => return Err(Error::from_connection(error)),
                Err(_) => {
                    connection.close(code(CloseCode::BAD_STREAM), b"");
                    return Err(Error::Protocol("the control stream was reset"));
                }
            }
        }
    }
}

async fn write_control(mut stream: quinn::SendStream, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(message) = queue.recv().await {
        if stream.write_chunk(message).await.is_err() {
            return;
        }
    }
}

/// The pin of the certificate that this connection was made with. It has been verified, by a pin or by an authority
///
fn pin_shown(connection: &quinn::Connection) -> Option<RelayPin> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    pin_of(chain.first()?)
}

fn write_error(error: quinn::WriteError, connection: &quinn::Connection) -> Error {
    match error {
        quinn::WriteError::ConnectionLost(error) => Error::from_connection(error),
        _ => connection.close_reason().map_or(Error::Disconnected, Error::from_connection),
    }
}

/// An application error code as QUIC wants it.
pub(crate) fn code(code: CloseCode) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
