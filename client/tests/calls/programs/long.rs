//! A program that waits for calls through restarts of its relay and changes of its network, for as long as it takes to see
//! whether it grows.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use supernode_client_testkit::in_time;
use supernode_testkit::{Relay, Way};

use crate::programs::{PROGRAM, talk, text};

/// How long; the night's half an hour: `SUPERNODE_AGAIN_S=1800 cargo test -p supernode-client --test calls whoever_listens_again_comes`.
const AGAIN_S: u64 = 45;
/// Until here a program has done everything once that it will do again.
const SETTLED_AFTER: u32 = 6;
/// What the program may grow by after that: an allocator's noise, of all together and of each round. A connection that is kept
/// takes 60 KiB.
const GROWN_KIB_MAX: u64 = 1_536;
const GROWN_KIB_A_ROUND_MAX: u64 = 30;
/// From a restart of the relay to the program being in again: its waits are short by then.
const BACK_MAX: Duration = Duration::from_secs(15);

/// Memory of a process that is in RAM.
fn resident_kib(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn is_in(relay: &Relay, round: u32) {
    let begin = Instant::now();
    while relay.sessions() == 0 {
        assert!(begin.elapsed() < BACK_MAX, "round {round}: not in after {BACK_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_again_comes_back_each_time_and_does_not_grow() {
    let again_s = std::env::var("SUPERNODE_AGAIN_S").ok().map_or(AGAIN_S, |text| text.parse().unwrap());
    let mut relay = Relay::open(1);
    let way = Way::to(&relay).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { directory.path().join(name) };
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file("bob.json")).output().unwrap());
    fs::write(file("invite"), way.invite(&relay).to_string()).unwrap();
    let mut program = talk("listen", directory.path(), "bob", "b");
    program.arg("--again").arg("--invite-file").arg(file("invite"));
    // Nobody reads it meanwhile: a pipe would fill.
    let log = fs::File::create(file("log")).unwrap();
    let mut listening = program.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    is_in(&relay, 0).await;
    let (begin, mut settled, mut most) = (Instant::now(), 0, 0);
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(again_s) || round < 2 * SETTLED_AFTER {
        round += 1;
        match round % 4 {
            // Long enough for the relay to be given up.
            3 if again_s > AGAIN_S => {
                way.set_open(false);
                tokio::time::sleep(Duration::from_secs(20)).await;
                way.set_open(true);
            }
            // A moment without a network.
            3 => {
                way.set_open(false);
                tokio::time::sleep(Duration::from_secs(1)).await;
                way.set_open(true);
            }
            _ => relay = in_time(relay.restart()).await,
        }
        is_in(&relay, round).await;
        assert!(listening.try_wait().unwrap().is_none(), "it ended: {}", fs::read_to_string(file("log")).unwrap());
        let resident = resident_kib(&listening);
        match round {
            0..=SETTLED_AFTER => settled = settled.max(resident),
            _ => most = most.max(resident),
        }
    }
    let grown_max = GROWN_KIB_MAX.max(u64::from(round - SETTLED_AFTER) * GROWN_KIB_A_ROUND_MAX);
    assert!(most <= settled + grown_max, "{settled} KiB after {SETTLED_AFTER} rounds, {most} KiB after {round}");
    assert!(Command::new("kill").arg(listening.id().to_string()).status().unwrap().success());
    let status = tokio::task::block_in_place(|| listening.wait().unwrap());
    assert!(status.success(), "{}", fs::read_to_string(file("log")).unwrap());
}
