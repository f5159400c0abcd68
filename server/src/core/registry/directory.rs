//! What all shards share: who is online, which rings and rooms there are, which tracks.
//!
//! Sharded maps, touched by connect, watch, ring, join, publish and subscribe; never by a packet. Entries of two of them are
//! held together only in the order that `table.rs` states, so nothing can deadlock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use supernode_proto::{
    control::{PresenceState, TrackKind},
    identity::{DeviceKey, IdentityKey, JoinKey, Revocation, RoomId},
    object::TrackAlias,
};

use super::{
    mailbox::Mailbox,
    push::Wakeable,
    table::{Rank, Table},
};
use crate::core::{
    Fence, MemberId, Now, RingId, SessionId,
    abroad::{Elsewhere, Visit, legs::Part},
    control::Refusal,
    grants::{
        accounts::Accounts,
        limits::Limits,
        pool::{FLOOR_BYTES, Pool, Share},
        push_services::PushServices,
    },
};

/// The shared tables.
#[derive(Debug)]
pub struct Directory {
    limits: ArcSwap<Limits>,
    pub(crate) accounts: Accounts,
    pub(crate) people: Table<IdentityKey, Person>,
    pub(crate) rings: Table<RingId, Ring>,
    pub(crate) rooms: Table<RoomId, Room>,
    /// Rooms with members here and their home at another node.
    pub(crate) visits: Table<RoomId, Visit>,
    pub(crate) tracks: Table<TrackAlias, TrackEntry>,
    /// Bytes that the rooms' mailboxes keep.
    pub(crate) mailboxes_bytes: Arc<AtomicUsize>,
    /// Bytes that sessions keep in tables: watches, subscriptions, tracks, key packages.
    pub(crate) tables: Pool,
    /// Bytes that clients may have on their way to the relay, and QUIC on its way to them.
    pub(crate) windows: Pool,
    rooms_open: Arc<AtomicUsize>,
    push_endpoints: Arc<AtomicUsize>,
    /// Where people can be woken, if the operator wants that.
    push_services: OnceLock<PushServices>,
    sessions: AtomicU32,
    draining: AtomicU64,
    /// The number of the last report to other nodes.
    reports: AtomicU64,
    /// Until when this node is surely the home of what it is the home of, and which decisions are of an earlier life of it.
    homes_held: ArcSwapOption<(Instant, Fence)>,
}

/// A place among those of a kind that the relay may have: given back when what has it goes.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// One of so many at most; how many are taken if there is none left.
    fn take(taken: &Arc<AtomicUsize>, max: u64) -> Result<Self, u64> {
        // Taken first and given back by the place itself if it was one too many.
        let place = Self(taken.clone());
        let before = taken.fetch_add(1, Ordering::Relaxed) as u64;
        if before < max { Ok(place) } else { Err(before) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One identity that has a device online, a watcher or a place where it can be woken.
#[derive(Debug, Default)]
pub(crate) struct Person {
    pub(crate) devices: Vec<Online>,
    pub(crate) watchers: Vec<Watcher>,
    /// Devices of theirs that count no more: the newest word that a device of theirs has brought.
    pub(crate) revocation: Option<Box<Revocation>>,
    /// Tickets of a lower one are void: the highest that a device of theirs has named.
    pub(crate) generation: u32,
    /// What watchers were told last.
    pub(crate) announced: Announced,
    /// When they may be told again.
    pub(crate) quiet_until: Option<Instant>,
    /// Whether an announcement is scheduled.
    pub(crate) scheduled: bool,
    /// Where they can be woken. Most people say nothing of it.
    pub(crate) push: Option<Box<Wakeable>>,
    /// What is known of them at other nodes, and what those know.
    pub(crate) elsewhere: Option<Box<Elsewhere>>,
}

/// A session that is told about somebody, as long as they let it be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    pub(crate) session: SessionId,
    pub(crate) identity: IdentityKey,
    /// Of its ticket.
    pub(crate) generation: u32,
}

/// A device that is online.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) device: DeviceKey,
    pub(crate) session: SessionId,
    /// When its session began. Unit: milliseconds since 1970.
    pub(crate) since_ms: u64,
    pub(crate) state: PresenceState,
    pub(crate) status: Bytes,
    /// Order in which states were set: the newest speaks for the person. It follows the clock, so that states of several nodes
    /// have an order, too.
    pub(crate) set_at: u64,
    pub(crate) key_packages: Vec<Bytes>,
    /// What status and key packages take of the relay's tables.
    pub(crate) kept: Share,
    /// Handed out again and again once the others are gone.
    pub(crate) last_resort: Option<Bytes>,
    /// Whom its owner shuts out, in order.
    pub(crate) blocked: Box<[IdentityKey]>,
    /// Whether this session has named them: else they are of the one before.
    pub(crate) has_named: bool,
    /// What rings there, and whose rings they are.
    pub(crate) ringing: Vec<(RingId, IdentityKey)>,
}

