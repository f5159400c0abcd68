//! The link of a page in a browser: WebTransport over HTTP/3 (RFC 9114, RFC 9220, RFC 9297, draft-ietf-webtrans-http3).
//!
//! Of HTTP there is what a browser needs to open the one session that a connection has: SETTINGS, a request on the client's
//! first stream, its answer. The session's streams begin with their type and the session's number, its datagrams with the
//! number.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Chunks, Connection, Dir, ReadError, Side, StreamId, VarInt};
use supernode_proto::{
    H3_PATH,
    close::CloseCode,
    control::{Challenge, RelayMessage, frame, relay_message::Body},
    identity::{ChannelBinding, EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES, NonceBinding, RelayName, RelayPin},
};
use web_transport_proto::{
    Capsule, CapsuleError, ConnectError, ConnectRequest, ConnectResponse, Frame, Settings, StreamUni,
    VarInt as HttpVarInt, http::StatusCode,
};

use super::{LinkEnd, OwnStreams, StreamRole};

/// The request for the session; a control stream of HTTP/3's, and two of QPACK's.
pub(super) const OWN_STREAMS: OwnStreams = OwnStreams { bidirectional: 1, unidirectional: 3 };
/// The client's stream with the request, whose number is the session's: the first.
const REQUEST: u64 = 0;
/// What the session's streams to the client begin with: their type (0x54), in two bytes, and the session.
pub(crate) const MEDIA_HEADER: [u8; 3] = [0x40, 0x54, SESSION];
/// The session's number in datagrams: a quarter of its stream's.
pub(crate) const SESSION: u8 = 0;
/// A datagram that is no object, of one byte: after one without any, Chromium gives a page no datagram any more.
pub(super) const NO_OBJECT: Bytes = Bytes::from_static(&[SESSION, 0]);
/// Bytes of a request that the relay reads. Default 4 KiB: browsers send some 300.
const REQUEST_BYTES_MAX: usize = 4096;
/// Bytes that a client may send in a connection's life on streams of HTTP's own, where there is nothing for the relay to read.
/// Default 64 KiB: browsers send some hundred, and a few for each hour.
const OWN_BYTES_MAX: usize = 64 * 1024;
/// What one of these streams counts for beside its bytes. Default 256: browsers open four or five, and a client that opens
/// nothing but streams ends after as many.
const OWN_STREAM_BYTES: usize = 256;
/// How long a connection stays after its session's end was said. Default 3 s: browsers close it themselves, but Chromium tells its
/// page why only after it has looked at all packets that have come: if it finds the connection closed among them, the page is
/// told that it was lost. A browser that is started, or woken, may be busy for a second.
const LAST_WORD: Duration = Duration::from_secs(3);
/// A connection ended as its owner wished, as HTTP/3 says it (RFC 9114 section 8.1).
const H3_NO_ERROR: u32 = 0x100;

/// By what names clients may know the relay, as of the certificate that one of them was shown.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Of the key that the invite names.
    pub(crate) pin: RelayPin,
    /// The hosts for which an authority has signed; none where clients know the relay by its pin.
    pub(crate) hosts: Arc<[String]>,
}

/// What is kept of such a link.
#[derive(Debug)]
pub(crate) struct WebTransport {
    names: Names,
    /// Streams whose header has come in part.
    beginning: Vec<(StreamId, Vec<u8>)>,
    /// Those of HTTP's own, which are read and thrown away.
    own: Vec<StreamId>,
    own_bytes: usize,
    request: Request,
    lingers_until: Option<Instant>,
}

#[derive(Debug)]
enum Request {
    /// With what has come of it.
    Coming(Vec<u8>),
    /// It was answered with an error.
    Refused,
    /// The session is open, and bound to this. What comes behind the request are capsules.
    Open(NonceBinding, Vec<u8>),
    /// The relay has said why it ends the session.
    Ended,
}

impl WebTransport {
    pub(crate) fn new(names: Names) -> Self {
        Self {
            names,
            beginning: Vec::new(),
            own: Vec::new(),
            own_bytes: 0,
            request: Request::Coming(Vec::new()),
            lingers_until: None,
        }
    }

