//! The program rings people who are away.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use supernode_client_testkit::{Person, in_time, next_ring};
use supernode_testkit::{PushService, Relay};

use super::{PROGRAM, SAMPLES, said, text};

/// Somebody who calls the issuer of a ticket.
fn call(directory: &Path, relay: &Relay, callee: &Person) -> Command {
    let file = |name: &str| directory.join(name);
    fs::create_dir_all(directory).unwrap();
    if !file("alice.json").exists() {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file("alice.json")).output().unwrap());
    }
    fs::write(file("ticket"), callee.ticket().to_text().as_bytes()).unwrap();
    fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("call").arg("--identity").arg(file("alice.json")).arg("--invite-file").arg(file("invite"));
    command.arg("--audio").arg(format!("{SAMPLES}/speech-a.opus")).arg("--ticket-file").arg(file("ticket"));
    command.arg("--record-dir").arg(file("heard"));
    command
}

//
#[test]
fn whoever_rings_somebody_who_is_away_rings_on_for_a_while_that_is_said_and_can_give_up() {
    let relay = Relay::open(1);
    let directory = std::env::temp_dir().join(format!("supernode-away-{}", std::process::id()));
    let nobody = Person::new();
    let begin = Instant::now();
    let (told, code) = said(call(&directory, &relay, &nobody).args(["--ring-for", "4"]));
    let took = begin.elapsed();
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("nobody of theirs is online: ringing on for 4 s"), "{told}");
    assert!(told.contains("OFFLINE") && told.contains("\n  -> "), "{told}");
    assert!((Duration::from_secs(4)..Duration::from_secs(12)).contains(&took), "{took:?}");

    let ringing = call(&directory, &relay, &nobody).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(Command::new("kill").args(["-INT", &ringing.id().to_string()]).status().unwrap().success());
    let begin = Instant::now();
    let ended = ringing.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(4) && told.contains("interrupted"), "{told}");
    assert!(begin.elapsed() < Duration::from_secs(2), "not when the time is over");
    fs::remove_dir_all(directory).unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_rings_wakes_whoever_is_away_and_reaches_them_when_they_come() {
    let mut service = PushService::start().await;
    let relay = Relay::waking(1, service.waker(&Default::default()));
    let directory = std::env::temp_dir().join(format!("supernode-wakes-{}", std::process::id()));
    let bob = Person::new();
    let (callee, events) = bob.online(&relay.invite()).await;
    in_time(callee.set_push_endpoint(Some(&service.endpoint("bob")))).await.unwrap();
    in_time(callee.close()).await;
    drop(events);
    let ringing = call(&directory, &relay, &bob).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(in_time(service.next()).await.whom, "bob");
    let (callee, mut events) = bob.online(&relay.invite()).await;
    let woken = Instant::now();
    let call = in_time(next_ring(&mut events).await.answer()).await.unwrap();
    assert!(
        woken.elapsed() < Duration::from_secs(3),
        "they are seen, and not rung by the clock: {:?}",
        woken.elapsed()
    );
    in_time(call.leave()).await.unwrap();
    in_time(callee.close()).await;
    let ended = tokio::task::block_in_place(|| ringing.wait_with_output().unwrap());
    let told = String::from_utf8_lossy(&ended.stderr);
    for line in ["ringing on for 45 s, which may wake a closed page", "they are online: ringing", "in the call"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    fs::remove_dir_all(directory).unwrap();
}
