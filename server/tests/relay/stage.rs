//! A room with a speaker, and around it what must hold whatever becomes of its members: nobody else is sent anything of
//! it, each object comes once and in order, the ledger balances, what the relay keeps stays within its bounds, and in the
//! end nothing is left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use supernode_proto::control::{KickMember, RefusalReason, client_message::Body as Request};
use supernode_server::core::{ledger::Ledger, limits::Limits};
use supernode_testkit::{Client, Person, Relay, Room, eventually, subscription};

use crate::performance::{Listener, Phase, Speaker};

/// How much later than its bound an object may be found waiting: a shard looks every 20 ms, if it has a CPU.
const LOOK: Duration = Duration::from_millis(250);

/// A room, its speaker and those around it.
pub struct Stage {
    pub relay: Relay,
    pub room: Room,
    pub start: Instant,
    pub speaker: Speaker,
    /// Another room, in which somebody else speaks: what is balanced there is not what is missing here.
    next_door: Speaker,
    neighbour: Listener,
    /// With a session, in no room.
    stranger: Listener,
    watch: Watch,
    /// Object and subscriber pairs that the relay owed this room, as the test knows them.
    owed: u64,
    owed_next_door: u64,
    phases: Vec<Phase>,
}

impl Stage {
    pub async fn new(shards: usize) -> Self {
        Self::with_limits(shards, Limits { presence_linger: Duration::from_millis(300), ..Limits::default() }).await
    }

    pub async fn with_limits(shards: usize, limits: Limits) -> Self {
        let relay = Relay::with_limits(shards, limits.clone());
        let (room, start) = (Room::new(), Instant::now());
        let speaker = Speaker::new(&relay, &room, true, start).await;
        let other_room = Room::new();
        let next_door = Speaker::new(&relay, &other_room, false, start).await;
        let client = relay.connect(&Person::new()).await;
        let (neighbour, _) = Listener::join(client, &other_room, &next_door).await;
        let mut client = relay.connect(&Person::new()).await;
        for track in speaker.tracks() {
            let refused = client.refused(Request::Subscribe(subscription(track))).await;
            assert_eq!(refused.reason(), RefusalReason::UnknownTrack);
        }
        let stranger = Listener::new(client, start);
        let watch = Watch::new(&relay, limits);
        Self {
            relay,
            room,
            start,
            speaker,
            next_door,
            neighbour,
            stranger,
            watch,
            owed: 0,
            owed_next_door: 0,
            phases: Vec::new(),
        }
    }

    /// Another member that listens.
    pub async fn listener(&self) -> Listener {
        self.listener_as(self.relay.connect(&Person::new()).await).await
    }

    pub async fn listener_as(&self, client: Client) -> Listener {
        Listener::join(client, &self.room, &self.speaker).await.0
    }

