//! What the SDK runs on: tasks, timers and clocks. Natively these are tokio's and the system's; in a page's worker they are the
//! browser's. What is above knows neither.

#[cfg_attr(target_family = "wasm", path = "page.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "native.rs")]
mod here;

pub(crate) use here::{Task, Ticks, apart, is_running, long, moment, sleep, sleep_until, spawn, timeout, unix};
