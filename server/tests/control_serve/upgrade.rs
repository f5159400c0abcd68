//! One process takes another's place.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use supernode_proto::{close::CloseCode, control::relay_message};

use crate::{Client, Leash, PATIENCE, Relay, connect, identity_of, serve, supernode};

impl Relay {
    /// Waits until the control socket speaks for this process.
    pub(super) fn json(&self, home: &std::path::Path, arguments: &[&str]) -> serde_json::Value {
        let output = supernode(home).args(arguments).arg("--json").output().expect("the program starts");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Client {
    pub(super) async fn welcome(&mut self) {
        assert!(matches!(self.next().await, Ok(relay_message::Body::Welcome(_))));
    }
}

/// A number in the relay's last words.
fn figure(log: &str, name: &str) -> u64 {
    let (_, rest) = log.rsplit_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {log}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {name} in {log}"))
}

//
#[tokio::test]
async fn a_new_process_takes_the_port_over_and_the_old_one_s_connections_go_on() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let listen = old.text("listen").to_owned();
    let mut before = connect(home.path(), &old.invite(), 1, None).await;
    before.welcome().await;

    let new = serve(home.path(), &["--open", "--takeover"]);
    assert_eq!(new.text("listen"), listen);
    assert_ne!(new.ready["pid"], old.ready["pid"]);
    assert_eq!(new.json(home.path(), &["status"])["pid"], new.ready["pid"], "commands reach the new one");
    assert!(matches!(before.next().await, Ok(relay_message::Body::GoAway(_))), "through the new process");
    assert_eq!(before.connection.close_reason(), None);

    let mut after = connect(home.path(), &new.invite(), 2, None).await;
    after.welcome().await;
    assert_eq!(new.json(home.path(), &["status"])["sessions"], 1, "at the new one");
    // What a client of the old process says is heard there: it says goodbye, and the old process has nobody left.
    before.connection.close(0u8.into(), b"");
    before.endpoint.wait_idle().await;
    let begin = Instant::now();
    let (code, log) = old.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(begin.elapsed() < PATIENCE, "it waited: {log}");
    assert_eq!((figure(&log, "sessions_left"), figure(&log, "queued")), (0, 0), "the goodbye arrived: {log}");

    assert_eq!(after.connection.close_reason(), None, "nobody is bothered by the old process's end");
    assert_eq!(new.json(home.path(), &["status"])["sessions"], 1);
    let (code, log) = new.terminate();
    assert_eq!(code, Some(0), "{log}");
}

//
#[tokio::test]
async fn whoever_is_taken_back_or_kicked_goes_from_the_process_that_still_drains_too() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut before = Vec::new();
    for secret in 1..=5 {
        let mut client = connect(home.path(), &old.invite(), secret, None).await;
        client.welcome().await;
        before.push(client);
    }
    let new = serve(home.path(), &["--open", "--takeover"]);
    for client in &mut before {
        assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    }
    let mut after = connect(home.path(), &new.invite(), 11, None).await;
    after.welcome().await;
    let device = |secret: u8| crate::device(secret).public().to_text();
    let ended = |arguments: &[&str]| new.json(home.path(), arguments)["sessions"].as_u64();
    assert_eq!(ended(&["revoke", &identity_of(1).to_text()]), Some(1));
    assert_eq!(before[0].next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(ended(&["revoke", &device(2)]), Some(1));
    assert_eq!(before[1].next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(ended(&["kick", &device(3)]), Some(1));
    assert_eq!(before[2].next().await.err(), Some(CloseCode::REMOVED));
    let listed = new.json(home.path(), &["sessions", "--full"]);
    let named = |secret: u8| {
        let of = identity_of(secret).to_text();
        let found = listed.as_array().expect("a list").iter().find(|session| session["identity"] == of);
        found.unwrap_or_else(|| panic!("{secret}: {listed}"))["session"].as_str().expect("a name").to_owned()
    };
    assert!(named(5).starts_with("old-") && !named(11).starts_with("old-"), "{listed}");
    assert_eq!(ended(&["kick", &named(5)]), Some(1));
    assert_eq!(before[4].next().await.err(), Some(CloseCode::REMOVED));
    assert_eq!(ended(&["kick", "127.0.0.0/8"]), Some(2), "one here and one there");
    assert_eq!(before[3].next().await.err(), Some(CloseCode::REMOVED));
    assert_eq!(after.next().await.err(), Some(CloseCode::REMOVED));

    assert_eq!(old.wait().0, Some(0), "nobody is left there");
    assert_eq!(ended(&["revoke", "127.0.0.1"]), Some(0), "it is not asked any more");
    let mut client = connect(home.path(), &new.invite(), 5, None).await;
    assert_eq!(client.next().await.err(), Some(CloseCode::NOT_ADMITTED), "nobody from there");
    assert_eq!(new.json(home.path(), &["revoke", "--undo", "127.0.0.1"])["changed"], true);
    let mut client = connect(home.path(), &new.invite(), 5, None).await;
    client.welcome().await;
    assert_eq!(new.terminate().0, Some(0));
}

//
#[tokio::test]
async fn a_changed_allow_list_reaches_the_process_that_still_drains_too() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (config, list) = (home.path().join("relay.toml"), home.path().join("allowed"));
    let text = format!("[admission]\nmode = \"allow-list\"\nallow_list = {list:?}\n");
    std::fs::write(&config, text).expect("ours");
    let allow = |secrets: &[u8]| {
        let names: String = secrets.iter().map(|secret| format!("{}\n", identity_of(*secret).to_text())).collect();
        std::fs::write(&list, names).expect("ours");
    };
    allow(&[1, 2]);
    let config = ["--config", config.to_str().expect("text")];
    let old = serve(home.path(), &config);
    let mut before = Vec::new();
    for secret in [1, 2] {
        let mut client = connect(home.path(), &old.invite(), secret, None).await;
        client.welcome().await;
        before.push(client);
    }
    let new = serve(home.path(), &[&config[..], &["--takeover"]].concat());
    for client in &mut before {
        assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    }
    allow(&[2]);
    // It looks every two seconds.
    let ended = tokio::time::timeout(PATIENCE, before[0].next()).await.expect("within seconds");
    assert!(matches!(ended, Err(CloseCode::NOT_ADMITTED)), "{ended:?}");
    assert_eq!(before[1].connection.close_reason(), None);
    before[1].connection.close(0u8.into(), b"");
    let (code, log) = old.wait();
    assert!(code == Some(0) && log.contains("who may stay was read again"), "{log}");
    assert_eq!(new.terminate().0, Some(0));
}

#[tokio::test]
async fn if_the_new_process_does_not_come_up_the_old_one_goes_on() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;

