//! Looks whether the relay is still there.

use std::time::Duration;

use supernode_session::{Silence, Verdict};

use crate::{
    Error,
    runtime::Ticks,
    wire::{bearer, clock, link::Link},
};

/// Waits until the relay has left our questions unanswered for `silence_max`.
pub(crate) async fn watch(link: &Link, silence_max: Duration) -> Error {
    let mut silence = Silence::new(silence_max);
    let mut looks = Ticks::every(Silence::LOOK_EVERY);
    loop {
        looks.next().await;
        match silence.look(clock::both(), link.connection.seen()) {
            Verdict::Sound => {}
            Verdict::Ask => bearer::ask(link),
            Verdict::Gone => return Error::TimedOut("what we asked the relay"),
        }
    }
}
