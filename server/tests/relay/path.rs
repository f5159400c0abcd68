//! A path between a client and the relay that can be made narrow, long or lossy: a UDP proxy with a virtual queue each way.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use tokio::net::UdpSocket;

/// What the path towards the client is like. The way back is only as long.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What it takes, in bits a second.
    pub bits_per_second: u64,
    /// How long a packet is on the way, in each direction.
    pub delay: Duration,
    /// What its buffer holds; what comes when it is full is lost.
    pub buffer_bytes: u64,
    /// Share of packets that are lost for no reason.
    pub loss: f64,
    /// Nothing comes through any more, in either direction.
    pub cut: bool,
}

impl Shape {
    /// A path that is not in the way.
    pub fn wide() -> Self {
        Self {
            bits_per_second: 1_000_000_000,
            delay: Duration::from_millis(10),
            buffer_bytes: 1 << 20,
            loss: 0.0,
            cut: false,
        }
    }

    pub fn narrow(bits_per_second: u64) -> Self {
        // What a router at home holds.
        Self { bits_per_second, buffer_bytes: 64 * 1024, ..Self::wide() }
    }
}

/// A proxy for one client. It ends with the test.
pub struct Path {
    /// Where the client finds the relay.
    pub address: SocketAddr,
    shape: Arc<Mutex<Shape>>,
    ended: Arc<AtomicBool>,
}

impl Path {
    /// A path of this shape to a relay.
    pub async fn new(relay: SocketAddr, shape: Shape) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(relay).await.unwrap();
        let address = near.local_addr().unwrap();
        let shape = Arc::new(Mutex::new(shape));
        let ended = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));
        let up = Lane { shape: shape.clone(), ended: ended.clone(), limits: false };
        let down = Lane { limits: true, ..up.clone() };
        tokio::spawn(up.run(near.clone(), far.clone(), client.clone()));
        tokio::spawn(down.run(far, near, client));
        Self { address, shape, ended }
    }

    pub fn set(&self, shape: Shape) {
        *self.shape.lock().unwrap() = shape;
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// One direction.
#[derive(Clone)]
struct Lane {
    shape: Arc<Mutex<Shape>>,
    ended: Arc<AtomicBool>,
    limits: bool,
}

impl Lane {
    /// Passes packets on until the path is dropped. Upwards it learns where the client is, downwards it sends there.
    async fn run(self, from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: Arc<Mutex<Option<SocketAddr>>>) {
        let mut buffer = vec![0; 65_536];
        let mut clear_at = Instant::now();
        let (queue, mut due) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let sender = (to.clone(), client.clone(), self.limits);
        tokio::spawn(async move {
            let (to, client, down) = sender;
            while let Some((at, packet)) = due.recv().await {
                tokio::time::sleep_until(at.into()).await;
                let target = *client.lock().unwrap();
                let _ = match target.filter(|_| down) {
                    Some(target) => to.send_to(&packet, target).await,
                    None => to.send(&packet).await,
                };
            }
        });
        while !self.ended.load(Ordering::Relaxed) {
            let received = tokio::time::timeout(Duration::from_millis(100), from.recv_from(&mut buffer)).await;
            let Ok(Ok((len, source))) = received else { continue };
            if !self.limits {
                *client.lock().unwrap() = Some(source);
            }
            let shape = *self.shape.lock().unwrap();
            if shape.cut || (self.limits && rand::rng().random_bool(shape.loss)) {
                continue;
            }
            let now = Instant::now();
            let mut at = now;
            if self.limits {
                clear_at = clear_at.max(now);
                let waiting = (clear_at - now).as_secs_f64() * shape.bits_per_second as f64 / 8.0;
                if waiting + len as f64 > shape.buffer_bytes as f64 {
                    continue;
                }
                clear_at += Duration::from_secs_f64(len as f64 * 8.0 / shape.bits_per_second as f64);
                at = clear_at;
            }
            let _ = queue.send((at + shape.delay, buffer[..len].to_vec()));
        }
    }
}
