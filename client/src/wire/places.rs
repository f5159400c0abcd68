//! Where the relay may be, and what is remembered of it from one connection to the next.

use std::sync::Mutex;

use supernode_proto::invite::{HostPort, Invite};
use supernode_session::places::Memory;

use crate::{
    sync::lock,
    wire::{bearer::Place, clock::moment},
};

/// The addresses that the invite names, and what came of them.
pub(crate) struct Places {
    invited: Vec<HostPort>,
    has_pin: bool,
    /// Where the relay that let us in last was, if the one before it has named that.
    moved_to: Mutex<Option<HostPort>>,
    memory: Mutex<Memory<Place>>,
}

impl Places {
    /// Of the relay of this invite.
    pub(crate) fn new(invite: &Invite) -> Self {
        Self {
            invited: invite.addresses().collect(),
            has_pin: invite.pin.is_some(),
            moved_to: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    /// Where to look for it: where somebody has named it, or else where it was found by such a word, and where the invite says.
    pub(crate) fn hosts(&self, named: Option<&HostPort>) -> Vec<HostPort> {
        if let Some(named) = named {
            return vec![named.clone()];
        }
        lock(&self.moved_to).iter().chain(&self.invited).cloned().collect()
    }

    /// Whether the invite names this host: its TCP ports are those of the invite.
    pub(crate) fn names(&self, host: &HostPort) -> bool {
        self.invited.iter().any(|invited| invited.is(host))
    }

    /// In which order to try what these hosts lead to, but for those that have sent us away just now.
    pub(crate) fn order(&self, hosts: &[Vec<Place>], is_ipv6: impl Fn(&Place) -> bool, except: &[Place]) -> Vec<Place> {
        let mut order = lock(&self.memory).order(hosts, is_ipv6, moment());
        order.retain(|place| !except.contains(place));
        order
    }

    /// The relay there has let us in.
    pub(crate) fn let_in(&self, at: &Place) {
        lock(&self.memory).let_in(at);
    }

    /// The relay there is to be tried last for a while.
    pub(crate) fn avoid(&self, at: &Place) {
        lock(&self.memory).avoid(at, moment());
    }

    /// The relay that was named there has let us in. Whoever has no pin does not keep that: somebody who stood in for the relay
    /// for an hour could name a place of their own for good.
    pub(crate) fn moved(&self, to: HostPort) {
        if self.has_pin && !self.names(&to) {
            *lock(&self.moved_to) = Some(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::RelayPin;

    use super::*;

    fn at(text: &str) -> HostPort {
        text.parse().expect("an address")
    }

    //
    #[test]
    fn where_a_relay_has_sent_us_is_kept_beside_the_invite_only_if_its_key_is_known() {
        let invite = Invite { also: vec![at("b")], ..Invite::to(at("a")) };
        let pinned = Places::new(&Invite { pin: Some(RelayPin([1; 32])), ..invite.clone() });
        assert_eq!(pinned.hosts(None), [at("a"), at("b")]);
        assert_eq!(pinned.hosts(Some(&at("c"))), [at("c")]);
        pinned.moved(at("B:4433"));
        assert_eq!(pinned.hosts(None).len(), 2, "it is known");
        pinned.moved(at("c"));
        pinned.moved(at("d"));
        assert_eq!(pinned.hosts(None), [at("d"), at("a"), at("b")]);
        assert!(pinned.names(&at("A")) && !pinned.names(&at("d")), "the invite says nothing of its TCP port");
        let by_name = Places::new(&invite);
        by_name.moved(at("c"));
        assert_eq!(by_name.hosts(None), [at("a"), at("b")]);
    }
}
