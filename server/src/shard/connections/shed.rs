//! What clients make the relay keep and send, counted as they are served: above a bound that all share, the fullest queues
//! are cut to one height, and the sessions with most control messages end.

use supernode_proto::close::StreamCode;

use super::{Connections, connection::Connection};
use crate::{
    core::ledger::{DropReason, Ledger},
    shard::streams,
};

impl Connections {
    /// Shortens the fullest queues if together they keep more than this.
    pub(crate) fn shed_above(&mut self, held_max: u64, ledger: &mut Ledger) {
        if ledger.queued_bytes <= held_max || crate::planted::planted!(QueuesWithoutBound) {
            return;
        }
        let mut held: Vec<usize> = self.iter().map(|(_, connection)| connection.held()).collect();
        // An eighth less, so that not every turn looks at all of them.
        let height = height(&mut held, (held_max - held_max / 8) as usize);
        for connection in self.by_link.iter_mut().flatten().filter(|connection| connection.held() > height) {
            shorten(connection, height, ledger);
        }
    }

    /// Those with most control messages, read too slowly or sent in too small pieces, if together these are more than this
    ///
    pub(crate) fn fullest_above(&self, bytes_max: usize) -> Vec<u32> {
        self.those_above(bytes_max, self.control_bytes, |connection| connection.control_counted)
    }

    /// Those of whose streams QUIC may keep most because of gaps, if together that is more than this.
    pub(crate) fn most_gaps_above(&self, bytes_max: usize) -> Vec<u32> {
        self.those_above(bytes_max, self.gaps_bytes, |connection| connection.kept.counted)
    }

    fn those_above(&self, bytes_max: usize, bytes: usize, counted: fn(&Connection) -> usize) -> Vec<u32> {
        if bytes < bytes_max {
            return Vec::new();
        }
        let mut all: Vec<usize> = self.iter().map(|(_, connection)| counted(connection)).collect();
        // An eighth less, so that not every turn looks at all of them.
        let height = height(&mut all, bytes_max - bytes_max / 8);
        let fullest = self.iter().filter(|(_, connection)| counted(connection) > height);
        fullest.map(|(link, _)| link).collect()
    }

    /// How many more bytes of control messages they may keep.
    pub(crate) fn control_room(&self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.control_bytes)
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
        let Some(worst) = streams::worth_least(egress).or_else(data) else { break };
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
