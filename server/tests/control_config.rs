//! Configuration: what each layer says, what cannot be, and the documents that are written from the same table.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use supernode_server::control::config::{
    ConfigError, Flag, Loaded, Origin, Sources,
    key::{Kind, Setting},
    keys::{self, KEYS},
    memory::Machine,
    reference,
};

/// Loads a file of this text under this environment and these options.
fn load(text: &str, environment: &[(&str, &str)], flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("relay.toml");
    fs::write(&path, text).expect("ours");
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { file: Some(path), file_may_lack: false, environment, flags, machine: None }.load()
}

#[test]
fn defaults_follow_the_memory_and_what_is_set_wins() {
    let machine = Machine { memory_bytes: 512 << 20, cores: 2 };
    let environment = BTreeMap::from([("SUPERNODE__LIMITS__SESSIONS_MAX".to_owned(), "77".to_owned())]);
    let sources = Sources { environment, machine: Some(machine), ..Sources::default() };
    let loaded = sources.load().expect("valid");
    let (queues, origin) = setting(&loaded, "limits.relay_queue_bytes_max");
    assert_eq!(
        (queues, origin.to_string()),
        (Some(Setting::Integer(24_403_223)), "default for 512 MiB of memory".to_owned())
    );
    assert_eq!(setting(&loaded, "limits.sessions_max").0, Some(Setting::Integer(77)));
    assert_eq!(setting(&loaded, "limits.rooms_max").1, Origin::Default);
}

/// What is wrong with a file of this text, without the directory that the file is in.
fn problems(text: &str) -> Vec<String> {
    match load(text, &[], Vec::new()) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { problems }) => problems
            .iter()
            .map(|problem| {
                let text = problem.to_string();
                text.rsplit_once("relay.toml").map_or(text.clone(), |(_, rest)| format!("relay.toml{rest}"))
            })
            .collect(),
        Err(other) => vec![other.to_string()],
    }
}

fn setting(loaded: &Loaded, path: &str) -> (Option<Setting>, Origin) {
    let key = keys::find(path).expect(path);
    (key.get(&loaded.config), loaded.origin(key).clone())
}

#[test]
fn defaults_yield_to_the_file_the_file_to_the_environment_and_that_to_options() {
    let file = "[limits]\nrooms_max = 1\ntracks_max = 2\nwatches_max = 3\n";
    let environment =
        [("SUPERNODE__LIMITS__TRACKS_MAX", "20"), ("SUPERNODE__LIMITS__WATCHES_MAX", "30"), ("HOME", "/")];
    let flags = vec![Flag { flag: "--watches", path: "limits.watches_max", value: "300".to_owned() }];
    let loaded = load(file, &environment, flags).expect("valid");
    let number = |path| match setting(&loaded, path) {
        (Some(Setting::Integer(number)), origin) => (number, origin),
        other => panic!("{other:?}"),
    };
    assert_eq!(number("limits.subscriptions_max"), (1024, Origin::Default));
    assert!(matches!(number("limits.rooms_max"), (1, Origin::File(path)) if path.ends_with("relay.toml")));
    let variable = Origin::Environment("SUPERNODE__LIMITS__TRACKS_MAX".to_owned());
    assert_eq!(number("limits.tracks_max"), (20, variable));
    assert_eq!(number("limits.watches_max"), (300, Origin::Flag("--watches")));
    assert_eq!(loaded.config.limits.watches_max, 300);
    let text = reference::effective(&reference::rows(&loaded));
    assert!(text.lines().any(|line| line.starts_with("limits.watches_max = 300 ") && line.ends_with("# --watches")));
    assert_eq!(reference::effective_json(&reference::rows(&loaded))["limits.tracks_max"]["value"], 20);
}

#[test]
fn what_is_in_effect_is_a_configuration_itself() {
    let loaded = load("[relay]\nlisten = \"127.0.0.1:1\"\n[log]\nfilter = \"warn\"\n", &[], Vec::new()).expect("valid");
    let again = load(&reference::effective(&reference::rows(&loaded)), &[], Vec::new()).expect("valid");
    assert!(loaded.changed(&again).is_empty());
}

