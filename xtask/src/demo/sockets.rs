//! Which UDP ports a process has.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, bail};

/// The local UDP ports of `process` and of those that it has started, in order: a browser is many.
///
/// # Errors
/// If the kernel does not say or there is none.
pub(super) fn udp_ports(process: u32) -> anyhow::Result<Vec<u16>> {
    let mut sockets = sockets_of(process)?;
    // One that has ended meanwhile is none of the call.
    sockets.extend(descendants(process)?.into_iter().filter_map(|each| sockets_of(each).ok()).flatten());
    let mut ports = BTreeSet::new();
    for table in ["udp", "udp6"] {
        // Where IPv6 is switched off there is no table of it.
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        ports.extend(text.lines().filter_map(row).filter(|(_, inode)| sockets.contains(*inode)).map(|(port, _)| port));
    }
    if ports.is_empty() {
        bail!("process {process} has no UDP port");
    }
    Ok(ports.into_iter().collect())
}

/// The inodes of a process's sockets.
fn sockets_of(process: u32) -> anyhow::Result<BTreeSet<String>> {
    let descriptors = format!("/proc/{process}/fd");
    let mut sockets = BTreeSet::new();
    for descriptor in fs::read_dir(&descriptors).with_context(|| descriptors.clone())? {
        // One that was closed meanwhile is no socket of the call.
        let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    Ok(sockets)
}

/// Those that `process` has started, and those that these have.
fn descendants(process: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        parents.extend(parent(&status).map(|parent| (id, parent)));
    }
    let mut found = vec![process];
    let mut at = 0;
    while let Some(&each) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == each).map(|(id, _)| *id));
        at += 1;
    }
    Ok(found.split_off(1))
}

/// From a process's line in /proc: behind its name, which may hold anything, come its state and its parent.
fn parent(line: &str) -> Option<u32> {
    line.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The local port and the inode of a row of the kernel's table; `None` for its heading.
fn row(line: &str) -> Option<(u16, &str)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.nth(7)?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        os::fd::OwnedFd,
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_ports_of_a_process_are_those_of_its_sockets() {
        let ours = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = ours.local_addr().expect("bound").port();
        assert!(udp_ports(std::process::id()).expect("one at least").contains(&port));
        udp_ports(1_000_000_000).expect_err("no such process");
    }

    #[test]
    fn the_ports_of_those_that_it_has_started_are_its_own() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        // The shell gives it to a process of its own, and has it no more.
        let script = "exec 3<&0; sleep 20 <&3 & exec 0<&- 3<&-; wait";
        let mut child = Command::new("sh").args(["-c", script]).stdin(OwnedFd::from(socket)).spawn().expect("a shell");
        let has_it = |process| sockets_of(process).is_ok_and(|sockets| !sockets.is_empty());
        let started = Instant::now();
        while has_it(child.id()) && started.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
        let (ports, started) = (udp_ports(child.id()), descendants(child.id()).expect("readable"));
        for each in &started {
            let ended = Command::new("kill").arg(each.to_string()).status();
            assert!(ended.is_ok_and(|status| status.success()));
        }
        child.wait().expect("it ended");
        assert_eq!(ports.expect("one"), [port]);
        assert_eq!(started.len(), 1);
        assert_eq!(parent("12 (a ) b) S 7 12 12"), Some(7));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_heading_is_no_row() {
        assert_eq!(row("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"), None);
        let line = " 5: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4242 2 0 0";
        assert_eq!(row(line), Some((8080, "4242")));
    }
}
