//! `supernode doctor`

mod bundle;
mod cluster;
mod dial;
mod port;
mod push;
mod web;

use std::{fs, io, path::PathBuf, time::SystemTime};

use anyhow::Context;
use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use supernode_proto::{invite::Invite, page_link};
use supernode_server::{
    control::{
        config::Loaded,
        files,
        invite::parse_host,
        invites,
        prepared::Prepared,
        reload::CERTIFICATE_WARN_S,
        serve::unix_now_s,
        state_dir::{StateDir, StateError},
        status::{Phase, Status as Reading},
        trust::Objection,
    },
    shard::probe,
};

use self::{
    dial::Destination,
    port::{port, within},
};
use super::{
    exit::{self, Exit},
    output::{bytes, date, duration, print, print_json},
    relay::Relay,
    state::State,
};

/// A relay has a few descriptors for each shard, and one for each visitor of the admin port.
const DESCRIPTORS_MIN: u64 = 1024;
/// A link is at most a few hundred bytes.
const INVITE_BYTES_MAX: u64 = 64 * 1024;
/// Nobody signed anything before this program was written: 2026, in seconds since 1970.
const CLOCK_MIN_UNIX_S: u64 = 1_767_225_600;

#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    state: State,
    /// Where clients reach the relay, to be tried from here [default: the address of its last start].
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// File with an invite link: every address that it leads to is dialled as a client does, and let in by it.
    #[arg(long, value_name = "FILE")]
    invite_file: Option<PathBuf>,
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
        let configuration = self.state.configuration();
        let opened = self.state.path_despite(&configuration).and_then(|path| {
            let state = StateDir::open(&path)?;
            Ok((state, Relay::at(&path)?))
        });
        let mut findings = vec![clock()];
        findings.extend(configured(configuration));
        match probe::offers() {
            Ok(offers) => {
                findings.extend(kernel(&offers));
                findings
                    .extend(probe::bundles_out().into_iter().map(|(family, bytes, sent)| way_out(family, bytes, sent)));
            }
            Err(error) => findings.push(bad("kernel", format!("no UDP socket: {error}"), "allow this user sockets")),
        }
        let mut reading = None;
        let mut known = None;
        match opened {
            Ok((state, running)) => {
                findings.push(keys(&state));
                findings.extend(invites(&state));
                let status = running.status();
                findings.push(relay(status.as_ref()));
                reading = status.ok();
                match state.link() {
                    Ok(link) => known = link,
                    Err(error) => findings.push(failed("link", &error.into())),
                }
            }
            // Whoever names a host may want to know of a relay elsewhere.
            Err(error) if (self.host.is_some() || self.invite_file.is_some()) && is_nowhere(&error) => {}
            Err(error) => findings.push(failed("state directory", &error)),
        }
        findings.push(descriptors(reading.as_ref()));
        if let Some(reading) = &reading {
            findings.push(port("UDP port", &within(reading.listen), "is the relay's process stopped or overloaded?"));
            findings.extend(process(reading));
            findings.extend(reading.certificate_left_s.map(certificate));
            findings.extend(reading.page.as_ref().map(web::page));
            findings.extend(reading.cluster.as_ref().map(cluster::node));
        }
        let destination = self.destination(self.host.as_deref(), known)?;
        findings.extend(destination.iter().flat_map(dial::as_client));
        findings.extend(destination.iter().filter_map(|destination| web::certificates(&destination.link)));
        match self.json {
            true => print_json(&findings)?,
            false => print(&table(&findings))?,
        }
        match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
            0 => Ok(()),
            faults => Err(Exit::no(format!("{faults} of {} checks found a fault", findings.len()))),
        }
    }
}

impl Doctor {
    /// Where clients come, and by what they know the relay: the invite's, or what was known at the relay's last start.
    fn destination(&self, host: Option<&str>, known: Option<Invite>) -> anyhow::Result<Option<Destination>> {
        let invited = match &self.invite_file {
            Some(path) => {
                let text = files::read_text(path, INVITE_BYTES_MAX).with_context(|| path.display().to_string())?;
                let link = page_link::unpaged(text.trim()).unwrap_or_default().parse::<Invite>();
                Some(link.with_context(|| format!("{}: is no invite link", path.display()))?)
            }
            None => known,
        };
        let is_known = invited.is_some();
        let link = match (host.map(parse_host).transpose()?, invited) {
            (Some(Invite { host, port, also, .. }), Some(link)) => Invite { host, port, also, ..link },
            (Some(named), None) => named,
            (None, Some(link)) => link,
            (None, None) => return Ok(None),
        };
        Ok(Some(Destination { link, is_known }))
    }
}

/// Whether no relay has ever run here.
fn is_nowhere(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StateError::Missing { .. } | StateError::NoDefault))
}

