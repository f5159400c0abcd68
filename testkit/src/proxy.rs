//! An HTTP proxy that knows CONNECT and nothing else.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// A proxy that ends tunnels in which nothing has come for a while, either way.
pub struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicUsize>,
    ended_idle: Arc<AtomicUsize>,
    cuts: watch::Sender<u64>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(idle_max: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tunnels, ended_idle) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (cuts, cut) = watch::channel(0);
        let (opened, idle) = (tunnels.clone(), ended_idle.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (opened, idle, mut cut) = (opened.clone(), idle.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok((client, relay)) = connect(client).await else { return };
                    opened.fetch_add(1, Ordering::Relaxed);
                    tokio::select! {
                        () = tunnel(client, relay, idle_max) => { idle.fetch_add(1, Ordering::Relaxed); }
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, tunnels, ended_idle, cuts, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tunnels that there have been.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Tunnels that ended by themselves: nothing came, or somebody closed them.
    pub fn ended(&self) -> usize {
        self.ended_idle.load(Ordering::Relaxed)
    }

    /// Ends all tunnels.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

async fn connect(mut client: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let to = request.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(" HTTP/1.1\r\n")).unwrap().0;
    let relay = TcpStream::connect(to).await?;
    // As proxies do: else what is small waits for the acknowledgement of what was before it, 40 ms and more.
    client.set_nodelay(true)?;
    relay.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    Ok((client, relay))
}

async fn tunnel(client: TcpStream, relay: TcpStream, idle_max: Duration) {
    let ((from_client, to_client), (from_relay, to_relay)) = (client.into_split(), relay.into_split());
    tokio::select! {
        () = pass(from_client, to_relay, idle_max) => {}
        () = pass(from_relay, to_client, idle_max) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, idle_max: Duration) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(idle_max, from.read(&mut buffer)).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
