//! A room's blind mailbox: the order of its group messages, what is kept of them, and which commit counts.
//!
//! The relay reads nothing of a message but its envelope, and what MLS shows of it must be the same. It numbers
//! messages, lets the first commit of an epoch win, and opens the epoch again when most members say that they cannot
//! process that commit.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use supernode_proto::{
    control::{MlsDelivery, RefusalReason, SendMls},
    identity::{IdentityKey, JoinKey},
    limits as wire,
};

use super::directory::Member;
use crate::core::{MemberId, SessionId, control::Refusal, counts::Counts, grants::limits::Limits};

/// A room keeps no more than this part of what the histories of all rooms leave free: so there is something left for those
/// that have little. The rooms of one identity, 128 by default, leave others more than a third of it.
const FREE_PART: usize = 128;

/// One room's mailbox. Its history is bounded by three limits, and what it takes is counted in `kept_bytes`.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Which epoch the next commit must carry.
    epoch: u64,
    sequence: u64,
    history: VecDeque<MlsDelivery>,
    bytes: usize,
    /// Number of the last message that a bound has pushed out.
    gone: u64,
    /// What the mailboxes of all rooms keep.
    kept_bytes: Arc<AtomicUsize>,
    last_commit: Option<Commit>,
}

/// The commit that a reject may name: the last one.
#[derive(Debug)]
struct Commit {
    sequence: u64,
    epoch: u64,
    sender: Sender,
    rejected_by: BTreeSet<MemberId>,
}

/// Who sends a message, and what the room was like then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    /// Its number.
    pub(crate) member: MemberId,
    /// In which session.
    pub(crate) session: SessionId,
    /// Whose.
    pub(crate) identity: IdentityKey,
    /// The room's, before the message.
    pub(crate) join_key: JoinKey,
    /// Members with this number or a higher one were not there yet.
    pub(crate) newcomers_from: MemberId,
    /// When.
    pub(crate) at: Instant,
}

/// A commit that no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Who sent it.
    pub(crate) member: MemberId,
    /// In which session.
    pub(crate) session: SessionId,
    /// How many other identities said so.
    pub(crate) identities: usize,
    /// The room's join key again: the commit may have brought another one.
    pub(crate) join_key: JoinKey,
}

impl Mailbox {
    /// An empty mailbox of a room whose group is in this epoch, as whoever opens it says. `kept_bytes` is shared by
    /// all of a relay.
    pub(crate) fn new(epoch: u64, kept_bytes: Arc<AtomicUsize>) -> Self {
        Self { epoch, sequence: 0, history: VecDeque::new(), bytes: 0, gone: 0, kept_bytes, last_commit: None }
    }

    /// The epoch that the next commit must carry.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last message's number.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Numbers a message and keeps it. The first commit of an epoch wins.
    pub(crate) fn accept(
        &mut self,
        sent: SendMls,
        sender: Sender,
        limits: &Limits,
        counts: &mut Counts,
    ) -> Result<MlsDelivery, Refusal> {
        if sent.commit {
            let current = self.epoch;
            if sent.epoch != current && !crate::planted::planted!(TwoCommits) {
                return Err(conflict(sent.epoch, current));
            }
            let next = current.checked_add(1).ok_or(Refusal::field("epoch", current, u64::MAX - 1))?;
            self.epoch = next;
            let (sequence, rejected_by) = (self.sequence + 1, BTreeSet::new());
            self.last_commit = Some(Commit { sequence, epoch: current, sender, rejected_by });
        }
        self.sequence += 1;
        let delivery = MlsDelivery {
            room: sent.room,
            sequence: self.sequence,
            epoch: sent.epoch,
            commit: sent.commit,
            from_member: sender.member,
            payload: sent.payload,
            join_key: if sent.commit { sent.join_key } else { Bytes::new() },
        };
        self.keep(&delivery, limits, counts);
        Ok(delivery)
    }

    /// What came after a message, in order.
    pub(crate) fn since(&self, after: u64) -> Result<impl Iterator<Item = &MlsDelivery>, Refusal> {
        let oldest = self.gone + 1;
        // Beyond the last one: the room was opened anew, and its numbers mean something else.
        if after > self.sequence || (after + 1 < oldest && after != 0) {
            return Err(Refusal { value: after, bound: oldest, ..Refusal::of(RefusalReason::HistoryGone) });
        }
        Ok(self.history.iter().filter(move |kept| kept.sequence > after))
    }

