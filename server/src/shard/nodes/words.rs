//! Mail between nodes: the core's types in the wire's words and back.
//!
//! What another node says is a claim. It speaks for its own sessions only, and only to sessions of the shard that it writes to;
//! everything that does not fit a field is refused, and with it the link.

use bytes::Bytes;
use prost::Message as _;
use supernode_proto::{
    close::CloseCode,
    cluster::{self as wire, LETTER_BYTES, LETTER_MAILS, Letter, Mail, mail::Body},
    control::{MlsDelivery, RelayMessage, frame},
    identity::RoomId,
    limits,
    object::TrackAlias,
};

use super::rooms;
use crate::{
    core::{Address, ClientMail, ControlMail, NodeId, SessionId, ShardId, forward::Demand, node_of},
    shard::quic::cid::SHARDS_MAX,
};

/// A letter in its frames: as many as it takes, each no longer than a letter may be. `None` if one piece of mail alone is
/// longer, which nothing that a client can bring about is.
pub(crate) fn frames(to: ShardId, mail: &[ControlMail]) -> Option<Vec<Bytes>> {
    let mut frames = Vec::with_capacity(1);
    let mut letter = empty(to);
    let mut bytes = letter.encoded_len();
    for mail in mail.iter().filter_map(written) {
        let more = mail.encoded_len() + FIELD_BYTES;
        if !letter.mail.is_empty() && (bytes + more > LETTER_BYTES || letter.mail.len() == LETTER_MAILS) {
            frames.push(frame(&std::mem::replace(&mut letter, empty(to))));
            bytes = letter.encoded_len();
        }
        bytes += more;
        if bytes > LETTER_BYTES {
            return None;
        }
        letter.mail.push(mail);
    }
    if !letter.mail.is_empty() {
        frames.push(frame(&letter));
    }
    Some(frames)
}

/// Subscribers of one track that a shard may say it has. Default 2^20, more than its sessions: so many of four thousand shards
/// can be counted together.
const SUBSCRIBERS_MAX: u32 = 1 << 20;

/// What stands in front of a piece of mail in a letter, at most: its tag and its length.
const FIELD_BYTES: usize = 1 + 4;

fn empty(to: ShardId) -> Letter {
    Letter { shard: to.0.into(), mail: Vec::new() }
}

/// A piece of mail in the wire's words; `None` for what is no node's to say.
fn written(mail: &ControlMail) -> Option<Mail> {
    let body = match mail {
        ControlMail::Client(mail) => to_clients(mail),
        ControlMail::AskHome(ask, fence) => Body::Ask(rooms::asked(ask, *fence)),
        ControlMail::NotHome(ask, fence) => Body::NotHome(rooms::asked(ask, *fence)),
        ControlMail::FromHome { room, fence, mail, .. } => Body::FromHome(Box::new(wire::FromHome {
            room: bytes(&room.0),
            fence: Some(rooms::fence(*fence)),
            mail: Some(Box::new(written(mail)?)),
        })),
        ControlMail::TrackCame(alias, track) => Body::TrackCame(rooms::shown(*alias, track)),
        ControlMail::Interest { alias, from, demand, fresh } => Body::Interest(wire::Interest {
            alias: alias.value(),
            from: Some(wire::Address { node: from.node.0.into(), shard: from.shard.0.into() }),
            demand: Some(wire::Demand {
                subscribers: demand.subscribers,
                sent: demand.sent,
                temporal_layer_max: demand.temporal_layer_max.into(),
                spatial_layer_max: demand.spatial_layer_max.into(),
                bits_per_second: demand.bits_per_second,
            }),
            fresh: fresh.and_then(session),
        }),
        ControlMail::Keyframe { alias } => Body::Keyframe(wire::Keyframe { alias: alias.value() }),
        ControlMail::TrackEnded { alias } => Body::TrackEnded(wire::TrackEnded { alias: alias.value() }),
        ControlMail::Evict { session: evicted, room, member, kicker } => Body::Evict(wire::Evict {
            session: session(*evicted),
            room: bytes(&room.0),
            member: *member,
            kicker: kicker.and_then(|(kicker, _)| session(kicker)),
            request: kicker.map_or(0, |(_, request)| request),
        }),
        ControlMail::Inside { to, request, members } => {
            Body::Inside(wire::Inside { to: session(*to), request: *request, members: rooms::insiders(members) })
        }
        ControlMail::FromNode { words, .. } => Body::FromNode(wire::FromNode { words: words.clone() }),
        // A shell tells its own shards.
        ControlMail::Ask(_)
        | ControlMail::Out(_)
        | ControlMail::HomeLost(_)
        | ControlMail::Reenter(_)
        | ControlMail::Tune(_)
        | ControlMail::Heard { .. }
        | ControlMail::NodeCame(_)
        | ControlMail::NodeGone(_)
        | ControlMail::BusBack
        | ControlMail::HomeIs { .. } => return None,
    };
    Some(Mail { body: Some(body) })
}

