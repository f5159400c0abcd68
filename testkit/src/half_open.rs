//! Clients that begin a handshake and go no further.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig};

use crate::client_config;

/// The first byte of a Retry packet, but for its last four bits (RFC 9000 section 17.2.5).
const RETRY: u8 = 0xf0;

/// A socket from which handshakes begin.
pub struct HalfOpen {
    socket: UdpSocket,
    relay: SocketAddr,
    endpoint: Endpoint,
    connections: Vec<(ConnectionHandle, Connection)>,
    pub sent_bytes: usize,
    /// The connection ID by which the relay knows the last handshake that began.
    named: Vec<u8>,
}

impl HalfOpen {
    pub fn at(ip: IpAddr, relay: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(relay).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Self { socket, relay, endpoint, connections: Vec::new(), sent_bytes: 0, named: Vec::new() }
    }

    /// Begins a handshake.
    pub fn begin(&mut self) {
        let begun = self.endpoint.connect(Instant::now(), client_config(), self.relay, "relay").unwrap();
        self.connections.push(begun);
        let last = self.connections.len() - 1;
        self.send(last);
    }

    /// Sends a few bytes more for the handshake that began last: early data, which the relay takes from nobody.
    pub fn nudge(&mut self) {
        let length = self.named.len() as u8;
        let packet = [&[0xd0, 0, 0, 0, 1, length], &self.named[..], &[0, 20], &[7; 20]].concat();
        self.sent_bytes += self.socket.send(&packet).unwrap_or(0);
    }

    /// Answers every Retry that has come, and nothing else; how many there were.
    pub fn answer_retries(&mut self) -> usize {
        let (mut answered, mut buffer) = (0, [0; 2048]);
        while let Ok(bytes) = self.socket.recv(&mut buffer) {
            if buffer[0] & 0xf0 != RETRY {
                continue;
            }
            let (data, mut answer) = (BytesMut::from(&buffer[..bytes]), Vec::new());
            let event = self.endpoint.handle(Instant::now(), self.relay, None, None, data, &mut answer);
            let Some(DatagramEvent::ConnectionEvent(to, event)) = event else { continue };
            let Some(at) = self.connections.iter().position(|(handle, _)| *handle == to) else { continue };
            self.connections[at].1.handle_event(event);
            self.send(at);
            answered += 1;
        }
        answered
    }

    /// Bytes that come from the relay within this time.
    pub fn received_bytes(&self, within: Duration) -> usize {
        let (until, mut buffer, mut received) = (Instant::now() + within, [0; 2048], 0);
        while Instant::now() < until {
            received += self.socket.recv(&mut buffer).unwrap_or(0);
        }
        received
    }

    fn send(&mut self, at: usize) {
        let mut packet = Vec::new();
        while self.connections[at].1.poll_transmit(Instant::now(), 1, &mut packet).is_some() {
            self.sent_bytes += self.socket.send(&packet).unwrap_or(0);
            self.named = packet[6..6 + usize::from(packet[5])].to_vec();
            packet.clear();
        }
    }
}