    /// Speaks and shows for a second to so many listeners and one more, which is kicked meanwhile: what is sent after the
    /// kick was acknowledged must not reach it.
    pub async fn overture(&mut self, listeners: u64) {
        let client = self.relay.connect(&Person::new()).await;
        let (kicked, member) = Listener::join(client, &self.room, &self.speaker).await;
        let performing = tokio::spawn(self.speaker.perform(0, Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_millis(400)).await;
        let kick = KickMember { room: self.room.name(), member };
        self.speaker.client.done(Request::KickMember(kick)).await;
        let acknowledged = self.start.elapsed();
        let phase = performing.await.unwrap();
        let steady = phase.objects() * listeners;
        eventually("the overture is over", || {
            let ledger = self.relay.ledger();
            ledger.objects_in == phase.objects() && ledger.offered == ledger.settled()
        })
        .await;
        // What one shard let in may still be on its way to another.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let heard = kicked.heard();
        let came = heard.audio.iter().chain(&heard.video);
        assert!(came.clone().count() > 0, "a member is sent everything");
        let after: Vec<_> = came.filter(|came| came.sent > acknowledged).collect();
        assert!(after.is_empty(), "kicked at {acknowledged:?}, and was sent {after:?}");
        heard.assert_in_order_and_once();
        kicked.close();
        self.owed = self.relay.ledger().offered;
        let to_kicked = self.owed - steady;
        let whole = (heard.audio.len() + heard.video.len()) as u64;
        assert!((whole..phase.objects()).contains(&to_kicked), "{to_kicked} offers to the kicked, who had {whole}");
    }

    /// Speaks and shows for so long to so many listeners; somebody speaks next door meanwhile.
    pub async fn perform(&mut self, listeners: u64, first_group: u64, duration: Duration) -> Phase {
        let next_door = self.next_door.perform(first_group, duration);
        let (phase, other) = tokio::join!(self.speaker.perform(first_group, duration), next_door);
        self.owed += phase.objects() * listeners;
        self.owed_next_door += other.objects();
        self.phases.push(phase.clone());
        phase
    }

    /// The room's share of the ledger, once it has all that was sent: what is not next door's, where everything is
    /// delivered.
    pub async fn settled(&self) -> Ledger {
        eventually("every offer is delivered or dropped", || {
            let ledger = self.relay.ledger();
            ledger.offered == self.owed + self.owed_next_door && ledger.settled() == ledger.offered
        })
        .await;
        let mut ledger = self.relay.ledger();
        ledger.offered -= self.owed_next_door;
        ledger.delivered -= self.owed_next_door;
        ledger
    }

    /// The longest that an object was seen waiting for a subscriber.
    pub fn queue_oldest(&self) -> Duration {
        self.watch.queue_oldest()
    }

    /// Everybody leaves; all that must hold is looked at. `fine` are those whose paths took everything: between what was
    /// sent and what came to them, nothing is missing and nothing is too much.
    pub async fn end(self, fine: &[Listener], troubled: &[Listener]) {
        eventually("everything came to those who can take it", || {
            let next_door = self.neighbour.heard().audio.len() as u64 == self.owed_next_door;
            next_door && fine.iter().all(|fine| self.phases.iter().all(|phase| fine.has_all_of(phase)))
        })
        .await;
        for listener in fine.iter().chain(troubled).chain([&self.neighbour]) {
            listener.heard().assert_in_order_and_once();
        }
        let next_door = self.neighbour.heard();
        assert!(next_door.audio.iter().all(|came| came.track == self.next_door.audio), "only what is said there");
        assert!(next_door.video.is_empty(), "{:?}", next_door.video);
        let nothing = self.stranger.heard();
        assert!(nothing.audio.is_empty() && nothing.video.is_empty(), "a stranger was sent {nothing:?}");
        for listener in fine.iter().chain(troubled).chain([&self.neighbour, &self.stranger]) {
            listener.close();
        }
        self.speaker.client.close();
        self.next_door.client.close();
        self.relay.assert_empty().await;
        assert_eq!(self.relay.ledger().offered, self.owed + self.owed_next_door, "nobody was offered anything else");
        self.watch.assert_within_bounds();
    }
}

/// Looks at a relay every few milliseconds, and keeps the most that it held.
pub struct Watch {
    most: Arc<Most>,
    limits: Limits,
    shards: usize,
    ended: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Most {
    looks: AtomicUsize,
    cached_bytes: AtomicUsize,
    datagram_bytes: AtomicUsize,
    stream_bytes: AtomicUsize,
    queue_oldest_us: AtomicUsize,
}

impl Watch {
    pub fn new(relay: &Relay, limits: Limits) -> Self {
        let (most, ended) = (Arc::<Most>::default(), Arc::new(AtomicBool::new(false)));
        let (handle, counters) = (relay.handle(), relay.counters());
        let watch = Self { most: most.clone(), limits, shards: counters.len(), ended: ended.clone() };
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for census in handle.census() {
                    most.looks.fetch_add(1, Ordering::Relaxed);
                    most.cached_bytes.fetch_max(census.cached_bytes, Ordering::Relaxed);
                    most.datagram_bytes.fetch_max(census.datagram_bytes_most, Ordering::Relaxed);
                    most.stream_bytes.fetch_max(census.stream_bytes_most, Ordering::Relaxed);
                }
                for counters in &counters {
                    let oldest = counters.snapshot().0.queue_oldest_us as usize;
                    most.queue_oldest_us.fetch_max(oldest, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        watch
    }

    /// The longest that an object was seen waiting.
    pub fn queue_oldest(&self) -> Duration {
        Duration::from_micros(self.most.queue_oldest_us.load(Ordering::Relaxed) as u64)
    }

    pub fn assert_within_bounds(&self) {
        let Self { most, limits, shards, .. } = self;
        let seen = |most: &AtomicUsize| most.load(Ordering::Relaxed);
        assert!(seen(&most.looks) > 10 * shards, "it was looked at: {most:?}");
        assert!(seen(&most.cached_bytes) > 0, "pictures were kept: {most:?}");
        assert!(seen(&most.cached_bytes) <= limits.group_cache_track_bytes_max, "of one track: {most:?}");
        assert!(seen(&most.datagram_bytes) <= limits.queue_bytes_max, "{most:?}");
        assert!(seen(&most.stream_bytes) <= limits.queue_bytes_max, "{most:?}");
        assert!(self.queue_oldest() <= limits.queue_age_max + LOOK, "{:?} in a queue", self.queue_oldest());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
