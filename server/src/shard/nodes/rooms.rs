//! What nodes say to each other of rooms, in the wire's words and back.

use supernode_proto::{
    cluster::{self as wire, ask::What},
    control::{RelabelTrack, TrackKind},
    identity::{DeviceKey, IdentityKey, JoinKey},
    limits,
    object::TrackAlias,
};

use super::words::{NoMail, alias, bytes, room, session, somebody};
use crate::core::{Asked, DOOR_DEVICES_MAX, Fence, Joining, Publishing, RoomAsk, SessionId, TrackShown};

pub(super) const fn fence(of: Fence) -> wire::Fence {
    wire::Fence { epoch: of.epoch, revision: of.revision }
}

pub(super) fn fence_of(of: Option<wire::Fence>) -> Result<Fence, NoMail> {
    let wire::Fence { epoch, revision } = of.ok_or(NoMail)?;
    Ok(Fence { epoch, revision })
}

/// What a session wants of a room, asked by this decision.
pub(super) fn asked(ask: &RoomAsk, by: Fence) -> wire::Ask {
    let what = match &ask.what {
        Asked::Join(Joining { identity, device, join_key, may_open, mls_epoch }) => What::Join(wire::Join {
            identity: bytes(identity.as_bytes()),
            device: bytes(device.as_bytes()),
            join_key: bytes(join_key.as_bytes()),
            may_open: *may_open,
            mls_epoch: *mls_epoch,
        }),
        Asked::Leave { is_away } => What::Leave(wire::Leave { away: *is_away }),
        Asked::Gone => What::Gone(wire::Gone {}),
        Asked::Kick(member) => What::Kick(*member),
        Asked::IsOut { kicker, request } => What::IsOut(wire::IsOut { kicker: session(*kicker), request: *request }),
        Asked::Door => What::Door(wire::Door {}),
        Asked::Rotate(key) => What::Rotate(bytes(key.as_bytes())),
        Asked::Beacon(posted) => What::Beacon(posted.clone()),
        Asked::Mls(sent) => What::Mls(sent.clone()),
        Asked::CatchUp { device, after } => {
            What::CatchUp(wire::CatchUp { device: bytes(device.as_bytes()), after: *after })
        }
        Asked::Reject(rejected) => What::Reject(rejected.clone()),
        Asked::Withheld { after } => What::Withheld(*after),
        Asked::Publish(Publishing { alias, kind, label, activity, mls_epoch }) => What::Publish(wire::Publish {
            alias: alias.value(),
            kind: (*kind).into(),
            label: label.clone(),
            activity: *activity,
            mls_epoch: *mls_epoch,
        }),
        Asked::Relabel { alias, label, mls_epoch } => {
            What::Relabel(RelabelTrack { alias: alias.value(), label: label.clone(), mls_epoch: *mls_epoch })
        }
        Asked::Unpublish(alias) => What::Unpublish(alias.value()),
    };
    wire::Ask {
        from: session(ask.from),
        room: bytes(&ask.room.0),
        member: ask.member,
        request: ask.request,
        fence: Some(fence(by)),
        what: Some(what),
    }
}

