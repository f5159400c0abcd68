//! Processes that stand still for a while: the relay, and a client in the middle of a call.

use std::{
    net::Ipv4Addr,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use supernode_proto::{control::TrackKind, object::TrackAlias};

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::{
    client::{Client, Door, Person, Room, datagram, group_of},
    relay::Setting,
    runtime::block_on,
};

/// How long it stands still: less than QUIC waits for somebody who says nothing.
const STILL: Duration = Duration::from_secs(4);
/// Between two objects that the stopped client is sent.
const OBJECT_INTERVAL: Duration = Duration::from_millis(5);

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "stopped-relay",
            what: "the relay is stopped for seconds, as on a machine that swaps or is moved, and goes on",
            quick: true,
            setting: Setting { interrupts: true, ..Setting::PLAIN },
            seconds_min: 0.0,
            run: Run::Rust(stopped_relay),
            rate_min: 0.0,
            judge: nothing_else,
        },
        Attack {
            name: "stopped-client",
            what: "one of two in a room stands still for seconds while the other sends it what there is, and goes on",
            quick: true,
            setting: Setting::PLAIN,
            seconds_min: STILL.as_secs_f64() + 3.0,
            run: Run::Rust(stopped_client),
            rate_min: 50.0,
            judge: |outcome: &Outcome| outcome.at_least("received_after", 100.0),
        },
    ]
}

fn stopped_relay(target: &Target) -> anyhow::Result<Report> {
    let relay = Pid::from_raw(target.pid.try_into()?).context("a process")?;
    let mut report = Report::of("stops");
    kill_process(relay, Signal::STOP)?;
    std::thread::sleep(STILL);
    kill_process(relay, Signal::CONT)?;
    report.count += 1;
    Ok(report)
}

fn stopped_client(target: &Target) -> anyhow::Result<Report> {
    let (door, room) = (target.door()?, Room::new());
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Whoever waits for the track hears it if there will be none.
        let (tell, hear) = mpsc::channel();
        let (door, room, sent, over) = (&door, &room, &sent, &over);
        let listener = scope.spawn(move || stand_still(door, room, &hear, sent, over));
        let end = Instant::now() + target.duration();
        block_on(async move {
            let mut client = Client::connect(door, Ipv4Addr::new(127, 3, 0, 1), Person::new()).await?;
            client.join(room).await?;
            let alias = client.publish(room, TrackKind::Audio).await?;
            tell.send(alias)?;
            let online = client.listen(|_| ());
            let mut ticks = tokio::time::interval(OBJECT_INTERVAL);
            while Instant::now() < end {
                ticks.tick().await;
                let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
                online.connection.send_datagram(datagram(alias, number, &[0; 900]))?;
            }
            over.store(true, Ordering::Relaxed);
            Ok(())
        })?;
        let mut report = Report::of("objects");
        report.count = sent.load(Ordering::Relaxed);
        let received = listener.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
        report.found("received_after", received as f64);
        Ok(report)
    })
}

/// A client whose only thread sleeps, as that of a process that is stopped; how many objects reach it that were sent after.
fn stand_still(
    door: &Door,
    room: &Room,
    alias: &mpsc::Receiver<TrackAlias>,
    sent: &AtomicU64,
    over: &AtomicBool,
) -> anyhow::Result<u64> {
    block_on(async {
        let mut client = Client::connect(door, Ipv4Addr::new(127, 3, 0, 2), Person::new()).await?;
        client.join(room).await?;
        client.subscribe(alias.recv()?).await?;
        let online = client.listen(|_| ());
        online.connection.read_datagram().await?;
        std::thread::sleep(STILL);
        let (from, mut received) = (sent.load(Ordering::Relaxed), 0);
        while !over.load(Ordering::Relaxed) {
            let object = tokio::time::timeout(Duration::from_millis(100), online.connection.read_datagram()).await;
            let Ok(object) = object else { continue };
            received += u64::from(group_of(&object?).is_some_and(|group| group > from));
        }
        online.connection.close(0u8.into(), b"");
        Ok(received)
    })
}
