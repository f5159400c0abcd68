//! Which devices their owners have taken back, as far as this client has heard.

use std::collections::HashMap;

use supernode_proto::identity::{DeviceKey, IdentityKey, Revocation};

/// People whose words are kept at most: far more than anybody rings.
const KEPT_MAX: usize = 4096;

/// The newest word of each person.
#[derive(Default)]
pub struct Revoked {
    by_identity: HashMap<IdentityKey, Revocation>,
}

impl Revoked {
    /// Takes a word in that is genuine and newer than what is known: whether it was.
    pub fn learn(&mut self, word: Revocation) -> bool {
        let known = self.by_identity.get(&word.identity).map(|known| known.number);
        let is_news = known.is_none_or(|known| word.number > known) && word.verify().is_ok();
        let has_room = known.is_some() || self.by_identity.len() < KEPT_MAX;
        if is_news && has_room {
            self.by_identity.insert(word.identity, word);
        }
        is_news && has_room
    }

    /// Whether this device counts no more.
    pub fn names(&self, identity: &IdentityKey, device: &DeviceKey) -> bool {
        self.by_identity.get(identity).is_some_and(|word| word.names(device))
    }

    /// What a person has said.
    pub fn of(&self, identity: &IdentityKey) -> Option<Revocation> {
        self.by_identity.get(identity).cloned()
    }
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::IdentitySecret;

    use super::*;

    //
    #[test]
    fn the_newest_genuine_word_counts() {
        let (alice, bob) = (IdentitySecret::generate(), IdentitySecret::generate());
        let [first, second] = [DeviceKey::new([1; 32]), DeviceKey::new([2; 32])];
        let word = |devices, number| alice.revoke(devices, number).expect("few enough");
        let mut revoked = Revoked::default();
        assert!(revoked.learn(word(vec![first, second], 5)));
        assert!(!revoked.learn(word(vec![], 5)) && !revoked.learn(word(vec![], 4)), "not newer");
        let forged = Revocation { devices: vec![], ..word(vec![first], 6) };
        assert!(!revoked.learn(forged));
        assert!(revoked.names(&alice.public(), &first) && !revoked.names(&bob.public(), &first));
        assert!(revoked.learn(word(vec![second], 6)));
        assert!(!revoked.names(&alice.public(), &first) && revoked.names(&alice.public(), &second));
        assert_eq!(revoked.of(&alice.public()).map(|word| word.number), Some(6));
    }
}
