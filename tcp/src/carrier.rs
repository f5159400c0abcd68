//! Carries a [`Way`]'s packets over TCP, opens another connection when one ends, and moves to UDP when that gets through.

use std::{sync::Arc, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use quinn::AsyncUdpSocket;
use supernode_proto::tcp::PING_EVERY_S;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{Stream, Target, Way, give, open, outgoing::Outgoing};

/// What is given to a connection that takes it at once, and to one that made us wait: a packet's worth. Unit: bytes.
const BATCH_BYTES_MAX: usize = 16 * 1024;
const ONE_PACKET: usize = 1200;
/// A connection that takes a packet in less did not make us wait.
const AT_ONCE: Duration = Duration::from_millis(1);
/// A connection that takes nothing for so long is given up for another one.
const STUCK_AFTER: Duration = Duration::from_secs(3);
/// One on which nothing comes for so long, not even the answer to a ping, too.
const SILENT_AFTER: Duration = Duration::from_secs(2 * PING_EVERY_S + 5);
const PING_EVERY: Duration = Duration::from_secs(PING_EVERY_S);
/// How long opening another one may take, and the waits between attempts.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const WAITS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How often the relay is asked for an answer by UDP after a move, and how long each waits; then it is taken back.
const MOVE_TRIES: u32 = 5;
const MOVE_ANSWER_WITHIN: Duration = Duration::from_millis(200);
/// How long TCP is kept after a move: what was under way there has come by then.
const KEPT_AFTER_MOVE: Duration = Duration::from_secs(2);

/// Ends with its last handle: whoever has a connection keeps this beside it.
#[derive(Debug)]
pub struct Carrier {
    way: Arc<Way>,
    wanted: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Carrier {
    /// Carries packets over this WebSocket, and over others to the same relay when it ends.
    pub fn start(way: Arc<Way>, target: Target, stream: Stream) -> Self {
        let (wanted, is_wanted) = watch::channel(true);
        let task = tokio::spawn(keep(way.clone(), target, stream, is_wanted));
        Self { way, wanted, task }
    }

    /// The socket.
    pub fn way(&self) -> &Arc<Way> {
        &self.way
    }

    /// Ends TCP.
    pub fn stop(&self) {
        self.wanted.send_replace(false);
    }

    /// Sends by UDP from now on, if the relay answers there within a second; `ask` makes QUIC say something that must be
    /// answered. Else all stays as it was. TCP is closed a moment after a move.
    pub async fn move_to_udp(&self, socket: Arc<dyn AsyncUdpSocket>, ask: impl Fn()) -> bool {
        let before = self.way.heard_by_udp();
        self.way.send_by_udp(socket);
        for _ in 0..MOVE_TRIES {
            ask();
            sleep(MOVE_ANSWER_WITHIN).await;
            if self.way.heard_by_udp() > before {
                sleep(KEPT_AFTER_MOVE).await;
                self.stop();
                return true;
            }
        }
        self.way.send_by_tcp();
        false
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(way: Arc<Way>, target: Target, mut stream: Stream, mut wanted: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = carry(&way, stream) => {}
            _ = wanted.wait_for(|wanted| !wanted) => return,
        }
        // Until there is another one, packets wait for TCP.
        way.outgoing().wait_begins(std::time::Instant::now());
        tracing::debug!("the TCP connection to the relay ended: opening another one");
        stream = tokio::select! {
            stream = open_again(&target) => stream,
            _ = wanted.wait_for(|wanted| !wanted) => return,
        };
    }
}

async fn open_again(target: &Target) -> Stream {
    let longest = std::iter::repeat(WAITS[WAITS.len() - 1]);
    for wait in WAITS.into_iter().chain(longest) {
        sleep(wait).await;
        match timeout(OPEN_WITHIN, open(target)).await {
            Ok(Ok(stream)) => return stream,
            Ok(Err(error)) => tracing::debug!(%error, "no TCP connection"),
            Err(_) => {}
        }
    }
    unreachable!("it tries for ever")
}

/// Until the connection ends, or is of no more use.
async fn carry(way: &Way, stream: Stream) {
    let (sink, source) = stream.split();
    tokio::select! {
        () = read(way, source) => {}
        _ = write(way, sink) => {}
    }
}

async fn read(way: &Way, mut source: SplitStream<Stream>) {
    while let Ok(Some(Ok(message))) = timeout(SILENT_AFTER, source.next()).await {
        match message {
            Message::Binary(packet) => way.receive(packet),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Text(_) | Message::Close(_) | Message::Frame(_) => return,
        }
    }
}

async fn write(way: &Way, mut sink: SplitSink<Stream, Message>) -> Result<(), Error> {
    let outgoing = way.outgoing();
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch_bytes = BATCH_BYTES_MAX;
    outgoing.wait_ends(std::time::Instant::now());
    loop {
        tokio::select! {
            () = outgoing.filled() => {}
            _ = pings.tick() => {
                in_time(outgoing, sink.send(Message::Ping(bytes::Bytes::new()))).await?;
                continue;
            }
        }
        loop {
            let batch = outgoing.take(batch_bytes, std::time::Instant::now());
            if batch.is_empty() {
                break;
            }
            let sending = async {
                for packet in batch {
                    sink.feed(Message::Binary(packet)).await?;
                }
                sink.flush().await
            };
            let made_us_wait = in_time(outgoing, sending).await?;
            batch_bytes = if made_us_wait { ONE_PACKET } else { (2 * batch_bytes).min(BATCH_BYTES_MAX) };
        }
    }
}

/// Whether the connection made us wait; gives up one that takes nothing.
async fn in_time(outgoing: &Outgoing, sending: impl Future<Output = Result<(), Error>>) -> Result<bool, Error> {
    let began = Instant::now();
    let (sent, waited) = give(timeout(STUCK_AFTER, sending), || outgoing.wait_begins(std::time::Instant::now())).await;
    if waited {
        outgoing.wait_ends(std::time::Instant::now());
    }
    sent.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))??;
    Ok(waited && began.elapsed() >= AT_ONCE)
}
