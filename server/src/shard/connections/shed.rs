//! What clients make the relay keep and send, counted as they are served: above a bound that all share, the fullest queues
//! are cut to one height, and the sessions with most control messages end.

use std::time::Instant;

use supernode_proto::close::{CloseCode, StreamCode};

use super::connection::Connection;
use crate::{
    core::{
        Now,
        ledger::{DropReason, Ledger},
    },
    shard::{engine::Engine, streams::media},
};

impl Engine {
    /// Shortens the fullest queues of this shard if together they keep more than its part of what the relay may.
    pub(crate) fn shed_if_full(&mut self) {
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
    /// are more than its part of what the relay may keep.
    pub(crate) fn close_fullest(&mut self, now: Now) {
        let bytes_max = (self.core.limits().relay_control_bytes_max / self.peers.len() as u64) as usize;
        if self.control_bytes >= bytes_max {
            self.close_those_above(bytes_max - bytes_max / 8, now);
        }
        self.room.control_bytes = bytes_max.saturating_sub(self.control_bytes);
    }

    fn close_those_above(&mut self, bytes_max: usize, now: Now) {
        let connections = || self.connections.iter().flatten().map(|connection| connection.control_counted);
        let height = height(&mut connections().collect::<Vec<_>>(), bytes_max);
        let is_fuller = |connection: &Connection| connection.control_counted > height;
        let links = self.connections.iter().zip(0u32..);
        let fullest: Vec<u32> = links
            .filter(|(connection, _)| connection.as_ref().is_some_and(|connection| is_fuller(connection)))
            .map(|(_, link)| link)
            .collect();
        for link in fullest {
            self.outbox.counts.limit("relay_control_bytes_max");
            self.close(link, CloseCode::CONTROL_BACKLOG, now);
        }
    }
}

impl Engine {
    /// Charges a client's identity for what it was sent since it was charged last; also when it ends, so that nobody comes
    /// back for what was not charged yet.
    pub(crate) fn charge_egress(&mut self, link: u32, connection: &mut Connection, now: Instant) {
        let bytes = connection.take_sent_bytes();
        let wait = self.core.charge_egress(link, bytes, now, &mut self.outbox);
        connection.throttle(wait, now);
    }

    /// Takes note of the control messages that a connection keeps now.
    pub(crate) fn count_control(&mut self, connection: &mut Connection) {
        let control = connection.control_bytes();
        self.control_bytes += control;
        self.control_bytes -= std::mem::replace(&mut connection.control_counted, control);
    }

    /// Lets QUIC take more of the control messages that wait.
    pub(crate) fn widen_if_behind(&self, connection: &mut Connection) {
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
