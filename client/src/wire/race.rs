//! Dials a relay's addresses until one answers, each a moment after the one before, or at once when one has failed (R-170,
//! RFC 8305).

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    task::Poll,
};

use supernode_session::places::Race;

use crate::{
    Error,
    runtime::{moment, sleep_until},
    wire::bearer::{Candidate, Tried},
};

/// Those that are being dialled.
type Running<F> = Vec<(Candidate, Pin<Box<F>>)>;

/// Dials all of each step at once, until one answers, which is returned; the others are given up. `None` if none does, and
/// `tried` has what came of them.
#[allow(clippy::clone_on_copy, reason = "what is tried is Copy natively, and not in a page")]
pub(crate) async fn race<T, F: Future<Output = Result<T, Error>>>(
    steps: Vec<Vec<Candidate>>,
    tried: &mut Tried,
    dial: impl Fn(Candidate) -> F,
) -> Option<(Candidate, T)> {
    let mut race = Race::new(steps, moment());
    let mut running: Running<F> = Vec::new();
    loop {
        if let Some(step) = race.due(moment()) {
            for candidate in step {
                tried.begin(candidate.clone());
                running.push((candidate.clone(), Box::pin(dial(candidate))));
            }
            continue;
        }
        let next_at = race.next_at();
        if running.is_empty() && next_at.is_none() {
            return None;
        }
        let turn = async {
            match next_at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            (candidate, outcome) = first(&mut running) => match outcome {
                Ok(connection) => return Some((candidate, connection)),
                Err(error) => {
                    tried.note(&candidate, error);
                    race.failed(moment());
                }
            },
            () = turn => {}
        }
    }
}

/// The first of them that comes to an end. Cancel safe.
async fn first<T, F: Future<Output = T>>(running: &mut Running<F>) -> (Candidate, T) {
    poll_fn(|cx| {
        let ended =
            running.iter_mut().enumerate().find_map(|(place, (_, dialling))| match dialling.as_mut().poll(cx) {
                Poll::Ready(outcome) => Some((place, outcome)),
                Poll::Pending => None,
            });
        match ended {
            Some((place, outcome)) => Poll::Ready((running.swap_remove(place).0, outcome)),
            None => Poll::Pending,
        }
    })
    .await
}
