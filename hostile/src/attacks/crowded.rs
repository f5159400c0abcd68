//! Rooms whose members all ask for as much as they may at once, while one of the relay's threads has the lowest
//! priority on their core.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use rustix::process::{Pid, setpriority_process};
use supernode_proto::control::{RelabelTrack, TrackKind, client_message::Body as Request};

use super::{
    Attack, Outcome, Report, Run, Target,
    operator::{metric, metrics},
};
use crate::{
    client::{Client, Online, Person, Room},
    relay::Setting,
    runtime::block_on,
};

/// Sessions that ask: as many as, each with its identity's burst, more than fill the inbox of a thread that takes nothing.
const ASKING: usize = 165;
/// Rooms that they are all in.
const ROOMS: usize = 2;
/// What one identity may ask for at once, and in a second, and a little less.
const BURST: u64 = 380;
const PER_SECOND: f64 = 95.0;
/// Sessions that do nothing, beside the call.
const BYSTANDERS: usize = 24;
/// The lowest priority, and the one that the relay was started with.
const STARVED: i32 = 19;
const FED: i32 = -15;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        name: "full-rooms",
        what: "165 sessions in full rooms ask for all they may at once, while one of two shards has the lowest priority",
        quick: true,
        // It is the machine that gives a shard less CPU, not who asks: the call on it need only go on afterwards.
        setting: Setting { shards: 2, interrupts: true, ..Setting::PLAIN },
        seconds_min: 4.0,
        run: Run::Rust(full_rooms),
        rate_min: 500.0,
        judge: |outcome: &Outcome| {
            outcome.at_most("bystanders_lost", 0.0)?;
            outcome.at_most("desynchronised", 0.0)
        },
    }]
}

/// The relay's thread of the last shard.
fn last_shard(target: &Target) -> anyhow::Result<Pid> {
    for task in fs::read_dir(format!("/proc/{}/task", target.pid))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "shard-1" {
            let number = task.file_name().and_then(|name| name.to_str()).context("a number")?.parse()?;
            return Pid::from_raw(number).context("a thread");
        }
    }
    anyhow::bail!("no second shard")
}

fn full_rooms(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    let starved = last_shard(target)?;
    block_on(async {
        let from = |host: usize| Ipv4Addr::new(127, 3, 0, 1 + (host % 64) as u8);
        let mut bystanders = Vec::new();
        for host in 0..BYSTANDERS {
            let client = Client::connect(&door, Ipv4Addr::new(127, 6, 0, 1 + host as u8), Person::new()).await?;
            bystanders.push(client.listen(|_| ()));
        }
        let rooms: Vec<Room> = (0..ROOMS).map(|_| Room::new()).collect();
        let mut asking: Vec<(Online, u64, u64)> = Vec::new();
        for host in 0..ASKING {
            let mut client = Client::connect(&door, from(host), Person::new()).await?;
            for room in &rooms {
                client.join(room).await?;
            }
            let track = client.publish(&rooms[host % ROOMS], TrackKind::Audio).await?;
            asking.push((client.listen(|_| ()), track.value(), 0));
        }
        let before = metrics(target)?;
        setpriority_process(Some(starved), STARVED).context("a thread's priority")?;
        let mut report = Report::of("requests");
        let (begin, mut number) = (Instant::now(), 0u64);
        while begin.elapsed() < target.duration() {
            // No more than is granted: what is above it would be refused, and its sender ended.
            let granted = BURST + (PER_SECOND * begin.elapsed().as_secs_f64()) as u64;
            for (person, alias, asked) in &mut asking {
                while *asked < granted {
                    (number, *asked) = (number + 1, *asked + 1);
                    let label = Bytes::copy_from_slice(&number.to_be_bytes());
                    let relabel = Request::RelabelTrack(RelabelTrack { alias: *alias, label });
                    // Who is held, or ended, is passed over.
                    let say = tokio::time::timeout(Duration::from_millis(1), person.say(relabel));
                    if !matches!(say.await, Ok(Ok(()))) {
                        break;
                    }
                    report.count += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Where it cannot be given back what it had, the machine does not let us, and did not take it either.
        let _ = setpriority_process(Some(starved), FED);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = metrics(target)?;
        let grown = |name| anyhow::Ok(metric(&after, name)? - metric(&before, name)?);
        let ended = |people: &mut dyn Iterator<Item = &Online>| {
            people.filter(|person| person.connection.close_reason().is_some()).count() as f64
        };
        report.found("held", grown("supernode_held_for_mail_total")?);
        report.found("desynchronised", grown("supernode_desynchronised_total")?);
        report.found("bystanders_lost", ended(&mut bystanders.iter()));
        report.found("asking_ended", ended(&mut asking.iter().map(|(person, ..)| person)));
        Ok(report)
    })
}
