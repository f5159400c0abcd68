//! The admin port under those who would keep the operator from it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::{PATIENCE, Relay, serve, supernode};

/// Idle connections that the trial's attacker kept open: as many as the process may have descriptors.
const IDLE: usize = 1100;

impl Relay {
    /// What the admin port answers to these bytes, until it closes.
    fn says(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.text("admin")).expect("the admin port");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        // A reset behind an answer is an end as well.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn the_handbook_says_how_many_series_there_are() {
    let handbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
    let handbook = std::fs::read_to_string(handbook).expect("the handbook");
    let handbook = handbook.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, said) = handbook.split_once("there are about ").expect("that sentence");
    let said: usize = said.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(handbook.contains(&format!("about {said} series for one shard and two more for each further shard")));
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let series = relay.get("/metrics").lines().filter(|line| line.starts_with("supernode_")).count();
    // This one has two shards.
    assert!((series - 2).abs_diff(said) * 50 <= said, "{series} series of two shards, and the handbook says {said}");
    assert_eq!(relay.terminate().0, Some(0));
}

/// Commands of the operator, all of which are answered soon.
fn commands_work(home: &Path) {
    for (arguments, code) in [(&["status"][..], 0), (&["sessions"], 0), (&["kick", "0-1-2"], 4)] {
        let begin = Instant::now();
        let output = supernode(home).args(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(begin.elapsed() < PATIENCE / 2, "{arguments:?}");
    }
}

#[test]
fn whoever_opens_more_connections_than_there_are_descriptors_keeps_nobody_out() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let mut idle = Vec::new();
    for number in 0..IDLE {
        // This process may not have so many either: the relay has closed most of them at its side.
        if number >= 400 {
            idle.remove(0);
        }
        let mut stream = TcpStream::connect(relay.text("admin")).expect("the admin port");
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: local");
        idle.push(stream);
    }
    assert!(relay.get("/livez").ends_with("ok\n"));
    commands_work(home.path());
    let text = relay.get("/metrics");
    let open = text.lines().find_map(|line| line.strip_prefix("supernode_process_open_files ")).expect("a metric");
    assert!(open.parse::<f64>().expect("a number") < 200.0, "{open} descriptors");
    drop(idle);

    // The control socket has a bound of its own, and its own user's idle connections keep nobody from the admin port.
    let control = home.path().join("supernode/control.sock");
    let _idle: Vec<_> = (0..200).map(|_| UnixStream::connect(&control).expect("it listens")).collect();
    commands_work(home.path());
    assert!(relay.get("/livez").ends_with("ok\n"));
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_connection_on_which_nothing_comes_is_closed() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let begin = Instant::now();
    let waiting: Vec<_> = ["", "GET /livez HTTP/1.1\r\nHost: lo", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"]
        .into_iter()
        .map(|request| {
            let mut stream = TcpStream::connect(relay.text("admin")).expect("the admin port");
            stream.set_read_timeout(Some(2 * PATIENCE)).expect("a timeout");
            stream.write_all(request.as_bytes()).expect("sent");
            stream
        })
        .collect();
    for mut stream in waiting {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it is closed");
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(begin.elapsed() > Duration::from_secs(1), "and not at once");
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn what_is_no_plain_request_to_this_machine_is_refused() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let end = "Connection: close\r\n\r\n";
    for (request, code) in [
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{end}"), "200"),
        (format!("GET /livez HTTP/1.1\r\nHost: [::1]:9464\r\nContent-Length: 0\r\n{end}"), "200"),
        (format!("GET http://127.0.0.1/livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{end}"), "200"),
        (format!("GET http://relay.example/livez HTTP/1.1\r\nHost: localhost\r\n{end}"), "403"),
        (format!("GET http://localhost@relay.example/livez HTTP/1.1\r\nHost: localhost\r\n{end}"), "403"),
        (format!("GET /livez HTTP/1.1\r\nHost: relay.example\r\n{end}"), "403"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{end}"), "400"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: relay.example\r\n{end}"), "400"),
        (format!("GET /livez HTTP/1.1\r\n{end}"), "400"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n{end}hello"), "400"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{end}0\r\n\r\n"), "400"),
        (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n{end}"), "400"),
    ] {
        let answer = relay.says(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {request}{answer}");
    }
    // A body that is a request to somebody else's eyes.
    let hidden = "GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let smuggled = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5
    );
    let answer = relay.says(&smuggled);
    assert!(!answer.contains("200 OK") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    let answer = relay.says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0");
    assert!(!answer.contains("200"), "{answer}");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "HTTP/2 is not spoken: {answer:?}");
    assert_eq!(relay.terminate().0, Some(0));
}
