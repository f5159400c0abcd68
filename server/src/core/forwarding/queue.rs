//! What waits for one subscriber whose connection takes no more now: bounded in bytes and in time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_proto::{control::TrackKind, object::TrackAlias};

use super::{
    fan_out::Offer,
    ledger::{DropReason, Ledger},
};

/// What an object that waits keeps in memory at least: it is a slice of the packet that it came in.
const PACKET_BYTES: usize = 1_500;

/// Bytes of memory that a slice of a packet keeps.
fn held_by(wire: &Bytes) -> usize {
    wire.len().max(PACKET_BYTES)
}

/// Datagrams that wait: audio first, and in each lane the oldest first.
#[derive(Debug, Default)]
pub struct DatagramQueue {
    audio: VecDeque<Waiting>,
    rest: VecDeque<Waiting>,
    bytes: usize,
}

/// A datagram that waits.
#[derive(Debug)]
struct Waiting {
    offer: Offer,
    wire: Bytes,
}

impl DatagramQueue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.rest.is_empty()
    }

    /// Whether nothing waits before an object of this lane, so that it may go straight to the connection.
    pub fn is_clear(&self, audio: bool) -> bool {
        self.audio.is_empty() && (audio || self.rest.is_empty())
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it keeps in memory: no datagram is larger than the packet that it keeps.
    pub fn held(&self) -> usize {
        self.len() * PACKET_BYTES
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.audio.len() + self.rest.len()
    }

    /// How long the oldest has waited.
    pub fn oldest(&self, now: Instant) -> Duration {
        let fronts = [self.audio.front(), self.rest.front()].into_iter().flatten();
        fronts.map(|front| now.saturating_duration_since(front.offer.arrived)).max().unwrap_or_default()
    }

    /// Adds an object. Makes room by dropping the oldest, which are worth least, and audio last: the queue never holds
    /// more than `bytes_max`, and an object larger than that is dropped itself.
    pub fn push(&mut self, offer: Offer, wire: Bytes, bytes_max: usize, ledger: &mut Ledger) {
        if wire.len() > bytes_max {
            return ledger.drop(DropReason::QueueFull, 1);
        }
        let is_full =
            |queue: &Self| queue.bytes + wire.len() > bytes_max && !crate::planted::planted!(QueueWithoutBound);
        while is_full(self) && self.drop_oldest(DropReason::QueueFull, ledger) {}
        self.bytes += wire.len();
        ledger.queued_bytes += PACKET_BYTES as u64;
        let lane = if offer.is_audio() { &mut self.audio } else { &mut self.rest };
        lane.push_back(Waiting { offer, wire });
    }

    /// Drops the oldest, audio last, until the queue keeps no more than this.
    pub fn shorten(&mut self, held_max: usize, ledger: &mut Ledger) {
        while self.held() > held_max && self.drop_oldest(DropReason::RelayQueueFull, ledger) {}
    }

    fn drop_oldest(&mut self, reason: DropReason, ledger: &mut Ledger) -> bool {
        self.drop_front(self.rest.is_empty(), reason, ledger)
    }

    /// Drops the front of a lane; says whether there was one. Out of line: in what is done for each object it is rare.
    #[cold]
    #[inline(never)]
    fn drop_front(&mut self, audio: bool, reason: DropReason, ledger: &mut Ledger) -> bool {
        let lane = if audio { &mut self.audio } else { &mut self.rest };
        let Some(front) = lane.pop_front() else { return false };
        self.bytes -= front.wire.len();
        ledger.queued_bytes -= PACKET_BYTES as u64;
        if !(crate::planted::planted!(ExpiredNotCounted) && reason == DropReason::Expired) {
            ledger.drop(reason, 1);
        }
        true
    }

    /// The next object that is still worth sending, if it is at most `room` bytes long.
    pub fn take(&mut self, room: usize, now: Instant, ledger: &mut Ledger) -> Option<(Offer, Bytes)> {
        // The usual answer, and asked for after each object.
        if self.is_empty() {
            return None;
        }
        self.expire(now, ledger);
        let lane = if self.audio.is_empty() { &mut self.rest } else { &mut self.audio };
        if lane.front()?.wire.len() > room {
            return None;
        }
        let front = if crate::planted::planted!(NewestFirst) { lane.pop_back()? } else { lane.pop_front()? };
        self.bytes -= front.wire.len();
        ledger.queued_bytes -= PACKET_BYTES as u64;
        ledger.waited(now.saturating_duration_since(front.offer.arrived));
        Some((front.offer, front.wire))
    }

    /// Drops what has waited too long. Objects of one track expire in order; among tracks, the front decides.
    pub fn expire(&mut self, now: Instant, ledger: &mut Ledger) {
        let is_late = |lane: &VecDeque<Waiting>| lane.front().is_some_and(|front| front.offer.expires <= now);
        while is_late(&self.audio) {
            self.drop_front(true, DropReason::Expired, ledger);
        }
        while is_late(&self.rest) {
            self.drop_front(false, DropReason::Expired, ledger);
        }
    }

    /// Drops what waits of one track.
    pub fn purge(&mut self, alias: TrackAlias, ledger: &mut Ledger) {
        let before = self.len();
        for lane in [&mut self.audio, &mut self.rest] {
            lane.retain(|waiting| waiting.offer.alias != alias);
        }
        self.bytes = self.audio.iter().chain(&self.rest).map(|waiting| waiting.wire.len()).sum();
        ledger.queued_bytes -= ((before - self.len()) * PACKET_BYTES) as u64;
        ledger.drop(DropReason::Unsubscribed, (before - self.len()) as u64);
    }

    /// Drops everything: the subscriber is gone.
    pub fn clear(&mut self, ledger: &mut Ledger) {
        ledger.drop(DropReason::Gone, self.len() as u64);
        ledger.queued_bytes -= self.held() as u64;
        self.audio.clear();
        self.rest.clear();
        self.bytes = 0;
    }
}

