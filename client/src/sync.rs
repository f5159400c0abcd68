//! Locks that outlive a panic elsewhere, and work that takes long.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

/// No invariant here spans a panic, so a poisoned lock is as good as a sound one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for work that takes as long as a group is large, up to 50 ms: a thread that carries media has no time for that,
/// and it may be the only one that the runtime has.
pub(crate) async fn long<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    done(tokio::task::spawn_blocking(work)).await
}

/// Waits for a task as if it were done here.
pub(crate) async fn done<T>(task: JoinHandle<T>) -> T {
    match task.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and we with it.
        Err(Err(_)) => std::future::pending().await,
    }
}
