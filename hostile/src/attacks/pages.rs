//! What only a relay that takes pages in can be done: HTTP/3, read from whoever comes.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, SendStream, VarInt};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::{
    client::{Dialled, goodbye},
    page::{self, Page},
    relay::Setting,
    runtime::block_on,
};

/// Networks that attackers come from.
const NETWORKS: u64 = 64;
/// Connections that one attacker has at a time: more than a relay with 1 GiB has places for newcomers.
const CROWD: usize = 1_500;
/// As many again each time, so that an attacker with two cores keeps them all under way.
const AT_ONCE: usize = 32;
/// Pages that were let in, and misuse it.
const ADMITTED: usize = 8;
/// How long one that does not end is waited for.
const ENOUGH: Duration = Duration::from_millis(500);

/// A relay that takes pages in.
const PAGES: Setting = Setting { config: &[("SUPERNODE__WEB__PAGES", "on")], ..Setting::PLAIN };

pub(super) fn attacks() -> Vec<Attack> {
    let plain = |name, what, quick, run, rate_min| Attack {
        name,
        what,
        quick,
        setting: PAGES,
        seconds_min: 0.0,
        run: Run::Rust(run),
        rate_min,
        judge: nothing_else,
    };
    vec![
        Attack {
            // 64 KiB at 256 bytes each, and those that were under way.
            judge: |outcome: &Outcome| outcome.at_most("streams_each", 400.0),
            ..plain(
                "page-own-streams",
                "pages that open one stream of HTTP's own after the other, of types that nobody knows",
                true,
                own_streams,
                500.0,
            )
        },
        plain(
            "page-unfinished-requests",
            "pages whose request for a session never ends, 1,500 at a time from 64 networks",
            false,
            unfinished_requests,
            10.0,
        ),
        Attack {
            judge: |outcome: &Outcome| outcome.at_most("let_in", 0.0),
            ..plain(
                "page-request-junk",
                "requests and SETTINGS that are junk: frames without end, fields that refer to tables, lengths beyond all",
                true,
                request_junk,
                10.0,
            )
        },
        plain(
            "page-silent-newcomers",
            "pages that open a session and never answer the Challenge, 1,500 at a time from 64 networks",
            true,
            silent_newcomers,
            10.0,
        ),
        Attack {
            judge: |outcome: &Outcome| outcome.at_least("still_there", ADMITTED as f64),
            ..plain(
                "page-foreign-datagrams",
                "datagrams of sessions that do not exist, and such without any, from 8 pages that were let in",
                true,
                foreign_datagrams,
                5_000.0,
            )
        },
        Attack {
            judge: |outcome: &Outcome| outcome.at_most("kb_each", 256.0),
            ..plain(
                "page-capsules",
                "capsules that nobody knows, a byte at a time and without end, from pages that were let in",
                true,
                capsules,
                // A page that says them byte by byte takes its time.
                1.0,
            )
        },
        plain(
            "page-churn",
            "pages that are let in and gone at once, without a word or in the middle of a stream",
            false,
            churn,
            5.0,
        ),
    ]
}

fn network(number: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 3, 0, 1 + (number % NETWORKS) as u8)
}

/// Each is closed after so much of it, and another comes.
fn own_streams(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("streams");
        let end = Instant::now() + target.duration();
        let mut connections = 0;
        while Instant::now() < end {
            let Ok((page, _)) = Page::open(&door, network(connections)).await else { continue };
            connections += 1;
            let mut opened = 0;
            while Instant::now() < end {
                let opening = tokio::time::timeout(ENOUGH, page.dialled.connection.open_uni()).await;
                let Ok(Ok(mut stream)) = opening else { break };
                // QPACK's encoder, push, and what no draft has.
                let kind = [2, 1, 0x21, 0x40][opened % 4];
                if stream.write_all(&[kind, 0x7f, 0]).await.is_err() {
                    break;
                }
                // Left without an end, each stays as long as the connection.
                let _ = if opened % 2 == 0 { stream.finish() } else { stream.reset(VarInt::from_u32(1)) };
                opened += 1;
            }
            report.count += opened as u64;
            let most = report.found.get("streams_each").copied().unwrap_or(0.0).max(opened as f64);
            report.found("streams_each", most);
            page.dialled.connection.close(VarInt::from_u32(0), b"");
        }
        report.found("connections", connections as f64);
        Ok(report)
    })
}

