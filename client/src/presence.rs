//! Who is online, as far as tickets allow.

use std::{collections::HashMap, sync::Mutex};

use supernode_e2ee::Pass;
use supernode_proto::{control::client_message, identity::IdentityKey};
use supernode_session::Session;
use tokio::sync::watch;

use crate::{Client, Error, Presence, Refusal, sync::lock, wire::link::Pending};

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
        let inner = &self.client.inner;
        if let Some(request) = inner.watches.release(&self.identity, &inner.session)
            && let Some(link) = inner.link_now()
        {
            link.send(request, None);
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
        let (state, request) = self.inner.watches.add(pass, &self.inner.session);
        // From here on the drop of the watch cleans up.
        let watch = Watch { client: self.clone(), identity: pass.issuer(), state };
        if let Some(request) = request {
            self.inner.request(&link, request).await?;
        }
        Ok(watch)
    }
}

/// Who looks at what the session hears of those whom we watch. Locked before the session.
#[derive(Default)]
pub(crate) struct Watches {
    by_identity: Mutex<HashMap<IdentityKey, watch::Sender<Seen>>>,
}

#[derive(Default, Clone)]
struct Seen {
    presence: Option<Presence>,
    ended: Option<Refusal>,
}

impl Watches {
    /// One user more, and what it takes to ask for that.
    fn add(
        &self,
        pass: &Pass,
        session: &Mutex<Session<Pending>>,
    ) -> (watch::Receiver<Seen>, Option<client_message::Body>) {
        let mut looking = lock(&self.by_identity);
        let mut state = looking.entry(pass.issuer()).or_default().subscribe();
        state.mark_changed();
        (state, lock(session).watch(pass))
    }

    /// One user less, and what it takes to say so if it was the last.
    fn release(&self, identity: &IdentityKey, session: &Mutex<Session<Pending>>) -> Option<client_message::Body> {
        let mut looking = lock(&self.by_identity);
        let request = lock(session).unwatch(identity)?;
        looking.remove(identity);
        Some(request)
    }

    pub(crate) fn handle_presence(&self, identity: &IdentityKey, presence: Presence) {
        if let Some(seen) = lock(&self.by_identity).get(identity) {
            seen.send_modify(|seen| seen.presence = Some(presence));
        }
    }

    pub(crate) fn handle_ended(&self, identity: &IdentityKey, refusal: Refusal) {
        if let Some(seen) = lock(&self.by_identity).get(identity) {
            seen.send_modify(|seen| seen.ended = Some(refusal));
        }
    }
}
