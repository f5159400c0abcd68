//! What a connection does when it is its turn: QUIC's events in, requests and objects out.

use quinn_proto::{Dir, Event, ReadError, StreamEvent, StreamId};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{ClientMessage, FrameError, client_message::Body},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
};

use super::{
    connection::{Connection, Ingress, Phase},
    engine::Engine,
};
use crate::core::{Greeting, Now, ledger::RefuseReason, stream::StreamParser};

impl Engine {
    /// Serves one connection. It is taken out of its place meanwhile, so that what it sends can reach the others.
    pub(super) fn serve_one(&mut self, link: u32, now: Now) {
        let Some(mut connection) = self.connections.get_mut(link as usize).and_then(Option::take) else { return };
        let mut verdict = self.handle_events(link, &mut connection, now);
        if matches!(connection.phase, Phase::Handshaking | Phase::Greeting) && connection.hello_by <= now.instant {
            verdict = verdict.and(Err(End::Close(CloseCode::HELLO_TIMEOUT)));
        }
        if connection.session().is_some() {
            let oldest = connection.oldest(now.instant);
            connection.datagrams.expire(now.instant, &mut self.core.ledger);
            if let Some(message) = self.core.observe_wait(link, oldest, now.instant) {
                connection.send_control(&message, usize::MAX);
            }
        }
        self.connections[link as usize] = Some(connection);
        let requests = std::mem::take(&mut self.requests);
        for message in requests {
            if let Err(code) = self.handle_request(link, message, now) {
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

    fn handle_events(&mut self, link: u32, connection: &mut Connection, now: Now) -> Result<(), End> {
        while let Some(event) = connection.quic.poll() {
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => {
                    self.tally.handshakes_ok += 1;
                    connection.phase = Phase::Greeting;
                }
                Event::ConnectionLost { reason } => {
                    let (code, clean) = Self::code_of(&reason);
                    return Err(End::Lost(code, clean));
                }
                Event::DatagramReceived => self.handle_datagrams(link, connection, now)?,
                Event::Stream(event) => self.handle_stream_event(link, connection, event, now)?,
            }
        }
        Ok(())
    }

    fn handle_datagrams(&mut self, link: u32, connection: &mut Connection, now: Now) -> Result<(), End> {
        while let Some(wire) = connection.quic.datagrams().recv() {
            self.forward_datagram(link, &wire, now.instant).map_err(End::Close)?;
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
                    connection.ingress.insert(id, Ingress { key, parser: StreamParser::default() });
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
        let mut stream = connection.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Err(End::Close(CloseCode::BAD_STREAM)) };
        let verdict = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    connection.reader.push(&chunk.bytes);
                    if let Err(end) = take_messages(&mut connection.reader, &mut self.requests) {
                        break Err(end);
                    }
                }
                Err(ReadError::Blocked) => break Ok(()),
                Ok(None) | Err(ReadError::Reset(_)) => break Err(End::Close(CloseCode::BAD_STREAM)),
            }
        };
        // The connection is on the list to be served, so new credit goes out anyway.
        let _ = chunks.finalize();
        verdict
    }

    fn read_media(&mut self, link: u32, connection: &mut Connection, id: StreamId, now: Now) {
        let Some(mut ingress) = connection.ingress.remove(&id) else { return };
        let opened = matches!(connection.phase, Phase::Open(_));
        let mut stream = connection.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return self.abort_stream(ingress.key) };
        let outcome = loop {
            // Nothing is forwarded before the Hello was accepted.
            if !opened {
                self.core.ledger.refuse(RefuseReason::NoSession);
                break Some(StreamCode::UNKNOWN_TRACK);
            }
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    if let Err(code) = self.forward_stream(link, &mut ingress, chunk.bytes, now.instant) {
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

    fn handle_request(&mut self, link: u32, message: ClientMessage, now: Now) -> Result<(), CloseCode> {
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return Ok(()) };
        match connection.phase {
            Phase::Closed => Ok(()),
            Phase::Handshaking | Phase::Greeting => self.greet(link, message, now),
            Phase::Open(_) => {
                if matches!(message.body, Some(Body::Ring(_))) {
                    self.tally.rings_started += 1;
                }
                let rng: &mut rand::rngs::StdRng = &mut self.rng;
                self.core.handle_message(link, message, now, rng, &mut self.outbox)?;
                self.dispatch(now);
                Ok(())
            }
        }
    }

    /// The first message, which nothing but a Hello can be.
    fn greet(&mut self, link: u32, message: ClientMessage, now: Now) -> Result<(), CloseCode> {
        let Some(Body::Hello(hello)) = message.body else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { return Ok(()) };
        let mut exporter = [0; EXPORTER_BYTES];
        connection
            .quic
            .crypto_session()
            .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
            .map_err(|_| CloseCode::INTERNAL)?;
        let greeting = Greeting { hello: &hello, relay: self.pin, exporter };
        let session = self.core.open_session(link, &greeting, &*self.admission, now, &mut self.outbox)?;
        connection.phase = Phase::Open(session);
        self.tally.handshaking -= 1;
        self.dispatch(now);
        Ok(())
    }
}

/// How serving a connection can end it.
enum End {
    /// We close it.
    Close(CloseCode),
    /// It is gone already; whether it said goodbye.
    Lost(CloseCode, bool),
}

fn take_messages(
    reader: &mut supernode_proto::control::FrameReader,
    requests: &mut Vec<ClientMessage>,
) -> Result<(), End> {
    loop {
        match reader.next_message() {
            Ok(Some(message)) => requests.push(message),
            Ok(None) => return Ok(()),
            Err(FrameError::TooLarge { .. }) => return Err(End::Close(CloseCode::MESSAGE_TOO_LARGE)),
            Err(FrameError::Length | FrameError::Malformed) => return Err(End::Close(CloseCode::MALFORMED_MESSAGE)),
        }
    }
}
