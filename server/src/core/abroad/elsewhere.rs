//! What a node knows of a person at other nodes, and what it told those.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use supernode_proto::{control::PresenceState, identity::IdentityKey};

use super::{
    Topic,
    bus::BusErrand,
    tune,
    words::{Known, Report, Said, Shown, key_bytes, prefix},
};
use crate::core::{
    Errand, NodeId, Now, Outbox,
    registry::directory::{Directory, Online, Person, View},
    timers::{Due, Timers},
};

/// Part of a [`Person`], once other nodes know of them or they are known of from other nodes.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// What each node said last. At most one for each that lives, and only while somebody here watches.
    reports: Vec<Heard>,
    /// What others were told last, if that was that there is a device.
    told: Option<Report>,
    /// When they may be told again.
    quiet_until: Option<Instant>,
    /// Whether telling them is scheduled.
    pub(crate) is_scheduled: bool,
}

/// A node's report.
#[derive(Debug)]
struct Heard {
    node: NodeId,
    /// Which of that node's lives it is of, as this shard counts them.
    life: u64,
    epoch: u64,
    is_held: bool,
    devices: Vec<Shown>,
    /// By the first eight bytes of their identities, in order.
    blocked: Box<[u64]>,
    /// Says that there is nothing, and has been so for a round. Such are kept so that an older one that comes late is not
    /// taken for news.
    is_old: bool,
}

impl Elsewhere {
    /// Whether others still believe that there is a device here.
    pub(crate) fn is_believed_in(&self) -> bool {
        self.told.is_some()
    }

    /// Whether others believe that there is a device, and know of this generation and this revocation.
    pub(crate) fn has_told(&self, word: (u32, u64)) -> bool {
        self.told.as_ref().is_some_and(|told| (told.generation, told.revocation_number) == word)
    }

    pub(crate) fn blocks_nobody(&self) -> bool {
        self.reports.iter().all(|heard| heard.blocked.is_empty())
    }

    /// Whether a device at another node shuts somebody out.
    pub(crate) fn blocks(&self, identity: &IdentityKey) -> bool {
        if crate::planted::planted!(BlockElsewhereIgnored) {
            return false;
        }
        let prefix = prefix(identity);
        self.reports.iter().any(|heard| heard.blocked.binary_search(&prefix).is_ok())
    }

    /// Takes a report, unless what is known is newer; whether it did. One of the same number says the same, and holds again where
    /// its node was gone meanwhile.
    pub(super) fn take(&mut self, node: NodeId, life: u64, report: &Report) -> bool {
        let blocked = report.blocked.as_chunks().0.iter().map(|prefix| u64::from_be_bytes(*prefix)).collect();
        let (epoch, is_held) = (report.epoch, report.is_held);
        let devices = report.devices.iter().map(Shown::to_kept).collect();
        let heard = Heard { node, life, epoch, is_held, devices, blocked, is_old: false };
        match self.reports.iter_mut().find(|known| known.node == node) {
            Some(known) if known.epoch > epoch && !crate::planted::planted!(OldReportTaken) => return false,
            Some(known) => *known = heard,
            None => self.reports.push(heard),
        }
        true
    }

    /// Takes back what is of nodes, or of lives of theirs, that are over, and forgets what has said nothing for a round: until
    /// then what such a node said before, and comes late, is known to be old.
    pub(super) fn take_back(&mut self, mut is_over: impl FnMut(NodeId, u64) -> bool) {
        self.reports.retain_mut(|heard| {
            if heard.is_held && is_over(heard.node, heard.life) {
                (heard.is_held, heard.devices, heard.blocked) = (false, Vec::new(), Box::default());
                return true;
            }
            heard.is_held || !std::mem::replace(&mut heard.is_old, true)
        });
    }

    /// Forgets everything that other nodes said.
    pub(super) fn forget(&mut self) {
        self.reports = Vec::new();
    }

    /// Whether there is something for [`Self::take_back`] to do.
    pub(super) fn has_any(&self, mut is_over: impl FnMut(NodeId, u64) -> bool) -> bool {
        self.reports.iter().any(|heard| !heard.is_held || is_over(heard.node, heard.life))
    }

