//! A subscribed track in order and in time.

use std::{sync::Arc, time::Duration};

use supernode_calls::{Cue, Player};
use supernode_session::Moment;

use crate::{Call, DelayBounds, Error, Played, RemoteTrack, SubscribeOptions, Subscription, runtime, wire::clock};

/// The frames of a track whose objects are groups of their own, as those of audio are, each at its time. Dropped, it
/// unsubscribes.
#[derive(Debug)]
pub struct Playback {
    subscription: Subscription,
    player: Player,
}

impl Call {
    /// Subscribes to a track in order to play it. How patiently is said by `bounds`, not by the options' hold.
    ///
    /// # Errors
    /// As [`Self::subscribe`].
    pub async fn play(
        &self,
        track: &Arc<RemoteTrack>,
        options: SubscribeOptions,
        bounds: DelayBounds,
    ) -> Result<Playback, Error> {
        let subscription = self.subscribe(track, SubscribeOptions { hold: Duration::ZERO, ..options }).await?;
        Ok(Playback { subscription, player: Player::new(bounds) })
    }
}

impl Playback {
    /// Waits for the next frame's time; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Played> {
        loop {
            let wake_at = match self.player.next(clock::moment()) {
                Cue::Play(played) => {
                    if let Played::Missing(frames) = played {
                        self.subscription.track().counters.count_lost(frames);
                    }
                    return Some(played);
                }
                Cue::Wait(until) => until,
                Cue::Over => return None,
            };
            tokio::select! {
                frame = self.subscription.next_arrived(), if !self.player.is_finished() => {
                    let now = clock::moment();
                    match frame {
                        Some(frame) => self.player.push(frame, now),
                        None => self.player.finish(now),
                    }
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// How long after the fastest way a frame is played, for now.
    pub fn delay(&self) -> Duration {
        self.player.delay()
    }

    /// Frames that came after their time.
    pub fn late(&self) -> u64 {
        self.player.late()
    }
}

async fn sleep_until(at: Option<Moment>) {
    match at {
        Some(at) => runtime::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
