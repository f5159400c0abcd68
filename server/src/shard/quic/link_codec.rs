//! How one kind of link carries a session on QUIC's streams and datagrams. It stands between quinn-proto's events and
//! everything behind them, which never knows what kind of link there is: what it is given and gives is the session's.
//!
//! A connection has its codec for life, from when TLS has agreed on a protocol. A kind that has something to keep keeps it
//! behind a pointer.

pub(crate) mod webtransport;

use std::{cell::OnceCell, time::Instant};

use bytes::Bytes;
use quinn_proto::{ApplicationClose, Connection, Dir, StreamId, VarInt};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    identity::{ChannelBinding, EXPORTER_BYTES, EXPORTER_LABEL, RelayPin},
};
use web_transport_proto::error_to_http3;

use self::webtransport::{Names, WebTransport};

/// What a stream is that a client has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamRole {
    /// The session's control stream.
    Control,
    /// A media stream.
    Media,
}

/// How a link ends by what came on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// The relay closes it: there is no use for such a thing.
    Close(CloseCode),
    /// The client has ended the session; whether as it wished.
    Left(bool),
}

/// Streams that a client may have open beside those of its session, because the link itself needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OwnStreams {
    pub(crate) bidirectional: u32,
    pub(crate) unidirectional: u32,
}

/// How the codes with which streams are reset and stopped stand in QUIC's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamCodes {
    /// As they are.
    Native,
    /// Among HTTP/3's own (draft-ietf-webtrans-http3 section 4.4).
    Http3,
}

impl StreamCodes {
    pub(crate) fn of(self, code: StreamCode) -> VarInt {
        let number = match self {
            Self::Native => code.0,
            Self::Http3 => error_to_http3(code.0 as u32),
        };
        VarInt::from_u64(number).unwrap_or(VarInt::MAX)
    }
}

/// A kind of link, and what of it is kept for a connection.
#[derive(Debug, Default)]
pub(crate) enum LinkCodec {
    /// `supernode/1`: nothing stands in front of anything. The first bidirectional stream is the control stream, each
    /// unidirectional one a media stream, a datagram is an object.
    #[default]
    Native,
    /// `h3`: a page in a browser.
    WebTransport(Box<WebTransport>),
}

impl LinkCodec {
    /// Of a page that was shown the certificate of a relay with these names.
    pub(crate) fn web_transport(names: Names) -> Self {
        Self::WebTransport(Box::new(WebTransport::new(names)))
    }

    /// Whether it is a page's.
    pub(crate) const fn is_page(&self) -> bool {
        matches!(self, Self::WebTransport(_))
    }

    /// How many streams the link itself needs. Transport parameters leave before the client has said which kind of link it
    /// wants, so those are native's, and this is added when it is known.
    pub(crate) const fn own_streams(&self) -> OwnStreams {
        match self {
            Self::Native => OwnStreams { bidirectional: 0, unidirectional: 0 },
            Self::WebTransport(_) => webtransport::OWN_STREAMS,
        }
    }

    /// The handshake is done: opens what the link itself needs.
    pub(crate) fn connected(&self, quic: &mut Connection) {
        match self {
            Self::Native => {}
            Self::WebTransport(link) => link.connected(quic),
        }
    }

    /// Takes a stream that the client has opened, as far as its first bytes have come: what it is to the session, once these
    /// have been read, or nothing as long as they have not, and of the link's own streams.
    ///
    /// # Errors
    /// How that ends the link.
    pub(crate) fn begin(&mut self, quic: &mut Connection, id: StreamId) -> Result<Option<StreamRole>, LinkEnd> {
        match self {
            Self::Native => Ok(Some(match id.dir() {
                Dir::Bi => StreamRole::Control,
                Dir::Uni => StreamRole::Media,
            })),
            Self::WebTransport(link) => link.begin(quic, id),
        }
    }

    /// Whether a stream is still to be given to [`Self::begin`] when more of it comes.
    #[inline]
    pub(crate) fn awaits(&self, id: StreamId) -> bool {
        match self {
            Self::Native => false,
            Self::WebTransport(link) => link.awaits(id),
        }
    }

