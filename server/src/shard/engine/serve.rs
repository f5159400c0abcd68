//! What a connection does when it is its turn: QUIC's events in, requests and objects out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Dir, Event, ReadError, StreamEvent, StreamId};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{ClientMessage, FrameError, Hello, TrackKind, client_message::Body, decode_message},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
    limits as wire,
};

use super::Engine;
use crate::{
    core::{Applicant, Greeting, NotOpened, Now, ledger::RefuseReason, stream::StreamParser},
    shard::{
        connections::connection::{Connection, Ingress, Phase},
        quic::transport,
    },
};

/// How often those are looked at whose admission is not decided.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// The longest Hello body that is put aside: a delegation, the longest token, and room for what a newer client may add.
const HELLO_ASIDE_BYTES_MAX: usize = wire::ADMISSION_TOKEN_BYTES_MAX + 1024;

impl Engine {
    /// Serves one connection. It is taken out of its place meanwhile, so that what it sends can reach the others.
    pub(crate) fn serve_one(&mut self, link: u32, now: Now) {
        let Some(mut connection) = self.connections.get_mut(link as usize).and_then(Option::take) else { return };
        connection.crumbs.turn();
        self.work = if self.room.is_used_up() { Work::default() } else { Work::A_TURN };
        let mut verdict = self.read_on(link, &mut connection, now);
        verdict = verdict.and_then(|()| self.handle_events(link, &mut connection, now));
        if let Some(newcomer) = &connection.newcomer
            && connection.phase != Phase::Closed
            && newcomer.hello_by <= now.instant
        {
            verdict = verdict.and(Err(End::Close(CloseCode::HELLO_TIMEOUT)));
        }
        self.connections[link as usize] = Some(connection);
        self.dispatch(now);
        let requests = std::mem::take(&mut self.requests);
        for frame in requests {
            if let Err(code) = self.handle_request(link, &frame, now) {
                verdict = verdict.and(Err(End::Close(code)));
                break;
            }
        }
        match verdict {
            Ok(()) => {}
            Err(End::Close(code)) => self.close(link, code, now),
            Err(End::Lost(code, clean)) => self.end(link, code, clean, now),
        }
    }

    /// Goes on reading where the turn before left off.
    fn read_on(&mut self, link: u32, connection: &mut Connection, now: Now) -> Result<(), End> {
        if connection.quic.is_closed() {
            return Ok(()); // it is gone, and the event that says so still to come
        }
        for id in std::mem::take(&mut connection.unread) {
            match id.dir() {
                Dir::Bi => self.read_control(connection, id)?,
                Dir::Uni => self.read_media(link, connection, id, now),
            }
        }
        Ok(())
    }

