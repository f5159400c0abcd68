//! Faults that a simulation may switch on, to see that they are found. None of this is built but with the feature `planted`,
//! which only `supernode-world` turns on, and only where it is asked to.

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    macro_rules! faults {
        ($($(#[$doc:meta])* $name:ident,)*; of nodes: $($(#[$nodes_doc:meta])* $nodes_name:ident,)*) => {
            /// What is done wrong.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Fault {
                $($(#[$doc])* $name,)*
                $($(#[$nodes_doc])* $nodes_name,)*
            }

            impl Fault {
                /// All that a relay alone can do.
                pub const ALL: &[Self] = &[$(Self::$name,)*];
                /// Those of a node among others.
                pub const OF_NODES: &[Self] = &[$(Self::$nodes_name,)*];
            }
        };
    }

    faults! {
        /// Objects that waited too long are dropped, and in no bin of the ledger.
        ExpiredNotCounted,
        /// What is handed to QUIC counts twice.
        DeliveredTwice,
        /// Whoever is put out of a room keeps its subscriptions.
        KickKeepsSubscriptions,
        /// A kick is acknowledged before the member's shard has heard of it.
        KickAnsweredEarly,
        /// Tracks can be subscribed to from outside of their room.
        SubscribeFromOutside,
        /// Objects are taken under an alias that somebody else publishes.
        ForeignAlias,
        /// A subscriber is offered a datagram twice.
        DatagramTwice,
        /// The newest that waits for a subscriber goes first.
        NewestFirst,
        /// The layers that a subscriber asked for are forgotten.
        LayersForgotten,
        /// A part of a stream is lost between two shards, and the stream goes on.
        PartLost,
        /// Watchers are not told of somebody whose connection broke.
        BrokenNotTold,
        /// A state that was set too soon after another is never told.
        SecondStateForgotten,
        /// A room stays when its last member leaves.
        RoomStays,
        /// The others are not told that a member left.
        LeavingNotTold,
        /// An answered ring can be answered again.
        RingAnsweredTwice,
        /// A ring that nobody answers rings for ever.
        RingWithoutEnd,
        /// A key package is handed out again.
        KeyPackageAgain,
        /// One member is left out when a room's message is passed on.
        MessageLeftOut,
        /// Of two commits of one epoch both count.
        TwoCommits,
        /// Newcomers are not told of labels that are sealed again for them.
        RelabelNotTold,
        /// A label counts for whoever is in the room, whatever epoch it was sealed in.
        LabelEpochIgnored,
        /// Whoever comes into a room is not told of some of its tracks.
        TracksNotTold,
        /// A commit's join key is not taken with it.
        JoinKeyStays,
        /// Whoever catches up is not given the newest message.
        CatchUpShort,
        /// Nobody is told that a commit was taken back.
        RejectionNotTold,
        /// A knock at a room rings nobody.
        DoorRingsNobody,
        /// An answer comes without what it says.
        AnswerWithoutPayload,
        /// Of whoever is put out of a room, streams that QUIC has whole go on, and are sent again where they were lost.
        FinishedGoOn,
        /// Every hundredth letter between shards is lost.
        LetterLost,
        /// A session that says nothing for eight seconds is over.
        ImpatientRelay,
        /// Any number of datagrams waits for a subscriber.
        QueueWithoutBound,
        /// All subscribers together may make the relay keep any number of bytes.
        QueuesWithoutBound,
        ;
        of nodes:
        /// What a node said before counts although it has said something newer.
        OldReportTaken,
        /// Who was at a node that is gone stays online.
        GoneNodeIgnored,
        /// Nobody asks whether what is known of others is still so.
        NoRounds,
        /// A node goes on listening for somebody whom nobody watches any more.
        InterestKept,
        /// Whoever is shut out by a device at another node sees it.
        BlockElsewhereIgnored,
        /// A ring that a device at another node answered can be answered again.
        RingSettledAgain,
        /// Rings go on with devices of nodes that are gone, and of callers there.
        LegStays,
        /// A node carries out, and hears, what was said by another decision about a room's home than it knows of.
        FenceIgnored,
        /// A node acts as the home of a room although it does not know whether it still is.
        TwoHomesAnswer,
        /// Members of a room whose home has moved are not made to come back.
        MovedNotTold,
        /// A home keeps members of nodes that are gone.
        GoneMemberStays,
        /// A node acts as the home of rooms although its life may be over.
        HomesHeldForEver,
        /// Nobody is told that a room has its home here no more.
        LostHomeNotTold,
    }

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
        static TIMES: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on this thread's relay does this wrong, and nothing else.
    pub fn plant(fault: Option<Fault>) {
        FAULT.set(fault);
        TIMES.set(0);
    }

    /// Whether that is what is done wrong.
    pub(crate) fn is(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }

    /// Whether that is what is done wrong, and it is done this time, one of so many.
    pub(crate) fn is_once_in(times: u64, fault: Fault) -> bool {
        is(fault) && {
            TIMES.set(TIMES.get() + 1);
            TIMES.get().is_multiple_of(times)
        }
    }
}

#[cfg(feature = "planted")]
pub use switch::{Fault, plant};
#[cfg(feature = "planted")]
pub(crate) use switch::{is, is_once_in};

/// Whether a fault is planted here: `planted!(Name)`, or `planted!(Name, once in 50)`. Without the feature it is `false`, and
/// nothing of it is there.
macro_rules! planted {
    ($fault:ident) => {{
        #[cfg(feature = "planted")]
        let is_planted = $crate::planted::is($crate::planted::Fault::$fault);
        #[cfg(not(feature = "planted"))]
        let is_planted = false;
        is_planted
    }};
    ($fault:ident, once in $times:literal) => {{
        #[cfg(feature = "planted")]
        let is_planted = $crate::planted::is_once_in($times, $crate::planted::Fault::$fault);
        #[cfg(not(feature = "planted"))]
        let is_planted = false;
        is_planted
    }};
}

pub(crate) use planted;
