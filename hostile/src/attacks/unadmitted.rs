//! What needs nothing but a way to send packets.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use quinn::VarInt;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::{
    client::{Door, dial, goodbye},
    flood::{Flood, spray, stranger},
    forge::{Forge, INITIAL_BYTES, Initial},
    handshakes::{Begun, Handshakes, one, send},
    odd_tls::{Oddity, odd, odd_with_phases},
    relay::{Log, Setting},
    runtime::block_on,
};

/// What a server may send to an address that has not proven itself (RFC 9000 section 8.1).
const AMPLIFICATION_MAX: f64 = 3.0;
/// A handshake's frame that asks for nothing but an acknowledgement.
const PING: &[u8] = &[1];
/// Initial packets that fit one datagram when each has a token of some bytes.
const COALESCED: usize = 20;
/// A version that nobody speaks (RFC 9000 section 15).
const OTHER_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

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
    vec![
        plain(
            "wrong-retry-tokens",
            "datagrams of 20 Initial packets with a wrong Retry token, for a handshake in progress",
            true,
            wrong_retry_tokens,
            2000.0,
        ),
        Attack {
            setting: Setting { log: Log::Stalled, ..Setting::PLAIN },
            ..plain(
                "stalled-log",
                "the same, and every line of the log at the level that says most goes into a pipe that nobody reads",
                true,
                wrong_retry_tokens,
                2000.0,
            )
        },
        plain(
            "illegal-packets",
            "handshakes whose second packet has bits set that must be zero",
            true,
            illegal_packets,
            200.0,
        ),
        plain(
            "key-updates-out-of-turn",
            "connections whose keys change with every packet, and some whose packets have bits set that must be zero",
            false,
            out_of_turn,
            2.0,
        ),
        plain(
            "half-open-one-network",
            "handshakes from one address that answer Retry and stop",
            true,
            |target| half_open(target, 1),
            500.0,
        ),
        plain(
            "half-open-64-networks",
            "handshakes from each of 64 networks that answer Retry and stop",
            true,
            half_open_64,
            500.0,
        ),
        Attack {
            // So long the relay waits for a handshake, and repeats what it said.
            seconds_min: 10.0,
            judge: |outcome: &Outcome| {
                let kinds = ["handshake", "retry", "version_negotiation", "reset"];
                kinds.iter().try_for_each(|kind| outcome.at_most(&format!("{kind}_ratio"), AMPLIFICATION_MAX))
            },
            ..plain(
                "amplification",
                "two Initial packets of 1,200 bytes never answered, and all else that is answered unasked",
                true,
                amplification,
                1.0,
            )
        },
        Attack {
            judge: |outcome: &Outcome| {
                outcome.at_least("connections", 20.0)?;
                // Before Hello a client may send 8 KiB; what a connection costs besides is no more than three times that.
                outcome.at_most("taken_kb_each", 40.0)
            },
            ..plain(
                "first-byte-left-out",
                "control streams without their first byte, 1 MiB behind it",
                true,
                first_byte_left_out,
                1.0,
            )
        },
        plain(
            "version-negotiation",
            "long headers of a version that nobody speaks, from forged addresses",
            true,
            version_negotiation,
            20_000.0,
        ),
        plain(
            "forged-hellos",
            "genuine first packets from forged addresses that never answer",
            false,
            forged_hellos,
            5000.0,
        ),
        plain("junk-initials", "first packets that do not open, from forged addresses", false, junk_initials, 20_000.0),
        plain(
            "junk-short-headers",
            "short headers of connections that do not exist, each good for a stateless reset",
            true,
            junk_short_headers,
            20_000.0,
        ),
        plain("junk-bytes", "datagrams of any length and content", false, junk_bytes, 20_000.0),
    ]
}

/// Keeps one handshake in progress, and sends packets for it whose token is not that of its first one.
fn wrong_retry_tokens(target: &Target) -> anyhow::Result<Report> {
    let (door, forge) = (target.door()?, Forge::new()?);
    let mut report = Report::of("datagrams");
    let begin = Instant::now();
    let from = Ipv4Addr::new(127, 3, 0, 1);
    let (mut socket, mut id) = one(&forge, door.address, from)?;
    while begin.elapsed() < target.duration() {
        let until = (begin.elapsed() + Duration::from_secs(3)).min(target.duration());
        let keys = forge.keys(&id);
        let mut number = 1;
        while begin.elapsed() < until {
            // Each packet has a number of its own: one that came before is thrown away sooner.
            let datagram: Vec<u8> = (0..COALESCED as u32)
                .flat_map(|place| {
                    let (number, bytes) = (number + place, INITIAL_BYTES / COALESCED);
                    let what = Initial { to: &id, token: &[0xaa; 4], number, reserved: 0, frames: PING, bytes };
                    forge.initial(&keys, what)
                })
                .collect();
            number += COALESCED as u32;
            send(&socket, &datagram);
            report.count += 1;
        }
        // The relay gives a handshake up after a while. One that is too busy to begin another may still have this.
        if let Ok(another) = one(&forge, door.address, from) {
            (socket, id) = another;
        }
    }
    Ok(report)
}

