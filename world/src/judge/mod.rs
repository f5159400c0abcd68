//! What must hold, whatever the network and the clients do (DESIGN's list; docs/PROTOCOL.md has each in full).
//!
//! The judge is told what clients asked for and what reached them, and knows from that what must not have. It never looks into
//! the relay but for its tables and its ledger.

mod groups;
mod mailbox;
mod media;
mod relay;
mod rings;
mod standing;

use std::fmt;

use supernode_session::Moment;

pub use self::{
    groups::Groups,
    mailbox::Mailboxes,
    media::{Heard, Media, TrackFact},
    rings::{KeyPackages, Rings},
};

/// What did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The drop ledger balances: every object is in one bin, and none is in two.
    Ledger,
    /// No object reaches who is not in its room.
    Outsider,
    /// No object leaves for somebody after the kick was acknowledged.
    Kick,
    /// Nothing comes twice.
    Duplicate,
    /// What is ordered stays in order.
    Order,
    /// What is played is in order, and each frame once.
    Play,
    /// Objects arrive as they were sent, of the publisher that the track is of.
    Altered,
    /// Nothing above the layers that were asked for.
    Layer,
    /// A room's messages have one order, without gaps.
    Mailbox,
    /// Everybody who watches sees what is true.
    Presence,
    /// A ring is settled once.
    Ring,
    /// A key package is handed out once.
    KeyPackage,
    /// What the relay says of a room's members is so.
    Members,
    /// Every request is answered once.
    Reply,
    /// A healthy idle session stays.
    Idle,
    /// When all have left, every table is empty.
    Tables,
    /// Memory is bounded by the limits that say so.
    Memory,
    /// A client is let in when nothing is in its way.
    Admission,
    /// Members of a group agree: whoever is in an epoch knows who else is, and when nothing happens all of a room are in one,
    /// with one safety number.
    Group,
    /// What is sealed in an epoch opens for its members and for nobody else, whatever anybody was before.
    Secrecy,
    /// What a client takes for somebody's is theirs, and is taken once.
    Forged,
    /// Every label opens for every member.
    Label,
    /// Every member hears every other, and nobody is kept silent, when nothing happens.
    Heard,
    /// Nobody is warned of a lie where nobody lies.
    Warning,
    /// Time passes: nobody is busy for ever.
    Progress,
    /// Nothing panics.
    Panic,
}

impl Rule {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Ledger,
        Self::Outsider,
        Self::Kick,
        Self::Duplicate,
        Self::Order,
        Self::Play,
        Self::Altered,
        Self::Layer,
        Self::Mailbox,
        Self::Presence,
        Self::Ring,
        Self::KeyPackage,
        Self::Members,
        Self::Reply,
        Self::Idle,
        Self::Tables,
        Self::Memory,
        Self::Admission,
        Self::Group,
        Self::Secrecy,
        Self::Forged,
        Self::Label,
        Self::Heard,
        Self::Warning,
        Self::Progress,
        Self::Panic,
    ];
}

/// Something that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// When it was seen.
    pub at: Moment,
    /// What.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.6} s: {}", self.rule, self.at.since_beginning().as_secs_f64(), self.what)
    }
}

/// Knows what must hold.
#[derive(Debug, Default)]
pub struct Judge {
    /// Who may hear what.
    pub media: Media,
    /// The rooms' messages.
    pub mailboxes: Mailboxes,
    /// Who rings whom.
    pub rings: Rings,
    /// Which were handed out.
    pub key_packages: KeyPackages,
    /// What members of groups believe.
    pub groups: Groups,
    violations: Vec<Violation>,
    /// Clients are lied to: what they say of the relay counts for nothing.
    lies: bool,
}

impl Judge {
    /// From now on clients are lied to.
    pub fn begin_lies(&mut self) {
        self.lies = true;
    }

    /// They are told the truth again. What they said of messages, rings and aliases is forgotten.
    pub fn end_lies(&mut self) {
        (self.lies, self.mailboxes, self.rings) = (false, Mailboxes::default(), Rings::default());
        self.media.forget_aliases();
    }

    /// Something does not hold.
    pub fn fail(&mut self, at: Moment, rule: Rule, what: impl Into<String>) {
        let holds_whoever_lies = matches!(
            rule,
            Rule::Panic
                | Rule::Progress
                | Rule::Play
                | Rule::Ledger
                | Rule::Memory
                | Rule::Tables
                | Rule::Secrecy
                | Rule::Forged
        );
        if self.lies && !holds_whoever_lies {
            return;
        }
        self.violations.push(Violation { at, rule, what: what.into() });
    }

    /// Fails if there is something to say.
    pub fn check(&mut self, at: Moment, verdict: Result<(), (Rule, String)>) {
        if let Err((rule, what)) = verdict {
            self.fail(at, rule, what);
        }
    }

    /// The first thing that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.violations.first()
    }
}