/// A millisecond has 1,024 numbers for reports.
const REPORTS_PER_MS_BITS: u32 = 10;

/// What it takes to keep a key package, beside its bytes.
const KEY_PACKAGE_BYTES: usize = 64;

/// What a watcher sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced {
    pub(crate) epoch: u64,
    pub(crate) view: View,
    /// Whether somebody who was let in was told something else since: the next announcement is made even if it says this.
    pub(crate) is_partial: bool,
}

/// A person's presence as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    pub(crate) state: PresenceState,
    pub(crate) devices: u32,
    pub(crate) status: Bytes,
}

/// A call attempt that is not settled.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) caller: SessionId,
    /// Whose devices still ring, at this node.
    pub(crate) devices: Vec<(IdentityKey, SessionId)>,
    /// Whether one of those that no longer ring said busy.
    pub(crate) busy: bool,
    /// What it has to do with other nodes.
    pub(crate) abroad: Option<Box<Part>>,
}

/// A room with at least one member.
#[derive(Debug)]
pub(crate) struct Room {
    #[expect(dead_code, reason = "gives the place back when the room goes")]
    pub(crate) place: Place,
    pub(crate) join_key: JoinKey,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) member_next: MemberId,
    pub(crate) mailbox: Mailbox,
    /// Members whose session ended, and that may catch up.
    pub(crate) away: BTreeMap<MemberId, Away>,
    /// When commits were rejected, by whose they were.
    pub(crate) rejected: BTreeMap<IdentityKey, Vec<Instant>>,
}

/// A device that was a member until its session ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Away {
    pub(crate) device: DeviceKey,
    pub(crate) since: Instant,
}

/// A session in a room.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) session: SessionId,
    pub(crate) identity: IdentityKey,
    pub(crate) device: DeviceKey,
    pub(crate) tracks: Vec<TrackAlias>,
}

impl Room {
    /// Whether whoever is in has the keys of a label that is sealed in this epoch, or is about to: the group is not further.
    /// Who came later never had those of an earlier one, and the others forget them.
    pub(crate) fn settles(&self, mls_epoch: u64) -> bool {
        mls_epoch >= self.mailbox.epoch()
    }
}

/// Where a track comes from.
#[derive(Debug, Clone)]
pub(crate) struct TrackEntry {
    pub(crate) room: RoomId,
    pub(crate) member: MemberId,
    pub(crate) publisher: SessionId,
    pub(crate) kind: TrackKind,
    pub(crate) label: Bytes,
    /// Members with this number or a higher one may have no keys for the label.
    pub(crate) newcomers_from: MemberId,
    /// Whether its objects say how lively they are.
    pub(crate) activity: bool,
}

/// How full the tables are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Population {
    /// Authenticated sessions.
    pub sessions: u64,
    /// Identities with a device, a watcher or a push endpoint.
    pub people: u64,
    /// Unsettled rings.
    pub rings: u64,
    /// Rooms.
    pub rooms: u64,
    /// Published tracks.
    pub tracks: u64,
    /// Bytes that the rooms' mailboxes keep.
    pub mailboxes_bytes: u64,
    /// Places where devices can be woken.
    pub push_endpoints: u64,
}

