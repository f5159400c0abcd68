//! Who speaks, from what their Opus packets say themselves: nobody else can know.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use supernode_client::Member;

/// Between words nobody stops speaking.
const HANGOVER: Duration = Duration::from_millis(400);

/// When each member was last heard, and how much.
#[derive(Default)]
pub(super) struct Voices(Mutex<HashMap<Member, Voice>>);

#[derive(Clone, Copy, Default)]
struct Voice {
    heard: Option<Instant>,
    spoken: Duration,
}

impl Voices {
    /// A packet of so much time was played.
    pub(super) fn note(&self, member: Member, speaks: bool, length: Duration, now: Instant) {
        if speaks {
            let mut voices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let voice = voices.entry(member).or_default();
            voice.heard = Some(now);
            voice.spoken += length;
        }
    }

    pub(super) fn speaks(&self, member: &Member, now: Instant) -> bool {
        self.of(member).heard.is_some_and(|heard| now.saturating_duration_since(heard) < HANGOVER)
    }

    pub(super) fn spoken(&self, member: &Member) -> Duration {
        self.of(member).spoken
    }

    fn of(&self, member: &Member) -> Voice {
        let voices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        voices.get(member).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use supernode_client::proto::identity::{DeviceKey, IdentityKey};

    use super::*;

    #[test]
    fn a_pause_between_words_is_speech_and_a_long_one_is_not() {
        let member = Member { identity: IdentityKey::new([1; 32]), device: DeviceKey::new([2; 32]) };
        let (voices, start, packet) = (Voices::default(), Instant::now(), Duration::from_millis(20));
        assert!(!voices.speaks(&member, start));
        voices.note(member, true, packet, start);
        voices.note(member, false, packet, start + packet);
        assert!(voices.speaks(&member, start + HANGOVER / 2));
        assert!(!voices.speaks(&member, start + HANGOVER));
        assert_eq!(voices.spoken(&member), packet);
    }
}
