//! The end of a relay's work: its clients are told when to move.

use std::time::Duration;

use supernode_proto::{
    control::{GoAway, RelayMessage, relay_message::Body},
    identity::RoomId,
};

use super::Engine;

/// Members of a room are to move within this time of each other: while they are at two relays they do not hear each
/// other.
const MEETING_MS: u32 = 100;

impl Engine {
    /// Tells every client when to come back elsewhere; nobody new is let in.
    pub(crate) fn start_drain(&mut self, window: Duration) {
        self.draining = true;
        let window_ms = window.as_millis() as u32;
        for link in 0..self.connections.len() as u32 {
            let connection = self.connections[link as usize].as_mut();
            if let Some(connection) = connection.filter(|connection| connection.session().is_some()) {
                let (reconnect_after_ms, reconnect_before_ms) = match self.core.room_of(link) {
                    Some(room) => meeting_time_ms(&room, window_ms),
                    None => (0, window_ms),
                };
                let away = GoAway { reconnect_after_ms, reconnect_before_ms, alternative: String::new() };
                let message = RelayMessage { reply_to: 0, body: Some(Body::GoAway(away)) };
                // Those that do not read are closed with the others when the drain ends.
                let _ = connection.send_control(&message, usize::MAX);
                self.touch(link);
            }
        }
    }
}

/// When the members of a room are to reconnect: the same for all of them, on any shard, and another for other rooms, so
/// that not all come back at once.
fn meeting_time_ms(room: &RoomId, window_ms: u32) -> (u32, u32) {
    let [a, b, c, d, ..] = room.0;
    let latest_ms = window_ms.saturating_sub(MEETING_MS);
    let after_ms = ((u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(latest_ms)) >> 32) as u32;
    (after_ms, after_ms + MEETING_MS.min(window_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn members_of_a_room_move_together_and_rooms_do_not() {
        let times: Vec<_> = [0x00, 0x80, 0xff].map(|first| meeting_time_ms(&RoomId([first; 16]), 5_000)).to_vec();
        assert_eq!(times, [(0, 100), (2_459, 2_559), (4_899, 4_999)]);
        assert_eq!(meeting_time_ms(&RoomId([0xff; 16]), 60), (0, 60), "a window shorter than that");
    }
}