    // It has what it asked for and cannot use it.
    let wrong = supernode(home.path())
        .args(["serve", "--open", "--takeover", "--shards", "3", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the program starts");
    let words = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1), "{words}");
    assert!(words.contains("shards = 3: the running relay has 2"), "{words}");
    let in_the_way = supernode(home.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the program starts");
    let words = String::from_utf8_lossy(&in_the_way.stderr);
    assert_eq!(in_the_way.status.code(), Some(1), "{words}");
    assert!(words.contains("a relay runs with this state directory"), "{words}");

    let mut other = connect(home.path(), &old.invite(), 2, None).await;
    other.welcome().await;
    assert_eq!(client.connection.close_reason(), None);
    assert_eq!(old.json(home.path(), &["status"])["sessions"], 2);
    assert_eq!(old.terminate().0, Some(0));
}

#[tokio::test]
async fn if_the_new_process_dies_during_the_drain_the_old_one_s_calls_go_on() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;
    let mut new = serve(home.path(), &["--open", "--takeover"]);
    assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    new.child.kill().expect("it runs");
    new.child.wait().expect("it ends");
    // The old process reads its sockets again, and ends when it has waited long enough.
    assert_eq!(client.next().await.err(), Some(CloseCode::GOING_AWAY));
    let (code, log) = old.wait();
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_relay_that_was_killed_tells_its_clients_as_soon_as_it_is_back() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let listen = supernode_testkit::lasting_port().to_string();
    let mut first = crate::serve_at(home.path(), &listen, &["--open"]);
    let mut client = connect(home.path(), &first.invite(), 1, None).await;
    client.welcome().await;
    first.child.kill().expect("it runs");
    first.child.wait().expect("it ends");

    let second = crate::serve_at(home.path(), &listen, &["--open"]);
    let begin = Instant::now();
    // Something to answer to: the next process knows the key by which clients know a reset (RFC 9000 section 10.3).
    let end = loop {
        let _ = client.connection.send_datagram(bytes::Bytes::from_static(&[0; 100]));
        match tokio::time::timeout(Duration::from_millis(100), client.connection.closed()).await {
            Ok(end) => break end,
            Err(_) => assert!(begin.elapsed() < PATIENCE, "nobody told the client"),
        }
    };
    assert!(matches!(end, quinn::ConnectionError::Reset), "{end}");
    assert_eq!(second.terminate().0, Some(0));
}

