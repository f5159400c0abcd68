//! One QUIC connection between this shard and another node. Letters and media go one way on it: from who dialled.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Dir, Endpoint, Event, ReadError, StreamEvent, StreamId, VarInt};
use supernode_proto::{
    close::CloseCode,
    control::{FrameError, FrameReader},
};

use super::{
    incoming::Incoming,
    outgoing::Sent,
    table::{Life, Round},
};
use crate::{
    core::{NodeId, ShardId},
    shard::quic::meter,
};

/// Letters go before all media.
const LETTERS_PRIORITY: i32 = i32::MAX;

/// Which way letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// This shard has dialled, and writes.
    Out,
    /// Another node's shard has dialled, and writes.
    In,
}

/// What came of looking at a link's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing but bytes, if anything.
    None,
    /// TLS is done.
    Connected,
    /// It is over, or to be: with a code if this side is to say so.
    Over(Option<CloseCode>),
}

pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) life: Life,
    pub(super) way: Way,
    /// The round that it is of, from when it has been greeted or welcomed.
    pub(super) round: Option<Round>,
    /// Whether something came in for it, or more of it is to be read.
    pub(super) news: bool,
    /// Whether it is over for us: what is left is QUIC's goodbye.
    pub(super) is_over: bool,
    handle: ConnectionHandle,
    quic: Connection,
    /// The one stream that there is.
    stream: Option<StreamId>,
    reader: FrameReader,
    /// Which shard of the other node has dialled.
    pub(super) from: ShardId,
    /// Streams of media that come in, by their numbers.
    pub(super) incoming: BTreeMap<StreamId, Incoming>,
    /// Those of which there is more to read.
    pub(super) readable: Vec<StreamId>,
    /// What has come and was not yet counted for all links.
    pub(super) received: Sent,
    /// When the other side is told next how much has come.
    pub(super) report_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(node: NodeId, life: Life, way: Way, handle: ConnectionHandle, quic: Connection) -> Self {
        let reader = FrameReader::default();
        Self {
            node,
            life,
            way,
            round: None,
            news: true,
            is_over: false,
            handle,
            quic,
            stream: None,
            reader,
            from: ShardId(0),
            incoming: BTreeMap::new(),
            readable: Vec::new(),
            received: Sent::default(),
            report_at: None,
        }
    }

    /// Whether media may come on it.
    fn takes_media(&self) -> bool {
        self.way == Way::In && self.round.is_some()
    }

    /// The stream on which it was greeted, and what came on it behind the Hello.
    pub(super) fn with_stream(self, stream: StreamId, reader: FrameReader) -> Self {
        Self { stream: Some(stream), reader, ..self }
    }

    /// Its number, which it shares with no client's connection.
    pub(super) fn number(&self) -> u32 {
        self.handle.0 as u32
    }

    pub(super) fn quic(&mut self) -> &mut Connection {
        &mut self.quic
    }

    /// Takes all that QUIC has to tell.
    pub(super) fn poll(&mut self) -> News {
        let mut news = News::None;
        while let Some(event) = self.quic.poll() {
            let next = match event {
                Event::Connected => News::Connected,
                Event::ConnectionLost { .. } => News::Over(None),
                // The dialling side has opened one stream for letters, and sends media, once it has been welcomed.
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) if self.takes_media() => {
                    while let Some(id) = self.quic.streams().accept(Dir::Uni) {
                        self.incoming.insert(id, Incoming::default());
                        self.readable.push(id);
                    }
                    News::None
                }
                Event::Stream(StreamEvent::Readable { id }) if id.dir() == Dir::Uni => {
                    self.readable.push(id);
                    News::None
                }
                Event::DatagramReceived if self.takes_media() => News::None,
                Event::Stream(StreamEvent::Opened { .. }) => News::Over(Some(CloseCode::BAD_STREAM)),
                // The other side may have no use for a stream of media.
                Event::Stream(StreamEvent::Stopped { id, .. }) if id.dir() == Dir::Uni => News::None,
                Event::Stream(StreamEvent::Stopped { .. }) => News::Over(Some(CloseCode::BAD_STREAM)),
                Event::DatagramReceived => News::Over(Some(CloseCode::UNEXPECTED_MESSAGE)),
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => News::None,
            };
            if !matches!(news, News::Over(_)) && next != News::None {
                news = next;
            }
        }
        news
    }

    /// Opens the stream.
    pub(super) fn open(&mut self) -> bool {
        self.stream = self.quic.streams().open(Dir::Bi);
        if let Some(id) = self.stream {
            // It was opened a line above.
            let _ = self.quic.send_stream(id).set_priority(LETTERS_PRIORITY);
        }
        self.stream.is_some()
    }

    /// Says a few words at once; whether there was room for them, as there always is on a stream that is new.
    pub(super) fn say(&mut self, frame: &Bytes) -> bool {
        let Some(id) = self.stream else { return false };
        self.quic.send_stream(id).write(frame) == Ok(frame.len())
    }

    /// Writes as much of these frames as the connection takes; how many bytes. What is left waits, within its bound.
    pub(super) fn write(&mut self, frames: &mut VecDeque<Bytes>) -> usize {
        let Some(id) = self.stream else { return 0 };
        let mut bytes = 0;
        let mut stream = self.quic.send_stream(id);
        while let Some(front) = frames.front_mut() {
            // Blocked, stopped or closed: an event says so if it is the end.
            let Ok(written) = stream.write_chunks(std::slice::from_mut(front)) else { break };
            bytes += written.bytes;
            if front.is_empty() {
                frames.pop_front();
            }
        }
        bytes
    }

    /// The next whole frame, of at most so many bytes, if it has come.
    ///
    /// # Errors
    /// The code to close the link with.
    pub(super) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, CloseCode> {
        let Self { quic, reader, stream, .. } = self;
        let Some(id) = *stream else { return Ok(None) };
        if let Some(frame) = next_of(reader, bytes_max)? {
            return Ok(Some(frame));
        }
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Err(CloseCode::BAD_STREAM) };
        let verdict = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    reader.push(&chunk.bytes);
                    let next = next_of(reader, bytes_max);
                    if next != Ok(None) {
                        break next;
                    }
                }
                Err(ReadError::Blocked) => break Ok(None),
                Ok(None) | Err(ReadError::Reset(_)) => break Err(CloseCode::BAD_STREAM),
            }
        };
        // New credit goes out with the packets that are built at the end of the turn.
        let _ = chunks.finalize();
        verdict
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, code: CloseCode, now: Instant) {
        self.quic.close(now, VarInt::from_u64(code.0).unwrap_or(VarInt::MAX), Bytes::new());
    }

    /// The next packets that are to be sent, at most so many of one length.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<quinn_proto::Transmit> {
        if self.is_over {
            return meter::poll_goodbye(&mut self.quic, now, buffer);
        }
        self.quic.poll_transmit(now, segments_max, buffer)
    }

    /// Passes events between the connection and its endpoint; whether the connection is no more.
    pub(super) fn exchange(&mut self, endpoint: &mut Endpoint) -> bool {
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        self.quic.is_drained()
    }
}

fn next_of(reader: &mut FrameReader, bytes_max: usize) -> Result<Option<Bytes>, CloseCode> {
    reader.next_frame(bytes_max).map_err(|error| match error {
        FrameError::TooLarge { .. } => CloseCode::MESSAGE_TOO_LARGE,
        FrameError::Length | FrameError::Malformed => CloseCode::MALFORMED_MESSAGE,
    })
}
