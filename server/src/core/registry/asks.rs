//! What members want of a room, with the facts that only their own shard knows: checked there, and carried out where the room
//! is. On a single relay most of it is one call; in a cluster it goes by mail to the room's home (`core/abroad/desk`).

use bytes::Bytes;
use supernode_proto::{
    control::{PostBeacon, RefusalReason, RejectCommit, SendMls, TrackKind, TrackPublished, relay_message::Body},
    identity::{DeviceKey, IdentityKey, JoinKey, RoomId},
    object::TrackAlias,
};

use super::{
    directory::TrackEntry,
    rings,
    rooms::{self, Leaving, Verdict},
};
use crate::core::{ControlMail, MemberId, Now, Outbox, SessionId, ShardCore, abroad::Waits, control::Refusal};

/// Something that a session wants of a room.
#[derive(Debug, Clone)]
pub struct RoomAsk {
    /// Which room.
    pub room: RoomId,
    /// Who wants it.
    pub from: SessionId,
    /// As which member; zero if it is none, or if that does not matter.
    pub member: MemberId,
    /// Which request is to be answered; zero if none is.
    pub request: u64,
    /// What.
    pub what: Asked,
}

/// What a session may want of a room.
#[derive(Debug, Clone)]
pub enum Asked {
    /// To be let in.
    Join(Joining),
    /// To be out.
    Leave {
        /// Because its session has broken: it may be back.
        is_away: bool,
    },
    /// In a cluster: nobody of the session's node is in the room any more.
    Gone,
    /// To put a member out.
    Kick(MemberId),
    /// That newcomers sign with another key.
    Rotate(JoinKey),
    /// That the others are told this of its group.
    Beacon(PostBeacon),
    /// That everybody gets this in order.
    Mls(SendMls),
    /// What a device missed, that may not be a member at the moment.
    CatchUp {
        /// Which device.
        device: DeviceKey,
        /// The last message that it has.
        after: u64,
    },
    /// That a commit does not count which it cannot process.
    Reject(RejectCommit),
    /// What was withheld from it: it has read the rest.
    Withheld {
        /// The last message that it was sent.
        after: u64,
    },
    /// In a cluster: what was to be taken from a member that was put out is taken. Tell whoever put it out.
    IsOut {
        /// Who did.
        kicker: SessionId,
        /// By which request.
        request: u64,
    },
    /// In a cluster: to know whom it rings, as it is at the door.
    Door,
    /// To publish a track.
    Publish(Publishing),
    /// That a track has another label.
    Relabel {
        /// Which track.
        alias: TrackAlias,
        /// The label.
        label: Bytes,
        /// In which epoch it is sealed.
        mls_epoch: u64,
    },
    /// To publish a track no more.
    Unpublish(TrackAlias),
}

/// Somebody who wants to be in a room, and has shown that they know its join key.
#[derive(Debug, Clone, Copy)]
pub struct Joining {
    /// Who.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
    /// What they have signed with.
    pub join_key: JoinKey,
    /// Whether they may open the room if it is not there.
    pub may_open: bool,
    /// In which epoch their group is, if they open it.
    pub mls_epoch: u64,
}

/// A track that somebody wants to publish.
#[derive(Debug, Clone)]
pub struct Publishing {
    /// Its name.
    pub alias: TrackAlias,
    /// What it carries.
    pub kind: TrackKind,
    /// What members see of it.
    pub label: Bytes,
    /// Whether its objects say how lively they are.
    pub activity: bool,
    /// In which epoch the label is sealed.
    pub mls_epoch: u64,
}

impl Publishing {
    pub(crate) fn entry(&self, room: RoomId, member: MemberId, publisher: SessionId) -> TrackEntry {
        let (kind, label, activity) = (self.kind, self.label.clone(), self.activity);
        TrackEntry { room, member, publisher, kind, label, newcomers_from: 0, activity }
    }
}

impl RoomAsk {
    /// Bytes that it names beside its own.
    pub(crate) fn payload_bytes(&self) -> usize {
        match &self.what {
            Asked::Mls(sent) => sent.payload.len(),
            Asked::Publish(track) => track.label.len(),
            Asked::Relabel { label, .. } => label.len(),
            Asked::Beacon(posted) => posted.digest.len() + posted.signature.len(),
            _ => 0,
        }
    }
}

