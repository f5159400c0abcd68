//! The tasks that have the browser's session: each does one thing, and ends with the session.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use js_sys::Uint8Array;
use supernode_proto::close::{CloseCode, StreamCode};
use supernode_session::{Known, transport::MEDIA_STREAMS_MAX};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;

use super::{
    connection::{Connection, Counts, Order, Shared},
    datagrams::Outgoing,
    js::{self, Bidirectional, Datagrams, Reader, Said, WebTransport, Writable, Writer, get, object, wait},
    streams::{Chunk, RecvStream, SendStream},
};
use crate::{
    runtime::sleep,
    wire::ended::{ConnectionFailure, Ended},
};

/// Datagrams that may wait in the worker to be read: a second of a large room's sound.
const DATAGRAMS_IN_MAX: usize = 1024;
/// Datagrams that the browser keeps for us before it drops some, in either direction: its own default is one, which loses what
/// comes while the worker does something else.
const BROWSER_IN_MAX: f64 = 256.0;
/// The browser takes so many before it asks us to wait: what waits with us can still be given up.
const BROWSER_OUT_MAX: f64 = 16.0;
/// Chunks of a stream that wait on their way between the browser and whoever reads or writes it.
const CHUNKS_MAX: usize = 2;
/// Firefox says 1,024 bytes at the beginning, and more once it has tried the path: within 50 ms of a path of 1 ms.
const SIZE_AFTER: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1)];

/// What is given to the relay's side of a session when it is opened.
pub(super) struct Opening {
    pub(super) url: String,
    /// SHA-256 of the certificates that are demanded; without them the browser wants an authority's.
    pub(super) hashes: Option<Vec<[u8; 32]>>,
    pub(super) known: Known,
}

/// Opens a session. Whoever waits no more gets none: it is closed.
pub(super) fn open(opening: Opening) -> oneshot::Receiver<Result<Connection, Said>> {
    let (mut tell, told) = oneshot::channel();
    spawn_local(async move {
        let Opening { url, hashes, known } = opening;
        let transport = match new(&url, hashes) {
            Ok(transport) => transport,
            Err(said) => return drop(tell.send(Err(said))),
        };
        js::ignore(&transport.closed());
        let ready = tokio::select! {
            ready = wait(transport.ready()) => ready,
            () = tell.closed() => return close(&transport, CloseCode::BYE),
        };
        // With nobody there, it is dropped and so closed.
        drop(tell.send(ready.and_then(|_| start(transport, known))));
    });
    told
}

fn new(url: &str, hashes: Option<Vec<[u8; 32]>>) -> Result<WebTransport, Said> {
    let demanded = |hash: &[u8; 32]| {
        let value = Uint8Array::from(&hash[..]);
        object(&[("algorithm", "sha-256".into()), ("value", value.into())]).into()
    };
    let mut options = vec![("requireUnreliable", JsValue::TRUE)];
    if let Some(hashes) = &hashes {
        options.push(("serverCertificateHashes", js::array(hashes.iter().map(demanded)).into()));
    }
    Ok(WebTransport::new(url, &object(&options))?)
}

fn close(transport: &WebTransport, code: CloseCode) {
    let info = object(&[("closeCode", (code.0 as u32).into()), ("reason", "".into())]);
    // One that is over stays so.
    let _ = transport.close(&info);
}

fn start(transport: WebTransport, known: Known) -> Result<Connection, Said> {
    let datagrams = transport.datagrams();
    datagrams.set_incoming_mark(BROWSER_IN_MAX);
    datagrams.set_outgoing_mark(BROWSER_OUT_MAX);
    let (incoming, datagrams_in, datagrams_out) =
        (transport.incoming().reader()?, datagrams.readable().reader()?, datagrams.writable().writer()?);

    let (orders, to_do) = mpsc::unbounded_channel();
    let (streams_in, streams) = mpsc::channel(MEDIA_STREAMS_MAX as usize);
    let (arrived, arrivals) = mpsc::channel(DATAGRAMS_IN_MAX);
    let (tell_end, ended) = watch::channel(None);
    let (counts, outgoing, tell_end) = (Arc::<Counts>::default(), Arc::<Outgoing>::default(), Arc::new(tell_end));
    outgoing.bytes_max.store(datagrams.bytes_max() as usize, Relaxed);

    let transport = Rc::new(transport);
    spawn_local(watch_end(transport.clone(), tell_end.clone()));
    spawn_local(carry_out(transport, to_do, tell_end, counts.clone()));
    spawn_local(take_streams(incoming, streams_in, counts.clone()));
    spawn_local(take_datagrams(datagrams_in, arrived, counts.clone()));
    spawn_local(give_datagrams(datagrams, datagrams_out, outgoing.clone(), ended.clone()));
    Ok(Connection::new(Arc::new(Shared {
        orders,
        ended,
        streams: Mutex::new(streams),
        datagrams: Mutex::new(arrivals),
        outgoing,
        counts,
        known,
    })))
}

