//! What systemd is told.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{serve_with, supernode};

struct Systemd {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Systemd {
    /// Waits until a line has been heard so many times.
    fn expect(&mut self, line: &str, times: usize) {
        while self.heard.iter().filter(|heard| *heard == line).count() < times {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {line} in {:?}", self.heard));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.extend(message.lines().map(str::to_owned));
        }
    }
}

#[test]
fn systemd_hears_that_the_relay_is_ready_alive_and_stopping() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut systemd = Systemd { socket, heard: Vec::new() };
    let mut program = supernode(home.path());
    program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "6000000");
    let relay = serve_with(program, &["--open", "--listen", "127.0.0.1:0"]);
    systemd.expect("READY=1", 1);
    systemd.expect(&format!("MAINPID={}", relay.child.id()), 1);
    // The second only after every shard's loop has turned.
    systemd.expect("WATCHDOG=1", 2);

    // A reload begins with the time and ends with another READY, as Type=notify-reload wants it.
    relay.send(Signal::HUP);
    systemd.expect("READY=1", 2);
    let begun = systemd.heard.iter().position(|line| line == "RELOADING=1").expect("said before it is ready again");
    let since = systemd.heard[begun + 1].strip_prefix("MONOTONIC_USEC=").expect("in the same message");
    assert!(since.parse::<u64>().is_ok_and(|since| since > 0), "{since}");
    assert_eq!(systemd.heard.last().map(String::as_str), Some("STATUS=the configuration was read again"));
    relay.signal();
    systemd.expect("STOPPING=1", 1);
    // A drain of 60 s and the end after it, whatever the unit allows.
    systemd.expect("EXTEND_TIMEOUT_USEC=70000000", 1);
    assert_eq!(relay.wait().0, Some(0));
}

#[test]
fn a_systemd_that_does_not_listen_keeps_nobody_waiting_and_hears_it_later() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let full = UnixDatagram::unbound().expect("a socket");
    full.set_nonblocking(true).expect("it does not wait");
    let mut waiting = 0;
    while full.send_to(b"NOISE=1", &path).is_ok() {
        waiting += 1;
    }
    let mut program = supernode(home.path());
    program.env("NOTIFY_SOCKET", &path);
    let begun = Instant::now();
    let relay = serve_with(program, &["--open", "--listen", "127.0.0.1:0"]);
    let status = supernode(home.path()).args(["status", "--json"]).output().expect("it runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let mut systemd = Systemd { socket, heard: Vec::new() };
    systemd.expect("NOISE=1", waiting);
    systemd.expect("READY=1", 1);
    relay.signal();
    systemd.expect("STOPPING=1", 1);
    assert_eq!(relay.wait().0, Some(0));
}
