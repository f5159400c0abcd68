//! One session's state in the core.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

use supernode_proto::{
    close::CloseCode,
    control::Rung,
    identity::{ChannelBinding, DeviceKey, IdentityKey, RoomId},
    object::TrackAlias,
};

use super::{
    Admit, Grant, Greeting, MemberId, NodeId, Resident, RingId, SessionId, TokenDigest,
    control::Refusal,
    forwarding::speakers::Speakers,
    grants::{
        accounts::{Account, Allowance, Lease},
        limits::Limits,
        pool::Share,
    },
    receiver::Receiver,
};

/// An authenticated connection of one device. Everything in it is bounded by a limit, and everything it names
/// elsewhere is taken back when it ends.
///
/// The order of its fields is kept: what every object needs comes first and together.
#[derive(Debug)]
#[repr(C)]
pub struct Session {
    /// The one picture that is kept longest when the path is narrow.
    pub(crate) speaker: Option<TrackAlias>,
    /// What is known of its path, once it subscribes to something: most sessions only wait.
    pub(crate) receiver: Option<Box<Receiver>>,
    /// What its identity may still do, on all of its devices.
    pub(crate) account: Arc<Account>,
    /// What is borrowed of it for every object.
    pub(crate) objects: Lease,
    pub(crate) bytes: Lease,
    standing: Standing,
    pub(crate) id: SessionId,

    pub(crate) identity: IdentityKey,
    pub(crate) device: DeviceKey,
    /// Which token it was let in with, so that taking the token back ends the session.
    token: Option<TokenDigest>,
    since: Instant,
    /// Binds join proofs and tickets to this connection, and to the relay that its Hello named.
    pub(crate) binding: ChannelBinding,
    pub(crate) rooms: BTreeMap<RoomId, MemberId>,
    pub(crate) published: Vec<TrackAlias>,
    /// In the order in which it began.
    pub(crate) subscribed: Vec<Subscribed>,
    pub(crate) watches: Vec<Watched>,
    /// Whether a look at the watches' tickets is scheduled.
    pub(crate) watches_scheduled: bool,
    pub(crate) rings: Vec<RingId>,
    /// Whose key packages it was handed, newest last: of them it may ring these devices.
    pub(crate) handed: Vec<Handed>,
    /// What its tracks, subscriptions and watches take of the relay's tables.
    kept: Share,
}

/// What lets a session stay.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Last second of the delegation, Unix time.
    pub(crate) delegated_until_unix_s: u64,
    pub(crate) grant: Grant,
}

impl Standing {
    fn limits<'a>(&'a self, everybody: &'a Limits) -> &'a Limits {
        self.grant.limits.as_deref().unwrap_or(everybody)
    }
}

/// What a watch takes in all tables. Measured, as the others: `tests/core/kept.rs`.
pub const WATCH_BYTES: usize = 640;
/// What a subscription takes.
pub const SUBSCRIPTION_BYTES: usize = 384;
/// What a published track takes, with the longest label.
pub const TRACK_BYTES: usize = 2048;

/// A track that a session subscribes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscribed {
    pub(crate) alias: TrackAlias,
    pub(crate) room: RoomId,
    /// Whose it is.
    pub(crate) member: MemberId,
    /// Whether it is a picture.
    pub(crate) visual: bool,
    /// Whether the subscriber says that it looks at it.
    pub(crate) focus: bool,
}

/// An identity that a session watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) identity: IdentityKey,
    /// Last second of the ticket, Unix time.
    pub(crate) not_after_unix_s: u64,
}

/// Devices whose key packages a session was handed, to ring them.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) callee: IdentityKey,
    /// At this node,
    pub(crate) devices: Vec<DeviceKey>,
    /// and at others.
    pub(crate) elsewhere: Vec<(NodeId, DeviceKey)>,
}

impl Session {
    /// What every object needs of it.
    pub(crate) const HOT_BYTES: usize = std::mem::offset_of!(Self, id);

    #[expect(clippy::too_many_arguments, reason = "who, by what, for how long, and what is granted")]
    pub(crate) fn new(
        id: SessionId,
        (identity, device): (IdentityKey, DeviceKey),
        token: Option<TokenDigest>,
        standing: Standing,
        greeting: &Greeting<'_>,
        account: Arc<Account>,
        kept: Share,
        now: Instant,
    ) -> Self {
        Self {
            id,
            identity,
            device,
            token,
            standing,
            since: now,
            binding: greeting.binding,
            rooms: BTreeMap::new(),
            published: Vec::new(),
            subscribed: Vec::new(),
            speaker: None,
            watches: Vec::new(),
            watches_scheduled: false,
            rings: Vec::new(),
            handed: Vec::new(),
            kept,
            account,
            objects: Lease::default(),
            bytes: Lease::default(),
            receiver: None,
        }
    }

