//! A connection by quinn, and its streams.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quinn::{FrameStats, TransportErrorCode, VarInt};
use rustls::pki_types::CertificateDer;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    identity::{DeviceKey, EXPORTER_BYTES, EXPORTER_LABEL, RelayPin},
};
use supernode_session::{Channel, Seen, pin::pin_of, transport::DATAGRAM_BUFFER_BYTES};

use super::{handed::Handed, reach::OverTcp};
use crate::{
    Error, Transport,
    runtime::moment,
    sync::lock,
    tracks::track::LocalTrack,
    wire::{
        ended::{ConnectionFailure, Cut, Ended},
        link::Link,
    },
};

/// A QUIC connection that stands: cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    quinn: quinn::Connection,
    /// What its packets go by, if they do not go by UDP from the start.
    pub(super) over_tcp: Option<Arc<OverTcp>>,
    handed: Arc<Mutex<Handed>>,
}

impl Connection {
    pub(super) fn new(quinn: quinn::Connection, over_tcp: Option<Arc<OverTcp>>) -> Self {
        Self { quinn, over_tcp, handed: Arc::default() }
    }

    /// By what its packets travel.
    pub(crate) fn transport(&self) -> Transport {
        self.over_tcp.as_ref().map_or(Transport::Udp, |over| over.transport())
    }

    /// What this device signs for on it.
    pub(crate) fn channel(&self, device: DeviceKey) -> Ready<Result<Channel, Error>> {
        let channel = || {
            let mut exporter = [0; EXPORTER_BYTES];
            self.quinn
                .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
                .map_err(|_| Error::Protocol("the TLS exporter gave nothing"))?;
            let relay = self.pin_shown().ok_or(Error::Protocol("the relay showed no certificate"))?;
            Ok(Channel::by_exporter(relay, exporter, device))
        };
        ready(channel())
    }

    /// The pin of the certificate that it was made with. It has been verified, by a pin or by an authority.
    fn pin_shown(&self) -> Option<RelayPin> {
        let chain = self.quinn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        pin_of(chain.first()?)
    }

    /// Opens a stream of both directions. Of those that wait, one of a higher priority goes first.
    pub(crate) async fn open_bi(&self, priority: i32) -> Result<(SendStream, RecvStream), Ended> {
        let (send, recv) = self.quinn.open_bi().await.map_err(ended)?;
        Ok((SendStream::new(send, priority), RecvStream(recv)))
    }

    /// Opens a stream to the relay.
    pub(crate) async fn open_uni(&self, priority: i32) -> Result<SendStream, Ended> {
        self.quinn.open_uni().await.map(|send| SendStream::new(send, priority)).map_err(ended)
    }

    /// The next stream that the relay opens. Cancel safe.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Ended> {
        self.quinn.accept_uni().await.map(RecvStream).map_err(ended)
    }

    /// The next datagram. Cancel safe.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Ended> {
        self.quinn.read_datagram().await.map_err(ended)
    }

    /// The largest datagram that goes out now; zero if none does.
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        self.quinn.max_datagram_size().unwrap_or(0)
    }

    /// Sends a datagram of this track's, unless others have waited for longer than `wait_max` before it: whether it is on its
    /// way. quinn drops the oldest datagrams when its buffer is full, and tells nobody: so look first.
    pub(crate) fn send_datagram(&self, datagram: &[u8], wait_max: Duration, _whose: &Arc<LocalTrack>) -> bool {
        let (mut handed, now) = (lock(&self.handed), moment());
        let room = self.quinn.datagram_send_buffer_space();
        let is_sent = room >= datagram.len()
            && handed.takes_more(DATAGRAM_BUFFER_BYTES - room, wait_max, now)
            && self.quinn.send_datagram(Bytes::copy_from_slice(datagram)).is_ok();
        if is_sent {
            handed.push(datagram.len(), now);
        }
        is_sent
    }

    /// What was heard, and what was sent that the relay must acknowledge.
    pub(crate) fn seen(&self) -> Seen {
        let stats = self.quinn.stats();
        Seen { heard: stats.udp_rx.datagrams, asked: asked(&stats.frame_tx) }
    }

    /// An empty datagram says nothing and is acknowledged. quinn has no call for a PING.
    pub(super) fn ping(&self) {
        // On a connection that is over nobody has to answer.
        let _ = self.quinn.send_datagram(Bytes::new());
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.quinn.rtt()
    }

    /// Ends it with a reason.
    pub(crate) fn close(&self, code: CloseCode) {
        self.quinn.close(varint(code.0), b"");
    }

    /// Waits for its end.
    pub(crate) async fn closed(&self) -> Ended {
        ended(self.quinn.closed().await)
    }

    /// Why it is over, once it is.
    pub(crate) fn close_reason(&self) -> Option<Ended> {
        self.quinn.close_reason().map(ended)
    }

    /// It is of no more use: what is below it ends, once the goodbye is out.
    pub(crate) fn release(&self) {
        if let Some(over) = &self.over_tcp {
            over.end();
        }
    }
}

/// What we send on a stream.
pub(crate) struct SendStream(quinn::SendStream);

