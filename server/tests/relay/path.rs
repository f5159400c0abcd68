//! A path between a client and the relay that can be made narrow, long or lossy: a UDP proxy with a virtual queue each way.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// What the path did to packets towards the client.
#[derive(Debug, Default)]
pub struct Toll {
    /// Passed on.
    pub passed: AtomicU64,
    /// Lost for no reason.
    pub strayed: AtomicU64,
    /// Lost because the buffer was full.
    pub overflowed: AtomicU64,
    /// Lost because nothing comes through.
    pub cut: AtomicU64,
    /// The longest that any waited in the buffer, in microseconds.
    pub buffered_us_max: AtomicU64,
}

impl Toll {
    pub fn lost(&self) -> u64 {
        [&self.strayed, &self.overflowed, &self.cut].map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }

    pub fn buffered_max(&self) -> Duration {
        Duration::from_micros(self.buffered_us_max.load(Ordering::Relaxed))
    }
}

/// A proxy for one client. It ends with the test.
pub struct Path {
    /// Where the client finds the relay.
    pub address: SocketAddr,
    pub toll: Arc<Toll>,
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
        let toll = Arc::new(Toll::default());
        let up = Lane { shape: shape.clone(), ended: ended.clone(), down: None };
        let down = Lane { down: Some(toll.clone()), ..up.clone() };
        tokio::spawn(up.run(near.clone(), far.clone(), client.clone()));
        tokio::spawn(down.run(far, near, client));
        Self { address, toll, shape, ended }
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
    /// Towards the client, where the path is limited and counts.
    down: Option<Arc<Toll>>,
}

impl Lane {
    /// Passes packets on until the path is dropped. Upwards it learns where the client is, downwards it sends there.
    async fn run(self, from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: Arc<Mutex<Option<SocketAddr>>>) {
        let mut buffer = vec![0; 65_536];
        let mut clear_at = Instant::now();
        let (queue, mut due) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let sender = (to.clone(), client.clone(), self.down.is_some());
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
            let shape = *self.shape.lock().unwrap();
            let now = Instant::now();
            let mut at = now;
            match &self.down {
                None => {
                    *client.lock().unwrap() = Some(source);
                    if shape.cut {
                        continue;
                    }
                }
                Some(toll) => {
                    clear_at = clear_at.max(now);
                    let waiting = clear_at - now;
                    let waiting_bytes = waiting.as_secs_f64() * shape.bits_per_second as f64 / 8.0;
                    let lost = if shape.cut {
                        Some(&toll.cut)
                    } else if rand::rng().random_bool(shape.loss) {
                        Some(&toll.strayed)
                    } else {
                        (waiting_bytes + len as f64 > shape.buffer_bytes as f64).then_some(&toll.overflowed)
                    };
                    lost.unwrap_or(&toll.passed).fetch_add(1, Ordering::Relaxed);
                    if lost.is_some() {
                        continue;
                    }
                    clear_at += Duration::from_secs_f64(len as f64 * 8.0 / shape.bits_per_second as f64);
                    at = clear_at;
                    toll.buffered_us_max.fetch_max((at - now).as_micros() as u64, Ordering::Relaxed);
                }
            }
            let _ = queue.send((at + shape.delay, buffer[..len].to_vec()));
        }
    }
}

pub fn cut() -> Shape {
    Shape { cut: true, ..Shape::wide() }
}

pub fn reset(code: StreamCode) -> quinn::ReadToEndError {
    quinn::ReadToEndError::Read(quinn::ReadError::Reset(quinn::VarInt::from_u32(code.0 as u32)))
}

/// A publisher with a video track, and a subscriber over a path.
pub async fn over_a_path(relay: &Relay, wanted: Subscribe) -> (Client, Client, TrackAlias, Path) {
    let room = Room::new();
    let mut alice = relay.connect(&Person::new()).await;
    alice.join(&room).await;
    let track = alice.publish(&room, TrackKind::Video).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let mut bob = relay.connect_over(path.address, &Person::new()).await;
    bob.join(&room).await;
    bob.done(Request::Subscribe(Subscribe { alias: track.value(), ..wanted })).await;
    alice.demand(1).await;
    (alice, bob, track, path)
}

/// A stream of which the subscriber has the beginning, and what is still to be sent of it.
pub async fn begin(alice: &Client, bob: &Client, wire: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
    let mut sending = alice.connection.open_uni().await.unwrap();
    sending.write_all(&wire[..500]).await.unwrap();
    let mut receiving = tokio::time::timeout(PATIENCE, bob.connection.accept_uni()).await.unwrap().unwrap();
    receiving.read_exact(&mut [0; 500]).await.unwrap();
    (sending, receiving)
}

pub async fn end_of(mut receiving: quinn::RecvStream) -> quinn::ReadToEndError {
    let end = tokio::time::timeout(PATIENCE, receiving.read_to_end(1 << 24)).await.expect("an end");
    end.expect_err("it is reset")
}

pub fn subscription_to_all() -> Subscribe {
    Subscribe { temporal_layer_max: 7, spatial_layer_max: 7, ..Subscribe::default() }
}
