//! The times of frames, by this device's clock.

pub(crate) use supernode_calls::FrameTimes;

use crate::{runtime, wire::clock};

/// Unix time in microseconds.
pub(crate) fn unix_us() -> u64 {
    runtime::unix().as_micros() as u64
}

/// Unix time in seconds, as others' certificates are judged by it.
pub(crate) fn unix_s() -> u64 {
    clock::judging_unix_s()
}
