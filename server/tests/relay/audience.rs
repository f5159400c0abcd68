//! A large audience, each of whom is sent each object once. What paths do to what is sent over them is in `world/tests/stage`.

use std::time::Duration;

use rstest::rstest;
use supernode_server::core::ledger::{DropReason, Ledger};

use crate::stage::Stage;

/// As large as two busy cores carry in a debug build; larger by `SUPERNODE_AUDIENCE`, up to 247. How much of it comes is
/// the machine's doing: what must hold holds all the same.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_audience_is_sent_each_object_once_and_nobody_else_any(#[values(1, 2)] shards: usize) {
    let listeners = std::env::var("SUPERNODE_AUDIENCE").map_or(24, |count| count.parse().unwrap());
    let mut stage = Stage::new(shards).await;
    let mut audience = Vec::new();
    for _ in 0..listeners {
        audience.push(stage.listener().await);
    }
    stage.overture(listeners).await;
    stage.perform(listeners, 10, Duration::from_secs(3)).await;
    let ledger = stage.settled().await;
    eprintln!("{} of {} delivered to {listeners}: {}", ledger.delivered, ledger.offered, named(&ledger));
    assert!(ledger.delivered > 0);
    stage.end(&[], &audience).await;
}

/// Drops by reason, for people.
fn named(ledger: &Ledger) -> String {
    let some = DropReason::ALL.iter().zip(ledger.dropped).filter(|(_, objects)| *objects > 0);
    some.map(|(reason, objects)| format!("{} {objects}", reason.label())).collect::<Vec<_>>().join(", ")
}
