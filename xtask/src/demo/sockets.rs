//! Which UDP ports a process has.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, bail};

/// The local UDP ports of `process`, in order.
///
/// # Errors
/// If the kernel does not say or there is none.
pub(super) fn udp_ports(process: u32) -> anyhow::Result<Vec<u16>> {
    let descriptors = format!("/proc/{process}/fd");
    let mut sockets = BTreeSet::new();
    for descriptor in fs::read_dir(&descriptors).with_context(|| descriptors.clone())? {
        // One that was closed meanwhile is no socket of the call.
        let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
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

/// The local port and the inode of a row of the kernel's table; `None` for its heading.
fn row(line: &str) -> Option<(u16, &str)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.nth(7)?))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_ports_of_a_process_are_those_of_its_sockets() {
        let ours = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = ours.local_addr().expect("bound").port();
        assert!(udp_ports(std::process::id()).expect("one at least").contains(&port));
        udp_ports(1_000_000_000).expect_err("no such process");
    }

    #[test]
    fn a_heading_is_no_row() {
        assert_eq!(row("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"), None);
        let line = " 5: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4242 2 0 0";
        assert_eq!(row(line), Some((8080, "4242")));
    }
}
