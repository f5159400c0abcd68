//! The operator's commands, against a running relay.

use std::{path::Path, process::Output, time::Duration};

use supernode_proto::{
    close::CloseCode,
    control::{SessionLimits, relay_message},
    invite::Invite,
};

use crate::{Client, connect, identity_of, invite, printed, serve, supernode};

fn run(home: &Path, arguments: &[&str]) -> Output {
    supernode(home).args(arguments).output().expect("the program starts")
}

/// Data, words and exit code.
fn told(home: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = run(home, arguments);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn json(home: &Path, arguments: &[&str]) -> serde_json::Value {
    let (data, words, _) = told(home, arguments);
    serde_json::from_str(&data).unwrap_or_else(|_| panic!("{arguments:?}: {data}{words}"))
}

#[test]
fn without_a_relay_commands_say_so() {
    let home = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(serve(home.path(), &[]).terminate().0, Some(0));
    for arguments in
        [&["status"][..], &["sessions"], &["drain"], &["kick", "0-1-2"], &["top", "--json"], &["status", "--alive"]]
    {
        let (data, words, code) = told(home.path(), arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {words}");
        assert!(data.is_empty() && words.contains("no relay runs with this state directory"), "{words}");
    }
    let nowhere = home.path().join("nowhere");
    for command in ["status", "sessions", "drain", "upgrade"] {
        let (_, words, code) = told(home.path(), &[command, "--state-dir", nowhere.to_str().expect("text")]);
        assert_eq!(code, Some(3), "{command}: {words}");
        assert!(words.contains("nowhere: no relay runs with this state directory"), "{words}");
    }
}

#[tokio::test]
async fn sessions_are_listed_without_addresses_and_with_short_names_unless_asked() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let link = relay.invite();
    let mut client = connect(home.path(), &link, 1, link.token.as_deref()).await;
    assert!(matches!(client.next().await, Ok(relay_message::Body::Welcome(_))));
    let (identity, address) = (identity_of(1).to_text(), client.endpoint.local_addr().expect("bound").to_string());

    for arguments in [&["sessions"][..], &["sessions", "--json"]] {
        let (data, _, code) = told(home.path(), arguments);
        assert_eq!(code, Some(0));
        assert!(data.contains(&identity[..14]) && !data.contains(&identity), "{data}");
        assert!(!data.contains(&address), "{data}");
    }
    for arguments in [&["sessions", "--full", "--addresses"][..], &["sessions", "--full", "--addresses", "--json"]] {
        let (data, _, _) = told(home.path(), arguments);
        assert!(data.contains(&identity) && data.contains(&address), "{data}");
    }
    let listed = json(home.path(), &["sessions", "--json"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0]["rooms"], 0);
    let (data, _, code) = told(home.path(), &["status"]);
    assert!(code == Some(0) && data.contains("sessions  1 of"), "{data}");
    assert!(json(home.path(), &["top", "--json"])["bits_in"].is_number());
    assert_eq!(relay.terminate().0, Some(0));
}

#[tokio::test]
async fn who_is_kicked_may_come_back_and_who_is_revoked_may_not() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let link = relay.invite();
    let identity = identity_of(1).to_text();
    let come = async |secret| {
        let mut client = connect(home.path(), &link, secret, link.token.as_deref()).await;
        let first = client.next().await;
        (client, first)
    };
    let (mut client, welcome) = come(1).await;
    assert!(matches!(welcome, Ok(relay_message::Body::Welcome(_))));
    let listed = json(home.path(), &["sessions", "--json"]);
    let name = listed[0]["session"].as_str().expect("a name").to_owned();
    assert_eq!(json(home.path(), &["kick", &name, "--json"])["sessions"], 1);
    assert_eq!(client.next().await.err(), Some(CloseCode::REMOVED));
    assert_eq!(run(home.path(), &["kick", &name]).status.code(), Some(4), "nobody of that name any more");
    assert_eq!(run(home.path(), &["kick", "somebody"]).status.code(), Some(1));

    let (mut client, welcome) = come(1).await;
    assert!(welcome.is_ok(), "a kick is not for ever");
    let (_, words, code) = told(home.path(), &["revoke", &identity]);
    assert!(code == Some(0) && words.contains("1 sessions ended"), "{words}");
    assert_eq!(client.next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(come(1).await.1.err(), Some(CloseCode::NOT_ADMITTED));
    assert!(come(2).await.1.is_ok(), "nobody else");
    assert_eq!(run(home.path(), &["revoke", &identity]).status.code(), Some(4), "it was revoked before");

    // The token, too: everybody who came by it goes.
    let (mut other, welcome) = come(3).await;
    assert!(welcome.is_ok());
    assert_eq!(json(home.path(), &["revoke", &link.to_string(), "--json"])["changed"], true);
    assert_eq!(other.next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(come(3).await.1.err(), Some(CloseCode::NOT_ADMITTED));
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0));
    assert!(!log.contains(&identity[6..20]), "an identity is in the log: {log}");

    // It lasts, and ends when the operator says so, with or without a relay that runs.
    assert_eq!(run(home.path(), &["revoke", "--undo", &identity]).status.code(), Some(0));
    let relay = serve(home.path(), &[]);
    let invited = relay.invite();
    for (secret, token, admitted) in
        [(1, invited.token.as_deref(), true), (3, invited.token.as_deref(), true), (3, link.token.as_deref(), false)]
    {
        let mut client = connect(home.path(), &invited, secret, token).await;
        assert_eq!(client.next().await.is_ok(), admitted, "{secret}");
    }
    assert_eq!(relay.terminate().0, Some(0));
}

