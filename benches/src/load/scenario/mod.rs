//! What should happen: a scenario in TOML.

mod bounds;
mod keys;

use std::fmt;

use serde::{Deserialize, Serialize};
use supernode_proto::troubles;
use toml::{Table, Value};

use super::slo::Slo;

/// The scenarios that come with the program: name and text.
pub const SHIPPED: &[(&str, &str)] = &[
    ("calls", include_str!("../../../scenarios/calls.toml")),
    ("rooms", include_str!("../../../scenarios/rooms.toml")),
    ("rooms-20x20", include_str!("../../../scenarios/rooms-20x20.toml")),
    ("webinar", include_str!("../../../scenarios/webinar.toml")),
    ("stage", include_str!("../../../scenarios/stage.toml")),
    ("presence-storm", include_str!("../../../scenarios/presence-storm.toml")),
    ("ring-storm", include_str!("../../../scenarios/ring-storm.toml")),
    ("slow-readers", include_str!("../../../scenarios/slow-readers.toml")),
    ("churn", include_str!("../../../scenarios/churn.toml")),
    ("reconnect", include_str!("../../../scenarios/reconnect.toml")),
    ("idle", include_str!("../../../scenarios/idle.toml")),
    ("flood", include_str!("../../../scenarios/flood.toml")),
];

/// Who meets whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `pairs` rooms of two; both talk.
    Calls,
    /// `rooms` rooms of `members`; everybody talks to everybody.
    Rooms,
    /// `rooms` speakers with `listeners` each.
    Webinar,
    /// Nobody talks: `[presence]` or `[rings]` says what happens.
    Silent,
}

/// How everybody's sessions travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// As the SDK's do.
    Native,
    /// As those of pages in browsers do.
    Webtransport,
}

/// A whole scenario. Every field: what it is, unit, default.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// One sentence for people.
    pub about: String,
    /// Who meets whom. Default calls.
    pub shape: Shape,
    /// How everybody's sessions travel. Default native.
    pub link: LinkKind,
    /// Calls: rooms of two. Default 10.
    pub pairs: u32,
    /// Rooms, or speakers of a webinar. Default 1.
    pub rooms: u32,
    /// Members of a room who all talk. Default 10.
    pub members: u32,
    /// Listeners of each webinar. Default 100.
    pub listeners: u32,
    /// Members that the relay lets into one room: the listeners of a webinar beyond it are in further rooms, to which
    /// its speaker sends too. Default 250, the relay's own default.
    pub room_members_max: u32,
    /// Audio objects each talker sends in a second; 0 for none. Default 50.
    pub objects_per_second: f64,
    /// Bytes of the QUIC DATAGRAM an object travels in, header included: one size, or the smallest and the largest.
    /// Default 120 to 160.
    pub object_bytes: Size,
    /// How long the relay may keep an object, in ms. Default 1000.
    pub ttl_ms: u32,
    /// Delivered later than this an object is late, in ms. Default 100.
    pub late_ms: u32,
    /// Time over which sessions are opened, in s. Default 2.
    pub ramp_s: f64,
    /// Time between everybody being there and the measured part, in s. Default 1.
    pub warm_up_s: f64,
    /// Length of the measured part, in s; where there are stages, theirs. Default 10.
    pub hold_s: f64,
    /// How many take part, one stage after the other. Default none: all of them.
    pub stages: Vec<LoadStage>,
    /// After it: how long what is under way may take, in s. Default 1.
    pub linger_s: f64,
    /// Threads. Default 1.
    pub workers: u32,
    /// UDP sockets of each thread; its clients share them evenly. Default 8.
    pub sockets: u32,
    /// Between two turns of a worker's loop at least, in µs: saves CPU time and adds as much to delays. Default 0.
    pub gather_us: u32,
    /// Phases and sizes are drawn from it. Default 1.
    pub seed: u64,
    /// Ask the relay to acknowledge only so many packets at once; 0 asks as the SDK does. Default 0.
    pub ack_threshold: u32,
    /// Expressions that must hold, such as `p99_delay_ms < 20 && loss < 0.1%`. Default none.
    pub slo: Vec<String>,
    /// For so long an SLO may not hold before the run is ended early, in s; 0 waits for its end. Default 0.
    pub abort_after_s: f64,
    /// Talkers send video as well.
    pub video: Option<Video>,
    /// Some listeners read too slowly.
    pub slow: Option<Slow>,
    /// Others come and go meanwhile.
    pub churn: Option<Churn>,
    /// Others send more than they may meanwhile.
    pub flood: Option<Flood>,
    /// Others must not get anything.
    pub outsiders: Option<Outsiders>,
    /// Presence changes.
    pub presence: Option<PresenceLoad>,
    /// Rings.
    pub rings: Option<RingLoad>,
    /// When the generator's own result is not to be believed.
    pub validity: Validity,
}