    /// The picture that the subscriber looks at, or that of the liveliest member, or the first one.
    pub(crate) fn choose_speaker(&mut self, speakers: &Speakers) {
        let pictures = || self.subscribed.iter().filter(|track| track.visual);
        let is_first = |track: &&Subscribed| {
            let own = self.rooms.get(&track.room).copied().unwrap_or_default();
            speakers.first(&track.room, own) == Some(track.member)
        };
        let chosen = pictures().find(|track| track.focus).or_else(|| pictures().find(is_first));
        let chosen = chosen.or_else(|| pictures().next());
        self.speaker = chosen.map(|track| track.alias);
    }

    /// Whether it may stay: asks `admission` if it is to be asked `anyway`, or if what was granted is over.
    pub(crate) fn review(
        &mut self,
        from: IpAddr,
        anyway: bool,
        admission: &dyn Admit,
        now_unix_s: u64,
    ) -> Result<(), CloseCode> {
        let Standing { delegated_until_unix_s, grant } = &mut self.standing;
        if now_unix_s > *delegated_until_unix_s {
            return Err(CloseCode::DELEGATION_EXPIRED);
        }
        if !anyway && now_unix_s < grant.until_unix_s {
            return Ok(());
        }
        let who = Resident { identity: self.identity, device: self.device, from, token: self.token };
        admission.stays(&who, grant, now_unix_s)
    }

    /// Last second of its device's delegation, Unix time.
    pub(crate) fn delegated_until_unix_s(&self) -> u64 {
        self.standing.delegated_until_unix_s
    }

    /// What it is granted, where everybody else is granted this.
    pub(crate) fn limits<'a>(&'a self, everybody: &'a Limits) -> &'a Limits {
        self.standing.limits(everybody)
    }

    /// Whether it may send so many objects with so many bytes.
    pub(crate) fn charge(&mut self, objects: u64, bytes: usize, everybody: &Limits, now: Instant) -> bool {
        let Self { account, objects: objects_left, bytes: bytes_left, standing, .. } = self;
        let (account, limits): (&Account, _) = (account, standing.limits(everybody));
        objects_left.take((account, Allowance::Objects), objects, limits, now)
            && bytes_left.take((account, Allowance::Bytes), bytes as u64, limits, now)
    }

    /// Whether it may keep something more of so many bytes.
    pub(crate) fn check_room(&self, bytes: usize, limits: &Limits) -> Result<(), Refusal> {
        let (kept, kept_max) = (self.kept_bytes() + bytes, self.kept.bytes_max(limits.relay_tables_bytes_max));
        if kept <= kept_max {
            return Ok(());
        }
        Err(Refusal::limit("relay_tables_bytes_max", kept as u64, kept_max as u64))
    }

    /// Counts anew what it keeps.
    pub(crate) fn recount(&mut self) {
        let kept = self.kept_bytes();
        self.kept.set(kept);
    }

    fn kept_bytes(&self) -> usize {
        self.watches.len() * WATCH_BYTES
            + self.subscribed.len() * SUBSCRIPTION_BYTES
            + self.published.len() * TRACK_BYTES
    }

    /// Gives back what it has borrowed and not used: it has ended.
    pub(crate) fn settle(&mut self, everybody: &Limits) {
        let Self { account, objects, bytes, standing, .. } = self;
        let (account, limits): (&Account, _) = (account, standing.limits(everybody));
        objects.give_back((account, Allowance::Objects), limits);
        bytes.give_back((account, Allowance::Bytes), limits);
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who is connected.
    pub fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// On which device.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// The token it was let in with, if it showed one.
    pub fn token(&self) -> Option<TokenDigest> {
        self.token
    }

    /// How much of what it subscribes to its path takes.
    pub(crate) fn rung(&self) -> Rung {
        self.receiver.as_ref().map_or(Rung::Full, |receiver| receiver.ladder().rung())
    }

    /// When it was let in.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Rooms it is in, tracks it publishes and tracks it subscribes to.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.rooms.len(), self.published.len(), self.subscribed.len())
    }
}
