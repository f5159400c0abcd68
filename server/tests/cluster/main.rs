//! Three relays as one cluster, by a real NATS server, on one machine: who lives is seen by all, whatever is killed, and so are
//! people.

mod doors;
mod media;
mod people;
mod rooms;

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// For whatever is waited for that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within this, a node that was killed is gone for all others: a lease of 5 s, and a look.
const LEASE: Duration = Duration::from_secs(6);

/// Of each relay: what is said between nodes is passed on between shards.
const SHARDS: usize = 2;

fn supernode(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supernode"));
    command.args(arguments).env_remove("RUST_LOG").env("XDG_STATE_HOME", "/nonexistent");
    command
}

/// Ends with the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill(); // it may have ended
        self.0.wait().expect("our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A NATS server on a port of its own.
struct Nats {
    home: TempDir,
    port: u16,
    process: Process,
}

impl Nats {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let home = TempDir::new().expect("a directory");
        let process = Self::run(home.path(), port);
        Self { home, port, process }
    }

    fn run(home: &Path, port: u16) -> Process {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]).arg(home);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().expect("nats-server (Debian: apt-get install nats-server)"))
    }

    fn start_again(&mut self) {
        self.process = Self::run(self.home.path(), self.port);
    }

    fn lose_everything(&self) {
        fs::remove_dir_all(self.home.path().join("jetstream")).expect("it was there");
    }
}

/// A relay that is to be a node.
struct Node {
    home: PathBuf,
    process: Option<Process>,
}

impl Node {
    fn new(home: &Path, name: &str, number: u16, nats: &Nats, secret: &Path) -> Self {
        let home = home.join(name);
        fs::create_dir(&home).expect("ours");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        drop(socket);
        let text = format!(
            "[relay]\nlisten = \"{address}\"\nshards = {SHARDS}\nstate_dir = {:?}\n[admission]\nmode = \"open\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[cluster]\n\
             nats = [\"nats://127.0.0.1:{}\"]\nname = \"test\"\nnode = {number}\naddress = \"{address}\"\nsecret_file = {secret:?}\n",
            home.join("state"),
            nats.port,
        );
        fs::write(home.join("relay.toml"), text).expect("ours");
        Self { home, process: None }
    }

    fn config(&self) -> String {
        self.home.join("relay.toml").display().to_string()
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.home.join("log")).expect("ours");
        let mut command = supernode(&["serve", "--config", &self.config()]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts");
        self.process = Some(Process(child));
    }

    fn kill(&mut self) {
        self.process = None;
    }

    /// What a command says of it.
    fn ask(&self, command: &[&str]) -> Output {
        supernode(&[command, &["--config", &self.config()]].concat()).output().expect("the program starts")
    }

