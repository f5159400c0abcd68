//! What each identity may still do: its allowances, shared by all of its devices and kept when it reconnects.
//!
//! An account is there while its identity has a session, and after that until all of its allowances are full again:
//! what has no debt need not be remembered. Accounts without a session are bounded in number; when there are too many,
//! the one that would be full again soonest goes first, because forgetting it forgives the least.
//!
//! An allowance is one moment: when it will be full. So a rate that an operator changes counts at once, a slow one
//! does not round to nothing, and an account is small. Whoever needs one for every packet borrows a slice of it and
//! comes back when that is used up (`Lease`): then devices of one identity on several shards share it without a lock
//! a packet.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use supernode_proto::identity::IdentityKey;

use super::limits::Limits;

/// Of what is granted in its time, the part that a session borrows at once. What sixteen idle devices of one identity
/// have borrowed is a quarter of its burst.
const SLICES: u64 = 64;
/// Refusals above the rate of requests that are answered before they are only counted, and then one a second. A client
/// that asks too fast learns it from the first; a flood is not worth more.
const ANSWERS_MAX: u64 = 16;

/// Something that an identity may do so often, or so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// Control requests.
    Requests,
    /// Refusals of requests above the rate.
    Answers,
    /// Requests above the rate, before the session ends.
    RequestsExcess,
    /// Rings that it starts.
    Rings,
    /// Objects that it sends.
    Objects,
    /// Bytes of them.
    Bytes,
    /// Objects above these rates, before the session ends.
    ObjectsExcess,
    /// Bytes that it puts into mailboxes.
    MlsBytes,
    /// Histories of rooms that it asks for.
    CatchUps,
    /// Beacons that it posts.
    Beacons,
    /// Key packages that it takes of others.
    Takes,
    /// Times that others take of its own.
    Given,
    /// Bytes that it is sent in a second.
    Egress,
    /// Bytes that it is sent in a day.
    EgressDay,
}

const ALLOWANCES: usize = Allowance::EgressDay as usize + 1;

/// So many in so long, and at most `burst` at once. Times are in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Grant {
    units: u64,
    per: u64,
    burst: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Allowance {
    fn grant(self, limits: &Limits) -> Grant {
        let per_second = |units: u64, bursts: u64| Grant { units, per: SECOND, burst: units * bursts };
        let per_minute = |units: u32| Grant { units: units.into(), per: 60 * SECOND, burst: units.into() };
        // A hundredth is forgiven every second.
        let patience = |units: u64| Grant { units, per: 100 * SECOND, burst: units };
        match self {
            Self::Requests => per_second(limits.requests_per_second_max.into(), 4),
            Self::Answers => Grant { burst: ANSWERS_MAX, ..per_second(1, 1) },
            Self::RequestsExcess => patience(limits.requests_excess_max.into()),
            Self::Rings => per_minute(limits.rings_per_minute_max),
            Self::Objects => per_second(limits.ingest_objects_per_second_max, 1),
            Self::Bytes => per_second(limits.ingest_bytes_per_second_max, 1),
            Self::ObjectsExcess => patience(limits.ingest_excess_objects_max),
            Self::MlsBytes => per_second(limits.mls_bytes_per_second_max, 4),
            Self::CatchUps => per_minute(limits.catch_ups_per_minute_max),
            Self::Beacons => per_minute(limits.beacons_per_minute_max),
            Self::Takes => per_minute(limits.key_packages_taken_per_minute_max),
            Self::Given => per_minute(limits.key_packages_given_per_minute_max),
            Self::Egress => per_second(limits.egress_bytes_per_second_max, 1),
            Self::EgressDay => day(limits.egress_bytes_per_day_max),
        }
    }
}

/// A day's worth, which comes back evenly.
fn day(units: u64) -> Grant {
    Grant { units, per: 24 * 3600 * SECOND, burst: units }
}

impl Grant {
    /// How long it takes until so many are granted anew.
    fn time_of(&self, units: u64) -> u64 {
        scaled(units, self.per, self.units)
    }

    /// How many are granted in this time.
    fn units_in(&self, nanos: u64) -> u64 {
        scaled(nanos, self.units, self.per)
    }
}

/// `a * b / c`. Every request asks for it, and hardly ever is a product so large that it takes a long division.
fn scaled(a: u64, b: u64, c: u64) -> u64 {
    match a.checked_mul(b) {
        Some(product) => product / c.max(1),
        None => u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX),
    }
}

