//! What the relay tells systemd, where it runs under it: ready, reloading, stopping, and alive as long as every shard is.
//!
//! systemd may be busy, or stopped, and its socket full. The control thread does not wait for it: what cannot be said now
//! is said later.

use std::{
    collections::VecDeque,
    env,
    fmt::Write,
    io,
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

/// Feeds the watchdog, if there is one, as long as every shard's loop turns, and says again what was not heard; never
/// returns.
pub async fn keep_telling(counters: Vec<Arc<Counters>>) {
    if env::var_os(SOCKET).is_none() {
        return std::future::pending().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // A loop turns at least once a second: at least one turn must fall between two looks.
    let mut ticks = tokio::time::interval(watchdog.map_or(SAY_AGAIN, |timeout| (timeout / 3).max(MIN_LOOK)));
    let mut seen: Vec<u64> = vec![u64::MAX; counters.len()];
    loop {
        ticks.tick().await;
        if watchdog.is_none() {
            unsaid().say();
            continue;
        }
        let turns: Vec<u64> = counters.iter().map(|shard| shard.snapshot().0.turns).collect();
        match stuck(&seen, &turns) {
            None => notify(&[NotifyState::Watchdog]),
            Some(shard) => tracing::error!(shard, "this shard's loop does not turn: systemd will end the relay"),
        }
        seen = turns;
    }
}

/// How often that is where there is no watchdog.
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// More often would find a shard that merely sleeps.
const MIN_LOOK: Duration = Duration::from_millis(2500);

/// The first shard that has not turned between two looks.
fn stuck(before: &[u64], now: &[u64]) -> Option<usize> {
    before.iter().zip(now).position(|(before, now)| before == now)
}

/// Where systemd listens, as a variable.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Messages that wait for systemd. Default 8: some reloads; the oldest is given up for a newer one.
const UNSAID_MAX: usize = 8;

/// Messages that systemd had no room for, oldest first.
struct Unsaid(VecDeque<String>);

static UNSAID: Mutex<Unsaid> = Mutex::new(Unsaid(VecDeque::new()));

fn unsaid() -> std::sync::MutexGuard<'static, Unsaid> {
    UNSAID.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unsaid {
    /// Says what systemd takes.
    fn say(&mut self) {
        // Without a socket there is nobody to tell.
        let Some(path) = env::var_os(SOCKET) else { return self.0.clear() };
        while let Some(message) = self.0.front() {
            match send(&path, message) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return tracing::warn!(waiting = self.0.len(), "systemd does not read what the relay tells it");
                }
                Err(error) => tracing::warn!(%error, "systemd does not hear us"),
            }
            self.0.pop_front();
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    let mut message = String::new();
    for state in states {
        let _ = writeln!(message, "{state}");
    }
    let mut unsaid = unsaid();
    // That the relay was alive is no news once there is other news.
    unsaid.0.retain(|waiting| *waiting != format!("{}\n", NotifyState::Watchdog));
    if unsaid.0.len() >= UNSAID_MAX {
        unsaid.0.pop_front();
    }
    unsaid.0.push_back(message);
    unsaid.say();
}

/// One datagram, as sd_notify(3) has it; [`io::ErrorKind::WouldBlock`] if as many wait as the kernel keeps.
fn send(path: &std::ffi::OsStr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(message.as_bytes(), path).map(drop)
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
