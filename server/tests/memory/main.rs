//! Memory after many calls is what it was before. A test of its own, so that it has its process for itself.
//!
//! Ten thousand cycles: `SUPERNODE_MEMORY_CYCLES=10000 cargo test -p supernode-server --test memory`.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test binary: a failed unwrap is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use supernode_proto::control::{PresenceState, SetPresence, TrackKind, Watch, client_message::Body as Request};
use supernode_testkit::{Person, Relay, Room, datagram};

/// Connect, watch, join, publish, subscribe, talk, leave: one after the other.
async fn cycle(relay: &Relay) {
    let (alice, bob) = (Person::new(), Person::new());
    let mut caller = relay.connect(&alice).await;
    let mut callee = relay.connect(&bob).await;
    let online = SetPresence { state: PresenceState::Online.into(), status: bytes::Bytes::new() };
    callee.done(Request::SetPresence(online)).await;
    caller.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
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

/// Everybody has left, and QUIC has forgotten them too, on both sides: it remembers closed connections for a while.
/// Returns the bytes that are still allocated.
async fn settled(relay: &Relay) -> i64 {
    relay.assert_empty().await;
    relay.assert_left().await;
    let mut live = LIVE_BYTES.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = LIVE_BYTES.load(Ordering::Relaxed);
        if now == live {
            return live;
        }
        live = now;
    }
}

/// Counts the bytes that are allocated and not freed: exact, where resident memory depends on the allocator's moods. The
/// relay and its clients share the process, and both must give back what they took.
struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[tokio::test]
async fn calls_come_and_go_without_leaving_anything_behind() {
    let cycles: usize = std::env::var("SUPERNODE_MEMORY_CYCLES").map_or(400, |cycles| cycles.parse().unwrap());
    let relay = Relay::start(2);
    // Tables and buffers grow to what they need once.
    for _ in 0..100 {
        cycle(&relay).await;
    }
    let before = settled(&relay).await;
    for _ in 0..cycles {
        cycle(&relay).await;
    }
    let after = settled(&relay).await;
    eprintln!("{before} bytes before and {after} after {cycles} cycles");
    // What a busier moment left as capacity, however many cycles there were: a leak of one kilobyte a cycle would show.
    assert!(after - before < 256 * 1024, "{} bytes more after {cycles} cycles", after - before);
}