impl Person {
    /// Whether every ticket helps everybody, as with most people.
    pub(crate) fn lets_everybody(&self) -> bool {
        self.generation == 0
            && self.devices.iter().all(|online| online.blocked.is_empty())
            && self.elsewhere.as_ref().is_none_or(|elsewhere| elsewhere.blocks_nobody())
    }

    /// Whether a ticket of this generation still helps this identity. To whom it does not, the person is offline.
    pub(crate) fn lets(&self, identity: &IdentityKey, generation: u32) -> bool {
        let blocks = |online: &Online| online.blocked.binary_search(identity).is_ok();
        generation >= self.generation
            && !self.devices.iter().any(blocks)
            && !self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.blocks(identity))
    }
}

impl Online {
    /// Whether others can ring here: not while its owner wants to be invisible. A device that has said nothing yet can be
    /// rung, and is not seen.
    pub(crate) fn can_be_rung(&self) -> bool {
        self.state != PresenceState::Invisible || self.set_at == 0
    }

    /// Bytes that status and key packages take, with so much more, and with another last resort if there is one.
    pub(crate) fn kept_with(&self, status: usize, packages: &[Bytes], last_resort: Option<&Bytes>) -> usize {
        let last_resort = last_resort.or(self.last_resort.as_ref());
        let packages = self.key_packages.iter().chain(packages).chain(last_resort);
        status + packages.map(|package| package.len() + KEY_PACKAGE_BYTES).sum::<usize>()
    }

    /// Counts anew what it keeps.
    pub(crate) fn recount(&mut self) {
        let kept = self.kept_with(self.status.len(), &[], None);
        self.kept.set(kept);
    }
}

impl Room {
    /// The member, if this session is still the one behind the number: a kick takes effect here first, and reaches the
    /// session's own shard by mail.
    pub(crate) fn member_of(&mut self, member: MemberId, session: SessionId) -> Option<&mut Member> {
        self.members.get_mut(&member).filter(|entry| entry.session == session)
    }

    /// Commits of an identity that were rejected lately.
    pub(crate) fn rejected_lately(&self, identity: &IdentityKey, now: Instant, limits: &Limits) -> u32 {
        let times = self.rejected.get(identity).map_or(&[][..], Vec::as_slice);
        let lately = |at: &&Instant| now.saturating_duration_since(**at) < limits.rejected_commits_span;
        times.iter().filter(lately).count() as u32
    }

    /// Everybody who is in.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.members.values().map(|member| member.session)
    }
}

