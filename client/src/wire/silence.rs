//! Looks whether the relay is still there.

use std::time::Duration;

use bytes::Bytes;
use quinn::FrameStats;
use supernode_session::{Seen, Silence, Verdict};

use crate::{
    Error,
    wire::{clock, link::Link},
};

/// Waits until the relay has left our questions unanswered for `silence_max`.
pub(crate) async fn watch(link: &Link, silence_max: Duration) -> Error {
    let mut silence = Silence::new(silence_max);
    let mut ticks = tokio::time::interval(Silence::LOOK_EVERY);
    // After a standstill of this machine, what came meanwhile is read before the next look.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = link.connection.stats();
        let seen = Seen { heard: stats.udp_rx.datagrams, asked: asked(&stats.frame_tx) };
        match silence.look(clock::both(), seen) {
            Verdict::Sound => {}
            // An empty datagram says nothing and is acknowledged. quinn has no call for a PING.
            Verdict::Ask => drop(link.connection.send_datagram(Bytes::new())),
            Verdict::Gone => return Error::TimedOut("what we asked the relay"),
        }
    }
}

/// How many frames we have sent that must be acknowledged (RFC 9000 section 13.2.1). An acknowledgement of ours is no
/// question: nobody answers it.
fn asked(sent: &FrameStats) -> u64 {
    [
        sent.ack_frequency,
        sent.crypto,
        sent.data_blocked,
        sent.datagram,
        sent.immediate_ack,
        sent.max_data,
        sent.max_stream_data,
        sent.max_streams_bidi,
        sent.max_streams_uni,
        sent.new_connection_id,
        sent.path_challenge,
        sent.path_response,
        sent.ping,
        sent.reset_stream,
        sent.retire_connection_id,
        sent.stop_sending,
        sent.stream,
        sent.stream_data_blocked,
        sent.streams_blocked_bidi,
        sent.streams_blocked_uni,
    ]
    .iter()
    .sum()
}
