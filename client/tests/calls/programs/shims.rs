//! The program on systems that are not as they should be.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use supernode_client::{Client, RingOutcome, e2ee::Pass};
use supernode_client_testkit::{PATIENCE, Person, in_time, quick};
use supernode_testkit::{Relay, Shim};

use crate::programs::{PROGRAM, figures, talk, text};

fn identity(directory: &Path, who: &str) {
    text(
        Command::new(PROGRAM).arg("identity").arg("--out").arg(directory.join(format!("{who}.json"))).output().unwrap(),
    );
}

fn ticket(directory: &Path, who: &str) -> Pass {
    let mut command = Command::new(PROGRAM);
    let ticket = command.arg("ticket").arg("--identity").arg(directory.join(format!("{who}.json"))).output().unwrap();
    Pass::from_text(&text(ticket)).unwrap()
}

fn listen(shim: &Shim, relay: &Relay) -> Child {
    let mut command = talk("listen", shim.directory(), "bob", "b");
    shim.under(&mut command).env("SUPERNODE_INVITE", relay.invite().to_string()).stdin(Stdio::null()).spawn().unwrap()
}

/// What a program that is ended now has said.
fn said(mut program: Child) -> String {
    program.kill().unwrap();
    String::from_utf8_lossy(&program.wait_with_output().unwrap().stderr).into_owned()
}

const DAY_S: u64 = 86_400;

/// Rings the program once it is online, as a device that is certified for so many seconds.
async fn ring(relay: &Relay, pass: &Pass, certified_s: u64) -> RingOutcome {
    let device = Person::new().device_for(certified_s);
    let (client, _events) = in_time(Client::connect(&relay.invite(), device, quick())).await.unwrap();
    let mut watch = in_time(client.watch(pass)).await.unwrap();
    in_time(watch.online()).await.unwrap();
    let mut ring = in_time(client.ring(pass)).await.unwrap();
    in_time(ring.outcome()).await.unwrap()
}

async fn is_answered(relay: &Relay, pass: &Pass) {
    let outcome = ring(relay, pass, DAY_S).await;
    assert!(matches!(outcome, RingOutcome::Answered(_)), "{outcome:?}");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_clock_is_two_hours_off_is_reached_and_is_told() {
    let shim = Shim::clock();
    identity(shim.directory(), "bob");
    let ticket = ticket(shim.directory(), "bob");
    for (ahead_s, words) in [(-7_230, "2 h behind the relay's"), (7_230, "2 h ahead of the relay's")] {
        let relay = Relay::open(1);
        shim.say(ahead_s);
        let listening = listen(&shim, &relay);
        is_answered(&relay, &ticket).await;
        let said = said(listening);
        assert!(said.contains(words), "{said}");
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_declined_when_a_caller_s_certificate_has_ended_by_the_callee_s_clock() {
    let shim = Shim::clock();
    identity(shim.directory(), "bob");
    let ticket = ticket(shim.directory(), "bob");
    let relay = Relay::open(1);
    shim.say(7_230);
    let listening = listen(&shim, &relay);
    let outcome = ring(&relay, &ticket, 3_600).await;
    assert!(matches!(outcome, RingOutcome::TimedOut), "{outcome:?}");
    let said = said(listening);
    assert!(said.contains("somebody rang, and their invitation does not hold by this device's clock"), "{said}");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_boots_in_1970_says_so_and_comes_in_once_its_clock_is_set() {
    let shim = Shim::clock();
    identity(shim.directory(), "bob");
    let ticket = ticket(shim.directory(), "bob");
    let relay = Relay::open(1);
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    shim.say(100 - now_s);
    let listening = listen(&shim, &relay);
    tokio::time::timeout(PATIENCE, async {
        while relay.closed_with("DELEGATION_EXPIRED") == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it was turned away");
    shim.say(0);
    is_answered(&relay, &ticket).await;
    let said = said(listening);
    assert!(said.contains("years behind the relay's: waiting until the one that is wrong is set"), "{said}");
    assert_eq!(relay.closed_with("DELEGATION_EXPIRED"), 1, "and it did not ask again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_loses_nothing_where_the_kernel_refuses_bundles_of_packets() {
    let shim = Shim::without_bundles();
    identity(shim.directory(), "alice");
    identity(shim.directory(), "bob");
    fs::write(shim.directory().join("ticket"), ticket(shim.directory(), "bob").to_text()).unwrap();
    let relay = Relay::open(1);
    let listening = listen(&shim, &relay);
    let mut calling = talk("call", shim.directory(), "alice", "a");
    calling.arg("--ticket-file").arg(shim.directory().join("ticket")).args(["--seconds", "3"]);
    let calling = shim.under(&mut calling).env("SUPERNODE_INVITE", relay.invite().to_string()).spawn().unwrap();
    let outputs =
        tokio::task::spawn_blocking(|| [calling, listening].map(|program| program.wait_with_output().unwrap()));
    let [alice, bob] = outputs.await.unwrap().map(figures);
    for (sender, receiver) in [(&alice, &bob), (&bob, &alice)] {
        for medium in ["audio", "video"] {
            assert_eq!(sender[format!("{medium}_sent")], receiver[format!("{medium}_received")]);
        }
        assert_eq!(receiver["lost"], 0);
    }
}