impl ShardCore {
    /// Where the room is: does what somebody wants of it, and answers.
    pub(crate) fn carry_out_ask(&mut self, ask: RoomAsk, now: Now, outbox: &mut Outbox) {
        let (from, request) = (ask.from, ask.request);
        match self.try_ask(ask, now, outbox) {
            Ok(true) => outbox.done(from, request),
            Ok(false) => {}
            Err(refusal) if request != 0 => outbox.refuse(from, request, refusal.into()),
            Err(_) => {}
        }
    }

    /// Whether it is to be answered by Done.
    fn try_ask(&mut self, ask: RoomAsk, now: Now, outbox: &mut Outbox) -> Result<bool, Refusal> {
        let directory = self.directory.clone();
        let RoomAsk { room, from, member, request, what } = ask;
        match what {
            Asked::Join(joining) => {
                rooms::join(&directory, room, &joining, (from, request), now, outbox)?;
                return Ok(false);
            }
            Asked::Leave { is_away } => {
                let leaving = if is_away { Leaving::Away(now.instant) } else { Leaving::Left };
                self.remove_member(room, (member, from), leaving, outbox);
                return Ok(request != 0);
            }
            Asked::Gone => {
                self.remove_node(room, from.at.node, now, outbox);
                return Ok(false);
            }
            Asked::IsOut { kicker, request } => {
                outbox.done(kicker, request);
                return Ok(false);
            }
            Asked::Kick(whom) => {
                self.kick(room, whom, (from, request), outbox)?;
                return Ok(false);
            }
            Asked::Rotate(key) => rooms::rotate(&directory, room, (member, from), key)?,
            Asked::Beacon(posted) => rooms::tell_beacon(&directory, room, (member, from), posted, outbox)?,
            Asked::Mls(sent) => rooms::deliver_mls(&directory, from, member, sent, now, outbox)?,
            Asked::Door => {
                let members = rings::inside(&directory, &room, from);
                if members.is_empty() {
                    return Err(Refusal::of(RefusalReason::Offline));
                }
                outbox.mail(from.at, ControlMail::Inside { to: from, request, members });
                return Ok(false);
            }
            Asked::CatchUp { device, after } => {
                rooms::catch_up(&directory, room, from, &device, after, now, outbox)?;
            }
            Asked::Reject(rejected) => {
                let outcome = rooms::reject_commit(&directory, from, member, &rejected, now, outbox)?;
                self.ledger.commits_rejected += u64::from(outcome != Verdict::Stands);
                if let Verdict::OneTooMany { room, member, session } = outcome {
                    outbox.counts.limit("rejected_commits_max");
                    self.take_out(room, (member, session), None, outbox);
                }
            }
            Asked::Withheld { after } => {
                rooms::deliver_withheld(&directory, from, room, after, outbox);
                return Ok(false);
            }
            Asked::Publish(track) => {
                self.announce(room, (member, from), &track, outbox)?;
                let published = TrackPublished { alias: track.alias.value() };
                outbox.reply(from, request, Body::TrackPublished(published));
                return Ok(false);
            }
            Asked::Relabel { alias, label, mls_epoch } => {
                self.label(alias, from, label, mls_epoch, outbox)?;
            }
            Asked::Unpublish(alias) => {
                self.retract(room, (member, from), alias, outbox);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a member out that is no longer there, and ends its tracks.
    pub(crate) fn remove_member(
        &mut self,
        room: RoomId,
        (member, session): (MemberId, SessionId),
        leaving: Leaving,
        outbox: &mut Outbox,
    ) {
        if let Some(removed) = rooms::remove(&self.directory, room, member, session, leaving, outbox) {
            self.end_tracks_of(&room, &removed.tracks, outbox);
        }
    }

    /// A session's request about a room goes to where the room is.
    pub(crate) fn ask(
        &mut self,
        link: u32,
        (room, request): (RoomId, u64),
        what: Asked,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let session = self.session(link).ok_or(Refusal::of(RefusalReason::Malformed))?;
        let (from, member) = (session.id, session.rooms.get(&room).copied().unwrap_or_default());
        if self.is_clustered() && request != 0 {
            let waits = match &what {
                Asked::Join(_) => Waits::Join,
                Asked::CatchUp { .. } if member == 0 => Waits::CatchUp,
                Asked::Publish(track) => Waits::Publish(track.alias),
                _ => Waits::Answer,
            };
            self.wait(link, room, request, waits)?;
        }
        outbox.ask(RoomAsk { room, from, member, request, what });
        Ok(())
    }
}
