//! What clients make the relay keep and send, counted as they are served: above a bound that all share, the fullest queues
//! are cut to one height, and the sessions with most control messages end.

use std::time::Instant;

use supernode_proto::close::{CloseCode, StreamCode};

use super::{connection::Connection, engine::Engine, media};
use crate::core::{
    Now,
    ledger::{DropReason, Ledger},
};

impl Engine {
    /// Shortens the fullest queues of this shard if together they keep more than its part of what the relay may.
    pub(super) fn shed_if_full(&mut self) {
        let held_max = self.core.limits().relay_queue_bytes_max / self.peers.len() as u64;
        if self.core.ledger.queued_bytes <= held_max {
            return;
        }
        let mut held: Vec<usize> = self.connections.iter().flatten().map(|connection| connection.held()).collect();
        // An eighth less, so that not every turn looks at all of them.
        let height = height(&mut held, (held_max - held_max / 8) as usize);
        for connection in self.connections.iter_mut().flatten().filter(|connection| connection.held() > height) {
            shorten(connection, height, &mut self.core.ledger);
        }
    }
}

impl Engine {
    /// Closes the sessions with most control messages, read too slowly or sent in too small pieces, if together this shard's
    /// are more than its part of what the relay may keep; and those with most behind gaps in their streams.
    pub(super) fn close_fullest(&mut self, now: Now) {
        let bytes_max = (self.core.limits().relay_control_bytes_max / self.peers.len() as u64) as usize;
        if self.control_bytes >= bytes_max {
            let (limit, code) = ("relay_control_bytes_max", CloseCode::CONTROL_BACKLOG);
            self.close_those_above(bytes_max, |connection| connection.control_counted, (limit, code), now);
        }
        self.room.control_bytes = bytes_max.saturating_sub(self.control_bytes);
        let bytes_max = (self.core.limits().relay_gaps_bytes_max / self.peers.len() as u64) as usize;
        if self.gaps_bytes >= bytes_max {
            let (limit, code) = ("relay_gaps_bytes_max", CloseCode::TRANSPORT_ERROR);
            self.close_those_above(bytes_max, |connection| connection.kept.counted, (limit, code), now);
        }
    }

    fn close_those_above(
        &mut self,
        bytes_max: usize,
        counted: fn(&Connection) -> usize,
        (limit, code): (&'static str, CloseCode),
        now: Now,
    ) {
        let mut all: Vec<usize> = self.connections.iter().flatten().map(|connection| counted(connection)).collect();
        // An eighth less, so that not every turn looks at all of them.
        let height = height(&mut all, bytes_max - bytes_max / 8);
        let is_fuller = |connection: &Connection| counted(connection) > height;
        let links = self.connections.iter().zip(0u32..);
        let fullest: Vec<u32> = links
            .filter(|(connection, _)| connection.as_ref().is_some_and(|connection| is_fuller(connection)))
            .map(|(_, link)| link)
            .collect();
        for link in fullest {
            self.outbox.counts.limit(limit);
            self.close(link, code, now);
        }
    }
}

impl Engine {
    /// Charges a client's identity for what it was sent since it was charged last; also when it ends, so that nobody comes
    /// back for what was not charged yet.
    pub(super) fn charge_egress(&mut self, link: u32, connection: &mut Connection, now: Instant) {
        let bytes = connection.take_sent_bytes();
        let wait = self.core.charge_egress(link, bytes, now, &mut self.outbox);
        connection.throttle(wait, now);
    }

    /// Takes note of the control messages that a connection keeps now.
    pub(super) fn count_control(&mut self, connection: &mut Connection) {
        let control = connection.control_bytes();
        self.control_bytes += control;
        self.control_bytes -= std::mem::replace(&mut connection.control_counted, control);
    }

    /// Takes note of what QUIC may keep of a connection's streams beyond its window.
    pub(super) fn count_gaps(&mut self, connection: &mut Connection) {
        let bytes = connection.kept.beyond_window();
        self.gaps_bytes += bytes;
        self.gaps_bytes -= std::mem::replace(&mut connection.kept.counted, bytes);
    }

    /// Lets QUIC take more of the control messages that wait.
    pub(super) fn widen_if_behind(&self, connection: &mut Connection) {
        if connection.is_behind() {
            connection.widen(self.core.directory().windows(), self.core.limits().relay_windows_bytes_max);
        }
    }
}

/// The height to which the highest are cut so that all together come to `sum_max`.
fn height(held: &mut [usize], sum_max: usize) -> usize {
    held.sort_unstable();
    let mut left = sum_max;
    for (place, bytes) in held.iter().enumerate() {
        let share = left / (held.len() - place);
        if *bytes > share {
            return share;
        }
        left -= bytes;
    }
    usize::MAX
}

/// Gives streams up from those that are worth least on, then those of data, and then datagrams.
fn shorten(connection: &mut Connection, held_max: usize, ledger: &mut Ledger) {
    while connection.held() > held_max {
        let Connection { egress, quic, .. } = connection;
        let data = || egress.iter().position(|(_, egress)| egress.queue.held() > 0);
        let Some(worst) = media::worth_least(egress).or_else(data) else { break };
        egress[worst].1.abandon(quic, StreamCode::LAGGED, DropReason::RelayQueueFull, ledger);
    }
    let streams = connection.held() - connection.datagrams.held();
    connection.datagrams.shorten(held_max.saturating_sub(streams), ledger);
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn the_fullest_are_cut_to_one_height_and_the_others_lose_nothing() {
        assert_eq!(height(&mut [10, 100, 20, 70], 200), usize::MAX);
        assert_eq!(height(&mut [10, 100, 20, 70], 130), 50);
        assert_eq!(height(&mut [10, 100, 20, 70], 170), 70);
        assert_eq!(height(&mut [50; 4], 100), 25);
        assert_eq!(height(&mut [], 0), usize::MAX);
    }
}
