//! What a page's link has beside a native one (PROTOCOL 2.2): WebTransport over HTTP/3, as much as opens one session.
//!
//! The relay's own streams come in a fixed order, which a browser may not rely on and this generator does: HTTP's own first, then
//! the one with the Challenge, then media.

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, Dir, Side, StreamId};
use supernode_proto::{
    H3_PATH,
    close::CloseCode,
    control::{Challenge, FrameReader, RelayMessage, relay_message::Body},
};
use url::Url;
use web_transport_proto::{Capsule, ConnectRequest, ConnectResponse, Frame, Settings, http::StatusCode};

/// What the session's streams begin with: their type and the session.
pub(crate) const MEDIA_HEADER: [u8; 3] = [0x40, 0x54, SESSION];
pub(crate) const CONTROL_HEADER: [u8; 3] = [0x40, 0x41, SESSION];
/// What its datagrams begin with.
pub(crate) const SESSION: u8 = 0;
/// The index of the relay's stream with the Challenge; those behind it have media.
const CHALLENGE: u64 = 1;

/// How far a page's session has come.
#[derive(Default)]
pub(crate) struct Page {
    /// What came on the stream with the request and is not read yet.
    answer: Vec<u8>,
    answered: bool,
    challenge: Vec<u8>,
    /// Why the relay ended the session, once it has said so.
    pub(crate) end: Option<CloseCode>,
}

impl Page {
    /// Asks for the session, once the handshake is done.
    pub(crate) fn open(quic: &mut Connection) {
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut said = BytesMut::new();
        settings.encode(&mut said);
        write(quic, Dir::Uni, said.freeze());
        let mut request = BytesMut::new();
        // A relay that is known by its pin is asked under any name.
        let url = Url::parse(&format!("https://relay.invalid{H3_PATH}"));
        if let Ok(url) = url
            && ConnectRequest::new(url).encode(&mut request).is_ok()
        {
            write(quic, Dir::Bi, request.freeze());
        }
    }

    /// Ends the session as a page does that leaves.
    pub(super) fn leave(quic: &mut Connection) {
        // One that the relay has ended already is over.
        let _ = quic.send_stream(StreamId::new(Side::Client, Dir::Bi, 0)).finish();
    }

    /// Whether this is the stream with the answer to the request.
    pub(crate) fn is_answer(id: StreamId) -> bool {
        id == StreamId::new(Side::Client, Dir::Bi, 0)
    }

    /// Whether this is one with the Challenge.
    pub(crate) fn is_challenge(id: StreamId) -> bool {
        id == StreamId::new(Side::Server, Dir::Uni, CHALLENGE)
    }

    /// Whether this is one with media.
    pub(crate) fn is_media(id: StreamId) -> bool {
        id.initiator() == Side::Server && id.index() > CHALLENGE
    }

    /// Reads what has come on the stream of the request.
    pub(crate) fn read_answer(&mut self, quic: &mut Connection, id: StreamId) {
        read(quic, id, |bytes| self.answer.extend_from_slice(bytes));
        if !self.answered {
            let mut rest = &self.answer[..];
            match ConnectResponse::decode(&mut rest) {
                Ok(response) if response.status == StatusCode::OK => {
                    self.answered = true;
                    self.answer = rest.to_vec();
                }
                // It has not come whole, or says no: then no session comes about, which is seen by its absence.
                _ => return,
            }
        }
        let mut rest = &self.answer[..];
        while let Ok((kind, mut data)) = Frame::read(&mut rest) {
            if kind == Frame::DATA
                && let Ok(Capsule::CloseWebTransportSession { code, .. }) = Capsule::decode(&mut data)
            {
                self.end = Some(CloseCode(code.into()));
            }
        }
    }

    /// What the relay wants signed, once that has come.
    pub(crate) fn read_challenge(&mut self, quic: &mut Connection, id: StreamId) -> Option<Challenge> {
        read(quic, id, |bytes| self.challenge.extend_from_slice(bytes));
        let mut reader = FrameReader::default();
        reader.push(self.challenge.strip_prefix(&MEDIA_HEADER)?);
        match reader.next_message::<RelayMessage>() {
            Ok(Some(RelayMessage { body: Some(Body::Challenge(challenge)), .. })) => Some(challenge),
            _ => None,
        }
    }
}

fn read(quic: &mut Connection, id: StreamId, mut take: impl FnMut(&[u8])) {
    let mut stream = quic.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return };
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        take(&chunk.bytes);
    }
    let _ = chunks.finalize();
}

fn write(quic: &mut Connection, dir: Dir, bytes: Bytes) {
    // What a relay does not take brings no session about.
    if let Some(id) = quic.streams().open(dir) {
        let _ = quic.send_stream(id).write_chunks(&mut [bytes]);
    }
}
