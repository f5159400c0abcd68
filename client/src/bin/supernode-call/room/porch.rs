//! Who knocks at the room that we are in. Whoever has the room's link comes in; others wait on the porch until somebody
//! has looked.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use supernode_client::{
    Call, CallEvent, Error, Event, Events, IncomingRing, Member, Purpose, Warning,
    proto::{control::RefusalReason, identity::IdentityKey},
};
use tokio::sync::broadcast::error::RecvError;

use super::roster;
use crate::{progress::note, talk};

/// Those who wait at most: who comes after them hears that we are busy.
const WAITING_MAX: usize = 16;

/// Those who knock and have not shown that they have the link.
#[derive(Default)]
pub(super) struct Porch {
    waiting: Mutex<Vec<IncomingRing>>,
}

impl Porch {
    /// Lets in who knocks with the link and may; whoever rings for something else hears that we are busy.
    pub(super) async fn mind(&self, mut events: Events, identity_file: &Path, only: &[IdentityKey]) {
        while let Some(event) = events.next().await {
            let Event::IncomingRing(ring) = event else {
                talk::report(&event, identity_file);
                continue;
            };
            let identity = ring.caller().identity;
            let who = roster::name(&identity.to_text());
            if !matches!(ring.purpose(), Purpose::Knock { .. }) {
                note(&format!("{who} rings: busy"));
            } else if !only.is_empty() && !only.contains(&identity) {
                note(&format!("{who} knocks: not let in"));
                // Whoever gave up meanwhile needs no answer.
                let _ = ring.decline().await;
            } else if ring.has_link() {
                tokio::spawn(async move {
                    match ring.admit().await {
                        Ok(()) => note(&format!("{who} knocks with the link: let in")),
                        Err(error) => note(&format!("{who} knocks, and does not come in: {error}")),
                    }
                });
            } else {
                self.keep(ring);
            }
        }
    }

    fn keep(&self, ring: IncomingRing) {
        let name = ring.caller().identity.to_text();
        let mut waiting = self.lock();
        waiting.retain(|known| !known.is_over() && known.caller() != ring.caller());
        if waiting.len() >= WAITING_MAX {
            return;
        }
        waiting.push(ring);
        note(&format!("{name} KNOCKS WITHOUT THE LINK. If you expect them: supernode-call room admit {name}"));
    }

    /// Who waits.
    pub(super) fn names(&self) -> Vec<String> {
        let mut waiting = self.lock();
        waiting.retain(|ring| !ring.is_over());
        waiting.iter().map(|ring| ring.caller().identity.to_text()).collect()
    }

    /// Lets somebody in who waits.
    pub(super) async fn admit(&self, who: &IdentityKey) -> Result<(), Error> {
        let ring = {
            let mut waiting = self.lock();
            let place = waiting.iter().position(|ring| !ring.is_over() && ring.caller().identity == *who);
            place.map(|place| waiting.swap_remove(place))
        };
        ring.ok_or(Error::State("nobody of that name knocks"))?.admit().await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IncomingRing>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the same knock may have an answer a little later.
pub(super) fn may_be_back(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => {
            matches!(
                refusal.reason,
                RefusalReason::Offline
                    | RefusalReason::NoKeyPackage
                    | RefusalReason::Limit
                    | RefusalReason::HomeUnknown
            )
        }
        Error::State(_) | Error::TimedOut(_) | Error::Disconnected => true,
        _ => false,
    }
}

/// Says who comes and goes, and loudly who has not been here before.
pub(super) async fn tell_events(call: Call) {
    let mut events = call.events();
    let mut seen: HashSet<IdentityKey> = call.roster().iter().map(|entry| entry.member.identity).collect();
    loop {
        match events.recv().await {
            Ok(CallEvent::MemberJoined(member)) if seen.insert(member.identity) => {
                note(&format!("NEW IN THE ROOM: {}", member.identity.to_text()));
            }
            Ok(CallEvent::MemberJoined(member)) => {
                note(&format!("{} came", roster::name(&member.identity.to_text())));
            }
            Ok(CallEvent::MemberLeft(member)) => note(&format!("{} left", roster::name(&member.identity.to_text()))),
            Ok(CallEvent::Removed { who, by, put_out }) if who != by => {
                let how = if put_out { "put out" } else { "taken for gone" };
                let (who, by) = (who.identity.to_text(), by.identity.to_text());
                note(&format!("{} was {how} by {}", roster::name(&who), roster::name(&by)));
            }
            Ok(CallEvent::Warning(warning)) => note(&warned(&warning)),
            Ok(CallEvent::Healed) => note("everybody is in one call again"),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn warned(warning: &Warning) -> String {
    let name = |member: &Member| roster::name(&member.identity.to_text());
    match warning {
        Warning::FalseEnvelope => "WARNING: the relay said of a message what is not so; it was dropped".into(),
        Warning::WrongDoorKey(member) => {
            format!("WARNING: {}, or the relay, gave the door a wrong key; it was replaced", name(member))
        }
        Warning::Split(member) => {
            format!("WARNING: this call has been split: {} is in another one; nothing is sent", name(member))
        }
        other => format!("WARNING: {other:?}"),
    }
}