fn to_clients(mail: &ClientMail) -> Body {
    match mail {
        ClientMail::Send { to, message } => Body::Send(wire::Send { to: session(*to), message: Some(message.clone()) }),
        ClientMail::Tell { to, message } => Body::Tell(wire::Tell { to: sessions(to), message: Some(message.clone()) }),
        ClientMail::Deliver { to, delivery } => {
            Body::Deliver(wire::Deliver { to: sessions(to), delivery: Some(delivery.clone()) })
        }
        ClientMail::DeliverWithheld { to, room, missed } => {
            let missed = missed.as_ref().filter(|missed| fit(missed)).cloned();
            let (to, room, gone) = (session(*to), bytes(&room.0), missed.is_none());
            Body::DeliverWithheld(wire::DeliverWithheld { to, room, gone, missed: missed.unwrap_or_default() })
        }
        ClientMail::Close { session: closed, code } => {
            Body::Close(wire::Close { session: session(*closed), code: code.0 })
        }
    }
}

/// Whether what a member has missed fits one letter. An operator may let mailboxes be larger; then it is as if nothing were left.
fn fit(missed: &[MlsDelivery]) -> bool {
    let bytes: usize = missed.iter().map(|delivery| delivery.encoded_len() + FIELD_BYTES).sum();
    bytes <= LETTER_BYTES / 8 * 7
}

pub(super) fn session(session: SessionId) -> Option<wire::Session> {
    let SessionId { at, link, generation } = session;
    Some(wire::Session { node: at.node.0.into(), shard: at.shard.0.into(), link, generation })
}

fn sessions(of: &[SessionId]) -> Vec<wire::Session> {
    of.iter().copied().filter_map(session).collect()
}

pub(super) fn bytes(of: &[u8]) -> Bytes {
    Bytes::copy_from_slice(of)
}

/// Mail that means nothing here: not every field has what it must, or not from there, or not for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMail;

/// Reads letters from one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// Who writes.
    pub(crate) from: NodeId,
    /// This node.
    pub(crate) here: NodeId,
    /// How many shards it has.
    pub(crate) shards: usize,
}

impl Reader {
    /// The letter in a frame, and which shard it is for.
    ///
    /// # Errors
    /// [`NoMail`].
    pub(crate) fn read(self, frame: &[u8]) -> Result<(ShardId, Vec<ControlMail>), NoMail> {
        let Letter { shard, mail } = wire::decode_letter(frame).map_err(|_| NoMail)?;
        let to = Address { node: self.here, shard: ShardId(u16::try_from(shard).map_err(|_| NoMail)?) };
        if to.shard.index() >= self.shards {
            return Err(NoMail);
        }
        let mail = mail.into_iter().map(|mail| self.mail(to, mail.body.ok_or(NoMail)?));
        Ok((to.shard, mail.collect::<Result<_, _>>()?))
    }

