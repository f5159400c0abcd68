//! A process that is to take over and does not: the old one goes on, and says why.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::close::CloseCode;
use supernode_server::{
    control::{
        handover::{HandoverError, Peer, TAKE_BACK_AFTER, Takeover, hand_over},
        ports::Ports,
        state_dir::{Door, StateDir},
    },
    core::{Admit, Applicant, Grant, Voucher},
    shard,
};

use crate::{
    Leash, PATIENCE,
    breakdown::{config_in, relay_of},
    connect, serve, supernode,
};

/// Named to the child that these tests run themselves in: the old process ends whoever asks for its sockets.
const CHILD_HOME: &str = "SUPERNODE_TEST_CHILD_HOME";
/// What the child does once it has the sockets.
const CHILD_DOES: &str = "SUPERNODE_TEST_CHILD_DOES";

/// Not a test by itself: the child.
#[test]
fn the_child_takes_the_sockets_and_does_not_serve() {
    let Some(home) = std::env::var_os(CHILD_HOME) else { return };
    let state = StateDir::open(&Path::new(&home).join("supernode")).expect("a relay runs");
    let takeover = Takeover::ask(&state).expect("an offer").expect("it runs");
    let does = std::env::var(CHILD_DOES).expect("said");
    if does == "say nothing" {
        writeln!(io::stdout(), "\nhas the sockets").expect("the parent listens");
        std::thread::sleep(Duration::from_secs(120));
    }
    let _estate = takeover.relieve().expect("go");
    writeln!(io::stdout(), "\nhas the sockets").expect("the parent listens");
    if does == "hang" {
        std::thread::sleep(Duration::from_secs(120));
    }
}

/// Starts it, and returns when it has the sockets.
fn take_and(home: &Path, does: &str) -> (Child, Leash) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["upgrade_fails::the_child_takes_the_sockets_and_does_not_serve", "--exact", "--nocapture"])
        .env(CHILD_HOME, home)
        .env(CHILD_DOES, does)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let leash = Leash::on(child.id());
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "has the sockets"), "it was given them");
    (child, leash)
}

//
#[tokio::test]
async fn a_new_process_that_stands_still_with_the_sockets_is_ended_and_the_old_one_serves_again() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;

    let (mut child, _leash) = take_and(home.path(), "hang");
    let begin = Instant::now();
    assert!(old.get("/readyz").starts_with("HTTP/1.0 503"), "nobody is served now");
    assert_eq!(old.json(home.path(), &["status"])["phase"], "handing-over");
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("our child");
    assert!(!ended.success(), "it was killed");
    assert!(begin.elapsed() < TAKE_BACK_AFTER + PATIENCE / 4, "{:?}", begin.elapsed());

    let mut after = connect(home.path(), &old.invite(), 2, None).await;
    after.welcome().await;
    assert_eq!(client.connection.close_reason(), None, "it was silent, and lives");
    assert_eq!(old.json(home.path(), &["status"])["phase"], "ready");
    assert!(old.get("/readyz").starts_with("HTTP/1.0 200"));

    let new = serve(home.path(), &["--open", "--takeover"]);
    assert_eq!(new.json(home.path(), &["status"])["pid"], new.ready["pid"], "the next one may");
    for client in [&client, &after] {
        client.connection.close(0u8.into(), b"");
        client.endpoint.wait_idle().await;
    }
    let (code, log) = old.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the new process, now ended, did not serve within 3 s: the sockets were taken back"), "{log}");
    assert_eq!(new.terminate().0, Some(0));
}

//
#[tokio::test]
async fn a_new_process_that_ends_with_the_sockets_silences_nobody() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;
    let (mut child, _leash) = take_and(home.path(), "end");
    child.wait().expect("our child");
    let begin = Instant::now();
    let mut after = connect(home.path(), &old.invite(), 2, None).await;
    after.welcome().await;
    assert!(begin.elapsed() < TAKE_BACK_AFTER, "known at once: {:?}", begin.elapsed());
    assert_eq!(client.connection.close_reason(), None);
    assert_eq!(old.json(home.path(), &["status"])["phase"], "ready");
    assert_eq!(old.terminate().0, Some(0));
}

