//! Who is online, as far as tickets allow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use supernode_e2ee::Pass;
use supernode_proto::{
    control::{self, RefusalReason, Unwatch, client_message},
    identity::IdentityKey,
};
use tokio::sync::watch;

use crate::{Client, Error, Presence, Refusal, sync::lock, wire::link::Link};

/// A watch on one person's presence; ends when dropped. Survives reconnects.
pub struct Watch {
    client: Client,
    identity: IdentityKey,
    state: watch::Receiver<Seen>,
}

impl Watch {
    /// Whom it is about.
    pub fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// What is known now; `None` before the first snapshot.
    pub fn current(&self) -> Option<Presence> {
        self.state.borrow().presence.clone()
    }

    /// Waits for the next change and returns it; the first one is the snapshot. Changes that came while nobody waited
    /// are one. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Refused`] once the relay has ended the watch, for instance because the ticket expired;
    /// [`Error::Closed`] once the relay has ended the session for good, [`Error::ClientClosed`] once we have.
    pub async fn next(&mut self) -> Result<Presence, Error> {
        loop {
            let mut closed = self.client.inner.closed.subscribe();
            tokio::select! {
                biased;
                changed = self.state.changed() => changed.map_err(|_| Error::ClientClosed)?,
                _ = closed.wait_for(|closed| *closed) => return Err(self.client.inner.over()),
            }
            let seen = self.state.borrow_and_update();
            match (&seen.ended, &seen.presence) {
                (Some(refusal), _) => return Err(Error::Refused(refusal.clone())),
                (None, Some(presence)) => return Ok(presence.clone()),
                (None, None) => {}
            }
        }
    }

    /// Waits until the person is online.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn online(&mut self) -> Result<Presence, Error> {
        if let Some(presence) = self.current().filter(Presence::is_online) {
            return Ok(presence);
        }
        loop {
            let presence = self.next().await?;
            if presence.is_online() {
                return Ok(presence);
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch(..)")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.client.inner.watches.release(&self.identity)
            && let Some(link) = self.client.inner.link_now()
        {
            let identity = Bytes::copy_from_slice(self.identity.as_bytes());
            link.send(client_message::Body::Unwatch(Unwatch { identity }), None);
        }
    }
}

impl Client {
    /// Watches the person who issued `pass`, which must grant presence. A second watch on the same person shares the
    /// first one's pass.
    ///
    /// # Errors
    /// [`Error::Refused`] if the relay does not take the ticket; [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn watch(&self, pass: &Pass) -> Result<Watch, Error> {
        let link = self.inner.link().await?;
        let (state, first) = self.inner.watches.add(pass);
        // From here on the drop of the watch cleans up.
        let watch = Watch { client: self.clone(), identity: pass.issuer(), state };
        if first {
            self.inner.request(&link, watch_request(pass, &link)).await?;
        }
        Ok(watch)
    }
}

/// All watches of a client.
#[derive(Default)]
pub(crate) struct Watches {
    by_identity: Mutex<HashMap<IdentityKey, Entry>>,
}

struct Entry {
    pass: Pass,
    users: usize,
    /// Of the newest presence on this connection: a relay that restarted counts anew.
    epoch: Option<u64>,
    seen: watch::Sender<Seen>,
}

#[derive(Default, Clone)]
struct Seen {
    presence: Option<Presence>,
    ended: Option<Refusal>,
}

impl Watches {
    fn add(&self, pass: &Pass) -> (watch::Receiver<Seen>, bool) {
        let mut entries = lock(&self.by_identity);
        let fresh = || Entry { pass: pass.clone(), users: 0, epoch: None, seen: watch::Sender::default() };
        let entry = entries.entry(pass.issuer()).or_insert_with(fresh);
        entry.users += 1;
        let mut state = entry.seen.subscribe();
        state.mark_changed();
        (state, entry.users == 1)
    }

