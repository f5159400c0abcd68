//! What needs an invite.

use std::{
    net::Ipv4Addr,
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
        AnswerRing, CancelRing, CatchUp, DepositKeyPackages, PresenceState, PublishTrack, Ring, SetPresence,
        TakeKeyPackages, TrackKind, client_message::Body as Request, relay_message::Body,
    },
    object::{Hop, STREAM_HEADER_BYTES_MAX, StreamHeader, TrackAlias},
};

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::{
    client::{Client, Door, Person, Room, datagram, dial, goodbye},
    odd_tls::{Oddity, odd},
    relay::Setting,
    runtime::block_on,
};

/// Bytes of a field that nobody knows, behind a message: as much as a control message can have.
const UNKNOWN_FIELD_BYTES: usize = 63_000;
/// Sessions that put something down whose message was long.
const HOARDERS: usize = 70;
/// What one of them may make the relay keep: what it put down is a few bytes, and a session takes 30 KB or so.
const HOARDER_KB_MAX: f64 = 200.0;
/// Rings that one identity may start in a minute, in the attack that starts more.
const RINGS_PER_MINUTE_MAX: &str = "2";
/// Of a full mailbox, what certainly comes back.
const KEPT_BYTES: u64 = 400_000;
/// What an identity may be sent of a mailbox's history, however often it asks: a minute's answers at once, and as many
/// again in a minute (`limits.catch_ups_per_minute_max`, 60, of 512 KiB and a little).
const HISTORY_BURST_MB_MAX: f64 = 33.0;
const HISTORY_MB_PER_SECOND_MAX: f64 = 0.55;
/// How long a ring waits for its reply.
const ANSWER: Duration = Duration::from_millis(200);
/// Sessions that send their streams in crumbs.
const CRUMBLING: usize = 4;
/// Sessions that have packets kept, each of 64 streams: two megabytes each, if it is let.
const GAPPING: usize = 40;
/// What all of them may make the relay keep where 4 MiB are the bound for that, and 1 MiB for windows: these, forty sessions
/// of 70 KiB, and what the allocator leaves unused.
const GAPS_MB_MAX: f64 = 24.0;
/// Sessions that burst together in one room.
const BURSTING: usize = 60;

pub(super) fn attacks() -> Vec<Attack> {
    let plain = |name, what, quick, run, rate_min| Attack {
        name,
        what,
        quick,
        setting: Setting::PLAIN,
        seconds_min: 0.0,
        run: Run::Rust(run),
        rate_min,
        judge: nothing_else,
    };
    let hoard = |name, what, quick, run| Attack { judge: little_is_kept, ..plain(name, what, quick, run, 10.0) };
    vec![
        hoard(
            "key-packages-in-long-messages",
            "thirty-two deposits of one byte, each behind a field of 63,000 that nobody knows, by each of 70 sessions",
            true,
            key_packages,
        ),
        hoard("labels-in-long-messages", "the same with the labels of sixteen tracks", true, labels),
        hoard(
            "all-else-in-long-messages",
            "the same with a status, and with a room's mailbox as far as it may be filled",
            false,
            status_and_mailbox,
        ),
        plain(
            "fragments",
            "packets full of pieces of a byte with a gap behind each, of 64 streams, by each of 4 publishers",
            true,
            fragments,
            20_000.0,
        ),
        Attack {
            setting: Setting {
                config: &[
                    ("SUPERNODE__LIMITS__RELAY_GAPS_BYTES_MAX", "4194304"),
                    ("SUPERNODE__LIMITS__RELAY_WINDOWS_BYTES_MAX", "1048576"),
                ],
                ..Setting::PLAIN
            },
            judge: |outcome: &Outcome| match outcome.rss_mb - outcome.rss_before_mb {
                grown if grown > GAPS_MB_MAX => Err(format!("{grown:.0} MB kept: at most {GAPS_MB_MAX}")),
                _ => Ok(()),
            },
            ..plain(
                "gaps",
                "packets of one byte each with a gap before it, of 64 streams, by each of 40 publishers",
                true,
                gaps,
                4_000.0,
            )
        },
        Attack {
            judge: |outcome: &Outcome| {
                outcome.at_most("mb", HISTORY_BURST_MB_MAX + HISTORY_MB_PER_SECOND_MAX * outcome.seconds)
            },
            ..plain("catch-up", "a full mailbox asked for a hundred times a second", true, catch_up, 3.0)
        },
        Attack {
            setting: Setting {
                config: &[("SUPERNODE__LIMITS__RINGS_PER_MINUTE_MAX", RINGS_PER_MINUTE_MAX)],
                ..Setting::PLAIN
            },
            // A slow machine may let the first of them be forgiven before the last is tried.
            judge: |outcome: &Outcome| outcome.at_most("rings", 3.0),
            ..plain("rings-by-reconnecting", "rings by one identity that reconnects for each", true, rings, 2.0)
        },
        plain(
            "bursting-room",
            "a room of 60 in which all send all they have at once to all",
            false,
            bursting_room,
            1000.0,
        ),
        plain("control-flood", "requests as fast as they are taken, by 20 sessions", false, control_flood, 100.0),
    ]
}

