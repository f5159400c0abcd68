//! One QUIC connection of a client, with its control stream.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Dir, SendDatagramError, StreamId, VarInt, WriteError};
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, FrameReader, RelayMessage, frame},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
};

/// The connection and what waits for it.
pub(super) struct Link {
    pub(super) quic: Connection,
    pub(super) handle: ConnectionHandle,
    /// Whose it is, by the place in its worker.
    pub(super) client: usize,
    /// The UDP socket it uses.
    pub(super) socket: usize,
    /// On the worker's list of links to serve.
    pub(super) dirty: bool,
    /// The entry of the worker's heap of deadlines that counts.
    pub(super) armed: Option<Instant>,
    /// When its last packet was read from the socket.
    pub(super) read_at: Instant,
    /// When the objects were due that QUIC has taken since it had none to send.
    pub(super) waiting: Vec<u64>,
    /// QUIC's room for datagrams when it has none to send.
    datagram_room: usize,
    control: Option<StreamId>,
    reader: FrameReader,
    control_out: VecDeque<Bytes>,
}

impl Link {
    pub(super) fn new(
        mut quic: Connection,
        handle: ConnectionHandle,
        client: usize,
        socket: usize,
        now: Instant,
    ) -> Self {
        let datagram_room = quic.datagrams().send_buffer_space();
        Self {
            quic,
            handle,
            client,
            socket,
            dirty: false,
            armed: None,
            read_at: now,
            waiting: Vec::new(),
            datagram_room,
            control: None,
            reader: FrameReader::default(),
            control_out: VecDeque::new(),
        }
    }

    /// Opens the control stream, once the handshake is done.
    pub(super) fn open_control(&mut self) {
        self.control = self.quic.streams().open(Dir::Bi);
        if let Some(id) = self.control {
            // Before all media, as the relay does.
            let _ = self.quic.send_stream(id).set_priority(i32::MAX);
        }
    }

    /// What binds signatures to this connection.
    pub(super) fn exporter(&self) -> Option<[u8; EXPORTER_BYTES]> {
        let mut exporter = [0; EXPORTER_BYTES];
        self.quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).ok()?;
        Some(exporter)
    }

    /// Queues a request.
    pub(super) fn send(&mut self, request: &ClientMessage) {
        self.control_out.push_back(frame(request));
    }

    /// Writes as much of the waiting requests as the connection takes.
    pub(super) fn flush_control(&mut self) {
        let Some(id) = self.control else { return };
        let mut stream = self.quic.send_stream(id);
        while let Some(front) = self.control_out.front_mut() {
            match stream.write_chunks(std::slice::from_mut(front)) {
                Ok(_) if front.is_empty() => {
                    self.control_out.pop_front();
                }
                Ok(_) => {}
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
    }

    /// Whether a stream is the control stream.
    pub(super) fn is_control(&self, id: StreamId) -> bool {
        self.control == Some(id)
    }

    /// The messages that have come.
    pub(super) fn read_control(&mut self) -> Vec<RelayMessage> {
        let mut messages = Vec::new();
        let Some(id) = self.control else { return messages };
        let mut stream = self.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return messages };
        // The end of the stream is the end of the connection, which says why.
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            self.reader.push(&chunk.bytes);
        }
        let _ = chunks.finalize();
        while let Ok(Some(message)) = self.reader.next_message() {
            messages.push(message);
        }
        messages
    }

    /// Hands QUIC an object for a datagram; `false` if it does not take it.
    pub(super) fn send_datagram(&mut self, wire: Bytes) -> bool {
        match self.quic.datagrams().send(wire, false) {
            Ok(()) => true,
            Err(
                SendDatagramError::Blocked(_)
                | SendDatagramError::TooLarge
                | SendDatagramError::Disabled
                | SendDatagramError::UnsupportedByPeer,
            ) => false,
        }
    }

    /// Whether QUIC has sent every object that it took: neither its congestion window nor its pacing holds one back.
    pub(super) fn has_sent_all(&mut self) -> bool {
        self.quic.datagrams().send_buffer_space() >= self.datagram_room
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        self.quic.close(now, VarInt::from_u32(CloseCode::BYE.0 as u32), Bytes::new());
    }
}
