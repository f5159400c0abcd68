//! tokio's tasks and timers, and the system's clocks.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use supernode_session::Moment;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
    time::{Interval, MissedTickBehavior},
};

pub(crate) use tokio::time::{sleep, timeout};

/// From which moments are counted in this process.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, for what has no clock of its own.
pub(crate) fn moment() -> Moment {
    Moment::at(BEGINNING.elapsed())
}

/// The time of day: since 1970.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits until a moment.
pub(crate) async fn sleep_until(at: Moment) {
    tokio::time::sleep_until((*BEGINNING + at.since_beginning()).into()).await;
}

/// A task that runs by itself, and goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

impl Task {
    /// It goes no further.
    pub(crate) fn abort(&self) {
        self.0.abort();
    }
}

/// Lets it run by itself.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(task).abort_handle())
}

/// Whether tasks run here: what is dropped may be dropped when the program ends.
pub(crate) fn is_running() -> bool {
    Handle::try_current().is_ok()
}

/// Waits for what goes on even if nobody waits for it any more.
pub(crate) async fn apart<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    done(tokio::spawn(task)).await
}

/// Waits for work that takes as long as a group is large, up to 50 ms: a thread that carries media has no time for that,
/// and it may be the only one that the runtime has.
pub(crate) async fn long<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    done(tokio::task::spawn_blocking(work)).await
}

/// Waits for a task as if it were done here.
async fn done<T>(task: JoinHandle<T>) -> T {
    match task.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and we with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Moments that come again and again, the first at once.
#[derive(Debug)]
pub(crate) struct Ticks(Interval);

impl Ticks {
    /// So far apart. After a standstill of this machine, what came meanwhile is handled before the next one.
    pub(crate) fn every(apart: Duration) -> Self {
        let mut ticks = tokio::time::interval(apart);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        self.0.tick().await;
    }
}
