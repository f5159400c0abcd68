//! Keeps a session alive: reads the relay's messages, and when the connection ends, makes another and restores on it
//! what there was.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use supernode_calls::room::{Entry, LocalId, NextStep};
use supernode_proto::{close::CloseCode, control::relay_message, object::TrackAlias};
use supernode_session::RoomEvent;

use crate::{
    Client, Error, Event, Refusal,
    client::Inner,
    error::CallEnd,
    ring::Rings,
    room::{Room, entry},
    runtime::{Task, long, spawn, timeout},
    sync::lock,
    tracks::track::LocalTrack,
    wire::{
        bearer,
        coming_in::{come_back, move_on},
        inbound,
        link::{Connected, ControlReader, Heard, Link, Told},
        silence,
    },
};

/// How long a connection that we gave up may go on: longer than QUIC keeps a silent one.
const LEFT_MAX: Duration = Duration::from_secs(60);

/// Runs until the client is closed or gives up.
pub(crate) async fn drive(inner: Arc<Inner>, mut link: Arc<Link>, mut reader: ControlReader, mut heard: Heard) {
    loop {
        let end = run(&inner, &link, &mut reader, heard).await;
        if let Error::Closed(code) = &end.error {
            *lock(&inner.ended_by) = Some(*code);
            // What it says of itself it says to whoever comes back. Of a connection that broke or fell silent nobody can say whose
            // doing it was: there the race decides, which a relay that is gone loses by a moment.
            if code.is_of_one_relay() {
                inner.reach.places.avoid(&link.place);
            }
        }
        inner.link.send_replace(None);
        for told in link.finish() {
            handle(&inner, &link, told).await;
        }
        let rooms: Vec<Arc<Room>> = lock(&inner.rooms).values().cloned().collect();
        rooms.iter().for_each(|room| room.handle_link_lost());
        let came_back = match end.next {
            Some(next) => Ok(next),
            None => come_back(&inner, &link, end.error).await,
        };
        match came_back {
            Ok(next) => {
                heard = next.link.begin(next.welcomed);
                (link, reader) = (next.link, next.reader);
            }
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
    next: Option<Connected>,
}

/// Handles everything that comes until the connection ends.
async fn run(inner: &Arc<Inner>, link: &Arc<Link>, reader: &mut ControlReader, mut heard: Heard) -> End {
    let mut tasks = vec![
        spawn(inbound::read_datagrams(link.clone())),
        spawn(inbound::read_streams(link.clone())),
        spawn(bearer::keep(inner.clone(), link.connection.clone())),
    ];
    let mut is_to_restore = link.generation > 1;
    let mut silent = std::pin::pin!(silence::watch(link, inner.config.silence_max));
    let mut moving: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(std::future::pending());
    let mut is_leaving = false;
    let end = loop {
        for told in heard.told {
            match told {
                // A relay goes once: with each further notice it could have us knock somewhere else.
                Told::GoAway(notice) if !is_leaving => {
                    is_leaving = true;
                    moving = Box::pin(move_on(inner.clone(), notice, link.clone()));
                    inner.tell(Event::GoingAway);
                }
                Told::KeyPackagesWanted(packages) if std::mem::take(&mut is_to_restore) => {
                    tasks.push(spawn(restore(inner.clone(), link.clone(), packages)));
                }
                other => handle(inner, link, other).await,
            }
        }
        if let Some(error) = heard.end {
            break End { error, next: None };
        }
        let bytes = tokio::select! {
            bytes = next_bytes(link, reader) => bytes,
            next = &mut moving => {
                link.close(CloseCode::BYE);
                break End { error: Error::Disconnected, next: Some(next) };
            }
            error = &mut silent => {
                leave(link.clone());
                break End { error, next: None };
            }
        };
        heard = match bytes {
            Ok(bytes) => link.handle_bytes(&bytes),
            Err(error) => break End { error, next: None },
        };
    };
    tasks.iter().for_each(Task::abort);
    link.connection.release();
    end
}

async fn next_bytes(link: &Link, reader: &mut ControlReader) -> Result<Bytes, Error> {
    #[cfg(feature = "lying")]
    if let Some(liar) = &link.liar {
        return liar.next(reader, &link.connection).await;
    }
    reader.next(&link.connection).await
}

/// Leaves a connection on which the relay is silent as it is: a goodbye that got through would tell our watchers at
/// once that we have gone, while we are about to come back. The relay ends it when it lets us in again.
fn leave(link: Arc<Link>) {
    spawn(async move {
        let _ = timeout(LEFT_MAX, link.connection.closed()).await;
        link.close(CloseCode::BYE);
    });
}

/// Handles what the relay told, and the next only then, so that all of it is handled in the relay's order.
async fn handle(inner: &Arc<Inner>, link: &Arc<Link>, told: Told) {
    match told {
        Told::Reply { to, reply } => to.settle(reply).await,
        // These are work on a group, or new keys.
        told @ (Told::KeyPackagesWanted(_)
        | Told::IncomingRing(_)
        | Told::Room(_, RoomEvent::Mls(_) | RoomEvent::CommitRejected(_))) => {
            let (inner, link) = (inner.clone(), link.clone());
            long(move || handle_news(&inner, &link, told)).await;
        }
        told => handle_news(inner, link, told),
    }
}

fn handle_news(inner: &Arc<Inner>, link: &Arc<Link>, told: Told) {
    match told {
        // Whoever waits for it sees that it was dropped.
        Told::Unanswered(pending) => drop(pending),
        Told::KeyPackagesWanted(packages) => deposit(inner, link, packages),
        Told::Presence(identity, presence) => inner.watches.handle_presence(&identity, presence),
        Told::WatchEnded(identity, refusal) => inner.watches.handle_ended(&identity, refusal),
        Told::IncomingRing(ring) => {
            let shown = Client::of(inner).and_then(|client| Rings::handle_incoming(client, link, ring));
            // One that finds no room in the queue is dropped here and so answered as busy.
            drop(shown.and_then(|ring| inner.tell(Event::IncomingRing(ring))));
        }
        Told::RingOutcome(outcome) => inner.rings.handle_outcome(outcome),
        Told::RingLost(ring) => inner.rings.handle_lost(&ring),
        Told::RingEnded(ring, result) => inner.rings.handle_ended(&ring, result),
        Told::Room(room, event) => {
            // A room that we have just left still has messages under way.
            let room = lock(&inner.rooms).get(&room).cloned();
            if let Some(room) = room {
                handle_in_room(inner, link, &room, event);
            }
        }
        Told::KeyframeRequested(alias) => with_local_track(inner, alias, LocalTrack::request_keyframe),
        Told::Demand(alias, demand) => with_local_track(inner, alias, |track| track.set_demand(demand)),
        Told::RungChanged(rung) => {
            inner.rung.send_replace(rung);
            inner.tell(Event::RungChanged(rung));
        }
        Told::DevicesRevoked(word) => {
            // What comes from the relay counts only with our own identity's signature.
            if word.identity == inner.device.identity() && lock(&inner.revoked).learn(word.clone()) {
                inner.tell(Event::DevicesRevoked(word));
            }
        }
        // They have their places above, and there is no second notice.
        Told::Reply { .. } | Told::GoAway(_) => {}
    }
}

fn handle_in_room(inner: &Arc<Inner>, link: &Arc<Link>, room: &Arc<Room>, event: RoomEvent) {
    match event {
        RoomEvent::MemberJoined(joined) => room.handle_member_joined(&joined),
        RoomEvent::MemberLeft { member, .. } => {
            if room.handle_member_left(member) {
                spawn(come_in_again(inner.clone(), link.clone(), room.clone()));
            }
        }
        RoomEvent::Mls(delivery) => room.handle_mls(link, &delivery),
        RoomEvent::CommitRejected(rejected) => room.handle_commit_rejected(&rejected),
        RoomEvent::Beacon(beacon) => room.handle_beacon(&beacon),
        RoomEvent::TrackAnnounced(track) => room.handle_track_announced(link, &track),
        RoomEvent::TrackEnded(alias) => room.handle_track_ended(alias),
    }
}

fn with_local_track(inner: &Inner, alias: TrackAlias, handle: impl FnOnce(&LocalTrack)) {
    let track = lock(&inner.rooms).values().find_map(|room| room.local_track(alias));
    if let Some(track) = track {
        handle(&track);
    }
}

/// Says on a new connection what the last one knew.
async fn restore(inner: Arc<Inner>, link: Arc<Link>, key_packages: u32) {
    let (depositing, on) = (inner.clone(), link.clone());
    let deposited = long(move || deposit(&depositing, &on, key_packages));
    // Calls first: somebody is listening, and a dozen key packages take their time to make.
    tokio::join!(restore_rooms(&inner, &link), deposited);
}

async fn restore_rooms(inner: &Arc<Inner>, link: &Arc<Link>) {
    let rooms: Vec<Arc<Room>> = lock(&inner.rooms).values().cloned().collect();
    for room in rooms.iter().filter(|room| room.end().is_none()) {
        come_in(inner, link, room, Entry::again()).await;
    }
}

/// The relay has put us out of its room, and no member's commit did.
async fn come_in_again(inner: Arc<Inner>, link: Arc<Link>, room: Arc<Room>) {
    let way_in = room.entry_after_put_out();
    come_in(&inner, &link, &room, way_in).await;
}

async fn come_in(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>, way_in: (Entry, NextStep)) {
    match entry::enter(inner, link, room, way_in, None).await {
        // Whoever is behind publishes once somebody has let it in.
        Ok(()) if room.is_behind() => {}
        Ok(()) => republish(inner, link, room).await,
        Err(error) => tracing::debug!(%error, "a room did not let us back in"),
    }
}

/// Publishes our tracks again in a room that we have come back to.
pub(crate) async fn republish(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>) {
    for track in room.local_tracks() {
        if let Err(error) = publish(inner, link, room, track).await {
            tracing::debug!(%error, "a track could not be published again");
        }
    }
}

/// Publishes a track on this connection.
pub(crate) async fn publish(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>, track: LocalId) -> Result<(), Error> {
    let Some(request) = room.publish_request(track)? else { return Ok(()) };
    let (publishing, on) = (room.clone(), link.clone());
    let published = move |reply: Result<&relay_message::Body, &Refusal>| {
        if let Ok(relay_message::Body::TrackPublished(published)) = reply {
            publishing.handle_published(track, &on, published.alias);
        }
    };
    link.request_in_order(request, inner.config.request_timeout, Some(Box::new(published))).await.map(drop)
}

/// For whoever finds no other key package of ours; a new one when somebody has just used it.
pub(crate) fn last_resort(inner: &Inner) -> Option<Bytes> {
    let package = inner.device.last_resort_key_package();
    package.inspect_err(|error| tracing::debug!(%error, "no last resort could be made")).ok().map(Bytes::from)
}

/// On the first connection: what makes us reachable is on its way before anything else.
pub(crate) fn deposit_first(inner: &Inner, link: &Link, heard: &mut Heard) {
    let wanted = heard.told.extract_if(.., |told| matches!(told, Told::KeyPackagesWanted(_)));
    wanted.for_each(|told| {
        if let Told::KeyPackagesWanted(packages) = told {
            deposit(inner, link, packages);
        }
    });
}

/// Fills the deposit up.
fn deposit(inner: &Inner, link: &Link, wanted: u32) {
    let offer = |_| {
        let offer = inner.device.key_package();
        offer.inspect_err(|error| tracing::debug!(%error, "no key packages could be made")).ok().map(Bytes::from)
    };
    let packages = (0..wanted).map_while(offer).collect();
    link.deposit(last_resort(inner), packages);
}
