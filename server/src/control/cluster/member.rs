//! The thread that keeps a node alive: neither a shard nor whoever asks the admin port can hold up a renewal.

use std::{
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use supernode_cluster_nats::{Bucket, BucketError, Link, drive};
use supernode_proto::identity::RoomId;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{ASK_PATIENCE, Agents, ClusterError, Hear, HomeEars, Settings, Told, Trouble, View};
use crate::{
    core::{Fence, HomeIs},
    shard::{Handle, Roster, Running},
};

/// How often it is looked what is the matter.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long NATS may be away before it is worth a line: a server that is restarted takes less.
const AWAY_MAX: Duration = Duration::from_secs(3);
/// For how long somebody else may live under this node's number: a process that died is over for all after 5 s, and one that
/// was replaced at once.
const OTHER_MAX: Duration = Duration::from_secs(8);
/// For how long a node with NATS may have no life before NATS is asked why: it takes a few answers of it.
const BEGIN_MAX: Duration = Duration::from_secs(3);
/// For the word that this node's life is over: whoever does not hear it waits 5 s.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// Whom what comes from the other nodes is for.
pub struct Ears {
    /// Who lives, whenever that changes.
    pub roster: Box<dyn Fn(Roster) + Send + Sync>,
    /// What is heard on the bus.
    pub hear: Hear,
    /// The bus is there again, and may have lost messages meanwhile.
    pub bus_back: Box<dyn Fn() + Send + Sync>,
    /// Where rooms have their homes.
    pub homes: Box<dyn HomeEars>,
}

impl HomeEars for Handle {
    fn home_is(&self, room: RoomId, is: HomeIs) -> bool {
        Self::home_is(self, room, is)
    }

    fn hold_until(&self, until: Instant, since: Fence) {
        self.hold_homes_until(until, since);
    }
}

impl Ears {
    /// The shards'.
    pub fn of(shards: &Running) -> Self {
        let (told, hear, back) = (shards.handle(), shards.handle(), shards.handle());
        Self {
            roster: Box::new(move |roster| told.set_roster(roster)),
            hear: Arc::new(move |topic, from, said| hear.hear(topic, from, said)),
            bus_back: Box::new(move || back.bus_is_back()),
            homes: Box::new(shards.handle()),
        }
    }
}

/// This relay's place in its cluster, for as long as this is kept.
#[derive(Debug)]
pub struct Membership {
    view: Arc<View>,
    leave: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Membership {
    /// Begins to live. NATS need not be there: the relay serves its own clients meanwhile.
    ///
    /// # Errors
    /// [`ClusterError::Thread`].
    pub fn begin(settings: Settings, agents: Agents, ears: Ears) -> Result<Self, ClusterError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClusterError::Thread)?;
        let view = Arc::new(View::new(settings, agents));
        let (leave, left) = watch::channel(false);
        let lived = view.clone();
        let thread = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || runtime.block_on(live(&lived, &ears, left)))
            .map_err(ClusterError::Thread)?;
        Ok(Self { view, leave, thread })
    }

    /// What is known of the cluster.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Ends this node's life, so that others need not wait for it; returns once that is known or a second has gone by.
    pub async fn leave(self) {
        let _ = self.leave.send(true); // a thread that has ended needs no word
        let ended = tokio::task::spawn_blocking(move || self.thread.join());
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the thread that keeps this node in its cluster broke down");
        }
    }
}

async fn live(view: &View, ears: &Ears, mut left: watch::Receiver<bool>) {
    let settings = view.settings();
    let link = match settings.access.keep().await {
        Ok(link) => link,
        Err(error) => return view.note(Some(Trouble::NoNats(error.to_string()))),
    };
    view.goes_by(link.clone());
    let bucket = match Bucket::new(link.client().clone(), &settings.place, ASK_PATIENCE) {
        Ok(bucket) => bucket,
        Err(error) => return view.note(Some(Trouble::NoBucket(error.to_string()))),
    };
    let leave = async {
        let _ = left.changed().await; // whoever drops the sender is gone as well
        end(view, &link).await;
    };
    let root = settings.root_of_bus();
    let homes = view.homes();
    let mut told = Told::default();
    let look = || {
        view.look(&ears.roster);
        let (begun, now) = (view.begun(), view.begun().elapsed());
        homes.look(&mut told, view.node(), (begun, now), &*ears.homes);
    };
    tokio::select! {
        () = drive(&bucket, view.node(), view.begun(), homes.bell(), look) => {}
        () = look_after(view, &bucket, &link, ears) => {}
        () = view.bus().run(&link, &root, &ears.hear) => {}
        () = leave => {}
    }
}

/// Notes what keeps the node out of its cluster, while something does.
async fn look_after(view: &View, bucket: &Bucket, link: &Link, ears: &Ears) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // For how long NATS has been away, and for how long it is there and this node does not live.
    let (mut away, mut waits) = (Duration::ZERO, Duration::ZERO);
    let mut connects = 0;
    loop {
        ticks.tick().await;
        view.look(&ears.roster);
        view.bus().is_there(link.is_up());
        let before = std::mem::replace(&mut connects, link.figures().made());
        if before != 0 && before != connects {
            (ears.bus_back)();
        }
        (away, waits) = match (link.is_up(), view.holds_life()) {
            (false, _) => (away + LOOK_EVERY, Duration::ZERO),
            (true, false) => (Duration::ZERO, waits + LOOK_EVERY),
            (true, true) => (Duration::ZERO, Duration::ZERO),
        };
        if !link.is_up() {
            if away > AWAY_MAX {
                let why = link.figures().trouble().unwrap_or_else(|| "no server answers".to_owned());
                view.note(Some(Trouble::NoNats(why)));
            }
        } else if view.holds_life() {
            view.note(None);
        } else if let Some((_, by)) = view.other_of_number().filter(|(seen, _)| *seen > OTHER_MAX) {
            view.note(Some(Trouble::NumberTaken { number: view.settings().own.number.0, by }));
        } else if waits > BEGIN_MAX && view.other_of_number().is_none() {
            // What is not known to be wrong stays what was said last.
            if let Some(error) = why_not(bucket).await {
                view.note(Some(Trouble::NoBucket(error.to_string())));
            }
        }
    }
}

async fn why_not(bucket: &Bucket) -> Option<BucketError> {
    match bucket.ensure().await {
        Ok(()) => bucket.look().await.err(),
        Err(error) => Some(error),
    }
}

/// Says that this node's life is over.
async fn end(view: &View, link: &Link) {
    let lock = || view.node().lock().unwrap_or_else(PoisonError::into_inner);
    let own = {
        let mut node = lock();
        let own = node.life();
        node.end();
        own
    };
    let said = async {
        while lock().alive().any(|(_, life, _)| Some(life) == own) {
            sleep(Duration::from_millis(20)).await;
        }
        let _ = link.client().flush().await; // it is gone, then
    };
    if timeout(LEAVE_PATIENCE, said).await.is_err() {
        tracing::debug!("nobody took the word that this node's life is over");
    }
}
