//! How long frames take to be sealed and opened while the keys of a large room change: one thread seals and opens a frame
//! every 20 ms, another makes and follows commits without a rest, far more than a room ever has.
//!
//! ```sh
//! cargo bench -p supernode-client --features measured --bench media_beside_commits -- [MEMBERS] [SECONDS]
//! ```

use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use supernode_client::{
    Error, Measured, MeasuredGroup, Member, TrackId, TrackInfo,
    e2ee::{self, Change, Device, DeviceSecret, Group, IdentitySecret, KeyExchange, MediaSealer},
};
use supernode_proto::{
    identity::{IdentityKey, RoomId},
    object::{Flags, Layer, Visible},
};

const EVERY: Duration = Duration::from_millis(20);
/// Of an audio frame. Unit: bytes.
const FRAME_BYTES: usize = 160;
const OURS: TrackId = TrackId([1; 8]);
const THEIRS: TrackId = TrackId([2; 8]);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let members = arguments.next().map_or(Ok(250), |members| members.parse::<usize>())?.max(4);
    let seconds = arguments.next().map_or(Ok(60), |seconds| seconds.parse())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();

    // Everybody is let in by one commit; we made it, and one other member commits as well.
    let devices = (0..members).map(|_| device(now)).collect::<Result<Vec<Device>, e2ee::Error>>()?;
    let mut group = devices[0].create_room(RoomId([1; 16]), KeyExchange::X25519)?;
    let offers = devices[1..].iter().map(|device| Ok((device.identity(), device.key_package()?)));
    let welcome =
        group.propose_add(&offers.collect::<Result<Vec<_>, e2ee::Error>>()?, now)?.welcome.unwrap_or_default();
    group.merge_own()?;
    let other = devices[1].join_room(&welcome, &devices[0].identity(), now)?;
    let sealer = Mutex::new(MediaSealer::new(&other.epoch_keys()?)?);
    let from = Member { identity: devices[1].identity(), device: devices[1].key() };
    let track = TrackInfo { id: THEIRS, name: String::new(), codec: "opus".into(), parameters: Vec::new() };
    let media = Measured::new(group, from, track)?;
    let room = media.group();

    let is_over = AtomicBool::new(false);
    let (frames, commits) = std::thread::scope(|scope| {
        let committing = scope.spawn(|| commit(&room, other, &sealer, &devices[members - 1], now, &is_over));
        let frames = talk(media, &sealer, Duration::from_secs(seconds), &is_over);
        is_over.store(true, Relaxed);
        (frames, committing.join().expect("it does not panic"))
    });
    let (frames, mut commits) = (frames?, commits?);
    let mut out = std::io::stdout();
    writeln!(out, "{members} members, a frame every {} ms, {} did not open", EVERY.as_millis(), frames.unopened)?;
    writeln!(out, "us             number       p50       p99       max")?;
    for (name, mut times) in [("to seal", frames.sealing), ("to open", frames.opening)] {
        row(&mut out, name, &mut times)?;
    }
    row(&mut out, "a commit made", &mut commits.made)?;
    row(&mut out, "one followed", &mut commits.followed)?;
    Ok(())
}

#[derive(Default)]
struct Frames {
    sealing: Vec<Duration>,
    opening: Vec<Duration>,
    unopened: usize,
}

/// As a call of two who talk does it.
fn talk(
    mut media: Measured,
    theirs: &Mutex<MediaSealer>,
    how_long: Duration,
    is_over: &AtomicBool,
) -> Result<Frames, Error> {
    let (start, mut frames) = (Instant::now(), Frames::default());
    let plain = vec![7; FRAME_BYTES];
    for group in 0.. {
        let due = start + EVERY * group;
        if due > start + how_long || is_over.load(Relaxed) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let visible = Visible { group: group.into(), object: 0, flags: Flags::INDEPENDENT, layer: Layer::default() };
        let mut sealed = Vec::with_capacity(2 * FRAME_BYTES);
        let (done, time) = timed(|| media.seal(&OURS, &visible, &plain, &mut sealed));
        done?;
        frames.sealing.push(time);
        sealed.clear();
        theirs.lock().expect("nobody panics").seal(&THEIRS, &visible, &plain, &mut sealed)?;
        let sealed = Bytes::from(sealed);
        let (opened, time) = timed(|| media.open(visible, &sealed));
        frames.opening.push(time);
        frames.unopened += usize::from(!opened);
    }
    Ok(frames)
}

#[derive(Default)]
struct Commits {
    made: Vec<Duration>,
    followed: Vec<Duration>,
}

type Step<'a> = &'a dyn Fn(&mut Group) -> Result<Change, e2ee::Error>;

/// We and another member renew our keys, remove somebody and let them in again, in turn.
fn commit(
    room: &MeasuredGroup,
    mut other: Group,
    theirs: &Mutex<MediaSealer>,
    last: &Device,
    now: u64,
    is_over: &AtomicBool,
) -> Result<Commits, Error> {
    let (mut commits, mut sequence) = (Commits::default(), 0);
    let place = |group: &Group| {
        let known = group.members().into_iter().find(|member| member.device == last.key());
        known.map(|member| member.leaf).unwrap_or_default()
    };
    let let_in = |group: &mut Group| {
        let offer = (last.identity(), last.key_package()?);
        group.propose_add(&[offer], now)
    };
    let steps: [Step<'_>; 3] = [&Group::propose_update, &|group| group.propose_remove(&[place(group)]), &let_in];
    while !is_over.load(Relaxed) {
        for step in steps.into_iter().cycle().take(2 * steps.len()) {
            let ours = sequence % 2 == 0;
            sequence += 1;
            let before = room.epoch();
            if ours {
                let (made, time) = timed(|| room.commit(step));
                commits.made.push(time);
                let change = made?.ok_or(Error::State("nothing to change"))?;
                other.process(&change.commit, &anybody, now)?;
            } else {
                let change = step(&mut other)?;
                commits.followed.push(timed(|| room.follow(sequence, &change)).1);
                other.merge_own()?;
            }
            assert_eq!(room.epoch(), before + 1, "every commit counts");
            theirs.lock().expect("nobody panics").install(&other.epoch_keys()?)?;
        }
    }
    Ok(commits)
}

fn anybody(_: &IdentityKey) -> bool {
    true
}

fn device(now: u64) -> Result<Device, e2ee::Error> {
    let (identity, secret) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&secret.public(), now + 3600);
    Ok(Device::new(secret, delegation)?.without_x_wing())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn row(out: &mut impl Write, name: &str, times: &mut [Duration]) -> std::io::Result<()> {
    times.sort_unstable();
    let us = |part: f64| times[(part * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
    writeln!(out, "{name:<14} {:>6} {:>9.1} {:>9.1} {:>9.1}", times.len(), us(0.5), us(0.99), us(1.0))
}