#[test]
fn what_cannot_be_is_named_with_its_bound_and_the_key_that_was_meant() {
    for (text, expected) in [
        ("[limits]\nroom_max = 4", "relay.toml: limits.room_max: unknown key (did you mean limits.rooms_max?)"),
        ("[limit]\nrooms_max = 4", "relay.toml: limit.rooms_max: unknown key (did you mean limits.rooms_max?)"),
        ("[relay]\nrooms_max = 4", "relay.toml: relay.rooms_max: unknown key (did you mean limits.rooms_max?)"),
        ("zzz = 1", "relay.toml: zzz: unknown key"),
        ("[zzz]", "relay.toml: zzz: unknown key"),
        ("limits = 5", "relay.toml: limits: is a section, not a key"),
        ("[limits]\nrooms_max = 0", "relay.toml: limits.rooms_max = 0: must be a whole number from 1 to 1000 (rooms)"),
        (
            "[limits]\nrooms_max = -1",
            "relay.toml: limits.rooms_max = -1: must be a whole number from 1 to 1000 (rooms)",
        ),
        (
            "[limits]\nrooms_max = \"4\"",
            "relay.toml: limits.rooms_max = \"4\": must be a whole number from 1 to 1000 (rooms)",
        ),
        (
            "[limits]\nrooms_max = 1.5",
            "relay.toml: limits.rooms_max = 1.5: must be a whole number from 1 to 1000 (rooms)",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:9464\"",
            "relay.toml: admin.listen = \"0.0.0.0:9464\": must be IP:PORT on a loopback address: the admin port asks for no \
             password",
        ),
        (
            "[tls]\nmode = \"files\"\ncertificate = \"/c\"",
            "relay.toml: tls.key = nothing: must be set (tls.mode = \"files\" needs it)",
        ),
        (
            "[tls]\nkey = \"/k\"",
            "relay.toml: tls.key = \"/k\": does nothing while tls.mode = \"self-signed\" (it belongs to tls.mode = \"files\")",
        ),
        (
            "[push]\nhosts = [\"push.example\"]",
            "relay.toml: push.hosts = [\"push.example\"]: does nothing while push.contact = nothing (push services want a \
             contact)",
        ),
        (
            "[push]\ncontact = \"a@b\"\nhosts = [\"https://push.example/\"]",
            "relay.toml: push.hosts = [\"https://push.example/\"]: must be a list of at most 64, each HOST, HOST:PORT or \
             *.HOST",
        ),
        ("[push]\ncontact = \"mailto:a@b\"", "relay.toml: push.contact = \"mailto:a@b\": must be a mail address"),
        (
            "[limits]\nhandshakes_before_retry = 9\nhandshakes_max = 8",
            "relay.toml: limits.handshakes_before_retry = 9: must be at most limits.handshakes_max = 8 (else nobody is ever \
             asked for a Retry)",
        ),
        (
            "[admission]\nmode = \"hook\"\nhook.url = \"http://admission.example/\"",
            "relay.toml: admission.hook.url = \"http://admission.example/\": must be an https:// address, or http:// on a \
             loopback address, without user or password",
        ),
        (
            "[admission]\nmode = \"hook\"\nhook.url = \"https://a.example/\"\nhook.secret = \"\\n\"",
            "relay.toml: admission.hook.secret = ********: must be 1 to 4096 printable ASCII characters",
        ),
        (
            "[cluster]\nnode = 1",
            "relay.toml: cluster.node = 1: does nothing while cluster.nats = nothing (a node of a cluster needs the addresses \
             of NATS)",
        ),
        (
            "[cluster]\nnats = [\"nats.example:4222\"]",
            "relay.toml: cluster.nats = [\"nats.example:4222\"]: must be a list of at most 16, each tls://HOST or nats://HOST, \
             with :PORT or 4222, and without user or password",
        ),
        (
            "[cluster]\naddress = \"0.0.0.0:4433\"",
            "relay.toml: cluster.address = \"0.0.0.0:4433\": must be IP:PORT that others can send to, an IPv6 address in \
             brackets",
        ),
        (
            "[cluster]\nnats = [\"nats://10.0.0.1\"]\nname = \"a\"\nnode = 1\naddress = \"10.0.0.2:4433\"\nsecret_file = \"/s\"",
            "relay.toml: cluster.nats = [\"nats://10.0.0.1:4222\"]: must be tls:// but on a loopback address (use tls://, or \
             set cluster.nats_plain = \"anywhere\" if nobody can listen in on the way)",
        ),
    ] {
        assert_eq!(problems(text), [expected]);
    }
    let without = problems("[cluster]\nnats = [\"tls://nats.example\"]");
    let missing = ["cluster.name", "cluster.node", "cluster.address", "cluster.secret_file"];
    assert_eq!(without.len(), missing.len(), "all that a node needs is named: {without:?}");
    for (problem, path) in without.iter().zip(missing) {
        assert!(problem.contains(path) && problem.contains("must be set beside cluster.nats"), "{problem}");
    }
    let two = problems("[limits]\nrooms_max = 0\ntracks_max = 0");
    assert_eq!(two.len(), 2, "all at once: {two:?}");
    assert!(problems("[limits").concat().contains("relay.toml"), "what is no TOML says so");
}

