//! What becomes of a relay when one of its shards breaks down, or stands still.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::{close::CloseCode, invite::Invite};
use supernode_server::{
    control::{certificate::Certificate, state_dir::StateDir, systemd, tls},
    core::{Admit, Applicant, Grant, limits::Limits},
    shard,
};

use crate::{Leash, connect};

/// Asked in a shard's own thread, in the middle of its turn.
struct Trap(fn());

impl Admit for Trap {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        (self.0)();
        Err(CloseCode::NOT_ADMITTED)
    }
}

/// A relay of four shards, one of which falls into the trap with the first Hello.
fn start(home: &Path, trap: fn()) -> (shard::Running, Invite) {
    relay_of(config_in(home, Arc::new(Trap(trap))))
}

/// Shards with the keys of this home.
pub(super) fn config_in(home: &Path, admission: Arc<dyn Admit>) -> shard::Config {
    let keys = StateDir::create(&home.join("supernode")).and_then(|state| state.keys_or_create()).expect("keys");
    shard::Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        shards: 4,
        batch_window: Duration::ZERO,
        tls: tls::quic_server_config(&Certificate::self_signed(&keys).expect("a certificate"), None).expect("TLS"),
        pin: tls::relay_pin(&keys),
        admission,
        limits: Limits::default(),
        reset_key: keys.reset_key,
        tcp: None,
        waking: None,
        node: None,
    }
}

/// Starts them.
pub(super) fn relay_of(config: shard::Config) -> (shard::Running, Invite) {
    let pin = config.pin;
    let relay = shard::spawn(config).expect("it starts");
    let address = relay.local_addr().to_string().parse().expect("an address");
    (relay, Invite { pin: Some(pin), ..Invite::to(address) })
}

#[tokio::test]
async fn a_shard_that_breaks_down_takes_the_whole_relay_with_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (relay, link) = start(home.path(), || panic!("a shard breaks down, as this test wants it to"));
    let joined = std::thread::spawn(move || relay.join());
    let _client = connect(home.path(), &link, 1, None).await;
    let begin = Instant::now();
    while !joined.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the other shards go on as if nothing had happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(joined.join().is_err(), "`serve` ends with an error, and its process with it");
}

/// Named to the child that this test runs itself in: what systemd is told is told by the whole process.
const CHILD_HOME: &str = "SUPERNODE_TEST_CHILD_HOME";

#[tokio::test]
async fn systemd_hears_no_more_of_a_relay_of_which_one_shard_stands_still() {
    if let Some(home) = std::env::var_os(CHILD_HOME) {
        return stand_still(Path::new(&home)).await;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let name = "breakdown::systemd_hears_no_more_of_a_relay_of_which_one_shard_stands_still";
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD_HOME, home.path())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "6000000")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let _leash = Leash::on(child.id());
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut buffer = [0; 4096];
    // The second comes only after every shard has turned.
    for _ in 0..2 {
        let length = socket.recv(&mut buffer).expect("the watchdog is fed");
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    }
    std::fs::write(home.path().join("go"), "").expect("ours");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("stands still")), "it fell into the trap");
    // One look may have come before, one finds the turns of before the fall; every 2.5 s there is another.
    let begin = Instant::now();
    let mut fed = 0;
    while let Some(left) = Duration::from_secs(15).checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("a timeout");
        fed += u32::from(socket.recv(&mut buffer).is_ok());
    }
    assert!(fed <= 2, "the watchdog was fed {fed} times in 15 s");
    child.kill().expect("it runs");
    child.wait().expect("our child");
}

/// The child: feeds the watchdog, and once it is told to go, lets a client lead a shard into the trap.
async fn stand_still(home: &Path) {
    let (relay, link) = start(home, || {
        writeln!(io::stdout(), "\na shard stands still").expect("the parent listens");
        std::thread::sleep(Duration::from_secs(120));
    });
    tokio::spawn(systemd::keep_telling(relay.counters()));
    while !home.join("go").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _client = connect(home, &link, 1, None).await;
    // The parent ends it long before.
    tokio::time::sleep(Duration::from_secs(120)).await;
}
