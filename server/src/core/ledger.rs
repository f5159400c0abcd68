//! The drop ledger: objects in x subscribers = delivered + dropped (by reason) + still queued. Always exact.
//!
//! Counted on the shard that owes the delivery. An object is *offered* once for every subscriber, and every offer ends
//! in exactly one of the bins. *Delivered* means handed to the subscriber's QUIC connection in full. What is refused
//! before it has subscribers (malformed, not the sender's track) never enters the ledger and is counted apart.

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
        LadderTemporal2 "ladder_temporal_2" "the subscriber's path takes no temporal layer 2 and up now";
        LadderTemporal1 "ladder_temporal_1" "the subscriber's path takes no temporal layer 1 and up now";
        LadderAudioOnly "ladder_audio_only" "the subscriber's path takes only audio and data now";
        TooLarge "too_large" "the datagram does not fit the subscriber's path";
        NoDatagrams "no_datagrams" "the subscriber's connection takes no datagrams";
        Cancelled "cancelled" "the publisher reset the stream in the middle of the object";
        Stopped "stopped" "the subscriber stopped the stream";
        Unsubscribed "unsubscribed" "the subscription or the track ended while the object was queued";
        Gone "gone" "the subscriber's session ended while the object was queued";
        ShardOverflow "shard_overflow" "the inbox of the subscriber's shard was full";
    }
}

reasons! {
    /// Why an object was refused at the door.
    RefuseReason {
        Malformed "malformed" "its header or its stream is malformed";
        UnknownTrack "unknown_track" "it names a track that is not its sender's";
        RateExceeded "rate_exceeded" "its sender has sent more than it was granted";
        NoSession "no_session" "it came before the session's Hello was accepted";
        TooManyStreams "too_many_streams" "the relay had no room for another stream of this sender";
    }
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
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// By [`RefuseReason`].
    pub refused: [u64; RefuseReason::COUNT],
}

impl Ledger {
    /// Counts a dropped offer.
    pub fn drop(&mut self, reason: DropReason, objects: u64) {
        self.dropped[reason as usize] += objects;
    }

    /// Counts an object turned away.
    pub fn refuse(&mut self, reason: RefuseReason) {
        self.refused[reason as usize] += 1;
    }

    /// Offers that are neither delivered nor dropped yet: what the queues must hold.
    ///
    /// A copy that another thread took while the shard was counting may hold a delivery or a drop whose offer it has
    /// not seen: then this is zero, which is as near to the truth as such a copy can come.
    pub fn queued(&self) -> u64 {
        let settled = self.dropped.iter().fold(self.delivered, |sum, dropped| sum.saturating_add(*dropped));
        self.offered.saturating_sub(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_torn_between_two_counts_shows_nothing_queued() {
        let mut ledger = Ledger { offered: 3, delivered: 1, ..Ledger::default() };
        ledger.drop(DropReason::Expired, 1);
        assert_eq!(ledger.queued(), 1);
        ledger.delivered = 4;
        assert_eq!(ledger.queued(), 0, "an offer that the copy has not seen");
    }
}
