//! Keeps a session alive: reads the relay's messages, and when the connection ends, makes another and restores on it
//! what there was.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_proto::{
    DEFAULT_PORT,
    close::{CloseCode, Retry},
    control::{
        DepositKeyPackages, GoAway, LimitTickets, PublishTrack, RefusalReason, RelayMessage, client_message,
        relay_message,
    },
    identity::Revocation,
    object::TrackAlias,
};

use crate::{
    Client, Error, Event, call,
    client::Inner,
    clock_set,
    error::{CallEnd, Refusal},
    ring::Rings,
    room::Room,
    sync::{lock, long},
    tracks::track::{Demand, LocalTrack, Route},
    wire::{
        backoff::{Backoff, random_wait},
        dial::{self, Tried},
        inbound,
        link::{ControlReader, Greeting, Link},
        silence,
    },
};

/// How often and how far apart we knock at a room that we were in: the others may be about to change its key.
const REENTER_ATTEMPTS: u32 = 5;
const REENTER_WAIT: Duration = Duration::from_millis(300);
/// How long to wait between attempts while the clocks differ: nothing changes before one of them is set.
const CLOCK_WAIT: Duration = Duration::from_secs(30);
/// How long a connection that we gave up may go on: longer than QUIC keeps a silent one.
const LEFT_MAX: Duration = Duration::from_secs(60);

/// Connects and is let in, by the first of the relay's addresses that answers. `elsewhere` is another relay's
/// `host:port` with the same key.
pub(crate) async fn connect(
    inner: &Inner,
    elsewhere: Option<&str>,
    generation: u64,
) -> Result<(Arc<Link>, ControlReader), Error> {
    let own = (inner.invite.host.as_str(), inner.invite.port);
    let (host, port) = elsewhere.and_then(split_address).unwrap_or(own);
    let mut tried = Tried::default();
    inner.faults.clear();
    let attempt = async {
        let good = *lock(&inner.good_address);
        let addresses = dial::in_turn(tokio::net::lookup_host((host, port)).await.map_err(Error::Resolve)?, good);
        if addresses.is_empty() {
            return Err(Error::Resolve(std::io::ErrorKind::AddrNotAvailable.into()));
        }
        let dial = |address| Link::dial(inner.endpoint.clone(), inner.quic.clone(), address, host.to_owned());
        // Only the one that answers first is told who we are: a relay lets a device in once.
        let Some((address, connection)) = dial::race(addresses, &mut tried, dial).await else { return Ok(None) };
        *lock(&inner.good_address) = Some(address);
        let greeting = Greeting {
            device: &inner.device,
            token: inner.invite.token.as_deref().unwrap_or_default(),
            ticket_generation: lock(&inner.rules).generation,
            revocation: lock(&inner.revoked).of(&inner.device.identity()),
            generation,
            #[cfg(feature = "lying")]
            liar: inner.config.liar.clone(),
        };
        Link::greet(connection, greeting).await.map(Some)
    };
    let outcome = tokio::time::timeout(inner.config.connect_timeout, attempt).await;
    match outcome {
        Ok(Ok(Some(connected))) => Ok(connected),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Err(tried.into_error(inner.faults.why())),
    }
}

