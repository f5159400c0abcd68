//! What came of the messages, for metrics. Names nobody.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident $label:literal;)*) => {
        /// What came of a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// All of them, in the order of [`Figures::outcomes`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

outcomes! {
    /// The service took it.
    Sent "sent";
    /// The service says that nobody is there any more (404, 410): the endpoint is forgotten.
    Gone "gone";
    /// The service wants less (429, 503), or wanted so a moment ago.
    Busy "busy";
    /// Another status: a redirect, which is not followed, or the service does not take the relay's key.
    Refused "refused";
    /// No answer in time.
    Late "late";
    /// No connection.
    Unreachable "unreachable";
    /// The connection broke before the answer.
    Broken "broken";
    /// The service's name leads to an address of a private network, which is not dialled.
    Private "private";
    /// Too many waited.
    NoRoom "no_room";
}

/// How many of each outcome there are.
pub type Outcomes = [u64; Outcome::ALL.len()];

/// Counts for as long as the process lives.
#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Figures {
    /// How many messages came to what.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