    /// What is left of what others than `member` sent after a message, in order: what is missing shows in the numbers.
    /// `None` if nothing is left.
    pub(crate) fn still_after(&self, after: u64, member: MemberId) -> Option<Vec<MlsDelivery>> {
        let kept = || self.history.iter().filter(|kept| kept.sequence > after);
        let missed = kept().filter(|kept| kept.from_member != member).cloned().collect();
        (self.gone <= after || kept().next().is_some()).then_some(missed)
    }

    /// A member says that it cannot process the last commit. Once more than half of the other people who were there when
    /// it was accepted, and still are, have said so, its epoch is open again and it is forgotten. A person is an
    /// identity, whatever the number of its devices, and the sender's has no voice: who came in later came in by the
    /// commit.
    pub(crate) fn reject(
        &mut self,
        voter: MemberId,
        (epoch, sequence): (u64, u64),
        members: &BTreeMap<MemberId, Member>,
        now: Instant,
    ) -> Result<Option<Rejected>, Refusal> {
        let current = self.epoch();
        let commit = self.last_commit.as_mut().filter(|last| (last.epoch, last.sequence) == (epoch, sequence));
        let commit = commit.ok_or_else(|| conflict(epoch, current))?;
        let Sender { member, session, identity: own, join_key, newcomers_from, at } = commit.sender;
        if members.get(&voter).is_some_and(|voter| voter.identity == own) {
            return Err(Refusal::field("sequence", sequence, 0));
        }
        if now.saturating_duration_since(at).as_secs() >= wire::REJECTION_WINDOW_S {
            return Err(conflict(epoch, current));
        }
        commit.rejected_by.insert(voter);
        let there = || members.range(..newcomers_from).filter(|(_, member)| member.identity != own);
        let people: BTreeSet<IdentityKey> = there().map(|(_, member)| member.identity).collect();
        let voters = there().filter(|(number, _)| commit.rejected_by.contains(number));
        let against: BTreeSet<IdentityKey> = voters.map(|(_, member)| member.identity).collect();
        if against.len() * 2 <= people.len() {
            return Ok(None);
        }
        let rejected = Rejected { member, session, identities: against.len(), join_key };
        self.epoch = epoch;
        self.last_commit = None;
        if let Some(position) = self.history.iter().position(|kept| kept.sequence == sequence)
            && let Some(junk) = self.history.remove(position)
        {
            self.forget(junk.payload.len());
        }
        Ok(Some(rejected))
    }

    fn keep(&mut self, delivery: &MlsDelivery, limits: &Limits, counts: &mut Counts) {
        let bytes = delivery.payload.len();
        self.bytes += bytes;
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.history.push_back(delivery.clone());
        loop {
            let is_full = self.history.len() > limits.mailbox_messages_max || self.bytes > limits.mailbox_bytes_max;
            let free = limits.mailboxes_bytes_max.saturating_sub(self.kept_bytes.load(Ordering::Relaxed));
            let is_crowded = self.bytes > free / FREE_PART;
            if !is_full && !is_crowded {
                return;
            }
            let Some(oldest) = self.history.pop_front() else { return };
            if !is_full {
                counts.limit("mailboxes_bytes_max");
            }
            self.gone = oldest.sequence;
            self.forget(oldest.payload.len());
        }
    }

