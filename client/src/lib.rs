//! The client of Supernode: find people, ring them, and talk through a relay that cannot listen.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use supernode_client::{
//!     Client, Config, OutgoingFrame, PublishOptions, RingOutcome, TrackId, TrackInfo, TrackKind,
//!     e2ee::{Device, Pass},
//!     proto::invite::Invite,
//! };
//!
//! # async fn talk(invite: Invite, device: Arc<Device>, pass: Pass) -> Result<(), supernode_client::Error> {
//! let (client, _events) = Client::connect(&invite, device, Config::default()).await?;
//! client.watch(&pass).await?.online().await?;
//! let mut ring = client.ring(&pass).await?;
//! let RingOutcome::Answered(call) = ring.outcome().await? else { return Ok(()) };
//! println!("read this to each other: {}", call.safety_number()?);
//! let id = TrackId(rand::random());
//! let info = TrackInfo { id, name: "microphone".into(), codec: "opus".into(), parameters: vec![] };
//! let mut microphone = call.publish(TrackKind::Audio, info, PublishOptions::default()).await?;
//! microphone.wanted().await?;
//! microphone.send(&OutgoingFrame::independent(b"an Opus packet", 0)).await?;
//! microphone.finish().await?;
//! call.leave().await
//! # }
//! ```
//!
//! - [`Client`]: a session with a relay. It comes back by itself, with everything on it, when the connection breaks.
//! - [`Watch`]: whether somebody is online. [`OutgoingRing`], [`IncomingRing`]: how a call begins.
//! - [`Call`]: members, [`Publisher`]s, [`Subscription`]s, figures, and the safety number.
//! - [`Client::create_room`], [`Client::join_room`], [`Call::invite`]: rooms that people come to and go from. Whoever is
//!   in one lets others in, and has the events to hear them knock.
//! - [`Playback`]: a track in order and in time, [`JitterBuffer`] what is behind it.
//! - [`media`]: files to play and record, packet for packet.
//!
//! Enums that may grow are `#[non_exhaustive]`. All others are closed on purpose: who matches on them is to have an answer to
//! each case, and another one would be a new version. No type of what carries the connections is in sight here.

mod call;
mod client;
mod config;
mod error;
mod events;
#[cfg(feature = "lying")]
mod lying;
mod presence;
mod rights;
mod ring;
mod room;
mod runtime;
mod stats;
mod sync;
mod tracks;
mod wire;
pub mod words;

pub use call::Call;
pub use client::Client;
pub use config::Config;
pub use error::{CallEnd, ConnectionFailure, Error};
pub use events::{CallEvent, Event, Events, Warning};
#[cfg(feature = "lying")]
pub use lying::Liar;
pub use presence::Watch;
pub use rights::door::{InvitationOutcome, RoomOptions};
pub use ring::{IncomingRing, OutgoingRing, RingOutcome};
#[cfg(feature = "measured")]
pub use room::measured::{Measured, MeasuredGroup};
pub use room::{Member, RosterEntry};
pub use stats::{CallStats, Direction, TrackStats, Transport};
pub use supernode_calls::rights::{Purpose, RoomLink, RoomLinkError, TicketLink, TicketLinkError};
pub use supernode_calls::{DelayBounds, Frame, FrameTimes, Histogram, JitterBuffer, OutgoingFrame, Played, Playout};
pub use supernode_e2ee::{self as e2ee, TrackId, TrackInfo};
pub use supernode_proto::{
    self as proto,
    control::{PresenceState, RingResult, Rung, TrackKind},
};
pub use supernode_session::{ClockSkew, Demand, Presence, Refusal};
pub use tracks::playback::Playback;
pub use tracks::publish::{FRAME_BYTES_MAX, PublishOptions, Publisher};
pub use tracks::subscribe::{SubscribeOptions, Subscription};
pub use tracks::track::RemoteTrack;
pub use wire::bearer::Network;
pub use wire::clock::clock_set;
pub use wire::unreachable::Unreachable;

/// What only programs on a system of their own have: sockets and files.
#[cfg(not(target_family = "wasm"))]
mod native {
    pub use crate::wire::bearer::Ways;
    pub use supernode_media_files as media;
    pub use supernode_tcp::{BadProxy, Proxy, ProxyChoice};
}

#[cfg(not(target_family = "wasm"))]
pub use native::*;
