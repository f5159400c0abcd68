//! What a group costs by its size: bytes of commits and Welcomes, and how long each side works on them.
//!
//! ```sh
//! cargo run --release -p supernode-e2ee --example group_sizes
//! ```

use std::{
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use supernode_e2ee::{Change, Device, DeviceSecret, Error, Group, IdentitySecret};
use supernode_proto::identity::{IdentityKey, RoomId};

const SIZES: [usize; 5] = [2, 10, 50, 100, 250];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut out = std::io::stdout();
    writeln!(out, "members  change    commit B  welcome B  making ms  following ms  joining ms")?;
    let host = device(now)?;
    let (mut group, mut follower) = (host.create_group(RoomId([1; 16]))?, None);
    for size in 2..=SIZES[SIZES.len() - 1] {
        let newcomer = device(now)?;
        let package = (newcomer.identity(), newcomer.key_package()?);
        let (change, making) = timed(|| group.propose_add(&[package], now));
        let change = change?;
        group.merge_own()?;
        let following = follow(follower.as_mut(), &change, now)?;
        if follower.is_none() || SIZES.contains(&size) {
            let welcome = change.welcome.clone().unwrap_or_default();
            let (joined, joining) = timed(|| newcomer.join_room(&welcome, &host.identity(), now));
            if SIZES.contains(&size) {
                row(&mut out, size, "joins", &change, [making, following, joining])?;
            }
            follower.get_or_insert(joined?);
        }
        if size > 2 && SIZES.contains(&size) {
            let (change, making) = timed(|| group.propose_update());
            let change = change?;
            group.merge_own()?;
            let following = follow(follower.as_mut(), &change, now)?;
            row(&mut out, size, "refreshes", &change, [making, following, Duration::ZERO])?;

            let last = group.members().last().map_or(0, |member| member.leaf);
            let (change, making) = timed(|| group.propose_remove(&[last]));
            let change = change?;
            group.merge_own()?;
            let following = follow(follower.as_mut(), &change, now)?;
            row(&mut out, size, "leaves", &change, [making, following, Duration::ZERO])?;
        }
    }
    Ok(())
}

fn device(now: u64) -> Result<Device, Error> {
    let (identity, secret) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&secret.public(), now + 3600);
    Device::new(secret, delegation)
}

fn follow(group: Option<&mut Group>, change: &Change, now: u64) -> Result<Duration, Error> {
    let Some(group) = group else { return Ok(Duration::ZERO) };
    let anybody = |_: &IdentityKey| true;
    let (processed, time) = timed(|| group.process(&change.commit, &anybody, now));
    processed.map(|_| time)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn row(
    out: &mut impl Write,
    size: usize,
    change: &str,
    made: &Change,
    [making, following, joining]: [Duration; 3],
) -> std::io::Result<()> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let welcome = made.welcome.as_ref().map_or(0, Vec::len);
    let (commit, making, following, joining) = (made.commit.len(), ms(making), ms(following), ms(joining));
    writeln!(out, "{size:>7}  {change:<9} {commit:>7} {welcome:>10} {making:>10.1} {following:>13.1} {joining:>11.1}")
}
