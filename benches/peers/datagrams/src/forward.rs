//! The plain forwarder, and how its clients reach it: the least that any relay could do.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, bail};
use call_shape::work::Work;

use crate::clients::Client;

/// Bytes in front of every object: the number of the client that sent it, which is how the forwarder knows it.
const NUMBER_BYTES: usize = 4;
/// Most clients that it knows.
const CLIENTS_MAX: usize = 100_000;
/// How long the forwarder may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Forwards until the process is ended: from client 2n to client 2n + 1 and back. A datagram of nothing but a number
/// is a client that makes itself known, and is answered.
pub(crate) fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let mut addresses: Vec<Option<SocketAddr>> = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let Ok((read, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(number) = buffer[..read].first_chunk::<NUMBER_BYTES>().map(|head| u32::from_be_bytes(*head)) else {
            continue;
        };
        let number = number as usize;
        if number >= CLIENTS_MAX {
            continue;
        }
        if read == NUMBER_BYTES {
            if addresses.len() <= number {
                addresses.resize(number + 1, None);
            }
            addresses[number] = Some(from);
            let _ = socket.send_to(&buffer[..read], from);
        } else if let Some(Some(to)) = addresses.get(number ^ 1) {
            let _ = socket.send_to(&buffer[..read], to);
        }
    }
}

/// Makes every client known.
pub(crate) fn connect(work: &Work) -> anyhow::Result<Vec<Client>> {
    if work.members != 2 {
        bail!("--members {}: must be 2, the plain forwarder has no rooms", work.members);
    }
    let client = |number: u32| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(work.relay)?;
        socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
        socket.send(&number.to_be_bytes())?;
        socket.recv(&mut [0; NUMBER_BYTES]).context("no answer")?;
        Ok(Client { socket, channel: None })
    };
    (0..work.clients()).map(client).collect()
}
