//! Tells a relay that is gone from one that has nothing to say: a relay answers what we send.

use std::time::Duration;

use supernode_proto::close::CloseCode;

use crate::{Error, link::Link};

/// How often we look.
const TICK: Duration = Duration::from_millis(250);

/// Waits until the relay has not answered for `silence_max` though we sent, and ends the connection. QUIC's own idle
/// timeout is longer than anybody in a call waits.
pub(crate) async fn watch(link: &Link, silence_max: Duration) -> Error {
    let mut silence = Silence::default();
    let mut ticks = tokio::time::interval(TICK);
    // After a standstill of this machine, what came meanwhile is read before the next look.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = link.connection.stats();
        let ticks = silence.look(stats.udp_rx.datagrams, stats.udp_tx.datagrams);
        if TICK * ticks >= silence_max {
            link.close(CloseCode::BYE);
            return Error::TimedOut("what we sent to the relay");
        }
    }
}

/// What was counted when something last arrived, and how often we have looked in vain since.
#[derive(Debug, Default)]
struct Silence {
    received: u64,
    sent: u64,
    ticks: u32,
}

impl Silence {
    /// How many looks in a row found that we had sent and nothing had come.
    fn look(&mut self, received: u64, sent: u64) -> u32 {
        if received != self.received {
            *self = Self { received, sent, ticks: 0 };
        } else if sent > self.sent {
            self.ticks += 1;
        }
        self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_after_we_spoke_counts() {
        let mut silence = Silence::default();
        assert_eq!(silence.look(5, 5), 0);
        assert_eq!([silence.look(5, 5), silence.look(5, 5)], [0, 0], "nobody asked");
        assert_eq!([silence.look(5, 6), silence.look(5, 6)], [1, 2]);
        assert_eq!(silence.look(6, 6), 0, "an answer");
        assert_eq!(silence.look(6, 7), 1);
    }
}