#[tokio::test]
async fn the_running_relay_starts_its_own_successor_when_asked() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;
    let successor = old.json(home.path(), &["upgrade"])["pid"].as_u64().expect("a process") as u32;
    let _leash = Leash::on(successor);
    assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    client.connection.close(0u8.into(), b"");
    let mut after = connect(home.path(), &old.invite(), 1, None).await;
    after.welcome().await;
    // Both write to the same standard error: it ends with the second.
    kill_process(Pid::from_raw(successor as i32).expect("a process"), Signal::TERM).expect("it runs");
    after.connection.close(0u8.into(), b"");
    let (code, log) = old.wait();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("drained").count(), 2, "{log}");
}

//
#[tokio::test]
async fn nothing_is_handed_over_again_before_the_last_process_has_drained() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let first = serve(home.path(), &["--open"]);
    let mut stays = connect(home.path(), &first.invite(), 1, None).await;
    stays.welcome().await;
    let second = serve(home.path(), &["--open", "--takeover"]);
    assert!(matches!(stays.next().await, Ok(relay_message::Body::GoAway(_))));

    let reason = format!("process {}, whose place it took, still drains", first.child.id());
    let by_command = supernode(home.path()).arg("upgrade").output().expect("the program starts");
    let words = String::from_utf8_lossy(&by_command.stderr);
    assert_eq!(by_command.status.code(), Some(4), "{words}");
    assert!(words.contains(&reason) && words.contains("try again"), "{words}");
    let third = supernode(home.path())
        .args(["serve", "--open", "--takeover", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the program starts");
    let words = String::from_utf8_lossy(&third.stderr);
    assert_eq!(third.status.code(), Some(1), "{words}");
    assert!(words.contains(&reason), "{words}");
    assert_eq!(stays.connection.close_reason(), None, "its packets still reach the first process");

    stays.connection.close(0u8.into(), b"");
    stays.endpoint.wait_idle().await;
    assert_eq!(first.wait().0, Some(0));
    let third = serve(home.path(), &["--open", "--takeover"]);
    assert_eq!(second.wait().0, Some(0));
    assert_eq!(third.json(home.path(), &["status"])["pid"], third.ready["pid"]);
    assert_eq!(third.terminate().0, Some(0));
}

#[tokio::test]
async fn a_new_process_that_fails_at_the_last_moment_leaves_the_old_one_its_clients_and_its_commands() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;
    // The last thing that it writes, long after it has been given the sockets.
    let link = home.path().join("supernode/link");
    std::fs::remove_file(&link).expect("it was written at the start");
    std::fs::create_dir(&link).expect("ours");
    let new = supernode(home.path())
        .args(["serve", "--open", "--takeover", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the program starts");
    assert_eq!(new.status.code(), Some(1), "{}", String::from_utf8_lossy(&new.stderr));

    assert_eq!(old.json(home.path(), &["status"])["pid"], old.ready["pid"], "commands reach the old one");
    let mut other = connect(home.path(), &old.invite(), 2, None).await;
    other.welcome().await;
    assert_eq!(client.connection.close_reason(), None);
    assert_eq!(old.json(home.path(), &["status"])["phase"], "ready");
    std::fs::remove_dir(&link).expect("ours");
    let next = serve(home.path(), &["--open", "--takeover"]);
    assert_eq!(next.json(home.path(), &["status"])["pid"], next.ready["pid"], "its hand-over door is open as well");
    for client in [&client, &other] {
        client.connection.close(0u8.into(), b"");
        client.endpoint.wait_idle().await;
    }
    assert_eq!(old.wait().0, Some(0));
    assert_eq!(next.terminate().0, Some(0));
}

#[tokio::test]
async fn who_cannot_be_told_that_the_new_process_is_ready_does_not_stop_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let full = std::fs::File::create("/dev/full").expect("null(4)");
    let mut command = supernode(home.path());
    command.args(["serve", "--open", "--takeover", "--admin", "127.0.0.1:0"]).stdout(full);
    let mut new = command.stderr(std::process::Stdio::null()).spawn().expect("the program starts");
    let _leash = Leash::on(new.id());
    assert_eq!(old.wait().0, Some(0), "it has been replaced");
    // It opens its door for commands once the old one has let go.
    let status = || supernode(home.path()).args(["status", "--json"]).output().expect("the program starts");
    let until = Instant::now() + PATIENCE;
    let mut said = status();
    while said.stdout.is_empty() && Instant::now() < until {
        said = status();
    }
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(said["pid"], new.id());
    kill_process(Pid::from_child(&new), Signal::TERM).expect("it runs");
    assert!(new.wait().expect("our child").success());
}