/// What somebody wants of a room, and by which decision it is asked.
pub(super) fn ask_of(ask: wire::Ask) -> Result<(RoomAsk, Fence), NoMail> {
    let wire::Ask { from, room: of, member, request, fence, what } = ask;
    let of = room(&of)?;
    let same = |named: &[u8]| room(named).ok().filter(|named| *named == of).ok_or(NoMail);
    let device = |of: &[u8]| DeviceKey::from_slice(of).map_err(|_| NoMail);
    let short = |label: &[u8]| if label.len() <= limits::TRACK_LABEL_BYTES_MAX { Ok(()) } else { Err(NoMail) };
    let what = match what.ok_or(NoMail)? {
        What::Join(join) => Asked::Join(Joining {
            identity: IdentityKey::from_slice(&join.identity).map_err(|_| NoMail)?,
            device: device(&join.device)?,
            join_key: JoinKey::from_slice(&join.join_key).map_err(|_| NoMail)?,
            may_open: join.may_open,
            mls_epoch: join.mls_epoch,
        }),
        What::Leave(wire::Leave { away }) => Asked::Leave { is_away: away },
        What::Gone(wire::Gone {}) => Asked::Gone,
        What::Kick(member) => Asked::Kick(member),
        What::IsOut(wire::IsOut { kicker, request }) => {
            Asked::IsOut { kicker: somebody(kicker.ok_or(NoMail)?)?, request }
        }
        What::Door(wire::Door {}) => Asked::Door,
        What::Rotate(key) => Asked::Rotate(JoinKey::from_slice(&key).map_err(|_| NoMail)?),
        What::Beacon(posted) => {
            same(&posted.room)?;
            Asked::Beacon(posted)
        }
        What::Mls(sent) => {
            same(&sent.room)?;
            Asked::Mls(Some(sent).filter(|sent| sent.payload.len() <= limits::MLS_PAYLOAD_BYTES_MAX).ok_or(NoMail)?)
        }
        What::CatchUp(wire::CatchUp { device: of, after }) => Asked::CatchUp { device: device(&of)?, after },
        What::Reject(rejected) => {
            same(&rejected.room)?;
            Asked::Reject(rejected)
        }
        What::Withheld(after) => Asked::Withheld { after },
        What::Publish(track) => {
            short(&track.label)?;
            let kind = kind_of(track.kind)?;
            let wire::Publish { alias: of, label, activity, mls_epoch, .. } = track;
            Asked::Publish(Publishing { alias: alias(of)?, kind, label, activity, mls_epoch })
        }
        What::Relabel(RelabelTrack { alias: of, label, mls_epoch }) => {
            short(&label)?;
            Asked::Relabel { alias: alias(of)?, label, mls_epoch }
        }
        What::Unpublish(of) => Asked::Unpublish(alias(of)?),
    };
    let from = somebody(from.ok_or(NoMail)?)?;
    Ok((RoomAsk { room: of, from, member, request, what }, fence_of(fence)?))
}

/// The track that is meant, if one is.
pub(super) const fn alias_of(ask: &RoomAsk) -> Option<TrackAlias> {
    match &ask.what {
        Asked::Publish(Publishing { alias, .. }) | Asked::Relabel { alias, .. } | Asked::Unpublish(alias) => {
            Some(*alias)
        }
        _ => None,
    }
}

/// Who is in a room.
pub(super) fn insiders(members: &[(IdentityKey, SessionId)]) -> Vec<wire::Insider> {
    let insider = |(identity, of): &(IdentityKey, SessionId)| wire::Insider {
        identity: bytes(identity.as_bytes()),
        session: session(*of),
    };
    members.iter().map(insider).collect()
}

/// The same read: no more of them than ring, each at whichever node.
pub(super) fn insiders_of(members: &[wire::Insider]) -> Result<Vec<(IdentityKey, SessionId)>, NoMail> {
    if members.len() > DOOR_DEVICES_MAX {
        return Err(NoMail);
    }
    let insider = |of: &wire::Insider| {
        let identity = IdentityKey::from_slice(&of.identity).map_err(|_| NoMail)?;
        Ok((identity, somebody(of.session.ok_or(NoMail)?)?))
    };
    members.iter().map(insider).collect()
}

pub(super) fn shown(alias: TrackAlias, track: &TrackShown) -> wire::TrackCame {
    let TrackShown { room, member, publisher, kind, activity } = *track;
    let (alias, room, publisher) = (alias.value(), bytes(&room.0), session(publisher));
    wire::TrackCame { alias, room, member, publisher, kind: kind.into(), activity }
}

pub(super) fn shown_of(came: wire::TrackCame) -> Result<(TrackAlias, TrackShown), NoMail> {
    let wire::TrackCame { alias: of, room: in_room, member, publisher, kind, activity } = came;
    let publisher = somebody(publisher.ok_or(NoMail)?)?;
    let (room, kind) = (room(&in_room)?, kind_of(kind)?);
    Ok((alias(of)?, TrackShown { room, member, publisher, kind, activity }))
}

fn kind_of(kind: i32) -> Result<TrackKind, NoMail> {
    TrackKind::try_from(kind).ok().filter(|kind| *kind != TrackKind::Unspecified).ok_or(NoMail)
}
