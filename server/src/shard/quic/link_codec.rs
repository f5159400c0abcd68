//! How one kind of link carries a session on QUIC's streams and datagrams. It stands between quinn-proto's events and
//! everything behind them, which never knows what kind of link there is: what it is given and gives is the session's.
//!
//! A connection has its codec for life. There is one kind, so a codec takes no memory and asks nothing; a kind that has
//! something to keep keeps it in its variant, behind a pointer.

#[cfg(test)]
pub(crate) mod prefixed;

use bytes::Bytes;
use quinn_proto::{Connection, Dir, StreamId};
use supernode_proto::close::CloseCode;

/// What a stream is that a client has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamRole {
    /// The session's control stream.
    Control,
    /// A media stream.
    Media,
}

/// Streams that a client may have open beside those of its session, because the link itself needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OwnStreams {
    pub(crate) bidirectional: u32,
    pub(crate) unidirectional: u32,
}

/// A kind of link, and what of it is kept for a connection.
#[derive(Debug, Default)]
pub(crate) enum LinkCodec {
    /// `supernode/1`: nothing stands in front of anything. The first bidirectional stream is the control stream, each
    /// unidirectional one a media stream, a datagram is an object.
    #[default]
    Native,
    /// What tests hold the seam to: streams and datagrams as WebTransport has them.
    #[cfg(test)]
    Prefixed(Box<prefixed::Prefixed>),
}

impl LinkCodec {
    /// How many streams the link itself needs. Transport parameters leave before the client has said which kind of link it
    /// wants, so those are native's, and this is added when it is known.
    pub(crate) const fn own_streams(&self) -> OwnStreams {
        match self {
            Self::Native => OwnStreams { bidirectional: 0, unidirectional: 0 },
            #[cfg(test)]
            Self::Prefixed(_) => prefixed::OWN_STREAMS,
        }
    }

    /// The handshake is done: opens what the link itself needs.
    pub(crate) fn connected(&mut self, quic: &mut Connection) {
        match self {
            Self::Native => _ = quic,
            #[cfg(test)]
            Self::Prefixed(codec) => codec.connected(quic),
        }
    }

    /// Takes a stream that the client has opened, as far as its first bytes have come: what it is to the session, once these
    /// have been read, or nothing as long as they have not, and of the link's own streams.
    ///
    /// # Errors
    /// The code to close the connection with, which has no use for such a stream.
    pub(crate) fn begin(&mut self, quic: &mut Connection, id: StreamId) -> Result<Option<StreamRole>, CloseCode> {
        match self {
            Self::Native => {
                _ = quic;
                Ok(Some(match id.dir() {
                    Dir::Bi => StreamRole::Control,
                    Dir::Uni => StreamRole::Media,
                }))
            }
            #[cfg(test)]
            Self::Prefixed(codec) => codec.begin(quic, id),
        }
    }

    /// Whether a stream is still to be given to [`Self::begin`] when more of it comes.
    pub(crate) fn awaits(&self, id: StreamId) -> bool {
        match self {
            Self::Native => {
                _ = id;
                false
            }
            #[cfg(test)]
            Self::Prefixed(codec) => codec.awaits(id),
        }
    }

    /// The session's part of a datagram that came, if it has one.
    pub(crate) fn datagram_in(&self, datagram: Bytes) -> Option<Bytes> {
        match self {
            Self::Native => Some(datagram),
            #[cfg(test)]
            Self::Prefixed(_) => prefixed::datagram_in(datagram),
        }
    }

    /// A datagram with nothing of the session in it.
    pub(crate) const fn empty_datagram(&self) -> Bytes {
        match self {
            Self::Native => Bytes::new(),
            #[cfg(test)]
            Self::Prefixed(_) => prefixed::EMPTY_DATAGRAM,
        }
    }

    /// What a media stream to the client begins with, where the session has these bytes.
    pub(crate) fn stream_out(&self, header: Bytes) -> Bytes {
        match self {
            Self::Native => header,
            #[cfg(test)]
            Self::Prefixed(_) => prefixed::stream_out(&header),
        }
    }
}

/// An object on its way out in datagrams: made once for all links of a kind, not for each of them.
pub(crate) struct DatagramOut<'a> {
    object: &'a Bytes,
    #[cfg(test)]
    prefixed: std::cell::OnceCell<Bytes>,
}

impl<'a> DatagramOut<'a> {
    /// Of an object's bytes.
    pub(crate) fn new(object: &'a Bytes) -> Self {
        Self {
            object,
            #[cfg(test)]
            prefixed: std::cell::OnceCell::new(),
        }
    }

    /// The datagram on such a link.
    pub(crate) fn on(&self, codec: &LinkCodec) -> &Bytes {
        match codec {
            LinkCodec::Native => self.object,
            #[cfg(test)]
            LinkCodec::Prefixed(_) => self.prefixed.get_or_init(|| prefixed::datagram_out(self.object)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_kind_of_link_takes_no_memory_and_copies_nothing() {
        let (codec, object) = (LinkCodec::Native, Bytes::copy_from_slice(&[1, 2, 3]));
        let same = |bytes: &Bytes| assert_eq!((bytes.as_ptr(), bytes.len()), (object.as_ptr(), object.len()));
        same(DatagramOut::new(&object).on(&codec));
        same(&codec.datagram_in(object.clone()).expect("all of it"));
        same(&codec.stream_out(object.clone()));
        assert_eq!((codec.empty_datagram().len(), codec.own_streams()), (0, OwnStreams::default()));
    }

    #[test]
    fn an_object_is_made_once_for_all_links_of_a_kind() {
        let (object, codec) = (Bytes::from_static(b"object"), LinkCodec::prefixed());
        let out = DatagramOut::new(&object);
        let (one, other) = (out.on(&codec).as_ptr(), out.on(&LinkCodec::prefixed()).as_ptr());
        assert_eq!(one, other);
        assert_eq!(out.on(&codec)[..], *b"\0object");
        assert_eq!(codec.datagram_in(out.on(&codec).clone()).as_ref(), Some(&object));
        assert_eq!(codec.datagram_in(Bytes::from_static(b"\x01of another session")), None);
        assert_eq!(codec.datagram_in(codec.empty_datagram()), Some(Bytes::new()));
    }
}
