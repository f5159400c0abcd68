//! Key packages of somebody with devices at other nodes. Each package is handed out by the node that has it, and so once; whoever
//! wants some asks all nodes at once, by letter, and waits for [`WAIT`] at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use supernode_proto::{
    control::{DeviceKeyPackage, KeyPackages, RefusalReason, relay_message::Body},
    identity::{DeviceKey, IdentityKey, Ticket},
};

use super::words::{Said, Take, Taken, Wake, key_bytes};
use crate::core::{
    Address, NodeId, Now, Outbox, SessionId, ShardCore, ShardId,
    control::Refusal,
    registry::{
        push,
        rings::{self, Caller},
    },
    session::Handed,
    timers::Due,
};

/// How long others' answers are waited for. Default 1 s: far more than a letter there and back takes, and less than a caller
/// minds. Whoever answers later has given a package away for nothing.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// Requests of one shard that wait for other nodes at most. Default 16,384: a second of so many calls. Above, only this node is asked.
const TAKES_MAX: usize = 16_384;
/// The shard that is asked at other nodes, which this one does not know the number of: every node has one.
pub(super) const ASKED: ShardId = ShardId(0);

/// Requests that wait for other nodes.
#[derive(Debug, Default)]
pub(crate) struct Takes {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    caller: SessionId,
    request: u64,
    callee: IdentityKey,
    generation: u32,
    /// Who has not answered.
    nodes: BTreeSet<NodeId>,
    packages: Vec<DeviceKeyPackage>,
    devices: Vec<DeviceKey>,
    elsewhere: Vec<(NodeId, DeviceKey)>,
    /// Why there is nothing, if there is not: of several the one that says most.
    refusal: Option<Refusal>,
    /// A device of theirs shuts the caller out.
    is_shut_out: bool,
}

impl Takes {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Waiting {
    /// Of two reasons the one that is not that there is nobody.
    fn refused(&mut self, refusal: Refusal) {
        if self.refusal.as_ref().is_none_or(|known| known.reason == RefusalReason::Offline) {
            self.refusal = Some(refusal);
        }
    }
}

impl ShardCore {
    /// Asks all nodes for key packages. The answer comes later.
    pub(in crate::core) fn take_everywhere(
        &mut self,
        link: u32,
        request: u64,
        ticket: &Ticket,
        now: Now,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let session = self.session_at(link)?;
        rings::may_take(&directory, session, now)?;
        let caller = Caller::of(session);
        let (callee, generation) = (ticket.issuer, ticket.generation);
        if rings::is_shut_out(&directory, &caller, (callee, generation)) {
            push::wake(&directory, &caller.identity, (callee, generation), now, outbox);
            return Err(Refusal::of(RefusalReason::Offline));
        }
        let mut waiting = Waiting {
            caller: caller.session,
            request,
            callee,
            generation,
            nodes: BTreeSet::new(),
            packages: Vec::new(),
            devices: Vec::new(),
            elsewhere: Vec::new(),
            refusal: None,
            is_shut_out: false,
        };
        match rings::give(&directory, &caller, (callee, generation), now, outbox) {
            Ok((packages, devices)) => (waiting.packages, waiting.devices) = (packages, devices),
            Err(refusal) => waiting.refused(refusal),
        }
        self.abroad.takes.next += 1;
        let number = self.abroad.takes.next;
        if self.abroad.takes.waiting.len() < TAKES_MAX {
            waiting.nodes = self.abroad.nodes.keys().copied().collect();
        }
        let take = Said::Take(Take {
            number,
            shard: self.at.shard.0.into(),
            callee: key_bytes(&callee),
            generation,
            caller: key_bytes(&caller.identity),
            caller_device: Bytes::copy_from_slice(caller.device.as_bytes()),
        });
        waiting.nodes.iter().for_each(|node| self.say(*node, ASKED.0.into(), &take, outbox));
        self.timers.insert(now.instant + WAIT, Due::Take(number));
        self.abroad.takes.waiting.insert(number, waiting);
        self.finish_take(number, false, now, outbox);
        Ok(())
    }

