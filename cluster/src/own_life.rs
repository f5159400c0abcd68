//! A node's own life: how it begins, is renewed, and is lost.

use super::{
    bucket::{Act, Answer, Entry, Key, Life, Moment, NodeNumber, Value, Whereabouts},
    node::{Asking, Terms, planted},
};

/// Where a node stands with its own life.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum OwnLife {
    /// It has none.
    None,
    /// Its first write is on its way, or it is not known what became of it.
    Beginning(Place),
    /// It was written, and the bucket has not been asked yet whether the epoch is still the one that it was written for: a
    /// first write is taken by a bucket that lost everything as well.
    Begun(Place),
    /// It lives, as long as it is renewed.
    Alive(Place),
}

/// A life in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Under which number.
    pub(crate) node: NodeNumber,
    /// Which life.
    pub(crate) life: Life,
    /// The record's number.
    revision: u64,
    /// That of the life's first write, or of an earlier one.
    first: u64,
    /// When its last write that was taken was sent.
    renewed: Moment,
    /// It is not known what became of the last write.
    in_doubt: bool,
}

impl Place {
    /// Whether it is not known what became of the last write.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// One that is about to be written, over the record with this number: whoever wrote that is over.
    pub(crate) const fn new(node: NodeNumber, life: Life, over: u64, now: Moment) -> Self {
        Self { node, life, revision: over, first: over, renewed: now, in_doubt: false }
    }

    /// What was written in this life has a higher number.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// Until when it is held, if it is not renewed.
    pub(crate) fn held_until(&self, terms: &Terms) -> Moment {
        self.renewed + terms.hold
    }

    /// The number of the record that the next write replaces.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }
}

impl OwnLife {
    /// The life that is held now: `None` once it might be over for others.
    pub(crate) fn held(&self, now: Moment, terms: &Terms) -> Option<&Place> {
        match self {
            Self::Alive(place) if now < place.held_until(terms) || planted!(terms, HeldForEver) => Some(place),
            _ => None,
        }
    }

    /// The life that there is or is to be.
    pub(crate) const fn place(&self) -> Option<&Place> {
        match self {
            Self::None => None,
            Self::Beginning(place) | Self::Begun(place) | Self::Alive(place) => Some(place),
        }
    }

    /// What is to be asked of the bucket for it.
    pub(crate) fn wish(&self, epoch: u64, at: Whereabouts, terms: &Terms, now: Moment) -> Option<Act> {
        let key = |place: &Place| Key::Life { epoch, node: place.node };
        match self {
            Self::Beginning(place) | Self::Alive(place) if place.in_doubt => Some(Act::Read(key(place))),
            Self::Alive(place) if now >= place.renewed + terms.renew_every => {
                Some(Act::Write { key: key(place), expected: place.revision, value: Value::Alive(place.life, at) })
            }
            _ => None,
        }
    }

    /// The epoch is still the one that the life was written for.
    pub(crate) fn handle_same_epoch(&mut self) {
        if let Self::Begun(place) = self {
            *self = Self::Alive(place.clone());
        }
    }

    /// Takes what the bucket says of the record. A life that is lost is `None` afterwards.
    pub(crate) fn handle_answer(&mut self, asking: &Asking, answer: Answer, terms: &Terms, now: Moment) {
        let begins = matches!(self, Self::Beginning(_));
        let (Self::Beginning(place) | Self::Begun(place) | Self::Alive(place)) = self else { return };
        match (asking.act, answer) {
            (Act::Write { value: Value::Alive(life, _), .. }, Answer::Written(revision)) if life == place.life => {
                // By when it was sent: whoever sees it sees it later.
                let renewed = if planted!(terms, HeldFromAnswer) { now } else { asking.since };
                (place.revision, place.renewed, place.in_doubt) = (revision, renewed, false);
            }
            (Act::Write { .. }, _) => return place.in_doubt = true,
            (Act::Read(_), Answer::Found(Some(Entry { revision, value: Value::Alive(life, _), .. })))
                if life == place.life =>
            {
                (place.revision, place.in_doubt) = (revision, false);
            }
            (Act::Read(_), Answer::Found(_)) => return *self = Self::None,
            (Act::Read(_), _) => return,
        }
        if begins {
            let place = place.clone();
            *self = if planted!(terms, NoSecondLook) { Self::Alive(place) } else { Self::Begun(place) };
        }
    }
}
