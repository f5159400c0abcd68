//! Our place in a room's group: commits of ours, and the messages of the group.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use supernode_e2ee::{Change, Error, Group, Processed, Snapshot};
use supernode_proto::{
    control::{CommitRejected, MlsDelivery, SendMls, client_message},
    identity::{IdentityKey, RoomId},
    mls::Envelope,
};

use super::FrameKeys;
use crate::Member;

/// Our place in a group. What it finds goes to the [`RoomState`](super::RoomState), before anybody else works on it.
pub struct Membership {
    group: Group,
    frame_keys: Arc<FrameKeys>,
    expected: Expected,
    pending: Pending,
}

/// Who may be in a group.
enum Expected {
    These(HashSet<IdentityKey>),
    WhomMembersLetIn,
}

impl Expected {
    fn holds(&self, identity: &IdentityKey) -> bool {
        match self {
            Self::These(identities) => identities.contains(identity),
            Self::WhomMembersLetIn => true,
        }
    }
}

/// What our pending commit says.
#[derive(Default)]
struct Pending {
    /// Those whom it removes are put out.
    puts_out: bool,
    /// It brings fresh keys.
    renews: bool,
}

/// The group is in its next epoch, whose keys are in use.
pub struct Entered {
    pub(super) snapshot: Snapshot,
    pub(super) by: supernode_e2ee::Member,
    /// By our own doing.
    pub(super) is_ours: bool,
    pub(super) put_out: bool,
    pub(super) renewed: bool,
    pub(super) removed: Vec<supernode_e2ee::Member>,
}

/// What a message of the mailbox is.
pub enum Read {
    /// The relay says of it what it denies itself.
    FalseEnvelope,
    /// A commit that counts.
    Entered(Box<Entered>),
    /// A commit that removed us, by whom, and whether we were put out.
    RemovedUs {
        /// Who made it.
        by: Member,
        /// Whether it says that we were put out.
        put_out: bool,
    },
    /// A member says something.
    Message {
        /// Who.
        from: Member,
        /// What.
        bytes: Vec<u8>,
    },
    /// A commit at the relay, of the epoch that we are in, and none to us.
    Junk(Option<Error>),
    /// A commit that we refuse, or cannot follow: whoever does is in another group now.
    CannotFollow(Option<Error>),
    /// Nothing to do about it.
    Nothing(Option<Error>),
}

impl Read {
    /// Why it does not count, if something is wrong with it.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Junk(error) | Self::CannotFollow(error) | Self::Nothing(error) => error.as_ref(),
            _ => None,
        }
    }
}

/// What became of a commit of ours.
pub enum Settled {
    /// It counts.
    Entered(Box<Entered>),
    /// It counts at the relay, and cannot be used here.
    CannotFollow(Error),
    /// It does not count.
    Discarded,
}

/// What a rejected commit is to us.
pub enum Rejection {
    /// We had not followed it.
    NotFollowed,
    /// We are in the epoch before again.
    WentBack(Box<Snapshot>),
    /// We had followed it, and cannot go back.
    CannotGoBack(Error),
}

impl Membership {
    pub(super) fn new(group: Group, frame_keys: Arc<FrameKeys>, has_door: bool) -> Self {
        let identities = || group.members().iter().map(|member| member.identity).collect();
        let expected = if has_door { Expected::WhomMembersLetIn } else { Expected::These(identities()) };
        Self { group, frame_keys, expected, pending: Pending::default() }
    }

    /// The room.
    pub fn room(&self) -> RoomId {
        self.group.room()
    }

    /// The epoch that the group is in.
    pub fn epoch(&self) -> u64 {
        self.group.epoch()
    }

    /// A message of the group, whose turn it is ([`RoomState::take`](super::RoomState::take)).
    pub fn read(&mut self, delivery: &MlsDelivery, unix_s: u64) -> Read {
        // What is said of a message is the relay's word; what it is, is sealed in it.
        let said = Envelope { room: self.room(), epoch: delivery.epoch, commit: delivery.commit };
        if said.check(&delivery.payload).is_err() {
            return Read::FalseEnvelope;
        }
        let before = self.group.epoch();
        let processed = self.group.process(&delivery.payload, &|identity| self.expected.holds(identity), unix_s);
        let is_ours = matches!(processed, Ok(Processed::Own));
        let is_of_this_epoch = delivery.commit && delivery.epoch == before;
        // What counts as a commit at the relay, and is none to us, makes us part ways with it.
        let is_junk = is_of_this_epoch && !is_ours && self.group.epoch() == before;
        match processed {
            Ok(Processed::EpochChanged { by, put_out, renewed, removed, .. }) => match self.install() {
                Ok(snapshot) => {
                    let entered = Entered { snapshot, by, is_ours: false, put_out, renewed, removed };
                    Read::Entered(Box::new(entered))
                }
                Err(error) => Read::CannotFollow(Some(error)),
            },
            Ok(Processed::RemovedOurselves { by, put_out }) => Read::RemovedUs { by: by.into(), put_out },
            // Told late that it counts: we were away when it was accepted.
            Ok(Processed::Own) if is_of_this_epoch => match self.settle(true) {
                Settled::Entered(entered) => Read::Entered(entered),
                Settled::CannotFollow(error) => Read::CannotFollow(Some(error)),
                Settled::Discarded => Read::CannotFollow(None),
            },
            junk if is_junk => Read::Junk(junk.err()),
            Ok(Processed::Message { from, bytes }) => Read::Message { from: from.into(), bytes },
            Ok(Processed::Own | Processed::Ignored) => Read::Nothing(None),
            Err(error) if delivery.commit => Read::CannotFollow(Some(error)),
            Err(error) => Read::Nothing(Some(error)),
        }
    }

