//! What a group costs by its size and by what its keys are agreed on: bytes of key packages, commits and Welcomes, and how
//! long each side works on them.
//!
//! ```sh
//! cargo bench -p supernode-e2ee --bench group_sizes
//! ```

#![allow(clippy::disallowed_types, reason = "it measures how long things take")]

use std::{
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use supernode_e2ee::{Change, Device, DeviceSecret, Error, Group, IdentitySecret, KeyExchange, WELCOME_BYTES_MAX};
use supernode_proto::{
    identity::{IdentityKey, RoomId},
    limits::MLS_PAYLOAD_BYTES_MAX,
};

const SIZES: [usize; 5] = [2, 20, 40, 100, 250];
/// Runs of what is timed, of which the median counts.
const RUNS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut out = std::io::stdout();
    for exchange in [KeyExchange::X25519, KeyExchange::XWing] {
        let device = device(exchange, now)?;
        let (bytes, time) = median(|| timed(|| device.key_package()))?;
        writeln!(out, "what a device offers for {exchange} and less: {} B in {:.2} ms", bytes.len(), ms(time))?;
    }
    writeln!(out, "\nkeys    members  tree   change    commit B  Welcome B  making ms  following ms  joining ms")?;
    for exchange in [KeyExchange::X25519, KeyExchange::XWing] {
        for size in SIZES {
            measure(&mut out, exchange, size, now)?;
        }
    }
    Ok(())
}

/// A room of so many, in which nobody but the host has made a commit; then the same after one of each two neighbours has
/// renewed their keys, as all do in time.
fn measure(
    out: &mut impl Write,
    exchange: KeyExchange,
    size: usize,
    now: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let host = device(exchange, now)?;
    let mut room = host.create_room(RoomId([1; 16]), exchange)?;
    room.measure_beyond_bounds();
    let others = (1..size - 1).map(|_| device(exchange, now)).collect::<Result<Vec<Device>, Error>>()?;
    let offers = others.iter().map(offer).collect::<Result<Vec<_>, Error>>()?;
    let mut groups = Vec::new();
    if !offers.is_empty() {
        let welcome = room.propose_add(&offers, now)?.welcome.unwrap_or_default();
        room.merge_own()?;
        // Every second one: with it, each two neighbours have a key of their own, and all nodes above them. Beyond some size
        // nobody reads the Welcome.
        let read = others.iter().skip(1).step_by(2).filter(|_| welcome.len() <= WELCOME_BYTES_MAX);
        let joined = read.map(|other| other.join_room(&welcome, &host.identity(), now));
        groups = joined.collect::<Result<Vec<Group>, Error>>()?;
    }
    rows(out, (exchange, size, "fresh"), &mut room, groups.first_mut(), &host, now)?;
    if size < 20 || exchange == KeyExchange::XWing && size > 40 {
        // Beyond the bound, what would fill the tree does not fit a message to begin with.
        return Ok(());
    }
    for at in 0..=groups.len() {
        let made = if at == 0 { &mut room } else { &mut groups[at - 1] };
        let change = made.propose_update()?;
        made.merge_own()?;
        made.forget_previous();
        let follows = |group: &mut Group| group.process(&change.commit, &anybody, now).map(|_| group.forget_previous());
        if at > 0 {
            follows(&mut room)?;
        }
        groups.iter_mut().enumerate().filter(|(other, _)| other + 1 != at).try_for_each(|(_, group)| follows(group))?;
    }
    rows(out, (exchange, size, "full"), &mut room, groups.first_mut(), &host, now)
}

/// The last one comes, somebody's keys are renewed, and somebody goes; nothing of it counts.
fn rows(
    out: &mut impl Write,
    what: (KeyExchange, usize, &str),
    room: &mut Group,
    mut other: Option<&mut Group>,
    host: &Device,
    now: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let ((exchange, size, tree), last) = (what, device(what.0, now)?);
    let mut row = |name: &str, change: &Change, making, following: Option<Duration>, joining: Option<Duration>| {
        let welcome = change.welcome.as_ref().map_or(String::new(), |welcome| welcome.len().to_string());
        let time = |time: Option<Duration>| time.map_or(String::new(), |time| format!("{:.1}", ms(time)));
        let fits = if change.commit.len() > MLS_PAYLOAD_BYTES_MAX { " too long for a message" } else { "" };
        let (keys, commit, making) = (exchange.to_string(), change.commit.len(), ms(making));
        let (following, joining) = (time(following), time(joining));
        let row = format!(
            "{keys:<7} {size:>7}  {tree:<5}  {name:<9} {commit:>8} {welcome:>10} {making:>10.1} {following:>13} {joining:>11}{fits}"
        );
        writeln!(out, "{}", row.trim_end())
    };
    let package = [offer(&last)?];
    let (added, making) = median(|| discarding(room, |room| room.propose_add(&package, now)))?;
    // Each Welcome uses a key package up.
    let (mut joining, mut welcome) = (Vec::new(), added.welcome.clone().unwrap_or_default());
    for _ in 0..RUNS {
        let (joined, time) = timed(|| last.join_room(&welcome, &host.identity(), now));
        if joined.is_ok() {
            joining.push(time);
        }
        let again = [offer(&last)?];
        welcome = discarding(room, |room| room.propose_add(&again, now)).0?.welcome.unwrap_or_default();
    }
    joining.sort_unstable();
    row("joins", &added, making, None, joining.get(joining.len() / 2).copied())?;
    let (change, making) = median(|| discarding(room, Group::propose_update))?;
    row("refreshes", &change, making, following(other.as_deref_mut(), &change, now), None)?;
    if size > 2 {
        let leaf = room.members().last().map_or(0, |member| member.leaf);
        let (change, making) = median(|| discarding(room, |room| room.propose_remove(&[leaf])))?;
        row("leaves", &change, making, following(other, &change, now), None)?;
    }
    Ok(())
}

fn anybody(_: &IdentityKey) -> bool {
    true
}

fn device(exchange: KeyExchange, now: u64) -> Result<Device, Error> {
    let (identity, secret) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&secret.public(), now + 3600);
    let device = Device::new(secret, delegation)?;
    Ok(if exchange == KeyExchange::XWing { device } else { device.without_x_wing() })
}

fn offer(device: &Device) -> Result<(IdentityKey, Vec<u8>), Error> {
    Ok((device.identity(), device.key_package()?))
}

/// How long somebody takes to follow, who then goes back as if nothing had been; a message can be read only once, so that is
/// one run. `None` if it does not fit.
fn following(group: Option<&mut Group>, change: &Change, now: u64) -> Option<Duration> {
    let group = group?;
    let (processed, time) = timed(|| group.process(&change.commit, &anybody, now));
    processed.ok()?;
    group.go_back().ok()?;
    Some(time)
}

fn discarding<T>(room: &mut Group, make: impl FnOnce(&mut Group) -> T) -> (T, Duration) {
    let made = timed(|| make(room));
    // What is pending would stand in the next one's way; there may be nothing.
    let _ = room.discard_own();
    made
}

fn median<T>(mut run: impl FnMut() -> (Result<T, Error>, Duration)) -> Result<(T, Duration), Error> {
    let mut times = Vec::new();
    loop {
        let (done, time) = run();
        times.push(time);
        if times.len() == RUNS {
            times.sort_unstable();
            return Ok((done?, times[RUNS / 2]));
        }
        done?;
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