/// How much of an allowance is used: until when it is not full, in nanoseconds since its account was made.
#[derive(Debug, Clone, Copy, Default)]
struct Level(u64);

impl Level {
    /// How long until it is full.
    fn debt(self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }

    /// Takes what there is, at least `min` or nothing, at most `max`.
    fn take(&mut self, grant: &Grant, (min, max): (u64, u64), now: u64) -> u64 {
        let debt = self.debt(now);
        // Whole units rounded down are one too few where the time of one is no whole number of nanoseconds.
        let there = match debt {
            0 => grant.burst,
            debt => grant.units_in(grant.time_of(grant.burst).saturating_sub(debt)),
        };
        if there < min || grant.units == 0 {
            return 0;
        }
        let taken = there.min(max);
        self.0 = now.saturating_add(debt).saturating_add(grant.time_of(taken));
        taken
    }

    /// Takes so many, whether they are there or not, and no further into debt than twice what may be saved up. Returns
    /// how long it takes until nothing is owed.
    fn charge(&mut self, grant: &Grant, units: u64, now: u64) -> Duration {
        let saved_max = grant.time_of(grant.burst);
        let debt = self.debt(now).saturating_add(grant.time_of(units)).min(saved_max.saturating_mul(2));
        self.0 = now.saturating_add(debt);
        Duration::from_nanos(debt.saturating_sub(saved_max))
    }

    fn is_used_up(self, grant: &Grant, now: u64) -> bool {
        self.debt(now).saturating_add(grant.time_of(grant.units / 24)) > grant.time_of(grant.burst)
    }

    /// Gives back what was taken and not used.
    fn give_back(&mut self, grant: &Grant, units: u64) {
        self.0 = self.0.saturating_sub(grant.time_of(units));
    }
}

/// One identity's allowances.
#[derive(Debug)]
pub(crate) struct Account(Mutex<State>);

#[derive(Debug)]
struct State {
    sessions: u32,
    /// When it was made.
    since: Instant,
    /// Its place among those without a session.
    idle_until: Option<Instant>,
    levels: [Level; ALLOWANCES],
}

impl State {
    fn new(since: Instant) -> Self {
        Self { sessions: 0, since, idle_until: None, levels: Default::default() }
    }

    /// When all of its allowances are full again.
    fn full_at(&self) -> Instant {
        let last = self.levels.iter().map(|level| level.0).max().unwrap_or_default();
        self.since.checked_add(Duration::from_nanos(last)).unwrap_or(self.since)
    }

    /// A level, and the time by which it goes.
    fn level(&mut self, what: Allowance, now: Instant) -> (&mut Level, u64) {
        let now = now.saturating_duration_since(self.since).as_nanos() as u64;
        (&mut self.levels[what as usize], now)
    }
}

impl Account {
    /// Takes so many of an allowance, if they are there.
    pub(crate) fn take(&self, what: Allowance, units: u64, limits: &Limits, now: Instant) -> bool {
        self.take_some(what, (units, units), limits, now) >= units
    }

    /// Charges for what has happened already; returns how long it takes until nothing is owed.
    pub(crate) fn charge(&self, what: Allowance, units: u64, limits: &Limits, now: Instant) -> Duration {
        let mut state = self.state();
        let (level, now) = state.level(what, now);
        level.charge(&what.grant(limits), units, now)
    }

    /// Whether hardly anything is left of an allowance: less than a 24th, so that a day's is not used up again at once.
    pub(crate) fn is_used_up(&self, what: Allowance, limits: &Limits, now: Instant) -> bool {
        let mut state = self.state();
        let (level, now) = state.level(what, now);
        level.is_used_up(&what.grant(limits), now)
    }

    fn take_some(&self, what: Allowance, range: (u64, u64), limits: &Limits, now: Instant) -> u64 {
        let mut state = self.state();
        let (level, now) = state.level(what, now);
        level.take(&what.grant(limits), range, now)
    }

    fn give_back(&self, what: Allowance, units: u64, limits: &Limits) {
        self.state().levels[what as usize].give_back(&what.grant(limits), units);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session has borrowed of an allowance: to use it up costs a comparison.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    left: u64,
}

impl Lease {
    /// Uses so many, if they are granted.
    pub(crate) fn take(&mut self, from: (&Account, Allowance), units: u64, limits: &Limits, now: Instant) -> bool {
        if self.left < units && !self.borrow(from, units, limits, now) {
            return false;
        }
        self.left -= units;
        true
    }

