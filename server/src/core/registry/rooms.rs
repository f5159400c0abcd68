//! Rooms: who is in, and their blind ordered mailbox.

use std::time::Instant;

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{
        BeaconPosted, CatchUp, CommitRejected, JoinRoom, MemberJoined, MemberLeft, PostBeacon, RefusalReason,
        RejectCommit, RoomJoined, SendMls, TrackAnnounced, relay_message::Body,
    },
    identity::{self, DeviceKey, EPOCH_DIGEST_BYTES, JoinKey, RoomId, SIGNATURE_BYTES},
    limits as wire,
    mls::{Envelope, EnvelopeError},
    object::TrackAlias,
};

use super::{
    asks::Joining,
    directory::{Away, Directory, Member, Room, TrackEntry},
    mailbox::{Mailbox, Sender},
    table::Then,
};
use crate::core::{
    ClientMail, MemberId, Now, Outbox, SessionId,
    control::{Refusal, check_room_key},
    grants::{accounts::Allowance, limits::Limits},
    session::Session,
};

/// On the session's shard: whether it may ask to be let in, and as whom. `waits` is how many of its earlier such requests
/// are not answered.
pub(crate) fn check_join(
    directory: &Directory,
    session: &Session,
    wanted: &JoinRoom,
    waits: usize,
) -> Result<(RoomId, Joining), Refusal> {
    let id = RoomId::from_slice(&wanted.room)?;
    let join_key = JoinKey::from_slice(&wanted.join_key)?;
    if session.rooms.contains_key(&id) {
        return Err(Refusal::of(RefusalReason::Already));
    }
    let bound = session.limits(&directory.limits()).rooms_max;
    let rooms = session.rooms.len() + waits;
    if rooms >= bound {
        return Err(Refusal::limit("rooms_max", rooms as u64, bound as u64));
    }
    // Verified before the room is locked: it takes the longest.
    identity::verify_join(&join_key, &id, &session.binding, &session.device, &wanted.proof)
        .map_err(|_| Refusal::of(RefusalReason::JoinProof))?;
    let may_open = !id.stands() || check_room_key(session, &wanted.room_key, &wanted.room_proof) == Ok(id);
    let (identity, device, mls_epoch) = (session.identity, session.device, wanted.mls_epoch);
    Ok((id, Joining { identity, device, join_key, may_open, mls_epoch }))
}

/// Lets a session in, or opens the room for it. Returns as which member.
pub(crate) fn join(
    directory: &Directory,
    id: RoomId,
    joining: &Joining,
    asked: (SessionId, u64),
    now: Now,
    outbox: &mut Outbox,
) -> Result<MemberId, Refusal> {
    let (member, tracks) = {
        let mut room = directory.rooms.get_or_make(id, || {
            if directory.is_draining() {
                return Err(Refusal::of(RefusalReason::GoingAway));
            }
            // Nobody takes the place of those who have the room's link.
            if !joining.may_open {
                return Err(Refusal::of(RefusalReason::JoinProof));
            }
            Ok(Room {
                place: directory.open_room()?,
                join_key: joining.join_key,
                members: Default::default(),
                member_next: 1,
                mailbox: Mailbox::new(joining.mls_epoch, directory.mailboxes_bytes.clone()),
                away: Default::default(),
                rejected: Default::default(),
            })
        })?;
        if room.join_key != joining.join_key {
            return Err(Refusal::of(RefusalReason::JoinProof));
        }
        let limits = directory.limits();
        let (rejected, bound) =
            (room.rejected_lately(&joining.identity, now.instant, &limits), limits.rejected_commits_max);
        if rejected >= bound {
            return Err(Refusal::limit("rejected_commits_max", rejected.into(), bound.into()));
        }
        enter(directory, &mut room, id, joining, asked, outbox)?
    };
    let tracks = tracks.into_iter().filter(|_| !crate::planted::planted!(TracksNotTold, once in 10));
    for (member, alias) in tracks {
        if let Some(track) = directory.tracks.get(&alias) {
            outbox.show_track(std::iter::once(asked.0), alias, &track);
            outbox.event(asked.0, announcement(&id, member, alias, &track));
        }
    }
    Ok(member)
}

