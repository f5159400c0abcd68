//! Changing a room's group: one commit at a time, the relay says which comes first.

use std::sync::Arc;

use supernode_calls::room::{AfterRefusal, Attempts, WINNER_TIMEOUT, commit_message};
use supernode_e2ee::{Change, Group};
use supernode_proto::control::relay_message;

use crate::{
    Error, Refusal,
    client::Inner,
    room::Room,
    runtime::{apart, long, sleep, timeout},
    wire::backoff::random_wait,
};

/// Changes the group through the room's mailbox, and in the same step lets newcomers in by the new epoch's secret only.
/// `make` is called again after another member's commit has come first; it returns `None` when there is nothing
/// left to change. Returns the change that counts.
pub(crate) async fn commit(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    make: impl Fn(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error> + Send + Sync + 'static,
) -> Result<Option<Change>, Error> {
    // Whoever stops waiting leaves no commit behind that nobody sends: it would stand in the way of the next.
    apart(commit_in_turn(inner.clone(), room.clone(), Arc::new(make))).await
}

async fn commit_in_turn(
    inner: Arc<Inner>,
    room: Arc<Room>,
    make: Arc<impl Fn(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error> + Send + Sync + 'static>,
) -> Result<Option<Change>, Error> {
    let _one_at_a_time = room.committing.lock().await;
    let mut attempts = Attempts::at_commit();
    loop {
        if let Some(end) = room.end() {
            return Err(Error::CallEnded(end));
        }
        let link = inner.link().await?;
        // After a break, what was missed comes first.
        let entered = room.wait_until(|room| room.is_entered_on(link.generation));
        if timeout(inner.config.request_timeout, entered).await.is_err() {
            return Err(Error::Disconnected);
        }
        let (making, make) = (room.clone(), make.clone());
        let Some(change) = long(move || making.make_commit(&*make)).await? else { return Ok(None) };
        let message = commit_message(&room.id, &change);
        let settling = room.clone();
        let settle = move |reply: Result<&relay_message::Body, &Refusal>| settling.handle_own_commit(reply.is_ok());
        let refusal = match link.request_in_order(message, inner.config.request_timeout, Some(Box::new(settle))).await {
            Ok(_) => return Ok(Some(change)),
            Err(Error::Refused(refusal)) => refusal,
            // Nobody can say whether it was accepted: what comes next shows.
            Err(error) => return Err(error),
        };
        match attempts.handle_refused(&refusal, &random_wait) {
            AfterRefusal::Again { winner, wait } => {
                if let Some(epoch) = winner {
                    let _ = timeout(WINNER_TIMEOUT, room.wait_for_epoch(epoch)).await;
                }
                sleep(wait).await;
            }
            AfterRefusal::GiveUp => return Err(Error::State("others changed the keys again and again")),
            AfterRefusal::Final => return Err(Error::Refused(refusal)),
        }
    }
}