    /// Another node wants key packages of somebody with devices here, for whom one of its sessions has a ticket.
    pub(super) fn hear_take(&mut self, from: NodeId, take: &Take, now: Now, outbox: &mut Outbox) {
        let (Ok(callee), Ok(identity), Ok(device)) = (
            IdentityKey::from_slice(&take.callee),
            IdentityKey::from_slice(&take.caller),
            DeviceKey::from_slice(&take.caller_device),
        ) else {
            return;
        };
        let session =
            SessionId { at: Address { node: from, shard: ShardId(take.shard as u16) }, link: 0, generation: 0 };
        let (caller, called) = (Caller { session, identity, device }, (callee, take.generation));
        let mut taken = Taken { number: take.number, ..Taken::default() };
        match rings::give(&self.directory, &caller, called, now, outbox) {
            Ok((packages, _)) => taken.packages = packages,
            Err(refusal) => {
                taken.is_shut_out = rings::is_shut_out(&self.directory, &caller, called);
                taken.refused = refusal.reason.into();
            }
        }
        self.say(from, take.shard, &Said::Taken(taken), outbox);
    }

    /// Another node's answer.
    pub(super) fn hear_taken(&mut self, from: NodeId, taken: Taken, now: Now, outbox: &mut Outbox) {
        let Some(waiting) = self.abroad.takes.waiting.get_mut(&taken.number) else { return };
        if !waiting.nodes.remove(&from) {
            return;
        }
        waiting.is_shut_out |= taken.is_shut_out;
        for package in taken.packages {
            // A device that moves is at two nodes for a while.
            let is_known = waiting.packages.iter().any(|known| known.device == package.device);
            if let Ok(device) = DeviceKey::from_slice(&package.device)
                && !is_known
            {
                waiting.elsewhere.push((from, device));
                waiting.packages.push(package);
            }
        }
        match RefusalReason::try_from(taken.refused) {
            Ok(RefusalReason::NoKeyPackage) => waiting.refused(Refusal::of(RefusalReason::NoKeyPackage)),
            Ok(RefusalReason::Limit) => {
                let bound = u64::from(self.limits.key_packages_given_per_minute_max);
                waiting.refused(Refusal::limit("key_packages_given_per_minute_max", bound, bound));
            }
            _ => {}
        }
        self.finish_take(taken.number, false, now, outbox);
    }

    /// A node is gone: nothing comes from it any more.
    pub(super) fn takes_without(&mut self, node: NodeId, now: Now, outbox: &mut Outbox) {
        let numbers: Vec<u64> = self.abroad.takes.waiting.keys().copied().collect();
        for number in numbers {
            if let Some(waiting) = self.abroad.takes.waiting.get_mut(&number) {
                waiting.nodes.remove(&node);
            }
            self.finish_take(number, false, now, outbox);
        }
    }

    /// Answers the client, if all nodes have answered, or `anyway`.
    pub(in crate::core) fn finish_take(&mut self, number: u64, anyway: bool, now: Now, outbox: &mut Outbox) {
        let is_done = |waiting: &Waiting| anyway || waiting.nodes.is_empty();
        if !self.abroad.takes.waiting.get(&number).is_some_and(is_done) {
            return;
        }
        let Some(waiting) = self.abroad.takes.waiting.remove(&number) else { return };
        let (caller, called) = (waiting.caller, (waiting.callee, waiting.generation));
        let Some(session) = self.session_mut(caller.link).filter(|session| session.id == caller) else { return };
        let identity = session.identity;
        if !waiting.packages.is_empty() && !waiting.is_shut_out {
            let Waiting { callee, devices, elsewhere, .. } = waiting;
            rings::note_handed(session, Handed { callee, devices, elsewhere });
            return outbox.reply(
                caller,
                waiting.request,
                Body::KeyPackages(KeyPackages { packages: waiting.packages }),
            );
        }
        let offline = Refusal::of(RefusalReason::Offline);
        let refusal = waiting.refusal.filter(|_| !waiting.is_shut_out).unwrap_or(offline);
        if refusal.reason == RefusalReason::Offline {
            self.wake_everywhere(&identity, called, now, outbox);
        }
        outbox.refuse(caller, waiting.request, refusal.into());
    }

    /// Nobody is there: pages are woken, at whichever nodes they have said where.
    pub(super) fn wake_everywhere(
        &self,
        caller: &IdentityKey,
        (callee, generation): (IdentityKey, u32),
        now: Now,
        outbox: &mut Outbox,
    ) {
        push::wake(&self.directory, caller, (callee, generation), now, outbox);
        let wake = Said::Wake(Wake { callee: key_bytes(&callee), generation, caller: key_bytes(caller) });
        self.abroad.nodes.keys().for_each(|node| self.say(*node, ASKED.0.into(), &wake, outbox));
    }

    pub(super) fn hear_wake(&self, wake: &Wake, now: Now, outbox: &mut Outbox) {
        if let (Ok(callee), Ok(caller)) = (IdentityKey::from_slice(&wake.callee), IdentityKey::from_slice(&wake.caller))
        {
            push::wake(&self.directory, &caller, (callee, wake.generation), now, outbox);
        }
    }
}
