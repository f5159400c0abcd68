//! Whether a relay answers at an address.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use supernode_proto::DEFAULT_PORT;

use super::{Finding, bad, good};

/// How often an address is asked.
const ATTEMPTS: u32 = 5;
/// How long each answer may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Every address of this machine is reached by loopback, too.
pub(super) fn within(listen: SocketAddr) -> String {
    match (listen.ip().is_unspecified(), listen.is_ipv6()) {
        (true, true) => format!("[::1]:{}", listen.port()),
        (true, false) => format!("127.0.0.1:{}", listen.port()),
        (false, _) => listen.to_string(),
    }
}

/// Whether a relay answers there. A packet of a version that nobody speaks must be answered by the versions that are
/// spoken (RFC 9000 section 6.1), so this begins no connection.
pub(super) fn port(check: &'static str, host: &str, advice: &str) -> Finding {
    let addresses = host.to_socket_addrs().or_else(|_| (host, DEFAULT_PORT).to_socket_addrs());
    let Some(address) = addresses.ok().and_then(|mut addresses| addresses.next()) else {
        return bad(check, format!("{host}: cannot be resolved"), "name it as HOST or HOST:PORT, with --host");
    };
    match answers(address, ATTEMPTS) {
        Ok(()) => good(check, format!("{address} answers")),
        Err(error) => bad(check, format!("{address}: no answer ({error})"), advice),
    }
}

/// Asks several times: a packet may be lost, and a machine that is busy takes its time.
fn answers(address: SocketAddr, attempts: u32) -> io::Result<()> {
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
    socket.set_read_timeout(Some(ATTEMPT_TIMEOUT))?;
    let mut answer = [0; 1500];
    let mut attempt = 1;
    let length = loop {
        socket.send(&packet)?;
        match socket.recv(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < attempts => attempt += 1,
            received => break received?,
        }
    };
    // Version zero is what says that it is a list of versions (section 17.2.1).
    match length >= 7 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4] {
        true => Ok(()),
        false => Err(io::Error::other("what answers is no QUIC")),
    }
}

/// `HOST:PORT` of a link.
pub(super) fn authority(link: &supernode_proto::invite::Invite) -> String {
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
        assert!(answers(address, 1).expect_err("no QUIC").to_string().contains("no QUIC"));
        server.join().expect("it ends");
        assert!(answers(silent.local_addr().expect("bound"), 2).is_err());
    }
}
