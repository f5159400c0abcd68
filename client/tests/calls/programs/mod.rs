//! The program, with real files.

mod away;
mod long;
mod networks;
mod shims;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use supernode_client::{RoomLink, RoomOptions, e2ee::Pass, media::compare};
use supernode_client_testkit::{Person, in_time};
use supernode_testkit::Relay;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_supernode-call");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");

pub(crate) fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn talk(side: &str, directory: &Path, who: &str, media: &str) -> Command {
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

pub(crate) fn figures(output: Output) -> serde_json::Value {
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
fn the_exit_code_says_whether_the_relay_a_file_or_the_command_line_is_at_fault() {
    let relay = Relay::closed();
    let directory = std::env::temp_dir().join(format!("supernode-exit-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(directory.join("eve.json")).output().unwrap());
    let turned_away =
        talk("listen", &directory, "eve", "a").env("SUPERNODE_INVITE", relay.invite().to_string()).output().unwrap();
    assert_eq!(turned_away.status.code(), Some(3));
    let no_link = talk("listen", &directory, "eve", "a").env("SUPERNODE_INVITE", "http://x").output().unwrap();
    assert_eq!(no_link.status.code(), Some(1));
    let misspelt = Command::new(PROGRAM).args(["listen", "--agian"]).output().unwrap();
    assert_eq!(misspelt.status.code(), Some(2));
    fs::remove_dir_all(directory).unwrap();
}

/// What a command says on standard error, and its exit code.
fn said(command: &mut Command) -> (String, Option<i32>) {
    let output = command.output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[test]
fn what_a_person_brings_that_is_of_no_use_is_named_with_what_to_do() {
    let relay = Relay::closed();
    let directory = std::env::temp_dir().join(format!("supernode-words-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name);
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file("eve.json")).output().unwrap());
    fs::write(file("mallory.json"), "OggS is no JSON").unwrap();
    let listen = |who: &str, invite: &str| {
        let mut command = talk("listen", &directory, who, "a");
        command.env("SUPERNODE_INVITE", invite);
        command
    };
    let invite = relay.invite().to_string();
    let turned_away = said(&mut listen("eve", &invite));
    assert_eq!(turned_away.1, Some(3), "{}", turned_away.0);
    assert!(
        turned_away.0.contains("-> ask whoever runs the relay for an invite link made out to you"),
        "{}",
        turned_away.0
    );
    assert!(!turned_away.0.contains('\x1b'), "colours in a pipe: {}", turned_away.0);

    for (mut command, words) in [
        (listen("mallory", &invite), "mallory.json: is no identity file"),
        (listen("eve", "relay.example"), "SUPERNODE_INVITE: is no invite link"),
        (listen("eve", "https://relay.example/"), "SUPERNODE_INVITE: is no link to a page"),
        (listen("eve", ""), "SUPERNODE_INVITE: is empty: no invite link is there"),
    ] {
        let (told, code) = said(&mut command);
        assert!(code == Some(1) && told.contains(words) && told.contains("\n  -> "), "{words}: {told}");
    }
    let mut without = talk("listen", &directory, "eve", "a");
    let (told, code) = said(without.env_remove("SUPERNODE_INVITE"));
    assert!(
        code == Some(1) && told.contains("no invite link: give --invite-file FILE, or set SUPERNODE_INVITE"),
        "{told}"
    );
    let (told, code) = said(Command::new(PROGRAM).arg("identity").arg("--out").arg(file("eve.json")));
    let move_it = "eve.json: is there already\n  nothing is written over: it may be all that there is of a call or an identity\n  \
        -> move it away, or name another path";
    assert!(code == Some(1) && told.contains(move_it), "{told}");
    fs::create_dir_all(file("eve")).unwrap();
    fs::write(file("eve/audio.opus"), "an earlier call").unwrap();
    let (told, code) = said(&mut listen("eve", &invite));
    assert!(code == Some(1) && told.contains("audio.opus: is there already"), "{told}");
    assert_eq!(said(Command::new(PROGRAM).arg("dance")).1, Some(2));
    // Nobody listens there: said at once, with address, port and what to look at.
    let begin = std::time::Instant::now();
    let mut doctor = Command::new(PROGRAM);
    doctor.arg("doctor").env("SUPERNODE_INVITE", "supernode://127.0.0.1:9/");
    let output = doctor.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(3) && told.contains("127.0.0.1:9 (port 9, UDP): refused"), "{told}");
    assert!(told.contains("-> try another network"), "{told}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(3), "an ICMP refusal is no silence");
    fs::remove_dir_all(directory).unwrap();
}

#[cfg(not(feature = "sound"))]
#[test]
fn a_program_without_sound_devices_says_how_one_is_built_that_has_them() {
    let directory = std::env::temp_dir().join(format!("supernode-silent-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let eve = directory.join("eve.json");
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(&eve).output().unwrap());
    let mut with_a_microphone = Command::new(PROGRAM);
    with_a_microphone.args(["listen", "--mic", "--speaker", "hw:0", "--identity"]).arg(&eve);
    with_a_microphone.env("SUPERNODE_INVITE", Relay::open(1).invite().to_string());
    for mut command in [with_a_microphone, {
        let mut list = Command::new(PROGRAM);
        list.arg("sound");
        list
    }] {
        let (told, code) = said(&mut command);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("built without microphones") && told.contains("--features sound"), "{told}");
    }
    let (told, code) = said(Command::new(PROGRAM).args(["listen", "--mic", "--audio", "x.opus", "--identity", "x"]));
    assert!(code == Some(2) && told.contains("cannot be used with"), "{told}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn doctor_says_whether_calls_can_be_made_from_here() {
    let (open, closed) = (Relay::open(1), Relay::closed());
    let doctor = |invite: String| {
        let mut command = Command::new(PROGRAM);
        let output = command.arg("doctor").env("SUPERNODE_INVITE", invite).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    let (told, code) = doctor(closed.invite_with_token().to_string());
    assert_eq!(code, Some(0), "{told}");
    for line in ["good  name", "good  way", "good  let in", "good  clock   within a minute"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (told, code) = doctor(closed.invite().to_string());
    assert!(code == Some(3) && told.contains("BAD   let in  the relay ended the session: NOT_ADMITTED"), "{told}");
    let other_key = supernode_client::proto::invite::Invite { pin: open.invite().pin, ..closed.invite() };
    let (told, code) = doctor(other_key.to_string());
    assert!(code == Some(3) && told.contains("-> do not go on"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_again_answers_call_after_call_through_a_restart_of_the_relay_and_ends_when_told() {
    let relay = Relay::open(1);
    let directory = std::env::temp_dir().join(format!("supernode-again-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name);
    for who in ["alice", "bob"] {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap());
    }
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("bob.json")).output().unwrap();
    fs::write(file("ticket"), text(ticket)).unwrap();
    fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let mut listening = talk("listen", &directory, "bob", "b");
    let listening = listening.arg("--again").arg("--invite-file").arg(file("invite")).spawn().unwrap();
    // Alice shows no picture, and is heard all the same.
    let call = |number: u32| {
        let mut command = Command::new(PROGRAM);
        command.arg("call").arg("--identity").arg(file("alice.json")).arg("--invite-file").arg(file("invite"));
        command.arg("--audio").arg(format!("{SAMPLES}/speech-a.opus")).arg("--ticket-file").arg(file("ticket"));
        command.arg("--record-dir").arg(file(&format!("alice-{number}"))).args(["--seconds", "1", "--json"]);
        let figures = figures(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(figures["video_sent"], 0);
        assert!(figures["audio_received"].as_u64().unwrap() > 10 && figures["video_received"].as_u64().unwrap() > 5);
    };
    tokio::task::block_in_place(|| call(1));
    let relay = relay.restart().await;
    tokio::task::block_in_place(|| call(2));
    assert!(Command::new("kill").arg(listening.id().to_string()).status().unwrap().success());
    let ended = tokio::task::block_in_place(|| listening.wait_with_output().unwrap());
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    assert_eq!(told.matches("waiting for the next call").count(), 2, "{told}");
    assert!(!told.contains(" kbit/s "), "a line a second is for a terminal: {told}");
    let recorded: Vec<PathBuf> = fs::read_dir(file("bob")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert!(recorded.iter().all(|call| call.join("audio.opus").exists() && !call.join("video.ivf").exists()));
    drop(relay);
    fs::remove_dir_all(directory).unwrap();
}

fn room(verb: &str, directory: &Path, who: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["room", verb]).arg("--identity").arg(directory.join(format!("{who}.json")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn roster(directory: &Path, who: &str) -> Vec<serde_json::Value> {
    let output = room("roster", directory, who).arg("--json").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Looks again until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < supernode_client_testkit::PATIENCE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn programs_meet_in_a_room_and_are_told_what_to_do_there() {
    let relay = Relay::open(2);
    let directory = std::env::temp_dir().join(format!("supernode-rooms-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name);
    let identity = |who: &str| {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap())
    };
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(identity);
    fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let stay = |verb: &str, who: &str, media: &str| {
        let mut command = room(verb, &directory, who);
        command.arg("--json").arg("--invite-file").arg(file("invite")).args(["--wait-for", "3"]);
        command.arg("--audio").arg(format!("{SAMPLES}/speech-{media}.opus"));
        command.arg("--record-dir").arg(file(&format!("{who}-heard")));
        if verb != "wait" {
            command.arg("--link-file").arg(file("link"));
        }
        command
    };
    let hosting = stay("create", "alice", "a").spawn().unwrap();
    until("the room is open", || fs::read_to_string(file("link")).is_ok_and(|link| link.contains("room=")));
    let guests = ["bob", "carol"].map(|who| stay("join", who, "b").spawn().unwrap());
    until("all are here", || {
        let members = roster(&directory, "alice");
        members.len() == 3 && members.iter().all(|member| member["is_here"] == true)
    });
    until("bob hears alice speak", || {
        roster(&directory, "bob").iter().any(|member| {
            // Opus at 24 kbit/s with its headers; it pauses between words.
            member["identity"] == alice.as_str()
                && member["speaks"] == true
                && member["spoke_ms"].as_u64().is_some_and(|spoken| spoken > 0)
                && member["kbit_per_s"].as_u64().is_some_and(|rate| (5..=100).contains(&rate))
        })
    });
    let at_bobs = roster(&directory, "bob");
    let own = at_bobs.iter().find(|member| member["identity"] == bob.as_str()).unwrap();
    assert_eq!((&own["is_us"], &own["speaks"], &own["kbit_per_s"]), (&true.into(), &false.into(), &0.into()));
    for member in &at_bobs {
        assert_eq!(member["lost"], 0, "{member}");
    }

    let mut say = room("say", &directory, "alice").stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut say.stdin.take().unwrap(), b"hello\nall of you\n").unwrap();
    text(say.wait_with_output().unwrap());
    text(room("kick", &directory, "alice").arg(&carol).output().unwrap());
    let [in_bobs, in_carols] = guests;
    assert_eq!(in_carols.wait_with_output().unwrap().status.code(), Some(5), "thrown out");
    let again = stay("join", "carol", "b").output().unwrap();
    assert_eq!(again.status.code(), Some(4), "the door stays shut");
    let nobody = room("kick", &directory, "alice").arg(&carol).output().unwrap();
    assert_eq!(nobody.status.code(), Some(4));
    // As if it had gone wrong in this process: what, why, and what to do.
    let told = String::from_utf8(nobody.stderr).unwrap();
    let parts: Vec<&str> = told.lines().collect();
    let [what, why, todo] = parts[..] else { panic!("{told}") };
    assert!(what.starts_with("supernode-call: the person is not in the call"), "{told}");
    assert!(why.starts_with("  ") && todo.starts_with("  -> "), "{told}");

    // Dave waits to be invited.
    let waiting = stay("wait", "dave", "b").spawn().unwrap();
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("dave.json")).output().unwrap();
    fs::write(file("ticket"), text(ticket)).unwrap();
    until("dave is in", || {
        let invited = room("invite", &directory, "alice").arg("--ticket-file").arg(file("ticket")).output().unwrap();
        invited.status.success() && String::from_utf8_lossy(&invited.stdout).trim() == "in"
    });
    assert!(roster(&directory, "alice").iter().any(|member| member["identity"] == dave.as_str()));
    text(room("leave", &directory, "dave").output().unwrap());
    text(waiting.wait_with_output().unwrap());

    text(room("leave", &directory, "alice").output().unwrap());
    let at_alices = figures(hosting.wait_with_output().unwrap());
    text(room("leave", &directory, "bob").output().unwrap());
    let at_bobs = figures(in_bobs.wait_with_output().unwrap());
    assert_eq!((&at_alices["lines_sent"], &at_bobs["lines_received"]), (&2.into(), &2.into()));
    assert_eq!(at_bobs["undecryptable"], 0);
    let heard = at_bobs["members"].as_array().unwrap().iter().find(|member| member["identity"] == alice.as_str());
    assert!(heard.unwrap()["audio_received"].as_u64().unwrap() > 0);
    assert!(at_bobs["members"][0]["identity"] == bob.as_str() && at_bobs["members"][0]["is_us"] == true);
    let recorded = fs::read_dir(file("bob-heard")).unwrap().map(|entry| entry.unwrap().path());
    let of_alice = recorded.into_iter().find(|path| path.to_string_lossy().contains(&alice)).unwrap();
    let comparison = compare::files(Path::new(&format!("{SAMPLES}/speech-a.opus")), &of_alice).unwrap();
    assert!(comparison.headers_identical && comparison.received > 0);
    assert_eq!(comparison.identical, comparison.received);
    fs::remove_dir_all(directory).unwrap();
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_knocks_without_the_link_waits_until_somebody_has_looked() {
    let relay = Relay::open(1);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file("alice.json")).output().unwrap());
    fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let mut create = room("create", directory.path(), "alice");
    create.arg("--invite-file").arg(file("invite")).arg("--link-file").arg(file("link"));
    let hosting = create.spawn().unwrap();
    until("the room is open", || fs::read_to_string(file("link")).is_ok_and(|link| link.contains("room=")));
    let link: RoomLink = fs::read_to_string(file("link")).unwrap().trim().parse().unwrap();
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("alice.json")).output().unwrap();
    let pass = Pass::from_text(&text(ticket)).unwrap();

    let eve = Person::new();
    let (client, _events) = eve.online(&relay.invite()).await;
    let knocking =
        tokio::spawn(async move { client.join_room(&pass, link.secret.room(), RoomOptions::default()).await });
    let name = eve.public().to_text();
    let admit = || room("admit", directory.path(), "alice");
    until("she is shown", || String::from_utf8_lossy(&admit().output().unwrap().stdout).trim() == name);
    assert!(!knocking.is_finished() && roster(directory.path(), "alice").len() == 1, "and not let in");
    assert_eq!(admit().arg(Person::new().public().to_text()).output().unwrap().status.code(), Some(4));
    text(admit().arg(&name).output().unwrap());
    let call = in_time(knocking).await.unwrap().unwrap();
    assert_eq!(call.roster().len(), 2);
    text(room("leave", directory.path(), "alice").output().unwrap());
    let told = String::from_utf8(hosting.wait_with_output().unwrap().stderr).unwrap();
    assert!(told.contains("KNOCKS WITHOUT THE LINK") && told.contains(&format!("NEW IN THE ROOM: {name}")), "{told}");
}

//
#[test]
fn a_second_device_answers_for_its_person_without_their_key() {
    let relay = Relay::open(1);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let program = |arguments: &[&str], identity: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--identity").arg(file(identity));
        command
    };
    for who in ["alice", "desk"] {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap());
    }
    let request = Command::new(PROGRAM).args(["devices", "request", "--out"]).arg(file("phone.json")).output().unwrap();
    let phone = text(request);
    let delegation = text(program(&["devices", "sign"], "desk.json").arg(&phone).output().unwrap());
    text(program(&["devices", "accept"], "phone.json").arg(delegation).output().unwrap());
    let ticket = text(program(&["ticket"], "desk.json").output().unwrap());
    let none = program(&["ticket"], "phone.json").output().unwrap();
    assert!(
        !none.status.success()
            && String::from_utf8_lossy(&none.stderr).contains("on the device that certified this one")
    );

    fs::write(file("ticket"), ticket).unwrap();
    let invite = relay.invite().to_string();
    let listening = talk("listen", directory.path(), "phone", "b").env("SUPERNODE_INVITE", &invite).spawn().unwrap();
    let mut call = talk("call", directory.path(), "alice", "a");
    call.env("SUPERNODE_INVITE", &invite).arg("--ticket-file").arg(file("ticket")).args(["--seconds", "1"]);
    text(call.output().unwrap());
    text(listening.wait_with_output().unwrap());

    // Taken back: the relay hears it from the first device of theirs that is online, and turns the lost one away.
    text(program(&["devices", "revoke"], "desk.json").arg(&phone).output().unwrap());
    let list = text(program(&["devices", "list"], "desk.json").output().unwrap());
    assert!(list.lines().any(|line| line.contains(&phone) && line.contains("taken back")), "{list}");
    let mut desk = talk("listen", directory.path(), "desk", "b").env("SUPERNODE_INVITE", &invite).spawn().unwrap();
    until("the relay knows", || {
        // It does not write over what it recorded before.
        let _ = fs::remove_dir_all(file("phone"));
        let mut lost = talk("listen", directory.path(), "phone", "b");
        let mut lost = lost.env("SUPERNODE_INVITE", &invite).spawn().unwrap();
        let started = std::time::Instant::now();
        let mut ended = None;
        while ended.is_none() && started.elapsed() < std::time::Duration::from_secs(3) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            ended = lost.try_wait().unwrap();
        }
        lost.kill().unwrap();
        lost.wait().unwrap();
        ended.is_some_and(|status| status.code() == Some(3))
    });
    desk.kill().unwrap();
    desk.wait().unwrap();
}
