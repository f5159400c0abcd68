//! Whether bundles of packets (GSO) get to a relay whole, in the size that connections use on that way.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use supernode_proto::probe::{is_answer, packet};
use supernode_server::shard::probe::{BUNDLE_PACKETS, send_bundle};

use super::{Finding, good, poor};

/// How long answers may take: the handshake just now took less.
const PATIENCE: Duration = Duration::from_secs(1);
/// A bundle of which a part was lost is sent again: any network loses some.
const ATTEMPTS: u32 = 3;

/// `packet_bytes`: what a connection there has found to get through.
pub(super) fn arrives(check: &'static str, address: SocketAddr, packet_bytes: u16) -> Finding {
    let bundle = format!("UDP {address}: of a bundle of {BUNDLE_PACKETS} packets of {packet_bytes} bytes");
    let answered = (0..ATTEMPTS).map(|_| answered(address, packet_bytes.into()));
    // Whole once is enough; a refusal is one each time.
    let mut most = Ok(0);
    for answered in answered {
        most = answered.map(|count| count.max(most.unwrap_or(0)));
        if !matches!(most, Ok(count) if count < BUNDLE_PACKETS) {
            break;
        }
    }
    told(check, &bundle, most)
}

fn told(check: &'static str, bundle: &str, most: io::Result<usize>) -> Finding {
    match most {
        Ok(count) if count >= BUNDLE_PACKETS => good(check, format!("{bundle}, all arrived")),
        Ok(0) => poor(
            check,
            format!("{bundle}, none arrived, and one by one they do"),
            "a network card or a tunnel on the way out loses bundles that the kernel gave it: ethtool -K INTERFACE \
             tx-udp-segmentation off",
        ),
        Ok(count) => poor(
            check,
            format!("{bundle}, {count} arrived"),
            "bursts are cut on the way: look for a limit of the rate (tc qdisc, the provider's), or a queue that is too short",
        ),
        Err(error) => poor(
            check,
            format!("{bundle}, none was sent: {error}"),
            "packets go out one by one there, which costs more CPU: see ethtool -k for tx-checksumming and \
             tx-udp-segmentation, the interface's MTU, and whether IPsec or a firewall is on the way",
        ),
    }
}

/// How many of the packets of one bundle are answered.
fn answered(address: SocketAddr, packet_bytes: usize) -> io::Result<usize> {
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(here)?;
    socket.connect(address)?;
    let mut bytes = vec![0; BUNDLE_PACKETS * packet_bytes];
    for place in bytes.chunks_exact_mut(packet_bytes) {
        let packet = packet(&rand::random());
        // Longer ones end with zeros, which nobody reads.
        place[..packet.len()].copy_from_slice(&packet);
    }
    send_bundle(&socket, address, &bytes, packet_bytes)?;
    let (deadline, mut count, mut answer) = (Instant::now() + PATIENCE, 0, [0; 1500]);
    while count < BUNDLE_PACKETS {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut answer) {
            Ok(length) => count += usize::from(is_answer(&answer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each packet that `passes`, as a relay does.
    fn relay(passes: fn(usize) -> bool) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut packet = [0; 2000];
            for index in 0.. {
                let (length, from) = socket.recv_from(&mut packet).expect("a packet");
                assert_eq!(length, 1452, "each arrives by itself");
                if passes(index) {
                    socket.send_to(&[0x80, 0, 0, 0, 0, 0, 0, 1], from).expect("sent");
                }
            }
        });
        address
    }

    #[test]
    fn a_bundle_is_whole_cut_or_gone() {
        let found = |passes| {
            let finding = arrives("GSO", relay(passes), 1452);
            (finding.verdict, finding.found)
        };
        let (verdict, words) = found(|_| true);
        assert!(
            verdict == super::super::Verdict::Good && words.ends_with("16 packets of 1452 bytes, all arrived"),
            "{words}"
        );
        let (verdict, words) = found(|index| index % 16 < 10);
        assert!(verdict == super::super::Verdict::Poor && words.ends_with(", 10 arrived"), "{words}");
        // One of the first bundle was lost, as happens.
        assert!(found(|index| index != 3).1.ends_with("all arrived"));
        assert!(found(|_| false).1.contains("none arrived"));
        let refused = told("GSO", "of a bundle", Err(io::ErrorKind::InvalidInput.into()));
        assert!(refused.found.starts_with("of a bundle, none was sent: ") && refused.advice.contains("ethtool -k"));
    }
}
