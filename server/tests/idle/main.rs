//! What a session costs that is online and does nothing. A test of its own, so that it has its process for itself.
//!
//! Where its bytes are: `SUPERNODE_IDLE_ABORT=1 heaptrack target/debug/deps/idle-...` ends while all sessions are there, so
//! that what is reported as leaked is theirs; `SUPERNODE_IDLE_ABORT=pages` while those of pages are. `SUPERNODE_IDLE_SESSIONS=0` gives what to take off.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test binary: a failed unwrap is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use supernode_proto::control::{PresenceState, SetPresence, client_message::Body as Request};
use supernode_testkit::{Client, Person, Relay};

/// Sessions that are counted, after as many that are not. A power of two, so that tables that double are as full after as
/// before.
const SESSIONS: usize = 128;
/// What each may cost: 14.6 kB are counted, and 1 kB is for newer versions of quinn and rustls. rustls's connection alone
/// would be 2.6 kB. aws-lc allocates its keys by itself, so they do not show here: that none are
/// made ahead is tested in `shard/quic/crypto.rs`.
const BYTES_MAX: i64 = 15_600;
/// What one of a page may cost: 16.6 kB are counted. It has HTTP's streams besides, and what has come of its request.
const PAGE_BYTES_MAX: i64 = 3 * BYTES_MAX / 2;

thread_local! {
    /// Whether what this thread allocates is the clients'. Every thread but that of the test is the relay's.
    static CLIENTS: Cell<bool> = const { Cell::new(false) };
}

/// Counts the bytes that the relay has allocated and not freed. Clients live in the same process, so each allocation
/// remembers whose it is.
struct Counting;

static RELAY_BYTES: AtomicI64 = AtomicI64::new(0);

impl Counting {
    /// Where an allocation's owner is written: in front of it, without harm to its alignment.
    fn with_owner(layout: Layout) -> (Layout, usize) {
        let ahead = layout.align().max(16);
        let size = layout.size() + ahead;
        (Layout::from_size_align(size, layout.align()).expect("far below the address space"), ahead)
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator, for a few bytes more, and those in front are never handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (with_owner, ahead) = Self::with_owner(layout);
        // SAFETY: its size is not zero, and its alignment is as our caller promised.
        let base = unsafe { System.alloc(with_owner) };
        if base.is_null() {
            return base;
        }
        let clients = CLIENTS.try_with(Cell::get).unwrap_or(true);
        if !clients {
            RELAY_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: `base` is the beginning of more than `ahead` bytes.
        unsafe {
            base.write(clients.into());
            base.add(ahead)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (with_owner, ahead) = Self::with_owner(layout);
        // SAFETY: it was given out by `alloc` above, with `ahead` bytes in front.
        unsafe {
            let base = pointer.sub(ahead);
            if base.read() == 0 {
                RELAY_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
            }
            System.dealloc(base, with_owner);
        }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What the relay holds once nothing changes any more.
async fn settled() -> i64 {
    let mut before = RELAY_BYTES.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let now = RELAY_BYTES.load(Ordering::Relaxed);
        if now == before {
            return now;
        }
        before = now;
    }
}

async fn online(relay: &Relay, is_page: bool) -> Client {
    let person = Person::new();
    let mut client = if is_page { relay.connect_page(&person).await } else { relay.connect(&person).await };
    let online = SetPresence { state: PresenceState::Online.into(), status: bytes::Bytes::new() };
    client.done(Request::SetPresence(online)).await;
    client
}

/// What one costs.
async fn bytes_each(is_page: bool) -> i64 {
    let sessions = std::env::var("SUPERNODE_IDLE_SESSIONS").map_or(SESSIONS, |sessions| sessions.parse().unwrap());
    let relay = Relay::start(1);
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(online(&relay, is_page).await);
    }
    let before = settled().await;
    for _ in 0..sessions {
        clients.push(online(&relay, is_page).await);
    }
    let after = settled().await;
    let each = (after - before) / sessions.max(1) as i64;
    eprintln!("{before} bytes before and {after} after {sessions} sessions: {each} bytes each, pages: {is_page}");
    if std::env::var("SUPERNODE_IDLE_ABORT").is_ok_and(|whose| is_page == (whose == "pages")) {
        std::process::abort();
    }
    each
}

#[tokio::test]
async fn a_session_that_does_nothing_is_cheap_and_a_page_s_is_little_more() {
    CLIENTS.set(true);
    let native = bytes_each(false).await;
    assert!(native <= BYTES_MAX, "{native} bytes each");
    let of_pages = bytes_each(true).await;
    assert!(of_pages <= PAGE_BYTES_MAX, "{of_pages} bytes each, where {native} are a native client's");
}
