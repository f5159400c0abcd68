//! What clients that are not let in may make the relay keep. A test of its own, so that it has its process for itself.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test binary: a failed unwrap is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use supernode_server::core::limits::Limits;
use supernode_testkit::{HalfOpen, Relay};

/// What a handshake in progress may cost: 23.0 kB are counted, and 2 kB are for newer versions of quinn and rustls.
const HANDSHAKE_BYTES_MAX: i64 = 25_000;
/// Clients that are counted.
const CLIENTS: usize = 256;

thread_local! {
    /// Whether this is one of the relay's shards; they allocate what a client makes them keep.
    static IS_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Counts the bytes that the relay's shards have allocated and not freed.
struct Counting;

static SHARD_BYTES: AtomicI64 = AtomicI64::new(0);

fn is_shard() -> bool {
    IS_SHARD.try_with(|is_shard| match is_shard.get() {
        Some(known) => known,
        None => {
            // Asking for the name may allocate: that is nobody's.
            is_shard.set(Some(false));
            let known = std::thread::current().name().is_some_and(|name| name.starts_with("shard-"));
            is_shard.set(Some(known));
            known
        }
    }) == Ok(true)
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_shard() {
            SHARD_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_shard() {
            SHARD_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

async fn kept() -> i64 {
    tokio::time::sleep(Duration::from_millis(500)).await;
    SHARD_BYTES.load(Ordering::Relaxed)
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_let_in_makes_the_relay_keep_little_and_so_do_all_of_them() {
    let limits = Limits { handshakes_max: CLIENTS, handshakes_before_retry: 0, ..Limits::default() };
    let relay = Relay::with_limits(1, Limits { hello_timeout: Duration::from_secs(60), ..limits });
    let address = relay.address;
    // One first, for what is kept once.
    let mut before = 0;
    for (clients, again) in [(1, false), (CLIENTS, false), (CLIENTS, true)] {
        let flooder = tokio::task::spawn_blocking(move || {
            let mut flooder = HalfOpen::at([127, 0, 0, 9].into(), address);
            for _ in 0..clients {
                flooder.begin();
                for _ in 0..100 {
                    if flooder.answer_retries() > 0 {
                        break;
                    }
                }
            }
        });
        flooder.await.unwrap();
        let after = kept().await;
        if clients == 1 {
            before = after;
            continue;
        }
        let each = (after - before) / (CLIENTS as i64 - 1);
        eprintln!("{before} bytes before and {after} after {CLIENTS} handshakes: {each} bytes each");
        assert!(each > 4_000, "they are there");
        assert!(each <= HANDSHAKE_BYTES_MAX, "{each} bytes each, once more: {again}");
    }
}
