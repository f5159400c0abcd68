//! Packets that wait for a slow TCP connection: few, and none for long.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{Came, Waits};

/// What may wait. Unit: bytes. A dozen packets: whoever has more waits itself, where what is late is dropped and counted.
const BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<(Came, Bytes)>,
    bytes: usize,
    /// Of the TCP connection that takes them, and of those after it.
    waits: Waits,
    /// Who waits for room.
    wakers: Vec<Waker>,
    dropped: u64,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is left half done where it may panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another packet has room.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().bytes < BYTES_MAX
    }

    /// The same for who wants to be woken once there is.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.bytes < BYTES_MAX {
            return Poll::Ready(());
        }
        if !waiting.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn push(&self, packet: Bytes, now: Instant) {
        let mut waiting = self.lock();
        waiting.bytes += packet.len();
        let came = waiting.waits.came(now);
        waiting.packets.push_back((came, packet));
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until there may be packets.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes packets of about so many bytes, one at least, and forgets those that have waited for too long.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Vec<Bytes> {
        let mut waiting = self.lock();
        let (mut taken, mut left) = (Vec::new(), bytes);
        while left > 0
            && let Some((came, packet)) = waiting.packets.pop_front()
        {
            waiting.bytes -= packet.len();
            if waiting.waits.is_late(came, now) {
                waiting.dropped += 1;
                continue;
            }
            left = left.saturating_sub(packet.len());
            taken.push(packet);
        }
        if waiting.bytes < BYTES_MAX {
            waiting.wakers.drain(..).for_each(Waker::wake);
        }
        taken
    }

    /// The connection takes nothing now, or there is none.
    pub(crate) fn wait_begins(&self, now: Instant) {
        self.lock().waits.begin(now);
    }

    /// There is one that takes packets.
    pub(crate) fn wait_ends(&self, now: Instant) {
        self.lock().waits.end(now);
    }

    /// They are to go another way: forgets what waits, and wakes whoever waits for room.
    pub(crate) fn let_go(&self) {
        let mut waiting = self.lock();
        (waiting.packets, waiting.bytes) = (VecDeque::new(), 0);
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    /// How many were too old.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet() -> Bytes {
        Bytes::from(vec![7; 1200])
    }

    //
    #[test]
    fn what_a_connection_makes_wait_for_longer_than_a_tenth_of_a_second_is_forgotten_and_counted() {
        let (outgoing, start) = (Outgoing::default(), Instant::now());
        outgoing.wait_begins(start);
        for ms in [0, 50, 101] {
            outgoing.push(packet(), start + Duration::from_millis(ms));
        }
        assert_eq!(outgoing.take(usize::MAX, start + Duration::from_millis(151)).len(), 1, "100 ms are not too long");
        assert_eq!((outgoing.dropped(), outgoing.has_room()), (2, true));
    }

    //
    #[test]
    fn a_dozen_packets_have_room_and_who_wants_more_waits_until_some_are_taken() {
        let (outgoing, now) = (Outgoing::default(), Instant::now());
        let mut pushed = 0;
        while outgoing.has_room() {
            outgoing.push(packet(), now);
            pushed += 1;
        }
        assert_eq!(pushed, 14);
        let cx = Context::from_waker(Waker::noop());
        assert!(outgoing.poll_room(&cx).is_pending());
        assert_eq!(outgoing.take(1, now).len(), 1, "one at least");
        assert!(outgoing.poll_room(&cx).is_ready());
        assert_eq!(outgoing.take(2_400, now).len(), 2);
    }
}
