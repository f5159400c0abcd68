//! Ports for whoever must have the same one again.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

/// Below this are the ports of services that a machine may run.
const FIRST_PORT: u16 = 10_000;
/// A machine that has so many taken in a row is not one to test on.
const TRIES_MAX: u32 = 1_000;

/// A port of loopback that is free for UDP and for TCP, and that the system gives nobody who asks for any port: while a
/// relay restarts, nobody else comes to have it.
pub fn lasting_port() -> SocketAddr {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given_away: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    assert!(given_away > FIRST_PORT, "the system gives away all ports from {given_away} on");
    let tries = (0..TRIES_MAX).map(|_| {
        let port = FIRST_PORT + rand::random::<u16>() % (given_away - FIRST_PORT);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    });
    let free = |address: &SocketAddr| UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
    tries.into_iter().find(free).expect("a free port")
}
