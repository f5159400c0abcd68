//! What QUIC was handed and may still keep: while it can send nothing, what is said then is late before it is sent.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use supernode_session::Moment;

/// What is counted for each datagram that waits, beside its bytes: as quinn does.
const OVERHEAD_BYTES: usize = size_of::<Bytes>();

/// The datagrams handed over last, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    queue: VecDeque<(Moment, usize)>,
    bytes: usize,
}

impl Handed {
    /// Whether another one may be handed over, if QUIC still keeps as many bytes: not behind one that has waited for longer
    /// than `wait_max`. So when a path comes back after seconds, no more than that much of the past goes first.
    pub(crate) fn takes_more(&mut self, kept_bytes: usize, wait_max: Duration, now: Moment) -> bool {
        while self.bytes > kept_bytes
            && let Some((_, bytes)) = self.queue.pop_front()
        {
            self.bytes -= bytes;
        }
        self.queue.front().is_none_or(|(since, _)| now.since(*since) <= wait_max)
    }

    pub(crate) fn push(&mut self, bytes: usize, now: Moment) {
        self.bytes += bytes + OVERHEAD_BYTES;
        self.queue.push_back((now, bytes + OVERHEAD_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_MAX: Duration = Duration::from_millis(250);

    #[test]
    fn of_a_path_that_is_dead_for_seconds_a_quarter_of_a_second_is_kept() {
        let (mut handed, start) = (Handed::default(), Moment::at(Duration::ZERO));
        let at = |ms| start + Duration::from_millis(ms);
        let mut kept = 0;
        let mut say = |ms, kept: &mut usize| {
            let taken = handed.takes_more(*kept, WAIT_MAX, at(ms));
            if taken {
                handed.push(160, at(ms));
                *kept += 160 + OVERHEAD_BYTES;
            }
            taken
        };
        let taken = (0..150).filter(|packet| say(20 * packet, &mut kept)).count();
        assert_eq!(taken, 13, "of three seconds");
        kept = 2 * (160 + OVERHEAD_BYTES);
        assert!(!say(3_000, &mut kept), "the last two of them are as old");
        kept = 0;
        assert!(say(3_020, &mut kept) && say(3_040, &mut kept));
    }

    #[test]
    fn a_path_that_is_full_and_goes_on_loses_nothing_here() {
        let (mut handed, start) = (Handed::default(), Moment::at(Duration::ZERO));
        for packet in 0..1_000u64 {
            let now = start + Duration::from_millis(packet);
            // A hundred of them wait, each for 100 ms.
            let kept = (packet as usize).min(100) * (1_000 + OVERHEAD_BYTES);
            assert!(handed.takes_more(kept, WAIT_MAX, now), "packet {packet}");
            handed.push(1_000, now);
        }
    }
}
