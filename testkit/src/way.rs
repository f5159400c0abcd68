//! A way to a relay that can be cut.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use supernode_proto::invite::Invite;
use tokio::{
    net::UdpSocket,
    task::{JoinHandle, JoinSet},
};

use crate::Relay;

/// A way to a relay that can be cut.
pub struct Way {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    carrier: JoinHandle<()>,
}

impl Way {
    pub async fn to(relay: &Relay) -> Self {
        Self::from("127.0.0.1:0".parse().unwrap(), relay).await
    }

    /// One that begins at this address.
    pub async fn from(near: SocketAddr, relay: &Relay) -> Self {
        let near = Arc::new(UdpSocket::bind(near).await.unwrap());
        let (address, open) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let carrier = tokio::spawn(carry(near, relay.address, open.clone()));
        Self { address, open, carrier }
    }

    /// The relay's invite by this way.
    pub fn invite(&self, relay: &Relay) -> Invite {
        Invite { port: self.address.port(), ..relay.invite() }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes it away: whoever sends to its beginning is refused.
    pub async fn close(mut self) {
        self.carrier.abort();
        // The socket is closed once the task is gone.
        let _ = (&mut self.carrier).await;
    }

    /// Lets packets through or loses them, both ways.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Carries the packets of each client from a port of its own.
async fn carry(near: Arc<UdpSocket>, relay: SocketAddr, open: Arc<AtomicBool>) {
    let mut far_by_client = HashMap::new();
    let mut back = JoinSet::new();
    let mut packet = vec![0; 65_536];
    loop {
        let (length, client) = near.recv_from(&mut packet).await.unwrap();
        let known: Option<&Arc<UdpSocket>> = far_by_client.get(&client);
        let far = match known {
            Some(far) => far.clone(),
            None => {
                let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                far.connect(relay).await.unwrap();
                far_by_client.insert(client, far.clone());
                back.spawn(carry_back(far.clone(), near.clone(), client, open.clone()));
                far
            }
        };
        if open.load(Ordering::Relaxed) {
            let _ = far.send(&packet[..length]).await;
        }
    }
}

async fn carry_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr, open: Arc<AtomicBool>) {
    let mut packet = vec![0; 65_536];
    loop {
        let Ok(length) = far.recv(&mut packet).await else { continue };
        if open.load(Ordering::Relaxed) {
            let _ = near.send_to(&packet[..length], client).await;
        }
    }
}