#[tokio::test]
async fn a_new_process_that_never_says_that_it_is_ready_takes_nothing_from_anybody() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = serve(home.path(), &["--open"]);
    let (_child, _leash) = take_and(home.path(), "say nothing");
    let mut client = connect(home.path(), &old.invite(), 1, None).await;
    client.welcome().await;
    assert_eq!(old.json(home.path(), &["status"])["phase"], "ready");
    assert_eq!(old.terminate().0, Some(0));
}

/// The door of an open relay.
struct Open;

impl Admit for Open {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

#[tokio::test]
async fn a_new_process_that_cannot_be_ended_reads_nothing_more_and_learns_that_it_is_too_late() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (old, link) = relay_of(config_in(home.path(), Arc::new(Open)));
    let state = StateDir::open(&home.path().join("supernode")).expect("made by the relay");
    let (listener, door) = state.make(Door::Handover).expect("a socket");
    door.open().expect("ours");
    listener.set_nonblocking(false).expect("ours");
    let admin = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let handle = old.handle();
    let giving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it asks");
        // As a process of another container is: out of sight.
        let ports = Ports { admin: OwnedFd::from(admin), tcp: None, certificates: None, page: None };
        hand_over(stream, &Peer::of(None), &handle, &ports)
    });
    let mut client = connect(home.path(), &link, 1, None).await;
    client.welcome().await;

    let takeover = Takeover::ask(&state).expect("an offer").expect("it listens");
    let (estate, settlement) = takeover.relieve().expect("go");
    // It is late, but not dead: its threads come after the old ones have taken the sockets back.
    let given = tokio::task::spawn_blocking(move || giving.join()).await.expect("no panic").expect("no panic");
    assert!(matches!(given, Err(HandoverError::TakenBack { ended: false, .. })), "{given:?}");
    let new = shard::take_over(config_in(home.path(), Arc::new(Open)), estate).expect("threads");
    assert!(matches!(settlement.settle(), Err(HandoverError::TooLate)));

    let mut after = connect(home.path(), &link, 2, None).await;
    after.welcome().await;
    assert_eq!(client.connection.close_reason(), None);
    let read: u64 = new.counters().iter().map(|shard| shard.snapshot().0.datagrams_in).sum();
    assert_eq!(read, 0, "what it had read would have been lost to the old one");
}

/// A relay whose program can be replaced, and the program's path.
fn replaceable(home: &Path) -> (crate::Relay, std::path::PathBuf) {
    let path = home.join("program");
    let built = env!("CARGO_BIN_EXE_supernode");
    fs::hard_link(built, &path).or_else(|_| fs::copy(built, &path).map(|_| ())).expect("a program");
    let mut command = Command::new(&path);
    command.env("XDG_STATE_HOME", home).env_remove("RUST_LOG");
    (crate::serve_with(command, &["--open", "--listen", "127.0.0.1:0"]), path)
}

fn install(path: &Path, script: &str) {
    let new = path.with_extension("new");
    fs::write(&new, script).expect("ours");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(&new, path).expect("ours");
}

#[test]
fn an_upgrade_to_a_program_that_ends_at_once_says_so_at_once() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (old, path) = replaceable(home.path());
    install(&path, "#!/bin/sh\nexit 7\n");
    for _ in 0..2 {
        let begin = Instant::now();
        let output = supernode(home.path()).arg("upgrade").output().expect("the program starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("exit status: 7") && words.contains("goes on as before"), "{words}");
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    }
    assert_eq!(old.json(home.path(), &["status"])["phase"], "ready");
    assert_eq!(old.terminate().0, Some(0));
}

#[test]
fn there_is_one_upgrade_at_a_time() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (old, path) = replaceable(home.path());
    install(&path, "#!/bin/sh\nexec sleep 120\n");
    let mut stream = UnixStream::connect(home.path().join("supernode/control.sock")).expect("it listens");
    let asked = "POST /upgrade HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).expect("sent");
    let answer = io::read_to_string(stream).expect("an answer");
    let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
    let started: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("{answer}"));
    let leash = Leash::on(started["pid"].as_u64().expect("a process") as u32);

    let output = supernode(home.path()).arg("upgrade").output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{words}");
    assert!(words.contains("under way"), "{words}");
    // It writes to the same standard error, which ends with both.
    drop(leash);
    assert_eq!(old.terminate().0, Some(0));
}
