//! `supernode-load` as a command: what is wrong is known before a relay is asked for anything, and nothing that was measured
//! is lost.

mod remote_write;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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
        (&["calls", "--baseline", &nowhere], "cannot be read"),
        (&["calls", "--remote-write", "http://a:secret@b/write"], "must have no name and password in it"),
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
        let says_what_to_do = words(&output).contains("\n  -> ") || words(&output).contains("try '--help'");
        assert!(says_what_to_do, "{arguments:?}: {}", words(&output));
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

/// Short runs of two calls that doubt nothing but what a test wants doubted.
const SHORT: [&str; 6] =
    ["ramp_s=0.1", "warm_up_s=0.3", "linger_s=0.3", "pairs=4", "validity.lag_p99_ms_max=1000", "validity.busy_max=1.0"];

fn short(invite: &Path, more: &[&str]) -> Output {
    let set = SHORT.iter().flat_map(|value| ["--set", *value]);
    load(invite, &["calls"].into_iter().chain(set).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn invite_in(home: &Path, relay: &Relay) -> PathBuf {
    let invite = home.join("invite");
    fs::write(&invite, relay.invite().to_string()).expect("ours");
    invite
}

#[test]
fn every_exit_code_of_the_document_is_one_that_help_names_and_a_run_ends_with() {
    let document = include_str!("../../../docs/LOAD.md");
    let help = Command::new(env!("CARGO_BIN_EXE_supernode-load")).arg("--help").output().expect("the program starts");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, codes) = help.split_once("Exit codes:\n").expect("they are in the help");
    let codes: Vec<(&str, &str)> = codes.lines().filter_map(|line| line.trim().split_once("  ")).collect();
    assert_eq!(codes.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
    for (code, meaning) in codes {
        assert!(document.contains(&format!("\n| {code} | {meaning}")), "docs/LOAD.md lacks {code}: {meaning}");
    }
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = invite_in(home.path(), &relay);
    let code = |invite: &Path, more: &[&str]| {
        let output = short(invite, &[&["--set", "hold_s=1"], more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &words(&output))
    };
    let holds = code(&invite, &["--set", "slo=[\"loss < 1\"]"]);
    assert_eq!(holds.0, Some(0), "{}", holds.1);
    let fails = code(&invite, &["--set", "slo=[\"delivered > 1000000\"]"]);
    assert!(fails.0 == Some(3) && fails.1.contains("slo         FAILS: delivered > 1000000"), "{}", fails.1);
    // Nobody sends in time for this.
    let doubted = code(&invite, &["--set", "validity.lag_p99_ms_max=0"]);
    assert!(doubted.0 == Some(4) && doubted.1.contains("INVALID     the generator was the cap"), "{}", doubted.1);
    let shut = Relay::of(Setup::new(1, Door::Nobody, Limits::default()));
    let shut_out = code(&invite_in(home.path(), &shut), &[]);
    assert!(shut_out.0 == Some(1) && shut_out.1.contains("NOT_ADMITTED"), "{}", shut_out.1);
    let unknown = Command::new(env!("CARGO_BIN_EXE_supernode-load")).args(["show", "nothing"]).output();
    assert_eq!(unknown.expect("the program starts").status.code(), Some(2));
}

#[test]
fn in_stages_as_many_talk_as_each_says_and_each_is_judged() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = invite_in(home.path(), &relay);
    let stages = "stages=[{for_s=0,to=0.5},{for_s=1.5,to=0.5},{for_s=0,to=1},{for_s=1.5,to=1}]";
    let slo = "slo=[\"loss < 50%\", \"delivered_per_s > 300\"]";
    let output = short(&invite, &["--set", stages, "--set", slo, "--json"]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(result["valid"], true, "{}", result["doubts"]);
    let stages = result["stages"].as_array().expect("a list");
    assert_eq!(stages.len(), 2, "those that take no time are none: {stages:?}");
    // Four pairs of two talkers, 50 a second each.
    for (stage, expected) in stages.iter().zip([200.0, 400.0]) {
        let due = stage["due_per_s"].as_f64().expect("a rate");
        assert!((due - expected).abs() < 12.0, "{due} of {expected}: {stage}");
        assert!(stage["delay_ms"]["count"].as_u64().is_some_and(|count| count > 100), "{stage}");
    }
    assert_eq!((&stages[0]["holds"], &stages[1]["holds"]), (&false.into(), &true.into()), "{stages:?}");
    let page = home.path().join("page.html").display().to_string();
    let text = short(&invite, &["--set", "stages=[{for_s=1,to=0.5},{for_s=1,to=1}]", "--html", &page]);
    let page = fs::read_to_string(page).expect("written");
    assert!(page.contains("<h2>Stages</h2>") && page.contains("<tr><td>1.0<td>2.0<td>100 %<td>"), "{page}");
    assert!(page.contains("<line class=border"), "each chart has a line where the second stage begins");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("\nstage       1 s to 50 %: ") && text.contains("\nstage       1 s to 100 %: "), "{text}");
}

#[test]
fn a_run_whose_slo_has_not_held_for_long_enough_ends_early_and_says_so() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = invite_in(home.path(), &relay);
    let begin = Instant::now();
    let never = "slo=[\"max_delay_ms < 0.001\"]";
    let output = short(&invite, &["--set", "hold_s=120", "--set", never, "--set", "abort_after_s=0.5"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", words(&output));
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let why = "max_delay_ms < 0.001 had not held for 0.5 s";
    assert!(text.contains("ABORTED     ended after") && text.contains(why), "{text}");
    assert!(text.contains("slo         FAILS: max_delay_ms < 0.001") && !text.contains("INVALID"), "{text}");
}

#[test]
fn several_generators_measure_at_the_same_time_and_are_one_result() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let invite = invite_in(home.path(), &relay);
    let at = |name: &str| home.path().join(name).display().to_string();
    let unix_s = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let begin_at = (unix_s() + 6).to_string();
    let generate = |pairs: &str, part: &str| {
        let more = ["--set", "hold_s=2", "--set", pairs, "--begin-at", &begin_at, "--part", part, "--json"];
        let output = short(&invite, &more);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", words(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let parts = [at("one"), at("two")];
    let [one, two] = std::thread::scope(|scope| {
        let one = scope.spawn(|| generate("pairs=2", &parts[0]));
        let two = scope.spawn(|| generate("pairs=3", &parts[1]));
        [one, two].map(|run| run.join().expect("it ends"))
    });
    let program = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_supernode-load")).args(arguments).output().expect("the program starts")
    };
    let merged = program(&["merge", &parts[0], &parts[1], "--json", "--csv", &at("pieces.csv")]);
    assert!(matches!(merged.status.code(), Some(0 | 3)), "{}", words(&merged));
    let merged: serde_json::Value = serde_json::from_slice(&merged.stdout).expect("JSON");
    assert_eq!(merged["valid"], true, "{}", merged["doubts"]);
    for place in [["sessions", "planned"], ["objects", "expected"], ["objects", "delivered"], ["delay_ms", "count"]] {
        let of = |result: &serde_json::Value| result[place[0]][place[1]].as_u64().expect("a count");
        assert_eq!(of(&merged), of(&one) + of(&two), "{place:?}");
    }
    let longest = |result: &serde_json::Value| result["delay_ms"]["max"].as_f64().expect("a delay");
    assert_eq!(longest(&merged), longest(&one).max(longest(&two)));
    assert_eq!(merged["generator"]["busy"].as_array().map(Vec::len), Some(2));
    assert_eq!(merged["about"]["other_hosts"].as_array().map(Vec::len), Some(1));
    assert!(fs::read_to_string(at("pieces.csv")).expect("written").lines().count() >= 3);

    // What does not belong together is known before it is added up.
    let part: serde_json::Value = serde_json::from_str(&fs::read_to_string(at("two")).expect("written")).expect("JSON");
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut part = part.clone();
        change(&mut part);
        fs::write(at("odd"), part.to_string()).expect("ours");
        program(&["merge", &parts[0], &at("odd")])
    };
    let longer = changed(&|part| part["scenario"]["hold_s"] = 9.0.into());
    assert!(longer.status.code() == Some(2) && words(&longer).contains("its hold_s is not that of the first"));
    let newer = changed(&|part| part["form"] = 2.into());
    assert!(newer.status.code() == Some(2) && words(&newer).contains("is a part of form 2"), "{}", words(&newer));
    let later = changed(&|part| part["measured_from_unix_ms"] = (unix_s() * 1000 + 60_000).into());
    assert_eq!(later.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&later.stdout).contains("give all of them one --begin-at"));
    let late = short(&invite, &["--set", "hold_s=1", "--begin-at", &unix_s().to_string()]);
    assert!(late.status.code() == Some(1) && words(&late).contains("too late"), "{}", words(&late));
}