    /// The relay's stream of HTTP's own, with what it can do.
    pub(super) fn connected(&self, quic: &mut Connection) {
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut said = BytesMut::new();
        settings.encode(&mut said);
        // A client that allows none gets no session by that.
        if let Some(id) = quic.streams().open(Dir::Uni) {
            write(quic, id, said.freeze());
        }
    }

    pub(super) fn awaits(&self, id: StreamId) -> bool {
        is_request(id) || self.own.contains(&id) || self.beginning.iter().any(|(other, _)| *other == id)
    }

    pub(super) fn begin(&mut self, quic: &mut Connection, id: StreamId) -> Result<Option<StreamRole>, LinkEnd> {
        if is_request(id) {
            return self.read_request(quic, id).map(|()| None);
        }
        if self.own.contains(&id) {
            return self.skip(quic, id).map(|()| None);
        }
        let position = self.beginning.iter().position(|(other, _)| *other == id);
        let mut come = position.map(|position| self.beginning.remove(position).1).unwrap_or_default();
        let mut stream = quic.recv_stream(id);
        let mut chunks = stream.read(true).map_err(|_| LinkEnd::Close(CloseCode::BAD_STREAM))?;
        let header = loop {
            match header(id.dir(), &come) {
                Header::Wants(bytes) => match chunks.next(bytes) {
                    Ok(Some(chunk)) => come.extend_from_slice(&chunk.bytes),
                    Err(ReadError::Blocked) => break None,
                    // It says nothing, and nothing was expected of it.
                    Ok(None) | Err(ReadError::Reset(_)) => break Some(Header::Own),
                },
                known => break Some(known),
            }
        };
        let _ = chunks.finalize();
        match header {
            None => {
                self.beginning.push((id, come));
                Ok(None)
            }
            Some(Header::Session(role)) if matches!(self.request, Request::Open(..)) => Ok(Some(role)),
            Some(Header::Own) if id.dir() == Dir::Uni => {
                charge(&mut self.own_bytes, OWN_STREAM_BYTES + come.len())?;
                self.own.push(id);
                self.skip(quic, id).map(|()| None)
            }
            Some(_) => Err(LinkEnd::Close(CloseCode::BAD_STREAM)),
        }
    }

    /// What signatures on this link are for, once there is a session.
    pub(super) fn binding(&self) -> Option<ChannelBinding> {
        match self.request {
            Request::Open(nonce, _) => Some(ChannelBinding::RelayNonce { relay: self.names.pin, nonce }),
            Request::Coming(_) | Request::Refused | Request::Ended => None,
        }
    }

    /// Says in the session why it ends; returns whether that is still to be sent before the connection is closed.
    pub(super) fn say_end(&mut self, quic: &mut Connection, code: CloseCode, reason: &[u8], now: Instant) -> bool {
        let is_open = matches!(self.request, Request::Open(..));
        if is_open {
            let reason = String::from_utf8_lossy(reason).into_owned();
            let mut capsule = BytesMut::new();
            Capsule::CloseWebTransportSession { code: code.0 as u32, reason }.encode(&mut capsule);
            let mut said = BytesMut::new();
            Frame::DATA.encode(&mut said);
            HttpVarInt::from_u32(capsule.len() as u32).encode(&mut said);
            said.extend_from_slice(&capsule);
            let id = StreamId::new(Side::Client, Dir::Bi, REQUEST);
            write(quic, id, said.freeze());
            // It ends with that, and goes before all others; one that the client has stopped is over already.
            let _ = quic.send_stream(id).set_priority(i32::MAX);
            let _ = quic.send_stream(id).finish();
            self.lingers_until = Some(now + LAST_WORD);
        }
        self.request = Request::Ended;
        is_open
    }

    pub(super) fn lingers_until(&self) -> Option<Instant> {
        self.lingers_until
    }