impl SendStream {
    fn new(stream: quinn::SendStream, priority: i32) -> Self {
        // A stream that the relay has stopped already needs none.
        let _ = stream.set_priority(priority);
        Self(stream)
    }

    /// Waits until all of it is on its way.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Cut> {
        self.0.write_chunk(bytes).await.map_err(|_| Cut)
    }

    /// The same, of bytes that stay whose they are.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.0.write_all(bytes).await.map_err(|_| Cut)
    }

    /// Nothing comes behind this.
    pub(crate) fn finish(&mut self) {
        // A stream that the relay stopped needs no end.
        let _ = self.0.finish();
    }

    /// What is still to be sent is not worth it.
    pub(crate) fn reset(&mut self, code: StreamCode) {
        // A stream that is gone already needs no reset.
        let _ = self.0.reset(varint(code.0));
    }

    /// Waits until the relay has all of it, or wants no more.
    pub(crate) async fn delivered(&mut self) {
        // Why it wants no more makes no difference.
        let _ = self.0.stopped().await;
    }
}

/// What the relay sends on a stream.
pub(crate) struct RecvStream(quinn::RecvStream);

impl RecvStream {
    /// The next bytes, at most so many; `None` behind the last. Cancel safe.
    pub(crate) async fn read(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Cut> {
        self.0.read_chunk(bytes_max, true).await.map(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(|_| Cut)
    }

    /// We read no more of it.
    pub(crate) fn stop(&mut self, code: StreamCode) {
        // Stopping a stream that has ended meanwhile changes nothing.
        let _ = self.0.stop(varint(code.0));
    }
}

/// Asks the relay for what it must acknowledge, to hear whether it is there.
pub(crate) fn ask(link: &Link) {
    link.connection.ping();
}

/// An error code as QUIC wants it.
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// RFC 8446 section 6.2.
const ACCESS_DENIED_ALERT: u8 = 49;
/// Bad, unsupported, revoked, expired or unknown certificate, unknown authority, and a signature that does not verify
/// (RFC 8446 section 6.2).
const CERTIFICATE_ALERTS: [u8; 7] = [42, 43, 44, 45, 46, 48, 51];

/// Why a connection of quinn's is over.
pub(super) fn ended(error: quinn::ConnectionError) -> Ended {
    use quinn::ConnectionError::{ApplicationClosed, TransportError, VersionMismatch};
    match error {
        ApplicationClosed(close) => {
            Ended::Closed { code: CloseCode(close.error_code.into_inner()), reason: close.reason }
        }
        // The alert that our verifier's refusal becomes.
        TransportError(error) if error.code == TransportErrorCode::crypto(ACCESS_DENIED_ALERT) => Ended::WrongPin,
        TransportError(error) if CERTIFICATE_ALERTS.map(TransportErrorCode::crypto).contains(&error.code) => {
            Ended::Untrusted(ConnectionFailure::passing(TransportError(error)))
        }
        // Whoever answers speaks another language, and will tomorrow.
        VersionMismatch => Ended::Failed(ConnectionFailure { what: Arc::new(VersionMismatch), is_lasting: true }),
        // Also CONNECTION_REFUSED, by which a relay with too many handshakes turns newcomers away, and a handshake that it
        // gave up.
        other => Ended::Failed(ConnectionFailure::passing(other)),
    }
}

/// How many frames we have sent that must be acknowledged (RFC 9000 section 13.2.1). An acknowledgement of ours is no
/// question: nobody answers it.
fn asked(sent: &FrameStats) -> u64 {
    [
        sent.ack_frequency,
        sent.crypto,
        sent.data_blocked,
        sent.datagram,
        sent.immediate_ack,
        sent.max_data,
        sent.max_stream_data,
        sent.max_streams_bidi,
        sent.max_streams_uni,
        sent.new_connection_id,
        sent.path_challenge,
        sent.path_response,
        sent.ping,
        sent.reset_stream,
        sent.retire_connection_id,
        sent.stop_sending,
        sent.stream,
        sent.stream_data_blocked,
        sent.streams_blocked_bidi,
        sent.streams_blocked_uni,
    ]
    .iter()
    .sum()
}

#[cfg(test)]
mod tests {
    use quinn::{ApplicationClose, ConnectionClose, ConnectionError};
    use supernode_proto::close::Retry;

    use super::*;

    fn retry(error: ConnectionError) -> Retry {
        Error::from(ended(error)).retry()
    }

    //
    #[test]
    fn what_quinn_says_is_tried_again_as_its_meaning_allows() {
        let refused = ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::CONNECTION_REFUSED,
            frame_type: None,
            reason: Bytes::new(),
        });
        assert_eq!(retry(refused), Retry::Later, "the relay has too many newcomers");
        assert_eq!(retry(ConnectionError::VersionMismatch), Retry::Never);
        for row in CloseCode::ALL {
            let closed = ApplicationClose { error_code: varint(row.code), reason: Bytes::new() };
            assert_eq!(retry(ConnectionError::ApplicationClosed(closed)), row.retry, "{}", row.name);
        }
    }
}
