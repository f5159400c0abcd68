//! Steady state forwards without allocating: counted by the allocator itself.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use supernode_proto::{
    control::{PublishTrack, Subscribe, TrackKind, client_message::Body as Request},
    identity::RoomId,
};
use supernode_server::core::{fan_out::Offer, ledger::Ledger, queue::DatagramQueue};

use crate::world::{Person, World, datagram};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LIVE_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size() as i64));
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.with(|bytes| bytes.set(bytes.get() - layout.size() as i64));
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that this thread has allocated and not freed.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.with(Cell::get)
}

pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))), 1);
}

#[test]
fn forwarding_an_object_to_a_hundred_subscribers_allocates_nothing() {
    let mut world = World::new(2, 1);
    let room = RoomId([1; 16]);
    let speaker = Person::new(1);
    let at = world.connect(&speaker, 0);
    world.join(at, &speaker, room);
    let wanted = PublishTrack {
        room: vec![1; 16].into(),
        kind: TrackKind::Audio.into(),
        label: bytes::Bytes::new(),
        activity: false,
        mls_epoch: 0,
    };
    world.ask(at, Request::PublishTrack(wanted));
    let alias = world.published();
    for seed in 2..102 {
        let listener = Person::new(seed);
        let at = world.connect(&listener, usize::from(seed % 2));
        world.join(at, &listener, room);
        world.ask(at, Request::Subscribe(Subscribe { alias: alias.value(), ..Subscribe::default() }));
    }
    world.settle();

    let wire = datagram(alias);
    let instant = world.now.instant;
    let (mut local, mut remote, mut delivered) = (0u64, 0u64, 0u64);
    // A queue in steady state has the room it needs.
    let mut queue = DatagramQueue::default();
    let mut warm = Ledger::default();
    let expires = instant + Duration::from_secs(1);
    let offer = Offer { link: 0, next: None, alias, kind: TrackKind::Audio, arrived: instant, expires };
    for _ in 0..8 {
        queue.push(offer, wire.clone(), 1 << 20, &mut warm);
    }
    queue.clear(&mut warm);
    // And so has the list of what a turn delivered.
    for core in &mut world.cores {
        core.ledger.offered += 1;
        core.ledger.deliver(TrackKind::Audio, instant);
        core.ledger.turn_ended(instant);
    }
    let counted = allocations(|| {
        for _ in 0..10_000 {
            let forwarded = world.cores[0].forward_datagram(
                at.link,
                &wire,
                instant,
                |offer, ledger| {
                    queue.push(offer, wire.clone(), 1 << 20, ledger);
                    if let Some((offer, _)) = queue.take(1200, instant, ledger) {
                        ledger.deliver(offer.kind, offer.arrived);
                    }
                    local += 1;
                },
                |_| {
                    remote += 1;
                    true
                },
            );
            // The grant of objects a second bites at last: a refusal costs no allocation either.
            delivered += u64::from(forwarded.is_ok());
            world.cores[0].ledger.turn_ended(instant);
        }
        world.cores[1].deliver_datagram(&wire, instant, |offer, ledger| ledger.deliver(offer.kind, instant), |_| true);
    });
    assert_eq!(counted, 0);
    assert_eq!((delivered, remote, local), (10_000, 10_000, 500_000), "one copy for the other shard's fifty");
    assert_eq!(world.cores[1].ledger.delivered, 1 + 50);
    assert!(world.cores.iter().all(|core| core.ledger.offered == core.ledger.settled()));
}