/// Whether a relay would start with it, as `supernode check-config` tells: certificate, key and allow-list included; and
/// whether clients would take the certificate.
fn configured(configuration: anyhow::Result<Loaded>) -> Vec<Finding> {
    const MEND: &str = "clients check it by the authorities that they trust: renew it, or take the files that fit \
        (tls.certificate, tls.key, relay.advertise)";
    let prepared = configuration.and_then(|loaded| Ok((Prepared::read(&loaded.config)?, loaded)));
    let (prepared, loaded) = match prepared {
        Ok(both) => both,
        Err(error) => return vec![failed("configuration", &error)],
    };
    let mut findings = vec![good("configuration", "holds, with the files that it names")];
    findings.extend(push::services(&loaded.config));
    findings.extend(cluster::nats(&loaded.config, &prepared));
    if prepared.certificate.is_some() {
        let objections = prepared.objections(&loaded.config);
        if objections.is_empty() {
            findings.push(good("certificate's files", "clients will take what is in them"));
        }
        findings.extend(objections.iter().map(|objection| match objection {
            Objection::Refused(words) => bad("certificate's files", words, MEND),
            Objection::Untrusted(words) => poor("certificate's files", words, "fine for an authority of your own"),
        }));
    }
    findings
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

/// What went wrong says itself what to do.
fn failed(check: &'static str, error: &anyhow::Error) -> Finding {
    bad(check, format!("{error:#}"), exit::todo(error))
}

/// Delegations, tickets and tokens run by the clock.
fn clock() -> Finding {
    let unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if unix_s < CLOCK_MIN_UNIX_S {
        return bad("clock", "stands before 2026", "set it: tokens and tickets are checked against it");
    }
    match probe::clock_is_synchronised() {
        Some(true) => good("clock", "plausible, and something keeps it right"),
        Some(false) => poor(
            "clock",
            "plausible, and nothing keeps it right",
            "run an NTP client, such as systemd-timesyncd or chrony: tokens and tickets need the minute",
        ),
        None => {
            good("clock", "plausible; whether anything keeps it right was not found out (it must be within a minute)")
        }
    }
}

/// Of the relay, if one runs; else of this process, whose limits one that was started from here would have.
fn descriptors(reading: Option<&Reading>) -> Finding {
    let of_relay = reading.and_then(|reading| fs::read_to_string(format!("/proc/{}/limits", reading.pid)).ok());
    let (limit, whose) = match of_relay.as_deref().and_then(open_files_max) {
        Some(limit) => (limit, "for the running relay"),
        None => (getrlimit(Resource::Nofile).current, "for this user's shell"),
    };
    match limit {
        Some(limit) if limit < DESCRIPTORS_MIN => poor(
            "file limit",
            format!("{limit} descriptors {whose}"),
            format!("raise it to {DESCRIPTORS_MIN} or more: ulimit -n, or LimitNOFILE= of the unit"),
        ),
        Some(limit) => good("file limit", format!("{limit} descriptors {whose}")),
        None => good("file limit", format!("none {whose}")),
    }
}

/// The soft limit in the text of proc(5)'s `limits`; within it, `None` is none.
fn open_files_max(limits: &str) -> Option<Option<u64>> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(None) } else { soft.parse().ok().map(Some) }
}

fn kernel(offers: &probe::Offers) -> Vec<Finding> {
    let mut findings = offload(
        ["GSO", "GRO", "steering"],
        offers.segments_out_max as u64,
        offers.segments_in_max as u64,
        offers.steering,
    );
    findings.push(buffers(
        "socket buffers",
        offers.receive_buffer_bytes,
        offers.send_buffer_bytes,
        offers.buffer_wanted_bytes,
    ));
    findings
}