#[test]
fn a_cluster_is_optional_as_one_and_said_in_one_section() {
    assert!(load("", &[], Vec::new()).expect("valid").config.cluster.nats.is_empty());
    let whole = "[cluster]\nnats = [\"tls://a.example\", \"nats://127.0.0.1:5000\"]\nname = \"town\"\nnode = 65535\n\
                 address = \"[2001:db8::1]:4433\"\nsecret_file = \"/secret\"\n";
    let cluster = load(whole, &[], Vec::new()).expect("valid").config.cluster;
    assert_eq!(
        cluster.nats.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["tls://a.example:4222", "nats://127.0.0.1:5000"]
    );
    assert_eq!((cluster.node, cluster.nats_replicas), (65_535, 1));
    let open = whole.replace("127.0.0.1", "10.0.0.1");
    assert_eq!(problems(&open).len(), 1, "the way there is open");
    assert!(problems(&format!("{open}nats_plain = \"anywhere\"\n")).is_empty(), "unless the operator says so");
}

#[test]
fn a_layer_is_wrong_also_where_a_later_one_overrides_it() {
    let error = load("[limits]\nrooms_max = 0", &[("SUPERNODE__LIMITS__ROOMS_MAX", "1")], Vec::new());
    assert!(error.is_err());
    let error = load("", &[("SUPERNODE__LIMITS__ROOM_MAX", "1")], Vec::new()).expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "SUPERNODE__LIMITS__ROOM_MAX: limits.room_max: unknown key (did you mean limits.rooms_max?)"
    );
}

#[test]
fn the_log_filter_is_taken_from_the_variable_that_rust_programs_share() {
    let loaded = load("[log]\nfilter = \"warn\"", &[("RUST_LOG", "debug")], Vec::new()).expect("valid");
    assert_eq!(loaded.config.log.filter, "debug");
    assert_eq!(setting(&loaded, "log.filter").1, Origin::Environment("RUST_LOG".to_owned()));
    let both = [("RUST_LOG", "debug"), ("SUPERNODE__LOG__FILTER", "error")];
    let loaded = load("", &both, Vec::new()).expect("valid");
    assert_eq!(loaded.config.log.filter, "error");
    assert_eq!(setting(&loaded, "log.filter").1, Origin::Environment("SUPERNODE__LOG__FILTER".to_owned()));
}

#[test]
fn lists_and_secrets_come_through_the_environment_and_a_secret_is_never_shown() {
    let environment = [
        ("SUPERNODE__TLS__MODE", "acme"),
        ("SUPERNODE__TLS__ACME__DOMAINS", "relay.example, two.example"),
        ("SUPERNODE__ADMISSION__MODE", "hook"),
        ("SUPERNODE__ADMISSION__HOOK__URL", "https://admission.example/"),
        ("SUPERNODE__ADMISSION__HOOK__SECRET", "hunter2"),
    ];
    let loaded = load("", &environment, Vec::new()).expect("valid");
    assert_eq!(loaded.config.tls.acme.domains, ["relay.example", "two.example"]);
    assert_eq!(loaded.config.admission.hook.secret.as_deref(), Some("hunter2"));
    let shown = format!(
        "{}{}{loaded:?}{:?}",
        reference::effective(&reference::rows(&loaded)),
        reference::effective_json(&reference::rows(&loaded)),
        setting(&loaded, "admission.hook.secret")
    );
    assert!(shown.contains("admission.hook.secret = \"********\"") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_may_be_secret_is_shown_nowhere_however_it_is_mistyped() {
    for text in [
        "[admission.hook]\nsecrets = \"hunter2\"",
        "[admission.hook]\npassword = \"hunter2\"",
        "[admission.hook]\nurls = \"https://a.example/?t=hunter2\"",
        "[tokens]\nmine = [\"hunter2\"]",
        "[admission.hook]\nsecret = \"hunter2",
        "[admission.hook]\nsecret = \"hunter2\" x",
        "[admission]\nhook.url = \"http://me:hunter2@a.example/\"",
        "[admission]\nhook.url = \"https://a.example/?token=hunter2\"",
    ] {
        let error = load(text, &[], Vec::new()).expect_err("wrong").to_string();
        assert!(!error.contains("hunter2"), "{text}: {error}");
        assert!(error.contains("relay.toml"), "{error}");
    }
    let error = problems("[admission.hook]\npassword = \"hunter2\"").concat();
    assert!(error.starts_with("relay.toml: admission.hook.password: unknown key"), "{error}");
    let text = "[admission]\nmode = \"hook\"\nhook.url = \"https://a.example/?token=hunter2\"\n";
    let loaded = load(text, &[], Vec::new()).expect("valid");
    assert_eq!(loaded.config.admission.hook.url.as_deref(), Some("https://a.example/?token=hunter2"), "used whole");
    let shown = format!(
        "{}{}",
        reference::effective(&reference::rows(&loaded)),
        reference::effective_json(&reference::rows(&loaded))
    );
    assert!(shown.contains("https://a.example/?********") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn every_key_takes_its_bounds_and_nothing_beyond_them() {
    for key in KEYS {
        let Kind::Integer { min, max, .. } = key.kind else { continue };
        // Some keys bound each other, and some belong to a choice: only what is said of the key itself counts here.
        let refused = |value: u64| {
            let text = format!("{} = {value}", key.path);
            problems(&text).iter().any(|problem| problem.contains("must be a whole number"))
        };
        assert!(!refused(min) && !refused(max), "{}", key.path);
        assert!(refused(max + 1) && (min == 0 || refused(min - 1)), "{}", key.path);
    }
}

/// Every example of a configuration that we ship.
fn examples() -> BTreeMap<PathBuf, String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut examples = BTreeMap::new();
    let mut directories = vec![deploy];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).expect("text");
                examples.insert(path, text);
            }
        }
    }
    examples
}