    fn read_request(&mut self, quic: &mut Connection, id: StreamId) -> Result<(), LinkEnd> {
        let mut stream = quic.recv_stream(id);
        let mut chunks = stream.read(true).map_err(|_| LinkEnd::Close(CloseCode::BAD_STREAM))?;
        let Self { request, own_bytes, .. } = self;
        let end = loop {
            match next(&mut chunks, own_bytes)? {
                Next::Bytes(bytes) => match request {
                    Request::Coming(come) | Request::Open(_, come) => come.extend_from_slice(&bytes),
                    Request::Refused | Request::Ended => {}
                },
                Next::Blocked => break None,
                Next::End(is_finished) => break Some(is_finished),
            }
            // What is too long to be what it should is not kept.
            if let Request::Coming(come) | Request::Open(_, come) = request
                && come.len() > REQUEST_BYTES_MAX
            {
                let _ = chunks.finalize();
                return Err(LinkEnd::Close(CloseCode::MESSAGE_TOO_LARGE));
            }
        };
        let _ = chunks.finalize();
        if let Request::Coming(come) = &self.request {
            let mut rest = &come[..];
            match ConnectRequest::decode(&mut rest) {
                Err(ConnectError::UnexpectedEnd) => {}
                request => {
                    let rest = rest.to_vec();
                    self.answer(quic, id, request, rest)?;
                }
            }
        }
        let left = if let Request::Open(_, come) = &mut self.request { end_said(come)? } else { None };
        match (left, end) {
            (Some(is_clean), _) | (None, Some(is_clean)) => Err(LinkEnd::Left(is_clean)),
            (None, None) => Ok(()),
        }
    }

    /// Opens the session, or says what is wrong with its request.
    fn answer(
        &mut self,
        quic: &mut Connection,
        id: StreamId,
        request: Result<ConnectRequest, ConnectError>,
        rest: Vec<u8>,
    ) -> Result<(), LinkEnd> {
        let name = match &request {
            Ok(request) if request.url.path() != H3_PATH => Err(StatusCode::NOT_FOUND),
            Ok(request) => self.names.name(request.url.host_str()).ok_or(StatusCode::MISDIRECTED_REQUEST),
            Err(ConnectError::WrongMethod(_)) => Err(StatusCode::METHOD_NOT_ALLOWED),
            Err(ConnectError::WrongProtocol(_)) => Err(StatusCode::NOT_IMPLEMENTED),
            Err(ConnectError::FieldSectionTooLarge | ConnectError::FrameTooLarge) => {
                Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
            Err(_) => Err(StatusCode::BAD_REQUEST),
        };
        let status = name.as_ref().map_or_else(|status| *status, |_| StatusCode::OK);
        let mut said = BytesMut::new();
        ConnectResponse::from(status).encode(&mut said).map_err(|_| LinkEnd::Close(CloseCode::INTERNAL))?;
        write(quic, id, said.freeze());
        let Ok(name) = name else {
            // The client has stopped it, or hears no more than that.
            let _ = quic.send_stream(id).finish();
            self.request = Request::Refused;
            return Ok(());
        };
        let nonce = nonce(quic).ok_or(LinkEnd::Close(CloseCode::INTERNAL))?;
        let binding = NonceBinding::new(&nonce, name);
        let challenge =
            Challenge { nonce: Bytes::copy_from_slice(&nonce), relay: Bytes::copy_from_slice(&self.names.pin.0) };
        let message = RelayMessage { reply_to: 0, body: Some(Body::Challenge(challenge)) };
        let id = quic.streams().open(Dir::Uni).ok_or(LinkEnd::Close(CloseCode::BAD_STREAM))?;
        write(quic, id, stream_out(&frame(&message)));
        let _ = quic.send_stream(id).finish();
        self.request = Request::Open(binding, rest);
        Ok(())
    }

    /// Throws away what has come on a stream of HTTP's own, and forgets one that has ended.
    fn skip(&mut self, quic: &mut Connection, id: StreamId) -> Result<(), LinkEnd> {
        let mut stream = quic.recv_stream(id);
        let has_ended = match stream.read(true) {
            Ok(mut chunks) => {
                let has_ended = loop {
                    match next(&mut chunks, &mut self.own_bytes) {
                        Ok(Next::Bytes(_)) => {}
                        Ok(Next::Blocked) => break Ok(false),
                        Ok(Next::End(_)) => break Ok(true),
                        Err(end) => break Err(end),
                    }
                };
                let _ = chunks.finalize();
                has_ended?
            }
            // It had ended before.
            Err(_) => true,
        };
        if has_ended {
            self.own.retain(|other| *other != id);
        }
        Ok(())
    }
}

impl Names {
    /// The relay's name as whoever asks for this host knows it; `None` if that is not this relay.
    fn name<'a>(&'a self, host: Option<&'a str>) -> Option<RelayName<'a>> {
        if self.hosts.is_empty() {
            return Some(RelayName::Pin(&self.pin));
        }
        let host = host?;
        self.hosts.iter().any(|name| covers(name, host)).then_some(RelayName::Host(host))
    }
}

/// Whether a certificate's name is good for a host (RFC 6125 section 6.4): a star stands for its first label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

/// What a stream's first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// So many bytes more are wanted, at most.
    Wants(usize),
    Session(StreamRole),
    /// HTTP's own, or unknown.
    Own,
    /// A stream of another session.
    Foreign,
}

