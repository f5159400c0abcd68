//! A media stream on its way to one subscriber.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, Dir, StreamId, VarInt, WriteError};
use supernode_proto::{
    close::StreamCode,
    object::{Layer, StreamHeader, TrackAlias},
};

use crate::core::{
    ledger::{DropReason, Ledger},
    queue::StreamQueue,
    stream::StreamPart,
};

/// What a subscriber has of a publisher's stream.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) alias: TrackAlias,
    pub(super) queue: StreamQueue,
    /// The stream's header, until an object follows it: a stream of which nothing is wanted is never opened.
    header: Option<Bytes>,
    age_max: Duration,
    priority: i32,
    id: Option<StreamId>,
    /// Why it was given up; objects that still come in are dropped for the same reason.
    abandoned: Option<DropReason>,
    /// Nothing more will come in.
    ended: bool,
}

impl Egress {
    /// A stream that begins, with its header's bytes. `age_max` is the subscriber's.
    pub(super) fn new(header: &StreamHeader, wire: Bytes, age_max: Duration) -> Self {
        let ttl = Duration::from_millis(u64::from(header.hop.ttl_ms));
        Self {
            alias: header.hop.alias,
            queue: StreamQueue::default(),
            header: Some(wire),
            age_max: ttl.min(age_max),
            priority: priority(header),
            id: None,
            abandoned: None,
            ended: false,
        }
    }

    /// Whether it was given up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.is_some()
    }

    /// Adds a part whose object, if one begins with it, has been counted as offered.
    pub(super) fn push(&mut self, part: &StreamPart, arrived: Instant, ledger: &mut Ledger) {
        match self.abandoned {
            Some(reason) => ledger.drop(reason, u64::from(part.begins.is_some())),
            None => {
                if let Some(header) = self.header.take() {
                    self.queue.push(header, false, false, arrived);
                }
                self.queue.push(part.wire.clone(), part.begins.is_some(), part.ends, arrived);
            }
        }
    }

    /// The publisher has finished the stream.
    pub(super) fn finish(&mut self) {
        self.ended = true;
        self.queue.finish();
    }

    /// Writes what the connection takes; gives the stream up if it is too late. Returns whether it is over.
    pub(super) fn flush(&mut self, quic: &mut Connection, now: Instant, ledger: &mut Ledger) -> bool {
        if self.queue.oldest(now) > self.age_max {
            self.abandon(quic, StreamCode::EXPIRED, DropReason::Expired, ledger);
        }
        if self.abandoned.is_some() {
            return self.ended;
        }
        if self.header.is_some() {
            return self.ended;
        }
        let Some(id) = self.id.or_else(|| self.open(quic)) else { return false };
        let mut stream = quic.send_stream(id);
        while let Some(front) = self.queue.front() {
            match stream.write_chunks(std::slice::from_mut(front)) {
                Ok(written) => self.queue.written(written.bytes, ledger),
                Err(WriteError::Blocked) => return false,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    self.abandon(quic, StreamCode::CANCELLED, DropReason::Stopped, ledger);
                    return self.ended;
                }
            }
        }
        if self.queue.is_done() {
            // It was open a moment ago: finishing it cannot fail but for the peer's stop, which ends it as well.
            let _ = stream.finish();
        }
        self.queue.is_done()
    }

    /// Gives the stream up: resets it, and drops what it owes.
    pub(super) fn abandon(&mut self, quic: &mut Connection, code: StreamCode, reason: DropReason, ledger: &mut Ledger) {
        if self.abandoned.is_none() {
            self.abandoned = Some(reason);
            self.queue.abandon(reason, ledger);
            if let Some(id) = self.id {
                // A stream that the peer stopped is closed already.
                let _ = quic.send_stream(id).reset(VarInt::from_u32(code.0 as u32));
            }
        }
    }

    fn open(&mut self, quic: &mut Connection) -> Option<StreamId> {
        let id = quic.streams().open(Dir::Uni)?;
        // It was opened a line above.
        let _ = quic.send_stream(id).set_priority(self.priority);
        self.id = Some(id);
        self.id
    }
}

/// By the publisher's priority, lower first; then base layers before enhancement; in a layer the newest group first.
fn priority(header: &StreamHeader) -> i32 {
    let class = i32::from(u8::MAX - header.hop.priority);
    let layer = i32::from(Layer::MAX - header.temporal_layer.min(Layer::MAX));
    (class << 23) | (layer << 20) | (header.group & 0xf_ffff) as i32
}