type TellEnd = Arc<watch::Sender<Option<Ended>>>;

/// The first word on how it ended is the one that counts.
fn tell(end: &TellEnd, how: Ended) {
    end.send_if_modified(|ended| ended.is_none() && ended.replace(how).is_none());
}

async fn watch_end(transport: Rc<WebTransport>, end: TellEnd) {
    let how = match wait(transport.closed()).await {
        Ok(info) => Ended::Closed {
            code: CloseCode(get(&info, "closeCode").as_f64().unwrap_or_default() as u64),
            reason: get(&info, "reason").as_string().unwrap_or_default().into(),
        },
        Err(said) => Ended::Failed(ConnectionFailure::passing(said)),
    };
    tell(&end, how);
}

/// Does what the connection's holders want, until there are none.
async fn carry_out(
    transport: Rc<WebTransport>,
    mut to_do: mpsc::UnboundedReceiver<Order>,
    end: TellEnd,
    counts: Arc<Counts>,
) {
    loop {
        let order = tokio::select! {
            order = to_do.recv() => order.unwrap_or(Order::Close(CloseCode::BYE)),
            // Whoever waits for a stream sees that it was dropped.
            () = over(end.subscribe()) => return,
        };
        match order {
            Order::OpenUni(priority, tell) => spawn_local(open_uni(transport.clone(), priority, tell, counts.clone())),
            Order::OpenBi(priority, tell) => spawn_local(open_bi(transport.clone(), priority, tell, counts.clone())),
            Order::Close(code) => {
                tell(&end, Ended::Failed(ConnectionFailure::passing(Said::new("we have ended the session"))));
                return close(&transport, code);
            }
        }
    }
}

async fn over(mut ended: watch::Receiver<Option<Ended>>) {
    // Without anybody to tell it is over as well.
    let _ = ended.wait_for(Option::is_some).await;
}

fn stream_options(priority: i32) -> js_sys::Object {
    object(&[("sendOrder", priority.into()), ("waitUntilAvailable", JsValue::TRUE)])
}

async fn open_uni(transport: Rc<WebTransport>, priority: i32, tell: oneshot::Sender<SendStream>, counts: Arc<Counts>) {
    let Ok(opened) = transport.create_uni(&stream_options(priority)) else { return };
    // Without one, whoever waits sees that the session is over.
    let Ok(stream) = wait(opened).await else { return };
    if let Ok(send) = send_stream(stream.unchecked_ref(), counts) {
        let _ = tell.send(send); // nobody may wait any more
    }
}

async fn open_bi(
    transport: Rc<WebTransport>,
    priority: i32,
    tell: oneshot::Sender<(SendStream, RecvStream)>,
    counts: Arc<Counts>,
) {
    let Ok(opened) = transport.create_bi(&stream_options(priority)) else { return };
    let Ok(stream) = wait(opened).await else { return };
    let stream: Bidirectional = stream.unchecked_into();
    let recv = stream.readable().reader().map(|reader| recv_stream(reader, counts.clone()));
    if let (Ok(send), Ok(recv)) = (send_stream(&stream.writable(), counts), recv) {
        let _ = tell.send((send, recv)); // nobody may wait any more
    }
}

async fn take_streams(incoming: Reader, streams: mpsc::Sender<RecvStream>, counts: Arc<Counts>) {
    while let Ok(Some(stream)) = incoming.next().await {
        counts.heard.fetch_add(1, Relaxed);
        let Ok(reader) = stream.unchecked_ref::<js::Readable>().reader() else { continue };
        if streams.send(recv_stream(reader, counts.clone())).await.is_err() {
            return;
        }
    }
}

