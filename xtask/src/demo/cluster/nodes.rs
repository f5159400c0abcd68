//! Three relays as one cluster, and the NATS server by which they are.

use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};

use super::super::{Directory, Interrupted, Process, Ready, START_TIMEOUT, memory::Memory, wait_until_ready};

/// How many relays there are.
pub(super) const NODES: usize = 3;
/// What the cluster is called: NATS holds it.
pub(super) const NAME: &str = "demonstration";
/// What a second relay with the same invite must have of the first (docs/OPERATING.md, "More than one address").
const SHARED_KEYS: [&str; 2] = ["tls-key.pem", "admission-key.pem"];

/// A NATS server of our own.
pub(super) struct Nats {
    process: Process,
    address: SocketAddr,
    store: PathBuf,
    log: PathBuf,
}

impl Nats {
    pub(super) fn start(directory: &Directory, interrupted: &Interrupted) -> anyhow::Result<Self> {
        let (address, store, log) = (free_tcp_port()?, directory.path("nats"), directory.path("nats.log"));
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string(), "--jetstream", "--store_dir"]);
        let mut process = Process::start_with_files("NATS", &directory.path("nats.out"), &log, command.arg(&store))
            .context("a cluster decides by NATS: install it (Debian: apt-get install nats-server)")?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.ended()? {
                bail!("NATS ended with {status}\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("NATS takes no connection at {address} after {} s", START_TIMEOUT.as_secs());
            }
            interrupted.pause()?;
        }
        Ok(Self { process, address, store, log })
    }

    /// All that it has in its memory, its files and its log.
    pub(super) fn holds(&self) -> anyhow::Result<[Memory; 2]> {
        let mut files = fs::read(&self.log)?;
        append_files(&self.store, &mut files)?;
        Ok([Memory::of_process(self.process.id())?, Memory::of_bytes(files)])
    }
}

fn append_files(directory: &Path, all: &mut Vec<u8>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            append_files(&entry.path(), all)?;
        } else {
            all.extend(fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// One of the relays.
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    pub(super) ready: Ready,
    /// `None` once it was killed.
    pub(super) process: Option<Process>,
    pub(super) stdout: PathBuf,
    pub(super) log: PathBuf,
}

impl Node {
    pub(super) fn id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().with_context(|| format!("node {} was killed", self.number))?;
        Ok(process.id())
    }

    /// As kill -9 does it.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }
}

/// Starts them one after the other; each has the keys of the first, so that one invite leads to all.
pub(super) fn start(
    programs: &Path,
    directory: &Directory,
    nats: &Nats,
    interrupted: &Interrupted,
) -> anyhow::Result<Vec<Node>> {
    let secret = directory.path("cluster-secret");
    let made = Command::new(programs.join("supernode")).args(["cluster", "secret"]).arg(&secret).output()?;
    if !made.status.success() {
        bail!("supernode cluster secret: {}", String::from_utf8_lossy(&made.stderr));
    }
    let addresses: Vec<SocketAddr> = (0..NODES).map(|_| free_udp_port()).collect::<Result<_, _>>()?;
    let mut nodes: Vec<Node> = Vec::new();
    for (at, address) in addresses.iter().copied().enumerate() {
        let number = at + 1;
        let state = directory.path(&format!("node-{number}"));
        if at > 0 {
            fs::create_dir(&state)?;
            for key in SHARED_KEYS {
                fs::copy(directory.path("node-1").join(key), state.join(key)).with_context(|| key.to_owned())?;
            }
        }
        // Whoever begins here goes to the others when this one dies.
        let all = (0..NODES).map(|next| addresses[(at + next) % NODES].to_string()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "[relay]\nlisten = \"{address}\"\nadvertise = \"{all}\"\nstate_dir = {state:?}\n[admission]\nmode = \"open\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[cluster]\nnats = [\"nats://{}\"]\nname = \"{NAME}\"\nnode = {number}\n\
             address = \"{address}\"\nsecret_file = {secret:?}\n",
            nats.address
        );
        let config = directory.path(&format!("node-{number}.toml"));
        fs::write(&config, text)?;
        let (stdout, log) =
            (directory.path(&format!("node-{number}.json")), directory.path(&format!("node-{number}.log")));
        let mut command = Command::new(programs.join("supernode"));
        // What is promised of the log is promised of the default level; its memory is to be searched.
        command.env_remove("RUST_LOG").args(["serve", "--dumpable", "--config"]).arg(&config);
        let mut process = Process::start_with_files(format!("node {number}"), &stdout, &log, &mut command)?;
        let ready = wait_until_ready(&mut process, &stdout, &log, interrupted)?;
        nodes.push(Node { number, address, ready, process: Some(process), stdout, log });
    }
    wait_for_all(programs, directory, interrupted)?;
    Ok(nodes)
}

/// Until each sees all others live.
fn wait_for_all(programs: &Path, directory: &Directory, interrupted: &Interrupted) -> anyhow::Result<()> {
    let started = Instant::now();
    let sees_all = |number: usize| -> anyhow::Result<bool> {
        let mut command = Command::new(programs.join("supernode"));
        command.args(["cluster", "--json", "--config"]).arg(directory.path(&format!("node-{number}.toml")));
        let answer: serde_json::Value = serde_json::from_slice(&command.output()?.stdout).unwrap_or_default();
        let nodes = answer["nodes"].as_array().map_or(0, Vec::len);
        Ok(nodes == NODES && answer["life_held"] == true)
    };
    for number in 1..=NODES {
        while !sees_all(number)? {
            if started.elapsed() > START_TIMEOUT {
                bail!("node {number} does not see {NODES} nodes after {} s", START_TIMEOUT.as_secs());
            }
            interrupted.pause()?;
        }
    }
    Ok(())
}

/// One that nobody had a moment ago.
fn free_udp_port() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

fn free_tcp_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
