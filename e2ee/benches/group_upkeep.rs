//! What it costs each member that a call's keys are kept fresh and that a split is seen: beacons and renewals, in bytes on the
//! wire and time of a processor a minute, beside what anybody says. Everybody publishes one track, whose label is sealed
//! again in each epoch (R-125).
//!
//! ```sh
//! cargo bench -p supernode-e2ee --bench group_upkeep
//! ```

#![allow(clippy::disallowed_types, reason = "it measures how long things take")]

use std::{
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use prost::Message;
use supernode_e2ee::{
    Device, DeviceSecret, Error, Group, IdentitySecret, KeyExchange, MediaOpener, MediaSealer, TrackId, TrackInfo,
};
use supernode_proto::{
    control::{
        BeaconPosted, ClientMessage, MlsDelivery, PostBeacon, RelabelTrack, RelayMessage, SendMls, TrackAnnounced,
        client_message::Body as Ask, relay_message::Body as Tell,
    },
    identity::{IdentityKey, RoomId, verify_beacon},
};

const SIZES: [usize; 3] = [2, 20, 100];
const ROOM: RoomId = RoomId([1; 16]);
/// As a client does it: a group in 12 to 15 minutes, a leaf in 32 times that.
const GROUP_MIN: f64 = 13.5;
const LEAF_MIN: f64 = 32.0 * GROUP_MIN;
const RUNS: u32 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut out = std::io::stdout();
    writeln!(out, "keys    members  renewals/h  beacons: out, in B/min  ms/min   renewals: out, in B/min  ms/min")?;
    for exchange in [KeyExchange::X25519, KeyExchange::XWing] {
        for size in SIZES.into_iter().filter(|size| exchange == KeyExchange::X25519 || *size <= 40) {
            row(&mut out, exchange, size, now)?;
        }
    }
    Ok(())
}

fn row(out: &mut impl Write, exchange: KeyExchange, size: usize, now: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut groups = room_of(exchange, size, now)?;
    let others = size as f64 - 1.0;
    // Whoever waits least for the group's, or as often as all leaves need it.
    let renewals_per_min = f64::max(1.0 / GROUP_MIN, size as f64 / LEAF_MIN);
    let beacon = beacon(&groups[0].1, &groups[0].0)?;
    // One a minute, and one in each new epoch.
    let beacons_per_min = 1.0 + renewals_per_min;
    let beacons = Cost {
        sent: beacon.sent * beacons_per_min,
        received: beacon.received * beacons_per_min * others,
        work: (beacon.making + beacon.reading * others) * beacons_per_min,
    };
    let renewal = renewal(&mut groups, now)?;
    let label = label(&groups)?;
    let renewals = Cost {
        sent: (renewal.sent / size as f64 + label.sent) * renewals_per_min,
        received: (renewal.received + label.received * others) * renewals_per_min,
        work: (renewal.making / size as f64
            + renewal.reading * others / size as f64
            + label.making
            + label.reading * others)
            * renewals_per_min,
    };
    let keys = exchange.to_string();
    let (hour, b, r) = (renewals_per_min * 60.0, beacons, renewals);
    let text = format!(
        "{keys:<7} {size:>7} {hour:>11.1} {:>13.0} {:>8.0} {:>8.2} {:>15.0} {:>8.0} {:>8.2}",
        b.sent, b.received, b.work, r.sent, r.received, r.work
    );
    writeln!(out, "{text}")?;
    Ok(())
}

/// A minute's worth for one member: bytes and milliseconds.
struct Cost {
    sent: f64,
    received: f64,
    work: f64,
}

/// One of something: bytes, and milliseconds to make and to read it.
struct One {
    sent: f64,
    received: f64,
    making: f64,
    reading: f64,
}

fn room_of(exchange: KeyExchange, size: usize, now: u64) -> Result<Vec<(Group, Device)>, Error> {
    let devices = (0..size).map(|_| device(now)).collect::<Result<Vec<Device>, Error>>()?;
    let mut room = devices[0].create_room(ROOM, exchange)?;
    let offers = devices[1..].iter().map(|device| Ok((device.identity(), device.key_package()?)));
    let welcome = room.propose_add(&offers.collect::<Result<Vec<_>, Error>>()?, now)?.welcome.unwrap_or_default();
    room.merge_own()?;
    let host = devices[0].identity();
    let joined =
        devices[1..].iter().map(|device| device.join_room(&welcome, &host, now)).collect::<Result<Vec<_>, Error>>()?;
    let mut groups: Vec<(Group, Device)> = std::iter::once(room).chain(joined).zip(devices).collect();
    // As it is after a while: everybody has renewed their keys once.
    for at in 0..size {
        renew(&mut groups, at, now)?;
    }
    Ok(groups)
}

