//! The pure core: who is online, who may ring whom, who is in which room, and what happens to each object.
//!
//! Nothing here touches a socket, a clock or a random source. Time ([`Now`]) and randomness are arguments; what is to
//! be done comes back as values: an [`Outbox`] on the cold path, an [`Offer`](fan_out::Offer) for each subscriber on the
//! hot one. [`ShardCore`] is one shard's part; [`directory::Directory`] is what all shards share, and no packet
//! touches it.

pub mod counts;

mod abroad;
mod control;
mod forwarding;
mod grants;
mod homes;
mod ids;
mod outbox;
mod receiver;
mod registry;
mod session;
mod shard_core;
mod timers;

pub(crate) use self::registry::{rings::DOOR_DEVICES_MAX, tracks::node_of};
pub use self::{
    abroad::{BusErrand, Topic},
    forwarding::{fan_out, forward, group_cache, histogram, ledger, queue, speakers, stream},
    grants::{
        accounts,
        admission::{Admit, Applicant, Grant, Network, Resident, ServiceWord, Voucher},
        limits, pool, push_services, rate,
    },
    homes::{Fence, HomeIs, HomeWish, Homes},
    ids::{Address, MemberId, NodeId, Now, RingId, SessionId, ShardId, StreamKey, TokenDigest},
    outbox::{ClientMail, ControlMail, Errand, Outbox, TrackShown},
    receiver::{ladder, rate_estimate},
    registry::{
        asks::{Asked, Joining, Publishing, RoomAsk},
        directory, push,
    },
    session::{SUBSCRIPTION_BYTES, Session, TRACK_BYTES, WATCH_BYTES},
    shard_core::{Greeting, Holdings, NotOpened, ShardCore},
};
