//! Who is online, as far as tickets allow.

use std::collections::BTreeMap;

use bytes::Bytes;
use supernode_keys::Pass;
use supernode_proto::{
    control::{self, PresenceState},
    identity::IdentityKey,
};

/// What is known of a person now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// How they want to be seen; offline when no device of theirs is connected or visible.
    pub state: PresenceState,
    /// Visible devices online.
    pub devices: u32,
    /// What their devices attached, sealed or not as the two agreed; at most 1 KiB.
    pub status: Bytes,
}

impl Presence {
    /// Whether a ring has somewhere to go.
    pub fn is_online(&self) -> bool {
        self.state != PresenceState::Offline
    }
}

/// Whom we watch, by what right, and what came of it.
#[derive(Default)]
pub(crate) struct Watches {
    by_identity: BTreeMap<IdentityKey, Watched>,
}

struct Watched {
    pass: Pass,
    users: usize,
    /// Of the newest presence on this connection: a relay that restarted counts anew.
    epoch: Option<u64>,
    seen: Option<Presence>,
}

impl Watches {
    /// One user more: whether it is the first.
    pub(crate) fn add(&mut self, pass: &Pass) -> bool {
        let fresh = || Watched { pass: pass.clone(), users: 0, epoch: None, seen: None };
        let watched = self.by_identity.entry(pass.issuer()).or_insert_with(fresh);
        watched.users += 1;
        watched.users == 1
    }

    /// One user less: whether it was the last.
    pub(crate) fn release(&mut self, identity: &IdentityKey) -> bool {
        let Some(watched) = self.by_identity.get_mut(identity) else { return false };
        watched.users -= 1;
        let last = watched.users == 0;
        if last {
            self.by_identity.remove(identity);
        }
        last
    }

    /// Whether somebody is watched.
    pub(crate) fn holds(&self, identity: &IdentityKey) -> bool {
        self.by_identity.contains_key(identity)
    }

    /// What is new of somebody. Stale news, which a slower way brought, is dropped, and so is what was known.
    pub(crate) fn hear(&mut self, news: control::Presence) -> Option<(IdentityKey, Presence)> {
        let identity = IdentityKey::from_slice(&news.identity).ok()?;
        let watched = self.by_identity.get_mut(&identity)?;
        if watched.epoch.is_some_and(|newest| news.epoch < newest) {
            return None;
        }
        watched.epoch = Some(news.epoch);
        let presence = Presence { state: news.state(), devices: news.devices, status: news.status };
        let is_new = watched.seen.as_ref() != Some(&presence);
        is_new.then(|| {
            watched.seen = Some(presence.clone());
            (identity, presence)
        })
    }

    /// On a new connection: everybody whom we watch, by their passes.
    pub(crate) fn begin_again(&mut self) -> Vec<Pass> {
        let again = |watched: &mut Watched| {
            watched.epoch = None;
            watched.pass.clone()
        };
        self.by_identity.values_mut().map(again).collect()
    }
}

#[cfg(test)]
mod tests {
    use supernode_keys::{IdentitySecret, Terms};
    use supernode_proto::identity::Grants;

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
        let mut watches = Watches::default();
        assert!(watches.add(&pass()));
        let hear =
            |watches: &mut Watches, epoch, state| watches.hear(news(epoch, state)).map(|(_, presence)| presence.state);
        assert_eq!(hear(&mut watches, 5, PresenceState::Online), Some(PresenceState::Online));
        assert_eq!(hear(&mut watches, 4, PresenceState::Offline), None);
        assert_eq!(hear(&mut watches, 6, PresenceState::Online), None, "it is no news");
        assert_eq!(watches.begin_again().len(), 1);
        assert_eq!(hear(&mut watches, 1, PresenceState::Away), Some(PresenceState::Away));
    }

    #[test]
    fn two_watches_on_one_person_share_one_and_the_last_ends_it() {
        let mut watches = Watches::default();
        let (pass, person) = (pass(), pass().issuer());
        assert!(watches.add(&pass));
        assert!(!watches.add(&pass));
        assert!(!watches.release(&person));
        assert!(watches.release(&person));
        assert!(!watches.release(&person));
        assert_eq!(watches.hear(news(1, PresenceState::Online)), None, "nobody wants to know");
    }
}