/// A part of the measured part in which more and more take part, or fewer: a share of them that goes evenly from where the
/// stage before ended, none at first, to another. Everybody is there all the time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoadStage {
    /// How long it takes, in s; 0 is at once.
    pub for_s: f64,
    /// The share of those who talk, ring or change their state in the end, 0 to 1.
    pub to: f64,
}

/// Bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Size {
    /// Always as many.
    Fixed(u32),
    /// Anything from the first to the second, evenly.
    Range([u32; 2]),
}

/// Video on streams, one for each group of pictures.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Video {
    /// Average rate, in kbit/s. Default 1500.
    pub kbit_per_s: f64,
    /// Default 30.
    pub frames_per_second: f64,
    /// Frames from one key frame to the next. Default 60.
    pub group_frames: u32,
    /// How much bigger than the others a key frame is. Default 5.
    pub key_frame_factor: f64,
    /// Temporal layers, each on its own stream: 1 to 3. Default 1.
    pub temporal_layers: u32,
}

/// Listeners that read less than they are sent; what they miss is no loss.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// Slow ones in each room: they listen only. Default 1.
    pub members: u32,
    /// What each of them reads from its streams, in kbit/s. Default 100.
    pub read_kbit_per_s: f64,
}

/// Sessions that come and go: each joins a room if there are any, subscribes to everything in it, stays, leaves, and
/// comes anew.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Churn {
    /// Sessions of this kind at any time. Default 20.
    pub sessions: u32,
    /// How long each stays, in s. Default 2.
    pub stay_s: f64,
    /// How many of the others each watches, by their tickets. Default 0.
    pub watches: u32,
}

/// Pairs that send more than the relay grants; how it treats them is not part of the delays and losses.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// Rooms of two that flood each other. Default 1.
    pub pairs: u32,
    /// What each of them sends in a second. Default 15,000.
    pub objects_per_second: f64,
    /// Bytes of the QUIC DATAGRAM an object travels in. Default 1000.
    pub object_bytes: u32,
}

/// Sessions that must not get anything: what they are sent, and what they are granted, is counted as trespasses.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outsiders {
    /// Sessions in no room, which ask for others' tracks in the middle of the measured part. Default 1.
    pub strangers: u32,
    /// Members of each room that are put out in the middle of the measured part, and ask again. Default 1.
    pub kicked: u32,
}

/// People whose state changes before the eyes of others.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceLoad {
    /// Default 100.
    pub people: u32,
    /// How many watch each of them. Default 20.
    pub watchers: u32,
    /// Changes of each of them in a second, 0 for none; the relay tells watchers at most four a second. Default 1.
    pub changes_per_second: f64,
}

/// People who ring each other; the callee answers at once. Both ways count as one delivery each.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RingLoad {
    /// Callers, each with a callee of its own. Default 50.
    pub pairs: u32,
    /// Rings of each caller in a minute; the relay allows 30 by default. Default 24.
    pub per_minute: f64,
    /// Bytes of a ring's sealed payload. Default 2000.
    pub payload_bytes: u32,
}

