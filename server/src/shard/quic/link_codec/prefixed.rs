//! A codec for tests, which needs of the seam what WebTransport over HTTP/3 does (RFC 9297, draft-ietf-webtrans-http3): the
//! link has streams of its own, the session's begin with a header that may come in pieces, and a datagram begins with the
//! number of the session. It has one session, on stream 0, and says no HTTP.

use bytes::Bytes;
use quinn_proto::{Connection, Dir, StreamId};
use supernode_proto::close::CloseCode;

use super::{LinkCodec, OwnStreams, StreamRole};

/// A request for the session; a control stream of HTTP/3's, and two of QPACK's.
pub(super) const OWN_STREAMS: OwnStreams = OwnStreams { bidirectional: 1, unidirectional: 3 };
/// What the session's streams begin with: their type, in two bytes, and the session.
pub(crate) const CONTROL_HEADER: [u8; 3] = [0x40, 0x41, 0];
pub(crate) const MEDIA_HEADER: [u8; 3] = [0x40, 0x54, 0];
/// What the link's own begin with: DATA, HEADERS or an encoder, a decoder.
const OWN_TYPES: std::ops::RangeInclusive<u8> = 0..=3;
/// What the relay's own stream says: it is a control stream, with empty SETTINGS.
pub(crate) const RELAY_SETTINGS: [u8; 3] = [0, 4, 0];
/// The number of the session.
const SESSION: u8 = 0;
pub(super) const EMPTY_DATAGRAM: Bytes = Bytes::from_static(&[SESSION]);

/// Streams that are nothing to the session, or not yet.
#[derive(Debug, Default)]
pub(crate) struct Prefixed {
    /// With the bytes of their header that have come.
    beginning: Vec<(StreamId, Vec<u8>)>,
    own: Vec<StreamId>,
    /// Bytes that came on the link's own.
    pub(crate) own_bytes: usize,
}

impl LinkCodec {
    pub(crate) fn prefixed() -> Self {
        Self::Prefixed(Box::default())
    }
}

impl Prefixed {
    pub(super) fn connected(&mut self, quic: &mut Connection) {
        let id = quic.streams().open(Dir::Uni).expect("the client allows a stream of the link's own");
        let written = quic.send_stream(id).write(&RELAY_SETTINGS).expect("three bytes fit");
        assert_eq!(written, RELAY_SETTINGS.len());
    }

    pub(super) fn awaits(&self, id: StreamId) -> bool {
        self.own.contains(&id) || self.beginning.iter().any(|(other, _)| *other == id)
    }

    pub(super) fn begin(&mut self, quic: &mut Connection, id: StreamId) -> Result<Option<StreamRole>, CloseCode> {
        let (header, role) = match id.dir() {
            Dir::Bi => (CONTROL_HEADER, StreamRole::Control),
            Dir::Uni => (MEDIA_HEADER, StreamRole::Media),
        };
        let is_own = self.own.contains(&id);
        let position = self.beginning.iter().position(|(other, _)| *other == id);
        let mut come = position.map(|position| self.beginning.remove(position).1).unwrap_or_default();
        let mut stream = quic.recv_stream(id);
        let mut chunks = stream.read(true).map_err(|_| CloseCode::BAD_STREAM)?;
        while is_own || come.len() < header.len() {
            let wanted = if is_own { usize::MAX } else { header.len() - come.len() };
            match chunks.next(wanted) {
                Ok(Some(chunk)) if is_own => self.own_bytes += chunk.bytes.len(),
                Ok(Some(chunk)) => come.extend_from_slice(&chunk.bytes),
                _ => break,
            }
        }
        let _ = chunks.finalize();
        if is_own {
            return Ok(None);
        }
        match come.first() {
            Some(first) if OWN_TYPES.contains(first) => {
                self.own_bytes += come.len();
                self.own.push(id);
                // What came behind its type.
                self.begin(quic, id)
            }
            _ if come == header => Ok(Some(role)),
            _ if header.starts_with(&come) => {
                self.beginning.push((id, come));
                Ok(None)
            }
            _ => Err(CloseCode::BAD_STREAM),
        }
    }
}

pub(super) fn datagram_in(mut datagram: Bytes) -> Option<Bytes> {
    let session = datagram.first().copied()?;
    (session == SESSION).then(|| datagram.split_off(1))
}

pub(super) fn datagram_out(object: &Bytes) -> Bytes {
    [&[SESSION], &object[..]].concat().into()
}

pub(super) fn stream_out(header: &Bytes) -> Bytes {
    [&MEDIA_HEADER, &header[..]].concat().into()
}
