//! Who may hear what, and what came twice, changed or out of order.

use std::collections::BTreeMap;

use supernode_proto::{
    control::TrackKind,
    object::{Layer, TrackAlias},
};
use supernode_session::Moment;

use super::Rule;

type Verdict = Result<(), (Rule, String)>;

/// A track, as its publisher asked for it.
#[derive(Debug, Clone, Copy)]
pub struct TrackFact {
    /// The room.
    pub room: usize,
    /// The publisher.
    pub client: usize,
    /// What it carries.
    pub kind: TrackKind,
}

/// A client in a room, from when it asked to be.
#[derive(Debug, Clone, Copy)]
struct Stay {
    /// The connection.
    link: u64,
    /// Its number, and which time of the room's that is of: numbers begin anew with each.
    member: Option<(u32, u32)>,
    asked_at: Moment,
    /// From then on nothing of the room may leave the relay for it.
    out_at: Option<Moment>,
    /// Whether that is because it was put out.
    kicked: bool,
}

/// What a connection has got of a track.
#[derive(Debug, Default)]
struct Got {
    /// Each time may begin with the newest group once more.
    subscriptions: u32,
    /// The highest that was asked for.
    layers_max: (u8, u8),
    objects: BTreeMap<(u64, u64), u32>,
    /// Of datagrams: the latest group, and when it left the relay.
    latest: Option<(u64, Moment)>,
}

/// An object that reached a client.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// Whom.
    pub client: usize,
    /// On which connection.
    pub link: u64,
    /// As which track.
    pub alias: TrackAlias,
    /// Of which track it says that it is; `None` if it is not what anybody sent.
    pub serial: Option<u32>,
    /// Its place.
    pub place: (u64, u64),
    /// Its layer.
    pub layer: Layer,
    /// Whether it came in a datagram.
    pub is_datagram: bool,
    /// It left the relay then, or later.
    pub left_at: Moment,
}

/// Knows who is in which room.
#[derive(Debug, Default)]
pub struct Media {
    tracks: Vec<TrackFact>,
    serials: BTreeMap<TrackAlias, u32>,
    stays: BTreeMap<(usize, usize), Vec<Stay>>,
    got: BTreeMap<(u64, TrackAlias), Got>,
    /// Whether packets of a client may overtake each other on its way to the relay.
    reorders: Vec<bool>,
    heard: u64,
}

impl Media {
    /// A track is asked for; its number.
    pub fn new_track(&mut self, track: TrackFact) -> u32 {
        self.tracks.push(track);
        self.tracks.len() as u32 - 1
    }

    /// The relay has given it an alias.
    pub fn published(&mut self, serial: u32, alias: TrackAlias) {
        self.serials.insert(alias, serial);
    }

    /// Nobody knows any more which track has which alias.
    pub fn forget_aliases(&mut self) {
        self.serials.clear();
    }

    /// A track that somebody else publishes in a room that this client is not in, for whoever tries to get it.
    pub fn foreign(&self, client: usize, pick: usize) -> Option<TrackAlias> {
        let is_in = |room| self.stays.get(&(client, room)).is_some_and(|stays| !stays.is_empty());
        let foreign = self.serials.iter().filter(|(_, serial)| !is_in(self.tracks[**serial as usize].room));
        let foreign: Vec<_> = foreign.map(|(alias, _)| *alias).collect();
        (!foreign.is_empty()).then(|| foreign[pick % foreign.len()])
    }

    /// The number of the track that has this alias.
    pub fn serial(&self, alias: TrackAlias) -> Option<u32> {
        self.serials.get(&alias).copied()
    }

    /// The track behind a number.
    pub fn track(&self, serial: u32) -> Option<&TrackFact> {
        self.tracks.get(serial as usize)
    }

    /// Packets of this client may arrive at the relay in another order than they were sent.
    pub fn set_reorders(&mut self, client: usize, reorders: bool) {
        if self.reorders.len() <= client {
            self.reorders.resize(client + 1, false);
        }
        self.reorders[client] |= reorders;
    }

    /// A client asks to be let in.
    pub fn asks_in(&mut self, client: usize, room: usize, link: u64, now: Moment) {
        let stay = Stay { link, member: None, asked_at: now, out_at: None, kicked: false };
        self.stays.entry((client, room)).or_default().push(stay);
    }

