//! What the network says of packets that it did not deliver (ICMP): Linux keeps it in a queue beside the socket (ip(7),
//! IP_RECVERR).
//!
//! It is a claim of whoever is on the way, and forged easily: it ends an attempt and explains why, and never a connection
//! that stands (R-130, RFC 9000 section 14.2.1).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockname, recvmsg, setsockopt, sockopt,
};

/// Room for one report: sock_extended_err(7) with whose it is, and what stands around them.
const CONTROL_BYTES: usize = 256;

/// A packet that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// Where it was to go.
    pub(crate) to: SocketAddr,
    /// What became of it, as the system names it.
    pub(crate) errno: i32,
    /// For EMSGSIZE: the bytes that a UDP packet may have on the way there.
    pub(crate) bytes_max: Option<usize>,
}

/// Asks the system to keep reports for this socket. Where it does not, packets are lost without a word.
pub(crate) fn keep(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    let own: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    if own.as_sockaddr_in6().is_some() {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(())
}

/// The oldest report that nobody has read, or that there is none ([`io::ErrorKind::WouldBlock`]).
pub(crate) fn next(socket: &impl AsFd) -> io::Result<Report> {
    let (mut packet, mut control) = ([0; 1], [0; CONTROL_BYTES]);
    loop {
        let mut parts = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let to = message.address.as_ref().and_then(address);
        let error = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
            _ => None,
        });
        // What is neither is of no use to us: time stamps, for one.
        if let Some((to, error)) = to.zip(error) {
            let errno = error.ee_errno as i32;
            let bytes_max = (errno == libc::EMSGSIZE).then(|| (error.ee_info as usize).saturating_sub(overhead(to)));
            return Ok(Report { to, errno, bytes_max });
        }
    }
}

/// Bytes of a packet that are not UDP's payload.
fn overhead(to: SocketAddr) -> usize {
    const UDP: usize = 8;
    if to.is_ipv4() { 20 + UDP } else { 40 + UDP }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let address = match nix::sys::socket::SockaddrLike::family(storage)? {
        AddressFamily::Inet => SocketAddr::V4((*storage.as_sockaddr_in()?).into()),
        AddressFamily::Inet6 => SocketAddr::V6((*storage.as_sockaddr_in6()?).into()),
        _ => return None,
    };
    Some(plain(address))
}

/// As it was before a socket of both families wrote it in its own way.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), address.port()),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        time::{Duration, Instant},
    };

    use super::*;

    /// The first report on a socket, which comes within a moment on loopback.
    fn reported(socket: &UdpSocket) -> Report {
        let begin = Instant::now();
        loop {
            match next(socket) {
                Ok(report) => return report,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "no report");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_port_where_nobody_listens_is_reported_by_address_whichever_family_the_socket_is_of() {
        let nobody = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback");
        for bind in ["127.0.0.1:0", "[::]:0"] {
            // A machine may have no IPv6.
            let Ok(socket) = UdpSocket::bind(bind) else { continue };
            keep(&socket).expect("Linux has it");
            assert_eq!(next(&socket).expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
            let to = match socket.local_addr().expect("bound").ip() {
                IpAddr::V4(_) => nobody,
                IpAddr::V6(_) => SocketAddr::new("::ffff:127.0.0.1".parse().expect("mapped"), nobody.port()),
            };
            socket.send_to(b"is anybody there?", to).expect("sent");
            let report = Report { to: nobody, errno: libc::ECONNREFUSED, bytes_max: None };
            assert_eq!(reported(&socket), report, "{bind}");
        }
    }
}