    /// What `supernode cluster --json` says: its exit code, and the answer.
    fn cluster(&self) -> (Option<i32>, Value) {
        let output = self.ask(&["cluster", "--json"]);
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn ask_check(&self) -> Output {
        supernode(&["check-config", &self.config()]).output().expect("the program starts")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

fn numbers(cluster: &Value) -> Vec<u64> {
    let nodes = cluster["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().filter_map(|node| node["node"].as_u64()).collect()
}

/// Waits until all of them live and see exactly these, and says how long that took.
fn all_see(nodes: &[&Node], expected: &[u64]) -> Duration {
    let begun = Instant::now();
    loop {
        let seen: Vec<_> = nodes.iter().map(|node| node.cluster()).collect();
        if seen.iter().all(|(code, cluster)| *code == Some(0) && numbers(cluster) == expected) {
            return begun.elapsed();
        }
        let logs = || nodes.iter().map(|node| node.log()).collect::<Vec<_>>().join("\n");
        assert!(begun.elapsed() < PATIENCE, "{expected:?} are not seen by all: {seen:?}\n{}", logs());
        sleep(Duration::from_millis(50));
    }
}

/// Waits until a node says that it is outside, and says why.
fn trouble(node: &Node) -> String {
    let begun = Instant::now();
    loop {
        let (code, cluster) = node.cluster();
        if let (Some(4), Some(what)) = (code, cluster["trouble"]["what"].as_str()) {
            return what.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "{cluster}, {}", node.log());
        sleep(Duration::from_millis(50));
    }
}

/// The relay takes clients, whatever is with NATS: `supernode doctor` came as one does.
fn serves(node: &Node) -> bool {
    let output = node.ask(&["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |check: &str| findings.as_array().and_then(|all| all.iter().find(|one| one["check"] == check).cloned());
    ["relay", "UDP port", "as a client"].iter().all(|check| of(check).is_some_and(|one| one["verdict"] == "good"))
}

fn secret(home: &Path, name: &str) -> PathBuf {
    let file = home.join(name);
    let output = supernode(&["cluster", "secret", &file.display().to_string()]).output().expect("the program starts");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    file
}

#[test]
fn three_relays_are_a_cluster_whatever_is_killed() {
    let home = TempDir::new().expect("a directory");
    let mut nats = Nats::start();
    let key = secret(home.path(), "secret");
    let mut nodes = [1, 2, 3].map(|number| Node::new(home.path(), &format!("node{number}"), number, &nats, &key));

    let begun = Instant::now();
    let checked = loop {
        let checked = nodes[0].ask_check();
        if checked.status.success() || begun.elapsed() > PATIENCE {
            break checked;
        }
    };
    assert!(checked.status.success(), "{checked:?}");
    nodes.iter_mut().for_each(Node::start);
    println!("three are there after {:?}", all_see(&nodes.each_ref(), &[1, 2, 3]));

    // One is killed.
    nodes[2].kill();
    let gone = all_see(&[&nodes[0], &nodes[1]], &[1, 2]);
    println!("one that was killed is gone for the others after {gone:?}");
    assert!(gone <= LEASE, "{gone:?}");

    // It comes back under its number, and so does one that is killed and started at once: nobody has to wait for more than
    // the lease.
    nodes[2].start();
    all_see(&nodes.each_ref(), &[1, 2, 3]);
    nodes[2].kill();
    nodes[2].start();
    println!("one that was started again at once is back after {:?}", all_see(&nodes.each_ref(), &[1, 2, 3]));

    // One that ends in order says so.
    let ended = nodes[2].ask(&["drain", "--patience-s", "0"]);
    assert!(ended.status.success(), "{ended:?}");
    let gone = all_see(&[&nodes[0], &nodes[1]], &[1, 2]);
    println!("one that ended is gone for the others after {gone:?}");
    nodes[2].kill();
    nodes[2].start();
    all_see(&nodes.each_ref(), &[1, 2, 3]);

    // A number that was given twice.
    let mut double = Node::new(home.path(), "double", 1, &nats, &key);
    double.start();
    let what = trouble(&double);
    assert!(what.contains("is node 1 already"), "{what}");
    assert!(double.log().contains("cluster.node"), "{}", double.log());
    all_see(&nodes.each_ref(), &[1, 2, 3]);
    double.kill();

    // A secret that is another one's.
    let stranger = Node::new(home.path(), "stranger", 9, &nats, &secret(home.path(), "other"));
    let checked = stranger.ask_check();
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("with this cluster's secret"), "{checked:?}");

    // NATS is gone: relays serve their own clients, and say what is the matter.
    nats.process.kill();
    for node in &nodes {
        assert!(trouble(node).contains("NATS is not there"));
        let status = node.ask(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
        assert_eq!(status["phase"], "ready");
        assert_eq!(status["cluster"]["nats_connected"], false);
        assert!(serves(node), "{}", node.log());
        assert_eq!(node.log().matches("NATS is not there").count(), 1, "said once: {}", node.log());
    }
    let checked = nodes[0].ask_check();
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("cannot be reached"), "{checked:?}");
    nats.start_again();
    println!("with NATS again, three are there after {:?}", all_see(&nodes.each_ref(), &[1, 2, 3]));

    // It comes back with an empty disk, when no node takes itself for alive any more.
    nats.process.kill();
    nodes.iter().for_each(|node| drop(trouble(node)));
    nats.lose_everything();
    nats.start_again();
    println!("with an empty NATS, three are there after {:?}", all_see(&nodes.each_ref(), &[1, 2, 3]));
    for node in &nodes {
        assert!(!node.log().contains("ERROR"), "{}", node.log());
    }
}
