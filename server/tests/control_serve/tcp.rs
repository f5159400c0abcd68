//! The TCP port as its operator meets it.

use std::{path::Path, process::Command, time::Instant};

use supernode_proto::invite::Invite;
use supernode_tcp::{Target, answers, open};

use crate::{PATIENCE, Relay, connect, invite, printed, serve, serve_with, supernode};

fn with_tcp(home: &Path) -> Command {
    let mut program = supernode(home);
    program.env("SUPERNODE__TCP__LISTEN", "127.0.0.1:0");
    program
}

fn start(home: &Path, arguments: &[&str]) -> Relay {
    serve_with(with_tcp(home), &[&["--listen", "127.0.0.1:0", "--open"], arguments].concat())
}

/// Whether a relay answers at the TCP port that this link names.
async fn is_reached(link: &Invite) -> bool {
    let address = format!("{}:{}", link.host, link.tcp.expect("a TCP port")).parse().expect("an address");
    let target = Target { host: link.host.clone(), address, proxy: None };
    answers(&mut open(&target).await.expect("a WebSocket")).await
}

//
#[tokio::test]
async fn a_relay_has_a_tcp_port_if_it_is_told_to_and_then_all_who_should_know_it_do() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let without = serve(home.path(), &["--open"]);
    assert_eq!((without.ready.get("tcp"), without.invite().tcp), (None, None));
    assert!(without.get("/metrics").contains("\nsupernode_tcp_accepted_total 0\n"));
    assert_eq!(without.terminate().0, Some(0));

    let relay = start(home.path(), &[]);
    let link = relay.invite();
    assert_eq!(format!("{}:{}", link.host, link.tcp.expect("a TCP port")), relay.text("tcp"));
    assert_eq!(printed(&invite(home.path(), &[])).tcp, link.tcp);
    assert!(is_reached(&link).await);
    assert!(relay.get("/metrics").contains("\nsupernode_tcp_accepted_total 1\n"));
    assert_eq!(relay.json(home.path(), &["status"])["tcp"], relay.ready["tcp"]);
    let file = home.path().join("invite");
    std::fs::write(&file, link.to_string()).expect("ours");
    let doctor = |link: &Invite| {
        std::fs::write(&file, link.to_string()).expect("ours");
        let output = supernode(home.path()).args(["doctor", "--invite-file"]).arg(&file).output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, found) = doctor(&link);
    assert!(code == Some(0) && found.contains("and the relay behind it answers"), "{found}");
    let as_client = format!("TCP {}: handshake in", relay.text("tcp"));
    assert!(found.lines().any(|line| line.contains(&as_client) && line.contains("its key is the link's")), "{found}");
    let admin = relay.text("admin").rsplit_once(':').expect("a port").1.parse().expect("a number");
    let (code, found) = doctor(&Invite { tcp: Some(admin), ..link });
    assert!(code == Some(4) && found.contains("no TLS there"), "{found}");
    let (code, log) = relay.terminate();
    assert!(code == Some(0) && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn a_process_that_takes_over_gets_the_tcp_port_too_and_nobody_is_refused_meanwhile() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let old = start(home.path(), &[]);
    let link = old.invite();
    let before = connect(home.path(), &link, 1, None).await;
    let new = start(home.path(), &["--takeover"]);
    assert_eq!(new.ready["tcp"], old.ready["tcp"]);
    // The old one takes connections until it drains.
    let accepted = || !new.get("/metrics").contains("\nsupernode_tcp_accepted_total 0\n");
    let begin = Instant::now();
    while !(is_reached(&link).await && accepted()) {
        assert!(begin.elapsed() < PATIENCE, "nobody is let in by the new one");
    }
    drop(before);
    assert_eq!(old.wait().0, Some(0));
    assert!(is_reached(&link).await, "and after it has ended");
    assert_eq!(new.terminate().0, Some(0));
}
