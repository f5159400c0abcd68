//! `supernode doctor`

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::{Duration, SystemTime},
};

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use supernode_proto::DEFAULT_PORT;
use supernode_server::{
    control::{
        prepared::Prepared,
        reload::CERTIFICATE_WARN_S,
        state_dir::StateDir,
        status::{Phase, Status as Reading},
    },
    shard::probe,
};

use super::{
    exit::Exit,
    output::{bytes, duration, print, print_json},
    relay::Relay,
    state::State,
};

/// How long an answer from the UDP port may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A relay has a few descriptors for each shard, and one for each visitor of the admin port.
const DESCRIPTORS_MIN: u64 = 1024;
/// Nobody signed anything before this program was written: 2026, in seconds since 1970.
const CLOCK_MIN_UNIX_S: u64 = 1_767_225_600;

#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    state: State,
    /// Where clients reach the relay, to be tried from here [default: the address of its last start].
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, and could work better.
    Poor,
    /// It does not work.
    Bad,
}

/// A check, and what to do about it.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// Empty if there is nothing to do.
    advice: String,
}

impl Doctor {
    /// Looks for what keeps a relay on this machine from working well.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let path = self.state.path()?;
        let mut findings = vec![clock(), descriptors(), self.configuration()?];
        match probe::offers() {
            Ok(offers) => findings.extend(kernel(&offers)),
            Err(error) => findings.push(bad("kernel", format!("no UDP socket: {error}"), "allow this user sockets")),
        }
        match StateDir::open(&path) {
            Ok(state) => {
                findings.push(keys(&state));
                let reading = Relay::of(&self.state)?.status();
                findings.push(relay(reading.as_ref()));
                if let Ok(reading) = &reading {
                    findings.push(port(
                        "UDP port",
                        &within(reading.listen),
                        "is the relay's process stopped or overloaded?",
                    ));
                    findings.extend(process(reading));
                    findings.extend(reading.certificate_left_s.map(certificate));
                }
                if let Some(host) = self.host.clone().or(state.link()?.map(|link| authority(&link))) {
                    let advice = "let UDP to this port through the firewall, and forward it if there is a NAT; then try from outside too";
                    findings.push(port("UDP from here to clients' address", &host, advice));
                }
            }
            Err(error) => findings.push(bad(
                "state directory",
                error.to_string(),
                "start a relay (supernode serve) or name another directory: --state-dir",
            )),
        }
        match self.json {
            true => print_json(&findings)?,
            false => print(&table(&findings))?,
        }
        match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
            0 => Ok(()),
            faults => Err(Exit::No(format!("{faults} of {} checks found a fault", findings.len())).into()),
        }
    }
}

impl Doctor {
    /// Whether a relay would start with it, as `supernode check-config` tells: certificate, key and allow-list included.
    fn configuration(&self) -> anyhow::Result<Finding> {
        let loaded = self.state.configuration()?;
        Ok(match Prepared::read(&loaded.config) {
            Ok(_) => good("configuration", "holds, with the files that it names"),
            Err(error) => bad("configuration", format!("{:#}", anyhow::Error::from(error)), "mend that file"),
        })
    }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let mark = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Poor => "poor",
            Verdict::Bad => "BAD ",
        };
        let advice = if finding.advice.is_empty() { String::new() } else { format!("      -> {}\n", finding.advice) };
        format!("{mark}  {:width$}  {}\n{advice}", finding.check, finding.found)
    };
    findings.iter().map(line).collect()
}

fn good(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Good, found: found.into(), advice: String::new() }
}

fn poor(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Poor, found: found.into(), advice: advice.into() }
}

fn bad(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Bad, found: found.into(), advice: advice.into() }
}

/// Delegations, tickets and tokens run by the clock.
fn clock() -> Finding {
    let unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if unix_s < CLOCK_MIN_UNIX_S {
        return bad("clock", "stands before 2026", "set it: tokens and tickets are checked against it");
    }
    match fs::exists("/run/systemd/timesync/synchronized") {
        Ok(true) => good("clock", "set by systemd-timesyncd"),
        _ => good("clock", "plausible; whether anything keeps it right was not found out (it must be within a minute)"),
    }
}

fn descriptors() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS_MIN => poor(
            "file limit",
            format!("{limit} descriptors"),
            format!("raise it to {DESCRIPTORS_MIN} or more: ulimit -n, or LimitNOFILE= of the unit"),
        ),
        Some(limit) => good("file limit", format!("{limit} descriptors for this user's shell")),
        None => good("file limit", "none"),
    }
}

fn kernel(offers: &probe::Offers) -> Vec<Finding> {
    let mut findings = vec![
        match offers.segments_out_max {
            1 => poor("GSO", "not offered", "each packet costs a system call's worth: a newer kernel (4.18) has it"),
            most => good("GSO", format!("up to {most} datagrams in one send")),
        },
        match offers.segments_in_max {
            1 => poor("GRO", "not offered", "each packet is received by itself: a newer kernel (5.0) has it"),
            most => good("GRO", format!("up to {most} datagrams in one receive")),
        },
        match offers.steering {
            true => good("steering", "clients that change their address stay with their shard"),
            false => {
                poor("steering", "not offered", "clients that change their address cost a hand-over between shards")
            }
        },
    ];
    findings.push(buffers(
        "socket buffers",
        offers.receive_buffer_bytes,
        offers.send_buffer_bytes,
        offers.buffer_wanted_bytes,
    ));
    findings
}