fn enter(
    directory: &Directory,
    room: &mut Room,
    id: RoomId,
    joining: &Joining,
    (session, request): (SessionId, u64),
    outbox: &mut Outbox,
) -> Result<(MemberId, Vec<(MemberId, TrackAlias)>), Refusal> {
    let bound = directory.limits().room_members_max;
    if room.members.len() >= bound {
        return Err(Refusal::limit("room_members_max", room.members.len() as u64, bound as u64));
    }
    let devices = room.members.values().filter(|member| member.identity == joining.identity).count();
    let bound = directory.limits().room_devices_per_identity_max;
    if devices >= bound {
        return Err(Refusal::limit("room_devices_per_identity_max", devices as u64 + 1, bound as u64));
    }
    let member = room.member_next;
    room.member_next += 1;
    let entry = Member { session, identity: joining.identity, device: joining.device, tracks: Vec::new() };
    let joined = introduction(&id, member, &entry);
    outbox.events(room.sessions(), Body::MemberJoined(joined));
    room.members.insert(member, entry);
    room.away.retain(|_, away| away.device != joining.device);
    let members = room.members.iter().map(|(member, entry)| introduction(&id, *member, entry)).collect();
    let (mls_epoch, mls_sequence) = (room.mailbox.epoch(), room.mailbox.sequence());
    let joined = RoomJoined { member, mls_epoch, members, mls_sequence };
    outbox.reply(session, request, Body::RoomJoined(joined));
    let tracks = room.members.iter().flat_map(|(member, entry)| entry.tracks.iter().map(|alias| (*member, *alias)));
    Ok((member, tracks.collect()))
}

/// How a member leaves a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// As it wished.
    Left,
    /// As another member wished.
    Kicked,
    /// Its session ended: it may be back.
    Away(Instant),
}

/// Takes a member out and tells the others. Returns it, so that the caller ends its tracks. A member that was
/// kicked meanwhile, in a room that may even have been opened anew, is not there any more.
pub(crate) fn remove(
    directory: &Directory,
    id: RoomId,
    member: MemberId,
    session: SessionId,
    leaving: Leaving,
    outbox: &mut Outbox,
) -> Option<Member> {
    let kicked = leaving == Leaving::Kicked;
    directory.rooms.change(id, |room| {
        if room.member_of(member, session).is_none() {
            return (Then::Keep, None);
        }
        let removed = room.members.remove(&member);
        let left = MemberLeft { room: Bytes::copy_from_slice(&id.0), member, kicked };
        if !crate::planted::planted!(LeavingNotTold, once in 3) {
            outbox.events(room.sessions(), Body::MemberLeft(left.clone()));
        }
        if kicked {
            outbox.event(session, Body::MemberLeft(left));
        }
        if room.members.is_empty() && !crate::planted::planted!(RoomStays) {
            return (Then::Remove, removed);
        }
        if let (Leaving::Away(since), Some(removed)) = (leaving, &removed) {
            let (away, limits) = (&mut room.away, directory.limits());
            away.retain(|_, away| is_near(away, since, &limits));
            away.insert(member, Away { device: removed.device, since });
            if away.len() > limits.room_members_max {
                away.pop_first();
            }
        }
        (Then::Keep, removed)
    })?
}

/// From now on, newcomers must sign with another key.
pub(crate) fn rotate(
    directory: &Directory,
    id: RoomId,
    (member, session): (MemberId, SessionId),
    key: JoinKey,
) -> Result<(), Refusal> {
    let mut room = directory.rooms.get_mut(&id).ok_or(Refusal::of(RefusalReason::UnknownRoom))?;
    room.member_of(member, session).ok_or(Refusal::of(RefusalReason::UnknownRoom))?;
    room.join_key = key;
    Ok(())
}

