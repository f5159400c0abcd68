//! A relay on its core, from its start to its end.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{programs::Programs, works::Relay};

/// The core that every relay runs on; the clients have the next.
pub(super) const RELAY_CORE: &str = "0";
/// The clients' core.
pub(super) const CLIENT_CORE: &str = "1";
/// How long a relay may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(10);
/// Between listening and the first client: whatever else a relay still sets up is not measured.
const SETTLE: Duration = Duration::from_millis(300);

/// A relay that listens.
pub(super) struct Running {
    child: Child,
    /// Where.
    pub(super) address: SocketAddr,
    /// From its start until its port was bound, in ms.
    pub(super) start_up_ms: f64,
}

impl Running {
    /// Starts it; `None` if there is nothing to start.
    ///
    /// # Errors
    /// If it does not listen in time; its log is named.
    pub(super) fn start(programs: &Programs, relay: Relay) -> anyhow::Result<Option<Self>> {
        let address = free_port()?;
        let Some((name, command)) = command(programs, relay, address)? else { return Ok(None) };
        let log = programs.work.join(format!("{name}.log"));
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", RELAY_CORE]).args(command).current_dir(&programs.work);
        // What it logs by itself is part of its cost; what we could make it log besides is not.
        pinned.env_remove("RUST_LOG").env("TOKIO_WORKER_THREADS", "1").env_remove("SUPERNODE_INVITE");
        pinned.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let begun = Instant::now();
        let child = pinned.spawn().context("taskset (Debian: apt-get install util-linux)")?;
        let mut running = Self { child, address, start_up_ms: 0.0 };
        while !is_bound(address.port()) {
            if begun.elapsed() > LISTEN_PATIENCE || running.child.try_wait()?.is_some() {
                bail!("{name} does not listen on {address}: {}", log.display());
            }
            thread::sleep(Duration::from_micros(500));
        }
        running.start_up_ms = begun.elapsed().as_secs_f64() * 1e3;
        thread::sleep(SETTLE);
        Ok(Some(running))
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What to type.
fn command(programs: &Programs, relay: Relay, address: SocketAddr) -> anyhow::Result<Option<(&str, Vec<String>)>> {
    let listen = address.to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let peer = |name: &str| programs.peers.join(name).to_string_lossy().into_owned();
    Ok(Some(match relay {
        Relay::Ours { window_us, shards } => {
            let program = programs.release.join("supernode").to_string_lossy().into_owned();
            let (window, shards, admin) = (window_us.to_string(), shards.to_string(), free_port()?.to_string());
            let serve = [&program, "serve", "--open", "--state-dir", "state", "--listen", &listen];
            let options = ["--admin", &admin, "--batch-window-us", &window, "--shards", &shards];
            ("supernode", words(&[&serve[..], &options].concat()))
        }
        Relay::Coturn { .. } => {
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            let program =
                ["turnserver", "-n", "--no-cli", "--no-auth", "--no-tls", "--no-dtls", "--relay-threads", "1"];
            let where_to = ["--listening-ip", &ip, "--relay-ip", &ip, "--listening-port", &port];
            let files = ["--allow-loopback-peers", "--log-file", "stdout", "--pidfile", "turn.pid"];
            ("coturn", words(&[&program[..], &where_to, &files].concat()))
        }
        Relay::Iroh => {
            let config = format!(
                "http_bind_addr = \"{}\"\nmetrics_bind_addr = \"{}\"\n[tls]\nhttps_bind_addr = \"{listen}\"\n\
                 cert_mode = \"Manual\"\ncert_dir = {:?}\n",
                free_port()?,
                free_port()?,
                programs.work
            );
            let path = programs.work.join("iroh-relay.toml");
            fs::write(&path, config)?;
            ("iroh-relay", words(&[&peer("iroh-relay"), "--config-path", &path.to_string_lossy()]))
        }
        Relay::Moq { .. } => {
            let program = [&peer("moq-relay"), "--listen", &listen];
            let options = ["--listen-tls-generate", "localhost", "--auth-public", "**"];
            ("moq-relay", words(&[&program[..], &options].concat()))
        }
        Relay::Plain => {
            let program = programs.clients.join("peer-datagrams").to_string_lossy().into_owned();
            ("plain-forward", words(&[&program, "forward", "--listen", &listen]))
        }
        Relay::Blast => return Ok(None),
    }))
}

/// A port that is free for both UDP and TCP.
fn free_port() -> anyhow::Result<SocketAddr> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if UdpSocket::bind(tcp).is_ok() {
            return Ok(tcp);
        }
    }
    bail!("no port is free for both UDP and TCP")
}

/// Whether somebody listens on this port, with UDP or TCP.
fn is_bound(port: u16) -> bool {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    is_in(&table("/proc/net/udp"), port, None) || is_in(&table("/proc/net/tcp"), port, Some("0A"))
}

/// Lines of proc(5)'s tables: the second field is the local address, the fourth the state, 0A for a TCP listener.
fn is_in(table: &str, port: u16, state: Option<&str>) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':'));
        let at = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        at == Some(port) && state.is_none_or(|state| fields.nth(1) == Some(state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_seen_and_a_free_one_is_not() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = udp.local_addr().expect("an address").port();
        assert!(is_bound(port));
        drop(udp);
        assert!(!is_bound(port));
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        assert!(is_bound(tcp.local_addr().expect("an address").port()));
    }

    #[test]
    fn a_connection_from_the_port_is_no_listener() {
        let line = "sl local rem st\n 0: 0100007F:1F90 0100007F:0050 01 00000000:00000000\n";
        assert!(!is_in(line, 0x1f90, Some("0A")));
        assert!(is_in(&line.replace(" 01 ", " 0A "), 0x1f90, Some("0A")));
    }
}
