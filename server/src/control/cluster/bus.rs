//! What nodes say to each other in short, through NATS: who listens to what, what waits to be said, and what was heard. All of it
//! may be lost; what is lost is counted, and said again by whoever says it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use supernode_cluster_nats::{Link, Listening};
use tokio::sync::Notify;

use super::seal::{SAID_BYTES_MAX, Seal, Subject};
use crate::core::{BusErrand, NodeId, Topic};

/// What may wait to be said. Default 4 MiB: sixty of the longest messages, or tens of thousands of the usual ones, which NATS
/// takes within milliseconds. The newest is dropped.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident $label:literal;)*) => {
        /// Why a message was lost at this node.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Loss {
            $($(#[$doc])* $name,)*
        }

        impl Loss {
            /// All of them, in the order of [`BusReading::lost`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

losses! {
    /// NATS was not there.
    Away "away";
    /// Too much waited to be said.
    NoRoom "no_room";
    /// It was longer than a message may be.
    TooLong "too_long";
    /// It came, and was not sealed by a node of this cluster for where it was said.
    NotSealed "not_sealed";
    /// It came, and the shard that it is for had too much to read.
    Busy "busy";
}

/// What is counted of the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BusReading {
    /// Messages that were given to NATS.
    pub said: u64,
    /// Messages of others that were heard.
    pub heard: u64,
    /// Messages that were lost here, by reason.
    pub lost: [u64; Loss::ALL.len()],
    /// Subjects that are listened to.
    pub listens: u64,
}

/// Whom what is heard is for; whether there was room for it.
pub type Hear = Arc<dyn Fn(Topic, NodeId, Bytes) -> bool + Send + Sync>;

/// The bus at this node. Whoever wants something of it never waits.
pub struct Bus {
    seal: Seal,
    node: NodeId,
    wants: Mutex<Wants>,
    /// Rung when somebody wants something.
    bell: Notify,
    /// Whether NATS is there, as was seen last.
    there: AtomicBool,
    said: AtomicU64,
    heard: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
}

#[derive(Debug)]
struct Wants {
    listens: BTreeSet<Topic>,
    /// What is to be listened to from now on, or not any more: the last word on each.
    turned: BTreeMap<Topic, bool>,
    waits: VecDeque<(Topic, Bytes)>,
    waiting_bytes: usize,
}

impl Bus {
    /// Of a node.
    pub fn new(seal: Seal, node: NodeId) -> Self {
        let wants = Wants {
            listens: BTreeSet::from([Topic::Nodes]),
            turned: BTreeMap::from([(Topic::Nodes, true)]),
            waits: VecDeque::new(),
            waiting_bytes: 0,
        };
        Self {
            seal,
            node,
            wants: Mutex::new(wants),
            bell: Notify::new(),
            there: AtomicBool::new(false),
            said: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            lost: Default::default(),
        }
    }

    /// Takes what a core wants. Does not wait.
    pub fn handle(&self, errand: BusErrand) {
        let mut wants = self.wants();
        match errand {
            BusErrand::Listen(topic) => {
                wants.listens.insert(topic);
                wants.turned.insert(topic, true);
            }
            BusErrand::Forget(Topic::Nodes) => {}
            BusErrand::Forget(topic) => {
                wants.listens.remove(&topic);
                wants.turned.insert(topic, false);
            }
            BusErrand::Tell(_, bytes) if bytes.len() > SAID_BYTES_MAX => return self.lose(Loss::TooLong),
            BusErrand::Tell(..) if !self.there.load(Ordering::Relaxed) => return self.lose(Loss::Away),
            BusErrand::Tell(_, bytes) if wants.waiting_bytes + bytes.len() > WAITING_BYTES_MAX => {
                return self.lose(Loss::NoRoom);
            }
            BusErrand::Tell(topic, bytes) => {
                wants.waiting_bytes += bytes.len();
                wants.waits.push_back((topic, bytes));
            }
        }
        drop(wants);
        self.bell.notify_one();
    }

    /// What is counted.
    pub fn reading(&self) -> BusReading {
        BusReading {
            said: self.said.load(Ordering::Relaxed),
            heard: self.heard.load(Ordering::Relaxed),
            lost: self.lost.each_ref().map(|lost| lost.load(Ordering::Relaxed)),
            listens: self.wants().listens.len() as u64,
        }
    }

    /// Whether NATS is there. What waits when it goes is lost, as it would be old when it is back.
    pub(super) fn is_there(&self, there: bool) {
        if self.there.swap(there, Ordering::Relaxed) && !there {
            let mut wants = self.wants();
            wants.waiting_bytes = 0;
            for _ in std::mem::take(&mut wants.waits) {
                self.lose(Loss::Away);
            }
        }
    }

    /// Says and hears, for as long as it runs. `root` is what its subjects begin with in NATS.
    pub(super) async fn run(self: &Arc<Self>, link: &Link, root: &str, hear: &Hear) {
        let mut listening: BTreeMap<Topic, Listening> = BTreeMap::new();
        loop {
            let (turned, told) = {
                let mut wants = self.wants();
                wants.waiting_bytes = 0;
                (std::mem::take(&mut wants.turned), std::mem::take(&mut wants.waits))
            };
            for (topic, on) in turned {
                if !on {
                    listening.remove(&topic);
                    continue;
                }
                if listening.contains_key(&topic) {
                    continue;
                }
                let subject = self.subject(&topic);
                let (bus, hear) = (self.clone(), hear.clone());
                let heard = move |message: Bytes| bus.hear(topic, subject, &message, &hear);
                if let Some(begun) = link.listen(format!("{root}.{subject}"), heard).await {
                    listening.insert(topic, begun);
                }
            }
            for (topic, bytes) in told {
                let subject = self.subject(&topic);
                let message = self.seal.seal(subject, &bytes, rand::random());
                match link.say(format!("{root}.{subject}"), message.into()).await {
                    true => drop(self.said.fetch_add(1, Ordering::Relaxed)),
                    false => self.lose(Loss::Away),
                }
            }
            self.bell.notified().await;
        }
    }

    fn hear(&self, topic: Topic, subject: Subject, message: &[u8], hear: &Hear) {
        match self.seal.open(subject, message) {
            // Its own come back to a node that listens where it says something.
            Some((from, _)) if from == self.node.0 => {}
            Some((from, said)) => {
                self.heard.fetch_add(1, Ordering::Relaxed);
                if !hear(topic, NodeId(from), said.into()) {
                    self.lose(Loss::Busy);
                }
            }
            None => self.lose(Loss::NotSealed),
        }
    }

    fn subject(&self, topic: &Topic) -> Subject {
        match topic {
            Topic::Watchers(identity) => self.seal.subject(1, identity.as_bytes()),
            Topic::Holders(identity) => self.seal.subject(2, identity.as_bytes()),
            Topic::Nodes => self.seal.subject(3, &[]),
        }
    }

    fn lose(&self, loss: Loss) {
        self.lost[loss as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bus(..)")
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::IdentityKey;

    use super::*;
    use crate::control::cluster::ClusterSecret;

    fn bus(secret: &ClusterSecret, node: u16) -> Bus {
        Bus::new(Seal::new(secret, node), NodeId(node))
    }

    #[test]
    fn what_finds_no_room_or_no_nats_is_lost_and_counted() {
        let bus = bus(&ClusterSecret::new(), 1);
        let tell = |bytes: usize| bus.handle(BusErrand::Tell(Topic::Nodes, vec![0; bytes].into()));
        let lost = || Loss::ALL.iter().map(|loss| bus.reading().lost[*loss as usize]).collect::<Vec<_>>();
        tell(1);
        assert_eq!(lost(), [1, 0, 0, 0, 0], "NATS is not there");
        bus.is_there(true);
        tell(SAID_BYTES_MAX + 1);
        assert_eq!(lost(), [1, 0, 1, 0, 0]);
        (0..WAITING_BYTES_MAX / SAID_BYTES_MAX).for_each(|_| tell(SAID_BYTES_MAX));
        tell(1);
        assert_eq!(lost(), [1, 1, 1, 0, 0], "the newest is dropped");
        bus.is_there(false);
        assert_eq!(lost(), [1 + (WAITING_BYTES_MAX / SAID_BYTES_MAX) as u64, 1, 1, 0, 0], "it would be old");
        bus.is_there(true);
        tell(SAID_BYTES_MAX);
        assert_eq!(lost()[1], 1, "there is room again");
    }

    #[test]
    fn a_node_hears_others_and_not_itself_nor_strangers() {
        let secret = ClusterSecret::new();
        let (one, two, stranger) = (bus(&secret, 1), bus(&secret, 2), bus(&ClusterSecret::new(), 2));
        let topic = Topic::Watchers(IdentityKey::new([7; 32]));
        let subject = one.subject(&topic);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = heard.clone();
        let hear: Hear = Arc::new(move |topic, from, said| {
            let mut noted = noted.lock().expect("ours");
            noted.push((topic, from, said));
            noted.len() == 1
        });
        for bus in [&one, &two, &stranger] {
            one.hear(topic, subject, &bus.seal.seal(subject, b"here", rand::random()), &hear);
        }
        assert_eq!(*heard.lock().expect("ours"), [(topic, NodeId(2), Bytes::from_static(b"here"))]);
        let lost = |why| one.reading().lost[why as usize];
        assert_eq!((one.reading().heard, lost(Loss::NotSealed), lost(Loss::Busy)), (1, 1, 0));
        one.hear(topic, subject, &two.seal.seal(subject, b"there", rand::random()), &hear);
        assert_eq!((one.reading().heard, lost(Loss::NotSealed), lost(Loss::Busy)), (2, 1, 1));
        assert_ne!(subject, one.subject(&Topic::Holders(IdentityKey::new([7; 32]))));
    }

    #[test]
    fn what_is_listened_to_is_the_last_word_on_each() {
        let bus = bus(&ClusterSecret::new(), 1);
        let topic = Topic::Holders(IdentityKey::new([7; 32]));
        assert_eq!(bus.reading().listens, 1, "all nodes");
        bus.handle(BusErrand::Listen(topic));
        bus.handle(BusErrand::Listen(topic));
        assert_eq!(bus.reading().listens, 2);
        bus.handle(BusErrand::Forget(topic));
        bus.handle(BusErrand::Forget(Topic::Nodes));
        assert_eq!(bus.reading().listens, 1, "to all nodes is always listened");
        assert_eq!(bus.wants().turned.get(&topic), Some(&false));
    }
}
