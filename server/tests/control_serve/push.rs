//! Waking people, as the operator of the program meets it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use supernode_proto::control::{
    SetPushEndpoint, TakeKeyPackages, client_message::Body as Request, relay_message::Body,
};
use supernode_testkit::{Client, Person, PushService, eventually};

use crate::{Relay, serve_with, supernode};

/// A relay that may wake people by this service, and trusts its authority.
fn start(home: &Path, service: &PushService) -> Relay {
    let (configuration, authorities) = (home.join("relay.toml"), home.join("authorities.pem"));
    fs::write(&authorities, &service.authority_pem).expect("ours");
    let text = format!("[push]\ncontact = \"operator@relay.example\"\nhosts = [\"{}\"]\n", service.host());
    fs::write(&configuration, text).expect("ours");
    let arguments = ["--listen", "127.0.0.1:0", "--open", "--config", configuration.to_str().expect("text")];
    serve_with(trusting(home), &arguments)
}

fn trusting(home: &Path) -> Command {
    let mut program = supernode(home);
    program.env("SSL_CERT_FILE", home.join("authorities.pem"));
    program
}

async fn connect(relay: &Relay, person: &Person) -> Client {
    let invite = relay.invite();
    Client::connect(relay.text("listen").parse().expect("an address"), person, invite.pin.expect("a pin")).await
}

async fn away(relay: &Relay, person: &Person, endpoint: String) {
    let mut client = connect(relay, person).await;
    client.done(Request::SetPushEndpoint(SetPushEndpoint { endpoint })).await;
    client.close();
    eventually("the page is closed", || relay.get("/metrics").contains("supernode_sessions 0\n")).await;
}

async fn rings_in_vain(caller: &mut Client, callee: &Person) {
    let take = TakeKeyPackages { ticket: callee.open_ticket(), ..TakeKeyPackages::default() };
    assert!(matches!(caller.ask(Request::TakeKeyPackages(take)).await, Body::Refused(_)));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn the_program_wakes_people_by_a_key_that_stays_and_forgets_with_its_end_where_they_are() {
    let home = tempfile::tempdir().expect("a directory");
    let mut service = PushService::start().await;
    let (alice, bob) = (Person::new(), Person::new());
    let relay = start(home.path(), &service);
    let key_file = home.path().join("supernode/push-key.pem");
    assert_eq!(fs::metadata(&key_file).expect("made").permissions().mode() & 0o777, 0o600);
    away(&relay, &alice, service.endpoint("alice")).await;
    let mut caller = connect(&relay, &bob).await;
    rings_in_vain(&mut caller, &alice).await;
    let first = service.next().await;
    assert_eq!((&*first.whom, &*first.contact), ("alice", "mailto:operator@relay.example"));
    let counted = || {
        let metrics = relay.get("/metrics");
        metrics.contains("supernode_pushes_total{outcome=\"sent\"} 1\n")
            && metrics.contains("supernode_push_endpoints 1\n")
    };
    eventually("it is counted", counted).await;

    let doctor = |configuration: &str| {
        let mut program = trusting(home.path());
        let output = program.args(["doctor", "--json", "--config", configuration]).output().expect("it starts");
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("findings");
        let found = findings.as_array().expect("a list").iter().find(|finding| finding["check"] == "push services");
        found.map(|finding| finding["verdict"].as_str().expect("a word").to_owned())
    };
    let configuration = home.path().join("relay.toml");
    let configuration = configuration.to_str().expect("text");
    assert_eq!(doctor(configuration).as_deref(), Some("good"));

    caller.close();
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("/push/"), "no line says where anybody is: {log}");
    let on_disk = || fs::read_dir(home.path().join("supernode")).expect("ours").flatten();
    let is_named =
        |entry: fs::DirEntry| fs::read(entry.path()).unwrap_or_default().windows(6).any(|six| six == b"/push/");
    assert!(on_disk().count() > 5 && !on_disk().any(is_named), "nor does a file");

    let relay = start(home.path(), &service);
    let mut caller = connect(&relay, &bob).await;
    rings_in_vain(&mut caller, &alice).await;
    assert!(service.is_left_alone().await, "it knows nobody");
    caller.close();
    away(&relay, &alice, service.endpoint("alice")).await;
    let mut caller = connect(&relay, &bob).await;
    rings_in_vain(&mut caller, &alice).await;
    assert_eq!(service.next().await, first, "by the same key, for which her page has subscribed");
    caller.close();
    assert_eq!(relay.terminate().0, Some(0));

    drop(service);
    fs::write(configuration, "[push]\ncontact = \"a@b\"\nhosts = [\"127.0.0.1:1\"]\n").expect("ours");
    assert_eq!(doctor(configuration).as_deref(), Some("bad"));
    fs::write(configuration, "").expect("ours");
    assert_eq!(doctor(configuration), None, "where nobody is woken");
}
