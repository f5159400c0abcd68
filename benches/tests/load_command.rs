//! `supernode-load` as a command: what is wrong is known before a relay is asked for anything, and nothing that was measured
//! is lost.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use supernode_server::core::limits::Limits;
use supernode_testkit::{Door, Relay, Setup};

fn load(invite: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supernode-load"));
    command.arg("run").args(arguments).arg("--invite-file").arg(invite).env_remove("SUPERNODE_INVITE");
    command.output().expect("the program starts")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_be_is_said_at_once_as_wrong_usage() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = home.path().join("invite");
    // Nobody is there: whoever began to measure would take half a minute to find out.
    fs::write(&invite, "supernode://127.0.0.1:9/").expect("ours");
    let nowhere = home.path().join("nowhere/result.html").display().to_string();
    for (arguments, expected) in [
        (&["calls", "--html", &nowhere][..], "nowhere/result.html"),
        (&["calls", "--csv", &nowhere], "nowhere/result.html"),
        (&["calls", "--baseline", &nowhere], "--baseline: cannot read"),
        (&["calls", "--relay-pid", "1073741823"], "--relay-pid 1073741823: there is no such process"),
        (
            &["calls", "--metrics-url", "http://127.0.0.1:9/metrics"],
            "--metrics-url http://127.0.0.1:9/metrics: nothing",
        ),
        (&["calls", "--metrics-url", "https://x"], "must begin with http://"),
        (&["calls", "--set", "pears=3"], "pears"),
        (&["calls", "--set", "pairs=0"], "pairs"),
        (&["no-such-scenario"], "no-such-scenario"),
    ] {
        let begin = Instant::now();
        let output = load(&invite, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(expected), "{arguments:?}: {}", words(&output));
        assert!(output.stdout.is_empty() && begin.elapsed() < Duration::from_secs(10), "{arguments:?}");
    }
}

#[test]
fn a_result_says_when_where_and_by_what_and_can_be_compared() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| home.path().join(name).display().to_string();
    let link = relay.invite();
    fs::write(at("invite"), link.to_string()).expect("ours");
    let quick = ["ramp_s=0.1", "warm_up_s=0.3", "hold_s=2", "linger_s=0.3", "pairs=2", "validity.lag_p99_ms_max=1000"];
    let set: Vec<&str> =
        quick.iter().flat_map(|value| ["--set", *value]).chain(["--set", "validity.busy_max=1.0"]).collect();
    let run = |more: &[&str]| load(home.path().join("invite").as_path(), &[&["calls"], &set[..], more].concat());
    let pid = std::process::id().to_string();
    let output = run(&["--json", "--html", &at("page.html"), "--csv", &at("pieces.csv"), "--relay-pid", &pid]);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", words(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let about = &result["about"];
    assert!(about["begun_unix_s"].as_u64().is_some_and(|at| at > 1_700_000_000), "{about}");
    assert!(about["host"].is_string() && about["kernel"].is_string(), "{about}");
    assert!(about["command_line"].as_array().is_some_and(|line| line.iter().any(|word| word == "pairs=2")), "{about}");
    let piece = &result["intervals"][0];
    assert!(piece["loss"] == 0.0 && piece["relay_busy"].is_f64() && piece["generator_busy"].is_f64(), "{piece}");
    let page = fs::read_to_string(at("page.html")).expect("written");
    assert!(page.contains("CPU") && page.contains("Lost") && !page.contains(": null"), "no field that says nothing");
    let pieces = fs::read_to_string(at("pieces.csv")).expect("written");
    assert!(pieces.starts_with("at_s,due_per_s,") && pieces.lines().count() >= 3, "{pieces}");
    assert!(pieces.lines().all(|line| line.split(',').count() == 9), "{pieces}");

    fs::write(at("before.json"), &output.stdout).expect("ours");
    let again = run(&["--baseline", &at("before.json")]);
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(text.starts_with("run         20") && text.contains("$ "), "{text}");
    assert!(text.contains("compared with the baseline") && text.contains("p99_delay_ms"), "{text}");
}

#[test]
fn the_knee_of_a_relay_that_takes_ten_sessions_is_five_calls() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits { sessions_max: 10, ..Limits::default() }));
    let home = tempfile::tempdir().expect("a temporary directory");
    let link = relay.invite();
    let invite = home.path().join("invite");
    fs::write(&invite, link.to_string()).expect("ours");
    let knee = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supernode-load"));
        command.args(["knee", "calls", "--key", "pairs", "--invite-file"]).arg(&invite);
        for value in ["ramp_s=0.1", "warm_up_s=0.3", "hold_s=0.6", "linger_s=0.3", "validity.lag_p99_ms_max=1000"] {
            command.args(["--set", value]);
        }
        command.args(["--set", "validity.busy_max=1.0", "--set", "slo=[\"loss == 0\"]"]).args(more);
        command.output().expect("the program starts")
    };
    let found = knee(&["--from", "2", "--to", "40"]);
    let text = String::from_utf8_lossy(&found.stdout);
    assert_eq!(found.status.code(), Some(0), "{text}{}", words(&found));
    assert!(text.ends_with("pairs = 5 holds, 6 does not\n"), "{text}");
    assert_eq!(knee(&["--from", "20", "--to", "40"]).status.code(), Some(3));
    assert_eq!(knee(&["--from", "20", "--to", "10"]).status.code(), Some(2));
    assert_eq!(knee(&["--to", "10", "--json"]).status.code(), Some(2));
}
