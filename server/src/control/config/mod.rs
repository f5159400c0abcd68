//! Configuration: what an operator can set, where it comes from, and what each key means.
//!
//! [`keys::KEYS`] is the one table of all keys. It checks every layer, fills [`Config`], writes `docs/CONFIG.md` and
//! `deploy/supernode.toml`, and knows the key that a mistyped one was meant to be.

pub mod error;
pub mod key;
pub mod keys;
pub mod layers;
pub mod memory;
pub mod reference;
pub mod values;

mod combination;

pub use error::{ConfigError, Problem, WORDS};
pub use layers::{DEFAULT_FILE, Flag, Loaded, Origin, Sources};
pub use values::{AdmissionChoice, Config, PagesChoice, PlainChoice, TlsChoice};