fn link(home: &Path, arguments: &[&str]) -> Invite {
    let made = json(home, &[&["invite", "--json"], arguments].concat());
    made["invite"].as_str().expect("a link").parse().expect("a valid one")
}

/// Comes with a link: what is granted, or why nothing is.
async fn come(home: &Path, link: &Invite, secret: u8) -> Result<(Client, SessionLimits), CloseCode> {
    let mut client = connect(home, link, secret, link.token.as_deref()).await;
    match client.next().await? {
        relay_message::Body::Welcome(welcome) => Ok((client, welcome.limits.expect("limits"))),
        other => panic!("{other:?}"),
    }
}

//
#[tokio::test]
async fn a_link_for_one_use_lets_one_device_in_and_no_other_also_after_a_restart() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let once = link(home.path(), &["--once"]);
    let first = come(home.path(), &once, 1).await.expect("its first use");
    assert_eq!(come(home.path(), &once, 2).await.err(), Some(CloseCode::TOKEN_SPENT));
    drop(first);
    assert!(come(home.path(), &once, 1).await.is_ok(), "it may come back");
    assert_eq!(relay.terminate().0, Some(0));
    let relay = serve(home.path(), &[]);
    let once = Invite { port: relay.invite().port, ..once };
    assert_eq!(come(home.path(), &once, 2).await.err(), Some(CloseCode::TOKEN_SPENT), "a restart does not refill it");
    assert!(come(home.path(), &once, 1).await.is_ok());
    assert_eq!(relay.terminate().0, Some(0));
}

//
#[tokio::test]
async fn a_link_grants_the_limits_of_its_class_as_long_as_there_is_one_of_that_name() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("relay.toml");
    let configure = |text: &str| std::fs::write(&file, text).expect("ours");
    configure("[admission]\nclasses = [\"guest rooms_max=1\"]\n");
    let relay = serve(home.path(), &["--config", file.to_str().expect("text")]);
    let (mut guest, granted) = come(home.path(), &link(home.path(), &["--class", "guest"]), 1).await.expect("admitted");
    assert_eq!(granted.rooms_max, 1);
    let (_everybody, granted) = come(home.path(), &link(home.path(), &[]), 2).await.expect("admitted");
    assert_eq!(granted.rooms_max, 8);
    let (_, words, code) = told(home.path(), &["invite", "--class", "gest"]);
    assert!(code == Some(1) && words.contains("it has: guest"), "{words}");

    let orphan = link(home.path(), &["--class", "guest"]);
    configure("[admission]\nclasses = [\"visitor rooms_max=1\"]\n");
    assert_eq!(guest.next().await.err(), Some(CloseCode::UNKNOWN_CLASS));
    assert_eq!(come(home.path(), &orphan, 1).await.err(), Some(CloseCode::UNKNOWN_CLASS));
    assert_eq!(relay.terminate().0, Some(0));
}

//
#[tokio::test]
async fn after_a_rotation_links_of_both_keys_are_good_until_the_old_one_is_given_no_more_time() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let old = link(home.path(), &[]);
    assert_eq!(run(home.path(), &["rotate", "admission-key", "--keep-days", "7"]).status.code(), Some(0));
    let new = link(home.path(), &[]);
    let begin = std::time::Instant::now();
    while come(home.path(), &new, 1).await.is_err() {
        assert!(begin.elapsed() < crate::PATIENCE, "the running relay does not follow");
    }
    let (mut client, _) = come(home.path(), &old, 2).await.expect("seven days more");
    assert_eq!(run(home.path(), &["rotate", "admission-key", "--keep-days", "0"]).status.code(), Some(0));
    assert_eq!(client.next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(come(home.path(), &old, 2).await.err(), Some(CloseCode::NOT_ADMITTED));
    assert!(come(home.path(), &link(home.path(), &[]), 2).await.is_ok());
    assert_eq!(relay.terminate().0, Some(0));
}