/// What waits on one stream towards a subscriber, in order. A stream cannot skip: when it is too late it is reset.
#[derive(Debug, Default)]
pub struct StreamQueue {
    waiting: VecDeque<Part>,
    bytes: usize,
    held: usize,
    /// Objects begun but not delivered.
    open_objects: u64,
    finished: bool,
}

#[derive(Debug)]
struct Part {
    wire: Bytes,
    arrived: Instant,
    ends_object: bool,
    /// Bytes of memory that it keeps, also when most of it has been written.
    held: usize,
}

impl StreamQueue {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it keeps in memory.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How long the oldest has waited.
    pub fn oldest(&self, now: Instant) -> Duration {
        self.waiting.front().map_or(Duration::ZERO, |front| now.saturating_duration_since(front.arrived))
    }

    /// Whether everything was written and the stream can be finished.
    pub fn is_done(&self) -> bool {
        self.finished && self.waiting.is_empty()
    }

    /// Adds bytes. The caller has counted an offer for every object that begins in them. Ages on a stream do not go
    /// back: what follows bytes that were given more time has as much.
    pub fn push(
        &mut self,
        wire: Bytes,
        (begins_object, ends_object): (bool, bool),
        arrived: Instant,
        ledger: &mut Ledger,
    ) {
        let arrived = self.waiting.back().map_or(arrived, |last| last.arrived.max(arrived));
        self.open_objects += u64::from(begins_object);
        self.bytes += wire.len();
        let held = held_by(&wire);
        self.held += held;
        ledger.queued_bytes += held as u64;
        self.waiting.push_back(Part { wire, arrived, ends_object, held });
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The bytes to write next.
    pub fn front(&mut self) -> Option<&mut Bytes> {
        self.waiting.front_mut().map(|part| &mut part.wire)
    }

    /// The front was written: all of it if it is empty now, which delivers the object that ends with it.
    pub fn written(&mut self, kind: TrackKind, bytes: usize, ledger: &mut Ledger) {
        self.bytes -= bytes;
        ledger.write(kind, bytes);
        if self.waiting.front().is_some_and(|part| part.wire.is_empty())
            && let Some(part) = self.waiting.pop_front()
        {
            self.held -= part.held;
            ledger.queued_bytes -= part.held as u64;
            if part.ends_object {
                self.open_objects -= 1;
                ledger.deliver(kind, part.arrived);
            }
        }
    }

    /// Gives the stream up: every object on it that is not delivered is dropped.
    pub fn abandon(&mut self, reason: DropReason, ledger: &mut Ledger) {
        ledger.drop(reason, self.open_objects);
        ledger.queued_bytes -= self.held as u64;
        *self = Self { finished: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::forwarding::ledger::{Volume, class};

    const MS: Duration = Duration::from_millis(1);

    fn alias(value: u64) -> TrackAlias {
        TrackAlias::new(value).expect("small")
    }

    fn offer(alias: TrackAlias, arrived: Instant, expires: Instant) -> Offer {
        Offer { link: 0, next: None, alias, kind: TrackKind::Audio, arrived, expires }
    }

    fn push(queue: &mut DatagramQueue, byte: u8, at: Instant, ledger: &mut Ledger) {
        push_to(queue, false, byte, at, ledger);
    }

    fn push_to(queue: &mut DatagramQueue, audio: bool, byte: u8, at: Instant, ledger: &mut Ledger) {
        ledger.offered += 1;
        let kind = if audio { TrackKind::Audio } else { TrackKind::Video };
        let offer = Offer { kind, ..offer(alias(1), at, at + 250 * MS) };
        queue.push(offer, Bytes::from(vec![byte; 100]), 300, ledger);
    }

    //
    #[test]
    fn audio_goes_first_and_is_dropped_last() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        for (byte, audio) in [(0, false), (1, true), (2, false), (3, true)] {
            push_to(&mut queue, audio, byte, start, &mut ledger);
        }
        assert!(!queue.is_clear(true) && !queue.is_clear(false));
        let left: Vec<u8> =
            std::iter::from_fn(|| queue.take(1200, start, &mut ledger)).map(|(_, wire)| wire[0]).collect();
        assert_eq!(left, [1, 3, 2], "the oldest of the others made room");
        push_to(&mut queue, false, 4, start, &mut ledger);
        assert!(queue.is_clear(true) && !queue.is_clear(false));
    }

    //
    #[test]
    fn a_full_queue_drops_its_oldest() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        for byte in 0..5 {
            push(&mut queue, byte, start, &mut ledger);
        }
        assert_eq!(ledger.dropped[DropReason::QueueFull as usize], 2);
        let left: Vec<u8> =
            std::iter::from_fn(|| queue.take(1200, start, &mut ledger)).map(|(_, wire)| wire[0]).collect();
        assert_eq!(left, [2, 3, 4]);
    }

    //
    #[test]
    fn what_waited_too_long_is_not_sent() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        push(&mut queue, 0, start, &mut ledger);
        push(&mut queue, 1, start + 100 * MS, &mut ledger);
        assert_eq!(queue.oldest(start + 200 * MS), 200 * MS);
        let (offer, wire) = queue.take(1200, start + 300 * MS, &mut ledger).expect("the younger one");
        assert_eq!((offer.arrived, wire[0]), (start + 100 * MS, 1));
        assert_eq!(ledger.dropped[DropReason::Expired as usize], 1);
        assert_eq!(ledger.queued(), 1, "taken out by the caller, who counts the delivery");
    }

