//! The program itself: starts, says where it is, answers, and ends in order.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use supernode_proto::invite::Invite;

struct Relay {
    child: Child,
    ready: serde_json::Value,
}

fn supernode(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supernode"));
    command.env("XDG_STATE_HOME", state).env_remove("RUST_LOG");
    command
}

fn serve(state: &Path, arguments: &[&str]) -> Relay {
    let mut child = supernode(state)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    match serde_json::from_str(&line) {
        Ok(ready) => Relay { child, ready },
        Err(_) => panic!("no ready line: {line:?}, {}", stderr(child)),
    }
}

fn stderr(child: Child) -> String {
    String::from_utf8_lossy(&child.wait_with_output().expect("it ends").stderr).into_owned()
}

impl Relay {
    fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().expect(field)
    }

    fn invite(&self) -> Invite {
        self.text("invite").parse().expect("a valid link")
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.text("admin")).expect("the admin port");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Sends SIGTERM; the exit status and what was said on standard error.
    fn terminate(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().expect("our child").is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill(); // nothing to end if it went by itself
        let output = self.child.wait_with_output().expect("our child");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn invite(state: &Path, arguments: &[&str]) -> Output {
    supernode(state).arg("invite").args(arguments).output().expect("the program starts")
}

#[test]
fn a_relay_says_where_it_is_and_ends_in_order() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    assert_eq!(relay.ready["pid"], relay.child.id());
    let link = relay.invite();
    assert_eq!(format!("{}:{}", link.host, link.port), relay.text("listen"));
    assert!(link.token.is_some(), "a relay that is not open needs a token");
    assert!(relay.get("/healthz").ends_with("ok\n"));
    assert!(relay.get("/metrics").contains("\nsupernode_shards 2\n"));

    // An invite while it runs: the same relay, another token.
    let output = invite(home.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Invite = String::from_utf8(output.stdout).expect("text").parse().expect("a valid link");
    assert_eq!((&printed.host, printed.port, printed.pin), (&link.host, link.port, link.pin));
    assert_ne!(printed.token, link.token);

    let token = link.token.expect("a token");
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ready") && log.contains("draining") && log.contains("drained"), "{log}");
    assert!(!log.contains(&token), "a token is in the log");

    let again = serve(home.path(), &[]);
    assert_eq!(again.invite().pin, link.pin, "clients know it again");
    assert_eq!(again.terminate().0, Some(0));
}

#[test]
fn an_open_relay_gives_a_link_without_a_token_and_warns_only_where_others_can_reach_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    assert_eq!(relay.invite().token, None);
    let (_, log) = relay.terminate();
    assert!(!log.contains("WARN"), "{log}");

    let mut child = supernode(home.path())
        .args(["serve", "--open", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0", "--shards", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let relay = Relay { child, ready: serde_json::from_str(&line).expect("a ready line") };
    assert_ne!(relay.invite().host, "0.0.0.0", "an address that a client can use");
    let (_, log) = relay.terminate();
    assert!(log.contains("WARN") && log.contains("open to everybody"), "{log}");
}

#[test]
fn what_cannot_be_done_is_said_once_with_the_documented_exit_code() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let fails = |arguments: &[&str], code, reason: &str| {
        let output = supernode(home.path()).args(arguments).output().expect("the program starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
        assert_eq!(words.matches(reason).count(), 1, "{arguments:?}: {words}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed data");
    };
    fails(&["invite", "--host", "h"], 1, "supernode serve");
    fails(&["serve", "--admin", "0.0.0.0:0"], 1, "must be on a loopback address");
    fails(&["serve", "--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"], 1, "cannot open the relay's UDP port");
    fails(&["serve", "--batch-window-us", "10001"], 2, "is not in 0..=10000");
    fails(&["serve", "--shards", "0"], 2, "0 is not in");
    fails(&["invite", "--days", "367"], 2, "is not in 1..=366");
    fails(&["invite", "--for", "somebody"], 2, "not in its text form");
    fails(&["brew"], 2, "unrecognized subcommand");
}

#[test]
fn the_ledger_can_be_read_without_a_relay() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = supernode(home.path()).arg("what-i-see").output().expect("the program starts");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).expect("text").contains("network address"));
}