fn offload([gso, gro, steering]: [&'static str; 3], out: u64, in_: u64, steers: bool) -> Vec<Finding> {
    vec![
        match out {
            1 => poor(
                gso,
                "not in use",
                "each packet costs a system call's worth: the kernel is older than 4.18, or refuses bundles on a way out \
                 (docs/OPERATING.md#supernodebundlesrefused)",
            ),
            most => good(gso, format!("up to {most} datagrams in one send")),
        },
        match in_ {
            1 => poor(gro, "not in use", "each packet is received by itself: a newer kernel (5.0) has it"),
            most => good(gro, format!("up to {most} datagrams in one receive")),
        },
        match steers {
            true => good(steering, "clients that change their address stay with their shard"),
            false => poor(steering, "not in use", "clients that change their address cost a hand-over between shards"),
        },
    ]
}

/// Whether a bundle of the size that the relay sends gets past the kernel there: a network card may not take it though
/// the kernel does.
fn way_out(family: &'static str, packet_bytes: usize, sent: io::Result<()>) -> Finding {
    let check = if family == "IPv4" { "GSO on the way out, IPv4" } else { "GSO on the way out, IPv6" };
    match sent {
        Ok(()) => good(check, format!("a bundle of 16 packets of {packet_bytes} bytes was taken")),
        Err(error) => poor(
            check,
            format!("refused: {error}"),
            "the relay sends packets one by one there, which costs more CPU: see ethtool -k for tx-checksumming and \
             tx-udp-segmentation, the interface's MTU, and whether IPsec or a firewall is on the way",
        ),
    }
}

/// The kernel counts a buffer twice: what is asked for, and as much for its own use.
fn buffers(check: &'static str, receive: u64, send: u64, wanted: u64) -> Finding {
    let found =
        format!("{} to receive, {} to send, of {} asked for", bytes(receive / 2), bytes(send / 2), bytes(wanted));
    match receive / 2 < wanted || send / 2 < wanted {
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
        Err(error) => failed("keys", &error.into()),
    }
}

/// Whether invites that have a label end soon.
fn invites(state: &StateDir) -> Option<Finding> {
    let all = match invites::read(state) {
        Ok(all) => all,
        Err(error) => return Some(failed("invites", &error.into())),
    };
    let mut ending: Vec<_> = invites::ending(&all, unix_now_s()).collect();
    ending.sort_by_key(|one| one.ends_unix_s);
    let first = ending.first()?;
    let found =
        format!("{} end within a week, the first, {:?}, on {}", ending.len(), first.label, date(first.ends_unix_s));
    Some(poor(
        "invites",
        found,
        "give those people new links (supernode invite); supernode invites list has all of them",
    ))
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
        Err(error) => failed("relay", error),
    }
}

/// How long clients will still take it.
fn certificate(left_s: i64) -> Finding {
    const RENEW: &str = "renew the files that tls.certificate and tls.key name: the relay takes them within seconds. With \
        ACME, its log says why none came";
    const NO_END_DAYS: i64 = 50 * 365;
    let days = left_s / 86_400;
    match left_s {
        ..0 => bad("certificate", format!("ran out {} days ago: clients refuse this relay", -days), RENEW),
        0..CERTIFICATE_WARN_S => poor("certificate", format!("runs out in {days} days"), RENEW),
        // A relay's own one.
        _ if days > NO_END_DAYS => good("certificate", "has no end that anybody will see"),
        _ => good("certificate", format!("good for {days} days")),
    }
}

/// What the running process has been granted.
fn process(reading: &Reading) -> Vec<Finding> {
    let mut findings = match (reading.segments_out_max, reading.segments_in_max, reading.steering) {
        (Some(out), Some(in_), Some(steering)) => {
            offload(["the relay's GSO", "the relay's GRO", "the relay's steering"], out, in_, steering)
        }
        // It is of an older version, which does not say.
        _ => Vec::new(),
    };
    findings.push(buffers(
        "the relay's buffers",
        reading.receive_buffer_bytes,
        reading.send_buffer_bytes,
        probe::BUFFER_WANTED_BYTES,
    ));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_another_process_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             1                    2                    processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_max(limits), Some(Some(1024)));
        assert_eq!(open_files_max(&limits.replace("1024", "unlimited")), Some(None));
        assert_eq!(open_files_max("Max processes 1 2"), None);
        let own = fs::read_to_string("/proc/self/limits").expect("proc(5)");
        assert_eq!(open_files_max(&own), Some(getrlimit(Resource::Nofile).current));
    }

    #[test]
    fn a_certificate_s_end_is_a_fault_once_it_has_come_and_a_warning_before() {
        let fresh = certificate(90 * 86_400);
        assert_eq!((fresh.verdict, &*fresh.found), (Verdict::Good, "good for 90 days"));
        assert_eq!(certificate(755_718 * 86_400).found, "has no end that anybody will see");
        let soon = certificate(3 * 86_400);
        assert_eq!((soon.verdict, &*soon.found), (Verdict::Poor, "runs out in 3 days"));
        assert_eq!(certificate(-1).verdict, Verdict::Bad);
    }

    #[test]
    fn small_buffers_come_with_the_command_that_mends_them() {
        let finding = buffers("buffers", 425_984, 16 << 20, 8 << 20);
        assert_eq!(finding.verdict, Verdict::Poor);
        assert!(finding.found.starts_with("208 KiB to receive, 8.0 MiB to send"), "{}", finding.found);
        assert!(finding.advice.contains("net.core.rmem_max=8388608"), "{}", finding.advice);
        assert_eq!(buffers("buffers", 8 << 20, 8 << 20, 8 << 20).verdict, Verdict::Poor, "half of it is the kernel's");
        assert_eq!(buffers("buffers", 16 << 20, 16 << 20, 8 << 20).verdict, Verdict::Good);
    }
}
