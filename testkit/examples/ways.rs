//! What calls cost a relay by UDP and over TCP, and how late sound is: pairs of people of whom one speaks, 50 objects a second
//! of 160 bytes, each way for some seconds. Relay and people are in this process; its CPU time is told by thread. An object is
//! late when it took 100 ms more than half of them did; a gap is 100 ms or more in which a listener got nothing.
//!
//! ```sh
//! cargo run --release -p supernode-testkit --example ways -- 100 20
//! unshare -n python3 testkit/examples/lossy.py --loss 1 --delay-ms 20 -- \
//!     target/release/examples/ways 5 120 10.9.0.1 10.9.0.2
//! ```
//!
//! PAIRS, SECONDS, the relay's address, and the one by which people reach it: over a path that loses packets those differ.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use supernode_proto::{control::TrackKind, object::TrackAlias};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Client, Door, Person, Relay, Room, Setup, datagram};
use tokio::time::{MissedTickBehavior, interval, timeout_at};

const FRAME: Duration = Duration::from_millis(20);
const SEALED_BYTES: usize = 150;
/// Before it is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long what is under way has to come.
const LINGER: Duration = Duration::from_secs(5);
/// What comes so much later than half of all is of no use to whoever plays it: people notice a longer delay more than a loss.
const LATE_MS: f64 = 100.0;
/// Five frames in a row: what nobody's concealment hides. Unit: ms.
const GAP_MS: f64 = 100.0;

#[derive(Debug, Clone, Copy)]
enum By {
    Udp,
    Tcp,
}

/// When an object that came was sent, after the beginning, and how long it took; ms.
#[derive(Debug, Clone, Copy)]
struct Heard {
    sent_ms: f64,
    delay_ms: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let ip = |at: usize, default: IpAddr| arguments.get(at).map_or(default, |text| text.parse().expect("an address"));
    let (pairs, seconds) = (number(0, 10), number(1, 10));
    let at = ip(2, "127.0.0.1".parse().expect("loopback"));
    let via = ip(3, at);
    println!(
        "| by | delivered | lost, % | shard, us each | TCP thread, us each | half, ms | 95 % | 99 % | 99.9 % | longest | late, % | gaps a minute |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for by in [By::Udp, By::Tcp] {
        measure(by, pairs, Duration::from_secs(seconds), at, via).await;
    }
}

async fn measure(by: By, pairs: u64, hold: Duration, at: IpAddr, via: IpAddr) {
    let limits = Limits { connections_per_prefix_max: 10_000, ..Limits::default() };
    let setup = Setup { listen: SocketAddr::new(at, 0), tcp: true, ..Setup::new(1, Door::Everybody, limits) };
    let relay = Relay::of(Setup { batch_window: Duration::from_micros(500), ..setup });
    let udp = SocketAddr::new(via, relay.address.port());
    let tcp = SocketAddr::new(via, relay.running().tcp_addr().expect("a TCP port").port());
    let connect = async || match by {
        By::Udp => relay.connect_over(udp, &Person::new()).await,
        By::Tcp => relay.connect_over_tcp_at(tcp, &Person::new()).await,
    };
    let mut calls = Vec::new();
    for _ in 0..pairs {
        let (mut speaker, mut listener, room) = (connect().await, connect().await, Room::new());
        speaker.join(&room).await;
        listener.join(&room).await;
        let voice = speaker.publish(&room, TrackKind::Audio).await;
        listener.subscribe(voice).await;
        speaker.demand(1).await;
        calls.push((speaker, listener, voice));
    }
    let begin = Instant::now();
    let (from, until) = (begin + WARM_UP, begin + WARM_UP + hold);
    let mut running = Vec::new();
    for (index, (speaker, listener, voice)) in calls.into_iter().enumerate() {
        let phase = FRAME * index as u32 / pairs as u32;
        let speaking = tokio::spawn(speak(speaker, voice, begin, phase, until));
        running.push((speaking, tokio::spawn(hear(listener, begin, until + LINGER))));
    }
    tokio::time::sleep_until(from.into()).await;
    let before = (cpu_us("shard-0"), cpu_us("tcp"));
    tokio::time::sleep_until(until.into()).await;
    let used = (cpu_us("shard-0") - before.0, cpu_us("tcp") - before.1);
    let (mut sent, mut gaps, mut delays) = (0, 0, Vec::new());
    let window = (from - begin).as_secs_f64() * 1e3..(until - begin).as_secs_f64() * 1e3;
    for (speaking, hearing) in running {
        let said = speaking.await.expect("it speaks");
        sent += said.iter().filter(|sent_ms| window.contains(sent_ms)).count();
        let mut heard = hearing.await.expect("it hears");
        heard.retain(|heard| window.contains(&heard.sent_ms));
        gaps += gaps_in(&heard);
        delays.extend(heard.iter().map(|heard| heard.delay_ms));
    }
    delays.sort_unstable_by(f64::total_cmp);
    let came = delays.len();
    let each = |us: f64| us / came as f64;
    let part = |part: f64| delays[((came - 1) as f64 * part) as usize];
    let late = delays.iter().filter(|delay| **delay > part(0.5) + LATE_MS).count();
    println!(
        "| {by:?} | {came} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
        100.0 * (sent - came) as f64 / sent as f64,
        each(used.0),
        each(used.1),
        part(0.5),
        part(0.95),
        part(0.99),
        part(0.999),
        part(1.0),
        100.0 * late as f64 / came as f64,
        gaps as f64 / (pairs as f64 * hold.as_secs_f64() / 60.0)
    );
}

/// How often nothing came for so long.
fn gaps_in(heard: &[Heard]) -> usize {
    let came_ms = |heard: &Heard| heard.sent_ms + heard.delay_ms;
    heard.windows(2).filter(|two| came_ms(&two[1]) - came_ms(&two[0]) >= GAP_MS).count()
}

/// When each object was sent, ms after the beginning. Each says it.
async fn speak(speaker: Client, voice: TrackAlias, begin: Instant, phase: Duration, until: Instant) -> Vec<f64> {
    tokio::time::sleep(phase).await;
    let mut ticks = interval(FRAME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut said = Vec::new();
    while Instant::now() < until {
        ticks.tick().await;
        let sent_ms = begin.elapsed().as_secs_f64() * 1e3;
        let sealed = [&sent_ms.to_be_bytes()[..], &[7; SEALED_BYTES - 8]].concat();
        speaker.connection.send_datagram(datagram(voice, said.len() as u64, &sealed)).expect("it is connected");
        said.push(sent_ms);
    }
    tokio::time::sleep(LINGER).await;
    said
}

/// In the order in which they came.
async fn hear(mut listener: Client, begin: Instant, until: Instant) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let Ok((_, sealed)) = timeout_at(until.into(), listener.object()).await {
        let sent_ms = f64::from_be_bytes(sealed[..8].try_into().expect("eight bytes"));
        heard.push(Heard { sent_ms, delay_ms: begin.elapsed().as_secs_f64() * 1e3 - sent_ms });
    }
    heard
}

/// CPU time of the threads of this name, us.
fn cpu_us(name: &str) -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").map(|entry| entry.expect("a thread").path());
    let named = threads.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let ns = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).expect("a thread's time");
        text.split(' ').next().expect("its first figure").parse::<f64>().expect("a number")
    };
    named.map(ns).sum::<f64>() / 1e3
}