    fn handle_events(&mut self, link: u32, connection: &mut Connection, now: Now) -> Result<(), End> {
        let arrived = connection.unserved_since.take().unwrap_or(now.instant);
        connection.urgent |= connection.session().is_none();
        while let Some(event) = connection.quic.poll() {
            connection.urgent |= !matches!(event, Event::DatagramReceived);
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => {
                    self.tally.handshakes_ok += 1;
                    connection.phase = Phase::Greeting;
                    if let Some(newcomer) = &mut connection.newcomer {
                        newcomer.prove();
                    }
                }
                Event::ConnectionLost { reason } => {
                    let (code, clean) = Self::code_of(&reason);
                    return Err(End::Lost(code, clean));
                }
                Event::DatagramReceived => self.handle_datagrams(link, connection, arrived)?,
                Event::Stream(event) => self.handle_stream_event(link, connection, event, now)?,
            }
        }
        Ok(())
    }

    fn handle_datagrams(&mut self, link: u32, connection: &mut Connection, arrived: Instant) -> Result<(), End> {
        while let Some(wire) = connection.quic.datagrams().recv() {
            // A client asks whether we are there; QUIC has acknowledged it.
            if wire.is_empty() {
                continue;
            }
            self.forward_datagram(link, &wire, arrived).map_err(End::Close)?;
        }
        Ok(())
    }

    fn handle_stream_event(
        &mut self,
        link: u32,
        connection: &mut Connection,
        event: StreamEvent,
        now: Now,
    ) -> Result<(), End> {
        match event {
            StreamEvent::Opened { dir: Dir::Bi } => {
                while let Some(id) = connection.quic.streams().accept(Dir::Bi) {
                    if connection.control.is_some() {
                        return Err(End::Close(CloseCode::BAD_STREAM));
                    }
                    connection.accept_control(id);
                    self.read_control(connection, id)?;
                }
            }
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(id) = connection.quic.streams().accept(Dir::Uni) {
                    let key = self.stream_key();
                    connection.ingress.insert(
                        id,
                        Ingress { key, kind: TrackKind::Unspecified, parser: StreamParser::default(), unseen_bytes: 0 },
                    );
                    self.read_media(link, connection, id, now);
                }
            }
            StreamEvent::Readable { id } if id.dir() == Dir::Bi => self.read_control(connection, id)?,
            StreamEvent::Readable { id } => self.read_media(link, connection, id, now),
            StreamEvent::Stopped { id, .. } if Some(id) == connection.control => {
                return Err(End::Close(CloseCode::BAD_STREAM));
            }
            // A connection that is being served writes everything it can afterwards.
            StreamEvent::Stopped { .. }
            | StreamEvent::Writable { .. }
            | StreamEvent::Finished { .. }
            | StreamEvent::Available { .. } => {}
        }
        Ok(())
    }

    /// Reads the control stream, which lives as long as the session.
    fn read_control(&mut self, connection: &mut Connection, id: StreamId) -> Result<(), End> {
        if Some(id) != connection.control {
            return Err(End::Close(CloseCode::BAD_STREAM));
        }
        let is_newcomer = connection.newcomer.is_some();
        let Connection { quic, reader, unread, .. } = connection;
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Err(End::Close(CloseCode::BAD_STREAM)) };
        let verdict = loop {
            // Messages that have come whole are taken before more bytes are, so that few wait here.
            if self.work.is_done() {
                self.tally.held_for_mail += u64::from(self.room.is_used_up());
                leave(unread, id);
                break Ok(());
            }
            // The first message can only be a Hello.
            let is_first = is_newcomer && self.requests.is_empty();
            let bytes_max = if is_first { wire::HELLO_BYTES_MAX } else { wire::CONTROL_MESSAGE_BYTES_MAX };
            match reader.next_frame(bytes_max) {
                Ok(Some(frame)) => {
                    self.requests.push(frame);
                    self.work.messages -= 1;
                    continue;
                }
                Ok(None) => {}
                Err(FrameError::TooLarge { .. }) => break Err(End::Close(CloseCode::MESSAGE_TOO_LARGE)),
                Err(FrameError::Length | FrameError::Malformed) => {
                    break Err(End::Close(CloseCode::MALFORMED_MESSAGE));
                }
            }
            match chunks.next(wire::CONTROL_MESSAGE_BYTES_MAX) {
                Ok(Some(chunk)) => {
                    reader.push(&chunk.bytes);
                    self.work.chunks -= 1;
                }
                Err(ReadError::Blocked) => break Ok(()),
                Ok(None) | Err(ReadError::Reset(_)) => break Err(End::Close(CloseCode::BAD_STREAM)),
            }
        };
        // The connection is on the list to be served, so new credit goes out anyway.
        let _ = chunks.finalize();
        verdict
    }

    pub(crate) fn read_media(&mut self, link: u32, connection: &mut Connection, id: StreamId, now: Now) {
        let Some(mut ingress) = connection.ingress.remove(&id) else { return };
        let opened = matches!(connection.phase, Phase::Open(_));
        let Connection { quic, unread, .. } = &mut *connection;
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return self.abort_stream(ingress.key) };
        let outcome = loop {
            // Nothing is forwarded before the Hello was accepted.
            if !opened {
                self.core.ledger.refuse(RefuseReason::NoSession);
                break Some(StreamCode::UNKNOWN_TRACK);
            }
            if self.holds.postpones(ingress.key, link, id) {
                break None;
            }
            if self.work.is_done() {
                self.tally.held_for_mail += u64::from(self.room.is_used_up());
                leave(unread, id);
                break None;
            }
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    self.work.chunks -= 1;
                    if let Err(code) = self.forward_stream(link, &mut ingress, compact(chunk.bytes), now.instant) {
                        break Some(code);
                    }
                }
                Err(ReadError::Blocked) => break None,
                Ok(None) if ingress.parser.is_at_boundary() => {
                    let _ = chunks.finalize();
                    return self.finish_stream(ingress.key);
                }
                Ok(None) | Err(ReadError::Reset(_)) => {
                    let _ = chunks.finalize();
                    return self.abort_stream(ingress.key);
                }
            }
        };
        let _ = chunks.finalize();
        match outcome {
            Some(code) => {
                connection.stop(id, code);
                self.abort_stream(ingress.key);
            }
            None => {
                connection.ingress.insert(id, ingress);
            }
        }
    }

    fn handle_request(&mut self, link: u32, frame: &[u8], now: Now) -> Result<(), CloseCode> {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return Ok(()) };
        match connection.phase {
            Phase::Closed => Ok(()),
            Phase::Handshaking | Phase::Greeting => {
                let message = decode_message(frame).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
                self.greet(link, message, now)
            }
            Phase::Open(_) => {
                let rng: &mut rand::rngs::StdRng = &mut self.rng;
                self.core.handle_frame(link, frame, now, rng, &mut self.outbox)?;
                if connection.receive_window.is_none() && self.core.publishes(link) {
                    let mut window = self.core.directory().windows().share();
                    let pool_max = self.core.limits().relay_windows_bytes_max;
                    transport::allow_media_streams(&mut connection.quic, &mut window, pool_max);
                    connection.receive_window = Some(window);
                }
                self.dispatch(now);
                Ok(())
            }
        }
    }

    /// The first message, which nothing but a Hello can be.
    fn greet(&mut self, link: u32, message: ClientMessage, now: Now) -> Result<(), CloseCode> {
        let Some(Body::Hello(hello)) = message.body else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        if self.undecided.iter().any(|waiting| waiting.link == link) {
            return Err(CloseCode::UNEXPECTED_MESSAGE);
        }
        self.admit(link, hello, now)
    }

    /// Opens a session if the Hello holds and its identity is admitted; puts it aside while that is not decided.
    fn admit(&mut self, link: u32, hello: Hello, now: Now) -> Result<(), CloseCode> {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return Ok(()) };
        if connection.phase == Phase::Closed {
            return Ok(()); // while it was put aside
        }
        let mut exporter = [0; EXPORTER_BYTES];
        connection
            .quic
            .crypto_session()
            .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
            .map_err(|_| CloseCode::INTERNAL)?;
        let from = connection.quic.remote_address().ip();
        let Some(newcomer) = &connection.newcomer else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        let greeting = Greeting { hello: &hello, relay: newcomer.pin, exporter, from };
        let session = match self.core.open_session(link, &greeting, &*self.admission, now, &mut self.outbox) {
            Ok(session) => session,
            Err(NotOpened::Close(code)) => return Err(code),
            // What is put aside is kept, so it is no larger than it need be.
            Err(NotOpened::Undecided(..)) if hello.body.len() > HELLO_ASIDE_BYTES_MAX => {
                return Err(CloseCode::NOT_ADMITTED);
            }
            Err(NotOpened::Undecided(who)) => {
                self.undecided.push(Undecided { link, who, hello });
                self.ask_again_at = Some(now.instant + ASK_AGAIN);
                return Ok(());
            }
        };
        connection.phase = Phase::Open(session);
        transport::open_window(&mut connection.quic);
        if let Some(newcomer) = connection.newcomer.take() {
            self.door.places.leave(newcomer.place);
        }
        self.tally.handshaking -= 1;
        self.dispatch(now);
        Ok(())
    }

    /// Looks again at those whose admission was not decided, if it is time to.
    pub(crate) fn ask_again(&mut self, now: Now) {
        if self.ask_again_at.is_none_or(|at| at > now.instant) {
            return;
        }
        for waiting in std::mem::take(&mut self.undecided) {
            let link = waiting.link;
            if !self.admission.is_decided(&waiting.who, now.unix_s()) {
                self.undecided.push(waiting);
            } else if let Err(code) = self.admit(link, waiting.hello, now) {
                self.close(link, code, now);
            }
        }
        self.ask_again_at = (!self.undecided.is_empty()).then(|| now.instant + ASK_AGAIN);
    }
}