    fn mail(self, to: Address, body: Body) -> Result<ControlMail, NoMail> {
        Ok(match body {
            Body::Send(wire::Send { to: client, message }) => {
                ControlMail::Client(ClientMail::Send { to: own(to, client)?, message: told(message)? })
            }
            Body::Tell(wire::Tell { to: clients, message }) => {
                ControlMail::Client(ClientMail::Tell { to: all_own(to, clients)?, message: told(message)? })
            }
            Body::Close(wire::Close { session, code }) => {
                ControlMail::Client(ClientMail::Close { session: own(to, session)?, code: CloseCode(code) })
            }
            Body::Ask(ask) => {
                let (ask, fence) = rooms::ask_of(ask)?;
                // A track's alias says at which node it was made, and that is the publisher's.
                let is_theirs =
                    ask.from.at.node == self.from && rooms::alias_of(&ask).is_none_or(|it| self.is_their(it));
                if !is_theirs {
                    return Err(NoMail);
                }
                ControlMail::AskHome(Box::new(ask), fence)
            }
            Body::NotHome(ask) => {
                let (ask, fence) = rooms::ask_of(ask)?;
                if ask.from.at != to {
                    return Err(NoMail);
                }
                ControlMail::NotHome(Box::new(ask), fence)
            }
            Body::FromHome(said) => {
                let wire::FromHome { room: of, fence, mail } = *said;
                let body = mail.and_then(|mail| mail.body).ok_or(NoMail)?;
                if !is_of_a_home(&body) {
                    return Err(NoMail);
                }
                let (room, fence) = (room(&of)?, rooms::fence_of(fence)?);
                let mail = match body {
                    Body::TrackEnded(wire::TrackEnded { alias: of }) => ControlMail::TrackEnded { alias: alias(of)? },
                    body => self.home_mail(to, room, body)?,
                };
                ControlMail::FromHome { from: self.from, room, fence, mail: Box::new(mail) }
            }
            // What only the home of a room says, and says as such.
            Body::Deliver(_) | Body::DeliverWithheld(_) | Body::Evict(_) | Body::TrackCame(_) | Body::Inside(_) => {
                return Err(NoMail);
            }
            Body::Interest(wire::Interest { alias: of, from, demand, fresh }) => ControlMail::Interest {
                alias: alias(of)?,
                from: self.their_shard(from.ok_or(NoMail)?)?,
                demand: demand_of(demand.ok_or(NoMail)?)?,
                fresh: fresh.map(|fresh| self.theirs(Some(fresh))).transpose()?,
            },
            Body::Keyframe(wire::Keyframe { alias: of }) => ControlMail::Keyframe { alias: alias(of)? },
            // By itself a node says so of its own tracks only.
            Body::TrackEnded(wire::TrackEnded { alias: of }) => {
                let alias = Some(alias(of)?).filter(|alias| self.is_their(*alias)).ok_or(NoMail)?;
                ControlMail::TrackEnded { alias }
            }
            Body::FromNode(wire::FromNode { words }) => ControlMail::FromNode { from: self.from, words },
        })
    }

    /// What a home says of its room, and nobody else may.
    fn home_mail(self, to: Address, of_room: RoomId, body: Body) -> Result<ControlMail, NoMail> {
        let same = |of: &[u8]| room(of).ok().filter(|of| *of == of_room).ok_or(NoMail);
        Ok(match body {
            Body::Deliver(wire::Deliver { to: clients, delivery }) => ControlMail::Client(ClientMail::Deliver {
                to: all_own(to, clients)?,
                delivery: delivered(delivery.ok_or(NoMail)?)?,
            }),
            Body::DeliverWithheld(wire::DeliverWithheld { to: client, room: of, gone, missed }) => {
                if gone && !missed.is_empty() {
                    return Err(NoMail);
                }
                let missed = missed.into_iter().map(delivered).collect::<Result<_, _>>()?;
                let missed = (!gone).then_some(missed);
                ControlMail::Client(ClientMail::DeliverWithheld { to: own(to, client)?, room: same(&of)?, missed })
            }
            Body::Evict(wire::Evict { session, room: of, member, kicker, request }) => ControlMail::Evict {
                session: own(to, session)?,
                room: same(&of)?,
                member,
                // Whoever kicks may be at a third node, which gets the answer.
                kicker: kicker.map(somebody).transpose()?.map(|kicker| (kicker, request)),
            },
            // Who is in may be at any node.
            Body::Inside(wire::Inside { to: client, request, members }) => {
                ControlMail::Inside { to: own(to, client)?, request, members: rooms::insiders_of(&members)? }
            }
            Body::TrackCame(shown) => {
                let (alias, track) = rooms::shown_of(shown)?;
                // The alias says which node made it.
                let is_fitting = track.room == of_room && node_of(alias) == Some(track.publisher.at.node);
                if !is_fitting {
                    return Err(NoMail);
                }
                ControlMail::TrackCame(alias, track)
            }
            body => return self.mail(to, body),
        })
    }

