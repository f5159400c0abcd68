//! Where people can be woken: every place is taken with the longest address and as many shut out as may be, those who are
//! there change theirs as fast as they may, all others are rung, and the push service never answers.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use supernode_proto::{
    control::{
        LimitTickets, RefusalReason, Ring, SetPushEndpoint, TakeKeyPackages, client_message::Body as Request,
        relay_message::Body,
    },
    limits::{BLOCKED_IDENTITIES_MAX, PUSH_ENDPOINT_BYTES_MAX},
};
use tokio::task::JoinSet;

use super::{
    Attack, Outcome, Report, Run, Target,
    operator::{metric, metrics},
    small_machine::in_the_handbook_mib,
};
use crate::{
    client::{Client, Dialled, Door, Person, dial_from, endpoint},
    relay::{Setting, rss_bytes},
    runtime::block_on,
    tls,
};

/// The push service, which takes connections and says nothing on any.
const SERVICE: &str = "127.0.0.1:39471";
/// Places that a relay of the smallest machine has, and how many people want one.
const PLACES: f64 = 1024.0;
const PEOPLE: usize = 1_120;
/// People who come at once, each from a network of their own.
const COMING: usize = 16;
/// Of those who have a place, the sessions that stay and change it; and those who ring.
const CHANGING: usize = 40;
const RINGING: usize = 40;
/// What one identity may ask in a second, and a little less; and how many are asked at once.
const PER_SECOND: usize = 95;
const AT_ONCE: usize = 19;
/// For how many people one identity may ask in a minute; more would be refused, and wake nobody.
const TAKEN_A_MINUTE: usize = 60;
const TAKEN_EVERY: Duration = Duration::from_secs(1);
/// How long a ring waits for its reply: who asks too often is not answered.
const ANSWER: Duration = Duration::from_millis(500);
/// A session, and what an allocator leaves unused of what came and went, beside what the memory table has of places and of
/// messages that wait.
const SESSION_MIB: f64 = 70.0 / 1024.0;
const ROUNDED_MAX: f64 = 1.5;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        name: "places-to-be-woken",
        what: "1,120 people with the longest address and 512 shut out want 1,024 places to be woken at; 40 change theirs as \
               fast as they may, 40 ring everybody, and the push service never answers",
        quick: false,
        setting: Setting {
            config: &[
                ("SUPERNODE__PUSH__CONTACT", "nobody@supernode.example"),
                ("SUPERNODE__PUSH__HOSTS", SERVICE),
                ("SUPERNODE__LIMITS__PUSH_ENDPOINTS_MAX", "1024"),
            ],
            ..Setting::PLAIN
        },
        seconds_min: 40.0,
        run: Run::Rust(places),
        rate_min: 500.0,
        judge,
    }]
}

fn judge(outcome: &Outcome) -> Result<(), String> {
    outcome.at_least("places", PLACES)?;
    outcome.at_most("places", PLACES)?;
    outcome.at_least("refused", 1.0)?;
    outcome.at_least("wanted_to_wake", PLACES / 4.0)?;
    outcome.at_most("sessions_lost", 0.0)?;
    let promised = ["where people can be woken", "who is to be woken"].map(in_the_handbook_mib);
    let [Some(places), Some(messages)] = promised else { return Err("the handbook has no such rows".to_owned()) };
    outcome.at_most("kept_mb", (places + messages + (CHANGING + RINGING) as f64 * SESSION_MIB) * ROUNDED_MAX)
}

/// As long an address as may be, and another one for each number.
fn address(number: u64) -> Request {
    let mut address = format!("https://{SERVICE}/{number:020}/");
    address.extend(std::iter::repeat_n('x', PUSH_ENDPOINT_BYTES_MAX - address.len()));
    Request::SetPushEndpoint(SetPushEndpoint { endpoint: address })
}

/// As many strangers as may be shut out.
fn shut_out() -> Request {
    let stranger = |_| Bytes::copy_from_slice(&rand::random::<[u8; 32]>());
    let blocked = (0..BLOCKED_IDENTITIES_MAX).map(stranger).collect();
    Request::LimitTickets(LimitTickets { generation: 0, blocked })
}

fn places(target: &Target) -> anyhow::Result<Report> {
    let service = TcpListener::bind(SERVICE).with_context(|| format!("a push service at {SERVICE}"))?;
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in service.incoming() {
            held.extend(connection);
        }
    });
    block_on(attack(target))
}

