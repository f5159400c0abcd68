//! Admission by the word of an HTTP service.
//!
//! A shard never waits: whoever comes is put aside until the answer is there, and everybody else is served meanwhile.
//! Only a clear yes lets in. Whatever is no clear answer, or comes too late, is a refusal that is not remembered for
//! longer than it takes to give it, so that a service that comes back is asked again. Those who are in are asked about
//! again before its word ends, behind those who wait; if it is silent then, they stay for a grace.

mod figures;
mod queue;
mod service;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use axum::http::Uri;
use supernode_proto::{close::CloseCode, identity::IdentityKey, troubles};
use tokio::sync::{Notify, Semaphore};

pub use self::figures::{Figures, Outcome, Outcomes};
use self::{
    queue::{Lane, Queue},
    service::Service,
};
use crate::{
    control::config::values::Hook as Settings,
    core::{Applicant, Grant, Network, ServiceWord, Voucher},
};

/// Questions that the service is asked at the same time.
const CONCURRENT_MAX: usize = 64;
/// Answers that are remembered: about 100 bytes each.
const ANSWERS_MAX: usize = 65_536;
/// How often answers that have expired are forgotten: nobody's coming is remembered for longer than need be.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a refusal for want of an answer stands: longer than whoever waits for it looks away.
const FAILURE: Duration = Duration::from_secs(1);
/// Those who are in are asked about no more often than this, however short the service's word is good for.
const AGAIN_AFTER_MIN: Duration = Duration::from_secs(30);
/// How soon a session is looked at again that waits for the service's word, in seconds.
const LOOK_AGAIN_S: u64 = 4;
/// How long an answer about somebody who is in is kept for the session to see it: twice as long as it takes for all
/// sessions to be looked at.
const KEPT: Duration = Duration::from_secs(40);

troubles! {
    /// Why there is no hook.
    pub HookError as WORDS:
    Authorities(#[from] std::io::Error), "admission.hook.url: the authorities that this machine trusts cannot be read",
        "without them the hook's certificate could not be checked", "install the system's certificates (ca-certificates)";
}

/// An address that may be asked: `https://`, or `http://` on a loopback address, where nobody listens in.
pub fn hook_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str()? {
        "https" => Some(uri),
        "http" if loopback => Some(uri),
        _ => None,
    }
}

/// Where the hook comes from that the configuration wants.
#[derive(Debug, Default)]
pub struct Hooks {
    /// What came of the questions of all of them.
    pub figures: Arc<Figures>,
    latest: Mutex<Option<(Settings, Weak<Hook>)>>,
}

impl Hooks {
    /// The one that is at work, if these are its settings: what it knows is not asked again after each reload. Else a new
    /// one, which asks on the runtime that this is called in.
    ///
    /// # Errors
    /// See [`HookError`].
    pub fn with(&self, url: Uri, settings: &Settings) -> Result<Arc<Hook>, HookError> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let same = latest.as_ref().filter(|(known, _)| known == settings);
        if let Some(hook) = same.and_then(|(_, hook)| hook.upgrade()) {
            return Ok(hook);
        }
        let hook = Arc::new(Hook::start(url, settings, self.figures.clone())?);
        *latest = Some((settings.clone(), Arc::downgrade(&hook)));
        Ok(hook)
    }
}

/// Asks the service and remembers what it said.
pub struct Hook {
    desk: Arc<Desk>,
    cache: Duration,
    grace: Duration,
}

/// What questions and answers meet at.
struct Desk {
    state: Mutex<State>,
    /// Rung when there is something to ask.
    bell: Notify,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct State {
    queue: Queue<Question>,
    answers: Answers,
}

/// Who is asked about, without the token itself: its hash is keyed, so nobody can make a token that looks like another's.
type Asker = (IdentityKey, u64);

struct Question {
    key: Asker,
    token: String,
}

#[derive(Default)]
struct Answers {
    hasher: RandomState,
    known: HashMap<Asker, Answer>,
}

#[derive(Clone, Copy)]
enum Answer {
    Pending,
    Given { word: Word, at: Instant, until: Instant },
}

/// What is known of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Yes,
    No,
    Silence,
}

impl Hook {
    fn start(url: Uri, settings: &Settings, figures: Arc<Figures>) -> Result<Self, HookError> {
        let service = Arc::new(Service::new(url, settings)?);
        let desk = Arc::new(Desk { state: Mutex::default(), bell: Notify::new(), figures });
        tokio::spawn(ask_in_turn(Arc::downgrade(&desk), service, settings.cache));
        Ok(Self { desk, cache: settings.cache, grace: settings.grace })
    }