fn buffers(check: &'static str, receive: u64, send: u64, wanted: u64) -> Finding {
    let found = format!("{} to receive, {} to send, of {} asked for", bytes(receive), bytes(send), bytes(wanted));
    match receive < wanted || send < wanted {
        true => poor(
            check,
            found,
            format!("sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}: bursts are lost in small ones"),
        ),
        false => good(check, found),
    }
}

fn keys(state: &StateDir) -> Finding {
    match state.keys() {
        Ok(_) => good("keys", "readable by their owner only"),
        Err(error) => bad("keys", error.to_string(), ""),
    }
}

fn relay(reading: Result<&Reading, &anyhow::Error>) -> Finding {
    match reading {
        Ok(reading) if reading.phase == Phase::Draining => {
            poor("relay", "draining: it takes nobody new", "start it again, or wait for its successor")
        }
        Ok(reading) => good(
            "relay",
            format!("process {} has run for {} on {} shards", reading.pid, duration(reading.uptime_s), reading.shards),
        ),
        Err(error) => bad("relay", error.to_string(), ""),
    }
}

/// How long clients will still take it.
fn certificate(left_s: i64) -> Finding {
    const RENEW: &str = "renew the files that tls.certificate and tls.key name: the relay takes them within seconds. With \
        ACME, its log says why none came";
    let days = left_s / 86_400;
    match left_s {
        ..0 => bad("certificate", format!("ran out {} days ago: clients refuse this relay", -days), RENEW),
        0..CERTIFICATE_WARN_S => poor("certificate", format!("runs out in {days} days"), RENEW),
        _ => good("certificate", format!("good for {days} days")),
    }
}

/// What the running process has been granted.
fn process(reading: &Reading) -> Vec<Finding> {
    let Ok(offers) = probe::offers() else { return Vec::new() };
    vec![buffers(
        "the relay's buffers",
        reading.receive_buffer_bytes,
        reading.send_buffer_bytes,
        offers.buffer_wanted_bytes,
    )]
}

/// Every address of this machine is reached by loopback, too.
fn within(listen: SocketAddr) -> String {
    match (listen.ip().is_unspecified(), listen.is_ipv6()) {
        (true, true) => format!("[::1]:{}", listen.port()),
        (true, false) => format!("127.0.0.1:{}", listen.port()),
        (false, _) => listen.to_string(),
    }
}

/// Whether a relay answers there. A packet of a version that nobody speaks must be answered by the versions that are
/// spoken (RFC 9000 section 6.1), so this begins no connection.
fn port(check: &'static str, host: &str, advice: &str) -> Finding {
    let addresses = host.to_socket_addrs().or_else(|_| (host, DEFAULT_PORT).to_socket_addrs());
    let Some(address) = addresses.ok().and_then(|mut addresses| addresses.next()) else {
        return bad(check, format!("{host}: cannot be resolved"), "name it as HOST or HOST:PORT, with --host");
    };
    match answers(address) {
        Ok(()) => good(check, format!("{address} answers")),
        Err(error) => bad(check, format!("{address}: no answer ({error})"), advice),
    }
}

fn answers(address: SocketAddr) -> std::io::Result<()> {
    const VERSION_NOBODY_SPEAKS: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
    let cid: [u8; 20] = rand::random();
    // At least 1,200 bytes, or it is not answered (RFC 9000 section 14.1).
    let mut packet = vec![0; 1200];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&VERSION_NOBODY_SPEAKS);
    packet[5] = 20;
    packet[6..26].copy_from_slice(&cid);
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(here)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(PROBE_TIMEOUT))?;
    socket.send(&packet)?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    // Version zero is what says that it is a list of versions (section 17.2.1).
    match length >= 7 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4] {
        true => Ok(()),
        false => Err(std::io::Error::other("what answers is no QUIC")),
    }
}

/// `HOST:PORT` of a link.
fn authority(link: &supernode_proto::invite::Invite) -> String {
    match link.host.contains(':') {
        true => format!("[{}]:{}", link.host, link.port),
        false => format!("{}:{}", link.host, link.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_or_speaks_no_quic_is_found_out() {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let talking = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = talking.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (_, client) = talking.recv_from(&mut [0; 1500]).expect("a packet");
            talking.send_to(b"hello, this is no QUIC", client).expect("sent");
        });
        assert!(answers(address).expect_err("no QUIC").to_string().contains("no QUIC"));
        server.join().expect("it ends");
        assert!(answers(silent.local_addr().expect("bound")).is_err());
    }

    #[test]
    fn a_certificate_s_end_is_a_fault_once_it_has_come_and_a_warning_before() {
        assert_eq!(certificate(90 * 86_400).verdict, Verdict::Good);
        let soon = certificate(3 * 86_400);
        assert_eq!((soon.verdict, &*soon.found), (Verdict::Poor, "runs out in 3 days"));
        assert_eq!(certificate(-1).verdict, Verdict::Bad);
    }

    #[test]
    fn small_buffers_come_with_the_command_that_mends_them() {
        let finding = buffers("buffers", 212_992, 8 << 20, 8 << 20);
        assert_eq!(finding.verdict, Verdict::Poor);
        assert!(finding.advice.contains("net.core.rmem_max=8388608"), "{}", finding.advice);
        assert_eq!(buffers("buffers", 8 << 20, 8 << 20, 8 << 20).verdict, Verdict::Good);
    }
}