#[test]
fn every_example_holds_and_none_with_a_bogus_key_in_any_table() {
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for (path, text) in examples {
        let name = path.display();
        load(&text, &[], Vec::new()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let tables = text.lines().enumerate().filter(|(_, line)| line.starts_with('['));
        for (number, table) in tables {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(number + 1, "bogus = 1");
            let found = problems(&lines.join("\n"));
            let expected = format!("relay.toml: {}.bogus: unknown key", table.trim_matches(['[', ']']));
            assert!(found.iter().any(|problem| problem.starts_with(&expected)), "{name}: {table}: {found:?}");
        }
    }
}

#[test]
fn a_template_with_every_default_switched_on_is_the_default() {
    let set: String = reference::template()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A remark begins with a space; a key that has no default has nothing behind its `=`.
            Some(key) if !key.starts_with(' ') && !key.ends_with('=') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = load(&set, &[], Vec::new()).expect("valid");
    assert!(loaded.changed(&Sources::default().load().expect("valid")).is_empty());
    for key in KEYS {
        assert!(set.contains(&format!("\n{} =", key.name())) || set.contains(&format!("\n#{} =", key.name())));
    }
}

fn supernode(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_supernode"))
        .args(arguments)
        .current_dir(directory)
        .env("XDG_STATE_HOME", directory)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program starts")
}

#[test]
fn a_configuration_is_checked_with_the_files_that_it_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("relay.toml");
    let check = |text: &str| {
        fs::write(&file, text).expect("ours");
        let output = supernode(directory.path(), &["check-config", "relay.toml"]);
        assert!(output.stdout.is_empty(), "words are no data");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, words) = check("[limits]\nrooms_max = 2\n");
    assert_eq!((code, words.as_str()), (Some(0), "relay.toml: fine\n"));
    let json = || {
        let output = supernode(directory.path(), &["check-config", "relay.toml", "--json"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), found)
    };
    assert_eq!(json(), (Some(0), serde_json::json!({ "of": "relay.toml", "problems": [], "remarks": [] })));
    let (code, words) = check("[limits]\nrooms_mx = 2\n");
    assert_eq!(code, Some(1));
    assert_eq!(
        words,
        "supernode: relay.toml: limits.rooms_mx: unknown key (did you mean limits.rooms_max?)\n  -> put right each line at \
         the place that it names: a file, a variable or an option; docs/CONFIG.md has every key\n"
    );
    let problem = "relay.toml: limits.rooms_mx: unknown key (did you mean limits.rooms_max?)";
    assert_eq!(json(), (Some(1), serde_json::json!({ "of": "relay.toml", "problems": [problem], "remarks": [] })));
    let list = directory.path().join("allowed");
    let text = format!("[admission]\nmode = \"allow-list\"\nallow_list = {list:?}\n");
    assert_eq!(check(&text).0, Some(1), "the list is not there");
    fs::write(&list, "# nobody yet\nalice\n").expect("ours");
    let (code, words) = check(&text);
    assert_eq!(code, Some(1));
    assert!(
        words.contains(
            "allowed:2: is no identity (sn-id-...)\n  a name was cut off or mistyped\n  -> write one identity"
        ),
        "{words}"
    );
    fs::write(&list, "# nobody yet\n").expect("ours");
    assert_eq!(check(&text).0, Some(0));

    let output = supernode(directory.path(), &["config", "--config", "relay.toml", "--shards", "3", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown["relay.shards"], serde_json::json!({ "value": 3, "origin": "--shards" }));
    assert_eq!(shown["admission.mode"], serde_json::json!({ "value": "allow-list", "origin": "relay.toml" }));
    assert_eq!(shown["relay.listen"]["value"], serde_json::Value::Null);
}
