//! What a connection does when it is its turn: QUIC's events in, requests and objects out.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ConnectionError, Dir, Event, ReadError, StreamEvent, StreamId};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{FrameError, TrackKind},
    limits as wire,
};

use super::ends::code_of;
use crate::{
    core::{Now, Outbox, ledger::RefuseReason, stream::StreamParser},
    shard::{
        connections::{
            connection::{Connection, Ingress, Phase},
            gaps::Gaps,
        },
        figures::counters::Tally,
        post::inbox::MediaMail,
        quic::{
            link_codec::{DatagramOut, LinkEnd, StreamRole},
            transport,
        },
        streams::{self, Streams},
    },
};

/// One connection's turn: what it has sent is read, and objects go their way at once; its requests wait for the end.
pub(super) struct Turn<'a> {
    link: u32,
    now: Now,
    work: Work,
    requests: Vec<Bytes>,
    streams: &'a mut Streams,
    cx: streams::Context<'a>,
    tally: &'a mut Tally,
    outbox: &'a mut Outbox,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        link: u32,
        now: Now,
        streams: &'a mut Streams,
        cx: streams::Context<'a>,
        tally: &'a mut Tally,
        outbox: &'a mut Outbox,
    ) -> Self {
        let work = if cx.post.is_used_up() { Work::default() } else { Work::A_TURN };
        Self { link, now, work, requests: Vec::new(), streams, cx, tally, outbox }
    }

    /// Lets the connection act on what came in for it.
    pub(super) fn act(&mut self, connection: &mut Connection) -> Result<(), End> {
        let read = self.read_on(connection);
        let mut verdict = read.and_then(|()| self.handle_events(connection));
        if connection.has_too_much_tls() {
            verdict = verdict.and(Err(End::Close(CloseCode::TRANSPORT_ERROR)));
        }
        if let Some(newcomer) = &connection.newcomer
            && connection.phase != Phase::Closed
            && newcomer.hello_by <= self.now.instant
        {
            return verdict.and(Err(End::Close(CloseCode::HELLO_TIMEOUT)));
        }
        verdict
    }

    /// Goes on with one media stream that was held, whatever else there is to do.
    pub(super) fn go_on(&mut self, connection: &mut Connection, id: StreamId) {
        self.work = Work::A_TURN;
        self.read_media(connection, id);
    }

    /// What the client asked for, in order.
    pub(super) fn into_requests(self) -> Vec<Bytes> {
        self.requests
    }

    /// Goes on reading where the turn before left off.
    fn read_on(&mut self, connection: &mut Connection) -> Result<(), End> {
        if connection.quic.is_closed() {
            return Ok(()); // it is gone, and the event that says so still to come
        }
        for id in std::mem::take(&mut connection.unread) {
            match id.dir() {
                Dir::Bi => self.read_control(connection, id)?,
                Dir::Uni => self.read_media(connection, id),
            }
        }
        Ok(())
    }

    fn handle_events(&mut self, connection: &mut Connection) -> Result<(), End> {
        let arrived = connection.unserved_since.take().unwrap_or(self.now.instant);
        connection.urgent |= connection.session().is_none();
        if std::mem::take(&mut connection.has_more) {
            self.handle_datagrams(connection, arrived)?;
        }
        while let Some(event) = connection.quic.poll() {
            connection.urgent |= !matches!(event, Event::DatagramReceived);
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => {
                    self.tally.handshakes_ok += 1;
                    connection.phase = Phase::Greeting;
                    connection.set_codec();
                    transport::allow_own_streams(&mut connection.quic, connection.codec.own_streams());
                    connection.codec.connected(&mut connection.quic);
                    if let Some(newcomer) = &mut connection.newcomer {
                        newcomer.prove();
                    }
                }
                Event::ConnectionLost { reason } => {
                    let (code, clean) = match &reason {
                        ConnectionError::ApplicationClosed(close) => connection.codec.closed_with(close),
                        other => code_of(other),
                    };
                    return Err(End::Lost(code, clean));
                }
                Event::DatagramReceived => self.handle_datagrams(connection, arrived)?,
                Event::Stream(event) => self.handle_stream_event(connection, event)?,
            }
        }
        Ok(())
    }

    fn handle_datagrams(&mut self, connection: &mut Connection, arrived: Instant) -> Result<(), End> {
        loop {
            if self.cx.connections.has_no_time_for(connection.reach) {
                if !std::mem::replace(&mut connection.has_more, true) {
                    connection.unserved_since = Some(arrived);
                    self.cx.connections.leave_for_next_turn(self.link);
                }
                return Ok(());
            }
            let Some(datagram) = connection.quic.datagrams().recv() else { return Ok(()) };
            let Some(wire) = connection.codec.datagram_in(datagram) else { continue };
            // A client asks whether we are there; QUIC has acknowledged it.
            if wire.is_empty() {
                continue;
            }
            let before = self.cx.connections.deliveries();
            self.forward_datagram(&wire, arrived)?;
            // One that reaches nobody in between does not make others light.
            connection.reach = (self.cx.connections.deliveries() - before).max(connection.reach / 2);
        }
    }

    /// Forwards an object in a datagram. What is refused is counted, and the publisher not told.
    fn forward_datagram(&mut self, wire: &Bytes, arrived: Instant) -> Result<(), End> {
        let streams::Context { core, connections, post } = &mut self.cx;
        let queue_bytes_max = core.limits().queue_bytes_max;
        let out = DatagramOut::new(wire);
        let forwarded = core.forward_datagram(
            self.link,
            wire,
            arrived,
            |offer, ledger| connections.deliver(&offer, &out, queue_bytes_max, ledger),
            |shard| post.put_media(shard, MediaMail::Datagram { wire: wire.clone(), arrived }),
        );
        if forwarded == Err(RefuseReason::RateExceeded) && core.lose_patience(self.link, arrived) {
            self.outbox.counts.limit("ingest_excess_objects_max");
            return Err(End::Close(CloseCode::RATE_EXCEEDED));
        }
        Ok(())
    }

    fn handle_stream_event(&mut self, connection: &mut Connection, event: StreamEvent) -> Result<(), End> {
        match event {
            StreamEvent::Opened { dir } => {
                while let Some(id) = connection.quic.streams().accept(dir) {
                    self.begin_stream(connection, id)?;
                }
            }
            StreamEvent::Readable { id } if connection.codec.awaits(id) => self.begin_stream(connection, id)?,
            StreamEvent::Readable { id } if id.dir() == Dir::Bi => {
                connection.control_gaps.come();
                self.read_control(connection, id)?;
            }
            StreamEvent::Readable { id } => {
                if let Some(mut ingress) = connection.ingress.remove(&id) {
                    ingress.gaps.come();
                    self.read_ingress(connection, id, ingress);
                }
            }
            StreamEvent::Stopped { id, .. } if Some(id) == connection.control => {
                return Err(End::Close(CloseCode::BAD_STREAM));
            }
            StreamEvent::Stopped { id, .. } | StreamEvent::Finished { id } => connection.forget_finished(id),
            // A connection that is being served writes everything it can afterwards.
            StreamEvent::Writable { .. } | StreamEvent::Available { .. } => {}
        }
        Ok(())
    }

    /// Takes a stream that the client has opened, once the link says what it is.
    fn begin_stream(&mut self, connection: &mut Connection, id: StreamId) -> Result<(), End> {
        let role = connection.codec.begin(&mut connection.quic, id).map_err(|end| match end {
            LinkEnd::Close(code) => End::Close(code),
            LinkEnd::Left(is_clean) => End::Left(is_clean),
        })?;
        match role {
            Some(StreamRole::Control) => {
                if connection.control.is_some() {
                    return Err(End::Close(CloseCode::BAD_STREAM));
                }
                connection.accept_control(id);
                connection.control_gaps.come();
                self.read_control(connection, id)
            }
            Some(StreamRole::Media) => {
                let mut ingress = Ingress {
                    key: self.streams.begin(),
                    kind: TrackKind::Unspecified,
                    parser: StreamParser::default(),
                    unseen_bytes: 0,
                    gaps: Gaps::default(),
                };
                ingress.gaps.come();
                self.read_ingress(connection, id, ingress);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Reads the control stream, which lives as long as the session.
    fn read_control(&mut self, connection: &mut Connection, id: StreamId) -> Result<(), End> {
        if Some(id) != connection.control {
            return Err(End::Close(CloseCode::BAD_STREAM));
        }
        connection.count_anew();
        let is_newcomer = connection.newcomer.is_some();
        let Connection { quic, reader, unread, kept, control_gaps, .. } = connection;
        let mut pieces = 0;
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Err(End::Close(CloseCode::BAD_STREAM)) };
        let verdict = loop {
            // Messages that have come whole are taken before more bytes are, so that few wait here.
            if self.work.is_done() {
                self.tally.held_for_mail += u64::from(self.cx.post.is_used_up());
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
                    control_gaps.read(chunk.bytes.len(), chunk.offset + chunk.bytes.len() as u64, kept.window());
                    pieces += 1;
                    self.work.chunks -= 1;
                }
                Err(ReadError::Blocked) => break Ok(()),
                Ok(None) | Err(ReadError::Reset(_)) => break Err(End::Close(CloseCode::BAD_STREAM)),
            }
        };
        // The connection is on the list to be served, so new credit goes out anyway.
        let _ = chunks.finalize();
        kept.settle(control_gaps, pieces);
        if control_gaps.are_too_many() { Err(End::Close(CloseCode::TRANSPORT_ERROR)) } else { verdict }
    }

    /// Reads a media stream.
    fn read_media(&mut self, connection: &mut Connection, id: StreamId) {
        if let Some(ingress) = connection.ingress.remove(&id) {
            self.read_ingress(connection, id, ingress);
        }
    }

    fn read_ingress(&mut self, connection: &mut Connection, id: StreamId, mut ingress: Ingress) {
        connection.count_anew();
        let opened = matches!(connection.phase, Phase::Open(_));
        let Connection { quic, unread, kept, .. } = &mut *connection;
        let mut pieces = 0;
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else {
            kept.end(&ingress.gaps);
            return self.streams.abort(ingress.key, StreamCode::CANCELLED, &mut self.cx);
        };
        let outcome = loop {
            // Nothing is forwarded before the Hello was accepted.
            if !opened {
                self.cx.core.ledger.refuse(RefuseReason::NoSession);
                break Some(StreamCode::UNKNOWN_TRACK);
            }
            if ingress.gaps.are_too_many() {
                break Some(StreamCode::RATE_EXCEEDED);
            }
            if self.streams.postpones(ingress.key, self.link, id) {
                break None;
            }
            if self.work.is_done() {
                self.tally.held_for_mail += u64::from(self.cx.post.is_used_up());
                leave(unread, id);
                break None;
            }
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    self.work.chunks -= 1;
                    let len = chunk.bytes.len();
                    ingress.gaps.read(len, chunk.offset + len as u64, kept.window());
                    pieces += 1;
                    let (chunk, now) = (compact(chunk.bytes), self.now.instant);
                    if let Err(code) = self.streams.forward(self.link, &mut ingress, chunk, &mut self.cx, now) {
                        break Some(code);
                    }
                }
                Err(ReadError::Blocked) => break None,
                Ok(None) if ingress.parser.is_at_boundary() => {
                    let _ = chunks.finalize();
                    kept.settle(&mut ingress.gaps, pieces);
                    kept.end(&ingress.gaps);
                    return self.streams.finish(ingress.key, &mut self.cx);
                }
                Ok(None) | Err(ReadError::Reset(_)) => {
                    let _ = chunks.finalize();
                    kept.settle(&mut ingress.gaps, pieces);
                    kept.end(&ingress.gaps);
                    return self.streams.abort(ingress.key, StreamCode::CANCELLED, &mut self.cx);
                }
            }
        };
        let _ = chunks.finalize();
        kept.settle(&mut ingress.gaps, pieces);
        match outcome {
            Some(code) => {
                kept.end(&ingress.gaps);
                connection.stop(id, code);
                self.streams.abort(ingress.key, StreamCode::CANCELLED, &mut self.cx);
            }
            None => {
                connection.ingress.insert(id, ingress);
            }
        }
    }
}

/// How serving a connection can end it.
pub(super) enum End {
    /// We close it.
    Close(CloseCode),
    /// It is gone already; whether it said goodbye.
    Lost(CloseCode, bool),
    /// Its client has ended the session, but not the connection; whether it said goodbye.
    Left(bool),
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
struct Work {
    chunks: u32,
    messages: u32,
}

impl Work {
    /// Default 256 chunks, a quarter of a millisecond if each is an object of a few bytes to one subscriber; a turn reads
    /// few more packets from the socket. 64 messages: more than a client that keeps to its rate sends in half a second.
    const A_TURN: Self = Self { chunks: 256, messages: 64 };

    fn is_done(self) -> bool {
        self.chunks == 0 || self.messages == 0
    }
}