    /// It is in, as this member of this time of the room's.
    pub fn is_in(&mut self, client: usize, room: usize, link: u64, member: u32, life: Option<u32>) {
        if let Some(stay) = self.latest(client, room).filter(|stay| stay.link == link) {
            stay.member = life.map(|life| (member, life));
        }
    }

    /// The relay has acknowledged that it left.
    pub fn has_left(&mut self, client: usize, room: usize, link: u64, now: Moment) {
        if let Some(stay) = self.latest(client, room).filter(|stay| stay.link == link) {
            stay.out_at.get_or_insert(now);
        }
    }

    /// The relay has acknowledged to somebody that this member was put out.
    pub fn was_kicked(&mut self, client: usize, room: usize, member: (u32, u32), now: Moment) {
        let stays = self.stays.entry((client, room)).or_default().iter_mut();
        for stay in stays.filter(|stay| stay.member == Some(member) && stay.out_at.is_none()) {
            (stay.out_at, stay.kicked) = (Some(now), true);
        }
    }

    /// A client asks for a track, up to these layers.
    pub fn subscribes(&mut self, link: u64, alias: TrackAlias, (temporal, spatial): (u8, u8)) {
        let got = self.got.entry((link, alias)).or_default();
        got.subscriptions += 1;
        got.layers_max = (got.layers_max.0.max(temporal), got.layers_max.1.max(spatial));
    }

    /// How many objects reached anybody.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// An object reached a client.
    ///
    /// # Errors
    /// What does not hold.
    pub fn hear(&mut self, heard: &Heard) -> Verdict {
        self.heard += 1;
        let Heard { client, link, alias, place, left_at, .. } = *heard;
        let to = format!("client {client} got object {place:?} of track {}", alias.value());
        let Some(fact) = heard.serial.and_then(|serial| self.track(serial)).copied() else {
            return Err((Rule::Altered, format!("{to}, which nobody sent")));
        };
        let TrackFact { room, client: publisher, .. } = fact;
        if let Some(said) = self.serials.get(&alias).filter(|said| Some(**said) != heard.serial) {
            return Err((Rule::Altered, format!("{to}, which is track {said}, from client {publisher}")));
        }
        if publisher == client {
            return Err((Rule::Outsider, format!("{to}, which is its own")));
        }
        let stays = self.stays.get(&(client, room)).map_or(&[][..], Vec::as_slice);
        let stays = || stays.iter().filter(|stay| stay.link == link && stay.asked_at <= left_at);
        if !stays().any(|stay| stay.out_at.is_none_or(|out| left_at <= out)) {
            let rule = if stays().any(|stay| stay.kicked) { Rule::Kick } else { Rule::Outsider };
            let left_s = left_at.since_beginning().as_secs_f64();
            return Err((rule, format!("{to} of room {room}, in which it is not; it left the relay at {left_s:.6} s")));
        }
        let Some(got) = self.got.get_mut(&(link, alias)) else {
            return Err((Rule::Outsider, format!("{to}, for which it never asked")));
        };
        if heard.layer.temporal() > got.layers_max.0 || heard.layer.spatial() > got.layers_max.1 {
            return Err((Rule::Layer, format!("{to} in {:?}, and wants {:?} at most", heard.layer, got.layers_max)));
        }
        let times = got.objects.entry(place).or_default();
        *times += 1;
        if *times > got.subscriptions {
            return Err((Rule::Duplicate, format!("{to} {times} times, and subscribed {} times", got.subscriptions)));
        }
        if heard.is_datagram && got.subscriptions == 1 {
            let keeps_order = !self.reorders.get(publisher).copied().unwrap_or_default();
            let later = got.latest.filter(|(group, at)| keeps_order && *group > place.0 && *at < left_at);
            if let Some((group, _)) = later {
                return Err((Rule::Order, format!("{to} after group {group}, which left the relay before it")));
            }
            if got.latest.is_none_or(|(group, _)| group < place.0) {
                got.latest = Some((place.0, left_at));
            }
        }
        Ok(())
    }

    fn latest(&mut self, client: usize, room: usize) -> Option<&mut Stay> {
        self.stays.get_mut(&(client, room))?.last_mut()
    }
}