    fn forget(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn conflict(epoch: u64, current: u64) -> Refusal {
    Refusal { value: epoch, bound: current, ..Refusal::of(RefusalReason::EpochConflict) }
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::DeviceKey;

    use super::*;
    use crate::core::{Address, ShardId, counts::LIMITS};

    fn session(link: u32) -> SessionId {
        SessionId { at: Address::local(ShardId(0)), link, generation: 0 }
    }

    fn members(count: u32) -> BTreeMap<MemberId, Member> {
        let device = DeviceKey::new([2; 32]);
        let identity = |number: u32| IdentityKey::new([number as u8; 32]);
        let member = |number| {
            (number, Member { session: session(number), identity: identity(number), device, tracks: Vec::new() })
        };
        (1..=count).map(member).collect()
    }

    /// Member 1, in a room of five.
    fn sender() -> Sender {
        let (member, identity, join_key) = (1, IdentityKey::new([1; 32]), JoinKey::new([3; 32]));
        Sender { member, session: session(1), identity, join_key, newcomers_from: 6, at: Instant::now() }
    }

    fn message(epoch: u64, commit: bool, bytes: usize) -> SendMls {
        let (room, payload) = (vec![7; 16].into(), vec![9; bytes].into());
        SendMls { room, epoch, commit, payload, join_key: Bytes::new() }
    }

    fn mailbox() -> (Mailbox, Arc<AtomicUsize>) {
        let kept_bytes = Arc::new(AtomicUsize::new(0));
        (Mailbox::new(7, kept_bytes.clone()), kept_bytes)
    }

    fn send(mailbox: &mut Mailbox, sent: SendMls, limits: &Limits) -> u64 {
        mailbox.accept(sent, sender(), limits, &mut Counts::default()).expect("accepted").sequence
    }

    //
    #[test]
    fn what_is_kept_is_bounded_in_count_and_in_bytes() {
        let (mut first, kept_bytes) = mailbox();
        let limits = Limits { mailbox_messages_max: 3, mailbox_bytes_max: 100, ..Limits::default() };
        let sequences =
            |mailbox: &Mailbox| mailbox.since(0).expect("all").map(|kept| kept.sequence).collect::<Vec<_>>();
        for _ in 0..5 {
            send(&mut first, message(0, false, 10), &limits);
        }
        assert_eq!(sequences(&first), [3, 4, 5], "no more than three messages");
        send(&mut first, message(0, false, 85), &limits);
        assert_eq!(sequences(&first), [5, 6], "no more than 100 bytes");
        assert_eq!(kept_bytes.load(Ordering::Relaxed), 95);
        drop(first);
        assert_eq!(kept_bytes.load(Ordering::Relaxed), 0);
    }

    //
    #[test]
    fn rooms_that_keep_all_they_can_leave_others_their_share() {
        let kept_bytes = Arc::new(AtomicUsize::new(0));
        let limits = Limits { mailbox_bytes_max: 10_000, mailboxes_bytes_max: 1_280_000, ..Limits::default() };
        let fill = |mailbox: &mut Mailbox, counts: &mut Counts| {
            for _ in 0..200 {
                mailbox.accept(message(0, false, 100), sender(), &limits, counts).expect("accepted");
            }
        };
        let (mut hoard, mut counts) = (Vec::new(), Counts::default());
        let alone = mailbox_of(&kept_bytes, &fill, &mut counts);
        assert_eq!(alone.bytes, 9_900, "alone a room keeps nearly all it may");
        for _ in 0..128 {
            hoard.push(mailbox_of(&kept_bytes, &fill, &mut counts));
        }
        let last = mailbox_of(&kept_bytes, &fill, &mut counts);
        assert!(last.bytes >= 3_000, "{} bytes for who comes last", last.bytes);
        let mut first = hoard.remove(0);
        fill(&mut first, &mut counts);
        assert!(first.bytes <= last.bytes + 200, "and who has more gives it back when it goes on: {}", first.bytes);
        assert!(kept_bytes.load(Ordering::Relaxed) < 1_280_000);
        let place = LIMITS.iter().position(|limit| *limit == "mailboxes_bytes_max").expect("in the table");
        assert!(counts.limits[place] > 0, "it is counted");
    }

    fn mailbox_of(
        kept_bytes: &Arc<AtomicUsize>,
        fill: &impl Fn(&mut Mailbox, &mut Counts),
        counts: &mut Counts,
    ) -> Mailbox {
        let mut mailbox = Mailbox::new(7, kept_bytes.clone());
        fill(&mut mailbox, counts);
        mailbox
    }

    //
    #[test]
    fn who_was_away_gets_what_it_missed_or_is_told_that_it_is_gone() {
        let (mut mailbox, _) = mailbox();
        let limits = Limits { mailbox_messages_max: 3, ..Limits::default() };
        for _ in 0..5 {
            send(&mut mailbox, message(0, false, 10), &limits);
        }
        let since = |after| mailbox.since(after).map(|missed| missed.map(|kept| kept.sequence).collect::<Vec<_>>());
        assert_eq!(since(3), Ok(vec![4, 5]));
        assert_eq!(since(2), Ok(vec![3, 4, 5]));
        assert_eq!(since(5), Ok(vec![]));
        assert_eq!(since(0), Ok(vec![3, 4, 5]), "zero asks for whatever there is");
        for gone in [1, 6] {
            let refusal = since(gone).expect_err("gone");
            assert_eq!((refusal.reason, refusal.value, refusal.bound), (RefusalReason::HistoryGone, gone, 3));
        }
    }

    //
    #[test]
    fn most_of_the_others_open_the_epoch_again() {
        let (mut mailbox, kept_bytes) = mailbox();
        let (limits, mut all, now) = (Limits::default(), members(5), Instant::now());
        let junk = send(&mut mailbox, message(7, true, 10), &limits);
        assert_eq!(mailbox.epoch(), 8);
        assert_eq!(mailbox.reject(2, (7, junk), &all, now), Ok(None));
        assert_eq!(mailbox.reject(2, (7, junk), &all, now), Ok(None), "one member has one voice");
        assert_eq!(mailbox.reject(3, (7, junk), &all, now), Ok(None), "two of four are not most");
        assert!(mailbox.reject(1, (7, junk), &all, now).is_err(), "its sender has none");
        all.remove(&5);
        let rejected = Rejected { member: 1, session: session(1), identities: 2, join_key: JoinKey::new([3; 32]) };
        assert_eq!(mailbox.reject(3, (7, junk), &all, now), Ok(Some(rejected)), "two of three are");
        assert_eq!(mailbox.epoch(), 7);
        assert_eq!(kept_bytes.load(Ordering::Relaxed), 0, "and nobody is sent it later");
        assert_eq!(mailbox.since(junk - 1).expect("nothing else is missing").count(), 0);
        let next = send(&mut mailbox, message(7, true, 10), &limits);
        assert_eq!(next, junk + 1);
        let refusal = mailbox.reject(2, (7, junk), &all, now).expect_err("it is no longer the last");
        assert_eq!(refusal.reason, RefusalReason::EpochConflict);
    }

    //
    #[test]
    fn a_person_has_one_voice_with_any_number_of_devices_and_newcomers_have_none() {
        let (mut mailbox, _) = mailbox();
        let (mut all, now) = (members(3), Instant::now());
        let another_device_of = |number: MemberId, all: &BTreeMap<MemberId, Member>| Member {
            session: session(number + 100),
            tracks: Vec::new(),
            identity: all[&number].identity,
            device: DeviceKey::new([9; 32]),
        };
        let (own, other) = (another_device_of(1, &all), another_device_of(3, &all));
        all.insert(4, other);
        all.insert(5, own);
        let commit = send(&mut mailbox, message(7, true, 10), &Limits::default());
        all.extend(members(9).into_iter().filter(|(number, _)| *number > 5));
        for voter in [3, 4, 6, 7, 8, 9] {
            assert_eq!(mailbox.reject(voter, (7, commit), &all, now), Ok(None), "one of two, whoever comes in later");
        }
        assert!(mailbox.reject(5, (7, commit), &all, now).is_err(), "the sender's other device has no voice");
        assert!(mailbox.reject(2, (7, commit), &all, now).expect("in time").is_some(), "both");
    }

    //
    #[test]
    fn a_commit_that_has_counted_for_a_while_cannot_be_rejected() {
        let (mut mailbox, _) = mailbox();
        let all = members(2);
        let commit = send(&mut mailbox, message(7, true, 10), &Limits::default());
        let late = Instant::now() + std::time::Duration::from_secs(wire::REJECTION_WINDOW_S);
        let refusal = mailbox.reject(2, (7, commit), &all, late).expect_err("too late");
        assert_eq!((refusal.reason, refusal.bound), (RefusalReason::EpochConflict, 8));
        assert!(mailbox.reject(2, (7, commit), &all, Instant::now()).expect("in time").is_some());
    }
}
