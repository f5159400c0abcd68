//! Rooms whose members all ask for as much as they may at once, while one of the relay's threads stands still: each time that
//! somebody on the other takes a track of its clients, or takes it no more, is a letter for it.

use std::{
    fs,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use supernode_proto::{
    control::{Subscribe, TrackKind, Unsubscribe, client_message::Body as Request},
    object::TrackAlias,
};

use super::{
    Attack, Outcome, Report, Run, Target,
    operator::{metric, metrics},
};
use crate::{
    client::{Client, Online, Person, Room},
    relay::Setting,
    runtime::block_on,
};

/// Sessions that ask: about half of them on the thread that goes on, and of half of these the next one's track is on the other.
/// In six seconds these ask for more than fills the inbox of one that takes nothing (65,536 letters).
const ASKING: usize = 440;
/// Members of a room: few, so that asking costs little more than the letter to the thread that others of them are on.
const MEMBERS: usize = 4;
/// What one identity may ask for at once, and in a second, and a little less.
const BURST: usize = 380;
const PER_SECOND: usize = 95;
/// Requests that are written at once: whoever takes a track gives it back in the next.
const AT_ONCE: usize = 20;
/// Sessions that do nothing, beside the call.
const BYSTANDERS: usize = 24;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        name: "full-rooms",
        what: "440 sessions in rooms of 4 ask for all they may at once, while one of two shards stands still",
        quick: true,
        // It is the machine that gives a shard no CPU, not who asks: the call on it need only go on afterwards.
        setting: Setting { shards: 2, interrupts: true, ..Setting::PLAIN },
        seconds_min: 6.0,
        run: Run::Rust(full_rooms),
        rate_min: 12_000.0,
        judge: |outcome: &Outcome| {
            outcome.at_least("held", 1.0)?;
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
            return Ok(Pid::from_raw(number));
        }
    }
    anyhow::bail!("no second shard")
}

/// Lets a thread stand still until then, as a debugger does, which is the one way to stop one and not the others.
fn stand_still(thread: Pid, until: Instant) -> Result<(), Errno> {
    ptrace::seize(thread, ptrace::Options::empty())?;
    ptrace::interrupt(thread)?;
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    ptrace::detach(thread, None)
}

/// Asks for what is granted and no more: what is above it would be refused, and its sender ended.
async fn ask_on(mut person: Online, track: TrackAlias, (begin, end): (Instant, Instant), all: Arc<AtomicU64>) {
    let mut asked = 0;
    while Instant::now() < end {
        let granted = BURST + (PER_SECOND as f64 * begin.elapsed().as_secs_f64()) as usize;
        if asked + AT_ONCE <= granted {
            let alias = track.value();
            let requests = (0..AT_ONCE).map(|number| match number % 2 {
                0 => Request::Subscribe(Subscribe { alias, ..Subscribe::default() }),
                _ => Request::Unsubscribe(Unsubscribe { alias }),
            });
            if person.say_all(requests).await.is_err() {
                return;
            }
            asked += AT_ONCE;
            all.fetch_add(AT_ONCE as u64, Ordering::Relaxed);
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // What it has asked for may still be on its way.
    std::future::pending::<()>().await;
}

fn full_rooms(target: &Target) -> anyhow::Result<Report> {
    let door = target.door()?;
    let stopped = last_shard(target)?;
    block_on(async {
        let from = |host: usize| Ipv4Addr::new(127, 3, 0, 1 + (host % 64) as u8);
        let mut bystanders = Vec::new();
        for host in 0..BYSTANDERS {
            let client = Client::connect(&door, Ipv4Addr::new(127, 6, 0, 1 + host as u8), Person::new()).await?;
            bystanders.push(client.listen(|_| ()));
        }
        let mut asking = Vec::new();
        let mut room = Room::new();
        for host in 0..ASKING {
            if host % MEMBERS == 0 {
                room = Room::new();
            }
            let mut client = Client::connect(&door, from(host), Person::new()).await?;
            client.join(&room).await?;
            let track = client.publish(&room, TrackKind::Audio).await?;
            asking.push((client.listen(|_| ()), track));
        }
        // Each takes the track of the next in the room.
        let tracks: Vec<TrackAlias> = asking.iter().map(|(_, track)| *track).collect();
        let next = |host: usize| tracks[host / MEMBERS * MEMBERS + (host + 1) % MEMBERS];
        let before = metrics(target)?;
        let mut report = Report::of("requests");
        let begin = Instant::now();
        let end = begin + target.duration();
        let stands_still = std::thread::spawn(move || stand_still(stopped, end));
        let asked = Arc::new(AtomicU64::new(0));
        let connections: Vec<_> = asking.iter().map(|(person, _)| person.connection.clone()).collect();
        let tasks: Vec<_> = asking
            .into_iter()
            .enumerate()
            .map(|(host, (person, _))| tokio::spawn(ask_on(person, next(host), (begin, end), asked.clone())))
            .collect();
        tokio::time::sleep(target.duration()).await;
        report.count = asked.load(Ordering::Relaxed);
        match stands_still.join().map_err(|_| anyhow::anyhow!("whoever stopped the shard panicked"))? {
            Err(Errno::EPERM) => {
                report.skipped = Some("only root may stop one thread of a relay".to_owned());
                return Ok(report);
            }
            stopped => stopped.context("one of the relay's threads cannot be stopped")?,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let after = metrics(target)?;
        let grown = |name| anyhow::Ok(metric(&after, name)? - metric(&before, name)?);
        let ended = |people: &mut dyn Iterator<Item = &quinn::Connection>| {
            people.filter(|person| person.close_reason().is_some()).count() as f64
        };
        report.found("held", grown("supernode_held_for_mail_total")?);
        report.found("desynchronised", grown("supernode_desynchronised_total")?);
        report.found("bystanders_lost", ended(&mut bystanders.iter().map(|person| &person.connection)));
        report.found("asking_ended", ended(&mut connections.iter()));
        Ok(report)
    })
}
