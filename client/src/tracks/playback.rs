//! A subscribed track in order and in time.

use std::{sync::Arc, time::Duration};

use supernode_proto::object::Flags;
use supernode_session::Moment;

use crate::{
    Call, DelayBounds, Error, Frame, JitterBuffer, Playout, RemoteTrack, SubscribeOptions, Subscription, wire::clock,
};

/// What is to be played.
#[derive(Debug, PartialEq, Eq)]
pub enum Played {
    /// A frame whose time has come.
    Frame(Frame),
    /// So many frames did not come in time.
    Missing(u64),
}

/// The frames of a track whose objects are groups of their own, as those of audio are, each at its time. Dropped, it
/// unsubscribes.
#[derive(Debug)]
pub struct Playback {
    subscription: Subscription,
    buffer: JitterBuffer,
    bounds: DelayBounds,
    end: Option<End>,
}

/// The publisher's mark may overtake frames.
#[derive(Debug, Clone, Copy)]
struct End {
    /// No frame has this group or a later one; `None` if no mark came.
    group: Option<u64>,
    heard_at: Moment,
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
        Ok(Playback { subscription, buffer: JitterBuffer::new(bounds), bounds, end: None })
    }
}

impl Playback {
    /// Waits for the next frame's time; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Played> {
        loop {
            let now = clock::moment();
            let wake_at = match self.buffer.next(now) {
                Playout::Frame(frame) => return Some(Played::Frame(frame)),
                Playout::Missing(frames) => {
                    self.subscription.track().counters.count_lost(frames);
                    return Some(Played::Missing(frames));
                }
                Playout::Wait(until) => Some(until),
                Playout::Empty => None,
            };
            let Some(End { group, heard_at }) = self.end else {
                tokio::select! {
                    frame = self.subscription.next_arrived() => self.take(frame),
                    () = sleep_until(wake_at) => {}
                }
                continue;
            };
            // What is still on its way has as long as a frame may be late.
            let over_at = heard_at + self.bounds.max;
            if group.is_none_or(|group| self.buffer.has_played_to(group)) && wake_at.is_none() || now >= over_at {
                return self.rest();
            }
            let wake_at = Some(wake_at.map_or(over_at, |at| at.min(over_at)));
            if group.is_none() {
                sleep_until(wake_at).await;
                continue;
            }
            tokio::select! {
                frame = self.subscription.next_arrived() => self.take(frame),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// How long after the fastest way a frame is played, for now.
    pub fn delay(&self) -> Duration {
        self.buffer.target()
    }

    /// Frames that came after their time.
    pub fn late(&self) -> u64 {
        self.buffer.late()
    }

    /// What waits although the track is over is not kept back any more.
    fn rest(&mut self) -> Option<Played> {
        self.buffer.pop_first().map(Played::Frame)
    }

    fn take(&mut self, frame: Option<Frame>) {
        let now = clock::moment();
        match frame {
            Some(frame) if frame.flags.contains(Flags::END_OF_TRACK) => {
                self.end = Some(End { group: Some(frame.group), heard_at: now });
            }
            Some(frame) => self.buffer.push(frame, now),
            None => {
                let heard_at = self.end.map_or(now, |end| end.heard_at);
                self.end = Some(End { group: None, heard_at });
            }
        }
    }
}

async fn sleep_until(at: Option<Moment>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock::instant(at).into()).await,
        None => std::future::pending().await,
    }
}