fn header(dir: Dir, come: &[u8]) -> Header {
    let mut rest = come;
    let Ok(kind) = HttpVarInt::decode(&mut rest) else { return Header::Wants(missing(come)) };
    let (ours, role) = match dir {
        Dir::Bi => (Frame::WEBTRANSPORT.0, StreamRole::Control),
        Dir::Uni => (StreamUni::WEBTRANSPORT.0, StreamRole::Media),
    };
    if kind != ours {
        return Header::Own;
    }
    match HttpVarInt::decode(&mut rest) {
        Err(_) => Header::Wants(missing(rest)),
        Ok(session) if session.into_inner() == REQUEST => Header::Session(role),
        Ok(_) => Header::Foreign,
    }
}

/// Bytes that a variable-length integer lacks (RFC 9000 section 16).
fn missing(come: &[u8]) -> usize {
    come.first().map_or(1, |first| (1 << (first >> 6)) - come.len())
}

enum Next {
    Bytes(Bytes),
    Blocked,
    /// Finished, or reset.
    End(bool),
}

/// What has come next on a stream of HTTP's own.
fn next(chunks: &mut Chunks<'_>, own_bytes: &mut usize) -> Result<Next, LinkEnd> {
    match chunks.next(REQUEST_BYTES_MAX) {
        Ok(Some(chunk)) => {
            charge(own_bytes, chunk.bytes.len())?;
            Ok(Next::Bytes(chunk.bytes))
        }
        Err(ReadError::Blocked) => Ok(Next::Blocked),
        Ok(None) => Ok(Next::End(true)),
        Err(ReadError::Reset(_)) => Ok(Next::End(false)),
    }
}

/// Counts what is no use to the session.
fn charge(own_bytes: &mut usize, bytes: usize) -> Result<(), LinkEnd> {
    *own_bytes += bytes;
    if *own_bytes > OWN_BYTES_MAX { Err(LinkEnd::Close(CloseCode::RATE_EXCEEDED)) } else { Ok(()) }
}

/// Whether the client has said that the session is over, and if so, whether as it wished. Takes what has come whole.
fn end_said(come: &mut Vec<u8>) -> Result<Option<bool>, LinkEnd> {
    loop {
        let mut rest = &come[..];
        let Ok((kind, mut data)) = Frame::read(&mut rest) else { return Ok(None) };
        if kind == Frame::DATA {
            match Capsule::decode(&mut data) {
                Ok(Capsule::CloseWebTransportSession { code, .. }) => {
                    return Ok(Some(CloseCode(u64::from(code)) == CloseCode::BYE));
                }
                Ok(Capsule::Grease { .. } | Capsule::Unknown { .. }) => {}
                // A capsule may be spread over frames, but no browser spreads the few bytes of its last one.
                Err(CapsuleError::UnexpectedEnd) => {}
                Err(_) => return Err(LinkEnd::Close(CloseCode::MALFORMED_MESSAGE)),
            }
        }
        let taken = come.len() - rest.len();
        come.drain(..taken);
    }
}

