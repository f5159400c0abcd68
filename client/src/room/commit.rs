//! Changing a room's group: one commit at a time, the relay says which comes first.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use supernode_e2ee::{Change, Group};
use supernode_proto::control::{RefusalReason, SendMls, client_message, relay_message};

use crate::{
    Error, Refusal,
    client::Inner,
    room::Room,
    sync::{done, long},
    wire::backoff::{Backoff, random_wait},
};

/// How often a commit is made again after another member's came first.
const ATTEMPTS_MAX: u32 = 12;
/// Ceiling of the first wait before that; it doubles.
const BACKOFF_BASE: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Longest to wait for the commit that came first.
const WINNER_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes the group through the room's mailbox, and in the same step lets newcomers in by the new epoch's secret only.
/// `make` is called again after another member's commit has come first; it returns `None` when there is nothing
/// left to change. Returns the change that counts.
pub(crate) async fn commit(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    make: impl Fn(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error> + Send + Sync + 'static,
) -> Result<Option<Change>, Error> {
    // Whoever stops waiting leaves no commit behind that nobody sends: it would stand in the way of the next.
    done(tokio::spawn(commit_in_turn(inner.clone(), room.clone(), Arc::new(make)))).await
}

async fn commit_in_turn(
    inner: Arc<Inner>,
    room: Arc<Room>,
    make: Arc<impl Fn(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error> + Send + Sync + 'static>,
) -> Result<Option<Change>, Error> {
    let _one_at_a_time = room.committing.lock().await;
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
    for _ in 0..ATTEMPTS_MAX {
        if let Some(end) = room.end() {
            return Err(Error::CallEnded(end));
        }
        let link = inner.link().await?;
        // After a break, what was missed comes first.
        let entered = room.wait_until(|room| room.is_entered_on(link.generation));
        if tokio::time::timeout(inner.config.request_timeout, entered).await.is_err() {
            return Err(Error::Disconnected);
        }
        let (making, make) = (room.clone(), make.clone());
        let Some(change) = long(move || making.make_commit(&*make)).await? else { return Ok(None) };
        let message = client_message::Body::SendMls(SendMls {
            room: Bytes::copy_from_slice(&room.id.0),
            epoch: change.epoch,
            commit: true,
            payload: Bytes::copy_from_slice(&change.commit),
            join_key: Bytes::copy_from_slice(change.join_key.as_bytes()),
        });
        let settling = room.clone();
        let settle = move |reply: Result<&relay_message::Body, &Refusal>| settling.handle_own_commit(reply.is_ok());
        match link.request_in_order(message, inner.config.request_timeout, Some(Box::new(settle))).await {
            Ok(_) => return Ok(Some(change)),
            Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::EpochConflict => {
                // The winner is on its way to us. Whoever else lost waits too, and for another time.
                let followed = room.wait_for_epoch(refusal.bound);
                let _ = tokio::time::timeout(WINNER_TIMEOUT, followed).await;
                tokio::time::sleep(backoff.next_wait(random_wait)).await;
            }
            // Many changes at once, or what others were let in by: the relay takes the next one in a moment.
            Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::Limit => {
                tokio::time::sleep(backoff.next_wait(random_wait)).await;
            }
            Err(error) => {
                // Nobody can say whether it was accepted: what comes next shows.
                return Err(error);
            }
        }
    }
    Err(Error::State("others changed the keys again and again"))
}
