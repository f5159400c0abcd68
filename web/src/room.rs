//! A call, or a room, from within.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use js_sys::{Array, Function};
use serde::Serialize;
use supernode_client::{
    Call, CallEvent, Client, DelayBounds, Direction, PublishOptions, RemoteTrack, RoomLink, SubscribeOptions, TrackId,
    TrackInfo, TrackKind, Warning,
    e2ee::LinkSecret,
    proto::{
        identity::{DeviceKey, IdentityKey},
        invite::Invite,
    },
    words,
};
use tokio::sync::broadcast::error::RecvError;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

use crate::{
    incoming::Incoming,
    keys::hex,
    outgoing::Outgoing,
    text::clean_name,
    told::{Teller, Told, TrackShown},
    trouble::{Trouble, thrown},
};

/// Longest name of a track, and of its codec, in characters.
const LABEL_CHARACTERS_MAX: usize = 64;
/// Tracks of others that are told of: four of each member of the largest room.
const TRACKS_MAX: usize = 1000;

/// A call or a room that we are in.
#[wasm_bindgen]
pub struct Room {
    call: Call,
    link: Option<LinkSecret>,
    client: Client,
    tracks: Rc<Tracks>,
}

type Tracks = RefCell<BTreeMap<String, Arc<RemoteTrack>>>;

/// Somebody with a place in it.
#[derive(Serialize)]
struct Place {
    device: String,
    identity: String,
    is_here: bool,
    is_me: bool,
    is_host: bool,
}

/// Figures of a call.
#[derive(Serialize)]
struct Figures {
    rtt_ms: f64,
    rung: &'static str,
    tracks: Vec<TrackFigures>,
}

#[derive(Serialize)]
struct TrackFigures {
    is_ours: bool,
    device: Option<String>,
    kind: &'static str,
    objects: u64,
    bytes: u64,
    dropped: u64,
    lost: u64,
    undecryptable: u64,
    delay_p50_us: Option<u64>,
}

impl Room {
    pub(crate) fn new(call: Call, link: Option<LinkSecret>, client: Client, teller: Teller) -> Self {
        let tracks = Rc::<Tracks>::default();
        spawn_local(tell_events(call.clone(), tracks.clone(), teller.clone()));
        if call.room_name().is_none() {
            // A call of two is over when the other one is gone; a room waits for whoever comes.
            let call = call.clone();
            spawn_local(async move { teller.tell(&ended(call.ended().await)) });
        }
        Self { call, link, client, tracks }
    }
}

#[wasm_bindgen]
impl Room {
    /// What it is called by whoever opened it; nothing for a call of two.
    pub fn name(&self) -> Option<String> {
        self.call.room_name().map(|name| clean_name(name, LABEL_CHARACTERS_MAX))
    }

    /// Everybody with a place in it, as JSON.
    pub fn roster(&self) -> String {
        let hosts = self.call.hosts();
        let place = |entry: &supernode_client::RosterEntry| Place {
            device: hex(entry.member.device.as_bytes()),
            identity: entry.member.identity.to_text(),
            is_here: entry.is_here,
            is_me: entry.is_us,
            is_host: hosts.is_empty() || hosts.contains(&entry.member.identity),
        };
        json(&self.call.roster().iter().map(place).collect::<Vec<_>>())
    }

    /// How many are connected to the room without a place in it.
    pub fn outsiders(&self) -> usize {
        self.call.outsiders()
    }

    /// The same 60 digits for everybody in the call.
    pub fn safety_number(&self) -> Option<String> {
        self.call.safety_number().ok()
    }

    /// By what the call's keys are agreed on.
    pub fn keys(&self) -> String {
        self.call.keys().to_string()
    }

    /// 60 digits for us and another person, for ever.
    ///
    /// # Errors
    /// If that is nobody's name.
    pub fn person_number(&self, identity: &str) -> Result<String, JsValue> {
        Ok(self.call.person_number(&person(identity)?))
    }

