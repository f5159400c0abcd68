//! The call beside an attack: two people, fifty objects a second each way; and people who want to come in meanwhile.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use quinn::Connection;
use supernode_proto::{control::TrackKind, object::TrackAlias};
use tokio::task::JoinHandle;

use crate::client::{Client, Door, Online, Person, Room, datagram, sealed};

/// Between two objects of one of the two: what Opus makes.
const OBJECT_INTERVAL: Duration = Duration::from_millis(20);
/// Sealed bytes of an object.
const OBJECT_BYTES: usize = 160;
/// An object that takes longer counts as lost; also how long is waited for the last ones.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(1500);
/// Between two people who come.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts of one of them: a relay that is full says so, and a client comes back.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Nobody waits longer.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(5);

/// What one direction sent and when it arrived.
type Sent = Arc<Mutex<Vec<(Instant, Option<Duration>)>>>;

/// Two people who talk.
pub(crate) struct Call {
    directions: [Sent; 2],
    people: [Online; 2],
    tasks: Vec<JoinHandle<()>>,
}

/// How a call went for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) sent: usize,
    /// Of those sent, from 0 to 1.
    pub(crate) loss: f64,
    pub(crate) p99_ms: f64,
}

impl Call {
    /// Lets two people in and talk.
    pub(crate) async fn begin(door: &Door) -> anyhow::Result<Self> {
        let room = Room::new();
        let mut a = Client::connect(door, Ipv4Addr::new(127, 1, 0, 1), Person::new()).await?;
        let mut b = Client::connect(door, Ipv4Addr::new(127, 1, 0, 2), Person::new()).await?;
        a.join(&room).await?;
        b.join(&room).await?;
        let (from_a, from_b) = (a.publish(&room, TrackKind::Audio).await?, b.publish(&room, TrackKind::Audio).await?);
        a.subscribe(from_b).await?;
        b.subscribe(from_a).await?;
        let (a, b) = (a.listen(|_| ()), b.listen(|_| ()));
        let directions = [Sent::default(), Sent::default()];
        let tasks = vec![
            tokio::spawn(talk(a.connection.clone(), from_a, directions[0].clone())),
            tokio::spawn(talk(b.connection.clone(), from_b, directions[1].clone())),
            tokio::spawn(hear(b.connection.clone(), directions[0].clone())),
            tokio::spawn(hear(a.connection.clone(), directions[1].clone())),
        ];
        Ok(Self { directions, people: [a, b], tasks })
    }

    /// How it went for what was sent between two moments, of which the later is [`LOST_AFTER`] ago.
    pub(crate) fn figures(&self, from: Instant, to: Instant) -> Figures {
        let mut delays = Vec::new();
        let mut sent = 0;
        for direction in &self.directions {
            let direction = direction.lock().unwrap_or_else(PoisonError::into_inner);
            let within = direction.iter().filter(|(at, _)| (from..to).contains(at));
            sent += within.clone().count();
            delays.extend(within.filter_map(|(_, delay)| *delay).filter(|delay| *delay <= LOST_AFTER));
        }
        // What was not even sent, because the connection was gone or held back, was lost as well.
        let due = 2 * ((to - from).as_micros() / OBJECT_INTERVAL.as_micros()) as usize;
        let sent = sent.max(due.saturating_sub(due / 50 + 2));
        delays.sort_unstable();
        let at = |share: f64| match delays.get((delays.len() as f64 * share) as usize).or(delays.last()) {
            Some(delay) => delay.as_secs_f64() * 1000.0,
            None => LOST_AFTER.as_secs_f64() * 1000.0,
        };
        let loss = 1.0 - delays.len().min(sent) as f64 / sent.max(1) as f64;
        Figures { sent, loss, p99_ms: at(0.99) }
    }

    /// Why it ended, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        self.people.iter().find_map(|person| Some(person.connection.close_reason()?.to_string()))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.people.iter().for_each(|person| person.connection.close(0u8.into(), b""));
    }
}

async fn talk(connection: Connection, alias: TrackAlias, sent: Sent) {
    let mut ticks = tokio::time::interval(OBJECT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0u64.. {
        ticks.tick().await;
        let mut payload = [0; OBJECT_BYTES];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        sent.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), None));
        // One that cannot be sent has not arrived, which is all that counts.
        let _ = connection.send_datagram(datagram(alias, number, &payload));
    }
}

async fn hear(connection: Connection, sent: Sent) {
    while let Ok(wire) = connection.read_datagram().await {
        let number = sealed(&wire).and_then(|sealed| Some(u64::from_be_bytes(*sealed.first_chunk()?)));
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, delay)) = number.and_then(|number| sent.get_mut(number as usize)) {
            delay.get_or_insert(at.elapsed());
        }
    }
}

/// People from networks that have nothing to do with the attack, one after the other.
pub(crate) struct Newcomers {
    /// How long each of them waited; nothing for those who still do.
    waited: Arc<Mutex<Vec<Option<Duration>>>>,
    task: JoinHandle<()>,
}

impl Newcomers {
    /// Has one come every half second.
    pub(crate) fn begin(door: &Door) -> Self {
        let waited = Arc::new(Mutex::new(Vec::new()));
        let (door, seen) = (door.clone(), waited.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(NEWCOMER_INTERVAL);
            for number in 0u16.. {
                ticks.tick().await;
                let [high, low] = number.to_be_bytes();
                let (door, seen) = (door.clone(), seen.clone());
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(None);
                tokio::spawn(async move {
                    let waited = come_in(&door, Ipv4Addr::new(127, 2, high, low.max(1))).await;
                    seen.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(number)] = Some(waited);
                });
            }
        });
        Self { waited, task }
    }

    /// Sends for nobody else, and lets those who wait have the time that a newcomer may take; how long the one waited
    /// who waited longest.
    pub(crate) async fn end(self, limit: Duration) -> Duration {
        self.task.abort();
        tokio::time::sleep(limit).await;
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.iter().map(|waited| waited.unwrap_or(NEWCOMER_PATIENCE)).max().unwrap_or_default()
    }
}

/// How long somebody takes to get in who tries again whenever the relay says that it is full.
pub(crate) async fn come_in(door: &Door, from: Ipv4Addr) -> Duration {
    let begin = Instant::now();
    let attempts = async {
        while Client::connect(door, from, Person::new()).await.is_err() {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    };
    // Who gave up waited for all of it.
    let _ = tokio::time::timeout(NEWCOMER_PATIENCE, attempts).await;
    begin.elapsed()
}
