//! Between a node and its bucket.

use std::{
    future::pending,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, FuturesUnordered, once},
};
use supernode_cluster::{Entry, Node};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::bucket::Bucket;

/// How many requests are on their way to NATS at most: those for rooms wait for a moment where thousands open at once.
const REQUESTS_MAX: usize = 256;

/// Asks the bucket what the node wants to know, and tells it what was answered and written, until it is dropped. `look` is
/// called after each of these, in each [`Terms::pace`](supernode_cluster::Terms::pace), and at once when the bell rings: what
/// it has the node want is asked for right after. The node's clock is the time since `begun`. It is locked for a moment at a
/// time, never while anything is waited for.
pub async fn drive(bucket: &Bucket, node: &Mutex<Node>, begun: Instant, bell: &Notify, mut look: impl FnMut()) {
    let lock = || node.lock().unwrap_or_else(PoisonError::into_inner);
    let mut requests = FuturesUnordered::new();
    // Of which epoch, and what is written there.
    let mut watch: Option<(u64, BoxStream<'_, Entry>)> = None;
    let mut ticks = interval(lock().terms().pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look();
        let epoch = {
            let mut node = lock();
            while requests.len() < REQUESTS_MAX
                && let Some(request) = node.poll_request(begun.elapsed())
            {
                requests.push(async move { (request.number, bucket.ask(request.act).await) });
            }
            node.epoch()
        };
        if watch.as_ref().map(|(epoch, _)| *epoch) != epoch {
            watch = epoch.map(|epoch| (epoch, written(bucket, epoch)));
        }
        let seen = async {
            match &mut watch {
                Some((_, entries)) => entries.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = ticks.tick() => (),
            () = bell.notified() => (),
            Some((number, answer)) = requests.next() => lock().handle_answer(number, answer, begun.elapsed()),
            seen = seen => match seen {
                Some(entry) => lock().handle_entry(entry, begun.elapsed()),
                // It has failed and is begun again, but not at once.
                None => {
                    ticks.tick().await;
                    watch = None;
                }
            }
        }
    }
}

/// What is written to the records of an epoch's nodes, until that cannot be seen any more.
fn written(bucket: &Bucket, epoch: u64) -> BoxStream<'_, Entry> {
    let opened = async move {
        let watch = bucket.watch(epoch).await;
        if let Err(error) = &watch {
            tracing::debug!(%error, "no watch");
        }
        watch.ok()
    };
    once(opened).filter_map(std::future::ready).flatten().boxed()
}