/// On the session's shard: whether a member may say this of its group, and where.
pub(crate) fn check_beacon(
    directory: &Directory,
    session: &Session,
    posted: &PostBeacon,
    now: Now,
) -> Result<RoomId, Refusal> {
    let everybody = directory.limits();
    let limits = session.limits(&everybody);
    if !session.account.take(Allowance::Beacons, 1, limits, now.instant) {
        let bound = u64::from(limits.beacons_per_minute_max);
        return Err(Refusal::limit("beacons_per_minute_max", bound, bound));
    }
    let id = member_of(session, &posted.room)?;
    let PostBeacon { digest, signature, .. } = posted;
    for (field, bytes, bound) in [("digest", digest, EPOCH_DIGEST_BYTES), ("signature", signature, SIGNATURE_BYTES)] {
        if bytes.len() != bound {
            return Err(Refusal::field(field, bytes.len() as u64, bound as u64));
        }
    }
    Ok(id)
}

/// Tells the others in the room what a member says of its group, signed for them: the relay does not judge it.
pub(crate) fn tell_beacon(
    directory: &Directory,
    id: RoomId,
    (member, session): (MemberId, SessionId),
    posted: PostBeacon,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let PostBeacon { room: name, epoch, digest, signature } = posted;
    let room = directory.rooms.get(&id).ok_or(Refusal::of(RefusalReason::UnknownRoom))?;
    let is_in = room.members.get(&member).is_some_and(|entry| entry.session == session);
    if !is_in {
        return Err(Refusal::of(RefusalReason::UnknownRoom));
    }
    let beacon = BeaconPosted { room: name, member, epoch, digest, signature };
    outbox.events(room.sessions().filter(|other| *other != session), Body::BeaconPosted(beacon));
    Ok(())
}

/// On the session's shard: in which room a member may send this.
pub(crate) fn check_mls(directory: &Directory, session: &Session, sent: &SendMls, now: Now) -> Result<RoomId, Refusal> {
    let id = member_of(session, &sent.room)?;
    Refusal::check_len("payload", sent.payload.len(), wire::MLS_PAYLOAD_BYTES_MAX)?;
    Envelope { room: id, epoch: sent.epoch, commit: sent.commit }.check(&sent.payload)?;
    if sent.commit && !sent.join_key.is_empty() {
        JoinKey::from_slice(&sent.join_key)?;
    }
    // By identity: a person with many devices is one member to those who have to read it all.
    let (bytes, everybody) = (sent.payload.len() as u64, directory.limits());
    let limits = session.limits(&everybody);
    if !session.account.take(Allowance::MlsBytes, bytes, limits, now.instant) {
        return Err(Refusal::limit("mls_bytes_per_second_max", bytes, limits.mls_bytes_per_second_max));
    }
    Ok(id)
}

/// On the home shard: everybody else in the room gets the message, in one order.
pub(crate) fn deliver_mls(
    directory: &Directory,
    from: SessionId,
    from_member: MemberId,
    sent: SendMls,
    now: Now,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let unknown = || Refusal::of(RefusalReason::UnknownRoom);
    let id = RoomId::from_slice(&sent.room)?;
    let mut room = directory.rooms.get_mut(&id).ok_or_else(unknown)?;
    let identity = room.member_of(from_member, from).ok_or_else(unknown)?.identity;
    let (commit, join_key) = (sent.commit, JoinKey::from_slice(&sent.join_key));
    let sender = Sender {
        member: from_member,
        session: from,
        identity,
        join_key: room.join_key,
        newcomers_from: room.member_next,
        at: now.instant,
    };
    let delivery = room.mailbox.accept(sent, sender, &directory.limits(), &mut outbox.counts)?;
    // In the same step, so that the keys of two commits cannot arrive in the wrong order.
    if let Ok(key) = join_key
        && commit
        && !crate::planted::planted!(JoinKeyStays)
    {
        room.join_key = key;
    }
    let left_out = crate::planted::planted!(MessageLeftOut, once in 4);
    let others = room.sessions().filter(|other| *other != from);
    outbox.deliver(others.skip(usize::from(left_out)), &delivery);
    Ok(())
}