//
#[tokio::test]
async fn a_running_relay_shows_a_new_key_and_what_was_made_for_the_old_pin_still_lets_in() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let old = link(home.path(), &[]);
    let (mut stays, _) = come(home.path(), &old, 1).await.expect("admitted");
    let rotated = json(home.path(), &["rotate", "relay-key", "--json"]);
    let pin = rotated["pin"].as_str().expect("a pin").to_owned();
    let begin = std::time::Instant::now();
    let new = loop {
        let new = link(home.path(), &[]);
        if new.to_string().contains(&pin) {
            break new;
        }
        assert!(begin.elapsed() < crate::PATIENCE, "the running relay does not follow: {new}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_ne!(new.pin, old.pin);
    // `connect` takes the certificate that the state directory has now, and no other. The shards follow within a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(come(home.path(), &new, 2).await.is_ok());
    let of_old_pin = Invite { token: old.token.clone(), ..new };
    assert!(come(home.path(), &of_old_pin, 3).await.is_ok(), "a token for the old pin");
    assert!(tokio::time::timeout(Duration::from_millis(100), stays.next()).await.is_err(), "nobody is cut off");
    assert_eq!(relay.terminate().0, Some(0));
    let relay = serve(home.path(), &[]);
    assert_eq!(relay.invite().pin, of_old_pin.pin, "also after a restart");
    assert_eq!(relay.terminate().0, Some(0));
}

#[tokio::test]
async fn a_drain_by_command_shows_in_readiness_and_ends_the_relay() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let mut client = connect(home.path(), &relay.invite(), 1, None).await;
    assert!(matches!(client.next().await, Ok(relay_message::Body::Welcome(_))));
    assert!(relay.get("/readyz").starts_with("HTTP/1.0 200 "));
    let (data, words, code) = told(home.path(), &["drain", "--patience-s", "30"]);
    assert!(code == Some(0) && data.is_empty() && words.contains("1 sessions"), "{words}");
    assert!(matches!(client.next().await, Ok(relay_message::Body::GoAway(_))));
    assert!(relay.get("/readyz").starts_with("HTTP/1.0 503 "));
    assert!(relay.get("/livez").starts_with("HTTP/1.0 200 "));
    assert_eq!(run(home.path(), &["status"]).status.code(), Some(4), "it takes nobody new");
    assert_eq!(run(home.path(), &["status", "--alive"]).status.code(), Some(0), "it lives");
    assert_eq!(run(home.path(), &["drain"]).status.code(), Some(4), "it drains already");
    // Kubernetes and systemd send this when the drain's command has returned.
    relay.signal();
    assert!(tokio::time::timeout(Duration::from_millis(300), client.next()).await.is_err(), "nobody is cut off");
    client.connection.close(0u8.into(), b"");
    let (code, log) = relay.wait();
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn the_doctor_finds_a_relay_that_answers_and_one_that_does_not() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let findings = json(home.path(), &["doctor", "--json"]);
    let verdict = |check: &str| {
        let found = findings.as_array().expect("a list").iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check} is not in {findings}"))["verdict"].as_str().expect("a word").to_owned()
    };
    for check in ["configuration", "certificate", "relay", "keys", "UDP port", "as a client"] {
        assert_eq!(verdict(check), "good", "{check}: {findings}");
    }
    for check in ["clock", "file limit", "GSO", "GRO", "steering", "socket buffers"] {
        assert_ne!(verdict(check), "bad", "{check}: {findings}");
    }
    for check in ["the relay's GSO", "the relay's GRO", "the relay's steering", "the relay's buffers"] {
        assert_ne!(verdict(check), "bad", "{check}: {findings}");
    }
    let limit = findings.as_array().expect("a list").iter().find(|finding| finding["check"] == "file limit");
    let limit = limit.and_then(|finding| finding["found"].as_str()).expect("it was found");
    assert!(limit.ends_with("for the running relay"), "{limit}");
    let status = json(home.path(), &["status", "--json"]);
    assert!(
        status["segments_out_max"].as_u64() >= Some(1) && status["segments_in_max"].as_u64() >= Some(1),
        "{status}"
    );
    assert!(status["steering"].is_boolean(), "{status}");
    assert_eq!(run(home.path(), &["doctor"]).status.code(), Some(0));
    assert_eq!(relay.terminate().0, Some(0));
    let (data, words, code) = told(home.path(), &["doctor"]);
    assert_eq!(code, Some(4), "{words}");
    assert!(data.contains("BAD") && data.contains("no relay runs with this state directory"), "{data}");
}