fn little_is_kept(outcome: &Outcome) -> Result<(), String> {
    let each = (outcome.rss_mb - outcome.rss_before_mb) * 1000.0 / outcome.found("sessions")?.max(1.0);
    outcome.at_least("sessions", 10.0)?;
    if each > HOARDER_KB_MAX {
        Err(format!("{each:.0} KB kept of each session: at most {HOARDER_KB_MAX}"))
    } else {
        Ok(())
    }
}

/// What outlives the message that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    KeyPackages,
    Labels,
    StatusAndMailbox,
}

impl Kept {
    /// How often one session can put it down, and the request.
    fn requests(self, room: &Room) -> Vec<Request> {
        let one = || Bytes::from_static(b"1");
        match self {
            Self::KeyPackages => {
                let packages = || DepositKeyPackages { packages: vec![one()], ..DepositKeyPackages::default() };
                (0..32).map(|_| Request::DepositKeyPackages(packages())).collect()
            }
            Self::Labels => {
                let kind = TrackKind::Audio.into();
                let track = || PublishTrack { room: room.name(), kind, label: one(), activity: false, mls_epoch: 0 };
                (0..16).map(|_| Request::PublishTrack(track())).collect()
            }
            Self::StatusAndMailbox => {
                let state = PresenceState::Online.into();
                let status = Request::SetPresence(SetPresence { state, status: one() });
                std::iter::once(status).chain((0..32).map(|_| Request::SendMls(room.message(b"1")))).collect()
            }
        }
    }
}

fn key_packages(target: &Target) -> anyhow::Result<Report> {
    hoarders(target, Kept::KeyPackages)
}

fn labels(target: &Target) -> anyhow::Result<Report> {
    hoarders(target, Kept::Labels)
}

fn status_and_mailbox(target: &Target) -> anyhow::Result<Report> {
    hoarders(target, Kept::StatusAndMailbox)
}

/// Sessions that put down little in long messages, until all have or the time is over; then they stay.
fn hoarders(target: &Target, kept: Kept) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("messages");
        let end = Instant::now() + target.duration();
        let mut sessions = Vec::new();
        while sessions.len() < HOARDERS && Instant::now() < end {
            let network = (sessions.len() % 64) as u8;
            let from = Ipv4Addr::new(127, 3, 0, 1 + network);
            let Ok(mut client) = Client::connect(&door, from, Person::new()).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let room = Room::new();
            client.join(&room).await?;
            for request in kept.requests(&room) {
                // A relay that has had enough ends the session, and keeps nothing of it.
                if client.send_with_unknown_field(request, UNKNOWN_FIELD_BYTES).await.is_err() {
                    break;
                }
                report.count += 1;
            }
            sessions.push(client.listen(|_| ()));
        }
        tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
        goodbye(sessions.iter().map(|session| &session.connection)).await;
        report.found("sessions", sessions.len() as f64);
        Ok(report)
    })
}