    /// Puts a person out with all their devices.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn remove_person(&self, identity: &str) -> Result<(), JsValue> {
        let identity = person(identity)?;
        self.call.remove_person(&identity).await.map_err(thrown)
    }

    /// Goes on sending although somebody is in another group: for a person to decide.
    pub fn go_on(&self) {
        self.call.go_on();
    }

    /// A link into it; nothing for a call of two. It has no token: whoever gets it has an own way into the relay.
    pub fn link(&self) -> Option<String> {
        let relay = Invite { token: None, ..self.client.invite() };
        Some(RoomLink { relay, secret: self.link.clone()? }.to_string())
    }

    /// Announces a track, by an id of eight bytes that nobody else has. `told` is called with `("demand", JSON)` when what
    /// others can take changes, and with `("keyframe")` when somebody wants one.
    ///
    /// # Errors
    /// The trouble, as JSON.
    #[expect(clippy::too_many_arguments, reason = "it is called from JavaScript, where an object would have no type")]
    pub async fn publish(
        &self,
        id: Vec<u8>,
        kind: &str,
        name: &str,
        codec: &str,
        parameters: Vec<u8>,
        ttl_ms: u32,
        told: Function,
    ) -> Result<Outgoing, JsValue> {
        let kind = kind_of(kind);
        let info = TrackInfo { id: TrackId(track_id(id)?), name: name.to_owned(), codec: codec.to_owned(), parameters };
        let options = PublishOptions { ttl_ms, activity: false };
        let publisher = self.call.publish(kind, info, options).await.map_err(thrown)?;
        Ok(Outgoing::start(publisher, kind, told))
    }

    /// Subscribes to a track of which we were told. `frames` is called with each, see [`Incoming`].
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn subscribe(
        &self,
        track: &str,
        spatial_layer_max: u8,
        focus: bool,
        frames: Function,
    ) -> Result<Incoming, JsValue> {
        let track = self.track(track)?;
        let options = SubscribeOptions { spatial_layer_max, focus, ..SubscribeOptions::for_kind(track.kind()) };
        let subscription = self.call.subscribe(&track, options).await.map_err(thrown)?;
        Ok(Incoming::start(subscription, frames))
    }

    /// As [`Self::subscribe`], of a track of sound, whose frames come at their times; `missing` is called with how many did
    /// not.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn play(&self, track: &str, frames: Function, missing: Function) -> Result<Incoming, JsValue> {
        let track = self.track(track)?;
        let options = SubscribeOptions::for_kind(TrackKind::Audio);
        // What stands in stock before the loudspeaker bears as much as the least delay that others have.
        let bounds = DelayBounds { min: Duration::from_millis(5), ..DelayBounds::default() };
        let playback = self.call.play(&track, options, bounds).await.map_err(thrown)?;
        Ok(Incoming::start_playback(playback, frames, missing))
    }

    /// Figures so far, as JSON.
    pub fn figures(&self) -> String {
        let stats = self.call.stats();
        let track = |track: &supernode_client::TrackStats| TrackFigures {
            is_ours: track.direction == Direction::Sent,
            device: track.publisher.map(|publisher| hex(publisher.device.as_bytes())),
            kind: kind_name(track.kind),
            objects: track.objects,
            bytes: track.bytes,
            dropped: track.dropped,
            lost: track.lost,
            undecryptable: track.undecryptable,
            delay_p50_us: track.delay.quantile_us(0.5),
        };
        json(&Figures {
            rtt_ms: stats.rtt.as_secs_f64() * 1e3,
            rung: stats.rung.as_str_name().trim_start_matches("RUNG_"),
            tracks: stats.tracks.iter().map(track).collect(),
        })
    }

    /// The tracks that are there, by their ids.
    pub fn tracks(&self) -> Array {
        self.tracks.borrow().keys().map(|id| JsValue::from_str(id)).collect()
    }

    /// Leaves, and waits until the relay knows.
    ///
    /// # Errors
    /// The trouble, as JSON; we have left all the same.
    pub async fn leave(&self) -> Result<(), JsValue> {
        self.call.clone().leave().await.map_err(thrown)
    }

    fn track(&self, id: &str) -> Result<Arc<RemoteTrack>, JsValue> {
        let gone = || thrown(supernode_client::Error::State("that track is gone"));
        self.tracks.borrow().get(id).cloned().ok_or_else(gone)
    }
}