/// As [`connect`], and again where the relay says that a later attempt may succeed, as long as a connection may take.
pub(crate) async fn connect_first(inner: &Inner) -> Result<(Arc<Link>, ControlReader), Error> {
    let give_up_at = Instant::now() + inner.config.connect_timeout;
    let mut backoff = Backoff::new(inner.config.backoff_base, inner.config.backoff_max);
    loop {
        let error = match connect(inner, None, 1).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let wait = backoff.next_wait(random_wait);
        let told_later = match &error {
            Error::Closed(code) => code.retry() != Retry::Never,
            Error::Connection(_) | Error::Unreachable(_) => error.retry() != Retry::Never,
            _ => false,
        };
        if !told_later || Instant::now() + wait >= give_up_at {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

fn split_address(address: &str) -> Option<(&str, u16)> {
    if address.is_empty() {
        return None;
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().ok()? };
    Some((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// Runs until the client is closed or gives up.
pub(crate) async fn drive(inner: Arc<Inner>, mut link: Arc<Link>, mut reader: ControlReader) {
    loop {
        let end = run(&inner, &link, &mut reader).await;
        if let Error::Closed(code) = &end.error {
            *lock(&inner.ended_by) = Some(*code);
        }
        inner.link.send_replace(None);
        link.clear();
        inner.rings.clear();
        let rooms: Vec<Arc<Room>> = lock(&inner.rooms).values().cloned().collect();
        rooms.iter().for_each(|room| room.handle_link_lost());
        let came_back = match end.next {
            Some(next) => Ok(next),
            None => come_back(&inner, &link, end.error).await,
        };
        match came_back {
            Ok((next, next_reader)) => (link, reader) = (next, next_reader),
            Err(error) => {
                if let Error::Closed(code) = &error {
                    *lock(&inner.ended_by) = Some(*code);
                }
                rooms.iter().for_each(|room| room.end_with(CallEnd::SessionGone));
                inner.closed.send_replace(true);
                inner.tell(Event::Closed(error));
                return;
            }
        }
        *lock(&inner.ended_by) = None;
        inner.link.send_replace(Some(link.clone()));
        // Whoever closed the client meanwhile did not see this connection.
        if *inner.closed.borrow() {
            link.close(CloseCode::BYE);
        }
        inner.tell(Event::Reconnected);
        inner.tell_of_relay(&link);
    }
}

/// How a connection ended.
struct End {
    error: Error,
    /// The connection to go on with, if the relay asked us to go and somebody took us.
    next: Option<(Arc<Link>, ControlReader)>,
}

/// Handles everything that comes until the connection ends.
async fn run(inner: &Arc<Inner>, link: &Arc<Link>, reader: &mut ControlReader) -> End {
    let mut tasks =
        vec![tokio::spawn(inbound::read_datagrams(link.clone())), tokio::spawn(inbound::read_streams(link.clone()))];
    if link.generation > 1 {
        tasks.push(tokio::spawn(restore(inner.clone(), link.clone())));
    }
    let mut silent = std::pin::pin!(silence::watch(link, inner.config.silence_max));
    let mut moving: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(std::future::pending());
    let end = loop {
        let message = tokio::select! {
            message = next_message(link, reader) => message,
            next = &mut moving => {
                link.close(CloseCode::BYE);
                break End { error: Error::Disconnected, next: Some(next) };
            }
            error = &mut silent => {
                leave(link.clone());
                break End { error, next: None };
            }
        };
        match message {
            Ok(RelayMessage { body: Some(relay_message::Body::GoAway(notice)), .. }) => {
                moving = Box::pin(move_on(inner.clone(), notice, link.generation + 1));
                inner.tell(Event::GoingAway);
            }
            Ok(message) => handle(inner, link, message).await,
            Err(error) => break End { error, next: None },
        }
    };
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    end
}

async fn next_message(link: &Link, reader: &mut ControlReader) -> Result<RelayMessage, Error> {
    #[cfg(feature = "lying")]
    if let Some(liar) = &link.liar {
        return liar.next(reader, &link.connection).await;
    }
    reader.next(&link.connection).await
}

/// Leaves a connection on which the relay is silent as it is: a goodbye that got through would tell our watchers at
/// once that we have gone, while we are about to come back. The relay ends it when it lets us in again.
fn leave(link: Arc<Link>) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LEFT_MAX, link.connection.closed()).await;
        link.close(CloseCode::BYE);
    });
}

/// The relay goes: waits as it asks, then tries to get in elsewhere, or at the next process at the same address, until
/// it succeeds. The session goes on meanwhile.
async fn move_on(inner: Arc<Inner>, notice: GoAway, generation: u64) -> (Arc<Link>, ControlReader) {
    let (after, before) = (notice.reconnect_after_ms.into(), notice.reconnect_before_ms.into());
    let mut wait = random_wait(Duration::from_millis(after)..=Duration::from_millis(before));
    let mut backoff = Backoff::new(inner.config.backoff_base, inner.config.backoff_max);
    let mut elsewhere = Some(notice.alternative.as_str());
    loop {
        tokio::time::sleep(wait).await;
        match connect(&inner, elsewhere, generation).await {
            Ok(next) => return next,
            Err(error) => tracing::debug!(%error, "nobody takes us yet"),
        }
        elsewhere = None;
        wait = backoff.next_wait(random_wait);
    }
}

/// Connects again, with growing random waits, for as long as the configuration says.
async fn come_back(inner: &Inner, link: &Link, mut error: Error) -> Result<(Arc<Link>, ControlReader), Error> {
    let give_up_at = Instant::now() + inner.config.reconnect_for;
    let mut backoff = Backoff::new(inner.config.backoff_base, inner.config.backoff_max);
    let mut wait = backoff.next_wait(random_wait);
    let (mut told, mut told_of_clock) = (false, false);
    loop {
        if *inner.closed.borrow() {
            return Err(Error::ClientClosed);
        }
        if error.retry() == Retry::Never || Instant::now() + wait > give_up_at {
            return Err(error);
        }
        let until_right = matches!(error, Error::ClockDiffers(_));
        if !told || until_right && !told_of_clock {
            told_of_clock |= until_right;
            told = true;
            inner.tell(Event::Disconnected(error));
        }
        let mut closed = inner.closed.subscribe();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return Err(Error::ClientClosed),
            () = tokio::time::sleep(if until_right { wait.max(CLOCK_WAIT) } else { wait }) => {}
            () = clock_set(), if until_right => {}
        }
        let attempt = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return Err(Error::ClientClosed),
            attempt = connect(inner, None, link.generation + 1) => attempt,
        };
        match attempt {
            Ok(connected) => return Ok(connected),
            Err(failure) => error = failure,
        }
        wait = backoff.next_wait(random_wait);
    }
}

