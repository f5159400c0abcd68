//! What somebody says of somebody else.

/// The relay's word, for which nobody vouches. It may be compared with what the group says, and is shown to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed<T>(T);

impl<T: PartialEq> Claimed<T> {
    /// The relay says so.
    pub const fn new(claim: T) -> Self {
        Self(claim)
    }

    /// Whether it is said of this one.
    pub fn is(&self, known: &T) -> bool {
        self.0 == *known
    }
}
