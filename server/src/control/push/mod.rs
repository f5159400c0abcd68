//! Wakes people of whom nobody is online, through the push services of their browsers (RFC 8030): a message without content,
//! so there is nothing to seal (RFC 8291), and nothing of who rings in it.
//!
//! A shard never waits: what it wants sent is put into a queue ([`Waker::waking`]), and the control thread sends it. Nothing is
//! kept on disk but the relay's key, and nothing is tried a second time: whoever rings goes on ringing, which asks for it again.

mod address;
mod dial;
mod figures;
mod queue;
mod vapid;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use supernode_proto::troubles;
use tokio::sync::Notify;

pub use self::{
    address::is_public,
    dial::{Dialler, Failure},
    figures::{Figures, Outcome, Outcomes},
    vapid::Vapid,
};
use self::{dial::Answer, queue::Queue};
use super::{
    config::Config,
    serve::unix_now_s,
    state_dir::{StateDir, StateError},
    trust::authorities_of_machine,
};
use crate::{
    core::{
        directory::Directory,
        push::Push,
        push_services::{PushHost, PushServices},
    },
    shard::Waking,
};

/// Messages that are sent at the same time, to all services together.
const CONCURRENT_MAX: usize = 16;
/// How long one may take, from the question for an address to the service's answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a service is left alone because it says so (Retry-After).
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// ... and for how long when it does not say.
const PAUSE: Duration = Duration::from_secs(30);

/// What the relay holds for it at most: messages that wait, with the longest endpoints, and connections, each with a record and a
/// head each way.
pub const PUSH_BYTES: u64 = queue::WAITING_MAX as u64 * 1200 + CONCURRENT_MAX as u64 * 64 * 1024;

/// Whoever wakes people, before it is at work.
#[derive(Debug)]
pub struct Waker {
    desk: Arc<Desk>,
    vapid: Vapid,
    dialler: Dialler,
}

troubles! {
    /// Why nobody can be woken.
    pub PushError as WORDS, through State(StateError):
    Sign(#[from] jsonwebtoken::errors::Error), "push-key.pem: does not sign",
        "this file of the state directory is no key on P-256",
        "restore it from a backup, or remove it: the next start makes a new one, and pages subscribe anew when they are opened";
}

impl Waker {
    /// The one that the operator wants, if they want one. Its key is made at the first start with it.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn of(config: &Config, state: &StateDir, figures: Arc<Figures>) -> Result<Option<Self>, PushError> {
        let Some(contact) = &config.push.contact else { return Ok(None) };
        let vapid = Vapid::new(&state.push_key_or_create()?, contact)?;
        let dialler = Dialler::new(authorities_of_machine());
        Ok(Some(Self::new(config.push.hosts.clone(), vapid, dialler, figures)))
    }

    /// Through these services.
    pub fn new(hosts: Vec<PushHost>, vapid: Vapid, dialler: Dialler, figures: Arc<Figures>) -> Self {
        Self { desk: Arc::new(Desk::new(hosts, &vapid, figures)), vapid, dialler }
    }

    /// What the shards are to know.
    pub fn waking(&self) -> Waking {
        let desk = self.desk.clone();
        Waking { services: self.desk.services.clone(), send: Arc::new(move |push| desk.put(push)) }
    }

    /// Sends what the shards put there, for as long as it runs; endpoints that are gone are forgotten there.
    pub async fn run(self, directory: Arc<Directory>) {
        let Self { desk, vapid, dialler } = self;
        desk.send(Arc::new(dialler), Arc::new(vapid), directory).await;
    }
}

/// Where shards put what is to be sent.
struct Desk {
    services: PushServices,
    queue: Mutex<Queue<Push>>,
    /// Rung when there is something to send.
    bell: Notify,
    figures: Arc<Figures>,
}

impl Desk {
    fn new(hosts: Vec<PushHost>, vapid: &Vapid, figures: Arc<Figures>) -> Self {
        let queue = Mutex::new(Queue::new(hosts.len()));
        let services = PushServices { key: vapid.public_key(), hosts };
        Self { services, queue, bell: Notify::new(), figures }
    }

    /// Takes a message that is to be sent; one too many is dropped. Does not wait.
    fn put(&self, push: Push) {
        let now = Instant::now();
        let Some((_, service)) = self.services.find(&push.endpoint) else { return };
        let outcome = match self.lock().push(service, push, now) {
            Ok(()) => return self.bell.notify_one(),
            Err(outcome) => outcome,
        };
        self.figures.count(outcome);
    }

    async fn send(self: Arc<Self>, dialler: Arc<Dialler>, vapid: Arc<Vapid>, directory: Arc<Directory>) {
        loop {
            let next = self.lock().pop(CONCURRENT_MAX);
            let Some((service, push)) = next else {
                self.bell.notified().await;
                continue;
            };
            let (desk, dialler, vapid, directory) = (self.clone(), dialler.clone(), vapid.clone(), directory.clone());
            tokio::spawn(async move {
                let (outcome, pause) = desk.send_one(&dialler, &vapid, service, &push).await;
                if outcome == Outcome::Gone {
                    directory.forget_push_endpoint(&push);
                }
                desk.figures.count(outcome);
                desk.lock().sent(service, pause.map(|pause| Instant::now() + pause));
                desk.bell.notify_one();
            });
        }
    }

    /// What came of it, and for how long the service is to be left alone.
    async fn send_one(
        &self,
        dialler: &Dialler,
        vapid: &Vapid,
        service: usize,
        push: &Push,
    ) -> (Outcome, Option<Duration>) {
        // It stood in the list when it was put.
        let Some((endpoint, _)) = self.services.find(&push.endpoint) else { return (Outcome::Refused, None) };
        let named = self.services.hosts[service].address();
        let Ok(authorization) = vapid.authorization(endpoint.origin, unix_now_s()) else {
            return (Outcome::Refused, None);
        };
        let sent = dialler.send(&endpoint, named, &authorization);
        let answer = tokio::time::timeout(TIMEOUT, sent).await.unwrap_or(Err(Failure::Late));
        match answer {
            Ok(Answer { status: 200..=299, .. }) => (Outcome::Sent, None),
            Ok(Answer { status: 404 | 410, .. }) => (Outcome::Gone, None),
            Ok(Answer { status: 429 | 503, retry_after }) => {
                (Outcome::Busy, Some(retry_after.unwrap_or(PAUSE).min(PAUSE_MAX)))
            }
            Ok(_) => (Outcome::Refused, None),
            Err(Failure::Late) => (Outcome::Late, None),
            Err(Failure::Private) => (Outcome::Private, None),
            Err(Failure::Unreachable) => (Outcome::Unreachable, None),
            Err(Failure::Broken) => (Outcome::Broken, None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Push>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk(..)")
    }
}