/// On the session's shard: in which room a device may ask for what it missed.
pub(crate) fn check_catch_up(
    directory: &Directory,
    session: &Session,
    wanted: &CatchUp,
    now: Now,
) -> Result<RoomId, Refusal> {
    let id = RoomId::from_slice(&wanted.room)?;
    // A request of 30 bytes is answered with a whole history.
    let everybody = directory.limits();
    let limits = session.limits(&everybody);
    if !session.account.take(Allowance::CatchUps, 1, limits, now.instant) {
        let bound = u64::from(limits.catch_ups_per_minute_max);
        return Err(Refusal::limit("catch_ups_per_minute_max", bound, bound));
    }
    Ok(id)
}

/// On the home shard: what came after the last message that a device has, if it is a member or was one until its
/// session ended.
pub(crate) fn catch_up(
    directory: &Directory,
    id: RoomId,
    from: SessionId,
    device: &DeviceKey,
    after: u64,
    now: Now,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let unknown = || Refusal::of(RefusalReason::UnknownRoom);
    let room = directory.rooms.get(&id).ok_or_else(unknown)?;
    let is_member = room.members.values().any(|member| member.session == from);
    let was_member = |away: &Away| away.device == *device && is_near(away, now.instant, &directory.limits());
    if !is_member && !room.away.values().any(was_member) {
        return Err(unknown());
    }
    let newest = room.mailbox.sequence();
    let missed = room.mailbox.since(after)?;
    for missed in missed.filter(|missed| !(crate::planted::planted!(CatchUpShort) && missed.sequence == newest)) {
        outbox.event(from, Body::MlsDelivery(missed.clone()));
    }
    Ok(())
}

/// On the home shard: a member for which messages were withheld has read what it had, and gets them now, as far as the
/// room still has them.
pub(crate) fn deliver_withheld(directory: &Directory, to: SessionId, id: RoomId, after: u64, outbox: &mut Outbox) {
    let missed = directory.rooms.get(&id).map_or(Some(Vec::new()), |room| {
        // Who has left meanwhile misses nothing.
        let member = room.members.iter().find(|(_, member)| member.session == to);
        member.map_or(Some(Vec::new()), |(member, _)| room.mailbox.still_after(after, *member))
    });
    outbox.tell(to.at, ClientMail::DeliverWithheld { to, room: id, missed });
}

/// What becomes of a commit that a member cannot process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts, for now.
    Stands,
    /// Its epoch is open again.
    Rejected,
    /// So it is, and its sender is to be taken out of the room.
    OneTooMany {
        /// The room.
        room: RoomId,
        /// The sender.
        member: MemberId,
        /// Its session.
        session: SessionId,
    },
}

/// On the home shard: a member cannot process the last commit. When that was one voice too many, everybody is told, its
/// sender included, and when there were too many of the sender's, it is out.
pub(crate) fn reject_commit(
    directory: &Directory,
    from: SessionId,
    from_member: MemberId,
    rejected: &RejectCommit,
    now: Now,
    outbox: &mut Outbox,
) -> Result<Verdict, Refusal> {
    let unknown = || Refusal::of(RefusalReason::UnknownRoom);
    let id = RoomId::from_slice(&rejected.room)?;
    let mut room = directory.rooms.get_mut(&id).ok_or_else(unknown)?;
    let Room { members, mailbox, join_key, .. } = &mut *room;
    members.get(&from_member).filter(|member| member.session == from).ok_or_else(unknown)?;
    let RejectCommit { epoch, sequence, .. } = *rejected;
    let Some(junk) = mailbox.reject(from_member, (epoch, sequence), members, now.instant)? else {
        return Ok(Verdict::Stands);
    };
    *join_key = junk.join_key;
    let event = CommitRejected { room: rejected.room.clone(), epoch, sequence, from_member: junk.member };
    if !crate::planted::planted!(RejectionNotTold) {
        outbox.events(room.sessions(), Body::CommitRejected(event));
    }
    // One member alone, as in a room of two, may take back what it cannot process, and nothing more.
    let sender = room.members.get(&junk.member).map(|member| member.identity).filter(|_| junk.identities > 1);
    let Some(sender) = sender else { return Ok(Verdict::Rejected) };
    let limits = directory.limits();
    let is_near = |at: &Instant| now.instant.saturating_duration_since(*at) < limits.rejected_commits_span;
    room.rejected.retain(|_, times| times.iter().any(is_near));
    room.rejected.entry(sender).or_default().push(now.instant);
    if room.rejected_lately(&sender, now.instant, &limits) < limits.rejected_commits_max {
        return Ok(Verdict::Rejected);
    }
    Ok(Verdict::OneTooMany { room: id, member: junk.member, session: junk.session })
}

