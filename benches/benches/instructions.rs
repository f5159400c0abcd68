//! How many instructions each step of the relay's core takes, by callgrind: the same in every run, on any machine that
//! is doing something else at the time. `cargo xtask bench` runs these and compares.

#![allow(missing_docs, unused_qualifications, reason = "what the harness's macros make")]

use std::hint::black_box;

use gungraun::prelude::*;
use supernode_benches::{
    fixtures::{Buckets, Forwarding, Headers, Lookup, Ringing, StreamChunk, TicketCheck, Watched},
    load::in_memory::WholeShard,
};
use supernode_proto::{identity::IdentityError, object::DecodeError};

/// A fixture that is set up and never taken down, so that neither its move nor its end is counted.
fn kept<T>(fixture: T) -> &'static mut T {
    fill_holes();
    Box::leak(Box::new(fixture))
}

/// What the set-up freed would be given out again, each piece at its own cost, so that a change to the set-up alone
/// would show in the count of what allocates. After this, memory comes from the untouched end of the heap.
fn fill_holes() {
    for bytes in (16..=2048).rev().step_by(16) {
        for _ in 0..512 {
            Vec::<u8>::with_capacity(bytes).leak();
        }
    }
}

fn forwarding(local: u32, other_shards: u16) -> &'static mut Forwarding {
    kept(Forwarding::set_up(local, other_shards))
}

fn watched(watchers: u32) -> &'static mut Watched {
    kept(Watched::set_up(watchers))
}

fn ticket() -> &'static mut TicketCheck {
    let ticket = kept(TicketCheck::set_up());
    // The first signature that is verified finds out what the processor can do.
    assert!(ticket.check().is_ok());
    ticket
}

#[library_benchmark]
#[bench::of_32(kept(Headers::set_up()))]
fn datagram_headers(headers: &mut Headers) -> Result<usize, DecodeError> {
    black_box(headers.decode())
}

#[library_benchmark]
#[bench::of_1200_bytes(kept(StreamChunk::set_up()))]
fn stream_chunk(chunk: &mut StreamChunk) -> Option<usize> {
    black_box(chunk.parse())
}

#[library_benchmark(setup = forwarding)]
#[bench::to_1(1, 0)]
#[bench::to_10(10, 0)]
#[bench::to_100(100, 0)]
#[bench::to_1_and_3_shards(1, 3)]
#[bench::to_10_and_3_shards(10, 3)]
#[bench::to_100_and_3_shards(100, 3)]
fn object_offered(forwarding: &mut Forwarding) -> u64 {
    black_box(forwarding.offer())
}

#[library_benchmark(setup = forwarding)]
#[bench::to_1(1, 0)]
#[bench::to_10(10, 0)]
#[bench::to_100(100, 0)]
#[bench::to_1_and_3_shards(1, 3)]
#[bench::to_10_and_3_shards(10, 3)]
#[bench::to_100_and_3_shards(100, 3)]
fn object_queued_and_taken(forwarding: &mut Forwarding) -> u64 {
    black_box(forwarding.queue())
}

#[library_benchmark(setup = watched)]
#[bench::to_1(1)]
#[bench::to_100(100)]
fn presence_change(watched: &mut Watched) {
    watched.change();
    black_box(watched);
}

#[library_benchmark]
#[bench::with_its_ticket(kept(Lookup::set_up()))]
fn presence_lookup(lookup: &mut Lookup) {
    lookup.look();
    black_box(lookup);
}

#[library_benchmark]
#[bench::valid(ticket())]
fn ticket_check(ticket: &mut TicketCheck) -> Result<(), IdentityError> {
    black_box(ticket.check())
}

#[library_benchmark]
#[bench::with_its_ticket(kept(Ringing::set_up()))]
fn ring_start(ringing: &mut Ringing) {
    ringing.start();
    black_box(ringing);
}

#[library_benchmark]
#[bench::by_its_caller(kept(Ringing::started()))]
fn ring_cancel(ringing: &mut Ringing) {
    ringing.cancel();
    black_box(ringing);
}

#[library_benchmark]
#[bench::of_100_saved(kept(Buckets::set_up()))]
fn token_bucket_full(buckets: &mut Buckets) -> u32 {
    black_box(buckets.take_saved())
}

#[library_benchmark]
#[bench::of_100_seconds(kept(Buckets::set_up()))]
fn token_bucket_refilled(buckets: &mut Buckets) -> u32 {
    black_box(buckets.take_refilled())
}

/// Ready for a turn.
fn pairs(pairs: u32) -> &'static mut WholeShard {
    kept(WholeShard::of_pairs(pairs))
}

/// Ready for a turn.
fn room(members: u32) -> &'static mut WholeShard {
    kept(WholeShard::of_room(members))
}

/// The same room of pages in browsers.
fn pages(members: u32) -> &'static mut WholeShard {
    kept(WholeShard::of_pages(members))
}

/// Half-way through a turn: every packet read, every object queued.
fn room_read(members: u32) -> &'static mut WholeShard {
    let whole = room(members);
    whole.read();
    whole
}

#[library_benchmark]
#[bench::of_20_in_pairs(pairs(10))]
#[bench::of_a_room_of_20(room(20))]
#[bench::of_20_pages(pages(20))]
fn shard_turn(whole: &mut WholeShard) -> usize {
    black_box(whole.turn())
}

#[library_benchmark]
#[bench::to_a_room_of_20(room_read(20))]
fn packet_build(whole: &mut WholeShard) -> usize {
    black_box(whole.build())
}

library_benchmark_group!(name = shard, benchmarks = [shard_turn, packet_build]);

library_benchmark_group!(
    name = core,
    benchmarks = [
        datagram_headers,
        stream_chunk,
        object_offered,
        object_queued_and_taken,
        presence_change,
        presence_lookup,
        ticket_check,
        ring_start,
        ring_cancel,
        token_bucket_full,
        token_bucket_refilled,
    ]
);

main!(library_benchmark_groups = core, shard);
