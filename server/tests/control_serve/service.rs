//! A machine as the shipped unit makes it: the state directory is a link to one that only root may enter, and the
//! configuration is in /etc. Each test has a mount namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use crate::{PATIENCE, Relay, serve_to, supernode};

/// A program in a namespace where /var/lib and /etc are a directory's: what is written there is seen by all programs of
/// that machine.
fn on(machine: &Path, program: &Command) -> Command {
    let bind = "mount --bind \"$0/var-lib\" /var/lib && mount --bind \"$0/etc\" /etc && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-ec", bind]).arg(machine);
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// With `/var/lib/supernode` as `DynamicUser=` has it.
fn machine() -> tempfile::TempDir {
    let machine = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| machine.path().join(name);
    fs::create_dir_all(at("var-lib/private/supernode")).expect("ours");
    fs::create_dir_all(at("etc/supernode")).expect("ours");
    fs::create_dir_all(at("root")).expect("ours");
    fs::copy("/etc/passwd", at("etc/passwd")).expect("ours");
    std::os::unix::fs::symlink("private/supernode", at("var-lib/supernode")).expect("ours");
    for private in ["var-lib/private", "var-lib/private/supernode"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(at(private), mode).expect("ours");
    }
    machine
}

/// The service, as the unit starts it.
fn service(machine: &Path) -> Relay {
    let mut program = supernode(Path::new("/var/lib"));
    program.env("HOME", machine.join("root"));
    let mut on_machine = on(machine, &program);
    on_machine.env("XDG_STATE_HOME", "/var/lib");
    serve_to(on_machine, &["--listen", "127.0.0.1:0"], std::process::Stdio::piped())
}

/// A command of root's, whose own state is elsewhere.
fn as_root(machine: &Path, arguments: &[&str]) -> Output {
    let mut program = supernode(Path::new("/nowhere"));
    program.env_remove("XDG_STATE_HOME").env("HOME", machine.join("root")).args(arguments);
    on(machine, &program).env_remove("XDG_STATE_HOME").output().expect("unshare")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn root_s_commands_find_the_service_s_relay_and_say_so() {
    let machine = machine();
    let relay = service(machine.path());
    for arguments in [&["status"][..], &["invite", "--host", "relay.example"], &["doctor"], &["config"]] {
        let output = as_root(machine.path(), arguments);
        let words = text(&output.stderr);
        let code = output.status.code();
        // Doctor finds faults of the machine that runs this.
        assert!(code == Some(0) || (arguments[0] == "doctor" && code == Some(4)), "{arguments:?}: {code:?} {words}");
        assert!(words.contains("this is about the service's relay, in /var/lib/supernode"), "{arguments:?}: {words}");
    }
    assert!(text(&as_root(machine.path(), &["status"]).stdout).contains("ready"));
    assert_eq!(relay.terminate().0, Some(0));
    // One of root's own that is there but does not run is not taken for it.
    let own = machine.path().join("root/.local/state");
    assert_eq!(crate::serve(&own, &[]).terminate().0, Some(0));
    let relay = service(machine.path());
    let output = as_root(machine.path(), &["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(relay.terminate().0, Some(0));
}

/// The commands below a heading of the handbook, of the first block that has this word.
fn commands_of_handbook(heading: &str, word: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
    let handbook = fs::read_to_string(path).expect("the handbook");
    let (_, below) = handbook.split_once(&format!("\n## {heading}\n")).expect("that heading");
    let section = below.split("\n## ").next().unwrap_or(below);
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.filter(|block| block.contains(word)).map(str::to_owned).next().expect("such a block")
}

#[test]
fn what_the_handbook_says_backs_the_service_s_keys_up_and_brings_them_back() {
    let machine = machine();
    let relay = service(machine.path());
    let pin = |machine: &Path| {
        let output = as_root(machine, &["invite", "--host", "relay.example"]);
        let link: supernode_proto::invite::Invite = text(&output.stdout).parse().expect("a link");
        link.pin.expect("a pin")
    };
    let before = pin(machine.path());
    let in_shell = |commands: &str| {
        // What systemd would do is done by the test.
        let commands: String =
            commands.lines().filter(|line| !line.starts_with("systemctl ")).map(|line| format!("{line}\n")).collect();
        let mut shell = Command::new("sh");
        shell.args(["-ec", &commands]).current_dir(machine.path());
        let output = on(machine.path(), &shell).current_dir(machine.path()).output().expect("unshare");
        assert!(output.status.success(), "{commands}: {}", text(&output.stderr));
    };
    in_shell(&commands_of_handbook("Backup", "-czf"));
    let archive = machine.path().join("supernode-keys.tar.gz");
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().expect("tar");
    for key in ["./tls-key.pem", "./tls-certificate.pem", "./admission-key.pem", "./reset-key"] {
        assert!(text(&listed.stdout).lines().any(|line| line == key), "{key}: {}", text(&listed.stdout));
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&archive).expect("it"));
    assert_eq!(mode & 0o077, 0, "others may read it");
    assert_eq!(relay.terminate().0, Some(0));

    // Another machine.
    fs::remove_dir_all(machine.path().join("var-lib/private/supernode")).expect("ours");
    fs::remove_file(machine.path().join("var-lib/supernode")).expect("ours");
    in_shell(&commands_of_handbook("Backup", "-xzpf"));
    let relay = service(machine.path());
    assert_eq!(pin(machine.path()), before, "clients know it again");
    assert_eq!(relay.terminate().0, Some(0));
}

#[test]
fn a_configuration_that_appears_counts_and_one_that_is_gone_changes_nothing() {
    let machine = machine();
    let relay = service(machine.path());
    let file = machine.path().join("etc/supernode/supernode.toml");
    let rooms_max = || {
        let output = as_root(machine.path(), &["config", "--json", "--state-dir", "/var/lib/supernode"]);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (shown["limits.rooms_max"]["value"].clone(), shown["relay.drain_patience_s"].clone())
    };
    let until = |expected: u64| {
        let begin = Instant::now();
        while rooms_max().0 != expected {
            assert!(begin.elapsed() < PATIENCE, "{:?}", rooms_max());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let (before, _) = rooms_max();
    fs::write(&file, "[limits]\nrooms_max = 3\n[relay]\ndrain_patience_s = 7\n").expect("ours");
    until(3);
    assert_ne!(before, 3);
    let (_, patience) = rooms_max();
    assert_eq!((&patience["value"], &patience["next"]), (&60.into(), &"7".into()), "what only a start changes");
    // What is of no use is not in effect, and said.
    fs::write(&file, "[limits]\nrooms_max = 0\n").expect("ours");
    relay.send(rustix::process::Signal::HUP);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(rooms_max().0, 3);
    fs::remove_file(&file).expect("ours");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(rooms_max().0, 3);
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0));
    assert!(log.contains("limits.rooms_max = 0: must be") && log.contains("supernode.toml: cannot read it"), "{log}");
}
