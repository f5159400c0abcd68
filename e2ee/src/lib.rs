//! End-to-end encryption for Supernode: the only crate that can hold a content key.
//!
//! - [`IdentitySecret`], [`DeviceSecret`], [`JoinSecret`], [`TicketSecret`], [`Pass`]: keys that sign (Ed25519), from
//!   `supernode-keys`.
//! - [`LinkSecret`]: what lets its holder come into a room.
//! - [`Device`] and [`Group`]: who is in a call, by MLS (RFC 9420). Every credential is a
//!   [`Delegation`](supernode_proto::identity::Delegation), checked against the identities expected before it counts.
//! - [`MediaSealer`] and [`MediaOpener`]: frames and track labels, by SFrame (RFC 9605), keyed by the group's
//!   [`EpochKeys`].
//! - [`safety_number`]: what two people read to each other to know that nobody sits between them.
//!
//! Nothing here does I/O, and the time is an argument wherever this crate judges it. One judgement is not ours: openmls
//! checks the lifetimes of MLS leaves (RFC 9420 section 7.3) by the system's clock.
//!
//! # A call between two
//!
//! ```
//! use supernode_e2ee::{Device, DeviceSecret, Error, IdentitySecret, MediaOpener, MediaSealer, TrackId};
//! use supernode_proto::identity::RoomId;
//! use supernode_proto::object::{Flags, Layer, Visible};
//!
//! # fn main() -> Result<(), Error> {
//! # let now = 1_800_000_000;
//! // Each of them has an identity, and a device that it certifies.
//! let device = |identity: &IdentitySecret| {
//!     let secret = DeviceSecret::generate();
//!     let delegation = identity.delegate(&secret.public(), now + 3600);
//!     Device::new(secret, delegation)
//! };
//! let (alice, bob) = (IdentitySecret::generate(), IdentitySecret::generate());
//! let (caller, callee) = (device(&alice)?, device(&bob)?);
//!
//! // Bob's device left key packages at the relay. Alice takes one, and the Welcome travels in her ring.
//! let package = callee.key_package()?;
//! let packages = [(bob.public(), package)];
//! let mut at_alice = caller.create_group(RoomId([1; 16]), caller.agree(&packages)?)?;
//! let change = at_alice.propose_add(&packages, now)?;
//! at_alice.merge_own()?; // nobody else is in the group who could object
//! let welcome = change.welcome.expect("somebody was added");
//!
//! // Bob answers: the room, what lets him in, and the keys are all in the group.
//! let at_bob = callee.join(&welcome, &alice.public(), &[], now)?;
//! assert_eq!(at_alice.safety_number()?, at_bob.safety_number()?);
//!
//! let sealer = MediaSealer::new(&at_alice.epoch_keys()?)?;
//! let opener = MediaOpener::new(&at_bob.epoch_keys()?)?;
//! let track = TrackId([2; 8]);
//! let visible = Visible { group: 0, object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
//! let (mut sealed, mut opened) = (Vec::new(), Vec::new());
//! sealer.seal(&track, &visible, b"hello", &mut sealed)?;
//! opener.open(&caller.key(), &track, &visible, &sealed, &mut opened)?;
//! assert_eq!(opened, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Where keys live and when they are wiped
//!
//! | What | Held by | Wiped |
//! |---|---|---|
//! | signing keys, the join secret too | `supernode-keys`, in ed25519-dalek | on drop |
//! | SFrame base key | this crate | on drop |
//! | X-Wing keys in use | x-wing and ml-kem, with their feature `zeroize` | on drop |
//! | SFrame keys and salts | sframe (`Secret`) | on drop, which a frame that is just being sealed or opened puts off until it is; the HKDF and AES states made for each frame are not |
//! | MLS secrets in use | openmls (`SecretVLBytes`) | on drop |
//! | openmls's state: private keys, epochs' secrets | this crate, as text | each value when it is replaced or deleted, and all when a [`Device`] or [`Group`] is dropped or a group tells us that we were removed; a copy of the epoch before lives until [`Group::forget_previous`] or the next epoch |
//!
//! What openmls and serde hold for a moment while such a value is read is theirs, and not wiped where it is no
//! `SecretVLBytes`. Nothing is ever written to disk by this crate.

mod device;
mod error;
mod exchange;
mod group;
mod link;
mod media;
mod store;

pub use device::{Device, KEY_PACKAGES_KEPT_MAX, WELCOME_BYTES_MAX};
pub use error::Error;
pub use exchange::{KeyExchange, Keys, X_WING_MEMBERS_MAX};
pub use group::{
    Group, MESSAGE_BYTES_MAX,
    change::{Change, Member, Processed},
    hosts::HOSTS_MAX,
    safety::{person_number, safety_number},
    snapshot::Snapshot,
};
pub use link::{Answer, Knock, LINK_PROOF_BYTES, LinkSecret};
pub use media::{
    EPOCHS_KEPT, MediaOpener, MediaSealer, REPLAY_WINDOW_FRAMES, SealedLabel,
    epoch_keys::EpochKeys,
    frame::{SEAL_COUNTER_MAX, SEAL_OVERHEAD_BYTES_MAX},
    label::{TrackId, TrackInfo},
};
pub use supernode_keys::{
    DeviceSecret, IdentitySecret, JoinSecret, Pass, RoomSecret, Terms, TicketSecret, TooManyDevices,
};