    /// One user less: whether it was the last.
    fn release(&self, identity: &IdentityKey) -> bool {
        let mut entries = lock(&self.by_identity);
        let Some(entry) = entries.get_mut(identity) else { return false };
        entry.users -= 1;
        let last = entry.users == 0;
        if last {
            entries.remove(identity);
        }
        last
    }

    /// Stale news, which a slower way brought, is dropped.
    pub(crate) fn handle_presence(&self, news: &control::Presence) {
        let Ok(identity) = IdentityKey::from_slice(&news.identity) else { return };
        let mut entries = lock(&self.by_identity);
        let Some(entry) = entries.get_mut(&identity) else { return };
        if entry.epoch.is_some_and(|newest| news.epoch < newest) {
            return;
        }
        entry.epoch = Some(news.epoch);
        let presence = Presence { state: news.state(), devices: news.devices, status: news.status.clone() };
        entry.seen.send_if_modified(|seen| {
            let changed = seen.presence.as_ref() != Some(&presence);
            seen.presence = Some(presence);
            changed
        });
    }

    pub(crate) fn handle_ended(&self, identity: &[u8], reason: RefusalReason) {
        let Ok(identity) = IdentityKey::from_slice(identity) else { return };
        self.end(&identity, Refusal { reason, detail: "watch".into(), value: 0, bound: 0 });
    }

    fn end(&self, identity: &IdentityKey, refusal: Refusal) {
        if let Some(entry) = lock(&self.by_identity).get_mut(identity) {
            entry.seen.send_modify(|seen| seen.ended = Some(refusal));
        }
    }

    /// On a new connection: asks for everything again.
    pub(crate) fn restore(self: &Arc<Self>, link: &Link) {
        for (identity, entry) in lock(&self.by_identity).iter_mut() {
            entry.epoch = None;
            let (watches, identity) = (self.clone(), *identity);
            let on_reply = move |reply: Result<&control::relay_message::Body, &Refusal>| {
                if let Err(refusal) = reply {
                    watches.end(&identity, refusal.clone());
                }
            };
            link.send(watch_request(&entry.pass, link), Some(Box::new(on_reply)));
        }
    }
}

fn watch_request(pass: &Pass, link: &Link) -> client_message::Body {
    let (ticket, proof) = link.channel.show(pass);
    client_message::Body::Watch(control::Watch { ticket, proof })
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{IdentitySecret, Terms};
    use supernode_proto::{control::PresenceState, identity::Grants};

    use super::*;

    /// Of the one person here.
    fn pass() -> Pass {
        let terms = Terms { grants: Grants::PRESENCE, relay: None, generation: 0, not_after_unix_s: 1 };
        IdentitySecret::from_bytes(&[1; 32]).issue_pass(&terms)
    }

    fn news(epoch: u64, state: PresenceState) -> control::Presence {
        let identity = Bytes::copy_from_slice(pass().issuer().as_bytes());
        control::Presence { identity, epoch, state: state.into(), devices: 1, status: Bytes::new() }
    }

    //
    #[test]
    fn news_older_than_the_newest_is_dropped_until_the_next_connection() {
        let watches = Arc::new(Watches::default());
        let (seen, first) = watches.add(&pass());
        assert!(first);
        let state = || seen.borrow().presence.as_ref().map(|presence| presence.state);
        watches.handle_presence(&news(5, PresenceState::Online));
        watches.handle_presence(&news(4, PresenceState::Offline));
        assert_eq!(state(), Some(PresenceState::Online));
        lock(&watches.by_identity).values_mut().for_each(|entry| entry.epoch = None);
        watches.handle_presence(&news(1, PresenceState::Away));
        assert_eq!(state(), Some(PresenceState::Away));
    }

    #[test]
    fn two_watches_on_one_person_share_one_and_the_last_ends_it() {
        let watches = Watches::default();
        let (pass, person) = (pass(), pass().issuer());
        assert!(watches.add(&pass).1);
        assert!(!watches.add(&pass).1);
        assert!(!watches.release(&person));
        assert!(watches.release(&person));
        assert!(!watches.release(&person));
    }
}