/// Handles one message, and the next one only then, so that all of them are handled in the relay's order.
async fn handle(inner: &Arc<Inner>, link: &Arc<Link>, message: RelayMessage) {
    use relay_message::Body;
    let Some(body) = message.body else { return };
    if message.reply_to != 0 {
        return link.handle_reply(message.reply_to, body).await;
    }
    match body {
        // These are work on a group, or new keys.
        Body::MlsDelivery(_) | Body::CommitRejected(_) | Body::IncomingRing(_) | Body::KeyPackagesLow(_) => {
            let (inner, link) = (inner.clone(), link.clone());
            long(move || handle_news(&inner, &link, body)).await;
        }
        body => handle_news(inner, link, body),
    }
}

fn handle_news(inner: &Arc<Inner>, link: &Arc<Link>, body: relay_message::Body) {
    use relay_message::Body;
    match body {
        Body::Presence(news) => inner.watches.handle_presence(&news),
        Body::WatchEnded(ended) => inner.watches.handle_ended(&ended.identity, ended.reason()),
        Body::IncomingRing(ring) => {
            let shown = Client::of(inner).and_then(|client| Rings::handle_incoming(client, link, ring));
            // One that finds no room in the queue is dropped here and so answered as busy.
            drop(shown.and_then(|ring| inner.tell(Event::IncomingRing(ring))));
        }
        Body::RingOutcome(outcome) => inner.rings.handle_outcome(outcome),
        Body::RingEnded(ended) => inner.rings.handle_ended(&ended.ring, ended.result()),
        Body::MemberJoined(joined) => with_room(inner, &joined.room, |room| room.handle_member_joined(&joined)),
        Body::MemberLeft(left) => {
            with_room(inner, &left.room, |room| {
                if room.handle_member_left(left.member) {
                    tokio::spawn(come_in_again(inner.clone(), link.clone(), room.clone()));
                }
            });
        }
        Body::MlsDelivery(delivery) => with_room(inner, &delivery.room, |room| room.handle_mls(link, &delivery)),
        Body::BeaconPosted(beacon) => {
            with_room(inner, &beacon.room, |room| room.handle_beacon(&beacon, Instant::now()))
        }
        Body::TrackAnnounced(track) => {
            with_room(inner, &track.room, |room| room.handle_track_announced(link, &track));
        }
        Body::TrackEnded(ended) => with_room(inner, &ended.room, |room| {
            TrackAlias::new(ended.alias).into_iter().for_each(|alias| room.handle_track_ended(alias));
        }),
        Body::KeyframeRequested(asked) => with_local_track(inner, asked.alias, LocalTrack::request_keyframe),
        Body::TrackDemand(demand) => {
            with_local_track(inner, demand.alias, |track| track.set_demand(Demand::from(demand)));
        }
        Body::Allocation(allocation) => {
            if inner.rung.send_replace(allocation.rung()) != allocation.rung() {
                inner.tell(Event::RungChanged(allocation.rung()));
            }
        }
        Body::CommitRejected(rejected) => {
            with_room(inner, &rejected.room, |room| room.handle_commit_rejected(&rejected));
        }
        Body::DevicesRevoked(revoked) => {
            // What comes from the relay counts only with our own identity's signature.
            let word = Revocation::from_bytes(&revoked.revocation).ok();
            let own = word.filter(|word| word.identity == inner.device.identity());
            if let Some(word) = own.filter(|word| lock(&inner.revoked).learn(word.clone())) {
                inner.tell(Event::DevicesRevoked(word));
            }
        }
        Body::KeyPackagesLow(low) => deposit(inner, link, low.left as usize),
        Body::GoAway(_)
        | Body::Welcome(_)
        | Body::Done(_)
        | Body::Refused(_)
        | Body::KeyPackages(_)
        | Body::RingStarted(_)
        | Body::RoomJoined(_)
        | Body::TrackPublished(_) => tracing::debug!("a reply to no request"),
    }
}

