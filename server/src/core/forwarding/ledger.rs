//! The drop ledger: objects in x subscribers = delivered + dropped (by reason) + still queued. Always exact.
//!
//! Counted on the shard that owes the delivery. An object is *offered* once for every subscriber, and every offer ends
//! in exactly one of the bins. *Delivered* means handed to the subscriber's QUIC connection in full. What is refused
//! before it has subscribers (malformed, not the sender's track) never enters the ledger and is counted apart.

use std::time::{Duration, Instant};

use supernode_proto::control::TrackKind;

use super::histogram::Histogram;
use crate::core::receiver::ladder::RUNGS;

/// What objects are counted by: values of the metrics' `class` label.
pub const CLASSES: [&str; 4] = ["audio", "video", "screen", "data"];

/// A track's place in [`CLASSES`].
pub const fn class(kind: TrackKind) -> usize {
    match kind {
        TrackKind::Audio => 0,
        TrackKind::Video => 1,
        TrackKind::Screen => 2,
        TrackKind::Data | TrackKind::Unspecified => 3,
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $type:ident { $($name:ident $label:literal $sentence:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $(#[doc = $sentence] $name,)*
        }

        impl $type {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Value of the metric's `reason` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// Sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    /// Why an offered object did not reach one subscriber.
    DropReason {
        Expired "expired" "it waited longer than its time to live or the subscriber's maximum age";
        QueueFull "queue_full" "the subscriber's queue was full, and newer objects were kept";
        LayerNotWanted "layer_not_wanted" "its layer is above what the subscriber asked for";
        NotSpeaking "not_speaking" "its member is not among the most active speakers, who alone are wanted";
        AwaitsIndependent "awaits_independent" "an earlier one of its layer was left out, and it needs that one";
        LadderTemporal2 "ladder_temporal_2" "the subscriber's path takes no temporal layer 2 and up now";
        LadderTemporal1 "ladder_temporal_1" "the subscriber's path takes no temporal layer 1 and up now";
        LadderSpatial "ladder_spatial" "the subscriber's path takes no spatial layer 1 and up now";
        LadderSpeakerOnly "ladder_speaker_only" "the subscriber's path takes only one picture now, and this is another";
        LadderAudioOnly "ladder_audio_only" "the subscriber's path takes only audio and data now";
        TooLarge "too_large" "the datagram does not fit the subscriber's path";
        NoDatagrams "no_datagrams" "the subscriber's connection takes no datagrams";
        Cancelled "cancelled" "the publisher reset the stream in the middle of the object";
        Stopped "stopped" "the subscriber stopped the stream";
        Unsubscribed "unsubscribed" "the subscription or the track ended while the object was queued";
        Gone "gone" "the subscriber's session ended while the object was queued";
        ShardOverflow "shard_overflow" "the inbox of the subscriber's shard was full";
        RelayQueueFull "relay_queue_full" "too much waited for all subscribers together, and most of it for this one";
    }
}

reasons! {
    /// Why an object was refused at the door.
    RefuseReason {
        Malformed "malformed" "its header or its stream is malformed";
        UnknownTrack "unknown_track" "it names a track that is not its sender's";
        RateExceeded "rate_exceeded" "its sender has sent more than it was granted";
        NoSession "no_session" "it came before the session's Hello was accepted";
    }
}

impl DropReason {
    /// Whether a stream whose object is left out for it has nothing more to come for the subscriber: the ladder refuses
    /// the whole of it.
    pub const fn ends_stream(self) -> bool {
        matches!(
            self,
            Self::NotSpeaking
                | Self::LadderTemporal2
                | Self::LadderTemporal1
                | Self::LadderSpeakerOnly
                | Self::LadderAudioOnly
        )
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Whole objects.
    pub objects: u64,
    /// Bytes with headers, those of objects that were never whole included.
    pub bytes: u64,
}

/// What was delivered in this turn. A fan-out is one entry: the objects of one class that came at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn(Vec<Handed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Handed {
    class: usize,
    arrived: Instant,
    objects: u64,
}

/// One shard's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Objects that publishers of this shard sent and that were let in.
    pub objects_in: u64,
    /// Object and subscriber pairs owed by this shard.
    pub offered: u64,
    /// Handed to the subscriber's connection in full.
    pub delivered: u64,
    /// Of them, in datagrams.
    pub delivered_datagrams: u64,
    /// Of these, taken back before QUIC had sent them.
    pub recalled: u64,
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// The longest that any object has waited for its subscriber's connection and was then sent, in microseconds; data
    /// streams apart.
    pub longest_wait_us: u64,
    /// Bytes that wait in all queues now, each object with the packet that it keeps.
    pub queued_bytes: u64,
    /// Subscribers that came late and were sent the newest group.
    pub late_joiners: u64,
    /// Bytes of newest groups that are kept now.
    pub cached_bytes: u64,
    /// Newest groups that were not kept because they outgrew a bound.
    pub groups_outgrown: u64,
    /// Steps down the ladder, by the rung they led to.
    pub ladder_down: [u64; RUNGS],
    /// Steps up, likewise.
    pub ladder_up: [u64; RUNGS],
    /// Commits that most members of a room rejected.
    pub commits_rejected: u64,
    /// By [`RefuseReason`].
    pub refused: [u64; RefuseReason::COUNT],
    /// What `objects_in` counts, by class.
    pub media_in: [Volume; CLASSES.len()],
    /// What `delivered` counts, by class.
    pub media_out: [Volume; CLASSES.len()],
    /// Microseconds from an object's arrival to the turn's end in which it was delivered, by class.
    pub residence_us: [Histogram; CLASSES.len()],
    /// What was delivered since the last turn ended.
    pub turn: Turn,
    /// What goes to other nodes of a cluster, and comes from them.
    pub nodes: NodeCounts,
}

/// Objects between nodes: of those sent to others, all were *offered* once for each node, and of these each is sent, dropped or
/// queued; of those sent each comes there or is lost on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Object and node pairs owed by this shard.
    pub offered: u64,
    /// Handed to the node link in full.
    pub sent: u64,
    /// Not handed to it, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// Of those sent, what has not come to the other node, as far as it has told. May become less when it tells more.
    pub lost: u64,
    /// Came from other nodes.
    pub received: u64,
}

impl NodeCounts {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.dropped.iter_mut().zip(other.dropped).for_each(|(sum, dropped)| *sum += dropped);
        self.lost += other.lost;
        self.received += other.received;
    }

    /// Offers that are neither sent nor dropped yet.
    pub fn queued(&self) -> u64 {
        self.offered.saturating_sub(self.dropped.iter().fold(self.sent, |sum, dropped| sum.saturating_add(*dropped)))
    }
}

impl Ledger {
    /// Counts objects let in, and their bytes.
    pub fn let_in(&mut self, kind: TrackKind, objects: u64, bytes: usize) {
        self.objects_in += objects;
        let volume = &mut self.media_in[class(kind)];
        volume.objects += objects;
        volume.bytes += bytes as u64;
    }

    /// Counts bytes written for a subscriber.
    pub fn write(&mut self, kind: TrackKind, bytes: usize) {
        self.media_out[class(kind)].bytes += bytes as u64;
    }

    /// Counts an object handed to the subscriber's connection in full; its last byte arrived then.
    pub fn deliver(&mut self, kind: TrackKind, arrived: Instant) {
        let class = class(kind);
        self.delivered += 1;
        self.media_out[class].objects += 1;
        match self.turn.0.last_mut().filter(|last| last.class == class && last.arrived == arrived) {
            Some(last) => last.objects += 1,
            None => self.turn.0.push(Handed { class, arrived, objects: 1 }),
        }
    }

    /// What this turn delivered has left for the kernel.
    pub fn turn_ended(&mut self, now: Instant) {
        for Handed { class, arrived, objects } in self.turn.0.drain(..) {
            let residence = now.saturating_duration_since(arrived);
            self.residence_us[class].observe(residence.as_micros() as u64, objects);
        }
    }

    /// Counts a dropped offer.
    pub fn drop(&mut self, reason: DropReason, objects: u64) {
        self.dropped[reason as usize] += objects;
    }

    /// Counts objects for a node that cannot be reached.
    pub fn unlinked(&mut self, objects: u64) {
        self.offered += objects;
        self.drop(DropReason::Gone, objects);
    }

    /// Counts an object of another node for which a shard's inbox had no room: to how many it was owed, that one knows.
    pub fn overflow_of_node(&mut self) {
        self.offered += 1;
        self.drop(DropReason::ShardOverflow, 1);
    }

    /// Notes how long something has waited that is sent now.
    pub fn waited(&mut self, wait: Duration) {
        self.longest_wait_us = self.longest_wait_us.max(wait.as_micros() as u64);
    }

    /// Counts an object turned away.
    pub fn refuse(&mut self, reason: RefuseReason) {
        self.refused[reason as usize] += 1;
    }

    /// Offers that are in one of the bins. When nothing is queued, exactly as many as were offered: an object that was
    /// counted twice shows as one too many.
    pub fn settled(&self) -> u64 {
        self.dropped.iter().fold(self.delivered, |sum, dropped| sum.saturating_add(*dropped))
    }

    /// Offers that are neither delivered nor dropped yet: what the queues must hold.
    ///
    /// A copy that another thread took while the shard was counting may hold a delivery or a drop whose offer it has
    /// not seen: then this is zero, which is as near to the truth as such a copy can come.
    pub fn queued(&self) -> u64 {
        self.offered.saturating_sub(self.settled())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// All sources below a directory but this one.
    fn sources(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, text);
            } else if !path.ends_with("forwarding/ledger.rs") {
                text.push_str(&fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }

    /// Otherwise operators are shown what cannot happen.
    #[test]
    fn every_reason_is_one_that_something_can_count() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let dropped = DropReason::ALL.iter().map(|reason| format!("DropReason::{reason:?}"));
        let refused = RefuseReason::ALL.iter().map(|reason| format!("RefuseReason::{reason:?}"));
        let unused: Vec<String> = dropped.chain(refused).filter(|name| !text.contains(name.as_str())).collect();
        assert!(unused.is_empty(), "nothing counts {unused:?}");
    }

    #[test]
    fn a_fan_out_is_timed_once_and_counted_for_everybody() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for _ in 0..100 {
            ledger.deliver(TrackKind::Audio, start);
        }
        ledger.deliver(TrackKind::Video, start);
        assert_eq!(ledger.turn.0.len(), 2);
        ledger.turn_ended(start + Duration::from_micros(900));
        assert!(ledger.turn.0.is_empty());
        let [audio, video, screen, data] = &ledger.residence_us;
        assert_eq!([audio, video, screen, data].map(Histogram::count), [100, 1, 0, 0]);
        assert_eq!((audio.quantile(0.5), audio.sum()), (1024, 90_000));
        assert_eq!((ledger.delivered, ledger.media_out[0].objects), (101, 100));
    }

    #[test]
    fn a_copy_torn_between_two_counts_shows_nothing_queued() {
        let mut ledger = Ledger { offered: 3, delivered: 1, ..Ledger::default() };
        ledger.drop(DropReason::Expired, 1);
        assert_eq!(ledger.queued(), 1);
        ledger.delivered = 4;
        assert_eq!(ledger.queued(), 0, "an offer that the copy has not seen");
        assert_eq!(ledger.settled(), 5, "which a count of what is queued hides");
    }
}
