//! Coming into the relay's room on one connection, as [`supernode_calls::room::Entry`] says.

use std::sync::Arc;

use supernode_calls::room::{Answer, Entry, NextStep};
use supernode_proto::control::relay_message;

use crate::{
    Error, Refusal,
    client::Inner,
    rights::door::Place,
    room::Room,
    runtime::{long, sleep},
    sync::lock,
    wire::link::Link,
};

/// Goes this way in. Whoever falls behind on it is brought back in by the room's keeper: that is no error. `place` is what a
/// member has given us, if that is why we come in.
pub(crate) async fn enter(
    inner: &Inner,
    link: &Arc<Link>,
    room: &Arc<Room>,
    way_in: (Entry, NextStep),
    mut place: Option<Place>,
) -> Result<(), Error> {
    let (mut entry, mut next) = way_in;
    let mut failure = Error::Disconnected;
    loop {
        let step = match next {
            NextStep::Ask(step, wait) => {
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                step
            }
            NextStep::TakePlace => {
                let place = place.take().ok_or(Error::State("nobody gave us a place"))?;
                let (taking, on) = (room.clone(), link.clone());
                long(move || taking.take_place(&on, place)).await?;
                next = entry.handle_place_taken();
                continue;
            }
            NextStep::Done => return Ok(()),
            NextStep::FallBehind => {
                room.fall_behind();
                return Ok(());
            }
            NextStep::End(end) => {
                lock(&inner.rooms).remove(&room.id);
                room.end_with(end);
                return Err(failure);
            }
            NextStep::Failed => return Err(failure),
        };
        let (entering, on) = (room.clone(), link.clone());
        let effect = move |reply: Result<&relay_message::Body, &Refusal>| entering.handle_entry_reply(&on, step, reply);
        let answer = match room.entry_request(step, link) {
            Ok(request) => link.request_in_order(request, inner.config.request_timeout, Some(Box::new(effect))).await,
            Err(error) => Err(error),
        };
        next = match answer {
            Ok(_) => room.next_step(&mut entry, Answer::Granted),
            Err(error) if link.connection.close_reason().is_some() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, ?step, "the relay does not let us in, or has nothing for us");
                let answer =
                    if let Error::Refused(refusal) = &error { Answer::Refused(refusal) } else { Answer::Missing };
                let next = room.next_step(&mut entry, answer);
                failure = error;
                next
            }
        };
    }
}