fn with_room(inner: &Inner, room: &[u8], handle: impl FnOnce(&Arc<Room>)) {
    // A room that we have just left still has messages under way.
    if let Some(room) = inner.room(room) {
        handle(&room);
    }
}

fn with_local_track(inner: &Inner, alias: u64, handle: impl FnOnce(&LocalTrack)) {
    let Some(alias) = TrackAlias::new(alias) else { return };
    let track = lock(&inner.rooms).values().find_map(|room| room.local_track(alias));
    if let Some(track) = track {
        handle(&track);
    }
}

/// Says on a new connection what the last one knew.
async fn restore(inner: Arc<Inner>, link: Arc<Link>) {
    let presence = async {
        // Before anybody can see us: whoever sees us online may ring at once.
        let (depositing, on) = (inner.clone(), link.clone());
        long(move || deposit(&depositing, &on, 0)).await;
        // Also when nobody is shut out any more: the relay goes on with what the session before this one said.
        link.send(client_message::Body::LimitTickets(limit_tickets(&inner)), None);
        let presence = lock(&inner.presence).clone();
        if let Some(presence) = presence {
            link.send(client_message::Body::SetPresence(presence), None);
        }
        inner.watches.restore(&link);
    };
    // Calls first: somebody is listening, and a dozen key packages take their time to make.
    tokio::join!(restore_rooms(&inner, &link), presence);
}

async fn restore_rooms(inner: &Arc<Inner>, link: &Arc<Link>) {
    let rooms: Vec<Arc<Room>> = lock(&inner.rooms).values().cloned().collect();
    for room in rooms {
        restore_room(inner, link, &room).await;
    }
}

async fn restore_room(inner: &Arc<Inner>, link: &Arc<Link>, room: &Arc<Room>) {
    if room.end().is_some() {
        return;
    }
    match reenter(inner, link, room).await {
        Ok(()) => republish(inner, link, room).await,
        Err(error) => {
            tracing::debug!(%error, "a room did not let us back in");
            if link.connection.close_reason().is_some() {
                return;
            }
            if room.hosting.is_some() {
                // Somebody inside can let us in again.
                room.fall_behind();
            } else {
                lock(&inner.rooms).remove(&room.id);
                room.end_with(CallEnd::NotLetIn);
            }
        }
    }
}

/// The relay has put us out of its room, and no member's commit did: we come back in, each time a little later.
async fn come_in_again(inner: Arc<Inner>, link: Arc<Link>, room: Arc<Room>) {
    tokio::time::sleep(room.pause_before_coming_in_again()).await;
    // What the relay says may not be so: whoever is in cannot come in.
    let _ = inner.request(&link, call::leave(&room)).await;
    if link.connection.close_reason().is_none() && !room.is_behind() {
        restore_room(&inner, &link, &room).await;
    }
}

