//! What becomes of a relay whose log nobody reads.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, pipe},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    io::{Errno, ioctl_fionbio},
    process::Signal,
};

use crate::{PATIENCE, connect, serve_to, supernode};

/// A pipe that takes not one byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (read, write) = pipe().expect("a pipe");
    ioctl_fionbio(&write, true).expect("a pipe");
    while rustix::io::write(&write, &[b'\n'; 4096]) != Err(Errno::AGAIN) {}
    while rustix::io::write(&write, b"\n") != Err(Errno::AGAIN) {}
    ioctl_fionbio(&write, false).expect("a pipe");
    (read, write)
}

/// How many lines the relay says that it has lost.
fn lost(relay: &crate::Relay) -> u64 {
    let text = relay.get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("supernode_log_lines_left_out_total{reason=\"sink\"} "));
    line.expect("a metric").parse().expect("a number")
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_call_no_command_and_no_end_and_what_is_lost_is_told() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (mut log, stderr) = full_pipe();
    let mut program = supernode(home.path());
    // A line for every packet: the worst that an operator can ask for.
    program.env("RUST_LOG", if cfg!(debug_assertions) { "trace" } else { "debug" });
    let relay = serve_to(program, &["--open", "--listen", "127.0.0.1:0"], Stdio::from(stderr));
    let mut client = connect(home.path(), &relay.invite(), 1, None).await;
    client.welcome().await;
    let begin = Instant::now();
    while lost(&relay) == 0 {
        assert!(begin.elapsed() < PATIENCE, "nothing was lost");
        relay.send(Signal::HUP);
        let mut other = connect(home.path(), &relay.invite(), 2, None).await;
        other.welcome().await;
    }
    assert!(relay.get("/livez").ends_with("ok\n"));
    assert_eq!(relay.json(home.path(), &["status"])["phase"], "ready");
    assert_eq!(client.connection.close_reason(), None);

    // Somebody reads again.
    let (told, telling) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut text, mut buffer) = (String::new(), [0; 65_536]);
        while let Ok(length @ 1..) = log.read(&mut buffer) {
            text += &String::from_utf8_lossy(&buffer[..length]);
            if text.contains(" lines that standard error did not take in time") {
                let _ = told.send(());
            }
        }
    });
    telling.recv_timeout(PATIENCE).expect("told once it flows again");
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_relay_whose_log_and_ready_line_nobody_reads_starts_answers_and_ends() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let ((_log, stderr), (_ready, stdout)) = (full_pipe(), full_pipe());
    let mut child = supernode(home.path())
        .args(["serve", "--open", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"])
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("the program starts");
    let _leash = crate::Leash::on(child.id());
    let begin = Instant::now();
    loop {
        let status = supernode(home.path()).args(["status", "--json"]).output().expect("the program starts");
        if status.status.success() {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&status.stderr));
        std::thread::sleep(Duration::from_millis(50));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it runs");
    let begin = Instant::now();
    while child.try_wait().expect("our child").is_none() {
        assert!(begin.elapsed() < PATIENCE, "it waits for somebody who reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().expect("our child").success());
}

#[test]
fn whoever_makes_the_relay_say_the_same_again_and_again_gets_ten_lines_and_a_count() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = crate::serve(home.path(), &["--open"]);
    let begin = Instant::now();
    // Those that come faster than it reads are one.
    while begin.elapsed() < Duration::from_secs(8) {
        relay.send(Signal::HUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    let left_out = relay.limited();
    std::thread::sleep(Duration::from_secs(12).saturating_sub(begin.elapsed()));
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("SIGHUP: reading the configuration again").count(), 10, "{log}");
    assert!(left_out > 0 && log.contains(" such lines in the last 1"), "{left_out}: {log}");
}

impl crate::Relay {
    fn limited(&self) -> u64 {
        let text = self.get("/metrics");
        let line =
            text.lines().find_map(|line| line.strip_prefix("supernode_log_lines_left_out_total{reason=\"rate\"} "));
        line.expect("a metric").parse().expect("a number")
    }
}

/// A client's first packets, made by hand.
struct Initials {
    id: [u8; 8],
    keys: rustls::quic::Keys,
    next: u32,
}

impl Initials {
    fn new() -> Self {
        let id = *b"a client";
        let suites = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        let aes = suites.iter().find(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let quic = aes.and_then(|suite| suite.tls13()).and_then(|suite| suite.quic_suite()).expect("QUIC's own suite");
        Self { id, keys: quic.keys(&id, rustls::Side::Client, rustls::quic::Version::V1), next: 0 }
    }

    /// An Initial of 1,200 bytes with this token and a PING in it (RFC 9000, section 17.2.2; RFC 9001, section 5).
    fn with_token(&mut self, token: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc3, 0, 0, 0, 1, self.id.len() as u8];
        packet.extend(self.id);
        packet.push(0);
        packet.push(token.len() as u8);
        packet.extend(token);
        let rest = 1200 - packet.len() - 2;
        packet.extend((0x4000 | rest as u16).to_be_bytes());
        let number_at = packet.len();
        packet.extend(self.next.to_be_bytes());
        let mut payload = vec![0; rest - 4 - self.keys.local.packet.tag_len()];
        payload[0] = 1;
        let number = u64::from(self.next);
        let tag = self.keys.local.packet.encrypt_in_place(number, &packet, &mut payload).expect("short enough");
        packet.extend(payload);
        packet.extend(tag.as_ref());
        let (header, sample) = packet.split_at_mut(number_at + 4);
        let (first, number) = header.split_at_mut(number_at);
        let sample = &sample[..self.keys.local.header.sample_len()];
        self.keys.local.header.encrypt_in_place(sample, &mut first[0], number).expect("a sample");
        self.next += 1;
        packet
    }
}

#[test]
fn a_flood_of_initials_with_wrong_tokens_writes_no_line_and_a_handful_if_libraries_may_speak() {
    for (filter, lines_max) in [(None, 0), (Some("info"), 12)] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut program = supernode(home.path());
        program.envs(filter.map(|filter| ("RUST_LOG", filter)));
        let relay = crate::serve_with(program, &["--open", "--listen", "127.0.0.1:0"]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(relay.text("listen")).expect("loopback");
        let mut initials = Initials::new();
        socket.send(&initials.with_token(b"")).expect("sent");
        for number in 0..2000 {
            socket.send(&initials.with_token(b"wrong")).expect("sent");
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(5)); // or the kernel drops most of them
            }
        }
        let begin = Instant::now();
        while filter.is_some() && relay.limited() < 100 {
            assert!(begin.elapsed() < PATIENCE, "the relay has nothing to say about them: {}", relay.limited());
            std::thread::sleep(Duration::from_millis(50));
        }
        let (code, log) = relay.terminate();
        assert_eq!(code, Some(0), "{log}");
        let lines = log.lines().filter(|line| line.contains("quinn") || line.contains("left out")).count();
        assert!(lines <= lines_max, "{filter:?}: {log}");
        assert!(log.lines().count() <= lines_max + 6, "{filter:?}: {log}");
        assert!(filter.is_none() || log.contains("discarding Initial with invalid retry token"), "{log}");
    }
}

#[test]
fn the_journal_gets_priorities_and_one_time_and_another_pipe_does_not() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let run = |to_journal: bool| {
        let (mut log, stderr) = pipe().expect("a pipe");
        let stderr = File::from(OwnedFd::from(stderr));
        let stream = stderr.metadata().expect("a pipe");
        let inode = if to_journal { stream.ino() } else { stream.ino() + 1 };
        let mut program = supernode(home.path());
        program.env("JOURNAL_STREAM", format!("{}:{inode}", stream.dev()));
        let relay = serve_to(program, &["--open", "--listen", "127.0.0.1:0"], Stdio::from(stderr));
        assert_eq!(relay.terminate().0, Some(0));
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        text
    };
    let journal = run(true);
    assert!(journal.lines().any(|line| line.starts_with("<6> INFO ") && line.contains("ready")), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with('<')), "{journal}");
    assert!(!journal.contains("Z  INFO"), "a second time: {journal}");
    let other = run(false);
    assert!(!other.contains('<') && other.contains("Z  INFO"), "{other}");
}

#[test]
fn a_log_in_json_is_one_object_a_line_also_for_what_ends_the_program() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut program = supernode(home.path());
    program.env("SUPERNODE__LOG__FORMAT", "json");
    let (code, log) = serve_to(program, &["--open", "--listen", "127.0.0.1:0"], Stdio::piped()).terminate();
    assert_eq!(code, Some(0));
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let ready = lines.iter().find(|line| line["message"] == "ready").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&ready["level"], &ready["shards"]), (&"INFO".into(), &2.into()));
    assert!(ready["time"].as_str().is_some_and(|time| time.starts_with("20")), "{ready}");
    let mut program = supernode(home.path());
    program.env("SUPERNODE__LOG__FORMAT", "json").args(["serve", "--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"]);
    let ended = program.output().expect("it starts");
    let words = String::from_utf8(ended.stderr).expect("text");
    let said: Vec<serde_json::Value> =
        words.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let [.., error, why, todo] = &said[..] else { panic!("{words}") };
    let message = |line: &serde_json::Value| line["message"].as_str().expect("words").to_owned();
    assert!(
        message(error).contains("cannot open the relay's UDP port")
            && message(why).starts_with("  another program has it")
            && message(todo).starts_with("  -> "),
        "{words}"
    );
}
