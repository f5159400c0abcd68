//! The end of a relay's work: its clients are told when to move.

use std::time::Duration;

use supernode_proto::{
    control::{GoAway, RelayMessage, relay_message::Body},
    identity::RoomId,
    invite::HostPort,
};

/// Where the clients of a relay go on that ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Onward {
    /// Wherever they know that there is another relay of its key.
    #[default]
    Elsewhere,
    /// To that one, which has the same key.
    To(HostPort),
    /// To the process that serves at this address from now on.
    Successor,
}

/// Members of a room are to move within this time of each other: while they are at two relays they do not hear each
/// other.
const MEETING_MS: u32 = 100;

/// What a client that is in this room, if in any, is told: when to go on, within a window from now on, and where. All members
/// of a room are told the same place.
pub(super) fn away(room: Option<RoomId>, onward: &Onward, window: Duration) -> RelayMessage {
    let window_ms = window.as_millis() as u32;
    let (reconnect_after_ms, reconnect_before_ms) =
        room.map_or((0, window_ms), |room| meeting_time_ms(&room, window_ms));
    let (alternative, successor) = match onward {
        Onward::Elsewhere => (String::new(), false),
        Onward::To(relay) => (relay.to_string(), false),
        Onward::Successor => (String::new(), true),
    };
    let away = GoAway { reconnect_after_ms, reconnect_before_ms, alternative, successor };
    RelayMessage { reply_to: 0, body: Some(Body::GoAway(away)) }
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
    fn who_goes_is_told_where_as_far_as_it_is_known() {
        let told = |onward| {
            let Some(Body::GoAway(away)) = away(None, &onward, Duration::from_secs(5)).body else {
                panic!("something else is said")
            };
            (away.alternative, away.successor, away.reconnect_before_ms)
        };
        let there = "relay-2.example:9".parse().expect("an address");
        assert_eq!(told(Onward::Elsewhere), (String::new(), false, 5_000));
        assert_eq!(told(Onward::To(there)), ("relay-2.example:9".to_owned(), false, 5_000));
        assert_eq!(told(Onward::Successor), (String::new(), true, 5_000));
    }

    //
    #[test]
    fn members_of_a_room_move_together_and_rooms_do_not() {
        let times: Vec<_> = [0x00, 0x80, 0xff].map(|first| meeting_time_ms(&RoomId([first; 16]), 5_000)).to_vec();
        assert_eq!(times, [(0, 100), (2_459, 2_559), (4_899, 4_999)]);
        assert_eq!(meeting_time_ms(&RoomId([0xff; 16]), 60), (0, 60), "a window shorter than that");
    }
}