/// Publishes our tracks again in a room that we have come back to.
pub(crate) async fn republish(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>) {
    for track in room.local_tracks() {
        if let Err(error) = publish(inner, link, room, &track).await {
            tracing::debug!(%error, "a track could not be published again");
        }
    }
}

async fn reenter(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>) -> Result<(), Error> {
    call::catch_up(inner, link, room).await?;
    let mut attempts = 1;
    loop {
        match call::enter(inner, link, room).await {
            Err(Error::Refused(refusal))
                if refusal.reason == RefusalReason::JoinProof
                    && attempts < REENTER_ATTEMPTS
                    && room.hosting.is_none() =>
            {
                attempts += 1;
                tokio::time::sleep(REENTER_WAIT).await;
            }
            other => return other,
        }
    }
}

/// Publishes a track on this connection.
pub(crate) async fn publish(
    inner: &Inner,
    link: &Arc<Link>,
    room: &Arc<Room>,
    track: &Arc<LocalTrack>,
) -> Result<(), Error> {
    let epoch = room.epoch();
    let label = room.seal_label(track.kind, &track.info)?.into();
    let room_name = Bytes::copy_from_slice(&room.id.0);
    let request = client_message::Body::PublishTrack(PublishTrack {
        room: room_name,
        kind: track.kind.into(),
        label,
        activity: track.activity,
    });
    let (publishing, on) = (track.clone(), link.clone());
    let published = move |reply: Result<&relay_message::Body, &Refusal>| {
        if let Ok(relay_message::Body::TrackPublished(published)) = reply {
            let route = TrackAlias::new(published.alias).map(|alias| Route { link: on, alias });
            publishing.set_route(route);
        }
    };
    link.request_in_order(request, inner.config.request_timeout, Some(Box::new(published))).await?;
    // Newcomers in between have no key for the label, and the track had no alias yet by which to seal it again.
    if room.epoch() != epoch {
        room.announce_again();
    }
    Ok(())
}

/// Which of our tickets count, as the relay is told.
pub(crate) fn limit_tickets(inner: &Inner) -> LimitTickets {
    let rules = lock(&inner.rules);
    let blocked = rules.blocked.iter().map(|identity| Bytes::copy_from_slice(identity.as_bytes())).collect();
    LimitTickets { generation: rules.generation, blocked }
}

/// Replaces the last resort that somebody has just used.
pub(crate) fn deposit_last_resort(inner: &Inner, link: &Link) {
    match inner.device.last_resort_key_package() {
        Ok(package) => {
            let deposit = DepositKeyPackages { packages: Vec::new(), last_resort: package.into() };
            link.send(client_message::Body::DepositKeyPackages(deposit), None);
        }
        Err(error) => tracing::debug!(%error, "no last resort could be made"),
    }
}

/// Fills the deposit up. Refused means that the relay has enough.
pub(crate) fn deposit(inner: &Inner, link: &Link, left: usize) {
    let wanted = inner.config.key_packages.min(link.limits.key_packages_max as usize).saturating_sub(left);
    // First what keeps us reachable: a relay whose memory is used up takes no more.
    deposit_last_resort(inner, link);
    for _ in 0..wanted {
        match inner.device.key_package() {
            // Each by itself: of several in one message such a relay would take none.
            Ok(offer) => {
                let deposit = DepositKeyPackages { packages: vec![offer.into()], last_resort: Bytes::new() };
                link.send(client_message::Body::DepositKeyPackages(deposit), None);
            }
            Err(error) => return tracing::debug!(%error, "no key packages could be made"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternative_of_a_drain_is_host_and_port() {
        assert_eq!(split_address(""), None);
        assert_eq!(split_address("relay.example:9"), Some(("relay.example", 9)));
        assert_eq!(split_address("relay.example"), Some(("relay.example", DEFAULT_PORT)));
        assert_eq!(split_address("[2001:db8::1]:9"), Some(("2001:db8::1", 9)));
        assert_eq!(split_address("relay.example:x"), None);
    }
}
