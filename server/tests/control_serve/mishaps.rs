//! What happens to machines: a disk that is full, and a clock that is a year off.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use supernode_proto::{close::CloseCode, control::relay_message::Body};
use supernode_testkit::Shim;

use crate::{connect, identity_of, invite, serve, serve_with, supernode};

/// A disk of its own with next to nothing on it; gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and words, where nobody lets us make one.
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("ours");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]).arg(path).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(path.to_owned())),
            Ok(done) => {
                eprintln!("skipped: no disk can be made here: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(error) => {
                eprintln!("skipped: mount: {error}");
                None
            }
        }
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let filler = self.0.join("filler");
        for bytes in [64 * 1024, 4 * 1024, 256, 1] {
            let mut content = fs::read(&filler).unwrap_or_default();
            loop {
                content.resize(content.len() + bytes, 0);
                if fs::write(&filler, &content).is_err() {
                    break;
                }
            }
        }
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("ours");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_no_session_leaves_nothing_behind_and_is_told() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let Some(disk) = SmallDisk::at(&home.path().join("disk")) else { return };
    let relay = serve(&disk.0, &[]);
    let link = relay.invite();
    let token = link.token.as_deref();
    let once = crate::printed(&invite(&disk.0, &["--once"]));
    let mut there = connect(&disk.0, &link, 1, token).await;
    assert!(matches!(there.next().await, Ok(Body::Welcome(_))));
    disk.fill();
    let half_written = || {
        let listed = fs::read_dir(disk.0.join("supernode")).expect("it is there");
        listed.filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with('.')).count()
    };
    let revoked = supernode(&disk.0).args(["revoke", &identity_of(7).to_text()]).output().expect("it starts");
    let words = String::from_utf8_lossy(&revoked.stderr);
    assert!(!revoked.status.success() && words.contains("No space left"), "{words}");
    // What cannot be written down as used is not let in.
    let mut late = connect(&disk.0, &once, 2, once.token.as_deref()).await;
    assert!(late.next().await.is_err());
    assert_eq!(half_written(), 0);
    // Everybody else comes and stays.
    let mut other = connect(&disk.0, &link, 3, token).await;
    assert!(matches!(other.next().await, Ok(Body::Welcome(_))));
    assert!(there.connection.close_reason().is_none());
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("tokens for one use let nobody in: they cannot be written down"), "{log}");

    // Without room for its link it does not start, and says so; once there is, it does.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let refused = supernode(&disk.0).args(arguments).output().expect("it ends");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("No space left"), "{words}");
    assert_eq!(half_written(), 0);
    disk.clear();
    let relay = serve(&disk.0, &[]);
    let mut again = connect(&disk.0, &relay.invite(), 1, token).await;
    assert!(matches!(again.next().await, Ok(Body::Welcome(_))));
    let revoked = supernode(&disk.0).args(["revoke", &identity_of(1).to_text()]).output().expect("it starts");
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    assert!(matches!(again.next().await, Err(CloseCode::NOT_ADMITTED)));
    assert_eq!(relay.terminate().0, Some(0));
}

const YEAR_S: i64 = 366 * 86_400;

#[tokio::test]
async fn a_clock_that_is_a_year_off_turns_people_away_and_lets_them_in_once_it_is_set() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let shim = Shim::clock();
    let mut program = supernode(home.path());
    shim.under(&mut program);
    let relay = serve_with(program, &["--open", "--listen", "127.0.0.1:0"]);
    let link = relay.invite();
    for ahead in [YEAR_S, -YEAR_S] {
        let mut there = connect(home.path(), &link, 1, None).await;
        assert!(matches!(there.next().await, Ok(Body::Welcome(_))));
        shim.say(ahead);
        let mut turned_away = connect(home.path(), &link, 2, None).await;
        match turned_away.next().await {
            Err(CloseCode::DELEGATION_EXPIRED) if ahead > 0 => {}
            // It ends too far in the future for this clock.
            Err(_) if ahead < 0 => {}
            other => panic!("{ahead}: {other:?}"),
        }
        assert!(relay.get("/livez").ends_with("ok\n"));
        // Who is in has ended within a minute, or stays.
        if ahead > 0 {
            let ended = tokio::time::timeout(Duration::from_secs(60), there.next()).await.expect("within a minute");
            assert!(matches!(ended, Err(CloseCode::DELEGATION_EXPIRED)), "{ended:?}");
        }
        shim.say(0);
        let mut again = connect(home.path(), &link, 2, None).await;
        assert!(matches!(again.next().await, Ok(Body::Welcome(_))), "{ahead}");
    }
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_hook_on_this_machine_needs_no_authorities_and_one_elsewhere_says_that_there_are_none() {
    let home = tempfile::tempdir().expect("a temporary directory");
    // As on a small Debian without ca-certificates.
    let without = || {
        let mut program = supernode(home.path());
        program.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
        program.env("SUPERNODE__ADMISSION__MODE", "hook");
        program
    };
    let mut near = without();
    near.env("SUPERNODE__ADMISSION__HOOK__URL", "http://127.0.0.1:9/");
    assert_eq!(serve_with(near, &["--listen", "127.0.0.1:0"]).terminate().0, Some(0));
    let mut far = without();
    far.env("SUPERNODE__ADMISSION__HOOK__URL", "https://admission.example/");
    far.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let output = far.output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("cannot be read") && words.contains("ca-certificates"), "{words}");
}
