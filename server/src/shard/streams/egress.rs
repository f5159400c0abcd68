//! A media stream on its way to one subscriber.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, Dir, StreamId, WriteError};
use supernode_proto::{
    close::StreamCode,
    control::TrackKind,
    object::{StreamHeader, TrackAlias},
};

use crate::{
    core::{
        forward::Subscriber,
        ledger::{DropReason, Ledger},
        queue::StreamQueue,
        stream::StreamPart,
    },
    shard::quic::link_codec::{LinkCodec, StreamCodes},
};

/// What a subscriber has of a publisher's stream.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) alias: TrackAlias,
    kind: TrackKind,
    pub(crate) queue: StreamQueue,
    /// The stream's header, until an object follows it: a stream of which nothing is wanted is never opened.
    header: Option<Bytes>,
    age_max: Duration,
    /// Of a data track: it is never late, and never thinned.
    reliable: bool,
    pub(crate) group: u64,
    pub(crate) temporal_layer: u8,
    priority: i32,
    id: Option<StreamId>,
    codes: StreamCodes,
    /// Why it was given up; objects that still come in are dropped for the same reason.
    abandoned: Option<DropReason>,
    /// Nothing more will come in.
    ended: bool,
}

impl Egress {
    /// A stream that begins, with its header's bytes, on a link with this codec.
    pub(crate) fn new(
        header: &StreamHeader,
        wire: Bytes,
        kind: TrackKind,
        subscriber: &Subscriber,
        codec: &LinkCodec,
    ) -> Self {
        let ttl = Duration::from_millis(u64::from(header.hop.ttl_ms));
        Self {
            alias: header.hop.alias,
            kind,
            queue: StreamQueue::default(),
            header: Some(codec.stream_out(wire)),
            age_max: ttl.min(subscriber.age_max),
            reliable: kind == TrackKind::Data,
            group: header.group,
            temporal_layer: header.temporal_layer,
            priority: priority(header, kind, subscriber.focus),
            id: None,
            codes: codec.stream_codes(),
            abandoned: None,
            ended: false,
        }
    }

    /// Whether it was given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.is_some()
    }

    /// Whether it is of a data track, which goes on until it is through.
    pub(crate) fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// Whether it was given up because it was too late.
    pub(crate) fn is_expired(&self) -> bool {
        self.abandoned == Some(DropReason::Expired)
    }

    /// The stream, if it was opened and not given up.
    pub(crate) fn written(&self) -> Option<StreamId> {
        self.id.filter(|_| self.abandoned.is_none())
    }

    /// Adds a part whose object, if one begins with it, has been counted as offered.
    pub(crate) fn push(&mut self, part: &StreamPart, arrived: Instant, ledger: &mut Ledger) {
        match self.abandoned {
            Some(reason) => ledger.drop(reason, u64::from(part.begins.is_some())),
            None => {
                if let Some(header) = self.header.take() {
                    self.queue.push(header, (false, false), arrived, ledger);
                }
                self.queue.push(part.wire.clone(), (part.begins.is_some(), part.ends), arrived, ledger);
            }
        }
    }

    /// The publisher has finished the stream.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
        self.queue.finish();
    }

    /// Writes what the connection takes; gives the stream up if it is too late. Returns whether it is over.
    /// A new stream waits while QUIC holds so many for the client.
    pub(crate) fn flush(
        &mut self,
        quic: &mut Connection,
        streams_max: usize,
        now: Instant,
        ledger: &mut Ledger,
    ) -> bool {
        if !self.reliable && self.queue.oldest(now) > self.age_max {
            self.abandon(quic, StreamCode::EXPIRED, DropReason::Expired, ledger);
        }
        if self.abandoned.is_some() {
            return self.ended;
        }
        if self.header.is_some() {
            return self.ended;
        }
        let Some(id) = self.id.or_else(|| self.open(quic, streams_max)) else { return false };
        if !self.reliable {
            ledger.waited(self.queue.oldest(now));
        }
        let mut stream = quic.send_stream(id);
        while let Some(front) = self.queue.front() {
            match stream.write_chunks(std::slice::from_mut(front)) {
                Ok(written) => self.queue.written(self.kind, written.bytes, ledger),
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
    pub(crate) fn abandon(&mut self, quic: &mut Connection, code: StreamCode, reason: DropReason, ledger: &mut Ledger) {
        if self.abandoned.is_none() {
            self.abandoned = Some(reason);
            self.queue.abandon(reason, ledger);
            if let Some(id) = self.id {
                // A stream that the peer stopped is closed already.
                let _ = quic.send_stream(id).reset(self.codes.of(code));
            }
        }
    }

    fn open(&mut self, quic: &mut Connection, streams_max: usize) -> Option<StreamId> {
        let mut streams = quic.streams();
        let id = if streams.send_streams() < streams_max { streams.open(Dir::Uni)? } else { return None };
        // It was opened a line above.
        let _ = quic.send_stream(id).set_priority(self.priority);
        self.id = Some(id);
        self.id
    }
}

/// Audio; then base layers, of what the subscriber looks at first; then data; then enhancement, layer by layer. In each of
/// these by the publisher's priority, lower first, and then the newest group first.
fn priority(header: &StreamHeader, kind: TrackKind, focus: bool) -> i32 {
    let tier = match (kind, header.temporal_layer) {
        (TrackKind::Audio, _) => 7,
        (TrackKind::Data, _) => 4,
        (_, 0) if focus => 6,
        (_, 0) => 5,
        (_, layer) => 4 - i32::from(layer.min(3)),
    };
    tier << 28 | i32::from(u8::MAX - header.hop.priority) << 20 | (header.group & 0xf_ffff) as i32
}

#[cfg(test)]
mod tests {
    use supernode_proto::object::Hop;

    use super::*;

    //
    #[test]
    fn audio_goes_before_base_layers_before_data_before_enhancement_and_the_newest_first() {
        let stream = |kind, temporal_layer, focus, publisher: u8, group| {
            let hop = Hop { alias: TrackAlias::new(1).expect("small"), priority: publisher, ttl_ms: 0 };
            priority(&StreamHeader { hop, group, temporal_layer }, kind, focus)
        };
        let order = [
            stream(TrackKind::Audio, 0, false, 255, 0),
            stream(TrackKind::Video, 0, true, 255, 0),
            stream(TrackKind::Screen, 0, false, 0, 7),
            stream(TrackKind::Screen, 0, false, 0, 6),
            stream(TrackKind::Video, 0, false, 1, 9),
            stream(TrackKind::Data, 0, false, 0, 0),
            stream(TrackKind::Video, 1, true, 0, 0),
            stream(TrackKind::Video, 2, true, 0, 0),
            stream(TrackKind::Video, 7, true, 255, 0),
        ];
        assert!(order.is_sorted_by(|before, after| before > after), "{order:?}");
        assert!(order.iter().all(|priority| (0..i32::MAX).contains(priority)), "control goes before them all");
    }
}