async fn attack(target: &Target) -> anyhow::Result<Report> {
    let before = rss_bytes(target.pid);
    let (begin, end) = (Instant::now(), Instant::now() + target.duration());
    let mut report = Report::of("changes");
    let door = target.door()?;
    // Those who stay have a place before anybody can take it from them.
    let mut changing = Vec::new();
    for number in 0..CHANGING {
        let from = Ipv4Addr::new(127, 3, 0, 1 + number as u8);
        let mut client = Client::connect(&door, from, Person::new()).await?;
        client.ask(shut_out()).await?;
        client.ask(address(number as u64)).await?;
        changing.push(client.listen(|_| ()));
    }
    let mut coming = JoinSet::new();
    for network in 0..COMING {
        coming.spawn(take_places(target.door()?, network));
    }
    let (mut tickets, mut refused) = (Vec::new(), 0);
    while let Some(taken) = coming.join_next().await {
        let (of_these, turned_away) = taken??;
        tickets.extend(of_these);
        refused += turned_away;
    }
    report.found("filled_s", begin.elapsed().as_secs_f64());

    let connections: Vec<_> = changing.iter().map(|person| person.connection.clone()).collect();
    let (tickets, changes) = (Arc::new(tickets), Arc::new(AtomicU64::new(0)));
    let mut busy = JoinSet::new();
    for mut person in changing {
        let changes = changes.clone();
        busy.spawn(async move {
            let every = Duration::from_secs_f64(AT_ONCE as f64 / PER_SECOND as f64);
            // Not all of them at the same moment.
            tokio::time::sleep(every.mul_f64(rand::random())).await;
            let mut ticks = tokio::time::interval(every);
            while Instant::now() < end {
                ticks.tick().await;
                let number = changes.fetch_add(AT_ONCE as u64, Ordering::Relaxed);
                if person.say_all((0..AT_ONCE as u64).map(|more| address(number + more))).await.is_err() {
                    break;
                }
            }
            // It stays until the memory has been looked at.
            std::future::pending::<()>().await;
        });
    }
    let mut ringing = JoinSet::new();
    for number in 0..RINGING {
        ringing.spawn(ring_all(target.door()?, number, tickets.clone(), end));
    }
    while let Some(rung) = ringing.join_next().await {
        rung??;
    }
    tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
    // Counters are published once a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;

    report.count = changes.load(Ordering::Relaxed);
    report.found("kept_mb", (rss_bytes(target.pid) as f64 - before as f64) / 1024.0 / 1024.0);
    let metrics = metrics(target)?;
    report.found("places", metric(&metrics, "supernode_push_endpoints")?);
    report.found("refused", f64::from(refused));
    let pushes = metrics.lines().filter(|line| line.starts_with("supernode_pushes_total{"));
    report.found("wanted_to_wake", pushes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum());
    let lost = connections.iter().filter(|connection| connection.close_reason().is_some()).count();
    report.found("sessions_lost", lost as f64);
    busy.shutdown().await;
    Ok(report)
}

/// One person after the other takes a place and leaves; their tickets, and how many found no place.
async fn take_places(door: Door, network: usize) -> anyhow::Result<(Vec<Bytes>, u32)> {
    let endpoint = endpoint(Ipv4Addr::new(127, 3, 2, 1 + network as u8))?;
    let (mut tickets, mut refused) = (Vec::new(), 0);
    while tickets.len() < PEOPLE / COMING {
        // Whom the relay has no time for tries again.
        let Ok(connection) = dial_from(&endpoint, &door, Arc::new(tls::client()?), None).await else { continue };
        let person = Person::new();
        let dialled = Dialled { endpoint: endpoint.clone(), connection };
        let Ok(mut client) = Client::greet(&door, dialled, person.clone()).await else { continue };
        client.ask(shut_out()).await?;
        match client.ask(address(rand::random())).await? {
            Body::Refused(refusal) if refusal.reason() == RefusalReason::Limit => refused += 1,
            Body::Done(_) => {}
            other => anyhow::bail!("a place or a refusal was due: {other:?}"),
        }
        tickets.push(person.open_ticket());
        client.connection.close(0u8.into(), b"");
    }
    endpoint.wait_idle().await;
    Ok((tickets, refused))
}

/// Rings one after the other, in both ways that wake, as often as one may.
async fn ring_all(door: Door, number: usize, tickets: Arc<Vec<Bytes>>, end: Instant) -> anyhow::Result<()> {
    let from = Ipv4Addr::new(127, 3, 3, 1 + number as u8);
    let mut client = Client::connect(&door, from, Person::new()).await?;
    for (asked, ticket) in tickets.iter().cycle().skip(number * tickets.len() / RINGING).enumerate() {
        if asked >= TAKEN_A_MINUTE {
            tokio::time::sleep(TAKEN_EVERY).await;
        }
        if Instant::now() >= end {
            break;
        }
        let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
        let ring = Ring { ticket: ticket.clone(), payload: Bytes::new(), ..Ring::default() };
        for request in [Request::TakeKeyPackages(take), Request::Ring(ring)] {
            // Neither an answer nor its lack ends this: it is limited, and goes on.
            let _ = tokio::time::timeout(ANSWER, client.ask(request)).await;
        }
    }
    client.connection.close(0u8.into(), b"");
    Ok(())
}
