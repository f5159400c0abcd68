//! What of a relay's secrets others on its machine can come by.

use std::{
    fs,
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Resource, Signal, getrlimit};

use crate::{Leash, Relay, serve_with};

/// A relay of somebody who wants cores, in a directory where they would lie.
fn with_cores(home: &Path, arguments: &[&str]) -> Relay {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -S -c $(ulimit -H -c) && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_supernode")])
        .env("XDG_STATE_HOME", home)
        .env_remove("RUST_LOG")
        .current_dir(home);
    serve_with(shell, &[&["--open", "--listen", "127.0.0.1:0"], arguments].concat())
}

/// The soft limit of a core's size, as the kernel tells it.
fn core_limit(relay: &Relay) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.child.id())).expect("proc(5)");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    line.split_whitespace().nth(4).expect("a column").to_owned()
}

#[test]
fn the_watchdog_s_signal_leaves_no_core_unless_somebody_asked_for_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut relay = with_cores(home.path(), &[]);
    assert_eq!(core_limit(&relay), "0");
    relay.send(Signal::ABORT);
    let ended = relay.child.wait().expect("our child");
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!ended.core_dumped(), "its keys are on the disk");

    let most = getrlimit(Resource::Core).maximum.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let relay = with_cores(home.path(), &["--dumpable"]);
    assert_eq!(core_limit(&relay), most);
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_person_at_a_terminal_is_shown_a_link_that_lets_people_in() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = env!("CARGO_BIN_EXE_supernode");
    // script(1) gives it a terminal.
    let command = format!("{program} serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --shards 1");
    let Ok(mut child) = supernode_at_a_terminal(home.path(), &command) else {
        println!("not tried: there is no script(1)");
        return;
    };
    let mut shown = String::new();
    let mut out = child.stdout.take().expect("piped");
    while !shown.contains("\"pid\":") {
        let mut buffer = [0; 1024];
        let length = out.read(&mut buffer).expect("a terminal");
        assert!(length > 0, "it ended: {shown}");
        shown += &String::from_utf8_lossy(&buffer[..length]);
    }
    let (_, pid) = shown.rsplit_once("\"pid\":").expect("a ready line");
    let pid: String = pid.chars().take_while(char::is_ascii_digit).collect();
    let leash = Leash::on(pid.parse().expect("a process"));
    assert!(shown.contains("token="), "{shown}");
    drop(leash);
    child.wait().expect("our child");
}

fn supernode_at_a_terminal(home: &Path, command: &str) -> io::Result<Child> {
    Command::new("script")
        .args(["-qefc", command, "/dev/null"])
        .env("XDG_STATE_HOME", home)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}