    /// A commit was rejected. Whoever followed it goes back to the epoch before, and sends nothing there as long as
    /// somebody is in the group again whom that commit had removed: so to take a commit back opens nothing to
    /// anybody.
    pub fn handle_rejected(&mut self, rejected: &CommitRejected) -> Rejection {
        let epoch = self.group.epoch();
        if epoch <= rejected.epoch {
            return Rejection::NotFollowed;
        }
        let went_back = if epoch == rejected.epoch + 1 { self.go_back() } else { Err(Error::NoEpochBefore) };
        match went_back {
            Ok(snapshot) => Rejection::WentBack(Box::new(snapshot)),
            Err(error) => Rejection::CannotGoBack(error),
        }
    }

    fn go_back(&mut self) -> Result<Snapshot, Error> {
        let again = self.group.go_back()?;
        // Before anything can be sealed for them.
        self.frame_keys.hold_back_from(again.iter().map(|member| member.device));
        let snapshot = self.group.snapshot()?;
        self.frame_keys.restart(&self.group.epoch_keys()?)?;
        Ok(snapshot)
    }

    /// Makes a commit that is pending until [`Self::settle`]; `make` returns `None` when there is nothing to change.
    ///
    /// # Errors
    /// What `make` says.
    pub fn make_commit(
        &mut self,
        make: impl FnOnce(&mut Group) -> Result<Option<Change>, Error>,
    ) -> Result<Option<Change>, Error> {
        let change = make(&mut self.group)?;
        self.pending = change
            .as_ref()
            .map_or_else(Pending::default, |change| Pending { puts_out: change.puts_out, renews: change.renews });
        Ok(change)
    }

    /// The relay took our commit, or another's came first.
    pub fn settle(&mut self, is_accepted: bool) -> Settled {
        if !is_accepted {
            self.discard_own();
            return Settled::Discarded;
        }
        let (before, own) = (self.group.members(), self.group.own_leaf());
        let merged = self.group.merge_own().and_then(|()| self.install()).and_then(|snapshot| {
            let ourselves = before.iter().find(|member| member.leaf == own);
            Ok((snapshot, *ourselves.ok_or(Error::NoSuchMember(own))?))
        });
        let (snapshot, by) = match merged {
            Ok(merged) => merged,
            Err(error) => return Settled::CannotFollow(error),
        };
        let removed = before.into_iter().filter(|member| !snapshot.members.contains(member)).collect();
        let Pending { puts_out: put_out, renews: renewed } = std::mem::take(&mut self.pending);
        Settled::Entered(Box::new(Entered { snapshot, by, is_ours: true, put_out, renewed, removed }))
    }

    /// Whatever we had pending does not count: had the relay taken it, we would have been told.
    pub fn discard_own(&mut self) {
        // It fails if the store does, which is memory; the next commit says so then.
        let _ = self.group.discard_own();
    }

    /// We were given another place in the group. Its epochs are not those of the place that we had, whatever their numbers:
    /// all keys begin anew.
    ///
    /// # Errors
    /// [`Error::WrongRoom`]; what else the group says.
    pub fn replace(&mut self, group: Group) -> Result<Snapshot, Error> {
        if group.room() != self.room() {
            return Err(Error::WrongRoom);
        }
        let snapshot = group.snapshot()?;
        self.frame_keys.restart(&group.epoch_keys()?)?;
        self.group = group;
        Ok(snapshot)
    }

    /// A message for the group, sealed in the epoch that it is in.
    ///
    /// # Errors
    /// As [`Group::seal_message`].
    pub fn message(&mut self, message: &[u8]) -> Result<client_message::Body, Error> {
        let payload = self.group.seal_message(message)?.into();
        let (room, epoch) = (Bytes::copy_from_slice(&self.room().0), self.group.epoch());
        Ok(client_message::Body::SendMls(SendMls { room, epoch, commit: false, payload, join_key: Bytes::new() }))
    }

    /// Opens a message of the group that did not come through the mailbox. A commit has to.
    pub fn open_aside(&mut self, sealed: &[u8], unix_s: u64) -> Option<(Member, Vec<u8>)> {
        Envelope { room: self.room(), epoch: self.group.epoch(), commit: false }.check(sealed).ok()?;
        match self.group.process(sealed, &|_| false, unix_s) {
            Ok(Processed::Message { from, bytes }) => Some((from.into(), bytes)),
            _ => None,
        }
    }

    /// The commit that began this epoch cannot be rejected any more.
    pub fn forget_previous(&mut self) {
        self.group.forget_previous();
    }

    /// Whether a commit that is rejected now can be taken back.
    pub fn can_go_back(&self) -> bool {
        self.group.can_go_back()
    }

    /// Takes the keys into use of the epoch that the group has entered. Whoever learns of the epoch can rely on its keys.
    fn install(&self) -> Result<Snapshot, Error> {
        let snapshot = self.group.snapshot()?;
        self.frame_keys.install(&self.group.epoch_keys()?)?;
        Ok(snapshot)
    }
}
