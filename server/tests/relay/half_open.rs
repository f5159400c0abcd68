//! Clients that begin a handshake and go no further.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig};

use crate::harness::client_config;

/// The first byte of a Retry packet, but for its last four bits (RFC 9000 section 17.2.5).
const RETRY: u8 = 0xf0;

/// A socket from which handshakes begin.
pub struct HalfOpen {
    pub socket: UdpSocket,
    relay: SocketAddr,
    endpoint: Endpoint,
    connections: Vec<(ConnectionHandle, Connection)>,
    pub sent_bytes: usize,
}

impl HalfOpen {
    pub fn at(ip: IpAddr, relay: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(relay).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Self { socket, relay, endpoint, connections: Vec::new(), sent_bytes: 0 }
    }

    /// Begins a handshake.
    pub fn begin(&mut self) {
        let begun = self.endpoint.connect(Instant::now(), client_config(), self.relay, "relay").unwrap();
        self.connections.push(begun);
        let last = self.connections.len() - 1;
        self.send(last);
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

    fn send(&mut self, at: usize) {
        let mut packet = Vec::new();
        while self.connections[at].1.poll_transmit(Instant::now(), 1, &mut packet).is_some() {
            self.sent_bytes += self.socket.send(&packet).unwrap_or(0);
            packet.clear();
        }
    }
}
