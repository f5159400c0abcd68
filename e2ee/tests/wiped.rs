//! Nothing secret is left in memory that was freed. openmls's state passes as text through the storage of this crate, and
//! its private keys and secrets stand in it under their names: so whatever of them was freed without being wiped still
//! says these names.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use supernode_e2ee::{Device, DeviceSecret, IdentitySecret, KeyExchange};
use supernode_proto::identity::RoomId;

const NOW: u64 = 1_800_000_000;
/// How openmls names a private key, and its epochs' secrets.
const NAMES: [&[u8]; 3] = [b"\"private_key\"", b"\"exporter_secret\"", b"\"init_secret\""];

/// Blocks that were freed with one of the names in them.
static LEFT: AtomicUsize = AtomicUsize::new(0);

struct Looking;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only looks and passes on")]
// SAFETY: every call goes to the system's allocator unchanged; `realloc` is the trait's own, which allocates, copies and
// frees, so that what grows is looked at, too.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that every byte may be read when it is freed.
        // SAFETY: as our caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: a block of this size that `alloc` gave, every byte of which was written.
        let block = unsafe { std::slice::from_raw_parts(pointer, layout.size()) };
        if says_a_name(block) {
            LEFT.fetch_add(1, Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static LOOKING: Looking = Looking;

fn says_a_name(block: &[u8]) -> bool {
    let quotes = block.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    quotes.into_iter().any(|(at, _)| NAMES.iter().any(|name| block[at..].starts_with(name)))
}

fn device() -> Device {
    let secret = DeviceSecret::generate();
    let delegation = IdentitySecret::generate().delegate(&secret.public(), NOW + 60);
    Device::new(secret, delegation).expect("its own delegation")
}

#[test]
fn nothing_of_a_call_s_secrets_is_left_in_freed_memory() {
    drop(std::hint::black_box([b"{\"private_key\":", &[7; 9][..]].concat()));
    assert_eq!(LEFT.swap(0, Relaxed), 1, "what is left is seen");

    let (a, b, c) = (device(), device(), device());
    let mut at_a = a.create_room(RoomId([1; 16]), KeyExchange::XWing).expect("a room");
    let packages = [&b, &c].map(|device| (device.identity(), device.key_package().expect("a package")));
    let welcome = at_a.propose_add(&packages, NOW).expect("adds").welcome.expect("for both");
    at_a.merge_own().expect("accepted");
    let mut at_b = b.join_room(&welcome, &a.identity(), NOW).expect("joins");
    let mut at_c = c.join_room(&welcome, &a.identity(), NOW).expect("joins");
    // One is given up, one counts and is gone back from, one counts for good, and one removes.
    at_b.propose_update().expect("made");
    at_b.discard_own().expect("given up");
    for counts in [false, true] {
        let change = at_b.propose_update().expect("made");
        at_b.merge_own().expect("accepted");
        for group in [&mut at_a, &mut at_c] {
            group.process(&change.commit, &|_| false, NOW).expect("follows");
        }
        if !counts {
            for group in [&mut at_a, &mut at_b, &mut at_c] {
                group.go_back().expect("the epoch before");
            }
        }
    }
    let gone = at_a.propose_put_out(&[at_c.own_leaf()]).expect("made");
    at_a.merge_own().expect("accepted");
    at_b.process(&gone.commit, &|_| false, NOW).expect("follows");
    at_c.process(&gone.commit, &|_| false, NOW).expect("hears of it");
    at_a.forget_previous();
    drop((at_a, at_b, at_c, a, b, c));
    assert_eq!(LEFT.load(Relaxed), 0, "blocks with secrets were freed as they were");
}
