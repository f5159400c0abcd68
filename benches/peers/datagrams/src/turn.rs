//! Calls through a TURN server.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use call_shape::work::Work;
use clap::ValueEnum;

use crate::{
    clients::Client,
    stun::{self, Request, StunError, Success},
};

/// How long the server may take for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// After so long without an answer a request is sent again.
const RETRY: Duration = Duration::from_millis(300);

/// Which of the two in a call have an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allocations {
    /// The first; the second sends plain UDP to the first one's relayed address. The least work for the server: one
    /// receive and one send for each object.
    One,
    /// Both, when neither may show the other its address: each object passes two relayed addresses.
    Both,
}

/// Gives every client what it needs to talk.
pub(crate) fn connect(work: &Work, allocations: Allocations) -> anyhow::Result<Vec<Client>> {
    if work.members != 2 {
        bail!("--members {}: must be 2, TURN has no rooms", work.members);
    }
    let mut clients = Vec::new();
    for _ in 0..work.rooms {
        let [first, second] = [socket()?, socket()?];
        let relayed = allocate(&first, work.relay)?;
        let peer = match allocations {
            Allocations::One => {
                second.connect(relayed)?;
                second.local_addr()?
            }
            Allocations::Both => {
                let peer = allocate(&second, work.relay)?;
                bind(&second, relayed)?;
                peer
            }
        };
        bind(&first, peer)?;
        let second_channel = (allocations == Allocations::Both).then_some(stun::CHANNEL_FIRST);
        clients.push(Client { socket: first, channel: Some(stun::CHANNEL_FIRST) });
        clients.push(Client { socket: second, channel: second_channel });
    }
    Ok(clients)
}

fn socket() -> anyhow::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a socket")
}

fn allocate(socket: &UdpSocket, relay: SocketAddr) -> anyhow::Result<SocketAddr> {
    socket.connect(relay)?;
    ask(socket, Request::Allocate)?.relayed.context("an allocation without an address")
}

fn bind(socket: &UdpSocket, peer: SocketAddr) -> anyhow::Result<()> {
    ask(socket, Request::ChannelBind { channel: stun::CHANNEL_FIRST, peer }).map(|_| ())
}

fn ask(socket: &UdpSocket, request: Request) -> anyhow::Result<Success> {
    let transaction = rand::random();
    socket.set_read_timeout(Some(RETRY))?;
    let deadline = Instant::now() + ANSWER_PATIENCE;
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        socket.send(&request.encode(&transaction))?;
        let Ok(read) = socket.recv(&mut buffer) else { continue };
        match request.answer(&transaction, &buffer[..read]) {
            Err(StunError::NotTheAnswer) => {}
            answer => return answer.with_context(|| format!("{request:?}")),
        }
    }
    bail!("{request:?}: no answer within {} s", ANSWER_PATIENCE.as_secs())
}
