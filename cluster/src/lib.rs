//! Which nodes of a cluster live, and at which of them a room has its home.
//!
//! The nodes have no table of their own that must agree. What must be decided once is decided by a *bucket*: a store that keeps
//! the newest value of each key, numbers all writes, and takes a write only if the key's last write has the number that the
//! writer expects (compare-and-set). JetStream's key-value buckets are such a store. It may answer late, twice or never; it may
//! lose everything.
//!
//! - A node **lives** while it renews its record in the bucket, under the number that it was given. It holds its life for [`Terms::hold`] from when it *sent* a
//!   renewal that was taken. Others end a life once they have *seen* no renewal for [`Terms::wait`], which is longer, so it is
//!   held by nobody when it is ended, as long as no clock runs faster than another by more than the difference allows. Only a
//!   life whose end is on record leaves its rooms to others.
//! - A room's **home** is written once into the room's record. The number of that write is the home's [`Fence`]: it goes with
//!   whatever the home says, and whoever has heard a higher one hears no lower one any more. So what a home decided before it
//!   was paused, and sends afterwards, is refused.
//! - Who loses the bucket's content begins a new **epoch**. All keys but one carry it, so what is still on its way for an older
//!   one reads and writes nothing of it; and nobody takes a home before all lives of the older one are over.
//!
//! [`Node`] is one node's part of that, without I/O: requests to the bucket come out, answers and what was written by others
//! go in, and the time is an argument.

mod bucket;
mod epoch;
mod lives;
mod node;
mod own_life;
mod rooms;

#[cfg(test)]
mod tests;

pub use self::{
    bucket::{Act, Answer, Entry, Key, Life, Moment, NodeNumber, Request, RoomKey, Value, Whereabouts},
    node::{Node, Own, Terms},
    rooms::{Fence, Home},
};
