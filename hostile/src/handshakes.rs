//! Handshakes that begin, answer a Retry if the relay asks for one, and go no further.
//!
//! The attacker keeps nothing of them: what answers a Retry stands in the Retry.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::forge::{Forge, is_initial, retry};

/// How long an answer is waited for, and how often.
const ANSWER: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 5;

/// Sockets in one network each, and what their packets are made with.
pub(crate) struct Handshakes {
    pub(crate) forge: Forge,
    sockets: Vec<UdpSocket>,
    next: usize,
    /// Datagrams and bytes that the relay sent.
    pub(crate) answers: u64,
    pub(crate) answer_bytes: u64,
    pub(crate) retries: u64,
}

/// One that the relay has begun to take part in, as far as one can know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'a> {
    pub(crate) socket: &'a UdpSocket,
    /// The connection ID of the packet that began it, which its keys follow from.
    pub(crate) id: &'a [u8],
    /// The token of the Retry that it answered.
    pub(crate) token: &'a [u8],
}

impl Handshakes {
    /// From so many networks.
    pub(crate) fn from_networks(to: SocketAddr, networks: u8) -> anyhow::Result<Self> {
        let socket = |network: u8| {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 3, 0, network + 1), 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sockets = (0..networks).map(socket).collect::<io::Result<_>>()?;
        Ok(Self { forge: Forge::new()?, sockets, next: 0, answers: 0, answer_bytes: 0, retries: 0 })
    }

    /// Begins one from the next network.
    pub(crate) fn begin(&mut self, then: &mut dyn FnMut(&Forge, Begun<'_>)) {
        self.next = (self.next + 1) % self.sockets.len();
        let id: [u8; 8] = rand::random();
        let socket = &self.sockets[self.next];
        send(socket, &self.forge.first(&id, &[]));
        then(&self.forge, Begun { socket, id: &id, token: &[] });
    }

    /// Takes what the relay said, and answers every Retry in it.
    pub(crate) fn listen(&mut self, then: &mut dyn FnMut(&Forge, Begun<'_>)) {
        let mut buffer = [0; 2048];
        for socket in &self.sockets {
            while let Ok(len) = socket.recv(&mut buffer) {
                self.answers += 1;
                self.answer_bytes += len as u64;
                if let Some((id, token)) = retry(&buffer[..len]) {
                    self.retries += 1;
                    send(socket, &self.forge.first(id, token));
                    then(&self.forge, Begun { socket, id, token });
                }
            }
        }
    }
}

/// Sends a datagram; one that the kernel does not take is lost, as on any path.
pub(crate) fn send(socket: &UdpSocket, datagram: &[u8]) {
    let _ = socket.send(datagram);
}

/// One handshake that the relay takes part in: its socket, and the connection ID that its keys follow from.
pub(crate) fn one(forge: &Forge, to: SocketAddr, from: Ipv4Addr) -> anyhow::Result<(UdpSocket, Vec<u8>)> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let (mut id, mut token) = (rand::random::<[u8; 8]>().to_vec(), Vec::new());
    let mut buffer = [0; 2048];
    // The relay may ask for proof once, and a busy one lose a packet or two.
    for _ in 0..ATTEMPTS {
        send(&socket, &forge.first(&id, &token));
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        if is_initial(&buffer[..len]) {
            return Ok((socket, id));
        }
        if let Some((retry_id, retry_token)) = retry(&buffer[..len]) {
            (id, token) = (retry_id.to_vec(), retry_token.to_vec());
        }
    }
    anyhow::bail!("the relay does not begin a handshake with {from}")
}