/// Bounds beyond which the generator was the cap and its result is invalid.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validity {
    /// Objects that left later than this after they were due, 99th percentile, in ms. Default 5.
    pub lag_p99_ms_max: f64,
    /// Share of the time for which a worker may have had a CPU. Default 0.9.
    pub busy_max: f64,
}

troubles! {
    /// What is wrong with a scenario.
    pub ScenarioError as WORDS:
    Toml { file: String, message: String }, "{file}: {message}",
        "the scenario is no TOML, or a value is of another type", "mend the place that is shown; `supernode-load show calls` prints one that is right";
    UnknownKey { file: String, path: String, nearest: Option<String> }, "{file}: {path}: unknown key (nearest: {known})"
            with (known = nearest.as_deref().unwrap_or("none")),
        "it is misspelt, or belongs to another table", "take the nearest one if that was meant; docs/LOAD.md has them all";
    Bound { file: String, path: &'static str, value: String, bound: String }, "{file}: {path} = {value}: {bound}",
        "it is out of the bounds that are said", "choose one within them; docs/LOAD.md has the bounds of all keys";
}

impl Scenario {
    /// Reads a scenario; `file` is its name in errors, `overrides` are `key=value` with the value as TOML or, failing
    /// that, as a string.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(file: &str, text: &str, overrides: &[String]) -> Result<Self, ScenarioError> {
        let toml = |message: String| ScenarioError::Toml { file: file.to_owned(), message };
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| toml(error.to_string()))?;
        for given in overrides {
            let (path, value) = given.split_once('=').ok_or_else(|| toml(format!("--set {given}: not key=value")))?;
            set(&mut table, path.trim(), value.trim()).map_err(toml)?;
        }
        if let Some((path, nearest)) = keys::unknown(&table) {
            return Err(ScenarioError::UnknownKey { file: file.to_owned(), path, nearest });
        }
        let mut scenario: Self =
            Value::Table(table).try_into().map_err(|error: toml::de::Error| toml(error.to_string()))?;
        if !scenario.stages.is_empty() {
            scenario.hold_s = scenario.stages.iter().map(|stage| stage.for_s).sum();
        }
        scenario.check().map_err(|(path, value, bound)| ScenarioError::Bound {
            file: file.to_owned(),
            path,
            value,
            bound,
        })?;
        for expression in &scenario.slo {
            Slo::parse(expression).map_err(|error| toml(format!("slo: {error}")))?;
        }
        Ok(scenario)
    }

    /// The stage that the measured part is in so many seconds after it began, and the share of all who take part then; `None`
    /// where there are no stages, or it is over.
    pub(super) fn stage_at(&self, since_s: f64) -> Option<(usize, f64)> {
        let (mut begin_s, mut from) = (0.0, 0.0);
        for (place, LoadStage { for_s, to }) in self.stages.iter().copied().enumerate() {
            if since_s < begin_s + for_s {
                return Some((place, from + (to - from) * ((since_s - begin_s) / for_s).clamp(0.0, 1.0)));
            }
            (begin_s, from) = (begin_s + for_s, to);
        }
        None
    }

    /// Whether anybody has anything to say.
    pub(super) fn sends(&self) -> bool {
        let changes = self.presence.as_ref().is_some_and(|presence| presence.changes_per_second > 0.0);
        let talks = self.shape != Shape::Silent && (self.objects_per_second > 0.0 || self.video.is_some());
        talks || changes || self.rings.is_some()
    }
}

impl Size {
    /// Smallest and largest.
    pub fn range(self) -> [u32; 2] {
        match self {
            Self::Fixed(bytes) => [bytes, bytes],
            Self::Range(range) => range,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Range([smallest, largest]) => write!(f, "{smallest}-{largest}"),
        }
    }
}