    /// What signatures on this link are for, at a relay whose certificate has this pin; `None` as long as there
    /// is no session to sign for.
    pub(crate) fn binding(&self, quic: &Connection, relay: RelayPin) -> Option<ChannelBinding> {
        match self {
            Self::Native => {
                let mut exporter = [0; EXPORTER_BYTES];
                quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).ok()?;
                Some(ChannelBinding::TlsExporter { relay, exporter })
            }
            Self::WebTransport(link) => link.binding(),
        }
    }

    /// The session's part of a datagram that came, if it has one.
    #[inline]
    pub(crate) fn datagram_in(&self, datagram: Bytes) -> Option<Bytes> {
        match self {
            Self::Native => Some(datagram),
            Self::WebTransport(_) => webtransport::datagram_in(datagram),
        }
    }

    /// A datagram that clients ignore, as short as they bear.
    pub(crate) const fn ignored_datagram(&self) -> Bytes {
        match self {
            Self::Native => Bytes::new(),
            Self::WebTransport(_) => webtransport::NO_OBJECT,
        }
    }

    /// What a media stream to the client begins with, where the session has these bytes.
    pub(crate) fn stream_out(&self, header: Bytes) -> Bytes {
        match self {
            Self::Native => header,
            Self::WebTransport(_) => webtransport::stream_out(&header),
        }
    }

    /// How codes of streams stand on this link.
    pub(crate) const fn stream_codes(&self) -> StreamCodes {
        match self {
            Self::Native => StreamCodes::Native,
            Self::WebTransport(_) => StreamCodes::Http3,
        }
    }

    /// Ends the session with a code and what is said beside it. The connection is closed with that, or, where it must be said
    /// in the session, by [`Self::hang_up`].
    pub(crate) fn close(&mut self, quic: &mut Connection, code: CloseCode, reason: Bytes, now: Instant) {
        match self {
            Self::Native => quic.close(now, VarInt::from_u32(code.0 as u32), reason),
            Self::WebTransport(link) => {
                if !link.say_end(quic, code, &reason, now) {
                    quic.close(now, webtransport::no_error(), Bytes::new());
                }
            }
        }
    }

    /// Until when a connection whose session was closed waits for its client to have read that.
    pub(crate) fn lingers_until(&self) -> Option<Instant> {
        match self {
            Self::Native => None,
            Self::WebTransport(link) => link.lingers_until(),
        }
    }

    /// It has, or has had its time: closes the connection.
    pub(crate) fn hang_up(&self, quic: &mut Connection, now: Instant) {
        match self {
            Self::Native => {}
            Self::WebTransport(_) if quic.is_closed() => {}
            Self::WebTransport(_) => quic.close(now, webtransport::no_error(), Bytes::new()),
        }
    }

    /// What a client means by the code with which it has closed the connection, and whether it has said goodbye.
    pub(crate) fn closed_with(&self, close: &ApplicationClose) -> (CloseCode, bool) {
        match self {
            Self::Native => {
                let code = CloseCode(close.error_code.into_inner());
                (code, code == CloseCode::BYE)
            }
            // A browser closes the connection of a page that is gone, whyever: whoever leaves says so in the session.
            Self::WebTransport(_) if close.error_code == webtransport::no_error() => (CloseCode::BYE, false),
            Self::WebTransport(_) => (CloseCode::TRANSPORT_ERROR, false),
        }
    }
}

/// An object on its way out in datagrams: made once for all links of a kind, not for each of them.
pub(crate) struct DatagramOut<'a> {
    object: &'a Bytes,
    to_pages: OnceCell<Bytes>,
}

impl<'a> DatagramOut<'a> {
    /// Of an object's bytes.
    #[inline]
    pub(crate) fn new(object: &'a Bytes) -> Self {
        Self { object, to_pages: OnceCell::new() }
    }

    /// The datagram on such a link.
    #[inline]
    pub(crate) fn on(&self, codec: &LinkCodec) -> &Bytes {
        match codec {
            LinkCodec::Native => self.object,
            LinkCodec::WebTransport(_) => self.to_pages.get_or_init(|| webtransport::datagram_out(self.object)),
        }
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::{identity::RelayPin, object::DatagramHeader};

    use super::*;

    fn page() -> LinkCodec {
        LinkCodec::web_transport(Names { pin: RelayPin([0; 32]), hosts: [].into() })
    }

    #[test]
    fn a_native_link_takes_no_memory_and_copies_nothing() {
        let (codec, object) = (LinkCodec::Native, Bytes::copy_from_slice(&[1, 2, 3]));
        let same = |bytes: &Bytes| assert_eq!((bytes.as_ptr(), bytes.len()), (object.as_ptr(), object.len()));
        same(DatagramOut::new(&object).on(&codec));
        same(&codec.datagram_in(object.clone()).expect("all of it"));
        same(&codec.stream_out(object.clone()));
        assert_eq!((codec.ignored_datagram().len(), codec.own_streams()), (0, OwnStreams::default()));
    }

    //
    #[test]
    fn an_object_is_made_once_for_all_pages() {
        let (object, codec) = (Bytes::from_static(b"object"), page());
        let out = DatagramOut::new(&object);
        let (one, other) = (out.on(&codec).as_ptr(), out.on(&page()).as_ptr());
        assert_eq!(one, other);
        assert_eq!(out.on(&codec)[..], *b"\0object");
        assert_eq!(codec.datagram_in(out.on(&codec).clone()).as_ref(), Some(&object));
        assert_eq!(codec.datagram_in(Bytes::from_static(b"\x01of another session")), None);
        let ignored = codec.datagram_in(codec.ignored_datagram()).expect("of this session");
        assert!(!ignored.is_empty() && DatagramHeader::decode(&ignored).is_err(), "{ignored:?}");
    }

    #[test]
    fn every_code_of_a_stream_is_one_of_the_session_s_to_a_browser() {
        for row in StreamCode::ALL {
            let code = page().stream_codes().of(StreamCode(row.code)).into_inner();
            assert_eq!(web_transport_proto::error_from_http3(code).map(u64::from), Some(row.code), "{}", row.name);
        }
    }
}
