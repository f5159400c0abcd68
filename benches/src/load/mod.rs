//! Call-shaped load for a Supernode relay, and what it measures.
//!
//! A [`scenario::Scenario`] says what should happen, [`plan::Plan`] who does it, [`run::run`] makes it happen with one
//! thread a worker, and [`report::Report`] says what came of it and whether the generator may be believed.
//!
//! Every object carries the time at which the schedule wanted it sent. Delays count from that time, not from when the
//! generator got round to it, so that a relay (or a generator) that stalls cannot hide the wait.

pub mod in_memory;
pub mod machine;
pub mod part;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenario;
mod scrape;

mod outsiders;
mod persona;
mod tally;
mod watch;
mod wire;
mod worker;

pub use report::{compare, csv, html, knee, remote_write, slo};
use wire::{client, link, page, sockets, streams, transport};