fn renew(groups: &mut [(Group, Device)], at: usize, now: u64) -> Result<(Vec<u8>, f64, f64), Error> {
    let anybody = |_: &IdentityKey| true;
    let (change, making) =
        timed(|| groups[at].0.propose_update().and_then(|change| groups[at].0.merge_own().map(|()| change)));
    let (commit, mut reading) = (change?.commit, 0.0);
    for (_, (group, _)) in groups.iter_mut().enumerate().filter(|(other, _)| *other != at) {
        let (processed, time) = timed(|| group.process(&commit, &anybody, now));
        processed?;
        reading += time;
    }
    groups.iter_mut().for_each(|(group, _)| group.forget_previous());
    let others = groups.len() - 1;
    Ok((commit, making, reading / others as f64))
}

fn renewal(groups: &mut [(Group, Device)], now: u64) -> Result<One, Error> {
    let (mut bytes, mut making, mut reading) = (0, 0.0, 0.0);
    let runs = groups.len().min(8);
    for at in 0..runs {
        let (commit, made, read) = renew(groups, at, now)?;
        (bytes, making, reading) = (commit.len(), making + made, reading + read);
    }
    let (room, key) = (ROOM.0.to_vec(), vec![1; 32]);
    let sent = SendMls {
        room: room.clone().into(),
        epoch: 99,
        commit: true,
        payload: vec![1; bytes].into(),
        join_key: key.clone().into(),
    };
    let told = MlsDelivery {
        room: room.into(),
        sequence: 99,
        epoch: 99,
        commit: true,
        from_member: 9,
        payload: vec![1; bytes].into(),
        join_key: key.into(),
    };
    Ok(One {
        sent: asked(Ask::SendMls(sent)),
        received: said(Tell::MlsDelivery(told)),
        making: making / runs as f64,
        reading: reading / runs as f64,
    })
}

fn beacon(device: &Device, group: &Group) -> Result<One, Error> {
    let digest = group.epoch_digest()?;
    let (signature, making) = timed(|| {
        (0..RUNS).fold([0; 64], |_, _| device.secret().sign_beacon(&ROOM, std::hint::black_box(group.epoch()), &digest))
    });
    let (holds, reading) =
        timed(|| (0..RUNS).all(|_| verify_beacon(&device.key(), &ROOM, group.epoch(), &digest, &signature).is_ok()));
    assert!(holds, "our own signature");
    let (room, epoch): (Vec<u8>, u64) = (ROOM.0.to_vec(), 99);
    let (digest, signature) = (digest.to_vec(), signature.to_vec());
    let sent = PostBeacon {
        room: room.clone().into(),
        epoch,
        digest: digest.clone().into(),
        signature: signature.clone().into(),
    };
    let told = BeaconPosted { room: room.into(), member: 9, epoch, digest: digest.into(), signature: signature.into() };
    let runs = f64::from(RUNS);
    Ok(One {
        sent: asked(Ask::PostBeacon(sent)),
        received: said(Tell::BeaconPosted(told)),
        making: making / runs,
        reading: reading / runs,
    })
}

fn label(groups: &[(Group, Device)]) -> Result<One, Error> {
    const KIND: u8 = 1;
    let info = TrackInfo { id: TrackId([1; 8]), name: "voice".into(), codec: "opus".into(), parameters: vec![] };
    let (sealer, opener) =
        (MediaSealer::new(&groups[0].0.epoch_keys()?)?, MediaOpener::new(&groups[1].0.epoch_keys()?)?);
    let (mut label, making) =
        (Vec::new(), timed(|| (0..RUNS).try_for_each(|_| sealer.seal_label(KIND, &info).map(drop))).1);
    label.extend(sealer.seal_label(KIND, &info)?.bytes);
    let from = groups[0].1.key();
    let (opened, reading) = timed(|| (0..RUNS).all(|_| opener.open_label(&from, KIND, &label).is_ok()));
    assert!(opened, "our own label");
    let sent = RelabelTrack { alias: 1 << 29, label: label.clone().into(), mls_epoch: 1 };
    let told = TrackAnnounced {
        room: ROOM.0.to_vec().into(),
        alias: 1 << 29,
        member: 9,
        kind: 1,
        label: label.into(),
        ..Default::default()
    };
    let runs = f64::from(RUNS);
    Ok(One {
        sent: asked(Ask::RelabelTrack(sent)),
        received: said(Tell::TrackAnnounced(told)),
        making: making / runs,
        reading: reading / runs,
    })
}

fn asked(body: Ask) -> f64 {
    ClientMessage { request: 1000, body: Some(body) }.encode_length_delimited_to_vec().len() as f64
}

fn said(body: Tell) -> f64 {
    RelayMessage { reply_to: 0, body: Some(body) }.encode_length_delimited_to_vec().len() as f64
}

fn device(now: u64) -> Result<Device, Error> {
    let (identity, secret) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&secret.public(), now + 3600);
    Device::new(secret, delegation)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, Duration::as_secs_f64(&start.elapsed()) * 1e3)
}