    #[test]
    fn an_object_waits_until_the_connection_has_room_for_it() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        push(&mut queue, 0, start, &mut ledger);
        assert!(queue.take(99, start, &mut ledger).is_none());
        assert!(queue.take(100, start, &mut ledger).is_some());
    }

    #[test]
    fn purging_and_clearing_account_for_everything() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        push(&mut queue, 0, start, &mut ledger);
        ledger.offered += 1;
        queue.push(offer(alias(2), start, start + MS), Bytes::from_static(b"other"), 300, &mut ledger);
        queue.purge(alias(1), &mut ledger);
        queue.clear(&mut ledger);
        assert_eq!(ledger.dropped[DropReason::Unsubscribed as usize], 1);
        assert_eq!(ledger.dropped[DropReason::Gone as usize], 1);
        assert_eq!((ledger.queued(), queue.len()), (0, 0));
    }

    #[test]
    fn a_stream_delivers_an_object_with_its_last_byte() {
        let (mut queue, mut ledger, start) = (StreamQueue::default(), Ledger::default(), Instant::now());
        ledger.offered += 1;
        queue.push(Bytes::from_static(b"head"), (true, false), start, &mut ledger);
        queue.push(Bytes::from_static(b"tail"), (false, true), start, &mut ledger);
        queue.finish();
        let mut write = |bytes: usize| {
            let front = queue.front().expect("bytes wait");
            bytes::Buf::advance(front, bytes);
            queue.written(TrackKind::Video, bytes, &mut ledger);
            ledger.delivered
        };
        assert_eq!([write(3), write(1), write(3), write(1)], [0, 0, 0, 1]);
        assert!(queue.is_done() && queue.bytes() == 0);
        assert_eq!(ledger.media_out[class(TrackKind::Video)], Volume { objects: 1, bytes: 8 });
    }

    #[test]
    fn an_abandoned_stream_drops_what_it_owes() {
        let (mut queue, mut ledger, start) = (StreamQueue::default(), Ledger::default(), Instant::now());
        ledger.offered += 2;
        queue.push(Bytes::from_static(b"one"), (true, true), start, &mut ledger);
        queue.push(Bytes::from_static(b"two"), (true, false), start, &mut ledger);
        queue.abandon(DropReason::Expired, &mut ledger);
        assert_eq!((ledger.dropped[DropReason::Expired as usize], ledger.queued()), (2, 0));
        assert!(queue.is_done());
    }

    //
    #[test]
    fn small_objects_count_with_the_packets_that_they_keep_until_they_are_gone() {
        let (mut queue, mut ledger, start) = (DatagramQueue::default(), Ledger::default(), Instant::now());
        for byte in 0..3 {
            push_to(&mut queue, byte == 1, byte, start, &mut ledger);
        }
        assert_eq!((queue.bytes(), queue.held(), ledger.queued_bytes), (300, 4_500, 4_500));
        queue.shorten(3_200, &mut ledger);
        assert_eq!((queue.len(), ledger.dropped[DropReason::RelayQueueFull as usize]), (2, 1));
        queue.shorten(1_500, &mut ledger);
        assert!(queue.rest.is_empty(), "audio goes last");
        let mut stream = StreamQueue::default();
        stream.push(Bytes::from(vec![0; 4_000]), (true, false), start, &mut ledger);
        stream.push(Bytes::from_static(b"tail"), (false, true), start, &mut ledger);
        assert_eq!((stream.held(), ledger.queued_bytes), (5_500, 7_000));
        stream.abandon(DropReason::RelayQueueFull, &mut ledger);
        queue.expire(start + 250 * MS, &mut ledger);
        assert_eq!((queue.held(), stream.held(), ledger.queued_bytes), (0, 0, 0));
    }
}