    /// Whether [`Self::admit`] has an answer. If not, the service is being asked.
    pub(super) fn is_decided(&self, who: &Applicant) -> bool {
        let mut state = self.desk.lock();
        let (key, now) = (state.answers.key(&who.identity, &who.token), Instant::now());
        match state.answers.known.get(&key) {
            Some(Answer::Pending) => false,
            Some(Answer::Given { until, .. }) if *until > now => true,
            Some(Answer::Given { .. }) | None => {
                let question = Question { key, token: who.token.clone() };
                self.desk.put(&mut state, Lane::Door(Network::of(who.from)), question, now)
            }
        }
    }

    pub(super) fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode> {
        let state = self.desk.lock();
        match state.answers.known.get(&state.answers.key(&who.identity, &who.token)) {
            Some(Answer::Given { word: Word::Yes, at, .. }) => Ok(Grant {
                by: Voucher::Service(Box::new(ServiceWord { token: who.token.clone(), said: *at })),
                until_unix_s: now_unix_s + self.again_after().saturating_sub(at.elapsed()).as_secs(),
                limits: None,
            }),
            Some(Answer::Given { word: Word::No, .. }) => Err(CloseCode::NOT_ADMITTED),
            _ => Err(CloseCode::ADMISSION_DOWN),
        }
    }

    /// Until when somebody who is in may stay, as far as is known; the service is asked about them if its word is old.
    pub(super) fn stays(
        &self,
        identity: &IdentityKey,
        word: &mut ServiceWord,
        now_unix_s: u64,
    ) -> Result<u64, CloseCode> {
        let mut state = self.desk.lock();
        let (key, now) = (state.answers.key(identity, &word.token), Instant::now());
        let answer = state.answers.known.get(&key).copied();
        match answer {
            Some(Answer::Given { word: Word::No, at, .. }) if at > word.said => return Err(CloseCode::NOT_ADMITTED),
            Some(Answer::Given { word: Word::Yes, at, .. }) => word.said = word.said.max(at),
            _ => {}
        }
        let age = now.saturating_duration_since(word.said);
        if age < self.again_after() {
            return Ok(now_unix_s + (self.again_after() - age).as_secs().max(1));
        }
        if age > self.again_after() + self.grace {
            return Err(CloseCode::ADMISSION_DOWN);
        }
        let waits = match answer {
            Some(Answer::Pending) => true,
            // Just now it was silent: not so soon.
            Some(Answer::Given { word: Word::Silence, until, .. }) => until > now,
            _ => false,
        };
        if !waits {
            let question = Question { key, token: word.token.clone() };
            self.desk.put(&mut state, Lane::Again, question, now);
        }
        Ok(now_unix_s + LOOK_AGAIN_S)
    }

    fn again_after(&self) -> Duration {
        self.cache.max(AGAIN_AFTER_MIN)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.desk.bell.notify_one();
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook(..)")
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question; whether it is decided already, because there is no room for it.
    fn put(&self, state: &mut State, lane: Lane, question: Question, now: Instant) -> bool {
        let key = question.key;
        state.answers.put(key, Answer::Pending, now);
        let unasked = state.queue.push(lane, question).err();
        self.figures.set_waiting(state.queue.len());
        self.bell.notify_one();
        let Some(unasked) = unasked else { return false };
        self.figures.count(Outcome::NoRoom, now);
        state.answers.put(unasked.key, Answer::silence(now), now);
        unasked.key == key
    }
}

/// Asks one question after the other, several at a time, until nobody needs the answers any more.
async fn ask_in_turn(desk: Weak<Desk>, service: Arc<Service>, cache: Duration) {
    let slots = Arc::new(Semaphore::new(CONCURRENT_MAX));
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Some(alive) = desk.upgrade() else { return };
        let next = alive.lock().queue.pop();
        let Some((lane, question)) = next else {
            drop(slot);
            tokio::select! {
                () = alive.bell.notified() => {}
                _ = sweep.tick() => {
                    alive.lock().answers.forget_expired(Instant::now());
                    // Nobody but this task has it any more.
                    if Arc::strong_count(&alive) == 1 {
                        return;
                    }
                }
            }
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let outcome = service.ask(&question.key.0, &question.token).await;
            let now = Instant::now();
            alive.figures.count(outcome, now);
            let answer = match outcome {
                Outcome::Yes => Answer::Given { word: Word::Yes, at: now, until: now + cache },
                Outcome::No => Answer::Given { word: Word::No, at: now, until: now + cache },
                _ => Answer::silence(now),
            };
            let mut state = alive.lock();
            state.answers.put(question.key, answer, now);
            state.queue.answered(lane);
            alive.figures.set_waiting(state.queue.len());
            drop(state);
            drop(slot);
            alive.bell.notify_one();
        });
    }
}

impl Answer {
    fn silence(now: Instant) -> Self {
        Self::Given { word: Word::Silence, at: now, until: now + FAILURE }
    }
}

impl Answers {
    fn key(&self, identity: &IdentityKey, token: &str) -> Asker {
        (*identity, self.hasher.hash_one(token))
    }