/// As fresh as anything that the relay could draw: what this connection's TLS exports follows from both ends' random values,
/// and the relay's is new. A page's browser knows it, and keeps it to itself, so the relay says it.
fn nonce(quic: &Connection) -> Option<[u8; NONCE_BYTES]> {
    const { assert!(NONCE_BYTES == EXPORTER_BYTES) };
    let mut nonce = [0; NONCE_BYTES];
    quic.crypto_session().export_keying_material(&mut nonce, EXPORTER_LABEL, &[]).ok()?;
    Some(nonce)
}

/// Some bytes at the beginning of a stream, which QUIC takes whole.
fn write(quic: &mut Connection, id: StreamId, bytes: Bytes) {
    // A client that has stopped the stream does without.
    let _ = quic.send_stream(id).write_chunks(&mut [bytes]);
}

fn is_request(id: StreamId) -> bool {
    id == StreamId::new(Side::Client, Dir::Bi, REQUEST)
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

/// What ends the connection itself, once the session's end is said.
pub(super) const fn no_error() -> VarInt {
    VarInt::from_u32(H3_NO_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(code: u32) -> Vec<u8> {
        let (mut capsule, mut said) = (Vec::new(), Vec::new());
        Capsule::CloseWebTransportSession { code, reason: "because".to_owned() }.encode(&mut capsule);
        Frame::DATA.encode(&mut said);
        HttpVarInt::from_u32(capsule.len() as u32).encode(&mut said);
        [said, capsule].concat()
    }

    //
    #[test]
    fn the_end_of_a_session_is_read_as_far_as_it_has_come_and_what_is_unknown_is_passed_over() {
        let unknown = [&[0x21, 2, 7, 7][..], &[0, 4, 0x40, 0x99, 1, 5]].concat();
        for (code, is_clean) in [(0, true), (7, false)] {
            let whole = [unknown.clone(), closing(code)].concat();
            for cut in 0..whole.len() {
                let mut come = whole[..cut].to_vec();
                assert_eq!(end_said(&mut come), Ok(None), "{cut} bytes");
                come.extend_from_slice(&whole[cut..]);
                assert_eq!(end_said(&mut come), Ok(Some(is_clean)), "after {cut} bytes");
            }
        }
    }

    //
    #[test]
    fn a_stream_s_header_is_known_as_soon_as_it_has_come_however_long_its_numbers_are() {
        let known = [
            (Dir::Bi, &[0x40, 0x41, 0][..], Header::Session(StreamRole::Control)),
            (Dir::Bi, &[0x80, 0, 0, 0x41, 0x40, 0], Header::Session(StreamRole::Control)),
            (Dir::Bi, &[0x40, 0x41, 4], Header::Foreign),
            (Dir::Bi, &[1], Header::Own),
            (Dir::Uni, &[0x40, 0x54, 0], Header::Session(StreamRole::Media)),
            (Dir::Uni, &[0x40, 0x41], Header::Own),
            (Dir::Uni, &[0], Header::Own),
        ];
        for (dir, bytes, expected) in known {
            let mut come = Vec::new();
            while let Header::Wants(more) = header(dir, &come) {
                assert!(come.len() + more <= bytes.len(), "{bytes:?}: more than there is");
                // One by one, as they may come.
                come.push(bytes[come.len()]);
            }
            assert_eq!((header(dir, &come), come.len()), (expected, bytes.len()), "{bytes:?}");
        }
    }

    //
    #[test]
    fn a_page_s_host_is_one_that_the_certificate_names() {
        let pin = RelayPin([7; 32]);
        let by_authority = Names { pin, hosts: ["relay.example".to_owned(), "*.calls.example".to_owned()].into() };
        let named = |host| by_authority.name(Some(host)).is_some();
        assert!(named("relay.example") && named("one.calls.example"));
        for other in ["calls.example", "a.b.calls.example", "relay.example.evil.example", "192.0.2.1", ""] {
            assert!(!named(other), "{other}");
        }
        assert_eq!(by_authority.name(None), None);
        let by_pin = Names { pin, hosts: [].into() };
        assert_eq!(by_pin.name(Some("whatever.example")), Some(RelayName::Pin(&pin)));
    }
}
