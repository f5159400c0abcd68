//! What this process takes of the machine.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// A reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time since the start, user and system, in seconds.
    pub cpu_s: f64,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// As of now.
    pub fn now() -> Self {
        Self { cpu_s: cpu_s(), resident_bytes: resident_bytes() }
    }
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The second field of proc(5)'s statm, in pages.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