    /// Which nodes are known to have devices, or to have had some, with the epochs of what they said.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> {
        self.reports.iter().map(|heard| Known { node: heard.node.0.into(), epoch: heard.epoch, is_held: heard.is_held })
    }

    /// What others were told last is said again, above what one of them believes to be newer.
    pub(super) fn tell_above(&mut self, epoch: u64) {
        if let Some(told) = &mut self.told {
            told.epoch = epoch;
        }
    }

    /// What is seen of a person with these devices here and those that are known of elsewhere. A device that moves is at two
    /// nodes for a while, and counts once.
    pub(crate) fn view<'a>(&'a self, here: impl Iterator<Item = &'a Online>) -> View {
        let here = here.map(|online| (&online.device.as_bytes()[..], online.set_at, online.state, &online.status));
        let there = self.reports.iter().flat_map(|heard| &heard.devices);
        let there = there.map(|shown| (&shown.device[..], shown.set_at, shown.state(), &shown.status));
        let mut seen: Vec<(&[u8], u64, PresenceState, &Bytes)> = Vec::new();
        for sight in here.chain(there) {
            match seen.iter_mut().find(|other| other.0 == sight.0) {
                Some(other) if other.1 < sight.1 => *other = sight,
                Some(_) => {}
                None => seen.push(sight),
            }
        }
        let devices = seen.len() as u32;
        let newest = seen.into_iter().max_by_key(|(device, set_at, ..)| (*set_at, *device));
        newest.map_or_else(View::default, |(_, _, state, status)| View { state, devices, status: status.clone() })
    }

    /// When the newest state that is known of was set.
    pub(crate) fn set_at(&self) -> u64 {
        let shown = self.reports.iter().flat_map(|heard| &heard.devices);
        shown.map(|shown| shown.set_at).max().unwrap_or_default()
    }
}

/// Tells other nodes what is true of a person here, if that is news: at once, or with `timers` as soon as the interval allows
/// . A single relay tells nobody.
pub(crate) fn tell_others(
    directory: &Directory,
    identity: IdentityKey,
    person: &mut Person,
    timers: Option<&mut Timers>,
    now: Now,
    outbox: &mut Outbox,
) {
    let is_believed_in = person.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.is_believed_in());
    if !outbox.homes().is_clustered() || (person.devices.is_empty() && !is_believed_in) {
        return;
    }
    let mut report = report_of(identity, person);
    let elsewhere = person.elsewhere.get_or_insert_default();
    if elsewhere.told.as_ref().is_some_and(|told| told.says_what(&report)) {
        return;
    }
    let is_at_once = timers.is_none();
    if let Some(timers) = timers
        && let Some(at) = elsewhere.quiet_until.filter(|at| *at > now.instant)
    {
        if !std::mem::replace(&mut elsewhere.is_scheduled, true) {
            timers.insert(at, Due::Report(identity));
        }
        return;
    }
    // What has to be told at once does not make what follows wait: a device comes first, and then says how it is seen.
    if !is_at_once {
        elsewhere.quiet_until = Some(now.instant + directory.limits().presence_interval);
    }
    report.epoch = directory.next_report(now, 0);
    let words = |report: &Report| (report.generation, report.revocation_number);
    let is_word_new = words(&report) != elsewhere.told.as_ref().map_or_else(Default::default, words);
    let bytes = Said::Report(report.clone()).to_bytes();
    outbox.errand(Errand::Bus(BusErrand::Tell(Topic::Watchers(identity), bytes.clone())));
    // Other nodes with devices of theirs act on what was taken back.
    if is_word_new {
        outbox.errand(Errand::Bus(BusErrand::Tell(Topic::Holders(identity), bytes)));
    }
    elsewhere.told = report.is_held.then_some(report);
    if !elsewhere.is_believed_in() {
        tune(identity, outbox);
    }
}

/// What a node that asks is told: what all were told last; or, where nobody is there any more, what they took back.
pub(super) fn told(directory: &Directory, identity: &IdentityKey) -> Option<Report> {
    let person = directory.people.get(identity)?;
    let told = person.elsewhere.as_ref().and_then(|elsewhere| elsewhere.told.clone());
    told.or_else(|| (person.devices.is_empty() && person.revocation.is_some()).then(|| report_of(*identity, &person)))
}

fn report_of(identity: IdentityKey, person: &Person) -> Report {
    let seen = person.devices.iter().filter(|online| online.state != PresenceState::Invisible);
    let devices = seen.map(|online| Shown {
        device: Bytes::copy_from_slice(online.device.as_bytes()),
        state: online.state.into(),
        status: online.status.clone(),
        set_at: online.set_at,
    });
    let mut blocked: Vec<u64> = person.devices.iter().flat_map(|online| online.blocked.iter().map(prefix)).collect();
    blocked.sort_unstable();
    blocked.dedup();
    let mut shut_out = BytesMut::with_capacity(blocked.len() * size_of::<u64>());
    blocked.into_iter().for_each(|prefix| shut_out.put_u64(prefix));
    let word = person.revocation.as_ref();
    Report {
        identity: key_bytes(&identity),
        epoch: 0,
        is_held: !person.devices.is_empty(),
        devices: devices.collect(),
        blocked: shut_out.freeze(),
        generation: person.generation,
        revocation: word.map(|word| word.to_bytes().into()).unwrap_or_default(),
        revocation_number: word.map_or(0, |word| word.number),
    }
}
