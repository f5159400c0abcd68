//! Files that are none: a FIFO stands for whatever is waited at for ever.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{PATIENCE, serve, supernode};

fn make_fifo(path: &Path) {
    let _ = fs::remove_file(path); // if something is there
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

#[test]
fn a_relay_whose_configuration_becomes_a_fifo_goes_on_answers_and_says_which_file() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (config, list) = (home.path().join("relay.toml"), home.path().join("allowed"));
    let text = format!("[admission]\nmode = \"allow-list\"\nallow_list = {list:?}\n");
    fs::write(&config, &text).expect("ours");
    fs::write(&list, "# nobody\n").expect("ours");
    let relay = serve(home.path(), &["--config", config.to_str().expect("text")]);
    for path in [&list, &config] {
        make_fifo(path);
        // It looks every two seconds.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            assert!(relay.get("/livez").ends_with("ok\n"));
            assert_eq!(relay.json(home.path(), &["status"])["phase"], "ready");
            assert!(asked.elapsed() < PATIENCE / 4, "{:?}", asked.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::remove_file(path).expect("ours");
        fs::write(path, if path == &config { text.as_str() } else { "# nobody\n" }).expect("ours");
    }
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    for path in [&list, &config] {
        let words = format!("{}: cannot read it: is a FIFO, not a regular file", path.display());
        assert!(log.contains(&words), "{words} is not in {log}");
    }
}

#[test]
fn every_command_refuses_a_fifo_at_once_and_names_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| home.path().join(name);
    make_fifo(&path("fifo"));
    let fifo = path("fifo");
    fs::write(path("list.toml"), format!("[admission]\nmode = \"allow-list\"\nallow_list = {fifo:?}\n")).expect("ours");
    let tls = format!("[tls]\nmode = \"files\"\ncertificate = {fifo:?}\nkey = {fifo:?}\n");
    fs::write(path("tls.toml"), tls).expect("ours");
    for config in ["fifo", "list.toml", "tls.toml"] {
        let config = path(config);
        for arguments in [&["check-config"][..], &["doctor", "--config"], &["serve", "--config"]] {
            let begin = Instant::now();
            let output = supernode(home.path()).args(arguments).arg(&config).output().expect("the program starts");
            let words = [output.stdout, output.stderr].concat();
            let words = String::from_utf8_lossy(&words);
            assert!(!output.status.success(), "{arguments:?} {config:?}: {words}");
            assert!(words.contains("is a FIFO, not a regular file"), "{arguments:?} {config:?}: {words}");
            assert!(words.contains(fifo.to_str().expect("text")), "{arguments:?} {config:?}: {words}");
            assert!(begin.elapsed() < PATIENCE, "{arguments:?} {config:?}");
        }
    }
}
