//! Where an attack's clients run: all on the one thread that it has.

use std::future::Future;

use anyhow::Context;

/// Runs it to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?.block_on(future)
}