#[test]
fn the_doctor_tries_a_relay_elsewhere_and_finds_broken_files_instead_of_giving_up() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open"]);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let find = |home: &Path, arguments: &[&str], check: &str| {
        let output = run(home, &[&["doctor", "--json"], arguments].concat());
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        let found = findings.as_array().expect("a list").iter().find(|finding| finding["check"] == check);
        (output.status.code(), found.map(|finding| finding["verdict"].as_str().expect("a word").to_owned()))
    };
    let port = "as a client";
    let good = Some("good".to_owned());
    assert_eq!(find(elsewhere.path(), &["--host", relay.text("listen")], port), (Some(0), good.clone()));
    let mut without_a_home = supernode(elsewhere.path());
    without_a_home.env_remove("XDG_STATE_HOME").env_remove("HOME").args(["doctor", "--host", relay.text("listen")]);
    assert_eq!(without_a_home.output().expect("the program starts").status.code(), Some(0));
    let bad = (Some(4), Some("bad".to_owned()));
    assert_eq!(find(elsewhere.path(), &[], "state directory"), bad);

    // With a link: by its key, and in by its token.
    let tokens = tempfile::tempdir().expect("a temporary directory");
    let strict = serve(tokens.path(), &[]);
    let file = elsewhere.path().join("invite");
    let with = |link: &Invite| {
        std::fs::write(&file, link.to_string()).expect("ours");
        let output = run(elsewhere.path(), &["doctor", "--invite-file", file.to_str().expect("text")]);
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let link = strict.invite();
    let (code, found) = with(&link);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("its key is the link's") && found.contains("let in; this machine's clock is 0."), "{found}");
    let bundle = format!("UDP 127.0.0.1:{}: of a bundle of 16 packets of ", link.port);
    let (_, bundle) = found.split_once(&bundle).unwrap_or_else(|| panic!("{found}"));
    let (bytes, rest) = bundle.split_once(' ').expect("a size");
    let larger = bytes.parse::<u16>().is_ok_and(|bytes| (1201..=1452).contains(&bytes));
    assert!(larger && rest.starts_with("bytes, all arrived\n"), "in the size that the connection has found: {found}");
    let (code, found) = with(&Invite { pin: relay.invite().pin, ..link.clone() });
    assert!(code == Some(4) && found.contains("its key is not the one in the link"), "{found}");
    let (code, found) = with(&Invite { token: Some("a.b.c".to_owned()), ..link.clone() });
    assert!(code == Some(4) && found.contains("not let in: NOT_ADMITTED"), "{found}");
    let (code, found) = with(&Invite { host: "no-such-name.invalid".to_owned(), ..link.clone() });
    assert!(code == Some(4) && found.contains("no-such-name.invalid: cannot be resolved"), "{found}");
    let once = printed(&invite(tokens.path(), &["--once"]));
    assert_eq!(with(&once).0, Some(0));
    assert_eq!(strict.terminate().0, Some(0));
    let begin = std::time::Instant::now();
    let (code, found) = with(&link);
    assert!(code == Some(4) && found.contains("refused at once (ICMP)"), "{found}");
    assert!(begin.elapsed() < Duration::from_secs(4), "an ICMP refusal is no silence");

    let config = elsewhere.path().join("relay.toml");
    std::fs::write(&config, "[limits]\nbogus = 1\n").expect("ours");
    let named = ["--config", config.to_str().expect("text")];
    assert_eq!(find(home.path(), &named, "configuration"), bad);
    assert_eq!(find(home.path(), &named, "relay").1, good, "the other checks go on");
    std::fs::write(home.path().join("supernode/link"), "no link").expect("ours");
    assert_eq!(find(home.path(), &[], "link"), bad);
    assert_eq!(find(home.path(), &[], "relay").1, good, "the other checks go on");
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_drain_by_command_is_as_patient_as_the_running_relay_is_configured_to_be() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &["--open", "--drain-patience-s", "7"]);
    let (_, words, code) = told(home.path(), &["drain"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("at most 7 s"), "{words}");
    let (code, log) = relay.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("patience_s=7"), "{log}");
}

