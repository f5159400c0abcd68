//! The program, with real files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use supernode_client::media::compare;

use crate::relay::Relay;

const PROGRAM: &str = env!("CARGO_BIN_EXE_supernode-call");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn talk(side: &str, directory: &Path, who: &str, media: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg(side)
        .arg("--identity")
        .arg(directory.join(format!("{who}.json")))
        .arg("--audio")
        .arg(format!("{SAMPLES}/speech-{media}.opus"))
        .arg("--video")
        .arg(format!("{SAMPLES}/picture-{media}.ivf"))
        .arg("--record-dir")
        .arg(directory.join(who))
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn figures(output: Output) -> serde_json::Value {
    let lines = text(output);
    serde_json::from_str(lines.lines().last().unwrap()).unwrap()
}

#[test]
fn two_programs_call_each_other_and_record_what_the_other_played() {
    let relay = Relay::open(2);
    let directory = std::env::temp_dir().join(format!("supernode-call-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name);
    for who in ["alice", "bob"] {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap());
    }
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("bob.json")).output().unwrap();
    fs::write(file("ticket"), text(ticket)).unwrap();

    let listening =
        talk("listen", &directory, "bob", "b").env("SUPERNODE_INVITE", relay.invite().to_string()).spawn().unwrap();
    fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let called = talk("call", &directory, "alice", "a")
        .arg("--invite-file")
        .arg(file("invite"))
        .arg("--ticket-file")
        .arg(file("ticket"))
        .args(["--seconds", "3"])
        .output()
        .unwrap();
    let (alice, bob) = (figures(called), figures(listening.wait_with_output().unwrap()));

    assert_eq!(alice["safety_number"], bob["safety_number"]);
    assert_eq!(alice["peer_online_seen"], true);
    for (sender, receiver) in [(&alice, &bob), (&bob, &alice)] {
        for medium in ["audio", "video"] {
            assert_eq!(sender[format!("{medium}_sent")], receiver[format!("{medium}_received")]);
        }
        assert!(sender["audio_sent"].as_u64().unwrap() >= 100 && sender["video_sent"].as_u64().unwrap() >= 40);
        assert_eq!((&receiver["lost"], &receiver["undecryptable"]), (&0.into(), &0.into()));
        assert!(receiver["delay_us_p50"].as_u64().unwrap() > 0);
    }
    for (who, heard) in [("alice", "b"), ("bob", "a")] {
        for (played, recorded) in [("speech", "audio.opus"), ("picture", "video.ivf")] {
            let suffix = recorded.rsplit('.').next().unwrap();
            let source = PathBuf::from(format!("{SAMPLES}/{played}-{heard}.{suffix}"));
            let comparison = compare::files(&source, &directory.join(who).join(recorded)).unwrap();
            assert!(comparison.headers_identical && comparison.received > 0);
            assert_eq!(comparison.identical, comparison.received, "{who}'s {recorded}");
        }
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_exit_code_says_whether_the_relay_turned_us_away() {
    let relay = Relay::closed();
    let directory = std::env::temp_dir().join(format!("supernode-exit-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(directory.join("eve.json")).output().unwrap());
    let turned_away =
        talk("listen", &directory, "eve", "a").env("SUPERNODE_INVITE", relay.invite().to_string()).output().unwrap();
    assert_eq!(turned_away.status.code(), Some(3));
    let no_link = talk("listen", &directory, "eve", "a").env("SUPERNODE_INVITE", "http://x").output().unwrap();
    assert_eq!(no_link.status.code(), Some(1));
    fs::remove_dir_all(directory).unwrap();
}
