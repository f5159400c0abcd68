use supernode_proto::control::{PresenceState, SetPresence, TrackKind, Watch, client_message::Body as Request};

use crate::harness::{Person, Relay, Room, datagram};

/// Connect, watch, join, publish, subscribe, talk, leave: one after the other.
async fn cycle(relay: &Relay) {
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    let online = SetPresence { state: PresenceState::Online.into(), status: bytes::Bytes::new() };
    callee.done(Request::SetPresence(online)).await;
    caller.done(Request::Watch(Watch { ticket: bob.open_ticket() })).await;
    let room = Room::new();
    caller.join(&room).await;
    callee.join(&room).await;
    let track = caller.publish(&room, TrackKind::Audio).await;
    callee.subscribe(track).await;
    caller.demand(1).await;
    caller.connection.send_datagram(datagram(track, 1, &[0; 120])).unwrap();
    callee.object().await;
    caller.close();
    callee.close();
}

/// Resident memory of this process in KiB. The relay and its clients share it: both must give back what they took.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn calls_come_and_go_without_leaving_anything_behind() {
    let cycles: usize = std::env::var("SUPERNODE_MEMORY_CYCLES").map_or(600, |cycles| cycles.parse().unwrap());
    let relay = Relay::start(2);
    for _ in 0..cycles / 3 {
        cycle(&relay).await;
    }
    relay.assert_empty().await;
    let warm = resident_kib();
    for _ in 0..cycles {
        cycle(&relay).await;
    }
    relay.assert_empty().await;
    let after = resident_kib();
    let grown = after.saturating_sub(warm);
    // A leak of a single kilobyte a cycle would show: allocators keep some, connections linger for three round trips.
    assert!(grown < 8 * 1024 + cycles as u64 / 2, "{grown} KiB more after {cycles} cycles ({warm} -> {after})");
}
