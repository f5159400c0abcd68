//! All clients in one thread, each with its own session.

use std::{cell::RefCell, rc::Rc, time::Instant};

use anyhow::Context;
use bytes::Bytes;
use call_shape::{meter::Meter, pace::Pace, report::Report, work::Work};
use clap::ValueEnum;
use moq_tokio::{
    Client, Connection,
    connect::Config,
    moq_net::{
        Timestamp, broadcast, origin,
        track::{self, Info, Subscription},
    },
};
use url::Url;

/// The name of every talker's track.
const TRACK: &str = "audio";
/// How long a listener waits for a group while newer ones come: without it, one that is overtaken is dropped.
const MAX_AGE: std::time::Duration = std::time::Duration::from_millis(500);
/// How long all sessions and subscriptions may take.
const READY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Tasks that pass an object on from its track to its UDP socket, one waking the next: the subscription's, the stream's
/// and the connection's.
const TASKS_TO_THE_SOCKET: u32 = 3;

/// How an object travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// A group with one frame, on a stream of its own: what moq's own Opus publisher does.
    Groups,
    /// One of its datagrams, which are not retransmitted.
    Datagrams,
}

/// A client that talks.
struct Talker {
    track: track::Producer,
    /// Both end what they began when they are dropped.
    _broadcast: broadcast::Producer,
    _connection: Connection,
}

/// Does the work and says what came of it.
pub(crate) async fn run(work: &Work, carrier: Carrier, sockets: u32) -> anyhow::Result<Report> {
    let endpoints = (0..sockets.min(work.clients())).map(|_| endpoint()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut talkers = Vec::new();
    let mut ears = Vec::new();
    for number in 0..work.clients() {
        let endpoint = &endpoints[(number % endpoints.len() as u32) as usize];
        let (talker, ear) = connect(work, endpoint, number).await.with_context(|| format!("client {number}"))?;
        talkers.push(talker);
        ears.push(ear);
    }
    let hear = |subscriptions: Vec<(u32, track::Subscriber)>, meter: &Rc<RefCell<Meter>>| {
        for (number, subscription) in subscriptions {
            match carrier {
                Carrier::Groups => tokio::task::spawn_local(hear_groups(subscription, number, meter.clone())),
                Carrier::Datagrams => tokio::task::spawn_local(hear_datagrams(subscription, number, meter.clone())),
            };
        }
    };
    // Idle clients subscribe to nothing before their roll is called.
    let subscriptions = if work.is_idle() { Vec::new() } else { subscribe_in_time(work, &ears).await? };
    let meter = Rc::new(RefCell::new(Meter::begin(work)));
    hear(subscriptions, &meter);
    talk(&mut talkers, carrier, &meter).await?;
    if work.is_idle() {
        hear(subscribe_in_time(work, &ears).await?, &meter);
        meter.borrow_mut().call_roll(Instant::now());
        talk(&mut talkers, carrier, &meter).await?;
    }
    let report = meter.borrow().report();
    Ok(report)
}

fn endpoint() -> anyhow::Result<Client> {
    let mut config = Config::default();
    // The relay's certificate is one that it made for itself.
    config.tls.insecure = Some(true);
    config.once = Some(true);
    config.bind = Some(([127, 0, 0, 1], 0).into());
    Ok(config.init(Default::default())?)
}

/// One session, with one broadcast in its room, and what its client can hear.
async fn connect(work: &Work, endpoint: &Client, number: u32) -> anyhow::Result<(Talker, origin::Producer)> {
    let (mouth, ear) = (moq_tokio::origin::spawn(), moq_tokio::origin::spawn());
    let broadcast = mouth.create_broadcast(name(number))?;
    let track = broadcast.create_track(TRACK, Info::default().with_max_age(MAX_AGE))?;
    broadcast.announce(Default::default())?;
    // The path is the room: the relay announces nothing of the others.
    let url: Url = format!("moqt://{}/room{}", work.relay, work.room(number)).parse()?;
    let client = endpoint.clone().with_publisher(&mouth).with_subscriber(ear.clone());
    let connection = client.connect(url).established().await?;
    Ok((Talker { track, _broadcast: broadcast, _connection: connection }, ear))
}

async fn subscribe_in_time(work: &Work, ears: &[origin::Producer]) -> anyhow::Result<Vec<(u32, track::Subscriber)>> {
    tokio::time::timeout(READY_PATIENCE, subscribe(work, ears)).await.context("subscriptions")?
}

/// Everybody subscribes to everybody else in the room.
async fn subscribe(work: &Work, ears: &[origin::Producer]) -> anyhow::Result<Vec<(u32, track::Subscriber)>> {
    let mut subscriptions = Vec::new();
    for (number, ear) in (0..).zip(ears) {
        let heard = ear.consume();
        for other in work.others(number) {
            let broadcast = heard.routed_broadcast(name(other)).await?;
            let wanted = Subscription::default().with_max_age(MAX_AGE);
            subscriptions.push((number, broadcast.track(TRACK)?.subscribe(wanted).await?));
        }
    }
    Ok(subscriptions)
}

fn name(number: u32) -> String {
    format!("member{number}")
}

async fn hear_groups(mut subscription: track::Subscriber, number: u32, meter: Rc<RefCell<Meter>>) {
    // What ends a subscription shows as loss.
    while let Ok(Some(mut group)) = subscription.recv_group().await {
        while let Ok(Some(frame)) = group.read_frame().await {
            meter.borrow_mut().received(number, &frame.payload, Instant::now());
        }
    }
}

async fn hear_datagrams(mut subscription: track::Subscriber, number: u32, meter: Rc<RefCell<Meter>>) {
    while let Ok(Some(datagram)) = subscription.recv_datagram().await {
        meter.borrow_mut().received(number, &datagram.payload, Instant::now());
    }
}

async fn talk(talkers: &mut [Talker], carrier: Carrier, meter: &RefCell<Meter>) -> anyhow::Result<()> {
    let pace = Pace::new()?;
    let mut handed_over = Vec::new();
    loop {
        let now = Instant::now();
        {
            let mut meter = meter.borrow_mut();
            while let Some(due) = meter.pop(now) {
                let track = &mut talkers[due.source as usize].track;
                let payload = Bytes::copy_from_slice(meter.payload(due));
                match carrier {
                    Carrier::Groups => {
                        let mut group = track.append_group()?;
                        group.write_frame(Timestamp::now(), payload)?;
                        group.finish()?;
                    }
                    Carrier::Datagrams => {
                        track.append_datagram(Timestamp::now(), payload)?;
                    }
                }
                handed_over.push(due.at_ns);
            }
            if meter.is_over(now) {
                return Ok(());
            }
        }
        // The object is in the hands of the session's own tasks, which run in this thread, too: it has gone when each of
        // them has had its turn.
        if !handed_over.is_empty() {
            for _ in 0..TASKS_TO_THE_SOCKET {
                tokio::task::yield_now().await;
            }
        }
        let gone_at = Instant::now();
        handed_over.drain(..).for_each(|due_ns| meter.borrow_mut().sent(due_ns, gone_at));
        let next_at = meter.borrow().next_at(Instant::now());
        pace.until(next_at).await?;
    }
}