impl Directory {
    /// Empty tables under these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            accounts: Accounts::default(),
            people: Table::new(Rank::People),
            rings: Table::new(Rank::Rings),
            rooms: Table::new(Rank::Rooms),
            visits: Table::new(Rank::Visits),
            tracks: Table::new(Rank::Tracks),
            mailboxes_bytes: Arc::default(),
            tables: Pool::with_floor(FLOOR_BYTES),
            windows: Pool::default(),
            rooms_open: Arc::default(),
            push_endpoints: Arc::default(),
            push_services: OnceLock::new(),
            sessions: AtomicU32::new(0),
            draining: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            homes_held: ArcSwapOption::empty(),
        }
    }

    /// The limits of now, for what is not done per packet: the hot path has [`crate::core::ShardCore::limits`].
    pub fn limits(&self) -> arc_swap::Guard<Arc<Limits>> {
        self.limits.load()
    }

    /// The limits from now on. What was granted under the old ones stays.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// A copy of the limits that can be kept.
    pub(crate) fn limits_now(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Identities of which is known what they have used up, with and without a session.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// How full the tables are. Counts map by map: a snapshot only while nothing changes.
    pub fn population(&self) -> Population {
        Population {
            sessions: u64::from(self.sessions.load(Ordering::Relaxed)),
            people: self.people.len() as u64,
            rings: self.rings.len() as u64,
            rooms: self.rooms.len() as u64,
            tracks: self.tracks.len() as u64,
            mailboxes_bytes: self.mailboxes_bytes.load(Ordering::Relaxed) as u64,
            push_endpoints: self.push_endpoints.load(Ordering::Relaxed) as u64,
        }
    }

    /// Starts nothing new from now on: rings, rooms and sessions are refused.
    pub fn start_draining(&self) {
        self.draining.store(1, Ordering::Relaxed);
    }

    /// Whether [`Self::start_draining`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) != 0
    }

    /// Bytes that clients may have on their way to the relay, and QUIC on its way to them.
    pub fn windows(&self) -> &Pool {
        &self.windows
    }

    /// Rooms with their home at another node that somebody here has to do with.
    pub fn visits(&self) -> usize {
        self.visits.len()
    }

    /// Takes a place for a room, if there is one.
    pub(crate) fn open_room(&self) -> Result<Place, Refusal> {
        let max = u64::from(self.limits.load().relay_rooms_max);
        Place::take(&self.rooms_open, max).map_err(|taken| Refusal::limit("relay_rooms_max", taken, max))
    }

    /// Takes a place for where a device can be woken, if there is one.
    pub(crate) fn open_push_endpoint(&self) -> Result<Place, Refusal> {
        let max = u64::from(self.limits.load().push_endpoints_max);
        Place::take(&self.push_endpoints, max).map_err(|taken| Refusal::limit("push_endpoints_max", taken, max))
    }

    /// From now on people can be woken through these services. Said once, before anybody is there.
    pub fn wake_by(&self, services: PushServices) {
        // Whoever says it again is not heard.
        let _ = self.push_services.set(services);
    }

    /// Through which services people can be woken; `None` if they cannot.
    pub fn push_services(&self) -> Option<&PushServices> {
        self.push_services.get()
    }

    /// Until then no other node of a cluster takes this one for dead: it may act as the home of rooms, by decisions of
    /// the epoch of `since` that came after it. Those before are of an earlier life, or none of its own.
    pub fn hold_homes_until(&self, until: Instant, since: Fence) {
        self.homes_held.store(Some(Arc::new((until, since))));
    }

    /// Whether this node may act as the home of rooms now.
    pub fn homes_valid(&self, now: Instant) -> bool {
        self.homes_held.load().as_ref().is_some_and(|held| now < held.0)
    }

    /// Whether it may act as the home that this decision has made it.
    pub fn acts_as_home(&self, by: Fence, now: Instant) -> bool {
        let is_of_this_life = |since: Fence| by.epoch == since.epoch && by.revision > since.revision;
        self.homes_held.load().as_ref().is_some_and(|held| now < held.0 && is_of_this_life(held.1))
    }

    /// A number for a report to other nodes, above all that this node has used. It follows the clock, so that it is above
    /// those of an earlier process as well; of a thousand reports a millisecond, no later one is below an earlier one.
    /// It is above `known`, too, which another node has heard of this one.
    pub(crate) fn next_report(&self, now: Now, known: u64) -> u64 {
        let next = |last: u64| (last.max(known) + 1).max(now.unix_ms << REPORTS_PER_MS_BITS);
        let last = self.reports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        next(last.unwrap_or_default())
    }

    /// Takes a place for a session, if there is one.
    pub(crate) fn enter(&self) -> bool {
        let max = self.limits.load().sessions_max;
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1))
            .is_ok()
    }

    /// Gives the place back.
    pub(crate) fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    //
    #[test]
    fn a_rejected_commit_counts_for_a_while() {
        let (identity, start) = (IdentityKey::new([1; 32]), Instant::now());
        let limits = Limits { rejected_commits_span: Duration::from_secs(10), ..Limits::default() };
        let room = Room {
            place: Place(Arc::new(AtomicUsize::new(1))),
            join_key: JoinKey::new([3; 32]),
            members: BTreeMap::new(),
            member_next: 1,
            mailbox: Mailbox::new(0, Arc::default()),
            away: BTreeMap::new(),
            rejected: BTreeMap::from([(identity, vec![start, start + Duration::from_secs(5)])]),
        };
        let after = |seconds| room.rejected_lately(&identity, start + Duration::from_secs(seconds), &limits);
        assert_eq!([after(6), after(10), after(15)], [2, 1, 0]);
        assert_eq!(room.rejected_lately(&IdentityKey::new([2; 32]), start, &limits), 0);
    }
}