    fn forget_expired(&mut self, now: Instant) {
        self.known.retain(|_, answer| match answer {
            Answer::Given { at, until, .. } => *until > now || now.saturating_duration_since(*at) < KEPT,
            Answer::Pending => true,
        });
    }

    fn put(&mut self, key: Asker, answer: Answer, now: Instant) {
        if self.known.len() >= ANSWERS_MAX && !self.known.contains_key(&key) {
            self.forget_expired(now);
            // All are fresh: half of them will be asked for again, which costs less than a look at all of them each time.
            let mut keep = false;
            if self.known.len() >= ANSWERS_MAX {
                self.known.retain(|_, answer| {
                    keep = !keep;
                    keep || matches!(answer, Answer::Pending)
                });
            }
        }
        self.known.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supernode_proto::identity::DeviceKey;

    const ALICE: IdentityKey = IdentityKey::new([1; 32]);
    const NOW: u64 = 1_800_000_000;

    /// A hook whose service nobody asks: what it said is put by the test.
    fn hook(cache: Duration, grace: Duration) -> Hook {
        let desk = Desk { state: Mutex::default(), bell: Notify::new(), figures: Arc::default() };
        Hook { desk: Arc::new(desk), cache, grace }
    }

    impl Hook {
        fn says(&self, word: Word) {
            let mut state = self.desk.lock();
            let (key, now) = (state.answers.key(&ALICE, "t"), Instant::now());
            state.queue = Queue::default();
            state.answers.put(key, Answer::Given { word, at: now, until: now + self.cache }, now);
        }

        fn asked(&self) -> usize {
            self.desk.lock().queue.len()
        }
    }

    fn alice() -> Applicant {
        Applicant {
            identity: ALICE,
            device: DeviceKey::new([2; 32]),
            from: IpAddr::from([192, 0, 2, 1]),
            token: "t".to_owned(),
        }
    }

    fn word(age: Duration) -> ServiceWord {
        let said = Instant::now().checked_sub(age).expect("the machine has been up for longer");
        ServiceWord { token: "t".to_owned(), said }
    }

    //
    #[test]
    fn nobody_is_let_in_before_a_clear_yes() {
        let hook = hook(Duration::from_secs(60), Duration::ZERO);
        assert!(!hook.is_decided(&alice()) && !hook.is_decided(&alice()));
        assert_eq!(hook.asked(), 1, "once");
        hook.says(Word::Silence);
        assert_eq!(hook.admit(&alice(), NOW).err(), Some(CloseCode::ADMISSION_DOWN));
        hook.says(Word::No);
        assert_eq!(hook.admit(&alice(), NOW).err(), Some(CloseCode::NOT_ADMITTED));
        hook.says(Word::Yes);
        let grant = hook.admit(&alice(), NOW).expect("a yes");
        assert!((NOW + 58..=NOW + 60).contains(&grant.until_unix_s));
    }

    //
    #[test]
    fn who_is_in_is_asked_about_again_stays_on_a_yes_and_goes_on_a_no() {
        let hook = hook(Duration::from_secs(1), Duration::from_secs(600));
        let mut young = word(Duration::from_secs(5));
        assert!(hook.stays(&ALICE, &mut young, NOW).is_ok());
        assert_eq!(hook.asked(), 0, "however short an answer is good for");
        let mut old = word(AGAIN_AFTER_MIN);
        assert_eq!(hook.stays(&ALICE, &mut old, NOW), Ok(NOW + LOOK_AGAIN_S));
        assert_eq!(hook.stays(&ALICE, &mut old, NOW), Ok(NOW + LOOK_AGAIN_S));
        assert_eq!(hook.asked(), 1, "once");
        hook.says(Word::Yes);
        assert!(hook.stays(&ALICE, &mut old, NOW).expect("stays") >= NOW + AGAIN_AFTER_MIN.as_secs() - 1);
        assert!(old.said.elapsed() < Duration::from_secs(1), "the new word counts");
        let mut old = word(AGAIN_AFTER_MIN);
        hook.says(Word::No);
        assert_eq!(hook.stays(&ALICE, &mut old, NOW), Err(CloseCode::NOT_ADMITTED));
    }

    //
    #[test]
    fn while_the_service_is_silent_those_who_are_in_stay_for_the_grace_and_no_longer() {
        let hook = hook(Duration::from_secs(1), Duration::from_secs(10));
        hook.says(Word::Silence);
        let mut within = word(AGAIN_AFTER_MIN + Duration::from_secs(8));
        assert_eq!(hook.stays(&ALICE, &mut within, NOW), Ok(NOW + LOOK_AGAIN_S));
        assert_eq!(hook.asked(), 0, "not so soon after a silence");
        let mut beyond = word(AGAIN_AFTER_MIN + Duration::from_secs(12));
        assert_eq!(hook.stays(&ALICE, &mut beyond, NOW), Err(CloseCode::ADMISSION_DOWN));
    }
}
