//! The pure core: who is online, who may ring whom, who is in which room, and what happens to each object.
//!
//! Nothing here touches a socket, a clock or a random source. Time ([`Now`]) and randomness are arguments; what is to
//! be done comes back as values: an [`Outbox`] on the cold path, an [`Offer`](fan_out::Offer) for each subscriber on the
//! hot one. [`ShardCore`] is one shard's part; [`directory::Directory`] is what all shards share, and no packet
//! touches it.

pub mod accounts;
pub mod counts;
pub mod directory;
pub mod fan_out;
pub mod forward;
pub mod group_cache;
pub mod histogram;
pub mod ladder;
pub mod ledger;
pub mod limits;
pub mod pool;
pub mod queue;
pub mod rate;
pub mod rate_estimate;
pub mod speakers;
pub mod stream;

mod admission;
mod control;
mod ids;
mod mailbox;
mod outbox;
mod presence;
mod receiver;
mod rings;
mod rooms;
mod session;
mod shard_core;
mod timers;
mod tracks;

pub use admission::{Admit, Applicant, Grant, Network, Resident, ServiceWord, Voucher};
pub use ids::{MemberId, NodeId, Now, RingId, SessionId, ShardId, StreamKey, TokenDigest};
pub use outbox::{ControlMail, Outbox};
pub use session::{SUBSCRIPTION_BYTES, Session, TRACK_BYTES, WATCH_BYTES};
pub use shard_core::{Greeting, Holdings, NotOpened, ShardCore};