async fn tell_events(call: Call, tracks: Rc<Tracks>, teller: Teller) {
    let mut events = call.events();
    let us = call.roster().iter().find(|entry| entry.is_us).map(|entry| entry.member);
    for track in call.tracks() {
        announce(&tracks, track, &teller);
    }
    teller.tell(&Told::Roster);
    // Not held while waiting: whoever drops the room leaves it.
    drop(call);
    loop {
        let told = match events.recv().await {
            Ok(CallEvent::MemberJoined(_) | CallEvent::MemberLeft(_)) | Err(RecvError::Lagged(_)) => Told::Roster,
            Ok(CallEvent::Removed { who, by, put_out }) => Told::Removed {
                identity: who.identity.to_text(),
                by: by.identity.to_text(),
                put_out,
                is_us: us == Some(who),
            },
            Ok(CallEvent::TrackAnnounced(track)) => {
                announce(&tracks, track, &teller);
                continue;
            }
            Ok(CallEvent::TrackEnded(track)) => {
                let id = id_of(&track);
                tracks.borrow_mut().remove(&id);
                Told::TrackEnded { id }
            }
            Ok(CallEvent::KeysChanged) => Told::KeysChanged,
            Ok(CallEvent::Healed) => Told::Healed,
            Ok(CallEvent::Warning(warning)) => warn(&warning),
            Ok(CallEvent::Interrupted) => Told::Interrupted,
            Ok(CallEvent::Resumed) => Told::Resumed,
            Ok(CallEvent::Ended(end)) => ended(end),
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        };
        teller.tell(&told);
    }
}

fn announce(tracks: &Tracks, track: Arc<RemoteTrack>, teller: &Teller) {
    let id = id_of(&track);
    let mut tracks = tracks.borrow_mut();
    if tracks.len() >= TRACKS_MAX && !tracks.contains_key(&id) {
        return;
    }
    let (publisher, info) = (track.publisher(), track.info());
    let shown = TrackShown {
        id: id.clone(),
        device: hex(publisher.device.as_bytes()),
        identity: publisher.identity.to_text(),
        kind: kind_name(track.kind()),
        name: clean_name(&info.name, LABEL_CHARACTERS_MAX),
        codec: clean_name(&info.codec, LABEL_CHARACTERS_MAX),
        parameters: hex(&info.parameters),
    };
    tracks.insert(id, track);
    drop(tracks);
    teller.tell(&Told::Track { track: shown });
}

fn id_of(track: &RemoteTrack) -> String {
    let device: &DeviceKey = &track.publisher().device;
    format!("{}:{}", hex(device.as_bytes()), hex(&track.info().id.0))
}

fn warn(warning: &Warning) -> Told {
    let (kind, who) = match warning {
        Warning::FalseEnvelope => ("false_envelope", None),
        Warning::WrongDoorKey(member) => ("wrong_door_key", Some(member)),
        Warning::Split(member) => ("split", Some(member)),
        _ => ("other", None),
    };
    Told::Warning { kind, identity: who.map(|member| member.identity.to_text()) }
}

fn ended(end: supernode_client::CallEnd) -> Told {
    let words = words::of_end(end);
    Told::Ended { end: words.name, trouble: Trouble::by_words(words, end.to_string()) }
}

fn person(identity: &str) -> Result<IdentityKey, JsValue> {
    let trouble =
        |_| Trouble::new("Name", "that is nobody's name", "it has another form", "choose somebody who is here");
    IdentityKey::from_text(identity).map_err(|error| trouble(error).thrown())
}

fn track_id(bytes: Vec<u8>) -> Result<[u8; 8], JsValue> {
    bytes.try_into().map_err(|_| thrown(supernode_client::Error::State("a track's id has eight bytes")))
}

fn kind_of(name: &str) -> TrackKind {
    match name {
        "audio" => TrackKind::Audio,
        "video" => TrackKind::Video,
        "screen" => TrackKind::Screen,
        _ => TrackKind::Data,
    }
}

fn kind_name(kind: TrackKind) -> &'static str {
    match kind {
        TrackKind::Audio => "audio",
        TrackKind::Video => "video",
        TrackKind::Screen => "screen",
        _ => "data",
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
