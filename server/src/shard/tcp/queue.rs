//! Packets that a shard has left for a link: bounded by bytes and by age.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use supernode_tcp::{Came, Waits};
use tokio::sync::Notify;

use crate::shard::net::demultiplexer::LONG_HEADER;

/// What may wait for one link. Unit: bytes. A tenth of a second, which is all that may be waited, at 5 Mbit/s.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// What the table of a packet costs beside its bytes.
const PACKET_OVERHEAD_BYTES: usize = size_of::<(Came, Bytes)>();

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug)]
struct Waiting {
    packets: VecDeque<(Came, Bytes)>,
    bytes: usize,
    /// Of the connection that takes them.
    waits: Waits,
    /// When a shard has left a packet of a connection the last time whose handshake is done.
    used_at: Instant,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        let waiting = Waiting { packets: VecDeque::new(), bytes: 0, waits: Waits::default(), used_at: now };
        Self { waiting: Mutex::new(waiting), filled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is left half done where it may panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a packet; whether it had room. [`Self::wake`] afterwards.
    pub(super) fn push(&self, packet: Bytes, now: Instant) -> bool {
        let mut waiting = self.lock();
        if packet.first().is_some_and(|first| first & LONG_HEADER == 0) {
            waiting.used_at = now;
        }
        let bytes = packet.len() + PACKET_OVERHEAD_BYTES;
        if waiting.bytes + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        waiting.bytes += bytes;
        let came = waiting.waits.came(now);
        waiting.packets.push_back((came, packet));
        true
    }

    /// Wakes the link.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits until packets may have come.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The connection takes nothing now.
    pub(super) fn wait_begins(&self, now: Instant) {
        self.lock().waits.begin(now);
    }

    /// It takes packets again.
    pub(super) fn wait_ends(&self, now: Instant) {
        self.lock().waits.end(now);
    }

    /// Takes packets of about so many bytes, one at least; and how many had waited for too long and are forgotten.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> (Vec<Bytes>, u64) {
        let mut waiting = self.lock();
        let (mut taken, mut late, mut left) = (Vec::new(), 0, bytes);
        while left > 0
            && let Some((came, packet)) = waiting.packets.pop_front()
        {
            waiting.bytes -= packet.len() + PACKET_OVERHEAD_BYTES;
            if waiting.waits.is_late(came, now) {
                late += 1;
                continue;
            }
            left = left.saturating_sub(packet.len());
            taken.push(packet);
        }
        (taken, late)
    }

    /// When a shard has left a packet the last time that is of no handshake; else when the link began.
    pub(super) fn used_at(&self) -> Instant {
        self.lock().used_at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    //
    #[test]
    fn what_waits_for_too_long_is_forgotten_and_what_has_no_room_never_waits() {
        let start = Instant::now();
        let queue = Queue::new(start);
        let packet = Bytes::from(vec![7; 1200]);
        let after = |ms| start + Duration::from_millis(ms);
        queue.wait_begins(after(0));
        for ms in [0, 50, 101] {
            assert!(queue.push(packet.clone(), after(ms)));
        }
        let (taken, late) = queue.take(usize::MAX, after(151));
        assert_eq!((taken.len(), late), (1, 2), "100 ms are not too long");

        let pushed = (0..1000).filter(|_| queue.push(packet.clone(), after(200))).count();
        assert_eq!(pushed, QUEUE_BYTES_MAX / (1200 + PACKET_OVERHEAD_BYTES));
        assert_eq!(queue.take(1, after(200)).0.len(), 1, "one at least");
        assert_eq!(queue.take(2 * 1200, after(200)).0.len(), 2);
        assert_eq!(queue.take(usize::MAX, after(200)).0.len(), pushed - 3);
        assert_eq!(queue.lock().bytes, 0);
        assert_eq!(queue.used_at(), after(200));

        assert!(queue.push(Bytes::from_static(&[0xc0, 0, 0, 0, 1]), after(300)));
        assert_eq!(queue.used_at(), after(200), "a handshake's packet makes nobody a client");
    }
}
