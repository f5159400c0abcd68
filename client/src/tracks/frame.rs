//! The times of frames, by this device's clock.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use supernode_calls::FrameTimes;

use crate::wire::clock;

/// Unix time in microseconds.
pub(crate) fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as u64)
}

/// Unix time in seconds, as others' certificates are judged by it.
pub(crate) fn unix_s() -> u64 {
    clock::judging_unix_s()
}