#[test]
fn help_manual_and_completions_come_from_one_definition() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (short, _, _) = told(home.path(), &["-h"]);
    let (long, _, _) = told(home.path(), &["--help"]);
    assert!(long.len() > short.len(), "a short and a long form");
    let (manual, _, _) = told(home.path(), &["man"]);
    let (script, _, _) = told(home.path(), &["completions", "bash"]);
    let commands: Vec<&str> = short
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 10, "{short}");
    for command in commands {
        assert!(manual.contains(&command.replace('-', "\\-")), "{command} is not in the manual");
        assert!(script.contains(command), "{command} is not completed");
        if command != "help" {
            let (page, words, code) = told(home.path(), &["man", command]);
            assert!(code == Some(0) && page.contains(".SH NAME"), "{command}: {words}");
        }
    }
    for line in ["0  done", "3  no relay runs", "4  the answer is no"] {
        assert!(long.contains(line), "{long}");
    }
    assert_eq!(run(home.path(), &["man", "brew"]).status.code(), Some(1));
}

#[tokio::test]
async fn an_invite_with_a_label_is_listed_warned_of_and_taken_back_and_one_without_leaves_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let plain = run(home.path(), &["invite"]);
    let words = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(words.contains("good for whoever has it until 20") && words.contains("(30 days)"), "{words}");
    assert!(!home.path().join("supernode/invites").exists(), "nothing is kept of it");
    let (data, words, code) = told(home.path(), &["invites", "list"]);
    assert!(code == Some(0) && data.is_empty() && words.contains("no invite has a label"), "{words}");

    let labelled = link(home.path(), &["--label", "the choir", "--days", "5"]);
    let (_, words, code) = told(home.path(), &["invite", "--label", "the choir"]);
    assert!(code == Some(1) && words.contains("\"the choir\""), "{words}");
    let (table, _, _) = told(home.path(), &["invites", "list"]);
    assert!(table.contains("the choir  20") && table.contains("anybody     ends soon"), "{table}");
    let (found, _, _) = told(home.path(), &["doctor"]);
    assert!(found.contains("1 end within a week, the first, \"the choir\", on 20"), "{found}");

    let (mut inside, _) = come(home.path(), &labelled, 1).await.expect("a good link");
    let (_, words, code) = told(home.path(), &["invites", "revoke", "the tenors"]);
    assert!(code == Some(1) && words.contains("there are: \"the choir\""), "{words}");
    let (_, words, code) = told(home.path(), &["invites", "revoke", "the choir"]);
    assert!(code == Some(0) && words.contains("1 sessions ended"), "{words}");
    assert_eq!(inside.next().await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(come(home.path(), &labelled, 1).await.err(), Some(CloseCode::NOT_ADMITTED));
    assert_eq!(json(home.path(), &["invites", "list", "--json"])[0]["standing"], "taken back");
    assert_eq!(run(home.path(), &["invites", "revoke", "the choir"]).status.code(), Some(4));
    let (code, log) = relay.terminate();
    assert!(code == Some(0) && !log.contains("the choir"), "a label is in the log: {log}");
}

#[tokio::test]
async fn one_client_is_followed_while_somebody_looks_and_nothing_of_it_is_in_the_log() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let relay = serve(home.path(), &[]);
    let link = relay.invite();
    let identity = identity_of(1).to_text();
    let mut follow = supernode(home.path());
    follow.args(["follow", &identity, "--seconds", "8"]).stdout(std::process::Stdio::piped());
    let follow = follow.stderr(std::process::Stdio::piped()).spawn().expect("the program starts");
    // Until it has asked for the first time nobody is followed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        connect(home.path(), &link, 1, Some("nonsense")).await.next().await.err(),
        Some(CloseCode::NOT_ADMITTED)
    );
    assert!(come(home.path(), &link, 2).await.is_ok(), "somebody else");
    let (inside, _) = come(home.path(), &link, 1).await.expect("a good link");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let address = inside.endpoint.local_addr().expect("bound").to_string();
    drop(inside);
    let followed = follow.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&followed.stdout);
    let device = device_of(1);
    assert!(told.contains(&format!("device {}... was not let in: NOT_ADMITTED", &device[..14])), "{told}");
    assert!(told.contains("was let in") && told.contains(&format!("from {address}, in 0 rooms")), "{told}");
    assert!(!told.contains(&device_of(2)[..14]), "somebody else: {told}");
    assert_eq!(run(home.path(), &["follow", "somebody"]).status.code(), Some(1));
    let (code, log) = relay.terminate();
    assert!(code == Some(0) && !log.contains(&identity[6..20]) && !log.contains(&device[7..14]), "{log}");
}

fn device_of(secret: u8) -> String {
    crate::device(secret).public().to_text()
}
