//! The same steps by the clock: `cargo bench -p supernode-benches --bench wall_clock`. How long they take depends on
//! the machine and on what else it does; `cargo test` runs each once, to see that it still does.

use std::{cell::RefCell, hint::black_box};

use divan::Bencher;
use supernode_benches::{
    fixtures::{Buckets, Forwarding, HEADERS, Headers, Lookup, Ringing, StreamChunk, TAKES, TicketCheck, Watched},
    load::in_memory::WholeShard,
};

fn main() {
    divan::main();
}

/// More than a core's own caches hold, and what they fetch at once.
const OTHERS_BYTES: usize = 16 * 1024 * 1024;
const LINE_BYTES: usize = 64;

/// Local subscribers and other shards.
const AUDIENCES: [(u32, u16); 6] = [(1, 0), (10, 0), (100, 0), (1, 3), (10, 3), (100, 3)];

#[divan::bench]
fn datagram_headers(bencher: Bencher<'_, '_>) {
    let headers = Headers::set_up();
    bencher.counter(divan::counter::ItemsCount::new(HEADERS)).bench_local(|| headers.decode());
}

#[divan::bench]
fn stream_chunk(bencher: Bencher<'_, '_>) {
    let mut chunk = StreamChunk::set_up();
    bencher.bench_local(|| chunk.parse());
}

#[divan::bench(args = AUDIENCES.map(Audience))]
fn object_offered(bencher: Bencher<'_, '_>, audience: Audience) {
    let mut forwarding = audience.forwarding();
    bencher.bench_local(|| forwarding.offer());
}

#[divan::bench(args = AUDIENCES.map(Audience))]
fn object_queued_and_taken(bencher: Bencher<'_, '_>, audience: Audience) {
    let mut forwarding = audience.forwarding();
    bencher.bench_local(|| forwarding.queue());
}

#[divan::bench(args = [1, 100])]
fn presence_change(bencher: Bencher<'_, '_>, watchers: u32) {
    let mut watched = Watched::set_up(watchers);
    bencher.bench_local(|| {
        watched.change();
        watched.sent()
    });
}

#[divan::bench]
fn presence_lookup(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(Lookup::set_up).bench_local_refs(Lookup::look);
}

#[divan::bench]
fn ticket_check(bencher: Bencher<'_, '_>) {
    let ticket = TicketCheck::set_up();
    bencher.bench_local(|| ticket.check());
}

#[divan::bench]
fn ring_start(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(Ringing::set_up).bench_local_refs(Ringing::start);
}

#[divan::bench]
fn ring_cancel(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(Ringing::started).bench_local_refs(Ringing::cancel);
}

#[divan::bench]
fn token_bucket_full(bencher: Bencher<'_, '_>) {
    let buckets = Buckets::set_up();
    bencher.counter(divan::counter::ItemsCount::new(TAKES)).bench_local(|| buckets.take_saved());
}

#[divan::bench]
fn token_bucket_refilled(bencher: Bencher<'_, '_>) {
    let mut buckets = Buckets::set_up();
    bencher.counter(divan::counter::ItemsCount::new(TAKES)).bench_local(|| buckets.take_refilled());
}

#[derive(Clone, Copy)]
struct Audience((u32, u16));

impl Audience {
    fn forwarding(self) -> Forwarding {
        let Self((local, other_shards)) = self;
        Forwarding::set_up(local, other_shards)
    }
}

impl std::fmt::Display for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self((local, other_shards)) = self;
        match other_shards {
            0 => write!(f, "to_{local}"),
            others => write!(f, "to_{local}_and_{others}_shards"),
        }
    }
}

/// A whole shard without its socket: packets of all clients in, packets to all of them out.
#[divan::bench(args = [Shape::Pairs(10), Shape::Pairs(200), Shape::Room(20)])]
fn shard_turn(bencher: Bencher<'_, '_>, shape: Shape) {
    let whole = RefCell::new(shape.set_up());
    bencher
        .with_inputs(|| whole.borrow_mut().talk())
        .counter(divan::counter::ItemsCount::new(shape.deliveries()))
        .bench_local_values(|()| whole.borrow_mut().turn());
}

/// The same after something else had the processor's caches: as it is where hundreds of others have their turns in between.
#[divan::bench]
fn shard_turn_cold(bencher: Bencher<'_, '_>) {
    let shape = Shape::Pairs(20);
    let whole = RefCell::new(shape.set_up());
    let mut others = vec![0u8; OTHERS_BYTES];
    let prepare = || {
        whole.borrow_mut().talk();
        others.iter_mut().step_by(LINE_BYTES).for_each(|byte| *byte = byte.wrapping_add(1));
        black_box(&others);
    };
    bencher
        .with_inputs(prepare)
        .counter(divan::counter::ItemsCount::new(shape.deliveries()))
        .bench_local_values(|()| whole.borrow_mut().turn());
}

/// The second half of it.
#[divan::bench]
fn packet_build(bencher: Bencher<'_, '_>) {
    let whole = RefCell::new(Shape::Room(20).set_up());
    let prepare = || {
        whole.borrow_mut().talk();
        whole.borrow_mut().read();
    };
    bencher.with_inputs(prepare).bench_local_values(|()| whole.borrow_mut().build());
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Pairs(u32),
    Room(u32),
}

impl Shape {
    fn set_up(self) -> WholeShard {
        match self {
            Self::Pairs(pairs) => WholeShard::of_pairs(pairs),
            Self::Room(members) => WholeShard::of_room(members),
        }
    }

    /// Objects delivered in one turn.
    fn deliveries(self) -> u32 {
        match self {
            Self::Pairs(pairs) => 2 * pairs,
            Self::Room(members) => members * (members - 1),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pairs(pairs) => write!(f, "{pairs} pairs"),
            Self::Room(members) => write!(f, "a room of {members}"),
        }
    }
}
