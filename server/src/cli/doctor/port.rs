//! Whether a relay answers at an address.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use supernode_proto::{DEFAULT_PORT, probe};

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

/// Whether a relay answers there, without a connection.
pub(super) fn port(check: &'static str, host: &str, advice: &str) -> Finding {
    let addresses = host.to_socket_addrs().or_else(|_| (host, DEFAULT_PORT).to_socket_addrs());
    let Some(address) = addresses.ok().and_then(|mut addresses| addresses.next()) else {
        return bad(check, format!("{host}: cannot be resolved"), "name it as HOST or HOST:PORT, with --host");
    };
    match answers(address) {
        Ok(()) => good(check, format!("UDP {address} answers")),
        Err(error) => bad(check, format!("UDP {address}: {error}"), advice),
    }
}

/// Whether anything of QUIC answers there, and if not, in which way.
pub(super) fn answers(address: SocketAddr) -> Result<(), String> {
    ask(address, ATTEMPTS).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!("no answer to {ATTEMPTS} packets in {ATTEMPTS} s: dropped on the way, or no relay is there")
        }
        io::ErrorKind::ConnectionRefused => {
            "refused at once (ICMP): the machine is there, and nothing listens at that UDP port".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!("this machine's own firewall refuses to send ({error})"),
        _ if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            "packets of 1,200 bytes do not get there, which QUIC needs: a tunnel on the way is too narrow (MTU)"
                .to_owned()
        }
        _ => format!("no answer ({error})"),
    })
}

/// Whether packets to there have a way out of this machine.
pub(super) fn is_routed(address: SocketAddr) -> bool {
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    UdpSocket::bind(here).and_then(|socket| socket.connect(address)).is_ok()
}

/// Asks several times: a packet may be lost, and a machine that is busy takes its time.
fn ask(address: SocketAddr, attempts: u32) -> io::Result<()> {
    let packet = probe::packet(&rand::random());
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(here)?;
    // As QUIC sends: in one piece or not at all.
    quinn_udp::UdpSocketState::new((&socket).into())?;
    socket.set_nonblocking(false)?;
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
    match probe::is_answer(&answer[..length]) {
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
        assert!(ask(address, 1).expect_err("no QUIC").to_string().contains("no QUIC"));
        server.join().expect("it ends");
        let quiet = silent.local_addr().expect("bound");
        assert_eq!(ask(quiet, 2).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        drop(silent);
        let begin = std::time::Instant::now();
        assert!(answers(quiet).expect_err("nobody").contains("refused at once"));
        assert!(begin.elapsed() < ATTEMPT_TIMEOUT);
    }
}