/// Sets a value by its path, which creates the tables on the way.
fn set(table: &mut Table, path: &str, value: &str) -> Result<(), String> {
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let (tables, key) = match path.rsplit_once('.') {
        Some((tables, key)) => (tables.split('.').collect(), key),
        None => (Vec::new(), path),
    };
    let mut place = table;
    for name in tables {
        let entry = place.entry(name).or_insert_with(|| Value::Table(Table::new()));
        place = entry.as_table_mut().ok_or_else(|| format!("--set {path}: {name} is no table"))?;
    }
    place.insert(key.to_owned(), value);
    Ok(())
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            shape: Shape::Calls,
            link: LinkKind::Native,
            pairs: 10,
            rooms: 1,
            members: 10,
            listeners: 100,
            room_members_max: 250,
            objects_per_second: 50.0,
            object_bytes: Size::Range([120, 160]),
            ttl_ms: 1000,
            late_ms: 100,
            ramp_s: 2.0,
            warm_up_s: 1.0,
            hold_s: 10.0,
            stages: Vec::new(),
            linger_s: 1.0,
            workers: 1,
            sockets: 8,
            gather_us: 0,
            seed: 1,
            ack_threshold: 0,
            slo: Vec::new(),
            abort_after_s: 0.0,
            video: None,
            slow: None,
            churn: None,
            flood: None,
            outsiders: None,
            presence: None,
            rings: None,
            validity: Validity::default(),
        }
    }
}

impl Default for Video {
    fn default() -> Self {
        Self {
            kbit_per_s: 1500.0,
            frames_per_second: 30.0,
            group_frames: 60,
            key_frame_factor: 5.0,
            temporal_layers: 1,
        }
    }
}

impl Default for Slow {
    fn default() -> Self {
        Self { members: 1, read_kbit_per_s: 100.0 }
    }
}

impl Default for Churn {
    fn default() -> Self {
        Self { sessions: 20, stay_s: 2.0, watches: 0 }
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self { pairs: 1, objects_per_second: 15_000.0, object_bytes: 1000 }
    }
}

impl Default for Outsiders {
    fn default() -> Self {
        Self { strangers: 1, kicked: 1 }
    }
}

impl Default for PresenceLoad {
    fn default() -> Self {
        Self { people: 100, watchers: 20, changes_per_second: 1.0 }
    }
}

impl Default for RingLoad {
    fn default() -> Self {
        Self { pairs: 50, per_minute: 24.0, payload_bytes: 2000 }
    }
}

impl Default for Validity {
    fn default() -> Self {
        Self { lag_p99_ms_max: 5.0, busy_max: 0.9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_go_evenly_from_one_share_to_the_next_and_say_how_long_the_measured_part_is() {
        let text =
            "hold_s = 99\nstages = [{ for_s = 4, to = 0.5 }, { for_s = 0, to = 1.0 }, { for_s = 6.0, to = 0.4 }]";
        let scenario = Scenario::parse("mine.toml", text, &[]).expect("a scenario");
        assert_eq!(scenario.hold_s, 10.0);
        let shares = [0.0, 1.0, 3.0, 4.0, 7.0, 9.0].map(|at| scenario.stage_at(at).expect("in a stage"));
        let expected = [(0, 0.0), (0, 0.125), (0, 0.375), (2, 1.0), (2, 0.7), (2, 0.5)];
        for (share, expected) in shares.iter().zip(expected) {
            assert!(share.0 == expected.0 && (share.1 - expected.1).abs() < 1e-9, "{share:?} {expected:?}");
        }
        assert_eq!(scenario.stage_at(10.0), None);
        assert_eq!(Scenario::default().stage_at(1.0), None);
        let wrong = |stages: &str| Scenario::parse("mine.toml", stages, &[]).expect_err("wrong").to_string();
        assert_eq!(wrong("stages = [{ for_s = 4, to = 1.5 }]"), "mine.toml: stages.to = 1.5: must be 0 to 1");
        assert_eq!(wrong("stages = [{ for_s = 0.1, to = 1 }]"), "mine.toml: hold_s = 0.1: must be 0.5 to 86400");
        assert!(wrong("stages = [{ for = 4, to = 1 }]").contains("unknown field `for`"));
    }
}
