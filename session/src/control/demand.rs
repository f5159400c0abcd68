//! Who takes a track of ours.

use supernode_proto::{control::TrackDemand, object::Layer};

/// What subscribers can take of a track of ours now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many subscribe; of a picture, those whose paths take one now. At zero there is no point in encoding.
    pub subscribers: u32,
    /// Highest temporal layer that any of them is sent: frames above it are not sent, and need not be encoded.
    pub temporal_layer_max: u8,
    /// Highest spatial layer that any of them is sent.
    pub spatial_layer_max: u8,
    /// What the widest of their paths does not exceed, for everything on it, in bit/s: a bound for the encoder. `None` as
    /// long as one of them is not known to be bound; after a squeeze it doubles, while the path stays calm.
    pub bits_per_second: Option<u64>,
    /// How many have begun to subscribe since the track is there, as far as the relay told: whoever begins gets only what comes
    /// from then on. That one left and another came shows here, and not in how many there are.
    pub joined: u64,
}

impl Demand {
    /// What the relay tells next, counted on from here.
    #[must_use]
    pub fn followed_by(&self, next: Self) -> Self {
        let more = next.subscribers.saturating_sub(self.subscribers);
        Self { joined: self.joined + u64::from(more), ..next }
    }
}

impl From<TrackDemand> for Demand {
    fn from(told: TrackDemand) -> Self {
        let layer = |layer: u32| layer.min(Layer::MAX.into()) as u8;
        Self {
            subscribers: told.subscribers,
            temporal_layer_max: layer(told.temporal_layer_max),
            spatial_layer_max: layer(told.spatial_layer_max),
            bits_per_second: (told.bits_per_second > 0).then_some(told.bits_per_second),
            joined: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_in_the_place_of_another_is_counted() {
        let told = [1, 0, 1, 1, 3, 2].map(|subscribers| Demand { subscribers, ..Demand::default() });
        let mut known = Demand::default();
        let joined = told.map(|next| {
            known = known.followed_by(next);
            known.joined
        });
        assert_eq!((joined, known.subscribers), ([1, 1, 2, 2, 4, 4], 2));
    }
}
