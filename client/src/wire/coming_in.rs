//! How a session comes to its connections: the first one, another one when it is lost, and the next one when the relay goes.

use std::sync::Arc;

use supernode_proto::{close::Retry, control::GoAway, invite::HostPort};
use supernode_session::{Move, NAMED_FOR, Next, Obstacle, Reconnect, Step, Whither};

use crate::{
    Error, Event,
    client::Inner,
    clock_set,
    runtime::{sleep, sleep_until, timeout},
    sync::lock,
    wire::{
        backoff::random_wait,
        bearer::{Connection, Place, Tried},
        clock,
        link::{Connected, Greeting, Link},
    },
};

/// Relays that refuse us within one attempt, each of which is followed by the next at once: with more of them full or
/// ill, whoever goes on at once only adds to what they have to do.
const REFUSALS_MAX: usize = 3;

/// Connects and is let in: where the invite says, or where somebody has `named` a relay of the same key.
#[allow(clippy::clone_on_copy, reason = "a place is Copy natively, and not in a page")]
pub(crate) async fn connect(inner: &Inner, named: Option<&HostPort>, generation: u64) -> Result<Connected, Error> {
    let places = &inner.reach.places;
    let hosts = places.hosts(named);
    let mut tried = Tried::default();
    let mut greeted = None;
    let attempt = async {
        let (mut refused_by, mut refusal) = (Vec::new(), None);
        while refused_by.len() < REFUSALS_MAX {
            let Some((place, connection)) = inner.reach.dial(&hosts, &refused_by, &mut tried).await? else { break };
            greeted = Some(place.clone());
            match greet(inner, place.clone(), connection, generation).await {
                Ok(connected) => return Ok(Some(connected)),
                Err(error) if is_of_one_relay(&error) => {
                    places.avoid(&place);
                    refused_by.push(place);
                    refusal = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        refusal.map_or(Ok(None), Err)
    };
    match timeout(inner.config.connect_timeout, attempt).await {
        Ok(Ok(Some(connected))) => {
            places.let_in(&connected.link.place);
            Ok(connected)
        }
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) => Err(tried.into_error(&inner.reach)),
        Err(_) => {
            // Whoever answers and then says nothing more is not tried first again.
            greeted.iter().for_each(|place| places.avoid(place));
            Err(tried.into_error(&inner.reach))
        }
    }
}

async fn greet(inner: &Inner, place: Place, connection: Connection, generation: u64) -> Result<Connected, Error> {
    let greeting = Greeting {
        device: &inner.device,
        token: inner.invite.token.as_deref().unwrap_or_default(),
        ticket_generation: lock(&inner.rules).generation,
        revocation: lock(&inner.revoked).of(&inner.device.identity()),
        generation,
        session: inner.session.clone(),
        #[cfg(feature = "lying")]
        liar: inner.config.liar.clone(),
    };
    Link::greet(place, connection, greeting).await
}

/// Whether it says something of this relay only, so that another one may well let us in.
fn is_of_one_relay(error: &Error) -> bool {
    match error {
        Error::Closed(code) => code.is_of_one_relay(),
        Error::Connection(_) | Error::Disconnected => error.retry() != Retry::Never,
        _ => false,
    }
}

/// As [`connect`], and again where the relay says that a later attempt may succeed, as long as a connection may take.
pub(crate) async fn connect_first(inner: &Inner) -> Result<Connected, Error> {
    let mut attempts = Reconnect::new(&inner.config.patience(inner.config.connect_timeout), clock::moment());
    loop {
        let error = match connect(inner, None, 1).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let told_later = match &error {
            Error::Closed(code) => code.retry() != Retry::Never,
            // Whoever waits is told at once that nobody is there.
            Error::Unreachable(unreachable) => !unreachable.nothing_listens(),
            Error::Connection(_) => error.retry() != Retry::Never,
            _ => false,
        };
        let obstacle = if told_later { Obstacle::Passing } else { Obstacle::Lasting };
        match attempts.failed(obstacle, clock::moment(), random_wait) {
            Next::Attempt { at, .. } => sleep_until(at).await,
            Next::GiveUp => return Err(error),
        }
    }
}

/// The relay goes: waits as it asks, then goes on where it says, or elsewhere, or at the next process at the same address, until
/// somebody lets us in. The session goes on meanwhile.
pub(crate) async fn move_on(inner: Arc<Inner>, notice: GoAway, from: Arc<Link>) -> Connected {
    let generation = from.generation + 1;
    let mut moving = Move::new(&notice, &inner.config.patience(inner.config.reconnect_for));
    loop {
        let Step { wait, whither } = moving.next_step(random_wait);
        sleep(wait).await;
        let outcome = match whither {
            Whither::Named(named) => {
                let attempt = connect(&inner, Some(&named), generation);
                let outcome =
                    timeout(NAMED_FOR, attempt).await.unwrap_or(Err(Error::TimedOut("a relay that was named")));
                if outcome.is_ok() {
                    inner.reach.places.moved(named);
                }
                outcome
            }
            Whither::Same => connect(&inner, None, generation).await,
            Whither::Elsewhere => {
                inner.reach.places.avoid(&from.place);
                connect(&inner, None, generation).await
            }
        };
        match outcome {
            Ok(next) => return next,
            Err(error) => tracing::debug!(%error, "nobody takes us yet"),
        }
    }
}

/// Connects again, with growing random waits, for as long as the configuration says.
pub(crate) async fn come_back(inner: &Inner, link: &Link, mut error: Error) -> Result<Connected, Error> {
    let mut attempts = Reconnect::new(&inner.config.patience(inner.config.reconnect_for), clock::moment());
    let mut set = clock_set();
    loop {
        if *inner.closed.borrow() {
            return Err(Error::ClientClosed);
        }
        let obstacle = match (&error, error.retry()) {
            (_, Retry::Never) => Obstacle::Lasting,
            (Error::ClockDiffers(_), _) => Obstacle::Clocks,
            _ => Obstacle::Passing,
        };
        let next = attempts.failed(obstacle, clock::moment(), random_wait);
        let Next::Attempt { at, or_when_clock_is_set, is_news } = next else { return Err(error) };
        if is_news {
            inner.tell(Event::Disconnected(error));
        }
        let mut closed = inner.closed.subscribe();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return Err(Error::ClientClosed),
            () = sleep_until(at) => {}
            () = set, if or_when_clock_is_set => {}
        }
        // It may be set before the relay's answer is here.
        set = clock_set();
        let attempt = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return Err(Error::ClientClosed),
            attempt = connect(inner, None, link.generation + 1) => attempt,
        };
        match attempt {
            Ok(connected) => return Ok(connected),
            Err(failure) => error = failure,
        }
    }
}