async fn take_datagrams(incoming: Reader, arrived: mpsc::Sender<Bytes>, counts: Arc<Counts>) {
    while let Ok(Some(datagram)) = incoming.next().await {
        counts.heard.fetch_add(1, Relaxed);
        // What nobody reads in time is lost, as on the way.
        let sent = arrived.try_send(datagram.unchecked_ref::<Uint8Array>().to_vec().into());
        if matches!(sent, Err(mpsc::error::TrySendError::Closed(_))) {
            return;
        }
    }
}

async fn give_datagrams(
    datagrams: Datagrams,
    writer: Writer,
    outgoing: Arc<Outgoing>,
    ended: watch::Receiver<Option<Ended>>,
) {
    js::ignore(&writer.closed());
    let size = || outgoing.bytes_max.store(datagrams.bytes_max() as usize, Relaxed);
    let giving = async {
        loop {
            outgoing.some().await;
            if wait(writer.ready()).await.is_err() {
                return;
            }
            size();
            if let Some(datagram) = outgoing.next() {
                writer.push(&datagram);
            }
        }
    };
    let sizing = async {
        for after in SIZE_AFTER {
            sleep(after).await;
            size();
        }
        std::future::pending().await
    };
    tokio::select! {
        () = giving => {}
        () = sizing => {}
        () = over(ended) => {}
    }
}

fn send_stream(writable: &Writable, counts: Arc<Counts>) -> Result<SendStream, Said> {
    let writer = writable.writer()?;
    let (chunks, to_write) = mpsc::channel(CHUNKS_MAX);
    let (reset, is_reset) = watch::channel(None);
    let (done, over) = watch::channel(false);
    spawn_local(async move {
        write_stream(&writer, to_write, is_reset, counts).await;
        done.send_replace(true);
    });
    Ok(SendStream { chunks: Some(chunks), reset, over })
}

async fn write_stream(
    writer: &Writer,
    mut chunks: mpsc::Receiver<Bytes>,
    reset: watch::Receiver<Option<StreamCode>>,
    counts: Arc<Counts>,
) {
    js::ignore(&writer.closed());
    let writing = async {
        while let Some(first) = chunks.recv().await {
            // A header and what comes behind it go as one.
            let bytes = match chunks.try_recv() {
                Ok(second) => {
                    let mut both = BytesMut::with_capacity(first.len() + second.len());
                    both.extend_from_slice(&first);
                    both.extend_from_slice(&second);
                    both.freeze()
                }
                Err(_) => first,
            };
            counts.asked.fetch_add(1, Relaxed);
            if writer.take(&bytes).await.is_err() {
                return;
            }
        }
        // Rejected, it was stopped: there is nothing more to do either way.
        let _ = wait(writer.close()).await;
    };
    tokio::select! {
        biased;
        code = told(reset.clone()) => writer.reset(code.0),
        () = writing => {}
    }
}

/// Waits until a code is told. A holder that is gone tells none.
async fn told(mut code: watch::Receiver<Option<StreamCode>>) -> StreamCode {
    match code.wait_for(Option::is_some).await.ok().and_then(|code| *code) {
        Some(code) => code,
        None => std::future::pending().await,
    }
}

fn recv_stream(reader: Reader, counts: Arc<Counts>) -> RecvStream {
    let (come, chunks) = mpsc::channel(CHUNKS_MAX);
    let (stop, is_stopped) = watch::channel(None);
    spawn_local(read_stream(reader, come, is_stopped, counts));
    RecvStream::new(chunks, stop)
}

async fn read_stream(
    reader: Reader,
    come: mpsc::Sender<Chunk>,
    stop: watch::Receiver<Option<StreamCode>>,
    counts: Arc<Counts>,
) {
    let reading = async {
        loop {
            match reader.next().await {
                Ok(Some(chunk)) => {
                    counts.heard.fetch_add(1, Relaxed);
                    let bytes = chunk.unchecked_ref::<Uint8Array>().to_vec();
                    if come.send(Chunk::Bytes(bytes.into())).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return drop(come.send(Chunk::Finished).await),
                // Whoever reads sees that nothing more comes.
                Err(_) => return,
            }
        }
    };
    let dropped = come.closed();
    tokio::select! {
        biased;
        code = told(stop) => reader.stop(code.0),
        () = reading => {}
        () = dropped => reader.stop(StreamCode::CANCELLED.0),
    }
}