    /// Whether a track was made by the node that writes.
    fn is_their(self, alias: TrackAlias) -> bool {
        node_of(alias) == Some(self.from)
    }

    /// A session of the node that writes.
    fn theirs(self, session: Option<wire::Session>) -> Result<SessionId, NoMail> {
        somebody(session.ok_or(NoMail)?).ok().filter(|session| session.at.node == self.from).ok_or(NoMail)
    }

    fn their_shard(self, at: wire::Address) -> Result<Address, NoMail> {
        address(at.node, at.shard).ok().filter(|at| at.node == self.from).ok_or(NoMail)
    }
}

/// What the home of a room may say as such.
const fn is_of_a_home(body: &Body) -> bool {
    matches!(
        body,
        Body::Send(_)
            | Body::Tell(_)
            | Body::Deliver(_)
            | Body::DeliverWithheld(_)
            | Body::Evict(_)
            | Body::TrackCame(_)
            | Body::TrackEnded(_)
            | Body::Inside(_)
    )
}

/// A session of the shard that is written to.
fn own(here: Address, session: Option<wire::Session>) -> Result<SessionId, NoMail> {
    somebody(session.ok_or(NoMail)?).ok().filter(|session| session.at == here).ok_or(NoMail)
}

fn all_own(here: Address, sessions: Vec<wire::Session>) -> Result<Vec<SessionId>, NoMail> {
    sessions.into_iter().map(|session| own(here, Some(session))).collect()
}

pub(super) fn somebody(session: wire::Session) -> Result<SessionId, NoMail> {
    let wire::Session { node, shard, link, generation } = session;
    Ok(SessionId { at: address(node, shard)?, link, generation })
}

fn address(node: u32, shard: u32) -> Result<Address, NoMail> {
    let (Ok(node), Ok(shard)) = (u16::try_from(node), u16::try_from(shard)) else { return Err(NoMail) };
    let shard = ShardId(shard);
    if shard.index() < SHARDS_MAX { Ok(Address { node: NodeId(node), shard }) } else { Err(NoMail) }
}

pub(super) fn alias(of: u64) -> Result<TrackAlias, NoMail> {
    TrackAlias::new(of).ok_or(NoMail)
}

pub(super) fn room(of: &[u8]) -> Result<RoomId, NoMail> {
    RoomId::from_slice(of).map_err(|_| NoMail)
}

/// What a client can be told: no more than fits a message to it.
fn told(message: Option<RelayMessage>) -> Result<RelayMessage, NoMail> {
    message.filter(|message| message.encoded_len() <= limits::CONTROL_MESSAGE_BYTES_MAX).ok_or(NoMail)
}

fn delivered(delivery: MlsDelivery) -> Result<MlsDelivery, NoMail> {
    let fits = delivery.payload.len() <= limits::MLS_PAYLOAD_BYTES_MAX;
    room(&delivery.room)?;
    fits.then_some(delivery).ok_or(NoMail)
}

fn demand_of(demand: wire::Demand) -> Result<Demand, NoMail> {
    let wire::Demand { subscribers, sent, temporal_layer_max, spatial_layer_max, bits_per_second } = demand;
    let layer = |layer: u32| u8::try_from(layer).map_err(|_| NoMail);
    if sent > subscribers || subscribers > SUBSCRIBERS_MAX {
        return Err(NoMail);
    }
    Ok(Demand {
        subscribers,
        sent,
        temporal_layer_max: layer(temporal_layer_max)?,
        spatial_layer_max: layer(spatial_layer_max)?,
        bits_per_second,
    })
}
