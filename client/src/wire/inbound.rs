//! Media from the relay: datagrams and streams, each led to the track that its alias names.

use std::sync::Arc;

use bytes::Bytes;
use supernode_proto::{
    close::StreamCode,
    object::{DatagramHeader, DecodeError, StreamObjectHeader, TrackAlias, Visible},
};
use supernode_session::StreamReader;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    runtime::spawn,
    sync::lock,
    tracks::track::{Arrival, RemoteTrack},
    wire::{bearer::RecvStream, ended::Cut, link::Link},
};

/// Reads datagrams until the connection ends.
pub(crate) async fn read_datagrams(link: Arc<Link>) {
    while let Ok(datagram) = link.connection.read_datagram().await {
        #[cfg(feature = "lying")]
        if let Some(liar) = &link.liar {
            liar.objects(datagram).iter().for_each(|datagram| handle_datagram(&link, datagram));
            continue;
        }
        handle_datagram(&link, &datagram);
    }
}

/// Accepts media streams until the connection ends. The transport bounds how many are open at once.
pub(crate) async fn read_streams(link: Arc<Link>) {
    while let Ok(stream) = link.connection.accept_uni().await {
        spawn(read_stream(link.clone(), stream));
    }
}

fn handle_datagram(link: &Link, datagram: &Bytes) {
    let Ok((header, length)) = DatagramHeader::decode(datagram) else {
        // The relay sends empty ones, to push others out of QUIC's buffer.
        tracing::trace!(bytes = datagram.len(), "a datagram that is no object");
        return;
    };
    // After an unsubscribe some are still under way.
    if let Some(track) = track(link, header.hop.alias) {
        track.handle_object(header.visible, datagram.slice(length..), datagram.len());
    }
}

async fn read_stream(link: Arc<Link>, mut stream: RecvStream) {
    let mut reader = StreamReader::default();
    let header = match next(&mut stream, &mut reader, StreamReader::header).await {
        Ok(Some(header)) => header,
        Ok(None) => return,
        Err(end) => return end.stop(&mut stream),
    };
    let Some(track) = track(&link, header.hop.alias) else {
        return End::Unknown.stop(&mut stream);
    };
    let group = header.group;
    track.notify(Arrival::StreamBegan { group });
    let end = read_objects(&link.unfinished, &track, group, &mut stream, &mut reader).await;
    track.notify(Arrival::StreamEnded { group, whole: end.is_ok() });
    if let Err(end) = end {
        end.stop(&mut stream);
    }
}

async fn read_objects(
    unfinished: &Unfinished,
    track: &Arc<RemoteTrack>,
    group: u64,
    stream: &mut RecvStream,
    reader: &mut StreamReader,
) -> Result<(), End> {
    loop {
        // Data is not dropped for a reader who is slow: the relay is.
        track.wait_for_reader().await;
        let Some(header) = next(stream, reader, StreamReader::object).await? else { return Ok(()) };
        let StreamObjectHeader { object, flags, layer, length } = header;
        let _room = unfinished.room(length).await;
        let sealed = next(stream, reader, |reader| Ok(reader.take_sealed())).await?.ok_or(End::Malformed)?;
        track.handle_object(Visible { group, object, flags, layer }, sealed, length as usize);
    }
}

/// Reads until the next part of the stream is there; `None` when the stream ended before it.
async fn next<T>(
    stream: &mut RecvStream,
    reader: &mut StreamReader,
    part: impl Fn(&mut StreamReader) -> Result<Option<T>, DecodeError>,
) -> Result<Option<T>, End> {
    loop {
        if let Some(part) = part(reader).map_err(|_| End::Malformed)? {
            return Ok(Some(part));
        }
        match stream.read(READ_BYTES).await {
            Ok(Some(bytes)) => reader.push(&bytes),
            Ok(None) if reader.is_between() => return Ok(None),
            Ok(None) => return Err(End::Malformed),
            Err(Cut) => return Err(End::Cut),
        }
    }
}

const READ_BYTES: usize = 64 * 1024;

/// Bytes of large objects that may be under way on a connection, on all its streams together: several key frames of the
/// largest size. A relay could begin one on every stream and end none.
const UNFINISHED_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Room for objects that are not whole yet; those that fit one read need none.
pub(crate) struct Unfinished(Semaphore);

impl Default for Unfinished {
    fn default() -> Self {
        Self(Semaphore::new(UNFINISHED_BYTES_MAX))
    }
}

impl Unfinished {
    /// Waits for room for an object; QUIC holds back what is not read. The object has it until the permit is dropped.
    async fn room(&self, bytes: u32) -> Option<SemaphorePermit<'_>> {
        if bytes as usize <= READ_BYTES {
            return None;
        }
        // It is never closed.
        self.0.acquire_many(bytes).await.ok()
    }
}

fn track(link: &Link, alias: TrackAlias) -> Option<Arc<RemoteTrack>> {
    lock(&link.tracks).get(&alias).cloned()
}

/// Why a stream was not read to its last byte.
enum End {
    /// The relay reset it, or the connection is gone.
    Cut,
    Malformed,
    Unknown,
}

impl End {
    fn stop(self, stream: &mut RecvStream) {
        let code = match self {
            Self::Cut => return,
            Self::Malformed => StreamCode::MALFORMED,
            Self::Unknown => StreamCode::UNSUBSCRIBED,
        };
        stream.stop(code);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supernode_proto::limits;

    use super::*;

    #[tokio::test]
    async fn large_objects_that_never_end_hold_no_more_than_their_share_and_small_ones_pass() {
        let unfinished = Unfinished::default();
        let mut begun = Vec::new();
        let soon = |bytes| tokio::time::timeout(Duration::from_millis(20), unfinished.room(bytes));
        while let Ok(room) = soon(limits::OBJECT_BYTES_MAX).await {
            begun.push(room.expect("a large one needs room"));
        }
        assert_eq!(begun.len() * limits::OBJECT_BYTES_MAX as usize, UNFINISHED_BYTES_MAX);
        assert!(soon(READ_BYTES as u32).await.expect("at once").is_none());
        begun.pop();
        assert!(soon(limits::OBJECT_BYTES_MAX).await.expect("one has ended").is_some());
    }
}