/// Packets that are full of pieces of streams, each with a gap behind it, so that QUIC has to keep and sort them apart: as
/// fast as they are acknowledged, by several who publish.
fn fragments(target: &Target) -> anyhow::Result<Report> {
    odd_pieces(target, Oddity::Crumbs, CRUMBLING, "fragments")
}

/// Packets of which QUIC needs one byte each, later: it keeps all of them.
fn gaps(target: &Target) -> anyhow::Result<Report> {
    odd_pieces(target, Oddity::Gaps, GAPPING, "packets")
}

fn odd_pieces(target: &Target, what: Oddity, sessions: usize, unit: &'static str) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of(unit);
        let end = Instant::now() + target.duration();
        let mut crumbling = Vec::new();
        while Instant::now() < end {
            while crumbling.len() < sessions && Instant::now() < end {
                let (tls, oddity) = odd()?;
                let from = Ipv4Addr::new(127, 3, 0, 1 + crumbling.len() as u8);
                let published = async {
                    let dialled = dial(&door, from, tls).await?;
                    let mut client = Client::greet(&door, dialled, Person::new()).await?;
                    let room = Room::new();
                    client.join(&room).await?;
                    let alias = client.publish(&room, TrackKind::Video).await?;
                    anyhow::Ok((client, alias))
                };
                // Whose networks have been ended too often lately waits as well.
                let Ok((client, alias)) = published.await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    break;
                };
                oddity.set(what);
                crumbling.push((client.listen(|_| ()), oddity, alias));
            }
            for (client, _, alias) in &crumbling {
                // What the packet says is replaced: only its length counts.
                for group in 0..4 {
                    let _ = client.connection.send_datagram(datagram(*alias, group, &[0; 1_100]));
                }
            }
            crumbling.retain(|(client, oddity, _)| {
                let stays = client.connection.close_reason().is_none();
                report.count += if stays { 0 } else { oddity.crumbs() };
                stays
            });
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        report.count += crumbling.iter().map(|(_, oddity, _)| oddity.crumbs()).sum::<u64>();
        goodbye(crumbling.iter().map(|(client, ..)| &client.connection)).await;
        Ok(report)
    })
}

pub(super) fn stream_header(alias: TrackAlias, group: u64) -> Vec<u8> {
    let header = StreamHeader { hop: Hop { alias, priority: 0, ttl_ms: 1000 }, group, temporal_layer: 0 };
    let mut bytes = [0; STREAM_HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    bytes[..len].to_vec()
}

/// Fills a mailbox as far as the relay keeps it, and asks for all of it again and again.
fn catch_up(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut client = Client::connect(&door, Ipv4Addr::new(127, 3, 0, 1), Person::new()).await?;
        let room = Room::new();
        client.join(&room).await?;
        for _ in 0..8 {
            client.ask(Request::SendMls(room.message(&[0x55; 60 * 1024 - 100]))).await?;
        }
        let mut report = Report::of("requests");
        let end = Instant::now() + target.duration();
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = bytes.clone();
        let mut client = client.listen(move |len| {
            counted.fetch_add(len as u64, Ordering::Relaxed);
        });
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while Instant::now() < end {
            ticks.tick().await;
            let request = Request::CatchUp(CatchUp { room: room.name(), after_sequence: 0 });
            if client.say(request).await.is_err() {
                break;
            }
            report.count += 1;
            // Who does not read what was sent is ended for that. Where nothing comes, asking on is the attack.
            let awaited = report.count * KEPT_BYTES;
            let patience = Instant::now() + Duration::from_millis(200);
            while bytes.load(Ordering::Relaxed) < awaited && Instant::now() < patience.min(end) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        report.found("mb", bytes.load(Ordering::Relaxed) as f64 / 1e6);
        Ok(report)
    })
}

