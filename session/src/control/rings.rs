//! Rings under way, by their 16 bytes.

use std::collections::BTreeSet;

use bytes::Bytes;

/// More than this many do not ring at once: nobody could look at them, and a relay may invent any number.
const INCOMING_MAX: usize = 256;

/// Those of ours that nobody has settled, and those of others that we have not answered.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    outgoing: BTreeSet<Bytes>,
    incoming: BTreeSet<Bytes>,
}

impl Rings {
    /// One of ours began.
    pub(crate) fn started(&mut self, ring: Bytes) {
        self.outgoing.insert(ring);
    }

    /// One of ours is settled: whether it was one.
    pub(crate) fn settled(&mut self, ring: &Bytes) -> bool {
        self.outgoing.remove(ring)
    }

    /// Somebody rings: whether there is room for it.
    pub(crate) fn came(&mut self, ring: &Bytes) -> bool {
        self.incoming.len() < INCOMING_MAX && self.incoming.insert(ring.clone())
    }

    /// We answered, or it stopped: whether it still rang.
    pub(crate) fn ended(&mut self, ring: &Bytes) -> bool {
        self.incoming.remove(ring)
    }

    /// The connection is gone, and all rings with it: ours first, then those of others.
    pub(crate) fn lost(&mut self) -> (BTreeSet<Bytes>, BTreeSet<Bytes>) {
        (std::mem::take(&mut self.outgoing), std::mem::take(&mut self.incoming))
    }
}
