//! Streams, as channels to the tasks that have the browser's.

use bytes::Bytes;
use supernode_proto::close::StreamCode;
use tokio::sync::{mpsc, watch};

use crate::wire::ended::Cut;

/// What we send on a stream. Dropped, it is finished.
pub(crate) struct SendStream {
    /// `None` once nothing comes any more.
    pub(super) chunks: Option<mpsc::Sender<Bytes>>,
    pub(super) reset: watch::Sender<Option<StreamCode>>,
    /// Whether the browser is done with it.
    pub(super) over: watch::Receiver<bool>,
}

impl SendStream {
    /// Waits until all of it is on its way.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Cut> {
        let chunks = self.chunks.as_ref().ok_or(Cut)?;
        chunks.send(bytes).await.map_err(|_| Cut)
    }

    /// The same, of bytes that stay whose they are.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.write(Bytes::copy_from_slice(bytes)).await
    }

    /// Nothing comes behind this.
    pub(crate) fn finish(&mut self) {
        self.chunks = None;
    }

    /// What is still to be sent is not worth it.
    pub(crate) fn reset(&mut self, code: StreamCode) {
        self.reset.send_replace(Some(code));
        self.chunks = None;
    }

    /// Waits until the relay has all of it, or wants no more.
    pub(crate) async fn delivered(&mut self) {
        // A task that is gone says nothing more.
        let _ = self.over.wait_for(|over| *over).await;
    }
}

/// What the relay sends on a stream. Dropped, it is stopped.
pub(crate) struct RecvStream {
    /// Ends without a word when the stream is cut.
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) stop: watch::Sender<Option<StreamCode>>,
    /// Of a chunk that was larger than what was asked for.
    rest: Bytes,
    is_finished: bool,
}

/// What came of a stream.
pub(super) enum Chunk {
    Bytes(Bytes),
    Finished,
}

impl RecvStream {
    pub(super) fn new(chunks: mpsc::Receiver<Chunk>, stop: watch::Sender<Option<StreamCode>>) -> Self {
        Self { chunks, stop, rest: Bytes::new(), is_finished: false }
    }

    /// The next bytes, at most so many; `None` behind the last. Cancel safe.
    pub(crate) async fn read(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Cut> {
        while self.rest.is_empty() {
            if self.is_finished {
                return Ok(None);
            }
            match self.chunks.recv().await {
                Some(Chunk::Bytes(bytes)) => self.rest = bytes,
                Some(Chunk::Finished) => self.is_finished = true,
                None => return Err(Cut),
            }
        }
        Ok(Some(self.rest.split_to(bytes_max.min(self.rest.len()))))
    }

    /// We read no more of it.
    pub(crate) fn stop(&mut self, code: StreamCode) {
        self.stop.send_replace(Some(code));
    }
}
