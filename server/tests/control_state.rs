//! The state directory: made once, kept to its owner, and clear about what is wrong with it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    thread,
};

use supernode_server::control::{
    state_dir::{Door, StateDir, StateError},
    tls::relay_pin,
};
use tempfile::TempDir;

fn parent() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn error(path: &Path) -> StateError {
    StateDir::create(path).expect("a directory").keys_or_create().expect_err("broken")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

#[test]
fn keys_are_made_at_the_first_start_and_stay() {
    let parent = parent();
    let path = parent.path().join("deep/state");
    let first = StateDir::create(&path).expect("a directory").keys_or_create().expect("keys");
    let again = StateDir::create(&path).expect("a directory").keys_or_create().expect("keys");
    assert_eq!(relay_pin(&first), relay_pin(&again));
    assert_eq!(first.tls_certificate, again.tls_certificate);
    assert_eq!(first.admission_key.public_key_raw(), again.admission_key.public_key_raw());

    let elsewhere =
        StateDir::create(&parent.path().join("other")).expect("a directory").keys_or_create().expect("keys");
    assert_ne!(relay_pin(&first), relay_pin(&elsewhere), "every relay has its own key");
}

#[test]
fn a_lost_certificate_is_made_again_and_clients_keep_their_pin() {
    let parent = parent();
    let state = StateDir::create(parent.path()).expect("a directory");
    let before = state.keys_or_create().expect("keys");
    fs::remove_file(parent.path().join("tls-certificate.pem")).expect("it was there");
    let after = state.keys_or_create().expect("keys");
    assert_ne!(before.tls_certificate, after.tls_certificate);
    assert_eq!(relay_pin(&before), relay_pin(&after));
}

#[test]
fn relays_that_start_at_the_same_time_agree_on_the_keys() {
    let parent = parent();
    let path = parent.path().join("state");
    let pins = thread::scope(|scope| {
        let starts = (0..8).map(|_| {
            scope.spawn(|| relay_pin(&StateDir::create(&path).expect("a directory").keys_or_create().expect("keys")))
        });
        let starts: Vec<_> = starts.collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(pins.iter().all(|pin| *pin == pins[0]));
    let mut names: Vec<_> =
        fs::read_dir(&path).expect("it is there").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    let keys = ["admission-key.pem", "reset-key", "tls-certificate.pem", "tls-key.pem"];
    assert_eq!(names, keys, "and leave nothing else behind");
}

#[test]
fn only_the_owner_can_read_what_is_in_it() {
    let parent = parent();
    let path = parent.path().join("state");
    let state = StateDir::create(&path).expect("a directory");
    state.keys_or_create().expect("keys");
    state.remember_link(&"supernode://192.0.2.1:4433/?token=a.b".parse().expect("a link")).expect("written");
    assert_eq!(mode(&path), 0o700);
    for name in ["tls-key.pem", "tls-certificate.pem", "admission-key.pem", "link"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    assert_eq!(state.link().expect("readable").expect("written").token, None, "a token is nobody's business later");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let parent = parent();
    StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
    let key = parent.path().join("tls-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("ours");
    let file = key.display();
    assert_eq!(
        error(parent.path()).to_string(),
        format!("{file}: mode 0640 lets other users in; put it right with: chmod 600 {file}")
    );
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_with_the_remedy() {
    let parent = parent();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o770)).expect("ours");
    let directory = parent.path().display();
    assert_eq!(
        StateDir::create(parent.path()).expect_err("writable").to_string(),
        format!("{directory}: mode 0770 lets other users in; put it right with: chmod 700 {directory}")
    );
}

#[test]
fn a_broken_file_is_named_and_left_as_it_is() {
    for (name, content) in [
        ("tls-key.pem", "nonsense"),
        ("tls-key.pem", ""),
        ("tls-certificate.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        ("admission-key.pem", "\u{fffd}"),
    ] {
        let parent = parent();
        StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
        fs::write(parent.path().join(name), content).expect("ours");
        let text = error(parent.path()).to_string();
        assert!(text.starts_with(&format!("{}: is no ", parent.path().join(name).display())), "{text}");
        assert_eq!(fs::read_to_string(parent.path().join(name)).expect("still there"), content);
    }
}

#[test]
fn a_key_of_the_wrong_kind_is_broken() {
    let parent = parent();
    StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
    fs::copy(parent.path().join("tls-key.pem"), parent.path().join("admission-key.pem")).expect("ours");
    assert!(matches!(error(parent.path()), StateError::Broken { path, .. } if path.ends_with("admission-key.pem")));
}

#[test]
fn a_file_that_is_far_too_large_or_no_text_is_not_swallowed() {
    let parent = parent();
    StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
    let key = parent.path().join("tls-key.pem");
    fs::write(&key, vec![b'a'; 1 << 20]).expect("ours");
    assert!(error(parent.path()).to_string().contains("tls-key.pem: is too large"));
    fs::write(&key, [0xff, 0xfe]).expect("ours");
    assert!(error(parent.path()).to_string().contains("tls-key.pem: is not text"));
}

#[test]
fn a_dangling_link_is_not_written_through() {
    let parent = parent();
    symlink(parent.path().join("nowhere"), parent.path().join("tls-key.pem")).expect("ours");
    assert!(matches!(error(parent.path()), StateError::Missing { path } if path.ends_with("tls-key.pem")));
    assert!(!parent.path().join("nowhere").exists());
}

#[test]
fn a_relay_that_was_never_started_is_told_from_a_broken_one() {
    let parent = parent();
    assert!(matches!(StateDir::open(&parent.path().join("typo")), Err(StateError::Missing { .. })));
    let empty = StateDir::open(parent.path()).expect("a directory");
    assert!(matches!(empty.keys(), Err(StateError::Missing { .. })));
    assert_eq!(empty.link().expect("readable"), None);

    let file = parent.path().join("file");
    fs::write(&file, "").expect("ours");
    assert!(matches!(StateDir::create(&file), Err(StateError::NotADirectory { .. })));
    assert!(matches!(StateDir::open(&file), Err(StateError::NotADirectory { .. })));
}

#[test]
fn the_default_directory_follows_the_xdg_specification() {
    let path =
        |xdg: Option<&str>, home: Option<&str>| StateDir::default_path(xdg.map(Into::into), home.map(Into::into));
    assert_eq!(path(Some("/x"), Some("/h")).expect("set"), Path::new("/x/supernode"));
    assert_eq!(path(None, Some("/h")).expect("set"), Path::new("/h/.local/state/supernode"));
    assert_eq!(path(Some("relative"), Some("/h")).expect("set"), Path::new("/h/.local/state/supernode"));
    assert!(matches!(path(None, None), Err(StateError::NoDefault)));
}

#[test]
fn what_root_writes_belongs_to_the_relay_s_user() {
    let parent = parent();
    if fs::metadata(parent.path()).expect("it is there").uid() != 0 {
        return; // only root can give a directory away
    }
    let state = StateDir::create(parent.path()).expect("a directory");
    std::os::unix::fs::chown(parent.path(), Some(65_532), Some(65_532)).expect("given away");
    state.remember_revoked("# nobody\n").expect("written");
    let file = fs::metadata(parent.path().join("revoked")).expect("it is there");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (65_532, 65_532, 0o600));
}

#[test]
fn what_failed_writes_have_left_is_removed_at_the_next_start_and_nothing_else_is() {
    let parent = parent();
    let state = StateDir::create(parent.path()).expect("a directory");
    state.keys_or_create().expect("keys");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let make = |name: &str, at| {
        let file = fs::File::create(parent.path().join(name)).expect("ours");
        file.set_modified(at).expect("ours");
    };
    for name in [".link.0123456789abcdef", ".tls-key.pem.fedcba9876543210", ".89abcdef"] {
        make(name, old);
    }
    let others = [".config", ".link.0123", "notes.0123456789abcdef", ".0123456789abcdef"];
    others.iter().for_each(|name| make(name, old));
    make(".revoked.0123456789abcdef", std::time::SystemTime::now());
    StateDir::create(parent.path()).expect("a directory");
    let mut left: Vec<_> = fs::read_dir(parent.path())
        .expect("it is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    let mut kept = vec!["admission-key.pem", "reset-key", "tls-certificate.pem", "tls-key.pem"];
    kept.extend(others);
    kept.push(".revoked.0123456789abcdef");
    kept.sort_unstable();
    assert_eq!(left, kept, "what is young may be written just now");
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let parent = parent();
    let state = StateDir::create(parent.path()).expect("a directory");
    fs::create_dir(parent.path().join("revoked")).expect("in the way");
    state.remember_revoked("# nobody\n").expect_err("a directory is in the way");
    let names: Vec<_> =
        fs::read_dir(parent.path()).expect("it is there").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["revoked"]);
}

#[test]
fn a_socket_is_private_as_soon_as_it_is_there() {
    let parent = parent();
    let state = StateDir::create(parent.path()).expect("a directory");
    for door in [Door::Control, Door::Handover] {
        let (_listener, _door) = state.make(door).expect("a socket");
        let made = fs::read_dir(parent.path()).expect("it is there").next().expect("a socket").expect("an entry");
        assert_eq!(mode(&made.path()), 0o600, "nothing changes it afterwards");
    }
}

#[test]
fn another_user_s_directory_is_no_place_for_a_relay_s_keys() {
    let parent = parent();
    if fs::metadata(parent.path()).expect("it is there").uid() != 0 {
        return; // only root can give a directory away
    }
    StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
    std::os::unix::fs::chown(parent.path(), Some(65_532), Some(65_532)).expect("given away");
    let refused = StateDir::create(parent.path()).expect_err("another user's");
    assert!(matches!(refused, StateError::Owner { owner: 65_532, wanted: 0, .. }), "{refused}");
    assert!(refused.to_string().contains("chown -R 0"), "{refused}");
    let state = StateDir::open(parent.path()).expect("root's commands may be about another user's relay");
    let key = parent.path().join("admission-key.pem");
    std::os::unix::fs::chown(&key, Some(1234), None).expect("given away");
    assert!(matches!(state.keys(), Err(StateError::Owner { path, owner: 1234, .. }) if path == key));
}

#[test]
fn a_fifo_in_a_key_s_place_is_not_waited_at() {
    let parent = parent();
    StateDir::create(parent.path()).expect("a directory").keys_or_create().expect("keys");
    let key = parent.path().join("tls-key.pem");
    fs::remove_file(&key).expect("it was there");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&key).status().expect("mkfifo").success());
    assert!(error(parent.path()).to_string().contains("tls-key.pem: is no regular file"));
}