/// Handshakes from 64 networks, each with a packet that ends it for what it says.
fn illegal_packets(target: &Target) -> anyhow::Result<Report> {
    let mut then = |forge: &Forge, Begun { socket, id, token }: Begun<'_>| {
        let (number, reserved, bytes) = (1, 0b11, INITIAL_BYTES);
        let packet = Initial { to: id, token, number, reserved, frames: PING, bytes };
        send(socket, &forge.initial(&forge.keys(id), packet));
    };
    handshakes(target, 64, &mut then)
}

/// From 64 networks.
fn half_open_64(target: &Target) -> anyhow::Result<Report> {
    half_open(target, 64)
}

fn half_open(target: &Target, networks: u8) -> anyhow::Result<Report> {
    handshakes(target, networks, &mut |_, _| ())
}

/// As many handshakes as there is time for.
fn handshakes(target: &Target, networks: u8, then: &mut dyn FnMut(&Forge, Begun<'_>)) -> anyhow::Result<Report> {
    let mut handshakes = Handshakes::from_networks(target.door()?.address, networks)?;
    let mut report = Report::of("handshakes");
    let begin = Instant::now();
    while begin.elapsed() < target.duration() {
        for _ in 0..16 {
            handshakes.begin(then);
            report.count += 1;
        }
        handshakes.listen(then);
    }
    report.found("retries", handshakes.retries as f64);
    report.found("answers", handshakes.answers as f64);
    Ok(report)
}

/// Bytes that the relay sends for each byte that it got, by what makes it answer.
fn amplification(target: &Target) -> anyhow::Result<Report> {
    let (door, forge) = (target.door()?, Forge::new()?);
    let mut report = Report::of("exchanges");
    let end = Instant::now() + target.duration();
    let mut rng = SmallRng::from_rng(&mut rand::rng());

    // Handshakes go on for as long as the attack: the relay repeats what nobody acknowledges.
    let mut begun = Vec::new();
    for host in 1..=16 {
        let socket = silent(&door, Ipv4Addr::new(127, 4, 0, host))?;
        let id: [u8; 8] = rand::random();
        let keys = forge.keys(&id);
        let packet = |number, frames| {
            let bytes = INITIAL_BYTES;
            forge.initial(&keys, Initial { to: &id, token: &[], number, reserved: 0, frames, bytes })
        };
        send(&socket, &packet(0, &forge.hello));
        // Some send the second at once, some when the relay has said all that it may.
        if host > 8 {
            std::thread::sleep(Duration::from_millis(50));
        }
        send(&socket, &packet(1, PING));
        begun.push(socket);
    }
    let mut ratio = |report: &mut Report, name: &str, make: &mut dyn FnMut(&mut SmallRng) -> Vec<u8>| {
        let Ok(socket) = silent(&door, Ipv4Addr::new(127, 4, 1, 1)) else { return };
        let mut sent = 0;
        for _ in 0..100 {
            let datagram = make(&mut rng);
            sent += datagram.len();
            send(&socket, &datagram);
        }
        std::thread::sleep(Duration::from_millis(200));
        report.found(&format!("{name}_ratio"), received(&socket) as f64 / sent as f64);
        report.count += 100;
    };
    ratio(&mut report, "version_negotiation", &mut |_| long_header(OTHER_VERSION, INITIAL_BYTES));
    ratio(&mut report, "reset", &mut |rng| short_header(rng, 64));
    ratio(&mut report, "retry", &mut |_| forge.first(&rand::random::<[u8; 8]>(), &[]));
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let most = begun.iter().map(received).max().unwrap_or(0);
    report.count += begun.len() as u64;
    report.found("handshake_ratio", most as f64 / (2 * INITIAL_BYTES) as f64);
    Ok(report)
}

/// A socket that says something and hears all, but answers nothing.
fn silent(door: &Door, from: Ipv4Addr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(door.address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn received(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).sum()
}

/// Connections from 64 networks whose control stream the relay cannot begin to read.
fn first_byte_left_out(target: &Target) -> anyhow::Result<Report> {
    first_byte_left_out_by(target, 200)
}

/// The same with at most so many.
pub(super) fn first_byte_left_out_by(target: &Target, connections: usize) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("connections");
        let end = Instant::now() + target.duration();
        let mut kept = Vec::new();
        let content = vec![0; 1024 * 1024];
        while Instant::now() < end && kept.len() < connections {
            let (tls, oddity) = odd()?;
            let network = (kept.len() % 64) as u8;
            let Ok(dialled) = dial(&door, Ipv4Addr::new(127, 3, 0, 1 + network), tls).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let (mut send, receive) = dialled.connection.open_bi().await?;
            oddity.set(Oddity::Blank);
            send.write_all(&content[..1]).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            oddity.set(Oddity::None);
            let before = dialled.connection.stats().udp_tx.bytes;
            let _ = tokio::time::timeout(Duration::from_millis(20), send.write_all(&content[1..])).await;
            kept.push((dialled, send, receive, before));
            report.count += 1;
        }
        tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
        // How much of it the relay's window has let through.
        let taken =
            kept.iter().map(|(dialled, .., before)| dialled.connection.stats().udp_tx.bytes - before).sum::<u64>();
        goodbye(kept.iter().map(|(dialled, ..)| &dialled.connection)).await;
        report.found("connections", kept.len() as f64);
        report.found("taken_kb_each", taken as f64 / 1000.0 / kept.len().max(1) as f64);
        Ok(report)
    })
}

