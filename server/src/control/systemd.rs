//! What the relay tells systemd, where it runs under it: ready, reloading, stopping, and alive as long as every shard is.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;

use crate::shard::counters::Counters;

/// The relay serves. A process that took over is the service's main process from now on.
pub fn ready() {
    notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// The relay reads its configuration again: sd_notify(3) wants the time with it, so that systemd knows which of several
/// reloads ends with [`reloaded`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no clock to tell systemd of a reload by"),
    }
}

/// It has, and this came of it, for `systemctl status`.
pub fn reloaded(outcome: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(outcome)]);
}

/// The relay drains, for at most this long: the unit's `TimeoutStopSec=` may be shorter. With a successor it says nothing:
/// the service goes on.
pub fn stopping(patience: Duration) {
    let most = u32::try_from((patience + AFTER_DRAIN).as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(most)]);
}

/// What the end of the process may take once the drain is over.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// Feeds the watchdog, if there is one, as long as every shard's loop turns; never returns.
pub async fn feed_watchdog(counters: Vec<Arc<Counters>>) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // A loop turns at least once a second: at least one turn must fall between two looks.
    let mut ticks = tokio::time::interval((timeout / 3).max(MIN_LOOK));
    let mut seen: Vec<u64> = vec![u64::MAX; counters.len()];
    loop {
        ticks.tick().await;
        let turns: Vec<u64> = counters.iter().map(|shard| shard.snapshot().0.turns).collect();
        match stuck(&seen, &turns) {
            None => notify(&[NotifyState::Watchdog]),
            Some(shard) => tracing::error!(shard, "this shard's loop does not turn: systemd will end the relay"),
        }
        seen = turns;
    }
}

/// More often would find a shard that merely sleeps.
const MIN_LOOK: Duration = Duration::from_millis(2500);

/// The first shard that has not turned between two looks.
fn stuck(before: &[u64], now: &[u64]) -> Option<usize> {
    before.iter().zip(now).position(|(before, now)| before == now)
}

fn notify(states: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET this does nothing.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd does not hear us");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_made_no_turn_is_stuck() {
        assert_eq!(stuck(&[u64::MAX, u64::MAX], &[0, 9]), None, "the first look");
        assert_eq!(stuck(&[3, 9], &[4, 10]), None);
        assert_eq!(stuck(&[3, 9, 1], &[4, 9, 1]), Some(1));
    }
}