/// Rings somebody again and again, each time by a session of its own.
fn rings(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let callee = Person::new();
        let ticket = callee.open_ticket();
        let mut callee = Client::connect(&door, Ipv4Addr::new(127, 3, 0, 2), callee).await?;
        let last_resort = Bytes::from_static(b"1");
        let deposit = DepositKeyPackages { last_resort, ..DepositKeyPackages::default() };
        callee.ask(Request::DepositKeyPackages(deposit)).await?;
        let _callee = callee.listen(|_| ());
        let caller = Person::new();
        let mut report = Report::of("sessions");
        let mut started = 0;
        let end = Instant::now() + target.duration();
        while Instant::now() < end && started < 100 {
            let Ok(mut client) = Client::connect(&door, Ipv4Addr::new(127, 3, 0, 1), caller.clone()).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            report.count += 1;
            let take = TakeKeyPackages { ticket: ticket.clone(), ..TakeKeyPackages::default() };
            let _ = tokio::time::timeout(ANSWER, client.ask(Request::TakeKeyPackages(take))).await;
            let ring = Ring { ticket: ticket.clone(), payload: Bytes::new(), ..Ring::default() };
            // Who asks too often is not even answered, or closed.
            let answer = tokio::time::timeout(ANSWER, client.ask(Request::Ring(ring))).await;
            if let Ok(Ok(Body::RingStarted(ring))) = answer {
                started += 1;
                // What is not cancelled fills what one device can have at once.
                let cancel = Request::CancelRing(CancelRing { ring: ring.ring });
                let _ = tokio::time::timeout(ANSWER, client.ask(cancel)).await;
            }
            client.connection.close(0u8.into(), b"");
        }
        report.found("rings", f64::from(started));
        Ok(report)
    })
}

/// People in one room, who all send as much as they may at once.
fn bursting_room(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let end = Instant::now() + target.duration();
        let room = Room::new();
        let mut report = Report::of("objects");
        let (mut people, mut tracks) = (Vec::new(), Vec::new());
        for host in 0..BURSTING {
            let mut client = come(&door, host).await?;
            client.join(&room).await?;
            let track = client.publish(&room, TrackKind::Audio).await?;
            for other in &tracks {
                client.subscribe(*other).await?;
            }
            tracks.push(track);
            people.push(client.listen(|_| ()));
        }
        for group in 0.. {
            for (person, track) in people.iter().zip(&tracks) {
                for object in 0..20 {
                    if person.connection.send_datagram(datagram(*track, group * 20 + object, &[0; 100])).is_ok() {
                        report.count += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if Instant::now() >= end {
                return Ok(report);
            }
        }
        Ok(report)
    })
}

async fn come(door: &Door, host: usize) -> anyhow::Result<Client> {
    let from = Ipv4Addr::new(127, 3, 0, 1 + (host % 64) as u8);
    Client::connect(door, from, Person::new()).await.context("the relay lets an attacker with an invite in")
}

/// Requests that are refused, faster than a session may make any.
fn control_flood(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let end = Instant::now() + target.duration();
        let mut report = Report::of("requests");
        let nobody = Bytes::from_static(&[0; 16]);
        while Instant::now() < end {
            let mut people = Vec::new();
            for host in 0..20 {
                people.push(come(&door, host).await?.listen(|_| ()));
            }
            while Instant::now() < end && !people.is_empty() {
                let mut left = Vec::new();
                for mut person in people {
                    let request = Request::AnswerRing(AnswerRing { ring: nobody.clone(), payload: Bytes::new() });
                    if person.say(request).await.is_ok() {
                        report.count += 1;
                        left.push(person);
                    }
                }
                people = left;
                tokio::task::yield_now().await;
            }
        }
        Ok(report)
    })
}