    /// The session has ended.
    pub(crate) fn give_back(&mut self, (account, what): (&Account, Allowance), limits: &Limits) {
        account.give_back(what, std::mem::take(&mut self.left), limits);
    }

    #[cold]
    fn borrow(&mut self, (account, what): (&Account, Allowance), units: u64, limits: &Limits, now: Instant) -> bool {
        let missing = units - self.left;
        let slice = what.grant(limits).units / SLICES;
        self.left += account.take_some(what, (missing, slice.max(missing)), limits, now);
        self.left >= units
    }
}

/// All accounts of a relay. Its locks are taken in this order: an entry of the map, the account in it, the list of idle ones.
#[derive(Debug, Default)]
pub struct Accounts {
    by_identity: DashMap<IdentityKey, Arc<Account>>,
    /// Those without a session, by when they are full again.
    idle: Mutex<BTreeSet<(Instant, [u8; 32])>>,
    /// What the relay itself has sent of its day's bytes.
    relay_day: Mutex<Option<State>>,
}

impl Accounts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_identity.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_identity.is_empty()
    }

    /// Charges the relay's day for bytes that it has sent; whether it may send more.
    pub(crate) fn charge_relay(&self, bytes: u64, limits: &Limits, now: Instant) -> bool {
        let grant = day(limits.relay_egress_bytes_per_day_max);
        if grant.units == 0 {
            return true;
        }
        let mut day = self.relay_day();
        let (level, now) = day.get_or_insert_with(|| State::new(now)).level(Allowance::EgressDay, now);
        level.charge(&grant, bytes, now).is_zero()
    }

    /// Whether the relay has sent nearly all it may in a day.
    pub(crate) fn is_relay_used_up(&self, limits: &Limits, now: Instant) -> bool {
        let grant = day(limits.relay_egress_bytes_per_day_max);
        let mut day = self.relay_day();
        day.as_mut().is_some_and(|state| {
            let (level, now) = state.level(Allowance::EgressDay, now);
            grant.units > 0 && level.is_used_up(&grant, now)
        })
    }

    fn relay_day(&self) -> MutexGuard<'_, Option<State>> {
        self.relay_day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of somebody who has one.
    pub(crate) fn of(&self, identity: &IdentityKey) -> Option<Arc<Account>> {
        self.by_identity.get(identity).map(|account| account.clone())
    }

    /// The account of somebody who begins a session.
    pub(crate) fn open(&self, identity: IdentityKey, now: Instant) -> Arc<Account> {
        let entry = self.by_identity.entry(identity).or_insert_with(|| Arc::new(Account(Mutex::new(State::new(now)))));
        let mut state = entry.state();
        state.sessions += 1;
        if let Some(until) = state.idle_until.take() {
            self.idle().remove(&(until, *identity.as_bytes()));
        }
        drop(state);
        entry.clone()
    }

    /// A session of somebody has ended. With it the account may go, and with one idle account too many another.
    pub(crate) fn close(&self, identity: IdentityKey, limits: &Limits, now: Instant) {
        if let Entry::Occupied(entry) = self.by_identity.entry(identity) {
            let mut state = entry.get().state();
            state.sessions = state.sessions.saturating_sub(1);
            if state.sessions == 0 {
                let until = state.full_at();
                if until > now {
                    state.idle_until = Some(until);
                    self.idle().insert((until, *identity.as_bytes()));
                } else {
                    drop(state);
                    entry.remove();
                }
            }
        }
        let surplus = |idle: &BTreeSet<_>| idle.len() > limits.accounts_idle_max as usize;
        self.forget_first(|idle, _| surplus(idle));
    }

    /// Forgets those that owe nothing any more.
    pub(crate) fn sweep(&self, now: Instant) {
        self.forget_first(|_, until| until <= now);
    }

    /// Forgets idle accounts from the one that is full again first on, as long as `goes` says so.
    fn forget_first(&self, goes: impl Fn(&BTreeSet<(Instant, [u8; 32])>, Instant) -> bool) {
        loop {
            let first = {
                let mut idle = self.idle();
                match idle.first().copied() {
                    Some(first) if goes(&idle, first.0) => {
                        idle.remove(&first);
                        first
                    }
                    _ => return,
                }
            };
            // It may have begun a session since.
            self.by_identity.remove_if(&IdentityKey::new(first.1), |_, account| {
                let state = account.state();
                state.sessions == 0 && state.idle_until == Some(first.0)
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, BTreeSet<(Instant, [u8; 32])>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn identity(number: u8) -> IdentityKey {
        IdentityKey::new([number; 32])
    }

    fn limits() -> Limits {
        Limits { requests_per_second_max: 10, rings_per_minute_max: 2, ..Limits::default() }
    }

    //
    #[test]
    fn reconnecting_refills_nothing() {
        let (accounts, limits, now) = (Accounts::default(), limits(), Instant::now());
        let mut granted = 0;
        for _ in 0..10 {
            let account = accounts.open(identity(1), now);
            granted += (0..10).filter(|_| account.take(Allowance::Rings, 1, &limits, now)).count();
            accounts.close(identity(1), &limits, now);
        }
        assert_eq!(granted, 2);
        accounts.sweep(now + 59_000 * MS);
        assert_eq!(accounts.len(), 1, "it is not full again");
        accounts.sweep(now + 60_000 * MS);
        assert!(accounts.is_empty() && accounts.idle().is_empty(), "and then nobody remembers it");
    }

    //
    #[test]
    fn an_allowance_grants_its_burst_and_then_its_rate_to_all_devices_together() {
        let (accounts, limits, start) = (Accounts::default(), limits(), Instant::now());
        let devices = [accounts.open(identity(1), start), accounts.open(identity(1), start)];
        let granted = |now| {
            let ask = |turn: usize| devices[turn % 2].take(Allowance::Requests, 1, &limits, now);
            (0..100).filter(|turn| ask(*turn)).count()
        };
        assert_eq!(granted(start), 40);
        assert_eq!(granted(start + 250 * MS), 2);
        assert_eq!(granted(start + 3_600_000 * MS), 40, "no more than the burst is saved");
    }

    #[test]
    fn what_is_borrowed_and_not_used_is_given_back() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        let limits = Limits { ingest_objects_per_second_max: 640, ..Limits::default() };
        let account = accounts.open(identity(1), now);
        let objects = (&*account, Allowance::Objects);
        let mut idle: Vec<Lease> = (0..16).map(|_| Lease::default()).collect();
        assert!(idle.iter_mut().all(|lease| lease.take(objects, 1, &limits, now)));
        let mut busy = Lease::default();
        let granted = (0..1000).filter(|_| busy.take(objects, 1, &limits, now)).count();
        assert_eq!(granted, 640 - 16 * 10, "each has borrowed a 64th");
        idle.iter_mut().for_each(|lease| lease.give_back(objects, &limits));
        let granted = (0..1000).filter(|_| busy.take(objects, 1, &limits, now)).count();
        assert_eq!(granted, 16 * 9);
    }

    //
    #[test]
    fn when_too_many_owe_something_those_that_owe_least_are_forgotten() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        let limits = Limits { accounts_idle_max: 3, ..limits() };
        for number in 1..=20 {
            let account = accounts.open(identity(number), now);
            for _ in 0..number {
                assert!(account.take(Allowance::Requests, 1, &limits, now));
            }
            accounts.close(identity(number), &limits, now);
        }
        assert_eq!((accounts.len(), accounts.idle().len()), (3, 3));
        let left = |number| {
            let account = accounts.open(identity(number), now);
            (0..100).filter(|_| account.take(Allowance::Requests, 1, &limits, now)).count()
        };
        assert_eq!([18, 19, 20].map(left), [22, 21, 20], "the deepest in debt are remembered");
        assert_eq!(left(17), 40);
    }

    #[test]
    fn what_was_sent_is_owed_and_the_debt_has_an_end() {
        let (accounts, start) = (Accounts::default(), Instant::now());
        let limits = Limits { egress_bytes_per_second_max: 1000, ..Limits::default() };
        let account = accounts.open(identity(1), start);
        assert_eq!(account.charge(Allowance::Egress, 1000, &limits, start), Duration::ZERO);
        assert_eq!(account.charge(Allowance::Egress, 500, &limits, start), 500 * MS);
        assert_eq!(account.charge(Allowance::Egress, 1 << 40, &limits, start), 1000 * MS);
        assert_eq!(account.charge(Allowance::Egress, 0, &limits, start + 1000 * MS), Duration::ZERO);
    }

    #[test]
    fn a_rate_of_nothing_grants_nothing() {
        let limits = Limits { rings_per_minute_max: 0, ..Limits::default() };
        let now = Instant::now();
        let account = Accounts::default().open(identity(1), now);
        assert!(!account.take(Allowance::Rings, 1, &limits, now));
    }
}
