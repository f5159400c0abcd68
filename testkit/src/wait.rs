//! Waiting for what must come.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(in_time(is_so).await, "in vain: {what}");
}

/// Waits until something is so; whether it was in time.
pub async fn in_time(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
