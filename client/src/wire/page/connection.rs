//! A session of the browser's WebTransport, as channels to the tasks that have it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{Unwatch, client_message},
    identity::DeviceKey,
};
use supernode_session::{Challenged, Channel, Fault, Known, Seen};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    datagrams::Outgoing,
    js::Said,
    streams::{RecvStream, SendStream},
};
use crate::{
    Error, Transport,
    client::Inner,
    runtime::{moment, sleep},
    tracks::track::LocalTrack,
    wire::{
        ended::{ConnectionFailure, Cut, Ended},
        link::Link,
    },
};

/// Of the stream with the relay's challenge, at once.
const READ_BYTES: usize = 1024;
/// How often the relay is asked whether it is there, and how far it is, while the session has nothing to say. A browser keeps
/// the connection, and tells a page nothing of it. Default 5 s: a request of a hundred bytes.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A WebTransport session that stands: cheap to clone. With the last clone it is closed.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

/// What a connection and its tasks have between them.
pub(super) struct Shared {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) ended: watch::Receiver<Option<Ended>>,
    pub(super) streams: Mutex<mpsc::Receiver<RecvStream>>,
    pub(super) datagrams: Mutex<mpsc::Receiver<Bytes>>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) counts: Arc<Counts>,
    pub(super) known: Known,
}

/// What the tasks are to do.
pub(super) enum Order {
    OpenUni(i32, oneshot::Sender<SendStream>),
    OpenBi(i32, oneshot::Sender<(SendStream, RecvStream)>),
    Close(CloseCode),
}

/// What was counted on a connection.
#[derive(Default)]
pub(super) struct Counts {
    /// What came of the relay: datagrams, and pieces of streams.
    pub(super) heard: AtomicU64,
    /// What was sent.
    pub(super) asked: AtomicU64,
    rtt_us: AtomicU64,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.0)
    }

    /// By what its packets travel.
    pub(crate) fn transport(&self) -> Transport {
        Transport::WebTransport
    }

    /// What this device signs for on it: the relay says it.
    pub(crate) async fn channel(&self, device: DeviceKey) -> Result<Channel, Error> {
        let mut challenged = Challenged::new(self.0.known.clone(), device);
        let mut stream = self.accept_uni().await?;
        let fault = loop {
            match stream.read(READ_BYTES).await {
                Ok(Some(bytes)) => match challenged.handle_bytes(&bytes) {
                    Ok(Some(channel)) => return Ok(channel),
                    Ok(None) => {}
                    Err(fault) => break fault,
                },
                Ok(None) => break Fault::NoChallenge,
                Err(Cut) => match self.close_reason() {
                    Some(ended) => return Err(ended.into()),
                    None => break Fault::NoChallenge,
                },
            }
        };
        self.close(fault.close_code());
        Err(match fault {
            Fault::AnotherRelay => Error::WrongPin,
            fault => Error::Protocol(fault.what()),
        })
    }

    /// Opens a stream of both directions. Of those that wait, one of a higher priority goes first.
    pub(crate) async fn open_bi(&self, priority: i32) -> Result<(SendStream, RecvStream), Ended> {
        let (tell, told) = oneshot::channel();
        self.order(Order::OpenBi(priority, tell));
        told.await.map_err(|_| self.end())
    }

    /// Opens a stream to the relay.
    pub(crate) async fn open_uni(&self, priority: i32) -> Result<SendStream, Ended> {
        let (tell, told) = oneshot::channel();
        self.order(Order::OpenUni(priority, tell));
        told.await.map_err(|_| self.end())
    }

    /// The next stream that the relay opens. Cancel safe.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Ended> {
        let next = self.0.streams.lock().await.recv().await;
        match next {
            Some(stream) => Ok(stream),
            None => Err(self.closed().await),
        }
    }

    /// The next datagram. Cancel safe.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Ended> {
        let next = self.0.datagrams.lock().await.recv().await;
        match next {
            Some(datagram) => Ok(datagram),
            None => Err(self.closed().await),
        }
    }

    /// The largest datagram that goes out now; zero if none does. Firefox finds out within moments of the beginning.
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        self.0.outgoing.bytes_max.load(Relaxed)
    }

    /// Sends a datagram, unless it waits for longer than `wait_max`, which `whose` counts. Whether it is on its way.
    pub(crate) fn send_datagram(&self, datagram: &[u8], wait_max: Duration, whose: &Arc<LocalTrack>) -> bool {
        if datagram.len() > self.datagram_bytes_max() {
            return false;
        }
        self.0.counts.asked.fetch_add(1, Relaxed);
        self.0.outgoing.push(Bytes::copy_from_slice(datagram), wait_max, whose.clone());
        true
    }

    /// What was heard, and what was sent. A browser tells a page nothing of acknowledgements: whether the relay answers is
    /// known of what it says itself.
    pub(crate) fn seen(&self) -> Seen {
        Seen { heard: self.0.counts.heard.load(Relaxed), asked: self.0.counts.asked.load(Relaxed) }
    }

    /// Round trip, as the relay's last answer showed it; zero before the first.
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_micros(self.0.counts.rtt_us.load(Relaxed))
    }

    /// Ends it with a reason.
    pub(crate) fn close(&self, code: CloseCode) {
        self.order(Order::Close(code));
    }

    /// Waits for its end.
    pub(crate) async fn closed(&self) -> Ended {
        let mut ended = self.0.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone()).unwrap_or_else(lost)
    }

    /// Why it is over, once it is.
    pub(crate) fn close_reason(&self) -> Option<Ended> {
        self.0.ended.borrow().clone()
    }

    /// It is of no more use: there is nothing below it that is ours.
    pub(crate) fn release(&self) {}

    fn end(&self) -> Ended {
        self.close_reason().unwrap_or_else(lost)
    }

    fn order(&self, order: Order) {
        // Once the tasks are gone it is over.
        let _ = self.0.orders.send(order);
    }
}

fn lost() -> Ended {
    Ended::Failed(ConnectionFailure::passing(Said::new("the session is over")))
}

/// Asks the relay for something that it answers and that means nothing, to hear whether it is there and how far it is. Nothing
/// that a browser sends for a page is answered by QUIC alone as far as the page hears.
pub(crate) fn ask(link: &Link) {
    let (asked_at, connection) = (moment(), link.connection.clone());
    let nobody = client_message::Body::Unwatch(Unwatch { identity: Bytes::from_static(&[0; 32]) });
    let answered = move |_: Result<&_, &_>| {
        connection.0.counts.rtt_us.store(moment().since(asked_at).as_micros() as u64, Relaxed);
    };
    link.send(nobody, Some(Box::new(answered)));
}

/// What a connection wants done while it stands: to ask now and then.
pub(crate) async fn keep(inner: Arc<Inner>, connection: Connection) {
    let of_it = |link: &Arc<Link>| Arc::ptr_eq(&link.connection.0, &connection.0);
    loop {
        if let Some(link) = inner.link_now().filter(of_it) {
            ask(&link);
        }
        sleep(ASK_EVERY).await;
    }
}