/// Connections that change keys before the relay can have heard of the last change.
fn out_of_turn(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    block_on(async {
        let mut report = Report::of("connections");
        let end = Instant::now() + target.duration();
        while Instant::now() < end {
            let (tls, oddity) = odd_with_phases()?;
            let network = (report.count % 64) as u8;
            let Ok(dialled) = dial(&door, Ipv4Addr::new(127, 3, 0, 1 + network), tls).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            oddity.set(if report.count.is_multiple_of(2) { Oddity::Phases } else { Oddity::Reserved });
            for _ in 0..4 {
                // The relay may have seen it by now, and ended the connection.
                let Ok((mut send, _)) = dialled.connection.open_bi().await else { break };
                let _ = send.write_all(&[0]).await;
                let _ = send.finish();
                tokio::task::yield_now().await;
            }
            report.count += 1;
            dialled.connection.close(VarInt::from_u32(0), b"");
        }
        Ok(report)
    })
}

fn version_negotiation(target: &Target) -> anyhow::Result<Report> {
    let template = long_header(OTHER_VERSION, INITIAL_BYTES);
    spray(target, INITIAL_BYTES, |rng, datagram| renewed(rng, datagram, &template))
}

fn junk_initials(target: &Target) -> anyhow::Result<Report> {
    let template = long_header(1u32.to_be_bytes(), INITIAL_BYTES);
    spray(target, INITIAL_BYTES, |rng, datagram| renewed(rng, datagram, &template))
}

fn forged_hellos(target: &Target) -> anyhow::Result<Report> {
    let (forge, flood) = (Forge::new()?, Flood::new(target.door()?.address)?);
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut report = Report::of("datagrams");
    let begin = Instant::now();
    while begin.elapsed() < target.duration() {
        let id: [u8; 8] = rng.random();
        flood.send(stranger(&mut rng), &forge.first(&id, &[]), INITIAL_BYTES)?;
        report.count += 1;
    }
    Ok(report)
}

fn junk_short_headers(target: &Target) -> anyhow::Result<Report> {
    spray(target, 100, |rng, datagram| {
        rng.fill_bytes(&mut datagram[..24]);
        datagram[0] = 0x40 | datagram[0] & 0x3f;
        // For the one shard that there is.
        datagram[1] = 0;
    })
}

fn junk_bytes(target: &Target) -> anyhow::Result<Report> {
    spray(target, 300, |rng, datagram| rng.fill_bytes(datagram))
}

/// The template with another connection ID.
fn renewed(rng: &mut SmallRng, datagram: &mut [u8], template: &[u8]) {
    datagram.copy_from_slice(template);
    rng.fill_bytes(&mut datagram[6..14]);
}

/// A first packet of this version in whose place of a payload there is nothing that opens.
fn long_header(version: [u8; 4], bytes: usize) -> Vec<u8> {
    let length = (0x4000 | (bytes - 26) as u16).to_be_bytes();
    let mut packet = [&[0xc3], &version[..], &[8], &[5; 8], &[8], &[6; 8], &[0], &length].concat();
    packet.resize(bytes, 0x55);
    packet
}

fn short_header(rng: &mut SmallRng, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x55; bytes];
    rng.fill_bytes(&mut packet[..12]);
    (packet[0], packet[1]) = (0x40 | packet[0] & 0x3f, 0);
    packet
}
