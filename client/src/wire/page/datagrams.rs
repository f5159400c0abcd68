//! Datagrams that wait until the browser takes them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use supernode_session::{Moment, transport::DATAGRAM_BUFFER_BYTES};
use tokio::sync::Notify;

use crate::{runtime::moment, sync::lock, tracks::track::LocalTrack};

/// Those that wait, oldest first. What has waited for too long, or finds no room any more, is given up and counted: in a call
/// the newest is worth most.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: Mutex<Queue>,
    came: Notify,
    /// The largest that goes out now. Unit: bytes.
    pub(super) bytes_max: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    datagram: Bytes,
    until: Moment,
    whose: Arc<LocalTrack>,
}

impl Outgoing {
    /// Lets one wait, at most so long.
    pub(super) fn push(&self, datagram: Bytes, wait_max: Duration, whose: Arc<LocalTrack>) {
        let mut queue = lock(&self.queue);
        queue.bytes += datagram.len();
        queue.waiting.push_back(Waiting { datagram, until: moment() + wait_max, whose });
        while queue.bytes > DATAGRAM_BUFFER_BYTES {
            match queue.pop() {
                Some(oldest) => oldest.whose.counters.count_dropped(),
                None => break,
            }
        }
        self.came.notify_one();
    }

    /// Waits until there is one.
    pub(super) async fn some(&self) {
        while lock(&self.queue).waiting.is_empty() {
            self.came.notified().await;
        }
    }

    /// The oldest that is still worth sending.
    pub(super) fn next(&self) -> Option<Bytes> {
        let (mut queue, now) = (lock(&self.queue), moment());
        while let Some(oldest) = queue.pop() {
            if now < oldest.until && oldest.datagram.len() <= self.bytes_max.load(Relaxed) {
                return Some(oldest.datagram);
            }
            oldest.whose.counters.count_dropped();
        }
        None
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Waiting> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.datagram.len();
        Some(oldest)
    }
}