fn unfinished_requests(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    let request = page::request()?;
    crowd(target, "requests", move |number| {
        let (door, request) = (door.clone(), request.clone());
        async move {
            let dialled = page::knock(&door, network(number)).await?;
            let (mut send, _) = dialled.connection.open_bi().await?;
            // As much as one likes, but the last byte.
            let most = 1 + number as usize % (request.len() - 1);
            send.write_all(&request[..most]).await?;
            Ok((dialled, send))
        }
    })
}

fn silent_newcomers(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    crowd(target, "pages", move |number| {
        let door = door.clone();
        async move {
            let (Page { dialled, request, .. }, _) = Page::open(&door, network(number)).await?;
            Ok((dialled, request))
        }
    })
}

/// Keeps as many connections open as there are in a crowd, each with a stream that does not end, the oldest of which goes for each that comes.
fn crowd<C, F>(target: &Target, unit: &str, connect: C) -> anyhow::Result<Report>
where
    C: Fn(u64) -> F,
    F: Future<Output = anyhow::Result<(Dialled, SendStream)>> + Send + 'static,
{
    block_on(async {
        let mut report = Report::of(unit);
        let end = Instant::now() + target.duration();
        let mut kept = std::collections::VecDeque::new();
        let mut coming = tokio::task::JoinSet::new();
        let mut number = 0;
        while Instant::now() < end {
            while coming.len() < AT_ONCE {
                coming.spawn(connect(number));
                number += 1;
            }
            let Ok(come) = tokio::time::timeout(ENOUGH, coming.join_next()).await else { continue };
            // One for whom the relay had no place is what is meant to happen.
            if let Some(Ok(Ok(one))) = come {
                report.count += 1;
                kept.push_back(one);
            }
            if kept.len() > CROWD
                && let Some((oldest, _)) = kept.pop_front()
            {
                oldest.connection.close(VarInt::from_u32(0), b"");
            }
        }
        coming.shutdown().await;
        report.found("tried", number as f64);
        report.found("kept", kept.iter().filter(|(one, _)| one.connection.close_reason().is_none()).count() as f64);
        goodbye(kept.iter().map(|(dialled, _)| &dialled.connection)).await;
        Ok(report)
    })
}

/// What stands where a request or SETTINGS should be.
fn junk(rng: &mut SmallRng) -> (Bytes, Bytes) {
    let mut noise = vec![0; rng.random_range(1..6_000)];
    rng.fill_bytes(&mut noise);
    let settings = page::settings();
    let huge = [0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    match rng.random_range(0..8) {
        // Fields of a request that are noise.
        0 => (settings, page::headers(&noise)),
        // Those that refer to a table which there is not: dynamic, and behind its base.
        1 => (settings, page::headers(&[0x05, 0x00, 0x80, 0x10, 0x11, 0x3f, 0xff])),
        // A length of which nothing comes.
        2 => (settings, [&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &noise].concat().into()),
        // Longer than is read.
        3 => (settings, page::headers(&vec![0x27; 5_000])),
        // Frames of any kind, one behind the other.
        4 => (settings, noise.chunks(16).flat_map(|chunk| [&[0x21, chunk.len() as u8], chunk].concat()).collect()),
        // SETTINGS that are none, and such whose length is beyond all.
        5 => ([&[0][..], &noise].concat().into(), Bytes::from_static(&[0])),
        6 => ([&[0][..], &huge, &noise].concat().into(), Bytes::from_static(&[0])),
        // Huffman's code, cut short in the middle of a field.
        _ => (settings, page::headers(&[0, 0, 0x50, 0x8b, 0xf1, 0xe3, 0xc2, 0xf1])),
    }
}

fn request_junk(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("requests");
        let mut rng = SmallRng::seed_from_u64(7);
        let end = Instant::now() + target.duration();
        let mut let_in = 0;
        while Instant::now() < end {
            let Ok(dialled) = page::knock(&door, network(report.count)).await else { continue };
            let (settings, request) = junk(&mut rng);
            // The relay may end it in the middle.
            let _request = said(&dialled.connection, settings, request).await;
            let session = tokio::time::timeout(Duration::from_millis(2), third_stream(&dialled.connection)).await;
            let_in += u64::from(matches!(session, Ok(Ok(()))));
            report.count += 1;
            dialled.connection.close(VarInt::from_u32(0), b"");
        }
        report.found("let_in", let_in as f64);
        Ok(report)
    })
}