/// A member that is away may not catch up any more; whether there was one of this number.
pub(crate) fn forget_away(directory: &Directory, id: &RoomId, member: MemberId) -> bool {
    directory.rooms.get_mut(id).is_some_and(|mut room| room.away.remove(&member).is_some())
}

/// The session of a member.
pub(crate) fn session_of(directory: &Directory, id: &RoomId, member: MemberId) -> Result<SessionId, Refusal> {
    let room = directory.rooms.get(id).ok_or(Refusal::of(RefusalReason::UnknownRoom))?;
    room.members.get(&member).map(|entry| entry.session).ok_or(Refusal::of(RefusalReason::UnknownMember))
}

/// The room in a request, if the session is in it.
pub(crate) fn member_of(session: &Session, room: &[u8]) -> Result<RoomId, Refusal> {
    let id = RoomId::from_slice(room)?;
    if session.rooms.contains_key(&id) { Ok(id) } else { Err(Refusal::of(RefusalReason::UnknownRoom)) }
}

/// How others are told of a track.
pub(crate) fn announcement(id: &RoomId, member: MemberId, alias: TrackAlias, track: &TrackEntry) -> Body {
    Body::TrackAnnounced(TrackAnnounced {
        room: Bytes::copy_from_slice(&id.0),
        member,
        alias: alias.value(),
        kind: track.kind.into(),
        label: track.label.clone(),
        activity: track.activity,
    })
}

fn is_near(away: &Away, now: Instant, limits: &Limits) -> bool {
    now.saturating_duration_since(away.since) <= limits.away_max
}

fn introduction(id: &RoomId, member: MemberId, entry: &Member) -> MemberJoined {
    MemberJoined {
        room: Bytes::copy_from_slice(&id.0),
        member,
        identity: Bytes::copy_from_slice(entry.identity.as_bytes()),
        device: Bytes::copy_from_slice(entry.device.as_bytes()),
    }
}

impl From<identity::IdentityError> for Refusal {
    fn from(error: identity::IdentityError) -> Self {
        use identity::IdentityError::{Expired, Holder, Length, Signature, Text, TooLong, Unknown};
        match error {
            Length { field, length, bound } => Self::field(field, length as u64, bound as u64),
            Unknown { field, value } => Self { detail: field, ..Self::field(field, u64::from(value), 0) },
            Text { field } => Self { detail: field, ..Self::of(RefusalReason::Malformed) },
            Signature { field } => Self { detail: field, ..Self::of(RefusalReason::TicketInvalid) },
            Holder => Self { detail: "holder", ..Self::of(RefusalReason::TicketInvalid) },
            Expired { field } => Self { detail: field, ..Self::of(RefusalReason::TicketExpired) },
            TooLong { field, seconds, bound } => {
                Self { value: seconds, bound, detail: field, ..Self::of(RefusalReason::TicketInvalid) }
            }
        }
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Epoch { given, actual } => Self::field(error.field(), given, actual),
            EnvelopeError::Commit { given } => Self::field(error.field(), given.into(), (!given).into()),
            EnvelopeError::Payload | EnvelopeError::Room => {
                Self { detail: error.field(), ..Self::of(RefusalReason::Malformed) }
            }
        }
    }
}

/// What a failed Hello check means for the connection.
pub(crate) fn hello_close_code(error: identity::IdentityError) -> CloseCode {
    use identity::IdentityError::{Expired, Holder, Length, Signature, Text, TooLong, Unknown};
    match error {
        Expired { .. } | TooLong { .. } => CloseCode::DELEGATION_EXPIRED,
        Signature { .. } | Holder => CloseCode::BAD_SIGNATURE,
        Length { .. } | Unknown { .. } | Text { .. } => CloseCode::MALFORMED_MESSAGE,
    }
}
