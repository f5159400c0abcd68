//! Objects that another node sends on a link: read, counted, and passed to the shard that gathers their track.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ReadError, StreamId, VarInt};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::TrackKind,
    limits::DATAGRAM_BYTES_MAX,
    object::DatagramHeader,
};

use super::{
    link::Link,
    outgoing::{LATE_STREAM, Sent},
};
use crate::{
    core::{node_of, stream::StreamParser},
    shard::{
        connections::{connection::Ingress, gaps::Gaps},
        post::inbox::MediaMail,
        streams::{self, GRACE, Streams, deliver_datagram},
    },
};

/// Objects in datagrams, and chunks of streams, that are taken from one link in a turn. Default 4,096 of each: as much media as a
/// shard takes from others in one.
const PER_TURN: usize = 4_096;

/// First byte of a stream as clients have it.
const STREAM: u8 = 0x01;

/// A stream of media from another node, which goes on to its subscribers as a stream.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Once its first byte has come.
    ingress: Option<Box<Ingress>>,
    /// What comes before that counts as if it came then: it comes all at once.
    not_before: Option<Instant>,
}

impl Link {
    /// Takes the objects that have come in datagrams.
    ///
    /// # Errors
    /// The code to close the link with.
    pub(super) fn read_datagrams(&mut self, cx: &mut streams::Context<'_>, now: Instant) -> Result<(), CloseCode> {
        for _ in 0..PER_TURN {
            let Some(wire) = self.quic().datagrams().recv() else { return Ok(()) };
            let header = if wire.len() <= DATAGRAM_BYTES_MAX { DatagramHeader::decode(&wire).ok() } else { None };
            let Some((header, _)) = header else { return Err(CloseCode::MALFORMED_MESSAGE) };
            let alias = header.hop.alias;
            // A node sends what is published there, and nothing that it was sent itself.
            if node_of(alias) != Some(self.node) {
                return Err(CloseCode::MALFORMED_MESSAGE);
            }
            self.received.datagrams += 1;
            let to = cx.post.homes().of_track(alias);
            if to == cx.post.address() {
                deliver_datagram(&wire, now, cx);
            } else if !cx.post.put_media(to, MediaMail::Datagram { wire, arrived: now }) {
                cx.core.ledger.overflow_of_node();
            }
        }
        self.news = true;
        Ok(())
    }

    /// Reads on in the streams of which there is more.
    pub(super) fn read_streams(&mut self, streams: &mut Streams, cx: &mut streams::Context<'_>, now: Instant) {
        let mut work = PER_TURN;
        for id in std::mem::take(&mut self.readable) {
            self.read_stream(id, &mut work, streams, cx, now);
        }
        self.news |= !self.readable.is_empty();
    }

    /// Reads on in one stream.
    fn read_stream(
        &mut self,
        id: StreamId,
        work: &mut usize,
        streams: &mut Streams,
        cx: &mut streams::Context<'_>,
        now: Instant,
    ) {
        let (node, handle) = (self.node, self.number());
        let Some(mut incoming) = self.incoming.remove(&id) else { return };
        let mut received = Sent::default();
        let quic = self.quic();
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return incoming.abort(StreamCode::CANCELLED, streams, cx) };
        let mut is_left = false;
        let outcome = loop {
            if let Some(ingress) = &incoming.ingress
                && streams.postpones(ingress.key, handle, id)
            {
                break None;
            }
            if *work == 0 {
                is_left = true;
                break None;
            }
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    *work -= 1;
                    let chunk = incoming.begin(chunk.bytes, streams, now);
                    let arrived = incoming.not_before.map_or(now, |at| at.max(now));
                    let Some(ingress) = &mut incoming.ingress else { continue };
                    match streams.forward_from_node(node, ingress, chunk, cx, arrived) {
                        Ok(objects) => received.objects += objects,
                        Err(code) => break Some(Err(code)),
                    }
                }
                Err(ReadError::Blocked) => break None,
                Ok(None) => {
                    let is_whole = incoming.ingress.as_ref().is_some_and(|ingress| ingress.parser.is_at_boundary());
                    break Some(if is_whole { Ok(()) } else { Err(StreamCode::CANCELLED) });
                }
                Err(ReadError::Reset(code)) => break Some(Err(StreamCode(code.into_inner()))),
            }
        };
        // New credit goes out with the packets that are built at the end of the turn.
        let _ = chunks.finalize();
        match outcome {
            None => {
                self.incoming.insert(id, incoming);
                if is_left {
                    self.readable.push(id);
                }
            }
            Some(Ok(())) => {
                if let Some(ingress) = incoming.ingress {
                    streams.finish_from_node(ingress.key, cx);
                }
            }
            Some(Err(code)) => {
                // One that has ended by itself needs no stopping.
                let _ = self.quic().recv_stream(id).stop(VarInt::from_u64(code.0).unwrap_or(VarInt::MAX));
                incoming.abort(code, streams, cx);
            }
        }
        self.received.add(received);
    }
}

impl Incoming {
    /// Looks at a chunk. The first one's first byte says whether the stream began before.
    fn begin(&mut self, chunk: Bytes, streams: &mut Streams, now: Instant) -> Bytes {
        if self.ingress.is_some() {
            return chunk;
        }
        self.ingress = Some(Box::new(Ingress {
            key: streams.begin(),
            kind: TrackKind::Unspecified,
            parser: StreamParser::default(),
            unseen_bytes: 0,
            gaps: Gaps::default(),
        }));
        match chunk.split_first() {
            Some((&LATE_STREAM, rest)) => {
                self.not_before = Some(now + GRACE);
                [&[STREAM], rest].concat().into()
            }
            _ => chunk,
        }
    }

    /// It ends before its last byte.
    pub(super) fn abort(self, code: StreamCode, streams: &mut Streams, cx: &mut streams::Context<'_>) {
        if let Some(ingress) = self.ingress {
            streams.abort_from_node(ingress.key, code, cx);
        }
    }
}
