//! End-to-end encryption for Supernode: the only crate that can hold a content key.
//!
//! - [`IdentitySecret`], [`DeviceSecret`], [`JoinSecret`]: signing keys (Ed25519) and what they sign.
//! - [`Device`] and [`Group`]: who is in a call, by MLS (RFC 9420). Every credential is a
//!   [`Delegation`](supernode_proto::identity::Delegation), checked against the identities expected before it counts.
//! - [`MediaSealer`] and [`MediaOpener`]: frames and track labels, by SFrame (RFC 9605), keyed by the group's
//!   [`EpochKeys`].
//! - [`safety_number`]: what two people read to each other to know that nobody sits between them.
//!
//! Nothing here does I/O, and the time is an argument wherever this crate judges it. One judgement is not ours: openmls
//! checks the lifetimes of MLS leaves (RFC 9420 section 7.3) by the system's clock.
//!
//! # Where keys live and when they are wiped
//!
//! | What | Held by | Wiped |
//! |---|---|---|
//! | signing keys | ed25519-dalek | on drop |
//! | join secret, SFrame base key | this crate | on drop |
//! | SFrame keys and salts | sframe (`Secret`) | on drop; the HKDF and AES states made for each frame are not |
//! | MLS secrets in use | openmls (`SecretVLBytes`) | on drop |
//! | MLS secrets in openmls's memory storage | openmls | what is there when a [`Device`] or [`Group`] is dropped, or a group tells us that we were removed, by this crate; entries replaced or deleted before that (used key packages, past epochs) are freed but not wiped |
//!
//! Nothing is ever written to disk by this crate.

mod credential;
mod device;
mod epoch_keys;
mod error;
mod frame;
mod group;
mod label;
mod media;
mod safety;
mod secret;
mod store;

pub use device::{Device, KEY_PACKAGES_KEPT_MAX};
pub use epoch_keys::EpochKeys;
pub use error::Error;
pub use frame::{SEAL_COUNTER_MAX, SEAL_OVERHEAD_BYTES_MAX};
pub use group::{Change, Group, Member, Processed};
pub use label::{TrackId, TrackInfo};
pub use media::{EPOCHS_KEPT, MediaOpener, MediaSealer, REPLAY_WINDOW_FRAMES};
pub use safety::safety_number;
pub use secret::{DeviceSecret, IdentitySecret, JoinSecret};