/// A Hello that waits for somebody else's word.
pub(crate) struct Undecided {
    pub(crate) link: u32,
    who: Applicant,
    hello: Hello,
}

/// How serving a connection can end it.
enum End {
    /// We close it.
    Close(CloseCode),
    /// It is gone already; whether it said goodbye.
    Lost(CloseCode, bool),
}

/// Bytes of a stream below which they are copied: QUIC counts as many as there are until their subscriber has acknowledged
/// them, and a slice keeps its whole packet. Default 256: the end of a frame now and then, and crumbs.
const COPIED_BELOW_BYTES: usize = 256;

fn compact(bytes: Bytes) -> Bytes {
    if bytes.len() < COPIED_BELOW_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes }
}

/// Notes that there is more to read of a stream.
fn leave(unread: &mut Vec<StreamId>, id: StreamId) {
    if !unread.contains(&id) {
        unread.push(id);
    }
}

/// What one connection may have done in one turn; then others have theirs, and it goes on in the next.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Work {
    chunks: u32,
    messages: u32,
}

impl Work {
    /// Default 256 chunks, a quarter of a millisecond if each is an object of a few bytes to one subscriber; a turn reads
    /// few more packets from the socket. 64 messages: more than a client that keeps to its rate sends in half a second.
    pub(crate) const A_TURN: Self = Self { chunks: 256, messages: 64 };

    fn is_done(self) -> bool {
        self.chunks == 0 || self.messages == 0
    }
}
