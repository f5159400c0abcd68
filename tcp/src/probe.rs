//! Whether UDP gets through to a relay, and whether a relay answers over TCP, without a connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use supernode_proto::{
    probe::{is_answer, packet},
    tcp::PACKET_BYTES_MAX,
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::tungstenite::Message;

use crate::Stream;

/// How often the question is asked, and how long each waits for its answer.
const TRIES: u32 = 3;
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// Whether the relay at this address answers by UDP.
///
/// # Errors
/// When this machine opens no socket.
pub async fn udp_answers(address: SocketAddr) -> io::Result<bool> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(address).await?;
    let mut answer = [0; PACKET_BYTES_MAX];
    for _ in 0..TRIES {
        // What the kernel refuses to send has no answer.
        let _ = socket.send(&packet(&rand::random())).await;
        let until = Instant::now() + ANSWER_WITHIN;
        while let Ok(received) = timeout_at(until, socket.recv(&mut answer)).await {
            match received {
                Ok(len) if is_answer(&answer[..len]) => return Ok(true),
                Ok(_) => {}
                // "Nobody listens there", which may be said of one packet and not of the next.
                Err(_) => tokio::time::sleep_until(until).await,
            }
        }
    }
    Ok(false)
}

/// Whether the relay behind a WebSocket answers a packet.
pub async fn answers(stream: &mut Stream) -> bool {
    let question = Bytes::copy_from_slice(&packet(&rand::random()));
    let asked = async {
        stream.send(Message::Binary(question)).await.ok()?;
        loop {
            if let Message::Binary(answer) = stream.next().await?.ok()? {
                return Some(is_answer(&answer));
            }
        }
    };
    tokio::time::timeout(TRIES * ANSWER_WITHIN, asked).await.ok().flatten().unwrap_or(false)
}
