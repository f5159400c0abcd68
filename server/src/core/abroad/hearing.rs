//! What other nodes say of a person, taken.

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    identity::{DeviceKey, IdentityKey},
};

use super::{
    BusErrand, Topic,
    elsewhere::told,
    words::{Ask, Came, Moved, Report, Said, Shown, key_bytes},
};
use crate::core::{Errand, NodeId, Now, Outbox, ShardCore, registry::presence};

impl ShardCore {
    /// What is true of somebody at another node.
    pub(super) fn hear_report(&mut self, from: NodeId, report: &Report, now: Now, outbox: &mut Outbox) {
        let Some(life) = self.abroad.life_of(from) else { return };
        let Ok(identity) = IdentityKey::from_slice(&report.identity) else { return };
        let directory = self.directory.clone();
        let Some(mut person) = directory.people.get_mut(&identity) else { return };
        let known = person.revocation.as_ref().map_or(0, |known| known.number);
        if report.revocation_number > known {
            presence::take_back_devices(&mut person, report.word(&identity), outbox);
        }
        presence::change_sight(identity, &mut person, now, outbox, |person| {
            person.generation = person.generation.max(report.generation);
            if !person.watchers.is_empty() {
                person.elsewhere.get_or_insert_default().take(from, life, report);
            }
        });
        // What it has learned here holds of its own devices as well: so it tells it with them.
        presence::touch(&directory, identity, &mut person, now, &mut self.timers, outbox);
    }

    /// Somebody at another node wants to know of a person with devices here.
    pub(super) fn hear_ask(&mut self, from: NodeId, ask: &Ask, outbox: &mut Outbox) {
        if let Ok(identity) = IdentityKey::from_slice(&ask.identity)
            && let Some(told) = told(&self.directory, &identity)
        {
            self.say(from, ask.shard, &Said::Report(told), outbox);
        }
    }

    /// A device of somebody has a session at another node: an earlier one here gives way.
    pub(super) fn hear_came(&mut self, from: NodeId, came: &Came, outbox: &mut Outbox) {
        let (Ok(identity), Ok(device)) = (IdentityKey::from_slice(&came.identity), DeviceKey::from_slice(&came.device))
        else {
            return;
        };
        let moved = {
            let Some(person) = self.directory.people.get(&identity) else { return };
            let is_earlier = |since_ms: u64| since_ms < came.since_ms;
            let online = person.devices.iter().find(|online| online.device == device);
            let Some(online) = online.filter(|online| is_earlier(online.since_ms)) else { return };
            outbox.close(online.session, CloseCode::REPLACED);
            let was = Shown {
                device: came.device.clone(),
                state: online.state.into(),
                status: online.status.clone(),
                set_at: online.set_at,
            };
            let blocked = online.blocked.iter().map(key_bytes).collect();
            Moved { identity: came.identity.clone(), was: Some(was), blocked }
        };
        self.say(from, came.shard, &Said::Moved(moved), outbox);
    }

    /// What a device's earlier node knows of it: it goes on with it until it says otherwise, as with a session that replaces
    /// another at one relay.
    pub(super) fn hear_moved(&mut self, moved: &Moved, now: Now, outbox: &mut Outbox) {
        let Ok(identity) = IdentityKey::from_slice(&moved.identity) else { return };
        let Some(was) = &moved.was else { return };
        let directory = self.directory.clone();
        let Some(mut person) = directory.people.get_mut(&identity) else { return };
        let mut blocked: Vec<IdentityKey> =
            moved.blocked.iter().filter_map(|identity| IdentityKey::from_slice(identity).ok()).collect();
        blocked.sort_unstable();
        presence::change_sight(identity, &mut person, now, outbox, |person| {
            let Some(online) = person.devices.iter_mut().find(|online| was.is_device(&online.device)) else { return };
            if !online.has_named {
                online.blocked = blocked.into();
            }
            if online.set_at == 0 {
                let was = was.to_kept();
                (online.state, online.set_at) = (was.state(), was.set_at);
                online.status = was.status;
                online.recount();
            }
        });
        presence::touch(&directory, identity, &mut person, now, &mut self.timers, outbox);
    }

    /// Nobody here watches a person any more.
    pub(super) fn forget_reports(&mut self, identity: IdentityKey, now: Now, outbox: &mut Outbox) {
        let directory = self.directory.clone();
        if let Some(mut person) = directory.people.get_mut(&identity) {
            if let Some(elsewhere) = &mut person.elsewhere {
                elsewhere.forget();
            }
            // What a next watcher is told first.
            presence::touch(&directory, identity, &mut person, now, &mut self.timers, outbox);
        }
        presence::forget_if_unused(&directory, &identity);
    }
}

/// Other nodes hear that a device has a session here now.
pub(crate) fn tell_came(identity: IdentityKey, device: DeviceKey, now: Now, outbox: &mut Outbox) {
    let came = Came {
        identity: key_bytes(&identity),
        device: Bytes::copy_from_slice(device.as_bytes()),
        since_ms: now.unix_ms,
        shard: outbox.homes().of_dealings(&identity).shard.0.into(),
    };
    outbox.errand(Errand::Bus(BusErrand::Tell(Topic::Holders(identity), Said::Came(came).to_bytes())));
}