/// Says this; what the request stands on, which does not end.
async fn said(connection: &Connection, settings: Bytes, request: Bytes) -> anyhow::Result<SendStream> {
    connection.open_uni().await?.write_all(&settings).await?;
    let (mut send, _) = connection.open_bi().await?;
    send.write_all(&request).await?;
    Ok(send)
}

/// The relay opens one of HTTP's own, and a second one, with the Challenge, only in a session.
async fn third_stream(connection: &Connection) -> Result<(), ConnectionError> {
    connection.accept_uni().await?;
    connection.accept_uni().await.map(drop)
}

fn foreign_datagrams(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("datagrams");
        let mut pages = Vec::new();
        for number in 0..ADMITTED {
            pages.push(Page::come_in(&door, network(number as u64)).await?);
        }
        let end = Instant::now() + target.duration();
        let foreign: [&[u8]; 5] = [&[1], &[0x40, 0x00], &[4; 900], &[0xff; 1_100], &[0xc0, 0, 0, 0, 0, 0, 0, 0]];
        let foreign = foreign.map(Bytes::copy_from_slice);
        while Instant::now() < end {
            for page in &pages {
                for datagram in &foreign {
                    // QUIC throws the oldest away where there is no room.
                    report.count += u64::from(page.dialled.connection.send_datagram(datagram.clone()).is_ok());
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        report.found("still_there", pages.iter().filter(|page| page.is_there()).count() as f64);
        goodbye(pages.iter().map(|page| &page.dialled.connection)).await;
        Ok(report)
    })
}

/// Each is closed for what it sends, and another comes.
fn capsules(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("pages");
        let end = Instant::now() + target.duration();
        let mut most = 0;
        while Instant::now() < end {
            let Ok(mut page) = Page::come_in(&door, network(report.count)).await else { continue };
            report.count += 1;
            // A DATA frame with a capsule of an unknown kind; one that never ends; and one byte by byte.
            let mut sent = 0;
            let (piece, at_once): (&[u8], bool) = match report.count % 3 {
                0 => (&[0, 6, 0x40, 0x99, 3, 7, 7, 7], true),
                1 => (&[0, 0x80, 0x10, 0, 0, 0x40, 0x99, 0x80, 0x0f, 0xff, 0xff], true),
                _ => (&[0, 6, 0x40, 0x99, 3, 7, 7, 7], false),
            };
            let pieces = if at_once { piece.repeat(256) } else { piece.to_vec() };
            while Instant::now() < end && page.is_there() {
                let step = if at_once { &pieces[..] } else { &pieces[sent % 8..sent % 8 + 1] };
                match tokio::time::timeout(ENOUGH, page.request.write_all(step)).await {
                    Ok(Ok(())) => sent += step.len(),
                    _ => break,
                }
                if !at_once && sent > 4_000 {
                    break;
                }
            }
            most = most.max(sent);
            page.dialled.connection.close(VarInt::from_u32(0), b"");
        }
        report.found("kb_each", most as f64 / 1000.0);
        Ok(report)
    })
}

fn churn(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("pages");
        let end = Instant::now() + target.duration();
        while Instant::now() < end {
            let Ok(mut page) = Page::come_in(&door, network(report.count)).await else { continue };
            report.count += 1;
            match report.count % 4 {
                0 => page.dialled.connection.close(VarInt::from_u32(0x100), b""),
                1 => drop(page.request.finish()),
                2 => drop(page.request.reset(VarInt::from_u32(0x10c))),
                _ => {
                    let mut stream = page.dialled.connection.open_uni().await?;
                    let _ = stream.write_all(&[0x40, 0x54]).await; // it may be gone already
                    page.dialled.connection.close(VarInt::from_u32(1), b"");
                }
            }
        }
        Ok(report)
    })
}
